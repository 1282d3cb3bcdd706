"""Structures, their removal, and which metrics notice it."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from ldct_utils import cohorts, metrics, segments
from ldct_utils.ct import intensity
from ldct_utils.structures import removal
from ldct_utils.structures import volumes as structures
from ldct_utils.structures.volumes import Volume, components, remove
from ldct_utils.task_based import observers


def volume(name="V1", shape=(2, 48, 48), discs=((0, 12, 12), (0, 30, 14), (1, 20, 34)), contrast=40.0, radius=4):
    """Soft tissue with a fat part, and lesions on it whose images are known with and without."""
    without = np.full(shape, 40.0, np.float32)
    without[:, :, shape[2] // 2 :] = -90.0
    present, labels = without.copy(), np.zeros(shape, np.int32)
    y, x = np.mgrid[: shape[1], : shape[2]]
    for z, row, column in discs:
        inside = np.hypot(y - row, x - column) <= radius
        present[z][inside] += contrast
        labels[z][inside] = 1
    numbers, table = components(labels)
    return Volume(name, present, numbers, table, (3.0, 0.75, 0.75), without=without)


def flat(size=32, changed=9, error=30.0, name="flat"):
    """A constant image with one structure of a few pixels."""
    numbers = np.zeros((1, size, size), np.int32)
    numbers.ravel()[np.arange(changed) + size * 4 + 4] = 1
    image = (numbers * error).astype(np.float32)
    numbers, table = components(numbers)
    return Volume(name, image, numbers, table, without=np.zeros_like(image))


# Structures


def test_components_touch_by_corners_across_slices():
    labels = np.zeros((3, 6, 6), int)
    labels[0, 1, 1] = labels[1, 2, 2] = labels[2, 3, 3] = 1  # 26-connected: one; 18-connected: three
    numbers, table = components(labels, least=1)
    assert len(table) == 1 and (numbers == labels).all()
    assert table.loc[0, ["voxels", "first_slice", "last_slice"]].tolist() == [3, 0, 2]


def test_touching_labels_stay_apart_and_crumbs_are_no_structures():
    labels = np.zeros((1, 8, 8), int)
    labels[0, :3, :3], labels[0, :3, 3:6], labels[0, 7, 7] = 1, 2, 2
    numbers, table = components(labels, least=5)
    assert table["label"].tolist() == [1, 2] and table["voxels"].tolist() == [9, 9]
    assert numbers[0, 7, 7] == 0


def test_only_large_trees_are_cut_by_slices_and_the_volume_says_so():
    labels = np.zeros((4, 10, 10), int)
    labels[:, 2:5, 2:5] = 1  # a trunk through four slices
    labels[1, 2:5, 7:10] = 1  # a branch, joined ...
    labels[0:2, 3, 3:8] = 1  # ... in slices 0 and 1
    labels[2:, 7:, 7:] = 2
    whole, table = components(labels, trees=(1,), large=1000)
    assert len(table) == 2 and not table["cut"].any()
    cut, table = components(labels, trees=(1,), large=20)
    trunk = table[table["cut"]]
    assert trunk["label"].tolist() == [1] * 4 and (trunk["first_slice"] == trunk["last_slice"]).all()
    assert trunk["voxels"].sum() == (labels == 1).sum() and len(table) == 5
    assert ((cut > 0) == (whole > 0)).all()
    text = Volume("V", np.zeros(labels.shape), cut, table).text
    assert "1 components (26-connectivity) and 4 pieces of trees" in text


def test_components_refuse_what_is_no_label_volume():
    with pytest.raises(ValueError, match=r"integers \(S, H, W\), got float64"):
        components(np.zeros((2, 4, 4)))
    with pytest.raises(ValueError, match=r"got int64 \(4, 4\)"):
        components(np.zeros((4, 4), np.int64))


# Removal


def test_removing_everything_known_gives_the_image_without_lesions():
    one = volume()
    assert (remove(one, 1.0).image == one.without).all()
    assert (remove(one, 0.0).image == one.image).all() and not remove(one, 0.0).mask.any()


def test_a_small_fraction_removes_one_structure_and_leaves_the_others():
    one = volume()
    gone = remove(one, 0.1)
    assert len(gone.structures) == 1
    left = (one.structures > 0) & ~gone.mask
    assert (gone.image[gone.mask] == one.without[gone.mask]).all() and (gone.image[left] == one.image[left]).all()


def test_larger_fractions_remove_the_same_structures_and_more():
    one = volume()
    order = [remove(one, q, seed=3).structures.tolist() for q in (0.1, 0.67, 1.0)]
    assert [len(o) for o in order] == [1, 2, 3]
    assert order[2][:1] == order[0] and order[2][:2] == order[1]
    assert len({tuple(remove(one, 1.0, seed=s).structures) for s in range(20)}) > 1


def test_filling_from_the_background_restores_a_plain_one():
    one = volume()
    filled = remove(one, 1.0, "biharmonic").image
    assert np.abs(filled - one.without)[one.structures > 0].max() < 1e-3
    grown = ndimage.binary_dilation(one.structures > 0, np.ones((1, 3, 3)))
    assert (filled[~grown] == one.image[~grown]).all()


def test_in_painting_follows_a_slope():
    one = volume()
    slope = np.broadcast_to(2 * np.arange(48, dtype=np.float32), one.image.shape)
    sloped = Volume("slope", one.image - one.without + slope, one.structures, one.table, without=slope)
    assert np.abs(remove(sloped, 1.0, "biharmonic").image - slope)[one.structures > 0].mean() < 0.05


def test_removal_refuses_what_it_cannot_do():
    one = volume()
    bare = Volume("bare", one.image, one.structures, one.table)
    with pytest.raises(ValueError, match="not known: take biharmonic"):
        remove(bare, 0.5)
    with pytest.raises(ValueError, match="unknown method 'telea'"):
        remove(one, 0.5, "telea")
    with pytest.raises(ValueError, match=r"lies in \[0, 1\], got 10"):
        remove(one, 10)
    with pytest.raises(ValueError, match="has no structures"):
        remove(Volume("empty", one.image, np.zeros_like(one.structures), one.table.iloc[:0]), 0.5)
    everywhere, table = components(np.ones((1, 8, 8), int))
    with pytest.raises(ValueError, match="no background around it"):
        remove(Volume("full", np.zeros((1, 8, 8), np.float32), everywhere, table), 1.0, "biharmonic")


# True positive fraction


def test_without_noise_every_metric_that_sees_the_change_is_right():
    one = volume(shape=(2, 64, 64))
    names = removal.usable(one)
    assert {"psnr", "ssim", "vifp", "gmsd", "fsim", "haarpsi", "mean_srmse", "max_srmse"} <= set(names)
    assert not {"ms_ssim", "lpips"} & (set(names) - set(metrics.available().query("available")["name"]))
    names = sorted(set(names) - {"noise_sd_hu", "vif"})  # one measures noise, the other sees 16 HU at least
    found = removal.tpf([one], (0.5,), (0.0,), names=names).set_index("metric")["tpf"]
    assert found.eq(1).all() and set(names) | {removal.ORACLE} == set(found.index), found


def test_removing_nothing_is_chance():
    found = removal.tpf(
        [volume(f"V{i}") for i in range(12)], (0.0,), (0.0, 15.0), draws=8, names=["psnr", "ssim", "mean_srmse"]
    )
    still, noisy = (removal.intervals(found[found["sigma"] == s]) for s in (0.0, 15.0))
    assert (still["tpf"] == 0.5).all() and len(still) == 3
    assert ((noisy["low"] < 0.5) & (noisy["high"] > 0.5)).all() and noisy["tpf"].between(0.35, 0.65).all()
    assert (found["removed"] == 0).all() and (found["changed"] == 0).all()


def test_psnr_follows_its_theory_on_white_noise():
    # 3000 draws each, compared all with all; an SD of the TPF of .006 or so.
    one = flat(size=16, changed=9, error=30.0)
    sigmas = (10.0, 15.0, 25.0, 40.0)
    found = removal.tpf([one], (1.0,), sigmas, draws=3000, names=["psnr", "rmse_hu"])
    expected = removal.psnr_theory(256, 9, 30.0, np.array(sigmas))
    assert (np.diff(expected) < 0).all() and expected[0] > 0.9 and expected[-1] < 0.62
    for name in ("psnr", "rmse_hu"):
        assert found.loc[found["metric"] == name, "tpf"].to_numpy() == pytest.approx(expected, abs=0.025)


def test_theory_has_its_known_value_and_limits():
    assert removal.psnr_theory(512**2, 40, 60.0, 20.0) == pytest.approx(0.637, abs=5e-4)
    assert (
        removal.psnr_theory(100, 4, 5.0, 0.0) == 1
        and removal.psnr_theory(100, 0, 0.0, [0.0, 3.0]).tolist() == [0.5] * 2
    )


def test_a_lesion_that_psnr_misses_is_seen_by_srmse_and_best_by_the_oracle():
    lesions = tuple((0, r, c) for r in (14, 40, 66) for c in (12, 34))
    cases = [volume(f"V{i}", (1, 80, 96), lesions, radius=6) for i in range(6)]
    found = removal.tpf(cases, (0.1,), (40.0,), draws=6, names=["psnr", "mean_srmse"])
    mean = found.groupby("metric")["tpf"].mean()
    assert mean["psnr"] + 0.1 < mean["mean_srmse"] <= mean[removal.ORACLE] and mean[removal.ORACLE] > 0.98


def test_segments_come_from_the_clean_volume_and_not_from_the_removal():
    one, seen = volume(), []

    def regions(image):
        seen.append(image.copy())
        return np.where(image > 60, 1, 2)

    found = removal.tpf([one], (0.1, 1.0), (0.0, 5.0), names=["psnr"], regions={"two": regions})
    assert len(seen) == 1 and (seen[0] == one.image).all()
    assert {"mean_srmse (two)", "max_srmse (two)", removal.ORACLE, "psnr"} == set(found["metric"])


def test_srmse_of_a_volume_is_over_all_its_segments():
    one = volume(discs=((0, 12, 12), (1, 30, 14)), contrast=80, radius=5)
    labels = removal.over_segments(one.image)
    first, second = (set(np.unique(part)) - {0} for part in labels)
    assert first and second and not first & second
    pred = one.image + np.random.default_rng(0).normal(0, 20, one.image.shape).astype(np.float32)
    score = removal._scorer(one, ["mean_srmse", "max_srmse"], intensity.domain("hu"), {}, "cpu")
    found = score(pred, 0.0, np.zeros((1, *pred.shape), np.float32))
    assert found["mean_srmse"][0] == pytest.approx(segments.mean_srmse(pred, one.image, labels), rel=1e-6)
    assert found["max_srmse"][0] == pytest.approx(segments.max_srmse(pred, one.image, labels), rel=1e-6)


def test_psnr_of_a_volume_is_that_of_all_its_voxels():
    one = volume()
    score = removal._scorer(one, ["psnr", "rmse_hu"], intensity.domain("hu"), {}, "cpu")
    found = score(one.without, 0.0, np.zeros((1, *one.image.shape), np.float32))
    mse = np.square(one.without - one.image).mean()
    assert found["rmse_hu"][0] == pytest.approx(np.sqrt(mse)) and found["psnr"][0] == pytest.approx(
        20 * np.log10(4096) - 10 * np.log10(mse)
    )


def test_a_volume_has_the_same_numbers_whatever_stands_beside_it():
    cases = [volume("A"), volume("B")]
    full = removal.tpf(cases, (0.1, 1.0), (5.0, 60.0), draws=3, names=["psnr", "ssim"], seed=4)
    part = removal.tpf(cases[1:], (1.0,), (60.0,), draws=3, names=["psnr"], seed=4)
    both = part.merge(full, on=["volume", "q", "sigma", "metric"])
    assert (both["tpf_x"] == both["tpf_y"]).all() and len(both) == 2
    again = removal.tpf(cases, (0.1, 1.0), (5.0, 60.0), draws=3, names=["psnr", "ssim"], seed=4)
    pd.testing.assert_frame_equal(full, again)
    a, b = (removal._noise(one, 1, 4, removal._BASELINE) for one in cases)
    assert (a != b).any() and (removal._noise(cases[0], 1, 4, 100_000) != a).any()


def test_ties_count_one_half_and_directions_are_obeyed():
    assert removal.judged([1.0], [1.0], 1) == 0.5 and removal.judged([np.inf], [np.inf], 1) == 0.5
    assert removal.judged([30.0], [20.0], 1) == 1 and removal.judged([30.0], [20.0], -1) == 0
    assert removal.judged([0.5], [-3.0], 0) == 1  # bias: the further from 0 the worse
    assert removal.judged([1.0, 2.0], [1.0, 3.0], -1) == (0.5 + 0 + 1 + 1) / 4
    assert np.isnan(removal.judged([1.0], [np.nan], 1))


def test_the_fraction_of_pairs_is_the_area_under_the_roc_curve():
    rng = np.random.default_rng(0)
    for whole, worse in zip(rng.integers(0, 5, (20, 3)), rng.integers(0, 5, (20, 7))):
        assert removal.judged(whole, worse, -1) == pytest.approx(observers.auc(whole, worse), rel=1e-14)


def test_intervals_need_six_volumes_and_leave_out_what_has_no_number():
    values = np.linspace(0.4, 1, 7)
    table = pd.DataFrame({"volume": range(7), "q": 0.1, "sigma": 5.0, "metric": "psnr", "tpf": values})
    (row,) = removal.intervals(table).to_dict("records")
    assert row["tpf"] == pytest.approx(values.mean()) and row["low"] < row["tpf"] < row["high"] and row["volumes"] == 7
    table.loc[:1, "tpf"] = np.nan
    (row,) = removal.intervals(table).to_dict("records")
    assert row["volumes"] == 5 and np.isnan(row["low"])


def test_where_all_volumes_agree_the_interval_is_exact_and_has_a_width():
    table = pd.DataFrame({"volume": range(6), "q": 0.1, "sigma": 5.0, "metric": "psnr", "tpf": 1.0})
    (row,) = removal.intervals(table).to_dict("records")
    assert row["exact"] and row["high"] == 1 and row["low"] == pytest.approx(0.025 ** (1 / 6))  # .54
    (row,) = removal.intervals(table.assign(tpf=0.0)).to_dict("records")
    assert row["low"] == 0 and row["high"] == pytest.approx(1 - 0.025 ** (1 / 6))
    table.loc[0, "tpf"] = 0.5
    assert not removal.intervals(table)["exact"].any()


def test_amounts_say_what_was_removed_and_not_what_q_asked_for():
    volumes = [volume("A"), volume("B", discs=((0, 12, 12), (1, 20, 34)))]
    found = removal.tpf(volumes, (0.1, 1.0), (0.0, 5.0), draws=1, names=["psnr", "mean_srmse"]).assign(cohort="discs")
    tenth, whole = removal.amounts(found).to_dict("records")
    assert (tenth["removed"], tenth["structures"], whole["removed"]) == (2, 5, 5)
    assert tenth["text"].startswith("2 of 5 structures (40 %; 1 of 2 to 3 a volume)")
    assert f"% of the voxels ({removal.beside_talk(tenth['share'])}), which" in tenth["text"]
    assert whole["text"].startswith("5 of 5 structures (100 %; 2 to 3 of 2 to 3 a volume)")
    pixels = sum(v.image.size for v in volumes)
    assert whole["share"] == pytest.approx(sum((v.image != v.without).sum() for v in volumes) / pixels)
    assert whole["error"] == pytest.approx(40)


@pytest.mark.parametrize(
    ("share", "said"),
    [
        (0.0042, "14 to 63 times the talk's share"),  # 70 to 310 of the talk's 1.05 million voxels
        (0.0005, "1.7 to 7.5 times the talk's share"),
        (0.00016, "as in the talk"),
        (0.00001, "less than in the talk"),
        (0.0, "none, where the talk removed some"),
    ],
)
def test_the_share_that_was_removed_is_held_against_that_of_the_talk(share, said):
    assert removal.beside_talk(share) == said


def test_what_is_noticed_is_said_for_each_cohort_and_q():
    rows = [
        (cohort, q, sigma, tpf, low)
        for cohort, q, last in (("lung", 0.1, 0.4), ("lung", 0.5, 0.6), ("liver", 0.1, np.nan))
        for sigma, tpf, low in ((40.0, 0.7, last), (0.0, 1.0, 0.54))
    ]
    spans = pd.DataFrame(rows, columns=["cohort", "q", "sigma", "tpf", "low"]).assign(metric="mean_srmse")
    found = removal.noticed(spans).set_index(["cohort", "q"])
    assert found.loc[("lung", 0.1), ["seen", "lost"]].tolist() == [[0], [40]]
    assert found.loc[("lung", 0.5), ["seen", "lost"]].tolist() == [[0, 40], []]
    assert found.loc[("liver", 0.1), "lost"] == [40]  # no interval, and .7 is not sure


def test_slices_are_stacked_by_series_and_only_where_they_touch():
    about = pd.DataFrame({
        "row": range(9), "patient": ["A"] * 6 + ["B"] * 3, "series": ["s"] * 4 + ["t"] * 2 + ["s"] * 3,
        "z_mm": [6.0, 0.0, 3.0, 12.0, 0.0, 30.0, np.nan, np.nan, np.nan], "thickness_mm": [3.0] * 6 + [np.nan] * 3,
    })  # fmt: skip
    assert structures.stacks(about) == [[1, 2, 0], [3], [4], [5], [6], [7], [8]]
    assert structures.stacks(about.iloc[:1]) == [[0]]
    assert structures.stacks(about.iloc[:3].assign(z_mm=[0.0, 3.0, 3.0])) == [[0, 1], [2]]  # twice the same place


def test_the_experiment_refuses_illegal_arguments():
    one = volume()
    with pytest.raises(ValueError, match="need a fraction, a sigma and a draw"):
        removal.tpf([one], sigmas=())
    with pytest.raises(ValueError, match="SD >= 0, got -1"):
        removal.tpf([one], sigmas=(-1,))
    with pytest.raises(ValueError, match="piqe take no reference"):
        removal.tpf([one], names=["psnr", "piqe"])
    with pytest.raises(ValueError, match="two volumes are called 'V1'"):
        removal.tpf([one, one], sigmas=(0.0,), names=["psnr"])
    with pytest.raises(ValueError, match="there is no volume"):
        removal.tpf([])


def test_volumes_of_a_cohort_hold_its_lesions_and_the_image_without_them(outputs):
    cohort = cohorts.get(patients=1, slices=1, size=128, anatomy="chest", split="test", progress=False)
    for image in ("truth", "ndct"):
        for one in structures.from_cohort(cohort, "test", image):
            row = cohort.slices.query("patient == @one.name")["row"].to_numpy()
            assert (remove(one, 1.0).image == getattr(cohort, f"absent_{image}")[row]).all()
            assert ((one.structures > 0) <= (cohort.lesion_masks[row] > 0)).all() and one.unit == "HU"
            away = ndimage.distance_transform_edt(one.structures[0] == 0) > 40
            assert np.abs(one.image - one.without)[0][away].max() <= 1  # rounding
    with pytest.raises(ValueError, match="image is truth or ndct"):
        structures.from_cohort(cohort, "test", "ldct")
    with pytest.raises(ValueError, match="no patient of the split train"):
        structures.from_cohort(cohort, "train")


def test_a_cohort_without_lesion_masks_is_refused(tiny_cohort):
    with pytest.raises(ValueError, match="has no lesion masks"):
        structures.from_cohort(cohorts.load(tiny_cohort))


# PSNR against its theory, and volumes with many small lesions


def test_psnr_is_right_as_often_as_theory_says_and_a_wrong_theory_is_seen(monkeypatch):
    one = flat(size=48, changed=40)
    found = removal.against_theory(one, 1.0, draws=400)
    assert found["theory"] == pytest.approx(0.75, abs=1e-6) and found["p"] >= 0.001
    right = removal.psnr_theory
    monkeypatch.setattr(removal, "psnr_theory", lambda n, k, e, s: right(n, k, e, np.asarray(s) * 0.7))
    assert removal.against_theory(one, 1.0, draws=400)["p"] < 0.001


def test_the_spread_of_an_area_is_that_of_simulated_ones():
    rng, area, n = np.random.default_rng(0), 0.75, 50
    d = np.sqrt(2) * 0.6744897501960817  # Phi(.674) = .75
    found = [removal.judged(rng.normal(0, 1, n), rng.normal(d, 1, n), -1) for _ in range(3000)]
    assert np.mean(found) == pytest.approx(area, abs=0.005)
    assert np.std(found) == pytest.approx(removal.area_sd(area, n), rel=0.05)


def test_the_talks_share_has_its_theory():
    theory = removal.psnr_theory(16 * 256**2, 150, 40.0, [10.0, 20.0, 40.0])
    np.testing.assert_allclose(theory, [0.88, 0.62, 0.53], atol=0.006)


def test_small_lesions_take_the_place_of_a_patients_own():
    clean = np.full((16, 96, 96), 50, np.float32)
    own = Volume("V", clean.copy(), np.zeros(clean.shape, np.int32), pd.DataFrame({"structure": []}), without=clean)
    made = structures.with_small_lesions(own, 10)
    low, high = structures.SMALL_VOXELS
    assert len(made.table) == 10 and made.table["voxels"].between(0.8 * low, 1.2 * high).all()
    changed = made.image != clean
    np.testing.assert_array_equal(changed, made.structures > 0)
    np.testing.assert_allclose(np.abs(made.image - clean)[changed], structures.SMALL_HU)
    one = remove(made, 0.1)
    assert len(one.structures) == 1 and (one.image == clean).sum() > (made.image == clean).sum()
    tiny = Volume("T", clean[:, :8, :8], own.structures[:, :8, :8], own.table, without=clean[:, :8, :8])
    assert structures.with_small_lesions(tiny, 10) is None


def test_up_to_where_a_removal_is_noticed_without_a_gap():
    rows = [("lung", 0.1, sigma, "psnr", tpf, low) for sigma, tpf, low in
            ((0.0, 1.0, 0.6), (5.0, 0.9, 0.7), (10.0, 0.6, 0.4), (20.0, 0.9, 0.7))]  # fmt: skip
    spans = pd.DataFrame(rows, columns=["cohort", "q", "sigma", "metric", "tpf", "low"])
    spans = spans.assign(high=1.0, volumes=9)
    assert removal.noticed_up_to(spans, "psnr") == 5  # that of 20 HU is luck
    assert np.isnan(removal.noticed_up_to(spans.assign(low=0.1), "psnr"))
    assert removal.noticed_up_to(spans.assign(low=0.6), "psnr") == 20
    assert removal.limits(spans, ("psnr", "ssim")) == {"PSNR": 5}
    with pytest.raises(ValueError, match="one cohort"):
        removal.noticed_up_to(pd.concat([spans, spans.assign(q=0.5)]), "psnr")
    wide = removal.in_words(spans, {"psnr": "PSNR"})
    assert wide["PSNR"].tolist()[:2] == ["1.00 [0.6, 1]", "0.90 [0.7, 1]"]
    assert removal.in_words(spans.assign(low=np.nan), {"psnr": "PSNR"})["PSNR"][0] == "1.00 –"


def test_sets_of_volumes_are_scored_and_psnr_stands_beside_its_theory():
    sets = {"discs": (lambda: iter([volume("A"), volume("B")]), "known")}
    found = removal.of_sets(sets, fractions=(1.0,), sigmas=(0.0, 5.0), draws=2, names=["psnr"])
    assert set(found.cohort) == {"discs"} and found.what.str.contains("components").all()
    spans = removal.by_cohort(found, 100)
    theory = removal.beside_theory(found, spans)
    assert theory.sigma.tolist() == [0, 5] and theory.theory[0] == 1 and theory.gap[0] == 0
    assert removal.sees_all_without_noise(found) and not removal.sees_all_without_noise(found.assign(tpf=0.5))
    numbers = removal.numbers(removal.amounts(found), spans, theory)
    first = removal.first_of(removal.amounts(found), spans)
    assert (first.cohort, first.q) == tuple(spans.loc[0, ["cohort", "q"]])
    assert numbers["removed"][0]["structures"] == len(volume("A").table) * 2
    assert numbers["psnr_off_theory"] == theory.gap.max() and numbers["mean_srmse"] == []


def test_only_what_is_known_can_be_removed():
    unknown = SimpleNamespace(lesion_masks=None, meta={"source": "npy"})
    assert removal.sets(unknown, None, 6, 16, 0, 16, 0) == {}
    (name,) = removal.sets(unknown, "data/Task06_Lung", 6, 16, 0, 16, 0)
    assert name == "Task06_Lung"
