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
# # 14 · What does a loss buy that a simpler way would not?
# **Question.** Another loss leaves more of a faint lesion and more noise. So does mixing some of the input back into
# the output of the MSE network, which costs no training. Is any loss better than that?
#
# **Reads** finished `03_train` runs of one cohort whose lesions are known. **Writes** `squares.parquet` and
# `lesions.parquet` (a row a network and slice, and a network and lesion), `comparisons.parquet`, two figures and a
# table. **Cost** on one core 2 s a network with fast bfloat16, 5 s without, and 20 s besides.
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

# %%
import itertools
from functools import partial
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.ticker import MaxNLocator
from scipy import ndimage
from tqdm.auto import tqdm

from ldct_utils import cohorts, report
from ldct_utils.ct import planted
from ldct_utils.models import classical
from ldct_utils.report import bracket, plots
from ldct_utils.stats import intervals
from ldct_utils.study.runs import select
from ldct_utils.task_based import blending, resolution
from ldct_utils.training import checkpoints, designs, prediction, setup
from ldct_utils.training.designs import spoken

setup.seed_everything(seed, threads)

# %% [markdown]
# ## Networks and lesions
# Each test slice exists twice, with and without its lesions and with the same noise. Their difference is the lesions'
# known signal *s*, in HU.

# %%
chosen, listed, _ = designs.listed(select(runs))
plain = list(listed["method"][listed["loss"] == "mse"].unique())
if reference is None and len(plain) != 1:
    raise ValueError(f"runs hold {len(plain)} methods with MSE alone ({'; '.join(plain)}): name one as `reference`")
base = reference or plain[0]
if base not in set(listed["method"]):
    raise ValueError(f"no run of the method {base!r}; there are {'; '.join(listed['method'].unique())}")
cohort = cohorts.of(*chosen)
if cohort.absent_ldct is None:
    raise ValueError(f"cohort {cohort.id} has no twins without lesions, so no signal is known: take simulated patients")
TARGETS = {"truth": "noise-free truth", "ndct": "NDCT"} if cohort.truth is not None else {"ndct": "NDCT"}
leading, *_ = TARGETS

# %%
tested = cohort.slices[cohort.slices["split"] == "test"]
piles = {}  # patient: its images (S, H, W), the signal and which lesion is nearest
for patient, part in tested.groupby("patient", sort=True):
    at = part["row"].to_numpy()
    images = {name: np.asarray(getattr(cohort, name)[at], np.float32) for name in ("ldct", "absent_ldct", *TARGETS)}
    images |= {"row": at, "signal": images["ldct"] - images["absent_ldct"]}
    if images["signal"].any():
        piles[patient] = images | {"nearest": planted.territories(np.asarray(cohort.lesion_masks[at]))}
left_out, people = tested["patient"].nunique() - len(piles), report.plural(len(piles), "patient")
lesion_count = sum(len(np.unique(pile["nearest"][pile["signal"] != 0])) for pile in piles.values())
report.text(
    f"{report.plural(len(listed), 'network')} of {report.plural(listed['method'].nunique(), 'method')}. Tested on "
    f"{report.plural(lesion_count, 'lesion')} in {report.plural(sum(len(p['row']) for p in piles.values()), 'slice')} "
    f"of {people}."
    + f" Left out, since they have no lesion: {report.plural(left_out, 'patient')}." * bool(left_out)
)  # fmt: skip

# %% [markdown]
# ## What is measured
# - *Gain*: PSNR of the output minus PSNR of the LDCT, over all pixels, against the noise-free truth and against the
#   NDCT. The truth leads, since no network can know the noise of the NDCT.
# - *Contrast kept*: ⟨f(x + s) − f(x), s⟩ / ⟨s, s⟩, x the slice without lesions. It is 1 for a filter that does nothing
#   and 0 for one that removes every lesion.
#
# The unit of the second is the lesion: its slices and all pixels nearer to it than to another one are summed, and a
# patient's lesions weigh alike. Summed over a patient instead, the strong lesions, which carry up to 25 times the
# energy of a faint one, would decide.
#
# Two controls are measured as if they were networks. A blend of the MSE network must not be found better than its own
# blends. An oracle, which is told the lesions and gives back some of what the MSE network removed, must be.


# %%
def network_of(one):
    """The network of a run as a function of slices (N, H, W) in HU."""
    network = checkpoints.load_network(one.folder).to(device, memory_format=torch.channels_last)
    return partial(prediction.predict, network, batch=1, precision=precision, device=device)


def outputs(denoise, pile):
    """Output of the slices with and without lesions, float64 HU."""
    return [np.asarray(denoise(pile[name]), np.float64) for name in ("ldct", "absent_ldct")]


def variants(method, present, absent, pile):
    """(name, outputs with and without lesions): the method itself, of the reference also its two controls."""
    yield method, present, absent
    if method == base:
        given = [pile[name].astype(np.float64) for name in ("ldct", "absent_ldct")]  # or rounding would be a difference
        mixed = [control_share * x + (1 - control_share) * out for x, out in zip(given, (present, absent))]
        yield SAME, *mixed
        yield ORACLE, present + oracle_share * (pile["signal"] - (present - absent)), absent


SAME = f"control: MSE with {control_share:.0%} of its input".replace("%", " %")
ORACLE = f"control: MSE, told {oracle_share:.0%} of what it removed".replace("%", " %")
FILTERS = {
    **{("Gaussian", s): partial(ndimage.gaussian_filter, sigma=(0, s, s)) for s in gaussian_px},
    **{("median", n): partial(ndimage.median_filter, size=(1, n, n)) for n in median_px},
    **{("total variation", w): classical.build("tv", weight_hu=w, iterations=100, eps=1e-5) for w in tv_hu},
}


# %%
def look(head, present, absent, pile):
    """Rows of the two tables for a patient and what a method puts out."""
    squares = [
        head | dict(zip(("row", "target", "before", "both", "after"), (row, target, *values)))
        for target in TARGETS
        for row, values in zip(pile["row"], blending.mean_squares(pile["ldct"], present, pile[target]).T)
    ]
    kept = planted.kept_by_lesion(absent, present, pile["signal"], pile["nearest"])
    return squares, [head | {"lesion": number, "kept": share} for number, share in kept.items()]  # fmt: skip


def measure():
    """Both tables. A filter has the seed -1; of a network the strength is empty."""
    squares, lesions = [], []
    found = [*zip(listed["method"], listed["seed"], np.full(len(chosen), np.nan), map(network_of, chosen)),
             *((name, -1, strength, denoise) for (name, strength), denoise in FILTERS.items())]  # fmt: skip
    for method, number, strength, denoise in tqdm(found, desc="denoisers", unit="denoiser"):
        for patient, pile in piles.items():
            for name, present, absent in variants(method, *outputs(denoise, pile), pile):
                head = {"method": name, "seed": number, "strength": strength, "patient": patient}
                rows, parts = look(head, present, absent, pile)
                squares += rows
                lesions += parts
    run.table("lesions", lambda: pd.DataFrame(lesions))
    return pd.DataFrame(squares)


squares, lesions = run.table("squares", measure), run.table("lesions")


# %%
def method_of(name, target=leading, strength=None):
    """A method, or a filter of one strength, on the plane."""
    parts = [table[table["method"] == name] for table in (squares[squares["target"] == target], lesions)]
    parts = parts if strength is None else [part[part["strength"] == strength] for part in parts]
    return blending.measured(*parts)


arms = [name for name in listed["method"].unique() if name != base]
seeds = listed.groupby("method")["seed"].nunique()
trained_base = method_of(base)
over = partial(intervals.patient_bootstrap, draws=draws, seed=seed)  # a mean with its 95 % interval

# %% [markdown]
# ## What a linear filter of the same resolution would keep
# A resolution test measures the TTF at the edge of a strong insert. A linear filter with that TTF, applied to *s*,
# keeps what the test promises. A network is not linear: a faint lesion may fare otherwise. Only the first training of
# each method is looked at.


# %%
def linear_rows():
    """Contrast kept by the linear filter of equal TTF, a row a method: mean over lesions, then patients."""
    about = cohort.meta["parameters"]
    made = resolution.insert(ttf_hu, ttf_realisations, [seed, 14], about["kernel"])
    found = []
    for name, part in listed.groupby("method", sort=False):
        first = chosen[part["seed"].idxmin()]
        frequencies, transfer = resolution.transferred(made, network_of(first), about["dose"])
        each = []
        for pile in piles.values():
            passed = resolution.filtered(pile["signal"], frequencies, transfer)
            each.append(
                np.mean([*planted.kept_by_lesion(0 * passed, passed, pile["signal"], pile["nearest"]).values()])
            )
        found.append({"method": name, "kept": np.mean(each)})
    return pd.DataFrame(found)


linear = run.table("linear", linear_rows).set_index("method")["kept"]

# %% [markdown]
# ## Above the curve or not
# The blends of the MSE network make a curve from the network, or the mix with the least error, to the LDCT. Along it
# contrast kept grows linearly and the squared error quadratically, so it is computed and not sampled. Each loss is set
# beside the blend of equal error and beside the blend that keeps as much.
#
# Intervals are 95 % over patients and over trainings of both methods. They are not corrected for the number of losses.
# As another control the last trainings of the MSE network are set beside the first ones. With three trainings that
# interval is wide, so it finds gross faults only. How many *pairs* of trainings would differ if only patients were in
# the interval is told too.


# %%
def beside(name, target):
    """A method beside the blends of the reference, trainings paired."""
    return blending.compare(*blending.together(method_of(name, target), method_of(base, target)), draws, seed)


def other_seed(target):
    """The reference's later trainings, mixed with the input, beside the blends of its earlier ones."""
    mixed, whole = method_of(SAME, target), method_of(base, target)
    return blending.compare(mixed.of(mixed.seeds[1:]), whole.of(whole.seeds[:-1]), draws, seed)


OTHER = SAME + ", other trainings"
verdicts = {}
for target in TARGETS:
    verdicts |= {(name, target): beside(name, target) for name in [*arms, SAME, ORACLE]}
    if len(trained_base.seeds) > 1:
        verdicts[OTHER, target] = other_seed(target)


# %%
def row_of(name, target, found):
    """A verdict as a row of ``comparisons``."""
    row = {"method": name, "target": target, "answer": found.answer, "share": found.share,
           "seeds": found.gain.seeds, "patients": found.gain.patients}  # fmt: skip
    for quantity in ("gain", "kept", "gain_difference", "kept_difference", "less_error", "more_kept"):
        one = getattr(found, quantity)
        row |= {quantity: one.mean, f"{quantity}_low": one.low, f"{quantity}_high": one.high}
    return row


def luck():
    """Ordered pairs of trainings of the reference, and how many differ by an interval over patients alone."""
    pairs = list(itertools.permutations(trained_base.seeds, 2))
    mixed = method_of(SAME)
    found = [blending.compare(mixed.of([a]), trained_base.of([b]), draws, seed).less_error for a, b in pairs]
    return sum(bool(one.excludes_zero) for one in found), len(pairs)


different, pairs = luck()
compared = run.table("comparisons", lambda: pd.DataFrame([row_of(*key, one) for key, one in verdicts.items()]))
main = compared[compared["target"] == leading].set_index("method")
controls = {name: main["answer"][name] for name in (SAME, OTHER, ORACLE) if name in main.index}
faults = [name for name, said in controls.items() if (said == blending.BUYS) != (name == ORACLE)]
decidable = len(piles) >= intervals.MIN_PATIENTS and len(trained_base.seeds) > 1

# %% [markdown]
# ## The picture


# %%
LINES = {"Gaussian": ("#999999", "s", gaussian_px), "median": ("#999999", "^", median_px),
         "total variation": ("#000000", "v", tv_hu)}  # fmt: skip
order = main.drop(list(controls)).sort_values("more_kept", ascending=False)
style = {name: (plots.COLOURS[1 + i % 5], "oDPX*hs<"[i % 8]) for i, name in enumerate(arms)}
to = blending.curve(trained_base)
OPEN = (blending.OPEN, blending.FEW_PATIENTS, blending.FEW_TRAININGS)  # answers that decide nothing: grey


def draw_curves(axis):
    """The filters over their strength, and the blends with the band of their error."""
    for name, (colour, marker, strengths) in LINES.items():
        points = [method_of(name, strength=strength) for strength in strengths]
        axis.plot([p.gain().mean() for p in points], [p.kept.mean() for p in points], marker=marker, color=colour, ms=4,
                  lw=1, ls=":", label=f"{name}, by strength")  # fmt: skip
    path = np.linspace(to.best, 1, 41)
    spans = [over(to.base.gain(b) - to.slope(b) * (to.base.left(b) - to.left(b))) for b in path]
    kept = [to.left(b) for b in path]
    axis.fill_betweenx(kept, [s.low for s in spans], [s.high for s in spans], color=plots.COLOURS[0], alpha=0.2, lw=0)
    axis.plot([s.mean for s in spans], kept, color=plots.COLOURS[0], lw=2, label="blends of MSE and its input")
    dots = [b for b in shares if b >= to.best]
    axis.plot([to.gain(b) for b in dots], [to.left(b) for b in dots], "o", ms=3.5, color=plots.COLOURS[0])


# %%
def draw_plane(axis):
    """Gain against contrast kept: curves, and the losses with 95 % intervals in both directions."""
    draw_curves(axis)
    low, lowest = min([0, *main["gain_low"].fillna(main["gain"])[arms]]), to.left(to.best)
    lowest = min([lowest, *main["kept_low"].fillna(main["kept"])[arms]])
    for name in arms:
        row, (colour, marker) = main.loc[name], style[name]
        axis.errorbar(row["gain"], row["kept"], [[row["kept"] - row["kept_low"]], [row["kept_high"] - row["kept"]]],
                      [[row["gain"] - row["gain_low"]], [row["gain_high"] - row["gain"]]], color=colour, marker=marker,
                      ms=8, mec="black", mew=0.5, lw=1.2, ls="", label=spoken(name))  # fmt: skip
    axis.axvline(0, color="black", lw=0.8)
    axis.axhline(1, color="black", lw=0.8)
    axis.annotate("better", (0.97, 0.17), (0.83, 0.04), xycoords="axes fraction", arrowprops={"arrowstyle": "->"})
    axis.set(xlabel=f"gain in PSNR against the {TARGETS[leading]}, dB (0: LDCT)", ylabel="contrast of lesions kept",
             xlim=(low - 0.3, None), ylim=(lowest - 0.3 * (1 - lowest) - 1e-3, None))  # fmt: skip


def draw_distance(axis, quantity, label):
    """Distance of each loss from the blends, with its interval; grey where that holds 0."""
    for line, (name, row) in enumerate(order.iterrows()):
        low, high = row[f"{quantity}_low"], row[f"{quantity}_high"]
        colour, marker = (plots.COLOURS[7] if row["answer"] in OPEN else style[name][0]), style[name][1]
        axis.plot(row[quantity], line, marker, color=colour, ms=8, mec="black", mew=0.5)
        axis.hlines(line, low, high, color=colour)
    axis.axvline(0, color=plots.COLOURS[0], lw=2)
    axis.set_yticks(range(len(order)), [spoken(name) for name in order.index], fontsize=8)
    axis.margins(y=0.1)
    axis.xaxis.set_major_locator(MaxNLocator(4))
    axis.set(xlabel=f"{label} →")


# %%
reasons = [f"“{name}” came out as “{controls[name]}”" for name in faults if decidable]
reasons += ["there is no loss to compare"] * (not arms)
reasons += [f"under {intervals.MIN_PATIENTS} patients give no interval"] * (len(piles) < intervals.MIN_PATIENTS)
judged = order[order["seeds"] > 1]
reasons += ["one training of the MSE network shows no spread"] * (len(trained_base.seeds) < 2)
reasons += ["no loss was trained more than once"] * (bool(arms) and judged.empty)
named = {} if reasons else {said: list(part.index) for said, part in judged.groupby("answer", sort=False)}
buys, beyond = (named.get(said, []) for said in (blending.BUYS, blending.BEYOND))
lost = len(named.get(blending.LESS, [])) + len(named.get(blending.WORSE, []))


def sentence():
    """The answer, computed."""
    if reasons:
        return f"Not decided: whether a loss buys something, because {reasons[0]}."
    also = f" {', '.join(map(spoken, beyond))} has less error than any blend, but keeps less." * bool(beyond)
    also += f" A blend is better than {lost} of them." * bool(lost)
    if not buys:
        count = "The one loss was not shown" if len(judged) == 1 else f"None of {len(judged)} losses was shown"
        return f"{count} to be better than a blend of the MSE network with its input.{also}"
    row, count = order.loc[buys[0]], f" {len(buys)} of {len(judged)} losses lie above the blends." * (len(judged) > 1)
    return (
        f"{spoken(buys[0])} keeps {row['more_kept']:.3f} more of a lesion's contrast than the blend of the MSE network "
        f"with its input that has the same error (95 % interval {row['more_kept_low']:.3f} to "
        f"{row['more_kept_high']:.3f}).{count}{also}"
    )


said = sentence()

# %%
figure, axes = plt.subplots(1, 3, figsize=(14, 5.4), width_ratios=[2.2, 1, 1])
draw_plane(axes[0])
axes[2].sharey(axes[1])
draw_distance(axes[1], "more_kept", "contrast kept beyond\nthe blend of equal error")
draw_distance(axes[2], "less_error", "dB beyond the blend\nthat keeps as much")
axes[1].invert_yaxis()
axes[0].plot([], [], "o", color=plots.COLOURS[7], mec="black", mew=0.5, ms=8, label="right: undecided")
axes[2].tick_params(labelleft=False)
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
report.figure(
    run, "plane", figure,
    f"**{said}** Left: further right is less error, further up more of the lesions; filters go on beyond the frame. "
    "Right: the distance from the blends, compared within patients, so that it is known better than the points; the "
    "blue line is a blend, grey is undecided. "
    + ("No intervals: too few patients." if len(piles) < intervals.MIN_PATIENTS else
       f"Band and bars: 95 % over {people} and the trainings ({seeds.min()} to {seeds.max()} a loss)."),
)  # fmt: skip

# %% [markdown]
# One lesion, at which the best loss of the table keeps more or less beyond the MSE network than at half of the others.
# Below, what each passes on of it: the output with the lesion minus the output without.

# %%
SIDE = 56  # of the cut-out, pixels


def chosen_lesion(name):
    """(patient, lesion) with the median difference of what a method and the reference keep."""
    kept = lesions.groupby(["method", "patient", "lesion"])["kept"].mean().unstack("method")
    gap = (kept[name] - kept[base]).sort_values()
    return gap.index[len(gap) // 2]


def place_of(patient, lesion):
    """(slice of the patient in which a lesion adds most, corner of its cut-out, its middle in that, radius), pixels."""
    pile = piles[patient]
    own = np.where(pile["nearest"] == lesion, np.abs(pile["signal"]), 0)
    at = int((own**2).sum((1, 2)).argmax())
    inside = np.argwhere(own[at] > own[at].max() / 2)
    corner = [int(np.clip(m - SIDE // 2, 0, n - SIDE)) for m, n in zip(inside.mean(0), own.shape[1:])]
    return at, corner, inside.mean(0) - corner, np.ptp(inside, axis=0).max() / 2 + 4


def cut_out(name):
    """Target, LDCT, reference, blend of equal error and a method around one lesion: (2, 5, SIDE, SIDE), HU; the second
    row is what each passes on of the lesion."""
    patient, lesion = chosen_lesion(name)
    at, (top, left), *_ = place_of(patient, lesion)
    one, share = {key: value[at : at + 1] for key, value in piles[patient].items()}, float(main["share"][name])
    numbers = {method: part["seed"].idxmin() for method, part in listed.groupby("method")}
    plain, other = (outputs(network_of(chosen[numbers[method]]), one) for method in (base, name))
    given = [one["ldct"], one["absent_ldct"]]
    mixed = [share * x + (1 - share) * out for x, out in zip(given, plain)]
    target = [one[leading], one[leading] - one["signal"]]
    with_lesion, without = zip(target, given, plain, mixed, other)
    images = np.stack([np.concatenate(with_lesion), np.concatenate(with_lesion) - np.concatenate(without)])
    return images[:, :, top : top + SIDE, left : left + SIDE]


def draw_example(cut, name):
    """Two rows of panels, the lesion circled; returns the figure and where it was taken."""
    blend = f"{100 * (1 - float(main['share'][name])):.0f} % of MSE's change"
    titles = [fill(title, 22) for title in (TARGETS[leading], "LDCT", "MSE", blend, spoken(name))]
    patient, lesion = chosen_lesion(name)
    anatomy = cohort.slices.set_index("patient")["anatomy"].loc[[patient]].iloc[0]
    level, width = plots.window_at(float(cut[0, 0, *np.rint(place_of(patient, lesion)[2]).astype(int)]), anatomy)
    figure, axes = plt.subplots(2, 5, figsize=(13, 5.8))
    _, _, middle, radius = place_of(patient, lesion)
    energy = (cut[1, 0] ** 2).sum()
    for i, title in enumerate(titles):
        error = np.sqrt(((cut[0, i] - cut[0, 0]) ** 2).mean())
        plots.show(axes[0, i], cut[0, i], level, width, title + (f"\nerror {error:.1f} HU" if i else "\n"))
        drawn = plots.difference(axes[1, i], cut[1, i], np.abs(cut[1, 0]).max(),
                                 f"kept {(cut[1, i] * cut[1, 0]).sum() / energy:.2f}")  # fmt: skip
        for axis in axes[:, i]:
            axis.add_patch(plt.Circle(middle[::-1], radius, fill=False, color=plots.COLOURS[4], lw=1.2))
    figure.colorbar(drawn, ax=axes, label="passed on of the lesion, HU", shrink=0.5)
    millimetre = cohort.slices.set_index("patient")["pixel_mm"].loc[[patient]].iloc[0]
    axes[0, 0].plot([3, 3 + 10 / millimetre], [SIDE - 4] * 2, color="white", lw=3)
    axes[0, 0].text(3, SIDE - 6, "10 mm", color="white", fontsize=8)
    return figure, f"{patient}, lesion {lesion}, {anatomy}, {plots.window_text(level, width)}"


if len(order):
    shown_arm = order.index[0]
    cut = np.asarray(run.array("example", lambda: cut_out(shown_arm)))
    figure, where = draw_example(cut, shown_arm)
    report.figure(
        run, "lesion", figure,
        f"One lesion ({where}): {spoken(shown_arm)} beside the MSE network and its blend of equal error in all. "
        "The blend changes the input by the percentage given of what the network does. Errors and shares are of this "
        "cut-out and one training.",
    )  # fmt: skip
else:
    report.text("Without a loss to compare there is no cut-out.")

# %% [markdown]
# ## The table


# %%
def with_interval(row, quantity, form):
    """A mean and its interval in one cell; empty where there is none."""
    value = row[quantity]
    return f"{value:{form}} " + bracket(row[f"{quantity}_low"], row[f"{quantity}_high"], form.lstrip("+"))


def line(name, row):
    """A row of the table in words."""
    return {
        "loss": name if name in controls else spoken(name), "gain in PSNR, dB": with_interval(row, "gain", "+.2f"),
        "contrast kept": with_interval(row, "kept", ".3f"),
        "kept beyond the blend of equal error": with_interval(row, "more_kept", "+.3f"),
        "dB beyond the blend that keeps as much": with_interval(row, "less_error", "+.2f"),
        "kept by the linear filter of equal TTF": f"{linear[name]:.3f}" if name in linear else "",
        "answer": row["answer"],
    }  # fmt: skip


gain, kept = over(trained_base.gain()), over(trained_base.kept)
own = {
    "loss": f"{spoken(base)} (reference)",
    "gain in PSNR, dB": f"{gain.mean:+.2f} {bracket(gain.low, gain.high, '.2f')}",
    "contrast kept": f"{kept.mean:.3f} {bracket(kept.low, kept.high, '.3f')}",
    "kept beyond the blend of equal error": "", "dB beyond the blend that keeps as much": "",
    "kept by the linear filter of equal TTF": f"{linear[base]:.3f}",
    "answer": f"least error at {100 * (1 - to.best):.0f} % of its change",
}  # fmt: skip
shown = pd.DataFrame([*(line(*one) for one in order.iterrows()), own, *(line(n, main.loc[n]) for n in controls)])
changed = [spoken(n) for n in arms if len({found.answer for (m, _), found in verdicts.items() if m == n}) > 1]
report.table(
    run, "losses", shown,
    f"**{said}** Against the {TARGETS[leading]}; positive is better than a blend. 95 % intervals over {people} "
    "and trainings, not corrected for the number of losses. "
    + f"By patients alone {different} of {pairs} pairs of MSE trainings would differ. " * (pairs > 0 and decidable)
    + (f"Against the NDCT the answer is another one for {', '.join(changed)}." if changed else
       "Against the NDCT all answers are the same." if len(TARGETS) > 1 else ""),
)  # fmt: skip

# %% [markdown]
# ## Checks

# %%
nothing = planted.kept_by_lesion(*(next(iter(piles.values()))[n] for n in ("absent_ldct", "ldct", "signal", "nearest")))
assert all(share == 1 for share in nothing.values()), "a filter that does nothing does not keep all of a lesion"
assert np.isfinite(squares[["before", "both", "after"]]).all(axis=None) and np.isfinite(lesions["kept"]).all()
assert abs(main["more_kept"][SAME]) < 1e-6 or main["share"][SAME] in (to.best, 1), "a blend is off its own curve"
WIDE = {"gain_difference": wanted_db, "kept_difference": wanted_kept, "more_kept": wanted_kept, "less_error": None}
widths = {q: ((judged[f"{q}_high"] - judged[f"{q}_low"]) / 2).max() for q in WIDE}
known = {name: None if np.isnan(width) else float(width) for name, width in widths.items()}
reached = None not in known.values() and all(known[q] <= most for q, most in WIDE.items() if most)


def spans_of(quantity):
    """{loss: [mean, low, high]} of a quantity; None in place of a bound that is not known."""
    parts = order[[quantity, f"{quantity}_low", f"{quantity}_high"]].astype(object)
    return {spoken(name): [None if pd.isna(v) else float(v) for v in row] for name, *row in parts.itertuples()}


headline = {
    "answer": said, "decided": not reasons, "reasons": reasons, "buys": [spoken(name) for name in buys],
    "answers": {spoken(name): said_of for name, said_of in order["answer"].items()},
    "more_kept": spans_of("more_kept"), "less_error_db": spans_of("less_error"), "gain_db": spans_of("gain"),
    "kept": spans_of("kept"), "reference": {"name": spoken(base), "gain_db": gain.mean, "kept": kept.mean},
    "gain_difference_db": spans_of("gain_difference"), "kept_difference": spans_of("kept_difference"),
    "half_width_db": known["gain_difference"], "half_width_kept": known["kept_difference"],
    "half_width_more_kept": known["more_kept"], "half_width_less_error_db": known["less_error"],
    "wanted_kept": wanted_kept, "wanted_db": wanted_db, "reached": bool(reached), "against": TARGETS[leading],
    "patients": len(piles), "lesions": lesion_count, "seeds": {spoken(n): int(count) for n, count in seeds.items()},
    "controls": controls, "null_pairs": [different, pairs], "best_share": to.best,
    "kept_by_linear_filter": {spoken(n): float(share) for n, share in linear.items()},
}  # fmt: skip
run.finish(headline=headline)

# %%
width = (
    "No interval could be given." if None in known.values() else
    f"The widest interval of a difference from the MSE network is ±{known['gain_difference']:.2f} dB (wanted: "
    f"{wanted_db:g}) and ±{known['kept_difference']:.3f} of the contrast, beyond a blend ±{known['more_kept']:.3f} "
    f"(wanted: {wanted_kept:g})."
)  # fmt: skip
held = f"{len(controls) - len(faults)} of {report.plural(len(controls), 'control')} came out as they must."
report.text(
    f"**What we saw.** {said} The MSE network gains {gain.mean:.2f} dB and keeps {kept.mean:.2f} of a lesion's "
    f"contrast; a linear filter of equal TTF would keep {linear[base]:.2f}. {held if decidable else ''} {width} One "
    "limit: the lesions are simulated and each is seen with one noise. `06_stats` compares losses by their scores, "
    "`04b_dose` by detection."
)
