"""Observers before known denoisers and networks: a row an observer, task and image.

``trial`` reads the rows and says which observers may be believed.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import norm
from scipy.stats import t as student

from ldct_utils.task_based import ensembles, equivalence, npwe, observers, scanning, tasks
from ldct_utils.task_based.observers import Detection

RETRAINED, KEPT, NPW, NPWE = "CHO, retrained", "CHO, learned on FBP", "NPW", "NPWE"
SEARCH, SEARCH_KEPT = "search, retrained", "search, learned on FBP"
CNR = "contrast over noise"


@dataclass(frozen=True)
class Shown:
    """What an observer is shown: regions of both classes, the same of the plain reconstruction, and what it looks for.

    absent, present, plain: (N, n, n) each, plain a pair; of a search whole images. difference: (n, n), of the classes
    after processing. where: see ``tasks.Scene``. maps: of a search, ``scanning.everywhere``. internal: N_i of the NPWE.
    ``plain`` has the lesion in its second class in any case; with ``zero`` absent and present are both without.
    """

    target: tasks.Target
    absent: np.ndarray
    present: np.ndarray
    plain: tuple
    difference: np.ndarray
    signal: np.ndarray
    pixel_mm: float
    internal: float
    where: np.ndarray | None = None
    maps: list | None = None
    zero: bool = False


def _cho(shown, trained_on=None):
    return observers.cho(shown.absent, shown.present, shown.target.radius_px, shown.target.channels, trained_on)


def _search(shown, trained_on=None):
    return scanning.search(
        shown.absent, shown.present, shown.where, shown.target.radius_px, tasks.REGION, trained_on=trained_on,
        anywhere=shown.zero, maps=shown.maps,
    )  # fmt: skip


def contrast_over_noise(shown) -> Detection:
    """Contrast of a single image over the SD of the pixels around: no observer, and known to reward any smoothing."""
    weight = np.abs(shown.signal) > np.abs(shown.signal).max() / 2
    away = np.abs(shown.signal) < np.abs(shown.signal).max() / 50
    sign = np.where(weight, np.sign(shown.signal), 0)
    contrast = [images @ (sign.ravel() / weight.sum()) for images in map(_flat, (shown.absent, shown.present))]
    noise = _flat(shown.present)[:, away.ravel()].std(1)

    def measure(used):
        gap, spread = contrast[1][used].mean() - contrast[0][used].mean(), noise[used].mean()
        if spread == 0:
            raise observers.NoNoise("no noise around the lesion")
        return gap / spread, norm.cdf(gap / spread / 2**0.5)

    return observers.jackknifed(measure, len(noise))


def _flat(images):
    return np.asarray(images, np.float64).reshape(len(images), -1)


AT_PLACE: dict[str, Callable[[Shown], Detection]] = {
    RETRAINED: _cho,
    KEPT: lambda shown: _cho(shown, shown.plain),
    NPW: lambda shown: observers.npw(shown.absent, shown.present, shown.signal),
    NPWE: lambda shown: npwe.npwe(shown.absent, shown.present, shown.difference, shown.pixel_mm, shown.internal),
    CNR: contrast_over_noise,
}
SEARCHING: dict[str, Callable[[Shown], Detection]] = {
    SEARCH: _search,
    SEARCH_KEPT: lambda shown: _search(shown, shown.plain),
}


def asked(observer, shown: Shown) -> Detection:
    """The observer's result; one that sees a difference without noise is never wrong."""
    try:
        return observer(shown)
    except observers.NoNoise:
        return observers.certain(len(shown.absent))


def internal_noise(scene: tasks.Scene, share: float = npwe.SHARE) -> float:
    """N_i, HU^2 mm^2, fixed once: on the plain reconstruction at full dose of the first target's lesion."""
    target, images = scene.targets[0], scene.images(1.0)
    regions = [ensembles.region(x, target.place, tasks.REGION) for x in (*images, target.signal)]
    return npwe.internal_noise(*regions, scene.pixel_mm, share)


def _shown(target, scene, outputs, plain, difference, internal, maps, halves=False):
    """What an observer sees of a target; with ``halves`` two halves of the absent class, between which is nothing."""

    def cut(images):
        return images if target.place is None else ensembles.region(images, target.place, tasks.REGION)

    absent, present = map(cut, outputs)
    learned, where = tuple(map(cut, plain)), scene.where
    if halves:
        count = len(absent) // 2
        absent, present = absent[:count], absent[count : 2 * count]
        maps = None if maps is None else [maps[0][:count], maps[0][count : 2 * count]]
        learned = learned[0][:count], learned[1][count : 2 * count]
        where = None if where is None else where[count : 2 * count]
    seen = difference if target.place is None else cut(difference)
    signal = target.signal if target.place is None else cut(target.signal)
    return Shown(target, absent, present, learned, seen, signal, scene.pixel_mm, internal, where, maps, halves)


def judge(scene: tasks.Scene, controls: dict, doses, low: float, internal: float, progress=iter,
          at_place=AT_PLACE, searching=SEARCHING) -> pd.DataFrame:  # fmt: skip
    """Every observer before every image of a scene.

    Args:
        controls: {name: function}, see ``tasks.controls``; the first leaves images as they are. doses: rising, at which
            the first is looked at; the others only at ``low``, one of them. internal: see ``internal_noise``.
        progress: wraps the pairs of dose and control, e.g. ``tqdm``. at_place, searching: the observers.
    Returns: a row a task, observer, image and whether the lesions were taken out (``zero``): task, observer, image,
        dose, zero, d_prime, d_se, auc, auc_se (jackknife standard errors), chance, best (AUC of an observer that knows
        everything, of the plain image), gap and gap_se: d' minus that of the plain image of this dose, or, of the plain
        image itself, minus that of the lowest dose. worth, worth_low and worth_high: dose at which the plain image is
        as good, within the doses looked at, NaN for the plain image itself.
    """
    rows, found = [], {}
    plain, *_ = controls
    # the plain image of all doses first, since it is what the others are measured by
    looks = [(dose, plain) for dose in doses] + [(low, name) for name in controls if name != plain]
    for dose, image in progress(looks):
        given = scene.images(dose)
        outputs = scene.after(controls[image], given)
        difference = scene.difference(controls[image], given)
        for target in scene.targets:
            panel, maps = at_place, None
            if target.place is None:
                panel = searching
                maps = [scanning.everywhere(one, target.radius_px, tasks.REGION) for one in outputs]
            for observer, ask in panel.items():
                key, head = (
                    (target.name, observer),
                    {"task": target.name, "observer": observer, "image": image, "dose": dose},
                )
                shown = _shown(target, scene, outputs, given, difference, internal, maps)
                one = found[*key, image, dose] = asked(ask, shown)
                other = found[*key, plain, low if image != plain else doses[0]]
                curve = [found[*key, plain, d] for d in doses] if image != plain else None
                best = norm.cdf(target.ideal * np.sqrt(dose / 2))
                rows.append(head | {"zero": False} | _row(one, other) | {"best": best} | _worth(one, curve, doses))
                if not (image == tasks.TRUTH and scene.known):  # two images that are alike hold nothing to be asked
                    nothing = asked(ask, _shown(target, scene, outputs, given, difference, internal, maps, halves=True))
                    rows.append(head | {"zero": True} | _row(nothing) | {"best": 0.5})
    return pd.DataFrame(rows)


def _row(one: Detection, other: Detection | None = None):
    d_se, auc_se = observers.spread(one.left_out) if np.isfinite(one.d_prime) else (0.0, 0.0)
    gap, gap_se = observers.difference(one, other) if other is not None else (np.nan, np.nan)
    return {"d_prime": one.d_prime, "d_se": d_se, "auc": one.auc, "auc_se": auc_se, "chance": one.chance,
            "gap": gap, "gap_se": gap_se}  # fmt: skip


def _worth(one: Detection, curve, doses):
    """Dose at which the plain image is as good, with its jackknife interval; both within the doses looked at."""
    if curve is None:
        return {"worth": np.nan, "worth_low": np.nan, "worth_high": np.nan}

    def dose(values, target):
        return np.log(np.clip(equivalence.dose_reaching(doses, values, target), doses[0], doses[-1]))

    middle = dose([c.d_prime for c in curve], one.d_prime)
    groups = zip(*(c.left_out[:, 0] for c in curve), one.left_out[:, 0])
    left_out = np.array([dose(values, target) for *values, target in groups])
    reach = student.ppf(0.975, len(left_out) - 1) * observers.spread(left_out)
    ends = np.clip([middle - reach, middle + reach], np.log(doses[0]), np.log(doses[-1]))
    return dict(zip(("worth", "worth_low", "worth_high"), np.exp([middle, *ends])))
