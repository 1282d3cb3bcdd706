"""The update of WGAN-VGG (Yang et al. 2018, IEEE Trans Med Imaging 37(6), 1348): a critic, then the network.

critic:   mean D(prediction) - mean D(NDCT) + 10 (||gradient of D|| - 1)^2                      Yang et al., Eq. 5
network:  -mean D(prediction) + lam_perc * mean |VGG(prediction) - VGG(NDCT)|, no pixel term     Eqs. 6 and 8

The published code of the LDCT benchmark (Eulig et al. 2024) clears the critic's gradients once before its ``n_d``
updates, so that the later ones add up over all before; here every one starts from zero.
"""

import torch

from ldct_utils.models.networks.critics.penalty import gradient_penalty
from ldct_utils.models.networks.critics.wgan import Critic
from ldct_utils.training.methods.base import Adversarial, check_count, check_share, frozen

PENALTY = 10.0  # lambda of the gradient penalty, Yang et al. section III-B


class WGAN(Adversarial):
    """A network, a Wasserstein critic and an encoder for the perceptual term.

    Terms: ``adv`` = -D(prediction), ``perceptual`` = mean absolute feature difference; of the critic ``critic`` =
    D(prediction) - D(NDCT) and ``gp`` = 10 (||gradient|| - 1)^2, of its last update.

    Args:
        network, lr, betas, eps, precision, device, accumulate: see ``Step``; the critic's Adam is alike, and the critic
            float32 throughout: 8 bits cannot tell scores apart.
        encoder: what ``encoders.load`` gave. The published one is VGG-19 at block5_conv4_linear, read as ``plain``.
        patch_size: of the patches, pixels; the critic takes no other.
        mean_hu, std_hu: see ``Adversarial``.
        lam_perc: weight of the perceptual term.
        n_d: updates of the critic before each of the network.
        critic_width, critic_hidden: see ``critics.wgan.Critic``.
    Raises: ValueError: for a missing encoder or a setting out of range.
    """

    def __init__(
        self, network, encoder, patch_size, mean_hu=None, std_hu=None, lr=1e-4, betas=(0.5, 0.9), eps=1e-12,
        precision="float32", device="cpu", accumulate=1, lam_perc=0.1, n_d=4, critic_width=64, critic_hidden=1024,
    ):  # fmt: skip
        if encoder is None:
            raise ValueError("method wgan has a perceptual term and needs encoder=, from encoders.load")
        check_share("lam_perc", lam_perc)
        check_count("n_d", n_d, 1)
        super().__init__(network, mean_hu, std_hu, lr, betas, eps, precision, device, accumulate)
        self.critic = self.own("critic", Critic(patch_size, critic_width, critic_hidden), "critic_optimiser", lr)
        self.encoder, self.n_d = encoder.to(self.device), n_d
        self.weights = {"adv": 1.0, "perceptual": float(lam_perc), "critic": 0.0, "gp": 0.0}
        self.phases = (self.terms, lambda ldct, ndct: self.critic_terms(self.fakes(ldct), self.units(ndct)))

    @property
    def falling(self):
        return {"perceptual"}

    def parameters(self):
        yield from super().parameters()
        yield from self.encoder.parameters()

    def terms(self, ldct, ndct):
        """``adv`` and ``perceptual`` an image, {term: (N,)}, with gradients; from images in the network range."""
        predicted = self.predict(ldct)
        with self.autocast():
            with torch.no_grad():
                wanted = self.encoder(self.units(ndct))
            found = self.encoder(predicted)
        apart = [(found[layer].float() - wanted[layer].float()).abs().flatten(1).mean(1) for layer in found]
        return {"adv": -self.critic(predicted), "perceptual": sum(apart)}

    def critic_terms(self, fake, real):
        """``critic`` and ``gp`` an image, {term: (N,)}, with gradients; from images in the method's units."""
        return {
            "critic": self.critic(fake) - self.critic(real),
            "gp": PENALTY * gradient_penalty(self.critic, real, fake),
        }

    def update(self, ldct, ndct):
        """``n_d`` updates of the critic, then one of the network, all from the same batch.

        Args: ldct, ndct: (N, 1, H, W) float32, network range, on any device.
        Returns: {term: (N,) float32}, unweighted, detached and still on the device.
        """
        fake, real = self.fakes(ldct), self.units(ndct)
        for _ in range(self.n_d):
            judged = self.descend(
                self.optimisers["critic_optimiser"], self.critic_terms, {"critic": 1.0, "gp": 1.0}, fake, real
            )
        with frozen(self.critic):
            return self.descend(self.optimiser, self.terms, self.weights, ldct, ndct) | judged


STEP = WGAN
