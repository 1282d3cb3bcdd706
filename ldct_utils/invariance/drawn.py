"""What trained models (05a) draw for crops: other inputs that should look the same to the denoiser."""

import numpy as np
import torch

from ldct_utils.ct import intensity
from ldct_utils.invariance import examine, flow, generate, images, models, vae


def generated(run, denoiser: tuple, crops, samples: int, seed: int = 0, device: str = "cpu") -> np.ndarray:
    """Draws of a generator for the middles of crops, (N, samples, P, P) float32 HU.

    Args: run: of 05a, with a generator. denoiser: as for ``models.of_denoiser``. crops: (N, H, W), HU, not under P.
    """
    model = models.of_denoiser(run, "generator", denoiser, device)
    x = images.batch(examine.middle(np.asarray(crops), run.params["patch_size"]))
    return images.in_hu(generate.sample(model, x, samples, seed)).astype(np.float32)


def flowed(f, run, vae_run, denoiser: tuple, crops, samples: int, seed=0, device: str = "cpu") -> np.ndarray:
    """The VAE's reconstruction and draws of its flow, for the middles of crops: (N, 1 + samples, P, P) float32 HU.

    Args: f: the denoiser, on ``device``. run, vae_run: of 05a, with a flow and its VAE. Others as for ``generated``.
    """
    model, coder = (models.of_denoiser(*one, denoiser, device) for one in ((run, "flow"), (vae_run, "vae")))
    x = images.batch(examine.middle(np.asarray(crops), coder.patch))
    draws = flow.sample(f, coder, model, x, samples, seed)
    with torch.inference_mode():
        plain = coder.reconstruct(x=x.to(device), y_hat=f(x.to(device)).float()).cpu()
    return images.in_hu(torch.cat([plain, draws], 1)).astype(np.float32)


@torch.inference_mode()
def held_out(kind: str, net, f, x: torch.Tensor, samples: int, seed: int = 0, device: str = "cpu", coder=None):
    """What a model draws for patches: (N, 2 + samples, P, P) float32 HU: x, the VAE's reconstruction (of other models x
    again), and draws.

    Args: kind: vae, flow or generator. net: the model; coder: the VAE of a flow. f: the denoiser. x: (N, 1, P, P),
        network range.
    """
    x_hu = images.in_hu(x)
    first = x_hu
    if kind == "generator":
        draws = generate.sample(net, x, samples, seed).numpy()
    elif kind == "flow":
        draws = flow.sample(f, coder, net, x, samples, seed).numpy()
    else:
        torch.manual_seed(seed)
        y_hat = f(x.to(device)).float()
        first = images.in_hu(net.reconstruct(x=x.to(device), y_hat=y_hat))
        posterior = net.encode(x=x.to(device), y_hat=y_hat)
        draws = np.stack(
            [net.decode(vae.sample(*posterior), y_hat=y_hat).cpu().numpy()[:, 0] for _ in range(samples)], 1
        )
    return np.concatenate([x_hu[:, None], first[:, None], intensity.from_net(draws)], axis=1).astype(np.float32)


def changes(made, f_made, fx, ndct_hu) -> dict:
    """How far draws are from x, and f of them from f(x), {quantity: HU}, RMS over pixels, means over patches.

    Args: made: of ``held_out``; f_made: f of it. fx, ndct_hu: f(x) and the NDCT, (N, P, P), HU.
    """
    change_in, change_out = (
        np.sqrt(np.mean((many[:, 1:] - one[:, None]) ** 2, (2, 3))) for many, one in ((made, made[:, 0]), (f_made, fx))
    )
    x_hu, spread = made[:, 0], made[:, 2:].std(axis=1, ddof=1)
    return {
        "in, draws, HU": float(change_in[:, 1:].mean()), "out, draws, HU": float(change_out[:, 1:].mean()),
        "SD over draws, HU": float(np.sqrt(np.mean(spread**2))),
        "LDCT from NDCT, HU": float(np.sqrt(np.mean((x_hu - ndct_hu) ** 2))),
        "f(x) from x, HU": float(np.sqrt(np.mean((fx - x_hu) ** 2))),
        "in, reconstruction, HU": float(change_in[:, 0].mean()),
        "out, reconstruction, HU": float(change_out[:, 0].mean()),
    }  # fmt: skip


@torch.inference_mode()
def of_kind(kind: str, net, f, x, samples: int, seed: int = 0, device: str = "cpu", coder=None) -> dict:
    """What else says whether a model is right, {quantity: value}; arguments as of ``held_out``.

    Of a VAE its KL divergence, nats a patch. Of a flow the negative log-likelihood a dimension, mean and SD of v (0 and
    1), and ``inversion error``, as a share of the largest v. Of a generator its collapse: 0 where z is ignored.
    """
    if kind == "generator":
        return {"collapse (0: z is ignored)": float(generate.collapse(net, x, samples, seed).mean())}
    beside = f(x.to(device)).float()
    if kind == "vae":
        return {"KL, nats a patch": float(vae.kl(*net.encode(x=x.to(device), y_hat=beside)).mean())}
    torch.manual_seed(seed)
    v, logdet = net(vae.sample(*coder.encode(x=x.to(device), y_hat=beside)), beside)
    error = (net.forward(net.inverse(v, beside), beside)[0] - v).abs().max() / v.abs().max().clamp_min(1)
    return {"NLL a dimension": float(flow.nll(v, logdet).mean() / net.dim), "mean of v": float(v.mean()),
            "SD of v": float(v.std()), "inversion error": float(error)}  # fmt: skip


def quantities(kind: str, net, f, x, made, f_made, fx, ndct_hu, samples, seed=0, device="cpu", coder=None) -> dict:
    """``changes`` and ``of_kind`` together; only a VAE's reconstruction is told. Arguments as of these."""
    found, special = changes(made, f_made, fx, ndct_hu), of_kind(kind, net, f, x, samples, seed, device, coder)
    of_vae = [{name: found.pop(name)} for name in ("in, reconstruction, HU", "out, reconstruction, HU")]
    return found | (of_vae[0] | special | of_vae[1] if kind == "vae" else special)


def with_structure(ndct_hu, most: int = 3) -> np.ndarray:
    """Indices of the patches (N, P, P), HU, of soft tissue with the most structure."""
    soft = ((ndct_hu > -150) & (ndct_hu < 300)).mean((1, 2)) > 0.9  # not edges of bone and body, which rule gradients
    structure = np.hypot(*np.gradient(ndct_hu, axis=(1, 2))).mean((1, 2))
    return np.lexsort((-structure, ~soft))[:most]
