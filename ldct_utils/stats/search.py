"""What a search for hyper-parameters found: its trials, whether the best lies at an edge, and which parameter decided.

A search is what ``workflow/search.py`` leaves in ``search.json``: metric, space ({parameter: low, high, log, int}, or
{parameter: choices} for values without an order), startup (trials drawn from the priors) and trials.
"""

import numpy as np
import optuna
import pandas as pd


def trials(told: dict) -> pd.DataFrame:
    """A row a trial: trial (from 1), the values that were set, the score by its name, seconds, folder, interrupted,
    failed (why, or empty), best (score so far).

    Raises: ValueError: if no trial has a score.
    """
    table = pd.DataFrame(
        {"trial": number, **one["values"], told["metric"]: one["score"], "seconds": one["seconds"],
         "folder": one["folder"], "interrupted": one["interrupted"], "failed": one["reason"] or ""}
        for number, one in enumerate(told["trials"], 1)
    )  # fmt: skip
    table[told["metric"]] = table[told["metric"]].astype(float)
    if table[told["metric"]].isna().all():
        raise ValueError(f"no trial has a score, of {len(table)}; the last failed with: {table.failed.iloc[-1]}")
    return table.assign(best=table[told["metric"]].cummax().ffill())


def at_edge(space: dict, best) -> list[str]:
    """Parameters whose best value lies in the outer 2 % of the prior, on its own scale; choices have no end."""
    found = []
    for name, prior in space.items():
        if "choices" in prior:
            continue
        low, high, value = prior["low"], prior["high"], best[name]
        if prior["log"]:
            low, high, value = np.log([low, high, value])
        if not 0.02 < (value - low) / (high - low) < 0.98:
            found.append(name)
    return found


def importance(told: dict) -> pd.DataFrame:
    """A row a parameter: its share of the importance by PED-ANOVA (Watanabe, Bansal and Hutter 2023), largest first."""
    priors = {name: _distribution(prior) for name, prior in told["space"].items()}
    again = optuna.create_study(direction="maximize")
    for one in told["trials"]:
        if one["score"] is not None:
            again.add_trial(optuna.create_trial(params=one["values"], distributions=priors, value=one["score"]))
    shares = optuna.importance.get_param_importances(again)
    return pd.DataFrame({"parameter": list(shares), "share": list(shares.values())})


def _distribution(prior: dict):
    """A prior as Optuna has it."""
    if "choices" in prior:
        return optuna.distributions.CategoricalDistribution(prior["choices"])
    kinds = {True: optuna.distributions.IntDistribution, False: optuna.distributions.FloatDistribution}
    return kinds[prior["int"]](prior["low"], prior["high"], log=prior["log"])


def within(prior: dict, found) -> bool:
    """Whether values are those of a prior."""
    if "choices" in prior:
        return all(value in prior["choices"] for value in found)
    return all(prior["low"] <= value <= prior["high"] for value in found)


def values(space: dict, best) -> pd.DataFrame:
    """The values of a trial beside their priors, as text: parameter, value, prior."""
    table = pd.DataFrame({"parameter": list(space), "value": [word(best[name]) for name in space]})
    table["prior"] = [
        " | ".join(map(word, p["choices"])) if "choices" in p else
        f"{p['low']:g} to {p['high']:g}" + (", whole" if p["int"] else "") + (", log" if p["log"] else "")
        for p in space.values()
    ]  # fmt: skip
    return table


def word(value) -> str:
    """A value as it is written; words and true, false, null as they are."""
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool | np.bool_)
    return f"{value:.6g}" if number else "null" if value is None else str(value)
