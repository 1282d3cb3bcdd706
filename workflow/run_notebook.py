"""Run one planned run in a process of its own: papermill on its notebook, output into its run folder.

python workflow/run_notebook.py outputs/<study>/plan.json 3 outputs/<study>/events.jsonl
"""

import json
import os
import sys
import threading
import time
from pathlib import Path


def die_with_parent():
    """End this process when the one that started it is gone, or a killed study would go on writing behind our back.

    The Jupyter kernel does the same towards this process.
    """
    parent = os.getppid()

    def watch():
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def tell(events: str, **event):
    """Append one line; short appends to one file do not mix, so runs can share it."""
    with open(events, "a", encoding="utf-8") as handle:
        handle.write(json.dumps(event) + "\n")


def failed_before(events: str, index: int) -> bool:
    """Whether this run has already failed by itself since the study was started: a retry is for a lost node only."""
    path = Path(events)
    told = map(json.loads, path.read_text(encoding="utf-8").splitlines()) if path.is_file() else ()
    return any(event["run"] == index and event["event"] == "failed" for event in told)


def main(plan: str, number: str, events: str) -> int:
    die_with_parent()
    index = int(number)
    if failed_before(events, index):
        return 1
    run = json.loads(Path(plan).read_text(encoding="utf-8"))[index]
    threads = str(run["params"].get("threads") or 1)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = threads  # read by the kernel's libraries as they load
    import papermill
    from papermill.exceptions import PapermillExecutionError

    folder, began = Path(run["folder"]), time.time()
    folder.mkdir(parents=True, exist_ok=True)
    tell(events, run=index, event="start")
    try:
        papermill.execute_notebook(
            f"notebooks/{run['notebook']}.ipynb",
            str(folder / "notebook.ipynb"),
            parameters=run["params"],
            kernel_name="python3",
            progress_bar=False,
            autosave_cell_every=5,  # seconds: what a killed run keeps of its outputs
        )
    except PapermillExecutionError as error:
        message = f"{error.ename}: {error.evalue}"
    except Exception as error:  # a dead kernel, a full disk: whatever it was belongs into the same list
        message = f"{type(error).__name__}: {error}"
    else:
        if (folder / "result.json").is_file():
            tell(events, run=index, event="done", seconds=time.time() - began)
            return 0
        message = "ended without a result.json in the planned folder; was code edited during the study? Run it again"
    tell(events, run=index, event="failed", message=message.strip().splitlines()[0][:300])
    print(message, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
