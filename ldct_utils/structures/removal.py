"""Does a metric notice that a structure is gone? The removal experiment of Kachelriess, re-created.

A fraction q of the known structures is removed from a volume; white Gaussian noise of SD sigma, drawn independently, is
added to the volume with and without them, and both are scored against the clean original. The true positive fraction
(TPF) of a metric is the probability that it calls q worse than nothing removed, ties counting one half: .5 is chance.

Source: Kachelriess, "Problems in Assessing AI Image Quality", DKFZ, which gives neither grids nor the in-painting.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.optimize import brentq
from scipy.stats import norm

from ldct_utils import metrics, segments
from ldct_utils.ct import intensity
from ldct_utils.metrics import info, ranges
from ldct_utils.metrics.registry import REGISTER
from ldct_utils.segments.labels import members, renumbered
from ldct_utils.stats.intervals import patient_bootstrap, share_interval
from ldct_utils.structures import decathlon as msd
from ldct_utils.structures.volumes import Volume, remove, rng_of, taken

SIGMAS = (0.0, 5.0, 10.0, 20.0, 40.0, 80.0)  # HU
SRMSE = ("mean_srmse", "max_srmse")  # taken over the segments of the volume, not slice by slice
ORACLE = "mean_srmse (oracle)"  # an upper bound: its segments are the very structures that were removed
NEED_HU = ("noise_sd_hu", "vifp_eulig")  # look for soft tissue, or clip at air
WITHOUT_HU = {"name": "window", "anatomy": "abdomen"}  # shows all of a volume that was normalised (``decathlon``)
# Slices to a volume: PSNR and RMSE over all voxels, everything else as the mean over slices.
POOLED = {
    "psnr": (lambda value: 10 ** (-value / 10), lambda mean: -10 * np.log10(mean)),
    "rmse_hu": (np.square, np.sqrt),
}
TALK = (70 / 2**20, 310 / 2**20)  # share of the voxels of 16 slices of 256 x 256 that changed in the talk, q of 10 %
_BASELINE = 2_000_000  # noise of the volume that is whole; a fraction q has the number 1e6 q
AT_A_TIME = 20  # draws of the noise that are held at once by ``against_theory``
_AT_ONCE = 2**24  # voxels that are scored at once


def usable(volume: Volume, names: Sequence[str] | None = None) -> list[str]:
    """Full-reference metrics that can be taken of this volume here: weights are there, and its slices are large enough.

    ``metrics.available`` says what the others lack.
    """
    found = metrics.available(names or metrics.names("full-reference"))
    smallest = min(volume.image.shape[1:])
    return [
        name
        for name in found.loc[found["available"], "name"]
        if metrics.info(name).smallest <= smallest and (volume.unit == "HU" or name not in NEED_HU)
    ]


def over_segments(image) -> np.ndarray:
    """Segments of each slice of a volume (S, H, W), numbered through: each mask of a slice is a segment.

    Those of ``segments.segment`` with its defaults, of the clean original, as SRMSE asks.
    """
    maps = [segments.segment(one).regions for one in image]
    before = np.cumsum([0, *(one.max(initial=0) for one in maps)])
    return np.stack([np.where(one > 0, one + n, 0) for one, n in zip(maps, before)])


def tpf(
    volumes: Iterable[Volume],
    fractions: Sequence[float] = (0.1,),
    sigmas: Sequence[float] = SIGMAS,
    draws: int = 4,
    names: Sequence[str] | None = None,
    domain: intensity.Domain | None = None,
    method: str = "known",
    grow: int = 1,
    regions: Mapping[str, Callable] | None = None,
    seed: int = 0,
    device="cpu",
    progress: Callable | None = None,
) -> pd.DataFrame:
    """True positive fraction of every metric, volume by volume.

    Every draw of the volume with a fraction removed is compared with every draw of the whole one, which has the same
    expectation as comparing pairs and less variance. A volume's numbers depend on the seed and its name only, whatever
    other volumes, fractions, sigmas or metrics are asked for.

    Args:
        volumes: from ``volumes.from_cohort`` or ``decathlon.volumes``; may be a generator.
        fractions: q, in [0, 1]; a q of 0 is a control, whose TPF is .5. sigmas: SD of the added noise, >= 0, in the
            volumes' unit; one draw serves all of them.
        draws: of the noise, each for the whole volume and for every q.
        names: full-reference metrics; None takes all that can be taken (``usable``).
        domain: evaluation domain; None is ``hu``, or the window that shows all of a volume without HU.
        method, grow: of ``volumes.remove``.
        regions: further segments for SRMSE, name -> function of the clean volume (S, H, W) that gives labels of that
            shape. ``mean_srmse`` and ``max_srmse`` are over ``over_segments``.
        progress: wraps the volumes, e.g. ``tqdm``.
    Returns: long table, columns volume, q, sigma, metric, tpf, structures, removed (numbers of them), changed (voxels),
        error (RMS change of those, in the unit), pixels (of the volume). tpf is NaN where a metric gives no number.
        With ``ORACLE``, whose segments are the removed structures: a bound that no metric can know.
    Raises: ValueError: for empty or illegal arguments, two volumes of one name, and what ``remove`` and
        ``metrics.compute`` refuse.
    """
    if not len(fractions) or not len(sigmas) or draws < 1:
        raise ValueError(f"need a fraction, a sigma and a draw, got {fractions}, {sigmas} and {draws}")
    if min(sigmas) < 0:
        raise ValueError(f"sigma is an SD >= 0, got {min(sigmas)!r}")
    if names is not None and (alone := [n for n in names if metrics.info(n).family != "full-reference"]):
        raise ValueError(f"{', '.join(alone)} take no reference: the experiment scores against the clean original")
    rows, seen = [], set()
    for volume in progress(volumes) if progress else volumes:
        if volume.name in seen:
            raise ValueError(f"two volumes are called {volume.name!r}: a name seeds a volume's noise")
        seen.add(volume.name)
        where = domain or intensity.domain(**({"name": "hu"} if volume.unit == "HU" else WITHOUT_HU))
        score = _scorer(volume, usable(volume) if names is None else list(names), where, regions or {}, device)
        removals = [(q, remove(volume, q, method, seed, grow)) for q in fractions]
        noise = {key: _noise(volume, draws, seed, key) for key in (_BASELINE, *(round(1e6 * q) for q in fractions))}
        for sigma in sigmas:
            whole = score(volume.image, sigma, noise[_BASELINE])
            for q, removal in removals:
                change = removal.image.astype(np.float64) - volume.image
                changed, squares = int(np.count_nonzero(change)), float(np.square(change).sum())
                oracle = renumbered(volume.structures, np.isin(np.arange(len(volume.table) + 1), removal.structures))
                worse = score(removal.image, sigma, noise[round(1e6 * q)], oracle)
                compared = whole | score(volume.image, sigma, noise[_BASELINE], oracle, only_oracle=True)
                rows += [
                    {"volume": volume.name, "q": float(q), "sigma": float(sigma), "metric": name,
                     "tpf": judged(compared[name], worse[name], _direction(name)), "structures": len(volume.table),
                     "removed": len(removal.structures), "changed": changed,
                     "error": float(np.sqrt(squares / changed)) if changed else 0.0, "pixels": volume.image.size}
                    for name in worse
                ]  # fmt: skip
    if not rows:
        raise ValueError("there is no volume to remove structures from: give one or more")
    return pd.DataFrame(rows)


def sets(cohort, decathlon: str | None, most: int, slices: int, small: int, task_slices: int, seed: int) -> dict:
    """The sets of volumes whose structures are known: {what they are called: (makes them, how a hole is filled)}.

    Args: cohort: gives its patients where their lesions are known (``volumes.taken``). decathlon: folder of a task.
        most: volumes of each set. slices, small: of the cohort's. task_slices: of the Decathlon's. seed: of ``taken``.
    """
    found = {}
    if cohort.lesion_masks is not None:
        found[cohort.meta["source"]] = partial(taken, cohort, most, slices, small, seed), "known"
    if decathlon:
        made = partial(msd.volumes, decathlon, most=most, slices=task_slices)
        found[Path(decathlon).name] = made, "biharmonic"
    return found


def of_sets(sets: Mapping[str, tuple], progress: Callable | None = None, **options) -> pd.DataFrame:
    """``tpf`` of several sets of volumes, one below the other.

    Args: sets: as of ``sets``. progress: ``progress(volumes, desc=name)`` wraps them, e.g. ``tqdm``. options: the other
        arguments of ``tpf``.
    Returns: columns of ``tpf``, cohort, and what: the volumes' own words on their structures.
    """
    parts = []
    for name, (make, fill) in sets.items():
        found = list(make())
        made = tpf(progress(found, desc=name) if progress else found, method=fill, **options)
        parts.append(made.assign(cohort=name, what=made["volume"].map({one.name: one.text for one in found})))
    return pd.concat(parts, ignore_index=True)


def label(name: str) -> str:
    """A metric of the experiment as text names it."""
    return info(name).label if name in REGISTER else name.replace("mean_srmse", "MeanSRMSE")


def labels(spans: pd.DataFrame, wanted: Sequence[str]) -> dict[str, str]:
    """{metric: label} of those of ``wanted`` that a table of ``by_cohort`` has."""
    return {name: label(name) for name in wanted if name in set(spans["metric"])}


def intervals(table: pd.DataFrame, draws: int = 10_000, seed: int = 0) -> pd.DataFrame:
    """TPF by q, sigma and metric: columns tpf, low, high (95 % over volumes; NaN under 6), volumes, exact.

    Intervals are bootstraps over volumes; where all volumes have one and the same TPF, which leaves a bootstrap no
    width, Clopper and Pearson's, volumes counting as trials (``exact``).
    """
    rows = []
    for (q, sigma, metric), part in table.dropna(subset="tpf").groupby(["q", "sigma", "metric"], sort=False):
        values = part["tpf"].to_numpy()
        span = patient_bootstrap(values, draws=draws, seed=seed)
        low, high, exact = span.low, span.high, bool(np.ptp(values) == 0 and not np.isnan(span.low))
        if exact:
            low, high = share_interval(values.sum(), len(values))
        rows.append({"q": q, "sigma": sigma, "metric": metric, "tpf": span.mean, "low": low, "high": high,
                     "volumes": span.patients, "exact": exact})  # fmt: skip
    return pd.DataFrame(rows, columns=["q", "sigma", "metric", "tpf", "low", "high", "volumes", "exact"])


def by_cohort(table: pd.DataFrame, draws: int = 10_000, seed: int = 0) -> pd.DataFrame:
    """``intervals`` of every cohort of a table of ``of_sets``, with the column cohort."""
    parts = [intervals(part, draws, seed).assign(cohort=name) for name, part in table.groupby("cohort")]
    return pd.concat(parts, ignore_index=True)


def amounts(table: pd.DataFrame) -> pd.DataFrame:
    """What the experiment took out: a row a cohort and q, with a sentence in ``text``.

    Args: table: of ``tpf``, with the column cohort.
    Returns: cohort, q, volumes, structures and removed (numbers of all volumes), share (of the voxels that changed),
        error (their RMS change), text. With few structures a volume "one at least" is much more than q.
    """
    each, rows = table.drop_duplicates(["cohort", "q", "volume"]), []
    for (cohort, q), part in each.groupby(["cohort", "q"], sort=False):
        gone, known = int(part["removed"].sum()), int(part["structures"].sum())
        squares, changed = (part["error"] ** 2 * part["changed"]).sum(), part["changed"].sum()
        row = {"cohort": cohort, "q": q, "volumes": len(part), "structures": known, "removed": gone,
               "share": changed / part["pixels"].sum(), "error": float(np.sqrt(squares / max(changed, 1)))}  # fmt: skip
        each_volume = f"{_span(part['removed'])} of {_span(part['structures'])} a volume"
        text = f"{gone} of {known} structures ({100 * gone / known:.0f} %; {each_volume})"
        text += f" in {len(part)} volume{'s' * (len(part) > 1)}, {100 * row['share']:.2g} % of the voxels "
        text += f"({beside_talk(row['share'])})"
        rows.append(row | {"text": f"{text}, which changed by {row['error']:.0f} HU (RMS)"})
    return pd.DataFrame(rows)


def beside_talk(share: float) -> str:
    """How large a share of removed voxels is beside that of the talk, in words. Args: share: in [0, 1]."""
    least, most = TALK
    if not share:
        return "none, where the talk removed some"
    if least <= share <= most:
        return "as in the talk"
    low, high = (f"{ratio:.0f}" if ratio >= 9.95 else f"{ratio:.1f}" for ratio in (share / most, share / least))
    return "less than in the talk" if share < least else f"{low} to {high} times the talk's share"


def first_of(gone: pd.DataFrame, spans: pd.DataFrame):
    """The row of ``amounts`` of the cohort and fraction that ``limits`` is of. Args: as of ``numbers``."""
    first = gone[(gone["cohort"] == spans["cohort"].iloc[0]) & (gone["q"] == spans["q"].iloc[0])]
    return next(first.itertuples())


def _span(values):
    low, high = int(values.min()), int(values.max())
    return f"{low}" if low == high else f"{low} to {high}"


def noticed(spans: pd.DataFrame, metric: str = "mean_srmse") -> pd.DataFrame:
    """Up to where a metric notices a removal: a row a cohort and q, with the lists of sigmas seen and lost.

    Args: spans: of ``intervals``, with the column cohort. A sigma counts as seen where the interval lies above .5, or,
        with too few volumes for one, where the TPF is over .9.
    """
    rows = []
    for (cohort, q), part in spans[spans["metric"] == metric].groupby(["cohort", "q"], sort=False):
        sure = (part["low"] > 0.5) | (part["low"].isna() & (part["tpf"] > 0.9))
        seen, lost = (sorted(part.loc[chosen, "sigma"]) for chosen in (sure, ~sure))
        rows.append({"cohort": cohort, "q": q, "seen": seen, "lost": lost})
    return pd.DataFrame(rows, columns=["cohort", "q", "seen", "lost"])


def noticed_up_to(spans: pd.DataFrame, metric: str) -> float:
    """The largest sigma up to which a metric notices the removal at every sigma that was tried; NaN if at none.

    Args: spans: of ``by_cohort``, of one cohort and q. A sigma counts as seen as in ``noticed``.
    Raises: ValueError: for several cohorts or fractions.
    """
    found = noticed(spans, metric)
    if len(found) != 1:
        raise ValueError(f"one cohort and fraction at a time with the metric {metric}, got {len(found)}")
    seen, lost = found.loc[0, ["seen", "lost"]]
    return max((sigma for sigma in seen if sigma < min(lost, default=np.inf)), default=float("nan"))


def limits(spans: pd.DataFrame, wanted: Sequence[str]) -> dict[str, float]:
    """{label: ``noticed_up_to``} of the metrics of ``wanted`` that there are, of the first cohort and fraction."""
    first = spans[(spans["cohort"] == spans["cohort"].iloc[0]) & (spans["q"] == spans["q"].iloc[0])]
    return {text: noticed_up_to(first, name) for name, text in labels(first, wanted).items()}


def sees_all_without_noise(table: pd.DataFrame, metric: str = "psnr") -> bool:
    """Whether a metric notices every removal where no noise was added: a check, since any change lowers PSNR."""
    quiet = table[(table["sigma"] == 0) & (table["q"] > 0) & (table["metric"] == metric)]
    return bool((quiet["tpf"] == 1).all())


def beside_theory(table: pd.DataFrame, spans: pd.DataFrame) -> pd.DataFrame:
    """PSNR's TPF beside its theory: a row a cohort, q and sigma, with theory (mean over volumes) and gap.

    Args: table: of ``of_sets``. spans: of ``by_cohort``.
    """
    each = table[table["metric"] == "psnr"].drop_duplicates(["cohort", "q", "volume", "sigma"])
    each = each.assign(theory=psnr_theory(each["pixels"], each["changed"], each["error"], each["sigma"]))
    theory = each.groupby(["cohort", "q", "sigma"], sort=False)["theory"].mean().reset_index()
    found = theory.merge(spans[spans["metric"] == "psnr"], on=["cohort", "q", "sigma"])
    return found.assign(gap=(found["tpf"] - found["theory"]).abs())


def in_words(spans: pd.DataFrame, main: Mapping[str, str]) -> pd.DataFrame:
    """TPF and its interval as text: a row a cohort, q and sigma, a column a metric of ``main``, {metric: label}."""
    part = spans[spans["metric"].isin(list(main))]
    ends = ["–" if np.isnan(r.low) else f"[{r.low:.2g}, {r.high:.2g}]" for r in part.itertuples()]
    part = part.assign(shown=[f"{v:.2f} {end}" for v, end in zip(part["tpf"], ends)], metric=part["metric"].map(main))
    return part.pivot(index=["cohort", "q", "sigma"], columns="metric", values="shown").reset_index()


def numbers(gone: pd.DataFrame, spans: pd.DataFrame, theory: pd.DataFrame) -> dict:
    """What a run records of the experiment, JSON types: removed, mean_srmse (where it notices) and psnr_off_theory.

    Args: gone: of ``amounts``. spans: of ``by_cohort``. theory: of ``beside_theory``.
    """
    return {
        "removed": [
            {
                "cohort": r.cohort,
                "q": r.q,
                "removed": r.removed,
                "structures": r.structures,
                "share": float(r.share),
                "volumes": int(r.volumes),
            }
            for r in gone.itertuples()
        ],
        "mean_srmse": [
            {"cohort": r.cohort, "q": r.q, "notices_at_hu": r.seen, "misses_at_hu": r.lost}
            for r in noticed(spans).itertuples()
        ],
        "psnr_off_theory": float(theory["gap"].max()) if len(theory) else None,
    }


def psnr_theory(pixels, changed, error, sigma):
    """TPF of PSNR (and RMSE) for white noise: Phi(k e^2 / (2 sqrt(N s^4 + k e^2 s^2))).

    The squared error grows by k e^2 on average, and the difference of two of them has the variance
    4 N s^4 + 4 k e^2 s^2; for many pixels it is normal. Holds where nothing is clipped or quantised (domain ``hu``).

    Args: pixels: N, of the volume. changed: k. error: e, RMS change of those. sigma: s, SD of the noise, unit of e.
    Returns: the TPF, broadcast; for sigma 0: 1, or .5 where nothing changed.
    """
    squares, sigma = np.asarray(changed, np.float64) * np.square(error), np.asarray(sigma, np.float64)
    spread = 2 * np.sqrt(pixels * sigma**4 + squares * sigma**2)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = norm.cdf(squares / spread)
    return np.where(spread > 0, found, np.where(squares > 0, 1.0, 0.5))


def sigma_at(pixels: int, changed: int, error: float, rate: float = 0.75) -> float:
    """SD of the noise at which the theory of PSNR has this TPF, in (.5, 1). Args: as of ``psnr_theory``."""
    return float(np.exp(brentq(lambda log: psnr_theory(pixels, changed, error, np.exp(log)) - rate, -5, 12)))


def against_theory(volume: Volume, fraction: float = 0.1, draws: int = 400, seed: int = 0, device="cpu") -> dict:
    """Whether PSNR's TPF of one volume is what theory says, at the noise where that is .75: a z test.

    Args: as of ``tpf``. The noise is drawn anew, ``AT_A_TIME`` draws at once.
    Returns: volume, sigma, rate, theory, z, p (two-sided).
    """
    removal = remove(volume, fraction, "known", seed)
    change = removal.image.astype(np.float64) - volume.image
    changed = int(np.count_nonzero(change))
    error = float(np.sqrt(np.square(change).sum() / max(changed, 1)))
    sigma = sigma_at(volume.image.size, changed, error)
    score = _scorer(volume, ["psnr"], intensity.domain("hu"), {}, device)
    scores = {}
    for key, image in enumerate((volume.image, removal.image)):
        rng, found = rng_of(seed, volume.name, 4, key), []
        for start in range(0, draws, AT_A_TIME):
            shape = (min(AT_A_TIME, draws - start), *image.shape)
            found.append(score(image, sigma, rng.standard_normal(shape, np.float32))["psnr"])
        scores[key] = np.concatenate(found)
    theory = float(psnr_theory(volume.image.size, changed, error, sigma))
    rate = judged(scores[0], scores[1], metrics.info("psnr").direction)
    z = (rate - theory) / area_sd(theory, draws)
    return {"volume": volume.name, "sigma": sigma, "rate": rate, "theory": theory, "z": z, "p": 2 * norm.sf(abs(z))}


def all_against_theory(volumes, fraction, draws: int, seed: int, device, progress=None) -> pd.DataFrame:
    """``against_theory`` of each volume, a row a volume. Args: progress: wraps the volumes, e.g. ``tqdm``."""
    shown = progress(volumes, desc="theory", unit="volume") if progress else volumes
    return pd.DataFrame([against_theory(one, fraction, draws, seed, device) for one in shown])


def area_sd(area: float, draws: int) -> float:
    """SD of the share of pairs in the right order, of ``draws`` values a class, normal and of one spread.

    Pairs that share a value are not independent (Hanley and McNeil 1982, Radiology 143:29, Eq. 1): the chance that two
    values of one class both lie right of one of the other is the mean over t of Phi(d + t)^2.
    """
    d, t = np.sqrt(2) * norm.ppf(area), np.linspace(-8, 8, 1601)
    both = np.trapezoid(norm.cdf(d + t) ** 2 * norm.pdf(t), t)
    return float(np.sqrt((area * (1 - area) + 2 * (draws - 1) * (both - area**2)) / draws**2))


def judged(whole, worse, direction: int) -> float:
    """Share of the pairs of scores, one of each array, in which the second is the worse; ties count one half.

    Args: whole, worse: (draws,) each. direction: of the metric, as in ``metrics.Metric``. NaN in either: NaN.
    """
    bad = [np.abs(x) if direction == 0 else -direction * np.asarray(x, np.float64) for x in (whole, worse)]
    if np.isnan(bad[0]).any() or np.isnan(bad[1]).any():
        return float("nan")
    # The area under the ROC curve, as in observers.auc; summed up like this its last bit is that of stored fractions.
    ordered = np.sort(bad[0])
    below = np.searchsorted(ordered, bad[1], "left") + np.searchsorted(ordered, bad[1], "right")
    return float(below.mean() / 2 / len(ordered))


def _direction(name):
    return -1 if name.startswith(SRMSE) else metrics.info(name).direction


def _noise(volume, draws, seed, key):
    return rng_of(seed, volume.name, 2, key).standard_normal((draws, *volume.image.shape), np.float32)


def _scorer(volume, names, domain, regions, device):
    """``score(image, sigma, noise, oracle=None, only_oracle=False)`` gives, against the volume: metric -> (draws,)."""
    plain = [name for name in names if name not in SRMSE]
    target = ranges.prepared("hu", domain, volume.image)
    maps = {"": over_segments(volume.image)} if set(names) & set(SRMSE) else {}
    maps |= {f" ({name})": make(volume.image) for name, make in regions.items()}
    means = {name: _means(labels, volume.name) for name, labels in maps.items()}

    def score(image, sigma, noise, oracle=None, only_oracle=False):
        wanted = {} if only_oracle else means
        if oracle is not None and oracle.any():
            wanted = wanted | {ORACLE: _means(oracle, volume.name)}
        draws, parts = (noise if sigma else noise[:1]), []
        step = max(1, _AT_ONCE // image.size)
        for start in range(0, len(draws), step):
            pred = image + np.float32(sigma) * draws[start : start + step]
            values = {} if only_oracle or not plain else _plain(pred, volume.image, plain, domain, device)
            if wanted:
                squared = (ranges.prepared("hu", domain, pred) - target).square_().reshape(len(pred), -1).T.numpy()
            for suffix, mean in wanted.items():
                inside = np.sqrt(mean @ squared)
                if suffix == ORACLE:
                    values[ORACLE] = inside.mean(0)
                    continue
                both = dict(zip(SRMSE, (inside.mean(0), inside.max(0))))
                values |= {name + suffix: value for name, value in both.items() if suffix or name in names}
            parts.append(values)
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    return score


def _means(labels, name):
    """Sparse matrix (segments, voxels) that averages over each segment."""
    owner, pixel, area = members(np.asarray(labels))
    if not len(area) or not area.all():
        raise ValueError(f"volume {name}: no segment, or one without voxels; SRMSE needs some with voxels")
    return sparse.csr_array((1 / area[owner], (owner, pixel)), shape=(len(area), np.size(labels)))


def _plain(pred, image, names, domain, device):
    """Metrics of volumes (draws, S, H, W) against one volume: slice by slice, then pooled."""
    target = np.broadcast_to(image, pred.shape).reshape(-1, *image.shape[1:])
    scored = metrics.compute(
        pred=pred.reshape(target.shape), target=target, names=names, domain=domain, device=device, batch=1024
    )
    values = scored["value"].to_numpy().reshape(*pred.shape[:2], len(names))
    out = {}
    for column, name in enumerate(names):
        there, back = POOLED.get(name, (lambda value: value, lambda mean: mean))
        one = there(values[..., column])
        known = ~np.isnan(one).all(0)  # a slice may lack what a metric looks for, whatever the noise
        with np.errstate(divide="ignore"):
            out[name] = back(one[:, known].mean(1)) if known.any() else np.full(len(one), np.nan)
    return out
