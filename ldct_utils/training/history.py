"""The log of a training: every term, psi, lambda and speed, row by row, and the stop where a term diverges."""

import time
from collections import deque

import numpy as np
import pandas as pd
import torch

from ldct_utils.training import psi
from ldct_utils.training.losses import FEATURE_TERM

DIVERGED = 1000.0  # a term this many times its worst value of the first steps: no training comes back from there
FIRST_STEPS = 10
SIGHTS = 50  # steps over which psi_on="hold" estimates the loss terms


class History:
    """The training log: a row every few steps with the mean of every term, psi by both definitions, lambda and speed.

    ``add`` only keeps the step's tensors, so that a GPU is not waited for; ``row`` reads them, and stops the training
    if one is not finite or has diverged: that is one of ``falling``, the terms that a training which goes well lowers
    (None: all of them), has grown a thousandfold.
    """

    def __init__(self, batch: int, falling=None):
        self.batch, self.falling, self.rows, self.first = batch, falling, [], {}
        self.recent = deque(maxlen=SIGHTS)  # what lambda is re-solved on
        self._pending, self._since = [], time.perf_counter()

    def add(self, step: int, terms: dict):
        """Keep the terms {name: (N,)} of an update."""
        self._pending.append((step, terms))

    def row(self, weights: dict, lr: float) -> dict:
        """Close a row over the steps added since the last one; it may still be given validation scores.

        Args: weights: {term: weight} that these steps were trained with.
        Raises: FloatingPointError: naming step and term, if a term is not finite or has diverged.
        """
        steps = [step for step, _ in self._pending]
        losses = {
            name: torch.stack([terms[name] for _, terms in self._pending]).double().cpu().numpy()  # (steps, N)
            for name in self._pending[0][1]
        }
        for name, values in losses.items():
            self._check(name, steps, values.mean(1), weights)
        row = {"step": steps[-1]} | {name: float(values.mean()) for name, values in losses.items()}
        row["total"] = sum(weights[name] * row[name] for name in losses)
        if FEATURE_TERM in losses:
            pixel = sum(weights[name] * values for name, values in losses.items() if name != FEATURE_TERM)
            row |= psi.influences(pixel, losses[FEATURE_TERM], weights[FEATURE_TERM]) | {"lam": weights[FEATURE_TERM]}
            self.recent.extend(zip(np.broadcast_to(pixel, losses[FEATURE_TERM].shape), losses[FEATURE_TERM]))
        now = time.perf_counter()
        seconds, self._since = now - self._since, now
        row |= {
            "lr": lr,
            "seconds": seconds + (self.rows[-1].get("seconds", 0.0) if self.rows else 0.0),
            "patches_per_s": len(steps) * self.batch / seconds,
        }
        self.rows.append(row)
        self._pending = []
        return row

    def _check(self, name, steps, means, weights):
        falls = self.falling is None or name in self.falling
        for step, value in zip(steps, means):
            worst = self.first.get(name, 0.0)
            grown = falls and step > FIRST_STEPS and value > DIVERGED * worst > 0
            if not np.isfinite(value) or grown:
                state = "is not finite" if not np.isfinite(value) else f"has grown {value / worst:.0f}-fold"
                raise FloatingPointError(
                    f"training stopped at step {step}: the term {name!r} {state} ({value:g}; its weight is "
                    f"{weights[name]:g}). Lower lr, or lam if the weighted term rules the loss"
                )
            if step <= FIRST_STEPS:
                self.first[name] = max(worst, float(value))

    def paused(self):
        """Leave what happened since the last row (an evaluation, a figure) out of the speed; the clock goes on."""
        now = time.perf_counter()
        if self.rows:
            self.rows[-1]["seconds"] = self.rows[-1].get("seconds", 0.0) + now - self._since
        self._since = now

    def lambda_for(self, target: float, definition: str) -> float:
        """Lambda that puts psi at ``target`` on the images of the last ``SIGHTS`` steps."""
        pixel, perceptual = (np.concatenate(part) for part in zip(*self.recent))
        return psi.lambda_for(pixel, perceptual, target, definition)

    def table(self) -> pd.DataFrame:
        return pd.DataFrame(self.rows)

    def state_dict(self) -> dict:
        recent = torch.from_numpy(np.array([np.stack(pair) for pair in self.recent]))
        # Plain numbers only: a state with NumPy scalars in it cannot be loaded without running code.
        rows = [{k: v if type(v) is int else float(v) for k, v in row.items()} for row in self.rows]
        return {"rows": rows, "first": self.first, "recent": recent}

    def load_state_dict(self, state: dict):
        self.rows, self.first = state["rows"], state["first"]
        self.recent.extend((pair[0], pair[1]) for pair in state["recent"].numpy())
