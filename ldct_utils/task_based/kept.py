"""What networks leave of faint lesions: their contrast and what observers detect of them, relative to the LDCT.

Rows come from ``ensembles.lesion_scores``. The patient is the unit, and the training where a network has several.
"""

import pandas as pd

from ldct_utils.models import textbook
from ldct_utils.stats import intervals
from ldct_utils.task_based import ensembles

DETECTED = ("d_cho", "d_npw")  # columns of ``ensembles.lesion_scores`` that are compared with the LDCT's
QUANTITIES = ("kept", "d_cho_kept", "d_npw_kept")


def scored(denoisers: dict, known: pd.DataFrame, lesions, *about, **how) -> pd.DataFrame:
    """What networks and the filters of ``tasks`` leave of lesions, beside the LDCT: ``beside_input`` of
    ``ensembles.lesion_scores``.

    Args: denoisers: {name: function of images (N, H, W), HU}, without the LDCT. known: run (the name), method and seed
        of each. lesions: (radius, mm, and contrast, HU) each. about, how: the other arguments of ``lesion_scores``.
    """
    functions = {"LDCT": lambda hu: hu} | denoisers | textbook.filters()
    made = ensembles.lesion_scores(functions, [ensembles.Lesion(*one) for one in lesions], *about, **how)
    networks = known[["run", "method", "seed"]].rename(columns={"run": "name"})
    of_filters = pd.DataFrame({"name": textbook.FILTERS, "method": textbook.FILTERS, "seed": sorted(known["seed"])[0]})
    return beside_input(made, pd.concat([networks, of_filters], ignore_index=True))


def beside_input(scores: pd.DataFrame, known: pd.DataFrame, base: str = "LDCT") -> pd.DataFrame:
    """Rows of the networks with the d' of the LDCT, of the same lesion and noise, beside theirs.

    Args: scores: of ``ensembles.lesion_scores``, with rows of ``base``. known: name, method and seed of the networks.
    Returns: the networks' rows with method, seed, d_cho_ldct and d_npw_ldct.
    """
    of_base = scores[scores.name == base].set_index(["patient", "lesion"])
    found = scores[scores.name != base].merge(known, on="name")
    at = pd.MultiIndex.from_frame(found[["patient", "lesion"]])
    return found.assign(**{f"{d}_ldct": of_base[d].reindex(at).to_numpy() for d in DETECTED})


def by_patient(rows: pd.DataFrame) -> dict:
    """{(method, quantity): (patients, seeds)} of ``QUANTITIES``: the mean of ``kept`` over a patient's lesions, and
    the sum of d' over them relative to that in the LDCT.

    Args: rows: of ``beside_input``.
    """
    columns = ["kept", *DETECTED, *(f"{d}_ldct" for d in DETECTED)]
    found = rows.groupby(["method", "patient", "seed"])[columns].mean()
    found = found.assign(**{f"{d}_kept": found[d] / found[f"{d}_ldct"] for d in DETECTED}).reset_index()
    return {
        (name, quantity): intervals.by_patient(part.assign(value=part[quantity]))
        for name, part in found.groupby("method")
        for quantity in QUANTITIES
    }


def spans(tables: dict, draws: int, seed: int) -> pd.DataFrame:
    """Means with 95 % intervals over patients and seeds: method, quantity, mean, low, high, seeds, patients.

    Args: tables: of ``by_patient``. draws, seed: of the bootstrap.
    """
    rows = []
    for (name, quantity), table in tables.items():
        span = intervals.patient_bootstrap(table.to_numpy(), draws=draws, seed=seed)
        rows.append({"method": name, "quantity": quantity, "mean": span.mean, "low": span.low, "high": span.high,
                     "seeds": span.seeds, "patients": span.patients})  # fmt: skip
    return pd.DataFrame(rows)


def against(tables: dict, first: str, draws: int, seed: int) -> pd.DataFrame:
    """One method minus each other one but the filters, paired over patients and the seeds that both have.

    Args: tables: of ``by_patient``. first: the method that is compared.
    Returns: first, second, quantity, difference, low, high, differs (None: too few patients for an interval); empty
        where there is no other method.
    """
    rows = []
    for (name, quantity), other in tables.items():
        own = tables[first, quantity]
        shared = sorted(set(own) & set(other))
        if name not in (first, *textbook.FILTERS) and shared:
            span = intervals.patient_bootstrap((own - other)[shared].to_numpy(), draws=draws, seed=seed)
            rows.append({"first": first, "second": name, "quantity": quantity, "difference": span.mean,
                         "low": span.low, "high": span.high, "differs": span.excludes_zero})  # fmt: skip
    columns = ["first", "second", "quantity", "difference", "low", "high", "differs"]
    return pd.DataFrame(rows, columns=columns).astype({"differs": object})


def setting(cohort, name: str, given=None):
    """Dose or kernel at which lesions are scanned: the one given, else the single one of the cohort.

    Raises: ValueError: where the cohort has several, or does not know its own.
    """
    found = {given} if given is not None else {cohort.meta["parameters"].get(name)} - {None} or set(cohort.slices[name])
    if len(found) != 1 or found == {"unknown"}:
        raise ValueError(f"the cohort of the runs has no single {name} ({found}): give lesion_{name}")
    return found.pop()
