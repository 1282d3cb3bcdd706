"""Leakage between cohorts: test patients of one cohort who are training patients of another."""

import re

import numpy as np

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
    if own.meta["source"] == other.meta["source"] == "simulated":
        if own.meta["parameters"]["cohort_seed"] != other.meta["parameters"]["cohort_seed"]:
            named = set()
    else:
        named = {name for name in named if re.fullmatch(MAYO, name)}
    marks = _marks(own, trained)
    return named | {patient for mark, patient in _marks(other, other.slices).items() if mark in marks}
