"""Files that are either whole or absent: write to a temporary name, flush to disk, rename; and folder locks."""

import errno
import hashlib
import json
import os
import re
import shutil
import uuid
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from ldct_utils.study import paths

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}  # no space, the user's share of it is used up, a limit of file sizes
PROBE = 1 << 16  # bytes: more than what a library that gave up has left unwritten of its last block


def _flush(path: Path):
    """Force a file's or folder's contents to disk, so that the rename that follows never exposes an empty file."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _no_space(error: Exception, probe: Path) -> int | None:
    """The system's number of the error if it came from a full disk. Many writers (``np.save``, torch, safetensors) do
    not say that it did: then the disk is asked, by writing to ``probe``."""
    number = getattr(error, "errno", None)
    if number is None:
        try:
            with open(probe, "ab") as file:
                file.write(bytes(PROBE))
        except OSError as refused:
            number = refused.errno
    return number if number in FULL else None


def no_space(path, number: int = errno.ENOSPC) -> str:
    """What to say where a file or folder cannot be written since the disk is full."""
    shown = re.sub(r"\.tmp-[0-9a-f]{8}-", "", paths.short(path))  # a file of a folder that is being made
    return (
        f"{shown} could not be written ({os.strerror(number)}): free some space there, then start again; what is "
        "finished is kept"
    )


@contextmanager
def _naming(path: Path, probe: Path):
    """Raises: OSError: naming ``path`` and saying what to do, where what is written inside finds the disk full."""
    try:
        yield
    except Exception as error:
        told = getattr(error, "errno", None) and error.__cause__ is not None  # in words already, by who wrote inside
        if told or not (number := _no_space(error, probe)):
            raise
        raise OSError(number, no_space(path, number)) from error


@contextmanager
def write_atomic(path):
    """Yield a temporary path beside ``path``; rename it to ``path`` on success, remove it on failure.

    The temporary name keeps the suffix, so that writers that look at it (``np.save``, matplotlib) behave.
    Raises: OSError: naming ``path``, where the disk is full, whatever the writer raises then.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp-{uuid.uuid4().hex[:8]}-{path.name}")
    try:
        with _naming(path, temporary):
            yield temporary
            _flush(temporary)
            os.replace(temporary, path)
            _flush(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path, text: str):
    """Write ``text`` as UTF-8, whole or not at all."""
    with write_atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path, value):
    """Write ``value`` as indented JSON; NumPy scalars and arrays become numbers and lists, NaN becomes null."""
    write_text(path, json.dumps(plain(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def plain(value):
    """``value`` in JSON's own types. Raises: TypeError: for a type that JSON cannot hold."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if np.isfinite(value) else (None if np.isnan(value) else str(value))
    if value is None or isinstance(value, str | int | bool):
        return value
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"cannot store a {type(value).__name__} as JSON: {value!r}")


def read_json(path) -> dict:
    """Read a JSON file. Raises: ValueError: naming the file, if it is not whole."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not valid JSON ({error}); delete it and run again") from error


def write_parquet(path, table):
    """Write a table of pandas as parquet, whole or not at all. The process around a run's kernel imports no pandas."""
    with write_atomic(path) as temporary:
        table.to_parquet(temporary, index=False)


def write_npy(path, array: np.ndarray):
    """Write an array as ``.npy`` (never pickled), whole or not at all."""
    with write_atomic(path) as temporary:
        np.save(temporary, array, allow_pickle=False)


@contextmanager
def new_folder(folder):
    """Yield a temporary sibling of ``folder``; rename it to ``folder`` on success, remove it on failure.

    Raises: FileExistsError: if ``folder`` exists already; nothing is ever overwritten. OSError: as ``write_atomic``.
    """
    folder = Path(folder)
    if folder.exists():
        raise FileExistsError(f"{folder} exists already and is never overwritten")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".tmp-{uuid.uuid4().hex[:8]}-{folder.name}")
    temporary.mkdir()
    try:
        with _naming(folder, temporary / "probe"):
            yield temporary
            for path in temporary.rglob("*"):
                if path.is_file():
                    _flush(path)
            _flush(temporary)
            os.rename(temporary, folder)
            _flush(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def locked(path, say=print, timeout: float = -1):
    """Hold the lock of ``path`` (a file ``.<name>.lock`` beside it); the system frees it when its holder dies.

    Args:
        path: what is locked, a file or folder that need not exist yet.
        say: called with one line if another process holds the lock and we have to wait.
        timeout: seconds to wait; -1 waits for ever. Raises: TimeoutError after it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            say(f"waiting: another process is working on {path.name}")
            lock.acquire(timeout=timeout)
    except Timeout as error:
        raise TimeoutError(f"another process still holds {path} after {timeout:g} s") from error
    try:
        yield
    finally:
        lock.release()


def sha256(path) -> str:
    """SHA-256 of a file's bytes, as hex."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
