"""Slices with known changes, through scanner, network, segmentation and test: what ``hallucinations`` and ``sfrc`` see.

A *scan* of a slice is named (kind, row, number). ``scan`` is the slice as it is, ``twin`` the same scan without its
lesions, to the last noise, and ``null`` a lesion-free scan with new noise. Changes are planted by exchanging the first
two: a network that is given the twin has removed the lesions of the scan.
"""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from ldct_utils import segments
from ldct_utils.ct import intensity
from ldct_utils.structures import hallucinations, null

SOURCES = ("ndct", "ldct", "prediction")
PERFECT = "perfect"  # a denoiser that gives the truth: whatever a test calls changed there is a false alarm


def known_sources(sources) -> list[str]:
    """The images whose segments are tested, as they are given. Raises: ValueError: for an unknown one."""
    if unknown := set(sources) - set(SOURCES):
        raise ValueError(f"sources are ndct, ldct and prediction, got {', '.join(sorted(unknown))}")
    return list(sources)


def one_of(given: str, identity: str, names: dict) -> str:
    """The name of a run among the chosen ones. Args: given: as it was asked for. identity: its id. names: {id: name}.

    Raises: ValueError: where it is none of them.
    """
    if identity not in names:
        raise ValueError(f"the denoiser {given} is none of the runs; add it to runs")
    return names[identity]


def finder(method: str, min_area: int):
    """A function of a slice (H, W), HU, that gives its segments. Args: as of ``segments.segment``."""
    return lambda image: segments.segment(image, method, min_area=min_area).regions


def most_affected(cohort, split: str, each: int) -> list[tuple[str, int]]:
    """(patient, row) of ``each`` slices a patient of a split: those with most of its lesions, or around its middle
    where none are known."""
    found = []
    about = cohort.slices.set_index("row", drop=False).loc[cohort.rows(split)]
    for patient, part in about.groupby("patient"):
        rows = list(part.index)
        if cohort.lesion_masks is None:
            rows = rows[max(0, (len(rows) - each) // 2) :]
        else:
            area = {row: int((cohort.lesion_masks[row] > 0).sum()) for row in rows}
            rows = sorted(area, key=area.get, reverse=True)
        found += [(patient, int(row)) for row in rows[:each]]
    return found


def free_scans(cohort, tested, realisations: int, seed: int, progress=iter) -> np.ndarray:
    """Every slice without its lesions, scanned again: (slices, realisations, 2 or 3, H, W) int16: LDCT, NDCT and, where
    it is known, truth. Args: tested: (patient, row) each. progress: wraps them."""
    found = []
    for number, (_, row) in enumerate(progress(tested)):
        images = hallucinations.lesion_free(cohort, row, realisations, [seed, number])
        truth = [images["truth"]] if "truth" in images else []
        found.append([np.stack([images["ldct"][k], images["ndct"][k], *truth]) for k in range(realisations)])
    return np.array(found)


@dataclass
class Slices:
    """The slices under test, their scans, and what every denoiser makes of them.

    Attributes: cohort; tested: (patient, row) each; denoisers: {run: function of a slice (H, W), HU}; free: of
        ``free_scans``, None where they cannot be made; progress: wraps the denoisers.
    """

    cohort: object
    tested: list
    denoisers: dict
    free: np.ndarray | None = None
    progress: object = field(default=iter, repr=False)

    @cached_property
    def images(self) -> dict:
        """{scan: {ldct, ndct, truth where it is known}}, (H, W) HU."""
        found = {}
        for kind, prefix in (("scan", ""), ("twin", "absent_")):
            there = {name: getattr(self.cohort, prefix + name) for name in ("ldct", "ndct", "truth")}
            for _, row in self.tested if there["ldct"] is not None else ():
                found[kind, row, 0] = {n: np.float32(images[row]) for n, images in there.items() if images is not None}
        for number, (_, row) in enumerate(self.tested if self.free is not None else ()):
            for k, one in enumerate(self.free[number]):
                found["null", row, k] = dict(zip(("ldct", "ndct", "truth"), np.float32(one)))
        return found

    @cached_property
    def outputs(self) -> dict:
        """{run: {scan: its output}}; that of the perfect denoiser for at most two lesion-free scans of a slice."""
        found = {}
        for key in self.progress(list(self.denoisers)):
            found[key] = {at: self.denoisers[key](one["ldct"]) for at, one in self.images.items()}
        perfect = {
            at: one["truth"] for at, one in self.images.items() if at[0] == "null" and at[2] < 2 and "truth" in one
        }
        return found | ({PERFECT: perfect} if perfect else {})

    def comparisons(self, row: int) -> list[tuple]:
        """(kind, scan that the output is compared with, scan that the network sees, label map of lesions) of a slice.

        ``removal``: the network never saw the lesions of the LDCT. ``insertion``: the LDCT never had those that it saw.
        """
        labels = None if self.cohort.lesion_masks is None else np.asarray(self.cohort.lesion_masks[row], int)
        scan, twin, again = ("scan", row, 0), ("twin", row, 0), 0 if self.free is None else self.free.shape[1]
        found = [("null", ("null", row, k), ("null", row, k), None) for k in range(again)]
        found.append(("as it is", scan, scan, labels))
        if self.cohort.absent_ldct is not None:
            found += [("removal", scan, twin, labels), ("insertion", twin, scan, labels)]
        return found

    def body(self, row: int):
        """Where the body is in a slice, boolean (H, W); None where nothing is found."""
        found = intensity.body_mask(np.float32(self.cohort.ndct[row]))
        return found if found.any() else None


def examined(slices: Slices, sources, find, tolerated: float, progress=iter) -> pd.DataFrame:
    """Every segment of every comparison by ``hallucinations.examine``: a row a run, kind, slice, source and segment.

    Args: sources: images whose segments are tested. find: function of a slice that gives its segments (label map or
        masks). tolerated: share of its contrast that any structure may lose or gain; 0 for the perfect denoiser, which
        is tested in all images. progress: wraps the slices.
    """
    spectrum, found = {}, []
    for key, made in slices.outputs.items():
        known = [at for at in made if at[0] == ("scan" if slices.free is None else "null")]
        ldct, ndct = ([slices.images[at][name] for at in known] for name in ("ldct", "ndct"))
        spectrum[key] = hallucinations.removed_spectrum(ldct, [made[at] for at in known], ndct)
    for patient, row in progress(slices.tested):
        found += _of_slice(slices, patient, row, sources, find, tolerated, spectrum)
    return pd.concat(found, ignore_index=True).assign(p=np.nan)


def _of_slice(slices, patient, row, sources, find, tolerated, spectrum):
    """Tables of the segments of one slice. Those of one image are found once, for all denoisers."""
    body, kept, found = slices.body(row), {}, []

    def segments_of(name, image):
        if name not in kept:
            regions = find(image)
            kept[name] = regions, hallucinations.outlined(regions, body)
        return kept[name]

    for kind, compared, seen, labels in slices.comparisons(row):
        for key, made in slices.outputs.items():
            if seen not in made or (key == PERFECT and kind != "null"):
                continue
            wanted = ("truth", "ndct", "ldct") if key == PERFECT else sources
            for source in wanted:
                name = (key, seen) if source == "prediction" else (source, compared)
                image = made[seen] if source == "prediction" else slices.images[compared][source]
                table = hallucinations.examine(
                    slices.images[compared]["ldct"], made[seen], *segments_of(name, image), spectrum[key], body, labels,
                    0.0 if key == PERFECT else tolerated,
                )  # fmt: skip
                where = {"patient": patient, "row": row, "realisation": compared[2], "source": source}
                found.append(table.assign(run=key, kind=kind, **where))
    return found


def with_p(table: pd.DataFrame, kind: str, whose: str, classes: int) -> pd.DataFrame:
    """A table of ``examined`` with p of every segment, from the null of all others, run by run and source by source.

    Args: kind: whose segments are the null. whose: patient or row, the unit that never answers for itself. classes: of
        area, each with a null of its own.
    """
    found = table.assign(p=np.nan)
    for _, part in found.groupby(["run", "source"]):
        part = part.assign(patient=part[whose])
        found.loc[part.index, "p"] = null.against_others(part, part[part.kind == kind], classes)
    return found


def cutouts(slices: Slices, key: str, suspects: pd.DataFrame, find, half: int = 48) -> list[dict]:
    """What is drawn of suspicious segments: a dictionary a row of ``suspects``.

    Args: key: the run. suspects: rows with row, source and segment. half: pixels from a segment's middle to the rim.
    Returns: ldct, output, ndct (HU), segment (boolean) and lesions (label map, or None), cut out alike; mean_hu (of the
        segment in the NDCT), anatomy, patient, pixel_mm (NaN where unknown), before_hu and change_hu.
    """
    found, about = [], slices.cohort.slices.set_index("row")
    half = min(half, min(slices.cohort.ldct.shape[1:]) // 2)
    for one in suspects.itertuples():
        ldct, ndct = (np.float32(getattr(slices.cohort, name)[one.row]) for name in ("ldct", "ndct"))
        images = {"ldct": ldct, "ndct": ndct, "prediction": slices.denoisers[key](ldct)}
        mask = segments.masks_of(find(images[one.source]))[one.segment - 1]
        corner = [int(np.clip(round(m) - half, 0, n - 2 * half)) for m, n in zip(np.argwhere(mask).mean(0), mask.shape)]
        box = tuple(slice(c, c + 2 * half) for c in corner)
        labels = None if slices.cohort.lesion_masks is None else np.asarray(slices.cohort.lesion_masks[one.row])[box]
        found.append({"ldct": ldct[box], "output": images["prediction"][box], "ndct": ndct[box], "segment": mask[box],
                      "lesions": labels, "mean_hu": float(ndct[mask].mean()), "anatomy": about.anatomy[one.row],
                      "patient": one.patient, "pixel_mm": float(about.pixel_mm[one.row]),
                      "before_hu": one.before_hu, "change_hu": one.change_hu})  # fmt: skip
    return found
