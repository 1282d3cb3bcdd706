"""The one table: judges down, denoisers across, in each cell from which strength a fault is caught, and how often."""

import numpy as np
import pandas as pd

from ldct_utils.judges import caught, faulty

LABELS = {
    "eraser": "eraser, knows lesions", "blind_eraser": "eraser, blind", "blur": "blur", "median": "median",
    "tv": "total variation", "unsharp": "unsharp masking", "paster": "texture paster", "inserter": "inserter",
    "identity": "identity", "truth": "noise-free truth",
}  # fmt: skip
NOT_ASKED, FEW, NOTHING = "cannot be asked", "too few patients", "says nothing"


def of_scores(scores, own_task: dict, diseased, draws: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Verdicts: a row a judge, denoiser and strength.

    Args: scores: columns judge, denoiser, strength, variant (``fault`` or ``twin``), patient, score. own_task: {judge:
        whether it brings its own lesions}. diseased: boolean by patient. draws, seed: of the bootstrap.
    Returns: the fields of ``caught.Verdict``; rows of a judge that has no score are left out. The eraser that knows the
        lesions is asked in patients who have some, unless the judge brings its own.
    """
    rows = []
    for (judge, name, strength), part in scores.groupby(["judge", "denoiser", "strength"], sort=False):
        by = part.pivot(index="patient", columns="variant", values="score")
        asked = diseased.reindex(by.index).to_numpy() if name == "eraser" and not own_task[judge] else None
        found = caught.verdict(by["fault"].to_numpy(), by["twin"].to_numpy(), asked, draws=draws, seed=seed)
        if found is not None:
            rows.append({"judge": judge, "denoiser": name, "strength": strength} | vars(found))
    return pd.DataFrame(rows).astype({"caught": "boolean"})


def cells(verdicts) -> pd.DataFrame:
    """A row a judge and denoiser: ``from``, the least strength from which on all are caught, NaN if the strongest is
    not; ``half``, the strength called in half of the patients, NaN if none is; and the verdict at the largest strength.

    Args: verdicts: of ``of_scores``; a network has one strength, 1.
    """
    rows = []
    for _, part in verdicts.groupby(["judge", "denoiser"], sort=False):
        part = part.sort_values("strength")
        run = part["caught"].fillna(False).to_numpy(bool)[::-1]
        held = part["strength"].to_numpy()[::-1][: int(np.argmin([*run, False]))]
        rows.append(
            part.iloc[-1].to_dict()
            | {"from": held[-1] if len(held) else np.nan,
               "half": caught.strength_at_half(part["strength"], part["rate"])}
        )  # fmt: skip
    return pd.DataFrame(rows).astype({"caught": "boolean"})


def silent(found) -> list[str]:
    """Judges that catch no fault: what they say of a network means nothing. Args: found: of ``cells``."""
    known = found[found["denoiser"].isin([name for name in faulty.names() if name not in faulty.HARMLESS])]
    any_caught = known.groupby("judge", sort=False)["from"].apply(lambda one: one.notna().any())
    return list(any_caught.index[~any_caught])


def percent(share: float) -> str:
    """A share in percent, e.g. ``25 %``."""
    return f"{100 * share:.0f} %"


def said(row, muted: bool = False) -> str:
    """A cell in words. Args: row: of ``cells``, or None; muted: of a judge that catches no fault, about a network."""
    if row is None:
        return NOT_ASKED
    if pd.isna(row["caught"]):
        return FEW
    if muted:
        return NOTHING
    rates = f"{percent(row['rate'])} [{100 * row['rate_low']:.0f}, {100 * row['rate_high']:.0f}]"
    if row["denoiser"] not in faulty.names() or row["denoiser"] in faulty.HARMLESS:
        return f"{'called' if row['caught'] else 'no'}: {rates}"
    return f"from {percent(row['from'])}: {rates}" if np.isfinite(row["from"]) else f"no: {rates}"
