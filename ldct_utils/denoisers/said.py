"""The report card in words: one sentence for each question that somebody asks first."""

import numpy as np
import pandas as pd

from ldct_utils.denoisers import unseen
from ldct_utils.denoisers.card import MEASURES
from ldct_utils.report.sentences import listed

PLAIN = {  # measures as they stand in a sentence
    "rmse": "error", "ssim": "SSIM", "bias": "the HU of tissues", "mean_srmse": "the error of structures",
    "max_srmse": "the error of the worst structure", "kept": "the contrast of lesions", "noise": "noise",
    "texture": "the texture of the noise", "detected": "what the data tell of faint lesions",
    "seen": "how faint lesions are seen by a model of the eye",
}  # fmt: skip
NOT_TESTED = "Not tested: readers, other scanners and doses."
NO_GRADIENT = "Not tested: no gradient. A search needs a network whose weights the study holds (a run, or hub:)."
MADE_ELSEWHERE = "since these images cannot be made anew"
WHY = {  # a measure of a denoiser that can be called has no value
    "bias": "without tissue in the slices", "kept": "without known lesions",
    **dict.fromkeys(("noise", "texture"), "without flat soft tissue in the slices"),
    **dict.fromkeys(("peak", "peak_moved"), "without flat soft tissue and a known pixel size"),
    **dict.fromkeys(("suspicious", "false_alarms"), "without enough structures in slices free of lesions"),
    **dict.fromkeys(("sharp", "sharp_strong"), "since the contrast of the edge never falls to a half"),
    **dict.fromkeys(("unseen_in", "unseen_out"), "without a gradient"),
}  # fmt: skip


def in_percent(one) -> str:
    """A dose with its interval, % of the normal one. Args: one: ``equivalence.Dose``."""

    def told(dose):
        if np.isinf(dose):
            return f"over {100 * one.highest:.0f}"
        return f"under {100 * one.lowest:.0f}" if dose == 0 else f"{100 * dose:.0f}"

    within = "" if np.isnan(one.low) else f" ({told(one.low)} to {told(one.high)})"
    return f"{told(one.dose)} %{within}"


def not_asked(denoiser, asked) -> str:
    """Which rows of the card have no value, and why: a sentence, or nothing. Args: asked: measures that have one."""
    reasons = {}
    for measure in (measure for measure in MEASURES if measure not in set(asked)):
        why = WHY.get(measure) if denoiser.images is None else MADE_ELSEWHERE
        reasons.setdefault(why or "since no value came out", []).append(MEASURES[measure].label)
    return f" Not asked: {'; '.join(f'{listed(those)}, {why}' for why, those in reasons.items())}." if reasons else ""


def seen(denoiser, searched: pd.DataFrame, iterations: int) -> str:
    """What a search for invariances found, with its controls, in words. Args: searched: of ``unseen``."""
    if denoiser.network is None or searched.empty:
        return NO_GRADIENT
    found = unseen.ratios(searched)
    (large, moves), (wide, passes) = (found.loc[(denoiser.name, one)] for one in unseen.SEARCHES)
    kept, hidden = (found.loc[key, "input"] for key in ((unseen.IDENTITY, "plain"), (unseen.BLIND, "aimed")))
    return (
        f"A search of {iterations} steps changed the input {large:.2f} times as much as two scans differ, and the "
        f"output {moves:.2f} times. Among changes of the size of anatomy it reached {wide:.2f} and {passes:.2f} times. "
        f"In a network that hides nothing the same search left {kept:.2f} (right: 0); in one with a blind spot it "
        f"found {hidden:.1f}, of the size of anatomy. `05_invariances` searches longer, and on known lesions."
    )


def card(
    denoiser, beside_ldct: pd.DataFrame, worth: dict, dose: float, costs: dict, people: str, sharp=(), asked=(),
    invariances: str = NO_GRADIENT,
) -> dict[str, str]:  # fmt: skip
    """{question: sentence}. Only what an interval decides is called better or worse.

    Args:
        denoiser: ``opened.Denoiser``. beside_ldct: ``card.beside`` with the untouched LDCT. worth: {observer: dose
            that a denoised image is worth}. dose: of the LDCT. costs: {denoiser: (seconds, megabytes) a slice of 512 x
            512 pixels}. sharp: resolution at low contrast of the denoised and of the low-dose image, lp/mm; empty
            where not asked. asked: measures that have a value. invariances: of ``seen``.
    """
    least = beside_ldct["measure"].map(lambda name: MEASURES[name].least)
    matters = beside_ldct["better"].abs() >= least
    better = [PLAIN[m] for m in beside_ldct.loc[matters & (beside_ldct["low"] > 0), "measure"]]
    worse = [PLAIN[m] for m in beside_ldct.loc[matters & (beside_ldct["high"] < 0), "measure"]]
    decided = len(beside_ldct) and beside_ldct["low"].notna().any()
    found = {}
    if not decided:
        found["What is it good at?"] = f"Not decided: {people} give no interval."
    else:
        found["What is it good at?"] = (
            f"{denoiser.name} improves {listed(better)} over the untouched low-dose image."
            if better else f"Nothing was shown to be better with {denoiser.name} than in the untouched low-dose image."
        )  # fmt: skip
        found["What does it cost?"] = (
            f"It worsens {listed(worse)}." if worse else "Of what has an interval, nothing was shown to be worse."
        )
    if worth:
        told = listed(f"{in_percent(one)} of the normal dose to the {observer}" for observer, one in worth.items())
        found["How much dose does it save?"] = (
            f"For a faint lesion at a known place the denoised image is as good as FBP at {told}; the low-dose image "
            f"has {100 * dose:.0f} %. No denoiser can raise what the CHO finds, which knows all noise; the NPWE has an "
            "eye and noise of its own."
        )
    if len(sharp) == 2:
        found["How fine a detail is left?"] = (
            f"At the edge of a disc of 30 HU half of the contrast is left up to {sharp[0]:.2f} lp/mm, in the low-dose "
            f"image up to {sharp[1]:.2f} (one phantom, no interval)."
        )
    if denoiser.name in costs:
        took, held = costs[denoiser.name]
        memory = "Memory was not measured." if np.isnan(held) else f"Memory rose by {held:.0f} MB at the peak."
        found["How long does it take?"] = f"{took:.2g} s for a slice of 512 x 512 pixels here. {memory}"
    found["What does it not see?"] = invariances
    found["What is not known?"] = NOT_TESTED + not_asked(denoiser, asked)
    return found
