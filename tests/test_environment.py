"""One environment, stated in three places that agree, and installed by one command that can be repeated."""

import os
import platform
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
PYTHONS = ("3.11.7", "3.12.1", "3.13.0")
LINUX = {"sys_platform": "linux", "platform_machine": "x86_64", "platform_system": "Linux", "os_name": "posix"}


def environment(python: str) -> dict:
    """Values of the environment markers on Linux with one Python."""
    return LINUX | {"python_version": python.rpartition(".")[0], "python_full_version": python, "extra": ""}


def locked(python: str) -> dict[str, str]:
    """Version of every package that the lock installs on Linux with one Python."""
    wanted = [Requirement(line) for line in LOCK.splitlines()]
    kept = [r for r in wanted if r.marker is None or r.marker.evaluate(environment(python))]
    return {canonicalize_name(r.name): str(r.specifier).removeprefix("==") for r in kept}


@pytest.mark.parametrize("python", PYTHONS)
def test_lock_holds_a_version_that_the_project_allows_of_every_dependency(python):
    versions = locked(python)
    for line in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]:
        wanted = Requirement(line)
        if wanted.marker is None or wanted.marker.evaluate(environment(python)):
            version = versions.get(canonicalize_name(wanted.name))
            assert version, f"{wanted.name} is not in requirements.lock: make lock"
            assert wanted.specifier.contains(version), f"{line}, but requirements.lock has {version}: make lock"


def test_lock_pins_exactly_and_names_no_index():
    for line in LOCK.splitlines():
        assert re.fullmatch(r"[a-z0-9._-]+==[^ ]+( ; .+)?", line), line
    assert "://" not in LOCK and "--" not in LOCK


def test_what_is_installed_is_what_the_lock_says():
    from importlib import metadata

    for name, version in locked(platform.python_version()).items():
        assert metadata.version(name) == version, f"{name}: run make again"


def test_conda_environment_installs_the_same_lock_for_the_same_pythons():
    content = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    conda = [d for d in content["dependencies"] if isinstance(d, str)]
    pip = next(d["pip"] for d in content["dependencies"] if isinstance(d, dict))
    python = next(d for d in conda if d.startswith("python"))
    assert content["name"] == PROJECT["name"]
    assert SpecifierSet(python.removeprefix("python")) == SpecifierSet(PROJECT["requires-python"])
    assert pip[0].split() == ["--requirement", "requirements.lock"]
    assert "--editable ." in pip[1]
    # a library named here could differ from the lock; only what pip cannot bring is allowed
    assert {re.split(r"[<>=]", d)[0] for d in conda} == {"python", "pip", "git", "make"}


def test_makefile_accepts_the_pythons_that_the_project_allows():
    script = (ROOT / "workflow" / "install.sh").read_text(encoding="utf-8")
    allowed = SpecifierSet(PROJECT["requires-python"])
    low, high = re.search(r"\((\d, \d+)\) <= sys.version_info\[:2\] <= \((\d, \d+)\)", script).groups()
    for minor in range(9, 16):
        inside = tuple(map(int, low.split(", "))) <= (3, minor) <= tuple(map(int, high.split(", ")))
        assert inside == allowed.contains(f"3.{minor}.1")


def install(folder: Path, python: str) -> subprocess.CompletedProcess:
    """Run the install script of a copy of the project with ``python3`` being ``python``."""
    (folder / "workflow").mkdir(exist_ok=True)
    (folder / "workflow" / "install.sh").write_bytes((ROOT / "workflow" / "install.sh").read_bytes())
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "bin" / "python3").write_text(f"#!/bin/sh\n{python}\n")
    (folder / "bin" / "python3").chmod(0o755)
    command = ["/bin/sh", "workflow/install.sh"]
    env = {"PATH": f"{folder / 'bin'}:/bin", "HOME": os.environ["HOME"]}
    for name in ("python3.11", "python3.12", "python3.13"):
        (folder / "bin" / name).symlink_to("python3")
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def test_install_refuses_another_python_and_says_what_it_needs(tmp_path):
    done = install(tmp_path, 'if [ "$1" = --version ]; then echo Python 3.9.2; else exit 1; fi')
    assert done.returncode != 0
    assert "needs Python 3.11, 3.12 or 3.13; python3 here is: Python 3.9.2" in done.stderr
    assert "PYTHON=" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_install_without_venv_says_what_to_do_and_leaves_nothing_half_made(tmp_path):
    done = install(tmp_path, 'if [ "$1" = -m ]; then mkdir -p .venv/bin; exit 1; fi')
    assert done.returncode != 0
    assert "apt install python3-venv" in done.stderr
    assert not (tmp_path / ".venv").exists()


def make(*words, stdin="") -> subprocess.CompletedProcess:
    env = {k: v for k, v in os.environ.items() if k != "MAKEFLAGS"}
    return subprocess.run(
        ["make", "-C", ROOT, *words], input=stdin, env=env, capture_output=True, text=True, check=False
    )


def test_clean_says_what_and_how_large_and_deletes_only_after_a_yes(tmp_path):
    kept, mine = tmp_path / "outputs", f"CLEAN={tmp_path / 'outputs'}"
    kept.mkdir()
    (kept / "big.npy").write_bytes(bytes(2_000_000))
    refused = make("clean", mine, stdin="n\n")
    assert refused.returncode != 0 and kept.is_dir()
    assert re.search(rf"[12].\dM\s+{kept}", refused.stdout), refused.stdout
    assert make("clean", mine).returncode != 0 and kept.is_dir()  # nobody there to answer
    assert make("clean", mine, stdin="y\n").returncode == 0
    assert not kept.exists()


def test_clean_with_yes_does_not_ask(tmp_path):
    (tmp_path / "outputs").mkdir()
    done = make("clean", f"CLEAN={tmp_path / 'outputs'}", "YES=1")
    assert done.returncode == 0 and not (tmp_path / "outputs").exists()


def test_every_make_target_is_explained_by_make_help():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    told = set(re.findall(r"^  make ([a-z]+)", make("help").stdout, re.MULTILINE))
    assert targets == told


def test_continuous_integration_runs_what_the_readme_tells_everybody_to_run():
    assert "exec make test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "make test" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert "make test" in (ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8")
