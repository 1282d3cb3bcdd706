"""What runs on a GPU, rehearsed without one: fake tensors know shape, type and device, and no value.

A tensor made on the wrong device, or a value that the CPU would have to wait for, is an error here as it is, or costs
time, on a real GPU. Backward passes are walked node by node, since torch's engine asks for a driver.
"""

import dataclasses
import sys
from collections import defaultdict

import numpy as np
import piq  # noqa: F401  its modules are looked up in sys.modules
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    FakeTensor,
    FakeTensorMode,
    unset_fake_temporarily,
)
from torch.utils._python_dispatch import TorchDispatchMode

from ldct_utils import metrics
from ldct_utils.ct import intensity
from ldct_utils.metrics import scores
from ldct_utils.models import encoders, networks
from ldct_utils.models.networks import bilateral
from ldct_utils.training import losses, methods, prediction

GPU = "cuda:0"
# small settings where the published size would only take time; every network runs through its whole ``forward``
SETTINGS = {"transct": {"blocks": 1, "widening": 1}, "denomamba": {"dim": 4, "blocks": [1, 1, 1, 1], "refinement": 1}}
SIZES = {"transct": 512, "denomamba": 8}


# ---- a GPU without one ----
def accumulates(node):
    return hasattr(node, "variable")


def walked(outputs, starts, wanted=None, create_graph=False):
    """Gradients by device-checked calls of the graph's own nodes: [(leaf, gradient)], or of ``wanted`` in its order."""
    incoming, users, stack, seen = defaultdict(dict), defaultdict(int), [o.grad_fn for o in outputs], set()
    while stack:
        if (node := stack.pop()) not in seen:
            seen.add(node)
            for after, _ in node.next_functions:
                if after is not None:
                    users[after] += 1
                    stack.append(after)
    asked = {(w.grad_fn or torch.autograd.graph.get_gradient_edge(w).node, w.output_nr): w for w in wanted or ()}
    ready, found = [], {}
    for output, start in zip(outputs, starts):
        incoming[output.grad_fn][output.output_nr] = start
        ready += [output.grad_fn] if not users[output.grad_fn] else []
    with torch.set_grad_enabled(create_graph):
        while ready:
            node = ready.pop()
            for number, gradient in list((given := incoming.pop(node, {})).items()):
                expected = node._input_metadata[number]
                assert gradient.device == expected.device, f"{node.name()}: {gradient.device}, not {expected.device}"
                given[number] = gradient = gradient.sum_to_size(expected.shape).to(expected.dtype)  # as the engine
                if (node, number) in asked:
                    found[id(asked[node, number])] = gradient
            made = ()
            if accumulates(node):
                if not wanted and given:
                    found[id(node.variable)] = (node.variable, given[0])
            elif given:
                call = node.apply if isinstance(node, torch.autograd.function.BackwardCFunction) else node
                made = call(*(given.get(number) for number in range(len(node._input_metadata))))
                made = made if isinstance(made, tuple) else (made,)
            for (after, number), gradient in zip(node.next_functions, made or [None] * len(node.next_functions)):
                if after is None:
                    continue
                if gradient is not None:
                    before = incoming[after].get(number)
                    incoming[after][number] = gradient if before is None else before + gradient
                users[after] -= 1
                ready += [after] if not users[after] else []
    return [found[id(w)] for w in wanted] if wanted else list(found.values())


def backward(total):
    for leaf, gradient in walked([total], [torch.ones_like(total)]):
        leaf.grad = gradient if leaf.grad is None else leaf.grad + gradient


def grad(outputs, inputs, create_graph=False, retain_graph=None):
    inputs = [inputs] if torch.is_tensor(inputs) else list(inputs)
    return tuple(walked([outputs], [torch.ones_like(outputs)], inputs, create_graph))


@pytest.fixture
def gpu(monkeypatch):
    """Inside, ``cuda`` is there, every new tensor is a fake one, and a module that moves becomes fake."""
    real = nn.Module.to
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:

        def faked(tensor, device):
            held = tensor if isinstance(tensor, FakeTensor) else mode.from_tensor(tensor)
            return held.detach().to(device)

        def to(module, device=None, *rest, memory_format=None):
            if not isinstance(device, str | torch.device):
                return real(module, device, *rest, memory_format=memory_format)
            for part in module.modules():
                for name, parameter in part._parameters.items():
                    if parameter is not None and not same(parameter, device):
                        part._parameters[name] = nn.Parameter(faked(parameter, device), parameter.requires_grad)
                for name, buffer in part._buffers.items():
                    if buffer is not None and not same(buffer, device):
                        part._buffers[name] = faked(buffer, device)
            if memory_format is not None:
                for parameter in module.parameters():
                    if parameter.dim() == 4:
                        parameter.data = parameter.data.contiguous(memory_format=memory_format)
            return module

        def same(tensor, device):
            return isinstance(tensor, FakeTensor) and tensor.device == torch.device(device)

        monkeypatch.setattr(nn.Module, "to", to)

        # A value that lies on the CPU costs no wait; one on the GPU is an error, as fake tensors have it.
        stand_ins = {
            "item": lambda tensor: 0.25,
            "tolist": lambda tensor: [0.25] * len(tensor),
            "numpy": lambda tensor: np.zeros(tensor.shape, str(tensor.dtype).removeprefix("torch.")),
        }
        for name, stand_in in stand_ins.items():
            real_one = getattr(torch.Tensor, name)

            def value(tensor, stand_in=stand_in, real_one=real_one):
                if not isinstance(tensor, FakeTensor):
                    return real_one(tensor)
                return stand_in(tensor) if tensor.device.type == "cpu" else real_one(tensor)

            monkeypatch.setattr(torch.Tensor, name, value)
        monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)  # fake tensors know no pinned memory
        monkeypatch.setattr(torch.Tensor, "backward", backward)
        monkeypatch.setattr(torch.autograd, "grad", grad)
        answers = {"is_available": True, "is_bf16_supported": True, "is_current_stream_capturing": False}
        for name, value in (answers | {"_lazy_init": None}).items():
            monkeypatch.setattr(torch.cuda, name, lambda *given, value=value, **more: value)
        # the size of its window follows the widths, which no fake tensor knows; it is the one value that it waits for
        monkeypatch.setattr(bilateral, "widths", lambda *sigmas: [0.5] * len(sigmas))
        yield mode


def images(count=2, size=64, device=GPU):
    return torch.rand(count, 1, size, size, device=device) * 0.1 + 0.2


def test_the_rehearsal_sees_a_tensor_on_the_cpu(gpu):
    with pytest.raises(RuntimeError, match="device"):
        images() + images(device="cpu")
    with pytest.raises(DataDependentOutputException):
        images().mean().item()
    with Copies() as copies:
        images(2, 8).cpu(), images(3, 8, device="cpu").to(GPU), images(4, 8, device="cpu").to(GPU, non_blocking=True)
    assert copies.waited == [("cuda", "cpu", 2, 1, 8, 8), ("cpu", "cuda", 3, 1, 8, 8)]

    class Wrong(torch.autograd.Function):
        forward = staticmethod(lambda ctx, image: image * 2)
        backward = staticmethod(lambda ctx, gradient: gradient.cpu())

    with pytest.raises(AssertionError, match="cpu, not cuda"):
        Wrong.apply(images().requires_grad_()).sum().backward()


def test_the_walk_gives_the_gradients_of_torchs_engine():
    torch.manual_seed(0)
    network, image = networks.build("unet", channels=4, residual=True), images(device="cpu").requires_grad_()
    wanted = [image, *network.parameters()]
    expected = torch.autograd.grad(network(image).square().sum(), wanted)
    found = grad(network(image).square().sum(), wanted)
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in zip(found, expected))


# ---- networks, encoders, losses ----
@pytest.mark.parametrize("name", networks.names())
def test_a_network_stays_on_the_gpu_forwards_and_backwards(name, gpu):
    with unset_fake_temporarily():
        network = networks.build(name, **SETTINGS.get(name, {}))
    network, image = network.to(GPU, memory_format=torch.channels_last), images(size=SIZES.get(name, 64))
    with torch.autocast("cuda", torch.bfloat16):
        out = network(image)
    assert out.shape == image.shape and out.device == image.device
    out.float().square().mean().backward()
    assert all(p.grad is not None and p.grad.device == p.device for p in network.parameters())


def encoder_of(arch, layer, convention):
    with unset_fake_temporarily():
        return encoders.load(arch, "random", layer, convention=convention)


@pytest.mark.parametrize(
    ("arch", "layer", "convention"),
    [("vgg19", "block2_conv2", "x255"), ("vgg16", "block2_conv2_linear", "imagenet"), ("resnet50", "stage1", "caffe"),
     ("autoencoder", "block3_conv4", "plain")],
)  # fmt: skip
def test_an_encoder_stays_on_the_gpu_and_gives_the_image_a_gradient(arch, layer, convention, gpu):
    encoder = encoder_of(arch, layer, convention).to(GPU)
    image = images().requires_grad_()
    with torch.autocast("cuda", torch.bfloat16):
        (errors,) = losses.feature_errors(encoder, image, images()).values()
    errors.sum().backward()
    assert errors.device == image.grad.device == image.device


@pytest.mark.parametrize("name", ["mse", "l1", "charbonnier", "vgg", "mse + 0.1*l1"])
def test_a_loss_and_its_gradient_norms_stay_on_the_gpu(name, gpu):
    encoder = encoder_of("vgg19", "block2_conv2", "x255").to(GPU) if name == "vgg" else None
    loss = losses.build(name, encoder, lam=1.0)
    terms, norms = (part(images(), images()) for part in (loss.terms, loss.gradient_norms))
    assert {value.device for value in (terms | norms).values()} == {torch.device(GPU)}


def test_the_term_over_structures_is_the_only_loss_that_waits(gpu):
    """The number of structures is a value of the labels, and the shape of what follows."""
    labels = torch.ones(2, 1, 64, 64, dtype=torch.int32, device=GPU)
    with pytest.raises(DataDependentOutputException):
        losses.mean_srmse(images(), images(), labels)


# ---- updates and predictions ----
class Copies(TorchDispatchMode):
    """Notes copies that are waited for: from the CPU to the GPU where nobody says otherwise, and all that come back."""

    def __init__(self):
        super().__init__()
        self.waited = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function == torch.ops.aten._to_copy.default:
            asked = kwargs or {}
            way = args[0].device.type, torch.device(asked.get("device") or args[0].device).type
            if way == ("cuda", "cpu") or (way == ("cpu", "cuda") and not asked.get("non_blocking")):
                self.waited.append((*way, *args[0].shape))
        return function(*args, **(kwargs or {}))


METHOD_SETTINGS = {
    "supervised": {}, "wgan": {"n_d": 2, "critic_width": 8},
    "dugan": {"cutmix_warmup": 0, "critic_width": 8, "critic_depth": 1},
}  # fmt: skip


@pytest.mark.parametrize(("precision", "accumulate"), [("float32", 1), ("bf16", 2)])
@pytest.mark.parametrize("method", methods.METHODS)
def test_an_update_never_waits_for_the_gpu(method, precision, accumulate, gpu, monkeypatch):
    encoder = encoder_of("vgg19", "block2_conv2", "x255")
    with unset_fake_temporarily():
        network = networks.build("unet", channels=4, residual=True)
    step = methods.build(
        method, METHOD_SETTINGS[method], network=network, loss=losses.build("vgg", encoder, lam=1.0), encoder=encoder,
        patch_size=64, mean_hu=-500.0, std_hu=500.0, lr=1e-3, betas=(0.9, 0.999), eps=1e-12, precision=precision,
        device=GPU, accumulate=accumulate,
    )  # fmt: skip
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pinned.append(tensor) or tensor)
    with Copies() as copies:
        for _ in range(2):  # the second one has Adam's moments
            terms = step.update(images(device="cpu"), images(device="cpu"))
    assert copies.waited == [] and len(pinned) >= 4 * accumulate  # every part of both images, in two updates
    assert {(term.device, *term.shape) for term in terms.values()} == {(torch.device(GPU), 2)}
    assert {p.device for p in step.parameters()} == {torch.device(GPU)}


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_prediction_of_slices_goes_to_the_gpu_and_back(precision, gpu):
    with unset_fake_temporarily():
        network = networks.build("cnn10", width=4)
    slices = np.zeros((3, 40, 50), np.int16)
    predicted = prediction.predict(network.to(GPU), slices, 2, precision, GPU)
    assert predicted.shape == slices.shape and predicted.dtype == np.float32


# ---- metrics ----
@pytest.mark.parametrize("name", metrics.names("full-reference"))
def test_a_full_reference_metric_is_computed_on_the_gpu(name, gpu, monkeypatch):
    if absent := metrics.available([name]).missing[0]:
        pytest.skip(f"{name} needs {absent}, not here")
    if name == "vif":
        pytest.skip("pyiqa takes channels by a list, which torch copies to the real device even for a fake tensor")
    for module in [m for at, m in sys.modules.items() if at.startswith("piq.") and hasattr(m, "_validate_input")]:
        monkeypatch.setattr(module, "_validate_input", lambda *given, **more: None)  # asks for the range of values
    if metrics.info(name).library.startswith("pyiqa"):
        from pyiqa.models.inference_model import InferenceModel

        monkeypatch.setattr(InferenceModel, "is_valid_input", lambda *given: True)  # as well
    seen, of = [], metrics.info(name)
    watched = dataclasses.replace(of, compute=lambda *given, **more: seen.append(of.compute(*given, **more)) or seen[0])
    pair = [torch.rand(2, 176, 176) * 100 for _ in range(2)]
    values = scores.of_batch([watched], intensity.domain("hu"), pair, None, GPU)
    assert values.shape == (2, 1) and seen[0].device == torch.device(GPU)
