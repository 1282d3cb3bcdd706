"""Quality networks on images that they were not trained for: which are made, and what is refused."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from ldct_utils.noise2quality import doses, elsewhere, evidence, maps, scoring, targets


@pytest.fixture
def cohort():
    """Four test slices of two patients: tissue of 40 HU in air, noise in the LDCT."""
    rng = np.random.default_rng(0)
    body = np.where(np.hypot(*np.mgrid[-1:1:64j, -1:1:64j]) < 0.8, 40.0, -1000.0)
    slices = pd.DataFrame({"row": range(4), "patient": ["A", "A", "B", "B"], "split": "test", "anatomy": "chest"})
    ndct = np.stack([body] * 4)
    return SimpleNamespace(id="c", slices=slices, truth=ndct, ndct=ndct, ldct=ndct + rng.normal(0, 20, ndct.shape))


def test_images_are_shared_among_patients_and_a_blur_takes_noise(cohort):
    about, found = elsewhere.images(cohort, 2, [1.0])
    assert about.patient.tolist() == ["A", "B"] and list(found) == ["LDCT", "NDCT", "LDCT, blur 1 px", "truth"]
    inside = np.s_[:, 24:40, 24:40]
    assert found["LDCT, blur 1 px"][inside].std() < 0.5 * found["LDCT"][inside].std()
    assert list(elsewhere.images(SimpleNamespace(**vars(cohort) | {"truth": None}), 2, [])[1]) == ["LDCT", "NDCT"]


def test_the_true_quality_of_the_reference_is_perfect_and_that_of_noise_is_not(cohort, monkeypatch):
    monkeypatch.setattr(maps, "quality_map", lambda stack, assessor: np.full(stack.shape, 0.5))
    about, stacks = elsewhere.images(cohort, 4, [])
    found = elsewhere.by_image(about, stacks, None, targets.get("ssim"), 40, 300)
    by_kind = evidence.by_kind(found)
    assert by_kind.true["NDCT"] == pytest.approx(1) and by_kind.true["LDCT"] < 0.9
    assert by_kind.error["NDCT"] == pytest.approx(-0.5)
    assert evidence.numbers(by_kind)["NDCT"] == {"error": pytest.approx(-0.5), "absolute_error": pytest.approx(0.5)}
    air = {name: np.full_like(stack, -1000) for name, stack in stacks.items()}
    with pytest.raises(ValueError, match="no test slice shows a body"):
        elsewhere.by_image(about, air, None, targets.get("ssim"), 40, 300)


def test_what_knows_the_patients_or_shows_nothing_known_is_refused(cohort):
    run = SimpleNamespace(numbers={"cohort": "c"})
    assert elsewhere.same_cohort(run, cohort, "x") is run
    with pytest.raises(ValueError, match="denoiser x was trained on another cohort"):
        elsewhere.same_cohort(SimpleNamespace(numbers={"cohort": "d"}), cohort, "x")
    empty = SimpleNamespace(id="c", rows=lambda split: np.array([], int))
    with pytest.raises(ValueError, match="cohort c has no train slices; choose a split that has some"):
        scoring.rows(empty, "train")


@pytest.mark.parametrize("wrong", [[], [0.5, 0.25], [0.5, 0.5], [0.5, 1.0], [0.0, 0.5]])
def test_doses_rise_and_are_fractions_under_one(wrong):
    assert doses.legal([0.05, 0.75]) == [0.05, 0.75]
    with pytest.raises(ValueError, match="doses are fractions under 1, rising"):
        doses.legal(wrong)


def test_stored_scores_are_not_made_again(tmp_path):
    kept = {}

    def table(name, compute):
        found = compute()
        return kept.setdefault(name, found) if found is not None else kept[name]

    run = SimpleNamespace(folder=tmp_path, table=table)
    tables = [pd.DataFrame({"value": [1.0]}), pd.DataFrame({"predicted": [0.5]})]
    assert elsewhere.stored(run, "wheel", lambda: tables)[0] is tables[0]
    for name in ("wheel_scores", "wheel_classes"):
        (tmp_path / f"{name}.parquet").touch()
    assert elsewhere.stored(run, "wheel", lambda: pytest.fail("computed again"))[1] is tables[1]
