"""A training step of a small DenoMamba with the chunked scan against the same network with a loop over positions.

dim 16, one block a stage, one patch of 64x64: sequences of 64 to 4096 positions. All networks have the same weights and
take the same update, in turn, in one process. Two loops are compared with, and both are the formula position by
position: ours (``_selective_scan._loop``), which makes the factors of a position when it gets there, and mambapy's,
which makes those of all positions first (so does mamba_ssm's reference): autograd then adds a gradient of full size for
each position. mambapy's parallel scan is the other fast one for CPUs. The second table is the memory of one scan and
its gradients: what is kept between the passes, and by how much the process grew at most (Linux). The third is a whole
slice through a small network and through one of the published size.

Run: python benchmarks/bench_selective_scan.py [--threads N] [--updates N]
"""

import argparse
import multiprocessing
import re
import time
from pathlib import Path

import numpy as np
import torch
from mambapy.pscan import pscan
from torch.nn import functional as F

from ldct_utils.models import networks
from ldct_utils.models.networks import _selective_scan
from ldct_utils.study import machine
from ldct_utils.training import losses, prediction
from ldct_utils.training.methods.supervised import Supervised

SMALL = {"dim": 16, "blocks": (1, 1, 1, 1), "refinement": 1}
PATCH = 64


def mambapy(u, dt, A, B, C, D):
    """The same scan by mambapy: a Blelloch scan over the materialised (N, L, d, states)."""
    decay = torch.exp(dt[..., None] * A)
    h = pscan(decay, dt[..., None] * B[:, :, None] * u[..., None])
    return (h @ C[..., None])[..., 0] + D * u


def mambapy_loop(u, dt, A, B, C, D):
    """mambapy's sequential mode: the same factors, then a loop over positions."""
    decay, x = torch.exp(dt[..., None] * A), dt[..., None] * B[:, :, None] * u[..., None]
    h, states = u.new_zeros(len(u), *A.shape), []
    for t in range(u.shape[1]):
        h = decay[:, t] * h + x[:, t]
        states.append(h)
    return (torch.stack(states, 1) @ C[..., None])[..., 0] + D * u


SCANS = {
    "loop, all factors first": mambapy_loop,
    "loop, ours": _selective_scan._loop,
    "mambapy, parallel": mambapy,
    "chunked": _selective_scan._chunked,
}


class Step:
    """The network with one scan, its loss and optimiser."""

    def __init__(self, scan):
        torch.manual_seed(0)
        network = networks.build("denomamba", **SMALL, scan="chunked")
        self.scan, self.step = scan, Supervised(network, losses.build("mse"), 1e-4)

    def update(self, *batch):
        """Seconds of an update; the scan takes the place of the chunked one for as long."""
        before, _selective_scan._chunked = _selective_scan._chunked, self.scan
        began = time.perf_counter()
        self.step.update(*batch)
        _selective_scan._chunked = before
        return time.perf_counter() - began


def seconds_each(updates):
    """Median seconds of a training step by scan, and how far its first gradients are from our loop's."""
    torch.manual_seed(1)
    batch = torch.rand(2, 1, 1, PATCH, PATCH) * 0.1 + 0.2
    steps = {name: Step(scan) for name, scan in SCANS.items()}
    taken, gradients = {name: [] for name in SCANS}, {}
    for turn in range(updates + 1):
        for name, step in steps.items():
            taken[name].append(step.update(*batch))
            if not turn:
                gradients[name] = torch.cat([p.grad.flatten() for p in step.step.network.parameters()])
    exact = gradients["loop, ours"]
    off = {name: ((g - exact).abs().max() / exact.abs().max()).item() for name, g in gradients.items()}
    return {name: float(np.median(values[1:])) for name, values in taken.items()}, off  # the first one warms up


def high_water():
    """MB of the largest resident size this process has had."""
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


def grown(work, threads, results):
    """Run ``work`` and report by how many MB the process grew at most."""
    torch.set_num_threads(threads)
    before = high_water()
    answer = work()
    results.put((high_water() - before, answer))


def peak(work, threads):
    """(MB, what ``work`` returns), in a fresh process."""
    spawn = multiprocessing.get_context("spawn")
    results = spawn.Queue()
    process = spawn.Process(target=grown, args=(work, threads, results))
    process.start()
    found = results.get()
    process.join()
    return found


class Scan:
    """One scan of a 64x64 image at 64 inner channels (d 32) and its gradients. Returns: MB kept between the passes."""

    def __init__(self, name):
        self.name = name

    def __call__(self):
        u, dt = torch.randn(2, 1, PATCH**2, 64)
        B, C = torch.randn(2, 1, PATCH**2, 16)
        given = [u, F.softplus(dt - 2), -torch.rand(64, 16), B, C, torch.ones(64)]
        kept = {}

        def count(tensor):
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            y = SCANS[self.name](*[x.requires_grad_() for x in given])
        y.sum().backward()
        return sum(kept.values()) / 2**20


class Slice:
    """A 256x256 slice through an untrained network. Returns: seconds."""

    def __init__(self, **given):
        self.given = given

    def __call__(self):
        network = networks.build("denomamba", **self.given)
        began = time.perf_counter()
        prediction.predict(network, np.zeros((256, 256), np.float32), 1)
        return time.perf_counter() - began


def main():
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--threads", type=int, default=machine.cpu_threads())
    asked.add_argument("--updates", type=int, default=3)
    asked = asked.parse_args()
    torch.set_num_threads(asked.threads)
    taken, off = seconds_each(asked.updates)
    print(f"training step, dim 16, one block a stage, 1 patch of {PATCH}x{PATCH}, {asked.threads} threads")
    print(f"{'scan':24} {'s/step':>8} {'chunked is faster by':>21} {'gradients off by':>17}")
    for name, seconds in taken.items():
        print(f"{name:24} {seconds:8.3f} {seconds / taken['chunked']:20.1f}x {off[name]:17.1e}")
    print(f"\none scan and its gradients, {PATCH}x{PATCH} positions, 64 channels, 16 states")
    print(f"{'scan':24} {'kept, MB':>9} {'peak, MB':>9}")
    for name in SCANS:
        growth, kept = peak(Scan(name), asked.threads)
        print(f"{name:24} {kept:9.1f} {growth:9.1f}")
    print("\none 256x256 slice, weights included")
    for label, given in (("dim 16, one block a stage", SMALL), ("published size, dim 48", {})):
        growth, seconds = peak(Slice(**given), asked.threads)
        print(f"{label:26} {seconds:6.1f} s {growth:7.0f} MB")


if __name__ == "__main__":
    main()
