"""Numbers in words, as every block says them: names, intervals, directions, tables.

A span is {"value", "low", "high"}; an absent end was not stored, one that is None lies beyond what was measured.
"""

from ldct_utils.report.sentences import listed as report_listed
from ldct_utils.report.sentences import number, percent, plural
from ldct_utils.training import designs

counted = plural
MAPS = {
    "constant": "a constant",
    "lookup": "one number of noise",
    "unet": "U-Net",
    "redcnn": "RED-CNN",
}  # models of maps of quality
MAPS |= {"ae": "AE", "uhpf": "U-HPF", "ucon": "U-Con", "ussl": "U-SSL", "n2q": "N2Q"}
CONTEXTS = {"random": "random encoder", "imagenet": "ImageNet encoder", "medical": "encoder trained on CT"}
REFERENCES = {"truth": "noise-free truth", "ndct": "normal-dose slice"}
FILTER = "best of the plain filters"  # a control beside networks
OBSERVERS = {"d' (CHO)": "Hotelling observer", "d' (NPW)": "non-prewhitening observer"}
OBSERVERS |= {"RMSE ↓": "RMSE", "SSIM ↑": "SSIM", "SSIM (window) ↑": "windowed SSIM"}
OBSERVERS |= {"MeanSRMSE ↓": "MeanSRMSE", "MaxSRMSE ↓": "MaxSRMSE"}
READERS = {
    "NPWE": "with an eye filter",
    "NPW": "that ignores the noise texture",
    "CHO, learned on FBP": "taught on plain images",
    "search, learned on FBP": "that searches, taught on plain images",
    "search, retrained": "that searches",
}
DOMAINS = {
    **{"viana2025": "grey values of 8 bits for −1024 to 3072 HU", "hu": "HU", "body": "HU inside the body"},
    **{"window": "a window of HU", "eulig2024": "the window of each anatomy"},
}


def called(method: str) -> str:
    """A method's name for readers, as figures have it: ``MSE + VGG (block3_conv2, random, ψ 95 % at start)``."""
    if method == "LDCT":
        return "low-dose input"
    return designs.spoken(method).replace("residual False", "no skip connection")


def map_of(model: str) -> str:
    """A model of maps of quality, whose U-Net is not the denoiser."""
    return MAPS.get(model.lower().replace("-", ""), model)


def fixed(value: float, digits: int = 2) -> str:
    """A number with so many decimals and a true minus; −0.00 is 0.00."""
    return number(value, digits)


def listed(words) -> str:
    return report_listed(words, none="")


def known(span) -> bool:
    """Whether a span has an interval with both ends."""
    return span.get("low") is not None and span.get("high") is not None


def decided(span) -> int:
    """1 or -1 where the interval lies above or below 0, else 0."""
    return 0 if not known(span) or span["low"] <= 0 <= span["high"] else 1 if span["low"] > 0 else -1


def ends(span, digits: int = 2, scale: float = 1) -> str:
    return f"{fixed(scale * span['low'], digits)} to {fixed(scale * span['high'], digits)}"


def within(span, digits: int = 2, scale: float = 1, level: str = "") -> str:
    """`` (65 to 74)`` or, with a level, `` (95 % interval 65 to 74)``; nothing where there is no interval."""
    return f" ({level}{' ' * bool(level)}{ends(span, digits, scale)})" if known(span) else ""


def share(span) -> str:
    """``55 % (31 to 75)``."""
    return percent(span["value"]) + within(span, 0, 100)


ENDS = {"value", "low", "high"}


def grouped(told: dict, word: str) -> str:
    """Who says what, those together who say the same: ``60 % by RMSE and SSIM``."""
    same = {}
    for who, what in told.items():
        same.setdefault(what, []).append(who)
    return listed(f"{what} {word} {listed(who)}" for what, who in same.items())


def cell(span, digits: int = 2, scale: float = 1) -> str:
    """A value and its interval for a table, ``0.69 [0.65, 0.74]``; None is beyond what was looked at."""
    if span is None:
        return ""
    shown = {k: "beyond" if span[k] is None else fixed(scale * span[k], digits) for k in span.keys() & ENDS}
    return f"{shown['value']} [{shown['low']}, {shown['high']}]" if {"low", "high"} <= shown.keys() else shown["value"]


def directed(value: float, unit: str, digits: int = 2, words=("better", "worse")) -> str:
    """``0.33 dB worse``; the first word is that of a positive value."""
    return " ".join(filter(None, [fixed(abs(value), digits), unit, words[value < 0]]))


def compared(span, unit: str, than: str, digits: int = 2, words=("better", "worse"), level: int = 95) -> str:
    """``0.33 dB worse than MSE (95 % interval 1.00 worse to 0.34 better)``."""
    text = f"{directed(span['value'], unit, digits, words)} than {than}"
    if not known(span):
        return f"{text} (no interval: too few patients or trainings)"
    low, high = span["low"], span["high"]
    if decided(span):
        near, far = sorted([abs(low), abs(high)])
        return f"{text} ({level} % interval {fixed(near, digits)} to {fixed(far, digits)})"
    return f"{text} ({level} % interval {directed(low, '', digits, words)} to {directed(high, '', digits, words)})"


def trained(most: int) -> str:
    """How many trainings stand behind each network of a table."""
    return "one training each, whose spread no interval holds" if most == 1 else f"up to {most} trainings each"


def table(head: list, rows: list) -> str:
    """A Markdown table without the columns that are empty."""
    used = [i for i in range(len(head)) if any(str(row[i]) for row in rows)]
    lines = [[str(line[i]) for i in used] for line in [head, *rows]]
    lines.insert(1, ["---"] * len(used))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def bullets(sentences) -> str:
    return "\n".join(f"- {one}" for one in sentences if one)


def paragraphs(*parts) -> str:
    return "\n\n".join(part for part in parts if part)


def reference_of(spans: dict) -> str:
    """The noise-free truth where it is known, else the normal dose."""
    return "truth" if "truth" in spans else "ndct"
