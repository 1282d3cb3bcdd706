"""What makes two runs the same: their code, their resolved parameters, and the data and runs they start from."""

import ast
import hashlib
import json
import os
import re
from functools import cache
from pathlib import Path

from ldct_utils import data_sources, files, parameters, paths

# Modules that decide how a result looks or where it is stored, never what it is: editing them makes no new run.
BOOKKEEPING = {"plots", "report", "paths", "files", "parameters", "data_sources", "identity", "runs", "studies"}
RUN_FOLDER = re.compile(r".*-([0-9a-f]{8})")


def hash8(value) -> str:
    """First 8 hex digits of the SHA-256 of ``value`` as canonical JSON."""
    return hashlib.sha256(json.dumps(files.plain(value), sort_keys=True).encode()).hexdigest()[:8]


def _bare(tree: ast.AST) -> str:
    """A syntax tree as text, without docstrings (comments are not in it anyway)."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):  # a bare string is a docstring or a remark; neither changes what is computed
            node.body = [n for n in body if not (isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant))]
    return ast.dump(tree)


def _imports(tree: ast.AST) -> set[str]:
    """Names of ``ldct_utils`` modules that a syntax tree imports, e.g. ``metrics.noise``."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {
                a.name.removeprefix("ldct_utils").lstrip(".") for a in node.names if a.name.startswith("ldct_utils")
            }
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ldct_utils"):
            base = node.module.removeprefix("ldct_utils").lstrip(".")
            found |= {base} | {f"{base}.{a.name}".lstrip(".") for a in node.names}
    return found


def _module_file(name: str) -> Path | None:
    """The file of a module of ``ldct_utils``, or None where the name is not a module (a function, the package)."""
    base = Path(__file__).parent / name.replace(".", "/")
    return next((p for p in (base.with_suffix(".py"), base / "__init__.py") if name and p.is_file()), None)


@cache
def _parsed(path: Path, modified: int) -> tuple[str, frozenset[str]]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imports = _imports(tree)
    if path.name == "__init__.py":  # a registry that loads its folder by name uses every module of it
        imports |= {f"{path.parent.name}.{p.stem}" for p in path.parent.glob("*.py") if p != path}
    return _bare(tree), frozenset(imports)


def code_hash(modules, unused=()) -> str:
    """Hash of the code of ``modules`` and all of ``ldct_utils`` that they use, presentation left out.

    Args: modules: names inside ``ldct_utils``, e.g. ``["cohorts", "metrics.noise"]``. unused: names that some of them
        import but do not use this time; they and what only they use are left out.
    Raises: ValueError: for a name that is no module.
    """
    trees, queue = {}, list(modules)
    for name in queue:
        if _module_file(name) is None:
            raise ValueError(f"ldct_utils has no module {name!r}: write it as after an import, e.g. metrics.noise")
    while queue:
        name = queue.pop()
        path = _module_file(name)
        if path is None or name in trees or name in BOOKKEEPING or name in unused:
            continue
        trees[name], imports = _parsed(path, path.stat().st_mtime_ns)
        queue += sorted(imports) + ([name.rpartition(".")[0]] if "." in name else [])
    return hash8(trees)


def manifest(path) -> str:
    """Cheap hash of external data: relative names, sizes and times of all files below ``path`` (or of one file)."""
    path = Path(path)
    found = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    stats = [(str(p.relative_to(path)), p.stat().st_size, p.stat().st_mtime_ns) for p in found]
    return hash8(stats)


def locate(value: str) -> Path | None:
    """An existing file or folder that a parameter names: absolute, or relative to the study or its outputs."""
    for base in (Path(), paths.root(), paths.outputs()):
        if value and len(value) < 1000 and (base / value).exists():
            return base / value
    return None


def _data(path: Path, scanned: dict) -> dict:
    """External data as it enters the identity; ``scanned`` keeps the manifests."""
    if path not in scanned:
        scanned[path] = manifest(path)
    return {"path": path.name, "manifest": scanned[path]}


def _hashable(name: str, value, scanned: dict):
    """A parameter's value as it enters the identity: run folders by their id, external data by its manifest."""
    if isinstance(value, list):
        return [_hashable(name, v, scanned) for v in value]
    if name == "data_root" and isinstance(value, str):  # several folders may be joined as in PATH
        found = [locate(part) for part in value.split(os.pathsep)]
        return [_data(p, scanned) for p in found if p is not None] or value
    named = name == "weights" or (name == "context" and Path(str(value)).suffix)  # a file's bare name is found too
    if isinstance(value, str) and ("/" in value or named):
        inside = RUN_FOLDER.fullmatch(Path(value).name)
        if inside:
            return {"run": inside[1]}
        located = locate(value)
        if located is not None:
            return _data(located, scanned)
    return value


def _split_files(values: dict) -> list:
    """Contents of the named splits, which decide what a cohort of real patients trains and tests on."""
    if values.get("source", "simulated") == "simulated":
        return []
    return [path.read_text(encoding="utf-8") for path in sorted((paths.root() / "params" / "splits").glob("*.yaml"))]


def identity(notebook: parameters.Notebook, values: dict, scanned: dict | None = None) -> str:
    """The id of a run: hash of the notebook's code, the ``ldct_utils`` code it uses and its resolved parameters.

    Args: scanned: manifests of external data by path, read and filled; pass one dict to name many runs of the same data
        at one moment, so that the data are looked through once.
    """
    scanned = {} if scanned is None else scanned
    modules = [m for m in _imports(notebook.body) if _module_file(m)]
    kept = {k: _hashable(k, v, scanned) for k, v in values.items() if k != "study"}
    # A copy, since taking the docstrings out edits the tree in place.
    body = _bare(ast.parse(ast.unparse(notebook.body)))
    # A training on real patients does not start anew because the simulated ones have changed.
    asked = [values[name] for name in ("source", "test_source") if values.get(name)]
    code = code_hash(modules, data_sources.others(*asked) if "source" in values else ())
    return hash8([notebook.name, body, code, kept, *_split_files(values)])


def slug(notebook: parameters.Notebook, values: dict) -> str:
    """A readable folder name: the parameters that differ from the notebook's defaults, ``default`` if none does."""
    parts = []
    for name, declared in notebook.parameters.items():
        value = values[name]
        if isinstance(value, dict):
            parts += [f"{key}-{one}" for key, one in value.items() if isinstance(one, bool | int | float | str)]
            continue
        plain = isinstance(value, bool | int | float) or (isinstance(value, str) and "/" not in value)
        if value != declared.default and plain and name not in ("study", "device", "precision", "threads"):
            parts.append(f"{name}-{value:g}" if isinstance(value, float) else f"{name}-{value}")
    return re.sub(r"[^A-Za-z0-9_.+-]", "", "_".join(parts))[:90].strip("_-.") or "default"


def folder(script: parameters.Notebook, values: dict, scanned: dict | None = None) -> Path:
    """``outputs/<study>/<notebook>/<slug>-<id8>`` for resolved parameters; ``scanned`` as in ``identity``."""
    name = f"{slug(script, values)}-{identity(script, values, scanned)}"
    return paths.outputs() / values.get("study", "adhoc") / script.name / name


def inside_outputs(folder: Path) -> str:
    """A run folder as it is written in parameters and plans: relative to ``outputs/``, which may then be moved."""
    folder, outputs = Path(folder).resolve(), paths.outputs().resolve()
    return str(folder.relative_to(outputs)) if folder.is_relative_to(outputs) else str(folder)
