"""Controls of drawn invariances on CT, with known answers (05a_train_invariances): what is shown and said of them."""

import pandas as pd

from ldct_utils.report.drawings import invariances
from ldct_utils.report.sentences import percent

ALT = "CT patches with a disc in the middle, a row a model and denoiser: input, output and three draws."
DENOISERS = ("eraser", "identity")
HEADS = {
    "model": "model", "denoiser": "denoiser", "slope": "slope of the draws' contrast on the disc's",
    "sd_hu": "SD of the contrast over draws, HU", "open_hu": "the same over patches, HU",
    ("hidden", "hidden_low", "hidden_high"): "draws that change the disc and hide it, %",
}  # fmt: skip


def by_denoiser(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of ``controlled`` with a row a model and denoiser, shares in %; columns as in ``HEADS``."""
    rows = []
    for one in table.to_dict("records"):
        for name in DENOISERS:
            row = {key: one[f"{name}_{key}"] for key in ("slope", "sd_hu", "open_hu")}
            row |= {key: 100 * one[f"{name}_{key}"] for key in ("hidden", "hidden_low", "hidden_high")}
            rows.append({"model": one["model"], "denoiser": name} | row)
    return pd.DataFrame(rows)


def said(table: pd.DataFrame) -> str:
    """Which models find what the eraser hides, and how freely they draw, in a sentence each."""
    words = []
    for one in table.itertuples():
        verb = "was asked in too few patients" if pd.isna(one.works) else "works" if one.works else "does not work"
        freely = f"behind the eraser the disc varies by {one.eraser_sd_hu:.1f} HU over draws, where "
        freely += f"{one.eraser_open_hu:.0f} is right"
        rates = f"{percent(one.eraser_hidden)} of draws hide a changed disc there, and {percent(one.identity_hidden)} "
        words.append(f"The {one.model} {verb}: {freely}; {rates}behind the identity.")
    return " ".join(words)


def patches(table: pd.DataFrame, images):
    """A patch of each model and denoiser. Args: table: of ``controlled``. images: its patches, (M, D, 5, P, P), HU."""
    titles = [f"{name}, {denoiser}" for name in table["model"] for denoiser in DENOISERS]
    return invariances.known_draws(titles, images.reshape(-1, *images.shape[2:]), (50, 300))
