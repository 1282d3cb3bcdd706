"""Structures of volumes: removed on purpose, or removed and invented by a denoiser.

``volumes`` holds volumes with known structures, ``decathlon`` reads some, ``errors`` measures denoisers over segments,
``removal`` asks which metrics notice that structures are gone, ``hallucinations`` tests every segment for a change,
``null`` gives its p values by comparison with other patients, ``froc`` says how many planted changes are found,
``sfrc`` is a second detector, which compares patches with a reference by frequency.

May import: ct, stats, cohorts, segments, metrics, task_based. Start reading in ``removal`` or ``hallucinations``.
"""
