"""Quality maps of any slice by a trained network, and the network on disk."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ldct_utils.models import store
from ldct_utils.noise2quality import networks, targets, training
from ldct_utils.study import paths

FILE = "quality.safetensors"
MULTIPLE = 2**networks.LEVELS


@dataclass(frozen=True)
class Assessor:
    """A network with all that is needed to apply it.

    Attributes: model, channels, normalisation: see ``networks.build``. target: name in ``targets.TARGETS``. doses:
        classes of the head, in their order. level, width: window in HU. sigma: see ``highpass``. network: in evaluation
        mode.
    """

    model: str
    channels: int | None
    normalisation: str | None
    target: str
    doses: tuple[float, ...]
    level: float
    width: float
    sigma: str
    network: nn.Module

    @property
    def settings(self) -> dict:
        return {name: value for name, value in vars(self).items() if name != "network"} | {"doses": list(self.doses)}


@torch.inference_mode()
def assess(image_hu, assessor: Assessor, batch: int = 4, precision: str = "float32", device: str = "cpu"):
    """Quality maps and doses of slices.

    Args: image_hu: (N, H, W) or (H, W) in HU, any size of at least 16 pixels: padded by reflection to a multiple of 16,
        then cropped. precision: float32, or bf16 for the convolutions.
    Returns: maps of the same shape, float32, in the target's units; probabilities (N, doses), NaN without a dose head.
    Raises: ValueError: for another shape, or values that are not finite.
    """
    image_hu = np.asarray(image_hu)
    images = image_hu[None] if image_hu.ndim == 2 else image_hu
    if images.ndim != 3 or min(images.shape[1:]) < MULTIPLE:
        raise ValueError(
            f"slices come as (N, H, W) or (H, W) of at least {MULTIPLE} pixels, got shape {image_hu.shape}"
        )
    if not np.isfinite(images).all():
        raise ValueError(f"the slices hold values that are not finite: {int((~np.isfinite(images)).sum())}")
    height, width = images.shape[1:]
    padding = ((0, -height % MULTIPLE), (0, -width % MULTIPLE))
    wanted, target = networks.get(assessor.model).inputs, targets.get(assessor.target)
    network = assessor.network.to(device).eval()
    maps = np.empty(images.shape, np.float32)
    probabilities = np.full((len(images), len(assessor.doses)), np.nan)
    for start in range(0, len(images), batch):
        part = slice(start, start + batch)
        shown = [
            training.windowed(np.pad(one, padding, "reflect"), assessor.level, assessor.width) for one in images[part]
        ]
        made = torch.from_numpy(np.stack([training.inputs_of(one, wanted, assessor.sigma) for one in shown])).to(device)
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bf16"):
            predicted, logits = network(made.contiguous(memory_format=torch.channels_last))
        maps[part] = target.decode((predicted[:, 0, :height, :width].cpu().numpy() + 1) / 2)
        if logits is not None:
            probabilities[part] = logits.softmax(1).cpu().numpy()
    return (maps[0] if image_hu.ndim == 2 else maps), probabilities


def quality_map(image_hu, assessor: Assessor, **options) -> np.ndarray:
    """The predicted quality at every pixel of slices (N, H, W) or (H, W) in HU; options as in ``assess``.

    It is relative to an NDCT like those of the training, noise included, within the window; flat air is rated perfect.
    """
    return assess(image_hu, assessor, **options)[0]


def write(folder, assessor: Assessor):
    """Write ``quality.safetensors``: the weights, and how to build and apply the network."""
    store.write(Path(folder) / FILE, assessor.network.state_dict(), quality=assessor.settings)


def load(folder) -> Assessor:
    """The trained network of a run of 08a_train_quality, on the CPU.

    Args: folder: the run folder, absolute or relative to the study or its outputs.
    Raises: FileNotFoundError: if it is no finished run; ValueError: for a file that is not whole or of another origin.
    """
    folder = paths.locate(str(folder)) or Path(folder)
    if not (folder / FILE).is_file() or not (folder / "result.json").is_file():
        raise FileNotFoundError(
            f"{paths.short(folder)} is no finished run of 08a_train_quality: run that notebook to its end"
        )

    def build(settings):
        names = ("model", "channels", "normalisation")
        return networks.build(**{name: settings[name] for name in names}, classes=len(settings["doses"]))

    network, settings = store.load(folder / FILE, "quality", build, "delete the run and repeat it")
    return Assessor(**settings | {"doses": tuple(settings["doses"])}, network=network)
