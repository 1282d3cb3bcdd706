"""Two tasks that a denoiser may treat differently: is there a lesion (detection), and what is its shape?

Detection is a round lesion against none. Shape is a spiculated lesion, turned at random, against a round one of the
same area and contrast. Both are judged by the same channelised Hotelling observer. Its template is trained on plain
reconstructions (FBP) and *kept*, as for a reader who learned on FBP, or *retrained* for every kind of image. The
observer may have *internal noise* in its channels, the same for all images: then contrast that processing took away is
gone, while an observer without it undoes any smoothing that can be undone.

Channel outputs are linear in the image. So the outputs of a blend of an image with its denoised version are the blend
of both outputs, which makes one denoiser in many strengths cheap, and those of another contrast of FBP cost nothing.
"""

from dataclasses import dataclass

import numpy as np
from scipy import optimize, special

from ldct_utils.ct import dose as scans
from ldct_utils.ct import fbp
from ldct_utils.task_based import ensembles, observers

SPIKES, DEPTH = 8, 0.6  # of a spiculated lesion: number, and exponent of their length (r goes from .46 to 1.52 radii)
TURNS = 16  # ways in which a spiculated lesion may be turned, drawn for each patient
FINE = 5  # points a pixel side at which a shape is drawn; odd, so that one is the middle
TASKS = {"detection": ("absent", "round"), "shape": ("round", "spiculated")}
FBP, FULL = "FBP", "FBP, full dose"
# Is the template kept, and is there internal noise? What is retrained without internal noise is the ceiling: it undoes
# a blur as far as its channels can, so that no blur need harm it.
CEILING = "retrained"
OBSERVERS = {
    "kept": (True, False), CEILING: (False, False),
    "kept, internal noise": (True, True), "retrained, internal noise": (False, True),
}  # fmt: skip
STRONGEST = 1000.0  # HU: beyond which no contrast is looked for


def spiculated(shape, place, radius_px: float, turn: float = 0.0) -> np.ndarray:
    """How much of each pixel a spiculated lesion around ``place`` (row, column) fills, 0-1, (H, W).

    Its rim is r(a) = s exp(DEPTH cos(SPIKES a)), s such that its area is that of a disc of ``radius_px``.

    Args: turn: angle, radians; after 2 pi / SPIKES the shape is the same again.
    """
    offset = (np.arange(FINE) - FINE // 2) / FINE
    y, x = ((np.arange(n)[:, None] + offset).ravel() - at for n, at in zip(shape, place))
    angle = np.arctan2(y[:, None], x) - turn
    scale = radius_px / np.sqrt(special.iv(0, 2 * DEPTH))  # the mean of exp(2 D cos) is the Bessel function I0(2 D)
    inside = np.hypot(y[:, None], x) < scale * np.exp(DEPTH * np.cos(SPIKES * angle))
    return inside.reshape(shape[0], FINE, shape[1], FINE).mean((1, 3), dtype=np.float32)


@dataclass
class Case:
    """One patient: noise realisations of a crop and what lesions of 1 HU add to them.

    Attributes: made: ``ensembles.Ensemble`` with one round lesion. spikes: (TURNS, H, W), spiculated ones. turned: (N,)
    which of them each realisation has.
    """

    made: ensembles.Ensemble
    spikes: np.ndarray
    turned: np.ndarray

    @property
    def radius_px(self) -> float:
        return self.made.lesions[0].radius_mm / self.made.pixel_mm

    def images(self, kind: str, contrast_hu: float, dose: float) -> np.ndarray:
        """All realisations (N, H, W), HU, of one kind (absent, round or spiculated) at a dose.

        Round lesions have noise of their own; absent and spiculated ones share theirs, and never meet in a task.
        """
        noisy = self.made.images(False, dose) if kind != "round" else self.other(dose)
        if kind == "absent":
            return noisy
        signal = self.made.signals[0] if kind == "round" else self.spikes[self.turned]
        return noisy + np.float32(contrast_hu) * signal

    def other(self, dose: float) -> np.ndarray:
        """The realisations of the second noise, without a lesion."""
        return self.made.images(True, dose) - self.made.signals.sum(0)

    def responses(self, images, channels) -> np.ndarray:
        """Channel outputs (N, C) around the lesion."""
        size = int(np.sqrt(channels.shape[1]))
        return observers.respond(self.made.region(images, 0, size), channels)


def cases(count: int, radius_mm: float, realisations: int, crop: int = 64, seed: int = 0, kernel: str = "B30"):
    """Simulated abdomens, each with a lesion of 1 HU deep in the liver: yields ``Case``.

    Args: count: patients. realisations: a class. crop: side of the crops, pixels. The others as ``ensembles.ensemble``.
    Raises: ValueError: as ``ensembles.patients``.
    """
    lesion = (ensembles.Lesion(radius_mm, 1.0),)
    for number, (body, where, places) in enumerate(ensembles.patients(count, lesion, crop, seed)):
        scene = body.absent_scene[0]
        made = ensembles.ensemble(scene, body.pixel_mm, where, lesion, places, realisations, [seed, number], kernel)
        rng = np.random.default_rng([seed, number, 2])
        turns = rng.uniform(0, 2 * np.pi / SPIKES, TURNS)
        spikes = [_image(scene.shape, body.pixel_mm, where, places[0], radius_mm, turn, kernel) for turn in turns]
        yield Case(made, np.stack(spikes), rng.integers(TURNS, size=realisations))


def _image(scene_shape, pixel_mm, crop, place, radius_mm, turn, kernel):
    """Reconstruction (H, W) of a spiculated lesion of 1 HU; only a box around it is drawn and projected."""
    half = int(np.ceil(2 * radius_mm / pixel_mm))
    corner, side = np.array(crop[:2]) + place - half, 2 * half + 1
    scene = np.zeros(scene_shape, np.float32)
    box = tuple(slice(start, start + side) for start in corner)
    scene[box] = spiculated((side, side), (half, half), radius_mm / pixel_mm, turn)
    about = fbp.VIEWS, fbp.detector_count(scene_shape, pixel_mm)
    centre = scans.centre_of(crop, scene_shape, pixel_mm)
    return scans.lesion_image(scene, 0 * scene, pixel_mm, about, centre, crop[2:], kernel)


# ---- the observer ----
def d_prime(tested, trained=None, internal=0.0, folds: int = 2) -> float:
    """d' of a Hotelling template that is trained on one part of the realisations and tested on the other.

    Args:
        tested: both classes' channel outputs, (N, C) each. trained: those that the template learns from, realisation
            for realisation the same scans; None takes ``tested`` itself, as ``observers.detect`` does.
        internal: variances (C,) of the observer's own noise in its channels, in the training too. It is not drawn: its
            variance is added.
    """
    trained = tested if trained is None else trained
    own = np.diag(np.broadcast_to(internal, np.shape(tested[0])[1]))
    fold, found = np.arange(len(tested[0])) % folds, []
    for out in range(folds):
        first, second = (np.asarray(one)[fold != out] for one in trained)
        covariance = (np.cov(first.T) + np.cov(second.T)) / 2 + own
        template = np.linalg.lstsq(covariance, second.mean(0) - first.mean(0), rcond=1e-10)[0]
        scores = [np.asarray(one)[fold == out] @ template for one in tested]
        spread = np.sqrt((scores[0].var(ddof=1) + scores[1].var(ddof=1)) / 2 + template @ own @ template)
        found.append((scores[1].mean() - scores[0].mean()) / spread)
    return float(np.mean(found))


def contrast_for(pairs, wanted: float, sign: float = -1.0) -> float:
    """The contrast, HU, at which the mean d' of cases is as wanted.

    Args: pairs: for each case a function of the contrast that gives both classes' channel outputs. sign: -1 for dark
        lesions.
    Raises: ValueError: where no contrast up to ``STRONGEST`` HU reaches it.
    """

    def missing(size):
        return float(np.mean([d_prime(both(sign * size)) for both in pairs])) - wanted

    if missing(STRONGEST) < 0:
        raise ValueError(
            f"no contrast up to {STRONGEST:g} HU gives a mean d' of {wanted:g}: take a larger lesion or dose"
        )
    return float(sign * optimize.brentq(missing, 1e-3, STRONGEST, xtol=1e-3))


def plain(case: Case, task: str, dose: float, channels):
    """A function of the contrast, HU, for ``contrast_for``: both classes' channel outputs of plain reconstructions."""
    bare = [case.responses(case.images(kind, 0.0, dose), channels) for kind in TASKS[task]]
    signals = {"round": case.made.signals[:1], "spiculated": case.spikes}
    unit = {kind: case.responses(image, channels) for kind, image in signals.items()} | {"absent": np.zeros((1, 1))}
    unit["spiculated"] = unit["spiculated"][case.turned]
    return lambda contrast_hu: [noise + contrast_hu * unit[kind] for noise, kind in zip(bare, TASKS[task])]


def measure(case: Case, denoisers: dict, contrasts: dict, dose: float, shares, channels, internal: float):
    """d' of both tasks in plain reconstructions and in what denoisers make of them.

    Args:
        denoisers: {name: function of images (N, H, W), HU, that gives images alike}. contrasts: {task: [HU, ...]}.
        dose: fraction of the normal one. shares: of the denoised image in the blend with its input, in (0, 1]: the
            strengths. channels: (C, n * n), the observer's.
        internal: variance of the internal noise of the observers that have some, in units of each channel's variance
            in plain reconstructions at full dose.
    Yields: name (``FBP`` and ``FULL`` are plain reconstructions at this and at full dose), share, task, contrast_hu,
        observer (one of ``OBSERVERS``), d_prime.
    """
    used = {(kind, hu) for task, levels in contrasts.items() for hu in levels for kind in TASKS[task]}
    wanted = {("absent", 0.0), *(one for one in used if one[0] != "absent")}

    def outputs(f, at):
        return {key: case.responses(f(case.images(*key, at)), channels) for key in sorted(wanted)}

    known = outputs(np.asarray, dose)
    versions = {(FBP, 1.0): known, (FULL, 1.0): outputs(np.asarray, 1.0)}
    for name, f in denoisers.items():
        whole = outputs(f, dose)
        for share in shares:
            versions[name, share] = {key: (1 - share) * known[key] + share * whole[key] for key in known}
    noise = internal * versions[FULL, 1.0]["absent", 0.0].var(0, ddof=1)
    for (name, share), own in versions.items():
        for task, levels in contrasts.items():
            for hu in levels:
                both = [(kind, hu if kind != "absent" else 0.0) for kind in TASKS[task]]
                tested, learned = ([outputs_of[key] for key in both] for outputs_of in (own, known))
                head = {"name": name, "share": share, "task": task, "contrast_hu": hu}
                for observer, (keeps, noisy) in OBSERVERS.items():
                    found = d_prime(tested, learned if keeps else None, noisy * noise)
                    yield head | {"observer": observer, "d_prime": found}


def ratio_to(values, reference) -> np.ndarray:
    """Ratio of mean d' to the reference's mean d', one value a patient and seed whose mean is that ratio.

    The spread of the values is, to first order, that of the ratio (delta method), so that an interval of their mean is
    one of the ratio.

    Args: values: (patients, seeds). reference: (patients,).
    """
    values, reference = np.asarray(values, float), np.asarray(reference, float)[:, None]
    ratio = values.mean() / reference.mean()
    return ratio + (values - ratio * reference) / reference.mean()


CONFIRMED, REFUTED, OPEN = "confirmed", "refuted", "not shown"
HARM_ALONE, HELP_ALONE = "harm shown, help not", "help shown, harm not"


def verdict(detection, shape) -> str:
    """Does denoising help detection and harm the telling of shapes? From the intervals of both ratios to no denoising.

    Args: detection, shape: ``intervals.Interval`` of the ratio of d'. Without bounds nothing is shown.
    """
    if detection.high < 1 or shape.low > 1:
        return REFUTED
    helps, harms = detection.low > 1, shape.high < 1
    return {(True, True): CONFIRMED, (False, True): HARM_ALONE, (True, False): HELP_ALONE}.get((helps, harms), OPEN)
