"""Hostile content in whatever a user may be handed: nothing of it is executed, and nothing leaves its folder."""

import pickle
import zipfile
from types import SimpleNamespace

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from dicom_files import image, write_ct

from ldct_utils import cohorts, report
from ldct_utils.cohorts import headerless, splits
from ldct_utils.denoisers import onnx_files
from ldct_utils.models import weights
from ldct_utils.report import page
from ldct_utils.study import files, planning

SCRIPT = '<script>alert("x")</script><img src=x onerror=alert(1)>'


class Touch:
    """An object that makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_an_array_of_objects_is_refused_and_not_unpickled(tmp_path, outputs, suffix):
    hostile, path = np.array([Touch(tmp_path / "ran")], dtype=object), tmp_path / "data" / f"L067_0_input.{suffix}"
    path.parent.mkdir()
    np.save(path, hostile, allow_pickle=True) if suffix == "npy" else np.savez(path, hostile)
    with pytest.raises(ValueError, match=r"plain array|damaged|[oO]bject"):
        headerless.load(path)
    np.save(path.parent / "L067_0_target.npy", image())
    with pytest.raises(ValueError, match=r"plain array|damaged|[oO]bject"):
        cohorts.get("npy", path.parent, split="train", progress=False)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("made", ["pickle", "torch", "zip"])
def test_weights_that_are_code_are_refused_and_not_run(tmp_path, made):
    path = tmp_path / "weights.pth"
    if made == "pickle":
        path.write_bytes(pickle.dumps(Touch(tmp_path / "ran")))
    elif made == "torch":
        torch.save({"state": Touch(tmp_path / "ran")}, path)
    else:
        with zipfile.ZipFile(path, "w") as packed:
            packed.writestr("../../escaped", b"x")
            packed.writestr("archive/data.pkl", pickle.dumps(Touch(tmp_path / "ran")))
    with pytest.raises(ValueError, match=r"no plain file of tensors|cannot be read as weights"):
        weights.load(path)
    assert not (tmp_path / "ran").exists() and not (tmp_path.parent / "escaped").exists()


def test_a_network_file_reads_nothing_outside_of_its_folder(tmp_path):
    onnx = pytest.importorskip("onnx")
    secret = tmp_path / "secret.bin"
    secret.write_bytes(np.ones(1, np.float32).tobytes())
    held = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [1], [1.0])
    held.ClearField("float_data")
    held.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": "../secret.bin", "offset": "0", "length": "4"}.items():
        entry = held.external_data.add()
        entry.key, entry.value = key, value
    sides = [None, 1, None, None]
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, sides) for name in ("x", "y")]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Mul", ["x", "w"], ["y"])], "g", ends[:1], ends[1:], [held])
    (tmp_path / "inside").mkdir()
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    (tmp_path / "inside" / "net.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match=r"net\.onnx is no ONNX file that can be run here"):
        onnx_files.load(tmp_path / "inside" / "net.onnx")


@pytest.mark.parametrize("text", [
    "notebooks: !!python/object/apply:os.system ['touch {ran}']\n",
    "title: x\nnotebooks: !!python/name:os.system\n",
])  # fmt: skip
def test_a_study_file_or_a_split_runs_no_code(tmp_path, monkeypatch, text):
    monkeypatch.setenv("LDCT_STUDY_ROOT", str(tmp_path))
    (tmp_path / "params").mkdir()
    (tmp_path / "params" / "bad.yaml").write_text(text.replace("{ran}", str(tmp_path / "ran")))
    with pytest.raises(Exception, match="could not determine a constructor"):
        planning.read_study("bad")
    with pytest.raises(Exception, match="could not determine a constructor"):
        splits.read(str(tmp_path / "params" / "bad.yaml"))
    assert not (tmp_path / "ran").exists()


def test_names_of_patients_and_runs_are_text_on_every_page(tmp_path, monkeypatch):
    monkeypatch.setenv("LDCT_STUDY_ROOT", str(tmp_path))
    monkeypatch.delenv("LDCT_OUTPUTS", raising=False)
    (tmp_path / "params").mkdir()
    (tmp_path / "params" / "default.yaml").write_text(f"title: '{SCRIPT}'\nnotebooks: {{}}\n")
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "01_toy.py").write_text(f"# %% [markdown]\n# # 01 · {SCRIPT}\n# **Question.** {SCRIPT}\n")
    folder = tmp_path / "outputs" / "default" / "01_toy" / "a--01234567"
    folder.mkdir(parents=True)
    result = {"notebook": "01_toy", "id": "01234567", "parameters": {"weights": SCRIPT}, "seconds": 1.0, "commit": ""}
    result |= {"numbers": {"patient": SCRIPT}, "dirty": False, "versions": {}, "files": {}}
    files.write_json(folder / "result.json", result)
    run = SimpleNamespace(folder=folder)
    report.table(run, "people", pd.DataFrame({"patient": [SCRIPT]}), SCRIPT, SCRIPT)
    report.figure(run, "curve", plt.figure(), SCRIPT, SCRIPT, alt=f'" onload="alert(1) {SCRIPT}')
    said = nbformat.v4.new_output("display_data", {"text/markdown": f"**What we saw.** {SCRIPT}"})
    nbformat.write(
        nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1", outputs=[said])]), folder / "notebook.ipynb"
    )
    text = page.write().read_text(encoding="utf-8")
    assert "&lt;script&gt;" in text and "<script>alert" not in text
    assert "<img src=x" not in text
    assert '" onload="' not in text


def test_a_header_with_markup_reaches_no_output(tmp_path, outputs):
    for i in range(2):
        write_ct(
            tmp_path / "data" / f"{i}.dcm",
            image(i, 128),
            z=3.0 * i,
            PatientID=SCRIPT[:60],
            SeriesDescription=SCRIPT[:60],
        )
    cohort = cohorts.get("dicom", tmp_path / "data", split="train", kernel="hann", progress=False)
    written = b"".join(p.read_bytes() for p in cohort.folder.rglob("*") if p.is_file())
    assert b"<script" not in written and b"onerror" not in written


def test_a_sentence_shows_markup_as_text(capsys, monkeypatch):
    from ldct_utils.report import captions

    shown = []
    monkeypatch.setattr(captions, "display", shown.append)
    report.text(f"Patient {SCRIPT}, p < 0.05.")
    assert "<" not in shown[0].data and "p &lt; 0.05" in shown[0].data
