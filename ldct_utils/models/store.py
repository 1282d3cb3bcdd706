"""Networks on disk: a safetensors file with their weights and, in its header, the settings that build them again."""

import json
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file, save_file

from ldct_utils.study import files, paths


def write(path, weights: dict, **header):
    """Write a network file, whole or not at all; equal networks give equal bytes.

    Args: weights: a ``state_dict``. header: entries of the file's header; what is not a str is stored as JSON.
    """
    weights = {name: value.detach().contiguous().cpu() for name, value in weights.items()}
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in header.items()}
    with files.write_atomic(path) as temporary:
        save_file(weights, temporary, metadata=texts)
        _sort_header(temporary)


def _sort_header(path):
    """safetensors sorts the tensors, but gives the entries of the header in an order that changes from call to call."""
    with open(path, "r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        held = json.loads(file.read(size))
        held["__metadata__"] = dict(sorted(held["__metadata__"].items()))
        text = json.dumps(held, separators=(",", ":"), ensure_ascii=False).encode().ljust(size)
        if len(text) != size:
            raise ValueError(
                f"the header of {path.name}, sorted, has {len(text)} in place of {size} bytes: report this fault"
            )
        file.seek(8)
        file.write(text)


def read(path, entry: str, remedy: str, kind: str | None = None) -> tuple:
    """What ``write`` stored: (what the header holds under ``entry``, {name: tensor on the CPU}).

    Args: remedy: what to do where it cannot be read, for the message. kind: what the header must hold as ``kind``.
    Raises: FileNotFoundError: if there is no file; ValueError: if it is damaged, of another origin or another kind.
    """
    path, name = Path(path), paths.short(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no {name}: {remedy}")
    try:
        with safe_open(path, framework="pt") as stored:
            header = stored.metadata() or {}
        weights = load_file(path)
    except Exception as error:  # readers of broken files raise whatever the bytes make them stumble over
        raise ValueError(f"{name} cannot be read ({error}), so it is damaged: {remedy}") from error
    if entry not in header or (kind and kind != header.get("kind")):
        found, wanted = header.get("kind", "file of another origin"), kind or f"file with {entry!r} in its header"
        raise ValueError(f"{name} is a {found}, not a {wanted}: {remedy}")
    return json.loads(header[entry]), weights


def load(path, entry: str, build, remedy: str, kind: str | None = None) -> tuple:
    """A stored network, in evaluation mode, on the CPU, and its settings.

    Args: build: makes the untrained network from the settings. path, entry, remedy, kind: see ``read``.
    Raises: as ``read``; ValueError also if settings and weights do not make a network.
    """
    settings, weights = read(path, entry, remedy, kind)
    try:
        network = build(settings)
        network.load_state_dict(weights)
    except Exception as error:
        raise ValueError(f"{paths.short(path)} fits no network of this version ({error}): {remedy}") from error
    return network.eval(), settings
