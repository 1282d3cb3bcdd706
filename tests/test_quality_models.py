"""Models of quality maps compared: seeds that are shared, directions of the metrics, published numbers of SSIM only."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from ldct_utils.noise2quality import comparison

LABELS = {"n2q": "N2Q", "unet": "U-Net", "constant": "constant"}
LEVEL = {"n2q": 0.8, "unet": 0.6, "constant": 0.5}


def run(model, seed, patients=7):
    """A run of 08a in memory: SSIM by model, an MSE of 1 - SSIM, bias 0; a little better with every seed."""
    rng, rows = np.random.default_rng(seed), []
    for who in (model, "constant"):
        for p in range(patients):
            ssim = LEVEL[who] + 0.01 * seed + rng.normal(0, 0.01)
            for metric, value in {"ssim": ssim, "mse": 1 - ssim, "nrmse": 1 - ssim, "bias": 0.0}.items():
                for region in comparison.REGIONS:
                    rows.append((f"P{p}", 0.25, who, region, metric, value))
    table = pd.DataFrame(rows, columns=["patient", "dose", "model", "region", "metric", "value"])
    return SimpleNamespace(table=lambda _: table)


@pytest.fixture(scope="module")
def scores():
    keys = [("n2q", 0), ("n2q", 1), ("unet", 1), ("unet", 2)]
    return comparison.read({key: run(*key) for key in keys}, "n2q")


def test_the_constant_is_read_once_a_seed(scores):
    found = scores[scores.model == "constant"]
    assert set(found.seed) == {0, 1} and not found.duplicated(["patient", "seed", "region", "metric"]).any()


def test_table_1_holds_published_numbers_beside_ssim_maps_only(scores):
    found = comparison.table(scores, ["unet", "n2q"], True, 300).set_index(["model", "region", "metric"])
    assert found.published["n2q", "body", "mse"] == 0.0686 and np.isnan(found.published["n2q", "body", "bias"])
    assert found["mean"]["n2q", "whole", "ssim"] == pytest.approx(0.805, abs=0.01) and set(found.seeds) == {2}
    assert comparison.table(scores, ["n2q"], False, 300).published.isna().all()


def test_contrasts_pair_the_seeds_that_both_have_and_know_what_is_better(scores):
    found = comparison.contrasts(scores, ["unet", "n2q"], LABELS, 300)
    assert set(found.pair) == {"N2Q − constant", "U-Net − constant", "N2Q − U-Net"}
    ours = found[(found.pair == "N2Q − U-Net") & (found.region == "whole")].set_index("metric")
    assert ours.seeds["ssim"] == 1 and ours["mean"]["ssim"] == pytest.approx(0.2, abs=0.02)
    assert ours.better["ssim"] == ours.better["mse"] == 1 and np.isnan(ours.better["bias"])  # a lower MSE is better
    assert ours.low["ssim"] > 0 > ours.high["mse"]
    assert comparison.contrasts(scores, ["unet"], LABELS, 300).pair.unique().tolist() == ["U-Net − constant"]


def test_no_patients_give_no_numbers():
    assert np.isnan(list(comparison.over_patients(pd.DataFrame()).values())).all()
