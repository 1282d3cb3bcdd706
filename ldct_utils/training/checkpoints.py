"""What a training leaves on disk: its last state to resume from, and checkpoints of its network."""

import re
from pathlib import Path

import torch

from ldct_utils.models import networks, store
from ldct_utils.study import files, paths

STATE_FILE = "last.pt"
STEP_FILE = re.compile(r"step_(\d{7})\.safetensors")


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
    path = Path(folder) / "checkpoints" / f"step_{step:07d}.safetensors"
    store.write(path, network.state_dict(), network=settings, step=step)


def checkpoints(folder) -> dict[int, Path]:
    """Checkpoints of a run, {step: file}, in order of steps."""
    found = ((STEP_FILE.fullmatch(path.name), path) for path in (Path(folder) / "checkpoints").glob("step_*"))
    return dict(sorted((int(match[1]), path) for match, path in found if match))


def in_step(chosen) -> int:
    """How many checkpoints each of these runs has. Raises: ValueError: unless all have them at the same steps."""
    steps = {tuple(checkpoints(run.folder)) for run in chosen}
    if len(steps) > 1:
        raise ValueError(
            "these runs have checkpoints at different steps; train them with the same max_steps and checkpoint_every"
        )
    return len(next(iter(steps)))


def load_network(folder, checkpoint="last"):
    """The network of a run, trained, in evaluation mode, on the CPU.

    Args: folder: run folder; checkpoint: a step, or ``last``.
    Raises: FileNotFoundError: if the run has no such checkpoint; ValueError: if its file is not whole.
    """
    steps = checkpoints(folder)
    step = max(steps, default=None) if checkpoint == "last" else int(checkpoint)
    if step not in steps:
        raise FileNotFoundError(
            f"{paths.short(folder)} has no checkpoint {checkpoint!r}; it has {', '.join(map(str, steps)) or 'none'}"
        )
    remedy = "delete the run and repeat it"
    return store.load(steps[step], "network", lambda settings: networks.build(**settings), remedy)[0]
