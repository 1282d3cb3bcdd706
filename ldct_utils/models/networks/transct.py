"""TransCT (Zhang et al. 2021, MICCAI, doi 10.1007/978-3-030-87231-1_6): low and high frequencies on two paths.

As the LDCT benchmark translated the authors' code. Its sequences are unusual: the 256 *channels* are the tokens and the
positions of the image their features, so that the weights are tied to one image size, 512x512.
"""

import math
from itertools import pairwise

import torch
from torch import nn

from ldct_utils.models.networks._normalised import Normalised, check_whole, in_float32

SIZE = 512
SIGMA, RADIUS = 1.5, 5  # of the Gaussian that splits the frequencies: 11x11, borders reflected
TOKENS = 256
LOW, HIGH = 16 * 16, 32 * 32  # positions, so features of a token, on the two paths
HEADS = 8


def _convs(widths, kernel=3, stride=1):
    """Convolutions, a leaky ReLU after each."""
    layers = []
    for inside, outside in pairwise(widths):
        layers += [nn.Conv2d(inside, outside, kernel, stride, kernel // 2), nn.LeakyReLU(0.2, inplace=True)]
    return nn.Sequential(*layers)


class Layer(nn.Module):
    """Attention to itself, attention to a memory where there is one, a widened pair of linear layers; each is added.

    No layer normalisation and no code of the position.
    """

    def __init__(self, features, widening, memory=None):
        super().__init__()
        self.own = nn.MultiheadAttention(features, HEADS, batch_first=True)
        self.cross = None
        if memory:
            self.cross = nn.MultiheadAttention(features, HEADS, kdim=memory, vdim=memory, batch_first=True)
        self.forth = nn.Sequential(
            nn.Linear(features, widening * features), nn.LeakyReLU(0.2, inplace=True),
            nn.Linear(widening * features, features), nn.LeakyReLU(0.2, inplace=True),
        )  # fmt: skip

    def forward(self, x, memory=None):
        x = x + self.own(x, x, x, need_weights=False)[0]
        if self.cross is not None:
            x = x + self.cross(x, memory, memory, need_weights=False)[0]
        return x + self.forth(x)


class TransCT(Normalised):
    """The network; 79,347,520 weights at three blocks and widening 8. Takes 512x512 images only."""

    def __init__(self, blocks, widening, mean_hu, std_hu):
        super().__init__(mean_hu, std_hu)
        self.stem = _convs([1, 16, 32], 5, 2)
        self.low1, self.low2 = _convs([32, 64], 5, 2), _convs([64, TOKENS], 5, 2)
        self.low = _convs([32, 64, 128, TOKENS], 5, 2)
        self.high = _convs([TOKENS] * 4)
        self.encoder = nn.ModuleList(Layer(LOW, widening) for _ in range(blocks))
        self.decoder = nn.ModuleList(Layer(HIGH, widening, memory=LOW) for _ in range(blocks))
        self.merge1, self.merge2 = _convs([TOKENS] * 3), _convs([64] * 3)
        heights = [math.exp(-0.5 * (x / SIGMA) ** 2) for x in range(-RADIUS, RADIUS + 1)]
        self.register_buffer("gaussian", torch.tensor([h / sum(heights) for h in heights]), persistent=False)

    def check(self, image):
        if image.ndim != 4 or image.shape[1] != 1 or image.shape[2:] != (SIZE, SIZE):
            raise ValueError(
                f"TransCT takes whole slices, (N, 1, {SIZE}, {SIZE}), not {tuple(image.shape)}: its weights are tied "
                f"to that size. Train and test it on a cohort of such slices: `-p size {SIZE} -p patch_size {SIZE}`"
            )

    def blur(self, x):
        """Low frequencies of (N, 1, H, W)."""
        padded = nn.functional.pad(x, [RADIUS] * 4, mode="reflect")
        rows = nn.functional.conv2d(padded, self.gaussian.to(x.dtype).view(1, 1, -1, 1))
        return nn.functional.conv2d(rows, self.gaussian.to(x.dtype).view(1, 1, 1, -1))

    def denoise(self, x):
        low = in_float32(self.blur, x)
        z = self.stem(low)
        low1 = self.low1(z)
        low2 = self.low2(low1)
        memory = self.low(z).flatten(2)  # (N, 256, 16 * 16)
        for layer in self.encoder:
            memory = layer(memory)
        z = self.high(nn.functional.pixel_unshuffle(x - low, 16)).flatten(2)  # (N, 256, 32 * 32)
        for layer in self.decoder:
            z = layer(z, memory)
        z = z.unflatten(2, (32, 32)) + low2
        z = depth_to_space(z + self.merge1(z), 2) + low1  # (N, 64, 64, 64)
        return depth_to_space(in_float32(lambda y: y + self.merge2(y), z), 8)


def depth_to_space(z, factor):
    """(N, C f^2, H, W) to (N, C, f H, f W), with f^2 as the outer index of the channels (TensorFlow's order)."""
    outer_last = z.unflatten(1, (factor**2, -1)).transpose(1, 2).flatten(1, 2)
    return nn.functional.pixel_shuffle(outer_last, factor)


def build(blocks=3, widening=8, mean_hu=None, std_hu=None):
    """An untrained ``TransCT``; the benchmark's is the default, and none of the two has to do with the image size.

    Args: blocks: layers of the encoder and of the decoder; widening: of the linear layers in them. mean_hu, std_hu: see
        ``Normalised``.
    """
    check_whole("TransCT", blocks=blocks, widening=widening)
    return TransCT(blocks, widening, mean_hu, std_hu)
