"""Volumes with annotated structures, of the Medical Segmentation Decathlon.

For the removal experiment: single volumes with truth labels, no pairs of doses. A task is an unpacked folder with
``dataset.json``, ``imagesTr`` and ``labelsTr``. Task06 (lung) and Task08 (hepatic vessels) are CT in HU; Task01 (brain)
is MRI, has no HU, and is normalised volume by volume. The data are under CC BY-SA 4.0 and are not shipped.

Source: Antonelli et al. 2022, Nat Commun 13, 4128.
"""

import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from ldct_utils.ct import intensity
from ldct_utils.structures.volumes import Volume, components

TREES = ("vessel",)  # names of labels that branch, as dataset.json has them
CT_BELOW = -200.0  # HU: every CT volume shows air or fat below this; one that does not was rescaled
PERCENTILES = (0.5, 99.5)  # of what is above zero: the grey values that a volume without HU is normalised by


def volumes(
    folder,
    names: Sequence[str] | None = None,
    most: int | None = None,
    slices: int | None = None,
    channel: str | None = None,
    progress: Callable | None = None,
) -> Iterator[Volume]:
    """The labelled volumes of a task, one at a time, by name; those without structures are left out.

    Args:
        folder: of the unpacked task, e.g. ``Task06_Lung``.
        names: of volumes, e.g. ``lung_001``; None takes all. most: number of volumes to yield at most.
        slices: neighbouring axial slices to keep, those with most labelled voxels; None keeps all.
        channel: of volumes with several, by its name in ``dataset.json`` (``FLAIR``, ``T1w``); None takes the first.
        progress: wraps the list of names, e.g. ``tqdm``.
    Yields: ``volumes.Volume``: axial slices as a reader sees them (anterior above, the patient's right on the left),
        HU; or grey values where there are none, see ``normalised``.
    Raises: FileNotFoundError: for a missing folder or file. ValueError: for one that is truncated, has another shape,
        unknown labels or no HU, or a name that is not listed. Each names the file.
    """
    folder = Path(folder)
    described = _described(folder)
    listed = {Path(pair["image"]).name.split(".")[0]: pair for pair in described["training"]}
    if unknown := sorted(set(names or ()) - set(listed)):
        raise ValueError(f"{folder} lists no volume {unknown[0]!r}; it has {', '.join(sorted(listed)[:5])} and more")
    kinds = list(described["modality"].values())
    if channel is not None and channel not in kinds:
        raise ValueError(f"{folder} has no channel {channel!r}; it has {', '.join(kinds)}")
    number = 0 if channel is None else kinds.index(channel)
    trees = [int(k) for k, v in described["labels"].items() if v.lower() in TREES]
    chosen, yielded = sorted(names or listed), 0
    for name in progress(chosen) if progress else chosen:
        if most is not None and yielded >= most:
            return
        volume = _volume(folder, name, listed[name], number, kinds, described["labels"], trees, slices)
        if len(volume.table):
            yielded += 1
            yield volume


def normalised(image) -> tuple[np.ndarray, str]:
    """Grey values without HU on a scale of their own, and what that scale is in words.

    The ``PERCENTILES`` of the volume's values above zero come to lie on the ends of the abdominal window, which then
    shows the whole volume: metrics and segments that know windows work on it. The numbers are no HU.
    """
    level, width = intensity.WINDOWS["abdomen"]
    inside = image[image > 0]
    low, high = np.percentile(inside, PERCENTILES) if inside.size else (0.0, 0.0)
    if not high > low:
        raise ValueError("the volume holds no range of grey values above zero: leave it out")
    scaled = (np.asarray(image, np.float32) - np.float32(low)) * np.float32(width / (high - low))
    words = f"1/{width:g} of the grey range (percentiles {PERCENTILES[0]:g} to {PERCENTILES[1]:g} of a volume), no HU"
    return scaled + np.float32(level - width / 2), words


def _described(folder: Path) -> dict:
    file = folder / "dataset.json"
    if not file.is_file():
        raise FileNotFoundError(f"{folder} is not an unpacked Decathlon task: it has no dataset.json")
    try:
        described = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is no JSON ({error}): unpack the task again") from error
    if missing := [key for key in ("modality", "labels", "training") if key not in described]:
        raise ValueError(f"{file} lacks {', '.join(missing)}: it does not describe a Decathlon task")
    return described


def _volume(folder, name, pair, number, kinds, known, trees, slices) -> Volume:
    image, spacing = _read(folder, pair["image"])
    labels, _ = _read(folder, pair["label"])
    if image.ndim == 4 and image.shape[-1] == len(kinds):
        image = image[..., number]
    if image.ndim != 3 or labels.shape != image.shape:
        raise ValueError(
            f"{folder / pair['image']} has shape {image.shape} and its labels {labels.shape}: expected (X, Y, Z), and "
            f"of the image as many channels as dataset.json lists, {len(kinds)}"
        )
    image, labels = _axial(image).astype(np.float32), _axial(labels)
    if not np.isfinite(image).all():
        raise ValueError(f"{folder / pair['image']} holds values that are not finite: {(~np.isfinite(image)).sum()}")
    if foreign := set(np.unique(labels).tolist()) - {float(key) for key in known}:
        raise ValueError(f"{folder / pair['label']} holds {min(foreign):g}, a label that dataset.json does not list")
    labels = labels.astype(np.int32)
    unit = "HU"
    if "CT" not in kinds[number].upper():
        image, unit = normalised(image)
    elif image.min() > CT_BELOW:
        raise ValueError(f"{folder / pair['image']} spans {image.min():g} to {image.max():g}, which is no CT in HU")
    if slices is not None and slices < len(image):
        if slices < 1:
            raise ValueError(f"slices is a number of slices to keep, 1 or more, got {slices}")
        filled = np.convolve((labels > 0).sum((1, 2)), np.ones(slices, int), "valid")
        part = slice(int(filled.argmax()), int(filled.argmax()) + slices)
        image, labels = image[part], labels[part]
    return Volume(name, np.ascontiguousarray(image), *components(labels, trees), spacing, unit)


def _read(folder: Path, listed: str):
    """A NIfTI file of the task: its array, axes towards right, anterior and superior, and its spacing (z, y, x), mm."""
    import nibabel  # imported here: only this source needs it

    file = (folder / listed).resolve()
    if not file.is_relative_to(folder.resolve()):
        raise ValueError(f"dataset.json of {folder} lists {listed}, which lies outside the task")
    if not file.is_file():
        raise FileNotFoundError(f"{folder / listed} is listed in dataset.json and missing: unpack the task again")
    try:
        image = nibabel.as_closest_canonical(nibabel.load(file))
        values = np.asanyarray(image.dataobj)
    except (nibabel.filebasedimages.ImageFileError, EOFError, OSError, ValueError, zlib.error) as error:
        if isinstance(error, PermissionError):
            raise PermissionError(f"no permission to read {folder / listed}: chmod u+r it") from error
        raise ValueError(f"{folder / listed} is truncated or no NIfTI file ({error}): unpack the task again") from error
    return values, tuple(float(mm) for mm in image.header.get_zooms()[2::-1])


def _axial(values):
    """(X, Y, Z) towards right, anterior and superior to (S, H, W): feet first, anterior above, right on the left."""
    return np.transpose(values, (2, 1, 0))[:, ::-1, ::-1]
