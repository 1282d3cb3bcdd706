"""Noise2Quality: a map of a slice's quality without its reference, predicted by a network (Haque, Wang and Imran, SPIE
Medical Imaging 2022, vol. 12035).

``doses`` makes what it learns from, ``targets`` what it is to predict, ``highpass`` its second input, ``networks`` and
``training`` the training, ``maps`` applies the network, ``baselines`` is what it must beat, ``scoring`` rates slices by
all of them, also ``elsewhere``, ``comparison`` and ``evidence`` make the tables, ``metric`` a number for the audit.

May import: study, ct, stats, cohorts, models, metrics, training. Start reading in ``targets``, then ``maps``.
"""
