"""What 05 sums up over patients, from tables whose answers are known, and the sentences and figures made of it."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from ldct_utils.invariance import controls, drawn, evidence, images, known, models, optimise, summary
from ldct_utils.report import plots
from ldct_utils.report.drawings import invariances as drawings

NULL = {"search": "null, 8 pixels"}


@pytest.fixture
def changes():
    """The search changes the input twice as much as a repeated scan does and the output half as much, in 6 patients."""
    rows = []
    for method, factor in (("search", (2.0, 0.5)), (NULL["search"], (1.0, 1.0))):
        for patient in range(6):
            in_hu, out_hu = (f * (10 + patient) for f in factor)
            rows.append({"method": method, "patient": patient, "anatomy": "head", "in_hu": in_hu, "out_hu": out_hu,
                         "low_in_hu": in_hu / 10, "low_out_hu": out_hu / 10, "pix_md": 0.1})  # fmt: skip
    return pd.DataFrame(rows)


def counted(*rows):
    names = ("method", "tested", "changed", "hidden")
    return pd.DataFrame([dict(zip(names, row)) for row in rows])


def test_changes_are_told_as_multiples_of_a_repeated_scan(changes):
    found = summary.against_null(changes, NULL, draws=200)
    assert found.ratio.tolist() == pytest.approx([2, 0.5, 2, 0.5]) and found.low.tolist() == pytest.approx([2, 0.5] * 2)
    assert found.hu[0] == pytest.approx(25) and found.null_hu[0] == pytest.approx(12.5)
    numbers = summary.as_numbers(found, {"in": 0.05}, {"lesion": counted(("search", 10, 3, 1), ("null", 5, 0, 0))})
    assert numbers == {"own_in_beyond_level": 0.05, "search_in_over_null": pytest.approx(2),
                       "search_out_over_null": pytest.approx(0.5), "search_lesions_tested": 10,
                       "search_lesions_changed": 3, "search_lesions_hidden": 1}  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "No lesion lies whole in these images."),
        ([("search", 1, 0, 0)],
         "The plain search changed none of 1 lesion by more than a repeated scan explains, so hiding was not tested."),
        ([("search", 9, 0, 0), ("aimed", 9, 0, 0)],
         "No search changed any of 9 lesions by more than a repeated scan explains, so hiding was not tested."),
        ([("search", 9, 3, 0), ("aimed", 9, 0, 0)],
         "The plain search changed 3 of 9 lesions by more than a repeated scan explains, of which the network hides "
         "none; the aimed search changed none of 9."),
        ([("search", 9, 9, 9)],
         "The plain search changed 9 of 9 lesions by more than a repeated scan explains, of which the network hides "
         "9."),
    ],
)  # fmt: skip
def test_what_is_hidden_is_said_in_one_sentence(rows, said):
    told = counted(*rows, ("generator", 4, 1, 1))
    assert summary.hiding(told, ("search", "aimed")) == said


@pytest.mark.parametrize(
    ("changed", "of_null", "said"),
    [
        (2, 500, "The plain search changed 2 of 447 segments; by chance 22 would look changed, so nothing was found."),
        (30, 500, "The plain search changed 30 of 447 segments by more than a repeated scan explains, of which the "
         "network hides 1; by chance 22 would look changed."),
        (2, 10, "The plain search changed 2 of 447 segments by more than a repeated scan explains, of which the "
         "network hides 1; by chance 0.4 would look changed."),
        (0, 500, "The plain search changed none of 447 segments by more than a repeated scan explains, so hiding was "
         "not tested."),
    ],
)  # fmt: skip
def test_what_chance_alone_would_change_stands_beside_what_a_search_changed(changed, of_null, said):
    told = counted(("search", 447, changed, min(changed, 1)), (NULL["search"], 10_000, of_null, 5))
    assert summary.hiding(told, ("search",), "segment", NULL) == said


def test_what_repeated_scans_seem_to_hide_is_said_to_be_noise():
    told = summary.seeming(counted(("search", 9, 3, 3), (NULL["search"], 20, 4, 1), ("null, 4 pixels", 9, 1, 1)))
    assert told == "Noise alone makes 2 of 5 lesions that repeated scans changed look hidden."
    assert summary.seeming(counted(("search", 9, 3, 3), (NULL["search"], 20, 0, 0))) == ""


@pytest.mark.parametrize(
    ("ratios", "said"),
    [
        ([0.6, 0.8, 1.9], "less than a second scan does in 2 of 3 patients (0.6 to 0.8 times) and by as much or more "
         "in 1 (1.9 times)."),
        ([0.6, 0.6], "less than a second scan does in both patients (0.6 times)."),
        ([1.5], "as much as a second scan or more in the only patient (1.5 times)."),
    ],
)  # fmt: skip
def test_patients_in_whom_a_search_changed_less_than_a_second_scan_are_counted(ratios, said):
    assert summary.beside_scans(pd.Series(ratios)) == f"The plain search changed the input by {said}"


def test_a_search_that_shrank_away_found_nothing():
    falling = [40.0 * 0.9**i for i in range(100)]
    course = pd.concat(
        pd.DataFrame({"search": name, "iteration": range(100), "in_hu": values})
        for name, values in (("search", [40.0] + [20.0] * 99), ("aimed", falling))
    )
    zero = np.zeros((1, 4, 4))
    assert summary.outcome(course, "search", (zero + 20, zero), (zero + 4, zero)) == (
        "The plain search changes the input by 20.0 HU and the output by 4.00 HU."
    )
    told = "The aimed search found no change: its change shrank from 40 to 0.09 HU"
    assert summary.outcome(course, "aimed", (zero + 0.09, zero), (zero, zero)) == f"{told} and had not settled."
    still = course.assign(in_hu=course.in_hu.where(course.iteration < 50, 0.09))
    assert summary.outcome(still, "aimed", (zero + 0.09, zero), (zero, zero)) == f"{told}."
    both = ["search", "aimed"]
    assert summary.ended(course, both) == (
        "After 100 iterations the plain search had settled and the aimed search had not settled."
    )
    assert summary.ended(still, both) == "After 100 iterations the plain search and the aimed search had settled."
    first = course[course.iteration == 0]
    assert summary.ended(first, ["aimed"]) == "After 1 iteration the aimed search had not settled."


def test_ways_of_finding_inputs_are_explained():
    told = summary.explained(["search", "aimed", "VAE alone"])
    assert told == (
        "The plain search takes any change that the network ignores and the aimed search wants changes of anatomy."
    )
    table = pd.DataFrame({"quantity": ["input", "output"], "ratio": [1.06, 0.4], "low": [0.6, 0.2], "high": [1.7, 0.6]})
    assert summary.on_average(table.assign(method="search")) == (
        "On average it changed the input 1.1 [0.6, 1.7] times as much as a second scan does, and the output 0.40 "
        "[0.20, 0.60] times."
    )


def test_what_is_kept_of_each_lesion():
    contrasts = pd.DataFrame({"patient": [0, 0, 1], "lesion": [1, 1, 2], "anatomy": "head", "radius_mm": 4.0,
                              "contrast": "under 25 HU", "kept": [0.8, 1.0, 0.5]})  # fmt: skip
    assert summary.kept_by_lesion(contrasts)[["mean", "min", "max"]].to_numpy().ravel().tolist() == pytest.approx(
        [0.9, 0.8, 1.0, 0.5, 0.5, 0.5]
    )
    detection = pd.DataFrame({"patient": [0, 0, 1, 1], "lesion": [1, 1, 2, 2], "d_full": [5.0, 5, 8, 8]})
    detection = detection.assign(image=["x", "f(x)"] * 2, d_prime=[2.0, 1, 2, 2], d_npw=[2.0, 3, 2, 2])
    shares = summary.d_prime_by_lesion(detection)
    assert shares.share_cho.tolist() == [0.5, 1] and shares.share_npw.tolist() == [1.5, 1]
    kept = summary.kept(contrasts, detection)
    assert [kept[name].mean for name in ("contrast", "d_prime", "d_npw")] == pytest.approx([0.7, 0.75, 1.25])
    assert np.isnan(kept["contrast"].low)
    regions = pd.DataFrame({"patient": [0, 0, 1], "lesion": [1, 1, 2]})
    regions = regions.assign(method="search", changed=[True, False, True], hidden=[True, False, False])
    about = {"radius, mm": "3–5", "contrast": "under 25 HU"}
    counts = summary.by_kind(regions.assign(**about))
    assert counts[["patients", "images", "changed", "hidden"]].to_numpy().tolist() == [[2, 3, 2, 1]]
    beside = summary.exists_and_happens(regions.assign(**about), contrasts.assign(**about), detection, ["search"])
    assert beside["contrast kept"].tolist() == pytest.approx([0.7, 0.7]) and beside.n.tolist() == [2, 2]
    assert beside["exists, search"].iloc[0].startswith("2 of 3 changed, 1 of these hidden")


@pytest.fixture
def three_lesions():
    """Lesions of which 90, 20 and 60 % are kept, the second with a search that changed it and hid that."""
    contrasts = pd.DataFrame({"patient": [0, 0, 1, 2], "lesion": [1, 1, 2, 1], "anatomy": "head", "radius_mm": 4.0,
                              "contrast": "under 25 HU", "kept": [0.8, 1.0, 0.2, 0.6]})  # fmt: skip
    regions = pd.DataFrame({"method": "search", "patient": [0, 1], "lesion": [1, 2], "changed": [False, True]})
    return contrasts, regions.assign(hidden=regions.changed)


def test_each_lesion_stands_beside_what_a_search_could_find(three_lesions):
    contrasts, regions = three_lesions
    table = summary.by_lesion(contrasts, regions, ["search"], alpha=0.1)
    assert table["mean"].tolist() == pytest.approx([20, 60, 90]) and table.reach.tolist() == [True, False, False]
    assert table["max"].iloc[2] == pytest.approx(100)
    assert table.search.tolist() == ["changed, hidden", "not whole in the image", "not changed"]
    seen = summary.by_lesion(contrasts, regions.assign(hidden=False), ["search"], alpha=0.5)
    assert seen.search[0] == "changed, not hidden" and seen.reach.tolist() == [True, True, False]


def test_lesions_within_the_reach_of_a_search_are_counted_and_said(three_lesions):
    contrasts, _ = three_lesions
    assert summary.within_reach(contrasts, 0.1) == {"within_reach": 1, "lesions": 3}
    assert summary.within_reach(None, 0.1) == {} and summary.reachable({}, 0.1) == ""

    def said(found, every):
        return summary.reachable({"within_reach": found, "lesions": every}, 0.1)

    assert said(1, 3) == "Of 3 lesions, 1 is kept below 32 % (√α) and could be found by small changes."
    assert said(3, 3) == "Of 3 lesions, 3 are kept below 32 % (√α) and could be found by small changes."
    none = "the network keeps 32 % (√α) or more: no small change of one pays for a search."
    assert said(0, 3) == f"Of each of 3 lesions {none}" and said(0, 1) == f"Of the one lesion {none}"


def test_hidden_is_a_share_of_what_was_changed_and_not_tested_where_nothing_was():
    rows = counted(("search", 9, 3, 1), ("aimed", 9, 0, 0), (NULL["search"], 9, 1, 1))
    table = summary.shown(rows, {"search": "plain search", "aimed": "aimed search"})
    assert table.hidden.tolist() == ["1 of 3", "not tested", "1 of 1"]
    assert table.method.tolist() == ["plain search", "aimed search", "repeated scan (8 pixels)"]
    assert rows.hidden.tolist() == [1, 0, 1], "the stored counts stay numbers"


def test_the_figure_of_kept_contrast_shows_where_a_search_begins_to_find(three_lesions):
    seen = pd.DataFrame({"d_full": [5.0, 8], "share_cho": [0.9, 1], "share_npw": [1.0, 1.1]})
    left = drawings.kept(summary.kept_by_lesion(three_lesions[0]), seen, 0.32).axes[0]
    assert any(np.allclose(line.get_ydata(), 0.32) for line in left.get_lines())


def test_x_itself_among_repeated_scans():
    own = pd.DataFrame({"patient": [0, 0, 1], "p_in": [0.01, 0.5, 0.5], "p_out": [0.05, 0.04, 0.9]})
    assert summary.beyond(own, 0.05) == {"in": pytest.approx(0.25), "out": pytest.approx(0.5)}


def test_images_come_back_as_they_went_in():
    hu = np.random.default_rng(0).normal(0, 100, (2, 3, 4, 4)).astype(np.float32)
    assert images.batch(hu).shape == (6, 1, 4, 4)
    assert images.in_hu(images.batch(hu)).reshape(hu.shape) == pytest.approx(hu, abs=1e-3)
    assert images.in_hu(images.batch(hu).reshape(2, 3, 4, 4)) == pytest.approx(hu, abs=1e-3)
    assert images.denoiser(controls.Constant(40), at_once=4)(hu) == pytest.approx(np.full_like(hu, 40), abs=1e-3)


def test_a_search_that_was_stopped_goes_on_and_its_course_is_a_table(tmp_path):
    crops = [SimpleNamespace(patient=f"P{n}", row=n, anatomy="head") for n in range(2)]
    x = images.batch(np.zeros((2, 8, 8)))

    def searches():
        return {"search": optimise.Search(controls.Identity(), x, optimise_distance(), 0.1, 41.0, 1e-2)}

    whole, first, second = searches(), searches(), searches()
    optimise.finish(whole, 6, tmp_path, "whole", 1e9)
    optimise.finish(first, 4, tmp_path / "parts", "parts", 1e9)
    optimise.finish(second, 6, tmp_path / "parts", "parts", 1e9)
    assert torch.equal(whole["search"].x_inv, second["search"].x_inv)
    course = optimise.course(second, crops)
    assert len(course) == 12 and course.patient.tolist()[:2] == ["P0", "P1"]
    assert course[course.iteration == 0].in_hu.mean() == pytest.approx(41, rel=0.2)


def optimise_distance():
    from ldct_utils.invariance import distances

    return distances.build("mse")


def test_a_model_of_another_denoiser_is_refused(tmp_path):
    run = SimpleNamespace(name="vae-0", folder=tmp_path, numbers={"denoiser": "abc", "updates_of_f": 600})
    with pytest.raises(
        ValueError, match=r"vae vae-0 was trained for the denoiser \(run, updates\) \('abc', 600\), not"
    ):
        models.of_denoiser(run, "vae", ("abc", 300))
    with pytest.raises(ValueError, match="generator vae-0 was trained for"):
        drawn.generated(run, ("other", 600), np.zeros((1, 8, 8)), 2)


def test_controls_that_come_out_wrong_are_named():
    rows = {"identity": (40, 30, 30), "constant": (40, 200, 0.0), "blur": (40, 50, 1)}
    columns = ["start, HU", "in, HU", "out, HU"]
    known = pd.DataFrame.from_dict(rows, orient="index", columns=columns).assign(**{"power where gain < √α": 1.0})
    controls.check(known, 0.1, 299)
    with pytest.raises(AssertionError, match="the identity was found invariant"):
        controls.check(known, 0.1, 300)
    with pytest.raises(AssertionError, match="a constant moved"):
        controls.check(known.assign(**{"out, HU": 1.0}), 0.1, 4)


def test_lesions_are_circled_where_they_are_and_the_scale_is_in_mm():
    figure, axis = plots.plt.subplots()
    mask = np.zeros((2, 40, 40), bool)
    mask[0, 10:15, 20:25] = True  # the second lesion lies elsewhere
    plots.show(axis, np.zeros((40, 40)), 0, 100)
    plots.circle(axis, mask)
    plots.scale_bar(axis, 0.5)
    (circle,) = [p for p in axis.patches if isinstance(p, plots.plt.Circle)]
    assert tuple(circle.center) == (22, 12) and circle.radius == pytest.approx(6)
    assert np.ptp(axis.lines[0].get_xdata()) == pytest.approx(10)  # 5 mm, which fit
    plots.circle(axis, None)
    plots.plt.close(figure)


def test_the_figures_show_every_method_and_no_empty_one(changes):
    case = SimpleNamespace(patient="P1", anatomy="head", pixel_mm=0.5, inside=np.ones((1, 8, 8), bool))
    rows, stack = drawings.rows_of([case, case]), np.zeros((2, 8, 8))
    assert [row.index for row in rows] == [0]
    assert len(drawings.changed_inputs(rows, *[stack] * 4).axes) == 7
    assert len(drawings.draws(rows, {"input": stack[:, 2:6, 2:6]}, stack[:, 2:6, 2:6]).axes) == 3
    labels = {"search": "plain search", "aimed": "aimed search"}
    regions = pd.DataFrame({"method": ["search", NULL["search"]], "change_in": 1.0, "change_out": 0.5,
                            "changed": [True, False], "hidden": [True, False]})  # fmt: skip
    assert [a.get_title() for a in drawings.lesion_changes(regions, NULL, labels).axes] == ["plain search"]
    figure = drawings.beside_repeated_scan(summary.ratios(changes, NULL), labels)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["plain search", "damped as noise is"]
    assert [drawings._rounded_up(value) for value in (0.0, 0.21, 84.0, 90.0)] == pytest.approx([0.01, 0.3, 90, 90])
    assert all(len(alt) <= 200 for alt in drawings.ALT.values())
    assert evidence.CONTRASTS and plots.plt.close("all") is None


# ---- what 05a draws ----
def test_draws_that_are_off_by_3_hu_are_said_to_be():
    x = np.zeros((2, 4, 4), np.float32)
    made = np.stack([x, x + 1, x + 3, x - 3], axis=1)
    found = drawn.changes(made, 2 * made, 2 * x, x - 4)
    assert found["in, draws, HU"] == pytest.approx(3) and found["out, draws, HU"] == pytest.approx(6)
    assert found["SD over draws, HU"] == pytest.approx(np.sqrt(18)) and found["LDCT from NDCT, HU"] == pytest.approx(4)
    assert found["in, reconstruction, HU"] == pytest.approx(1) and found["f(x) from x, HU"] == 0


def test_patches_of_soft_tissue_with_structure_come_first():
    flat, edge, bone = np.full((8, 8), 50.0), np.full((8, 8), 50.0), np.full((8, 8), 1000.0)
    edge[:, 4:] = 90
    bone[:, 4:] = 1500
    patches = np.stack([bone, flat, edge])
    assert drawn.with_structure(patches, 3).tolist() == [2, 1, 0]
    (row,) = drawings.tissue_rows(patches, [2])
    assert row.index == 2 and row.window == (70, 100) and row.pixel_mm is None


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (("gan", None, []), "model is generator, vae, flow, not 'gan'"),
        (("flow", None, []), "vae is the run folder of a VAE and belongs to model=flow"),
        (("vae", "study/05a/vae", []), "this is vae"),
        (("flow", "study/05a/vae", [200, 0]), r"at least 1, not \[200, 0\]"),
    ],
)
def test_what_cannot_be_trained_is_refused(given, complaint):
    models.check("flow", "study/05a/vae", [200, 300])
    with pytest.raises(ValueError, match=complaint):
        models.check(*given)


def test_controls_whose_draws_vary_where_they_must_not_are_named():
    rows = [("mean filter", 1.0), ("identity", 1.0), ("constant", 40.0)]
    answers = pd.DataFrame(rows, columns=["control", "found"]).assign(quantity="SD over draws, waves that pass")
    known.check(answers)
    with pytest.raises(AssertionError, match="draws vary in what f shows"):
        known.check(answers.assign(found=[9.0, 1.0, 40.0]))
    with pytest.raises(AssertionError, match="do not vary"):
        known.check(answers.assign(found=[1.0, 1.0, 3.0]))


def test_a_generator_that_gives_the_patch_back_is_examined():
    x = images.batch(np.random.default_rng(0).normal(0, 20, (2, 32, 32)))
    net = models.KINDS["generator"]().eval()
    made = drawn.held_out("generator", net, controls.Identity(), x, 2)
    assert made.shape == (2, 4, 32, 32) and made[:, 0] == pytest.approx(made[:, 1])
    x_hu = images.in_hu(x)
    found = drawn.quantities("generator", net, controls.Identity(), x, made, made, x_hu, x_hu, 2)
    assert list(found)[-1] == "collapse (0: z is ignored)" and "in, reconstruction, HU" not in found
    assert found["in, draws, HU"] == pytest.approx(found["out, draws, HU"])
