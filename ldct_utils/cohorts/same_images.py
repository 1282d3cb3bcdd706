"""Pairs whose two images are the same: at the full dose, or where one file was given for both."""

import numpy as np

from ldct_utils.cohorts.cohort import Cohort

LOOKED_AT = 8  # slices


def identical(cohort: Cohort) -> bool:
    """Whether the LDCT of a cohort is its NDCT, in slices spread over the patients."""
    rows = cohort.spread(cohort.slices.row, LOOKED_AT)
    return all(np.array_equal(cohort.ldct[row], cohort.ndct[row]) for row in rows)


def refuse_identical(cohort: Cohort):
    """Raises: ValueError: if there is no noise to be removed, with what to give."""
    if identical(cohort):
        dose = cohort.slices.dose.max()
        remedy = "give a dose below 1" if dose == 1 else "one file was given for both: look at the folders or names"
        raise ValueError(f"LDCT and NDCT of cohort {cohort.id} are the same images, at dose {dose:g}: {remedy}")
