"""Scanning Fourier ring correlation: against a plain loop, against what theory says, and as marks of a FROC."""

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from ldct_utils.structures import froc, sfrc

PIXEL = 0.75


def texture(seed=0, size=160, grain=1.0):
    """Correlated noise (size, size) around 50 HU."""
    return 50 + 20 * ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((size, size)), grain)


def slow(image, reference, pixel_mm, patch, stride, threshold):
    """The same by loops over patches, pixels of the spectrum, and rings."""
    steps = [sorted({*range(0, n - patch, stride), n - patch}) for n in image.shape]
    window = [0.5 - 0.5 * np.cos(2 * np.pi * i / patch) for i in range(patch)]
    weight = np.array([[a * b for b in window] for a in window])
    out = []
    for top in steps[0]:
        for left in steps[1]:
            both = []
            for one in (image, reference):
                cut = one[top : top + patch, left : left + patch]
                both.append(np.fft.fft2((cut - np.average(cut, weights=weight)) * weight))
            product, first, second = (np.zeros(patch) for _ in range(3))
            for u in range(patch):
                for v in range(patch):
                    ring = round(np.hypot(min(u, patch - u), min(v, patch - v)))
                    product[ring] += (both[0][u, v] * both[1][u, v].conjugate()).real
                    first[ring] += abs(both[0][u, v]) ** 2
                    second[ring] += abs(both[1][u, v]) ** 2
            last, found = 1.0, np.inf
            for ring in range(1, patch // 2 + 1):
                now = product[ring] / np.sqrt(first[ring] * second[ring])
                if now < threshold:
                    found = (ring - 1 + (last - threshold) / (last - now)) / (patch * pixel_mm)
                    break
                last = now
            out.append(found)
    return np.array(out)


@pytest.mark.parametrize(("patch", "stride", "threshold"), [(16, 8, 0.5), (16, 16, 0.75), (32, 11, 0.5)])
def test_crossings_are_those_of_a_plain_loop(patch, stride, threshold):
    image, other = texture(0, 50), texture(1, 50)
    reference = image + 1.2 * (other - 50)
    known = slow(image, reference, PIXEL, patch, stride, threshold)
    assert np.isfinite(known).any() and np.unique(known).size > 3
    np.testing.assert_allclose(sfrc.crossing(image, reference, PIXEL, patch, stride, threshold), known, rtol=1e-9)


def test_identical_images_never_cross_nor_do_a_scaled_one_and_air():
    image = texture()
    assert np.isinf(sfrc.crossing(image, image, PIXEL)).all()
    assert np.isinf(sfrc.crossing(image, 3 * image + 100, PIXEL)).all()  # a correlation knows no scale and no offset
    air = np.full((64, 64), -1000.0)
    assert np.isinf(sfrc.crossing(air, air, PIXEL)).all()
    assert (sfrc.crossing(air, texture(0, 64), PIXEL) <= 1 / (64 * PIXEL)).all()  # a lost patch agrees in nothing
    assert (sfrc.crossing(-image, image, PIXEL) < 1 / (64 * PIXEL)).all()  # inverted is no agreement


def test_independent_noise_crosses_at_the_lowest_rings():
    lowest = 1 / (64 * PIXEL)
    found = np.concatenate([sfrc.crossing(texture(2 * i), texture(2 * i + 1), PIXEL, stride=48) for i in range(40)])
    assert np.mean(found <= lowest) > 0.75 and np.quantile(found, 0.95) <= 3 * lowest


@pytest.mark.parametrize("cut", [0.1, 0.2, 0.3])  # cycles per pixel
def test_a_low_pass_crosses_near_its_cut_off(cut):
    rng = np.random.default_rng(0)
    white = rng.standard_normal((192, 192))
    f = np.fft.fftfreq(192)
    kept = np.fft.ifft2(np.fft.fft2(white) * (np.hypot(f[:, None], f) < cut)).real
    image = kept + 0.2 * rng.standard_normal((192, 192))  # above the cut only independent noise
    found = sfrc.crossing(image, white, 1.0)
    np.testing.assert_allclose(found, cut, atol=1.5 / 64)
    assert sfrc.crossing(image, white, PIXEL) == pytest.approx(found / PIXEL)  # per mm


def test_a_structure_moves_the_crossing_of_its_own_patch_and_of_no_other():
    reference = texture(0, 192, 2.0)
    image = reference.copy()
    y, x = np.mgrid[:192, :192]
    image[np.hypot(y - 95, x - 31) < 5] += 60
    shared = 8 * np.random.default_rng(3).standard_normal((192, 192))
    before, after = (sfrc.crossing(one + shared, reference, PIXEL, stride=64) for one in (reference, image))
    changed = np.flatnonzero(before != after)
    assert changed.tolist() == [3] and after[3] < before[3] / 2  # the second row's first of 3 x 3


def test_patches_reach_every_edge_and_bad_input_says_what_to_do():
    where = sfrc.corners((70, 100), 32, 16)
    assert where.max(0).tolist() == [38, 68] and len(where) == len(np.unique(where, axis=0)) == 4 * 6
    assert sfrc.corners((64, 64)).tolist() == [[0, 0]]
    with pytest.raises(ValueError, match=r"64 pixels do not fit a slice of shape \(60, 99\): take smaller"):
        sfrc.crossing(*np.zeros((2, 60, 99)), PIXEL)
    with pytest.raises(ValueError, match="one slice"):
        sfrc.crossing(np.zeros((64, 64)), np.zeros((64, 65)), PIXEL)
    with pytest.raises(ValueError, match=r"threshold between 0 and 1, got 0 mm, 0\.5"):
        sfrc.crossing(*np.zeros((2, 64, 64)), 0)
    with pytest.raises(ValueError, match="threshold between 0 and 1"):
        sfrc.crossing(*np.zeros((2, 64, 64)), PIXEL, threshold=1.0)
    with pytest.raises(ValueError, match="even side"):
        sfrc.corners((64, 64), 33)


# ---- marks ----
def planted(size=192):
    """Structures 4 and 9 near one middle, 7 near another, and a body that ends at column 128."""
    labels = np.zeros((size, size), int)
    for number, (y, x) in {4: (62, 62), 9: (68, 70), 7: (128, 98)}.items():
        labels[y - 3 : y + 4, x - 3 : x + 4] = number
    body = np.zeros((size, size), bool)
    body[:, :128] = True
    return labels, body


def test_a_patch_shows_what_lies_nearest_and_is_no_false_mark_where_it_only_touches():
    labels, body = planted()
    image = texture(0, 192)
    table = sfrc.marks(image, image, PIXEL, body, labels)
    middles = table[table.structure > 0].set_index("structure")[["y", "x"]]
    assert middles.loc[[4, 9]].drop_duplicates().to_numpy().tolist() == [[63.5, 63.5]]
    assert middles.loc[7].tolist() == [127.5, 95.5]
    touching = table[table.structure == -1]
    assert len(touching) and all(
        labels[int(y - 31.5) : int(y + 32.5), int(x - 31.5) : int(x + 32.5)].any()
        for y, x in zip(touching.y, touching.x)
    )
    assert not any(
        labels[int(y - 31.5) : int(y + 32.5), int(x - 31.5) : int(x + 32.5)].any()
        for y, x in table.loc[table.structure == 0, ["y", "x"]].to_numpy()
    )
    assert table.x.max() == 127.5  # half of it lies in the body
    free = sfrc.marks(image, image, PIXEL)
    assert len(free) == 25 and not free.structure.any()


def test_another_detector_takes_part_by_the_highest_of_its_segments_in_a_patch():
    labels, _ = planted()
    patches = sfrc.marks(*np.zeros((2, 192, 192)), PIXEL, structures=labels)
    segments = pd.DataFrame({"y": [60, 66, 191, 191], "x": [60, 66, 191, 0], "score": [1.0, 5.0, 3.0, 2.0]})
    score = sfrc.of_segments(patches, segments)
    assert score[patches.structure.isin([4, 9])].tolist() == [5, 5]
    assert score[patches.patch == 24].tolist() == [3] and np.sort(score[score > 0]).tolist() == [2, 3, 5, 5]
    assert not sfrc.of_segments(patches, segments.iloc[:0]).any()


def test_a_planted_structure_is_found_and_a_cutoff_keeps_its_false_marks_on_others():
    """Removal of a disc from shared texture with noise of its own in image and reference."""
    rows, slices = [], []
    y, x = np.mgrid[:192, :192]
    for number in range(8):
        rng = np.random.default_rng(number)
        labels = np.zeros((192, 192), int)
        labels[np.hypot(y - rng.integers(50, 140), x - rng.integers(50, 140)) < 6] = 1
        truth = texture([5, number], 192, 2.0)
        image, reference = truth + 2 * rng.standard_normal((2, 192, 192))
        table = sfrc.marks(image, reference + 40 * labels, PIXEL, structures=labels)
        rows.append(table.assign(patient=number, image=number))
        slices.append({"patient": number, "image": number, "structures": 1})
    patches, slices = pd.concat(rows, ignore_index=True), pd.DataFrame(slices)
    curves = froc.curves(patches.assign(score=-patches.lp_mm), slices, [], [1.0], draws=50)
    assert curves.y[0] > 0.9 and curves.y.iloc[-1] > 0.8 and curves.low[0] > 0.8
    cut = sfrc.cutoff(patches[patches.patient < 4], 4)
    assert np.isfinite(cut)
    own = sfrc.at_cutoff(patches[patches.patient < 4], slices[slices.patient < 4], cut)
    assert own.false_marks.mean() == 1.0 and own.found.mean() >= 0.75
    other = sfrc.at_cutoff(patches[patches.patient >= 4], slices[slices.patient >= 4], cut)
    assert other.false_marks.mean() < 3 and other.found.mean() >= 0.75
    assert sfrc.cutoff(patches, 8, 0.0) == -np.inf
    none = sfrc.at_cutoff(patches, slices, -np.inf)
    assert not none.found.any() and not none.false_marks.any() and len(none) == 8
