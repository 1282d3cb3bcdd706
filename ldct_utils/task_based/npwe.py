"""Non-prewhitening observer with an eye filter and internal noise (NPWE): a reader who cannot use what is too faint.

An observer without internal noise sees a lesion of a thousandth of an HU, if the noise is as faint. A reader's own
noise is of fixed size, so that an image whose contrast has faded is worse to read, and one with little noise is not
infinitely good. With S the spectrum of the mean difference between the classes, E the eye filter and N_i the power of
the internal noise,

    d'^2 = [int S^2 E^2]^2 / (int S^2 E^4 NPS + N_i int S^2 E^2).

N_i is fixed once (``internal_noise``) and is the same number for all images: noise in proportion to the image's own
would divide every d' by the same factor and change no ranking.

Source: Burgess, Li and Abbey 1997, J Opt Soc Am A 14:2420 (eye filter f^1.3 exp(-c f^2), peak at 4 cycles/degree).
"""

import numpy as np
from scipy.stats import norm

from ldct_utils.task_based import observers
from ldct_utils.task_based.observers import Detection

EXPONENT = 1.3
PEAK = 4.0  # cycles a degree
DISTANCE_MM = 500.0  # of the eye from the screen, on which the image has its true size
SHARE = 0.6  # variance of the internal noise over that of the image's, by which N_i is fixed


def eye_filter(size: int, pixel_mm: float, distance_mm: float = DISTANCE_MM) -> np.ndarray:
    """E at the frequencies of a region, (n, n), zero frequency first; 1 at the peak of 4 cycles a degree, 0 at zero.

    Args: size: n, pixels. pixel_mm: of a pixel on the screen. distance_mm: of the eye; at 500 mm the peak lies at
        0.46 cycles a mm.
    """
    f = np.fft.fftfreq(size, pixel_mm)
    degrees = np.hypot(f[:, None], f) * distance_mm * np.pi / 180 / PEAK  # cycles a degree, 1 at the peak
    return degrees**EXPONENT * np.exp(EXPONENT / 2 * (1 - degrees**2))


class _Seen:
    """Spectra of both classes and of the signal in a region, and the three integrals of d'."""

    def __init__(self, absent, present, signal, pixel_mm, distance_mm):
        signal = np.asarray(signal, np.float64)
        if np.ndim(absent) != 3 or np.shape(absent) != np.shape(present) or np.shape(absent)[1:] != signal.shape:
            shapes = ", ".join(str(np.shape(one)) for one in (absent, present, signal))
            raise ValueError(f"NPWE takes two classes (N, n, n) of one shape and a signal (n, n), got {shapes}")
        size = len(signal)
        self.squared = eye_filter(size, pixel_mm, distance_mm).ravel() ** 2
        self.template = np.fft.fft2(signal).ravel() * pixel_mm**2  # HU mm^2
        self.spectra = [np.fft.fft2(np.asarray(x, np.float64)).reshape(len(x), -1) for x in (absent, present)]
        self.powers = [np.abs(one) ** 2 for one in self.spectra]
        self.pixel_mm, self.cell = pixel_mm, 1 / (size * pixel_mm) ** 2  # of the frequency plane, 1/mm^2

    def integrals(self, used):
        """Of the difference seen, of the image's noise and of what multiplies N_i, over the realisations ``used``."""
        share = used / used.sum()
        means = [share @ one for one in self.spectra]
        noise = sum(share @ power - np.abs(mean) ** 2 for power, mean in zip(self.powers, means)) / 2
        noise *= used.sum() / (used.sum() - 1)  # the mean is that of the same realisations
        nps = noise * self.pixel_mm**2 / len(noise)  # HU^2 mm^2
        seen, weight = (means[1] - means[0]) * self.pixel_mm**2, np.abs(self.template) ** 2 * self.squared
        whole = (self.template.conj() * seen).real @ self.squared, weight @ (self.squared * nps), weight.sum()
        return [value * self.cell for value in whole]


def internal_noise(absent, present, signal, pixel_mm: float, share: float = SHARE, distance_mm=DISTANCE_MM) -> float:
    """N_i, HU^2 mm^2, at which the internal noise has ``share`` of the variance that these images' own noise has.

    Give the plain reconstructions at full dose. With the usual .6 their d' falls to 1 / sqrt(1.6) = 79 %.

    Args: as for ``npwe``.
    """
    seen = _Seen(absent, present, signal, pixel_mm, distance_mm)
    _, image, internal = seen.integrals(np.ones(len(absent), bool))
    return float(share * image / internal)


def npwe(absent, present, signal, pixel_mm: float, internal: float, distance_mm: float = DISTANCE_MM) -> Detection:
    """NPWE with internal noise.

    The template comes from ``signal`` and the difference that it finds from the images, so that d' may come out
    negative, and is 0 on average where there is nothing to find.

    Args:
        absent, present: (N, n, n), regions around the lesion's place, HU.
        signal: (n, n), the mean difference that the observer looks for, HU: as it is after processing, best from the
            same noise with and without the lesion.
        pixel_mm: of a pixel on the screen. internal: N_i, HU^2 mm^2. distance_mm: see ``eye_filter``.
    Returns: Detection, AUC = Phi(d' / sqrt 2). Where ``signal`` is nothing there is nothing to see, and d' is 0.
    Raises: ValueError: for shapes that do not fit, or an internal noise that is not positive.
    """
    if not internal > 0:
        raise ValueError(f"internal noise is a power above 0 HU^2 mm^2, got {internal!r}")
    seen = _Seen(absent, present, signal, pixel_mm, distance_mm)

    def measure(used):
        found, image, own = seen.integrals(used)
        d_prime = found / np.sqrt(image + internal * own) if own > 0 else 0.0
        return d_prime, norm.cdf(d_prime / 2**0.5)

    return observers.jackknifed(measure, len(absent))
