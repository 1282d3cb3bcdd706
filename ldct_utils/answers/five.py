"""The five answers of the report's first page in words: each its sentences, and what else is known.

An answer is two lists of sentences: the answer, short enough to be read in passing, and what else is known, which is
folded away. Both are empty where the study did not ask.
"""

import math

from ldct_utils.answers import said
from ldct_utils.answers.words import (
    DOMAINS,
    FILTER,
    READERS,
    REFERENCES,
    called,
    compared,
    decided,
    grouped,
    known,
    listed,
    percent,
    reference_of,
    share,
    within,
)
from ldct_utils.report.sentences import capital, number, plural, some
from ldct_utils.stats import blending
from ldct_utils.task_based import tasks


# ---- what dose an image is worth ----
def whole_by_network(blocks) -> dict[str, dict]:
    """``whole_slices`` of every network of 14, by its name in words."""
    mse = whole_slices(blocks)
    if not mse:
        return {}
    gains = {row["loss"]: row["gain_db"] for row in blocks["tradeoff"].get("rows", []) if "gain_db" in row}
    plain = {FILTER: found} if (found := filter_dose(blocks)) else {}
    return {"MSE": mse} | {name: as_dose(blocks["dose"]["low_dose"], gain) for name, gain in gains.items()} | plain


def as_dose(low: float, gain_db: dict) -> dict:
    return {end: low * 10 ** (value / 10) for end, value in gain_db.items()}


def whole_slices(blocks) -> dict | None:
    """The dose of an uncleaned slice with the RMSE of the MSE network's, over whole slices: noise falls as the root of
    the dose, so that a gain of g dB is a dose 10^(g / 10) times as high. None where 14 did not ask."""
    gain = blocks.get("tradeoff", {}).get("mse_gain_db")
    if not gain or "dose" not in blocks:
        return None
    return as_dose(blocks["dose"]["low_dose"], gain)


def filter_dose(blocks) -> dict | None:
    """The same for the plain filter that gains most, at its best strength, with its name."""
    gain = dict(blocks.get("tradeoff", {}).get("filter_gain_db") or {})
    if not gain or "dose" not in blocks:
        return None
    return {"name": gain.pop("name")} | as_dose(blocks["dose"]["low_dose"], gain)


def readers(blocks, worth) -> str:
    """What the cleaned images are worth to computed readers: the end of a sentence on what they are worth by a score.

    Args: worth: doses by measure, of every network of 04b.
    """
    if "observers" in blocks:
        return seen_at_best(blocks["observers"], trusted(blocks))
    ideal = [of["d' (CHO)"]["value"] for of in worth if known(of.get("d' (CHO)", {}))]
    if not ideal:
        return "; whether lesions are seen any better was not asked"
    return f"; at best, an ideal observer sees faint lesions in them as well as at {percent(max(ideal))} of the dose"


def seen_at_best(n, believed: dict) -> str:
    """At what dose readers to whom dose is saved put cleaned images, each at its best, and those of a plain filter.

    Args: n: of 04d. believed: of ``trusted``.
    """
    if not believed:
        return ", but no computed reader could be asked that can see a gain and catches faults"
    gain = {name: one for name, one in believed.items() if one["saves"]}
    if not gain:
        return f", but no gain was shown to {anybody(believed)}"
    sees, they = ("sees", "it puts") if len(gain) == 1 else ("see", "they put")
    puts = f"{of_readers(gain, believed)} {sees} a gain: {they} the best network's images at"
    plain = [n["filters"][name]["value"] for name in gain if name in n.get("filters", {})]
    beside = f", and the best plain filter's at {each_of(plain)}" if plain else ""
    return f"; {where(gain).strip()} {puts} {each_of([one['best']['value'] for one in gain.values()])}{beside}"


def rising(doses) -> list[str]:
    """Doses in %, the least first; one that is not known lies beyond the normal one."""
    order = sorted(doses, key=lambda dose: math.inf if dose is None else dose)
    return ["more than 100 %" if dose is None else percent(dose) for dose in order]


def each_of(doses) -> str:
    """``27 and 59 %``, the least first."""
    told = rising(doses)
    return listed([*(one.removesuffix(" %") for one in told[:-1]), told[-1]])


def of_readers(gain: dict, believed: dict) -> str:
    """``2 of 3 computed readers``: to how many of those that were asked dose is saved."""
    return f"{len(gain)} of {plural(len(believed), 'computed reader')}"


def ends_of(doses) -> str:
    """``26 to 59 %``."""
    low, *_, high = rising([*doses, *doses])
    return high if low == high else f"{low.removesuffix(' %')} to {high}"


def anybody(believed: dict) -> str:
    return "the computed reader" if len(believed) == 1 else f"any of {len(believed)} computed readers"


def where(believed: dict) -> str:
    """In what the lesions lay that readers find best, after a space."""
    places = {"livers" if one["best"]["task"] == tasks.PATIENTS else "uniform cylinders" for one in believed.values()}
    return f" in {' and '.join(sorted(places, reverse=True))}"


def saved_in_livers(asked: int, saves: int) -> str:
    return f"{saves} of {plural(asked, 'comparison')} save{'s' * (saves == 1)} dose" if saves else "no gain was shown"


def trusted(blocks) -> dict:
    """Computed readers that could gain, without those that 15 found to catch no planted fault."""
    silent = blocks.get("judges", {}).get("silent", [])
    every = blocks["observers"]["readers"]
    return {name: one for name, one in every.items() if not any(f"({name})" in judge for judge in silent)}


# ---- the answers ----
def loss(blocks) -> tuple[list, list]:
    if "influence" not in blocks:
        return [], []
    arms = said.ranked(blocks)
    random = bool(arms) and all(" · random · " in name for name, _ in arms)
    more = []
    domain = blocks["influence"].get("domain")
    if "tradeoff" in blocks and domain not in (None, "hu"):
        more.append(in_hu(blocks["tradeoff"], DOMAINS.get(domain, domain)))
    against = blocks.get("details", {}).get("against", [])
    more += against_target(blocks) + seen_by_loss(against)
    kept, about_kept = kept_by_losses(blocks.get("tradeoff", {}))
    usual = ["A VGG trained on photographs, as is usual, was not tried."] * random
    return [psnr_of_losses(blocks, arms, random), *kept, *seen_better(against), *usual], [*about_kept, *more]


def in_hu(n, scale: str) -> str:
    """What the best perceptual loss costs where errors are taken in HU. Args: n: of 14. scale: of the answer."""
    told = f"The dB of the answer are of {scale}, those of the figure of lesions' contrast of HU"
    gains = [row["gain_db"]["value"] for row in n.get("rows", []) if "VGG" in row["loss"] and "gain_db" in row]
    if not gains or not n.get("mse_gain_db"):
        return f"{told}: they cannot be compared."
    gap = round(n["mse_gain_db"]["value"] - max(gains), 1)
    way = f"{number(abs(gap), 1)} dB {'worse' if gap > 0 else 'better'} than" if gap else "as good as"
    return f"{told}; in HU the best perceptual loss is {way} MSE in the mean."


def psnr_of_losses(blocks, arms, random: bool) -> str:
    if not arms:
        return "No perceptual loss was compared with MSE."
    (_, best), signs = arms[0], [decided(span) for _, span in arms]
    several = "the perceptual loss" if len(arms) == 1 else f"the best of {len(arms)} perceptual losses"
    if random:
        several += f", {'all ' * (len(arms) > 1)}with an untrained encoder,"
    against = f"By PSNR against the {REFERENCES[reference_of(blocks['influence']['rows'][0]['gain_db'])]}"
    if max(row["trainings"] for row in blocks["influence"]["rows"] if row["over_mse_db"]) == 1:
        return "With one training a loss nothing is decided about losses."
    if better := signs.count(1):
        return f"{against}, yes: {some(better, len(arms), 'perceptual loss')} beat MSE."
    sure = "no" if signs.count(-1) == len(arms) else "not shown"
    return f"{against}, {sure}: {several} is {compared(best, 'dB', 'MSE')}."


def against_target(blocks) -> list[str]:
    """The same against the normal-dose slice, on which networks are trained, where the truth is known as well."""
    gaps = [
        row["over_mse_db"]["ndct"]
        for row in blocks["influence"]["rows"]
        if {"ndct", "truth"} <= set(row["over_mse_db"])
    ]
    if not gaps:
        return []
    best = max(gaps, key=lambda span: span["value"])
    return [f"Against the normal-dose slice, on which all are trained, the best is {compared(best, 'dB', 'MSE')}."]


def kept_by_losses(n) -> tuple[list, list]:
    """What losses keep of a lesion's contrast beyond a mix of the MSE image and its input. Args: n: of 14_tradeoff."""
    rows = n.get("rows", [])
    if not rows:
        return [], []
    buying = [row for row in rows if row["answer"] == blending.BETTER and "more_kept" in row]
    perceptual = [row for row in rows if "VGG" in row["loss"]]
    others, keep = some(len(buying), len(rows), "other loss"), "keeps" if len(buying) < 2 else "keep"
    if buying and buying == perceptual:
        others = "the perceptual loss" if len(buying) == 1 else f"all {len(buying)} perceptual losses"
    blend = "more of it than a blend of the MSE image and its input with the same error"
    told, about = f"{others} {keep} {blend}", ""
    if not buying:
        return [f"By the contrast of lesions, {others} was shown to keep {blend}."], []
    if 0 < len(left := [row["loss"] for row in rows if row not in buying]) < said.FEW:
        about = f"{listed(left)} {'was' if len(left) == 1 else 'were'} not shown to keep more than such a blend."
    most = max((row["more_kept"] for row in buying), key=lambda span: span["value"])
    points = plural(round(100 * most["value"]), "percentage point")
    best = "the best " if len(buying) > 1 else ""
    words = [f"By the contrast of lesions, a little: {told}, {best}{points}{within(most, 0, 100)}."]
    if not n.get("answers_other"):
        return words, [about]
    better = [row["loss"] for row in buying if n["answers_other"].get(row["loss"]) == blending.BETTER]
    whom = f"{len(better) or 'none'} of these {len(buying)} losses" if len(buying) > 1 else "this loss"
    are = "are" if len(better) > 1 else "is not" if len(buying) == 1 and not better else "is"
    also = f"{whom} {are} shown to do so"
    other = f"Errors are measured from the {n['against']}; measured from the {n['against_other']}, {also}."
    return words, [about, other]


def kept_of_faint(planted: dict, own: dict) -> list[str]:
    """What the MSE network leaves of faint lesions. Args: planted: of ``collect.details``. own: of ``collect.kept``."""
    if "mse" not in planted.get("kept", {}):
        return []
    told = (
        f"Of the faintest lesions, planted into further patients, the MSE network keeps {share(planted['kept']['mse'])}"
    )
    told += " of the contrast"
    by_lesion = planted.get("kept_by_lesion", {}).get("mse", [])
    if len(by_lesion) > 1:
        told += f", and of the smallest (radius {by_lesion[0]['radius_mm']:g} mm) {share(by_lesion[0])}"
    faint = [row["faint"] for row in own.get("rows", []) if row["method"] == "mse" and "faint" in row]
    beside = f"; of the test patients' own lesions under 25 HU, {share(faint[0])}" if faint else ""
    return [f"{told}{beside}."]


def seen_better(rows) -> list[str]:
    """Whether readers find faint lesions better with another loss than with MSE. Args: as of ``seen_by_loss``."""
    of_mse = [row for row in rows if row["first"] == "mse" and row["quantity"] in D_KEPT]
    better, worse = ({row["quantity"] for row in of_mse if row["differs"] and sign * row["difference"] > 0}
                     for sign in (-1, 1))  # fmt: skip
    if not of_mse or better:
        return []
    readers = some(0, len({row["quantity"] for row in of_mse}), "computed reader")
    finds = f"; {len(worse)} find{'s' * (len(worse) == 1)} them worse" if worse else ""
    return [f"{capital(readers)} was shown to find faint lesions better with another loss{finds}."]


D_KEPT = {"d' kept, Hotelling": "CHO", "d' kept, non-prewhitening": "NPW"}


def seen_by_loss(rows) -> list[str]:
    """How d′ after the MSE network compares with other losses. Args: rows: ``against`` of 09_subtle_details."""
    told = []
    for quantity, reader in D_KEPT.items():
        part = [row for row in rows if row["first"] == "mse" and row["quantity"] == quantity]
        others = plural(len(part), "other loss")
        more, less = (sum(row["differs"] and sign * row["difference"] > 0 for row in part) for sign in (1, -1))
        if more or less:
            than = {
                way: "the other loss" if len(part) == 1 else some(n, len(part), "other loss")
                for way, n in (("better", more), ("worse", less))
                if n
            }
            told.append(f"by {reader} MSE is {listed(f'{way} than {whom}' for way, whom in than.items())}")
        elif part:
            told.append(f"by {reader} no difference of MSE from {others} was shown")
    return [f"In d′ of faint lesions, {listed(told)}."] if told else []


def scores(blocks) -> tuple[list, list]:
    words, more = [], []
    if "audit" in blocks:
        gone = blocks["audit"].get("lesion_removed")
        if not gone or not gone["metrics"]:
            words.append(said.removal(blocks))
        else:
            fall, of = int(gone["falls_in_all"]), int(gone["metrics"])
            worse = f"{some(fall, of, 'score')} {'gets' if fall < 2 else 'get'} worse in every patient"
            moved = moves(blocks["audit"].get("moved", {}))
            words.append(
                f"When every lesion is removed, {worse}{f'; {moved} of what cutting the dose does' * bool(moved)}."
            )
            words += by_shift(blocks["audit"])
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


def moves(moved: dict) -> str:
    """How far the scores that all use are moved: ``PSNR moves by 6 % and SSIM by 3 %``. Args: moved: {score: span}, in
    units of what cutting the dose to a quarter moves it."""
    ends = [(name, percent(abs(moved[name]["value"]))) for name in ("PSNR", "SSIM", "SSIM (window)") if name in moved]
    return listed(f"{name}{' moves' * (not place)} by {size}" for place, (name, size) in enumerate(ends))


def by_shift(n) -> list[str]:
    """The same of a shift of all values: what lost lesions must be held against. Args: n: of 04c."""
    moved = moves(n.get("moved_by_shift") or {})
    shift = f"A shift of all values by {n.get('shift_hu', 0):g} HU hides nothing"
    return [f"{shift}, yet {moved} of what cutting the dose does."] if moved else []


def by_pixel(gone: dict) -> list[str]:
    """That lesions are small, which is why their loss moves scores little. Args: gone: of ``by_harm`` of 04c."""
    if gone["size"] is None:
        return []
    typical = (
        f"In the median of {plural(int(gone['metrics']), 'score')} lost lesions move one by {percent(gone['size'])}"
    )
    few = f"lesions are {100 * gone['share']:.1f} % of the body"
    if not gone.get("per_voxel"):
        return [f"{typical}; {few}."]
    return [
        f"{typical}; {few}, and by changed voxel that is {number(gone['per_voxel'], 1)} times the effect of the dose."
    ]


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


def about_judges(n) -> list[str]:
    """What the faults and the best test are, and when a fault is noticed. Args: n: of 15_judges."""
    faults = [words for name, words in FAULTS.items() if name in n.get("columns", [])]
    told = "The faults stand in a denoiser that knows the noise-free truth and leaves about half of the noise"
    told = [f"{told}: {listed(faults)}." if faults else f"{told}."]
    return told + [words for name, words in TESTS.items() if name in n["caught_of_faults"]] + [NOTICED]


def one_judge(n) -> str:
    """How many judges notice planted faults. Args: n: of 15_judges."""
    faults, judges = plural(n["faults"], "planted fault"), plural(len(n["caught_of_faults"]), "computed judge")
    best = said.best_judges(n)
    if not n["decided"]:
        return f"{capital(judges)} saw {faults}, in too few patients to decide."
    if not best:
        return f"Of {judges}, none is shown to notice any of {faults}."
    most = n["caught_of_faults"][best[0]]
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
    rates = n.get("noticed", {}).get(best[0], {})
    often = f": {by_fault(rates)}, where chance gives 5 %" if rates else ""
    unsure = "It is not reliable: at the noise-free truth, which has no fault, it raises an alarm in"
    rest = f" {unsure} {fooled[best[0]]}." if fooled else ""
    return f"Of {judges}, only {names[0]} is shown to notice {what}{often}.{rest}"


def by_fault(rates: dict) -> str:
    """``the eraser and the inserter in 82 % of patients and the texture paster in 27 % of patients``."""
    same = {}
    for fault, rate in rates.items():
        same.setdefault(percent(rate), []).append(f"the {IN_SENTENCES.get(fault, fault)}")
    return listed(f"{listed(faults)} in {rate} of patients" for rate, faults in same.items())


def rates_of(n) -> list[str]:
    """Who of several best judges raised false alarms, and how often; of one alone the answer says it."""
    fooled = said.false_alarms(n)
    if not fooled or len(said.best_judges(n)) == 1:
        return []
    alarms = listed(f"“{said.plainly(judge)}” in {rate} of patients" for judge, rate in fooled.items())
    return [f"At the noise-free truth, an alarm is raised by {alarms}."]


def newer(blocks) -> tuple[list, list]:
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
    return [*words, "A better score need not be a better diagnosis."], [*against, said.without(n).strip()]


def asked_by(n) -> str:
    """The scores by which networks are compared, as a list. Args: n: of 11_denoisers."""
    names = dict.fromkeys(name for row in n["rows"] for name in row["scores"])
    return listed(said.score(name) for name in names)


def beaten(compared) -> str:
    """Which methods are better in SSIM than the best before them. Args: compared: of ``collect.newer_table``."""
    rivals = compared[compared["rival"] != ""]
    better = rivals[rivals["verdict"] == "better"]
    pairs = [f"{one.method} better than {one.rival}" for one in better.itertuples()]
    others = "; of no other method is it shown"
    if better.empty:
        return f"By SSIM, {some(0, len(rivals), 'method')} is shown to be better than the best before it."
    told = listed(pairs).replace(" better", " is shown to be better", 1)
    return f"By SSIM, {told}{others * (len(better) < len(rivals))}."


def dose(blocks) -> tuple[list, list]:
    words, more = [], []
    if "dose" in blocks:
        words, crops = scored_as(blocks)
        more.append(crops)
    if "observers" in blocks:
        believed = trusted(blocks)
        words += at_best(blocks["observers"], believed)
        noise = with_other_noise(blocks["observers"], believed)
        more.append(testified(believed) + noise + in_detail(blocks["observers"], believed) + elsewhere(blocks))
    if "invariances" in blocks:
        short, rest = hiding(blocks)
        words += [short, *kept_of_faint(blocks.get("details", {}), blocks.get("kept", {}))]
        more.append(rest)
    return words, ["\n\n".join(" ".join(part) for part in more if part)]


def at_best(n, believed: dict) -> list[str]:
    """At what dose readers to whom dose is saved put the best network's image and the best filter's, and what holds in
    livers. Args: n: of 04d. believed: of ``trusted``."""
    if not believed:
        return ["No computed reader could be asked that can see a gain and catches faults."]
    gain = {name: one["best"] for name, one in believed.items() if one["saves"]}
    if not gain:
        return [f"No gain was shown to {anybody(believed)}{where(believed)}."]
    told = []
    for name in sorted(gain, key=lambda name: -gain[name]["value"]):
        who = f"one {READERS.get(name, name)}"
        plain = n.get("filters", {}).get(name)
        beside = f", and the best plain filter's at {share(plain)}" if plain else ""
        told.append(f"{who} puts the best network's image at {share(gain[name])}{beside}")
    places = capital(where({name: believed[name] for name in gain}).strip())
    at_its_best = "; each at its own best task" * any(name in n.get("filters", {}) for name in gain)
    words = [f"{places} dose is saved to {of_readers(gain, believed)}: {'; '.join(told)}{at_its_best}."]
    if not any(one["in_patients"] for one in believed.values()) and n.get("backgrounds"):
        words.append(f"In {plural(n['backgrounds'], 'simulated liver')} no reader could be asked.")
    return words


def with_other_noise(n, believed: dict) -> list[str]:
    """How far the dose moves with the noise of its own that a reader is given."""
    return [
        f"With half to twice the noise that we give the reader {READERS.get(name, name)}, it puts the best network's "
        f"image at {ends_of([one['low'], one['high']])}."
        for name, one in n.get("swept", {}).items()
        if name in believed and None not in (one["low"], one["high"])
    ]


def scored_as(blocks) -> tuple[list, list]:
    """The dose at which scores put cleaned images, and ideal readers where no others were asked; the rest is detail."""
    n, low = blocks["dose"], percent(blocks["dose"]["low_dose"])
    method = "mse" if "mse" in n["methods"] else next(iter(n["methods"]))
    worth = n["methods"][method].get("worth", {})
    told = {name: "more than 100 %" if s["value"] is None else share(s) for name, s in worth.items()}
    scored = {said.OBSERVERS.get(m, m): told[m] for m in told if m.endswith(("↓", "↑"))}
    seen = {f"a {said.OBSERVERS.get(m, m)}": told[m] for m in ("d' (CHO)", "d' (NPW)") if m in told}
    crops = [f"In crops of livers the {called(method)} network's image is as good as one at {grouped(scored, 'by')}."]
    crops = crops if scored else []
    filtered = {m: "more than 100 %" if s["value"] is None else share(s) for m, s in n.get("filters", {}).items()}
    if beside := {said.OBSERVERS.get(m, m): filtered[m] for m in filtered if m.endswith(("↓", "↑"))}:
        crops.append(
            f"There the best of {len(tasks.FILTERS)} plain filters is as good as one at {grouped(beside, 'by')}."
        )
    if whole := whole_slices(blocks):
        network = "that the MSE network cleaned"
        by = "By RMSE from the noise-free truth"
        words = [f"{by}, a slice at {low} of the dose {network} is as good as an uncleaned slice at {share(whole)}"]
        if plain := filter_dose(blocks):
            words[0] += f"; after {plain['name']}, a plain filter, at {share(plain)}"
        words[0] += "."
    else:
        words, crops = crops, []
    if seen and "observers" not in blocks:
        words.append(f"Faint lesions are seen as well as at {grouped(seen, 'by')}, where {low} is no gain.")
    return words, crops


def gap(saved, low: float) -> str:
    """What the picture of doses shows of networks. Args: saved: of ``pictures.doses``. low: dose of their images."""
    saved = saved[saved["method"] != FILTER]
    scores = saved["judge"].str.endswith(("↓", "↑"))
    told = []
    for who, part in (("scores", saved["dose"][scores]), ("computed readers", saved["dose"][~scores])):
        ends = ["more than 100 %" if end > 1 else percent(end) for end in (part.min(), part.max())] if len(part) else []
        put = f" put networks' images of {percent(low)} of the dose" if not told else ""
        told += [f"{who}{put} at {' to '.join(dict.fromkeys(ends))}"] if ends else []
    return f"{capital(listed(told))}."


def testified(believed) -> list[str]:
    """How easily readers find lesions in cleaned slices. Args: believed: {reader: its comparisons}, of ``trusted``."""
    if not believed:
        return []
    whose = ["a computed reader {}", *["one {}"] * (len(believed) - 1)]
    each = [
        f"{share(one['best'])} to {who.format(READERS.get(name, name))}{'' if one['saves'] else ', no gain shown'}"
        for who, (name, one) in zip(whose, believed.items())
    ]
    best = "a slice cleaned by the network that is best for the reader is worth"
    return [f"With lesions{where(believed)}, {best} {listed(each)}; each at its best of several tasks."]


def counted_verb(number: int, verb: str) -> str:
    return f"{number or 'none'} {verb}{'s' * (number < 2)}"


def in_detail(n, believed) -> list[str]:
    """In how many comparisons dose is saved, whom not to believe, and what holds in anatomy. Args: n: of 04d."""
    every = n["readers"]
    if not every:
        return []
    asked, saves = (sum(one[name] for one in every.values()) for name in ("asked", "saves"))
    costs, of = n["costs"], {way: by_reader(every, way, n[way]) for way in ("saves", "costs")}
    words = [
        "“Best” is one network at one task: to find one kind of lesion, or to tell two shapes apart. It is the largest "
        "of those that save dose, and its interval is not corrected for that. Tasks were taken in which some network "
        "or filter helps, so what follows is no rate over all tasks. Of "
        f"{plural(asked, 'comparison')} of a reader, a network and a task in which some image was shown to raise the "
        f"reader's d′, {counted_verb(saves, 'save')} dose{of['saves']}: the whole interval lies more than half a "
        f"percentage point off 25 %. Over all tasks, {counted_verb(costs, 'cost')} dose{of['costs']}."
    ]
    if (unable := len(n.get("believed", [])) - len(every)) > 0:
        words.append(
            f"{plural(unable, 'further reader')} passed the checks of 04d (d′ must follow the dose, an eraser and a "
            "blur), but could show no gain: nothing that was tried, not even a filter, was shown to help where more "
            "dose helps, or processing can hardly help by construction."
        )
    for name, one in every.items():
        if name not in believed:
            who = f"reader {READERS.get(name, name)}"
            words.append(f"A {who} says {percent(one['best']['value'])}, but caught no planted fault.")
    anatomy, there = (sum(one[name] for one in every.values()) for name in ("in_patients", "saves_in_patients"))
    if anatomy:
        reach = {name: n["livers"][name] for name in believed if name in n["livers"]}
        wide = [
            f"{percent(one['low'])} to {end_of(one['high'])} (reader {READERS.get(name, name)})"
            for name, one in reach.items()
        ]
        livers = f"In {plural(n['backgrounds'], 'simulated liver')}" if "backgrounds" in n else "In simulated livers"
        words.append(f"{livers} {saved_in_livers(anatomy, there)}; intervals reach from {listed(wide)}.")
    elif n.get("backgrounds"):
        words.append(
            f"In the {plural(n['backgrounds'], 'simulated liver')} of 04d no reader could be asked: neither a network "
            "nor a filter was shown to help it there, or more dose was not."
        )
    return words


def by_reader(every, way: str, total: int) -> str:
    """How many comparisons of each reader save or cost dose, in brackets after a space; nothing where none does, or
    where others than these readers are among the ``total``."""
    counts = {name: one[way] for name, one in every.items() if one[way]}
    told = listed(f"{count} of {name}" for name, count in counts.items())
    return f" ({told})" if counts and sum(counts.values()) == total else ""


def elsewhere(blocks) -> list[str]:
    """What a reader that 04d did not ask in livers says of those of 04b."""
    if "dose" not in blocks or blocks["observers"]["readers"].get("NPW", {}).get("in_patients"):
        return []
    worth = {name: of.get("worth", {}).get("d' (NPW)") for name, of in blocks["dose"]["methods"].items()}
    seen = {called(name): share(one) for name, one in worth.items() if one and known(one)}
    if not seen:
        return []
    patients = plural(blocks["dose"]["patients"], "patient")
    return [
        f"The reader {READERS['NPW']} was asked in other livers only, of {patients} (04b): it puts the image at "
        f"{grouped(seen, 'after')}."
    ]


def end_of(high: float) -> str:
    """The upper end of a dose, of which nothing beyond the normal one was looked at."""
    return "100 % or more" if high >= 1 else percent(high)


def hiding(blocks) -> tuple[str, list]:
    """What is known of lesions that a network hides."""
    told = said.hidden(blocks)
    if told.startswith("Not known. "):
        hardly = ", and could hardly have found one" * ("could hardly find" in told)
        short = f"Whether networks hide lesions is not known: our search for a hidden lesion found none{hardly}."
        return short, [told.removeprefix("Not known. ")]
    return f"Do they hide lesions? {told}", []


def raised(change_hu: float) -> str:
    """By how much an error changes, HU, as the end of a sentence."""
    if abs(change_hu) < 0.05:
        return "does not change the error"
    return f"{'raises' if change_hu > 0 else 'lowers'} the error by {abs(change_hu):.1f} HU"


def hides(blocks) -> bool:
    """Whether a hidden lesion was found, so that there is one to be shown."""
    rows = blocks.get("invariances", {}).get("rows", [])
    return any(said.beyond_chance(row[way]) for row in rows for way in ("search", "aimed") if way in row)


def reference(blocks) -> tuple[list, list]:
    return ([said.maps(blocks)] if "quality" in blocks else []), []


SAY = {"loss": loss, "scores": scores, "newer": newer, "dose": dose, "reference": reference}
