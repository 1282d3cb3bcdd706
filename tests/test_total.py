"""TotalSegmentator from files on disk: a package made here stands in its place; offline, and no statistics."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from ldct_utils.segments import total

CLASSES = {1: "spleen", 2: "kidney_right", 3: "lung_upper_lobe_left", 4: "kidney_cyst_left"}
# Says where it was told to look, tries to report as the real one does, and marks voxels by their HU.
PROGRAM = """
import argparse, json, os, pathlib, urllib.request
import nibabel, numpy as np

if __name__ == "__main__":
    asked = argparse.ArgumentParser()
    for word in ("-i", "-o", "--device"):
        asked.add_argument(word)
    for word in ("--ml", "--fast", "--quiet"):
        asked.add_argument(word, action="store_true")
    asked = asked.parse_args()
    home = pathlib.Path(os.environ["TOTALSEG_HOME_DIR"])
    said = {"config": json.loads((home / "config.json").read_text()), "weights": os.environ["TOTALSEG_WEIGHTS_PATH"]}
    try:
        urllib.request.urlopen("http://statistics.example/log", b"{}", timeout=5)
        said["reached"] = True
    except OSError as error:
        said["reached"] = str(error)
    scan = nibabel.load(asked.i)
    said["axes"] = "".join(nibabel.aff2axcodes(scan.affine))
    said["spacing"] = [round(float(z), 3) for z in scan.header.get_zooms()]
    pathlib.Path(said["weights"], "said.json").write_text(json.dumps(said))
    hu = np.asarray(scan.dataobj)
    if hu.max() > 2000:
        raise SystemExit("no such organ")
    classes = np.select([hu > 150, hu > 100, hu < -500, hu > 50], [4, 2, 3, 1], 0)
    nibabel.save(nibabel.Nifti1Image(classes.astype(np.uint8), scan.affine), asked.o)
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package and weights in its form, and the folder of the weights."""
    package = tmp_path / "site" / "totalsegmentator"
    (package / "bin").mkdir(parents=True)
    for folder in (package, package / "bin"):
        (folder / "__init__.py").write_text("")
    (package / "map_to_binary.py").write_text(f"class_map = {{'total': {CLASSES}}}\n")
    (package / "bin" / "TotalSegmentator.py").write_text(PROGRAM)
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    monkeypatch.setenv("LDCT_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("NO_PROXY", "*")
    fold = tmp_path / "weights" / "totalsegmentator" / "Dataset297_total_3mm" / "trainer__plans__3d" / "fold_0"
    fold.mkdir(parents=True)
    held = {"network_weights": {"a": torch.zeros(2)}, "logging": {"ema": [np.float32(0.5), np.float64(0.1)]}}
    torch.save(held | {"init_args": {"fold": 0, "device": torch.device("cpu")}}, fold / "checkpoint_final.pth")
    return tmp_path / "weights" / "totalsegmentator"


def scan():
    """A stack of ten slices of 6 mm; from the front to the back a lung, a kidney and a spleen, and a cyst."""
    volume = np.zeros((10, 12, 8), np.float32)
    volume[:, :3], volume[2:5, 5, 1:4], volume[7, 8:10, 6], volume[0, 11, 0] = -800, 120, 60, 200
    return volume


def test_organs_come_from_a_process_that_is_told_to_report_nothing_and_reaches_nobody(installed):
    labels = total.organs(scan(), (6.0, 0.7, 0.8))
    names = ["none", *total.ORGANS]
    where = {name: labels == number for number, name in enumerate(names)}
    assert labels.dtype == np.uint8 and {n for n in names if where[n].any()} == {"none", "lungs", "kidneys", "spleen"}
    volume = scan()
    assert (where["lungs"] == (volume == -800)).all() and (where["kidneys"] == (volume == 120)).all()
    assert (where["spleen"] == (volume == 60)).all()  # a cyst is no kidney
    said = json.loads((installed / "said.json").read_text())
    assert said["config"]["send_usage_stats"] is False and said["weights"] == str(installed)
    assert "refused" in said["reached"]
    assert said["axes"] == "LPS" and said["spacing"] == [0.8, 0.7, 6.0]


def test_slices_of_a_cohort_are_segmented_as_a_part_of_their_whole_scan(monkeypatch):
    seen = []

    def drawn(volume, spacing, device):  # labels are the slice's number, so that a wrong order shows
        seen.append((len(volume), spacing))
        return volume.astype(np.uint8)

    monkeypatch.setattr(total, "organs", drawn)
    table = pd.DataFrame({"row": range(8), "patient": ["A"] * 4 + ["B"] * 4, "series": "1", "pixel_mm": 0.7})
    table["z_mm"] = [9.0, 6, 3, 0, 0, 1, 2, 3]  # A comes from the head down
    images = np.arange(8)[:, None, None] * np.ones((1, 2, 2), np.int16)
    cohort = SimpleNamespace(slices=table, ndct=images, organs={})
    assert total.of_cohort(cohort, [5, 0, 2])[:, 0, 0].tolist() == [5, 0, 2]
    assert seen == [(4, (3.0, 0.7, 0.7)), (4, (1.0, 0.7, 0.7))]
    assert len(total.of_cohort(cohort, [7])) == 1 and len(seen) == 3  # the other patient is left alone
    table.loc[6, "z_mm"] = 2.5
    with pytest.raises(ValueError, match="series 1 of B is no evenly spaced scan"):
        total.of_cohort(cohort, [5])
    table["z_mm"] = np.nan
    with pytest.raises(ValueError, match="series 1 of A is no evenly spaced scan"):
        total.of_cohort(cohort, [0])


def test_without_the_package_or_its_weights_it_is_said_what_is_missing(tmp_path, monkeypatch, installed):
    assert total.missing() is None
    monkeypatch.setenv("LDCT_WEIGHTS", str(tmp_path / "none"))
    assert "no Dataset297" in total.missing()
    with pytest.raises(FileNotFoundError, match=r"no Dataset297.*totalsegmentator.*by thresholds"):
        total.organs(scan(), (6.0, 0.7, 0.8))
    monkeypatch.setattr(total.importlib.util, "find_spec", lambda name: None)
    assert total.missing() == "the package TotalSegmentator is not installed"


class Code:
    """A pickle that would run code when it is opened."""

    def __reduce__(self):
        return (print, ("code ran",))


def test_weights_that_would_run_code_are_not_handed_to_the_program(installed, capfd):
    (path,) = installed.rglob("checkpoint_final.pth")
    torch.save({"network_weights": Code()}, path)
    with pytest.raises(ValueError, match="no plain file of tensors"):
        total.organs(scan(), (6.0, 0.7, 0.8))
    assert "code ran" not in capfd.readouterr().out and not (installed / "said.json").exists()


@pytest.mark.parametrize(
    ("volume", "spacing", "message"),
    [
        (scan()[0], (6.0, 0.7, 0.8), r"take \(Z, H, W\)"),
        (scan(), (6.0, 0.7), "three spacings"),
        (scan(), (np.nan, 0.7, 0.8), "three spacings"),
        (scan(), (3.0, 0.7, 0.8), "a scan of 50 mm or more along z, not 30"),
        (scan() + 3000, (6.0, 0.7, 0.8), "TotalSegmentator failed: no such organ"),
    ],
)
def test_what_cannot_be_segmented_is_refused(installed, volume, spacing, message):
    with pytest.raises(ValueError, match=message):
        total.organs(volume, spacing)
