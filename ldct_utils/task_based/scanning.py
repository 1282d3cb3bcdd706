"""Detection with search: the observer does not know where the lesion is, slides its template and names the best place.

Its score is the area under the localisation ROC curve (LROC): how often an image with a lesion scores higher than one
without *and* the place it names is the lesion's. For M places with independent responses it is
int phi(t - d) Phi(t)^(2M - 1) dt, 1 / (2M) for a guess. The d' told here is that of the same area in this formula.

Source: Khurd and Gindi 2005, IEEE Trans Med Imaging 24:1337.
"""

from functools import cache

import numpy as np
from scipy import fft
from scipy.stats import norm, rankdata

from ldct_utils.task_based import observers
from ldct_utils.task_based.observers import Detection

D_PRIMES = np.linspace(-6, 10, 641)  # at which the theory is tabulated


def lroc_area(d_prime, places: float) -> np.ndarray:
    """LROC area of ``places`` independent places, of which one holds a lesion of this d'.

    Raises: ValueError: for fewer than one place.
    """
    if not places >= 1:
        raise ValueError(f"a search has at least one place, got {places!r}")
    t = np.linspace(-8, 8, 1601)  # of the lesion's own response, about its mean
    d_prime = np.asarray(d_prime, np.float64)[..., None]
    values = norm.pdf(t) * norm.cdf(t + d_prime) ** (2 * places - 1)
    return np.trapezoid(values, t, axis=-1)


def grid(shape, region: int, step: int = 2) -> np.ndarray:
    """Places (P, 2), row and column, around which ``region`` pixels (odd) lie in an image of ``shape``.

    Raises: ValueError: if there are none, or ``region`` is even.
    """
    half = region // 2
    if region % 2 == 0 or min(shape) < region or step < 1:
        raise ValueError(f"no place for a region of {region} pixels (odd) in images of shape {shape}, step {step}")
    rows, columns = (np.arange(half, side - half, step) for side in shape)
    return np.stack(np.meshgrid(rows, columns, indexing="ij"), -1).reshape(-1, 2)


def guesses(places, radius_px: float) -> np.ndarray:
    """Share of the places (P, 2) that are within the radius of each: how often a guess there is a hit."""
    apart = np.hypot(*(places[:, None] - places[None]).T)
    return (apart <= radius_px).mean(0)


def responses(images, channels, places, batch: int = 64) -> np.ndarray:
    """Channel outputs at all places, (N, P, C), float32.

    Args: images: (N, H, W). channels: (C, r * r), of a region of r pixels. places: (P, 2), of ``grid``.
    """
    images, size = np.asarray(images, np.float32), round(channels.shape[1] ** 0.5)
    kernels = channels.reshape(-1, size, size).astype(np.float32)
    full = [fft.next_fast_len(side, real=True) for side in images.shape[1:]]
    turned = fft.rfft2(kernels, full).conj()  # correlation; regions lie inside, so nothing wraps around
    found = np.empty((len(images), len(places), len(kernels)), np.float32)
    row, column = places.T - size // 2
    for start in range(0, len(images), batch):
        spectra = fft.rfft2(images[start : start + batch], full)
        for number, kernel in enumerate(turned):
            found[start : start + batch, :, number] = fft.irfft2(spectra * kernel, full)[:, row, column]
    return found


def around(images, where, region: int) -> np.ndarray:
    """Regions (N, region, region) of images (N, H, W) around one place each, (N, 2)."""
    half = region // 2
    return np.stack([x[r - half : r + half + 1, c - half : c + half + 1] for x, (r, c) in zip(images, where)])


def everywhere(images, radius_px: float, region: int = 33, step: int = 2) -> np.ndarray:
    """What ``search`` looks through: outputs (N, P, C) of its channels at all places of the grid."""
    places = grid(np.shape(images)[1:], region, step)
    return responses(images, observers.channels("laguerre_gauss", region, radius_px), places)


def search(absent, present, where, radius_px: float, region: int = 33, step: int = 2, trained_on=None,
           anywhere: bool = False, maps=None) -> Detection:  # fmt: skip
    """Scanning CHO: the largest response of its template over a grid of places; a hit lies within the lesion's radius.

    The template is made on the lesions' places of one half of the realisations and searches the other half, both ways.

    Args:
        absent, present: (N, H, W), HU. where: (N, 2), row and column of the lesion in each image of the present class,
            places of ``grid``; in the absent class the template is made at the same places.
        radius_px: of the lesion. region: side of the template, pixels, odd. step: of the grid, pixels.
        trained_on: two classes (N, H, W) with the same lesions at the same places that the template is made on, e.g.
            the plain reconstructions, by a reader who learned on them and keeps to it; None: the images themselves.
        anywhere: every place counts as a hit. This is the usual AUC of the largest responses, by which few images show
            whether an observer sees lesions where there are none; a guess is 0.5.
        maps: of ``everywhere`` for both classes, where they are known already.
    Returns: Detection; ``auc`` is the LROC area, ``chance`` that of a guess, d' that of as many independent places as
        have this chance. Where no image is missed, half a miss is counted, and half a hit where none is: N images
        cannot show an infinite d'.
    Raises: ValueError: for lesions off the grid, or shapes that do not fit.
    """
    absent, present, where = np.asarray(absent), np.asarray(present), np.asarray(where, int)
    if absent.shape != present.shape or absent.ndim != 3 or where.shape != (len(absent), 2):
        shapes = f"{absent.shape}, {present.shape} and {where.shape}"
        raise ValueError(f"search takes two classes (N, H, W) and places (N, 2), got {shapes}")
    places = grid(absent.shape[1:], region, step)
    if not (where[:, None] == places).all(2).any(1).all():
        raise ValueError(f"lesions lie off the grid of every {step} pixels: choose their places among scanning.grid")
    own = observers.channels("laguerre_gauss", region, radius_px)
    maps = maps or [everywhere(images, radius_px, region, step) for images in (absent, present)]
    learned = [observers.respond(around(images, where, region), own) for images in trained_on or (absent, present)]
    return _searched(maps, learned, places, where, np.inf if anywhere else radius_px)


@cache
def _theory(chance: float):
    """LROC areas at ``D_PRIMES`` of as many independent places as have this chance."""
    return lroc_area(D_PRIMES, 1 / (2 * chance))


def _searched(maps, learned, places, where, reach, folds: int = 2):
    """The result, from the channel outputs at all places (N, P, C) and at the lesions' own (N, C)."""
    count, fold = len(where), np.arange(len(where)) % folds
    chance = guesses(places, reach).mean() / 2
    table = _theory(float(chance))

    def measure(used):
        area = 0.0
        for test in range(folds):
            template = observers.hotelling_template(*(values[used & (fold != test)] for values in learned))
            tested = used & (fold == test)
            without, with_ = ((values @ template.astype(np.float32))[tested] for values in maps)
            hit = np.hypot(*(places[with_.argmax(1)] - where[tested]).T) <= reach
            area += _area(without.max(1), with_.max(1), hit) / folds
        least = 0.5 / used.sum()
        return np.interp(np.clip(area, least, 1 - least), table, D_PRIMES), area

    return observers.jackknifed(measure, count, chance=chance)


def _area(absent_scores, present_scores, hit) -> float:
    """LROC area without assumptions: the share of pairs in the right order whose lesion was found, ties half."""
    m, n = len(absent_scores), len(present_scores)
    ranks = rankdata(np.concatenate([absent_scores, present_scores]))[m:] - rankdata(present_scores)
    return float((ranks * hit).sum() / (m * n))
