"""Finding planted structures: ROC and FROC with intervals over patients, scans again without lesions."""

import numpy as np
import pandas as pd
import pytest

from ldct_utils import cohorts, segments
from ldct_utils.cohorts import simulated
from ldct_utils.stats import intervals
from ldct_utils.structures import froc, hallucinations
from ldct_utils.task_based import observers

SMALL = {"patients": 2, "slices": 1, "size": 96, "anatomy": "head", "progress": False}


# ---- ROC and FROC ----
def marked(rng, patients=8, images=2, size=40):
    """Segments of planted slices, three structures each of which the third is shown by none; patients differ."""
    rows, slices = [], []
    for number in range(patients):
        for image in range(images):
            structure = np.where(np.arange(size) < 5, [1, 1, 2, 2, -1] + [0] * (size - 5), 0)
            score = np.round(rng.standard_normal(size) + (structure > 0) * rng.uniform(0, 2.5), 1)
            rows.append(pd.DataFrame({"patient": number, "image": 10 * number + image, "score": score,
                                      "structure": structure}))  # fmt: skip
            slices.append({"patient": number, "image": 10 * number + image, "structures": 3})
    return pd.concat(rows, ignore_index=True), pd.DataFrame(slices)


def test_the_roc_has_the_area_that_pairs_say():
    table, slices = marked(np.random.default_rng(0))
    found = froc.curves(table, slices, np.linspace(0, 1, 11), [1.0], draws=20)
    positive, negative = table.score[table.structure > 0], table.score[table.structure == 0]
    assert found.y[0] == pytest.approx(observers.auc(negative, positive))
    roc = found[found.curve == "roc"]
    assert roc.y.iloc[-1] == 1 and (roc.y.diff().dropna() >= 0).all()
    for x, y in zip(roc.x[1:-1], roc.y[1:-1]):  # the lowest threshold that keeps the false positives at x or under
        threshold = min(t for t in table.score.unique() if (negative >= t).mean() <= x)
        assert y == pytest.approx((positive >= threshold).mean())


def test_the_froc_counts_each_structure_once_and_missed_ones_too():
    table = pd.DataFrame(
        {"patient": 0, "image": [0, 0, 0, 1, 1], "score": [9.0, 8, 7, 6, 5], "structure": [1, 1, 0, 0, 1]}
    )
    slices = pd.DataFrame({"patient": [0, 0], "image": [0, 1], "structures": [1, 2]})  # one that no segment shows
    found = froc.curves(table, slices, [], [0.0, 0.4, 0.5, 1.0, 9.0])
    assert found.y[1:].tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3, 2 / 3, 2 / 3])
    assert found.low.isna().all()  # one patient
    with pytest.raises(ValueError, match="need a planted structure, got none; images: 2"):
        froc.curves(table, slices.assign(structures=0), [], [1.0])


def test_an_image_without_segments_counts_as_an_image():
    table, slices = marked(np.random.default_rng(1), patients=2)
    more = pd.concat([slices, pd.DataFrame([{"patient": 0, "image": 999, "structures": 3}] * 4)])
    few, many = (froc.curves(table, each, [], [1.0]).y.iloc[-1] for each in (slices, more))
    assert many <= few / 2 * 1.2


def test_intervals_are_those_of_drawing_whole_patients():
    table, slices = marked(np.random.default_rng(2))
    found = froc.curves(table, slices, [0.2], [1.0], draws=400, seed=3)
    drawn = []
    for weight in np.random.default_rng(3).multinomial(8, np.full(8, 1 / 8), size=40):  # by hand
        parts = [(table[table.patient == i], slices[slices.patient == i]) for i in np.repeat(np.arange(8), weight)]
        again = [pd.concat([part[k].assign(patient=n, image=lambda t, n=n: t.image + 1000 * n)
                            for n, part in enumerate(parts)]) for k in (0, 1)]  # fmt: skip
        drawn.append(froc.curves(*again, [0.2], [1.0], draws=1).y.to_numpy())
    again = froc.curves(table, slices, [0.2], [1.0], draws=40, seed=3)
    tail = intervals.expanded_tail(8)
    expected = np.quantile(drawn, [tail, 1 - tail], axis=0)
    np.testing.assert_allclose(again[["low", "high"]].to_numpy().T, expected)
    assert (found.low < found.y).all() and (found.y < found.high).all()


# ---- what is commonly taken for a change ----
def test_the_naive_score_is_the_mean_over_its_error_and_the_rmse():
    rng = np.random.default_rng(0)
    ldct, regions = rng.normal(0, 20, (30, 30)), np.zeros((30, 30), int)
    regions[:5, :5], regions[10:20, 10:20] = 1, 2
    pred = np.where(regions == 2, ldct + 7, 0.9 * ldct)
    found = hallucinations.naive(ldct, pred, regions)
    change = (pred - ldct)[regions == 1]
    assert found["naive_z"][0] == pytest.approx(change.mean() / (change.std() / 5))
    np.testing.assert_allclose(found["srmse_hu"], segments.srmse(ldct, pred, regions))
    assert found["srmse_hu"][1] == pytest.approx(7)
    assert not hallucinations.naive(ldct, ldct, regions)[["naive_z", "srmse_hu"]].to_numpy().any()


def test_what_is_tolerated_takes_edges_off_the_list_and_leaves_a_lost_structure_on_it():
    labels, spectrum = np.zeros((64, 64), int), np.full((32, 32), 4.0)
    labels[8:24, 8:24], labels[36:52, 36:52] = 1, 2
    truth = np.where(labels == 1, 400.0, np.where(labels == 2, 20.0, 0.0))
    pred = np.where(labels == 1, 380.0, 0.0)  # 5 % of the strong one, all of the faint one
    strict, lenient = (
        hallucinations.score(truth, pred, labels, spectrum, 1.0, local=False, tolerated=share) for share in (0.0, 0.1)
    )
    np.testing.assert_array_equal(strict["change_hu"], lenient["change_hu"])
    assert strict["z"].abs().min() > 30 and strict["z"].tolist()[0] == pytest.approx(strict["z"].tolist()[1])
    assert lenient["z"].tolist() == pytest.approx(
        [-20 / np.hypot(strict["sd_hu"][0], 40), -20 / np.hypot(strict["sd_hu"][1], 2)]
    )


# ---- lesion-free scans ----
@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LDCT_OUTPUTS", str(tmp_path_factory.mktemp("outputs")))
        yield cohorts.get(**SMALL)


def test_a_slice_scanned_again_has_no_lesions_and_new_noise_of_the_same_strength(cohort):
    row = 1
    found = hallucinations.lesion_free(cohort, row, 4, seed=5)
    assert found["ldct"].shape == (4, 96, 96) and found["truth"].dtype == np.int16
    body = simulated.patient_again(cohort, cohort.slices.patient[row])[0]
    assert np.abs(found["truth"].astype(int) - cohort.absent_truth[row]).max() <= 1
    assert (cohort.lesion_masks[row] > 0).any() and np.ptp(body.scene[0] - body.absent_scene[0]) > 1
    for name in ("ldct", "ndct"):
        noise = found[name].astype(float) - found["truth"]
        stored = getattr(cohort, f"absent_{name}")[row].astype(float) - cohort.absent_truth[row]
        assert noise.std() == pytest.approx(stored.std(), rel=0.1)
        assert abs(np.corrcoef([*noise.reshape(4, -1), stored.ravel()]) - np.eye(5)).max() < 0.1
    both = (found["ldct"].astype(float) - found["ndct"]), found["ndct"].astype(float) - found["truth"]
    assert both[0].std() / both[1].std() == pytest.approx(3**0.5, rel=0.05)  # the LDCT holds the NDCT's own noise


def test_lesion_free_scans_come_in_pairs(cohort):
    with pytest.raises(ValueError, match="an even number, not 3"):
        hallucinations.lesion_free(cohort, 0, 3, 0)


# ---- segments ----
def test_overlapping_masks_become_a_label_map_with_the_smallest_on_top():
    masks = np.zeros((3, 6, 6), bool)
    masks[0, 2:4, 2:4], masks[1, :, :], masks[2, 1:5, 1:5] = True, True, True
    labels = segments.flat(masks)
    assert (labels[2:4, 2:4] == 1).all() and labels[0, 0] == 2 and labels[1, 1] == 3
    assert segments.flat(labels) is labels and segments.link(np.stack([labels, labels])).max() == 3


def test_what_is_left_out_is_counted_by_rule():
    image = np.full((96, 96), -1000.0)
    image[16:80, 16:80] = 40.0
    image[30:40, 30:40] = 90.0
    image[88:94, 10:60] = 200.0  # the table
    rng = np.random.default_rng(0)
    image += rng.normal(0, 5, image.shape)
    none = {"min_area": 1, "max_share": np.inf, "min_inside": 0}
    every = segments.segment(image, **none)
    assert not any(every.left_out.values())
    for rule, name, strict in (
        ("min_area", "small", 150),
        ("max_share", "large", 0.5),
        ("min_inside", "background", 0.5),
    ):
        found = segments.segment(image, **none | {rule: strict})
        assert found.left_out[name] >= 1 and sum(found.left_out.values()) == found.left_out[name]
        assert len(found) + found.left_out[name] == len(every)
    found = segments.segment(image, min_area=150)  # each is counted once, whatever rules it breaks
    assert len(found) + sum(found.left_out.values()) == len(every)
