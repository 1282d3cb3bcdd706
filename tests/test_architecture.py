"""The shape of the project: imports point one way, files name no computer, and what is generated is not tracked."""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "ldct_utils"
MAP = re.findall(r"^\| `([a-z_]+)/?` \|", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)


def idea(path: Path) -> str:
    """The entry of the map that a file belongs to: its module, or the package it is in."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Entries of the map that a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative import"
            if node.module == "ldct_utils":
                found |= {alias.name for alias in node.names}
            elif (node.module or "").startswith("ldct_utils."):
                found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("ldct_utils.")}
    return found


SOURCES = sorted(p for p in PACKAGE.rglob("*.py") if p.parent != PACKAGE or p.name != "__init__.py")


def test_the_map_lists_every_module_once():
    assert sorted(MAP) == sorted({idea(path) for path in SOURCES})


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_module_imports_only_those_above_it_in_the_map(path):
    place = MAP.index(idea(path))
    below = {name for name in imported(path) - {idea(path)} if MAP.index(name) > place}
    assert not below, f"{idea(path)} stands above {', '.join(sorted(below))} in the map and must not import it"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_the_package_knows_neither_papermill_nor_snakemake(path):
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"^\s*(import|from) (papermill|snakemake)", text, re.MULTILINE)


def test_planning_a_study_does_not_import_torch():
    code = "import sys; from ldct_utils import studies, runs; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.py")), ids=lambda p: p.stem)
def test_no_notebook_imports_another_or_edits_the_path(path):
    text = path.read_text(encoding="utf-8")
    names = {p.stem for p in path.parent.glob("*.py")}
    modules = re.findall(r"^\s*(?:from|import)\s+(\S+)", text, re.MULTILINE)
    assert not {m for m in modules if m.split(".")[0] in names | {"notebooks"}}
    assert "sys.path" not in text and "%run" not in text and "import_module" not in text


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
        assert not name.startswith(("outputs/", ".venv/")), name
        assert path.stat().st_size < 1_000_000, name
