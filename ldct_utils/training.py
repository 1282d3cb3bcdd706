"""Save, resume, log and predict. The training loop itself stands in 03_train and can be read there."""

import json
import math
import re
import time
from collections import deque
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from ldct_utils import files, intensity, networks, paths, psi
from ldct_utils.losses import FEATURE_TERM

STATE_FILE = "last.pt"
STEP_FILE = re.compile(r"step_(\d{7})\.safetensors")
DIVERGED = 1000.0  # a term this many times its worst value of the first steps: no training comes back from there
FIRST_STEPS = 10
MULTIPLE = 16  # images are padded to a multiple of this many pixels, as the U-Net needs
SIGHTS = 50  # steps over which psi_on="hold" estimates the loss terms
SCHEDULES = ("constant", "cosine")


def seed_everything(seed: int, threads: int):
    """Seed torch and fix its thread count, on which the last bits of every convolution depend."""
    torch.set_num_threads(threads)
    torch.manual_seed(seed)


def learning_rate(schedule: str, lr: float, done: int, total: int, warmup: int = 0) -> float:
    """Learning rate of the update after ``done`` of ``total``: a function of their number alone, so that a training
    that goes on after a kill has the rates it would have had.

    Args:
        schedule: ``constant``, or ``cosine``: half a cosine from ``lr`` at the first update to 0 after the last.
        warmup: updates over which the rate rises to the schedule's in equal steps. Adam's first updates are as large
            as its rate whatever the gradient: at 1e-3 they switch off the ReLUs of an untrained U-Net for good.
    Raises: ValueError: for an unknown schedule or a negative warmup.
    """
    if schedule not in SCHEDULES:
        raise ValueError(f"no schedule {schedule!r} of the learning rate; there are {', '.join(SCHEDULES)}")
    if warmup < 0:
        raise ValueError(f"warmup is a number of updates, 0 or more, not {warmup}")
    rate = lr if schedule == "constant" else lr * (1 + math.cos(math.pi * done / total)) / 2
    return rate * min(1.0, (done + 1) / warmup) if warmup else rate


def check_memory(step, patch_size: int, batch: int):
    """Stop before the first update if one will not fit into memory.

    The bytes that the graphs of one and of two patches keep for their gradients are counted, not guessed: what grows
    with the batch, and what does not (normalised weights). Half as much again is allowed for what is alive only for a
    moment. Returns: bytes needed.
    Raises: MemoryError: with what is needed, what is free and what to lower.
    """
    parameters = {p.untyped_storage().data_ptr() for p in step.parameters()}

    def kept(phase, patches):
        """Bytes that the graph of a phase of the update keeps for so many patches."""
        found = {}

        def count(tensor):
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in parameters:
                found[storage.data_ptr()] = storage.nbytes()
            return tensor

        images = torch.zeros(patches, 1, patch_size, patch_size, device=step.device)
        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            terms = phase(images, images)
        del terms
        return sum(found.values())

    largest = 0
    with step.evaluating(), torch.random.fork_rng(devices=[]):
        for phase in step.phases:
            one, two = kept(phase, 1), kept(phase, 2)
            largest = max(largest, one + (two - one) * (math.ceil(batch / step.accumulate) - 1))
    weights = sum(p.nbytes for p in step.parameters() if p.requires_grad)
    needed = 1.5 * largest + 4 * weights  # gradients, Adam's moments
    free = torch.cuda.mem_get_info(step.device)[0] if step.device.type == "cuda" else _free_ram()
    if needed > free:
        raise MemoryError(
            f"an update of {batch} patches of {patch_size} pixels needs about {needed / 1e9:.1f} GB on {step.device}, "
            f"{free / 1e9:.1f} GB are free; lower batch or patch_size, or raise accumulate (now {step.accumulate})"
        )
    return int(needed)


def _free_ram() -> int:
    """Bytes of RAM this process can still get: the machine's, or what its container or Slurm job leaves."""
    free = psutil.virtual_memory().available
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.is_file() and used.is_file() and limit.read_text().strip().isdigit():
        free = min(free, int(limit.read_text()) - int(used.read_text()))
    return free


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
            row |= influences(pixel, losses[FEATURE_TERM], weights[FEATURE_TERM]) | {"lam": weights[FEATURE_TERM]}
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


def influences(pixel, perceptual, lam: float) -> dict:
    """Psi by both definitions, of a value an image (any shape) of the weighted pixel terms and the perceptual term."""
    pixel = np.broadcast_to(np.asarray(pixel, dtype=np.float64), np.shape(perceptual)).ravel()
    return {f"psi_{name}": psi.influence(pixel, np.ravel(perceptual), lam, name) for name in psi.DEFINITIONS}


def save(folder, run_id: str, done: int, **parts):
    """Write the one ``last`` state of a run: whole or not at all, so that a kill at any moment leaves a good one.

    Args: done: updates done; parts: objects with ``state_dict`` (the step, the sampler, the history), by name.
    """
    state = {"id": run_id, "done": done, "rng": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda_rng"] = torch.cuda.get_rng_state_all()
    state |= {name: part.state_dict() for name, part in parts.items()}
    with files.write_atomic(Path(folder) / STATE_FILE) as temporary:
        torch.save(state, temporary)


def resume(folder, run_id: str, **parts) -> int:
    """Go on where ``save`` left off. Returns: the number of updates done; 0 if there is nothing to resume.

    Raises: ValueError: if the state is of another run, or damaged.
    """
    path = Path(folder) / STATE_FILE
    if not path.is_file():
        return 0
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"{paths.short(path)} is damaged ({error}); delete it to train from the start") from error
    if state["id"] != run_id:
        raise ValueError(
            f"{paths.short(path)} belongs to run {state['id']}, not to {run_id}; delete it to train from the start"
        )
    for name, part in parts.items():
        part.load_state_dict(state[name])
    torch.set_rng_state(state["rng"])
    if "cuda_rng" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda_rng"])
    return state["done"]


def write_checkpoint(folder, step: int, network, settings: dict):
    """Write ``checkpoints/step_NNNNNNN.safetensors``: the weights, and how to build the network they belong to.

    Args: settings: arguments of ``networks.build``, ``name`` included.
    """
    weights = {name: value.contiguous().cpu() for name, value in network.state_dict().items()}
    with files.write_atomic(Path(folder) / "checkpoints" / f"step_{step:07d}.safetensors") as temporary:
        save_file(weights, temporary, metadata={"network": json.dumps(settings), "step": str(step)})


def checkpoints(folder) -> dict[int, Path]:
    """Checkpoints of a run, {step: file}, in order of steps."""
    found = ((STEP_FILE.fullmatch(path.name), path) for path in (Path(folder) / "checkpoints").glob("step_*"))
    return dict(sorted((int(match[1]), path) for match, path in found if match))


def load_network(folder, checkpoint="last"):
    """The network of a run, trained, in evaluation mode, on the CPU.

    Args: folder: run folder; checkpoint: a step, or ``last``.
    Raises: FileNotFoundError: if the run has no such checkpoint.
    """
    found = checkpoints(folder)
    step = max(found, default=None) if checkpoint == "last" else int(checkpoint)
    if step not in found:
        raise FileNotFoundError(
            f"{paths.short(folder)} has no checkpoint {checkpoint!r}; it has {', '.join(map(str, found)) or 'none'}"
        )
    with safe_open(found[step], framework="pt") as stored:
        settings = json.loads(stored.metadata()["network"])
    network = networks.build(**settings)
    network.load_state_dict(load_file(found[step]))
    return network.eval()


@torch.inference_mode()
def predict(network, hu, batch: int = 4, precision: str = "float32", device: str = "cpu") -> np.ndarray:
    """Denoise whole slices.

    Args: hu: LDCT in HU, (N, H, W) or (H, W), any size: padded by reflection to a multiple of 16 pixels, then cropped.
    Returns: prediction of NDCT in HU, float32, same shape.
    """
    hu = np.asarray(hu)
    images = hu[None] if hu.ndim == 2 else hu
    if images.ndim != 3:
        raise ValueError(f"predict takes slices (N, H, W) or (H, W) in HU, got shape {hu.shape}")
    height, width = images.shape[1:]
    training, out = network.training, np.empty(images.shape, np.float32)
    network.eval()
    for start in range(0, len(images), batch):
        part = torch.from_numpy(np.array(images[start : start + batch], dtype=np.float32))[:, None].to(device)
        part = torch.nn.functional.pad(part, (0, -width % MULTIPLE, 0, -height % MULTIPLE), mode="reflect")
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bf16"):
            denoised = network(intensity.to_net(part).contiguous(memory_format=torch.channels_last))
        out[start : start + batch] = intensity.from_net(denoised.float())[:, 0, :height, :width].cpu().numpy()
    network.train(training)
    return out[0] if hu.ndim == 2 else out
