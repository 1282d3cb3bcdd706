"""Tests of a training: done once, stored with it, and done again only where their own identity changes."""

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, write_tiny_cohort

from ldct_utils import cohorts, metrics
from ldct_utils.cohorts import unseen
from ldct_utils.stats import blending
from ldct_utils.study import files, identity, parameters, runs
from ldct_utils.training import designs, refusals, testing


@pytest.fixture
def calls(monkeypatch):
    """Takes the place of the network: half of the way to 0 HU. Holds the runs whose network was asked for."""
    asked = []

    def as_trained(run, device):
        asked.append(run.name)
        return lambda hu: hu / 2

    monkeypatch.setattr(testing.prediction, "as_trained", as_trained)
    return asked


@pytest.fixture
def trained(outputs, calls):
    """A finished training of the tiny cohort, and the cohort."""
    cohort = cohorts.load(write_tiny_cohort(outputs / "cohorts" / "simulated-00000000"))
    folder = outputs / "toy" / "03_train" / "mse-0--0123abcd"
    run = runs.Run(folder, "03_train", {"source": "simulated", "network": "unet"})
    run.finish(cohort=cohort.id)
    return runs.Run(folder), cohort


def test_a_test_is_done_once_and_holds_scores_examples_and_means(trained, calls):
    run, cohort = trained
    test = testing.scores(run, cohort)
    again = testing.scores(run)  # its own cohort, which is not even read
    assert calls == ["mse-0"] and test.folder == again.folder and test.folder.parent == run.folder / "tests"
    scores, ldct = test.table("scores"), test.table("ldct_scores")
    assert set(scores.row) == set(cohort.rows("test")) == set(ldct.row)
    hu = scores.query("domain == 'hu' and reference == 'ndct' and metric == 'rmse_hu'").set_index("row")["value"]
    for row in cohort.rows("test"):
        error = cohort.ldct[row].astype(float) / 2 - cohort.ndct[row]
        assert hu[row] == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-5)
    assert test.numbers["rmse_hu"] == pytest.approx(hu.mean()) and test.numbers["test_cohort"] == cohort.id
    means = test.table("test").query("domain == 'hu' and reference == 'ndct'").set_index("metric")
    assert means.prediction["rmse_hu"] == test.numbers["rmse_hu"] and means.better["rmse_hu"].endswith("↓")
    shown, images = test.table("examples_rows"), test.array("examples")
    assert list(shown.anatomy) == ["abdomen", "chest"] and images.shape == (2, 4, 64, 64)
    assert np.array_equal(images[:, 3], images[:, 0] / 2)
    assert np.array_equal(images[0, 1], cohort.ndct[shown.row.iloc[0]])


def test_another_cohort_is_one_more_test_and_the_training_stays_as_it_was(trained, outputs):
    run, cohort = trained
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    first = testing.scores(run, cohort)
    other = cohorts.load(write_tiny_cohort(outputs / "cohorts" / "npy-11111111", patients=4, seed=1))
    second = testing.scores(run, other)
    assert {one.folder for one in testing.stored(run)} == {first.folder, second.folder}
    assert first.folder.name.startswith("simulated-00000000--") and second.folder.name.startswith("npy-11111111--")
    assert all(path.read_bytes() == content for path, content in before.items())
    assert run.result["files"] == {} and runs.select("toy/03_train/*")[0].folder == run.folder


def test_other_code_is_another_test(trained, calls, monkeypatch):
    run, cohort = trained
    first = testing.scores(run, cohort)
    monkeypatch.setattr(identity, "code_hash", lambda names, given: "of tomorrow")
    second = testing.scores(run, cohort)
    assert calls == ["mse-0"] * 2 and second.folder != first.folder and first.finished


def test_a_test_does_not_depend_on_what_the_training_was_first_tested_on(trained):
    run, _ = trained
    other = runs.Run(run.folder, "03_train", run.params | {"test_source": "npy", "test_root": "pairs"})
    assert testing.place(other).folder == testing.place(run).folder


def test_what_a_kill_left_of_a_test_is_completed(trained):
    run, cohort = trained
    place, rows = testing.place(run, cohort), cohort.rows("test")
    files.write_parquet(place.folder / "ldct_scores.parquet", metrics.evaluate(lambda hu: hu, cohort, rows))
    assert not place.finished and testing.stored(run) == []
    assert testing.scores(run, cohort).finished


def test_a_cohort_without_test_patients_is_refused_with_what_to_give(trained, calls, monkeypatch):
    run, cohort = trained
    cohort.slices["split"] = "train"
    with pytest.raises(ValueError, match=r"no test patients: its split is draw\. Give test_source and test_root"):
        testing.check(cohort)
    with pytest.raises(ValueError, match="no test patients"):
        testing.scores(run, cohort)
    assert not calls  # the network was not even read
    monkeypatch.setattr(unseen, "shared", lambda own, other: {"L506"})
    monkeypatch.setattr(unseen.lookup, "get", lambda *_, **__: cohort)
    with pytest.raises(ValueError, match=r"L506 of npy .* was in the training"):
        testing.check(cohort, "npy", "somewhere")


def test_a_test_on_some_slices_is_a_test_of_its_own_and_scores_slices_spread_over_the_scans(trained):
    run, cohort = trained
    whole, some = testing.scores(run, cohort), testing.scores(run, cohort, most=2)
    assert whole.folder != some.folder and len(testing.stored(run)) == 2
    expected = cohort.spread(cohort.rows("test"), 2)
    assert len(expected) == 2 and sorted(set(some.table("scores").row)) == list(expected)
    assert sorted(set(some.table("ldct_scores").row)) == list(expected)


def with_lesions(cohort):
    """The cohort with a lesion in the middle of every second slice, and its slices without."""
    masks, absent = np.zeros(cohort.ldct.shape, np.uint8), np.array(cohort.ldct)
    masks[::2, 28:36, 28:36] = 1
    return cohorts.Cohort(**{**vars(cohort), "lesion_masks": masks, "absent_ldct": absent,
                             "ldct": absent + (-20 * (masks > 0)).astype(np.int16)})  # fmt: skip


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_the_contrast_that_is_kept_is_the_share_that_is_passed_on(tiny_cohort, share):
    cohort = with_lesions(cohorts.load(tiny_cohort))
    rows, clean = cohort.rows("test"), {row: np.float32(cohort.absent_ldct[row]) for row in range(len(cohort.ldct))}
    at = {image.tobytes(): row for row, image in enumerate(np.float32(cohort.ldct))}

    def denoise(hu):
        found = []
        for image in hu:  # it passes on this share of what the lesion adds
            row = at.get(image.tobytes())
            found.append(image if row is None else clean[row] + share * (image - clean[row]))
        return np.stack(found)

    found, squares = testing.lesions_kept(cohort, rows, denoise)
    assert len(found) == cohort.slices.set_index("row").loc[rows].patient.nunique()
    assert np.allclose(found["kept"], share) and np.allclose(found["contrast_hu"], 20)
    assert set(squares["target"]) == {"ndct", "truth"} and set(squares["row"]) <= set(rows)
    one = squares[squares["target"] == "ndct"].iloc[0]
    given, target = (np.float64(images[one["row"]]) for images in (cohort.ldct, cohort.ndct))
    before, after = given - target, np.float64(denoise(np.float32(given)[None])[0]) - target
    assert np.allclose([one["before"], one["both"], one["after"]],
                       [(before**2).mean(), (before * after).mean(), (after**2).mean()])  # fmt: skip


def test_without_known_lesions_nothing_is_kept_or_lost(tiny_cohort):
    cohort = cohorts.load(tiny_cohort)
    assert all(table.empty for table in testing.lesions_kept(cohort, cohort.rows("test"), lambda hu: hu))


class Stored:
    """A stored test of 8 patients, a slice and a lesion each, that keeps ``values`` of it.

    Its output is the LDCT without ``share`` of the noise, on which ``extra`` HU^2 of an independent error lies.
    """

    def __init__(self, values, share=0.5, extra=0.0):
        hu = [20.0 if n % 2 else 40.0 for n in range(len(values))]  # every second patient has a faint lesion
        self.kept = pd.DataFrame({"patient": range(len(values)), "lesion": 1, "contrast_hu": hu, "kept": values})
        left = 1 - share
        three = {"before": 100.0, "both": 100 * left, "after": 100 * left**2 + extra}
        self.squares = pd.DataFrame(
            {"patient": range(len(values)), "row": range(len(values)), "target": "ndct", **three}
        )

    def table(self, name):
        return getattr(self, name)


def as_listed(*names):
    """Trainings of methods in this order, numbered by seed; ``mse`` is the one with MSE alone."""
    table = pd.DataFrame({"method": names, "loss": ["mse" if name == "mse" else "other" for name in names]})
    return table.assign(seed=table.groupby("method").cumcount())


def test_what_methods_keep_has_an_interval_over_patients_and_trainings():
    rng = np.random.default_rng(0)
    tests = [Stored(0.8 + 0.02 * rng.normal(size=8) + shift) for shift in (-0.1, 0.0, 0.1)]
    tests += [Stored(0.5 + 0.02 * rng.normal(size=8))]
    found = testing.kept_of_methods(tests, as_listed("many", "many", "many", "mse")).set_index("method")
    assert list(found.index) == ["many", "mse"] and found.loc["many", "seeds"] == 3
    assert np.isclose(found.loc["many", "kept"], 0.8, atol=0.02) and found.loc["mse", "high"] < 0.55
    assert found.loc["many", "high"] - found.loc["many", "low"] > 0.3  # trainings differ more than patients
    assert found.loc["mse", "faint"] == pytest.approx(tests[3].kept["kept"][1::2].mean())
    assert testing.kept_of_methods([Stored([])], as_listed("none")).empty


def test_a_mix_with_the_input_is_no_better_than_itself_and_an_oracle_is():
    kept = 0.5 + np.random.default_rng(1).normal(0, 0.02, 8)
    mse = [Stored(kept, 0.5), Stored(kept + 0.01, 0.5)]
    mix = [Stored(0.4 + 0.6 * one.kept["kept"].to_numpy(), 0.6 * 0.5) for one in mse]  # 40 % of the input
    oracle = [Stored(np.full(8, 0.9), 0.5) for _ in mse]
    spoiled = [Stored(one.kept["kept"].to_numpy(), 0.3, extra=30.0) for one in mix]
    names = [name for name in ("mse", "mix", "oracle", "spoiled") for _ in range(2)]
    found = testing.kept_of_methods([*mse, *mix, *oracle, *spoiled], as_listed(*names)).set_index("method")
    assert set(found["base"]) == {"mse"} and found.loc["mse", "answer"] == "" and np.isnan(found.loc["mse", "beyond"])
    assert abs(found.loc["mix", "beyond"]) < 1e-6 and found.loc["mix", "answer"] == blending.OPEN
    assert found.loc["oracle", "beyond_low"] > 0 and found.loc["oracle", "answer"] == blending.BETTER
    assert found.loc["spoiled", "beyond_high"] < 0 and found.loc["spoiled", "answer"] == blending.LESS
    assert found.loc["mse", "gain"] == pytest.approx(20 * np.log10(2))
    assert testing.beyond_mixes(found.reset_index()) == (["oracle"], 3, "mse", "")


def test_a_method_of_one_training_has_no_distance_from_the_mixes_and_is_mixed_last():
    tests = [Stored(np.full(8, 0.7), 0.3), Stored(np.full(8, 0.8), 0.3), Stored(np.full(8, 0.7), 0.6)]
    found = testing.kept_of_methods(tests, as_listed("a", "a", "b")).set_index("method")
    assert set(found["base"]) == {"a"} and np.isnan(found.loc["b", "beyond"]) and found.loc["b", "gain"] > 0
    assert found.loc["b", "answer"] == blending.FEW_TRAININGS


def test_without_one_method_of_mse_alone_the_largest_gain_is_mixed():
    tests = [Stored(np.full(8, 0.7), share) for share in (0.3, 0.6)]
    found = testing.kept_of_methods(tests, as_listed("a", "b"))
    assert set(found["base"]) == {"b"} and set(found["answer"]) == {"", blending.FEW_TRAININGS}
    assert testing.beyond_mixes(found) == ([], 0, "b", "one training")


def test_a_window_of_ones_own_is_one_more_test_named_by_its_window(trained, calls):
    run, cohort = trained
    usual, own = testing.scores(run, cohort), testing.scores(run, cohort, window=(40.0, 400.0))
    assert usual.folder != own.folder == testing.place(run, cohort, window=(40, 400)).folder
    assert set(own.table("scores")["domain"]) == {"hu", "viana2025", "body", "window C 40 W 400"}
    ssim = own.table("ldct_scores").query("domain == 'window C 40 W 400' and metric == 'psnr' and reference == 'ndct'")
    row = ssim["row"].iloc[0]
    ldct, ndct = (images[row].astype(float).clip(-160, 240) for images in (cohort.ldct, cohort.ndct))
    assert ssim["value"].iloc[0] == pytest.approx(10 * np.log10(400**2 / np.mean((ldct - ndct) ** 2)))
    hu = [one.table("scores").query("domain == 'hu'")["value"].to_numpy() for one in (usual, own)]
    assert np.array_equal(*hu), "other domains stay as they were"
    with pytest.raises(ValueError, match=r"needs level and width, .*; got level=40, width=None"):
        testing.scores(run, cohort, window=(40, None))


@pytest.mark.parametrize("wrong", [(None, 400.0), (40.0, 0.0), (40.0, -1.0), (float("nan"), 400.0)])
def test_half_a_window_is_refused(wrong):
    with pytest.raises(ValueError, match="a window of your own needs level and width"):
        metrics.own_window(*wrong)


def test_the_name_of_a_domain_tells_its_window():
    assert metrics.own_window(None, None) is None and metrics.own_window(-600, 1500) == (-600.0, 1500.0)
    for pair in ((40.0, 400.0), (-600.0, 1500.0), (37.5, 75.5)):
        assert metrics.window_of("window C {:g} W {:g}".format(*pair)) == pair
    assert metrics.window_of("window") == metrics.window_of("viana2025") == (None, None)


def test_a_window_trains_nothing_again_and_makes_no_other_method():
    given = parameters.read(ROOT / "notebooks" / "03_train.py")
    usual = {name: one.default for name, one in given.parameters.items()}
    ids = [identity.identity(given, usual | more) for more in ({}, {"level": 40.0, "width": 400.0}, {"lr": 2e-3})]
    assert ids[0] == ids[1] != ids[2]
    assert {"level", "width"} <= designs.ASIDE
    with pytest.raises(ValueError, match="a window of your own needs level and width"):
        refusals.check(usual | {"level": 40.0})


@pytest.mark.parametrize(
    ("notebook", "call"),
    [("03_train", "testing.scores(run, of, tqdm, most, (level, width))"), ("06_stats", "window=window_of(domain)"),
     ("11_denoisers", "given = reference, rfs, masks, device, (level, width)")],
)  # fmt: skip
def test_notebooks_hand_on_the_window_that_they_are_told(notebook, call):
    assert call in (ROOT / "notebooks" / f"{notebook}.py").read_text(encoding="utf-8")
