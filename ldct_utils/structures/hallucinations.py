"""Structures that a denoiser removed or invented: a test for every segment, with noise as the explanation to beat.

The change that a network makes, prediction - LDCT, is mostly the noise it is meant to take away. Where it took a
structure with it, or added one, the change has contrast: the mean inside a segment differs from that of a ring around
it. How much contrast noise alone gives depends on how the noise is correlated, hence on its power spectrum. That still
underrates it where segments come from an image that shares noise with the LDCT, as the NDCT does: they follow it. So
p-values are taken from a null (``null``): the same numbers from lesion-free slices through the whole pipeline.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import fft, ndimage

from ldct_utils.cohorts import inserted, simulated
from ldct_utils.ct import dose, intensity
from ldct_utils.ct import nps as spectra
from ldct_utils.segments.labels import members
from ldct_utils.structures import froc
from ldct_utils.task_based import ensembles

ERODE, GAP, RING = 1, 1, 4  # pixels: taken off a segment, left between it and its ring, the ring's width
FEWEST = 9  # pixels that erosion must leave; otherwise the segment is taken whole
LOCAL = 12.0  # pixels: SD of the Gaussian over which the local noise level is averaged


def contrast_weights(mask, body=None, erode: int = ERODE, gap: int = GAP, ring: int = RING):
    """The weights (H, W) of signed mean contrast: 1/n on the eroded mask, -1/m on the ring, 0 elsewhere.

    Args: mask: boolean (H, W). body: where the ring may lie, everywhere by default. erode, gap, ring: pixels.
    Returns: the weights, or None where no ring is left.
    """
    mask = np.asarray(mask, bool)
    inner = ndimage.binary_erosion(mask, iterations=erode) if erode else mask
    inner = inner if inner.sum() >= FEWEST else mask
    away = ndimage.distance_transform_edt(~mask)
    around = (away > gap) & (away <= gap + ring)
    if body is not None:
        around &= body
    if not inner.any() or not around.any():
        return None
    return inner / inner.sum() - around / around.sum()


def covariance(nps, pixel_mm: float) -> np.ndarray:
    """Noise covariance (n-1, n-1) for lags of up to n/2 - 1 pixels, lag 0 in the middle, HU^2.

    Args: nps: (n, n), HU^2 mm^2, zero frequency first, as ``nps.power_spectrum`` gives it; n even.
    """
    nps = np.asarray(nps, np.float64)
    if nps.ndim != 2 or nps.shape[0] != nps.shape[1] or len(nps) % 2 or not pixel_mm > 0:
        raise ValueError(f"a spectrum is (n, n) with n even and pixels have a size; got {nps.shape} and {pixel_mm} mm")
    return np.fft.fftshift(np.fft.ifft2(nps).real)[1:, 1:] / pixel_mm**2


def autocorrelation(weights, reach: int) -> np.ndarray:
    """Sums of weights times themselves shifted by up to ``reach`` pixels, (2 reach + 1, 2 reach + 1), lag 0 in the
    middle."""
    size = [fft.next_fast_len(max(n + reach, 2 * reach + 1), real=True) for n in weights.shape]
    power = np.abs(fft.rfft2(weights, size)) ** 2
    lags = np.arange(-reach, reach + 1)
    return fft.irfft2(power, size)[np.ix_(lags, lags)]


def functional_sd(weights, covariance) -> float:
    """Standard deviation of sum(weights * noise) for stationary noise of a covariance, HU.

    It is the root of the integral of |W(f)|^2 NPS(f), W being the transform of the weights, taken here over lags.
    """
    return _sd(autocorrelation(np.asarray(weights), len(covariance) // 2), covariance)


def _sd(lags, covariance):
    return float(np.sqrt(max(0.0, (lags * covariance).sum())))


def local_level(difference, covariance, body=None, sigma: float = LOCAL) -> np.ndarray:
    """Local noise SD of a difference image over that of the covariance, (H, W): 1 where they are alike.

    Noise is not stationary in a body. The difference is high-passed first, so that a lost structure does not count as
    noise, and what a high-pass leaves of the covariance's own noise is known.
    """
    unit = np.zeros((15, 15), np.float32)
    unit[7, 7] = 1
    kept = functional_sd(spectra.high_pass(unit), covariance)
    body = np.ones(np.shape(difference), bool) if body is None else np.asarray(body, bool)
    power = np.where(body, spectra.high_pass(difference).astype(np.float64) ** 2, 0)
    weight = ndimage.gaussian_filter(body.astype(np.float64), sigma)
    return np.sqrt(ndimage.gaussian_filter(power, sigma) / np.maximum(weight, 1e-6)) / kept


@dataclass(frozen=True)
class Outline:
    """One segment of a slice, ready to be compared in any number of images: its weights do not depend on them.

    Attributes: segment (from 1), area (pixels), middle (row and column of its centre), box (its place in the slice),
        weights (of the contrast, in the box), lags (their ``autocorrelation``).
    """

    segment: int
    area: int
    middle: tuple[float, float]
    box: tuple
    weights: np.ndarray
    lags: np.ndarray


def outlined(regions, body=None, reach: int = 15, **shape) -> list[Outline]:
    """The segments of a slice that have a ring.

    Args: regions: label map (H, W) or masks (S, H, W). body: boolean (H, W), where rings may lie. reach: lags that the
        noise is correlated over, pixels: n/2 - 1 of an (n, n) spectrum. shape: erode, gap, ring.
    Raises: ValueError: for a mask without pixels.
    """
    pad = sum(shape.get(name, value) for name, value in (("gap", GAP), ("ring", RING))) + 2
    found = []
    for number, (mask, box) in enumerate(_boxes(regions, pad), 1):
        weights = contrast_weights(mask, None if body is None else body[box], **shape)
        if weights is not None:
            middle = tuple(at.mean() + side.start for at, side in zip(np.nonzero(mask), box))
            found.append(Outline(number, int(mask.sum()), middle, box, weights, autocorrelation(weights, reach)))
    return found


def score(
    ldct, pred, regions, nps, pixel_mm: float, body=None, local: bool = True, tolerated: float = 0.0, **shape
) -> pd.DataFrame:
    """How much contrast each segment gained or lost, in standard deviations of what noise alone does.

    Args:
        ldct, pred: (H, W), HU: what the network was given, and what it made of it.
        regions: label map (H, W), masks (S, H, W), or what ``outlined`` made of either (for several networks). A lost
            structure is a segment of LDCT or NDCT, an invented one of the prediction.
        nps: (n, n), HU^2 mm^2, of the noise that the network removes: ``nps.spectrum`` of prediction - LDCT in flat
            tissue. pixel_mm: pixel side.
        body: boolean (H, W): where rings may lie and noise levels are read. local: scale by ``local_level``.
        tolerated: share t of its contrast that any structure may lose or gain: z = change / sqrt(sd^2 + (t before)^2).
            Networks blur healthy edges, surely but by little; with 0 these lead every list.
        shape: erode, gap, ring of ``contrast_weights``.
    Returns: a row a segment that has a ring: segment (from 1), area, y and x (its middle, pixels), before_hu (its
        contrast in the LDCT), change_hu (of the contrast; opposite in sign to before_hu where a structure fades),
        sd_hu, z (0 where nothing was changed).
    """
    ldct, pred = np.asarray(ldct, np.float64), np.asarray(pred, np.float64)
    if ldct.shape != pred.shape or ldct.ndim != 2:
        raise ValueError(f"ldct and pred are one slice (H, W) each, got shapes {ldct.shape} and {pred.shape}")
    known, change = covariance(nps, pixel_mm), pred - ldct
    level = local_level(change, known, body) if local else np.ones(ldct.shape)
    rows = []
    for one in regions if isinstance(regions, list) else outlined(regions, body, len(known) // 2, **shape):
        sd = _sd(one.lags, known) * np.average(level[one.box], weights=np.abs(one.weights))
        found, before = (one.weights * change[one.box]).sum(), (one.weights * ldct[one.box]).sum()
        usual = np.hypot(sd, tolerated * before)
        row = {"segment": one.segment, "area": one.area, "y": one.middle[0], "x": one.middle[1], "before_hu": before}
        rows.append(row | {"change_hu": found, "sd_hu": sd, "z": found / usual if usual > 0 else 0.0})
    return pd.DataFrame(rows, columns=["segment", "area", "y", "x", "before_hu", "change_hu", "sd_hu", "z"])


def _boxes(regions, pad):
    """Mask and place of every segment, cut out with a margin of ``pad`` pixels."""
    regions = np.asarray(regions)
    stacked = regions.dtype == bool
    found = [next(iter(ndimage.find_objects(one)), None) for one in regions.astype(np.int8)] if stacked else None
    for number, box in enumerate(found if stacked else ndimage.find_objects(regions)):
        if box is None:
            raise ValueError(f"segment {number + 1} has no pixel: leave empty masks out")
        box = tuple(slice(max(0, side.start - pad), side.stop + pad) for side in box)
        yield (regions[number][box] if stacked else regions[box] == number + 1), box


def naive(ldct, pred, regions) -> pd.DataFrame:
    """What is commonly read as a sign of a changed structure, for comparison: both call noise a change.

    Returns: a row a segment: segment (from 1), srmse_hu (RMSE between LDCT and prediction inside it), naive_z (mean
        difference inside it over SD / sqrt(n), as if pixels were independent; 0 where nothing was changed).
    """
    owner, pixel, area = members(regions)
    change = (np.asarray(pred, np.float64) - np.asarray(ldct, np.float64)).ravel()[pixel]
    mean, square = (np.bincount(owner, value, len(area)) / area for value in (change, change**2))
    error = np.sqrt(np.maximum(square - mean**2, 0) / area)
    z = np.divide(mean, error, out=np.zeros_like(mean), where=error > 0)
    return pd.DataFrame({"segment": np.arange(1, len(area) + 1), "srmse_hu": np.sqrt(square), "naive_z": z})


def removed_spectrum(ldct, outputs, tissue_hu) -> np.ndarray:
    """Power spectrum (n, n) of what a network takes away in flat soft tissue, in units of pixels: for ``examine``.

    Args: ldct, outputs, tissue_hu: (S, H, W), HU; flat tissue is looked for in the last, e.g. the NDCT.
    Raises: ValueError: where no slice has a flat region.
    """
    try:
        return spectra.spectrum([pred - image for pred, image in zip(outputs, ldct)], tissue_hu, 1.0)
    except ValueError as error:
        raise ValueError(
            f"the noise that a network removes cannot be measured: {error}; test more or other slices"
        ) from error


def examine(ldct, pred, regions, outlines, nps, body=None, structures=None, tolerated: float = 0.0) -> pd.DataFrame:
    """Every segment of a slice by the test and by what is commonly taken instead of it: ``score`` and ``naive``.

    Args: regions: label map (H, W) or masks (S, H, W); outlines: what ``outlined`` made of them. nps: in units of
        pixels. structures: label map (H, W) of known lesions, or of what was planted. The others as in ``score``.
    Returns: their columns, and structure: the one that the segment shows, as ``froc.planted`` numbers it.
    """
    table = score(ldct, pred, outlines, nps, 1.0, body, tolerated=tolerated)
    table = table.merge(naive(ldct, pred, regions), on="segment")
    shown = 0 if structures is None else froc.planted(regions, structures)[table["segment"] - 1]
    return table.assign(structure=shown)


def lesion_free(cohort, row: int, realisations: int, seed) -> dict[str, np.ndarray]:
    """A slice without its lesions, scanned again. Of a simulated patient all noise is new; of a real one, into whose
    scan lesions were inserted, only the noise that lowers the dose.

    Args: row: of the cohort. realisations: an even number. seed: fixes the noise.
    Returns: ``ldct`` and ``ndct``, (R, H, W), and of simulated patients ``truth``, (H, W), free of noise: HU, int16 as
        cohorts store them.
    Raises: ValueError: for a cohort that does not know its slices without lesions, or an odd number of realisations.
    """
    if realisations < 2 or realisations % 2:
        raise ValueError(f"lesion-free realisations come in pairs: an even number, not {realisations}")
    about, read = cohort.slices.set_index("row").loc[row], cohort.meta["parameters"]
    if cohort.meta["source"] != "simulated" and cohort.absent_ndct is not None:
        ndct, shape = np.array(cohort.absent_ndct[row]), inserted.texture(read["kernel"])
        about = {"patient": about.patient, "series": about.series, "pixel_mm": about.pixel_mm, "dose": about.dose}
        seeds = ([*np.atleast_1d(seed), number] for number in range(realisations))
        made = [inserted.with_noise(about, ndct, shape, one).arrays for one in seeds]
        return {name: np.concatenate([one[name] for one in made]) for name in ("ldct", "ndct")}
    body, _ = simulated.patient_again(cohort, about.patient)
    which = row - int(cohort.slices.row[cohort.slices.patient == about.patient].min())
    made = ensembles.ensemble(
        body.absent_scene[which], body.pixel_mm, body.crop, realisations=realisations // 2, seed=seed,
        kernel=read["kernel"], n0=dose.N0 * dose.TUBE[body.anatomy],
    )  # fmt: skip
    normal, further = (noise.reshape(realisations, *made.clean.shape) for noise in (made.normal, made.inserted))
    a = read["dose"]
    images = {"ndct": made.clean + normal, "truth": made.clean}
    images["ldct"] = images["ndct"] + np.float32(np.sqrt((1 - a) / a)) * further
    return {name: np.rint(image).clip(intensity.AIR_HU, 32767).astype(np.int16) for name, image in images.items()}
