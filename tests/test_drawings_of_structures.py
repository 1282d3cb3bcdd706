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
    figure = structures.errors(pd.DataFrame(rows, columns=names), {"ndct": "NDCT"}, {"mse": "MSE"})
    assert titles(figure) == list(structures.KINDS)[:2] and labels(figure) == ["against the NDCT"]
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["MSE"]


def test_other_metrics_than_the_main_ones_are_counted_in_the_legend():
    spans = pd.DataFrame([("lung", 0.1, sigma, name, 0.9, NAN, NAN) for sigma in (0.0, 5.0) for name in "abc"],
                         columns=["cohort", "q", "sigma", "metric", "tpf", "low", "high"])  # fmt: skip
    theory = pd.DataFrame({"cohort": "lung", "q": 0.1, "sigma": [0.0, 5.0], "theory": [1.0, 0.8]})
    figure = structures.removal(spans, theory, {"a": "A"})
    assert labels(figure) == ["other metrics (2)", "A", "PSNR, theory"] and titles(figure) == ["lung, q = 10 %"]


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
