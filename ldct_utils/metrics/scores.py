"""Metrics of given images: which there are, which can be computed here, and their values."""

import warnings
from collections.abc import Sequence
from functools import cache

import numpy as np
import pandas as pd
import torch

from ldct_utils.ct import intensity
from ldct_utils.metrics import (  # noqa: F401  each registers its family as it is imported
    full_reference,
    ldct_iqa,
    learned,
    no_reference,
    ranges,
    segmentwise,
)
from ldct_utils.metrics.registry import FAMILIES, REGISTER, Metric
from ldct_utils.models import from_registry, weights

CACHED = 512 * 512  # pixels at once on a CPU: more do not stay in its cache, and every step then waits for memory


def info(name: str) -> Metric:
    """The metric of that name. Raises: ValueError: for an unknown name, listing the known ones."""
    if name not in REGISTER:
        raise ValueError(f"unknown metric {name!r}; known: {', '.join(sorted(REGISTER))}")
    return REGISTER[name]


def names(family: str | None = None) -> list[str]:
    """Names of the registered metrics, of one family or all. Raises: ValueError: for an unknown family."""
    if family not in (None, *FAMILIES):
        raise ValueError(f"unknown family {family!r}; known: {', '.join(FAMILIES)}")
    return sorted(name for name, metric in REGISTER.items() if family in (None, metric.family))


def available(names: Sequence[str] | None = None) -> pd.DataFrame:
    """Which metrics can be computed here: columns name, available, missing (weight files, or the package pyiqa), and
    remedy, the command that fetches these files."""
    chosen = sorted(REGISTER) if names is None else list(names)
    missing = [", ".join(_missing(info(name))) for name in chosen]
    remedy = [files and from_registry.command(info(name).needs) for name, files in zip(chosen, missing)]
    available = [not files for files in missing]
    return pd.DataFrame({"name": chosen, "available": available, "missing": missing, "remedy": remedy})


def _missing(metric: Metric) -> list[str]:
    """What a metric needs and is not here: weight files by their place in the bundle, or a package."""
    return weights.missing(metric.needs)


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
    wanted = known(names, [domain])
    pred = tensor(pred)
    if pred.ndim != 3 or not len(pred):
        raise ValueError(f"slices come as (N, H, W), one or more, got shape {tuple(pred.shape)}")
    check_finite(pred, "prediction", "image", range(len(pred)))
    lonely = [metric.name for metric in wanted if target is None and metric.family == "full-reference"]
    if lonely:
        raise ValueError(f"{', '.join(lonely)} need a target")
    if target is not None:
        target = tensor(target)
        if target.shape != pred.shape:
            raise ValueError(f"pred {tuple(pred.shape)} and target {tuple(target.shape)} differ in shape")
        check_finite(target, "target", "image", range(len(pred)))
    if mask is not None and not domain.body:
        raise ValueError(f"a mask belongs to the domain body, not to {domain.name}")
    if domain.body:
        where = intensity.body_mask((pred if target is None else target).cpu().numpy()) if mask is None else mask
        mask = tensor(where).bool()
        if mask.shape != pred.shape:
            raise ValueError(f"pred {tuple(pred.shape)} and mask {tuple(mask.shape)} differ in shape")

    values = of_batch(wanted, domain, [pred] if target is None else [pred, target], mask, device, batch)
    return pd.DataFrame(
        {
            "image": np.repeat(np.arange(len(pred)), len(wanted)),
            "domain": domain.name,
            "metric": [metric.name for metric in wanted] * len(pred),
            "value": values.ravel(),
        }
    )


@cache
def _reuse_freed_memory():
    """Have the C library keep the memory of freed images for the next ones: 15 % less CPU time at 256 x 256 pixels.

    glibc takes a block that is larger than any freed so far from the system, which clears it page by page, and gives it
    back when it is freed. After one freed block of 31 MiB (32 is its limit) it keeps all that are smaller.
    """
    torch.empty(31 * 2**20, dtype=torch.uint8)


def of_batch(wanted, domain, images, mask, device, batch=16) -> np.ndarray:
    """Values (N, metrics) of a prediction, and its target where there is one: tensors (N, H, W) in HU."""
    shape = tuple(images[0].shape)
    for metric in wanted:
        if min(shape[1:]) < metric.smallest:
            raise ValueError(f"{metric.name} needs slices of at least {metric.smallest} pixels a side, not {shape[1:]}")
    values = np.empty((len(images[0]), len(wanted)))
    if torch.device(device).type == "cpu":
        batch = max(1, min(batch, CACHED // (shape[1] * shape[2])))
        _reuse_freed_memory()
    for start in range(0, len(values), batch):
        part, given = slice(start, start + batch), {}
        options = {} if mask is None else {"mask": mask[part].to(device)}
        for column, metric in enumerate(wanted):
            if metric.takes not in given:
                given[metric.takes] = [ranges.prepared(metric.takes, domain, one[part].to(device)) for one in images]
            scored = given[metric.takes][: 1 if metric.family == "no-reference" else 2]
            with torch.no_grad():
                scores = metric.compute(*scored, ranges.peak(metric.takes, domain), **options)
            values[part, column] = defined(metric, scores.cpu().numpy(), scored, "mask" in options)
    _tell_undefined(wanted, values)
    return values


def defined(metric: Metric, scores: np.ndarray, images, masked: bool = False) -> np.ndarray:
    """Scores (N,) with what a formula leaves undefined put right: slices of air have no structure to divide by.

    An image against itself has the metric's best value. Any other value outside of the metric's range is NaN, which no
    mean counts.

    Args: images: the prediction, and the target where there is one, (N, H, W), as the metric was given them.
    """
    scores = np.array(scores, np.float64)
    if len(images) == 2 and not masked and not np.isnan(metric.best):
        same = (images[0] == images[1]).flatten(1).all(1).cpu().numpy()
        scores[same] = metric.best
    rounding = 1e-6
    scores[(scores < metric.low - rounding) | (scores > metric.high + rounding)] = np.nan
    return scores


def _tell_undefined(wanted, values: np.ndarray):
    """Warn of metrics that have no value for some slices, with how many: they are left out of every mean."""
    lost = {metric.name: int(np.isnan(column).sum()) for metric, column in zip(wanted, values.T)}
    if any(lost.values()):
        told = ", ".join(f"{name} ({n} of {len(values)} slices)" for name, n in lost.items() if n)
        warnings.warn(
            f"no value: {told}; means leave them out. Slices without structure or body are the usual reason",
            stacklevel=3,
        )


def tensor(images):
    """An array as a tensor that shares its memory, where torch can: it takes no read-only or reversed arrays.

    Raises: ValueError: for a masked array, whose mask would be lost.
    """
    if torch.is_tensor(images):
        return images
    if np.ma.is_masked(images):
        raise ValueError(
            "the images are a masked array: fill what is masked, or score inside a mask (domain body, mask=...)"
        )
    images = np.asarray(images)
    if not images.dtype.isnative:  # torch takes no foreign byte order
        images = images.astype(images.dtype.newbyteorder("="))
    return torch.from_numpy(np.require(images, requirements=["C", "W"]))


def known(names, domains) -> list[Metric]:
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


def check_finite(images, what, label, numbers):
    """Raises ValueError, naming the first image that holds a NaN or an infinity."""
    images = tensor(images)
    if images.sum().isfinite():  # one pass; a sum may also overflow, so look closer
        return
    for number, wrong in zip(numbers, ~images.isfinite()):
        if wrong.any():
            raise ValueError(f"{label} {number}: the {what} holds values that are not finite: {int(wrong.sum())}")
