"""RFS, radiomic feature similarity: does a segment of a denoised image look to radiomics as the target's does?

RFS is the cosine of two feature vectors (Kachelriess, "Problems in Assessing AI Image Quality", DKFZ, with results for
the networks of Eulig et al. 2024). Neither segmentation, features nor normalisation were published. Here every feature
is z-scored with its mean and deviation over the NDCT segments of training patients, organ by organ, and these numbers
are saved: what one method scores does not depend on which others are looked at. Raw features span ten orders of
magnitude, and their cosine is near 1 for anything.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ldct_utils import segments
from ldct_utils.metrics import radiomics
from ldct_utils.study import files

FEWEST = 3  # training segments of an organ
MIN_AREA = 200  # pixels of an organ: a GLCM of 16 x 16 levels needs some hundred pairs


@dataclass(frozen=True)
class RFS:
    """What similarity is measured with.

    Attributes:
        mean, sd: a row an organ, a column a feature; over NDCT segments of training patients. sd 0: not used there.
        count: training segments, by organ.
        settings: of the features (``bin_width``, ``lowest``) and the words for what segmented (``segments``).
    """

    mean: pd.DataFrame
    sd: pd.DataFrame
    count: dict[str, int]
    settings: dict

    def z(self, features, organ: str) -> np.ndarray:
        """The z-scores (J,) of a segment's features, {name: value}; those that never vary in training are left out."""
        if organ not in self.mean.index:
            raise ValueError(f"RFS was not fitted for {organ!r}; known: {', '.join(self.mean.index)}")
        mean, sd = self.mean.loc[organ], self.sd.loc[organ]
        values = np.array([features[name] for name in mean.index])
        return ((values - mean) / sd)[sd > 0].to_numpy()

    def similarity(self, pred_hu, target_hu, masks: dict[str, np.ndarray]) -> dict[str, float]:
        """RFS of each organ, in [-1, 1], 1 where the vectors point alike.

        Args:
            pred_hu, target_hu: (H, W) or (Z, H, W), HU. masks: organ -> boolean mask of that shape, of the target.
        Raises: ValueError: for organs that were not fitted, or masks without features (see ``radiomics.features``).
        """
        how = {name: self.settings[name] for name in ("bin_width", "lowest")}
        found = {}
        for organ, mask in masks.items():
            vectors = [self.z(radiomics.features(image, mask, **how), organ) for image in (pred_hu, target_hu)]
            found[organ] = cosine(*vectors)
        return found

    def save(self, path):
        """Write as JSON, whole or not at all."""
        tables = {"mean": self.mean.to_dict("index"), "sd": self.sd.to_dict("index")}
        files.write_json(path, {**tables, "count": self.count, "settings": self.settings})


def load(path) -> RFS:
    """Read what ``RFS.save`` wrote. Raises: ValueError: if the file is something else."""
    held = files.read_json(path)
    if not isinstance(held, dict) or set(held) != {"mean", "sd", "count", "settings"}:
        raise ValueError(f"{path} holds no radiomic feature similarity: fit it again")
    mean, sd = (pd.DataFrame.from_dict(held[name], orient="index") for name in ("mean", "sd"))
    return RFS(mean, sd, held["count"], held["settings"])


def organ_masks(image_hu, min_area: int = MIN_AREA) -> dict[str, np.ndarray]:
    """Organs of an NDCT slice by HU thresholds (``segments.tissue_masks``): those of ``min_area`` pixels or more.

    Say "thresholds" beside results: an anatomist's organs, or those of a trained network, give other scores.
    """
    return {name: mask for name, mask in segments.tissue_masks(image_hu).items() if mask.sum() >= min_area}


def cosine(first, second) -> float:
    """Cosine of the angle between two vectors; NaN where one has no length."""
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    length = np.linalg.norm(first) * np.linalg.norm(second)
    return float(first @ second / length) if length > 0 else float("nan")


def vectors(images_hu, masks, patients=None, bin_width=radiomics.BIN_HU, lowest=radiomics.HU_MIN) -> pd.DataFrame:
    """Features of the segments of slices: a row an image and organ, columns image, patient, organ and the features.

    Args:
        images_hu: slices or volumes, HU, any sequence. masks: organ -> mask, a dict an image (``organ_masks``).
        patients: the patient of each image, by default all different.
    """
    rows = []
    for number, (image, found) in enumerate(zip(images_hu, masks, strict=True)):
        who = number if patients is None else patients[number]
        rows += [
            {"image": number, "patient": who, "organ": organ, **radiomics.features(image, mask, bin_width, lowest)}
            for organ, mask in found.items()
        ]
    return pd.DataFrame(rows, columns=["image", "patient", "organ", *radiomics.NAMES])


def fit(table: pd.DataFrame, method: str, bin_width=radiomics.BIN_HU, lowest=radiomics.HU_MIN) -> RFS:
    """The measure, from the features of training patients' NDCT segments; patients weigh alike.

    Args:
        table: from ``vectors``, with the same ``bin_width`` and ``lowest``; NDCT of training patients and nothing else.
        method: what made the segments, e.g. "thresholds": scores with other segments do not compare.
    Raises: ValueError: for an organ with fewer than three segments.
    """
    names = list(radiomics.NAMES)
    count = table.groupby("organ").size()
    if not len(count) or count.min() < FEWEST:
        raise ValueError(
            f"RFS needs {FEWEST} or more training segments of every organ, got "
            f"{', '.join(f'{organ}: {number}' for organ, number in count.items()) or 'none'}"
        )
    each = table.groupby(["organ", "patient"])[names]
    mean = each.mean().groupby("organ").mean()
    squares = table[["organ", "patient"]].join((table[names] - mean.loc[table["organ"]].to_numpy()) ** 2)
    sd = np.sqrt(squares.groupby(["organ", "patient"])[names].mean().groupby("organ").mean())
    sd = sd.where(sd > 1e-9 * mean.abs(), 0.0)  # rounding is no variation
    settings = {"bin_width": float(bin_width), "lowest": float(lowest), "segments": method}
    return RFS(mean, sd, {organ: int(number) for organ, number in count.items()}, settings)
