"""The LDCT benchmark's eight denoisers: published sizes, what they compute, what they refuse, normalisation inside."""

import functools
import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

from ldct_utils.ct import intensity
from ldct_utils.models import networks
from ldct_utils.models.networks._convolutions import from_one, to_one, turned
from ldct_utils.models.networks.bilateral import Filter, _Filter
from ldct_utils.models.networks.qae import Quadratic
from ldct_utils.models.networks.transct import depth_to_space
from ldct_utils.training import checkpoints, losses
from ldct_utils.training.methods.supervised import Supervised

PUBLISHED = {
    "cnn10": 24_513, "redcnn": 1_848_865, "wganvgg": 56_097, "resnet": 1_843_329, "qae": 49_818, "dugan": 1_848_865,
    "transct": 79_347_520, "bilateral": 12,
}  # fmt: skip
TINY = {
    "cnn10": {"width": 4}, "redcnn": {"width": 4}, "wganvgg": {"width": 4}, "resnet": {"width": 8, "blocks": 1},
    "qae": {"width": 3}, "dugan": {"width": 4}, "bilateral": {},
}  # fmt: skip
TINY_TRANSCT = {"blocks": 1, "widening": 1}
MEAN, STD = intensity.EULIG_MEAN_HU, intensity.EULIG_STD_HU


def tiny(name, seed=0, **more):
    torch.manual_seed(seed)
    return networks.build(name, **(TINY | {"transct": TINY_TRANSCT})[name], **more)


# ---- all eight ----
@pytest.mark.parametrize("name", PUBLISHED)
def test_number_of_weights_is_the_published_one(name):
    with torch.device("meta"):
        network = networks.build(name)
    assert sum(p.numel() for p in network.parameters()) == PUBLISHED[name]


@pytest.mark.parametrize("shape", [(2, 1, 64, 64), (1, 1, 36, 36), (1, 1, 25, 38)])
@pytest.mark.parametrize("name", TINY)
def test_shape_stays_with_and_without_normalisation_and_in_bf16(name, shape):
    for given in ({}, {"mean_hu": MEAN, "std_hu": STD}):
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bool(given)):
            out = tiny(name, **given)(torch.rand(shape))
        assert out.shape == shape and out.dtype == torch.float32 and out.isfinite().all()


@pytest.mark.parametrize("name", TINY)
def test_gradient_reaches_every_weight(name):
    network, image = tiny(name, mean_hu=MEAN, std_hu=STD), torch.rand(2, 1, 24, 24)
    if name == "qae":  # all its ReLUs must pass something on
        with torch.no_grad():
            for layer in [*network.encoder, *network.decoder]:
                layer.b_r += 1
    (network(image) - torch.rand(2, 1, 24, 24)).square().sum().backward()
    dead = {key for key, p in network.named_parameters() if not p.grad.abs().sum() > 0}
    # slices have no extent along z; batch norm takes away what a bias before it adds
    without = {"bilateral": ("sigma_z",), "resnet": (".0.bias", ".3.bias")}.get(name, ())
    assert not {key for key in dead if not key.endswith(without)}, dead
    if name == "bilateral":
        assert dead == {f"filters.{i}.sigma_z" for i in range(3)}


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("shape", [(1, 3, 32, 32), (32, 32), (1, 32, 32)])
def test_an_image_of_another_form_is_refused_by_name(name, shape):
    with pytest.raises(ValueError, match=r"takes \(N, 1, H, W\).*not \(.*32\)"):
        tiny(name)(torch.rand(shape))


@pytest.mark.parametrize(("name", "smallest"), [("redcnn", 21), ("dugan", 21), ("qae", 3), ("cnn10", 1)])
def test_the_smallest_image_is_taken_and_a_smaller_one_refused(name, smallest):
    with torch.no_grad():
        assert tiny(name)(torch.rand(1, 1, smallest, smallest)).shape[2:] == (smallest, smallest)
    with pytest.raises(ValueError, match=f"at least {smallest}, not"):
        tiny(name)(torch.rand(1, 1, smallest - 1, 40))


@pytest.mark.parametrize("name", TINY)
def test_a_training_is_resumed_to_the_same_weights_and_written_to_a_checkpoint(name, tmp_path):
    given = TINY[name] | {"mean_hu": MEAN, "std_hu": STD}
    batches = [(torch.rand(2, 1, 24, 24), torch.rand(2, 1, 24, 24)) for _ in range(3)]

    def step():
        return Supervised(tiny(name, mean_hu=MEAN, std_hu=STD), losses.build("mse"), 1e-3)

    through, first, second = step(), step(), step()
    for batch in batches:
        through.update(*batch)
    first.update(*batches[0])
    checkpoints.save(tmp_path, "id", 1, step=first)
    assert checkpoints.resume(tmp_path, "id", step=second) == 1
    for batch in batches[1:]:
        second.update(*batch)
    checkpoints.write_checkpoint(tmp_path, 3, second.network, {"name": name} | given)
    loaded, trained = checkpoints.load_network(tmp_path).state_dict(), through.network.state_dict()
    assert set(loaded) == set(trained) and all(torch.equal(loaded[key], trained[key]) for key in trained)


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("cnn10", {"width": 3}, "width must be even"), ("resnet", {"width": 12}, "multiple of its 8 groups"),
        ("redcnn", {"width": 0}, "RED-CNN: width .* not 0"), ("wganvgg", {"width": 2.0}, "WGAN-VGG: width"),
        ("dugan", {"width": True}, "DU-GAN: width"), ("qae", {"width": "15"}, "QAE: width"),
        ("transct", {"blocks": 0}, "TransCT: blocks"), ("bilateral", {"filters": 0}, "filters"),
        ("bilateral", {"sigma_r": 0.0}, "sigma_r is a standard deviation"),
        ("cnn10", {"mean_hu": -500.0}, "both mean_hu and std_hu"), ("cnn10", {"mean_hu": 0, "std_hu": 0}, "above 0"),
        ("cnn10", {"mean_hu": math.nan, "std_hu": 1}, "mean_hu is a number"),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_refused_by_name(name, given, words):
    with pytest.raises(ValueError, match=words):
        networks.build(name, **given)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
@pytest.mark.parametrize("name", TINY)
def test_a_gpu_computes_the_same_image_and_gradients(name):
    image, found = torch.rand(2, 1, 32, 32), {}
    for device in ("cpu", "cuda"):
        network = tiny(name, mean_hu=MEAN, std_hu=STD).to(device).double()
        out = network(image.to(device).double())
        out.square().sum().backward()
        found[device] = [out.detach().cpu(), *(p.grad.cpu() for p in network.parameters())]
    assert all(torch.allclose(a, b, rtol=1e-6, atol=1e-8) for a, b in zip(found["cpu"], found["cuda"]))


# ---- normalisation ----
def test_normalisation_is_the_benchmarks_and_zero_comes_back_as_the_mean():
    network = networks.build("cnn10", width=2, mean_hu=MEAN, std_hu=STD).double()
    stored = torch.tensor([0.0, 24.0, 481.45419786099086, 1064.0, 4095.0], dtype=torch.float64)  # HU + 1024
    normalised = network.normalise(stored / 4096)
    assert torch.allclose(normalised, (stored - 481.45419786099086) / 502.18507379395044, rtol=1e-12)
    assert torch.allclose(network.denormalise(normalised) * 4096, stored, atol=1e-9)
    zero = network.denormalise(torch.zeros(1, dtype=torch.float64)) * 4096
    assert zero.item() == pytest.approx(481.45419786099086)  # published hub path: 502.185, 20.73 HU too much


def test_without_statistics_nothing_is_normalised():
    network, image = networks.build("cnn10", width=2), torch.rand(1, 1, 9, 9)
    assert torch.equal(network.normalise(image), image) and torch.equal(network.denormalise(image), image)


@pytest.mark.parametrize("name", ["redcnn", "resnet", "qae", "dugan"])
def test_a_network_with_a_skip_is_the_identity_when_its_last_layer_is_silent(name):
    network, image = tiny(name, mean_hu=MEAN, std_hu=STD), torch.rand(1, 1, 32, 32)
    last = network.head if name == "resnet" else network.decoder[-1]
    for weight in last.parameters():
        nn.init.zeros_(weight)
    with torch.no_grad():
        assert torch.allclose(network(image), image, atol=1e-6)


@pytest.mark.parametrize("name", ["cnn10", "wganvgg"])
def test_a_network_without_a_skip_answers_the_mean_when_its_last_layer_is_silent(name):
    network = tiny(name, mean_hu=MEAN, std_hu=STD)
    for weight in network.head.parameters():
        nn.init.zeros_(weight)
    with torch.no_grad():
        out = network(torch.rand(1, 1, 16, 16)) * 4096 - 1024
    assert torch.allclose(out, torch.full_like(out, MEAN), atol=1e-3)


@pytest.mark.parametrize("name", ["cnn10", "wganvgg", "unet"])
def test_bf16_does_not_round_what_leaves_a_network_without_a_skip(name):
    """bf16 has 8 bits: at 40 HU, network range 0.26, its steps are 8 HU."""
    torch.manual_seed(0)
    network, seen = networks.build("unet", channels=4, residual=False) if name == "unet" else tiny(name), []
    last = {"cnn10": lambda: network.body, "wganvgg": lambda: network.body[-1], "unet": lambda: network.merge[-1]}
    last[name]().register_forward_hook(lambda module, given, out: seen.append(out.clone()))
    with torch.no_grad():
        with torch.autocast("cpu", torch.bfloat16):
            out = network(torch.rand(1, 1, 32, 32))
        expected = network.head(seen[0].float().relu())
        expected = expected.sigmoid() if name == "unet" else expected
    assert seen[0].dtype == torch.bfloat16 and torch.allclose(out, expected, rtol=1e-5, atol=1e-7)


# ---- convolutions ----
@pytest.mark.parametrize(("kernel", "padding"), [(1, 0), (3, 1), (5, 0), (5, 4), (9, 4)])
def test_convolutions_by_rows_are_those_of_torch_with_the_same_gradients(kernel, padding):
    torch.manual_seed(0)
    given = {"dtype": torch.float64, "requires_grad": True}
    for function, image, weight in (
        (from_one, torch.randn(2, 1, 11, 14, **given), torch.randn(3, 1, kernel, kernel, **given)),
        (to_one, torch.randn(2, 3, 11, 14, **given), torch.randn(1, 3, kernel, kernel, **given)),
    ):
        bias = torch.randn(len(weight), **given)
        found, expected = function(image, weight, bias, padding), nn.functional.conv2d(image, weight, bias, 1, padding)
        assert torch.allclose(found, expected, rtol=1e-12)
        push = torch.randn_like(expected)
        for ours, theirs in zip(*(torch.autograd.grad(y, (image, weight, bias), push) for y in (found, expected))):
            assert torch.allclose(ours, theirs, rtol=1e-10)


def test_a_turned_kernel_makes_a_transposed_convolution_a_convolution():
    torch.manual_seed(0)
    image, weight = torch.randn(1, 3, 7, 9, dtype=torch.float64), torch.randn(3, 2, 5, 5, dtype=torch.float64)
    expected = nn.functional.conv_transpose2d(image, weight)
    assert torch.allclose(nn.functional.conv2d(image, turned(weight), padding=4), expected)


# ---- single architectures ----
def test_skips_of_redcnn_are_added_where_the_paper_draws_them():
    network, image = tiny("redcnn"), torch.rand(1, 1, 40, 40)
    relu, z = torch.relu, [image]
    for conv in network.encoder:
        z.append(relu(conv(z[-1])))
    first, second, third, fourth, fifth = network.decoder  # here by torch's own transposed convolution
    out = relu(first(z[5]) + z[4])
    out = relu(third(relu(second(out))) + z[2])
    assert torch.allclose(network.denoise(image), fifth(relu(fourth(out))) + image, atol=1e-6)


def plain(network, name):
    """The network's layers one after the other, by torch's own convolutions."""
    if name == "resnet":
        blocks = [lambda z, block=block: z + block.body(z) for block in network.blocks]
        return lambda x: x - network.head(functools.reduce(lambda z, block: block(z), blocks, network.stem(x)))
    body = [network.body] if name == "cnn10" else network.body
    return nn.Sequential(
        network.stem, *(layer for conv in body for layer in (nn.ReLU(), conv)), nn.ReLU(), network.head
    )


@pytest.mark.parametrize("name", ["cnn10", "wganvgg", "resnet"])
def test_layers_follow_each_other_as_described(name):
    network, image = tiny(name).eval(), torch.rand(1, 1, 20, 24)
    with torch.no_grad():
        if name == "resnet":
            network.blocks[0].body[1].running_mean.normal_()
        assert torch.allclose(network.denoise(image), plain(network, name)(image), atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 3), (3, 3), (3, 1)])
def test_a_quadratic_layer_is_linear_at_the_start_and_quadratic_after_it(shape):
    torch.manual_seed(0)
    conv = functools.partial(nn.functional.conv2d, padding=1)
    layer, image = Quadratic(*shape, 1).double(), torch.randn(1, shape[0], 8, 8, dtype=torch.float64)
    with torch.no_grad():
        assert torch.allclose(layer(image), conv(image, layer.w_r))
        assert torch.allclose(layer(3 * image), 3 * layer(image))
        for weight in layer.parameters():
            weight.normal_()
        r, g = conv(image, layer.w_r, layer.b_r), conv(image, layer.w_g, layer.b_g)
        assert torch.allclose(layer(image), r * g + conv(image**2, layer.w_b, layer.b_b))


def test_quadratic_layers_start_from_a_normal_cut_at_two_deviations():
    weight = Quadratic(15, 15, 1).w_r
    assert 0.08 < weight.std() < 0.1 and weight.abs().max() <= 0.2  # the deviation that is left is 0.088


def test_resnet_subtracts_what_it_predicts():
    network, image = tiny("resnet").eval(), torch.rand(1, 1, 16, 16)
    with torch.no_grad():
        before = network(image)
        network.head.bias += 0.25
        assert torch.allclose(network(image), before - 0.25, atol=1e-6)


def test_transct_refuses_another_size_and_says_how_to_get_slices_of_the_right_one():
    with torch.device("meta"):
        network = networks.build("transct", **TINY_TRANSCT)
        for shape in ((1, 1, 256, 256), (1, 1, 512, 256), (1, 3, 512, 512)):
            with pytest.raises(ValueError, match=r"512.*-p size 512 -p patch_size 512"):
                network(torch.zeros(shape))


def test_transct_denoises_a_whole_slice_and_learns_all_its_weights():
    network, image = tiny("transct", mean_hu=MEAN, std_hu=STD), torch.rand(1, 1, 512, 512)
    out = network(image)
    out.sum().backward()
    assert out.shape == image.shape and all(p.grad.abs().sum() > 0 for p in network.parameters())


def test_transct_splits_frequencies_with_a_gaussian():
    network, image = tiny("transct").double(), torch.rand(1, 1, 40, 40, dtype=torch.float64)
    expected = ndimage.gaussian_filter(image[0, 0].numpy(), 1.5, mode="mirror", radius=5)
    assert np.allclose(network.blur(image)[0, 0].numpy(), expected, atol=1e-7)


def test_depth_to_space_has_the_order_of_tensorflow():
    z = torch.arange(12.0).view(1, 12, 1, 1)  # 3 channels, blocks of 2x2: the channel is the inner index
    assert depth_to_space(z, 2)[0, 1].tolist() == [[1, 4], [7, 10]]


# ---- bilateral filters ----
def reference(image, sigma_x, sigma_y, sigma_r):
    """The filter, pixel by pixel."""
    rx, ry = (max(math.ceil(5 * s) | 1, 5) // 2 for s in (sigma_x, sigma_y))
    out = np.empty_like(image)
    for i, j in np.ndindex(*image.shape):
        top, left = max(0, i - rx), max(0, j - ry)
        near = image[top : i + rx + 1, left : j + ry + 1]
        x, y = np.mgrid[top : top + near.shape[0], left : left + near.shape[1]]
        exponent = ((x - i) / sigma_x) ** 2 + ((y - j) / sigma_y) ** 2 + ((near - image[i, j]) / sigma_r) ** 2
        weights = np.exp(-exponent / 2)
        out[i, j] = (weights * near).sum() / weights.sum()
    return out


@pytest.mark.parametrize("sigmas", [(0.5, 0.5, 0.3), (0.7, 1.6, 0.2), (2.3, 0.4, 1.0)])
def test_a_bilateral_filter_is_its_definition(sigmas):
    image = np.random.default_rng(0).random((11, 9))
    x, y, r = (torch.tensor(s, dtype=torch.float64) for s in sigmas)
    found = _Filter.apply(torch.from_numpy(image)[None, None], x, y, x, r)[0, 0].numpy()
    assert np.allclose(found, reference(image, *sigmas), rtol=1e-12)


@pytest.mark.parametrize("shape", [(2, 1, 7, 6), (1, 1, 2, 3)])
def test_gradients_of_a_bilateral_filter_are_those_of_finite_differences(shape):
    torch.manual_seed(0)
    image = torch.rand(shape, dtype=torch.float64, requires_grad=True)
    sigmas = [torch.tensor(s, dtype=torch.float64, requires_grad=True) for s in (0.7, 1.3, 0.5, 0.3)]
    assert torch.autograd.gradcheck(_Filter.apply, (image, *sigmas))


def test_a_constant_image_passes_and_a_wide_range_is_a_gaussian_blur():
    constant = torch.full((1, 1, 20, 20), 0.3)
    with torch.no_grad():
        assert torch.equal(networks.build("bilateral")(constant), constant)
        image = torch.rand(1, 1, 20, 20)
        blurred = Filter(0.8, 1e6)(image)[0, 0].numpy()
    blur = [
        ndimage.gaussian_filter(x, 0.8, mode="constant", radius=2) for x in (image[0, 0].numpy(), np.ones((20, 20)))
    ]
    assert np.allclose(blurred, blur[0] / blur[1], atol=1e-6)


def test_a_bilateral_filter_keeps_an_edge_that_is_high_for_its_range():
    image = torch.zeros(1, 1, 16, 16)
    image[..., 8:] = 1
    with torch.no_grad():
        kept = networks.build("bilateral", sigma_r=0.05)(image + 0.01 * torch.rand_like(image))
    assert (kept - image).abs().max() < 0.02


def test_a_bilateral_filter_keeps_two_images_for_its_gradients_whatever_its_window():
    kept = []
    for sigma in (0.5, 3.0):
        sizes = {}

        def count(tensor, sizes=sizes):
            sizes[tensor.data_ptr()] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            Filter(sigma, 0.3)(torch.rand(1, 1, 24, 24))
        kept.append(sum(sizes.values()) / 24**2)
    assert kept == [3, 3]  # and the image itself


def test_bilateral_filters_name_their_two_groups_of_weights():
    groups = networks.build("bilateral").groups()
    assert [p.item() for p in groups["sigma_r"]] == pytest.approx([0.95266] * 3)
    assert [p.item() for p in groups["rest"]] == pytest.approx([0.48647] * 9)
