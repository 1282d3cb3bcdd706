"""A trained network on whole slices: HU in, HU out, any size."""

from functools import partial

import numpy as np
import torch

from ldct_utils.ct import intensity
from ldct_utils.training import checkpoints

MULTIPLE = 16  # images are padded to a multiple of this many pixels, as the U-Net needs


@torch.inference_mode()
def predict(network, hu, batch: int = 4, precision: str = "float32", device: str = "cpu") -> np.ndarray:
    """Denoise whole slices.

    Args: hu: LDCT in HU, (N, H, W) or (H, W), any size: padded by reflection to a multiple of 16 pixels, then cropped.
    Returns: prediction of NDCT in HU, float32, same shape.
    """
    hu = np.asarray(hu)
    images = hu[None] if hu.ndim == 2 else hu
    if images.ndim != 3:
        raise ValueError(f"predict takes slices (N, H, W) or (H, W) in HU, got shape {hu.shape}")
    height, width = images.shape[1:]
    training, out = network.training, np.empty(images.shape, np.float32)
    network.eval()
    for start in range(0, len(images), batch):
        part = torch.from_numpy(np.array(images[start : start + batch], dtype=np.float32))[:, None].to(device)
        part = torch.nn.functional.pad(part, (0, -width % MULTIPLE, 0, -height % MULTIPLE), mode="reflect")
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bf16"):
            denoised = network(intensity.to_net(part).contiguous(memory_format=torch.channels_last))
        out[start : start + batch] = intensity.from_net(denoised.float())[:, 0, :height, :width].cpu().numpy()
    network.train(training)
    return out[0] if hu.ndim == 2 else out


def slices_at_once(patches: int, patch_size: int, pixels: int) -> int:
    """As many whole slices of so many ``pixels`` as have the pixels of a batch of patches, at least one."""
    return max(1, patches * patch_size**2 // pixels)


def as_trained(run, device: str = "cpu"):
    """The network of a finished run as a function of slices in HU, computing as the end of its own training did.

    Args: run: of 03_train, whose precision, threads and number of slices at once are taken.
    """
    # In the layout that it was trained in: another one gives other last bits.
    network = checkpoints.load_network(run.folder).to(device, memory_format=torch.channels_last)
    about = run.params

    def denoise(hu):
        at_once = slices_at_once(about["batch"], about["patch_size"], int(np.prod(np.shape(hu)[-2:])))
        threads = torch.get_num_threads()
        torch.set_num_threads(about["threads"])  # the last bits of a convolution depend on it
        try:
            return predict(network, hu, at_once, about["precision"], device)
        finally:
            torch.set_num_threads(threads)

    return denoise


def denoiser(run, batch: int = 4, precision: str = "float32", device: str = "cpu", checkpoint="last"):
    """The network of a finished run as a function of slices in HU: ``predict`` with all but the slices given.

    Args: run: of 03_train. checkpoint: as for ``checkpoints.load_network``, whose errors it raises.
    """
    network = checkpoints.load_network(run.folder, checkpoint).to(device)
    return partial(predict, network, batch=batch, precision=precision, device=device)
