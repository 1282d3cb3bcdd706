"""Denoised slices scored as the LDCT benchmark scores them, and by what a radiomics study would read of them.

SSIM and PSNR in the window of each anatomy (domain ``eulig2024``), VIF and RMSE over HU, RFS (``feature_similarity``)
in the organs of each slice, and LDCT-IQA where slices have its size and its weights are here.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from ldct_utils import segments
from ldct_utils.ct import intensity
from ldct_utils.metrics import evaluation, feature_similarity, ldct_iqa, scores
from ldct_utils.segments import total


# ---- organs of RFS ----
def organs_by(cohort, how: str = "auto", wanted=()) -> tuple[str, list[str], str]:
    """How organs of RFS are found in a cohort, which, and why not otherwise.

    Args: how: ``thresholds``, ``totalsegmentator``, or ``auto``: the latter on real scans if it can be. wanted: organs;
        none takes lungs, bone and soft tissue by thresholds, else all.
    Returns: how, the organs, and why ``auto`` took thresholds, in words, empty otherwise.
    Raises: ValueError: for another way, or organs that it does not know.
    """
    if how not in ("auto", "thresholds", "totalsegmentator"):
        raise ValueError(f"rfs_by is auto, thresholds or totalsegmentator, not {how!r}")
    simulated = "the patients are simulated" if cohort.truth is not None else total.missing()
    why = "" if total.labelled(cohort) else simulated
    by = how if how != "auto" else "thresholds" if why else "totalsegmentator"
    organs = list(total.ORGANS) if by == "totalsegmentator" else list(segments.TISSUES)
    if unknown := set(wanted) - set(organs):
        raise ValueError(f"rfs_organs by {by} are {', '.join(organs)}; got {', '.join(sorted(unknown))}")
    default = organs if by == "totalsegmentator" else ["lungs", "bone", "soft tissue"]
    return by, list(wanted) or default, (why or "") if how == "auto" else ""


def masks_of(cohort, rows, organs, drawn: dict | None = None) -> dict[int, dict]:
    """{row: {organ: mask (H, W)}} of NDCT slices; small organs are left out.

    Args: organs: the wanted ones. drawn: {row: labels (H, W), the place in ``total.ORGANS``, from 1}; None: thresholds.
    """
    found = {}
    for row in rows:
        if drawn is None:
            masks = feature_similarity.organ_masks(np.asarray(cohort.ndct[row], np.float32))
        else:
            masks = {name: drawn[row] == place for place, name in enumerate(total.ORGANS, 1)}
        large = feature_similarity.MIN_AREA
        found[row] = {name: mask for name, mask in masks.items() if name in organs and mask.sum() >= large}
    return found


def rfs_of(cohort, rows, organs, drawn: dict | None, by: str, path: Path) -> feature_similarity.RFS | None:
    """RFS, normalised on the NDCT of the training slices; stored, and read where it has been. None where no organ is
    in enough of them.

    Args: rows: the training slices. organs, drawn: as of ``masks_of``. by: from ``organs_by``. path: the file.
    Raises: ValueError: where the stored one took organs another way.
    """
    if not path.is_file():
        masks = masks_of(cohort, rows, organs, drawn)
        owner = cohort.slices.set_index("row").loc[list(masks)].patient.to_list()
        images = [np.asarray(cohort.ndct[row], np.float32) for row in masks]
        table = feature_similarity.vectors(images, list(masks.values()), owner)
        counts = table.groupby("organ").size()
        kept = table[table.organ.isin(counts[counts >= feature_similarity.FEWEST].index)]
        if kept.empty:
            return None
        feature_similarity.fit(kept, by).save(path)
    rfs = feature_similarity.load(path)
    if rfs.settings["segments"] != by:
        raise ValueError(f"this run began with organs by {rfs.settings['segments']}: give rfs_by, which was {by}")
    return rfs


def rfs_said(rfs: feature_similarity.RFS | None) -> str:
    """In which organs RFS is taken, in a sentence."""
    if rfs is None:
        return f"There is **no RFS**: no organ is in {feature_similarity.FEWEST} training slices or more."
    return f"RFS is taken in {', '.join(f'{organ} ({n} training segments)' for organ, n in rfs.count.items())}."


# ---- scores ----
def rated(cohort) -> bool:
    """Whether LDCT-IQA can rate the slices of a cohort here."""
    return cohort.ldct.shape[1:] == (ldct_iqa.SIZE,) * 2 and scores.available(["ldct_iqa"]).available.all()


def scored(
    predict: Callable, cohort, rows, reference: str, rfs, masks: dict, device: str = "cpu", window=(None, None)
) -> pd.DataFrame:
    """A method on slices: a row a slice and metric (RFS: the mean over the slice's organs).

    Args: predict: of slices (N, H, W) in HU. rows: of the cohort. reference: ``ndct`` or ``truth``. rfs, masks: from
        ``rfs_of`` and ``masks_of``, of these slices. window: level and width, HU, of SSIM and PSNR; by default the
        benchmark's, of each anatomy.
    """
    about, target, made = cohort.slices.set_index("row").loc[rows], getattr(cohort, reference), {}

    def once(hu):
        found = predict(hu)
        made.update(zip(rows[len(made) : len(made) + len(hu)], found))
        return found

    domain = "window" if evaluation.own_window(*window) else "eulig2024"
    windowed = evaluation.evaluate(once, cohort, rows, [domain], ["ssim", "psnr"], [reference], *window)
    stored = iter(made.values())
    whole = evaluation.evaluate(
        lambda hu: np.stack([next(stored) for _ in hu]), cohort, rows, ["hu"], ["vifp_eulig", "rmse_hu"], [reference]
    )
    similar = [
        {"row": row, "patient": about.patient[row], "anatomy": about.anatomy[row], "domain": "hu", "metric": "rfs",
         "value": np.mean(list(rfs.similarity(made[row], np.asarray(target[row], np.float32), found).values()))}
        for row, found in masks.items() if found
    ]  # fmt: skip
    alone = []
    if rated(cohort):
        domain, images = intensity.domain("hu"), np.stack(list(made.values()))
        found = scores.compute(pred=images, names=["ldct_iqa"], domain=domain, device=device)
        alone = [pd.concat([about[["patient", "anatomy"]].reset_index(), found.drop(columns="image")], axis=1)]
    return pd.concat([windowed, whole, pd.DataFrame(similar), *alone])
