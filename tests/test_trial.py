"""The trial of the observers: who always says better must fail, the honest must pass, each rule finds its own fault."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from ldct_utils.models import textbook
from ldct_utils.task_based import observers, panel, tasks, trial


def honest():
    """Rows of an observer without a fault in two tasks, at a tenth of the doses' errors."""
    rows = []
    for task, best in ((tasks.CEILING, 2.0), (tasks.FINE, 2.0)):
        for image, dose, d_prime in [
            (tasks.PLAIN, 0.1, 1.0), (tasks.PLAIN, 0.25, 1.5), (tasks.PLAIN, 1.0, 3.0), (textbook.BLUR, 0.25, 1.0),
            (tasks.ERASER, 0.25, 0.3), (tasks.TRUTH, 0.25, np.inf),
        ]:  # fmt: skip
            base = {"observer": "one", "task": task, "image": image, "dose": dose, "d_se": 0.1, "auc_se": 0.01}
            auc, gap = norm.cdf(d_prime / 2**0.5), d_prime - (1.0 if dose != 0.25 else 1.5)
            limit = norm.cdf(best * (dose / 0.25 / 2) ** 0.5)
            rows.append(base | {"zero": False, "d_prime": d_prime, "auc": auc, "chance": 0.5, "gap": gap,
                                "gap_se": 0.05, "best": limit})  # fmt: skip
            if image != tasks.TRUTH:
                rows.append(base | {"zero": True, "d_prime": 0.0, "auc": 0.51, "chance": 0.5, "gap": np.nan,
                                    "gap_se": np.nan, "best": 0.5})  # fmt: skip
    return pd.DataFrame(rows)


def broken(rows):
    found = trial.verdicts(rows)
    return list(found[found["fails"].eq(True)]["rule"])


def at(rows, image, task=tasks.FINE, zero=False):
    return (rows["image"] == image) & (rows["task"] == task) & (rows["zero"] == zero) & (rows["dose"] == 0.25)


def test_an_observer_without_a_fault_passes():
    assert broken(honest()) == [] and trial.believed(trial.verdicts(honest())) == ["one"]


@pytest.mark.parametrize(
    "rule, where, values",
    [
        (trial.NOTHING, {"image": textbook.BLUR, "zero": True}, {"auc": 0.56}),
        (trial.NOTHING, {"image": tasks.PLAIN, "zero": True}, {"auc": 0.44}),
        (trial.BEST, {"image": tasks.PLAIN}, {"auc": 0.97}),
        (trial.BLUR, {"image": textbook.BLUR}, {"gap": 0.4}),
        (trial.ERASER, {"image": tasks.ERASER}, {"gap": 0.0}),
        (trial.ERASER, {"image": tasks.ERASER}, {"gap": -0.1}),  # lower, but not shown to be
    ],
)
def test_each_fault_is_found_by_its_rule_alone(rule, where, values):
    rows = honest()
    for name, value in values.items():
        rows.loc[at(rows, **where), name] = value
    assert broken(rows) == [rule]
    assert trial.believed(trial.verdicts(rows)) == []


def test_who_gains_nothing_from_dose_fails():
    rows = honest()
    rows.loc[rows["dose"] == 1, "gap"] = 0.02
    assert broken(rows) == [trial.DOSE]


def test_on_a_large_faint_lesion_a_blur_may_win():
    rows = honest().replace({"task": {tasks.FINE: tasks.LARGE}})
    rows.loc[at(rows, textbook.BLUR, tasks.LARGE), "gap"] = 0.4
    assert broken(rows) == []


def test_rules_that_could_not_be_asked_are_not_passed():
    rows = honest()
    rows = rows[rows["image"] != tasks.ERASER]
    found = trial.verdicts(rows).set_index("rule")
    assert found["fails"][trial.ERASER] is None and found["asked"][trial.ERASER] == 0
    assert trial.believed(trial.verdicts(rows)) == []


def test_chance_breaks_no_rule_more_often_than_it_may():
    rng, faults = np.random.default_rng(0), 0
    for _ in range(200):
        rows = honest()
        zero = rows["zero"]
        rows.loc[zero, "auc"] = 0.5 + 0.01 * rng.standard_t(observers.GROUPS - 1, zero.sum())
        faults += trial.NOTHING in broken(rows)
    assert faults / 200 <= 0.09  # .05 nominal, plus two binomial SD


@pytest.fixture(scope="module")
def scene():
    return tasks.known_places(100, 7)


def judged(scene, observer):
    images = {name: control for name, control in tasks.controls().items() if name != textbook.TV}
    return panel.judge(scene, images, [0.1, 0.25, 1.0], 0.25, panel.internal_noise(scene), at_place={"it": observer})


def flattery(shown):
    """Always says better: the smoother an image, the better, whatever it shows."""

    def measure(used):
        d_prime = 60 / max(shown.absent[used].std(), 1.0)
        return d_prime, norm.cdf(d_prime / 2**0.5)

    return observers.jackknifed(measure, len(shown.absent))


def test_an_observer_that_always_says_better_fails_and_an_honest_one_passes(scene):
    faults = broken(judged(scene, flattery))
    assert {trial.NOTHING, trial.BEST, trial.BLUR, trial.ERASER} <= set(faults)
    assert trial.believed(trial.verdicts(judged(scene, flattery))) == []
    for name in (panel.RETRAINED, panel.NPWE):
        assert broken(judged(scene, panel.AT_PLACE[name])) == [], name


def test_the_eraser_that_fades_all_is_seen_by_internal_noise_alone(scene):
    for name, sees in ((panel.NPWE, True), (panel.KEPT, False), (panel.NPW, False)):
        rows = judged(scene, panel.AT_PLACE[name])
        faded = rows[(rows["image"] == tasks.FADE) & ~rows["zero"]]
        assert (faded["gap"] < -0.2).all() if sees else (faded["gap"].abs() < 1e-3).all(), name


def test_worth_is_the_image_s_own_dose_for_the_ceiling_that_sees_it_faded(scene):
    rows = judged(scene, panel.AT_PLACE[panel.RETRAINED])
    faded = rows[(rows["image"] == tasks.FADE) & ~rows["zero"]]
    assert faded["worth"].to_numpy() == pytest.approx(0.25, rel=1e-3)
    assert (rows[rows["image"] == tasks.TRUTH]["d_prime"] == np.inf).all()


def test_known_tasks_differ_by_what_is_added_and_nothing_else(scene):
    clean = scene.background[:, 0]
    assert np.array_equal(clean[0], clean[1])
    shape = scene.targets[3]
    assert shape.signal.sum() == pytest.approx(0, abs=float(0.02 * np.abs(shape.signal).sum()))  # equal area
    assert scene.targets[0].ideal / 2 == pytest.approx(2.8, abs=0.3)  # at a quarter of the dose
    truth = scene.after(tasks.controls()[tasks.TRUTH], scene.images(0.25))
    assert truth[1][0] - truth[0][0] == pytest.approx(scene.added, abs=1e-4)


def test_the_ideal_observer_is_the_limit_of_the_channelised_one(scene):
    for target in scene.targets[:2]:
        regions = [observers_region(images, target) for images in scene.images(1.0)]
        found = observers.cho(*regions, target.radius_px)
        assert 0.7 * target.ideal < found.d_prime < found.d_high and found.d_low < target.ideal


def observers_region(images, target):
    from ldct_utils.task_based import ensembles

    return ensembles.region(images, target.place, tasks.REGION)


def test_a_window_of_a_scene_is_reconstructed_as_the_whole_is_and_in_its_place():
    scene = np.full((300, 300), 60.0, np.float32)
    scene[140:160, 170:180] = 160
    image = tasks.reconstructed(scene, (110, 135, 80, 80), 1.5, 0.75, "B30")
    rows, columns = np.nonzero(image > 110)
    assert (rows.mean(), columns.mean()) == pytest.approx((47.5, 47.5), abs=0.1)
    assert len(rows) == pytest.approx(20 * 10 * 4, rel=0.03) and np.median(image) == pytest.approx(60, abs=1)


def test_patients_are_each_used_once():
    made = tasks.in_patients(4, 1)
    flat = made.background.reshape(4, -1)
    assert len({one.tobytes() for one in flat}) == 4 and not made.known
    with pytest.raises(ValueError, match="even"):
        tasks.in_patients(5)


def test_too_few_images_or_a_dose_that_is_not_looked_at_are_refused():
    trial.check([0.1, 0.25, 1.0], 0.25, 100, 44)
    for doses, low, each, behind in (
        ([0.25, 0.1], 0.25, 100, 44),
        ([0.1, 1.0], 0.25, 100, 44),
        ([0.25], 0.25, 100, 44),
    ):
        with pytest.raises(ValueError, match="doses must rise and hold low_dose"):
            trial.check(doses, low, each, behind)
    for each, behind in ((99, 44), (100, 43)):
        with pytest.raises(ValueError, match=f"44 backgrounds or more, not {each} and {behind}"):
            trial.check([0.25, 1.0], 0.25, each, behind)


def seen(observer, image, d_prime, gap=0.0, gap_se=0.1, task=tasks.FINE):
    return {"observer": observer, "image": image, "task": task, "d_prime": d_prime, "gap": gap, "gap_se": gap_se,
            "dose": 1.0}  # fmt: skip


def test_who_loses_nothing_where_all_fades_is_blind_to_it():
    rows = [seen("A", tasks.FADE, 2.0, gap=-0.05), seen("A", tasks.FADE, 1.0, gap=-0.9, task=tasks.PATIENTS),
            seen("B", tasks.FADE, 2.0), seen("B", tasks.FADE, 1.0, gap=-1.0, task=tasks.LARGE)]  # fmt: skip
    assert trial.blind(pd.DataFrame(rows), ["A", "B"]) == ["A"]  # anatomy is left out, one task of several is enough


def test_the_largest_gain_is_one_that_is_shown():
    rows = pd.DataFrame([seen("A", textbook.BLUR, 1.5, gap=0.5), seen("A", textbook.TV, 4.0, gap=3.0, gap_se=9.0),
                         seen("A", textbook.MEDIAN, 1.2, gap=0.2, gap_se=0.01),
                         seen("B", textbook.BLUR, 1.1, gap=0.1)])  # fmt: skip
    found = trial.largest_gains(rows, [textbook.BLUR, textbook.TV, textbook.MEDIAN], ["A", "B"])
    assert list(found["text"]) == [f"+50 % ({textbook.BLUR}, {tasks.FINE})", "none is shown"]
    assert found["share"][0] == pytest.approx(0.5) and np.isnan(found["share"][1])
    assert list(found["tasks"]) == ["1 of 1", "0 of 1"]


def test_what_an_image_can_raise_in_one_task_it_need_not_in_another():
    gains = [seen("A", textbook.BLUR, 1.5, gap=0.5), seen("A", textbook.BLUR, 1.5, gap=0.1, task=tasks.PATIENTS),
             seen("B", textbook.BLUR, 1.5, gap=0.1), seen("B", textbook.TV, 1.5, gap=0.5, task=tasks.PATIENTS),
             seen("B", tasks.TRUTH, 9.0, gap=8.0)]  # fmt: skip
    low = pd.DataFrame(gains).assign(worth=0.25, worth_low=0.2, worth_high=0.3)
    helped = trial.helped_by_image(low, [textbook.BLUR, textbook.TV])
    assert set(helped) == {(tasks.FINE, "A"), (tasks.PATIENTS, "B")}, "the truth is no denoiser"
    rising = pd.MultiIndex.from_tuples([(tasks.FINE, "A"), (tasks.PATIENTS, "A"), (tasks.PATIENTS, "B")])
    found = trial.equal_doses(low, rising, helped)
    assert found[["task", "observer", "could_gain"]].values.tolist() == [
        [tasks.FINE, "A", True], [tasks.PATIENTS, "A", False], [tasks.PATIENTS, "B", True],
    ]  # fmt: skip
    readers = trial.by_observer(found[found["could_gain"]], 0.25, found)
    assert readers["A"]["in_patients"] == 0 and readers["A"]["asked"] == readers["B"]["in_patients"] == 1
    nobody = trial.equal_doses(low, rising, trial.helped_by_image(low, []))
    assert not nobody["could_gain"].any() and trial.by_observer(nobody[:0], 0.25, nobody) == {}


def test_only_where_dose_is_shown_to_help_is_a_dose_asked_for():
    rows = [
        seen("A", tasks.PLAIN, 2.0, gap=1.0),
        seen("B", tasks.PLAIN, 2.0, gap=0.1),
        seen("A", textbook.BLUR, 2.0, gap=1),
    ]
    assert list(trial.helped_by_dose(pd.DataFrame(rows), 1.0)) == [(tasks.FINE, "A")]
    assert not len(trial.helped_by_dose(pd.DataFrame(rows), 0.5))


def test_a_saved_dose_at_the_end_of_those_looked_at_is_a_bound():
    rows = pd.DataFrame({"worth": [0.4, 0.1, 1.0], "worth_low": [0.3, 0.1, 0.6], "worth_high": [0.5, 0.2, 1.0]})
    assert trial.saved_in_words(rows, [0.1, 0.25, 1.0]) == [
        "40 % [30, 50]", "less than 10 % [10, 20]", "more than 100 % [60, 100]",
    ]  # fmt: skip


def test_the_order_is_kept_by_an_observer_that_ranks_alike():
    values = {"A": (1, 2, 3), "same": (4, 5, 9), "turned": (3, 2, 1)}
    images = (tasks.PLAIN, textbook.BLUR, textbook.TV)
    rows = [seen(o, i, d) for o, of in values.items() for i, d in zip(images, of)]
    rows += [seen(o, i, -d, task=tasks.PATIENTS) for o in values for i, d in zip(images, values["A"])]
    assert trial.order_kept(pd.DataFrame(rows), "A", ["same", "turned"]) == {"same": 1.0, "turned": -1.0}
    assert trial.of_image(pd.DataFrame(rows), textbook.BLUR, "d_prime", ["same"]) == {
        tasks.FINE: {"same": 5.0}, tasks.PATIENTS: {"same": -2.0},
    }  # fmt: skip


def test_comparisons_are_counted_by_observer_with_the_dose_of_each_at_its_best():
    rows = [("a", "1 mm", 0.15, 0.1, 0.2), ("b", "patients", 0.35, 0.3, 0.4), ("b", "1 mm", 0.25, 0.2, 0.3),
            ("a", "1 mm", 0.22, 0.2, 0.242), ("b", "1 mm", 0.6, 0.26, 0.9),
            ("b", "patients", 0.26, 0.254, 0.3)]  # fmt: skip
    asked = pd.DataFrame(rows, columns=["observer", "task", "worth", "worth_low", "worth_high"]).assign(image="net")
    found = trial.by_observer(asked, 0.25, asked)
    assert list(found) == ["b", "a"]
    best = {"value": 0.6, "low": 0.26, "high": 0.9, "image": "net", "task": "1 mm"}
    counts = {"asked": 4, "saves": 2, "costs": 0, "in_patients": 2, "saves_in_patients": 1}  # 25.4 % is no saving
    assert found["b"] == counts | {"best": best}
    assert found["a"]["costs"] == 2 and found["a"]["best"]["value"] == 0.22
    assert trial.by_observer(asked[:0], 0.25, asked) == {}
    elsewhere = trial.by_observer(asked[asked["observer"] == "b"], 0.25, asked.assign(observer="b"))
    assert elsewhere["b"]["costs"] == 2, "dose is lost where nothing could have saved it, too"
    unsure = asked.assign(worth_low=asked["worth_low"].where(asked["worth"] < 0.6, 0.1))
    assert trial.by_observer(unsure, 0.25, unsure)["b"]["best"]["value"] == 0.35, "the largest is no shown saving"
