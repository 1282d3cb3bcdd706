"""The LDCT benchmark's published networks: files made here in the published form, fetched, checked, loaded."""

import argparse
import functools
import http.server
import re
import socketserver
import threading

import numpy as np
import pytest
import torch
from conftest import ROOT, write_tiny_cohort
from notebook_cells import execute
from states import same_state
from torch import nn

from ldct_utils import cohorts
from ldct_utils.cohorts import lookup
from ldct_utils.denoisers import opened
from ldct_utils.models import networks
from ldct_utils.models import published as hub
from ldct_utils.report import plots
from ldct_utils.study import files, runs
from ldct_utils.training import checkpoints, designs, prediction, testing


@pytest.fixture
def bundle(outputs, monkeypatch):
    monkeypatch.delenv("LDCT_WEIGHTS", raising=False)
    monkeypatch.setattr(hub, "SHA256", dict(hub.SHA256))
    return outputs / "weights" / "hub" / "ldctbench"


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A loopback server in the place of the published one; its folder."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Server(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *words):
            pass

        def do_GET(self):
            path = folder / self.path.strip("/")
            if path.suffix != ".short":
                return super().do_GET()
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(path.read_bytes()[:100])

    with socketserver.TCPServer(("127.0.0.1", 0), functools.partial(Server, directory=str(folder))) as httpd:
        threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True).start()
        monkeypatch.setattr(hub, "ADDRESS", f"http://127.0.0.1:{httpd.server_address[1]}/")
        yield folder
        httpd.shutdown()


def published_cnn10():
    """CNN-10 with the published names of its weights."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 64, 9, padding=4), nn.ReLU(), nn.Conv2d(64, 32, 3, padding=1), nn.ReLU()]
    return nn.ModuleDict({"layers": nn.Sequential(*layers, nn.Conv2d(32, 1, 5, padding=2))})


def serve(folder, name, state):
    """A file in the published form, and its hash as if it were the published one."""
    held = {"args": argparse.Namespace(lr=1e-4, devices=[0]), "iteration": 1000, "model_state_dict": state}
    torch.save(held, folder / f"{name}.pt")
    hub.SHA256[name] = files.sha256(folder / f"{name}.pt")


def left(bundle):
    return sorted(p.name for p in bundle.iterdir()) if bundle.exists() else []


def test_every_published_network_has_a_hash_and_is_one_of_ours():
    assert set(hub.names()) < set(networks.names()) and len(hub.names()) == 8
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in hub.SHA256.values())
    assert set(hub.RENAMED) == set(hub.SHA256)


def test_a_published_network_is_fetched_once_and_computes_what_it_did(bundle, server):
    published = published_cnn10()
    serve(server, "cnn10", published.state_dict())
    network = hub.load("cnn10")
    (server / "cnn10.pt").unlink()
    assert left(bundle) == ["cnn10.pt"] and not network.training
    hu = np.random.default_rng(0).integers(-1000, 1000, (32, 32)).astype(np.float32)
    with torch.no_grad():
        stored = (torch.from_numpy(hu)[None, None] + 1024 - 481.45419786099086) / 502.18507379395044
        expected = published["layers"](stored)[0, 0].numpy() * 502.18507379395044 + 481.45419786099086 - 1024
    assert np.allclose(prediction.predict(hub.load("cnn10"), hu), expected, atol=0.01)  # HU; no second download


def test_a_published_network_is_stored_as_a_checkpoint_like_any_other(bundle, server, tmp_path):
    serve(server, "cnn10", published_cnn10().state_dict())
    network = hub.load("cnn10")
    checkpoints.write_checkpoint(tmp_path, 0, network, hub.settings("cnn10"))
    image = torch.rand(1, 1, 24, 24)
    with torch.no_grad():
        assert torch.equal(checkpoints.load_network(tmp_path)(image), network(image))


NAMES = {  # some of the published names of weights, and what they are called here
    "redcnn": {"conv1.weight": "encoder.0.weight", "conv5.bias": "encoder.4.bias", "tconv5.weight": "decoder.4.weight"},
    "dugan": {"conv2.weight": "encoder.1.weight", "tconv1.bias": "decoder.0.bias"},
    "wganvgg": {"net.0.weight": "stem.weight", "net.12.bias": "body.5.bias", "net.14.weight": "head.weight"},
    "resnet": {
        "in_conv.weight": "stem.weight", "blocks.9.layers.4.running_var": "blocks.9.body.4.running_var",
        "out_conv.bias": "head.bias",
    },
    "bilateral": {"filters.2.color_sigma": "filters.2.sigma_r", "filters.0.sigma_z": "filters.0.sigma_z"},
    "transct": {
        "conv_encoder_lf.base_encoder.2.weight": "stem.2.weight", "conv_encoder_lf.lc2.0.bias": "low2.0.bias",
        "conv_encoder_lf.transformer_endoder.4.weight": "low.4.weight", "conv_encoder_hf.0.weight": "high.0.weight",
        "memory.1.mha.in_proj_weight": "encoder.1.own.in_proj_weight", "memory.0.ff.2.bias": "encoder.0.forth.2.bias",
        "decoder.2.mha1.out_proj.bias": "decoder.2.own.out_proj.bias",
        "decoder.0.mha2.k_proj_weight": "decoder.0.cross.k_proj_weight",
        "decoder.0.ff.0.weight": "decoder.0.forth.0.weight",
        "combine.block1.0.weight": "merge1.0.weight", "combine.block2.2.bias": "merge2.2.bias",
    },
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_published_names_of_weights_become_ours(name):
    with torch.device("meta"):
        ours = networks.build(name).state_dict()
    found = hub.translated(name, {key: torch.zeros(()) for key in NAMES[name]})
    assert list(found) == list(NAMES[name].values()) and set(found) <= set(ours)


def test_transposed_weights_of_the_quadratic_decoder_are_turned_round():
    torch.manual_seed(0)
    w, z = torch.randn(15, 15, 3, 3), torch.randn(1, 15, 6, 6)
    ours = hub.translated("qae", {"decoder.0.W_r": w, "encoder.1.W_g": w, "decoder.0.b_g": w[0, 0, 0]})
    assert torch.equal(ours["encoder.1.w_g"], w) and torch.equal(ours["decoder.0.b_g"], w[0, 0, 0])
    layer = networks.build("qae").decoder[0]
    layer.w_r.data = ours["decoder.0.w_r"]
    with torch.no_grad():
        assert torch.allclose(layer(z), nn.functional.conv_transpose2d(z, w), atol=1e-5)


def test_a_file_with_another_hash_is_refused_and_not_left_behind(bundle, server):
    serve(server, "cnn10", published_cnn10().state_dict())
    hub.SHA256["cnn10"] = "0" * 64
    with pytest.raises(ValueError, match=r"cnn10\.pt has SHA-256 .*, not 00000000"):
        hub.load("cnn10")
    assert left(bundle) == []


def test_a_file_damaged_after_it_was_fetched_is_refused(bundle, server):
    serve(server, "cnn10", published_cnn10().state_dict())
    path = hub.fetch("cnn10")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="has SHA-256"):
        hub.load("cnn10")


def test_a_download_that_ends_early_leaves_nothing(bundle, server):
    (server / "cnn10.short").write_bytes(bytes(1000))
    with pytest.raises(ValueError, match="ended after 100 of 1000 bytes"):
        hub.fetch("cnn10", hub.ADDRESS + "cnn10.short")
    assert left(bundle) == []


def test_without_a_network_the_message_says_where_to_put_the_file(bundle, monkeypatch):
    monkeypatch.setattr(hub, "ADDRESS", "http://127.0.0.1:9/")
    with pytest.raises(ConnectionError, match=r"ldct_utils\.models\.published cnn10.*hub/ldctbench/cnn10\.pt"):
        hub.load("cnn10")
    assert left(bundle) == []


class Code:
    """A pickle that would run code when it is opened."""

    def __reduce__(self):
        return (print, ("code ran",))


def test_a_file_that_would_run_code_is_not_opened_even_if_its_hash_is_right(bundle, server, capsys):
    serve(server, "cnn10", {"layers.0.weight": Code()})
    with pytest.raises(ValueError, match="no plain file of tensors"):
        hub.load("cnn10")
    assert "code ran" not in capsys.readouterr().out


def test_a_file_of_another_network_or_another_form_is_refused(bundle, server):
    serve(server, "cnn10", {"net.0.weight": torch.zeros(3)})
    with pytest.raises(ValueError, match=r"cnn10\.pt does not hold the weights of cnn10: .*loading state_dict"):
        hub.load("cnn10")
    torch.save({"state": 1}, server / "qae.pt")
    hub.SHA256["qae"] = files.sha256(server / "qae.pt")
    with pytest.raises(ValueError, match="holds no model_state_dict"):
        hub.load("qae")
    with pytest.raises(ValueError, match=r"no published network 'unet'.*cnn10"):
        hub.load("unet")


def test_the_command_fetches_what_it_can_and_says_what_failed(bundle, server, capsys):
    serve(server, "cnn10", published_cnn10().state_dict())
    assert hub.main(["cnn10"]) == 0
    assert hub.main(["cnn10", "qae"]) == 1
    said = capsys.readouterr().out
    assert "cnn10: " in said and re.search("qae: failed: .*404", said)


def test_a_published_network_is_a_denoiser_by_its_name_and_one_that_makes_no_ct_is_refused(bundle, server, outputs):
    cohort = cohorts.load(write_tiny_cohort(outputs / "cohorts" / "simulated-00000000"))
    state = {key: 0 * value for key, value in published_cnn10().state_dict().items()}
    serve(server, "cnn10", state)
    with pytest.raises(ValueError, match=r"hub:cnn10: half of the body or more has the value .*puts out no image"):
        opened.opened("hub:cnn10", cohort)
    (bundle / "cnn10.pt").unlink()
    for sign, channel in ((1, 0), (-1, 1)):  # x = relu(x) - relu(-x), through three layers
        state["layers.0.weight"][channel, 0, 4, 4] = sign
        state["layers.2.weight"][channel, channel, 1, 1] = 1
        state["layers.4.weight"][0, channel, 2, 2] = sign
    serve(server, "cnn10", state)
    found, hu = opened.opened("hub:cnn10", cohort), np.asarray(cohort.ldct[:2], np.float32)
    assert found.kind == "published network" and found.made_of == hub.SHA256["cnn10"] and found.network is not None
    assert np.abs(found(hu) - hu).max() < 0.01 and left(bundle) == ["cnn10.pt"]
    (bundle / "cnn10.pt").unlink()
    (server / "cnn10.pt").unlink()
    with pytest.raises(ConnectionError, match="Fetch it on a machine with a network"):
        opened.opened("hub:cnn10", cohort)
    with pytest.raises(ValueError, match="is a published network and takes HU"):
        serve(server, "cnn10", state)
        opened.opened("hub:cnn10", cohort, "net")


# ---- as a run of 03_train ----
def train(values):
    """Run 03_train here, where the published files are those of this test; its namespace."""
    return execute(ROOT / "notebooks" / "03_train.py", SMALL | values)


SMALL = {
    "patients": 4, "slices": 1, "size": 64, "network": "cnn10", "init": "hub", "threads": 1, "precision": "float32",
    "patch_size": 32, "batch": 1, "log_every": 1, "eval_every": 2, "checkpoint_every": 2, "val_slices": 1,
    "val_patches": 1,
}  # fmt: skip


def test_03_train_tests_a_published_network_as_it_is_or_trains_on_from_it(bundle, server, outputs, monkeypatch):
    write_tiny_cohort(outputs / "cohorts" / f"simulated-{cohorts.identity(patients=4, slices=1, size=64)}", 4, 1)
    monkeypatch.setattr(plots.Live, "update", lambda *_: None)
    serve(server, "cnn10", published_cnn10().state_dict())
    published = hub.load("cnn10")
    tested = train({"max_steps": 0})["run"]
    only, hu = checkpoints.load_network(tested.folder), np.zeros((32, 32), np.float32)
    assert list(checkpoints.checkpoints(tested.folder)) == [0] and tested.finished and "init-hub" in tested.folder.name
    assert same_state(dict(only.state_dict()), dict(published.state_dict()))
    assert np.array_equal(prediction.predict(only, hu), prediction.predict(published, hu))
    (test,) = testing.stored(tested)
    assert len(test.table("scores")) == len(test.table("ldct_scores")) > 0
    assert designs.design(runs.select([str(tested.folder)])[0])["loss"] == "published"
    trained = train({"max_steps": 2})["run"]
    assert list(checkpoints.checkpoints(trained.folder)) == [0, 2]
    assert same_state(dict(checkpoints.load_network(trained.folder, 0).state_dict()), dict(published.state_dict()))
    assert not same_state(dict(checkpoints.load_network(trained.folder).state_dict()), dict(published.state_dict()))
    assert designs.design(runs.select([str(trained.folder)])[0])["loss"] == "mse"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"network": "unet"}, "no published network 'unet'; there are bilateral, cnn10"),
        ({"settings": {"width": 32}}, "init=hub takes the published network as it is"),
        ({"normalise": "meanstd"}, "init=hub takes the published network as it is"),
        ({"init": "web"}, "init is hub or None, not 'web'"),
    ],
)
def test_what_cannot_start_from_a_published_network_is_refused_before_the_cohort(values, message, bundle, monkeypatch):
    monkeypatch.setattr(lookup, "get", lambda *arguments: pytest.fail("the cohort came first"))
    with pytest.raises(ValueError, match=message):
        train(values)
