"""Detection in front of real anatomy: one lesion at many places of an organ, every place used once.

Simulated organs may be easier or harder than a patient's. Here the absent class are crops of real slices, and the
present class crops of *other* places with the lesion added. The NDCT's own noise and the anatomy differ from place to
place, so that both are in d', and nothing has to be corrected as for repeated insertion (``observers.unfrozen``). All
places are of one patient, who is one cluster: values have no interval.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ldct_utils.ct import edges, lesions
from ldct_utils.task_based import observers

APART_MM = 5.0  # across slices: the noise of slices so far apart was found to be independent
MARGIN_MM = 2.0  # of quiet tissue around a lesion
TOLERANCE_HU = 12.0  # of ``lesions.quiet_depth``, as for the lesions of the cohort


@dataclass(frozen=True)
class Backgrounds:
    """Crops (N, n, n), HU, of the images without lesion (``absent``) and, of other places, before it is added.

    signal: (n, n), what a lesion of 1 HU adds, the same in all; the places lie in the middle. radius_px: of the
    lesion. region: side of what an observer sees, pixels.
    """

    absent: np.ndarray
    without: np.ndarray
    signal: np.ndarray
    radius_px: float
    region: int

    def present(self, contrast_hu: float) -> np.ndarray:
        """The present class, a lesion of this contrast added."""
        return self.without + np.float32(contrast_hu) * self.signal


def places(cohort, rows, radius_mm: float, region: int, size: int, organ: str = "liver", seed: int = 0) -> np.ndarray:
    """Places for a lesion in quiet tissue, in random order: row of the cohort, row and column of the image, (N, 3).

    Regions of ``region`` pixels around them do not overlap within a slice or with slices under ``APART_MM`` away, and
    crops of ``size`` pixels lie in the image.

    Args: cohort: with ``absent_ndct``, ``organ_masks`` and ``organs``, of one patient. rows: of it.
    """
    about = cohort.slices.set_index("row").loc[np.asarray(rows)]
    spacing, pixel = float(about.thickness_mm.iloc[0]), float(about.pixel_mm.iloc[0])
    at = np.rint(about.z_mm.to_numpy() / spacing).astype(int)
    at -= at.min()
    labels = [label for label, name in cohort.organs.items() if name.startswith(organ)]
    shape = (at.max() + 1, *cohort.absent_ndct.shape[1:])
    hu, inside = np.zeros(shape, np.float32), np.zeros(shape, bool)  # slices that are missing hold no organ
    for z, row in zip(at, about.index):
        hu[z], inside[z] = cohort.absent_ndct[row], np.isin(cohort.organ_masks[row], labels)
    if not inside.any():
        labels = ", ".join(cohort.organs.values())
        raise ValueError(f"these slices of cohort {cohort.id} hold nothing labelled {organ!r}; labels: {labels}")
    box = np.s_[:, size // 2 : shape[1] - size // 2, size // 2 : shape[2] - size // 2]
    depth = lesions.quiet_depth(hu, inside, np.zeros_like(inside), spacing, pixel, TOLERANCE_HU, 0.0)
    free = np.argwhere(depth[box] > radius_mm + MARGIN_MM) + np.array((0, size // 2, size // 2))
    free, found = np.random.default_rng(seed).permutation(free), []
    while len(free):
        one = free[0]
        found.append(one)
        near = (np.abs(free[:, 0] - one[0]) * spacing < APART_MM) & (np.abs(free[:, 1:] - one[1:]).max(1) < region)
        free = free[~near]
    row_of = dict(zip(at, about.index))
    return np.array([(row_of[z], y, x) for z, y, x in found], int).reshape(-1, 3)


def cut(images, where, size: int) -> np.ndarray:
    """Crops (N, size, size), float32, around places (N, 3) of images (S, H, W); size odd."""
    half = size // 2
    return np.stack([np.float32(images[r][y - half : y + half + 1, x - half : x + half + 1]) for r, y, x in where])


def backgrounds(cohort, rows, radius_mm: float, region: int, size: int, organ="liver", seed: int = 0) -> Backgrounds:
    """Both classes of the low-dose images of a cohort of real scans with inserted lesions.

    Args: as ``places``; region: what an observer sees, and size: what a denoiser is given, both odd.
    Raises: ValueError: where the organ has room for fewer than 40 places.
    """
    where = places(cohort, rows, radius_mm, region, size, organ, seed)
    if len(where) < 40:
        raise ValueError(f"places for the lesion in the {organ}: {len(where)}, too few to detect anything")
    about, pixel = cohort.lesions.iloc[0], float(cohort.slices.pixel_mm.iloc[0])
    signal = np.zeros((size, size), np.float32)
    lesion = lesions.Lesion(radius_mm, 1.0, 0.0, size // 2, size // 2)
    lesions.add(signal, lesion, 0.0, pixel, edges.Resolution(about.blur_mm, about.blur_across_mm))
    half = len(where) // 2
    absent, without = (cut(cohort.absent_ldct, part, size) for part in (where[:half], where[half : 2 * half]))
    return Backgrounds(absent, without, signal, radius_mm / pixel, region)


def detected(made: Backgrounds, contrast_hu: float, denoise) -> pd.DataFrame:
    """How well the lesion is detected after a denoiser: a row an observer (CHO, NPW).

    Args: denoise: function of images (N, H, W), HU.
    Returns: observer, d_prime and places (a class). No interval: places of one patient say nothing of other patients.
    """
    start = (made.signal.shape[-1] - made.region) // 2
    window = np.s_[..., start : start + made.region, start : start + made.region]
    seen = [np.asarray(denoise(images))[window] for images in (made.absent, made.present(contrast_hu))]
    found = {"CHO": observers.cho(*seen, made.radius_px), "NPW": observers.npw(*seen, made.signal[window])}
    return pd.DataFrame([
        {"observer": name, "d_prime": one.d_prime, "places": one.realisations}
        for name, one in found.items()
    ])  # fmt: skip


def tried(cohort, rows, lesions, denoisers, times, region: int, size: int, seed: int = 0) -> pd.DataFrame:
    """``detected`` of every lesion at several multiples of its contrast, after every denoiser.

    Args: lesions: (radius, mm, and contrast, HU) each. denoisers: {run: function of images (N, H, W), HU}. times:
        {what to call it: multiple of the contrast}; 0 and a large one are the controls. The others as ``backgrounds``.
    Returns: the columns of ``detected``, radius_mm, contrast_hu, kind and run.
    """
    out = []
    for radius, contrast in lesions:
        made = backgrounds(cohort, rows, radius, region, size, seed=seed)
        for key, denoise in denoisers.items():
            for kind, multiple in times.items():
                found = detected(made, multiple * contrast, denoise)
                out.append(found.assign(radius_mm=radius, contrast_hu=multiple * contrast, kind=kind, run=key))
    return pd.concat(out, ignore_index=True)


def named(found: pd.DataFrame) -> dict:
    """{radius, run, observer: d'} of rows of ``tried``, for a run's result."""
    return {f"{r.radius_mm:g} mm, {r.run}, {r.observer}": r.d_prime for r in found.itertuples()}
