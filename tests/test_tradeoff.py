"""Losses beside blends: the notebook's answers for made-up networks whose places on the plane are known."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from notebook_cells import execute
from scipy import ndimage

from ldct_utils import cohorts, metrics
from ldct_utils.ct import intensity
from ldct_utils.models import textbook
from ldct_utils.report.drawings import tradeoff as drawings
from ldct_utils.stats import blending, mixes
from ldct_utils.study import runs
from ldct_utils.task_based import resolution, tradeoff
from ldct_utils.training import checkpoints, filters, prediction, testing

NOTEBOOK = ROOT / "notebooks" / "14_tradeoff.py"
SIZE = 64


def patients(count, seed=0):
    """Discs with noise, each with a lesion, and the same without: a cohort in memory, all of it for testing."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE]
    clean = np.where(np.hypot(y - 32, x - 32) < 28, 40.0, -1000.0) * np.ones((count, 1, 1))
    masks = np.stack([np.hypot(y - 26 - i, x - 30) < 5 for i in range(count)]).astype(np.uint8)
    masks[:, 44:48, 40:44] = 2  # three times as strong
    signal = np.rint((masks + (masks == 2)) * rng.uniform(-30, -10, (count, 1, 1)))
    noise = rng.normal(0, 10, (2, *clean.shape))
    absent = {"absent_truth": clean, "absent_ndct": clean + noise[0], "absent_ldct": clean + noise.sum(0) + noise[0]}
    absent = {name: np.rint(image).astype(np.int16) for name, image in absent.items()}
    present = {name.removeprefix("absent_"): image + signal.astype(np.int16) for name, image in absent.items()}
    about = {"row": range(count), "patient": [f"P{i:03d}" for i in range(count)], "anatomy": "abdomen", "split": "test"}
    meta = {"parameters": {"dose": 0.25, "kernel": "B30"}}
    return SimpleNamespace(id="00000000", meta=meta, slices=pd.DataFrame(about | {"pixel_mm": 0.75}),
                           lesion_masks=masks, **present, **absent)  # fmt: skip


@pytest.fixture(scope="module")
def insert():
    return resolution.insert(300.0, 2)


@pytest.fixture
def study(outputs, monkeypatch, insert):
    """A function that writes a study of made-up networks, runs the notebook on it, and returns numbers and text."""

    def go(places, count=7, seeds=3, **values):
        """places: {loss: (share of the noise that is left, share of the lesion that is kept)}."""
        cohort = patients(count)
        monkeypatch.setattr(cohorts, "of", lambda *_: cohort)
        known = np.concatenate([cohort.ldct, cohort.absent_ldct]).astype(np.float32)
        clean = np.concatenate([cohort.absent_truth] * 2).astype(np.float32)
        signal = np.concatenate([cohort.ldct - cohort.absent_ldct, 0 * cohort.ldct]).astype(np.float32)

        def predict(network, hu, **_):
            if np.shape(hu)[1:] != known.shape[1:]:  # the insert
                return ndimage.gaussian_filter(np.asarray(hu, np.float32), (0, 0.5, 0.5))
            left, kept = network
            rows = [int(np.abs(known - one).mean((1, 2)).argmin()) for one in hu]
            lesion, noise = signal[rows], known[rows] - clean[rows] - signal[rows]
            return clean[rows] + left * noise + kept * lesion

        class Network(tuple):
            to = lambda self, *_, **__: self  # noqa: E731

        def network(folder):
            one = runs.Run(folder).params
            rng = np.random.default_rng([one["seed"], sorted(places).index(one["loss"])])
            return Network(np.array(places[one["loss"]]) + rng.normal(0, 0.002, 2))

        monkeypatch.setattr(prediction, "predict", predict)
        monkeypatch.setattr(checkpoints, "load_network", network)
        monkeypatch.setattr(resolution, "insert", lambda *_: insert)
        for number, (loss, seed) in enumerate((a, b) for a in places for b in range(seeds)):
            run = runs.Run(outputs / "toy" / "03_train" / f"{loss}-{seed}--{number:08x}", "03_train",
                           {"loss": loss, "seed": seed, "network": "unet", "source": "simulated"})  # fmt: skip
            run.folder.mkdir(parents=True)
            run.finish(cohort="00000000")
        said = []
        from ldct_utils.report import captions

        monkeypatch.setattr(captions, "text", said.append)
        monkeypatch.setattr(captions, "display", lambda *_: None)
        monkeypatch.setattr("ldct_utils.report.text", said.append)
        small = {
            "study": "toy",
            "runs": ["toy/03_train/*"],
            "draws": 200,
            "threads": 1,
            "device": "cpu",
            "tv_hu": [10.0],
        }
        space = execute(NOTEBOOK, small | values)
        result = json.loads((space["run"].folder / "result.json").read_text())
        return SimpleNamespace(**result["numbers"]["headline"], text="\n".join(said), space=space)

    return go


MSE = {"mse": (0.5, 0.6)}


def test_a_loss_above_the_curve_and_one_on_it_are_told_apart_and_the_controls_hold(study):
    on_it = 0.3 + 0.7 * 0.5, 0.3 + 0.7 * 0.6  # 30 % of the input
    found = study(MSE | {"l1": (on_it[0], on_it[1] + 0.1), "charbonnier": on_it})
    assert found.decided and found.better == ["L1"], found.answers
    assert found.answers == {"L1": blending.BETTER, "Charbonnier": blending.OPEN}
    assert found.more_kept["L1"][0] == pytest.approx(0.1, abs=0.01)
    assert found.kept["L1"][0] == pytest.approx(on_it[1] + 0.1, abs=0.01)
    assert found.gain_db["L1"][0] == pytest.approx(-20 * np.log10(on_it[0]), abs=0.4)
    assert re.match(r"Against the noise-free truth L1 keeps (9\.\d|10\.\d) percentage points more", found.answer)
    assert "1 of 2 losses lies above the blends. Against the NDCT " in found.answer
    assert [*found.controls.values()] == [blending.OPEN, blending.OPEN, blending.BETTER]
    assert found.reached and found.patients == 7 and found.seeds == {"L1": 3, "Charbonnier": 3, "MSE": 3}
    assert "3 of 3 controls came out" in found.text and "(wanted: 0.35)" in found.text
    assert found.gain_difference_db["L1"][0] == pytest.approx(20 * np.log10(0.5 / on_it[0]), abs=0.4)
    folder = found.space["run"].folder
    head, _, *lines = (folder / "losses.md").read_text().splitlines()
    assert [line.split("|")[1].strip() for line in lines[:3]] == ["L1", "Charbonnier", "MSE"] and head.count("|") == 8
    assert all((folder / f"{name}.png").is_file() for name in ("plane", "lesion"))


def test_a_loss_that_a_blend_beats_is_no_gain_whatever_it_keeps(study):
    found = study(MSE | {"l1": (0.9, 0.7)})
    assert found.decided and not found.better and found.answers == {"L1": blending.LESS}
    assert (
        found.answer.startswith("The one loss was not shown to be better")
        and "is better than the one loss." in found.answer
    )
    assert found.answers_other == {"L1": blending.LESS} and found.against_other == "NDCT"
    assert "Against the NDCT no loss was shown to be better than a blend." in found.answer


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"places": MSE}, "there is no loss to compare"),
        ({"places": MSE | {"l1": (0.6, 0.9)}, "count": 4}, "under 6 patients give no interval"),
        ({"places": MSE | {"l1": (0.6, 0.9)}, "seeds": 1}, "one training of the MSE network shows no spread"),
        ({"places": {"mse": (0.5, 1.05), "l1": (0.4, 1.2)}},
         "“control: MSE, told 50 % of what it removed” came out as"),
    ],
)  # fmt: skip
def test_what_cannot_be_decided_is_said_in_a_real_sentence(study, given, reason):
    found = study(**given)
    assert not found.decided and found.reasons[0].startswith(reason), found.reasons
    assert found.answer.startswith(f"Not decided: whether a loss is better than a blend, because {reason}")
    assert not re.search(r"\bnan\b|None", found.text) and not found.better


def test_the_reference_must_be_clear(study):
    with pytest.raises(ValueError, match="runs hold 0 methods with MSE alone"):
        study({"l1": (0.6, 0.9)}, seeds=1)
    with pytest.raises(ValueError, match="no run of the method 'unet'; there are"):
        study(MSE, seeds=1, reference="unet")


BLEND = "a blend of the MSE network with its input"


def rows(**answers):
    """Losses in ``comparisons``, one a keyword, with its answer."""
    table = pd.DataFrame({"answer": answers}).assign(more_kept=0.1, more_kept_low=0.05, more_kept_high=0.15)
    return table.assign(**{f"{name}_{end}": value for name in ("gain_difference", "kept_difference", "less_error")
                           for end, value in (("low", -0.1), ("high", 0.1))})  # fmt: skip


@pytest.mark.parametrize(
    ("answers", "said"),
    [({"a": blending.OPEN}, [f"The one loss was not shown to be better than {BLEND}."]),
     ({"a": blending.BETTER}, ["A keeps 10.0 percentage points more of a lesion's contrast than the" + BLEND[1:] +
                             " that has the same error (95 % interval 5.0 to 15.0)."]),
     ({"a": blending.BEYOND, "b": blending.BEYOND, "c": blending.WORSE},
      [f"None of 3 losses was shown to be better than {BLEND}.",
       "A, B have less error than any blend, but keep less.",
       "A blend of the MSE network is better than 1 of 3 losses."]),
     ({"a": blending.LESS, "b": blending.WORSE}, [f"None of 2 losses was shown to be better than {BLEND}.",
                                                  "A blend of the MSE network is better than all 2 losses."]),
     ({"a": blending.LESS}, [f"The one loss was not shown to be better than {BLEND}.",
                             "A blend of the MSE network is better than the one loss."])],
)  # fmt: skip
def test_the_answer_has_its_none_one_and_several(answers, said):
    assert tradeoff.said(rows(**answers), [], str.upper) == said


def test_several_better_losses_share_a_sentence_and_what_holds_elsewhere_is_said():
    table = rows(a=blending.BETTER, b=blending.BETTER, c=blending.OPEN).assign(more_kept=[0.034, 0.029, 0.0])

    def said(**other):
        return tradeoff.said(table, [], str.upper, "truth", other, "NDCT")

    first, only = said(a=blending.BETTER, b=blending.OPEN)
    assert first.startswith("Against the truth 2 of 3 losses keep 2.9 to 3.4 percentage points more of a lesion's")
    assert only == "Against the NDCT only A was shown to be better than a blend."
    assert said(a=blending.OPEN)[1] == "Against the NDCT no loss was shown to be better than a blend."
    both = said(a=blending.BETTER, b=blending.BETTER)[1]
    assert both == "Against the NDCT A and B were shown to be better than a blend, too."
    assert said(c=blending.BETTER)[1] == "Against the NDCT C was shown to be better than a blend."
    alike = tradeoff.said(table[:2].assign(more_kept=0.03), [], str.upper)
    assert alike[0].startswith("All 2 losses keep 3.0 percentage points more") and len(alike) == 1


def test_the_blend_with_the_least_error_removes_more_or_less_than_the_network_or_is_it():
    def curve(best):
        return SimpleNamespace(best=best, gain=lambda share: 5.2 if share == best else 4.7)

    more = tradeoff.least_said(curve(-0.28), "truth", curve(0.05), "NDCT")
    assert "removes 28 % more than the MSE network (5.2 dB, the network 4.7); against the NDCT" in more
    assert more.endswith("it removes 5 % less than the MSE network.")
    assert tradeoff.least_said(curve(0.001), "NDCT").startswith(
        "Against the NDCT the blend with the least error is that"
    )


def test_blur_explains_a_loss_unless_a_filter_as_sharp_keeps_more_than_the_network():
    known = SimpleNamespace(high=0.92)
    assert tradeoff.linear_said(0.997, known).endswith(
        "keep 99.7 %, so blur of strong edges does not explain the loss."
    )
    assert tradeoff.linear_said(0.9, known).endswith("keep 90.0 %.")
    assert tradeoff.linear_said(0.997, SimpleNamespace(high=np.nan)).endswith("keep 99.7 %.")


def stored(seed, keep, noise):
    """A stored test of a network: three mean squares a slice, and what it keeps of two lesions a patient."""
    rng = np.random.default_rng(seed)
    patients = np.repeat([f"P{n}" for n in range(6)], 2)
    squares = pd.DataFrame({"patient": patients, "row": range(12), "target": "truth", "before": 400.0,
                            "both": 400.0 * noise, "after": 400.0 * noise**2 + 20 + rng.uniform(0, 1, 12)})  # fmt: skip
    kept = pd.DataFrame({"patient": patients, "lesion": range(12), "kept": np.tile([keep + 0.05, keep - 0.05], 6),
                         "contrast_hu": np.tile([40.0, 20.0], 6)})  # fmt: skip
    return SimpleNamespace(table={"squares": squares, "kept": kept}.get)


def test_the_curve_of_mixes_runs_through_its_network_and_ends_in_the_input_and_is_drawn_with_each_network():
    listed = pd.DataFrame({"method": ["mse", "mse", "vgg"], "seed": [0, 1, 0], "loss": ["mse", "mse", "vgg"]})
    tests = [stored(0, 0.7, 0.4), stored(1, 0.7, 0.4), stored(2, 0.9, 0.45)]
    table = testing.kept_of_methods(tests, listed, 200)
    curve = mixes.of_base(tests, listed, table, 200).set_index("share")
    own = table.set_index("method").loc["mse"]
    assert curve["gain"][0.0] == pytest.approx(own["gain"]) and curve["kept"][0.0] == pytest.approx(0.7)
    assert curve["gain"][1.0] == pytest.approx(0) and curve["kept"][1.0] == 1
    assert curve["faint"][0.0] == pytest.approx(0.65) and curve["faint"][1.0] == 1  # of the fainter lesions alone
    assert curve["faint"][0.5] == pytest.approx((1 + 0.65) / 2)
    assert (curve["gain"].diff().dropna() < 0).all()  # each mix with more of the input has more error
    says = {"mse": "MSE", "vgg": "VGG"}
    plain = pd.DataFrame({"name": ["median", "median", "Gaussian"], "gain": [1.0, 2.0, 1.0], "kept": [0.9, 0.8, 0.1],
                          "faint": [0.85, 0.7, 0.9]})  # fmt: skip
    figure = drawings.beside_mixes(testing.in_percent(table), curve.reset_index(), plain, says)
    axis, faint = figure.axes
    drawn = {tuple(map(tuple, line.get_xydata())) for line in axis.lines}
    assert ((1.0, 90.0), (2.0, 80.0)) in drawn
    assert "median, by strength" in axis.get_legend_handles_labels()[1]
    labels = axis.get_legend_handles_labels()[1]
    assert "Gaussian, by strength" not in labels and "Gaussian (outside, at 1.0 dB)" in labels
    weak = {tuple(map(tuple, line.get_xydata())) for line in faint.lines}
    assert ((1.0, 85.0), (2.0, 70.0)) in weak and ((0.0, 100.0),) in weak
    assert {(r.gain, 100 * r.faint) for r in table.itertuples()} <= {line[0] for line in weak if len(line) == 1}
    assert "Gaussian, by strength" in [one.get_text() for one in figure.legends[0].get_texts()]  # seen on the right
    strong = testing.in_percent(table.assign(faint=np.nan))
    assert len(drawings.beside_mixes(strong, curve.reset_index(), plain, says).axes) == 1
    hollow = drawings.beside_mixes(testing.in_percent(table), curve.reset_index(), plain, says, ["vgg"]).axes[0]
    faces = {bars.get_label(): bars.lines[0].get_markerfacecolor() for bars in hollow.containers}
    assert faces["VGG"] == "white" != faces["MSE"]
    assert "hollow: not trained enough to be compared" in hollow.get_legend_handles_labels()[1]
    points = {tuple(np.round(line.get_xydata()[0], 6)) for line in axis.lines 
              if len(line.get_xydata()) == 1 and line.get_linestyle() != ":"}  # fmt: skip
    expected = {(0.0, 100.0), *(tuple(np.round([r.gain, 100 * r.kept], 6)) for r in table.itertuples())}
    assert points == expected
    assert {"MSE mixed with the LDCT", "LDCT", "VGG"} <= set(axis.get_legend_handles_labels()[1])
    lost = table.assign(gain=table["gain"].where(table["method"] != "vgg", -11.0), gain_low=-12.0)
    squashed = drawings.beside_mixes(testing.in_percent(lost), curve.reset_index(), plain, says).axes[0]
    assert "VGG (outside, at −11.0 dB)" in squashed.get_legend_handles_labels()[1]
    assert squashed.get_xlim()[0] == pytest.approx(drawings.LEFTMOST_DB - 0.3)
    assert axis.get_xlim()[0] > -1 and "VGG (outside" not in " ".join(axis.get_legend_handles_labels()[1])


def test_a_filter_lies_where_its_own_transfer_and_error_put_it_and_strength_moves_it():
    cohort = patients(4)
    cohort.rows = lambda split: np.arange(4)
    y, x = np.mgrid[:SIZE, :SIZE]
    small = (np.hypot(y - 26, x - 30) < 5) & (np.hypot(y - 26, x - 30) >= 2)  # the first patient's lesion is smaller
    cohort.lesion_masks[0][small] = 0
    for name in ("ldct", "ndct", "truth"):
        getattr(cohort, name)[0][small] = getattr(cohort, f"absent_{name}")[0][small]
    points = filters.points(cohort, "truth").set_index(["name", "strength"])
    present, truth = cohort.ldct.astype(np.float32), cohort.truth
    signal = present - cohort.absent_ldct
    passed = ndimage.gaussian_filter(signal, (0, 0.5, 0.5))  # linear: what is around a lesion does not matter
    each = []
    for one, given, masks in zip(passed, signal, cohort.lesion_masks):
        each += [(one * given)[masks == n].sum() / (given[masks == n] ** 2).sum() for n in (1, 2)]
    before, after = (
        ((x - truth) ** 2).mean((1, 2)) for x in (present, ndimage.gaussian_filter(present, (0, 0.5, 0.5)))
    )
    one = points.loc["Gaussian", 0.5]
    assert one.kept == pytest.approx(np.mean(each), abs=1e-4)
    about = testing.lesions_kept(cohort, cohort.rows("test"), lambda hu: ndimage.gaussian_filter(hu, (0, 0.5, 0.5)))[0]
    assert one.faint == pytest.approx(testing._mean(about[about["contrast_hu"] < intensity.FAINT_HU]), nan_ok=True)
    assert one.gain == pytest.approx((10 * np.log10(before / after)).mean(), abs=1e-3)
    for name in ("Gaussian", "total variation"):
        assert (points.loc[name]["kept"].diff().dropna() < 0).all(), name
    cohort.absent_ldct = None
    assert filters.points(cohort, "truth").empty


def test_filters_score_as_any_denoiser_does_in_the_domain_that_is_asked_for():
    cohort = patients(4)
    cohort.rows = lambda split: np.arange(4)
    median = textbook.filters()[textbook.MEDIAN]
    names, own = ["psnr", "ssim_window"], "window C 40 W 400"
    found = filters.scored({"median": median}, [], cohort, names, own)
    assert set(found["domain"]) == {own} and set(found["method"]) == {"median", textbook.TRUTH}
    assert set(found["seed"]) == {-1}
    values = found[
        (found["method"] == "median") & (found["reference"] == "truth") & (found["metric"] == "psnr")
    ].set_index("row")["value"]
    window = intensity.domain("window", level=40, width=400)
    expected = metrics.compute(pred=median(np.float32(cohort.ldct)), target=cohort.truth, names=["psnr"], domain=window)
    np.testing.assert_allclose(values.to_numpy(), expected["value"].to_numpy())
    own = found[found["method"] == "median"]
    assert own.equals(own.drop_duplicates()) and len(own) == 4 * 2 * 2  # slices, references, metrics
    truth = found[(found["method"] == textbook.TRUTH) & (found["metric"] == "psnr")]  # as good as the NDCT's own noise
    noise = metrics.compute(pred=cohort.truth, target=np.float32(cohort.ndct), names=["psnr"], domain=window)["value"]
    assert set(truth["reference"]) == {"ndct"}
    cohort.spread = lambda rows, most: rows[:most]
    few = filters.scored({"median": median}, [], cohort, names, "window C 40 W 400", most=2)
    assert set(few["row"]) == {0, 1} and few["value"].isin(found["value"]).all()
    np.testing.assert_allclose(truth["value"].to_numpy(), noise.to_numpy(), rtol=1e-6)


def test_runs_whose_cohort_is_gone_are_drawn_without_filters_and_it_is_said(monkeypatch, capsys):
    def gone(*trained):
        raise ValueError("its cohort is gone")

    monkeypatch.setattr(cohorts, "of", gone)
    assert list(filters.of_runs([], None, "truth")) == filters.COLUMNS and filters.of_runs([], None, "truth").empty
    assert filters.scored({"same": lambda hu: hu}, [], None, ["psnr"], "hu").empty
    assert "No filters stand beside the networks: its cohort is gone" in capsys.readouterr().out
    cohort = patients(2)
    cohort.rows = lambda split: np.arange(2)
    assert len(filters.of_runs([], cohort, "truth")) == len(filters.by_strength())


def test_pairs_and_neighbours_are_told_where_there_are_any():
    assert tradeoff.pairs_said(0, 0, 1) == "" and "0 of 6 ordered pairs of 3 MSE" in tradeoff.pairs_said(0, 6, 3)
    alone, _ = tradeoff.example_said([92, 95, 97], "L1", 0, "P1")
    assert alone == "Of this lesion the MSE network keeps 92 % and L1 97 %."
    several, reading = tradeoff.example_said([92, 95, 97], "L1", 1, "P1")
    assert several.startswith("In this cut-out the MSE network keeps 92 % of the lesions' contrast")
    assert "what lies outside the circle is another lesion" in reading
    pile = {"signal": np.zeros((1, 64, 64)), "nearest": np.ones((1, 64, 64), int)}
    pile["signal"][0, 30:34, 30:34] = -10
    assert tradeoff.neighbours(pile, 1) == 0
    pile["nearest"][0, :, 40:], pile["signal"][0, 30:34, 42:45] = 2, 8
    pile["signal"][0, 5, 60] = 1  # rounding
    assert tradeoff.neighbours(pile, 1) == 1


def test_intervals_are_wide_enough_or_not_and_unknown_ones_are_said():
    table = rows(a=blending.OPEN)
    assert tradeoff.half_widths(table)["more_kept"] == pytest.approx(0.05)
    said = tradeoff.width_said(table, 0.35, 0.04)
    assert "The aim in dB was met: " in said and "±0.10 dB (wanted: 0.35). That in contrast was missed: ±10.0" in said
    assert tradeoff.width_said(table.assign(more_kept_low=np.nan), 0.35, 0.04) == "No interval could be given."
    assert tradeoff.half_widths(table[:0])["less_error"] is None
