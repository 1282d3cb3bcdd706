"""Splits by patient: read from a file, or drawn; a patient is in exactly one of train, val and test."""

from pathlib import Path

import numpy as np
import yaml

from ldct_utils.study import paths

SPLITS = ("train", "val", "test")
TEST_PATIENTS = 10  # with fewer, a Wilcoxon test over patients has little or no power


def read(name: str) -> dict:
    """A split file as patient -> split.

    Args: name: a path (absolute, or relative to the working folder or the study), or the name of a file in
        ``params/splits`` without its suffix, e.g. ``mayo2016``.
    Raises: FileNotFoundError: if there is no such file. ValueError: if it is not a mapping of train, val, test to lists
        of patients, or has a patient in two splits.
    """
    shipped = paths.root() / "params" / "splits" / f"{name}.yaml"
    files = [p for p in (Path(name), paths.root() / name, shipped) if p.is_file()]
    if not files:
        known = ", ".join(sorted(p.stem for p in shipped.parent.glob("*.yaml")))
        raise FileNotFoundError(
            f"no split file {name!r}: give a path, one of {known}, 'draw', or train, val or test for all patients"
        )
    content = yaml.safe_load(files[0].read_text(encoding="utf-8"))
    lists = isinstance(content, dict) and all(isinstance(patients or [], list) for patients in content.values())
    if not lists or not set(content) <= set(SPLITS) or not content:
        raise ValueError(
            f"{paths.short(files[0])}: a split file maps train, val and test to lists of patients, as in train: [L067]"
        )
    assigned = {}
    for split, patients in content.items():
        for patient in map(str, patients or []):
            if assigned.setdefault(patient, split) != split:
                raise ValueError(
                    f"{paths.short(files[0])}: patient {patient} is in {assigned[patient]} and in {split}; "
                    "slices of one patient resemble each other, so keep each patient in one split"
                )
    return assigned


def draw(anatomy_of: dict, seed: int) -> dict:
    """Draw a split by patient: about half, at most 10, for testing, a fifth for validation, the rest for training.

    Anatomies are spread evenly over the splits. 30 patients give 14/6/10, 50 give 30/10/10, 4 give 1/1/2.

    Args: anatomy_of: patient -> anatomy. seed: of the draw.
    """
    rng = np.random.default_rng([seed, 0x5917])
    places = []
    for anatomy in sorted(set(anatomy_of.values())):
        members = rng.permutation(sorted(p for p in anatomy_of if anatomy_of[p] == anatomy))
        places += [((i + 0.5) / len(members), anatomy, str(p)) for i, p in enumerate(members)]
    ordered = [patient for _, _, patient in sorted(places)]
    tests = min(TEST_PATIENTS, len(ordered) // 2)
    vals = max(1, round(len(ordered) / 5)) if len(ordered) > 2 else 0
    names = ["test"] * tests + ["val"] * vals
    return dict(zip(ordered, names + ["train"] * (len(ordered) - len(names))))


def check_told(untold: set, split_of: dict):
    """Keep one person in one split where nothing says who a patient is.

    Args: untold: patients told apart by their examinations alone: two may be visits of one person, and one of them may
        be anybody else. split_of: patient -> split.
    Raises: ValueError: if the cohort has such a patient and more than one split.
    """
    if untold and len(set(split_of.values())) > 1:
        raise ValueError(
            f"patients whose headers hold no PatientID of their own: {len(untold)} of {len(split_of)}. Two of them may "
            "be visits of one person, who could then be in training and test. Say who is who in a table "
            "(docs/own_data.md, Who is who), or put all into one split (split=train) and test on another cohort"
        )


def assign(split: str, anatomy_of: dict, seed: int) -> dict:
    """Patient -> split for the patients of a cohort.

    Args: split: ``draw``, a split file as in ``read``, or ``train``, ``val``, ``test`` for all patients in that one.
    Raises: ValueError: if the split file does not hold a patient.
    """
    if split == "draw":
        return draw(anatomy_of, seed)
    if split in SPLITS:
        return dict.fromkeys(anatomy_of, split)
    assigned = read(split)
    missing = sorted(set(anatomy_of) - set(assigned))
    if missing:
        raise ValueError(
            f"split {split!r} does not list patient {', '.join(missing)}: add them to a copy of the file and "
            "pass its path, or pass split=draw"
        )
    return {patient: assigned[patient] for patient in anatomy_of}
