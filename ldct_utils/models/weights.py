"""Weights files: which ones metrics need, where they lie, fetched with their hash checked, read without running code.

The bundle (``paths.weights()``) is laid out as the libraries' caches: ``TORCH_HOME`` may point at it and ``HF_HOME``
at its ``huggingface``, so that it can be carried to a machine without a network. Some files also lie, the very same,
in wheels of the package registry (``study.wheels``), and are read where those were unpacked.
"""

import importlib.util
import json
import os
import pickle
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from tqdm.auto import tqdm

from ldct_utils.models import keras_files
from ldct_utils.study import files, paths, wheels
from ldct_utils.study.machine import IMAGENET_FILES

MANIFEST = "manifest.json"  # in the bundle: size and SHA-256 of what was fetched
TORCHVISION = "https://download.pytorch.org/models/"
PYIQA = "https://huggingface.co/chaofengc/IQA-PyTorch-Weights/resolve/main/"
TIMM = "https://huggingface.co/timm/{}/resolve/main/model.safetensors"
LDCT_IQA = "4d7596a1638ebb1ccb8945f079b08b30791a1241965f1541dc842d48a0341bc2"
CLIP_RN50 = "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762"


@dataclass(frozen=True)
class WeightFile:
    """A file of the bundle: path in it, address, SHA-256 or its beginning where one is published, terms of use.

    ``wheel``: name of a wheel, and in it of the very same file, where there is one.
    """

    path: str
    address: str
    sha256: str = ""
    terms: str = ""
    wheel: tuple[str, ...] = ()


def _torchvision(name):
    digest = name.rpartition("-")[2].partition(".")[0]
    return WeightFile(f"hub/checkpoints/{name}", TORCHVISION + name, digest, "trained on ImageNet: research")


def _pyiqa(name, *wheel):
    digest = name.rpartition("-")[2].partition(".")[0] if "-" in name else ""
    return WeightFile(f"hub/pyiqa/{name}", PYIQA + name, digest, "read by pyiqa: PolyForm Noncommercial", wheel)


def _timm(name):
    folder = f"huggingface/hub/models--timm--{name}/snapshots/main"
    return WeightFile(f"{folder}/model.safetensors", TIMM.format(name), "", "trained on ImageNet: research")


METRIC_FILES = {
    "alexnet": _torchvision("alexnet-owt-7be5be79.pth"),
    "vgg16": _torchvision("vgg16-397923af.pth"),
    "resnet18": _torchvision("resnet18-f37072fd.pth"),
    "timm_resnet50": _timm("resnet50.a1_in1k"),
    "timm_vit": _timm("vit_base_patch8_224.augreg2_in21k_ft_in1k"),
    "lpips_alex": _pyiqa("LPIPS_v0.1_alex-df73285e.pth", "lpips", "alex"),
    "lpips_vgg": _pyiqa("LPIPS_v0.1_vgg-a78928a0.pth", "lpips", "vgg"),
    "stlpips_alex": _pyiqa("alex_shift_tolerant.pth", "stlpips_pytorch", "alex"),
    "stlpips_vgg": _pyiqa("vgg_shift_tolerant.pth", "stlpips_pytorch", "vgg"),
    "dists": _pyiqa("DISTS_weights-f5e65c96.pth", "DISTS-pytorch", "weights"),
    "niqe": _pyiqa("niqe_modelparameters.mat"),
    "ilniqe": _pyiqa("ILNIQE_templateModel.mat"),
    "brisque": _pyiqa("brisque_svm_weights.pth"),
    "nrqm": _pyiqa("NRQM_model.mat"),
    "musiq": _pyiqa("musiq_koniq_ckpt-e95806b9.pth"),
    "maniqa": _pyiqa("ckpt_koniq10k.pt"),
    "hyperiqa": _pyiqa("HyperIQA-resnet50-koniq10k-c96c41b1.pth"),
    "dbcnn_scnn": _pyiqa("DBCNN_scnn-7ea73d75.pth"),
    "dbcnn": _pyiqa("DBCNN_KonIQ10k-2de81c0a.pth"),
    "topiq": _pyiqa("cfanet_nr_koniq_res50-9a73138b.pth"),
    "paq2piq": _pyiqa("P2P_RoIPoolModel-fit.10.bs.120-ca69882e.pth"),
    "clip": WeightFile(
        "hub/clip/RN50.pt", f"https://openaipublic.azureedge.net/clip/models/{CLIP_RN50}/RN50.pt", CLIP_RN50, "MIT"
    ),
    "ldct_iqa": WeightFile(
        "hub/ldctbench/ldct-iqa.pt", "https://downloads.eeulig.com/ldct-benchmark/ldct-iqa.pt", LDCT_IQA,
        "LDCT benchmark",
    ),
}  # fmt: skip


def find(key) -> Path | None:
    """Where the file of a metric lies: in the bundle, an unpacked wheel, or the cache of torch or Hugging Face."""
    wanted, wheel = METRIC_FILES[key].path, METRIC_FILES[key].wheel
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    torch_home = Path(os.environ.get("TORCH_HOME") or cache / "torch")
    hf_home = Path(os.environ.get("HF_HOME") or cache / "huggingface")
    if (paths.weights() / wanted).is_file():
        return paths.weights() / wanted
    if wheel and wheels.here(wheel[0]):
        return wheels.held(*wheel)
    if not wanted.startswith("huggingface/"):
        return torch_home / wanted if (torch_home / wanted).is_file() else None
    hub = Path(os.environ.get("HF_HUB_CACHE") or hf_home / "hub")
    repository = wanted.split("/")[2]
    return next((p for p in sorted(hub.glob(f"{repository}/snapshots/*/model.safetensors")) if p.is_file()), None)


def missing(needs) -> list[str]:
    """What of ``needs`` is not on this machine: paths in the bundle, or a package. Nothing is loaded or downloaded."""
    absent = [METRIC_FILES[key].path for key in needs if key in METRIC_FILES and find(key) is None]
    packages = [key for key in needs if key not in METRIC_FILES and importlib.util.find_spec(key) is None]
    return [f"the package {name}" for name in packages] + absent


def checked(key) -> Path:
    """The file of a metric after a check of its hash, and that it is plain data: no file that runs code gets further.

    Raises: FileNotFoundError: if it is not here; ValueError: for another hash, or a file that is no plain data.
    """
    entry, path = METRIC_FILES[key], find(key)
    if path is None:
        raise FileNotFoundError(
            f"{entry.path} is not here: `make weights` fetches it into {paths.short(paths.weights())}"
        )
    if entry.wheel and path == wheels.held(*entry.wheel):
        wheels.path(*entry.wheel)  # the wheel's own hash of this file
    held = _manifest().get(entry.path, {}) if path.is_relative_to(paths.weights()) else {}
    _check(path, entry, held.get("sha256", ""))
    return path


def _check(path, entry, held="") -> str:
    """The SHA-256 of a file, after comparing it with the one noted when it was fetched and, always, the published one.

    Raises: ValueError: for another hash, or a file that is no plain data.
    """
    digest, name = files.sha256(path), Path(entry.path).name
    for wanted in (held, entry.sha256):
        compare(name, digest, wanted)
    if path.suffix in (".pth", ".pt") and len(entry.sha256) < 64:  # TorchScript is known by its full hash
        load(path, name)
    return digest


def compare(name, digest, wanted=None):
    """Raises: ValueError: if the SHA-256 ``digest`` of a file does not begin with ``wanted``, by default with the
    digest that torchvision writes into the file's name."""
    wanted = _torchvision(name).sha256 if wanted is None else wanted
    if not digest.startswith(wanted):
        raise ValueError(f"{name} has SHA-256 {digest[:8]}..., not {wanted[:8]}...: delete it, and fetch it again")


def load(path, name=None):
    """What a file of torch holds, on the CPU, read without running code.

    Args: name: what messages call the file; by default its own name.
    Raises: ValueError: for a file that is broken, or holds more than plain data.
    """
    name = name or path.name
    try:
        return torch.load(path, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        raise ValueError(f"{name} is no plain file of tensors and is not opened: save a state_dict()") from error
    except Exception as error:  # readers of broken files raise whatever the bytes make them stumble over
        raise ValueError(f"{name} cannot be read as weights ({error}): is it cut short? Fetch it again") from error


def _manifest():
    file = paths.weights() / MANIFEST
    return files.read_json(file) if file.is_file() else {}


def read(path, wanted, renamed=str):
    """Tensors of a weights file, float32, those beyond ``wanted`` left out as None; and what it states of itself, {} if
    that is nothing: entry ``encoder`` of the header of a run of 07_medical_encoder.

    ``renamed``: from a key of a file of torch to the one in ``wanted``.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no weights file {paths.short(path)}")
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, "pt") as handle:
                stated = json.loads((handle.metadata() or {}).get("encoder", "{}"))
                return {key: handle.get_tensor(key).float() if key in wanted else None for key in handle.keys()}, stated  # noqa: SIM118
        except Exception as error:
            raise ValueError(f"{path.name} cannot be read as weights ({error}): is it cut short?") from error
    held = keras_files.read_vgg(path) if path.suffix == ".h5" else load(path)
    if not isinstance(held, dict) or not all(isinstance(value, torch.Tensor) for value in held.values()):
        raise ValueError(f"{path.name} is not a state_dict, a dict of tensors, but a {type(held).__name__}")
    held = {renamed(key): value for key, value in held.items()}
    return {key: value.float() if key in wanted else None for key, value in held.items()}, {}


def bundle():
    """Folder of the downloaded ImageNet weights; laid out as torch's cache, so that ``TORCH_HOME`` can point at it."""
    return paths.weights() / "hub" / "checkpoints"


def fetch(arch, folder) -> Path:
    """Torchvision's ImageNet weights of an encoder in a folder: downloaded, or checked and kept if they are there.

    Raises: ValueError: for an unknown encoder or a wrong hash (nothing is left behind); OSError: if the download fails.
    """
    if arch not in IMAGENET_FILES:
        raise ValueError(f"no ImageNet weights for {arch!r}; there are {', '.join(IMAGENET_FILES)}")
    entry = _torchvision(IMAGENET_FILES[arch])
    path = Path(folder) / IMAGENET_FILES[arch]
    if path.is_file():
        _check(path, entry)
    else:
        _download(entry, path, entry.address)
    return path


def _download(entry, path, address) -> str:
    """Fetch a file to ``path``, whole, checked, or not at all; its SHA-256."""
    with files.write_atomic(path) as temporary:
        with urllib.request.urlopen(address, timeout=60) as source, open(temporary, "wb") as target:
            length = int(source.headers.get("Content-Length") or 0)
            with tqdm(total=length, unit="B", unit_scale=True, desc=path.name) as bar:
                while chunk := source.read(2**20):
                    target.write(chunk)
                    bar.update(len(chunk))
        if length and temporary.stat().st_size != length:
            raise ValueError(f"{path.name} ended after {temporary.stat().st_size} of {length} bytes: fetch it again")
        return _check(temporary, entry)


def fetch_bundle(names=(), needs_of=None, addresses=None) -> dict:
    """Fetch what encoders and metrics need into the bundle; a file that is there and whole is kept.

    Args:
        names: encoders and metrics; all by default.
        needs_of: metric -> keys of ``METRIC_FILES``.
        addresses: key or encoder -> another address, e.g. of a mirror.
    Returns: what failed, path -> reason; empty if all is there.
    Raises: ValueError: for an unknown name.
    """
    needs_of, addresses = needs_of or {}, addresses or {}
    encoders = {arch: _torchvision(name) for arch, name in IMAGENET_FILES.items()}
    unknown = sorted(set(names) - set(encoders) - set(needs_of))
    if unknown:
        raise ValueError(f"nothing to fetch for {unknown[0]!r}; known: {', '.join([*encoders, *sorted(needs_of)])}")
    wanted, failed = {}, {}
    for name in names or [*encoders, *needs_of]:
        keys = [key for key in needs_of.get(name, ()) if key in METRIC_FILES]
        wanted |= {key: METRIC_FILES[key] for key in keys} | ({name: encoders[name]} if name in encoders else {})
    for key, entry in {entry.path: (key, entry) for key, entry in wanted.items()}.values():
        try:
            into_bundle(entry, addresses.get(key, entry.address))
        except (OSError, ValueError) as error:
            failed[entry.path] = str(error)
    return failed


def into_bundle(entry, address=None) -> Path:
    """Fetch one file, from ``address`` if given, and note its hash; check it where it is there already.

    Raises: ValueError: for a wrong hash or a file cut short (nothing is left behind); OSError: if the download fails.
    """
    path, address = paths.weights() / entry.path, address or entry.address
    if path.is_file():
        _check(path, entry, _manifest().get(entry.path, {}).get("sha256", ""))
        return path
    _download(entry, path, address)
    note(entry)
    if entry.path.startswith("huggingface/"):  # how that cache says which snapshot is the newest
        files.write_text(path.parents[2] / "refs" / "main", "main")
    return path


def note(entry, terms=None):
    """Write the hash of a file of the bundle into its manifest, so that a later change of the file is noticed."""
    path = paths.weights() / entry.path
    held = {"sha256": files.sha256(path), "bytes": path.stat().st_size, "terms": terms or entry.terms}
    files.write_json(paths.weights() / MANIFEST, _manifest() | {entry.path: held})
