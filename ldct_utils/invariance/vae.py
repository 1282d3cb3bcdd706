"""A conditional VAE of low-dose patches: z holds what f(x) does not say about x (Eulig et al., Med Phys 52(1) 188).

Encoder and decoder both see y_hat = f(x). Images enter and leave in the network range; inside they are
(HU - mean) / SD, so that the published weights of the loss mean here what they mean there.
"""

import math
from pathlib import Path

import torch
from torch import nn

from ldct_utils.ct import intensity
from ldct_utils.invariance.vae_blocks import Critic, Decoder, PlainEncoder, ResNetEncoder
from ldct_utils.models import weights as weight_files
from ldct_utils.models.networks.critics.penalty import gradient_penalty
from ldct_utils.training.methods.base import Step, frozen

PATCHES = (32, 64, 128)
LOGVAR, START_LOGVAR = (-30.0, 10.0), -6.0
# chunk and code: conditions of a block; classes and hidden: of the MLP to a soft class; easy_start: see CVAE.ease
SIZES = {
    "published": {
        "dim": 256, "chunk": 20, "code": 128, "classes": 1000, "hidden": 2000, "channels": 96,
        "encoder": "resnet50", "encoder_channels": 64, "easy_start": False,
    },
    "small": {
        "dim": 256, "chunk": 16, "code": 32, "classes": 64, "hidden": 128, "channels": 12,
        "encoder": "plain", "encoder_channels": 24, "easy_start": True,
    },
}  # fmt: skip
PATCH = {"published": 128, "small": 64}
# of the published loss; "critic" is the critic's own loss, which is shown beside the VAE's and no part of it
WEIGHTS = {
    "l1": 0.0011852172680049085, "kl": 0.5750362872947617, "perceptual": 0.12101882347522842, "adversarial": 1.0,
    "critic": 0.0,
}  # fmt: skip
PENALTY = 10.0
SCALES = {"plain": 1.0, "x255": 1 / 255}  # what makes an encoder of a convention read the normalised image as it is
PERCEPTUAL_LAYERS = ("block1_conv2", "block2_conv2", "block3_conv3", "block4_conv3")  # of VGG-16


def kl(mean, logvar):
    """KL divergence of N(mean, exp(logvar)) from N(0, 1), summed over the latent: (N, dim) each -> (N,)."""
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum(1)


def sample(mean, logvar):
    """A draw z (N, dim) from the posterior, with torch's global generator."""
    return mean + (0.5 * logvar).exp() * torch.randn_like(mean)


class CVAE(nn.Module):
    """The conditional VAE; made by ``build``.

    Attributes: settings: what ``build`` takes to make it again. dim: of the latent. patch: pixels a side.
    """

    def __init__(self, settings):
        super().__init__()
        self.settings, self.dim, self.patch = settings, settings["dim"], settings["patch"]
        self.mean = float(intensity.to_net(settings["mean_hu"]))
        self.std = settings["std_hu"] / intensity.HU_SPAN
        if settings["encoder"] == "resnet50":
            self.encoder = ResNetEncoder(2 * self.dim)
        else:
            self.encoder = PlainEncoder(2 * self.dim, settings["encoder_channels"], self.patch)
        sizes = ("dim", "chunk", "code", "classes", "hidden", "channels", "patch")
        self.decoder = Decoder(*(settings[name] for name in sizes))
        if settings["easy_start"]:
            self.ease()

    @torch.no_grad()
    def ease(self):
        """Another start than torch's, for short trainings; the design is the same.

        The encoder looks at x - f(x), which is a fiftieth of x; the posterior is narrow, since one of SD 1 hides what
        there is to see until z is ignored for good; the decoder gives f(x), whatever z.
        """
        self.encoder.first.weight[:, 1] = -self.encoder.first.weight[:, 0]
        self.encoder.last.bias[self.dim :] = START_LOGVAR
        self.decoder.start_at_image()

    def normalise(self, image):
        """Network range to (HU - mean) / SD."""
        return (image - self.mean) / self.std

    def _check(self, **images):
        for name, image in images.items():
            if image.ndim != 4 or image.shape[1:] != (1, self.patch, self.patch):
                raise ValueError(
                    f"{name} must be (N, 1, {self.patch}, {self.patch}), not {tuple(image.shape)}: the VAE was built "
                    f"for patches of {self.patch} pixels"
                )

    def encode(self, *, x, y_hat):
        """Posterior of z, given LDCT and f(x), both (N, 1, P, P), network range: mean and logvar, (N, dim) float32.

        Source: code released with Eulig et al. 2025; logvar clamped to [-30, 10].
        Raises: ValueError: for another shape.
        """
        self._check(x=x, y_hat=y_hat)
        mean, logvar = self.encoder(self.normalise(torch.cat([x, y_hat], dim=1))).chunk(2, dim=1)
        return mean, logvar.clamp(*LOGVAR)

    def decode(self, z, *, y_hat):
        """z (N, dim) and f(x) (N, 1, P, P), network range -> x_tilde, same shape and range. Raises: ValueError."""
        self._check(y_hat=y_hat)
        if z.shape != (len(y_hat), self.dim):
            raise ValueError(f"z must be ({len(y_hat)}, {self.dim}), not {tuple(z.shape)}")
        return self.decoder(z, self.normalise(y_hat)) * self.std + self.mean

    def reconstruct(self, *, x, y_hat):
        """x through the posterior's mean and back, network range: the control of every sampled x_tilde."""
        return self.decode(self.encode(x=x, y_hat=y_hat)[0], y_hat=y_hat)


def build(size="published", patch=None, pretrained=None, **overrides):
    """An untrained ``CVAE``, initialised from torch's global generator (seed it first).

    Args:
        size: "published": 108,976,095 parameters at 128 pixels, 108,878,827 of them trained (encoder 24,553,984: the
            ResNet-50 of torchvision reading x and f(x); decoder 84,422,111). "small": the same design with a plain
            convolutional encoder, for CPUs.
        patch: 32, 64 or 128 pixels a side; None is 128, or 64 if small. Below 128 the decoder starts later.
        pretrained: a weights file with torchvision's keys of ResNet-50, e.g. ImageNet's, as published. The first
            convolution, which reads two channels, stays random. Not part of the ``settings``.
        overrides: ``mean_hu``, ``std_hu`` of the images, and the numbers in ``SIZES``.
    Raises: ValueError: for an unknown size, patch or setting, or a value out of range; FileNotFoundError.
    """
    if size not in SIZES:
        raise ValueError(f"no size {size!r} of the VAE; there are {', '.join(SIZES)}")
    settings = {"size": size, "patch": PATCH[size] if patch is None else patch}
    settings |= {"mean_hu": intensity.EULIG_MEAN_HU, "std_hu": intensity.EULIG_STD_HU}
    settings |= SIZES[size]
    for name in overrides:
        if name not in settings:
            raise ValueError(f"the VAE has no setting {name!r}; it has {', '.join(settings)}")
    settings |= overrides
    _check_settings(settings)
    vae = CVAE(settings)
    if pretrained is not None:
        _fill(vae, Path(pretrained))
    return vae


def _check_settings(settings):
    if settings["patch"] not in PATCHES:
        raise ValueError(
            f"patch must be one of {', '.join(map(str, PATCHES))} pixels, which the decoder reaches by doubling "
            f"from 4, not {settings['patch']!r}"
        )
    if settings["encoder"] not in ("resnet50", "plain"):
        raise ValueError(f"no encoder {settings['encoder']!r} of the VAE; there are resnet50 and plain")
    if not isinstance(settings["easy_start"], bool):
        raise ValueError(f"easy_start is true or false, not {settings['easy_start']!r}")
    for name, value in settings.items():
        if name in ("size", "patch", "encoder", "easy_start"):
            continue
        if name in ("mean_hu", "std_hu"):
            if not math.isfinite(value) or (name == "std_hu" and not value > 0):
                raise ValueError(f"{name} is in HU, finite{' and above 0' if name == 'std_hu' else ''}, not {value!r}")
        elif isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"the VAE's {name} must be a whole number of at least 1, not {value!r}")
    blocks = int(math.log2(settings["patch"] // 4))
    if settings["dim"] <= blocks * settings["chunk"]:
        raise ValueError(
            f"dim must be above {blocks} blocks times chunk = {blocks * settings['chunk']}, not {settings['dim']}"
        )
    if settings["channels"] < 8:
        raise ValueError(f"channels must be at least 8 for the self-attention, not {settings['channels']}")


def _fill(vae, path):
    """Fill a ResNet-50 encoder from a file; its first convolution and its classifier are left out."""
    if vae.settings["encoder"] != "resnet50":
        raise ValueError(f"pretrained weights are for the encoder resnet50, not {vae.settings['encoder']!r}")
    wanted = {k: v for k, v in vae.encoder.body.state_dict().items() if not k.endswith("num_batches_tracked")}
    held, _ = weight_files.read(path, wanted)
    for key, value in wanted.items():
        if key not in held or held[key].shape != value.shape:
            raise ValueError(
                f"{path.name} is no ResNet-50 as torchvision stores it: {key} is missing or of another size"
            )
    vae.encoder.body.load_state_dict({key: held[key] for key in wanted}, strict=False)


def critic(vae, width=64):
    """An untrained ``Critic`` for a VAE's patches; 9,310,674 weights at 128 pixels as published."""
    return Critic(vae.patch, width)


class TrainVAE(Step):
    """The update of the VAE and, if there is one, of its critic; f stays as it is.

    The VAE minimises  l1 sum|x - x'| + kl KL + perceptual P - adversarial C(x', f(x)), errors in units of ``std_hu``; P
    sums over four levels of VGG-16 the mean absolute difference of features of the normalised images. The critic
    minimises C(x') - C(x) + 10 (|gradient| - 1)^2 (Gulrajani et al. 2017), one update before each of the VAE.

    Args:
        f: the denoiser, network range; put into evaluation mode and never changed.
        vae: a ``CVAE``. critic: a ``Critic``, or None: there are no terms ``adversarial`` and ``critic`` then.
        encoder: of ``encoders.load("vgg16", ..., layers=PERCEPTUAL_LAYERS)``, convention plain or x255, or None: there
            is no term ``perceptual`` then.
        weights: {term: weight} of the terms to be changed; the published ones are ``WEIGHTS``.
        lr, betas, eps, device, accumulate: see ``Step``; the critic's learning rate is four times as large. The
            published betas are meant for a critic: without one, (0.9, 0.999) learns several times as fast.
        precision: float32, or bf16: autocast for f, VAE and encoder. The critic stays float32: 8 bits cannot tell its
            scores apart.
    Raises: ValueError: naming what is wrong. Source: Eulig et al. 2025 and the code released with it.
    """

    def __init__(
        self, f, vae, critic=None, encoder=None, weights=None, lr=1e-5, betas=(0.5, 0.999), eps=1e-12,
        precision="float32", device="cpu", accumulate=1,
    ):  # fmt: skip
        super().__init__(vae, lr, betas, eps, precision, device, accumulate)
        self.f, self.vae, self.critic, self.encoder = f.to(self.device).eval(), vae.train(), critic, encoder
        parts = {"l1": True, "kl": True, "perceptual": encoder, "adversarial": critic, "critic": critic}
        self.weights = {term: WEIGHTS[term] for term, part in parts.items() if part is not None}
        for term, weight in (weights or {}).items():
            if term not in self.weights:
                raise ValueError(f"no term {term!r} to weigh in this loss; it has {', '.join(self.weights)}")
            self.weights[term] = float(weight)
        if critic is not None:
            self.own("critic", critic.train(), "critic_optimiser", lr, [{"params": critic.parameters(), "factor": 4.0}])
            self.phases = (self.terms, self.critic_terms)
        if encoder is not None:
            convention = encoder.provenance["convention"]
            if convention not in SCALES:
                raise ValueError(
                    f"the perceptual term is of normalised images and needs an encoder of convention "
                    f"{' or '.join(SCALES)}, not {convention!r}"
                )
            self.encoder, self.scale = encoder.to(self.device), SCALES[convention]

    @property
    def falling(self):
        return {"l1", "perceptual"} & set(self.weights)

    def parameters(self):
        yield from super().parameters()
        yield from self.f.parameters()
        if self.encoder is not None:
            yield from self.encoder.parameters()

    def _pass(self, x):
        """x, its reconstruction from a drawn z and f(x), normalised; and the posterior."""
        with torch.no_grad(), self.autocast():
            y_hat = self.f(x).float()
        with self.autocast():
            mean, logvar = self.vae.encode(x=x, y_hat=y_hat)
            made = self.vae.decode(sample(mean, logvar), y_hat=y_hat)
        return *(self.vae.normalise(image) for image in (x, made, y_hat)), mean, logvar

    def terms(self, ldct, ndct=None):
        """Unweighted terms of the VAE's loss an image, {term: (N,)}, with gradients."""
        real, made, beside, mean, logvar = self._pass(ldct)
        terms = {"l1": (made - real).abs().flatten(1).sum(1), "kl": kl(mean, logvar)}
        if self.encoder is not None:
            with self.autocast():
                found = self.encoder(made * self.scale)
                with torch.no_grad():
                    wanted = self.encoder(real * self.scale)
            apart = [(found[layer].float() - wanted[layer].float()).abs().flatten(1).mean(1) for layer in found]
            terms["perceptual"] = sum(apart)
        if self.critic is not None:
            terms["adversarial"] = -self.critic(torch.cat([made, beside], dim=1))
        return terms

    def critic_terms(self, ldct, ndct=None):
        """The critic's loss an image, {"critic": (N,)}, with gradients for it alone."""
        with torch.no_grad():
            real, made, beside, _, _ = self._pass(ldct)
        real, fake = (torch.cat([image, beside], dim=1) for image in (real, made))
        penalty = gradient_penalty(self.critic, real, fake)
        return {"critic": self.critic(fake) - self.critic(real) + PENALTY * penalty}

    def update(self, ldct, ndct=None):
        """One update from LDCT (N, 1, P, P), network range; ``ndct`` is not used: the VAE learns low-dose images.

        Returns: {term: (N,) float32}, unweighted, before the update, detached and still on the device.
        """
        if self.critic is None:
            return self.descend(self.optimiser, self.terms, self.weights, ldct)
        judged = self.descend(self.optimisers["critic_optimiser"], self.critic_terms, {"critic": 1.0}, ldct)
        with frozen(self.critic):
            return self.descend(self.optimiser, self.terms, self.weights, ldct) | judged
