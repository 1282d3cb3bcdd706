"""Sources ``simulated_flat`` and ``simulated_white``: simulated patients with one thing made wrong on purpose.

A network trained on them must do worse on real CT if that thing matters. They are the patients of ``simulated`` of the
same parameters, scan by scan, so that nothing else differs.
"""

from functools import partial

import numpy as np

from ldct_utils.cohorts import simulated
from ldct_utils.cohorts.writing import Part, Plan, seed_of
from ldct_utils.ct import fbp, intensity, nps

of_machine = simulated.of_machine
TWINS = ("", "absent_")  # the slices, and the same ones without lesions


def flat(part: Part, seed: int) -> Part:
    """The patient without organ texture: every organ has one HU value, its median; lesions and noise stay as they are.

    The values are blurred as the reconstruction blurs, by its kernel's transfer function, so that edges stay as sharp.
    """
    about, images = part.rows[0], {name: part.arrays[name].astype(np.float32) for name in simulated.IMAGES}
    masks, truth = part.arrays["organ_masks"], images["absent_truth"]
    values = np.zeros(256, np.float32)
    for label in np.unique(masks):
        values[label] = np.median(truth[masks == label])
    plain = np.stack([blurred(one, about["pixel_mm"], about["kernel"]) for one in values[masks]])
    shifted = {name: _rounded(image + (plain - truth)) for name, image in images.items()}
    return Part(part.rows, part.arrays | shifted, part.tables, part.skipped)


def white(part: Part, seed: int) -> Part:
    """The patient with white noise: each slice's noise is replaced by one of the same SD in soft tissue.

    That of the NDCT stays a part of the LDCT, and the twin without lesions has the same noise, as in the scan.
    """
    rng, images = np.random.default_rng(seed), {name: part.arrays[name].astype(np.float32) for name in simulated.IMAGES}
    for row, truth in enumerate(images["truth"]):
        low, high = nps.SOFT_TISSUE
        inside = (truth > low) & (truth < high)
        inside = inside if inside.any() else np.ones_like(inside)
        noise = 0
        for less, more in (("truth", "ndct"), ("ndct", "ldct")):
            own = part.arrays[more][row].astype(np.float32) - part.arrays[less][row]
            noise = noise + own[inside].std() * rng.standard_normal(truth.shape, np.float32)
            for twin in TWINS:
                images[twin + more][row] = images[f"{twin}truth"][row] + noise
    return Part(part.rows, part.arrays | {n: _rounded(image) for n, image in images.items()}, part.tables, part.skipped)


def blurred(image, pixel_mm: float, kernel: str) -> np.ndarray:
    """An image as the reconstruction with a kernel blurs it, (H, W) float32; mirrored at its edges."""
    pad = 32
    wide = np.pad(np.asarray(image, np.float32), pad, mode="symmetric")
    f = np.hypot(np.fft.fftfreq(wide.shape[0], pixel_mm)[:, None], np.fft.rfftfreq(wide.shape[1], pixel_mm)[None])
    wide = np.fft.irfft2(np.fft.rfft2(wide) * fbp.apodisation(kernel)(f), wide.shape)
    return wide[pad:-pad, pad:-pad].astype(np.float32)


def _rounded(images) -> np.ndarray:
    return np.rint(images).clip(intensity.AIR_HU, 32767).astype(np.int16)


CHANGES = {"simulated_flat": flat, "simulated_white": white}


def plan(source: str, folders: list, read: dict, progress: bool) -> Plan:
    """Plan of the cohort: that of ``simulated``, each patient changed after the scan. Raises: as ``simulated.plan``."""
    made = simulated.plan(source, folders, read, progress)
    made.tasks = [
        partial(changed, CHANGES[source], task, seed_of(read["cohort_seed"], number, 0xC0))
        for number, task in enumerate(made.tasks)
    ]
    return made


def changed(change, task, seed: int) -> Part:
    """A patient after the change."""
    return change(task(), seed)
