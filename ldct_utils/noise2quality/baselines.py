"""What Noise2Quality must beat: one noise number for the dose; for the map a lookup of three local statistics and a
constant. All see the low-dose slice alone, are fitted on training patients, and draw nothing at random.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ldct_utils.ct import nps
from ldct_utils.ct.dose import at_dose
from ldct_utils.noise2quality import targets, training

LOOKUP, NUMBER, CONSTANT = "lookup", "noise number", "constant"
MOST = 48  # training slices that are looked at, spread evenly
BINS = 12  # of each statistic
WIDE = 5.0  # pixels, SD of the window of the high-pass SD; mean and SD have that of the SSIM
EVERY = 97  # pixels from one to the next of those that set the edges of the bins


def noise_number(image_hu) -> float:
    """High-pass noise SD of a slice (H, W) in its own soft tissue, HU; NaN where it shows too little of that."""
    try:
        return nps.tissue_noise(image_hu, image_hu)
    except ValueError:  # raised where there are too few blocks of soft tissue
        return float("nan")


def statistics(shown) -> np.ndarray:
    """Local mean, local SD and local high-pass SD of a slice (H, W) in [0, 1]: (3, H, W)."""
    shown = np.asarray(shown, np.float64)
    mean = ndimage.gaussian_filter(shown, targets.SIGMA)
    spread = np.sqrt(np.maximum(ndimage.gaussian_filter(shown**2, targets.SIGMA) - mean**2, 0))
    return np.stack([mean, spread, np.sqrt(ndimage.gaussian_filter((shown - mean) ** 2, WIDE))])


@dataclass(frozen=True)
class Baselines:
    """Fitted baselines.

    Attributes: target: in ``targets.TARGETS``. level, width: window in HU. constant: mean of the true maps of the
        training, on [0, 1]. edges: of the bins, a rising array a statistic. table: mean true quality of a bin, on
        [0, 1]; an empty bin has that of the nearest one that is not. doses: rising. numbers_hu: the noise number of
        each dose, the geometric mean over training slices.
    """

    target: str
    level: float
    width: float
    constant: float
    edges: tuple
    table: np.ndarray
    doses: tuple
    numbers_hu: np.ndarray

    def lookup(self, image_hu) -> np.ndarray:
        """The map of a slice (H, W) in HU, on [0, 1]: what training pixels of such statistics had in the mean."""
        found = statistics(training.windowed(image_hu, self.level, self.width))
        return self.table[tuple(np.searchsorted(edges, values) for edges, values in zip(self.edges, found))]

    def dose(self, image_hu) -> float:
        """The dose whose noise number is nearest, on a log scale, to that of a slice (H, W) in HU; NaN without one."""
        number = noise_number(image_hu)
        if not number > 0:
            return float("nan")
        return self.doses[int(np.abs(np.log(self.numbers_hu / number)).argmin())]

    def raters(self) -> dict:
        """{name: rater as ``scoring.score`` takes it}."""
        decode = targets.get(self.target).decode
        return {
            LOOKUP: lambda images: (decode(np.stack([self.lookup(one) for one in images])), None),
            CONSTANT: lambda images: (decode(np.full(np.shape(images), self.constant)), None),
            NUMBER: lambda images: (None, np.array([self.dose(one) for one in images])),
        }


def fit(cohort, rows, doses, target: str, level: float, width: float, bins: int = BINS) -> Baselines:
    """Baselines of the slices ``rows`` of a cohort at every dose.

    Args: cohort: whose LDCT holds the NDCT's noise (``doses.check``). rows: of its training patients. doses: rising.
        target: in ``targets.TARGETS``. level, width: window in HU.
    Raises: ValueError: without rows, or where no slice shows enough soft tissue to read its noise.
    """
    rows, wanted = np.asarray(rows), targets.get(target)
    if not len(rows):
        raise ValueError(f"cohort {cohort.id} has no training slices to fit the baselines on")
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, MOST).round().astype(int))]
    its = cohort.slices.set_index("row").dose
    seen, true, numbers = [], [], []
    for row in rows:
        ndct, ldct = (np.asarray(images[row], np.float32) for images in (cohort.ndct, cohort.ldct))
        made = [at_dose(ndct, ldct, its[row], dose) for dose in doses]
        seen.append(np.stack([statistics(training.windowed(one, level, width)) for one in made], 1).astype(np.float32))
        maps = [wanted.encode(training.true_map(one, ndct, wanted, level, width)) for one in made]
        true.append(np.stack(maps).astype(np.float32))
        numbers.append([noise_number(one) for one in made])
    known = [one for one in numbers if np.isfinite(one).all()]
    if not known:
        raise ValueError(
            f"no training slice of cohort {cohort.id} shows enough soft tissue to read its noise at {doses[0]:.0%} of "
            "the dose: the one noise number cannot be fitted; take slices of the trunk"
        )
    columns = [np.concatenate([one[k].ravel() for one in seen]) for k in range(3)]
    values = np.concatenate([one.ravel() for one in true])
    edges = tuple(np.unique(np.quantile(c[::EVERY], np.linspace(0, 1, bins + 1)[1:-1])) for c in columns)
    table = _means([np.searchsorted(e, c) for e, c in zip(edges, columns)], values, [len(e) + 1 for e in edges])
    geometric = np.exp(np.log(known).mean(0))
    return Baselines(target, level, width, float(values.mean()), edges, table, tuple(doses), geometric)


def _means(bins, values, shape) -> np.ndarray:
    """Means of values in their bins, an array of ``shape``; empty bins take the nearest that is not."""
    flat, size = np.ravel_multi_index(bins, shape), int(np.prod(shape))
    counts, sums = np.bincount(flat, minlength=size), np.bincount(flat, values, minlength=size)
    means = (sums / np.maximum(counts, 1)).reshape(shape)
    nearest = ndimage.distance_transform_edt((counts == 0).reshape(shape), return_distances=False, return_indices=True)
    return means[tuple(nearest)]
