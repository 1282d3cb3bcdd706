"""Which observers may be believed: rules that one must not break before known denoisers.

An observer is asked about images of which the answer is known (``tasks``, ``panel``). It fails if it

- sees lesions where there are none: at zero contrast its AUC differs from that of a guess;
- gains nothing from dose: d' of the plain image is not shown to rise from the lowest dose to the full one, where noise
  is all that hides the lesion (in patients anatomy does as well);
- sees more than there is: its AUC exceeds that of an observer who knows everything, of the same scan unprocessed. This
  is asked of the AUC, since a score that is not normally distributed can have any d';
- prefers a blur of 3 pixels to the plain image where detail counts (a lesion of 1 mm, round or elongated). On a large
  faint lesion a blur may win;
- does not notice an eraser: lesions of which most is taken away are not shown to be harder to see.

A fault that must be shown is one of many that are looked for: its level is 5 % over all that one rule asks of one
observer (Bonferroni). What must be shown everywhere (dose, eraser) needs no correction, since every comparison has to
hold.
"""

import numpy as np
import pandas as pd
from scipy.stats import t as student

from ldct_utils.models import textbook
from ldct_utils.stats import intervals
from ldct_utils.task_based import equivalence, observers, tasks

NOTHING, DOSE, BEST, BLUR, ERASER = (
    "sees lesions where there are none", "gains nothing from dose", "sees more than there is",
    "prefers a blur where detail counts", "does not notice an eraser",
)  # fmt: skip
SAVING = 0.005  # of the full dose: a dose is called saved or lost where its interval lies further off than this
TELLING = 0.98  # AUC of who knows everything, above which no image could show that an observer sees more
UNNOTICED = 0.05  # share of d' under which a loss does not count as noticed
DETAIL = (tasks.FINE, tasks.SHAPE, tasks.FINE_SEARCH)  # tasks in which a blur must not win


def _asked(rows, rule):
    """Rows that a rule looks at; how far each lies on the wrong side, and the standard error; 1 where the right side
    must be shown, -1 where the wrong one must be.
    """
    real, plain = rows[~rows["zero"]], rows["image"] == tasks.PLAIN
    if rule == NOTHING:
        part = rows[rows["zero"]]
        return part, (part["auc"] - part["chance"]).abs(), part["auc_se"], -1
    if rule == DOSE:
        part = real[plain[real.index] & (real["dose"] == real["dose"].max()) & (real["task"] != tasks.PATIENTS)]
        return part, -part["gap"], part["gap_se"], 1
    if rule == BEST:
        part = real[(real["image"] != tasks.TRUTH) & (real["best"] < TELLING)]
        return part, part["auc"] - part["best"], part["auc_se"], -1
    if rule == BLUR:
        part = real[(real["image"] == textbook.BLUR) & real["task"].isin(DETAIL)]
        return part, part["gap"], part["gap_se"], -1
    part = real[real["image"] == tasks.ERASER]
    return part, part["gap"], part["gap_se"], 1


def verdicts(rows: pd.DataFrame, groups: int = observers.GROUPS) -> pd.DataFrame:
    """Every rule for every observer.

    Args: rows: of ``panel.judge``, of one or more scenes. groups: of the jackknife that their errors are from.
    Returns: observer, rule, asked (number of comparisons), fails (None where nothing could be asked), where (task and
        image of the worst comparison) and value: of that comparison, how far it lies on the wrong side, in AUC or d'.
        Rules of what must be shown (dose, eraser) fail where it is not shown, the others only where the fault is.
    """
    rows, found = rows.reset_index(drop=True), []
    for observer, part in rows.groupby("observer", sort=False):
        for rule in (NOTHING, DOSE, BEST, BLUR, ERASER):
            of, value, error, side = _asked(part, rule)
            row = {"observer": observer, "rule": rule, "asked": len(of), "fails": None, "where": "", "value": np.nan}
            if len(of):
                alpha = intervals.ALPHA if side > 0 else intervals.ALPHA / len(of)
                reach = student.ppf(1 - alpha / 2, groups - 1) * error
                beyond = value + side * reach  # over 0: the rule is broken
                worst = beyond.idxmax()
                # exactly alike (0, without an error) is no fault, and shows nothing where something must be shown
                broken = beyond[worst] > 0 or (side > 0 and beyond[worst] == 0)
                row |= {"fails": bool(broken), "value": value[worst]}
                row |= {"where": f"{of['task'][worst]}, {of['image'][worst]}"}
            found.append(row)
    return pd.DataFrame(found)


def believed(table: pd.DataFrame) -> list[str]:
    """Observers of ``verdicts`` that were asked at least the rules of guesses, dose and eraser and broke none."""
    needed = table[table["rule"].isin((NOTHING, DOSE, ERASER))].groupby("observer")["asked"].min() > 0
    broken = table.groupby("observer")["fails"].apply(lambda of: any(one is True for one in of))
    return [name for name in table["observer"].unique() if needed[name] and not broken[name]]


REACH = student.ppf(0.975, observers.GROUPS - 1)  # half of a 95 % jackknife interval, in standard errors


def check(doses, low_dose: float, realisations: int, backgrounds: int):
    """Refuse a trial before anything is computed.

    Raises: ValueError: for doses that do not rise or hold no ``low_dose``, and for too few images for the jackknife.
    """
    if low_dose not in doses or doses != sorted(doses) or len(doses) < 2:
        raise ValueError(f"doses must rise and hold low_dose ({low_dose:g}), got {doses}")
    if realisations < 100 or backgrounds < 44:
        raise ValueError(f"take 100 realisations and 44 backgrounds or more, not {realisations} and {backgrounds}")


def blind(low: pd.DataFrame, names) -> list[str]:
    """Observers that lose less than 5 % of d', in every task without anatomy, where lesion and noise fade alike.

    Args: low: rows of ``panel.judge`` at one dose. names: of observers.
    """
    faded = low[(low["image"] == tasks.FADE) & (low["task"] != tasks.PATIENTS)]
    return [o for o in names if (faded["gap"] > -UNNOTICED * faded["d_prime"])[faded["observer"] == o].all()]


def largest_gains(low: pd.DataFrame, images, names) -> pd.DataFrame:
    """The largest gain in d' that any image brings each observer, of those that are shown: a row an observer.

    Args: low: rows of ``panel.judge`` at one dose. images: that are asked about. names: of observers.
    Returns: observer; share (of d' of the plain image), image and task, missing where no gain is shown; tasks (in how
        many of its tasks a gain is shown, e.g. ``2 of 5``); text.
    """
    gains = low[low["image"].isin(images) & low["observer"].isin(names)].assign(
        share=lambda t: t["gap"] / (t["d_prime"] - t["gap"]), sure=lambda t: t["gap"] > REACH * t["gap_se"]
    )
    best = gains[gains["sure"]].sort_values("share").groupby("observer").tail(1).set_index("observer")
    found = best[["share", "image", "task"]].reindex(pd.Index(names, name="observer")).reset_index()
    kinds = gains.groupby(["observer", "task"])["sure"].any().groupby("observer").agg(["sum", "size"])
    found["tasks"] = found["observer"].map({one.Index: f"{one.sum} of {one.size}" for one in kinds.itertuples()})
    said = [f"{100 * one.share:+.0f} % ({one.image}, {one.task})" for one in found.itertuples()]
    return found.assign(text=np.where(found["share"].isna(), "none is shown", said))


def helped_by_dose(real: pd.DataFrame, full: float) -> pd.Index:
    """(task, observer) in which more dose is shown to raise d' of the plain image. Args: full: the highest dose."""
    rising = real[(real["image"] == tasks.PLAIN) & (real["dose"] == full)]
    return rising[rising["gap"] > REACH * rising["gap_se"]].set_index(["task", "observer"]).index


def helped_by_image(low: pd.DataFrame, images) -> pd.Index:
    """(task, observer) in which some image is shown to raise d'. In all others no image could be shown to save dose.

    Args: low: rows of ``panel.judge`` at one dose. images: that are asked about.
    """
    sure = low[low["image"].isin(images) & (low["gap"] > REACH * low["gap_se"])]
    return sure.set_index(["task", "observer"]).index.unique()


def equal_doses(low: pd.DataFrame, rising: pd.Index, helped: pd.Index) -> pd.DataFrame:
    """The dose that every image is worth to an observer, where more dose is shown to help it.

    Args: low: rows of ``panel.judge`` at one dose. rising, helped: of ``helped_by_dose`` and ``helped_by_image``.
    Returns: task, observer, image, d_prime, worth, worth_low, worth_high, fractions; could_gain: whether any image was
        shown to raise d' of this observer in this task, so that no saving would say something. Without the truth.
    """
    rows = low[low["worth"].notna() & ~low["image"].isin((tasks.TRUTH, tasks.FADE))]
    pairs = rows.set_index(["task", "observer"]).index
    columns = ["task", "observer", "image", "d_prime", "worth", "worth_low", "worth_high"]
    return rows[columns].assign(could_gain=pairs.isin(helped))[pairs.isin(rising)]


def saved_and_lost(asked: pd.DataFrame, low_dose: float) -> tuple[pd.Series, pd.Series]:
    """Which comparisons show dose saved, and which show it lost: their interval lies beyond half a point of the dose.

    Args: asked: columns worth_low and worth_high. low_dose: of the images that were cleaned.
    """
    return asked["worth_low"] > low_dose + SAVING, asked["worth_high"] < low_dose - SAVING


def by_observer(asked: pd.DataFrame, low_dose: float, met: pd.DataFrame) -> dict[str, dict]:
    """{observer: its comparisons}: asked, saves, costs; of these in_patients and saves_in_patients, where there is
    anatomy; and ``best``, the largest dose that an image is worth to it, of those that save if any does, with image,
    task, low and high. Most first.

    Args: asked: columns observer, image, task, worth, worth_low and worth_high. low_dose: of the images that were
        cleaned. met: the same of all tasks: dose can be lost where nothing was shown to save it.
    """
    saves, lost = saved_and_lost(asked, low_dose)[0], met[saved_and_lost(met, low_dose)[1]]["observer"].value_counts()
    told = asked.assign(asked=True, saves=saves, in_patients=asked["task"] == tasks.PATIENTS)
    told["saves_in_patients"] = told["saves"] & told["in_patients"]
    found = {}
    for observer, part in told.groupby("observer", sort=False):
        counts = part[["asked", "saves", "in_patients", "saves_in_patients"]].sum()
        counts["costs"] = lost.get(observer, 0)
        sure = part[part["saves"]] if part["saves"].any() else part
        best = sure.loc[sure["worth"].idxmax()]
        ends = {"value": best["worth"], "low": best["worth_low"], "high": best["worth_high"]}
        found[observer] = {name: int(count) for name, count in counts.items()} | {
            "best": {name: float(end) for name, end in ends.items()} | {name: best[name] for name in ("image", "task")}
        }
    return dict(sorted(found.items(), key=lambda one: -one[1]["best"]["value"]))


def saved_in_words(bought: pd.DataFrame, doses) -> list[str]:
    """Doses that images save, in % with their intervals; at the ends of the doses looked at as bounds.

    Args: bought: columns worth, worth_low and worth_high, fractions, within the doses.
    """

    def one(row):
        beyond = 0.0 if row.worth <= doses[0] * 1.001 else np.inf if row.worth >= doses[-1] * 0.999 else row.worth
        return equivalence.in_percent(beyond, row.worth_low, row.worth_high, doses[0], doses[-1])

    return [one(row) for row in bought.itertuples()]


def order_kept(low: pd.DataFrame, usual: str, others) -> dict[str, float]:
    """Kendall's tau between the orders in which an observer and each of ``others`` rank the images: mean over tasks.

    Args: low: rows of ``panel.judge`` at one dose; the task with anatomy is left out.
    """
    rows = low[low["observer"].isin([usual, *others]) & (low["task"] != tasks.PATIENTS)]
    orders = rows.pivot(index=["task", "image"], columns="observer", values="d_prime")
    return {
        name: float(np.mean([part[name].corr(part[usual], method="kendall") for _, part in orders.groupby("task")]))
        for name in others
    }


def of_image(low: pd.DataFrame, image: str, column: str, names) -> dict:
    """{task: {observer: value}} of an image at the low dose."""
    part = low[(low["image"] == image) & low["observer"].isin(names)]
    return {t: {o: float(v) for o, v in zip(p["observer"], p[column])} for t, p in part.groupby("task", sort=False)}
