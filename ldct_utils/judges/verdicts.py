"""The one table: judges down, denoisers across, in each cell from which strength a fault is caught, and how often."""

import numpy as np
import pandas as pd

from ldct_utils.judges import caught, faulty
from ldct_utils.report.sentences import capital, listed, some
from ldct_utils.stats import intervals

LABELS = {
    "eraser": "eraser, knows lesions", "blind_eraser": "eraser, blind", "blur": "blur", "median": "median",
    "tv": "total variation", "unsharp": "unsharp masking", "paster": "texture paster", "inserter": "inserter",
    "identity": "identity (not denoised)", "truth": "noise-free truth",
}  # fmt: skip
IN_SENTENCES = LABELS | {"eraser": "eraser that knows lesions", "blind_eraser": "blind eraser",
                         "identity": "image that was not denoised"}  # fmt: skip
NOT_ASKED, FEW, NOTHING, NOT_TESTED = "cannot be asked", "too few patients", "says nothing", "not tested"
SEARCH = "invariance search (05), one patient"


def of_scores(scores, own_task: dict, diseased, draws: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Verdicts: a row a judge, denoiser and strength.

    Args: scores: columns judge, denoiser, strength, variant (``fault`` or ``twin``), patient, score. own_task: {judge:
        whether it brings its own lesions}. diseased: boolean by patient. draws, seed: of the bootstrap.
    Returns: the fields of ``caught.Verdict``; rows of a judge that has no score are left out. The eraser that knows the
        lesions is asked in patients who have some, unless the judge brings its own. A judge that does, and compares the
        image with that lesion to the one without, cannot be asked about what is in both.
    """
    rows = []
    for (judge, name, strength), part in scores.groupby(["judge", "denoiser", "strength"], sort=False):
        if own_task[judge] and name in faulty.IN_BOTH:
            continue
        by = part.pivot(index="patient", columns="variant", values="score")
        asked = diseased.reindex(by.index).to_numpy() if name in faulty.OF_LESIONS and not own_task[judge] else None
        found = caught.verdict(by["fault"].to_numpy(), by["twin"].to_numpy(), asked, draws=draws, seed=seed)
        if found is not None:
            rows.append({"judge": judge, "denoiser": name, "strength": strength} | vars(found))
    return pd.DataFrame(rows).astype({"caught": "boolean"})


def cells(verdicts) -> pd.DataFrame:
    """A row a judge and denoiser: ``from``, the least strength from which on all are caught, NaN if the strongest is
    not; ``half``, the strength called in half of the patients, NaN if none is or only one was tried; ``rising``, the
    rates in percent at all strengths, weakest first; and the verdict at the largest strength.

    Args: verdicts: of ``of_scores``; a network has one strength, 1.
    """
    rows = []
    for _, part in verdicts.groupby(["judge", "denoiser"], sort=False):
        part = part.sort_values("strength")
        run = part["caught"].fillna(False).to_numpy(bool)[::-1]
        held = part["strength"].to_numpy()[::-1][: int(np.argmin([*run, False]))]
        rows.append(
            part.iloc[-1].to_dict()
            | {"from": held[-1] if len(held) else np.nan,
               "half": caught.strength_at_half(part["strength"], part["rate"]) if len(part) > 1 else np.nan,
               "rising": ", ".join(f"{100 * rate:.0f}" for rate in part["rate"])}
        )  # fmt: skip
    return pd.DataFrame(rows).astype({"caught": "boolean"})


def silent(found) -> list[str]:
    """Judges that catch no fault: what they say of a network means nothing. Args: found: of ``cells``."""
    known = found[found["denoiser"].isin(names_of_faults())]
    known = known[known["caught"].notna()]  # with too few patients nothing is decided
    if known.empty:
        return []
    any_caught = known.groupby("judge", sort=False)["from"].apply(lambda one: one.notna().any())
    return list(any_caught.index[~any_caught])


def noticed(found, judges: dict) -> dict:
    """{judge: {fault: share of patients}} of the faults that each catches, by labels. Args: as of ``rows_in_words``."""
    caught_ones = found[found["from"].notna() & found["denoiser"].isin(faulty.names())]
    caught_ones = caught_ones[~caught_ones["denoiser"].isin(faulty.HARMLESS)]
    told = {label: {} for label in judges.values()}
    for one in caught_ones.itertuples():
        told[judges[one.judge]][LABELS[one.denoiser]] = float(one.rate)
    return told


def percent(share: float) -> str:
    """A share in percent, e.g. ``25 %``."""
    return f"{100 * share:.0f} %"


def rows_in_words(found, judges: dict, denoisers, quiet=()) -> list[dict]:
    """The table in words, a row a judge: its label under ``judge``, then what it says of each denoiser, by label.

    Args: found: of ``cells``. judges: {name: label}. denoisers: names, those of ``faulty`` first. quiet: of ``silent``.
    """
    rows = []
    for judge, label in judges.items():
        own, row = found[found["judge"] == judge].set_index("denoiser", drop=False), {"judge": label}
        for name in denoisers:
            muted = judge in quiet and name not in faulty.names()
            row[LABELS.get(name, name)] = said(own.loc[name] if name in own.index else None, muted)
        rows.append(row)
    return rows


def every_cell(found, judges: dict) -> pd.DataFrame:
    """All cells as numbers, a row a judge and denoiser: the strengths ``from`` and ``half``, ``rate`` and the
    ``twin``'s with their ends, in percent; ``rising``, the rates at all strengths, weakest first.

    Args: as of ``rows_in_words``.
    """
    table = found.assign(
        judge=found["judge"].map(judges), denoiser=found["denoiser"].map(lambda one: LABELS.get(one, one))
    )
    numbers = ["from", "half", "rate", "rate_low", "rate_high", "twin", "twin_low", "twin_high", "patients"]
    table[numbers[:-1]] = 100 * table[numbers[:-1]]
    return table[["judge", "denoiser", *numbers, "rising"]].reset_index(drop=True)


def half_said(found) -> str:
    """Of how many pairs of a judge and a fault more than half of the patients raise an alarm. Args: of ``cells``."""
    own = found[found["denoiser"].isin(names_of_faults()) & found["caught"].notna()]
    reached = int((own["rate"] >= 0.5).sum())
    if own.empty:
        return "No pair of a judge and a fault could be asked."
    pairs = some(reached, len(own), "pair")
    told = f"{pairs} of a judge and a fault {'reaches' if reached < 2 else 'reach'} an alarm in half of the patients."
    return f"{capital(told)}"


def names_of_faults() -> list[str]:
    return [name for name in faulty.names() if name not in faulty.HARMLESS]


def _searched(hunted, name: str):
    """The search on a denoiser at its largest strength at which it changed a lesion, and on the twin of that: rows of
    ``search.of_all``, the second one None where there is none; None where no lesion was changed."""
    faulted = hunted[(hunted["denoiser"] == name) & (hunted["variant"] == "fault") & (hunted["changed"] > 0)]
    if faulted.empty:
        return None
    last = faulted.sort_values("strength").iloc[-1]
    honest = hunted[(hunted["variant"] == "twin") & hunted["denoiser"].isin([name, "honest"])]
    own = honest[(honest["denoiser"] == name) & (honest["strength"] == last["strength"])]
    beside = own if len(own) else honest[honest["denoiser"] == "honest"]
    return last, beside.iloc[0] if len(beside) else None


def search_finds(hunted) -> bool:
    """Whether the search hides a larger share of changed lesions behind a known fault than behind its honest twin."""

    def share(row):
        return row["hidden"] / max(row["changed"], 1)

    pairs = [found for name in names_of_faults() if len(hunted) and (found := _searched(hunted, name))]
    return any(share(last) > (0 if twin is None else share(twin)) for last, twin in pairs)


def searched(hunted, name: str) -> tuple[str, str]:
    """What the search counts on a denoiser at its largest strength at which it changed a lesion, and on its twin.

    One patient's lesions are counted, not tested: no number of patients stands behind them. A search that finds no
    known fault (``search_finds``) says nothing about a network.

    Args: hunted: of ``search.of_all``; may be empty. Returns: words, and the counts alone, one below the other, empty
        where nothing was changed.
    """
    part = hunted[hunted["denoiser"] == name] if len(hunted) else hunted
    if part.empty:
        return NOT_ASKED, ""
    if name not in faulty.names() and not search_finds(hunted):
        return NOTHING, ""
    if not (found := _searched(hunted, name)):
        last = part[part["variant"] == "fault"].sort_values("strength").iloc[-1]
        return f"{NOT_TESTED}: none changed, {last['within_reach']:.0f} of {last['tested']:.0f} within reach", ""
    (last, other), faulted = found, part[part["variant"] == "fault"]
    counts = [f"{one['hidden']:.0f} of {one['changed']:.0f}" for one in found if one is not None]
    words, lines = counts[0] + " changed hidden", [counts[0]]
    if last["strength"] != faulted["strength"].max():
        words, lines = f"{words} at {percent(last['strength'])}", [*lines, f"at {percent(last['strength'])}"]
    if other is not None:
        of_twin = counts[1] if other["changed"] else "none"
        words, lines = f"{words} (twin: {of_twin}{' changed' * (not other['changed'])})", [*lines, f"twin {of_twin}"]
    return words, "\n".join(lines)


def _with_ends(row: dict, name: str) -> str:
    """A share in percent with its 95 % interval, e.g. ``76 % [60, 90]``; without where too few patients give none.

    Where it is none or all in every patient, a bootstrap over them has no width. The interval is then the exact one of
    patients with a draw that differs: no mean share can lie further off.
    """
    low, high = (row.get(f"{name}_{end}") for end in ("low", "high"))
    if low == high and row[name] in (0, 1) and low is not None:
        low, high = intervals.share_interval(row[name] * row["patients"], row["patients"])
    return percent(row[name]) + ("" if low is None or low == high else f" [{100 * low:.0f}, {100 * high:.0f}]")


def drawn(tried: list[dict] | None, denoisers) -> list[dict]:
    """Rows of the table in words for models that draw invariances (05a), who were tried on an eraser and the identity.

    Args: tried: of ``known_ct.headline``; None of a run that stored none. denoisers: names, those of ``faulty`` first.
    Raises: ValueError: for a run that stored none.
    """
    if tried is None:
        raise ValueError("a run in `drawn` tried no eraser: name runs of 05a_train_invariances with ct_control_updates")
    rows = []
    for one in tried:
        row = {"judge": f"{one['model']} (05a), {one['patients']} patients"} | {
            LABELS.get(name, name): NOT_ASKED if name in faulty.names() else NOTHING for name in denoisers
        }
        works = FEW if one["works"] is None else "from 100 %" if one["works"] else "no"
        spread = f"draws vary by {one['eraser_sd_hu']:.1f} HU, {one['eraser_open_hu']:.0f} is right"
        hides = {name: _with_ends(one, f"{name}_hidden") for name in ("eraser", "identity")}
        said_of = {"eraser": f"{works}: {hides['eraser']} of draws hide; {spread}",
                   "identity": f"{hides['identity']} of draws hide"}  # fmt: skip
        rows.append(row | {LABELS[name]: words for name, words in said_of.items() if name in denoisers})
    return rows


def by_judge(found, verdicts, judges) -> pd.DataFrame:
    """A row a judge, the best first: faults ``caught`` and ``asked``, those ``missed`` and denoisers without a fault
    that are ``misled`` into a call, in words, and ``twin_percent``, the highest rate at which it calls an honest twin.

    Args: found: of ``cells``. verdicts: of ``of_scores``. judges: {name: label}.
    """
    rows = []
    for judge, label in judges.items():
        own, all_of = (table[table["judge"] == judge] for table in (found, verdicts))
        own = own[own["denoiser"].isin(faulty.names())].set_index("denoiser")
        faults = own[~own.index.isin(faulty.HARMLESS) & own["caught"].notna()]  # with too few patients: not asked
        fooled = own.index[own.index.isin(faulty.HARMLESS) & own["caught"].fillna(False).to_numpy(bool)]
        told = [
            "; ".join(IN_SENTENCES[name] for name in names) for names in (faults.index[faults["from"].isna()], fooled)
        ]
        twin = all_of.loc[~all_of["denoiser"].isin(faulty.HARMLESS), "twin"].max()
        rows.append({"judge": label, "caught": int(faults["from"].notna().sum()), "asked": len(faults),
                     "missed": told[0], "misled": told[1], "twin_percent": 100 * twin})  # fmt: skip
    table = pd.DataFrame(rows)
    order = table.assign(fooled=table["misled"] != "", caught=-table["caught"]).sort_values(["fooled", "caught"])
    return table.loc[order.index]


def best_said(table, found, judges: dict) -> str:
    """The judges that catch most faults, in a sentence; or that none does.

    Args: table: of ``by_judge``. found: of ``cells``. judges: {name: label}.
    """
    best = table[(table["caught"] == table["caught"].max()) & (table["caught"] > 0)]
    if best.empty:
        return "No judge catches a fault."
    graded = names_of_faults()
    own = found[found["judge"].map(judges).isin(best["judge"]) & found["denoiser"].isin(graded)]
    own = own[own["from"].notna()]
    shares, single = [round(100 * rate) for rate in own["rate"]], len(best) == 1
    rates = f", in {' to '.join(dict.fromkeys(f'{end}' for end in (min(shares), max(shares))))} % of patients"
    if single and len(shares) < 4:  # each with its name
        names = own["denoiser"].map(IN_SENTENCES)
        rates = ": " + listed([f"{name} ({share} % of patients)" for name, share in zip(names, shares)])
    who = f"The judge{'s' * (not single)} {listed([f'“{name}”' for name in best['judge']])}"
    most, faults = best["caught"].iloc[0], int(best["asked"].max())
    caught_of = f"{most} of {faults} planted fault{'s' * (faults > 1)}"
    catch = "catches" if single else "each catch"
    return f"{who} {catch} {caught_of}{rates}. Chance gives {percent(caught.FALSE_ALARMS)}."


def all_caught_said(table, found, judges: dict) -> str:
    """How many of the judges that were asked of all faults catch them, and what they see least, in a sentence.

    Args: table: of ``by_judge``. found: of ``cells``. judges: {name: label}.
    """
    every = table[table["asked"] == max(table["asked"].max(), 1)]
    whole = every["judge"][every["caught"] == every["asked"]]
    could, what = "", "every fault"
    if len(every) < len(table):
        could, what = " that could be asked of every fault", "them all"
    told = f"{some(len(whole), len(every), 'judge')}{could} {'is' if len(whole) < 2 else 'are'} shown to catch {what}"
    own = found[found["judge"].map(judges).isin(whole) & found["denoiser"].isin(IN_SENTENCES)]
    own = own[~own["denoiser"].isin(faulty.HARMLESS)].sort_values("rate", kind="stable")
    if len(own) > 1:
        told += (
            f", least often the {IN_SENTENCES[own['denoiser'].iloc[0]]}, in {percent(own['rate'].iloc[0])} of patients"
        )
    return f"{capital(told)}."


def asked_said(faults, strengths) -> str:
    """Which faults were asked at which strengths, in a sentence. Args: faults: names of ``faulty``, all at
    ``strengths``."""
    graded = names_of_faults()
    asked = [name for name in faults if name in graded]
    if not asked:
        return "No fault was asked about."
    ends = list(dict.fromkeys((min(strengths), max(strengths))))
    full = "full strength" if ends == [1] else f"{percent(ends[0])} of the strength"
    how = f"at {full} only" if len(ends) == 1 else f"at {percent(ends[0]).removesuffix(' %')} to {percent(ends[1])}"
    how += "" if len(ends) == 1 else " of the strength"
    said = f"Asked about {'was' if len(asked) == 1 else 'were'} {listed(IN_SENTENCES[name] for name in asked)}, {how}"
    return f"{said}." if len(asked) == len(graded) and len(ends) > 1 else f"{said}; study `controls` asks more."


def own_lesions_said(judges, faults, tasks: int, patients: int) -> str:
    """Whose lesions judges look for that bring their own, in a sentence; empty where there is no such judge.

    Args: judges: of ``panel.Judge``. faults: names of ``faulty``. tasks: patients with a crop in which an observer has
        room, of ``patients``.
    """
    if not any(one.own_task for one in judges):
        return ""
    room = "all" if tasks == patients else f"{tasks} of the {patients}"
    said = (
        "Observers and kept contrast look for one lesion of the patient, put back where the scan has none, in "
        f"{room} patients"
    )
    added = [f"the {IN_SENTENCES[name]}" for name in faulty.IN_BOTH if name in faults]
    both = f"; what {listed(added)} add{'s' * (len(added) == 1)} is in both images"
    return f"{said}{both * bool(added)}."


def alarms_said(table) -> str:
    """Which judges raise an alarm at a denoiser without a fault, in sentences. Args: table: of ``by_judge``."""
    told = []
    for name, words in {
        "identity": "see{} that an image which was not denoised is noisier than its twin.",
        "truth": "raise{} an alarm at the noise-free truth.",
    }.items():
        if who := [f"“{one.judge}”" for one in table.itertuples() if IN_SENTENCES[name] in one.misled.split("; ")]:
            told.append(f"{listed(who)} {words.format('s' * (len(who) == 1))}")
    return " ".join(told) or "No judge raises an alarm at a denoiser without a fault."


def grid(found, hunted, judges, denoisers, quiet=()) -> pd.DataFrame:
    """What is drawn, a row a judge and denoiser: its ``state``, ``strength`` from which it is caught, and ``text``.

    States: ``caught``, ``not caught``, ``misled`` (an alarm at the noise-free truth), ``noise`` (a right one at an
    image that was not denoised), ``not asked`` (the judge cannot be), ``open`` (asked without an answer), ``counted``.
    The text is how many of 100 patients are called, of the search (``SEARCH``, where there is one) lesions hidden of
    changed, and of those behind the twin.
    """
    rows = []
    for judge in judges:
        own = found[found["judge"] == judge].set_index("denoiser")
        for name in denoisers:
            row = own.loc[name] if name in own.index else None
            muted = judge in quiet and name not in faulty.names()
            if row is None or pd.isna(row["caught"]) or muted:
                state, strength, text = "not asked" if row is None else "open", np.nan, ""
            else:
                strength, text = row["from"], f"{100 * row['rate']:.0f}"
                state = "caught" if np.isfinite(strength) else "not caught"
                if name in faulty.HARMLESS:
                    alarm = "noise" if name == "identity" else "misled"
                    state = alarm if row["caught"] else "not caught"
            rows.append({"judge": judge, "denoiser": name, "state": state, "strength": strength, "text": text})
    for name in denoisers if len(hunted) else ():
        words, counts = searched(hunted, name)
        state = "counted" if counts else "not asked" if words == NOT_ASKED else "open"
        rows.append({"judge": SEARCH, "denoiser": name, "state": state, "strength": np.nan, "text": counts})
    return pd.DataFrame(rows)


def as_numbers(found, judges: dict) -> dict:
    """Cells for JSON, ``{"judge: denoiser": numbers}``, None where there is none. Args: as of ``rows_in_words``."""

    def plain(value):
        return None if pd.isna(value) else float(value)

    names = ("from", "half", "rate", "rate_low", "rate_high", "twin", "twin_low", "twin_high", "difference", "low",
             "high")  # fmt: skip
    return {
        f"{judges[r['judge']]}: {LABELS.get(r['denoiser'], r['denoiser'])}":
            {n: plain(r[n]) for n in names}
            | {"rising": r["rising"], "caught": None if pd.isna(r["caught"]) else bool(r["caught"])}
        for r in found.to_dict("records")
    }  # fmt: skip


def said(row, muted: bool = False) -> str:
    """A cell in words. Args: row: of ``cells``, or None; muted: of a judge that catches no fault, about a network."""
    if row is None:
        return NOT_ASKED
    if pd.isna(row["caught"]):
        return FEW
    if muted:
        return NOTHING
    rates = f"{percent(row['rate'])} [{100 * row['rate_low']:.0f}, {100 * row['rate_high']:.0f}]"
    if row["denoiser"] not in faulty.names() or row["denoiser"] in faulty.HARMLESS:
        return f"{'alarm' if row['caught'] else 'no'}: {rates}"
    half = f", half at {percent(row['half'])}" if np.isfinite(row["half"]) else ""
    found = f"from {percent(row['from'])}" if np.isfinite(row["from"]) else "no"
    return f"{found}{half}: {rates}"
