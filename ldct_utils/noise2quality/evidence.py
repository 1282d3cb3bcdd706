"""What a quality network says of images that it was not trained for, and whether that may be believed."""

import numpy as np
import pandas as pd


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


def wrong_order(gap) -> int:
    """Pairs in which the low dose is not called worse. Args: gap: by how much the full dose is called better; a value
    that is not finite is no evidence of the right order and counts as wrong."""
    return int((~(np.asarray(gap, np.float64) > 0)).sum())
