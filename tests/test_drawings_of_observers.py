"""Drawings of what observers say: a loss has one colour, lesions lie where they are, panels hold what is given."""

import numpy as np
import pytest
from matplotlib import pyplot as plt

from ldct_utils.report import plots
from ldct_utils.report.drawings import crops, styles


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_a_loss_has_one_colour_in_every_figure_and_designs_that_would_look_alike_differ_by_markers():
    alone = styles.styles({"vgg · block3_conv2 · random": "MSE + VGG"})
    names = ["mse", *(f"vgg · block{level}_conv2 · random" for level in (1, 2, 3))]
    beside = styles.styles(dict(zip(names, ["MSE", "shallow", "deeper", "MSE + VGG"])))
    assert alone[names[3]]["color"] == beside[names[3]]["color"] == plots.loss_style(names[3])[0]
    assert beside["mse"]["label"] == "MSE" and beside["mse"]["color"] != alone[names[3]]["color"]
    assert len({(look["color"], look["marker"]) for look in beside.values()}) == 4
    assert styles.FBP["color"] not in {look["color"] for look in beside.values()}


def test_a_lesion_lies_where_its_signal_has_half_its_height():
    signals = np.zeros((2, 9, 9))
    signals[0, 1:3, 1:3], signals[0, 3, 3] = -20.0, -5.0  # dark, with a faint rim that is none of it
    signals[1, 6, 6] = 40.0
    mask = crops.lesion_mask(signals)
    assert (mask[1:3, 1:3] == 1).all() and mask[3, 3] == 0 and mask[6, 6] == 2 and (mask > 0).sum() == 5


def test_a_lesion_that_the_slice_meets_at_its_edge_only_is_circled_too():
    mask, apart = np.zeros((20, 20), int), np.zeros((20, 20))
    mask[2:5, 2:5], apart[1:6, 1:6], apart[10:13, 10:13], apart[17, 17] = 3, 9.0, -4.0, 50.0
    found = crops.changed(mask, apart)
    assert (found[:6, :6] == mask[:6, :6]).all() and (found[10:13, 10:13] == 4).all() and found[17, 17] == 0


@pytest.mark.parametrize(("images", "panels"), [(1, 4), (3, 8), (5, 12)])
def test_every_image_has_its_difference_below_it(images, panels):
    truth, lesions = np.zeros((9, 9)), np.eye(9)[None]
    figure = crops.compared(truth, {f"image {i}": truth + i for i in range(images)}, lesions, 0.75, (0, 100))
    axes = [axis for axis in figure.axes if axis.get_label() != "<colorbar>"]
    assert len(axes) == panels
    texts = [axis.get_title() for axis in axes]
    assert texts.count("error 0.0 HU") == 1 and f"error {images - 1}.0 HU" in texts
    assert sum(bool(axis.patches) for axis in axes) == 1 + 2 * images  # circled in every panel that shows something


def test_numbers_in_a_matrix_have_a_true_minus_and_zero_has_none():
    axis = plt.figure().add_subplot()
    plots.matrix(axis, np.array([[-0.5, -0.001, 12.0]]), "abc", ["x"])
    styles.true_minus(axis)
    assert [text.get_text() for text in axis.texts] == ["−0.50", "0.00", "12"]
