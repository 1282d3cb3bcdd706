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


def test_a_loss_has_one_colour_in_every_figure_and_its_designs_differ_by_markers():
    alone = styles.styles({"vgg · block3_conv2": "MSE + VGG"})
    beside = styles.styles({"mse": "MSE", "vgg · block3_conv2": "MSE + VGG", "vgg · block5_conv4": "deeper"})
    assert alone["vgg · block3_conv2"]["color"] == beside["vgg · block3_conv2"]["color"] == plots.COLOURS[1]
    assert beside["mse"]["color"] == plots.COLOURS[0] and beside["mse"]["label"] == "MSE"
    assert beside["vgg · block5_conv4"]["color"] == plots.COLOURS[1]
    assert len({look["marker"] for look in beside.values()}) == 3
    assert styles.FBP["color"] not in {look["color"] for look in styles.styles(dict.fromkeys("abcdefgh", "")).values()}


def test_a_lesion_lies_where_its_signal_has_half_its_height():
    signals = np.zeros((2, 9, 9))
    signals[0, 1:3, 1:3], signals[0, 3, 3] = -20.0, -5.0  # dark, with a faint rim that is none of it
    signals[1, 6, 6] = 40.0
    mask = crops.lesion_mask(signals)
    assert (mask[1:3, 1:3] == 1).all() and mask[3, 3] == 0 and mask[6, 6] == 2 and (mask > 0).sum() == 5


@pytest.mark.parametrize(("images", "panels"), [(1, 4), (3, 8), (5, 12)])
def test_every_image_has_its_difference_below_it(images, panels):
    truth, lesions = np.zeros((9, 9)), np.eye(9)[None]
    figure = crops.compared(truth, {f"image {i}": truth + i for i in range(images)}, lesions, 0.75, (0, 100))
    axes = [axis for axis in figure.axes if axis.get_label() != "<colorbar>"]
    assert len(axes) == panels
    texts = [axis.get_title() for axis in axes]
    assert texts.count("error 0.0 HU") == 1 and f"error {images - 1}.0 HU" in texts
    assert sum(bool(axis.patches) for axis in axes) == 1 + 2 * images  # circled in every panel that shows something
