"""Perceptual losses of the literature at their own λ: what eleven studies used (Viana et al. 2025, Table 1)."""

import pandas as pd
import torch

from ldct_utils.models import encoders
from ldct_utils.study import machine
from ldct_utils.training import losses, psi

FOUR = ("block1_conv2", "block2_conv2", "block3_conv3", "block4_conv3")
STAGES = ("stage1", "stage2", "stage3", "stage4")
TABLE_1 = (  # study, encoder, lambda, layers, context; without layers the study names none
    ("Yang 2018", "vgg19", 0.1, ("block5_conv4",), "imagenet"),
    ("Li 2020 (SACNN)", "autoencoder", 0.1, ("block3_conv4",), "medical"),
    ("Marcos 2021", "vgg16", None, FOUR, "imagenet"),
    ("Trung 2019", "vgg19", 0.1, (), "imagenet"),
    ("Mahmoud 2023", "vgg19", 0.1, (), "imagenet"),
    ("Zhang 2024", "autoencoder", 0.1, ("block3_conv4",), "medical"),
    ("Saidulu 2024", "vgg19", 0.1, (), "imagenet + medical"),
    ("Saidulu 2025", "vgg19", 0.1, (), "imagenet + medical"),
    ("Marcos 2025", "vgg16", 0.4, FOUR, "imagenet"),
    ("Li 2025 (CT-Mamba)", "resnet50", 0.01, STAGES, "imagenet"),
    ("Huang 2021", "VGG", 0.001, (), "imagenet"),  # Table 1 does not say which VGG
)


def encoder_of(name, layers, trained_on, given: dict, device="cpu"):
    """The encoder of a row of the table and the context that it really has, or None and what is missing.

    Args: given: arch, context, weights and seed of the run; its context ``random`` stands in for every other.
    """
    if not layers:
        return None, "layer not specified in the study"
    context = given["context"]
    if context == "random":
        loaded = encoders.load(name, "random", layers, seed=given["seed"]).to(device)
        return loaded, f"random (study: {trained_on})"
    if trained_on == "imagenet":
        if machine.imagenet_file(name):
            return encoders.load(name, "imagenet", layers).to(device), "imagenet"
        return None, f"needs {machine.IMAGENET_FILES[name]}: make weights"
    if context == "medical" and given["arch"] == name:
        loaded = encoders.load(name, "medical", layers, given["weights"]).to(device)
        return loaded, encoders.context_name("medical", loaded.provenance)
    return None, f"needs a run of 07_medical_encoder with arch={name}, as weights with context=medical"


@torch.no_grad()
def patch_losses(encoder, predictions: dict, ndct, at_once: int = 8) -> dict:
    """{network: (MSE, sum over the encoder's layers of the perceptual loss)} of every patch.

    Args: predictions: {network: (N, 1, p, p)}, network range. ndct: (N, 1, p, p), on the encoder's device.
    """
    loss, found = losses.build("vgg", encoder, lam=1.0), {}
    for f, predicted in predictions.items():
        parts = [loss.terms(p.to(ndct.device), t) for p, t in zip(predicted.split(at_once), ndct.split(at_once))]
        found[f] = tuple(torch.cat([part[term] for part in parts]).cpu().numpy() for term in ("mse", "vgg"))
    return found


def measure(predictions: dict, ndct, target: float, definition: str, given: dict) -> pd.DataFrame:
    """Psi at each study's own λ, and the λ for ``target``, on these patches.

    Args: predictions, ndct: as of ``patch_losses``. definition: of psi. given: as of ``encoder_of``.
    Returns: study, encoder, layers, lambda, measured with, and for each network f ``psi, f`` and ``lambda for psi, f``;
        NaN where there is nothing to measure, for the reason in ``measured with``.
    """
    found, done = [], {}
    for name, architecture, lam, layers, trained_on in TABLE_1:
        row = {"study": name, "encoder": architecture, "layers": ", ".join(layers), "lambda": lam}
        if (architecture, layers) not in done:
            loaded, used = encoder_of(architecture, layers, trained_on, given, ndct.device)
            done[architecture, layers] = (loaded and patch_losses(loaded, predictions, ndct)), used
        values, row["measured with"] = done[architecture, layers]
        for f, pair in (values or {}).items():
            row[f"psi, {f}"] = psi.influence(*pair, lam, definition) if lam is not None else None
            row[f"lambda for psi, {f}"] = psi.lambda_for(*pair, target, definition)
        found.append(row)
    return pd.DataFrame(found)
