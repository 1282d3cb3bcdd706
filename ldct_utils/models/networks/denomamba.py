"""DenoMamba (Ozturk, Duran, Cukur: arXiv 2409.13094, IEEE JBHI 10.1109/JBHI.2025.3629034), for CPU and GPU.

An hourglass of Restormer's form whose blocks fuse two state-space branches, a gated convolution and the block's input.
Structure, initialisation and sizes are those of the released code (github.com/icon-lab/DenoMamba), the scan is ours.
"""

import math

import torch
from torch import nn

from ldct_utils.models.networks._normalised import Normalised
from ldct_utils.models.networks._selective_scan import METHODS, selective_scan

VARIANTS = ("released", "channel")
FACTOR = 8  # three halvings
STATES, CONV, EXPAND = 16, 4, 2  # of the Mamba core: states a channel, width of its causal convolution, widening
FFN = 2.66  # widening of the gated convolutions


class LayerNorm(nn.LayerNorm):
    """Normalises the channels of every pixel of (N, C, H, W)."""

    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Mamba(nn.Module):
    """The Mamba core (Gu & Dao 2023, Figure 3) on sequences (N, L, width): causal, the same shape comes out.

    Names and shapes of its nine weights are mamba_ssm's and mambapy's, so that states can be exchanged.
    """

    def __init__(self, width, scan="auto"):
        super().__init__()
        inner, self.rank, self.scan = EXPAND * width, math.ceil(width / 16), scan
        self.in_proj = nn.Linear(width, 2 * inner, bias=False)
        self.conv1d = nn.Conv1d(inner, inner, CONV, groups=inner, padding=CONV - 1)
        self.x_proj = nn.Linear(inner, self.rank + 2 * STATES, bias=False)
        self.dt_proj = nn.Linear(self.rank, inner)
        self.out_proj = nn.Linear(inner, width, bias=False)
        self.A_log = nn.Parameter(torch.arange(1.0, STATES + 1).log().repeat(inner, 1))
        self.D = nn.Parameter(torch.ones(inner))
        nn.init.uniform_(self.dt_proj.weight, -(self.rank**-0.5), self.rank**-0.5)
        dt = torch.exp(torch.empty(inner).uniform_(math.log(1e-3), math.log(0.1))).clamp(min=1e-4)
        with torch.no_grad():
            self.dt_proj.bias.copy_(dt + torch.log(-torch.expm1(-dt)))  # softplus of it is dt

    def forward(self, x):
        u, gate = self.in_proj(x).chunk(2, dim=-1)
        u = nn.functional.silu(self.conv1d(u.transpose(1, 2))[..., : x.shape[1]].transpose(1, 2))
        dt, B, C = self.x_proj(u).split([self.rank, STATES, STATES], dim=-1)
        dt = nn.functional.softplus(self.dt_proj(dt))
        y = selective_scan(u, dt, -torch.exp(self.A_log), B, C, self.D, self.scan)
        return self.out_proj(y * nn.functional.silu(gate))


class MambaLayer(nn.Module):
    """LayerNorm and a Mamba core on an image (N, C, H, W), in float32 whatever the autocast around it.

    ``over="space"`` reads the pixels row by row as one sequence of H*W vectors of C features. ``over="channels"`` reads
    every pixel as a sequence of its C channels, one scalar feature each, with the same weights for all pixels: a scan
    over channels whose weights know neither height nor width. (With the H*W pixels as features, which is how the paper
    words it, a network would be tied to one image size.)
    """

    def __init__(self, channels, over="space", scan="auto"):
        super().__init__()
        self.over = over
        self.norm = nn.LayerNorm(channels)
        self.mamba = Mamba(channels if over == "space" else 1, scan)

    def forward(self, x):
        n, c, height, width = x.shape
        with torch.autocast(x.device.type, enabled=False):
            tokens = self.norm(x.float().permute(0, 2, 3, 1).reshape(n, height * width, c))
            y = self.mamba(tokens if self.over == "space" else tokens.reshape(n * height * width, c, 1))
        return y.reshape(n, height, width, c).permute(0, 3, 1, 2)


class GatedFFN(nn.Module):
    """1x1 and depthwise 3x3 convolutions, half of the channels gating the other half."""

    def __init__(self, channels):
        super().__init__()
        hidden = int(FFN * channels)
        self.project_in = nn.Conv2d(channels, 2 * hidden, 1, bias=False)
        self.depthwise = nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1, groups=2 * hidden, bias=False)
        self.project_out = nn.Conv2d(hidden, channels, 1, bias=False)

    def forward(self, x):
        a, b = self.depthwise(self.project_in(x)).chunk(2, dim=1)
        return self.project_out(nn.functional.gelu(a) * b)


class FuseSSM(nn.Module):
    """The block: spatial branch, second branch with gated convolution, and input, fused by convolutions."""

    def __init__(self, channels, variant, dead_weights, scan):
        super().__init__()
        over = "channels" if variant == "channel" else "space"
        self.norm1, self.norm2, self.norm3 = (LayerNorm(channels) for _ in range(3))
        self.spatial = MambaLayer(channels, "space", scan)
        self.second = MambaLayer(channels, over, scan)
        self.ffn = GatedFFN(channels)
        self.fuse = nn.Sequential(
            nn.Conv2d(3 * channels, channels, 3, padding=1, bias=False),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        )
        self.skip = nn.Conv2d(3 * channels, channels, 1, bias=False)
        if dead_weights:
            self.project_out = nn.Conv2d(3 * channels, channels, 1, bias=False)

    def forward(self, x):
        branches = [self.spatial(self.norm1(x)), self.ffn(self.norm3(self.second(self.norm2(x)))), x]
        z = torch.cat(branches, dim=1)
        return self.fuse(z) + self.skip(z)


class DenoMamba(Normalised):
    """The network; 112,703,268 weights as published, 2,253,340 at dim 16, blocks (1, 1, 1, 1), refinement 1.

    Args: as ``build``.
    """

    def __init__(self, dim, blocks, refinement, variant, dead_weights, scan, mean_hu=None, std_hu=None):
        super().__init__(mean_hu, std_hu)
        self.variant = variant

        def stage(channels, number):
            return nn.Sequential(*(FuseSSM(channels, variant, dead_weights, scan) for _ in range(number)))

        widths = [dim, 2 * dim, 4 * dim, 8 * dim]
        self.embed = nn.Conv2d(1, dim, 3, padding=1, bias=False)
        self.encoder = nn.ModuleList(stage(w, n) for w, n in zip(widths, blocks))  # the last one is the latent stage
        self.down = nn.ModuleList(
            nn.Sequential(nn.Conv2d(w, w // 2, 3, padding=1, bias=False), nn.PixelUnshuffle(2)) for w in widths[:3]
        )
        self.up = nn.ModuleList(
            nn.Sequential(nn.Conv2d(2 * w, 4 * w, 3, padding=1, bias=False), nn.PixelShuffle(2))
            for w in reversed(widths[:3])
        )
        self.reduce = nn.ModuleList(nn.Conv2d(2 * w, w, 1, bias=False) for w in (widths[2], widths[1]))
        # the first level is not reduced after the concatenation: it goes on with 2 dim channels
        self.decoder = nn.ModuleList(
            stage(w, n) for w, n in zip((widths[2], widths[1], 2 * dim), (blocks[2], blocks[1], blocks[0]))
        )
        self.refine = stage(2 * dim, refinement)
        self.head = nn.Conv2d(2 * dim, 1, 3, padding=1, bias=False)

    def check(self, image):
        """Raises: ValueError: for images whose H and W are not divisible by 8."""
        if image.ndim != 4 or image.shape[1] != 1 or image.shape[2] % FACTOR or image.shape[3] % FACTOR:
            raise ValueError(
                f"DenoMamba takes (N, 1, H, W) with H and W divisible by {FACTOR}, not {tuple(image.shape)}; "
                "crop or pad the images, or choose another patch_size"
            )

    def denoise(self, image):
        """LDCT (N, 1, H, W) to the same shape, both normalised if the network was told mean and SD."""
        z, skips = self.embed(image), []
        for level, blocks in enumerate(self.encoder):
            z = blocks(z)
            if level < 3:
                skips.append(z)
                z = self.down[level](z)
        for level, blocks in enumerate(self.decoder):
            z = torch.cat([self.up[level](z), skips.pop()], dim=1)
            z = blocks(self.reduce[level](z) if level < 2 else z)
        return image + self.head(self.refine(z))


def build(dim=48, blocks=(4, 6, 6, 8), refinement=2, variant="released", dead_weights=False, scan="auto",
          mean_hu=None, std_hu=None):  # fmt: skip
    """An untrained ``DenoMamba``, initialised from torch's global generator (seed it first).

    Args:
        dim: channels of the first level, even.
        blocks: FuseSSM blocks of the three levels and of the latent stage; encoder and decoder have the same numbers.
        refinement: blocks after the decoder.
        variant: ``released``, what the published code computes: its second branch is meant to scan over channels, but
            the flag is never read on the path that runs, so that both branches scan the pixels; or ``channel``, what
            the paper describes (see ``MambaLayer``).
        dead_weights: also make the 1x1 convolution of every block that the released code makes and never uses;
            118,094,628 weights at dim 48. Only for comparing counts.
        scan: the method of ``selective_scan``.
        mean_hu, std_hu: see ``Normalised``; the released code has neither.
    Raises: ValueError: for a value out of its range.
    """
    whole = {"dim": dim, "refinement": refinement} | {f"blocks[{i}]": n for i, n in enumerate(blocks)}
    for name, value in whole.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"DenoMamba: {name} must be a whole number of at least 1, not {value!r}")
    if dim % 2:
        raise ValueError(f"DenoMamba: dim must be even, since going down halves it, not {dim}")
    if len(blocks) != 4:
        raise ValueError(f"DenoMamba has four stages, so blocks needs four numbers, not {blocks!r}")
    for name, value, known in (("variant", variant, VARIANTS), ("scan", scan, METHODS)):
        if value not in known:
            raise ValueError(f"DenoMamba has no {name} {value!r}; there are {', '.join(known)}")
    return DenoMamba(dim, tuple(blocks), refinement, variant, bool(dead_weights), scan, mean_hu, std_hu)
