"""Model observers: how well a lesion at a known place is detected, as d' and area under the ROC curve (AUC).

Images enter as ensembles (N, n, n) in HU, without the lesion (absent) and with it (present). Channels reduce an image
to a few numbers, (N, C); the full Hotelling observer takes the pixels themselves. A template is made on one part of
the realisations and tested on another: tested on its own training data it would detect lesions that are not there.
"""

from dataclasses import dataclass, field
from functools import cache

import numpy as np
from scipy import special
from scipy.stats import rankdata
from scipy.stats import t as student

GROUPS = 20  # of realisations, left out in turn by the jackknife


class NoNoise(ValueError):
    """Classes that differ without any noise: whoever sees the difference is never wrong, and no d' is finite."""


def laguerre_gauss(size: int, width: float, count: int = 6) -> np.ndarray:
    """Laguerre-Gauss channels, for lesions and noise without a preferred direction.

    Args: size: side n of the region in pixels, the lesion at its centre (n - 1) / 2. width: of the Gaussian, pixels.
    Returns: (count, n * n), orthonormal on a fine grid.
    Source: Gallas and Barrett 2003, J Opt Soc Am A 20:1725.
    """
    scaled = 2 * np.pi * _offsets(size)[2] ** 2 / width**2
    gauss = np.sqrt(2) / width * np.exp(-scaled / 2)
    return np.stack([(gauss * special.eval_laguerre(order, scaled)).ravel() for order in range(count)])


def dense_dog(size: int, count: int = 10, first: float = 0.005, ratio: float = 1.4, spread: float = 1.67) -> np.ndarray:
    """Dense differences of Gaussians in frequency, what a human observer is modelled by; (count, n * n).

    Args: first: SD of the first Gaussian in cycles per pixel, growing by ``ratio``; ``spread`` times it is the second.
    Source: Abbey and Barrett 2001, J Opt Soc Am A 18:473 (their dense set).
    """
    f = np.fft.fftfreq(4 * size)  # finely sampled, since the first channels are narrow
    squared = f[:, None] ** 2 + f**2
    sigmas = first * ratio ** np.arange(1, count + 1)
    pass_bands = [np.exp(-squared / (2 * (spread * s) ** 2)) - np.exp(-squared / (2 * s**2)) for s in sigmas]
    # Centred on the middle of the region, which lies between pixels where the region is even.
    shift = np.exp(-2j * np.pi * f * (size - 1) / 2)
    found = [np.fft.ifft2(band * shift[:, None] * shift).real[:size, :size] for band in pass_bands]
    return np.stack([(channel / np.linalg.norm(channel)).ravel() for channel in found])


def gabor(size: int, orientations: int = 5, phases=(0.0, np.pi / 2), octaves: int = 4) -> np.ndarray:
    """Gabor channels, one octave wide each, the highest up to a quarter cycle per pixel.

    Returns: (octaves * orientations * phases, n * n).
    Source: Wunderlich and Noo 2008, Phys Med Biol 53:2471 (passbands 1/64-1/32 ... 1/8-1/4 cycles per pixel).
    """
    y, x, radius = _offsets(size)
    channels = []
    for octave in range(octaves):
        low = 0.125 / 2**octave  # lower edge of the passband; its width is as large, its centre 1.5 times that
        envelope = np.exp(-4 * np.log(2) * radius**2 / (4 * np.log(2) / (np.pi * low)) ** 2)
        for angle in np.arange(orientations) * np.pi / orientations:
            wave = 2 * np.pi * 1.5 * low * (x * np.cos(angle) + y * np.sin(angle))
            channels += [(envelope * np.cos(wave + phase)).ravel() for phase in phases]
    return np.stack(channels)


def respond(images, channels=None) -> np.ndarray:
    """Channel outputs (N, C) of images (N, n, n), float64; without channels the pixels themselves, (N, n * n)."""
    images = np.asarray(images)
    flat = images.reshape(len(images), -1).astype(np.float64)
    if channels is None:
        return flat
    if channels.shape[1] != flat.shape[1]:
        raise ValueError(f"channels for {channels.shape[1]} pixels do not fit images of shape {images.shape[1:]}")
    return flat @ np.asarray(channels).T


def unfrozen(d_prime, dose: float):
    """d' in a scan, from d' over realisations that repeat the insertion of noise into one NDCT: d' sqrt(1 - a).

    LDCT at dose a has the noise variance s^2 / a, of which the NDCT's own, s^2, is the same in every realisation. What
    is seen to vary is s^2 (1/a - 1) only, so that d' comes out too high by sqrt((1/a) / (1/a - 1)) = 1 / sqrt(1 - a):
    1.155 at a quarter of the dose. Exact for a linear denoiser, and where inserted noise has the NDCT's texture. Where
    each place is used once, the NDCT's noise varies from image to image, and nothing needs to be corrected.

    Raises: ValueError: unless 0 < dose < 1: at the normal dose nothing is inserted.
    """
    if not 0 < dose < 1:
        raise ValueError(f"repeated insertion has a dose between 0 and 1, not {dose!r}")
    return d_prime * (1 - dose) ** 0.5


def auc(absent_scores, present_scores) -> float:
    """AUC without assumptions: the share of pairs in which the lesion scores higher, ties counting half."""
    absent_scores, present_scores = np.ravel(absent_scores), np.ravel(present_scores)
    m, n = len(absent_scores), len(present_scores)
    ranks = rankdata(np.concatenate([absent_scores, present_scores]))
    return float((ranks[m:].sum() - n * (n + 1) / 2) / (m * n))


KINDS = ("laguerre_gauss", "dense_dog", "gabor")


@cache
def channels(kind: str, size: int, radius_px: float) -> np.ndarray:
    """Channels (C, size * size) for a disc in the middle; the Gaussian of Laguerre-Gauss ones is 6 pixels wider.

    Raises: ValueError: for a kind that is not in ``KINDS``.
    """
    if kind not in KINDS:
        raise ValueError(f"channels are {', '.join(KINDS)}, not {kind!r}")
    if kind == "laguerre_gauss":
        return laguerre_gauss(size, 2 * radius_px + 6)
    return dense_dog(size) if kind == "dense_dog" else gabor(size)


@dataclass(frozen=True)
class Detection:
    """How well a lesion was detected, with jackknife intervals over the noise realisations.

    left_out: (groups, 2), d' and AUC without each group in turn. Two results of the same realisations are compared
    through them (``difference``), since what both share cancels. chance: the AUC of a guess.
    """

    d_prime: float
    d_low: float
    d_high: float
    auc: float
    auc_low: float
    auc_high: float
    realisations: int
    left_out: np.ndarray = field(repr=False, compare=False)
    chance: float = 0.5


def spread(left_out) -> np.ndarray:
    """Jackknife standard error of a result from the same without each group in turn, along the first axis."""
    groups = len(left_out)
    return np.sqrt((groups - 1) / groups * np.sum((left_out - np.mean(left_out, 0)) ** 2, axis=0))


def jackknifed(measure, count: int, groups: int = GROUPS, level: float = 0.95, chance: float = 0.5) -> Detection:
    """A result with its intervals: groups of realisations are left out in turn, and everything is done anew.

    Args: measure: function of the realisations that are used, boolean (count,), that gives d' and AUC.
    """
    group = np.arange(count) * groups // count
    d, area = measure(np.ones(count, bool))
    left_out = np.array([measure(group != g) for g in range(groups)])
    d_reach, area_reach = student.ppf((1 + level) / 2, groups - 1) * spread(left_out)
    return Detection(
        float(d), float(d - d_reach), float(d + d_reach),
        float(area), float(max(area - area_reach, 0)), float(min(area + area_reach, 1)), count, left_out, chance,
    )  # fmt: skip


def certain(count: int, groups: int = GROUPS) -> Detection:
    """Of images without noise, in which the lesion is never missed: d' is infinite."""
    nothing = np.broadcast_to([np.inf, 1.0], (groups, 2))
    return Detection(np.inf, np.inf, np.inf, 1.0, 1.0, 1.0, count, nothing)


def difference(one: Detection, other: Detection) -> tuple[float, float]:
    """d' of one result minus that of another of the same realisations, and its standard error."""
    if np.isinf(one.d_prime) or np.isinf(other.d_prime):
        return (0.0 if one.d_prime == other.d_prime else one.d_prime - other.d_prime), 0.0
    return one.d_prime - other.d_prime, float(spread(one.left_out[:, 0] - other.left_out[:, 0]))


def cho(absent, present, radius_px: float, kind: str = "laguerre_gauss", trained_on=None) -> Detection:
    """Channelised Hotelling observer (CHO): it knows the lesion and the noise as far as its channels see them.

    Args: absent, present: (N, n, n), regions around the lesion's place, n odd. radius_px: of the lesion, in pixels.
        kind: of the channels, see ``channels``. trained_on: two classes (N, n, n) that the template is made on, e.g.
            the plain reconstructions, by a reader who learned on them and keeps to it; None: the images themselves.
    """
    own = channels(kind, np.shape(absent)[-1], radius_px)
    learned = None if trained_on is None else [respond(images, own) for images in trained_on]
    return detect(respond(absent, own), respond(present, own), trained_on=learned)


def npw(absent, present, signal) -> Detection:
    """Non-prewhitening observer (NPW): it knows the lesion alone and weighs every pixel by what the lesion adds there.

    Args: absent, present: as for ``cho``. signal: (n, n), what the lesion adds to the noise-free image.
    """
    own = np.reshape(signal, (1, -1))
    return detect(respond(absent, own), respond(present, own))


def detect(absent, present, folds: int = 2, groups: int = GROUPS, level: float = 0.95, trained_on=None) -> Detection:
    """Train and test a Hotelling template on channel outputs, and say how sure the result is.

    Every fold is tested once with the template of the others, and the results are averaged. Intervals: groups of
    realisations are left out in turn, training and testing anew, so that the luck of the template is in them.

    Args:
        absent, present: (N, C), channel outputs of independent realisations without and with the lesion.
        folds: 2 for halves. groups: left out in turn. level: nominal coverage of the intervals.
        trained_on: two classes (N, C) of the same realisations that the template is made on in their place.
    Returns: Detection. d' = difference of the test scores' means over their pooled SD: it may come out negative. It is
        0 where all images give the same outputs.
    Raises: ValueError: for too few realisations to invert the channels' covariance, values that are not finite;
        NoNoise: for classes that differ without any.
    """
    given = [absent, present, *(trained_on or ())]
    given = [np.asarray(values, np.float64) for values in given]
    if given[0].ndim != 2 or len({values.shape for values in given}) > 1:
        shapes = " and ".join(str(values.shape) for values in given)
        raise ValueError(f"detect takes two classes (N, C) of one shape, got {shapes}")
    if not all(np.isfinite(values).all() for values in given):
        raise ValueError("channel outputs must be finite")
    count, channels = given[0].shape
    training = (count - -(-count // groups)) * (folds - 1) // folds
    if folds < 2 or groups < 2 or 2 * (training - 1) <= channels:
        raise ValueError(
            f"{count} realisations a class are too few to train {channels} channels on {folds - 1} of {folds} folds"
        )
    fold = np.arange(count) % folds

    def measure(used):
        kept = [values[used] for values in given]
        return _tested(*kept[:2], fold[used], folds, kept[-2:])  # the last two: ``trained_on``, else the same again

    return jackknifed(measure, count, groups, level)


def hotelling_template(absent, present) -> np.ndarray:
    """Template (C,) of a Hotelling observer from channel outputs (N, C); zeros where all images give the same.

    Raises: NoNoise: for classes that differ without any noise.
    """
    covariance = np.atleast_2d((np.cov(absent.T) + np.cov(present.T)) / 2)
    difference = present.mean(0) - absent.mean(0)
    rounding = 1e-9 * max(np.abs(absent).max(), np.abs(present).max())
    if np.diag(covariance).max() <= rounding**2:  # the same numbers in every image
        if np.abs(difference).max() > rounding:
            raise NoNoise("channel outputs have no noise: a difference between classes has no d'")
        return np.zeros_like(difference)
    try:
        return np.linalg.solve(covariance, difference)
    except np.linalg.LinAlgError:  # channels that say the same, or nothing
        return np.linalg.pinv(covariance, hermitian=True) @ difference


def _tested(absent, present, fold, folds, trained_on):
    """d' and AUC, means over the folds, each tested with the template of the others."""
    found = []
    for test in range(folds):
        template = hotelling_template(*(values[fold != test] for values in trained_on))
        if not template.any():
            found.append((0.0, 0.5))
            continue
        scores = [values[fold == test] @ template for values in (absent, present)]
        gap, spread = scores[1].mean() - scores[0].mean(), np.sqrt((scores[0].var(ddof=1) + scores[1].var(ddof=1)) / 2)
        if spread <= 1e-9 * np.abs(scores).max():
            if abs(gap) > 1e-9 * np.abs(scores).max():
                raise NoNoise("scores have no noise: a difference between classes has no d'")
            found.append((0.0, 0.5))
            continue
        found.append((gap / spread, auc(*scores)))
    return np.mean(found, axis=0)


def ideal(signal, covariance) -> float:
    """d' of the Hotelling observer of the pixels that knows signal and noise exactly, sqrt(s' K^-1 s): no processing
    of the images can bring more.

    Args: signal: (n, n), what the lesion adds, HU. covariance: (n * n, n * n) of the noise, HU^2.
    """
    signal = np.ravel(signal).astype(np.float64)
    return float(np.sqrt(signal @ np.linalg.solve(covariance, signal)))


def _offsets(size):
    """y, x and radius of each pixel from the middle of a square region, (n, n), pixels."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    return y, x, np.hypot(y, x)
