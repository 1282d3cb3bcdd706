"""What 05a trains, on disk: weights with the settings that build them again."""

import json
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file, save_file

from ldct_utils.invariance import flow, generate, vae
from ldct_utils.study import files, paths

KINDS = {"generator": generate.build, "vae": vae.build, "flow": flow.build}
FILE = "model.safetensors"


def write(folder, kind: str, model):
    """Write ``model.safetensors``: weights, buffers, and ``model.settings``, which ``KINDS[kind]`` takes."""
    weights = {name: value.detach().contiguous().cpu() for name, value in model.state_dict().items()}
    about = {"kind": kind, "settings": json.dumps(model.settings)}
    with files.write_atomic(Path(folder) / FILE) as temporary:
        save_file(weights, temporary, metadata=about)


def load(folder, kind: str):
    """A trained model, in evaluation mode, on the CPU.

    Args: folder: of a run of 05a. kind: generator, vae or flow.
    Raises: FileNotFoundError: if the folder holds none; ValueError: if it is of another kind.
    """
    path = Path(folder) / FILE
    if not path.is_file():
        raise FileNotFoundError(f"{paths.short(folder)} holds no {FILE}: give the folder of a finished run of 05a")
    with safe_open(path, framework="pt") as stored:
        about = stored.metadata() or {}
    if about.get("kind") != kind:
        raise ValueError(f"{paths.short(path)} is a {about.get('kind', 'file of another origin')}, not a {kind}")
    model = KINDS[kind](**json.loads(about["settings"]))
    model.load_state_dict(load_file(path))
    return model.eval()
