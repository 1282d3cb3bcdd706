"""Metrics that pyiqa computes: its models built from checked files only, without a network, and kept per device."""

import contextlib
import io
import os
import tempfile
from functools import cache
from pathlib import Path

import torch

from ldct_utils.metrics.registry import register
from ldct_utils.models import weights

# A proxy that refuses: a library that wants a file that was not named fails at once instead of fetching it unseen.
# Torch then refuses any pickle but plain tensors, whatever the library asks for.
CLOSED = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
CLOSED |= {"HF_HUB_OFFLINE": "1", "TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1", "no_proxy": "", "NO_PROXY": ""}


@contextlib.contextmanager
def staged(needs):
    """A folder of the checked files alone stands in for the caches of torch, pyiqa and Hugging Face meanwhile."""
    found = {weights.METRIC_FILES[key].path: weights.checked(key) for key in needs}
    before = dict(os.environ)
    with tempfile.TemporaryDirectory() as folder:
        for path, source in found.items():
            link = Path(folder) / path
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(source.resolve())
            if path.startswith("huggingface/"):
                (link.parents[2] / "refs").mkdir(exist_ok=True)
                (link.parents[2] / "refs" / "main").write_text("main")
        os.environ.update(CLOSED | {"TORCH_HOME": folder, "HF_HOME": f"{folder}/huggingface"})
        try:
            from huggingface_hub import constants
            from pyiqa.utils import download_util

            held = constants.HF_HUB_CACHE, constants.HF_HUB_OFFLINE, download_util.DEFAULT_CACHE_DIR
            constants.HF_HUB_CACHE, constants.HF_HUB_OFFLINE = f"{folder}/huggingface/hub", True
            download_util.DEFAULT_CACHE_DIR = f"{folder}/hub/pyiqa"
            try:
                yield
            finally:
                constants.HF_HUB_CACHE, constants.HF_HUB_OFFLINE, download_util.DEFAULT_CACHE_DIR = held
        finally:
            os.environ.clear()
            os.environ.update(before)


@cache
def model(name: str, needs: tuple, device: str):
    """pyiqa's metric of that name, on a device; built once a process. Raises: as ``weights.checked``."""
    with staged(needs), contextlib.redirect_stdout(io.StringIO()):
        import pyiqa

        return pyiqa.create_metric(name, device=torch.device(device))


def add(name, asked, label, direction, low, high, digits, needs=(), family="no-reference", smallest=32, note="",
        reference=""):  # fmt: skip
    """Register ``asked``, a metric of pyiqa, as ``name``; other fields as in ``Metric``, ``note`` follows the library.

    It is given three equal channels in [0, 1], float32, image by image where a network would mix a batch.
    """

    def compute(*images, mask=None):
        *images, _ = images  # the last is the data range, which is 1
        shown = [image.float().clamp(0, 1)[:, None].expand(-1, 3, -1, -1) for image in images]
        scorer = model(asked, tuple(needs), str(images[0].device))
        return torch.cat([scorer(*(s[i : i + 1] for s in shown)).reshape(1) for i in range(len(images[0]))]).double()

    register(
        name=name, direction=direction, low=low, high=high, unit="", takes="unit", label=label, digits=digits,
        family=family, smallest=smallest, library=f"pyiqa {asked}{note and ', ' + note}", reference=reference,
        needs=("pyiqa", *needs),
    )(compute)  # fmt: skip
