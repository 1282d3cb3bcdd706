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
# **Question.** Does a perceptual loss help, do scores see what a diagnosis needs, are newer networks better, do they
# save dose or hide lesions, and can quality be seen without a reference? Five answers from a study's finished runs.
#
# **Reads** finished runs of the other notebooks. A question whose notebook has no run stays open, and is named as open.
# Nothing is measured anew: each number was stored by the run that is named beside it.
# **Writes** `answers.parquet`, `front.json` (the first page of the report in words) and its pictures. **Cost** seconds.

# %% tags=["parameters"]
study: str = "adhoc"  # results go to outputs/<study>/12_answers/
run_name: str = ""  # what the run is called; empty takes what differs from the defaults
runs: list = []  # finished runs of other notebooks: their folders, or patterns such as default/06_stats/*

# %%
from ldct_utils.study.runs import select, start

run = start("12_answers", globals())

# %% tags=["hide-input"] jupyter={"source_hidden": true}
from ldct_utils import cohorts, report
from ldct_utils.answers import collect, front, pictures, said, words
from ldct_utils.answers.five import dose, newer, readers, scores
from ldct_utils.report import verdicts
from ldct_utils.report.drawings import front as drawn
from ldct_utils.study import files
from ldct_utils.training import transfer

# %% [markdown]
# ## What was found, in one sentence
# Every notebook stores its numbers when it ends. They are collected here, and one sentence is made of them. The same
# words stand in the README, in `docs/results.md` and on the first page of the report.

# %%
given = collect.by_notebook(select(runs))
if not given:
    raise ValueError("12_answers needs finished runs of the other notebooks: give runs, for example default/06_stats/*")
blocks = collect.blocks(given)
page = front.page(blocks)
report.text(f"**{page['sentence']}**")

# %% [markdown]
# ## What it looks like
# Before any number: a quarter of the dose, what a network makes of it, and the normal dose. Where the patients are
# simulated the noise-free truth stands beside them, and known lesions are circled.

# %%
networks = collect.networks(given)  # the first training of each loss, MSE first
loss, first = ("MSE", networks["MSE"]) if "MSE" in networks else next(iter(networks.items()), ("", None))
for name, rows, target in (
    ("hero_real", pictures.real_strip(first) if first else [], "the normal dose, which holds noise of its own"),
    ("hero", pictures.strips(first) if first else [], "the noise-free truth"),
):
    if rows:
        before, after, normal = rows[0]["errors"]
        besides = f"; at the normal dose it is {normal:.1f} HU" if normal else ""
        who = rows[0]["label"].split(", ")[0]
        circles = "" if name == "hero_real" else "Circles mark known lesions, some fainter than the noise. "
        doses = set(cohorts.of(first).slices["dose"]) if name == "hero" else {first.params["dose"]}
        of_dose = f"Low dose is {report.percent(doses.pop())} of the normal one. " if len(doses) == 1 else ""
        report.figure(
            run, name, drawn.strips(rows),
            f"{drawn.taken(loss, before, after)}{besides} ({who}, {rows[0]['anatomy']}).",
            f"Cut-outs; one slice a row. {of_dose}{circles}Errors are RMS differences over the whole slice, from "
            f"{target}.",
            alt="CT cut-outs in rows: low dose, denoised, normal dose, and the noise-free truth or a difference.",
            real=name == "hero_real",
        )  # fmt: skip

# %% [markdown]
# ## 1 · Does a perceptual loss help?
# A perceptual loss compares features of a VGG network instead of pixels. Its share ψ of the whole loss is set, and the
# weight λ follows. Two questions are kept apart: what the loss does to PSNR (`06_stats`), and what it keeps of a
# lesion's contrast beyond what a simpler way would keep (`14_tradeoff`).

# %%
losses = pictures.by_loss(dict(list(networks.items())[:3])) if len(networks) > 1 else None
if losses:
    report.figure(
        run, "losses", drawn.with_errors(**losses),
        drawn.least_and_most(losses),
        "Below each image is its difference from the noise-free truth. Circles mark known lesions. One training each.",
        alt="A CT cut-out denoised by networks of several losses, their noise-free truth, and the errors in colours.",
    )  # fmt: skip
if "14_tradeoff" in given:
    report.shown(run, "plane", given["14_tradeoff"][0])
if "06_stats" in given and "kept_drawn" in report.figures(given["06_stats"][0]):
    report.shown(run, "kept_drawn", given["06_stats"][0], called="kept_of_losses")

# %% [markdown]
# ## 2 · Do scores see what a diagnosis needs?
# The same scan is made with and without its lesions. A score that serves a diagnosis should fall more when every lesion
# is gone than when the dose is lower (`04c_metric_audit`). Then judges of all kinds are shown denoisers with one known
# fault, and their honest twins (`15_judges`).

# %%
removed = pictures.without_lesions(cohorts.of(first)) if first else None
if removed:
    with_lesions, gone, low = (round(error, 1) for error in removed["errors"])
    report.figure(
        run, "lesions_removed", drawn.strips([removed]),
        f"In this slice losing every lesion {scores.raised(gone - with_lesions)}, and cutting the dose "
        f"{scores.raised(low - with_lesions)}.",
        "All images are of one slice, with the same noise where the dose is the same. Errors are RMS differences from "
        "the noise-free truth.",
        alt="Four CT cut-outs: normal dose, the same without its lesions, low dose, and the lesions that were removed.",
    )  # fmt: skip
if "15_judges" in given:
    report.shown(run, "grid", given["15_judges"][0])

# %% [markdown]
# ## 3 · Are newer networks better?
# A method counts as better than the best one before it where the 95 % interval over patients and trainings says so
# (`11_denoisers`). Comparisons with too few patients or one training get no verdict, and are not counted.

# %%
if "newer" in blocks:
    compared = newer.table(blocks["newer"], blocks["newer_kept"])
    heads = {"method": "method, oldest first", "verdict": "verdict", "rival": "beside the best before it",
             ("gain", "gain_low", "gain_high"): "better in SSIM by", "psnr": "PSNR, dB", "rfs": "radiomic similarity",
             ("faint", "faint_low", "faint_high"): "contrast of faint lesions kept, %"}  # fmt: skip
    report.table(
        run, "newer", compared, newer.beaten(compared),
        f"Verdicts here are by SSIM; the answer is by {newer.asked_by(blocks['newer'])}. More is better in all "
        "columns. Means over the test slices in the window of each anatomy. Faint: under 25 HU; the LDCT keeps 100 %.",
        heads={of: head for of, head in heads.items() if (of[0] if isinstance(of, tuple) else of) in compared},
    )  # fmt: skip
    if "kept_drawn" in report.figures(given["11_denoisers"][0]):
        report.shown(run, "kept_drawn", given["11_denoisers"][0])

# %% [markdown]
# ## On a real CT
# Networks are scored on one real scan too, whose low dose was made by inserting noise. One patient shows no order.

# %%
real, absent = collect.on_real_ct(given)
if len(real):
    says = {name: words.called(name) for name in real["method"]}
    missing = f" Not asked: {report.listed(absent)}." if absent else ""
    report.table(
        run, "real_ct", real.assign(method=real["method"].map(says)),
        verdicts.gained_most(real, says, "PSNR", "dB", "On one real CT"),
        f"PSNR in HU against the scan's NDCT. One patient gives no interval; brackets: least and most of the trainings."
        f"{missing}", transfer.HEADS,
    )  # fmt: skip
else:
    report.text("No network of this study was scored on a real CT.")

# %% [markdown]
# ## 4 · Do networks save dose, and do they hide lesions?
# The dose at which a plain reconstruction is as good as the cleaned low-dose image depends on who is asked: a score, or
# a model observer that looks for a lesion (`04b_dose`, `04d_observers`). Then changes of the input are sought that the
# network ignores; a hidden lesion would be one of them (`05_invariances`).

# %%
saved = pictures.doses(given, readers.trusted(blocks) if "observers" in blocks else None, dose.whole_by_network(blocks))
if saved is not None:
    report.figure(
        run, "doses", drawn.doses(saved, pictures.judges(saved), blocks["dose"]["low_dose"], pictures.looks(saved)),
        dose.gap(saved, blocks["dose"]["low_dose"]),
        "A point is a network; of readers it is a network and a task in which some image was shown to raise d′. Grey: "
        "the best plain filter, of readers at its best task. Bars: 95 % intervals; arrows: beyond full dose.",
        alt="Dot plot: a line a score or reader, points of networks; dose of an image as good.",
    )  # fmt: skip
SHOWN = {"04b_dose": ("crops",), "05_invariances": ("aimed",) if dose.hides(blocks) else ()}
for notebook, names in SHOWN.items():
    for name in names:
        if notebook in given and name in report.figures(given[notebook][0]):
            report.shown(run, name, given[notebook][0])

# %% [markdown]
# ## 5 · Can quality be seen without a reference?
# Noise2Quality predicts a map of quality from one slice alone (`08_noise2quality`). It is compared with one constant
# number for the whole map.

# %%
if "08_noise2quality" in given:
    report.shown(run, "maps", given["08_noise2quality"][0])

# %% [markdown]
# ## All questions, one line each

# %%
answers = run.table("answers", lambda: said.answered(blocks))
open_ones = said.open_questions(blocks)
report.table(
    run, "answers_shown", answers,
    f"{report.plural(len(answers), 'question')} of the study {'has' if len(answers) == 1 else 'have'} an answer.",
    f"Open, because no run was given: {report.listed(open_ones)}" if open_ones else "No question is open.",
    heads={"question": "question", "answer": "answer", "notebook": "from"},
)  # fmt: skip

# %% [markdown]
# ## Checks
# Every answer names a notebook of which a run was given, and no question is lost.

# %%
assert set(answers.notebook) <= set(given), "an answer comes from no run"
assert len(answers) + len(open_ones) == len(said.QUESTIONS), "a question is missing"
files.write_json(run.folder / "front.json", page)
run.finish(
    runs=sum(map(len, given.values())), answers=len(answers), open_questions=len(open_ones),
    cohorts=sorted({one.numbers["cohort"] for of in given.values() for one in of if "cohort" in one.numbers}),
)  # fmt: skip

# %%
report.text(f"**What we saw.** {page['sentence']} {' '.join(page['sure'])}")
