"""What a notebook scores, and with what: slices of a cohort, and the metrics that can be computed here."""

import itertools
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ldct_utils import metrics
from ldct_utils.ct import intensity
from ldct_utils.metrics import Metric, ct_niqe
from ldct_utils.noise2quality import metric
from ldct_utils.study import files, paths, runs

FITTED = {"ct_niqe": ct_niqe.load, "n2q": metric.load}  # these learn from NDCT, and come from the run that fitted them


def slices(cohort, split: str, most: int) -> pd.DataFrame:
    """At most ``most`` slices of each patient of a split, those with most lesion in them first.

    Returns: rows of ``cohort.slices`` in their order, and the column lesion: pixels of it, 0 where nothing is known.
    Raises: ValueError: if the cohort has no patients in that split.
    """
    about = cohort.slices[cohort.slices.split == split]
    if about.empty:
        raise ValueError(f"cohort {cohort.id} has no {split} patients; choose another split")
    lesion = [0 if cohort.lesion_masks is None else np.count_nonzero(cohort.lesion_masks[row]) for row in about.row]
    about = about.assign(lesion=lesion).sort_values(["patient", "lesion", "row"], ascending=[True, False, True])
    return about.groupby("patient").head(most).sort_values("row").reset_index(drop=True)


def check_slices(about: pd.DataFrame, cohort):
    """Refuse slices (``slices``) of several doses or of an unknown pixel size, whose damage would have no known size.

    Raises: ValueError.
    """
    if about.dose.nunique() > 1 or about.pixel_mm.isna().any():
        raise ValueError(
            f"the audit needs slices of one dose and a known pixel size; cohort {cohort.id} has doses "
            f"{', '.join(f'{d:g}' for d in about.dose.unique())} and slices without a size: "
            f"{about.pixel_mm.isna().sum()}: take DICOM series, whose headers tell it (npy pairs hold none), of "
            "anatomies that have one dose"
        )


def images(cohort, about: pd.DataFrame) -> dict:
    """{array: slices (N, H, W), float32 HU}, None for what the cohort does not have: LDCT, NDCT and noise-free truth,
    and, as ``absent_...``, the same slices and noise without lesions. Args: about: of ``slices``.
    """
    names = [f"{prefix}{name}" for prefix in ("", "absent_") for name in ("ldct", "ndct", "truth")]
    stored = {name: getattr(cohort, name) for name in names}
    rows = about.row.to_numpy()
    return {name: None if one is None else np.asarray(one[rows], np.float32) for name, one in stored.items()}


def free(names) -> list[str]:
    """Those of the metrics that are not the MSE in other units.

    Raises: ValueError: if none is left.
    """
    found = [name for name in names if name not in ("psnr", "rmse_hu", "nrmse")]
    if not found:
        raise ValueError(
            f"{', '.join(names)} are the MSE in other units: add a metric, such as ssim, that no formula ties"
        )
    return found


def _same(fitted, cohort) -> bool:
    """Whether a run was fitted on what is this cohort to the bit, under another id."""
    found = paths.cohorts() / f"{fitted.params.get('source')}-{fitted.numbers['cohort']}" / "cohort.json"
    return found.is_file() and files.read_json(found)["fingerprint"] == cohort.meta["fingerprint"]


@dataclass(frozen=True)
class Scorer:
    """Metrics that score the same images in the same domains.

    Attributes:
        info: the metrics by name, full-reference ones first.
        missing: columns name, missing and remedy: what cannot be computed here, the files or the package it needs, and
            the command that fetches them.
        tiny: names of metrics that the slices are too small for.
        domains: evaluation domains. device: where tensors are computed.
    """

    info: dict[str, Metric]
    missing: pd.DataFrame
    tiny: tuple[str, ...]
    domains: tuple[intensity.Domain, ...]
    device: str = "cpu"

    def of(self, family: str) -> list[str]:
        """Names of the metrics of one family."""
        return [name for name, one in self.info.items() if one.family == family]

    @property
    def described(self) -> pd.DataFrame:
        """A row a metric, for the reader."""
        return pd.DataFrame(
            {"metric": m.label, "family": m.family, "better": m.arrow, "unit": m.unit, "library": m.library}
            for m in self.info.values()
        )

    @property
    def said(self) -> str:
        """How many of the metrics that were asked for can be computed, in words."""
        lost = len({*self.missing.name, *self.tiny} - set(self.info))
        if lost:
            return f"{len(self.info)} of {len(self.info) + lost} metrics that were asked for could be computed."
        if len(self.info) == 1:
            return "The one metric that was asked for could be computed."
        return f"All {len(self.info)} metrics that were asked for could be computed."

    @property
    def absent(self) -> str:
        """Which metrics are left out for what, in words; empty where none is."""
        rows = [row for row in self.missing.itertuples(index=False) if row.name not in self.info]
        absent = [f"{row.name} ({row.missing}: `{row.remedy}`)" for row in rows]
        said = [f"Not here: {', '.join(absent)}."] if absent else []
        said += [f"Slices are too small for: {', '.join(self.tiny)}."] if self.tiny else []
        return " ".join(said)

    def score(self, pred, targets: dict) -> pd.DataFrame:
        """Every metric in every domain, of images against each target or, by no-reference metrics, alone.

        Args: pred: (N, H, W), HU. targets: {reference: (N, H, W)}, HU.
        Returns: columns image, domain, name, value, reference (``none`` of no-reference metrics).
        """
        jobs = [(reference, target, "full-reference") for reference, target in targets.items()]
        tables = []
        for domain, (reference, target, family) in itertools.product(
            self.domains, [*jobs, ("none", None, "no-reference")]
        ):
            if wanted := [self.info[name] for name in self.of(family)]:
                found = metrics.compute(pred=pred, target=target, names=wanted, domain=domain, device=self.device)
                tables.append(found.assign(reference=reference))
        return pd.concat(tables, ignore_index=True).rename(columns={"metric": "name"})


def choose(run, names, fitted: dict, cohort, domains, level: float, width: float, device="cpu", shown=None) -> Scorer:
    """The metrics of a run, by name or all that can be computed here.

    Args:
        run: the open run. What was here when it began stays its list, also where weights arrive before it is finished.
        names: of metrics; one whose weights are not here falls away and is named. Empty takes all whose weights are
            here and that slices of this size allow.
        fitted: {name in ``FITTED``: the run folder that holds the model, or None}.
        cohort: of the runs, on which the models must have been fitted; its slices are scored.
        shown: another cohort whose slices are scored instead.
        domains: names of evaluation domains. level, width: of the domain ``window``, HU.
    Raises: ValueError: for an unknown name, names of which none can be computed here, or a model that was fitted on
        another cohort.
    """
    models = {name: FITTED[name](folder) for name, folder in fitted.items() if folder}
    for name, folder in fitted.items():
        # By what is in it: code that only moves gives the same cohort another id.
        if folder and runs.load(folder).numbers["cohort"] != cohort.id and not _same(runs.load(folder), cohort):
            raise ValueError(
                f"{name} {folder} was fitted on another cohort, which may hold these patients: fit it on this one"
            )
    here = metrics.available(names or None)
    side = min((shown or cohort).ldct.shape[1:])
    usable = [name for name in here.name[here.available] if metrics.info(name).smallest <= side]
    if names:
        usable = list(here.name[here.available])
    if names and not usable:
        raise ValueError(f"none of these metrics can be computed here: {', '.join(names)}. `{here.remedy.iloc[0]}`")
    usable = list(run.table("metric_names", lambda: pd.DataFrame({"name": usable})).name)
    info = {name: metrics.info(name) for name in usable} | models
    info = dict(sorted(info.items(), key=lambda item: item[1].family != "full-reference"))  # stable
    shown = [intensity.domain(d, **({"level": level, "width": width} if d == "window" else {})) for d in domains]
    tiny = sorted(set(here.name[here.available]) - set(usable))
    return Scorer(info, here[~here.available], tuple(tiny), tuple(shown), device)
