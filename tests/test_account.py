"""Fifty broken and odd files at once: each is used right or listed with its reason, and none is lost on the way."""

import json
import shutil
import zipfile

import numpy as np
import pydicom
import pytest
from dicom_files import image as disc
from dicom_files import truncate, write_ct, write_pair
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from ldct_utils import cohorts
from ldct_utils.ct import dicom
from ldct_utils.denoisers import stacks

QUIET = {"progress": False}
SECONDARY, SR, ENHANCED = "1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.88.11", "1.2.840.10008.5.1.4.1.1.2.1"


def image(seed, size=128):
    """A slice large enough for its own noise to be measured."""
    return disc(seed, size)


def junk(folder):
    """Files that are no DICOM at all, whatever their names say; returns how many."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in {
        "readme.txt": b"hello", "notes.json": json.dumps({"a": 1}).encode(), "empty.dcm": b"", "empty": b"",
        "noise.IMA": np.random.default_rng(0).bytes(4096), "zeros.dcm": bytes(4096), "page.html": b"<html></html>" * 40,
        "movie.mp4": b"\0\0\0\x18ftypmp42" * 50, "Thumbs.db": b"\xd0\xcf\x11\xe0" * 64, "script.sh": b"no\n",
        "preamble.dcm": b"\0" * 128 + b"DICM", "half.dcm": b"\0" * 128 + b"DICM\x02\0\0\0UL\x04\0",
        "table.xml": b"<a/>", "volume.nii.gz": b"\x1f\x8b\x08" + bytes(64),
        "picture.png": b"\x89PNG\r\n\x1a\n" + bytes(64),
    }.items():  # fmt: skip
        (folder / name).write_bytes(content)
    with zipfile.ZipFile(folder / "series.zip", "w") as packed:
        packed.writestr("a.dcm", b"x")
    np.save(folder / "array.npy", np.zeros((4, 4)))
    return len(list(folder.iterdir()))


def odd_slices(folder):
    """CT-like files that cannot be used as they are; returns how many. No two lie at one position."""
    at, there = iter(range(1000, 4000, 9)), len(list(folder.glob("*.dcm")))

    def ct(name, **changes):
        return write_ct(folder / f"{name}.dcm", image(7), z=float(next(at)), **changes)

    ct("scout", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    ct("mip", ImageType=["DERIVED", "SECONDARY", "MIP"])
    ct("iodine", ImageType=["DERIVED", "PRIMARY", "AXIAL", "IODINE"])
    ct("zeff", RescaleType="Z_EFF")
    ct("mgml", RescaleType="MGML")
    ct("density", RescaleType="ED")
    ct("numbers", ImageType=["DERIVED", "PRIMARY", "AXIAL", "EFF_ATOMIC_NUM"])
    ct("capture", SOPClassUID=SECONDARY)
    ct("report", SOPClassUID=SR, Modality="SR")
    ct("enhanced", SOPClassUID=ENHANCED)
    ct("mr", Modality="MR")
    ct("oblong", PixelSpacing=[0.7, 1.4])
    for name in ("RescaleSlope", "RescaleIntercept", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing",
                 "Rows", "Columns", "PixelData", *dicom.PIXELS):  # fmt: skip
        ct(f"no{name}", without=[name])
    ct("frames", NumberOfFrames=3)
    ct("colours", SamplesPerPixel=3)
    ct("window", BitsAllocated=8, BitsStored=8, HighBit=7)
    truncate(ct("cut"))
    shutil.copy(ct("spare"), folder / "copy of spare.dcm")  # one of the two is used, the other is a copy
    path = ct("coronal", ImageOrientationPatient=[1, 0, 0, 0, 0, -1])
    data = pydicom.dcmread(path)
    data.SeriesInstanceUID = "1.2.826.0.1.99.77"
    data.save_as(path)
    return len(list(folder.glob("*.dcm"))) - there


def legal(folder):
    """Slices that are written in ways that are rare and legal; all of them can be used."""
    write_ct(folder / "rle.dcm", image(1), z=5000.0, compress=RLELossless)
    write_ct(folder / "j2k.dcm", image(2), z=5003.0, compress=JPEG2000Lossless)
    path = write_ct(folder / "deflated.dcm", image(3), z=5006.0)
    data = pydicom.dcmread(path)
    data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    data.save_as(path, enforce_file_format=True)
    path = write_ct(folder / "bare.dcm", image(4), z=5009.0)
    data, written = pydicom.dcmread(path), pydicom.filebase.DicomBytesIO()
    bare = pydicom.Dataset()
    bare.update(data)
    written.is_little_endian = written.is_implicit_VR = True
    pydicom.filewriter.write_dataset(written, bare)
    path.write_bytes(written.getvalue())
    write_ct(folder / "no suffix", image(5), z=5012.0)
    return 5


def unread(path):
    """A file of a volume or an array whose beginning is right and whose rest is none of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((b"PK\3\4" if path.suffix == ".npz" else b"\x1f\x8b\x08") + bytes(64))
    return path


def listed(cohort):
    return sum(entry["files"] for entry in cohort.meta["skipped"])


def reasons(cohort):
    return {entry["reason"] for entry in cohort.meta["skipped"]}


def test_dicom_used_and_listed_are_what_was_given(tmp_path, outputs):
    root = tmp_path / "data"
    given = junk(root / "junk") + odd_slices(root / "odd") + legal(root / "legal")
    (root / ".hidden").write_text("x")
    (root / "DICOMDIR").write_text("x")  # an index, passed over
    cohort = cohorts.get("dicom", root, split="train", kernel="hann", **QUIET)
    assert given >= 50 and len(cohort.slices) + listed(cohort) == given
    assert len(cohort.slices) == 6  # the legal ones, and one of two copies
    for row, seed in zip(cohort.slices.sort_values("z_mm").itertuples(), (7, 1, 2, 3, 4, 5)):
        assert np.array_equal(cohort.ndct[row.row], image(seed)), row
    said = " ".join(reasons(cohort))
    for words in (
        "localizer",
        "MIP",
        "Z_EFF",
        "Secondary Capture",
        "Enhanced CT",
        "not square",
        "truncated",
        "no PixelSpacing",
        "no PixelRepresentation",
        "8 bits",
        "not an axial series",
        "unpack it",
        "NIfTI",
        "not a DICOM file",
        "same slice as another file",
    ):
        assert words in said, words  # fmt: skip
    assert "DOE" not in said.upper() and str(tmp_path) not in said


@pytest.mark.parametrize("source", ["mayo2016", "tcia"])
def test_pairs_used_and_listed_are_what_was_given(tmp_path, outputs, source):
    root = tmp_path / "data"
    if source == "mayo2016":
        write_pair(root, "L067", zs=(0.0, 3.0, 6.0), low_zs=(0.0, 3.0, 9.0))
        inside = root / "L067" / "full_1mm"
    else:
        for dose, seed in (("Low Dose Images", 1), ("Full Dose Images", 2)):
            for i in range(3):
                write_ct(root / "L067" / dose / f"{i}.dcm", image(seed + i), z=3.0 * i + (dose[0] == "L" and i == 2),
                         PatientID="L067")  # fmt: skip
        inside = root / "L067" / "Full Dose Images"
    given = 6 + junk(root / "junk") + odd_slices(inside)
    cohort = cohorts.get(source, root, split="train", **QUIET)
    assert len(cohort.slices) == 2 and 2 * len(cohort.slices) + listed(cohort) == given
    assert any("at its position" in reason for reason in reasons(cohort))


def test_own_pairs_used_listed_and_noted_are_what_was_given(tmp_path, outputs):
    root = tmp_path / "data"
    for dose, seed in (("low", 1), ("full", 2)):
        for i in range(3):
            write_ct(root / "Ann" / dose / f"{i}.dcm", image(seed + i), z=3.0 * i + (dose == "low" and i == 2))
    given = 3 + junk(root / "Ann" / "full") + odd_slices(root / "Ann" / "low")  # the full dose lies among the junk
    for volume in ("volume.nii.gz", "array.npy"):  # which would be pairs of their own
        (root / "Ann" / "full" / volume).rename(root / volume)
    (root / "Ann" / "other" / "x").mkdir(parents=True)
    write_ct(root / "Ann" / "other" / "x" / "1.dcm")
    cohort = cohorts.get("paired", root, split="train", pairs="low={patient}/low, full={patient}/full", **QUIET)
    assert "3 files below data_root are in no pair that was named" in cohort.meta["notes"]
    assert len(cohort.slices) == 2 and 2 * len(cohort.slices) + listed(cohort) + 2 == given


@pytest.mark.parametrize("name", ["volume.nii.gz", "array.npz"])
def test_a_damaged_volume_is_said_to_be_one(tmp_path, outputs, name):
    for dose in ("low", "full"):
        unread(tmp_path / "data" / "Ann" / dose / name)
    with pytest.raises(ValueError, match="truncated or"):
        cohorts.get("paired", tmp_path / "data", pairs="low={patient}/low, full={patient}/full", **QUIET)
    if name.endswith(".gz"):
        with pytest.raises(ValueError, match=r"IN is no whole NIfTI file"):
            stacks.find(tmp_path / "data" / "Ann" / "low" / name, tmp_path)


def test_arrays_used_and_listed_are_what_was_given(tmp_path, outputs):
    root = tmp_path / "data"
    given = junk(root / "junk")
    for name in ("L067_0_input", "L067_0_target", "L067_1_input", "L096_0_target", "L096_input", "x", "L067_0_output"):
        np.save(root / f"{name}.npy", ((image(3, 64).astype(float) + 1024) / 4096).astype("f4"))
        given += 1
    cohort = cohorts.get("npy", root, split="train", **QUIET)
    assert len(cohort.slices) == 1 and 2 * len(cohort.slices) + listed(cohort) == given
    assert any("its name is not" in reason for reason in reasons(cohort))
