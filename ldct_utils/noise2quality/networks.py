"""The networks of Noise2Quality's Table 1: a U-Net with instance normalisation and a dose head, and what it is held
against (Haque et al. 2022, s2.3 and s3; layer by layer as in their notebook)."""

import itertools
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from ldct_utils.models.networks import redcnn
from ldct_utils.models.networks._normalised import check_whole

LEVELS = 4  # 2x2 poolings: height and width must be divisible by 2**4
INPUTS = ("image", "highpass")
# Nothing is learned in any of them, so that they differ in what they normalise over alone.
NORMALISATIONS = {
    "instance": nn.InstanceNorm2d,  # every channel of every image by itself: takes the image's noise level away
    "batch": partial(nn.BatchNorm2d, affine=False),  # a channel over the batch; when applied, over the training
    "none": lambda channels: nn.Identity(),
}


@dataclass(frozen=True)
class Model:
    """A row of Table 1. Attributes: label; inputs: among ``INPUTS``; head: predicts the dose too; kind, channels: of
    the network and its published width."""

    label: str
    inputs: tuple[str, ...]
    head: bool
    kind: str = "unet"
    channels: int = 16


MODELS = {
    "ae": Model("AE", ("image",), False, "ae"),
    "redcnn": Model("RED-CNN", ("image",), False, "redcnn", 96),
    "unet": Model("U-Net", ("image",), False),
    "u_hpf": Model("U-HPF", ("highpass",), False),
    "u_con": Model("U-Con", INPUTS, False),
    "u_ssl": Model("U-SSL", ("image",), True),
    "n2q": Model("N2Q", INPUTS, True),
}


def _double(inside, outside, normal):
    """Two 3x3 convolutions, normalisation and leaky ReLU after each, then dropout."""
    return nn.Sequential(
        nn.Conv2d(inside, outside, 3, padding=1), normal(outside), nn.LeakyReLU(0.2),
        nn.Conv2d(outside, outside, 3, padding=1), normal(outside), nn.LeakyReLU(0.2), nn.Dropout(0.25),
    )  # fmt: skip


class QualityNet(nn.Module):
    """U-Net from slices to a map in (-1, 1): 1,963,622 weights with one input, 1,963,766 with two, at 16 channels.

    Args:
        inputs: channels of the input. channels: width c of the first level (c, 2c, 4c, 8c, 16c).
        classes: doses that the head tells apart; 0: no head. skips: False makes it the autoencoder AE.
        normalisation: a name in ``NORMALISATIONS``.
    Raises: ValueError: for an unknown normalisation, or sizes that are no whole numbers.
    """

    def __init__(self, inputs: int, channels=16, classes=5, skips=True, normalisation="instance"):
        super().__init__()
        check_whole("Noise2Quality", inputs=inputs, channels=channels)
        if normalisation not in NORMALISATIONS:
            raise ValueError(f"no normalisation {normalisation!r}; there are {', '.join(NORMALISATIONS)}")
        self.inputs, self.skips = inputs, skips
        double = partial(_double, normal=NORMALISATIONS[normalisation])
        widths = [channels * 2**level for level in range(LEVELS + 1)]
        self.down = nn.ModuleList(double(a, b) for a, b in zip([inputs, *widths[:-1]], widths))
        above = list(itertools.pairwise(widths))[::-1]  # (own width, width below), from the bottom
        self.up = nn.ModuleList(double(low + own * skips, own) for own, low in above)
        self.last = nn.Conv2d(channels, 1, 1)
        self.head = nn.Linear(widths[-1], classes) if classes else None

    def forward(self, image):
        """Args: image: (N, inputs, H, W), H and W divisible by 16. Returns: map (N, 1, H, W) in (-1, 1), float32, and
        logits of the dose (N, classes), or None without a head. Raises: ValueError: for another shape."""
        _check(image, self.inputs, 2**LEVELS)
        z, skips = image, []
        for level, double in enumerate(self.down):
            z = double(z if level == 0 else nn.functional.max_pool2d(z, 2))
            skips.append(z)
        logits = None
        if self.head is not None:
            logits = self.head(nn.functional.max_pool2d(z, 2).float().mean((2, 3)))
        for double, skip in zip(self.up, reversed(skips[:-1])):
            z = nn.functional.interpolate(z, scale_factor=2, mode="bilinear", align_corners=True)
            z = double(torch.cat([z, skip], 1) if self.skips else z)
        return torch.tanh(self.last(z).float()), None if logits is None else logits.float()


class QualityREDCNN(nn.Module):
    """RED-CNN without down-sampling, 96 filters, and a tanh: 1,848,865 weights. No dose head."""

    def __init__(self, channels: int = 96):
        super().__init__()
        self.inputs, self.body = 1, redcnn.build(channels)

    def forward(self, image):
        """As ``QualityNet.forward``; any size of at least 21 pixels."""
        _check(image, 1, 1)
        return torch.tanh(self.body(image).float()), None


def _check(image, inputs, multiple):
    if image.ndim != 4 or image.shape[1] != inputs or image.shape[2] % multiple or image.shape[3] % multiple:
        raise ValueError(
            f"the network takes (N, {inputs}, H, W) with H and W divisible by {multiple}, not {tuple(image.shape)}; "
            "crop or pad the images, or choose another patch_size"
        )


def get(model: str) -> Model:
    """The row of Table 1 of that name. Raises: ValueError: for an unknown one."""
    if model not in MODELS:
        raise ValueError(f"no model {model!r}; there are {', '.join(MODELS)}")
    return MODELS[model]


def published(model: str) -> str:
    """The normalisation that a model was published with. Raises: as ``get``."""
    return "none" if get(model).kind == "redcnn" else "instance"


def build(model: str, channels: int | None = None, classes: int = 5, normalisation: str | None = None):
    """An untrained network, initialised from torch's global generator.

    Args: model: a name in ``MODELS``. channels: width of the first level (RED-CNN: of every layer); None: published.
        normalisation: a name in ``NORMALISATIONS``; None: ``published``.
    Raises: ValueError: for an unknown model or normalisation, or one that RED-CNN has no place for.
    """
    chosen = get(model)
    channels = chosen.channels if channels is None else channels
    normalisation = normalisation or published(model)
    if chosen.kind == "redcnn":
        if normalisation != "none":
            raise ValueError(f"RED-CNN has no normalisation; got {normalisation!r}, leave it out")
        return QualityREDCNN(channels)
    return QualityNet(len(chosen.inputs), channels, classes if chosen.head else 0, chosen.kind != "ae", normalisation)
