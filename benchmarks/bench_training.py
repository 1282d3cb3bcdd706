"""Patches per second of one training update: a plain float32 loop, an earlier commit and ours, on the same batch and in
one process.

The plain loop is what a tutorial would write: the grey channel is repeated three times, VGG-19 is applied to prediction
and target alike with gradients on, everything in float32 and the default memory layout. Ours folds the repeated channel
into the first convolution, encodes the target without gradients, freezes the encoder, works in channels_last, takes
ReLUs along with the convolutions and, where the machine multiplies bfloat16 itself, works in bf16. The earlier commit
is taken from git, under another name. It runs twice: before this process is told to keep freed memory, as it did then,
and after that in turn with ours. The last table is what the loop of 03_train costs over bare updates: its cell is taken
from the notebook and run as it stands.

Run: python benchmarks/bench_training.py [--threads N] [--updates N] [--against COMMIT] [--compile]
"""

import argparse
import importlib
import io
import subprocess
import sys
import tarfile
import tempfile
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm

from ldct_utils.cohorts import patches
from ldct_utils.models import encoders, networks
from ldct_utils.report import plots
from ldct_utils.report.drawings import training as drawings
from ldct_utils.study import machine, paths
from ldct_utils.training import checkpoints, history, losses, setup
from ldct_utils.training.methods.supervised import Supervised

LAYERS = ("block3_conv2", "block5_conv4")
SIZES = {  # (channels, patches an update, rows and columns of a patch, levels of the VGG term; None: MSE alone)
    "the paper's": (32, 16, 96, LAYERS),
    "the default study's": (16, 8, 64, (None, *LAYERS)),
}
EARLIER = "39c063c"  # before convolutions took their ReLUs along


class Plain:
    """The loop to compare with: nothing is wrong with it, it only does work that is not needed."""

    def __init__(self, layer, channels):
        torch.manual_seed(0)
        self.network = networks.build("unet", channels=channels, residual=True)
        self.vgg = layer and encoders.network("vgg19", layer)
        self.optimiser = torch.optim.Adam(self.network.parameters(), 1e-4)

    def update(self, ldct, ndct):
        pred = self.network(ldct)
        loss = nn.functional.mse_loss(pred, ndct)
        if self.vgg:
            features = [next(iter(self.vgg(255 * image.repeat(1, 3, 1, 1)).values())) for image in (pred, ndct)]
            loss = loss + 1e-5 * nn.functional.mse_loss(*features)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()


def fetch(commit):
    """Make the package of an earlier commit importable; returns its name."""
    name, folder = f"ldct_utils_{commit}", tempfile.mkdtemp()
    root = Path(__file__).resolve().parents[1]
    archive = subprocess.run(["git", "archive", commit, "ldct_utils"], cwd=root, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")
    package = (Path(folder) / "ldct_utils").rename(Path(folder) / name)
    for path in package.rglob("*.py"):
        path.write_text(path.read_text(encoding="utf-8").replace("ldct_utils", name), encoding="utf-8")
    sys.path.insert(0, folder)
    return name


def ours(layer, precision, channels, package="ldct_utils"):
    """A supervised step of this package, or of the one that ``fetch`` named."""
    needed = ("models.encoders", "models.networks", "training.losses", "training.methods.supervised")
    encoders_, networks_, losses_, supervised = (importlib.import_module(f"{package}.{name}") for name in needed)
    torch.manual_seed(0)
    loss = losses_.build("mse")
    if layer:
        loss = losses_.build("vgg", encoders_.load(context="random", layers=(layer,)), layer, 1e-5)
    network = networks_.build("unet", channels=channels, residual=True)
    return supervised.Supervised(network, loss, 1e-4, precision=precision)


def seconds_each(updates, methods, batch):
    """Median seconds of an update of each method; they take turns, so that a busy machine slows all alike."""
    taken = {name: [] for name in methods}
    for turn in range(updates + 1):
        for name, method in methods.items():
            started = time.perf_counter()
            method.update(*batch)
            if turn:  # the first one warms up
                taken[name].append(time.perf_counter() - started)
    return {name: float(np.median(values)) for name, values in taken.items()}


def table(title, asked, earlier, before):
    """One size's table. ``before``: {(title, layer, precision): seconds}, of the earlier commit as it was."""
    channels, patches_, size, layers = SIZES[title]
    batch = batch_of(title)
    print(f"\nU-Net {channels} channels, {patches_} patches of {size}x{size} ({title})")
    print(f"{'layer':13} {'method':22} {'s/update':>9} {'patches/s':>10} {'of plain':>9} {'of earlier':>11}")
    for layer in layers:
        methods = {"plain float32": Plain(layer, channels)}
        for precision in precisions():
            methods[f"{asked.against} {precision}, kept"] = ours(layer, precision, channels, earlier)
            methods[f"ours {precision}"] = ours(layer, precision, channels)
            if asked.compile:
                compiled = ours(layer, precision, channels)
                compiled.network = torch.compile(compiled.network)
                methods[f"ours {precision} compiled"] = compiled
        taken = seconds_each(asked.updates, methods, batch)
        taken |= {f"{asked.against} {p}": before[title, layer, p] for p in precisions()}
        for name, seconds in taken.items():
            precision = "bf16" if "bf16" in name else "float32"
            then = taken[f"{asked.against} {precision}"] / seconds
            print(
                f"{layer or 'MSE alone':13} {name:22} {seconds:9.4f} {patches_ / seconds:10.1f} "
                f"{taken['plain float32'] / seconds:9.2f} {then:11.2f}"
            )


def batch_of(title):
    _, patches_, size, _ = SIZES[title]
    return [torch.rand(patches_, 1, size, size) * 0.1 + 0.2 for _ in range(2)]


def precisions():
    return ("float32", "bf16") if machine.has_fast_bf16() else ("float32",)


def loop_cost(updates):
    """Seconds of ``updates`` bare updates and of the loop of 03_train around as many, without its evaluations."""
    images = np.random.default_rng(0).integers(-1000, 1000, (4, 256, 256)).astype(np.int16)
    cohort = SimpleNamespace(ldct=images, ndct=images)
    cells = (paths.notebooks() / "03_train.py").read_text().split("\n# %%")
    (loop,) = (cell for cell in cells if "while done < total" in cell)
    bare, looped = [], []
    for _ in range(3):
        for kept, with_loop in ((bare, False), (looped, True)):
            torch.manual_seed(0)
            model = networks.build("unet", channels=16, residual=True)
            step = Supervised(model, losses.build("mse"), 1e-3)
            sampler = patches.Sampler(cohort, range(4), 64, None, 8, seed=0)
            with (
                tempfile.TemporaryDirectory() as folder,
                redirect_stderr(io.StringIO()),
                redirect_stdout(io.StringIO()),
            ):
                scope = {
                    "history": history.History(8), "sampler": sampler, "step": step, "objective": step.loss,
                    "model": model, "network": "unet", "built": {"channels": 16, "residual": True},
                    "schedule": "constant", "lr": 1e-3, "warmup": 50,
                    "total": updates + 1, "done": 0, "batch": 8, "eval_every": 10**9, "checkpoint_every": 200,
                    "every": (10, 10**9, 200), "save_every_s": 30.0, "psi_on": "fixed",
                    "tqdm": tqdm, "plots": plots, "setup": setup, "checkpoints": checkpoints,
                    "time": time,
                    "run": SimpleNamespace(folder=Path(folder), id="benchmark", finished=False),
                    "watch": SimpleNamespace(scores=lambda: {"val_rmse_hu": 0.0}),
                    "live": plots.Live(drawings.curves), "saved": time.monotonic(),
                }  # fmt: skip
                step.update(*sampler.next())
                started = time.perf_counter()
                if with_loop:
                    scope["done"] = 1
                    exec(compile(loop, "03_train", "exec"), scope)
                else:
                    for _ in range(updates):
                        step.update(*sampler.next())
                kept.append(time.perf_counter() - started)
    return min(bare), min(looped)


def main():
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--threads", type=int, default=machine.cpu_threads())
    asked.add_argument("--updates", type=int, default=5)
    asked.add_argument("--against", default=EARLIER, metavar="COMMIT", help=f"earlier commit, {EARLIER} by default")
    asked.add_argument("--compile", action="store_true", help="also torch.compile of the network")
    asked = asked.parse_args()
    torch.set_num_threads(asked.threads)
    fast = "yes" if machine.has_fast_bf16() else "no"
    print(f"{asked.threads} threads, own bf16: {fast}; '{asked.against}' is that commit, 'kept' with freed memory kept")
    earlier = fetch(asked.against)
    before = {}
    for title, (channels, _, _, layers) in SIZES.items():
        for layer in layers:
            for precision in precisions():
                alone = {"it": ours(layer, precision, channels, earlier)}
                before[title, layer, precision] = seconds_each(asked.updates, alone, batch_of(title))["it"]
    machine.keep_memory()
    for title in SIZES:
        table(title, asked, earlier, before)
    bare, looped = loop_cost(200)
    print("\n200 updates of the cheapest case: MSE, 16 channels, 8 patches of 64x64")
    print(f"bare updates {bare:.2f} s; in the loop of 03_train {looped:.2f} s ({looped / bare - 1:+.1%}), with log,")
    print("progress bar, live curves, a checkpoint and the state to resume from, without evaluations")


if __name__ == "__main__":
    main()
