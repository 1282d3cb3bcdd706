"""Radiomic features of a segment: 18 of first order and 24 of the grey level co-occurrence matrix (GLCM).

Definitions are those of the Image Biomarker Standardisation Initiative (IBSI; Zwanenburg et al. 2020, Radiology 295(2),
328), checked against the published values of its digital phantom; the choice of features is that of pyradiomics, whose
own code cannot be installed beside this study. Where the two differ:

- kurtosis is in excess of the Gaussian's, as in IBSI; pyradiomics adds 3;
- grey levels are counted from a fixed lowest HU, as IBSI does where a range is stated; pyradiomics counts from the
  segment's own minimum, so that one dark pixel moves every level;
- pyradiomics' total energy (energy times voxel volume) is left out, since it says the same as energy;
- the maximal correlation coefficient is pyradiomics' only, IBSI having no value for it.

Shape features are left out on purpose: they depend on the mask alone, which is the same for an image and its target.
"""

from itertools import product

import numpy as np
from scipy import stats

from ldct_utils.ct.intensity import HU_MIN

BIN_HU = 25.0  # width of a grey level, the usual choice for CT
FIRST_ORDER = (
    "energy", "entropy", "minimum", "percentile_10", "percentile_90", "maximum", "mean", "median",
    "interquartile_range", "range", "mean_absolute_deviation", "robust_mean_absolute_deviation", "root_mean_square",
    "standard_deviation", "skewness", "kurtosis", "variance", "uniformity",
)  # fmt: skip
GLCM = (
    "autocorrelation", "joint_average", "cluster_prominence", "cluster_shade", "cluster_tendency", "contrast",
    "correlation", "difference_average", "difference_entropy", "difference_variance", "joint_energy", "joint_entropy",
    "information_correlation_1", "information_correlation_2", "inverse_difference_moment",
    "maximal_correlation_coefficient", "normalised_inverse_difference_moment", "inverse_difference",
    "normalised_inverse_difference", "inverse_variance", "maximum_probability", "sum_average", "sum_entropy",
    "joint_variance",
)  # fmt: skip
NAMES = (*FIRST_ORDER, *(f"glcm_{name}" for name in GLCM))


def levels(image, mask, bin_width: float = BIN_HU, lowest: float = HU_MIN) -> np.ndarray:
    """Grey levels from 1 inside a mask, 0 outside: floor((HU - lowest) / width) + 1, what is darker at level 1.

    Source: IBSI, fixed bin size discretisation.
    """
    if not bin_width > 0:
        raise ValueError(f"a grey level needs a positive width in HU, got {bin_width}")
    found = np.floor((np.asarray(image, np.float64) - lowest) / bin_width).astype(np.int64) + 1
    return np.where(mask, np.maximum(found, 1), 0)


def _entropy(probabilities) -> float:
    """Entropy in bits; what has probability 0 adds nothing."""
    some = probabilities[probabilities > 0]
    return float(-(some * np.log2(some)).sum())


def first_order(values, bin_width: float = BIN_HU, lowest: float = HU_MIN) -> dict[str, float]:
    """First-order features of the values of a segment (any shape), HU; entropy and uniformity are those of grey levels.

    A segment of one value has skewness and kurtosis 0, as in pyradiomics. Source: IBSI, sections 3.3 and 3.4.
    """
    x = np.asarray(values, np.float64).ravel()
    p10, p25, p75, p90 = np.percentile(x, [10, 25, 75, 90])
    middle = x[(x >= p10) & (x <= p90)]
    shares = np.bincount(levels(x, True, bin_width, lowest)) / x.size
    flat = np.ptp(x) == 0
    found = {
        "energy": (x**2).sum(),
        "entropy": _entropy(shares),
        "minimum": x.min(),
        "percentile_10": p10,
        "percentile_90": p90,
        "maximum": x.max(),
        "mean": x.mean(),
        "median": np.median(x),
        "interquartile_range": p75 - p25,
        "range": np.ptp(x),
        "mean_absolute_deviation": np.abs(x - x.mean()).mean(),
        "robust_mean_absolute_deviation": np.abs(middle - middle.mean()).mean(),
        "root_mean_square": np.sqrt((x**2).mean()),
        "standard_deviation": x.std(),
        "skewness": 0.0 if flat else stats.skew(x),
        "kurtosis": 0.0 if flat else stats.kurtosis(x),
        "variance": x.var(),
        "uniformity": (shares**2).sum(),
    }
    return {name: float(found[name]) for name in FIRST_ORDER}


def cooccurrences(grey) -> np.ndarray:
    """Symmetric GLCMs of neighbouring pixels, one a direction: (4, L, L) of a slice, (13, L, L) of a volume, counts.

    Args: grey: grey levels from 1, 0 outside the segment, (H, W) or (Z, H, W). Pairs that leave it do not count.
    """
    grey = np.asarray(grey)
    count = int(grey.max(initial=0))
    directions = [d for d in product((-1, 0, 1), repeat=grey.ndim) if d > (0,) * grey.ndim]
    matrices = np.zeros((len(directions), count, count))
    for matrix, direction in zip(matrices, directions):
        near = tuple(slice(max(0, -d), min(n, n - d)) for d, n in zip(direction, grey.shape))
        far = tuple(slice(max(0, d), min(n, n + d)) for d, n in zip(direction, grey.shape))
        pairs = (grey[near] > 0) & (grey[far] > 0)
        joint = (grey[near][pairs] - 1) * count + grey[far][pairs] - 1
        matrix += np.bincount(joint, minlength=count**2).reshape(count, count)
        matrix += matrix.T.copy()
    return matrices


def of_matrix(matrix) -> dict[str, float]:
    """Features of one GLCM (L, L), counts or probabilities, level 1 first.

    A segment of one grey level has correlation and maximal correlation 1, as in pyradiomics.
    Source: IBSI, section 3.6; maximal correlation coefficient: pyradiomics.
    """
    count = len(matrix)
    used = np.flatnonzero(matrix.sum(0))
    p = matrix[np.ix_(used, used)] / matrix.sum()
    level = used + 1.0  # empty levels add to no feature; the number of levels stays that of the matrix
    i, j = level[:, None], level[None]
    px = p.sum(0)
    mean = (level * px).sum()
    variance = ((level - mean) ** 2 * px).sum()
    apart, total = np.abs(i - j), i + j
    p_apart = np.bincount(apart.astype(int).ravel(), p.ravel())
    p_total = np.bincount(total.astype(int).ravel(), p.ravel())
    difference = (apart * p).sum()
    independent = np.outer(px, px)
    hx, hxy, hxy2 = _entropy(px), _entropy(p), _entropy(independent)
    hxy1 = -(p * np.log2(independent)).sum()
    flat = len(used) == 1
    found = {
        "autocorrelation": (i * j * p).sum(),
        "joint_average": mean,
        "cluster_prominence": ((total - 2 * mean) ** 4 * p).sum(),
        "cluster_shade": ((total - 2 * mean) ** 3 * p).sum(),
        "cluster_tendency": ((total - 2 * mean) ** 2 * p).sum(),
        "contrast": (apart**2 * p).sum(),
        "correlation": 1.0 if flat else ((i - mean) * (j - mean) * p).sum() / variance,
        "difference_average": difference,
        "difference_entropy": _entropy(p_apart),
        "difference_variance": ((apart - difference) ** 2 * p).sum(),
        "joint_energy": (p**2).sum(),
        "joint_entropy": hxy,
        "information_correlation_1": 0.0 if flat else (hxy - hxy1) / hx,
        "information_correlation_2": np.sqrt(max(0.0, 1 - np.exp(-2 * (hxy2 - hxy)))),
        "inverse_difference_moment": (p / (1 + apart**2)).sum(),
        "maximal_correlation_coefficient": 1.0 if flat else _maximal_correlation(p, px),
        "normalised_inverse_difference_moment": (p / (1 + (apart / count) ** 2)).sum(),
        "inverse_difference": (p / (1 + apart)).sum(),
        "normalised_inverse_difference": (p / (1 + apart / count)).sum(),
        "inverse_variance": (p[apart > 0] / apart[apart > 0] ** 2).sum(),
        "maximum_probability": p.max(),
        "sum_average": (total * p).sum(),
        "sum_entropy": _entropy(p_total),
        "joint_variance": variance,
    }
    return {name: float(found[name]) for name in GLCM}


def _maximal_correlation(p, px):
    """Square root of the second largest eigenvalue of sum_k p(i,k) p(j,k) / (px(i) px(k))."""
    scaled = p / np.sqrt(np.outer(px, px))  # similar to that matrix's root, and symmetric
    return np.sort(np.abs(np.linalg.eigvalsh(scaled)))[-2]


def glcm(grey, merged: bool = False) -> dict[str, float]:
    """GLCM features of grey levels: computed a direction and averaged, or of the sum of all directions' matrices.

    Directions in which the segment has no neighbours do not count.
    Raises: ValueError: if no two pixels of the segment are neighbours.
    """
    matrices = cooccurrences(grey)
    matrices = matrices[matrices.sum((1, 2)) > 0]
    if not len(matrices):
        raise ValueError("no two pixels of the segment are neighbours: it has no co-occurrence matrix")
    found = [of_matrix(matrix) for matrix in (matrices.sum(0, keepdims=True) if merged else matrices)]
    return {name: float(np.mean([one[name] for one in found])) for name in GLCM}


def features(image_hu, mask, bin_width: float = BIN_HU, lowest: float = HU_MIN) -> dict[str, float]:
    """All features of a segment, ``NAMES`` in this order.

    Args:
        image_hu: (H, W) or (Z, H, W), HU. mask: boolean, same shape.
        bin_width: of a grey level, HU. lowest: lower edge of level 1, HU.
    Raises: ValueError: for shapes that differ, an empty mask, values that are not finite, or pixels without neighbours.
    """
    image_hu, mask = np.asarray(image_hu, np.float64), np.asarray(mask, bool)
    if image_hu.shape != mask.shape or image_hu.ndim not in (2, 3):
        raise ValueError(f"features take a slice or a volume and its mask, got {image_hu.shape} and {mask.shape}")
    if not mask.any():
        raise ValueError("the mask is empty: it has no features")
    if not np.isfinite(image_hu[mask]).all():
        raise ValueError(f"the segment holds values that are not finite: {int((~np.isfinite(image_hu[mask])).sum())}")
    box = tuple(slice(where.min(), where.max() + 1) for where in np.nonzero(mask))
    image_hu, mask = image_hu[box], mask[box]
    texture = glcm(levels(image_hu, mask, bin_width, lowest))
    found = first_order(image_hu[mask], bin_width, lowest)
    return found | {f"glcm_{name}": value for name, value in texture.items()}
