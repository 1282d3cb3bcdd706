"""The parameters of a notebook: read from its parameters cell, checked by name and type.

papermill only warns about a name that a notebook does not declare and passes ``1e-4`` from YAML as text; here the
first is an error that names the nearest declared parameter and the second is read as the number it is.
"""

import ast
import contextlib
import difflib
import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

FILING = {"study", "run_name"}  # parameters that say where a run is stored and what it is called, read by no notebook
TYPES = {"int": int, "float": float, "str": str, "bool": bool, "list": list, "dict": dict}


@dataclass(frozen=True)
class Declared:
    """One line of a parameters cell: its name, type (``float``, ``list``, ...), whether None is legal, its default."""

    name: str
    type: str
    optional: bool
    default: object


@dataclass(frozen=True, eq=False)
class Notebook:
    """A notebook as its parameters and its code. ``body`` is the syntax tree without the parameter lines."""

    name: str
    parameters: dict[str, Declared]
    body: ast.Module


def _cells(path: Path) -> list[tuple[str, str]]:
    """(marker, source) of the code cells of a percent script."""
    parts = re.split(r"^(# %%.*)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return [(m, s) for m, s in zip(parts[1::2], parts[2::2]) if not m.startswith("# %% [markdown]")]


@cache
def _read(path: Path, modified: float) -> Notebook:
    cells = _cells(path)
    marked = [source for marker, source in cells if '"parameters"' in marker]
    if len(marked) != 1:
        raise ValueError(f'{path} needs exactly one cell `# %% tags=["parameters"]`, found {len(marked)}')
    declared = {}
    for line in ast.parse(marked[0]).body:
        if isinstance(line, ast.ImportFrom | ast.Import):
            continue
        if not (isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and line.value is not None):
            raise ValueError(f"{path}: a parameter line must read `name: type = literal`, got {ast.unparse(line)!r}")
        text = ast.unparse(line.annotation)
        inner = re.fullmatch(r"Optional\[(.+)\]", text)
        base = (inner[1] if inner else text).split("[")[0]
        if base not in TYPES:
            raise ValueError(f"{path}: parameter {line.target.id} has type {text}; use one of {', '.join(TYPES)}")
        declared[line.target.id] = Declared(line.target.id, base, bool(inner), ast.literal_eval(line.value))
    body = ast.parse("\n".join(source for _, source in cells if source is not marked[0]))
    return Notebook(path.stem, declared, body)


@cache
def _are_a_pair(notebook: Notebook, pair: Path, modified: float) -> bool:
    """Whether an ``.ipynb`` holds the code of a script, its parameters aside."""
    cells = [c for c in json.loads(pair.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == "code"]
    sources = ["".join(c["source"]) for c in cells if "parameters" not in c["metadata"].get("tags", [])]
    return ast.dump(ast.parse("\n".join(sources))) == ast.dump(notebook.body)


def _which_is_newer(script: Path, pair: Path) -> str:
    """What to do where the two differ, so that no edit is lost: the one that was written last goes into the other."""
    if pair.stat().st_mtime_ns > script.stat().st_mtime_ns:
        command = f".venv/bin/jupytext --to py:percent notebooks/{pair.name}"
        return f"the .ipynb was edited last, so bring the edit into the script with `{command}`, which keeps it"
    return "the script was edited last, so write the .ipynb anew with `make notebooks`"


def read(path) -> Notebook:
    """Read the parameters and the code of a notebook's percent script.

    Args: path: the ``.py`` file.
    Raises: FileNotFoundError; ValueError: if a parameter line is not ``name: type = literal``, or if the ``.ipynb``
        beside it holds other code (then the recorded identity would be that of code that was not run).
    """
    path = Path(path)
    if not path.is_file():
        known = sorted(p.stem for p in path.parent.glob("[0-9]*.py"))
        raise FileNotFoundError(f"no notebook {path}; known: {', '.join(known) or 'none'}")
    notebook, pair = _read(path, path.stat().st_mtime_ns), path.with_suffix(".ipynb")
    if pair.is_file() and not _are_a_pair(notebook, pair, pair.stat().st_mtime_ns):
        raise ValueError(f"{path.name} and {pair.name} hold different code: {_which_is_newer(path, pair)}")
    return notebook


def _nearest(name: str, known) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; declared are {', '.join(sorted(known))}"


def check_name(owner: str, kind: str, name: str, known):
    """Raises: ValueError: with the nearest, if ``name`` is none of the ``known`` ones of ``owner``."""
    if name not in known:
        raise ValueError(f"{owner} has no {kind} {name!r}{_nearest(name, known)}")


def _mapping(text: str) -> dict:
    """The mapping that ``dim=16, blocks=[1, 2], variant=channel`` spells, or a literal one; bare words are text.

    Raises: SyntaxError, ValueError: for anything else.
    """
    if text.strip().startswith("{"):
        return ast.literal_eval(text)
    call = ast.parse(f"dict({text})", mode="eval").body
    if not isinstance(call, ast.Call) or call.args or any(k.arg is None for k in call.keywords):
        raise ValueError(f"not a list of name=value: {text!r}")
    words = {"true": True, "false": False, "none": None, "null": None}
    return {
        k.arg: words.get(k.value.id, k.value.id) if isinstance(k.value, ast.Name) else ast.literal_eval(k.value)
        for k in call.keywords
    }


def convert(declared: Declared, value):
    """``value`` in the declared type; text is read as a number, list or mapping only where the reading is exact.

    Raises: ValueError: naming parameter, value and type.
    """
    if value is None and declared.optional:
        return None
    wanted = TYPES[declared.type]
    if isinstance(value, str) and wanted is not str:
        # papermill's -y and YAML 1.1 hand over 1e-4 as text, and -p hands over every list as text
        with contextlib.suppress(ValueError, SyntaxError):
            value = float(value) if wanted is float else _mapping(value) if wanted is dict else ast.literal_eval(value)
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if wanted is list and isinstance(value, tuple):
        value = list(value)
    if (isinstance(value, bool) and wanted is not bool) or not isinstance(value, wanted):
        kind = f"Optional[{declared.type}]" if declared.optional else declared.type
        raise ValueError(f"parameter {declared.name} must be {kind}, got {value!r} ({type(value).__name__})")
    return value


def check(notebook: Notebook, given: dict) -> dict:
    """All parameters of ``notebook``: ``given`` values checked and converted, defaults for the rest.

    Raises: ValueError: for a name that was not declared or a value of the wrong type.
    """
    for name in given:
        check_name(notebook.name, "parameter", name, notebook.parameters)
    return {n: convert(d, given.get(n, d.default)) for n, d in notebook.parameters.items()}


def _assigned(tree: ast.Module) -> set[str]:
    return {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}


def from_namespace(notebook: Notebook, namespace: dict) -> dict:
    """The checked parameters as they stand in a running notebook.

    Args: namespace: ``globals()`` of the notebook, right after its parameters (and papermill's injected) cell.
    Raises: ValueError: for a parameter that was set but not declared (whether by ``-p`` or typed in JupyterLab), was
        declared but is never read, or has the wrong type.
    """
    read_names = {n.id for n in ast.walk(notebook.body) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    for name in notebook.parameters:
        if name not in FILING and name not in read_names:
            raise ValueError(f"{notebook.name} declares {name!r} but never reads it{_nearest(name, read_names)}")
        if isinstance(hiding := namespace.get(name), ModuleType):
            raise ValueError(f"an import hides the parameter {name!r}: use `from {hiding.__name__} import ...`")
    own = set(notebook.parameters) | _assigned(notebook.body)
    for source in namespace.get("In", [])[1:]:  # IPython's record of the cells that ran, papermill's cell among them
        try:
            names = _assigned(ast.parse(source))
        except SyntaxError:  # a magic or shell line
            continue
        for name in sorted(names - own):
            raise ValueError(f"{notebook.name} has no parameter {name!r}{_nearest(name, notebook.parameters)}")
    return check(notebook, {n: namespace[n] for n in notebook.parameters if n in namespace})
