"""How much dose a denoiser buys: doses at which two curves over dose are worth the same.

Curves are rising (higher is better) and are given at the same doses for the same patients, (patients, doses). A value
that is never reached gives infinity, one that is exceeded at the lowest dose gives 0: what lies beyond the doses that
were looked at is not known, and is not extrapolated.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import isotonic_regression

from ldct_utils.stats.intervals import bootstrap_interval, patient_bootstrap

WHAT = ["quantity", "observer", "lesion", "method"]  # of a curve over dose; observer is "" for metrics of images
ALL = -1  # in place of a lesion: all of them, or a metric of the whole image


@dataclass(frozen=True)
class Dose:
    """A dose, fraction of the normal one, with its interval (NaN where there are too few patients for one).

    ``linear``: the values were interpolated as they are, not their logarithms; ``text`` says so.
    """

    dose: float
    low: float
    high: float
    lowest: float
    highest: float
    linear: bool = False

    @property
    def text(self) -> str:
        """E.g. ``0.31 [0.27, > 1]``, or ``0.31 [0.27, > 1] (linear)``."""
        within = "" if np.isnan(self.low) else f" [{self._one(self.low)}, {self._one(self.high)}]"
        return self._one(self.dose) + within + " (linear)" * self.linear

    def _one(self, dose):
        if np.isinf(dose):
            return f"> {self.highest:g}"
        return f"< {self.lowest:g}" if dose == 0 else f"{dose:.2g}"


def rising(values, direction: int = 1, linear: bool = False) -> np.ndarray:
    """Values on a scale on which interpolation over log dose is exact for noise: logarithms, rising with quality.

    d' of a linear system goes with the root of the dose, an error made of noise with its inverse.

    Args: direction: 1 if higher is better, -1 if lower is. linear: take the values as they are, no logarithms.
    Raises: ValueError: for values that have no logarithm. A d' near 0 may be measured below 0.
    """
    values = np.asarray(values, np.float64)
    if not linear and not (values > 0).all():
        raise ValueError(
            f"the logarithm needs positive values, the least is {values.min():.3g}: take stronger signals or more "
            "realisations, or linear=True and say so"
        )
    return direction * (values if linear else np.log(values))


def dose_reaching(doses, values, target: float) -> float:
    """Lowest dose at which a curve reaches ``target``, interpolated linearly in log dose.

    Args: doses: (D,), rising. values: (D,); where they fall with the dose, they are pooled (isotonic regression).
    Returns: a dose between the first and the last; 0 if the first is good enough, infinity if the last is not.
    """
    doses = np.asarray(doses, np.float64)
    if doses.ndim != 1 or len(doses) < 2 or (np.diff(doses) <= 0).any() or doses[0] <= 0:
        raise ValueError(f"doses must rise and be positive, two or more, got {doses}")
    curve = isotonic_regression(np.asarray(values, np.float64)).x
    slack = 1e-9 * max(np.ptp(curve), 1e-300)
    if target < curve[0] - slack:
        return 0.0
    if target > curve[-1] + slack:
        return float("inf")
    upper = int(np.argmax(curve >= target - slack))
    if upper == 0:
        return float(doses[0])
    share = (target - curve[upper - 1]) / (curve[upper] - curve[upper - 1])
    return float(np.exp(np.log(doses[upper - 1]) + min(share, 1.0) * np.log(doses[upper] / doses[upper - 1])))


def equivalent(
    doses, curve, reference, at: int = -1, draws: int = 2000, level: float = 0.95, seed: int = 0, linear: bool = False
) -> Dose:
    """Dose at which the mean of ``curve`` reaches what the mean of ``reference`` has at dose number ``at``.

    The interval is from drawing patients with replacement, the same for both curves: it knows how patients differ, and
    through them how noise realisations do.

    Args:
        curve, reference: (patients, doses), as from ``rising``. at: index of a dose, the last for the full one.
        linear: whether ``rising`` left them as they are; the result says so.
    """
    curve, reference = np.asarray(curve, np.float64), np.asarray(reference, np.float64)
    if curve.shape != reference.shape or curve.ndim != 2 or curve.shape[1] != len(doses):
        raise ValueError(f"curves need one shape (patients, doses), got {curve.shape} and {reference.shape}")
    if not (np.isfinite(curve).all() and np.isfinite(reference).all()):
        raise ValueError("curves over dose must be finite")
    found = dose_reaching(doses, curve.mean(0), reference[:, at].mean())

    def again(weights):
        return [dose_reaching(doses, c, t) for c, t in zip(weights @ curve, weights @ reference[:, at])]

    low, high = bootstrap_interval(again, len(curve), draws, level, seed, "inverted_cdf")  # some are infinite
    return Dose(found, float(low), float(high), float(doses[0]), float(doses[-1]), linear)


def of_patients(measured) -> pd.DataFrame:
    """Means over training seeds, by patient; of observers also over lesions, as lesion ``ALL``.

    Args: measured: columns of ``WHAT``, dose, patient, seed and value.
    """
    keys = [*WHAT, "dose", "patient"]
    each = measured.groupby(keys, sort=False, as_index=False)["value"].mean()
    observed = each[each["observer"] != ""]
    together = observed.groupby([k for k in keys if k != "lesion"], sort=False, as_index=False)["value"].mean()
    return pd.concat([each, together.assign(lesion=ALL)], ignore_index=True)


def curve(table, doses, quantity: str, observer: str, lesion: int, method: str) -> np.ndarray:
    """One curve over dose, (patients, doses), of the table of ``of_patients``."""
    part = table.query("quantity == @quantity and observer == @observer and lesion == @lesion and method == @method")
    return part.pivot(index="patient", columns="dose", values="value")[doses].to_numpy()


def means(table, draws: int = 2000, seed: int = 0) -> pd.DataFrame:
    """A row a curve (``WHAT``) and dose: mean over patients with its interval low, high."""
    rows = []
    for key, part in table.groupby([*WHAT, "dose"], sort=False):
        found = patient_bootstrap(part["value"], draws=draws, seed=seed)
        rows.append(dict(zip([*WHAT, "dose"], key)) | {"mean": found.mean, "low": found.low, "high": found.high})
    return pd.DataFrame(rows)


def bought(table, doses, at: int, measures: dict, methods, base: str = "FBP", draws: int = 2000, seed: int = 0):
    """Both equivalent doses of every method, by every measure, of each lesion and of all together.

    Where one value is not above 0 it has no logarithm, and the curves are interpolated as they are.

    Args:
        table, doses: as for ``curve``. at: index of the dose at which methods are judged. methods, base: their names.
        measures: {name: (quantity, observer, direction: 1 if higher is better)}.
    Returns: measure, lesion, method, reading, dose, low, high, text and linear (see ``Dose``). Reading ``full dose``:
        where the method reaches what the base has at the last dose; ``worth``: where the base reaches what the method
        has at dose number ``at``.
    """
    rows = []
    for name, (quantity, observer, direction) in measures.items():
        lesions = table.lesion[(table.quantity == quantity) & (table.observer == observer)].unique()
        for method, lesion in ((m, one) for m in methods for one in sorted(lesions)):
            pair = np.stack([curve(table, doses, quantity, observer, lesion, one) for one in (base, method)])
            linear = not (pair > 0).all()
            ours, theirs = rising(pair, direction, linear)[::-1]
            for reading, args in {"full dose": (ours, theirs, -1), "worth": (theirs, ours, at)}.items():
                found = equivalent(doses, *args, draws, seed=seed, linear=linear)
                rows.append(
                    {"measure": name, "lesion": lesion, "method": method, "reading": reading, "dose": found.dose,
                     "low": found.low, "high": found.high, "text": found.text, "linear": linear}
                )  # fmt: skip
    return pd.DataFrame(rows)
