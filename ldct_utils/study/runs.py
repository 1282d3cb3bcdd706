"""Runs: a folder with an identity, results that are written last, and reading them again.

``outputs/<study>/<notebook>/<name>--<id8>/`` holds one run. Its id is known before it runs, the same id is never
computed twice within a study, and a folder without ``result.json`` is an unfinished run, whatever else it holds.
"""

import itertools
import subprocess
import time
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd

from ldct_utils.study import files, identity, machine, parameters, paths, sources

PACKAGES = (
    "numpy",
    "scipy",
    "pandas",
    "scikit-image",
    "torch",
    "torchvision",
    "mamba-ssm",
    "pydicom",
    "astra-toolbox",
    "statsmodels",
    "onnxruntime",
)
TESTS = "tests"  # folder of a run's tests, see training.testing
# parameters that name runs by folders or patterns: lists of them, and one
LISTED, SINGLE = {"runs", "invariances", "losses", "drawn"}, "denoiser"
ANYBODYS = "beside"  # a list of denoisers of any kind, some of which may be runs


def _git(*words) -> str:
    done = subprocess.run(["git", "-C", str(paths.root()), *words], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def versions() -> dict:
    """Versions of the packages that numbers depend on; packages that are not installed are left out."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


class Run:
    """A run: the folder that holds its tables, arrays and result, finished or not.

    Attributes:
        folder: ``outputs/<study>/<notebook>/<name>--<id8>``.
        notebook, params: of the run that a notebook has open; of a finished one as its result records them.
    """

    def __init__(self, folder, notebook: str | None = None, params: dict | None = None):
        self.folder, self.started = Path(folder), time.time()
        self._notebook, self._params = notebook, params

    @property
    def id(self) -> str:
        return identity.RUN_FOLDER.fullmatch(self.folder.name)[1]

    @property
    def name(self) -> str:
        """What the run is called: by its study file, or, made by hand, by what differs from the notebook's defaults."""
        return self.folder.name[:-8].rstrip("-")

    @property
    def finished(self) -> bool:
        return (self.folder / "result.json").is_file()

    @property
    def result(self) -> dict:
        """``result.json``. Raises: FileNotFoundError: if the run has not finished."""
        if not self.finished:
            raise FileNotFoundError(f"{paths.short(self.folder)} has no result.json: the run has not finished")
        return files.read_json(self.folder / "result.json")

    @property
    def numbers(self) -> dict:
        return self.result["numbers"]

    @property
    def notebook(self) -> str:
        return self.result["notebook"] if self._notebook is None else self._notebook

    @property
    def params(self) -> dict:
        return self.result["parameters"] if self._params is None else self._params

    def _of_test(self, path: Path) -> bool:
        """Whether a file below the folder belongs to a test of the run, which has a result of its own."""
        return TESTS in path.relative_to(self.folder).parts

    def _verified(self, name: str) -> Path:
        path = self.folder / name
        if not path.is_file():
            raise FileNotFoundError(f"{paths.short(self.folder)} holds no {name}")
        recorded = self.result["files"].get(name) if self.finished else None
        if recorded and files.sha256(path) != recorded:
            raise ValueError(
                f"{paths.short(path)} is not the file that the run wrote; delete {self.folder.name} and run again"
            )
        return path

    def table(self, name: str, compute=None) -> pd.DataFrame:
        """The table ``<name>.parquet``; ``compute()`` makes and stores it if it is not there yet.

        Raises: FileNotFoundError: if it is not there and nothing is given to compute it. ValueError: if it is not what
            the finished run recorded.
        """
        if compute is not None and not (self.folder / f"{name}.parquet").is_file():
            files.write_parquet(self.folder / f"{name}.parquet", compute())
        return pd.read_parquet(self._verified(f"{name}.parquet"))

    def array(self, name: str, compute=None) -> np.ndarray:
        """The array ``<name>.npy``, memory-mapped; otherwise as ``table``."""
        if compute is not None and not (self.folder / f"{name}.npy").is_file():
            files.write_npy(self.folder / f"{name}.npy", compute())
        return np.load(self._verified(f"{name}.npy"), mmap_mode="r", allow_pickle=False)

    def finish(self, **numbers) -> dict:
        """Write ``result.json``, last of all; a finished run keeps the one it has.

        Args: numbers: computed numbers by name, JSON types; units belong in the names (``bias_hu``).
        """
        if self.finished:
            return self.result
        data = (
            p
            for p in self.folder.rglob("*")
            if p.suffix in {".parquet", ".npy", ".safetensors"} and ".tmp-" not in p.name and not self._of_test(p)
        )
        result = {
            "notebook": self.notebook,
            "id": self.id,
            "parameters": self.params,
            "numbers": numbers,
            "seconds": round(time.time() - self.started, 1),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": _git("rev-parse", "HEAD"),
            "dirty": bool(_git("status", "--porcelain", "--untracked-files=no")),
            "cpu": {"kind": machine.cpu_kind(), "cores": machine.cpu_threads()},
            "versions": versions(),
            "files": {str(p.relative_to(self.folder)): files.sha256(p) for p in sorted(data)},
        }
        files.write_json(self.folder / "result.json", result)
        return self.result


def named(chosen) -> list[str]:
    """The names of runs, for tables; where two have the same name, with their ids."""
    names = [run.name for run in chosen]
    return [f"{name}--{run.id}" if names.count(name) > 1 else name for name, run in zip(names, chosen)]


_held = {}  # locks of the runs this process works on; the system frees them when it dies


def start(notebook: str, namespace: dict) -> Run:
    """Open the run of a notebook: check its parameters, resolve ``auto``, write the values back, print the folder.

    Args:
        notebook: name without suffix, e.g. ``03_train``.
        namespace: ``globals()``; the checked and resolved parameters are written back into it.
    Raises: ValueError: for an unknown or mistyped parameter, a source of files without its folder, or a device that
        this machine does not have.
    """
    script = parameters.read(paths.notebooks() / f"{notebook}.py")
    values = located(machine.resolve(parameters.from_namespace(script, namespace)))
    namespace.update(values)
    sources.check_folders(values)
    folder = identity.folder(script, values)
    if "device" in values and not (folder / "result.json").is_file():  # stored results are shown anywhere
        machine.check_device(values["device"])
    folder.mkdir(parents=True, exist_ok=True)
    if folder not in _held:
        _held[folder] = files.locked(folder)
        _held[folder].__enter__()
        for cut in folder.rglob(".tmp-*"):  # what a kill left of a file that was being written; nobody else writes here
            if cut.suffix != ".html":  # but the report, its notebook.html
                cut.unlink(missing_ok=True)
    run = Run(folder, notebook, values)
    print(
        f"run folder: {paths.short(folder)}" + (" (finished: stored results are shown)" if run.finished else ""),
        flush=True,
    )
    return run


def located(values: dict, planned=()) -> dict:
    """``values`` with the patterns that name runs replaced by run folders, each once: before hashing, since a run is
    what it starts from.

    Args: planned: run folders, as ``identity.inside_outputs`` writes them, that may stand there before they have run.
    Raises: as ``select``; ValueError: if ``denoiser`` names several runs.
    """

    def folders(pattern, choose):
        if pattern in planned:
            return [pattern]
        return [identity.inside_outputs(run.folder) for run in choose(pattern)]

    values = dict(values)
    for name in LISTED & set(values):
        if isinstance(values[name], list):
            values[name] = list(dict.fromkeys(f for pattern in values[name] for f in folders(pattern, select)))
    if values.get(SINGLE) and (ANYBODYS not in values or names_runs(values[SINGLE])):
        (values[SINGLE],) = folders(values[SINGLE], lambda pattern: [one(pattern)])
    if isinstance(values.get(ANYBODYS), list):
        found = [folders(name, select) if names_runs(name) else [name] for name in values[ANYBODYS]]
        values[ANYBODYS] = list(dict.fromkeys(itertools.chain.from_iterable(found)))
    return values


def names_runs(name) -> bool:
    """Whether the name of a denoiser is that of runs of 03_train, or a pattern of theirs."""
    return "03_train" in Path(str(name)).parts


def load(folder) -> Run:
    """A finished run by its folder (absolute, or relative to the study or its outputs).

    Raises: FileNotFoundError: if there is no such folder or the run has not finished.
    """
    located = paths.locate(str(folder))
    if located is None:
        raise FileNotFoundError(f"no run folder {folder}; give it relative to {paths.short(paths.outputs())}/")
    stored = Run(located.resolve())
    stored.result  # noqa: B018  raises if the run has not finished
    return stored


def one(pattern: str) -> Run:
    """The finished run that a folder or pattern names. Raises: as ``select``; ValueError: if it names several."""
    found = select(pattern)
    if len(found) > 1:
        names = ", ".join(sorted(f.folder.name for f in found)[:8])
        raise ValueError(f"{pattern!r} names {len(found)} runs where one is needed: {names}")
    return found[0]


def select(patterns) -> list[Run]:
    """Finished runs whose folders match one of the glob patterns, each once, in order.

    Args: patterns: one pattern or a list, relative to the study or its outputs, e.g. ``default/03_train/*``.
    Raises: FileNotFoundError: if a pattern matches nothing; ValueError: if one matches unfinished runs only.
    """
    found = {}
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        hits = _matching(pattern) or _matching(f"{pattern}--*")  # a name as tables have it, without its id
        if not hits:
            raise FileNotFoundError(f"no run matches {pattern!r} below {paths.short(paths.outputs())}/")
        done = [p.resolve() for p in hits if (p / "result.json").is_file()]
        if not done:
            raise ValueError(f"{pattern!r} matches unfinished runs only: {len(hits)}")
        found |= dict.fromkeys(done)
    return [Run(p) for p in found]


def _matching(pattern: str) -> list[Path]:
    """Run folders, finished or not, that a pattern matches."""
    if Path(pattern).is_absolute():
        return [path for path in [Path(pattern)] if path.is_dir()]
    bases = (paths.outputs(), paths.root())
    return [p for base in bases for p in sorted(base.glob(pattern)) if identity.RUN_FOLDER.fullmatch(p.name)]


def minutes_busy(results: list[dict]) -> float:
    """Minutes in which at least one of the runs was going, whatever went beside it and however long it lay idle."""
    ends = [datetime.fromisoformat(r["finished"]) for r in results]
    going = sorted((end - timedelta(seconds=r["seconds"]), end) for end, r in zip(ends, results))
    total, until = timedelta(0), going[0][0]
    for begin, end in going:
        total, until = total + max(end - max(begin, until), timedelta(0)), max(until, end)
    return total.total_seconds() / 60
