"""What the training of a medical encoder needs beside its loop: patches, a normalisation that is folded away, heads.

A deep encoder without normalisation learns little in minutes. Each convolution is followed by a batch normalisation
while it trains, which at the start is set to undo itself and at the end is folded into the convolution, so that the
stored encoder is a plain VGG with torchvision's keys.
"""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from ldct_utils.ct import intensity
from ldct_utils.models import encoders, store

TASKS = ("reconstruct", "dose", "anatomy")
STRIDE = 16  # pixels that one position of the deepest level stands for
RISE = 10  # steps in which the rate rises


def check(arch: str, patch_size: int, tasks):
    """Raises: ValueError: for what cannot be trained, said before a cohort is built."""
    if arch not in encoders.BLOCKS:
        raise ValueError(f"arch must be vgg19, vgg16 or autoencoder, got {arch!r}")
    if patch_size < STRIDE or patch_size % STRIDE:
        raise ValueError(f"patch_size must be divisible by 16, the stride of the deepest level, got {patch_size}")
    if set(tasks) - set(TASKS) or not tasks:
        raise ValueError(f"tasks must be of reconstruct, dose and anatomy, got {tasks}")


def check_cohort(cohort):
    """Raises: ValueError: for a cohort without training or validation slices."""
    for part in ("train", "val"):
        if not len(cohort.rows(part)):
            raise ValueError(f"cohort {cohort.id} has no {part} slices; choose a split that has some")


def patches(cohort, rng, rows, count: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """``count`` random patches, the first half NDCT, the second LDCT: (count, 1, size, size), network range; and the
    place of each one's anatomy in the sorted anatomies of the cohort, (count,)."""
    anatomies = sorted(cohort.slices.anatomy.unique())
    of_row = cohort.slices.set_index("row").anatomy.map(anatomies.index)
    rows, found = rng.choice(rows, count), []
    for i, row in enumerate(rows):
        images = cohort.ndct if i < count // 2 else cohort.ldct
        y, x = (rng.integers(0, n - size + 1) for n in images.shape[1:])
        found.append(images[row, y : y + size, x : x + size])
    stacked = torch.from_numpy(np.stack(found).astype(np.float32))[:, None]
    return intensity.to_net(stacked), torch.from_numpy(of_row.loc[rows].to_numpy())


class Normalised(nn.Module):
    """A convolution and a batch normalisation that undoes itself until it is trained."""

    def __init__(self, convolution):
        super().__init__()
        self.convolution, self.norm = convolution, nn.BatchNorm2d(convolution.out_channels)

    def forward(self, z):
        return self.norm(self.convolution(z))

    def transparent(self, z):
        """Set the normalisation to the statistics of its input and to the identity on it."""
        z, norm = self.convolution(z), self.norm
        norm.running_mean.copy_(z.mean((0, 2, 3)))
        norm.running_var.copy_(z.var((0, 2, 3), correction=0))
        norm.weight.data, norm.bias.data = (norm.running_var + norm.eps).sqrt(), norm.running_mean.clone()


def normalise(body, images, convention: str):
    """Put a transparent normalisation behind every convolution of an encoder, in place.

    Args: images: (N, 1, H, W), network range: whose statistics it takes. convention: of the encoder's input.
    """
    z = encoders.rgb(images, convention)
    with torch.no_grad():
        for i, layer in enumerate(body.features):
            if isinstance(layer, nn.Conv2d):
                body.features[i] = Normalised(layer)
                body.features[i].transparent(z)
            z = body.features[i].eval()(z)


def fold(body):
    """Fold the normalisations into their convolutions, in place."""
    for i, layer in enumerate(body.eval().features):
        if isinstance(layer, Normalised):
            body.features[i] = nn.utils.fusion.fuse_conv_bn_eval(layer.convolution, layer.norm)


def heads_of(features: dict, patch_size: int, anatomies: int, mean: float) -> nn.ModuleDict:
    """What answers the tasks: a linear decoder a level (a 1x1 convolution with a pixel shuffle, too weak to make up
    for a level that has lost the image), and linear classifiers of ``dose`` and ``anatomy`` of the mean features.

    Args: features: {level: (N, C, h, w)} of patches. anatomies: how many. mean: of the patches, where decoders start.
    """
    width = sum(z.shape[1] for z in features.values())
    heads = nn.ModuleDict({"dose": nn.Linear(width, 2), "anatomy": nn.Linear(width, anatomies)})
    for layer, z in features.items():
        stride = patch_size // z.shape[-1]
        decoder = nn.Conv2d(z.shape[1], stride**2, 1)
        nn.init.zeros_(decoder.weight)
        nn.init.constant_(decoder.bias, mean)
        heads[layer] = nn.Sequential(decoder, nn.PixelShuffle(stride))
    return heads


def rate(step: int, steps: int) -> float:
    """Share of the peak learning rate at a step, in (0, 1]: it rises, then falls to zero along a cosine."""
    return min(1.0, (step + 1) / RISE) * 0.5 * (1 + math.cos(math.pi * step / steps))


# ---- what is stored ----
class Terms:
    """The loss of every task at every step: ``rows``, a dict a step, kept with what a training goes on from."""

    def __init__(self):
        self.rows = []

    def state_dict(self) -> dict:
        return {"rows": self.rows}

    def load_state_dict(self, state: dict):
        self.rows = state["rows"]


def read_trained(path: Path, body, heads):
    """Load a finished encoder and its heads, as ``write_trained`` stored them."""
    _, stored = store.read(path, "encoder", "delete the run and repeat it")
    body.load_state_dict({k: v for k, v in stored.items() if not k.startswith("heads.")})
    heads.load_state_dict({k.removeprefix("heads."): v for k, v in stored.items() if k.startswith("heads.")})


def write_trained(path: Path, body, heads, about: dict):
    """Store an encoder and its heads, with what is known of it in the header."""
    weights = body.state_dict() | {f"heads.{k}": v for k, v in heads.state_dict().items()}
    store.write(path, weights, encoder=about)


def moved(body, before: dict) -> pd.DataFrame:
    """Relative change of each convolution's weights, ||w - w0|| / ||w0||: columns weights, relative change.

    Args: before: {name: weights at the start}.
    """
    now = dict(body.named_parameters())
    found = [(name, ((now[name] - old).norm() / old.norm()).item()) for name, old in before.items()]
    return pd.DataFrame(found, columns=["weights", "relative change"])


def most_contrast(images) -> int:
    """Which of some patches (N, 1, H, W), network range, shows most contrast between fat and bone."""
    return int(images.clamp(0.2, 0.3).flatten(1).std(1).argmax())


def check_stored(path: Path, body, arch: str, layers, convention: str, images, tolerance: float = 1e-3):
    """Raises: AssertionError: if the stored encoder, read as others read it, gives other features than the trained one.

    Args: body: on the CPU. images: (N, 1, H, W), network range.
    """
    folded = encoders.load(arch, str(path), layers, convention=convention)(images)
    with torch.no_grad():
        unfolded = body.eval()(encoders.rgb(images, convention))
    for layer in layers:
        worst = (folded[layer] - unfolded[layer]).abs().max() / unfolded[layer].abs().max()
        assert worst < tolerance, f"the stored encoder differs from the trained one at {layer}"


def features_of(body, convention: str, scale: dict, precision: str, device: str) -> Callable:
    """A function of patches (N, 1, H, W), network range: {level: features (N, C, h, w), divided by their ``scale``}."""

    def features(images):
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bf16"):
            found = body(encoders.rgb(images, convention).contiguous(memory_format=torch.channels_last))
        return {layer: z.float() / scale[layer] for layer, z in found.items()}

    return features
