"""Detection against telling shapes: areas, the observer against theory, contrasts solved, blends, verdicts."""

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from ldct_utils.stats import intervals
from ldct_utils.stats.intervals import Interval
from ldct_utils.task_based import characterise, ensembles, observers


@pytest.fixture(scope="module")
def case():
    """One small case: white noise of SD 10 HU in a crop, a disc and spiculated lesions drawn as they are."""
    rng, lesion = np.random.default_rng(0), ensembles.Lesion(4.0, 1.0)
    noise = 10 * rng.standard_normal((2, 2, 300, 41, 41))
    disc = ensembles.disc((41, 41), (20, 20), 5.0)
    made = ensembles.Ensemble(np.full((41, 41), 60.0), disc[None], np.array([[20, 20]]), (lesion,), *noise, 0.8, None)
    spikes = [characterise.spiculated((41, 41), (20, 20), 5.0, turn) for turn in rng.uniform(0, 1, 8)]
    return characterise.Case(made, np.stack(spikes), rng.integers(8, size=300))


CHANNELS = observers.dense_dog(33, 8)


def test_a_spiculated_lesion_has_the_area_of_the_disc_and_reaches_further_however_it_is_turned():
    for turn in (0.0, 0.3):
        shape = characterise.spiculated((61, 61), (30, 30), 8.0, turn)
        assert shape.sum() == pytest.approx(np.pi * 64, rel=0.01)
        y, x = np.mgrid[:61, :61] - 30
        longest = np.hypot(y, x)[shape > 0.5].max()
        tip = np.rint([30 + 10.5 * np.sin(turn), 30 + 10.5 * np.cos(turn)]).astype(
            int
        )  # a spike points where it is turned
        assert shape[*tip] > 0.3
        assert 1.3 * 8 < longest < 1.55 * 8 and shape[30, 30] == 1
    turned = characterise.spiculated((61, 61), (30, 30), 8.0, 2 * np.pi / characterise.SPIKES)
    assert np.allclose(turned, characterise.spiculated((61, 61), (30, 30), 8.0), atol=1e-6)


def test_images_hold_what_their_kind_says_and_the_classes_of_a_task_have_noise_of_their_own(case):
    absent, plain = case.images("absent", -20.0, 0.25), case.images("round", 0.0, 0.25)
    assert np.allclose(case.images("round", -20.0, 0.25) - plain, -20 * case.made.signals[0], atol=1e-4)
    spiky = case.images("spiculated", -20.0, 0.25)
    assert np.allclose(spiky - absent, -20 * case.spikes[case.turned], atol=1e-4)
    assert abs(np.corrcoef(absent.ravel(), plain.ravel())[0, 1]) < 0.01
    assert absent.std() == pytest.approx(20, rel=0.02)  # a quarter of the dose has twice the noise


def test_a_retrained_template_is_the_observer_of_the_study(case):
    pair = characterise.plain(case, "shape", 0.25, CHANNELS)(-60.0)
    assert characterise.d_prime(pair) == pytest.approx(observers.detect(*pair).d_prime, rel=1e-6)
    assert characterise.d_prime(pair, pair) == characterise.d_prime(pair)


def test_internal_noise_and_a_kept_template_cost_what_theory_says():
    rng, shift = np.random.default_rng(1), np.array([1.0, 0.5])
    pair = [rng.standard_normal((20_000, 2)), rng.standard_normal((20_000, 2)) + shift]
    known = np.linalg.norm(shift)
    assert characterise.d_prime(pair) == pytest.approx(known, rel=0.02)
    assert characterise.d_prime(pair, internal=3.0) == pytest.approx(known / 2, rel=0.02)
    assert characterise.d_prime(pair, internal=[0.0, 1e9]) == pytest.approx(1.0, rel=0.02)  # one channel is deaf
    swapped = [one[:, ::-1] for one in pair]  # a template that learned the channels in the other order
    assert characterise.d_prime(pair, swapped) == pytest.approx(shift @ shift[::-1] / known, rel=0.03)
    halved = [one / 2 for one in pair]  # what shrinks contrast and noise alike costs only one with internal noise
    assert characterise.d_prime(halved) == pytest.approx(characterise.d_prime(pair))
    assert characterise.d_prime(halved, internal=1.0) == pytest.approx(known / np.sqrt(5), rel=0.02)


def test_the_contrast_is_solved_for_each_task_and_shape_needs_more(case):
    found = {}
    for task in characterise.TASKS:
        pairs = [characterise.plain(case, task, 0.25, CHANNELS)]
        found[task] = characterise.contrast_for(pairs, 1.5)
        both = [case.responses(case.images(kind, found[task], 0.25), CHANNELS) for kind in characterise.TASKS[task]]
        assert characterise.d_prime(both) == pytest.approx(1.5, abs=0.01)  # of images, not of sums of outputs
    assert found["shape"] < 2 * found["detection"] < 0
    with pytest.raises(ValueError, match="no contrast up to 1000 HU gives a mean d' of 12345: take a larger lesion"):
        characterise.contrast_for(pairs, 12345)


def test_a_blend_has_the_outputs_of_the_blended_images(case):
    smooth = lambda hu: ndimage.gaussian_filter(hu, (0, 1.5, 1.5))  # noqa: E731
    half = lambda hu: 0.5 * hu + 0.5 * smooth(hu)  # noqa: E731
    levels, about = {"detection": [-8.0], "shape": [-40.0]}, (CHANNELS, 1.0)
    blended = list(characterise.measure(case, {"it": smooth}, levels, 0.25, [0.5, 1.0], *about))
    direct = list(characterise.measure(case, {"it": half}, levels, 0.25, [1.0], *about))

    def of(rows, name, share):
        return [r["d_prime"] for r in rows if r["name"] == name and r["share"] == share]

    assert of(blended, "it", 0.5) == pytest.approx(of(direct, "it", 1.0), rel=1e-4)
    assert of(blended, "it", 0.5) != pytest.approx(of(blended, "it", 1.0), rel=1e-3)
    assert len(blended) == 2 * len(characterise.OBSERVERS) * 4
    full, low = of(blended, characterise.FULL, 1.0), of(blended, characterise.FBP, 1.0)
    assert all(a > 1.3 * b for a, b in zip(full, low))


def test_a_strong_blur_harms_shape_unless_the_observer_undoes_it(case):
    blur = lambda hu: ndimage.gaussian_filter(hu, (0, 3, 3))  # noqa: E731
    rows = list(characterise.measure(case, {"blur": blur}, {"shape": [-60.0]}, 0.25, [1.0], CHANNELS, 1.0))
    d = {(r["name"], r["observer"]): r["d_prime"] for r in rows}
    ratio = {one: d["blur", one] / d[characterise.FBP, one] for one in characterise.OBSERVERS}
    assert ratio["kept"] < 0.9 and ratio["kept, internal noise"] < 0.9 and ratio["retrained, internal noise"] < 0.9
    assert ratio[characterise.CEILING] > max(v for one, v in ratio.items() if one != characterise.CEILING)


def test_the_interval_of_a_ratio_holds_the_true_one_at_its_level():
    rng, held = np.random.default_rng(3), 0
    for _ in range(200):
        patient = 1.5 + 0.3 * rng.standard_normal((8, 1))
        values = 0.8 * patient + 0.05 * rng.standard_normal((8, 3)) + 0.03 * rng.standard_normal((1, 3))
        ratios = characterise.ratio_to(values, patient[:, 0])
        assert ratios.mean() == pytest.approx(values.mean() / patient.mean())
        span = intervals.patient_bootstrap(ratios, draws=300)
        held += span.low <= 0.8 <= span.high
    assert held >= 180
    same = characterise.ratio_to(patient, patient[:, 0])
    assert (same == 1).all()


@pytest.mark.parametrize(
    ("detection", "shape", "said"),
    [
        ((1.02, 1.10), (0.80, 0.95), characterise.CONFIRMED),
        ((1.02, 1.10), (0.80, 1.01), characterise.HELP_ALONE),
        ((0.99, 1.10), (0.80, 0.95), characterise.HARM_ALONE),
        ((0.99, 1.10), (0.80, 1.01), characterise.OPEN),
        ((0.90, 0.98), (0.80, 0.95), characterise.REFUTED),
        ((1.02, 1.10), (1.01, 1.20), characterise.REFUTED),
        ((np.nan, np.nan), (np.nan, np.nan), characterise.OPEN),
    ],
)
def test_the_claim_needs_both_halves_and_is_refuted_by_either(detection, shape, said):
    spans = [Interval(np.mean(one), *one, 8, 1) for one in (detection, shape)]
    assert characterise.verdict(*spans) == said


def test_a_simulated_case_has_lesions_of_one_strength_in_the_middle_of_its_region():
    (one,) = characterise.cases(1, 4.0, 2, 64, 0)
    sums = one.spikes.sum((1, 2))
    assert np.allclose(sums, one.made.signals[0].sum(), rtol=0.03) and len(one.spikes) == characterise.TURNS
    for image in (one.made.signals[0], one.spikes[0], one.spikes[1]):
        middle = np.array(ndimage.center_of_mass(image.clip(0.2) - 0.2))
        assert np.abs(middle - one.made.places[0]).max() < 0.5
    assert np.abs(one.spikes[0] - one.spikes[1]).max() > 0.2
    assert one.images("spiculated", -20.0, 0.25).shape == (2, 64, 64)


def table(ratios, patients=6):
    """Rows of ``both_tasks``: {(image, observer): (detection, shape)}, each known to a tenth."""
    rows = []
    for (name, observer), pair in ratios.items():
        for task, ratio in zip(characterise.TASKS, pair):
            reach = 0.1 if patients >= intervals.MIN_PATIENTS else np.nan
            rows.append({"name": name, "share": 1.0, "task": task, "observer": observer, "ratio": ratio,
                         "low": ratio - reach, "high": ratio + reach, "solved": True})  # fmt: skip
    rows.append(rows[0] | {"solved": False, "ratio": 9.0})  # another contrast is not looked at
    return characterise.both_tasks(pd.DataFrame(rows), ["a"])


def right():
    """What a study gives in which all controls come out."""
    told = {characterise.FBP: (1.0, 1.0), characterise.FULL: (2.0, 2.0), "blur": (1.2, 0.5), "a": (1.3, 0.8)}
    return {(name, o): pair for name, pair in told.items() for o in characterise.OBSERVERS}


def test_both_tasks_stand_side_by_side_and_only_denoisers_are_judged():
    found = table(right()).set_index(["name", "observer"])
    assert found["said"]["a", "kept"] == characterise.CONFIRMED and found["said"]["blur", "kept"] == "control"
    assert found["detection"]["a", "kept"] == 1.3 and found["shape_high"]["a", "kept"] == pytest.approx(0.9)
    kept = characterise.kept_ratios(found, ["a"])["a"]
    assert kept["shape, kept"] == pytest.approx([0.8, 0.7, 0.9]) and len(kept) == 2 * len(characterise.OBSERVERS)
    few = table(right(), patients=5).set_index(["name", "observer"])
    assert characterise.kept_ratios(few, ["a"])["a"]["shape, kept"] == [0.8, None, None]
    assert few["said"]["a", "kept"] == characterise.OPEN


@pytest.mark.parametrize(
    ("image", "pair", "control"),
    [(characterise.FBP, (1.0, 1.01), 0), (characterise.FULL, (2.0, 1.05), 1), ("blur", (1.2, 0.95), 2)],
)  # fmt: skip
def test_each_control_fails_alone(image, pair, control):
    assert all(characterise.controls(table(right()), "blur").values())
    wrong = right() | {(image, "kept"): pair}
    held = list(characterise.controls(table(wrong), "blur").values())
    assert held == [number != control for number in range(3)]
    ceiling = right() | {("blur", characterise.CEILING): (1.2, 1.5)}  # which undoes a blur
    assert all(characterise.controls(table(ceiling), "blur").values())


def test_why_no_verdict_can_be_given():
    held = {"the full dose helps both tasks": True, "a strong blur harms shape": False}
    assert characterise.reasons_against(held, 5) == ["fewer than 6 patients give no interval"]
    assert characterise.reasons_against(held, 6) == ["the control “a strong blur harms shape” failed"]


@pytest.mark.parametrize(("dose", "strengths"), [(1.0, [1.0]), (0.25, [0.5]), (0.25, [0.0, 1.0]), (0.25, [])])
def test_a_comparison_that_cannot_be_made_is_refused(dose, strengths):
    characterise.check(0.25, [0.5, 1.0])
    with pytest.raises(ValueError, match="dose lies between 0 and 1"):
        characterise.check(dose, strengths)


def test_of_all_patients_each_task_is_measured_at_its_own_contrast_and_ratios_are_to_fbp(case):
    about = ([-60.0], 1.5, 0.25, [0.5, 1.0], "dense_dog", 33, 1.0)
    rows = characterise.measure_all([case, case], {("same", 3): np.asarray}, *about)
    own = rows[rows["solved"] & (rows["name"] == characterise.FBP) & (rows["observer"] == characterise.DECIDES)]
    assert np.allclose(own.groupby("task")["d_prime"].mean(), 1.5, atol=0.01) and set(rows["patient"]) == {0, 1}
    found = characterise.ratios(rows, draws=50)
    assert np.allclose(found[found["name"] == "same"]["ratio"], 1) and found["low"].isna().all()  # two patients
    assert found["solved"].sum() == found["name"].eq(found["name"]).sum() / 2
