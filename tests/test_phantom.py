"""Simulated patients: same seed same patient, real scale, known HU, organs and lesions where their masks say."""

import numpy as np
import pytest
from scipy import ndimage

from ldct_utils.ct import intensity
from ldct_utils.phantom import patient, shapes
from ldct_utils.phantom.organs import LABELS

SEED = 3  # its windows show every organ that is asked for


@pytest.fixture(scope="module")
def patients():
    return {anatomy: patient.patient(SEED, anatomy, size=256, slices=2) for anatomy in patient.ANATOMIES}


@pytest.mark.parametrize("anatomy", patient.ANATOMIES)
def test_shapes_types_and_ranges(patients, anatomy):
    one = patients[anatomy]
    for image in (one.truth, one.absent_truth):
        assert image.shape == (2, 256, 256) and image.dtype == np.float32
        assert np.isfinite(image).all() and image.min() >= -1060 and image.max() < 2500
    assert one.organ_masks.dtype == one.lesion_masks.dtype == np.uint8
    assert one.organ_masks.shape == one.lesion_masks.shape == (2, 256, 256)
    assert set(np.unique(one.organ_masks)) <= set(patient.ORGANS)
    assert np.allclose(np.diff(one.z_mm), 3.0) and one.pixel_mm == 0.75


@pytest.mark.parametrize("anatomy", patient.ANATOMIES)
def test_the_seed_fixes_the_patient(patients, anatomy):
    again = patient.patient(SEED, anatomy, size=256, slices=2)
    assert np.array_equal(again.truth, patients[anatomy].truth)
    assert again.lesions.equals(patients[anatomy].lesions)
    other = patient.patient(6, anatomy, size=256, slices=1)
    assert np.abs(other.truth[0] - again.truth[0]).mean() > 10


@pytest.mark.parametrize("anatomy, organ, low, high", [
    ("abdomen", "liver", 80, 135), ("abdomen", "fat", -125, -70), ("abdomen", "muscle", 35, 75),
    ("abdomen", "bone", 150, 900),
    ("chest", "lung", -900, -780), ("chest", "muscle", 35, 75), ("chest", "vessel", 40, 340),
    ("head", "white matter", 24, 34), ("head", "grey matter", 33, 50), ("head", "bone", 700, 1400),
])  # fmt: skip
def test_organs_have_their_hu(patients, anatomy, organ, low, high):
    one = patients[anatomy]
    inside = one.organ_masks == LABELS[organ]
    assert inside.sum() > 200, f"no {organ} in this {anatomy}"
    assert low < np.median(one.absent_truth[inside]) < high


def test_grey_matter_is_denser_than_white_and_fluid_fainter(patients):
    one = patients["head"]
    grey, white, fluid = (
        np.median(one.absent_truth[one.organ_masks == LABELS[name]])
        for name in ("grey matter", "white matter", "cerebrospinal fluid")
    )
    assert fluid < white < grey


def test_parenchyma_has_texture(patients):
    one = patients["abdomen"]
    liver = (one.organ_masks == LABELS["liver"]) & (one.lesion_masks == 0)
    assert 2 < 1.4826 * np.median(np.abs(one.truth[liver] - np.median(one.truth[liver]))) < 12


def test_lungs_hold_vessels_down_to_a_millimetre(patients):
    one = patients["chest"]
    lung_box = (one.truth[0] > -600) & ndimage.binary_erosion(
        ndimage.binary_closing(one.organ_masks[0] == LABELS["lung"], iterations=6), iterations=8
    )
    parts, count = ndimage.label(lung_box)
    area_mm2 = np.bincount(parts.ravel())[1:] * one.pixel_mm**2
    assert count > 15 and (area_mm2 < 4).sum() >= 5


@pytest.mark.parametrize("anatomy", patient.ANATOMIES)
def test_neighbouring_slices_resemble_each_other_more_than_distant_ones(anatomy):
    one = patient.patient(9, anatomy, size=128, slices=4)
    step = [np.abs(one.absent_truth[i] - one.absent_truth[0]).mean() for i in (1, 3)]
    assert 0 < step[0] < step[1]


def test_thin_slices_share_their_anatomy_with_thick_ones():
    """Slices are drawn at their own z: the middle of three equals a single one at the same place."""
    three, one = (patient.patient(2, "abdomen", size=96, slices=count) for count in (3, 1))
    assert three.z_mm[1] == one.z_mm[0]
    assert np.array_equal(three.absent_scene[1], one.absent_scene[0])


def test_a_smaller_image_is_a_window_and_not_a_shrunk_body():
    small, large = (patient.patient(4, "abdomen", size=size, slices=1) for size in (128, 256))
    assert np.array_equal(small.absent_scene, large.absent_scene)
    assert small.truth.shape == (1, 128, 128)
    top, left, height, width = small.crop
    assert np.array_equal(small.absent_truth, small.absent_scene[:, top : top + height, left : left + width])


def test_512_pixels_hold_the_whole_body_in_air():
    one = patient.patient(4, "abdomen", size=512, slices=1)
    assert one.truth.shape == (1, 512, 512)
    body = intensity.body_mask(one.truth[0])
    assert not (body[0].any() or body[:, 0].any() or body[:, -1].any() or body[-1].any())
    area_cm2 = body.sum() * 0.075**2
    assert 350 < area_cm2 < 750  # an adult's


def test_the_whole_body_is_in_the_scene():
    for anatomy in patient.ANATOMIES:
        one = patient.patient(11, anatomy, size=256, slices=1)
        frame = np.concatenate([one.scene[0][0], one.scene[0][:, 0], one.scene[0][:, -1]])
        assert frame.max() < 120 and np.median(frame) == -1000  # at most the table's shell


def lesion_tables(patients):
    extra = [patient.patient(1, "abdomen", slices=2), patient.patient(2, "chest", slices=2)]
    return [*patients.values(), *extra, *(patient.patient(seed, "head", slices=3) for seed in (1, 2))]


def test_lesions_are_what_the_table_says(patients):
    seen = 0
    for one in lesion_tables(patients):
        assert set(np.unique(one.lesion_masks)) - {0} == set(one.lesions.lesion)
        difference = one.truth - one.absent_truth
        for row in one.lesions.itertuples():
            mask = one.lesion_masks == row.lesion
            inside = difference[mask]
            assert np.sign(inside.mean()) == np.sign(row.contrast_hu)
            assert np.abs(inside).max() <= abs(row.contrast_hu) * 1.01 + 1e-3
            assert np.abs(inside).min() >= abs(row.contrast_hu) * 0.49  # the mask holds what is half lesion or more
            assert 2 <= row.radius_mm <= 8 and 10 <= abs(row.contrast_hu) <= 60
            used = np.flatnonzero(mask.any((1, 2)))
            assert row.first_slice <= used.min() and used.max() <= row.last_slice
            y, x = np.argwhere(mask.any(0)).mean(0)
            assert np.hypot(y - row.y, x - row.x) * one.pixel_mm < row.radius_mm
            assert mask.any(0).sum() * one.pixel_mm**2 < 2.2 * np.pi * row.radius_mm**2
            assert (one.organ_masks[mask] == LABELS[row.organ]).mean() > 0.8
            seen += 1
    assert seen > 10


def test_without_its_lesions_the_twin_is_the_same_image(patients):
    for one in patients.values():
        far = np.abs(one.truth - one.absent_truth) == 0
        assert far.mean() > 0.9 and not far.all()
        assert far[:, 0].all()


def test_what_cannot_be_built_is_refused():
    with pytest.raises(ValueError, match="unknown anatomy 'knee'"):
        patient.patient(0, "knee")
    for name in ("size", "slices", "thickness_mm", "pixel_mm"):
        with pytest.raises(ValueError, match=name):
            patient.patient(0, "abdomen", **{name: 0})


def test_signed_distances_are_in_millimetres():
    x = np.array([0.0, 10.0, 13.0])
    assert np.allclose(shapes.ellipsoid(x[1:], 0, 0, (0, 0, 0), (10, 10, 10)), [0, 3], atol=0.3)
    assert np.allclose(shapes.tube(x, 0, 0, (0, 0, -5), (0, 0, 5), 2.0), [-2, 8, 11])
    assert shapes.smooth_min(np.array(1.0), np.array(9.0), 2.0) == 1.0


def test_waves_have_unit_variance_and_their_length_scale():
    waves = shapes.Waves(np.random.default_rng(0), 3.0, 400)
    grid = np.arange(0, 300, 1.0)
    field = waves.at(grid, grid, 7.0)
    assert field.std() == pytest.approx(1, abs=0.1)
    assert np.corrcoef(field[:, :-3].ravel(), field[:, 3:].ravel())[0, 1] == pytest.approx(np.exp(-0.5), abs=0.08)
    assert np.array_equal(waves.at(grid[5:9], grid[2:4], 7.0), field[2:4, 5:9]) or np.allclose(
        waves.at(grid[5:9], grid[2:4], 7.0), field[2:4, 5:9], atol=1e-3
    )


def test_vessel_trees_are_connected_and_obey_murray():
    rng = np.random.default_rng(0)
    segments = shapes.tree(np.zeros(3), rng.uniform(-50, 50, (300, 3)), 0.5)
    assert segments.shape == (300, 8)
    ends = {tuple(p) for p in segments[:, 3:6]} | {(0.0, 0.0, 0.0)}
    assert all(tuple(p) in ends for p in segments[:, :3])
    assert segments[:, 7].min() == 0.5
    from_root = segments[(segments[:, :3] == 0).all(1), 7]
    leaves = sum(1 for p in segments[:, 3:6] if not (segments[:, :3] == p).all(1).any())
    assert np.sum(from_root**2.7) == pytest.approx(leaves * 0.5**2.7)
