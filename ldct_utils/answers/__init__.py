"""What a study answers: the numbers that its finished runs stored, and a sentence to each question.

``collect`` takes the numbers, ``said`` makes a sentence of them with its zero, one, all and too-few cases, ``front``
the report's first page with its ``five`` answers. README, docs/results.md and the report say the same: all ask here.

May import: cohorts, metrics, report, stats, structures, study, task_based, training. Start reading in ``said``.
"""
