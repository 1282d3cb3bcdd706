"""Numbers of a study to the lines between two comments of README.md and docs/results.md: one function a block.

A function takes the blocks of one study's file and returns Markdown: a table, how to read it, what was found.
"""

import math
import re
from datetime import date

import pandas as pd

from ldct_utils.answers import front
from ldct_utils.answers import said as answer
from ldct_utils.answers.collected.spans import ends
from ldct_utils.answers.said import FAINT
from ldct_utils.answers.words import (
    CONTEXTS,
    DOMAINS,
    FILTER,
    OBSERVERS,
    REFERENCES,
    bullets,
    called,
    cell,
    compared,
    counted,
    decided,
    fixed,
    known,
    listed,
    map_of,
    paragraphs,
    percent,
    reference_of,
    share,
    table,
    trained,
    within,
)
from ldct_utils.judges import verdicts
from ldct_utils.models import textbook
from ldct_utils.report import bars, metric_words
from ldct_utils.report.drawings import judges as drawings
from ldct_utils.report.drawings import known_ct as control
from ldct_utils.structures.removal import beside_talk

FOLDER = "{results}/"  # where pictures lie, seen from the page that a block stands on
STUDY = "{study}"


def influence(blocks) -> str:
    n = blocks["influence"]
    rows = sorted(n["rows"], key=lambda row: -row["gain_db"][reference_of(row["gain_db"])]["value"])
    references = [r for r in REFERENCES if any(r in row["gain_db"] for row in rows)]
    head = ["loss", "trainings", *(f"PSNR over the input, against the {REFERENCES[r]}, dB" for r in references)]
    head += ["perceptual loss better than MSE, dB", "ψ at start, half and end, %", "its share of the gradient, %"]
    head += ["PSNR over the input on one real CT, dB (least to most of the trainings)"]
    lines = []
    for row in rows:
        line = [called(row["method"]), row["trainings"], *(cell(row["gain_db"].get(r)) for r in references)]
        line.append(cell(row["over_mse_db"].get(reference_of(row["over_mse_db"]))))
        for name in ("psi_reached", "gradient_share"):
            line.append(" → ".join(fixed(100 * v, 0) for v in row.get(name, []) if v is not None))
        real = row.get("real_ct_db")
        several = real and real.get("low") != real.get("high")
        lines.append([*line, (real and fixed(real["value"]) + (within(real) if several else "")) or ""])
    for row in n.get("controls", []):
        what = row["method"] if row["method"] == textbook.TRUTH else f"{row['method']}, no network"
        lines.append([what, "", *(cell(row["gain_db"].get(r)) for r in references), *[""] * 4])
    note = [f"{counted(n['patients'], 'patient')}."] if n.get("patients") else []
    note += [f"PSNR in {DOMAINS.get(n['domain'], n['domain'])}."] if n.get("domain") else []
    sure = any(known(span) for row in rows for span in row["gain_db"].values())
    over = "; intervals are 95 % over patients and, of several trainings, over those" if sure else ""
    note.append(f"Positive is better{over}.")
    said = []
    if "truth" in references:
        network = "DenoMamba" if n.get("network") == "denomamba" else called(n.get("network", "unet"))
        said.append(answer.asked(answer.mse_gain, blocks).replace("a U-Net", f"a {network}"))
    said += [answer.asked(answer.perceptual, blocks)] if answer.ranked(blocks) else []
    said += [answer.trainings(blocks)] if "twice" in n else []
    for one in n.get("interaction", []):
        sure = "differs" if decided(one["db"]) else "was not shown to differ"
        said.append(
            f"What a level costs {sure} between encoders at {one['at']}: {cell(one['db'])} dB ({one['contrast']})."
        )
    return paragraphs(table(head, lines), f"*{' '.join(note)}*", bullets(said + n.get("notes", [])))


def by_psi(blocks) -> str:
    """PSNR beside MSE, and contrast kept, by ψ: a row a level and encoder, a column a ψ."""
    n = blocks["by_psi"]
    if not n["rows"]:
        return "*No loss was trained at three values of ψ.*"
    shares = sorted({row["psi"] for row in n["rows"]})
    arms = list(dict.fromkeys((row["layer"], row["context"], row["held"]) for row in n["rows"]))
    of = {(row["layer"], row["context"], row["held"], row["psi"]): row for row in n["rows"]}
    head = ["level, encoder", *("VGG alone" if share == 1 else f"ψ {percent(share)}" for share in shares)]

    def lines(quantity, say):
        for layer, context, held in arms:
            line = [f"{layer}, {CONTEXTS.get(context, context)}{', ψ held' * held}"]
            yield line + [say(of.get((layer, context, held, share), {}).get(quantity)) for share in shares]

    signs = [decided(row["db"]) for row in n["rows"]]
    said = [
        f"In PSNR {signs.count(1) or 'none'} of {len(signs)} perceptual losses {'is' if signs.count(1) < 2 else 'are'} "
        f"shown to be better than MSE, {signs.count(-1) or 'none'} worse."
    ]
    found = [
        f"PSNR minus that of MSE, dB, in {DOMAINS.get(n['domain'], n['domain'])}, against the "
        f"{REFERENCES[n['reference']]}:",
        table(head, [*lines("db", cell)]),
    ]
    if n["kept_of_mse"] and all("kept" in row for row in n["rows"]):
        more = [row for row in n["rows"] if row["kept"]["value"] > n["kept_of_mse"]["value"]]
        said.append(
            f"In the mean {len(more)} of {len(n['rows'])} keep more of lesions than MSE, which keeps "
            f"{share(n['kept_of_mse'])}."
        )
        found += ["Contrast of lesions kept, %:", table(head, [*lines("kept", lambda span: cell(span, 0, 100))])]
    ended = lines("reached", lambda share: "" if share is None else fixed(100 * share, 0))
    found += ["ψ at the end of training, %:", table(head, [*ended])]
    most = max(row["trainings"] for row in n["rows"])
    alone = "; one training each, so that they leave out how trainings differ" * (most == 1)
    note = f"*ψ at the start of training. 95 % intervals over {counted(n['patients'], 'patient')}{alone}.*"
    return paragraphs(*found, note, bullets(said))


def psi_picture(blocks) -> str:
    return (
        f'<img src="{FOLDER}{STUDY}-psi.png" width="860" alt="Line plots of the gain over MSE against the perceptual '
        'share, a panel a score and reference, a line a level and encoder.">\n\n*Gain over MSE against ψ at the end '
        "of training; a horizontal line runs to ψ at its start. Hollow: one training. Numbers: points outside a panel.*"
    )


def kept(blocks, block: str = "kept") -> str:
    """What methods keep of lesions beside their PSNR, the most kept first."""
    n = blocks[block]
    if not n["rows"]:
        return "*No lesion is known in these patients.*"
    of_mix = f"PSNR over a mix of {called(n['base'])} and the LDCT that keeps as much, dB"
    lines = [
        [called(row["method"]), cell(row["gain_db"]), cell(row["kept"], 0, 100), cell(row.get("faint"), 0, 100),
         cell(row.get("beyond_db"))] for row in n["rows"]
    ]  # fmt: skip
    lines += [
        [
            f"{one['name']}, no network",
            cell(one["gain_db"]),
            cell(one["kept"], 0, 100),
            cell(one.get("faint"), 0, 100),
            "",
        ]
        for one in n.get("filters", [])
    ]
    head = ["method", "PSNR over the LDCT, dB", "contrast of lesions kept, %", "of those under 25 HU, %", of_mix]
    also = " and trainings" * (max(row["trainings"] for row in n["rows"]) > 1)
    sure = bars(n["patients"], "patient", "Brackets", also=also)
    against = f"PSNR in HU in slices with lesions, against the {REFERENCES[n['target']]}"
    also = " A filter stands at the strength of its largest gain." * bool(n.get("filters"))
    return paragraphs(table(head, lines), f"*{against}. {sure} The LDCT keeps 100 % and gains 0 dB.{also}*")


def newer_kept(blocks) -> str:
    return kept(blocks, "newer_kept")


def swaps(blocks) -> str:
    return answer.asked(answer.swaps, blocks)


def lambdas(blocks) -> str:
    n, said = blocks["lambdas"], []
    for name, one in n["spread"].items():
        who = CONTEXTS.get(name, name)
        low, high = one["times"]["untrained"]
        most = max(max(one["times"]["trained"]), 1 / min(one["times"]["trained"])) if "trained" in one["times"] else 1
        said += [
            f"With {'an' if who[0] in 'aeiouI' else 'a'} {who}, ψ = {percent(n['psi'])} needs for an untrained network "
            f"{low:,.0f} to {high:,.0f} times the λ that it needs for the LDCT itself, by feature level."
            + f" LDCT and trained network differ by at most {percent(most - 1)}."
            * (most > 1),
            f"Over feature levels the λ of one network varies up to {fixed(max(one['over_levels'].values()), 1)}-fold, "
            f"over levels and networks {one['over_all']:,.0f}-fold.",
        ]
    if max(one["over_all"] for one in n["spread"].values()) > 2:
        said.append(
            "So choose the perceptual share ψ and say for which prediction: elsewhere the same λ gives another ψ."
        )
    return bullets(said)


def agreement(blocks) -> str:
    n = blocks["agreement"]
    other = n["agreement_with_other_seed"]
    level = f"Their curves correlate by {fixed(n['agreement'])} in the median"
    if other is not None:
        level += (
            f", and by {fixed(other)} with the metrics of another training, since every training improves most of them"
        )
    said = [answer.asked(answer.together, blocks), f"{level}."]
    for w in n["concordance"]:
        who = f"{counted(n['metrics'], 'metric')} rank {counted(n['methods'], 'final network')}"
        sure = within(w, level="95 % interval")
        said.append(f"{who} with a Kendall's W of {fixed(w['value'])}{sure}; 1 is full agreement, 0 is none.")
    note = (
        counted(n["runs"], "training"),
        counted(n["patients"], "validation patient"),
        counted(n["metrics"], "metric"),
    )
    return paragraphs(f"*{', '.join(note)}.*", bullets(said))


def metrics_picture(blocks) -> str:
    return (
        f'<img src="{FOLDER}{STUDY}-metrics.png" width="860" alt="Line plots over updates, a panel a metric, a line a '
        'loss, with the values of the low-dose image and of a blurred normal-dose one.">\n\n*Metrics on validation '
        "slices over the updates, mean and range of the trainings. An arrow points to better; dashed: the low-dose "
        "input; dotted: the normal-dose slice, blurred; ▲▼: a value outside the panel.*"
    )


def audit(blocks) -> str:
    n = blocks["audit"]
    said = [answer.asked(answer.removal, blocks)]
    if moved := [f"{m} by {share(n['moved'][m])}" for m in ("PSNR", "SSIM", "MaxSRMSE") if m in n["moved"]]:
        said.append(f"Removing every lesion moves {listed(moved)} of what a quarter of the dose moves them.")
    if n.get("like_mse"):
        names = {"ssim": "SSIM in HU", "ssim_window": "SSIM (window)"}
        said.append(metric_words.in_disguise(pd.DataFrame(n["like_mse"]), names))
    return paragraphs(f"*{counted(n['patients'], 'patient')}.*", bullets(said))


def dose(blocks) -> str:
    n, low = blocks["dose"], percent(blocks["dose"]["low_dose"])
    measures = list(dict.fromkeys(m for of in n["methods"].values() for m in of.get("worth", {})))
    head = ["dose of an equally good plain image, %, by", *(called(m) for m in n["methods"])]
    lines = [
        [OBSERVERS.get(m, m), *(dose_cell(of.get("worth", {}).get(m)) for of in n["methods"].values())]
        for m in measures
    ]
    if best := n.get("filters"):
        head.append(FILTER)
        lines = [[*line, f"{dose_cell(best.get(m))} ({best[m]['name']})"] for line, m in zip(lines, measures)]
    note = (
        f"*For images at {low} of the dose that a network cleaned; at {low} it saves nothing. 95 % intervals over "
        f"{counted(n['patients'], 'patient')}, {n['realisations']} scans a class; {trained(n.get('trainings', 1))}.*"
    )
    said = [answer.asked(answer.doses, blocks), answer.detection(blocks)]
    return paragraphs(table(head, lines), note, bullets(said))


def dose_cell(span) -> str:
    """An equal dose in % with its interval; beyond the doses looked at it is more than the full one."""
    return "> 100" if span is not None and span["value"] is None else cell(span, 0, 100)


def dose_picture(blocks) -> str:
    low = percent(blocks["dose"]["low_dose"])
    return paragraphs(
        f'<img src="{FOLDER}{STUDY}-dose.png" width="640" alt="Two dot plots with intervals: the dose that each '
        'network seems to save, by RMSE, by SSIM and by two model observers.">',
        "*Left: the dose at which the denoised image equals a plain reconstruction (FBP) at full dose. Right: the dose "
        f"at which a plain reconstruction is as good as the image denoised at {low}. On the dotted lines a network "
        f"saves nothing. 95 % intervals over {counted(blocks['dose']['patients'], 'patient')}; "
        f"{trained(blocks['dose'].get('trainings', 1))}.*",
    )


def tradeoff(blocks) -> str:
    n, lines = blocks["tradeoff"], []
    for row in n["rows"]:
        spans = [cell(row.get(name), digits, scale) for name, (digits, scale) in TRADED.items()]
        lines.append([row["loss"], *spans, row["answer"]])
    for one in n.get("filters", []):
        lines.append([one["name"], cell(one["gain_db"]), cell(one["kept"], 1, 100), "", "", "a filter"])
    head = ["loss", "PSNR over the input, dB", "contrast of lesions kept, %", "beyond the blend of equal error, points"]
    head += ["dB beyond the blend that keeps as much", "answer"]
    said = [answer.asked(answer.tradeoff, blocks)]
    if "half_width_kept" in n and "half_width_db" in n:
        said.append(
            f"The widest interval of a difference is ±{100 * n['half_width_kept']:.1f} points of contrast, where "
            f"{100 * n['wanted_kept']:g} was wanted, and ±{n['half_width_db']:.2f} dB, where {n['wanted_db']:g} was "
            "wanted."
        )
    if (n.get("null_pairs") or [0, 0])[1]:
        different, pairs = n["null_pairs"]
        several = counted(pairs, "comparison")
        said.append(
            f"With intervals over patients alone, {different} of {several} of MSE trainings with each other "
            "(each once as the reference) would wrongly count as different."
        )
    note = "Beyond a blend of the MSE network's output with its input, positive is better; 95 % intervals over "
    note += f"{counted(n['patients'], 'patient')} and trainings." if "patients" in n else "patients and trainings."
    return paragraphs(*([table(head, lines), f"*{note}*"] if lines else []), bullets(said))


def tradeoff_picture(blocks) -> str:
    return (
        f'<img src="{FOLDER}{STUDY}-tradeoff.png" width="640" alt="PSNR against the contrast that is kept: a point a '
        'network with its intervals, beside the curves of filters and of blends with the input.">'
    )


def judges(blocks) -> str:
    n = blocks["judges"]
    half = any(", half at" in words for row in n["rows"] for words in row)
    note = (
        "“From 100 %”: the fault is caught at full strength, and not at weaker ones if any were tried. "
        + "“Half at”: the strength that raises an alarm in half of the patients. " * half
        + "Then: in how many patients at full strength, with its 95 % interval. "
        f"{counted(n['patients'], 'simulated patient')}, 5 % false alarms on others."
    )
    said = [answer.asked(answer.believed, blocks)]
    if n["silent"]:
        whose = "what it finds" if len(n["silent"]) == 1 else "what they find"
        said.append(
            f"Patient by patient, no fault is caught by {listed(n['silent'])}; {whose} in a network is no evidence "
            "here."
        )
    at = {"identity": "The image that was not denoised has all the noise, its twin half of it. That is noticed by",
          "truth": "At the noise-free truth no alarm is right. One is raised by"}  # fmt: skip
    for name, words in at.items():
        where = [place for place, column in enumerate(n["columns"]) if name in column]
        if who := [row[0] for row in n["rows"] if any(row[place].startswith(("alarm", "called")) for place in where)]:
            said.append(f"{words} {listed(who)}.")
    columns, rows = n["columns"], n["rows"]
    if twins := n.get("at_twins"):  # files of older runs lack them
        columns = [*columns, "most alarms at a twin, % (right: 5)"]
        rows = [[*row, _alarms(twins[row[0]]) if row[0] in twins else ""] for row in rows]
    return paragraphs(table(columns, rows), f"*{note}*", bullets(said))


def _alarms(rate) -> str:
    """A rate of alarms in percent, with its interval where one is stored."""
    return cell(rate, 0, 100) if isinstance(rate, dict) else fixed(100 * rate, 0)


def observers(blocks) -> str:
    n = blocks["observers"]
    names = [*n["could_gain"]]
    lines = [[name, n["could_gain"][name], counted_of(n["readers"].get(name)), best_of(n["readers"].get(name))]
             for name in names]  # fmt: skip
    head = ["model observer", "largest gain in d′ by any image (image, task)", "dose saved, in comparisons"]
    head += ["dose of an equally good plain image at best, %"]
    note = "*Only observers that pass the tests are asked about dose, each in the tasks in which it was shown to gain.*"
    said = [answer.asked(answer.passing, blocks)]
    if one := n.get("blurred"):
        said.append(
            "A blur need not harm: for a large faint disc it takes d′ of the observer with an eye from "
            f"{fixed(one['plain']['value'])} to {fixed(one['blur']['value'])}, by {cell(one['more'])}"
            + (f", with half or twice its internal noise by {_between([one['swept']])}" if one.get("swept") else "")
            + ". That is why it is asked about small lesions and shapes before it is believed."
        )
    return paragraphs(table(head, lines), note, bullets(said))


def counted_of(reader) -> str:
    return f"{reader['saves']} of {reader['asked']}" if reader else ""


def best_of(reader) -> str:
    return f"{cell(reader['best'], 0, 100)} ({reader['best']['task']})" if reader else ""


def two_tasks(blocks) -> str:
    n = blocks["two_tasks"]
    held = sum(n["controls"].values())
    controls = f"{held} of {counted(len(n['controls']), 'control')} came out as they must."
    return bullets(
        [answer.asked(answer.both_tasks, blocks), f"{counted(n['patients'], 'simulated patient')}; {controls}"]
    )


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


# what is told of a loss, with how many decimals and in parts of what
TRADED = {"gain_db": (2, 1), "kept": (1, 100), "more_kept": (1, 100), "less_error_db": (2, 1)}
LABELS = {"ssim": "SSIM", "psnr": "PSNR, dB", "vifp_eulig": "VIF", "rmse_hu": "RMSE, HU", "rfs": "RFS"}
DIGITS = {"ssim": 3, "psnr": 1, "vifp_eulig": 3, "rmse_hu": 1, "rfs": 2}
ARROWS = {"better": " ↑", "worse": " ↓"}


def newer(blocks) -> str:
    n, lines = blocks["newer"], []
    for row in n["rows"]:
        scores = [row["scores"].get(m) for m in LABELS]
        line = [
            fixed(s["value"], DIGITS[m]) + ARROWS.get(s.get("verdict"), "") if s else "" for m, s in zip(LABELS, scores)
        ]
        weights = row.get("weights")
        lines.append([called(row["method"]), *line, "" if weights is None else f"{weights:,}"])
    for row in n.get("controls", []):
        values = [row["scores"].get(m) for m in LABELS]
        lines.append([row["method"], *(fixed(s["value"], DIGITS[m]) if s else "" for m, s in zip(LABELS, values)), ""])
    least, most = n["trainings"]
    each = f"{most} trainings each" if least == most else f"{least} to {most} trainings each"
    note = f"{counted(n['patients'], 'patient')}; {trained(1) if most == 1 else each}."
    if n.get("comparisons"):
        arrows = "↑ better, ↓ worse than the best older one; no arrow: not shown, or no verdict."
        arrows += " At the end controls, which are no one's rival." * bool(n.get("controls"))
        note = f"By age, oldest first. {note} {arrows}"
    said = [answer.asked(answer.newest, blocks)] if n.get("comparisons") else []
    head = ["method", *LABELS.values(), "weights"]
    return paragraphs(table(head, lines), f"*{note}*", bullets(said + n.get("notes", [])))


def _two_decimals(text: str) -> str:
    """``0.89 [0.72, 1]`` as ``0.89 [0.72, 1.00]``."""
    return re.sub(r"\d+(\.\d+)?", lambda number: f"{float(number[0]):.2f}", str(text))


def details(blocks) -> str:
    n, parts = blocks["details"], []
    if n["notices"]:
        rates = [cell for row in n["notices"] for key, cell in row.items() if key != "metric" and " " in cell]
        one_scan = all(cell.endswith(" –") for cell in rates)  # what theory says has no interval anyway
        how = CALLED_WORSE.replace("95 % intervals", "Too few volumes for intervals") if one_scan else CALLED_WORSE
        parts += [_rates(n["notices"]), how]
    if n["against"]:
        lines = []
        for one in n["against"]:
            sure = "not shown to differ" if not one["differs"] else "more" if one["difference"] > 0 else "less"
            low, high = ends(one["interval"])
            sides = "–" if low is None else f"[{fixed(100 * low, 1)}, {fixed(100 * high, 1)}]"
            span = f"{fixed(100 * one['difference'], 1)} {sides}"
            lines.append(
                [
                    called(one["first"]),
                    called(one["second"]),
                    one["quantity"].replace(" kept", "").replace("d'", "d′"),
                    span,
                    sure,
                ]
            )
        parts.append(table(["loss", "compared with", "kept of a faint lesion", "difference, points", "verdict"], lines))
        parts.append("*A point is a hundredth of the LDCT's. 95 % intervals over patients and trainings.*")
    if by_lesion := n.get("kept_by_lesion"):  # studies published earlier stored none
        lesions = next(iter(by_lesion.values()))
        heads = [f"radius {one['radius_mm']:g} mm, {fixed(one['contrast_hu'], 0)} HU" for one in lesions]
        lines = [[called(method), *map(share, spans)] for method, spans in by_lesion.items()]
        parts += [table(["contrast of planted lesions kept after", *heads], lines), BY_LESION]
    kept = n["kept"]
    said = [answer.asked(answer.noticed, blocks)] if answer.noticed(blocks) else []
    if kept:
        each = [f"{called(k)} {share(s if isinstance(s, dict) else {'value': s})}" for k, s in kept.items()]
        said.append(f"Contrast of three {FAINT} that the networks keep: {listed(each)}; 100 % is the input's.")
    return paragraphs(*parts, bullets(said))


BY_LESION = "*In brackets: 95 % intervals over patients and trainings. The LDCT keeps 100 %.*"
CALLED_WORSE = "*How often a metric calls the image without the lesions the worse one; 0.5 is chance. 95 % intervals.*"


def _rates(notices: list[dict]) -> str:
    sigmas = [k for k in notices[0] if k != "metric"]
    lines = [[row["metric"], *(_two_decimals(row[s]) for s in sigmas)] for row in notices]
    return table(["metric", *(f"noise added: {s} HU" for s in sigmas)], lines)


def removal(blocks) -> str:
    rows = blocks["removal"]["rows"]
    if not rows:
        return "Not asked: no structures were removed."
    parts = []
    for one in rows:
        voxels = f"{fixed(100 * one['share'], 3)} % of the voxels, {beside_talk(one['share'])}"
        told = f"{one['removed']} of {counted(one['structures'], 'lesion')} removed, {voxels}; "
        told += f"{counted(one['volumes'], 'volume')} with {counted(one['draws'], 'draw')} of the noise each."
        if "psnr_off_theory" in one:
            told += f" PSNR lies within {fixed(one['psnr_off_theory'])} of its theory."
        if "theory_least_p" in one:
            told += (
                f" The smallest p of a z test against it, a volume each, is {fixed(one['theory_least_p'], 3)}; one "
                "below 0.001 would show an error."
            )
        parts += [told, _rates(one["notices"])]
    return paragraphs(*parts, CALLED_WORSE)


OVER_ORGANS = {"rmse_hu": "RMSE of all pixels, HU", "mean_srmse": "MeanSRMSE, mean over organs, HU",
               "max_srmse": "MaxSRMSE, worst organ of a slice, HU"}  # fmt: skip
NO_INTERVAL = "No interval over patients was taken; brackets: least and most of the trainings."


def organs(blocks) -> str:
    """Errors over the organs that a scan's own labels outline, the method with the least mean on top."""
    n = blocks["organs"]
    if not n["rows"]:
        return "*No errors over labelled organs were asked for.*"
    rows = sorted(n["rows"], key=lambda row: row["mean_srmse"]["value"])
    lines = [[called(row["method"]), *(cell(row[name], 1) for name in OVER_ORGANS)] for row in rows]
    networks, before = [row for row in rows if row["method"] != "LDCT"], {row["method"]: row for row in rows}["LDCT"]
    of_best, of_input = (f"{fixed(row['mean_srmse']['value'], 1)} HU" for row in (networks[0], before))
    said = [f"Over organs {called(networks[0]['method'])} has the least mean error: {of_best}, the low-dose input "
            f"has {of_input}."]  # fmt: skip
    if len(networks) > 1:
        same = networks == sorted(networks, key=lambda row: row["rmse_hu"]["value"])
        said.append(f"By RMSE of all pixels the networks stand in {'the same' if same else 'another'} order.")
    if n["patients"] == 1:
        said.append("One patient shows no order of networks.")
    regions = f"{fixed(n['regions'], 0)} labelled organs or parts of organs a slice"
    about = f"{counted(n['patients'], 'patient')}, {counted(n['slices'], 'slice')}, on average {regions}"
    note = f"*Against the normal-dose slice. {about}. {NO_INTERVAL}*"
    return paragraphs(table(["image", *OVER_ORGANS.values()], lines), note, bullets(said))


def real_anatomy(blocks) -> str:
    """What d′ observers reach for faint lesions in one real patient's liver, beside their controls."""
    rows = blocks["real_anatomy"]["rows"]
    if not rows:
        return "*Not asked: no lesions were inserted into a real scan.*"
    head = [f"{one['radius_mm']:g} mm, {fixed(one['contrast_hu'], 0)} HU" for one in rows[0]["faint"]]
    lines = [
        [called(row["method"]), OBSERVERS[f"d' ({row['observer']})"], *map(cell, row["faint"]),
         _between([row["nothing"]]), _between([row["strong"]])] for row in rows
    ]  # fmt: skip
    said = []
    for observer in dict.fromkeys(row["observer"] for row in rows):
        own = [row for row in rows if row["observer"] == observer]
        given, made = (
            _between([one["value"]] for row in own if (row["method"] == "LDCT") is is_input for one in row["faint"])
            for is_input in (True, False)
        )
        who = OBSERVERS[f"d' ({observer})"]
        said.append(f"To a {who} d′ of these lesions is {given} in the low-dose input, and {made} after networks.")
    reach, beyond = fixed(max(row["chance"] for row in rows)), sum(row["beyond"] for row in rows)
    said.append(
        f"As controls, without contrast d′ is {_between(row['nothing'] for row in rows)}, where 0 is right and chance "
        f"gives up to {reach} either way{f' ({beyond} are further off)' * (beyond > 0)}; with ten times the contrast "
        f"it is {_between(row['strong'] for row in rows)}."
    )
    if {"CHO", "NPW"} <= {row["observer"] for row in rows}:
        said.append(
            "The Hotelling observer has to learn its template from these few places, the other knows the lesion: it is "
            "no ceiling here. Where an observer is off 0 without contrast, its other values may be off as much."
        )
    said.append("One patient cannot show a gain or a loss.")
    places = " and ".join(dict.fromkeys(str(one["places"]) for one in rows[0]["faint"]))
    note = f"*d′ in the liver of one real patient; 0 is guessing. Radius and contrast of the lesion; {places} places a "
    note += f"class, each used once. {NO_INTERVAL}*"
    head = ["image", "model observer", *head, "without contrast (right: 0)", "ten times the contrast"]
    return paragraphs(table(head, lines), note, bullets(said))


def _between(ranges) -> str:
    """``0.52 to 1.30``, the least and the largest number in these ranges; None is beyond what can be measured."""
    ends = [math.inf if one is None else one for several in ranges for one in several]
    told = ("beyond measure" if math.isinf(one) else fixed(one) for one in (min(ends), max(ends)))
    return " to ".join(dict.fromkeys(told))


BY_PATCH = {
    "sFRC, truth as reference": "by sFRC against the truth", "sFRC, NDCT as reference": "by sFRC against the NDCT",
    "this test, by patch": "by the test of segments", "naive z, by patch": "by z without the noise's correlation",
    "change alone, by patch": "by the change alone",
}  # fmt: skip


def changes(blocks) -> str:
    n = blocks["changes"]
    names = {
        "naive": "without noise correlation",
        "spectrum": "with the noise spectrum",
        "null": "against repeated scans",
    }
    each, said = (
        [f"{percent(v)} {names.get(k, k)}" for k, v in n["alarms"].items()],
        [answer.asked(answer.planted, blocks)],
    )
    if without := [f"{share(r['found'])} of {r['kind']}s" for r in n["found"] if r["of"] == "without the NDCT"]:
        said.append(f"Without the normal-dose slice, as in a hospital, the test finds {listed(without)}.")
    if rows := [row for row in n.get("by_patch", []) if row["detector"] in BY_PATCH]:  # older files lack them
        found = "; ".join(
            f"{BY_PATCH[row['detector']]} {share(row['found']['removal'])} and {share(row['found']['insertion'])}"
            for row in rows
        )
        said.append(f"Patch by patch, of removals and insertions are found, at one false mark a slice: {found}.")
    if each:
        said.append(
            f"As a control, nothing was changed: the test then calls changed {listed(each)} of the segments, where 5 % "
            "would be right."
        )
    for row in n["suspicious"]:
        many = f"{fixed(row['a_slice'])} segments a slice" if row["a_slice"] else "no segment"
        free = f"{fixed(row['lesion_free'])} a slice" if row["lesion_free"] else "none"
        who = f"of the {called(row['method'])} network"
        weight = "" if row["a_slice"] > row["lesion_free"] else " These are no evidence of a changed lesion."
        said.append(
            f"The test names {many} {who} as suspicious; on scans without lesions, where none would be right, {free}."
            f"{weight}"
        )
    return bullets(said)


def invariances(blocks) -> str:
    rows, lines = blocks["invariances"]["rows"], []
    asked = any("within_reach" in row for row in rows)  # older files did not count these
    for row in rows:
        ratio = [fixed(row[k]) if k in row else "" for k in ("search_in_over_null", "search_out_over_null")]
        network, loss = called(row["network"]), called(row["method"].split(" · network")[0])
        kept = [share(row["kept"]) if "kept" in row else ""]
        if asked:
            kept.append(f"{row['within_reach']} of {row['lesions']}" if "within_reach" in row else "not counted")
        lines.append([f"{network}, {loss}", *(found_by(row.get(way)) for way in ("search", "aimed")), *ratio, *kept])
    head = ["network, loss", "lesions changed by the plain search", "lesions changed by the search for anatomy"]
    head += ["change of the input (1: as by another scan)", "change of the output (1: as by another scan)"]
    head += ["lesions' contrast kept"]
    head += ["lesions kept below the limit for small changes"] * asked
    names = [(row["network"], row["method"]) for row in rows]
    note = f"{counted(rows[0]['patients'], 'patient')}; {trained(max(map(names.count, names)))}."
    if many := rows[0].get("iterations"):  # older files lack it
        note += f" Searches of {many:,} steps."
    if alpha := rows[0].get("alpha"):
        note += (
            f" A small change pays for the search only where a network passes on less than {percent(alpha**0.5)} of "
            "it; a large one need not keep to that limit."
        )
    return paragraphs(
        table(head, lines),
        f"*{note}*",
        bullets([answer.asked(answer.hidden, blocks), *blocks["invariances"].get("notes", [])]),
    )


def found_by(count) -> str:
    """How many lesions a search changed, and how many of these the network hides: none can be hidden where none was
    changed. Args: count: tested, changed (absent in files copied by hand) and hidden; None without the search."""
    if not count:
        return ""
    changed, tested = count.get("changed"), count["tested"]
    if changed is None:
        return f"not recorded, {count['hidden']} of {tested} changed and hidden"
    if not changed:
        return f"0 of {tested}, hiding not tested"
    return f"{changed} of {tested}, {count['hidden']} of {changed} changed {'is' if changed == 1 else 'are'} hidden"


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


def plain(blocks) -> str:
    """A table that no notebook stored: its cells and sentences as they were copied."""
    n = blocks["plain"]
    return paragraphs(table(n["columns"], n["rows"]), bullets(n["sentences"]))


def cohort(blocks) -> str:
    n = blocks["cohort"]
    off = n["checks_off"]
    checks = "all checks are within their limits" if not off else f"{counted(off, 'check')} beyond the limit"
    return (
        f"{n['patients']} simulated patients with {n['slices']} slices, {n['test_patients']} of them for testing; "
        f"{checks}. Noise in the normal-dose slices is {fixed(n['ndct_noise_hu'], 1)} HU."
    )


def courses(blocks) -> str:
    """The error of each training by updates, beside that of the input."""
    n, names = blocks["courses"]["input_rmse_hu"], list(blocks["courses"]["trainings"])
    at = {name: dict(map(tuple, points)) for name, points in blocks["courses"]["trainings"].items()}
    steps = sorted({step for points in at.values() for step in points if step})
    shown = [step for step in steps if step in {128 * 2**k for k in range(12)} or step == steps[-1]]
    lines = [[f"{step:,}", *(fixed(at[name][step], 1) if step in at[name] else "" for name in names)] for step in shown]
    said = []
    for name in names if n else []:
        last, passed = max(at[name]), None
        for step, rmse in sorted(at[name].items(), reverse=True):
            if not step or rmse >= n:
                break
            passed = step
        said.append(
            f"{name} has less error than its input ({fixed(n, 1)} HU) from {passed:,} updates on."
            if passed
            else f"{name} is not as good as its input within {last:,} updates: {fixed(at[name][last], 1)} HU against "
            f"{fixed(n, 1)} HU."
        )
    note = "*RMSE against the normal-dose slice on validation slices, HU.*"
    return paragraphs(table(["updates", *names], lines), note, bullets(said))


def judges_picture(blocks) -> str:
    return (
        f'<img src="{FOLDER}{STUDY}-judges.png" width="860" alt="{drawings.ALT}">\n\n*Numbers: in how many of 100 '
        "patients the strongest fault raises an alarm; 5 is chance. Blue: more alarms than without the fault, darker "
        "where a weaker one does too. Orange: an alarm at what has no fault. Last row: lesions hidden "
        "of those changed; below, behind the honest twin. "
        f"{counted(blocks['judges']['patients'], 'simulated patient')}.*\n\n" + bullets(of_judges(blocks["judges"]))
    )


def of_judges(n) -> list[str]:
    """What each judge notices, at what it raises an alarm although nothing is wrong, and what it says of networks."""
    by_count = {}
    for judge, count in sorted(n["caught_of_faults"].items(), key=lambda one: -one[1]):
        by_count.setdefault(count, []).append(f"“{judge}”")
    noticed = listed(f"{count or 'none'} by {listed(judges)}" for count, judges in by_count.items())
    table = [dict(zip(n["columns"], row)) for row in n["rows"]]
    judges = [row for row in table if row["judge"] in n["caught_of_faults"]]
    said = [f"Of {counted(n['faults'], 'fault')} are noticed: {noticed}."]
    if "noise-free truth" in n["columns"]:
        misled = [f"“{row['judge']}”" for row in judges if row["noise-free truth"].startswith("alarm")]
        said.append(f"At the noise-free truth, which has no fault, an alarm is raised by {listed(misled) or 'none'}.")
    known = [*verdicts.LABELS.values(), "identity"]  # older files have the identity's short name
    networks = [name for name in n["columns"][1:] if name not in known]
    alarms = [f"at {name} by {sum(row[name].startswith('alarm') for row in judges)}" for name in networks]
    if alarms:
        said.append(f"Of {counted(len(judges), 'judge')}, an alarm is raised {listed(alarms)}.")
    for row in (row for row in table if row["judge"] == verdicts.SEARCH):
        hidden = [f"{name} ({beyond})" for name, words in row.items() if (beyond := beyond_twin(words))]
        said.append(
            "In one patient the invariance search finds more lesions hidden than behind the honest twin at "
            f"{listed(hidden) or 'none'}."
        )
    return said


def beyond_twin(words: str) -> str:
    """``5 of 5 changed, twin 0 of 1`` of a cell of the search that hides a larger share than its twin; else empty."""
    found = re.match(r"(\d+) of (\d+) changed hidden.*?\(twin: (?:(\d+) of (\d+)|none changed)\)", words)
    if not found:
        return ""
    hidden, changed, of_twin, twin = (int(number or 0) for number in found.groups())
    beside = f"{of_twin} of {twin}" if twin else "none changed"
    return f"{hidden} of {changed} changed, twin {beside}" * (hidden * max(twin, 1) > of_twin * changed)


# ---- the first page ----
def sentence(blocks) -> str:
    return f"**{front.sentence(blocks)}**"


def five(blocks) -> str:
    """The five answers of the report's first page."""
    rows = [[f"**{one['question']}**", one["sentences"], one["sure"] or ""] for one in front.page(blocks)["answers"]]
    return table(["question", "answer", "how sure"], rows)


def hero_picture(blocks) -> str:
    return (
        f'<img src="{FOLDER}{STUDY}-hero.png" width="860" alt="CT cut-outs in rows: low dose, denoised, normal dose, '
        'and the noise-free truth.">\n\n*Simulated patients, lesions circled; denoised by the network trained with '
        "MSE. Errors are RMS differences from the noise-free truth.*"
    )


def drawn(blocks) -> str:
    rows = blocks["drawn"]["rows"]
    if not rows:
        return "Not asked: no flow was trained with controls on CT."
    note = f"*{counted(rows[0]['patients'], 'patient')}, one training each. {control.tried(rows)}*"
    return paragraphs(
        note, bullets([f"*Do models that draw find what an eraser hides?* {control.said(pd.DataFrame(rows))}"])
    )


# {block of a page: (the block of the study's file that it needs, its notebook, what writes it)}
BLOCKS = {
    "sentence": ("", "", sentence),
    "five": ("", "", five),
    "hero_picture": ("", "12_answers", hero_picture),
    "answers": ("", "", answer.answers),
    "cohort": ("cohort", "01_data", cohort),
    "lambdas": ("lambdas", "02_psi_calibration", lambdas),
    "influence": ("influence", "06_stats", influence),
    "by_psi": ("by_psi", "06_stats", by_psi),
    "psi_picture": ("by_psi", "06_stats", psi_picture),
    "kept": ("kept", "06_stats", kept),
    "newer_kept": ("newer_kept", "11_denoisers", newer_kept),
    "swaps": ("influence", "06_stats", swaps),
    "tradeoff": ("tradeoff", "14_tradeoff", tradeoff),
    "tradeoff_picture": ("tradeoff", "14_tradeoff", tradeoff_picture),
    "agreement": ("agreement", "04_metrics_during_training", agreement),
    "metrics_picture": ("agreement", "04_metrics_during_training", metrics_picture),
    "audit": ("audit", "04c_metric_audit", audit),
    "dose": ("dose", "04b_dose", dose),
    "dose_picture": ("dose", "04b_dose", dose_picture),
    "observers": ("observers", "04d_observers", observers),
    "two_tasks": ("two_tasks", "04e_detect_or_characterise", two_tasks),
    "judges": ("judges", "15_judges", judges),
    "judges_picture": ("judges", "15_judges", judges_picture),
    "courses": ("courses", "03_train", courses),
    "quality": ("quality", "08_noise2quality", quality),
    "newer": ("newer", "11_denoisers", newer),
    "details": ("details", "09_subtle_details", details),
    "removals": ("removal", "09_subtle_details", removal),
    "organs": ("organs", "09_subtle_details", organs),
    "real_anatomy": ("real_anatomy", "09_subtle_details", real_anatomy),
    "changes": ("changes", "09a_hallucinations", changes),
    "invariances": ("invariances", "05_invariances", invariances),
    "drawn": ("drawn", "05a_train_invariances", drawn),
    "transfer": ("transfer", "16_phantom_to_real", transfer),
    "plain": ("plain", "", plain),
}
CPUS = {"AMX": "with AMX", "AVX-512 BF16": "with AVX-512 BF16", "plain": "without fast bfloat16"}


def source(stored: dict) -> str:
    """The last line of a block: study, commit, date, CPU and precision, and how the numbers came into the file."""
    p = stored["provenance"]
    commits = p.get("commits") or ["not recorded"]
    said = [f"{'Test' if stored.get('test') else 'Study'} `{stored['study']}`"]
    changed = " with uncommitted changes" if p.get("dirty") else ""
    said.append(f"commit{'s' * (len(commits) > 1)} {listed(commits)}{changed}")
    said += [f"{date.fromisoformat(p['finished']):%-d %B %Y}"] if p.get("finished") else []
    cores = f" on {counted(p['cores'], 'core')}" if p.get("cores") else ""
    took = [p.get("runs") and counted(p["runs"], "run"), p.get("minutes") and f"{p['minutes']:.0f} min{cores}"]
    said += [" in ".join(filter(None, took))] if any(took) else []
    cpu = (
        f"CPU {listed(CPUS.get(c, 'of unknown kind') for c in p['cpu'])}"
        if p.get("cpu")
        else "kind of CPU not recorded"
    )
    said.append("GPU, " + cpu if any(str(d).startswith("cuda") for d in p.get("device") or []) else cpu)
    said.append(f"computed in {listed(p['precision'])}" if p.get("precision") else "precision not recorded")
    other = " Another kind of CPU or precision gives other networks." if p.get("cpu") and p.get("precision") else ""
    hand = " Copied by hand from an earlier text; the study replaces it when it runs again." * (
        stored["collected"] == "by hand"
    )
    return f"<sub>{', '.join(said)}.{other}{hand}</sub>"


def write(block: str, stored: dict) -> str:
    """The lines of a block from a study's file, with where they come from.

    Raises: ValueError: if the file lacks a value that the block needs.
    """
    needed, notebook, say = BLOCKS[block]
    file = f"docs/results/{stored['study']}.json"
    if needed and needed not in stored["blocks"]:
        if not notebook:
            raise ValueError(f"{file} holds no block {needed!r}")
        return paragraphs(f"The study `{stored['study']}` did not run `{notebook}`.", source(stored))
    try:
        if block.endswith("_picture") and block.removesuffix("_picture") not in stored["pictures"]:
            return paragraphs(f"*`{notebook}` of this study stored no such picture.*", source(stored))
        text = say(stored["blocks"])
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"{file}: block {needed or block} lacks a number: {error!r}") from error
    return paragraphs(text.replace(STUDY, stored["study"]), source(stored))
