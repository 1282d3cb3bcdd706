"""What is said of data that cannot do what is asked: which parameter to give, before anything is computed."""

import re

import pytest
from conftest import ROOT, write_tiny_cohort
from notebook_cells import code_cells

from ldct_utils import cohorts, data_sources, report, runs, studies


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"test_source": "npy", "test_root": None}, "test_source=npy reads files: give test_root"),
        ({"source": "simulated", "data_root": None, "test_source": "tcia", "test_root": ""}, "give test_root"),
        ({"source": "dicom", "data_root": None}, "source=dicom reads files: give data_root"),
    ],
)
def test_a_source_of_files_without_its_folder_is_told_by_the_name_of_the_parameter(values, message):
    with pytest.raises(ValueError, match=message):
        data_sources.check_folders(values)


def test_sources_that_need_no_folder_and_folders_that_are_given_pass():
    for values in (
        {},
        {"source": "simulated"},
        {"test_source": None},
        {"test_source": "simulated", "test_root": None},
        {"source": "npy", "data_root": "a", "test_source": "tcia", "test_root": "b"},
        {"source": "nyp"},
    ):  # fmt: skip  an unknown source is told by those who know it
        data_sources.check_folders(values)


@pytest.mark.parametrize("name", ["03_train", "04_metrics_during_training", "09_subtle_details"])
def test_a_notebook_names_test_root_before_it_looks_for_runs_or_builds_a_cohort(name, outputs):
    space = {}
    exec(code_cells(ROOT / "notebooks" / f"{name}.py")[0], space)
    with pytest.raises(ValueError, match="test_source=npy reads files: give test_root"):
        runs.start(name, space | {"runs": [], "test_source": "npy"})
    assert not list(outputs.iterdir())


def test_a_study_without_the_folder_of_its_test_data_is_stopped_as_it_is_planned(tmp_path, monkeypatch):
    monkeypatch.setenv("LDCT_STUDY_ROOT", str(tmp_path))
    (tmp_path / "notebooks").symlink_to(ROOT / "notebooks")
    (tmp_path / "params").mkdir()
    (tmp_path / "params" / "real.yaml").write_text("notebooks: {03_train: {runs: [{name: one, test_source: npy}]}}")
    with pytest.raises(ValueError, match="real: 03_train/one: test_source=npy reads files: give test_root"):
        studies.plan("real")
    assert studies.plan("real", {"test_root": "data"})[0].params["test_root"].endswith("data")


def test_03_train_without_training_patients_says_what_to_give(outputs, monkeypatch):
    folder = write_tiny_cohort(outputs / "cohorts" / "simulated-00000000", 2, 1)
    cohort = cohorts.load(folder)
    cohort.slices["split"] = ["test", "val"]
    space = {"run": None, "report": report, "max_steps": 10, "normalise": "none"}
    monkeypatch.setattr(cohorts, "get", lambda *_: cohort)
    given, *cells = code_cells(ROOT / "notebooks" / "03_train.py")
    (pairs,) = (cell for cell in cells if "cohort = cohorts.get(" in cell)
    exec(given, values := {})
    said = "no training patients: its split, draw, gives 1 patient to test, 1 patient to val. Give split=draw, a split"
    with pytest.raises(ValueError, match=re.escape(said) + " file .*under train, or split=train"):
        exec(pairs, values | space | {"cohorts": cohorts})


@pytest.mark.parametrize(
    ("number", "word", "said"),
    [(1, "slice", "1 slice"), (0, "slice", "0 slices"), (2, "test slice", "2 test slices"), (3, "patch", "3 patches"),
     (1, "patch", "1 patch")],
)  # fmt: skip
def test_one_thing_is_not_several(number, word, said):
    assert report.plural(number, word) == said


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.py")), ids=lambda p: p.stem)
def test_no_text_counts_patients_or_slices_without_their_plural(path):
    for line in path.read_text(encoding="utf-8").split("\n"):
        for count in ("len(rows)}", "nunique()}", "len(about)}", "{patients}", "len(tested)}", "len(picked)}"):
            assert not any(f"{count} {what}s" in line for what in ("slice", "patient", "test slice")), line
