"""The audit of metrics: what they make of known harm, and what an observer detects under each kind of it.

Harm has a kind and a strength (``degradations``), ``none`` of strength 0 being the image as it is. Scores are
sign-aligned (higher is better), as in ``agreement``.
"""

import itertools

import numpy as np
import pandas as pd

from ldct_utils.audit import agreement
from ldct_utils.ct.degradations import DEGRADATIONS, degrade
from ldct_utils.ct.dose import at_dose
from ldct_utils.stats import intervals
from ldct_utils.task_based import ensembles, observers

NOISE, BLUR_MM = 0.1, 0.8  # of the controls: share of the LDCT's extra noise, SD of the blur
REGION = 33  # pixels around a lesion that the observer sees
SAME = 0.01  # d' has moved where it changes by more than this share in every liver
STEP = 0.01  # of d' beside metrics: less is rounding, e.g. of a constant on every pixel, which leaves d'


def harm(name: str, images, strength: float, pixel_mm, seed, lesion=None) -> np.ndarray:
    """``degrade`` for slices (N, H, W), each with its own pixel size (N,) and artefacts of its own."""
    parts = [slice(i, i + 1) for i in range(len(images))]
    return np.concatenate([
        degrade(name, images[p], strength, mm, [seed, i], None if lesion is None else lesion[p])
        for i, (p, mm) in enumerate(zip(parts, pixel_mm))
    ])  # fmt: skip


def controls(ldct, ndct, pixel_mm) -> dict[str, np.ndarray]:
    """Slices (N, H, W) that stand beside what is judged: LDCT, NDCT, NDCT with a little noise, and blurred.

    The blurred ones need the pixel sizes (N,) and are left out where one is not known.
    """
    found = {"LDCT": ldct, "NDCT": ndct, "NDCT + noise": ndct + NOISE * (ldct - ndct)}
    if np.isfinite(pixel_mm).all():
        found["NDCT, blurred"] = harm("blur", ndct, BLUR_MM, pixel_mm, 0)
    return found


def rated_above(controls: pd.DataFrame, info: dict, than: str = "NDCT") -> tuple[pd.DataFrame, dict]:
    """Mean score of every control, and which metrics rate it above the NDCT; a bias is better nearer to 0.

    Args: controls: columns name, control and value, of one domain. info: {name: metric}, in order.
    Returns: a row a metric (its label, ``better``, an arrow, and the controls); {control: labels of metrics}.
    """
    order = controls.control.unique()
    means = controls.groupby(["name", "control"]).value.mean().unstack().loc[[*info], order]
    above = {
        one: [m.label for name, m in info.items()
              if np.diff(agreement.align(means.loc[name, [than, one]], m.direction))[0] > 0]
        for one in order if one != than
    }  # fmt: skip
    means = means.rename(index={name: m.label for name, m in info.items()}).rename_axis("metric").reset_index()
    means.insert(1, "better", [m.arrow for m in info.values()])
    return means, above


def doses_of(wanted, truth) -> list[float]:
    """The doses at which damage can be done: without a noise-free truth, the full dose has no error to compare.

    Raises: ValueError: if there is none.
    """
    found = [float(dose) for dose in wanted if truth is not None or dose < 1]
    if not found:
        raise ValueError(f"nothing to audit: audit_doses is {wanted}, and without a truth a dose must be under 1")
    return found


def damaged(images: dict, name: str, strength: float, dose: float, ldct_dose: float, pixel_mm, seed) -> np.ndarray:
    """Slices (N, H, W), HU, at a dose, with one kind of damage; ``none`` leaves them as they are.

    Args: images: of ``scoring.images``; an invented lesion is put into the slices without lesions. The others as of
        ``harm`` and ``dose.at_dose``.
    """
    start = "absent_" if name == "lesion_added" else ""
    before = at_dose(images[f"{start}ndct"], images[f"{start}ldct"], ldct_dose, dose)
    if name == "none":
        return before
    lesion = None if images["absent_truth"] is None else images["truth"] - images["absent_truth"]
    return harm(name, before, strength, pixel_mm, seed, lesion)


def shares(images: dict, names, dose: float, ldct_dose: float, pixel_mm, seed, body) -> pd.DataFrame:
    """Share of the body (N, H, W) that each damage changes by more than 1 HU at its greatest strength: harm, share."""
    rows = []
    for name in names:
        with_it = damaged(images, name, DEGRADATIONS[name].strengths[-1], dose, ldct_dose, pixel_mm, seed)
        start = "absent_" if name == "lesion_added" else ""
        before = at_dose(images[f"{start}ndct"], images[f"{start}ldct"], ldct_dose, dose)
        rows.append({"harm": name, "share": changed_share(before, with_it, body)})
    return pd.DataFrame(rows)


def kinds(lesions: bool) -> dict[str, tuple[float, ...]]:
    """Strengths of every kind of harm, ``none`` first; those of lesions only where the same slices exist without."""
    found = {"none": (0.0,)}
    for name, kind in DEGRADATIONS.items():
        if lesions or kind.lesion is None:  # a lesion is added to images of their own, which are scored as they are too
            found[name] = (0.0, *kind.strengths) if kind.lesion == "added" else kind.strengths
    return found


def reactions(scores: pd.DataFrame, ldct_dose: float, draws: int = 500, seed: int = 0) -> pd.DataFrame:
    """What each metric makes of each kind of harm.

    Args:
        scores: columns domain, name, dose, harm, strength, patient, aligned.
        ldct_dose: whose fall below the full dose is the unit of sensitivity; at this dose ``none`` must be scored.
        draws, seed: of the bootstrap over patients.
    Returns: a row a domain, dose, harm and metric. falls, rises: in how many of the ``patients`` the metric falls or
        rises at the greatest strength: its direction, which needs no unit. rho: rank correlation with strength, mean
        over patients (-1: falls with every step). sensitivity: by how much the metric falls at the greatest strength,
        in units of what ``ldct_dose`` does to it, with its interval; NaN without dose 1, and where dose does not move
        the metric.
    """
    found, harmed = [], scores[scores.harm != "none"]
    means = scores.groupby(["domain", "name", "dose", "harm", "strength", "patient"]).aligned.mean()
    for domain, name in itertools.product(scores.domain.unique(), scores.name.unique()):
        at = means[domain, name]
        unit = _unit(at, ldct_dose, draws, seed)
        for dose, kind in itertools.product(harmed.dose.unique(), harmed.harm.unique()):
            curve = at[dose, kind].unstack("patient")
            if 0 not in curve.index:
                curve = pd.concat([at[dose, "none"].unstack("patient"), curve])
            values = curve.to_numpy()
            steps = np.broadcast_to(np.arange(len(values))[:, None], values.shape)
            rho = agreement.spearman(np.stack([values.T, steps.T], axis=-1))[:, 0, 1]
            fall, inside = values[0] - values[-1], None
            if unit is not None and np.isfinite(fall).all():
                inside = quotient(fall, unit, draws=draws, seed=seed)
            found.append(
                {"domain": domain, "dose": dose, "harm": kind, "metric": name}
                | {"falls": int((fall > 0).sum()), "rises": int((fall < 0).sum())}
                | {"patients": int(np.isfinite(fall).sum())}
                | {"rho": np.nanmean(rho) if np.isfinite(rho).any() else np.nan}
                | {k: getattr(inside, v, np.nan) for k, v in
                   (("sensitivity", "mean"), ("low", "low"), ("high", "high"))}
            )  # fmt: skip
    return pd.DataFrame(found)


def changed_share(before, after, body, least_hu: float = 1.0) -> float:
    """Share of the body's pixels that a harm changes by more than ``least_hu``: images and body, (N, H, W)."""
    moved = np.abs(np.asarray(after, np.float64) - before) > least_hu
    return float(moved[body].mean())


def by_harm(
    reacted: pd.DataFrame, shares: pd.Series, d_prime: pd.DataFrame | None = None, ends: pd.DataFrame | None = None
) -> pd.DataFrame:
    """What all metrics make of each kind of harm, a row a harm: no number is pooled over harms, whose list is a choice.

    Args: reacted: rows of ``reactions`` of one domain and dose. shares: share of the body's pixels that each harm
        changes at its greatest strength (``changed_share``). d_prime: of ``detections`` at this dose, or None. ends: of
        ``size_ends``, or None.
    Returns: harm; metrics; falls_in_all, rises_in_all: how many of them fall, or rise, in every patient; size, the
        median over metrics of their sensitivity, least and most; share; per_voxel, the median sensitivity over the
        share: what it would be if as many pixels had changed as the dose changes, which is nearly all. With d_prime
        also d_change: d' at the greatest strength over d' without harm, less 1; livers, and in how many of them d'
        falls or rises by more than a share of ``SAME``, d_falls and d_rises; with_d and against_d: how many metrics go
        its way, or the other, in every patient, NaN unless d' goes one way in every liver.
    """
    rows = []
    for harm, part in reacted.groupby("harm", sort=False):
        size, share = part["sensitivity"], shares.get(harm, np.nan)
        row = {"harm": harm, "metrics": len(part), "falls_in_all": int((part["falls"] == part["patients"]).sum()),
               "rises_in_all": int((part["rises"] == part["patients"]).sum()), "size": size.median(),
               "least": size.min(), "most": size.max(), "share": share,
               "per_voxel": size.median() / share if share else np.nan}  # fmt: skip
        if d_prime is not None:
            row |= _beside(d_prime, harm, row["falls_in_all"], row["rises_in_all"])
        rows.append(row)
    found = pd.DataFrame(rows)
    if ends is not None:
        found = found.merge(ends, on="harm", how="left")
        for end in ("low", "high"):
            found[f"per_voxel_{end}"] = found[f"size_{end}"] / found["share"].where(found["share"] > 0)
    return found


def size_ends(scores: pd.DataFrame, domain: str, dose: float, ldct_dose: float, draws: int = 500, seed: int = 0):
    """The 95 % interval over patients of ``size`` of ``by_harm``: patients are drawn once for all metrics.

    Args: scores, ldct_dose, draws, seed: as of ``reactions``. domain, dose: of the rows.
    Returns: a row a harm: harm, size_low, size_high; NaN with fewer than six patients.
    """
    part = scores[scores["domain"] == domain]
    means = part.groupby(["name", "dose", "harm", "strength", "patient"])["aligned"].mean()
    units = {name: _unit(means[name], ldct_dose, draws, seed) for name in part["name"].unique()}
    rows = []
    for harm in (kind for kind in part["harm"].unique() if kind != "none"):
        pairs = []
        for name, unit in units.items():
            curve = means[name][dose, harm].unstack("patient")
            base = curve.loc[0] if 0 in curve.index else means[name][dose, "none"].unstack("patient").iloc[0]
            fall = (base - curve.iloc[-1]).to_numpy()
            if unit is not None and np.isfinite(fall).all():
                pairs.append((fall, unit))

        def typical(weights, pairs=pairs):
            return np.median([(weights @ fall) / (weights @ -unit) for fall, unit in pairs], axis=0)

        n = len(pairs[0][0]) if pairs else 0
        low, high = intervals.bootstrap_interval(typical, n, draws, 0.95, seed) if n else (np.nan, np.nan)
        rows.append({"harm": harm, "size_low": low, "size_high": high})
    return pd.DataFrame(rows, columns=["harm", "size_low", "size_high"])


def _beside(d_prime, harm, falls, rises):
    """What a harm does to d', and how many of the metrics that fall or rise go the same way: columns of ``by_harm``."""
    at = d_prime.groupby(["harm", "strength", "liver"])["d_prime"].mean().unstack("liver")
    base = at.loc["lesion_added", 0.0] if harm == "lesion_added" else at.loc["none", 0.0]
    last = at.loc[harm].iloc[-1]
    change, livers = (last - base) / base.abs(), len(base)
    down, up = int((change < -SAME).sum()), int((change > SAME).sum())
    way = (falls, rises) if down == livers else (rises, falls) if up == livers else (np.nan, np.nan)
    return {"d_change": last.mean() / base.mean() - 1, "livers": livers, "d_falls": down, "d_rises": up,
            "with_d": way[0], "against_d": way[1]}  # fmt: skip


def as_scores(detected: pd.DataFrame, domain: str) -> pd.DataFrame:
    """d', mean over lesions and in steps of ``STEP``, as scores that ``reactions`` takes: a liver is a patient.

    Args: detected: of ``detections``. domain: of the metrics that it stands beside.
    """
    d = detected.groupby(["dose", "harm", "strength", "liver"])["d_prime"].mean()
    d = (STEP * (d / STEP).round()).rename("aligned").reset_index().rename(columns={"liver": "patient"})
    return d.assign(domain=domain, name="d_prime")


def like_mse(scores: pd.DataFrame, names=("ssim", "ssim_window")) -> pd.DataFrame:
    """Rank correlation of metrics with the MSE over the images of each kind of harm, all patients, doses and strengths.

    Args: scores: of one domain, columns name, dose, harm, strength, image, value; ``rmse_hu`` must be among the names.
    Returns: harm, name, rho and images; without those of the ``names`` that were not scored, and empty without RMSE.
    """
    at = scores.pivot_table(index=["harm", "dose", "strength", "image"], columns="name", values="value")
    if "rmse_hu" not in at:
        return pd.DataFrame(columns=["harm", "name", "rho", "images"])
    rows = []
    for harm, part in at.groupby("harm", sort=False):
        for name in (one for one in names if one in part):
            pair = part[[name, "rmse_hu"]].dropna()  # ranks of the MSE are those of the RMSE
            rho = agreement.spearman(pair.to_numpy()[None])[0, 0, 1] if len(pair) > 2 else np.nan
            rows.append({"harm": harm, "name": name, "rho": rho, "images": len(pair)})
    return pd.DataFrame(rows)


def _unit(at, ldct_dose, draws, seed):
    """By how much a metric changes from ``ldct_dose`` to the full dose, (patients,); None where that is not known."""
    if not {1.0, ldct_dose} <= set(at.index.unique("dose")):
        return None
    change = (at[ldct_dose, "none", 0.0] - at[1.0, "none", 0.0]).to_numpy()
    if not np.isfinite(change).all():
        return None
    unmoved = intervals.patient_bootstrap(change, draws=draws, seed=seed).excludes_zero is False
    return None if unmoved else change


def detections(
    lesions, harms: dict, doses, livers: int, realisations: int, seed: int = 0, kernel: str = "B30", progress=iter
) -> pd.DataFrame:
    """d' of a channelised Hotelling observer for every lesion in every simulated liver, at every dose, under all harm.

    Args:
        lesions: see ``ensembles.Lesion``. harms: strengths by kind, from ``kinds``. doses: fractions of the normal one.
        livers: simulated patients. realisations: of the noise, a class. progress: wraps the livers, e.g. ``tqdm``.
    Returns: a row a liver, dose, harm, strength and lesion: d_prime with its jackknife interval low, high, and auc.
    """
    found = []
    for number, (body, crop, places) in enumerate(progress(ensembles.patients(livers, lesions, seed=seed))):
        scene, mm = body.absent_scene[0], body.pixel_mm
        scan = ensembles.ensemble(scene, mm, crop, lesions, places, realisations, [seed, number], kernel)
        for dose in doses:
            plain = [scan.images(present, dose) for present in (False, True)]
            for kind, strength in ((kind, s) for kind, strengths in harms.items() for s in strengths):
                untouched = {"none": (0, 1), "lesion_removed": (0,), "lesion_added": (1,)}.get(kind, ())
                classes = [
                    image if present in untouched
                    else degrade(kind, image, strength, mm, [seed, number, present], scan.signals.sum(0))
                    for present, image in enumerate(plain)
                ]  # fmt: skip
                for index, lesion in enumerate(lesions):
                    regions = (scan.region(images, index, REGION) for images in classes)
                    seen = observers.cho(*regions, lesion.radius_mm / mm)
                    found.append(
                        {"liver": number, "dose": dose, "harm": kind, "strength": strength, "lesion": lesion.text,
                         "d_prime": seen.d_prime, "low": seen.d_low, "high": seen.d_high, "auc": seen.auc}
                    )  # fmt: skip
    return pd.DataFrame(found)


def quotient(above, below, draws: int = 10_000, level: float = 0.95, seed: int = 0) -> intervals.Interval:
    """Mean of ``above`` in units of how far the mean of ``below`` is from 0, patients drawn once for both.

    Args: above, below: (patients,). draws, seed: of the bootstrap. level: nominal coverage.
    Returns: the quotient and its expanded percentile interval (``intervals.expanded_tail``), without bounds under 6
        patients. A draw in which the mean of ``below`` is 0 or has changed its sign counts as infinite.
    """
    above, below = (np.asarray(values, np.float64) for values in (above, below))
    if above.shape != below.shape or above.ndim != 1 or not np.isfinite(above + below).all():
        raise ValueError(f"a quotient takes two finite values a patient, got shapes {above.shape} and {below.shape}")
    n, unit = len(above), abs(below.mean())

    def again(weights):
        tops, units = weights @ above, weights @ below * np.sign(below.mean())
        return np.where(units > 0, tops / np.where(units > 0, units, 1), np.copysign(np.inf, tops))

    low, high = intervals.bootstrap_interval(again, n, draws, level, seed, "inverted_cdf")  # some may be infinite
    return intervals.Interval(float(above.mean() / unit) if unit else float("nan"), float(low), float(high), n, 1)
