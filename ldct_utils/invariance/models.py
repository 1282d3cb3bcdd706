"""What 05a trains, on disk: weights with the settings that build them again."""

from pathlib import Path

from ldct_utils.invariance import flow, generate, vae
from ldct_utils.models import store

KINDS = {"generator": generate.build, "vae": vae.build, "flow": flow.build}
FILE = "model.safetensors"


def check(kind: str, vae, control_updates, ct_control_updates=()):
    """Refuse what cannot be trained. Args: vae: the run with the VAE of a flow, or None. control_updates: two, or none.
    ct_control_updates: three, or none.

    Raises: ValueError: for an unknown kind, a VAE too many or too few, or other numbers of updates.
    """
    if kind not in KINDS:
        raise ValueError(f"model is {', '.join(KINDS)}, not {kind!r}")
    if (vae is not None) != (kind == "flow"):
        raise ValueError(f"vae is the run folder of a VAE and belongs to model=flow, which needs one; this is {kind}")
    if control_updates and (len(control_updates) != 2 or min(control_updates) < 1):
        raise ValueError(
            f"control_updates are those of the VAE and of the flow, both at least 1, not {control_updates!r}"
        )
    if ct_control_updates and (len(ct_control_updates) != 3 or min(ct_control_updates) < 1):
        raise ValueError(
            "ct_control_updates are those of the VAE, the flow and the generator, each at least 1, not "
            f"{ct_control_updates!r}"
        )


def write(folder, kind: str, model):
    """Write ``model.safetensors``: weights, buffers, and ``model.settings``, which ``KINDS[kind]`` takes."""
    store.write(Path(folder) / FILE, model.state_dict(), kind=kind, settings=model.settings)


def load(folder, kind: str):
    """A trained model, in evaluation mode, on the CPU.

    Args: folder: of a run of 05a. kind: generator, vae or flow.
    Raises: FileNotFoundError: if the folder holds none; ValueError: if it is of another kind, or not whole.
    """
    remedy = "give the folder of a finished run of 05a"
    return store.load(Path(folder) / FILE, "settings", lambda settings: KINDS[kind](**settings), remedy, kind)[0]


def of_denoiser(run, kind: str, denoiser: tuple, device: str = "cpu"):
    """The model of a run of 05a, on ``device``, if it was trained for this denoiser.

    Args: run: finished. denoiser: (id of its run, its updates). Raises: ValueError: if it was trained for another one,
        or another checkpoint of it.
    """
    theirs = (run.numbers["denoiser"], run.numbers["updates_of_f"])
    if theirs != tuple(denoiser):
        raise ValueError(f"{kind} {run.name} was trained for the denoiser (run, updates) {theirs}, not {denoiser}")
    return load(run.folder, kind).to(device)
