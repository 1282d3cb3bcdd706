"""The report card of a denoiser: one table of values, a row a measure, denoiser and patient, and its comparisons.

``MEASURES`` says in plain words what each asks, and which way is better. They are measured in ``measuring`` and
``unseen``.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ldct_utils.denoisers import unseen
from ldct_utils.denoisers.measuring import PASTED, SHIFT
from ldct_utils.stats import intervals, paired


@dataclass(frozen=True)
class Measure:
    """What a row of the card is: label with unit, which way is better (1 higher, -1 lower, 0 neither), its question.

    ``least``: a difference that is smaller matters to nobody.
    """

    label: str
    direction: int
    digits: int
    asks: str
    least: float = 0.0


MEASURES = {
    "rmse": Measure("error inside the body, HU", -1, 1, "How far is a pixel from the truth?"),
    "ssim": Measure("SSIM in the anatomy's window", 1, 3, "Does the picture look like the truth?"),
    "bias": Measure("largest shift of a tissue's HU", -1, 1, "Are the HU of tissues kept?", 4.0),
    "mean_srmse": Measure("MeanSRMSE, HU", -1, 1, "How far is a structure from the truth?"),
    "max_srmse": Measure("MaxSRMSE, HU", -1, 1, "How far is the worst structure from the truth?"),
    "kept": Measure("contrast of lesions kept", 1, 2, "How much of a lesion's contrast comes through?"),
    "noise": Measure("noise in flat tissue, HU", -1, 1, "How much noise is left?"),
    "texture": Measure("noise texture unlike the NDCT's", -1, 2, "Does the noise still look like noise?"),
    "peak": Measure("peak of the noise spectrum, lp/mm", 0, 2, "How coarse is the grain of the noise?"),
    "peak_moved": Measure("its distance from the LDCT's, lp/mm", 0, 2, "Did it become coarser (below 0) or finer?"),
    "detected": Measure("d' of faint lesions, all noise known", 1, 2, "Is the lesion still in the data?"),
    "seen": Measure("d' of faint lesions, to an eye", 1, 2, "Is it seen better, by a reader with noise of his own?"),
    "sharp": Measure("resolution at 30 HU, lp/mm", 1, 2, "How fine a detail of low contrast is passed on?"),
    "sharp_strong": Measure("resolution at 300 HU, lp/mm", 1, 2, "How fine a detail of high contrast is passed on?"),
    "surplus": Measure("fine structure over the truth's", 0, 2, "Is there more fine structure than the truth has?"),
    "suspicious": Measure("suspicious structures a slice", 0, 1, "How many structures changed more than noise does?"),
    "false_alarms": Measure("the same on slices without lesions", 0, 1, "And how many where nothing can be lost?"),
    "unseen_in": Measure("change found by a search, scans = 1", 0, 2, "How large a change of the input is ignored?"),
    "unseen_out": Measure("that change in the output, scans = 1", 0, 2, "And what of it is seen in the output?"),
}


# ---- what is shown ----
def example(cohort, rows):
    """The slice with most lesion: its row, and the pixels of its largest lesion, boolean (H, W).

    Where no lesion is known it is the middle one of the slices, and None.
    """
    if cohort.lesion_masks is None or not np.any(cohort.lesion_masks[rows]):
        return int(rows[len(rows) // 2]), None
    masks = np.asarray(cohort.lesion_masks[rows], int)
    number = int((masks > 0).sum((1, 2)).argmax())
    return int(rows[number]), masks[number] == np.bincount(masks[number][masks[number] > 0]).argmax()


def together(values, detected, resolved, invented, searched, dose: float) -> pd.DataFrame:
    """All values of the card: name, measure, patient, value; ``FBP`` at this dose is called ``LDCT``.

    Args: values: of ``measuring.measured``. detected, resolved, invented: of those functions. searched: of ``unseen``.
    """
    found = detected[detected["dose"] == dose]
    found = found.assign(measure=found["observer"].map({"CHO": "detected", "NPWE": "seen"}))
    plain = searched[(searched["search"] == "plain") & ~searched["name"].isin(unseen.CONTROLS)]
    parts = [
        values, found[["name", "measure", "patient", "value"]], resolved.assign(patient=0),
        invented[invented["name"] != PASTED].assign(measure="surplus"),
    ]  # fmt: skip
    for end in ("in", "out"):
        change = plain[f"{end}_hu"] / plain[f"scan_{end}_hu"]
        parts.append(plain[["name", "patient"]].assign(measure=f"unseen_{end}", value=change))
    everything = pd.concat([part for part in parts if len(part)], ignore_index=True)
    everything["name"] = everything["name"].replace("FBP", "LDCT")
    return everything.dropna(subset=["value"])  # an edge whose transfer never falls to a half has no such frequency


def by_tissue(means: pd.DataFrame) -> pd.DataFrame:
    """Mean shift of each tissue's HU, with its sign: ``tissue``, and HU of each denoiser. Args: means: by measure."""
    part = means[means.index.str.startswith(SHIFT)]
    return part.set_axis(part.index.str.removeprefix(SHIFT).rename("tissue")).rename_axis(columns=None).reset_index()


def as_table(means: pd.DataFrame) -> pd.DataFrame:
    """A row a measure, in the card's order: ``what`` (label and which way is better), and the value of each denoiser.

    Args: means: by measure, a column a denoiser; NaN where it was not asked.
    """
    asked = [measure for measure in MEASURES if measure in means.index]
    what = [MEASURES[m].label + {1: " ↑", -1: " ↓", 0: ""}[MEASURES[m].direction] for m in asked]
    return means.loc[asked].reset_index(drop=True).rename_axis(columns=None).assign(what=what)


# ---- comparison ----
def beside(values: pd.DataFrame, name: str, other: str, draws: int = 2000, seed: int = 0) -> pd.DataFrame:
    """One denoiser beside another, measure by measure, over the patients that both were measured on.

    Args: values: name, measure, patient, value.
    Returns: a row a measure with a direction: measure, first, second, better (mean difference, positive where the
        first is better), low, high (95 % over patients), p (Wilcoxon), patients.
    """
    rows = []
    for measure, about in MEASURES.items():
        part = values[(values["measure"] == measure) & values["name"].isin([name, other])]
        wide = part.pivot_table(index="patient", columns="name", values="value").dropna()
        if not about.direction or len(wide) < 2 or len(wide.columns) < 2:
            continue
        gap = about.direction * (wide[name] - wide[other])
        span = intervals.patient_bootstrap(gap.to_numpy(), draws=draws, seed=seed)
        rows.append(
            {"measure": measure, "first": wide[name].mean(), "second": wide[other].mean(), "better": span.mean,
             "low": span.low, "high": span.high, "p": paired.wilcoxon(wide[name], wide[other]), "patients": len(wide)}
        )  # fmt: skip
    return pd.DataFrame(rows, columns=["measure", "first", "second", "better", "low", "high", "p", "patients"])


def compared(values: pd.DataFrame, name: str, others, draws: int = 2000, seed: int = 0) -> pd.DataFrame:
    """One denoiser ``beside`` each other, a row a measure and other, p corrected by Holm over all of these rows."""
    table = pd.concat([beside(values, name, other, draws, seed).assign(beside=other) for other in others])
    return table.assign(p=paired.holm(table["p"]) if len(table) else table["p"]).reset_index(drop=True)


def side_by_side(table: pd.DataFrame) -> tuple[pd.DataFrame, dict]:
    """``compared`` as it is read: a row a measure, and the heads of ``report.table``, an interval an other.

    A column names the others from whom the corrected test tells it (p under 0.05).
    """
    listed = [measure for measure in MEASURES if measure in set(table["measure"])]
    rows, heads = pd.DataFrame({"what": [MEASURES[measure].label for measure in listed]}), {"what": "better by"}
    shown = [[] for _ in listed]
    for other, part in table.groupby("beside", sort=False):
        part = part.set_index("measure").reindex(listed)
        columns = tuple(f"{column}, {other}" for column in ("better", "low", "high"))
        rows[list(columns)] = part[["better", "low", "high"]].to_numpy()
        heads[columns] = f"than {other}"
        for names, p in zip(shown, part["p"]):
            names += [other] * bool(p < intervals.ALPHA)
    return rows.assign(shown=[", ".join(names) or "–" for names in shown]), heads | {"shown": "differs from"}
