"""Dose reduction: photon noise in simulated scans, and noise inserted into real normal-dose series.

A low-dose slice is the normal-dose slice's own projections plus the missing noise, as the Mayo data were made, so the
LDCT contains the NDCT's noise. After the logarithm all is linear, hence noise is reconstructed by itself and added.
"""

from dataclasses import dataclass

import numpy as np

from ldct_utils.ct import fbp, nps

N0 = 6.5e5  # photons a detector cell and view behind nothing, AEC_REFERENCE patient: 10-15 HU in the liver with B30
# Routine tube output relative to the abdomen's: heads are scanned for 4 HU or so, chests bear more noise.
TUBE = {"abdomen": 1.0, "chest": 0.5, "head": 3.0}
OWN = "own"  # kernel: the noise texture of the slice itself
OWN_NOISE = (0.5, 200.0)  # HU, fine part of a slice's own noise: rounding to whole HU alone makes 0.3
# Noise over all frequencies against the slice's own, where the fine part is equal: real series of four scanners, with
# three kernels each, lie under 1.1; a kernel that is far too smooth for the series gives 2.3. Small values say nothing:
# what looks like much noise of the slice's own may be anatomy.
TEXTURE = 1.35
AEC_REFERENCE = 5.0  # line integral of the patient for whom the tube gives N0
AEC_STRENGTH = (
    0.5  # tube current follows exp(strength * line integral): constant noise at least dose (Gies et al. 1999)
)
BOWTIE_RADIUS_MM = 210.0  # the bow-tie filter makes rays beside the centre as weak as if a part ...
BOWTIE_STRENGTH = 0.4  # ... of a water cylinder of this radius were to be evened out


@dataclass
class Scan:
    """A simulated scan: images (S, H, W), float32 HU. The lesion-absent twins carry the very same noise."""

    ndct: np.ndarray
    ldct: np.ndarray
    noise_free: np.ndarray
    absent_ndct: np.ndarray | None = None
    absent_ldct: np.ndarray | None = None


def check_dose(dose: float) -> float:
    """The dose as a float. Raises: ValueError: unless it is a fraction in (0, 1]."""
    if isinstance(dose, bool) or not 0 < dose <= 1:
        raise ValueError(f"dose is a fraction of the normal dose in (0, 1], got {dose!r}")
    return float(dose)


def photons(lines, n0: float = N0, aec: float = AEC_STRENGTH) -> np.ndarray:
    """Expected photons in each detector cell: N0 exp(-p), weakened by a bow-tie, tube current modulated view by view.

    Args:
        lines: (views, count), line integrals p.
        n0: photons of an unattenuated central ray where the patient's largest line integral is ``AEC_REFERENCE``.
        aec: exponent of the automatic exposure control; 0 switches it off.
    """
    if not n0 > 0:
        raise ValueError(f"n0 is a number of photons > 0, got {n0!r}")
    offset = (np.arange(lines.shape[1]) - (lines.shape[1] - 1) / 2) * fbp.DETECTOR_MM
    chord = 2 * np.sqrt(np.maximum(BOWTIE_RADIUS_MM**2 - offset**2, 0))
    bowtie = np.exp(-BOWTIE_STRENGTH * fbp.MU_WATER * (2 * BOWTIE_RADIUS_MM - chord))
    current = np.exp(aec * (lines.max(axis=1, keepdims=True) - AEC_REFERENCE))
    return n0 * current * bowtie * np.exp(-lines.astype(np.float64))


def inserted_variance(expected, dose: float, sigma_e: float = 0.0):
    """Variance that takes line integrals from normal to low dose: (1-a)/(a N) [1 + (1+a)/a sigma_e^2/N].

    Args:
        expected: photons N at normal dose, any shape. dose: a in (0, 1]. sigma_e: electronic noise in photons.
    Source: Yu et al. 2012, J Comput Assist Tomogr 36:477, Eq. 8; Zabic et al. 2013, Med Phys 40:031102.
    """
    a = check_dose(dose)
    return (1 - a) / (a * expected) * (1 + (1 + a) / a * sigma_e**2 / expected)


def log_noise(expected, sigma_e: float, rng) -> np.ndarray:
    """Noise of the measured line integrals: Poisson counts and Gaussian electronics, then the logarithm, minus truth.

    Counts under half a photon are read as half a photon. The logarithm of few photons is biased by 1/(2N): kept, as on
    a scanner, and reported by ``noise_checks.mean_hu``.
    """
    counts = rng.poisson(expected).astype(np.float64)
    if sigma_e:
        counts += rng.normal(0, sigma_e, counts.shape)
    return (np.log(expected) - np.log(np.maximum(counts, 0.5))).astype(np.float32)


def scan(truth_hu, pixel_mm, dose=0.25, kernel="B30", seed=0, n0=N0, sigma_e=0.0, absent=None, crop=None,
         realisation=0, independent=False, views=fbp.VIEWS, aec=AEC_STRENGTH) -> Scan:  # fmt: skip
    """Scan noise-free slices at normal and low dose.

    Args:
        truth_hu: (S, H, W), HU, the whole patient: a body cut off by the frame is scanned as one that ends there.
        pixel_mm: pixel side. dose: of the LDCT, in (0, 1]. kernel: a name in ``fbp.KERNELS``.
        seed: fixes all noise; a slice's noise depends on the seed and its position in the stack.
        n0, aec: as in ``photons``. sigma_e: electronic noise, photons.
        absent: (S, H, W) lesion-absent twin of ``truth_hu``, or None.
        crop: (top, left, height, width) of the part to reconstruct, pixels; None for everything.
        realisation: another number draws other low-dose noise for the same NDCT.
        independent: draw the low dose's photons anew, so that the LDCT does not contain the NDCT's noise.
        views: angles over 180 degrees.
    Returns: Scan, HU, not rounded or clipped.
    Raises: ValueError: for shapes that do not fit, a dose outside (0, 1], an unknown kernel.
    """
    truth_hu = np.asarray(truth_hu)
    check_dose(dose)
    fbp.apodisation(kernel)
    if truth_hu.ndim != 3:
        raise ValueError(f"slices to scan need shape (S, H, W), got {truth_hu.shape}")
    if absent is not None and np.shape(absent) != truth_hu.shape:
        raise ValueError(f"the lesion-absent twin has shape {np.shape(absent)}, the truth {truth_hu.shape}")
    top, left, height, width = crop or (0, 0, *truth_hu.shape[1:])
    if min(top, left) < 0 or top + height > truth_hu.shape[1] or left + width > truth_hu.shape[2]:
        raise ValueError(f"crop {crop} lies outside the slices of shape {truth_hu.shape[1:]}")
    centre = centre_of((top, left, height, width), truth_hu.shape[1:], pixel_mm)
    images = {name: [] for name in ("ndct", "ldct", "noise_free", "absent_ndct", "absent_ldct")}

    def image(sinogram):
        return fbp.reconstruct(sinogram, pixel_mm, (height, width), kernel, centre) * np.float32(1000 / fbp.MU_WATER)

    for number, slice_hu in enumerate(truth_hu):
        lines = fbp.project(fbp.to_mu(slice_hu), pixel_mm, views)
        expected = photons(lines, n0, aec)
        rng = np.random.default_rng([*np.atleast_1d(seed), number])
        low_rng = np.random.default_rng([*np.atleast_1d(seed), number, 1 + realisation])
        normal_noise = log_noise(expected, sigma_e, rng)
        clean = image(lines) - 1000
        ndct = clean + image(normal_noise)
        if independent:
            ldct = clean + image(log_noise(dose * expected, sigma_e, low_rng))
        else:
            spread = np.sqrt(inserted_variance(expected, dose, sigma_e))
            ldct = ndct + image(low_rng.standard_normal(lines.shape, np.float32) * spread)
        images["ndct"].append(ndct)
        images["ldct"].append(ldct)
        images["noise_free"].append(clean)
        if absent is not None:
            # The twin differs by the lesions alone, and images are linear in line integrals: same noise, lesions gone.
            lesions = lesion_image(slice_hu, absent[number], pixel_mm, lines.shape, centre, (height, width), kernel)
            images["absent_ndct"].append(ndct - lesions)
            images["absent_ldct"].append(ldct - lesions)
    return Scan(**{name: np.stack(stack) if stack else None for name, stack in images.items()})


def simulate(patient, dose: float = 0.25, kernel: str = "B30", seed: int = 0, **options) -> Scan:
    """Scan a simulated patient (``phantom.patient``): the whole body is projected, the stored window reconstructed.

    ``options`` are those of ``scan``; ``n0`` is multiplied by the anatomy's routine tube output, ``TUBE``.
    """
    n0 = options.pop("n0", N0) * TUBE[patient.anatomy]
    return scan(patient.scene, patient.pixel_mm, dose, kernel, seed, n0, absent=patient.absent_scene, crop=patient.crop,
                **options)  # fmt: skip


def centre_of(crop, shape, pixel_mm: float) -> tuple[float, float]:
    """(y, x) in mm of the centre of ``crop`` (top, left, height, width) from the centre of an image of ``shape``."""
    top, left, height, width = crop
    return (top + height / 2 - shape[0] / 2) * pixel_mm, (left + width / 2 - shape[1] / 2) * pixel_mm


def lesion_image(present, absent, pixel_mm, sinogram_shape, centre, shape, kernel):
    """What the lesions of a slice contribute to its reconstruction, HU; only the box around them is projected.

    Args: present, absent: scenes (G, G'), HU. sinogram_shape: (views, cells). centre, shape: of the reconstruction.
    """
    difference = np.asarray(present, np.float32) - np.asarray(absent, np.float32)
    rows, columns = np.flatnonzero(difference.any(1)), np.flatnonzero(difference.any(0))
    if not rows.size:
        return np.zeros(shape, np.float32)
    box = rows[0], columns[0], np.ptp(rows) + 1, np.ptp(columns) + 1
    part = difference[box[0] : box[0] + box[2], box[1] : box[1] + box[3]] / 1000
    views, count = sinogram_shape
    lines = fbp.project(part, pixel_mm, views, count, centre_of(box, difference.shape, pixel_mm))
    return fbp.reconstruct(lines, pixel_mm, shape, kernel, centre) * np.float32(1000)


@dataclass
class NoiseKernel:
    """Noise texture measured on a scanner: 2-D noise power spectrum (n, n), HU^2 mm^2, zero frequency first."""

    spectrum: np.ndarray
    pixel_mm: float


def measured_kernel(differences, tissue_hu, pixel_mm: float, size: int = 32) -> NoiseKernel:
    """Noise kernel of a scanner from images whose difference is noise alone.

    Args:
        differences: (S, H, W), LDCT - NDCT of paired slices, HU.
        tissue_hu: (S, H, W), the NDCT, which tells where flat soft tissue is.
    Raises: ValueError: where no flat soft tissue of ``size`` pixels is found.
    """
    return NoiseKernel(nps.spectrum(differences, tissue_hu, pixel_mm, size), pixel_mm)


def unit_noise(image_hu, pixel_mm: float, kernel: str, rng, views: int = fbp.VIEWS) -> np.ndarray:
    """Noise image of a slice's own attenuation, HU, (H, W), at the photon numbers of ``photons`` with N0 = 1."""
    lines = fbp.project(fbp.to_mu(image_hu), pixel_mm, views)
    sinogram = rng.standard_normal(lines.shape, np.float32) / np.sqrt(photons(lines, 1.0))
    return fbp.reconstruct(sinogram, pixel_mm, image_hu.shape, kernel) * np.float32(1000 / fbp.MU_WATER)


def low_dose_from_image(ndct_hu, pixel_mm, dose=0.25, kernel="hann", seed=0, noise_kernel=None, views=fbp.VIEWS):
    """Low-dose version of a real normal-dose slice or series: noise is reconstructed and added, anatomy is untouched.

    The slice is projected, noise of variance (1-a)/(a N0 exp(-p)) is reconstructed, and N0 is found slice by slice from
    the slice's own noise in soft tissue, since a fixed N0 is right for one scanner and patient only.

    The level is set by what is fine in the noise. It is checked by what was not used to set it, the SD over all
    frequencies in flat tissue: a kernel whose noise is of another texture would add too much or too little.

    Args:
        ndct_hu: (H, W) or (S, H, W), HU. pixel_mm: pixel side. dose: in (0, 1].
        kernel: a name in ``fbp.KERNELS``, the nearest to the series' own; ``hann`` is fitted to no data. ``own``
            measures the texture in the slice's own flat tissue, which holds some anatomy too.
        seed: fixes the noise; a slice's noise depends on the seed and its position in the stack.
        noise_kernel: None, or a ``NoiseKernel`` that shapes the noise instead of ``kernel``.
    Returns: LDCT, same shape, float32 HU.
    Raises: ValueError: for a slice without soft tissue to calibrate on, one whose own noise is not that of a CT, a
        kernel of another texture than the slice's, wrong shapes, dose or kernel.
    """
    ndct_hu = np.asarray(ndct_hu, np.float32)
    if ndct_hu.ndim == 3:
        return np.stack([
            low_dose_from_image(one, pixel_mm, dose, kernel, [*np.atleast_1d(seed), number], noise_kernel, views)
            for number, one in enumerate(ndct_hu)
        ])  # fmt: skip
    if ndct_hu.ndim != 2:
        raise ValueError(f"a normal-dose series needs shape (H, W) or (S, H, W), got {ndct_hu.shape}")
    a = check_dose(dose)
    if kernel != OWN:
        fbp.apodisation(kernel)
    own = nps.tissue_noise(ndct_hu, ndct_hu)
    if not OWN_NOISE[0] <= own <= OWN_NOISE[1]:
        raise ValueError(
            f"noise of {own:.2g} HU in soft tissue, where a CT at its normal dose has {OWN_NOISE[0]:g} to "
            f"{OWN_NOISE[1]:g} (fine part): the slice was denoised, compressed, segmented or stored in coarse steps, "
            "so its dose cannot be lowered by its own noise"
        )
    if kernel == OWN:
        noise_kernel = NoiseKernel(nps.spectrum(ndct_hu[None], ndct_hu[None], pixel_mm), pixel_mm)
    drawn = unit_noise(ndct_hu, pixel_mm, "ramp" if kernel == OWN else kernel, np.random.default_rng(seed), views)
    if noise_kernel is not None:
        drawn = _reshape(drawn, ndct_hu, pixel_mm, noise_kernel)
    level = own / nps.tissue_noise(drawn, ndct_hu)
    ratio = level * nps.flat_noise(drawn, ndct_hu) / nps.flat_noise(ndct_hu, ndct_hu)
    if ratio > TEXTURE:
        raise ValueError(
            f"noise of kernel {kernel} is of another texture than this slice's: set right where noise is fine, it "
            f"would be {ratio:.2g} times as strong over all frequencies; kernel={OWN} measures it in the slice itself"
        )
    return ndct_hu + np.float32(level * np.sqrt((1 - a) / a)) * drawn


def _reshape(drawn, tissue_hu, pixel_mm, wanted):
    """Filter a noise image so that its spectrum has the shape that was measured."""
    if not np.isclose(pixel_mm, wanted.pixel_mm, rtol=0.05):
        raise ValueError(f"the noise kernel was measured at {wanted.pixel_mm} mm pixels, the slice has {pixel_mm} mm")
    n = len(wanted.spectrum)
    padded = np.zeros(drawn.shape)
    padded[:n, :n] = nps.shaping_filter(nps.spectrum(drawn[None], tissue_hu[None], pixel_mm, n), wanted.spectrum)
    padded = np.roll(padded, (-(n // 2), -(n // 2)), (0, 1))
    return np.fft.irfft2(np.fft.rfft2(drawn) * np.fft.rfft2(padded), drawn.shape).astype(np.float32)


def at_dose(ndct, ldct, ldct_dose: float, dose: float) -> np.ndarray:
    """Slices at another dose, from a pair that shares the NDCT's noise: the inserted noise is scaled.

    After the logarithm all is linear and the inserted variance is proportional to (1 - a) / a (Yu et al. 2012, Eq. 8
    without electronic noise), hence NDCT + (LDCT - NDCT) sqrt((1/a - 1) / (1/a0 - 1)).

    Args: ndct, ldct: (N, H, W), HU. ldct_dose: a0 of the LDCT, in (0, 1). dose: a that is asked for, in (0, 1].
    """
    if not 0 < ldct_dose < 1 or not 0 < dose <= 1:
        raise ValueError(f"doses are fractions of the normal one, the LDCT's under 1; got {ldct_dose} and {dose}")
    ndct = np.asarray(ndct, np.float32)
    return ndct + np.float32(np.sqrt((1 / dose - 1) / (1 / ldct_dose - 1))) * (np.asarray(ldct, np.float32) - ndct)
