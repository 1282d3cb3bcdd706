"""Controls beside networks: what the LDCT, filters and an eraser keep of lesions is known, on scans drawn again."""

import inspect
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from ldct_utils import cohorts
from ldct_utils.invariance import cases, comparison, examine, kept_by_controls
from ldct_utils.models import textbook
from ldct_utils.task_based import tasks

SIZE, REGION, PIXEL_MM = 64, 21, 0.75
PLACES, RADII_MM = ((18, 18), (44, 44)), (1.4, 4.0)  # a small and a large lesion
Y, X = np.mgrid[:SIZE, :SIZE]
AWAY = np.stack([np.hypot(Y - row, X - column) for row, column in PLACES])
INSIDE = np.stack([away < radius / PIXEL_MM for away, radius in zip(AWAY, RADII_MM)])
SIGNAL = np.where(INSIDE.any(0), -30.0, 0.0)
LESIONS = pd.DataFrame({"lesion": [1, 2], "radius_mm": RADII_MM, "contrast_hu": -30.0, "organ": "liver"})
PARAMS = {"crop": SIZE, "realisations": 44, "seed": 3, "crops": 1, "most_patients": 2, "level": 0.05, "faint": 2.0,
          "segmentation": "thresholds", "region": REGION, "test_source": None, "test_root": None}  # fmt: skip


def found(asked=None):
    """Crops of two patients, white noise; ``asked`` takes the patient whenever scans are drawn."""

    def scans(image, count, *seed):
        return (image + np.random.default_rng(seed).normal(0, 20, (count, SIZE, SIZE))).astype(np.float32)

    def case(number):
        tissue, around = np.full((SIZE, SIZE), 60.0), (AWAY > 8) & (AWAY < 11)

        def draw():
            if asked is not None:
                asked.append(number)
            n = PARAMS["realisations"]
            present, absent = scans(tissue + SIGNAL, n, number, 0), scans(tissue, n, number, 1)
            return cases.Drawn(present, absent, tissue + SIGNAL, SIGNAL)

        ldct, ndct = (scans(tissue + SIGNAL, 1, number, k)[0] for k in (2, 3))
        return cases.Case(f"P{number}", "abdomen", 3, PIXEL_MM, ldct, ndct, draw, LESIONS, INSIDE, around)

    return [case(1), case(2)]


@pytest.fixture(scope="module")
def seen():
    examination = examine.Examination(*(PARAMS[name] for name in kept_by_controls.EXAMINED))
    return kept_by_controls.examined(found(), examination)


def test_controls_keep_of_lesions_what_is_known(seen):
    assert list(seen) == list(kept_by_controls.LABELS)
    assert seen[tasks.PLAIN]["contrasts"].kept.to_numpy() == pytest.approx(1, abs=1e-5)
    both = seen[tasks.PLAIN]["detection"].pivot(index=["patient", "lesion"], columns="image")
    assert all((both[d, "x"] == both[d, "f(x)"]).all() for d in ("d_prime", "d_npw"))
    assert (seen[kept_by_controls.ERASER]["contrasts"].kept == 0).all()
    shares = {name: tables["contrasts"].groupby("lesion").kept.mean() for name, tables in seen.items()}
    assert shares[textbook.BLUR][1] < 0.5 * shares[textbook.BLUR][2] < 0.5  # of the small one, of the large one
    assert (shares[textbook.UNSHARP] > 1.02).all() and 0.5 < shares[textbook.TV][2] < 1


def test_an_eraser_leaves_no_observer_anything_and_spares_what_lies_around(seen):
    kept = comparison.kept_in(**seen[kept_by_controls.ERASER])
    assert kept["d' kept"].abs().max() < 0.35 and kept["d' kept, NPW"].abs().max() < 0.35  # noise of 44 scans
    erased = kept_by_controls.denoisers(found()[0])[kept_by_controls.ERASER](np.full((SIZE, SIZE), 60.0))
    assert not erased[INSIDE.any(0)].any() and erased[(AWAY > 8).all(0)] == pytest.approx(60, abs=1e-3)


@pytest.fixture
def run(seen, monkeypatch):
    """A run of 05 whose cohort gives ``found``, with what its observers saw in x; ``drawn`` lists drawn patients."""
    asked, signature = SimpleNamespace(rows=lambda split: [split], drawn=[]), inspect.signature(cases.chosen)

    def chosen(*given):
        wanted = {"size": SIZE, "realisations": 44, "seed": 3, "crops": 1, "most": 2, "cohort": asked, "rows": ["test"]}
        assert signature.bind(*given).arguments == wanted
        return found(asked.drawn)

    monkeypatch.setattr(cases, "chosen", chosen)
    monkeypatch.setattr(cohorts, "of", lambda trained: trained)
    monkeypatch.setattr(cohorts, "tested_on", lambda own, source, root: own)
    tables = {"detection": seen[tasks.PLAIN]["detection"]}
    return SimpleNamespace(name="mse", params=PARAMS, tables=tables, table=tables.get, trained=asked)


def test_all_controls_see_the_scans_of_the_run_each_drawn_once(run, seen):
    made = kept_by_controls.measured(run, run.trained)
    assert run.trained.drawn == [1, 2] and len(made) == len(seen) * 3 * 2
    kept_by_controls.check(made)
    blurred = comparison.kept_in(**seen[textbook.BLUR])
    for quantity, part in made[made.denoiser == textbook.BLUR].groupby("quantity"):
        assert part.set_index("patient")["kept"].to_dict() == pytest.approx(blurred[quantity].to_dict())


@pytest.mark.parametrize("change", [{"d_prime": 2.0}, {"lesion": [1, 1, 3, 3] * 2}], ids=["noise", "lesions"])
def test_scans_that_are_not_those_of_the_run_are_refused(run, seen, change, monkeypatch):
    monkeypatch.setattr(kept_by_controls, "examined", lambda *_: seen)
    kept_by_controls.measured(run, run.trained)
    run.tables["detection"] = run.tables["detection"].assign(**change)
    with pytest.raises(ValueError, match=r"the scans of mse cannot be drawn again .* run 05_invariances again"):
        kept_by_controls.measured(run, run.trained)


def table(patients=6, **means):
    """As of ``measured``: the controls' means by name, 1 unless given; patients differ."""
    rows = [
        {"denoiser": name, "quantity": quantity, "patient": p,
         "kept": means.get(name, 1.0) + 0.01 * (p - 2.5) * (name != tasks.PLAIN)}
        for name in kept_by_controls.LABELS for quantity in comparison.QUANTITIES for p in range(patients)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def network(share=0.9, patients=6):
    return {quantity: pd.Series(share, index=range(patients)) for quantity in comparison.QUANTITIES}


FOUR = tuple(kept_by_controls.FILTERS)


@pytest.mark.parametrize(
    ("means", "networks", "said"),
    [
        ({}, 1, "No filter is shown to keep less of the lesions' contrast than MSE."),
        ({FOUR[0]: 0.895, FOUR[3]: 1.005}, 1, "No filter is shown to keep less of the lesions' contrast than MSE."),
        ({FOUR[0]: 0.7}, 2,
         "Blur of 3 pixels keeps less of the lesions' contrast than MSE, the network that keeps least."),
        ({FOUR[0]: 0.7, FOUR[2]: 0.8, FOUR[3]: 1.1}, 1,
         "Blur of 3 pixels and total variation keep less of the lesions' contrast than MSE; unsharp masking raises the "
         "contrast."),
        (dict.fromkeys(FOUR, 0.5), 1, "All 4 filters keep less of the lesions' contrast than MSE."),
        (dict.fromkeys(FOUR[1:3], 1.2), 1,
         "No filter is shown to keep less of the lesions' contrast than MSE; median of 3 × 3 pixels and total "
         "variation raise the contrast."),
    ],
)  # fmt: skip
def test_what_filters_keep_is_said_in_one_sentence(means, networks, said):
    beside = kept_by_controls.beside(table(**means), "net", network(), draws=300)
    assert set(beside["denoiser"]) == set(kept_by_controls.LABELS)  # no network among them
    assert kept_by_controls.said(beside, "MSE", networks) == said


def test_too_few_patients_compare_no_filter():
    beside = kept_by_controls.beside(table(3, **{FOUR[0]: 0.2}), "net", network(patients=3), draws=300)
    assert kept_by_controls.said(beside, "MSE", 1).startswith("Too few patients for an interval: no filter")


def test_a_control_that_comes_out_wrong_is_named():
    right = table()
    right.loc[right.denoiser == kept_by_controls.ERASER, "kept"] = 0.0
    kept_by_controls.check(right)
    for name, message in ((tasks.PLAIN, "the LDCT does not keep all"), (kept_by_controls.ERASER, "is left")):
        wrong = right.copy()
        wrong.loc[(wrong.denoiser == name) & (wrong.patient == 2), "kept"] = 0.95
        with pytest.raises(AssertionError, match=message):
            kept_by_controls.check(wrong)


def test_networks_stand_before_controls_in_one_table():
    of_networks = comparison.compared({"net": network()}, draws=300)
    beside = kept_by_controls.beside(table(), "net", network(), draws=300)
    wide = comparison.side_by_side(pd.concat([of_networks, beside]))
    assert list(wide["denoiser"]) == ["net", *kept_by_controls.LABELS]
    assert {column for key in comparison.KEPT for column in ([key] if isinstance(key, str) else key)} == set(wide)
    blurred = wide.set_index("denoiser").loc[textbook.BLUR]
    assert blurred["contrast kept"] == 100 and 98 < blurred["contrast kept low"] < 100 < blurred["contrast kept high"]
    assert kept_by_controls.contrast(beside)[tasks.PLAIN] == 1
