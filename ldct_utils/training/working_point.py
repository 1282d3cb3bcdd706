"""Working points: whether a method was trained enough to be compared, by its own objective, its gain and its texture.

A network that was stopped too early says nothing about its method, so no method is called worse for it. A method is at
its working point if

- the last quarter of the updates changed its *own* objective by less than ``STEADY``, a mean over its trainings,
- and, trained pixel by pixel, it gains at least ``LEAST_GAIN_DB`` over its input; trained against a critic, which buys
  texture with PSNR, it is at most ``MOST_LOSS_DB`` worse than its input, and its noise texture is nearer to the NDCT's
  than that of the networks trained with MSE alone, where there is one at its working point.

The objective is that of the validation patches, which are the same at every validation. That of the training patches
is too noisy: the last 300 updates of 8 patches of one CNN-10 changed it by -0.8 % with a standard error of 3.2 %.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ldct_utils.ct import texture

STEADY = 0.02
LEAST_GAIN_DB, MOST_LOSS_DB = 1.0, 1.5  # published WGAN-VGG: -1.04 dB, TransCT -1.75 dB (Eulig et al. 2024, heads)
# Terms that an adversarial method lowers. The critics' have no level of their own: they move with the critic.
ADVERSARIAL = {"wgan": ("perceptual",), "dugan": ("mse", "grad")}
PUBLISHED = {"wganvgg", "dugan"}  # published networks that were trained against a critic, where they are only tested


@dataclass(frozen=True)
class WorkingPoint:
    """Whether a method is at its working point, and what was measured; means over its trainings.

    Attributes:
        reached: whether it is. reason: why not, in words; empty where it is.
        change: of its own objective over the last quarter of the updates, relative; NaN if it was not trained here.
        gain_db: PSNR over that of its input, dB, against the NDCT in the window of each anatomy.
        texture_db: distance of its noise power spectrum to the NDCT's, dB (``ct.texture``); NaN without stored slices.
    """

    reached: bool
    reason: str
    change: float
    gain_db: float
    texture_db: float


def adversarial(params: dict) -> bool:
    """Whether a run of 03_train was trained against a critic, here or by those who published it."""
    only_tested = params.get("init") == "hub" and params.get("max_steps") == 0
    return params.get("method") in ADVERSARIAL or (only_tested and params["network"] in PUBLISHED)


def objective(history: pd.DataFrame, params: dict) -> pd.DataFrame:
    """What a training lowers, on its validation patches: a row a validation, a column ``objective`` (a column a term
    of an adversarial method), by update.

    The terms are weighed as the log's ``total`` weighs them; lambda is the last one throughout, since with
    ``psi_on=hold`` the sum would change with lambda alone.

    Args: history, params: of a finished run of 03_train.
    Raises: ValueError: if the history holds no validation of these terms.
    """
    terms = [name for name in history if f"val_{name}" in history and not name.startswith("psi_")]
    lowered = ADVERSARIAL.get(params.get("method"), terms)
    if not set(lowered) <= set(terms) or not terms:
        raise ValueError(
            f"history.parquet holds no validation of {', '.join(lowered) or 'any term'}; it has "
            f"{', '.join(terms) or 'none'} (loss {params['loss']!r}, method {params.get('method')}); train it again"
        )
    validated = history.set_index("step")[[f"val_{name}" for name in lowered]].dropna()
    if params.get("method") in ADVERSARIAL:
        return validated
    return pd.DataFrame({"objective": validated.to_numpy() @ _weights(history, terms)}, index=validated.index)


def _weights(history, terms) -> np.ndarray:
    """The weights that the log's ``total`` was summed with: its ``lam`` of the perceptual term, and those of the
    pixel terms that make up the rest (exactly, so least squares finds them)."""
    logged = history.dropna(subset="total")
    pixel = [name for name in terms if name != "vgg" or "lam" not in logged]
    found = dict.fromkeys(terms, 0.0)
    rest = logged["total"]
    if len(pixel) < len(terms):
        rest = rest - logged["lam"] * logged["vgg"]
        found["vgg"] = logged["lam"].iloc[-1]
    scale = logged[pixel].abs().mean()
    solved = np.linalg.lstsq(logged[pixel] / scale, rest, rcond=None)[0] / scale if pixel else []
    return np.array(list((found | dict(zip(pixel, solved))).values()))


def change(history: pd.DataFrame, params: dict) -> float:
    """Relative change of a training's own objective over the last quarter of its updates, negative where it fell; of
    an adversarial method, that of the term which changed most.

    It is the slope of a line through the validations from the last one that is no later than three quarters of the
    updates. A line uses all of them and is a mean of their jitter; two halves of a quarter would hold one each. With
    few validations the line begins earlier, where objectives fall faster, and the change is overestimated:
    ``eval_every`` should be an eighth of the updates or less.

    Args: as for ``objective``. Returns: NaN for a network that was not trained here (no updates).
    """
    if not (end := history["step"].max()):
        return float("nan")
    values = objective(history, params)
    tail = values[values.index >= values.index[values.index <= 0.75 * end].max()]
    slope, level = np.polyfit(tail.index / end - 0.75, tail, 1)  # level: at three quarters
    found = slope * 0.25 / level
    return float(found[np.abs(found).argmax()])


def gain_db(test) -> float:
    """Mean PSNR of a test's predictions over that of its input, dB, against the NDCT in the window of each anatomy.

    Args: test: from ``testing.scores``.
    """
    means = [test.table(name).query("domain == 'window' and reference == 'ndct' and metric == 'psnr'").value.mean()
             for name in ("scores", "ldct_scores")]  # fmt: skip
    return float(means[0] - means[1])


def texture_db(test) -> float:
    """Distance of the noise power spectrum of a test's stored predictions to the NDCT's, dB, in flat soft tissue.

    Args: test: from ``testing.scores``. Returns: NaN where no slices are stored or none has flat soft tissue.
    """
    if not (test.folder / "examples.npy").is_file():
        return float("nan")
    _, ndct, _, predicted = np.moveaxis(np.asarray(test.array("examples"), np.float64), 1, 0)
    corners = texture.places(ndct)
    if not any(corners):
        return float("nan")
    return texture.distance_db(texture.curve(predicted, corners), texture.curve(ndct, corners))


def judge(change, gain_db, adversarial=False, texture_db=np.nan, mse_texture_db=np.nan) -> WorkingPoint:
    """The working point of a method from what was measured of it.

    Args: as the attributes of ``WorkingPoint``. mse_texture_db: the distance that an adversarial method must be under;
        NaN where there is no network to compare with.
    """
    reasons = []
    if abs(change) >= STEADY:
        moved = f"{'rose' if change > 0 else 'fell'} by {abs(change) * 100:.1f} %"
        reasons.append(
            f"its own objective still {moved} in the last quarter of the updates (under {STEADY * 100:.0f} % is asked)"
        )
    if not adversarial and not gain_db >= LEAST_GAIN_DB:
        what = f"gains only {gain_db:.2f} dB over" if gain_db >= 0 else f"is {-gain_db:.2f} dB worse than"
        reasons.append(f"it {what} its input (a gain of {LEAST_GAIN_DB:g} dB is asked)")
    if adversarial and not gain_db >= -MOST_LOSS_DB:
        reasons.append(f"it is {-gain_db:.2f} dB worse than its input ({MOST_LOSS_DB:g} dB at most are allowed)")
    if adversarial and texture_db >= mse_texture_db:
        reasons.append(
            f"its noise texture is no nearer to the NDCT's than that of a network trained with MSE ({texture_db:.1f} "
            f"dB against {mse_texture_db:.1f} dB)"
        )
    return WorkingPoint(not reasons, " and ".join(reasons), float(change), float(gain_db), float(texture_db))


def of_methods(runs, tests, methods) -> dict[str, WorkingPoint]:
    """{method: its working point}, from finished runs of 03_train.

    Args: runs: of 03_train. tests: theirs, from ``testing.scores``. methods: what each run is a training of.
    """
    measured = pd.DataFrame(
        {"method": list(methods), "change": [change(run.table("history"), run.params) for run in runs],
         "gain_db": list(map(gain_db, tests)), "texture_db": list(map(texture_db, tests)),
         "adversarial": [adversarial(run.params) for run in runs],
         "mse": [run.params["loss"] == "mse" for run in runs]}
    ).groupby("method", sort=False).mean()  # fmt: skip
    found, nearest = {}, np.nan
    for name, row in measured.sort_values("adversarial", kind="stable").iterrows():  # these are measured by the others
        against = nearest if row.adversarial else np.nan
        found[name] = judge(row.change, row.gain_db, bool(row.adversarial), row.texture_db, against)
        if row.mse and not row.adversarial and found[name].reached:
            nearest = np.fmin(nearest, row.texture_db)
    return {name: found[name] for name in measured.index}


def table(points: dict[str, WorkingPoint]) -> pd.DataFrame:
    """A row a method for a reader. Args: points: from ``of_methods``."""
    return pd.DataFrame(
        [{"method": name, "own objective, last quarter": "–" if np.isnan(one.change) else f"{one.change * 100:+.1f} %",
          "PSNR over its input, dB": one.gain_db, "noise texture to the NDCT's, dB": one.texture_db,
          "at its working point": "yes" if one.reached else f"no: {one.reason}"} for name, one in points.items()]
    )  # fmt: skip


def said(points: dict[str, WorkingPoint]) -> str:
    """How many methods are at their working point, in a sentence."""
    reached, number = sum(one.reached for one in points.values()), len(points)
    if number < 2:
        only = "No method was trained." if not number else "The one trained method is {}at its working point."
        return only.format("" if reached else "not ")
    if reached in (0, number):
        return f"{'All' if reached else 'None'} of the {number} trained methods are at their working point."
    return f"{reached} of {number} trained methods {'is at its' if reached == 1 else 'are at their'} working point."
