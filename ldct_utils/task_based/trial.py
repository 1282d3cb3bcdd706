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

from ldct_utils.task_based import observers, tasks

ALPHA = 0.05
NOTHING, DOSE, BEST, BLUR, ERASER = (
    "sees lesions where there are none", "gains nothing from dose", "sees more than there is",
    "prefers a blur where detail counts", "does not notice an eraser",
)  # fmt: skip
TELLING = 0.98  # AUC of who knows everything, above which no image could show that an observer sees more
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
        part = real[(real["image"] == tasks.BLUR) & real["task"].isin(DETAIL)]
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
                alpha = ALPHA if side > 0 else ALPHA / len(of)
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
