"""Finding structures: what each method finds, what is left out, linking through z, Segment Anything from files."""

from types import SimpleNamespace

import numpy as np
import pytest

from ldct_utils import segments
from ldct_utils.ct import intensity
from ldct_utils.segments import labels as held
from ldct_utils.segments import sam


def slice_hu(size=128, noise=5.0, seed=0):
    """(slice in HU, structures by name) of a body with five structures, a speck, and a table outside."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] - size / 2
    image = np.where(np.hypot(x, y * 1.2) < 0.45 * size, 50.0, -1000.0)
    image[-6:-3, 20:-20] = 150.0
    places = {"lung": (-15, -22, 13, -850.0), "fat": (18, -18, 9, -100.0), "bone": (28, 15, 6, 600.0),
              "vessel": (-5, 22, 5, 170.0), "lesion": (10, 30, 4, -30.0), "speck": (-25, 12, 1.5, 400.0)}  # fmt: skip
    masks = {}
    for name, (row, column, radius, hu) in places.items():
        masks[name] = np.hypot(x - column, y - row) < radius
        image[masks[name]] = hu
    return image + noise * rng.standard_normal(image.shape), masks


def overlap(found, mask):
    return max(((one & mask).sum() / (one | mask).sum() for one in found.masks), default=0)


@pytest.mark.parametrize("method", ["felzenszwalb", "otsu", "thresholds"])
def test_structures_are_found_and_the_speck_the_table_and_the_body_are_not(method):
    image, masks = slice_hu()
    found = segments.segment(image, method, **({"anatomy": "bone"} if method == "otsu" else {}))
    for name in ("lung", "fat", "bone") if method != "otsu" else ("lung", "bone"):
        assert overlap(found, masks[name]) > 0.5, name
    assert found.table["area"].min() >= segments.MIN_AREA
    assert found.table["area"].max() <= 0.5 * intensity.body_mask(image).sum()
    assert not found.masks[:, -6:].any() and not found.masks[:, :5].any()
    assert method in found.method and "20 pixels or more" in found.method


@pytest.mark.parametrize("method", ["felzenszwalb", "otsu", "thresholds"])
def test_segments_of_one_slice_are_always_the_same_and_disjoint(method):
    image, _ = slice_hu()
    first, second = (segments.segment(image.copy(), method) for _ in range(2))
    np.testing.assert_array_equal(first.regions, second.regions)
    assert first.regions.dtype == np.int32 and set(np.unique(first.regions)) == set(range(len(first) + 1))
    assert first.masks.sum(0).max() == 1


def test_the_table_describes_each_segment():
    image, _ = slice_hu()
    found = segments.segment(image)
    for row, mask in zip(found.table.itertuples(), found.masks):
        y, x = np.nonzero(mask)
        assert (row.area, row.row, row.column) == pytest.approx((mask.sum(), y.mean(), x.mean()))
        assert row.mean_hu == pytest.approx(image[mask].mean())


def test_every_exclusion_is_a_parameter():
    image, _ = slice_hu(noise=0)
    plain = segments.segment(image)
    small = segments.segment(image, min_area=200)
    assert len(plain) > len(small) > 0 and small.table["area"].min() >= 200
    whole = segments.segment(image, max_share=1.0)
    assert whole.table["area"].max() > 0.5 * intensity.body_mask(image).sum() >= plain.table["area"].max()
    outside = segments.segment(image, min_inside=0.0, max_share=10.0)
    assert outside.masks[:, 0, 0].any() and not plain.masks[:, 0, 0].any()


def test_air_that_a_window_has_clipped_is_background_too():
    image, masks = slice_hu()
    found = segments.segment(image.clip(-160, 240))
    assert not found.masks[:, :5].any() and not found.masks[:, :, :3].any()
    assert overlap(found, masks["lung"]) > 0.5 and overlap(found, masks["bone"]) > 0.5


def test_the_window_of_the_anatomy_decides_what_is_seen():
    image, masks = slice_hu(noise=0)
    left = np.arange(128) < 79
    image[masks["bone"] & left], image[masks["bone"] & ~left] = 400, 1200  # the abdominal window shows both white
    seen = {name: segments.segment(image, anatomy=name) for name in ("bone", "abdomen")}
    assert overlap(seen["bone"], masks["bone"]) < 0.7 < overlap(seen["abdomen"], masks["bone"])
    assert "window of bone" in seen["bone"].method
    assert segments.channels(image).shape == (128, 128, 3) and segments.channels(image, "head").shape == (128, 128, 1)


def test_tissues_by_thresholds_are_where_they_were_drawn():
    image, masks = slice_hu()
    tissues = segments.tissue_masks(image)
    for tissue, name in {"lungs": "lung", "fat": "fat", "bone": "bone", "contrast": "vessel"}.items():
        share = (tissues[tissue] & masks[name]).sum() / masks[name].sum()
        assert share > 0.6 and not (tissues[tissue] & masks["lesion"]).any()
    assert (np.sum([tissues[name] for name in segments.TISSUES], axis=0) <= tissues["body"]).all()


def test_near_duplicates_fall_and_the_better_ranked_stays():
    masks = np.zeros((4, 20, 20), bool)
    masks[0, 2:12, 2:12] = masks[1, 2:12, 2:13] = masks[2, 5:8, 5:8] = masks[3, 14:, 14:] = True
    kept = held.distinct(masks, 0.8)
    np.testing.assert_array_equal(kept, masks[[0, 2, 3]])
    np.testing.assert_array_equal(held.distinct(masks, 0.95), masks)
    assert held.distinct(masks[:0], 0.8).shape == (0, 20, 20)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_hu": np.zeros((2, 8, 8))}, r"one slice \(H, W\), got shape \(2, 8, 8\)"),
        ({"image_hu": np.full((8, 8), np.nan)}, "values that are not finite: 64"),
        ({"method": "watershed"}, "unknown method 'watershed'; known: felzenszwalb, otsu, thresholds, sam"),
        ({"anatomy": "knee"}, "no window is known for anatomy 'knee'"),
        ({"method": "otsu", "image_hu": np.full((16, 16), 40.0)}, "shows fewer than 4 grey levels"),
    ],
)
def test_what_cannot_be_segmented_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        segments.segment(**{"image_hu": np.zeros((16, 16))} | arguments)


# ---- volumes ----
def test_segments_that_overlap_enough_are_linked_through_z():
    volume = np.zeros((4, 20, 20), int)
    volume[0, 2:8, 2:8] = 1
    volume[1, 3:8, 2:8], volume[1, 12:16, 12:16] = 2, 1
    volume[2, 3:8, 3:8], volume[2, 15:19, 15:19] = 1, 3
    linked = segments.link(volume)
    assert linked.max() == 3 and ((linked > 0) == (volume > 0)).all()
    tube = {int(linked[z, 5, 5]) for z in range(3)}
    assert len(tube) == 1 and linked[1, 13, 13] != linked[2, 17, 17]
    assert segments.link(volume, overlap=1.0).max() == 5
    np.testing.assert_array_equal(segments.link(np.zeros((2, 4, 4), int)), 0)
    with pytest.raises(ValueError, match="overlap in"):
        segments.link(volume, overlap=0.0)


# ---- Segment Anything ----
def test_without_weights_it_is_said_what_to_put_where(outputs, monkeypatch):
    monkeypatch.delenv("LDCT_WEIGHTS", raising=False)
    with pytest.raises(
        FileNotFoundError, match=r"config.json.*model.safetensors missing in .*weights/sam.*facebook/sam"
    ):
        segments.segment(slice_hu()[0], "sam")


@pytest.fixture(scope="module")
def tiny_sam(tmp_path_factory):
    """A folder with a tiny Segment Anything of random weights, as its repository is laid out."""
    transformers = pytest.importorskip("transformers")
    import torch

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("sam")
    config = transformers.SamConfig(
        vision_config={"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 64,
                       "patch_size": 16, "output_channels": 16, "mlp_dim": 16, "window_size": 2,
                       "global_attn_indexes": [0], "num_pos_feats": 8},
        prompt_encoder_config={"hidden_size": 16, "image_size": 64, "patch_size": 16, "image_embedding_size": 4},
        mask_decoder_config={"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "mlp_dim": 16,
                             "iou_head_hidden_dim": 16},
    )  # fmt: skip
    transformers.SamModel(config).save_pretrained(folder)
    size = {"longest_edge": 64}
    transformers.SamImageProcessor(size=size, pad_size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder


def test_segment_anything_gives_masks_from_files_without_a_network(tiny_sam):
    image, _ = slice_hu(64)
    shown = segments.channels(image)
    masks, words = sam.masks(shown, tiny_sam, points_per_side=3, pred_iou=-9.0, stability=0.0)
    assert masks.dtype == bool and masks.shape[1:] == image.shape and "ViT of width 16, 3 points a side" in words
    again, _ = sam.masks(shown, tiny_sam, points_per_side=3, pred_iou=-9.0, stability=0.0)
    np.testing.assert_array_equal(masks, again)
    options = {"folder": tiny_sam, "points_per_side": 3, "pred_iou": -9.0, "stability": 0.0}
    found = segments.segment(image, "sam", min_inside=0.0, max_share=9.0, **options)
    assert found.regions.shape[1:] == image.shape and len(found) == len(found.regions) <= len(masks)
    none = segments.segment(image, "sam", **options | {"pred_iou": 9.0})
    assert none.regions.shape == (0, 64, 64) and len(none) == 0


def test_masks_come_best_first_so_that_the_better_duplicate_stays(monkeypatch):
    masks = np.zeros((3, 40, 40), bool)
    masks[0, 5:15, 5:15] = masks[1, 5:15, 5:16] = masks[2, 20:30, 20:30] = True
    model = SimpleNamespace(config=SimpleNamespace(vision_config=SimpleNamespace(hidden_size=8)))

    class Generator:
        def __call__(self, image, **settings):
            assert image.size == (40, 40) and image.mode == "RGB"
            return {"masks": list(masks), "scores": [0.90, 0.95, 0.92]}

    Generator.model = model
    monkeypatch.setattr(sam, "generator", lambda folder, device: Generator())
    found, _ = sam.masks(np.zeros((40, 40, 1)))
    np.testing.assert_array_equal(found, masks[[1, 2, 0]])
    image = np.where(masks.any(0), 100.0, 40.0)
    image[:, -3:] = -1000.0
    np.testing.assert_array_equal(segments.segment(image, "sam").regions, masks[[1, 2]])


def test_weights_that_would_run_code_are_not_opened(tiny_sam, tmp_path):
    import shutil

    for name in sam.FILES[:2]:
        shutil.copy(tiny_sam / name, tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04cos\nsystem\n.")
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors missing"):
        sam.generator(str(tmp_path))
