"""Statistics with the patient as the unit.

``intervals`` holds the one bootstrap over patients (and seeds), ``paired`` tests and effect sizes of two methods,
``ranking`` orders of many.

May import: nothing. Start reading in ``intervals``.
"""
