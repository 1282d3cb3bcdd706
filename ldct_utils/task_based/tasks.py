"""Images on which observers are put to the test: detection tasks, and known denoisers before them.

Every scene has two classes of images with noise of their own. In a uniform cylinder everything but the noise is known;
in livers of simulated patients each background is used once. The known denoisers are those of which one knows what a
good observer must say: a blur destroys fine detail, an eraser takes lesions away, unsharp masking adds nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ldct_utils.ct import fbp
from ldct_utils.ct.dose import centre_of, check_dose
from ldct_utils.models import textbook
from ldct_utils.phantom.organs import LABELS
from ldct_utils.phantom.patient import patient
from ldct_utils.task_based import ensembles, scanning
from ldct_utils.task_based.ensembles import Lesion

CEILING, FINE, LARGE, SHAPE = "everything known", "1 mm", "large and faint", "round or elongated"
SEARCH, FINE_SEARCH, PATIENTS = "search", "search, 1 mm", "patients"
LESIONS = {  # at a quarter of the dose the best observer's d' is 1.7 to 3, of the large one 7
    CEILING: Lesion(4.0, -10.0),
    FINE: Lesion(1.0, -50.0),
    LARGE: Lesion(5.0, -20.0),
    SHAPE: Lesion(4.0, -30.0, 2.0),  # against a disc of the same area and contrast
    SEARCH: Lesion(3.0, -20.0),
    FINE_SEARCH: Lesion(1.0, -90.0),
    PATIENTS: Lesion(3.0, -20.0),
}
CORNERS = ((24, 24), (24, 71), (71, 24), (71, 71))  # of crops of 96 pixels: regions of 33 do not overlap
BEHIND = 60.0  # HU of the cylinder, which is not water but as bright as soft tissue
SIDE, REGION, WIDER = 96, 33, 49  # pixels; the last is what the ideal observer sees
COARSE, MARGIN = 2, 16  # patients are drawn with pixels twice as wide; pixels of theirs around a crop
PAIRED = 40  # realisations for the mean difference: the same noise in both classes, so that few are enough

PLAIN = "LDCT"
ERASER, FADE, TRUTH = "eraser, lesion alone", "eraser, lesion and noise", textbook.TRUTH
CONTROLS = (PLAIN, *textbook.FILTERS, ERASER, FADE, TRUTH)  # images beside those of networks
ERASED = 0.8  # share of the lesion that the erasers take away


@dataclass(frozen=True)
class Target:
    """What is to be found: a lesion by which the classes differ.

    place: row and column; None where it differs from image to image. channels: of the Hotelling observer. signal:
    (H, W), HU, in the middle where there is no place. ideal: d' at the normal dose of who knows everything.
    """

    name: str
    place: tuple | None
    radius_px: float
    channels: str
    signal: np.ndarray
    ideal: float = np.nan


@dataclass(frozen=True)
class Scene:
    """Two classes of N images.

    background: (2, N or 1, H, W), HU, noise-free, without what the present class has more. added: what that is, (H, W)
    or (N, H, W), HU. normal, inserted: (2, N, H, W), noise as of ``ensembles.Ensemble``. where: (N, 2), the place in
    each image of a search. ``known``: whether the backgrounds are all the same.
    """

    background: np.ndarray
    added: np.ndarray
    normal: np.ndarray
    inserted: np.ndarray
    targets: tuple[Target, ...]
    pixel_mm: float
    where: np.ndarray | None = None

    @property
    def known(self) -> bool:
        return self.background.shape[1] == 1

    def images(self, dose: float) -> list[np.ndarray]:
        """The images of both classes at a dose, (N, H, W), HU; the same noise, rescaled, serves every dose."""
        a = check_dose(dose)
        noise = self.normal + np.float32(np.sqrt((1 - a) / a)) * self.inserted
        return [np.float32(self.background[c] + c * self.added + noise[c]) for c in (0, 1)]

    def after(self, control, images) -> list[np.ndarray]:
        """Both classes after a denoiser (see ``controls``)."""
        return [control(images[c], self.background[c], c * self.added) for c in (0, 1)]

    def difference(self, control, images) -> np.ndarray:
        """Mean difference after a denoiser, (H, W), HU, from the same noise with and without what is added."""
        few, behind = images[0][:PAIRED], self.background[0][:PAIRED]
        added = self.added if self.added.ndim == 2 else self.added[: len(few)]
        pair = [control(few + c * added, behind, c * added) for c in (0, 1)]
        return (pair[1] - pair[0]).mean(0, dtype=np.float64)


# ---- scenes ----
def known_places(realisations: int, seed=0, kernel: str = "B30", pixel_mm: float = 0.75) -> Scene:
    """Four tasks at known places of a cylinder of 300 mm and ``BEHIND`` HU, in one pair of images."""
    scene = ensembles.cylinder(300.0, BEHIND, pixel_mm)
    names = (CEILING, FINE, LARGE, SHAPE)
    round_one = Lesion(LESIONS[SHAPE].radius_mm, LESIONS[SHAPE].contrast_hu)
    lesions, places = [*(LESIONS[name] for name in names), round_one], [*CORNERS, CORNERS[-1]]
    made = ensembles.ensemble(scene, pixel_mm, _middle(scene), lesions, places, realisations, seed, kernel)
    behind = made.clean + made.signals[-1]  # the absent class has the round one
    signals = [*made.signals[:3], made.signals[3] - made.signals[4]]
    targets = tuple(
        Target(name, place, lesion.radius_mm / pixel_mm, "gabor" if name == SHAPE else "laguerre_gauss", signal,
               made.ideal(signal, place, WIDER, 1.0))
        for name, lesion, place, signal in zip(names, lesions, places, signals)
    )  # fmt: skip
    return Scene(np.stack([behind[None]] * 2), sum(signals), made.normal, made.inserted, targets, pixel_mm)


def searched(name: str, realisations: int, seed=0, kernel: str = "B30", pixel_mm: float = 0.75, step=2) -> Scene:
    """A lesion at random places of the same cylinder: of ``LESIONS``, ``SEARCH`` or ``FINE_SEARCH``."""
    scene, lesion = ensembles.cylinder(300.0, BEHIND, pixel_mm), LESIONS[name]
    middle = (SIDE // 2, SIDE // 2)
    made = ensembles.ensemble(scene, pixel_mm, _middle(scene), (lesion,), [middle], realisations, seed, kernel)
    places = scanning.grid(made.clean.shape, REGION, step)
    where = places[np.random.default_rng([*np.atleast_1d(seed), 2]).integers(len(places), size=realisations)]
    signal = made.signals[0]
    moved = np.stack([ndimage.shift(signal, place - np.array(middle), order=0) for place in where])
    target = Target(name, None, lesion.radius_mm / pixel_mm, "laguerre_gauss", signal,
                    made.ideal(signal, middle, WIDER, 1.0))  # fmt: skip
    return Scene(np.stack([made.clean[None]] * 2), moved, made.normal, made.inserted, (target,), pixel_mm, where)


def in_patients(backgrounds: int, seed=0, kernel: str = "B30", pixel_mm: float = 0.75, progress=iter) -> Scene:
    """A lesion in the livers of simulated patients, each of which is used once, in one of the classes.

    What an observer sees lies in the liver, with its vessels and its texture. The noise is that of the cylinder: of the
    patients only the anatomy varies.

    Args: backgrounds: patients, of which each class has half. progress: wraps their numbers, e.g. ``tqdm``.
    Raises: ValueError: for an odd number.
    """
    if backgrounds % 2:
        raise ValueError(f"both classes take as many backgrounds, so their number is even, not {backgrounds}")
    scene, lesion, middle = ensembles.cylinder(300.0, BEHIND, pixel_mm), LESIONS[PATIENTS], (SIDE // 2, SIDE // 2)
    half = backgrounds // 2
    made = ensembles.ensemble(
        scene, pixel_mm, _middle(scene), (lesion,), [middle], half, [*np.atleast_1d(seed), 3], kernel
    )
    livers = _livers(seed, REGION / 2 * pixel_mm, pixel_mm, kernel)
    clean = np.stack([next(livers) for _ in progress(range(backgrounds))])
    target = Target(PATIENTS, middle, lesion.radius_mm / pixel_mm, "laguerre_gauss", made.signals[0])
    return Scene(clean.reshape(2, half, SIDE, SIDE), made.signals[0], made.normal, made.inserted, (target,), pixel_mm)


def _livers(seed, reach_mm, pixel_mm, kernel):
    """Noise-free crops (H, W), HU, around random places of livers, one a patient, without end."""
    number, side = 0, SIDE // COARSE + 2 * MARGIN
    while True:
        rng = np.random.default_rng([*np.atleast_1d(seed), 4, number])
        body = patient([*np.atleast_1d(seed), 5, number], "abdomen", slices=1, pixel_mm=COARSE * pixel_mm)
        number += 1
        depth = ndimage.distance_transform_edt(body.organ_masks[0] == LABELS["liver"]) * COARSE * pixel_mm
        corners = np.argwhere(depth > reach_mm) + np.array(body.crop[:2]) - side // 2
        scene = body.absent_scene[0]
        corners = corners[(corners >= 0).all(1) & (corners + side <= scene.shape).all(1)]
        if len(corners):
            window = (*corners[rng.integers(len(corners))], side, side)
            yield reconstructed(scene, window, COARSE * pixel_mm, pixel_mm, kernel)


def reconstructed(scene, window, coarse_mm: float, pixel_mm: float, kernel: str) -> np.ndarray:
    """Noise-free reconstruction (``SIDE``, ``SIDE``), HU, of the middle of a window of a scene.

    Only the window is projected: what lies ``MARGIN`` away changes next to nothing.

    Args: scene: (G, G'), HU. window: (top, left, height, width) in it. coarse_mm: its pixels, pixel_mm: of the result.
    """
    top, left, height, width = window
    part = scene[top : top + height, left : left + width]
    level = np.float32(np.median(part))
    centre = centre_of(window, scene.shape, coarse_mm)
    cells = fbp.detector_count(scene.shape, coarse_mm)
    lines = fbp.project((part - level) / np.float32(1000), coarse_mm, fbp.VIEWS, cells, centre)
    return fbp.reconstruct(lines, pixel_mm, (SIDE, SIDE), kernel, centre) * np.float32(1000) + level


def _middle(scene):
    return (*((full - SIDE) // 2 for full in scene.shape), SIDE, SIDE)


# ---- known denoisers ----
def controls(pixel_mm: float = 0.75, tv_hu: float = 30.0) -> dict[str, Callable]:
    """Known denoisers: functions of images (N, H, W), of the noise-free background behind them and of what a lesion
    adds to it (0 where there is none), all HU. Only the erasers and the truth use the last two.

    The eraser takes ``ERASED`` of the lesion away and leaves the noise. The one that fades all does so with noise and
    lesion alike: the information is still there, the contrast is not.
    """

    def unaware(of_images):
        return lambda images, background, added: of_images(images)

    return {
        PLAIN: lambda images, background, added: images,
        **{name: unaware(one) for name, one in textbook.filters(pixel_mm, tv_hu).items()},
        ERASER: lambda images, background, added: images - np.float32(ERASED) * added,
        FADE: lambda images, background, added: background + np.float32(1 - ERASED) * (images - background),
        TRUTH: lambda images, background, added: np.broadcast_to(np.float32(background + added), images.shape),
    }
