"""Parameters, identity, run folders and study plans, on toy notebooks in a study of their own."""

import json
import os
import subprocess
import sys

import notebook_cells
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

from ldct_utils.study import files, identity, machine, parameters, paths, planning, runs

DATA = """# %% [markdown]
# # Data

# %% tags=["parameters"]
from typing import Optional

source: str = "simulated"  # where slices come from
data_root: Optional[str] = None  # folder of the data
patients: int = 4
study: str = "adhoc"
run_name: str = ""

# %%
from ldct_utils.study.runs import start

this = start("01_data", globals())

# %%
numbers = this.table("cohort", lambda: __import__("pandas").DataFrame({"n": [patients]}))
used = source, data_root
this.finish(n=int(numbers.n[0]))
"""
TRAIN = '''# %% tags=["parameters"]
from typing import Optional

patients: int = 4
lr: float = 1e-3
layers: list = ["a"]
lam: Optional[float] = None
residual: bool = True
device: str = "auto"
precision: str = "auto"
threads: int = 0
context: str = "auto"
study: str = "adhoc"
run_name: str = ""

# %%
from ldct_utils.ct import intensity
from ldct_utils.study.runs import start

this = start("03_train", globals())

# %%
"""A remark."""
total = patients + lr + len(layers) + (lam or 0) + residual + intensity.HU_MIN  # a comment
used = device, precision, threads, context
this.finish(total=total)
'''
STATS = """# %% tags=["parameters"]
runs: list = []
study: str = "adhoc"
run_name: str = ""

# %%
from ldct_utils.study.runs import load, start

this = start("06_stats", globals())

# %%
this.finish(totals=[load(r).numbers["total"] for r in runs])
"""
STUDY = """
title: toy
defaults: {patients: 3}
notebooks:
  06_stats:
    runs: [{name: all, runs: ["@03_train"]}, {name: one, runs: ["@03_train/0.1*"]}]
  03_train:
    defaults: {lam: 2}
    matrix: {lr: [1e-4, 0.1], residual: [true, false]}
  01_data: {}
"""


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A study folder with three toy notebooks and one study file."""
    for name, source in {"01_data": DATA, "03_train": TRAIN, "06_stats": STATS}.items():
        (tmp_path / "notebooks").mkdir(exist_ok=True)
        (tmp_path / "notebooks" / f"{name}.py").write_text(source)
    (tmp_path / "params").mkdir()
    (tmp_path / "params" / "toy.yaml").write_text(STUDY)
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.setenv("LDCT_STUDY_ROOT", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path


def script(name):
    return parameters.read(paths.notebooks() / f"{name}.py")


def execute(name, **given):
    """Run a toy notebook's cells in a plain namespace, as a kernel would, and return the namespace."""
    script = paths.notebooks() / f"{name}.py"
    return notebook_cells.execute(script, given, In=["", *notebook_cells.code_cells(script, given)])


# ---- parameters ----
def test_parameters_are_read_with_type_and_default(study):
    declared = script("03_train").parameters
    assert declared["lam"] == parameters.Declared("lam", "float", True, None)
    assert declared["layers"].default == ["a"] and declared["lr"].type == "float"


def test_mistyped_parameter_is_refused_with_the_nearest_name(study):
    with pytest.raises(ValueError, match="'layrs'; did you mean 'layers'"):
        execute("03_train", layrs=["b"])


def test_parameter_that_is_never_read_is_refused(study):
    path = paths.notebooks() / "03_train.py"
    path.write_text(path.read_text().replace("lr: float", "unused: int = 1\nlr: float"))
    with pytest.raises(ValueError, match="declares 'unused' but never reads it"):
        execute("03_train")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [("lr", "1e-4", 1e-4), ("lr", 1, 1.0), ("layers", "[3, 4]", [3, 4]), ("lam", None, None), ("patients", "7", 7),
     ("residual", "False", False), ("layers", (1,), [1])],
)  # fmt: skip
def test_text_that_can_only_mean_one_thing_is_read_as_it(study, name, value, expected):
    got = parameters.check(script("03_train"), {name: value})[name]
    assert got == expected and type(got) is type(expected)


@pytest.mark.parametrize(
    "text",
    [
        "dim=16, blocks=[1, 2], variant=channel, dead=false",
        "{'dim': 16, 'blocks': [1, 2], 'variant': 'channel', 'dead': False}",
    ],
)
def test_a_mapping_can_be_written_on_the_command_line(text):
    declared = parameters.Declared("settings", "dict", False, {})
    wanted = {"dim": 16, "blocks": [1, 2], "variant": "channel", "dead": False}
    assert parameters.convert(declared, text) == parameters.convert(declared, wanted) == wanted
    assert parameters.convert(declared, "") == {}


@pytest.mark.parametrize("text", ["dim", "dim=", "dim=open('x')", "**{'a': 1}", "[1]", "a=1) or dict(b=2"])
def test_text_that_is_no_mapping_is_refused(text):
    with pytest.raises(ValueError, match="parameter settings must be dict"):
        parameters.convert(parameters.Declared("settings", "dict", False, {}), text)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lr", "fast"),
        ("lr", True),
        ("patients", 2.5),
        ("patients", None),
        ("layers", "a"),
        ("residual", 1),
        ("context", 7),
    ],
)
def test_value_of_the_wrong_type_is_refused_by_name(study, name, value):
    with pytest.raises(ValueError, match=f"parameter {name} must be"):
        parameters.check(script("03_train"), {name: value})


def test_notebook_without_one_parameters_cell_or_with_computed_parameters_is_refused(study):
    (study / "notebooks" / "09_x.py").write_text("# %%\na = 1\n")
    with pytest.raises(ValueError, match="exactly one cell"):
        script("09_x")
    (study / "notebooks" / "10_y.py").write_text('# %% tags=["parameters"]\na: int = 1\nb = 2 * a\n')
    with pytest.raises(ValueError, match="name: type = literal"):
        script("10_y")
    (study / "notebooks" / "11_z.py").write_text('# %% tags=["parameters"]\na: bytes = b""\n')
    with pytest.raises(ValueError, match="type bytes"):
        script("11_z")
    with pytest.raises(FileNotFoundError, match="03_train"):
        script("12_absent")


def test_an_ipynb_with_other_code_is_refused(study):
    cell = {"cell_type": "code", "metadata": {}, "source": "print(1)"}
    (study / "notebooks" / "01_data.ipynb").write_text(json.dumps({"cells": [cell]}))
    with pytest.raises(ValueError, match="different code"):
        script("01_data")


@pytest.mark.parametrize(
    ("device", "message"),
    [("cuda", "device=cuda needs an NVIDIA GPU.*device=auto or cpu"), ("gpu", "auto, cpu or cuda, not 'gpu'")],
)
def test_a_device_that_is_not_here_is_refused_before_anything_is_made(study, monkeypatch, device, message):
    monkeypatch.setattr(machine, "has_cuda", lambda: False)
    with pytest.raises(ValueError, match=message):
        execute("03_train", device=device)
    assert not (paths.outputs() / "adhoc").exists()


def test_results_of_a_gpu_are_shown_where_there_is_none(study, monkeypatch):
    monkeypatch.setattr(machine, "has_cuda", lambda: True)
    execute("03_train", device="cuda")
    monkeypatch.setattr(machine, "has_cuda", lambda: False)
    assert execute("03_train", device="cuda")["this"].finished


def test_auto_is_resolved_to_what_the_machine_has(study, monkeypatch):
    monkeypatch.setattr(machine, "has_cuda", lambda: False)
    monkeypatch.setattr(machine, "has_fast_bf16", lambda: False)
    asked = {"device": "auto", "precision": "auto", "threads": 0, "context": "auto"}
    got = machine.resolve(asked)
    assert got["device"] == "cpu" and got["precision"] == "float32" and got["context"] == "random"
    assert got["threads"] == machine.cpu_threads() >= 1
    monkeypatch.setattr(machine, "has_fast_bf16", lambda: True)
    assert machine.resolve(asked)["precision"] == "bf16"
    monkeypatch.setattr(machine, "has_fast_bf16", lambda: False)
    monkeypatch.setattr(machine, "has_cuda", lambda: True)
    assert machine.resolve(asked)["device"] == "cuda" and machine.resolve(asked)["precision"] == "bf16"
    file = study / "torch" / "hub" / "checkpoints" / machine.IMAGENET_FILES["vgg19"]
    file.parent.mkdir(parents=True)
    file.touch()
    assert machine.resolve(asked)["context"] == "imagenet" and machine.imagenet_file() == file
    assert machine.resolve({"precision": "float32", "device": "cpu"}) == {"precision": "float32", "device": "cpu"}


# ---- identity ----
def test_identity_follows_code_and_parameters_not_comments_or_study(study):
    notebook = script("03_train")
    values = parameters.check(notebook, {})
    first = identity.identity(notebook, values)
    assert identity.identity(notebook, values) == first
    assert identity.identity(notebook, values | {"lr": 0.5}) != first
    assert identity.identity(notebook, values | {"study": "other"}) == first
    path = paths.notebooks() / "03_train.py"
    path.write_text(
        path.read_text().replace('"""A remark."""', '"""Another."""').replace("# a comment", "# another comment")
    )
    assert identity.identity(script("03_train"), values) == first
    path.write_text(path.read_text().replace("patients + lr", "patients - lr"))
    assert identity.identity(script("03_train"), values) != first


def test_identity_sees_that_external_data_changed(study):
    (study / "ct").mkdir()
    (study / "ct" / "a.dcm").write_text("1")
    values = parameters.check(script("01_data"), {"data_root": "ct"})
    first = identity.identity(script("01_data"), values)
    os.utime(study / "ct" / "a.dcm", (1, 1))
    second = identity.identity(script("01_data"), values)
    (study / "ct" / "b.dcm").write_text("2")
    third = identity.identity(script("01_data"), values)
    assert len({first, second, third}) == 3
    (study / "more").mkdir()
    both = parameters.check(script("01_data"), {"data_root": "ct:more", "source": "dicom"})
    fourth = identity.identity(script("01_data"), both)
    (study / "more" / "c.dcm").write_text("3")
    fifth = identity.identity(script("01_data"), both)
    assert len({third, fourth, fifth}) == 3


def test_identity_follows_the_split_file_that_the_run_has_and_no_other(study):
    (study / "params" / "splits").mkdir()
    (study / "ct").mkdir()
    values = parameters.check(script("01_data"), {"data_root": "ct", "source": "mayo2016"})

    def after(name, text):
        (study / "params" / "splits" / f"{name}.yaml").write_text(text)
        return identity.identity(script("01_data"), values)

    first = after("mayo2016", "test: [L506]")
    assert after("own", "train: [P001]") == first
    assert after("mayo2016", "test: [L333]") != first


def test_identity_sees_what_a_weights_file_holds_however_its_name_is_written(study):
    for name, value in (("weights", "v.pth"), ("weights", "./v.pth"), ("context", "v.pth"), ("weights", "run")):
        place = study / value / "encoder.safetensors" if value == "run" else study / value
        place.parent.mkdir(exist_ok=True)
        place.write_text("1")
        first = identity._hashable(name, value, {})
        place.write_text("22")
        assert identity._hashable(name, value, {}) != first, f"{name}={value}"
    assert identity._hashable("weights", "v.pth", {}) == identity._hashable("weights", "./v.pth", {})
    (study / "random").mkdir()  # a folder that happens to be called as a context is
    assert identity._hashable("context", "random", {}) == "random" and identity._hashable("weights", None, {}) is None
    assert identity._hashable("weights", "absent.pth", {}) == "absent.pth"


@pytest.mark.parametrize(
    ("flags", "kind"),
    [
        ("avx512_bf16 amx_bf16", "AMX"),
        ("avx2 avx512_bf16", "AVX-512 BF16"),
        ("avx2 amx_tile", "plain"),
        (None, "unknown"),
    ],
)
def test_the_kind_of_cpu_is_what_multiplies_bfloat16(flags, kind, monkeypatch):
    def read(path):
        if flags is None:
            raise FileNotFoundError(path)
        return flags

    monkeypatch.setattr(machine.Path, "read_text", read)
    machine.cpu_kind.cache_clear()
    assert machine.cpu_kind() == kind and machine.has_fast_bf16() == ("BF16" in kind or "AMX" in kind)
    machine.cpu_kind.cache_clear()


# ---- runs ----
def test_run_stores_its_results_last_and_is_not_computed_twice(study, capsys):
    space = execute("01_data", patients=5)
    this = space["this"]
    assert this.finished and this.numbers == {"n": 5} and this.folder.parent == paths.outputs() / "adhoc" / "01_data"
    assert this.folder.name.startswith("patients-5-") and this.folder.name.endswith(this.id)
    written = (this.folder / "result.json").stat().st_mtime_ns
    again = execute("01_data", patients=5)["this"]
    assert "finished" in capsys.readouterr().out and (again.folder / "result.json").stat().st_mtime_ns == written
    assert again.table("cohort", lambda: pytest.fail("computed twice")).n[0] == 5
    assert set(this.result) >= {"parameters", "commit", "dirty", "cpu", "versions", "seconds", "files", "id"}


def test_what_a_kill_left_half_written_is_taken_away_by_the_next_try(study):
    this = execute("01_data", patients=5)["this"]
    names = {p.name for p in this.folder.iterdir()} | {"checkpoints"}
    runs._held.pop(this.folder).__exit__(None, None, None)  # as the end of its process does
    files.write_text(this.folder / "checkpoints" / ".tmp-0123abcd-step_0000010.safetensors", "half")
    execute("01_data", patients=5)
    assert {p.name for p in this.folder.rglob("*")} == names


def test_resolved_values_are_written_back_into_the_notebook(study):
    space = execute("03_train", lr="1e-4")
    assert space["lr"] == 1e-4 and space["device"] in ("cpu", "cuda") and space["threads"] >= 1


def test_table_that_is_not_what_the_run_wrote_is_refused(study):
    this = execute("01_data")["this"]
    files.write_parquet(this.folder / "cohort.parquet", pd.DataFrame({"n": [99]}))
    with pytest.raises(ValueError, match="not the file that the run wrote"):
        runs.load(this.folder).table("cohort")
    with pytest.raises(FileNotFoundError, match="holds no absent"):
        runs.load(this.folder).array("absent")


def test_unfinished_runs_are_not_loaded(study):
    this = execute("01_data")["this"]
    relative = str(this.folder.relative_to(paths.outputs()))
    assert runs.load(relative).id == this.id and runs.load(relative).params["patients"] == 4
    assert (
        [r.id for r in runs.select("adhoc/01_data/*")] == [this.id] == [r.id for r in runs.select([str(this.folder)])]
    )
    (this.folder / "result.json").unlink()
    with pytest.raises(FileNotFoundError, match="not finished"):
        runs.load(relative)
    with pytest.raises(ValueError, match="unfinished runs only: "):
        runs.select("adhoc/01_data/*")
    with pytest.raises(FileNotFoundError, match="no run matches"):
        runs.select("adhoc/99_x/*")
    with pytest.raises(FileNotFoundError, match="no run folder"):
        runs.load("adhoc/nothing")


def test_array_is_stored_once(study):
    this = runs.Run(study / "outputs" / "x--00000000", "01_data", {})
    first = this.array("a", lambda: np.arange(4))
    assert first.tolist() == this.array("a", lambda: pytest.fail("computed twice")).tolist() == [0, 1, 2, 3]


def test_an_import_that_hides_a_parameter_is_named(study):
    path = paths.notebooks() / "06_stats.py"
    path.write_text(
        path.read_text().replace(
            "from ldct_utils.study.runs import load, start",
            "from ldct_utils.study import runs\nfrom ldct_utils.study.runs import load, start",
        )
    )
    with pytest.raises(ValueError, match="hides the parameter 'runs'"):
        execute("06_stats")


# ---- studies ----
def test_plan_lists_every_run_with_its_folder_before_anything_runs(study):
    planned = planning.plan("toy")
    assert [p.notebook for p in planned] == ["01_data"] + ["03_train"] * 4 + ["06_stats"] * 2
    data, train, stats = planned[0], planned[1:5], planned[5:]
    assert {(p.params["lr"], p.params["residual"]) for p in train} == {
        (1e-4, True),
        (1e-4, False),
        (0.1, True),
        (0.1, False),
    }
    assert all(p.params["lam"] == 2.0 and p.params["patients"] == 3 and p.params["study"] == "toy" for p in train)
    assert all(p.upstream == (data.folder,) for p in train) and set(stats[0].upstream) == {p.folder for p in train}
    assert len(stats[1].upstream) == 2 and not any(p.finished for p in planned) and not (study / "outputs").exists()


def test_a_plan_keeps_the_order_of_its_file_and_puts_what_waits_right_behind_what_it_waits_for(study):
    # Snakemake starts what stands first: a chain that is left for the end leaves the other cores idle
    (study / "params" / "order.yaml").write_text(
        "notebooks: {01_data: {}, "
        "06_stats: {runs: [{name: a, runs: ['@03_train/a']}, {name: b, runs: ['@03_train/b']}]}, "
        "03_train: {runs: [{name: a, lam: 1}, {name: b, lam: 2}]}}"
    )
    planned = [f"{p.notebook[:2]}{p.name}" for p in planning.plan("order")]
    assert planned[1:] == ["03a", "06a", "03b", "06b"]


def test_planned_folders_are_those_that_the_notebooks_choose(study):
    for planned in planning.plan("toy"):
        assert execute(planned.notebook, **planned.params)["this"].folder == planned.folder
    assert all(p.finished for p in planning.plan("toy"))
    assert len(runs.load(planning.plan("toy")[-2].folder).numbers["totals"]) == 4


def test_planned_folders_are_those_that_the_notebooks_choose_for_patterns_of_other_studies_too(study):
    for lr in (0.5, 0.25):
        execute("03_train", lr=lr)
    look = STATS.replace("06_stats", "05_look").replace("[load(r).numbers", "[load(denoiser).id] and [load(r).numbers")
    look = look.replace('study: str = "adhoc"', 'study: str = "adhoc"\ndenoiser: str = "adhoc/03_train/lr-0.5_*"')
    (study / "notebooks" / "05_look.py").write_text(look)
    (study / "params" / "more.yaml").write_text("""
notebooks:
  03_train: {matrix: {lr: [1, 2]}}
  05_look: {}
  06_stats:
    runs: [{name: other, runs: ["adhoc/03_train/*"]}, {name: mixed, runs: ["adhoc/03_train/lr-0.5_*", "@03_train"]},
           {name: twice, runs: ["@03_train", "@03_train/1"]}]
""")
    for planned in planning.plan("more"):
        assert execute(planned.notebook, **planned.params)["this"].folder == planned.folder, planned.name
    planned = planning.plan("more")
    assert all(p.finished for p in planned)
    assert [len(p.params["runs"]) for p in planned if p.notebook == "06_stats"] == [2, 3, 2]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("toy/03_train/*", "reaches into this study; name its runs by reference"), ("*/03_train/*", "reaches into"),
     ("outputs/toy/03_train/lr*", "reaches into"), ("adhoc/03_train/*", "no run matches.*by reference")],
)  # fmt: skip
def test_a_pattern_that_a_study_could_not_finish_with_is_refused_with_the_remedy(study, pattern, message):
    path = study / "params" / "toy.yaml"
    path.write_text(path.read_text().replace("@03_train/0.1*", pattern))
    with pytest.raises((ValueError, FileNotFoundError), match=f"toy: 06_stats/one: .*{message}"):
        planning.plan("toy")


def test_a_plan_looks_through_the_data_once_and_each_plan_anew(study, monkeypatch):
    (study / "ct").mkdir()
    (study / "ct" / "a.dcm").write_text("1")
    (study / "notebooks" / "03_train.py").write_text(
        TRAIN.replace("patients: int = 4", "patients: int = 4\ndata_root: Optional[str] = None").replace(
            "used = device", "used = data_root, device"
        )
    )
    path = study / "params" / "toy.yaml"
    path.write_text(path.read_text().replace("{patients: 3}", "{patients: 3, data_root: ct}"))
    looked, manifest = [], identity.manifest
    monkeypatch.setattr(identity, "manifest", lambda path: looked.append(path) or manifest(path))
    first = {p.folder for p in planning.plan("toy") if "data_root" in p.params}
    assert len(first) == 5 and len(looked) == 1
    (study / "ct" / "b.dcm").write_text("2")
    assert not first & {p.folder for p in planning.plan("toy")} and len(looked) == 2


def test_outputs_may_be_a_link_to_a_larger_disk(study):
    (study / "disk").mkdir()
    (study / "outputs").symlink_to(study / "disk")
    folder = execute("03_train")["this"].folder
    assert identity.inside_outputs(folder) == f"adhoc/03_train/{folder.name}"
    assert identity.inside_outputs(runs.select("adhoc/03_train/*")[0].folder) == f"adhoc/03_train/{folder.name}"


def test_overrides_win_over_the_study_file(study):
    assert {p.params["device"] for p in planning.plan("toy", {"device": "cuda"}) if p.notebook == "03_train"} == {
        "cuda"
    }
    with pytest.raises(ValueError, match="'devise'"):
        planning.plan("toy", {"devise": "cuda"})


@pytest.mark.parametrize(
    ("change", "message"),
    [(("lam: 2", "lamb: 2"), "'lamb'; did you mean 'lam'"), (("lam: 2", "lam: much"), "parameter lam must be"),
     (("patients: 3", "patient: 3"), "'patient'"), (("@03_train/0.1*", "@03_train/9*"), "refers to no run"),
     (("matrix:", "grid:"), "grid"), (("03_train:", "04_train:"), "04_train"),
     (("name: one", "name: all"), "two runs of"), (("notebooks:", "books:"), "needs a mapping")],
)  # fmt: skip
def test_faults_of_a_study_file_are_found_before_anything_runs(study, change, message):
    path = study / "params" / "toy.yaml"
    path.write_text(path.read_text().replace(*change))
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        planning.plan("toy")


def test_circular_and_plural_references_are_refused(study):
    (study / "params" / "a.yaml").write_text('notebooks:\n  01_data:\n    runs: [{name: x, data_root: "@01_data/x"}]\n')
    with pytest.raises(ValueError, match=r"refers to no run|wait for each other"):
        planning.plan("a")
    two = 'notebooks:\n  03_train: {matrix: {patients: [1, 2]}}\n  01_data: {runs: [{data_root: "@03_train"}]}\n'
    (study / "params" / "b.yaml").write_text(two)
    with pytest.raises(ValueError, match=r"wait for each other|where one is needed"):
        planning.plan("b")
    with pytest.raises(FileNotFoundError, match="known: a, b, toy"):
        planning.plan("c")


def test_planning_needs_neither_torch_nor_matplotlib(study):
    code = (
        "import sys; from ldct_utils.study import planning\n"
        "planning.plan('toy'); print({'torch', 'pyplot'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr


# ---- paths ----
def test_root_is_found_from_inside_and_a_wrong_one_is_named(study, monkeypatch):
    monkeypatch.setenv("LDCT_STUDY_ROOT", str(study / "nowhere"))
    with pytest.raises(FileNotFoundError, match="nowhere"):
        paths.root()
    monkeypatch.delenv("LDCT_STUDY_ROOT")
    monkeypatch.chdir(study / "notebooks")
    assert paths.root() == study
    monkeypatch.chdir("/")
    assert paths.root() == ROOT and paths.short(ROOT / "params") == "params" and paths.short("/x") == "/x"
    monkeypatch.setenv("LDCT_WEIGHTS", "/w")
    assert str(paths.weights()) == "/w"


# ---- names ----
def test_a_run_is_called_as_its_study_file_calls_it(study):
    folders = {(p.notebook, p.name): p.folder.name for p in planning.plan("toy")}
    assert all(folder == f"{name}--{folder[-8:]}" for (_, name), folder in folders.items()), folders


def test_a_name_is_no_part_of_the_identity_and_a_run_is_found_by_its_id_whatever_its_name(study):
    notebook = script("03_train")
    values = parameters.check(notebook, {"study": "toy"})
    plain = identity.folder(notebook, values)
    called = identity.folder(notebook, values | {"run_name": "mine"})
    assert plain.name[-8:] == called.name[-8:] and called.name == f"mine--{plain.name[-8:]}"
    old = plain.with_name(f"lr-0.001_cut-of-{plain.name[-8:]}")  # as runs were called before they had names
    old.mkdir(parents=True)
    assert identity.folder(notebook, values | {"run_name": "mine"}) == old
    called.mkdir()
    (called / "result.json").write_text("{}")  # a finished one before one that is not
    assert identity.folder(notebook, values) == called
    assert [runs.Run(folder).name for folder in (old, called)] == ["lr-0.001_cut-of", "mine"]


def test_a_run_made_by_hand_is_called_by_what_differs_and_no_word_is_cut(study):
    notebook = script("03_train")

    def name(**given):
        return identity.short_name(notebook, parameters.check(notebook, given))

    assert name() == "default"
    assert name(lr=1e-4, residual=False) == "lr-0.0001_residual-False"
    assert name(lr=1e-4, study="other", threads=2, device="cpu") == "lr-0.0001"
    long = "a" * 40
    assert name(lr=1e-4, context=long) == f"lr-0.0001_context-{long}"
    assert name(lr=1e-4, context=2 * long) == "lr-0.0001"  # left out, not cut
    assert name(context="a--b c") == "context-a-b-c"


def test_runs_of_one_name_are_told_apart_by_their_ids(tmp_path):
    chosen = [runs.Run(tmp_path / name) for name in ("mse-0--00000001", "mse-0--00000002", "l1-0--00000003")]
    assert runs.named(chosen) == ["mse-0--00000001", "mse-0--00000002", "l1-0"]


def test_a_run_listed_under_two_names_is_planned_once_and_found_by_both(study):
    (study / "params" / "twice.yaml").write_text(
        "notebooks: {03_train: {runs: [{name: first, lr: 0.5}, {name: second, lr: 0.5}]}, "
        "06_stats: {runs: [{name: all, runs: ['@03_train/second']}]}}"
    )
    planned = planning.plan("twice")
    assert [(p.notebook, p.name) for p in planned] == [("03_train", "first"), ("06_stats", "all")]
    assert planned[1].upstream == (planned[0].folder,)


def test_a_study_or_a_name_stores_nothing_outside_of_outputs_and_no_name_is_too_long(study):
    notebook = script("03_train")
    values = parameters.check(notebook, {})
    for wrong in ("../../escape", "/tmp/elsewhere"):
        with pytest.raises(ValueError, match="would store the run outside of outputs"):
            identity.folder(notebook, values | {"study": wrong})
    name = identity.folder(notebook, values | {"run_name": "../a word of " * 40}).name
    assert len(name) < 115 and "/" not in name and name.startswith("a-word-of")
    assert not name.removesuffix(name[-10:]).endswith("-wo")  # no word is cut
