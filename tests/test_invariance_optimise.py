"""Distances, the search, and denoisers whose invariances are known: what is found must be what there is to find."""

import numpy as np
import piq
import pytest
import torch
from skimage.metrics import structural_similarity
from torch import nn

from ldct_utils.ct.intensity import HU_SPAN, from_net, to_net
from ldct_utils.invariance import controls, distances, optimise
from ldct_utils.invariance.optimise import Search
from ldct_utils.models import encoders, networks
from ldct_utils.training import checkpoints, setup

SIZE = 32


@pytest.fixture(autouse=True)
def one_thread():
    setup.seed_everything(0, 1)


def slices(n=2, size=SIZE, seed=0):
    """Soft tissue at 50 HU with noise of 20 HU, and a quadrant of air: (n, 1, size, size), network range."""
    rng = np.random.default_rng(seed)
    hu = 50 + rng.normal(0, 20, (n, 1, size, size))
    hu[..., : size // 4, : size // 4] = -1024
    return to_net(torch.from_numpy(hu).float())


def noisy(x, sigma_hu, seed=9):
    return x + torch.randn(x.shape, generator=torch.Generator().manual_seed(seed)) * sigma_hu / HU_SPAN


def searched(f, x, alpha, iterations, lr=1e-3, distance=None, sigma_hu=10, **more):
    """A search whose learning rate falls tenfold after half of the iterations, and again after three quarters."""
    search = Search(f, x, distance or distances.build("mse"), alpha, sigma_hu, lr, **more)
    for i in range(iterations):
        search.lr = lr / 10 ** ((i >= iterations // 2) + (i >= 3 * iterations // 4))
        search.step()
    return search


def vgg16(layers=("block1_conv2", "block2_conv2")):
    return distances.build("vgg16", encoder=encoders.load("vgg16", "random", layers))


def all_distances():
    build = distances.build
    return {"mse": build("mse"), "tiles": build("mse", tile=10), "dssim": build("dssim"),
            "dssim 400": build("dssim", 400.0), "vgg16": vgg16()}  # fmt: skip


class Gain(nn.Module):
    def __init__(self, gain):
        super().__init__()
        self.gain = gain

    def forward(self, image):
        return self.gain * image


# --- distances


@pytest.mark.parametrize("name", all_distances())
def test_a_distance_is_zero_for_equal_images_symmetric_and_in_the_unit_interval(name):
    distance, x = all_distances()[name], slices()
    assert distance(x, x).abs().max() < 1e-6
    other = torch.stack([noisy(x[0], 30), to_net(torch.full_like(x[0], 3071.0))])
    found = distance(x, other)
    assert found.shape == (2,) and found.dtype == torch.float32
    assert 0 < found[0] < found[1] <= 1
    torch.testing.assert_close(found, distance(other, x))
    torch.testing.assert_close(found[1:], distance(x[1:], other[1:]), rtol=1e-3, atol=0)  # a batch of one


@pytest.mark.parametrize("name", ["mse", "tiles", "vgg16"])
def test_the_gradient_of_a_bounded_distance_never_dies(name):
    x = slices(1)
    far = to_net(torch.full_like(x, 3071.0)).requires_grad_()
    all_distances()[name](far, x).sum().backward()
    assert torch.isfinite(far.grad).all() and (far.grad != 0).float().mean() > 0.99
    if name == "mse":  # the derivative by hand: s^2 / (m + s^2)^2 of m, whose own is 2 (a - b) / n
        error, s2 = (far - x).detach().double(), (25 / HU_SPAN) ** 2
        wanted = s2 / (error.square().mean() + s2) ** 2 * 2 * error / x.numel()
        torch.testing.assert_close(far.grad.double(), wanted, rtol=1e-4, atol=0)


def test_mse_is_one_half_at_its_scale_and_a_square_well_below():
    x = slices(1)
    for scale in (10.0, 40.0):
        distance = distances.build("mse", scale)
        assert distance(x + scale / HU_SPAN, x).item() == pytest.approx(0.5, rel=1e-4)
        assert distance(x + 0.01 * scale / HU_SPAN, x).item() == pytest.approx(1e-4, rel=0.01)


def test_tiles_have_a_bound_each():
    x = slices(1, size=16)
    one = x.clone()
    one[..., :8, :8] += 1000 / HU_SPAN  # a quarter of the image, far beyond the scale
    both = one.clone()
    both[..., 8:, 8:] += 25 / HU_SPAN
    whole, tiles = distances.build("mse"), distances.build("mse", tile=8)
    assert (whole(both, x) - whole(one, x)).item() < 1e-5
    assert (tiles(both, x) - tiles(one, x)).item() == pytest.approx(0.5 / 4, rel=1e-3)


@pytest.mark.parametrize("range_hu", [4096.0, 400.0])
def test_dssim_agrees_with_skimage_and_piq(range_hu):
    x = slices(1, size=48)
    other = noisy(x, 60)
    a, b = ((HU_SPAN * image.double() + 0).numpy()[0, 0] for image in (x, other))  # HU + 1024
    _, full = structural_similarity(
        a, b, data_range=range_hu, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
    )
    wanted = (1 - full[5:-5, 5:-5].mean()) / 2
    found = distances.build("dssim", range_hu)(x, other).item()
    assert found == pytest.approx(wanted, rel=1e-4)
    if range_hu == 4096:
        theirs = (1 - piq.ssim(x.double().clip(0, 1), other.double().clip(0, 1), downsample=False).item()) / 2
        clipped = distances.build("dssim")(x.clip(0, 1), other.clip(0, 1)).item()
        assert clipped == pytest.approx(theirs, rel=1e-3)


def test_the_gradient_of_dssim_is_that_of_finite_differences_in_float64():
    x = slices(1, size=12).double()
    other = noisy(x, 40).requires_grad_()
    distance = distances.Dssim(400.0)
    compared = torch.autograd.gradcheck(
        lambda image: _double(distance, image, x), other, eps=1e-6, atol=1e-5, fast_mode=True
    )
    assert compared


def _double(distance, image, x):
    """DSSIM before it is rounded to float32."""
    (a, mean_a, var_a), (b, mean_b, var_b) = distance.features(image), distance.features(x)
    assert a.dtype == torch.float64
    covariance = distance._blurred(a * b) - mean_a * mean_b
    return ((2 * covariance + distance.c2) / (var_a + var_b + distance.c2)).sum()


def test_a_small_data_range_makes_soft_tissue_count():
    x = slices(1)[..., 8:, 8:]
    wide, narrow = (distances.build("dssim", hu)(noisy(x, 20), x).item() for hu in (4096.0, 400.0))
    assert wide < 0.02 < 0.1 < narrow


def test_vgg16_is_about_one_half_for_noise_of_its_scale_and_reads_the_encoder_in_float32():
    distance, water = vgg16(("block1_conv2",)), to_net(torch.zeros(1, 1, 64, 64))
    assert distance(noisy(water, 25), water).item() == pytest.approx(0.5, abs=0.05)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = distance(noisy(water, 1), water)
    assert rounded.item() == distance(noisy(water, 1), water).item()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("lpips",), "no distance 'lpips'"),
        (("mse", 0.0), "positive number of HU"),
        (("mse", float("nan")), "positive number of HU"),
        (("vgg16",), "needs one from encoders.load"),
        (("mse", 25.0, object()), "belongs to the distance vgg16"),
        (("dssim", 400.0, None, 8), "for the distance mse"),
        (("mse", 25.0, None, 0), "at least 1"),
    ],
)
def test_distances_refuse_wrong_arguments(given, said):
    with pytest.raises(ValueError, match=said):
        distances.build(*given)


def test_distances_refuse_another_encoder_and_images_that_do_not_fit():
    with pytest.raises(ValueError, match="is vgg19"):
        distances.build("vgg16", encoder=encoders.load("vgg19", "random", ("block1_conv1",)))
    with pytest.raises(ValueError, match="two batches"):
        distances.build("mse")(slices(2), slices(1))
    with pytest.raises(ValueError, match="at least 11"):
        distances.build("dssim")(slices(1, size=10), slices(1, size=10))


# --- controls


def test_a_frequency_in_the_null_space_changes_the_input_and_not_the_output():
    blur, x = controls.build("blur", size=4), slices(1)
    wave = torch.cos(2 * torch.pi * 8 / SIZE * torch.arange(SIZE)) * 30 / HU_SPAN  # k = 8 of 32: period 4
    moved = x + wave  # along columns
    distance = distances.build("mse")
    assert distance(blur(moved), blur(x)).item() < 1e-10
    assert distance(moved, x).item() == pytest.approx(450 / (450 + 625), rel=1e-3)  # mean square of the wave: 30^2 / 2
    assert blur.share_in_null(moved - x).item() == pytest.approx(1, abs=1e-6)
    slow = torch.cos(2 * torch.pi * 3 / SIZE * torch.arange(SIZE)) * torch.ones(1, 1, SIZE, 1)
    assert blur.share_in_null(slow).item() < 1e-6


def test_the_blur_is_the_mean_filter_and_removes_what_it_says():
    blur, x = controls.Blur(4), slices(1)
    shifted = [x.roll((i, j), (2, 3)) for i in range(-2, 2) for j in range(-2, 2)]
    torch.testing.assert_close(blur(x), torch.stack(shifted).mean(0), atol=1e-6, rtol=1e-5)
    removed = blur.null_space((SIZE, SIZE))
    k = torch.arange(SIZE)
    axis = (k > 0) & (k % 8 == 0)
    assert torch.equal(removed, axis[:, None] | axis)
    with pytest.raises(ValueError, match="removes no frequency"):
        controls.Blur(3).null_space((SIZE, SIZE))


def test_controls_refuse_wrong_arguments():
    for call, said in (
        (lambda: controls.build("median"), "no control 'median'"),
        (lambda: controls.build("blur", width=3), "no setting width"),
        (lambda: controls.build("blur", size=0), "at least 1"),
        (lambda: controls.Blur(8)(slices(1, size=4)), "does not fit"),
    ):
        with pytest.raises(ValueError, match=said):
            call()
    assert all(controls.build(name)(slices()).shape == slices().shape for name in controls.names())


# --- the search on controls


def test_the_search_finds_what_a_blur_removes():
    search = searched(controls.Blur(4), slices(), 0.1, 400)
    blur, delta, found = search.f, search.x_inv - search.x, search.measure()
    assert (found["d_out"] < 0.01).all() and (found["d_in"] > 0.9).all()
    assert (blur.share_in_null(delta) > 0.8).all(), blur.share_in_null(delta)
    assert blur.null_space((SIZE, SIZE)).float().mean() < 0.2  # a change without aim would have this share there
    passed_on = blur.share_in_null(delta, gain=0.1**0.5)  # where less than alpha of the power gets through
    assert (passed_on > 0.999).all(), passed_on


def test_the_identity_has_no_invariance_below_alpha_one():
    x = slices()
    x[0, 0, :2] = to_net(torch.tensor(-1100.0))  # x itself stays within reach where it lies below the range
    search = searched(controls.Identity(), x, 0.5, 300)
    assert (search.measure()["in_hu"] < 0.1).all()


def test_above_alpha_one_even_the_identity_runs_to_the_bound():
    search = searched(controls.Identity(), slices(), 2.0, 300, lr=1e-2)
    found = search.measure()
    assert (found["d_in"] > 0.99).all() and (found["objective"] < -0.98).all()  # 1 - alpha


def test_for_a_constant_the_search_reaches_the_bound():
    search = searched(controls.Constant(0), slices(), 0.5, 300, lr=1e-2)
    found = search.measure()
    assert (found["d_out"] == 0).all() and (found["out_hu"] == 0).all()
    assert (found["d_in"] > 0.99).all() and (found["objective"] < -0.495).all()


def test_along_one_gain_the_change_has_the_size_that_was_derived():
    gain, alpha, scale = 0.2, 0.5, 25.0
    found = searched(Gain(gain), slices(), alpha, 500).measure()
    wanted = scale * ((alpha**0.5 - gain) / (gain * (1 - alpha**0.5 * gain))) ** 0.5
    torch.testing.assert_close(found["in_hu"], torch.full((2,), wanted), rtol=1e-3, atol=0)
    torch.testing.assert_close(found["out_hu"], gain * found["in_hu"], rtol=1e-3, atol=0)
    seen = searched(Gain(0.8), slices(), alpha, 300).measure()  # .8^2 > alpha
    assert (seen["in_hu"] < 0.1).all()


@pytest.mark.parametrize("name", all_distances())
def test_the_objective_sinks_and_stays_above_minus_alpha(name):
    search, objective = Search(controls.Constant(0), slices(1), all_distances()[name], 0.7, 10, 2e-2), []
    for _ in range(25):
        values = search.step()
        objective.append(values["objective"].item())
        torch.testing.assert_close(values["objective"], values["d_out"] - 0.7 * values["d_in"])
        assert not values["objective"].requires_grad
    assert -0.7 <= objective[-1] < objective[0] and min(objective) >= -0.7


# --- the search itself


def tiny_unet(seed=0):
    torch.manual_seed(seed)
    network = networks.build("unet", channels=2, residual=True)
    nn.init.normal_(network.head.weight, std=0.3)  # untrained it would be the identity
    return network


def test_slices_do_not_influence_each_other():
    x, distance, together = slices(3), distances.build("mse"), {}
    for batch in (None, 2):
        search = Search(tiny_unet(), x, distance, 0.5, 10, 1e-3, seed=4, batch=batch)
        values = [search.step() for _ in range(5)][-1]
        together[batch] = search.x_inv
    for i in range(3):
        alone = Search(tiny_unet(), x[i : i + 1], distance, 0.5, 10, 1e-3, seed=[(4, i)])
        single = [alone.step() for _ in range(5)][-1]
        for found in together.values():
            assert from_net((found[i] - alone.x_inv[0]).abs()).add(1024).max() < 0.05  # HU; five steps move 20
        assert single["objective"].item() == pytest.approx(values["objective"][i].item(), abs=1e-4)


def test_the_start_is_noise_of_the_given_size_and_the_same_for_the_same_seed():
    x = slices(2, size=64)[..., 16:, 16:]
    f, distance = controls.Identity(), distances.build("mse")
    one, same, other = (Search(f, x, distance, 0.5, 10, 1e-3, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one.x_inv, same.x_inv) and not torch.equal(one.x_inv, other.x_inv)
    assert optimise.rms_hu(one.x_inv - x).tolist() == pytest.approx([10, 10], rel=0.05)
    assert not torch.equal((one.x_inv - x)[0], (one.x_inv - x)[1])


def test_x_inv_stays_in_the_range():
    x = slices(1)
    x[0, 0, 0, 0] = to_net(torch.tensor(-1100.0))  # noise in air, below the range: it is its own limit
    search = Search(controls.Constant(0), x, distances.build("mse"), 0.5, 50, 0.1, low_hu=-1024, high_hu=300)
    for _ in range(20):
        search.step()
        hu = from_net(search.x_inv)
        assert hu.max() <= 300.001 and hu.flatten()[1:].min() >= -1024.001 and hu.min() >= -1100.001
    assert (hu > 299).any() and (hu < -1023).any()


def test_f_is_frozen_and_evaluated_once_at_x():
    calls = []
    network = tiny_unet().train()
    network.register_forward_hook(lambda module, given, out: calls.append(module.training))
    search = Search(network, slices(), distances.build("mse"), 0.5, 10, 1e-3)
    for _ in range(3):
        search.step()
    assert calls == [False] * 4
    assert all(not p.requires_grad and p.grad is None for p in network.parameters())


def test_bf16_is_used_for_f_and_measured_in_float32():
    types = []
    network = tiny_unet()
    network.head.register_forward_hook(lambda module, given, out: types.append(out.dtype))
    search = Search(network, slices(), distances.build("mse"), 0.5, 10, 1e-3, precision="bf16")
    search.step()
    found = search.measure()
    assert types == [torch.bfloat16] * 2 + [torch.float32] * 2
    assert search.precision == "bf16" and found["objective"].dtype == search.x_inv.dtype == torch.float32


def test_measure_judges_another_image_beside_x():
    x = slices()
    search = Search(controls.Identity(), x, distances.build("mse"), 0.5, 10, 1e-3)
    null = search.measure(x + 25 / HU_SPAN)
    assert null["in_hu"].tolist() == pytest.approx([25, 25], rel=1e-4)
    assert null["d_in"].tolist() == pytest.approx([0.5, 0.5], rel=1e-4)
    with pytest.raises(ValueError, match="x has"):
        search.measure(x[:1])


def test_a_resumed_search_equals_one_that_was_never_stopped(tmp_path):
    def new():
        return Search(tiny_unet(), slices(), distances.build("mse"), 0.5, 10, 1e-3)

    whole, stopped = new(), new()
    for _ in range(8):
        values = whole.step()
    for _ in range(5):
        stopped.step()
    checkpoints.save(tmp_path, "run", stopped.done, search=stopped)
    again = new()
    assert checkpoints.resume(tmp_path, "run", search=again) == again.done == 5
    assert torch.equal(again.x_inv, stopped.x_inv)
    for _ in range(3):
        resumed = again.step()
    assert torch.equal(whole.x_inv, again.x_inv)
    assert all(torch.equal(values[name], resumed[name]) for name in values)
    assert len(again.trace) == 8 and torch.equal(torch.stack(whole.trace), torch.stack(again.trace))
    assert torch.equal(again.trace[-1], torch.stack([values["in_hu"], values["out_hu"]]))
    other = Search(tiny_unet(), slices(1), distances.build("mse"), 0.5, 10, 1e-3)
    with pytest.raises(ValueError, match="the state is of slices"):
        checkpoints.resume(tmp_path, "run", search=other)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"alpha": 0.0}, "alpha must be positive"),
        ({"sigma_hu": -1.0}, "sigma_hu must be positive"),
        ({"lr": 0.0}, "lr must be positive"),
        ({"lr": 4.0}, "lr is in the network range"),
        ({"precision": "fp16"}, "no precision 'fp16'"),
        ({"low_hu": 100.0, "high_hu": 0.0}, "low_hu must be below"),
        ({"batch": 0}, "batch must be positive"),
        ({"seed": [1, 2, 3]}, "one a slice: got 3; slices: 2"),
        ({"x": torch.zeros(2, 3, SIZE, SIZE)}, "slices \\(N, 1, H, W\\)"),
        ({"x": torch.full((2, 1, SIZE, SIZE), float("nan"))}, "not finite"),
        ({"f": nn.AvgPool2d(2)}, "it must keep the shape"),
    ],
)
def test_a_search_refuses_wrong_arguments(changed, said):
    given = {"f": controls.Identity(), "x": slices(), "distance": distances.build("mse")}
    with pytest.raises(ValueError, match=said):
        Search(**(given | {"alpha": 0.5, "sigma_hu": 10.0, "lr": 1e-3} | changed))


# ---- aimed at anatomy ----
def test_a_blurred_distance_does_not_see_texture_and_sees_structures():
    blurred, plain = distances.build("mse", 25.0, blur_px=2.0), distances.build("mse", 25.0)
    x = torch.full((1, 1, 64, 64), 0.25)
    y, column = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    texture = 0.01 * (-1.0) ** (y + column)
    structure = 0.01 * ((y - 32) ** 2 + (column - 32) ** 2 < 400).float()
    assert blurred(x + texture, x) < 1e-4 < 0.3 < plain(x + texture, x)
    assert blurred(x + structure, x) == pytest.approx(float(plain(x + structure, x)), rel=0.2)
    assert blurred(x + 0.01, x) == pytest.approx(float(plain(x + 0.01, x)), rel=1e-4)  # a shift is kept whole


def test_an_aimed_search_finds_no_texture_that_f_does_not_see():
    """A mean filter hides texture only: a search that is rewarded for structures alone stays below one that is not."""
    torch.manual_seed(0)
    x = 0.25 + 0.003 * torch.randn(1, 1, 32, 32)
    found = {}
    for name, rewarded in (("search", None), ("aimed", distances.build("mse", blur_px=2.0))):
        search = optimise.Search(
            controls.build("blur"), x, distances.build("mse"), 0.1, 20.0, 1e-3, distance_in=rewarded
        )
        for _ in range(150):
            search.step()
        found[name] = float(search.measure()["d_in"])
    assert found["aimed"] < 0.1 * found["search"]


def test_an_aimed_search_finds_a_structure_that_f_erases_and_none_that_f_weakens_by_less_than_the_weight():
    """The positive control: a disc of 3 pixels' radius inside which f keeps a share of everything; sqrt(.1) is .32."""
    torch.manual_seed(0)
    x = 0.25 + 0.003 * torch.randn(1, 1, 48, 48)
    y, column = torch.meshgrid(torch.arange(48), torch.arange(48), indexing="ij")
    disc = (y - 24) ** 2 + (column - 24) ** 2 < 16
    found = {}
    for keep in (0.0, 0.5):
        f = controls.Erase(disc, keep)
        search = optimise.Search(
            f, x, distances.build("mse"), 0.1, 41.0, 1e-3, distance_in=distances.build("mse", blur_px=2.0)
        )
        for _ in range(200):
            search.step()
        images = search.x_inv
        found[keep] = [abs(float(one[..., disc].mean())) * HU_SPAN for one in (images - x, f(images) - f(x))]
    assert found[0.0][0] > 100 and found[0.0][1] < 1
    assert found[0.5][0] < 1
    with pytest.raises(ValueError, match="share that is passed on"):
        controls.Erase(disc, 1.5)


def test_a_search_on_every_control_tells_what_f_hides_from_what_it_shows():
    x = 50 + 12 * np.random.default_rng(0).standard_normal((32, 32))
    y, column = np.mgrid[:32, :32]
    away = np.hypot(y - 16, column - 16)
    found = controls.searched(x, 0.1, 41.0, 1e-3, 200, inside=away[None] < 4, around=(abs(away - 7) < 2)[None])
    found = found.set_index("control")
    assert list(found.index) == ["identity", "constant", "blur", "erases lesions", "halves lesions"]
    assert found["start, HU"].iloc[:3].to_numpy() == pytest.approx(41, rel=0.05)
    changed = found["in, HU"]
    assert changed["identity"] < 0.1 * 41 and changed["constant"] > 2 * 41 and found["out, HU"]["constant"] == 0
    share = found.pop("power where gain < √α")
    assert share["blur"] > 0.9 and share.drop("blur").isna().all()
    before, after = (found[f"contrast {end}, HU"] for end in ("in", "out"))
    assert before["erases lesions"] > 100 and after["erases lesions"] < 1
    assert before["halves lesions"] < 1
    assert list(controls.searched(x, 0.1, 41.0, 1e-3, 1).control) == controls.names()


def test_blur_of_a_distance_must_be_positive_and_belongs_to_mse():
    for name, blur in (("mse", 0), ("mse", float("nan")), ("dssim", 2.0)):
        with pytest.raises(ValueError, match="blur_px"):
            distances.build(name, blur_px=blur)
