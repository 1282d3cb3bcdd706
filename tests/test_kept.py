"""What networks leave of faint lesions, relative to the LDCT, by patient and training."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from ldct_utils.models import textbook
from ldct_utils.task_based import kept


def scores(**of) -> pd.DataFrame:
    """Rows of two lesions of seven patients; of: {network: (kept, d' of both observers)}."""
    rows = [
        {"patient": p, "name": name, "lesion": n, "kept": share + 0.001 * p, "d_cho": d * (n + 1), "d_npw": d * (n + 1)}
        for name, (share, d) in of.items() for p in range(7) for n in range(2)
    ]  # fmt: skip
    return pd.DataFrame(rows)


@pytest.fixture
def tables():
    known = pd.DataFrame({"name": ["a-0", "a-1", "b-0", "b-1"], "method": ["a", "a", "b", "b"], "seed": [0, 1, 0, 1]})
    made = scores(LDCT=(1, 2.0), **{"a-0": (0.8, 1.0), "a-1": (0.9, 1.0), "b-0": (0.5, 2.0), "b-1": (0.6, 2.0)})
    return kept.by_patient(kept.beside_input(made, known))


def test_detection_is_relative_to_that_in_the_ldct(tables):
    assert (tables["a", "d_cho_kept"] == 0.5).all().all() and (tables["b", "d_npw_kept"] == 1).all().all()
    assert tables["a", "kept"].shape == (7, 2)
    found = kept.spans(tables, 200, 0).set_index(["method", "quantity"])
    assert found.loc[("a", "kept"), "mean"] == pytest.approx(0.853) and found.loc[("a", "kept"), "seeds"] == 2


def test_a_difference_is_the_first_minus_the_other_and_knows_whether_it_is_sure(tables):
    found = kept.against(tables, "a", 200, 0).set_index(["second", "quantity"])
    assert found.loc[("b", "kept"), "difference"] == pytest.approx(0.3) and found.loc[("b", "kept"), "differs"]
    assert found.loc[("b", "d_cho_kept"), "difference"] == pytest.approx(-0.5)
    few = {key: table[:3] for key, table in tables.items()}
    assert kept.against(few, "a", 200, 0).differs.isna().all()
    filters = {(textbook.BLUR, quantity): table for (name, quantity), table in tables.items() if name == "a"}
    assert set(kept.against(tables | filters, "a", 200, 0).second) == set(found.index.get_level_values("second"))
    assert kept.against({key: t for key, t in tables.items() if key[0] == "a"}, "a", 200, 0).empty


def test_the_dose_is_that_of_the_cohort_unless_it_has_none_of_its_own():
    cohort = SimpleNamespace(
        meta={"parameters": {"dose": 0.25}}, slices=pd.DataFrame({"dose": [0.1], "kernel": ["B30"]})
    )
    assert kept.setting(cohort, "dose") == 0.25 and kept.setting(cohort, "kernel") == "B30"
    assert kept.setting(cohort, "dose", 0.5) == 0.5
    cohort.slices = pd.DataFrame({"kernel": ["B30", "D45"]})
    with pytest.raises(ValueError, match=r"no single kernel .* give lesion_kernel"):
        kept.setting(cohort, "kernel")
    cohort.slices = pd.DataFrame({"kernel": ["unknown"]})
    with pytest.raises(ValueError, match="no single kernel"):
        kept.setting(cohort, "kernel")


def test_networks_are_scored_beside_the_ldct(monkeypatch):
    from ldct_utils.task_based import ensembles

    def made(functions, lesions, *about, **how):
        assert (
            list(functions) == ["LDCT", "n", *textbook.FILTERS]
            and lesions[0].contrast_hu == -9
            and (about, how) == ((6,), {"seed": 3})
        )
        assert functions["LDCT"](np.ones(2)).tolist() == [1, 1]
        noise = np.random.default_rng(0).normal(0, 20, (2, 48, 48)).astype(np.float32)
        smooth = {name: functions[name](noise).std() / noise.std() for name in textbook.FILTERS}
        assert smooth.pop(textbook.UNSHARP) > 1 > max(smooth.values())
        return scores(LDCT=(1, 2.0), n=(0.5, 1.0), **dict.fromkeys(textbook.FILTERS, (0.5, 1.0)))

    monkeypatch.setattr(ensembles, "lesion_scores", made)
    known = pd.DataFrame({"run": ["n"], "method": ["m"], "seed": [0]})
    found = kept.scored({"n": lambda hu: hu}, known, [[2.0, -9.0]], 6, seed=3)
    assert (found.d_cho_ldct == 2 * found.d_cho).all() and set(found.method) == {"m", *textbook.FILTERS}
