"""What a notebook shows and stores for the reader: figures and tables with captions, and computed sentences."""

import shutil

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import Image, Markdown, display

from ldct_utils.study import files, paths


def text(markdown: str):
    """Show a sentence or paragraph that holds computed numbers."""
    display(Markdown(markdown))


def plural(number: int, word: str) -> str:
    """A number of things, e.g. ``1 patient``, ``5 patients``, ``2 patches``."""
    ending = "es" if word.endswith("ch") else "s"
    return f"{number} {word}" + (ending if number != 1 else "")


def bracket(low: float, high: float, form: str = ".3g") -> str:
    """An interval as text, each end in this format; a dash where there is none."""
    return "–" if pd.isna(low) else f"[{low:{form}}, {high:{form}}]"


def brackets(table: pd.DataFrame, form: str = ".2f") -> list[str]:
    """``bracket`` of every row of a table with columns low and high."""
    return [bracket(*ends, form) for ends in zip(table.low, table.high)]


def _record(run, kind: str, name: str, caption: str):
    """Add an item to the run's ``captions.json``, which keeps the order in which the notebook shows things."""
    path = run.folder / "captions.json"
    items = files.read_json(path) if path.is_file() else {}
    items[name] = {"kind": kind, "caption": caption}
    files.write_json(path, items)


def figure(run, name: str, fig, caption: str):
    """Show a figure with its caption and store it in the run folder as ``<name>.png`` and ``<name>.pdf``.

    Args:
        run: the open run.
        name: file name without suffix.
        caption: states the finding, with units and window, as computed text.
    """
    for suffix in ("png", "pdf"):
        with files.write_atomic(run.folder / f"{name}.{suffix}") as temporary:
            # No dates or versions in the file: the same run gives the same bytes.
            fig.savefig(temporary, metadata={"CreationDate": None} if suffix == "pdf" else {"Software": None})
        fig.set_layout_engine("none")  # the first file laid it out, which takes as long as to draw it
    display(fig)
    plt.close(fig)
    text(f"**Figure ({name}).** {caption}")
    _record(run, "figure", name, caption)


def figures(of) -> list[str]:
    """Names of the figures that a run has stored, in the order in which it showed them."""
    items = of.folder / "captions.json"
    stored = files.read_json(items) if items.is_file() else {}
    return [name for name, item in stored.items() if item["kind"] == "figure"]


def shown(run, name: str, of, caption: str | None = None):
    """Show a figure that another run has stored, and store a copy in this run's folder, by the same name.

    Args: run: the open run. of: the finished run. caption: in place of the figure's own, which is told with its origin.
    Raises: FileNotFoundError: if ``of`` has no such figure.
    """
    items = of.folder / "captions.json"
    stored = files.read_json(items) if items.is_file() else {}
    item = stored.get(name)
    if item is None or item["kind"] != "figure":
        there = sorted(figure for figure, one in stored.items() if one["kind"] == "figure")
        raise FileNotFoundError(
            f"{paths.short(of.folder)} holds no figure {name!r}; it has {', '.join(there) or 'none'}: run it again"
        )
    for suffix in ("png", "pdf"):
        with files.write_atomic(run.folder / f"{name}.{suffix}") as temporary:
            shutil.copyfile(of.folder / f"{name}.{suffix}", temporary)
    caption = caption or f"{item['caption']} From `{of.result['notebook']}`."
    display(Image(filename=run.folder / f"{name}.png"))
    text(f"**Figure ({name}).** {caption}")
    _record(run, "figure", name, caption)


def table(run, name: str, frame: pd.DataFrame, caption: str, digits: int = 3):
    """Show a table with its caption and store it as parquet, Markdown and LaTeX in the run folder.

    Args: digits: significant digits of the numbers as shown; the parquet keeps them all.
    """
    shown = frame.map(lambda v: _number(v, digits) if isinstance(v, float) else v)
    if not (run.folder / f"{name}.parquet").is_file():
        files.write_parquet(run.folder / f"{name}.parquet", frame)
    # Columns of numbers to the right; text that looks like a number stays as it was written.
    sides = ["right" if pd.api.types.is_numeric_dtype(frame[c]) else "left" for c in frame]
    markdown = shown.to_markdown(index=False, disable_numparse=True, colalign=sides)
    files.write_text(run.folder / f"{name}.md", markdown + "\n")
    escaped = shown.rename(columns=str).to_latex(index=False, escape=True, caption=caption.replace("%", r"\%"))
    files.write_text(run.folder / f"{name}.tex", escaped)
    display(shown.style.hide(axis="index"))
    text(f"**Table ({name}).** {caption}")
    _record(run, "table", name, caption)


def _number(value: float, digits: int) -> str:
    """A number with ``digits`` significant digits, without an exponent where four or fewer zeros are lost."""
    if pd.isna(value):
        return "-"
    plain = f"{value:.{digits}g}"
    return f"{value:.0f}" if "e" in plain and 1 <= abs(value) < 1e6 else plain
