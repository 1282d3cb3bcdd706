"""Images that were denoised elsewhere, matched to the slices of a cohort: by position for DICOM, by order for arrays.

A scanner's own denoiser, or a program that cannot be called from here, gives a folder. What the study asks of images
that it must make anew (other doses, lesions, noise) cannot be asked of it.
"""

from pathlib import Path

import numpy as np

from ldct_utils.cohorts import Cohort
from ldct_utils.cohorts.reading import challenge_id
from ldct_utils.ct import dicom
from ldct_utils.study import paths

NEAR_MM = dicom.SAME_POSITION_MM


def matched(path, cohort: Cohort) -> dict[int, np.ndarray]:
    """Denoised slices of the cohort's test patients, {row: (H, W) float32 HU}, in the order of the rows.

    Args:
        path: an ``.npy`` file (N, H, W) in HU with the test slices in the cohort's order, a folder with one such file,
            a folder of files ``<row>.npy``, or a folder of DICOM series in HU.
    Raises: ValueError: for images that fit no slice, or are in another order, size or range, with what to do.
    """
    path = Path(path)
    rows = cohort.rows("test")
    files = [path] if path.is_file() else sorted(path.glob("*.npy"))
    if path.is_file() and path.suffix != ".npy":
        raise ValueError(
            f"{path.name} is no array: finished images are an .npy file or a folder of .npy or DICOM files"
        )
    found = _arrays(files, rows, cohort) if files else _series(path, rows, cohort)
    for image in found.values():
        if image.shape != cohort.ldct.shape[1:]:
            raise ValueError(
                f"{paths.short(path)}: images have {image.shape} pixels and the cohort {cohort.ldct.shape[1:]}: "
                "denoise its slices without resampling"
            )
    _in_order(found, cohort, path)
    return dict(sorted(found.items()))


def _arrays(files, rows, cohort) -> dict[int, np.ndarray]:
    """From one stack in the order of the test rows, or a file a row."""
    try:
        held = {file: np.load(file, allow_pickle=False) for file in files}
    except ValueError as error:
        raise ValueError(f"an .npy file holds Python objects or is damaged ({error}): save plain numbers") from None
    for file, images in held.items():
        if images.dtype.kind not in "fiu":
            raise ValueError(f"{file.name} holds {images.dtype}, not numbers in HU")
    if len(files) == 1 and held[files[0]].ndim == 3:
        stack = held[files[0]]
        if len(stack) != len(rows):
            raise ValueError(
                f"slices in {files[0].name}: {len(stack)}, test slices of the cohort: {len(rows)}; "
                "give one for each, in the order of its table slices.parquet (split test)"
            )
        return dict(zip(map(int, rows), stack.astype(np.float32)))
    named = {int(file.stem): images for file, images in held.items() if file.stem.isdigit() and images.ndim == 2}
    if strange := [file.name for file in files if not file.stem.isdigit() or held[file].ndim != 2]:
        raise ValueError(f"{strange[0]} is no slice: files are called <row>.npy by the cohort's table and hold (H, W)")
    if missing := sorted(set(map(int, rows)) - set(named)):
        raise ValueError(f"test slices without a file: {len(missing)}, the first is {missing[0]}.npy: denoise them too")
    return {row: named[row].astype(np.float32) for row in map(int, rows)}


def _series(folder, rows, cohort) -> dict[int, np.ndarray]:
    """From DICOM: a slice belongs to the cohort's slice of the same patient at the same position."""
    if not any(path.is_file() for path in Path(folder).rglob("*")):
        raise ValueError(f"{paths.short(folder)} holds no file: name a folder of denoised images, .npy or DICOM")
    listed = dicom.find(folder)
    if not listed.headers:
        reason = listed.skipped[0][1] if listed.skipped else "it is empty"
        raise ValueError(f"{paths.short(folder)} holds no denoised CT slice ({reason})")
    about = cohort.slices.set_index("row").loc[rows]
    people = list(about["patient"].unique())
    ids = {header: challenge_id(header.path, Path(folder)) for header in listed.headers}
    persons = sorted({header.person or header.study for header in listed.headers})
    if len(people) > 1 and not all(ids.values()):
        raise ValueError(
            f"the cohort has {len(people)} test patients, and {paths.short(folder)} does not say whose slices "
            "these are: put each patient's slices into a folder of the patient's name, " + ", ".join(people[:3])
        )
    if len(people) == 1 and len(persons) > 1:
        raise ValueError(f"{paths.short(folder)} holds slices of {len(persons)} people, the cohort's test of one")
    found = {}
    for row, one in about.iterrows():
        theirs = {one.patient} if len(people) > 1 else {one.patient, None}
        near = [h for h in listed.headers if abs(h.z_mm - one.z_mm) < NEAR_MM and ids[h] in theirs]
        if len(near) > 1:
            raise ValueError(
                f"{len(near)} denoised slices lie at one position of {one.patient}: keep one series a folder"
            )
        if near:
            found[int(row)] = dicom.read_hu(near[0].path).astype(np.float32)
    if not found:
        raise ValueError(
            f"no slice of {paths.short(folder)} lies where a test slice of the cohort lies: is it the same series, "
            "with ImagePositionPatient as it was?"
        )
    return found


def _in_order(found, cohort, path):
    """Raises: ValueError: if images show other slices than those they stand for, or another range than HU."""
    rows = list(found)
    at = np.linspace(0, len(rows) - 1, min(len(rows), 12)).astype(int)

    def thin(image):
        return np.asarray(image, np.float64)[::4, ::4].ravel()

    made, given = (np.stack([thin(source[rows[i]]) for i in at]) for source in (found, cohort.ldct))
    if not np.isfinite(made).all():
        raise ValueError(f"{paths.short(path)}: some denoised pixels are not finite")
    spread = made.std()
    alike = np.corrcoef(made, given)[: len(at), len(at) :] if spread else np.zeros((len(at), len(at)))
    if np.isnan(alike).any() or (alike.argmax(1) != np.arange(len(at))).any():
        wrong = 0 if np.isnan(alike).any() else int(np.flatnonzero(alike.argmax(1) != np.arange(len(at)))[0])
        raise ValueError(
            f"{paths.short(path)}: the image for row {rows[at[wrong]]} is not most like that slice: are the slices in "
            "another order, or turned?"
        )
    slope = np.polyfit(given.ravel(), made.ravel(), 1)[0]
    if abs(slope - 1) > 0.1:
        raise ValueError(
            f"{paths.short(path)} is not in HU: it rises by {slope:.3g} for each HU of the LDCT. Save it in HU"
        )
