"""DenoMamba and its scan: published sizes, the recurrence itself, and what makes the two variants different.

No test here needs a GPU; on one the last test runs the scans, and is skipped elsewhere.
"""

import importlib.util
import math

import pytest
import torch
from torch.nn import functional as F

from ldct_utils.models import networks
from ldct_utils.models.networks import _selective_scan, denomamba
from ldct_utils.training import checkpoints, losses, setup
from ldct_utils.training.methods.supervised import Supervised

SMALL = {"dim": 16, "blocks": (1, 1, 1, 1), "refinement": 1}
TINY = {"dim": 4, "blocks": (1, 1, 1, 1), "refinement": 1}


@pytest.fixture(autouse=True)
def one_thread():
    setup.seed_everything(0, 1)


def count(module):
    return sum(p.numel() for p in module.parameters())


def meta(**given):
    with torch.device("meta"):
        return networks.build("denomamba", **given)


# ---- sizes ----
@pytest.mark.parametrize(
    ("given", "dead", "weights"),
    [
        ({}, True, 118_094_628),
        ({}, False, 112_703_268),
        ({"dim": 32}, True, 52_933_200),
        ({"dim": 24}, True, 30_027_108),
        ({"dim": 16}, True, 13_571_204),
        ({"dim": 8}, True, 3_561_344),
        (SMALL, True, 2_340_124),
        (SMALL, False, 2_253_340),
    ],
)
def test_denomamba_has_as_many_weights_as_released(given, dead, weights):
    assert count(meta(dead_weights=dead, **given)) == weights


def test_every_part_has_as_many_weights_as_released():
    network = meta(dead_weights=True)
    assert [count(s) for s in network.encoder] == [628_728, 3_614_292, 14_137_128, 74_553_936]
    assert [count(s) for s in network.decoder] == [14_137_128, 3_614_292, 2_409_528]
    assert [count(s) for s in network.down] == [10_368, 41_472, 165_888]
    assert [count(s) for s in network.up] == [2_654_208, 663_552, 165_888]
    assert [count(s) for s in network.reduce] == [73_728, 18_432]
    assert [count(s) for s in (network.embed, network.refine, network.head)] == [432, 1_204_764, 864]
    block = network.encoder[0][0]
    assert (count(block), count(block.spatial), count(block.spatial.mamba)) == (157_182, 19_776, 19_680)


def test_only_the_dead_weights_get_no_gradient():
    for dead in (False, True):
        network = networks.build("denomamba", dead_weights=dead, **TINY)
        network(torch.rand(1, 1, 16, 16)).square().sum().backward()
        unused = {name.rpartition(".weight")[0] for name, p in network.named_parameters() if p.grad is None}
        assert bool(unused) == dead and all(name.endswith(".project_out") for name in unused)


# ---- the network ----
@pytest.mark.parametrize("variant", denomamba.VARIANTS)
@pytest.mark.parametrize("shape", [(2, 1, 16, 24), (1, 1, 40, 8)])
def test_output_has_the_shape_of_the_input_and_is_the_input_if_the_last_convolution_is_zero(variant, shape):
    network, image = networks.build("denomamba", variant=variant, **TINY), torch.rand(shape)
    with torch.no_grad():
        out = network(image)
        assert out.shape == shape and (out - image).abs().max() > 1e-4
        torch.nn.init.zeros_(network.head.weight)
        assert torch.equal(network(image), image)


def test_a_network_that_was_told_mean_and_sd_normalises_inside():
    torch.manual_seed(0)
    told = networks.build("denomamba", **SMALL, mean_hu=-500.0, std_hu=400.0)
    plain = networks.build("denomamba", **SMALL)
    plain.load_state_dict(told.state_dict())
    image, mean, std = torch.rand(1, 1, 16, 24), (1024 - 500) / 4096, 400 / 4096
    assert torch.allclose(told(image), plain((image - mean) / std) * std + mean, atol=1e-6)
    assert not torch.allclose(told(image), plain(image), atol=1e-4)
    with pytest.raises(ValueError, match="divisible by 8"):
        told(torch.rand(1, 1, 12, 16))


@pytest.mark.parametrize("shape", [(1, 1, 36, 36), (1, 1, 32, 20), (1, 3, 32, 32), (1, 32, 32)])
def test_a_shape_that_cannot_be_halved_three_times_is_refused(shape):
    with pytest.raises(ValueError, match=r"divisible by 8.*\d+, \d+"):
        networks.build("denomamba", **TINY)(torch.rand(shape))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"variant": "paper"}, "no variant 'paper'; there are released, channel"),
        ({"scan": "triton"}, "no scan 'triton'; there are auto, chunked, loop, mamba_ssm"),
        ({"dim": 7}, "dim must be even"),
        ({"dim": 0}, "dim must be a whole number"),
        ({"blocks": (1, 1, 1)}, "four stages"),
        ({"blocks": (1, 1, 0, 1)}, r"blocks\[2\] must be"),
        ({"channels": 16}, r"no setting 'channels'; it has dim, blocks"),
    ],
)
def test_a_setting_that_makes_no_network_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        networks.build("denomamba", **given)


def test_a_block_has_no_residual_of_its_own():
    block, x = denomamba.FuseSSM(4, "released", False, "auto"), torch.rand(1, 4, 8, 8)
    for convolution in (block.fuse[1], block.skip):
        torch.nn.init.zeros_(convolution.weight)
    with torch.no_grad():
        assert (block(x) == 0).all()
        torch.nn.init.dirac_(block.skip.weight[:, 8:])  # the input is the last third of what is fused
        assert torch.equal(block(x), x)


@pytest.mark.parametrize("variant", denomamba.VARIANTS)
def test_a_few_updates_lower_the_loss(variant):
    image = torch.rand(2, 1, 16, 16)
    step = Supervised(networks.build("denomamba", variant=variant, **TINY), losses.build("mse"), 1e-3)
    values = [step.update(image, 0.5 * image)["mse"].mean().item() for _ in range(20)]
    assert values[-1] < 0.7 * values[0]


def test_the_scan_sees_float32_under_autocast(monkeypatch):
    seen = []

    def scan(*given):
        seen.extend(x.dtype for x in given if torch.is_tensor(x))
        return _selective_scan.selective_scan(*given)

    monkeypatch.setattr(denomamba, "selective_scan", scan)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        networks.build("denomamba", **TINY)(torch.rand(1, 1, 8, 8))
    assert set(seen) == {torch.float32} and len(seen) == 8 * 2 * 6  # 8 blocks, two scans each


def test_a_checkpoint_gives_the_variant_back(tmp_path):
    given = {"name": "denomamba", "variant": "channel", "dim": 4, "blocks": [1, 1, 1, 1], "refinement": 1}
    network, image = networks.build(**given), torch.rand(1, 1, 16, 16)
    checkpoints.write_checkpoint(tmp_path, 3, network, given)
    loaded = checkpoints.load_network(tmp_path)
    with torch.no_grad():
        assert loaded.variant == "channel" and torch.equal(loaded(image), network(image))


# ---- the core ----
def test_the_core_has_mambas_nine_weights_and_start():
    core = denomamba.Mamba(48)
    names = {"A_log", "D", "in_proj.weight", "conv1d.weight", "conv1d.bias", "x_proj.weight", "dt_proj.weight"}
    assert set(core.state_dict()) == names | {"dt_proj.bias", "out_proj.weight"}
    assert torch.allclose(core.A_log.exp(), torch.arange(1.0, 17).expand(96, 16))
    assert (core.D == 1).all() and core.x_proj.weight.shape == (3 + 32, 96)
    dt = F.softplus(core.dt_proj.bias)
    assert dt.min() > 0.99e-3 and dt.max() < 0.101 and dt.max() / dt.min() > 20
    assert core.dt_proj.weight.abs().max() <= 3**-0.5


@pytest.mark.parametrize("width", [1, 12, 32])
def test_the_core_computes_what_mambapys_does_with_the_same_weights(width):
    mamba = pytest.importorskip("mambapy.mamba", reason="mambapy is not installed")
    core = denomamba.Mamba(width)
    other = mamba.MambaBlock(mamba.MambaConfig(d_model=width, n_layers=1))
    other.load_state_dict(core.state_dict())
    sequences = torch.randn(2, 70, width)
    with torch.no_grad():
        assert (core(sequences) - other(sequences)).abs().max() < 1e-6


def test_the_core_is_causal():
    core, x = denomamba.Mamba(8), torch.randn(1, 40, 8)
    changed = x.clone()
    changed[:, 25] += 1
    with torch.no_grad():
        a, b = core(x), core(changed)
    assert torch.equal(a[:, :25], b[:, :25]) and ((a - b)[:, 25:].abs().amax(-1) > 0).all()


def test_the_channel_scan_runs_along_the_channels_of_each_pixel_alone():
    layer, x = denomamba.MambaLayer(6, "channels"), torch.randn(2, 6, 4, 8)
    layer.norm = torch.nn.Identity()
    changed = x.clone()
    changed[:, 3, 2, 5] += 1
    with torch.no_grad():
        moved = (layer(changed) - layer(x)) != 0
    assert moved[:, 3:, 2, 5].all() and moved.sum() == 2 * 3  # that pixel, and only channels from the changed one on


@pytest.mark.parametrize(("over", "same"), [("channels", True), ("space", False)])
def test_only_the_channel_scan_treats_a_part_of_an_image_like_the_whole(over, same):
    layer, x = denomamba.MambaLayer(6, over), torch.randn(1, 6, 8, 8)
    with torch.no_grad():
        difference = (layer(x)[..., 3:, 2:] - layer(x[..., 3:, 2:])).abs().max()
    assert (difference < 1e-6) == same


def test_the_variant_decides_what_the_second_branch_of_every_block_scans():
    for variant, over, width in (("released", "space", 4), ("channel", "channels", 1)):
        network = networks.build("denomamba", variant=variant, **TINY)
        blocks = [module for module in network.modules() if isinstance(module, denomamba.FuseSSM)]
        assert len(blocks) == 8 and {block.spatial.over for block in blocks} == {"space"}
        assert {block.second.over for block in blocks} == {over}
        assert blocks[0].second.mamba.in_proj.weight.shape == (4 * width, width)
    with pytest.raises(ValueError, match="no variant"):
        networks.build("denomamba", variant="both")


def test_the_released_variant_scans_pixels_row_by_row():
    layer, x = denomamba.MambaLayer(4, "space"), torch.randn(1, 4, 5, 6)
    changed = x.clone()
    changed[:, :, 2, 3] += torch.randn(4)
    with torch.no_grad():
        moved = ((layer(changed) - layer(x)).abs().amax(1) > 0)[0].flatten()
    assert not moved[: 2 * 6 + 3].any() and moved[2 * 6 + 3 :].all()


# ---- the scan ----
def inputs(rows, length, width, states=16, dtype=torch.float32):
    """u, dt, A, B, C, D of plausible size."""
    u, dt = torch.randn(2, rows, length, width, dtype=dtype)
    B, C = torch.randn(2, rows, length, states, dtype=dtype)
    return [u, F.softplus(dt - 2), -torch.exp(torch.randn(width, states, dtype=dtype)), B, C, torch.randn(width).to(u)]


def results(method, given):
    """Output and gradients of a weighted sum of it."""
    given = [x.detach().clone().requires_grad_() for x in given]
    y = _selective_scan.selective_scan(*given, method)
    weights = torch.linspace(-1, 1, y.numel(), device=y.device).view_as(y)
    return [y.detach(), *torch.autograd.grad((y * weights).sum(), given)]


def assert_equal_scans(a, b, tolerance=1e-5):
    for one, two in zip(a, b):
        assert (one - two).abs().max() <= tolerance * two.abs().max().clamp(min=1e-3)


@pytest.mark.parametrize("method", ["loop", "chunked"])
def test_the_scan_gives_the_worked_example(method):
    one = torch.ones(1, 5, 1)
    dt = F.softplus(0 * one)  # ln 2
    y = _selective_scan.selective_scan(one, dt, -torch.ones(1, 1), one, one, torch.zeros(1), method)
    assert torch.allclose(y.flatten(), math.log(2) * torch.tensor([1, 1.5, 1.75, 1.875, 1.9375]), atol=1e-6)
    assert y.flatten().tolist() == pytest.approx([0.693147, 1.039721, 1.213008, 1.299651, 1.342973], abs=1e-6)


@pytest.mark.parametrize("elements", [2**20, 2000])  # one span, and many
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 7, 3), (2, 64, 4), (1, 401, 6), (50, 12, 2)])
def test_the_chunked_scan_equals_the_loop_and_so_do_its_gradients(shape, elements, monkeypatch):
    monkeypatch.setattr(_selective_scan, "SPAN_ELEMENTS", elements)
    given = inputs(*shape)
    assert_equal_scans(results("chunked", given), results("loop", given))


def test_the_gradients_of_the_chunked_scan_are_those_of_finite_differences(monkeypatch):
    monkeypatch.setattr(_selective_scan, "SPAN_ELEMENTS", 40)
    given = [x.requires_grad_() for x in inputs(2, 11, 2, 3, torch.float64)]
    assert torch.autograd.gradcheck(lambda *x: _selective_scan.selective_scan(*x, "chunked"), given)


def test_a_long_sequence_of_large_steps_neither_underflows_nor_forgets():
    u, dt, A, B, C, D = inputs(1, 3000, 2)
    # float32 itself is good to 1e-4 where thousands of small steps are added up, in a loop too
    for case, tolerance in (([u, 50 * dt, 100 * A, B, C, D], 1e-5), ([u, 1e-4 * dt, 1e-2 * A, B.abs(), C, D], 1e-4)):
        exact = results("loop", [x.double() for x in case])
        assert_equal_scans(results("chunked", case), exact, tolerance)


def test_what_is_kept_for_the_gradients_is_a_small_part_of_all_states():
    given, kept = [x.requires_grad_() for x in inputs(1, 16384, 32)], {}

    def count(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        _selective_scan.selective_scan(*given, "chunked")
    assert sum(kept.values()) < 0.3 * 16384 * 32 * 16 * 4


def test_the_scan_refuses_shapes_and_types_that_do_not_fit():
    u, dt, A, B, C, D = inputs(1, 5, 2)
    with pytest.raises(ValueError, match=r"B must be \(1, 5, 16\), not \(1, 4, 16\)"):
        _selective_scan.selective_scan(u, dt, A, B[:, :4], C, D)
    with pytest.raises(ValueError, match="takes float32 throughout"):
        _selective_scan.selective_scan(u.bfloat16(), dt, A, B, C, D)
    with pytest.raises(ValueError, match="no scan 'fast'"):
        _selective_scan.selective_scan(u, dt, A, B, C, D, "fast")


# ---- kernels ----
def test_a_kernel_that_computes_something_else_is_refused_before_its_first_use(monkeypatch):
    monkeypatch.setattr(_selective_scan, "_mamba_ssm", lambda *given: 1.001 * _selective_scan._chunked(*given))
    _selective_scan.check.cache_clear()
    with torch.inference_mode(), pytest.raises(RuntimeError, match=r"'mamba_ssm' on cpu is off by .*scan=chunked"):
        _selective_scan.selective_scan(*inputs(1, 4, 2), "mamba_ssm")
    monkeypatch.setattr(_selective_scan, "_mamba_ssm", _selective_scan._chunked)
    _selective_scan.selective_scan(*inputs(1, 4, 2), "mamba_ssm")
    _selective_scan.check.cache_clear()


def test_auto_takes_a_kernel_only_on_a_gpu_and_only_if_it_is_installed(monkeypatch):
    assert _selective_scan.fastest("cpu") == "chunked"
    for installed, method in (({"mamba_ssm"}, "mamba_ssm"), (set(), "chunked")):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name, there=installed: name in there or None)
        assert _selective_scan.fastest("cuda") == method
    assert _selective_scan.fastest("cuda", torch.float64) == "chunked"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("method", ["chunked", "mamba_ssm"])
def test_every_scan_gives_the_same_numbers_on_a_gpu(method):
    if method == "mamba_ssm":
        pytest.importorskip(method, reason=f"{method} is not installed")
    for shape in ((2, 4096, 32), (1, 401, 6), (300, 16, 2), (70_000, 8, 2)):  # the last: more rows than CUDA's y axis
        given = inputs(*shape)
        on_gpu = results(method, [x.cuda() for x in given])
        assert_equal_scans([x.cpu() for x in on_gpu], results("chunked", given), 1e-4)
