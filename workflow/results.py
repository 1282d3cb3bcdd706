"""Write the numbers of README.md and docs/results.md from stored results: what `make results` calls.

    python workflow/results.py default     # outputs/default to docs/results/default.json and docs/report, then blocks
    python workflow/results.py             # the blocks alone, from the JSON files that are committed

A block stands between two comments, ``<!-- results: default dose -->`` and ``<!-- end -->``: one study and one block.
What is between them is written by `results_blocks`, from that study's file alone; nobody types there.
"""

import argparse
import json
import math
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import results_blocks
from blocks.shared import FOLDER

from ldct_utils import report
from ldct_utils.answers import collect as numbers
from ldct_utils.report import page
from ldct_utils.study import files, paths, planning, runs

PAGES = ("README.md", "docs/results.md")
PUBLISHED = "default"  # the study whose report docs/report holds, to be read without installing anything
COMMAND, HAND = "make results", "by hand"  # how a file came to be
_BLOCK = re.compile(r"<!-- results: *(.*?) *-->\n(.*?)<!-- end -->", re.DOTALL)
# {picture in docs/results/<study>-<name>.png: (notebook, the figure that it stored)}
PICTURES = {
    "hero": ("12_answers", "hero"),
    "dose": ("04b_dose", "equivalent_doses"),
    "tradeoff": ("14_tradeoff", "plane"),
    "judges": ("15_judges", "grid"),
    "metrics": ("04_metrics_during_training", "full_reference"),
    "psi": ("06_stats", "psi"),
}


class Study:
    """The finished runs of a study's last plan.

    Attributes: runs: {notebook: its runs, in the order of the plan}.
    Raises: FileNotFoundError: if the study has not been run. ValueError: naming the runs that are not finished.
    """

    def __init__(self, name: str):
        planning.read_study(name)  # an unknown name is told with the known ones
        plan = paths.outputs() / name / "plan.json"
        again = f"run `make study STUDY={name}`"
        if not plan.is_file():
            raise FileNotFoundError(f"study {name} has not been run: there is no {paths.short(plan)}; {again}")
        self.name, self.runs, missing = name, {}, []
        for listed in files.read_json(plan):
            run = runs.Run(paths.outputs() / listed["folder"])
            self.runs.setdefault(listed["notebook"], []).append(run)
            missing += [f"{listed['notebook']}/{listed['name']}"] * (not run.finished)
        if missing:
            total = sum(map(len, self.runs.values()))
            shown = ", ".join(missing[:12]) + (", ..." if len(missing) > 12 else "")
            raise ValueError(f"study {name}: {len(missing)} of {total} runs are not finished: {shown}; {again}")

    @property
    def all(self) -> list:
        return [run for of in self.runs.values() for run in of]


def folder() -> Path:
    return paths.root() / "docs" / "results"


# ---- outputs/<study> to docs/results/<study>.json ----
def rounded(value):
    """``value`` in JSON's types, floats at six significant digits, NaN as null: what was not measured.

    Raises: ValueError: for an infinite number.
    """
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    if isinstance(value, list):
        return [rounded(v) for v in value]
    if isinstance(value, float):  # NumPy's too
        if math.isinf(value):
            raise ValueError(f"{value} is not a finite number")
        return None if math.isnan(value) else float(f"{value:.6g}")
    return value


def tree_changed() -> bool:
    """Whether a tracked file differs from the last commit, but for those that this command writes."""
    command = ["git", "-C", str(paths.root()), "status", "--porcelain", "--untracked-files=no"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    changed = [line[3:].strip('"') for line in done.stdout.splitlines()]
    return any(path not in PAGES and not path.startswith("docs/results/") for path in changed)


def provenance(study) -> dict:
    """Where the numbers come from: what a reader must know before comparing them with numbers of another machine."""
    found = [run.result for run in study.all]
    cpus = [r.get("cpu", {"kind": "unknown", "cores": None}) for r in found]

    def distinct(name):
        return sorted({r["parameters"][name] for r in found if name in r["parameters"]})

    return {
        "commits": list(dict.fromkeys(r["commit"][:7] for r in sorted(found, key=lambda r: r["finished"]))),
        "dirty": any(r["dirty"] for r in found) or tree_changed(),
        "cpu": sorted({c["kind"] for c in cpus}),
        "cores": max((c["cores"] for c in cpus if c["cores"]), default=None),
        "device": distinct("device"),
        "precision": distinct("precision"),
        "threads": distinct("threads"),
        "finished": max(r["finished"] for r in found)[:10],
        "runs": len(found),
        "minutes": runs.minutes_busy(found),
        "notebooks": sorted(study.runs),
    }


def collect(name: str) -> Path:
    """Write ``docs/results/<name>.json`` and its pictures from the finished study. Returns: the file.

    Raises: as ``Study``; ValueError: naming the block, for a number that is not finite.
    """
    study = Study(name)
    found = {
        "study": name,
        "collected": COMMAND,
        "provenance": rounded(provenance(study)),
        "blocks": {},
        "pictures": {},
    }
    for block, (notebook, take) in numbers.BLOCKS.items():
        if notebook in study.runs:
            try:
                found["blocks"][block] = rounded(take(study.runs[notebook]))
            except (ValueError, KeyError) as error:
                raise ValueError(f"{name}: block {block} of {notebook}: {error}") from error
    folder().mkdir(parents=True, exist_ok=True)
    pages = [path for path in (paths.root() / page for page in PAGES) if path.is_file()]
    shown = "".join(path.read_text(encoding="utf-8") for path in pages)
    for picture, (notebook, figure) in PICTURES.items():
        target = folder() / f"{name}-{picture}.png"
        if pages and f"<!-- results: {name} {picture}_picture -->" not in shown:
            target.unlink(missing_ok=True)
            continue
        drawn = [run.folder / f"{figure}.png" for run in study.runs.get(notebook, []) if figure in report.figures(run)]
        if drawn:
            page.compress(drawn[0], target)
            found["pictures"][picture] = files.sha256(target)
        else:
            target.unlink(missing_ok=True)
    files.write_json(folder() / f"{name}.json", found)
    return folder() / f"{name}.json"


def photographed(written: Path, target: Path) -> bool:
    """Write what a reader first sees of a page, 1200 x 1000 pixels of it, small, where Chromium is there to draw it.

    Returns: whether it was written; without a browser ``target`` stays as it was.
    """
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        return False
    with tempfile.TemporaryDirectory() as room:
        flags = "--headless --no-sandbox --disable-gpu --hide-scrollbars --disable-background-networking"
        shot = Path(room) / "shot.png"
        command = [browser, *flags.split(), f"--user-data-dir={room}/profile", "--window-size=1200,1000",
                   "--virtual-time-budget=5000", f"--screenshot={shot}", written.resolve().as_uri()]  # fmt: skip
        subprocess.run(command, capture_output=True, check=True, timeout=120)
        page.compress(shot, target, width=600)
    return True


# ---- docs/results/<study>.json to the blocks of the pages ----
def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not a finite number")
    return number


def load(study: str) -> dict:
    """A study's file. Raises: FileNotFoundError: if there is none. ValueError: if it is not whole, names another study,
    or holds a number that is not finite."""
    path = folder() / f"{study}.json"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in folder().glob("*.json"))) or "none"
        raise FileNotFoundError(f"no {paths.short(path)} (there are: {known}); `make results STUDY={study}` writes it")
    try:
        found = json.loads(path.read_text(encoding="utf-8"), parse_float=_finite, parse_constant=_finite)
    except ValueError as error:
        raise ValueError(f"{paths.short(path)}: {error}; write it again with `make results STUDY={study}`") from error
    if found.get("study") != study:
        raise ValueError(f"{paths.short(path)} is of study {found.get('study')!r}; a file is called as its study")
    return found


def rendered(name: str, page: str) -> str:
    """The lines of a block. Args: name: what its comment names, a study and a block. page: the page that it stands on.

    Raises: ValueError: if it names several studies, or no known block.
    """
    words = name.replace(",", " ").split()
    studies = [w for w in words if (folder() / f"{w}.json").is_file()]
    if len(words) != 2 or len(studies) > 1:
        told = f" and {len(studies)} studies ({', '.join(studies)})" if len(studies) > 1 else ""
        raise ValueError(
            f"{page}: `results: {name}` has {len(words)} names{told}; a block is of one study: STUDY BLOCK"
        )
    study, block = words
    if block not in results_blocks.BLOCKS:
        known = ", ".join(sorted(results_blocks.BLOCKS))
        raise ValueError(f"{page}: `results: {name}`: no block {block!r}; known: {known}")
    stored = load(study)
    text = results_blocks.write(block, stored)
    above = "" if page == "README.md" else "../"
    text = text.replace(results_blocks.answer.NOTEBOOKS, f"{above}notebooks/")
    return text.replace(FOLDER, "results/" if above else "docs/results/")


def filled(page: str) -> str:
    """A page with its blocks as the stored files say them.

    Raises: as ``rendered``; ValueError: for a comment that opens no block.
    """
    text = (paths.root() / page).read_text(encoding="utf-8")
    if text.count("<!-- results:") != len(_BLOCK.findall(text)):
        raise ValueError(f"{page}: a `<!-- results: ... -->` without its `<!-- end -->`, each on a line of its own")
    return _BLOCK.sub(lambda m: f"<!-- results: {m[1]} -->\n{rendered(m[1], page)}\n<!-- end -->", text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("study", nargs="?", help="name of a file in params/; without it, only the pages are written")
    given = parser.parse_args()
    try:
        if given.study:
            print(f"collected: {paths.short(collect(given.study))}")
        if given.study == PUBLISHED:
            about = re.sub(r"<.*?>|`", "", results_blocks.source(load(PUBLISHED)))
            written = page.publish(PUBLISHED, paths.root() / "docs" / "report", about)
            print(f"published: {paths.short(written)}")
            if not photographed(written, folder() / f"{PUBLISHED}-report.png"):
                print("no Chromium here to draw the picture of the report in README.md: it stays as it was")
        for name in PAGES:
            text = filled(name)
            changed = text != (paths.root() / name).read_text(encoding="utf-8")
            files.write_text(paths.root() / name, text)
            print(f"{name}: {'written' if changed else 'no change'}")
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
