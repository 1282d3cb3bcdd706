"""Metrics: the register of all of them, and scoring a denoiser on slices of a cohort.

A score means something only beside its domain, its reference and its direction, so tables carry the first two in every
row and the register answers for the third: ``metrics.info("ssim").direction``.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from ldct_utils import intensity
from ldct_utils.metrics import full_reference
from ldct_utils.metrics.registry import REGISTER, Metric, info

__all__ = ["REGISTER", "Metric", "evaluate", "info", "names", "score"]

DOMAINS = ("hu", "viana2025", "body", "window")
METRICS = ("ssim", "psnr", "nrmse", "rmse_hu", "bias_hu")
COLUMNS = ("row", "patient", "anatomy", "domain", "reference", "metric", "value")


def names() -> list[str]:
    """Names of all registered metrics."""
    return sorted(REGISTER)


def score(pred_hu, target_hu, domain: intensity.Domain, metrics: Sequence[str] = METRICS, mask=None) -> dict:
    """Score one slice against one reference in one domain.

    Args:
        pred_hu, target_hu: (H, W) in HU.
        domain: evaluation domain, from ``intensity.domain``.
        metrics: names of registered metrics.
        mask: boolean (H, W), what the ``body`` domain scores; the body of the target if it is not given.
    Returns: metric name -> value.
    Raises: ValueError: for an unknown metric, shapes that differ, or a prediction that is not finite.
    """
    pred_hu, target_hu = np.asarray(pred_hu), np.asarray(target_hu)
    if pred_hu.shape != target_hu.shape or pred_hu.ndim != 2:
        raise ValueError(f"score needs two slices (H, W) of one shape, got {pred_hu.shape} and {target_hu.shape}")
    if not np.isfinite(pred_hu).all():
        raise ValueError(f"the prediction holds {np.count_nonzero(~np.isfinite(pred_hu))} values that are not finite")
    mask = (intensity.body_mask(target_hu) if mask is None else mask) if domain.body else None
    wanted = [info(name) for name in metrics]
    pairs = {
        takes: [full_reference.prepared(takes, domain, image) for image in (pred_hu, target_hu)]
        for takes in {metric.takes for metric in wanted}
    }
    return {metric.name: metric.compute(*pairs[metric.takes], domain.data_range, mask) for metric in wanted}


def evaluate(
    predict: Callable,
    cohort,
    rows: Sequence[int],
    domains: Sequence[str] = DOMAINS,
    metrics: Sequence[str] = METRICS,
    references: Sequence[str] = ("ndct", "truth"),
    level: float | None = None,
    width: float | None = None,
    batch: int = 8,
    progress: Callable | None = None,
) -> pd.DataFrame:
    """Score a denoiser on slices of a cohort, slice by slice.

    Args:
        predict: LDCT slices in HU, float32 (N, H, W), to denoised slices in HU of the same shape. ``lambda hu: hu``
            scores the LDCT itself.
        cohort: has ``slices`` (with columns row, patient, anatomy) and ``ldct``, ``ndct``, ``truth`` (S, H, W) in HU.
        rows: rows of the cohort, e.g. ``cohort.rows("test")``.
        domains: evaluation domains; ``window`` and ``eulig2024`` take the window of each slice's anatomy.
        metrics: names of registered metrics.
        references: what is scored against. ``truth`` (noise-free) exists only for simulated patients and is left out
            where the cohort has none.
        level, width: one display window in HU for the domain ``window``, whatever the anatomy. The table then names it
            ``window C 40 W 400``, since such scores do not compare with those of the anatomies' own windows.
        batch: slices that ``predict`` is given at once.
        progress: wraps the sequence of batches, e.g. ``tqdm``.
    Returns: long table, columns row, patient, anatomy, domain, reference, metric, value (float64). A value may be inf
        (PSNR of identical images) or NaN (``body`` of a slice without a body).
    Raises: ValueError: for unknown names, an empty selection, a cohort without any of the references, or a prediction
        of another shape or with values that are not finite (naming the row).
    """
    if isinstance(domains, str) or isinstance(metrics, str) or isinstance(references, str):
        raise ValueError("domains, metrics and references are sequences of names, not one string")
    for name in metrics:
        info(name)
    for name in domains:
        intensity.domain(name)
    rows = np.asarray(rows, dtype=int)
    if not rows.size:
        raise ValueError("no rows to score: the split is empty")
    unknown = sorted(set(references) - {"ndct", "truth"})
    if unknown:
        raise ValueError(f"unknown reference {unknown[0]!r}; known: ndct, truth")
    present = [name for name in references if getattr(cohort, name, None) is not None]
    if not present:
        raise ValueError(f"the cohort has none of the references {', '.join(references)}")
    described = cohort.slices.set_index("row").loc[rows]

    records = []
    chunks = [slice(start, start + batch) for start in range(0, len(rows), batch)]
    for chunk in progress(chunks) if progress else chunks:
        ldct = np.stack([cohort.ldct[row] for row in rows[chunk]]).astype(np.float32)
        predicted = np.asarray(predict(ldct))
        if predicted.shape != ldct.shape:
            raise ValueError(f"predict gave shape {predicted.shape} for slices of shape {ldct.shape}")
        for row, (_, about), pred_hu in zip(rows[chunk], described.iloc[chunk].iterrows(), predicted):
            body = intensity.body_mask(cohort.ndct[row]) if "body" in domains else None  # one mask for every reference
            for name in domains:
                chosen = {"level": level, "width": width} if name == "window" else {}
                domain = intensity.domain(name, anatomy=about["anatomy"], **chosen)
                shown = f"window C {level:g} W {width:g}" if name == "window" and level is not None else name
                for reference in present:
                    try:
                        values = score(pred_hu, getattr(cohort, reference)[row], domain, metrics, body)
                    except ValueError as error:
                        raise ValueError(f"row {row}: {error}") from error
                    head = (int(row), about["patient"], about["anatomy"], shown, reference)
                    records += [(*head, metric, float(value)) for metric, value in values.items()]
    return pd.DataFrame(records, columns=list(COLUMNS))
