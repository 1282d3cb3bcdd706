"""Updates, history, resuming: what an update computes, what stops a training, and that a kill changes nothing."""

import os
import random
import signal
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT, TRACED, write_tiny_cohort
from notebook_cells import code_cells, execute
from safetensors.torch import load_file
from skimage.metrics import structural_similarity
from states import same_state
from torch import nn

from ldct_utils import cohorts, report
from ldct_utils.cohorts import patches
from ldct_utils.ct import intensity
from ldct_utils.models import encoders, networks
from ldct_utils.study import paths, runs
from ldct_utils.training import asked, checkpoints, losses, prediction, psi, setup, testing, validation
from ldct_utils.training.history import History
from ldct_utils.training.methods.supervised import Supervised

SETTINGS = {"name": "unet", "channels": 2, "residual": True}


@pytest.fixture(autouse=True)
def one_thread():
    setup.seed_everything(0, 1)


def batch_of(n=4, size=32, seed=0):
    """LDCT and NDCT patches, network range: a ramp with noise of 20 and 10 HU."""
    rng = np.random.default_rng(seed)
    clean = np.broadcast_to(np.linspace(0.2, 0.3, size), (n, 1, size, size))
    ndct = clean + rng.normal(0, 10 / 4096, clean.shape)
    ldct = ndct + rng.normal(0, 20 / 4096, clean.shape)
    return torch.from_numpy(ldct).float(), torch.from_numpy(ndct).float()


def vgg_loss(lam=1e-5, layer="block2_conv2"):
    return losses.build("vgg", encoders.load(context="random", layers=(layer,)), layer, lam)


def new_step(loss=None, seed=0, lr=1e-3, **more):
    torch.manual_seed(seed)
    return Supervised(networks.build(**SETTINGS), loss or losses.build("mse"), lr, **more)


def weights_of(step):
    return torch.cat([p.detach().flatten() for p in step.network.parameters()])


def test_updates_equal_a_plain_loop_that_repeats_the_channel():
    ldct, ndct = batch_of()
    step = new_step(vgg_loss(), eps=1e-4)  # large: otherwise Adam's first steps are the signs of roundings
    start = weights_of(step)
    torch.manual_seed(0)
    plain, vgg = networks.build(**SETTINGS), encoders.network("vgg19", "block2_conv2")
    encoders._he(vgg, 0)  # the same random encoder, not folded
    adam = torch.optim.Adam(plain.parameters(), 1e-3, eps=1e-4)
    for _ in range(3):
        terms = step.update(ldct, ndct)
        pred = plain(ldct)
        features = [next(iter(vgg(255 * image.repeat(1, 3, 1, 1)).values())) for image in (pred, ndct)]
        mse, perceptual = nn.functional.mse_loss(pred, ndct), nn.functional.mse_loss(*features)
        adam.zero_grad()
        (mse + 1e-5 * perceptual).backward()
        adam.step()
        assert terms["mse"].mean().item() == pytest.approx(mse.item(), rel=1e-4)
        assert terms["vgg"].mean().item() == pytest.approx(perceptual.item(), rel=1e-4)
    moved = torch.cat([p.detach().flatten() for p in plain.parameters()])
    assert (weights_of(step) - moved).abs().max() < 0.01 * (moved - start).abs().max()


def test_a_batch_in_parts_gives_the_update_of_the_whole_batch():
    ldct, ndct = batch_of(5)
    whole, parts = new_step(lr=1e-4), new_step(lr=1e-4, accumulate=3)
    a, b = whole.update(ldct, ndct), parts.update(ldct, ndct)
    assert torch.allclose(a["mse"], b["mse"], rtol=1e-5) and len(b["mse"]) == 5
    grads = [torch.cat([p.grad.flatten() for p in s.network.parameters()]) for s in (whole, parts)]
    assert torch.allclose(*grads, rtol=1e-3, atol=1e-3 * grads[0].abs().max().item())


def test_training_lowers_the_loss():
    torch.manual_seed(0)
    step, (ldct, ndct) = (
        Supervised(networks.build("unet", channels=8, residual=True), losses.build("mse"), 1e-3),
        batch_of(),
    )
    means = [step.update(ldct, ndct)["mse"].mean().item() for _ in range(120)]
    assert means[-1] < 0.8 * means[0]


def test_a_loss_times_a_constant_gives_nearly_the_same_updates_only_if_eps_is_small():
    (ldct, ndct), start = batch_of(), weights_of(new_step())

    def difference(eps):
        ends = []
        for weight in (1.0, 64.0):
            step = new_step(losses.build({"mse": weight}), eps=eps)
            for _ in range(3):
                step.update(ldct, ndct)
            ends.append(weights_of(step))
        return ((ends[0] - ends[1]).abs().mean() / (ends[0] - start).abs().mean()).item()

    assert difference(1e-16) < 0.1 < 1 < difference(1e-8)  # an untrained network's gradients go down to 1e-15


def test_bfloat16_is_used_and_stays_close_to_float32():
    ldct, ndct = batch_of()
    a, b = (new_step(vgg_loss(), precision=p).update(ldct, ndct) for p in ("float32", "bf16"))
    assert torch.equal(a["mse"], b["mse"])  # the untrained residual network is the identity in both
    relative = (a["vgg"].mean() / b["vgg"].mean() - 1).abs().item()
    assert 0 < relative < 0.05


def test_the_encoder_is_frozen_and_the_loss_weight_counts():
    ldct, ndct = batch_of()
    loss = vgg_loss(lam=0.0)
    before = [p.clone() for p in loss.parameters()]
    with_zero = new_step(loss)
    with_zero.update(ldct, ndct)
    mse_only = new_step()
    mse_only.update(ldct, ndct)
    assert torch.equal(weights_of(with_zero), weights_of(mse_only))
    assert all(torch.equal(a, b) for a, b in zip(before, loss.parameters()))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"precision": "fp8"}, ValueError, "no precision 'fp8'"),
        ({"lr": 0.0}, ValueError, "learning rate must be positive"),
        ({"accumulate": 0}, ValueError, "accumulate must be at least 1"),
    ],
)
def test_a_step_refuses_what_it_cannot_do(arguments, error, message):
    with pytest.raises(error, match=message):
        new_step(**arguments)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_an_absent_gpu_is_named_before_training():
    with pytest.raises(RuntimeError, match="needs a CUDA GPU"):
        new_step(device="cuda")


def test_an_update_that_does_not_fit_into_memory_is_refused_with_the_remedy():
    step = new_step(accumulate=2)
    with pytest.raises(MemoryError, match=r"GB on cpu, .* lower batch or patch_size, or raise accumulate \(now 2\)"):
        setup.check_memory(step, 32, 10**9)


def test_the_memory_estimate_follows_patch_batch_and_parts():
    weights = 4 * sum(p.nbytes for p in new_step().network.parameters())
    small, tall, parts = (
        setup.check_memory(new_step(accumulate=a), p, b) - weights for p, b, a in ((32, 8, 1), (64, 8, 1), (32, 8, 4))
    )
    assert tall / small == pytest.approx(4, rel=0.02)
    assert small / parts == pytest.approx(4, rel=0.02)


def test_checking_memory_leaves_the_training_as_it_was():
    ldct, ndct = batch_of()
    plain, checked = new_step(vgg_loss()), new_step(vgg_loss())
    setup.check_memory(checked, 32, 4)
    for step in (plain, checked):
        step.update(ldct, ndct)
    assert torch.equal(weights_of(plain), weights_of(checked))


def history_of(*steps, weights=None):
    """A history of updates, each a (mse, vgg) pair of lists with a value an image."""
    history = History(batch=2)
    for number, (mse, vgg) in enumerate(steps, 1):
        history.add(number, {"mse": torch.tensor(mse), "vgg": torch.tensor(vgg)})
    return history, weights or {"mse": 1.0, "vgg": 0.5}


def test_a_row_of_the_history_holds_means_total_and_both_influences():
    history, weights = history_of(([1.0, 9.0], [2.0, 2.0]), ([1.0, 9.0], [2.0, 2.0]))
    row = history.row(weights, lr=0.1)
    assert (row["step"], row["mse"], row["vgg"], row["total"], row["lam"], row["lr"]) == (2, 5, 2, 6, 0.5, 0.1)
    assert row["psi_ratio_of_sums"] == pytest.approx(2 / 12)
    assert row["psi_mean_of_ratios"] == pytest.approx(0.3)  # the reference sheet's pair of images
    assert row["patches_per_s"] > 0 and row["seconds"] > 0


def test_a_loss_without_a_pixel_term_has_psi_one():
    history = History(batch=2)
    history.add(1, {"vgg": torch.tensor([3.0, 4.0])})
    assert history.row({"vgg": 1.0}, 0.1)["psi_ratio_of_sums"] == 1


def test_lambda_is_solved_on_what_was_seen_last():
    history, weights = history_of(([1.0, 9.0], [2.0, 2.0]))
    history.row(weights, 0.1)
    for definition in psi.DEFINITIONS:
        lam = history.lambda_for(0.8, definition)
        assert psi.influence([1.0, 9.0], [2.0, 2.0], lam, definition) == pytest.approx(0.8)


def test_a_term_that_is_not_finite_stops_training_at_its_step():
    history, weights = history_of(([1.0, 1.0], [1.0, 1.0]), ([1.0, 1.0], [1.0, float("nan")]), ([1.0, 1.0], [1.0, 1.0]))
    with pytest.raises(FloatingPointError, match="step 2: the term 'vgg' is not finite"):
        history.row(weights, 0.1)


def test_a_term_that_grows_a_thousandfold_stops_training():
    steps = [([1.0, 1.0], [1.0, 1.0])] * 15 + [([1500.0, 1500.0], [1.0, 1.0])]
    history, weights = history_of(*steps)
    with pytest.raises(FloatingPointError, match="step 16: the term 'mse' has grown 1500-fold"):
        history.row(weights, 0.1)


def test_a_real_divergence_is_stopped():
    step, history, (ldct, ndct) = new_step(lr=10.0), History(4), batch_of()
    with pytest.raises(FloatingPointError, match="training stopped at step"):
        for number in range(1, 200):
            history.add(number, step.update(ldct, ndct))
            history.row({"mse": 1.0}, 10.0)


@pytest.fixture
def parts():
    """A step, a sampler and a history after three updates."""
    images = np.random.default_rng(0).integers(-1000, 1000, (3, 64, 64)).astype(np.int16)
    sampler = patches.Sampler(SimpleNamespace(ldct=images, ndct=images // 2), range(3), 32, None, 2, seed=0)
    step, history = new_step(vgg_loss()), History(2)
    for number in range(1, 4):
        history.add(number, step.update(*sampler.next()))
        history.row(step.loss.weights, step.lr)
    return {"step": step, "sampler": sampler, "history": history}


def fresh(parts):
    sampler = patches.Sampler(
        SimpleNamespace(ldct=parts["sampler"].ldct, ndct=parts["sampler"].ndct), range(3), 32, None, 2, seed=0
    )
    return {"step": new_step(vgg_loss(lam=1.0), seed=1), "sampler": sampler, "history": History(2)}


def test_a_saved_training_goes_on_to_the_same_bits(parts, tmp_path):
    checkpoints.save(tmp_path, "0123abcd", 3, **parts)
    resumed = fresh(parts)
    torch.manual_seed(99)
    assert checkpoints.resume(tmp_path, "0123abcd", **resumed) == 3
    for one in (parts, resumed):
        one["drawn"] = torch.rand(1) if one is resumed else None
        one["terms"] = one["step"].update(*one["sampler"].next())
    assert torch.equal(parts["terms"]["vgg"], resumed["terms"]["vgg"])
    assert torch.equal(weights_of(parts["step"]), weights_of(resumed["step"]))
    assert same_state(parts["step"].state_dict(), resumed["step"].state_dict())
    assert resumed["history"].rows == parts["history"].rows
    assert resumed["history"].lambda_for(0.5, "mean_of_ratios") == parts["history"].lambda_for(0.5, "mean_of_ratios")


def test_the_random_state_is_restored(parts, tmp_path):
    checkpoints.save(tmp_path, "0123abcd", 3, **parts)
    expected = torch.rand(3)
    checkpoints.resume(tmp_path, "0123abcd", **fresh(parts))
    assert torch.equal(torch.rand(3), expected)


def test_nothing_saved_means_starting_at_the_first_update(parts, tmp_path):
    assert checkpoints.resume(tmp_path, "0123abcd", **parts) == 0


def test_a_state_of_another_identity_is_refused(parts, tmp_path):
    checkpoints.save(tmp_path, "0123abcd", 3, **parts)
    with pytest.raises(ValueError, match="belongs to run 0123abcd, not to ffff0000"):
        checkpoints.resume(tmp_path, "ffff0000", **fresh(parts))


def test_a_damaged_state_is_named(parts, tmp_path):
    checkpoints.save(tmp_path, "0123abcd", 3, **parts)
    path = tmp_path / checkpoints.STATE_FILE
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=r"last.pt is damaged .* delete it"):
        checkpoints.resume(tmp_path, "0123abcd", **fresh(parts))


def test_loading_a_state_runs_no_code(parts, tmp_path):
    class Command:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/ran",)

    torch.save({"id": "0123abcd", "step": Command()}, tmp_path / checkpoints.STATE_FILE)
    with pytest.raises(ValueError, match="damaged"):
        checkpoints.resume(tmp_path, "0123abcd", **parts)
    assert not (tmp_path / "ran").exists()


def test_a_checkpoint_gives_the_network_back(parts, tmp_path):
    network = parts["step"].network
    for step in (5, 20):
        checkpoints.write_checkpoint(tmp_path, step, network, SETTINGS)
    assert list(checkpoints.checkpoints(tmp_path)) == [5, 20]
    hu = np.random.default_rng(1).normal(40, 30, (2, 32, 48)).astype(np.float32)
    for checkpoint in ("last", 5):
        loaded = checkpoints.load_network(tmp_path, checkpoint)
        assert np.array_equal(prediction.predict(loaded, hu), prediction.predict(network, hu))
        assert not loaded.training
    with pytest.raises(FileNotFoundError, match="no checkpoint 7; it has 5, 20"):
        checkpoints.load_network(tmp_path, 7)
    with pytest.raises(FileNotFoundError, match="it has none"):
        checkpoints.load_network(tmp_path / "empty")


def test_a_finished_run_denoises_with_its_last_checkpoint_or_the_one_asked_for(parts, tmp_path):
    network, hu = parts["step"].network, np.random.default_rng(1).normal(40, 30, (2, 32, 48)).astype(np.float32)
    run, expected = SimpleNamespace(folder=tmp_path), []
    for step in (5, 20):
        with torch.no_grad():
            network.head.bias += 0.1
        checkpoints.write_checkpoint(tmp_path, step, network, SETTINGS)
        expected.append(prediction.predict(checkpoints.load_network(tmp_path, step), hu, 1))
    assert np.array_equal(prediction.denoiser(run, 1)(hu), expected[1])
    assert np.array_equal(prediction.denoiser(run, 1, checkpoint=5)(hu), expected[0])
    assert not np.array_equal(*expected)


@pytest.mark.parametrize("shape", [(3, 48, 64), (1, 50, 37), (33, 47)])
def test_prediction_of_any_size_is_in_hu_and_the_untrained_residual_network_is_the_identity(shape):
    hu = np.random.default_rng(0).integers(-1024, 3071, shape).astype(np.int16)
    predicted = prediction.predict(networks.build(**SETTINGS), hu, batch=2)
    assert predicted.shape == shape and predicted.dtype == np.float32
    assert np.allclose(predicted, hu, atol=1e-3)


def test_prediction_does_not_depend_on_the_batch(parts):
    hu = np.random.default_rng(0).normal(40, 30, (5, 32, 32)).astype(np.float32)
    one, all_ = (prediction.predict(parts["step"].network, hu, batch=n) for n in (1, 5))
    assert np.allclose(one, all_, atol=1e-2)
    with pytest.raises(ValueError, match="got shape"):
        prediction.predict(parts["step"].network, hu[None])


TINY = {"patients": 6, "slices": 2, "size": 64}
RUN = TINY | {
    "study": "kills", "loss": "vgg", "layer": "block1_conv2", "context": "random", "channels": 2, "patch_size": 32,
    "batch": 2, "max_steps": 150, "log_every": 2, "eval_every": 50, "checkpoint_every": 50, "save_every_s": 0.0,
    "psi_on": "hold", "psi_target": 0.5, "schedule": "cosine", "warmup": 20,
    "threads": 1, "precision": "float32", "val_slices": 2, "val_patches": 2,
}  # fmt: skip


# Figures take a third of so short a training; that they can be drawn and stored, the smoke study knows.
UNDRAWN = "from ldct_utils import report\n\nreport.figure = lambda *_, **__: None"


def start(folder, values, before=""):
    """Start 03_train as a script with ``values`` after its parameters cell, results below ``folder``, without figures.

    Args: before: code that runs before it.
    """
    folder.mkdir(exist_ok=True)
    cells = [UNDRAWN, before, *code_cells(ROOT / "notebooks" / "03_train.py", values)]
    (folder / "run.py").write_text("\n\n".join(cells))
    environment = os.environ | {"LDCT_OUTPUTS": str(folder / "outputs"), "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
    environment.pop(TRACED, None)
    log = open(folder / "log.txt", "a")  # noqa: SIM115
    return subprocess.Popen([sys.executable, folder / "run.py"], cwd=ROOT, env=environment, stdout=log, stderr=log)


def finish(folder, values):
    """Go on in a process of its own, which has nothing of any training but what lies in its folder."""
    process = start(folder, values)
    assert process.wait(600) == 0, (folder / "log.txt").read_text()[-3000:]
    return trained(folder)


def finish_here(folder, values):
    """The same in this process, which has imported already what each new one would import for seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LDCT_OUTPUTS", str(folder / "outputs"))
        patch.setattr(report, "figure", lambda *_, **__: None)
        execute(ROOT / "notebooks" / "03_train.py", values)
    return trained(folder)


def trained(folder):
    (result,) = (folder / "outputs" / "kills" / "03_train").glob("*/result.json")
    return result.parent


@pytest.fixture(scope="module")
def tiny_outputs(tmp_path_factory):
    """A function that makes a folder whose outputs hold the cohort which TINY names, so that nothing is simulated."""
    base = tmp_path_factory.mktemp("training")
    stored = write_tiny_cohort(base / f"simulated-{cohorts.identity(**TINY)}")

    def make(name):
        (base / name / "outputs" / "cohorts").mkdir(parents=True)
        (base / name / "outputs" / "cohorts" / stored.name).symlink_to(stored)
        return base / name

    return make


@pytest.fixture(scope="module")
def uninterrupted(tiny_outputs):
    return finish_here(tiny_outputs("whole"), RUN)


def its_test(folder):
    """The one test of a run."""
    (test,) = testing.stored(runs.Run(folder))
    return test


def same_training(a, b, stored=(0, 50, 100, 150)):
    """Compare two run folders to the bit: weights, optimiser, sampler, history (its clock left out), scores."""
    assert tuple(checkpoints.checkpoints(a)) == tuple(checkpoints.checkpoints(b)) == stored
    for step, path in checkpoints.checkpoints(a).items():
        assert same_state(load_file(path), load_file(checkpoints.checkpoints(b)[step]))
    clock = ["seconds", "patches_per_s"]
    pd.testing.assert_frame_equal(
        *(pd.read_parquet(f / "history.parquet").drop(columns=clock) for f in (a, b)), check_exact=True
    )
    pd.testing.assert_frame_equal(*(its_test(f).table("scores") for f in (a, b)), check_exact=True)
    states = [torch.load(f / checkpoints.STATE_FILE, weights_only=True) for f in (a, b)]
    assert all(same_state(states[0][key], states[1][key]) for key in ("id", "done", "step", "sampler", "rng"))


# A training that kills itself some moment after it has saved an update: whatever the machine does meanwhile, it has far
# to go then.
KILLER = """
import os, random, signal, threading
from ldct_utils.training import checkpoints

begun = []

def save(folder, run_id, done, real=checkpoints.save, **parts):
    real(folder, run_id, done, **parts)
    if done >= {update} and not begun:
        begun.append(done)
        threading.Timer(random.uniform(0, 0.05), os.kill, (os.getpid(), signal.SIGKILL)).start()

checkpoints.save = save
"""


def kill(folder, values, name, update):
    """Start 03_train, let it be killed soon after an update, and return the number of the last saved one."""
    process = start(folder, values, KILLER.format(update=update))
    assert process.wait(600) == -signal.SIGKILL, (folder / "log.txt").read_text()[-3000:]
    state = folder / "outputs" / "kills" / "03_train" / name / checkpoints.STATE_FILE
    assert not (state.parent / "result.json").exists(), "the kill came after the end"
    return torch.load(state, weights_only=True)["done"]


def test_a_training_killed_at_random_moments_ends_in_the_same_bits(tiny_outputs, uninterrupted):
    folder, draw = tiny_outputs("killed"), random.Random()
    updates = [draw.randint(low, low + 15) for low in (5, 65)]
    killed_at = [kill(folder, RUN, uninterrupted.name, update) for update in updates]
    assert all(update <= done < 150 for update, done in zip(updates, killed_at)), (updates, killed_at)
    run = finish(folder, RUN)
    same_training(uninterrupted, run)
    kinds = (".pt", ".safetensors", ".parquet", ".npy")
    stamps = {p: p.stat().st_mtime_ns for p in run.rglob("*") if p.suffix in kinds or p.name == "result.json"}
    assert finish_here(folder, RUN) == run  # the same command once more: nothing is trained or scored again
    assert all(p.stat().st_mtime_ns == stamp for p, stamp in stamps.items())


def test_the_history_holds_the_learning_rate_of_the_schedule(uninterrupted):
    trained = pd.read_parquet(uninterrupted / "history.parquet").dropna(subset="mse")
    wave = 1e-3 * (1 + np.cos(np.pi * (trained.step - 1) / RUN["max_steps"])) / 2
    wave *= np.minimum(1, trained.step / RUN["warmup"])
    assert len(trained) == 75 and np.allclose(trained.lr, wave, rtol=1e-12, atol=0)


def test_a_schedule_depends_on_the_number_of_the_update_alone():
    assert [setup.learning_rate("constant", 0.1, n, 8) for n in (0, 7)] == [0.1, 0.1]
    cosine = [setup.learning_rate("cosine", 0.1, n, 8) for n in (0, 4, 8)]
    assert cosine == pytest.approx([0.1, 0.05, 0], abs=1e-12)
    rising = [setup.learning_rate("constant", 0.1, n, 8, warmup=4) for n in (0, 1, 3, 7)]
    assert rising == pytest.approx([0.025, 0.05, 0.1, 0.1])
    with pytest.raises(ValueError, match="warmup is a number of updates, 0 or more, not -1"):
        setup.learning_rate("constant", 0.1, 0, 8, warmup=-1)
    with pytest.raises(ValueError, match=r"no schedule 'linear'.*constant, cosine"):
        setup.learning_rate("linear", 0.1, 0, 8)


@pytest.mark.parametrize("warmup, trains", [(0, False), (50, True)])
def test_a_unet_keeps_its_relus_when_the_rate_rises_from_zero(warmup, trains):
    """Without a warm-up Adam's first updates switch off the last level's units, and the network is the identity."""
    setup.seed_everything(0, 1)
    network = networks.build("unet", channels=16, residual=True)
    step = Supervised(network, losses.build("l1"), 1e-3, [0.9, 0.999], 1e-12, "float32", "cpu", 1)
    draw = torch.Generator().manual_seed(0)
    flat = torch.full((4, 1, 32, 32), 0.25)
    for done in range(60):
        noise = 0.005 * torch.randn(flat.shape, generator=draw)  # 20 HU
        step.lr = setup.learning_rate("constant", 1e-3, done, 60, warmup)
        step.update(flat + noise, flat)
    with torch.no_grad():
        changed = float((network(flat + noise) - flat - noise).std() / noise.std())
    assert (changed > 0.05) == trains


def test_the_learning_rate_that_is_set_is_the_one_of_the_next_update():
    (ldct, ndct), step = batch_of(), new_step(lr=1.0)
    step.lr = 1e-3
    step.update(ldct, ndct)
    usual = new_step(lr=1e-3)
    usual.update(ldct, ndct)
    assert step.lr == 1e-3 and torch.equal(weights_of(step), weights_of(usual))


MAMBA = {k: v for k, v in RUN.items() if k not in ("channels", "loss", "layer", "psi_on", "psi_target")} | {
    "network": "denomamba", "settings": "dim=4, blocks=[1,1,1,1], refinement=1, variant=channel", "max_steps": 4,
    "loss": "charbonnier", "log_every": 3, "eval_every": 4, "checkpoint_every": 2, "val_slices": 1,
}  # fmt: skip


def test_a_network_with_settings_of_its_own_is_trained_and_loaded_again(tiny_outputs):
    run = finish_here(tiny_outputs("mamba"), MAMBA)
    network = checkpoints.load_network(run)
    assert network.variant == "channel" and network.embed.weight.shape == (4, 1, 3, 3)
    assert "dim-4" in run.name and "variant-channel" in run.name
    history = pd.read_parquet(run / "history.parquet")  # a row wherever something happens
    assert history.step.tolist() == [0, 2, 3, 4] and history.val_ssim.notna().tolist() == [True, False, False, True]


DUGAN = MAMBA | {
    "network": "dugan", "settings": "width=4", "loss": "mse", "normalise": "meanstd", "sampling": "patients",
    "method": "dugan", "method_settings": "critic_width=4, critic_depth=2, cutmix_warmup=8", "max_steps": 24,
    "eval_every": 12, "checkpoint_every": 12,
}  # fmt: skip


@pytest.fixture(scope="module")
def adversarial(tiny_outputs):
    return finish_here(tiny_outputs("dugan"), DUGAN)


def test_an_adversarial_training_that_is_killed_ends_in_the_same_bits(tiny_outputs, adversarial):
    folder = tiny_outputs("dugan killed")
    assert 6 <= kill(folder, DUGAN, adversarial.name, 6) < 24
    assert pd.read_parquet(adversarial / "history.parquet").cutmix.gt(0).any()  # drawn, and likelier by the update
    same_training(adversarial, finish_here(folder, DUGAN), (0, 12, 24))  # both critics too: they are part of the step


def test_an_adversarial_method_trains_a_normalised_network_from_equally_likely_patients(adversarial):
    run = adversarial
    history = pd.read_parquet(run / "history.parquet")
    wanted = ["mse", "grad", "adv_image", "adv_gradient", "critic_image", "critic_gradient", "cutmix", "val_adv_image"]
    assert set(wanted) <= set(history) and not any("psi" in name or name == "lam" for name in history)
    last = history.iloc[-1]
    assert last.total == pytest.approx(last.mse + 20 * last.grad + 0.1 * (last.adv_image + last.adv_gradient))
    cohort = cohorts.load(next((run.parents[2] / "cohorts").iterdir()))
    found = checkpoints.load_network(run)
    assert found.mean == intensity.to_net(cohort.meta["train_ldct_hu"]["mean"])
    assert found.std == cohort.meta["train_ldct_hu"]["std"] / intensity.HU_SPAN
    predicted = prediction.predict(found, cohort.ldct[cohort.rows("val")])
    inside = [(image + 1024.0).clip(0, 2924) for image in (predicted, cohort.ndct[cohort.rows("val")])]
    ssim = [structural_similarity(*pair, data_range=2924) for pair in zip(*inside)]
    shown = list(cohort.rows("val")).index(cohort.spread(cohort.rows("val"), 1)[0])  # val_slices is 1
    assert last.val_ssim == pytest.approx(ssim[shown], abs=1e-5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"method": "dugan", "loss": "l1"}, "method dugan brings its own loss"),
        ({"normalise": "meanstd"}, "network 'unet' cannot be told mean_hu and std_hu"),
        ({"normalise": "zscore"}, "normalise is none, or meanstd"),
        ({"sampling": "patients", "patch_skip": 32}, "sampling is slices, or patients without a patch_skip"),
        ({"loss": "l1", "psi_on": "hold"}, "psi_on=hold re-solves the weight of loss=vgg; loss 'l1' has none"),
        ({"loss": "vgg", "psi_target": 0.0, "psi_on": "hold"}, "loss 'mse' has none to solve for"),
        ({"log_every": 0}, "are at least 1, got \\(0, 100, 200\\)"),
        ({"psi_of": "trained"}, "psi_of is identity or untrained"),
        ({"settings": {"channels": 4}}, "channels must be given as parameters of 03_train, not inside settings"),
        (MAMBA | {"residual": True}, "network 'denomamba' has no setting 'residual'; it has dim"),
        ({"train_slices": 0}, "train_slices is at least 1, or None for all, not 0"),
        ({"method": "wgan", "method_settings": {"n_g": 2}}, "method 'wgan' has no setting 'n_g'; it has lam_perc"),
    ],
)
def test_a_choice_that_cannot_be_is_refused_before_the_cohort(values, message, tmp_path, monkeypatch):
    monkeypatch.setenv("LDCT_OUTPUTS", str(tmp_path))
    monkeypatch.setattr(cohorts, "get", lambda *arguments: pytest.fail("the cohort came first"))
    with pytest.raises(ValueError, match=message):
        execute(ROOT / "notebooks" / "03_train.py", {"threads": 1} | values)


@pytest.mark.parametrize(("most", "rows"), [(None, [0, 1, 2, 3]), (2, [1, 3]), (9, [0, 1, 2, 3])])
def test_so_many_training_slices_at_the_most_are_drawn_from_spread_over_patients(most, rows, tiny_cohort, monkeypatch):
    from ldct_utils import cohorts
    from ldct_utils.cohorts import patches

    drawn_from, sampler = [], patches.Sampler

    def stop(cohort, chosen, *arguments, **named):
        drawn_from.append(list(chosen))
        if len(drawn_from) == 2:  # the first one is of validation
            raise KeyboardInterrupt
        return sampler(cohort, chosen, *arguments, **named)

    monkeypatch.setattr(cohorts, "get", lambda *_: cohorts.load(tiny_cohort))
    monkeypatch.setattr(patches, "Sampler", stop)
    small = {"threads": 1, "channels": 4, "patch_size": 32, "batch": 2, "val_patches": 2, "max_steps": 1}
    with pytest.raises(KeyboardInterrupt):
        execute(ROOT / "notebooks" / "03_train.py", small | {"study": "slices", "train_slices": most})
    assert drawn_from[1] == rows


def test_holding_keeps_psi_at_the_target_and_logs_what_the_contract_names(uninterrupted):
    history = pd.read_parquet(uninterrupted / "history.parquet")
    trained = history.dropna(subset="mse")
    assert abs(trained.psi_ratio_of_sums[trained.step > 50].mean() - RUN["psi_target"]) < 0.02
    assert trained.lam.nunique() > 10
    stored = runs.Run(uninterrupted).numbers
    assert {name: stored[name] for name in psi.REACHED} == psi.reached(history)
    assert stored["psi_end"] == pytest.approx(RUN["psi_target"], abs=0.05) and 0 < stored["gradient_share_end"] < 1
    wanted = ["step", "mse", "vgg", "total", "psi_ratio_of_sums", "psi_mean_of_ratios", "lam", "lr", "seconds"]
    scored = ["patches_per_s", "val_mse", "val_vgg", "val_rmse_hu", "val_psi_ratio_of_sums", "val_gradient_influence"]
    assert set(wanted + scored) <= set(history)
    assert history.dropna(subset="val_rmse_hu").step.tolist() == [0, 50, 100, 150]
    assert trained.step.tolist() == list(range(2, 151, 2))
    assert history.seconds.is_monotonic_increasing


def test_what_a_run_leaves_can_be_read_and_scored(uninterrupted):
    assert paths.short(uninterrupted)
    scores, ldct = (its_test(uninterrupted).table(name) for name in ("scores", "ldct_scores"))
    keys = ["row", "domain", "reference", "metric"]
    assert scores[keys].equals(ldct[keys]) and set(scores.reference) == {"ndct", "truth"}
    examples = its_test(uninterrupted).array("examples")
    assert examples.shape == (len(its_test(uninterrupted).table("examples_rows")), 4, 64, 64)
    network = checkpoints.load_network(uninterrupted)
    assert np.allclose(prediction.predict(network, examples[:, 0]), examples[:, 3], atol=0.01)
    assert np.array_equal(prediction.as_trained(runs.Run(uninterrupted))(examples[:, 0]), examples[:, 3])


def test_the_benchmark_of_the_loop_runs_the_loop_of_the_notebook(monkeypatch):
    monkeypatch.syspath_prepend(paths.root() / "benchmarks")
    import bench_training

    bare, looped = bench_training.loop_cost(2)  # a name that the loop has gained would end it
    assert min(bare, looped) > 0


# ---- what was asked for, and what is watched ----
def test_a_network_gets_what_was_asked_for_and_else_its_own_defaults():
    assert asked.network_settings("unet", {}, channels=None, residual=None) == {"channels": 16, "residual": True}
    assert asked.network_settings("unet", {}, channels=4, residual=False) == {"channels": 4, "residual": False}
    assert asked.network_settings("cnn10", {}, channels=None, residual=None) == {}
    assert asked.network_settings("denomamba", {"dim": 4}, channels=8, residual=None) == {"channels": 8, "dim": 4}
    found = asked.network_settings("dugan", {}, None, {"mean": -500.0, "std": 400.0}, channels=None, residual=None)
    assert {"mean_hu": -500.0, "std_hu": 400.0}.items() <= found.items()
    assert asked.network_settings("cnn10", {}, "hub", channels=None)["mean_hu"] == intensity.EULIG_MEAN_HU


def test_psi_at_its_ends_is_a_loss_of_one_term():
    assert [asked.loss("vgg", None, at) for at in (0.0, 0.5, 1.0)] == ["mse", "vgg", "vgg_only"]
    assert asked.loss("vgg", 0.1, 0.0) == "vgg" and asked.loss("l1", None, 1.0) == "l1"


def test_a_training_ends_by_updates_or_epochs_whichever_comes_first():
    assert [asked.updates(*given, an_epoch=10) for given in ((7, None), (None, 2), (7, 2), (70, 2))] == [7, 20, 7, 20]
    assert asked.updates(0, None, 10, "hub") == 0
    for given in ((None, None), (0, None)):
        with pytest.raises(ValueError, match="give max_steps or epochs, at least 1"):
            asked.updates(*given, 10)


def test_whole_slices_one_hu_off_have_an_error_of_one_hu():
    class OneHU(nn.Module):
        def forward(self, image):
            return image + 1 / intensity.HU_SPAN

    ldct = np.random.default_rng(0).integers(-200, 200, (2, 32, 32)).astype(np.int16)
    found = validation.whole_slices(OneHU(), ldct, ldct, 1, "float32", "cpu")
    assert found["rmse_hu"] == pytest.approx(1, abs=1e-3)
    assert found["psnr"] == pytest.approx(20 * np.log10(4096), abs=0.01) and found["ssim"] > 0.999


def test_the_watch_tells_terms_shares_and_errors_as_they_are_at_the_moment(tiny_cohort):
    loss, cohort = vgg_loss(), cohorts.load(tiny_cohort)
    step, rows = new_step(loss), cohort.rows("val")
    watch = validation.Watch(step, loss, patches.Sampler(cohort, rows, 32, None, 2, 0), cohort, rows, 1, "float32")
    first, ldct, ndct = watch.scores(), watch.patches, watch.wanted[0]
    terms = {name: term.detach().numpy() for name, term in loss.terms(step.network.eval()(ldct), ndct).items()}
    assert first["val_mse"] == pytest.approx(terms["mse"].mean(), rel=1e-5)
    weighted = loss.weights["vgg"] * terms["vgg"].sum()
    assert first["val_psi_ratio_of_sums"] == pytest.approx(weighted / (terms["mse"].sum() + weighted), rel=1e-5)
    assert 0 < first["val_gradient_influence"] < 1 and first == watch.scores()
    loss.weights["vgg"] *= 2
    assert watch.scores()["val_gradient_influence"] > first["val_gradient_influence"]


def test_losses_of_patches_are_those_of_the_ldct_or_of_the_untrained_network(tiny_cohort):
    cohort = cohorts.load(tiny_cohort)
    sampler = [patches.Sampler(cohort, cohort.rows("train"), 32, None, 2, 0) for _ in range(3)]
    step = new_step()
    step.network = networks.build("unet", channels=2)  # without a residual: it begins far from the identity
    own, network = (validation.patch_losses(step, losses.build("mse"), sampler[i], 2, of)
                    for i, of in enumerate(("identity", "untrained")))  # fmt: skip
    ldct, ndct = sampler[2].next()
    assert len(own) == 4 and list(own) == ["mse"]
    assert own.mse[:2].to_numpy() == pytest.approx(((ldct - ndct) ** 2).mean((1, 2, 3)).numpy(), rel=1e-5)
    assert network.mse.min() > 10 * own.mse.max()
