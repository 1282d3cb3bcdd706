"""Lesions and organs: what is left of them, which metric notices that one is gone, which change is found."""

import re

from blocks.shared import between
from ldct_utils.answers import said as answer
from ldct_utils.answers.collected.spans import ends
from ldct_utils.answers.said import FAINT
from ldct_utils.answers.words import (
    OBSERVERS,
    bullets,
    called,
    cell,
    counted,
    fixed,
    listed,
    paragraphs,
    percent,
    share,
    table,
)
from ldct_utils.structures.removal import beside_talk


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
         between([row["nothing"]]), between([row["strong"]])] for row in rows
    ]  # fmt: skip
    said = []
    for observer in dict.fromkeys(row["observer"] for row in rows):
        own = [row for row in rows if row["observer"] == observer]
        given, made = (
            between([one["value"]] for row in own if (row["method"] == "LDCT") is is_input for one in row["faint"])
            for is_input in (True, False)
        )
        who = OBSERVERS[f"d' ({observer})"]
        said.append(f"To a {who} d′ of these lesions is {given} in the low-dose input, and {made} after networks.")
    reach, beyond = fixed(max(row["chance"] for row in rows)), sum(row["beyond"] for row in rows)
    said.append(
        f"As controls, without contrast d′ is {between(row['nothing'] for row in rows)}, where 0 is right and chance "
        f"gives up to {reach} either way{f' ({beyond} are further off)' * (beyond > 0)}; with ten times the contrast "
        f"it is {between(row['strong'] for row in rows)}."
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
