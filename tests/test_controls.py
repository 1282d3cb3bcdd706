"""Simulated patients with one thing made wrong: that thing, and nothing else."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from ldct_utils.cohorts import controls, simulated, unseen
from ldct_utils.ct import nps
from ldct_utils.phantom.organs import LABELS
from ldct_utils.study import sources

LIVER = LABELS["liver"]


@pytest.fixture(scope="module")
def part():
    return simulated.one_patient("P001", "abdomen", 1, 0.25, "B30", 256, 5)


def noise(arrays):
    return [arrays[more].astype(int) - arrays[less] for less, more in (("truth", "ndct"), ("ndct", "ldct"))]


def test_the_flat_patient_has_one_value_an_organ_and_its_own_noise_and_lesions(part):
    made, own = controls.flat(part, 1), part.arrays
    inside = own["organ_masks"] == LIVER
    for _ in range(6):  # away from the edges, which are blurred as the scan blurs them
        inside = (
            inside & np.roll(inside, 1, 1) & np.roll(inside, -1, 1) & np.roll(inside, 1, 2) & np.roll(inside, -1, 2)
        )
    before, after = own["absent_truth"][inside], made.arrays["absent_truth"][inside]
    assert before.std() > 3 and after.std() < 1.5 and abs(np.median(before) - np.median(after)) <= 1
    body = np.minimum(own["truth"], made.arrays["truth"]) > -800  # in air, values are clipped
    for one, other in zip(noise(own), noise(made.arrays)):
        assert np.abs(one - other)[body].max() <= 2  # rounding
    lesions = [arrays["truth"].astype(int) - arrays["absent_truth"] for arrays in (own, made.arrays)]
    assert np.abs(lesions[0]).max() > 5 and np.abs(lesions[0] - lesions[1]).max() <= 2
    assert made.rows == part.rows and made.tables is part.tables
    assert np.array_equal(made.arrays["organ_masks"], own["organ_masks"])


def test_the_white_patient_has_noise_of_the_same_level_without_texture(part):
    made, own = controls.white(part, 1), part.arrays
    assert np.array_equal(made.arrays["truth"], own["truth"])
    tissue, pixel_mm = own["ndct"].astype(np.float32), part.rows[0]["pixel_mm"]
    inside = (own["truth"] > 0) & (own["truth"] < 160)
    for one, other in zip(noise(own), noise(made.arrays)):
        assert other[inside].std() == pytest.approx(one[inside].std(), rel=0.05)
        curves = [nps.radial(nps.spectrum(x.astype(float), tissue, pixel_mm), pixel_mm) for x in (one, other)]
        assert curves[0].max() > 10 * curves[0].min() and curves[1].max() < 1.5 * curves[1].min()
    between = np.corrcoef(*(x[inside].astype(float) for x in noise(made.arrays)))[0, 1]
    assert abs(between) < 0.05  # the LDCT has the NDCT's noise and more of its own
    twin = {n: made.arrays[f"absent_{n}"] for n in ("truth", "ndct", "ldct")}
    assert all(np.abs(a - b).max() <= 1 for a, b in zip(noise(made.arrays), noise(twin)))
    again = controls.white(part, 1)
    assert all(np.array_equal(made.arrays[name], again.arrays[name]) for name in made.arrays)


def test_a_control_is_planned_as_the_same_patients_and_is_their_twin_in_a_test(part, monkeypatch):
    monkeypatch.setattr(simulated, "one_patient", lambda *_: part)
    read = {
        "patients": 2,
        "slices": 1,
        "size": 256,
        "anatomy": "abdomen",
        "dose": 0.25,
        "kernel": "B30",
        "cohort_seed": 3,
    }
    own = simulated.plan("simulated", [], read, False)
    for source, change in controls.CHANGES.items():
        assert set(sources.SOURCES[source].reads) == set(read)
        made = controls.plan(source, [], read, False)
        assert (made.slices, made.shape, made.anatomy_of) == (own.slices, own.shape, own.anatomy_of)
        one, other = (task() for task in made.tasks)
        assert np.array_equal(one.arrays["truth"], change(part, 0).arrays["truth"])
        same = np.array_equal(one.arrays["ldct"], other.arrays["ldct"])
        assert same == (source == "simulated_flat")  # each patient has white noise of its own
    about = pd.DataFrame({"row": [0], "patient": ["P001"], "split": ["train"]})
    ndct = np.random.default_rng(0).integers(0, 99, (2, 1, 8, 8))
    cohort, twin = (
        SimpleNamespace(slices=about, ndct=ndct[i], meta={"source": source, "parameters": {"cohort_seed": 0}})
        for i, source in enumerate(("simulated_flat", "simulated"))
    )
    assert unseen.shared(cohort, twin) == {"P001"}
