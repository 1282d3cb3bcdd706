"""The conditional VAE: published sizes, the loss's known values, what is frozen, and that resuming changes nothing."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file, save_file
from states import same_state
from torch import nn
from torch.distributions import Normal, kl_divergence

from ldct_utils.ct import intensity
from ldct_utils.invariance import vae as vaes
from ldct_utils.invariance import vae_blocks
from ldct_utils.models import encoders, networks
from ldct_utils.training import checkpoints, setup

TINY = {
    "size": "small", "patch": 32, "dim": 12, "chunk": 2, "code": 4, "classes": 8, "hidden": 16, "channels": 8,
    "encoder_channels": 4, "easy_start": False,
}  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread():
    setup.seed_everything(0, 1)


def count(module, trained=False):
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trained)


def tiny(seed=0, **more):
    torch.manual_seed(seed)
    return vaes.build(**TINY | more)


def patches_of(n=4, patch=32, seed=0):
    """LDCT patches, network range: discs of 60 HU in 0 HU, with noise of 20 HU."""
    draw = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(patch), torch.arange(patch), indexing="ij")
    centre = torch.randint(8, patch - 8, (n, 2, 1, 1), generator=draw)
    hu = 60.0 * (torch.hypot(1.0 * y - centre[:, 0], 1.0 * x - centre[:, 1]) < 6)[:, None]
    return intensity.to_net(hu + 20 * torch.randn(hu.shape, generator=draw))


def blur():
    """A denoiser that is a 3x3 mean."""
    mean = nn.Conv2d(1, 1, 3, padding=1, padding_mode="replicate", bias=False)
    nn.init.constant_(mean.weight, 1 / 9)
    return mean.requires_grad_(False)


def new_step(seed=0, critic=False, encoder=None, easy_start=False, **more):
    vae = tiny(seed, easy_start=easy_start)
    return vaes.TrainVAE(blur(), vae, vaes.critic(vae, width=4) if critic else None, encoder, **{"lr": 1e-3} | more)


def vgg(convention="x255"):
    return encoders.load("vgg16", "random", ("block1_conv2", "block2_conv2"), convention=convention)


# ---- sizes ----
def test_the_vae_and_its_critic_have_as_many_weights_as_published():
    with torch.device("meta"):
        vae = vaes.build()
        critic = vaes.critic(vae)
    assert (count(vae), count(vae, trained=True)) == (108_976_095, 108_878_827)
    assert (count(vae.encoder), count(vae.decoder), count(critic)) == (24_553_984, 84_422_111, 9_310_674)
    assert vae.patch == 128 and vae.encoder.first.weight.shape == (64, 2, 7, 7)
    assert vae.decoder.split == [156, 20, 20, 20, 20, 20] and sum(vae.decoder.split) == vae.dim == 256
    conditions = [norm.gamma.in_features for block in vae.decoder.blocks for norm in (block.norm0, block.norm1)]
    assert conditions == [148] * 10
    widths = [block.conv0.out_channels for block in vae.decoder.blocks]
    assert widths == [1536, 768, 384, 192, 96] and vae.decoder.corner.out_features == 16 * 1536
    assert vae.decoder.attention.query.in_channels == 192


@pytest.mark.parametrize("size", ["published", "small"])
@pytest.mark.parametrize("patch", vaes.PATCHES)
def test_the_settings_of_a_vae_build_it_again(size, patch):
    with torch.device("meta"):
        vae = vaes.build(size, patch, mean_hu=0.0)
        again = vaes.build(**json.loads(json.dumps(vae.settings)))
    shapes, others = ({k: v.shape for k, v in one.state_dict().items()} for one in (vae, again))
    assert shapes == others and again.mean == 0.25


@pytest.mark.parametrize("encoder", ["plain", "resnet50"])
@pytest.mark.parametrize("patch", vaes.PATCHES)
def test_every_patch_comes_back_in_its_size(encoder, patch):
    vae = tiny(patch=patch, encoder=encoder)
    images = torch.rand(2, 1, patch, patch)
    assert vae.reconstruct(x=images, y_hat=images).shape == images.shape
    assert vaes.critic(vae, 4)(torch.rand(2, 2, patch, patch)).shape == (2,)


def test_weights_of_an_imagenet_resnet_are_taken_but_for_the_first_convolution(tmp_path):
    from torchvision.models import resnet50

    net = resnet50(weights=None)
    torch.save(net.state_dict(), tmp_path / "resnet50.pth")
    vae = vaes.build("small", 32, encoder="resnet50", pretrained=tmp_path / "resnet50.pth")
    assert torch.equal(vae.encoder.body.layer3[2].conv2.weight, net.layer3[2].conv2.weight)
    assert torch.equal(vae.encoder.body.bn1.weight, net.bn1.weight)
    with pytest.raises(ValueError, match="for the encoder resnet50, not 'plain'"):
        vaes.build("small", 32, pretrained=tmp_path / "resnet50.pth")
    state = net.state_dict()
    del state["layer2.0.conv1.weight"]
    torch.save(state, tmp_path / "cut.pth")
    with pytest.raises(ValueError, match=r"cut.pth is no ResNet-50 .*layer2.0.conv1.weight is missing"):
        vaes.build("small", 32, encoder="resnet50", pretrained=tmp_path / "cut.pth")


# ---- the model ----
def test_the_kl_divergence_is_that_of_normal_distributions():
    zero = torch.zeros(3, 5)
    assert torch.equal(vaes.kl(zero, zero), torch.zeros(3))
    mean, logvar = torch.randn(3, 5, dtype=torch.float64), torch.randn(3, 5, dtype=torch.float64)
    expected = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).sum(1)
    assert torch.allclose(vaes.kl(mean, logvar), expected, rtol=1e-12)
    independent = kl_divergence(Normal(mean, (logvar / 2).exp()), Normal(0 * mean, 1 + 0 * mean)).sum(1)
    assert torch.allclose(vaes.kl(mean, logvar), independent, rtol=1e-12)


def test_draws_have_the_mean_and_the_variance_of_the_posterior():
    mean, logvar = torch.tensor([[1.0, -2.0]]).expand(40_000, 2), torch.tensor([[0.0, math.log(9)]]).expand(40_000, 2)
    z = vaes.sample(mean, logvar)
    assert torch.allclose(z.mean(0), mean[0], atol=0.06) and torch.allclose(z.var(0), logvar[0].exp(), rtol=0.05)


def test_the_logarithm_of_the_variance_is_clamped():
    vae, x = tiny().eval(), patches_of()
    for bias, bound in ((1e3, 10.0), (-1e3, -30.0)):
        nn.init.constant_(vae.encoder.last.bias, bias)
        assert (vae.encode(x=x, y_hat=x)[1] == bound).all()


def test_images_are_normalised_as_published_and_x_is_not_y_hat():
    vae, x = tiny().eval(), patches_of()
    hu = intensity.from_net(x.double())
    assert torch.allclose(vae.normalise(x.double()), (hu + 1024 - 481.45419786099086) / 502.18507379395044, atol=1e-12)
    assert float(vae.normalise(intensity.to_net(torch.tensor(intensity.EULIG_MEAN_HU)))) == pytest.approx(0, abs=1e-6)
    y_hat = blur()(x)
    right, wrong = vae.encode(x=x, y_hat=y_hat)[0], vae.encode(x=y_hat, y_hat=x)[0]
    assert (right - wrong).abs().max() > 1e-4
    nn.init.zeros_(vae.encoder.first.weight[:, 1])  # the first channel is x, as published
    assert torch.equal(*(vae.encode(x=x, y_hat=image)[0] for image in (y_hat, x)))
    assert not torch.equal(*(vae.encode(x=image, y_hat=x)[0] for image in (y_hat, x)))
    with pytest.raises(TypeError):
        vae.encode(x, y_hat)


def test_a_reconstruction_is_the_same_twice_and_sees_both_z_and_f_of_x():
    vae, x = tiny(), patches_of()
    y_hat = blur()(x)
    z = torch.randn(4, vae.dim)
    vae.decode(z, y_hat=y_hat)  # sets the scales of ActNorm
    vae.eval()
    assert torch.equal(vae.reconstruct(x=x, y_hat=y_hat), vae.reconstruct(x=x, y_hat=y_hat))
    one = vae.decode(z, y_hat=y_hat)
    assert one.shape == x.shape
    for part in z.split(vae.decoder.split, dim=1):
        before = part.clone()
        part += 1
        assert (vae.decode(z, y_hat=y_hat) - one).abs().max() > 1e-6  # every part of z reaches the image
        part.copy_(before)
    assert (vae.decode(z, y_hat=y_hat.flip(0)) - one).abs().max() > 1e-4
    nn.init.ones_(vae.decoder.attention.share)  # zero at the start
    assert (vae.decode(z, y_hat=y_hat) - one).abs().max() > 1e-6


def test_evaluating_an_untrained_model_changes_none_of_its_weights():
    vae, x = tiny().eval(), patches_of()
    before = {name: value.clone() for name, value in vae.state_dict().items()}
    vae.reconstruct(x=x, y_hat=x)
    assert same_state(before, vae.state_dict()) and not vae.decoder.norm.initialised
    vae.train().reconstruct(x=x, y_hat=x)
    assert vae.decoder.norm.initialised


def test_spectral_norms_hold_the_largest_singular_value_at_1_while_weights_change():
    step, x = new_step(lr=1e-3), patches_of()
    for _ in range(20):
        step.update(x)
    step.vae.eval().requires_grad_(False)
    layers = [m for m in step.vae.decoder.modules() if hasattr(m, "parametrizations")]
    assert len(layers) == 1 + 3 * (3 + 4) + 4  # corner; convolutions and embeddings of three blocks; attention
    largest = torch.tensor([torch.linalg.svdvals(layer.weight.flatten(1))[0] for layer in layers])
    raw = torch.tensor([torch.linalg.svdvals(layer.parametrizations.weight.original.flatten(1))[0] for layer in layers])
    assert (largest - 1).abs().max() < 0.02 < (raw - 1).abs().max()
    single = []
    for layer in layers:  # what the released code divides by: one step from a random start, never stored
        weight = layer.parametrizations.weight.original.flatten(1)
        right = nn.functional.normalize(weight.T @ torch.randn(len(weight)), dim=0)
        single.append((weight @ right).norm())
    assert (raw / torch.stack(single)).max() > 1.1


# ---- the update ----
def test_the_terms_are_those_of_the_published_loss():
    step, x = new_step(critic=True, encoder=vgg()), patches_of()
    step.update(x)  # what ActNorm starts with
    with step.evaluating():
        torch.manual_seed(1)
        terms = {name: term.detach() for name, term in step.terms(x).items()}
        vae, y_hat = step.vae, blur()(x)
        torch.manual_seed(1)
        mean, logvar = vae.encode(x=x, y_hat=y_hat)
        made = vae.decode(vaes.sample(mean, logvar), y_hat=y_hat).detach()
        hu = intensity.from_net(made - x) - intensity.HU_MIN
        assert torch.allclose(terms["l1"], hu.abs().sum((1, 2, 3)) / intensity.EULIG_STD_HU, rtol=1e-4)
        assert torch.allclose(terms["kl"], vaes.kl(mean, logvar))
        judged = step.critic(vae.normalise(torch.cat([made, y_hat], dim=1)))
        assert torch.allclose(terms["adversarial"], -judged, rtol=1e-4, atol=1e-5)
        plain, features = encoders.network("vgg16", ("block1_conv2", "block2_conv2")), []
        encoders._he(plain, 0)
        features = [plain(vae.normalise(image).repeat(1, 3, 1, 1)) for image in (made, x)]
        expected = sum((features[0][k] - features[1][k]).abs().mean((1, 2, 3)) for k in features[0])
        assert torch.allclose(terms["perceptual"], expected, rtol=1e-3)


def test_both_conventions_read_the_normalised_image():
    x = patches_of()
    values = []
    for convention in ("plain", "x255"):
        step = new_step(encoder=vgg(convention))
        values.append(step.update(x)["perceptual"])
    assert torch.allclose(*values, rtol=1e-4)
    with pytest.raises(ValueError, match="convention plain or x255, not 'imagenet'"):
        new_step(encoder=vgg("imagenet"))


def test_an_update_moves_the_vae_and_the_critic_and_nothing_else():
    encoder = vgg()
    step, x = new_step(critic=True, encoder=encoder), patches_of()
    frozen = {"f": step.f.state_dict(), "encoder": encoder.state_dict()}
    before = json.dumps({k: [float(v.double().sum()) for v in d.values()] for k, d in frozen.items()})
    start = {k: v.clone() for k, v in step.state_dict()["network"].items()}
    judge = {k: v.clone() for k, v in step.critic.state_dict().items()}
    terms = step.update(x)
    assert set(terms) == set(step.weights) == {"l1", "kl", "perceptual", "adversarial", "critic"}
    assert all(term.shape == (4,) and not term.requires_grad and term.isfinite().all() for term in terms.values())
    assert before == json.dumps({k: [float(v.double().sum()) for v in d.values()] for k, d in frozen.items()})
    moved = step.vae.state_dict()
    still = {k for k, p in step.vae.named_parameters() if torch.equal(start[k], moved[k])}
    assert not {k for k in still if not k.endswith(("key.parametrizations.weight.original", "share"))} - {
        k for k in still if "attention" in k
    }  # the attention's share starts at zero, so that its other weights wait for it
    assert any(not torch.equal(judge[k], v) for k, v in step.critic.state_dict().items())
    assert all(p.requires_grad for p in step.critic.parameters())


def test_the_critic_learns_to_score_real_patches_higher_than_made_ones():
    step, x = new_step(critic=True), patches_of(8)
    for _ in range(25):
        step.descend(step.optimisers["critic_optimiser"], step.critic_terms, {"critic": 1.0}, x)
    with torch.no_grad():
        real, made, beside, _, _ = step._pass(x)
        scores = [step.critic(torch.cat([image, beside], dim=1)).mean() for image in (real, made)]
    assert scores[0] > scores[1] + 0.1


def test_without_critic_and_encoder_their_terms_are_absent_and_cannot_be_weighed():
    step = new_step(weights={"kl": 0.01})
    assert step.weights == {"l1": vaes.WEIGHTS["l1"], "kl": 0.01} and set(step.update(patches_of())) == {"l1", "kl"}
    with pytest.raises(ValueError, match="no term 'perceptual' to weigh in this loss; it has l1, kl"):
        new_step(weights={"perceptual": 1.0})


def test_training_takes_the_reconstruction_from_f_of_x_towards_x():
    """On the same patches again and again; new ones need far more updates."""
    step, x = new_step(easy_start=True, weights={"kl": 1e-6}, betas=(0.9, 0.999), lr=3e-3), patches_of(8)
    errors = [float(step.update(x)["l1"].mean()) for _ in range(150)]
    assert errors[-1] < 0.8 * errors[0]


def test_an_easy_start_is_f_of_x_from_a_narrow_posterior_of_what_f_took_away():
    vae, x = tiny(easy_start=True), patches_of()
    y_hat = blur()(x)
    assert torch.allclose(vae.reconstruct(x=x, y_hat=y_hat), y_hat, atol=1e-6)
    vae.eval()
    mean, logvar = vae.encode(x=x, y_hat=y_hat)
    assert logvar.mean() < -5
    shifted = vae.encode(x=x + 0.1, y_hat=y_hat + 0.1)[0]
    assert torch.allclose(shifted, mean, atol=1e-4)
    assert count(vae) == count(tiny())


def test_bfloat16_stays_close_to_float32():
    x = patches_of()
    single, half = (new_step(encoder=vgg(), precision=p).update(x) for p in ("float32", "bf16"))
    for name in ("l1", "kl", "perceptual"):
        assert torch.allclose(single[name], half[name], rtol=0.1, atol=0.05), name
    assert half["l1"].dtype == torch.float32 and not torch.equal(single["l1"], half["l1"])


@pytest.mark.parametrize("critic", [False, True])
def test_resuming_gives_the_very_next_update(critic, tmp_path):
    whole = new_step(critic=critic, weights={"kl": 0.1})
    for i in range(2):
        whole.update(patches_of(seed=i))
    checkpoints.save(tmp_path, "0123abcd", 2, step=whole)
    expected = whole.update(patches_of(seed=2))
    resumed = new_step(seed=1, critic=critic)
    assert checkpoints.resume(tmp_path, "0123abcd", step=resumed) == 2
    assert same_state(resumed.update(patches_of(seed=2)), expected)
    assert same_state(resumed.state_dict(), whole.state_dict()) and resumed.weights == whole.weights


def test_a_state_saved_before_the_first_update_is_not_taken_for_a_trained_one(tmp_path):
    whole = new_step()
    checkpoints.save(tmp_path, "0123abcd", 0, step=whole)
    expected = whole.update(patches_of())
    resumed = new_step(seed=1)
    checkpoints.resume(tmp_path, "0123abcd", step=resumed)
    assert same_state(resumed.update(patches_of()), expected)


def test_the_learning_rate_of_the_critic_is_four_times_the_vaes():
    step = new_step(critic=True)
    step.lr = 1e-4
    assert step.lr == 1e-4 and step.optimisers["critic_optimiser"].param_groups[0]["lr"] == pytest.approx(4e-4)


def test_a_stored_model_comes_back_to_the_bit(tmp_path):
    step, x = new_step(), patches_of()
    step.update(x)
    save_file({k: v.contiguous() for k, v in step.vae.state_dict().items()}, tmp_path / "vae.safetensors")
    again = vaes.build(**json.loads(json.dumps(step.vae.settings)))
    again.load_state_dict(load_file(tmp_path / "vae.safetensors"))
    again.to(memory_format=torch.channels_last)  # as the step's: the layout decides on the last bits
    a, b = (one.eval().reconstruct(x=x, y_hat=blur()(x)) for one in (step.vae, again))
    assert torch.equal(a, b)


def test_memory_is_checked_and_a_batch_may_be_cut_into_parts():
    step = new_step(critic=True, accumulate=2)
    assert setup.check_memory(step, 32, 4) > 0
    assert step.update(patches_of(5))["l1"].shape == (5,)


def test_it_stands_on_any_denoiser():
    vae = tiny()
    step = vaes.TrainVAE(networks.build("unet", channels=2, residual=True), vae)
    assert step.update(patches_of())["kl"].isfinite().all() and not step.f.training


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"size": "large"}, "no size 'large' of the VAE; there are published, small"),
        ({"patch": 96}, "one of 32, 64, 128 pixels, .* not 96"),
        ({"size": "small", "depth": 3}, "no setting 'depth'; it has size, patch, mean_hu"),
        ({"dim": 100}, "dim must be above 5 blocks times chunk = 100, not 100"),
        ({"channels": 4}, "at least 8 for the self-attention, not 4"),
        ({"hidden": 2.5}, "hidden must be a whole number of at least 1, not 2.5"),
        ({"std_hu": 0.0}, "std_hu is in HU, finite and above 0, not 0.0"),
        ({"encoder": "vgg"}, "no encoder 'vgg' of the VAE; there are resnet50 and plain"),
        ({"easy_start": 1}, "easy_start is true or false, not 1"),
    ],
)
def test_what_cannot_be_built_is_named(given, message):
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        vaes.build(**given)


def test_wrong_images_and_arguments_are_named():
    vae, x = tiny().eval(), patches_of()
    with pytest.raises(ValueError, match=r"x must be \(N, 1, 32, 32\), not \(4, 1, 16, 32\)"):
        vae.encode(x=x[:, :, :16], y_hat=x)
    with pytest.raises(ValueError, match=r"y_hat must be"):
        vae.encode(x=x, y_hat=x[:, 0])
    with pytest.raises(ValueError, match=r"z must be \(4, 12\), not \(3, 12\)"):
        vae.decode(torch.zeros(3, 12), y_hat=x)
    with pytest.raises(ValueError, match="no precision 'half'"):
        new_step(precision="half")
    with pytest.raises(ValueError, match="needs at least 2"):
        vae_blocks.ActNorm([(3,)])([torch.zeros(1, 3)])
