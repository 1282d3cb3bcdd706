"""What a denoiser f cannot see: large changes of its input that leave its output nearly as it was.

There are three ways to find them, after Eulig, Maier, Ommer and Kachelriess: searched slice by slice (``optimise``),
drawn from a trained generator (``generate``), or from a representation of the input split into what f keeps and what it
discards (``vae``, ``flow``). ``distances`` says what large and nearly mean, ``controls`` are denoisers whose
invariances are known beforehand, and ``examine`` holds what was found against other noise realisations of the same
``cases``, for ``evidence`` to judge and ``summary`` to sum up. ``drawn`` is what trained models draw, ``images`` turns
HU into what networks take. ``comparison`` puts runs side by side, and ``kept_by_controls`` controls beside them.

May import: ct, stats, cohorts, models, report, segments, task_based, training. Start reading in ``distances``, then
``optimise``.
"""
