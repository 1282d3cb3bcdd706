"""Statistics with the patient as the unit.

``intervals`` holds intervals over patients (and seeds) by one bootstrap, ``paired`` tests and effect sizes of two
methods, ``tost`` equivalence within a margin, ``ranking`` orders of many.

May import: nothing. Start reading in ``intervals``.
"""
