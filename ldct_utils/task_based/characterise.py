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
import pandas as pd
from scipy import optimize, special

from ldct_utils.ct import dose as scans
from ldct_utils.ct import fbp
from ldct_utils.stats import intervals
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
DECIDES, NOISY = "kept", "kept, internal noise"  # whose verdict counts, and the same with internal noise
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


@dataclass(frozen=True)
class Span:
    """Ends of an interval, NaN where there are too few patients for one."""

    low: float
    high: float


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


HEADS = {  # what the columns of ``both_tasks`` are called where they are read, value and interval in one
    ("detection", "detection_low", "detection_high"): "detection: d′ over that of FBP",
    ("shape", "shape_low", "shape_high"): "shape: d′ over that of FBP", "said": "detection helped, shape harmed",
}  # fmt: skip


def measure_all(several, denoisers: dict, contrasts, wanted: float, dose: float, shares, kind: str, side: int,
                internal: float, progress=iter) -> pd.DataFrame:  # fmt: skip
    """``measure`` of several patients, each task at the contrast at which plain reconstructions have one d', and more.

    Args:
        several: ``Case``, patients. denoisers: {(name, training): function of images}. contrasts: HU, looked at beside
            each task's own. wanted: d' of plain reconstructions, which fixes that. kind, side: of the observer's
            channels and its region, pixels. progress: wraps the patients, e.g. ``tqdm``. The others as of ``measure``.
    Returns: a row a patient, denoiser (``name``, ``seed``), strength, task, contrast and observer; ``solved`` at a
        task's own contrast.
    """
    several, rows, levels = list(several), [], {}
    channels = [observers.channels(kind, side, case.radius_px) for case in several]
    for task in TASKS:
        pairs = [plain(case, task, dose, own) for case, own in zip(several, channels)]
        levels[task] = [contrast_for(pairs, wanted), *contrasts]
    for number, (case, own) in enumerate(zip(progress(several), channels)):
        for found in measure(case, denoisers, levels, dose, shares, own, internal):
            name = found.pop("name")
            name, training = name if isinstance(name, tuple) else (name, 0)
            solved = found["contrast_hu"] == levels[found["task"]][0]
            rows.append({"patient": number, "name": name, "seed": training, "solved": solved} | found)
    return pd.DataFrame(rows)


def ratios(measured: pd.DataFrame, draws: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Ratio of d' to that of plain reconstructions, with its interval over patients and trainings.

    Args: measured: of ``measure_all``. draws, seed: of the bootstrap.
    Returns: a row a denoiser, strength, task, contrast and observer: d_prime (mean), ratio, low, high, seeds, solved.
    """
    keys, out = ["task", "contrast_hu", "observer"], []
    wide = measured.pivot_table(
        index=["name", "share", *keys], columns=["patient", "seed"], values="d_prime", sort=False
    )
    for (name, share, *key), row in wide.iterrows():
        values = row.dropna().unstack("seed").to_numpy()
        without = wide.loc[(FBP, 1.0, *key)].dropna().to_numpy()
        span = intervals.patient_bootstrap(ratio_to(values, without), draws=draws, seed=seed)
        head = {"name": name, "share": share} | dict(zip(keys, key)) | {"d_prime": values.mean()}
        out.append(head | {"ratio": span.mean, "low": span.low, "high": span.high, "seeds": span.seeds})
    table = pd.DataFrame(out)
    own = measured[measured["solved"]].groupby("task")["contrast_hu"].first()
    return table.assign(solved=table["contrast_hu"] == table["task"].map(own))


def both_tasks(found: pd.DataFrame, judged) -> pd.DataFrame:
    """Ratios of both tasks at their own contrasts side by side, and what they say of the claim.

    Args: found: of ``ratios``. judged: names of images of which the claim is asked; all others are controls.
    Returns: a row an image, strength (``share``) and observer: each task with its ``_low`` and ``_high``, and said.
    """
    parts = []
    for task in TASKS:
        part = found[found["solved"] & (found["task"] == task)].set_index(["name", "share", "observer"])
        parts.append(part[["ratio", "low", "high"]].set_axis([task, f"{task}_low", f"{task}_high"], axis=1))
    table = pd.concat(parts, axis=1).reset_index()
    said = [
        verdict(*(Span(getattr(one, f"{task}_low"), getattr(one, f"{task}_high")) for task in TASKS))
        if one.name in judged else "control"
        for one in table.itertuples(index=False)
    ]  # fmt: skip
    return table.assign(said=said)


def controls(table: pd.DataFrame, blur: str) -> dict[str, bool]:
    """What must come out before a denoiser is judged. Args: table: of ``both_tasks``. blur: name of a strong blur."""
    plain_ones, full = (table[table["name"] == name] for name in (FBP, FULL))
    blurred = table[(table["name"] == blur) & (table["share"] == 1) & (table["observer"] != CEILING)]
    return {
        "no denoising leaves both tasks as they are": bool((plain_ones[list(TASKS)] == 1).all(axis=None)),
        "the full dose helps both tasks": bool((full[[f"{task}_low" for task in TASKS]] > 1).all(axis=None)),
        "a strong blur harms shape": bool((blurred["shape_high"] < 1).all()),
    }


def reasons_against(came_out: dict, patients: int) -> list[str]:
    """Why no verdict can be given: too few patients, or the controls that failed. Empty: nothing is against one."""
    if patients < intervals.MIN_PATIENTS:
        return [f"fewer than {intervals.MIN_PATIENTS} patients give no interval"]
    return [f"the control “{words}” failed" for words, held in came_out.items() if not held]


def kept_ratios(whole: pd.DataFrame, names) -> dict:
    """{image: {``task, observer``: [ratio, low, high]}} of whole outputs; None for an end that is not known.

    Args: whole: of ``both_tasks``, whole outputs alone, indexed by name and observer. names: of images.
    """
    return {
        name: {
            f"{task}, {observer}": [None if np.isnan(v) else float(v)
                                    for v in whole.loc[(name, observer), [task, f"{task}_low", f"{task}_high"]]]
            for observer in OBSERVERS for task in TASKS
        }
        for name in names
    }  # fmt: skip


def check(dose: float, strengths):
    """Raises: ValueError: for a dose or strengths of which no comparison can be made."""
    if not 0 < dose < 1 or strengths[-1:] != [1.0] or not all(0 < share <= 1 for share in strengths):
        raise ValueError(f"dose lies between 0 and 1 and strengths in (0, 1] with 1 last, got {dose} and {strengths}")


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

    Args: detection, shape: what has ends low and high, of the ratio of d'. Without bounds nothing is shown.
    """
    if detection.high < 1 or shape.low > 1:
        return REFUTED
    helps, harms = detection.low > 1, shape.high < 1
    return {(True, True): CONFIRMED, (False, True): HARM_ALONE, (True, False): HELP_ALONE}.get((helps, harms), OPEN)
