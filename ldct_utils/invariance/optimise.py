"""Search for what a denoiser f does not see, slice by slice, by Adam on the image (Eulig, Maier, Ommer and Kachelriess,
"May denoising remove structures?"):

    x_inv = argmin  d(f(x), f(x_inv)) - alpha d(x, x_inv),   from x + n, n ~ N(0, sigma).

The search needs a start beside x: at x itself both gradients are zero.
"""

import time

import numpy as np
import pandas as pd
import torch
from torch import nn
from tqdm.auto import tqdm

from ldct_utils.ct.intensity import HU_SPAN, STORED_HU, to_net
from ldct_utils.training import checkpoints
from ldct_utils.training.methods.base import PRECISIONS

TRACED = 300  # iterations of a search that its table of the course holds, about


class Search:
    """One search, a batch of slices at a time.

    Each slice has its own noise, objective and moments of Adam, so that its x_inv does not depend on which others are
    in the batch. f(x) is evaluated once. After every update the images are cut to the HU range, which for box limits is
    the projection onto them. Writing x_inv as a tanh instead would need no cut, but air starts *on* the limit, where a
    tanh has no slope and never leaves, and the same step of Adam would mean other HU in air than in tissue.

    Args:
        f: the denoiser, a module from (N, 1, H, W), network range, to the same. It is frozen: set to evaluation mode,
            its weights without gradients, on ``device``.
        x: LDCT slices (N, 1, H, W), network range, of a size that f takes.
        distance: from ``distances.build``.
        alpha: weight of the change, > 0; below 1 (see ``distances``: it is the share of its power that f may pass on).
        sigma_hu: SD of the noise of the start, HU, > 0. The slides have N(0, 1e-2) without saying whether it is
            variance or SD, nor in what unit: in the network range it is 41 HU as an SD and 410 HU as a variance; with
            images divided by their SD, as the group's code does (502 HU), 5 HU and 50 HU.
        lr: Adam's learning rate in the network range, > 0: 1e-3 moves a pixel by up to 4.1 HU an iteration. Not given
            in the slides.
        seed: seeds the noise, for slice i with (seed, i); or one seed a slice.
        low_hu, high_hu: range of x_inv. Where x itself lies outside, as noise in air does, its value is the limit.
        precision: float32, or bf16: autocast for f. It rounds the input of a convolution to 8 HU at soft tissue, so
            check what was found with ``measure``, which is in float32 always.
        device: cpu, cuda, ...
        batch: slices that go through f together, to save memory; None takes all.
        distance_in: of the change of x, where it is to be another than that of f(x): with a low-passed one only changes
            of anatomy's size are rewarded, while f must not show any. None takes ``distance``.
    Attributes: done: iterations done. x, distance, alpha: as given. trace: of every iteration done, (2, N) HU: the RMS
        change of the input and of the output before its update.
    Raises: ValueError: naming the value that is wrong; RuntimeError: for an absent device.
    """

    def __init__(
        self, f, x, distance, alpha, sigma_hu, lr, seed=0, low_hu=STORED_HU[0], high_hu=STORED_HU[1],
        precision="float32", device="cpu", batch=None, distance_in=None,
    ):  # fmt: skip
        _check(x, precision, alpha=alpha, sigma_hu=sigma_hu, lr=lr, batch=1 if batch is None else batch)
        if not low_hu < high_hu:
            raise ValueError(f"low_hu must be below high_hu, got {low_hu!r} and {high_hu!r}")
        self.device = torch.device(device)
        if self.device.type == "cuda" and not torch.cuda.is_available():
            raise RuntimeError(f"device {device!r} needs a CUDA GPU, and torch sees none; use device 'cpu' or 'auto'")
        self.f, self.distance, self.alpha = freeze(f, self.device), distance.to(self.device), float(alpha)
        self.distance_in = (distance if distance_in is None else distance_in).to(self.device)
        self.precision, self.done, self.trace = precision, 0, []
        self.x = x.detach().to(self.device, torch.float32)
        self.low, self.high = self.x.clamp(max=to_net(low_hu)), self.x.clamp(min=to_net(high_hu))
        self.parts = torch.arange(len(x), device=self.device).split(batch or len(x))
        self._image = nn.Parameter(torch.clamp(self.x + self._noise(seed, sigma_hu), self.low, self.high))
        self.optimiser = torch.optim.Adam([self._image], lr, eps=1e-12, fused=True)  # far out the gradients are tiny
        with torch.no_grad():
            self._wanted = [self._targets(part, precision) for part in self.parts]

    def _noise(self, seed, sigma_hu):
        seeds = [(seed, i) for i in range(len(self.x))] if np.ndim(seed) == 0 else list(seed)
        if len(seeds) != len(self.x):
            raise ValueError(f"seed is one number, or one a slice: got {len(seeds)}; slices: {len(self.x)}")
        noise = np.stack([np.random.default_rng(one).normal(0, sigma_hu / HU_SPAN, self.x.shape[1:]) for one in seeds])
        return torch.from_numpy(noise).to(self.x)

    def _denoised(self, image, precision):
        with torch.autocast(self.device.type, torch.bfloat16, enabled=precision == "bf16"):
            return self.f(image.contiguous(memory_format=torch.channels_last)).float()

    def _targets(self, part, precision):
        """What does not change: features of x, f(x), and features of f(x)."""
        fx = self._denoised(self.x[part], precision)
        if fx.shape != self.x[part].shape:
            raise ValueError(f"f maps {tuple(self.x[part].shape)} to {tuple(fx.shape)}; it must keep the shape")
        return self.distance_in.features(self.x[part]), fx, self.distance.features(fx)

    def _values(self, image, part, wanted, precision):
        """(N,) terms of one part, with gradients."""
        features_x, fx, features_fx = wanted
        fx_inv = self._denoised(image, precision)
        d_out = self.distance.compare(self.distance.features(fx_inv), features_fx)
        d_in = self.distance_in.compare(self.distance_in.features(image), features_x)
        with torch.no_grad():
            out_hu, in_hu = rms_hu(fx_inv - fx), rms_hu(image - self.x[part])
        return {
            "d_out": d_out, "d_in": d_in, "out_hu": out_hu, "in_hu": in_hu, "objective": d_out - self.alpha * d_in
        }  # fmt: skip

    def step(self):
        """One iteration.

        Returns: before the update, detached and still on the device, each (N,) float32: ``d_out``, ``d_in`` in [0, 1],
            ``objective`` >= -alpha, ``out_hu`` and ``in_hu``, the RMS of f(x_inv) - f(x) and of x_inv - x in HU.
        """
        found = []
        self.optimiser.zero_grad(set_to_none=True)
        for part, wanted in zip(self.parts, self._wanted):
            values = self._values(self._image[part], part, wanted, self.precision)
            values["objective"].sum().backward()  # a sum: no slice's gradient depends on how many others there are
            found.append({name: value.detach() for name, value in values.items()})
        values = {name: torch.cat([one[name] for one in found]) for name in found[0]}
        self.optimiser.step()
        with torch.no_grad():
            self._image.copy_(torch.clamp(self._image, self.low, self.high))
        self.done += 1
        self.trace.append(torch.stack([values["in_hu"], values["out_hu"]]))
        return values

    @property
    def x_inv(self):
        """What was found so far, (N, 1, H, W), network range, detached."""
        return self._image.detach().clone()

    @torch.no_grad()
    def measure(self, image=None):
        """The values of ``step`` for ``x_inv``, or for another image (N, 1, H, W) beside x such as a null, in float32.

        Both f(x) and f(image) are evaluated in float32 here, whatever the precision of the search.
        """
        image = self.x_inv if image is None else image.to(self.x)
        if image.shape != self.x.shape:
            raise ValueError(f"the image has shape {tuple(image.shape)}, x has {tuple(self.x.shape)}")
        targets = (self._targets(part, "float32") for part in self.parts)
        found = [self._values(image[part], part, wanted, "float32") for part, wanted in zip(self.parts, targets)]
        return {name: torch.cat([one[name] for one in found]) for name in found[0]}

    @property
    def lr(self) -> float:
        """Learning rate of the next iteration; may be set between iterations."""
        return self.optimiser.param_groups[0]["lr"]

    @lr.setter
    def lr(self, value: float):
        for group in self.optimiser.param_groups:
            group["lr"] = value

    def state_dict(self) -> dict:
        """All that the next iteration depends on, besides what the search was made with, and the trace so far."""
        trace = torch.stack(self.trace) if self.trace else torch.zeros(0, 2, len(self.x))
        return {
            "image": self._image.detach(), "optimiser": self.optimiser.state_dict(), "done": self.done, "trace": trace
        }  # fmt: skip

    def load_state_dict(self, state: dict):
        """Raises: ValueError: if the state is of other slices in number or size."""
        if state["image"].shape != self._image.shape:
            raise ValueError(
                f"the state is of slices {tuple(state['image'].shape)}, this search of {tuple(self._image.shape)}"
            )
        with torch.no_grad():
            self._image.copy_(state["image"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.done, self.trace = state["done"], list(state["trace"].to(self.device))


def finish(searches: dict, iterations: int, folder, identity: str, save_every_s: float):
    """Step all searches until each has done so many iterations. Killed at any moment, it goes on where it was.

    Args: searches: {name: ``Search``}. folder, identity: of the run that keeps the state. save_every_s: seconds between
        states.
    """
    begun, saved = checkpoints.resume(folder, identity, **searches), time.monotonic()
    left = range(begun + 1, iterations + 1)
    for done in tqdm(left, initial=begun, total=iterations, unit="iteration", mininterval=1):
        for one in searches.values():
            one.step()
        if done == iterations or time.monotonic() - saved > save_every_s:
            checkpoints.save(folder, identity, done, **searches)
            saved = time.monotonic()


def course(searches: dict, crops) -> pd.DataFrame:
    """How input and output changed while searching: a row a search, iteration (about ``TRACED`` of them) and slice.

    Args: searches: {name: ``Search``}, all of as many iterations. crops: the N slices, of ``cases.Case``.
    Returns: ``search``, ``iteration``, ``patient``, ``row``, ``anatomy``, ``in_hu``, ``out_hu``: RMS changes in HU.
    """
    about, rows = {name: [getattr(c, name) for c in crops] for name in ("patient", "row", "anatomy")}, []
    for name, one in searches.items():
        for i in range(0, one.done, max(1, one.done // TRACED)):
            in_hu, out_hu = one.trace[i].double().cpu().numpy()
            rows.append(pd.DataFrame({"search": name, "iteration": i, **about, "in_hu": in_hu, "out_hu": out_hu}))
    return pd.concat(rows, ignore_index=True)


def rms_hu(difference):
    """Root mean square over each image of a difference (N, 1, H, W), network range: (N,), HU."""
    return difference.flatten(1).square().mean(1).sqrt() * HU_SPAN


def freeze(f, device="cpu"):
    """A denoiser in evaluation mode, without gradients for its weights, in channels_last on ``device``; returned."""
    return f.eval().requires_grad_(False).to(device, memory_format=torch.channels_last)


def _check(x, precision, **positive):
    if not isinstance(x, torch.Tensor) or x.ndim != 4 or x.shape[1] != 1 or not len(x):
        raise ValueError(f"x must be a tensor of slices (N, 1, H, W), got {tuple(getattr(x, 'shape', ())) or type(x)}")
    if not torch.isfinite(x).all():
        raise ValueError("x holds values that are not finite; look at its slices first")
    if precision not in PRECISIONS:
        raise ValueError(f"no precision {precision!r}; there are {', '.join(PRECISIONS)} (and auto in the notebooks)")
    for name, value in positive.items():
        if not 0 < value < float("inf"):
            raise ValueError(f"{name} must be positive, got {value!r}")
    if not positive["lr"] < 1:
        raise ValueError(f"lr is in the network range, in which 1 is {HU_SPAN:g} HU; got {positive['lr']!r}")
