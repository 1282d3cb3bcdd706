"""What is measured of a network: losses of training patches before it trains, and its scores while it trains."""

import numpy as np
import pandas as pd
import torch

from ldct_utils.ct import intensity
from ldct_utils.metrics import full_reference
from ldct_utils.training import losses, prediction, psi
from ldct_utils.training.losses import FEATURE_TERM


@torch.no_grad()
def patch_losses(step, loss, sampler, batches: int, of: str = "identity") -> pd.DataFrame:
    """Every term of a loss for patches, a row a patch, a column a term, unweighted: what λ is found from.

    Args:
        step: a method's, for its network and device. loss: ``losses.Loss``. sampler: of pairs of patches.
        batches: that are drawn. of: what predicts NDCT: ``identity`` (the LDCT itself) or ``untrained`` (the network).
    """
    found = []
    with step.evaluating():
        for ldct, ndct in (sampler.next() for _ in range(batches)):
            ldct, ndct = ldct.to(step.device), ndct.to(step.device)
            terms = loss.terms(ldct if of == "identity" else step.network(ldct), ndct)
            found.append(pd.DataFrame({name: term.cpu().numpy() for name, term in terms.items()}))
    return pd.concat(found, ignore_index=True)


class Watch:
    """A network watched while it trains, always on the same validation patches and whole slices.

    Args:
        step: a method's; its network as it is at the moment is scored. loss: ``losses.Loss``.
        sampler: gives the patches, once. cohort, rows: whose slices. at_once, precision: as of ``prediction.predict``.
    """

    def __init__(self, step, loss, sampler, cohort, rows, at_once: int, precision: str):
        self.step, self.loss, self.at_once, self.precision = step, loss, at_once, precision
        self.patches, *self.wanted = (image.to(step.device) for image in sampler.next())  # wanted: NDCT (and labels)
        self.ldct, self.ndct = (images[rows] for images in (cohort.ldct, cohort.ndct))

    def scores(self) -> dict:
        """{val_<term>: mean over patches, unweighted}, psi and gradient share (``shares``) where the loss has a
        perceptual term, and the error on whole slices (``whole_slices``), every name after ``val_``."""
        network = self.step.network
        with torch.no_grad(), self.step.evaluating():
            terms = self.step.terms(self.patches, *self.wanted)
            terms = {name: term.cpu().numpy() for name, term in terms.items()}
            pred = network(self.patches[:8])
        found = {name: float(term.mean()) for name, term in terms.items()}
        if FEATURE_TERM in self.loss.weights:
            found |= shares(self.loss, terms, pred, *(wanted[:8] for wanted in self.wanted))
        found |= whole_slices(network, self.ldct, self.ndct, self.at_once, self.precision, self.step.device)
        return {f"val_{name}": value for name, value in found.items()}


def shares(loss, terms: dict, pred, *wanted) -> dict:
    """Psi by both definitions, and the share of the perceptual term in the gradient with respect to the image.

    Args:
        loss: ``losses.Loss`` with a perceptual term.
        terms: {term: (N,)} arrays, unweighted, of validation patches.
        pred: predictions (M, 1, H, W) of the first M of them, network range, for the gradient. wanted: their NDCT, and
            their labels where the loss has a term over structures.
    Returns: {psi_ratio_of_sums, psi_mean_of_ratios, gradient_influence}, in [0, 1].
    """
    weight = loss.weights[FEATURE_TERM]
    pixel = sum(loss.weights[name] * values for name, values in terms.items() if name != FEATURE_TERM)
    norms = loss.gradient_norms(pred, *wanted)
    norms = [norms[name].cpu().numpy() for name in ("pixel", FEATURE_TERM)]
    return psi.influences(pixel, terms[FEATURE_TERM], weight) | {
        "gradient_influence": psi.gradient_influence(*norms, weight)
    }


def whole_slices(network, ldct, ndct, at_once: int, precision: str, device) -> dict:
    """Error of a network on whole slices: {rmse_hu, psnr (dB, peak 4096 HU), ssim}, over all pixels against the NDCT.

    The SSIM is the one by which the LDCT benchmark tuned (Eulig et al. 2024): of HU + 1024 clipped to [0, 2924].

    Args: ldct, ndct: (N, H, W), HU. at_once, precision, device: as of ``prediction.predict``.
    """
    predicted = prediction.predict(network, ldct, at_once, precision, device)
    mse = float(np.mean((predicted - ndct) ** 2))
    inside = [(images - intensity.HU_MIN).clip(0, intensity.EULIG_TOP) for images in (predicted, ndct)]
    ssim = full_reference.ssim(*(torch.from_numpy(i.astype(np.float64)) for i in inside), intensity.EULIG_TOP)
    return {
        "rmse_hu": mse**0.5,
        "psnr": 10 * np.log10(intensity.HU_SPAN**2 / mse),
        "ssim": float(ssim.mean()),
    }


@torch.no_grad()
def slice_losses(pred, ndct, encoder, crop: int, precision: str = "float32", device="cpu") -> pd.DataFrame:
    """MSE, L1 and Charbonnier loss of whole slices and the VGG loss of their centre.

    Args: pred, ndct: (N, H, W), HU. encoder: on the device. crop: side of the centre, pixels.
    Returns: a row a slice and loss: image, name, value, domain (``network``), reference (``ndct``).
    """
    whole = [torch.from_numpy(intensity.to_net(x))[:, None].to(device) for x in (pred, ndct)]
    top, left = ((side - min(crop, side)) // 2 for side in pred.shape[1:])
    centre = [x[..., top : top + crop, left : left + crop] for x in whole]
    with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bf16"):
        values = losses.build({"mse": 1.0, "l1": 1.0, "charbonnier": 1.0}).terms(*whole)
        values |= losses.build({FEATURE_TERM: 1.0}, encoder).terms(*centre)
    tables = [pd.DataFrame({"image": range(len(v)), "name": k, "value": v.cpu()}) for k, v in values.items()]
    return pd.concat(tables).assign(domain="network", reference="ndct")
