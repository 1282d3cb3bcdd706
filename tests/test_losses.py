"""Losses: known values, identities between them, and terms that stay visible by name."""

import pytest
import torch
from torch.nn import functional as F

from ldct_utils.models import encoders
from ldct_utils.training import losses, psi


@pytest.fixture(scope="module")
def encoder():
    return encoders.load("vgg19", "random", ("block2_conv1",))


def value(name, pred, target, encoder=None, **given):
    """The weighted sum of a loss's terms, averaged over images: what an update lowers."""
    loss = losses.build(name, encoder, **given)
    return sum(loss.weights[term] * found.mean() for term, found in loss.terms(pred, target).items())


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(3, 1, 24, 20, generator=generator), torch.rand(3, 1, 24, 20, generator=generator)


def test_values_of_a_constant_error():
    pred, target = torch.full((2, 1, 8, 8), 0.35), torch.full((2, 1, 8, 8), 0.25)
    values = {name: value(name, pred, target).item() for name in ("mse", "l1", "charbonnier")}
    assert values == pytest.approx({"mse": 0.01, "l1": 0.1, "charbonnier": 0.100005}, rel=1e-5)


def test_perfect_prediction_costs_nothing_but_charbonniers_eps(pair, encoder):
    target = pair[1]
    for name in ("mse", "l1", "vgg_only"):
        assert value(name, target, target, encoder) == 0
    assert value("charbonnier", target, target, eps=0.02).item() == pytest.approx(0.02)


def test_charbonnier_lies_between_l1_and_l1_plus_eps(pair):
    absolute = losses.l1(*pair)
    for eps in (1e-6, 1e-3, 0.1):
        smooth = losses.charbonnier(*pair, eps)
        assert (absolute <= smooth).all() and (smooth <= absolute + eps).all()


def test_charbonnier_gradient_is_zero_at_zero_and_bounded_by_one():
    error = torch.tensor([[[[0.0, 1e-4, 1.0, -5.0]]]], requires_grad=True)
    losses.charbonnier(error, torch.zeros(1, 1, 1, 4), 1e-3).sum().backward()
    gradient = error.grad.flatten() * 4
    assert gradient[0] == 0 and gradient.abs().max() < 1 + 1e-6
    expected = error.detach().flatten() / (error.detach().flatten() ** 2 + 1e-6).sqrt()
    assert torch.allclose(gradient, expected, rtol=1e-5)


def test_terms_hold_a_value_an_image_and_means_as_reduction(pair, encoder):
    pred, target = pair
    loss = losses.build("vgg", encoder, lam=1e-3)
    terms = loss.terms(pred, target)
    assert {name: term.shape for name, term in terms.items()} == {"mse": (3,), "vgg": (3,)}
    for name, both in losses.build("mse + l1").terms(pred, target).items():
        alone = torch.stack([losses.build(name).terms(pred[i : i + 1], target[i : i + 1])[name][0] for i in range(3)])
        assert torch.allclose(both, alone)
    assert terms["mse"].mean().item() == pytest.approx(F.mse_loss(pred, target).item(), rel=1e-6)


def test_perceptual_term_is_the_mean_squared_feature_difference(pair, encoder):
    pred, target = pair
    a, b = encoder(pred)["block2_conv1"], encoder(target)["block2_conv1"]
    assert torch.allclose(losses.build("vgg_only", encoder).terms(pred, target)["vgg"], ((a - b) ** 2).mean((1, 2, 3)))


def test_several_layers_come_from_one_pass_and_add_up(pair):
    layers = ("block1_conv2", "block2_conv1")
    both = encoders.load("vgg19", "random", layers)
    passes = []
    both.register_forward_hook(lambda *_: passes.append(1))
    errors = losses.feature_errors(both, *pair)
    assert len(passes) == 2  # one for the prediction, one for the target
    for layer in layers:
        alone = losses.feature_errors(encoders.load("vgg19", "random", (layer,)), *pair)[layer]
        assert torch.allclose(errors[layer], alone, rtol=1e-5)
    assert torch.allclose(losses.build("vgg_only", both).terms(*pair)["vgg"], sum(errors.values()))


def test_target_is_encoded_without_gradients_and_the_encoder_collects_none(pair, encoder):
    pred, target = (image.clone().requires_grad_(True) for image in pair)
    value("vgg_only", pred, target, encoder).backward()
    assert pred.grad.abs().sum() > 0 and target.grad is None
    assert all(weight.grad is None for weight in encoder.parameters())


def test_weighted_sums_by_text_and_by_dict_are_one():
    pred, target = torch.zeros(1, 1, 4, 4), torch.full((1, 1, 4, 4), 0.5)
    for name in ("mse + 0.1*l1", "mse+.1*l1", "0.1 * l1 + 1*mse", {"mse": 1, "l1": 0.1}):
        assert value(name, pred, target).item() == pytest.approx(0.25 + 0.05)
        assert losses.build(name).weights == {"mse": 1, "l1": 0.1}


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("mse+1e-5*vgg", {"mse": 1, "vgg": 1e-5}),
        ("2e+1*l1 + charbonnier", {"l1": 20, "charbonnier": 1}),
        ("1E-3 * vgg", {"vgg": 1e-3}),
    ],
)
def test_exponents_in_a_sum_are_read(text, weights):
    assert losses.parse(text) == weights


@pytest.mark.parametrize("text", ["mse l1", "mse +", "0.1l1", "mse + mse", "*l1", "mse - l1", ""])
def test_an_unreadable_sum_is_refused(text):
    with pytest.raises(ValueError, match=r"cannot read the loss|not negative"):
        losses.build(text)


def test_build_says_what_is_missing_or_wrong(encoder):
    for arguments, message in [
        (dict(name="huber"), "no loss 'huber'.*charbonnier"),
        (dict(name="vgg", encoder=encoder), "needs lam"),
        (dict(name="vgg", lam=0.1), "needs encoder="),
        (dict(name="vgg", lam=-1.0, encoder=encoder), "not negative, not -1"),
        (dict(name={"mse": float("nan")}), "must be finite"),
        (dict(name="charbonnier", eps=0), "eps of Charbonnier"),
        (dict(name="vgg_only", encoder=encoder, layer="block5_conv4"), "is to read.*block5_conv4.*reads.*block2_conv1"),
    ]:
        with pytest.raises(ValueError, match=message):
            losses.build(**arguments)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="differ in shape"):
        losses.build("mse").terms(torch.zeros(2, 1, 8, 8), torch.zeros(1, 1, 8, 8))


def test_weight_can_be_changed_while_training_to_hold_psi(pair, encoder):
    loss = losses.build("vgg", encoder, layer="block2_conv1", lam=1.0)
    terms = loss.terms(*pair)
    mse, perceptual = (terms[name].numpy() for name in ("mse", "vgg"))
    loss.weights["vgg"] = psi.lambda_for(mse, perceptual, 0.95)
    total = sum(loss.weights[name] * term.mean().item() for name, term in loss.terms(*pair).items())
    assert total == pytest.approx(20 * mse.mean(), rel=1e-5)


def test_gradient_norms_are_those_of_the_pixel_sum_and_of_the_perceptual_term(pair, encoder):
    pred, target = pair
    norms = losses.build("vgg", encoder, lam=1.0).gradient_norms(pred, target)
    by_hand = 2 * (pred - target).flatten(1).norm(dim=1) / pred[0].numel()
    assert torch.allclose(norms["pixel"], by_hand, rtol=1e-5)
    step = 1e-3 * torch.randn(pred.shape, generator=torch.Generator().manual_seed(1))
    images = pred.double().requires_grad_(True)  # directional derivative by finite differences
    term = lambda image: losses.build("vgg_only", encoder).terms(image, target)["vgg"]  # noqa: E731
    (gradient,) = torch.autograd.grad(term(images).sum(), images)
    change = term(pred + step / 2) - term(pred - step / 2)
    assert torch.allclose((gradient * step).flatten(1).sum(1).float(), change, rtol=0.05, atol=1e-4)
    assert torch.allclose(norms["vgg"].double(), gradient.flatten(1).norm(dim=1), rtol=1e-4)
    assert not pred.requires_grad


def test_the_gradient_of_several_pixel_terms_is_that_of_their_sum_and_not_the_sum_of_their_norms(pair, encoder):
    pred, target = pair
    norms = losses.build("mse + 0.5*l1 + 1e-3*vgg", encoder).gradient_norms(pred, target)
    error = (pred - target).flatten(1)
    by_hand = ((2 * error + 0.5 * error.sign()) / error.shape[1]).norm(dim=1)
    apart = sum(w * losses.build(n).gradient_norms(pred, target)["pixel"] for n, w in (("mse", 1), ("l1", 0.5)))
    assert torch.allclose(norms["pixel"], by_hand, rtol=1e-5) and (apart > 1.01 * by_hand).all()
    assert torch.equal(norms["vgg"], losses.build("vgg_only", encoder).gradient_norms(pred, target)["vgg"])


def test_gradient_norms_are_zero_of_terms_that_a_loss_does_not_have(pair, encoder):
    only_pixel, only_vgg = (losses.build(name, encoder).gradient_norms(*pair) for name in ("l1", "vgg_only"))
    assert (only_pixel["vgg"] == 0).all() and (only_pixel["pixel"] > 0).all()
    assert (only_vgg["pixel"] == 0).all() and (only_vgg["vgg"] > 0).all()


def test_gradients_are_available_where_the_caller_has_switched_them_off(pair):
    with torch.no_grad():
        norms = losses.build("mse").gradient_norms(*pair)
    assert (norms["pixel"] > 0).all()


def test_terms_are_float32_under_autocast(pair, encoder):
    loss = losses.build("vgg", encoder, lam=1e-3)
    exact = loss.terms(*pair)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = loss.terms(pair[0].bfloat16(), pair[1])
    assert all(term.dtype == torch.float32 for term in rounded.values())
    for name, wanted in exact.items():
        assert torch.allclose(rounded[name], wanted, rtol=0.01)


def test_bfloat16_changes_the_loss_of_close_images_by_less_than_one_percent(encoder):
    generator = torch.Generator().manual_seed(0)
    smooth = F.interpolate(torch.rand(4, 1, 6, 6, generator=generator), 96, mode="bicubic") * 0.05 + 0.25
    target = smooth + 12 / 4096 * torch.randn(smooth.shape, generator=generator)
    pred = target + 15 / 4096 * torch.randn(smooth.shape, generator=generator)  # 15 HU of error
    loss = losses.build("vgg_only", encoders.load("vgg19", "random", ("block3_conv2",)))
    exact = loss.terms(pred, target)["vgg"].mean()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = loss.terms(pred, target)["vgg"].mean()
    assert rounded.item() == pytest.approx(exact.item(), rel=0.01)


def test_a_further_pixel_loss_is_one_line(monkeypatch):
    monkeypatch.setitem(losses.PIXEL_TERMS, "maximum", lambda pred, target, eps: (pred - target).abs().amax((1, 2, 3)))
    images = torch.zeros(1, 1, 2, 2), torch.tensor([[[[0, 0], [0, 2.0]]]])
    assert value("mse + 0.5*maximum", *images).item() == pytest.approx(1 + 0.5 * 2)
    assert losses.build("mse + 0.5*maximum").terms(*images)["maximum"] == 2
