"""Which fine structure of an image is real: transfer functions of edges, and coherence with the truth by frequency.

Frequencies are in lp/mm. A linear system has one MTF; a denoiser has a transfer function for each task (TTF), which
depends on contrast and noise. Coherence asks more: how much of an output's power at a frequency is a linear image of
the truth, and whether the rest is noise or structure that comes back in every realisation.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ldct_utils.ct import nps
from ldct_utils.task_based import ensembles

TTF_FREQUENCIES = np.arange(0, 1.001, 0.02)  # lp/mm
BIN = 0.25  # of an edge profile, pixels


def edge_profile(image_hu, centre, radius_mm: float, pixel_mm: float, reach_mm: float = 8.0):
    """Edge spread function of a disc: mean HU over rings, against the distance from its rim.

    Args: image_hu: (H, W), HU, best a mean over realisations. centre: (row, column) of the disc.
    Returns: distance in mm (negative inside), HU.
    Raises: ValueError: if the image ends within ``reach_mm`` of the rim.
    """
    image_hu = np.asarray(image_hu, np.float64)
    y, x = np.ogrid[: image_hu.shape[0], : image_hu.shape[1]]
    distance = (np.hypot(y - centre[0], x - centre[1]) * pixel_mm - radius_mm) / (BIN * pixel_mm)
    bins = int(reach_mm / (BIN * pixel_mm))
    room = min(*centre, *(np.array(image_hu.shape) - 1 - centre)) * pixel_mm - radius_mm
    if room < reach_mm or radius_mm < reach_mm:
        raise ValueError(
            f"a disc of {radius_mm:g} mm needs {reach_mm:g} mm inside its rim and around it; the image leaves {room:g}"
        )
    index = np.rint(distance).astype(int) + bins
    near = (index >= 0) & (index <= 2 * bins)
    counts = np.bincount(index[near], minlength=2 * bins + 1)
    # The mean place of a ring's pixels is not the middle of the ring, hence it is averaged as well.
    where = np.bincount(index[near], distance[near]) / np.maximum(counts, 1) * BIN * pixel_mm
    values = np.bincount(index[near], image_hu[near]) / np.maximum(counts, 1)
    return where[counts > 0], values[counts > 0]


def ttf(image_hu, centre, radius_mm: float, pixel_mm: float, reach_mm: float = 8.0, frequencies=TTF_FREQUENCIES):
    """Task transfer function of a disc's edge, 1 at zero frequency.

    The edge profile's derivative is Fourier transformed as it is sampled; a Hann window over its outer half keeps the
    noise of the plateaus out.

    Args: as in ``edge_profile``. frequencies: lp/mm.
    Returns: |TTF| at ``frequencies``.
    Source: AAPM TG-233 (circular-edge method; Richard et al. 2012, Med Phys 39:4115).
    """
    where, values = edge_profile(image_hu, centre, radius_mm, pixel_mm, reach_mm)
    middle, step = (where[1:] + where[:-1]) / 2, np.diff(values)
    outer = np.clip(2 * np.abs(middle) / reach_mm - 1, 0, 1)
    step = step * (0.5 + 0.5 * np.cos(np.pi * outer))
    spectrum = np.exp(-2j * np.pi * np.asarray(frequencies)[:, None] * middle) @ step
    return np.abs(spectrum) / np.abs(step.sum())


def frequency_at(curve, level: float, frequencies=TTF_FREQUENCIES) -> float:
    """Frequency at which a falling curve first crosses ``level``, lp/mm: f50 for .5; NaN if it never does."""
    below = np.flatnonzero(np.asarray(curve) < level)
    if not len(below) or below[0] == 0:
        return float("nan")
    i = below[0]
    share = (curve[i - 1] - level) / (curve[i - 1] - curve[i])
    return float(frequencies[i - 1] + share * (frequencies[i] - frequencies[i - 1]))


def insert(contrast_hu: float, realisations: int, seed=0, kernel: str = "B30", radius_mm: float = 12.0,
           pixel_mm: float = 0.75) -> ensembles.Ensemble:  # fmt: skip
    """Noise realisations of a disc in the middle of a cylinder of water, 96 x 96 pixels. Args: as of ``inserts``."""
    scene, lesion = ensembles.cylinder(300.0, 0.0, pixel_mm), ensembles.Lesion(radius_mm, contrast_hu)
    crop = (*((full - 96) // 2 for full in scene.shape), 96, 96)
    return ensembles.ensemble(scene, pixel_mm, crop, (lesion,), [(48, 48)], realisations, seed, kernel)


def transferred(made: ensembles.Ensemble, denoise, dose: float, least: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """What a denoiser does to the edge of an insert, as the transfer function of a linear filter.

    Its TTF over that of the noise-free image, up to where the latter falls below ``least``; beyond, the last value.

    Args: made: of ``insert``. denoise: function of images (N, H, W), HU. dose: fraction of the normal one.
    Returns: frequencies in cycles a pixel, and the filter's transfer at them, 1 at 0.
    """
    at = made.places[0], made.lesions[0].radius_mm, made.pixel_mm
    scan, after = (ttf(image, *at) for image in (made.truth(True), denoise(made.images(True, dose)).mean(0)))
    seen = np.flatnonzero(scan < least)[0] if (scan < least).any() else len(scan)
    return TTF_FREQUENCIES[:seen] * made.pixel_mm, after[:seen] / scan[:seen]


def filtered(images, frequencies, transfer) -> np.ndarray:
    """Images (..., H, W) after a linear filter that is alike in all directions.

    Args: frequencies: rising, cycles a pixel. transfer: at these; linear between them, its ends hold beyond.
    """
    axes = [np.fft.fftfreq(n) for n in np.shape(images)[-2:]]
    response = np.interp(np.hypot(axes[0][:, None], axes[1]), frequencies, transfer)
    return np.fft.ifft2(np.fft.fft2(images) * response).real


HEADS = {"f50": "50 % at, lp/mm", "f10": "10 % at, lp/mm", "recovered": "share of the contrast recovered",
         "CNR": "contrast over noise"}  # fmt: skip


def inserts(denoisers, contrasts, dose: float, realisations: int, seed=0, kernel: str = "B30", progress=iter,
            radius_mm: float = 12.0, pixel_mm: float = 0.75) -> pd.DataFrame:  # fmt: skip
    """What denoisers make of the edge of discs of several contrasts, in a cylinder of water.

    Args:
        denoisers: (method, seed, function of images (N, H, W), HU, that gives images alike); the noise-free image is
            looked at beside them. contrasts: HU. dose: fraction of the normal one. realisations, seed: of the noise.
        progress: wraps the contrasts, e.g. ``tqdm``. radius_mm, pixel_mm: of the discs and the pixels.
    Returns: a row a contrast (``contrast_hu``), method and seed, of the mean over realisations: f50 and f10 of the
        transfer function, lp/mm; recovered, the contrast in the middle over the disc's; and CNR, that of single images.
    """
    rows, at = [], (48, 48)
    inside, inner, outer = (ensembles.disc((96, 96), at, (radius_mm + beyond) / pixel_mm) for beyond in (-4, 4, 16))
    inside, around = inside == 1, (inner == 0) & (outer == 1)
    for contrast in progress(contrasts):
        made = insert(contrast, realisations, seed, kernel, radius_mm, pixel_mm)
        low = made.images(True, dose)
        for method, its_seed, denoise in [("noise-free", -1, None), *denoisers]:
            images = denoise(low) if denoise else made.truth(True)[None]
            average = images.mean(0, dtype=np.float64)
            curve = ttf(average, at, radius_mm, pixel_mm)
            rows.append(
                {"contrast_hu": contrast, "method": method, "seed": its_seed,
                 "f50": frequency_at(curve, 0.5), "f10": frequency_at(curve, 0.1),
                 "recovered": (average[inside].mean() - average[around].mean()) / contrast,
                 "CNR": np.mean([ensembles.cnr(one, inside, around) for one in images]) if denoise else np.nan}
            )  # fmt: skip
    return pd.DataFrame(rows)


def means(edges) -> pd.DataFrame:
    """Means of ``inserts`` over training seeds: a row a contrast and method."""
    found = edges.groupby(["contrast_hu", "method"], sort=False).mean(numeric_only=True)
    return found.drop(columns="seed").reset_index()


@dataclass(frozen=True)
class Coherence:
    """Powers by frequency (F,), HU^2 mm^2, means over patches and rings.

    truth, output: of the truth and of single outputs. coherent: what of the output is a linear image of the truth.
    repeatable: of the mean output over noise realisations, less what noise is left in it. ``fabricated`` is the part of
    the repeatable power that is not coherent: structure that stands in every realisation and is not the truth's.
    A filter that adapts to its surroundings leaves the truth's own structure unevenly weakened, which is not coherent
    either: ``fabricated`` is an upper bound of what was invented. Weakening leaves less than the truth's power: what
    exceeds it (``surplus`` is the ratio) is amplified where it is coherent, and else invented.
    """

    frequencies: np.ndarray
    truth: np.ndarray
    output: np.ndarray
    coherent: np.ndarray
    repeatable: np.ndarray

    @property
    def squared(self):
        """Magnitude-squared coherence of single outputs with the truth, in [0, 1]."""
        return self.coherent / self.output

    @property
    def noise(self):
        """Power that changes from realisation to realisation."""
        return self.output - self.repeatable

    @property
    def fabricated(self):
        """Power that is repeatable and incoherent with the truth; may be slightly negative by chance."""
        return self.repeatable - self.coherent

    @property
    def surplus(self):
        """Repeatable power over the truth's; above 1 there is more fine structure than the truth holds."""
        return self.repeatable / self.truth


def ring_rms(power, frequency, width: float = 0.05):
    """RMS in HU of a power, HU^2 mm^2, that fills a ring of frequencies ``width`` lp/mm wide; 0 if it is negative."""
    return np.sqrt(np.maximum(power, 0) * 2 * np.pi * np.asarray(frequency) * width)


def coherence(outputs, truth, pixel_mm: float, size: int = 48, frequencies=nps.FREQUENCIES) -> Coherence:
    """Coherence of images with the truth, by frequency.

    Patches overlap by half and are tapered (Hann). The cross spectrum is averaged over the patches and directions of a
    ring, so that only what follows the truth everywhere by the same factor counts as coherent.

    Args:
        outputs: (R, H, W), HU, R >= 2 noise realisations of one anatomy. truth: (H, W), HU, noise-free.
        size: of a patch, pixels. frequencies: centres of rings .05 lp/mm wide.
    Raises: ValueError: for a single realisation, or images smaller than a patch.
    """
    outputs, truth = np.asarray(outputs, np.float64), np.asarray(truth, np.float64)
    if outputs.ndim != 3 or outputs.shape[1:] != truth.shape or len(outputs) < 2 or min(truth.shape) < size:
        raise ValueError(
            f"coherence takes two or more realisations (R, H, W) of a truth (H, W) of at least {size} pixels, got "
            f"{outputs.shape} and {truth.shape}"
        )
    count = len(outputs)
    spectra, known = _spectra(outputs, size), _spectra(truth[None], size)[:, 0]  # (patches, R, n, n), (patches, n, n)
    mean = spectra.mean(1)
    unit = pixel_mm**2 / np.sum(nps.hann_window(size) ** 2)

    def ring(power):
        return nps.radial(power.mean(0), pixel_mm, frequencies) * unit

    output, truth_power = ring(np.mean(np.abs(spectra) ** 2, 1)), ring(np.abs(known) ** 2)
    # E|mean|^2 = repeatable + noise / R and E|single|^2 = repeatable + noise
    repeatable = (count * ring(np.abs(mean) ** 2) - output) / (count - 1)
    cross = np.abs(ring(mean * known.conj())) ** 2
    return Coherence(np.asarray(frequencies), truth_power, output, cross / truth_power, repeatable)


def _spectra(images, size):
    """Spectra of half-overlapping tapered patches, their weighted mean taken out: (patches, R, n, n)."""
    taper = nps.hann_window(size)
    corners = [range(0, side - size + 1, size // 2) for side in images.shape[1:]]
    patches = np.stack([images[:, y : y + size, x : x + size] for y in corners[0] for x in corners[1]])
    patches = patches - (patches * taper).sum((2, 3), keepdims=True) / taper.sum()
    return np.fft.fft2(patches * taper)
