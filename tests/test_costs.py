"""What a slice costs: known weights and multiplications, and no network none."""

import numpy as np
import pytest
import torch

from ldct_utils.training import costs, designs


def test_weights_and_multiplications_of_one_convolution_are_known():
    network = torch.nn.Conv2d(1, 1, 3, padding=1)
    ldct = np.zeros((1, 32, 32), np.float32)
    found = costs.of_slice(lambda hu: hu, ldct, network)
    assert found["weights"] == 10 and found["GMAC a slice"] == pytest.approx(9 * 32 * 32 / 1e9)
    assert found["s a slice"] >= 0 and found["MB a slice"] >= 32 * 32 * 4 / 1e6


def test_what_was_not_trained_has_no_weights_and_no_memory_that_is_known():
    calls = []
    found = costs.of_slice(calls.append, np.zeros((1, 8, 8)), repeats=2)
    assert len(calls) == 3 and found["weights"] == 0 and np.isnan([found["GMAC a slice"], found["MB a slice"]]).all()


def test_bytes_that_are_gone_do_not_count():
    with costs.LiveBytes() as live:
        for _ in range(5):
            torch.zeros(1000)
    assert live.peak == pytest.approx(4000, abs=8000) and live.now <= 4000


def test_a_network_is_called_by_its_name_where_it_has_one_design():
    assert designs.labels(["cnn10", "cnn10", "unet", "unet"], ["a", "a", "b", "c"]) == ["cnn10", "cnn10", "b", "c"]
    assert designs.spoken("cnn10") == "CNN-10" and designs.spoken("tv") == "total variation"
