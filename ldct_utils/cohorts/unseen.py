"""Leakage between cohorts: test patients of one cohort who are training patients of another."""

import re

import numpy as np

from ldct_utils.cohorts import lookup
from ldct_utils.cohorts.cohort import Cohort
from ldct_utils.study.sources import CohortParameters

MAYO = r"[CLN]\d{3}"  # a Mayo id is the same patient in every cohort; P001 is another patient in each


def _marks(cohort, about) -> dict:
    """{middle row of pixels of an NDCT slice: patient}. Two scans never have the same noise, so equal pixels mean the
    same scan; one row of pixels is enough and quick to read. Constant rows are left out."""
    rows = ((cohort.ndct[one.row][cohort.ndct.shape[1] // 2], one.patient) for one in about.itertuples())
    return {np.asarray(pixels).tobytes(): patient for pixels, patient in rows if np.ptp(pixels)}


def shared(own, other) -> set:
    """Patients of ``other`` who are in the training or validation of ``own``.

    Patients are the same if they share a Mayo id, the number in two simulated cohorts of one seed, or a slice with
    identical noise. A patient who was renamed and reconstructed anew is not detected.
    """
    trained = own.slices[own.slices.split != "test"]
    named = set(trained.patient) & set(other.slices.patient)
    if all(one.meta["source"].startswith("simulated") for one in (own, other)):  # its controls are the same patients
        if own.meta["parameters"]["cohort_seed"] != other.meta["parameters"]["cohort_seed"]:
            named = set()
    else:
        named = {name for name in named if re.fullmatch(MAYO, name)}
    marks = _marks(own, trained)
    return named | {patient for mark, patient in _marks(other, other.slices).items() if mark in marks}


def tested_on(own: Cohort, source: str | None = None, root: str | None = None) -> Cohort:
    """The cohort that networks are tested on: their own, or all patients of another that they were not trained on.

    Noise is inserted into a normal-dose series at the dose of the training cohort, and arrays are read in its range.

    Args: own: of the training. source, root: of the other one, as ``lookup.get`` takes them; None for their own.
    Raises: ValueError: naming patients that are in both, see ``shared``.
    """
    if not source:
        return own
    read = own.meta["parameters"]
    dose, hu_range = read.get("dose", CohortParameters.dose), read.get("hu_range")
    other = lookup.get(source, root, split="test", dose=dose, hu_range=hu_range)
    if seen := shared(own, other):
        raise ValueError(
            f"{', '.join(sorted(seen))} of {source} {other.id} was in the training: give a test_root without, or leave "
            "test_source out, which takes the training cohort's own test patients"
        )
    return other
