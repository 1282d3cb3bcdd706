"""WGAN-VGG's generator (Yang et al. 2018, IEEE TMI 37(6), 1348): eight 3x3 convolutions, nothing that skips them."""

from torch import nn

from ldct_utils.models.networks._convolutions import from_one, to_one
from ldct_utils.models.networks._normalised import Normalised, check_whole, in_float32

LAYERS = 8


class WGANVGG(Normalised):
    """Eight 3x3 convolutions, ReLU after the first seven; 56,097 weights at width 32. Keeps any size."""

    def __init__(self, width, mean_hu, std_hu):
        super().__init__(mean_hu, std_hu)
        self.stem = nn.Conv2d(1, width, 3, padding=1)
        self.body = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(LAYERS - 2))
        self.head = nn.Conv2d(width, 1, 3, padding=1)

    def denoise(self, x):
        z = from_one(x, self.stem.weight, self.stem.bias, 1).relu_()
        for conv in self.body:
            z = conv(z).relu_()
        return in_float32(to_one, z, self.head.weight, self.head.bias, 1)


def build(width=32, mean_hu=None, std_hu=None):
    """An untrained ``WGANVGG``. Args: width: channels of every layer. mean_hu, std_hu: see ``Normalised``."""
    check_whole("WGAN-VGG", width=width)
    return WGANVGG(width, mean_hu, std_hu)
