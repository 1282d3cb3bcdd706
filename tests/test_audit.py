"""The audit of metrics: what is built into made-up scores is found, and harm does to d' what it must."""

import itertools
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from ldct_utils.audit import reactions, scoring
from ldct_utils.ct import intensity
from ldct_utils.ct.degradations import DEGRADATIONS, degrade
from ldct_utils.metrics import info
from ldct_utils.report.drawings import damage
from ldct_utils.task_based import ensembles

PATIENTS = range(8)


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    ndct = rng.normal(40, 10, (3, 64, 64)).astype(np.float32)
    return ndct + rng.normal(0, 20, ndct.shape).astype(np.float32), ndct


def test_every_slice_is_harmed_with_its_own_pixel_size_and_artefacts(images):
    sizes = [0.5, 0.75, 1.0]
    blurred = reactions.harm("blur", images[1], 0.8, sizes, 0)
    for one, image, size in zip(blurred, images[1], sizes):
        np.testing.assert_array_equal(one, degrade("blur", image[None], 0.8, size)[0])
    added = reactions.harm("texture", images[1], 5.0, [0.75] * 3, 3) - images[1]
    assert abs(np.corrcoef(added[0].ravel(), added[1].ravel())[0, 1]) < 0.1
    lesion = np.zeros_like(images[1])
    lesion[1] = 7
    changed = reactions.harm("lesion_removed", images[1], 1.0, sizes, 0, lesion) - images[1]
    np.testing.assert_allclose(changed.mean((1, 2)), [0, -7, 0], atol=1e-4)


def test_controls_are_ldct_ndct_a_tenth_of_the_noise_and_a_blur_where_pixels_have_a_size(images):
    ldct, ndct = images
    found = reactions.controls(ldct, ndct, pd.Series([0.75] * 3))
    assert list(found) == ["LDCT", "NDCT", "NDCT + noise", "NDCT, blurred"]
    np.testing.assert_allclose(found["NDCT + noise"] - ndct, (ldct - ndct) / 10, atol=1e-4)
    assert found["NDCT, blurred"].std() < 0.8 * ndct.std()
    assert "NDCT, blurred" not in reactions.controls(ldct, ndct, pd.Series([0.75, np.nan, 0.75]))


def test_lesions_are_harmed_only_where_slices_without_them_exist():
    every, some = reactions.kinds(True), reactions.kinds(False)
    assert next(iter(every)) == "none" and set(every) == {"none", *DEGRADATIONS}
    assert every["lesion_added"][0] == 0 and 0 not in every["lesion_removed"]
    assert set(every) - set(some) == {"lesion_removed", "lesion_added"}


def made_up_scores(doses=(1.0, 0.25), patients=PATIENTS):
    """Scores of three metrics: one falls with harm, one sees only dose, one only harm."""
    strengths = {"none": (0.0,), "blur": (0.4, 0.8, 1.2), "lesion_added": (0.0, 0.33, 0.67, 1.0)}
    rows = []
    for dose, (harm, levels), patient in itertools.product(doses, strengths.items(), patients):
        for step, strength in enumerate(levels, harm == "blur"):
            cost = (1 / dose - 1) / 3 * (4 + patient / 2)  # of a quarter dose, by patient: 5.75 in the mean
            other = 100 * (harm == "lesion_added")  # these are other images
            wavers = (1 / dose - 1) / 3 * (0.1 + (-1) ** patient)  # dose does good in one patient and harm in the next
            where = {"domain": "hu", "dose": dose, "harm": harm, "strength": strength, "patient": patient}
            for name, value in (
                ("falls", -cost - step + other),
                ("dose", -cost + other),
                ("harm", other - step + wavers),
            ):
                rows.append(where | {"name": name, "aligned": value})
    return pd.DataFrame(rows)


def test_sensitivity_is_the_fall_in_units_of_the_dose_and_rank_correlation_follows_strength():
    found = reactions.reactions(made_up_scores(), 0.25).set_index(["metric", "harm", "dose"])
    for harm, dose in itertools.product(("blur", "lesion_added"), (1.0, 0.25)):
        falls, dose_only, harm_only = (found.loc[name, harm, dose] for name in ("falls", "dose", "harm"))
        assert falls.rho == pytest.approx(-1) and falls.sensitivity == pytest.approx(3 / 5.75)
        assert falls.low < falls.sensitivity < falls.high
        assert dose_only.sensitivity == pytest.approx(0) and np.isnan(dose_only.rho)
        assert harm_only.rho == pytest.approx(-1) and np.isnan(harm_only.sensitivity)  # no unit
    without = reactions.reactions(made_up_scores(doses=(0.25,)), 0.25)
    assert without.sensitivity.isna().all() and without.rho.notna().any()


def test_harm_does_to_an_observer_what_it_must():
    harms = {"none": (0.0,), "shift": (5.0,), "lesion_removed": (1.0,), "lesion_added": (0.0, 1.0)}
    lesions = (ensembles.Lesion(3.0, -30.0),)
    found = reactions.detections(lesions, harms, [1.0], 1, 40, seed=2).set_index(["harm", "strength"])
    assert len(found) == 5 and found.low["none", 0.0] > 1
    for same in (("shift", 5.0), ("lesion_added", 0.0)):  # what is the same in both classes, and nothing at all
        assert found.d_prime[same] == pytest.approx(found.d_prime["none", 0.0], abs=1e-3)
    gone, everywhere = found.loc["lesion_removed", 1.0], found.loc["lesion_added", 1.0]
    assert gone.low < 0 < gone.high and everywhere.d_prime == pytest.approx(gone.d_prime, abs=1e-3)


def test_a_quotient_is_as_unsure_as_both_of_its_means():
    above, hits = np.full(8, 0.3), 0
    for trial in range(200):
        below = np.random.default_rng(trial).normal(2.0, 0.6, 8)
        found = reactions.quotient(above, -below, draws=300, seed=trial)
        assert found.mean == pytest.approx(0.3 / below.mean()) and found.low < found.mean < found.high
        hits += found.low <= 0.15 <= found.high
    assert 0.9 <= hits / 200 <= 0.995
    assert np.isnan(reactions.quotient(above[:4], np.ones(4)).low)
    undefined = reactions.quotient(above, np.array([1.0, 1, 1, 1, -1, -1, -1, 0]))
    assert undefined.high == np.inf
    with pytest.raises(ValueError, match="two finite values a patient"):
        reactions.quotient(above, np.ones(7))


def test_a_harm_has_direction_size_and_size_by_changed_pixel_and_nothing_is_pooled():
    reacted = reactions.reactions(made_up_scores(), 0.25)
    one = reacted[reacted["dose"] == 1.0]
    every = one.set_index(["metric", "harm"])
    assert every["falls"]["falls", "blur"] == every["patients"]["falls", "blur"] == len(PATIENTS)
    assert every["falls"]["dose", "blur"] == every["rises"]["dose", "blur"] == 0
    d = made_up_d_prime({("none", 0.0): 2.0, ("blur", 0.4): 1.8, ("blur", 1.2): 1.0, ("lesion_added", 0.0): 3.0,
                         ("lesion_added", 1.0): 3.3})  # fmt: skip
    found = reactions.by_harm(one, pd.Series({"blur": 1.0, "lesion_added": 0.01}), d).set_index("harm")
    assert list(found.index) == ["blur", "lesion_added"] and found["falls_in_all"]["blur"] == 2
    assert found["per_voxel"]["lesion_added"] == pytest.approx(100 * found["size"]["lesion_added"])
    assert found["d_change"]["blur"] == pytest.approx(-0.5) and found["d_change"]["lesion_added"] == pytest.approx(0.1)
    assert not {"d_change", "with_d"} & set(reactions.by_harm(one, pd.Series({"blur": 1.0})))
    ends = reactions.size_ends(made_up_scores(), "hu", 1.0, 0.25)
    sure = reactions.by_harm(one, pd.Series({"blur": 1.0, "lesion_added": 0.01}), d, ends).set_index("harm")
    assert (sure["size_low"] <= sure["size"]).all() and (sure["size"] <= sure["size_high"]).all()
    assert sure["per_voxel_high"]["lesion_added"] == pytest.approx(100 * sure["size_high"]["lesion_added"])
    single = made_up_scores()[lambda t: t["name"] == "falls"]  # of one metric the median is that metric
    (own,) = reactions.reactions(single, 0.25).query("dose == 1 and harm == 'blur'").itertuples()
    alone = reactions.size_ends(single, "hu", 1.0, 0.25).set_index("harm").loc["blur"]
    assert (alone.size_low, alone.size_high) == (pytest.approx(own.low, abs=0.05), pytest.approx(own.high, abs=0.05))


def made_up_d_prime(d, livers=4):
    """d' of conditions {(harm, strength): d'} in livers that differ by a factor."""
    return pd.DataFrame(
        {"liver": liver, "dose": 1.0, "harm": harm, "strength": strength, "d_prime": value * (1 + liver / 10)}
        for (harm, strength), value in d.items() for liver in range(livers)
    )  # fmt: skip


def test_metrics_go_with_or_against_detection_harm_by_harm_and_only_where_it_moves_in_every_liver():
    counts = {"blur": (5, 1), "rings": (6, 0), "unsharp": (2, 4), "shift": (6, 0)}
    reacted = pd.DataFrame(
        {"harm": harm, "metric": str(m), "falls": 8 * (m < down), "rises": 8 * (m >= down), "patients": 8,
         "sensitivity": 0.1} for harm, (down, _) in counts.items() for m in range(6)
    )  # fmt: skip
    d = {("none", 0.0): 2.0, ("blur", 1.2): 1.0, ("rings", 10.0): 1.99, ("unsharp", 2.0): 2.2, ("shift", 10.0): 2.5}
    d = made_up_d_prime(d)
    d.loc[(d.harm == "shift") & (d.liver == 3), "d_prime"] = 1.0  # the other way in one liver
    found = reactions.by_harm(reacted, pd.Series(dict.fromkeys(counts, 1.0)), d).set_index("harm")
    assert found.with_d["blur"] == 5 and found.against_d["blur"] == 1  # d' falls, and so do 5
    assert found.with_d["unsharp"] == 4 and found.against_d["unsharp"] == 2  # d' rises, and so do 4
    assert found.with_d[["rings", "shift"]].isna().all()  # by half a per cent; in 3 of 4 livers
    assert found.d_falls.to_dict() == {"blur": 4, "rings": 0, "unsharp": 0, "shift": 1} and (found.livers == 4).all()


def test_detection_is_measured_in_the_unit_of_the_metrics_and_rounding_has_no_direction():
    d = {("none", 0.0): 2.0, ("blur", 0.4): 1.9, ("blur", 1.2): 1.0, ("shift", 2.0): 2.0 + 1e-5}
    full = made_up_d_prime(d, livers=6)
    quarter = full.assign(dose=0.25, d_prime=full.d_prime - 1)
    scores = reactions.as_scores(pd.concat([full, quarter]), "hu")
    found = reactions.reactions(scores, 0.25).query("dose == 1").set_index("harm")
    assert found.sensitivity["blur"] == pytest.approx(1.25) and found.rho["blur"] == pytest.approx(-1)
    assert (
        found.falls["blur"] == 6 and found.falls["shift"] == found.rises["shift"] == 0 and np.isnan(found.rho["shift"])
    )
    assert (
        reactions.reactions(scores[scores.dose == 1], 0.25).sensitivity.isna().all()
    )  # the dose of the unit is not there


def test_a_metric_that_ranks_as_the_mse_is_told_harm_by_harm():
    rng, rows = np.random.default_rng(0), []
    for harm, strength, image in itertools.product(("none", "blur", "rings"), (1.0, 2.0), range(10)):
        rmse = rng.uniform(1, 20)
        scored = {"rmse_hu": rmse, "ssim": 1 - rmse**2 / 1e3, "ssim_window": rng.uniform(), "psnr": -rmse}
        scored["ssim"] = rng.uniform() if harm == "rings" else scored["ssim"]
        where = {"harm": harm, "dose": 1.0, "strength": strength, "image": image}
        rows += [where | {"name": name, "value": value} for name, value in scored.items()]
    scores = pd.DataFrame(rows)
    found = reactions.like_mse(scores).set_index(["harm", "name"])
    assert found.rho["none", "ssim"] == found.rho["blur", "ssim"] == pytest.approx(-1)
    assert abs(found.rho["rings", "ssim"]) < 0.6 > abs(found.rho["none", "ssim_window"])
    assert (found.images == 20).all() and set(found.index.get_level_values("name")) == {"ssim", "ssim_window"}
    assert set(reactions.like_mse(scores[scores.name != "ssim_window"]).name) == {"ssim"}
    assert reactions.like_mse(scores[scores.name != "rmse_hu"]).empty
    few = scores[(scores.image < 2) & (scores.strength == 1)]
    assert reactions.like_mse(few).rho.isna().all()


def test_ssim_over_all_hu_ranks_noise_as_the_mse_does_and_ssim_of_a_window_also_heeds_where_it_lies():
    y, x = np.mgrid[:64, :64] - 32
    target = np.where(np.hypot(y, x) < 28, 50.0, -1000.0)[None].repeat(12, 0).astype(np.float32)
    target[6:, 20:44, 20:44] = 700.0  # bone, which the window clips: noise in it is not seen
    noise = np.random.default_rng(0).normal(size=target.shape)
    pred = (target + noise * np.tile(np.linspace(5, 40, 6), 2)[:, None, None]).astype(np.float32)
    kinds = {name: info(name) for name in ("rmse_hu", "ssim", "ssim_window")}
    scorer = scoring.Scorer(kinds, pd.DataFrame({"name": []}), (), (intensity.domain("hu"),))
    scores = scorer.score(pred, {"truth": target}).assign(harm="none", dose=1.0, strength=0.0)
    rho = reactions.like_mse(scores).set_index("name").rho
    assert rho["ssim"] < -0.9 and rho["ssim"] < rho["ssim_window"] - 0.1


def test_the_share_that_changes_is_of_the_body():
    before = np.zeros((2, 10, 10))
    after, body = before.copy(), np.zeros((2, 10, 10), bool)
    body[:, :5] = True
    after[0, 0, :5], after[1, 9], after[1, 1, 1] = 3, 50, 0.5
    assert reactions.changed_share(before, after, body) == 0.05


def test_a_control_above_the_ndct_is_named_by_the_metrics_that_say_so():
    table = pd.DataFrame(
        [("up", "NDCT", 1.0), ("up", "LDCT", 3.0), ("up", "LDCT", 0.0), ("down", "NDCT", 1.0), ("down", "LDCT", 1.5)],
        columns=["name", "control", "value"],
    )
    kinds = (("up", 1, "↑"), ("down", -1, "↓"))
    info = {name: SimpleNamespace(label=name.upper(), direction=d, arrow=arrow) for name, d, arrow in kinds}
    means, above = reactions.rated_above(table, info)
    assert above == {"LDCT": ["UP"]} and list(means["LDCT"]) == [
        1.5,
        1.5,
    ]  # more is better for one, worse for the other
    assert list(means) == ["metric", "better", "NDCT", "LDCT"] and list(means["better"]) == ["↑", "↓"]
    bias = pd.DataFrame([("b", "NDCT", -2.0), ("b", "LDCT", 1.0)], columns=["name", "control", "value"])
    nearer = {"b": SimpleNamespace(label="bias", direction=0, arrow="→0")}
    assert reactions.rated_above(bias, nearer)[1] == {"LDCT": ["bias"]}  # nearer to 0 is better


def test_without_a_truth_no_damage_is_done_at_the_full_dose():
    assert reactions.doses_of([1, 0.25], "a truth") == [1.0, 0.25] and reactions.doses_of([1, 0.25], None) == [0.25]
    with pytest.raises(ValueError, match=r"nothing to audit: audit_doses is \[1.0\]"):
        reactions.doses_of([1.0], None)


def test_damage_is_done_at_a_dose_and_an_invented_lesion_to_slices_that_have_none(images):
    ldct, ndct = images
    spot = np.zeros_like(ndct)
    spot[:, 30:34, 30:34] = -40.0
    seen = {"ldct": ldct + spot, "ndct": ndct + spot, "truth": 40 + spot, "absent_ldct": ldct, "absent_ndct": ndct,
            "absent_truth": 40 + 0 * spot}  # fmt: skip
    about = {"dose": 0.25, "ldct_dose": 0.25, "pixel_mm": [0.75] * 3, "seed": 0}
    np.testing.assert_allclose(reactions.damaged(seen, "none", 0.0, **about), ldct + spot, atol=1e-3)
    np.testing.assert_allclose(reactions.damaged(seen, "lesion_removed", 1.0, **about), ldct, atol=1e-3)
    np.testing.assert_allclose(reactions.damaged(seen, "lesion_added", 0.5, **about), ldct + spot / 2, atol=1e-3)
    body = np.ones(ndct.shape, bool)
    found = reactions.shares(seen, ["shift", "lesion_removed", "lesion_added"], body=body, **about)
    assert list(found["share"]) == pytest.approx([1.0, 16 / 64**2, 16 / 64**2])


def test_slices_of_several_doses_or_unknown_pixels_are_refused():
    about = pd.DataFrame({"row": [2, 0], "dose": [0.25, 0.25], "pixel_mm": [0.7, 0.7]})
    arrays = {name: None for name in ("absent_ldct", "absent_ndct", "absent_truth", "truth")}
    cohort = SimpleNamespace(id="abc", ldct=np.arange(3)[:, None], ndct=np.arange(3)[:, None] + 5, **arrays)
    scoring.check_slices(about, cohort)
    found = scoring.images(cohort, about)
    assert found["ldct"].ravel().tolist() == [2, 0] and found["ndct"].dtype == np.float32 and found["truth"] is None
    with pytest.raises(ValueError, match=r"cohort abc has doses 0\.25, 0\.1"):
        scoring.check_slices(about.assign(dose=[0.25, 0.1]), cohort)
    with pytest.raises(ValueError, match="slices without a size: 1"):
        scoring.check_slices(about.assign(pixel_mm=[0.7, np.nan]), cohort)


def test_detection_is_the_last_line_of_the_picture_of_reactions():
    kinds = ["blur", "rings"]
    part = pd.DataFrame([{"metric": m, "harm": k, "sensitivity": 0.1, "rho": -1.0} for m in "ab" for k in kinds])
    seen = part[part.metric == "a"].assign(metric="d_prime", sensitivity=2.0)
    figure = damage.reactions(part, {"a": "A", "b": "B"}, kinds, 0.25, seen)
    assert [one.get_text() for one in figure.axes[0].get_yticklabels()] == ["A", "B", "d′ (CHO)"]
    assert "2.00" in [one.get_text() for one in figure.axes[0].texts]
    without = damage.reactions(part, {"a": "A", "b": "B"}, kinds, 0.25)
    assert [one.get_text() for one in without.axes[0].get_yticklabels()] == ["A", "B"]
