"""Steps: what the adversarial updates compute, what their critics are, and going on to the same bits."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT
from states import same_state
from torch import nn

from ldct_utils.ct import intensity
from ldct_utils.models import encoders, networks
from ldct_utils.models.networks.critics import dugan, wgan
from ldct_utils.models.networks.critics.penalty import gradient_penalty
from ldct_utils.training import checkpoints, losses, methods, setup
from ldct_utils.training.history import History
from ldct_utils.training.methods.base import PRECISIONS
from ldct_utils.training.methods.supervised import Supervised

SIZE = 32
SMALL = {
    "wgan": {"critic_width": 2, "critic_hidden": 4, "n_d": 2},
    "dugan": {"critic_width": 5, "critic_depth": 2, "cutmix_warmup": 4, "n_d": 2},
}
adversarial = pytest.mark.parametrize("method", SMALL)


@pytest.fixture(autouse=True)
def one_thread():
    setup.seed_everything(0, 1)


def batch_of(n=4, seed=0):
    """LDCT and NDCT patches, network range: a ramp with noise of 20 and 10 HU."""
    rng = np.random.default_rng(seed)
    clean = np.broadcast_to(np.linspace(0.2, 0.3, SIZE), (n, 1, SIZE, SIZE))
    ndct = clean + rng.normal(0, 10 / 4096, clean.shape)
    return torch.from_numpy(ndct + rng.normal(0, 20 / 4096, clean.shape)).float(), torch.from_numpy(ndct).float()


def new_step(method, seed=0, network=None, given=None, **shared):
    torch.manual_seed(seed)
    network = network or networks.build("unet", channels=2, residual=False)
    encoder = encoders.load(context="random", layers=("block1_conv2_linear",), convention="plain")
    shared = {"mean_hu": -540.0, "std_hu": 500.0, "lr": 1e-3, "betas": (0.5, 0.9)} | shared
    given = SMALL.get(method, {}) if given is None else given
    loss = losses.build("mse")
    return methods.build(method, given, network=network, loss=loss, encoder=encoder, patch_size=SIZE, **shared)


def flat(module):
    return torch.cat([p.detach().flatten().clone() for p in module.parameters()])


# ---- the critics ----
@pytest.mark.parametrize(("patch", "weights"), [(77, 13_991_361), (64, 7_699_905)])
def test_the_wgan_critic_has_as_many_weights_as_the_published_one(patch, weights):
    with torch.device("meta"):
        assert sum(p.numel() for p in wgan.Critic(patch).parameters()) == weights


def test_the_dugan_critic_has_as_many_weights_as_the_published_one_and_normalises_as_it_does():
    critic = dugan.Critic()  # not on meta: there a power iteration takes longer than for real
    assert sum(p.numel() for p in critic.parameters()) == 57_213_839
    for layer in critic.modules():
        if isinstance(layer, nn.Conv2d):
            normalised = layer.in_channels > 4 and layer.out_channels != 1
            assert nn.utils.parametrize.is_parametrized(layer, "weight") == normalised


def test_critics_are_not_denoisers():
    assert "critics" not in networks.names()
    assert set(methods.METHODS) == {"supervised", "wgan", "dugan"}


LOADED = """
import sys
from ldct_utils.training import methods
for method in ("supervised", "dugan", "wgan"):
    methods.settings(method)
    print(*sorted(name.rpartition(".")[2] for name in sys.modules if ".critics." in name))
"""


def test_a_method_loads_its_own_critic_and_no_other():
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["", "dugan", "dugan penalty wgan"]


@pytest.mark.parametrize("shape", [(3, 1, 32, 32), (1, 1, 37, 45)])
def test_the_dugan_critic_judges_the_image_and_every_pixel_of_it(shape):
    whole, pixels = dugan.Critic(4, 2)(torch.rand(shape))
    assert whole.shape == (shape[0],) and pixels.shape == shape


def test_a_patch_too_small_for_a_critic_is_refused_with_what_it_needs():
    assert wgan.Critic(29, 1, 1)(torch.rand(2, 1, 29, 29)).shape == (2,)
    with pytest.raises(ValueError, match="at least 29 pixels, not 28"):
        wgan.Critic(28)
    with pytest.raises(ValueError, match="takes patches of 29 pixels"):
        wgan.Critic(29, 1, 1)(torch.rand(2, 1, 30, 30))
    critic = dugan.Critic(1)  # the published depth: patches of 33 pixels, half of what six halvings ask for
    assert [x.shape for x in critic(torch.rand(2, 1, 33, 40))] == [(2,), (2, 1, 33, 40)]
    with pytest.raises(ValueError, match="depth 6 needs patches of 33 pixels"):
        critic(torch.rand(1, 1, 32, 80))


def test_the_gradient_penalty_of_a_linear_critic_is_known_at_every_point():
    weight = torch.tensor([3.0, 4.0])

    def critic(image):
        return image.flatten(1)[:, :2] @ weight + 7

    penalty = gradient_penalty(critic, torch.rand(5, 1, 4, 4), torch.rand(5, 1, 4, 4))
    assert penalty.tolist() == pytest.approx([(5 - 1) ** 2] * 5)  # ||w|| = 5


def test_the_gradient_penalty_draws_a_point_of_its_own_for_every_image_and_trains_the_critic():
    scale = torch.tensor(2.0, requires_grad=True)
    real, fake = torch.ones(6, 1, 1, 1), torch.zeros(6, 1, 1, 1)
    penalty = gradient_penalty(lambda image: scale * image.square().sum((1, 2, 3)) / 2, real, fake)
    share = penalty.sqrt().detach()  # |scale * x - 1| with x = share
    assert share.unique().numel() == 6
    penalty.sum().backward()
    assert scale.grad != 0


def test_the_sobel_magnitude_of_a_ramp_is_known():
    slope = 3.0
    ramp = slope * torch.arange(16.0)
    for image in (ramp.expand(1, 1, 16, 16), ramp[:, None].expand(1, 1, 16, 16)):
        inside = dugan.sobel(image)[..., 1:-1, 1:-1]  # kernels over 4: 2 pixels of slope, weights 1 + 2 + 1
        assert torch.allclose(inside, torch.full_like(inside, (4 * slope**2 + 1e-4) ** 0.5))
    assert torch.allclose(dugan.sobel(torch.zeros(1, 1, 4, 4)), torch.tensor(1e-2))


def test_least_squares_at_known_verdicts():
    verdicts = torch.tensor([0.0, 3.0]), torch.stack([torch.zeros(1, 2, 2), torch.tensor([[[1.0, 1.0], [1.0, 5.0]]])])
    assert dugan.least_squares(verdicts, (1, 1)).tolist() == [1 + 1, 4 + 16 / 4]
    mask = torch.tensor([[0.0, 1.0], [1.0, 1.0]])
    assert dugan.least_squares(verdicts, (0, mask)).tolist() == [0 + 3 / 4, 9 + (1 + 16) / 4]


def test_cutmix_fills_exactly_one_box():
    shares = []
    for seed in range(300):
        torch.manual_seed(seed)
        mask = dugan.cutmix_mask(24, 32)
        rows, columns = (mask == 0).nonzero(as_tuple=True)
        if len(rows):
            box = torch.ones_like(mask)
            box[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = 0
            assert torch.equal(box, mask)
        shares.append(1 - mask.mean().item())
    assert min(shares) < 0.02 and max(shares) > 0.8  # what lies outside is cut off: 1/2 of the image would be uncut
    assert 0.2 < np.mean(shares) < 0.4


def test_a_mix_shows_ndct_outside_the_box_and_the_prediction_inside(monkeypatch):
    step, seen = new_step("dugan"), []
    critic = step.critics["image"]
    critic.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    ldct, fake, ndct = (torch.full((2, 1, SIZE, SIZE), value) for value in (1.0, 2.0, 3.0))
    mask = torch.ones(SIZE, SIZE)
    mask[4:9, 6:20] = 0
    step.critic_terms("image", mask, ldct, fake, ndct)
    real, predicted, source, mix = seen
    assert (real == 3).all() and (predicted == 2).all() and (source == 1).all()
    assert (mix[..., 4:9, 6:20] == 2).all() and (mix == 2).sum() == 2 * 5 * 14 and (mix == 3).sum() == mix.numel() - 140


def test_the_gradient_of_dugans_critic_is_found_on_a_cpu_without_avx512():
    """Strided 1x1 convolutions made oneDNN end the process there; so in a process of its own, kept from AVX-512."""
    code = (
        "import torch; from ldct_utils.models.networks.critics.dugan import Critic; critic = Critic(5, 2)\n"
        "critic.to(memory_format=torch.channels_last)\n"
        "for _ in range(5):\n"
        "    image = torch.rand(4, 1, 16, 16).contiguous(memory_format=torch.channels_last)\n"
        "    sum(verdicts.square().mean() for verdicts in critic(image)).backward()\n"
        "print(all(p.grad.isfinite().all() for p in critic.parameters()))"
    )
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and done.stdout.strip() == "True", done.stderr[-1000:]


# ---- what an update does ----
@adversarial
def test_an_update_changes_network_and_critics_and_reports_every_term(method):
    step, (ldct, ndct) = new_step(method), batch_of()
    before = {name: flat(module) for name, module in step.modules.items()}
    terms = step.update(ldct, ndct)
    assert set(terms) == set(step.weights) and all(t.shape == (4,) and t.isfinite().all() for t in terms.values())
    assert not any(term.requires_grad for term in terms.values())
    for name, module in step.modules.items():
        assert not torch.equal(before[name], flat(module)), name
        assert all(p.requires_grad for p in module.parameters())


def test_wgan_terms_are_those_of_the_paper():
    step, (ldct, ndct) = new_step("wgan", given=SMALL["wgan"] | {"lam_perc": 0.5}), batch_of()
    fake, real = step.units(step.network(ldct)), (intensity.from_net(ndct) + 540) / 500
    body = encoders.network("vgg19", "block1_conv2_linear")  # the same encoder, not folded, on three equal channels
    encoders._he(body, 0)
    features = [next(iter(body(image.repeat(1, 3, 1, 1)).values())) for image in (fake, real)]
    assert min(f.min() for f in features) < 0  # before the ReLU
    terms = step.terms(ldct, ndct)
    assert torch.allclose(terms["perceptual"], (features[0] - features[1]).abs().mean((1, 2, 3)), rtol=1e-4)
    assert torch.equal(terms["adv"], -step.critic(fake))
    assert torch.equal(step.critic_terms(fake, real)["critic"], step.critic(fake) - step.critic(real))
    assert step.weights == {"adv": 1.0, "perceptual": 0.5, "critic": 0.0, "gp": 0.0}


def test_dugan_terms_are_those_of_the_paper():
    step, (ldct, ndct) = new_step("dugan"), batch_of()
    fake, real = step.units(step.network(ldct)), step.units(ndct)
    with step.evaluating():  # in training every pass refines the spectral norm
        terms = step.terms(ldct, ndct)
        whole, pixels = step.critics["gradient"](dugan.sobel(fake))
        wanted = (whole - 1).square() + (pixels - 1).square().mean((1, 2, 3))
        assert torch.allclose(terms["adv_gradient"], wanted)
        none = step.critic_terms("image", None, step.units(ldct), fake, real)
        verdicts = [
            (step.critics["image"](image), label) for image, label in ((real, 1), (fake, 0), (step.units(ldct), 0))
        ]
        squares = sum((w - label).square() + (p - label).square().mean((1, 2, 3)) for (w, p), label in verdicts)
    assert torch.allclose(none["critic_image"], squares) and not none["cutmix"].any()
    assert terms["mse"].mean().item() == pytest.approx(nn.functional.mse_loss(fake, real).item(), rel=1e-5)
    assert torch.allclose(terms["grad"], (dugan.sobel(fake) - dugan.sobel(real)).abs().mean((1, 2, 3)), rtol=1e-4)
    assert step.weights["adv_image"] == step.weights["adv_gradient"] == 0.1 and step.weights["mse"] == 1


def test_updates_of_the_critic_do_not_add_up_their_gradients():
    (ldct, ndct), several, single = batch_of(), new_step("wgan", given=SMALL["wgan"] | {"n_d": 3}), new_step("wgan")
    fake, real = single.fakes(ldct), single.units(ndct)
    torch.manual_seed(7)
    several.update(ldct, ndct)
    torch.manual_seed(7)
    for _ in range(3):
        single.optimisers["critic_optimiser"].zero_grad()
        terms = single.critic_terms(fake, real)
        (terms["critic"] + terms["gp"]).mean().backward()
        single.optimisers["critic_optimiser"].step()
    assert torch.allclose(flat(several.critic), flat(single.critic), atol=1e-6)
    assert (flat(several.critic) - flat(new_step("wgan").critic)).abs().max() > 1e-3


@adversarial
def test_the_critics_terms_do_not_reach_the_network_through_their_weights(method):
    step, (ldct, ndct) = new_step(method), batch_of()
    for name, weight in step.weights.items():
        judges = name.startswith(("critic", "gp", "cutmix"))
        assert (weight == 0) == judges
    assert step.falling == ({"perceptual"} if method == "wgan" else {"mse", "grad"})
    assert set(step.terms(ldct, ndct)) == {name for name, weight in step.weights.items() if weight}


def test_cutmix_becomes_likelier_over_its_warm_up_and_is_used():
    given = SMALL["dugan"] | {"cutmix": 0.5, "cutmix_warmup": 4}
    step, (ldct, ndct) = new_step("dugan", given=given), batch_of(1)
    seen, mixed = [], []
    for _ in range(24):
        seen.append(step.probability)
        mixed.append(bool(step.update(ldct, ndct)["cutmix"].any()))
    assert seen[:5] == [0.125, 0.25, 0.375, 0.5, 0.5] and seen[-1] == 0.5
    assert 4 <= sum(mixed) < 20
    always, never = (new_step("dugan", given=given | {"cutmix": c, "cutmix_warmup": 0}) for c in (1.0, 0.0))
    assert always.update(ldct, ndct)["cutmix"].all() and not never.update(ldct, ndct)["cutmix"].any()


@adversarial
def test_the_first_decay_rate_of_adam_is_that_which_was_asked_for(method):
    for optimiser in new_step(method, betas=(0.65, 0.99)).optimisers.values():
        assert optimiser.param_groups[0]["betas"] == (0.65, 0.99)


@adversarial
def test_a_batch_in_parts_has_the_terms_of_the_whole_batch(method):
    (ldct, ndct), given = batch_of(), SMALL[method] | {"n_d": 1}
    whole, parts = (new_step(method, given=given, accumulate=a, lr=1e-6) for a in (1, 2))
    a, b = (step.update(ldct, ndct) for step in (whole, parts))
    for name in set(a) - {"gp", "cutmix"}:  # gp draws its points part by part
        assert torch.allclose(a[name], b[name], rtol=1e-2, atol=1e-3), name


@adversarial
def test_training_brings_the_prediction_closer(method):
    step, (ldct, ndct) = new_step(method, network=networks.build("wganvgg", width=4), lr=3e-3), batch_of()
    first = nn.functional.mse_loss(step.network(ldct), ndct).item()
    for _ in range(25):
        step.update(ldct, ndct)
    assert nn.functional.mse_loss(step.network(ldct), ndct).item() < 0.7 * first


def test_bf16_is_for_the_network_and_not_for_the_critics():
    assert PRECISIONS == ("float32", "bf16")
    step, (ldct, ndct), seen = new_step("wgan", precision="bf16"), batch_of(), set()
    step.network.merge[-1].register_forward_hook(lambda module, inputs, output: seen.add(("network", output.dtype)))
    step.critic.features[0].register_forward_hook(lambda module, inputs, output: seen.add(("critic", output.dtype)))
    step.update(ldct, ndct)
    assert seen == {("network", torch.bfloat16), ("critic", torch.float32)}


# ---- going on, and what surrounds a step ----
@adversarial
def test_a_resumed_training_goes_on_to_the_same_bits(method, tmp_path):
    def run(step, history, done, end):
        for number in range(done + 1, end + 1):
            history.add(number, step.update(*batch_of(2, seed=number)))
            history.row(step.weights, step.lr)

    whole, log = new_step(method), History(2, new_step(method).falling)
    torch.manual_seed(3)
    run(whole, log, 0, 3)
    checkpoints.save(tmp_path, "0123abcd", 3, step=whole, history=log)
    run(whole, log, 3, 7)
    again, second = new_step(method, seed=9), History(2, whole.falling)
    torch.manual_seed(99)
    assert checkpoints.resume(tmp_path, "0123abcd", step=again, history=second) == 3
    run(again, second, 3, 7)
    assert same_state(whole.state_dict(), again.state_dict())
    clock = ("seconds", "patches_per_s")
    first, second = ([{k: v for k, v in row.items() if k not in clock} for row in h.rows] for h in (log, second))
    assert first == second and len(first) == 7


@adversarial
def test_checking_memory_leaves_the_training_as_it_was_and_grows_with_the_batch(method):
    plain, checked = new_step(method), new_step(method)
    random_state = torch.get_rng_state()
    small, large = (setup.check_memory(checked, SIZE, batch) for batch in (2, 20))
    assert 1.5 * small < large < 10 * small and torch.equal(torch.get_rng_state(), random_state)
    for step in (plain, checked):
        torch.manual_seed(5)
        step.update(*batch_of())
    assert same_state(plain.state_dict(), checked.state_dict())


@adversarial
def test_memory_is_counted_for_the_network_and_for_its_critics(method):
    step, (ldct, ndct) = new_step(method), batch_of(1)
    found = [set(phase(ldct, ndct)) for phase in step.phases]
    assert found == [
        {name for name, weight in step.weights.items() if weight},
        {"critic", "gp"} if method == "wgan" else {"critic_image", "cutmix"},
    ]


def test_the_memory_of_critics_counts():
    wide, narrow = (new_step("dugan", given=SMALL["dugan"] | {"critic_width": width}) for width in (32, 4))
    assert setup.check_memory(wide, SIZE, 8) > 3 * setup.check_memory(narrow, SIZE, 8)


def test_a_healthy_critic_does_not_stop_training_and_a_term_that_must_fall_does():
    history = History(1, falling={"mse"})
    for number in range(1, 15):
        history.add(number, {"mse": torch.ones(1), "critic": torch.tensor([1e-3 if number < 12 else 50.0])})
    assert history.row({"mse": 1.0, "critic": 0.0}, 0.1)["total"] == 1
    history.add(15, {"mse": torch.tensor([2e3]), "critic": torch.ones(1)})
    with pytest.raises(FloatingPointError, match="'mse' has grown 2000-fold"):
        history.row({"mse": 1.0, "critic": 0.0}, 0.1)
    history = History(1, falling={"mse"})
    history.add(1, {"mse": torch.ones(1), "critic": torch.tensor([float("nan")])})
    with pytest.raises(FloatingPointError, match="'critic' is not finite"):
        history.row({"mse": 1.0, "critic": 0.0}, 0.1)


def test_evaluating_keeps_the_statistics_of_a_batch_norm():
    network = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.BatchNorm2d(1))
    step, (ldct, ndct) = Supervised(network, losses.build("mse")), batch_of()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with torch.no_grad(), step.evaluating():
        step.terms(ldct, ndct)
    assert same_state(before, dict(network.state_dict())) and network.training
    step.terms(ldct, ndct)
    assert not same_state(before, dict(network.state_dict()))


def test_range_widths_have_a_learning_rate_of_their_own():
    network = networks.build("bilateral")
    step = new_step("supervised", network=network, given={"lr_r": 1e-2}, lr=1e-4)
    rates = {id(p): group["lr"] for group in step.optimiser.param_groups for p in group["params"]}
    assert [rates[id(p)] for p in network.groups()["sigma_r"]] == pytest.approx([1e-2] * 3)
    assert len(rates) == 12 and step.lr == 1e-4
    step.lr = 1e-5  # a schedule
    assert step.optimiser.param_groups[1]["lr"] == pytest.approx(1e-3) and step.lr == pytest.approx(1e-5)
    again = new_step("supervised", network=networks.build("bilateral"), given={"lr_r": 1e-2}, lr=1e-4)
    again.load_state_dict(step.state_dict())
    assert same_state(again.state_dict(), step.state_dict())
    with pytest.raises(ValueError, match="range widths sigma_r; UNet has none"):
        new_step("supervised", given={"lr_r": 1e-2})


@pytest.mark.parametrize(
    ("method", "given", "message"),
    [
        ("gan", {}, "no method 'gan'; there are supervised, wgan, dugan"),
        ("wgan", {"lam_adv": 1.0}, "method 'wgan' has no setting 'lam_adv'; it has lam_perc, n_d, critic_width"),
        ("supervised", {"n_d": 1}, "method 'supervised' has no setting 'n_d'; it has lr_r"),
        ("supervised", {"lr": 1.0}, "has no setting 'lr'"),
        ("supervised", {"lr_r": 0}, "lr_r, .* must be positive, got 0"),
        ("wgan", {"n_d": 0}, "n_d is a whole number of at least 1, not 0"),
        ("wgan", {"lam_perc": -1}, "lam_perc is a number from 0 to inf, not -1"),
        ("wgan", {"critic_width": 0}, "critic_width and critic_hidden are numbers of units, 1 or more"),
        ("dugan", {"cutmix": 1.5}, "cutmix is a number from 0 to 1, not 1.5"),
        ("dugan", {"cutmix_warmup": 0.5}, "cutmix_warmup is a whole number of at least 0, not 0.5"),
        ("dugan", {"critic_depth": 0}, "critic_width and critic_depth are at least 1"),
    ],
)
def test_what_a_method_cannot_do_is_refused_by_name(method, given, message):
    with pytest.raises(ValueError, match=message):
        new_step(method, given=given)


def test_a_wgan_without_an_encoder_is_refused():
    with pytest.raises(ValueError, match="needs encoder="):
        methods.build("wgan", {}, network=networks.build("cnn10"), encoder=None, patch_size=SIZE)
