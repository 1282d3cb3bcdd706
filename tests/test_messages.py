"""What is said of data that cannot do what is asked: which parameter to give, before anything is computed."""

import ast
import builtins
import functools
import re

import pytest
from conftest import ROOT, write_tiny_cohort
from notebook_cells import code_cells

from ldct_utils import cohorts, report
from ldct_utils.study import planning, runs, sources
from ldct_utils.training import refusals


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"test_source": "npy", "test_root": None}, "test_source=npy reads files: give test_root"),
        ({"source": "simulated", "data_root": None, "test_source": "tcia", "test_root": ""}, "give test_root"),
        ({"source": "dicom", "data_root": None}, "source=dicom reads files: give data_root"),
    ],
)
def test_a_source_of_files_without_its_folder_is_told_by_the_name_of_the_parameter(values, message):
    with pytest.raises(ValueError, match=message):
        sources.check_folders(values)


def test_sources_that_need_no_folder_and_folders_that_are_given_pass():
    for values in (
        {},
        {"source": "simulated"},
        {"test_source": None},
        {"test_source": "simulated", "test_root": None},
        {"source": "npy", "data_root": "a", "test_source": "tcia", "test_root": "b"},
        {"source": "nyp"},
    ):  # fmt: skip  an unknown source is told by those who know it
        sources.check_folders(values)


@pytest.mark.parametrize("name", ["03_train", "04_metrics_during_training", "09_subtle_details"])
def test_a_notebook_names_test_root_before_it_looks_for_runs_or_builds_a_cohort(name, outputs):
    space = {}
    exec(code_cells(ROOT / "notebooks" / f"{name}.py")[0], space)
    with pytest.raises(ValueError, match="test_source=npy reads files: give test_root"):
        runs.start(name, space | {"runs": [], "test_source": "npy"})
    assert not list(outputs.iterdir())


def test_a_study_without_the_folder_of_its_test_data_is_stopped_as_it_is_planned(tmp_path, monkeypatch):
    monkeypatch.setenv("LDCT_STUDY_ROOT", str(tmp_path))
    (tmp_path / "notebooks").symlink_to(ROOT / "notebooks")
    (tmp_path / "params").mkdir()
    (tmp_path / "params" / "real.yaml").write_text("notebooks: {03_train: {runs: [{name: one, test_source: npy}]}}")
    with pytest.raises(ValueError, match="real: 03_train/one: test_source=npy reads files: give test_root"):
        planning.plan("real")
    assert planning.plan("real", {"test_root": "data"})[0].params["test_root"].endswith("data")


def test_runs_that_need_a_folder_of_this_machine_are_left_out_where_no_variable_names_it(tmp_path, monkeypatch):
    monkeypatch.setenv("LDCT_STUDY_ROOT", str(tmp_path))
    (tmp_path / "notebooks").symlink_to(ROOT / "notebooks")
    (tmp_path / "params").mkdir()
    (tmp_path / "params" / "some.yaml").write_text(
        "notebooks: {03_train: {matrix: {source: [dicom], data_root: $LDCT_HERE, seed: [0, 1]}, "
        "runs: [{name: always}]}}"
    )
    monkeypatch.delenv("LDCT_HERE", raising=False)
    assert [p.name for p in planning.plan("some")] == ["always"]
    assert planning.left_out("some") == {"LDCT_HERE": ["03_train/dicom-0", "03_train/dicom-1"]}
    monkeypatch.setenv("LDCT_HERE", "scans")
    found = {p.name: p.params["data_root"] for p in planning.plan("some")}
    assert set(found) == {"dicom-0", "dicom-1", "always"} and found["dicom-0"].endswith("scans")
    assert not planning.left_out("some")
    monkeypatch.setenv("LDCT_HERE", "")
    assert [p.name for p in planning.plan("some")] == ["always"]


def test_03_train_without_training_patients_says_what_to_give(outputs):
    folder = write_tiny_cohort(outputs / "cohorts" / "simulated-00000000", 2, 1)
    cohort = cohorts.load(folder)
    cohort.slices["split"] = ["test", "val"]
    said = "no training patients: its split, draw, gives 1 patient to test, 1 patient to val. Give split=draw, a split"
    for given in ((10, "none"), (0, "meanstd")):
        with pytest.raises(ValueError, match=re.escape(said) + " file .*under train, or split=train"):
            refusals.check_pairs(cohort, *given)
    refusals.check_pairs(cohort, 0, "none")  # only tests a network
    cohort.slices["split"] = ["train", "val"]
    with pytest.raises(ValueError, match="has no test patients: its split is draw"):
        refusals.check_pairs(cohort, 10, "none")


@pytest.mark.parametrize(
    ("number", "word", "said"),
    [(1, "slice", "1 slice"), (0, "slice", "0 slices"), (2, "test slice", "2 test slices"), (3, "patch", "3 patches"),
     (1, "patch", "1 patch")],
)  # fmt: skip
def test_one_thing_is_not_several(number, word, said):
    assert report.plural(number, word) == said


# ---- every message of an error, wherever the package raises it ----
SOURCES = sorted((ROOT / "ldct_utils").rglob("*.py"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))
COUNTING = {"len", "sum", "nunique", "count_nonzero"}


def called(node) -> str:
    """Name of what a call calls, without what it belongs to."""
    function = getattr(node, "func", None)
    return getattr(function, "id", getattr(function, "attr", ""))


def is_error(name: str) -> bool:
    found = getattr(builtins, name, None)
    return isinstance(found, type) and issubclass(found, BaseException)


def words(node) -> str:
    """The text of an expression as a reader sees it, with each value in it as ``{source}``, or ``{source!r}``."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(map(words, parts))
        case ast.FormattedValue(value=value, conversion=conversion):
            return "{" + ast.unparse(value).replace("{", "(").replace("}", ")") + ("!r}" if conversion == 114 else "}")
        case ast.BinOp(left=left, right=right):
            return words(left) + words(right)
        case ast.IfExp(body=body):
            return words(body)
    return "{" + ast.unparse(node).replace("{", "(").replace("}", ")") + "}"


@functools.cache
def messages(path) -> list[tuple[ast.Call, str]]:
    """The errors that a file makes, raised at once or given to another function, each with what it says."""
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    made = [node for node in calls if is_error(called(node)) or called(getattr(node, "func", None)) == "type"]
    return [(node, " ".join(map(words, node.args))) for node in made if node.args or is_error(called(node))]


def test_errors_are_found_in_every_form():
    assert len([m for path in SOURCES for m in messages(path)]) > 300
    assert words(ast.parse("f'no {name!r}' 'b' + c", mode="eval").body) == "no {name!r}b{c}"


def all_messages():
    """(place, what is said there) of every error of the package."""
    for path in SOURCES:
        for node, text in messages(path):
            yield f"{path.relative_to(ROOT)}:{node.lineno}", text


def test_an_error_says_what_it_was_given_or_what_to_do():
    """No error without words, and none that says what is wrong alone: with a value, or with a remedy after it."""
    mute = [
        f"{path.relative_to(ROOT)}:{node.lineno} raises {node.exc.id} without a word"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Name) and is_error(node.exc.id)
    ]
    assert mute == []
    said = [(at, text) for at, text in all_messages() if not re.search(r"\{|[:;,] \w|\bmust\b|^give ", text)]
    assert said == [] == [(at, text) for at, text in all_messages() if text.endswith((".", "!"))]


def test_an_error_that_refuses_a_name_lists_the_names_there_are():
    refuses = re.compile(r"\b(unknown|no) \w+( (?!matches )\w+)? \{[^}]*!r\}")
    lists = re.compile(r"known: |there are |it has |one of |use |e\.g\. |nearest")
    # what "matches" is a pattern: there is no list of those
    refused = [(at, text) for at, text in all_messages() if refuses.search(text) and " matches {" not in text]
    assert len(refused) > 9 and [(at, text) for at, text in refused if not lists.search(text)] == []


def counted_without_plural(path, inside=ast.Module, noun=r"[a-z]+[a-rt-z]s"):
    """Where an f-string in a node of the kind ``inside`` puts a count before its noun in the plural, as in "1 slices".

    A count is a call of ``len``, ``sum`` or the like, or a name that is given one somewhere in the file. Let it stand
    after the noun, "slices: 1", or let ``report.plural`` write it. What is only reached when it is not 1 may stay.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    names = set()

    def counts(node):
        match node:
            case ast.Call():
                return called(node) in COUNTING or (called(node) == "int" and any(map(counts, node.args)))
            case ast.BinOp(left=left, right=right):
                return counts(left) or counts(right)
        return ast.unparse(node) in names

    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and counts(node.value):
            names |= {ast.unparse(target) for target in node.targets}

    def never_one(node, value):
        while node := parents.get(node):
            conditions = [ast.unparse(node.test)] if isinstance(node, ast.If | ast.IfExp) else []
            if any(re.search(re.escape(value) + r" (> 1|!= 1|>= 2)\b", text) for text in conditions):
                return True
        return False

    for owner in (node for node in ast.walk(tree) if isinstance(node, inside)):
        for node in (part for part in ast.walk(owner) if isinstance(part, ast.JoinedStr)):
            for value, after in zip(node.values, node.values[1:]):
                if isinstance(value, ast.FormattedValue) and isinstance(after, ast.Constant) and counts(value.value):
                    what, source = re.match(rf" ([a-z-]+ ){{0,2}}({noun})\b", after.value), ast.unparse(value.value)
                    if what and not never_one(node, source):
                        yield f"line {node.lineno}: {{{source}}}{what[0]}"


def test_no_error_counts_things_without_their_plural():
    assert [(path.name, found) for path in SOURCES for found in counted_without_plural(path, ast.Raise)] == []


def test_no_text_counts_patients_or_slices_without_their_plural():
    wanted = "patients|slices"
    assert [(path.name, found) for path in NOTEBOOKS for found in counted_without_plural(path, noun=wanted)] == []


def test_a_count_before_its_noun_is_seen_in_every_spelling(tmp_path):
    file = tmp_path / "file.py"
    for text, seen in [
        ("raise ValueError(f'{len(rows)} slices')", True),
        ("raise ValueError(f'none of {table.patient.nunique()} ' 'test patients')", True),
        ("n = int((x > 0).sum())\nraise about(path, ValueError(f'{n} values of it'))", True),
        ("if len(rows) > 1:\n    raise ValueError(f'{len(rows)} slices')", False),
        ("raise ValueError(f'slices: {len(rows)}')", False),
        ("raise ValueError(f'{rows.max()} slices')", False),
    ]:
        file.write_text(text)
        assert bool(list(counted_without_plural(file, ast.Raise))) == seen, text
