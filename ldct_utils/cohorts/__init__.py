"""Cohorts: paired low-dose and normal-dose slices on disk, with an identity and a split by patient.

``get`` is all that a notebook needs: it builds the cohort of its parameters once and loads it ever after. One module a
source says how its slices are made (``simulated``, ``controls``, ``diffdrr``, ``diffdrr_lesions``, ``paired``,
``arrays``, ``own_pairs``, ``inserted``). ``listed`` reads a table of who is who, ``headerless`` files without DICOM
headers, ``splits`` says who trains and who is tested, ``patches`` draws patches, ``writing`` and ``reading`` share what
sources have in common, ``swapped`` finds exchanged doses, ``same_images`` pairs without a difference, ``unseen``
patients who are in both of two cohorts.

May import: study, ct, phantom. Start reading in ``lookup`` (how a cohort is found), then ``cohort`` (what it is).
"""

from ldct_utils.cohorts.cohort import Cohort, load
from ldct_utils.cohorts.lookup import get, identity, of
from ldct_utils.cohorts.same_images import identical, refuse_identical
from ldct_utils.cohorts.unseen import tested_on

__all__ = ["Cohort", "get", "identical", "identity", "load", "of", "refuse_identical", "tested_on"]
