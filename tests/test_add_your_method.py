"""docs/add_your_method.md: the network of the example becomes a row of 11's table."""

import re
import sys

import pandas as pd
import pytest
import torch
import yaml
from conftest import ROOT, write_tiny_cohort
from notebook_cells import execute

from ldct_utils import cohorts
from ldct_utils.models import networks
from ldct_utils.study import identity

TEXT = (ROOT / "docs" / "add_your_method.md").read_text(encoding="utf-8")


def example(language: str, name: str) -> str:
    return re.search(rf"```{language} {name}\n(.+?)```", TEXT, re.DOTALL)[1]


@pytest.fixture
def added(tmp_path, monkeypatch):
    """The network of the example, found like those of the study."""
    (tmp_path / "nafnet.py").write_text(example("python", "nafnet"))
    monkeypatch.setattr(networks, "__path__", [*networks.__path__, str(tmp_path)])
    found = identity._module_file
    monkeypatch.setattr(
        identity,
        "_module_file",
        lambda name: tmp_path / "nafnet.py" if name == "models.networks.nafnet" else found(name),
    )
    yield tmp_path
    sys.modules.pop("ldct_utils.models.networks.nafnet", None)


def test_the_network_is_short_is_the_identity_at_first_and_learns(added):
    assert len(example("python", "nafnet").splitlines()) < 60 and "nafnet" in networks.names()
    torch.manual_seed(0)
    network = networks.build("nafnet", width=4, blocks=2, mean_hu=-500.0, std_hu=500.0)
    image = torch.rand(2, 1, 24, 20)
    assert torch.allclose(network(image), image, atol=1e-6)
    target, steps = image * 0.9, torch.optim.Adam(network.parameters(), 1e-2)
    losses = []
    for _ in range(20):
        loss = (network(image) - target).square().mean()
        steps.zero_grad()
        loss.backward()
        steps.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


def test_it_becomes_a_row_of_the_table(added, outputs):
    write_tiny_cohort(outputs / "cohorts" / f"simulated-{cohorts.identity(patients=8, slices=1)}", 8, 1)
    study = yaml.safe_load(example("yaml", "study"))
    of_all = {"study": "mine", "patients": 8, "slices": 1, "threads": 1}
    defaults = study["notebooks"]["03_train"]["defaults"] | {
        "max_steps": 4,
        "eval_every": 2,
        "log_every": 2,
        "lr": 3e-3,
    }
    small = {
        "patch_size": 32,
        "batch": 2,
        "val_slices": 1,
        "val_patches": 2,
        "checkpoint_every": 2,
        "precision": "float32",
    }
    for name in study["notebooks"]["03_train"]["matrix"]["network"]:
        execute(
            ROOT / "notebooks" / "03_train.py",
            of_all | defaults | small | {"network": name, "run_name": name, "seed": 0},
        )
    last = study["notebooks"]["11_denoisers"]["runs"][0]
    given = {"study": "mine", "threads": 1, "precision": "float32", "runs": ["mine/03_train/*"], "draws": 100}
    execute(
        ROOT / "notebooks" / "11_denoisers.py",
        given | {"years": last["years"], "classical": last["classical"], "swaps": 10},
    )
    (folder,) = (path.parent for path in (outputs / "mine" / "11_denoisers").glob("*/result.json"))
    newer = pd.read_parquet(folder / "newer.parquet")
    assert {"cnn10", "nafnet"} <= set(newer["method"])
    assert set(pd.read_parquet(folder / "scores.parquet")["method"]) == {"LDCT", "tv", "cnn10", "nafnet"}
