"""Slices at doses that nobody scanned, from pairs whose LDCT contains the NDCT's noise; and the check that they do.

I_D = I_full + a (I_low - I_full), a = sqrt((1/D - 1) / (1/D_low - 1)), in HU: the inserted noise is scaled, so all
doses share one noise pattern. Where a quarter of the dose was drawn independently the same formula gives a wrong
variance, and for D above .68 less noise than the full dose has.
"""

import numpy as np
import pandas as pd

from ldct_utils.ct import intensity, noise_checks, nps
from ldct_utils.ct.dose import at_dose

CHECKED = (
    0.50,
    0.75,
)  # where independent draws show best: 1.5 and .9 times the full dose's variance, not 2 and 1.3
TOLERANCE = 0.05  # of the variance
MOST = 24  # slices that the check looks at


def legal(doses) -> list[float]:
    """The doses that slices are shown at, as they are given. Raises: ValueError: for others than rising fractions."""
    if not doses or not all(0 < dose < 1 for dose in doses) or sorted(set(doses)) != doses:
        raise ValueError(
            f"doses are fractions under 1, rising, as the NDCT's own map is perfect everywhere; got {doses}"
        )
    return doses


def independent(ldct_dose):
    """Correlation of LDCT - NDCT with the NDCT's noise where the two are drawn independently, so that their variances
    are as 1/D to 1: -1/sqrt(1 + 1/D), -.45 at a quarter of the dose, -.30 at 10 %, -.20 at 4 %.

    Args: ldct_dose: of the LDCT, in (0, 1), number or array.
    """
    return -1 / np.sqrt(1 + 1 / np.asarray(ldct_dose, np.float64))


def measure(cohort, rows=None) -> pd.DataFrame:
    """Whether the LDCT of a cohort contains the noise of the NDCT: a row a quantity and dose.

    With a noise-free truth: the variance of the noise at a dose over that of the NDCT, inside the body, expected 1/D.
    Without: the high-pass noise variance in soft tissue, where edges add to it, and, which decides, the correlation of
    LDCT - NDCT with the NDCT's noise, expected 0 (``noise_checks.correlation``).

    It is refused from halfway to that of independent draws on, ``independent``.

    Args: cohort: with ``slices``, ``ldct``, ``ndct`` and perhaps ``truth``. rows: slices to look at, at most ``MOST``
        of them, evenly; None: all.
    Returns: columns quantity, dose, value, expected, holds (False where the pairs must be refused); empty where there
        is nothing to measure in (no truth and no soft tissue).
    """
    rows = cohort.slices.row.to_numpy() if rows is None else np.asarray(rows)
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, MOST).round().astype(int))]
    of = cohort.slices.set_index("row").dose.loc[rows].to_numpy(dtype=float)
    ndct, ldct = (np.asarray(images[rows], np.float64) for images in (cohort.ndct, cohort.ldct))
    if getattr(cohort, "truth", None) is not None:
        return _against_truth(ndct, ldct, np.asarray(cohort.truth[rows], np.float64), of)
    return _in_tissue(ndct, ldct, of)


def _against_truth(ndct, ldct, truth, of):
    # air is clipped at -1024 HU, and its noise with it
    inside = intensity.body_mask(truth) & (truth > -700)
    normal, found = (ndct - truth)[inside].var(), []
    for dose in CHECKED:
        images = np.stack([at_dose(*pair, its, dose) for *pair, its in zip(ndct, ldct, of)])
        ratio = (images - truth)[inside].var() / normal
        holds = abs(ratio * dose - 1) <= TOLERANCE
        found.append(("noise variance over that of the NDCT, inside the body", dose, ratio, 1 / dose, holds))
    return _table(found)


def _in_tissue(ndct, ldct, of):
    ratios, correlations, limits = {dose: [] for dose in CHECKED}, [], []
    for full, low, its in zip(ndct, ldct, of):
        try:
            normal = nps.tissue_noise(full, full)
            correlations.append(noise_checks.correlation(low, full))
        except ValueError:  # raised where a slice has too little soft tissue
            continue
        limits.append(independent(its) / 2)
        for dose in CHECKED:
            ratios[dose].append((nps.tissue_noise(at_dose(full, low, its, dose), full) / normal) ** 2)
    if not correlations:
        return _table([])
    found = [("high-pass variance over that of the NDCT, soft tissue", d, np.mean(r), 1 / d, True)
             for d, r in ratios.items()]  # fmt: skip
    mean, holds = np.mean(correlations), np.mean(correlations) > np.mean(limits)
    return _table([*found, ("correlation of LDCT - NDCT with NDCT, soft tissue", np.nan, mean, 0.0, holds)])


def _table(found):
    return pd.DataFrame(found, columns=["quantity", "dose", "value", "expected", "holds"])


def check(cohort, rows=None) -> pd.DataFrame:
    """``measure``, refusing pairs from which other doses cannot be made.

    Raises: ValueError: where the doses were drawn independently, or the LDCT has the NDCT's dose.
    """
    ids = getattr(cohort, "id", "in memory")
    given = cohort.slices.dose.to_numpy(dtype=float)
    if not ((given > 0) & (given < 1)).all():
        raise ValueError(
            f"cohort {ids} has an LDCT of dose {given.max():g}: the noise that is scaled to other doses must be there; "
            "build it with a dose under 1"
        )
    found = measure(cohort, rows)
    wrong = found[~found.holds.astype(bool)]
    if len(wrong):
        one = wrong.iloc[0]
        raise ValueError(
            f"cohort {ids} cannot give other doses: {one.quantity} is {one.value:.2f}"
            + (f" at dose {one.dose:g}" if np.isfinite(one.dose) else "")
            + f" where {one.expected:.2f} is expected, as if LDCT and NDCT were drawn independently. Take pairs whose "
            "LDCT contains the NDCT's noise: source simulated, mayo2016, tcia, or dicom, which inserts it"
        )
    return found
