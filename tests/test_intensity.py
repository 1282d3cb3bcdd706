"""HU, network range, windows and evaluation domains."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from ldct_utils.ct import dicom, intensity
from ldct_utils.phantom import patient


def test_network_range_is_the_published_one():
    assert intensity.to_net(np.array([-1024.0, 3072.0, 0.0])).tolist() == [0, 1, 0.25]


@pytest.mark.parametrize("kind", [np.array, torch.tensor])
def test_network_range_round_trips_without_clipping(kind):
    hu = kind([-2000.0, -1024.0, 12.5, 40.0, 3500.0])
    assert np.allclose(intensity.from_net(intensity.to_net(hu)), hu, atol=1e-3)


def test_window_puts_level_at_one_half_and_clips():
    assert intensity.window(np.array([-160.0, 40, 240, -2000, 2000]), 40, 400).tolist() == [0, 0.5, 1, 0, 1]


@pytest.mark.parametrize("width", [0, -1])
def test_window_rejects_nonpositive_width(width):
    with pytest.raises(ValueError, match=str(width)):
        intensity.window(np.zeros(1), 0, width)
    with pytest.raises(ValueError, match="width"):
        intensity.dicom_window(np.zeros(1), 0, width)


def test_dicom_window_has_the_edges_of_the_standard():
    level, width = 50.0, 400.0  # lower and upper edge: level - 0.5 -+ (width - 1) / 2
    edges = np.array([level - 0.5 - (width - 1) / 2, level - 0.5, level - 0.5 + (width - 1) / 2])
    assert intensity.dicom_window(edges, level, width).tolist() == [0, 0.5, 1]


def test_viana_domain_truncates_to_8_bits():
    prepared = intensity.domain("viana2025").prepare(np.array([-2000.0, -1024, -1008.1, -1007.9, 3072, 5000]))
    assert prepared.dtype == np.uint8 and prepared.tolist() == [0, 0, 0, 1, 255, 255]


def test_domains_carry_their_range_and_window():
    assert intensity.domain("hu").data_range == 4096 and intensity.domain("body").body
    assert intensity.domain("viana2025").data_range == 255
    chest = intensity.domain("window", anatomy="chest")
    assert (chest.level, chest.width, chest.data_range) == (-600, 1500, 1)
    assert intensity.domain("window", level=40, width=80).prepare([40.0])[0] == 0.5
    assert intensity.domain("eulig2024", "head").prepare([39.5])[0] == 0.5
    assert intensity.domain("hu").prepare(np.float32([7]))[0] == 7
    for name in intensity.DOMAINS:
        assert intensity.domain(name).text


def test_unknown_domain_and_anatomy_are_named():
    with pytest.raises(ValueError, match="hounsfield"):
        intensity.domain("hounsfield")
    with pytest.raises(ValueError, match="knee"):
        intensity.domain("window", anatomy="knee")


def test_body_mask_fills_lungs_and_leaves_the_table_out():
    y, x = np.mgrid[:128, :128] - 64.0
    image = np.where(np.hypot(x, y) < 40, 40.0, -1000.0)
    image[np.hypot(x - 10, y) < 12] = -850  # lung
    image[118:121] = 200  # table
    mask = intensity.body_mask(np.stack([image, np.full_like(image, -1000)]))
    assert mask.shape == (2, 128, 128) and mask[0, 64, 74] and not mask[0, 119].any() and not mask[1].any()
    assert abs(mask[0].sum() / (np.hypot(x, y) < 40).sum() - 1) < 0.03
    with pytest.raises(ValueError, match="shape"):
        intensity.body_mask(np.zeros(3))


def chest(shape=(160, 160), half_width=100):
    """Soft tissue with two lungs on a table of foam in a shell, HU; wider than the image where half_width > 80."""
    y, x = np.mgrid[: shape[0], : shape[1]] - np.array(shape)[:, None, None] / 2.0
    image = np.full(shape, -1000.0)
    image[y > 45] = -930  # the foam that a table is filled with
    image[(y > 70) & (y < 74)] = -300
    image[np.hypot(x / half_width, y / 58) < 1] = 40
    for side in (-1, 1):
        image[np.hypot((x - side * 0.45 * half_width) / (0.4 * half_width), (y + 5) / 38) < 1] = -850
    return image


@pytest.mark.parametrize("noise", [0, 60])
@pytest.mark.parametrize("columns", [slice(None), slice(30, 130), slice(70, 160)])
def test_body_mask_keeps_lungs_that_the_edge_cuts_and_neither_air_nor_table(noise, columns):
    image = chest()
    lungs, outside = image == -850, np.isin(image, (-1000, -930, -300))
    lungs, outside = (
        ndimage.binary_erosion(part, iterations=3, border_value=1)[:, columns] for part in (lungs, outside)
    )
    image += np.random.default_rng(0).normal(0, noise, image.shape)
    mask = intensity.body_mask(image.clip(-1024)[:, columns])
    assert lungs.any() and mask[lungs].all() and not mask[outside].any()


def test_body_mask_of_a_windowed_image_takes_no_air_in():
    shown = chest().clip(-160, 240)[:, 30:130]
    outside = (chest() < -900)[:, 30:130]
    assert not (intensity.body_mask(shown, -159.0) & outside).any()


@pytest.mark.parametrize("size", [128, 256])
def test_body_mask_holds_every_lung_and_lesion_of_a_simulated_chest_that_the_window_cuts(size):
    body = patient.patient(3, "chest", size=size, slices=1)
    found, lung = intensity.body_mask(body.truth), body.organ_masks == 11
    assert patient.ORGANS[11] == "lung" and found[lung].all() and found[body.lesion_masks > 0].all()
    assert (found & (body.organ_masks == 0)).mean() < 0.01


def test_body_mask_leaves_air_and_table_out_of_real_slices_and_of_windows_on_them(test_data):
    paths = [*test_data.glob("ct_abdomen_dicom/*.dcm"), *test_data.glob("mayo2016/L*/*/*.IMA")]
    for path in sorted(paths)[::4]:
        image = dicom.read_hu(path)
        mask, smooth = intensity.body_mask(image), ndimage.uniform_filter(image.astype(float), 5)
        assert 0.25 < mask.mean() < 0.7 and (smooth[mask] < -950).mean() < 0.02, path  # what little there is, is gas
        for top, left in ((128, 128), (200, 128), (128, 30), (128, 220), (230, 50)):  # lungs cut, or body and table
            part = np.s_[top : top + 256, left : left + 256]
            assert (intensity.body_mask(image[part]) != mask[part]).mean() < 0.05, (path, top, left)
