"""Image quality as success at a task: does a model observer (a formula in a reader's place) detect the lesion?

``ensembles`` makes lesions at known places with many noise realisations, ``observers`` holds the channelised Hotelling
(CHO) and the non-prewhitening observer (NPW), ``npwe`` the latter with an eye and internal noise, ``scanning`` a CHO
that searches. ``tasks`` and ``panel`` put them before known denoisers, ``trial`` says which may be believed.
``resolution`` holds transfer functions, ``equivalence`` the dose at which a plain reconstruction (FBP) does as well,
``fabrication`` detail that a network invents alike in every scan, ``kept`` what networks leave of faint lesions,
``real_backgrounds`` detection in front of real anatomy, ``characterise`` detection against telling shapes, ``tradeoff``
error against what is kept of lesions, and ``said`` what observers say in sentences.

May import: ct, models, phantom, report, stats. Start reading in ``ensembles``, then ``observers``.
"""
