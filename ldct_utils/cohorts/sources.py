"""What sources that read files share: patient ids in paths, lists of what was left out, one matrix size a cohort."""

import logging
import re
from collections import Counter
from pathlib import Path

ANATOMY_OF_LETTER = {"C": "chest", "L": "abdomen", "N": "head"}  # exam letter of Mayo's patient ids
log = logging.getLogger(__name__)  # paths of skipped files go here, never into a file: set it to INFO to see them


def challenge_id(path: Path) -> str | None:
    """The patient id of Mayo's data (L506, C002, N012) in a path, nearest to the file; None if there is none."""
    found = [part for part in path.parts if re.fullmatch(r"[CLN]\d{3}", part)]
    return found[-1] if found else None


def skip_table(entries) -> list:
    """(patient, series, reason, path) of files left out -> one dict a reason with the number of files."""
    entries = list(entries)
    for patient, series, reason, path in entries:
        log.info("skipped %s (%s %s): %s", path, patient, series, reason)
    counted = Counter((patient or "", series or "", reason) for patient, series, reason, _ in entries)
    return [{"patient": p, "series": s, "reason": r, "files": n} for (p, s, r), n in sorted(counted.items())]


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


def only(folders: list) -> Path:
    """The one folder of a source that takes one. Raises: ValueError: if there are several."""
    if len(folders) > 1:
        raise ValueError(f"this source takes one data_root, got {len(folders)}; put the patients below one folder")
    return folders[0]
