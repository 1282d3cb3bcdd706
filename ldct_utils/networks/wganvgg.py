"""WGAN-VGG's generator (Yang et al. 2018, IEEE TMI 37(6), 1348): eight 3x3 convolutions, nothing that skips them."""

from torch import nn

from ldct_utils.networks._normalised import Normalised, check_whole, in_float32

LAYERS = 8


class WGANVGG(Normalised):
    """Eight 3x3 convolutions, ReLU after the first seven; 56,097 weights at width 32. Keeps any size."""

    def __init__(self, width, mean_hu, std_hu):
        super().__init__(mean_hu, std_hu)
        layers = []
        for inside in [1] + [width] * (LAYERS - 2):
            layers += [nn.Conv2d(inside, width, 3, padding=1), nn.ReLU(inplace=True)]
        self.body = nn.Sequential(*layers)
        self.head = nn.Conv2d(width, 1, 3, padding=1)

    def denoise(self, x):
        return in_float32(self.head, self.body(x))


def build(width=32, mean_hu=None, std_hu=None):
    """An untrained ``WGANVGG``. Args: width: channels of every layer. mean_hu, std_hu: see ``Normalised``."""
    check_whole("WGAN-VGG", width=width)
    return WGANVGG(width, mean_hu, std_hu)
