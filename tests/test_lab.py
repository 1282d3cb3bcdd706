"""`make lab`: a real JupyterLab server in which .py and .ipynb open as notebooks and stay in step."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import jupytext
import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = """# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 99 · Pair

# %% tags=["parameters"]
dose: float = 0.25  # fraction
"""


class Server:
    """JupyterLab on a free loopback port, in a folder of its own that holds what the project gives JupyterLab."""

    def __init__(self, folder: Path):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        env = os.environ | {"JUPYTER_CONFIG_PATH": str(folder / ".jupyter"), "JUPYTER_TOKEN": "secret"}
        command = [sys.executable, "-m", "jupyterlab", "--ServerApp.ip=127.0.0.1", "--notebook-dir=.", "--no-browser"]
        command += ["--allow-root", f"--port={self.port}", "--ServerApp.port_retries=0"]
        with open(folder / "server.log", "w") as log:
            self.process = subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=log)
        end = time.time() + 120
        while True:
            try:
                self.ask("api/status")
                return
            except OSError:
                if self.process.poll() is not None or time.time() > end:
                    self.process.kill()
                    raise AssertionError((folder / "server.log").read_text()) from None
                time.sleep(0.2)

    def ask(self, path: str, send: dict | None = None, token: str = "secret") -> dict:
        body = json.dumps(send).encode() if send else None
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/{path}", body, {"Authorization": f"token {token}"}
        )
        request.method = "PUT" if send else "GET"
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    shutil.copytree(ROOT / ".jupyter", folder / ".jupyter")
    shutil.copy(ROOT / "jupytext.toml", folder)
    (folder / "notebooks").mkdir()
    (folder / "notebooks" / "99_pair.py").write_text(SCRIPT)
    jupytext.write(jupytext.reads(SCRIPT, "py:percent"), folder / "notebooks" / "99_pair.ipynb")
    (folder / "module.py").write_text('"""A module."""\n\nx = 1\n')
    server = Server(folder)
    server.folder = folder
    yield server
    server.process.terminate()
    server.process.wait(30)


def test_make_lab_listens_on_loopback_with_the_project_settings():
    recipe = (ROOT / "Makefile").read_text().split("\nlab:")[1].split("\n\n")[0]
    assert "--ServerApp.ip=127.0.0.1" in recipe and "JUPYTER_CONFIG_PATH=$(CURDIR)/.jupyter" in recipe
    assert "token" not in recipe.lower().replace("(loopback, token)", "")


def test_lab_refuses_who_has_no_token(lab):
    for token in ("", "wrong"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            lab.ask("api/contents", token=token)
        assert refused.value.code == 403


def test_a_script_opens_as_a_notebook_on_a_double_click(lab):
    plugin = lab.ask("lab/api/settings/@jupyterlab/docmanager-extension:plugin")
    assert plugin["schema"]["properties"]["defaultViewers"]["default"]["python"] == "Jupytext Notebook"
    opened = lab.ask("api/contents/notebooks/99_pair.py?type=notebook&content=1")
    assert opened["type"] == "notebook" and opened["content"]["cells"][0]["source"] == "# 99 · Pair"


@pytest.mark.parametrize(("saved", "follows"), [("99_pair.ipynb", "99_pair.py"), ("99_pair.py", "99_pair.ipynb")])
def test_saving_one_of_a_pair_changes_the_other(lab, saved, follows):
    model = lab.ask(f"api/contents/notebooks/{saved}?type=notebook&content=1")
    line = f"dose: float = 0.{len(saved)}  # changed in {saved}"
    model["content"]["cells"][1]["source"] = line
    lab.ask(f"api/contents/notebooks/{saved}", {"type": "notebook", "format": "json", "content": model["content"]})
    for name in (saved, follows):
        text = (lab.folder / "notebooks" / name).read_text()
        assert line in text, name
    script = (lab.folder / "notebooks" / "99_pair.py").read_text()
    assert '# %% tags=["parameters"]' in script and "name: python3" in script
    assert "version" not in script and "filter" not in script  # another jupytext or its settings are no change


def test_a_module_that_is_saved_gets_no_notebook_beside_it(lab):
    model = lab.ask("api/contents/module.py?type=file&content=1")
    lab.ask("api/contents/module.py", {"type": "file", "format": "text", "content": model["content"]})
    opened = lab.ask("api/contents/module.py?type=notebook&content=1")
    lab.ask("api/contents/module.py", {"type": "notebook", "format": "json", "content": opened["content"]})
    assert not (lab.folder / "module.ipynb").exists()
