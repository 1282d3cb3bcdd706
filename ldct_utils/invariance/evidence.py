"""What makes a found invariance evidence: changes in HU against the changes that another noise realisation makes."""

import numpy as np
import pandas as pd
from scipy import ndimage

from ldct_utils.ct.intensity import EULIG_STD_HU, FAINT_HU
from ldct_utils.stats import intervals

SMALLEST = 9  # pixels of a lesion whose mean says something
RADII = ("< 3", "3–5", "≥ 5")  # mm: classes of lesions by size
CONTRASTS = (f"under {FAINT_HU:.0f} HU", f"{FAINT_HU:.0f} HU and more")  # and by contrast, dark or bright


def rmse_hu(images, reference) -> np.ndarray:
    """Root mean square difference (...,) of images (..., H, W) from one image (H, W), both HU."""
    difference = np.asarray(images, np.float64) - np.asarray(reference, np.float64)
    return np.sqrt(np.mean(np.square(difference), axis=(-2, -1)))


def pix_md(images, reference) -> np.ndarray:
    """Mean absolute difference (...,) of images (..., H, W) from one image (H, W), both HU, in units of 502.185 HU.

    Source: code released with Eulig et al., Med Phys 52(1) 188 (2025), whose only measure it is.
    """
    difference = np.asarray(images, np.float64) - np.asarray(reference, np.float64)
    return np.abs(difference).mean(axis=(-2, -1)) / EULIG_STD_HU


def low_pass(images, sigma_px: float = 2.0) -> np.ndarray:
    """Images (..., H, W) blurred by a Gaussian: what is left of a change is anatomy rather than noise."""
    images = np.asarray(images, np.float32)
    return ndimage.gaussian_filter(images, (*(0,) * (images.ndim - 2), sigma_px, sigma_px))


def contrast(images, inside, around) -> np.ndarray:
    """Mean of a region minus that of its surroundings, HU: images (..., H, W), boolean (H, W) -> (...,).

    Raises: ValueError: if one of the two has no pixels.
    """
    if not inside.any() or not around.any():
        raise ValueError("a lesion without pixels, or without surroundings, has no contrast: leave it out")
    images = np.asarray(images, np.float64)
    return images[..., inside].mean(-1) - images[..., around].mean(-1)


def contrast_kept(denoise, absent, signal, inside) -> np.ndarray:
    """Share of each lesion's contrast that f keeps, a noise realisation a row: 1 all, 0 nothing.

    f(x + signal) - f(x), its mean over the lesion's pixels as a share of the signal's: with the same noise in both, so
    that few realisations are enough.

    Args: denoise: f of images (R, H, W), HU. absent: x, (R, H, W), HU. signal: what all lesions add without noise,
        (H, W), HU. inside: the pixels of each, boolean (L, H, W).
    Returns: (R, L). Raises: ValueError: for a lesion that adds nothing.
    """
    true = means(signal, inside)
    if not true.all():
        raise ValueError("a lesion that adds nothing has no contrast to keep: leave it out")
    absent = np.asarray(absent, np.float32)
    return means(denoise(absent + np.asarray(signal, np.float32)) - denoise(absent), inside) / true


def means(images, masks) -> np.ndarray:
    """Mean of every segment: images (..., H, W), HU, boolean masks (S, H, W) -> (..., S), HU.

    Raises: ValueError: for a mask without pixels.
    """
    images, flat = np.asarray(images, np.float64), np.asarray(masks, np.float64).reshape(len(masks), -1)
    area = flat.sum(1)
    if not area.all():
        raise ValueError("a segment without pixels has no mean: leave it out")
    return images.reshape(*images.shape[:-2], -1) @ flat.T / area


def p_value(change, null) -> np.ndarray:
    """How often the null alone makes a change as large: p of each |change|, exact for finitely many realisations.

    Args: change: (...,) or (..., S); null: (R,) or (R, S), changes between realisations of the same slice.
    Returns: (1 + number of |null| >= |change|) / (R + 1), in (0, 1]: at most a with probability a where ``change`` is
        one more realisation (Phipson and Smyth 2010, Stat Appl Genet Mol Biol 9:39).
    Raises: ValueError: for a change that is not finite, which no null would be as large as.
    """
    change, null = np.abs(np.asarray(change, np.float64)), np.abs(np.asarray(null, np.float64))
    if not (np.isfinite(change).all() and np.isfinite(null).all()):
        raise ValueError("changes must be finite to have a p")
    ordered = np.sort(null, axis=0)
    if null.ndim == 1:
        larger = len(null) - np.searchsorted(ordered, change, side="left")
    else:
        flat = change.reshape(-1, null.shape[1])
        larger = np.stack(
            [len(null) - np.searchsorted(ordered[:, s], flat[:, s], side="left") for s in range(null.shape[1])], axis=1
        ).reshape(change.shape)
    return (1 + larger) / (len(null) + 1)


def verdicts(table, level: float) -> pd.DataFrame:
    """Regions with ``p_in`` and ``p_out``, and of each whether it is ``changed``, and whether f hides that.

    Changed: by more than the null explains at the input (p_in <= level). Hidden: changed, and not so at the output.
    """
    changed = table.p_in <= level
    return table.assign(changed=changed, hidden=changed & (table.p_out > level))


def kinds(table) -> pd.DataFrame:
    """Rows of lesions (``radius_mm``, ``contrast_hu``) with their kind: class of size, "radius, mm", and "contrast"."""
    radius = pd.cut(table.radius_mm, [0, 3, 5, np.inf], right=False, labels=RADII)
    return table.assign(**{"radius, mm": radius, "contrast": np.where(table.contrast_hu.abs() < FAINT_HU, *CONTRASTS)})


def counts(table, draws: int = 10_000, seed: int = 0) -> dict:
    """How many regions were changed and how many of these are hidden: what is not changed says nothing about f.

    Args: table: from ``verdicts``, of one method, with ``patient``. draws, seed: of the bootstrap.
    Returns: ``tested``, ``changed``, ``hidden``; ``patients`` with a changed region; ``share``: hidden of changed, mean
        over these patients, with its 95 % interval ``low``, ``high``, NaN where nothing was changed or, for the
        bootstrap, under ``intervals.MIN_PATIENTS`` of them. Where none or all of the changed are hidden a bootstrap
        has no width: ``intervals.share_interval`` over patients takes its place.
    """
    changed = table[table.changed]
    by_patient = changed.groupby("patient").hidden.mean().to_numpy()
    row = {"tested": len(table), "changed": len(changed), "hidden": int(changed.hidden.sum())}
    row |= {"patients": len(by_patient), "share": np.nan, "low": np.nan, "high": np.nan}
    if len(by_patient):
        span, n = intervals.patient_bootstrap(by_patient, draws=draws, seed=seed), len(by_patient)
        ends = intervals.share_interval(span.mean * n, n) if span.mean in (0, 1) else (span.low, span.high)
        row |= {"share": span.mean, "low": ends[0], "high": ends[1]}
    return row


def counted(table, level: float, draws: int = 10_000, seed: int = 0) -> pd.DataFrame:
    """A row a method: its ``counts``, and the RMS change of all its regions at the input and after f.

    Args: table: a row a method, image and region: ``method``, ``patient``, ``change_in``, ``change_out``, HU, ``p_in``,
        ``p_out``. level: as for ``verdicts``; draws, seed: as for ``counts``.
    Returns: ``method``, what ``counts`` returns, and ``in_hu``, ``out_hu``.
    """
    rows = []
    for method, part in verdicts(table, level).groupby("method", sort=False):
        rms = {f"{end}_hu": np.sqrt(np.mean(part[f"change_{end}"] ** 2)) for end in ("in", "out")}
        rows.append({"method": method} | counts(part, draws, seed) | rms)
    return pd.DataFrame(rows)


def said(count) -> str:
    """The ``counts`` of a method in words."""
    words = f"{count['changed']:.0f} of {count['tested']:.0f} changed"
    if count["changed"]:
        return words + f", {count['hidden']:.0f} of these hidden ({count['hidden'] / count['changed']:.0%})"
    return f"{words}, hiding not tested"


def apart(signal, inside) -> np.ndarray:
    """What each lesion adds: signal of all, (H, W), HU, and the pixels of each, boolean (L, H, W) -> (L, H, W), HU.

    A pixel of the signal belongs to the nearest lesion.
    """
    nearest = np.argmin([ndimage.distance_transform_edt(~mask) for mask in inside], axis=0)
    return np.where(nearest == np.arange(len(inside))[:, None, None], signal, 0.0)


def d_prime_kept(detection, column: str = "d_prime") -> pd.Series:
    """d' in f(x) as a share of d' in x, by patient: of the sums over its lesions, steadier than a mean of ratios.

    Args: detection: a row a lesion and image ("x" or "f(x)"), with ``patient``.
    """
    sums = detection.groupby(["patient", "image"])[column].sum().unstack()
    return sums["f(x)"] / sums["x"]
