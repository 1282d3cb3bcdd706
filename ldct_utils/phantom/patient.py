"""Simulated patients: procedural 3-D anatomy, organs and lesions with known masks, and the twin without lesions.

Every number of a patient follows from a seed. Slices are drawn one by one from shapes in mm, so pixels and slices have
their real scale whatever is asked for; a stored image smaller than the body is a window on it, never a shrunk body.
"""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import ndimage

from ldct_utils.phantom.abdomen import Abdomen
from ldct_utils.phantom.chest import Chest
from ldct_utils.phantom.head import Head
from ldct_utils.phantom.organs import LABELS, ORGANS
from ldct_utils.phantom.shapes import Waves

__all__ = ["ANATOMIES", "ORGANS", "Patient", "patient"]

BUILDERS = {"abdomen": Abdomen, "chest": Chest, "head": Head}
ANATOMIES = tuple(BUILDERS)
LESION_RADIUS_MM = (2.0, 8.0)
LESION_COLUMNS = ["lesion", "first_slice", "last_slice", "radius_mm", "contrast_hu", "z_mm", "y", "x", "organ"]


@dataclass(frozen=True)
class Patient:
    """A simulated patient.

    ``scene`` and ``absent_scene`` (S, G, G') hold the whole body and the table, in HU, for projection; ``crop`` (top,
    left, height, width) is the stored window of it. ``truth``, ``absent_truth`` (float32 HU), ``organ_masks`` (labels
    of ``ORGANS``) and ``lesion_masks`` (lesion number, 0 none), all (S, H, W), are that window. ``lesions`` has a row a
    lesion: number, first and last slice, radius_mm, contrast_hu (signed), z_mm, y and x (pixels), organ.
    """

    scene: np.ndarray
    absent_scene: np.ndarray
    crop: tuple[int, int, int, int]
    organ_masks: np.ndarray
    lesion_masks: np.ndarray
    lesions: pd.DataFrame
    z_mm: np.ndarray
    pixel_mm: float
    anatomy: str

    @property
    def truth(self):
        return _window(self.scene, self.crop)

    @property
    def absent_truth(self):
        return _window(self.absent_scene, self.crop)


def _window(scene, crop):
    top, left, height, width = crop
    return scene[:, top : top + height, left : left + width]


def patient(seed, anatomy: str, size: int = 256, slices: int = 4, thickness_mm: float = 3.0, pixel_mm: float = 0.75):
    """One simulated patient.

    Args:
        seed: integer (or sequence of them) that fixes everything.
        anatomy: ``abdomen``, ``chest`` or ``head``.
        size: side of the stored images in pixels. slices: contiguous slices. thickness_mm: and distance of slices.
        pixel_mm: pixel side; .7-.8 is what scanners use for adults.
    Returns: Patient.
    Raises: ValueError: for an unknown anatomy, or sizes that are not positive.
    """
    if anatomy not in BUILDERS:
        raise ValueError(f"unknown anatomy {anatomy!r}; known: {', '.join(ANATOMIES)}")
    for name, value in (("size", size), ("slices", slices), ("thickness_mm", thickness_mm), ("pixel_mm", pixel_mm)):
        if not value > 0:
            raise ValueError(f"{name} must be positive, got {value!r}")
    rng = np.random.default_rng([*np.atleast_1d(seed), ANATOMIES.index(anatomy)])
    body = BUILDERS[anatomy](rng)
    half_width, half_height = body.extent()
    shape = tuple(max(int(np.ceil(half * 2 / pixel_mm / 2) * 2), size) for half in (half_height, half_width))
    z_mm = body.level + (np.arange(slices) - (slices - 1) / 2) * thickness_mm
    crop = _crop(rng, body, shape, size, pixel_mm)
    drawn = [_slice(body, shape, pixel_mm, z, thickness_mm) for z in z_mm]
    scene, labels = (np.stack(stack) for stack in zip(*drawn))
    organ_masks = _window(labels, crop).copy()
    lesion_masks, lesions = np.zeros(organ_masks.shape, np.uint8), pd.DataFrame(columns=LESION_COLUMNS)
    without = Patient(scene, scene, crop, organ_masks, lesion_masks, lesions, z_mm, pixel_mm, anatomy)
    return _with_lesions(rng, body, without)


def _slice(body, shape, pixel_mm, z, thickness_mm):
    """HU and labels of one slice: the mean of two thin ones, which is its partial volume along z."""
    halves = []
    for offset in (-0.25, 0.25):
        canvas = body.canvas(shape, pixel_mm, z + offset * thickness_mm)
        body.draw(canvas)
        halves.append(canvas)
    return (halves[0].hu + halves[1].hu) / 2, halves[0].label


def _crop(rng, body, shape, size, pixel_mm):
    """Window of ``size`` pixels at a random place that shows the body."""
    shift = rng.uniform(-1, 1, 2) * body.wander / pixel_mm
    corner = [int(np.clip(round((full - size) / 2 + move), 0, full - size)) for full, move in zip(shape, shift)]
    return (*corner, size, size)


def _with_lesions(rng, body, without):
    """The patient with 2-5 soft, irregular lesions in the organs of the window."""
    top, left, height, width = without.crop
    z_mm, pixel_mm, organ_masks = without.z_mm, without.pixel_mm, without.organ_masks
    spacing = z_mm[1] - z_mm[0] if len(z_mm) > 1 else 3.0
    lesions = []
    scene, masks = without.scene.copy(), without.lesion_masks.copy()
    wanted = [LABELS[name] for name in body.lesion_organs]
    y, x = np.mgrid[:height, :width].astype(np.float32) * pixel_mm
    for _ in range(rng.integers(2, 6)):
        radius = rng.uniform(*LESION_RADIUS_MM)
        contrast = body.lesion_contrast(rng)
        middle = int(rng.integers(len(z_mm)))
        room = np.stack([ndimage.distance_transform_edt(organ_masks[middle] == label) for label in wanted])
        room *= pixel_mm
        free = room > 0.8 * radius
        border = int(np.ceil(1.5 * radius / pixel_mm))  # the whole lesion lies in the stored window
        free[:, :border] = free[:, -border:] = free[:, :, :border] = free[:, :, -border:] = False
        for other in lesions:
            distance = np.hypot(y - other["y"] * pixel_mm, x - other["x"] * pixel_mm)
            free &= distance > radius + other["radius_mm"] + 3
        places = np.argwhere(free)
        if not len(places):
            continue
        organ, row, column = places[rng.integers(len(places))]
        z = z_mm[middle] + rng.uniform(-0.5, 0.5) * spacing
        rough, turn = Waves(rng, 0.6 * radius, 60), rng.uniform(0, np.pi)
        axes = radius * np.exp(rng.normal(0, 0.12, 3))
        number, rows = len(lesions) + 1, []
        for index, at in enumerate(z_mm):
            share = 0
            for part in (-0.25, 0.25):
                at_z = at + part * spacing
                share = share + 0.5 * _lesion_share(x, y, at_z, (column, row), z, axes, turn, rough, pixel_mm)
            # a lesion stays in tissue of its own kind: not in fat, vessels or air that it may reach
            share = share * ndimage.gaussian_filter((organ_masks[index] == wanted[organ]).astype(np.float32), 0.7)
            if share.max() < 0.1:
                continue
            scene[index, top : top + height, left : left + width] += np.float32(contrast) * share
            masks[index][share >= 0.5] = number
            rows.append(index)
        if not rows or not (masks == number).any():
            continue
        lesions.append(dict(lesion=number, first_slice=rows[0], last_slice=rows[-1], radius_mm=radius,
                            contrast_hu=contrast, z_mm=z, y=float(row), x=float(column),
                            organ=ORGANS[wanted[organ]]))  # fmt: skip
    return replace(without, scene=scene, lesion_masks=masks, lesions=pd.DataFrame(lesions, columns=LESION_COLUMNS))


def _lesion_share(x, y, z, centre, centre_z, axes, turn, rough, pixel_mm):
    """How much of each pixel a lesion fills, 0-1: an ellipsoid with an uneven surface and a soft edge."""
    dx, dy, dz = x - centre[0] * pixel_mm, y - centre[1] * pixel_mm, z - centre_z
    u = (dx * np.cos(turn) + dy * np.sin(turn)) / axes[0]
    v = (dy * np.cos(turn) - dx * np.sin(turn)) / axes[1]
    mean = axes.mean()
    distance = (np.sqrt(u * u + v * v + (dz / axes[2]) ** 2) - 1) * mean + 0.13 * mean * rough.at(x[0], y[:, 0], z)
    return np.clip(0.5 - distance / (pixel_mm + 0.25 * mean), 0, 1)
