"""RED-CNN (Chen et al. 2017, IEEE TMI 36(12), 2524): a residual encoder-decoder of valid convolutions.

As in the LDCT benchmark without the paper's last ReLU, since normalised images have a mean of zero.
"""

from torch import nn

from ldct_utils.models.networks._convolutions import from_one, to_one, turned
from ldct_utils.models.networks._normalised import Normalised, check_whole

LAYERS, KERNEL = 5, 5


class REDCNN(Normalised):
    """Five 5x5 convolutions without padding and five transposed ones; 1,848,865 weights at width 96.

    The outputs of the fourth and second convolution and the input are added after the first, third and fifth transposed
    convolution. Keeps any size of at least 21 pixels.
    """

    SMALLEST = LAYERS * (KERNEL - 1) + 1

    def __init__(self, width, mean_hu, std_hu):
        super().__init__(mean_hu, std_hu)
        ins, outs = [1] + [width] * (LAYERS - 1), [width] * (LAYERS - 1) + [1]
        self.encoder = nn.ModuleList(nn.Conv2d(inside, width, KERNEL) for inside in ins)
        self.decoder = nn.ModuleList(nn.ConvTranspose2d(width, outside, KERNEL) for outside in outs)

    def denoise(self, x):
        first, *encoder = self.encoder
        *decoder, last = self.decoder
        z, skips = from_one(x, first.weight, first.bias, 0).relu_(), []
        for conv in encoder:
            skips.append(z)
            z = conv(z).relu_()
        for layer, conv in enumerate(decoder):
            skip = skips.pop()
            z = (conv(z) + skip if layer % 2 == 0 else conv(z)).relu_()
        return to_one(z, turned(last.weight), last.bias, KERNEL - 1) + x


def build(width=96, mean_hu=None, std_hu=None):
    """An untrained ``REDCNN``. Args: width: channels of every layer. mean_hu, std_hu: see ``Normalised``."""
    check_whole("RED-CNN", width=width)
    return REDCNN(width, mean_hu, std_hu)
