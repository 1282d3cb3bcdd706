"""Detecting swapped doses: pairs whose low-dose slices have less noise than their full-dose partners."""

import numpy as np

LOOKED_AT = 3  # pairs of a series, evenly spaced: if one is swapped, all are
SOFT_TISSUE = (-200, 300)  # HU, with its noise; fat and water lie inside, air and most bone do not
LEAST = 1000  # pixels of soft tissue in both slices of a pair, below which the pair is not judged
# Noise ratio, low over full dose: a quarter dose has about 2, swapped pairs about .5; near 1 has other reasons.
TOO_QUIET = 0.9


def grain(low, full) -> tuple[float, float] | None:
    """Median difference of neighbouring pixels in soft tissue, HU, of a low-dose and a full-dose slice (H, W).

    Anatomy contributes to it, so it is no noise SD; but of two slices of the same anatomy the noisier one has the
    larger value. None where there is too little soft tissue.
    """
    low, full = (np.asarray(one, np.float32) for one in (low, full))
    soft = np.logical_and.reduce([(one > SOFT_TISSUE[0]) & (one < SOFT_TISSUE[1]) for one in (low, full)])
    both = soft[1:] & soft[:-1]
    if both.sum() < LEAST:
        return None
    return tuple(float(np.median(np.abs(np.diff(one, axis=0)[both]))) for one in (low, full))


def check(pairs, load):
    """Compare the noise of a few pairs of a series.

    Args:
        pairs: (low, full), all of one series. load: function of a member of a pair that returns its slice (H, W), HU.
            A slice that it cannot read (ValueError) is passed over here; the build reports it later.
    Raises: ValueError: if the low-dose slices are clearly the less noisy ones.
    """
    ratios = []
    for number in sorted({len(pairs) * (2 * n + 1) // (2 * LOOKED_AT) for n in range(LOOKED_AT)}):
        try:
            grains = grain(*(load(one) for one in pairs[number]))
        except ValueError:
            continue
        if grains and grains[1] > 0:
            ratios.append(grains[0] / grains[1])
    if ratios and np.median(ratios) < TOO_QUIET:
        raise ValueError(
            f"its low-dose slices are less noisy than their full-dose partners ({np.median(ratios):.2f} times their "
            "grain): the two are swapped, so exchange the names of their folders (npy: _input and _target)"
        )
