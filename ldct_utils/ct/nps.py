"""Noise power spectra and noise levels of CT images.

Frequencies are in lp/mm (1/mm), spectra in HU^2 mm^2. Spectra are taken of difference images, in which the anatomy
cancels, and where the slice shows flat soft tissue, so that the noise is stationary.
"""

import numpy as np
from scipy import ndimage

FREQUENCIES = np.arange(0.1, 0.66, 0.05)  # lp/mm, centres of bins .05 wide
SOFT_TISSUE = (0.0, 160.0)  # HU: where noise is read


def hann_window(size: int) -> np.ndarray:
    """Periodic Hann window (size, size), in [0, 1]; its first row and column are 0."""
    return np.outer(np.hanning(size + 1)[:size], np.hanning(size + 1)[:size])


def power_spectrum(regions, pixel_mm: float, taper: bool = False) -> np.ndarray:
    """2-D noise power spectrum, mean over regions.

    Args:
        regions: (N, n, n), HU; each region's mean is removed.
        taper: weight with a Hann window (its power is divided out), against spectral leakage from residual anatomy.
    Returns: (n, n), HU^2 mm^2, zero frequency first. Its sum over the frequency cells is the variance (Parseval); white
        noise of SD s has s^2 d^2 at every frequency but zero, and 0 there, since a region's mean is removed.
    Source: AAPM TG-233; NPS(u,v) = d^2/n^2 <|DFT(ROI - mean)|^2>.
    """
    regions = np.asarray(regions, np.float64)
    if regions.ndim != 3 or regions.shape[1] != regions.shape[2]:
        raise ValueError(f"a noise power spectrum needs square regions (N, n, n), got shape {regions.shape}")
    n = regions.shape[1]
    weight = hann_window(n) if taper else np.ones((n, n))
    regions = regions - np.average(regions, axis=(1, 2), weights=np.broadcast_to(weight, regions.shape))[:, None, None]
    return np.mean(np.abs(np.fft.fft2(regions * weight)) ** 2, axis=0) * pixel_mm**2 / np.sum(weight**2)


def radial(spectrum_2d, pixel_mm: float, frequencies=FREQUENCIES, width: float = 0.05) -> np.ndarray:
    """Mean of a 2-D spectrum over rings of the given ``width`` around ``frequencies``, lp/mm."""
    f = np.fft.fftfreq(len(spectrum_2d), pixel_mm)
    radius = np.hypot(f[:, None], f[None])
    rings = [(radius >= one - width / 2) & (radius < one + width / 2) for one in frequencies]
    return np.array([spectrum_2d[ring].mean() if ring.any() else np.nan for ring in rings])


def flat_regions(tissue_hu, size: int = 32, step: int = 8, soft_tissue=SOFT_TISSUE, most: int = 200):
    """Corners (row, column) of the flattest square regions of soft tissue in a slice, flattest first."""
    smooth = ndimage.gaussian_filter(np.asarray(tissue_hu, np.float32), 2.5)
    height, width = smooth.shape
    corners = []
    for y in range(0, height - size + 1, step):
        for x in range(0, width - size + 1, step):
            part = smooth[y : y + size, x : x + size]
            if part.min() > soft_tissue[0] and part.max() < soft_tissue[1]:
                corners.append((float(part.std()), y, x))
    return [(y, x) for _, y, x in sorted(corners)[:most]]


def spectrum(differences, tissue_hu, pixel_mm: float, size: int = 32) -> np.ndarray:
    """2-D noise power spectrum of difference images in the flat soft tissue of their slices.

    Args:
        differences: (S, H, W), noise alone, HU. tissue_hu: (S, H, W), where flat tissue is looked for.
    Raises: ValueError: where no slice has a flat region.
    """
    regions = [
        difference[y : y + size, x : x + size]
        for difference, tissue in zip(differences, tissue_hu)
        for y, x in flat_regions(tissue, size)
    ]
    if not regions:
        raise ValueError(f"no flat soft tissue of {size} x {size} pixels in any slice of {len(tissue_hu)}")
    return power_spectrum(np.stack(regions), pixel_mm, taper=True)


def flat_noise(image_hu, tissue_hu, size: int = 32, most: int = 40) -> float:
    """Noise SD over all frequencies in the flattest soft tissue of a slice, HU: the median over square regions of the
    SD about a plane. NaN where no region is flat.

    Args: image_hu: (H, W), whose noise is measured. tissue_hu: (H, W), the slice that says where soft tissue is.
    """
    rows, columns = np.mgrid[:size, :size]
    plane = np.stack([np.ones(size * size), rows.ravel(), columns.ravel()], axis=1)
    corners = flat_regions(tissue_hu, size, most=most)
    if not corners:
        return float("nan")
    parts = np.stack([np.asarray(image_hu[y : y + size, x : x + size], float).ravel() for y, x in corners], axis=1)
    return float(np.median((parts - plane @ np.linalg.lstsq(plane, parts, rcond=None)[0]).std(axis=0)))


def shaping_filter(own, wanted) -> np.ndarray:
    """Filter (n, n), its middle at n // 2, that gives noise of the spectrum ``own`` the shape of ``wanted``.

    Args: own, wanted: (n, n), zero frequency first. Where ``own`` has less than 1e-4 of its largest power, it counts as
        that much: there is next to nothing to shape.
    """
    transfer = np.sqrt(wanted / np.maximum(own, own.max() * 1e-4))
    return np.fft.fftshift(np.fft.ifft2(transfer).real) * hann_window(len(own))


def high_pass(image_hu) -> np.ndarray:
    """Image minus its Gaussian blur (sigma 1.5 pixels): noise, and edges."""
    image_hu = np.asarray(image_hu, np.float32)
    return image_hu - ndimage.gaussian_filter(image_hu, (0,) * (image_hu.ndim - 2) + (1.5, 1.5))


def tissue_noise(image_hu, tissue_hu, soft_tissue=SOFT_TISSUE) -> float:
    """High-pass noise SD of a slice in soft tissue, HU, robust against edges.

    The image is high-passed and divided into blocks of 8 x 8 pixels. Of the blocks in soft tissue the flatter half is
    kept; the result is the median of their robust SDs (1.4826 times the median absolute deviation).

    Args:
        image_hu: (H, W), whose noise is measured. tissue_hu: (H, W), the slice that says where soft tissue is.
    Raises: ValueError: with under 20 blocks of soft tissue.
    """
    smooth = ndimage.gaussian_filter(np.asarray(tissue_hu, np.float32), 2.5)
    inside = ndimage.binary_erosion((smooth > soft_tissue[0]) & (smooth < soft_tissue[1]), iterations=3)
    height, width = (side // 8 * 8 for side in inside.shape)

    def blocks(x):
        return x[:height, :width].reshape(height // 8, 8, width // 8, 8).swapaxes(1, 2).reshape(-1, 64)

    full = blocks(inside).all(axis=1)
    if full.sum() < 20:
        raise ValueError(f"blocks of soft tissue in the slice: {full.sum()}, too few to read its noise level")
    edges = blocks(smooth)[full].std(axis=1)
    values = blocks(high_pass(image_hu))[full][edges <= np.median(edges)]
    spread = np.median(np.abs(values - np.median(values, axis=1, keepdims=True)), axis=1)
    return float(1.4826 * np.median(spread))
