"""Cohorts with nothing to remove or nothing to measure: said at once, in words that are true, and never at the end."""

import os
from functools import partial

import numpy as np
import pytest
from conftest import ROOT, write_tiny_cohort
from dicom_files import write_ct
from notebook_cells import execute

from ldct_utils import cohorts
from ldct_utils.ct import noise_checks, nps
from ldct_utils.study import parameters, runs

SMALL = {"patients": 1, "slices": 1, "size": 128, "study": "odd"}


@pytest.fixture(autouse=True)
def one_scan_of_water(monkeypatch):
    """The law of dose and mean HU, which 01 measures whatever the cohort is, from a scan instead of twelve and four."""
    monkeypatch.setattr(noise_checks, "mean_hu", partial(noise_checks.mean_hu, draws=1))
    monkeypatch.setattr(noise_checks, "dose_law", partial(noise_checks.dose_law, dose_levels=(0.25,), draws=1))


def finished(notebook):
    (run,) = runs.select(f"odd/{notebook}/*")
    return run


def test_the_full_dose_is_looked_at_by_01_and_refused_by_03_before_it_trains(outputs, capsys):
    execute(ROOT / "notebooks" / "01_data.py", SMALL | {"dose": 1.0, "sample": 3})
    numbers = finished("01_data").numbers
    assert numbers["added_noise_hu"] == 0 and numbers["ndct_noise_hu"] > 5
    said = capsys.readouterr().out
    with pytest.raises(ValueError, match="are the same images, at dose 1: give a dose below 1"):
        execute(ROOT / "notebooks" / "03_train.py", SMALL | {"dose": 1.0, "max_steps": 10, "channels": 4, "threads": 1})
    assert not list((outputs / "odd" / "03_train").glob("*/history*")) and "division" not in said


def test_where_no_soft_tissue_is_seen_01_ends_with_a_sentence(outputs, monkeypatch, capsys):
    def none(*_):
        raise ValueError("no flat soft tissue")

    monkeypatch.setattr(nps, "tissue_noise", none)
    space = execute(ROOT / "notebooks" / "01_data.py", SMALL | {"sample": 3})
    assert space["seen"] == "No slice shows enough soft tissue to measure noise in."
    assert finished("01_data").numbers["ndct_noise_hu"] is None


def test_crops_of_lung_alone_are_looked_at_trained_on_and_scored(outputs, tmp_path, recwarn):
    rng, air = np.random.default_rng(0), np.full((64, 64), -850.0)
    air[:20] = -1000
    for name in (f"{patient}_{number}" for patient in ("L067", "L096", "L109") for number in range(2)):
        ndct = air + rng.normal(0, 12, air.shape)
        for kind, hu in (("target", ndct), ("input", ndct + rng.normal(0, 20, air.shape))):
            np.save(tmp_path / f"{name}_{kind}.npy", ((hu + 1024) / 4096).astype(np.float32))
    given = {"source": "npy", "data_root": str(tmp_path), "hu_range": [-1024, 3072], "split": "draw", "study": "odd"}
    space = execute(ROOT / "notebooks" / "01_data.py", given | {"sample": 3})
    assert space["seen"] == "No slice shows enough soft tissue to measure noise in."
    small = {"max_steps": 2, "channels": 4, "patch_size": 32, "batch": 2, "val_patches": 2, "threads": 1}
    scores = execute(ROOT / "notebooks" / "03_train.py", given | small)["scores"].set_index("domain")
    assert scores.value["hu"].notna().all() and scores.value["body"].isna().all()  # no body is seen, and it is said
    assert any("no value" in str(warning.message) for warning in recwarn)


def test_one_file_given_for_both_images_is_said(outputs):
    folder = write_tiny_cohort(outputs / "cohorts" / "simulated-00000000")
    cohort = cohorts.load(folder)
    assert not cohorts.identical(cohort)
    cohorts.refuse_identical(cohort)
    twice = cohorts.Cohort(**{**vars(cohort), "ldct": cohort.ndct})
    with pytest.raises(ValueError, match=r"same images, at dose 0\.25: one file was given for both"):
        cohorts.refuse_identical(twice)
    one = np.array(cohort.ndct)
    one[3, 5, 5] += 1
    assert not cohorts.identical(cohorts.Cohort(**{**vars(cohort), "ldct": one}))


@pytest.mark.parametrize(
    ("edited", "advice"), [("ipynb", "jupytext --to py:percent notebooks/"), ("py", "make notebooks")]
)
def test_the_advice_for_two_versions_of_a_notebook_keeps_the_later_edit(edited, advice, tmp_path):
    script, pair = (tmp_path / f"10_search.{suffix}" for suffix in ("py", "ipynb"))
    for path in (script, pair):
        path.write_bytes((ROOT / "notebooks" / path.name).read_bytes())
    pair.write_text(pair.read_text().replace("start(", "begin(", 1))
    later = script.stat().st_mtime + 10
    os.utime(pair if edited == "ipynb" else script, (later, later))
    with pytest.raises(ValueError, match="hold different code") as raised:
        parameters.read(script)
    assert advice in str(raised.value)


def test_a_folder_whose_name_holds_the_separator_is_one_folder(tmp_path):
    from ldct_utils.cohorts import lookup

    (tmp_path / "study: first").mkdir()
    (tmp_path / "second").mkdir()
    assert lookup.roots(tmp_path / "study: first") == [tmp_path / "study: first"]
    assert lookup.roots(f"{tmp_path}:{tmp_path / 'second'}") == [tmp_path, tmp_path / "second"]


@pytest.mark.parametrize(("source", "other"), [("mayo2016", "tcia"), ("tcia", "mayo2016")])
def test_a_tree_of_the_other_challenge_is_told_with_its_source(tmp_path, source, other):
    folders = {"tcia": ("Low Dose Images", "Full Dose Images"), "mayo2016": ("quarter_1mm", "full_1mm")}[other]
    for folder in folders:
        write_ct(tmp_path / "L067" / folder / "1.dcm", z=0.0, PatientID="L067")
    with pytest.raises(ValueError, match=f"folders are those of source={other}, not of {source}"):
        cohorts.get(source, str(tmp_path), progress=False)
