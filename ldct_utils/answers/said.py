"""One sentence or two to each of fifteen questions, as docs/results.md and 12_answers list them.

The first page is made by ``front`` and ``five``, which take some of these. Blocks are those of one study's file.

Every function has a sentence for nothing found, for one, for all and for too few; a number that it needs and does not
find is a KeyError, which `results_blocks.write` names.
"""

import re

import pandas as pd
from scipy.stats import binom

from ldct_utils.answers.words import (
    OBSERVERS,
    REFERENCES,
    called,
    compared,
    counted,
    decided,
    fixed,
    grouped,
    known,
    listed,
    map_of,
    percent,
    reference_of,
    share,
    table,
    within,
)
from ldct_utils.metrics import benchmark
from ldct_utils.report.sentences import capital
from ldct_utils.task_based import trial
from ldct_utils.training import designs

FAINT = "faint lesions"
NOTEBOOKS = "{notebooks}/"  # where notebooks lie, seen from the page that a table stands on


# ---- losses ----
def mse_gain(blocks) -> str:
    row = next((row for row in blocks["influence"]["rows"] if row["method"] == "mse"), None)
    if row is None:
        return "The study trained no network with MSE."
    reference = reference_of(row["gain_db"])
    gain = row["gain_db"][reference]
    sure = {1: "Yes", 0: "Not shown", -1: "No"}[decided(gain)]
    way = "higher" if gain["value"] >= 0 else "lower"
    return (
        f"{sure}. PSNR against the {REFERENCES[reference]} is {fixed(abs(gain['value']))} dB {way} than that of the "
        f"input{within(gain, level='95 % interval')}; {counted(blocks['influence']['patients'], 'patient')}, "
        f"{counted(row['trainings'], 'training')}."
    )


def ranked(blocks) -> list:
    """(method, what it is better by than MSE) of the perceptual losses with most trainings, best first."""
    rows = [row for row in blocks["influence"]["rows"] if row["over_mse_db"]]
    most = max((row["trainings"] for row in rows), default=0)
    found = [(row["method"], row["over_mse_db"]) for row in rows if row["trainings"] == most]
    return sorted(((name, of[reference_of(of)]) for name, of in found), key=lambda pair: -pair[1]["value"])


def perceptual(blocks) -> str:
    arms = ranked(blocks)
    if not arms:
        return "The study compared no perceptual loss with MSE."
    (name, best), (last, worst) = arms[0], arms[-1]
    once = max(row["trainings"] for row in blocks["influence"]["rows"] if row["over_mse_db"]) == 1
    if len(arms) == 1:
        sure = "Not decided by one training" if once else {1: "Yes", 0: "Not shown", -1: "No"}[decided(best)]
        return f"{sure}. The one perceptual loss, {called(name)}, is {compared(best, 'dB', 'MSE')} in PSNR."
    signs = [decided(span) for _, span in arms]
    if once:
        sure = "Not decided by one training each"
    elif 1 in signs:
        sure = f"Yes, {signs.count(1)} of {len(arms)} perceptual losses" if 0 in signs or -1 in signs else "Yes, all"
    elif set(signs) == {-1}:
        sure = f"No. All {len(arms)} perceptual losses are worse in PSNR"
    else:
        sure = f"Not shown for any of {len(arms)} perceptual losses"
    return (
        f"{sure}. The best, {called(name)}, is {compared(best, 'dB', 'MSE')}. The worst, {called(last)}, is "
        f"{compared(worst, 'dB', 'MSE')}."
    )


def swaps(blocks) -> str:
    shares = blocks["influence"]["swapped"]
    slices = next((v for k, v in shares.items() if "slices" in k), None)
    if slices is None:
        return "Not tested: no labels were swapped."
    text = (
        f"{'No' if slices > 0.1 else 'Near enough here'}. With labels swapped within patients it finds a difference in "
        f"{percent(slices)} of trials, where 5 % would be right"
    )
    patients = [v for k, v in shares.items() if "slices" not in k]
    if not patients:
        return f"{text}."
    low, high = fixed(100 * min(patients), 1), percent(max(patients), 1)
    return f"{text}; with the patient as the unit, in {high if f'{low} %' == high else f'{low} to {high}'}."


def trainings(blocks) -> str:
    """The other null: two trainings of one loss, between which there is nothing that belongs to a loss."""
    twice, sd = blocks["influence"]["twice"], blocks["influence"]["seed_sd_db"]
    pairs, spread = counted(twice["pairs"], "such pair"), within(sd, level="95 % interval")
    return (
        f"Trainings of one loss differ in PSNR with an SD of {fixed(sd['value'])} dB{spread}. A Wilcoxon test over "
        f"patients calls {twice['significant']} of {pairs} different, where 5 % would be right for a test of losses."
    )


def tradeoff(blocks) -> str:
    return blocks["tradeoff"]["answer"] or "Not decided: the notebook stored no headline."


# ---- metrics ----
def together(blocks) -> str:
    n = blocks["agreement"]
    own, other = n["agreement_of_changes"], n["agreement_of_changes_with_other_seed"]
    text = f"Changes of losses and metrics between checkpoints correlate by {fixed(own)} in the median"
    if other is None:
        return f"Not decided. {text}; with one training a loss there is nothing to compare with."
    text += f", and with the metrics of another training by {fixed(other)}."
    pairs, beyond = n["pairs"], n["beyond"]
    if not pairs:
        return f"Not decided. {text}"
    if not beyond:
        none = f"Of none of {counted(pairs, 'pair')} is it shown to be more within a training than between two."
        return f"Not more than those of two trainings, as far as is shown. {text} {none}"
    sure, agree = "Few do" if 2 * beyond < pairs else "Yes", "1 agrees" if beyond == 1 else f"{beyond} agree"
    return f"{sure}. {text} Of {counted(pairs, 'pair')}, {agree} more within a training than between two."


def removal(blocks) -> str:
    n = blocks["audit"]
    if not n["of"]:
        return "Not asked: the audited slices hold no lesion."
    if known := n.get("lesion_removed"):
        fall, of = int(known["falls_in_all"]), int(known["metrics"])
        size = "" if known["size"] is None else (
            f" In the median they move by {percent(known['size'])} of what cutting the dose to 25 % moves them; "
            f"lesions are {100 * known['share']:.1f} % of the body."
        )  # fmt: skip
        said = "Yes" if fall == of else "In part" if fall else "No"
        return f"{said}. {fall} of {of} metrics get worse in every patient.{size}"
    blind, unit = n["blind_to_lesions"], "a twentieth of what cutting the dose to 25 % moves"
    if not blind:
        return f"Not refuted for any of {n['of']} metrics. None is shown to move by less than {unit} it."
    moves = "1 moves" if blind == 1 else f"{blind} move"
    return f"{'No' if blind == n['of'] else 'Not all'}. Of {n['of']} metrics, {moves} by less than {unit} them."


def noticed(blocks) -> str:
    n = blocks.get("details") or {}
    found, removed = n.get("noticed_hu"), n.get("removed")
    if not found or not removed:
        return ""
    one, by = removed[0], {}
    what = (
        f"{one['removed']} of {counted(one['structures'], 'lesion')} ({fixed(100 * one['share'], 1)} % of the voxels)"
    )
    for metric, hu in found.items():
        by.setdefault(hu, []).append(metric)
    words = [f"of {listed(by[hu])} up to {hu:g} HU" for hu in sorted(by) if hu]
    draws = f", {counted(n['draws'], 'draw')} of the noise each" if n.get("draws") else ""
    volumes = f"; {counted(one['volumes'], 'volume')}{draws}" if one.get("volumes") else ""
    if usual := blocks.get("cohort", {}).get("ndct_noise_hu"):
        volumes += f". A slice of the normal dose has {usual:.1f} HU of noise"
    if not words:
        return (
            f"Not shown. We removed {what} and added noise; no metric of {len(found)} is shown to notice it{volumes}."
        )
    never = f", and of {listed(by[0])} under none" if 0 in by else ""
    shown = f"That a metric notices it is shown {listed(words)} of noise{never}"
    return f"Yes, while noise is low. We removed {what} and added noise. {shown}{volumes}."


# ---- dose, newer networks, maps of quality ----
def doses(blocks) -> str:
    n, low = blocks["dose"], percent(blocks["dose"]["low_dose"])
    method = "mse" if "mse" in n["methods"] else next(iter(n["methods"]))
    worth, said = n["methods"][method].get("worth", {}), []
    dose_of = {m: "more than the full dose" if s["value"] is None else percent(s["value"]) for m, s in worth.items()}
    told = {f"{OBSERVERS.get(m, m)}{within(worth[m], 0, 100)}": dose for m, dose in dose_of.items()}
    seen = [f"{dose_of[m]} to a {OBSERVERS.get(m, m)}{within(worth[m], 0, 100)}" for m in worth
            if m.startswith("d'")]  # fmt: skip
    scored = {who: dose for (who, dose), m in zip(told.items(), worth) if not m.startswith("d'")}
    if scored:
        said.append(
            f"A crop of a liver at {low} of the dose, cleaned by the {called(method)} network, is as good as "
            f"{grouped(scored, 'by')}."
        )
    if seen:
        said.append(f"For {FAINT} it is as good as {listed(seen)}.")
    if "d' (CHO)" in worth:
        said.append("The Hotelling observer is trained anew on each network's images: processing can hardly raise it.")
    return " ".join(said) or "No dose could be compared."


def detection(blocks) -> str:
    """Whether the Hotelling observer gains, over all networks."""
    low, methods = blocks["dose"]["low_dose"], blocks["dose"]["methods"]
    spans = [of["worth"]["d' (CHO)"] for of in methods.values() if "d' (CHO)" in of.get("worth", {})]
    if not spans:
        return ""
    sure = pd.DataFrame([s for s in spans if known(s)], columns=["low", "high"]).add_prefix("worth_")
    gains, losses = (int(each.sum()) for each in trial.saved_and_lost(sure, low))
    who = f"For a model observer that allows for the noise texture and looks for {FAINT},"
    if len(spans) == 1:
        return f"{who} the network {'saves' if gains else 'costs' if losses else 'is not shown to save'} dose."
    if gains or losses:
        low, high = (fixed(100 * end(s["value"] for s in spans), 1) for end in (min, max))
        saves, costs = ("saves" if gains == 1 else "save"), ("costs" if losses == 1 else "cost")
        counts = f"{gains or 'none'} of {len(spans)} networks {saves} and {losses or 'none'} {costs} dose"
        return f"{who} {counts}: the cleaned images are as good as {low} to {high} % of the dose."
    return f"{who} none of {len(spans)} networks is shown to save any, and none could: it is a ceiling."


def newest(blocks) -> str:
    n = blocks["newer"]
    enough = n["comparisons"] - n["too_few"]
    if enough <= 0:
        few = counted(n["comparisons"], "comparison")
        return f"Not decided. None of {few} had the patients and trainings for a verdict."
    rest, all_of_them = enough - n["better"] - n["worse"], counted(enough, "comparison")
    if told := one_by_one(n):
        return f"{capital(told)}{without(n)}"
    return (
        f"In {n['better'] or 'none'} of {all_of_them} with a verdict. The newer network was "
        f"worse in {n['worse'] or 'none'} and not shown to differ in {rest or 'none'}.{without(n)}"
    )


SCORES = {"rfs": "radiomic similarity"}
FEW = 3  # networks that are told one by one


def score(name: str) -> str:
    return SCORES.get(name, benchmark.LABELS.get(name, name)).split(",")[0]


def of_one(one: dict) -> str:
    """What a network was better and worse in than the best method before it. Args: one: of ``each`` of 11."""
    before = called(one["rivals"][0]) if len(one.get("rivals", [])) == 1 else "the best before it"
    names = listed(score(name) for name in one.get("open", []))
    return (
        f"{called(one['method'])} ({one['year']}) was better than {before} by {one['better'] or 'none'} of "
        f"{counted(one['asked'], 'score')}, worse by {one['worse'] or 'none'}"
        f"{f', and not shown to differ by {names}' if names else ''}."
    )


def one_by_one(n) -> str:
    """What few networks were better in, one sentence each, after whether any was better than an older network."""
    each = n.get("each", [])
    if not 0 < len(each) <= FEW:
        return ""
    rule = rule_of(n)
    return f"{rule}{'. ' * bool(rule)}{' '.join(of_one(one) for one in each)}"


def rule_of(n) -> str:
    """Whether any of few networks was better than an older network, without a full stop; empty where none met one."""
    each = n.get("each", [])
    met = [one for one in each if set(one.get("rivals", [])) & set(designs.YEARS)] if len(each) <= FEW else []
    better = [called(one["method"]) for one in met if one["better"]]
    if better:
        return f"{listed(better)} {'was' if len(better) == 1 else 'were'} better than an older network by some scores"
    names = [called(one["method"]) for one in met]
    who = f"{names[0]} was not" if len(names) == 1 else f"none of {listed(names)} was"
    return f"{who} shown to be better than an older network" if met else ""


WITHOUT = {
    "too few patients": "with too few patients (as within one anatomy)", "one training": "with one training",
    "no seed in common": "with no seed in common",
}  # fmt: skip


def without(n) -> str:
    """Why comparisons of networks have no verdict, after a space; nothing where all have one."""
    settled = f"of {listed(n.get('unfinished', []))}, whose training had not settled"
    why = WITHOUT | {"not at a working point": settled}
    words = [f"{count} {why.get(reason, f'({reason})')}" for reason, count in n.get("without", {}).items()]
    count = counted(sum(n.get("without", {}).values()), "comparison")
    return (
        f" Besides, {count} {'has' if count.startswith('1 ') else 'have'} no verdict: {listed(words)}." if words else ""
    )


def maps(blocks) -> str:
    n, found = blocks["quality"], {}
    for pair in n["pairs"]:
        first, _, second = pair["pair"].partition(" − ")
        if first.lower() == n["assessed"]:
            sign = decided(pair["difference"]) * (1 if pair["metric"] == "ssim" else -1)
            found.setdefault(second, {}).setdefault(sign, []).append(pair["metric"].upper())
    said, alike = {1: "better than", -1: "worse than", 0: "not shown to be better than"}, {}
    for second, of in found.items():
        how = tuple((word, listed(of[sign])) for sign, word in said.items() if sign in of)
        alike.setdefault(how, []).append(map_of(second))
    words = []
    for how, rivals in alike.items():
        verdicts = listed(f"{word} that of {listed(rivals)} in {by}" for word, by in how)
        words.append(f"The map of {map_of(n['assessed'])} is {verdicts}.")
    return " ".join(words) or "The study compared its maps with no baseline."


# ---- what denoisers hide, remove and invent ----
def reach(rows) -> str:
    """Which lesions the search can change: it allows the output a share alpha of the change's power."""
    alpha = max((row["alpha"] for row in rows if "alpha" in row), default=None)
    if alpha is None:
        return ""
    kept = [row["kept"]["value"] for row in rows if "kept" in row]
    ends = " to ".join(dict.fromkeys(f"{100 * end:.0f}" for end in (min(kept), max(kept)))) if kept else ""
    limit = f"a network keeps less than {percent(alpha**0.5)} of the contrast"
    these = f"; these networks keep {ends} % on average" if kept else ""
    below = [f"{row['within_reach'] or 'none'} of {row['lesions']}" for row in rows if row.get("lesions")]
    told = f" (under {percent(alpha**0.5)}: {listed(dict.fromkeys(below))} lesions)" if below else ""
    none = not any(row.get("within_reach") for row in rows)
    if kept and min(kept) > alpha**0.5 and none:
        return f" It could hardly find a hidden one: small changes work only where {limit}{these}{told}."
    return f" Small changes work only where {limit}{these}{told}."


CHANCE = 0.05  # of lesions that look changed where the search changed none


def beyond_chance(counts: dict) -> bool:
    """Whether more lesions are hidden than chance makes look changed (binomial test, 5 %)."""
    return binom.sf(counts["hidden"] - 1, counts["tested"], CHANCE) < 0.05


def hidden(blocks) -> str:
    rows = blocks["invariances"]["rows"]
    ways = [[row[w] for w in ("search", "aimed") if row.get(w, {}).get("tested")] for row in rows]
    found = [max(of, key=lambda c: (c["hidden"], c.get("changed") or 0)) for of in ways if of]
    if not found:
        return "Not asked: the searched images hold no known lesion."
    lesions, hiding = max(c["tested"] for c in found), [c["hidden"] for c in found if beyond_chance(c)]
    networks = counted(len(found), "trained network")
    if hiding:
        who = "the network" if len(found) == 1 else f"{len(hiding)} of {networks}"
        few = max((c["hidden"] for c in found if not beyond_chance(c)), default=0)
        rest = (
            f" Another one hides {few}, but other scans alone change {percent(CHANCE)} of lesions as much."
            if few
            else ""
        )
        return f"Yes, by {who}: at most {max(hiding)} of {counted(lesions, 'known lesion')}.{rest}"
    if most := max(c["hidden"] for c in found):
        return (
            f"Not shown. At most {most} of {counted(lesions, 'known lesion')} {'is' if most == 1 else 'are'} hidden "
            f"({networks}), and other scans alone change {percent(CHANCE)} of lesions as much."
        )
    changed = max(c.get("changed") or 0 for c in found)
    if changed:
        return f"No, of {lesions} known lesions; the search changed at most {changed} ({networks})."
    return (
        "Not known. Our search changes a lesion in the input so that the output stays as it is."
        f"{reach(rows)} Of {counted(lesions, 'known lesion')} it changed none by more than a second scan of the "
        f"patient does ({networks})."
    )


def planted(blocks) -> str:
    rows = [r for r in blocks["changes"]["found"] if r["of"] == "all"]
    if not rows:
        return "No change was planted."
    words = [f"{share(r['found'])} of planted {r['kind']}s" for r in rows]
    outlined = listed(f"{r['shown']} {r['kind']}s" for r in rows)
    others = blocks["changes"].get("others", {})
    beside = listed(f"{name} {listed(percent(one) for one in found.values())}" for name, found in others.items())
    return (
        f"In part. At one false alarm a slice the test of segments finds {listed(words)}, counted one by one. "
        f"{f'For comparison, of insertions and removals: {beside}. ' * bool(others)}"
        f"It can find only what a segment outlines: {outlined}."
    )


# ---- whom to believe ----
def best_judges(n) -> list[str]:
    """The judges that notice most faults; none where nobody notices one. Args: n: of 15_judges."""
    most = max(n["caught_of_faults"].values(), default=0)
    return [judge for judge, count in n["caught_of_faults"].items() if count == most > 0]


def plainly(judge: str) -> str:
    """The name of a judge without the number of its notebook."""
    return re.sub(r" \(\d\d[a-z]?\)", "", judge)


def false_alarms(n) -> dict:
    """{those of the best judges that call the noise-free truth faulty: in which share of patients, in words}."""
    if "noise-free truth" not in n.get("columns", []):
        return {}
    at = n["columns"].index("noise-free truth")
    alarms = {row[0]: row[at].partition(": ")[2] for row in n["rows"] if row[at].startswith("alarm")}
    fooled = {judge: re.sub(r"\[(\d+), (\d+)\]", r"(\1 to \2)", rate) for judge, rate in alarms.items()}
    return {judge: fooled[judge] for judge in best_judges(n) if judge in fooled}


def believed(blocks) -> str:
    n = blocks["judges"]
    fooled = false_alarms(n) if n.get("decided") else {}
    alarms = listed(f"“{plainly(judge)}” in {rate} of patients" for judge, rate in fooled.items())
    told = f" At the noise-free truth, where no alarm is right, one is raised by {alarms}." if fooled else ""
    return f"{n['answer']}{told}"


def passing(blocks) -> str:
    n = blocks["observers"]
    failed = f" {capital(listed(n['failed']))} failed." if n["failed"] else ""
    blind = [name for name in n.get("blind_to_fading", []) if name in n["believed"]]
    fading = f" {len(blind)} of them cannot see a fade that weakens a lesion and its noise alike." if blind else ""
    cost = f"{n['costs']} cost{'s' * (n['costs'] == 1)}"
    return (
        f"{len(n['believed'])} of {len(n['believed']) + len(n['failed'])} model observers passed every test, all scans "
        f"pooled.{fading}{failed} Of {counted(n['asked'], 'comparison')} by those that could gain from a denoiser, "
        f"{n['saves']} save{'s' * (n['saves'] == 1)} dose. Over all tasks of these observers, {cost} dose."
    )


def both_tasks(blocks) -> str:
    return blocks["two_tasks"]["answer"]


# {question: (the block that answers it, its notebook, what is said)}
QUESTIONS = {
    "Does a U-Net trained with MSE improve on its input?": ("influence", "06_stats", mse_gain),
    "Does a perceptual term in the loss raise PSNR?": ("influence", "06_stats", perceptual),
    "What does a perceptual term give and take?": ("tradeoff", "14_tradeoff", tradeoff),
    "Is it sound to test slices as if each were a patient?": ("influence", "06_stats", swaps),
    "Do losses and metrics of one training agree?": ("agreement", "04_metrics_during_training", together),
    "Do metrics notice that every lesion is gone?": ("audit", "04c_metric_audit", removal),
    "Are a few removed lesions noticed?": ("details", "09_subtle_details", noticed),
    "How much dose does a network save?": ("dose", "04b_dose", doses),
    "Which observers can be believed?": ("observers", "04d_observers", passing),
    "Does denoising help to detect and harm to characterise?": ("two_tasks", "04e_detect_or_characterise", both_tasks),
    "Which judges can be believed?": ("judges", "15_judges", believed),
    "Are newer denoisers better?": ("newer", "11_denoisers", newest),
    "Does quality show without a reference?": ("quality", "08_noise2quality", maps),
    "Is a lesion hidden?": ("invariances", "05_invariances", hidden),
    "Is a removed or invented structure found?": ("changes", "09a_hallucinations", planted),
}


def asked(say, blocks) -> str:
    """What is said, after the question that it answers."""
    return next(f"*{question}* {say(blocks)}" for question, entry in QUESTIONS.items() if entry[2] is say)


def answered(blocks) -> pd.DataFrame:
    """Columns question, answer, notebook: of the questions that these blocks answer, in order."""
    found = [
        {"question": question, "answer": say(blocks), "notebook": notebook}
        for question, (block, notebook, say) in QUESTIONS.items()
        if block in blocks
    ]
    told = pd.DataFrame(found, columns=["question", "answer", "notebook"])
    return told[told["answer"] != ""].reset_index(drop=True)


def open_questions(blocks) -> list[str]:
    """The questions that these blocks do not answer."""
    return [question for question in QUESTIONS if question not in set(answered(blocks)["question"])]


def answers(blocks) -> str:
    """A table of all questions; those that the study did not ask are named below it."""
    rows = [[q, said, f"[`{notebook}`]({NOTEBOOKS}{notebook}.py)"] for q, said, notebook in answered(blocks).to_numpy()]
    open_ones = [f"“{question}”" for question in open_questions(blocks)]
    left = f"\n\nNot answered by this study: {listed(open_ones)}" if open_ones else ""
    return table(["question", "answer", "notebook"], rows) + left
