"""Slices with planted changes through the pipeline: which scans are compared, whose null gives p, what is found."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from ldct_utils.structures import detectors, null, pipeline

SIZE = 96


@pytest.fixture(scope="module")
def cohort():
    """Three patients, two slices each: noise on flat tissue, with one lesion of -60 HU in each second slice."""
    rng, rows = np.random.default_rng(0), range(6)
    slices = pd.DataFrame({"row": rows, "patient": [f"P{r // 2}" for r in rows], "split": "test", "pixel_mm": 0.7,
                           "anatomy": "abdomen"})  # fmt: skip
    y, x = np.mgrid[:SIZE, :SIZE]
    masks = np.zeros((6, SIZE, SIZE), np.uint8)
    masks[1::2] = np.hypot(y - 48, x - 48) < 6
    body = np.where(np.hypot(y - 47.5, x - 47.5) < 44, 40.0, -1000.0)
    noise = rng.normal(0, 10, masks.shape)
    absent = body + noise
    return SimpleNamespace(
        slices=slices, lesion_masks=masks, truth=None, absent_truth=None, ndct=absent - 60.0 * masks,
        absent_ndct=absent, ldct=absent - 60.0 * masks + noise, absent_ldct=absent + noise,
        rows=lambda split: np.arange(6),
    )  # fmt: skip


def find(image):
    """Two segments: the middle, where lesions are, and a disc beside it."""
    y, x = np.mgrid[:SIZE, :SIZE]
    return (np.hypot(y - 48, x - 48) < 6).astype(int) + 2 * (np.hypot(y - 48, x - 70) < 6)


@pytest.fixture(scope="module")
def slices(cohort):
    rng = np.random.default_rng(1)
    free = rng.normal(40, 10, (3, 2, 2, SIZE, SIZE)).astype(np.int16)
    tested = pipeline.most_affected(cohort, "test", 1)
    return pipeline.Slices(cohort, tested, {"same": lambda hu: hu + rng.normal(0, 0.1, hu.shape)}, free)


def test_the_slice_with_most_of_the_lesions_is_tested_or_the_middle_one(cohort):
    assert pipeline.most_affected(cohort, "test", 1) == [("P0", 1), ("P1", 3), ("P2", 5)]
    blind = SimpleNamespace(slices=cohort.slices.assign(patient="P"), lesion_masks=None, rows=cohort.rows)
    assert pipeline.most_affected(blind, "test", 2) == [("P", 2), ("P", 3)]


def test_what_is_unknown_is_refused():
    assert pipeline.known_sources(["ndct", "prediction"]) == ["ndct", "prediction"]
    with pytest.raises(ValueError, match="sources are ndct, ldct and prediction, got truth"):
        pipeline.known_sources(["truth"])
    assert pipeline.one_of("x", "1", {"1": "mse-0"}) == "mse-0"
    with pytest.raises(ValueError, match="the denoiser x is none of the runs; add it to runs"):
        pipeline.one_of("x", "2", {"1": "mse-0"})


def test_changes_are_planted_by_exchanging_scans(slices):
    found = {kind: (compared[0], seen[0]) for kind, compared, seen, _ in slices.comparisons(1)}
    assert found == {"null": ("null", "null"), "as it is": ("scan", "scan"), "removal": ("scan", "twin"),
                     "insertion": ("twin", "scan")}  # fmt: skip
    assert len(slices.images) == 3 * (1 + 1 + 2)
    gone = slices.images["twin", 1, 0]["ldct"] - slices.images["scan", 1, 0]["ldct"]
    assert gone[48, 48] == 60 and gone[48, 70] == 0


@pytest.fixture(scope="module")
def examined(slices):
    return pipeline.examined(slices, ["ndct"], find, 0.0)


def test_a_removal_changes_the_segment_that_held_the_lesion_and_no_other(examined):
    part = examined[(examined.kind == "removal") & (examined.run == "same")].set_index(["row", "segment"])
    assert (part.change_hu.xs(1, level="segment") > 50).all()
    assert (part.change_hu.xs(2, level="segment").abs() < 1).all()
    assert part.structure.xs(1, level="segment").eq(1).all() and part.structure.xs(2, level="segment").eq(0).all()


def test_p_comes_from_the_others(examined):
    many = pd.concat([examined[examined.kind == "null"].assign(z=np.random.default_rng(k).normal(size=12))
                      for k in range(40)], ignore_index=True)  # fmt: skip
    many = pd.concat([many, examined[examined.kind == "removal"].assign(z=50.0)], ignore_index=True)
    found = pipeline.with_p(many, "null", "patient", 1)
    assert (found.p[found.kind == "removal"] < 0.005).all()
    share = (found.p[found.kind == "null"] < 0.05).mean()
    assert 0.02 < share < 0.09
    free = found[found.kind == "null"].assign(naive_z=5.0)
    rows = null.calibrations(free, "same", {"same": "MSE"}, "patient", 100, 0).set_index("test")
    assert rows.loc["naive", "p < .05"] == 1 and rows.loc["null", "p < .05"] == pytest.approx(share)
    assert rows["p < .05: low"].isna().all() and set(rows.denoiser) == {"MSE"}
    numbers = null.calibration_numbers(rows.reset_index(), "MSE")
    assert numbers["naive_false_alarms"] == 1 and numbers["p_under_05"] == pytest.approx(share)


def test_rates_count_suspicious_segments_by_scan():
    head = {"run": "a", "source": "ndct"}
    rows = [head | {"kind": kind, "patient": f"P{p}", "row": p, "realisation": k, "suspicious": s}
            for kind, scans in (("as it is", 1), ("null", 2)) for p in range(7) for k in range(scans)
            for s in (kind == "as it is" and p < 2, False)]  # fmt: skip
    rates = null.rates(pd.DataFrame(rows), {"a": "mse"}, True, 200, 0).iloc[0]
    assert rates["suspicious a slice"] == pytest.approx(2 / 7) and rates["suspicious a slice: patients"] == "2 of 7"
    assert rates["lesion-free scans"] == 0 and np.isnan(rates["lesion-free scans: low"])
    table = pd.DataFrame([rates])
    assert null.numbers(table, "a") == {"suspicious_a_slice": pytest.approx(2 / 7), "suspicious_a_lesion_free_slice": 0}
    assert list(null.numbers(table.drop(columns="lesion-free scans"), "a")) == ["suspicious_a_slice"]


def test_without_a_null_segments_are_listed_by_z():
    table = pd.DataFrame({name: 0.0 for name in null.FIELDS}, index=range(12)).assign(z=[*range(11), -20])
    found = null.listed(null.judged(table.drop(columns=["p_adjusted", "suspicious"]), 0.05, nulled=False))
    assert found.z.tolist()[:2] == [-20, 10] and len(found) == 10 and not found.suspicious.any()


def test_cut_outs_hold_the_segment_in_their_middle(slices):
    suspects = pd.DataFrame({"row": [1], "source": ["ndct"], "segment": [1], "patient": ["P0"], "before_hu": [-60.0],
                             "change_hu": [60.0]})  # fmt: skip
    (one,) = pipeline.cutouts(slices, "same", suspects, find, half=16)
    assert one["segment"].shape == (32, 32) == one["ldct"].shape and one["segment"][16, 16]
    assert one["mean_hu"] == pytest.approx(-20, abs=4) and one["lesions"].any() and one["pixel_mm"] == 0.7


def test_the_detector_finds_what_was_planted_by_segments_and_by_patches(examined, slices, cohort):
    with_p = examined.assign(p=np.where(examined.change_hu.abs() > 20, 0.001, 0.5))
    known = detectors.lesion_slices(cohort, slices.tested)
    assert known.structures.tolist() == [1, 1, 1]
    curves = detectors.by_segment(with_p, known, "same", ["ndct"], 50, 0)
    found = detectors.lines(curves, {"kind": "kind", "segments_of": "segments of", "score": "score"})
    own = found[found.score == "this test"].set_index(["kind", "segments of"])
    assert (
        own.loc[("removal", "all"), "found at 1 false mark"] == 1 and own.loc[("removal", "all"), "shown"] == "3 of 3"
    )
    patches = detectors.all_patches(slices, cohort_without_validation(), 1, 32)
    by_patch = detectors.by_patch(patches, with_p, known, "same", 50, 0)
    at_one = detectors.lines(by_patch, {"kind": "kind", "detector": "detector"})
    assert {"removal", "insertion", *map(detectors.stronger, detectors.GRADES)} == set(at_one.kind)
    for kind in detectors.KINDS:  # every score of segments, by the same patches as sFRC
        names = set(at_one.detector[at_one.kind == kind])
        assert names >= {"this test, by patch", "naive z, by patch", "change alone, by patch"}
    assert not any(" by patch" in name for name in at_one.detector[at_one.kind == detectors.stronger(16)])
    deaf = detectors.by_patch(patches, with_p.assign(naive_z=0.0), known, "same", 50, 0)
    heard = detectors.lines(deaf[deaf.kind == "removal"], {"detector": "detector"}).set_index("detector")
    heard = heard["found at 1 false mark"]
    assert heard["naive z, by patch"] == 0 < heard["this test, by patch"], "every score ranks by its own column"
    elsewhere = detectors.by_patch(patches, with_p, known, "another run", 50, 0)
    assert not elsewhere.detector.str.startswith(("naive", "change")).any()
    strong = at_one[(at_one.kind == detectors.stronger(16)) & (at_one.detector == detectors.REFERENCES["ndct"])]
    assert strong["found at 1 false mark"].item() == 1  # the control
    numbers = detectors.numbers(found, at_one, ["ndct"])
    assert numbers["found_removal"] == {"all": 1, "ndct": 1} and set(numbers["auc_removal"]) == set(detectors.SCORES)
    assert detectors.of_runs(curves)["removal: found at 1 false mark"].tolist() == [1]
    tuning = pd.concat([patches, patches.assign(split="val")])
    cut = detectors.cutoffs(tuning, known, "same", 2, 50, 0)
    assert (cut.false <= 1).all() and {"found_removal_low", "false_free"} <= set(cut)


def cohort_without_validation():
    return SimpleNamespace(absent_ldct=None, lesion_masks=None, rows=lambda split: [])


def test_what_is_found_is_told_and_so_is_nothing():
    assert detectors.told(0.345, "removal") == "34 % of removals"
    assert detectors.told(np.nan, "insertion") == "no insertion, since no mark shows any"
    assert list(detectors.groups(["ndct"])) == ["all", "ndct"]
    assert set(detectors.LINES) == set(detectors.SCORES)
    assert detectors.groups(["ndct", "ldct", "prediction"])["without the NDCT"] == ["ldct", "prediction"]


def of_scores(**shares) -> pd.DataFrame:
    """A table of ``detectors.lines``. Args: shares: of removals and insertions, by group of segments and score."""
    rows = []
    for key, both in shares.items():
        group, score = {"ours": ("all", "this test"), "z": ("all", "naive z"), "change": ("all", "SRMSE(x, f(x))"),
                        "hospital": ("without the NDCT", "this test")}[key]  # fmt: skip
        for kind, share in zip(detectors.KINDS, both):
            row = {"kind": kind, "segments of": group, "score": score, "found at 1 false mark": share}
            rows.append(row | {"low": share - 0.1, "high": share + 0.1})
    return pd.DataFrame(rows)


def test_what_the_test_finds_is_told_with_and_without_the_ndct():
    whole = "We planted changes: at one false mark a slice the test finds 62 % of removals and 34 % of insertions"
    assert detectors.found_said(of_scores(ours=(0.62, 0.34))) == f"{whole}."
    both = of_scores(ours=(0.62, 0.34), hospital=(0.48, 0.34))
    assert detectors.found_said(both) == f"{whole}; without the NDCT's segments it finds 48 % and 34 %."
    none = of_scores(ours=(0.62, 0.34), hospital=(0.48, np.nan))
    assert detectors.found_said(none).endswith("it finds 48 % and no insertion, since no mark shows any.")


def test_simpler_scores_are_told_beside_the_test():
    both = of_scores(ours=(0.6, 0.3), z=(0.5, 0.4), change=(0.55, 0.4))
    said = "Two simpler scores find 50 to 55 % of removals and 40 % of insertions; "
    assert detectors.simpler_said(both) == f"{said}their intervals overlap with the test's."
    apart = of_scores(ours=(0.6, 0.9), z=(0.5, 0.4), change=(0.55, 0.4))
    assert detectors.simpler_said(apart) == f"{said}not all intervals overlap with the test's."
    assert detectors.simpler_said(of_scores(ours=(0.6, 0.3), z=(np.nan, 0.4), change=(0.55, 0.4))) == ""


def test_false_marks_are_read_where_so_many_slices_can_tell_them():
    assert detectors.marks(pd.DataFrame({"row": range(10)}))[0] == 0.1
    assert detectors.marks(pd.DataFrame({"row": [0]}))[0] == 1


@pytest.mark.parametrize(
    ("removal", "insertion", "end"),
    [  # found against the truth, found against the NDCT
        ((0.07, 0.14), (0.2, 0.3), "bound and is none here."),
        ((0.07, 0.14), (0.3, 0.2), "bound of removals and is none here."),
        ((0.2, 0.14), (0.141, 0.144), "finds no less against the truth, as was meant."),
        ((0.2, 0.14), (np.nan, np.nan), "finds no less against the truth, as was meant."),
    ],
)
def test_the_truth_is_called_an_upper_bound_only_where_it_is_one(removal, insertion, end):
    shares = {"removal": removal, "insertion": insertion}
    rows = [{"kind": kind, "detector": detectors.REFERENCES[one], "found at 1 false mark": share}
            for kind, pair in shares.items() for one, share in zip(("truth", "ndct"), pair)]  # fmt: skip
    said = detectors.bound_said(pd.DataFrame(rows))
    first = f"Against the noise-free truth sFRC finds {100 * removal[0]:.0f} % of removals (against the NDCT 14 %)"
    assert said.startswith(first) and said.endswith(end) and ("insertions" in said) == (insertion[0] == insertion[0])
    known = pd.DataFrame(rows)
    assert detectors.bound_said(known[known.detector == detectors.REFERENCES["ndct"]]) == ""
    assert detectors.bound_said(known.assign(**{"found at 1 false mark": np.nan})) == ""
