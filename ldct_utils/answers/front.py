"""The report's first page in words: its sentence, five answers, how sure each is and where it comes from."""

from ldct_utils.answers import said
from ldct_utils.answers.five import dose, loss, newer, readers, scores
from ldct_utils.answers.words import percent
from ldct_utils.report.sentences import plural

# {key: (the question that a reader asks, notebooks that answer it, what to run where this study did not ask)}
QUESTIONS = {
    "loss": ("Does a perceptual loss help?", ("06_stats", "14_tradeoff", "09_subtle_details"), "default"),
    "scores": ("Do scores see what a diagnosis needs?", ("04c_metric_audit", "15_judges"), "default"),
    "newer": ("Are newer networks better?", ("11_denoisers",), "denoisers_small"),
    "dose": (
        "Do networks save dose, and do they hide lesions?",
        ("14_tradeoff", "04b_dose", "04d_observers", "05_invariances"),
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
    "dose": ("doses", "crops", "aimed"),
    "reference": ("maps",),
}
FOLDED = {"loss": ("kept_of_losses",), "newer": ("kept_drawn",)}  # those that stand with what else is known
WORDS = {
    "loss": "what a network is trained to make small: MSE compares pixels by squared differences, L1 by absolute ones; "
    "a perceptual loss compares features of a second network, the encoder VGG, at a layer such as block3_conv2. ψ is "
    "its share of the whole loss, λ its weight; an encoder is random where nobody trained it. The MSE network is the "
    "one trained with MSE",
    "LDCT, NDCT": "low-dose and normal-dose CT slices; a network gets the first and should return the second",
    "HU, C, W": "Hounsfield units: water is 0, air −1000; C and W are the centre and the width of what is shown from "
    "black to white",
    "U-Net, CNN-10, QAE": "denoising networks of 2015, 2017 and 2020, here small ones",
    "total variation": "a filter that smooths and keeps edges; like the Gaussian and the median filter it is no "
    "network",
    "FBP": "filtered back-projection, the plain reconstruction without any cleaning",
    "RMSE, PSNR, SSIM, VIF": "usual scores of an image against a reference; a low RMSE and a high value of the others "
    "are better. Radiomic similarity says how alike the texture of organs is",
    "computed reader": "a formula, also called model observer, that looks for a lesion it knows, or tells two shapes "
    "apart. CHO (channelised Hotelling observer) allows for the noise texture, learned on plain reconstructions or, "
    "retrained, on each denoiser's images; NPW does not; NPWE sees through an eye filter and has noise of its own. d′ "
    "says how well it tells two cases apart, such as lesion and no lesion",
    "judge": "a score, a computed reader or a test that raises an alarm where an image looks wrong to it; no person",
    "blend": "the image of the MSE network with a share of its noisy input mixed back in",
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
        words, explained; shown and folded, figures by part.
    """
    answers = []
    for key, (question, notebooks, study) in QUESTIONS.items():
        told, more = (" ".join(filter(None, words)) for words in SAY[key](blocks))
        sure = SURE[key](blocks) if told else None
        told = (
            told
            or f"This study does not ask. The study `{study}` does; its answer is in docs/results.md of the repository."
        )
        one = {"key": key, "question": question, "sentences": told, "more": more, "sure": sure}
        answers.append(one | {"notebooks": list(notebooks)})
    whole = {"sentence": sentence(blocks), "scope": scope(blocks), "sure": limits(blocks), "words": WORDS}
    return whole | {"answers": answers, "shown": SHOWN, "folded": FOLDED}


def scope(blocks) -> list[str]:
    """What was looked at: patients, and how many of them no network saw in its training."""
    n = blocks.get("cohort")
    if n is None:
        return []
    people = f"{plural(n['patients'], _kind(blocks) + 'patient')}, {n['test_patients']} of them for testing"
    others = ["further patients for dose and judges"] if {"dose", "judges", "observers"} & set(blocks) else []
    return [people, plural(n["slices"], "slice"), *others]


def sentence(blocks) -> str:
    """What the study found, in one sentence."""
    if "dose" not in blocks:
        return "This study asked neither what scores nor what observers see."
    n, low = blocks["dose"], percent(blocks["dose"]["low_dose"])
    worth = [of.get("worth", {}) for of in n["methods"].values()]
    if whole := dose.whole_slices(blocks):
        makes = (
            f"a network makes slices at {low} of the normal dose as good as slices at {percent(whole['value'])} by RMSE"
        )
        return f"In simulations, {makes}{readers.ending(blocks, worth)}."
    scored = [span for of in worth for m, span in of.items() if m.startswith(("RMSE", "SSIM"))]
    networks = "a network" if len(worth) == 1 else f"each of {len(worth)} networks"
    if not scored:
        return f"Too little was measured to say how much dose {networks} saves."
    worst = min(1.0 if span["value"] is None else span["value"] for span in scored)  # None: more than the full dose
    least = "a dose below all that were looked at, or more" if worst == 0 else f"{percent(worst)} or more"
    makes = f"In simulated livers, {networks} makes crops at {low} of the dose score like crops at {least}"
    return f"{makes} (RMSE, SSIM){readers.ending(blocks, worth)}."


# ---- what is said ----
def reference(blocks) -> tuple[list, list]:
    """The fifth answer, one sentence, as the modules of ``five`` give the others."""
    return ([said.maps(blocks)] if "quality" in blocks else []), []


SAY = {"loss": loss.answer, "scores": scores.answer, "newer": newer.answer, "dose": dose.answer, "reference": reference}


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
    times = each.removesuffix(" trainings")
    return f"{tested}; networks were trained {times} times: intervals allow for other patients and trainings."


def sure_of_loss(blocks) -> str:
    n = blocks["influence"]
    usual = " A VGG trained on photographs, as is usual, was not tried." * loss.untrained(said.ranked(blocks))
    return _tested(blocks, n["patients"], [row["trainings"] for row in n["rows"]]) + usual


def sure_of_scores(blocks) -> str:
    audited = f"{plural(blocks['audit']['patients'], 'patient')} with lesions removed" if "audit" in blocks else ""
    faulty = f"{plural(blocks['judges']['patients'], 'patient')} with planted faults" if "judges" in blocks else ""
    return f"{'; '.join(filter(None, [audited, faulty]))}. Which damage was tried is our choice."


def sure_of_newer(blocks) -> str:
    n = blocks["newer"]
    tested = _tested(blocks, n["patients"], n["trainings"])
    return f"{tested} Small networks of unequal size, and trainings that are short and unequally long."


def sure_of_dose(blocks) -> str:
    words = []
    if dose.whole_slices(blocks):
        patients = plural(blocks["tradeoff"]["patients"], "test patient")
        words.append(f"RMSE: {patients} of all anatomies, and the trainings of the MSE network.")
    elif "dose" in blocks:
        n = blocks["dose"]
        words.append(f"Crops: {_tested(blocks, n['patients'], [n['trainings']], 'simulated abdomen')}")
    if "observers" in blocks:
        asked = sum(one["in_patients"] for one in blocks["observers"]["readers"].values())
        livers = f" and in {plural(blocks['observers']['backgrounds'], 'simulated liver')}" * bool(asked)
        words.append(f"Computed readers: lesions in uniform cylinders{livers}, one training each.")
        words += readers.with_other_noise(blocks["observers"], readers.trusted(blocks))
    if "invariances" in blocks:
        rows = blocks["invariances"]["rows"]
        tested = max((row[w]["tested"] for row in rows for w in ("search", "aimed") if w in row), default=0)
        words.append(f"Hiding: {plural(tested, 'known lesion')} in {plural(rows[0]['patients'], 'patient')}.")
    return " ".join(words)


def sure_of_reference(blocks) -> str:
    n = blocks["quality"]
    return _tested(blocks, n["patients"], [m["trainings"] for m in n["models"].values()])


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
