"""Patients of one cohort who are also in the training of another, though split and folder do not show it."""

import re

import numpy as np

MAYO = r"[CLN]\d{3}"  # Mayo's ids mean one patient wherever they stand; P001 is another one in every cohort


def _marks(cohort, about) -> dict:
    """{pixels of the middle row of an NDCT slice: patient}: equal noise is the same scan. Rows without any are left
    out; one row is enough, and of 16,000 slices it is read in a moment."""
    rows = ((cohort.ndct[one.row][cohort.ndct.shape[1] // 2], one.patient) for one in about.itertuples())
    return {np.asarray(pixels).tobytes(): patient for pixels, patient in rows if np.ptp(pixels)}


def shared(own, other) -> set:
    """Patients of ``other`` who are in the training or validation of ``own``.

    They are the same by an id of Mayo's, by number where both cohorts are simulated from one seed, or by the noise of a
    slice. Who was renamed and reconstructed again is not found.
    """
    trained = own.slices[own.slices.split != "test"]
    named = set(trained.patient) & set(other.slices.patient)
    if own.meta["source"] == other.meta["source"] == "simulated":
        if own.meta["parameters"]["cohort_seed"] != other.meta["parameters"]["cohort_seed"]:
            named = set()
    else:
        named = {name for name in named if re.fullmatch(MAYO, name)}
    marks = _marks(own, trained)
    return named | {patient for mark, patient in _marks(other, other.slices).items() if mark in marks}
