"""Slices that come without DICOM headers: NIfTI volumes, and NumPy arrays and stacks of them."""

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np

from ldct_utils.ct import conventions, data_files, intensity

ARRAYS, NIFTI = (".npy", ".npz"), (".nii", ".nii.gz")
LOOKED_AT = 5  # slices of a volume, evenly spaced


@dataclass(frozen=True)
class About:
    """A volume without its values. ``shape``: (S, H, W); lengths in mm, NaN where the file does not say them."""

    path: Path
    shape: tuple
    spacing_mm: float = np.nan
    pixel_mm: float = np.nan
    place: tuple = ()  # of the grid in space, for comparing two


def is_one(path) -> bool:
    """Whether a file is a volume or a stack by its name."""
    return str(path).lower().endswith((*ARRAYS, *NIFTI))


def upright(path: Path) -> np.ndarray:
    """A NIfTI volume as (S, H, W), whichever way it was stored: slices from the feet up, rows from front to back,
    columns from the patient's right to left."""
    return np.asanyarray(_turned(path).dataobj).T


def _turned(path: Path):
    image = nibabel.load(path)
    if image.ndim != 3:
        raise data_files.about(path, ValueError(f"has {image.ndim} axes; a volume has three"))
    return image.as_reoriented(nibabel.orientations.ornt_transform(
        nibabel.io_orientation(image.affine), nibabel.orientations.axcodes2ornt("LPS")
    ))  # fmt: skip


def load(path: Path, **options) -> np.ndarray:
    """An array file as it is stored; a ``.npz`` holds one array.

    Raises: ValueError: if it is damaged, or no plain array. OSError: if it cannot be read.
    """
    try:
        found = np.load(path, allow_pickle=False, **options)
        if isinstance(found, np.lib.npyio.NpzFile):
            with found:
                if len(found.files) != 1:
                    raise data_files.about(path, ValueError(f"holds {len(found.files)} arrays: save one in a file"))
                return found[found.files[0]]
        return found
    except (ValueError, EOFError, OSError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        if getattr(error, "errno", None):
            raise data_files.not_read(path, error) from None
        if hasattr(error, "path"):
            raise
        raise data_files.about(path, ValueError("truncated or not a plain array; write it again")) from None


def array_shape(path: Path) -> tuple:
    """(S, H, W) of an array file; one slice (H, W) is a stack of one. Raises: ValueError: for anything else."""
    array = load(path, **({} if str(path).lower().endswith(".npz") else {"mmap_mode": "r"}))
    if array.ndim not in (2, 3) or not array.size:
        raise data_files.about(path, ValueError(f"shape {array.shape}; (H, W) or slices (N, H, W) are expected"))
    if array.dtype.kind not in "iuf":
        raise data_files.about(
            path, ValueError(f"holds {array.dtype} values, which are no CT numbers: save real numbers")
        )
    return array.shape if array.ndim == 3 else (1, *array.shape)


def about(path: Path) -> About:
    """Shape and geometry of a volume. Raises: ValueError, OSError: if it is none or cannot be read."""
    if not str(path).lower().endswith(NIFTI):
        return About(path, array_shape(path))
    try:
        image = _turned(path)
        across, down, along = (float(size) for size in image.header.get_zooms())
    except (nibabel.filebasedimages.ImageFileError, EOFError, OSError, zlib.error) as error:
        if getattr(error, "errno", None):
            raise data_files.not_read(path, error) from None
        raise data_files.about(path, ValueError("truncated or no NIfTI volume; copy it again")) from None
    if not np.isclose(across, down, rtol=0.01):
        raise data_files.about(path, ValueError("pixels that are not square: resample the volume to square pixels"))
    place = tuple(np.round(image.affine, 3).ravel().tolist())
    return About(path, image.shape[::-1], round(along, 6), round(across, 6), place)


def stored(path: Path) -> np.ndarray:
    """Values of a volume (S, H, W) float32, as the file gives them. Raises: ValueError: if they are not finite."""
    try:
        values = upright(path) if str(path).lower().endswith(NIFTI) else load(path)
    except (EOFError, OSError, zlib.error) as error:
        if getattr(error, "errno", None):
            raise data_files.not_read(path, error) from None
        raise data_files.about(path, ValueError("truncated or damaged; copy it again")) from None
    values = np.asarray(values, np.float32).reshape(-1, *values.shape[-2:])
    if not (finite := np.isfinite(values)).all():
        raise data_files.about(
            path, ValueError(f"values that are NaN or infinite: {int((~finite).sum())}. Write it anew")
        )
    return values


def hu(path: Path, hu_range: list | None) -> np.ndarray:
    """A volume in HU, (S, H, W) int16, nothing below -1024 HU.

    Args: hu_range: HU of a stored 0 and 1; None for a file in HU, which must then look like CT.
    Raises: ValueError: if it does not, with the ranges that would fit.
    """
    values = stored(path)
    low, high = hu_range or (0, 1)
    chosen = values[sorted({len(values) * (2 * n + 1) // (2 * LOOKED_AT) for n in range(LOOKED_AT)})]
    if not hu_range and (lacking := conventions.missing(chosen)):
        raise data_files.about(path, ValueError(f"not in HU: {lacking}. {conventions.advice(chosen)}"))
    values = np.rint(values * np.float32(high - low) + np.float32(low))
    return values.clip(intensity.AIR_HU, np.iinfo(np.int16).max).astype(np.int16)
