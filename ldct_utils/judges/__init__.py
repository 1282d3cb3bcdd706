"""Judges of denoisers tried on denoisers whose fault is known: whom to believe, and of which fault.

``faulty`` holds denoisers with one fault at graded strength and their honest twins, ``subjects`` the simulated patients
with all that a judge may ask for, ``panel`` the judges, one function each, ``search`` the invariance search as one,
``caught`` says how often a judge calls a fault, at a fixed rate of false alarms, and ``verdicts`` makes the one table.

May import: ct, stats, models, segments, metrics, task_based, invariance, structures, report. Start reading in
``faulty``, then ``panel``.
"""
