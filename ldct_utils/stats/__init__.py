"""Statistics with the patient as the unit; where trainings are compared, the training.

``intervals`` holds intervals over patients (and seeds) by one bootstrap, ``paired`` tests and effect sizes of two
methods, ``nulls`` how often the tests fire where there is nothing to find, ``tost`` equivalence within a margin,
``claims`` a claim of it with its controls, ``ranking`` orders of many, ``blending`` whether a network trades error for
lesions better than a blend of another one with its input, ``search`` what a search for hyper-parameters found.

May import: nothing. Start reading in ``intervals``.
"""
