"""The LDCT benchmark's published networks: fetched into the bundle of weights, checked by SHA-256, loaded into ours.

Addresses, hashes and normalisation are those of github.com/eeulig/ldct-benchmark (``hub/checkpoints.json``,
``data/info.yml``). ``python -m ldct_utils.models.published`` fetches all eight.
"""

import argparse
import re
import sys

import torch

from ldct_utils.ct import intensity
from ldct_utils.models import networks, weights
from ldct_utils.study import paths

ADDRESS = "https://downloads.eeulig.com/ldct-benchmark/"
SHA256 = {
    "bilateral": "3e0722758e31c92fd11cc8bb9f5d2e93714a885bbe21183228fbe8946e79d5ff",
    "cnn10": "ee96e494c8eda02e946464df29cf43c14163e63bc4b1df6d8907ee33a1a18c3e",
    "dugan": "c6faad8376994fe22eadc0a723f81705fda6f435f40ef0f999666e871216ac5e",
    "qae": "ca6ce543b476d4c3673acd2f3d1284d47d98483c41a61cc912f5214c80921363",
    "redcnn": "058ae58264a00116e5620ed88047e687c7e93c8b732bfd6d7796e76bae0c74f3",
    "resnet": "4fe7137fe5abe7c381d746914528eaf23f061204580d8f027faf4d5eaaca6714",
    "transct": "37b5af1cb4fdfaa0c1d67d5992a5e9c6da5b6afda59bf5274d1fe5db163f959e",
    "wganvgg": "1ad87d16aefea99a9eeb474c33127971131cc21a07e129bf464c764cf9ca6003",
}

# What the published names of the weights are called here.
_RED = [(r"^conv(\d)", lambda m: f"encoder.{int(m[1]) - 1}"), (r"^tconv(\d)", lambda m: f"decoder.{int(m[1]) - 1}")]
RENAMED = {
    "bilateral": [(r"color_sigma$", "sigma_r")],
    "cnn10": [(r"^layers\.0", "stem"), (r"^layers\.2", "body"), (r"^layers\.4", "head")],
    "dugan": _RED,
    "qae": [(r"W_", "w_")],
    "redcnn": _RED,
    "resnet": [(r"^in_conv", "stem"), (r"^out_conv", "head"), (r"\.layers\.", ".body.")],
    "transct": [
        (r"^conv_encoder_lf\.base_encoder", "stem"), (r"^conv_encoder_lf\.lc(\d)", r"low\1"),
        (r"^conv_encoder_lf\.transformer_endoder", "low"), (r"^conv_encoder_hf", "high"), (r"^memory", "encoder"),
        (r"\.mha1?\.", ".own."), (r"\.mha2\.", ".cross."), (r"\.ff\.", ".forth."), (r"^combine\.block(\d)", r"merge\1"),
    ],
    "wganvgg": [
        (r"^net\.0\.", "stem."), (r"^net\.14\.", "head."),
        (r"^net\.(\d+)", lambda m: f"body.{int(m[1]) // 2 - 1}"),
    ],
}  # fmt: skip


def names() -> list[str]:
    """Networks that were published, by the names of ``networks``."""
    return sorted(SHA256)


def entry(name) -> weights.WeightFile:
    """Path in the bundle, address and SHA-256 of a published network. Raises: ValueError: for an unknown one."""
    if name not in SHA256:
        raise ValueError(f"no published network {name!r}; there are {', '.join(names())}")
    return weights.WeightFile(f"hub/ldctbench/{name}.pt", f"{ADDRESS}{name}.pt", SHA256[name], "LDCT benchmark")


def settings(name) -> dict:
    """Arguments of ``networks.build`` for a published network, ``name`` included: what a checkpoint of it stores."""
    entry(name)  # refuses an unknown one
    return {"name": name, "mean_hu": intensity.EULIG_MEAN_HU, "std_hu": intensity.EULIG_STD_HU}


def fetch(name, address=None):
    """The file of a published network: in the bundle, or downloaded into it; checked in either case.

    Args: address: where to fetch it instead, e.g. a mirror.
    Raises: ConnectionError: if it cannot be downloaded, with where to put the file; ValueError: for another hash.
    """
    wanted = entry(name)
    try:
        return weights.into_bundle(wanted, address)
    except OSError as error:
        where = paths.short(paths.weights() / wanted.path)
        raise ConnectionError(
            f"{address or wanted.address} cannot be fetched ({error}). Fetch it on a machine with a network "
            f"(`python -m ldct_utils.models.published {name}`) and copy the file to {where}"
        ) from error


def load(name, address=None):
    """A published network, in evaluation mode, on the CPU: network range to network range, normalised inside.

    Args, Raises: as ``fetch``; ValueError also for a file whose weights are not those of the network.
    """
    path = fetch(name, address)
    with torch.serialization.safe_globals([argparse.Namespace]):  # the training's arguments: plain attributes
        held = weights.load(path)
    if not isinstance(held, dict) or not isinstance(held.get("model_state_dict"), dict):
        raise ValueError(f"{path.name} holds no model_state_dict, as the published files do")
    network = networks.build(**settings(name))
    try:
        network.load_state_dict(translated(name, held["model_state_dict"]))
    except RuntimeError as error:
        raise ValueError(f"{path.name} does not hold the weights of {name}: {error}") from error
    return network.eval()


def translated(name, state) -> dict:
    """A published state_dict under our names and in our shapes."""
    ours = {}
    for key, value in state.items():
        for pattern, new in RENAMED[name]:
            key = re.sub(pattern, new, key)
        if name == "qae" and re.match(r"decoder\.\d\.w_", key):  # published as the weights of transposed convolutions
            value = value.flip(2, 3).transpose(0, 1).contiguous()
        ours[key] = value
    return ours


def main(wanted) -> int:
    """Fetch networks (all if none is named) and return the exit status."""
    failed = 0
    for name in wanted or names():
        try:
            print(f"{name}: {paths.short(fetch(name))}")
        except (OSError, ValueError) as error:
            print(f"{name}: failed: {error}")
            failed += 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
