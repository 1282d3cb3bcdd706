"""Runs: a folder with an identity, results that are written last, and reading them again.

``outputs/<study>/<notebook>/<slug>-<id8>/`` holds one run. Its id is known before it runs, the same id is never
computed twice, and a folder without ``result.json`` is an unfinished run, whatever else it holds.
"""

import subprocess
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
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
)
LISTED, SINGLE = {"runs", "invariances", "losses"}, "denoiser"  # parameters that name runs by folders or patterns


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


@dataclass
class Stored:
    """A run folder on disk: reading its tables and arrays."""

    folder: Path

    @property
    def result(self) -> dict:
        """``result.json``. Raises: FileNotFoundError: if the run has not finished."""
        path = self.folder / "result.json"
        if not path.is_file():
            raise FileNotFoundError(f"{paths.short(self.folder)} has no result.json: the run has not finished")
        return files.read_json(path)

    @property
    def finished(self) -> bool:
        return (self.folder / "result.json").is_file()

    @property
    def numbers(self) -> dict:
        return self.result["numbers"]

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

    def load_table(self, name: str) -> pd.DataFrame:
        """The table ``<name>.parquet``. Raises: ValueError: if it is not what the finished run recorded."""
        return pd.read_parquet(self._verified(f"{name}.parquet"))

    def load_array(self, name: str) -> np.ndarray:
        """The array ``<name>.npy``, memory-mapped. Raises: as ``load_table``."""
        return np.load(self._verified(f"{name}.npy"), mmap_mode="r", allow_pickle=False)


@dataclass
class Finished(Stored):
    """A finished run: parameters, numbers, tables and arrays."""

    @property
    def id(self) -> str:
        return self.result["id"]

    @property
    def params(self) -> dict:
        return self.result["parameters"]

    def table(self, name: str) -> pd.DataFrame:
        return self.load_table(name)

    def array(self, name: str) -> np.ndarray:
        return self.load_array(name)


@dataclass
class Run(Stored):
    """The run of the notebook that is open: where its results go, and what is already there."""

    id: str
    notebook: str
    params: dict
    started: float = field(default_factory=time.time)

    def table(self, name: str, compute) -> pd.DataFrame:
        """``<name>.parquet`` of this run; ``compute()`` makes and stores it if it is not there yet."""
        if not (self.folder / f"{name}.parquet").is_file():
            files.write_parquet(self.folder / f"{name}.parquet", compute())
        return self.load_table(name)

    def array(self, name: str, compute) -> np.ndarray:
        """``<name>.npy`` of this run; ``compute()`` makes and stores it if it is not there yet."""
        if not (self.folder / f"{name}.npy").is_file():
            files.write_npy(self.folder / f"{name}.npy", compute())
        return self.load_array(name)

    def finish(self, **numbers) -> dict:
        """Write ``result.json``, last of all; a finished run keeps the one it has.

        Args: numbers: computed numbers by name, JSON types; units belong in the names (``bias_hu``).
        """
        if self.finished:
            return self.result
        data = (
            p
            for p in self.folder.rglob("*")
            if p.suffix in {".parquet", ".npy", ".safetensors"} and ".tmp-" not in p.name
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
            "versions": versions(),
            "files": {str(p.relative_to(self.folder)): files.sha256(p) for p in sorted(data)},
        }
        files.write_json(self.folder / "result.json", result)
        return files.read_json(self.folder / "result.json")


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
    run = Run(folder, folder.name[-8:], notebook, values)
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
    if values.get(SINGLE):
        (values[SINGLE],) = folders(values[SINGLE], lambda pattern: [one(pattern)])
    return values


def load(folder) -> Finished:
    """A finished run by its folder (absolute, or relative to the study or its outputs).

    Raises: FileNotFoundError: if there is no such folder or the run has not finished.
    """
    located = paths.locate(str(folder))
    if located is None:
        raise FileNotFoundError(f"no run folder {folder}; give it relative to {paths.short(paths.outputs())}/")
    stored = Finished(located.resolve())
    stored.result  # noqa: B018  raises if the run has not finished
    return stored


def one(pattern: str) -> Finished:
    """The finished run that a folder or pattern names. Raises: as ``select``; ValueError: if it names several."""
    found = select(pattern)
    if len(found) > 1:
        names = ", ".join(sorted(f.folder.name for f in found)[:8])
        raise ValueError(f"{pattern!r} names {len(found)} runs where one is needed: {names}")
    return found[0]


def select(patterns) -> list[Finished]:
    """Finished runs whose folders match one of the glob patterns, each once, in order.

    Args: patterns: one pattern or a list, relative to the study or its outputs, e.g. ``default/03_train/*``.
    Raises: FileNotFoundError: if a pattern matches nothing; ValueError: if one matches unfinished runs only.
    """
    found = {}
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        hits = []
        for base in (paths.outputs(), paths.root()):
            pattern_path = Path(pattern)
            hits += [pattern_path] if pattern_path.is_absolute() and pattern_path.is_dir() else []
            hits += (
                []
                if pattern_path.is_absolute()
                else sorted(p for p in base.glob(pattern) if identity.RUN_FOLDER.fullmatch(p.name))
            )
        if not hits:
            raise FileNotFoundError(f"no run matches {pattern!r} below {paths.short(paths.outputs())}/")
        done = [p.resolve() for p in hits if (p / "result.json").is_file()]
        if not done:
            raise ValueError(f"{pattern!r} matches {len(hits)} runs, none of them finished")
        found |= dict.fromkeys(done)
    return [Finished(p) for p in found]
