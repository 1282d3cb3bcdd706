"""What a quality network says of images that it was not trained for, and whether that may be believed."""

import numpy as np
import pandas as pd

from ldct_utils.noise2quality import comparison


def by_kind(rated: pd.DataFrame) -> pd.DataFrame:
    """How far off the predicted means of slices are, by kind of image.

    The signed error alone flatters: a network that says the same of every image of a kind has none if that is their
    mean. The correlation over slices tells; it is NaN for a kind whose true or predicted values are all one.

    Args: rated: a row a slice and kind, columns kind, patient, true, predicted.
    Returns: index kind in order of appearance; slices; true, predicted, error (predicted - true) and absolute_error,
        means over patients; correlation over slices.
    """
    rows = {}
    for kind, part in rated.assign(error=rated.predicted - rated.true).groupby("kind", sort=False):
        part = part.assign(absolute_error=part.error.abs())
        means = part.groupby("patient")[["true", "predicted", "error", "absolute_error"]].mean().mean()
        varied = len(part) > 2 and min(np.ptp(part.true), np.ptp(part.predicted)) > 1e-6
        told = np.corrcoef(part.true, part.predicted)[0, 1] if varied else np.nan
        rows[kind] = {"slices": len(part), **means, "correlation": told}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("kind")


def numbers(kinds: pd.DataFrame) -> dict:
    """{kind: error, absolute_error and correlation, those that are finite} of ``by_kind``, for a run's result."""
    names = ("error", "absolute_error", "correlation")
    return {kind: {k: float(row[k]) for k in names if np.isfinite(row[k])} for kind, row in kinds.iterrows()}


def headline(claims: pd.DataFrame, name: str) -> tuple[str, str]:
    """The verdict on ``comparison.claims`` and the sentences that say it, causes that the table names included.

    Args: name: of the model that claims, in words.
    Returns: holds, fails (one question does) or not shown; at most three sentences.
    """
    if claims.empty:
        return comparison.OPEN, f"Nothing could be asked of {name}."
    failed, open_ = (claims[claims.verdict == v] for v in (comparison.FAILS, comparison.OPEN))
    kept = len(claims) - len(failed) - len(open_)
    verdict = comparison.FAILS if len(failed) else comparison.OPEN if len(open_) else comparison.HOLDS
    first = {
        comparison.HOLDS: f"{name} does all that it claims.",
        comparison.FAILS: f"{name} does not do what it claims.",
        comparison.OPEN: f"{name} was not shown to do what it claims.",
    }[verdict]
    said = [first, f"{kept} of {len(claims)} questions came out for it."]
    if len(failed):
        said.append("Against it: " + "; ".join(f"{r.question} ({r.test})" for r in failed.itertuples()) + ".")
    if claims.seeds.min() < comparison.SEEDS:
        said.append(f"Some networks were trained less than {comparison.SEEDS} times, which decides nothing.")
    return verdict, " ".join(said)
