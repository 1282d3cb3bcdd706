"""The physics of an image: HU and windows, DICOM, projection and reconstruction, noise, dose, damage.

``intensity`` converts HU and holds windows and domains, ``conventions`` the ranges that public code has in place of HU,
``dicom`` reads series (and applies rescale slope and intercept), ``fbp`` projects and reconstructs, ``nps`` measures
noise, ``dose`` makes and inserts it, ``noise_checks`` compares it with a scanner's, ``texture`` measures it where the
pixel size is unknown, ``edges`` measures a scan's resolution, ``lesions`` inserts known lesions into slices,
``planted`` faint discs, ``degradations`` damages slices on purpose.

May import: nothing. Start reading in ``intensity``, then ``dose``.
"""
