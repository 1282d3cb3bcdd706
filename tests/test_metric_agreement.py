"""Our metrics beside independent implementations on the same pair, with the cause of each difference.

One pair: scikit-image's camera, 512 x 512 in [0, 1], and the same with noise of SD .05 (seed 0, clipped). What is
called by one name is not one number:

| metric     | ours     | others                                                                                       |
|------------|----------|----------------------------------------------------------------------------------------------|
| PSNR       | 26.16258 | skimage the same; piq 26.16256: it adds 1e-8 to the MSE                                      |
| SSIM       | .520799  | skimage's default the same: 7x7 uniform window, sample covariance                            |
| Gaussian   | .515298  | skimage with Wang's window and piq at full size the same; piq's default .775704: it halves   |
| SSIM       |          | first; torchmetrics .513357: keeps the border; pyiqa .515217: 8 bits, clips negative terms   |
| MS-SSIM    | .882447  | piq the same; torchmetrics .882353: keeps the border of each scale                           |
| VIFp       | .335051  | piq and torchmetrics on 0-255 the same; torchmetrics on 0-1 .990: blind to the image's noise |
| VIF        | .447058  | pyiqa's code, covariances in float64; in float32 .44703 to .44734 by CPU; other than VIFp    |
| GMSD       | .114244  | pyiqa .114316: 8 bits; ours after rounding .114315                                           |
| FSIM       | .916350  | pyiqa the same, in float32                                                                   |
| HaarPSI    | .667986  | its equations in NumPy the same, aligned as MATLAB's conv2; as SciPy aligns: .668257         |
"""

import re

import numpy as np
import pytest
import torch
from scipy import signal, special
from skimage import data
from skimage import metrics as skimage_metrics

from ldct_utils import metrics
from ldct_utils.ct import intensity
from ldct_utils.metrics import full_reference


@pytest.fixture(scope="module")
def pair():
    """(noisy, camera), float64 (512, 512) in [0, 1]."""
    camera = data.camera() / 255
    noisy = (camera + np.random.default_rng(0).normal(0, 0.05, camera.shape)).clip(0, 1)
    return noisy, camera


@pytest.fixture(scope="module")
def tensors(pair):
    """The same as tensors (1, 512, 512)."""
    return [torch.from_numpy(image)[None] for image in pair]


@pytest.fixture(scope="module")
def small(pair):
    """A corner of 176 x 180 pixels with channels: what slow 2-D convolutions in float64 are asked for."""
    return [torch.from_numpy(image[60:236, 180:360].copy())[None, None] for image in pair]


def ours(name, images):
    return metrics.info(name).compute(*images, 1.0).item()


def test_psnr_is_scikit_images_and_piqs_but_for_its_epsilon(pair, tensors):
    import piq

    noisy, camera = pair
    value = ours("psnr", tensors)
    assert value == pytest.approx(26.1626, abs=1e-4)
    assert value == pytest.approx(skimage_metrics.peak_signal_noise_ratio(camera, noisy, data_range=1), abs=1e-10)
    biased = 10 * np.log10(1 / (np.mean((noisy - camera) ** 2) + 1e-8))  # piq's protection against identical images
    assert piq.psnr(*[x[:, None] for x in tensors], data_range=1.0).item() == pytest.approx(biased, abs=1e-9)


def test_nrmse_agrees_with_scikit_image(pair, tensors):
    noisy, camera = pair
    assert ours("nrmse", tensors) == pytest.approx(skimage_metrics.normalized_root_mse(camera, noisy), abs=1e-12)


def test_ssim_is_scikit_images_default(pair, tensors):
    noisy, camera = pair
    value = ours("ssim", tensors)
    assert value == pytest.approx(skimage_metrics.structural_similarity(camera, noisy, data_range=1), abs=1e-10)
    assert value == pytest.approx(0.521, abs=0.001)


@pytest.mark.parametrize("shape", [(7, 7), (8, 31), (63, 50)])
@pytest.mark.parametrize(("level", "peak"), [(0.0, 1.0), (-900.0, 4096.0), (3000.0, 4096.0)])
def test_ssim_is_scikit_images_at_any_size_and_level(shape, level, peak):
    rng = np.random.default_rng(1)
    target = level + rng.normal(0, 0.02 * peak, shape)
    pred = target + rng.normal(0, 0.01 * peak, shape)
    expected = skimage_metrics.structural_similarity(target, pred, data_range=peak)
    value = full_reference.ssim(torch.from_numpy(pred)[None], torch.from_numpy(target)[None], peak).item()
    assert value == pytest.approx(expected, abs=1e-10)


def test_gaussian_ssim_is_wangs_and_piqs_at_full_size(pair, small):
    import piq

    noisy, camera = (image[0, 0].numpy() for image in small)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1}
    value = ours("ssim_gaussian", [image[:, 0] for image in small])
    assert value == pytest.approx(skimage_metrics.structural_similarity(camera, noisy, **options), abs=1e-10)
    assert value == pytest.approx(piq.ssim(*small, data_range=1.0, downsample=False).item(), abs=1e-10)


def test_piqs_default_ssim_differs_because_it_halves_the_image_first(tensors):
    import piq

    channels = [image[:, None].float() for image in tensors]
    default = piq.ssim(*channels, data_range=1.0).item()
    halved = [torch.nn.functional.avg_pool2d(image[:, None], 2)[:, 0] for image in tensors]
    assert default - ours("ssim_gaussian", tensors) > 0.2
    assert default == pytest.approx(ours("ssim_gaussian", halved), abs=1e-4)


def test_torchmetrics_ssim_differs_because_it_keeps_a_padded_border(small):
    from torchmetrics.functional.image import structural_similarity_index_measure

    value = ours("ssim_gaussian", [image[:, 0] for image in small])
    kept, full = structural_similarity_index_measure(*small, data_range=1.0, return_full_image=True)
    assert abs(kept.item() - value) > 1e-4
    assert full.shape[-2:] == small[0].shape[-2:]
    assert full[..., 5:-5, 5:-5].mean().item() == pytest.approx(value, abs=1e-6)


def test_pyiqas_ssim_differs_because_it_clips_negative_structure_and_rounds_to_8_bits():
    from pyiqa.archs.ssim_arch import SSIM

    target = torch.rand(1, 64, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    opposite = 1 - target
    theirs = SSIM()(*[image[:, None].expand(-1, 3, -1, -1).float() for image in (opposite, target)]).item()
    assert ours("ssim_gaussian", [opposite, target]) < -0.5 and theirs == pytest.approx(0, abs=1e-6)
    near = (target + 0.4 / 255 * torch.sign(torch.round(target * 255) - target * 255)).clip(0, 1)  # to the same level
    theirs = SSIM()(*[image[:, None].expand(-1, 3, -1, -1).float() for image in (near, target)]).item()
    assert theirs == pytest.approx(1, abs=1e-6) and ours("ssim_gaussian", [near, target]) < 1 - 1e-6


def test_ms_ssim_is_piqs_and_torchmetrics_differs_by_the_border(small):
    import piq
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

    value = ours("ms_ssim", [image[:, 0] for image in small])
    assert value == pytest.approx(piq.multi_scale_ssim(*small, data_range=1.0).item(), abs=1e-10)
    odd = [image[..., :175, :177] for image in small]
    theirs = piq.multi_scale_ssim(*odd, data_range=1.0).item()
    assert ours("ms_ssim", [image[:, 0] for image in odd]) == pytest.approx(theirs, abs=1e-10)
    bordered = multiscale_structural_similarity_index_measure(*[i.float() for i in small], data_range=1.0).item()
    assert 1e-5 < abs(bordered - value) < 0.02


def test_vifp_is_piqs_and_torchmetrics_on_0_to_255(small):
    import piq
    from torchmetrics.functional.image import visual_information_fidelity

    value = ours("vifp", [image[:, 0] for image in small])
    assert value == pytest.approx(piq.vif_p(*small, data_range=1.0).item(), abs=1e-7)
    assert value == pytest.approx(visual_information_fidelity(*[255 * x for x in small]).item(), abs=1e-9)
    assert visual_information_fidelity(*small).item() > 0.95  # on 0-1 the model's own noise hides the image's


STATED = re.findall(r"^\| ([A-Z][A-Za-z-]+) +\| ([\d.]+) ", __doc__, re.MULTILINE)


@pytest.mark.parametrize(("label", "value"), STATED)
def test_our_values_are_as_stated_above(label, value, tensors):
    name = {"Gaussian": "ssim_gaussian"}.get(label, label.lower().replace("-", "_"))
    assert ours(name, tensors) == pytest.approx(float(value), abs=6e-6)


def test_the_table_above_is_read():
    assert [label for label, _ in STATED] == [
        "PSNR",
        "SSIM",
        "Gaussian",
        "MS-SSIM",
        "VIFp",
        "VIF",
        "GMSD",
        "FSIM",
        "HaarPSI",
    ]


def test_vifp_of_the_benchmark_is_torchmetrics_with_swapped_arguments():
    from torchmetrics.functional.image import visual_information_fidelity

    rng = np.random.default_rng(2)
    target = np.kron(rng.uniform(-100, 200, (8, 8)), np.ones((10, 10)))[None]
    pred = target + rng.normal(0, 30, target.shape)
    levels = [torch.from_numpy((image + 1024).clip(0, 2924))[None] for image in (target, pred)]
    expected = visual_information_fidelity(*levels).item()  # (preds, target) given as (target, prediction)
    for name in ("eulig2024", "hu"):
        table = metrics.compute(pred=pred, target=target, names=["vifp_eulig"], domain=intensity.domain(name))
        assert table["value"].item() == pytest.approx(expected, abs=1e-9)
    assert visual_information_fidelity(*levels[::-1]).item() != pytest.approx(expected, rel=0.01)


def test_vifp_is_not_symmetric_and_rewards_contrast():
    rng = np.random.default_rng(3)
    image = torch.from_numpy(np.kron(rng.uniform(0.2, 0.8, (16, 16)), np.ones((4, 4))))[None]
    more = 0.5 + 1.1 * (image - 0.5)
    assert ours("vifp", [more, image]) > 1 > ours("vifp", [image, more])


def test_both_ways_of_filtering_give_the_same_numbers():
    image = torch.rand(2, 30, 41, dtype=torch.float64)
    for weights in (full_reference.UNIFORM_7, full_reference.gaussian(9, 1.8)):
        window = torch.tensor(weights, dtype=torch.float64)
        plain = torch.nn.functional.conv2d(image[:, None], torch.outer(window, window)[None, None])[:, 0]
        for step in (1, 2):
            for method in (full_reference.filtered, full_reference.by_shifts):
                torch.testing.assert_close(
                    method(image, weights, step), plain[:, ::step, ::step], rtol=0, atol=1e-14
                )  # fmt: skip


def test_numbers_are_the_same_without_opencv(tensors, monkeypatch):
    names = ("ssim", "ssim_gaussian", "ms_ssim", "vifp")
    with_opencv = [ours(name, tensors) for name in names]
    monkeypatch.setattr(full_reference, "_opencv", lambda: None)
    assert [ours(name, tensors) for name in names] == pytest.approx(with_opencv, abs=1e-10)


def test_gmsd_agrees_with_pyiqa_but_for_its_8_bits(tensors):
    from pyiqa.archs.gmsd_arch import GMSD

    rounded = [torch.round(image * 255) / 255 for image in tensors]
    theirs = GMSD(test_y_channel=True)(*[image[:, None].expand(-1, 3, -1, -1).float() for image in tensors]).item()
    assert theirs == pytest.approx(ours("gmsd", rounded), abs=5e-6)
    assert abs(theirs - ours("gmsd", tensors)) > 5e-5


def test_fsim_agrees_with_pyiqa(tensors):
    from pyiqa.archs.fsim_arch import FSIM

    theirs = FSIM(chromatic=False)(*[image[:, None].expand(-1, 3, -1, -1).float() for image in tensors]).item()
    assert ours("fsim", tensors) == pytest.approx(theirs, abs=1e-5)


def by_the_equations(pred, target, same, c=30, alpha=4.2):
    """HaarPSI as Reisenhofer et al. 2018 define it. ``same``: how convolutions are cut to size."""

    def responses(image):
        image = 255 * image.reshape(len(image) // 2, 2, -1, 2).mean((1, 3))
        found = []
        for side in (2, 4, 8):
            wavelet = np.full((side, side), 1 / side)
            wavelet[: side // 2] *= -1
            found.append([np.abs(same(signal.convolve2d(image, w), side, len(image))) for w in (wavelet, wavelet.T)])
        return np.array(found)  # (scales, directions, H, W)

    pred, target = responses(pred), responses(target)
    similar = (2 * pred * target + c) / (pred**2 + target**2 + c)
    local, weight = special.expit(alpha * similar[:2].mean(0)), np.maximum(pred, target)[2]
    return (special.logit((local * weight).sum() / weight.sum()) / alpha) ** 2


def test_haarpsi_is_its_equations_and_depends_on_where_even_windows_are_centred(pair, tensors):
    matlab = by_the_equations(*pair, same=lambda full, side, size: full[side // 2 :, side // 2 :][:size, :size])
    scipys = by_the_equations(*pair, same=lambda full, side, size: full[side // 2 - 1 :, side // 2 - 1 :][:size, :size])
    assert ours("haarpsi", tensors) == pytest.approx(matlab, abs=1e-10)
    assert scipys == pytest.approx(0.668257, abs=6e-6)


def pyiqas_vif(tensors):
    import pyiqa

    metric = pyiqa.create_metric("vif", device="cpu")
    return metric(*[image[:, None].expand(-1, 3, -1, -1).float() for image in tensors]).item()


def test_wavelet_vif_is_pyiqas_and_sees_nothing_finer_than_8_bits(tensors):
    # pyiqa sums products over 262,144 pixels in float32; by how MKL adds on a CPU, that is .44703 to .44734.
    assert ours("vif", tensors) == pytest.approx(pyiqas_vif(tensors), abs=5e-4)
    levels = torch.randint(90, 110, (1, 64, 64), generator=torch.Generator().manual_seed(0))
    target = intensity.from_net(levels.double() / 255)
    domain = intensity.domain("hu")  # half a grey level is 8.03 HU
    values = [
        metrics.compute(pred=target + shift * (levels % 2), target=target, names=["vif"], domain=domain)["value"][0]
        for shift in (0.0, 7.0, 9.0)
    ]
    assert values[0] == 1 == pytest.approx(values[1], abs=1e-5) and values[2] < 0.999


class OneAfterAnother(torch.overrides.TorchFunctionMode):
    """Within it, a long product of float32 matrices is summed as the plainest CPU would: a number after the other."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is not torch.matmul or args[0].dtype != torch.float32 or args[0].shape[-1] < 1000:
            return func(*args, **(kwargs or {}))
        a, b = (matrix[0, 0].numpy() for matrix in args)
        sums = [[np.cumsum(row * column, dtype=np.float32)[-1] for column in b.T] for row in a]
        return torch.tensor(np.array(sums))[None, None]


def test_wavelet_vif_does_not_depend_on_how_a_cpu_sums_in_float32(tensors):
    usual = ours("vif", tensors)
    with OneAfterAnother():
        assert abs(pyiqas_vif(tensors) - usual) > 1e-4
        assert ours("vif", tensors) == usual
