"""Are newer networks better? The answer, and the table of methods by age with the sentence above it."""

import math

import pandas as pd

from ldct_utils.answers import said
from ldct_utils.answers.words import REFERENCES, called, listed
from ldct_utils.report.sentences import plural, some
from ldct_utils.training import designs

NO_VERDICT = {"not at a working point": "none: training not settled"}


def answer(blocks) -> tuple[list, list]:
    if "newer" not in blocks:
        return [], []
    n = blocks["newer"]
    enough = n["comparisons"] - n["too_few"]
    if enough <= 0:
        return [f"None of {plural(n['comparisons'], 'comparison')} had the patients and trainings for a verdict."], []
    better, worse, of = n["better"], n["worse"], plural(enough, "comparison")
    rule = "yes" if better == enough else "not always" if better else "not shown" if not worse else "no"
    told = (
        f"By scores, {rule}: in {of} with the best older method the newer network was better in {better or 'none'}, "
        f"worse in {worse or 'none'}, and not shown to differ in {(enough - better - worse) or 'none'}."
    )
    words = [told]
    if 0 < len(each := n.get("each", [])) <= said.FEW:
        words = [f"By scores, {rule}.", *map(said.of_one, reversed(each))]  # the newest first
    if unsettled := n.get("unfinished", []):
        has, its = ("has", "its training") if len(unsettled) == 1 else ("have", "their trainings")
        words.append(f"{listed(map(called, unsettled))} {has} no verdict: {its} had not settled.")
    against = [f"Scores are taken against the {REFERENCES[n['against']]}."] if n.get("against") in REFERENCES else []
    against += [than_truth(n["above_truth"], n.get("truth_pairs", 0))] if n.get("above_truth") else []
    return [*words, "A better score need not be a better diagnosis."], [*against, said.without(n).strip()]


def than_truth(above: dict, pairs: int) -> str:
    """By which scores methods are better than the truth. Args: above: {score: methods}, one at least. pairs: of a score
    and a method, that were compared."""
    alike = {}
    for name, methods in above.items():
        alike.setdefault(listed(map(called, methods)), []).append(said.score(name))
    told = listed(f"by {listed(names)} {who}" for who, names in alike.items())
    several = "These scores reward" if len(above) > 1 else "This score rewards"
    return (
        f"Against the normal dose the noise-free truth itself is shown to be worse than some methods: {told} "
        f"(intervals not corrected for {plural(pairs, 'pair')}). {several} an image for looking like one with the "
        "normal dose's noise."
    )


def asked_by(n) -> str:
    """The scores by which networks are compared, as a list. Args: n: of 11_denoisers."""
    names = dict.fromkeys(name for row in n["rows"] for name in row["scores"])
    return listed(said.score(name) for name in names)


def table(block: dict, lesions: dict) -> pd.DataFrame:
    """The methods of 11 by age: means with the interval of what each is better by, its verdict by SSIM, and what it
    keeps of faint lesions in percent. Args: block: of ``newer``. lesions: of ``kept``."""
    rows, faint = [], {row["method"]: row["faint"] for row in lesions.get("rows", []) if "faint" in row}
    faint |= {"LDCT": {"value": 1.0}} if faint else {}
    for row in block["rows"]:
        scores = row["scores"]
        ssim = scores.get("ssim", {})
        year = designs.YEARS.get(row["method"])
        line = {"method": called(row["method"]) + (f" ({year})" if year else "")} | {
            name: one["value"] for name, one in scores.items()
        }
        gain = ssim.get("better", {})
        line |= {"gain": gain.get("value"), "gain_low": gain.get("low"), "gain_high": gain.get("high")}
        if weak := faint.get(row["method"]):
            ends = zip(("faint", "faint_low", "faint_high"), ("value", "low", "high"))
            line |= {column: 100 * weak.get(end, math.nan) for column, end in ends}
        line |= {"rival": called(ssim["rival"]) if "rival" in ssim else "",
                 "verdict": NO_VERDICT.get(ssim.get("verdict"), ssim.get("verdict", ""))}  # fmt: skip
        rows.append(line)
    for row in block.get("controls", []):
        scores = {name: one["value"] for name, one in row["scores"].items()}
        rows.append({"method": row["method"], "rival": "", "verdict": "control"} | scores)
    return pd.DataFrame(rows)


def beaten(compared) -> str:
    """Which methods are better in SSIM than the best before them. Args: compared: of ``table``."""
    rivals = compared[compared["rival"] != ""]
    better = rivals[rivals["verdict"] == "better"]
    pairs = [f"{one.method} better than {one.rival}" for one in better.itertuples()]
    others = "; of no other method is it shown"
    if better.empty:
        return f"By SSIM, {some(0, len(rivals), 'method')} is shown to be better than the best before it."
    told = listed(pairs).replace(" better", " is shown to be better", 1)
    return f"By SSIM, {told}{others * (len(better) < len(rivals))}."
