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
# # 05b · Which denoiser hides most?
# **Question.** Networks were searched in the same way, on the same patients. How many known lesions could be changed
# without the network showing it, and how much of a lesion does each network pass on?
#
# **Reads** finished runs of `05_invariances`, and the cohort of the first. **Writes** the counts of lesions;
# `hidden.parquet` and `controls.parquet`: what networks and controls keep. **Cost** a minute on one core, for controls.
#
# Words: a *repeated scan* is the same patient at the same dose with new noise. A lesion counts as *changed* where it
# changed by more than a repeated scan changes it, and as *hidden* where the output does not follow. d′ says how well a
# model observer tells "lesion" from "no lesion"; 0 is guessing.

# %% tags=["parameters"]
study: str = "adhoc"  # results go to outputs/<study>/05b_what_denoisers_hide/
run_name: str = ""  # what the run is called; empty takes what differs from the defaults
runs: list = ["adhoc/05_invariances/*"]  # run folders or globs, relative to outputs/; the first one is compared with
draws: int = 10000  # bootstrap draws over patients
seed: int = 0  # seeds the bootstrap

# %%
from ldct_utils.study.runs import start

run = start("05b_what_denoisers_hide", globals())

# %% tags=["hide-input"] jupyter={"source_hidden": true}
from functools import partial

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from ldct_utils import report
from ldct_utils.invariance import comparison as hiding
from ldct_utils.invariance import kept_by_controls, summary
from ldct_utils.report.drawings import methods as drawings
from ldct_utils.study.runs import load, select
from ldct_utils.training.designs import spoken

# %% [markdown]
# ## The networks
# Runs compare only if they looked at the same patients in the same way; others are refused by name.

# %%
looked = hiding.named(select(runs))
says = {name: spoken(name.removeprefix("unet · ")) for name in looked}
report.text(f"Searches were made on {report.listed(says.values())}.")

# %% [markdown]
# ## Were known lesions changed, and hidden?
# A search looks for a change of the input that the network does not pass on. Only changed lesions can be hidden: where
# none was changed, nothing was tested.

# %%
counts = run.table("lesion_counts", lambda: hiding.lesion_counts(looked))
shown = summary.shown(counts, {}).assign(denoiser=counts["denoiser"].map(says))
changed, tested = hiding.searched(counts)
report.table(
    run, "hidden_counts", shown,
    f"By more than a repeated scan would, searches changed the lesion in {report.some(changed, tested, 'try')}.",
    "A try is a lesion, a network and a way of searching. A small change pays for a search only where the network "
    f"passes on less than {report.percent(hiding.findable(looked))} of it. {summary.seeming(counts)}", hiding.COUNTS,
)  # fmt: skip

# %% [markdown]
# ## How much of a lesion is passed on?
# No search is needed for this. A known lesion is put into the input; what reaches the output is measured in three ways:
# contrast, and d′ of two model observers. *CHO, retrained* (channelised Hotelling) allows for the texture of the noise
# and learns anew on each network's images: it is a ceiling. *NPW* (non-prewhitening) does not allow for the texture.
#
# Controls see the same scans. The LDCT itself must keep everything, and an eraser that knows the lesions must keep no
# contrast. Filters tell what a share is worth: a blur lowers contrast, unsharp masking raises it without a better scan.
# The noise-free truth is left out: it keeps all contrast, and without noise d′ has no limit.

# %%
by_denoiser = {name: hiding.kept(one) for name, one in looked.items()}
hidden = run.table("hidden", lambda: hiding.compared(by_denoiser, draws, seed))
of_contrast = hidden[hidden["quantity"] == "contrast kept"].set_index("denoiser")["mean"]
first, *others = looked
people, told = by_denoiser[first]["contrast kept"].size, hiding.least_kept(hidden, says)

# %%
least, on_scans_of = of_contrast.idxmin(), looked[first]
controls = run.table("controls", lambda: kept_by_controls.measured(
    on_scans_of, load(on_scans_of.params["denoiser"]), partial(tqdm, desc="controls", unit="crop"),
))  # fmt: skip
beside = run.table("hidden_controls",
                   lambda: kept_by_controls.beside(controls, least, by_denoiser[least], draws, seed))  # fmt: skip
of_filters = kept_by_controls.said(beside, says[least], len(looked))
both = pd.concat([hidden, beside]).replace({"denoiser": says | kept_by_controls.LABELS})

# %%
grey = [words for name, words in kept_by_controls.LABELS.items() if name != kept_by_controls.ERASER]
report.figure(
    run, "hidden_drawn", drawings.shares_kept(both, says.values(), hiding.QUANTITIES, grey), told,
    "On the dotted line all of it is kept; more d′ helps the observer. Grey lines are controls; the eraser stands in "
    f"the table. {report.bars(people, 'patient')}",
    "Dots with intervals, a line a network or control: shares of d′ of two observers and of contrast that are kept.",
)  # fmt: skip
report.table(
    run, "kept", hiding.side_by_side(both), of_filters,
    f"Networks first, then controls. {report.bars(people, 'patient', drawn='Brackets')}", hiding.KEPT,
)  # fmt: skip

# %% [markdown]
# Differences from the first network, paired by patient. An interval that holds 0 decides nothing.

# %%
apart = hidden.dropna(subset=["its low"]) if others else hidden[:0]
decided = (apart["its low"] > 0) | (apart["its high"] < 0) if others else []
versus = hiding.differences(apart, says, first) if len(apart) else "No difference between networks is decided."
if not others:
    report.text("One network has none to be compared with.")
elif apart.empty:
    report.text("Too few patients for an interval: no difference between networks is decided.")
else:
    span = [f"minus {first}", "its low", "its high"]
    shown = apart.assign(**100 * apart[span]).replace({"denoiser": says, "quantity": hiding.QUANTITIES})
    report.table(
        run, "apart", shown, versus,
        f"In percentage points, minus those of {says[first]}; positive keeps more. One training each.",
        {"denoiser": "network", "quantity": "quantity", tuple(span): "difference [95 %]"},
    )  # fmt: skip

# %% [markdown]
# ## Checks

# %%
assert counts["changed"].le(counts["tested"]).all() and counts["hidden"].le(counts["changed"]).all()
assert np.isfinite(both["mean"]).all(), "a share that is kept could not be taken"
kept_by_controls.check(controls)

# %%
run.finish(networks=len(looked), tested=tested, changed=changed, decided=int(sum(decided)),
           contrast_kept={name: float(value) for name, value in of_contrast.items()},
           contrast_kept_by_controls=kept_by_controls.contrast(beside))  # fmt: skip

# %%
searched = (
    f"Searches changed the lesion in {report.some(changed, tested, 'try')}" if changed
    else f"Searches changed no lesion in {report.plural(tested, 'try')}, so whether one can be hidden was not tested"
)  # fmt: skip
report.text(
    f"**What we saw.** {told} {versus} {of_filters} {searched}. The limit is one training a network; `15_judges` tests "
    "the search itself on denoisers that are known to hide."
)
