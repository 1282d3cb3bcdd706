"""Computed readers and judges: the dose that they see, whom to believe, and which fault each notices."""

import re

from blocks.shared import FOLDER, STUDY, between
from ldct_utils.answers import said as answer
from ldct_utils.answers.words import (
    FILTER,
    OBSERVERS,
    bullets,
    called,
    cell,
    counted,
    fixed,
    listed,
    paragraphs,
    percent,
    table,
    trained,
)
from ldct_utils.judges import faulty, verdicts
from ldct_utils.report.drawings import judges as drawings


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
            + (f", with half or twice its internal noise by {between([one['swept']])}" if one.get("swept") else "")
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
        judges = [row for row in judges if not row["noise-free truth"].startswith("alarm")]
    known = [*verdicts.LABELS.values(), "identity"]  # older files have the identity's short name
    networks = [name for name in n["columns"][1:] if name not in known]
    alarms = [f"at {name} by {sum(row[name].startswith('alarm') for row in judges) or 'none'}" for name in networks]
    if alarms:
        there = " without an alarm there" * ("noise-free truth" in n["columns"])
        said.append(f"Of {counted(len(judges), 'judge')}{there}, an alarm is raised {listed(alarms)}.")
    if "asked_of_faults" not in n:  # older files: every judge stands as asked of every fault
        added = [name for name in map(verdicts.LABELS.get, faulty.IN_BOTH) if name in n["columns"]]
        both = "although these are in both images that they compare"
        said += [f"Observers and kept contrast stand here as asked about {listed(added)}, {both}."] if added else []
    if n.get("pairs", 0) > 1:
        said.append(f"Intervals are not corrected for the {n['pairs']} pairs of a judge and a fault.")
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
