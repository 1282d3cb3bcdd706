"""The report's first page in words: one sentence, five answers, how sure each is and where it comes from."""

from ldct_utils.answers import said
from ldct_utils.answers.words import READERS, called, compared, decided, grouped, known, listed, percent, share, within
from ldct_utils.report.sentences import plural, some
from ldct_utils.task_based import blending

# {key: (the question that a reader asks, notebooks that answer it, what to run where this study did not ask)}
QUESTIONS = {
    "loss": ("Does a perceptual loss help?", ("06_stats", "14_tradeoff", "02_psi_calibration"), "default"),
    "scores": ("Do scores see what a diagnosis needs?", ("04c_metric_audit", "15_judges"), "default"),
    "newer": ("Are newer networks better?", ("11_denoisers",), "denoisers_small"),
    "dose": (
        "Do networks save dose, and do they hide lesions?",
        ("04b_dose", "04d_observers", "05_invariances"),
        "default",
    ),
    "reference": ("Can quality be seen without a reference?", ("08_noise2quality",), "noise2quality"),
}  # fmt: skip
# {part of the page: figures and tables of 12_answers that stand there}
SHOWN = {
    "hero": ("hero_real", "hero"),
    "loss": ("losses", "plane"),
    "scores": ("lesions_removed", "grid"),
    "newer": ("newer",),
    "dose": ("crops", "doses", "aimed"),
    "reference": ("maps",),
}
WORDS = {
    "loss": "what a network is trained to make small: MSE compares pixels; a perceptual loss compares features of a "
    "second network, the encoder VGG, at a layer such as block3_conv2. ψ is its share of the whole loss, λ its weight; "
    "an encoder is random where nobody trained it",
    "LDCT, NDCT": "low-dose and normal-dose CT slices; a network gets the first and should return the second",
    "HU": "Hounsfield units: water is 0, air −1000",
    "FBP": "filtered back-projection, the plain reconstruction without any cleaning",
    "RMSE, PSNR, SSIM": "usual scores of an image against a reference; a low RMSE and a high PSNR or SSIM are better",
    "computed reader": "a formula, also called model observer, that looks for a lesion it knows. CHO allows for the "
    "noise texture, NPW does not, NPWE sees through an eye filter and has noise of its own",
    "segment": "a structure of a slice, such as an organ or a lesion, outlined by the computer; MeanSRMSE is the mean "
    "error of all, MaxSRMSE that of the worst",
    "interval": "a range made so that 95 % of such ranges hold the true value; whether it allows for other trainings "
    "stands beside each answer",
}
ENOUGH = 6  # patients, below which no interval is taken


def page(blocks) -> dict:
    """The first page of a study from the blocks of ``collect``.

    Returns: sentence; scope, a list of words; answers, a list with key, question, sentences (the answer), more (what
        else is known), sure (None where the study did not ask) and notebooks; sure, three sentences on the whole;
        words, explained; shown, figures by part.
    """
    answers = []
    for key, (question, notebooks, study) in QUESTIONS.items():
        said, more = (" ".join(words) for words in SAY[key](blocks))
        sure = SURE[key](blocks) if said else None
        said = said or f"Not asked here. Another study asks it: `make study STUDY={study}`."
        one = {"key": key, "question": question, "sentences": said, "more": more, "sure": sure}
        answers.append(one | {"notebooks": list(notebooks)})
    whole = {"sentence": sentence(blocks), "scope": scope(blocks), "sure": limits(blocks), "words": WORDS}
    return whole | {"answers": answers, "shown": SHOWN}


def scope(blocks) -> list[str]:
    """What was looked at: patients, and how many of them no network saw in its training."""
    n = blocks.get("cohort")
    if n is None:
        return []
    seen = f"networks judged on {n['test_patients']} that they never saw"
    return [plural(n["patients"], _kind(blocks) + "patient"), seen, plural(n["slices"], "slice")]


def sentence(blocks) -> str:
    """What the study found, in one sentence."""
    if "dose" not in blocks:
        return "This study asked neither what scores nor what observers see."
    n, low = blocks["dose"], percent(blocks["dose"]["low_dose"])
    worth = [of.get("worth", {}) for of in n["methods"].values()]
    scored = [span for of in worth for m, span in of.items() if m.startswith(("RMSE", "SSIM"))]
    networks = "a network" if len(worth) == 1 else f"each of {len(worth)} networks"
    if not scored:
        return f"Too little was measured to say how much dose {networks} saves."
    worst = min(1.0 if span["value"] is None else span["value"] for span in scored)  # None: more than the full dose
    least = "a dose below all that were looked at, or more" if worst == 0 else f"{percent(worst)} or more"
    makes = f"In simulations, {networks} makes slices at {low} of the dose score like slices at {least}"
    return f"{makes} (RMSE, SSIM); {readers(blocks, worth)}."


def readers(blocks, worth) -> str:
    """At which dose computed readers see lesions as well: those that could have gained, else the ideal observer."""
    if "observers" in blocks:
        return seen_at_best(trusted(blocks))
    ideal = [of["d' (CHO)"]["value"] for of in worth if known(of.get("d' (CHO)", {}))]
    if not ideal:
        return "whether lesions are seen any better was not asked"
    return f"an ideal observer finds faint lesions in them as easily as at {percent(max(ideal))} of the dose at best"


def seen_at_best(believed: dict) -> str:
    """The doses at which readers see lesions as well, each at its best, without a full stop."""
    best = dict.fromkeys(percent(one["best"]["value"]).removesuffix(" %") for one in believed.values())
    if not best:
        return "no computed reader could be asked that can see a gain and catches faults"
    who = "one computed reader finds" if len(believed) == 1 else f"{len(believed)} computed readers find"
    return f"{who} lesions in them as easily as at {listed([*best][::-1])} % of the dose at best"


def trusted(blocks) -> dict:
    """Computed readers that could gain, without those that 15 found to catch no planted fault."""
    silent = blocks.get("judges", {}).get("silent", [])
    every = blocks["observers"]["readers"]
    return {name: one for name, one in every.items() if not any(f"({name})" in judge for judge in silent)}


# ---- an answer: its sentences, and what else is known; two empty lists where the study did not ask ----
def loss(blocks) -> tuple[list, list]:
    if "influence" not in blocks:
        return [], []
    arms = said.ranked(blocks)
    random = bool(arms) and all(" · random · " in name for name, _ in arms)
    more = ["The encoder of the perceptual losses has random weights."] if random else []
    return [psnr_of_losses(blocks, arms), *kept_by_losses(blocks.get("tradeoff", {}))], more


def psnr_of_losses(blocks, arms) -> str:
    if not arms:
        return "No perceptual loss was compared with MSE."
    (_, best), signs = arms[0], [decided(span) for _, span in arms]
    several = "the perceptual loss" if len(arms) == 1 else f"the best of {len(arms)} perceptual losses"
    if max(row["trainings"] for row in blocks["influence"]["rows"] if row["over_mse_db"]) == 1:
        return "With one training a loss nothing is decided about losses."
    if better := signs.count(1):
        return f"By PSNR, yes: {some(better, len(arms), 'perceptual loss')} beat MSE."
    if signs.count(-1) == len(arms):
        return f"By PSNR, for which MSE is trained, no: {several} is {compared(best, 'dB', 'MSE')}."
    return f"By PSNR, not shown: {several} is {compared(best, 'dB', 'MSE')}."


def kept_by_losses(n) -> list[str]:
    """What losses keep of a lesion's contrast beyond a mix of the MSE image and its input. Args: n: of 14_tradeoff."""
    rows = n.get("rows", [])
    if not rows:
        return []
    buys = [row["more_kept"] for row in rows if row["answer"] == blending.BETTER and "more_kept" in row]
    others = some(len(buys), len(rows), "other loss")
    keep = "keeps" if len(buys) < 2 else "keep"
    told = f"{others} {keep} more than the MSE image does when input is mixed in until the errors are equal"
    if not buys:
        return [f"By the contrast of lesions, not shown: {told}."]
    most = max(buys, key=lambda span: span["value"])
    points = plural(round(100 * most["value"]), "percentage point")
    words = [f"By the contrast of lesions, a little: {told}; the best keeps {points} more{within(most, 0, 100)}."]
    if n.get("answers_other"):
        also = some(sum(one == blending.BETTER for one in n["answers_other"].values()), len(rows), "loss")
        words.append(
            f"Errors are measured from the {n['against']} here; from the {n['against_other']}, {also} did better."
        )
    return words


def scores(blocks) -> tuple[list, list]:
    words, more = [], []
    if "audit" in blocks:
        gone = blocks["audit"].get("lesion_removed")
        if not gone or not gone["metrics"]:
            words.append(said.removal(blocks))
        else:
            fall, of = int(gone["falls_in_all"]), int(gone["metrics"])
            worse = f"{some(fall, of, 'score')} {'gets' if fall < 2 else 'get'} worse in every patient"
            told = f"When every lesion is removed, {worse}"
            if gone["size"] is not None:
                but = "but the typical score moves only" if gone["size"] < 0.5 else "and the typical score moves"
                told += f", {but} {percent(gone['size'])} as far as when the dose is cut to 25 %"
            words.append(f"{told}.")
            more.append(f"The lesions are {100 * gone['share']:.1f} % of the body.")
            if most := blocks["audit"].get("moved", {}).get("MaxSRMSE"):
                more.append(
                    f"One score, MaxSRMSE, moves {percent(most['value'])} as far: the error of the worst segment."
                )
    if "judges" in blocks:
        words.append(one_judge(blocks["judges"]))
        more.append(NOTICED)
    return words, more


NOTICED = (
    "A judge notices a fault if it raises more alarms than at the same denoiser without it; 5 % of patients is chance."
)


def one_judge(n) -> str:
    """How many judges notice planted faults and nothing where there is none. Args: n: of 15_judges."""
    honest = {judge: count for judge, count in n["caught_of_faults"].items() if judge not in n["misled"] and count}
    faults, judges = plural(n["faults"], "fault"), plural(len(n["caught_of_faults"]), "judge")
    asked = f"We planted {faults} into denoisers and asked {judges}"
    if not n["decided"]:
        return f"{asked}, in too few patients to decide."
    if not honest:
        return f"{asked}; none noticed a fault without an alarm where there was none."
    most = max(honest.values())
    best = [judge for judge, count in honest.items() if count == most]
    what = "it" if n["faults"] == 1 else "all" if most == n["faults"] else f"{most}"
    each = "each noticed" if len(best) > 1 else "noticed"
    shares = [round(100 * share) for judge in best for share in n.get("noticed", {}).get(judge, {}).values()]
    ends = list(dict.fromkeys(f"{end}" for end in (min(shares), max(shares)))) if shares else []
    where = f", in {' to '.join(ends)} % of patients" if ends else ""
    return f"{asked}; {listed(f'“{one}”' for one in best)} {each} {what}{where}, and raised no alarm without a fault."


FEW = 3  # networks that are told one by one


def newer(blocks) -> tuple[list, list]:
    if "newer" not in blocks:
        return [], []
    n = blocks["newer"]
    enough = n["comparisons"] - n["too_few"]
    if enough <= 0:
        return [f"None of {plural(n['comparisons'], 'comparison')} had the patients and trainings for a verdict."], []
    better, worse, of = n["better"], n["worse"], plural(enough, "comparison")
    rule = "yes" if better == enough else "not as a rule" if better else "not shown" if not worse else "no"
    told = (
        f"By scores, {rule}: in {of} with the best older method the newer network was better in {better or 'none'}, "
        f"worse in {worse or 'none'}, and not shown to differ in {(enough - better - worse) or 'none'}."
    )
    each = [
        f"{called(one['method'])} ({one['year']}) was better than the best before it by {one['better'] or 'none'} of "
        f"{plural(one['asked'], 'score')} and worse by {one['worse'] or 'none'}."
        for one in n.get("each", [])
    ]
    if 0 < len(each) <= FEW:
        told = f"By scores, {rule}. {' '.join(each)}"
    return [told, "A better score need not be a better diagnosis."], [said.without(n).strip()]


def beaten(compared) -> str:
    """How many methods are better in SSIM than the best before them. Args: compared: of ``collect.newer_table``."""
    verdicts = compared["verdict"][compared["rival"] != ""]
    better = int((verdicts == "better").sum())
    are = "is" if better < 2 else "are"
    beats = f"{some(better, len(verdicts), 'method')} {are} shown to be better than the best before"
    return f"By SSIM, {beats} {'it' if better < 2 else 'them'}."


def dose(blocks) -> tuple[list, list]:
    words, more = [], []
    if "dose" in blocks:
        words += scored_as(blocks["dose"], with_readers="observers" not in blocks)
    if "observers" in blocks:
        words += testified(trusted(blocks))
        more += in_detail(blocks["observers"]["readers"], trusted(blocks))
    if "invariances" in blocks:
        words.append(hiding(blocks))
    return words, more


def scored_as(n, with_readers: bool) -> list[str]:
    """The dose at which scores put cleaned slices, and ideal readers where no others were asked. Args: n: of 04b."""
    low, least, words = percent(n["low_dose"]), {}, []
    for method, of in n["methods"].items():
        ends = [s["value"] for m, s in of.get("worth", {}).items() if m.startswith(("RMSE", "SSIM"))]
        if ends:
            least[method] = min(2.0 if one is None else one for one in ends)

    def at(method):
        value = least[method]
        return "more than 100 %" if value > 1 else percent(value)

    if least:
        best, last = max(least, key=least.get), min(least, key=least.get)
        ends = f"{at(best)} (the {called(best)} network"
        ends += f", the best of {len(least)}) or {at(last)} (the last)" if at(last) != at(best) else ")"
        words.append(
            f"By RMSE and SSIM, a cleaned slice at {low} of the dose is as good as an uncleaned one at {ends}."
        )
    method = "mse" if "mse" in n["methods"] else next(iter(n["methods"]))
    worth = n["methods"][method].get("worth", {})
    seen = {
        f"a {said.OBSERVERS.get(m, m)}": share(worth[m]) for m in ("d' (CHO)", "d' (NPW)") if known(worth.get(m, {}))
    }
    if seen and with_readers:
        words.append(f"Its faint lesions are found as easily as at {grouped(seen, 'by')}, where {low} is no gain.")
    return words


def gap(saved, low: float) -> str:
    """What the picture of doses shows. Args: saved: of ``pictures.doses``. low: dose of the cleaned images."""
    scores = saved["judge"].str.endswith(("↓", "↑"))
    ends = [saved["dose"][one].clip(upper=1.0).median() for one in (scores, ~scores)]
    at = [percent(end) for end in ends if end == end]
    if len(at) < 2:
        return f"The median of all scores puts cleaned images of {percent(low)} at {at[0]} of the dose."
    return f"In the median, scores put cleaned images of {percent(low)} of the dose at {at[0]}, and readers at {at[1]}."


def testified(believed) -> list[str]:
    """How easily readers find lesions in cleaned slices. Args: believed: {reader: its comparisons}, of ``trusted``."""
    if not believed:
        return ["No computed reader could be asked that can see a gain and catches faults."]
    whose = ["a computed reader {} finds lesions in it as easily", *["one {}"] * (len(believed) - 1)]
    each = [
        f"{who.format(READERS.get(name, name))} as at {share(one['best'])}"
        for who, (name, one) in zip(whose, believed.items())
    ]
    return [f"At best, {listed(each)}."]


def in_detail(every, believed) -> list[str]:
    """In how many comparisons dose is saved, whom not to believe, and what holds in anatomy."""
    asked, saves = (sum(one[name] for one in every.values()) for name in ("asked", "saves"))
    save = "saves" if saves == 1 else "save"
    words = [f"“At best” is one network at one task; of {asked} such comparisons {saves or 'none'} {save} dose."]
    for name, one in every.items():
        if name not in believed:
            who = f"reader {READERS.get(name, name)}"
            words.append(f"A {who} says {percent(one['best']['value'])}, but caught no planted fault.")
    anatomy, there = (sum(one[name] for one in every.values()) for name in ("in_patients", "saves_in_patients"))
    if anatomy:
        shown = "no saving was shown" if not there else f"a saving was shown in {there}"
        words.append(f"In simulated livers {shown} ({plural(anatomy, 'comparison')}).")
    return words if every else []


def hiding(blocks) -> str:
    """What is known of lesions that a network hides."""
    told = said.hidden(blocks)
    if told.startswith("Not tested. "):
        return f"We could not test whether networks hide lesions: o{told.removeprefix('Not tested. O')}"
    return f"Do they hide lesions? {told}"


def hides(blocks) -> bool:
    """Whether a hidden lesion was found, so that there is one to be shown."""
    rows = blocks.get("invariances", {}).get("rows", [])
    return any(row[way]["hidden"] for row in rows for way in ("search", "aimed") if way in row)


def reference(blocks) -> tuple[list, list]:
    return ([said.maps(blocks)] if "quality" in blocks else []), []


# ---- how sure ----
def _kind(blocks) -> str:
    """The word before "patient" that says whether they are real, where the study knows."""
    source = blocks.get("cohort", {}).get("source")
    return "" if source is None else "simulated " if source == "simulated" else "real "


def _tested(blocks, patients: int, trainings, what: str = "") -> str:
    """Patients and trainings behind an answer.

    Args: trainings: a number of each network. what: patients, if not those that networks are tested on.
    """
    tested = plural(patients, what or _kind(blocks) + "test patient")
    if patients < ENOUGH:
        return f"{tested}, too few for an interval."
    least, most = min(trainings), max(trainings)
    if most == 1:
        return f"{tested}, one training each: intervals leave out what another training would change."
    each = f"{most} trainings" if least == most else f"{least} to {most} trainings"
    if least == 1:
        return f"{tested}, {each} each: where there is one, the interval leaves out what another would change."
    return f"{tested}, {each} each: intervals hold the differences of patients and of trainings."


def sure_of_loss(blocks) -> str:
    n = blocks["influence"]
    return _tested(blocks, n["patients"], [row["trainings"] for row in n["rows"]])


def sure_of_scores(blocks) -> str:
    audited = f"{plural(blocks['audit']['patients'], 'patient')} with lesions removed" if "audit" in blocks else ""
    faulty = f"{plural(blocks['judges']['patients'], 'patient')} with planted faults" if "judges" in blocks else ""
    return f"{'; '.join(filter(None, [audited, faulty]))}. Which damage was tried is our choice."


def sure_of_newer(blocks) -> str:
    n = blocks["newer"]
    return f"{_tested(blocks, n['patients'], n['trainings'])} Small networks, short trainings."


def sure_of_dose(blocks) -> str:
    words = []
    if "dose" in blocks:
        n = blocks["dose"]
        words.append(f"Scores: {_tested(blocks, n['patients'], [n['trainings']], 'simulated abdomen')}")
    if "observers" in blocks:
        livers = plural(blocks["observers"]["backgrounds"], "simulated liver")
        words.append(
            f"Computed readers: lesions in water and in {livers}, one training each; “at best” is the largest of many, "
            "and its interval is not corrected for that."
        )
    if "invariances" in blocks:
        rows = blocks["invariances"]["rows"]
        tested = max((row[w]["tested"] for row in rows for w in ("search", "aimed") if w in row), default=0)
        words.append(f"Hiding: {plural(tested, 'known lesion')} in {plural(rows[0]['patients'], 'patient')}.")
    return " ".join(words)


def sure_of_reference(blocks) -> str:
    n = blocks["quality"]
    return _tested(blocks, n["patients"], [m["trainings"] for m in n["models"].values()])


SAY = {"loss": loss, "scores": scores, "newer": newer, "dose": dose, "reference": reference}
SURE = {"loss": sure_of_loss, "scores": sure_of_scores, "newer": sure_of_newer, "dose": sure_of_dose,
        "reference": sure_of_reference}  # fmt: skip


def limits(blocks) -> list[str]:
    """Three sentences on how far the whole may be trusted."""
    most = max((row["trainings"] for row in blocks.get("influence", {}).get("rows", [])), default=1)
    trained = "once" if most == 1 else f"up to {most} times"
    who = {
        "simulated ": "The patients are simulated: noise and anatomy are known exactly, and real ones may differ.",
        "real ": "The patients are real: what was measured against the normal dose holds its noise too.",
        "": "Where the patients come from was not recorded.",
    }[_kind(blocks)]
    return [
        who,
        f"Networks were trained {trained} each; larger ones, trained longer, may rank otherwise.",
        "Model observers stand in for radiologists. No person read an image.",
    ]
