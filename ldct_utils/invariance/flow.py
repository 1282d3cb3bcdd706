"""A conditional flow between the VAE's z and v ~ N(0, 1), given f(x): v is what f(x) does not say about x.

Blocks of ActNorm, (leaky ReLU,) double affine coupling and a fixed permutation, as in Eulig et al., Med Phys 52(1) 188
(2025), after Rombach, Esser and Ommer, ECCV 2020; couplings and composition are FrEIA's. Drawing v and going back gives
many low-dose images for one f(x): ``sample``.
"""

import math
from itertools import pairwise

import numpy as np
import torch
from FrEIA import modules as freia
from FrEIA.framework import SequenceINN
from torch import nn
from tqdm.auto import tqdm

from ldct_utils.ct import intensity
from ldct_utils.invariance import vae as vaes
from ldct_utils.invariance.vae_blocks import ActNorm
from ldct_utils.training.methods.base import Step

ACTIVATIONS = ("none", "lrelu")
SLOPE = 0.9  # of the leaky ReLU below zero
DOWN = 4  # halvings of the condition's size


class LeakyReLU(freia.InvertibleModule):
    """x, times 0.9 where it is negative; its log-determinant is ln(0.9) times the number of negative values.

    The released code returns 0 for it, so that what it minimises is no likelihood.
    """

    def forward(self, x, rev=False, jac=True):
        (x,) = x
        below = x < 0
        logdet = below.to(x.dtype).sum(1) * math.log(SLOPE)
        factor = 1 / SLOPE if rev else SLOPE
        return (torch.where(below, factor * x, x),), -logdet if rev else logdet

    def output_dims(self, input_dims):
        return input_dims


class Permute(freia.InvertibleModule):
    """A fixed permutation, stored with the weights. (FrEIA's re-seeds NumPy for the whole process.)"""

    def __init__(self, dims_in, dims_c=None, seed=0):
        super().__init__(dims_in, dims_c)
        order = torch.from_numpy(np.random.default_rng(seed).permutation(dims_in[0][0]))
        self.register_buffer("order", order)
        self.register_buffer("back", order.argsort())

    def forward(self, x, rev=False, jac=True):
        return (x[0][:, self.back if rev else self.order],), 0.0

    def output_dims(self, input_dims):
        return input_dims


class Embedder(nn.Module):
    """f(x) (N, 1, P, P), normalised -> condition (N, outputs): four 4x4 convolutions of stride 2, one over the rest."""

    def __init__(self, patch, outputs, width):
        super().__init__()
        widths = [1] + [width * 2**level for level in range(DOWN)]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(a, b, 4, stride=2, padding=1, bias=False) for a, b in pairwise(widths)
        )
        self.norms = nn.ModuleList(ActNorm([(b, 1, 1)]) for b in widths[1:])
        self.last = nn.Conv2d(widths[-1], outputs, patch // 2**DOWN)

    def forward(self, z):
        for convolution, norm in zip(self.convolutions, self.norms):
            (z,), _ = norm([convolution(z)])
            z = nn.functional.leaky_relu(z, 0.2)
        return self.last(z).flatten(1)


class Flow(nn.Module):
    """The conditional flow; made by ``build``.

    Attributes: settings: what ``build`` takes to make it again. dim: of z and v. patch: pixels a side of f(x).
    """

    def __init__(self, settings):
        super().__init__()
        self.settings, self.dim, self.patch = settings, settings["dim"], settings["patch"]
        self.mean = float(intensity.to_net(settings["mean_hu"]))
        self.std = settings["std_hu"] / intensity.HU_SPAN
        width, depth, condition = settings["width"], settings["depth"], settings["condition"]

        def subnet(inside, outside):
            layers, widths = [], [inside] + [width] * depth
            for a, b in pairwise(widths):
                layers += [nn.Linear(a, b), nn.LeakyReLU()]
            return nn.Sequential(*layers, nn.Linear(width, outside))

        self.embedder = Embedder(self.patch, condition, settings["embed"])
        self.inn = SequenceINN(self.dim)
        for block in range(settings["blocks"]):
            self.inn.append(ActNorm)
            if settings["activation"] == "lrelu":
                self.inn.append(LeakyReLU)
            # s and t have a network each, and s ends in tanh: |s| < 1
            self.inn.append(
                freia.RNVPCouplingBlock, cond=0, cond_shape=(condition,), subnet_constructor=subnet, clamp=1.0,
                clamp_activation="TANH",
            )  # fmt: skip
            self.inn.append(Permute, seed=[settings["seed"], block])

    def embed(self, y_hat):
        """The condition (N, condition) of f(x) (N, 1, P, P), network range. Raises: ValueError: for another shape."""
        if y_hat.ndim != 4 or y_hat.shape[1:] != (1, self.patch, self.patch):
            raise ValueError(f"y_hat must be (N, 1, {self.patch}, {self.patch}), not {tuple(y_hat.shape)}")
        return self.embedder((y_hat - self.mean) / self.std)

    def _run(self, z, y_hat, rev):
        if z.shape != (len(y_hat), self.dim):
            raise ValueError(f"{'v' if rev else 'z'} must be ({len(y_hat)}, {self.dim}), not {tuple(z.shape)}")
        return self.inn(z, c=[self.embed(y_hat)], rev=rev)

    def forward(self, z, y_hat):
        """z (N, dim), given f(x) (N, 1, P, P) in the network range -> v (N, dim) and log|det dv/dz| (N,)."""
        return self._run(z, y_hat, rev=False)

    def inverse(self, v, y_hat):
        """v (N, dim) -> z (N, dim), of which ``forward`` makes v again, given the same f(x)."""
        return self._run(v, y_hat, rev=True)[0]


def build(
    dim=256, blocks=12, width=1024, depth=3, condition=256, patch=128, activation="none", embed=64, seed=0,
    mean_hu=intensity.EULIG_MEAN_HU, std_hu=intensity.EULIG_STD_HU,
):  # fmt: skip
    """An untrained ``Flow``, initialised from torch's global generator (seed it first); 137,133,184 weights by default.

    Args:
        dim: of z, the VAE's. blocks: of ActNorm, coupling and permutation.
        width, depth: hidden layers of every s and t.
        condition: numbers that f(x) is embedded into. embed: channels of the embedder's first layer, doubled thrice.
        patch: pixels a side of f(x), a multiple of 16.
        activation: "none", or "lrelu" as published: a leaky ReLU of slope 0.9 after each ActNorm.
        seed: of the permutations. mean_hu, std_hu: normalise f(x); those of the VAE.
    Raises: ValueError: for a value out of range.
    """
    settings = dict(locals())
    for name, value in settings.items():
        if name in ("activation", "mean_hu", "std_hu"):
            continue
        least = {"seed": 0, "dim": 2}.get(name, 1)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"the flow's {name} must be a whole number of at least {least}, not {value!r}")
    if patch % 2**DOWN:
        raise ValueError(f"patch must be a multiple of {2**DOWN} pixels, which the embedder halves, not {patch}")
    if activation not in ACTIVATIONS:
        raise ValueError(f"no activation {activation!r} of the flow; there are {', '.join(ACTIVATIONS)}")
    if not math.isfinite(mean_hu) or not math.isfinite(std_hu) or not std_hu > 0:
        raise ValueError(f"mean_hu and std_hu are in HU, std_hu above 0, not {mean_hu!r} and {std_hu!r}")
    return Flow(settings)


def nll(v, logdet):
    """Negative log-likelihood of z without the constant dim/2 ln(2 pi): 0.5 |v|^2 - logdet, (N,).

    For v ~ N(0, 1) and no change of volume it is dim/2 on average.
    """
    return 0.5 * v.square().sum(1) - logdet


class TrainFlow(Step):
    """The update of the flow: likelihood of z drawn from the VAE's posterior; f and the VAE stay as they are.

    Args:
        f: the denoiser, network range; vae: the ``CVAE`` trained with it. Both are put into evaluation mode.
        flow: a ``Flow`` of the VAE's dim, patch and normalisation.
        lr, betas, eps, device, accumulate: see ``Step``.
        precision: float32, or bf16: autocast for f and the VAE; the flow stays float32, since it must be inverted.
    Raises: ValueError: naming what does not fit. Source: Eulig et al. 2025 and the code released with it.
    """

    def __init__(
        self, f, vae, flow, lr=1e-5, betas=(0.9, 0.999), eps=1e-8, precision="float32", device="cpu", accumulate=1
    ):
        _check_pair(vae, flow)
        super().__init__(flow, lr, betas, eps, precision, device, accumulate)
        self.f, self.vae, self.flow = f.to(self.device).eval(), vae.to(self.device).eval(), flow.train()
        self.weights = {"nll": 1.0}

    @property
    def falling(self):
        return set()  # a log-likelihood may start near zero

    def parameters(self):
        for module in (self.flow, self.f, self.vae):
            yield from module.parameters()

    def terms(self, ldct, ndct=None):
        """{"nll": (N,)}, with gradients for the flow alone."""
        with torch.no_grad(), self.autocast():
            y_hat = self.f(ldct).float()
            z = vaes.sample(*self.vae.encode(x=ldct, y_hat=y_hat))
        return {"nll": nll(*self.flow(z, y_hat))}

    def update(self, ldct, ndct=None):
        """One update from LDCT (N, 1, P, P), network range; ``ndct`` is not used. Returns: {"nll": (N,)}, detached."""
        return self.descend(self.optimiser, self.terms, self.weights, ldct)


def _check_pair(vae, flow):
    for name in ("dim", "patch", "mean", "std"):
        if getattr(vae, name) != getattr(flow, name):
            raise ValueError(
                f"the VAE has {name} {getattr(vae, name)}, the flow {getattr(flow, name)}; build both alike"
            )


@torch.inference_mode()
def sample(f, vae, flow, x, count, seed, chunk=64, progress=False):
    """Many low-dose images that f should not tell from x: y_hat = f(x), v ~ N(0, 1), back through flow and decoder.

    Args:
        f, vae, flow: trained; evaluated on the flow's device, in float32.
        x: LDCT patches (N, 1, P, P), network range. count: images wanted for each.
        seed: of v, drawn for all images at once; the result does not depend on ``chunk``, the images made at a time.
    Returns: x_tilde (N, count, P, P), network range, on the CPU; f(x_tilde) = f(x) is hoped for, not assured: compare.
    Raises: ValueError: if flow and VAE do not fit, or count or chunk is below 1.
    """
    _check_pair(vae, flow)
    if count < 1 or chunk < 1:
        raise ValueError(f"count and chunk must be at least 1, not {count!r} and {chunk!r}")
    modes = [(network, network.training) for network in (f, vae, flow)]
    device = next(flow.parameters()).device
    v = torch.randn(len(x), count, flow.dim, generator=torch.Generator().manual_seed(seed))
    made = torch.empty(len(x), count, *x.shape[2:])
    try:
        for network, _ in modes:
            network.eval()
        for one, codes, out in zip(tqdm(x, unit="patch", disable=not progress), v, made):
            y_hat = f(one[None].to(device))
            for start in range(0, count, chunk):
                part = codes[start : start + chunk].to(device)
                given = y_hat.expand(len(part), -1, -1, -1)
                out[start : start + chunk] = vae.decode(flow.inverse(part, given), y_hat=given)[:, 0].cpu()
    finally:
        for network, training in modes:
            network.train(training)
    return made
