"""What a denoiser costs: weights, multiplications, seconds and memory of one slice."""

import time
import weakref
from collections.abc import Callable

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from ldct_utils.training import prediction

# Heads of the columns that a reader sees.
HEADS = {
    "method": "method", "s a slice": "seconds a slice", "weights": "weights", "GMAC a slice": "billion multiplications",
    "MB a slice": "memory, MB", "SSIM": "SSIM in the window",
}  # fmt: skip


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of tensors that operations make while they live; ``peak`` is the most at once."""

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self.seen = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        for one in found if isinstance(found, tuple | list) else [found]:
            if isinstance(one, torch.Tensor) and one.untyped_storage()._cdata not in self.seen:
                storage = one.untyped_storage()
                key, size = storage._cdata, storage.nbytes()
                self.seen.add(key)
                self.now += size
                self.peak = max(self.peak, self.now)
                weakref.finalize(one, self._gone, key, size)
        return found

    def _gone(self, key, size):
        self.seen.discard(key)
        self.now -= size


def of_slice(predict: Callable, ldct, network=None, device: str = "cpu", repeats: int = 3) -> dict:
    """What one slice costs.

    Multiplications are those of convolutions and matrix products, as torch counts them; other operations count as none.

    Args:
        predict: of slices (1, H, W) in HU. ldct: such a slice. network: the network that it uses, on ``device``, in
            float32; None for a method without training. repeats: of which the fastest counts.
    Returns: weights, GMAC a slice, s a slice, MB a slice (the most that tensors take at once); NaN without a network.
    """
    predict(ldct)  # what is set up once does not count
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        predict(ldct)
        times.append(time.perf_counter() - began)
    row = {"weights": 0, "GMAC a slice": np.nan, "s a slice": min(times), "MB a slice": np.nan}
    if network is not None:
        with FlopCounterMode(display=False) as counter:
            prediction.predict(network, ldct, 1, "float32", device)
        with LiveBytes() as live:
            prediction.predict(network, ldct, 1, "float32", device)
        row |= {"weights": sum(p.numel() for p in network.parameters()), "MB a slice": live.peak / 1e6,
                "GMAC a slice": counter.get_total_flops() / 2e9}  # fmt: skip
    return row
