"""Pairs of LDCT and NDCT patches from a cohort on disk: a fixed grid, as the paper's, or random crops.

The images stay memory-mapped: a batch reads only the pixels of its patches. The seed and the number of batches drawn
so far determine the next batch, so that number is all a checkpoint must store.
"""

import numpy as np
import torch

from ldct_utils.ct import intensity

SAMPLINGS = ("slices", "patients")


def grid_starts(size: int, patch: int, skip: int) -> np.ndarray:
    """First rows (or columns) of the patches on a grid: ``np.arange(0, size - patch, skip)``.

    Starts beyond ``size - patch - 1`` are not used, so a 512-pixel image with 96-pixel patches ends at pixel 480
    and an image of exactly one patch gives its start 0.

    Args: size, patch, skip: pixels; ``patch`` <= ``size``, ``skip`` > 0.
    Raises: ValueError: if the patch does not fit or the stride is not positive.
    Source: Viana et al., arXiv 2509.23025, authors' code (data loader); 0, 96, 192, 288, 384 for 512, 96, 96.
    """
    if not 0 < patch <= size:
        raise ValueError(f"a patch of {patch} pixels does not fit into images of {size} pixels; lower patch_size")
    if not skip > 0:
        raise ValueError(f"the stride of the patch grid must be positive, got {skip}; 0 in 03_train means random crops")
    return np.arange(0, max(size - patch, 1), skip)


class Sampler:
    """Batches of patch pairs (LDCT, NDCT) from the rows of a cohort, endlessly.

    Args:
        cohort: anything with ``ldct`` and ``ndct``, int16 HU, (slices, H, W), memory-mapped or not.
        rows: which slices, 1-D integers.
        patch_size: pixels, square.
        patch_skip: stride of the grid in pixels; None or 0 draws random crops instead.
        batch: patches a batch.
        seed: of the order of the slices, or of the crops.
        reshuffle: grid only. False keeps the order of the first epoch for ever, as the authors' code does; True
            draws a new order each epoch.
        sampling: random crops only. ``slices``: every slice is equally likely. ``patients``: every patient of
            ``cohort.slices`` is, a slice with weight 1 / (slices of its patient among ``rows``), as in the LDCT
            benchmark (Eulig et al. 2024), whose chest exams have ten times as many slices as its head exams.
        labels: label maps of the slices, ``labels[row]`` of (H, W) integers, e.g. from ``segments.label_maps``; each
            batch then has their crops too, from the same places.

    On the grid the slices are shuffled and the patches of one slice stay together, as in the authors' code; a rest
    that does not fill a batch is left out of the epoch. Random crops count an epoch by the grid without overlap.
    ``len(sampler)`` is the number of batches an epoch, ``n_patches`` that of the patches it draws from.

    Raises: ValueError: for no rows, a patch larger than the images, a batch larger than an epoch of the grid, an
        unknown sampling, or patients on a grid.
    """

    def __init__(
        self, cohort, rows, patch_size, patch_skip, batch, seed, reshuffle=True, sampling="slices", labels=None
    ):
        # np.asarray: the same memory map as a plain array. np.memmap takes longer to slice than a small patch to read.
        self.ldct, self.ndct = np.asarray(cohort.ldct), np.asarray(cohort.ndct)
        self.rows = np.asarray(rows, dtype=np.int64)
        self.patch, self.batch, self.seed = int(patch_size), int(batch), int(seed)
        self.random, self.reshuffle, self.given, self.labels = not patch_skip, reshuffle, 0, labels
        if len(self.rows) == 0:
            raise ValueError("no slices to draw patches from: the cohort has none in this split")
        if self.batch < 1:
            raise ValueError(f"batch must be at least 1, got {batch}")
        if sampling not in SAMPLINGS:
            raise ValueError(f"no sampling {sampling!r}; there are {', '.join(SAMPLINGS)}")
        if sampling == "patients" and not self.random:
            raise ValueError(
                "sampling patients draws random crops, a grid takes every slice in turn; set patch_skip to 0"
            )
        self.weights = None  # of the rows, for NumPy's choice; None is all alike
        if sampling == "patients":
            patient = cohort.slices.set_index("row").patient.loc[self.rows]
            self.weights = (1 / patient.map(patient.value_counts()) / patient.nunique()).to_numpy()
        _, height, width = self.ldct.shape
        starts = [grid_starts(n, self.patch, patch_skip or self.patch) for n in (height, width)]
        self.corners = np.stack(np.meshgrid(*starts, indexing="ij"), axis=-1).reshape(-1, 2)  # (patches a slice, 2)
        self.range = np.array([height, width]) - self.patch + 1  # random corners lie in [0, range)
        self.n_patches = len(self.rows) * len(self.corners)
        if not self.random and self.n_patches < self.batch:
            raise ValueError(
                f"a batch of {self.batch} does not fit into an epoch of {self.n_patches} (slices: {len(self.rows)}, "
                f"patches of each: {len(self.corners)}); lower batch or patch_skip"
            )
        self._order = (None, None)  # (epoch, its slices), made when the epoch begins

    def __len__(self):
        return max(self.n_patches // self.batch, 1)

    @property
    def epoch(self) -> float:
        """Epochs given so far, fractions included."""
        return self.given / len(self)

    def _slices(self, epoch: int) -> np.ndarray:
        epoch = epoch if self.reshuffle else 0
        if self._order[0] != epoch:
            self._order = (epoch, np.random.default_rng([self.seed, 0, epoch]).permutation(self.rows))
        return self._order[1]

    def places(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Where batch ``number`` (0, 1, ...) lies: rows (B,) and upper left corners (B, 2)."""
        if self.random:
            draw = np.random.default_rng([self.seed, 1, number])
            rows = draw.choice(self.rows, self.batch, p=self.weights)
            return rows, draw.integers(0, self.range, (self.batch, 2))
        epoch, within = divmod(number, len(self))
        patch = within * self.batch + np.arange(self.batch)
        return self._slices(epoch)[patch // len(self.corners)], self.corners[patch % len(self.corners)]

    def next(self) -> tuple[torch.Tensor, ...]:
        """The next batch: LDCT and NDCT, each (B, 1, p, p) float32 in the network range; with labels also their crops,
        (B, 1, p, p) int32."""
        rows, corners = self.places(self.given)
        pair = np.empty((2, self.batch, 1, self.patch, self.patch), np.int16)
        regions = None if self.labels is None else np.empty(pair.shape[1:], np.int32)
        for i, (row, (y, x)) in enumerate(zip(rows.tolist(), corners.tolist())):
            pair[0, i, 0] = self.ldct[row, y : y + self.patch, x : x + self.patch]
            pair[1, i, 0] = self.ndct[row, y : y + self.patch, x : x + self.patch]
            if regions is not None:
                regions[i, 0] = self.labels[row][y : y + self.patch, x : x + self.patch]
        self.given += 1
        ldct, ndct = intensity.to_net(torch.from_numpy(pair).float())
        return (ldct, ndct) if regions is None else (ldct, ndct, torch.from_numpy(regions))

    def state_dict(self) -> dict:
        """What ``load_state_dict`` needs to go on with the very next batch."""
        return {"given": self.given, "seed": self.seed}

    def load_state_dict(self, state: dict):
        """Go on where another sampler of the same arguments stood. Raises: ValueError: if its seed was another."""
        if state["seed"] != self.seed:
            raise ValueError(f"the stored sampler has seed {state['seed']}, this one {self.seed}")
        self.given = int(state["given"])
