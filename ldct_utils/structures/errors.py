"""Errors of denoisers over segments, slice by slice and linked through z, and the order of methods that they give.

A segment's error is its SRMSE (``segments.srmse``). Which image is segmented is a column of every table: on an output
a structure that was lost has no segment, so that the segments of the target are the ones that count.
"""

import numpy as np
import pandas as pd
from scipy.stats import kendalltau

from ldct_utils import segments
from ldct_utils.segments import known
from ldct_utils.stats import intervals
from ldct_utils.stats.ranking import reversed_pairs

LDCT = "LDCT"  # the input, which stands beside the denoisers
LABELS = "labels"  # the segmentation that takes the organs which the cohort itself labels
LEFT_OUT = ("small", "large", "background", "duplicate")  # why ``segments.segment`` leaves a segment out


def finder(cohort, method: str, min_area: int):
    """A function of a slice (H, W), HU, and its row in the cohort, that gives its ``Segments``.

    Args: method: ``LABELS``, or as of ``segments.segment``. min_area: least area of a segment, pixels.
    Raises: ValueError: for ``LABELS`` of a cohort that labels no organs.
    """
    if method != LABELS:
        return lambda image, row: segments.segment(image, method, min_area=min_area)
    if not cohort.organs:
        others = ", ".join(segments.METHODS)
        raise ValueError(f"cohort {cohort.id} labels no organs: take another segmentation ({others}) or test_source")
    return lambda image, row: known.of_labels(image, cohort.organ_masks[row], min_area)


def measured(
    cohort, piles, denoisers, find, references, overlap: float, progress=iter, only_ndct: bool = False,
) -> pd.DataFrame:  # fmt: skip
    """Errors of the LDCT and of every denoiser over the segments of every image.

    Args:
        cohort: with ldct, ndct and, if it is a reference, truth. piles: lists of rows, neighbours of one series
            (``volumes.stacks``). denoisers: {run: function of slices (N, H, W), HU}.
        find: of ``finder``. references: of ndct and truth, what errors are against. overlap: at which segments of
            neighbours are linked, in (0, 1].
        progress: wraps the piles. only_ndct: whether the segments of the NDCT stand for all, as labels do.
    Returns: a row a slice, run, segmented image and reference: patient, run, source (ndct, truth, ldct, output),
        reference, row, rmse_hu (of all pixels), mean_srmse and max_srmse (HU; NaN where there is no segment), segments
        (their number), and how many were left out by each rule. Rows with ``row`` -1 are of piles whose segments were
        linked; there are none where no slices are neighbours.
    """
    fixed, linkable, out = [*references, "ldct"], max(map(len, piles)) > 1, []
    patient = cohort.slices.set_index("row")["patient"]
    for pile in progress(piles):
        images = {name: np.asarray(getattr(cohort, name)[pile], np.float32) for name in fixed}
        segmented = {"ndct": images["ndct"]} if only_ndct else images
        given = {name: list(map(find, stack, pile)) for name, stack in segmented.items()}
        for key in [LDCT, *denoisers]:
            pred = images["ldct"] if key == LDCT else denoisers[key](images["ldct"])
            own = {} if only_ndct or key == LDCT else {"output": list(map(find, pred, pile))}
            found = given | own
            for source, each in found.items():
                maps = np.stack([segments.flat(one.regions) for one in each]) if linkable else None
                volume = segments.link(maps, overlap) if linkable else None
                for reference in references:
                    target = images[reference]
                    head = {"patient": patient[pile[0]], "run": key, "source": source, "reference": reference}
                    for row, p, one, t in zip(pile, pred, each, target):
                        line = head | {"row": row, "rmse_hu": np.sqrt(np.mean((p - t) ** 2))}
                        out.append(line | _errors(p, t, one.regions) | one.left_out)
                    if linkable:
                        out.append(head | {"row": -1} | _errors(pred, target, volume))
    return pd.DataFrame(out)


def _errors(pred, target, regions):
    found = segments.srmse(pred, target, regions) if np.any(regions) else np.full(1, np.nan)
    return {"mean_srmse": found.mean(), "max_srmse": found.max(), "segments": int(np.isfinite(found).sum())}


def kinds(error: pd.DataFrame) -> dict:
    """{(error, segments of, unit): (patients, methods)} of one reference, means over slices and seeds, HU.

    Args: error: rows of ``measured`` of one reference, with method. The first kind is the RMSE of all pixels.
    """

    def by_patient(part, value):
        return part.groupby(["patient", "method"])[value].mean().unstack()

    found = {("RMSE", "", ""): by_patient(error[(error.row >= 0) & (error.source == "ndct")], "rmse_hu")}
    for source in error["source"].unique():
        one = error[error.source == source]
        for name in ("mean_srmse", "max_srmse"):
            found[name, source, "slices"] = by_patient(one[one.row >= 0], name)
            if (one.row < 0).any():
                found[name, source, "linked"] = by_patient(one[one.row < 0], name)
    return found


def ranked(error: pd.DataFrame, draws: int, seed: int) -> pd.DataFrame:
    """Means of the methods by every kind of error, and how their order agrees with that by RMSE.

    Args: error: rows of ``measured`` with method. draws, seed: of the bootstrap over patients.
    Returns: a row a reference, kind and method: reference, error, segments of, unit, method, mean_hu, low, high, rank
        (of the denoisers, 1 the least error; NaN for the LDCT), tau (Kendall's, of the denoisers' means against those
        by RMSE), reversed (pairs whose order is the other way round beyond both intervals), pairs.
    """
    out = []
    for reference, part in error.groupby("reference", sort=False):
        of_kind = kinds(part)
        base = of_kind["RMSE", "", ""]
        for (name, source, unit), table in of_kind.items():
            table = table.dropna(axis=1, how="all").dropna()
            own = table.drop(columns=LDCT, errors="ignore")
            turned, pairs = reversed_pairs(own, base, draws, seed)
            tau = kendalltau(own.mean(), base[list(own)].mean()).statistic if pairs else np.nan
            ranks = own.mean().rank()
            for method in table:
                span = intervals.patient_bootstrap(table[method].to_numpy(), draws=draws, seed=seed)
                out.append({"reference": reference, "error": name, "segments of": source, "unit": unit,
                            "method": method, "mean_hu": span.mean, "low": span.low, "high": span.high,
                            "rank": ranks.get(method, np.nan), "tau": tau, "reversed": turned,
                            "pairs": pairs})  # fmt: skip
    return pd.DataFrame(out)


def agreement(ranking: pd.DataFrame) -> pd.DataFrame:
    """One row a reference and kind of error over segments: tau, reversed and pairs, as ``ranked`` gives them."""
    found = ranking.drop_duplicates(["reference", "error", "segments of", "unit"])
    return found[found["error"] != "RMSE"][["reference", "error", "segments of", "unit", "tau", "reversed", "pairs"]]


def taus(agreement: pd.DataFrame, error: str = "mean_srmse", source: str = "ndct") -> dict:
    """{reference, unit: tau} of one error over the segments of one image. Args: agreement: of ``agreement``."""
    own = agreement[(agreement["error"] == error) & (agreement["segments of"] == source)]
    return {f"{r.reference}, {r.unit}": float(r.tau) for r in own.itertuples()}


def order(ranking: pd.DataFrame) -> list[str]:
    """The denoisers by RMSE of all pixels against the NDCT, the least first. Args: ranking: of ``ranked``."""
    part = ranking[(ranking.reference == "ndct") & (ranking.error == "RMSE") & (ranking.method != LDCT)]
    return part.sort_values("mean_hu").method.to_list()


def best(ranking: pd.DataFrame):
    """The denoiser with the least RMSE against the NDCT: its row, and its MeanSRMSE over segments of the NDCT, HU."""
    one = ranking[(ranking.reference == "ndct") & (ranking.method == order(ranking)[0])]
    mean = one[(one.error == "mean_srmse") & (one["segments of"] == "ndct") & (one.unit == "slices")]
    return next(one[one.error == "RMSE"].itertuples()), float(mean.mean_hu.iloc[0])


def not_beaten(error: pd.DataFrame, draws: int, seed: int) -> list[str] | None:
    """Denoisers whose RMSE against the NDCT was not shown to be above the least one's, paired over patients; None where
    there are too few patients. Args: as of ``ranked``."""
    table = kinds(error[error.reference == "ndct"])["RMSE", "", ""].drop(columns=LDCT, errors="ignore")
    first, unclear = table.mean().idxmin(), []
    for other in table.columns.drop(first):
        more = intervals.patient_bootstrap((table[other] - table[first]).to_numpy(), draws=draws, seed=seed)
        if more.excludes_zero is None:
            return None
        unclear += [] if more.excludes_zero else [other]
    return unclear


def counted(error: pd.DataFrame) -> dict:
    """How many segments of the NDCT a slice has on average, kept and left out by each rule, and linked a patient.

    Returns: segments, small, large, background, duplicate (means a slice), linked (mean a patient; NaN where nothing
        is linked), patients.
    """
    one = error[(error.reference == "ndct") & (error.source == "ndct") & (error.run == LDCT)]
    single, joined = one[one.row >= 0], one[one.row < 0]
    found = {name: float(single[name].mean()) for name in ("segments", *LEFT_OUT)}
    patients = single["patient"].nunique()
    return found | {
        "linked": joined.segments.sum() / patients if len(joined) else float("nan"),
        "patients": patients,
    }
