"""What a denoiser costs, seconds and memory, and what a report card of so many minutes can afford."""

import ctypes
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from ldct_utils.denoisers import unseen

SHARE = 110  # slices of 512 x 512 pixels that a card takes of a denoiser, about
FEWEST = 60  # realisations a class
OF_PROCESS = Path("/proc/self")  # Linux
COLUMNS = ["denoiser", "s a slice", "MB a slice"]  # what a clock or meter gave: these names are no result


def cost(denoise: Callable, side: int = 512, times: int = 2) -> tuple[float, float]:
    """Seconds a slice of ``side`` x ``side`` pixels, and megabytes that one slice took beyond what the process held.

    Memory is the peak of the resident set while a slice is denoised, minus what it was before; NaN where the system
    does not tell it. What the process has freed and still holds is given back first, where the C library can, or it
    would be used again and count as nothing.
    """
    image = np.full((1, side, side), -1000, np.float32)
    image[:, side // 8 : -side // 8, side // 8 : -side // 8] = 40
    image += np.random.default_rng(0).normal(0, 20, image.shape).astype(np.float32)
    before = _resident(peak=False)
    denoise(image)
    took_mb = _resident(peak=True) - before
    start = time.perf_counter()
    for _ in range(times):
        denoise(image)
    return (time.perf_counter() - start) / times, took_mb


def _resident(peak: bool) -> float:
    """Megabytes of this process in memory: now, from when on a new peak is kept, or at that peak; NaN if unknown."""
    try:
        if not peak:
            getattr(ctypes.CDLL(None), "malloc_trim", int)(0)
            (OF_PROCESS / "clear_refs").write_text("5", encoding="ascii")
        lines = dict(line.split(":", 1) for line in (OF_PROCESS / "status").read_text(encoding="utf-8").splitlines())
    except OSError:
        return float("nan")
    return int(lines["VmHWM" if peak else "VmRSS"].split()[0]) / 1024


def costs(denoisers: dict) -> pd.DataFrame:
    """``cost`` of each, ``COLUMNS``; no row for none. Args: denoisers: {name: function}."""
    return pd.DataFrame([(name, *cost(one)) for name, one in denoisers.items()], columns=COLUMNS)


def affordable(seconds, minutes: float, realisations: int, searched=(), steps=unseen.MOST) -> tuple[int, int, float]:
    """What a card of so many minutes has time for, and the minutes that all outputs take. Slower ones get less of it.

    Args: seconds: a slice of 512 x 512 pixels, of each denoiser. minutes: that all may take. realisations: wanted.
        searched: seconds of those whose invariances are searched. steps: of a search, wanted.
    Returns: noise realisations a class, an even number, ``FEWEST`` or what is wanted at the least; steps of a search,
        alike; and the minutes expected with all that is wanted.
    """
    expected = (SHARE * float(np.sum(seconds)) + unseen.SHARE * steps / unseen.MOST * float(np.sum(searched))) / 60
    fewer = float(np.clip(minutes / max(expected, 1e-9), 0.25, 1))
    given = max(min(FEWEST, realisations), int(realisations * fewer) // 2 * 2)
    return given, max(min(unseen.FEWEST, steps), int(steps * fewer)), expected
