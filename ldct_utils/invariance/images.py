"""Images in HU, as people read them, and in the network range, as a denoiser takes them."""

from collections.abc import Callable

import numpy as np
import torch

from ldct_utils.ct import intensity


def batch(hu) -> torch.Tensor:
    """Images (..., H, W), HU, as one batch (N, 1, H, W) in the network range, float32."""
    hu = np.array(hu, np.float32)  # a copy: what is stored is memory-mapped and not writable
    return intensity.to_net(torch.from_numpy(hu.reshape(-1, 1, *hu.shape[-2:])))


def in_hu(images: torch.Tensor) -> np.ndarray:
    """Images (N, 1, H, W), or (N, K, H, W) of several draws, network range, as HU: (N, H, W), or (N, K, H, W)."""
    images = images.detach().float().cpu().numpy()
    return intensity.from_net(images[:, 0] if images.ndim == 4 and images.shape[1] == 1 else images)


def denoiser(f, device: str = "cpu", at_once: int = 64) -> Callable:
    """A network as a function of images (..., H, W), HU, to the same, float32; ``at_once`` of them go together."""

    @torch.inference_mode()
    def denoised(hu):
        parts = [f(part.to(device)).float().cpu() for part in batch(hu).split(at_once)]
        return intensity.from_net(torch.cat(parts).numpy()).reshape(np.shape(hu))

    return denoised
