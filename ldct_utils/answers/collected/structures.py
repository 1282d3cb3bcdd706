"""What becomes of structures (09): lesions that are removed or planted, organs, and lesions before a real liver."""

import math

import numpy as np
from scipy.stats import norm

from ldct_utils.answers.collected.spans import has, of_trainings, span, where
from ldct_utils.metrics import info
from ldct_utils.models import textbook
from ldct_utils.stats import intervals
from ldct_utils.structures import removal as experiment
from ldct_utils.structures.errors import LABELS

# metrics of which it is told up to which noise they notice
NOTICE = ("psnr", "ssim", "ssim_window", "mean_srmse", "max_srmse")
KEPT = {"kept": "contrast kept", "d_cho_kept": "d' kept, Hotelling", "d_npw_kept": "d' kept, non-prewhitening"}


def details(of) -> dict:
    """09: up to which noise a metric notices removed lesions, and what a loss over structures keeps."""
    run, n = of[0], of[0].numbers
    found = {"removed": n.get("removed") or [], "kept": {}, "kept_by_lesion": {}, "against": [], "noticed_hu": {}}
    found["notices"] = _with_theory(run)
    if has(run, "removal"):
        found["draws"] = int(run.params["noise_draws"])
        found["noticed_hu"] = _noticed(run.table("removal"))
    if has(run, "losses"):
        rows = run.table("losses")
        for method, part in rows.groupby("method"):
            if method not in textbook.FILTERS:
                found["kept"][method] = _over_patients(part)
            found["kept_by_lesion"][method] = [
                {"radius_mm": radius, "contrast_hu": contrast} | _over_patients(one)
                for (radius, contrast), one in part.groupby(["radius_mm", "contrast_hu"])
            ]
    if has(run, "losses_compared"):
        table = run.table("losses_compared")
        found["against"] = [
            {"first": r.first, "second": r.second, "quantity": KEPT[r.quantity], "difference": r.difference,
             "interval": "–" if math.isnan(r.low) else f"[{r.low:.3g}, {r.high:.3g}]", "differs": bool(r.differs)}
            for r in table.itertuples()
        ]  # fmt: skip
    return found


def _over_patients(rows) -> dict:
    """Mean of what lesions keep, with its interval over patients and trainings. Args: rows: patient, seed, kept."""
    over = intervals.patient_bootstrap(intervals.by_patient(rows.assign(value=rows["kept"])).to_numpy())
    return span(over.mean, over.low, over.high)


def removal(of) -> dict:
    """09: the removal experiment of each run: what was removed, who notices, and PSNR beside its theory."""
    rows = []
    for run in of:
        if notices := _with_theory(run):
            n = run.numbers
            row = {name: n["removed"][0][name] for name in ("removed", "structures", "share")} | {"notices": notices}
            row |= {"volumes": int(run.table("removal")["volume"].nunique()), "draws": int(run.params["noise_draws"])}
            row |= {name: float(n[name]) for name in ("psnr_off_theory", "theory_least_p") if n.get(name) is not None}
            rows.append(row)
    return {"rows": rows}


def _notices(run) -> list[dict]:
    """How often each metric notices the removal, a mapping a metric: {metric, noise in HU: rate with its interval}."""
    if not has(run, "removal_table"):
        return []
    table = run.table("removal_table")
    part = table[(table["cohort"] == table["cohort"].iloc[0]) & (table["q"] == table["q"].min()) & (table["sigma"] > 0)]
    names = [c for c in table if c not in ("cohort", "q", "sigma")]
    return [{"metric": m} | {f"{s:g}": v for s, v in zip(part["sigma"], part[m])} for m in names]


def _with_theory(run) -> list[dict]:
    """``_notices`` with a row below PSNR's for what theory says of it."""
    notices = _notices(run)
    if not notices or not has(run, "removal"):
        return notices
    at = next((at for at, one in enumerate(notices, 1) if one["metric"] == info("psnr").label), len(notices))
    return [*notices[:at], *_psnr_by_theory(run.table("removal")), *notices[at:]]


def _psnr_by_theory(rates) -> list[dict]:
    """PSNR's row of ``_notices`` as theory has it, mean over volumes; none where PSNR was not asked."""
    part = rates[(rates["metric"] == "psnr") & (rates["cohort"] == rates["cohort"].iloc[0]) & (rates["sigma"] > 0)]
    part = part[part["q"] == part["q"][part["q"] > 0].min()].drop_duplicates(["volume", "sigma"])
    part = part.assign(theory=experiment.psnr_theory(part["pixels"], part["changed"], part["error"], part["sigma"]))
    means = {f"{sigma:g}": f"{rate:.2f}" for sigma, rate in part.groupby("sigma")["theory"].mean().items()}
    return [{"metric": "PSNR, by theory"} | means] if means else []


def _noticed(rates) -> dict:
    """{metric: the largest noise, HU, up to which it notices that a share of the lesions is gone; 0 for none}, of the
    smallest share; empty where there are too few volumes for intervals."""
    part = rates[(rates["cohort"] == rates["cohort"].iloc[0]) & (rates["q"] == rates["q"][rates["q"] > 0].min())]
    sure = experiment.intervals(part)
    if sure["low"].isna().all():
        return {}
    largest = sure[(sure["low"] > 0.5) & (sure["sigma"] > 0)].groupby("metric")["sigma"].max()
    return {info(name).label: float(largest.get(name, 0)) for name in NOTICE if name in set(sure["metric"])}


def organs(of) -> dict:
    """09: errors over the organs that a cohort labels itself, HU, against the normal-dose slice.

    Returns: rows, one a method, the ends those of its trainings; none where no run took labels for its segments.
    """
    runs = [run for run in of if run.params.get("segmentation") == LABELS]
    if not runs:
        return {"rows": []}
    table = where(runs[0].table("errors"), reference="ndct", source="ndct")
    table = table[table["row"] >= 0]  # single slices, whose segments were not linked
    each = table.groupby(["run", "patient"], sort=False)[["rmse_hu", "mean_srmse", "max_srmse"]].mean()
    each = each.groupby("run", sort=False).mean()
    rows = [
        {"method": method, "trainings": len(part)} | {name: of_trainings(part[name]) for name in each}
        for method, part in each.groupby(each.index.map(_methods(runs[0])), sort=False)
    ]
    about = {"patients": table["patient"].nunique(), "slices": table["row"].nunique()}
    return {"rows": rows, "regions": float(table["segments"].mean())} | about


def real_anatomy(of) -> dict:
    """09: d' of faint lesions in the liver of a real scan, with the ends of a method's trainings, beside its controls.

    Returns: rows, one a method and observer: faint, a span a lesion; nothing and strong, the least and the largest d'
        over lesions and trainings without contrast and with ten times as much; chance, the ends between which 95 % of
        the d' of nothing lie with the fewest places; beyond, how many of ``nothing`` are further off than with their
        own places. None without inserted lesions.
    """
    runs = [run for run in of if has(run, "real_backgrounds")]
    if not runs:
        return {"rows": []}
    table, rows = runs[0].table("real_backgrounds"), []
    table["method"] = table["run"].map(_methods(runs[0]))
    for (method, observer), part in table.groupby(["method", "observer"], sort=False):
        row = {"method": method, "observer": observer, "trainings": part["run"].nunique(), "faint": []}
        lesions = where(part, kind="faint").groupby(["radius_mm", "contrast_hu"], sort=False)
        for (radius, contrast), one in lesions:
            about = {"radius_mm": radius, "contrast_hu": contrast, "places": int(one["places"].min())}
            row["faint"].append(about | of_trainings(one["d_prime"]))
        for kind in ("nothing", "strong"):
            values = where(part, kind=kind)["d_prime"]
            row[kind] = [None if math.isinf(end) else float(end) for end in (values.min(), values.max())]
        without = where(part, kind="nothing")
        chance = norm.ppf(0.975) * np.sqrt(2 / without["places"])  # two means of so many responses each
        row |= {"chance": float(chance.max()), "beyond": int((without["d_prime"].abs() > chance).sum())}
        rows.append(row)
    return {"rows": rows}


def _methods(run) -> dict:
    """{name of a training, or LDCT: its method} of the denoisers of a run of 09."""
    table = run.table("methods")
    return {"LDCT": "LDCT"} | dict(zip(table["run"], table["method"]))
