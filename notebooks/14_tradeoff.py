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
# # 14 · Is any loss better than mixing the input back in?
# **Question.** Another loss leaves more of a lesion and more noise. So does mixing some of the input back into
# the output of the MSE network, which costs no training. Does any loss do better?
#
# **Reads** finished `03_train` runs of one cohort whose lesions are known. **Writes** `squares.parquet` and
# `lesions.parquet` (a row a network and slice, and lesion), `comparisons.parquet`, two figures, a table. **Cost** on
# one core 2 s a network with fast bfloat16, 5 s without, and 20 s besides.
#
# Words: LDCT and NDCT are the low-dose and the normal-dose slice. PSNR measures error in decibel over the full range of
# HU, higher is better. TTF is the task transfer function, what is left of fine detail at the edge of a test object.

# %% tags=["parameters"]
from typing import Optional

study: str = "adhoc"  # results go to outputs/<study>/14_tradeoff/
run_name: str = ""  # what the run is called; empty takes what differs from the defaults
runs: list = ["adhoc/03_train/*"]  # run folders or globs of 03_train, relative to outputs/
reference: Optional[str] = None  # method, as 06_stats names it, whose blends are compared with; None takes the only MSE
gaussian_px: list = [0.3, 0.4, 0.5, 0.6, 0.7]  # SDs of Gaussian filters, pixels
median_px: list = [3, 5]  # sides of median filters, pixels, odd
tv_hu: list = [2.5, 5.0, 10.0, 20.0, 30.0]  # weights of total variation, HU
shares: list = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]  # of the input, where the blends are drawn
control_share: float = 0.3  # of the input in the blends that serve as controls, in (0, 1)
oracle_share: float = 0.5  # of a lesion's removed signal that the oracle gives back, in (0, 1]
ttf_hu: float = 300.0  # contrast of the insert whose edge gives the TTF, HU
ttf_realisations: int = 40  # of the noise of the insert
wanted_db: float = 0.35  # dB; half-width of the intervals that this comparison was made for
wanted_kept: float = 0.04  # half-width, share of the contrast
draws: int = 2000  # bootstrap draws over patients
seed: int = 0  # seeds noise and draws
device: str = "auto"  # auto, cpu or cuda
precision: str = "auto"  # of the networks: auto, float32 or bf16
threads: int = 0  # CPU threads; 0 takes all

# %%
from ldct_utils.study.runs import start

run = start("14_tradeoff", globals())

# %% tags=["hide-input"] jupyter={"source_hidden": true}
import itertools
from functools import partial

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from ldct_utils import cohorts, report
from ldct_utils.ct import planted
from ldct_utils.report.drawings import tradeoff as drawings
from ldct_utils.stats import blending, intervals, mixes
from ldct_utils.study.runs import select
from ldct_utils.task_based import resolution, tradeoff
from ldct_utils.training import checkpoints, designs, filters, prediction, setup
from ldct_utils.training.designs import spoken

setup.seed_everything(seed, threads)

# %% [markdown]
# ## Networks, and lesions that are known exactly
# Each test slice exists twice, with and without its lesions and with the same noise. They differ by the signal *s*.

# %%
chosen, listed, _ = designs.listed(select(runs))
base = designs.plain(listed, reference)
cohort = cohorts.of(*chosen)
TARGETS = {"truth": "noise-free truth", "ndct": "NDCT"} if cohort.truth is not None else {"ndct": "NDCT"}
leading, second = [*TARGETS, ""][:2]
piles = tradeoff.piles(cohort, TARGETS)  # {patient: its images, the signal and which lesion is nearest}
lesion_count, people = sum(map(tradeoff.lesions_in, piles.values())), report.plural(len(piles), "patient")
left_out = report.plural(cohort.slices.query("split == 'test'")["patient"].nunique() - len(piles), "patient")
report.text(f"We test on {report.plural(lesion_count, 'lesion')} of {people} and leave out {left_out} without lesions.")

# %% [markdown]
# ## What is measured
# - *Gain*: PSNR of the output minus PSNR of the LDCT, against the noise-free truth and against the NDCT. The truth
#   leads, since no network can know the noise of the NDCT.
# - *Contrast kept*: ⟨f(x + s) − f(x), s⟩ / ⟨s, s⟩, f the network, x the slice without lesions. It is 100 % for a filter
#   that does nothing and 0 % for one that removes every lesion.
#
# The unit of the second is the lesion: its slices and all pixels nearer to it than to another one are summed, and a
# patient's lesions weigh alike; else the strong ones, with up to 25 times the energy of a faint one, would decide.
# Three filters, each at several strengths, are the ways without training.


# %%
def network_of(one):
    """The network of a run as a function of slices (N, H, W) in HU."""
    network = checkpoints.load_network(one.folder).to(device, memory_format=torch.channels_last)
    return partial(prediction.predict, network, batch=1, precision=precision, device=device)


FILTERS = filters.by_strength(gaussian_px, median_px, tv_hu)

# %% [markdown]
# Two controls are measured as if they were networks. A blend of the MSE network must not be found better than its own
# blends. An oracle, which is told the lesions and gives back some of what the MSE network removed, must be.

# %%
SAME = f"control: MSE with {report.percent(control_share)} of its input"
ORACLE = f"control: MSE, told {report.percent(oracle_share)} of what it removed"


def variants(method, present, absent, pile):
    """(name, outputs with and without lesions): the method itself, of the reference also its two controls."""
    yield method, present, absent
    if method == base:
        given = [pile[name].astype(np.float64) for name in ("ldct", "absent_ldct")]  # or rounding would be a difference
        mixed = [control_share * x + (1 - control_share) * out for x, out in zip(given, (present, absent))]
        yield SAME, *mixed
        yield ORACLE, present + oracle_share * (pile["signal"] - (present - absent)), absent


# %%
def measure():
    """Both tables. A filter has the seed -1; of a network the strength is empty."""
    found = [*zip(listed["method"], listed["seed"], np.full(len(chosen), np.nan), map(network_of, chosen)),
             *((name, -1, strength, denoise) for (name, strength), denoise in FILTERS.items())]  # fmt: skip
    squares, lesions = tradeoff.measured(tqdm(found, unit="denoiser"), piles, variants, TARGETS)
    run.table("lesions", lambda: lesions)
    return squares


# %%
squares, lesions = run.table("squares", measure), run.table("lesions")
method_of = partial(tradeoff.of_method, squares, lesions)  # of a name and a target
losses = [name for name in listed["method"].unique() if name != base]
trained_base = method_of(base, leading)
decidable = len(piles) >= intervals.MIN_PATIENTS and len(trained_base.seeds) > 1

# %% [markdown]
# ## What a linear filter of the same resolution would keep
# A resolution test measures the TTF at the edge of a strong insert. A linear filter with that TTF, applied to *s*,
# keeps what the test promises. A network is not linear: a faint lesion may fare otherwise. One training a method.


# %%
def linear_rows():
    """Contrast kept by the linear filter of equal TTF, a row a method: mean over lesions, then patients."""
    about, found = cohort.meta["parameters"], []
    made = resolution.insert(ttf_hu, ttf_realisations, [seed, 14], about["kernel"])
    for name, part in listed.groupby("method", sort=False):
        seen = resolution.transferred(made, network_of(chosen[part["seed"].idxmin()]), about["dose"])
        found.append({"method": name, "kept": tradeoff.kept_by_linear_filter(piles, *seen)})
    return pd.DataFrame(found)


linear = run.table("linear", linear_rows).set_index("method")["kept"]

# %% [markdown]
# ## Above the curve or not
# The blends of the MSE network make a curve from the network, or the mix with the least error, to the LDCT. Along it
# contrast kept grows linearly and the squared error quadratically, so it is computed and not sampled. Each loss is set
# beside the blend of equal error and beside the blend that keeps as much. Intervals are 95 % over patients and over
# trainings of both methods, not corrected for the number of losses.
#
# As another control the last trainings of the MSE network are set beside the first ones. With three trainings that
# interval is wide, so it finds gross faults only.


# %%
def beside(name, target):
    """A method beside the blends of the reference, trainings paired."""
    return blending.compare(*blending.together(method_of(name, target), method_of(base, target)), draws, seed)


def other_seed(target):
    """The reference's later trainings, mixed with the input, beside the blends of its earlier ones."""
    mixed, whole = method_of(SAME, target), method_of(base, target)
    return blending.compare(mixed.of(mixed.seeds[1:]), whole.of(whole.seeds[:-1]), draws, seed)


# %%
OTHER, verdicts = SAME + ", other trainings", {}
for target in TARGETS:
    verdicts |= {(name, target): beside(name, target) for name in [*losses, SAME, ORACLE]}
    if len(trained_base.seeds) > 1:
        verdicts[OTHER, target] = other_seed(target)
rows = [tradeoff.row_of(*key, one) for key, one in verdicts.items()]
compared = run.table("comparisons", lambda: pd.DataFrame(rows))
main = compared[compared["target"] == leading].set_index("method")

# %%
pairs, mixed = list(itertools.permutations(trained_base.seeds, 2)), method_of(SAME, leading)
by_patients = [blending.compare(mixed.of([a]), trained_base.of([b]), draws, seed).less_error for a, b in pairs]
different = sum(bool(one.excludes_zero) for one in by_patients)
controls = {name: main["answer"][name] for name in (SAME, OTHER, ORACLE) if name in main.index}
faults = {name: out for name, out in controls.items() if (out == blending.BETTER) != (name == ORACLE)}
held = f"{len(controls) - len(faults)} of {report.plural(len(controls), 'control')} came out as they must. " * decidable

# %% [markdown]
# ## The answer, and its picture
# A loss that was trained once is drawn and not judged. The table has the controls below the losses.

# %%
order = main.drop(list(controls)).sort_values("more_kept", ascending=False)
judged, to = order[order["seeds"] > 1], blending.curve(trained_base)
reasons = tradeoff.undecided(faults, bool(losses), len(piles), len(trained_base.seeds), len(judged))
of_other = compared[(compared["target"] == second) & compared["method"].isin(losses)].set_index("method")
answered = tradeoff.said(judged, reasons, spoken, TARGETS[leading], dict(of_other["answer"]), TARGETS.get(second, ""))

# %%
points = tradeoff.filter_points(squares, lesions, leading, FILTERS)
band, dots = (mixes.band(to, at, draws, seed) for at in (np.linspace(to.best, 1, 41), shares))
says = {name: spoken(name) for name in main.index}
percent = [tradeoff.in_percent(table) for table in (order, points, band, dots)]
report.figure(
    run, "plane", drawings.plane(*percent, says, tradeoff.UNDECIDED, TARGETS[leading]), answered[0],
    "Left: right is less error, up more of the lesions. The blue line shows the blends with a 95 % band. Each dot has "
    "another share of the input, and the line ends at the least error. Right: distance from the blends. "
    + report.bars(len(piles), "patient", also=" and trainings, uncorrected for the number of losses"),
    "Left: gain in PSNR against contrast kept, curves of filters and blends, a point a loss. Right: their distances.",
)  # fmt: skip

# %% [markdown]
# We show the lesion at which the difference between the best loss and the MSE network is the median one. The lower row
# shows what each passes on of it, the output with the lesion minus the output without.

# %%
if len(order):
    best, share = order.index[0], float(order["share"].iloc[0])
    patient, lesion = tradeoff.typical_lesion(lesions, best, base)
    plain, other = (network_of(chosen[listed[listed["method"] == name]["seed"].idxmin()]) for name in (base, best))
    cut = run.array("example", lambda: tradeoff.cut_out(piles[patient], lesion, leading, plain, other, share))
    kept = 100 * (cut[1, 2:] * cut[1, 0]).sum((1, 2)) / (cut[1, 0] ** 2).sum()
    about = cohort.slices[cohort.slices["patient"] == patient].iloc[0]
    titles = [TARGETS[leading], "LDCT", "MSE", f"{report.percent(1 - share)} of MSE's change", spoken(best)]
    where = tradeoff.place(piles[patient], lesion)[2:]
    others = tradeoff.neighbours(piles[patient], lesion)
    report.figure(
        run, "lesion", drawings.lesion(cut, titles, *where, about.anatomy, about.pixel_mm),
        *tradeoff.example_said(kept, spoken(best), others, f"{patient}, lesion {lesion}, {about.anatomy}"),
        alt="Two rows of five cut-outs around a circled lesion: images, and below what each passes on of the lesion.",
    )  # fmt: skip
else:
    report.text("Without a loss to compare there is no cut-out.")

# %%
gain, kept = (intervals.patient_bootstrap(v, draws=draws, seed=seed) for v in (trained_base.gain(), trained_base.kept))
own = pd.DataFrame({"gain": gain.mean, "gain_low": gain.low, "gain_high": gain.high, "kept": kept.mean,
                    "kept_low": kept.low, "kept_high": kept.high, "answer": "the reference"}, index=[base])  # fmt: skip
shown = pd.concat([order, own, main.loc[list(controls)]]).assign(linear=linear)
own_target = blending.curve(method_of(base, second)) if second else None
words = [name if name in controls else spoken(name) for name in shown.index]
told = tradeoff.in_percent(shown.rename_axis("method").reset_index()).assign(method=words)
report.table(
    run, "losses", pd.concat([told, drawings.filters_below(percent[1])]), answered[-1],
    f"{tradeoff.least_said(to, TARGETS[leading], own_target, TARGETS.get(second))} {held}A mix with the input must not "
    "come out as better, the oracle must. " + tradeoff.pairs_said(different, len(pairs), len(trained_base.seeds)),
    tradeoff.heads(TARGETS[leading]),
)  # fmt: skip

# %% [markdown]
# ## Checks

# %%
nothing = planted.kept_by_lesion(*(next(iter(piles.values()))[n] for n in ("absent_ldct", "ldct", "signal", "nearest")))
assert all(share == 1 for share in nothing.values()), "a filter that does nothing does not keep all of a lesion"
assert np.isfinite(squares[["before", "both", "after"]]).all(axis=None) and np.isfinite(lesions["kept"]).all()
assert abs(main["more_kept"][SAME]) < 1e-6 or main["share"][SAME] in (to.best, 1), "a blend is off its own curve"

seeds = listed.groupby("method")["seed"].nunique()
headline = tradeoff.headline(order, judged, reasons, answered, spoken, wanted_db, wanted_kept) | {
    "reference": {"name": spoken(base), "gain_db": gain.mean, "kept": kept.mean}, "against": TARGETS[leading],
    "patients": len(piles), "lesions": lesion_count, "seeds": {spoken(n): int(count) for n, count in seeds.items()},
    "controls": controls, "null_pairs": [different, len(pairs)], "best_share": to.best,
    "answers_other": tradeoff.answers(of_other, spoken), "against_other": TARGETS.get(second, ""),
    "kept_by_linear_filter": {spoken(n): float(share) for n, share in linear.items()},
}  # fmt: skip
run.finish(headline=headline)

# %%
report.text(
    f"**What we saw.** {headline['answer']} The MSE network gains {report.number(gain.mean, 2)} dB and keeps "
    f"{report.percent(kept.mean)} of a lesion's contrast. {tradeoff.linear_said(linear[base], kept)} "
    f"{held}{tradeoff.width_said(judged, wanted_db, wanted_kept)} The lesions are simulated, each was scanned once; "
    "`04b_dose` compares losses by detection."
)
