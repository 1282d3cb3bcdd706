"""The report: one static HTML page with the tables and figures of every study's finished runs."""

import html
import os
import re
import shutil
from datetime import datetime
from pathlib import Path

import nbformat
import numpy as np
from jinja2 import Environment, PackageLoader, select_autoescape
from markdown_it import MarkdownIt
from markupsafe import Markup
from PIL import Image

from ldct_utils.report import captions
from ldct_utils.report.sentences import listed
from ldct_utils.study import files, paths
from ldct_utils.study.identity import DATA, RUN_FOLDER
from ldct_utils.study.runs import TESTS, Run, minutes_busy

# The words a notebook starts its last paragraph with: what the report's front page quotes.
ANSWER = "**What we saw.**"
HIDDEN = "hide-input"  # tag of a cell whose code no reader needs; JupyterLab is told by the cell's own metadata
FRONT = "12_answers"  # the notebook whose table and figures stand on the front page
# Parameters that say where and how a run was computed, not what: left out where runs are compared.
BOOKKEEPING = {"study", "run_name", "run", "runs", "data_root", "device", "threads"}
TINT = 4  # grey levels between the channels of a pixel up to which it counts as grey
# Parameters of a perceptual term: left empty where runs are compared for a run that has no encoder.
OF_ENCODER = {"arch", "layer", "context", "weights", "convention", "lam", "psi_target", "psi_of", "psi_on"}
OF_ENCODER |= {"psi_definition"}
# Heads of the table of a notebook's runs, where the name alone would mislead: of parameters, and of numbers.
ASKED = {"lam": "λ asked for", "psi_target": "ψ asked for", "real_ct": "also tested on"}
FOUND = {"lam": "λ at the start", "lam_end": "λ at the end", "parameters": "weights of the network"}
_markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
HEADS = {  # {pattern of a stored number's name: its words}, where the name alone is not understood
    "^own_(in|out)_beyond_level$": r"share of segments that look changed though nothing was, \1put",
    "_(in|out)_over_null$": r", change of the \1put (1: repeated scan)",
}


def write(folder: Path | None = None) -> Path:
    """Write the page from what is under ``outputs/``, and an HTML copy beside every executed notebook.

    Args: folder: where ``index.html`` goes; ``outputs/report`` by default. Links are relative, so that ``outputs/``
        can be moved or published as a whole.
    Returns: the page's path.
    """
    folder = Path(folder or paths.outputs() / "report")
    with files.locked(folder / "index.html"):  # of two studies that end at once the later must see the earlier
        return _write(folder, [study for study in map(read_study, studies()) if study["notebooks"]])


def publish(study: str, folder: Path, about: str) -> Path:
    """Write the page of one study so that it can be read without the study: pictures beside it, made small.

    Nothing of a real person is shown: figures that are marked so stay out, and tests on cohorts that are not
    simulated. Of a notebook with many runs the first one is shown, the others stand in the table.

    Args: folder: what lay there is gone once the new page is whole. about: where the numbers come from, a sentence.
    Returns: the page's path.
    Raises: ValueError: if a run of the study read data from a folder of the user's.
    """
    shown = read_study(study)
    for run in (one for notebook in shown["notebooks"] for one in notebook["finished"]):
        if given := [name for name in DATA if run["result"]["parameters"].get(name)]:
            raise ValueError(f"{run['notebook']}/{run['name']} was made with {given[0]}: it is not for publishing")
    fresh = folder.with_name(f".new-{folder.name}")
    shutil.rmtree(fresh, ignore_errors=True)
    (fresh / "pictures").mkdir(parents=True)
    real = []
    for notebook in shown["notebooks"]:
        for number, run in enumerate(notebook["finished"]):
            real += [f"Figure {one['number']}" for one in run["items"] if one.get("real")] if number < 1 else []
            run["items"] = [one for one in run["items"] if _of_nobody(one)] if number < 1 else []
            for one in (item for item in run["items"] if item["kind"] == "figure"):
                target = fresh / "pictures" / f"{notebook['name']}-{one['name']}.png"
                compress(one["image"], target)
                one |= {"image": target, "pdf": None}
            run["page"] = None
    if real:
        about += f" Pictures of real CT are left out ({listed(real)}): whether they may be copied is not known."
    _write(fresh, [shown], about)
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)
    return folder / "index.html"


def _of_nobody(item: dict) -> bool:
    source = item["folder"].name.rsplit("--", 1)[0] if item["folder"].parent.name == TESTS else "simulated"
    return not item.get("real") and source.startswith("simulated")


def compress(source: Path, target: Path, width: int = 1000):
    """Write a figure for the repository: at most ``width`` pixels wide, 128 greys and 128 colours.

    CT is grey: left to the choice of a palette its noise becomes a few steps, some of them tinted. The colours are
    chosen to cover what there is: by how often one stands there, that of a small marker becomes another one's.
    """
    with Image.open(source) as image:
        small = image.convert("RGB")
        small.thumbnail((width, 4 * width))
        with files.write_atomic(target) as temporary:
            _few_colours(np.asarray(small)).save(temporary, format="PNG", optimize=True)


def _few_colours(pixels) -> Image.Image:
    """Pixels (H, W, 3) with a palette of 128 greys, evenly spaced, and 128 colours."""
    tinted = np.ptp(pixels.astype(int), axis=2) > TINT
    index = np.round(pixels.mean(2) * 127 / 255).astype(np.uint8)
    palette = np.linspace(0, 255, 128).round().astype(int).repeat(3).tolist()
    if tinted.any():
        coloured = Image.fromarray(pixels[tinted][None]).quantize(128, Image.Quantize.MAXCOVERAGE, kmeans=3)
        index[tinted] = 128 + np.asarray(coloured)[0]
        palette += coloured.getpalette()[: 3 * 128]
    image = Image.fromarray(index)
    image.putpalette(palette)
    return image


def _cells(table: str) -> Markup:
    """A rendered table: every head is that of a column, to a screen reader; numbers have a class of their own."""
    numbers = re.sub(r'<(th|td) style="text-align:right">', r'<\1 class="n">', table)
    return Markup(re.sub(r"<th(?=[ >])", '<th scope="col"', numbers))


_UNIT = re.compile(r"(?<=\d) (?=(?:%|HU|dB|mm)(?!\w))")  # a number and its unit stay on one line


def _write(folder: Path, shown: list[dict], about: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    environment = Environment(loader=PackageLoader("ldct_utils.report", "templates"), autoescape=select_autoescape())
    first = next((one for study in shown for one in fronts(study)), None)
    environment.filters |= {"md": _render, "md_inline": _markdown.renderInline, "words": _words, "number": number}
    environment.filters["cells"] = _cells
    environment.filters["asked"] = lambda name: ASKED.get(name, name.replace("_", " "))
    environment.filters["head"] = head
    environment.filters["read_by"] = lambda name, result: read_by(result, name)
    environment.filters["link"] = lambda path: Path(os.path.relpath(path, folder)).as_posix()
    written = "" if about else f"Written {datetime.now().astimezone().strftime('%-d %B %Y, %H:%M')}"
    text = environment.get_template("report.html").render(
        studies=shown, written=written, first=first, front=FRONT, about=about
    )
    files.write_text(folder / "index.html", _UNIT.sub("\u00a0", text))
    return folder / "index.html"


def studies() -> list[str]:
    """Names of the studies that have been run, ``default`` first and single runs (``adhoc``) last."""
    found = [p.name for p in paths.outputs().iterdir() if p.is_dir() and any(p.glob("[0-9][0-9]*_*/*/"))]
    return sorted(found, key=lambda name: (name != "default", name == "adhoc", name))


def read_study(name: str) -> dict:
    """What the page shows of one study: its notebooks in order, each with its runs, finished and not.

    The last plan says which runs belong to the study (older ones, of other code, stay on disk and are counted);
    for single runs there is no plan and all are shown.
    """
    folder = paths.outputs() / name
    plan = folder / "plan.json"
    found = sorted(p.parent for p in folder.glob("[0-9][0-9]*_*/*/result.json"))
    if plan.is_file():
        entries = [(run["notebook"], run["name"], paths.outputs() / run["folder"]) for run in files.read_json(plan)]
    else:
        entries = [(path.parent.name, Run(path).name, path) for path in found]
    runs = [read_run(*entry) for entry in entries]
    notebooks = []
    for notebook in sorted({run["notebook"] for run in runs}):
        own = [run for run in runs if run["notebook"] == notebook]
        finished = [run for run in own if run["finished"]]
        notebooks.append(
            {"name": notebook, "runs": own, "finished": finished, **_head(notebook), **_compared(finished)}
        )
    return {
        "name": name,
        "title": _title(name),
        "notebooks": notebooks,
        "runs": len(runs),
        "finished": sum(run["finished"] for run in runs),
        "older": len(set(found) - {run["folder"] for run in runs}),
    }


def fronts(study: dict) -> list[dict]:
    """The first pages that a study's finished runs of 12_answers wrote, the newest first: what ``answers.front`` says,
    and the figures and tables that stand at each part."""
    found = []
    for notebook in study["notebooks"]:
        for run in notebook["finished"] if notebook["name"] == FRONT else ():
            path = run["folder"] / "front.json"
            if path.is_file():
                page, items = files.read_json(path), {one["name"]: one for one in run["items"]}
                parts, folded = (_placed(page.get(where, {}), items) for where in ("shown", "folded"))
                minutes = minutes_busy([one["result"] for book in study["notebooks"] for one in book["finished"]])
                titles = {book["name"]: book["title"] for book in study["notebooks"]}
                placed = {"parts": parts, "folded": folded}
                found.append(page | placed | {"run": run, "study": study, "minutes": minutes, "titles": titles})
    return sorted(found, key=lambda one: one["run"]["result"].get("finished", ""), reverse=True)


def _placed(names_of: dict, items: dict) -> dict[str, list]:
    """Figures and tables by part of the first page. Args: names_of: {part: names}. items: by name."""
    return {part: [items[name] for name in names if name in items] for part, names in names_of.items()}


def read_run(notebook: str, name: str, folder: Path) -> dict:
    """One run as the page shows it; ``error`` holds the last line of the traceback of one that failed."""
    result = files.read_json(folder / "result.json") if (folder / "result.json").is_file() else None
    run = {"notebook": notebook, "name": name, "folder": folder, "finished": result is not None, "result": result}
    run |= {"key": f"{folder.parent.parent.name}-{folder.name}", "items": [], "answer": "", "error": "", "page": None}
    for where in [folder, *sorted(folder.glob(f"{TESTS}/*/"))]:
        for item, entry in captions.stored(Run(where)).items():
            run["items"].append({"name": item, "folder": where, **entry, **_content(where, item, entry["kind"])})
    path = folder / "notebook.ipynb"
    if path.is_file():
        try:
            executed = nbformat.read(path, as_version=4)
        except nbformat.reader.NotJSONError:  # a kill while it was being saved
            return run | {"error": "killed, and its notebook was cut short"}
        run["answer"], run["error"] = _said(executed)
        run["page"] = _notebook_page(path, executed)
    return run


def _content(folder: Path, name: str, kind: str) -> dict:
    """The rendered table, or which files of a figure there are."""
    if kind == "table":
        lines = (folder / f"{name}.md").read_text(encoding="utf-8").splitlines()
        (view, others), head = (lines[: 2 + captions.ROWS], lines[2 + captions.ROWS :]), lines[:2]
        behind = _markdown.render("\n".join([*head, *others])) if others else ""
        return {"html": _markdown.render("\n".join(view)), "behind": behind, "others": len(others)}
    with Image.open(folder / f"{name}.png") as image:
        # Shown at 110 pixels an inch, whatever the file's resolution, so that letters have one size on the whole page.
        scale = captions.INCH / image.info.get("dpi", (100, 100))[0]
        size = {"width": round(image.width * scale), "height": round(image.height * scale)}
    return {"image": folder / f"{name}.png", "pdf": folder / f"{name}.pdf", **size}


def _said(notebook) -> tuple[str, str]:
    """(answer, error) of an executed notebook: its last "What we saw" as Markdown, and how it failed, if it did."""
    answer = error = ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and cell.source.startswith(ANSWER):
            answer = cell.source
        for output in cell.get("outputs", []):
            text = output.get("data", {}).get("text/markdown", "")
            if text.startswith(ANSWER):
                answer = text
            if output.output_type == "error":
                error = f"{output.ename}: {output.evalue}".splitlines()[0]
    return answer.removeprefix(ANSWER).strip(), error


def _notebook_page(path: Path, notebook) -> Path:
    """``notebook.html`` beside an executed notebook, made again only if the notebook is newer."""
    page = path.with_suffix(".html")
    if not page.is_file() or page.stat().st_mtime_ns < path.stat().st_mtime_ns:
        from nbconvert import HTMLExporter  # imported here: it takes a second, and often nothing is to be made

        run = Run(path.parent)
        title = f"{_head(path.parent.parent.name)['title']} · {run.name}"
        exporter = HTMLExporter(TagRemovePreprocessor={"enabled": True, "remove_input_tags": {HIDDEN}})
        text, _ = exporter.from_notebook_node(notebook, {"metadata": {"name": title}})
        files.write_text(page, _with_alternatives(text, notebook))
    return page


def _with_alternatives(text: str, notebook) -> str:
    """A notebook's page with the alternative texts of its pictures, which nbconvert's template leaves out."""
    shown = [
        output for cell in notebook.cells for output in cell.get("outputs", []) if "image/png" in output.get("data", {})
    ]
    told = iter([output.get("metadata", {}).get("image/png", {}).get("alt", "") for output in shown])
    return re.sub(
        r'alt="No description has been provided for this image"', lambda _: f'alt="{html.escape(next(told, ""))}"', text
    )


def _head(notebook: str) -> dict:
    """Title and question from the first lines of a notebook's script, as the style of the study writes them."""
    script = paths.notebooks() / f"{notebook}.py"
    text = script.read_text(encoding="utf-8") if script.is_file() else ""
    prose = "\n".join(line[2:] for line in text.splitlines() if line.startswith("# "))
    title = re.search(r"^# (.+)$", prose, flags=re.MULTILINE)
    question = re.search(r"\*\*Question\.\*\*\s*(.+?)(?=\n\*\*|\n#|\n%%|\n\n|\s\*\*Reads|\Z)", prose, flags=re.DOTALL)
    return {
        "title": title[1] if title else notebook,
        "question": " ".join(question[1].split()) if question else "",
    }


def _title(study: str) -> str:
    """The study file's ``title``, else its name."""
    path = paths.root() / "params" / f"{study}.yaml"
    found = re.search(r"^title:\s*(.+)$", path.read_text(encoding="utf-8"), re.MULTILINE) if path.is_file() else None
    return found[1].strip().strip("\"'") if found else {"adhoc": "Single runs"}.get(study, study)


def _compared(runs: list[dict]) -> dict:
    """Columns of the table of a notebook's runs: the parameters and the scalar numbers that differ between them."""
    params = [run["result"]["parameters"] for run in runs]
    names = list(dict.fromkeys(name for p in params for name in p if name not in BOOKKEEPING))
    varied = [name for name in names if len({str(p.get(name)) for p in params}) > 1]
    numbers = [run["result"]["numbers"] for run in runs]
    scalars = [n for n in dict.fromkeys(n for r in numbers for n in r) if len({str(r.get(n)) for r in numbers}) > 1]
    columns = [n for n in scalars if all(isinstance(r.get(n), int | float | None) for r in numbers)]
    return {"varied": varied, "columns": columns[:8]}


def head(name: str) -> str:
    """What the column of a stored number is called, e.g. ``search, change of the input (1: repeated scan)``."""
    name = FOUND.get(name, name)
    for pattern, words in HEADS.items():
        name = re.sub(pattern, words, name)
    return name.replace("_", " ")


def read_by(result: dict, name: str):
    """What a run was given for a parameter; None for one that its loss does not read."""
    numbers = result["numbers"]
    unread = name in OF_ENCODER and "encoder" in numbers and numbers["encoder"] is None
    return None if unread else result["parameters"].get(name)


def number(value) -> str:
    """A value for a table cell: four significant digits, no exponent from 0.001 to a million, runs by their names."""
    if value is None:
        return "–"
    if isinstance(value, float):
        if 1e4 <= abs(value) < 1e6:
            return f"{value:,.0f}"
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.3g}"
    if isinstance(value, list):
        return ", ".join(map(number, value))
    text = str(value)
    if "/" in text and RUN_FOLDER.fullmatch(Path(text).name):
        return Run(text).name
    return text


def _render(markdown: str) -> str:
    return _markdown.render(markdown)


def _words(markdown: str) -> str:
    """Markdown as plain words, for a figure's alternative text."""
    return html.unescape(" ".join(re.sub(r"<[^>]+>", " ", _markdown.render(markdown)).split()))
