"""The plane of error and contrast kept: what is measured of networks and filters there, and what it says of a loss.

``blending`` holds the mathematics of blends; here are patients with their known lesions, the tables, and the answer.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from ldct_utils.ct import planted
from ldct_utils.report.sentences import capital
from ldct_utils.stats import blending, intervals
from ldct_utils.task_based import resolution

SIDE = 56  # of a cut-out around a lesion, pixels
QUANTITIES = ("gain", "kept", "gain_difference", "kept_difference", "less_error", "more_kept")
UNDECIDED = (blending.OPEN, blending.FEW_PATIENTS, blending.FEW_TRAININGS)  # answers that decide nothing
SPECK = 1.5  # HU; what is under it in a signal is rounding of the images


def heads(against: str) -> dict:
    """Heads of the columns that a reader sees of ``comparisons``, with ``linear`` joined."""
    return {
        "method": "loss", ("gain", "gain_low", "gain_high"): f"gain in PSNR of HU against the {against}, dB [95 %]",
        ("kept", "kept_low", "kept_high"): "contrast kept, %",
        ("more_kept", "more_kept_low", "more_kept_high"): "kept beyond the blend of equal error, points",
        ("less_error", "less_error_low", "less_error_high"): "dB beyond the blend that keeps as much",
        "linear": "kept by a linear filter that blurs strong edges as much, %", "answer": "answer",
    }  # fmt: skip


def piles(cohort, targets) -> dict[str, dict]:
    """The test patients that have lesions: {patient: ``row`` (S,); ``ldct``, ``absent_ldct`` and ``targets`` (S, H, W),
    HU; ``signal``, what its lesions add, HU; ``nearest``, the lesion that each pixel is nearest to}.

    Args: cohort: with slices without their lesions. targets: names of its images, e.g. ``ndct``.
    Raises: ValueError: for a cohort that has no such slices.
    """
    if cohort.absent_ldct is None:
        raise ValueError(
            f"cohort {cohort.id} has no twins without lesions, so no signal is known: take simulated patients"
        )
    found, tested = {}, cohort.slices[cohort.slices["split"] == "test"]
    for patient, part in tested.groupby("patient", sort=True):
        at = part["row"].to_numpy()
        images = {name: np.asarray(getattr(cohort, name)[at], np.float32) for name in ("ldct", "absent_ldct", *targets)}
        images |= {"row": at, "signal": images["ldct"] - images["absent_ldct"]}
        if images["signal"].any():
            found[patient] = images | {"nearest": planted.territories(np.asarray(cohort.lesion_masks[at]))}
    return found


def lesions_in(pile) -> int:
    """How many lesions the slices of a patient show."""
    return len(np.unique(pile["nearest"][pile["signal"] != 0]))


def outputs(denoise: Callable, pile) -> list[np.ndarray]:
    """Output of the slices with and without lesions, (S, H, W), float64 HU."""
    return [np.asarray(denoise(pile[name]), np.float64) for name in ("ldct", "absent_ldct")]


def rows(head: dict, present, absent, pile, targets) -> tuple[list[dict], list[dict]]:
    """Rows of the tables of slices and of lesions: a patient, and what a method puts out with and without lesions."""
    squares = [
        head | dict(zip(("row", "target", "before", "both", "after"), (row, target, *values)))
        for target in targets
        for row, values in zip(pile["row"], blending.mean_squares(pile["ldct"], present, pile[target]).T)
    ]
    kept = planted.kept_by_lesion(absent, present, pile["signal"], pile["nearest"])
    return squares, [head | {"lesion": number, "kept": share} for number, share in kept.items()]


def measured(denoisers, patients: dict, variants: Callable, targets) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables of slices and of lesions of several methods.

    Args:
        denoisers: (method, seed, strength, function of slices). patients: from ``piles``.
        variants: from a method, its outputs with and without lesions and a pile to (name, outputs with and without).
    """
    squares, lesions = [], []
    for method, seed, strength, denoise in denoisers:
        for patient, pile in patients.items():
            for name, *images in variants(method, *outputs(denoise, pile), pile):
                head = {"method": name, "seed": seed, "strength": strength, "patient": patient}
                ours, parts = rows(head, *images, pile, targets)
                squares += ours
                lesions += parts
    return pd.DataFrame(squares), pd.DataFrame(lesions)


def kept_by_linear_filter(patients: dict, frequencies, transfer) -> float:
    """Contrast that a linear filter of this TTF keeps, mean over lesions, then patients.

    Args: patients: from ``piles``. frequencies, transfer: from ``resolution.transferred``.
    """
    each = []
    for pile in patients.values():
        passed = resolution.filtered(pile["signal"], frequencies, transfer)
        each.append(np.mean([*planted.kept_by_lesion(0 * passed, passed, pile["signal"], pile["nearest"]).values()]))
    return float(np.mean(each))


def of_method(squares, lesions, name: str, target: str, strength=None) -> blending.Measured:
    """A method, or a filter of one strength, on the plane. Args: squares, lesions: the tables of ``rows``."""
    parts = [table[table["method"] == name] for table in (squares[squares["target"] == target], lesions)]
    parts = parts if strength is None else [part[part["strength"] == strength] for part in parts]
    return blending.measured(*parts)


def row_of(name: str, target: str, found: blending.Verdict) -> dict:
    """A verdict as a row of the table ``comparisons``."""
    row = {"method": name, "target": target, "answer": found.answer, "share": found.share,
           "seeds": found.gain.seeds, "patients": found.gain.patients}  # fmt: skip
    for quantity in QUANTITIES:
        one = getattr(found, quantity)
        row |= {quantity: one.mean, f"{quantity}_low": one.low, f"{quantity}_high": one.high}
    return row


def in_percent(table) -> pd.DataFrame:
    """A table of ``row_of`` with its shares of the contrast (kept, more_kept, linear) in %."""
    names = [n for n in table if n.startswith(("kept", "more_kept")) or n == "linear"]
    return table.assign(**100 * table[names])


def filter_points(squares, lesions, target: str, filters) -> pd.DataFrame:
    """Where filters lie on the plane: name, strength, gain (dB), kept. Args: filters: (name, strength) pairs."""
    found = [(n, strength, of_method(squares, lesions, n, target, strength)) for n, strength in filters]
    return pd.DataFrame(
        [(name, strength, one.gain().mean(), one.kept.mean()) for name, strength, one in found],
        columns=["name", "strength", "gain", "kept"],
    )


# ---- the answer ----
def undecided(faults: dict, compared: bool, patients: int, trainings: int, judged: int) -> list[str]:
    """Why nothing can be decided, in words; empty where it can.

    Args: faults: {control: what it came out as} of those that came out wrong. compared: whether there is a loss to
        compare. patients. trainings: of the reference. judged: losses that were trained more than once.
    """
    enough = patients >= intervals.MIN_PATIENTS and trainings > 1
    reasons = [f"“{name}” came out as “{said}”" for name, said in faults.items() if enough]
    reasons += ["there is no loss to compare"] * (not compared)
    reasons += [f"under {intervals.MIN_PATIENTS} patients give no interval"] * (patients < intervals.MIN_PATIENTS)
    reasons += ["one training of the MSE network shows no spread"] * (trainings < 2)
    return reasons + ["no loss was trained more than once"] * (compared and not judged)


def said(judged, reasons: list[str], say: Callable, against: str = "", other: dict | None = None, of: str = "") -> list:
    """The answer, in sentences; the first one is the finding.

    Args:
        judged: rows of ``comparisons`` by method, best first. reasons: from ``undecided``. say: method to words.
        against: what errors are measured from. other: {method: its answer} where they are measured from ``of``.
    """
    if reasons:
        return [f"Not decided: whether a loss is better than a blend, because {reasons[0]}."]
    groups = {answer: list(part.index) for answer, part in judged.groupby("answer", sort=False)}
    better, beyond = groups.get(blending.BETTER, []), groups.get(blending.BEYOND, [])
    lost = len(groups.get(blending.LESS, [])) + len(groups.get(blending.WORSE, []))
    has, keeps = ("has", "keeps") if len(beyond) == 1 else ("have", "keep")
    also = [f"{', '.join(map(say, beyond))} {has} less error than any blend, but {keeps} less."] if beyond else []
    which = (
        f"{'all' if lost == len(judged) else f'{lost} of'} {len(judged)} losses" if len(judged) > 1 else "the one loss"
    )
    also += [f"A blend of the MSE network is better than {which}."] if lost else []
    if other:
        also.append(elsewhere([name for name in judged.index if other.get(name) == blending.BETTER], better, say, of))
    if not better:
        count = "The one loss was not shown" if len(judged) == 1 else f"None of {len(judged)} losses was shown"
        return [f"{count} to be better than a blend of the MSE network with its input.", *also]
    first = f"Against the {against} " if against else ""
    blend = "of a lesion's contrast than the blend of the MSE network with its input that has the same error"
    if len(better) > 1:
        who = f"{'all' if len(better) == len(judged) else f'{len(better)} of'} {len(judged)} losses"
        low, high = (f"{100 * judged.loc[better, 'more_kept'].agg(end):.1f}" for end in ("min", "max"))
        more = low if low == high else f"{low} to {high}"
        return [capital(f"{first}{who} keep {more} percentage points more {blend}."), *also]
    row = judged.loc[better[0]]
    count = [f"1 of {len(judged)} losses lies above the blends."] if len(judged) > 1 else []
    return [
        f"{first}{say(better[0])} keeps {100 * row['more_kept']:.1f} percentage points more {blend} (95 % interval "
        f"{100 * row['more_kept_low']:.1f} to {100 * row['more_kept_high']:.1f}).", *count, *also,
    ]  # fmt: skip


def elsewhere(there: list, here: list, say: Callable, of: str) -> str:
    """Which losses are better than a blend where errors are measured from something else, in a sentence.

    Args: there, here: methods that are better there, and by the answer. say: method to words. of: what is there.
    """
    names = [say(name) for name in there]
    if not names:
        return f"Against the {of} no loss was shown to be better than a blend."
    who = f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
    only = "only " if set(there) < set(here) else ""
    also = ", too" if set(there) == set(here) else ""
    return f"Against the {of} {only}{who} {'was' if len(names) == 1 else 'were'} shown to be better than a blend{also}."


def least_said(to: blending.Curve, against: str, other: blending.Curve | None = None, of: str = "") -> str:
    """Which blend has the least error, in a sentence.

    Args: to: the blends. against: what errors are measured from. other, of: the same for the training target.
    """

    def blend(curve):
        off = round(-100 * curve.best)
        return (
            f"removes {abs(off)} % {'more' if off > 0 else 'less'} than the MSE network" if off else "is that network"
        )

    least, own = to.gain(to.best), to.gain(0)
    text = f"Against the {against} the blend with the least error {blend(to)} ({least:.1f} dB, the network {own:.1f})"
    return text + (f"; against the {of}, the training target, it {blend(other)}." if other else ".")


def pairs_said(different: int, pairs: int, trainings: int) -> str:
    """How many pairs of trainings of the reference patients alone would call different; empty where there is no pair.

    Args: pairs: ordered, a mix of the one beside the blends of the other.
    """
    if not pairs:
        return ""
    return (
        f"With intervals over patients alone, {different} of {pairs} ordered pairs of {trainings} MSE trainings would "
        "wrongly count as different."
    )


def linear_said(linear: float, kept: intervals.Interval) -> str:
    """Whether blur explains what the reference loses, in a sentence.

    Args: linear: what a linear filter that blurs strong edges as much keeps. kept: what the network keeps.
    """
    so = ", so blur of strong edges does not explain the loss" if linear > kept.high else ""
    return f"A linear filter that blurs strong edges as much would keep {100 * linear:.1f} %{so}."


def half_widths(judged) -> dict[str, float | None]:
    """{quantity: half the widest interval of the losses}; None where none is known."""
    names = ("gain_difference", "kept_difference", "more_kept", "less_error")
    widths = {name: ((judged[f"{name}_high"] - judged[f"{name}_low"]) / 2).max() for name in names}
    return {name: None if np.isnan(width) else float(width) for name, width in widths.items()}


def width_said(judged, wanted_db: float, wanted_kept: float) -> str:
    """How wide the intervals of the losses are against what was wanted, in a sentence."""
    widths = half_widths(judged)
    if None in widths.values():
        return "No interval could be given."
    in_db, contrast = widths["gain_difference"], max(widths["kept_difference"], widths["more_kept"])

    def aim(value, wanted):
        return "met" if value <= wanted else "missed"

    return (
        f"The aim in dB was {aim(in_db, wanted_db)}: differences from the MSE network are known to ±{in_db:.2f} dB "
        f"(wanted: {wanted_db:g}). That in contrast was {aim(contrast, wanted_kept)}: ±{100 * contrast:.1f} "
        f"percentage points (wanted: {100 * wanted_kept:g}). Distances in dB from a blend had no aim and are known to "
        f"±{widths['less_error']:.1f} dB."
    )


def headline(
    order, judged, reasons: list[str], words: list[str], say: Callable, wanted_db: float, wanted_kept: float
) -> dict:
    """What a finished run says of its losses, for tables of several runs.

    Args:
        order: rows of ``comparisons`` by method, best first; judged: those of more than one training. reasons: from
            ``undecided``. words: from ``said``. say: method to words. wanted_db, wanted_kept: half-widths of intervals
            that were wanted.
    Returns: ``spans`` of every quantity, the answers, and how wide the intervals are.
    """
    widths = half_widths(judged)
    known = None not in widths.values()
    wide = known and max(widths["kept_difference"], widths["more_kept"]) > wanted_kept
    names = dict(zip(QUANTITIES, ("gain_db", "kept", "gain_difference_db", "kept_difference", "less_error_db",
                                  "more_kept")))  # fmt: skip
    return {
        "answer": " ".join(words), "decided": not reasons, "reasons": reasons,
        "better": [] if reasons else [say(name) for name in judged.index[judged["answer"] == blending.BETTER]],
        "answers": answers(order, say),
        **{name: spans(order, quantity, say) for quantity, name in names.items()},
        "half_width_db": widths["gain_difference"], "half_width_kept": widths["kept_difference"],
        "half_width_more_kept": widths["more_kept"], "half_width_less_error_db": widths["less_error"],
        "wanted_kept": wanted_kept, "wanted_db": wanted_db,
        "reached": bool(known and widths["gain_difference"] <= wanted_db and not wide),
    }  # fmt: skip


def answers(table, say: Callable) -> dict[str, str]:
    """{loss in words: its answer}. Args: table: rows of ``comparisons`` by method."""
    return {say(name): answer for name, answer in table["answer"].items()}


def spans(table, quantity: str, say: Callable) -> dict[str, list]:
    """{loss in words: [mean, low, high]} of a quantity; None in place of a bound that is not known."""
    parts = table[[quantity, f"{quantity}_low", f"{quantity}_high"]].astype(object)
    return {say(name): [None if pd.isna(v) else float(v) for v in row] for name, *row in parts.itertuples()}


# ---- one lesion to look at ----
def typical_lesion(lesions, name: str, base: str) -> tuple:
    """(patient, lesion) with the median difference of what a method and the reference keep."""
    kept = lesions.groupby(["method", "patient", "lesion"])["kept"].mean().unstack("method")
    gap = (kept[name] - kept[base]).sort_values()
    return gap.index[len(gap) // 2]


def place(pile, lesion: int) -> tuple[int, list[int], np.ndarray, float]:
    """(slice of the patient in which a lesion adds most, corner of its cut-out, its middle in that, radius), pixels."""
    own = np.where(pile["nearest"] == lesion, np.abs(pile["signal"]), 0)
    at = int((own**2).sum((1, 2)).argmax())
    inside = np.argwhere(own[at] > own[at].max() / 2)
    corner = [int(np.clip(m - SIDE // 2, 0, n - SIDE)) for m, n in zip(inside.mean(0), own.shape[1:])]
    return at, corner, inside.mean(0) - corner, np.ptp(inside, axis=0).max() / 2 + 4


def neighbours(pile, lesion: int) -> int:
    """How many other lesions show in the cut-out of a lesion."""
    at, (top, left), *_ = place(pile, lesion)
    cut = np.s_[at, top : top + SIDE, left : left + SIDE]
    there = np.unique(pile["nearest"][cut][np.abs(pile["signal"][cut]) > SPECK])
    return int((there != lesion).sum())


def example_said(kept, best: str, others: int, place: str) -> tuple[str, str]:
    """Finding and reading aid of a cut-out.

    Args: kept: %, of reference, blend and loss. best: the loss in words. others: from ``neighbours``, counted with it.
        place: patient, lesion and anatomy.
    """
    of, whose = ("In this cut-out", " of the lesions' contrast") if others else ("Of this lesion", "")
    neighbour = "; what lies outside the circle is another lesion" * bool(others)
    return (
        f"{of} the MSE network keeps {kept[0]:.0f} %{whose} and {best} {kept[2]:.0f} %.",
        f"{place}, one training each. Below: with minus without all lesions{neighbour}. The blend has as much error as "
        "the loss, or the least that a blend can have.",
    )


def cut_out(pile, lesion: int, target: str, plain: Callable, other: Callable, share: float) -> np.ndarray:
    """Target, LDCT, reference, blend of equal error and a method around one lesion: (2, 5, SIDE, SIDE), HU; the second
    row is what each passes on of the lesion.

    Args: plain, other: the reference and the method, of slices (N, H, W) in HU. share: of the input in the blend.
    """
    at, (top, left), *_ = place(pile, lesion)
    one = {key: value[at : at + 1] for key, value in pile.items()}
    given, ours, theirs = [one["ldct"], one["absent_ldct"]], outputs(plain, one), outputs(other, one)
    mixed = [share * x + (1 - share) * out for x, out in zip(given, ours)]
    wanted = [one[target], one[target] - one["signal"]]
    with_lesion, without = zip(wanted, given, ours, mixed, theirs)
    images = np.stack([np.concatenate(with_lesion), np.concatenate(with_lesion) - np.concatenate(without)])
    return images[:, :, top : top + SIDE, left : left + SIDE]
