"""The figures of the notebooks: what each draws of the tables and images it is given."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from ldct_utils.report import plots
from ldct_utils.report.drawings import slices, training


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def image(value=0.0):
    return np.full((40, 50), value, np.float32)


def texts(figure):
    return [t.get_text() for axis in figure.axes for t in (*axis.texts, axis.title)]


def test_every_panel_has_its_lesions_circled_and_a_row_its_window_scale_and_difference():
    lesions = np.zeros((40, 50), np.uint8)
    lesions[10:15, 20:25], lesions[30, 5] = 1, 2
    line = slices.Line("head, P1", {"LDCT": image(), "NDCT": image(5)}, "head", lesions, 0.5,
                       ("LDCT − NDCT", image(-5)), {"LDCT": "error 5.0 HU"})  # fmt: skip
    figure = slices.grid([line])
    panels = figure.axes[:3]
    circles = [[p for p in axis.patches if isinstance(p, plt.Circle)] for axis in panels]
    assert [len(found) for found in circles] == [2, 2, 2]
    assert circles[0][0].center == (22, 12) and circles[0][0].radius == 5
    said = texts(figure)
    assert {"head, P1\nC 40 W 80 HU", "50 mm", "LDCT − NDCT", "error 5.0 HU"} <= set(said)
    (bar,) = panels[0].lines
    assert np.ptp(bar.get_xdata()) == 100  # 50 mm of 0.5 mm


def test_without_lesions_scale_or_difference_nothing_is_drawn_of_them():
    figure = slices.grid([slices.Line("chest, P1", {"LDCT": image()}, "chest", pixel_mm=np.nan)])
    assert len(figure.axes) == 1 and "50 mm" not in texts(figure)
    assert "C −600 W 1500 HU" in texts(figure)[0]
    assert not [p for p in figure.axes[0].patches if isinstance(p, plt.Circle)]


def test_panels_of_one_line_go_on_in_the_next_row():
    figure = slices.grid([slices.Line("head, P1", {str(i): image() for i in range(5)}, "head")], across=3)
    assert [axis.get_title() for axis in figure.axes] == ["0", "1", "2", "3", "4", ""]


def test_examples_tell_the_error_of_input_and_network_and_leave_out_a_truth_that_is_not_known():
    about = pd.DataFrame({"row": [1], "anatomy": ["head"], "patient": ["P1"], "pixel_mm": [0.7]})
    stored = np.stack([image(3), image(), image(np.nan), image(-2)])[None]
    (line,) = slices.examples(about, stored)
    assert list(line.images) == ["LDCT", "network", "NDCT"]
    assert line.below == {"LDCT": "error 3.0 HU", "network": "error 2.0 HU"}
    assert line.difference[0] == "network − NDCT" and (line.difference[1] == -2).all()


def history(**more):
    table = {"step": [0, 1, 2], "mse": [np.nan, 2.0, 1.0], "val_rmse_hu": [9.0, np.nan, 5.0]}
    return pd.DataFrame(table | more)


def test_loss_terms_have_one_name_and_colour_and_critics_a_panel_of_their_own():
    figure = training.curves(history(vgg=[np.nan, 400.0, 300.0], lam=[np.nan, 0.01, 0.01]))
    drawn = {line.get_label(): line for line in figure.axes[0].lines}
    assert list(drawn) == ["MSE", "λ · VGG"] and drawn["λ · VGG"].get_ydata()[1] == 4
    assert [drawn[name].get_color() for name in drawn] == [training.TERMS[name][1] for name in ("mse", "vgg")]
    assert len(figure.axes) == 2 and figure.axes[1].get_ylim()[0] == 0
    assert len(training.curves(history(critic=[0.0, -1.0, 1.0])).axes) == 3


def test_the_perceptual_share_is_drawn_in_percent_with_what_it_was_set_to():
    shares = {name: [np.nan, 0.5, 0.4] for name in training.DEFINITIONS}
    shares |= {f"val_{name}": [0.5, np.nan, 0.4] for name in shares} | {"val_gradient_influence": [0.7, np.nan, 0.6]}
    figure = training.perceptual_share(history(vgg=[np.nan, 4.0, 2.0], lam=[np.nan, 0.1, 0.1], **shares), 0.5)
    left, right = figure.axes
    drawn = {line.get_label(): line.get_ydata() for line in left.lines}
    assert list(drawn["ψ by Algorithm 2, training"]) == [50, 40] and list(drawn["gradient, validation"]) == [70, 60]
    assert drawn["set: 50 %"][0] == 50 and left.get_ylim()[0] < 0
    assert [line.get_label() for line in right.lines] == ["MSE", "VGG", "λ"]


def test_a_term_has_no_colour_of_another():
    assert len({colour for _, colour in training.TERMS.values()}) == len(training.TERMS) <= len(plots.COLOURS)
