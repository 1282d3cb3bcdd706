"""What denoisers and files take for the numbers of a CT image: HU, a share of some window, or so many SDs from a mean.

Nothing in a file of weights or of arrays says which. A network that is given the wrong one still returns an image.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ldct_utils.ct import intensity


@dataclass(frozen=True)
class Convention:
    """How HU become a denoiser's numbers: (HU - ``shift``) / ``scale``, clipped to ``low``..``high`` HU where given.

    ``per_image``: every slice's own minimum and maximum become 0 and 1, and no numbers are needed.
    """

    name: str
    shift: float = 0.0
    scale: float = 1.0
    low: float | None = None
    high: float | None = None
    per_image: bool = False

    def wrap(self, denoise: Callable) -> Callable:
        """A denoiser of images in this range as one of images (N, H, W) in HU.

        Where the input lies outside a clipped range, the network cannot know it: there the input itself is put out.
        """

        def in_hu(hu):
            hu = np.asarray(hu, np.float32)
            shift, scale = self._of(hu)
            given = hu if self.low is None else hu.clip(self.low, self.high)
            made = np.asarray(denoise(((given - shift) / scale).astype(np.float32)))
            if made.shape != hu.shape or made.dtype.kind not in "fiu":
                return made  # said by ``probing``, which knows what to do
            made = (made.astype(np.float64) * scale + shift).astype(np.float32)
            return made if self.low is None else np.where(given == hu, made, hu)

        return in_hu

    def _of(self, hu):
        if not self.per_image:
            return self.shift, self.scale
        low, high = (end(axis=(-2, -1), keepdims=True) for end in (hu.min, hu.max))
        return low, np.maximum(high - low, 1e-6)


def window(low: float, high: float, start: float = 0.0, stop: float = 1.0) -> Convention:
    """HU from ``low`` to ``high``, clipped, to ``start``..``stop``. Raises: ValueError: for a range without width."""
    if not (high > low and stop > start):
        raise ValueError(
            f"a range runs from a lower to a higher value, not [{low:g}, {high:g}] to [{start:g}, {stop:g}]"
        )
    scale = (high - low) / (stop - start)
    return Convention(f"[{low:g}, {high:g}] HU to [{start:g}, {stop:g}]", low - start * scale, scale, low, high)


def _net() -> Convention:
    return Convention("[-1024, 3072] HU to [0, 1], not clipped", intensity.HU_MIN, intensity.HU_SPAN)


def _meanstd(mean_hu=intensity.EULIG_MEAN_HU, sd_hu=intensity.EULIG_STD_HU) -> Convention:
    return Convention(f"(HU {-mean_hu:+.0f}) / {sd_hu:.0f}", mean_hu, sd_hu)


# What is found in public code, by the word or list that a user gives. Where: docs/your_denoiser.md.
KNOWN = {
    "hu": Convention("HU"),
    "net": _net(),
    "meanstd": _meanstd(),
    "stored": Convention("HU + 1024", -1024.0, 1.0),
    "minmax": Convention("each slice's minimum to maximum, to [0, 1]", per_image=True),
    "[-1024, 3072, -1, 1]": window(-1024, 3072, -1, 1),
    "[-1000, 1000]": window(-1000, 1000),
    "[-1000, 1000, -1, 1]": window(-1000, 1000, -1, 1),
    "[-1000, 400]": window(-1000, 400),
    "[-300, 300]": window(-300, 300),
    "[-160, 240]": window(-160, 240),
    "[-160, 240, -1, 1]": window(-160, 240, -1, 1),
}
WORDS = ", ".join(name for name in KNOWN if name[0] != "[")
HOW = (
    f"one of {WORDS}; [low, high] in HU to [0, 1]; [low, high, start, stop]; or {{mean: HU, sd: HU}}. "
    "docs/your_denoiser.md lists which public code takes what"
)


def read(given) -> Convention:
    """The convention that a user named: a word of ``KNOWN``, two or four numbers, or a mapping of mean and sd in HU.

    Raises: ValueError: for anything else.
    """
    if isinstance(given, str) and given.strip() in KNOWN:
        return KNOWN[given.strip()]
    if isinstance(given, str):
        numbers = given.strip().strip("[]()").split(",")
        try:
            given = [float(number) for number in numbers]
        except ValueError:
            raise ValueError(f"no range {given!r}: use {HOW}") from None
    if isinstance(given, Mapping) and set(given) == {"mean", "sd"} and given["sd"] > 0:
        return _meanstd(float(given["mean"]), float(given["sd"]))
    if isinstance(given, Sequence) and len(given) in (2, 4):
        return window(*map(float, given))
    raise ValueError(f"no range {given!r}: use {HOW}")


# ---- which one an image is in ----
REACHES_AIR = -800.0  # HU that air, lungs and what lies outside the reconstructed circle fall below
TISSUE = (-20.0, 120.0)  # HU of muscle, organs and brain, with and without contrast agent
PEAK = (-150.0, 150.0)  # HU in which most of a body lies: fat about -100, organs about 50
LEAST_AIR, LEAST_TISSUE, LEAST_BODY = 1e-3, 0.1, 0.01  # shares: of all pixels, of the body's, of all pixels
BODY = (-500.0, 2000.0)  # HU; what lies above is metal, or the upper end of another range
WATER = {"1/mm": 0.0192, "1/cm": 0.192}  # attenuation of water at 70 keV (NIST), which 0 HU stand for


def missing(hu) -> str:
    """What slices lack to be CT in HU: air, or soft tissue where it belongs. Empty where they lack nothing.

    Args: hu: (N, H, W), what is taken for HU; some slices of one patient.
    """
    smooth = ndimage.uniform_filter(np.asarray(hu, np.float32), (0, 3, 3))  # noise broadens every peak
    if (smooth < REACHES_AIR).mean() < LEAST_AIR:
        return f"nothing lies below {REACHES_AIR:g} HU, where air is"
    body = smooth[smooth > BODY[0]]
    if body.size < LEAST_BODY * smooth.size:
        return f"nothing lies above {BODY[0]:g} HU, where tissue is"
    counts, edges = np.histogram(body, np.arange(BODY[0], max(body.max(), BODY[1]) + 20, 20))
    peak = edges[counts.argmax()] + 10
    inside = ((body > TISSUE[0]) & (body < TISSUE[1])).mean()
    if not PEAK[0] < peak < PEAK[1] or inside < LEAST_TISSUE:
        return f"tissue lies at {peak:g} HU, where it lies between fat (-100) and organs (50)"
    return ""


def stretches() -> dict[tuple, str]:
    """{(HU of a stored 0, HU of a stored 1): name}: ranges known from public code, of those that one line describes."""
    known = {(one.shift, one.shift + one.scale): one.name for one in KNOWN.values() if not one.per_image}
    return known | {(-1000.0, 1000 / water - 1000): f"attenuation in {unit}" for unit, water in WATER.items()}


def fitting(numbers) -> dict[tuple, str]:
    """Those of ``stretches`` under which slices would look like CT; a window that cuts air off needs air at its end.

    Args: numbers: (N, H, W), as stored; some slices of one patient.
    """
    numbers, fit = np.asarray(numbers, np.float32), {}
    lows = {(one.shift, one.shift + one.scale): (one.low, one.high) for one in KNOWN.values()}
    for (at_0, at_1), name in stretches().items():
        hu = numbers * np.float32(at_1 - at_0) + np.float32(at_0)
        low, high = lows.get((at_0, at_1), (None, None))
        if low is not None and low > REACHES_AIR:
            cut = hu <= low + 1  # what lay below the window became its lower end
            if hu.min() < low - 1 or hu.max() > high + 1 or cut.mean() < LEAST_BODY:
                continue
            hu = np.where(cut, intensity.HU_MIN, hu)
        if not missing(hu):
            fit[at_0, at_1] = name
    return fit


def is_min_to_max(numbers) -> bool:
    """Whether every slice of (N, H, W) runs from exactly 0 to exactly 1 and hardly ever reaches 1: it was stretched by
    its own minimum and maximum, which nothing can undo."""
    return all(one.min() == 0 and one.max() == 1 and (one == 1).mean() < LEAST_AIR for one in np.asarray(numbers))


def advice(stored) -> str:
    """What to say of slices (N, H, W) of an unknown range: which ``hu_range`` would fit."""
    named = "; ".join(f"hu_range=[{low:.6g}, {high:.6g}] ({name})" for (low, high), name in fitting(stored).items())
    said = f"What would fit: {named}" if named else "No range known from public code fits"
    if is_min_to_max(stored):
        said += "; or each slice was stretched from its own minimum to its maximum, which nobody can undo: save HU"
    return f"{said}. Give the HU of a stored 0 and 1 as hu_range"
