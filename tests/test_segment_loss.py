"""The loss over structures: the metric it stands for, its gradient, crops of its labels, and a resumed training."""

import numpy as np
import pytest
import torch
from conftest import write_tiny_cohort
from states import same_state

from ldct_utils import cohorts, segments
from ldct_utils.cohorts import patches
from ldct_utils.ct import intensity
from ldct_utils.models import networks
from ldct_utils.task_based import ensembles
from ldct_utils.training import checkpoints, losses, setup
from ldct_utils.training.history import History
from ldct_utils.training.methods.supervised import Supervised


@pytest.fixture(autouse=True)
def one_thread():
    setup.seed_everything(0, 1)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return cohorts.load(write_tiny_cohort(tmp_path_factory.mktemp("cohort") / "simulated-00000000"))


@pytest.fixture(scope="module")
def labels(cohort):
    return segments.label_maps(cohort.ndct, cohort.rows("train"))


def new_step(loss="mean_srmse", seed=0, **more):
    torch.manual_seed(seed)
    return Supervised(networks.build("unet", channels=2, residual=True), losses.build(loss), 1e-3, **more)


def sampler_of(cohort, labels, patch=32, batch=4, seed=0, **more):
    return patches.Sampler(
        cohort, cohort.rows("train"), patch, more.pop("skip", None), batch, seed, labels=labels, **more
    )


# ---- the term ----
def test_on_whole_slices_the_term_is_the_metric_in_network_range(cohort, labels):
    rows = cohort.rows("train")
    pair = [intensity.to_net(torch.from_numpy(np.asarray(images[rows], np.float32)))[:, None]
            for images in (cohort.ldct, cohort.ndct)]  # fmt: skip
    maps = torch.from_numpy(np.stack([labels[row] for row in rows]).astype(np.int32))[:, None]
    found = losses.build("mean_srmse").terms(*pair, maps)["mean_srmse"]
    expected = [segments.mean_srmse(cohort.ldct[row], cohort.ndct[row], labels[row].astype(int)) for row in rows]
    assert np.allclose(found * intensity.HU_SPAN, expected, rtol=1e-4) and min(expected) > 5


def test_one_structure_over_the_whole_patch_is_the_root_of_the_mse():
    pred, target = torch.rand(2, 3, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    terms = losses.build("mse + mean_srmse").terms(pred, target, torch.ones(3, 1, 16, 16, dtype=torch.int32))
    assert torch.allclose(terms["mean_srmse"], terms["mse"].sqrt())


def test_its_gradient_is_error_over_rmse_pixels_and_structures_however_small_the_error():
    maps = torch.zeros(1, 1, 16, 16, dtype=torch.int32)
    maps[..., :8, :], maps[..., 8:, :8] = 1, 4
    error = torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for size in (1.0, 1e-12):
        pred = (size * error).requires_grad_(True)
        losses.build("mean_srmse").terms(pred, torch.zeros_like(error), maps)["mean_srmse"].sum().backward()
        by_hand = torch.zeros_like(error)
        for label in (1, 4):
            inside = maps == label
            by_hand[inside] = error[inside] / (error[inside].square().mean().sqrt() * inside.sum() * 2)
        assert torch.allclose(pred.grad, by_hand, rtol=1e-4) and not pred.grad[..., 8:, 8:].any()


def test_where_nothing_is_wrong_or_no_structure_lies_the_gradient_is_zero_and_the_term_too():
    target = torch.rand(3, 1, 16, 16)
    maps = torch.zeros(3, 1, 16, 16, dtype=torch.int32)
    maps[0], maps[1, :, :4, :4] = 1, 2  # the second: 16 pixels, what a border left of a structure
    pred = torch.cat([target[:1], target[1:] + 0.1]).requires_grad_(True)
    terms = losses.build("mean_srmse").terms(pred, target, maps)["mean_srmse"]
    terms.sum().backward()
    assert not terms.any() and not pred.grad.any()


def test_a_loss_over_structures_says_that_it_needs_them():
    assert losses.build("mse + 0.01*mean_srmse").needs_labels and not losses.build("mse + l1").needs_labels
    with pytest.raises(ValueError, match=r"'mean_srmse' needs labels=.*label_maps.*Sampler"):
        losses.build("mean_srmse").terms(torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8))
    with pytest.raises(ValueError, match=r"no loss 'srmse'.*mean_srmse"):
        losses.build("srmse")


# ---- label maps and their crops ----
def test_label_maps_are_those_of_the_slices_and_come_out_alike_again(cohort, labels):
    rows, seen = cohort.rows("train"), []
    again = segments.label_maps(cohort.ndct, rows, lambda rows: seen.extend(rows) or rows)
    assert seen == list(again) == list(labels) == rows.tolist()
    for row in rows:
        assert np.array_equal(labels[row], segments.segment(np.asarray(cohort.ndct[row], np.float32)).regions)
        assert np.array_equal(labels[row], again[row]) and labels[row].dtype == np.uint16 and labels[row].max() > 1


def test_slices_without_any_structure_are_refused():
    with pytest.raises(ValueError, match=r"no slice .2 in all. shows a structure.*take another loss"):
        segments.label_maps(np.full((2, 48, 48), -1000, np.int16), [0, 1])


@pytest.mark.parametrize("skip", [None, 24])
@pytest.mark.parametrize("sampling", ["slices", "patients"])
def test_labels_are_cropped_where_the_images_are(cohort, skip, sampling):
    if skip and sampling == "patients":
        return
    # a label map that is the NDCT itself, shifted to be positive, must come out as the NDCT does, pixel by pixel
    own = {row: (cohort.ndct[row].astype(np.int32) + 1025).astype(np.uint16) for row in cohort.rows("train")}
    sampler = sampler_of(cohort, own, 24, 3, skip=skip, sampling=sampling)
    for _ in range(2 * len(sampler)):
        _, ndct, regions = sampler.next()
        assert regions.shape == ndct.shape and regions.dtype == torch.int32
        assert torch.equal(intensity.from_net(ndct).round().int(), regions - 1025)


def test_images_and_their_order_are_the_same_with_labels_and_without(cohort, labels):
    with_them, plain = sampler_of(cohort, labels), sampler_of(cohort, None)
    for _ in range(5):
        (a, b, _), pair = with_them.next(), plain.next()
        assert len(pair) == 2 and torch.equal(a, pair[0]) and torch.equal(b, pair[1])
    assert with_them.state_dict() == plain.state_dict()


# ---- training ----
def test_a_loss_without_structures_is_trained_to_the_same_bits_as_by_plain_torch(cohort):
    step, sampler = new_step("mse"), sampler_of(cohort, None)
    torch.manual_seed(0)
    plain = networks.build("unet", channels=2, residual=True).to(memory_format=torch.channels_last)
    adam = torch.optim.Adam([{"params": list(plain.parameters())}], 1e-3, eps=1e-12, fused=True)
    for _ in range(4):
        ldct, ndct = sampler.next()
        step.update(ldct, ndct)
        adam.zero_grad()
        ((plain(ldct) - ndct).square().flatten(1).mean(1).sum() / len(ldct)).backward()
        adam.step()
    assert same_state(dict(step.network.state_dict()), dict(plain.state_dict()))


@pytest.mark.parametrize("loss", ["mean_srmse", "mse + 0.005*mean_srmse"])
def test_training_lowers_the_term(cohort, labels, loss):
    step, images, history = new_step(loss), sampler_of(cohort, labels).next(), History(4)
    step.lr = 1e-2
    for done in range(1, 41):
        history.add(done, step.update(*images))
        if done % 10 == 0:
            history.row(step.weights, step.lr)
    table = history.table()
    assert table.mean_srmse.iloc[-1] < 0.95 * table.mean_srmse.iloc[0]
    assert np.allclose(table.total, sum(weight * table[name] for name, weight in step.weights.items()))


def test_a_batch_in_parts_gives_the_update_of_the_whole_batch(cohort, labels):
    images = sampler_of(cohort, labels, batch=6).next()
    whole, parts = (new_step(accumulate=n, eps=1e-4) for n in (1, 3))  # eps: else a rounding's sign would count
    terms = [step.update(*images)["mean_srmse"] for step in (whole, parts)]
    assert torch.allclose(*terms, rtol=1e-6)
    for a, b in zip(whole.network.parameters(), parts.network.parameters()):
        assert torch.allclose(a, b, atol=1e-6)


def test_under_bf16_the_term_stays_float32_and_close(cohort, labels):
    images = sampler_of(cohort, labels).next()
    exact, rounded = (new_step(precision=p).update(*images)["mean_srmse"] for p in ("float32", "bf16"))
    assert rounded.dtype == torch.float32 and torch.allclose(exact, rounded, rtol=0.05)


def test_memory_is_counted_with_the_labels(cohort, labels):
    step = new_step("mse + mean_srmse")
    before = {name: value.clone() for name, value in step.network.state_dict().items()}
    assert setup.check_memory(step, 32, 4) > setup.check_memory(new_step("mse"), 32, 4)
    assert same_state(dict(step.network.state_dict()), before)


def test_a_resumed_training_goes_on_to_the_same_bits(cohort, labels, tmp_path):
    def begin(maps):
        return {"step": new_step("mse + 0.005*mean_srmse"), "sampler": sampler_of(cohort, maps),
                "history": History(4)}  # fmt: skip

    def go_on(parts, numbers):
        for number in numbers:
            parts["history"].add(number, parts["step"].update(*parts["sampler"].next()))
            parts["history"].row(parts["step"].weights, 1e-3)

    whole = begin(labels)
    go_on(whole, range(1, 9))
    first = begin(labels)
    go_on(first, range(1, 4))
    checkpoints.save(tmp_path, "0123abcd", 3, **first)
    second = begin(segments.label_maps(cohort.ndct, cohort.rows("train")))  # after a kill they are made again
    assert checkpoints.resume(tmp_path, "0123abcd", **second) == 3
    go_on(second, range(4, 9))
    assert same_state(whole["step"].state_dict(), second["step"].state_dict())
    clock = ["seconds", "patches_per_s"]
    assert whole["history"].table().drop(columns=clock).equals(second["history"].table().drop(columns=clock))


# ---- what it is judged by ----
def test_lesion_scores_of_known_denoisers():
    lesions = (ensembles.Lesion(4.0, -20.0),)
    given = {"FBP": lambda hu: hu, "halved": lambda hu: 50 + 0.5 * hu}
    table = ensembles.lesion_scores(given, lesions, 1, realisations=24, size=64, region=25)
    by = table.set_index("name")
    assert len(table) == 2 and np.allclose(by.kept, [1, 0.5], atol=1e-4)
    assert np.allclose(by.true_hu, -20, rtol=0.15) and by.found_hu["halved"] == pytest.approx(
        by.true_hu["halved"] / 2, rel=1e-3
    )
    for observer in ("d_cho", "d_npw"):  # a factor on the image changes no observer's decisions
        assert by[observer]["FBP"] == pytest.approx(by[observer]["halved"], rel=1e-3) and by[observer]["FBP"] > 1
