# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 06 · Which loss is better, and how sure can we be?
# **Question.** Given any set of trained networks: which scores best, by which metric, against which reference, and
# which of the differences would survive other patients and other seeds? For networks trained at several ψ: how do layer
# and encoder context interact (RQ3)?
#
# **Reads** `scores.parquet`, `ldct_scores.parquet` and `examples.npy` of finished `03_train` runs. **Writes** Table 3
# and Table 4 in the form of Viana et al. (arXiv 2509.23025) and with patients as the unit, as parquet, Markdown and
# LaTeX; box plots, error maps, effects by patient, the ψ figure and the interaction. **Cost** half a minute to two
# minutes, by the number of methods.

# %% tags=["parameters"]
study: str = "adhoc"  # results go to outputs/<study>/06_stats/
runs: list = ["adhoc/03_train/*"]  # run folders or globs, relative to outputs/
invariances: list = []  # run folders or globs of 05_invariances, to compare what denoisers hide; none leaves it out
domain: str = "viana2025"  # evaluation domain of the main tables: hu, viana2025, body, window
metrics: list = ["ssim", "psnr", "nrmse"]  # metrics of the tables; the first one picks the best method
draws: int = 10000  # bootstrap draws over patients
swaps: int = 200  # label swaps that check the tests' false-positive rates
seed: int = 0  # seeds bootstrap and swaps

# %%
from ldct_utils.runs import start

run = start("06_stats", globals())

# %%
import itertools

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.stats import binom

from ldct_utils import intensity, plots, report, stats
from ldct_utils.invariance import evidence
from ldct_utils.methods import listed as methods_of
from ldct_utils.metrics import info
from ldct_utils.runs import select

primary = metrics[0]
label = {name: f"{info(name).label} {info(name).arrow}" for name in metrics}
REFERENCE = {"ndct": "NDCT", "truth": "truth"}

# %% [markdown]
# ## The runs
# A *method* is everything that was chosen about a run except its seed. ψ is the target that λ was set for; for a λ that
# was given by hand it is the ψ measured over the first updates. ψ = 0 is MSE alone, ψ = 1 the perceptual term alone.

# %%
found = select(runs)
chosen, listed, varying = methods_of(found)
report.table(
    run, "runs", listed,
    f"Runs: {len(listed)}, methods: {listed.method.nunique()}. Beside the design, these settings differ between them: "
    f"{', '.join(varying) or 'none'}. {len(found) - len(chosen)} runs that repeat a method and a seed were left out.",
)  # fmt: skip

# %%
columns = ["row", "patient", "anatomy", "domain", "reference", "metric"]


def read():
    """All scores, with method and seed; the LDCT itself is a method with seed -1."""
    tables = [one.table("scores").assign(method=m, seed=s) for one, m, s in zip(chosen, listed.method, listed.seed)]
    ldct = chosen[0].table("ldct_scores").set_index(columns)["value"].sort_index()
    for one in chosen[1:]:
        other = one.table("ldct_scores").set_index(columns)["value"].sort_index()
        if not (other.index.equals(ldct.index) and np.allclose(other, ldct, equal_nan=True)):
            raise ValueError(f"runs {chosen[0].id} and {one.id} were tested on different slices: they do not compare")
    everything = pd.concat([*tables, ldct.reset_index().assign(method="LDCT", seed=-1)], ignore_index=True)
    return everything[everything["metric"].isin(metrics)]


scores = run.table("all_scores", read)
if domain not in set(scores["domain"]):
    raise ValueError(f"the runs were not scored in domain {domain!r}; they have {', '.join(scores['domain'].unique())}")
missing = sorted(set(metrics) - set(scores["metric"]))
if missing:
    raise ValueError(f"the runs were not scored by {', '.join(missing)}")
references = [name for name in REFERENCE if name in set(scores["reference"])]
methods = list(dict.fromkeys(listed["method"]))
patients, slices = scores["patient"].nunique(), scores["row"].nunique()
people = report.plural(patients, "patient")
seeds = listed.groupby("method")["seed"].nunique()
comparisons = len(methods)  # the best against every other method and the LDCT

# %% [markdown]
# ## What this many patients can show
# A two-sided Wilcoxon test of *n* patients has 2ⁿ sign patterns, so it cannot give less than 2¹⁻ⁿ, whatever the
# networks do.

# %%
floor = stats.smallest_p(patients)
few = patients < stats.MIN_PATIENTS
report.text(
    f"**{people}** with {slices} test slices. The smallest p they can give is {floor:.3g}; after Holm's "
    f"correction for {comparisons} comparisons {min(1, floor * comparisons):.3g}. "
    + (f"Under {stats.MIN_PATIENTS} patients no interval is given. " if few else "")
    + f"Seeds a method: {seeds.min()}" + (f" to {seeds.max()}" if seeds.min() != seeds.max() else "") + ". "
    + {1: "One seed cannot tell a method from its luck: its results speak "
          + ("for these slices and trainings alone." if few else "for other patients, not for other trainings."),
       2: "Two seeds give a poor idea of the spread between trainings."}.get(int(seeds.min()), "")
)  # fmt: skip

# %% [markdown]
# ## Table 3: mean (SD) and ranks
# As published: mean and SD over slices (of each slice's mean over seeds). Viana et al. rank by SSIM only; here every
# metric ranks. Against NDCT a network is also scored on noise that it cannot know.

# %%
by_slice = scores.groupby([*columns, "method"], as_index=False, sort=False)["value"].mean()
by_slice["value"] = by_slice["value"].where(np.isfinite(by_slice["value"]))


def summarise():
    """Mean, SD over slices, SD over patients and rank of each method by domain, reference and metric."""
    keys = ["domain", "reference", "metric", "method"]
    table = by_slice.groupby(keys, sort=False)["value"].agg(["mean", "std", "count"])
    means = by_slice.groupby([*keys, "patient"], sort=False)["value"].mean()
    table["std_patients"] = means.groupby(keys, sort=False).std()
    table = table.reset_index()
    direction = table["metric"].map(lambda name: info(name).direction)
    goodness = table["mean"].abs().mul(-1).where(direction == 0, table["mean"] * direction)
    table["rank"] = goodness.groupby([table[k] for k in keys[:3]]).rank(ascending=False, method="min")
    return table


summary = run.table("summary", summarise)
main = summary[summary["domain"] == domain]


def as_published(part):
    """Rows methods, columns ``mean (SD)`` and rank of each metric."""
    digits = part["metric"].map(lambda name: info(name).digits)
    part = part.assign(shown=[f"{m:.{d}f} ({s:.{d}f})" for m, s, d in zip(part["mean"], part["std"], digits)])
    wide = part.pivot(index="method", columns="metric", values=["shown", "rank"])
    found = {label[m] if kind == "shown" else f"rank by {info(m).label}": wide[kind, m]
             for m in metrics for kind in ("shown", "rank")}  # fmt: skip
    table = pd.DataFrame(found).sort_values(f"rank by {info(primary).label}").reset_index()
    return table.astype({name: "Int64" for name in table if name.startswith("rank")})


# %%
best = {}
for reference in references:
    part = main[main["reference"] == reference]
    trained = part[part["method"] != "LDCT"]
    best[reference] = {m: part["method"][trained[trained["metric"] == m]["rank"].idxmin()] for m in metrics}
    agree = len(set(best[reference].values())) == 1
    lost = int(part["count"].rsub(slices).sum())
    report.table(
        run, f"table3_{reference}", as_published(part),
        f"Mean (SD) over {slices} slices of {people} against {REFERENCE[reference]}, "
        f"{intensity.domain(domain).text if domain != 'window' else 'window of the anatomy'} ({domain}). "
        + (f"All metrics put {best[reference][primary]} first." if agree else "The metrics disagree on the first: "
           + "; ".join(f"{info(m).label}: {best[reference][m]}" for m in metrics) + ".")
        + (f" {lost} scores that are not finite were left out." if lost else ""),
    )  # fmt: skip

# %% [markdown]
# The same ranking in the other evaluation domains: scores of two domains never compare, ranks may.

# %%
ranks = summary[summary["metric"] == primary]
ranks = ranks.assign(column=[f"{r.domain}, {REFERENCE[r.reference]}" for r in ranks.itertuples()])
wide = ranks.pivot(index="method", columns="column", values="rank").astype("Int64")
firsts = sorted({str(wide[c].drop("LDCT").idxmin()) for c in wide})
report.table(
    run, "ranks", wide.reset_index(),
    f"Ranks by {info(primary).label} in every domain and against every reference, {people}. "
    + (f"{firsts[0]} is the best network in all of them." if len(firsts) == 1
       else f"{len(firsts)} methods come first in one or another."),
)  # fmt: skip

# %% [markdown]
# ### Box plots


# %%
def limit(axis, groups, told):
    """Limits that let most groups {line: values} be compared; the edge tells {line: number} of those far off."""
    low, high, off = plots.limits_without_far(list(groups.values()))
    axis.set_xlim(low, high)
    for line in (list(groups)[i] for i in off):
        left, text = told[line] < low, f"{told[line]:.3g}"
        place = {"xy": (0.02 if left else 0.98, line), "xycoords": ("axes fraction", "data")}
        axis.annotate(
            f"◂ {text}" if left else f"{text} ▸", **place, ha="left" if left else "right", va="center", size=8
        )


def boxes():
    """Scores of the slices in the main domain: a row a reference, a column a metric."""
    order, inside = [*methods, "LDCT"], by_slice[by_slice["domain"] == domain].dropna(subset="value")
    size = (4.2 * len(metrics), (1.1 + 0.3 * len(order)) * len(references))
    figure, axes = plt.subplots(len(references), len(metrics), figsize=size, squeeze=False, sharey=True, sharex="col")
    for line, reference in zip(axes, references):
        for axis, name in zip(line, metrics):
            part = inside.query("reference == @reference and metric == @name")
            values = [part["value"][part["method"] == m] for m in order]
            drawn = axis.boxplot(values, orientation="horizontal", patch_artist=True, widths=0.65,
                                 flierprops={"marker": ".", "ms": 3}, medianprops={"color": "black"})  # fmt: skip
            for box, method in zip(drawn["boxes"], order):
                box.set_facecolor("#cccccc" if method == "LDCT" else plots.COLOURS[5])
            unit = f" ({info(name).unit})" if info(name).unit else ""
            axis.set(xlabel=f"{label[name]}{unit} against {REFERENCE[reference]}")
            axis.xaxis.set_tick_params(labelbottom=True)
            limit(axis, dict(enumerate(values, 1)), dict(enumerate(map(np.median, values), 1)))
    axes[0, 0].set_yticks(range(1, len(order) + 1), order)
    axes[0, 0].invert_yaxis()  # shared by all
    return figure


part = by_slice.query("domain == @domain and reference == @references[0] and metric == @primary")
medians = part.groupby("method")["value"].median()
report.figure(
    run, "boxes", boxes(),
    f"Scores of {slices} slices of {people}, domain {domain}; box: quartiles, whiskers: 1.5 boxes, at an "
    f"edge: median of a method beyond it. Median {info(primary).label} against {REFERENCE[references[0]]}: "
    f"{medians['LDCT']:.3g} for the LDCT, {medians[best[references[0]][primary]]:.3g} for "
    f"{best[references[0]][primary]}.",
)  # fmt: skip

# %% [markdown]
# ## Table 4: the best against the others
# The published test is a Wilcoxon signed-rank test over *slices* with an unpaired Cohen's d. Slices of one patient
# share that patient's anatomy and noise, so beside it stand three tests whose unit is the patient: Wilcoxon over the
# patients' means, a bootstrap that the seeds widen, and a mixed model, difference ~ 1 + (1 | patient), that is
# score ~ method + (method | patient) + (1 | slice) paired by slice. p values are Holm-corrected for the comparisons of
# one metric; intervals are not. The best was picked by the same scores, which flatters it.


# %%
def compare_all():
    """The best method against every other one, in every domain, against every reference, by every metric."""
    rows = []
    for (where, reference, name), part in scores.groupby(["domain", "reference", "metric"], sort=False):
        ranked = summary[(summary.domain == where) & (summary.reference == reference) & (summary.metric == name)]
        ranked = ranked[(ranked["method"] != "LDCT") & ranked["mean"].notna()]
        if ranked.empty:
            continue
        first = ranked["method"][ranked["rank"].idxmin()]
        tables = dict(list(part.groupby("method")[["row", "patient", "seed", "value"]]))
        for other in [m for m in (*methods, "LDCT") if m != first]:
            found = stats.compare(tables[first], tables[other], draws=draws, seed=seed)
            cell = {"domain": where, "reference": reference, "metric": name, "first": first, "other": other}
            rows.append(cell | found)
    table = pd.DataFrame(rows)
    for test in ("p_slices", "p_patients", "p_mixed"):
        table[f"{test}_holm"] = table.groupby(["domain", "reference", "metric"])[test].transform(stats.holm)
    return table


tests = run.table("comparisons", compare_all)
tests["interval"] = [
    np.nan if np.isnan(r.low) else float(r.low > 0 or r.high < 0) for r in tests.itertuples()
]  # 1 excludes zero, NaN no interval


# %%
def yes(values, possible=True):
    """Verdicts in words; a dash where too few patients allow none."""
    return ["–" if pd.isna(v) or not possible else "yes" if v else "no" for v in values]


def verdicts(part):
    """Table 4 in words: effect, p values and the four verdicts of each comparison."""
    return pd.DataFrame(
        {
            "metric": [info(m).label for m in part.metric],
            "best": part["first"], "against": part.other, "difference": part.difference,
            "interval": ["–" if np.isnan(r.low) else f"[{r.low:.3g}, {r.high:.3g}]" for r in part.itertuples()],
            "d as published": part.d, "d paired": part.d_z,
            "p slices": part.p_slices, "p slices, Holm": part.p_slices_holm,
            "p patients": part.p_patients, "p patients, Holm": part.p_patients_holm,
            "p mixed, Holm": part.p_mixed_holm, "seeds": part.seeds,
            "slices: significant": yes(part.p_slices < stats.ALPHA),
            "patients: significant": yes(part.p_patients_holm < stats.ALPHA, floor < stats.ALPHA),
            "interval excludes 0": yes(part.interval),
            "mixed model: significant": yes(part.p_mixed_holm < stats.ALPHA, not few),
        }
    )  # fmt: skip


for reference in references:
    part = tests[(tests.domain == domain) & (tests.reference == reference)]
    by_all = (part.p_patients_holm < stats.ALPHA) & (part.interval == 1) & (part.p_mixed_holm < stats.ALPHA)
    report.table(
        run, f"table4_{reference}", verdicts(part),
        f"The best method by each metric against the others, {REFERENCE[reference]} as reference, {people}, "
        f"domain {domain}. Of {len(part)} comparisons {int((part.p_slices < stats.ALPHA).sum())} are significant over "
        f"slices as published and {int(by_all.sum())} by all three patient-level verdicts.",
    )  # fmt: skip

# %% [markdown]
# ### How far the published verdicts go
# Table 4 of the paper, derived again from its means and SDs. All its p values are printed as 0.0; they come from
# thousands of slices of two test patients (L096, printed as L097, and L506); two patients cannot give less than 0.5.

# %%
first = stats.PUBLISHED["E1"]["ssim"]
paper = pd.DataFrame(
    [
        {"comparison": f"E1 against {name}", "SSIM of E1": f"{first[0]:.4f}", "SSIM": f"{values['ssim'][0]:.4f}",
         "d derived": stats.d_from(*first, *values["ssim"]), "d published": stats.PUBLISHED_D[name],
         "p published": "0.0", "smallest p of 2 patients": stats.smallest_p(2)}
        for name, values in stats.PUBLISHED.items() if name != "E1"
    ]
)  # fmt: skip
published = pd.DataFrame({n: {m: v[m][0] * info(m).direction for m in v} for n, v in stats.PUBLISHED.items()}).T
orders = {info(m).label: " > ".join(published[m].sort_values(ascending=False).index) for m in published}
report.table(
    run, "table4_paper", paper,
    f"Largest gap between derived and published d: {(paper['d derived'] - paper['d published']).abs().max():.3f}. The "
    "paper's own means rank by " + "; by ".join(f"{name}: {order}" for name, order in orders.items()) + ".",
)  # fmt: skip

# %% [markdown]
# ## Do the tests keep their promise?
# If the labels of two methods are swapped within randomly chosen patients, no difference is left but chance, and a test
# at .05 should fire in about 5 % of the swaps. A test that counts slices as independent does not know that they were
# swapped together.

# %%
reference = references[0]
pool = tests.query("domain == @domain and reference == @reference and metric == @primary")
rival = pool.iloc[pool["difference"].abs().argmin()] if len(pool) else None


def swap_labels():
    """Share of swaps with p under .05, for the best method and the one closest to it."""
    part = scores.query("domain == @domain and reference == @reference and metric == @primary")
    tables = dict(list(part.groupby("method")[["row", "patient", "seed", "value"]]))
    both, _ = stats.paired(tables[rival["first"]], tables[rival["other"]])
    gap = both.assign(gap=both["first"] - both["second"]).groupby(["row", "patient"])["gap"].mean().reset_index()
    names, rng, found = gap["patient"].unique(), np.random.default_rng(seed), []
    for _ in range(swaps):
        signs = dict(zip(names, rng.choice([-1, 1], len(names))))
        values = gap["gap"].to_numpy() * gap["patient"].map(signs).to_numpy()
        means = pd.Series(values).groupby(gap["patient"].to_numpy()).mean().to_numpy()
        inside = stats.patient_bootstrap(means, draws=2000, seed=seed).excludes_zero
        found.append(
            {"Wilcoxon over slices": stats.wilcoxon(values, 0 * values) < stats.ALPHA,
             "Wilcoxon over patients": stats.wilcoxon(means, 0 * means) < stats.ALPHA,
             "patient bootstrap": np.nan if inside is None else inside,
             "mixed model": stats.mixed_model(values, 0 * values, gap["patient"])["p"] < stats.ALPHA}
        )  # fmt: skip
    return pd.DataFrame(found).astype(float).mean().rename_axis("test").reset_index(name="share significant")


if patients == 1:
    report.text("One patient's labels are swapped for all slices or for none, and no two-sided test tells these apart.")
elif swaps and rival is not None:
    rates = run.table("swaps_share", swap_labels)
    low, high = binom.ppf([0.025, 0.975], swaps, stats.ALPHA) / swaps
    rate = rates.set_index("test")["share significant"]
    report.table(
        run, "swaps", rates,
        f"{swaps} swaps of {rival['first']} and {rival['other']} within {people}, {info(primary).label} "
        f"against {REFERENCE[reference]}. A test that keeps its 5 % lies between {low:.1%} and {high:.1%} in 95 % of "
        "such checks (lower where few patients allow few p values); over slices the share is "
        f"{rate['Wilcoxon over slices']:.1%}, over patients {rate['Wilcoxon over patients']:.1%}.",
    )  # fmt: skip

# %% [markdown]
# ## Effects by patient
# What every network gains over its input, and what the best gains over the others: one dot a patient, the bar is the
# 95 % interval of the mean over patients and seeds. A method that gains for some patients and loses for others is not
# yet better.

# %%
COLOUR = dict(zip(sorted(scores["anatomy"].unique()), plots.COLOURS))
anatomy_of = scores.drop_duplicates("patient").set_index("patient")["anatomy"]


def differences(first, second, reference, name):
    """(patients, seeds) table of first - second, and its interval."""
    part = scores.query("domain == @domain and reference == @reference and metric == @name")
    both, _ = stats.paired(*(part[part["method"] == m][["row", "patient", "seed", "value"]] for m in (first, second)))
    table = stats.by_patient(both.assign(value=both["first"] - both["second"])).dropna()
    return table, stats.patient_bootstrap(table.to_numpy(), draws=draws, seed=seed)


def forest(axis, pairs, reference, name, title):
    """One line a pair of methods: dots are patients, the bar is the interval."""
    drawn, means = {}, {}
    for line, (first, second) in enumerate(pairs):
        if first == second:
            continue
        table, interval = differences(first, second, reference, name)
        dots, means[line] = table.mean(axis=1), interval.mean
        drawn[line] = [*dots, *(end for end in (interval.low, interval.high) if np.isfinite(end))]
        spread = line + np.linspace(-0.25, 0.05, len(dots))
        axis.scatter(dots, spread, s=14, c=[COLOUR[anatomy_of[p]] for p in dots.index], alpha=0.75, lw=0)
        axis.plot([interval.low, interval.high], [line + 0.25] * 2, color="black", lw=2.2, solid_capstyle="butt")
        axis.plot(interval.mean, line + 0.25, "o", color="black", ms=4.5)
    limit(axis, drawn, means)
    axis.axvline(0, color="black", lw=0.8, ls=":")
    axis.locator_params(axis="x", nbins=5)
    axis.set(title=title, xlabel=f"difference in {label[name]}" + (f" ({info(name).unit})" if info(name).unit else ""))


# %%
for reference in references:
    top = best[reference][primary]
    several = len(methods) > 1
    size = (7 + 4 * several, 1.4 + 0.4 * len(methods))
    figure, axes = plt.subplots(1, 1 + several, figsize=size, squeeze=False, sharey=True)
    forest(axes[0, 0], [(m, "LDCT") for m in methods], reference, primary, "over the LDCT")
    if several:
        forest(axes[0, 1], [(top, m) for m in methods], reference, primary, f"best over this one\n(best: {top})")
    axes[0, 0].set_yticks(range(len(methods)), methods)
    axes[0, 0].set_ylim(len(methods) - 0.5, -0.6)
    handles = [plt.Line2D([], [], marker="o", ls="", color=c, label=a) for a, c in COLOUR.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    table, interval = differences(top, "LDCT", reference, primary)
    gained = int((np.sign(table.mean(axis=1)) == info(primary).direction).sum())
    bounds = "no interval under six patients" if few else f"95 % interval {interval.low:.3g} to {interval.high:.3g}"
    report.figure(
        run, f"patients_{reference}", figure,
        f"Differences in {info(primary).label} against {REFERENCE[reference]} by patient, domain {domain}. {top} gains "
        f"over its input in {gained} of {report.plural(len(table), 'patient')}, {interval.mean:+.3g} on average "
        f"({bounds}).",
    )  # fmt: skip

# %% [markdown]
# ### What is gained over the LDCT, in every domain


# %%
def gain_table():
    """Every method minus the LDCT: mean over patients, interval, paired d, patients that gain."""
    rows = []
    for (where, reference, name), part in scores.groupby(["domain", "reference", "metric"], sort=False):
        tables = dict(list(part.groupby("method")[["row", "patient", "seed", "value"]]))
        for method in methods:
            both, _ = stats.paired(tables[method], tables["LDCT"])
            table = stats.by_patient(both.assign(value=both["first"] - both["second"])).dropna()
            if table.empty:
                continue
            interval, means = stats.patient_bootstrap(table.to_numpy(), draws=draws, seed=seed), table.mean(axis=1)
            gained = int((np.sign(means) == info(name).direction).sum())
            rows.append(
                {"method": method, "domain": where, "reference": reference, "metric": name, "gain": interval.mean,
                 "low": interval.low, "high": interval.high, "paired d": stats.cohen_dz(means, 0 * means),
                 "patients that gain": gained, "patients": interval.patients, "seeds": interval.seeds}
            )  # fmt: skip
    return pd.DataFrame(rows)


over_ldct = run.table("gains", gain_table)
part = over_ldct[over_ldct.metric == "psnr"] if "psnr" in metrics else over_ldct[over_ldct.metric == primary]
worst = part.loc[part["gain"].idxmin()]
report.table(
    run, "gains_shown", part,
    f"Improvement over the LDCT in {label[worst.metric]}, {people}. The smallest is {worst.gain:+.3g} "
    f"({worst.method}, {worst.domain}, against {REFERENCE[worst.reference]}).",
)  # fmt: skip

# %% [markdown]
# ## Where the errors are
# Prediction minus reference at a fixed window, the same for all methods: structure in these maps is anatomy that was
# changed, grain is noise that was left or, against NDCT, noise of the NDCT that was taken out. The truth is the same
# reconstruction without noise.

# %%
SHOWN = 5  # methods in the figure, besides the LDCT
with_images = {m: one for m, one in zip(listed.method, chosen) if (one.folder / "examples.npy").is_file()}
order = main.query("reference == @references[0] and metric == @primary").sort_values("rank")["method"]
drawn = [m for m in order if m in with_images][:SHOWN]
error_rmse = {}


def error_maps(against):
    """Errors in HU on the example slices: a row an anatomy, a column the LDCT or a method."""
    about = with_images[drawn[0]].table("examples_rows")
    columns = 2 + len(drawn)
    figure, axes = plt.subplots(len(about), columns, figsize=(2.5 * columns, 2.75 * len(about)), squeeze=False)
    for line, (i, one) in zip(axes, enumerate(about.itertuples())):
        target = with_images[drawn[0]].array("examples")[i][1 if against == "ndct" else 2].astype(float)
        plots.show(line[0], target, *plots.anatomy_window(one.anatomy), f"{REFERENCE[against]}, {one.anatomy}")
        images = {"LDCT": with_images[drawn[0]].array("examples")[i][0]}
        images |= {m: with_images[m].array("examples")[i][3] for m in drawn}
        for axis, (name, image) in zip(line[1:], images.items()):
            error = image.astype(float) - target
            value = error_rmse[name, one.anatomy, against] = float(np.sqrt(np.mean(error**2)))
            title = name.replace(" · ", "\n") + "\n" if i == 0 else ""
            last = plots.difference(axis, error, 100.0, f"{title}RMSE {value:.1f} HU")
    figure.colorbar(last, ax=axes, label="error (HU)", shrink=0.6, pad=0.01)
    return figure


# %%
for reference in references:
    if not drawn:
        report.text("None of these runs stored example slices, so no error maps are drawn.")
        break
    figure = error_maps(reference)
    values = {k: [v for (n, _, r), v in error_rmse.items() if (n, r) == (k, reference)] for k in ("LDCT", drawn[0])}
    report.figure(
        run, f"errors_{reference}", figure,
        f"Error against {REFERENCE[reference]} at ±100 HU, left: {REFERENCE[reference]} in its anatomy's window. Mean "
        f"RMSE of these slices: {np.mean(values['LDCT']):.1f} HU for the LDCT, {np.mean(values[drawn[0]]):.1f} HU for "
        f"{drawn[0]}. {len(drawn)} of {len(methods)} methods are shown, best {info(primary).label} first, one seed.",
    )  # fmt: skip

# %% [markdown]
# ## RQ3: ψ, layer and context
# Each line is a layer and a context, from MSE alone (ψ = 0) to the perceptual term alone (ψ = 1). Shown is the
# difference from the MSE arm where there is one, else from the LDCT, so that what patients share cancels.

# %%
# Of several arms in one cell, or several MSE arms (say, one without the residual), the one with the commonest settings
# speaks for it; an arm that holds psi comes last.
usual = sum(((listed[name] == listed[name].mode()[0]).astype(int) for name in varying), -100 * listed["held"])
ordered = listed.loc[usual.sort_values(ascending=False, kind="stable").index].drop_duplicates("method")
arms = ordered[ordered["loss"].isin(["vgg", "vgg_only"])]
aside = set(arms["method"])
arms = arms.drop_duplicates(["context", "layer", "psi", "lam"]).sort_index()
aside = sorted(aside - set(arms["method"]))
base = next(iter(ordered["method"][ordered["loss"] == "mse"]), "LDCT")
lines = {key: part.sort_values("psi") for key, part in arms.groupby(["context", "layer"])}
levels = sorted({0.0, *arms["psi"]}) if base != "LDCT" else sorted(set(arms["psi"]))
effects = pd.DataFrame()


def psi_effects():
    """Difference from the base by context, layer and psi, with its interval."""
    rows = []
    for reference, name, ((context, layer), part) in itertools.product(references, metrics, lines.items()):
        for arm in part.itertuples():
            _, interval = differences(arm.method, base, reference, name)
            rows.append(
                {"reference": reference, "metric": name, "context": context, "layer": layer, "psi": arm.psi,
                 "base": base, "difference": interval.mean, "low": interval.low, "high": interval.high,
                 "seeds": interval.seeds}
            )  # fmt: skip
    return pd.DataFrame(rows)


def psi_figure():
    """Effect against psi, a row a reference, a column a metric; equal steps, as .95, .99 and 1 lie close together."""
    at = {value: i for i, value in enumerate(levels)}
    contexts, layers = sorted(arms["context"].unique()), sorted(arms["layer"].unique())
    size = (4.2 * len(metrics), 3.2 * len(references) + 0.5)
    figure, axes = plt.subplots(len(references), len(metrics), figsize=size, squeeze=False, sharex=True)
    start = [] if base == "LDCT" else [0.0]  # MSE alone is where every line begins
    for (row, reference), (column, name) in itertools.product(enumerate(references), enumerate(metrics)):
        axis, panel = axes[row, column], effects.query("reference == @reference and metric == @name")
        for i, (context, layer) in enumerate(lines):
            part = panel.query("context == @context and layer == @layer")
            colour, kind = plots.COLOURS[contexts.index(context) % 8], layers.index(layer)
            x = part["psi"].map(at).to_numpy() + 0.08 * (i - (len(lines) - 1) / 2)
            axis.plot([*start, *x], [*start, *part["difference"]], marker="osD^v"[kind % 5], ms=5,
                      ls=("-", "--", ":", "-.")[kind % 4], color=colour, label=f"{context}, {layer}")  # fmt: skip
            if not few:
                axis.vlines(x, part["low"], part["high"], color=colour, lw=1)
            alone = (part["seeds"] == 1).to_numpy()
            axis.plot(x[alone], part["difference"][alone], ls="", marker="osD^v"[kind % 5], ms=5, color=colour,
                      mfc="white")  # fmt: skip
        axis.axhline(0, color="black", lw=0.8, ls=":")
        # The perceptual term alone may be far off: its value is written at the edge, and the rest stays legible.
        inner = panel[panel["psi"] < 1] if (panel["psi"] < 1).any() else panel
        low, high = min(0.0, inner["difference"].min()), max(0.0, inner["difference"].max())
        room = 0.4 * (high - low) or 1e-6
        axis.set_ylim(low - room, high + room)
        far = panel[~panel["difference"].between(low - room, high + room)]
        for part, upper in ((far[far["difference"] < low], False), (far[far["difference"] > high], True)):
            plots.edge_notes(
                axis,
                [(f"{arm.layer}, ψ {arm.psi:g}: {arm.difference:+.2g}", plots.COLOURS[contexts.index(arm.context) % 8])
                 for arm in part.itertuples()], upper,
            )  # fmt: skip
        unit = f" ({info(name).unit})" if info(name).unit else ""
        axis.set(ylabel=f"Δ {label[name]}{unit}, {REFERENCE[reference]}")
        axis.set_xticks(range(len(levels)), [f"{value:g}" for value in levels])
    figure.supxlabel("perceptual influence ψ (not to scale)", fontsize=10)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


# %%
if len(arms):
    effects = run.table("psi_effects", psi_effects)
    part = effects.query("reference == @references[0] and metric == @primary")
    sign = info(primary).direction or 1
    top = part.loc[(part["difference"] * sign).idxmax()]
    absent = sorted({0.0, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0} - set(levels))
    report.figure(
        run, "psi", psi_figure(),
        f"Difference from {base}, domain {domain}, {people}"
        f"{', too few for intervals' if few else '; bars: 95 % interval over patients and seeds'}. "
        f"The best {info(primary).label} of the arms with a perceptual term against {REFERENCE[references[0]]} is at ψ "
        f"{top.psi:g} ({top.context}, {top.layer}): {top.difference:+.3g}"
        + ("" if few else f" [{top.low:.3g}, {top.high:.3g}]") + "."
        + f" Seeds an arm: {effects.seeds.min()} to {effects.seeds.max()}"
        + ("; hollow: one, and no luck of the training in the interval." if effects.seeds.min() == 1 else ".")
        + (f" Not shown: {'; '.join(aside)}." if aside else "")
        + (f" Not among these runs: ψ = {', '.join(f'{v:g}' for v in absent)}." if absent else ""),
    )  # fmt: skip
else:
    report.text("None of these runs has a perceptual term, so there is no ψ to compare.")

# %% [markdown]
# ### The context-by-layer interaction
# The paper's guideline (ImageNet encoder: lower layer; medical encoder: deeper layer) is a statement about an
# *interaction*: (deep − shallow) in one context minus (deep − shallow) in the other. It needs all four cells at one ψ;
# of several λ given by hand for one cell, the one nearest to the paper's ψ of .95 is taken.


# %%
def interactions():
    """2x2 differences of differences at each psi that has all four cells."""
    arms_at = arms.assign(at=["given λ" if pd.notna(r.lam) else f"ψ {r.psi:g}" for r in arms.itertuples()])
    rows = []
    for at, cell in arms_at.assign(off=(arms_at["psi"] - 0.95).abs()).sort_values("off").groupby("at"):
        named = cell.drop_duplicates(["context", "layer"]).set_index(["context", "layer"])["method"]
        contexts, layers = sorted(cell["context"].unique()), sorted(cell["layer"].unique())
        for (c1, c2), (shallow, deep) in itertools.product(*(itertools.combinations(x, 2) for x in (contexts, layers))):
            wanted = {"a1": (c1, deep), "a2": (c1, shallow), "b1": (c2, deep), "b2": (c2, shallow)}
            if not all(key in named.index for key in wanted.values()):
                continue
            for reference, name in itertools.product(references, metrics):
                part = scores.query("domain == @domain and reference == @reference and metric == @name")
                tables = {k: stats.by_patient(part[part["method"] == named[key]]) for k, key in wanted.items()}
                found = stats.interaction(tables, draws=draws, seed=seed)
                rows.append(
                    {"at": at, "contrast": f"{c1} − {c2}, {deep} − {shallow}", "reference": reference, "metric": name,
                     "interaction": found.mean, "low": found.low, "high": found.high, "patients": found.patients,
                     "seeds": found.seeds, "excludes 0": {None: "–", True: "yes", False: "no"}[found.excludes_zero]}
                )  # fmt: skip
    names = ["at", "contrast", "reference", "metric", "interaction", "low", "high", "patients", "seeds", "excludes 0"]
    return pd.DataFrame(rows, columns=names)


crossed = run.table("interactions", interactions)
if len(crossed):
    report.table(
        run, "interaction", crossed,
        f"(deep − shallow) in the first context minus (deep − shallow) in the second, {people}, domain "
        f"{domain}; 95 % intervals over patients and seeds. {int((crossed['excludes 0'] == 'yes').sum())} of "
        f"{len(crossed)} exclude zero; intervals are not corrected for their number.",
    )  # fmt: skip
else:
    cells = ", ".join(f"{context}/{layer}" for context, layer in lines) or "none"
    report.text(
        f"No interaction can be computed: it needs two contexts and two layers at one ψ, and these runs have {cells}."
    )

# %% [markdown]
# ## What the denoisers hide
# From runs of `05_invariances`: how many known lesions a found image changes by more than the null explains, and how
# many of these f hides, beside the null's own counts; and the part of a weakened lesion's d' and of a lesion's contrast
# that f keeps. The patients are the same for all, so differences of these are paired; the lesions that were changed are
# others for every denoiser, so their counts are not subtracted. Runs that searched differently are refused.

# %%
hidden = None
if invariances:
    looked = select(invariances)
    asked = [
        "crop",
        "crops",
        "most_patients",
        "realisations",
        "level",
        "region",
        "faint",
        "samples",
        "distance",
        "scale_hu",
    ]
    asked += ["tile", "alpha", "sigma_hu", "lr", "iterations", "aim_px"]
    asked += ["context"] * any(one.params["distance"] == "vgg16" for one in looked)
    differing = [name for name in asked if len({str(one.params.get(name)) for one in looked}) > 1]
    if differing or len({one.numbers["cohort"] for one in looked}) > 1:
        raise ValueError(f"the runs of 05_invariances do not compare: other {', '.join(differing) or 'cohorts'}")
    if without := [one.id for one in looked if "d_prime_kept" not in one.numbers]:
        raise ValueError(f"the runs {', '.join(without)} of 05_invariances had no known lesions: leave them out")
    by_patient, rows, counts = {}, [], []
    for one in looked:
        name = f"{one.numbers['network']} · {one.numbers['method']}"
        name += f" · {one.numbers['denoiser']}" * (name in by_patient)
        counts.append(one.table("lesion_counts").assign(denoiser=name))
        contrasts, seen = one.table("contrasts").groupby(["patient", "lesion"]).kept.mean(), one.table("detection")
        by_patient[name] = {
            "d' kept": evidence.d_prime_kept(seen), "d' kept, NPW": evidence.d_prime_kept(seen, "d_npw"),
            "contrast kept": contrasts.groupby("patient").mean(),
        }  # fmt: skip
    first = next(iter(by_patient))
    for name, quantities in by_patient.items():
        for quantity, values in quantities.items():
            span = stats.patient_bootstrap(values.to_numpy(), draws=draws, seed=seed)
            row = {"denoiser": name, "quantity": quantity, "mean": span.mean, "low": span.low, "high": span.high}
            if name != first:
                gap = (values - by_patient[first][quantity]).dropna()
                apart = stats.patient_bootstrap(gap.to_numpy(), draws=draws, seed=seed)
                row |= {f"minus {first}": apart.mean, "its low": apart.low, "its high": apart.high}
            rows.append(row)
    counts = pd.concat(counts).set_index(["denoiser", "method"]).reset_index()
    searched = counts[counts.method.isin(["search", "aimed"])]
    limit = float(looked[0].params["alpha"]) ** 0.5
    report.table(
        run, "hidden_counts", counts,
        "Lesions changed by more than the null explains, and hidden of these (share: mean over patients with a changed "
        "one; 95 % over patients, exact where none or all are hidden; nothing where none was changed). "
        + "; ".join(
            f"{count['denoiser']}, {count['method']}: {evidence.said(count)}" for _, count in searched.iterrows()
        )
        + f". A search finds only lesions of whose contrast f passes on less than √α = {limit:.2f}.",
    )  # fmt: skip
    hidden = run.table("hidden", lambda: pd.DataFrame(rows))
    patients_kept = min(len(values) for quantities in by_patient.values() for values in quantities.values())
    report.table(
        run, "hidden_shown", hidden,
        f"d' (of lesions weakened to d' = {looked[0].params['faint']:g}) and contrast that {len(looked)} denoisers "
        f"keep, {patients_kept} patients or more; 95 % intervals over patients.",
    )  # fmt: skip
    drawn = list(hidden.quantity.unique())
    figure, axes = plt.subplots(1, len(drawn), figsize=(3.1 * len(drawn), 1.2 + 0.35 * len(by_patient)), sharey=True)
    for axis, quantity in zip(np.atleast_1d(axes), drawn):
        part = hidden[hidden.quantity == quantity].set_index("denoiser").reindex(list(by_patient))
        bars = np.abs(part[["low", "high"]].to_numpy().T - part["mean"].to_numpy())
        axis.errorbar(part["mean"], range(len(part)), xerr=bars, fmt="o", color=plots.COLOURS[0])
        axis.axvline(1, color="black", lw=0.8, ls=":")
        axis.set_yticks(range(len(part)), part.index, fontsize=8)
        axis.set(xlabel=quantity)
        axis.locator_params(axis="x", nbins=4)
    report.figure(
        run, "hidden_drawn", figure,
        "The parts of d' (Hotelling observer, NPW) and of the lesions' contrast that are kept; 95 % over patients. "
        "Contrast kept: " + ", ".join(f"{n} {q['contrast kept'].mean():.2f}" for n, q in by_patient.items()) + ".",
    )  # fmt: skip

# %% [markdown]
# ## Checks

# %%
assert not scores.duplicated([*columns, "method", "seed"]).any(), "a slice was scored twice"
assert scores.groupby(["method", "seed"])["row"].nunique().eq(slices).all(), "methods were scored on different slices"
assert few == bool(tests["low"].isna().all()), "intervals are given exactly where there are six patients or more"
assert np.allclose(paper["d derived"], paper["d published"], atol=0.006), "the published effect sizes are no longer met"

headline = tests.query("domain == @domain and reference == @references[0] and metric == @primary")
against_ldct = over_ldct.query("domain == @domain and reference == @references[0] and metric == @primary").set_index(
    "method"
)
winner = best[references[0]][primary]
solid = headline[(headline.p_patients_holm < stats.ALPHA) & (headline.interval == 1)]
run.finish(
    patients=patients, slices=slices, methods=len(methods), seeds=int(seeds.min()), smallest_p=floor, best=best,
    gain_over_ldct=float(against_ldct["gain"][winner]), comparisons=len(headline),
    significant_slices=int((headline.p_slices < stats.ALPHA).sum()), significant_patients=len(solid),
    interactions=len(crossed), interactions_excluding_zero=int((crossed["excludes 0"] == "yes").sum()),
)  # fmt: skip

# %%
truth = "" if len(references) < 2 or best["truth"][primary] == winner else (
    f" Against the noise-free truth another method leads: {best['truth'][primary]}.")  # fmt: skip
a_method = f"{people} and {report.plural(seeds.min(), 'seed')} a method"
report.text(
    f"**What we saw.** By {info(primary).label} against {REFERENCE[references[0]]} ({domain}), {winner} scores best "
    f"(methods: {len(methods)}), {against_ldct['gain'][winner]:+.3g} from the LDCT.{truth} Comparisons: "
    f"{len(headline)}; significant if slices count as independent: {int((headline.p_slices < stats.ALPHA).sum())}, "
    f"with patients as the unit: {len(solid)}. One limit: {a_method}"
    + (", all simulated" if "truth" in references else "")
    + ". `04_metrics_during_training` follows the metrics along the training of these runs."
)
