"""Losses of training patches by several predictions of NDCT, and the λ at which psi is a target.

Patches are tensors (N, 1, p, p) in the network range; ``places`` is a table with a row a patch: row (of the slice), y
and x (its upper left corner, pixels), patient.
"""

import numpy as np
import pandas as pd
import torch

from ldct_utils.ct import intensity
from ldct_utils.models.networks import unet
from ldct_utils.study import runs
from ldct_utils.training import checkpoints, losses, psi

AT_ONCE = 8  # patches


def places(cohort, rows, patches: int, patch: int, seed: int) -> pd.DataFrame:
    """Where to cut patches, at random: every slice of ``rows`` before any twice."""
    rng, (height, width) = np.random.default_rng(seed), cohort.ndct.shape[1:]
    found = {
        "row": np.resize(rng.permutation(rows), patches),
        "y": rng.integers(0, height - patch + 1, patches),
        "x": rng.integers(0, width - patch + 1, patches),
    }
    found = pd.DataFrame(found)
    return found.assign(patient=cohort.slices.set_index("row").patient.loc[found.row].to_numpy())


def cut(images, where, patch: int, device="cpu") -> torch.Tensor:
    """Patches at these places of (slices, H, W), HU."""
    found = [images[w.row, w.y : w.y + patch, w.x : w.x + patch] for w in where.itertuples()]
    return intensity.to_net(torch.from_numpy(np.stack(found).astype(np.float32))[:, None]).to(device)


def short_fit(cohort, rows, patch: int, channels: int, steps: int, seed: int, device="cpu"):
    """A residual U-Net after so many steps of MSE on other training patches: enough to take part of the noise away."""
    torch.manual_seed(seed)
    model, draw = unet.build(channels=channels, residual=True).to(device), np.random.default_rng(seed + 1)
    height, width = cohort.ndct.shape[1:]
    adam, limits = torch.optim.Adam(model.parameters(), lr=1e-3), (height - patch + 1, width - patch + 1)
    for _ in range(steps):
        where = pd.DataFrame({"row": draw.choice(rows, 8), "y": draw.integers(0, limits[0], 8)})
        where["x"] = draw.integers(0, limits[1], 8)
        adam.zero_grad()
        pairs = (cut(images, where, patch, device) for images in (cohort.ldct, cohort.ndct))
        losses.mse(model(next(pairs)), next(pairs)).mean().backward()
        adam.step()
    return model


def trained_network(folder, device="cpu"):
    """The network of a finished run of 03_train."""
    return checkpoints.load_network(runs.load(folder).folder).to(device)


@torch.no_grad()
def predict(model, ldct) -> np.ndarray:
    """Predictions of patches by a network in evaluation mode, on the CPU."""
    return torch.cat([model.eval()(batch) for batch in ldct.split(AT_ONCE)]).cpu().numpy()


def measure(encoder, predictions: dict, ndct, where) -> pd.DataFrame:
    """Every loss and gradient norm of every patch, network and layer, all layers from one pass of the encoder.

    Args: encoder: of ``encoders.load``. predictions: {network: (N, 1, p, p)}. ndct: on the encoder's device.
    Returns: ``places`` with columns f (the network), layer, mse, perceptual, and the norms grad_mse, grad_perceptual of
        their gradients with respect to the predicted image.
    """
    found = []
    for f, predicted in predictions.items():
        for start in range(0, len(where), AT_ONCE):
            target = ndct[start : start + AT_ONCE]
            pred = predicted[start : start + AT_ONCE].to(ndct.device).requires_grad_(True)
            terms = {"mse": losses.mse(pred, target)} | losses.feature_errors(encoder, pred, target)
            norms = {name: norm.cpu().numpy() for name, norm in losses.gradient_norms(terms, pred).items()}
            terms = {name: term.detach().cpu().numpy() for name, term in terms.items()}
            for layer in encoder.provenance["layers"]:
                table = where.iloc[start : start + AT_ONCE].assign(
                    f=f, layer=layer, mse=terms["mse"], perceptual=terms[layer]
                )
                found.append(table.assign(grad_mse=norms["mse"], grad_perceptual=norms[layer]))
    return pd.concat(found, ignore_index=True)


def calibrate(measured, target: float, definition: str, draws: int, seed: int) -> pd.DataFrame:
    """λ for a target psi, a row a network and layer of ``measure``.

    Returns: f, layer, λ by both definitions, the ends of the interval over patients of the λ by ``definition`` and of
        psi at that λ, the gradient influence there, and psi at the literature's λ.
    """
    found = []
    for (f, layer), r in measured.groupby(["f", "layer"], sort=False):
        pair = r.mse.to_numpy(), r.perceptual.to_numpy()
        lam = {name: psi.lambda_for(*pair, target, name) for name in psi.DEFINITIONS}
        own, options = lam[definition], {"definition": definition, "draws": draws, "seed": seed}
        ends = psi.bootstrap(*pair, r.patient, target=target, **options)
        ends += psi.bootstrap(*pair, r.patient, lam=own, **options)
        share = psi.gradient_influence(r.grad_mse, r.grad_perceptual, own)
        found.append((f, layer, *lam.values(), *ends, share, psi.influence(*pair, psi.LITERATURE_LAMBDA, definition)))
    names = ["lambda_low", "lambda_high", "psi_low", "psi_high", "gradient influence", "psi at 0.1"]
    return pd.DataFrame(found, columns=["f", "layer", *psi.DEFINITIONS, *names])


def curves(measured, key: str, lambdas) -> dict:
    """Psi at each of ``lambdas``: {value of the column ``key``: (by Algorithm 2, by Eq. 5, None)}.

    The None is the place of a λ that was used, as ``report.drawings.perceptual.psi_by_lambda`` takes it.
    """
    groups = measured.groupby(key, sort=False)
    return {n: (*(psi.curve(r.mse, r.perceptual, lambdas, d) for d in psi.DEFINITIONS), None) for n, r in groups}
