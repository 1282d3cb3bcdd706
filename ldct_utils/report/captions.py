"""What a notebook shows and stores for the reader: figures and tables with captions, and computed sentences.

A caption starts with its finding, one sentence that can be read aloud. Its reading aid, data and limit follow.
"""

import shutil
from html import escape

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import HTML, Image, Markdown, display
from PIL import Image as Pixels

from ldct_utils.report import sentences
from ldct_utils.study import files, paths

INCH = 110  # pixels an inch of a figure takes on a page, whatever its file holds: letters have one size everywhere
ROWS = 12  # of a table that are in view; the rest is behind one click
_shown: dict = {}  # {(notebook, kind): what this notebook has shown, in order}: what figures and tables are numbered by


def text(markdown: str):
    """Show a sentence or paragraph that holds computed numbers. Markup in it, such as a file's odd name, stays text."""
    display(Markdown(markdown.replace("<", "&lt;")))


def chapter(notebook: str) -> str:
    """The number by which a notebook is cited, e.g. ``4b`` for ``04b_dose``."""
    return notebook.split("_")[0].lstrip("0")


def _numbered(run, kind: str, name: str) -> str:
    """The number of a figure or table within its notebook, e.g. ``4b.3``; the same when its cell is run again.

    A test of a training has a folder of its own inside the training's run, and is shown by the training's notebook.
    """
    folder = run.folder.parents[1] if run.folder.parent.name == "tests" else run.folder
    shown = _shown.setdefault((folder, kind), [])
    if (run.folder, name) not in shown:
        shown.append((run.folder, name))
    return f"{chapter(folder.parent.name)}.{shown.index((run.folder, name)) + 1}"


def stored(run) -> dict:
    """{name: {kind, number, finding, reading, alt}} of what a run has shown, in that order; empty if nothing."""
    path = run.folder / "captions.json"
    return files.read_json(path) if path.is_file() else {}


def _tell(run, kind: str, name: str, finding: str, reading: str, **more):
    """Show a caption, and keep it in the run's ``captions.json``."""
    number = _numbered(run, kind, name)
    text(f"**{kind.capitalize()} {number} {finding}** {reading}".strip())
    entry = {"kind": kind, "number": number, "finding": finding, "reading": reading, **more}
    files.write_json(run.folder / "captions.json", stored(run) | {name: entry})


def _picture(run, name: str, alt: str):
    """Show the PNG that a run stores, with its alternative text."""
    path = run.folder / f"{name}.png"
    with Pixels.open(path) as image:
        width = round(image.width * INCH / image.info.get("dpi", (INCH, INCH))[0])
    display(Image(filename=path, width=width, alt=alt))


def figure(run, name: str, fig, finding: str, reading: str = "", alt: str = "", real: bool = False):
    """Show a figure with its caption and store it in the run folder as ``<name>.png`` and ``<name>.pdf``.

    Args:
        run: the open run.
        name: file name without suffix.
        finding: one sentence with what the figure shows; set in bold.
        reading: how to read it, of which data, and its limit: units, window, number of patients and trainings.
        alt: for who cannot see it: kind of picture, axes, what one would see, within 200 characters.
        real: it shows slices of a real person, which the published report leaves out.
    """
    for axes in (axes for axes in fig.axes if not axes.axison):  # a title is placed by ticks, even those of no axis
        axes.xaxis.set_visible(False)
        axes.yaxis.set_visible(False)
    for suffix in ("png", "pdf"):
        with files.write_atomic(run.folder / f"{name}.{suffix}") as temporary:
            # No dates or versions in the file: the same run gives the same bytes.
            fig.savefig(temporary, metadata={"CreationDate": None} if suffix == "pdf" else {"Software": None})
        fig.set_layout_engine("none")  # the first file laid it out, which takes as long as to draw it
    plt.close(fig)
    _picture(run, name, alt or finding)
    _tell(run, "figure", name, finding, reading, alt=alt or finding, real=real)


def figures(of) -> list[str]:
    """Names of the figures that a run has stored, in the order in which it showed them."""
    return [name for name, item in stored(of).items() if item["kind"] == "figure"]


def shown(run, name: str, of, finding: str | None = None, reading: str | None = None, called: str | None = None):
    """Show a figure that another run has stored, and store a copy in this run's folder, by the same name or ``called``.

    Args: run: the open run. of: the finished run. finding, reading: in place of the figure's own; its origin is told.
    Raises: FileNotFoundError: if ``of`` has no such figure.
    """
    if name not in figures(of):
        raise FileNotFoundError(
            f"{paths.short(of.folder)} holds no figure {name!r}; it has {sentences.listed(sorted(figures(of)))}: run "
            "it again"
        )
    item, called = stored(of)[name], called or name
    for suffix in ("png", "pdf"):
        with files.write_atomic(run.folder / f"{called}.{suffix}") as temporary:
            shutil.copyfile(of.folder / f"{name}.{suffix}", temporary)
    _picture(run, called, item["alt"])
    origin = f"Figure {item['number']} of `{of.result['notebook']}`."
    reading = f"{item['reading'] if reading is None else reading} {origin}".strip()
    _tell(run, "figure", called, finding or item["finding"], reading, alt=item["alt"], real=item["real"])


def table(run, name: str, frame: pd.DataFrame, finding: str, reading: str = "", heads: dict | None = None):
    """Show a table with its caption; store it as parquet with all its columns, as Markdown and LaTeX as it is shown.

    Args:
        run, name, finding, reading: as of ``figure``.
        frame: its rows, in the order in which they are read.
        heads: {column: its head, words with the unit}, which chooses and orders what is shown; all columns if None. A
            value and the ends of its interval share a cell: ``{("rho", "low", "high"): "rank correlation"}``.
    """
    if not (run.folder / f"{name}.parquet").is_file():
        files.write_parquet(run.folder / f"{name}.parquet", frame)
    seen = drawn(frame, heads)
    # Columns of numbers to the right; text that looks like a number stays as it was written.
    first = [column[0] if isinstance(column, tuple) else column for column in heads or frame]
    sides = ["right" if pd.api.types.is_numeric_dtype(frame[c]) else "left" for c in first]
    piped = seen.map(lambda cell: cell.replace("|", r"\|")).rename(columns=lambda head: head.replace("|", r"\|"))
    markdown = piped.to_markdown(index=False, disable_numparse=True, colalign=sides) if len(seen.columns) else ""
    files.write_text(run.folder / f"{name}.md", markdown + "\n")
    caption = f"{finding} {reading}".strip().replace("%", r"\%")
    files.write_text(run.folder / f"{name}.tex", seen.to_latex(index=False, escape=True, caption=caption))
    display(HTML(as_html(seen, sides)))
    _tell(run, "table", name, finding, reading)


def drawn(frame: pd.DataFrame, heads: dict | None = None) -> pd.DataFrame:
    """A table as it is read: text in every cell, value and interval in one; ``heads`` as of ``table``.

    Raises: ValueError: for two columns of one head.
    """
    heads = {column: str(column) for column in frame} if heads is None else heads
    if len(set(heads.values())) < len(heads):
        raise ValueError(f"two columns of a table have one head: {', '.join(heads.values())}")
    columns = {}
    for column, head in heads.items():
        if isinstance(column, tuple):
            columns[head] = [sentences.interval(*row) for row in frame[list(column)].itertuples(index=False)]
        else:
            columns[head] = [_cell(value) for value in frame[column]]
    return pd.DataFrame(columns, dtype=object)


def _cell(value) -> str:
    if pd.api.types.is_scalar(value) and pd.isna(value):
        return "–"
    if pd.api.types.is_bool(value):
        return "yes" if value else "no"
    if pd.api.types.is_integer(value):
        return sentences.number(value, 0)
    return sentences.number(value) if pd.api.types.is_float(value) else str(value)


def as_html(seen: pd.DataFrame, sides: list[str]) -> str:
    """A drawn table as HTML: its first ``ROWS`` rows in view, the others behind one click."""

    def lines(rows):
        head = "".join(f'<th scope="col" style="text-align:{s}">{escape(str(c))}</th>' for c, s in zip(seen, sides))
        body = "".join(
            "<tr>" + "".join(f'<td style="text-align:{s}">{escape(v)}</td>' for v, s in zip(row, sides)) + "</tr>"
            for row in rows.itertuples(index=False)
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    if len(seen) <= ROWS:
        return lines(seen)
    others = f"<summary>The other {len(seen) - ROWS} rows</summary>{lines(seen[ROWS:])}"
    return f"{lines(seen[:ROWS])}<details>{others}</details>"
