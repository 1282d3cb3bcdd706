"""What trained models (05a) draw for crops: other inputs that should look the same to the denoiser."""

import numpy as np
import torch

from ldct_utils.invariance import examine, flow, generate, images, models


def generated(run, denoiser: tuple, crops, samples: int, seed: int = 0, device: str = "cpu") -> np.ndarray:
    """Draws of a generator for the middles of crops, (N, samples, P, P) float32 HU.

    Args: run: of 05a, with a generator. denoiser: as for ``models.of_denoiser``. crops: (N, H, W), HU, not under P.
    """
    model = models.of_denoiser(run, "generator", denoiser, device)
    x = images.batch(examine.middle(np.asarray(crops), run.params["patch_size"]))
    return images.in_hu(generate.sample(model, x, samples, seed)).astype(np.float32)


def flowed(f, run, vae, denoiser: tuple, crops, samples: int, seed: int = 0, device: str = "cpu") -> np.ndarray:
    """The VAE's reconstruction and draws of its flow, for the middles of crops: (N, 1 + samples, P, P) float32 HU.

    Args: f: the denoiser, on ``device``. run, vae: of 05a, with a flow and its VAE. The others as for ``generated``.
    """
    model, coder = (models.of_denoiser(*one, denoiser, device) for one in ((run, "flow"), (vae, "vae")))
    x = images.batch(examine.middle(np.asarray(crops), coder.patch))
    draws = flow.sample(f, coder, model, x, samples, seed)
    with torch.inference_mode():
        plain = coder.reconstruct(x=x.to(device), y_hat=f(x.to(device)).float()).cpu()
    return images.in_hu(torch.cat([plain, draws], 1)).astype(np.float32)
