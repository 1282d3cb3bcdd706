"""The U-Net of Viana et al. (arXiv 2509.23025, section 5.2 and Table 2; layer by layer as in the authors' code)."""

import torch
from torch import nn

from ldct_utils.models import fused
from ldct_utils.models.networks._normalised import in_float32

LEVELS = 4  # 2x2 poolings, so height and width must be divisible by 2**4


class _Double(nn.Sequential):
    """Two 3x3 'same' convolutions with bias, ReLU after each; no normalisation."""

    def __init__(self, inside, outside):
        first, second = (nn.Conv2d(channels, outside, 3, padding=1) for channels in (inside, outside))
        super().__init__(first, nn.ReLU(inplace=True), second, nn.ReLU(inplace=True))

    def forward(self, z):
        return fused.convolution_relu(fused.convolution_relu(z, self[0]), self[2])


class UNet(nn.Module):
    """U-Net with widths c, 2c, 4c, 8c, 16c; 7,759,521 weights at c = 32 and 31,030,593 at c = 64.

    Args:
        channels: c, the width of the first level; the paper uses 32.
        residual: False is the paper's form: the sigmoid of the head's output, and no way past the network for the
            input. True adds the head's output to the input, without sigmoid; the head starts at zero, so that the
            untrained network is the identity and training starts from the LDCT error instead of from a grey image.
    """

    def __init__(self, channels=32, residual=False):
        super().__init__()
        if isinstance(channels, bool) or not isinstance(channels, int) or channels < 1:
            raise ValueError(
                f"channels is the width of the first level, a whole number of at least 1, not {channels!r}"
            )
        self.residual = residual
        widths = [channels * 2**level for level in range(LEVELS + 1)]
        self.down = nn.ModuleList(_Double(a, b) for a, b in zip([1, *widths[:-1]], widths))
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, stride=2) for w in reversed(widths[:-1]))
        self.merge = nn.ModuleList(_Double(2 * w, w) for w in reversed(widths[:-1]))
        self.head = nn.Conv2d(channels, 1, 1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.xavier_uniform_(layer.weight)  # Glorot uniform
                nn.init.zeros_(layer.bias)
        if residual:
            nn.init.zeros_(self.head.weight)

    def forward(self, image):
        """Denoise LDCT (N, 1, H, W) in the network range; H and W divisible by 16. Returns the same shape."""
        if image.ndim != 4 or image.shape[1] != 1 or image.shape[2] % 2**LEVELS or image.shape[3] % 2**LEVELS:
            raise ValueError(
                f"the U-Net takes (N, 1, H, W) with H and W divisible by {2**LEVELS}, not {tuple(image.shape)}; "
                "crop or pad the images, or choose another patch_size"
            )
        z, skips = image, []
        for level, double in enumerate(self.down):
            z = double(z if level == 0 else nn.functional.max_pool2d(z, 2))
            skips.append(z)
        for up, double, skip in zip(self.up, self.merge, reversed(skips[:-1])):
            z = double(fused.up_join(z, up, skip))
        return image + self.head(z) if self.residual else torch.sigmoid(in_float32(self.head, z))


def build(channels=32, residual=False):
    """An untrained ``UNet``, initialised from torch's global generator (seed it first)."""
    return UNet(channels, residual)
