"""Training losses: pixel terms, the VGG (perceptual) term, a term over structures, and weighted sums in which every
term is visible by name.

Every term is a mean over pixels or features, so a weight found on patches of one size serves for another; the paper's
Eqs. 2-4 write sums, its code takes means (with sums, lambda would change by the number of features over pixels).
"""

import re

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from ldct_utils import segments


def _mean(error):
    """Mean over everything but the batch: (N, ...) -> (N,), float32."""
    return error.flatten(1).mean(1)


def mse(pred, target, eps=None):
    """Mean squared error an image, (N,). Viana et al., Eq. 2, as a mean."""
    return _mean((pred.float() - target.float()).square())


def l1(pred, target, eps=None):
    """Mean absolute error an image, (N,)."""
    return _mean((pred.float() - target.float()).abs())


def charbonnier(pred, target, eps=1e-3):
    """Mean of sqrt(error^2 + eps^2) an image, (N,): eps where the error is 0, |error| where it is large."""
    return _mean(((pred.float() - target.float()).square() + eps**2).sqrt())


PIXEL_TERMS = {"mse": mse, "l1": l1, "charbonnier": charbonnier}  # a further pixel loss is one more entry
FEATURE_TERM = "vgg"  # the perceptual term's name, whatever the encoder
SEGMENT_TERM = "mean_srmse"  # the term over structures
NAMES = (*PIXEL_TERMS, SEGMENT_TERM, "vgg", "vgg_only")


def mean_srmse(pred, target, labels):
    """Root mean squared error of each structure, averaged over structures, (N,): a lesion counts as much as the liver.

    In the unit of the images, as L1 is: network range in training, where 1 is 4096 HU. A root and not a square, so it
    weighs 1 / (2 RMSE) times as much as the MSE of the same error: some 0.01 * mean_srmse are as large as 1 * mse. The
    gradient is error / (RMSE * pixels * structures): of the same size however small the error, and 0 in a structure
    without error, outside structures, and in an image without any, whose term is 0.

    Args: pred, target: (N, 1, H, W). labels: integers of that shape, structures of the target (0 none), crops of
        ``segments.label_maps``; what a patch's border leaves of one counts if it has 20 pixels (``segments.MIN_AREA``).
    Source: Kachelriess, "Problems in Assessing AI Image Quality" (DKFZ), who proposes it as a loss.
    """
    return segments.mean_srmse_torch(pred, target, labels, segments.MIN_AREA)


def feature_errors(encoder, pred, target):
    """Mean squared feature difference an image at every layer of ``encoder``, from one pass over each image.

    Args: pred, target: (N, 1, H, W), network range. The target is encoded without gradients.
    Returns: {layer: (N,) float32}. Source: Viana et al., Eq. 3, as a mean over height, width and channels.
    """
    with torch.no_grad():
        wanted = encoder(target)
    return {layer: _MeanSquare.apply(found, wanted[layer]) for layer, found in encoder(pred).items()}


class _MeanSquare(torch.autograd.Function):
    """Mean squared difference an image in float32, (N,), of features of any type; the first get the gradient.

    The sum runs over the numbers as they lie in memory, and its gradient is one product.
    """

    @staticmethod
    def forward(ctx, found, wanted):
        dtype = torch.promote_types(found.dtype, torch.float32)
        difference = found.to(dtype) - wanted.to(dtype)
        ctx.save_for_backward(difference)
        ctx.dtype = found.dtype
        return _mean(difference.permute(0, 2, 3, 1).square())

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        (difference,) = ctx.saved_tensors
        share = grad * (2 / difference[0].numel())
        return (difference * share[:, None, None, None]).to(ctx.dtype), None


def gradient_norms(terms, pred):
    """Euclidean norm of the gradient of each of ``terms``, {name: (N,)}, with respect to the images ``pred``."""
    norms = {}
    for name, term in terms.items():
        (gradient,) = torch.autograd.grad(term.sum(), pred, retain_graph=True)
        norms[name] = gradient.flatten(1).norm(dim=1)
    return norms


class Loss(nn.Module):
    """A weighted sum of named terms; made by ``build``.

    Attributes: weights: {term: float}. May be changed while training (``loss.weights["vgg"] = lam``).
        encoder: the frozen encoder of the term ``vgg``, or None. ``vgg`` sums over the encoder's layers.
        needs_labels: whether a term is over structures, so that ``labels`` must come with each pair of images.
    """

    def __init__(self, weights, encoder=None, eps=1e-3):
        super().__init__()
        self.weights, self.encoder, self.eps = dict(weights), encoder, eps

    @property
    def needs_labels(self) -> bool:
        return SEGMENT_TERM in self.weights

    def terms(self, pred, target, labels=None):
        """Every term an image, unweighted: {term: (N,) float32}. ``labels``: see ``mean_srmse``."""
        if pred.shape != target.shape:
            raise ValueError(f"pred {tuple(pred.shape)} and target {tuple(target.shape)} differ in shape")
        found = {name: PIXEL_TERMS[name](pred, target, self.eps) for name in self.weights if name in PIXEL_TERMS}
        if FEATURE_TERM in self.weights:
            found[FEATURE_TERM] = sum(feature_errors(self.encoder, pred, target).values())
        if self.needs_labels:
            if labels is None:
                raise ValueError(
                    f"the term {SEGMENT_TERM!r} needs labels=, the structures of the target: from segments.label_maps, "
                    "cropped by patches.Sampler(..., labels=...)"
                )
            found[SEGMENT_TERM] = mean_srmse(pred, target, labels)
        return found

    def gradient_norms(self, pred, target, labels=None):
        """Euclidean norm of the gradient with respect to the predicted image, {"pixel": (N,), "vgg": (N,)}.

        ``pixel`` is the weighted sum of all terms but the perceptual one, whose gradients may point different ways, so
        that their norms do not add up; ``vgg`` has no weight, and both are 0 where the loss has no such term.
        """
        pred = pred.detach().requires_grad_(True)
        with torch.enable_grad():
            terms, none = self.terms(pred, target, labels), 0 * pred.flatten(1).sum(1)
            perceptual = terms.pop(FEATURE_TERM, none)
            pixel = sum((self.weights[name] * term for name, term in terms.items()), none)
            return gradient_norms({"pixel": pixel, FEATURE_TERM: perceptual}, pred)


def parse(text):
    """Read a weighted sum: ``parse("mse + 0.1*l1")`` is {"mse": 1.0, "l1": 0.1}."""
    weights = {}
    for part in re.split(r"(?<!\d[eE])\+", text):
        match = re.fullmatch(r"(?:([-+.\deE]+)\s*\*\s*)?([a-z]\w*)", part.strip())
        if not match or match[2] in weights:
            raise ValueError(
                f"cannot read the loss {text!r}; write a name ({', '.join(NAMES)}) or a sum like 'mse + 0.1*l1'"
            )
        weights[match[2]] = float(match[1] or 1)
    return weights


def build(name, encoder=None, layer=None, lam=None, eps=1e-3):
    """Build a loss by name.

    Args:
        name: mse, l1, charbonnier, mean_srmse; ``vgg`` = MSE + lam * VGG (Viana et al., Eq. 4); ``vgg_only`` = VGG
            without a pixel term; or a weighted sum, as text ("mse + 0.1*l1") or dict ({"mse": 1, "l1": 0.1}), with the
            perceptual term called "vgg".
        encoder: what ``encoders.load`` gave, for a loss with a perceptual term.
        layer: the layer (or layers) the loss is meant to read; checked against the encoder's.
        lam: lambda, weight of the perceptual term of ``vgg``; >= 0.
        eps: of Charbonnier, in network units (1e-3 is 4.1 HU).
    Raises: ValueError: for an unknown term, a missing encoder or lambda, or a negative or infinite weight.
    """
    weights = dict(name) if isinstance(name, dict) else parse(name)
    if name == "vgg":
        if lam is None:
            raise ValueError(
                "loss 'vgg' = MSE + lam * VGG needs lam; 02_psi_calibration finds the one for a target psi"
            )
        weights = {"mse": 1.0, FEATURE_TERM: lam}
    elif name == "vgg_only":
        weights = {FEATURE_TERM: 1.0 if lam is None else lam}
    for term, weight in weights.items():
        if term not in (known := (*PIXEL_TERMS, FEATURE_TERM, SEGMENT_TERM)):
            terms = ", ".join(known)
            raise ValueError(f"no loss {term!r}; there are {', '.join(NAMES)}, and sums of {terms} like 'mse + 0.1*l1'")
        if not 0 <= float(weight) < float("inf"):
            raise ValueError(f"the weight of {term!r} must be finite and not negative, not {weight!r}")
    if not eps > 0:
        raise ValueError(f"eps of Charbonnier must be positive, not {eps!r}")
    if FEATURE_TERM not in weights:
        encoder = None
    elif encoder is None:
        raise ValueError(f"loss {name!r} has a perceptual term and needs encoder=, from encoders.load")
    elif layer is not None:
        wanted, read = [layer] if isinstance(layer, str) else list(layer), encoder.provenance["layers"]
        if wanted != read:
            raise ValueError(f"loss {name!r} is to read {wanted}, but the encoder reads {read}")
    return Loss({term: float(weight) for term, weight in weights.items()}, encoder, eps)
