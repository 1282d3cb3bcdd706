"""Training of a quality map: what a batch is, and one update."""

import numpy as np
import torch
from torch import nn

from ldct_utils.cohorts.patches import Sampler
from ldct_utils.ct import intensity
from ldct_utils.ct.dose import at_dose
from ldct_utils.noise2quality import highpass, targets
from ldct_utils.training.methods.base import Step

LEVEL, WIDTH = 40.0, 300.0  # HU: [-110, 189], Haque et al. 2022, notebook
MAP_LOSSES = ("mse", "l1")


def windowed(image_hu, level: float = LEVEL, width: float = WIDTH) -> np.ndarray:
    """HU to [0, 1] by the LINEAR rule of DICOM: 39.5 HU is 1/2 of the window level 40, width 300."""
    return intensity.dicom_window(np.asarray(image_hu, np.float64), level, width)


def inputs_of(shown, wanted, sigma: str = "published") -> np.ndarray:
    """Channels (C, H, W) float32 that a network sees of a slice in [0, 1]: scaled to [-1, 1], its high-pass alike.

    Args: shown: (H, W). wanted: names among ``networks.INPUTS``. sigma: see ``highpass``.
    """
    made = {"image": lambda: 2 * shown - 1, "highpass": lambda: 2 * highpass.highpass(shown, sigma)}
    return np.stack([made[name]() for name in wanted]).astype(np.float32)


def true_map(low_hu, ndct_hu, target: targets.Target, level: float = LEVEL, width: float = WIDTH) -> np.ndarray:
    """The target's map of a slice (H, W) in HU against its NDCT, in the target's units."""
    pair = (low_hu, ndct_hu)
    return target.compute(*(windowed(one, level, width) if target.windowed else one for one in pair))


class Batches:
    """Batches of patches at drawn doses with the maps they should give, endlessly.

    Noise is scaled in HU, before the window clips. High-pass and map are computed with a margin around the patch. The
    map is then that of the slice, but where a patch meets its border. The high-pass is so only nearly: the published
    one resamples to a grid that depends on the image's size, which shifts it by fractions of a pixel (a root mean
    square difference of 2 to 7 % of its SD).

    Args:
        cohort, rows, patch_size, batch, seed: as in ``patches.Sampler`` (random crops).
        wanted: inputs of the network. target: ``targets.Target``. given: doses, drawn alike.
        level, width: window in HU. sigma: see ``highpass``.
    Raises: ValueError: as ``Sampler``; for a patch that is not divisible by 16.
    """

    def __init__(self, cohort, rows, patch_size, batch, seed, wanted, target, given, level, width, sigma):
        if patch_size % 16:
            raise ValueError(f"patch_size must be divisible by 16, as the networks halve it 4 times; got {patch_size}")
        room = (min(cohort.ldct.shape[1:]) - patch_size) // 2
        self.margin = min(targets.MARGIN, room - room % 2) if target.local and room > 0 else 0
        self.pairs = Sampler(cohort, rows, patch_size + 2 * self.margin, None, batch, seed)
        self.dose_of = cohort.slices.set_index("row").dose
        self.wanted, self.target, self.given = wanted, target, tuple(given)
        self.window, self.sigma, self.seed = (level, width), sigma, seed

    def next(self):
        """Inputs (B, C, p, p), maps scaled to [-1, 1] (B, 1, p, p), numbers of the doses (B,)."""
        number = self.pairs.given
        its_dose = self.dose_of.loc[self.pairs.places(number)[0]].to_numpy(dtype=float)
        ldct, ndct = (intensity.from_net(images[:, 0].numpy()) for images in self.pairs.next())
        labels = np.random.default_rng([self.seed, 2, number]).integers(0, len(self.given), len(ldct))
        inside = (slice(self.margin, -self.margin or None),) * 2
        images, maps = [], []
        for low, full, its, label in zip(ldct, ndct, its_dose, labels):
            slice_hu = at_dose(full, low, its, self.given[label])
            images.append(inputs_of(windowed(slice_hu, *self.window), self.wanted, self.sigma)[:, *inside])
            maps.append(self.target.encode(true_map(slice_hu, full, self.target, *self.window)[inside]) * 2 - 1)
        maps = torch.from_numpy(np.stack(maps).astype(np.float32))[:, None]
        return torch.from_numpy(np.stack(images)), maps, torch.from_numpy(labels)

    def state_dict(self) -> dict:
        return self.pairs.state_dict()

    def load_state_dict(self, state: dict):
        self.pairs.load_state_dict(state)


class TrainQuality(Step):
    """L = L_map + alpha * cross entropy of the dose (Haque et al. 2022, Eq. 1).

    Args:
        network: from ``networks.build``. map_loss: ``mse``, as the paper says, or ``l1``, as its notebook does.
        alpha: weight of the dose term; the paper gives none, the notebook .01. Without a head there is no such term.
        weight_decay: of Adam, L2; the notebook's 1e-5.
        lr, betas, eps, precision, device, accumulate: see ``Step``.
    Raises: ValueError: see ``Step``; for an unknown ``map_loss`` or a negative ``alpha``.
    """

    def __init__(self, network, map_loss="mse", alpha=0.01, lr=2e-4, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-5,
                 precision="float32", device="cpu", accumulate=1):  # fmt: skip
        if map_loss not in MAP_LOSSES:
            raise ValueError(f"no map_loss {map_loss!r}; there are {', '.join(MAP_LOSSES)}")
        if not alpha >= 0:
            raise ValueError(f"alpha, the weight of the dose term, is 0 or more, got {alpha!r}")
        groups = [{"params": list(network.parameters()), "weight_decay": weight_decay}]
        super().__init__(network, lr, betas, eps, precision, device, accumulate, groups)
        self.map_loss = map_loss
        self.weights = {"map": 1.0} | ({"dose": float(alpha)} if getattr(network, "head", None) is not None else {})

    def terms(self, images, maps, labels):
        """Unweighted terms of an image, {"map": (N,), "dose": (N,)}, with gradients. Arguments as from ``Batches``."""
        with self.autocast():
            predicted, logits = self.network(images)
        error = predicted - maps
        found = {"map": (error.square() if self.map_loss == "mse" else error.abs()).mean((1, 2, 3))}
        if logits is not None:
            found["dose"] = nn.functional.cross_entropy(logits, labels, reduction="none")
        return found

    def update(self, images, maps, labels):
        """One update from a batch of ``Batches``. Returns: {term: (N,)}, unweighted, before the update, detached."""
        return self.descend(self.optimiser, self.terms, self.weights, images, maps, labels)
