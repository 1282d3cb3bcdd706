"""Volumes with known structures (lesions, vessels), and taking a share of these structures out.

Structures are the 26-connected components of truth labels. A vessel tree is one component that fills the organ, so it
is cut into its pieces of single slices; the table of a volume says which structures are such pieces.
"""

import zlib
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import ndimage

METHODS = ("known", "biharmonic")
LEAST = 5  # voxels: what is smaller is a crumb of a label's border
LARGE = 500  # voxels beyond which a tree is cut by slices
SMALL_VOXELS, SMALL_HU = (70, 310), 40.0  # of lesions as small as the talk's; fewest and most voxels, contrast
SOFT_HU = (0.0, 100.0)  # where they are put
RING = 6  # pixels around a structure that count as its local background


@dataclass(frozen=True)
class Volume:
    """An image with structures that are known.

    Attributes:
        name: pseudonym of the patient. image: (S, H, W) float32, HU or what ``unit`` says.
        structures: (S, H, W) int32, number of each voxel's structure, 0 none.
        table: a row a structure: structure, label (the truth's), voxels, first_slice, last_slice, cut (a tree's piece).
        spacing_mm: of slices, rows and columns; NaN where unknown.
        unit: ``HU``, or what the grey values are where there are none.
        without: (S, H, W), the image as it would be without any structure, where that is known exactly; or None.
    """

    name: str
    image: np.ndarray
    structures: np.ndarray
    table: pd.DataFrame
    spacing_mm: tuple[float, float, float] = (np.nan, np.nan, np.nan)
    unit: str = "HU"
    without: np.ndarray | None = None

    @property
    def text(self) -> str:
        """How many structures there are, and what they are."""
        cut = int(self.table["cut"].sum())
        whole = f"{len(self.table) - cut} components (26-connectivity)"
        return whole + (f" and {cut} pieces of trees over {LARGE} voxels, cut by slices" if cut else "")


def components(labels, trees=(), large: int = LARGE, least: int = LEAST) -> tuple[np.ndarray, pd.DataFrame]:
    """Structures of truth labels: the 26-connected components of each label.

    Args:
        labels: integers (S, H, W), 0 background. Touching structures of different labels stay apart.
        trees: labels of branching structures (vessels), whose components of more than ``large`` voxels are cut: each
            8-connected piece of a slice is a structure of its own.
        least: voxels under which a component or piece is no structure.
    Returns: the structures' numbers, int32 (S, H, W), and their table, both as in ``Volume``.
    Raises: ValueError: for another shape, or labels that are not integers.
    """
    labels = np.asarray(labels)
    if labels.ndim != 3 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels come as integers (S, H, W), got {labels.dtype} {labels.shape}")
    numbers, rows = np.zeros(labels.shape, np.int32), []

    def add(where, voxels, label, first, cut):
        if voxels.sum() >= least:
            depth = first + np.flatnonzero(voxels.any((1, 2)))
            rows.append((len(rows) + 1, int(label), int(voxels.sum()), int(depth[0]), int(depth[-1]), cut))
            numbers[where][voxels] = len(rows)

    for label in np.unique(labels[labels != 0]):
        parts, _ = ndimage.label(labels == label, np.ones((3, 3, 3)))
        for number, where in enumerate(ndimage.find_objects(parts), 1):
            voxels = parts[where] == number
            if label not in trees or voxels.sum() <= large:
                add(where, voxels, label, where[0].start, False)
                continue
            in_plane = np.zeros((3, 3, 3))
            in_plane[1] = 1
            pieces, count = ndimage.label(voxels, in_plane)
            for piece in range(1, count + 1):
                add(where, pieces == piece, label, where[0].start, True)
    columns = ["structure", "label", "voxels", "first_slice", "last_slice", "cut"]
    return numbers, pd.DataFrame(rows, columns=columns)


def from_cohort(cohort, split: str | None = "test", image: str | None = None, most: int = 16) -> list[Volume]:
    """Volumes of the patients of a split whose lesions are known; patients without one are left out.

    Args: split: None takes the patients of all, e.g. where no network is examined. image: ``truth`` (noise-free) or
        ``ndct``; either is known without its lesions as well. None takes the truth, or the NDCT of a real scan, which
        has none. most: slices of a patient, those next to each other with the most pixels of lesions.
    Raises: ValueError: if the cohort has no lesions, or none in this split.
    """
    image = image or ("truth" if cohort.truth is not None else "ndct")
    if image not in ("truth", "ndct"):
        raise ValueError(f"image is truth or ndct, got {image!r}")
    if cohort.lesion_masks is None:
        raise ValueError(f"cohort {cohort.id} has no lesion masks: take one whose lesions are known")
    volumes, chosen = [], cohort.slices[cohort.slices["split"].eq(split) | (split is None)]
    for patient, part in chosen.groupby("patient", sort=False):
        rows = part.sort_values("z_mm")["row"].to_numpy()
        held = np.cumsum([0, *(np.count_nonzero(cohort.lesion_masks[row]) for row in rows)])
        first = int(np.argmax(held[most:] - held[:-most])) if len(rows) > most else 0
        rows = rows[first : first + most]
        numbers, table = components(cohort.lesion_masks[rows].astype(np.int32))
        if len(table):
            present, absent = (getattr(cohort, name)[rows].astype(np.float32) for name in (image, f"absent_{image}"))
            pixel = float(part["pixel_mm"].iloc[0])
            spacing = (float(part["thickness_mm"].iloc[0]), pixel, pixel)
            volumes.append(Volume(patient, present, numbers, table, spacing, "HU", absent))
    if not volumes:
        raise ValueError(
            f"no patient of {f'the split {split}' if split else 'any split'} of cohort {cohort.id} has a lesion"
        )
    return volumes


def with_small_lesions(volume: Volume, count: int, seed: int = 0) -> Volume | None:
    """The volume with ``count`` small lesions in place of its own, or None where there is no room for them.

    Each is a disc of ``SMALL_HU``, dark or bright, in two neighbouring slices of soft tissue, of ``SMALL_VOXELS``
    (drawn evenly in their logarithm), without blur. One of ten is as small a share of 16 slices as in Kachelriess's
    talk.

    Raises: ValueError: if how the volume looks without its lesions is not known, or it has a single slice.
    """
    if volume.without is None or len(volume.image) < 2:
        raise ValueError(f"{volume.name}: small lesions need two slices or more, known without its own lesions")
    rng, without = rng_of(seed, volume.name, 3), volume.without
    low, high = SOFT_HU
    soft = (without > low) & (without < high)
    depth = np.stack([ndimage.distance_transform_edt(one) for one in soft])
    depth = np.minimum(depth[:-1], depth[1:])  # of a slice and the next
    y, x = np.mgrid[: without.shape[1], : without.shape[2]]
    image, labels = without.copy(), np.zeros(without.shape, np.int32)
    for number in range(1, count + 1):
        radius = np.sqrt(np.exp(rng.uniform(*np.log(SMALL_VOXELS))) / 2 / np.pi)
        places = np.argwhere(depth > radius + 2)
        if not len(places):
            return None
        z, row, column = places[rng.integers(len(places))]
        inside = np.hypot(y - row, x - column) <= radius
        labels[z : z + 2, inside] = number
        image[z : z + 2, inside] += np.float32(SMALL_HU * rng.choice([-1, 1]))
        # a voxel of each belongs to the nearest: apart by more than a radius
        depth[max(z - 2, 0) : z + 3] = np.minimum(depth[max(z - 2, 0) : z + 3], np.hypot(y - row, x - column) - radius)
    numbers, table = components(labels)
    return Volume(volume.name, image, numbers, table, volume.spacing_mm, volume.unit, without)


def taken(cohort, most: int, slices: int = 16, small: int = 0, seed: int = 0) -> list[Volume]:
    """At most so many volumes of a cohort's patients, of all splits, each of at most ``slices`` slices.

    Args: small: where it is not 0, so many small lesions take the place of a patient's own (``with_small_lesions``);
        patients without room for them are passed over. seed: of their places.
    """
    found = from_cohort(cohort, None, most=slices)
    if small:
        found = [one for one in (with_small_lesions(volume, small, seed) for volume in found) if one is not None]
    return found[:most]


def stacks(slices: pd.DataFrame) -> list[list[int]]:
    """Rows of slices that lie one on the other: of one patient and series, in order of z.

    Args: slices: patient, series, row, z_mm, thickness_mm, as a cohort has them.
    Returns: lists of rows, every row in one of them. Two slices are neighbours where they are at most half as far again
        apart as the series' closest slices, or as a slice is thick. Slices of unknown z stand alone.
    """
    piles = []
    for _, part in slices.groupby(["patient", "series"], sort=False):
        part = part.sort_values("z_mm", kind="stable")
        gap = part["z_mm"].diff().to_numpy()
        apart = np.append(gap[gap > 0], part["thickness_mm"].dropna())
        near = (gap > 0) & (gap <= 1.5 * apart.min(initial=np.inf))
        for row, joined in zip(part["row"].tolist(), near):
            if joined:
                piles[-1].append(row)
            else:
                piles.append([row])
    return piles


def rng_of(seed: int, name: str, *numbers: int) -> np.random.Generator:
    """Generator of a volume, whatever other volumes there are."""
    return np.random.default_rng([seed, zlib.crc32(name.encode()), *numbers])


@dataclass(frozen=True)
class Removal:
    """A volume with some structures removed: its image, the numbers of those removed, and their voxels (boolean)."""

    image: np.ndarray
    structures: np.ndarray
    mask: np.ndarray


def remove(volume: Volume, fraction: float, method: str = "known", seed: int = 0, grow: int = 1) -> Removal:
    """Take a random fraction of the structures out of a volume: at least one, so that of a few it is more than asked.

    The order in which structures go follows from the seed and the volume's name alone, so a larger fraction removes
    the same ones and more.

    Args:
        fraction: q in [0, 1]; above 0 at least one structure goes.
        method: ``known``: the image without structures, around those removed (each voxel belongs to the structure
            nearest to it). ``biharmonic``: in-painting from the border inwards (scikit-image; Damelin and Hoang 2018,
            Int. J. Math. Math. Sci., 3950312).
        grow: in-painted masks reach this many pixels beyond the label, over the blurred border.
    Raises: ValueError: for an unknown method, a fraction out of range, no structures, or no background around one.
    """
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; known: {', '.join(METHODS)}")
    if not 0 <= fraction <= 1:
        raise ValueError(f"the fraction of structures to remove lies in [0, 1], got {fraction!r}")
    if not len(volume.table):
        raise ValueError(f"volume {volume.name} has no structures to remove")
    if method == "known" and volume.without is None:
        raise ValueError(f"how {volume.name} looks without its structures is not known: take biharmonic")
    count = max(1, round(fraction * len(volume.table))) if fraction else 0
    gone = rng_of(seed, volume.name, 0).permutation(volume.table["structure"].to_numpy())[:count]
    mask = np.isin(volume.structures, gone)
    if not count:
        return Removal(volume.image, gone, mask)
    if method == "known":
        sampling = volume.spacing_mm if np.isfinite(volume.spacing_mm).all() else None
        nearest = ndimage.distance_transform_edt(
            volume.structures == 0, sampling, return_distances=False, return_indices=True
        )
        return Removal(np.where(mask[tuple(nearest)], volume.without, volume.image), gone, mask)
    image = volume.image.copy()
    for index in np.flatnonzero(mask.any((1, 2))):
        others = (volume.structures[index] > 0) & ~mask[index]
        hole = ndimage.binary_dilation(mask[index], iterations=grow) & ~others if grow else mask[index]
        _fill(image[index], hole, others, volume.name)
    return Removal(image, gone, mask)


def _fill(image, hole, others, name):
    """Fill the holes of a slice in place, region by region."""
    from skimage.restoration import inpaint_biharmonic

    regions, _ = ndimage.label(hole, np.ones((3, 3)))
    for number, (rows, columns) in enumerate(ndimage.find_objects(regions), 1):
        box = tuple(slice(max(0, s.start - RING), s.stop + RING) for s in (rows, columns))
        region, part = regions[box] == number, image[box]
        ring = ndimage.binary_dilation(region, iterations=RING) & ~hole[box] & ~others[box]
        if not ring.any():
            raise ValueError(f"volume {name}: a structure (pixels: {region.sum()}) has no background around it")
        # in the box, so that values stay within those around; other holes of it are not to be read
        part[region] = inpaint_biharmonic(part, region | hole[box], split_into_regions=True)[region]
