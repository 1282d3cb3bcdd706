"""What a study answers: the numbers that its finished runs stored, and a sentence to each question.

``front`` makes the report's first page; its answers stand in ``five``, a module an answer. ``collect`` says which block
of numbers comes from which notebook, and ``collected`` holds the functions that take them, a module a subject. ``said``
makes a sentence of them for each of fifteen questions, with its zero, one, all and too-few cases, as docs/results.md
has them. README, docs/results.md and the report say the same: all ask here.

May import: cohorts, ct, metrics, models, report, stats, structures, study, task_based, training.
Start reading in ``front``.
"""
