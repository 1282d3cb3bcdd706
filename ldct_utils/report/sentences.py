"""Sentences with numbers: counts, lists, intervals and comparisons, each with its zero, one, all and too-few case.

The sign is the same everywhere: positive is better. A difference whose interval holds 0 "was not shown"; one without
an interval says that it has none.
"""

import math
import re

import pandas as pd

from ldct_utils.ct.intensity import FAINT_HU

MINUS = "−"
SMALL = 1e-4  # numbers under it are written with a power of ten
SCALES = {  # of evaluation domains: the grey values in which scores are computed, as they are read
    "hu": "CT numbers in HU", "body": "CT numbers in HU, the body only",
    "viana2025": "256 grey levels from −1024 to 3072 HU, as in Viana et al. (2025)",
    "window": "the window of each anatomy", "eulig2024": "the window of each anatomy, as in the benchmark",
}  # fmt: skip
OUTLINED_BY = {"felzenszwalb": "Felzenszwalb's method", "otsu": "Otsu's method", "sam": "SAM",
               "labels": "the cohort's own organ labels"}  # segments, as read  # fmt: skip
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def capital(text: str) -> str:
    """A text with its first letter in upper case and the rest as it is."""
    return text[:1].upper() + text[1:]


def plural(number: int, word: str) -> str:
    """A number of things, e.g. ``1 patient``, ``5 patients``, ``2 patches``, ``2 studies``."""
    if number == 1:
        return f"1 {word}"
    if word.endswith("y") and word[-2] not in "aeiou":
        return f"{number} {word[:-1]}ies"
    return f"{number} {word}" + ("es" if word.endswith(("ch", "s", "x")) else "s")


def some(number: int, total: int, word: str) -> str:
    """How many of all, as a subject: ``none of the 17 metrics``, ``3 of 17 metrics``, ``both metrics``.

    Raises: ValueError: for more than all, or fewer than none.
    """
    if not 0 <= number <= total:
        raise ValueError(f"{number} of {total} {word}s cannot be")
    if total == 0 or (total == 1 and not number):
        return f"no {word}"
    if total == 1:
        return f"the only {word}"
    several = plural(total, word)
    if number == 0:
        return f"none of the {several}"
    if number < total:
        return f"{number} of {several}"
    return several.replace("2", "both", 1) if total == 2 else f"all {several}"


def listed(words, none: str = "none", most: int | None = None) -> str:
    """Words as a list in a sentence, e.g. ``PSNR, SSIM and RMSE``; ``none`` for an empty one.

    Args: most: no more than so many are named, the rest is counted: ``PSNR, SSIM and 3 more``.
    """
    words = [str(word) for word in words]
    if not words:
        return none
    if most is not None and len(words) > most:
        words = [*words[:most], f"{len(words) - most} more"]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def leaders(first: dict) -> str:
    """Who is first by what, e.g. ``MSE is first by PSNR and NRMSE, and L1 by SSIM``.

    Args: first: {by what: who}, each who a string; empty gives ``nothing is first``.
    """
    by = {}
    for what, who in first.items():
        by.setdefault(str(who), []).append(what)
    if not by:
        return "nothing is first"
    (who, what), *others = by.items()
    rest = [f"{one} by {listed(ways)}" for one, ways in others]
    return ", and ".join([f"{capital(who)} is first by {listed(what)}", *([listed(rest)] if rest else [])])


def decimals(value: float, low: float = math.nan, high: float = math.nan) -> int:
    """Decimals with which a value is written: two significant digits beside an interval, three without one.

    Beside an interval never so few that half the interval's width would read 0.
    """
    known = not (pd.isna(low) or pd.isna(high))
    half = (high - low) / 2 if known else 0.0
    size = max(abs(value) if not pd.isna(value) else 0.0, half)
    wanted = (1 if known else 2) - _magnitude(size)
    return min(6, max(0, wanted, -_magnitude(half) if half > 0 else 0))


def _magnitude(value: float) -> int:
    return math.floor(math.log10(value)) if value > 0 else 0


def number(value: float, places: int | None = None, unit: str = "", sign: bool = False) -> str:
    """A number as it is read: ``0.95``, ``−0.33 dB``, ``1,234``; a dash where there is none.

    Args: places: decimals; by the value's size if None. sign: write ``+`` before what is positive.
    """
    if value is None or pd.isna(value):
        return "–"
    if math.isinf(value):
        text = "∞"
    elif places is None and 0 < abs(value) < SMALL:
        mantissa, exponent = f"{abs(value):.2e}".split("e")
        text = f"{mantissa} · 10{str(int(exponent)).translate(RAISED)}"
    else:
        text = f"{abs(value):,.{decimals(value) if places is None else places}f}"
    zero = not any(character in "123456789∞" for character in text)
    before = "" if zero else MINUS if value < 0 else "+" if sign else ""
    return before + text + (f" {unit}" if unit else "")


def interval(value: float, low: float, high: float, unit: str = "", sign: bool = False) -> str:
    """A value with its 95 % interval, e.g. ``0.69 [0.65, 0.74]``; the value alone where there is no interval."""
    if pd.isna(low) or pd.isna(high):
        return number(value, unit=unit, sign=sign)
    places = None if _tiny(value, low, high) else decimals(value, low, high)
    ends = ", ".join(number(end, places) for end in (low, high))
    return f"{number(value, places, sign=sign)} [{ends}]" + (f" {unit}" if unit else "")


def _tiny(*values: float) -> bool:
    """Whether values are written with powers of ten."""
    return 0 < max((abs(one) for one in values if not pd.isna(one)), default=0) < SMALL


def percent(share: float, places: int = 0) -> str:
    """A share as ``25 %``; a dash where there is none."""
    return "–" if share is None or pd.isna(share) else f"{number(100 * share, places)} %"


def compared(difference: float, low: float, high: float, than: str, unit: str = "") -> str:
    """What a difference says, in words that follow a subject; positive is better.

    ``is 0.33 dB better than MSE (95 % interval 0.02 to 0.64 better)``; ``was not shown to differ from MSE (0.03 dB
    worse; 95 % interval 1.48 worse to 1.42 better)``; ``is 0.33 dB better than MSE (no interval)``; ``could not be
    compared with MSE`` where the difference is not known.
    """
    if pd.isna(difference):
        return f"could not be compared with {than}"
    places = None if _tiny(difference, low, high) else decimals(difference, low, high)
    unit = f" {unit}" if unit else ""

    def side(value):
        word = "better" if value > 0 else "worse"
        return number(abs(value), places), word

    size, word = side(difference)
    if not any(digit in "123456789" for digit in size):
        size, word = "0", "apart"
    if pd.isna(low) or pd.isna(high):
        return (
            f"is as good as {than} (no interval)"
            if word == "apart"
            else f"is {size}{unit} {word} than {than} (no interval)"
        )
    (near, near_word), (far, far_word) = side(low), side(high)
    if low <= 0 <= high:
        return f"was not shown to differ from {than} ({size}{unit} {word}; 95 % interval {near} worse to {far} better)"
    if low < 0:  # both worse: the smaller size first
        (near, near_word), (far, far_word) = (far, far_word), (near, near_word)
    return f"is {size}{unit} {word} than {than} (95 % interval {near} to {far} {far_word})"


def bars(number: int, word: str, drawn: str = "Bars", least: int = 6, also: str = "") -> str:
    """What bars are: ``Bars: 95 % intervals over 10 patients.``; under ``least`` there are none.

    Args: drawn: ``Bands`` in a figure that has those, ``Brackets`` in a table. also: what else they hold, e.g.
        `` and trainings``.
    """
    several = plural(2, word).removeprefix("2 ")
    if number < least:
        return f"Too few {several} for intervals."
    return f"{drawn}: 95 % intervals over {plural(number, word)}{also}."


def scale(domain: str) -> str:
    """The grey values in which scores of an evaluation domain are computed, e.g. ``CT numbers in HU``."""
    return SCALES.get(domain, domain)


def outlined_by(segmentation: str) -> str:
    """Who outlines segments, as it follows "outlined by", e.g. ``Felzenszwalb's method``; thresholds as they are."""
    return OUTLINED_BY.get(segmentation, segmentation)


def limits(number: int, total: int) -> str:
    """How many rows of a table of checks have a limit, e.g. ``16 of 20 rows have a limit; the others are for
    comparison.``"""
    who, others = some(number, total, "row"), "; the others are for comparison" if 0 < number < total else ""
    return f"{capital(who)} ha{'s' if number < 2 else 've'} a limit{others}."


def like_scanner(errors: dict, ratios: dict, of_scanner: float, kernel: str = "B30") -> str:
    """How near the noise that low dose adds comes to a scanner's, in spectrum and direction.

    Args: errors: {kernel: relative RMS difference of the spectra}, empty where no scanner's is known. ratios: {kernel:
        noise power along x over that along y}. of_scanner: that ratio of the scanner, which is known for ``kernel``.
    """
    if not errors:
        return "The spectrum of the added noise was not compared with a scanner's."
    apart = listed(f"{percent(error)} ({name})" for name, error in errors.items())
    said = f"In RMS, the spectrum of the added noise lies {apart} from that of one scanner."
    if kernel not in errors or pd.isna(ratios.get(kernel)):
        return said
    ratio = number(ratios[kernel], 2)
    return f"{said} Noise power along x is {ratio} of that along y, on the scanner {of_scanner:g}; this has no limit."


def apart(one, other) -> str:
    """By how much two series of positive numbers differ at most, of the smaller one, e.g. ``16 %``."""
    return percent(max(max(a / b, b / a) for a, b in zip(one, other, strict=True)) - 1)


def went(what: str, start: float | None, end: float | None) -> str:
    """Where a share went in a training: ``ψ went from 95.0 % to 93.1 % in training.``, or stayed at the same figure."""
    if start is None or end is None:
        return f"{what} was not followed in this run."
    first, last = percent(start, 1), percent(end, 1)
    return (
        f"{what} stayed at {first} in training."
        if first == last
        else f"{what} went from {first} to {last} in training."
    )


def gained(who: str, gain: float, what: str, unit: str) -> str:
    """The largest gain as it follows a place: ``MSE improves PSNR most, by 0.35 dB``; losses are called losses.

    Args: who: the network with the largest gain. gain: what it gains over its input, in ``unit``; what: the score.
    """
    if gain > 0:
        return f"{who} improves {what} most, by {number(gain, 2, unit)}"
    return f"no network improves {what}; {who} loses least, {number(abs(gain), 2, unit)}"


def kept_least(who: str, share: str, networks: int, what: str = "a lesion's contrast") -> str:
    """Who of several networks keeps least, e.g. ``MSE keeps least of a lesion's contrast, 63 %.``; one is not compared.

    Args: who: the network that keeps least. share: that it keeps, in words. networks: their number, itself among them.
    """
    return f"{who} keeps {share} of {what}." if networks == 1 else f"{who} keeps least of {what}, {share}."


ALL = 0.995  # a share that is read as 100 %
MIXING = "mixing some of the input back in keeps more, as a rule at more error"


def keeps(kept: float | None, faint: float | None = None) -> str:
    """What one network keeps of lesions, beside what a mixture with its input would.

    Args: kept: share of the contrast, 1 all. faint: of faint lesions. Both None or NaN where there are none.
    """
    if pd.isna(kept):
        return "No lesion is known in these patients, so none can be followed."
    weak = "" if pd.isna(faint) else f" and {percent(faint)} of that of faint ones (under {FAINT_HU:.0f} HU)"
    return f"The network keeps {percent(kept)} of the contrast of lesions{weak}{f'; {MIXING}' if kept < ALL else ''}."


def beside_blends(table, says: dict) -> tuple[str, str]:
    """How to read a picture and a table of what networks keep: mixes of one of them with the LDCT, and the intervals.

    Args: table: of ``kept_of_methods``, one row at least. says: {method: its words}.
    """
    target = {"ndct": "NDCT", "truth": "noise-free truth"}[table["target"].iloc[0]]
    people, base = int(table["patients"].max()), says[table["base"].iloc[0]]
    also = " and trainings" if table["seeds"].max() > 1 else ""
    mixes = f"Above and right of the curve a network is better than {base} with some of the LDCT mixed in. "
    drawn = f"PSNR: in HU, slices with lesions, against the {target}. {bars(people, 'patient', also=also)}"
    last = " PSNR over a mix: above 0 dB a network has less error than the mix that keeps as much." * (len(table) > 1)
    sure = bars(people, "patient", "Brackets", also=also)
    return mixes * (len(table) > 1) + drawn, f"The LDCT keeps 100 % and gains 0 dB.{last} {sure}"


def slowest(seconds) -> str:
    """How much longer the slowest method takes than the fastest; one alone is not compared.

    Args: seconds: that each method takes for a slice, above 0.
    """
    seconds = list(seconds)
    if len(seconds) == 1:
        return f"The one method takes {number(seconds[0])} s a slice."
    return f"The slowest method takes {number(max(seconds) / min(seconds))} times as long as the fastest."


def ordered(tau: float) -> str:
    """Whether two orders of networks are one, by Kendall's tau; NaN for under three networks, or where all are tied."""
    if pd.isna(tau):
        return "Kendall's τ needs three networks or more without ties."
    return f"The order here and that of the test patients have Kendall's τ = {number(tau, 2)} (1: the same)."


def improved(rose: dict, kind: str) -> tuple[str, str]:
    """Which metrics improved in every run, and which did not: ``14 of 16 metrics improved in every run.``, and ``Worse
    in every run: bias.``, empty where there is nothing to add.

    Args: rose: {label of a metric: (better in every run, worse in every run)}, at least one. kind: of the metrics, e.g.
        ``full-reference``.
    """
    better, worse = ([label for label, ways in rose.items() if ways[way]] for way in (0, 1))
    mixed = [label for label in rose if label not in (*better, *worse)]
    if len(rose) == 1:
        did = "improved" if better else "got worse" if worse else "did not improve"
        return f"The only {kind} metric, {next(iter(rose))}, {did} in every run.", ""
    if len(worse) == len(rose):
        who, did, worse = some(len(rose), len(rose), f"{kind} metric"), "got worse", []
    else:
        who, did = some(len(better), len(rose), f"{kind} metric"), "improved"
    rest = [f"Worse in every run: {listed(worse, most=6)}."] if worse else []
    rest += [f"Not in one direction in all runs: {listed(mixed, most=6)}."] if mixed else []
    return f"{capital(who)} {did} in every run.", " ".join(rest)


def noticed(limits: dict, removed: int, known: int, what: str = "lesion") -> str:
    """Up to how much noise metrics notice a removal, e.g. ``We removed 18 of 71 lesions and added noise. PSNR notices
    that they are gone up to 5 HU of noise.``

    Args: limits: {label of a metric: SD of the noise, HU}, NaN for a metric that notices it at none. removed: how many
        of the ``known`` ones, each a ``what``.
    """
    if not removed:
        return f"No {what} was removed, so that there is nothing to notice."
    by, said = {}, []
    for label, hu in limits.items():
        by.setdefault(math.inf if pd.isna(hu) else hu, []).append(label)
    missed = by.pop(math.inf, [])
    for hu in sorted(by):
        gone = "" if said else f" notice{'s' * (len(by[hu]) == 1)} that {'it is' if removed == 1 else 'they are'} gone"
        noise = f"up to {hu:g} HU{'' if said else ' of noise'}" if hu else "only without noise"
        said.append(f"{listed(by[hu])}{gone} {noise}")
    told = [f"We removed {some(removed, known, what)} and added noise."] + ([", ".join(said) + "."] if said else [])
    if missed:
        told.append(f"{listed(missed)} w{'as' if len(missed) == 1 else 'ere'} not shown to notice the removal at any "
                    "level of noise.")  # fmt: skip
    return " ".join(told if limits else [*told, "No metric was asked whether it notices that."])


def worsened(falls: int, total: int, when: str = "when all lesions are removed") -> str:
    """How many metrics call an image worse in every patient, e.g. ``None of the 6 metrics calls the image worse ...``.

    Args: falls: metrics that fall in all patients, of ``total``. when: after which damage.
    """
    who = some(falls, total, "metric")
    return f"{capital(who)} call{'s' * (falls < 2)} the image worse in every patient {when}."


def asked(steady: float, gain_db: float) -> str:
    """What a working point asks of a network, in sentences.

    Args: steady: relative change of its objective over the last quarter of its updates; gain_db: over its input.
    """
    return (
        f"At its working point, a network's own objective changed by less than {percent(steady)} over the last quarter "
        f"of its updates. If it was trained without a critic, its PSNR is at least {gain_db:g} dB above its input's."
    )


def beyond(sentence: str) -> str:
    """A sentence on equal doses in which a bound is told as what it means.

    ``as good as FBP at less than 25 %`` is ``worse than FBP at 25 %``, and ``as FBP at more than 100 %`` is ``better
    than FBP at 100 %``. An interval of which both ends lie beyond says nothing more and is left out.
    """
    words = {"less": "worse", "more": "better"}
    told = re.sub(r" \[((?:less|more) than \d+), \1\]", "", sentence)  # an interval that lies beyond as a whole
    return re.sub(r"(as good )?as FBP at (less|more) than", lambda m: f"{words[m[2]]} than FBP at", told)
