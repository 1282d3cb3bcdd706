"""The shape of the project: imports point one way, files name no computer, and what is generated is not tracked."""

import ast
import functools
import graphlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "ldct_utils"
MAP = re.findall(r"^\| `([a-z_0-9]+)` \|", (ROOT / "docs" / "map.md").read_text(encoding="utf-8"), re.MULTILINE)
ROOMS = sorted(p.parent.name for p in PACKAGE.glob("*/__init__.py"))
SOURCES = sorted(p for p in PACKAGE.rglob("*.py") if p.parent != PACKAGE)
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))


def module_of(path: Path) -> str:
    """A file's module, e.g. ``ldct_utils.ct.fbp``; a package's own ``__init__`` is the package."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path) for path in PACKAGE.rglob("*.py")}


@functools.cache
def imported(path: Path) -> set[str]:
    """Modules of the package that a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative import"
            named = {f"{node.module}.{alias.name}" for alias in node.names} & MODULES
            found |= named | ({node.module} & MODULES if len(named) < len(node.names) else set())
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names} & MODULES
    return found


def room(module: str) -> str:
    return module.split(".")[1]


def allowed(name: str) -> set[str]:
    """The packages that a package says it may import, in its own docstring."""
    text = ast.get_docstring(ast.parse((PACKAGE / name / "__init__.py").read_text(encoding="utf-8")))
    (listed,) = re.findall(r"^May import: ([^.]+)\.\s+Start reading in\s+``[a-z_]+", text, re.MULTILINE)
    return set() if listed == "nothing" else set(re.split(r",\s+", listed))


def test_nothing_lies_flat_and_the_map_lists_every_package_once():
    assert [p.name for p in PACKAGE.glob("*.py")] == ["__init__.py"]
    assert sorted(MAP) == ROOMS


def test_what_the_map_sends_a_newcomer_to_is_there():
    text = (ROOT / "docs" / "map.md").read_text(encoding="utf-8")
    rows = re.findall(r"\(\.\./ldct_utils/([a-z_0-9/]+\.py)\)[^|]*\| ([^|]+) \|", text)
    assert len(rows) > 9
    for file, names in rows:
        tree = ast.parse((PACKAGE / file).read_text(encoding="utf-8"))
        bound = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        bound |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        assert set(re.findall(r"`(\w+)`", names)) <= bound, file
    for start in re.findall(r"^\| `([a-z_0-9]+)` \|.*\| `([a-z_0-9]+)` \|$", text, re.MULTILINE):
        assert f"ldct_utils.{'.'.join(start)}" in MODULES, start


@pytest.mark.parametrize("name", ROOMS)
def test_a_package_imports_those_that_its_docstring_names_and_no_other(name):
    arrows = {room(module) for path in (PACKAGE / name).rglob("*.py") for module in imported(path)} - {name}
    assert arrows == allowed(name)


def test_arrows_between_packages_point_one_way():
    list(graphlib.TopologicalSorter({name: allowed(name) for name in ROOMS}).static_order())  # a circle is a CycleError


@pytest.mark.parametrize("name", ROOMS)
def test_files_of_a_package_import_each_other_in_no_circle(name):
    graph = {module_of(p): imported(p) for p in (PACKAGE / name).rglob("*.py") if p.name != "__init__.py"}
    list(graphlib.TopologicalSorter({module: used & set(graph) for module, used in graph.items()}).static_order())


def test_no_file_imports_a_private_name_of_another_package():
    for path in SOURCES:
        own = module_of(path).split(".")[:2]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[:1] == ["ldct_utils"]:
                outside = f"{node.module}.{node.names[0].name}".split(".")[:2] != own
                private = any(f".{alias.name}".startswith("._") for alias in node.names)
                assert not (outside and private), f"{path.relative_to(ROOT)}: {ast.unparse(node)}"


def test_the_package_knows_neither_papermill_nor_snakemake():
    knows = re.compile(r"^\s*(import|from) (papermill|snakemake)", re.MULTILINE)
    assert [path for path in SOURCES if knows.search(path.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize(
    ("imports", "spared"),
    [("from ldct_utils.study import planning, runs", "torch"), ("import run_notebook, papermill", "pandas")],
)
def test_what_starts_the_runs_of_a_study_does_not_import_what_only_they_need(imports, spared):
    code = f"import sys; sys.path.insert(0, 'workflow'); {imports}; sys.exit({spared!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_no_notebook_imports_another_or_edits_the_path():
    names = {p.stem for p in NOTEBOOKS} | {"notebooks"}
    assert len(names) > 20
    for path in NOTEBOOKS:
        text = path.read_text(encoding="utf-8")
        modules = re.findall(r"^\s*(?:from|import)\s+(\S+)", text, re.MULTILINE)
        assert not {m for m in modules if m.split(".")[0] in names}, path.name
        assert not re.search(r"sys\.path|%run|import_module", text), path.name


def tracked() -> list[Path]:
    """Files that git tracks. Without git, as in an unpacked archive, nobody can say which they are: the test skips."""
    if shutil.which("git") is None:
        pytest.skip("no git here to list the tracked files")
    listed = subprocess.run(["git", "-C", ROOT, "ls-files", "-z"], capture_output=True, text=True, check=False)
    # git's own words: no repository, or one of another owner
    if listed.returncode:
        pytest.skip(f"git lists no files: {listed.stderr.strip()}")
    found = [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]
    if not found and not (ROOT / ".git").exists():
        pytest.skip("git lists no files: this folder lies inside another repository, which does not track it")
    assert ROOT / "README.md" in found, f"git lists {len(found)} files, without the README"
    return found


def test_tracked_files_name_no_computer_and_no_registry():
    words = [
        r"/home/\w",
        r"/ro" + r"ot/",
        r"/Users/\w",
        r"C:\\\\Users",
        "pypi" + r"\.org",
        "python" + "hosted",
        "deb" + r"\.debian",
    ]
    for path in tracked():
        if path.suffix in {".png", ".npy"} or path == Path(__file__):
            continue
        found = re.search("|".join(words), path.read_text(encoding="utf-8"))
        assert not found, f"{path.relative_to(ROOT)} names {found[0]}"


def test_no_data_weights_or_outputs_are_tracked():
    for path in tracked():
        name = path.relative_to(ROOT).as_posix()
        assert not re.search(r"\.(ima|dcm|npz|npy|pth|pt|onnx|safetensors|parquet)$", name, re.IGNORECASE), name
        assert not name.startswith(("outputs/", ".venv/")) or name == "outputs/README.md", name
        assert path.stat().st_size < 1_000_000, name
