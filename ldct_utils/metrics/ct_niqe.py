"""CT-NIQE: NIQE whose model of good images is fitted on normal-dose CT instead of photographs.

NIQE (Mittal et al. 2013, IEEE Signal Process. Lett. 20(3), 209) says how far the statistics of an image's blocks lie
from those of good images: 18 numbers a block at each of two scales, summed up by their mean and covariance. Four things
differ here, all of them our choice:

- good images are the NDCT slices of training patients, so the metric asks "does it look like NDCT of this scanner?";
- only blocks inside the body count, since air and table would dominate the statistics;
- every block inside the body counts in the fit (NIQE takes the sharpest), because scores count every block too;
- nothing is rounded or clipped: one grey level is ``LEVEL_HU``, the width of the window [-160, 240] HU over 255.

It needs a model: ``load(run folder of 04a_ct_niqe)`` returns the metric, which ``metrics.compute`` takes in ``names``.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.nn import functional as F

from ldct_utils.ct import intensity
from ldct_utils.metrics.registry import Metric
from ldct_utils.study import files, paths

LEVEL_HU = 400 / 255  # HU a grey level; NIQE's constant C is one level
FILE = "ct_niqe.npz"
SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))  # neighbours whose products are taken: right, below, both diagonals
SHAPES = torch.arange(0.2, 10.001, 0.001, dtype=torch.float64)  # shape parameters tried, as in the authors' code
# Ratio E|x|^2 / E x^2 of a generalised Gaussian; it rises with the shape.
RATIOS = (2 * torch.lgamma(2 / SHAPES) - torch.lgamma(1 / SHAPES) - torch.lgamma(3 / SHAPES)).exp()


@dataclass(frozen=True)
class Model:
    """Mean (36,) and covariance (36, 36) of the features of good blocks, the blocks' side (pixels) and their number."""

    mean: np.ndarray
    covariance: np.ndarray
    block: int
    blocks: int


def normalised(image):
    """Local mean subtracted, divided by local deviation + 1 (Mittal et al., Eq. 1 to 3): (H, W) in grey levels."""
    x = torch.arange(-3, 4, dtype=image.dtype, device=image.device)
    kernel = torch.exp(-(x**2) / (2 * (7 / 6) ** 2))
    kernel = torch.outer(kernel, kernel)[None, None] / kernel.sum() ** 2

    def smooth(values):
        return F.conv2d(F.pad(values[None, None], (3, 3, 3, 3), mode="replicate"), kernel)[0, 0]

    mean = smooth(image)
    return (image - mean) / ((smooth(image**2) - mean**2).abs().sqrt() + 1)


def asymmetric_gaussian(values):
    """Shape and scales (left, right) of an asymmetric generalised Gaussian of each row of (M, K), by moments.

    A row without values on both sides of zero gives NaN. Source: Lasmar et al. 2009; Mittal et al., Eq. 7.
    """
    left, right = (
        (values.pow(2) * side).sum(1).div(side.sum(1)).sqrt() for side in (values < 0, values > 0)
    )  # 0 / 0 is NaN: a side without values
    ratio = left / right
    moment = values.abs().mean(1).pow(2) / values.pow(2).mean(1)
    moment = moment * (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1) ** 2
    shapes, ratios = SHAPES.to(values), RATIOS.to(values)
    above = torch.searchsorted(ratios, moment.nan_to_num()).clamp(1, len(ratios) - 1)
    shape = shapes[above - (moment - ratios[above - 1] < ratios[above] - moment).long()]
    spread = (torch.lgamma(1 / shape) - torch.lgamma(3 / shape)).exp().sqrt()
    return shape, left * spread, right * spread


def half(image):
    """Half the size by antialiased bicubic interpolation, mirrored at the border as MATLAB's ``imresize`` does it."""
    image = torch.cat([image[:4].flip(0), image, image[-4:].flip(0)])
    image = torch.cat([image[:, :4].flip(1), image, image[:, -4:].flip(1)], dim=1)
    return F.interpolate(image[None, None], scale_factor=0.5, mode="bicubic", antialias=True)[0, 0, 2:-2, 2:-2]


def features(image_hu, mask, block: int) -> torch.Tensor:
    """Features of the blocks that lie wholly inside a mask, (blocks, 36), float64.

    Args:
        image_hu: (H, W) in HU.
        mask: boolean (H, W), the body.
        block: side of a block, pixels, even; blocks lie side by side from the upper left corner.
    """
    rows, columns = (n // block * block for n in image_hu.shape)
    image = (image_hu.double() / LEVEL_HU)[:rows, :columns]

    def tiles(values, side):
        return values.unfold(0, side, side).unfold(1, side, side).flatten(0, 1)

    inside, statistics = tiles(mask[:rows, :columns], block).all(2).all(1), []
    for scale in (1, 2):
        parts = tiles(normalised(image), block // scale)[inside]
        shape, left, right = asymmetric_gaussian(parts.flatten(1))
        statistics += [shape, (left + right) / 2]
        for shift in SHIFTS:
            shape, left, right = asymmetric_gaussian((parts * parts.roll(shift, dims=(1, 2))).flatten(1))
            mean = (right - left) * (torch.lgamma(2 / shape) - torch.lgamma(1 / shape)).exp()  # Eq. 8
            statistics += [shape, mean, left, right]
        image = half(image)
    table = torch.stack(statistics, dim=1)
    return table[table.isfinite().all(1)]  # a block of one value has no statistics


def fit(images_hu, masks, block: int = 32) -> Model:
    """The model of good images.

    Args:
        images_hu: NDCT slices (H, W) in HU, any sequence; of training patients only.
        masks: boolean (H, W) each, the body.
        block: side of a block, pixels; even. NIQE takes 96 in photographs.
    Raises: ValueError: if the blocks are too few for a covariance of 36 features.
    """
    if block < 16 or block % 2:
        raise ValueError(f"a block needs an even side of at least 16 pixels, got {block}")
    blocks = torch.cat(
        [features(torch.as_tensor(i), torch.as_tensor(m), block) for i, m in zip(images_hu, masks, strict=True)]
    )
    if len(blocks) < 2 * blocks.shape[1]:
        raise ValueError(
            f"blocks of {block} x {block} pixels inside the body: {len(blocks)}, too few for {blocks.shape[1]} "
            f"features, which need twice as many: take more slices or a smaller block"
        )
    return Model(blocks.mean(0).numpy(), blocks.T.cov().numpy(), block, len(blocks))


def score(model: Model, image_hu, mask) -> float:
    """Distance of an image's blocks from the model, >= 0 (Mittal et al., Eq. 10); NaN under two blocks in the body."""
    blocks = features(image_hu, mask, model.block)
    if len(blocks) < 2:
        return math.nan
    away = torch.as_tensor(model.mean).to(blocks) - blocks.mean(0)
    pooled = (torch.as_tensor(model.covariance).to(blocks) + blocks.T.cov()) / 2
    return float((away @ torch.linalg.pinv(pooled) @ away).clamp(min=0).sqrt())


def body(image_hu) -> torch.Tensor:
    """Body mask of an image as a domain shows it: where a window has clipped air, what lies above its lower end."""
    shown = image_hu.cpu().numpy()
    return torch.from_numpy(intensity.body_mask(shown, max(-500.0, float(shown.min()) + 1))).to(image_hu.device)


def metric(model: Model) -> Metric:
    """CT-NIQE with a model, for ``metrics.compute``; outside the domain ``body`` it finds the body by itself."""

    def compute(pred, data_range=None, mask=None):
        masks = [body(image) for image in pred] if mask is None else mask
        values = [score(model, image, where) for image, where in zip(pred, masks, strict=True)]
        return torch.tensor(values, dtype=torch.float64)

    return Metric(
        name="ct_niqe", direction=-1, low=0.0, high=math.inf, unit="", takes="hu", label="CT-NIQE", digits=2,
        compute=compute, family="no-reference", masked=True, smallest=2 * model.block, library="own",
        reference="Mittal et al. 2013, fitted on NDCT",
    )  # fmt: skip


def save(model: Model, folder):
    """Write a model into a run folder."""
    arrays = {"mean": model.mean, "covariance": model.covariance, "block": model.block, "blocks": model.blocks}
    with files.write_atomic(Path(folder) / FILE) as temporary:
        np.savez(temporary, **arrays)


def load(folder) -> Metric:
    """CT-NIQE with the model of a finished run of 04a_ct_niqe.

    Args:
        folder: the run folder, absolute or relative to the study or its outputs.
    Raises: FileNotFoundError: if it is no finished run; ValueError: for a file that is not whole.
    """
    from ldct_utils.study.paths import locate

    folder = locate(str(folder)) or Path(folder)
    if not (folder / FILE).is_file() or not (folder / "result.json").is_file():
        raise FileNotFoundError(
            f"{paths.short(folder)} is no finished run of 04a_ct_niqe: run that notebook to its end"
        )
    try:
        with np.load(folder / FILE, allow_pickle=False) as held:
            model = Model(held["mean"], held["covariance"], int(held["block"]), int(held["blocks"]))
    except Exception as error:  # readers of broken files raise whatever the bytes make them stumble over
        raise ValueError(
            f"{paths.short(folder / FILE)} cannot be read ({error}): delete the run and repeat it"
        ) from error
    if model.mean.shape != (36,) or model.covariance.shape != (36, 36):
        raise ValueError(f"{paths.short(folder / FILE)} holds no model of 36 features, but {model.mean.shape}")
    return metric(model)


def summed(values, controls, plain: str = "NDCT") -> pd.DataFrame:
    """Scores of images of known order: a row a control.

    Args: values: columns control, row (of the slice), patient, value. controls: in which order. plain: what the others
        are set against.
    Returns: control, CT-NIQE (mean over patients), worse than NDCT (``3 of 8`` slices that have a score; empty for the
        NDCT), share (the same as a number).
    """
    wide, found = values.pivot(index="row", columns="control", values="value"), []
    for name in controls:
        worse, valid = (wide[name] > wide[plain]).sum(), wide[name].notna().sum()
        mean = values[values.control == name].groupby("patient").value.mean().mean()
        found.append((name, mean, "" if name == plain else f"{worse} of {valid}", worse / max(valid, 1)))
    return pd.DataFrame(found, columns=["control", "CT-NIQE", "worse than NDCT", "share"])
