"""The conditional flow: published sizes, a log-determinant that is the Jacobian's, inversion, and known likelihoods."""

import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from states import same_state
from test_invariance_vae import blur, count, patches_of, tiny

from ldct_utils.invariance import flow as flows
from ldct_utils.invariance import vae as vaes
from ldct_utils.invariance.vae_blocks import ActNorm
from ldct_utils.training import checkpoints, setup

TINY = {"dim": 12, "blocks": 3, "width": 16, "depth": 1, "condition": 5, "patch": 32, "embed": 2}


@pytest.fixture(autouse=True)
def one_thread():
    setup.seed_everything(0, 1)


def new_flow(seed=0, **more):
    torch.manual_seed(seed)
    return flows.build(**TINY | more)


def trained_flow(stronger=2.0, **more):
    """A flow whose ActNorms and couplings are no identities: after one forward pass in training mode."""
    flow = new_flow(**more)
    with torch.no_grad():
        for p in flow.inn.parameters():
            p.mul_(stronger)
        flow.train()(3 * torch.randn(64, flow.dim) + 1, patches_of(64, patch=flow.patch))
    return flow.eval()


def new_step(seed=0, **more):
    vae = tiny(0)
    vae.train().reconstruct(x=patches_of(), y_hat=patches_of())  # sets its ActNorm
    return flows.TrainFlow(blur(), vae, new_flow(seed), **{"lr": 1e-3} | more)


def jacobian_logdet(flow, z, y_hat):
    """log|det dv/dz| of each z by automatic differentiation."""
    found = []
    for one, given in zip(z, y_hat):
        jacobian = torch.autograd.functional.jacobian(lambda u, given=given: flow(u[None], given[None])[0][0], one)
        found.append(torch.linalg.slogdet(jacobian).logabsdet)
    return torch.stack(found)


# ---- sizes ----
@pytest.mark.parametrize("activation", flows.ACTIVATIONS)
def test_the_flow_has_as_many_weights_as_published(activation):
    with torch.device("meta"):
        flow = flows.build(activation=activation)
    assert (count(flow), count(flow.inn), count(flow.embedder)) == (137_133_184, 125_988_864, 11_144_320)
    layers = [layer for layer in flow.inn[-2].subnet_s1 if hasattr(layer, "weight")]
    assert [layer.in_features for layer in layers] == [128 + 256, 1024, 1024, 1024]
    assert layers[-1].out_features == 128 and len(flow.inn) == 12 * (4 if activation == "lrelu" else 3)


# ---- the map ----
@pytest.mark.parametrize("activation", flows.ACTIVATIONS)
def test_the_log_determinant_is_that_of_the_jacobian(activation):
    flow = trained_flow(activation=activation).double()
    z, y_hat = 2 * torch.randn(5, 12, dtype=torch.float64), patches_of(5).double()
    logdet = flow(z, y_hat)[1].detach()
    assert logdet.shape == (5,) and logdet.std() > 0.01
    assert (logdet - jacobian_logdet(flow, z, y_hat)).abs().max() < 1e-9


def test_the_published_leaky_relu_misses_ln_0_9_for_every_negative_value(monkeypatch):
    flow = trained_flow(activation="lrelu", dim=4, blocks=2).double()
    z, y_hat = torch.randn(6, 4, dtype=torch.float64), patches_of(6).double()
    below = []
    for layer in flow.inn:
        if isinstance(layer, flows.LeakyReLU):
            layer.register_forward_pre_hook(lambda _, given: below.append((given[0][0] < 0).sum(1)))
    true = flow(z, y_hat)[1]
    negatives = sum(below)
    right = flows.LeakyReLU.forward

    def published(self, x, rev=False, jac=True):
        return right(self, x, rev, jac)[0], torch.zeros(len(x[0]), dtype=x[0].dtype)

    monkeypatch.setattr(flows.LeakyReLU, "forward", published)
    reported = flow(z, y_hat)[1]
    assert torch.allclose(true - reported, negatives.double() * math.log(0.9), atol=1e-12) and negatives.max() >= 2
    assert torch.allclose(true, jacobian_logdet(flow, z, y_hat), atol=1e-9)
    back = flow.inverse(flow(z, y_hat)[0], y_hat)
    assert torch.allclose(back, z, atol=1e-9)  # what is drawn is right nevertheless


@pytest.mark.parametrize("activation", flows.ACTIVATIONS)
def test_the_inverse_takes_v_back_to_z_at_the_published_depth(activation):
    flow = trained_flow(1.0, activation=activation, blocks=12, depth=3, width=64, dim=256)
    z, y_hat = torch.randn(8, 256), patches_of(8)
    with torch.no_grad():
        v, logdet = flow(z, y_hat)
        back, other = flow.inverse(v, y_hat), flow.inn(v, c=[flow.embed(y_hat)], rev=True)[1]
    assert (v - z).abs().mean() > 0.1
    assert (back - z).abs().max() < 1e-5
    assert torch.allclose(other, -logdet, atol=1e-3)


def test_the_map_depends_on_f_of_x_and_every_part_of_z():
    flow = trained_flow()
    z, y_hat = torch.randn(4, 12), patches_of(4)
    v = flow(z, y_hat)[0]
    assert (flow(z, y_hat.flip(0))[0] - v).abs().max() > 1e-3
    gradient = torch.autograd.grad(flow(z.requires_grad_(), y_hat)[0].square().sum(), z)[0]
    assert (gradient != 0).all()


def test_the_scale_of_a_coupling_lies_between_1_over_e_and_e():
    coupling = trained_flow().inn[1]
    with torch.no_grad():
        coupling.subnet_s1[-1].bias.fill_(1e4)
        _, logdet = coupling([torch.zeros(1, 12)], c=[torch.zeros(1, 5)])
        coupling.subnet_s1[-1].bias.fill_(-1e4)
        _, other = coupling([torch.zeros(1, 12)], c=[torch.zeros(1, 5)])
    assert float(logdet - other) == pytest.approx(2 * 6, rel=1e-5)


# ---- ActNorm and permutations ----
def test_actnorm_normalises_the_first_training_batch_and_keeps_its_scale():
    norm = ActNorm([(3, 4, 4)])
    first = torch.randn(8, 3, 4, 4) * torch.tensor([1.0, 5.0, 0.0])[:, None, None] + 7
    norm.eval()([first])
    assert not norm.initialised and torch.equal(norm.scale, torch.zeros_like(norm.scale))
    norm.train()([first], rev=True)
    assert not norm.initialised
    (out,), logdet = norm([first])
    assert out.isfinite().all() and out.mean((0, 2, 3)).abs().max() < 1e-2
    assert torch.allclose(out[:, :2].std((0, 2, 3)), torch.ones(2), atol=1e-4)
    assert torch.allclose(logdet, 16 * norm.scale.sum().expand(8))
    before = norm.scale.clone()
    norm([10 * first])
    assert torch.equal(norm.scale, before)


def test_a_stored_flow_comes_back_with_its_permutations(tmp_path):
    flow = trained_flow(seed=3)
    save_file({k: v.contiguous() for k, v in flow.state_dict().items()}, tmp_path / "flow.safetensors")
    again = flows.build(**json.loads(json.dumps(flow.settings)) | {"seed": 4}).eval()
    other = [layer.order.clone() for layer in again.inn if isinstance(layer, flows.Permute)]
    again.load_state_dict(load_file(tmp_path / "flow.safetensors"))
    z, y_hat = torch.randn(4, 12), patches_of(4)
    assert torch.equal(flow(z, y_hat)[0], again(z, y_hat)[0])
    orders = [layer.order for layer in flow.inn if isinstance(layer, flows.Permute)]
    assert not any(torch.equal(a, b) for a, b in zip(orders, other)) and not torch.equal(orders[0], orders[1])


def test_building_a_flow_leaves_numpys_generator_alone():
    np.random.seed(5)  # noqa: NPY002
    expected = np.random.rand()  # noqa: NPY002
    np.random.seed(5)  # noqa: NPY002
    new_flow()
    assert np.random.rand() == expected  # noqa: NPY002


# ---- likelihood ----
def test_the_likelihood_of_a_standard_normal_is_half_its_dimension():
    v = torch.randn(20_000, 256)
    assert float(flows.nll(v, torch.zeros(len(v))).mean()) == pytest.approx(128, abs=0.3)
    assert float(flows.nll(torch.zeros(1, 2), torch.tensor([1.5]))) == -1.5


def test_a_flow_learns_a_gaussian_whose_mean_and_width_f_of_x_gives():
    """Its likelihood comes near the entropy, D/2 + mean ln of the SDs; a flow blind to f(x) cannot get there."""
    flow = new_flow(dim=2, blocks=3, width=24, depth=1, condition=4, patch=16, embed=2)
    adam = torch.optim.Adam(flow.parameters(), 5e-3)
    draw = torch.Generator().manual_seed(1)
    mixing = torch.tensor([[1.0, 0.0], [0.8, 0.6]])

    def batch(n=256):
        level = torch.randint(0, 2, (n, 1), generator=draw)  # soft tissue of 0 or 400 HU
        y_hat = ((1024 + 400.0 * level) / 4096)[..., None, None].expand(n, 1, 16, 16)
        noise = torch.randn(n, 2, generator=draw) @ mixing.T
        return 4.0 * level + (1 + 2 * level) * noise, y_hat

    for _ in range(250):
        loss = flows.nll(*flow(*batch())).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    entropy = 1 + math.log(0.6) + 0.5 * 2 * math.log(3)  # two dimensions, of which half of the batch is 3 times as wide
    with torch.no_grad():
        found = float(flows.nll(*flow.eval()(*batch(20_000))).mean())
    assert entropy - 0.05 < found < entropy + 0.15
    with torch.no_grad():
        drawn = flow.inverse(torch.randn(4000, 2, generator=draw), batch(1)[1].new_full((4000, 1, 16, 16), 1424 / 4096))
    assert torch.allclose(drawn.mean(0), torch.tensor([4.0, 4.0]), atol=1.0)
    assert torch.allclose(drawn.T.cov(), 9 * mixing @ mixing.T, atol=3.0)


# ---- the update and sampling ----
def test_an_update_moves_the_flow_alone_and_draws_z_from_the_posterior():
    step, x = new_step(), patches_of()
    before = {name: value.clone() for name, value in step.vae.state_dict().items()}
    terms = step.update(x)
    assert set(terms) == set(step.weights) == {"nll"} and terms["nll"].shape == (4,) and not terms["nll"].requires_grad
    assert same_state(before, step.vae.state_dict()) and all(p.grad is None for p in step.vae.parameters())
    with step.evaluating():
        one, two = (step.terms(x)["nll"] for _ in range(2))
        assert not torch.equal(one, two)
        y_hat = blur()(x)
        torch.manual_seed(3)
        found = step.terms(x)["nll"]
        torch.manual_seed(3)
        v, logdet = step.flow(vaes.sample(*step.vae.encode(x=x, y_hat=y_hat)), y_hat)
    assert torch.allclose(found, 0.5 * v.square().sum(1) - logdet)


def test_resuming_gives_the_very_next_update(tmp_path):
    whole = new_step()
    for i in range(2):
        whole.update(patches_of(seed=i))
    checkpoints.save(tmp_path, "0123abcd", 2, step=whole)
    expected = whole.update(patches_of(seed=2))
    resumed = new_step(seed=1)
    assert checkpoints.resume(tmp_path, "0123abcd", step=resumed) == 2
    assert same_state(resumed.update(patches_of(seed=2)), expected)
    assert same_state(resumed.state_dict(), whole.state_dict())


def test_a_state_saved_before_the_first_update_still_sets_the_scales(tmp_path):
    whole = new_step()
    checkpoints.save(tmp_path, "0123abcd", 0, step=whole)
    expected = whole.update(patches_of())
    resumed = new_step(seed=1)
    checkpoints.resume(tmp_path, "0123abcd", step=resumed)
    assert same_state(resumed.update(patches_of()), expected)


def test_samples_are_images_in_the_network_range_that_do_not_depend_on_the_chunk():
    step, x = new_step(), patches_of(3)
    step.update(patches_of())
    before = torch.get_rng_state()
    one = flows.sample(step.f, step.vae, step.flow, x, 5, seed=1)
    assert torch.equal(before, torch.get_rng_state()) and step.flow.training and not step.vae.training
    assert one.shape == (3, 5, 32, 32) and not one.requires_grad
    for chunk in (1, 2):
        assert torch.allclose(flows.sample(step.f, step.vae, step.flow, x, 5, seed=1, chunk=chunk), one, atol=1e-5)
    assert one.std(1).max() > 1e-4 and not torch.allclose(one, flows.sample(step.f, step.vae, step.flow, x, 5, seed=2))
    step.flow.eval(), step.vae.eval()
    with torch.no_grad():
        y_hat = blur()(x)
        v = torch.randn(3, 5, 12, generator=torch.Generator().manual_seed(1))
        z = step.flow.inverse(v[:, 2], y_hat)
        assert torch.allclose(step.vae.decode(z, y_hat=y_hat)[:, 0], one[:, 2], atol=1e-5)


def test_a_memory_check_works_and_bfloat16_leaves_the_flow_in_float32():
    step = new_step(precision="bf16")
    assert setup.check_memory(step, 32, 4) > 0
    v, logdet = step.flow(torch.randn(4, 12), patches_of())
    assert step.update(patches_of())["nll"].dtype == v.dtype == logdet.dtype == torch.float32


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"dim": 1}, "dim must be a whole number of at least 2, not 1"),
        ({"blocks": 0}, "blocks must be a whole number of at least 1, not 0"),
        ({"patch": 40}, "patch must be a multiple of 16 pixels, .* not 40"),
        ({"activation": "relu"}, "no activation 'relu' of the flow; there are none, lrelu"),
        ({"std_hu": -1.0}, "std_hu above 0, not .* and -1.0"),
    ],
)
def test_what_cannot_be_built_is_named(given, message):
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        flows.build(**given)


def test_wrong_shapes_and_pairs_are_named():
    flow, vae = trained_flow(), tiny()
    with pytest.raises(ValueError, match=r"z must be \(4, 12\), not \(4, 11\)"):
        flow(torch.zeros(4, 11), patches_of())
    with pytest.raises(ValueError, match=r"v must be \(4, 12\), not \(5, 12\)"):
        flow.inverse(torch.zeros(5, 12), patches_of())
    with pytest.raises(ValueError, match=r"y_hat must be \(N, 1, 32, 32\), not \(2, 1, 64, 64\)"):
        flow(torch.zeros(2, 12), patches_of(2, patch=64))
    with pytest.raises(ValueError, match="the VAE has dim 12, the flow 10; build both alike"):
        flows.TrainFlow(blur(), vae, new_flow(dim=10))
    with pytest.raises(ValueError, match="count and chunk must be at least 1, not 0"):
        flows.sample(blur(), vae, flow, patches_of(), 0, seed=0)
    with pytest.raises(ValueError, match="learning rate must be positive"):
        new_step(lr=0.0)
