"""Files of a user's data: which are read, and what is said of one that cannot be, without naming its patient."""

import logging
import os
import re
from pathlib import Path

PROJECTIONS = re.compile(r"(?i)projections|DICOM-CT-PD")  # folders of raw data: millions of files that are no images
log = logging.getLogger(__name__)  # paths of skipped and unreadable files go here and nowhere else: INFO shows them


class Unusable(ValueError):
    """A file that cannot be a CT slice; the message is the reason, without the file's name.

    ``why`` stays the reason when something is put before the message.
    """

    def __init__(self, why: str):
        super().__init__(why)
        self.why = why


def about(path, error: Exception) -> Exception:
    """The error with the file as its attribute ``path``, for the log: its text must not name the file."""
    error.path = Path(path)
    return error


def not_read(path, error: OSError) -> OSError:
    """The error to raise where the operating system cannot read a file: with a remedy, and without the file's name."""
    if isinstance(error, PermissionError):
        remedy = "chmod -R u+rX data_root, or run as a user who may"
        return about(path, PermissionError(f"no permission to read a file or folder of the data: {remedy}"))
    reason = "it is gone, or a link to nowhere" if isinstance(error, FileNotFoundError) else error.strerror
    remedy = "see to the disk, the network or the limit that this names, then start again"
    return about(path, OSError(f"a file of the data cannot be read ({reason}): {remedy}"))


def packed(path: Path) -> str:
    """Why an archive is not read; empty for any other file."""
    name = Path(path).name.lower()
    known = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".7z", ".rar")
    return "a packed download: unpack it, into a folder of its own below data_root" if name.endswith(known) else ""


def list_files(folder) -> list:
    """Every file below ``folder``, sorted, without hidden ones and projections. Raises: as ``find``."""
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder: data_root must name the folder that holds the data")

    def refuse(error):
        raise not_read(error.filename, error) from None

    paths = []
    for where, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        folders[:] = [name for name in folders if not (name.startswith(".") or PROJECTIONS.search(name))]
        paths += [Path(where, name) for name in sorted(names) if name[0] != "." and name != "DICOMDIR"]
    return sorted(paths)
