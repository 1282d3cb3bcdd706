"""Simulated patients: procedural anatomy with organs and lesions at known places.

``patient`` puts one together; ``abdomen``, ``chest`` and ``head`` draw slices from ``shapes``.

May import: nothing. Start reading in ``patient``.
"""
