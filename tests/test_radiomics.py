"""Radiomic features against the published values of IBSI's digital phantom, and RFS."""

import numpy as np
import pytest
from scipy import ndimage
from skimage.feature import graycomatrix

from ldct_utils.metrics import feature_similarity, radiomics

N = 0
# The digital phantom: four slices of 4 x 5 voxels, grey levels 1, 3, 4 and 6, 0 outside the region of interest.
PHANTOM = np.array([
    [[1, 4, 4, 1, 1], [1, 4, 6, 1, 1], [4, 1, 6, 4, 1], [4, 4, 6, 4, 1]],
    [[1, 4, 4, 1, 1], [1, 1, 6, 1, 1], [N, 1, 3, 1, 1], [4, 4, 6, 1, 1]],
    [[1, 4, 4, N, N], [1, 1, 1, 1, 1], [1, 1, N, 1, 1], [1, 1, 6, 1, 1]],
    [[1, 4, 4, N, N], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 6, 1, 1]],
])  # fmt: skip
# IBSI reference manual, tables of the intensity-based statistics and (entropy, uniformity) of the intensity histogram.
FIRST_ORDER = {
    "mean": 2.15, "variance": 3.05, "skewness": 1.08, "kurtosis": -0.355, "median": 1, "minimum": 1, "percentile_10": 1,
    "percentile_90": 4, "maximum": 6, "interquartile_range": 3, "range": 5, "mean_absolute_deviation": 1.55,
    "robust_mean_absolute_deviation": 1.11, "energy": 567, "root_mean_square": 2.77, "entropy": 1.27,
    "uniformity": 0.512,
}  # fmt: skip
# The same manual, tables of the GLCM: 2-D by slice averaged over directions and merged; 3-D averaged and merged.
GLCM = {
    "maximum_probability": (0.519, 0.512, 0.503, 0.509),
    "joint_average": (2.14, 2.14, 2.14, 2.15),
    "joint_variance": (2.69, 2.71, 3.1, 3.13),
    "joint_entropy": (2.05, 2.24, 2.4, 2.57),
    "difference_average": (1.42, 1.4, 1.43, 1.38),
    "difference_variance": (2.9, 3.06, 3.06, 3.21),
    "difference_entropy": (1.4, 1.49, 1.56, 1.64),
    "sum_average": (4.28, 4.29, 4.29, 4.3),
    "cluster_tendency": (5.47, 5.66, 7.07, 7.41),
    "sum_entropy": (1.6, 1.79, 1.92, 2.11),
    "joint_energy": (0.368, 0.352, 0.303, 0.291),
    "contrast": (5.28, 5.19, 5.32, 5.12),
    "inverse_difference": (0.678, 0.683, 0.677, 0.688),
    "normalised_inverse_difference": (0.851, 0.854, 0.851, 0.856),
    "inverse_difference_moment": (0.619, 0.625, 0.618, 0.631),
    "normalised_inverse_difference_moment": (0.899, 0.901, 0.898, 0.902),
    "inverse_variance": (0.0567, 0.0553, 0.0604, 0.0574),
    "correlation": (-0.0121, 0.0173, 0.157, 0.183),
    "autocorrelation": (5.09, 5.14, 5.06, 5.19),
    "cluster_shade": (7.0, 6.98, 16.6, 17.4),
    "cluster_prominence": (79.1, 80.4, 145, 147),
    "information_correlation_1": (-0.155, -0.0341, -0.157, -0.0288),
    "information_correlation_2": (0.487, 0.263, 0.52, 0.269),
}


def close(value, published):
    """To the three figures that are published."""
    digits = max(0, 2 - int(np.floor(np.log10(abs(published)))))
    return abs(value - published) <= 0.5001 * 10.0**-digits


# ---- IBSI ----
@pytest.mark.parametrize("name", FIRST_ORDER)
def test_first_order_features_are_those_of_the_digital_phantom(name):
    found = radiomics.first_order(PHANTOM[PHANTOM > 0], bin_width=1, lowest=1)
    assert close(found[name], FIRST_ORDER[name])


def test_the_standard_deviation_is_the_root_of_the_variance():
    found = radiomics.first_order(PHANTOM[PHANTOM > 0], bin_width=1, lowest=1)
    assert found["standard_deviation"] == pytest.approx(np.sqrt(found["variance"]))


@pytest.fixture(scope="module")
def aggregated():
    """GLCM features of the phantom, in the order of the table."""
    slices = [[radiomics.glcm(one, merged) for one in PHANTOM] for merged in (False, True)]
    flat = [{name: np.mean([one[name] for one in found]) for name in radiomics.GLCM} for found in slices]
    return [*flat, radiomics.glcm(PHANTOM), radiomics.glcm(PHANTOM, merged=True)]


@pytest.mark.parametrize("name", GLCM)
def test_glcm_features_are_those_of_the_digital_phantom(aggregated, name):
    for found, published in zip(aggregated, GLCM[name]):
        assert close(found[name], published), (found[name], published)


def test_every_feature_but_one_is_checked():
    assert set(radiomics.GLCM) - set(GLCM) == {"maximal_correlation_coefficient"}
    assert set(radiomics.FIRST_ORDER) - set(FIRST_ORDER) == {"standard_deviation"}
    assert len(radiomics.FIRST_ORDER) == 18 and len(radiomics.GLCM) == 24 and len(set(radiomics.NAMES)) == 42


def test_the_maximal_correlation_is_the_second_eigenvalue_of_its_definition():
    matrix = radiomics.cooccurrences(PHANTOM[0]).sum(0)
    p = matrix[np.ix_([0, 3, 5], [0, 3, 5])] / matrix.sum()
    px = p.sum(0)
    q = np.einsum("ik,jk,i,k->ij", p, p, 1 / px, 1 / px)
    expected = np.sqrt(np.sort(np.linalg.eigvals(q).real)[-2])
    assert radiomics.of_matrix(matrix)["maximal_correlation_coefficient"] == pytest.approx(expected)


def test_matrices_are_scikit_images_with_the_outside_left_out():
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 6, (20, 30))
    theirs = graycomatrix(grey.astype(np.uint8), [1], [0, np.pi / 4, np.pi / 2, 3 * np.pi / 4], 6, symmetric=True)
    ours = radiomics.cooccurrences(grey)
    theirs = theirs[1:, 1:, 0].transpose(2, 0, 1)
    assert sorted(m.tolist() for m in ours) == sorted(m.tolist() for m in theirs.astype(float))


def test_a_volume_has_13_directions():
    assert radiomics.cooccurrences(PHANTOM).shape == (13, 6, 6)


# ---- CT ----
def test_grey_levels_are_25_hu_wide_from_the_lowest_hu_on():
    grey = radiomics.levels([-3000.0, -1024.0, -999.1, -999.0, 0.0, 25.9], [True] * 5 + [False])
    assert grey.tolist() == [1, 1, 1, 2, 41, 0]
    with pytest.raises(ValueError, match="positive width in HU, got 0"):
        radiomics.levels([0.0], [True], bin_width=0)


def test_one_dark_pixel_does_not_move_the_levels_of_the_others():
    rng = np.random.default_rng(0)
    image, mask = rng.normal(40, 30, (24, 24)), np.ones((24, 24), bool)
    before = radiomics.features(image, mask)
    image[5, 5] = -900
    after = radiomics.features(image, mask)
    assert after["glcm_joint_average"] == pytest.approx(before["glcm_joint_average"], rel=0.01)
    assert list(after) == list(radiomics.NAMES)


def test_only_the_segment_counts():
    rng = np.random.default_rng(1)
    image, mask = rng.normal(40, 30, (30, 30)), np.zeros((30, 30), bool)
    mask[4:20, 6:25] = True
    other = np.where(mask, image, 5000)
    assert radiomics.features(image, mask) == radiomics.features(other, mask)


def test_a_segment_of_one_value_has_finite_features():
    found = radiomics.features(np.full((5, 5), 40.0), np.ones((5, 5), bool))
    assert np.isfinite(list(found.values())).all()
    assert found["glcm_correlation"] == 1 and found["entropy"] == 0 and found["skewness"] == 0


@pytest.mark.parametrize(
    ("image", "mask", "message"),
    [
        (np.zeros((4, 4)), np.zeros((4, 4), bool), "the mask is empty"),
        (np.zeros((4, 4)), np.ones((4, 5), bool), r"\(4, 4\) and \(4, 5\)"),
        (np.full((4, 4), np.nan), np.ones((4, 4), bool), "not finite"),
        (np.zeros((4, 4)), np.arange(16).reshape(4, 4) == 5, "no two pixels of the segment are neighbours"),
    ],
)
def test_a_segment_without_features_is_refused(image, mask, message):
    with pytest.raises(ValueError, match=message):
        radiomics.features(image, mask)


# ---- RFS ----
def patient(seed, noise=10.0):
    """(slice in HU, organ -> mask): liver and fat whose level and texture differ from patient to patient."""
    rng = np.random.default_rng(seed)
    image = np.full((40, 40), -1000.0)
    masks = {name: np.zeros((40, 40), bool) for name in ("soft tissue", "fat")}
    masks["soft tissue"][4:24, 4:36] = masks["fat"][24:38, 4:36] = True
    image[masks["soft tissue"]], image[masks["fat"]] = rng.normal(60, 8), rng.normal(-100, 8)
    return image + rng.uniform(0.7, 1.3) * noise * rng.standard_normal(image.shape), masks


@pytest.fixture(scope="module")
def fitted():
    images, masks = zip(*[patient(seed) for seed in range(8)])
    return feature_similarity.fit(feature_similarity.vectors(images, masks), method="drawn")


def test_an_image_is_like_itself(fitted):
    image, masks = patient(20)
    assert fitted.similarity(image, image, masks) == pytest.approx({"soft tissue": 1.0, "fat": 1.0})


def test_noise_and_blur_make_an_image_less_alike(fitted):
    image, masks = patient(21)
    noise = np.random.default_rng(0).standard_normal(image.shape)
    little, much = (fitted.similarity(image + sd * noise, image, masks)["soft tissue"] for sd in (1, 40))
    smooth = fitted.similarity(ndimage.gaussian_filter(image, 1), image, masks)["soft tissue"]
    assert 1 > little > 0.9 > max(much, smooth)


def test_the_cosine_knows_directions_only():
    first, second = np.array([1.0, 2, -3]), np.array([0.5, -1, 4])
    value = feature_similarity.cosine(first, second)
    assert feature_similarity.cosine(7 * first, 0.1 * second) == pytest.approx(value)
    assert feature_similarity.cosine(first, first) == pytest.approx(1)
    assert feature_similarity.cosine(first, -first) == pytest.approx(-1)
    assert feature_similarity.cosine([1, 0, 0], [0, 3, 2]) == 0
    assert np.isnan(feature_similarity.cosine([0, 0], [1, 2]))


def test_unnormalised_features_would_call_anything_alike(fitted):
    image, masks = patient(22)
    noisy = image + 40 * np.random.default_rng(0).standard_normal(image.shape)
    raw = [list(radiomics.features(x, masks["soft tissue"]).values()) for x in (image, noisy)]
    assert feature_similarity.cosine(*raw) > 0.999 > 0.9 > fitted.similarity(noisy, image, masks)["soft tissue"]


def test_training_segments_have_mean_0_and_deviation_1(fitted):
    images, masks = zip(*[patient(seed) for seed in range(8)])
    z = np.array([fitted.z(radiomics.features(i, m["fat"]), "fat") for i, m in zip(images, masks)])
    np.testing.assert_allclose(z.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(z.std(0), 1, rtol=1e-6)


def test_patients_with_many_slices_weigh_as_much_as_those_with_few():
    images, masks = zip(*[patient(seed) for seed in range(4)])
    once = feature_similarity.fit(feature_similarity.vectors(images, masks), "drawn")
    table = feature_similarity.vectors((images[0], *images), (masks[0], *masks), patients=[0, 0, 1, 2, 3])
    twice = feature_similarity.fit(table, "drawn")
    np.testing.assert_allclose(twice.mean, once.mean)
    np.testing.assert_allclose(twice.sd, once.sd)


def test_saving_and_loading_changes_no_score(fitted, tmp_path):
    fitted.save(tmp_path / "rfs.json")
    again = feature_similarity.load(tmp_path / "rfs.json")
    image, masks = patient(23)
    other, _ = patient(24)
    assert again.similarity(other, image, masks) == fitted.similarity(other, image, masks)
    assert again.count == {"soft tissue": 8, "fat": 8} and again.settings["segments"] == "drawn"
    (tmp_path / "rfs.json").write_text('{"mean": {}}')
    with pytest.raises(ValueError, match="holds no radiomic feature similarity"):
        feature_similarity.load(tmp_path / "rfs.json")


def test_a_feature_that_never_varies_in_training_is_left_out():
    images, masks = zip(*[patient(seed) for seed in range(7)])
    for image in images:
        image[10, 10] = 500.1
    rfs = feature_similarity.fit(feature_similarity.vectors(images, masks), "drawn")
    assert rfs.sd.loc["soft tissue", "maximum"] == 0 and rfs.sd.loc["fat", "maximum"] > 0
    brighter = images[0].copy()
    brighter[10, 10] = 3000.0
    assert np.isfinite(rfs.similarity(brighter, images[0], masks[0])["soft tissue"])


def test_what_was_not_fitted_is_refused(fitted):
    image, masks = patient(25)
    with pytest.raises(ValueError, match="not fitted for 'bone'; known: fat, soft tissue"):
        fitted.similarity(image, image, {"bone": masks["fat"]})
    with pytest.raises(ValueError, match="3 or more training segments of every organ, got fat: 1, soft tissue: 1"):
        feature_similarity.fit(feature_similarity.vectors([image], [masks]), "drawn")


def test_tissues_by_thresholds_serve_as_organs():
    images = [patient(seed)[0] for seed in range(4)]
    masks = [feature_similarity.organ_masks(image) for image in images]
    assert set(feature_similarity.vectors(images, masks)["organ"]) == {"body", "fat", "soft tissue"}
    assert "fat" not in feature_similarity.organ_masks(images[0], min_area=500)
