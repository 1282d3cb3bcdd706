"""Controls of drawn invariances on CT, with known answers (05a_train_invariances): what is shown and said of them."""

import pandas as pd

from ldct_utils.report.drawings import invariances
from ldct_utils.report.sentences import listed, percent, plural

ALT = "CT patches with a disc in the middle, a row a model and denoiser: input, output and three draws."
DENOISERS = ("eraser", "identity")
DRAWN = ("VAE + flow", "generator")  # models that the controls ask
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


def tried(rows) -> str:
    """With which settings the models were trained on the controls, in a sentence.

    Args: rows: mappings of ``known_ct.headline``; those of older runs lack the settings.
    """
    if not rows or any("updates" not in row for row in rows):
        return "The settings of these trainings are not recorded."
    each = []
    for row in rows:
        if row["model"] == "generator":
            each.append(f"{plural(row['updates'], 'update')} of the generator (noise of "
                        f"{plural(row['latent'], 'channel')})")  # fmt: skip
        else:
            each.append(f"{plural(row['updates'], 'update')} of the VAE (a code of {plural(row['latent'], 'number')})")
            each.append(f"{row['flow_updates']} of its flow")
    side = rows[0]["side"]
    what = f"{plural(rows[0]['batch'], 'patch')} of {side} × {side} pixels an update"
    return f"These trainings had {listed(each)}, with {what}."


def _by_verdict(controls, methods) -> dict[str, list]:
    """{fails, few (patients), unasked: names} of the drawn methods that no control has found to work."""
    works = {row["model"]: row["works"] for row in controls or []}
    found = {"fails": [], "few": [], "unasked": []}
    for one in (name for name in DRAWN if name in methods):
        if one not in works:
            found["unasked"].append(one)
        elif not works[one]:
            found["few" if works[one] is None else "fails"].append(one)
    return found


def warned(controls, methods) -> str:
    """What a reader of drawn images must know of their models; empty where all of them work on their controls.

    Args: controls: rows of ``known_ct.headline`` of the run of 05a, None or [] where it asked none. methods: what is
        shown, others than ``DRAWN`` are passed over.
    """
    found, words = _by_verdict(controls, methods), []
    for kind, names in found.items():
        if not names:
            continue
        who, one = listed(f"the {name}" for name in names), len(names) == 1
        who, its = f"T{who[1:]}", "its" if one else "their"
        words.append({
            "fails": f"{who} {'does' if one else 'do'} not work on {its} controls (05a): {its} rows say nothing.",
            "few": f"{who} had too few patients in {its} controls (05a): whether {its} rows say anything is not known.",
            "unasked": f"{who} {'was' if one else 'were'} not tried on controls (05a).",
        }[kind])  # fmt: skip
    return " ".join(words)


def marked(labels: dict, controls) -> dict:
    """Names of methods with a word at those that do not work on their controls. Args: labels: {method: its name}.
    controls: as of ``warned``."""
    fails = _by_verdict(controls, labels)["fails"]
    return {method: f"{name} (fails its controls)" if method in fails else name for method, name in labels.items()}


def patches(table: pd.DataFrame, images):
    """A patch of each model and denoiser. Args: table: of ``controlled``. images: its patches, (M, D, 5, P, P), HU."""
    titles = [f"{name}, {denoiser}" for name in table["model"] for denoiser in DENOISERS]
    return invariances.known_draws(titles, images.reshape(-1, *images.shape[2:]), (50, 300))
