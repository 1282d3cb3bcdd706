"""Run one planned run in a process of its own: papermill on its notebook, output into its run folder.

python workflow/run_notebook.py outputs/<study>/plan.json 3 outputs/<study>/events
"""

import json
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

import events
import quick_start

from ldct_utils.study import files, paths

quick_start.without_web_address_grammar()


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


def execute(notebook: str, output: Path, params: dict):
    """Execute a notebook by papermill, from the study's root, on as many threads as its parameters say.

    The kernel is reached by Unix sockets. By TCP, Jupyter looks for free ports first and the kernel binds them a second
    later: of many kernels that start at once, now and then one finds its port taken and dies.
    """
    threads = str(params.get("threads") or 1)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = threads  # read by the kernel's libraries as they load
    import papermill
    from traitlets.config import Config

    roomy = len(tempfile.gettempdir()) < 80  # a socket's path may have some 100 characters
    where = None if roomy else "/tmp"
    with tempfile.TemporaryDirectory(prefix="ldct-", dir=where, ignore_cleanup_errors=True) as sockets:
        papermill.execute_notebook(
            f"notebooks/{notebook}.ipynb",
            str(output),
            parameters=params,
            kernel_name="python3",
            progress_bar=False,
            autosave_cell_every=5,  # seconds: what a killed run keeps of its outputs
            start_timeout=300,  # seconds: an environment on a cluster's network disk starts slowly
            iopub_timeout=60,  # seconds: on a machine that is too busy, a cell's last output may come late
            config=Config(KernelManager={"transport": "ipc", "ip": f"{sockets}/kernel"}),
        )


def main(plan: str, number: str, told: str) -> int:
    die_with_parent()
    run = json.loads(Path(plan).read_text(encoding="utf-8"))[int(number)]
    folder, began = paths.outputs() / run["folder"], time.time()
    own = events.file_of(told, folder)
    if any(event["event"] == "failed" for event in events.read(own)[0]):
        return 1  # it failed by itself since the study was started; retries are for runs that were killed
    from papermill.exceptions import PapermillExecutionError

    folder.mkdir(parents=True, exist_ok=True)
    events.tell(own, "start")
    try:
        execute(run["notebook"], folder / "notebook.ipynb", run["params"])
    except PapermillExecutionError as error:
        message = f"{error.ename}: {error.evalue}"
    except Exception as error:  # a dead kernel, a full disk: whatever it was belongs into the same list
        full = isinstance(error, OSError) and error.errno in files.FULL
        message = f"{type(error).__name__}: {files.no_space(folder, error.errno) if full else error}"
    else:
        if (folder / "result.json").is_file():
            events.tell(own, "done", seconds=time.time() - began)
            return 0
        message = "ended without a result.json in the planned folder; was code edited during the study? Run it again"
    events.tell(own, "failed", message=message.strip().splitlines()[0][:300])
    print(message, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
