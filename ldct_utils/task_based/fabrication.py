"""Fine structure that comes back in every noise realisation: how much there is, and whether the truth has less.

Powers by frequency are those of ``resolution.Coherence``, HU^2 mm^2, by patient. What is repeatable and incoherent with
the truth bounds from above what was invented; repeatable power over the truth's own is the *surplus*.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import ndimage
from scipy.stats import t as student

from ldct_utils.ct import degradations
from ldct_utils.phantom.patient import patient
from ldct_utils.stats import intervals
from ldct_utils.task_based import ensembles, resolution

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


def spectra(denoisers, count: int, dose: float, realisations: int, side: int, seed: int = 0, kernel: str = "B30",
            progress=iter) -> pd.DataFrame:  # fmt: skip
    """Powers of the controls and of what denoisers make of low-dose images of anatomy full of edges.

    Args:
        denoisers: (method, seed, function of images (N, H, W), HU, that gives images alike). count: simulated abdomens.
        dose: fraction of the normal one. realisations: of the noise. side: of the middle that is looked at, pixels.
        progress: wraps the numbers of the patients, e.g. ``tqdm``.
    Returns: a row a patient, method (controls first, with seed -1), seed and frequency: see ``spectrum``.
    """
    tables = []
    for number in progress(range(count)):
        body = patient([seed, 1000 + number], "abdomen", slices=1)
        scene = body.absent_scene[0]
        crop = (*((full - side) // 2 for full in scene.shape), side, side)
        made = ensembles.ensemble(
            scene, body.pixel_mm, crop, realisations=realisations, seed=[seed, 1, number], kernel=kernel
        )
        low, truth = made.images(False, dose), made.truth(False)
        outputs = [(name, -1, images) for name, images in controls(made, dose, [seed, number]).items()]
        outputs += [(method, its_seed, denoise(low)) for method, its_seed, denoise in denoisers]
        for method, its_seed, images in outputs:
            found = spectrum(images, truth, made.pixel_mm)
            tables.append(pd.DataFrame({"patient": number, "method": method, "seed": its_seed} | dict(found)))
    return pd.concat(tables, ignore_index=True)


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


SHARES = {  # {what a share is, as an axis says it: (power above, power below)}
    "coherence² with the truth": ("coherent", "output"),
    "repeatable and incoherent power / truth's": ("fabricated", "truth"),
    "repeatable power / truth's": ("repeatable", "truth"),
}

HEADS = {  # what the columns of ``summary`` are called where they are read, value and interval in one
    **{(name, f"{name}_low", f"{name}_high"): head for name, head in {
        "coherence": "share that follows the truth", "coherent": "power that follows the truth, over its own",
        "repeatable": "power that recurs in every scan, over the truth's", "surplus": "highest surplus"}.items()},
    "frequency": "at, lp/mm", ("incoherent", "incoherent_low", "incoherent_high"): "recurs, not the truth's, HU",
}  # fmt: skip


def shares(powers, draws: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Shares of power (``SHARES``) by method and frequency: mean, low and high over patients.

    Args: powers: of ``of_patients``. draws, seed: of the bootstrap over patients.
    """
    rows = []
    for name, (above, below) in SHARES.items():
        part = powers.assign(value=powers[above] / powers[below])
        for (method, frequency), values in part.groupby(["method", "frequency"], sort=False)["value"]:
            span = intervals.patient_bootstrap(values, draws=draws, seed=seed)
            rows.append({"share": name, "method": method, "frequency": frequency, "mean": span.mean, "low": span.low,
                         "high": span.high})  # fmt: skip
    return pd.DataFrame(rows)


def signed_rms(power) -> pd.Series:
    """RMS, HU, of the incoherent repeatable power of every patient, with its sign. Args: power: of ``fine``."""
    return np.sign(power["fabricated"]) * np.sqrt(power["fabricated"].abs())


def summary(powers, least: float, draws: int = 2000, seed: int = 0) -> pd.DataFrame:
    """What of an image's fine structure is the truth's, what only repeats, and what is noise: a row a method.

    Args: powers: of ``of_patients``. least: lp/mm above which structure is fine. draws, seed: of the bootstrap.
    Returns: method, then over patients, each with its interval (``_low``, ``_high``): coherence, coherent and
        repeatable (over the truth's power), surplus (the highest one, at ``frequency``, lp/mm), incoherent and noise,
        HU RMS; truth, HU RMS, exceeds and excess_hu, see ``Surplus``.
    """
    rows = []
    for method, part in powers.groupby("method", sort=False):
        power, top = fine(part, least), surplus(part)
        quantities = {
            "coherence": power["coherent"] / power["output"], "coherent": power["coherent"] / power["truth"],
            "repeatable": power["repeatable"] / power["truth"], "surplus": top.ratio, "incoherent": signed_rms(power),
            "noise": np.sqrt((power["output"] - power["repeatable"]).clip(lower=0)),
        }  # fmt: skip
        row = {"method": method}
        for name, values in quantities.items():
            span = intervals.patient_bootstrap(values, draws=draws, seed=seed)
            row |= {name: span.mean, f"{name}_low": span.low, f"{name}_high": span.high}
        rows.append(row | {"frequency": top.frequency, "truth": float(np.sqrt(power["truth"]).mean()),
                           "exceeds": top.exceeds, "excess_hu": top.hu})  # fmt: skip
    return pd.DataFrame(rows)
