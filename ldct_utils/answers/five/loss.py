"""Does a perceptual loss help? PSNR, the contrast of lesions beyond a blend, and what readers find."""

from ldct_utils.answers import said
from ldct_utils.answers.words import DOMAINS, REFERENCES, compared, decided, listed, reference_of, within
from ldct_utils.report.sentences import capital, number, plural, some
from ldct_utils.stats import blending

D_KEPT = {"d' kept, Hotelling": "CHO", "d' kept, non-prewhitening": "NPW"}


def answer(blocks) -> tuple[list, list]:
    if "influence" not in blocks:
        return [], []
    arms = said.ranked(blocks)
    random, more = untrained(arms), []
    domain = blocks["influence"].get("domain")
    if "tradeoff" in blocks and domain not in (None, "hu"):
        more.append(in_hu(blocks["tradeoff"], DOMAINS.get(domain, domain)))
    against = blocks.get("details", {}).get("against", [])
    more += against_target(blocks) + seen_by_loss(against)
    kept, about_kept = kept_by_losses(blocks.get("tradeoff", {}))
    return [psnr_of_losses(blocks, arms, random), *kept, *seen_better(against)], [*about_kept, *more]


def untrained(arms) -> bool:
    """Whether nobody trained the encoder of any perceptual loss. Args: arms: of ``said.ranked``."""
    return bool(arms) and all(" · random · " in name for name, _ in arms)


def psnr_of_losses(blocks, arms, random: bool) -> str:
    if not arms:
        return "No perceptual loss was compared with MSE."
    (_, best), signs = arms[0], [decided(span) for _, span in arms]
    several = "the perceptual loss" if len(arms) == 1 else f"the best of {len(arms)} perceptual losses"
    if random:
        several += f" with {'untrained encoders' if len(arms) > 1 else 'an untrained encoder'}"
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


def in_hu(n, scale: str) -> str:
    """What the best perceptual loss costs where errors are taken in HU. Args: n: of 14. scale: of the answer."""
    told = f"The dB of the answer are of {scale}, those of the figure of lesions' contrast of HU"
    gains = [row["gain_db"]["value"] for row in n.get("rows", []) if "VGG" in row["loss"] and "gain_db" in row]
    if not gains or not n.get("mse_gain_db"):
        return f"{told}: they cannot be compared."
    gap = round(n["mse_gain_db"]["value"] - max(gains), 1)
    way = f"{number(abs(gap), 1)} dB {'worse' if gap > 0 else 'better'} than" if gap else "as good as"
    return f"{told}; in HU the best perceptual loss is {way} MSE in the mean."


def kept_by_losses(n) -> tuple[list, list]:
    """What losses keep of a lesion's contrast beyond a mix of the MSE image and its input. Args: n: of 14_tradeoff."""
    rows = n.get("rows", [])
    if not rows:
        return [], []
    buying = [row for row in rows if row["answer"] == blending.BETTER and "more_kept" in row]
    perceptual = [row for row in rows if "VGG" in row["loss"]]
    others, keep = some(len(buying), len(rows), "other loss"), "keeps" if len(buying) < 2 else "keep"
    if buying and buying == perceptual:
        others = "the perceptual loss" if len(buying) == 1 else some(len(buying), len(buying), "perceptual loss")
    blend = "more of it than the MSE image blended with its input to the same error"
    told, about = f"{others} {keep} {blend}", ""
    if not buying:
        return [f"By the contrast of lesions, {others} was shown to keep {blend}."], []
    if 0 < len(left := [row["loss"] for row in rows if row not in buying]) < said.FEW:
        about = f"{listed(left)} {'was' if len(left) == 1 else 'were'} not shown to keep more than such a blend."
    most = max((row["more_kept"] for row in buying), key=lambda span: span["value"])
    points = plural(round(100 * most["value"]), "percentage point")
    best = f"{'The best' if len(buying) > 1 else 'It'} keeps {points} more{within(most, 0, 100)}."
    words = [f"By the contrast of lesions, a little: {told}. {best}"]
    if not n.get("answers_other"):
        return words, [about]
    better = [row["loss"] for row in buying if n["answers_other"].get(row["loss"]) == blending.BETTER]
    whom = f"{len(better) or 'none'} of these {len(buying)} losses" if len(buying) > 1 else "this loss"
    are = "are" if len(better) > 1 else "is not" if len(buying) == 1 and not better else "is"
    also = f"{whom} {are} shown to do so"
    other = f"Errors are measured from the {n['against']}; measured from the {n['against_other']}, {also}."
    return words, [about, other]


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
