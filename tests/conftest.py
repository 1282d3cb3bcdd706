"""Fixtures that several test files share: an outputs folder of its own, the real CT where it exists, a tiny cohort."""

import os
import sys
from pathlib import Path

# One thread keeps numbers the same everywhere and lets tests run beside each other. Libraries read this on import.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Dozens of processes import the study: where this is set, as in many containers, each would compile all of it again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# Snakemake asks SLURM for its settings as it starts. No test submits a job, and where SLURM is installed but not
# running, each study would wait 9 s for the answer.
os.environ["SLURM_CONF"] = os.devnull

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow"))

import numpy as np
import pytest
import quick_start

from ldct_utils.cohorts import writing

# Nor would pytest without workers keep the tests as it rewrites them for their assertions, which is half of its start.
sys.dont_write_bytecode = False
quick_start.without_web_address_grammar()  # nor need every worker compile that
ROOT = Path(__file__).resolve().parents[1]
# Where this variable is set, processes that tests start are traced for coverage, which makes Python take twice as long.
# Tests take it away from processes that run code which the smoke study's kernels run too.
TRACED = "COVERAGE_PROCESS_CONFIG"
# These take minutes each and come first, in this order, so that no core is idle in the end while another is busy with
# one of them. The workflow's own tests look at what runs at the same time: they begin when the smoke study, which takes
# every core, is about to end.
FIRST = ("test_real_ct.py", "test_notebooks.py", "test_training.py", "test_cohorts.py", "test_search.py",
         "test_workflow.py")  # fmt: skip


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: FIRST.index(item.path.name) if item.path.name in FIRST else len(FIRST))


@pytest.fixture
def outputs(tmp_path, monkeypatch):
    """An empty outputs folder; nothing a test makes lands in the study's own."""
    folder = tmp_path / "outputs"
    folder.mkdir()
    monkeypatch.setenv("LDCT_OUTPUTS", str(folder))
    return folder


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Folder of real CT and real weights: ``$LDCT_TEST_DATA``, else ``../shared/data``; skips where neither exists."""
    named = os.environ.get("LDCT_TEST_DATA")
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    if not (folder / "mayo_npy").is_dir():
        pytest.skip("no real CT here: set LDCT_TEST_DATA to a folder that holds mayo_npy, mayo2016, ...")
    return folder


def write_tiny_cohort(folder: Path, patients=6, slices=2, size=64, seed=0) -> Path:
    """A cohort of discs with noise in the format of the study; half of the patients are for testing."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size - 0.5
    table, truth = [], []
    for patient in range(patients):
        split = "test" if patient >= patients // 2 else ("val" if patient == patients // 2 - 1 else "train")
        for z in range(slices):
            image = np.where(np.hypot(x, y * rng.uniform(1, 1.3)) < 0.42, 40.0, -1000.0)
            image[np.hypot(x - rng.uniform(-0.15, 0.15), y) < 0.08] = rng.uniform(60, 300)
            truth.append(image)
            table.append(
                {"row": len(table), "patient": f"P{patient + 1:03d}", "series": "simulated", "kernel": "B30",
                 "anatomy": ("abdomen", "chest")[patient % 2], "thickness_mm": 3.0, "pixel_mm": 0.75, "z_mm": 3.0 * z,
                 "split": split, "dose": 0.25}
            )  # fmt: skip
    truth = np.stack(truth)
    ndct = truth + rng.normal(0, 12, truth.shape)
    ldct = ndct + rng.normal(0, 20, truth.shape)
    images = {"ldct": ldct, "ndct": ndct, "truth": truth}
    arrays = {name: np.round(image).clip(-1024, 3071).astype(np.int16) for name, image in images.items()}
    split_of = {row["patient"]: row.pop("split") for row in [dict(row) for row in table]}
    part = writing.Part([{k: v for k, v in row.items() if k not in ("row", "split")} for row in table], arrays)
    anatomy_of = {row["patient"]: row["anatomy"] for row in table}
    plan = writing.Plan(len(table), (size, size), dict.fromkeys(images, np.int16), anatomy_of, [lambda: part])
    meta = {"id": folder.name[-8:], "source": "simulated", "parameters": {}, "split": "draw"}
    writing.build(folder, plan, split_of, meta, progress=False)
    return folder


@pytest.fixture
def tiny_cohort(outputs):
    """Folder of a tiny cohort (6 patients, 2 slices of 64x64) below the test's own outputs."""
    return write_tiny_cohort(outputs / "cohorts" / "simulated-00000000")
