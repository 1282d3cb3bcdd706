"""Anybody's denoiser: named in one word, told its range, probed on a few slices, and then a function from HU to HU.

``opened`` finds it by its name, ``conventions`` holds what networks take for a range, ``probing`` finds what is wrong
before anything is measured, ``onnx_files`` runs ONNX files, ``finished`` matches images that were denoised elsewhere.

May import: study, ct, cohorts, models, training. Start reading in ``opened``, then ``conventions``.
"""
