"""A generator g(z | x) of images that f does not tell from x, judged by a critic so that they look like low-dose CT.

Eulig, Maier, Ommer and Kachelriess name it as a next step ("natural" invariances) without architecture or settings; the
objective is theirs, the rest is chosen here. With C *high* for what looks real, the generator minimises

    d(f(x), f(g)) - alpha d(x, g) - beta C(g) - diversity d(g, g'),        g = g(z | x), g' = g(z' | x).

The slides print + beta C(g), to be minimised as well, which makes their C a score of how *unreal* an image is; as the
term ``unreal`` below it is 1 - C(g). The last term is ours: without it nothing keeps g from ignoring z. It is the
mode-seeking term of Mao et al. (CVPR 2019, Eq. 4) with the bounded distance in the numerator, so that it cannot grow
without end, and without |z - z'| below it, which for this many normal numbers is all but constant.
"""

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from ldct_utils.ct.intensity import HU_SPAN, STORED_HU, from_net, to_net
from ldct_utils.invariance.optimise import freeze
from ldct_utils.training.methods.base import Step, check_count, check_share, frozen

LEVELS = 4  # 2x2 poolings, so height and width must be divisible by 2**4
SLOPE = 0.2  # of every LeakyReLU
INPUT_HU = 500.0  # the generator sees HU / 500: air is -2, so that z counts there too
CRITIC_HU = 100.0  # the critic sees HU / 100: noise and soft tissue contrast are of order 1


def _convolution(inside, outside):
    return nn.Sequential(nn.Conv2d(inside, outside, 3, padding=1), nn.LeakyReLU(SLOPE, inplace=True))


class Generator(nn.Module):
    """A U-Net that adds a change to x: g(z | x) = x + reach tanh(...); made by ``build``.

    z is white noise (N, noise, H, W). Averaged over 2x2 pixels and doubled it is white noise of SD 1 again, so that all
    levels of the decoder are given noise of their own scale: fine ones can make texture of it, coarse ones structures.
    Attributes: settings: what ``build`` takes to make it again.
    """

    def __init__(self, channels, noise, reach_hu):
        super().__init__()
        self.settings = {"channels": channels, "noise": noise, "reach_hu": reach_hu}
        self.noise, self.reach = noise, reach_hu / HU_SPAN
        widths = [channels * 2 ** min(level, 2) for level in range(LEVELS + 1)]  # c, 2c, 4c, 4c, 4c
        self.down = nn.ModuleList(_convolution(a, b) for a, b in zip([1, *widths], widths))
        self.bottom = _convolution(widths[-1] + noise, widths[-1])
        self.up = nn.ModuleList(
            nn.Sequential(_convolution(below + here + noise, here), _convolution(here, here))
            for below, here in zip(widths[:0:-1], widths[-2::-1])
        )
        self.head = nn.Conv2d(channels, 1, 3, padding=1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, SLOPE)
                nn.init.zeros_(layer.bias)
        with torch.no_grad():
            self.head.weight *= 0.02  # starts with changes of some 10 HU: at none the distances have no gradient

    def draw(self, count, height, width):
        """z for ``count`` images (count, noise, H, W), on the CPU, from torch's global generator."""
        return torch.randn(count, self.noise, height, width)

    def forward(self, image, z):
        """Changed images (N, 1, H, W), float32, of x (N, 1, H, W), network range, H and W divisible by 16.

        Nothing keeps them inside the HU range here, since a cut has no gradient; ``sample`` cuts them.
        """
        size = image.shape[2:]
        if image.ndim != 4 or image.shape[1] != 1 or any(length % 2**LEVELS for length in size):
            raise ValueError(
                f"the generator takes (N, 1, H, W) with H and W divisible by {2**LEVELS}, not {tuple(image.shape)}"
            )
        if z.shape != (len(image), self.noise, *size):
            raise ValueError(f"z must be {(len(image), self.noise, *size)} for these images, not {tuple(z.shape)}")
        h, skips, noises = from_net(image.float()) / INPUT_HU, [], [z]
        for level, convolve in enumerate(self.down):
            h = convolve(h if level == 0 else F.avg_pool2d(h, 2))
            skips.append(h)
            if level:
                noises.append(2 * F.avg_pool2d(noises[-1], 2))
        h = self.bottom(torch.cat([h, noises[-1]], 1))
        for convolve, skip, noise in zip(self.up, skips[-2::-1], noises[-2::-1]):
            h = convolve(torch.cat([F.interpolate(h, scale_factor=2.0), skip, noise], 1))
        return image.float() + self.reach * torch.tanh(self.head(h).float())


def build(channels=8, noise=2, reach_hu=500.0):
    """An untrained ``Generator``, initialised from torch's global generator.

    Args: channels: width of its first level. noise: channels of z. reach_hu: largest change of a pixel, HU.
    Raises: ValueError: for a width or number below 1, or a reach that is not positive.
    """
    check_count("channels", channels, 1)
    check_count("noise", noise, 1)
    check_share("reach_hu", reach_hu, HU_SPAN)
    if not reach_hu:
        raise ValueError("reach_hu must be positive: with 0 the generator returns x")
    return Generator(channels, noise, float(reach_hu))


class Critic(nn.Module):
    """A critic of patches: three strided convolutions with spectral norm (Miyato et al. 2018, arXiv 1802.05957), then
    one to a score for every place, which sees 38x38 pixels. It takes images of any size from 16x16 on."""

    def __init__(self, channels):
        super().__init__()
        widths = [1, channels, 2 * channels, 4 * channels]
        layers = []
        for a, b in pairwise(widths):
            layers += [spectral_norm(nn.Conv2d(a, b, 4, 2, padding=1)), nn.LeakyReLU(SLOPE, inplace=True)]
        self.body = nn.Sequential(*layers, spectral_norm(nn.Conv2d(widths[-1], 1, 3, padding=1)))

    def forward(self, image):
        """Scores (N, h, w) of images (N, 1, H, W), network range: high for real, low for generated ones."""
        return self.body(from_net(image.float()) / CRITIC_HU)[:, 0]


def critic(channels=32):
    """An untrained ``Critic``; channels: width of its first level."""
    check_count("channels", channels, 1)
    return Critic(channels)


class Natural(Step):
    """The update of critic and generator; f stays as it is.

    The critic minimises max(0, 1 - C(x)) + max(0, 1 + C(g)) (hinge loss, as in Miyato et al. 2018), x from the same
    batch: low-dose patches are what is real here. Then the generator follows the objective above, with two draws of z
    for every x.

    Args:
        f: the denoiser; frozen, see ``optimise.freeze``.
        generator, critic: from ``build`` and ``critic``. distance: from ``distances.build``.
        alpha: weight of the change, > 0; below 1, see ``distances``.
        beta: weight of the critic, diversity: of the term against mode collapse; >= 0.
        lr, betas, eps, device, accumulate: see ``Step``; both Adams are alike.
        precision: float32, or bf16: autocast for f and generator. Critic and distances stay float32.
    Attributes: weights: {term: weight}. Terms, an image: ``d_out``, ``d_in``, ``unreal`` (1 - C of the generated),
        ``between`` (the distance of the two draws), and ``critic``, the critic's own loss.
    Raises: ValueError: naming what is wrong.
    """

    def __init__(
        self, f, generator, critic, distance, alpha, beta, diversity, lr=1e-3, betas=(0.5, 0.999), eps=1e-8,
        precision="float32", device="cpu", accumulate=1,
    ):  # fmt: skip
        for name, value in (("alpha", alpha), ("beta", beta), ("diversity", diversity)):
            check_share(name, value)
        if not alpha:
            raise ValueError("alpha must be positive: with 0 nothing rewards a change")
        super().__init__(generator.train(), lr, betas, eps, precision, device, accumulate)
        self.critic = self.own("critic", critic.train(), "critic_optimiser", lr)
        self.f, self.distance = freeze(f, self.device), distance.to(self.device)
        self.weights = {
            "d_out": 1.0, "d_in": -float(alpha), "unreal": float(beta), "between": -float(diversity), "critic": 0.0
        }  # fmt: skip
        self.phases = (self.terms, self.critic_terms)

    @property
    def falling(self):
        return set()  # each may rise where another falls

    def parameters(self):
        for part in (super(), self.f, self.distance):
            yield from part.parameters()

    def _made(self, x):
        z = self.network.draw(len(x), *x.shape[2:]).to(x)
        with self.autocast():
            return self.network(x, z)

    def terms(self, ldct, ndct=None):
        """Unweighted terms of the generator's objective an image, {term: (N,)}, with gradients; NDCT is not used."""
        with torch.no_grad(), self.autocast():
            fx = self.f(ldct).float()
        draws = [self._made(ldct) for _ in range(2)]
        with self.autocast():
            outs = [self.f(made).float() for made in draws]
        score = sum(self.critic(made).flatten(1).mean(1) for made in draws) / 2
        return {
            "d_out": sum(self.distance(out, fx) for out in outs) / 2,
            "d_in": sum(self.distance(made, ldct) for made in draws) / 2,
            "unreal": 1 - score,
            "between": self.distance(*draws),
        }

    def critic_terms(self, ldct, ndct=None):
        """The critic's hinge loss an image, {"critic": (N,)}, with gradients for the critic alone."""
        with torch.no_grad():
            made = self._made(ldct)
        real, fake = self.critic(ldct).flatten(1), self.critic(made).flatten(1)
        return {"critic": F.relu(1 - real).mean(1) + F.relu(1 + fake).mean(1)}

    def update(self, ldct, ndct=None):
        """One update of the critic, then one of the generator.

        Args: ldct: patches (N, 1, H, W), network range, H and W divisible by 16; ndct: not used.
        Returns: {term: (N,) float32}, unweighted, each before its own update, detached and still on the device.
        """
        judged = self.descend(self.optimisers["critic_optimiser"], self.critic_terms, {"critic": 1.0}, ldct)
        with frozen(self.critic):
            terms = self.descend(self.optimiser, self.terms, self.weights, ldct)
        return terms | judged


@torch.inference_mode()
def sample(generator, x, count, seed=0):
    """Draw ``count`` images for every x, cut to ``intensity.STORED_HU``.

    Args: x: (N, 1, H, W), network range, any device. seed: seeds z; torch's global generator is left as it was.
    Returns: (N, count, H, W) float32, network range, on the CPU.
    """
    check_count("count", count, 1)
    device, training = next(generator.parameters()).device, generator.training
    generator.eval()
    draws = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for _ in range(count):
            z = generator.draw(len(x), *x.shape[2:]).to(device)
            draws.append(generator(x.to(device), z).clamp(*map(to_net, STORED_HU)).cpu())
    generator.train(training)
    return torch.cat(draws, dim=1)


def collapse(generator, x, count=16, seed=0):
    """How much of the change depends on z: SD over draws for a fixed x over the RMS change, each over all pixels.

    Near 0 the generator makes the same change whatever z is (mode collapse); near 1 its changes average to nothing.
    Args: count: draws, at least 2. Returns: (N,) float32 in [0, 1]; 0 where nothing is changed.
    """
    check_count("count", count, 2)
    change = sample(generator, x, count, seed) - x.cpu().float()
    spread, whole = change.var(dim=1, correction=0).mean((1, 2)), change.square().mean((1, 2, 3))
    return torch.where(whole > 0, spread / whole.clamp_min(1e-30), 0).clamp(0, 1).sqrt()
