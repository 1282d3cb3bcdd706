"""What scores say: do they agree (04), what moves them (04c), who is better by them (11), and maps of quality (08)."""

from ldct_utils.answers.collected.spans import has, span, where
from ldct_utils.answers.words import called
from ldct_utils.ct import degradations
from ldct_utils.metrics import benchmark
from ldct_utils.metrics.comparison import DECIDED
from ldct_utils.models import textbook
from ldct_utils.stats import paired
from ldct_utils.training import designs


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


def above_truth(run, methods: list) -> dict:
    """{score: methods that are shown to be better by it than the noise-free truth itself}: an interval over patients
    and trainings lies on their side. Such a score rewards something of what it is taken against, such as its noise.

    Args: methods: of 11. Returns: empty where the truth was not scored.
    """
    scores, known = run.table("scores"), run.table("controls")
    known, found = known[known["method"] == textbook.TRUTH].assign(seed=paired.UNTRAINED), {}
    for metric, of_truth in known.groupby("metric", sort=False):
        way = benchmark.BETTER.get(metric, 1)
        for name in methods:
            own = scores[(scores["method"] == name) & (scores["metric"] == metric)]
            gap = paired.compare(own, of_truth)
            if min(way * gap["low"], way * gap["high"]) > 0:
                found.setdefault(metric, []).append(name)
    return found


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
    kept["against"], kept["controls"] = run.params.get("reference"), []
    if has(run, "controls"):
        means = run.table("controls").groupby(["method", "metric"], sort=False)["value"].mean()
        kept["controls"] = [
            {"method": name, "scores": {metric: span(value) for metric, value in part.droplevel(0).items()}}
            for name, part in means.groupby(level=0, sort=False)
        ]
        judged = [m for m in dict.fromkeys(table["method"]) if m not in ("LDCT", *n.get("unfinished", []))]
        kept["above_truth"] = above_truth(run, judged)
        kept["truth_pairs"] = len(judged) * table["metric"].nunique()
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
