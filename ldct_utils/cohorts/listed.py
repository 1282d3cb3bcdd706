"""Who is who and what belongs together, where folders and headers do not say it: a table, or patterns of paths.

A table is a CSV file with the columns ``patient``, ``full``, and for pairs ``low`` and, if they differ, ``dose``. A
cell names a file, a folder or a pattern, below ``data_root``. Patterns are written ``low=<pattern>, full=<pattern>``;
a ``{patient}`` in both is the patient's name, else the headers say whose slices they are.
"""

import csv
import re
from dataclasses import dataclass, field
from pathlib import Path

from ldct_utils.ct import data_files
from ldct_utils.study import identity, paths

TABLE = "pairs.csv"  # in data_root: taken where ``pairs`` is not given
HOW = (
    f"give pairs, a CSV with the columns patient, low, full, dose, or low=<pattern>, full=<pattern> as in "
    f"low={{patient}}/quarter*, full={{patient}}/full*; or put the CSV into data_root as {TABLE}"
)


@dataclass
class Listed:
    """Files that belong together. ``patient``: empty where the headers say it; ``dose``: None if not stated."""

    patient: str
    full: list
    low: list = field(default_factory=list)
    dose: float | None = None


def table(pairs: str | None, root: Path) -> Path | None:
    """The CSV that ``pairs`` names, or that lies in ``root``; None for patterns, and where there is none."""
    if pairs and "=" in pairs:
        return None
    found = [place for place in ((root / TABLE,) if not pairs else _places(pairs, root)) if place.is_file()]
    if pairs and not found:
        raise FileNotFoundError(f"pairs={pairs} is no file and no patterns: {HOW}")
    return found[0] if found else None


def _places(pairs: str, root: Path) -> list[Path]:
    return [root / pairs, Path(pairs), paths.root() / pairs]


def digest(pairs: str | None, root: Path) -> str | None:
    """What of ``pairs`` counts: the content of the table, or the patterns. A hash, since both may hold names."""
    found = table(pairs, root)
    return identity.hash8(found.read_text(encoding="utf-8-sig")) if found else identity.hash8(pairs) if pairs else None


def read(pairs: str | None, root: Path, need_low: bool) -> list[Listed]:
    """What ``pairs`` lists, in its order; [] where nothing is given.

    Args: need_low: whether low-dose files must be named.
    Raises: ValueError: for a table or patterns that name no files, name one twice, or lack a column; rows are numbered
        as a spreadsheet numbers them. FileNotFoundError: if the table is none.
    """
    found = table(pairs, root)
    if found:
        rows = _rows(found, root, need_low)
    elif pairs:
        rows = _matched(pairs, root)
    else:
        return []
    _check_once(rows)
    return rows


def _rows(file: Path, root: Path, need_low: bool) -> list[Listed]:
    with open(file, newline="", encoding="utf-8-sig") as opened:  # spreadsheets put a byte order mark in front
        text = opened.read()
    first = text.split("\n", 1)[0]
    reader = csv.DictReader(text.splitlines(), delimiter=";" if first.count(";") > first.count(",") else ",")
    names = {str(name).strip().lower(): name for name in reader.fieldnames or []}
    wanted = ("patient", "full", "low") if need_low else ("patient", "full")
    if missing := [name for name in wanted if name not in names]:
        raise ValueError(f"the table of pairs has no column {' and '.join(missing)}: {HOW}")
    rows = []
    for number, line in enumerate(reader, 2):
        cell = {name: (line[original] or "").strip() for name, original in names.items()}
        if not any(cell.values()):
            continue
        if not cell["patient"]:
            raise ValueError(f"row {number} of the table of pairs names no patient")
        files = {kind: _files(cell[kind], root, f"row {number}, {kind}") for kind in wanted[1:]}
        dose = None
        if cell.get("dose"):
            try:
                dose = float(cell["dose"].replace(",", "."))
            except ValueError:
                dose = 0.0
            if not 0 < dose <= 1:
                raise ValueError(f"row {number} of the table of pairs: dose is a fraction in (0, 1]")
        rows.append(Listed(cell["patient"], files["full"], files.get("low", []), dose))
    return rows


def _files(named: str, root: Path, where: str) -> list[Path]:
    """The files that a cell names. The message does not repeat it: it may hold a patient's name."""
    path = Path(named)
    if path.is_absolute() and path.is_relative_to(root):
        path = path.relative_to(root)
    if not named or path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{where} of the table of pairs: name a file, folder or pattern below data_root")
    found = [root / path] if (root / path).exists() else sorted(root.glob(str(path)))
    files = [file for one in found for file in (data_files.list_files(one) if one.is_dir() else [one])]
    if not files:
        raise ValueError(f"{where} of the table of pairs names no file below data_root")
    return files


def _matched(pairs: str, root: Path) -> list[Listed]:
    """Patterns: one entry a patient, or one for all where the headers tell them apart."""
    given = dict(re.findall(r"(\w+)\s*=\s*([^,]+?)\s*(?:,|$)", pairs))
    if set(given) != {"low", "full"} or len({"{patient}" in text for text in given.values()}) > 1:
        raise ValueError(f"pairs={pairs}: {HOW}")
    found = {}
    for kind, pattern in given.items():
        as_regex = re.escape(pattern.strip("/"))
        for written, meant in ((r"\*\*/", "(?:.*/)?"), (r"\*", "[^/]*"), (r"\?", "[^/]"), (r"\{patient\}", "([^/]+?)")):
            as_regex = as_regex.replace(written, meant)
        for one in sorted(root.glob(pattern.strip("/").replace("{patient}", "*"))):
            inside = re.fullmatch(as_regex, one.relative_to(root).as_posix())
            if not inside:
                continue
            patient = inside[1] if inside.groups() else ""
            entry = found.setdefault(patient, {"low": [], "full": []})
            entry[kind] += data_files.list_files(one) if one.is_dir() else [one]
    for kind in ("low", "full"):
        if not any(entry[kind] for entry in found.values()):
            raise ValueError(f"the pattern for {kind} matches no file below data_root: {HOW}")
    return [Listed(patient, entry["full"], entry["low"]) for patient, entry in sorted(found.items())]


def _check_once(rows: list):
    """Raises: ValueError: if a file is listed for two patients, twice as low dose, or as low and as full dose."""
    owner, low = {}, set()
    for row in rows:
        for path in {*row.full, *row.low}:
            if owner.setdefault(path, row.patient) != row.patient:
                raise ValueError("one file is listed for two patients: give each file to one")
        if low & set(row.low) or set(row.low) & set(row.full):
            raise ValueError("one file is listed twice as low dose, or as low and full dose: name other files for each")
        low |= set(row.low)
