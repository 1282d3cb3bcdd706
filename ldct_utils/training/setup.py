"""Before the first update: seed and threads, the learning rate's schedule, and whether an update fits into memory."""

import math
from pathlib import Path

import psutil
import torch

from ldct_utils.study import machine

SCHEDULES = ("constant", "cosine")


def seed_everything(seed: int, threads: int):
    """Seed torch, fix its thread count, on which the last bits of every convolution depend, and keep freed memory."""
    machine.keep_memory()
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
