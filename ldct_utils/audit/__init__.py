"""Metrics put to the test: how they react to known damage, and whether they improve when the loss does.

``scoring`` chooses slices and metrics, ``agreement`` sets metrics against losses along a training, ``trainings`` tells
it of several trainings in tables, ``reactions`` sets metrics against known damage and against what an observer detects,
``over_dose`` asks observers and metrics of the same images.

May import: study, ct, stats, metrics, task_based, noise2quality. Start reading in ``reactions``.
"""
