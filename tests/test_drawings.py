"""The figures of the notebooks: what each draws of the tables and images it is given."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from ldct_utils.report import plots
from ldct_utils.report.drawings import methods, noise, perceptual, search, slices, spread, training, trainings


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
    assert tuple(circles[0][0].center) == (22, 12) and circles[0][0].radius == 6
    said = texts(figure)
    assert {"head, P1\nC 40 W 80 HU", "10 mm", "LDCT − NDCT", "error 5.0 HU"} <= set(said)
    (bar,) = panels[0].lines
    assert np.ptp(bar.get_xdata()) == 20  # 10 mm of 0.5 mm a pixel: no more than 40 % of the 25 mm
    assert panels[0].get_xlim() == (-0.5, 49.5)


def test_without_lesions_scale_or_difference_nothing_is_drawn_of_them():
    figure = slices.grid([slices.Line("chest, P1", {"LDCT": image()}, "chest", pixel_mm=np.nan)])
    assert len(figure.axes) == 1 and not any("mm" in said for said in texts(figure))
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


def test_a_network_and_a_depth_have_their_colours_and_psi_stands_at_the_lambda_that_was_used():
    lambdas = np.logspace(-4, 0, 5)
    depths = {"block1": (lambdas, None, 1e-2), "block2": (lambdas, 1 - lambdas, None)}
    figure = perceptual.psi_by_lambda([("left", depths), ("", {"trained": (lambdas, None, None)})], lambdas, 0.95, 0.1)
    left, right = figure.axes
    lines = {line.get_label(): line for line in left.lines}
    assert lines["block1"].get_color() is not lines["block2"].get_color() and "target ψ = 95 %" in lines
    (dot,) = [line for line in left.lines if line.get_marker() == "o"]
    assert dot.get_ydata() == pytest.approx(1) and list(lines["block1"].get_ydata()) == pytest.approx(100 * lambdas)
    assert right.lines[0].get_label() == "trained network"
    assert right.lines[0].get_color() == perceptual.NETWORKS["trained"][1]


def test_lambda_is_drawn_with_its_interval_and_the_gradient_in_percent():
    table = pd.DataFrame({"f": ["identity"] * 2, "layer": ["a", "b"], "x": [1e-3, 2e-3], "y": [1e-3, 3e-3],
                          "lambda_low": 5e-4, "lambda_high": 5e-3, "gradient influence": [0.96, 0.97]})  # fmt: skip
    left, right = perceptual.calibration(table, ["a", "b"], 0.95, "x", "y").axes
    assert list(left.lines[0].get_ydata()) == [1e-3, 2e-3] and len(left.collections) == 1
    assert list(right.lines[0].get_ydata()) == [96, 97] and right.get_ylim()[0] < 95


def test_a_stand_in_is_drawn_beside_the_band_of_the_reference():
    table = pd.DataFrame({"encoder": ["ImageNet", "random"], "level": ["a", "a"], "noise": [0.2, 0.4]})
    (axis,) = perceptual.answers(table, ["a", "b"], {"noise": "20 HU noise"}, "ImageNet", 1.5).axes
    assert axis.lines[0].get_color() == "black" and axis.lines[1].get_color() != "black" and len(axis.collections) == 1
    assert len(perceptual.answers(table[1:], ["a"], {"noise": "x"}, "ImageNet", 1.5).axes[0].collections) == 0


def test_a_trained_encoder_is_told_against_random_ones_and_the_reference_by_whether_it_is_here():
    names, levels = ["random (seed 0)", "random (seed 1)", "small", "small"], ["a", "a", "a", "b"]
    table = pd.DataFrame({"encoder": names, "level": levels, "lesions / noise": [0.1, 0.3, 0.6, 0.6]})
    told = perceptual.reading(table, "a", "ImageNet", "small")
    assert "reacts 3.00 times as much as a random VGG-19" in told and "not here" in told and "none at" not in told
    assert "with none at b" in perceptual.reading(table[:3].assign(level=[*"aba"]), "a", "ImageNet", "small")
    assert perceptual.reading(table[:2], "a", "ImageNet", "small") == "ImageNet's VGG-19 is not here."
    assert "reacts" not in perceptual.reading(table[["encoder", "level"]], "a", "ImageNet", "small")
    assert "grey band" in perceptual.reading(table.replace("random (seed 1)", "ImageNet"), "a", "ImageNet", "small")


def test_shares_of_features_are_drawn_in_percent_and_a_ratio_as_it_is():
    table = pd.DataFrame({"encoder": ["random"], "level": ["a"], "noise": [0.2], "lesions / noise": [0.1]})
    drawn = perceptual.answers(table, ["a"], {"noise": "noise", "lesions / noise": "ratio"}, "ImageNet", 1.5).axes
    assert [axis.lines[0].get_ydata()[0] for axis in drawn] == [20, 0.1]
    assert [axis.get_ylabel()[:5] for axis in drawn] == ["relat", "ratio"]


def test_a_histogram_has_the_share_of_pixels_a_hu_and_a_spectrum_its_own_mean():
    figure = noise.histogram({"LDCT": np.array([1, 3])}, np.array([-1024, 0, 8]))
    assert list(figure.axes[1].patches[0].get_data().values) == pytest.approx([25 / 1024, 75 / 8])
    (axis,) = noise.spectra([0.1, 0.2], {"this": np.array([1.0, 3.0])}, {"Mayo": (2.0, 2.0)}, "lp/mm").axes
    assert [list(line.get_ydata()) for line in axis.lines[:2]] == [[0.5, 1.5], [1, 1]]


def test_a_patch_is_shown_with_the_lesion_and_error_of_its_place(tiny_cohort):
    from ldct_utils import cohorts

    cohort = cohorts.load(tiny_cohort)
    place = pd.Series({"row": 1, "y": 10, "x": 20, "patient": "P001"})
    ndct = np.asarray(cohort.ndct[1, 10:26, 20:36], np.float32)
    line = slices.of_patch(cohort, place, 16, {"trained network": ndct + 4})
    assert (line.images["NDCT"] == ndct).all() and line.below == {"trained network": "error 4.0 HU"}
    assert line.difference[0] == "trained network − NDCT" and line.pixel_mm == 0.75


def test_a_method_of_one_loss_has_the_colour_of_the_loss_and_no_other_has_it():
    found = trainings.colours(["vgg · a", "mse", "vgg · b", "l1"])
    assert found["mse"] == training.TERMS["mse"][1] and found["l1"] == training.TERMS["l1"][1]
    assert len(set(found.values())) == 4


def curves():
    rows = [
        ("mse", m, step, seed, 2.0 - step - 0.1 * seed)
        for m in ("mse", "vgg · a")
        for step in (0, 1)
        for seed in (0, 1)
    ]
    return pd.DataFrame(rows, columns=["name", "method", "step", "seed", "value"])


def test_losses_begin_at_one_and_metrics_have_the_range_of_seeds_and_controls():
    names = {"mse": "MSE", "vgg · a": "MSE + VGG (a)"}
    (axis,) = trainings.losses(curves(), {"mse": "MSE"}, names).axes
    assert [line.get_ydata()[0] for line in axis.lines] == [1, 1] and axis.lines[0].get_label() == "MSE"
    controls = pd.DataFrame({"name": ["mse"], "control": ["LDCT"], "value": [0.5]})
    axis = trainings.metrics(curves(), controls, {"mse": ("PSNR ↑", "dB")}, names).axes[0]
    assert len(axis.collections) == 2 and axis.lines[-1].get_ydata()[0] == 0.5 and axis.get_title() == "PSNR ↑"
    assert not axis.texts
    figure = trainings.metrics(curves(), controls.assign(value=50.0), {"mse": ("PSNR ↑", "dB")}, names)
    assert len(figure.axes) == 1 and [text.get_text() for text in figure.axes[0].texts] == ["▴ LDCT: 50.0"]
    assert "LDCT" not in [text.get_text() for text in figure.legends[0].get_texts()]  # it is a number, and no line


def test_tables_in_colour_name_their_rows_and_columns_and_hold_true_minus_signs():
    table = pd.DataFrame([[-0.5, 1.0]], index=["mse"], columns=["psnr", "ssim"])
    labels = {"mse": "MSE", "psnr": "PSNR", "ssim": "SSIM"}
    axis, bar = trainings.agreement({"Of curves": table}, labels).axes
    assert bar.get_ylim() == (-1, 1)
    assert [t.get_text() for t in axis.texts] == ["−0.50", "1.00"] and axis.get_title() == "Of curves"
    assert [t.get_text() for t in axis.get_yticklabels()] == ["MSE"]
    axis = trainings.picks(np.array([[0, 0.5], [np.nan, 0]]), ["a", "b"]).axes[0]
    assert [t.get_text() for t in axis.texts] == ["0", "50", "0"]


def test_errors_of_networks_stand_below_their_images_on_one_scale(tiny_cohort):
    from ldct_utils import cohorts

    cohort = cohorts.load(tiny_cohort)
    ndct = np.asarray(cohort.ndct[0], np.float32)
    above, below = slices.errors(cohort, 0, {"LDCT": ndct + 30, "MSE": ndct - 10})
    assert list(above.images) == ["LDCT", "MSE", "NDCT"] and above.below["MSE"] == "error 10.0 HU"
    assert (below.images["LDCT"] == 30).all() and below.differences
    figure = slices.grid([above, below])
    assert any("±30 HU" in text for text in texts(figure))
    assert figure.axes[3].get_images()[0].get_clim() == figure.axes[4].get_images()[0].get_clim() == (-30, 30)


def test_a_group_of_values_has_a_dot_for_each_and_a_bar_at_its_mean():
    table = pd.DataFrame({"of": ["a", "a", "b"], "score": [1.0, 3.0, np.nan]})
    axis = spread.dots(table, "of", "score", "score (lower is better)").axes[0]
    assert sorted(axis.lines[0].get_xdata()) == [1, 3] and list(axis.lines[1].get_xdata()) == [2, 2]
    assert [t.get_text() for t in axis.get_yticklabels()] == ["a", "b"] and axis.get_xlim()[0] <= 0
    axis = spread.dots(table.assign(part=["head", "chest", "head"]), "of", "score", "score", "part").axes[0]
    assert [line.get_xdata().tolist() for line in axis.lines[:2]] == [[1], [3]]
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["head", "chest"]


def test_a_search_shows_chance_proposals_and_failures_and_circles_the_best():
    trials = pd.DataFrame({"trial": [1, 2, 3], "score": [0.5, np.nan, 0.7], "best": [0.5, 0.5, 0.7],
                           "lr": [1e-4, 1e-3, 1e-2], "failed": ["", "diverged", ""]})  # fmt: skip
    drawn = {line.get_label(): line for line in search.history(trials, "score", 1, "SSIM").axes[0].lines}
    assert list(drawn["drawn from the priors"].get_xdata()) == [1]
    assert list(drawn["expected improvement"].get_xdata()) == [3] and list(drawn["failed"].get_xdata()) == [2]
    space = {"lr": {"low": 1e-5, "high": 1e-1, "log": True, "int": False}}
    axis = search.over_parameters(trials.dropna(subset="score"), "score", space, trials.loc[2], "SSIM").axes[0]
    assert axis.get_xscale() == "log" and list(axis.lines[0].get_xdata()) == [1e-2]
    bars = search.importance(pd.DataFrame({"parameter": ["lr", "eps"], "share": [0.8, 0.2]})).axes[0].patches
    assert sorted(bar.get_width() for bar in bars) == [20, 80]


# ---- methods beside one another ----
def test_controls_stand_grey_below_the_networks():
    means = {"control": 0.5, "one": 0.8, "two": 0.9}
    rows = [{"denoiser": name, "quantity": q, "mean": mean} for q in ("a", "b") for name, mean in means.items()]
    table = pd.DataFrame(rows).assign(low=0.4, high=1.0)
    figure = methods.shares_kept(table, ["two", "one"], {"a": "contrast", "b": "d′"}, ["control"])
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["two", "one", "control"]
    for axis in figure.axes:
        networks, controls = (container.lines[0] for container in axis.containers)
        assert [*networks.get_xdata()] == pytest.approx([90, 80]) and networks.get_color() == "black"
        assert [*controls.get_xdata()] == [50] and [*controls.get_ydata()] == [2]
        assert controls.get_color() != networks.get_color()
    alone = methods.shares_kept(table, ["one"], {"a": "contrast"})  # without controls
    assert [label.get_text() for label in alone.axes[0].get_yticklabels()] == ["one"]
