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
# denoisers hide? One table and three figures from the finished runs of a study, which its report starts with.
#
# **Reads** finished runs of the other notebooks; what is not given leaves its question open, and the table says so.
# No image is looked at anew: every number is taken, or averaged over patients, from the tables of the run that the last
# column names.
# **Writes** `answers.parquet`. **Cost** seconds.

# %% tags=["parameters"]
from typing import Optional

study: str = "adhoc"  # results go to outputs/<study>/12_answers/
run_name: str = ""  # what the run is called; empty takes what differs from the defaults
calibration: Optional[str] = None  # run of 02_psi_calibration: λ for a given ψ
influence: Optional[str] = None  # run of 06_stats over several ψ: what ψ does to the result
agreement: Optional[str] = None  # run of 04_metrics_during_training: losses and metrics
audit: Optional[str] = None  # run of 04c_metric_audit: metrics and d'
newer: Optional[str] = None  # run of 11_denoisers
dose: Optional[str] = None  # run of 04b_dose: how much dose a denoiser buys, by whom it is asked
details: Optional[str] = None  # run of 09_subtle_details: which metric notices a removed structure
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
from ldct_utils.training import designs

given = {"02_psi_calibration": calibration, "06_stats": influence, "04_metrics_during_training": agreement,
         "04c_metric_audit": audit, "11_denoisers": newer, "04b_dose": dose, "09_subtle_details": details}  # fmt: skip
asked = {name: runs.load(folder) for name, folder in given.items() if folder}
hidden = [runs.load(folder) for folder in invariances]
if not asked and not hidden:
    raise ValueError("12_answers needs a finished run of another notebook; give calibration, influence, agreement, ...")
for name, one in asked.items():
    if one.result["notebook"] != name:
        raise ValueError(f"{one.folder.name} is a run of {one.result['notebook']} where one of {name} is needed")
answers, short = [], {}  # lines of the table; {question: its answer in a sentence}
QUESTIONS = ("How should λ be set?", "Which losses agree with which metrics?", "Are newer denoisers better?",
             "What do denoisers hide?")  # fmt: skip


def say(question, quantity, value, source, low=np.nan, high=np.nan, unit="", interval=""):
    """Add a line to the table; a number without an interval says so by a dash."""
    shown = value if isinstance(value, str) else f"{value:.3g}{unit}"
    interval = interval or ("–" if np.isnan(low) else f"[{low:.3g}, {high:.3g}]")
    answers.append(
        {"question": QUESTIONS[question], "what": quantity, "answer": shown, "95 % interval": interval,
         "from": f"{source.result['notebook']}, {source.id}"}
    )  # fmt: skip


def open_question(question, notebook):
    """Say in the table that no run was given for a question."""
    answers.append({"question": QUESTIONS[question], "what": f"no run of {notebook} was given", "answer": "open",
                    "95 % interval": "–", "from": "–"})  # fmt: skip


# %% [markdown]
# ## How should λ be set?
# λ has no meaning of its own: what it stands for is ψ, the share of the loss that is perceptual, and ψ depends on whose
# predictions it is measured (`02`). What ψ does to the result is `06`'s comparison with the MSE arm.

# %%
ready = [name for name in ("02_psi_calibration", "06_stats") if name in asked]
if "02_psi_calibration" in asked:
    one = asked["02_psi_calibration"]
    lam, target = one.table("calibration"), one.params["psi_target"]
    layer = "block3_conv2" if "block3_conv2" in set(lam.layer) else lam.layer.iloc[0]
    for row in lam[lam.layer == layer].itertuples():
        say(0, f"λ for ψ = {target:g} at {layer}, measured on f = {row.f}", row.ratio_of_sums, one, row.lambda_low,
            row.lambda_high)  # fmt: skip
    say(0, "largest over smallest such λ, over f and layers", one.numbers["lambda_spread"], one)
else:
    open_question(0, "02_psi_calibration")
effects = pd.DataFrame()
if "06_stats" in asked:
    one = asked["06_stats"]
    effects = one.table("psi_effects")
    reference = "truth" if "truth" in set(effects.reference) else "ndct"
    effects = effects[(effects.reference == reference) & (effects.metric == "psnr")]
    # differences from MSE and, of a network without such an arm, from the LDCT do not compare
    effects = effects[effects.base != "LDCT"] if (effects.base != "LDCT").any() else effects
    base = {"mse": "MSE alone"}.get(effects.base.iloc[0].split(" · ")[0], effects.base.iloc[0])
    who = effects.context.map(designs.brief(effects.context)) + ", " + effects.layer
    effects = effects.assign(who=effects.network + ", " + who if "network" in effects else who)
    base += " of the same network" * ("network" in effects and base != "LDCT")
    trained_most = effects[effects.seeds == effects.seeds.max()]  # one training may be better by luck
    luck = "" if effects.seeds.max() > 1 else ", one seed"
    best = trained_most.loc[trained_most.difference.idxmax()]
    say(0, f"best perceptual arm, PSNR against the {reference} minus that of {base}: ψ {best.psi:g}, {best.who}"
        f"{luck}", best.difference, one, best.low, best.high, " dB")  # fmt: skip
    paper = trained_most[trained_most.psi == 0.95]
    if len(paper):
        worst = paper.loc[paper.difference.idxmin()]
        say(0, f"worst arm at ψ .95: {worst.who}{luck}", worst.difference, one, worst.low, worst.high, " dB")
else:
    open_question(0, "06_stats")


def draw_lambda(axis):
    """λ by layer and by the network that it is measured on."""
    names = list(dict.fromkeys(lam.layer))
    for shift, (f, part) in zip((-0.15, 0, 0.15), lam.groupby("f", sort=False)):
        at = np.array([names.index(n) for n in part.layer]) + shift
        colour = plots.COLOURS[list(dict.fromkeys(lam.f)).index(f)]
        axis.semilogy(at, part.ratio_of_sums, "o", color=colour, label=f"f = {f}")
        axis.vlines(at, part.lambda_low, part.lambda_high, color=colour, lw=2, alpha=0.5)
    axis.set_xticks(range(len(names)), names, rotation=20, ha="right")
    axis.set(ylabel=f"λ for ψ = {target:g}")
    axis.legend(fontsize=8)


def draw_effect(axis):
    """What each ψ does to PSNR."""
    levels = [0.0, *sorted(set(effects.psi))]
    lines = list(effects.groupby("who"))
    for number, (who, part) in enumerate(lines):
        part = part.sort_values("psi")
        at = np.array([levels.index(v) for v in part.psi]) + 0.08 * (number - (len(lines) - 1) / 2)
        colour = plots.COLOURS[number % 8]
        axis.plot([0, *at], [0, *part.difference], "o-" if number % 2 else "s--", color=colour, ms=5,
                  label=who)  # fmt: skip
        axis.vlines(at, part.low, part.high, color=colour, lw=1.2)
        alone = (part.seeds == 1).to_numpy()
        axis.plot(at[alone], part.difference[alone], "o" if number % 2 else "s", color=colour, ms=5, mfc="white")
    axis.axhline(0, color="black", lw=0.8, ls=":")
    inner = effects[effects.psi < 1]
    if len(inner) < len(effects) and len(inner):
        axis.set_ylim(1.5 * min(0.0, inner.low.min(skipna=True), inner.difference.min()), None)
    axis.set_xticks(range(len(levels)), [f"{v:g}" for v in levels])
    axis.set(xlabel="perceptual influence ψ (not to scale)", ylabel=f"Δ PSNR from {base},\n{reference} (dB)")
    axis.legend(fontsize=7)


if ready:
    words = []
    if "02_psi_calibration" in asked:
        spread = asked["02_psi_calibration"].numbers["lambda_spread"]
        words.append(
            f"Through ψ, never as a number taken over: for one ψ the λ of different layers, measured on different "
            f"networks, lie {spread:,.0f}-fold apart."
        )
    if len(effects):
        within = "" if np.isnan(best.low) else f" [{best.low:.2f}, {best.high:.2f}]"
        gained = f"{best.difference:+.2f} dB{within} at ψ {best.psi:g}"
        words.append(
            f"Against the {reference} the best perceptual arm{f' ({best.who})' if 'network' in effects else ''} "
            f"differs from {base} by {gained}"
            + (f"; at ψ .95 all lie between {paper.difference.min():+.2f} and {paper.difference.max():+.2f} dB."
               if len(paper) else ".")
        )  # fmt: skip
    short[QUESTIONS[0]] = " ".join(words)
    figure, axes = plt.subplots(1, len(ready), figsize=(5.2 * len(ready), 3.6), squeeze=False)
    for axis, name in zip(axes[0], ready):
        draw_lambda(axis) if name == "02_psi_calibration" else draw_effect(axis)
    report.figure(
        run, "lambda", figure,
        f"{short[QUESTIONS[0]]} Bars: 95 % intervals over patients"
        + (f", right: and over seeds ({effects.seeds.min()} to {effects.seeds.max()} an arm), hollow where it is one"
           if len(effects) else "") + ".",
    )  # fmt: skip

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
                f"{always[side].sum()} of {len(always)} ({follow[side].sum()} of {len(follow)})", one)  # fmt: skip
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
    drawn = axis.imshow(columns, cmap="RdBu", vmin=-1, vmax=1, aspect="auto")
    for (i, j), value in np.ndenumerate(columns.to_numpy()):
        if np.isfinite(value):
            axis.text(j, i, f"{value:.2f}{'*' * ((columns.index[i], columns.columns[j]) in sure)}", ha="center",
                      va="center", fontsize=8,
                      color="white" if abs(value) > 0.6 else "black")  # fmt: skip
    axis.set_xticks(range(columns.shape[1]), columns.columns, rotation=30, ha="right")
    axis.set_yticks(range(len(columns)), [label(name) for name in columns.index])
    axis.grid(visible=False)
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
# A method counts as better than all before it where patients say so after correction (`11`). What scores do not see:
# the dose that a denoiser buys by d' and by RMSE (`04b`), the lesions that it can be made to hide (`05`), and the
# metric that notices a structure which is gone (`09`).

# %%
if "11_denoisers" in asked:
    one = asked["11_denoisers"]
    verdicts = one.table("newer")
    compared = int(verdicts["best before"].notna().sum())
    n = one.numbers
    say(2, "methods, each against the best older one: better, worse, of how many comparisons",
        f"{n['better']} better, {n['worse']} worse of {compared}", one)  # fmt: skip
    ssim = verdicts[(verdicts.anatomy == "all") & (verdicts.metric == "ssim")].dropna(subset="better by")
    ssim = ssim.rename(columns={"better by": "gain"})
    last = ssim.iloc[-1]
    say(2, f"newest network ({last.method}) against the best before it ({last['best before']}), windowed SSIM",
        last.gain, one, last.low, last.high)  # fmt: skip
    short[QUESTIONS[2]] = (
        f"Of {compared} comparisons of a method with the best older one, {n['better']} are better and {n['worse']} "
        f"worse; first by SSIM is {n['best']['ssim']}."
    )
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
                interval="–" if top is None else f"[{top.low:.2f}, {top.high:.2f}]")  # fmt: skip
    if "losses.parquet" in one.result["files"]:
        for name, part in one.table("losses").groupby("method"):
            span = intervals.patient_bootstrap(intervals.by_patient(part.assign(value=part.kept)).to_numpy())
            kept[name] = span.mean
            say(3, f"contrast of three faint lesions kept by {name}", span.mean, one, span.low, span.high)
else:
    open_question(3, "09_subtle_details")


# %%
def draw_newer(axis):
    """By how much each method's SSIM differs from the best older one's, oldest on top."""
    for place, row in enumerate(ssim.itertuples()):
        sure = row.p_holm < intervals.ALPHA and (row.low > 0 or row.high < 0)
        colour = plots.COLOURS[0 if row.low > 0 else 1] if sure else plots.COLOURS[7]
        axis.plot(row.gain, place, "o", color=colour)
        axis.plot([row.low, row.high], [place] * 2, color=colour, lw=1.5)
    axis.set_yticks(range(len(ssim)), ssim.method)
    axis.axvline(0, color="black", lw=0.8, ls=":")
    axis.invert_yaxis()
    axis.set(xlabel="SSIM minus that of the best before", title="newer denoisers")


def draw_worth(axis):
    """The dose of FBP that each network's image is worth, by each measure."""
    measures, names = list(dict.fromkeys(bought.measure)), list(dict.fromkeys(bought.method))
    doses = sorted(asked["04b_dose"].params["doses"])
    ends = doses[0] * 0.8, 1.25
    for row in bought.itertuples():
        y = measures.index(row.measure) + 0.7 * ((names.index(row.method) + 0.5) / len(names) - 0.5)
        colour = plots.COLOURS[names.index(row.method) % 8]
        axis.plot(np.clip([row.low, row.high], *ends), [y, y], color=colour, lw=1.4)
        axis.plot(np.clip(row.dose, *ends), y, "<" if row.dose < doses[0] else ">" if row.dose > 1 else "o",
                  color=colour, ms=5)  # fmt: skip
    for number, name in enumerate(names):
        axis.plot([], [], "o", color=plots.COLOURS[number % 8], label=name)
    axis.axvline(low, color="black", lw=0.8, ls=":")
    axis.set_yticks(range(len(measures)), measures)
    axis.invert_yaxis()
    axis.set(xscale="log", xlabel=f"dose of FBP worth the image denoised at {low:g}", title="dose that they buy")
    axis.set_xticks(doses, [f"{d:g}" for d in doses])
    axis.xaxis.set_minor_locator(plt.NullLocator())
    axis.legend(fontsize=7)


def draw_removal(axis):
    """How often metrics notice that lesions are gone, by the noise beside it."""
    sigmas = sorted(noticed.sigma.unique())
    for number, name in enumerate(("psnr", "ssim", "mean_srmse", "max_srmse")):
        part = noticed[noticed.metric == name].sort_values("sigma")
        at = part.sigma.map(sigmas.index).to_numpy() + 0.08 * (number - 1.5)
        axis.plot(at, part.tpf, "osD^"[number] + "-", ms=4, color=plots.COLOURS[number], label=metrics.info(name).label)
        axis.vlines(at, part.low, part.high, color=plots.COLOURS[number], lw=1)
    axis.axhline(0.5, color="black", lw=0.8, ls=":")
    axis.set_xticks(range(len(sigmas)), [f"{v:g}" for v in sigmas])
    axis.set(
        xlabel="SD of the added noise, HU", ylabel="true positive fraction", ylim=(0, 1.03), title="lesions removed"
    )
    axis.legend(fontsize=7)


DRAW = {"11_denoisers": draw_newer, "04b_dose": draw_worth, "09_subtle_details": draw_removal}
panels = [name for name in DRAW if name in asked and (name != "09_subtle_details" or len(noticed))]
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
if words:
    short[QUESTIONS[3]] = " ".join(words)
if panels:
    figure, axes = plt.subplots(1, len(panels), figsize=(4.6 * len(panels), 4), squeeze=False)
    for axis, name in zip(axes[0], panels):
        DRAW[name](axis)
    report.figure(
        run, "newer_and_hidden", figure,
        " ".join(short[q] for q in QUESTIONS[2:] if q in short) + " Bars: 95 % intervals over patients."
        + " Left, blue: better than every older method, orange: worse (corrected), grey: neither."
        * ("11_denoisers" in panels)
        + " Dotted: a dose saving of none; chance." * (len(panels) > 1),
    )  # fmt: skip

# %% [markdown]
# ## The answers in one table

# %%
order = {question: number for number, question in enumerate(QUESTIONS)}
table = run.table(
    "answers",
    lambda: pd.DataFrame(answers).sort_values("question", key=lambda column: column.map(order), kind="stable"),
)
open_ones = [q for q in QUESTIONS if set(table[table.question == q].answer) == {"open"}]
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
