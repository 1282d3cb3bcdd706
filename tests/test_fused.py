"""Steps of a network that are computed as one: values and gradients of the plain layers, and what must stay plain."""

import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from ldct_utils.models import encoders, fused, networks
from ldct_utils.study import machine
from ldct_utils.training import losses
from ldct_utils.training.methods.base import Adam

LAST = torch.channels_last


def random(*shape, dtype=torch.float32, seed=0):
    made = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)
    return made.contiguous(memory_format=LAST) if len(shape) == 4 else made


def both(plain, ours, inputs, layer, autocast=False):
    """Outputs and gradients (of the inputs, then of the layer) of a plain form and of ours."""
    found = []
    for function in (plain, ours):
        inputs = [z.detach().clone(memory_format=torch.preserve_format).requires_grad_() for z in inputs]
        layer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            out = function(*inputs)
        out.backward(random(*out.shape, dtype=out.dtype, seed=9))
        found.append([out.detach()] + [t.grad.clone() for t in (*inputs, *layer.parameters()) if t.grad is not None])
    return zip(*found, strict=True)


def near(a, b, share):
    assert a.shape == b.shape and a.dtype == b.dtype
    assert (a.double() - b.double()).norm() <= share * b.double().norm(), (a - b).abs().max()


CASES = [(3, 8, 2, 4), (3, 8, 4, 16), (1, 16, 3, 16), (64, 64, 2, 8)]  # C_in, C_out, N, H; the first by matrix product


@pytest.mark.parametrize(("inside", "outside", "n", "size"), CASES)
@pytest.mark.parametrize("autocast", [False, True])
def test_a_convolution_with_its_relu_is_the_two_layers(inside, outside, n, size, autocast):
    assert CASES[0][2] * CASES[0][3] ** 2 <= fused.FEW_PIXELS < CASES[1][2] * CASES[1][3] ** 2  # both ways are tried
    layer = nn.Conv2d(inside, outside, 3, padding=1).to(memory_format=LAST)
    images = [random(n, inside, size, size)]

    def plain(z):
        return torch.relu(layer(z))

    for ours in (
        lambda z: fused.convolution_relu(z, layer),
        lambda z: fused._ConvolutionRelu.apply(z, layer.weight, layer.bias, fused.computed_in(z)),
    ):
        for a, b in both(plain, ours, images, layer, autocast):
            near(b, a, 0.01 if autocast else 1e-6)


@pytest.mark.parametrize("autocast", [False, True])
def test_without_onednns_operators_the_plain_layers_run(autocast, monkeypatch):
    layer = nn.Conv2d(4, 6, 3, padding=1).to(memory_format=LAST)
    images, found = [random(2, 4, 8, 8)], []
    for missing in (False, True):
        if missing:
            monkeypatch.setattr(fused, "_takes", lambda dtype: False)
            fused._held.clear()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            found.append([fused.convolution_relu(images[0], layer), fused.frozen(images[0], layer, relu=True)])
    for a, b in zip(*found, strict=True):
        near(b.detach(), a.detach(), 0.01 if autocast else 1e-6)


@pytest.mark.parametrize("autocast", [False, True])
def test_an_upsampling_with_its_join_is_the_two_steps(autocast):
    layer = nn.ConvTranspose2d(8, 4, 2, stride=2).to(memory_format=LAST)
    dtype = torch.bfloat16 if autocast else torch.float32
    images = [random(2, 8, 5, 3, dtype=dtype), random(2, 6, 10, 6, dtype=dtype, seed=1)]
    plain, ours = lambda z, s: torch.cat([layer(z), s], 1), lambda z, s: fused.up_join(z, layer, s)
    for a, b in both(plain, ours, images, layer, autocast):
        near(b, a, 0.01 if autocast else 1e-6)


@pytest.mark.parametrize("few", [0, fused.FEW_PIXELS])  # the weights' gradient by oneDNN, and as a matrix product
def test_gradients_agree_with_finite_differences(few, monkeypatch):
    monkeypatch.setattr(fused, "FEW_PIXELS", few)
    double, size = {"dtype": torch.float64}, 3
    z, skip = (random(1, 2, n, n, **double).requires_grad_() for n in (size, 2 * size))
    kernel, bias = random(3, 2, 3, 3, **double).requires_grad_(), random(3, **double).requires_grad_()
    up, up_bias = random(2, 3, 2, 2, **double).requires_grad_(), random(3, **double).requires_grad_()
    with torch.no_grad():
        assert (nn.functional.conv2d(z, kernel, bias, padding=1).abs() > 1e-5).all()  # none at the kink
    assert torch.autograd.gradcheck(fused._ConvolutionRelu.apply, (z, kernel, bias, torch.float64))
    assert torch.autograd.gradcheck(fused._UpJoin.apply, (z, up, up_bias, skip, torch.float64))
    turned = kernel.detach().flip(2, 3).transpose(0, 1).contiguous()
    for relu in (True, False):
        assert torch.autograd.gradcheck(
            lambda z, relu=relu: fused._Frozen.apply(z, kernel.detach(), turned, bias.detach(), relu), (z,)
        )
        first = nn.Conv2d(1, 3, 3, padding=1).double().requires_grad_(False)
        assert torch.autograd.gradcheck(
            lambda z, relu=relu, first=first: fused._FrozenFirst.apply(z, first, relu, torch.float64),
            (z[:, :1].detach().requires_grad_(),),
        )
    assert torch.autograd.gradcheck(losses._MeanSquare.apply, (z, random(1, 2, size, size, **double, seed=4)))


def test_a_second_gradient_is_refused():
    z = random(1, 2, 4, 4).requires_grad_()
    layer = nn.Conv2d(2, 3, 3, padding=1)
    out = fused._ConvolutionRelu.apply(z, layer.weight, layer.bias, torch.float32)
    (gradient,) = torch.autograd.grad(out.square().sum(), z, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


# ---- frozen encoders ----
TAPS = ("block1_conv1", "block1_conv2_linear", "block1_conv2", "block3_conv2")


def plain_features(encoder, image):
    """The encoder layer by layer, the first in float32."""
    with torch.autocast("cpu", enabled=False):
        z = image if encoder.first.in_channels == 1 else torch.cat([image, torch.ones_like(image)], 1)
        z = encoder.first(z)
    return encoder.body(z.contiguous(memory_format=LAST), start=1)


@pytest.mark.parametrize("convention", ["x255", "imagenet"])
@pytest.mark.parametrize("autocast", [False, True])
def test_a_frozen_encoder_gives_features_and_gradients_of_its_layers(convention, autocast):
    encoder = encoders.load("vgg19", "random", TAPS, convention=convention)
    image = (0.25 + 0.02 * random(2, 1, 16, 24)).contiguous()
    found = {}
    for name, run in (("plain", plain_features), ("ours", encoders.Encoder.forward)):
        given = image.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            features = run(encoder, given)
        total = sum(f.float().square().sum() for f in features.values())
        (gradient,) = torch.autograd.grad(total, given)
        found[name] = {k: f.detach() for k, f in features.items()} | {"gradient": gradient}
    assert list(found["ours"]) == [*TAPS, "gradient"]
    for name, value in found["plain"].items():
        value = value.to(found["ours"][name].dtype)  # the plain first layer leaves its features in float32
        near(found["ours"][name], value, 0.005 if autocast else 2e-6)


def test_the_first_layer_has_the_accuracy_of_float32_in_bf16():
    """It is exact to a share of 2^-22 before its output is rounded; rounding the image first would miss by 2^-9."""
    encoder = encoders.load("vgg19", "random", "block1_conv2")
    image = (0.25 + 0.001 * random(2, 1, 32, 32)).contiguous()
    with torch.autocast("cpu", torch.bfloat16):
        found = fused.frozen_first(image, encoder.first, relu=False)
    exact = nn.functional.conv2d(image.double(), encoder.first.weight.double(), encoder.first.bias.double(), padding=1)
    assert found.dtype == torch.bfloat16
    inside = (slice(None), slice(None), slice(1, -1), slice(1, -1))  # where nothing but differences of pixels remains
    near(found[inside].double(), exact[inside], 2**-8)
    rounded = nn.functional.conv2d(
        image.bfloat16().double(), encoder.first.weight.double(), encoder.first.bias.double(), padding=1
    )
    assert (rounded - exact)[inside].norm() > 0.1 * exact[inside].norm()


def test_kernels_that_are_kept_follow_their_weights():
    encoder, other = (encoders.load("vgg19", "random", "block1_conv2", seed=seed) for seed in (0, 1))
    image = (0.25 + 0.02 * random(1, 1, 16, 16)).contiguous()
    before = encoder(image)["block1_conv2"]
    encoder.load_state_dict(other.state_dict())
    assert not torch.equal(encoder(image)["block1_conv2"], before)
    assert torch.equal(encoder(image)["block1_conv2"], other(image)["block1_conv2"])


# ---- the optimiser ----
def test_adam_on_rows_is_adam():
    trained = []
    for make in (Adam, torch.optim.Adam):
        torch.manual_seed(0)
        network = networks.build("unet", channels=4).to(memory_format=LAST)
        optimiser = make(network.parameters(), 1e-2, **({"fused": True} if make is Adam else {"foreach": False}))
        for turn in range(3):
            for index, p in enumerate(network.parameters()):
                p.grad = random(*p.shape, seed=100 * turn + index)
            optimiser.step()
        trained.append((network.state_dict(), optimiser.state_dict()["state"]))
    (ours, state), (plain, wanted) = trained
    assert all(torch.allclose(ours[name], plain[name], rtol=1e-6, atol=1e-7) for name in plain)
    assert all(state[n]["exp_avg"].shape == wanted[n]["exp_avg"].shape for n in wanted)


# ---- what the machine computes with ----
SCRIPT = """
import torch
from ldct_utils.models import networks, encoders
from ldct_utils.training import losses
from ldct_utils.training.methods.supervised import Supervised
torch.set_num_threads(1)
encoder = encoders.load("vgg19", "random", "block2_conv1")
network, loss = networks.build("unet", channels=16, residual=True), losses.build("vgg", encoder, lam=1.0)
step = Supervised(network, loss, precision="bf16")
step.update(*(torch.rand(2, 1, 32, 32) for _ in range(2)))
"""


def convolutions(said):
    """What oneDNN, by its own words, convolved with in bfloat16: {(forward_..., backward_...): implementations}."""
    found = {}
    for row in said.splitlines():
        fields = row.split(",")
        if fields[0] == "onednn_verbose" and "exec" in fields and "src:bf16" in row:
            primitive, implementation, direction = fields[fields.index("exec") + 2 :][:3]
            if primitive == "convolution":
                found.setdefault(direction.replace("_training", "").replace("_inference", ""), set()).add(
                    implementation
                )
    return found


def slow(found):
    """What is missing of an update's bf16 convolutions, or is a reference kernel."""
    missing = {"forward", "backward_data", "backward_weights"} - set(found)
    return missing | {name for names in found.values() for name in names if "ref" in name.replace(":", "_").split("_")}


def test_where_auto_chooses_bf16_onednn_convolves_in_it_without_reference_kernels(capfd):
    """They are a hundred times slower, without a word. The control is oneDNN held to AVX2, from its process's start."""
    if machine.resolve({"precision": "auto", "device": "cpu"})["precision"] != "bf16":
        pytest.skip("precision=auto chooses float32 here: this CPU does not multiply bfloat16 itself")
    if held := os.environ.get("ONEDNN_MAX_CPU_ISA"):
        pytest.skip(f"oneDNN is held to {held} here (ONEDNN_MAX_CPU_ISA), where no fast kernel is asked for")
    with torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON):
        exec(SCRIPT, {})
    assert not slow(found := convolutions(capfd.readouterr().out)), found
    held = os.environ | {"ONEDNN_VERBOSE": "1", "OMP_NUM_THREADS": "1", "ONEDNN_MAX_CPU_ISA": "AVX2"}
    run = subprocess.run([sys.executable, "-c", SCRIPT], env=held, capture_output=True, text=True, check=True)
    assert slow(convolutions(run.stdout))
    assert slow({name: {"ref:any"} for name in ("forward", "backward_data", "backward_weights")}) == {"ref:any"}
