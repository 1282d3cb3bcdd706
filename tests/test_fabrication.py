"""Fine structure that repeats: known powers in, known shares and surplus out; controls told apart."""

import numpy as np
import pandas as pd
import pytest

from ldct_utils.task_based import ensembles, fabrication, resolution

FREQUENCIES = np.arange(0.1, 0.66, 0.05)


def powers(ratio, patients=6, spread=0.0, coherent=1.0):
    """Powers by patient and frequency: the truth's is 2, repeatable ``ratio`` times it, a share of it coherent."""
    rng, rows = np.random.default_rng(0), []
    for p in range(patients):
        repeatable = 2.0 * np.broadcast_to(ratio, FREQUENCIES.shape) * np.exp(rng.normal(0, spread, len(FREQUENCIES)))
        rows.append(pd.DataFrame({"method": "m", "patient": p, "seed": 0, "frequency": FREQUENCIES, "truth": 2.0,
                                  "output": repeatable + 5, "coherent": coherent * repeatable,
                                  "repeatable": repeatable}))  # fmt: skip
    return fabrication.of_patients(pd.concat(rows))


def test_fine_structure_is_the_power_of_the_rings_beyond_a_frequency():
    found = fabrication.fine(powers(0.5, coherent=0.75), 0.4)
    area = sum(2 * np.pi * f * 0.05 for f in FREQUENCIES if f > 0.39)
    assert np.allclose(found.truth, 2 * area) and np.allclose(found.repeatable, area)
    assert np.allclose(found.fabricated, 0.25 * area) and len(found) == 6


def test_the_surplus_is_found_where_it_is_highest():
    ratio = np.where(np.isclose(FREQUENCIES, 0.5), 1.5, 0.8)
    top = fabrication.surplus(powers(ratio))
    assert top.frequency == pytest.approx(0.5) and top.mean == pytest.approx(1.5) and top.exceeds
    assert top.hu == pytest.approx(resolution.ring_rms(1.0, 0.5))  # 1.5 times 2 is 1 more than 2
    assert not fabrication.surplus(powers(0.8)).exceeds and fabrication.surplus(powers(0.8)).hu == 0


def test_luck_of_the_highest_of_many_frequencies_is_no_surplus():
    found = [fabrication.surplus(powers(np.full(FREQUENCIES.shape, 1.0), spread=0.15)) for _ in range(1)]
    assert found[0].mean > 1.05 and not found[0].exceeds  # highest among twelve, and not told apart
    assert fabrication.surplus(powers(1.2, spread=0.02)).exceeds
    assert fabrication.surplus(powers(1.2, patients=3, spread=0.15)).exceeds  # too few for an interval: said of 5 %


def test_training_seeds_are_averaged_before_patients():
    two = pd.concat([powers(0.5).assign(seed=0), powers(1.5).assign(seed=1)])
    assert np.allclose(fabrication.of_patients(two).repeatable, 2.0)


def test_controls_are_linear_images_of_the_truth_and_one_invention():
    scene = ensembles.cylinder(80.0, 40.0, 0.75)
    scene[40:60:4, 40:60] += 200  # something to be seen
    made = ensembles.ensemble(scene, 0.75, (30, 30, 56, 56), realisations=3, seed=0)
    found = fabrication.controls(made, 0.25, [0, 0])
    assert list(found) == ["FBP, dose 1", "FBP, dose 0.25", "blurred", "unsharp masked", "texture pasted",
                           "median filter"]  # fmt: skip
    added = found["texture pasted"] - found["FBP, dose 0.25"]
    assert np.allclose(added, added[0], atol=1e-3) and np.std(added[0]) > 1  # the same in every realisation
    table = fabrication.spectrum(found["FBP, dose 1"], made.truth(False), 0.75)
    assert list(table) == ["frequency", "truth", "output", "coherent", "repeatable"] and (table.output > 0).all()


def test_a_summary_has_the_shares_of_fine_power_and_the_highest_surplus():
    (row,) = fabrication.summary(powers(1.5, coherent=0.75), 0.4, draws=50).itertuples()
    assert row.coherence == pytest.approx(2.25 / 8) and row.coherent == pytest.approx(1.125)
    assert row.repeatable == pytest.approx(1.5) == pytest.approx(row.surplus) and row.surplus_low == pytest.approx(1.5)
    area = sum(2 * np.pi * f * 0.05 for f in FREQUENCIES if f > 0.39)
    assert row.incoherent == pytest.approx(np.sqrt(0.75 * area)) and row.noise == pytest.approx(np.sqrt(5 * area))
    assert row.exceeds and row.truth == pytest.approx(np.sqrt(2 * area))
    (less,) = fabrication.summary(powers(1.5, patients=3, coherent=1.1), 0.4, draws=50).itertuples()
    assert less.incoherent < 0 and np.isnan(less.surplus_low)  # too few patients for an interval


def test_shares_of_power_are_means_over_patients_at_each_frequency():
    found = fabrication.shares(powers(0.5, coherent=0.5), draws=50).set_index(["share", "frequency"])["mean"]
    values = {name: found[name] for name in fabrication.SHARES}
    assert [set(np.round(one, 6)) for one in values.values()] == [{round(0.5 / 6, 6)}, {0.25}, {0.5}]
