"""Perceptual influence psi: the share of the perceptual term lam * PL in the total loss MSE + lam * PL.

Viana et al. (arXiv 2509.23025) define it twice. Eq. 5 is the mean over images of each image's ratio; Algorithm 2 is the
ratio of the sums over all images, which weights each image by its total loss. They agree only if PL / MSE is the same
for all images. ``mse`` and ``perceptual`` are arrays with a value an image, each a mean over pixels or features.
"""

import numpy as np
import pandas as pd
from scipy.optimize import brentq

from ldct_utils.stats import intervals

DEFINITIONS = ("ratio_of_sums", "mean_of_ratios")
LAMBDAS = np.logspace(-7, 0, 500)  # the authors' grid
LITERATURE_LAMBDA = 0.1  # the usual choice (the paper's Table 1), from Yang et al. 2018

# (experiment, context, layer, lambda of the paper, epoch, MSE, VGG loss): epoch means listed in the authors' repository
# (vngabriel/perceptual-influence @05a5076, method/perceptual_influence.py), of training or validation: not said.
PUBLISHED = (
    ("E1", "imagenet", "block3_conv2", 1e-5, 1, 0.0002040776889771223, 576.0071411132812),
    ("E1", "imagenet", "block3_conv2", 1e-5, 5, 9.793945355340838e-05, 433.1810302734375),
    ("E1", "imagenet", "block3_conv2", 1e-5, 10, 9.700160444481298e-05, 422.34844970703125),
    ("E2", "imagenet", "block5_conv4", 1e-2, 1, 0.0002935976954177022, 0.7757400274276733),
    ("E2", "imagenet", "block5_conv4", 1e-2, 5, 0.0001266493636649102, 0.5371675491333008),
    ("E2", "imagenet", "block5_conv4", 1e-2, 10, 0.00012420525308698416, 0.5127434134483337),
    ("E3", "medical", "block3_conv2", 1e-5, 1, 0.002442130818963051, 737.3931884765625),
    ("E3", "medical", "block3_conv2", 1e-5, 5, 0.00017402890080120414, 192.37799072265625),
    ("E3", "medical", "block3_conv2", 1e-5, 10, 0.00016109268472064286, 163.57308959960938),
    ("E4", "medical", "block5_conv4", 1e-4, 1, 0.00027333313482813537, 18.797935485839844),
    ("E4", "medical", "block5_conv4", 1e-4, 5, 0.00011429319420130923, 9.153958320617676),
    ("E4", "medical", "block5_conv4", 1e-4, 10, 0.00010968669812427834, 8.193005561828613),
)


def published() -> pd.DataFrame:
    """``PUBLISHED`` as a table, with the psi that the losses give, the one that is claimed and the λ that gives it."""
    table = pd.DataFrame(PUBLISHED, columns=["experiment", "context", "layer", "lambda", "epoch", "MSE", "PL"])
    table["psi"] = [ratio_of_sums(r.MSE, r.PL, lam) for r, lam in zip(table.itertuples(), table["lambda"])]
    table["claimed psi"] = 0.95
    table["lambda for 0.95"] = [lambda_for(r.MSE, r.PL, 0.95) for r in table.itertuples()]
    return table


def _losses(mse, perceptual):
    mse, perceptual = (np.atleast_1d(np.asarray(value, dtype=np.float64)) for value in (mse, perceptual))
    if mse.shape != perceptual.shape or mse.ndim != 1 or not mse.size:
        raise ValueError(
            f"mse {mse.shape} and perceptual {perceptual.shape} must hold one value an image, for the same images"
        )
    for name, value in (("mse", mse), ("perceptual", perceptual)):
        if not np.isfinite(value).all() or (value < 0).any():
            raise ValueError(
                f"{name} losses must be finite and not negative, not {value[~(value >= 0) | ~np.isfinite(value)][0]!r}"
            )
    return mse, perceptual


def _weight(lam):
    if not 0 <= lam < np.inf:
        raise ValueError(f"lambda must be finite and not negative, not {lam!r}")
    return float(lam)


def ratio_of_sums(mse, perceptual, lam):
    """Psi of Algorithm 2: lam * sum(PL) / (sum(MSE) + lam * sum(PL)), in [0, 1]; 0 if all images are identical."""
    mse, perceptual = _losses(mse, perceptual)
    weighted = _weight(lam) * perceptual.sum()
    total = mse.sum() + weighted
    return float(weighted / total) if total > 0 else 0.0


def mean_of_ratios(mse, perceptual, lam):
    """Psi of Eq. 5: mean over images of lam * PL / (MSE + lam * PL), in [0, 1].

    An identical pair is 0/0 and says nothing about the share: it is left out of the mean; 0 if all are identical.
    """
    mse, perceptual = _losses(mse, perceptual)
    defined = (mse > 0) | (perceptual > 0)
    if not defined.any():
        return 0.0
    mse, weighted = mse[defined], _weight(lam) * perceptual[defined]
    total = mse + weighted
    return float(np.mean(np.divide(weighted, total, out=np.zeros_like(total), where=total > 0)))


def influence(mse, perceptual, lam, definition="ratio_of_sums"):
    """Psi by the definition named."""
    if definition not in DEFINITIONS:
        raise ValueError(f"no definition {definition!r} of psi; there are {', '.join(DEFINITIONS)}")
    return (ratio_of_sums if definition == "ratio_of_sums" else mean_of_ratios)(mse, perceptual, lam)


def lambda_for(mse, perceptual, target, definition="ratio_of_sums"):
    """Lambda at which psi is ``target``.

    Closed form for ``ratio_of_sums``: target / (1 - target) * sum(MSE) / sum(PL). For ``mean_of_ratios`` the root is
    found by Brent's method on log(lambda), bracketed by the images' own closed forms.

    Args: target: psi wanted, in [0, 1); 1 would need an infinite lambda: train with loss ``vgg_only`` instead.
    Raises: ValueError: if no lambda reaches the target, e.g. because a loss is zero on every image.
    """
    mse, perceptual = _losses(mse, perceptual)
    influence(mse, perceptual, 1.0, definition)
    if not 0 <= target < 1:
        hint = "; psi = 1 is the loss 'vgg_only', which has no pixel term" if target == 1 else ""
        raise ValueError(f"psi_target must be in [0, 1), not {target!r}{hint}")
    if target == 0:
        return 0.0
    if mse.sum() == 0 or perceptual.sum() == 0:
        raise ValueError(
            "no lambda gives this psi: "
            + ("the pixel" if mse.sum() == 0 else "the perceptual")
            + " loss is 0 on every image"
        )
    if definition == "ratio_of_sums":
        return float(target / (1 - target) * mse.sum() / perceptual.sum())
    free = (mse > 0) & (perceptual > 0)  # an image with one loss at zero has ratio 0 or 1 at any lambda
    always = np.count_nonzero((mse == 0) & (perceptual > 0))
    never = np.count_nonzero((mse > 0) & (perceptual == 0))
    images = always + never + free.sum()
    if not always < target * images < images - never:
        raise ValueError(
            f"no lambda gives a mean of ratios of {target}: of the images ({images}), {always} have a pixel loss of 0, "
            f"and {never} a perceptual one of 0, so it stays between {always / images:.3f} and {1 - never / images:.3f}"
        )
    share = (target * images - always) / free.sum()  # what the mean over the free images must be
    edges = np.log(share / (1 - share) * mse[free] / perceptual[free])
    low, high = edges.min() - 1e-9, edges.max() + 1e-9
    return float(
        np.exp(brentq(lambda log: mean_of_ratios(mse, perceptual, np.exp(log)) - target, low, high, xtol=1e-13))
    )


def curve(mse, perceptual, lams=LAMBDAS, definition="ratio_of_sums"):
    """Psi at each of ``lams`` (the paper's Fig. 2): float64 array of the same length."""
    return np.array([influence(mse, perceptual, lam, definition) for lam in np.asarray(lams, dtype=np.float64)])


def gradient_influence(grad_mse, grad_perceptual, lam):
    """Mean over images of lam |grad PL| / (|grad MSE| + lam |grad PL|), in [0, 1]: the share in what moves the weights.

    Args: grad_mse, grad_perceptual: norms of each term's gradient, one value an image (``losses.Loss.gradient_norms``).
    A share of the loss is no share of the update: a term can be large and flat. 0/0 as in ``mean_of_ratios``.
    """
    return mean_of_ratios(grad_mse, grad_perceptual, lam)


def bootstrap(
    mse, perceptual, patients, lam=None, target=None, definition="ratio_of_sums", draws=1000, level=0.95, seed=0
):
    """Interval of psi at ``lam``, or of the lambda for ``target``, from resampling patients with replacement.

    Args:
        patients: the patient of each image; images of one patient stay together, since they are not independent.
        lam, target: exactly one of them.
    Returns: (low, high), as of ``intervals.bootstrap_interval``.
    """
    mse, perceptual = _losses(mse, perceptual)
    patients = np.asarray(patients)
    if patients.shape != mse.shape:
        raise ValueError(f"patients {patients.shape} must name one patient for each of the {mse.size} images")
    if (lam is None) == (target is None):
        raise ValueError("give either lam (interval of psi) or target (interval of lambda)")
    names, owner = np.unique(patients, return_inverse=True)
    measure, given = (influence, lam) if target is None else (lambda_for, target)

    def again(weights):
        images = [np.repeat(np.arange(mse.size), times[owner]) for times in np.rint(weights * len(names)).astype(int)]
        return [measure(mse[drawn], perceptual[drawn], given, definition) for drawn in images]

    low, high = intervals.bootstrap_interval(again, len(names), draws, level, seed)
    return float(low), float(high)


def influences(pixel, perceptual, lam: float) -> dict:
    """Psi by both definitions, of a value an image (any shape) of the weighted pixel terms and the perceptual term."""
    pixel = np.broadcast_to(np.asarray(pixel, dtype=np.float64), np.shape(perceptual)).ravel()
    return {f"psi_{name}": influence(pixel, np.ravel(perceptual), lam, name) for name in DEFINITIONS}


def spreads(calibration, column) -> dict:
    """How far the lambdas for one psi lie apart, as the largest over the smallest.

    Args: calibration: a row a network f and layer, with columns f, layer and ``column``, the lambdas, > 0.
    Returns: ``within_layer``: over the networks, in the layer where that is most; ``over_all``: over layers and
        networks; at least 1, and ``over_all`` is at least ``within_layer``.
    Raises: ValueError: if a lambda is not positive, or there is none.
    """
    lams = calibration[column]
    if not len(lams) or not (lams > 0).all():
        raise ValueError(f"a spread needs lambdas above 0, not {lams.to_list()}")
    of_layer = calibration.groupby("layer")[column]
    return {
        "within_layer": float((of_layer.max() / of_layer.min()).max()),
        "over_all": float(lams.max() / lams.min()),
    }


# ---- what a training reached ----
MOMENTS = ("start", "half", "end")
AROUND = 0.05  # of a training: rows this near to a moment are averaged, since a row is of a few batches


def reached(history, definition="ratio_of_sums") -> dict:
    """Psi and the gradient share of a training at its start, at half of it and at its end.

    Lambda is set for a psi **at the start**. Where lambda stays, as in the paper, psi then goes where both losses
    take it: the MSE cannot fall under the noise of the NDCT itself, so psi at the end says as much about that floor
    and the encoder's as about the choice.

    Args:
        history: table of ``history.History``. definition: of psi, see ``DEFINITIONS``.
    Returns: {psi_start, psi_half, psi_end, gradient_share_start, gradient_share_half, gradient_share_end}, in [0, 1];
        all None for a training without a perceptual term. psi is of the training batches, the mean over the rows
        within ``AROUND`` of the moment, at least the nearest one. The gradient share is that of the validation patches
        at the validation nearest to the moment; None if none was made.
    Raises: ValueError: for an unknown definition.
    """
    if definition not in DEFINITIONS:
        raise ValueError(f"no definition {definition!r} of psi; there are {', '.join(DEFINITIONS)}")
    total, found = history["step"].iloc[-1], {}
    columns = {"psi": f"psi_{definition}", "gradient_share": "val_gradient_influence"}
    for quantity, column in columns.items():
        known = history.dropna(subset=column) if column in history else history[:0]
        for moment, at in zip(MOMENTS, (0, total / 2, total)):
            far = (known["step"] - at).abs()
            near = far <= max(far.min(), AROUND * total if quantity == "psi" else 0)
            found[f"{quantity}_{moment}"] = float(known[column][near].mean()) if len(known) else None
    return found


REACHED = tuple(f"{quantity}_{moment}" for quantity in ("psi", "gradient_share") for moment in MOMENTS)


def path(row, quantity="psi") -> str:
    """``95 → 93 → 93``: percent at start, half and end, of a row with the columns of ``reached``; empty without."""
    values = [getattr(row, f"{quantity}_{moment}") for moment in MOMENTS]
    return "" if pd.isna(values).any() else " → ".join(f"{100 * value:.0f}" for value in values)
