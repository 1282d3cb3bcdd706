"""What computed readers and judges see: the dose an image is worth (04b, 04d), two tasks (04e), planted faults (15)."""

import pandas as pd
from scipy.stats import norm

from ldct_utils.answers.collected.spans import has, span, where
from ldct_utils.models import textbook
from ldct_utils.task_based import equivalence, tasks


def dose(of) -> dict:
    """04b: the dose at which a plain reconstruction is as good as the denoised low-dose image, by who is asked."""
    run = of[0]
    table = where(run.table("doses"), lesion=-1)
    found = {"low_dose": run.params["low_dose"], "patients": run.numbers["patients"], "methods": {}}
    best = equivalence.best_of(table, textbook.FILTERS)
    found["filters"] = {r.measure: {"name": r.method} | span(r.dose, r.low, r.high) for r in best.itertuples()}
    table = table[~table["method"].isin(textbook.FILTERS)]
    found["realisations"] = run.numbers["realisations"]
    found["trainings"] = int(run.table("networks")["method"].value_counts().max()) if has(run, "networks") else 1
    for (method, reading, measure), part in table.groupby(["method", "reading", "measure"], sort=False):
        (row,) = part.itertuples()
        found["methods"].setdefault(method, {}).setdefault(reading, {})[measure] = span(row.dose, row.low, row.high)
    return found


def observers(of) -> dict:
    """04d: which observers pass, and by how many comparisons denoisers save or cost dose."""
    stored = of[0].numbers["headline"]
    kept = ("believed", "failed", "blind_to_fading", "could_gain", "saves", "costs", "asked", "readers")
    table = of[0].table("doses")
    table = table[table["could_gain"] & (table["task"] == tasks.PATIENTS)]
    there = table[~table["image"].isin(tasks.CONTROLS)].groupby("observer")
    livers = {
        name: {"low": float(one["worth_low"].min()), "high": float(one["worth_high"].max())} for name, one in there
    }
    whole = of[0].table("doses")
    best = whole[whole["could_gain"] & whole["image"].isin(textbook.FILTERS)].sort_values("worth", ascending=False)
    filters = {
        r.observer: {"name": r.image} | span(r.worth, r.worth_low, r.worth_high)
        for r in best.drop_duplicates("observer").itertuples()
    }
    about = {"livers": livers, "filters": filters, "swept": swept(of[0]), "blurred": blurred(of[0])}
    return {name: stored[name] for name in (*kept, "realisations", "backgrounds")} | about


def blurred(run) -> dict | None:
    """d' of the reader with an eye for a large faint disc, at the low dose and after a blur, and by how much more."""
    if not has(run, "judged"):
        return None
    rows = where(run.table("judged"), task=tasks.LARGE, observer="NPWE", dose=run.params["low_dose"], zero=False)
    rows = rows.set_index("image")
    if not {tasks.PLAIN, textbook.BLUR} <= set(rows.index):
        return None
    blur, reach = rows.loc[textbook.BLUR], norm.ppf(0.975) * rows["gap_se"][textbook.BLUR]
    more = span(blur["gap"], blur["gap"] - reach, blur["gap"] + reach)
    own = run.table("judged")
    own = own[own["observer"].str.startswith("NPWE, internal noise") & (own["image"] == textbook.BLUR)]
    own = where(own, task=tasks.LARGE, dose=run.params["low_dose"], zero=False)["gap"]
    swept = {"swept": [float(own.min()), float(own.max())]} if len(own) else {}
    return swept | {"plain": span(rows["d_prime"][tasks.PLAIN]), "blur": span(blur["d_prime"]), "more": more}


def swept(run) -> dict:
    """{reader: least and largest dose, fractions, of its best network's image with more and less internal noise}."""
    table, found = run.table("doses"), {}
    table = table[table["could_gain"] & ~table["image"].isin(tasks.CONTROLS)].sort_values("worth")
    judged = run.table("judged") if has(run, "judged") else pd.DataFrame(columns=["observer"])
    for reader, part in table.groupby("observer"):
        best = part.iloc[-1]
        rows = judged[judged["observer"].str.startswith(f"{reader}, internal noise")]
        if len(rows):
            rows = where(rows, task=best.task, image=best.image, dose=run.params["low_dose"], zero=False)
            found[reader] = {"low": float(rows["worth"].min()), "high": float(rows["worth"].max())}
    return found


def two_tasks(of) -> dict:
    """04e: whether denoising helps to detect a lesion and harms telling its shape."""
    stored = of[0].numbers["headline"]
    return {name: stored[name] for name in ("answer", "decided", "patients", "trainings", "contrast_hu", "controls")}


def judges(of) -> dict:
    """15: its one table, judges down and denoisers across, and whom it says to believe."""
    stored = of[0].numbers["headline"]
    columns = list(dict.fromkeys(name for row in stored["table"] for name in row))
    rows = [[row.get(name, "") for name in columns] for row in stored["table"]]
    kept = ("answer", "decided", "patients", "silent", "misled", "faults", "caught_of_faults")
    twins = of[0].table("judges").set_index("judge")["twin_percent"].dropna()
    cells = stored.get("cells", {})
    noticed = {
        judge: {fault: _rate(cells.get(f"{judge}: {fault}"), rate) for fault, rate in faults.items()}
        for judge, faults in stored.get("noticed", {}).items()
    }
    about = {
        "noticed": noticed,
        "at_twins": {judge: _at_twins(cells, judge, rate / 100) for judge, rate in twins.items()},
    }
    asked = stored.get("asked_of_faults") or dict.fromkeys(stored["caught_of_faults"], stored["faults"])
    about |= {"asked_of_faults": asked, "pairs": sum(asked.values())}
    return {"columns": columns, "rows": rows} | about | {name: stored[name] for name in kept}


def _rate(cell: dict | None, rate: float) -> dict:
    """A rate of alarms with its interval. Args: cell: numbers of a judge and a denoiser; None where there are none."""
    return span(rate, cell["rate_low"], cell["rate_high"]) if cell else span(rate)


def _at_twins(cells: dict, judge: str, rate: float) -> dict:
    """The highest rate of alarms of a judge at an honest twin, with its interval where it is stored."""
    own = [one for pair, one in cells.items() if pair.startswith(f"{judge}: ") and one["twin"] is not None]
    highest = max(own, key=lambda one: one["twin"], default=None)
    if highest is None or abs(highest["twin"] - rate) > 1e-6:
        return span(rate)
    return span(rate, highest["twin_low"], highest["twin_high"])
