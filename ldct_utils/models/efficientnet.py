"""EfficientNet-Lite0 up to a feature level: an ImageNet encoder of another family than VGG, from a wheel.

Inverted residuals (expand by 1x1, 3x3 or 5x5 a channel, project by 1x1) with batch normalisation and ReLU6. The layers
are timm's; the wheel's file names them otherwise. Its ReLU6 cuts at 6, so that the encoder answers only to the input
that it was trained with, (255 x - 127) / 128, and untrained it answers to nothing.

Source: Tan & Le 2019, ICML; the Lite variant has neither squeeze-and-excitation nor swish.
"""

from torch import nn

DEPTHS = (1, 2, 2, 3, 3, 4, 1)  # blocks a stage of the network
# Feature levels stage1 to stage5: the last stage before each halving of the image, and the last of all.
TAPS = (0, 1, 2, 4, 6)
CONVENTION = "half"
# layers of a block: in the file, and in timm without and with an expansion
PLAIN = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
EXPANDED = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
            "_project_conv": "conv_pwl", "_bn2": "bn3"}  # fmt: skip


class Lite0(nn.Module):
    """EfficientNet-Lite0 up to the deepest of ``layers``; ``stage{n}`` is the last output at 1/2^n of the image."""

    def __init__(self, layers):
        super().__init__()
        import timm  # imported here: it takes seconds, and only this encoder needs it

        whole = timm.create_model("efficientnet_lite0", bn_eps=1e-3)
        self.taps = {TAPS[int(name[-1]) - 1]: name for name in layers}
        self.conv_stem, self.bn1, self.blocks = whole.conv_stem, whole.bn1, whole.blocks[: max(self.taps) + 1]
        self.eval()  # batch statistics are the stored ones, always

    @property
    def first(self):
        return self.conv_stem

    def forward(self, z, start=0):
        """Features of RGB input ``z`` (N, 3, H, W) as {layer: (N, C, h, w)}; with ``start=1``, of the first layer's."""
        z, found = self.bn1(z if start else self.conv_stem(z)), {}
        for index, stage in enumerate(self.blocks):
            z = stage(z)
            if index in self.taps:
                found[self.taps[index]] = z
        return found


def layer_names() -> list[str]:
    """Feature levels, shallow to deep; they have 16, 24, 40, 112 and 320 channels."""
    return [f"stage{n}" for n in range(1, len(TAPS) + 1)]


def renamed(key: str) -> str:
    """A key of the wheel's file as ``Lite0`` names it; keys of its classifier stay."""
    start, _, rest = key.partition(".")
    if start != "_blocks":
        return {"_conv_stem": "conv_stem", "_bn0": "bn1"}.get(start, start) + "." + rest
    number, layer, value = rest.split(".")
    stage, before = 0, 0
    while int(number) >= before + DEPTHS[stage]:
        before, stage = before + DEPTHS[stage], stage + 1
    names = EXPANDED if stage else PLAIN
    return f"blocks.{stage}.{int(number) - before}.{names[layer]}.{value}"
