"""``make denoise``: a series becomes a derived one that says what it is, keeps its header and survives a kill."""

import gzip
import hashlib
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import torch
from conftest import ROOT, write_tiny_cohort
from dicom_files import IDENTITY, find_identity, image, truncate, write_ct
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRBigEndian, ImplicitVRLittleEndian, JPEG2000Lossless
from scipy import ndimage

from ldct_utils.denoisers import derived, familiar, opened, series, stacks
from ldct_utils.models import networks
from ldct_utils.study import runs
from ldct_utils.training import checkpoints

FILTER = "gaussian:sigma_px=0.7"
CHANGED = {  # everything that may differ between a slice and what is made of it
    *("SOPInstanceUID", "SeriesInstanceUID", "ImageType", "SeriesNumber", "SeriesDescription", "DerivationDescription"),
    *("SourceImageSequence", "PixelData", "SmallestImagePixelValue", "LargestImagePixelValue"),
}


def gone(text):
    """Marks an element that must be gone from the output."""
    return Dataset.from_json({"00080100": {"vr": "SH", "Value": [text]}})


def write_series(folder, count=4, size=96, name="{}.dcm", **tags):
    """A small series in a folder whose name identifies the patient; file order is not that of z."""
    for i in range(count):
        write_ct(folder / name.format(count - i), image(i, size), 3.0 * i, InstanceNumber=str(i + 1), **tags)
    return folder


@pytest.fixture
def source(tmp_path):
    return write_series(tmp_path / "Doe^Jane" / "PID-4711")


@pytest.fixture(autouse=True)
def _own_outputs(outputs):
    """Nothing reaches the study's own outputs."""


def fingerprints(folder) -> dict:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(Path(folder).rglob("*"))
        if p.is_file() and p.name != ".denoise.lock"
    }


def slices_of(folder) -> list:
    return sorted((pydicom.dcmread(p) for p in Path(folder).rglob("*.dcm")), key=lambda d: d.ImagePositionPatient[2])


def in_hu(data):
    return data.pixel_array * float(data.RescaleSlope) + float(data.RescaleIntercept)


def denoise(source, out, name=FILTER, **given):
    said = []
    series.denoise(name, source, out, say=said.append, progress=False, **given)
    return "\n".join(said)


# ---- DICOM ----
def test_a_series_becomes_a_derived_one(source, tmp_path):
    before = fingerprints(source)
    said = denoise(source, tmp_path / "out")
    assert fingerprints(source) == before
    was, made = slices_of(source), slices_of(tmp_path / "out")
    assert len(made) == 4 and len({d.SOPInstanceUID for d in (*was, *made)}) == 8
    assert len({d.SeriesInstanceUID for d in made}) == 1 and made[0].SeriesInstanceUID != was[0].SeriesInstanceUID
    for old, new in zip(was, made):
        assert new.file_meta.MediaStorageSOPInstanceUID == new.SOPInstanceUID
        assert new.file_meta.TransferSyntaxUID == pydicom.uid.ExplicitVRLittleEndian
        assert list(new.ImageType) == ["DERIVED", "SECONDARY", "AXIAL"]
        assert new.SeriesDescription == "denoised, not for diagnosis: gaussian sigma_px=0.7"
        assert "gaussian" in new.DerivationDescription and "not for diagnosis" in new.DerivationDescription
        (origin,) = new.SourceImageSequence
        assert origin.ReferencedSOPInstanceUID == old.SOPInstanceUID
        assert origin.ReferencedSOPClassUID == CTImageStorage
        wanted = ndimage.gaussian_filter(in_hu(old).astype(np.float32), 0.7)
        assert np.abs(in_hu(new) - wanted).max() <= 0.5
        assert all(uid.is_valid for uid in (new.SOPInstanceUID, new.SeriesInstanceUID))
    assert "slices: 4 (DICOM)" in said and "slices/s" in said
    assert {p.name for p in (tmp_path / "out").iterdir()} == {f"{i}.dcm" for i in (1, 2, 3, 4)} | {
        ".denoise.json", ".denoise.lock",
    }  # fmt: skip


@pytest.mark.parametrize("syntax", ["explicit", "implicit", "compressed"])
def test_the_header_stays_but_for_what_must_change(syntax, tmp_path):
    kept = {
        "AccessionNumber": "A-1", "KVP": "120", "WindowCenter": "40", "PixelPaddingValue": -2000,
        "RequestAttributesSequence": [gone("kept")], "PatientComments": "stays", "LossyImageCompression": "00",
    }  # fmt: skip
    untrue = {"IconImageSequence": [gone("preview")], "InstanceCreationDate": "20190817"}
    compress = JPEG2000Lossless if syntax == "compressed" else None
    unsigned = {"PixelRepresentation": 0, "PixelPaddingValue": 0} if compress else {}
    path = write_ct(tmp_path / "in" / "1.dcm", image(0, 96), compress=compress, **(kept | untrue | unsigned))
    old = pydicom.dcmread(path)
    block = old.private_block(0x0029, "OWN", create=True)
    block.add_new(0x10, "LO", "private")
    if syntax == "implicit":
        old.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    old.save_as(path, enforce_file_format=True)
    denoise(tmp_path / "in", tmp_path / "out")
    old, (new,) = pydicom.dcmread(path), slices_of(tmp_path / "out")
    gone_now = {e.keyword for e in old} - {e.keyword for e in new}
    assert gone_now == set(untrue)
    assert {e.keyword for e in new} - {e.keyword for e in old} <= CHANGED
    for element in old:
        if element.keyword not in {*CHANGED, *untrue, "RequestAttributesSequence"} and element.tag.group != 0x0029:
            assert new[element.tag] == element, element.keyword
    assert new.RequestAttributesSequence[0].CodeValue == "kept"
    private = new.private_block(0x0029, "OWN")[0x10].value
    assert private in ("private", b"private ", b"private")  # without a VR in the source it stays bytes


@pytest.mark.parametrize(
    ("tags", "slope", "intercept"),
    [({}, 1.0, -1024.0), ({"PixelRepresentation": 0}, 1.0, -1024.0), ({}, 0.5, 0.0), ({}, 2.0, -1024.0),
     ({"PixelRepresentation": 0, "BitsStored": 12, "HighBit": 11}, 1.0, -1024.0)],
)  # fmt: skip
def test_numbers_come_back_in_the_scale_of_the_source(tags, slope, intercept, tmp_path):
    write_ct(tmp_path / "in" / "1.dcm", image(0, 96), slope=slope, intercept=intercept, **tags)
    denoise(tmp_path / "in", tmp_path / "out")
    (old,), (new,) = slices_of(tmp_path / "in"), slices_of(tmp_path / "out")
    assert (new.RescaleSlope, new.RescaleIntercept) == (old.RescaleSlope, old.RescaleIntercept)
    assert (new.BitsStored, new.PixelRepresentation) == (old.BitsStored, old.PixelRepresentation)
    wanted = ndimage.gaussian_filter(np.rint(in_hu(old)).clip(-1024).astype(np.float32), 0.7)
    assert np.abs(in_hu(new) - wanted).max() <= slope / 2 + 1e-3


@pytest.mark.parametrize(("signed", "bits"), [(0, 12), (1, 12), (0, 16), (1, 16)])
def test_what_does_not_fit_is_clipped_and_counted_and_never_wraps(signed, bits):
    hu = np.array([[-5000.0, -1024.0, 40.4, 90000.0]])
    was = np.array([[5, 6, 7, 8]], f"{'i' if signed else 'u'}2")
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    made, clipped = derived.to_stored(hu, was, np.zeros_like(was, bool), 1.0, -1024.0, low, high)
    assert made.dtype == was.dtype and clipped == 1 + (low > -5000 + 1024)
    assert made.tolist() == [[max(low, -5000 + 1024), 0, 1064, high]]


def test_a_network_that_leaves_the_scale_is_told_how_much_was_clipped(tmp_path, monkeypatch):
    source = write_series(tmp_path / "in", PixelRepresentation=0, BitsStored=12, HighBit=11)  # to 3071 HU
    (tmp_path / "leaves_scale.py").write_text(
        "import numpy as np\ndef f(x):\n    made = x.copy()\n    made[..., 40:43, 40] = 3500\n    return made\n"
    )
    monkeypatch.chdir(tmp_path)
    said = denoise(source, tmp_path / "out", "leaves_scale:f")
    assert "clipped: 12 pixels" in said
    for new in slices_of(tmp_path / "out"):
        assert (new.pixel_array[40:43, 40] == 4095).all() and new.BitsStored == 12


@pytest.mark.parametrize(
    ("padding", "limit", "signed"), [(-2000, None, 1), (-2000, -1500, 1), (0, None, 0), (None, None, 1)]
)
def test_padding_stays_to_the_bit_and_tissue_never_becomes_padding(padding, limit, signed, tmp_path):
    hu = image(0, 96)
    intercept = -1024.0 if not signed else 0.0
    value = -2000 if padding is None else padding
    hu[:8], hu[8:10] = value + intercept, (-1700 if limit else -3000 if signed else value + intercept)
    tags = {"PixelRepresentation": signed}
    tags |= {"PixelPaddingValue": padding} if padding is not None else {}
    tags |= {"PixelPaddingRangeLimit": limit} if limit else {}
    write_ct(tmp_path / "in" / "1.dcm", hu, intercept=intercept, **tags)
    denoise(tmp_path / "in", tmp_path / "out")
    (old,), (new,) = slices_of(tmp_path / "in"), slices_of(tmp_path / "out")
    keep = derived.is_no_measurement(old, old.pixel_array)
    assert keep[:10].all() and keep.sum() < 2000
    assert (new.pixel_array[keep] == old.pixel_array[keep]).all()
    assert not derived.is_no_measurement(new, new.pixel_array)[~keep & (ndimage.uniform_filter(hu * 1.0) > -1020)].any()
    if padding is not None:
        low, high = sorted((padding, padding if limit is None else limit))
        assert not ((new.pixel_array >= low) & (new.pixel_array <= high))[~keep].any()


@pytest.mark.parametrize(("padding", "limit"), [(-2000, None), (-1990, -2010), (-32768, None)])
def test_a_denoiser_that_puts_out_paddings_value_makes_no_padding(padding, limit, tmp_path, monkeypatch):
    name = f"puts_out_padding{padding}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(
        f"def f(x):\n    x = x.copy()\n    x[..., 40:43, 40] = {padding}\n    return x\n"
    )
    monkeypatch.chdir(tmp_path)
    tags = {"PixelPaddingValue": padding} | ({"PixelPaddingRangeLimit": limit} if limit else {})
    write_series(tmp_path / "in", intercept=0.0, **tags)
    denoise(tmp_path / "in", tmp_path / "out", f"{name}:f")
    for new in slices_of(tmp_path / "out"):
        assert new.pixel_array[41, 40] == max(padding, limit or padding) + 1
        assert not derived.dicom.padding(new, new.pixel_array).any()


def explicit_elements(path) -> dict:
    """{(group, element): bytes} of a file in Explicit VR Little Endian, read by the standard alone (PS3.5, 7.1)."""
    content = Path(path).read_bytes()
    assert content[128:132] == b"DICM"
    found, at = {}, 132
    while at < len(content):
        group, element, vr = struct.unpack_from("<HH2s", content, at)
        if vr in (b"OB", b"OW", b"SQ", b"UN", b"UT", b"OF", b"OD", b"UC", b"UR", b"OL", b"OV", b"SV", b"UV"):
            (length,), at = struct.unpack_from("<I", content, at + 8), at + 12
        else:
            (length,), at = struct.unpack_from("<H", content, at + 6), at + 8
        if length == 0xFFFFFFFF:  # a sequence without a length ends with its delimiter
            length = content.index(b"\xfe\xff\xdd\xe0\0\0\0\0", at) + 8 - at
        found[group, element] = content[at : at + length]
        at += length
    assert at == len(content)
    return found


def test_second_readers_see_the_same(source, tmp_path):
    imageio = pytest.importorskip("imageio.v2", reason="imageio, a reader of its own, comes with scikit-image")
    denoise(source, tmp_path / "out")
    for new in slices_of(tmp_path / "out"):
        raw = explicit_elements(new.filename)
        assert raw[0x0002, 0x0010].rstrip(b"\0") == b"1.2.840.10008.1.2.1"
        assert raw[0x0008, 0x0018].rstrip(b"\0").decode() == new.SOPInstanceUID
        stored = np.frombuffer(raw[0x7FE0, 0x0010], "<i2").reshape(96, 96)
        assert (stored == new.pixel_array).all()
        read = imageio.imread(new.filename, format="DICOM")
        assert (read == in_hu(new)).all() and read.meta.SeriesDescription == new.SeriesDescription


@pytest.mark.parametrize("program", ["dciodvfy", "dcmdump"])
def test_validators_find_no_new_error(program, source, tmp_path):
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed (Debian: dicom3tools, dcmtk)")
    denoise(source, tmp_path / "out")

    def errors(path):
        done = subprocess.run([program, path], capture_output=True, text=True, check=False, errors="replace")
        lines = (done.stderr + done.stdout).splitlines()
        return {line for line in lines if line.startswith(("Error", "E:"))}

    for old, new in zip(slices_of(source), slices_of(tmp_path / "out")):
        assert errors(new.filename) <= errors(old.filename)


def test_uids_are_those_of_the_denoiser_and_the_source(source, tmp_path):
    """Another denoiser's image is another object; the same image made twice is one."""
    uids = {}
    for out, name in (("one", FILTER), ("again", FILTER), ("other", "gaussian:sigma_px=0.8")):
        denoise(source, tmp_path / out, name)
        uids[out] = {uid for d in slices_of(tmp_path / out) for uid in (d.SOPInstanceUID, d.SeriesInstanceUID)}
    assert uids["one"] == uids["again"] and not uids["one"] & uids["other"]


def test_several_series_stay_apart_and_what_is_no_slice_is_listed(source, tmp_path):
    write_series(source / "other", 2, 80, SeriesInstanceUID="1.2.826.0.1.99.7", SeriesNumber="7")
    write_ct(source / "scout.dcm", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    write_ct(source / "report.dcm", SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11", Modality="SR")
    (source / "notes.txt").write_text("Doe^Jane")
    shutil.copy(source / "1.dcm", source / "copy.dcm")
    said = denoise(source, tmp_path / "out")
    assert "slices: 6 (DICOM)" in said
    for reason in ("a localizer", "not a CT image but Basic Text SR Storage", "not a DICOM file"):
        assert f"skipped, 1 x: {reason}" in said
    assert said.count("skipped, 1 x: ") == 4  # the copy too
    made = slices_of(tmp_path / "out")
    assert len({d.SeriesInstanceUID for d in made}) == 2 and {d.SeriesNumber for d in made} == {1000, 1007}


def test_slices_whose_uids_were_taken_away_get_some(source, tmp_path):
    for path in source.glob("*.dcm"):
        data = pydicom.dcmread(path)
        data.SOPInstanceUID = data.SeriesInstanceUID = data.StudyInstanceUID = ""
        data.save_as(path)
    assert "slices without a SOPInstanceUID: 4" in denoise(source, tmp_path / "out")
    made = slices_of(tmp_path / "out")
    assert len({d.SOPInstanceUID for d in made}) == 4 and len({d.SeriesInstanceUID for d in made}) == 1
    assert made[0].StudyInstanceUID and "SourceImageSequence" not in made[0]


def test_one_file_is_a_series_too(source, tmp_path):
    denoise(source / "2.dcm", tmp_path / "out")
    (new,) = slices_of(tmp_path / "out")
    assert new.SourceImageSequence[0].ReferencedSOPInstanceUID == pydicom.dcmread(source / "2.dcm").SOPInstanceUID


# ---- volumes ----
def volume(count=4, size=96):
    return np.stack([image(i, size) for i in range(count)])


def write_nifti(path, hu, axes="LPS", kind=np.int16, slope=1.0, intercept=0.0):
    """HU (N, H, W), as DICOM has them, in a NIfTI file that is stored along other axes."""
    turn = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("LPS"), nib.orientations.axcodes2ornt(axes))
    stored = nib.orientations.apply_orientation(((hu - intercept) / slope).transpose(2, 1, 0), turn)
    affine = np.diag([-0.75, -0.75, 3.0, 1.0]) @ nib.orientations.inv_ornt_aff(turn, hu.T.shape)
    made = nib.Nifti1Image(stored.astype(kind), affine)
    made.header["descrip"] = b"kept"
    made.header.set_slope_inter(slope, intercept)
    nib.save(made, path)
    if (slope, intercept) != (1.0, 0.0):  # the library scales by itself when it saves: write what was meant
        raw = nib.Nifti1Image(stored.astype(kind), affine, made.header)
        plain = bytearray(raw.to_bytes())
        struct.pack_into("<ff", plain, 112, slope, intercept)
        Path(path).write_bytes(gzip.compress(plain) if str(path).endswith(".gz") else plain)
    return path


@pytest.mark.parametrize("axes", ["LPS", "RAS", "LAS", "PSR"])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_nifti_volume_keeps_its_affine_and_header(axes, ending, tmp_path, monkeypatch):
    """The denoiser treats one corner otherwise: it must be given slices the way DICOM has them."""
    (tmp_path / "one_corner.py").write_text("def f(x):\n    x = x.copy()\n    x[..., :40, :30] += 25\n    return x\n")
    monkeypatch.chdir(tmp_path)
    hu = volume()
    hu[:, :4] = -3024  # padding
    path = write_nifti(tmp_path / f"in{ending}", hu, axes)
    before = path.read_bytes()
    said = denoise(path, tmp_path / "out", "one_corner:f")
    assert path.read_bytes() == before and "slices: 4 (NIfTI)" in said
    old, new = nib.load(path), nib.load(tmp_path / "out" / f"in_denoised{ending}")
    assert ending == ".nii" or Path(new.get_filename()).read_bytes()[4:8] == bytes(4)  # no time of packing
    assert (old.affine == new.affine).all() and old.header == new.header and new.header["descrip"] == b"kept"
    turn = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(new.affine), nib.orientations.axcodes2ornt("LPS")
    )
    made = nib.orientations.apply_orientation(new.get_fdata(), turn).transpose(2, 1, 0)
    hu[:, 4:40, :30] += 25
    assert (made == hu).all()
    assert {p.name for p in (tmp_path / "out").iterdir()} == {f"in_denoised{ending}", ".denoise.json", ".denoise.lock"}


@pytest.mark.parametrize(
    ("kind", "slope", "intercept"), [(np.uint16, 1.0, -1024.0), (np.int16, 0.5, 0.0), (np.float32, 1.0, 0.0)]
)
def test_a_nifti_volume_keeps_its_numbers_scale(kind, slope, intercept, tmp_path):
    path = write_nifti(tmp_path / "in.nii.gz", volume(), kind=kind, slope=slope, intercept=intercept)
    denoise(path, tmp_path / "out")
    old, new = nib.load(path), nib.load(tmp_path / "out" / "in_denoised.nii.gz")
    assert new.get_data_dtype() == kind and (new.dataobj.slope, new.dataobj.inter) == (slope, intercept)
    wanted = ndimage.gaussian_filter(old.get_fdata(dtype=np.float32), (0.7, 0.7, 0))
    assert np.abs(new.get_fdata() - wanted).max() <= (1e-3 if kind == np.float32 else slope / 2 + 1e-3)


@pytest.mark.parametrize("kind", [np.int16, np.float32, np.float64])
def test_an_array_of_hu_keeps_its_type_and_what_is_no_number(kind, tmp_path):
    hu = volume().astype(kind)
    if kind != np.int16:
        hu[0, 0, 0] = np.nan
    np.save(tmp_path / "in.npy", hu)
    denoise(tmp_path / "in.npy", tmp_path / "out")
    made = np.load(tmp_path / "out" / "in_denoised.npy")
    wanted = ndimage.gaussian_filter(np.nan_to_num(hu, nan=-1024).astype(np.float32), (0, 0.7, 0.7))
    assert made.dtype == kind and (np.isnan(made) == np.isnan(hu)).all()
    assert np.nanmax(np.abs(made - wanted)) <= (0.5 if kind == np.int16 else 1e-3)


# ---- a kill ----
KILLS = """
import os, signal
from scipy import ndimage
at = [0]
def f(x):
    at[0] += len(x) == 1  # the probe gives several
    if at[0] == int(os.environ.get("KILL_AT", -1)):
        os.kill(os.getpid(), signal.SIGKILL)
    return ndimage.gaussian_filter(x, (0, 0, 0.7, 0.7))
"""


def denoise_until_killed(source, out, name) -> bytes:
    """Denoise in a process that kills itself as the third slice begins. Returns: what it said."""
    reads, writes = os.pipe()
    child = os.fork()
    if not child:
        os.environ["KILL_AT"] = "3"
        try:
            series.denoise(name, source, out, say=lambda line: os.write(writes, line.encode()), progress=False)
        finally:
            os._exit(1)
    os.close(writes)
    with os.fdopen(reads, "rb") as pipe:
        said = pipe.read()
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    return said


@pytest.mark.parametrize("kind", ["dicom", ".nii", ".nii.gz", ".npy"])
def test_killed_and_gone_on_gives_the_same_bytes(kind, tmp_path, monkeypatch):
    given = tmp_path / "Doe^Jane"
    if kind == "dicom":
        write_series(given, 5)
    else:
        given.mkdir()
        given /= f"in{kind}"
        np.save(given, volume(5)) if kind == ".npy" else write_nifti(given, volume(5))
    name = f"kills_itself_{kind.strip('.').replace('.', '_')}"
    (tmp_path / f"{name}.py").write_text(KILLS)
    monkeypatch.chdir(tmp_path)
    said = denoise_until_killed(given, tmp_path / "out", f"{name}:f")
    kept = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("*.dcm")}
    assert b"slices: 5" in said and len(kept) == (2 if kind == "dicom" else 0)
    (tmp_path / "out" / ".tmp-00000000-cut.dcm").write_bytes(b"half")  # as a kill while writing leaves one
    assert "done already: 2" in denoise(given, tmp_path / "out", f"{name}:f")
    assert all(p.stat().st_mtime_ns == time for p, time in kept.items())
    denoise(given, tmp_path / "at_once", f"{name}:f")
    assert fingerprints(tmp_path / "out") == fingerprints(tmp_path / "at_once")
    assert "done already: 5" in denoise(given, tmp_path / "out", f"{name}:f")


@pytest.mark.parametrize("at", [1, 4])
def test_an_end_between_a_slice_and_its_record_does_no_harm(at, tmp_path, monkeypatch):
    """The first record says whose the output is, each other how many slices are there."""
    np.save(tmp_path / "in.npy", volume())
    calls, write = [], stacks.files.write_json

    def ends(path, value):
        calls.append(path)
        if len(calls) == at:
            raise KeyboardInterrupt
        write(path, value)

    monkeypatch.setattr(stacks.files, "write_json", ends)
    with pytest.raises(KeyboardInterrupt):
        denoise(tmp_path / "in.npy", tmp_path / "out")
    monkeypatch.setattr(stacks.files, "write_json", write)
    assert ("done already: 2" in denoise(tmp_path / "in.npy", tmp_path / "out")) == (at == 4)
    denoise(tmp_path / "in.npy", tmp_path / "at_once")
    assert fingerprints(tmp_path / "out") == fingerprints(tmp_path / "at_once")


def test_a_damaged_output_and_a_changed_source_are_made_anew(source, tmp_path):
    denoise(source, tmp_path / "out")
    wanted = fingerprints(tmp_path / "out")
    truncate(tmp_path / "out" / "1.dcm", 0.9)
    (tmp_path / "out" / "2.dcm").write_bytes(b"")
    assert "done already: 2" in denoise(source, tmp_path / "out")
    assert fingerprints(tmp_path / "out") == wanted
    uid = pydicom.dcmread(source / "3.dcm").SOPInstanceUID
    write_ct(source / "3.dcm", image(9, 96), 3.0, SOPInstanceUID=uid, InstanceNumber="2")
    assert "done already: 3" in denoise(source, tmp_path / "out")
    assert {n for n, h in fingerprints(tmp_path / "out").items() if wanted[n] != h} == {"3.dcm"}


# ---- what it was trained on, and noise ----
@pytest.fixture
def trained(outputs):
    """A run of 03_train that was never trained: it puts out its input; and its cohort: B30, .75 mm, 3 mm, 20 HU."""
    write_tiny_cohort(outputs / "cohorts" / "simulated-00000000", size=128)
    folder = outputs / "default" / "03_train" / "mine-0--0a0b0c0d"
    settings = {"name": "unet", "channels": 2, "residual": True}
    checkpoints.write_checkpoint(folder, 1, networks.build(**settings), settings)
    result = {"notebook": "03_train", "id": "0a0b0c0d", "files": {}, "numbers": {"cohort": "00000000"},
              "parameters": {"source": "simulated", "network": "unet"}}  # fmt: skip
    (folder / "result.json").write_text(json.dumps(result))
    return "default/03_train/mine-0"


def noisy(seed, sd):
    hu = image(seed, 128).astype(float)
    return (hu + np.random.default_rng(99 + seed).normal(0, sd, hu.shape)).round().clip(-1024).astype(np.int16)


def test_slices_like_those_of_the_training_are_called_so(trained, tmp_path):
    for i in range(3):
        write_ct(tmp_path / "in" / f"{i}.dcm", noisy(i, 20), 3.0 * i)
    said = denoise(tmp_path / "in", tmp_path / "out", trained)
    assert "like its training: kernel, pixels, thickness" in said and "far from" not in said
    assert "mine-0: run of 03_train" in said


def test_slices_far_from_the_training_are_reported_before_they_run(trained, tmp_path):
    for i in range(7):
        odd = {"ConvolutionKernel": "FC13", "PixelSpacing": [1.2, 1.2]} if i < 2 else {}
        write_ct(tmp_path / "in" / f"{i}.dcm", noisy(i, 60), 3.0 * i, SliceThickness=3.0 if i else 0.6, **odd)
    said = denoise(tmp_path / "in", tmp_path / "out", trained)
    assert "kernel FC13, trained on B30 (2 of 7 slices)" in said
    assert "pixels 1.2 mm, trained on 0.75 mm (2 of 7 slices)" in said
    assert "thickness 0.6 mm, trained on 3 mm (1 of 7 slices)" in said
    assert said.count(" HU, trained on") == series.MOST and "the noise of 7 slices in all" in said
    assert said.index("slice 1, noise") < said.index("slices/s")


def test_a_cohort_that_is_gone_is_said(trained, outputs, source, tmp_path):
    shutil.rmtree(outputs / "cohorts")
    assert "its cohort is gone" in denoise(source, tmp_path / "out", trained)
    assert familiar.training_of(runs.one(trained)) is None


def test_noise_before_and_after_is_that_of_the_slices(tmp_path):
    for i in range(3):
        write_ct(tmp_path / "in" / f"{i}.dcm", noisy(i, 20), 3.0 * i)
    said = denoise(tmp_path / "in", tmp_path / "out", "gaussian:sigma_px=1.5")
    before, after = (float(part.split()[-2]) for part in said.split("noise in flat tissue: ")[1].split(",")[:2]
                     for part in [part.replace(" before", "").replace(" after (median of 3 slices)", "")])  # fmt: skip
    assert 20 < before < 25 and 0 < after < before / 3  # white noise of 22 HU, which the measure's high pass lessens


# ---- wrong inputs ----
def wrong_inputs(tmp_path, source):
    """{what is wrong: (denoiser, IN, OUT, words of the message)}."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("Doe^Jane")
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "thesis.doc").write_text("mine")
    np.save(tmp_path / "share.npy", np.random.default_rng(0).random((2, 64, 64)))
    np.save(tmp_path / "stored.npy", volume() + 1024)
    np.save(tmp_path / "four.npy", np.zeros((2, 2, 8, 8)))
    np.save(tmp_path / "objects.npy", np.array([{}, {}]), allow_pickle=True)
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4, 3), np.int16), np.eye(4)), tmp_path / "time.nii.gz")
    (tmp_path / "cut.nii.gz").write_bytes(write_nifti(tmp_path / "whole.nii.gz", volume()).read_bytes()[:9000])
    out = tmp_path / "out"
    return {
        "no IN": (FILTER, tmp_path / "nowhere", out, "does not exist: give a folder of DICOM"),
        "an empty IN": (FILTER, tmp_path / "empty", out, "is empty"),
        "no CT in IN": (FILTER, tmp_path / "texts", out, r"IN holds no CT slice \(1 x not a DICOM file\)"),
        "OUT is IN": (FILTER, source, source, "IN is never changed"),
        "OUT in IN": (FILTER, source, source / "out", "IN is never changed"),
        "IN in OUT": (FILTER, source, source.parent, "IN lies in OUT"),
        "OUT is a file": (FILTER, source, tmp_path / "four.npy", "OUT is a file"),
        "OUT is used": (FILTER, source, tmp_path / "used", "OUT is not empty and was not made by this command"),
        "OUT in outputs": (FILTER, source, tmp_path / "outputs" / "x", "where nothing may name a patient"),
        "no strength": ("tv", source, out, "tv is tuned on pairs, and here are none"),
        "no denoiser": ("nothing", source, out, "no denoiser 'nothing'"),
        "a folder": (str(source), source, out, "denoised already, or is no denoiser"),
        "a share of a window": (FILTER, tmp_path / "share.npy", out, "must be turned back"),
        "stored values": (FILTER, tmp_path / "stored.npy", out, r"HU \+ 1024 most often"),
        "four axes": (FILTER, tmp_path / "four.npy", out, r"holds numbers \(N, H, W\)"),
        "a pickle": (FILTER, tmp_path / "objects.npy", out, "no whole .npy file of plain numbers"),
        "a series in time": (FILTER, tmp_path / "time.nii.gz", out, r"give one volume \(X, Y, Z\)"),
        "a cut file": (FILTER, tmp_path / "cut.nii.gz", out, "no whole .gz file"),
    }  # fmt: skip


WRONG = ("no IN", "an empty IN", "no CT in IN", "OUT is IN", "OUT in IN", "IN in OUT", "OUT is a file", "OUT is used",
         "OUT in outputs", "no strength", "no denoiser", "a folder", "a share of a window", "stored values",
         "four axes", "a pickle", "a series in time", "a cut file")  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_input_is_named_and_nothing_is_left(wrong, source, tmp_path):
    found = wrong_inputs(tmp_path, source)
    assert set(found) == set(WRONG)
    name, given, out, said = found[wrong]
    before, existed = fingerprints(tmp_path), out.exists()
    with pytest.raises((ValueError, FileNotFoundError), match=said) as caught:
        denoise(given, out, name)
    assert fingerprints(tmp_path) == before and out.exists() == existed
    assert given == source or not [word for word in IDENTITY if word in str(caught.value)]


def test_the_output_of_another_denoiser_and_strange_files_in_it_are_refused(source, tmp_path):
    denoise(source, tmp_path / "out")
    before = fingerprints(tmp_path / "out")
    with pytest.raises(ValueError, match=r"OUT holds what gaussian sigma_px=0\.7 made"):
        denoise(source, tmp_path / "out", "gaussian:sigma_px=0.8")
    (source / "1.dcm").unlink()
    with pytest.raises(ValueError, match="files in OUT that belong to no slice of IN: 1"):
        denoise(source, tmp_path / "out")
    assert fingerprints(tmp_path / "out") == before


def test_a_slice_that_cannot_be_decoded_is_named_by_its_number(source, tmp_path):
    path = source / "3.dcm"
    data = pydicom.dcmread(path)
    data.PhotometricInterpretation = "Doe^Jane"
    data["BitsStored"].value = 77
    data.save_as(path)
    with pytest.raises(ValueError, match="slice 2 of 4: pixels cannot be decoded") as caught:
        denoise(source, tmp_path / "out")
    assert "Doe" not in str(caught.value)


def test_a_header_that_cannot_be_written_again_is_said_without_its_values(tmp_path):
    """Big-endian files are readable and retired; the library does not turn them round."""
    old = pydicom.dcmread(write_ct(tmp_path / "in" / "1.dcm", image(0, 96)))
    big = Dataset()
    for element in old:
        big.add_new(element.tag, element.VR, element.value)
    big.PixelData, big.file_meta, big.preamble = old.pixel_array.astype(">i2").tobytes(), old.file_meta, old.preamble
    big.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    big.save_as(tmp_path / "in" / "1.dcm", enforce_file_format=True)
    with pytest.raises(ValueError, match=r"slice 1 of 1: its header cannot be written again .*Little Endian") as caught:
        denoise(tmp_path / "in", tmp_path / "out")
    assert not [word for word in IDENTITY if word in str(caught.value)]
    assert not list((tmp_path / "out").rglob("*.dcm"))


def test_a_full_disk_is_said_without_the_files_name_and_gone_on_with(source, tmp_path, monkeypatch):
    write, calls = pydicom.Dataset.save_as, []

    def full(data, path, **given):
        calls.append(path)
        if len(calls) == 3:
            raise OSError(28, "No space left on device", str(path))
        write(data, path, **given)

    monkeypatch.setattr(pydicom.Dataset, "save_as", full)
    with pytest.raises(OSError, match=r"written \(No space left on device\): see to the disk") as caught:
        denoise(source, tmp_path / "out")
    assert ".dcm" not in str(caught.value)
    assert "done already: 2" in denoise(source, tmp_path / "out")


def test_files_of_others_are_not_touched(source, tmp_path):
    (tmp_path / "used").mkdir()
    for name in ("thesis.doc", ".tmp-mine"):
        (tmp_path / "used" / name).write_text("mine")
    with pytest.raises(ValueError, match="OUT is not empty"):
        denoise(source, tmp_path / "used")
    assert (tmp_path / "used" / ".tmp-mine").is_file()


def test_without_a_reference_a_network_of_unknown_range_is_not_guessed(source, tmp_path):
    pytest.importorskip("onnx", reason="onnx makes the file of this test")

    class Mean(torch.nn.Module):
        def forward(self, x):
            return torch.nn.functional.avg_pool2d(torch.nn.functional.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)

    path = tmp_path / "mine.onnx"
    axes = {"image": {0: "n", 2: "h", 3: "w"}, "out": {0: "n", 2: "h", 3: "w"}}
    torch.onnx.export(Mean(), torch.zeros(1, 1, 32, 32), path, dynamo=False, input_names=["image"],
                      output_names=["out"], dynamic_axes=axes)  # fmt: skip
    with pytest.raises(ValueError, match=r"which range does mine take\? Without an NDCT .*hu, net.* give a CT image"):
        denoise(source, tmp_path / "out", str(path))
    denoise(source, tmp_path / "out", str(path), range_of="net")
    for old, new in zip(slices_of(source), slices_of(tmp_path / "out")):
        wanted = ndimage.uniform_filter(in_hu(old).astype(np.float32), 3, mode="nearest")
        assert np.abs(in_hu(new) - wanted).max() <= 0.5 + 1e-2
    with pytest.raises(ValueError, match="with these or other settings"):
        denoise(source, tmp_path / "out", str(path), range_of="hu")


def test_a_run_without_a_cohort_is_opened_and_probed_on_the_slices(trained, source):
    slices = np.stack([in_hu(data) for data in slices_of(source)]).astype(np.float32)
    made = opened.opened(trained, None, slices=slices)
    assert made.run.id == "0a0b0c0d" and len(made.made_of) == 64 and made(slices).shape == slices.shape
    with pytest.raises(ValueError, match="is a run of 03_train and takes HU"):
        opened.opened(trained, None, "net", slices=slices)


def command(*words, folder) -> subprocess.CompletedProcess:
    program = [sys.executable, str(ROOT / "workflow" / "denoise.py"), *map(str, words), "--device", "cpu"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(program, capture_output=True, text=True, check=False, cwd=folder, env=environment)


def test_the_command_shows_nothing_that_identifies_anybody(source, tmp_path):
    (source / "notes.txt").write_text("Doe^Jane")
    done = command(FILTER, source, tmp_path / "out", folder=tmp_path)
    assert done.returncode == 0 and "slices: 4 (DICOM)" in done.stdout and "slice/s" in done.stderr
    record = (tmp_path / "out" / ".denoise.json").read_text()
    assert not [word for word in IDENTITY for text in (done.stdout, done.stderr, record) if word in text]
    assert find_identity(tmp_path / "out")  # the header survives there, and there alone
    assert not find_identity(tmp_path / "outputs")


def test_where_there_is_no_reference_no_folder_of_images_is_offered(source):
    for name in ("nothing", str(source)):
        with pytest.raises((ValueError, FileNotFoundError), match=r"package\.module:function$"):
            opened.opened(name, None, slices=volume())


def test_the_command_says_an_error_in_one_line(tmp_path):
    done = command(FILTER, "nowhere", tmp_path / "out", folder=tmp_path)
    assert done.returncode == 2 and done.stderr.startswith("error: IN ") and done.stderr.count("\n") == 1
