"""LDCT-IQA: what a radiologist would have said of an abdominal slice, by the LDCT benchmark's network.

A Swin-T with four heads of 21 classes, after the winner of the 2023 challenge (Lee et al. 2025, Med Image Anal 99,
103343), trained again on all its 1,500 abdominal slices: normal dose and simulated lower ones, and no denoised image.
On other anatomies, kernels and everything that a network made it extrapolates, as its authors warn.
"""

from functools import cache

import torch
from torch import nn

from ldct_utils.ct import intensity
from ldct_utils.metrics.registry import register
from ldct_utils.models import weights

SIZE = 512  # pixels a side, and no other
LEVEL_HU, WIDTH_HU = -300.0, 1400.0  # window of the training images
CLASSES, HEADS = 21, 4  # scores 0, .2, ..., 4
IMAGENET_MEAN, IMAGENET_SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Rater(nn.Module):
    """Slices (N, 3, 512, 512), normalised, to probabilities of the 21 scores (N, 21): the mean over the heads."""

    def __init__(self):
        super().__init__()
        from torchvision.models import swin_t  # imported here: it takes seconds

        self.model = swin_t(weights=None)
        width = self.model.head.in_features
        self.model.head = nn.Identity()
        self.heads = nn.ModuleList(nn.Linear(width, CLASSES) for _ in range(HEADS))

    def forward(self, shown):
        features = self.model(shown)
        return torch.stack([head(features).softmax(-1) for head in self.heads]).mean(0)


@cache
def rater(device: str) -> Rater:
    """The network with the published weights. Raises: as ``weights.checked``; ValueError: for another file."""
    path = weights.checked("ldct_iqa")
    held = torch.load(path, weights_only=True, map_location="cpu")
    made = Rater()
    try:
        made.load_state_dict(held["model_state_dict"])
    except (KeyError, TypeError, RuntimeError) as error:
        raise ValueError(f"{path.name} does not hold LDCT-IQA's weights: fetch it again") from error
    return made.eval().requires_grad_(False).to(device)


def prepared(image_hu):
    """Slices (N, H, W) in HU as the network was trained on them: windowed, three channels, ImageNet's normalisation."""
    shown = intensity.dicom_window(image_hu.float(), LEVEL_HU, WIDTH_HU)[:, None]
    mean, sd = (torch.tensor(values, device=shown.device).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_SD))
    return (shown - mean) / sd


@register(
    direction=1, low=0.0, high=4.0, unit="", takes="hu", label="LDCT-IQA", digits=2, family="no-reference",
    smallest=SIZE, library="own, the LDCT benchmark's weights", reference="Lee et al. 2025; Eulig et al. 2024",
    needs=("ldct_iqa",),
)  # fmt: skip
def ldct_iqa(pred, data_range=None):
    """Score of a radiologist, 0 (bad) to 4 (excellent), as the most probable of 21 levels.

    Slices have 512 x 512 pixels, as in training: others are refused, since resampling changes the noise.
    """
    if tuple(pred.shape[1:]) != (SIZE, SIZE):
        raise ValueError(f"LDCT-IQA takes slices of {SIZE} x {SIZE} pixels, got {tuple(pred.shape[1:])}")
    scores = [rater(str(pred.device))(prepared(image[None])).argmax(-1) for image in pred]
    return torch.cat(scores).double() / ((CLASSES - 1) / 4)
