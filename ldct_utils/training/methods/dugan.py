"""The update of DU-GAN (Huang et al. 2021, arXiv 2108.10772): two U-Net critics, of images and of their gradients.

critics:  least squares, on the whole and on every pixel, with NDCT as real, and prediction *and* LDCT as fakes; with a
          probability that rises to ``cutmix`` over ``cutmix_warmup`` updates also a CutMix of NDCT and prediction, and
          lam_cutmix times the squared difference between the verdict on the mix and the mix of the verdicts
network:  lam_adv (image + gradient) + MSE + lam_px_grad * mean |Sobel(prediction) - Sobel(NDCT)|

As in the published code of the LDCT benchmark (Eulig et al. 2024) ``n_d`` counts the updates of the image critic; that
of the gradients gets one. Its optimisers ignore the tuned beta_1; here they use ``betas``.
"""

import copy
from functools import partial

import torch

from ldct_utils.models.networks.critics.dugan import Critic, cutmix_mask, least_squares, sobel
from ldct_utils.training.losses import l1, mse
from ldct_utils.training.methods.base import Adversarial, check_count, check_share, frozen


class DUGAN(Adversarial):
    """A network and two U-Net critics, which start alike.

    Terms: ``mse``, ``grad`` (L1 of Sobel gradients), ``adv_image`` and ``adv_gradient``; of the critics, each of its
    last update, ``critic_image`` and ``critic_gradient`` (least squares) and ``cutmix`` (consistency, both; 0 where no
    mix was made).

    Args:
        network, lr, betas, eps, precision, device, accumulate: see ``Step``; the critics' Adams are alike, and the
            critics float32 throughout.
        mean_hu, std_hu: see ``Adversarial``.
        lam_adv, lam_px_grad, lam_cutmix: weights, see above.
        cutmix: highest probability of a mix, in [0, 1]; cutmix_warmup: updates over which it rises from 0.
        n_d: updates of the image critic before each of the network.
        critic_width, critic_depth: see ``critics.dugan.Critic``. The published critics are 31 times as large as the
            network; width 8 and depth 3 train on a CPU.
    Raises: ValueError: for a setting out of range.
    """

    def __init__(
        self, network, mean_hu=None, std_hu=None, lr=1e-4, betas=(0.9, 0.999), eps=1e-12, precision="float32",
        device="cpu", accumulate=1, lam_adv=0.1, lam_px_grad=20.0, lam_cutmix=1.0, cutmix=0.5, cutmix_warmup=1000,
        n_d=1, critic_width=64, critic_depth=6,
    ):  # fmt: skip
        for name, value in (("lam_adv", lam_adv), ("lam_px_grad", lam_px_grad), ("lam_cutmix", lam_cutmix)):
            check_share(name, value)
        check_share("cutmix", cutmix, 1)
        check_count("cutmix_warmup", cutmix_warmup, 0)
        check_count("n_d", n_d, 1)
        super().__init__(network, mean_hu, std_hu, lr, betas, eps, precision, device, accumulate)
        image = Critic(critic_width, critic_depth)
        self.critics = {"image": image, "gradient": copy.deepcopy(image)}
        for name, critic in self.critics.items():
            self.own(f"{name}_critic", critic, f"{name}_optimiser", lr)
        self.lam_cutmix, self.cutmix, self.cutmix_warmup, self.n_d = lam_cutmix, cutmix, cutmix_warmup, n_d
        self.done = 0  # updates, on which the probability of a mix depends
        self.weights = {
            "mse": 1.0, "grad": float(lam_px_grad), "adv_image": float(lam_adv), "adv_gradient": float(lam_adv),
            "critic_image": 0.0, "critic_gradient": 0.0, "cutmix": 0.0,
        }  # fmt: skip
        self.phases = (self.terms, lambda ldct, ndct: self.critic_terms("image", cutmix_mask(*ndct.shape[2:]).to(ndct),
                       self.units(ldct), self.fakes(ldct), self.units(ndct)))  # fmt: skip

    @property
    def falling(self):
        return {"mse", "grad"}

    @property
    def probability(self) -> float:
        """Of a mix in the next update."""
        return self.cutmix * min(1.0, (self.done + 1) / max(self.cutmix_warmup, 1))

    def terms(self, ldct, ndct):
        """The network's terms an image, {term: (N,)}, with gradients; from images in the network range."""
        predicted, wanted = self.predict(ldct), self.units(ndct)
        edges, wanted_edges = sobel(predicted), sobel(wanted)
        return {
            "mse": mse(predicted, wanted),
            "grad": l1(edges, wanted_edges),
            "adv_image": least_squares(self.critics["image"](predicted), (1, 1)),
            "adv_gradient": least_squares(self.critics["gradient"](edges), (1, 1)),
        }

    def critic_terms(self, name, mask, ldct, fake, ndct):
        """``critic_<name>`` and ``cutmix`` an image, {term: (N,)}, with gradients.

        Args:
            name: image or gradient; the images come in the method's units, or are their Sobel gradients.
            mask: (H, W), 1 where the mix shows NDCT and 0 where the prediction; None: no mix.
        """
        critic = self.critics[name]
        on_ndct, on_fake = critic(ndct), critic(fake)
        squares = least_squares(on_ndct, (1, 1)) + least_squares(on_fake, (0, 0)) + least_squares(critic(ldct), (0, 0))
        consistency = torch.zeros_like(squares)
        if mask is not None:
            on_mix = critic(torch.lerp(fake, ndct, mask))
            squares = squares + least_squares(on_mix, (0, mask))
            consistency = mse(on_mix[1], torch.lerp(on_fake[1], on_ndct[1], mask))
        return {f"critic_{name}": squares, "cutmix": consistency}

    def update(self, ldct, ndct):
        """Updates of both critics, then one of the network, all from the same batch.

        Args: ldct, ndct: (N, 1, H, W) float32, network range, on any device.
        Returns: {term: (N,) float32}, unweighted, detached and still on the device.
        """
        mixes = torch.rand(()).item() < self.probability  # one draw an update, for both critics
        images = [self.units(self.moved(ldct)), self.fakes(ldct), self.units(self.moved(ndct))]
        judged = {}
        for name, times in (("image", self.n_d), ("gradient", 1)):
            for _ in range(times):
                mask = self.moved(cutmix_mask(*ndct.shape[2:])) if mixes else None
                found = self.descend(
                    self.optimisers[f"{name}_optimiser"], partial(self.critic_terms, name, mask),
                    {f"critic_{name}": 1.0, "cutmix": self.lam_cutmix}, *images,
                )  # fmt: skip
            judged |= found | {"cutmix": judged.get("cutmix", 0) + found["cutmix"]}
            images = [sobel(image) for image in images]
        self.done += 1
        with frozen(*self.critics.values()):
            return self.descend(self.optimiser, self.terms, self.weights, ldct, ndct) | judged

    def state_dict(self):
        return super().state_dict() | {"done": self.done}

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.done = int(state["done"])


STEP = DUGAN
