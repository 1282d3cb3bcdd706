"""Images and their scores: what a score reacts to, newer methods, quality without a reference, other training data."""

import pandas as pd

from ldct_utils.answers import said as answer
from ldct_utils.answers.five.scores import by_pixel
from ldct_utils.answers.words import (
    bullets,
    called,
    cell,
    compared,
    counted,
    fixed,
    listed,
    map_of,
    paragraphs,
    percent,
    share,
    table,
    trained,
)
from ldct_utils.metrics import benchmark
from ldct_utils.report import metric_words


def audit(blocks) -> str:
    n = blocks["audit"]
    said = [answer.asked(answer.removal, blocks)]
    if moved := [f"{m} by {share(n['moved'][m])}" for m in ("PSNR", "SSIM", "MaxSRMSE") if m in n["moved"]]:
        said.append(f"Removing every lesion moves {listed(moved)} of what a quarter of the dose moves them.")
    said += by_pixel(n["lesion_removed"]) if n.get("lesion_removed") else []
    if n.get("like_mse"):
        names = {"ssim": "SSIM in HU", "ssim_window": "SSIM (window)"}
        said.append(metric_words.in_disguise(pd.DataFrame(n["like_mse"]), names))
    return paragraphs(f"*{counted(n['patients'], 'patient')}.*", bullets(said))


def quality(blocks) -> str:
    n, lines = blocks["quality"], []
    for model, row in n["models"].items():
        shown = ", ".join(f"{row[k]:.4f}" for k in ("ssim_published", "mse_published") if k in row)
        lines.append([map_of(model), row["trainings"] or "", cell(row.get("ssim"), 3), cell(row.get("mse"), 3), shown])
    said = [answer.asked(answer.maps, blocks)]
    for pair in n["pairs"]:
        first, _, second = pair["pair"].partition(" − ")
        if first.lower() == n["assessed"]:
            than = compared(pair["difference"], "", f"that of {map_of(second)}", 3, ("higher", "lower"))
            said.append(f"The {pair['metric'].upper()} of the map of {map_of(first)} is {than}.")
    if n.get("dose_accuracy") is not None:
        guess = f"; guessing is right in {percent(1 / n['doses'])}" if n.get("doses") else ""
        said.append(f"The dose classifier is right in {percent(n['dose_accuracy'])} of the images{guess}.")
    if rated := [f"{kind} {fixed(v['predicted'])} (right: {fixed(v['true'])})" for kind, v in n["kinds"].items()]:
        said.append(f"Mean rating by the map: {', '.join(rated)}.")
    note = f"*{counted(n['patients'], 'test patient')}; maps on [0, 1]; published numbers are of another protocol.*"
    head = ["model", "trainings", "SSIM of the map", "MSE of the map", "SSIM, MSE as published"]
    return paragraphs(table(head, lines), note, bullets(said + n.get("notes", [])))


DIGITS = {
    "ssim": 3,
    "psnr": 1,
    "vifp_eulig": 3,
    "rmse_hu": 1,
    "rfs": 2,
}  # after the point, of the scores that are shown
ARROWS = {"better": " ↑", "worse": " ↓"}


def newer(blocks) -> str:
    n, lines = blocks["newer"], []
    for row in n["rows"]:
        scores = [row["scores"].get(m) for m in DIGITS]
        line = [
            fixed(s["value"], DIGITS[m]) + ARROWS.get(s.get("verdict"), "") if s else "" for m, s in zip(DIGITS, scores)
        ]
        weights = row.get("weights")
        lines.append([called(row["method"]), *line, "" if weights is None else f"{weights:,}"])
    for row in n.get("controls", []):
        values = [row["scores"].get(m) for m in DIGITS]
        lines.append([row["method"], *(fixed(s["value"], DIGITS[m]) if s else "" for m, s in zip(DIGITS, values)), ""])
    least, most = n["trainings"]
    each = f"{most} trainings each" if least == most else f"{least} to {most} trainings each"
    note = f"{counted(n['patients'], 'patient')}; {trained(1) if most == 1 else each}."
    if n.get("comparisons"):
        arrows = "↑ better, ↓ worse than the best older one; no arrow: not shown, or no verdict."
        arrows += " At the end controls, which are no one's rival." * bool(n.get("controls"))
        note = f"By age, oldest first. {note} {arrows}"
    said = [answer.asked(answer.newest, blocks)] if n.get("comparisons") else []
    head = ["method", *(benchmark.LABELS[m] for m in DIGITS), "weights"]
    return paragraphs(table(head, lines), f"*{note}*", bullets(said + n.get("notes", [])))


MEASURES = {"contrast": "the contrast of lesions that is kept"}


def transfer(blocks) -> str:
    n = blocks["transfer"]
    columns = [c for c in n["arms"][0] if c not in ("slices", "texture_db", "kept")]
    lines = []
    for row in n["arms"]:
        texture = fixed(row["texture_db"], 1) if "texture_db" in row else ""
        lines.append([row.get(c, "") for c in columns] + [texture, percent(row["kept"]) if "kept" in row else ""])
    said = [n["headline"]]
    for one in n["claims"]:
        role = "control" if one["role"] == "control" else "arm"
        than = compared(one | {"value": one["difference"]}, "dB", f"those of the {role} “{one['second']}”", level=90)
        said.append(f"By {MEASURES.get(one['measure'], one['measure'])}, networks of “{one['first']}” are {than}.")
    said.append(f"Two arms count as equal within {n['margin_db']:g} dB.")
    note = f"*{counted(n['networks'], 'network')}. Gain: lower RMSE inside the body, 95 % intervals over trainings.*"
    head = [*columns, "distance of noise spectrum, dB", "contrast kept"]
    return paragraphs(table(head, lines), note, bullets(said + n.get("notes", [])))
