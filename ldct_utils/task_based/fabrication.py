"""Fine structure that comes back in every noise realisation: how much there is, and whether the truth has less.

Powers by frequency are those of ``resolution.Coherence``, HU^2 mm^2, by patient. What is repeatable and incoherent with
the truth bounds from above what was invented; repeatable power beyond the truth's own is the *surplus*.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import ndimage
from scipy.stats import t as student

from ldct_utils.ct import degradations
from ldct_utils.stats import intervals
from ldct_utils.task_based import resolution

POWERS = ["truth", "output", "coherent", "repeatable", "fabricated"]


def controls(made, dose: float, seed=0) -> dict[str, np.ndarray]:
    """What stands beside networks, (N, H, W), HU: linear images of the truth, a median filter, and a known invention.

    Args: made: ``ensembles.Ensemble`` of anatomy. dose: of the low-dose images. seed: of the pasted texture.
    """
    low, truth, pixel = made.images(False, dose), made.truth(False), made.pixel_mm
    return {
        "FBP, dose 1": made.images(False, 1.0),
        f"FBP, dose {dose:g}": low,
        "blurred": degradations.degrade("blur", low, 0.8, pixel),
        "unsharp masked": degradations.degrade("unsharp", low, 1.0, pixel),
        "texture pasted": low + (degradations.degrade("texture", truth[None], 5.0, pixel, seed) - truth),
        "median filter": ndimage.median_filter(low, (1, 3, 3)),
    }


def spectrum(images, truth, pixel_mm: float) -> pd.DataFrame:
    """``resolution.coherence`` as a table: a row a frequency, with truth, output, coherent and repeatable power."""
    found = resolution.coherence(images, truth, pixel_mm)
    return pd.DataFrame(
        {"frequency": found.frequencies} | {name: getattr(found, name) for name in POWERS if name != "fabricated"}
    )


def of_patients(spectra) -> pd.DataFrame:
    """Means over training seeds of the powers, by method, patient and frequency, and the fabricated one."""
    powers = spectra.groupby(["method", "patient", "frequency"], sort=False).mean(numeric_only=True).reset_index()
    return powers.assign(fabricated=powers["repeatable"] - powers["coherent"])


def fine(powers, least: float) -> pd.DataFrame:
    """A row a patient: mean square, HU^2, of what is finer than ``least`` lp/mm, for each of ``POWERS``.

    Args: powers: of one method, from ``of_patients``; integrated over the rings of the frequency plane.
    """
    part = powers[powers["frequency"] >= least - 1e-9]
    area = resolution.ring_rms(1, part["frequency"]) ** 2
    return pd.DataFrame({name: (part[name] * area).groupby(part["patient"]).sum() for name in POWERS})


@dataclass(frozen=True)
class Surplus:
    """Repeatable power over the truth's at ``frequency``, lp/mm, where that is highest.

    ratio: by patient. least: lower bound of its mean, by t of the logarithms (few patients are too few for a bootstrap
    that far out), corrected for the number of frequencies among which this one was picked. hu: RMS beyond the truth's.
    """

    frequency: float
    ratio: pd.Series
    least: float
    hu: float

    @property
    def mean(self) -> float:
        return self.ratio.mean()

    @property
    def exceeds(self) -> bool:
        """Whether there is more than the truth has: by 5 % and, where patients allow an interval, beyond it."""
        return bool(self.mean > 1.05 and (len(self.ratio) < intervals.MIN_PATIENTS or self.least > 1))


def surplus(powers) -> Surplus:
    """The highest surplus of one method. Args: powers: its rows of ``of_patients``."""
    ratio = powers.assign(ratio=powers["repeatable"] / powers["truth"])
    ratio = ratio.pivot(index="patient", columns="frequency", values="ratio")
    at, patients = ratio.mean().idxmax(), len(ratio)
    logs, tail = np.log(ratio[at].clip(lower=1e-6)), intervals.ALPHA / 2 / len(ratio.columns)
    least = np.exp(logs.mean() + student.ppf(tail, max(patients - 1, 1)) * logs.std() / np.sqrt(patients))
    ring = powers[powers["frequency"] == at]
    beyond = resolution.ring_rms((ring["repeatable"] - ring["truth"]).mean(), at)
    return Surplus(float(at), ratio[at], float(least), float(beyond))
