"""Denoisers with one known fault at graded strength, each with an honest twin: what a judge must be tried on first.

They know the noise-free truth of the patient whom they are built for, as no real denoiser does, so that nothing but the
fault is wrong with them. The honest denoiser about halves the noise and leaves the anatomy as it is, as four times the
dose would: f(x) = t + c (x - t), t the truth. c is drawn for each patient, so that its gain in PSNR spreads by 1 dB
over patients, as that of a trained U-Net does. A fault is laid over it; blur, median and total variation work on x
itself.

| name | fault at strength 1 | gradient |
|---|---|---|
| ``eraser`` | known lesions replaced by what is around them, with noise | yes |
| ``blind_eraser`` | what is faint and of lesion size taken out, wherever it is | yes |
| ``blur`` | Gaussian of SD 2 pixels | yes |
| ``median`` | median of 9 x 9 pixels | no |
| ``tv`` | total variation, weight 40 HU | no |
| ``unsharp`` | unsharp masking by twice of what a Gaussian of 1 mm takes away | yes |
| ``paster`` | fine texture of SD 10 HU that was never measured, the same in every scan | yes |
| ``inserter`` | a disc of +40 HU and 4 pixels radius that is not there, the same in every scan | yes |
| ``identity`` | no fault: all noise is left | yes |
| ``truth`` | no fault: no noise is left | yes |

The last two are no faults. A judge that raises an alarm at them answers to noise, and not to what became of the
anatomy: the identity is noisier than its twin.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import nn

from ldct_utils.ct import degradations, intensity, planted
from ldct_utils.models import classical

NOISE_LEFT = (0.4, 0.6)  # share of its SD that the honest denoiser leaves: least and most of a patient
BLUR_PX, MEDIAN_PX, TV_HU, UNSHARP, TEXTURE_HU, DISC_HU = 2.0, 9, 40.0, 2.0, 10.0, 40.0  # faults at strength 1
DISC_PX = 4.0  # radius of what is inserted
ERASED_HU = 30.0  # contrast up to which the blind eraser takes things out
SIZES_PX = (1.5, 6.0)  # SDs of the Gaussians between which it finds lesion size
MARGIN_PX = 2  # by which the eraser goes beyond a lesion's pixels: reconstruction blurs lesions
BORROWED_PX = (23, 31)  # rows and columns from where the eraser takes noise, so that it leaves no hole in it
FLAT_HU = 40.0  # soft tissue: what stands in for the anatomy where only the noise is processed
HARMLESS = ("identity", "truth")
IN_BOTH = ("paster", "inserter")  # add the same to an image with and without a lesion: their difference cannot show it
OF_LESIONS = ("eraser",)  # with which nothing is wrong in a patient without lesions
SMOOTHING = ("blur", "median", "tv")  # work on x and not on what the honest denoiser made of it
FILTERS = (*SMOOTHING, "unsharp", "blind_eraser")  # whose fault is made of x; the others' is laid over


@dataclass(frozen=True)
class Patient:
    """What a denoiser with a known fault knows of a slice, (H, W), HU.

    Attributes: truth: without noise. without: the same without its lesions, or None where it has none. lesions:
        boolean, their pixels, or None. pixel_mm: pixel side. place: row and column of the disc that ``inserter`` adds.
        seed: of pasted texture and of ``noise_left``.
    """

    truth: np.ndarray
    without: np.ndarray | None = None
    lesions: np.ndarray | None = None
    pixel_mm: float = 0.75
    place: tuple[int, int] | None = None
    seed: int = 0

    @property
    def noise_left(self) -> float:
        """Share of the noise's SD that the honest denoiser leaves in this patient."""
        return float(np.random.default_rng([self.seed, 15]).uniform(*NOISE_LEFT))


@dataclass(frozen=True)
class Known:
    """A denoiser: images (N, H, W), HU, to the same, float32. ``gradient``: whether ``module`` has one."""

    name: str
    strength: float
    gradient: bool
    apply: Callable

    def __call__(self, hu) -> np.ndarray:
        hu = np.asarray(hu, np.float32)
        if hu.ndim != 3:
            raise ValueError(f"{self.name} takes slices (N, H, W) in HU, got {hu.shape}")
        with torch.no_grad():
            return np.asarray(self.apply(torch.from_numpy(hu)), np.float32)

    def module(self) -> nn.Module:
        """The same for images (N, 1, H, W) in the network range. Raises: ValueError: without a gradient."""
        if not self.gradient:
            raise ValueError(f"{self.name} has no gradient, so that no search can be made on it: leave it out")
        return _Module(self.apply)


class _Module(nn.Module):
    def __init__(self, apply):
        super().__init__()
        self.apply_hu = apply

    def forward(self, image):
        return intensity.to_net(self.apply_hu(intensity.from_net(image[:, 0])))[:, None]


def names() -> list[str]:
    """All of them; the last two have no fault."""
    return list(_MADE)


def build(name: str, strength: float, patient: Patient) -> Known:
    """A denoiser with a fault. Args: strength: 0 to 1 of the table above; 0 is the honest denoiser or, of blur, median
    and total variation, x itself.

    Raises: ValueError: for an unknown name, a strength outside, or a patient who lacks what the fault needs.
    """
    if name not in _MADE:
        raise ValueError(f"no known denoiser {name!r}; there are {', '.join(_MADE)}")
    if not 0 <= strength <= 1:
        raise ValueError(f"the strength of {name} is between 0 and 1, not {strength!r}")
    truth = torch.from_numpy(np.array(patient.truth, np.float32))
    fault, left = _MADE[name](strength, patient), patient.noise_left
    if name in FILTERS:
        part = 1.0 if name in SMOOTHING else left
        return Known(name, strength, name not in ("median", "tv"), lambda x: fault(truth + part * (x - truth)))
    return Known(name, strength, True, lambda x: fault(truth + left * (x - truth), x))


def twin(name: str, strength: float, patient: Patient) -> Known:
    """The same processing without the fault, for ``build``'s arguments.

    Where the fault is laid over the honest denoiser that is the honest denoiser. Of a filter it is the truth plus what
    the filter makes of the noise alone, on a flat background: its noise, and anatomy that is not touched.
    """
    if name not in FILTERS:
        honest = build("identity", 0.0, patient)
        return Known(f"twin of {name}", strength, True, honest.apply)
    flat = Patient(np.full_like(patient.truth, FLAT_HU), pixel_mm=patient.pixel_mm, seed=patient.seed)
    one = build(name, strength, flat)
    return Known(f"twin of {name}", strength, one.gradient, of_noise(one.apply, patient.truth))


def of_noise(denoise: Callable, truth) -> Callable:
    """The truth plus what a denoiser, e.g. a network, makes of the noise alone, on a flat background.

    Args: denoise: of images (N, H, W), HU, arrays or tensors. truth: (H, W), HU. Returns: a function of the same.
    """
    known = np.array(truth, np.float32)

    def honest(x):
        t = torch.from_numpy(known) if isinstance(x, torch.Tensor) else known
        return t + denoise(FLAT_HU + (x - t)) - FLAT_HU

    return honest


# ---- faults; each a function of the strength and the patient that gives a function of tensors (N, H, W), HU ----


def gaussian(images, sigma: float):
    """Gaussian blur of a tensor (N, H, W), SD in pixels, the rim repeated, as ``ndimage.gaussian_filter`` has it."""
    if not sigma:
        return images
    reach = int(4 * sigma + 0.5)
    line = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=images.dtype) / sigma) ** 2)
    line, images = (line / line.sum()).to(images.device), images[:, None]
    for axis, pad in ((2, (0, 0, reach, reach)), (3, (reach, reach, 0, 0))):
        kernel = line.reshape(1, 1, *((-1, 1) if axis == 2 else (1, -1)))
        images = nn.functional.conv2d(nn.functional.pad(images, pad, mode="replicate"), kernel)
    return images[:, 0]


def _eraser(strength, patient):
    if patient.lesions is None or not np.any(patient.lesions):
        return lambda y, x: y
    if patient.without is None:
        raise ValueError("an eraser needs the slice without its lesions: give the patient's `without`")
    where = ndimage.binary_dilation(patient.lesions, iterations=MARGIN_PX)
    weight = torch.from_numpy(np.float32(strength) * where)
    truth, without = (torch.from_numpy(np.array(one, np.float32)) for one in (patient.truth, patient.without))

    def erase(y, x):
        borrowed = without + torch.roll(y - truth, BORROWED_PX, (-2, -1))
        return y - weight * (y - borrowed)

    return erase


def _blind_eraser(strength, patient):
    small, large = SIZES_PX

    def erase(y):
        found = gaussian(y, small) - gaussian(y, large)
        return y - strength * found * torch.exp(-((found / ERASED_HU) ** 2))

    return erase


def _median(strength, patient):
    side = 1 + 2 * round((MEDIAN_PX - 1) / 2 * strength)
    return lambda x: torch.from_numpy(ndimage.median_filter(x.numpy(), (1, side, side)))


def _tv(strength, patient):
    if not strength:
        return lambda x: x
    smooth = classical.build("tv", weight_hu=TV_HU * strength)
    return lambda x: torch.from_numpy(smooth(x.numpy()))


def _unsharp(strength, patient):
    sigma = degradations.UNSHARP_MM / patient.pixel_mm
    return lambda y: y + UNSHARP * strength * (y - gaussian(y, sigma))


def _paster(strength, patient):
    truth = np.array(patient.truth, np.float32)[None]
    pasted = degradations.degrade("texture", truth, TEXTURE_HU * strength, patient.pixel_mm, patient.seed) - truth
    return lambda y, x: y + torch.from_numpy(pasted)


def _inserter(strength, patient):
    if patient.place is None:
        raise ValueError("an inserter needs to know where: give the patient's `place`")
    disc = planted.discs(np.shape(patient.truth), [patient.place], DISC_PX, DISC_HU * strength)
    return lambda y, x: y + torch.from_numpy(disc)


def _truth(strength, patient):
    truth = torch.from_numpy(np.array(patient.truth, np.float32))
    return lambda y, x: truth + (1 - strength) * (y - truth)  # exactly the truth at 1, where rounding would tell of x


_MADE = {
    "eraser": _eraser,
    "blind_eraser": _blind_eraser,
    "blur": lambda strength, patient: lambda x: gaussian(x, BLUR_PX * strength),
    "median": _median,
    "tv": _tv,
    "unsharp": _unsharp,
    "paster": _paster,
    "inserter": _inserter,
    "identity": lambda strength, patient: lambda y, x: y + strength * (x - y),
    "truth": _truth,
}  # fmt: skip
