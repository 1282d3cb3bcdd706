"""The generator of natural invariances: what it makes, which way its terms pull, and that it must listen to z."""

import pytest
import torch
from torch import nn

from ldct_utils.ct.intensity import HU_SPAN, from_net, to_net
from ldct_utils.invariance import controls, distances, generate, models
from ldct_utils.invariance.generate import Natural
from ldct_utils.training import checkpoints, setup
from ldct_utils.training.history import History


@pytest.fixture(autouse=True)
def one_thread():
    setup.seed_everything(0, 1)


def patches(n=4, size=16, seed=0):
    """Soft tissue at 50 HU with noise of 20 HU, (n, 1, size, size), network range."""
    return to_net(50 + 20 * torch.randn(n, 1, size, size, generator=torch.Generator().manual_seed(seed)))


def new_step(f=None, alpha=0.5, beta=0.1, diversity=0.1, seed=0, **more):
    torch.manual_seed(seed)
    generator, critic = generate.build(channels=4), generate.critic(8)
    return Natural(f or controls.Blur(4), generator, critic, distances.build("mse"), alpha, beta, diversity, **more)


def weights_of(module):
    return torch.cat([p.detach().flatten().clone() for p in module.parameters()])


class Deaf(generate.Generator):
    """A generator that ignores z."""

    def forward(self, image, z):
        return super().forward(image, torch.zeros_like(z))


@pytest.mark.parametrize("size", [(16, 16), (32, 48)])
def test_the_generator_changes_images_of_any_size_divisible_by_16(size):
    generator, x = generate.build(channels=4), to_net(torch.zeros(3, 1, *size))
    made = generator(x, generator.draw(3, *size))
    change_hu = (made - x).square().mean().sqrt().item() * HU_SPAN
    assert made.shape == x.shape and made.dtype == torch.float32
    assert 0.5 < change_hu < 60  # neither nothing, where the distances have no gradient, nor beyond their scale
    assert ((made - x).abs() <= 500 / HU_SPAN).all()


def test_the_output_is_x_plus_a_change_in_bf16_too():
    generator, x = generate.build(channels=4), patches()
    nn.init.zeros_(generator.head.weight)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(generator(x, generator.draw(4, 16, 16)), x)  # x itself is never rounded


def test_samples_depend_on_z_repeat_with_the_seed_and_stay_in_the_hu_range():
    generator, x = generate.build(channels=4), patches(2)
    x[0] = 0.0  # air, on the lower limit
    torch.manual_seed(5)
    before = torch.get_rng_state()
    samples = generate.sample(generator, x, 3, seed=1)
    assert torch.equal(before, torch.get_rng_state())
    assert samples.shape == (2, 3, 16, 16) and not samples.requires_grad and generator.training
    assert torch.equal(samples, generate.sample(generator, x, 3, seed=1))
    assert not torch.equal(samples, generate.sample(generator, x, 3, seed=2))
    assert not torch.equal(samples[:, 0], samples[:, 1])
    assert from_net(samples).min() >= -1024 and from_net(samples).max() <= 3071


def test_the_collapse_check_finds_a_generator_that_ignores_z():
    x = patches()
    listening = generate.build(channels=4)
    deaf = Deaf(**listening.settings)
    deaf.load_state_dict(listening.state_dict())
    assert (generate.collapse(deaf, x, 4) < 1e-3).all()
    assert (generate.collapse(listening, x, 4) > 0.2).all()
    nn.init.zeros_(deaf.head.weight)
    assert (generate.collapse(deaf, x, 4) == 0).all()  # no change at all


def test_collapse_is_the_share_that_was_put_in():
    class Known(nn.Module):
        """Adds a fixed change of 30 HU and noise of 40 HU: 40 / 50 of the RMS change depends on z."""

        def __init__(self):
            super().__init__()
            self.none = nn.Parameter(torch.zeros(1))

        def draw(self, count, height, width):
            return torch.randn(count, 1, height, width)

        def forward(self, image, z):
            return image + (30 + 40 * z) / HU_SPAN

    assert generate.collapse(Known(), patches(), 64).tolist() == pytest.approx([0.8] * 4, abs=0.01)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_an_update_changes_generator_and_critic_and_leaves_f(precision):
    f = nn.Conv2d(1, 1, 3, padding=1)
    step = new_step(f, precision=precision)
    before = [weights_of(m) for m in (step.network, step.critic, f)]
    terms = step.update(patches(), patches(seed=1))
    after = [weights_of(m) for m in (step.network, step.critic, f)]
    assert [torch.equal(a, b) for a, b in zip(before, after)] == [False, False, True]
    assert set(terms) == set(step.weights) == {"d_out", "d_in", "unreal", "between", "critic"}
    for value in terms.values():
        assert value.shape == (4,) and value.dtype == torch.float32 and not value.requires_grad
        assert torch.isfinite(value).all()
    assert not f.training and not any(p.requires_grad for p in f.parameters())


def test_f_is_the_identity_the_generator_learns_to_change_nothing():
    step = new_step(controls.Identity(), beta=0, diversity=0)
    found = [step.update(patches(seed=i))["d_in"].mean() for i in range(40)]
    assert found[-1] < 0.1 * found[0]


def test_f_is_constant_the_generator_runs_to_the_bound():
    step = new_step(controls.Constant(0), beta=0, diversity=0)
    terms = [step.update(patches(seed=i)) for i in range(40)][-1]
    assert (terms["d_out"] == 0).all() and (terms["d_in"] > 0.9).all()


def test_f_is_a_blur_the_generator_finds_what_it_removes():
    step, blur = new_step(controls.Blur(4), alpha=0.2, beta=0, diversity=0.1), controls.Blur(4)
    for i in range(60):
        terms = step.update(patches(seed=i))
    x = patches(seed=99)
    change = generate.sample(step.network, x, 1)[:, :1] - x
    passed_on = blur.share_in_null(change, gain=0.2**0.5)
    assert (terms["d_in"] > 0.3).all() and (terms["d_out"] < 0.1).all()
    assert (passed_on > 0.99).all(), passed_on
    assert (generate.collapse(step.network, x, 4) > 0.2).all()


def test_the_critic_learns_to_score_real_above_generated_patches():
    step = new_step(controls.Constant(0), beta=0, diversity=0)  # beta 0: the generator does not defend itself
    scores = [step.update(patches(seed=i)) for i in range(40)]
    x = patches(seed=99)
    with torch.no_grad():
        real, made = (step.critic(image).mean() for image in (x, generate.sample(step.network, x, 1)))
    assert real > made + 1
    assert scores[-1]["critic"].mean() < 0.5 * scores[0]["critic"].mean()
    assert (scores[-1]["unreal"] > 1.5).all()  # 1 - C: high for what the critic has seen through


def test_beta_pulls_towards_what_the_critic_calls_real_and_diversity_draws_apart():
    """The weights' signs: the gradient of each term alone, followed for a few updates, moves it the right way."""
    x = patches()

    class Brightness(nn.Module):
        """A critic for which bright is real."""

        def __init__(self):
            super().__init__()
            self.none = nn.Parameter(torch.zeros(1))

        def forward(self, image):
            return 100 * image[:, 0] + 0 * self.none

    def moved(**weights):
        torch.manual_seed(0)
        step = Natural(controls.Constant(0), generate.build(channels=4), Brightness(), distances.build("mse"),
                       **({"alpha": 1e-9, "beta": 0, "diversity": 0} | weights))  # fmt: skip
        terms = [step.update(x) for _ in range(15)]
        return {name: (terms[-1][name] - terms[0][name]).mean().item() for name in terms[0]}

    assert moved(beta=1.0)["unreal"] < -0.1
    assert moved(diversity=1.0)["between"] > 0.1
    assert moved(alpha=1.0)["d_in"] > 0.1


def test_a_resumed_training_equals_one_that_was_never_stopped(tmp_path):
    whole, feed = new_step(), [patches(seed=i) for i in range(6)]
    torch.manual_seed(1)
    for x in feed[:3]:
        whole.update(x)
    checkpoints.save(tmp_path, "run", 3, step=whole)
    for x in feed[3:]:
        terms = whole.update(x)
    again = new_step(seed=8)
    assert checkpoints.resume(tmp_path, "run", step=again) == 3
    for x in feed[3:]:
        resumed = again.update(x)
    assert all(torch.equal(terms[name], resumed[name]) for name in terms)
    for mine, other in ((whole.network, again.network), (whole.critic, again.critic)):
        assert torch.equal(weights_of(mine), weights_of(other))
    setup.check_memory(again, 16, 4)


def test_its_history_does_not_take_a_growing_change_for_divergence():
    step, history = new_step(controls.Constant(0)), History(4)
    for i in range(25):
        history.add(i + 1, step.update(patches(seed=i)))
    row = history.row(step.weights, step.lr)
    total = sum(weight * row[name] for name, weight in step.weights.items())
    assert row["total"] == pytest.approx(total) and row["d_in"] > 0


def test_a_stored_generator_draws_the_same_images(tmp_path):
    generator, x = generate.build(channels=4, noise=3), patches()
    models.write(tmp_path, "generator", generator)
    loaded = models.load(tmp_path, "generator")
    assert torch.equal(generate.sample(generator, x, 2), generate.sample(loaded, x, 2))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: generate.build(channels=0), "channels is a whole number of at least 1"),
        (lambda: generate.build(noise=1.5), "noise is a whole number"),
        (lambda: generate.build(reach_hu=0), "reach_hu must be positive"),
        (lambda: generate.critic(0), "channels is a whole number"),
        (lambda: new_step(alpha=0), "alpha must be positive"),
        (lambda: new_step(beta=-1), "beta is a number from 0"),
        (lambda: new_step(diversity=-1), "diversity is a number from 0"),
        (lambda: new_step(precision="fp16"), "no precision 'fp16'"),
        (lambda: generate.sample(generate.build(4), patches(), 0), "count is a whole number"),
        (lambda: generate.collapse(generate.build(4), patches(), 1), "count is a whole number of at least 2"),
        (lambda: generate.sample(generate.build(4), patches(size=24), 1), "divisible by 16"),
        (lambda: generate.build(4)(patches(), torch.zeros(4, 1, 16, 16)), "z must be"),
    ],
)
def test_wrong_arguments_are_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call()
