"""A whole study on DICOM of made-up people: nothing that it writes holds anything of who they are."""

import base64
import gzip
import json
import os
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
import torch
from conftest import ROOT, TRACED
from dicom_files import find_identity, image, write_ct
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydicom.dataset import Dataset

PEOPLE = ("Quackenbush^Zebulon", "Featherstonehaugh^Ottoline", "Wrzeszczyk^Balthasar", "Murgatroyd^Philippa")
TAGS = {  # of every slice: a word of its own each, so that what is found says where it came from
    "OtherPatientIDs": "MRN900817", "PatientBirthDate": "19310417", "PatientAddress": "12 Gobbledygook Lane",
    "PatientTelephoneNumbers": "555-0199-7", "PatientMotherBirthName": "Ramsbottom^Clementina",
    "PatientComments": "beekeeper of Zubrowka", "Occupation": "lamplighter-x", "MilitaryRank": "brigadier-x",
    "InstitutionName": "Saint Balderdash Infirmary", "InstitutionAddress": "1 Poppycock Square",
    "InstitutionalDepartmentName": "Tomfoolery Ward", "StationName": "CTFLAPDOODLE", "DeviceSerialNumber": "SN-77120-Q",
    "ReferringPhysicianName": "Hornswoggle^Ignatius", "PerformingPhysicianName": "Skedaddle^Prudence",
    "OperatorsName": "Bumfuzzle^Amos", "RequestingPhysician": "Kerfuffle^Lavinia", "StudyID": "ST-55381",
    "NameOfPhysiciansReadingStudy": "Cattywampus^Obadiah", "AccessionNumber": "ACC-66402",
    "StudyDescription": "thorax of Widdershins", "SeriesDescription": "abdomen Lollygag", "ProtocolName": "Codswallop",
    "ImageComments": "asked for by Snickersnee", "StudyDate": "20170629", "AcquisitionDate": "20170630",
    "StudyTime": "174911.25", "AdditionalPatientHistory": "fell off a Penny-Farthing",
}  # fmt: skip
UID, NESTED, PRIVATE, META, PREAMBLE = (
    "1.2.826.0.1.4711",
    "NESTED-33917",
    "PRIVATE-81152",
    "AETITLE-4423",
    b"PREAMBLE-7",
)
OF_FILES = ("visit of Gallimaufry", "lyncean-")  # what folders and files are called beside their people
WORDS = (*TAGS.values(), *(part for name in PEOPLE for part in name.split("^")), UID, NESTED, PRIVATE, META,
         PREAMBLE.decode(), *OF_FILES)  # fmt: skip

STUDY = """
title: Made-up people
defaults: {source: dicom, data_root: PLACE, split: draw, kernel: hann, threads: 1, device: cpu}
notebooks:
  01_data: {runs: [{name: cohort, sample: 4}]}
  03_train:
    runs: [{name: mse, patch_size: 32, batch: 2, channels: 4, max_steps: 4, eval_every: 2, log_every: 2,
            checkpoint_every: 4, val_patches: 2, val_slices: 1, precision: float32}]
  13_your_denoiser:
    runs: [{name: card, denoiser: "@03_train/mse", beside: ["median:size=3"], real_lesions: none, livers: 1,
            realisations: 24, anatomies: 1, steps: 10, draws: 200, precision: float32}]
"""


def person(folder, number: int, slices: int):
    """A series in folders and files that are named after its patient, with an identity at every place of a header."""
    name, noise = PEOPLE[number], np.random.default_rng(number)
    for z in range(slices):
        path = folder / name.replace("^", " ") / OF_FILES[0] / f"{OF_FILES[1]}{name.split('^')[0]}-{z}.dcm"
        hu = (image(10 * number + z, 128) + noise.normal(0, 5, (128, 128))).astype(np.int16)
        write_ct(path, hu, 3.0 * z, PatientName=name, PatientID=f"{name}-{number}", **TAGS)
        data = pydicom.dcmread(path)
        for keyword, ending in (("StudyInstanceUID", 1), ("SeriesInstanceUID", 2), ("FrameOfReferenceUID", 3)):
            setattr(data, keyword, f"{UID}.{number}.{ending}")
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = f"{UID}.{number}.4.{z}"
        data.private_block(0x0029, "VENDOR", create=True).add_new(0x10, "LO", PRIVATE)
        inner = Dataset()
        inner.RequestedProcedureDescription = NESTED
        data.RequestAttributesSequence = [inner]
        data.file_meta.SourceApplicationEntityTitle = META
        data.preamble = PREAMBLE.ljust(128, b" ")
        data.save_as(path, enforce_file_format=True)
    return path


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    """Root of a study of its own, after ``make study`` on the made-up people; and all that the command said."""
    root, data = (tmp_path_factory.mktemp(name) for name in ("study", "data"))
    for number in range(4):
        last = person(data, number, 3)
    last.write_bytes(last.read_bytes()[:20_000])  # what is left out is listed
    (data / f"{PEOPLE[0]}.txt").write_text("notes")
    (root / "params").mkdir()
    (root / "params" / "people.yaml").write_text(STUDY.replace("PLACE", str(data)))
    (root / "pyproject.toml").touch()
    (root / "notebooks").symlink_to(ROOT / "notebooks")
    env = {name: value for name, value in os.environ.items() if name not in (TRACED, "LDCT_OUTPUTS")}
    env |= {"LDCT_STUDY_ROOT": str(root)}
    command = [sys.executable, str(ROOT / "workflow" / "study.py"), "people"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    (root / "said.txt").write_text(done.stdout + done.stderr)
    assert {word for _, word in find_identity(data, WORDS)} == set(WORDS)  # the search itself finds every one
    return root


def test_nothing_that_a_study_writes_or_says_holds_anything_of_its_people(studied):
    done = {path.parents[1].name for path in studied.rglob("result.json")}
    assert {"01_data", "03_train", "13_your_denoiser"} <= done, (studied / "said.txt").read_text()
    assert (studied / "outputs" / "report" / "index.html").is_file() and len(list(studied.rglob("notebook.html"))) == 3
    left_out = pd.read_parquet(next(studied.rglob("left_out.parquet")))
    assert left_out.files.sum() == 2, left_out
    assert find_identity(studied, WORDS) == []
    seen = {Path(name).suffix for name, _ in find_identity(studied, ["P001"])}  # the pseudonyms are there, and found
    assert {".parquet", ".json", ".ipynb", ".html", ".md", ".tex"} <= seen


def test_the_search_looks_into_whatever_may_hold_a_name(tmp_path):
    word, plain = "Wrzeszczyk^Balthasar", b"Wrzeszczyk^Balthasar"
    note = PngInfo()
    note.add_text("Comment", word, zip=True)
    Image.new("L", (64, 64)).save(tmp_path / "a.png", pnginfo=note)
    packed = base64.b64encode((tmp_path / "a.png").read_bytes() + bytes(300)).decode()
    (tmp_path / "b.ipynb").write_text(json.dumps({"image/png": packed}))
    (tmp_path / "c.html").write_text(f'<img src="data:image/png;base64,{packed}">')
    (tmp_path / "d.html").write_text("<a href='Wrzeszczyk%5EBalthasar'>")
    pd.DataFrame({"x": ["Wrzeszczyk Balthasar"] * 9}).to_parquet(tmp_path / "e.parquet", compression="zstd")
    np.savez_compressed(tmp_path / "f.npz", x=np.array([word]))
    (tmp_path / "g.gz").write_bytes(gzip.compress(plain))
    (tmp_path / "h.pdf").write_bytes(b"%PDF-1.4 stream\n" + zlib.compress(plain) + b"\nendstream")
    torch.save({"said": word.upper()}, tmp_path / "i.pt")
    (tmp_path / word).mkdir()
    (tmp_path / "clean.txt").write_text("Balthasar")
    assert {name[0] for name, _ in find_identity(tmp_path, [word])} == set("abcdefghiW")
