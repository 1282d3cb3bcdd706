"""Metrics: the register of all of them, and scoring slices and denoisers.

A score means something only beside its domain, its reference and its direction, so tables carry the first two in every
row and the register answers for the third: ``metrics.info("ssim").direction``.
"""

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch

from ldct_utils import intensity, weight_files
from ldct_utils.metrics import full_reference, ldct_iqa, learned, no_reference, ranges, segmentwise
from ldct_utils.metrics.registry import FAMILIES, REGISTER, Metric, info

__all__ = [
    "REGISTER",
    "Metric",
    "aligned",
    "available",
    "compute",
    "evaluate",
    "full_reference",
    "info",
    "ldct_iqa",
    "learned",
    "names",
    "no_reference",
    "segmentwise",
]

DOMAINS = ("hu", "viana2025", "body", "window")
METRICS = ("ssim", "psnr", "nrmse", "rmse_hu", "bias_hu")
COLUMNS = ("row", "patient", "anatomy", "domain", "reference", "metric", "value")
CACHED = 512 * 512  # pixels at once on a CPU: more do not stay in its cache, and every step then waits for memory


def names(family: str | None = None) -> list[str]:
    """Names of the registered metrics, of one family or all. Raises: ValueError: for an unknown family."""
    if family not in (None, *FAMILIES):
        raise ValueError(f"unknown family {family!r}; known: {', '.join(FAMILIES)}")
    return sorted(name for name, metric in REGISTER.items() if family in (None, metric.family))


def available(names: Sequence[str] | None = None) -> pd.DataFrame:
    """Which metrics can be computed here: columns name, available, missing (weight files, or the package pyiqa)."""
    chosen = sorted(REGISTER) if names is None else list(names)
    missing = [", ".join(_missing(info(name))) for name in chosen]
    return pd.DataFrame({"name": chosen, "available": [not files for files in missing], "missing": missing})


def _missing(metric: Metric) -> list[str]:
    """What a metric needs and is not here: weight files by their place in the bundle, or a package."""
    return weight_files.missing(metric.needs)


def compute(
    *, pred, target=None, names: Sequence[str], domain: intensity.Domain, mask=None, device="cpu", batch: int = 16
) -> pd.DataFrame:
    """Score slices, each against its target or, by no-reference metrics, alone.

    Arguments go by name, so that prediction and target cannot be swapped.

    Args:
        pred, target: (N, H, W) in HU, array or tensor; no-reference metrics need no target.
        names: names of registered metrics; one that needs a fitted model comes as a ``Metric`` (``ct_niqe.load``).
        domain: evaluation domain of all slices, from ``intensity.domain``.
        mask: boolean (N, H, W), what the domain ``body`` scores; by default the body of the target (or of ``pred``).
        device: where tensors are computed, e.g. ``cuda``.
        batch: most slices at once. On a CPU fewer where they are large, since those are faster.
    Returns: one row an image and metric, columns image (0 to N-1), domain, metric, value (float64). A value may be inf
        (PSNR of identical images) or NaN (``body`` of a slice without a body).
    Raises: ValueError: for unknown or unavailable metrics, a missing target, a metric that the domain ``body`` cannot
        mask, shapes that differ or are too small, and values that are not finite.
    """
    wanted = _wanted(names, [domain])
    pred = _tensor(pred)
    if pred.ndim != 3 or not len(pred):
        raise ValueError(f"slices come as (N, H, W), one or more, got shape {tuple(pred.shape)}")
    _check_finite(pred, "prediction", "image", range(len(pred)))
    lonely = [metric.name for metric in wanted if target is None and metric.family == "full-reference"]
    if lonely:
        raise ValueError(f"{', '.join(lonely)} need a target")
    if target is not None:
        target = _tensor(target)
        if target.shape != pred.shape:
            raise ValueError(f"pred {tuple(pred.shape)} and target {tuple(target.shape)} differ in shape")
        _check_finite(target, "target", "image", range(len(pred)))
    if mask is not None and not domain.body:
        raise ValueError(f"a mask belongs to the domain body, not to {domain.name}")
    if domain.body:
        where = intensity.body_mask((pred if target is None else target).cpu().numpy()) if mask is None else mask
        mask = _tensor(where).bool()
        if mask.shape != pred.shape:
            raise ValueError(f"pred {tuple(pred.shape)} and mask {tuple(mask.shape)} differ in shape")

    values = _scores(wanted, domain, [pred] if target is None else [pred, target], mask, device, batch)
    return pd.DataFrame(
        {
            "image": np.repeat(np.arange(len(pred)), len(wanted)),
            "domain": domain.name,
            "metric": [metric.name for metric in wanted] * len(pred),
            "value": values.ravel(),
        }
    )


def _scores(wanted, domain, images, mask, device, batch=16) -> np.ndarray:
    """Values (N, metrics) of a prediction, and its target where there is one: tensors (N, H, W) in HU."""
    shape = tuple(images[0].shape)
    for metric in wanted:
        if min(shape[1:]) < metric.smallest:
            raise ValueError(f"{metric.name} needs slices of at least {metric.smallest} pixels a side, not {shape[1:]}")
    values = np.empty((len(images[0]), len(wanted)))
    if torch.device(device).type == "cpu":
        batch = max(1, min(batch, CACHED // (shape[1] * shape[2])))
        # glibc gives a freed block back to the system and then clears the next one page by page, which doubles the time
        # here, unless it has seen a larger block freed before.
        torch.empty(31 * 2**20, dtype=torch.uint8)
    for start in range(0, len(values), batch):
        part, given = slice(start, start + batch), {}
        options = {} if mask is None else {"mask": mask[part].to(device)}
        for column, metric in enumerate(wanted):
            if metric.takes not in given:
                given[metric.takes] = [ranges.prepared(metric.takes, domain, one[part].to(device)) for one in images]
            scored = given[metric.takes][: 1 if metric.family == "no-reference" else 2]
            with torch.no_grad():
                found = metric.compute(*scored, ranges.peak(metric.takes, domain), **options)
            values[part, column] = found.cpu().numpy()
    return values


def _tensor(images):
    """An array as a tensor that shares its memory, where torch can: it takes no read-only or reversed arrays."""
    return images if torch.is_tensor(images) else torch.from_numpy(np.require(images, requirements=["C", "W"]))


def _wanted(names, domains) -> list[Metric]:
    """The metrics of these names. Raises: ValueError: where one is unknown, unavailable or cannot be masked."""
    if isinstance(names, str):
        raise ValueError(f"names is a sequence of metrics, not one string: [{names!r}]")
    wanted = [name if isinstance(name, Metric) else info(name) for name in names]
    for metric in wanted:
        if missing := ", ".join(_missing(metric)):
            raise ValueError(f"metric {metric.name!r} needs {missing}, not found here: `make weights` fetches weights")
    whole = [metric.name for metric in wanted if not metric.masked]
    if whole and any(domain.body for domain in domains):
        raise ValueError(
            f"{', '.join(whole)} cannot be taken inside a mask: leave them out of the domain body, or the domain out"
        )
    return wanted


def _check_finite(images, what, label, numbers):
    """Raises ValueError, naming the first image that holds a NaN or an infinity."""
    images = _tensor(images)
    if images.sum().isfinite():  # one pass; a sum may also overflow, so look closer
        return
    for number, wrong in zip(numbers, ~images.isfinite()):
        if wrong.any():
            raise ValueError(f"{label} {number}: the {what} holds values that are not finite: {int(wrong.sum())}")


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
    device="cpu",
) -> pd.DataFrame:
    """Score a denoiser on slices of a cohort.

    Args:
        predict: LDCT slices in HU, float32 (N, H, W), to denoised slices in HU of the same shape. ``lambda hu: hu``
            scores the LDCT itself.
        cohort: has ``slices`` (with columns row, patient, anatomy) and ``ldct``, ``ndct``, ``truth`` (S, H, W) in HU.
        rows: rows of the cohort, e.g. ``cohort.rows("test")``.
        domains: evaluation domains; ``window`` and ``eulig2024`` take the window of each slice's anatomy. ``body`` is
            that of the NDCT, for every reference.
        metrics: names of registered full-reference metrics.
        references: what is scored against. ``truth`` (noise-free) exists only for simulated patients and is left out
            where the cohort has none.
        level, width: one display window in HU for the domain ``window``, whatever the anatomy. The table then names it
            ``window C 40 W 400``, since such scores do not compare with those of the anatomies' own windows.
        batch: slices that ``predict`` is given at once.
        progress: wraps the sequence of batches, e.g. ``tqdm``.
        device: where the metrics are computed.
    Returns: long table, columns row, patient, anatomy, domain, reference, metric, value (float64). A value may be inf
        (PSNR of identical images) or NaN (``body`` of a slice without a body).
    Raises: ValueError: for unknown names, a metric that the domain ``body`` cannot mask, an empty selection, a cohort
        without any of the references, or a prediction of another shape or with values that are not finite (naming the
        row).
    """
    if isinstance(domains, str) or isinstance(metrics, str) or isinstance(references, str):
        raise ValueError("domains, metrics and references are sequences of names, not one string")
    wanted = _wanted(metrics, [intensity.domain(name) for name in domains])
    alone = [metric.name for metric in wanted if metric.family == "no-reference"]
    if alone:
        raise ValueError(f"{', '.join(alone)} take no reference: score slices with metrics.compute")
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

    chosen = {"level": level, "width": width}
    scored = []
    chunks = [slice(start, start + batch) for start in range(0, len(rows), batch)]
    for chunk in progress(chunks) if progress else chunks:
        ldct = np.stack([cohort.ldct[row] for row in rows[chunk]]).astype(np.float32)
        predicted = np.asarray(predict(ldct))
        if predicted.shape != ldct.shape:
            raise ValueError(f"predict gave shape {predicted.shape} for slices of shape {ldct.shape}")
        _check_finite(predicted, "prediction", "row", rows[chunk])
        predicted = _tensor(predicted)
        targets = {name: _tensor(np.stack([getattr(cohort, name)[row] for row in rows[chunk]])) for name in present}
        # One mask for every reference: the NDCT's body.
        body = intensity.body_mask(np.stack([cohort.ndct[row] for row in rows[chunk]])) if "body" in domains else None
        anatomies = described["anatomy"].iloc[chunk].to_numpy()
        values = np.empty((len(ldct), len(domains), len(present), len(wanted)))
        for anatomy in np.unique(anatomies):
            members = np.flatnonzero(anatomies == anatomy)
            for d, name in enumerate(domains):
                domain = intensity.domain(name, anatomy=anatomy, **(chosen if name == "window" else {}))
                mask = _tensor(body[members]) if domain.body else None
                for r, reference in enumerate(present):
                    pair = [predicted[members], targets[reference][members]]
                    values[members, d, r] = _scores(wanted, domain, pair, mask, device)
        scored.append(values)
    shown = [f"window C {level:g} W {width:g}" if name == "window" and level is not None else name for name in domains]
    parts = list(itertools.product(shown, present, [metric.name for metric in wanted]))
    table = described.loc[rows, ["patient", "anatomy"]].reset_index().iloc[np.repeat(np.arange(len(rows)), len(parts))]
    table[["domain", "reference", "metric"]] = parts * len(rows)
    return table.assign(value=np.concatenate(scored).ravel())[list(COLUMNS)].reset_index(drop=True)
