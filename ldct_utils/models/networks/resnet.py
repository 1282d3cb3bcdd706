"""The ResNet of the LDCT benchmark (after Missert et al. 2018): it predicts the noise, which is subtracted."""

from torch import nn

from ldct_utils.models.networks._convolutions import from_one, to_one
from ldct_utils.models.networks._normalised import Normalised, check_whole

GROUPS = 8  # of the second convolution of a block


class Block(nn.Module):
    """3x3, batch norm, ReLU, 3x3 in groups, batch norm, ReLU, 1x1; its input is added."""

    def __init__(self, width):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1, groups=GROUPS), nn.BatchNorm2d(width), nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 1),
        )  # fmt: skip

    def forward(self, x):
        return x + self.body(x)


class ResNet(Normalised):
    """A 9x9 convolution, ten blocks, a 3x3 convolution; 1,843,329 weights at width 128. Keeps any size.

    The running means of its batch norms are taken from what it sees in training mode, and are part of a checkpoint.
    """

    def __init__(self, width, blocks, mean_hu, std_hu):
        super().__init__(mean_hu, std_hu)
        self.stem = nn.Conv2d(1, width, 9, padding=4)
        self.blocks = nn.Sequential(*(Block(width) for _ in range(blocks)))
        self.head = nn.Conv2d(width, 1, 3, padding=1)

    def denoise(self, x):
        z = self.blocks(from_one(x, self.stem.weight, self.stem.bias, 4))
        return x - to_one(z, self.head.weight, self.head.bias, 1)


def build(width=128, blocks=10, mean_hu=None, std_hu=None):
    """An untrained ``ResNet``.

    Args: width: channels, a multiple of 8; blocks: residual blocks. mean_hu, std_hu: see ``Normalised``.
    """
    check_whole("ResNet", width=width, blocks=blocks)
    if width % GROUPS:
        raise ValueError(f"ResNet: width must be a multiple of its {GROUPS} groups, not {width}")
    return ResNet(width, blocks, mean_hu, std_hu)
