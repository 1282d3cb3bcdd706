"""What a training was asked for, as its network and its loop take it."""

from ldct_utils.models import networks, published

SHARED = {"channels": 16, "residual": True}  # parameters that several networks have, and what None stands for


def network_settings(network: str, settings: dict, init: str | None = None, inside: dict | None = None, **wanted):
    """Arguments of ``networks.build`` for a network.

    Args:
        settings: what this network alone can be told. init: ``hub`` takes those of the published network.
        inside: mean and SD of the images, HU, for a network that normalises by them; None for none.
        wanted: the values of ``SHARED``. None goes to the networks that have the setting; a value that was asked for
            goes to every network, and one without that setting refuses it.
    Returns: {setting: value}.
    """
    if init == "hub":
        return {name: value for name, value in published.settings(network).items() if name != "name"}
    given = {name: value for name, value in wanted.items() if value is not None}
    known = networks.settings(network)
    normalised = {f"{name}_hu": inside[name] for name in ("mean", "std")} if inside else {}
    return {name: value for name, value in (SHARED | given).items() if name in known} | given | settings | normalised


def loss(name: str, lam: float | None, psi_target: float) -> str:
    """The loss that is trained with: of ``vgg`` whose λ is found from psi, psi 0 is the MSE alone, psi 1 the perceptual
    term alone."""
    return {0.0: "mse", 1.0: "vgg_only"}.get(psi_target, name) if name == "vgg" and lam is None else name


def updates(max_steps: int | None, epochs: int | None, an_epoch: int, init: str | None = None) -> int:
    """Updates of a training: as many as max_steps or epochs say, whichever comes first.

    Args: an_epoch: updates of one. init: with ``hub`` there may be none, which only tests the network.
    Raises: ValueError: if neither is given, or no update is left.
    """
    limits = [n for n in (max_steps, epochs and epochs * an_epoch) if n is not None]
    if not limits or min(limits) < (0 if init else 1):
        raise ValueError(
            f"give max_steps or epochs, at least 1 (0 with init=hub, which only tests it); got {max_steps} and {epochs}"
        )
    return min(limits)
