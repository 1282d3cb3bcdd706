"""The report card in words: one sentence for each question that somebody asks first."""

import numpy as np
import pandas as pd

from ldct_utils.denoisers.card import MEASURES

PLAIN = {  # measures as they stand in a sentence
    "rmse": "error", "ssim": "SSIM", "bias": "the HU of tissues", "mean_srmse": "the error of structures",
    "max_srmse": "the error of the worst structure", "kept": "the contrast of lesions", "noise": "noise",
    "texture": "the texture of the noise", "detected": "what the data tell of faint lesions",
    "seen": "how faint lesions are seen by a model of the eye",
}  # fmt: skip
NOT_TESTED = (
    "Not tested: readers, other scanners and doses, and what it cannot tell apart (`05_invariances`, for networks that "
    "pass gradients)."
)


def listed(names) -> str:
    """Names as a sentence lists them: a; a and b; a, b and c."""
    names = list(names)
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def in_percent(one) -> str:
    """A dose with its interval, % of the normal one. Args: one: ``equivalence.Dose``."""

    def told(dose):
        if np.isinf(dose):
            return f"over {100 * one.highest:.0f}"
        return f"under {100 * one.lowest:.0f}" if dose == 0 else f"{100 * dose:.0f}"

    within = "" if np.isnan(one.low) else f" ({told(one.low)} to {told(one.high)})"
    return f"{told(one.dose)} %{within}"


def card(
    denoiser, beside_ldct: pd.DataFrame, worth: dict, dose: float, seconds: dict, people: str, sharp=()
) -> dict[str, str]:
    """{question: sentence}. Only what an interval decides is called better or worse.

    Args:
        denoiser: ``opened.Denoiser``. beside_ldct: ``card.beside`` with the untouched LDCT. worth: {observer: dose
            that a denoised image is worth}. dose: of the LDCT. seconds: a slice of 512 x 512 pixels, by denoiser.
        sharp: resolution at low contrast of the denoised and of the low-dose image, lp/mm; empty where not asked.
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
    if denoiser.name in seconds:
        found["How long does it take?"] = f"{seconds[denoiser.name]:.2g} s for a slice of 512 x 512 pixels here."
    missing = [
        about.label for name, about in MEASURES.items() if name == "kept" and name not in set(beside_ldct["measure"])
    ]
    found["What is not known?"] = NOT_TESTED + (
        f" Not asked: {listed(missing)}, without known lesions." if missing else ""
    )
    return found
