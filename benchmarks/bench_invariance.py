"""Slices x iterations per second of a search for invariances: a plain float32 loop, slice by slice, against ours.

The plain loop is what the formula says, written down: for one slice after the other, Adam on x_inv, and the objective
with f(x) and f(x_inv) in it at every iteration, nothing frozen. Below it, one thing after another is changed, up to
what ``optimise.Search`` does: weights without gradients, f(x) once, channels_last, all slices in one batch, bf16. All
search the same slices with the same network, start and settings, in turn, in one process; the last column is how far
their x_inv end from those of the plain loop's.

Run: python benchmarks/bench_invariance.py [--threads N] [--iterations N] [--slices N] [--size N] [--distance NAME]
"""

import argparse
import time

import numpy as np
import torch

from ldct_utils.ct.intensity import HU_SPAN, to_net
from ldct_utils.invariance import distances, optimise
from ldct_utils.models import encoders, networks
from ldct_utils.study import machine

ALPHA, SIGMA_HU, LR = 0.1, 41.0, 1e-3


def network(channels):
    """A residual U-Net of which no layer is idle, the same at every call."""
    torch.manual_seed(0)
    built = networks.build("unet", channels=channels, residual=True)
    torch.nn.init.normal_(built.head.weight, std=0.01)  # untrained it would be the identity
    return built


def slices(count, size):
    """Soft tissue with noise and some structure, (count, 1, size, size), network range."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size] / size
    hu = 50 + 100 * np.sin(20 * x) * np.sin(15 * y) + rng.normal(0, 20, (count, 1, size, size))
    return to_net(torch.from_numpy(hu).float())


class Plain:
    """The loop to compare with. ``frozen``: the weights take no gradients. ``once``: f(x) is evaluated before it.
    ``channels_last``: the memory layout of network and images. ``batch``: all slices at once.
    """

    def __init__(self, channels, x, starts, distance, frozen=False, once=False, channels_last=False, batch=False):
        layout = torch.channels_last if channels_last else torch.contiguous_format
        self.f = network(channels).eval().requires_grad_(not frozen).to(memory_format=layout)
        self.distance, self.layout, self.once = distance, layout, once
        parts = [slice(None)] if batch else [slice(i, i + 1) for i in range(len(x))]
        self.x = [x[part] for part in parts]
        self.x_inv = [starts[part].clone().requires_grad_() for part in parts]
        self.adams = [torch.optim.Adam([image], LR, eps=1e-12) for image in self.x_inv]
        self.fx = [self._denoised(image) for image in self.x]

    def _denoised(self, image):
        with torch.no_grad():
            return self.f(image.contiguous(memory_format=self.layout))

    def run(self, iterations):
        for i, (x, x_inv, adam) in enumerate(zip(self.x, self.x_inv, self.adams)):
            for _ in range(iterations):
                fx = self.fx[i] if self.once else self._denoised(x)
                fx_inv = self.f(x_inv.contiguous(memory_format=self.layout))
                objective = self.distance(fx_inv, fx) - ALPHA * self.distance(x_inv, x)
                adam.zero_grad()
                objective.sum().backward()
                adam.step()

    def found(self):
        return torch.cat([image.detach() for image in self.x_inv])


class Ours:
    """``optimise.Search``; ``batch``: slices that go through f together."""

    def __init__(self, channels, x, starts, distance, **more):
        self.search = optimise.Search(network(channels), x, distance, ALPHA, SIGMA_HU, LR, **more)

    def run(self, iterations):
        for _ in range(iterations):
            self.search.step()

    def found(self):
        return self.search.x_inv


LADDER = {
    "plain float32 loop": (Plain, {}),
    "+ weights frozen": (Plain, {"frozen": True}),
    "+ f(x) once": (Plain, {"frozen": True, "once": True}),
    "+ channels_last": (Plain, {"frozen": True, "once": True, "channels_last": True}),
    "+ all slices at once": (Plain, {"frozen": True, "once": True, "channels_last": True, "batch": True}),
    "Search float32": (Ours, {}),
    "Search bf16": (Ours, {"precision": "bf16"}),
    "Search bf16, batch 1": (Ours, {"precision": "bf16", "batch": 1}),
}


def main():
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--threads", type=int, default=machine.cpu_threads())
    asked.add_argument("--iterations", type=int, default=1, help="of each method and turn")
    asked.add_argument("--turns", type=int, default=5, help="the fastest counts, so that a busy machine matters less")
    asked.add_argument("--slices", type=int, default=4)
    asked.add_argument("--size", type=int, default=256)
    asked.add_argument("--channels", type=int, default=16, help="of the U-Net")
    asked.add_argument("--distance", default="mse", choices=list(distances.SCALES_HU))
    asked = asked.parse_args()
    torch.set_num_threads(asked.threads)
    encoder = encoders.load("vgg16", "random", ("block3_conv3",)) if asked.distance == "vgg16" else None
    distance, x = distances.build(asked.distance, encoder=encoder), slices(asked.slices, asked.size)
    starts = optimise.Search(network(asked.channels), x, distance, ALPHA, SIGMA_HU, LR).x_inv
    methods = {name: kind(asked.channels, x, starts, distance, **settings) for name, (kind, settings) in LADDER.items()}
    taken = {name: [] for name in methods}
    for turn in range(asked.turns + 1):
        for name, method in methods.items():
            began = time.perf_counter()
            method.run(asked.iterations)
            if turn:  # the first one warms up
                taken[name].append(time.perf_counter() - began)
    fast, work = "yes" if machine.has_fast_bf16() else "no", asked.slices * asked.iterations
    print(
        f"U-Net {asked.channels} channels, {asked.slices} slices of {asked.size}x{asked.size}, distance "
        f"{asked.distance}, {asked.threads} threads, own bf16: {fast}"
    )
    print(f"{'method':24} {'slices x iterations/s':>22} {'ratio':>6} {'x_inv off by, HU':>17}")
    plain = min(taken["plain float32 loop"])
    wanted = methods["plain float32 loop"].found()
    for name, seconds in taken.items():
        off = (methods[name].found() - wanted).square().mean().sqrt().item() * HU_SPAN
        print(f"{name:24} {work / min(seconds):22.2f} {plain / min(seconds):6.2f} {off:17.3f}")


if __name__ == "__main__":
    main()
