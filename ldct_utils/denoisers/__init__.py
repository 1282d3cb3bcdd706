"""Anybody's denoiser: named in one word, told its range, probed on a few slices, and then a function from HU to HU.

``opened`` finds it by its name, ``probing`` finds what is wrong before anything is measured, ``onnx_files`` runs ONNX
files, ``finished`` matches images that were denoised elsewhere. ``card`` is the report card, ``measuring``, ``unseen``
and ``cost`` are what it measures, and ``said`` puts it in words. ``series`` applies a denoiser to a scan without a
reference: ``stacks`` reads and writes it, ``derived`` makes a DICOM object of a denoised slice, ``familiar`` compares
it with the training. What networks take for a range stands in ``ct.conventions``.

May import: study, ct, phantom, stats, cohorts, models, metrics, segments, training, task_based, structures, invariance,
report. Start reading in ``opened``.
"""
