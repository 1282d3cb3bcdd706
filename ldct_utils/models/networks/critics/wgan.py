"""The critic of WGAN-VGG (Yang et al. 2018, IEEE Trans Med Imaging 37(6), 1348, section II-C)."""

from torch import nn

STRIDES = (1, 2, 1, 2, 1, 2)  # of the six convolutions, 3x3 without padding


class Critic(nn.Module):
    """Six convolutions of widths c, c, 2c, 2c, 4c, 4c with LeakyReLU, then two linear layers to one number an image.

    The first linear layer fixes the patch size: 13,991,361 weights at 77 pixels, 7,699,905 at 64 (c = 64).

    Args: patch_size: pixels, square; width: c; hidden: units of the first linear layer.
    Raises: ValueError: for a patch that the convolutions shrink to nothing, or a width below 1.
    """

    def __init__(self, patch_size: int, width: int = 64, hidden: int = 1024):
        super().__init__()
        if width < 1 or hidden < 1:
            raise ValueError(
                f"critic_width and critic_hidden are numbers of units, 1 or more, not {width} and {hidden}"
            )
        layers, inside, self.patch_size, left = [], 1, patch_size, patch_size
        for number, stride in enumerate(STRIDES):
            outside = width * 2 ** (number // 2)
            layers += [nn.Conv2d(inside, outside, 3, stride), nn.LeakyReLU(0.01, inplace=True)]
            inside, left = outside, (left - 3) // stride + 1
        if left < 1:
            raise ValueError(f"the critic of WGAN-VGG needs patches of at least 29 pixels, not {patch_size}")
        self.features = nn.Sequential(*layers)
        self.judge = nn.Sequential(
            nn.Linear(inside * left**2, hidden), nn.LeakyReLU(0.01, inplace=True), nn.Linear(hidden, 1)
        )

    def forward(self, image):
        """Scores (N,) of images (N, 1, patch_size, patch_size); without a bound, high for NDCT once it is trained."""
        if image.shape[1:] != (1, self.patch_size, self.patch_size):
            raise ValueError(f"this critic takes patches of {self.patch_size} pixels, not {tuple(image.shape)}")
        # contiguous: the linear layer's weights must mean the same whatever the memory format of the features
        return self.judge(self.features(image).contiguous().flatten(1)).squeeze(1)
