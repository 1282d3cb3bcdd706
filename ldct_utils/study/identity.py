"""What makes two runs the same: the code and parameters that decide a result, and the data and runs it starts from.

Code that a run does not use is no part of its id. What it uses is read from import statements, as far as names that it
imports lead. What is loaded by name stands in no import statement: it stands in ``LOADED``. ``folder`` names the folder
of a run; a run is computed again unless a folder with its id holds a ``result.json``.
"""

import ast
import copy
import hashlib
import importlib.util
import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

from ldct_utils.study import files, machine, parameters, paths
from ldct_utils.study.paths import locate
from ldct_utils.study.sources import COHORT_PARAMETERS, SOURCES

# Packages that decide how a result looks or where it is stored, never what it is: editing them makes no new run.
BOOKKEEPING = {"study", "report"}
# Modules that load others by name, and what they load for the parameters of a run. Nothing else does.
LOADED = {
    "models.networks": lambda given: [f"models.networks.{name}" for name in (given.get("network"), *_published(given))],
    "denoisers.opened": lambda given: ["denoisers.opened"],  # only a user's own module, which ``_hashable`` counts
    "training.methods": lambda given: [f"training.methods.{given.get('method')}"],
    "cohorts.lookup": lambda given: [
        f"cohorts.{SOURCES[name].module}" for name in map(given.get, COHORTS) if name in SOURCES
    ],
}
DENOISERS = ("denoiser", "beside")  # parameters that name denoisers of any kind
COHORTS = ("source", "test_source", "sharp_source")  # parameters that name the source of a cohort
RUN_FOLDER = re.compile(r".*-([0-9a-f]{8})")
PARENT = re.compile(r"\d\d[a-z]?_\w+|cohorts")  # the folder that a run's or a cohort's folder lies in
# What a statement of a notebook that binds no name may call without deciding anything: it shows something, or refuses a
# training that cannot be.
DECIDES_NOTHING = re.compile(r"report\.\w+|training\.refusals\.\w+")
DATA = {
    "data_root",
    "test_root",
    "sharp_root",
    "decathlon",
    "pairs",
}  # parameters that name folders of data, however they are written
ASIDE = {"save_every_s"}  # parameters that are read and change no result
LONGEST, LONGEST_GIVEN = 60, 100  # characters of a run's name on disk: made by hand, given by a study file
UNNAMED = {*parameters.FILING, "device", "precision", "threads"}  # parameters that such a name leaves out


def _each(value) -> list:
    return value if isinstance(value, list) else [] if value is None else [value]


def _published(given: Mapping) -> list[str]:
    """The networks that ``hub:<network>`` names among the denoisers of a run's parameters."""
    named = [name for key in DENOISERS for name in _each(given.get(key))]
    return [name.removeprefix("hub:") for name in named if str(name).startswith("hub:")]


def hash8(value) -> str:
    """First 8 hex digits of the SHA-256 of ``value`` as canonical JSON."""
    return hashlib.sha256(json.dumps(files.plain(value), sort_keys=True).encode()).hexdigest()[:8]


# ---- code of ldct_utils ----
_FOUND: dict[tuple[str, str], Path] = {}


def _module_file(name: str) -> Path | None:
    """The file of a module of ``ldct_utils``, or None where the name is not a module (a function, the package)."""
    if (__file__, name) not in _FOUND:
        base = Path(__file__).parents[1] / name.replace(".", "/")
        path = next((p for p in (base.with_suffix(".py"), base / "__init__.py") if name and p.is_file()), None)
        if path is None:  # not kept, since a file may be added later
            return None
        _FOUND[__file__, name] = path
    return _FOUND[__file__, name]


def _bare(tree: ast.AST, nodes: list) -> str:
    """A syntax tree as text, without docstrings (comments are not in it anyway). Args: nodes: of the tree."""
    for node in nodes:
        body = getattr(node, "body", None)
        if isinstance(body, list):  # a bare string is a docstring or a remark; neither changes what is computed
            node.body = [n for n in body if not (isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant))]
    return ast.dump(tree)


def _imports(nodes: Iterable) -> dict[str, tuple[str, str]]:
    """{local name: (module, name)} of all that the nodes of a syntax tree import; ``import x`` has no name.

    Raises: ValueError: where two imports of ``ldct_utils`` have one local name, since a use could then be of either.
    """
    found = {}
    for node in nodes:
        if isinstance(node, ast.Import):
            named = {(a.asname or a.name.split(".")[0]): (a.name, "") for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            named = {(a.asname or a.name): (node.module, a.name) for a in node.names}
        else:
            continue
        for local, source in named.items():
            if found.get(local, source) != source and _own(*source):
                raise ValueError(
                    f"{local} is imported from {source[0]} and from {found[local][0]}: give one another name"
                )
        found |= named
    return found


def _own(module: str, name: str) -> str | None:
    """The name inside ``ldct_utils`` of what is imported, e.g. ``ct.fbp`` or ``ct.fbp.project``; None for libraries."""
    full = f"{module}.{name}".rstrip(".")
    return full.partition(".")[2] if full.split(".")[0] == "ldct_utils" else None


def _uses(nodes: list, imports: Mapping) -> frozenset[str]:
    """Names inside ``ldct_utils`` that a tree's nodes use: an imported name, with the attribute that is taken of it."""
    found, inner = set(), set()
    for node in nodes:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in imports:
            if own := _own(*imports[node.value.id]):
                found.add(f"{own}.{node.attr}")
            inner.add(node.value)
    for node in nodes:
        if isinstance(node, ast.Name) and node not in inner and node.id in imports and isinstance(node.ctx, ast.Load):
            found.add(_own(*imports[node.id]))
    return frozenset(found - {None})


@cache
def _parsed(path: Path, modified: int) -> tuple[str, frozenset[str], dict[str, tuple[str, str]] | None]:
    """A module's code as text, the names inside ``ldct_utils`` that it uses, and what it hands on if it is a face: a
    package's ``__init__`` that only imports names from its modules."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = list(ast.walk(tree))  # once for all: what takes long is the walk
    imports = _imports(nodes)
    rest = [node for node in tree.body if not isinstance(node, ast.Expr | ast.Import | ast.ImportFrom)]
    face = path.name == "__init__.py" and all(ast.unparse(node).startswith("__all__ = ") for node in rest)
    # Imports without a use count too: a module may be imported for what it registers.
    named = {own for own in (_own(*one) for one in imports.values()) if own and _module_file(own)}
    return _bare(tree, nodes), frozenset(named | _uses(nodes, imports)), imports if face else None


def _times() -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in Path(__file__).resolve().parents[1].rglob("*.py")}


_BEGAN = _times()  # of the files that this process runs


def _read(path: Path):
    """``_parsed``. Raises: ValueError: if the file was edited since this process began, which runs it as it was."""
    modified = path.stat().st_mtime_ns
    if _BEGAN.get(path.resolve(), modified) != modified:
        raise ValueError(
            f"{path.name} was edited since this process began, so its results would be stored as those of other code: "
            "restart the kernel (or the command)"
        )
    return _parsed(path, modified)


def _homes(name: str) -> set[str]:
    """The modules that ``name`` (``ct.fbp``, ``ct.fbp.project``, ``cohorts.get``) leads to, through faces."""
    module = name
    while module and _module_file(module) is None:
        module = module.rpartition(".")[0]
    if not module:
        return set()
    path, rest = _module_file(module), name[len(module) + 1 :].split(".")[0]
    handed_on = _read(path)[2] if path.name == "__init__.py" else None
    if handed_on is None:
        return {module}
    owns = {local: _own(*source) for local, source in handed_on.items()}
    wanted = [owns[rest]] if rest in owns else [] if rest else list(owns.values())  # the whole face: all it hands on
    return {home for own in wanted if own for home in _homes(own)}


def modules_of(names, given=()) -> list[str]:
    """Modules of ``ldct_utils`` that ``names`` lead to, sorted, with all that they use.

    Args: names: inside ``ldct_utils``, e.g. ``["metrics.evaluate", "ct.fbp"]``. given: parameters, of a run and of the
        runs it starts from, by which modules are loaded.
    """
    seen, queue = set(), [home for name in names for home in _homes(name)]
    while queue:
        module = queue.pop()
        path = _module_file(module)
        if module in seen or path is None or module.split(".")[0] in BOOKKEEPING:
            continue
        seen.add(module)
        queue += [home for name in _read(path)[1] for home in _homes(name)]
        queue += [one for values in given for one in LOADED.get(module, lambda _: [])(values)]
    return sorted(seen)


def code_hash(names, given=()) -> str:
    """Hash of the code that ``names`` lead to, arguments as in ``modules_of``; presentation is left out.

    Raises: ValueError: for a name that is no module and in none.
    """
    for name in names:
        if not _homes(name):
            raise ValueError(f"ldct_utils has no module {name!r}: write it as after an import, e.g. ct.nps")
    modules = modules_of(names, given)
    code = {module: _read(_module_file(module))[0] for module in modules}
    asked = {values.get(name) for values in given for name in COHORTS} & set(SOURCES)
    # What the table says of a source decides its slices, as code does; and so does what makes projections here.
    tables = {name: vars(SOURCES[name]) for name in asked} if "cohorts.lookup" in modules else {}
    return hash8([code, tables, "ct.fbp" in modules and importlib.util.find_spec("astra") is not None])


# ---- code of a notebook ----
class _Deciding(ast.NodeTransformer):
    """Takes out of a notebook what decides nothing: calls of ``DECIDES_NOTHING`` and ``print`` that bind no name, and
    the words of errors and checks. The frame of ``report.table`` stays, since it is stored."""

    def __init__(self, imports: Mapping):
        self.imports = imports

    def visit_Expr(self, node):
        call = node.value
        if not isinstance(call, ast.Call) or any(isinstance(inner, ast.NamedExpr) for inner in ast.walk(call)):
            return node
        name, _, attribute = ast.unparse(call.func).partition(".")
        called = f"{_own(*self.imports[name])}.{attribute}" if name in self.imports else name
        if called != "print" and not DECIDES_NOTHING.fullmatch(called):
            return node
        if called != "report.table":
            return None
        frames = call.args[2:3] + [word.value for word in call.keywords if word.arg == "frame"]
        return [ast.Expr(frame) for frame in frames]

    def visit_Assert(self, node):
        node.msg = None
        return node

    def visit_Raise(self, node):
        if isinstance(node.exc, ast.Call):
            node.exc = node.exc.func
        return node

    def visit_If(self, node):
        self.generic_visit(node)
        binds = any(isinstance(inner, ast.NamedExpr) for inner in ast.walk(node.test))
        return node if node.body or node.orelse or binds else None


def _opened(body: list) -> set[str]:
    """The names that a notebook gives to the run it opens by ``runs.start``."""
    called = (node for node in body if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call))
    starts = (node for node in called if ast.unparse(node.value.func).split(".")[-1] == "start")
    return {ast.unparse(target) for node in starts for target in node.targets}


def _finishes(statement: ast.stmt, opened: set) -> bool:
    calls = (node.func for node in ast.walk(statement) if isinstance(node, ast.Call))
    return any(isinstance(f, ast.Attribute) and f.attr == "finish" and ast.unparse(f.value) in opened for f in calls)


@cache
def _deciding(notebook: parameters.Notebook) -> tuple[str, frozenset[str], frozenset[str], frozenset[str]]:
    """What decides a notebook's result: its code as text, the names inside ``ldct_utils`` that it uses, the parameters
    that it reads, and those of them that it reads once. What comes after ``run.finish`` cannot change a result that is
    already written."""
    body = copy.deepcopy(notebook.body.body)
    opened = _opened(body)
    last = next((place for place, statement in enumerate(body) if _finishes(statement, opened)), len(body))
    tree = ast.Module(body[: last + 1], [])
    imports = _imports(ast.walk(tree))
    tree = _Deciding(imports).visit(tree)
    tree.body = [node for node in tree.body if not isinstance(node, ast.Import | ast.ImportFrom)]
    nodes = list(ast.walk(tree))
    read = {node.id for node in nodes if isinstance(node, ast.Name)}
    sources = {local: ".".join(source) for local, source in sorted(imports.items()) if local in read}
    shown = {local for local in sources if (_own(*imports[local]) or "").split(".")[0] in BOOKKEEPING}
    text = repr({local: source for local, source in sources.items() if local not in shown}) + _bare(tree, nodes)
    counted = frozenset((read & set(notebook.parameters)) - ASIDE)
    loads = Counter(node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load))
    return text, _uses(nodes, imports), counted, frozenset(name for name in counted if loads[name] == 1)


# ---- data and upstream runs ----
def manifest(path) -> str:
    """Cheap hash of external data: relative names, sizes and times of all files below ``path`` (or of one file)."""
    path = Path(path)
    found = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    found = [p for p in found if p == path or not any(part.startswith(".") for part in p.relative_to(path).parts)]
    stats = [(str(p.relative_to(path)), p.stat().st_size, p.stat().st_mtime_ns) for p in found]
    return hash8(stats)


def _run_id(value) -> str | None:
    """The id of the run or cohort whose folder a value names; None for everything else."""
    if not isinstance(value, str) or not PARENT.fullmatch(Path(value).parent.name):
        return None
    inside = RUN_FOLDER.fullmatch(Path(value).name)
    return inside[1] if inside else None


def _data(path: Path, scanned: dict) -> dict:
    """External data as it enters the identity; ``scanned`` keeps the manifests."""
    if path not in scanned:
        scanned[path] = manifest(path)
    return {"manifest": scanned[path]}


def _function_file(value) -> Path | None:
    """The file of the module that ``package.module:function`` names, looked for as Python does but not imported."""
    module, found, _ = str(value).partition(":")
    parts = module.split(".")
    if not found or not all(part.isidentifier() for part in parts):
        return None
    places = [Path(base or ".").joinpath(*parts) for base in ("", *sys.path)]
    return next((p for at in places for p in (at.with_suffix(".py"), at / "__init__.py") if p.is_file()), None)


def _hashable(name: str, value, scanned: dict):
    """A parameter's value as it enters the identity: run folders by their id, external data by its manifest."""
    if isinstance(value, list):
        return [_hashable(name, v, scanned) for v in value]
    if name in DATA and isinstance(value, str):  # several folders may be joined as in PATH
        found = [locate(part) for part in paths.joined(value)]
        return [_data(p, scanned) for p in found if p is not None] or value
    # a file's bare name is found too
    named = name == "weights" or name in DENOISERS or (name == "context" and Path(str(value)).suffix)
    if name in DENOISERS and (code := _function_file(value)):
        return {"function": value, "code": files.sha256(code)}
    if isinstance(value, str) and ("/" in value or named):
        if run := _run_id(value):
            return {"run": run}
        located = locate(value)
        if located is not None:
            return _data(located, scanned)
    return value


def _upstream(values: Mapping, planned: Mapping, seen: set) -> Iterator[dict]:
    """The parameters that count of every run that a run of these parameters starts from, however far up.

    Args: planned: {folder: (notebook, parameters)} of runs that may not have run yet. seen: folders not to look at.
    """
    for value in values.values():
        for folder in value if isinstance(value, list) else [value]:
            if not _run_id(folder) or folder in seen:
                continue
            seen.add(folder)
            there = locate(folder)
            if folder in planned:
                notebook, given = planned[folder]
            elif there and (there / "result.json").is_file():
                stored = files.read_json(there / "result.json")
                notebook, given = stored["notebook"], stored["parameters"]
            else:
                continue
            script = paths.notebooks() / f"{notebook}.py"
            counted = _deciding(parameters.read(script))[2] if script.is_file() else set(given)
            given = {name: one for name, one in given.items() if name in counted}
            yield given
            yield from _upstream(given, planned, seen)


def _split_file(values: Mapping) -> list:
    """Contents of the split file that decides which patients train and test, found as ``cohorts.splits`` finds it."""
    source = values.get("source", "simulated")
    name = values.get("split") or (SOURCES[source].split if source in SOURCES else "")
    places = (Path(name), paths.root() / name, paths.root() / "params" / "splits" / f"{name}.yaml")
    return [path.read_text(encoding="utf-8") for path in places if name and path.is_file()][:1]


def _idle(values: Mapping) -> set[str]:
    """Parameters of a cohort that its source does not read; one that a notebook reads once, it reads for the cohort."""
    source = SOURCES.get(values.get("source"))
    always = {"source", "data_root", "split", "cohort_seed"}
    return set(COHORT_PARAMETERS) - always - set(source.reads) if source else set()


# ---- a run ----
def identity(
    notebook: parameters.Notebook, values: dict, scanned: dict | None = None, planned: Mapping | None = None
) -> str:
    """The id of a run: hash of the notebook's code, the ``ldct_utils`` code it uses and its resolved parameters.

    A parameter counts if a statement that decides the result reads it.

    Args: scanned: manifests of external data by path, read and filled; pass one dict to name many runs of the same data
        at one moment, so that the data are looked through once. planned: {folder: (notebook, parameters)} of runs that
        this one may start from and that have not run yet.
    """
    scanned = {} if scanned is None else scanned
    text, names, read, once = _deciding(notebook)
    counted = {name: value for name, value in values.items() if name in read - (_idle(values) & once)}
    kept = {name: _hashable(name, value, scanned) for name, value in counted.items()}
    code = code_hash([name for name in names if _homes(name)], [counted, *_upstream(counted, planned or {}, set())])
    return hash8([notebook.name, text, code, kept, *_split_file(counted), *machine.by_wheels(counted)])


def short_name(notebook: parameters.Notebook, values: dict) -> str:
    """What a run made by hand is called: the parameters that differ from the notebook's defaults, as many as fit."""
    parts, counted = [], _deciding(notebook)[2] - UNNAMED
    telling = sorted(notebook.parameters, key=lambda name: name in COHORT_PARAMETERS)  # what the cohort is comes last
    for name in telling:
        value = values[name]
        if name not in counted or value == notebook.parameters[name].default:
            continue
        if name in DENOISERS and isinstance(value, str):  # a file or run by its own name
            value = Path(value.rpartition(":")[2]).name.partition("--")[0].removesuffix(".onnx")
        for key, one in value.items() if isinstance(value, dict) else [(name, value)]:
            if isinstance(one, bool | int | float) or (isinstance(one, str) and "/" not in one):
                parts.append(f"{key}-{one:g}" if isinstance(one, float) else f"{key}-{one}")
    chosen = ""
    for part in (_on_disk(part) for part in parts):
        if len(longer := f"{chosen}_{part}".strip("_")) <= LONGEST:
            chosen = longer
    return chosen or "default"


def _on_disk(name: str) -> str:
    """A name as a folder may have it, cut between words where it is too long; ``--`` is kept for before the id."""
    name = re.sub(r"--+", "-", re.sub(r"[^A-Za-z0-9_.+-]+", "-", name)).strip("-.")
    while len(name) > LONGEST_GIVEN:
        name = re.sub(r"[-_][^-_]*$", "", name) if re.search(r"[-_]", name) else name[:LONGEST_GIVEN]
    return name


def folder(
    script: parameters.Notebook, values: dict, scanned: dict | None = None, planned: Mapping | None = None
) -> Path:
    """``outputs/<study>/<notebook>/<name>--<id8>`` for resolved parameters; the other arguments as in ``identity``.

    A folder that has this id already is the run's, whatever it is called.
    """
    id8, study = identity(script, values, scanned, planned), Path(values.get("study", "adhoc"))
    if study.is_absolute() or ".." in study.parts:
        raise ValueError(f"study={study} would store the run outside of outputs/: give a plain name")
    parent = paths.outputs() / study / script.name
    there = [path for path in sorted(parent.glob(f"*-{id8}")) if path.is_dir()]
    finished = [path for path in there if (path / "result.json").is_file()]
    name = _on_disk(str(values.get("run_name") or "")) or short_name(script, values)
    return next(iter(finished or there), parent / f"{name}--{id8}")


def inside_outputs(folder: Path) -> str:
    """A run folder as it is written in parameters and plans: relative to ``outputs/``, which may then be moved."""
    folder, outputs = Path(folder).resolve(), paths.outputs().resolve()
    return str(folder.relative_to(outputs)) if folder.is_relative_to(outputs) else str(folder)
