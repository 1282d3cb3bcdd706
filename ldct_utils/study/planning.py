"""Studies: ``params/<study>.yaml`` to the list of runs that it asks for, with their folders, before anything runs."""

import fnmatch
import glob
import itertools
import os
import re
from dataclasses import dataclass
from pathlib import Path

import yaml

from ldct_utils.study import identity, machine, parameters, paths, runs, sources


class _Loader(yaml.SafeLoader):
    """YAML that reads ``1e-4`` as the number it is (YAML 1.1 wants ``1.0e-4`` and takes the rest for text)."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d[\d_]*\.?[\d_]*|\.\d+)[eE][-+]?\d+"), list("-+.0123456789")
)


@dataclass(frozen=True)
class Planned:
    """One run of a study before it runs: ``params`` are resolved, ``upstream`` are the folders it waits for."""

    notebook: str
    name: str
    params: dict
    id: str
    folder: Path
    upstream: tuple[Path, ...]

    @property
    def finished(self) -> bool:
        return (self.folder / "result.json").is_file()


def read_study(study: str) -> dict:
    """``params/<study>.yaml``. Raises: FileNotFoundError, ValueError: if it is absent or not a study."""
    path = paths.root() / "params" / f"{study}.yaml"
    if not path.is_file():
        known = sorted(p.stem for p in path.parent.glob("*.yaml"))
        raise FileNotFoundError(f"no study file {paths.short(path)}; known: {', '.join(known)}")
    content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    if not isinstance(content, dict) or not isinstance(content.get("notebooks"), dict):
        raise ValueError(f"{paths.short(path)} needs a mapping `notebooks`")
    return content


def left_out(study: str) -> dict[str, list[str]]:
    """{variable of the environment that is not set: runs of the study that need it}."""
    found: dict[str, list[str]] = {}
    for notebook, entry in read_study(study)["notebooks"].items():
        for name, given in _every(entry):
            for variable in _unset(given):
                found.setdefault(variable, []).append(f"{notebook}/{name}")
    return found


def _variable(value) -> str | None:
    return value[1:] if isinstance(value, str) and value.startswith("$") else None


def _unset(given: dict) -> list[str]:
    return [name for name in map(_variable, given.values()) if name and not os.environ.get(name)]


def _listed(entry: dict | None):
    """Those runs of ``_every`` whose variables are set, with their values."""
    return [
        (name, {k: os.environ[_variable(v)] if _variable(v) else v for k, v in given.items()})
        for name, given in _every(entry) if not _unset(given)
    ]  # fmt: skip


def _every(entry: dict | None):
    """(name, parameters) of the runs that one notebook's entry of a study file lists, in the file's own order.

    A parameter may be a variable of the environment, ``$NAME``: a folder that only some machines have.
    """
    entry = entry or {}
    unknown = set(entry) - {"defaults", "runs", "matrix"}
    if unknown:
        raise ValueError(f"a notebook's entry has defaults, runs and matrix; got {', '.join(sorted(unknown))}")
    defaults, out = entry.get("defaults") or {}, []
    given = {kind: entry[kind] for kind in entry if kind != "defaults" and entry[kind]} or {"runs": [{}]}
    for kind, listed in given.items():
        for one in [listed] if isinstance(listed, dict) else listed:
            out += [(name, defaults | values) for name, values in (_crossed if kind == "matrix" else _named)(one or {})]
    return out


def _named(run: dict):
    """(name, parameters) of one run."""
    given = {k: v for k, v in run.items() if k != "name"}
    return [(run.get("name") or "-".join(map(str, given.values())) or "default", given)]


def _crossed(matrix: dict):
    """(name, parameters) of the cross product of a matrix, named by what is a list in it."""
    axes = {k: v if isinstance(v, list) else [v] for k, v in matrix.items()}
    crossed = [dict(zip(axes, values)) for values in itertools.product(*axes.values())]
    varied = [k for k in matrix if isinstance(matrix[k], list)]
    return [("-".join(str(one[k]) for k in varied) or "default", one) for one in crossed]


def plan(study: str, overrides: dict | None = None) -> list[Planned]:
    """All runs of ``params/<study>.yaml`` with their ids and folders, in an order in which they can run: the
    file's own where no run waits for a later one.

    Args: overrides: parameters that win over the study file for every notebook that declares them, e.g.
        ``{"device": "cuda"}`` where the machine that plans is not the one that computes.
    Raises: ValueError: for an unknown notebook, parameter, type or reference, or a pattern that reaches into the study
        itself, or a source of files without its folder; FileNotFoundError: for the study file, or a pattern that no run
        matches.
    """
    content, overrides = read_study(study), overrides or {}
    scripts = {n: parameters.read(paths.notebooks() / f"{n}.py") for n in content["notebooks"]}
    shared = content.get("defaults") or {}
    for name in [*shared, *overrides]:
        if name not in parameters.FILING and not any(name in s.parameters for s in scripts.values()):
            raise ValueError(f"{study}: no notebook of the study declares {name!r}")
    waiting = [(n, *listed) for n, entry in content["notebooks"].items() for listed in _listed(entry)]
    done: dict[tuple[str, str], Planned] = {}
    scanned: dict = {}  # external data, looked through once for all runs
    while waiting:
        item = next((w for w in waiting if not _references(w, waiting)), None)
        if item is None:
            raise ValueError(f"{study}: runs wait for each other: {', '.join(f'{n}/{r}' for n, r, _ in waiting)}")
        notebook, name, given = item
        known = scripts[notebook].parameters
        given = {k: v for k, v in shared.items() if k in known} | given
        filed = {"study": study, "run_name": name}
        given |= {k: v for k, v in (filed | overrides).items() if k in known}
        upstream: list[Planned] = []
        given = {k: _substitute(v, done, upstream, known.get(k)) for k, v in given.items()}
        values = machine.resolve(parameters.check(scripts[notebook], given))
        try:
            sources.check_folders(values)
        except ValueError as error:
            raise ValueError(f"{study}: {notebook}/{name}: {error}") from None
        own = [paths.outputs() / study / n for n in scripts]
        values = _located(values, upstream, f"{study}: {notebook}/{name}", own)
        if notebook != "01_data":
            upstream += [p for p in done.values() if p.notebook == "01_data" and _same_cohort(p.params, values)]
        waited = {identity.inside_outputs(p.folder): (p.notebook, p.params) for p in done.values()}
        folder = identity.folder(scripts[notebook], values, scanned, waited)
        planned = Planned(
            notebook, name, values, folder.name[-8:], folder, tuple(dict.fromkeys(p.folder for p in upstream))
        )
        if (notebook, name) in done:
            raise ValueError(f"{study}: two runs of {notebook} are called {name!r}")
        same = (p for p in done.values() if (p.notebook, p.id) == (notebook, planned.id))
        done[notebook, name] = next(same, planned)  # the same run listed twice is run once, by its first name
        waiting.remove(item)
    return list({id(run): run for run in done.values()}.values())


def _patterns(value) -> list[tuple[str, str]]:
    """(notebook, name pattern) of the references ``@notebook`` or ``@notebook/pattern`` in a parameter value."""
    found = []
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, str) and one.startswith("@"):
            notebook, _, pattern = one[1:].partition("/")
            found.append((notebook, pattern or "*"))
    return found


def _references(item, waiting) -> bool:
    """Whether a listed run refers to one that is still waiting, or needs a cohort that 01_data has yet to plan."""
    needed = [r for v in item[2].values() for r in _patterns(v)]
    if item[0] != "01_data":
        needed.append(("01_data", "*"))
    return any(
        n == notebook and fnmatch.fnmatch(r, p) for notebook, p in needed for n, r, g in waiting if (n, r, g) != item
    )


def _substitute(value, done, upstream, declared):
    """``value`` with references replaced by run folders, which are added to ``upstream``."""
    references = _patterns(value)
    if not references:
        return value
    hits = []
    for notebook, pattern in references:
        found = [p for (n, r), p in done.items() if n == notebook and fnmatch.fnmatch(r, pattern)]
        if not found:
            raise ValueError(f"@{notebook}/{pattern} refers to no run of the study")
        hits += found
    upstream += hits
    folders = list(dict.fromkeys(identity.inside_outputs(p.folder) for p in hits))  # one may have two names
    if declared is not None and declared.type == "list":
        return [v for v in value if not _patterns(v)] + folders if isinstance(value, list) else folders
    if len(folders) != 1:
        raise ValueError(f"{value} refers to {len(folders)} runs where one is needed")
    return folders[0]


def _located(values: dict, upstream: list, where: str, own: list[Path]) -> dict:
    """``values`` with patterns of other studies' runs resolved as the notebook itself will do it.

    Args: own: folders of the study's notebooks. A pattern may not reach into them: what it finds would change with
        every run that finishes, and so would the run that it belongs to.
    """
    planned = {identity.inside_outputs(p.folder) for p in upstream}
    listed = {*runs.LISTED, runs.ANYBODYS}
    for pattern in [values.get(runs.SINGLE), *(one for name in sorted(listed) for one in values.get(name) or [])]:
        reach = f"*/{Path(str(pattern)).parent}"
        if glob.has_magic(str(pattern)) and any(fnmatch.fnmatch(str(folder), reach) for folder in own):
            raise ValueError(
                f"{where}: {pattern!r} reaches into this study; name its runs by reference: '@03_train/mse-*'"
            )
    try:
        return runs.located(values, planned)
    except (FileNotFoundError, ValueError) as error:
        raise type(error)(f"{where}: {error}; name runs of this study by reference: '@03_train/mse-*'") from error


def _same_cohort(a: dict, b: dict) -> bool:
    shared = [k for k in sources.COHORT_PARAMETERS if k in a and k in b]
    return bool(shared) and all(a[k] == b[k] for k in shared)
