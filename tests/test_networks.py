"""The paper's U-Net: its size, its form, its residual variant, and the registry of denoisers."""

import importlib

import pytest
import torch

from ldct_utils.models import networks
from ldct_utils.models.networks.unet import UNet


@pytest.mark.parametrize(("channels", "weights"), [(32, 7_759_521), (64, 31_030_593)])
def test_unet_has_as_many_weights_as_in_the_paper(channels, weights):
    with torch.device("meta"):
        network = networks.build("unet", channels=channels)
    assert sum(p.numel() for p in network.parameters()) == weights


@pytest.mark.parametrize("shape", [(2, 1, 96, 96), (1, 1, 64, 112)])
def test_unet_keeps_the_shape_and_stays_inside_zero_and_one(shape):
    with torch.no_grad():
        out = networks.build("unet", channels=4)(torch.rand(shape))
    assert out.shape == shape and out.min() > 0 and out.max() < 1


def test_unet_takes_a_whole_slice():
    with torch.no_grad():
        assert networks.build("unet", channels=2)(torch.rand(1, 1, 512, 512)).shape == (1, 1, 512, 512)


@pytest.mark.parametrize("shape", [(1, 1, 100, 96), (1, 1, 96, 40), (1, 3, 96, 96), (1, 96, 96)])
def test_unet_rejects_a_shape_it_cannot_halve_four_times(shape):
    with pytest.raises(ValueError, match=r"divisible by 16.*\d+, \d+"):
        networks.build("unet", channels=2)(torch.rand(shape))


def test_untrained_residual_unet_is_the_identity_and_has_the_same_weights():
    network = networks.build("unet", channels=4, residual=True)
    image = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        assert torch.equal(network(image), image)
    assert set(network.state_dict()) == set(networks.build("unet", channels=4).state_dict())


def test_residual_unet_leaves_zero_to_one_and_learns():
    torch.manual_seed(0)
    network = networks.build("unet", channels=4, residual=True)
    image = torch.rand(2, 1, 32, 32)
    adam = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(3):
        adam.zero_grad()
        (network(image) - image - 1).square().mean().backward()
        adam.step()
    assert (network(image) - image).mean() > 0.02 and network(image).max() > 1


def test_paper_unet_has_no_way_past_the_network_for_the_input():
    network = networks.build("unet", channels=2)
    torch.nn.init.zeros_(network.head.weight)
    with torch.no_grad():
        assert torch.equal(network(torch.rand(1, 1, 32, 32)), torch.full((1, 1, 32, 32), 0.5))


def test_unet_starts_glorot_uniform_with_zero_biases():
    torch.manual_seed(5)
    network = UNet(8)
    kernel = network.down[1][2].weight  # 16 -> 16 channels, 3x3
    limit = (6 / (16 * 9 + 16 * 9)) ** 0.5
    assert kernel.abs().max() <= limit and kernel.abs().max() > 0.95 * limit
    assert kernel.std().item() == pytest.approx(limit / 3**0.5, rel=0.05)
    assert all((p == 0).all() for name, p in network.named_parameters() if name.endswith("bias"))


def test_upsampled_channels_come_before_the_skip():
    network = UNet(2)
    for up in network.up:  # with no upsampled signal, only the second half of a merge's input can matter
        torch.nn.init.zeros_(up.weight)
    merge = network.merge[-1][0]
    image = torch.rand(1, 1, 16, 16)
    with torch.no_grad():
        before = network(image)
        merge.weight[:, :2] += 1
        assert torch.equal(network(image), before)
        merge.weight[:, 2:] += 1
        assert not torch.equal(network(image), before)


def test_same_seed_builds_the_same_network():
    states = []
    for _ in range(2):
        torch.manual_seed(5)
        states.append(networks.build("unet", channels=4).state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_registry_names_its_networks_and_rejects_others():
    assert "unet" in networks.names()
    with pytest.raises(ValueError, match=r"no network 'unett'.*unet"):
        networks.build("unett")
    with pytest.raises(ValueError, match=r"no setting 'width'.*channels"):
        networks.build("unet", width=3)


@pytest.mark.parametrize("channels", [0, -1, 2.0, True, "32"])
def test_unet_rejects_a_width_that_is_no_positive_whole_number(channels):
    with pytest.raises(ValueError, match="channels is the width"):
        networks.build("unet", channels=channels)


SMALL = {
    "unet": {"channels": 2}, "denomamba": {"dim": 2, "blocks": (1, 1, 1, 1), "refinement": 1},
    "transct": {"blocks": 1, "widening": 1}, "redcnn": {"width": 2}, "dugan": {"width": 2},
    "resnet": {"width": 8, "blocks": 1},
}  # fmt: skip


@pytest.mark.parametrize("name", networks.names())
def test_every_network_gives_an_image_of_the_same_shape_and_is_documented(name):
    assert importlib.import_module(f"ldct_utils.models.networks.{name}").build.__doc__
    size = 512 if name == "transct" else 32
    with torch.no_grad():
        out = networks.build(name, **SMALL.get(name, {})).eval()(torch.rand(1, 1, size, size))
    assert out.shape == (1, 1, size, size) and out.dtype == torch.float32 and out.isfinite().all()


def test_what_networks_share_is_no_network():
    assert not [name for name in networks.names() if name.startswith("_")] and "critics" not in networks.names()
    with pytest.raises(ValueError, match="no network '_normalised'"):
        networks.build("_normalised")


def test_a_new_file_is_a_new_network(tmp_path, monkeypatch):
    (tmp_path / "identity_net.py").write_text("import torch\n\n\ndef build():\n    return torch.nn.Identity()\n")
    monkeypatch.setattr(networks, "__path__", [*networks.__path__, str(tmp_path)])
    assert "identity_net" in networks.names()
    assert isinstance(networks.build("identity_net"), torch.nn.Identity)
