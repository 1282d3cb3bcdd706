"""What runs tell as they go: started, done, failed; for the user's eyes, while result.json says what is finished.

Each run has a file of its own: on a network disk, lines that several nodes append to one file cut each other.
"""

import json
from pathlib import Path


def file_of(folder, run) -> Path:
    """The file of one run. Args: folder: of all runs of a study; run: the run's own folder, whose name is unique."""
    return Path(folder) / f"{Path(run).name}.jsonl"


def tell(file: Path, event: str, **about):
    """Append one event."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, "a", encoding="utf-8") as handle:
        handle.write(json.dumps({"event": event} | about) + "\n")


def read(file: Path, place: int = 0) -> tuple[list[dict], int]:
    """Events told since ``place``, and the place to go on from; lines that a kill cut off are passed over."""
    told = []
    if not file.is_file():
        return told, place
    with open(file, "rb") as handle:
        handle.seek(place)
        for line in handle:
            if not line.endswith(b"\n"):
                break
            place += len(line)
            try:
                told.append(json.loads(line))
            except ValueError:  # not whole
                continue
    return told, place
