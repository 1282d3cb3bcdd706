"""Shared by the sources that read files: patient ids in paths, tables of skipped files, one matrix size a cohort."""

import re
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

from ldct_utils.cohorts.writing import Part
from ldct_utils.ct import data_files

ANATOMY_OF_LETTER = {"C": "chest", "L": "abdomen", "N": "head"}  # exam letter of Mayo's patient ids


BODY_PARTS = {  # BodyPartExamined, DICOM PS3.16 annex L; what spans several is none of them
    "head": {"HEAD", "BRAIN", "SKULL"},
    "chest": {"CHEST", "THORAX", "LUNG"},
    "abdomen": {"ABDOMEN", "ABDOMENPELVIS", "LIVER", "KIDNEY", "PANCREAS"},
}
CHALLENGE_ID = re.compile(r"[CLN]\d{3}")
# A visit behind a patient's name, as in sub-01_ses-02 or P7_visit1: two of them are one person.
VISIT = re.compile(
    r"(?i)([\s_.-]+(visit|vis|session|ses|scan|exam|time-?point|tp|follow-?up|fu|baseline|v)[\s_-]?\d*)+$"
)


def challenge_id(path: Path, root: Path) -> str | None:
    """The patient id of Mayo's data (L506, C002, N012) among the folders of a file, nearest to it; None without one.

    Only ``root`` and the folders below it count: what lies above is how somebody's disk is arranged.
    """
    ids = [part for part in folders_of(path, root) if CHALLENGE_ID.fullmatch(part)]
    return ids[-1] if ids else None


def folders_of(path: Path, root: Path) -> tuple:
    """Names of the folders that a file lies in, from ``root`` down."""
    return (root.name, *path.relative_to(root).parts[:-1])


def one_person(name: str) -> str:
    """A patient's name or ID without the visit that may stand behind it, and in small letters; "" for no name."""
    name = name.strip().casefold()
    return VISIT.sub("", name) or name


def pseudonyms(names: set) -> dict:
    """{name as it is given: patient}. One that is not a challenge's id may be a person's: it becomes P001, P002, ..."""
    people = sorted({one_person(name) for name in names})
    others = [person for person in people if not CHALLENGE_ID.fullmatch(person.upper())]
    of_person = {p: f"P{others.index(p) + 1:03d}" if p in others else p.upper() for p in people}
    return {name: of_person[one_person(name)] for name in names}


def body_part(said: str) -> str | None:
    """Anatomy by BodyPartExamined; None where it does not say one."""
    return next((kind for kind, names in BODY_PARTS.items() if said in names), None)


def skip_table(entries) -> list:
    """Count skipped files, given as (patient, series, reason, path), by patient, series and reason.

    Returns: dicts of patient, series, reason, files. The paths go to the log only.
    """
    entries = list(entries)
    for patient, series, reason, path in entries:
        data_files.log.info("skipped %s (%s %s): %s", path, patient, series, reason)
    counted = Counter((patient or "", series or "", reason) for patient, series, reason, _ in entries)
    return [{"patient": p, "series": s, "reason": r, "files": n} for (p, s, r), n in sorted(counted.items())]


@contextmanager
def logging_paths():
    """Write the path of the file that an error is about to the log; the error's text does not hold it."""
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        if hasattr(error, "path"):
            data_files.log.info("%s: %s", error.path, error)
        raise


@contextmanager
def naming(patient: str, series: str, z_mm: float | None = None):
    """Prefix errors with the slice they are about, by pseudonym: the file's name may identify the patient."""
    try:
        yield
    except (OSError, ValueError) as error:
        place = "" if z_mm is None else f" at z {z_mm:g} mm"
        error.args = (f"{patient} {series}{place}: {error}",)
        raise


def left_out(row: dict, path, reason: data_files.Unusable) -> Part:
    """A slice that turned out to be of no use when its pixels were read."""
    data_files.log.info("skipped %s: %s", path, reason)
    return Part(skipped=[{"patient": row["patient"], "series": row["series"], "reason": reason.why}])


def same_size(pairs: list, skipped: list, where, layout: str) -> list:
    """Keep the slices of the most frequent matrix, since one cohort is one array; the others join ``skipped``.

    Args: pairs: (patient, series, header, partner). where, layout: for the error, what was looked for and where.
    Raises: ValueError: if no pair is left, with every reason.
    """
    if not pairs:
        reasons = "; ".join(f"{s['files']} x {s['patient']} {s['series']} {s['reason']}" for s in skip_table(skipped))
        raise ValueError(f"no usable slice in {where}: {reasons or 'no file fits'}. Expected: {layout}")
    sizes = Counter(p[2].shape for p in pairs)
    shape = max(sizes, key=lambda s: (sizes[s], s))
    skipped += [
        (p, s, f"matrix {h.shape[0]}x{h.shape[1]} in a cohort of {shape[0]}x{shape[1]}", h.path)
        for p, s, h, _ in pairs
        if h.shape != shape
    ]
    return [p for p in pairs if p[2].shape == shape]


def assumed(what: str, count: int, slices: int) -> str:
    """The note that abdomen was assumed for ``count`` of ``what``."""
    return (
        f"no header or id says what {count} {what} ({slices} slices) show: abdomen is assumed; if they show something "
        "else, build the cohort with anatomy=chest or anatomy=head"
    )


def only(folders: list) -> Path:
    """The one folder of a source that takes one. Raises: ValueError: if there are several."""
    if len(folders) > 1:
        raise ValueError(f"this source takes one data_root, got {len(folders)}; put the patients below one folder")
    return folders[0]
