"""The numbers of README.md and docs/results.md: written from stored results, and what refuses to be."""

import json
import re
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pandas as pd
import pytest
from conftest import ROOT
from PIL import Image

sys.path.insert(0, str(ROOT / "workflow"))

import results
import results_blocks

from ldct_utils.answers import said as answers
from ldct_utils.answers import words
from ldct_utils.answers.collected import hidden, readers, spans, structures, trainings
from ldct_utils.answers.five import newer
from ldct_utils.judges import verdicts
from ldct_utils.models import textbook
from ldct_utils.report import page
from ldct_utils.study import files, runs
from ldct_utils.task_based import tasks
from ldct_utils.training import designs

STORED = sorted(p.stem for p in (ROOT / "docs" / "results").glob("*.json"))
GAIN = {"truth": {"value": 2.5, "low": 2.0, "high": 3.0}}


@pytest.fixture
def pages(tmp_path, monkeypatch):
    """A copy of the pages and the stored files in a root of its own."""
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copy(ROOT / "README.md", tmp_path)
    monkeypatch.setenv("LDCT_STUDY_ROOT", str(tmp_path))
    return tmp_path


@pytest.fixture
def finished(tmp_path, monkeypatch):
    """A function that writes a study of made runs, {notebook: (numbers, tables)}, and returns its outputs folder."""
    monkeypatch.setenv("LDCT_STUDY_ROOT", str(tmp_path))
    monkeypatch.setenv("LDCT_OUTPUTS", str(tmp_path / "outputs"))
    (tmp_path / "params").mkdir()
    (tmp_path / "params" / "made.yaml").write_text("notebooks: {01_data: }")

    def write(of: dict, params=None, **result):
        plan = []
        for number, (notebook, (numbers, tables)) in enumerate(of.items()):
            folder = tmp_path / "outputs" / "made" / notebook / f"run-{number:08x}"
            folder.mkdir(parents=True, exist_ok=True)
            for name, table in tables.items():
                table.to_parquet(folder / f"{name}.parquet")
            about = {"notebook": notebook, "numbers": numbers, "parameters": {"precision": "bf16"} | (params or {})}
            about |= {"commit": "0123456789", "dirty": False, "seconds": 60.0, "finished": "2026-01-02T03:04:05+00:00"}
            about |= {"files": {p.name: files.sha256(p) for p in folder.glob("*.parquet")}} | result
            (folder / "result.json").write_text(json.dumps(about))
            plan.append({"notebook": notebook, "name": f"run{number}", "folder": f"made/{notebook}/{folder.name}"})
        (tmp_path / "outputs" / "made" / "plan.json").write_text(json.dumps(plan))
        return tmp_path / "outputs" / "made"

    return write


COHORT = {
    "patients": 30,
    "test_patients": 10,
    "slices": 120,
    "checks_off": 0,
    "ndct_noise_hu": 9.65774,
    "added_noise_hu": 1,
}


# ---- the pages ----
@pytest.mark.parametrize("page", results.PAGES)
def test_every_block_is_what_the_command_writes_from_the_stored_files(page):
    assert results.filled(page) == (ROOT / page).read_text(encoding="utf-8"), "run `make results STUDY=`"


def test_the_first_page_stays_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 160


@pytest.mark.parametrize("page", results.PAGES)
def test_one_changed_digit_is_found_and_written_over(page, pages, monkeypatch):
    text = (pages / page).read_text(encoding="utf-8")
    inside = next(m for m in re.finditer(r"<!-- results: .*?<!-- end -->", text, re.DOTALL) if re.search(r"\d", m[0]))
    digit = inside.start() + re.search(r"(?<=\s)\d", inside[0]).start()
    (pages / page).write_text(text[:digit] + str((int(text[digit]) + 1) % 10) + text[digit + 1 :], encoding="utf-8")
    assert results.filled(page) == text != (pages / page).read_text(encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["results.py"])
    assert results.main() == 0
    assert (pages / page).read_text(encoding="utf-8") == text


def test_a_changed_number_in_a_stored_file_changes_the_block(pages):
    path = pages / "docs" / "results" / "real_ct_test.json"
    known = files.read_json(path)["blocks"]["plain"]["rows"][0][1]
    path.write_text(path.read_text(encoding="utf-8").replace(f'"{known}"', '"9.99"'), encoding="utf-8")
    assert "9.99" in results.filled("docs/results.md") and known not in results.filled("docs/results.md")


@pytest.mark.parametrize(
    ("comment", "error", "message"),
    [
        ("default nonsense", ValueError, "no block 'nonsense'; known: .*dose"),
        ("nowhere dose", FileNotFoundError, "no docs/results/nowhere.json .*make results STUDY=nowhere"),
        ("default noise2quality quality", ValueError, r"2 studies \(default, noise2quality\); a block is of one study"),
        ("default,noise2quality quality", ValueError, "2 studies"),
        ("default noise2quality", ValueError, "2 studies"),
        ("default", ValueError, "has 1 names; a block is of one study: STUDY BLOCK"),
        ("noise2quality plain", ValueError, "noise2quality.json holds no block 'plain'"),
    ],
)
def test_a_block_that_names_something_else_is_refused(comment, error, message, pages):
    (pages / "README.md").write_text(f"<!-- results: {comment} -->\n<!-- end -->\n")
    with pytest.raises(error, match=message):
        results.filled("README.md")


def test_a_comment_that_is_not_closed_is_refused(pages):
    (pages / "README.md").write_text("<!-- results: default dose -->\nno end\n")
    with pytest.raises(ValueError, match=r"without its `<!-- end -->`"):
        results.filled("README.md")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_stored_number_that_is_not_finite_is_refused(number, pages):
    path = pages / "docs" / "results" / "noise2quality.json"
    path.write_text(path.read_text(encoding="utf-8").replace("0.485", number, 1), encoding="utf-8")
    with pytest.raises(ValueError, match=r"noise2quality.json: .*not a finite number"):
        results.load("noise2quality")


def test_a_file_of_another_study_is_refused(pages):
    shutil.copy(pages / "docs" / "results" / "default.json", pages / "docs" / "results" / "other.json")
    with pytest.raises(ValueError, match=r"other.json is of study 'default'"):
        results.load("other")


def test_a_block_that_lacks_a_number_says_which(pages):
    stored = results.load("noise2quality")
    del stored["blocks"]["quality"]["pairs"]
    with pytest.raises(ValueError, match=r"noise2quality.json: block quality lacks a number: .*pairs"):
        results_blocks.write("quality", stored)


@pytest.mark.parametrize("study", STORED)
def test_every_stored_file_says_where_it_comes_from_and_names_no_machine(study):
    text = (ROOT / "docs" / "results" / f"{study}.json").read_text(encoding="utf-8")
    stored = json.loads(text)
    assert stored["collected"] in (results.COMMAND, results.HAND)
    assert len(text) < 80_000 and not re.search(r"(?<!\w)/(home|tmp|work|root|usr)/", text)
    said = results_blocks.source(stored)
    assert f"`{study}`" in said and "commit" in said and "CPU" in said
    assert ("by hand" in said) == (stored["collected"] == results.HAND)
    for name, digest in stored["pictures"].items():
        assert files.sha256(ROOT / "docs" / "results" / f"{study}-{name}.png") == digest


LINKED = ("running", "studies", "map", "words", "terms", "reliability")


@pytest.mark.parametrize("page", [*results.PAGES, "CONTRIBUTING.md", *(f"docs/{name}.md" for name in LINKED)])
def test_links_of_a_page_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r'(?:\]\(|src=")(?!https?:)([^)"\s]+)[)"]', text):
        path, _, heading = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert heading in {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}, target


# ---- collecting ----
def test_a_study_that_was_not_run_or_not_finished_is_refused(finished):
    with pytest.raises(FileNotFoundError, match=r"no study file params/absent.yaml; known: made"):
        results.Study("absent")
    with pytest.raises(FileNotFoundError, match=r"study made has not been run.*make study STUDY=made"):
        results.Study("made")
    folder = finished({"01_data": (COHORT, {}), "06_stats": ({}, {})})
    next(folder.glob("06_stats/*/result.json")).unlink()
    with pytest.raises(ValueError, match="study made: 1 of 2 runs are not finished: 06_stats/run1; run `make study"):
        results.collect("made")


def test_what_is_collected_says_where_it_comes_from(finished, tmp_path):
    finished({"01_data": (COHORT, {})}, {"threads": 1, "device": "cpu"}, cpu={"kind": "AMX", "cores": 2})
    stored = json.loads(results.collect("made").read_text())
    expected = {"commits": ["0123456"], "dirty": False, "cpu": ["AMX"], "cores": 2, "precision": ["bf16"], "runs": 1}
    assert stored["provenance"].items() >= expected.items() and stored["collected"] == results.COMMAND
    assert stored["blocks"] == {"cohort": COHORT | {"ndct_noise_hu": 9.65774, "source": None}}
    assert results.load("made") == stored
    said = results.rendered("made cohort", "README.md")
    assert said.startswith("30 simulated patients with 120 slices, 10 of them for testing; all checks are within")
    assert "commit 0123456, 2 January 2026, 1 run in 1 min on 2 cores, CPU with AMX, computed in bf16" in said
    assert "Another kind of CPU or precision gives other networks." in said
    assert results.rendered("made dose", "README.md").startswith("The study `made` did not run `04b_dose`.")


def test_changes_that_were_not_committed_and_an_unknown_cpu_are_said(finished):
    finished({"01_data": (COHORT, {})}, dirty=True)
    results.collect("made")
    said = results.rendered("made cohort", "README.md")
    assert "commit 0123456 with uncommitted changes" in said and "CPU of unknown kind" in said


def test_what_the_command_writes_itself_does_not_count_as_a_change(tmp_path, monkeypatch):
    monkeypatch.setenv("LDCT_STUDY_ROOT", str(tmp_path))
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    written = [tmp_path / name for name in (*results.PAGES, "docs/results/made.json")]
    for path in (*written, tmp_path / "code.py"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("one")
    for words_of_git in (["init", "-q"], ["add", "."], ["commit", "-qm", "one"]):
        subprocess.run(git + words_of_git, check=True)
    for path in written:
        path.write_text("two")
    assert not results.tree_changed()
    (tmp_path / "code.py").write_text("two")
    assert results.tree_changed()


def test_a_number_that_is_not_finite_is_not_collected_and_one_that_is_absent_becomes_null(finished):
    assert results.rounded({"a": [1.2345678, float("nan"), 7]}) == {"a": [1.23457, None, 7]}
    finished({"01_data": (COHORT | {"ndct_noise_hu": float("inf")}, {})})
    with pytest.raises(ValueError, match="made: block cohort of 01_data: inf is not a finite number"):
        results.collect("made")


def test_minutes_count_once_what_went_at_the_same_time_and_no_idle_time():
    ends = [("03:10", 600), ("03:08", 300), ("09:00", 60)]  # the second inside the first, the third hours later
    went = [{"finished": f"2026-01-01T{end}:00+00:00", "seconds": float(s)} for end, s in ends]
    assert runs.minutes_busy(went) == pytest.approx(11)


def influence_tables(methods):
    gains = [
        {"method": m, "domain": "hu", "reference": r, "metric": "psnr", "gain": 2.0, "low": 1.0, "high": 3.0,
         "patients": 10, "seeds": 3}
        for m in methods for r in ("ndct", "truth")
    ]  # fmt: skip
    effects = [
        {"reference": "truth", "metric": "psnr", "method": m, "base": "mse", "difference": d, "low": d - 0.1,
         "high": d + 0.1}
        for m, d in methods.items() if d is not None
    ]  # fmt: skip
    shares = pd.DataFrame(
        {"test": ["Wilcoxon over slices", "Wilcoxon over patients"], "share significant": [0.3, 0.05]}
    )
    return {"gains": pd.DataFrame(gains), "psi_effects": pd.DataFrame(effects), "swaps_share": shares}


def test_the_network_of_a_study_is_named_in_its_question():
    rows = [{"method": "mse", "trainings": 3, "gain_db": {"truth": {"value": 2.0, "low": 1.0, "high": 3.0}},
             "over_mse_db": {}}]  # fmt: skip
    for network, name in (({}, "U-Net"), ({"network": "denomamba"}, "DenoMamba"), ({"network": "cnn10"}, "CNN-10")):
        block = {"domain": "hu", "patients": 10, "rows": rows, "swapped": {}} | network
        assert f"*Does a {name} trained with MSE improve" in results_blocks.losses.influence({"influence": block})


ARMS = [{"mse": None, "vgg · a · random · ψ 0.95": -1.0}, {"mse": None, "new": 0.4, "l1 · x": -0.5}, {"mse": None}]


@pytest.mark.parametrize("arms", ARMS)
def test_losses_may_come_and_go(arms, finished):
    finished({"06_stats": ({"methods": len(arms)}, influence_tables(arms))}, {"domain": "hu"})
    results.collect("made")
    said = results.rendered("made influence", "docs/results.md")
    assert all(f"| {words.called(name)} | 3 | 2.00 [1.00, 3.00] | 2.00 [1.00, 3.00] |" in said for name in arms)
    assert "PSNR in HU" in said and "in 30 % of trials, where 5 % would be right" in results.rendered(
        "made swaps", "README.md"
    )


def test_both_forms_of_the_nulls_are_read(finished):
    tests = {"slices": 60.0, "patients": 10.0, "interval": float("nan"), "mixed": 12.0}
    nulls = pd.DataFrame([
        {"null": "labels swapped", "metric": "psnr", "cases": 200} | tests,
        {"null": "other training", "metric": "psnr", "cases": 27} | tests
        | {"patients": 20.0, "sd": 0.13, "low": 0.1, "high": 0.2, "methods": 9},
    ])  # fmt: skip
    tables = influence_tables({"mse": None}) | {"nulls": nulls}
    del tables["swaps_share"]
    finished({"06_stats": ({"methods": 1}, tables)}, {"domain": "hu"})
    results.collect("made")
    found = results.load("made")["blocks"]["influence"]
    assert found["swapped"] == {"Wilcoxon over slices": 0.3, "Wilcoxon over patients": 0.05, "mixed model": 0.06}
    said = results.rendered("made influence", "README.md")
    assert "an SD of 0.13 dB (95 % interval 0.10 to 0.20)" in said and "calls 20 of 27 such pairs different" in said


# ---- words ----
def test_names_and_numbers_in_words():
    method = "vgg · block3_conv2 · edges · ψ 95 % at start"
    assert words.called(method) == "MSE + VGG (block3_conv2, edges, ψ 95 % at start)" == designs.spoken(method)
    assert words.called("LDCT") == "low-dose input" and words.called("unet") == "U-Net"
    assert words.called("mse · residual False") == "MSE (no skip connection)" and words.called("new") == "new"
    assert words.fixed(-0.004) == "0.00" and words.fixed(-1.5, 1) == "−1.5" and words.percent(0.256) == "26 %"
    span = {"value": -0.33, "low": -1.0, "high": 0.34}
    assert words.compared(span, "dB", "MSE") == "0.33 dB worse than MSE (95 % interval 1.00 worse to 0.34 better)"
    span = {"value": -2.1, "low": -3.4, "high": -1.1}
    assert words.compared(span, "dB", "MSE") == "2.10 dB worse than MSE (95 % interval 1.10 to 3.40)"
    assert words.compared({"value": 0.2}, "dB", "MSE").endswith("(no interval: too few patients or trainings)")
    assert words.cell({"value": 0.99, "low": 0.98, "high": None}) == "0.99 [0.98, beyond]"
    assert words.table(["a", "b"], [["", 1], ["", 2]]) == "| b |\n| --- |\n| 1 |\n| 2 |"


def arm(method, value=None, half=0.1, trainings=3):
    over = {} if value is None else {"truth": {"value": value, "low": value - half, "high": value + half}}
    return {"method": method, "trainings": trainings, "gain_db": GAIN, "over_mse_db": over}


@pytest.mark.parametrize(
    ("rows", "start"),
    [
        ([arm("mse")], "The study compared no perceptual loss with MSE."),
        ([arm("mse"), arm("vgg", -0.5)], "No. The one perceptual loss, MSE + VGG, is 0.50 dB worse than MSE"),
        (
            [arm("vgg", -0.5), arm("vgg_only", -1.0)],
            "No. All 2 perceptual losses are worse in PSNR. The best, MSE + VGG, is",
        ),
        ([arm("vgg", 0.05), arm("vgg_only", -1.0)], "Not shown for any of 2 perceptual losses."),
        ([arm("vgg", 0.5), arm("vgg_only", -1.0)], "Yes, 1 of 2 perceptual losses."),
        ([arm("vgg", 0.5), arm("vgg_only", 0.4)], "Yes, all."),
        ([arm("vgg", 2.0, trainings=1)], "Not decided by one training. The one perceptual loss, MSE + VGG, is 2.00 dB"),
        (
            [arm("vgg", 2.0, trainings=1), arm("vgg_only", 1.0, trainings=1)],
            "Not decided by one training each. The best,",
        ),
        ([arm("vgg", 0.05), arm("vgg_only", 2.0, trainings=1)], "Not shown. The one perceptual loss, MSE + VGG,"),
    ],
)
def test_what_a_perceptual_term_does_has_a_sentence_for_every_case(rows, start):
    assert answers.perceptual({"influence": {"rows": rows}}).startswith(start)


def searched(tested, changed, hidden):
    return {"search": {"tested": tested, "changed": changed, "hidden": hidden}}


@pytest.mark.parametrize(
    ("rows", "start"),
    [
        ([{}], "Not asked"),
        ([searched(10, 0, 0)], "Not known."),
        (
            [searched(10, 2, 0), searched(10, 0, 0)],
            "No, of 10 known lesions; the search changed at most 2 (2 trained networks).",
        ),
        (
            [searched(16, None, 3), searched(16, None, 0)],
            "Yes, by 1 of 2 trained networks: at most 3 of 16 known lesions.",
        ),
        ([searched(16, 4, 4)], "Yes, by the network: at most 4 of 16 known lesions."),
        (
            [searched(16, 1, 1)],
            "Not shown. At most 1 of 16 known lesions is hidden (1 trained network), and other scans alone change 5 % "
            "of lesions as much.",
        ),
    ],
)
def test_what_is_hidden_has_a_sentence_for_every_case(rows, start):
    assert answers.hidden({"invariances": {"rows": rows}}).startswith(start)


def test_what_a_search_changed_stands_in_every_row_and_hidden_is_a_share_of_it():
    def row(network, search, aimed, **more):
        ways = {
            name: dict(zip(("tested", "changed", "hidden"), c)) for name, c in (("search", search), ("aimed", aimed))
        }
        return {"network": network, "method": "mse", "patients": 6, "alpha": 0.1} | ways | more

    rows = [row("cnn10", (16, 4, 4), (16, 1, 0)), row("unet", (16, 0, 0), ())]
    said = results_blocks.hidden.invariances({"invariances": {"rows": rows}})
    assert "| CNN-10, MSE | 4 of 16, 4 of 4 changed are hidden | 1 of 16, 0 of 1 changed is hidden |" in said
    assert "| U-Net, MSE | 0 of 16, hiding not tested |  |" in said and "limit for small" not in said
    rows[0] |= {"within_reach": 3, "lesions": 16}
    said = results_blocks.hidden.invariances({"invariances": {"rows": rows}})
    assert (
        "lesions kept below the limit for small changes |" in said
        and "| 3 of 16 |" in said
        and "| not counted |" in said
    )
    old = {"tested": 16, "changed": None, "hidden": 3}
    assert results_blocks.hidden.found_by(old) == "not recorded, 3 of 16 changed and hidden"


def test_how_many_lesions_a_search_could_have_changed_is_taken_where_a_run_counted_them(monkeypatch):
    monkeypatch.setattr(hidden, "has", lambda run, name: False)
    n = {"method": "mse", "network": "unet", "patients": 6}
    runs = [
        SimpleNamespace(numbers=n | more, params={"alpha": 0.1, "iterations": 1500})
        for more in ({}, {"within_reach": 0, "lesions": 9})
    ]
    old, new = hidden.invariances(runs)["rows"]
    assert "within_reach" not in old and (new["within_reach"], new["lesions"]) == (0, 9)


def test_detection_is_said_with_its_direction():
    def of(*spans):
        named = {f"m{i}": {"worth": {"d' (CHO)": dict(zip(("value", "low", "high"), s))}} for i, s in enumerate(spans)}
        return answers.detection({"dose": {"low_dose": 0.25, "methods": named}})

    same, more, less = (0.25, 0.24, 0.26), (0.3, 0.28, 0.32), (0.2, 0.18, 0.22)
    assert of(same).endswith("the network is not shown to save dose.") and of(more).endswith("the network saves dose.")
    assert of(less).endswith("the network costs dose.") and of(same, same).endswith(
        "none of 2 networks is shown to save any, and none could: it is a ceiling."
    )
    within, endless = (
        (0.253, 0.251, 0.257),
        (0.3, 0.28, None),
    )  # half a point of the dose is none; no interval, no verdict
    for undecided in (within, endless):
        assert of(undecided).endswith("the network is not shown to save dose.")
    assert of(same, more, less).endswith(
        "1 of 3 networks saves and 1 costs dose: the cleaned images are as good as 20.0 to 30.0 % of the dose."
    )


def test_questions_that_a_study_does_not_answer_are_named():
    said = answers.answers({"tradeoff": {"answer": "It takes contrast."}})
    assert "| It takes contrast. |" in said and "Not answered by this study: “Does a U-Net trained with MSE" in said


@pytest.mark.parametrize("stored", ["It takes contrast.", {"answer": "It takes contrast."}])
def test_a_headline_is_a_sentence_or_holds_one(stored, finished):
    finished({"14_tradeoff": ({"headline": stored}, {})})
    results.collect("made")
    assert "It takes contrast." in results.rendered("made tradeoff", "README.md").splitlines()[0]
    assert "stored no such picture" in results.rendered("made tradeoff_picture", "README.md")


def test_a_trade_off_is_told_by_loss_with_its_intervals(finished):
    columns = {"gain_db": [2.5, 2.0, 3.0], "kept": [0.77, 0.7, 0.8], "more_kept": [0.05, 0.01, 0.09]}
    headline = {"answer": "MSE + VGG buys contrast.", "answers": {"MSE + VGG": "buys"}, "patients": 10}
    headline |= {name: {"MSE + VGG": span} for name, span in columns.items()} | {"null_pairs": [2, 3]}
    headline |= {"less_error_db": {"MSE + VGG": [0.1, None, None]}, "half_width_kept": 0.04, "half_width_db": 0.3}
    headline |= {"wanted_kept": 0.04, "wanted_db": 0.35}
    finished({"14_tradeoff": ({"headline": headline}, {})})
    results.collect("made")
    said = results.rendered("made tradeoff", "docs/results.md")
    assert "| MSE + VGG | 2.50 [2.00, 3.00] | 77.0 [70.0, 80.0] | 5.0 [1.0, 9.0] | 0.10 | buys |" in said
    assert "±4.0 points of contrast, where 4 was wanted, and ±0.30 dB, where 0.35 was wanted." in said
    assert "2 of 3 comparisons of MSE trainings with each other" in said


def test_a_dose_beyond_the_normal_one_is_said_so():
    beyond, known = spans.span(*[float("inf")] * 3), spans.span(0.25, 0.24, float("inf"))
    assert words.cell(beyond) == "beyond [beyond, beyond]" and words.cell(known) == "0.25 [0.24, beyond]"
    dose = {"low_dose": 0.25, "methods": {"mse": {"worth": {"RMSE ↓": beyond, "d' (CHO)": known}}}}
    said = answers.doses({"dose": dose})
    assert "is as good as more than the full dose by RMSE." in said and "25 % to a Hotelling observer" in said


def test_a_small_marker_keeps_its_colour_in_the_picture_for_the_repository(tmp_path):
    colours = [(0, 158, 115), (213, 94, 0), (204, 121, 167), (230, 159, 0), (0, 114, 178)]
    image = Image.effect_mandelbrot((900, 600), (-2, -1, 1, 1), 90).convert("RGB")  # many greys, as of smooth edges
    for number, colour in enumerate(colours):
        image.paste(colour, (100 + 50 * number, 300, 106 + 50 * number, 306))
    image.save(tmp_path / "figure.png")
    page.compress(tmp_path / "figure.png", tmp_path / "small.png")
    with Image.open(tmp_path / "small.png") as small:
        shown = [small.convert("RGB").getpixel((103 + 50 * number, 303)) for number in range(len(colours))]
    assert all(max(abs(a - b) for a, b in zip(*pair)) < 16 for pair in zip(shown, colours)), shown


@pytest.mark.parametrize(
    ("falls", "size", "words"),
    [(4, 0.04, ["Yes. 4 of 4 metrics get worse in every patient.", "4 % of what", "1.3 % of the body"]),
     (1, 0.04, ["In part. 1 of 4"]), (0, None, ["No. 0 of 4 metrics get worse in every patient."])],
)  # fmt: skip
def test_a_removed_lesion_has_a_direction_and_a_size(falls, size, words):
    known = {"falls_in_all": falls, "metrics": 4, "size": size, "share": 0.013}
    said = answers.removal({"audit": {"of": 4, "blind_to_lesions": 3, "lesion_removed": known}})
    assert all(word in said for word in words) and ("In the median" in said) == (size is not None)


# ---- whom to believe ----
def stored_judges(**changed):
    table = [{"judge": "gain in PSNR", "eraser": "no: 13 % [5, 25]", "identity": "called: 100 % [94, 100]"},
             {"judge": "segments", "eraser": "from 25 %: 87 % [70, 95]"}]  # fmt: skip
    return {"answer": "“segments” catches the most faults: 1 of 1.", "decided": True, "table": table, "patients": 60,
            "silent": [], "misled": ["gain in PSNR"], "faults": 1,
            "caught_of_faults": {"segments": 1}} | changed  # fmt: skip


def test_the_table_of_judges_is_written_with_what_cannot_be_asked_left_empty():
    by_judge = pd.DataFrame({"judge": ["gain in PSNR", "segments"], "twin_percent": [5.0, 7.4]})
    run = SimpleNamespace(numbers={"headline": stored_judges()}, table={"judges": by_judge}.get)
    n = readers.judges([run])
    assert n["columns"] == ["judge", "eraser", "identity"] and n["rows"][1][2] == ""
    said = results_blocks.readers.judges({"judges": n})
    assert "| segments | from 25 %: 87 % [70, 95] |  | 7 |" in said and "most alarms at a twin, % (right: 5)" in said
    del n["at_twins"]  # as older files
    assert "| segments | from 25 %: 87 % [70, 95] |  |\n" in results_blocks.readers.judges({"judges": n})
    told = {"gain in PSNR": {"value": 0.05, "low": 0.01, "high": 0.17}}
    assert "| called: 100 % [94, 100] | 5 [1, 17] |" in results_blocks.readers.judges(
        {"judges": n | {"at_twins": told}}
    )
    assert "That is noticed by gain in PSNR." in said
    assert "No fault is caught" not in said
    run = SimpleNamespace(numbers={"headline": stored_judges(silent=["a", "b"])}, table=run.table)
    silent = results_blocks.readers.judges({"judges": readers.judges([run])})
    assert (
        "Patient by patient, no fault is caught by a and b; what they find in a network is no evidence here." in silent
    )


def test_observers_and_the_two_tasks_are_told_in_a_sentence_each():
    headline = {
        "believed": ["CHO", "NPWE"],
        "failed": {"contrast over noise": ["blur"]},
        "blind_to_fading": ["CHO"],
        "could_gain": {"NPWE": "42 % (total variation)"},
        "saves": 18,
        "costs": 2,
        "asked": 54,
        "realisations": 400,
        "backgrounds": 120,
        "readers": {"NPWE": {"asked": 54, "saves": 18, "costs": 2, "best": {**GAIN["truth"], "task": "1 mm"}}},
    }
    rows = [(tasks.PATIENTS, "MSE", 0.2, 0.9), (tasks.PATIENTS, "L1", 0.14, 0.8),
            (tasks.PATIENTS, textbook.BLUR, 0.1, 1), ("1 mm", "MSE", 0.0, 2.0)]  # fmt: skip
    table = pd.DataFrame(rows, columns=["task", "image", "worth_low", "worth_high"]).assign(
        worth=lambda t: (t["worth_low"] + t["worth_high"]) / 2
    )
    whose = {"NPWE": True, "NPW": False}  # of NPW no image was shown to raise d', so that its intervals do not count
    table = pd.concat(table.assign(observer=name, could_gain=could) for name, could in whose.items())
    other = [("NPWE, internal noise × 0.5", 0.7), ("NPWE, internal noise × 2", 0.4), ("NPWE", 0.55), ("NPW", 0.3)]
    judged = pd.DataFrame(other, columns=["observer", "worth"]).assign(task="1 mm", image="MSE", dose=0.25, zero=False)
    run = SimpleNamespace(
        numbers={"headline": headline}, params={"low_dose": 0.25}, result={"files": {"judged.parquet": ""}},
        table={"doses": table, "judged": judged}.get,
    )  # fmt: skip
    found = readers.observers([run])
    assert found["swept"] == {"NPWE": {"low": 0.4, "high": 0.7}}
    assert found["filters"] == {"NPWE": {"name": textbook.BLUR, "value": 0.55, "low": 0.1, "high": 1.0}}
    assert found["livers"] == {"NPWE": {"low": 0.14, "high": 0.9}}, "networks in livers, and neither filters nor water"
    said = results_blocks.readers.observers({"observers": found})
    assert (
        "2 of 3 model observers passed every test, all scans pooled. 1 of them cannot see a fade that weakens a "
        "lesion and its noise alike. Contrast over noise failed." in said
    )
    assert (
        "Of 54 comparisons by those that could gain from a denoiser, 18 save dose. Over all tasks of these observers, "
        "2 cost dose."
        in said
        and "| NPWE | 42 % (total variation) | 18 of 54 | 250 [200, 300] (1 mm) |" in said
    )
    both = {"answer": "Confirmed.", "decided": True, "patients": 6, "trainings": 3, "contrast_hu": {"shape": -18.7},
            "controls": {"blur harms": True, "full dose helps": False}}  # fmt: skip
    said = results_blocks.readers.two_tasks(
        {"two_tasks": readers.two_tasks([SimpleNamespace(numbers={"headline": both})])}
    )
    assert "Confirmed." in said and "6 simulated patients; 1 of 2 controls came out as they must." in said


def test_models_that_draw_are_told_with_what_they_find_behind_the_eraser():
    row = {"model": "generator", "works": False, "patients": 6, "more": 0.0, "more_low": 0.0, "more_high": 0.0,
           "eraser_hidden": 0.0, "identity_hidden": 0.0, "eraser_sd_hu": 0.02, "eraser_open_hu": 37.0}  # fmt: skip
    asked, not_asked = SimpleNamespace(numbers={"controls_on_ct": [row]}), SimpleNamespace(numbers={})
    said = results_blocks.hidden.drawn({"drawn": hidden.drawn([not_asked, asked])})
    assert (
        said.startswith("*6 patients, one training each. The settings of these trainings are not recorded.*")
        and "The generator does not work: behind the eraser" in said
    )
    none = results_blocks.hidden.drawn({"drawn": hidden.drawn([not_asked])})
    assert none == "Not asked: no flow was trained with controls on CT."


def test_the_gains_of_trainings_are_told_with_their_intervals_and_left_empty_where_nobody_was_tested():
    row = {"trained on": "x", "gain in dB, pairs": 1.5, "low, pairs": -4.853, "high, pairs": 7.853}
    nan = float("nan")
    row |= {"gain in dB, wheel": nan, "low, wheel": nan, "high, wheel": nan}
    assert trainings._with_spans(row) == {
        "trained on": "x", "gain in dB, pairs": "1.50 [-4.85, 7.85]", "gain in dB, wheel": ""
    }  # fmt: skip
    one = {"gain in dB, pairs": 3.0, "low, pairs": nan, "high, pairs": nan}
    assert trainings._with_spans(one) == {"gain in dB, pairs": "3.00 –"}


@pytest.mark.skipif(not shutil.which("chromium"), reason="no chromium here to draw the page")
def test_the_picture_of_the_report_shows_its_page(tmp_path):
    (tmp_path / "index.html").write_text('<body style="margin:0;background:#c00000">')
    assert results.photographed(tmp_path / "index.html", tmp_path / "page.png")
    with Image.open(tmp_path / "page.png") as drawn:
        assert drawn.size == (600, 500) and drawn.convert("RGB").getpixel((300, 450)) == (192, 0, 0)


def test_without_a_browser_the_picture_of_the_report_stays_as_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert not results.photographed(tmp_path / "index.html", tmp_path / "page.png")
    assert not list(tmp_path.iterdir())


def test_the_published_report_is_small_and_says_where_it_comes_from():
    folder = ROOT / "docs" / "report"
    stored = [path for path in folder.rglob("*") if path.is_file()]
    assert stored and sum(path.stat().st_size for path in stored) <= 12e6
    assert {path.suffix for path in stored} == {".html", ".png"}
    text = (folder / "index.html").read_text(encoding="utf-8")
    known = results.load(results.PUBLISHED)["provenance"]
    assert all(commit in text for commit in known["commits"]) and "CPU" in text
    assert not re.search(r"Figure \d+\w?\.\d+[^<]*real CT", text)  # whose pictures stay private


def of_psi(*rows):
    """The block of what each ψ costs. Args: rows: (layer, ψ, dB with its ends, share kept)."""
    found = [{"layer": layer, "context": "random", "psi": psi, "held": False, "trainings": 1, "reached": psi,
              "db": dict(zip(("value", "low", "high"), db)), "kept": {"value": kept, "low": kept - 0.02, "high": 1.0}}
             for layer, psi, db, kept in rows]  # fmt: skip
    mse = {"value": 0.89, "low": 0.85, "high": 0.94}
    return {"by_psi": {"rows": found, "kept_of_mse": mse, "reference": "truth", "domain": "viana2025", "patients": 10}}


def test_contrast_kept_stands_beside_psnr_with_that_of_faint_lesions():
    def span(value):
        return {"value": value, "low": value - 0.05, "high": value + 0.05}

    rows = [{"method": "vgg", "trainings": 3, "gain_db": span(3.0), "kept": span(0.96), "faint": span(0.93),
             "beyond_db": span(1.4)},
            {"method": "mse", "trainings": 3, "gain_db": span(4.7), "kept": span(0.89)}]  # fmt: skip
    block = {"rows": rows, "base": "mse", "target": "truth", "patients": 10}
    text = results_blocks.losses.kept({"kept": block})
    assert "| 3.00 [2.95, 3.05] | 96 [91, 101] | 93 [88, 98] | 1.40 [1.35, 1.45] |" in text
    assert "| MSE | 4.70 [4.65, 4.75] | 89 [84, 94] |  |  |" in text and "PSNR over a mix of MSE and the LDCT" in text
    assert results_blocks.losses.newer_kept({"newer_kept": {"rows": []}}) == "*No lesion is known in these patients.*"


def test_what_each_share_costs_stands_in_a_row_a_level_and_a_column_a_share():
    rows = [("block3", 0.5, (-0.5, -0.9, -0.1), 0.92), ("block3", 1.0, (-0.3, -0.5, -0.1), 0.8),
            ("block5", 0.5, (0.4, 0.1, 0.7), 0.95)]  # fmt: skip
    text = results_blocks.losses.by_psi(of_psi(*rows))
    assert "| level, encoder | ψ 50 % | VGG alone |" in text
    assert "| block3, random encoder | −0.50 [−0.90, −0.10] | −0.30 [−0.50, −0.10] |" in text
    assert "| block5, random encoder | 0.40 [0.10, 0.70] |  |" in text and "| 92 [90, 100] | 80 [78, 100] |" in text
    assert "In PSNR 1 of 3 perceptual losses is shown to be better than MSE, 2 worse." in text
    assert "In the mean 2 of 3 keep more of lesions than MSE, which keeps 89 % (85 to 94)." in text
    assert "10 patients; one training each" in text and "| block3, random encoder | 50 | 100 |" in text
    assert "No loss was trained at three" in results_blocks.losses.by_psi({"by_psi": {"rows": []}})


def test_the_weight_for_one_psi_is_told_by_network_and_by_level():
    spread = {"over_all": 240.0, "over_levels": {"identity": 2.0, "trained": 2.5, "untrained": 4.0},
              "times": {"trained": [0.8, 1.1], "untrained": [59.0, 137.4]}}  # fmt: skip
    text = results_blocks.losses.lambdas({"lambdas": {"psi": 0.95, "spread": {"random": spread}}})
    assert "59 to 137 times the λ that it needs for the LDCT itself" in text
    assert "LDCT and trained network differ by at most 25 %." in text
    assert "varies up to 4.0-fold, over levels and networks 240-fold." in text and "So choose" in text
    alike = spread | {"over_all": 1.2, "times": {"untrained": [1.0, 1.2]}}
    text = results_blocks.losses.lambdas({"lambdas": {"psi": 0.95, "spread": {"random": alike}}})
    assert "So choose" not in text and "trained network differ" not in text


def test_a_training_that_passes_its_input_and_one_that_does_not_are_told():
    trainings = {"paper-0": [[0, 900.0], [512, 60.0], [1024, 20.3]], "residual": [[0, 13.5], [512, 9.2]],
                 "restless": [[256, 12.0], [512, 14.0], [1024, 12.0]]}  # fmt: skip
    text = results_blocks.losses.courses({"courses": {"input_rmse_hu": 13.5, "trainings": trainings}})
    assert "| 512 | 60.0 | 9.2 | 14.0 |" in text and "| 1,024 | 20.3 |  | 12.0 |" in text
    assert "- restless has less error than its input (13.5 HU) from 1,024 updates on." in text
    assert "- paper-0 is not as good as its input within 1,024 updates: 20.3 HU against 13.5 HU." in text
    assert "- residual has less error than its input (13.5 HU) from 512 updates on." in text
    assert "input" not in results_blocks.losses.courses({"courses": {"input_rmse_hu": None, "trainings": trainings}})


def test_the_error_of_the_input_is_that_with_which_a_network_with_a_skip_connection_begins(monkeypatch):
    def one(name, residual, first):
        table = pd.DataFrame({"step": [0, 64, 128], "val_rmse_hu": [first, float("nan"), 9.0]})
        params = {"network": "unet", "residual": residual}
        return SimpleNamespace(name=name, id=name, params=params, table=lambda _: table, folder=None)

    monkeypatch.setattr(trainings, "has", lambda run, name: True)
    found = trainings.courses([one("a", False, 900.0), one("b", None, 13.5)])
    assert found == {"input_rmse_hu": 13.5, "trainings": {"a": [[0, 900.0], [128, 9.0]], "b": [[0, 13.5], [128, 9.0]]}}


def test_what_judges_notice_and_what_they_say_of_networks_is_counted_from_their_table():
    n = {"columns": ["judge", "blur", "noise-free truth", "mse-0"], "faults": 8, "pairs": 16,
         "caught_of_faults": {"A": 8, "B": 0},
         "rows": [["A", "from 25 %: 100 %", "alarm: 22 %", "alarm: 30 %"], ["B", "no: 7 %", "no: 0 %", "no: 5 %"],
                  [verdicts.SEARCH, "0 of 3 changed hidden (twin: 0 of 1)", "not tested: none changed",
                   "2 of 2 changed hidden (twin: 0 of 2)"],
                  ["VAE + flow (05a), 13 patients", "cannot be asked", "cannot be asked", "says nothing"]]}  # fmt: skip
    assert results_blocks.readers.of_judges(n) == [
        "Of 8 faults are noticed: 8 by “A” and none by “B”.",
        "At the noise-free truth, which has no fault, an alarm is raised by “A”.",
        "Of 1 judge without an alarm there, an alarm is raised at mse-0 by none.",
        "Intervals are not corrected for the 16 pairs of a judge and a fault.",
        "In one patient the invariance search finds more lesions hidden than behind the honest twin at mse-0 (2 of 2 "
        "changed, twin 0 of 2).",
    ]
    assert results_blocks.readers.beyond_twin("5 of 5 changed hidden (twin: 4 of 4)") == ""
    assert results_blocks.readers.beyond_twin("5 of 5 changed hidden at 50 % (twin: 0 of 0)").endswith(
        "twin none changed"
    )
    assert results_blocks.readers.beyond_twin("5 of 5 changed hidden (twin: none changed)").endswith(
        "twin none changed"
    )
    alone = {"columns": ["judge", "blur"], "faults": 1, "caught_of_faults": {"B": 0}, "rows": [["B", "no: 7 %"]]}
    older = {"columns": ["judge", "inserter"], "faults": 1, "caught_of_faults": {"B": 0}, "rows": [["B", "no: 7 %"]]}
    told = "Observers and kept contrast stand here as asked about inserter, although these are in both images that they"
    assert results_blocks.readers.of_judges(older)[-1] == f"{told} compare."
    assert results_blocks.readers.of_judges(older | {"asked_of_faults": {"B": 1}})[-1].startswith("Of 1 fault")
    assert results_blocks.readers.of_judges(alone) == ["Of 1 fault are noticed: none by “B”."]


def test_contrast_kept_of_planted_lesions_is_told_lesion_by_lesion():
    sizes = [{"radius_mm": r, "contrast_hu": hu, "value": v, "low": v - 0.1, "high": v + 0.1}
             for r, hu, v in ((1.0, -25.0, 0.48), (4.0, -3.0, 0.85))]  # fmt: skip
    block = {
        "notices": [],
        "against": [],
        "kept": {},
        "removed": [],
        "noticed_hu": {},
        "kept_by_lesion": {"mse": sizes},
    }
    text = results_blocks.structures.details({"details": block})
    assert "| radius 1 mm, −25 HU | radius 4 mm, −3 HU |" in text
    assert "| MSE | 48 % (38 to 58) | 85 % (75 to 95) |" in text and "patients and trainings" in text


def test_details_of_planted_lesions_are_means_over_lesions_patients_and_trainings():
    rows = pd.DataFrame(
        [(p, seed, r, hu, "mse", kept + 0.01 * p + 0.1 * seed)
         for p in range(6) for seed in (0, 1) for r, hu, kept in ((1.0, -25.0, 0.4), (4.0, -3.0, 0.8))],
        columns=["patient", "seed", "radius_mm", "contrast_hu", "method", "kept"],
    )  # fmt: skip
    run = SimpleNamespace(numbers={}, result={"files": ["losses.parquet"]}, table={"losses": rows}.__getitem__)
    found = structures.details([run])
    small, large = found["kept_by_lesion"]["mse"]
    assert small["radius_mm"] == 1 and small["value"] == pytest.approx(0.475)
    assert large["value"] == pytest.approx(0.875) and small["low"] < 0.475 < small["high"]
    assert found["kept"]["mse"]["value"] == pytest.approx(0.675)


METHODS = pd.DataFrame({"run": ["mse-0", "mse-1", "vgg-0"], "method": ["mse", "mse", "vgg"]})


def of_organs(**off):
    """Errors of two slices, HU: the mean over organs is twice the RMSE but where ``off`` says otherwise."""
    rmse = {"LDCT": 20.0, "mse-0": 10.0, "mse-1": 12.0, "vgg-0": 13.0}
    one = {"patient": "CT1", "source": "ndct", "reference": "ndct", "segments": 28}
    rows = [one | {"run": run, "row": row, "rmse_hu": value, "mean_srmse": off.get(run[:3], 2) * value + row,
                   "max_srmse": 4 * value} for run, value in rmse.items() for row in (0, 2)]  # fmt: skip
    rows += [row | {"row": -1, "mean_srmse": 900.0} for row in rows[:2]]  # of linked slices
    return pd.DataFrame([*rows, *(row | {"source": "ldct", "mean_srmse": 900.0} for row in rows)])


def test_errors_over_labelled_organs_are_told_beside_the_rmse_of_all_pixels(finished):
    tables = {"errors": of_organs(), "methods": METHODS}
    finished({"09_subtle_details": ({}, tables)}, {"segmentation": "labels"})
    results.collect("made")
    said = results.rendered("made organs", "docs/results.md")
    assert "| MSE | 11.0 [10.0, 12.0] | 23.0 [21.0, 25.0] | 44.0 [40.0, 48.0] |\n| MSE + VGG | 13.0 | 27.0 |" in said
    assert "Over organs MSE has the least mean error: 23.0 HU, the low-dose input has 41.0 HU." in said
    assert "the networks stand in the same order" in said and "One patient shows no order of networks." in said
    assert "1 patient, 2 slices, on average 28 labelled organs" in said and "No interval over patients" in said
    turned = {"errors": of_organs(vgg=1), "methods": METHODS}
    finished({"09_subtle_details": ({}, turned)}, {"segmentation": "labels"})
    results.collect("made")
    said = results.rendered("made organs", "docs/results.md")
    assert "Over organs MSE + VGG has the least mean error: 14.0 HU" in said and "in another order" in said


def test_segments_that_are_no_labels_give_no_errors_over_organs(finished):
    finished({"09_subtle_details": ({}, {"errors": of_organs(), "methods": METHODS})}, {"segmentation": "otsu"})
    results.collect("made")
    assert results.rendered("made organs", "README.md").startswith("*No errors over labelled organs were asked for.*")
    assert results.rendered("made real_anatomy", "README.md").startswith("*Not asked: no lesions were inserted")


def test_faint_lesions_in_front_of_a_real_liver_are_told_with_both_controls(finished):
    d_prime = {"LDCT": 1.0, "mse-0": 0.8, "mse-1": 1.2, "vgg-0": 0.9}
    rows = [
        {"run": run, "radius_mm": radius, "contrast_hu": times * contrast, "kind": kind, "observer": observer,
         "d_prime": value * times + more + 0.01, "places": 60}
        for run, value in d_prime.items() for radius, contrast, more in ((3.0, -20.0, 0.0), (5.0, -10.0, 0.5))
        for kind, times in (("nothing", 0.0), ("faint", 1.0), ("strong", 10.0)) for observer in ("CHO", "NPW")
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    table.loc[(table["observer"] == "NPW") & (table["kind"] == "strong"), "d_prime"] = float("inf")
    finished({"09_subtle_details": ({}, {"real_backgrounds": table, "methods": METHODS})})
    results.collect("made")
    said = results.rendered("made real_anatomy", "docs/results.md")
    assert "| image | model observer | 3 mm, −20 HU | 5 mm, −10 HU | without contrast (right: 0) |" in said
    assert "| low-dose input | Hotelling observer | 1.01 | 1.51 | 0.01 to 0.51 | 10.01 to 10.51 |" in said
    assert "| MSE | Hotelling observer | 1.01 [0.81, 1.21] | 1.51 [1.31, 1.71] | 0.01 to 0.51 | 8.01 to 12.51 |" in said
    assert "| MSE + VGG | non-prewhitening observer | 0.91 | 1.41 | 0.01 to 0.51 | beyond measure |" in said
    assert "To a Hotelling observer d′ of these lesions is 1.01 to 1.51 in the low-dose input, and 0.91 to 1.51" in said
    # a difference of two means of 60 responses each of SD 1 is within 1.96 sqrt(2 / 60) of 0 in 95 %
    assert "without contrast d′ is 0.01 to 0.51, where 0 is right and chance gives up to 0.36 either way (8 are" in said
    assert "further off); with ten times the contrast it is 8.01 to" in said
    few = table.assign(places=20)
    finished({"09_subtle_details": ({}, {"real_backgrounds": few, "methods": METHODS})})
    results.collect("made")
    assert "gives up to 0.62 either way; with" in results.rendered("made real_anatomy", "docs/results.md")
    assert "60 places a class, each used once. No interval over patients" in said and "One patient cannot show" in said


def test_what_is_found_patch_by_patch_is_told_beside_the_test_of_segments():
    table = pd.DataFrame(
        [(kind, detector, value, value - 0.1, value + 0.1)
         for detector, values in (("sFRC, NDCT as reference", (0.2, 0.3)), ("this test, by segment", (0.6, 0.5)))
         for kind, value in zip(("removal", "insertion", "removal, 4 times as strong"), (*values, 0.9))],
        columns=["kind", "detector", "found at 1 false mark", "low", "high"],
    )  # fmt: skip
    (row,) = hidden._by_patch(table)
    assert row["found"]["removal"]["value"] == 0.2 and len(row["found"]) == 3
    none = {"alarms": {}, "found": [], "suspicious": [], "others": {}}
    said = results_blocks.structures.changes({"changes": none | {"by_patch": [row]}})
    told = (
        "of removals and insertions are found, at one false mark a slice: by sFRC against the NDCT 20 % (10 to 30) and"
    )
    assert f"{told} 30 % (20 to 40)." in said
    assert "Patch by patch" not in results_blocks.structures.changes({"changes": none})


def test_newer_methods_stand_with_what_they_keep_of_faint_lesions():
    block = {"rows": [{"method": "unet", "scores": {"psnr": {"value": 33.0}}}, {"method": "tv", "scores": {}}]}
    kept = {"rows": [{"method": "unet", "faint": {"value": 0.87, "low": 0.8}}, {"method": "tv"}]}
    table = newer.table(block, kept).set_index("psnr")
    assert table.loc[33.0, ["faint", "faint_low"]].tolist() == pytest.approx([87, 80])
    assert table.faint_high.isna().all() and table.faint.notna().sum() == 1
    assert "faint" not in newer.table(block, {"rows": []})
    given = {"rows": [*block["rows"], {"method": "LDCT", "scores": {}}]}
    assert newer.table(given, kept).faint.dropna().tolist() == pytest.approx([87, 100])


def test_one_volume_is_said_to_have_no_interval():
    block = {"notices": [{"metric": "PSNR", "5": "1.00 –"}], "against": [], "kept": {}}
    few = results_blocks.structures.details({"details": block | {"removed": [], "noticed_hu": {}}})
    assert "Too few volumes for intervals" in few and "95 %" not in few
    block["notices"].append({"metric": "SSIM", "5": "0.90 [0.83, 0.96]"})
    assert "95 % intervals" in results_blocks.structures.details({"details": block | {"removed": [], "noticed_hu": {}}})
