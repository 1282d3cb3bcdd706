"""The report card: known answers of its measures, one image in every convention, and what is said of it."""

from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT, write_tiny_cohort
from notebook_cells import execute
from scipy import ndimage

from ldct_utils import cohorts
from ldct_utils.ct import texture
from ldct_utils.denoisers import card, cost, measuring, opened, said, unseen
from ldct_utils.invariance import controls
from ldct_utils.models import networks
from ldct_utils.report.drawings import card as drawings
from ldct_utils.segments import tissue_masks
from ldct_utils.study import parameters, runs
from ldct_utils.task_based import equivalence
from ldct_utils.training import prediction

MINE = SimpleNamespace(name="mine", images=None, network=None)
NONE = pd.DataFrame(columns=["name", "measure", "patient", "value"])

pytest.importorskip("onnx", reason="onnx makes a file of this test; it is in the lock file's dev packages")


@pytest.fixture
def cohort(outputs):
    return cohorts.load(write_tiny_cohort(outputs / "cohorts" / "simulated-00000000", slices=2))


def test_one_image_has_many_psnrs_and_each_is_what_its_convention_says():
    rng = np.random.default_rng(0)
    target = np.full((1, 64, 64), -1000.0, np.float32)
    target[:, 8:56, 8:56] = 40
    target[:, 20:30, 20:30] = 900
    made = target + rng.normal(0, 10, target.shape).astype(np.float32)
    found = measuring.by_convention(made, target, ["abdomen"], ["P001"]).set_index("convention")["psnr"]

    def psnr(a, b, peak):
        return 10 * np.log10(peak**2 / np.mean((a.astype(np.float64) - b) ** 2))

    assert np.isclose(found["range 4096 HU"], psnr(made, target, 4096))
    assert np.isclose(found["the slice's own range"], psnr(made, target, 1900))
    assert np.isclose(found["[-160, 240] HU"], psnr(made.clip(-160, 240), target.clip(-160, 240), 400))
    assert np.isclose(found["[-1000, 1000] HU"], psnr(made.clip(-1000, 1000), target.clip(-1000, 1000), 2000))
    assert found.max() - found.min() > 12  # the "26" and the "40" of one image


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_what_the_identity_and_the_truth_score(cohort, share):
    """Halfway to the truth has half of the error; the truth has none and no noise."""
    rows = cohort.rows("test")
    ldct, truth = (np.asarray(images[rows], np.float32) for images in (cohort.ldct, cohort.truth))
    made = {"with": (1 - share) * ldct + share * truth}
    found = measuring.on_slices(made, cohort, rows).groupby("measure")["value"].mean()
    plain = measuring.on_slices({"with": ldct}, cohort, rows).groupby("measure")["value"].mean()
    assert np.isclose(found["rmse"], (1 - share) * plain["rmse"], rtol=1e-3)
    assert np.isclose(found["mean_srmse"], (1 - share) * plain["mean_srmse"], rtol=0.02)
    if share == 1:
        assert np.isclose(found["ssim"], 1) and found["bias"] == 0


def test_the_card_of_an_exported_network_is_the_card_of_the_network(tmp_path, cohort):
    torch.manual_seed(0)
    network = networks.build(name="unet", channels=4, residual=True).eval()
    torch.nn.init.normal_(network.head.weight, 0, 0.02)
    path = tmp_path / "mine.onnx"
    with torch.no_grad():
        torch.onnx.export(network, torch.zeros(1, 1, 64, 64), path, dynamo=False, input_names=["image"],
                          dynamic_axes={"image": {0: "n", 2: "h", 3: "w"}})  # fmt: skip
    rows, cards = cohort.rows("test"), []
    for denoise in (opened.opened(str(path), cohort, "net"), lambda hu: prediction.predict(network, hu)):
        cards.append(measuring.on_slices(measuring.outputs(denoise, cohort, rows), cohort, rows)["value"].to_numpy())
    assert np.allclose(*cards, rtol=1e-4, equal_nan=True) and np.isfinite(cards[0]).any()


def test_the_identity_buys_no_dose_half_the_noise_buys_some_and_a_faded_image_is_not_seen():
    asked = {
        "identity": lambda hu: hu,
        "less noise": lambda hu: hu.mean(0) + 0.5 * (hu - hu.mean(0)),
        "faded": lambda hu: 100 + 0.2 * (hu - 100),
    }
    table = measuring.detected(asked, 1, 60, 0.25)
    wide = table.pivot(index=["observer", "name"], columns="dose", values="value")
    for observer in ("CHO", "NPWE"):
        assert np.isclose(wide.loc[observer, "identity"][0.25], wide.loc[observer, "FBP"][0.25])
        assert wide.loc[observer, "FBP"].is_monotonic_increasing
        assert measuring.worth(table, "identity", observer, 0.25).dose == pytest.approx(0.25)
    at_dose = wide[0.25]
    assert at_dose["CHO", "less noise"] > 1.8 * at_dose["CHO", "identity"]
    assert np.isclose(at_dose["CHO", "faded"], at_dose["CHO", "identity"])  # it knows all, and scales it back
    assert at_dose["NPWE", "faded"] < 0.6 * at_dose["NPWE", "identity"]  # noise of its own does not fade


def test_pasted_texture_is_invention_and_fbp_is_none():
    found = measuring.invented({"blur": lambda hu: ndimage.gaussian_filter(hu, (0, 1, 1))}, 1, 0.25).set_index("name")[
        "value"
    ]
    assert found[measuring.PASTED] > 5 > 2 > found["FBP"] > found["blur"]


def values_of(gaps, patients=8):
    """Values of two denoisers that differ by so much, measure by measure."""
    rng, rows = np.random.default_rng(0), []
    for measure, gap in gaps.items():
        for patient in range(patients):
            usual = 10 + rng.normal()
            for name, value in (("LDCT", usual), ("mine", usual + gap + 0.1 * rng.normal())):
                rows.append({"name": name, "measure": measure, "patient": patient, "value": value})
    return pd.DataFrame(rows)


def test_positive_is_better_whichever_way_a_measure_points():
    found = card.beside(values_of({"rmse": -2, "kept": -2, "ssim": 2, "noise": 0}), "mine", "LDCT").set_index("measure")
    assert found.loc["rmse", "low"] > 1.5 and found.loc["ssim", "low"] > 1.5 and found.loc["kept", "high"] < -1.5
    assert found.loc["noise", "low"] < 0 < found.loc["noise", "high"]
    assert (found["p"] >= 2.0**-7 - 1e-9).all()
    assert card.beside(values_of({"suspicious": 3}), "mine", "LDCT").empty  # no direction, no verdict


NONE_WORSE = "Of what has an interval, nothing was shown to be worse"


@pytest.mark.parametrize(
    ("gaps", "good", "bad"),
    [({"rmse": -2, "ssim": 2, "kept": -2}, "improves error and SSIM", "worsens the contrast of lesions"),
     ({"rmse": -2, "ssim": 2, "noise": -2}, "improves error, SSIM and noise", NONE_WORSE),
     ({"rmse": 0, "kept": 0}, "Nothing was shown to be better", NONE_WORSE),
     ({"bias": 2}, "Nothing was shown to be better", NONE_WORSE),  # 2 HU matter to nobody
     ({"bias": 6}, "Nothing was shown to be better", "worsens the HU of tissues")],
)  # fmt: skip
def test_only_what_an_interval_decides_and_what_matters_is_said(gaps, good, bad):
    beside = card.beside(values_of(gaps), "mine", "LDCT")
    found = said.card(MINE, beside, {}, 0.25, {"mine": (0.5, 120.4)}, "8 patients")
    assert good in found["What is it good at?"] and bad in found["What does it cost?"]
    sharp = said.card(MINE, beside, {}, 0.25, {}, "8 patients", (0.16, 0.34))
    assert "up to 0.16 lp/mm, in the low-dose image up to 0.34" in sharp["How fine a detail is left?"]
    assert (
        "0.5 s" in found["How long does it take?"]
        and "120 MB at the peak" in found["How long does it take?"]
        and "How fine a detail is left?" not in found
        and "Not tested" in found["What is not known?"]
    )


def test_few_patients_decide_nothing():
    beside = card.beside(values_of({"rmse": -2}, patients=3), "mine", "LDCT")
    found = said.card(MINE, beside, {}, 0.25, {}, "3 patients")
    assert found["What is it good at?"] == "Not decided: 3 patients give no interval." and len(found) == 3


def banded(shape, middle, seed):
    """Noise of SD 20 HU whose spectrum is highest at so many cycles a pixel."""
    white = np.fft.fft2(np.random.default_rng(seed).normal(size=shape))
    radius = np.hypot(np.fft.fftfreq(shape[-2])[:, None], np.fft.fftfreq(shape[-1]))
    made = np.fft.ifft2(white * np.exp(-0.5 * ((radius - middle) / 0.08) ** 2)).real
    return 20 * made / made.std()


@pytest.mark.parametrize("middle", [0.2, 0.27, 0.33])
def test_the_peak_of_the_noise_is_where_it_was_put(middle):
    noise = banded((6, 128, 128), middle, 0)
    assert texture.peak(texture.curve(noise, [[(0, 0), (40, 60), (90, 90)]] * 6)) == pytest.approx(middle, abs=0.02)
    assert texture.peak(np.arange(len(texture.CYCLES))) == texture.CYCLES[-1]


def test_the_card_tells_the_peak_in_lines_a_millimetre_and_how_far_it_moved(cohort):
    rows = cohort.rows("test")
    flat = np.full((len(rows), *cohort.ldct.shape[1:]), 60.0, np.float32)
    about = cohort.slices.assign(pixel_mm=0.5)
    fine, coarse = (flat + banded(flat.shape, at, 1) for at in (0.33, 0.2))
    of = dict(zip(rows, range(len(rows))))
    whole = {"ldct": fine, "ndct": fine, "truth": flat}
    images = {k: np.stack([v[of.get(r, 0)] for r in range(len(cohort.ldct))]) for k, v in whole.items()}
    one = SimpleNamespace(slices=about, lesion_masks=None, absent_ldct=None, **images)
    found = measuring.on_slices({"with": coarse}, one, rows).groupby("measure")["value"].mean()
    assert found["peak"] == pytest.approx(0.4, abs=0.04) and found["peak_moved"] == pytest.approx(-0.26, abs=0.06)
    same = measuring.on_slices({"with": fine}, one, rows).groupby("measure")["value"].mean()
    assert abs(same["peak_moved"]) < 1e-6
    one.slices = about.assign(pixel_mm=np.nan)
    found = measuring.on_slices({"with": coarse}, one, rows).groupby("measure")["value"].mean()
    assert np.isnan(found["peak"]) and np.isfinite(found["noise"])


def test_a_shift_is_told_of_its_tissue_with_its_sign(cohort):
    rows = cohort.rows("test")
    truth = np.asarray(cohort.truth[rows], np.float32)
    soft = np.stack([tissue_masks(image)["soft tissue"] for image in truth])
    values = measuring.on_slices({"with": truth - 12 * soft}, cohort, rows).assign(name="mine")
    means = values.groupby(["measure", "name"])["value"].mean().unstack()
    table = card.by_tissue(means).set_index("tissue")["mine"]
    assert table.pop("soft tissue") == pytest.approx(-12) and len(table) and (table == 0).all()
    assert means.loc["bias", "mine"] == pytest.approx(12)


def test_a_search_finds_what_a_network_hides_and_nothing_where_it_hides_nothing():
    table = unseen.searched({"hides": controls.Blur(), "honest": controls.Identity()}, 0.25, unseen.FEWEST)
    found = unseen.ratios(table)
    for name in (unseen.IDENTITY, "honest"):
        assert (found.loc[name].to_numpy() < 0.05).all()
    for name in (unseen.FILTER, "hides"):
        large, moves = found.loc[name, "plain"]
        assert large > 1.5 > 0.3 > moves
    large, moves = found.loc[unseen.BLIND, "aimed"]
    assert large > 3 > 0.1 > moves and unseen.searched({}, 0.25).empty
    denoiser = SimpleNamespace(name="hides", images=None, network=controls.Blur())
    told = said.seen(denoiser, table, unseen.FEWEST)
    assert told.startswith("A search of 60 steps changed the input 2.") and "(right: 0)" in told
    row = card.together(NONE, NONE.assign(dose=0, observer=""), NONE, NONE, table, 0.25)
    assert set(row["name"]) == {"hides", "honest"} and set(row["measure"]) == {"unseen_in", "unseen_out"}


def test_without_a_gradient_that_is_said_and_all_that_was_not_asked_with_its_reason(cohort):
    assert said.seen(MINE, unseen.searched({}, 0.25), 60).startswith("Not tested: no gradient")
    told = said.not_asked(MINE, [m for m in card.MEASURES if m not in ("kept", "unseen_in", "unseen_out", "rmse")])
    assert told == (
        " Not asked: error inside the body, HU, since no value came out; contrast of lesions kept, without known "
        "lesions; change found by a search, scans = 1 and that change in the output, scans = 1, without a gradient."
    )
    made = SimpleNamespace(name="hers", images={}, network=None)
    assert said.not_asked(made, [m for m in card.MEASURES if m != "seen"]).endswith("these images cannot be made anew.")
    assert said.not_asked(MINE, card.MEASURES) == ""


def test_tests_are_corrected_for_all_denoisers_and_measures_at_once():
    values = values_of({"rmse": -2, "kept": 2})
    values = pd.concat([values, values[values["name"] == "LDCT"].assign(name="tv")])
    alone = card.beside(values, "mine", "LDCT")
    table = card.compared(values, "mine", ["LDCT", "tv"])
    assert np.allclose(alone["p"], 2.0**-7) and np.allclose(table["p"], 4 * 2.0**-7)
    rows, heads = card.side_by_side(table)
    assert rows["shown"].tolist() == ["LDCT, tv"] * 2 and list(heads.values()) == [
        "better by", "than LDCT", "than tv", "differs from"
    ]  # fmt: skip
    assert rows["better, tv"].between(1.5, 2.5).all()


def test_too_few_structures_are_no_null(cohort):
    assert measuring.suspicious(lambda hu: hu, cohort, cohort.rows("test")).empty


def test_doses_are_told_in_percent():
    worth = {
        "CHO": equivalence.Dose(0.256, 0.24, np.inf, 0.1, 1.0),
        "NPWE": equivalence.Dose(0.0, np.nan, np.nan, 0.1, 1.0),
    }
    found = said.card(MINE, card.beside(values_of({"rmse": -2}), "mine", "LDCT"), worth, 0.25, {}, "")
    assert (
        "26 % (24 to over 100) of the normal dose to the CHO and under 10 % of the normal dose to the NPWE"
        in found["How much dose does it save?"]
    )


def test_images_that_were_made_elsewhere_get_a_card_of_what_can_be_asked(outputs, tmp_path):
    one = {"patients": 1, "slices": 1, "split": "test"}
    small = one | {"livers": 1, "realisations": 24, "anatomies": 1, "real_lesions": "none", "draws": 100}
    cohort = cohorts.get("simulated", **one)
    rows = cohort.rows("test")
    made = ndimage.gaussian_filter(np.asarray(cohort.ldct[rows], np.float32), (0, 0.7, 0.7))
    np.save(tmp_path / "hers.npy", made)
    given = {"study": "mine", "denoiser": str(tmp_path / "hers.npy"), "beside": [], "threads": 1}
    execute(ROOT / "notebooks" / "13_your_denoiser.py", small | given)
    (run,) = runs.select("mine/13_your_denoiser/*")
    shown = run.table("card").set_index("what")
    assert np.isnan(shown.loc["d' of faint lesions, to an eye ↑", "hers"])
    error = np.sqrt(np.mean((made - np.asarray(cohort.truth[rows], np.float32)) ** 2))
    assert 0 < shown.loc["error inside the body, HU ↓", "hers"] < 2 * error
    assert "hers" in run.numbers["headline"]["denoiser"] and run.name.startswith("denoiser-hers")


def test_a_slow_denoiser_is_given_fewer_realisations_and_never_too_few():
    assert cost.affordable([0.1, 0.1], 8, 120) == (120, unseen.MOST, pytest.approx(22 / 60))
    assert cost.affordable([8.0], 8, 120)[:2] == (64, 81) and cost.affordable([1000.0], 8, 120)[:2] == (60, 60)
    assert cost.affordable([], 8, 24) == (24, unseen.MOST, 0.0)
    assert cost.affordable([1000.0], 8, 24, [1000.0], 10)[:2] == (24, 10)
    assert cost.affordable([0.3], 8, 24, [0.3])[2] == pytest.approx(0.3 * (cost.SHARE + unseen.SHARE) / 60)
    assert cost.costs({}).empty and list(cost.costs({}).columns) == cost.COLUMNS


@pytest.mark.skipif(not (cost.OF_PROCESS / "clear_refs").exists(), reason="this system does not tell its memory")
def test_memory_is_that_of_each_denoiser_whichever_came_first(monkeypatch):
    def hungry(mb):
        return lambda hu: hu + 0 * np.ones(mb * 2**17)[0]

    table = cost.costs({"large": hungry(240), "small": hungry(90)}).set_index("denoiser")["MB a slice"]
    assert 230 < table["large"] < 300 and 80 < table["small"] < 150
    monkeypatch.setattr(cost, "OF_PROCESS", ROOT / "none")
    assert np.isnan(cost.costs({"large": hungry(1)})["MB a slice"]).all()


def test_the_example_is_the_slice_with_most_lesion_and_its_largest_one():
    masks = np.zeros((3, 8, 8), int)
    masks[1, :2, :2], masks[1, 4:7, 4:7], masks[2, 0, 0] = 1, 2, 1
    row, lesion = card.example(SimpleNamespace(lesion_masks=masks), np.arange(3))
    assert row == 1 and lesion.sum() == 9 and lesion[5, 5]
    for none in (None, 0 * masks):
        assert card.example(SimpleNamespace(lesion_masks=none), np.arange(3)) == (1, None)


def test_the_card_has_its_own_order_and_leaves_empty_what_was_not_asked():
    values = pd.DataFrame({"name": "mine", "measure": ["ssim", "rmse"], "patient": 0, "value": [0.9, np.nan]})
    detected = pd.DataFrame(
        {"name": ["FBP", "mine"], "dose": [0.25, 1.0], "patient": 0, "observer": "CHO", "value": 2.0}
    )
    resolved = pd.DataFrame({"name": ["mine"], "measure": ["sharp"], "value": [0.3]})
    invented = pd.DataFrame({"name": ["mine", measuring.PASTED], "patient": 0, "value": [1.0, 9.0]})
    found = card.together(values, detected, resolved, invented, unseen.searched({}, 0.25), 0.25)
    assert sorted(found["name"] + " " + found["measure"]) == [
        "LDCT detected",
        "mine sharp",
        "mine ssim",
        "mine surplus",
    ]
    means = found.groupby(["measure", "name"])["value"].mean().unstack()
    table = card.as_table(means)
    assert table["what"].tolist()[0] == "SSIM in the anatomy's window ↑" and len(table) == 4
    assert np.isnan(table["LDCT"][0]) and table["mine"][0] == 0.9


def test_the_pictures_are_cut_around_the_lesion_and_the_profile_names_every_other():
    images = np.random.default_rng(0).normal(0, 10, (3, 100, 100)).astype(np.float32)
    lesion = np.zeros((100, 100), bool)
    lesion[90:94, 50:54] = True
    figure = drawings.pictures(["LDCT", "mine", "truth"], images, lesion, 0.7, (50, 400))
    circles = [p for axis in figure.axes for p in axis.patches if isinstance(p, plt.Circle)]
    assert len(circles) == 6 and tuple(circles[0].center) == (51.5 - 15, 91.5 - 28)
    assert figure.axes[5].get_title() == "0.0 HU RMS" and all(len(alt) <= 200 for alt in drawings.ALT.values())
    compared = card.beside(values_of({"rmse": -2, "noise": 0}), "mine", "LDCT").assign(beside="LDCT")
    figure = drawings.profile(compared, {m: one.label for m, one in card.MEASURES.items()}, "mine")
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == [
        "error inside the body, HU", "noise in flat tissue, HU"
    ]  # fmt: skip
    assert figure.legends[0].get_texts()[0].get_text() == "beside LDCT"
    plt.close("all")


def test_a_run_is_judged_in_the_precision_that_its_exported_file_has():
    """In bf16 the card of a U-Net told 9.74 HU where its ONNX file told 9.65."""
    assert parameters.read(ROOT / "notebooks" / "13_your_denoiser.py").parameters["precision"].default == "float32"
