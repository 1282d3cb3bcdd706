"""The quadratic autoencoder (Fan et al. 2020, IEEE TMI 39(6), 2035): layers quadratic in their input.

Initialised as the authors' code does it, not as their paper words it (its random W_g diverges): at the start every
layer is linear.
"""

import torch
from torch import nn

from ldct_utils.models.networks._convolutions import from_one, to_one
from ldct_utils.models.networks._normalised import Normalised, check_whole

LAYERS, KERNEL = 5, 3


class Quadratic(nn.Module):
    """(W_r x + b_r) (W_g x + b_g) + W_b x^2 + b_b, with 3x3 convolutions for the three products.

    Args: padding: 1 keeps the size, 0 takes a pixel off every side. 2 adds one: a transposed convolution that undoes 0.
    """

    def __init__(self, inside, outside, padding):
        super().__init__()
        self.padding = padding
        shape = (outside, inside, KERNEL, KERNEL)
        self.w_r, self.w_g, self.w_b = (nn.Parameter(torch.zeros(shape)) for _ in range(3))
        self.b_r, self.b_g, self.b_b = (nn.Parameter(torch.zeros(outside)) for _ in range(3))
        nn.init.trunc_normal_(self.w_r, std=0.1, a=-0.2, b=0.2)  # cut at two standard deviations
        nn.init.ones_(self.b_g)

    def forward(self, x):
        padding = self.padding
        if padding == KERNEL - 1:  # zeros put around it first: oneDNN's gradient of a kernel is slow with full padding
            x, padding = nn.functional.pad(x, [padding] * 4), 0
        if len(self.w_r) == 1:
            r, g, b = (to_one(*given, padding) for given in
                       ((x, self.w_r, self.b_r), (x, self.w_g, self.b_g), (x * x, self.w_b, self.b_b)))  # fmt: skip
            return r * g + b
        conv = from_one if x.shape[1] == 1 else nn.functional.conv2d
        both = torch.cat([self.w_r, self.w_g]), torch.cat([self.b_r, self.b_g])  # one convolution for two products
        r, g = conv(x, *both, padding=padding).chunk(2, dim=1)
        return r * g + conv(x * x, self.w_b, self.b_b, padding=padding)


class QAE(Normalised):
    """Ten quadratic layers, the fifth without padding, ReLU between them; 49,818 weights at width 15.

    The outputs of the fourth and second layer and the input are added after the sixth, eighth and tenth. The decoder's
    transposed convolutions are written as the convolutions that they are. Keeps any size of at least 3 pixels.
    """

    SMALLEST = KERNEL

    def __init__(self, width, mean_hu, std_hu):
        super().__init__(mean_hu, std_hu)
        ins, outs = [1] + [width] * (LAYERS - 1), [width] * (LAYERS - 1) + [1]
        self.encoder = nn.ModuleList(Quadratic(inside, width, pad) for inside, pad in zip(ins, (1, 1, 1, 1, 0)))
        self.decoder = nn.ModuleList(Quadratic(width, outside, pad) for outside, pad in zip(outs, (2, 1, 1, 1, 1)))

    def denoise(self, x):
        z, skips = x, []
        for quadratic in self.encoder:
            skips.append(z)
            z = quadratic(z).relu_()
        for layer, quadratic in enumerate(self.decoder):
            skip = skips.pop()
            z = quadratic(z) + skip if layer % 2 == 0 else quadratic(z)
            z = z.relu_() if layer < LAYERS - 1 else z
        return z


def build(width=15, mean_hu=None, std_hu=None):
    """An untrained ``QAE``. Args: width: channels of every layer. mean_hu, std_hu: see ``Normalised``."""
    check_whole("QAE", width=width)
    return QAE(width, mean_hu, std_hu)
