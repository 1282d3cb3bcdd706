"""The examples in CONTRIBUTING.md do what they are said to do."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ldct_utils import cohorts, metrics
from ldct_utils.cohorts import lookup
from ldct_utils.ct import intensity
from ldct_utils.metrics import full_reference, registry, scores
from ldct_utils.models import networks
from ldct_utils.study import sources
from ldct_utils.training import losses

TEXT = (Path(__file__).resolve().parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")


def example(name: str) -> str:
    return re.search(rf"```python {name}\n(.+?)```", TEXT, re.DOTALL)[1]


def test_the_loss_of_the_example_can_be_trained_with(monkeypatch):
    space = dict(vars(losses))
    exec(example("loss") + example("entry"), space)
    monkeypatch.setattr(losses, "PIXEL_TERMS", space["PIXEL_TERMS"])
    target = torch.zeros(2, 1, 8, 8)
    loss = losses.build("huber + 0.1*l1")
    terms = loss.terms(torch.full_like(target, 0.5), target)
    assert terms["huber"].tolist() == pytest.approx([1e-3 * (0.5 - 0.5e-3)] * 2)  # delta * (|e| - delta / 2)
    assert loss.weights == {"huber": 1, "l1": 0.1}


def test_the_network_of_the_example_is_found_and_built(monkeypatch, tmp_path):
    (tmp_path / "plain.py").write_text(example("network"))
    monkeypatch.setattr(networks, "__path__", [*networks.__path__, str(tmp_path)])
    assert "plain" in networks.names()
    image = torch.rand(1, 1, 20, 24)
    assert networks.build("plain", channels=4, residual=True)(image).shape == image.shape
    sys.modules.pop("ldct_utils.models.networks.plain")


def test_the_metric_of_the_example_is_registered_and_scored(monkeypatch):
    monkeypatch.setattr(registry, "REGISTER", register := dict(registry.REGISTER))
    monkeypatch.setattr(scores, "REGISTER", register)
    exec(example("metric"), dict(vars(full_reference)))
    target = np.zeros((32, 32))
    pair = {"pred": target[None] + 3, "target": target[None]}
    table = metrics.compute(**pair, names=["mae_hu"], domain=intensity.domain("hu"))
    assert table["value"].item() == pytest.approx(3)


def test_the_cohort_of_the_example_is_built(monkeypatch, outputs, tmp_path):
    for number in (1, 2):
        folder = tmp_path / "own" / f"P00{number}"
        folder.mkdir(parents=True)
        for name in ("ldct", "ndct"):
            np.save(folder / f"{name}.npy", np.full((3, 32, 32), 40.0 * number))
    (tmp_path / "volumes.py").write_text(example("cohort"))
    monkeypatch.setattr(cohorts, "__path__", [*cohorts.__path__, str(tmp_path)])
    table = dict(sources.SOURCES)
    for module in (sources, lookup):
        monkeypatch.setattr(module, "SOURCES", table)
    exec(example("source"), vars(sources))
    cohort = cohorts.get("volumes", str(tmp_path / "own"), split="train", progress=False)
    sys.modules.pop("ldct_utils.cohorts.volumes")
    assert cohort.ndct.shape == (6, 32, 32) and cohort.ndct[3, 0, 0] == 80
    assert list(cohort.slices.patient.unique()) == ["P001", "P002"]
