"""Whether slices are like those that a run of 03_train was trained on: kernel, pixel size, thickness, noise.

A network that is given what it has never seen still returns an image that looks like CT.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ldct_utils import cohorts
from ldct_utils.ct import nps
from ldct_utils.study import runs

FAR = 1.25  # times beyond the smallest or largest value of the training slices
LOOKED_AT = 48  # training slices whose noise is read
WORDS = {"pixel_mm": ("pixels", "mm"), "thickness_mm": ("thickness", "mm"), "noise_hu": ("noise", "HU")}


@dataclass(frozen=True)
class Training:
    """What training slices were like. kernels: their names. spans: {quantity: (smallest, largest)}, of ``WORDS``."""

    kernels: tuple[str, ...]
    spans: dict[str, tuple[float, float]]

    def is_far(self, quantity: str, value: float) -> bool:
        """Whether a value lies far outside of the training's; a value that is not known does not."""
        low, high = self.spans.get(quantity, (np.nan, np.nan))
        return bool(value < low / FAR or value > high * FAR)

    def told(self, quantity: str, value: float) -> str:
        """A value beside the training's, in words."""
        (word, unit), (low, high) = WORDS[quantity], self.spans[quantity]
        span = f"{low:.3g}" if f"{low:.3g}" == f"{high:.3g}" else f"{low:.3g} to {high:.3g}"
        return f"{word} {value:.3g} {unit}, trained on {span} {unit}"


def training_of(run: runs.Run) -> Training | None:
    """What a run was trained on, by its cohort's table and images; None where the cohort is not there any more."""
    folder = run.folder.parents[2] / "cohorts" / f"{run.params['source']}-{run.numbers['cohort']}"
    if not (folder / "cohort.json").is_file():
        return None
    cohort = cohorts.load(folder)
    rows = cohort.rows("train")
    about = cohort.slices.set_index("row").loc[rows]
    spans = {name: about[name].dropna() for name in ("pixel_mm", "thickness_mm")}
    spans["noise_hu"] = pd.Series(noise_of(cohort.ldct[row]) for row in cohort.spread(rows, LOOKED_AT)).dropna()
    return Training(
        tuple(sorted(set(about["kernel"]) - {"unknown"})),
        {name: (float(found.min()), float(found.max())) for name, found in spans.items() if len(found)},
    )


def noise_of(image_hu, tissue_hu=None) -> float:
    """Noise in flat soft tissue of a slice, HU, of high frequencies; NaN where it shows too little of it.

    Args: tissue_hu: the slice that says where flat tissue is, by default the same.
    """
    image_hu = np.asarray(image_hu, np.float32)
    try:
        return nps.tissue_noise(image_hu, image_hu if tissue_hu is None else tissue_hu)
    except ValueError:
        return float("nan")


def known(about: pd.DataFrame) -> list[str]:
    """What is known of all slices, in words. Args: about: of ``stacks``."""
    lengths = [name for name in ("pixel_mm", "thickness_mm") if about[name].notna().all()]
    return ["kernel"] * bool((about["kernel"] != "unknown").all()) + [WORDS[name][0] for name in lengths]


def strange(training: Training, about: pd.DataFrame) -> list[str]:
    """What of the slices' headers is far from the training's, a sentence each. Args: about: of ``stacks``."""
    found = []
    kernels = about["kernel"][(about["kernel"] != "unknown") & bool(training.kernels)]
    for kernel, count in kernels[~kernels.isin(training.kernels)].value_counts().items():
        found.append(f"kernel {kernel}, trained on {', '.join(training.kernels)} ({count} of {len(about)} slices)")
    for quantity in ("pixel_mm", "thickness_mm"):
        for value, count in about[quantity].round(3).value_counts().items():
            if training.is_far(quantity, value):
                found.append(f"{training.told(quantity, value)} ({count} of {len(about)} slices)")
    return found
