"""A denoiser scored on slices of a cohort, in every domain and against every reference, as one long table."""

import itertools
import math
import re
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from ldct_utils.ct import intensity
from ldct_utils.metrics import scores

DOMAINS = ("hu", "viana2025", "body", "window")
METRICS = ("ssim", "ssim_window", "psnr", "nrmse", "rmse_hu", "bias_hu")
ONCE = {"ssim_window": "body"}  # metrics with a window of their own, the same in every domain, and where they stand
COLUMNS = ("row", "patient", "anatomy", "domain", "reference", "metric", "value")
OWN = "window C {:g} W {:g}"  # domain of scores in one window, whatever the anatomy


def own_window(level: float | None, width: float | None) -> tuple[float, float] | None:
    """A window of one's own, centre and width in HU; None where neither is given: each anatomy has its own.

    Raises: ValueError: where one of the two is missing, or the width is not positive.
    """
    if level is None and width is None:
        return None
    if level is None or width is None or not 0 < width < math.inf or not math.isfinite(level):
        raise ValueError(
            f"a window of your own needs level and width, its centre and its full width over 0, in HU; got "
            f"level={level}, width={width}"
        )
    return float(level), float(width)


def window_of(domain: str) -> tuple[float | None, float | None]:
    """Level and width that the name of a domain tells, e.g. ``window C 40 W 400``; None and None for all others."""
    told = re.fullmatch(r"window C (-?[\d.]+) W ([\d.]+)", domain)
    return (float(told[1]), float(told[2])) if told else (None, None)


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
        metrics: names of registered full-reference metrics. Those of ``ONCE`` stand in their one domain only, where it
            is among the domains.
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
    wanted = scores.known(metrics, [intensity.domain(name) for name in domains])
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

    at = {  # of the metrics that are computed in each domain
        name: [m for m, metric in enumerate(wanted) if ONCE.get(metric.name) not in {*domains} - {name}]
        for name in domains
    }
    own = own_window(level, width)
    chosen = dict(zip(("level", "width"), own or ()))
    scored = []
    chunks = [slice(start, start + batch) for start in range(0, len(rows), batch)]
    for chunk in progress(chunks) if progress else chunks:
        ldct = np.stack([cohort.ldct[row] for row in rows[chunk]]).astype(np.float32)
        predicted = np.asarray(predict(ldct))
        if predicted.shape != ldct.shape:
            raise ValueError(f"predict gave shape {predicted.shape} for slices of shape {ldct.shape}")
        scores.check_finite(predicted, "prediction", "row", rows[chunk])
        predicted = scores.tensor(predicted)
        targets = {
            name: scores.tensor(np.stack([getattr(cohort, name)[row] for row in rows[chunk]])) for name in present
        }
        # One mask for every reference: the NDCT's body.
        body = intensity.body_mask(np.stack([cohort.ndct[row] for row in rows[chunk]])) if "body" in domains else None
        anatomies = described["anatomy"].iloc[chunk].to_numpy()
        values = np.empty((len(ldct), len(domains), len(present), len(wanted)))
        for anatomy in np.unique(anatomies):
            members = np.flatnonzero(anatomies == anatomy)
            for d, name in enumerate(domains):
                domain = intensity.domain(name, anatomy=anatomy, **(chosen if name == "window" else {}))
                mask = scores.tensor(body[members]) if domain.body else None
                for r, reference in enumerate(present):
                    pair = [predicted[members], targets[reference][members]]
                    asked = [wanted[m] for m in at[name]]
                    values[np.ix_(members, [d], [r], at[name])] = scores.of_batch(asked, domain, pair, mask, device)[
                        :, None, None
                    ]
        scored.append(values)
    shown = [OWN.format(*own) if name == "window" and own else name for name in domains]
    parts = list(itertools.product(shown, present, [metric.name for metric in wanted]))
    table = described.loc[rows, ["patient", "anatomy"]].reset_index().iloc[np.repeat(np.arange(len(rows)), len(parts))]
    table[["domain", "reference", "metric"]] = parts * len(rows)
    table = table.assign(value=np.concatenate(scored).ravel())[list(COLUMNS)]
    used = [m in at[name] for name, _, m in itertools.product(domains, present, range(len(wanted)))]
    return table[np.tile(used, len(rows))].reset_index(drop=True)
