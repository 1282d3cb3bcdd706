"""What is measured of found images, on crops and denoisers whose answer is known: all is shown, all is hidden, half."""

import dataclasses
import weakref

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage
from scipy.stats import kstest

from ldct_utils import segments
from ldct_utils.invariance import evidence, examine
from ldct_utils.invariance.cases import Case, Drawn

SIZE, PATCH, NOISE_HU = 48, 24, 10.0
Y, X = np.mgrid[:SIZE, :SIZE]
PLACES = ((20, 20), (38, 14))  # of a lesion in the patch, and one at its edge and at the crop's
AWAY = np.stack([np.hypot(Y - row, X - column) for row, column in PLACES])
INSIDE, AROUND = AWAY < 4.5, (AWAY > 6) & (AWAY < 8.5)
SIGNAL = np.where(INSIDE.any(0), -30.0, 0.0)
TISSUE = np.full((SIZE, SIZE), 60.0)
TISSUE[27:35, 27:35] = TISSUE[14:22, 32:40] = 160.0  # two segments: one in the patch, one at its edge
LESIONS = pd.DataFrame({"lesion": [4, 7], "radius_mm": 3.0, "contrast_hu": -30.0, "organ": "liver"})
ASKED = examine.Examination(realisations=40, segmentation="thresholds", region=21)


def case(seed=0, patient="P001", realisations=40, alive=None):
    """A crop of white noise; ``alive`` takes weak references to all that is drawn, of this crop and others."""

    def scans(image, count, which):
        rng = np.random.default_rng([seed, which])
        return (image + rng.normal(0, NOISE_HU, (count, SIZE, SIZE))).astype(np.float32)

    def draw():
        assert all(one() is None for one in alive or ()), "what an earlier crop needed is still in memory"
        drawn = Drawn(
            *(scans(image, realisations, n) for n, image in enumerate((TISSUE + SIGNAL, TISSUE))),
            TISSUE + SIGNAL, SIGNAL,
        )  # fmt: skip
        if alive is not None:
            alive.extend(weakref.ref(images) for images in (drawn.null, drawn.absent))
        return drawn

    ldct, ndct = scans(TISSUE + SIGNAL, 1, 2)[0], scans(TISSUE + SIGNAL, 1, 3)[0]
    return Case(patient, "abdomen", 3, 0.75, ldct, ndct, draw, LESIONS, INSIDE, AROUND)


def identity(hu):
    return np.array(hu)


def constant(hu):
    return np.full_like(hu, 7.0)


def weakening(share):
    """f that passes on this share of what lies inside lesions, and all else."""
    return lambda hu: np.where(INSIDE.any(0), 60 + share * (np.asarray(hu) - 60), hu).astype(np.float32)


def without_lesions(one):
    """Images of a method that removes lesions, half and whole: (1, 2, SIZE, SIZE)."""
    return np.stack([one.ldct - 0.5 * SIGNAL, one.ldct - SIGNAL])[None]


@pytest.fixture(scope="module")
def shown():
    """All tables of a crop for f = identity: images without lesions, and patches that are 5 HU brighter."""
    one = case()
    made = {"removed": without_lesions(one), "brighter": examine.middle(one.ldct, PATCH)[None, None] + 5}
    return ASKED.of(identity, [one], made)


# ---- denoisers with known answers ----
def test_the_identity_passes_every_change_on(shown):
    assert list(shown) == [*examine.OF_IMAGES, *examine.OF_LESIONS]
    for name in ("segments", "lesions"):
        assert shown[name].change_out.equals(shown[name].change_in) and shown[name].p_out.equals(shown[name].p_in)
        assert not evidence.verdicts(shown[name], 0.05).hidden.any()
    sizes = shown["evidence"]
    assert sizes.out_hu.equals(sizes.in_hu) and sizes.low_out_hu.equals(sizes.low_in_hu)
    assert np.allclose(shown["contrasts"].kept, 1, atol=1e-4)
    x, fx = (shown["detection"].query("image == @image") for image in ("x", "f(x)"))
    assert np.array_equal(x[["d_prime", "d_npw"]], fx[["d_prime", "d_npw"]])


def test_changes_are_those_that_were_made(shown):
    lesions = shown["lesions"].query("method == 'removed'").set_index(["lesion", "image"])
    for number in (4, 7):
        assert lesions.change_in[number].tolist() == pytest.approx([15, 30], abs=1e-4)  # of contrasts of -30 HU
    brighter = shown["segments"].query("method == 'brighter'")
    assert len(brighter) and np.allclose(brighter.change_in, 5, atol=1e-4)
    lesions = shown["lesions"].query("method == 'brighter'")
    assert np.allclose(lesions.change_in, 0, atol=1e-4)  # a shift has no contrast
    sizes = shown["evidence"].set_index("method")
    assert sizes.in_hu["brighter"] == pytest.approx(5, abs=1e-5) == sizes.low_in_hu["brighter"]
    assert sizes.pix_md["brighter"] == pytest.approx(0.00995650, abs=1e-7)  # of 502.185 HU
    assert sizes.in_hu["null, 48 pixels"].mean() == pytest.approx(NOISE_HU * 2**0.5, rel=0.05)
    assert sizes.low_in_hu["null, 48 pixels"].mean() < 0.25 * NOISE_HU


def test_behind_a_constant_everything_that_changed_is_hidden():
    one = case()
    tables = dataclasses.replace(ASKED, region=47).crop(constant, one, {"removed": without_lesions(one)[0]})
    lesions = evidence.verdicts(tables["lesions"], 0.05).query("method == 'removed'")
    assert lesions.changed.all() and lesions.hidden.all() and len(lesions) == 4
    for name in ("segments", "lesions"):
        assert (tables[name].change_out == 0).all() and (tables[name].p_out == 1).all()
    assert (tables["evidence"].out_hu == 0).all() and (tables["evidence"].in_hu > 0).all()
    assert (tables["contrasts"].kept == 0).all()
    assert not len(tables["detection"])  # the region of 47 pixels is cut off for both lesions


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_f_that_weakens_lesions_keeps_that_share_of_their_contrast(share):
    one = case()
    tables = dataclasses.replace(ASKED, region=47).crop(weakening(share), one, {"removed": without_lesions(one)[0]})
    assert np.allclose(tables["contrasts"].kept, share, atol=1e-4)
    lesions = evidence.verdicts(tables["lesions"], 0.05).query("method == 'removed'")
    assert np.allclose(lesions.change_out, share * lesions.change_in, atol=1e-4)
    assert lesions.changed.all() and (lesions.hidden == (share == 0)).all()


# ---- which regions, against which null ----
def test_methods_are_followed_by_a_null_for_every_size_of_their_images(shown):
    methods = ["removed", "brighter", "null, 48 pixels", "null, 24 pixels"]
    for name in ("evidence", "segments", "lesions"):
        assert list(shown[name].method.unique()) == methods
    assert shown["evidence"].groupby("method", sort=False).size().tolist() == [2, 1, 40, 40]
    assert (shown["evidence"].patient == "P001").all() and (shown["evidence"].row == 3).all()


def test_regions_that_are_not_whole_in_the_patch_are_left_out(shown):
    for side, lesions, count in ((SIZE, {4, 7}, 2), (PATCH, {4}, 1)):
        methods = ["removed" if side == SIZE else "brighter", f"null, {side} pixels"]
        for name, column, found in (("lesions", "lesion", lesions), ("segments", "segment", count)):
            rows = shown[name][shown[name].method.isin(methods)]
            for method, part in rows.groupby("method"):
                assert set(part[column]) == found or part[column].nunique() == found, method
    areas = segments.segment(TISSUE + SIGNAL, "thresholds").table.area  # of the truth, not of a noisy image
    assert shown["segments"].groupby("segment").area.unique().map(list).tolist() == [[area] for area in areas]


def test_a_lesion_without_surroundings_in_the_patch_is_left_out_there():
    one, far = case(), AROUND.copy()
    far[0] = X >= 36  # nothing of it in the patch
    far[0, 20, 36 - evidence.SMALLEST : 35] = True  # one pixel too few
    one = dataclasses.replace(one, around=far)
    made = {"whole": one.ldct[None], "patch": examine.middle(one.ldct, PATCH)[None]}
    found = ASKED.crop(identity, one, made)["lesions"]
    assert set(found.method) == {"whole", "null, 48 pixels"}
    far[0, 20, 35] = True
    found = ASKED.crop(identity, one, made)["lesions"]
    assert set(found.method) == {"whole", "patch", "null, 48 pixels", "null, 24 pixels"}


def test_the_null_s_rows_are_realisations_held_back_and_tested_against_the_others(shown):
    one, held = case(), ASKED.held
    assert held == 10
    null = [evidence.contrast(images, INSIDE[0], AROUND[0]) for images in (one.draw().null, one.ldct)]
    change = np.array([scan - null[1] for scan in null[0]])
    p = [(1 + sum(abs(other) >= abs(tested) for other in change[held:])) / 31 for tested in change[:held]]
    rows = shown["lesions"].query("method == 'null, 48 pixels' and lesion == 4")
    assert rows.image.tolist() == list(range(held)) and rows.p_in.tolist() == pytest.approx(p)
    assert rows.change_in.tolist() == pytest.approx(change[:held])
    removed = shown["lesions"].query("method == 'removed' and lesion == 4").iloc[1]
    assert removed.p_in == pytest.approx((1 + sum(abs(change[held:]) >= 30)) / 31) == pytest.approx(1 / 31)


def test_p_of_a_realisation_held_back_is_uniform():
    found = [case(seed, realisations=24) for seed in range(100, 160)]
    asked = dataclasses.replace(ASKED, realisations=24, region=47)
    assert asked.held == 5  # 19 others: p in twentieths
    tables = [asked.crop(identity, one, {"same": one.ldct[None]})["lesions"] for one in found]
    rows = pd.concat(tables).query("method != 'same' and image == 0")
    for _, p in rows.groupby("lesion").p_in:
        assert len(p) == 60 and kstest(p, "uniform").pvalue > 0.01
        assert (p <= 0.1).mean() == pytest.approx(0.1, abs=0.1)


def test_real_pairs_have_segments_of_the_ndct_and_no_lesions():
    one = case()
    ndct = np.full((SIZE, SIZE), 60.0)
    ndct[0], ndct[10:20, 10:20] = -1000.0, 160.0  # air, and one segment
    drawn = {"ndct": ndct, "draw": lambda: Drawn(one.draw().null)}
    real = dataclasses.replace(one, **drawn, lesions=None, inside=None, around=None)
    tables = ASKED.of(identity, [real], {"same": np.repeat(one.ldct[None, None], 12, axis=1)})
    assert tuple(tables) == examine.OF_IMAGES
    assert tables["segments"].groupby("method").size().to_dict() == {"same": 12, "null, 48 pixels": ASKED.held}
    assert tables["segments"].segment.unique().tolist() == [1] and 64 <= tables["segments"].area.iloc[0] <= 100


def test_x_itself_is_one_more_realisation_unless_the_null_is_too_narrow():
    def own(share):
        tables = []
        for seed in range(40):
            one = dataclasses.replace(case(seed), lesions=None, inside=None, around=None)
            null = (TISSUE + SIGNAL + share * (one.draw().null - TISSUE - SIGNAL)).astype(np.float32)
            one = dataclasses.replace(one, draw=lambda null=null: Drawn(null))
            smooth = lambda hu: ndimage.uniform_filter(hu, (0,) * (np.ndim(hu) - 2) + (5, 5))  # noqa: E731
            made = {"same": one.ldct[None], "part": one.ldct[None, 12:36, 12:36]}
            tables.append(ASKED.crop(smooth, one, made)["own"])
        return pd.concat(tables).groupby("segment")

    right = own(1.0)
    assert len(right) == 2  # of whole crops, not of the smaller patches, in which one of them is cut off
    for _, rows in right:
        assert len(rows) == 40 and all(kstest(rows[end], "uniform").pvalue > 0.01 for end in ("p_in", "p_out"))
    for _, rows in own(0.4):
        assert (rows.p_in <= 0.1).mean() > 0.35 and (rows.p_out <= 0.1).mean() > 0.35


# ---- detection ----
def test_lesions_are_weakened_to_the_d_prime_that_was_asked_for_and_cut_regions_left_out(shown):
    found = shown["detection"]
    assert found.lesion.tolist() == [4, 4] and found.image.tolist() == ["x", "f(x)"]  # 7 lies at the edge
    whole = found.d_full.iloc[0]
    assert whole > 10 and found.gain.iloc[0] == pytest.approx(2 / whole)
    assert found.d_prime.iloc[0] == pytest.approx(2, abs=0.8) and found.d_npw.iloc[0] == pytest.approx(2, abs=0.8)
    assert (found.low < found.d_prime).all() and (found.d_prime < found.high).all()
    wide = dataclasses.replace(ASKED, region=41)  # the neighbour, whose own region is cut off, lies in this one
    beside = wide.crop(identity, case(), {"same": case().ldct[None]})["detection"]
    assert beside.lesion.tolist() == [4, 4] and beside.d_npw.iloc[0] == pytest.approx(2, abs=0.8)
    halved = ASKED.crop(weakening(0.5), case(), {"same": case().ldct[None]})["detection"].set_index("image").d_npw
    assert halved["f(x)"] == pytest.approx(halved["x"], rel=1e-3)  # the noise there is halved as well
    strong = dataclasses.replace(ASKED, faint=1e6).crop(identity, case(), {"same": case().ldct[None]})["detection"]
    assert (strong.gain == 1).all() and np.allclose(strong.d_prime, whole)


def test_a_denoiser_that_gives_a_constant_leaves_no_d_prime():
    found = ASKED.crop(constant, case(), {"same": case().ldct[None]})["detection"].set_index("image")
    assert found.d_prime["f(x)"] == 0 == found.d_npw["f(x)"] and found.d_prime["x"] > 1


# ---- memory, order, refusals ----
def test_what_one_crop_needs_is_forgotten_before_the_next_is_drawn():
    alive, seen = [], []
    found = [case(seed, f"P{seed:03d}", alive=alive) for seed in (5, 3, 4)]
    made = {"same": np.stack([one.ldct for one in found])[:, None]}
    tables = ASKED.of(identity, found, made, lambda crops: (seen.append(one.patient) or one for one in crops))
    assert seen == ["P005", "P003", "P004"] and len(alive) == 6
    for table in tables.values():
        assert list(table.patient.unique()) == seen and table.index.tolist() == list(range(len(table)))
    assert np.allclose(tables["evidence"].query("method == 'same'").in_hu, 0)  # each crop has its own images


@pytest.mark.parametrize(
    "given, message",
    [
        ({"realisations": 19}, "realisations=19 no p could be as small as level=0.05; take 20 or more"),
        ({"realisations": 3, "level": 0.9}, "take 4 or more"),
        ({"level": 0.0}, "level=0.0"),
        ({"region": 32}, "an odd number a side, not 32"),
        ({"faint": 0.0}, "not faint=0.0"),
    ],
)
def test_what_has_no_answer_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        examine.Examination(**({"realisations": 40} | given))
    assert examine.Examination(realisations=20).held == 1


def test_patches_larger_than_the_crop_and_tables_without_a_row_are_refused():
    one = case()
    with pytest.raises(ValueError, match="64 pixels needs a crop as large, not crop=48"):
        ASKED.of(identity, [one], {"large": np.zeros((1, 1, 64, 64))})
    with pytest.raises(ValueError, match="no crop has a row for the table 'detection'"):
        dataclasses.replace(ASKED, region=47).of(identity, [one], {"same": one.ldct[None, None]})
