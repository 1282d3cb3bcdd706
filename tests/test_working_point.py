"""Working points: made histories with known changes, gains on both sides of the limits, textures, every sentence."""

import finished_runs
import numpy as np
import pandas as pd
import pytest

from ldct_utils.study import runs
from ldct_utils.training import methods, testing
from ldct_utils.training import working_point as points

MSE = {"loss": "mse", "method": "supervised", "network": "unet"}


def history(objective, total=800, every=100, weights=None, lam=None, **terms):
    """A log with validations of ``mse``, and of other terms, by functions of the share of the updates; its training
    rows are noisy, and ``weights`` those of its total."""
    step, rng = np.arange(0, total + 1, every), np.random.default_rng(0)
    table = pd.DataFrame({"step": step, "total": 0.0})
    for name, value in {"mse": objective, **terms}.items():
        table[f"val_{name}"] = value(step / total)
        table[name] = table[f"val_{name}"] * rng.normal(1, 0.3, len(step))  # what patches were drawn: not the network's
        weight = (weights or {}).get(name, 1.0) if name != "vgg" or lam is None else lam
        table["total"] += weight * table[name]
    if lam is not None:
        table["lam"] = lam
    table.loc[0, ["total", *(name for name in table if f"val_{name}" in table)]] = np.nan  # before the first update
    return table


def test_the_change_is_that_of_a_line_over_the_last_quarter():
    for change in (0.0, -0.05, 0.03):
        found = points.change(history(lambda t, c=change: 1e-5 * (1 + c * (t - 0.75) / 0.25)), MSE)
        assert found == pytest.approx(change, abs=1e-12)


def test_what_happened_before_the_last_quarter_does_not_count():
    assert points.change(history(lambda t: np.where(t < 0.75, 5 - t, 1.0)), MSE) == pytest.approx(0, abs=1e-12)


def test_few_validations_overestimate_the_change_and_never_hide_one():
    def falling(t):
        return 1 + np.exp(-6 * t)

    true = falling(1.0) / falling(0.75) - 1
    for every in (50, 100, 200, 400, 800):
        assert points.change(history(falling, every=every), MSE) <= true * 0.95 < 0


def test_an_objective_that_jitters_around_one_level_is_steady():
    rng = np.random.default_rng(3)
    jitter = history(lambda t: 1 + rng.normal(0, 0.005, len(t)), every=20)
    assert abs(points.change(jitter, MSE)) < points.STEADY


def level(t):
    return 0 * t + 1


def falling_by_8(t):
    return 10 - 8 * t


def test_the_objective_is_the_methods_own():
    assert points.change(history(level), MSE) == pytest.approx(0, abs=1e-12)
    only = history(falling_by_8).rename(columns=lambda name: name.replace("mse", "vgg"))
    assert points.change(only, MSE | {"loss": "vgg_only"}) == pytest.approx(-2 / 4)
    # the perceptual term has the weight of the log, 3, which the loop may have moved
    both = history(level, vgg=falling_by_8, lam=3.0)
    assert points.change(both, MSE | {"loss": "vgg"}) == pytest.approx(-3 * 2 / (1 + 3 * 4))
    sums = history(level, vgg=falling_by_8, l1=falling_by_8, lam=3.0, weights={"mse": 2, "l1": 0.5})
    assert points.change(sums, MSE | {"loss": "2*mse + 0.5*l1 + 3*vgg"}) == pytest.approx(-3.5 * 2 / (2 + 3.5 * 4))


def test_a_lambda_that_moves_to_hold_psi_is_no_change_of_the_objective():
    held = history(level, vgg=level, lam=np.linspace(1, 9, 9))
    assert points.change(held, MSE | {"loss": "vgg", "psi_on": "hold"}) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("method", points.ADVERSARIAL)
def test_adversarial_methods_are_judged_by_the_terms_that_they_lower(method):
    assert set(points.ADVERSARIAL[method]) == methods._step(method).falling.fget(None)
    assert set(points.ADVERSARIAL) == set(methods.METHODS) - {"supervised"}


def test_the_term_that_changed_most_speaks_for_an_adversarial_method_and_no_critic_does():
    one = history(lambda t: 1 - 0.04 * t, grad=lambda t: 1 + 0.4 * t, adv_image=lambda t: 10 * t - 5)
    assert points.change(one, {"loss": "mse", "method": "dugan"}) == pytest.approx(0.1 / 1.3)
    with pytest.raises(ValueError, match="no validation of perceptual; it has mse, grad, adv_image"):
        points.change(one, {"loss": "mse", "method": "wgan"})
    with pytest.raises(ValueError, match="no validation of any term; it has none"):
        points.change(pd.DataFrame({"step": [0, 5]}), MSE)


def test_a_network_that_was_not_trained_here_has_no_change():
    assert np.isnan(points.change(history(lambda t: 0 * t + 1).iloc[:1], MSE))
    hub = {"init": "hub", "max_steps": 0, "loss": "mse"}
    assert points.adversarial(hub | {"network": "wganvgg"}) and not points.adversarial(hub | {"network": "cnn10"})
    assert not points.adversarial(MSE | {"network": "dugan"})  # trained here, pixel by pixel
    assert points.judge(np.nan, 2.0).reached


def test_limits_of_gain_and_change():
    assert points.judge(-0.019, 1.0).reached and points.judge(0.0, -1.5, True).reached
    assert not points.judge(-0.02, 1.0).reached and not points.judge(0.02, 1.0).reached
    assert points.judge(-0.3, 2).reason == (
        "its own objective still fell by 30.0 % in the last quarter of the updates (under 2 % is asked)"
    )
    assert "still rose by 5.0 %" in points.judge(0.05, 2).reason
    assert points.judge(0, 0.999).reason == "it gains only 1.00 dB over its input (a gain of 1 dB is asked)"
    assert points.judge(0, -2.2).reason == "it is 2.20 dB worse than its input (a gain of 1 dB is asked)"
    assert points.judge(0, -1.6, True).reason == "it is 1.60 dB worse than its input (1.5 dB at most are allowed)"
    both = points.judge(0.05, -2.2).reason
    assert " and it is 2.20 dB worse" in both


def test_an_adversarial_texture_must_be_nearer_to_the_ndcts_than_mse_gives():
    assert points.judge(0, -1, True, 2.0, 4.0).reached and points.judge(0, -1, True, 9.0, np.nan).reached
    for far in (4.0, 5.0):
        assert f"({far:.1f} dB against 4.0 dB)" in points.judge(0, -1, True, far, 4.0).reason
    assert points.judge(0, 2, False, 9.0, 1.0).reached  # asked of no other


@pytest.fixture
def trained(outputs):
    """A function that writes runs and tests; flat soft tissue with noise, so that texture can be read."""
    data = finished_runs.cohort(patients=6, slices=1, size=96)
    data.truth[:] = 60.0
    rng = np.random.default_rng(0)
    data.ndct[:] = 60 + rng.normal(0, 12, data.ndct.shape)
    data.ldct[:] = data.ndct + rng.normal(0, 20, data.ndct.shape)

    def write(number, gain, **params):
        one = runs.Run(finished_runs.write(outputs, data, number, gain, **params))
        return one, testing.place(one)

    return write


def test_gain_and_texture_are_read_from_the_stored_test(trained):
    (_, rough), (_, exact), (_, bare) = (
        trained(n, g, examples=e) for n, g, e in ((1, 0.0, True), (2, 1.0, True), (3, 0.5, False))
    )
    assert points.gain_db(rough) == pytest.approx(0, abs=1) and points.gain_db(exact) > 10
    assert points.texture_db(rough) > 4 > 1 > points.texture_db(exact) >= 0 and np.isnan(points.texture_db(bare))
    images = np.zeros((2, 4, 64, 64), np.float32) - 1000  # air
    np.save(bare.folder / "examples.npy", images)
    assert np.isnan(points.texture_db(bare))


def test_methods_are_judged_by_the_means_of_their_trainings(trained):
    both = [trained(1, 0.0), trained(2, 0.9), trained(3, 0.9, loss="l1")]
    found = points.of_methods(*zip(*both), ["a", "a", "b"])
    assert list(found) == ["a", "b"] and found["b"].reached
    assert found["a"].gain_db == pytest.approx(np.mean([points.gain_db(test) for _, test in both[:2]]))
    table = points.table(found)
    assert list(table.method) == ["a", "b"] and table.iloc[1, -1] == "yes" and table.iloc[0, 1] == "-1.0 %"


def test_the_texture_is_compared_with_the_nearest_mse_network_at_its_working_point(trained):
    critic = {"method": "dugan", "network": "redcnn"}
    (run, test), blurred, early = trained(1, 0.0, **critic), trained(2, 0.8), trained(3, 0.8)
    log = pd.read_parquet(run.folder / "history.parquet").assign(val_grad=1.0, grad=1.0)
    log.to_parquet(run.folder / "history.parquet")
    log.assign(val_mse=[9, 8, 6, 4, 2]).to_parquet(
        early[0].folder / "history.parquet"
    )  # stopped while it still improved

    def judged(*others):
        all_runs, tests = zip((run, test), *others)
        names = ["critic", *(f"mse {n}" for n in range(len(others)))]
        return points.of_methods(all_runs, tests, names)["critic"]

    assert judged().reached  # nobody to compare with
    assert "no nearer to the NDCT's" in judged(blurred).reason  # as noisy as its input, the other nearly right
    assert judged(early).reached  # an MSE network that was stopped early is no yardstick
    assert list(points.of_methods(*zip((run, test), blurred), ["critic", "mse"])) == ["critic", "mse"]


def test_how_many_are_at_their_working_point_is_said_in_every_case():
    yes, no = points.judge(0, 2), points.judge(0, -2)
    assert points.said({}) == "No method was trained."
    assert points.said({"a": yes}) == "The one trained method is at its working point."
    assert points.said({"a": no}) == "The one trained method is not at its working point."
    assert points.said({"a": yes, "b": yes}) == "All of the 2 trained methods are at their working point."
    assert points.said({"a": no, "b": no}) == "None of the 2 trained methods are at their working point."
    assert points.said({"a": yes, "b": no}).startswith("1 of 2 trained methods is at its")
    assert points.said({"a": yes, "b": yes, "c": no}).startswith("2 of 3 trained methods are at their")
