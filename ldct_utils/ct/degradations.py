"""Degradations of slices at known strengths, which a metric should notice because a radiologist would.

Images are (N, H, W) float32 HU; a strength of 0 leaves them unchanged. Rings and streaks arise as in a scanner: they
are reconstructed from errors in the sinogram.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ldct_utils.ct import fbp

UNSHARP_MM = 1.0  # SD of the Gaussian that unsharp masking subtracts
PROFILE = 4  # samples a pixel of what depends on the radius alone
TEXTURE_FROM = 0.5  # lp/mm: above it a B30 image has at most a quarter of the contrast
BAD_CELLS, STARVED_VIEWS = 10, 14  # detector cells with a wrong gain; neighbouring views with too few photons


@dataclass(frozen=True)
class Degradation:
    """A kind of degradation.

    Attributes:
        label: name in figures and tables. unit: of the strengths.
        strengths: those of the audit, rising; the first is barely visible, the last plain.
        lesion: None; ``removed``: the share ``strength`` of the lesions' contrast is taken out of images with lesions;
            ``added``: it is added to images without.
        apply: ``apply(images, strength, pixel_mm, rng) -> images``; None for those of lesions.
    """

    label: str
    unit: str
    strengths: tuple[float, ...]
    lesion: str | None = None
    apply: Callable | None = None


def _gaussian(images, sigma_mm, pixel_mm):
    return ndimage.gaussian_filter(images, (0, sigma_mm / pixel_mm, sigma_mm / pixel_mm), mode="nearest")


def blur(images, strength, pixel_mm, rng=None):
    """Gaussian blur; the strength is its SD in mm."""
    return _gaussian(images, strength, pixel_mm) if strength else images


def unsharp(images, strength, pixel_mm, rng=None):
    """Unsharp masking: the strength times what a Gaussian of 1 mm takes away is added. It sharpens noise as well."""
    return images + np.float32(strength) * (images - _gaussian(images, UNSHARP_MM, pixel_mm))


def shift(images, strength, pixel_mm=None, rng=None):
    """A constant of ``strength`` HU on every pixel."""
    return images + np.float32(strength)


def _tissue(images, pixel_mm):
    """Weight of each pixel, 0 in air and 1 in tissue, so that texture is added inside the body only."""
    return np.clip((_gaussian(images, 2.0, pixel_mm) + 500) / 300, 0, 1)


def texture(images, strength, pixel_mm, rng):
    """Fine texture that was never measured: random structure above ``TEXTURE_FROM`` lp/mm with an SD of strength HU.

    As a generative network adds it: plausible, and unrelated to the patient.
    """
    height, width = images.shape[1:]
    radius = np.hypot(np.fft.fftfreq(height, pixel_mm)[:, None], np.fft.rfftfreq(width, pixel_mm)[None])
    if not (radius > TEXTURE_FROM).any():
        raise ValueError(f"pixels of {pixel_mm} mm hold nothing finer than {TEXTURE_FROM} lp/mm")
    fine = np.fft.rfft2(rng.standard_normal(images.shape, np.float32)) * (radius > TEXTURE_FROM)
    fine = np.fft.irfft2(fine, (height, width)).astype(np.float32)
    fine /= fine.std(axis=(1, 2), keepdims=True)
    return images + np.float32(strength) * fine * _tissue(images, pixel_mm)


def ring_patterns(count: int, shape, pixel_mm: float, rng) -> np.ndarray:
    """Rings of detector cells whose gain is off by a constant, (count, H, W), SD 1 each; centred on the image."""
    cells = np.zeros((count, fbp.detector_count(shape, pixel_mm)), np.float32)
    middle = cells.shape[1] / 2 - 0.5
    reach = min(shape) * pixel_mm / fbp.DETECTOR_MM / 2
    for view in cells:
        for offset, error in zip(rng.uniform(2, reach, BAD_CELLS), rng.normal(0, 1, BAD_CELLS)):
            for side in (-1, 1):  # a turn of 360 degrees sees a cell on both sides of the axis
                view[round(middle + side * offset)] += error
    # Every view is the same, so the image depends on the radius alone: it is back-projected onto one radius.
    views = fbp.filtered(cells)
    y, x = (np.arange(side) - (side - 1) / 2 for side in shape)
    radius = np.rint(np.hypot(y[:, None], x) * PROFILE).astype(np.int32)
    scale = fbp.UPSAMPLING / fbp.DETECTOR_MM * pixel_mm / PROFILE
    profiles = np.zeros((count, radius.max() + 1), np.float32)
    for cosine in np.cos(fbp.angles()):
        at = np.rint(np.arange(profiles.shape[1]) * scale * cosine + middle * fbp.UPSAMPLING).astype(np.int32)
        profiles += views.take(at, axis=1, mode="clip")
    return _unit(profiles.take(radius, axis=1))


def streak_patterns(count: int, shape, pixel_mm: float, rng) -> np.ndarray:
    """Streaks of a few neighbouring views that got too few photons, (count, H, W), SD 1 each."""
    cells, angles = fbp.detector_count(shape, pixel_mm), fbp.angles()
    drawn = np.empty((count, *shape), np.float32)
    for image in drawn:  # the other views hold nothing
        at = (rng.integers(fbp.VIEWS) + np.arange(STARVED_VIEWS)) % fbp.VIEWS
        sinogram = rng.standard_normal((STARVED_VIEWS, cells), np.float32)
        image[:] = fbp.reconstruct(sinogram, pixel_mm, shape, at=angles[at])
    return _unit(drawn)


def _unit(images):
    images = images - images.mean(axis=(1, 2), keepdims=True)
    return images / images.std(axis=(1, 2), keepdims=True)


def _patterned(make):
    def apply(images, strength, pixel_mm, rng):
        return images + np.float32(strength) * make(len(images), images.shape[1:], pixel_mm, rng)

    apply.__doc__ = f"{make.__doc__.split(',')[0]}, another for each image; the strength is their SD in HU."
    return apply


rings, streaks = _patterned(ring_patterns), _patterned(streak_patterns)

DEGRADATIONS = {
    "blur": Degradation("blur", "mm", (0.4, 0.8, 1.2), apply=blur),
    "rings": Degradation("ring artefacts", "HU", (2.0, 5.0, 10.0), apply=rings),
    "streaks": Degradation("streak artefacts", "HU", (2.0, 5.0, 10.0), apply=streaks),
    "shift": Degradation("HU shift", "HU", (2.0, 5.0, 10.0), apply=shift),
    "unsharp": Degradation("unsharp masking", "", (0.5, 1.0, 2.0), apply=unsharp),
    "texture": Degradation("invented texture", "HU", (2.0, 5.0, 10.0), apply=texture),
    "lesion_removed": Degradation("lesion removed", "× contrast", (0.33, 0.67, 1.0), lesion="removed"),
    "lesion_added": Degradation("lesion invented", "× contrast", (0.33, 0.67, 1.0), lesion="added"),
}


def degrade(name: str, images, strength: float, pixel_mm: float, seed=0, lesion=None) -> np.ndarray:
    """Degrade images.

    Args:
        name: key of ``DEGRADATIONS``.
        images: (N, H, W), HU. For ``lesion_added`` they are the images without lesions.
        strength: in the degradation's unit, >= 0; 0 changes nothing.
        pixel_mm: pixel side.
        seed: of random artefacts. The same seed gives the same pattern at every strength.
        lesion: (N, H, W) or (H, W), HU: what the lesions contribute, for the two degradations of lesions.
    Returns: float32 images of the same shape.
    Raises: ValueError: for an unknown name, a negative strength, or a lesion that is missing.
    """
    if name not in DEGRADATIONS:
        raise ValueError(f"unknown degradation {name!r}; known: {', '.join(DEGRADATIONS)}")
    images = np.asarray(images, np.float32)
    if images.ndim != 3 or not strength >= 0:
        raise ValueError(f"degrade takes (N, H, W) and a strength >= 0, got {images.shape} and {strength!r}")
    what = DEGRADATIONS[name]
    if what.lesion is None:
        return what.apply(images, strength, pixel_mm, np.random.default_rng(seed)) if strength else images
    if lesion is None:
        raise ValueError(f"{name} needs lesion=, the image of what the lesions contribute, HU")
    return images + np.float32(strength * (1 if what.lesion == "added" else -1)) * np.asarray(lesion, np.float32)
