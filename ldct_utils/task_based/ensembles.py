"""Detection tasks whose truth is known: lesions at known places, with many noise realisations of one scan.

The noise-free slice and each lesion are reconstructed once. Noise is drawn alone, in a crop, from the covariance that
the projections give it (``crop_noise``), since all is linear after the logarithm. As in ``dose.scan``, an image of a
lower dose is the normal-dose image plus inserted noise, so that the two are a pair.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import ndimage

from ldct_utils.ct import fbp
from ldct_utils.ct.crop_noise import CropNoise
from ldct_utils.ct.dose import N0, TUBE, centre_of, check_dose, lesion_image, photons
from ldct_utils.phantom.organs import LABELS
from ldct_utils.phantom.patient import patient
from ldct_utils.task_based import observers

BORDER_MM = 15.0  # between a lesion and the crop's edge, so that a network and an observer see its surroundings
GAP_MM = 18.0  # between the centres of two lesions of a crop
PAIRED = 20  # noise realisations for a contrast: the same noise with and without the lesion, so that few are enough
EDGE_MM = 3.0  # between a lesion's rim and the organ's


@dataclass(frozen=True)
class Lesion:
    """A disc in the slice: radius in mm and contrast in HU, negative where darker than its surroundings.

    ``stretch``: of an ellipse of the disc's area, its width over its height.
    """

    radius_mm: float
    contrast_hu: float
    stretch: float = 1.0

    @property
    def text(self) -> str:
        return f"{self.radius_mm:g} mm, {self.contrast_hu:+g} HU"


@dataclass
class Ensemble:
    """Noise realisations of one crop, with and without its lesions.

    Attributes:
        clean: (H, W), HU, noise-free reconstruction without lesions. signals: (L, H, W), HU, what each lesion adds.
        places: (L, 2), row and column of each lesion in the crop.
        normal: (2, N, H, W), HU, noise of the normal dose; first the realisations of the absent class.
        inserted: (2, N, H, W), HU, further noise, which half the dose would add; 0 and 1 as for ``normal``.
        scanned: the noise's covariance at the normal dose, in 1/mm.
    """

    clean: np.ndarray
    signals: np.ndarray
    places: np.ndarray
    lesions: tuple[Lesion, ...]
    normal: np.ndarray
    inserted: np.ndarray
    pixel_mm: float
    scanned: CropNoise

    def truth(self, present: bool) -> np.ndarray:
        """Noise-free crop (H, W), HU; with all lesions if ``present``."""
        return self.clean + self.signals.sum(0) if present else self.clean

    def images(self, present: bool, dose: float) -> np.ndarray:
        """All realisations (N, H, W) of a class at a dose, HU.

        The same noise, rescaled, serves every dose: sqrt((1-a)/a) times the inserted noise (``inserted_variance``
        without electronic noise). Realisations and classes are independent, doses of one realisation are not.
        """
        a = check_dose(dose)
        noise = self.normal[int(present)]
        if a < 1:
            noise = noise + np.float32(np.sqrt((1 - a) / a)) * self.inserted[int(present)]
        return self.truth(present) + noise

    def region(self, images, lesion: int, size: int) -> np.ndarray:
        """The square of ``size`` pixels (odd) around a lesion, (..., size, size). Raises: ValueError: if cut off."""
        return region(images, self.places[lesion], size)

    def ideal(self, signal, place, size: int, dose: float) -> float:
        """d' of the observer that knows everything (``observers.ideal``) at a dose, in ``size`` pixels around a place.

        Args: signal: (H, W), HU, by which the classes differ. place: row and column. size: odd.
        """
        to_hu = 1000 / fbp.MU_WATER
        (row, column), half = place, size // 2
        here = np.s_[row - half : row + half + 1, column - half : column + half + 1]
        lag = np.arange(size)[:, None] - np.arange(size)  # negative ones lie at the end of the torus
        texture = self.scanned.covariance[lag[:, None, :, None], lag[None, :, None, :]]  # row, column, row', column'
        sd = self.scanned.sd[here].ravel() * to_hu
        correlation = texture.reshape(size * size, -1) / self.scanned.covariance[0, 0]
        return observers.ideal(signal[here], correlation * np.outer(sd, sd)) * np.sqrt(check_dose(dose))


def region(images, place, size: int) -> np.ndarray:
    """The square of ``size`` pixels (odd) around a place (row, column). Raises: ValueError: if cut off.

    Args: images: (..., H, W). Returns: (..., size, size).
    """
    row, column = (int(at) - size // 2 for at in place)
    height, width = images.shape[-2:]
    if size % 2 == 0 or min(row, column) < 0 or row + size > height or column + size > width:
        raise ValueError(f"a region of {size} pixels (odd) around {place} leaves the crop")
    return images[..., row : row + size, column : column + size]


def disc(shape, place, radius_px: float, stretch: float = 1.0) -> np.ndarray:
    """How much of each pixel a disc around ``place`` (row, column) fills, 0-1, (H, W); see ``Lesion`` for stretch."""
    y, x = np.ogrid[: shape[0], : shape[1]]
    root = stretch**0.5
    return np.clip(0.5 + radius_px - np.hypot((y - place[0]) * root, (x - place[1]) / root), 0, 1).astype(np.float32)


def cylinder(diameter_mm: float = 300.0, hu: float = 60.0, pixel_mm: float = 0.75) -> np.ndarray:
    """A scene (G, G) for ``ensemble``: a cylinder of one material in air, HU."""
    side = int(np.ceil(diameter_mm / pixel_mm / 2)) * 2 + 17
    inside = disc((side, side), ((side - 1) / 2, (side - 1) / 2), diameter_mm / 2 / pixel_mm)
    return -1000 + (hu + 1000) * inside


def find_places(organ, lesions, pixel_mm: float, size: int):
    """Places for lesions deep in an organ, near enough to share a crop.

    Args: organ: boolean (H, W). size: side of the crop, pixels.
    Returns: (L, 2) rows and columns, the largest lesion deepest; None where the organ has no room for them.
    """
    depth = ndimage.distance_transform_edt(organ) * pixel_mm
    y, x = np.mgrid[: organ.shape[0], : organ.shape[1]]
    reach = size - 2 * int(np.ceil(BORDER_MM / pixel_mm))
    places = np.zeros((len(lesions), 2), int)
    done = []
    for index in np.argsort([-lesion.radius_mm for lesion in lesions], kind="stable"):
        free = depth.copy()
        for row, column in done:
            free[np.hypot(y - row, x - column) * pixel_mm < GAP_MM] = 0
        for axis, at in ((y, 0), (x, 1)):  # all lesions and their surroundings fit in the crop
            if done:
                taken = [place[at] for place in done]
                free[(axis - min(taken) >= reach) | (max(taken) - axis >= reach)] = 0
        place = np.unravel_index(free.argmax(), free.shape)
        if free[place] < lesions[index].radius_mm + EDGE_MM:
            return None
        places[index] = place
        done.append(place)
    return places


def patients(count: int, lesions, size: int = 96, seed: int = 0, organ: str = "liver", tries: int = 20):
    """Simulated abdomens with room for the lesions, one slice each, with the crop that holds them.

    Patients without room (a small liver in that slice) are passed over. Seeds are pairs of numbers, which no cohort's
    patient has: networks have not seen them.

    Yields: (patient, crop (top, left, size, size) of its scene, places (L, 2) in the crop).
    Raises: ValueError: if ``tries`` patients for each that is wanted are not enough.
    """
    taken = 0
    for number in range(tries * count):
        body = patient([seed, number], "abdomen", slices=1)
        places = find_places(body.organ_masks[0] == LABELS[organ], lesions, body.pixel_mm, size)
        if places is None:
            continue
        places = places + np.array(body.crop[:2])
        middle = (places.min(0) + places.max(0) + 1) // 2
        corner = [int(np.clip(m - size // 2, 0, full - size)) for m, full in zip(middle, body.scene.shape[1:])]
        yield body, (*corner, size, size), places - corner
        taken += 1
        if taken == count:
            return
    raise ValueError(
        f"only {taken} of {tries * count} simulated patients have room in the {organ} for the lesions (number: "
        f"{len(lesions)}, the largest {max(lesion.radius_mm for lesion in lesions):g} mm); take fewer or smaller ones"
    )


def ensemble(scene, pixel_mm, crop, lesions=(), places=(), realisations=200, seed=0, kernel="B30", n0=None,
             present=None) -> Ensemble:  # fmt: skip
    """Noise realisations of one slice in a crop.

    Args:
        scene: (G, G'), HU, the whole body without lesions. pixel_mm: pixel side.
        crop: (top, left, height, width) of what is reconstructed. lesions, places: see ``Ensemble``.
        realisations: a class. seed: fixes the noise. kernel: a name in ``fbp.KERNELS``.
        n0: photons as in ``dose.photons``; None for the abdomen's routine.
        present: (G, G'), the same scene with lesions of any shape, in place of ``lesions``: all of them are one signal.
    Noise is Gaussian, of the variance that photon counts give the line integrals. The bias of the logarithm, 1/(2N) and
    the same with and without a lesion, is left out, as is the change of noise by the lesion itself.
    """
    if realisations < 1:
        raise ValueError(f"an ensemble needs at least one realisation a class, got {realisations}")
    scene, shape = np.asarray(scene, np.float32), tuple(crop[2:])
    top, left = crop[:2]
    if scene.ndim != 2 or min(top, left) < 0 or top + shape[0] > scene.shape[0] or left + shape[1] > scene.shape[1]:
        raise ValueError(f"crop {crop} lies outside a scene of shape {scene.shape}")
    centre = centre_of(crop, scene.shape, pixel_mm)
    lines = fbp.project(fbp.to_mu(scene), pixel_mm)
    to_hu = np.float32(1000 / fbp.MU_WATER)
    clean = fbp.reconstruct(lines, pixel_mm, shape, kernel, centre) * to_hu - 1000
    signals = [
        lesion.contrast_hu * _disc_image(place, lesion, scene.shape, pixel_mm, crop, lines.shape, kernel)
        for lesion, place in zip(lesions, places, strict=True)
    ]
    if present is not None:
        signals.append(lesion_image(present, scene, pixel_mm, lines.shape, centre, shape, kernel))
    expected = photons(lines, N0 * TUBE["abdomen"] if n0 is None else n0)
    scanned = CropNoise(1 / expected, pixel_mm, shape, kernel, centre)
    noise = [
        [scanned.draw(realisations, np.random.default_rng([*np.atleast_1d(seed), which, present])) * to_hu
         for present in (0, 1)]
        for which in (0, 1)
    ]  # fmt: skip
    signals = np.stack(signals) if signals else np.zeros((0, *shape), np.float32)
    places = np.asarray(places, int).reshape(-1, 2)
    return Ensemble(clean, signals, places, tuple(lesions), *map(np.stack, noise), pixel_mm, scanned)


def livers(count: int, lesions, realisations: int, size: int = 96, seed: int = 0, kernel: str = "B30"):
    """Noise realisations of a crop of the liver of simulated patients, with and without lesions: yields ``Ensemble``.

    Args: count: patients; size: side of the crops, pixels; the others as of ``patients`` and ``ensemble``.
    """
    for number, (body, crop, places) in enumerate(patients(count, lesions, size, seed)):
        scene = body.absent_scene[0]
        yield ensemble(scene, body.pixel_mm, crop, lesions, places, realisations, [seed, number], kernel)


def _disc_image(place, lesion, scene_shape, pixel_mm, crop, sinogram_shape, kernel):
    """Reconstruction (H, W) of a lesion of 1 HU; only a box around it is projected."""
    widest = max(lesion.stretch, 1 / lesion.stretch) ** 0.5 * lesion.radius_mm
    half = int(np.ceil(widest / pixel_mm)) + 2
    row, column = crop[0] + place[0], crop[1] + place[1]
    box = (row - half, column - half, 2 * half + 1, 2 * half + 1)
    part = disc(box[2:], (half, half), lesion.radius_mm / pixel_mm, lesion.stretch) / np.float32(1000)
    lines = fbp.project(part, pixel_mm, *sinogram_shape, centre_of(box, scene_shape, pixel_mm))
    centre = centre_of(crop, scene_shape, pixel_mm)
    return fbp.reconstruct(lines, pixel_mm, crop[2:], kernel, centre) * np.float32(1000)


def detections(made: Ensemble, classes, size: int, kind: str = "laguerre_gauss"):
    """How well each lesion is detected by the channelised Hotelling (CHO) and the non-prewhitening observer (NPW).

    Args: classes: images (N, H, W), HU, of the absent and the present class. size: side of what an observer sees,
        pixels, odd. kind: of the Hotelling observer's channels.
    Yields: observer, lesion (number), quantity ("d'" or "AUC"), value and its jackknife interval low, high.
    """
    for number, lesion in enumerate(made.lesions):
        seen = [made.region(images, number, size) for images in classes]
        signal = made.region(made.signals[number], number, size)
        found = {
            "CHO": observers.cho(*seen, lesion.radius_mm / made.pixel_mm, kind),
            "NPW": observers.npw(*seen, signal),
        }
        for observer, detected in found.items():
            head = {"observer": observer, "lesion": number}
            yield head | {"quantity": "d'", "value": detected.d_prime, "low": detected.d_low, "high": detected.d_high}
            yield head | {"quantity": "AUC", "value": detected.auc, "low": detected.auc_low, "high": detected.auc_high}


def lesion_scores(denoisers, lesions, count: int = 6, dose: float = 0.25, realisations: int = 200, size: int = 96,
                  region: int = 33, seed: int = 0, kernel: str = "B30", progress=iter) -> pd.DataFrame:  # fmt: skip
    """What denoisers leave of known lesions: their contrast and how well they are detected.

    Every denoiser sees the same noise of the same simulated abdomens, which no network was trained on. The contrast is
    the mean, over the pixels where the lesion has half its height, of f(x + lesion) - f(x), x the same noise; of a
    linear f it does not depend on x. d' is that of independent noise in either class.

    Args:
        denoisers: {name: function of images (N, H, W), HU, that gives images alike}; ``lambda hu: hu`` for FBP itself.
        lesions: see ``Lesion``. count: patients, ``size`` the side of their crops. dose: fraction of the normal one.
        realisations: a class, for d'. region: side of what an observer sees, pixels, odd.
        progress: function of the patients that gives them back, e.g. ``partial(tqdm, total=count)``.
    Returns: a row a patient, name and lesion: patient, name, lesion (number), radius_mm, contrast_hu (of the disc),
        true_hu (contrast in the noise-free image), found_hu (after f), kept (found / true: 1 all, 0 nothing), d_cho
        (Hotelling observer with Laguerre-Gauss channels) and d_npw (non-prewhitening). The patient is the unit: e.g.
        ``intervals.patient_bootstrap`` of the (patients, seeds) of a method, or of differences between two.
    Raises: ValueError: as ``patients``, ``ensemble`` and ``Ensemble.region``.
    """
    lesions, rows = tuple(lesions), []
    for person, (body, crop, places) in enumerate(progress(patients(count, lesions, size, seed))):
        made = ensemble(body.absent_scene[0], body.pixel_mm, crop, lesions, places, realisations,
                        [*np.atleast_1d(seed), person], kernel)  # fmt: skip
        absent, present = made.images(False, dose), made.images(True, dose)
        without = absent[:PAIRED]
        for name, denoise in denoisers.items():
            classes = denoise(absent), denoise(present)
            added = (denoise(without + made.signals.sum(0)) - classes[0][: len(without)]).mean(0)
            for number, lesion in enumerate(lesions):
                signal = made.signals[number]
                inside = np.abs(signal) > np.abs(signal).max() / 2
                true, found = (float(image[inside].mean(dtype=np.float64)) for image in (signal, added))
                seen = [made.region(images, number, region) for images in classes]
                d_cho = observers.cho(*seen, lesion.radius_mm / made.pixel_mm).d_prime
                d_npw = observers.npw(*seen, made.region(signal, number, region)).d_prime
                rows.append(
                    {"patient": person, "name": name, "lesion": number, "radius_mm": lesion.radius_mm,
                     "contrast_hu": lesion.contrast_hu, "true_hu": true, "found_hu": found, "kept": found / true,
                     "d_cho": d_cho, "d_npw": d_npw}
                )  # fmt: skip
    return pd.DataFrame(rows)


def cnr(image_hu, inside, around) -> float:
    """Contrast-to-noise ratio |mean inside - mean around| / SD over the pixels of ``around`` (boolean (H, W) each)."""
    image_hu = np.asarray(image_hu, np.float64)
    return float(abs(image_hu[inside].mean() - image_hu[around].mean()) / image_hu[around].std(ddof=1))
