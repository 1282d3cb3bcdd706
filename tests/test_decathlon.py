"""Volumes of the Medical Segmentation Decathlon, read from small tasks that are written here."""

import json

import nibabel
import numpy as np
import pytest

from ldct_utils.structures import decathlon, removal


def task(folder, modality=("CT",), labels=("background", "cancer"), count=2, shape=(40, 36, 6), affine=None, seed=0):
    """An unpacked task of boxes in soft tissue; returns its folder and the labels by volume, (X, Y, Z)."""
    rng, truths = np.random.default_rng(seed), {}
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    affine = np.diag([-0.8, 0.7, 3.0, 1.0]) if affine is None else affine
    for number in range(count):
        truth = np.zeros(shape, np.uint8)
        for label in range(1, len(labels)):
            x, y = rng.integers(8, shape[0] - 14), 6 + 12 * (label - 1)
            truth[x : x + 5, y : y + 4, 1 + label : 4 + label] = label
        ct = modality[0] == "CT"
        image = rng.normal(50 if ct else 400, 5, shape) + 60 * truth
        image[:3] = -1000 if ct else 0
        if len(modality) > 1:
            image = np.stack([image * (1 + c) for c in range(len(modality))], -1)
        name = f"case_{number:03d}.nii.gz"
        nibabel.save(nibabel.Nifti1Image(image.astype(np.float32), affine), folder / "imagesTr" / name)
        nibabel.save(nibabel.Nifti1Image(truth, affine), folder / "labelsTr" / name)
        truths[name[:8]] = truth
    pairs = [{"image": f"./imagesTr/{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"} for n in truths]
    described = {"name": "Made", "modality": {str(i): m for i, m in enumerate(modality)},
                 "labels": {str(i): name for i, name in enumerate(labels)}, "training": pairs}  # fmt: skip
    (folder / "dataset.json").write_text(json.dumps(described))
    return folder, truths


def test_a_volume_is_read_in_hu_as_a_reader_sees_it(tmp_path):
    folder, truths = task(tmp_path / "Task06_Lung")
    found = list(decathlon.volumes(folder))
    assert [one.name for one in found] == list(truths) and {one.unit for one in found} == {"HU"}
    one = found[0]
    assert one.image.shape == (6, 36, 40) and one.image.dtype == np.float32 and one.without is None
    assert one.spacing_mm == pytest.approx((3.0, 0.7, 0.8))
    # Stored with x towards the left, as the affine says: a reader's first column is the patient's right, so is x = 0.
    seen = truths[one.name].transpose(2, 1, 0)[:, ::-1]
    assert ((one.structures > 0) == (seen > 0)).all() and len(one.table) == 1
    assert np.abs(one.image[:, :, :3] + 1000).max() == 0 and one.table.loc[0, "voxels"] == 60


def test_the_orientation_follows_the_affine_and_not_the_order_of_storage(tmp_path):
    affine = np.array([[0, 0.7, 0, 0], [0.8, 0, 0, 0], [0, 0, -3.0, 0], [0, 0, 0, 1]])  # stored as (y, x, -z)
    folder, truths = task(tmp_path / "t", affine=affine)
    one = next(decathlon.volumes(folder))
    seen = truths[one.name][:, :, ::-1].transpose(2, 0, 1)[:, ::-1, ::-1]
    assert one.spacing_mm == pytest.approx((3.0, 0.8, 0.7)) and ((one.structures > 0) == (seen > 0)).all()


def test_mri_is_normalised_by_volume_and_said_to_have_no_hu(tmp_path):
    folder, _ = task(
        tmp_path / "Task01", ("FLAIR", "T1w"), ("background", "edema", "enhancing tumour"), shape=(40, 72, 8)
    )
    first, second = (next(decathlon.volumes(folder, channel=c)) for c in (None, "T1w"))
    assert "no HU" in first.unit and len(first.table) == 2
    assert first.image == pytest.approx(second.image, abs=1e-2)  # the second channel is twice the first
    inside = first.image[first.image > first.image.min() + 50]
    assert np.percentile(inside, 0.5) == pytest.approx(-150, abs=5) and np.percentile(inside, 99.5) == pytest.approx(
        250, abs=5
    )
    assert not set(removal.NEED_HU) & set(removal.usable(first))
    names = ["psnr", "ssim", "mean_srmse"]
    found = removal.tpf([first], (0.1,), (0.0,), names=names, method="biharmonic").set_index("metric")["tpf"]
    assert found[[*names, removal.ORACLE]].eq(1).all()


def test_vessels_are_cut_and_tumours_are_not(tmp_path):
    folder, _ = task(tmp_path / "Task08", labels=("background", "Vessel", "Tumour"), shape=(40, 72, 40), count=1)
    labels = np.zeros((40, 72, 40), np.uint8)
    labels[10:16, 10:16, 2:30], labels[25:35, 40:50, 5:20] = 1, 2
    nibabel.save(nibabel.Nifti1Image(labels, np.eye(4)), folder / "labelsTr" / "case_000.nii.gz")
    image = np.where(labels, 150, np.where(np.arange(40)[:, None, None] < 3, -1000, 60)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(image, np.eye(4)), folder / "imagesTr" / "case_000.nii.gz")
    one = next(decathlon.volumes(folder))
    assert one.table["cut"].sum() == 28 and (~one.table["cut"]).sum() == 1 and "28 pieces" in one.text
    kept = next(decathlon.volumes(folder, slices=4))
    assert len(kept.image) == 4 and (kept.structures > 0).any((1, 2)).all()


def test_names_numbers_and_unlabelled_volumes_are_obeyed(tmp_path):
    folder, _ = task(tmp_path / "t", count=3)
    empty = nibabel.Nifti1Image(np.zeros((40, 36, 6), np.uint8), np.diag([-0.8, 0.7, 3.0, 1.0]))
    nibabel.save(empty, folder / "labelsTr" / "case_000.nii.gz")
    assert [v.name for v in decathlon.volumes(folder, most=1)] == ["case_001"]
    assert [v.name for v in decathlon.volumes(folder, names=["case_002"])] == ["case_002"]
    with pytest.raises(ValueError, match="lists no volume 'case_9'"):
        next(decathlon.volumes(folder, names=["case_9"]))
    with pytest.raises(ValueError, match="no channel 'T2w'; it has CT"):
        next(decathlon.volumes(folder, channel="T2w"))
    with pytest.raises(ValueError, match="1 or more, got 0"):
        next(decathlon.volumes(folder, names=["case_001"], slices=0))


def truncate(folder):
    file = folder / "imagesTr" / "case_000.nii.gz"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def replace(part, image):
    def change(folder):
        nibabel.save(nibabel.Nifti1Image(image, np.eye(4)), folder / part / "case_000.nii.gz")

    return change


def describe(**changed):
    def change(folder):
        file = folder / "dataset.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changed))

    return change


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        (lambda f: (f / "dataset.json").unlink(), FileNotFoundError, "not an unpacked Decathlon task"),
        (lambda f: (f / "dataset.json").write_text("{"), ValueError, "is no JSON"),
        (lambda f: (f / "dataset.json").write_text("{}"), ValueError, "lacks modality, labels, training"),
        (lambda f: (f / "labelsTr" / "case_000.nii.gz").unlink(), FileNotFoundError, "labelsTr.*missing: unpack"),
        (truncate, ValueError, r"imagesTr.*is truncated or no NIfTI"),
        (lambda f: (f / "imagesTr" / "case_000.nii.gz").write_bytes(b"text"), ValueError, "truncated or no NIfTI"),
        (lambda f: (f / "imagesTr" / "case_000.nii.gz").write_bytes(b"\x1f\x8b\x08" + bytes(64)), ValueError,
         "truncated or no NIfTI"),
        (replace("labelsTr", np.zeros((9, 9, 9), np.uint8)), ValueError, r"its labels \(9, 9, 9\)"),
        (replace("imagesTr", np.zeros((40, 36, 6, 2), np.float32)), ValueError, "channels as dataset.json lists, 1"),
        (replace("labelsTr", np.full((40, 36, 6), 7, np.uint8)), ValueError, "holds 7, a label that dataset.json"),
        (replace("labelsTr", np.full((40, 36, 6), 0.5, np.float32)), ValueError, "holds 0.5, a label"),
        (replace("imagesTr", np.full((40, 36, 6), np.nan, np.float32)), ValueError, "values that are not finite: 8640"),
        (replace("imagesTr", np.ones((40, 36, 6), np.float32)), ValueError, "spans 1 to 1, which is no CT in HU"),
        (describe(training=[{"image": "../x.nii.gz", "label": "../x.nii.gz"}]), ValueError, "lies outside the task"),
    ],
)  # fmt: skip
def test_a_faulty_task_is_refused_by_name(tmp_path, fault, error, message):
    folder, _ = task(tmp_path / "task", count=1)
    fault(folder)
    with pytest.raises(error, match=message):
        list(decathlon.volumes(folder))


def test_a_folder_that_is_absent_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="Task06_Lung is not an unpacked"):
        list(decathlon.volumes(tmp_path / "Task06_Lung"))


def test_mri_without_grey_values_is_refused():
    with pytest.raises(ValueError, match="no range of grey values"):
        decathlon.normalised(np.zeros((2, 4, 4), np.float32))
