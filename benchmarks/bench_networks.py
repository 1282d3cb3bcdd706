"""A training step of the LDCT benchmark's networks: the published package's own against ours, same batch, one process.

A step is a forward pass, the mean squared error, a backward pass and Adam. The published network runs as its package
runs it: float32, default memory layout. Ours has the same weights and runs once in float32 and once as 03_train does
with ``precision=auto``, bf16 where the machine multiplies it itself; both in channels_last. The methods take turns, and
the CPU time of the process is what counts, so that other work on the machine does not; the ratio is of the medians.
Before that, both must give the same images.

The package pins an older pydicom, so that it lives in an environment of its own, whose site-packages are given here and
searched last (its networks need torch and torchvision alone, which stay this environment's):

    .venv/bin/uv venv other && .venv/bin/uv pip install --python other/bin/python --no-deps ldct-benchmark
    .venv/bin/python benchmarks/bench_networks.py --package other/lib/python3.11/site-packages

Its bilateral filters need ``bilateralfilter-torch``, whose import asks for CUDA; without it that row is left out. A
build of its CPU half beside an empty module ``bilateralfilter_gpu_lib`` serves a machine without.
"""

import argparse
import importlib
import sys
import time
import warnings

import numpy as np
import torch
from torch import nn

from ldct_utils.models import networks
from ldct_utils.models import published as hub
from ldct_utils.study import machine
from ldct_utils.training import losses
from ldct_utils.training.methods.supervised import Supervised

# batch and patch: the published patch sizes, with batches small enough for a laptop
CASES = {
    "cnn10": (8, 92), "redcnn": (2, 128), "wganvgg": (8, 77), "resnet": (8, 64), "qae": (32, 36), "dugan": (2, 128),
    "transct": (1, 512), "bilateral": (2, 121),
}  # fmt: skip
PUBLISHED_SIGMAS = {"sigma_xyz_init": 0.48647, "sigma_r_init": 0.95266}


def published(name):
    """The package's network, initialised from torch's (QAE: NumPy's) generator, so seed both."""
    network = importlib.import_module(f"ldctbench.methods.{name}.network").Model
    given = PUBLISHED_SIGMAS if name == "bilateral" else {}
    return network(argparse.Namespace(cuda=False), **given)


class Plain:
    """The step as the package takes it: float32, default layout."""

    def __init__(self, network):
        self.network, self.optimiser = network, torch.optim.Adam(network.parameters(), 1e-5)

    def update(self, ldct, ndct):
        self.optimiser.zero_grad()
        nn.functional.mse_loss(self.network(ldct), ndct).backward()
        self.optimiser.step()


def same(name, theirs):
    """Ours with their weights, for images that are normalised already.

    Raises: AssertionError: if it does not compute the same images.
    """
    ours = networks.build(name)
    ours.load_state_dict(hub.translated(name, theirs.state_dict()))
    image = torch.randn(1, 1, CASES[name][1], CASES[name][1])
    with torch.no_grad():
        expected, found = theirs.eval()(image), ours.eval()(image)
    theirs.train(), ours.train()
    assert torch.allclose(expected, found, rtol=1e-4, atol=1e-4), f"{name} differs by {(expected - found).abs().max()}"
    return ours


def seconds_each(updates, methods, batch):
    """Median CPU seconds of a step of each method, in turns; the first turn warms up."""
    taken = {name: [] for name in methods}
    for turn in range(updates + 1):
        for name, method in methods.items():
            started = time.process_time()
            method.update(*batch)
            if turn:
                taken[name].append(time.process_time() - started)
    return {name: float(np.median(values)) for name, values in taken.items()}


def main():
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--package", required=True, help="site-packages of the environment with ldct-benchmark")
    asked.add_argument("--threads", type=int, default=machine.cpu_threads())
    asked.add_argument("--updates", type=int, default=7)
    asked.add_argument("--networks", nargs="+", default=list(CASES), choices=list(CASES))
    asked = asked.parse_args()
    sys.path.append(asked.package)
    torch.set_num_threads(asked.threads)
    auto = "bf16" if machine.has_fast_bf16() else "float32"
    print(f"{asked.threads} threads, precision=auto is {auto}; CPU ms a step, how many times as fast as published")
    print(f"{'network':10} {'batch':>12} {'published':>10} {'ours f32':>10} {'ours auto':>10} {'f32':>6} {'auto':>6}")
    slower = []
    for name in asked.networks:
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002 - what the package draws QAE's weights from
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                theirs = published(name)
            except ModuleNotFoundError as error:
                print(f"{name:10} left out: the published one needs {error.name}")
                continue
        number, patch = CASES[name]
        batch = [torch.randn(number, 1, patch, patch) for _ in range(2)]
        methods = {"published": Plain(theirs)}
        for precision in dict.fromkeys(("float32", auto)):
            network = same(name, theirs)
            methods[precision] = Supervised(network, losses.build("mse"), 1e-5, precision=precision)
        taken = seconds_each(asked.updates, methods, batch)
        was, plain, fast = taken["published"], taken["float32"], taken[auto]
        print(
            f"{name:10} {number:>4} x {patch:>3}^2 {1e3 * was:10.1f} {1e3 * plain:10.1f} {1e3 * fast:10.1f} "
            f"{was / plain:6.2f} {was / fast:6.2f}",
            flush=True,
        )
        if was < fast:
            slower.append(name)
    if slower:
        sys.exit(f"slower than published: {', '.join(slower)}")


if __name__ == "__main__":
    main()
