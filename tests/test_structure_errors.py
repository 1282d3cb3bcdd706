"""Errors of denoisers over segments: who is measured against what, and the order of methods that they give."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from ldct_utils.segments import Segments, known
from ldct_utils.structures import errors

LABELS = np.array([[1, 1, 2, 2]])


def find(image, row):
    """Two segments of two pixels, whatever the image; one was left out for being small."""
    return Segments(
        LABELS, pd.DataFrame({"segment": [1, 2]}), "made", dict(small=1, large=0, background=0, duplicate=0)
    )


@pytest.fixture
def cohort():
    """Two neighbouring slices of one patient: the LDCT is 3 HU off the NDCT in the first segment, 4 in the second."""
    slices = pd.DataFrame({"row": [0, 1], "patient": ["A", "A"]})
    ldct = np.tile(np.float32([3, 3, 4, 4]), (2, 1, 1))
    return SimpleNamespace(slices=slices, ndct=np.zeros_like(ldct), ldct=ldct)


def test_errors_are_those_of_each_segment_for_the_ldct_and_the_denoiser(cohort):
    found = errors.measured(cohort, [[0], [1]], {"half": lambda hu: hu / 2}, find, ["ndct"], 0.5)
    ldct = found[(found.run == "LDCT") & (found.source == "ndct")]
    assert ldct.mean_srmse.tolist() == [3.5, 3.5] and ldct.max_srmse.tolist() == [4, 4] and (ldct.small == 1).all()
    assert ldct.rmse_hu.to_numpy() == pytest.approx(np.sqrt(12.5))
    half = found[found.run == "half"]
    assert (half.mean_srmse == 1.75).all() and set(half.source) == {"ndct", "ldct", "output"}
    assert set(found[found.run == "LDCT"].source) == {"ndct", "ldct"}  # an input has no output to segment
    assert (found.row >= 0).all()  # no slices are neighbours


def test_neighbours_have_a_row_of_linked_segments(cohort):
    found = errors.measured(cohort, [[0, 1]], {}, find, ["ndct"], 0.5)
    linked = found[(found.row < 0) & (found.source == "ndct")]
    assert linked.segments.tolist() == [2] and linked.mean_srmse.tolist() == [3.5]
    count = errors.counted(found)
    assert (count["segments"], count["small"], count["linked"], count["patients"]) == (2, 1, 2, 1)


def labelled(organs=True):
    """Two neighbouring slices of a body, 50 HU, with a liver, two kidneys, a speck of spleen and a table in the air."""
    y, x = np.mgrid[:64, :64] - 32
    ndct, masks = np.where(np.hypot(x, y) < 28, 50.0, -1000.0), np.zeros((64, 64), np.uint8)
    masks[20:34, 14:28], masks[38:44, 18:24], masks[38:44, 40:46], masks[20:23, 44:47] = 5, 7, 7, 6
    masks[62:, 20:40] = 20
    ldct = ndct + np.where(masks == 7, 10.0 * np.sign(x), 0)  # every pixel of both kidneys is 10 HU off, one dark
    ldct[20:34, 14:21] += 4  # half of the liver is 4 HU off
    about = pd.DataFrame({"row": [0, 1], "patient": ["A", "A"]})
    named = {5: "liver", 6: "spleen", 7: "kidney", 20: "table"} if organs else {}
    pair = [np.stack([image] * 2).astype(np.float32) for image in (ndct, ldct)]
    return SimpleNamespace(id="made", slices=about, ndct=pair[0], ldct=pair[1], organs=named, organ_masks=[masks] * 2)


def test_labels_of_the_cohort_give_the_errors_of_its_organs():
    cohort = labelled()
    find = errors.finder(cohort, "labels", 20)
    found = errors.measured(cohort, [[0, 1]], {"none": lambda hu: hu}, find, ["ndct"], 0.5, only_ndct=True)
    liver, kidney = np.sqrt(4.0**2 / 2), 10.0  # worked out by hand, without a label map
    assert set(found.source) == {"ndct"} and set(found.run) == {"LDCT", "none"}
    assert found.mean_srmse.to_numpy() == pytest.approx((liver + 2 * kidney) / 3)
    assert found.max_srmse.to_numpy() == pytest.approx(kidney)
    assert (found.segments == 3).all() and (found.row == -1).sum() == 2  # linked, they are three as well
    count = errors.counted(found)
    assert (count["small"], count["background"], count["large"], count["linked"]) == (1, 1, 0, 3)


def test_segments_of_labels_are_described_as_others_are():
    cohort = labelled()
    one = errors.finder(cohort, "labels", 20)(cohort.ndct[0], 0)
    kidney = one.table.iloc[-1]
    assert tuple(kidney[["area", "row", "column", "mean_hu"]]) == (36, 40.5, 42.5, 50) and len(one) == 3
    assert one.masks.shape == (3, 64, 64) and one.regions.dtype == np.int32 and "labels" in one.method
    organ = np.full((64, 64), 5)
    large = known.of_labels(cohort.ndct[0], np.where(cohort.ndct[0] > 0, organ, 0))
    assert len(large) == 0 and large.left_out == {"small": 0, "large": 1, "background": 0, "duplicate": 0}
    with pytest.raises(ValueError, match=r"labels of shape \(32, 64\)"):
        known.of_labels(cohort.ndct[0], organ[:32])


def test_labels_of_a_cohort_without_any_are_refused_with_what_to_do():
    with pytest.raises(ValueError, match=r"made labels no organs: take another segmentation \(felzenszwalb, otsu"):
        errors.finder(labelled(organs=False), "labels", 20)
    found = errors.finder(labelled(organs=False), "felzenszwalb", 20)
    assert "felzenszwalb" in found(labelled().ndct[0], 0).method  # which needs none


def table(means: dict) -> pd.DataFrame:
    """Rows of ten patients whose errors differ by less than the methods do; {method: (RMSE, MeanSRMSE, MaxSRMSE)}."""
    rows = [
        {"patient": f"P{p}", "method": name, "source": "ndct", "reference": "ndct", "row": p,
         "rmse_hu": rmse + 0.01 * p, "mean_srmse": mean + 0.02 * p % 0.05, "max_srmse": top + 0.01 * p}
        for name, (rmse, mean, top) in means.items() for p in range(10)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_an_order_is_reversed_where_both_differences_are_sure():
    ranking = errors.ranked(table({"LDCT": (20, 20, 20), "a": (10, 10, 12), "b": (11, 12, 11)}), 200, 0)
    found = errors.agreement(ranking).set_index("error")
    assert found.tau.to_dict() == {"mean_srmse": pytest.approx(1), "max_srmse": pytest.approx(-1)}
    assert found.reversed.to_dict() == {"mean_srmse": 0, "max_srmse": 1} and set(found.pairs) == {1}
    ranks = ranking[ranking.error == "RMSE"].set_index("method")["rank"]
    assert ranks["a"] == 1 and ranks["b"] == 2 and np.isnan(ranks["LDCT"])
    assert errors.order(ranking) == ["a", "b"] and errors.best(ranking)[0].method == "a"
    assert errors.best(ranking)[1] == pytest.approx(10, abs=0.05)
    assert errors.taus(errors.agreement(ranking)) == {"ndct, slices": pytest.approx(1)}


def test_one_denoiser_has_no_order():
    found = errors.agreement(errors.ranked(table({"LDCT": (20, 20, 20), "a": (10, 10, 12)}), 50, 0))
    assert set(found.pairs) == {0} and found.tau.isna().all()


def test_who_was_not_shown_to_have_more_error_than_the_least():
    luck = np.random.default_rng(0).normal(0, 0.3, 8)
    means = {"a": np.full(8, 10.0), "b": 12 + luck, "c": 10.05 + luck}

    def made(patients):
        rows = [
            {"patient": p, "method": name, "row": p, "source": "ndct", "reference": "ndct", "rmse_hu": values[p],
             "mean_srmse": values[p], "max_srmse": values[p]}
            for name, values in (means | {"LDCT": np.full(8, 5.0)}).items() for p in range(patients)
        ]  # fmt: skip
        return pd.DataFrame(rows)

    assert errors.not_beaten(made(8), 500, 0) == ["c"] and errors.not_beaten(made(3), 500, 0) is None
    alone = made(8)[lambda table: table.method.isin(["a", "LDCT"])]
    assert errors.not_beaten(alone, 500, 0) == []
