"""Networks on disk: the same bytes for the same network, files of earlier versions, and files that are refused."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from ldct_utils.models import store


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))


def build(settings):
    return network(settings["seed"] + 1)


def entries(path):
    with safe_open(path, framework="pt") as stored:
        return stored.metadata()


HEADER = {"kind": "toy", "settings": {"seed": 3, "called": "Bär\n"}, **{f"entry{i}": i for i in range(8)}}


def test_two_equal_networks_give_the_same_bytes_whatever_the_order_of_their_tensors(tmp_path):
    for number in range(8):
        weights = network().to(memory_format=torch.channels_last).state_dict()
        order = sorted(weights, reverse=bool(number % 2))
        store.write(tmp_path / f"{number}.safetensors", {name: weights[name] for name in order}, **HEADER)
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1 and len(list(tmp_path.iterdir())) == 8


def test_a_file_holds_the_tensors_and_the_header_that_safetensors_itself_would_write(tmp_path):
    weights = network().state_dict()
    store.write(tmp_path / "ours.safetensors", weights, **HEADER)
    texts = {"kind": "toy"} | {name: json.dumps(value) for name, value in HEADER.items() if name != "kind"}
    save_file(weights, tmp_path / "theirs.safetensors", metadata=texts)
    ours, theirs = (tmp_path / f"{whose}.safetensors" for whose in ("ours", "theirs"))
    assert entries(ours) == entries(theirs) == texts and ours.stat().st_size == theirs.stat().st_size
    assert list(load_file(ours)) == list(load_file(theirs))
    assert all(torch.equal(value, load_file(theirs)[name]) for name, value in load_file(ours).items())


def test_a_network_comes_back_in_evaluation_mode_with_its_settings(tmp_path):
    store.write(tmp_path / "n.safetensors", network().train().state_dict(), **HEADER)
    loaded, settings = store.load(tmp_path / "n.safetensors", "settings", build, "", "toy")
    assert settings == HEADER["settings"] and not loaded.training
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in network().state_dict().items())


def test_a_file_that_is_not_there_not_whole_or_another_one_is_refused_by_name_with_what_to_do(tmp_path):
    path, bare = tmp_path / "n.safetensors", tmp_path / "bare.safetensors"
    with pytest.raises(FileNotFoundError, match=r"there is no .*n\.safetensors: train it"):
        store.load(path, "settings", build, "train it")
    store.write(path, network().state_dict(), **HEADER)
    save_file(network().state_dict(), bare)
    for file, entry, kind, said in (
        (path, "settings", "vae", "is a toy, not a vae"),
        (path, "quality", None, "is a toy, not a file with 'quality' in its header"),
        (bare, "settings", "toy", "is a file of another origin, not a toy"),
    ):
        with pytest.raises(ValueError, match=rf"{file.name} {said}: train it"):
            store.read(file, entry, "train it", kind)
    with pytest.raises(ValueError, match=r"(?s)n\.safetensors fits no network of this version .*: train it"):
        store.load(path, "settings", lambda settings: nn.Conv2d(1, 2, 5), "train it")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"n\.safetensors cannot be read .*damaged: train it"):
        store.load(path, "settings", build, "train it")


def test_a_network_that_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises(TypeError):
        store.write(tmp_path / "n.safetensors", network().state_dict(), settings={"a": object()})
    shared = torch.zeros(3)
    with pytest.raises(RuntimeError, match="share memory"):
        store.write(tmp_path / "n.safetensors", {"a": shared, "b": shared}, settings={})
    assert not list(tmp_path.iterdir())
