"""Parts of the conditional VAE: a BigGAN-128 decoder, encoders, the critic, and the normalisations they need.

Structure and sizes: Eulig et al., Med Phys 52(1) 188 (2025), and the code released with it; decoder after Brock et al.,
ICLR 2019, self-attention after Zhang et al., ICML 2019.
"""

import math
from itertools import pairwise

import torch
from FrEIA import modules as freia
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

MULTIPLIERS = (16, 16, 8, 4, 2, 1)  # widths along the decoder, in units of its channels; a smaller patch begins later
CORNER = 4  # pixels a side of what the first linear layer of the decoder makes


class ActNorm(freia.ActNorm):
    """A learnt scale and offset a channel that begin as those which normalise the first batch (Kingma & Dhariwal 2018).

    FrEIA's begins with whatever it first sees, in evaluation mode too and on the way back, and a reloaded one never
    does, even if it had seen nothing yet. Here only a forward pass in training mode counts, and what counts is stored.
    """

    def __init__(self, dims_in, dims_c=None):
        super().__init__(dims_in, dims_c)
        self.init_on_next_batch = False
        self.register_buffer("initialised", torch.tensor(False))

    def forward(self, x, rev=False, jac=True):
        """FrEIA's convention: a one-tuple of (N, C, ...) in and out, and the log-determinant (N,)."""
        if self.training and not rev and not self.initialised:
            self._begin(x[0].detach())
        return super().forward(x, rev=rev, jac=jac)

    @torch.no_grad()
    def _begin(self, data):
        values = data.transpose(0, 1).flatten(1)
        if values.shape[1] < 2:
            raise ValueError("the first batch sets the scales of ActNorm and needs at least 2 patches, not 1")
        std = values.std(dim=1)
        scale = 1 / torch.where(std > 1e-6, std, 1.0)  # what is constant in this batch is not blown up for good
        self.scale.copy_(scale.log().view_as(self.scale))
        self.bias.copy_((-values.mean(dim=1) * scale).view_as(self.bias))
        self.initialised.fill_(True)


class SpectralNorm(nn.Module):
    """A weight over its largest singular value (Miyato et al., ICLR 2018), as a parametrisation of the layer.

    Two vectors as long as the weight has rows follow its leading left singular vectors, one step of a block power
    iteration a training batch; they are stored, not trained. With one vector, as in torch's own parametrisation, new
    weights end up with a largest singular value of 1.007 to 1.03 instead of 1, since their two largest lie close
    together; with two, 1.000 to 1.006 (five 64 x 64 x 3 x 3 convolutions). (The released code has as many such numbers
    but never stores a step, so that what it divides by is an estimate after a single step from a random start.)
    """

    def __init__(self, weight, steps=20):
        super().__init__()
        self.vectors = nn.Parameter(torch.randn(2, weight.shape[0]), requires_grad=False)
        for _ in range(0 if weight.is_meta else steps):
            self._step(weight)

    @torch.no_grad()
    def _step(self, weight):
        matrix = weight.detach().flatten(1)
        first, second = self.vectors @ matrix @ matrix.T
        first = first / (first.norm() + 1e-12)
        second = second - (second @ first) * first
        self.vectors.copy_(torch.stack([first, second / (second.norm() + 1e-12)]))

    def forward(self, weight):
        with torch.autocast(weight.device.type, enabled=False):
            if self.training:
                self._step(weight)
            matrix = weight.flatten(1)
            with torch.no_grad():  # of the plane that the two span, the direction that the weight stretches most
                a = self.vectors @ matrix
                angle = 0.5 * torch.atan2(2 * (a[0] @ a[1]), a[0] @ a[0] - a[1] @ a[1])
                left = torch.cos(angle) * self.vectors[0] + torch.sin(angle) * self.vectors[1]
                right = F.normalize(left @ matrix, dim=0)
            return weight / (left @ matrix @ right)


def spectral(layer):
    """The layer, its weight divided by its largest singular value."""
    # "unsafe" leaves out the trial call, which has no use here and fails on the meta device
    parametrize.register_parametrization(layer, "weight", SpectralNorm(layer.weight), unsafe=True)
    return layer


class ConditionalNorm(nn.Module):
    """Batch normalisation whose scale and offset are read from a condition (N, width)."""

    def __init__(self, channels, width):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, eps=1e-4, affine=False)
        self.gamma, self.beta = (spectral(nn.Linear(width, channels, bias=False)) for _ in range(2))

    def forward(self, z, condition):
        return (1 + self.gamma(condition))[..., None, None] * self.norm(z) + self.beta(condition)[..., None, None]


class GBlock(nn.Module):
    """BigGAN's residual block that doubles height and width: (N, inside, h, w) -> (N, outside, 2h, 2w)."""

    def __init__(self, inside, outside, width):
        super().__init__()
        self.norm0, self.norm1 = ConditionalNorm(inside, width), ConditionalNorm(outside, width)
        self.conv0 = spectral(nn.Conv2d(inside, outside, 3, padding=1))
        self.conv1 = spectral(nn.Conv2d(outside, outside, 3, padding=1))
        self.skip = spectral(nn.Conv2d(inside, outside, 1))

    def forward(self, z, condition):
        h = self.conv0(F.interpolate(F.relu(self.norm0(z, condition)), scale_factor=2))
        h = self.conv1(F.relu(self.norm1(h, condition)))
        return h + F.interpolate(self.skip(z), scale_factor=2)  # a 1x1 convolution and repeated pixels commute


class SelfAttention(nn.Module):
    """Every pixel looks at the strongest of every 2x2 pixels; its share starts at zero."""

    def __init__(self, channels):
        super().__init__()
        narrow, half = channels // 8, channels // 2
        self.query, self.key = (spectral(nn.Conv2d(channels, narrow, 1, bias=False)) for _ in range(2))
        self.value = spectral(nn.Conv2d(channels, half, 1, bias=False))
        self.out = spectral(nn.Conv2d(half, channels, 1, bias=False))
        self.share = nn.Parameter(torch.zeros(1))

    def forward(self, z):
        query, key, value = self.query(z), F.max_pool2d(self.key(z), 2), F.max_pool2d(self.value(z), 2)
        query, key, value = (part.flatten(2).transpose(1, 2) for part in (query, key, value))
        seen = F.scaled_dot_product_attention(query, key, value, scale=1.0)  # (N, h*w, C/2)
        return z + self.share * self.out(seen.transpose(1, 2).unflatten(2, z.shape[2:]))


class Decoder(nn.Module):
    """Latent (N, dim) and a normalised image (N, 1, P, P) to a normalised image; P = 4 * 2**blocks.

    The latent's first part makes the 4x4 corner, one further chunk conditions each block, and all of it goes through an
    MLP with a softmax to a soft class, whose embedding conditions all blocks. The image is scaled down and
    concatenated before every block, and as it is before the last convolution.
    """

    def __init__(self, dim, chunk, code, classes, hidden, channels, patch):
        super().__init__()
        blocks = int(math.log2(patch // CORNER))
        widths = [channels * m for m in MULTIPLIERS[-blocks - 1 :]]
        self.split = [dim - blocks * chunk] + [chunk] * blocks
        self.classify = nn.Sequential(
            nn.Linear(dim, hidden), nn.LeakyReLU(),
            nn.Linear(hidden, hidden), nn.LeakyReLU(),
            nn.Linear(hidden, hidden), nn.LeakyReLU(),
            nn.Linear(hidden, classes), nn.Softmax(dim=1),
        )  # fmt: skip
        self.embed = nn.Linear(classes, code, bias=False)
        self.corner = spectral(nn.Linear(self.split[0], CORNER**2 * widths[0]))
        self.blocks = nn.ModuleList(GBlock(a + 1, b, chunk + code) for a, b in pairwise(widths))
        self.attention = SelfAttention(widths[-2])
        self.norm = ActNorm([(widths[-1], patch, patch)])
        self.last = nn.Conv2d(widths[-1] + 1, 1, 3, padding=1)

    @torch.no_grad()
    def start_at_image(self):
        """Begin as the identity of the image, whatever the latent: the last convolution passes on its last channel."""
        self.last.weight.zero_()
        self.last.bias.zero_()
        self.last.weight[:, -1, 1, 1] = 1

    def forward(self, z, image):
        parts, soft_class = z.split(self.split, dim=1), self.embed(self.classify(z))
        h = self.corner(parts[0]).unflatten(1, (-1, CORNER, CORNER))
        for block, chunk in zip(self.blocks, parts[1:]):
            if block is self.blocks[-1]:
                h = self.attention(h)
            h = torch.cat([h, F.interpolate(image, h.shape[2:]).to(h.dtype)], dim=1)
            h = block(h, torch.cat([chunk, soft_class], dim=1))
        # float32 from here: bf16 has 8 bits, which at soft tissue is 4 HU
        with torch.autocast(h.device.type, enabled=False):
            (h,), _ = self.norm([h.to(image.dtype)])
            return self.last(torch.cat([h, image], dim=1))


class ResNetEncoder(nn.Module):
    """ResNet-50 on two channels, with global pooling and a 1x1 convolution to ``outputs`` numbers."""

    def __init__(self, outputs):
        super().__init__()
        from torchvision.models import resnet50  # imported here: it takes seconds, and only this encoder needs it

        body = resnet50(weights=None)
        self.first = nn.Conv2d(2, 64, 7, stride=2, padding=3, bias=False)
        stages = {name: getattr(body, name) for name in ("layer1", "layer2", "layer3", "layer4")}
        self.body = nn.Sequential()
        for name, layer in {"bn1": body.bn1, "relu": body.relu, "maxpool": body.maxpool, **stages}.items():
            self.body.add_module(name, layer)
        self.last = nn.Conv2d(2048, outputs, 1)

    def forward(self, images):
        return _encode(self, images, lambda h: F.adaptive_avg_pool2d(h, 1))


class PlainEncoder(nn.Module):
    """4x4 convolutions of stride 2 down to 4x4 pixels, and one over these to ``outputs`` numbers."""

    def __init__(self, outputs, channels, patch):
        super().__init__()
        depth = int(math.log2(patch // CORNER))
        widths = [channels * 2**level for level in range(depth)]
        self.first = nn.Conv2d(2, channels, 4, stride=2, padding=1, bias=False)
        self.body = nn.Sequential(nn.BatchNorm2d(channels), nn.LeakyReLU(0.2))
        for a, b in pairwise(widths):
            convolution = nn.Conv2d(a, b, 4, stride=2, padding=1, bias=False)
            self.body.extend([convolution, nn.BatchNorm2d(b), nn.LeakyReLU(0.2)])
        self.last = nn.Conv2d(widths[-1], outputs, CORNER)

    def forward(self, images):
        return _encode(self, images, lambda h: h)


def _encode(encoder, images, pool):
    """First layer in float32, since bf16 would round the images to 4 HU, and the last, whose outputs are exponents."""
    with torch.autocast(images.device.type, enabled=False):
        h = encoder.first(images)
    h = pool(encoder.body(h))
    with torch.autocast(images.device.type, enabled=False):
        return encoder.last(h.to(images.dtype)).flatten(1)


class Critic(nn.Module):
    """How real a patch looks beside f(x): (N, 2, P, P) normalised -> (N,), larger is more real.

    Convolutions 4x4 of stride 2 down to 4x4 pixels, one 3x3, one 1x1, and a linear layer over the pixels; 9,310,674
    weights at P = 128 and width 64.
    """

    def __init__(self, patch=128, width=64):
        super().__init__()
        depth = int(math.log2(patch // CORNER))
        widths = [2] + [width * min(8, 2**level) for level in range(depth)]
        self.features = nn.Sequential()
        convolutions = [nn.Conv2d(a, b, 4, stride=2, padding=1) for a, b in pairwise(widths)]
        for convolution in [*convolutions, nn.Conv2d(widths[-1], widths[-1], 3, padding=1)]:
            self.features.extend([convolution, nn.InstanceNorm2d(convolution.out_channels), nn.LeakyReLU(0.2)])
        self.features.append(nn.Conv2d(widths[-1], 1, 1))
        self.linear = nn.Linear(CORNER**2, 1)

    def forward(self, images):
        return self.linear(self.features(images).flatten(1))[:, 0]
