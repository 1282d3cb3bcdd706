"""A study that is killed again and again ends as one that was left alone, to the bit.

    python benchmarks/kills.py [--kills 40] [--study smoke] [--seed 0] [--keep FOLDER]

The study runs twice: once undisturbed, once with ``kill -9`` of a random process of it (the command, the workflow
engine, a kernel, a worker) at random moments, each time started again by the same command. Then every number, table,
array and checkpoint of all runs is compared with `make verify`'s own comparison. Clocks are left out.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "workflow")]

import verify  # noqa: E402

from ldct_utils.study import files, runs  # noqa: E402


def start(study: str, outputs: Path) -> subprocess.Popen:
    """The study's command in a session of its own, so that its processes can be told from all others."""
    command = [sys.executable, str(ROOT / "workflow" / "study.py"), study, "--set", "real_ct=none"]
    return subprocess.Popen(
        command, cwd=ROOT, env=os.environ | {"LDCT_OUTPUTS": str(outputs)}, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def family(outputs: Path) -> list[int]:
    """Every process that computes for an outputs folder, orphans of a killed command among them."""
    found, mark = [], f"LDCT_OUTPUTS={outputs}".encode()
    for entry in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark in entry.read_bytes().split(b"\0") and int(entry.parent.name) != os.getpid():
                found.append(int(entry.parent.name))
        except OSError:  # it ended meanwhile
            continue
    return found


def kill_one(outputs: Path, rng: random.Random) -> str:
    """Kill a random process of the study; returns what it was. Orphans go on: the next start must bear with them."""
    if not (there := family(outputs)):
        return "nothing: none was there"
    chosen = rng.choice(there)
    try:
        words = Path(f"/proc/{chosen}/cmdline").read_bytes().split(b"\0")
        os.kill(chosen, signal.SIGKILL)
    except OSError:
        return "one that had just ended"
    told = [Path(word.decode(errors="replace")).name for word in words if word and not word.startswith(b"-")]
    return " ".join(told[:3])


def compare(before: Path, after: Path, study: str) -> list[str]:
    """Differences between all runs of two outputs folders, and runs that one of them lacks."""
    found = []
    listed = {p.parent.relative_to(before) for p in (before / study).glob("*/*/result.json")}
    for where in sorted(listed):
        if not (after / where / "result.json").is_file():
            found.append(f"{where}: not finished")
            continue
        found += [f"{where}: {one}" for one in verify.differences(runs.Run(before / where), runs.Run(after / where))]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--study", default="smoke")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for both outputs; a temporary one if not given")
    given = parser.parse_args()
    folder = given.keep or Path(tempfile.mkdtemp())
    calm, killed, rng = folder / "calm", folder / "killed", random.Random(given.seed)
    began = time.monotonic()
    assert start(given.study, calm).wait() == 0, f"the undisturbed study failed: see {calm}"
    length = time.monotonic() - began
    print(f"undisturbed: {length:.0f} s")
    process, victims = start(given.study, killed), []
    while len(victims) < given.kills:
        time.sleep(rng.uniform(0.5, 2 * length / given.kills))
        if process.poll() is None:
            victims.append(kill_one(killed, rng))
            print(f"{len(victims):3}  {time.monotonic() - began:6.0f} s  killed {victims[-1]}", flush=True)
        if process.poll() is not None:
            if process.returncode == 0:
                print("finished before its last kill")
                break
            process = start(given.study, killed)
    code = process.wait()
    while code != 0:  # what was killed is reported as failed; the same command does what is left
        code = start(given.study, killed).wait()
    differing = compare(calm, killed, given.study)
    print("\n".join(differing) or f"after {len(victims)} kills every run is as undisturbed, to the bit")
    files.write_json(folder / "kills.json", {"kills": len(victims), "victims": victims, "differences": differing})
    return bool(differing)


if __name__ == "__main__":
    sys.exit(main())
