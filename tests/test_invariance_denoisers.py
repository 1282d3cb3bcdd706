"""Denoisers side by side: only runs that looked alike compare, and differences are paired over patients."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from ldct_utils.invariance import comparison


def run(id, method="mse", kept=0.9, patients=6, lesions=True, **params):
    """Stands for a finished run of 05_invariances in memory; patients differ, denoisers keep the same of each."""
    each = 1 + 0.05 * np.arange(patients)
    people = [f"P{p}" for p in range(patients)]
    tables = {
        "contrasts": pd.DataFrame({"patient": people * 2, "lesion": 0, "kept": kept * np.tile(each, 2)}),
        "detection": pd.concat(
            pd.DataFrame({"patient": people, "image": image, "d_prime": 2.0 * scale, "d_npw": 1.0 * scale})
            for image, scale in (("x", 1.0), ("f(x)", kept * each))
        ),
        "lesion_counts": pd.DataFrame({"method": ["search", "aimed"], "tested": 6, "changed": [0, 2]}),
    }
    given = {name: 1 for name in comparison.ALIKE} | {"distance": "mse", "context": id} | params
    numbers = {"network": "unet", "method": method, "denoiser": id, "cohort": "c"} | (
        {"d_prime_kept": 0.9} if lesions else {}
    )
    return SimpleNamespace(id=id, name=id, params=given, numbers=numbers, table=tables.get)


def test_runs_that_looked_otherwise_or_at_no_lesions_are_refused():
    assert list(comparison.named([run("a"), run("b")])) == ["unet · mse", "unet · mse · b"]
    for change, message in (({"alpha": 2}, "other alpha"), ({"distance": "vgg16"}, "other distance, context")):
        with pytest.raises(ValueError, match=message):
            comparison.named([run("a"), run("b", **change)])
    other = run("b")
    other.numbers["cohort"] = "d"
    with pytest.raises(ValueError, match="other cohorts"):
        comparison.named([run("a"), other])
    with pytest.raises(ValueError, match="the runs b of 05_invariances had no known lesions"):
        comparison.named([run("a"), run("b", lesions=False)])


def test_counts_name_their_denoiser():
    found = comparison.lesion_counts(comparison.named([run("a"), run("b", "l1")]))
    assert list(found)[:2] == ["denoiser", "method"] and list(found.denoiser) == ["unet · mse"] * 2 + ["unet · l1"] * 2


def test_differences_of_denoisers_are_paired_over_patients():
    kept = {name: comparison.kept(one) for name, one in {"a": run("a"), "b": run("b", kept=0.8)}.items()}
    found = comparison.compared(kept, draws=300).set_index(["denoiser", "quantity"])
    a, b = found.loc["a", "contrast kept"], found.loc["b", "contrast kept"]
    assert a["mean"] == pytest.approx(0.9 * 1.125) and b["minus a"] == pytest.approx(-0.1 * 1.125)
    assert b["its high"] - b["its low"] < 0.2 * (b.high - b.low)  # patients differ much more than the denoisers do
    assert np.isnan(a["minus a"]) and found.loc["b", "d' kept"]["mean"] == pytest.approx(0.8 * 1.125)


def shares(means, low=0.01, high=0.05):
    """Rows of ``compared`` of the contrast kept: denoisers a, b, ... with these means."""
    rows = [{"denoiser": name, "quantity": "contrast kept", "mean": mean} for name, mean in zip("abc", means)]
    ends = [{"its low": low, "its high": high} if number else {} for number in range(len(rows))]
    return pd.DataFrame([row | end for row, end in zip(rows, ends)], columns=[*rows[0], "its low", "its high"])


SAYS = {"a": "MSE", "b": "VGG", "c": "L1"}


def test_who_keeps_less_is_said_only_where_it_is_shown():
    assert comparison.least_kept(shares([0.9]), SAYS) == "MSE keeps 90 % of the lesions' contrast."
    assert comparison.least_kept(shares([0.9, 0.95]), SAYS) == (
        "MSE keeps less of the lesions' contrast than VGG (90 % against 95 %)."
    )
    assert comparison.least_kept(shares([0.9, 0.95], low=-0.01), SAYS) == (
        "MSE and VGG are not shown to differ in the lesions' contrast that they keep (90 % and 95 %)."
    )
    assert comparison.least_kept(shares([0.9, 0.95, 0.97]), SAYS).startswith("MSE keeps least of the lesions' contrast")


def test_differences_are_told_with_their_direction():
    found = shares([0.9, 0.95]).iloc[1:]
    other = found.assign(quantity="d' kept, NPW", **{"its low": -0.05, "its high": -0.01})
    open_ = found.assign(quantity="d' kept", **{"its low": -0.05})
    assert comparison.differences(pd.concat([found, other, open_]), SAYS, "a") == (
        "2 of 3 differences are shown: against MSE, VGG keeps more contrast and less d′ for NPW."
    )
    assert comparison.differences(open_, SAYS, "a") == "No difference is shown."
    assert comparison.differences(pd.concat([open_, open_]), SAYS, "a") == "None of the 2 differences are shown."
    assert comparison.differences(found, SAYS, "a") == (
        "The only difference is shown: against MSE, VGG keeps more contrast."
    )
