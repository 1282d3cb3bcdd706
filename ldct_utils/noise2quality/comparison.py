"""Models of quality maps compared: Table 1 of Noise2Quality, and what each of its additions is worth.

Scores of maps are those of 08a_train_quality, on maps scaled to [0, 1]; the unit of every interval is the patient.
"""

import numpy as np
import pandas as pd

from ldct_utils.stats import intervals

PUBLISHED = pd.DataFrame(
    {
        "ae": (0.6761, 0.1033, 0.3226),
        "redcnn": (0.7250, 0.0594, 0.2434),
        "unet": (0.7448, 0.0804, 0.2830),
        "u_hpf": (0.7381, 0.0979, 0.3237),
        "u_con": (0.7484, 0.0759, 0.2794),
        "u_ssl": (0.7572, 0.0669, 0.2505),
        "n2q": (0.7664, 0.0686, 0.2437),
    },
    index=["ssim", "mse", "nrmse"],
)  # fmt: skip  Haque et al. 2022, Table 1
METRICS, REGIONS = {"ssim": 1, "mse": -1, "nrmse": -1, "bias": 0}, ("whole", "body")  # 1: higher is better, -1: lower
RANGE = {"ssim": (-1, 1), "mse": (0, np.inf), "nrmse": (0, np.inf), "bias": (-1, 1)}
CONSTANT = "constant"  # the control: one number everywhere
PAIRS = [("n2q", CONSTANT), ("unet", CONSTANT), ("n2q", "unet"), ("n2q", "u_con"), ("n2q", "u_ssl"),
         ("u_con", "unet"), ("u_ssl", "unet"), ("u_hpf", "unet"), ("unet", "ae"), ("unet", "redcnn")]  # fmt: skip


def read(runs: dict, first: str) -> pd.DataFrame:
    """Scores of all models and seeds, and of the constant.

    Args: runs: {(model, seed): finished run of 08a_train_quality}. first: the model whose runs the constant is taken
        from: it does not depend on the model, but on the patches that a seed draws.
    """
    tables = []
    for (model, seed), one in runs.items():
        scored = one.table("scores")
        wanted = [model, CONSTANT] if model == first else [model]
        tables += [scored[scored.model == m].assign(seed=seed) for m in wanted]
    return pd.concat(tables, ignore_index=True)


def cell(scores, model: str, region: str, metric: str, dose=None) -> pd.DataFrame:
    """(patients, seeds): means over slices and doses, or at one; patients without a finite value are left out."""
    part = scores[(scores.model == model) & (scores.region == region) & (scores.metric == metric)]
    return intervals.by_patient(part if dose is None else part[part.dose == dose]).dropna()


def over_patients(values, draws: int = 2000, seed: int = 0) -> dict:
    """mean, low and high of (patients, seeds), as columns; NaN where there are no patients."""
    if not len(values):
        return {"mean": np.nan, "low": np.nan, "high": np.nan}
    held = intervals.patient_bootstrap(values, draws=draws, seed=seed)
    return {"mean": held.mean, "low": held.low, "high": held.high}


def table(scores, models, published: bool, draws: int = 2000, seed: int = 0) -> pd.DataFrame:
    """A row a model (and the constant), region and metric: mean with its interval, seeds, and the published number.

    Args: published: whether the published numbers, which are of SSIM maps, may stand beside these.
    """
    rows = []
    for region in REGIONS:
        for metric in METRICS:
            for model in [*models, CONSTANT]:
                values = cell(scores, model, region, metric)
                known = published and model in PUBLISHED and metric in PUBLISHED.index
                rows.append({"model": model, "region": region, "metric": metric, **over_patients(values, draws, seed),
                             "seeds": values.shape[1],
                             "published": PUBLISHED[model][metric] if known else np.nan})  # fmt: skip
    return pd.DataFrame(rows)


def contrasts(scores, models, labels: dict, draws: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Differences of ``PAIRS`` of models, a row a pair, region and metric: paired over patients and the shared seeds.

    Args: labels: {model: name in the table}.
    Returns: pair, region, metric, mean, low, high, better (share of patients and seeds in which the first is; NaN for
        the bias, which may be better on either side) and seeds.
    """
    rows, there = [], {*models, CONSTANT}
    for one, other in PAIRS:
        for region in REGIONS if {one, other} <= there else ():
            for metric, direction in METRICS.items():
                a, b = cell(scores, one, region, metric), cell(scores, other, region, metric)
                shared = sorted(set(a.columns) & set(b.columns))
                if shared:
                    gap = (a[shared] - b[shared]).dropna()
                    won = (gap * direction > 0).to_numpy().mean() if direction else np.nan
                    rows.append({"pair": f"{labels[one]} − {labels[other]}", "region": region, "metric": metric,
                                 **over_patients(gap, draws, seed), "better": won, "seeds": len(shared)})  # fmt: skip
    names = ["pair", "region", "metric", "mean", "low", "high", "better", "seeds"]
    return pd.DataFrame(rows, columns=names)
