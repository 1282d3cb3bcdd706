"""VAE and flow on patches of which is known what f leaves open: a mean filter, the identity, a constant."""

import numpy as np
import pytest
import torch

from ldct_utils.ct import intensity
from ldct_utils.invariance import evidence, known
from ldct_utils.training import setup


@pytest.fixture(autouse=True)
def one_thread():
    setup.seed_everything(0, 1)


def table(f, models, **more):
    return known.compare(f, *models, count=40, **more).set_index("quantity")


# ---- what is known ----
def test_waves_are_orthogonal_and_the_filter_passes_two_and_removes_two():
    flat = known.waves().reshape(4, -1)
    assert np.allclose(flat @ flat.T / flat.shape[1], np.eye(4), atol=1e-12)
    x, a = known.patches(5, seed=0)
    seen = intensity.from_net(known.f_of("blur")(x).numpy()[:, 0])
    step = np.pi / known.SIDE
    gain = np.sin(known.FILTER * step) / known.FILTER / np.sin(step) * np.cos(step)  # half a pixel off
    assert np.allclose(known.amplitudes(seen), a * [gain, gain, 0, 0], atol=0.01)


@pytest.mark.parametrize("name", ["blur", "identity", "constant"])
def test_what_f_leaves_open_is_what_patches_with_that_f_of_x_are_like(name):
    """Regressing amplitudes on f(x) over many patches gives the conditional mean and covariance, by another way."""
    x, a = known.patches(8000, seed=1)
    f = known.f_of(name)
    k, left = known.conditional(f)
    seen = known.amplitudes(intensity.from_net(f(x).numpy()[:, 0]))
    fitted = np.linalg.lstsq(seen, a, rcond=1e-3)[0]
    assert np.allclose(seen @ fitted, a @ k.T, atol=5.0)  # HU
    assert np.allclose(np.cov((a - seen @ fitted).T), left, atol=120)  # of 1600 HU^2


def test_noise_lies_in_what_the_filter_removes_and_has_the_size_that_was_asked_for():
    (x, a), (plain, same) = known.patches(40, seed=2, noise_hu=20.0), known.patches(40, seed=2)
    assert np.array_equal(a, same)
    noise = intensity.from_net(x.numpy()) - intensity.from_net(plain.numpy())
    assert evidence.rmse_hu(noise, 0 * noise[0, 0]).mean() == pytest.approx(20, rel=0.03)
    assert np.abs(known.amplitudes(noise[:, 0])).max() < 0.01
    blur = known.f_of("blur")
    assert float((blur(x) - blur(plain)).abs().max()) * intensity.HU_SPAN < 0.01


# ---- what VAE and flow make of it ----
def test_behind_a_mean_filter_draws_vary_where_it_is_blind_and_as_much_as_is_known():
    f = known.f_of("blur")
    found = table(f, known.train(f, updates=(100, 220)))
    assert found.found["SD over draws, waves that pass"] < 2  # HU; 40 in the data
    assert found.found["SD over draws, waves that are removed"] == pytest.approx(32, rel=0.25)
    assert found.found["slope of the removed ones' mean on the passed"] == pytest.approx(0.6, abs=0.2)
    assert found.found["draws from x"] == pytest.approx(found.known["draws from x"], rel=0.15)
    assert found.found["f(draws) from f(x)"] < 0.15 * found.found["draws from x"]


def test_behind_the_identity_draws_do_not_vary():
    f = known.f_of("identity")
    found = table(f, known.train(f, updates=(60, 5)))
    assert (found.found[[q for q in found.index if not q.startswith("slope")]] < 2).all()  # HU; 40 in the data


def test_behind_a_constant_draws_vary_like_the_data():
    f = known.f_of("constant")
    found = table(f, known.train(f, updates=(100, 150)))
    for waves in ("SD over draws, waves that pass", "SD over draws, waves that are removed"):
        assert found.found[waves] == pytest.approx(known.SD_HU, rel=0.3)
    assert abs(found.found["slope of the removed ones' mean on the passed"]) < 0.1
    assert found.found["f(draws) from f(x)"] == 0


def test_draws_that_ignore_what_is_known_are_told_apart():
    """The comparison itself: exact draws agree with every known number, draws of another patch with none of the SDs."""
    f = known.f_of("blur")
    k, left = known.conditional(f)
    root = np.linalg.cholesky(left + 1e-9 * np.eye(4))

    def exact(f, coder, drawer, x, count, seed):
        a = known.amplitudes(intensity.from_net(x.numpy()[:, 0]))
        drawn = (a @ k.T)[:, None] + np.random.default_rng(seed).normal(size=(len(a), count, 4)) @ root.T
        return intensity.to_net(torch.from_numpy(np.tensordot(drawn, known.waves(), 1).astype(np.float32)))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(known.flow, "sample", exact)
        found = known.compare(f, None, None, count=400)
        assert np.allclose(found.found, found.known, rtol=0.05, atol=0.05)
        patch.setattr(known.flow, "sample", lambda *given: exact(*given).flip(0))
        wrong = known.compare(f, None, None, count=400).set_index("quantity")
        assert wrong.found["f(draws) from f(x)"] > 30
        assert abs(wrong.found["slope of the removed ones' mean on the passed"]) < 0.2
