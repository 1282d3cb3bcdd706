"""How a denoiser is trained: the terms of the loss, what an update is, what is logged and kept.

The loop itself stands in the notebook 03_train. ``losses`` holds the terms, ``psi`` the share of the perceptual term in
the loss (psi) and its weight (lambda), ``methods`` what one update is (supervised, wgan, dugan), ``history`` the log,
``checkpoints`` what is saved, ``setup`` seed, learning rate and memory, ``prediction`` a network on whole slices,
``encoder_bench`` what an encoder answers to, ``encoder_worth`` whether one may be called medical, ``testing`` the test
of a trained network, computed once and stored with its run, ``filters`` what filters gain and keep without training,
``working_point`` whether it was trained enough to be compared, ``designs`` the choices of a run in words, ``transfer``
networks on a real CT, ``costs`` what a slice costs, ``medical_encoder`` what the training of an encoder needs,
``origins`` what networks were trained on and make of other CT.

May import: study, ct, stats, cohorts, models, segments, metrics. Start reading in ``losses``, then ``psi``.
"""
