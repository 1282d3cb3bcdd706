"""Anybody's denoiser: found by its name, its range read or found, its faults named, its file run as torch would."""

import json
import pickle
import re
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT, write_tiny_cohort
from dicom_files import write_ct
from scipy import ndimage

from ldct_utils import cohorts
from ldct_utils.ct import conventions, intensity
from ldct_utils.denoisers import finished, onnx_files, opened, probing
from ldct_utils.models import networks
from ldct_utils.study import identity
from ldct_utils.training import prediction

onnx = pytest.importorskip("onnx", reason="onnx makes the files of this test; it is in the lock file's dev packages")


@pytest.fixture
def cohort(outputs):
    return cohorts.load(write_tiny_cohort(outputs / "cohorts" / "simulated-00000000", slices=3))


@pytest.fixture
def pairs(cohort):
    rows = cohort.rows("val")
    return np.asarray(cohort.ldct[rows], np.float32), np.asarray(cohort.ndct[rows], np.float32)


def mean_filter():
    """A torch module that averages 3x3 pixels."""

    class Mean(torch.nn.Module):
        def forward(self, x):
            padded = torch.nn.functional.pad(x, (1, 1, 1, 1), mode="replicate")
            return torch.nn.functional.avg_pool2d(padded, 3, 1)

    return Mean()


class OwnRange(torch.nn.Module):
    """Right in its own range only: it sets what is under 0 to 0 and what is over 1 to 1, as many networks' ends do."""

    def __init__(self, start=0.0, stop=1.0):
        super().__init__()
        self.start, self.stop = start, stop

    def forward(self, x):
        padded = torch.nn.functional.pad(x, (1, 1, 1, 1), mode="replicate")
        return torch.nn.functional.avg_pool2d(padded, 3, 1).clamp(self.start, self.stop)


def export(network, path, side=64, dynamic=True):
    axes = {"image": {0: "n", 2: "h", 3: "w"}, "out": {0: "n", 2: "h", 3: "w"}} if dynamic else None
    with torch.no_grad():
        torch.onnx.export(network.eval(), torch.zeros(1, 1, side, side), path, dynamo=False, input_names=["image"],
                          output_names=["out"], dynamic_axes=axes)  # fmt: skip
    return path


# ---- ranges ----
@pytest.mark.parametrize(
    ("given", "hu", "number"),
    [("hu", 40.0, 40.0), ("net", -1024.0, 0.0), ("net", 3072.0, 1.0), ("stored", 0.0, 1024.0),
     ([-160, 240], 240.0, 1.0), ("[-160, 240]", 40.0, 0.5), ([-1000, 1000, -1, 1], 0.0, 0.0),
     ("[-1000, 1000, -1, 1]", 1000.0, 1.0),
     ("meanstd", 481.45419786099086 - 1024, 0.0), ({"mean": 40, "sd": 100}, 140.0, 1.0)],
)  # fmt: skip
def test_a_range_is_what_it_says(given, hu, number):
    seen = []
    conventions.read(given).wrap(lambda x: seen.append(x) or x)(np.full((1, 2, 2), hu))
    assert np.allclose(seen[0], number, atol=1e-6)


@pytest.mark.parametrize("name", conventions.KNOWN)
def test_the_identity_in_any_range_is_the_identity_in_hu(name, pairs):
    assert np.abs(conventions.KNOWN[name].wrap(lambda x: x)(pairs[0]) - pairs[0]).max() < 2e-3


def test_outside_of_a_clipped_range_the_input_is_put_out():
    hu = np.array([[[-900.0, 0.0], [100.0, 900.0]]], np.float32)
    assert conventions.read([-160, 240]).wrap(lambda x: 0 * x)(hu)[0].tolist() == [[-900.0, -160.0], [-160.0, 900.0]]


@pytest.mark.parametrize("wrong", ["hounsfield", [240, -160], [1, 2, 3], {"mean": 0}, {"mean": 0, "sd": -1}, 7])
def test_a_range_that_is_none_is_refused_with_those_that_are(wrong):
    with pytest.raises(ValueError, match=r"net|lower to a higher"):
        conventions.read(wrong)


# ---- what is wrong with an output ----
FAULTS = {
    "exchanged": (lambda hu: hu.swapaxes(1, 2), "the output is transposed"),
    "upside down": (lambda hu: hu[:, ::-1], "the output is upside down"),
    "mirrored": (lambda hu: hu[..., ::-1], "the output is mirrored"),
    "half a pixel": (
        lambda hu: ndimage.shift(hu, (0, 0.5, 0.5), order=3, mode="nearest"),
        r"\+0.\d+ rows and \+0.\d+ columns beside",
    ),
    "cropped": (lambda hu: hu[:, 4:-4, 4:-4], "the output is 3 x 56 x 56 where the input is 3 x 64 x 64: pad"),
    "a stride": (lambda hu: hu[:, ::2, ::2], "3 x 32 x 32 where the input is 3 x 64 x 64: resize the output"),
    "enlarged": (lambda hu: np.repeat(np.repeat(hu, 2, 1), 2, 2), "resize the output"),
    "not finite": (lambda hu: np.where(hu > 100, np.nan, hu), "are not finite"),
    "a share": (lambda hu: (hu + 1024) / 4096, "the output is no HU: it rises by 0.000244"),
    "the noise": (lambda hu: hu - ndimage.gaussian_filter(hu, (0, 1, 1)), "the output is no HU|no image"),
    "negative": (lambda hu: -hu, "negative of its input"),
    "constant": (lambda hu: 0 * hu, "half of the body or more has the value"),
    "a pair": (lambda hu: (hu, hu), "this one tuple"),
    "words": (lambda hu: hu.astype(str), "numbers"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_with_what_to_do(fault, pairs):
    broken, said = FAULTS[fault]
    with pytest.raises(ValueError, match=said):
        probing.look(broken, *pairs)


@pytest.mark.parametrize("sigma", [0.0, 0.5, 1.5])
def test_honest_denoisers_pass_the_probe(sigma, pairs):
    found = probing.look(lambda hu: ndimage.gaussian_filter(hu, (0, sigma, sigma)), *pairs)
    assert abs(found.slope - 1) < 0.05 and max(map(abs, found.shift)) <= 0.05


@pytest.mark.parametrize("name", ["net", "[-1000, 1000, -1, 1]", "[-160, 240]"])
def test_the_range_of_a_network_that_clips_is_found(name, pairs):
    own = conventions.KNOWN[name]
    start, stop = ((end - own.shift) / own.scale for end in ((own.low, own.high) if own.low else (-1024, 3072)))
    network = OwnRange(start, stop)

    def denoise(x):
        return network(torch.from_numpy(x)[:, None])[:, 0].numpy()

    table = probing.plausible(denoise, *pairs).set_index("range")
    assert table["plausible"][name] and not table["plausible"]["hu"]


def test_where_several_ranges_fit_the_user_is_asked(pairs):
    with pytest.raises(ValueError, match=r"filter gives a CT image in \d+ ranges: .*Say which as range"):
        probing.likeliest(probing.plausible(lambda x: x, *pairs), "filter")
    with pytest.raises(ValueError, match="no known range gives a CT image with nothing: give range, one of hu, net"):
        probing.likeliest(probing.plausible(lambda x: 0 * x, *pairs), "nothing")


# ---- ONNX ----
@pytest.mark.parametrize("channels", [2, 8])
def test_an_exported_network_is_the_network(channels, tmp_path, cohort, pairs):
    torch.manual_seed(channels)
    network = networks.build(name="unet", channels=channels, residual=True)
    torch.nn.init.normal_(network.head.weight, 0, 0.02)  # it starts at zero: all U-Nets would be the identity
    path = export(network, tmp_path / "mine.onnx")
    made = opened.opened(str(path), cohort, "net")
    wanted = prediction.predict(network, pairs[0])
    assert made.name == "mine" and made.kind == "ONNX file" and "any size" in made.about
    assert np.abs(made(pairs[0]) - wanted).max() < 1e-3 < np.abs(wanted - pairs[0]).max()


def test_a_network_of_one_size_takes_any(tmp_path, cohort):
    network = mean_filter()
    call, about = onnx_files.load(export(network, tmp_path / "one.onnx", dynamic=False), threads=1)
    assert "64 x 64" in about
    rng = np.random.default_rng(0)
    for shape in [(3, 64, 64), (2, 50, 60), (1, 100, 150), (1, 64, 200)]:
        images = rng.normal(size=shape).astype(np.float32)
        wanted = network(torch.from_numpy(images)[:, None])[:, 0].numpy()
        inner = np.s_[:, 1:-1, 1:-1]
        assert np.allclose(call(images)[inner], wanted[inner], atol=1e-5)


def test_files_that_are_no_denoiser_are_refused(tmp_path, cohort):
    (tmp_path / "broken.onnx").write_bytes(b"not a network")
    with pytest.raises(ValueError, match=r"broken.onnx is no ONNX file that can be run here"):
        opened.opened(str(tmp_path / "broken.onnx"), cohort, "net")
    path = tmp_path / "colour.onnx"
    with torch.no_grad():
        torch.onnx.export(torch.nn.Conv2d(3, 3, 3), torch.zeros(1, 3, 8, 8), path, dynamo=False, input_names=["image"])
    with pytest.raises(ValueError, match=r"colour.onnx takes \[1, 3, 8, 8\], a denoiser takes \(N, 1, H, W\)"):
        opened.opened(str(path), cohort, "net")


class Touch:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("name", ["a.pt", "a.pth", "a.pkl", "a.ckpt"])
def test_a_pickle_is_never_read(name, tmp_path, cohort):
    (tmp_path / name).write_bytes(pickle.dumps(Touch(tmp_path / "ran")))
    with pytest.raises(ValueError, match=f"{name} is not read: a file of its kind can run code"):
        opened.opened(str(tmp_path / name), cohort)
    assert not (tmp_path / "ran").exists()


# ---- names ----
def test_a_function_of_the_user_is_called_with_hu(tmp_path, cohort, pairs, monkeypatch):
    (tmp_path / "mine_here.py").write_text(
        "import numpy as np\nSEEN = []\n"
        "def halved(images):\n    SEEN.append((images.shape, images.dtype.name, float(images.min())))\n"
        "    return images + 1\n"
        "def in_net(images):\n    return images\nNUMBER = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    made = opened.opened("mine_here:halved", cohort)
    assert np.allclose(made(pairs[0]), pairs[0] + 1) and "runs its code" in made.about and "HU" in made.about
    assert sys.modules["mine_here"].SEEN[-1] == ((3, 1, 64, 64), "float32", float(pairs[0].min()))
    with pytest.raises(ImportError, match="has no function 'NUMBER'"):
        opened.opened("mine_here:NUMBER", cohort)
    with pytest.raises(ImportError, match="the module 'mine_there' is neither here nor installed"):
        opened.opened("mine_there:halved", cohort)
    assert str(tmp_path) not in sys.path


HER_NETWORK = """
from torch import nn

class REDCNN(nn.Module):  # Chen et al. 2017, Fig. 3: five convolutions, five transposed ones, three shortcuts
    def __init__(self, width=8):
        super().__init__()
        ends = [1, *[width] * 5]
        for i in range(5):
            setattr(self, f"conv{i + 1}", nn.Conv2d(ends[i], width, 5))
            setattr(self, f"tconv{i + 1}", nn.ConvTranspose2d(width, ends[4 - i] if i == 4 else width, 5))
        self.relu = nn.ReLU()

    def forward(self, x):
        one = self.relu(self.conv1(x))
        two = self.relu(self.conv2(one))
        three = self.relu(self.conv3(two))
        four = self.relu(self.conv4(three))
        out = self.relu(self.tconv1(self.relu(self.conv5(four))) + four)
        out = self.relu(self.tconv2(out))
        out = self.relu(self.tconv3(out) + two)
        out = self.relu(self.tconv4(out))
        return self.relu(self.tconv5(out) + x)
"""


def test_a_published_network_as_the_docs_say_it_is_a_function_and_a_file_of_the_same_images(
    tmp_path, cohort, pairs, monkeypatch
):
    """RED-CNN as the paper draws it, with made-up weights, beside this study's own implementation of it."""
    text = (ROOT / "docs" / "your_denoiser.md").read_text(encoding="utf-8")
    blocks = dict(re.findall(r"^```python (\S+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    torch.manual_seed(0)
    ours = networks.build(name="redcnn", width=8)
    torch.nn.init.normal_(ours.decoder[-1].weight, 0, 0.02)
    torch.nn.init.zeros_(ours.decoder[-1].bias)
    names = {f"{a}coder.{i}": f"{b}conv{i + 1}" for a, b in (("en", ""), ("de", "t")) for i in range(5)}
    state = {
        f"{names[k.rpartition('.')[0]]}.{k.rpartition('.')[2]}": v for k, v in ours.state_dict().items() if "coder" in k
    }
    torch.save(state, tmp_path / "weights.pt")
    (tmp_path / "her_network.py").write_text(HER_NETWORK)
    (tmp_path / "her_denoiser.py").write_text(blocks["her_denoiser.py"])
    monkeypatch.chdir(tmp_path)
    for module in ("her_denoiser", "her_network"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    as_function = opened.opened("her_denoiser:denoise", cohort)
    monkeypatch.syspath_prepend(tmp_path)
    exec(blocks["export"], {"torch": torch})
    as_file = opened.opened("her_network.onnx", cohort, "net")
    made, wanted = as_function(pairs[0]), prediction.predict(ours, pairs[0]).clip(intensity.HU_MIN)
    assert as_function.kind == "Python function" and as_function.network is None and len(as_function.made_of) == 64
    assert np.abs(made - wanted).max() < 0.01 and np.abs(made - pairs[0]).max() > 1  # HU; it does something
    assert np.abs(as_file(pairs[0]) - made).max() / intensity.HU_SPAN < 1e-4


@pytest.mark.parametrize("name", ["gaussian:sigma_px=0.7", "median:size=3", "tv:weight_hu=10", "tv"])
def test_filters_come_by_name_and_setting(name, cohort, pairs):
    made = opened.opened(name, cohort)
    assert made.kind == "filter" and 0.1 < np.abs(made(pairs[0]) - pairs[0]).mean() < 60


@pytest.mark.parametrize(
    ("name", "said"),
    [("", "which denoiser"), ("nothing.onnx", "no denoiser 'nothing.onnx'"), ("gaussian", "sigma_px=0.7"),
     ("median:width=3", "median size"), ("tv:10", "name=number"), ("hub:vgg", "no published network 'vgg'")],
)  # fmt: skip
def test_a_name_that_is_none_is_told_what_names_are(name, said, cohort):
    with pytest.raises((ValueError, FileNotFoundError), match=said):
        opened.opened(name, cohort)
    with pytest.raises(ValueError, match="is a filter and takes HU"):
        opened.opened("median:size=3", cohort, range_of="net")


def test_a_wrong_range_is_said_with_the_name(tmp_path, cohort):
    path = export(OwnRange(), tmp_path / "mine.onnx")
    with pytest.raises(ValueError, match=r"mine: .*(no HU|no image)"):
        opened.opened(str(path), cohort, "hu")


# ---- finished images ----
def stack(cohort):
    rows = cohort.rows("test")
    return rows, ndimage.gaussian_filter(np.asarray(cohort.ldct[rows], np.float32), (0, 0.7, 0.7))


def test_a_stack_and_files_by_row_are_matched(tmp_path, cohort):
    rows, images = stack(cohort)
    np.save(tmp_path / "all.npy", images)
    (tmp_path / "each").mkdir()
    for row, image in zip(rows, images):
        np.save(tmp_path / "each" / f"{row}.npy", image)
    for name in ("all.npy", "each"):
        found = opened.opened(str(tmp_path / name), cohort)
        assert list(found.images) == list(rows) and all(
            np.array_equal(found.images[r], i) for r, i in zip(rows, images)
        )
        with pytest.raises(ValueError, match="cannot be made anew"):
            found(images)


def test_a_folder_without_a_file_is_told_as_one(tmp_path, cohort):
    (tmp_path / "hers").mkdir()
    with pytest.raises(ValueError, match=r"hers holds no file: name a folder of denoised images"):
        opened.opened(str(tmp_path / "hers"), cohort)


def test_images_in_another_order_size_number_or_range_are_refused(tmp_path, cohort):
    _, images = stack(cohort)
    swapped = images.copy()
    swapped[[0, -1]] = swapped[[-1, 0]]
    wrong = {
        "is not most like that slice": swapped, "other order, or turned": images[:, ::-1], "not in HU": images / 4096,
        "slices in .*: 2, test slices": images[:2], "without resampling": images[:, ::2, ::2],
        "Python objects": np.array([{}, {}]),
    }  # fmt: skip
    for number, (said, one) in enumerate(wrong.items()):
        np.save(tmp_path / f"{number}.npy", one, allow_pickle=True)
        with pytest.raises(ValueError, match=said):
            finished.matched(tmp_path / f"{number}.npy", cohort)


def test_dicom_that_another_program_denoised_is_matched_by_position(tmp_path, cohort):
    rows, images = stack(cohort)
    about = cohort.slices.set_index("row")
    people = {person: f"L{number:03d}" for number, person in enumerate(about.patient.unique(), 1)}
    renamed = cohort.slices.assign(patient=cohort.slices.patient.map(people))
    cohort = cohorts.Cohort(**{**vars(cohort), "slices": renamed})
    for row, image in reversed(list(zip(rows, images))):
        one = renamed.set_index("row").loc[row]
        folder = tmp_path / one.patient
        folder.mkdir(exist_ok=True)
        write_ct(folder / f"{99 - row}.dcm", np.rint(image), one.z_mm)
    found = finished.matched(tmp_path, cohort)
    assert list(found) == list(rows)
    assert max(np.abs(found[row] - image).max() for row, image in zip(rows, images)) <= 0.5


# ---- runs and identity ----
def test_what_names_a_denoiser_is_in_the_id_of_a_run(tmp_path, monkeypatch):
    def of(**values):
        scanned = {}
        return {
            name: json.dumps(identity._hashable(name, value, scanned), default=str) for name, value in values.items()
        }

    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine_too.py").write_text("def f(x):\n    return x\n")
    (tmp_path / "net.onnx").write_bytes(b"1")
    before = of(denoiser="mine_too:f", beside=["net.onnx", "tv"])
    (tmp_path / "mine_too.py").write_text("def f(x):\n    return 2 * x\n")
    (tmp_path / "net.onnx").write_bytes(b"12")
    after = of(denoiser="mine_too:f", beside=["net.onnx", "tv"])
    assert before["denoiser"] != after["denoiser"] and before["beside"] != after["beside"]
    assert identity._published({"denoiser": "hub:redcnn", "beside": ["tv", "hub:cnn10"]}) == ["redcnn", "cnn10"]


def test_air_outside_of_the_body_does_not_decide(cohort, pairs):
    """A denoiser that sets air to -1000 HU is none with a fault."""
    assert probing.look(lambda hu: np.where(intensity.body_mask(hu), hu, -1000.0), *pairs).bias_hu == 0
