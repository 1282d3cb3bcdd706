"""What each loss gains in PSNR and keeps of lesions: over other losses (06, 11), and beyond a blend (14)."""

import pandas as pd

from ldct_utils.answers.collected.spans import has, span, where
from ldct_utils.answers.words import reference_of
from ldct_utils.metrics.comparison import LDCT
from ldct_utils.stats import intervals, paired
from ldct_utils.study.runs import select
from ldct_utils.task_based import tradeoff as per_plane

REACHED = {
    "psi_reached": ("psi_start", "psi_half", "psi_end"),
    "gradient_share": ("gradient_share_start", "gradient_share_half", "gradient_share_end"),
}


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
    found["controls"] = gains_of_controls(run)
    networks = {one.params["network"] for one in select(run.params["runs"])} if run.params.get("runs") else set()
    found |= {"network": networks.pop()} if len(networks) == 1 else {}
    if has(run, "interactions"):
        table = where(run.table("interactions"), metric="psnr").sort_values("reference").tail(1)
        found["interaction"] = [
            {"contrast": r.contrast, "at": r.at, "reference": r.reference, "db": span(r.interaction, r.low, r.high)}
            for r in table.itertuples()
        ]
    return found | ({"headline": run.numbers["headline"]} if "headline" in run.numbers else {})


def gains_of_controls(run) -> list[dict]:
    """What filters and, against the NDCT, the noise-free truth gain in PSNR over the input: method, gain_db by
    reference. Empty where none were scored."""
    if not has(run, "controls"):
        return []
    about = {"domain": run.params["domain"], "metric": "psnr"}
    known, scores = where(run.table("controls"), **about), where(run.table("all_scores"), method=LDCT, **about)
    rows = {}
    for (name, reference), own in known.groupby(["method", "reference"], sort=False):
        gap = paired.compare(own, where(scores, reference=reference))
        rows.setdefault(name, {})[reference] = span(gap["difference"], gap["low"], gap["high"])
    return [{"method": name, "gain_db": gain} for name, gain in rows.items()]


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
    about = {"base": first["base"], "target": first["target"], "patients": int(first["patients"])}
    return {"rows": rows} | about | {"filters": filters_at_best(run)}


def filters_at_best(run) -> list[dict]:
    """Filters beside the networks, each at the strength of its largest gain: name, gain_db, kept, faint."""
    stored = run.table("filters") if has(run, "filters") else pd.DataFrame()
    best = stored.sort_values("gain", ascending=False).drop_duplicates("name") if len(stored) else stored
    return [
        {"name": r.name, "gain_db": span(r.gain), "kept": span(r.kept)}
        | ({"faint": span(r.faint)} if "faint" in stored and r.faint == r.faint else {})
        for r in best.itertuples(index=False)
    ]


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
    told = of[0].table("losses") if has(of[0], "losses") else pd.DataFrame(columns=["answer"])
    gains["filters"] = [
        {"name": r.method, "gain_db": span(r.gain), "kept": span(r.kept / 100)}
        for r in where(told, answer="a filter").itertuples()
    ]
    return {"answer": stored.get("answer", ""), "rows": rows} | gains | about


def mse_gain(run) -> dict | None:
    """What the MSE network gains in PSNR over its input, in HU over whole slices; None without a noise-free truth."""
    squares, lesions = (run.table(name) if has(run, name) else pd.DataFrame() for name in ("squares", "lesions"))
    known = where(squares, method="mse", target="truth")
    if not len(known):
        return None
    gain = intervals.patient_bootstrap(per_plane.of_method(squares, lesions, "mse", "truth").gain())
    return span(gain.mean, gain.low, gain.high)


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
