"""dicom: what is a usable slice, in which order slices lie, and what they are in HU."""

import errno
import os
import pickle
import subprocess
import sys
import tempfile
import traceback

import numpy as np
import pydicom
import pytest
from dicom_files import image, truncate, write_ct
from pydicom.uid import JPEG2000Lossless, RLELossless

from ldct_utils.ct import data_files, dicom


def test_hu_come_from_the_files_own_slope_and_intercept(tmp_path):
    hu = image()
    write_ct(tmp_path / "a.dcm", hu, slope=2.0, intercept=-1000.0)
    assert np.abs(dicom.read_hu(tmp_path / "a.dcm") - hu).max() == 1  # slope 2 stores every second HU
    write_ct(tmp_path / "b.dcm", hu, slope=0.5, intercept=-8192.0)
    np.testing.assert_array_equal(dicom.read_hu(tmp_path / "b.dcm"), hu)


def test_hu_that_are_not_integers_are_rounded(tmp_path):
    path = write_ct(tmp_path / "a.dcm", np.full((16, 16), 40, np.int16), slope=0.75, intercept=-1024.0)
    stored = pydicom.dcmread(path).pixel_array[0, 0]
    assert dicom.read_hu(path)[0, 0] == round(stored * 0.75 - 1024)


def test_padding_of_minus_2000_becomes_air(tmp_path):
    hu = image()
    hu[:5] = -2000 - 1024  # stored value -2000 at intercept -1024
    path = write_ct(tmp_path / "a.dcm", hu)
    assert pydicom.dcmread(path).pixel_array.min() == -2000
    read = dicom.read_hu(path)
    assert (read[:5] == -1024).all()
    np.testing.assert_array_equal(read[5:], hu[5:])


def test_padding_value_of_the_header_becomes_air_over_its_whole_range(tmp_path):
    hu = image()
    hu[:5], hu[5] = 3000, 2999  # stored 4024 and 4023
    path = write_ct(tmp_path / "a.dcm", hu, PixelPaddingValue=4024, PixelPaddingRangeLimit=4023)
    read = dicom.read_hu(path)
    assert (read[:6] == -1024).all() and (read[6:] == hu[6:]).all()


def test_padding_range_that_ends_at_zero_is_honoured(tmp_path):
    hu = image()
    hu[:2] = -5  # stored -5, inside the range -10..0
    path = write_ct(tmp_path / "a.dcm", hu, intercept=0.0, PixelPaddingValue=-10, PixelPaddingRangeLimit=0)
    read = dicom.read_hu(path)
    assert (read[:2] == -1024).all()


def with_bits(path, bits, signed, **more):
    """A slice with bone of 1500 HU whose header says that its values have ``bits`` bits."""
    hu = image()
    hu[30:34, 30:34] = 1500
    about = {"BitsStored": bits, "HighBit": bits - 1, "PixelRepresentation": int(signed)}
    return write_ct(path, hu, **about, **more), hu


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", [16, 13, 12, 11])
def test_bits_that_the_header_names_too_few_cut_no_value_off(tmp_path, bits, signed):
    path, hu = with_bits(tmp_path / "a.dcm", bits, signed)
    if 2 ** (bits - signed) > 1500 + 1024:
        np.testing.assert_array_equal(dicom.read_hu(path), hu)
    else:
        with pytest.raises(data_files.Unusable, match=f"need more than the {bits} bits"):
            dicom.read_hu(path)


def test_bits_of_a_jpeg_stream_are_its_own(tmp_path):
    path, hu = with_bits(tmp_path / "a.dcm", 16, False)
    data = pydicom.dcmread(path)
    data.compress(JPEG2000Lossless, generate_instance_uid=False)
    data.BitsStored, data.HighBit = 11, 10
    data.save_as(path)
    np.testing.assert_array_equal(dicom.read_hu(path), hu)


@pytest.mark.parametrize("padding", [None, -2000])
def test_negative_values_without_their_upper_bits_are_read(tmp_path, padding):
    hu = np.maximum(image(), -1000)
    if padding:
        hu[:5] = padding
    path = write_ct(tmp_path / "a.dcm", hu, intercept=0.0, BitsStored=12, HighBit=11)
    data = pydicom.dcmread(path)
    data.PixelData = (hu.astype("<i2").view("<u2") & 0x0FFF).tobytes()
    data.save_as(path)
    np.testing.assert_array_equal(dicom.read_hu(path), np.where(hu < -1024, -1024, hu))


def test_graphics_in_the_upper_bits_of_an_old_file_are_no_value(tmp_path):
    path = write_ct(tmp_path / "a.dcm", image(), BitsStored=12, HighBit=11, PixelRepresentation=0)
    data = pydicom.dcmread(path)
    data.PixelData = (data.pixel_array | 0x8000).astype("<u2").tobytes()
    data.add_new(0x60000102, "US", 15)
    data.save_as(path)
    np.testing.assert_array_equal(dicom.read_hu(path), image())


@pytest.mark.parametrize("intercept", [0.0, -1024.0])
def test_padding_value_of_tissue_makes_no_tissue_air(tmp_path, intercept):
    hu = image()
    hu[30:40, 30:40] = 50  # an even area, as in a denoised slice
    for value in (0, 50):
        path = write_ct(tmp_path / "a.dcm", hu, intercept=intercept, PixelPaddingValue=int(value - intercept))
        np.testing.assert_array_equal(dicom.read_hu(path), hu)
    rim = hu.copy()
    rim[:5] = 0  # and where it lies as padding does, it is padding
    path = write_ct(tmp_path / "a.dcm", rim, intercept=intercept, PixelPaddingValue=int(-intercept))
    read = dicom.read_hu(path)
    assert (read[:5] == -1024).all()
    np.testing.assert_array_equal(read[5:], hu[5:])


def test_a_negative_padding_value_that_was_written_as_an_unsigned_one_is_read(tmp_path):
    hu = image()
    hu[:5] = -900  # stored -900: below air's limit everywhere
    path = write_ct(tmp_path / "a.dcm", hu, intercept=0.0, PixelPaddingValue=-900)
    data = pydicom.dcmread(path)
    del data.PixelPaddingValue
    data.add_new("PixelPaddingValue", "US", 65536 - 900)
    data.save_as(path)
    assert (dicom.read_hu(path)[:5] == -1024).all()


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_compressed_pixels_are_decoded(tmp_path, syntax):
    hu = image()
    path = write_ct(tmp_path / "a.dcm", hu, compress=syntax, intercept=-1024.0)
    assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == syntax
    dicom.read_header(path)
    np.testing.assert_array_equal(dicom.read_hu(path), hu)


def test_missing_decoder_is_named_with_what_to_install(tmp_path):
    path = write_ct(tmp_path / "a.dcm", image(), compress=JPEG2000Lossless)
    code = (
        "import sys\n"
        "for name in ('openjpeg', 'pylibjpeg', 'libjpeg', 'PIL', 'gdcm'): sys.modules[name] = None\n"
        "from ldct_utils.ct import dicom\n"
        "dicom.read_header(sys.argv[1])\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("RuntimeError") and str(path) not in last
    assert "JPEG 2000" in last and "pylibjpeg-openjpeg" in last


@pytest.mark.parametrize(
    ("reason", "arguments"),
    [
        ("localizer", {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}),
        ("not a CT image", {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.128", "Modality": "PT"}),
        ("not a CT image", {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.11", "Modality": "SR"}),
        ("export as single-frame", {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2.1"}),
        ("not square", {"PixelSpacing": [0.5, 1.0]}),
        ("no RescaleSlope", {"without": ["RescaleSlope"]}),
        ("no RescaleSlope", {"without": ["RescaleIntercept"]}),
        ("no ImagePositionPatient", {"without": ["ImagePositionPatient"]}),
        ("no image", {"without": ["Rows", "Columns", "PixelData"]}),
        ("several frames", {"NumberOfFrames": 3}),
        ("make no sense", {"ImageOrientationPatient": [1, 0, 0]}),
        ("no PixelSpacing", {"PixelSpacing": []}),
        ("values are Z_EFF, not HU", {"RescaleType": "Z_EFF"}),
        ("values are MGML, not HU", {"RescaleType": "MGML"}),
        ("values are HU_MOD, not HU", {"RescaleType": "HU_MOD"}),
        ("but MAT_SPECIFIC", {"ImageType": ["DERIVED", "SECONDARY", "AXIAL", "MAT_SPECIFIC"]}),
        ("but MIP", {"ImageType": ["DERIVED", "SECONDARY", "OTHER", "MIP"]}),
        ("but MINIP", {"ImageType": ["DERIVED", "SECONDARY", "REFORMATTED", "MINIP"]}),
        ("a localizer", {"ImageType": "LOCALIZER"}),
        ("8 bits a pixel", {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}),
    ],
)
def test_unusable_file_says_why(tmp_path, reason, arguments):
    path = write_ct(tmp_path / "a.dcm", **arguments)
    with pytest.raises(data_files.Unusable, match=reason):
        dicom.read_header(path)


@pytest.mark.parametrize("keep", [0.0, 0.005, 0.02, 0.6, 0.95])
def test_truncated_file_is_unusable_wherever_it_is_cut(tmp_path, keep):
    path = write_ct(tmp_path / "a.dcm")
    truncate(path, keep)
    with pytest.raises(data_files.Unusable):
        dicom.read_header(path)


def test_truncated_compressed_pixels_are_an_error_that_carries_the_file_and_does_not_name_it(tmp_path):
    path = write_ct(tmp_path / "20190817.dcm", image(), compress=JPEG2000Lossless)
    truncate(path, 0.7)
    with pytest.raises(ValueError, match="pixels cannot be decoded") as error:
        dicom.read_hu(path)
    assert "20190817" not in "".join(traceback.format_exception(error.value)) and error.value.path == path
    with pytest.raises(ValueError) as same:
        raise pickle.loads(pickle.dumps(error.value))  # as it comes back from a worker process
    assert same.value.path == path


def test_compressed_file_that_ends_where_its_pixels_begin_is_unusable(tmp_path):
    path = write_ct(tmp_path / "a.dcm", image(), compress=JPEG2000Lossless)
    begin = path.read_bytes().index(b"\xe0\x7f\x10\x00OB")
    path.write_bytes(path.read_bytes()[:begin])
    with pytest.raises(data_files.Unusable, match="truncated"):
        dicom.read_header(path)


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EMFILE])
def test_what_the_system_does_not_give_is_an_error_and_not_a_skip(tmp_path, monkeypatch, number):
    path = write_ct(tmp_path / "20190817.dcm")

    def fail(*_, **__):
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(dicom.pydicom, "dcmread", fail)
    for read in (lambda: dicom.find(tmp_path), lambda: dicom.read_hu(path)):
        with pytest.raises(OSError, match=os.strerror(number)) as error:
            read()
        assert "20190817" not in "".join(traceback.format_exception(error.value)) and error.value.path == path


@pytest.mark.parametrize(
    "said",
    [{"RescaleType": "HU"}, {"RescaleType": "US"}, {"ImageType": ["DERIVED", "PRIMARY", "AXIAL"]}, {"ImageType": []},
     {"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SPI"]}, {"ImageType": "ORIGINAL"},
     {"ImageType": ["DERIVED", "PRIMARY", "AXIAL", "VMI"]}],
)  # fmt: skip
def test_a_ct_slice_stays_one_whatever_else_its_header_says(tmp_path, said):
    dicom.read_header(write_ct(tmp_path / "a.dcm", **said))


def test_a_series_that_never_reaches_air_is_none_in_hu_unless_its_header_says_so(tmp_path):
    for z in range(9):
        write_ct(tmp_path / "map" / f"{z}", np.maximum(image(z), 0), z=z)
        write_ct(tmp_path / "spine" / f"{z}", np.maximum(image(z), 0), z=z, RescaleType="HU")
        write_ct(tmp_path / "ct" / f"{z}", image(z) if z == 4 else np.maximum(image(z), 0), z=z)
    found = {name: dicom.in_order(dicom.find(tmp_path / name).headers) for name in ("map", "spine", "ct")}
    assert {name: (len(kept), len(left)) for name, (kept, left) in found.items()} == {
        "map": (0, 9), "spine": (9, 0), "ct": (9, 0)
    }  # fmt: skip
    assert "nowhere falls below -800 HU" in found["map"][1][0][1]


def test_pixel_spacing_that_differs_by_rounding_is_square(tmp_path):
    assert dicom.read_header(write_ct(tmp_path / "a", PixelSpacing=[0.7421875, 0.742188])).pixel_mm == 0.7421875


def test_find_lists_what_it_skips_and_keeps_the_rest(tmp_path):
    write_ct(tmp_path / "s" / "a.dcm", z=1)
    (tmp_path / "s" / "notes.txt").write_text("not DICOM")
    (tmp_path / "s" / ".hidden").write_text("")
    (tmp_path / "s" / "DICOMDIR").write_text("")
    write_ct(tmp_path / "Full Dose Projections-1" / "p.dcm")
    found = dicom.find(tmp_path)
    assert [h.path.name for h in found.headers] == ["a.dcm"]
    assert [(path.name, reason) for path, reason in found.skipped] == [("notes.txt", "not a DICOM file")]


def test_empty_and_absent_folders_say_what_data_root_should_be(tmp_path):
    with pytest.raises(FileNotFoundError, match="is empty: point data_root"):
        dicom.find(tmp_path)
    with pytest.raises(FileNotFoundError, match="not a folder"):
        dicom.find(tmp_path / "absent")


@pytest.mark.parametrize("what", ["file", "folder"])
def test_missing_read_permission_is_an_error_that_carries_the_path(what):
    with tempfile.TemporaryDirectory() as place:  # not tmp_path: that is closed to other users from the start
        path = write_ct(f"{place}/series/a.dcm")
        os.chmod(place, 0o755)
        closed = path if what == "file" else path.parent
        os.chmod(closed, 0)
        user = os.geteuid()
        try:
            if user == 0:
                os.seteuid(65534)  # root may read everything, nobody may not
            with pytest.raises(PermissionError, match="chmod") as error:
                dicom.find(place)
        finally:
            os.seteuid(user)
            os.chmod(closed, 0o700)
    assert error.value.path == closed and str(closed) not in str(error.value)


def test_order_is_that_of_positions_not_of_names(tmp_path):
    for name, z in (("1", 20.0), ("2", -5.0), ("3", 7.5)):
        write_ct(tmp_path / name, z=z)
    kept, dropped = dicom.in_order(dicom.find(tmp_path).headers)
    assert [h.z_mm for h in kept] == [-5.0, 7.5, 20.0] and not dropped


def test_position_runs_along_the_slice_normal_of_a_tilted_gantry(tmp_path):
    tilt = np.deg2rad(20)
    column = [0.0, np.cos(tilt), np.sin(tilt)]
    normal = np.cross([1, 0, 0], column)
    paths = []
    for step in (0, 3, 6):
        position = (np.array([-24.0, -24.0, 100.0]) + step * normal).tolist()
        paths.append(
            write_ct(tmp_path / str(step), ImagePositionPatient=position, ImageOrientationPatient=[1, 0, 0, *column])
        )
    kept, _ = dicom.in_order([dicom.read_header(p) for p in paths])
    np.testing.assert_allclose(np.diff([h.z_mm for h in kept]), 3.0, atol=1e-3)


def test_copy_of_a_slice_is_dropped_and_a_different_one_at_its_place_drops_both(tmp_path):
    write_ct(tmp_path / "a", z=0, seed=1)
    write_ct(tmp_path / "b", z=0, seed=1)
    write_ct(tmp_path / "c", z=3, seed=1)
    write_ct(tmp_path / "d", z=3.05, seed=2)
    write_ct(tmp_path / "e", z=6, seed=3)
    kept, dropped = dicom.in_order(dicom.find(tmp_path).headers)
    assert [h.path.name for h in kept] == ["a", "e"]
    assert [(h.path.name, why.split()[0]) for h, why in dropped] == [("b", "a"), ("c", "several"), ("d", "several")]


def test_gaps_are_counted(tmp_path):
    for z in (0, 2, 4, 10, 12, 30):
        write_ct(tmp_path / f"{z}", z=z)
    kept, _ = dicom.in_order(dicom.find(tmp_path).headers)
    assert dicom.gaps(kept) == 2
    assert dicom.gaps(kept[:1]) == 0 and dicom.gaps([]) == 0


def test_slice_between_two_others_makes_no_gaps_of_all_the_rest(tmp_path):
    for z in (0, 0.5, 2, 4, 6, 8, 10):
        write_ct(tmp_path / f"{z}", z=z)
    assert dicom.gaps(dicom.in_order(dicom.find(tmp_path).headers)[0]) == 0


def test_partners_are_found_by_position(tmp_path):
    for name, z in (("1", 0.0), ("2", 3.0), ("3", 6.0)):
        write_ct(tmp_path / "full" / name, z=z)
    for name, z in (("1", 6.02), ("2", 9.0), ("3", 0.0)):
        write_ct(tmp_path / "low" / name, z=z)
    low, _ = dicom.in_order(dicom.find(tmp_path / "low").headers)
    full, _ = dicom.in_order(dicom.find(tmp_path / "full").headers)
    pairs, alone = dicom.pair(low, full)
    assert [(a.path.name, b.path.name) for a, b in pairs] == [("3", "1"), ("1", "3")]
    assert [(h.z_mm, reason.split(" at ")[0]) for h, reason in alone] == [
        (9.0, "no full-dose slice"),
        (3.0, "no low-dose slice"),
    ]


@pytest.mark.parametrize("change", [{"PixelSpacing": [0.8, 0.8]}, {"ImagePositionPatient": [-20.0, -24.0, 0.0]}])
def test_slices_of_another_grid_are_not_partners(tmp_path, change):
    low, full = write_ct(tmp_path / "low"), write_ct(tmp_path / "full", **change)
    pairs, alone = dicom.pair([dicom.read_header(low)], [dicom.read_header(full)])
    assert not pairs and "another matrix" in alone[0][1]


@pytest.mark.parametrize(
    "no_id",
    ["Anonymous", "DEIDENTIFIED", "De-identified", "REMOVED", "redacted", "N/A", "0000", "Anonymous_Patient", " "],
)
def test_what_an_anonymiser_writes_for_everybody_is_nobodys_id(tmp_path, no_id):
    header = dicom.read_header(write_ct(tmp_path / "a", PatientID=no_id, StudyInstanceUID="1.2.3"))
    assert (header.person, header.study) == ("", "1.2.3")


@pytest.mark.parametrize("an_id", ["7", "Anon_00", "anonymous12", "PATIENT-3", "X17"])
def test_a_placeholder_with_a_number_is_an_id(tmp_path, an_id):
    assert dicom.read_header(write_ct(tmp_path / "a", PatientID=an_id)).person == an_id


@pytest.mark.parametrize(
    ("written", "kernel"), [("B30f", "B30"), ("D45f", "D45"), (["Br38f", "3"], "Br38"), ("STANDARD", "STANDARD")]
)
def test_kernel_is_named_without_its_sharpness_letter(tmp_path, written, kernel):
    assert dicom.read_header(write_ct(tmp_path / "a", ConvolutionKernel=written)).kernel == kernel


def test_real_series_reads_in_order_and_in_hu(test_data):
    found = dicom.find(test_data / "ct_abdomen_dicom")
    kept, dropped = dicom.in_order(found.headers)
    assert len(kept) == 20 and not found.skipped and not dropped and dicom.gaps(kept) == 0
    np.testing.assert_allclose(np.diff([h.z_mm for h in kept]), 2.0)
    hu = np.stack([dicom.read_hu(h.path) for h in kept[:3]])
    assert hu.shape == (3, 512, 512) and hu.min() == -1024 and 500 < hu.max() <= 1445


def test_real_series_with_gaps_is_seen_as_such(test_data):
    kept, _ = dicom.in_order(dicom.find(test_data / "mayo2016" / "L096").headers)
    assert len(kept) == 12 and dicom.gaps(kept) == 7 and {h.kernel for h in kept} == {"D45"}


def test_library_warnings_which_quote_header_values_are_silenced(tmp_path, recwarn):
    with pydicom.config.disable_value_validation():
        path = write_ct(tmp_path / "a", SeriesInstanceUID="Doe^Jane")
    pydicom.dcmread(path).SeriesInstanceUID  # noqa: B018  the library itself warns
    assert any("Doe^Jane" in str(w.message) for w in recwarn.list)
    recwarn.clear()
    dicom.read_header(path)
    dicom.read_hu(path)
    assert not recwarn.list


# ---- legal files of other kinds ----
@pytest.mark.parametrize("kind", ["no preamble", "deflated", "no transfer syntax"])
def test_legal_files_of_other_kinds_are_read(tmp_path, kind):
    hu = np.arange(64, dtype=np.int16).reshape(8, 8) * 10 - 300
    path = write_ct(tmp_path / "a.dcm", hu)
    data = pydicom.dcmread(path)
    if kind == "no preamble":
        bare = pydicom.Dataset()
        bare.update(data)
        written = pydicom.filebase.DicomBytesIO()
        written.is_little_endian = written.is_implicit_VR = True
        pydicom.filewriter.write_dataset(written, bare)
        path.write_bytes(written.getvalue())
    elif kind == "deflated":
        data.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
        data.save_as(path, enforce_file_format=True)
    else:
        del data.file_meta.TransferSyntaxUID
        pydicom.dcmwrite(path, data, implicit_vr=False, little_endian=True)
    assert dicom.read_header(path).shape == (8, 8)
    assert np.array_equal(dicom.read_hu(path), hu)


@pytest.mark.parametrize("content", [b"", b"a text, not an image" * 50, bytes(range(256)) * 40])
def test_what_is_no_dicom_is_never_read_by_force(tmp_path, content):
    (tmp_path / "a.dcm").write_bytes(content)
    with pytest.raises(data_files.Unusable, match=r"not a DICOM file|truncated or damaged"):
        dicom.read_header(tmp_path / "a.dcm")


def test_two_scans_in_one_series_are_told_apart_and_step_and_shoot_is_one(tmp_path):
    def series(name, number):
        hu = np.full((8, 8), -1000, np.int16)
        found = []
        for scan in (1, 2):
            for i in range(3):
                path = tmp_path / f"{name}{scan}{i}.dcm"
                found.append(write_ct(path, hu + scan * 10 + i, z=3.0 * i, AcquisitionNumber=number(scan, i)))
        return [dicom.read_header(path) for path in found]

    twice = dicom.acquisitions(series("a", lambda scan, i: scan))
    assert [len(one) for one in twice] == [3, 3] and {h.acquisition[0] for h in twice[0]} == {"1"}
    assert all(len(dicom.in_order(one)[0]) == 3 for one in twice)
    each = series("b", lambda scan, i: 1)
    assert dicom.acquisitions(each) == [each] and not dicom.in_order(each)[0]  # nothing tells them apart
    shots = [dicom.read_header(write_ct(tmp_path / f"c{i}.dcm", np.zeros((8, 8), np.int16), z=3.0 * i,
                                        AcquisitionNumber=i)) for i in range(4)]  # fmt: skip
    assert dicom.acquisitions(shots) == [shots]


def test_slices_a_tenth_of_a_millimetre_apart_are_all_kept_and_near_copies_are_one(tmp_path):
    rng = np.random.default_rng(0)
    images = [rng.integers(-1024, 100, (8, 8)).astype(np.int16) for _ in range(6)]
    thin = [dicom.read_header(write_ct(tmp_path / f"t{i}.dcm", image, z=round(-100 + 0.1 * i, 4)))
            for i, image in enumerate(images)]  # fmt: skip
    kept, dropped = dicom.in_order(thin)
    assert len(kept) == 6 and not dropped and dicom.gaps(kept) == 0
    copies = [dicom.read_header(write_ct(tmp_path / f"u{i}{j}.dcm", image, z=3.0 * i + 0.02 * j))
              for i, image in enumerate(images) for j in range(2)]  # fmt: skip
    kept, dropped = dicom.in_order(copies)
    assert len(kept) == 6 and len(dropped) == 6 and "copy" in dropped[0][1]


def test_an_object_of_another_kind_is_called_by_its_name(tmp_path):
    path = write_ct(tmp_path / "a.dcm", np.zeros((8, 8), np.int16), SOPClassUID="1.2.840.10008.5.1.4.1.1.7")
    with pytest.raises(data_files.Unusable, match="not a CT image but Secondary Capture Image Storage: leave it out"):
        dicom.read_header(path)
