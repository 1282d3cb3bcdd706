"""A control for all three models on CT: patches with a disc in their middle, and an eraser that hides the middle.

A disc of random contrast, uniform between -60 and 60 HU, is laid into the middle of low-dose patches. The *eraser*
replaces the middle of a patch by the mean of the ring around it, so that its output says nothing of the disc; the
*identity* shows all of it. So it is known what draws must do: behind the eraser they must change the disc, as freely as
it differs from patch to patch; behind the identity they must not. A draw *changes* a disc if its contrast differs by
more than two scans of one patch do, in 95 of 100; the change is *hidden* if that of the output does not. A model that
draws the output itself would pass that. So a model *works* only if the disc also varies over its draws, by ``FREELY``
of what is right or more.
"""

import numpy as np
import pandas as pd
import torch
from torch import nn
from tqdm.auto import tqdm

from ldct_utils.ct import intensity
from ldct_utils.invariance import controls, distances, flow, generate, images, vae
from ldct_utils.stats import intervals
from ldct_utils.training import setup

DISC_PX, ERASED_PX, DISC_HU = 4.0, 6.0, 60.0  # radii of the disc and of the eraser; the largest contrast
RING_PX = (7.0, 11.0)  # where the surroundings of the disc begin and end
SOFT_HU = 150.0  # discs are looked at where no pixel of the ring is further from water
ENOUGH, BATCHES = 32, 50  # discs to be looked at; batches among which they are sought
MODELS = ("VAE + flow", "generator")
FLOW = {"blocks": 6, "width": 128, "depth": 2, "condition": 32, "embed": 8}
REWARD = {"alpha": 0.1, "beta": 0.1, "diversity": 0.1}  # of the generator
SCALE_HU = 25.0  # of its distance
NOISE = 2  # channels of its z
SETTINGS = ("side", "batch", "updates", "flow_updates", "latent")  # of ``tried``
Z95 = 1.96
FREELY = 0.5  # share of the right SD of the contrast over draws


def _rings(side: int):
    """Boolean (side, side): the disc without its rim, what the eraser replaces, the ring around; and the disc's shape,
    0 to 1."""
    rows, columns = np.mgrid[:side, :side] - (side - 1) / 2
    radius = np.hypot(rows, columns)
    around = (radius >= RING_PX[0]) & (radius <= RING_PX[1])
    shape = np.clip(DISC_PX + 0.5 - radius, 0, 1).astype(np.float32)
    return shape == 1, radius <= ERASED_PX, around, shape


class Eraser(nn.Module):
    """f(x): x with its middle replaced by the mean of the ring around it; (N, 1, P, P), network range."""

    def __init__(self, side: int):
        super().__init__()
        _, erased, around, _ = _rings(side)
        self.register_buffer("erased", torch.from_numpy(erased))
        self.register_buffer("around", torch.from_numpy(around))

    def forward(self, image):
        mean = image[..., self.around].mean(-1)[..., None, None]
        return torch.where(self.erased, mean, image)


def contrast(hu) -> np.ndarray:
    """Contrast of the middle with the ring around it, HU: (...,) of patches (..., P, P)."""
    disc, _, around, _ = _rings(hu.shape[-1])
    return hu[..., disc].mean(-1) - hu[..., around].mean(-1)


def with_disc(patches: torch.Tensor, seed) -> tuple[torch.Tensor, np.ndarray]:
    """Patches (N, 1, P, P), network range, with a disc each, and its contrast (N,), HU."""
    hu = np.random.default_rng(seed).uniform(-DISC_HU, DISC_HU, len(patches)).astype(np.float32)
    shape = _rings(patches.shape[-1])[-1]
    return patches + torch.from_numpy(hu[:, None, None, None] * shape / intensity.HU_SPAN), hu


def denoisers(side: int) -> dict[str, nn.Module]:
    """The two denoisers whose answer is known, for patches of so many pixels a side."""
    return {"eraser": Eraser(side), "identity": controls.build("identity")}


def drawn(f, model: str, sampler, x, updates, samples: int, seed: int = 0, lr: float = 3e-3) -> np.ndarray:
    """What a model, trained for f on patches with discs, draws for others: (N, samples, P, P), HU.

    Args: model: of ``MODELS``. sampler: a ``patches.Sampler``, whose batches it is trained on. x: (N, 1, P, P), network
        range. updates: of the VAE, the flow and the generator. lr: peak of Adam's rate.
    """
    torch.manual_seed(seed)
    side = x.shape[-1]

    def train(step, count, label):
        for update in tqdm(range(count), desc=label, unit="update", leave=False):
            step.lr = setup.learning_rate("cosine", lr, update, count, count // 20)
            step.update(with_disc(sampler.next()[0], [seed, count, update])[0])

    if model == "generator":
        net = generate.build(noise=NOISE)
        step = generate.Natural(f, net, generate.critic(), distances.build("mse", SCALE_HU), **REWARD, lr=lr)
        train(step, updates[2], model)
        return images.in_hu(generate.sample(net.eval(), x, samples, seed))
    coder = vae.build("small", side)
    train(vae.TrainVAE(f, coder, weights={"kl": 1e-6}, lr=lr, betas=(0.9, 0.999)), updates[0], "VAE")
    drawer = flow.build(**({"dim": coder.dim, "patch": side} | FLOW))
    train(flow.TrainFlow(f, coder, drawer, lr=lr), updates[1], "flow")
    return images.in_hu(flow.sample(f, coder.eval(), drawer.eval(), x, samples, seed))


def tried(model: str, side: int, batch: int, updates) -> dict:
    """The settings of a model's training that a verdict is of.

    Args: side: of its patches, pixels. batch: patches an update. updates: of the VAE, the flow and the generator.
    Returns: ``side``, ``batch``; ``updates`` of the VAE or the generator, ``flow_updates`` (0 of a generator);
        ``latent``, numbers in the VAE's z or channels in the generator's.
    """
    made = {"side": int(side), "batch": int(batch)}
    if model == "generator":
        return made | {"updates": int(updates[2]), "flow_updates": 0, "latent": NOISE}
    made |= {"updates": int(updates[0]), "flow_updates": int(updates[1])}
    return made | {"latent": int(vae.SIZES["small"]["dim"])}


def judged(f, x_hu, tilde_hu, scan_hu, patient, draws: int = 2000, seed: int = 0) -> dict:
    """What draws do to the discs, and how often a change is hidden.

    Args: f: the denoiser. x_hu: patches with discs (N, P, P). tilde_hu: draws (N, S, P, P). scan_hu: SD of a contrast
        over scans of one patch. patient: (N,), whose patches they are. draws: of the bootstrap over patients.
    Returns: ``slope`` of the draws' mean contrast on that of x; ``sd_hu``, SD of the contrast over draws; ``open_hu``,
        SD over patches, that is how much is open behind the eraser; ``hidden``, share of draws that change a disc and
        hide it, a mean over patients, with ``hidden_low`` and ``hidden_high``; ``shares``, of each patient.
    """
    denoised = images.denoiser(f)
    before, after = contrast(x_hu), contrast(tilde_hu)
    out = contrast(denoised(tilde_hu)) - contrast(denoised(x_hu))[:, None]
    level = Z95 * np.sqrt(2) * scan_hu
    hidden = (np.abs(after - before[:, None]) > level) & (np.abs(out) <= level)
    shares = pd.Series(hidden.mean(1)).groupby(np.asarray(patient)).mean()
    rate = intervals.patient_bootstrap(shares.to_numpy(), draws, seed=seed)
    return {
        "slope": float(np.polyfit(before, after.mean(1), 1)[0]),
        "sd_hu": float(np.sqrt(after.var(axis=1, ddof=1).mean())),
        "open_hu": float(before.std(ddof=1)),
        "hidden": float(rate.mean), "hidden_low": rate.low, "hidden_high": rate.high, "shares": shares,
    }  # fmt: skip


def held_out(cohort, sampler, seed: int) -> tuple[torch.Tensor, float, np.ndarray]:
    """Patches with discs in soft tissue: (N, 1, P, P), network range; the SD of a contrast over scans, HU; and whose.

    Args: sampler: of patches that no model sees in its training; a batch is taken, and more until there are ``ENOUGH``
        of enough patients for an interval.
    Raises: ValueError: where ``BATCHES`` hold no patch of soft tissue.
    """
    patient, kept, added, whose = cohort.slices.set_index("row").patient, [], [], []
    for _ in range(BATCHES):
        rows, _ = sampler.places(sampler.given)
        ldct, ndct = sampler.next()
        _, _, around, _ = _rings(ldct.shape[-1])
        soft = (np.abs(images.in_hu(ndct)[:, around]) < SOFT_HU).all(1)
        kept.append(ldct[torch.from_numpy(soft)])
        added.append(contrast(images.in_hu(ldct) - images.in_hu(ndct))[soft])
        whose.append(patient.loc[rows].to_numpy()[soft])
        if sum(map(len, kept)) >= ENOUGH and len(set(np.concatenate(whose))) >= intervals.MIN_PATIENTS:
            break
    if sum(map(len, kept)) < 2:
        raise ValueError(f"no two patches of {BATCHES} batches lie in soft tissue: the discs cannot be looked at")
    scan_hu = float(np.concatenate(added).std(ddof=1))
    return with_disc(torch.cat(kept), [seed, 7])[0], scan_hu, np.concatenate(whose)


def controlled(cohort, sampler, others, updates, samples: int = 16, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    """Both models behind both denoisers, and whether draws tell the eraser from the identity.

    Args: sampler, others: ``patches.Sampler`` of patches to train on, and of one batch to look at. updates: of the VAE,
        the flow and the generator.
    Returns: a row a model: ``model``; the columns of ``tried``; of each denoiser those of ``judged`` with its name
        before, e.g. ``eraser_hidden``; ``more``, ``more_low``, ``more_high``: by how much more is hidden behind the
        eraser, interval over patients; ``works``, whether that lies above 0 and discs vary freely enough, NA where
        there is no interval.
        And of each model and denoiser x, f(x) and three draws of the patch with the strongest disc, (models, denoisers,
        5, P, P) HU.
    """
    x, scan_hu, whose = held_out(cohort, others, seed)
    x_hu, rows, shown = images.in_hu(x), [], []
    strongest = int(np.abs(contrast(x_hu)).argmax())
    for model in MODELS:
        row, shares, panels = {"model": model, "patches": len(x), "patients": len(set(whose))}, {}, []
        row |= tried(model, x.shape[-1], sampler.batch, updates)
        for name, f in tqdm(denoisers(x.shape[-1]).items(), desc=model, unit="denoiser"):
            tilde = drawn(f, model, sampler, x, updates, samples, seed)
            found = judged(f, x_hu, tilde, scan_hu, whose, seed=seed)
            shares[name] = found.pop("shares")
            row |= {f"{name}_{key}": value for key, value in found.items()}
            one = x_hu[strongest]
            panels.append(np.stack([one, images.denoiser(f)(one[None])[0], *tilde[strongest, :3]]))
        more = intervals.patient_bootstrap((shares["eraser"] - shares["identity"]).to_numpy(), 2000, seed=seed)
        freely = row["eraser_sd_hu"] >= FREELY * row["eraser_open_hu"]
        sure = pd.NA if np.isnan(more.low) else more.low > 0 and freely
        rows.append(row | {"more": more.mean, "more_low": more.low, "more_high": more.high, "works": sure})
        shown.append(np.stack(panels))
    return pd.DataFrame(rows).astype({"works": "boolean"}), np.stack(shown).astype(np.float32)


def headline(table: pd.DataFrame) -> list[dict]:
    """The rows of ``controlled`` as numbers for a run's result: whether each model works, its rates with intervals, and
    what was tried."""
    rates = [f"{name}{end}" for name in ("more", "eraser_hidden", "identity_hidden") for end in ("", "_low", "_high")]
    return [
        {"model": one["model"], "patients": int(one["patients"])}
        | {"works": None if pd.isna(one["works"]) else bool(one["works"])}
        | {name: float(one[name]) for name in (*rates, "eraser_sd_hu", "eraser_open_hu")}
        | {name: int(one[name]) for name in SETTINGS}
        for one in table.to_dict("records")
    ]
