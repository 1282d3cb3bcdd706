"""How much dose a denoiser saves: doses at which two curves over dose are worth the same.

Curves are rising (higher is better) and are given at the same doses for the same patients, (patients, doses). A value
that is never reached gives infinity, one that is exceeded at the lowest dose gives 0: what lies beyond the doses that
were looked at is not known, and is not extrapolated.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import isotonic_regression

from ldct_utils.stats.intervals import bootstrap_interval, patient_bootstrap
from ldct_utils.task_based import observers

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


def in_percent(dose: float, low: float, high: float, least: float, most: float, linear: bool = False) -> str:
    """A dose in % of the normal one with its interval, e.g. ``59 % [55, more than 100]``; ends of the doses are bounds.

    Args: dose, low, high: fractions; 0 and infinity as of ``dose_reaching``. least, most: of the doses looked at.
    """

    def one(value):
        if value < least:
            return f"less than {100 * least:g}"
        return (
            f"more than {100 * most:g}"
            if value > most
            else f"{100 * value:.2g}"
            if value < 0.995
            else f"{100 * value:.0f}"
        )

    within = "" if np.isnan(low) else f" [{one(low)}, {one(high)}]"
    return f"{one(dose)} %{within}" + " (linear)" * linear


def in_words(found, doses) -> pd.DataFrame:
    """Equivalent doses as they are read: a row a measure and method, those that are as good as most dose first.

    Args: found: rows of ``bought`` of one lesion. doses: those looked at.
    Returns: columns measure, method, the readings ``worth`` and ``full dose``, as of ``in_percent``, and judge: the
        measure with the sign of d′.
    """
    ends = found[["dose", "low", "high"]].assign(least=doses[0], most=doses[-1], linear=found["linear"])
    said = found.assign(said=[in_percent(*one) for one in ends.itertuples(index=False)])
    order = found[found["reading"] == "worth"].sort_values("dose", ascending=False, kind="stable")
    told = said.pivot(index=["measure", "method"], columns="reading", values="said")
    told = told.loc[list(zip(order["measure"], order["method"]))].reset_index().rename_axis(columns=None)
    return told.assign(judge=told["measure"].str.replace("'", "′"))


def best_of(found, methods) -> pd.DataFrame:
    """Of these methods the one that is worth most, a row a measure. Args: found: rows of ``bought`` of one lesion."""
    part = found[(found["reading"] == "worth") & found["method"].isin(list(methods))]
    return part.sort_values("dose", ascending=False, kind="stable").drop_duplicates("measure").sort_index()


def by_method(found, keys: dict) -> dict:
    """Texts of equivalent doses as a run keeps them: {``worth_cho``: {method: text}, ...}, ``full_dose_`` first.

    Args: found: rows of ``bought`` of one lesion. keys: {what a measure is called in the key: its name}.
    """
    text = found.set_index(["reading", "measure", "method"])["text"].sort_index(kind="stable")
    return {
        f"{reading.replace(' ', '_')}_{key}": text[reading, name].to_dict()
        for reading in ("full dose", "worth") for key, name in keys.items()
    }  # fmt: skip


def check(doses, low_dose: float, metrics, kind: str):
    """Refuse parameters of a curve over dose before anything is computed.

    Raises: ValueError: for doses that do not rise to the full one or hold no ``low_dose``, no metric, or channels
        (``kind``) that no Hotelling observer has.
    """
    if not metrics:
        raise ValueError("metrics is empty: give at least one image metric to set beside d'")
    if kind not in observers.KINDS:
        raise ValueError(f"observer_channels are {', '.join(observers.KINDS)}, not {kind!r}")
    if low_dose not in doses or doses != sorted(doses) or doses[-1] != 1:
        raise ValueError(f"doses must rise, end with 1 and hold low_dose ({low_dose:g}), got {doses}")


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


def gains(table, doses, methods, base: str = "FBP", draws: int = 2000, seed: int = 0) -> pd.DataFrame:
    """d' of every method less that of the base, with the same noise, a row a lesion, method, observer and dose.

    Args: table: of ``of_patients``. doses, methods, base: as of ``bought``.
    Returns: lesion, method, observer, dose, and mean, low and high over patients.
    """
    rows, seen = [], table[table["quantity"] == "d'"]
    for lesion, method in ((one, m) for one in sorted(seen["lesion"].unique()) for m in methods):
        for observer in seen["observer"].unique():
            ours, theirs = (curve(seen, doses, "d'", observer, lesion, one) for one in (method, base))
            for dose, gap in zip(doses, (ours - theirs).T):
                span = patient_bootstrap(gap, draws=draws, seed=seed)
                rows.append({"lesion": lesion, "method": method, "observer": observer, "dose": dose,
                             "mean": span.mean, "low": span.low, "high": span.high})  # fmt: skip
    return pd.DataFrame(rows)


def uncertainty(measured, table) -> pd.DataFrame:
    """How sure d' is within a patient, and how much patients differ: means over lesions, by observer, method and dose.

    Args: measured: rows of d' with its jackknife interval low, high. table: of ``of_patients``.
    Returns: observer, method, dose, ``±, one patient`` (half of the interval) and ``SD between patients``.
    """
    keys = ["observer", "method", "dose"]
    inside = measured[measured["quantity"] == "d'"].assign(half=lambda t: (t["high"] - t["low"]) / 2)
    between = table.query('quantity == "d\'" and lesion >= 0').groupby([*keys, "lesion"])["value"].std()
    widths = inside.groupby(keys, sort=False)["half"].mean().to_frame("±, one patient")
    widths["SD between patients"] = between.groupby(keys).mean()
    return widths.reset_index()


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
