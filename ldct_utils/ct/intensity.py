"""Intensities of CT: HU, the network range, display windows, and the domains in which images are scored.

Two scores compare only if their domain is the same, hence every score is stored with the domain's name.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

HU_MIN, HU_MAX = -1024.0, 3072.0  # (HU + 1024) / 4096: Viana et al. s5.1, after RED-CNN's preparation script
HU_SPAN = HU_MAX - HU_MIN
STORED_HU = (HU_MIN, HU_MAX - 1)  # CT numbers that 12 bits hold: found and generated images stay within them
FAINT_HU = 25.0  # a lesion of less contrast, dark or bright, counts as faint
AIR_HU = int(HU_MIN)  # what padding outside the reconstructed circle becomes in stored slices, which are integers

# name: (level, width) in HU. abdomen, chest and head as scored by Eulig et al. 2024; liver as Taifour et al. show it.
WINDOWS = {
    "abdomen": (50.0, 400.0),
    "chest": (-600.0, 1500.0),
    "head": (40.0, 80.0),
    "bone": (400.0, 1800.0),
    "liver": (40.0, 400.0),
}
# HU above which a region is not open air, and not foam. Medians: air -1000, foam of a table -935 to -905, lungs -910
# to -800.
OPEN_AIR, FOAM = -940.0, -890.0
EULIG_TOP = 2924.0  # Eulig et al. 2024 clip HU + 1024 to [0, 2924] for VIF and RMSE
# Mean and SD of the low-dose training images of the LDCT benchmark (its data/info.yml, of HU + 1024).
EULIG_MEAN_HU, EULIG_STD_HU = 481.45419786099086 + HU_MIN, 502.18507379395044


def to_net(hu):
    """HU to the network range: -1024 HU to 0, 3072 HU to 1, nothing clipped. NumPy arrays and torch tensors alike."""
    return (hu - HU_MIN) / HU_SPAN


def from_net(x):
    """Inverse of ``to_net``: network range to HU."""
    return x * HU_SPAN + HU_MIN


def window(image_hu, level: float, width: float):
    """Map a display window linearly to [0, 1] and clip outside it.

    Args:
        image_hu: CT image in HU, any shape.
        level, width: centre and full width of the window in HU; ``width`` > 0.
    Returns: array of the same shape, unitless, in [0, 1].
    Raises: ValueError: if ``width`` is not positive.
    Source: DICOM PS3.3 C.11.2.1.3.2 (LINEAR_EXACT).
    """
    if not width > 0:
        raise ValueError(f"a window needs a positive width in HU, got {width}")
    return _clipped(image_hu, level - width / 2, width)


def dicom_window(image_hu, level: float, width: float):
    """The LINEAR window of DICOM (one unit narrower), which the LDCT benchmark scores in.

    Source: DICOM PS3.3 C.11.2.1.2.1; Eulig et al. 2024, evaluation of SSIM and PSNR.
    """
    if not width > 1:
        raise ValueError(f"the LINEAR window of DICOM needs a width over 1 HU, got {width}")
    return _clipped(image_hu, level - width / 2, width - 1)


def _clipped(image_hu, low: float, span: float):
    """``low`` to 0 and ``low + span`` to 1, clipped; in place, since slices are windowed by the thousand."""
    shown = image_hu - low
    shown /= span
    return shown.clip_(0, 1) if hasattr(shown, "clip_") else shown.clip(0, 1)


def body_mask(image_hu, threshold: float = -500.0):
    """Pixels inside the patient: the largest component over ``threshold`` HU, with its holes (lungs, bowel gas) filled.

    In a field of view narrower than the chest, lungs are open towards the image's edge and so are no holes. Such a
    region is counted as body if it is denser than foam, or denser than air with a longer border on the body than on the
    image's edge. A convex lung cut by one side of the image meets this; the table, which touches three sides, does not.

    Args:
        image_hu: (H, W) or (N, H, W), HU; slices are treated one by one. Where a display window has clipped the image,
            lungs that the edge cuts cannot be told from air, and stay outside.
    Returns: boolean array of the same shape. A slice without anything over the threshold gives an empty mask.
    """
    image_hu = np.asarray(image_hu)
    if image_hu.ndim == 3:
        return np.stack([body_mask(one, threshold) for one in image_hu])
    if image_hu.ndim != 2:
        raise ValueError(f"body_mask needs (H, W) or (N, H, W), got shape {image_hu.shape}")
    # Opening cuts the thin bridges to table and blanket, which would otherwise join the body.
    parts, count = ndimage.label(ndimage.binary_opening(image_hu > threshold, iterations=2))
    if not count:
        return np.zeros(image_hu.shape, bool)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    closed = ndimage.binary_fill_holes(parts == sizes.argmax())
    body, (parts, count) = closed.copy(), ndimage.label(~closed)
    for number in range(1, count + 1):
        part = parts == number
        middle = np.median(image_hu[part])
        if middle <= max(OPEN_AIR, image_hu.min() + 1):
            continue
        at_edge = sum(side.sum() for side in (part[0], part[-1], part[:, 0], part[:, -1]))
        if middle > FOAM or (ndimage.binary_dilation(part) & closed).sum() > at_edge:
            body |= part
    return body


@dataclass(frozen=True)
class Domain:
    """An evaluation domain: what is done to an image in HU before it is scored, and the peak that scores refer to.

    ``data_range`` is in the units of the prepared image; ``body`` says that scores are taken inside the body mask.
    """

    name: str
    data_range: float
    level: float | None = None
    width: float | None = None
    body: bool = False

    def prepare(self, image_hu):
        """Image in HU, array or torch tensor, to the domain's own scale: float64, except ``viana2025`` (uint8)."""
        tensor = hasattr(image_hu, "double")  # torch is not imported for this
        image_hu = image_hu.double() if tensor else np.asarray(image_hu, dtype=np.float64)
        if self.name == "viana2025":  # truncated, not rounded: one grey level is 16.06 HU
            levels = to_net(image_hu).clip(0, 1) * 255
            return levels.byte() if tensor else levels.astype(np.uint8)
        if self.name.startswith("eulig2024"):
            return dicom_window(image_hu, self.level, self.width)
        if self.name.startswith("window"):
            return window(image_hu, self.level, self.width)
        return image_hu

    @property
    def text(self) -> str:
        """The domain in words, for captions."""
        return {
            "hu": "HU, data range 4096",
            "body": "HU inside the body, data range 4096",
            "viana2025": "8 bits over [-1024, 3072] HU, range 255",
        }.get(self.name, f"window level {self.level:g}, width {self.width:g} HU" if self.width else self.name)


DOMAINS = ("hu", "viana2025", "body", "window", "eulig2024")


def domain(name: str, anatomy: str = "abdomen", level: float | None = None, width: float | None = None) -> Domain:
    """Evaluation domain by name.

    Args:
        name: ``hu``, ``body``, ``viana2025``, ``eulig2024`` (window of the anatomy) or ``window``.
        anatomy: key of ``WINDOWS`` that gives the window where level and width are not given.
    Raises: ValueError: for an unknown name or anatomy.
    """
    if name in ("hu", "body"):
        return Domain(name, HU_SPAN, body=name == "body")
    if name == "viana2025":
        return Domain(name, 255.0)
    if name not in DOMAINS:
        raise ValueError(f"unknown evaluation domain {name!r}; known: {', '.join(DOMAINS)}")
    if anatomy not in WINDOWS:
        raise ValueError(f"no window is known for anatomy {anatomy!r}; known: {', '.join(WINDOWS)}")
    default_level, default_width = WINDOWS[anatomy]
    level, width = default_level if level is None else level, default_width if width is None else width
    return Domain(name, 1.0, level=level, width=width)
