"""What a denoiser gains beyond the simplest trade of noise for detail, which is to give some of the input back.

The blend b x + (1 - b) f(x) of a reference network f runs from the network (b = 0) to its input (b = 1). Of a known
signal it keeps b + (1 - b) k, and its mean squared error is a quadratic in b, both exactly. Three mean squares a slice
and one k a patient are therefore the whole curve of PSNR against signal kept. A denoiser is better than a blend only
where it lies above this curve.

The curve that counts is its branch from the least error to the input: on the rest a blend loses in both. Of two ways to
read the distance of a denoiser from it, ``less_error`` (dB, beside the blend that keeps as much) is well defined
everywhere, while the kept signal at equal error changes infinitely fast with the error where that is least. Hence
``more_kept`` takes its interval from the first reading: it holds the amounts by which the denoiser could keep less
without being shown to lie off the curve.
"""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import optimize

from ldct_utils.stats import intervals
from ldct_utils.stats.intervals import Interval

SHARES = (-1.0, 1.0)  # where the least error is looked for; under 0 more is taken away than the network does
DIGITS = 9  # of differences; what is smaller is rounding

BETTER = "better than a blend"
BEYOND = "less error than any blend, but keeps less"
LESS = "a blend does better"
WORSE = "worse than its input"
OPEN = "not shown to differ from a blend"
FEW_PATIENTS, FEW_TRAININGS = "not decided: too few patients", "not decided: one training"


# ---- what is measured ----
def mean_squares(given, denoised, target) -> np.ndarray:
    """Mean squares a slice of the errors of input and output and of their product, (3, S), HU^2.

    Args: given, denoised, target: (S, H, W), HU.
    """
    before, after = (np.asarray(image, np.float64) - target for image in (given, denoised))
    return np.stack([(one * other).mean((1, 2)) for one, other in ((before, before), (before, after), (after, after))])


@dataclass(frozen=True)
class Measured:
    """A method on the plane of error and kept signal.

    Attributes:
        squares: (3, slices, seeds), of ``mean_squares``. patient: (slices,), index of each slice's patient.
        kept: (patients, seeds), share of the signal. seeds: of the trainings.
    """

    squares: np.ndarray
    patient: np.ndarray
    kept: np.ndarray
    seeds: tuple

    def gain(self, share: float = 0.0) -> np.ndarray:
        """PSNR of the blend with this ``share`` of the input minus that of the input, dB, (patients, seeds).

        Mean over a patient's slices, so that its mean is the difference of the mean PSNRs of a table.
        """
        before, both, after = self.squares
        error = share**2 * before + 2 * share * (1 - share) * both + (1 - share) ** 2 * after
        slices = 10 * np.log10(before / error)
        return np.stack([slices[self.patient == one].mean(0) for one in range(len(self.kept))])

    def left(self, share: float = 0.0) -> np.ndarray:
        """Share of the signal that the blend with this ``share`` of the input keeps, (patients, seeds)."""
        return share + (1 - share) * self.kept

    def of(self, seeds) -> "Measured":
        """The trainings of these seeds, in this order."""
        at = [self.seeds.index(seed) for seed in seeds]
        return replace(self, squares=self.squares[:, :, at], kept=self.kept[:, at], seeds=tuple(seeds))


def measured(squares: pd.DataFrame, kept: pd.DataFrame) -> Measured:
    """A method from tables of its trainings.

    Args:
        squares: columns patient, row, seed, before, both, after (``mean_squares``), a row a slice and training.
        kept: columns patient, lesion, seed, kept, a row a lesion and training. Lesions of a patient weigh alike, or
            the strong ones, whose energy is some 25 times that of the faint ones, would be all that counts.
    Raises: ValueError: where a patient has no lesion, or a training lacks a slice or lesion of another one.
    """
    seeds = tuple(sorted(squares["seed"].unique()))
    if without := sorted(set(squares["patient"]) - set(kept["patient"])):
        raise ValueError(f"no lesion in the slices of {', '.join(map(str, without))}: leave these patients out")
    wide = squares.pivot(index=["patient", "row"], columns="seed", values=["before", "both", "after"])
    per_lesion = kept.pivot(index=["patient", "lesion"], columns="seed", values="kept").reindex(columns=list(seeds))
    if wide.isna().any(axis=None) or per_lesion.isna().any(axis=None):
        raise ValueError("a training lacks slices or lesions of the others: measure all trainings on the same ones")
    per_patient = per_lesion.groupby(level="patient").mean()
    patient = per_patient.index.get_indexer(wide.index.get_level_values("patient"))
    cube = np.stack([wide[name][list(seeds)].to_numpy() for name in ("before", "both", "after")])
    return Measured(cube, patient, per_patient.to_numpy(), seeds)


# ---- the curve ----
@dataclass(frozen=True)
class Curve:
    """The branch of a reference's blends from the least mean error (share ``best``) to the input (share 1)."""

    base: Measured
    best: float

    def gain(self, share) -> float:
        return float(self.base.gain(share).mean())

    def left(self, share) -> float:
        return float(self.base.left(share).mean())

    def share_of_gain(self, gain: float) -> float:
        """Share of the blend with this gain in dB; the end of the branch where none has it."""
        if gain >= self.gain(self.best):
            return self.best
        return 1.0 if gain <= 0 else float(optimize.brentq(lambda share: self.gain(share) - gain, self.best, 1.0))

    def share_of_kept(self, kept: float) -> float:
        """Share of the blend with the least error among those that keep as much; the input's, 1, where none does.

        A reference that keeps all of the signal or more has nothing to trade: then it is the one with the least error.
        """
        network = float(self.base.kept.mean())
        return self.best if network >= 1 else float(np.clip((kept - network) / (1 - network), self.best, 1))

    def slope(self, share: float, step: float = 1e-4) -> float:
        """dB by which the gain changes for each unit of kept signal along the branch; 0 at its ends, where the blend
        to compare with does not change any more."""
        if not self.best < share < 1:
            return 0.0
        rise = (self.gain(share + step) - self.gain(share - step)) / (2 * step)
        return min(0.0, rise / (1 - float(self.base.kept.mean())))


def curve(base: Measured) -> Curve:
    """The curve of a reference network's blends."""
    found = optimize.minimize_scalar(lambda share: -base.gain(share).mean(), bounds=SHARES, method="bounded")
    return Curve(base, float(found.x))


# ---- an arm beside it ----
def together(arm: Measured, base: Measured) -> tuple[Measured, Measured]:
    """As many trainings of both, paired: by the seeds that they share; if they share none, in the order of the seeds.

    Trainings of two methods are independent, so any pairs will do; equal seeds show the networks equal patches.
    """
    shared = [seed for seed in arm.seeds if seed in base.seeds]
    if shared:
        return arm.of(shared), base.of(shared)
    count = min(len(arm.seeds), len(base.seeds))
    return arm.of(arm.seeds[:count]), base.of(base.seeds[:count])


def less_error(arm: Measured, to: Curve, shift: float = 0.0) -> np.ndarray:
    """Gain of an arm beyond that of the blend which keeps as much signal, dB, (patients, seeds).

    The blend is found for the means. For a patient and seed the difference is taken along the curve's tangent there, so
    that the mean is the distance from the curve and the spread is, to first order, that of the distance (delta method).

    Args: arm: as many seeds as the curve's, paired with them. shift: kept signal that the arm is thought to lack.
    """
    share = to.share_of_kept(float(arm.kept.mean()) - shift)
    gap = arm.gain() - to.base.gain(share) - to.slope(share) * (arm.kept - shift - to.base.left(share))
    return np.round(gap, DIGITS)


def more_kept(arm: Measured, to: Curve, draws: int = 10_000, seed: int = 0) -> Interval:
    """Signal that an arm keeps beyond the blend of equal error, with its interval.

    An arm with less error than any blend is set beside that with the least; one that is worse than the input, beside
    the input. The interval ends where ``less_error``, with the arm shifted by so much, begins to exclude 0. As the
    blend keeps no less than that with the least error and no more than the input, the interval reaches no further than
    those of the differences to these two.
    """

    def interval(values):
        return intervals.patient_bootstrap(np.round(values, DIGITS), draws=draws, seed=seed)

    mean = round(float(arm.kept.mean()) - to.left(to.share_of_gain(float(arm.gain().mean()))), DIGITS)
    to_best, to_input = interval(arm.kept - to.base.left(to.best)), interval(arm.kept - 1)
    if np.isnan(to_best.low):
        return replace(to_best, mean=mean)
    ends = to_input.low, max(to_best.high, to_input.low + 1e-6)

    def shifted(end):
        return lambda shift: getattr(interval(less_error(arm, to, shift)), end)

    def crossing(end):
        first, last = (shifted(end)(shift) for shift in ends)
        if first <= 0:
            return ends[0]
        return ends[1] if last >= 0 else optimize.brentq(shifted(end), *ends, xtol=1e-10)

    low, high = crossing("low"), crossing("high")
    if shifted("low")(ends[1]) > 0:  # less error than any blend: nothing on the curve is as good
        low, high = to_best.low, to_best.high
    if shifted("high")(ends[0]) < 0:  # more error than the input
        low, high = to_input.low, to_input.high
    return replace(to_best, mean=mean, low=round(float(low), DIGITS), high=round(float(high), DIGITS))


@dataclass(frozen=True)
class Verdict:
    """An arm beside the blends: gain (dB) and kept with intervals, the same minus the reference network's, and both
    distances from the curve; positive = better. ``share``: of the input in the blend of equal error. ``answer``: one of
    the module's sentences."""

    gain: Interval
    kept: Interval
    gain_difference: Interval
    kept_difference: Interval
    less_error: Interval
    more_kept: Interval
    share: float
    answer: str


def compare(arm: Measured, base: Measured, draws: int = 10_000, seed: int = 0) -> Verdict:
    """An arm beside the blends of a reference.

    Args: arm, base: as many trainings of each, paired (``together``). draws, seed: of the bootstrap over patients.
    Raises: ValueError: for unequal numbers of trainings or patients.
    """
    if arm.kept.shape != base.kept.shape:
        raise ValueError(f"arm and reference need equal patients and seeds, got {arm.kept.shape}, {base.kept.shape}")
    to = curve(base)
    points = arm.gain(), arm.kept, arm.gain() - base.gain(), arm.kept - base.kept, less_error(arm, to)
    gain, *others, less = (intervals.patient_bootstrap(values, draws=draws, seed=seed) for values in points)
    more = more_kept(arm, to, draws, seed)
    return Verdict(gain, *others, less, more, to.share_of_gain(gain.mean), answer(gain, less, more))


def answer(gain: Interval, less: Interval, more: Interval) -> str:
    """The verdict in words, from the intervals of the gain and of both distances (``Verdict``)."""
    if np.isnan(less.low):
        return FEW_PATIENTS
    if less.seeds < 2:
        return FEW_TRAININGS
    if gain.high < 0:
        return WORSE
    if less.low > 0:
        return BEYOND if more.high < 0 else BETTER
    return LESS if less.high < 0 or more.high < 0 else OPEN
