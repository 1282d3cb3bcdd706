"""CNN-10 (Chen et al. 2017, Biomed. Opt. Express 8(2), 679): three convolutions, nothing that skips them."""

from torch import nn

from ldct_utils.models.networks._convolutions import from_one, to_one
from ldct_utils.models.networks._normalised import Normalised, check_whole, in_float32


class CNN10(Normalised):
    """Convolutions 9x9 and 3x3 with ReLU, then 5x5; 24,513 weights at width 64. Keeps any size."""

    def __init__(self, width, mean_hu, std_hu):
        super().__init__(mean_hu, std_hu)
        self.stem = nn.Conv2d(1, width, 9, padding=4)
        self.body = nn.Conv2d(width, width // 2, 3, padding=1)
        self.head = nn.Conv2d(width // 2, 1, 5, padding=2)

    def denoise(self, x):
        z = from_one(x, self.stem.weight, self.stem.bias, 4).relu_()
        return in_float32(to_one, self.body(z).relu_(), self.head.weight, self.head.bias, 2)


def build(width=64, mean_hu=None, std_hu=None):
    """An untrained ``CNN10``.

    Args: width: channels of the first layer, even; the second has half of them. mean_hu, std_hu: see ``Normalised``.
    """
    check_whole("CNN-10", width=width)
    if width % 2:
        raise ValueError(f"CNN-10: width must be even, since the second layer has half of it, not {width}")
    return CNN10(width, mean_hu, std_hu)
