"""What a report card measures of a denoiser: on slices of a cohort, and on simulated patients that are scanned anew.

Denoisers are compared on the same slices, the same lesions and the same noise. What the measures ask stands in
``card``.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from ldct_utils import cohorts
from ldct_utils.cohorts import diffdrr_lesions
from ldct_utils.ct import intensity, planted, texture
from ldct_utils.metrics import compute
from ldct_utils.phantom import patient as phantom
from ldct_utils.segments import segment, tissue_masks
from ldct_utils.structures import hallucinations, null
from ldct_utils.task_based import ensembles, equivalence, fabrication, npwe, observers, resolution

TOLERATED = 0.1  # share of its contrast that any structure may lose or gain
FINE = 0.4  # lp/mm, above which structure is called fine
LESIONS = (ensembles.Lesion(1.0, -25.0), ensembles.Lesion(2.0, -9.0), ensembles.Lesion(4.0, -3.0))
DOSES = (0.1, 0.25, 0.5, 1.0)  # of the FBP that a denoised image is set beside
CROP, REGION = 96, 33  # pixels around lesions: what is denoised, and what an observer sees
STRUCTURED, REPEATS = 160, 12  # side of anatomy full of edges, pixels; noise realisations
FEWEST = 40  # structures of slices without lesions, from which it is told what is usual
PASTED = "control: texture pasted"
CONTRASTS = (30.0, 300.0)  # HU of the discs at whose edges resolution is measured
SHIFT = "shift of "  # before a tissue's name: a measure of its own, in HU with its sign


# ---- on slices of a cohort ----
def outputs(denoise: Callable, cohort, rows, batch: int = 4) -> dict[str, np.ndarray]:
    """What a denoiser makes of slices: ``with`` and, where the cohort knows them, ``without`` their lesions.

    Returns: (S, H, W) float32 HU each.
    """
    found = {}
    for name, images in (("with", cohort.ldct), ("without", cohort.absent_ldct)):
        if images is not None:
            parts = [rows[i : i + batch] for i in range(0, len(rows), batch)]
            found[name] = np.concatenate([denoise(np.asarray(images[part], np.float32)) for part in parts])
    return found


def conventions() -> dict[str, Callable]:
    """{convention: NDCT slice and anatomy -> evaluation domain}: how papers take PSNR and SSIM of one image."""
    return {
        "range 4096 HU": lambda ndct, anatomy: intensity.domain("hu"),
        "[-1024, 3072] HU in 8 bits": lambda ndct, anatomy: intensity.domain("viana2025"),
        "[-160, 240] HU": lambda ndct, anatomy: intensity.Domain("window", 1.0, 40.0, 400.0),
        "[-1000, 1000] HU": lambda ndct, anatomy: intensity.Domain("window", 1.0, 0.0, 2000.0),
        "the anatomy's window": lambda ndct, anatomy: intensity.domain("eulig2024", anatomy),
        "the slice's own range": lambda ndct, anatomy: intensity.Domain("hu", float(np.ptp(ndct))),
        "range 4096 HU, body only": lambda ndct, anatomy: intensity.domain("body"),
    }


def outputs_of(one, cohort, rows, batch: int = 4) -> dict[str, np.ndarray]:
    """``outputs`` of an ``opened.Denoiser``; of finished images those that were given."""
    if one.images is None:
        return outputs(one, cohort, rows, batch)
    return {"with": np.stack([one.images[int(row)] for row in rows])}


def by_convention(made, target, anatomies, patients) -> pd.DataFrame:
    """PSNR and SSIM of the same images in every convention: patient, convention, psnr, ssim; a row a slice.

    Args: made, target: (S, H, W) HU. anatomies, patients: of each slice.
    """
    rows = []
    for convention, domain_of in conventions().items():
        for image, wanted, anatomy, patient in zip(made, target, anatomies, patients):
            found = compute(
                pred=image[None], target=np.asarray(wanted, np.float32)[None], names=["psnr", "ssim"],
                domain=domain_of(wanted, anatomy),
            ).set_index("metric")["value"]  # fmt: skip
            rows.append({"patient": patient, "convention": convention, "psnr": found["psnr"], "ssim": found["ssim"]})
    return pd.DataFrame(rows)


def in_conventions(outputs: dict, cohort, rows) -> pd.DataFrame:
    """``by_convention`` of several, against the NDCT, with name. Args: outputs: {name: of ``outputs_of``}."""
    about = cohort.slices.set_index("row").loc[rows]
    of = (cohort.ndct[rows], about["anatomy"], about["patient"])
    return pd.concat([by_convention(made["with"], *of).assign(name=name) for name, made in outputs.items()])


def measured(outputs: dict, denoisers: dict, cohort, rows) -> pd.DataFrame:
    """``on_slices`` and, of those that can be called, ``suspicious``: name, measure, patient, value.

    Args: outputs: {name: of ``outputs_of``}. denoisers: {name: function of (N, H, W) HU}.
    """
    tables = [on_slices(made, cohort, rows).assign(name=name) for name, made in outputs.items()]
    tables += [suspicious(one, cohort, rows).assign(name=name) for name, one in denoisers.items()]
    return pd.concat(tables, ignore_index=True)


def on_real_ct(denoisers: dict, dose: float, kernel: str, most: int, progress=iter) -> pd.DataFrame:
    """``on_slices`` of a real CT with known lesions, with name. Args: most: slices of it, those that hold a lesion."""
    source = diffdrr_lesions.__name__.rpartition(".")[2]  # by its module, so that a run's id follows its code
    real = cohorts.get(source, dose=dose, kernel=kernel)
    rows = real.spread(np.flatnonzero([(mask > 0).any() for mask in real.lesion_masks]), most)
    made = {name: outputs(one, real, rows) for name, one in progress(denoisers.items())}
    return pd.concat([on_slices(images, real, rows).assign(name=name) for name, images in made.items()])


def on_slices(made: dict, cohort, rows) -> pd.DataFrame:
    """Errors, bias, noise and contrast kept: measure, patient, value.

    Args: made: of ``outputs``. The truth is what errors are taken from, or the NDCT where there is no truth.
    """
    about = cohort.slices.set_index("row").loc[rows]
    target = np.asarray((cohort.ndct if cohort.truth is None else cohort.truth)[rows], np.float32)
    ldct, ndct = (np.asarray(images[rows], np.float32) for images in (cohort.ldct, cohort.ndct))
    found = []
    for i, (_, one) in enumerate(about.iterrows()):
        pair = {"pred": made["with"][i : i + 1], "target": target[i : i + 1]}
        marks = compute(**pair, names=["rmse_hu", "mean_srmse", "max_srmse"], domain=intensity.domain("hu"))
        marks = marks.set_index("metric")["value"]
        error, tissues = (made["with"][i] - target[i]).astype(np.float64), tissue_masks(target[i])
        shifts = {name: error[mask].mean() for name, mask in tissues.items() if name != "body" and mask.sum() > 50}
        window = intensity.domain("eulig2024", one.anatomy)
        values = {
            "rmse": np.sqrt((error[tissues["body"]] ** 2).mean()) if tissues["body"].any() else marks["rmse_hu"],
            "ssim": compute(**pair, names=["ssim"], domain=window)["value"].iloc[0],
            "bias": max(map(abs, shifts.values()), default=np.nan),
            **{f"{SHIFT}{name}": shift for name, shift in shifts.items()},
            "mean_srmse": marks["mean_srmse"], "max_srmse": marks["max_srmse"],
        }  # fmt: skip
        found += [{"measure": name, "patient": one.patient, "value": value} for name, value in values.items()]
    for patient, part in about.groupby("patient"):
        at, pixel_mm = np.flatnonzero(about.index.isin(part.index)), float(part["pixel_mm"].median())
        found += [
            {"patient": patient} | row for row in _of_noise(made["with"][at], target[at], ldct[at], ndct[at], pixel_mm)
        ]
        found += [{"patient": patient} | row for row in _kept(made, cohort, rows, at)]
    return pd.DataFrame(found).groupby(["measure", "patient"], sort=False, as_index=False)["value"].mean()


def _of_noise(made, target, ldct, ndct, pixel_mm):
    """Noise left in flat tissue, how unlike the NDCT's its texture is, where its spectrum has its peak and how far that
    moved from the LDCT's; nothing where no tissue is flat, no peak where the pixel size is not known."""
    corners = texture.places(target)
    if not any(map(len, corners)):
        return []
    known = np.any(ndct != target)  # without a truth the NDCT is its own target
    left, given, usual = (texture.curve(images - target * known, corners) for images in (made, ldct, ndct))
    peak, before = (texture.peak(curve) / pixel_mm for curve in (left, given))
    flat = [(m - t)[y : y + texture.SIDE, x : x + texture.SIDE] for m, t, c in zip(made, target, corners) for y, x in c]
    return [
        {"measure": "noise", "value": float(np.sqrt(np.mean([one.var() for one in flat])))},
        {"measure": "texture", "value": texture.shape_error(left, usual)},
        {"measure": "peak", "value": peak},
        {"measure": "peak_moved", "value": peak - before},
    ]


def _kept(made, cohort, rows, at):
    """Contrast kept of a patient's lesions, each weighing alike."""
    if "without" not in made or cohort.lesion_masks is None:
        return []
    signal = np.asarray(cohort.ldct[rows[at]], np.float32) - np.asarray(cohort.absent_ldct[rows[at]], np.float32)
    nearest = planted.territories(np.asarray(cohort.lesion_masks[rows[at]]))
    kept = planted.kept_by_lesion(made["without"][at], made["with"][at], signal, nearest)
    return [{"measure": "kept", "value": float(np.mean([*kept.values()]))}] if kept else []


def suspicious(denoise: Callable, cohort, rows) -> pd.DataFrame:
    """Structures that changed more than noise changes any, a slice, on slices as they are and without lesions.

    A hospital has no NDCT: structures of the LDCT and of the output are tested, of the slice with most lesion of each
    patient, and what is usual is counted on the other patients' slices without lesions (``structures.null``).

    Args: cohort: of simulated patients, or of a real scan with inserted lesions.
    Returns: measure, patient, value; empty where slices without lesions are not known, or too few to tell the usual.
    """
    about, empty = cohort.slices.set_index("row").loc[rows], pd.DataFrame(columns=["measure", "patient", "value"])
    if cohort.absent_ldct is None or about.patient.nunique() < 2:
        return empty
    area = {row: int((cohort.lesion_masks[row] > 0).sum()) for row in rows}
    chosen = [max(part.index, key=area.get) for _, part in about.groupby("patient")]
    seen = {("as it is", row): np.asarray(cohort.ldct[row], np.float32) for row in chosen}
    seen |= {("without", row): np.asarray(cohort.absent_ldct[row], np.float32) for row in rows}
    made = {key: denoise(image[None])[0] for key, image in seen.items()}
    free = [key for key in seen if key[0] == "without"]
    ndct = [np.float32(cohort.absent_ndct[row]) for _, row in free]
    spectrum = hallucinations.removed_spectrum([seen[k] for k in free], [made[k] for k in free], ndct)
    tables = []
    for (kind, row), image in seen.items():
        body = intensity.body_mask(image)
        for source, of in (("ldct", image), ("prediction", made[kind, row])):
            regions = segment(of, "felzenszwalb").regions
            outlines = hallucinations.outlined(regions, body)
            table = hallucinations.examine(image, made[kind, row], regions, outlines, spectrum, body, None, TOLERATED)
            tables.append(table.assign(kind=kind, row=row, source=source, patient=about.patient[row]))
    table = pd.concat(tables, ignore_index=True).assign(p=np.nan)
    usual = table[table.kind == "without"]
    others = min(sum(usual[usual.source == s].patient != p) for s in ("ldct", "prediction") for p in about.patient)
    if others < FEWEST:
        return empty
    for source, part in table.groupby("source"):
        table.loc[part.index, "p"] = null.against_others(part, usual[usual.source == source], 1 + (others > 2 * FEWEST))
    judged = null.ranked(table, within=["kind", "row", "source"])
    counts = judged.groupby(["kind", "patient", "row"])["suspicious"].sum().groupby(["kind", "patient"]).mean()
    names = {"as it is": "suspicious", "without": "false_alarms"}
    return pd.DataFrame([
        {"measure": names[kind], "patient": patient, "value": float(value)} for (kind, patient), value in counts.items()
    ])  # fmt: skip


# ---- on simulated patients that are scanned anew, many times ----
def detected(denoisers: dict, count: int, realisations: int, dose: float, seed=0, kernel="B30", progress=iter):
    """d' of faint lesions at known places in simulated livers, for FBP at ``DOSES`` and every denoiser at one dose.

    Observers: CHO, a ceiling that no denoiser can raise (``observers.cho``), and NPWE, which has an eye and internal
    noise (``npwe``), fixed on the first patient's FBP at full dose.

    Args: denoisers: {name: function of (N, H, W) HU}. count: patients. realisations: of noise, a class.
    Returns: name, dose, patient, observer, value (mean over lesions).
    """
    rows, internal = [], None
    for number, (body, crop, places) in enumerate(progress(ensembles.patients(count, LESIONS, CROP, seed))):
        made = ensembles.ensemble(body.absent_scene[0], body.pixel_mm, crop, LESIONS, places, realisations,
                                  [seed, number], kernel)  # fmt: skip
        fbp = {one: [made.images(present, one) for present in (False, True)] for one in DOSES}
        internal = internal or npwe.internal_noise(*_regions(made, fbp[1.0], made.signals.sum(0), 0), made.pixel_mm)
        cases = [("FBP", one, classes, made.signals.sum(0)) for one, classes in fbp.items()]
        for name, f in denoisers.items():
            classes, few = [f(one) for one in fbp[dose]], fbp[dose][0][: ensembles.PAIRED]
            cases.append((name, dose, classes, (f(few + made.signals.sum(0)) - classes[0][: len(few)]).mean(0)))
        for name, at, classes, passed in cases:
            head = {"name": name, "dose": at, "patient": number}
            for observer, value in _observed(made, classes, passed, internal).items():
                rows.append(head | {"observer": observer, "value": value})
    return pd.DataFrame(rows)


def _regions(made, classes, signal, lesion):
    """Absent and present class and what the lesions add, in the region around one of them."""
    return [made.region(images, lesion, REGION) for images in (*classes, signal)]


def _observed(made, classes, passed, internal) -> dict[str, float]:
    """d' by observer, mean over lesions. Args: passed: (H, W), what the denoiser passes on of the lesions, HU."""
    found = {"CHO": [], "NPWE": []}
    for lesion, about in enumerate(made.lesions):
        absent, present, signal = _regions(made, classes, passed, lesion)
        found["CHO"].append(observers.cho(absent, present, about.radius_mm / made.pixel_mm).d_prime)
        found["NPWE"].append(npwe.npwe(absent, present, signal, made.pixel_mm, internal).d_prime)
    return {observer: float(np.mean(values)) for observer, values in found.items()}


def worth(table: pd.DataFrame, name: str, observer: str, dose: float, draws: int = 2000, seed: int = 0):
    """The dose of the FBP that is worth a denoised image, ``equivalence.Dose``. Args: table: of ``detected``."""
    part = table[table["observer"] == observer]
    fbp = part[part["name"] == "FBP"].pivot(index="patient", columns="dose", values="value")[list(DOSES)].to_numpy()
    own = part[(part["name"] == name) & (part["dose"] == dose)].set_index("patient")["value"].sort_index().to_numpy()
    pair = fbp, np.repeat(own[:, None], len(DOSES), 1)
    linear = not all((one > 0).all() for one in pair)
    curves = [equivalence.rising(one, 1, linear) for one in pair]
    return equivalence.equivalent(DOSES, *curves, at=0, draws=draws, seed=seed, linear=linear)


def resolved(denoisers: dict, dose: float, realisations: int, seed=0, kernel="B30") -> pd.DataFrame:
    """Resolution at the edge of a disc by contrast: name, measure, value (lp/mm where half is left). One phantom."""
    asked = [("FBP", -1, lambda hu: hu), *((name, -1, f) for name, f in denoisers.items())]
    table = resolution.inserts(asked, CONTRASTS, dose, realisations, [seed, 2], kernel)
    names = dict(zip(CONTRASTS, ("sharp", "sharp_strong")))
    table = table[table["method"] != "noise-free"]
    return pd.DataFrame({"name": table["method"], "measure": table["contrast_hu"].map(names), "value": table["f50"]})


def invented(denoisers: dict, count: int, dose: float, seed=0, kernel="B30", progress=iter) -> pd.DataFrame:
    """Fine structure that comes back in every realisation over the truth's own power, at the frequency where that is
    highest: name, patient, value. Texture that is pasted onto the LDCT stands beside denoisers as the control."""
    rows = []
    for number in progress(range(count)):
        body = phantom.patient([seed, 1000 + number], "abdomen", slices=1)
        scene = body.absent_scene[0]
        place = (*((full - STRUCTURED) // 2 for full in scene.shape), STRUCTURED, STRUCTURED)
        made = ensembles.ensemble(
            scene, body.pixel_mm, place, realisations=REPEATS, seed=[seed, 1, number], kernel=kernel
        )
        low, truth = made.images(False, dose), made.truth(False)
        pasted = fabrication.controls(made, dose, [seed, number])["texture pasted"]
        for name, images in [("FBP", low), (PASTED, pasted), *((name, f(low)) for name, f in denoisers.items())]:
            found = resolution.coherence(images, truth, made.pixel_mm)
            fine = found.frequencies >= FINE - 1e-9
            rows.append({"name": name, "patient": number, "value": float(found.surplus[fine].max())})
    return pd.DataFrame(rows)
