"""Training: what a loss, its perceptual share and its network do to scores and to lesions."""

from blocks.shared import FOLDER, STUDY
from ldct_utils.answers import said as answer
from ldct_utils.answers.words import (
    CONTEXTS,
    DOMAINS,
    REFERENCES,
    bullets,
    called,
    cell,
    counted,
    decided,
    fixed,
    known,
    paragraphs,
    percent,
    reference_of,
    share,
    table,
    within,
)
from ldct_utils.models import textbook
from ldct_utils.report import bars


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


# what is told of a loss, with how many decimals and in parts of what
TRADED = {"gain_db": (2, 1), "kept": (1, 100), "more_kept": (1, 100), "less_error_db": (2, 1)}


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
