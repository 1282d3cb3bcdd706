"""Comparing simulated noise with a scanner's: spectrum, correlation with the NDCT, anisotropy, mean HU, dose law."""

import numpy as np
import pandas as pd

from ldct_utils.ct import fbp, nps
from ldct_utils.ct.dose import photons, scan

# Radial noise power spectra of clinical images, divided by their mean over the frequencies that have a number.
# B30: quarter - full, 2016 AAPM-Mayo challenge, L506, slice 87, 1 mm B30f, 94 flat regions of 32 x 32 pixels.
# D45: no pair of this kernel was at hand; neighbouring full-dose slices subtracted, L096, 3 mm D45f, 31 flat regions.
#      Anatomy that changes between slices remains under .2 lp/mm, so nothing is stated there.
REFERENCE = {
    "B30": (1.183, 1.839, 1.925, 1.726, 1.580, 1.443, 0.942, 0.605, 0.389, 0.199, 0.112, 0.056),
    "D45": (np.nan, np.nan, 0.683, 0.825, 0.789, 0.933, 0.954, 1.018, 1.125, 1.138, 1.319, 1.216),
}
# High-pass noise power along x over that along y for the B30 pair: lateral rays pass through more tissue.
L506_AXIS_RATIO = 0.65


def shape_error(spectrum_2d, pixel_mm: float, kernel: str) -> float:
    """RMS difference between the shapes of a spectrum and of a kernel's clinical one, relative to the latter's RMS."""
    return curve_error(nps.radial(spectrum_2d, pixel_mm), kernel)


def curve_error(curve, kernel: str) -> float:
    """``shape_error`` of a radial spectrum at ``nps.FREQUENCIES``, for means over slices of different pixel sizes."""
    if kernel not in REFERENCE:
        raise ValueError(f"no clinical noise spectrum for kernel {kernel!r}; known: {', '.join(REFERENCE)}")
    wanted, curve = np.asarray(REFERENCE[kernel]), np.asarray(curve)
    known = np.isfinite(wanted)
    wanted, curve = (one[known] / one[known].mean() for one in (wanted, curve))
    return float(np.sqrt(np.mean((curve - wanted) ** 2) / np.mean(wanted**2)))


def correlation(ldct, ndct, tissue_hu=None, soft_tissue=nps.SOFT_TISSUE) -> float:
    """Correlation of (LDCT - NDCT) with NDCT in flat soft tissue, both high-passed.

    0 where noise was inserted into the NDCT; about -.45 where a quarter dose was simulated independently of it.
    All arguments (H, W), HU; ``tissue_hu`` says where flat tissue is, the NDCT by default.
    """
    tissue = ndct if tissue_hu is None else tissue_hu
    size, cells = 16, []
    for y, x in nps.flat_regions(tissue, size, 8, soft_tissue, most=100):
        cells.append((slice(y, y + size), slice(x, x + size)))
    if not cells:
        raise ValueError("no flat soft tissue to correlate the noise in: take another slice")
    difference, normal = nps.high_pass(np.subtract(ldct, ndct)), nps.high_pass(ndct)
    return float(
        np.corrcoef(*(np.concatenate([x[cell].ravel() for cell in cells]) for x in (difference, normal)))[0, 1]
    )


def axis_power(spectrum_2d, pixel_mm: float, above: float = 0.25) -> tuple[float, float]:
    """High-pass noise power along the body's two axes, HU^2 mm^2: of waves along x, and of waves along y (row number).

    Means over frequencies above ``above`` lp/mm within one and a half cells of the axis."""
    high = np.abs(np.fft.fftfreq(len(spectrum_2d), pixel_mm)) > above
    near = [0, 1, -1]
    return float(spectrum_2d[near][:, high].mean()), float(spectrum_2d[high][:, near].mean())


def water_phantom(size: int = 320, pixel_mm: float = 0.75):
    """Water cylinder of 200 mm with inserts of fat and gas, HU (size, size), and masks well inside each material."""
    axis = (np.arange(size) - (size - 1) / 2) * pixel_mm
    y, x = axis[:, None], axis[None]
    image = np.full((size, size), -1000.0, np.float32)
    masks = {}
    for name, hu, centre, radius in (
        ("water", 0.0, (0, 0), 100.0), ("fat", -100.0, (0, -55), 20.0), ("air", -1000.0, (0, 55), 20.0),
    ):  # fmt: skip
        distance = np.hypot(y - centre[0], x - centre[1]) - radius
        image += np.clip(0.5 - distance / pixel_mm, 0, 1) * (hu - image)
        masks[name] = distance < (-80 if name == "water" else -8)
    return image, masks


def mean_hu(kernel: str = "B30", dose: float = 0.25, seed: int = 0, draws: int = 4) -> pd.DataFrame:
    """Mean HU of water, fat and air in the noise-free reconstruction, and the bias from the logarithm of noisy data.

    Returns: a row a material: expected_hu, noise_free_hu, error_hu, ndct_log_bias_hu (mean NDCT - noise-free).
    """
    image, masks = water_phantom()
    scans = [scan(image[None], 0.75, dose, kernel, [seed, draw]) for draw in range(draws)]
    rows = []
    for (name, mask), expected in zip(masks.items(), (0.0, -100.0, -1000.0)):
        free = float(scans[0].noise_free[0][mask].mean(dtype=np.float64))
        bias = float(np.mean([(one.ndct - one.noise_free)[0][mask].mean(dtype=np.float64) for one in scans]))
        rows.append(dict(material=name, expected_hu=expected, noise_free_hu=free, error_hu=free - expected,
                         ndct_log_bias_hu=bias))  # fmt: skip
    return pd.DataFrame(rows)


def dose_law(dose_levels=(0.1, 0.25, 0.5), sigma_e: float = 0.0, kernel: str = "B30", n0: float = 2e4, draws: int = 4,
             seed: int = 0, views: int = 360) -> pd.DataFrame:  # fmt: skip
    """Noise variance in the middle of a water cylinder against that expected of quantum and electronic noise.

    Expected is <1/(aN) + sigma_e^2/(aN)^2> / <1/N + sigma_e^2/N^2>, means over the rays through the cylinder's middle,
    N their photons; without electronic noise that is 1/a.

    Returns: a row a dose: dose, variance_ratio (LDCT over NDCT), expected_ratio, error (relative).
    """
    image, masks = water_phantom(288)
    lines = fbp.project(fbp.to_mu(image), 0.75, views)
    middle = slice(lines.shape[1] // 2 - 15, lines.shape[1] // 2 + 15)
    expected = photons(lines, n0, aec=0)[:, middle]
    crop, mask = (94, 94, 100, 100), masks["water"][94:194, 94:194]
    rows = []
    for dose in dose_levels:
        variances = np.zeros(2)
        for draw in range(draws):
            one = scan(image[None], 0.75, dose, kernel, [seed, draw], n0, sigma_e, crop=crop, views=views, aec=0)
            variances += [np.var((x - one.noise_free)[0][mask], dtype=np.float64) for x in (one.ldct, one.ndct)]
        low, normal = (np.mean(1 / (b * expected) + (sigma_e / (b * expected)) ** 2) for b in (dose, 1.0))
        wanted = low / normal
        ratio = variances[0] / variances[1]
        rows.append(dict(dose=dose, variance_ratio=ratio, expected_ratio=wanted, error=ratio / wanted - 1))
    return pd.DataFrame(rows)
