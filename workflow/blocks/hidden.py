"""What a denoiser cannot see: searches for hidden lesions, and models that draw images that look alike to it."""

import pandas as pd

from ldct_utils.answers import said as answer
from ldct_utils.answers.words import (
    bullets,
    called,
    counted,
    fixed,
    paragraphs,
    percent,
    share,
    table,
    trained,
)
from ldct_utils.report.drawings import known_ct as control


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


def drawn(blocks) -> str:
    rows = blocks["drawn"]["rows"]
    if not rows:
        return "Not asked: no flow was trained with controls on CT."
    note = f"*{counted(rows[0]['patients'], 'patient')}, one training each. {control.tried(rows)}*"
    return paragraphs(
        note, bullets([f"*Do models that draw find what an eraser hides?* {control.said(pd.DataFrame(rows))}"])
    )
