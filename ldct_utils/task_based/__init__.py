"""Image quality as success at a task: model observers, resolution, and the dose that two curves are worth.

``ensembles`` makes lesions at known places with many noise realisations, ``observers`` holds the channelised Hotelling
(CHO) and the non-prewhitening observer, ``resolution`` transfer functions, ``equivalence`` equivalent doses,
``fabrication`` fine structure that repeats and is not the truth's.

May import: ct, phantom, stats. Start reading in ``ensembles``, then ``observers``.
"""
