"""Compute finished runs again and say whether their numbers come back.

python workflow/verify.py 'default/06_stats/*' [more run folders or patterns] [--keep]

A run is computed from its recorded parameters, with the code as it is now, from the same cohort and the same upstream
runs; 01_data builds its cohort anew. Every number, table, array and checkpoint is then compared, to the bit: on one
machine, with one thread count and the same packages they come back so. What a clock measured is left out.
"""

import argparse
import os
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import run_notebook
import study

from ldct_utils.study import files, paths, runs

CLOCKED = {"seconds", "patches_per_s", "s a slice", "MB a slice"}  # numbers and columns that a clock or meter gave
STORED = (".parquet", ".npy", ".safetensors")
COHORTS = "01_data"  # the notebook whose result is a cohort as well
MOST = 12  # differences named, a run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a run folder below outputs/, or a pattern of several")
    parser.add_argument("--keep", action="store_true", help="keep what was computed, in outputs/.verify")
    given = parser.parse_args()
    try:
        chosen = runs.select([name.removeprefix("outputs/").rstrip("/") for name in given.runs])
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    os.chdir(paths.root())  # notebooks run from there, and their outputs name no other folder
    verdicts = [verify(run, given.keep) for run in chosen]
    if len(chosen) > 1:
        print(f"\n{verdicts.count(0)} of {len(chosen)} runs came back the same")
    return max(verdicts)


def verify(old: runs.Finished, keep: bool = False) -> int:
    """Compute one run again and print what differs. Returns: 0 if nothing does, 1 if something, 2 if it failed."""
    result, where = old.result, paths.outputs() / ".verify" / old.id
    print(f"{paths.short(old.folder)}: took {result['seconds']:.0f} s then, computing it again ...", flush=True)
    with files.locked(where, say=lambda line: print(line, flush=True)):
        shutil.rmtree(where, ignore_errors=True)
        where.mkdir(parents=True)
        began = time.time()
        try:
            new = again(old, where)
        except Exception as error:  # whatever a notebook, its kernel or the disk may raise: the other runs go on
            print(f"  FAILED: {str(error).strip().splitlines()[-1][:300]}; see {paths.short(where / 'notebook.ipynb')}")
            return 2
        for line in circumstances(old, new):
            print(f"  note: {line}")
        found = differences(old, new)
        for line in found[:MOST]:
            print(f"  DIFFERS  {line}")
        if len(found) > MOST:
            print(f"  and {len(found) - MOST} more")
        counted = f"{len(flat(result['numbers']))} numbers and {len(stored(old))} files"
        same = f"{counted} are the same to the bit" if not found else f"{len(found)} of {counted} differ"
        print(f"  {same} ({time.time() - began:.0f} s)", flush=True)
        if not keep:
            shutil.rmtree(where)
    return int(bool(found))


def again(old: runs.Finished, where: Path) -> runs.Finished:
    """Compute a finished run anew, below the folder ``where``."""
    notebook, params, own = old.result["notebook"], dict(old.params), {"LDCT_WEIGHTS": str(paths.weights())}
    if notebook == COHORTS:
        own["LDCT_OUTPUTS"] = str(where)  # a new cohort beside the old one
    else:
        params["study"] = str(where.relative_to(paths.outputs()))  # says where a run is stored, not what it is
    kept = {name: os.environ.get(name) for name in own}
    os.environ.update(own)
    try:
        with study.into(where / "kernel.log"):  # what kernels say as they start
            run_notebook.execute(notebook, where / "notebook.ipynb", params)
    finally:
        for name, value in kept.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    (found,) = where.rglob("result.json")
    return runs.Finished(found.parent)


def circumstances(old: runs.Finished, new: runs.Finished) -> list[str]:
    """What is not as it was: code, data, packages."""
    then, now = old.result, new.result
    found = []
    if old.id != new.id:
        commit = (then["commit"] or "unknown")[:7] + (" with changes" if then["dirty"] else "")
        found.append(f"its code or data have changed since (it is of commit {commit})")
    for name in sorted({*then["versions"], *now["versions"]}):
        before, after = (versions.get(name, "absent") for versions in (then["versions"], now["versions"]))
        if before != after:
            found.append(f"{name} was {before}, is {after}")
    return found


def differences(old: runs.Finished, new: runs.Finished) -> list[str]:
    """What a run computed otherwise than the one before it, a line each; [] if they are the same."""
    then, now = flat(old.numbers), flat(new.numbers)
    found = [f"{name}: {then.get(name)} then, {now.get(name)} now" for name in sorted({*then, *now})
             if then.get(name) != now.get(name)]  # fmt: skip
    recorded, before, after = old.result["files"], stored(old), stored(new)
    for name in sorted({*before, *after, *recorded}):
        if name not in before or name not in after:
            found.append(f"{name}: {'only then' if name not in after else 'only now'}")
        elif name in recorded and files.sha256(before[name]) != recorded[name]:
            found.append(f"{name}: not the file that the run wrote; it was changed afterwards")
        elif difference := difference_of(before[name], after[name]):
            found.append(f"{name}: {difference}")
    return found


def flat(numbers: dict, prefix: str = "") -> dict:
    """Numbers by name, those of a nested one as ``outer.inner``, without those that a clock gave."""
    found = {}
    for name, value in numbers.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{name}.")
        elif name not in CLOCKED:
            found[f"{prefix}{name}"] = value
    return found


def stored(run: runs.Finished) -> dict[str, Path]:
    """Tables, arrays and weights of a run, and of its cohort, by name."""
    folders = {"": run.folder}
    if run.result["notebook"] == COHORTS:
        folders["cohort/"] = run.folder.parents[2] / "cohorts" / run.numbers["cohort"]
    return {
        prefix + str(path.relative_to(folder)): path
        for prefix, folder in folders.items()
        for path in sorted(folder.rglob("*"))
        if path.suffix in STORED and ".tmp-" not in path.name
    }


def difference_of(before: Path, after: Path) -> str:
    """How two stored files differ, in words; nothing if they hold the same."""
    if files.sha256(before) == files.sha256(after):
        return ""
    if before.suffix == ".parquet":
        return _of_tables(pd.read_parquet(before), pd.read_parquet(after))
    if before.suffix == ".npy":
        arrays = {"values": [np.load(path, mmap_mode="r", allow_pickle=False) for path in (before, after)]}
    else:
        from safetensors.torch import load_file

        weights = [load_file(path) for path in (before, after)]
        if set(weights[0]) != set(weights[1]):
            return "other weights by name"
        arrays = {name: [one[name].double().numpy() for one in weights] for name in weights[0]}
    if any(one.shape != other.shape for one, other in arrays.values()):
        return "another shape"
    return _worst({name: _of_values(one.ravel(), other.ravel()) for name, (one, other) in arrays.items()})


def _of_tables(before: pd.DataFrame, after: pd.DataFrame) -> str:
    if before.shape != after.shape:
        return f"{len(before)} rows and {before.shape[1]} columns then, {len(after)} and {after.shape[1]} now"
    if list(before.columns) != list(after.columns):
        return "other columns"
    shared = [name for name in before.columns if name not in CLOCKED]
    return _worst({name: _of_values(before[name].to_numpy(), after[name].to_numpy()) for name in shared})


def _of_values(before: np.ndarray, after: np.ndarray) -> tuple[int, float]:
    """How many values differ, and by how much at most, relative to the largest; NaN is equal to NaN."""
    if any(values.dtype.kind not in "iufb" for values in (before, after)):
        unequal = [str(one) != str(other) for one, other in zip(before, after)]
        return sum(unequal), float("nan")
    before, after = before.astype(float), after.astype(float)
    unequal = ~((before == after) | (np.isnan(before) & np.isnan(after)))
    if not unequal.any():
        return 0, 0.0
    return int(unequal.sum()), float(np.abs(after - before)[unequal].max() / np.nanmax(np.abs(before)))


def _worst(found: dict[str, tuple[int, float]]) -> str:
    """The columns or weights that differ, in words."""
    told = [f"{name} ({count} values" + (f", by up to {part:.1e} of the largest)" if part == part else ")")
            for name, (count, part) in found.items() if count]  # fmt: skip
    return ", ".join(told[:4]) + (f" and {len(told) - 4} more" if len(told) > 4 else "")


if __name__ == "__main__":
    sys.exit(main())
