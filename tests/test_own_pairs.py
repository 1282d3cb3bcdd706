"""Source ``paired``: one's own pairs as they lie on people's disks, and the table that says who is who."""

import csv

import nibabel
import numpy as np
import pytest
from dicom_files import find_identity, image, write_ct
from test_cohorts import body

from ldct_utils import cohorts
from ldct_utils.cohorts import writing
from ldct_utils.study import identity, parameters, paths

QUIET = {"progress": False}


@pytest.fixture
def data(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    monkeypatch.setattr(writing.machine, "cpu_threads", lambda: 1)
    return tmp_path / "data"


def series(folder, seed, more, zs=(0.0, 3.0), **tags):
    """Slices whose HU are those of ``image`` and ``more``: 0 for the full dose."""
    for i, z in enumerate(zs):
        write_ct(folder / f"{i if more else 9 - i}.dcm", image(seed + round(10 * z)) + np.int16(more), z, **tags)


def table(data, rows, columns="patient,low,full,dose", name="pairs.csv"):
    (data / name).write_text("\n".join([columns, *rows]) + "\n", encoding="utf-8")
    return data / name


def added(cohort):
    """LDCT - NDCT of each slice, HU: ``more`` of its low-dose series."""
    change = cohort.ldct[:].astype(int) - cohort.ndct[:]
    assert (change == change[:, :1, :1]).all()
    return change[:, 0, 0].tolist()


def test_a_table_pairs_any_folders_of_any_people_at_several_doses(data, outputs):
    for seed, (folder, person) in enumerate((("case A", "x1"), ("sub/9", "x2"))):
        series(data / folder / "std", 100 * seed, 0, PatientID=person)
        for more in (1, 2):
            series(data / folder / f"d{more}", 100 * seed, more, PatientID=person)
    table(data, [f"{name},{where}/d{more},{where}/std,{dose}" for name, where in (("Jane", "case A"), ("Joe", "sub/9"))
                 for more, dose in ((1, 0.5), (2, 0.1))])  # fmt: skip
    cohort = cohorts.get("paired", str(data), split="draw", **QUIET)
    assert cohort.slices.patient.tolist() == ["P001"] * 4 + ["P002"] * 4
    assert cohort.slices.dose.tolist() == [0.5, 0.5, 0.1, 0.1] * 2 and added(cohort) == [1, 1, 2, 2] * 2
    assert cohort.slices.split.nunique() == 2 and cohort.slices.z_mm.tolist() == [0, 3] * 4
    assert cohort.meta["skipped"] == [] and cohort.meta["notes"] == []


@pytest.mark.parametrize(
    "pairs",
    ["low=*/quarter*, full=*/full*", "low={patient}/quarter_*, full={patient}/full_*", "full=**/full*/*,low=**/q*/*"],
)
def test_patterns_pair_by_the_path_or_by_the_headers(data, outputs, pairs):
    for seed, person in enumerate(("ann", "bob")):
        for level, more in (("full_x", 0), ("quarter_x", 1)):
            series(data / person / level, 100 * seed, more, PatientID=person, StudyInstanceUID=f"1.2.{seed + 1}")
    cohort = cohorts.get("paired", str(data), pairs=pairs, dose=0.3, split="draw", **QUIET)
    assert cohort.slices.patient.tolist() == ["P001", "P001", "P002", "P002"] and added(cohort) == [1] * 4
    assert set(cohort.slices.dose) == {0.3} and set(cohort.slices.split) == {"train", "test"}


def test_several_series_of_a_patient_find_their_own_partners(data, outputs):
    for thickness in (1.0, 5.0):
        for level, more in (("low", 1), ("full", 0)):
            series(data / level / str(thickness), round(thickness), more, SliceThickness=thickness)
    series(data / "low" / "alone", 7, 1, SliceThickness=9.0)
    cohort = cohorts.get("paired", str(data), pairs="low=low, full=full", split="train", **QUIET)
    assert cohort.slices.thickness_mm.tolist() == [1, 1, 5, 5] and added(cohort) == [1] * 4
    assert [(s["reason"], s["files"]) for s in cohort.meta["skipped"]] == [
        ("the full-dose partner series is missing", 2)
    ]


def test_people_whom_neither_table_nor_header_tells_apart_are_not_split(data, outputs):
    for seed in (1, 2):
        for level, more in (("low", 1), ("full", 0)):
            about = {"PatientID": "Anonymous", "StudyInstanceUID": f"1.2.{seed}"}
            series(data / str(seed) / level, 100 * seed, more, **about)
    with pytest.raises(ValueError, match="no PatientID of their own: 2 of 2"):
        cohorts.get("paired", str(data), pairs="low=*/low, full=*/full", split="draw", **QUIET)
    table(data, ["a,1/low,1/full,", "b,2/low,2/full,"])  # the advice, followed
    assert set(cohorts.get("paired", str(data), split="draw", **QUIET).slices.split) == {"train", "test"}


def test_doses_that_were_made_anonymous_as_two_examinations_are_told_how_to_be_paired(data, outputs):
    for number, level in enumerate(("full", "low")):  # as in the challenge's own files
        series(data / "L506" / level, 1, number, PatientID="Anonymous", StudyInstanceUID=f"1.2.{number + 1}")
    with pytest.raises(ValueError, match=r"partner series is missing; .* name patients in a table or by \{patient\}"):
        cohorts.get("paired", str(data), pairs="low=*/low, full=*/full", split="train", **QUIET)
    advised = cohorts.get("paired", str(data), pairs="low={patient}/low, full={patient}/full", split="train", **QUIET)
    assert advised.slices.patient.tolist() == ["L506"] * 2


def test_folders_of_two_names_with_one_patient_id_are_refused_unless_a_table_states_them(data, outputs):
    for seed, folder in enumerate(("first", "second")):
        for level, more in (("low", 1), ("full", 0)):
            series(data / folder / level, 100 * seed, more, PatientID="4711")
    with pytest.raises(
        ValueError, match=r"several patients of the pattern: 1\. The patients may be visits of one person"
    ):
        cohorts.get("paired", str(data), pairs="low={patient}/low, full={patient}/full", split="draw", **QUIET)
    table(data, ["x,first/low,first/full,", "x,second/low,second/full,"])
    assert set(cohorts.get("paired", str(data), split="draw", **QUIET).slices.patient) == {"P001"}
    table(data, ["x,first/low,first/full,", "y,second/low,second/full,"])
    cohort = cohorts.get("paired", str(data), split="draw", **QUIET)
    assert set(cohort.slices.patient) == {"P001", "P002"} and any("at its word" in n for n in cohort.meta["notes"])


@pytest.mark.parametrize(
    ("columns", "rows", "message"),
    [
        ("patient,low", ["a,low"], "has no column full"),
        ("patient,low,full", [",low,full"], "row 2 .* names no patient"),
        ("patient,low,full", ["a,nowhere,full"], "row 2, low of the table of pairs names no file"),
        ("patient,low,full", ["a,../x,full"], "name a file, folder or pattern below data_root"),
        ("patient,low,full", ["a,/etc,full"], "name a file, folder or pattern below data_root"),
        ("patient,low,full,dose", ["a,low,full,25"], r"row 2 .* dose is a fraction in \(0, 1\]"),
        ("patient,low,full,dose", ["a,low,full,much"], "dose is a fraction"),
        ("patient,low,full", ["a,low,full", "b,low,full"], "one file is listed for two patients"),
        ("patient,low,full", ["a,low,low"], "twice as low dose, or as low and full dose"),
    ],
)
def test_faults_of_a_table_are_named_by_their_row_and_without_the_names_in_it(data, outputs, columns, rows, message):
    series(data / "low", 1, 1)
    series(data / "full", 1, 0)
    table(data, rows, columns)
    with pytest.raises(ValueError, match=message):
        cohorts.get("paired", str(data), **QUIET)


@pytest.mark.parametrize(
    "pairs", [None, "low=low", "low={patient}/low, full=full", "lo=low, full=full", "low=x, full=full"]
)
def test_what_is_no_pair_says_what_to_give(data, outputs, pairs):
    series(data / "full", 1, 0)
    with pytest.raises(ValueError, match=r"a CSV with the columns patient, low, full, dose, or low=<pattern>, full="):
        cohorts.get("paired", str(data), pairs=pairs, **QUIET)


def test_a_spreadsheet_of_another_country_is_read(data, outputs):
    series(data / "low", 1, 1)
    series(data / "full", 1, 0)
    (data / "pairs.csv").write_text("Patient;Full;Low;Dose\r\na;full;low;0,3\r\n;;;\r\n", encoding="utf-8-sig")
    assert set(cohorts.get("paired", str(data), split="train", **QUIET).slices.dose) == {0.3}


def write_nifti(path, stack, pixel=0.7, spacing=2.5):
    """A volume (S, H, W) in HU, stored from the head down and from left to right."""
    path.parent.mkdir(parents=True, exist_ok=True)
    turned = stack[::-1, :, ::-1].transpose(2, 1, 0)
    affine = np.diag([pixel, -pixel, -spacing, 1.0])
    nibabel.save(nibabel.Nifti1Image(turned.astype(np.float32), affine), path)


def test_nifti_pairs_come_back_upright_in_hu_with_their_geometry(data, outputs):
    stack = np.stack([image(i) for i in range(4)])
    stack[0, :10] = 30  # so that no turn of it looks the same
    write_nifti(data / "P7" / "low.nii.gz", stack + 1)
    write_nifti(data / "P7" / "full.nii.gz", stack)
    pairs = "low={patient}/low.nii.gz, full={patient}/full.nii.gz"
    cohort = cohorts.get("paired", str(data), pairs=pairs, split="train", **QUIET)
    np.testing.assert_array_equal(cohort.ndct[:], stack)
    assert added(cohort) == [1] * 4 and cohort.slices.z_mm.tolist() == [0, 2.5, 5, 7.5]
    assert set(cohort.slices.pixel_mm.round(6)) == {0.7} and set(cohort.slices.patient) == {"P001"}


BOTH = "low={patient}/low.nii.gz, full={patient}/full.nii.gz"


@pytest.mark.parametrize("clipped", [False, True])
def test_volumes_that_are_not_in_hu_are_refused_and_the_advice_helps(data, outputs, clipped):
    stack = np.stack([image(i) for i in range(4)]).astype(float)
    for name, more in (("low", 1), ("full", 0)):
        values = (stack + more + 1000) / 2000
        write_nifti(data / "a" / f"{name}.nii.gz", values.clip(0, 1) if clipped else values)
    with pytest.raises(ValueError, match=r"P001 volume: not in HU: .*hu_range=\[-1000, 1000\]"):
        cohorts.get("paired", str(data), pairs=BOTH, split="train", **QUIET)
    cohort = cohorts.get("paired", str(data), pairs=BOTH, split="train", hu_range=[-1000, 1000], **QUIET)
    np.testing.assert_array_equal(cohort.ndct[:], stack.clip(-1000) if clipped else stack)


def test_volumes_on_two_grids_are_no_pair(data, outputs):
    stack = np.stack([image(i) for i in range(4)])
    write_nifti(data / "a" / "low.nii.gz", stack)
    write_nifti(data / "a" / "full.nii.gz", stack, pixel=0.8)
    with pytest.raises(ValueError, match="2 x P001 volume the two doses have another matrix, voxel or field of view"):
        cohorts.get("paired", str(data), pairs=BOTH, split="train", **QUIET)


def test_arrays_and_stacks_in_hu_are_volumes_too(data, outputs):
    stack = np.stack([image(i) for i in range(3)])
    np.save(data / "low.npy", stack + 1)
    np.savez_compressed(data / "full.npz", any_name=stack)
    table(data, ["a,low.npy,full.npz,0.1"])
    cohort = cohorts.get("paired", str(data), split="train", **QUIET)
    np.testing.assert_array_equal(cohort.ndct[:], stack)
    assert added(cohort) == [1] * 3 and cohort.slices.pixel_mm.isna().all()


def test_npy_takes_stacks_and_compressed_arrays(data, outputs):
    stack = np.stack([image(i) for i in range(3)])
    for kind, more in (("input", 1), ("target", 0)):
        np.savez(data / f"L506_1_{kind}.npz", (stack + more + 1024) / 4096)
        np.save(data / f"L506_2_{kind}.npy", (image(9) + more + 1024) / 4096)
    cohort = cohorts.get("npy", str(data), **QUIET)
    np.testing.assert_array_equal(cohort.ndct[:], [*stack, image(9)])
    assert added(cohort) == [1] * 4
    np.savez(data / "L506_2_input.npz", a=stack, b=stack)
    (data / "L506_2_input.npy").unlink()
    with pytest.raises(ValueError, match="L506 2_input: holds 2 arrays: save one in a file"):
        cohorts.get("npy", str(data), **QUIET)


def test_packed_downloads_are_named_with_what_to_do(data, outputs):
    write_ct(data / "a.dcm", body())
    (data / "more.zip").write_bytes(b"PK\x03\x04 not read")
    (data / "volume.nii.gz").write_bytes(b"\x1f\x8b not read")
    cohort = cohorts.get("dicom", str(data), kernel="hann", split="train", **QUIET)
    assert sorted(s["reason"].split(":")[0] for s in cohort.meta["skipped"]) == ["a NIfTI volume", "a packed download"]
    with pytest.raises(FileNotFoundError, match=r"more\.zip is a packed download: unpack it and give the folder"):
        cohorts.get("dicom", str(data / "more.zip"), **QUIET)


def test_a_table_says_who_is_who_among_normal_dose_series(data, outputs):
    for number, person in enumerate(("Anonymous", "Anonymous", "Anonymous")):
        write_ct(data / str(number) / "1.dcm", body(number), PatientID=person, StudyInstanceUID=f"1.2.{number + 1}")
    write_ct(data / "3" / "1.dcm", body(9), StudyInstanceUID="1.2.9")
    table(data, ["Jane,0", "Jane,1", "Joe,2"], "patient,full", "who.csv")
    given = {"pairs": str(data / "who.csv"), "kernel": "hann"} | QUIET
    cohort = cohorts.get("dicom", str(data), split="draw", **given)  # refused without, see test_cohorts
    assert cohort.slices.patient.tolist() == ["P001", "P001", "P002"]
    assert "not in the table that says who is who" in {s["reason"] for s in cohort.meta["skipped"]}
    (data / "who.csv").rename(data / "pairs.csv")  # where a test cohort has it
    again = cohorts.get("dicom", str(data), split="draw", kernel="hann", **QUIET)
    assert again.slices.patient.tolist() == ["P001", "P001", "P002"] and again.meta["skipped"] == [
        {"patient": "", "series": "", "reason": "not in the table that says who is who", "files": 1}
    ]


def test_identity_follows_what_is_paired_and_no_name_in_it_gets_out(data, outputs):
    series(data / "low", 1, 1)
    series(data / "full", 1, 0)
    ids = []
    for rows in (["Doe^Jane,low,full,0.5"], ["Doe^Jane,low,full,0.25"], ["Dr^Grabowski,low,full,0.25"]):
        given = {"pairs": str(table(data.parent, rows)), "split": "train"} | QUIET
        cohort = cohorts.get("paired", str(data), **given)
        ids.append(cohort.id)
    moved = given | {"pairs": str((data.parent / "pairs.csv").rename(data.parent / "elsewhere.csv"))}
    assert len(set(ids)) == 3 and cohorts.get("paired", str(data), **moved).id == ids[2]
    assert cohorts.identity("simulated", pairs="x.csv") == cohorts.identity("simulated")
    assert find_identity(outputs) == []


def test_a_run_follows_the_content_of_the_table_that_it_is_given(outputs, tmp_path, monkeypatch):
    script = parameters.read(paths.root() / "notebooks" / "03_train.py")

    def id_of(**given):
        given = {"source": "paired", "data_root": str(tmp_path / "data")} | given
        return identity.identity(script, parameters.check(script, given))

    monkeypatch.chdir(tmp_path)
    file = table(tmp_path.parent, ["a,low,full,"], name="mine.csv").rename(tmp_path / "mine.csv")
    (tmp_path / "data").mkdir()
    before = id_of(pairs="mine.csv"), id_of(pairs="low=a, full=b"), id_of()
    file.write_text("patient,low,full\nb,low,full\nc,low,full\n")
    assert len(set(before)) == 3 and id_of(pairs="mine.csv") != before[0]
    assert id_of(pairs="mine.csv", source="simulated") == id_of(source="simulated")


def test_the_table_of_a_test_cohort_lies_in_its_folder(data, outputs, tiny_cohort):
    series(data / "low", 1, 1)
    series(data / "full", 1, 0)
    with open(data / "pairs.csv", "w", newline="") as opened:
        csv.writer(opened).writerows([("patient", "low", "full"), ("a", "low", "full")])
    other = cohorts.tested_on(cohorts.load(tiny_cohort), "paired", str(data))
    assert set(other.slices.split) == {"test"} and len(other.slices) == 2
