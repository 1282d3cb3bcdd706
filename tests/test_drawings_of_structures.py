"""Figures of 08, 08a, 09 and 09a: what is drawn of tables with one line, without intervals, or with nothing found."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from ldct_utils.noise2quality import targets
from ldct_utils.report import plots
from ldct_utils.report.drawings import changes, quality, structures

NAN = np.nan


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def titles(figure) -> list[str]:
    return [axis.get_title() for axis in figure.axes if axis.axison]


def labels(figure) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def test_kinds_of_error_that_were_not_measured_have_no_panel():
    rows = [("ndct", *structures.KINDS[title], "mse", 10.0, NAN, NAN) for title in list(structures.KINDS)[:2]]
    names = ["reference", "error", "segments of", "unit", "method", "mean_hu", "low", "high"]
    table, called = pd.DataFrame(rows, columns=names), {"mse": "MSE", "LDCT": "LDCT"}
    known = {"LDCT": 12.0, "median, 3 × 3": 14.0, "blur, 3 pixels": 90.0}
    beside = pd.concat([table.assign(method=name, mean_hu=error) for name, error in known.items()])
    figure = structures.errors(table, beside, {"ndct": "NDCT"}, called)
    assert titles(figure) == list(structures.KINDS)[:2] and labels(figure) == ["against the NDCT"]
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == [
        "MSE",
        "LDCT",
        "median, 3 × 3",
        "blur, 3 pixels",
    ]
    drawn = [tuple(line.get_xdata()) for line in figure.axes[0].lines if line.get_label() == "against the NDCT"]
    assert drawn == [(10.0, 12.0, 14.0)]  # below the line stands what was known beforehand
    assert [text.get_text() for text in figure.axes[0].texts] == ["90 →"]  # too far off to be drawn beside the others


def test_other_metrics_than_the_main_ones_are_counted_in_the_legend():
    spans = pd.DataFrame([("lung", 0.1, sigma, name, 0.9, NAN, NAN) for sigma in (0.0, 5.0) for name in "abc"],
                         columns=["cohort", "q", "sigma", "metric", "tpf", "low", "high"])  # fmt: skip
    theory = pd.DataFrame({"cohort": "lung", "q": 0.1, "sigma": [0.0, 5.0], "theory": [1.0, 0.8]})
    figure = structures.removal(spans, theory, {"a": "A"}, {name: name.upper() for name in "abc"})
    assert labels(figure) == ["other metrics (2)", "A", "PSNR, by its formula"]
    assert titles(figure) == ["lung: 10 % of a volume's structures removed, at least one"]
    assert [text.get_text() for text in figure.axes[0].texts] == ["B", "chance"]  # the lowest of the grey ones is named
    assert labels(structures.removal(spans[spans.metric == "a"], theory, {"a": "A"}, {}))[0] == "A"
    several = pd.concat([spans[spans.metric == "a"].assign(metric=name) for name in "abcdef"])
    figure = structures.removal(several, theory, {name: name.upper() for name in "abcdef"}, {})
    assert {line.get_color() for line in figure.axes[0].lines if line.get_label() in "ABCDEF"} <= set(plots.COLOURS)
    assert set("ABCDEF") <= set(labels(figure))


def some_spans(**low) -> pd.DataFrame:
    rows = [("lung", 0.1, sigma, name, tpf, low.get(name, NAN)) for sigma, lower in ((5.0, 0.0), (40.0, 0.1))
            for name, tpf in (("a", 0.8 - lower), ("b", 0.7 - lower), ("oracle", 1.0))]  # fmt: skip
    return pd.DataFrame(rows, columns=["cohort", "q", "sigma", "metric", "tpf", "low"])


@pytest.mark.parametrize(
    ("low", "said"),
    [({}, "At 40 HU of noise the highest TPF is 0.70 (A); too few volumes to tell it from chance."),
     ({"a": 0.5, "b": 0.4, "oracle": 0.8}, "At 40 HU of noise no metric but the oracle is shown to notice the removal; "
      "the highest TPF is 0.70 (A)."),
     ({"a": 0.5, "b": 0.4, "oracle": 0.5}, "At 40 HU of noise no metric is shown to notice the removal; the highest "
      "TPF is 0.70 (A)."),
     ({"a": 0.6, "b": 0.4}, "At 40 HU of noise A still notices the removal; the highest TPF is 0.70 (A).")],
)  # fmt: skip
def test_what_is_noticed_at_the_strongest_noise(low, said):
    assert structures.hardest(some_spans(**low), {"a": "A", "b": "B", "oracle": "O"}, "oracle") == said
    assert structures.sure(some_spans(**low)) == ("interval lies above chance" if low else "TPF is over 0.9")


@pytest.mark.parametrize(
    ("unclear", "more"),
    [([], ""), (["b"], " B was not shown to have more over pixels."),
     (["b", "c"], " B and C were not shown to have more over pixels."),
     (None, " Too few patients to show that others have more.")],
)  # fmt: skip
def test_who_has_the_least_error_is_told_with_who_may_have_no_more(unclear, more):
    names = {"LDCT": "LDCT", "a": "A", "b": "B", "c": "C"}
    told = "Against the NDCT, A has the least error over pixels, 9.9 HU; over structures its error is 10.7 HU."
    assert structures.least("a", 9.93, 10.71, unclear, names) == told + more
    alone = "The error of A is 9.9 HU over pixels and 10.7 HU over structures."
    assert structures.least("a", 9.93, 10.71, [], {"LDCT": "LDCT", "a": "A"}) == alone


@pytest.mark.parametrize(
    ("turned", "trainings", "enough", "said"),
    [(0, [1, 1, 1], True, "No two of the 3 methods, one training each, were shown to change places by errors over "
      "structures."),
     (0, [1, 3, 3], True, "No two of the 3 methods, 1 to 3 trainings each, were shown to change places by errors over "
      "structures."),
     (2, [3, 3, 3], True, "Errors over structures reverse at most 2 of 3 pairs of methods."),
     (0, [1, 1, 1], False, "Too few patients to show that two methods change places.")],
)  # fmt: skip
def test_whether_methods_change_places(turned, trainings, enough, said):
    table = pd.DataFrame({"reversed": [0, turned], "pairs": [3, 3]})
    assert structures.turned(table, 3, trainings, enough) == said


@pytest.mark.parametrize(
    ("shares", "said"),
    [({"MSE": 0.668, "L1": 0.87}, "Networks keep 67 % (MSE) to 87 %"), ({"MSE": 0.668}, "MSE keeps 67 %"),
     ({"MSE": 0.668, "L1": 0.671}, "Both losses keep 67 %")],
)  # fmt: skip
def test_what_networks_keep_of_faint_lesions(shares, said):
    assert structures.keeps(shares) == f"{said} of the contrast of planted faint lesions."
    one = structures.planted([(2.5, -20.0)])
    assert one == "1 lesion a patient, radius 2.5 mm, contrast −20 HU"


@pytest.mark.parametrize(
    ("signs", "said"),
    [({"kept": (-1, -1), "d_cho_kept": (0, 0), "d_npw_kept": (1, 0)},
      "MSE keeps less contrast than both other losses and more d′ of the non-prewhitening observer than 1 of 2 other "
      "losses; in d′ of the Hotelling observer no difference was shown."),
     ({"kept": (-1,), "d_cho_kept": (1,)},
      "MSE keeps less contrast than the only other loss and more d′ of the Hotelling observer than the only other "
      "loss."),
     ({"kept": (0, 0)}, "No loss was shown to keep more or less than MSE."),
     ({"kept": (None, None)}, "Too few patients to compare losses.")],
)  # fmt: skip
def test_what_a_loss_keeps_more_or_less_of_than_others(signs, said):
    rows = [(quantity, sign or 0.1, None if sign is None else bool(sign)) for quantity, all_of in signs.items()
            for sign in all_of]  # fmt: skip
    gaps = pd.DataFrame(rows, columns=["quantity", "difference", "differs"]).astype({"differs": object})
    assert structures.against("MSE", gaps) == said


# ---- what is said of changes ----
def suspicious(*rows) -> pd.DataFrame:
    names = ["patient", "before_hu", "change_hu", "suspicious", "structure"]
    return pd.DataFrame(rows, columns=names).astype({"suspicious": bool})


@pytest.mark.parametrize(
    ("rows", "named", "first"),
    [([("P1", -24.2, 11.2, True, 0)], "1 corrected p is below 0.05, not of a known lesion",
      "One segment is suspicious (P1): its contrast of −24 HU fades by 11 HU."),
     ([("P1", 9.0, -12.0, True, 3)], "1 corrected p is below 0.05, of a known lesion",
      "One segment is suspicious (P1): its contrast of 9 HU changes by −12 HU."),
     ([("P1", 9.0, 4.0, True, 0), ("P2", 9.0, 4.0, True, 0)], "2 corrected p are below 0.05, none of known lesions",
      "2 segments are suspicious, drawn are 2. The first (P1): its contrast of 9 HU grows by 4 HU."),
     ([("P1", 9.0, 4.0, False, 0)], "no corrected p is below 0.05",
      "No segment is suspicious; drawn is the one with the smallest p (P1).")],
)  # fmt: skip
def test_the_list_and_its_first_segment_are_told(rows, named, first):
    table = suspicious(*rows)
    assert changes.most_suspicious(table, 0.05, True) == f"Listed are the {len(rows)} smallest p; {named}."
    assert changes.first_suspect(table, int(table.suspicious.sum()), True) == first
    assert changes.most_suspicious(table, 0.05, False) == f"Listed are the {len(rows)} largest |z|."


@pytest.mark.parametrize(
    ("here", "chance", "said"),
    [((0.1, 0.0, 0.4), (0.3, 0.03, 0.73), "The test names 0.10 suspicious segments a slice, 0.30 a slice where nothing "
      "was lost. So a suspicious segment is no evidence of a change here."),
     ((0.4, 0.0, 1.6), (0.07, 0.0, 0.3), "The test names 0.40 suspicious segments a slice, 0.07 a slice where nothing "
      "was lost. That is not shown to be more than chance."),
     ((2.0, 1.0, 3.0), (0.3, 0.0, 0.7), "The test names 2.00 suspicious segments a slice, 0.30 a slice where nothing "
      "was lost. That is more than chance."),
     ((2.0, NAN, NAN), (0.3, 0.0, 0.7), "The test names 2.00 suspicious segments a slice, 0.30 a slice where nothing "
      "was lost. Patients are too few, or too alike, to say whether that is more than chance."),
     ((0.0, NAN, NAN), (0.0, NAN, NAN), "The test names no segment suspicious, neither here nor where nothing was "
      "lost."),
     ((0.0, NAN, NAN), (0.3, 0.0, 0.7), "The test names no segment suspicious, 0.30 a slice where nothing was lost.")],
)  # fmt: skip
def test_suspicious_segments_are_held_against_those_of_lesion_free_scans(here, chance, said):
    ends = ("", ": low", ": high")
    row = {f"{name}{end}": value for name, values in (("suspicious a slice", here), ("lesion-free scans", chance))
           for end, value in zip(ends, values)}  # fmt: skip
    table = pd.DataFrame([{"run": "a"} | row])
    assert changes.named(table, "a", True, True) == said
    assert changes.named(table, "a", False, True).startswith("One patient gives no null")
    assert changes.named(table, "a", True, False).endswith("slice." if here[0] else "suspicious.")


def calibration(control="perfect", low=0.01) -> pd.DataFrame:
    rows = [(control, "null", 0.049), (control, "naive", 0.17), (control, "naive", 0.3), ("mse", "null", 0.055)]
    rows += [("mse", "null", 0.064)] * (control != "mse")
    table = pd.DataFrame(rows, columns=["denoiser", "test", "p < .05"]).assign(**{"p < .05: low": low})
    return table.assign(**{"p < .05: high": 0.1, "p < .005: low": 0.001, "p < .005: high": 0.01})


def test_false_alarms_are_told_as_ranges_of_both_denoisers():
    said = (
        "With the perfect denoiser the test calls 4.9 % of the lesion-free segments changed and a naive test 17 to 30 %"
    )
    assert changes.calibrated(calibration(), "mse", "MSE") == f"{said}; with MSE the test calls 5.5 to 6.4 %."
    alone = "With MSE the test calls 4.9 to 5.5 % of the lesion-free segments changed and a naive test 17 to 30 %."
    assert changes.calibrated(calibration("mse"), "mse", "MSE") == alone
    assert changes.right(calibration(), "mse") == "Over patients p was not shown to be wrong."
    assert "shown to be wrong for some" in changes.right(calibration(low=0.06), "mse")
    assert changes.right(calibration(low=NAN), "mse").startswith("Patients are too few")
    people = pd.DataFrame({"source": "ldct", "patient": ["a", "a", "b", "b"], "p": [0.01, 0.2, 0.3, 0.4]})
    assert changes.in_patients(people) == "0 to 50 %"


def test_what_is_kept_has_who_keeps_most_on_top():
    rows = [
        (name, quantity, value, NAN, NAN) for name, value in (("a", 0.5), ("b", 0.9)) for quantity in structures.KEPT
    ]
    figure = structures.kept(
        pd.DataFrame(rows, columns=["method", "quantity", "mean", "low", "high"]), dict(a="A", b="B")
    )
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["B", "A"]


def one_suspect(**changed) -> dict:
    image, mask = np.zeros((32, 32), np.float32), np.zeros((32, 32), bool)
    mask[10:20, 10:20] = True
    return {"ldct": image, "output": image + mask, "ndct": image, "segment": mask, "lesions": mask.astype(int),
            "mean_hu": 40.0, "anatomy": "abdomen", "patient": "P1", "pixel_mm": 0.7, "before_hu": -3.0,
            "change_hu": 1.0} | changed  # fmt: skip


def test_a_suspect_shows_window_scale_lesion_and_difference():
    figure = changes.suspects([one_suspect()])
    words = [text.get_text() for axis in figure.axes for text in axis.texts]
    assert "5 mm" in words and any("C 50 W 400 HU" in word and "contrast −3.0 HU" in word for word in words)
    circles = [len([p for p in axis.patches if isinstance(p, plt.Circle)]) for axis in figure.axes[:4]]
    assert circles == [1, 1, 1, 1] and titles(figure)[-1] == "" and figure.axes[3].get_title() == "output − LDCT"
    blind = changes.suspects([one_suspect(lesions=None, pixel_mm=NAN)])
    assert not any("mm" in text.get_text() for axis in blind.axes for text in axis.texts)


def test_a_circle_goes_round_every_lesion():
    axis = plt.figure().subplots()
    masks = np.zeros((40, 40), int)
    masks[5:8, 5:8], masks[20:31, 20:31] = 1, 4
    plots.circle(axis, masks)
    small, large = axis.patches
    assert tuple(small.center) == (6, 6) and tuple(large.center) == (25, 25) and small.radius < large.radius == 9
    plots.circle(axis, None)
    plots.circle(axis, np.zeros((4, 4)))
    assert len(axis.patches) == 2


def test_heads_are_those_of_columns_that_there_are():
    table = pd.DataFrame({"run": ["a"], "lesion-free scans": [0.1]})
    assert list(changes.of(table, changes.ALL).values()) == ["run", "in lesion-free scans"]


def test_maps_of_every_model_stand_beside_the_true_one():
    stored = {name: np.full((3, 3, 16, 16), 0.5, np.float32) for name in ("n2q", "unet")}
    figure = quality.maps(stored, [0.05, 0.25, 0.75], str.upper, targets.get("ssim"), (40, 300), 0.7)
    assert [axis.get_title() for axis in figure.axes[1:4]] == ["true, mean 0.50", "N2Q, 0.50", "UNET, 0.50"]
    assert figure.axes[-1].get_ylabel() == "SSIM (brighter is better)"
    other = quality.examples(stored["n2q"], [0.05, 0.25, 0.75], targets.get("rmse"), (40, 300), NAN)
    assert other.axes[0].get_title() == "dose 5 %" and "darker is better" in other.axes[-2].get_ylabel()


def test_a_dose_that_is_never_named_is_a_column_of_zeros():
    table = pd.DataFrame({"model": "n2q", "dose": [0.05, 0.75], "predicted": [0.05, 0.05], "images": [4, 4]})
    figure = quality.confusion(table, ["n2q"], [0.05, 0.75], str.upper)
    assert [text.get_text() for text in figure.axes[0].texts] == ["1.00", "0.00", "1.00", "0.00"]


def test_a_term_of_the_loss_has_its_guess():
    history = pd.DataFrame({"step": [1, 2], "map": [1.0, 0.5], "dose": [1.6, 1.5]})
    figure = quality.curves(history, {"map": "map, MSE", "dose": "dose"}, {"dose": 1.6})
    assert titles(figure) == ["map, MSE", "dose"] and [len(axis.texts) for axis in figure.axes] == [0, 1]
