"""Finished runs of 03_train as they lie on disk, made in a second from discs instead of trained networks."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd

from ldct_utils import metrics
from ldct_utils.stats import blending
from ldct_utils.study import runs
from ldct_utils.training import testing

ANATOMIES = ("abdomen", "chest", "head")


def cohort(patients=7, slices=2, size=48, truth=True, seed=0):
    """Test slices of discs with noise, in memory, with what ``metrics.evaluate`` reads of a cohort."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size - 0.5
    images = []
    for _ in range(patients):
        image = np.where(np.hypot(x, y * rng.uniform(1, 1.3)) < 0.42, rng.uniform(20, 60), -1000.0)
        for _ in range(slices):
            image[np.hypot(x - rng.uniform(-0.2, 0.2), y) < 0.1] = rng.uniform(60, 300)
            images.append(image.copy())
    clean = np.stack(images)
    ndct = clean + rng.normal(0, 12, clean.shape)
    ldct = ndct + rng.normal(0, 20, clean.shape)
    owner = np.repeat(np.arange(patients), slices)
    about = pd.DataFrame(
        {
            "row": range(len(clean)),
            "patient": [f"P{p:03d}" for p in owner],
            "anatomy": [ANATOMIES[p % 3] for p in owner],
        }
    )
    return SimpleNamespace(slices=about, ldct=ldct, ndct=ndct, truth=clean if truth else None)


def write(outputs, data, number, gain, seed=0, examples=True, study="test", psi_end=0.8, **params):
    """Write one finished run below ``outputs`` and return its folder.

    Args:
        data: from ``cohort``. number: makes the run's id.
        gain: share of the LDCT's added noise that the "network" takes away, in [0, 1]; patients differ by some .05.
        psi_end: where psi arrives; it starts at .9 and is .85 at half of the training.
        params: parameters of the run, e.g. loss, layer, context, lam, psi_target.
    """
    folder = outputs / study / "03_train" / f"run-{number:08x}"
    folder.mkdir(parents=True)
    luck = dict(zip(data.slices.patient.unique(), np.random.default_rng(number).normal(0, 0.05, 999)))
    share = (gain + data.slices.patient.map(luck).to_numpy())[:, None, None]
    predicted = data.ldct - share * (data.ldct - data.ndct)
    rows = data.slices.row.to_numpy()
    position = iter(range(0, len(rows), 8))

    def denoise(hu):
        start = next(position)
        return predicted[start : start + len(hu)]

    history = {"step": [0, 5, 10, 15, 20], "psi_ratio_of_sums": [np.nan, 0.9, 0.85, psi_end, psi_end]}
    history["lam"] = [np.nan, 0.1, 0.1, 0.1, 0.1]
    own = {"vgg": ["mse", "vgg"]}.get(params.get("loss", "mse"), [params.get("loss", "mse")])
    for term in own:
        values = np.array([2, 1.02, 1.01, 1, 0.99]) * 1e-6
        history |= {f"val_{term}": values, term: np.where(values > 1.5e-6, np.nan, values)}
    history["total"] = history[own[0]] + (0.1 * history["vgg"] if "vgg" in own else 0)
    pd.DataFrame(history).to_parquet(folder / "history.parquet")
    given = {"study": study, "source": "simulated", "network": "unet", "loss": "mse", "layer": "block3_conv2",
             "context": "random", "lam": None, "seed": seed, "psi_target": 0.95, "psi_on": "fixed", "residual": True,
             "max_steps": 600}  # fmt: skip
    result = {"notebook": "03_train", "id": f"{number:08x}", "parameters": given | params, "files": {}}
    (folder / "result.json").write_text(json.dumps(result | {"numbers": {"cohort": "00000000"}}))
    test = testing.place(runs.Run(folder)).folder
    test.mkdir(parents=True)
    metrics.evaluate(denoise, data, rows).to_parquet(test / "scores.parquet")
    metrics.evaluate(lambda hu: hu, data, rows).to_parquet(test / "ldct_scores.parquet")
    people = data.slices.patient.unique() if data.truth is not None else []
    kept = [(patient, 1, 40.0, 1 - 0.3 * (gain + luck[patient])) for patient in people]
    pd.DataFrame(kept, columns=["patient", "lesion", "contrast_hu", "kept"]).to_parquet(test / "kept.parquet")
    errors = []
    for target in testing.REFERENCES if len(people) else ():
        three = blending.mean_squares(data.ldct[rows], predicted[rows], getattr(data, target)[rows])
        errors += [(data.slices.patient[row], row, target, *one) for row, one in zip(rows, three.T)]
    columns = ["patient", "row", "target", "before", "both", "after"]
    pd.DataFrame(errors, columns=columns).to_parquet(test / "squares.parquet")
    if examples:
        shown = data.slices.drop_duplicates("anatomy").sort_values("anatomy")
        shown.to_parquet(test / "examples_rows.parquet")
        truth = np.full_like(data.ndct, np.nan) if data.truth is None else data.truth
        stacked = [[part[row] for part in (data.ldct, data.ndct, truth, predicted)] for row in shown.row]
        np.save(test / "examples.npy", np.array(stacked, np.float32))
    (test / "result.json").write_text(json.dumps({"notebook": "test", "parameters": {}, "numbers": {}, "files": {}}))
    return folder
