"""Weights files: read without running code, and fetched from torchvision with their hash checked."""

import json
import pickle
from pathlib import Path

import torch
from safetensors import safe_open

from ldct_utils import files, paths
from ldct_utils.parameters import IMAGENET_FILES


def read(path, wanted):
    """Tensors of a weights file, float32, those beyond ``wanted`` left out as None; and the convention it states."""
    if not path.is_file():
        raise FileNotFoundError(f"no weights file {paths.short(path)}")
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as handle:
                stated = json.loads((handle.metadata() or {}).get("encoder", "{}")).get("convention")
                return {key: handle.get_tensor(key).float() if key in wanted else None for key in handle.keys()}, stated  # noqa: SIM118
        held = torch.load(path, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        raise ValueError(f"{path.name} is no plain file of tensors and is not opened: save a state_dict()") from error
    except Exception as error:  # readers of broken files raise whatever the bytes make them stumble over
        raise ValueError(f"{path.name} cannot be read as weights ({error}): is it cut short? Fetch it again") from error
    if not isinstance(held, dict) or not all(isinstance(value, torch.Tensor) for value in held.values()):
        raise ValueError(f"{path.name} is not a state_dict, a dict of tensors, but a {type(held).__name__}")
    return {key: value.float() if key in wanted else None for key, value in held.items()}, None


def bundle():
    """Folder of the downloaded ImageNet weights; laid out as torch's cache, so that ``TORCH_HOME`` can point at it."""
    return paths.weights() / "hub" / "checkpoints"


def fetch(archs=tuple(IMAGENET_FILES), folder=None, url=None):
    """Download torchvision's ImageNet weights into the bundle, checked against the hash in their name.

    Args:
        archs: encoders to fetch; vgg19 is 548 MB, vgg16 528 MB, resnet50 98 MB (classifiers included).
        folder: where to; ``bundle()`` by default.
        url: base address of the files, torchvision's own by default.
    Returns: the files' paths. A file that is already there is checked and kept.
    Raises: ValueError: for a wrong hash (nothing is left behind); OSError: if the download fails.
    """
    folder, found = Path(folder or bundle()), []
    for arch in [archs] if isinstance(archs, str) else archs:
        if arch not in IMAGENET_FILES:
            raise ValueError(f"no ImageNet weights for {arch!r}; there are {', '.join(IMAGENET_FILES)}")
        name = IMAGENET_FILES[arch]
        if (folder / name).is_file():
            _check_hash(folder / name, name)
        else:
            address = f"{url.rstrip('/')}/{name}" if url else _torchvision_url(arch)
            with files.write_atomic(folder / name) as temporary:
                torch.hub.download_url_to_file(address, str(temporary))
                _check_hash(temporary, name)
        found.append(folder / name)
    return found


def _check_hash(path, name):
    wanted, digest = name.rpartition("-")[2].partition(".")[0], files.sha256(path)
    if not digest.startswith(wanted):
        raise ValueError(
            f"{name} has SHA-256 {digest[:8]}..., not {wanted}...: delete it if it is there, and fetch again"
        )


def _torchvision_url(arch):
    from torchvision import models  # imported here: it takes seconds

    named = [entry.url for entry in models.get_model_weights(arch) if entry.url.endswith(IMAGENET_FILES[arch])]
    if not named:
        raise ValueError(
            f"this torchvision no longer offers {IMAGENET_FILES[arch]}; download it by hand into {bundle()}"
        )
    return named[0]
