"""Do scores see what a diagnosis needs? What lost lesions and a harmless shift move, and which judges notice faults."""

import pandas as pd

from ldct_utils.answers import said
from ldct_utils.answers.words import listed, percent, share, within
from ldct_utils.report import metric_words
from ldct_utils.report.sentences import capital, number, plural, some

LIKE_MSE = {"ssim": "SSIM in HU", "ssim_window": "SSIM (window)"}
IN_SENTENCES = {"eraser, knows lesions": "eraser", "eraser, blind": "blind eraser"}
FAULTS = {
    "eraser, knows lesions": "the eraser removes lesions",
    "inserter": "the inserter adds one that is not there",
    "texture paster": "the texture paster adds fine texture that was never measured",
}
TESTS = {
    "test of segments (09a)": "The test of segments asks of each segment whether its contrast changed by more than "
    "noise explains; as a judge its threshold is set on patients, in 09a by repeated scans.",
    "invented fine structure (04b)": "The judge of invented fine structure looks for detail that comes back in "
    "every scan and is not in the truth.",
    "Fourier rings (sFRC), against the truth": "Fourier rings compare patches with the truth, frequency by frequency.",
}
NOTICED = (
    "A judge raises an alarm where its score is beyond that of 95 % of patients after the same denoiser without the "
    "fault; the image that was not denoised is compared with the denoiser without any fault. It notices a fault if "
    "alarms are more frequent than without it. Judges are given the noise-free truth, the normal dose or the lesion."
)


def answer(blocks) -> tuple[list, list]:
    words, more = [], []
    if "audit" in blocks:
        gone = blocks["audit"].get("lesion_removed")
        if not gone or not gone["metrics"]:
            words.append(said.removal(blocks))
        else:
            words += by_removal(blocks["audit"])
            more += by_others(blocks["audit"])
            if alike := blocks["audit"].get("like_mse"):
                more.append(metric_words.in_disguise(pd.DataFrame(alike), LIKE_MSE))
                more.append("So SSIM over all HU is hardly a second opinion beside PSNR.")
            more += by_pixel(gone)
            if most := blocks["audit"].get("moved", {}).get("MaxSRMSE"):
                more.append(
                    "One score, MaxSRMSE (the error of the worst segment), is moved by lost lesions "
                    f"{number(most['value'], 1)} times{within(most, 1)} as much as by the dose."
                )
    if "judges" in blocks:
        words.append(one_judge(blocks["judges"]))
        more += rates_of(blocks["judges"]) + about_judges(blocks["judges"])
    return words, more


def worse(n) -> str:
    """``14 of 18 scores get worse in every patient`` whose lesions are removed. Args: n: of 04c."""
    fall, of = int(n["lesion_removed"]["falls_in_all"]), int(n["lesion_removed"]["metrics"])
    return f"{some(fall, of, 'score')} {'gets' if fall < 2 else 'get'} worse in every patient"


def by_removal(n) -> list[str]:
    """How far the score that all use is moved by lost lesions, and by a shift of all values. Args: n: of 04c."""
    gone, shifted = (n.get(name) or {} for name in ("moved", "moved_by_shift"))
    if "PSNR" not in gone:
        return [f"When every lesion is removed, {worse(n)}."]
    told = f"When every lesion is removed, PSNR moves by {size(gone['PSNR'])} of what cutting the dose does."
    if "PSNR" not in shifted:
        return [told]
    shift = f"A shift of all values by {n.get('shift_hu', 0):g} HU hides nothing, yet moves PSNR by"
    return [told, f"{shift} {size(shifted['PSNR'])}."]


def by_others(n) -> list[str]:
    """How many scores get worse, and how far the other two that all use are moved. Args: n: of 04c."""
    gone, shifted = (moves(n.get(name) or {}) for name in ("moved", "moved_by_shift"))
    told = [f"Without lesions {worse(n)}."] if "PSNR" in n.get("moved", {}) else []
    if gone:
        after = f"; after the shift {shifted}" * bool(shifted)
        told.append(f"Without lesions {gone} of what cutting the dose does{after}.")
    return told


def moves(moved: dict) -> str:
    """How far scores are moved: ``SSIM moves by 3 % and SSIM (window) by 2 %``. Args: moved: {score: span}, in units of
    what cutting the dose to a quarter moves it."""
    ends = [(name, size(moved[name])) for name in ("SSIM", "SSIM (window)") if name in moved]
    return listed(f"{name}{' moves' * (not place)} by {size}" for place, (name, size) in enumerate(ends))


def size(move: dict) -> str:
    """How far a score is moved, up or down, with its interval: ``6 % (3 to 9)``."""
    turned = {"value": abs(move["value"])}
    if {"low", "high"} <= set(move):
        turned |= dict(zip(("low", "high"), sorted((move["low"], move["high"]) if move["value"] > 0 else
                                                   (-move["low"], -move["high"]))))  # fmt: skip
    return share(turned)


def by_pixel(gone: dict) -> list[str]:
    """That lesions are small, which is why their loss moves scores little. Args: gone: of ``by_harm`` of 04c."""
    if gone["size"] is None:
        return []
    ends = {name: {"value": gone[name]} | {end: gone[f"{name}_{end}"] for end in ("low", "high")
                                           if gone.get(f"{name}_{end}") is not None}
            for name in ("size", "per_voxel") if gone.get(name) is not None}  # fmt: skip
    typical = f"In the median of {plural(int(gone['metrics']), 'score')} lost lesions move one by {share(ends['size'])}"
    few = f"lesions are {100 * gone['share']:.1f} % of the body"
    if not gone.get("per_voxel"):
        return [f"{typical}; {few}."]
    times = f"{number(gone['per_voxel'], 1)} times{within(ends['per_voxel'], 1)}"
    return [f"{typical}; {few}, and by changed voxel that is {times} the effect of the dose."]


def raised(change_hu: float) -> str:
    """By how much an error changes, HU, as the end of a sentence."""
    if abs(change_hu) < 0.05:
        return "does not change the error"
    return f"{'raises' if change_hu > 0 else 'lowers'} the error by {abs(change_hu):.1f} HU"


def one_judge(n) -> str:
    """How many judges notice planted faults. Args: n: of 15_judges."""
    faults, judges = plural(n["faults"], "planted fault"), plural(len(n["caught_of_faults"]), "computed judge")
    best = said.best_judges(n)
    if not n["decided"]:
        return f"{capital(judges)} saw {faults}, in too few patients to decide."
    if not best:
        return f"Of {judges}, none is shown to notice any of {faults}."
    most, asked = n["caught_of_faults"][best[0]], n.get("asked_of_faults", {}).values()
    able = sum(count == n["faults"] for count in asked)
    judges += f", {able} of which could be asked about every fault" * (able < len(asked))
    what = (
        f"all {faults}"
        if 1 < most == n["faults"]
        else "the planted fault"
        if n["faults"] == 1
        else f"{most} of {faults}"
    )
    names, fooled = [f"“{said.plainly(one)}”" for one in best], said.false_alarms(n)
    if len(best) > 1:
        rest = f"; false alarms at the noise-free truth are raised by {listed(said.plainly(one) for one in fooled)}"
        return f"Of {judges}, {listed(names)} are shown to notice {what}{rest * bool(fooled)}."
    unsure = "It is not reliable: at the noise-free truth, which has no fault, it raises an alarm in"
    rest = f" {unsure} {fooled[best[0]]} of patients." if fooled else ""
    return f"Of {judges}, only {names[0]} is shown to notice {what}.{rest}"


def by_fault(rates: dict) -> str:
    """``the eraser and the inserter in 82 % of patients and the texture paster in 27 % of patients``."""
    same = {}
    for fault, rate in rates.items():
        told = share(rate) if isinstance(rate, dict) else percent(rate)
        same.setdefault(told, []).append(f"the {IN_SENTENCES.get(fault, fault)}")
    return listed(f"{listed(faults)} in {rate} of patients" for rate, faults in same.items())


def rates_of(n) -> list[str]:
    """How often one best judge notices each fault, or who of several raised false alarms, and how often."""
    fooled, best = said.false_alarms(n), said.best_judges(n)
    if len(best) == 1:
        rates = n.get("noticed", {}).get(best[0], {})
        return [f"The judge “{said.plainly(best[0])}” notices {by_fault(rates)}; chance gives 5 %."] if rates else []
    if not fooled:
        return []
    alarms = listed(f"“{said.plainly(judge)}” in {rate} of patients" for judge, rate in fooled.items())
    return [f"At the noise-free truth, an alarm is raised by {alarms}."]


def about_judges(n) -> list[str]:
    """What the faults and the best test are, and when a fault is noticed. Args: n: of 15_judges."""
    faults = [words for name, words in FAULTS.items() if name in n.get("columns", [])]
    told = "The faults stand in a denoiser that knows the noise-free truth and leaves about half of the noise"
    told = [f"{told}: {listed(faults)}." if faults else f"{told}."]
    told += [words for name, words in TESTS.items() if name in n["caught_of_faults"]] + [NOTICED]
    pairs = f"Intervals are not corrected for the {n.get('pairs', 0)} pairs of a judge and a fault."
    return told + [pairs] * (n.get("pairs", 0) > 1)
