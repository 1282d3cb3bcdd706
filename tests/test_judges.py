"""Denoisers with a known fault and their twins do what they say; a judge's alarm is right where nothing is wrong."""

import dataclasses
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import ndimage

from ldct_utils import cohorts
from ldct_utils.ct import degradations, planted
from ldct_utils.invariance import optimise
from ldct_utils.judges import caught, faulty, panel, search, subjects, verdicts
from ldct_utils.models import classical
from ldct_utils.report.drawings import judges as drawings

SIDE = 64
Y, X = np.mgrid[:SIDE, :SIDE]
LESION = np.hypot(Y - 30, X - 34) < 6
SIGNAL = (-30 * LESION).astype(np.float32)


def person(lesions=True, seed=3):
    """A flat organ with a lesion, and noise of 20 HU."""
    without = np.full((SIDE, SIDE), 50, np.float32)
    truth = without + SIGNAL if lesions else without
    return faulty.Patient(truth, without, LESION if lesions else None, 0.75, (12, 12), seed)


def noisy(patient, count=4):
    return patient.truth + np.random.default_rng(0).normal(0, 20, (count, SIDE, SIDE)).astype(np.float32)


# ---- denoisers with a known fault ----
def test_the_honest_denoiser_scales_the_noise_by_the_patients_own_share_and_nothing_else():
    one = person()
    x, left = noisy(one), one.noise_left
    assert 0.4 <= left <= 0.6 and left != person(seed=4).noise_left
    np.testing.assert_allclose(faulty.build("identity", 0, one)(x) - one.truth, left * (x - one.truth), atol=1e-4)
    np.testing.assert_allclose(faulty.build("identity", 1, one)(x), x, atol=1e-4)
    np.testing.assert_allclose(faulty.build("truth", 1, one)(x), np.broadcast_to(one.truth, x.shape), atol=1e-4)


@pytest.mark.parametrize("name", faulty.names())
def test_every_denoiser_keeps_shape_and_type_and_its_gradient_is_what_it_says(name):
    one = person()
    known = faulty.build(name, 0.5, one)
    out = known(noisy(one))
    assert out.shape == (4, SIDE, SIDE) and out.dtype == np.float32 and np.isfinite(out).all()
    image = torch.zeros(1, 1, SIDE, SIDE, requires_grad=True)
    if known.gradient:
        known.module()(image).sum().backward()
        assert torch.isfinite(image.grad).all() and image.grad.abs().sum() > 0
    else:
        assert name in ("median", "tv")
        with pytest.raises(ValueError, match="no gradient"):
            known.module()


def test_the_eraser_takes_the_share_of_the_lesion_and_leaves_noise_in_its_place():
    one, x = person(), noisy(person(), 400)
    for s in (0.25, 1.0):
        out = faulty.build("eraser", s, one)(x)
        inner = ndimage.binary_erosion(LESION, iterations=2)
        contrast = out[:, inner].mean() - 50
        assert contrast == pytest.approx(-30 * (1 - s), abs=0.5)
    assert out[:, inner].std() == pytest.approx(out[:, ~LESION].std(), rel=0.1)
    far = ~ndimage.binary_dilation(LESION, iterations=faulty.MARGIN_PX + 1)
    np.testing.assert_array_equal(out[:, far], faulty.twin("eraser", 1, one)(x)[:, far])


def test_the_eraser_leaves_a_patient_without_lesions_as_they_are():
    one = person(lesions=False)
    np.testing.assert_array_equal(faulty.build("eraser", 1, one)(noisy(one)), faulty.twin("eraser", 1, one)(noisy(one)))


def test_what_is_inserted_and_pasted_is_the_same_in_every_scan():
    one, x = person(), noisy(person())
    for name, size in (("inserter", 40 * 0.5), ("paster", None)):
        added = faulty.build(name, 0.5, one)(x) - faulty.twin(name, 0.5, one)(x)
        np.testing.assert_allclose(added, np.broadcast_to(added[0], added.shape), atol=1e-3)
        if size:
            assert added[0, 12, 12] == pytest.approx(size, rel=0.02)
        else:
            assert added[0].std() == pytest.approx(5, rel=0.05)


def test_filters_are_those_of_the_libraries():
    x, one = noisy(person()), person()
    np.testing.assert_allclose(
        faulty.build("blur", 0.5, one)(x), ndimage.gaussian_filter(x, (0, 1, 1), mode="nearest"), atol=1e-3
    )
    np.testing.assert_array_equal(faulty.build("median", 1, one)(x), ndimage.median_filter(x, (1, 9, 9)))
    np.testing.assert_allclose(faulty.build("tv", 0.5, one)(x), classical.build("tv", weight_hu=20.0)(x), atol=1e-3)
    honest = faulty.build("identity", 0, one)(x)
    np.testing.assert_allclose(
        faulty.build("unsharp", 0.5, one)(x), degradations.unsharp(honest, 1.0, one.pixel_mm), atol=0.02
    )


@pytest.mark.parametrize("name", faulty.FILTERS)
def test_a_filters_twin_has_its_noise_and_keeps_the_lesion(name):
    one, x = person(), noisy(person(), 60)
    fault, twin = faulty.build(name, 1, one)(x), faulty.twin(name, 1, one)(x)
    core = ndimage.binary_erosion(LESION, iterations=3)
    assert twin.mean(0)[core].mean() == pytest.approx(20, abs=1.5)  # 50 - 30, untouched
    flat = np.s_[:, 44:, 44:]
    assert twin[flat].std(0).mean() == pytest.approx(fault[flat].std(0).mean(), rel=0.1)


def test_the_blind_eraser_takes_faint_things_and_leaves_strong_ones():
    one = person(lesions=False)
    kept = []
    for contrast in (-20.0, -300.0):
        disc = planted.discs((SIDE, SIDE), [(30, 30)], 4, contrast)
        clean, marked = (faulty.build("blind_eraser", 1, one)(noisy(one) + extra) for extra in (0, disc))
        kept.append(planted.kept(clean.mean(0), marked.mean(0), disc))
    assert kept[0] < 0.7 and kept[1] > kept[0] + 0.2


def test_the_twin_of_a_network_lays_what_it_makes_of_the_noise_over_the_truth():
    one, x = person(), noisy(person())
    honest = faulty.of_noise(lambda hu: 40 + 0.3 * (hu - 40) + 7, one.truth)  # a network that is off by 7 HU
    np.testing.assert_allclose(honest(x), one.truth + 0.3 * (x - one.truth) + 7, atol=1e-3)


@pytest.mark.parametrize(
    ("change", "words"),
    [({"name": "sharpen"}, "no known denoiser"), ({"strength": 1.5}, "between 0 and 1"),
     ({"name": "inserter", "patient": faulty.Patient(np.zeros((8, 8)))}, "place"),
     ({"name": "eraser", "patient": faulty.Patient(np.zeros((8, 8)), lesions=np.ones((8, 8), bool))}, "without")],
)  # fmt: skip
def test_a_mistake_is_refused(change, words):
    with pytest.raises(ValueError, match=words):
        faulty.build(**({"name": "eraser", "strength": 1.0, "patient": person()} | change))


# ---- how often a judge calls ----
def test_the_alarm_is_right_where_nothing_is_wrong_and_sees_what_is():
    rng = np.random.default_rng(1)
    rates = [caught.called(*rng.normal(size=(2, 60))).mean() for _ in range(400)]
    assert np.mean(rates) == pytest.approx(0.05, abs=0.006)  # 3 of 60 at most, 400 times
    honest = rng.normal(size=60)
    assert caught.called(honest + 10, honest).all()
    assert caught.verdict(honest + 10, honest).caught and not caught.verdict(honest, honest).caught


def test_equal_scores_are_never_called():
    assert not caught.called(np.zeros(40), np.zeros(40)).any()


def test_nineteen_patients_cannot_be_called_and_twenty_can():
    assert not caught.called(np.full(19, 9.0), np.arange(19) / 19).any()
    assert caught.verdict(np.full(19, 9.0), np.arange(19) / 19).caught is None
    assert caught.called(np.full(20, 9.0), np.arange(20) / 20).all()


def test_a_patient_without_a_score_is_no_other_and_none_gives_no_verdict():
    honest = np.r_[np.arange(20) / 20, np.nan]
    assert np.isnan(caught.called(np.full(21, 9.0) * np.r_[np.ones(20), np.nan], honest)[-1])
    assert caught.verdict(np.full(21, np.nan), honest) is None


def test_the_strength_called_in_half_of_the_patients_is_read_between_the_strengths():
    assert caught.strength_at_half([0.25, 0.5], [0.0, 1.0]) == pytest.approx(0.375)
    assert caught.strength_at_half([0.5, 1.0], [1.0, 1.0]) == pytest.approx(0.25)
    assert np.isnan(caught.strength_at_half([0.5, 1.0], [0.1, 0.4]))
    with pytest.raises(ValueError, match="rise"):
        caught.strength_at_half([0.5, 0.5], [0, 1])


# ---- judges ----
def shown(name, strength, count=24, variant=faulty.build):
    """A denoiser on made-up patients, every second without the lesion; no tasks."""
    people = []
    for n in range(count):
        known = person(n % 2 == 0, n)
        scan = known.truth + np.random.default_rng(n).normal(0, 20, (SIDE, SIDE)).astype(np.float32)
        disc = planted.discs((SIDE, SIDE), [(50, 14)], 4, -30.0)
        people.append(subjects.Subject(f"P{n:02d}", n % 2 == 0, scan, scan, known, disc, None))
    return subjects.show(lambda patient: variant(name, strength, patient), people)


def scores(name, strength, judge, variant=faulty.build):
    return panel.scores(judge, shown(name, strength, variant=variant))


def test_contrast_kept_of_discs_is_whole_for_honest_denoisers_and_less_after_a_blur():
    for name in ("identity", "truth", "inserter", "eraser"):
        assert np.allclose(scores(name, 1.0, "discs"), 0, atol=2e-3), name
    assert (scores("blur", 1.0, "discs") > 0).all()
    assert np.allclose(scores("blur", 1.0, "discs", faulty.twin), 0, atol=2e-3)


def test_psnr_is_a_gain_over_the_ldct_and_calls_the_identity():
    assert np.allclose(scores("identity", 1.0, "psnr"), 0, atol=1e-3)
    gain = -scores("identity", 0.0, "psnr")
    assert np.allclose(gain, [-20 * np.log10(person(seed=n).noise_left) for n in range(24)], atol=0.01)
    assert caught.verdict(scores("identity", 1.0, "psnr"), scores("identity", 0.0, "psnr")).caught


def observed(d_out, d_in, noise_hu=10.0):
    """What the eye of the NPWE scores where it has these d' in the output and had those in the LDCT."""
    window, rng = (slice(0, 8), slice(0, 8)), np.random.default_rng(0)
    tasks = [SimpleNamespace(window=window, d_x={"npwe": d}) for d in d_in]
    scans = [rng.normal(0, noise_hu, (4, 8, 8)) for _ in tasks]
    given = iter(d_out)
    people = [SimpleNamespace(task=task) for task in tasks]
    shown = SimpleNamespace(subjects=people, absent=scans, present=scans, faint=[np.zeros((8, 8))] * len(people))
    return panel._lost(shown, "npwe", lambda *_: next(given))


def test_an_observer_catches_an_eraser_though_some_lesions_are_near_nothing_to_it():
    # two patients of 30 in whom it sees next to nothing, once by chance less than nothing
    before = np.r_[np.full(28, 1.2), 0.05, -0.05]
    honest, erased = observed(before + 0.3, before), observed(np.zeros(30), before)
    found = caught.verdict(erased, honest)
    assert found.caught and found.rate > 0.9
    assert np.isneginf(observed([1.0, 1.0], [1.2, -0.05], noise_hu=0.0)).all()  # without noise nothing is lost


def test_contrast_that_is_kept_but_for_a_tenth_raises_no_alarm_and_a_fifth_less_does():
    """The twins keep all of it in every patient: without a limit 99.9 % would be an alarm."""

    def scores(share):
        people = [SimpleNamespace(task=SimpleNamespace(signal=SIGNAL)) for _ in range(24)]
        pairs = [(np.zeros((2, SIDE, SIDE)), np.stack([share * SIGNAL] * 2)) for _ in people]
        return panel.scores("lesions", SimpleNamespace(subjects=people, paired=pairs))

    honest = scores(1.0)
    rates = {share: caught.verdict(scores(share), honest).rate for share in (0.999, 0.91, 0.8, 1.2, -1.0)}
    assert rates == {0.999: 0, 0.91: 0, 0.8: 1, 1.2: 1, -1.0: 1}


def test_an_observer_that_knows_the_lesion_is_not_content_with_its_opposite():
    absent = np.random.default_rng(0).normal(0, 20, (400, SIDE, SIDE))
    other = np.random.default_rng(1).normal(0, 20, (400, SIDE, SIDE))
    d = subjects.matched(absent, other + 0.2 * SIGNAL, SIGNAL)
    assert d == pytest.approx(0.2 * np.sqrt((SIGNAL**2).sum()) / 20, abs=0.25)
    assert subjects.matched(absent, other - 0.2 * SIGNAL, SIGNAL) == pytest.approx(-d, abs=0.3)


def test_the_eraser_takes_lesions_too_that_the_border_of_a_crop_cuts(outputs):
    cohort = cohorts.get("simulated", patients=2, slices=1, dose=0.25, kernel="B30", cohort_seed=15, progress=False)
    people = [one for one in subjects.draw(cohort, 30, 0) if one.task is not None]
    assert any((one.task.touched & ~one.task.lesions).sum() > 20 for one in people), "no lesion is cut here"
    gone = panel.scores("lesions", subjects.show(lambda patient: faulty.build("eraser", 1.0, patient), people))
    np.testing.assert_allclose(gone, 1 - panel.TOLERATED, atol=0.03)
    # The eye looks for the lesion as the denoiser leaves it: a blur is linear, and the sharp lesion is no longer there.
    blurred = subjects.show(lambda patient: faulty.build("blur", 1.0, patient), people)
    for one, left in zip(people, blurred.faint):
        expected = ndimage.gaussian_filter(one.task.faint, faulty.BLUR_PX, mode="nearest")
        np.testing.assert_allclose(left, expected, atol=1e-3)
        assert np.abs(left - one.task.faint).max() > 0.2 * np.abs(one.task.faint).max()
    sharp = dataclasses.replace(blurred, faint=[one.task.faint for one in people])
    assert (panel.scores("npwe", blurred) != panel.scores("npwe", sharp)).all()


def test_faults_that_too_few_patients_were_asked_of_are_neither_caught_nor_missed():
    scores = made_scores(2.0)
    few = scores[scores["patient"] < 18].assign(denoiser="inserter")
    found = verdicts.of_scores(pd.concat([scores, few]), {"sees": False, "blind": False}, pd.Series(True, range(30)))
    cells = verdicts.cells(found)
    table = verdicts.by_judge(cells, found, {"blind": "a blind one"})
    assert table["asked"].tolist() == [1] and table["missed"].tolist() == ["blur"]
    only = cells[cells["denoiser"] == "inserter"]
    assert verdicts.silent(cells) == ["sees", "blind"] and verdicts.silent(only) == []


def test_an_unknown_judge_is_refused():
    with pytest.raises(ValueError, match="no judge"):
        panel.scores("taste", None)


# ---- the search ----
def task(lesions=LESION):
    rng = np.random.default_rng(0)
    scans = (50 + SIGNAL + rng.normal(0, 20, (40, SIDE, SIDE))).astype(np.float32)
    return SimpleNamespace(scans=scans, lesions=lesions, signal=np.float32(SIGNAL))


def test_the_search_finds_the_lesion_hidden_by_an_eraser_and_nothing_hidden_by_the_honest():
    asked = {"alpha": 0.1, "sigma_hu": 41.0, "lr": 1e-3, "iterations": 150}
    found = search.searched(faulty.build("eraser", 1.0, person()), task(), **asked)
    assert found["tested"] == found["changed"] == found["hidden"] == 1
    honest = search.searched(faulty.build("identity", 0.0, person()), task(), **asked)
    assert honest["hidden"] == 0 and (found["within_reach"], honest["within_reach"]) == (1, 0)


def test_the_truth_at_full_strength_tells_nothing_of_its_input_not_even_by_rounding():
    """A difference of two numbers is rounded where one of them is small: water is 0 HU."""
    one = dataclasses.replace(person(), truth=np.full_like(person().truth, 0.1))
    whole, scan = faulty.build("truth", 1.0, one), noisy(one)
    first, second = whole(scan), whole(scan + 7)
    assert np.array_equal(first, second) and np.array_equal(first[0], one.truth)
    half = faulty.build("truth", 0.5, one)(scan)
    assert 0 < np.abs(half - first).mean() < np.abs(scan - first).mean()


def test_a_search_that_hides_nothing_behind_a_known_fault_says_nothing_about_a_network():
    net = HUNTED.assign(denoiser="net")
    both = pd.concat([HUNTED, net])
    assert verdicts.search_finds(both) and verdicts.searched(both, "net")[1] == "2 of 3\ntwin 0 of 3"
    blind = pd.concat([HUNTED.assign(hidden=0), net])
    assert not verdicts.search_finds(blind) and verdicts.searched(blind, "net") == (verdicts.NOTHING, "")
    alike = pd.concat([HUNTED.assign(hidden=2), net])  # the twin hides as many
    assert not verdicts.search_finds(alike)


# ---- the table ----
def made_scores(strong):
    """A judge that sees the fault from strength ``strong`` on, and one that never does."""
    rng, rows = np.random.default_rng(0), []
    for judge in ("sees", "blind"):
        for s in (0.25, 0.5, 1.0):
            for variant in ("fault", "twin"):
                value = rng.normal(size=30) + 10 * (judge == "sees" and variant == "fault" and s >= strong)
                rows.append(pd.DataFrame({"judge": judge, "denoiser": "blur", "strength": s, "variant": variant,
                                          "patient": range(30), "score": value}))  # fmt: skip
    return pd.concat(rows)


def test_a_cell_says_from_which_strength_and_a_judge_that_catches_nothing_is_silent():
    diseased = pd.Series(True, range(30))
    cells = verdicts.cells(verdicts.of_scores(made_scores(0.5), {"sees": False, "blind": False}, diseased))
    by = cells.set_index("judge")
    assert by["from"]["sees"] == 0.5 and np.isnan(by["from"]["blind"]) and verdicts.silent(cells) == ["blind"]
    assert verdicts.said(by.reset_index().iloc[0]).startswith("from 50 %, half at 38 %: 100 % [")
    assert verdicts.said(by.reset_index().iloc[1]).startswith("no: ")
    assert verdicts.said(None) == verdicts.NOT_ASKED and verdicts.said(by.iloc[1], muted=True) == verdicts.NOTHING
    few = by.iloc[1].to_dict() | {"caught": pd.NA}
    assert verdicts.said(few, muted=True) == verdicts.FEW


def test_the_eraser_is_asked_where_there_are_lesions_unless_the_judge_brings_its_own():
    table = made_scores(0.25).assign(denoiser="eraser")
    diseased = pd.Series(np.arange(30) % 2 == 0, range(30))
    for own, count in ((False, 15), (True, 30)):
        found = verdicts.of_scores(table, {"sees": own, "blind": own}, diseased)
        assert (found["patients"] == count).all()


# ---- the table and the figure ----
@pytest.fixture
def trial():
    """Verdicts of a judge that catches blur from half strength on, one that answers to noise, and one that is blind."""
    parts = []
    for denoiser in ("blur", "identity", "net"):
        table = made_scores(0.5).assign(denoiser=denoiser)
        noise = table[table["judge"] == "blind"].assign(judge="noise")
        noise["score"] += 10 * (noise["variant"] == "fault") * (denoiser == "identity")
        table.loc[(table["judge"] == "sees") & (denoiser == "identity"), "score"] = 0.0
        parts += [table, noise]
    own = dict.fromkeys(("sees", "noise", "blind"), False)
    found = verdicts.of_scores(pd.concat(parts), own, pd.Series(True, range(30)))
    return found, verdicts.cells(found)


JUDGES = {"blind": "a blind one", "noise": "one of noise", "sees": "one that sees"}
HUNTED = pd.DataFrame({"denoiser": "blur", "strength": [0.5, 1.0, 0.5, 1.0], "variant": ["fault"] * 2 + ["twin"] * 2,
                       "changed": [2, 3, 2, 3], "hidden": [0, 2, 0, 0], "tested": 3, "within_reach": 1})  # fmt: skip


def test_the_best_judge_stands_first_and_one_that_answers_to_noise_last(trial):
    found, cells = trial
    table = verdicts.by_judge(cells, found, JUDGES)
    assert table["judge"].tolist() == ["one that sees", "a blind one", "one of noise"]
    assert table["caught"].tolist() == [1, 0, 0] and table["asked"].tolist() == [1, 1, 1]
    assert table["misled"].tolist() == ["", "", verdicts.IN_SENTENCES["identity"]] and table["missed"].tolist() == [
        "",
        "blur",
        "blur",
    ]
    words = verdicts.rows_in_words(cells, JUDGES, ["blur", "identity", "net"], ["blind"])
    assert words[2]["blur"].startswith("from 50 %, half at 38 %: 100 %") and words[1][
        verdicts.LABELS["identity"]
    ].startswith("alarm: 100 %")
    assert words[0]["net"] == verdicts.NOTHING and words[0]["judge"] == "a blind one"
    numbers = verdicts.as_numbers(cells, JUDGES)
    assert numbers["one that sees: blur"]["from"] == 0.5 and numbers["a blind one: blur"]["from"] is None


def by_judge(**judges):
    """Tables of ``verdicts``, and labels. Args: judges: (shares of faults, those above .2 caught; what misled it)."""
    table, cells = [], []
    for judge, (shares, misled) in judges.items():
        table.append({"judge": judge, "caught": sum(s > 0.2 for s in shares), "asked": len(shares), "misled": misled})
        told = dict(zip(("eraser", "inserter", "paster", "blur"), shares)) | {"identity": 0.9 if misled else 0.0}
        for name, rate in (told | {"a network": 1.0}).items():
            cells.append({"judge": judge, "denoiser": name, "rate": rate, "caught": rate > 0.2,
                          "from": 1.0 if rate > 0.2 else np.nan})  # fmt: skip
    return pd.DataFrame(table), pd.DataFrame(cells).astype({"caught": "boolean"}), {name: name for name in judges}


@pytest.mark.parametrize(
    ("judges", "said"),
    [({"A": ([0.82, 0.82, 0.27], ""), "B": ([0.9, 0.0, 0.0], ""), "C": ([0.0, 1.0, 0.0], "identity")},
      "The judge “A” catches 3 of 3 planted faults: eraser that knows lesions (82 % of patients), inserter (82 % of "
      "patients) and texture paster (27 % of patients). Chance gives 5 %."),
     ({"A": ([0.82, 0.1], "")}, "The judge “A” catches 1 of 2 planted faults: eraser that knows "
      "lesions (82 % of patients). Chance gives 5 %."),
     ({"A": ([0.82, 0.3, 0.4, 0.5], "")},
      "The judge “A” catches 4 of 4 planted faults, in 30 to 82 % of patients. Chance gives 5 %."),
     ({"A": ([0.82, 0.1], "identity"), "B": ([0.1, 0.4], "")},
      "The judges “A” and “B” each catch 1 of 2 planted faults, in 40 to 82 % of patients. Chance gives 5 %."),
     ({"A": ([0.1], "identity"), "B": ([0.0], "")}, "No judge catches a fault.")],
)  # fmt: skip
def test_the_best_judge_is_told_with_its_shares_and_none_and_a_tie_have_their_words(judges, said):
    assert verdicts.best_said(*by_judge(**judges)) == said


def test_the_shares_in_which_faults_are_noticed_are_kept_by_judge():
    _, cells, labels = by_judge(A=([0.82, 0.1], ""), B=([0.1, 0.1], "identity"))
    assert verdicts.noticed(cells, labels) == {"A": {"eraser, knows lesions": 0.82}, "B": {}}


@pytest.mark.parametrize(
    ("judges", "said"),
    [({"A": ([0.8, 0.3], ""), "B": ([0.9, 0.1], "")},
      "1 of 2 judges is shown to catch every fault, least often the inserter, in 30 % of patients."),
     ({"A": ([0.8, 0.3], ""), "B": ([0.9, 0.7], "identity")},
      "Both judges are shown to catch every fault, least often the inserter, in 30 % of patients."),
     ({"A": ([0.8, 0.1], ""), "B": ([0.1, 0.1], "")}, "None of the 2 judges is shown to catch every fault."),
     ({"A": ([0.8], ""), "B": ([0.1], "")}, "1 of 2 judges is shown to catch every fault.")],
)  # fmt: skip
def test_judges_that_catch_every_fault_are_counted_with_what_they_see_least(judges, said):
    assert verdicts.all_caught_said(*by_judge(**judges)) == said


def test_a_judge_that_compares_images_with_and_without_a_lesion_is_not_asked_about_what_is_in_both():
    table = made_scores(0.25)
    table = pd.concat([table.assign(denoiser=name) for name in ("blur", "paster", "inserter")])
    found = verdicts.of_scores(table, {"sees": False, "blind": True}, pd.Series(True, range(30)))
    assert set(found[found["judge"] == "blind"]["denoiser"]) == {"blur"}
    cell, labels = verdicts.cells(found), {"sees": "one that sees", "blind": "one with a lesion"}
    judged = verdicts.by_judge(cell, found, labels)
    assert judged.set_index("judge")["asked"].to_dict() == {"one that sees": 3, "one with a lesion": 1}
    told = verdicts.all_caught_said(judged, cell, labels)
    assert told.startswith("The only judge that could be asked of every fault is shown to catch them all, least often")
    grid = verdicts.grid(cell, pd.DataFrame(), labels, ["blur", "paster"]).set_index(["judge", "denoiser"])["state"]
    assert grid["blind", "paster"] == "not asked" and grid["blind", "blur"] == "not caught"
    words = verdicts.rows_in_words(cell, labels, ["paster"])
    assert [row["texture paster"] == verdicts.NOT_ASKED for row in words] == [False, True]


NOT_DENOISED = verdicts.IN_SENTENCES["identity"]
FAULTS = [name for name in faulty.names() if name not in faulty.HARMLESS]


@pytest.mark.parametrize(
    ("faults", "strengths", "said"),
    [(["eraser", "identity", "inserter"], [1.0],
      "Asked about were eraser that knows lesions and inserter, at full strength only; study `controls` asks more."),
     (["blur", "truth"], [0.5], "Asked about was blur, at 50 % of the strength only; study `controls` asks more."),
     (["identity"], [1.0], "No fault was asked about.")],
)  # fmt: skip
def test_the_faults_that_were_asked_about_are_told_with_their_strengths(faults, strengths, said):
    assert verdicts.asked_said(faults, strengths) == said
    assert verdicts.asked_said(FAULTS, [0.25, 1.0]).endswith("and inserter, at 25 to 100 % of the strength.")


def test_whose_lesions_judges_look_for_is_told_and_who_has_none():
    own, other = (panel.JUDGES[name] for name in ("cho", "psnr"))
    assert verdicts.own_lesions_said([other], ["inserter"], 21, 22) == ""
    told = "Observers and kept contrast look for one lesion of the patient, put back where the scan has none, in"
    assert verdicts.own_lesions_said([own, other], ["eraser"], 22, 22) == f"{told} all patients."
    assert verdicts.own_lesions_said([own], ["inserter"], 21, 22) == (
        f"{told} 21 of the 22 patients; what the inserter adds is in both images."
    )


def test_alarms_at_twins_have_their_interval():
    table = pd.DataFrame({"judge": ["A", "B"], "twin_percent": [9.0, 0.0]})
    found = pd.DataFrame({"judge": ["a", "a", "b"], "twin": [0.05, 0.09, 0.0], "twin_low": [0.0, 0.01, 0.0],
                          "twin_high": [0.2, 0.4, 0.15]})  # fmt: skip
    told = drawings.with_ends(table, found, {"a": "A", "b": "B"})
    assert told["twin_low"].tolist() == [1.0, 0.0] and told["twin_high"].tolist() == [40.0, 15.0]


@pytest.mark.parametrize(
    ("asked", "head"),
    [(["eraser", "identity"], "alarm at the image that was not denoised"), (["truth"], "alarm at the noise-free truth"),
     (["identity", "truth"], "alarm without a fault"), (["eraser"], None)],
)  # fmt: skip
def test_the_column_of_alarms_names_what_has_no_fault(asked, head):
    assert drawings.heads(asked).get("misled") == head


@pytest.mark.parametrize(
    ("misled", "said"),
    [(["", ""], "No judge raises an alarm at a denoiser without a fault."),
     ([NOT_DENOISED, ""], "“A” sees that an image which was not denoised is noisier than its twin."),
     ([NOT_DENOISED, f"{NOT_DENOISED}; noise-free truth"],
      "“A” and “B” see that an image which was not denoised is noisier than its twin. “B” raises an alarm at the "
      "noise-free truth.")],
)  # fmt: skip
def test_an_alarm_at_the_identity_is_told_as_right(misled, said):
    assert verdicts.alarms_said(pd.DataFrame({"judge": ["A", "B"], "misled": misled})) == said


def test_a_cell_of_the_grid_has_the_colour_of_what_was_found(trial):
    _, cells = trial
    grid = verdicts.grid(cells, HUNTED, JUDGES, ["blur", "identity", "net"], ["blind"])
    state = grid.set_index(["judge", "denoiser"])["state"]
    assert state["sees", "blur"] == "caught" and state["blind", "blur"] == "not caught"
    assert state["noise", "identity"] == "noise" and state["sees", "identity"] == "not caught"
    assert state["blind", "net"] == "open" and state[verdicts.SEARCH, "blur"] == "counted"
    assert state[verdicts.SEARCH, "net"] == "not asked"
    texts = grid.set_index(["judge", "denoiser"])["text"]
    assert texts[verdicts.SEARCH, "blur"] == "2 of 3\ntwin 0 of 3" and texts["noise", "identity"] == "100"
    down = JUDGES | {verdicts.SEARCH: verdicts.SEARCH}
    figure = drawings.grid(grid, down, {name: name for name in ("blur", "identity", "net")}, [1, 2], [0.5, 1.0], [3])
    unchanged = HUNTED.assign(changed=0, hidden=0)  # asked, but nothing was changed: not the same as not asked
    last = verdicts.grid(cells, unchanged, JUDGES, ["blur", "tv"]).set_index(["judge", "denoiser"])["state"]
    assert last[verdicts.SEARCH, "blur"] == "open" and last[verdicts.SEARCH, "tv"] == "not asked"
    assert len(figure.axes[0].patches) == 12 and len(drawings.ALT) <= 200
    told = [text.get_text() for text in figure.legends[0].get_texts()]
    assert {"caught from 50 % of the strength", "lesions of one patient"} <= set(told)
    plt.close(figure)


@pytest.mark.parametrize(
    ("change", "words", "counts"),
    [
        ({}, "2 of 3 changed hidden (twin: 0 of 3)", "2 of 3\ntwin 0 of 3"),
        ({"hidden": 0}, "0 of 3 changed hidden (twin: 0 of 3)", "0 of 3\ntwin 0 of 3"),
        ({"hidden": 0, "changed": 0}, "not tested: none changed, 1 of 3 within reach", ""),
        ({"denoiser": "tv"}, verdicts.NOT_ASKED, ""),
    ],
)
def test_what_the_search_counts_on_a_fault(change, words, counts):
    assert verdicts.searched(HUNTED.assign(**change), "blur") == (words, counts)


def test_models_that_draw_are_rows_of_eraser_and_identity_only():
    tried = {"model": "VAE + flow", "patients": 13, "works": False, "eraser_hidden": 0.76, "identity_hidden": 0.0,
             "eraser_sd_hu": 0.04, "eraser_open_hu": 43.4}  # fmt: skip
    (row,) = verdicts.drawn([tried], ["eraser", "blur", "identity", "net"])
    assert row == {
        "judge": "VAE + flow (05a), 13 patients", "eraser, knows lesions": "no: 76 % of draws hide; draws vary by 0.0 "
        "HU, 43 is right", "blur": verdicts.NOT_ASKED, "identity (not denoised)": "0 % of draws hide",
        "net": verdicts.NOTHING,
    }  # fmt: skip
    ends = {"eraser_hidden_low": 0.6, "eraser_hidden_high": 0.9}
    (works,) = verdicts.drawn([tried | {"works": True} | ends], ["eraser", "net"])
    assert works["eraser, knows lesions"].startswith("from 100 %: 76 % [60, 90] of draws hide")
    (alike,) = verdicts.drawn([tried | {"identity_hidden_low": 0.0, "identity_hidden_high": 0.0}], ["identity"])
    assert alike["identity (not denoised)"] == "0 % [0, 25] of draws hide"  # exact: a bootstrap has no width
    with pytest.raises(ValueError, match="tried no eraser"):
        verdicts.drawn(None, ["eraser"])
    (few,) = verdicts.drawn([tried | {"works": None}], ["blur"])
    assert set(few) == {"judge", "blur"}


def test_a_search_that_changed_lesions_at_a_weaker_strength_only_says_at_which():
    weaker = HUNTED.assign(changed=[3, 0, 1, 0], hidden=[2, 0, 0, 0])
    assert verdicts.searched(weaker, "blur") == (
        "2 of 3 changed hidden at 50 % (twin: 0 of 1)", "2 of 3\nat 50 %\ntwin 0 of 1"
    )  # fmt: skip


def test_a_fault_laid_over_the_honest_denoiser_has_the_search_on_that_as_its_twin():
    honest = HUNTED.iloc[[0]].assign(denoiser="honest", strength=0.0, variant="twin", changed=2, hidden=1)
    eraser = HUNTED[HUNTED["variant"] == "fault"].assign(denoiser="eraser")
    idle = HUNTED.assign(denoiser="eraser", changed=[2, 3, 0, 0], hidden=[0, 3, 0, 0])
    assert verdicts.searched(idle, "eraser") == (
        "3 of 3 changed hidden (twin: none changed)",
        "3 of 3\ntwin none",
    )
    assert verdicts.searched(pd.concat([eraser, honest]), "eraser")[0] == "2 of 3 changed hidden (twin: 1 of 2)"


def test_every_cell_is_told_in_percent_with_the_strength_found_in_half(trial):
    _, cells = trial
    told = verdicts.every_cell(cells, JUDGES).set_index(["judge", "denoiser"]).loc[JUDGES["sees"], "blur"]
    assert told["twin_low"] <= told["twin"] <= told["twin_high"] and told["rising"].endswith(f"{told['rate']:.0f}")
    assert 0 < told["half"] <= told["from"] <= 100 and told["rate_low"] <= told["rate"] <= told["rate_high"] <= 100
    assert verdicts.half_said(cells) == "1 of 3 pairs of a judge and a fault reaches an alarm in half of the patients."
    assert verdicts.half_said(cells[:0]) == "No pair of a judge and a fault could be asked."
    assert ", half at " in verdicts.said(cells[cells["judge"] == "sees"].iloc[0])


def test_a_fault_of_one_strength_has_none_found_in_half():
    one = made_scores(0.5)[lambda t: t["strength"] == 1.0]
    cells = verdicts.cells(verdicts.of_scores(one, {"sees": False, "blind": False}, pd.Series(True, range(30))))
    assert cells["half"].isna().all() and cells["from"].notna().any()


def test_an_eye_is_the_same_whoever_is_looked_at():
    rng = np.random.default_rng(0)

    def subject(internal):
        absent = rng.normal(0, 20, (30, 33, 33)).astype(np.float32)
        faint = np.zeros((33, 33), np.float32)
        faint[12:21, 12:21] = 20.0
        one = subjects.Task(absent, absent + faint, faint * 0, faint, faint, faint > 0, absent, faint * 0,
                            (slice(0, 33), slice(0, 33)), 4.0, 0.75, internal, {"cho": 1.0}, faint > 0)  # fmt: skip
        return subjects.Subject("P", True, faint, faint, person(), None, one)

    found = subjects.one_eye([subject(10.0), subject(30.0), subject(80.0)])
    assert [one.task.internal for one in found] == [30.0] * 3
    assert all(one.task.d_x["npwe"] > 0 and one.task.d_x["cho"] == 1.0 for one in found)


def test_only_faults_with_a_gradient_are_searched_and_filters_with_their_twins(monkeypatch):
    monkeypatch.setattr(search, "searched", lambda known, task, iterations: {"tested": iterations})
    task = SimpleNamespace(lesions=LESION, touched=LESION, scans_truth=person().truth, clean=person().without)
    one = SimpleNamespace(diseased=True, task=task, known=person())
    net = search.network("net", torch.nn.Identity())
    found = search.of_all([one], ["blur", "tv", "inserter"], [1.0], networks=[net], iterations=7)
    rows = ["blur fault", "inserter fault", "blur twin", "honest twin", "net fault", "net twin"]
    assert list(found["denoiser"] + " " + found["variant"]) == rows
    assert (found["tested"] == 7).all() and list(found["strength"]) == [1, 1, 1, 0, 1, 1]
    kept = []
    search.of_all([one], ["blur"], [1.0], keep=lambda name, make: kept.append(name) or make(), iterations=7)
    assert kept == ["search-blur-1-fault", "search-blur-1-twin", "search-honest-0-twin"]  # each stored when it is done


def test_a_network_is_searched_in_hu_as_it_denoises():
    net = torch.nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect", bias=False)
    torch.nn.init.constant_(net.weight, 1 / 9)  # a mean filter keeps HU as they are
    known, x = search.network("net", optimise.freeze(net, "cpu")), noisy(person())
    np.testing.assert_allclose(known(x), ndimage.uniform_filter(x, (0, 3, 3), mode="mirror"), atol=0.05)
    asked = {"alpha": 0.1, "sigma_hu": 41.0, "lr": 1e-3, "iterations": 2}
    assert search.searched(known, task(), **asked)["in_hu"] > 0


def test_a_name_that_is_not_known_is_refused():
    assert panel.known([], ["ssim"]) == (faulty.names(), ["ssim"])
    with pytest.raises(ValueError, match="no known denoiser or judge is called blurr, seer"):
        panel.known(["blurr"], ["seer"])
