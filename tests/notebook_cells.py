"""Code cells of a notebook's script, as jupytext reads them, and running them in the test's own process."""

from pathlib import Path
from unittest import mock

import jupytext
from IPython.display import HTML, Markdown

from ldct_utils.report import captions


def code_cells(script: Path, values: dict | None = None) -> list[str]:
    """Sources of the code cells; ``values`` are set in a cell after the parameters, as papermill sets them.

    Every notebook has exactly one cell of parameters, and no code before it: what is asked for is never left out
    because a cell could not be found.
    """
    cells = [cell for cell in jupytext.read(script, fmt="py:percent").cells if cell.cell_type == "code"]
    tagged = ["parameters" in cell.metadata.get("tags", []) for cell in cells]
    assert tagged.count(True) == 1 and tagged[0], f"{script.name}: the first cell of code must be the parameters'"
    given = ["\n".join(f"{name} = {value!r}" for name, value in values.items())] if values else []
    return [cells[0].source, *given, *(cell.source for cell in cells[1:])]


def execute(script: Path, values: dict | None = None, **space) -> dict:
    """The namespace after every cell has run in it, ``space`` in it from the start."""
    space = {"__name__": "__main__"} | space
    for number, cell in enumerate(code_cells(script, values)):
        exec(compile(cell, f"{script.name}, code cell {number}", "exec"), space)
    return space


def shown(script: Path, values: dict | None = None) -> str:
    """The text of all cells that a notebook shows when it is executed: sentences, captions and tables."""
    with mock.patch.object(captions, "display") as display:
        execute(script, values)
    parts = [part for call in display.call_args_list for part in call.args]
    return "\n".join(part.data for part in parts if isinstance(part, Markdown | HTML))
