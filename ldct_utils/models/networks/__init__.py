"""Denoisers, one a file: a module here with a ``build(**settings)`` function is a network that 03_train can train.

Modules whose names begin with an underscore hold what several networks share.
"""

import importlib
import inspect
import pkgutil


def names():
    """Names of the denoisers in this package, sorted."""
    found = pkgutil.iter_modules(__path__)
    return sorted(module.name for module in found if not module.ispkg and not module.name.startswith("_"))


def settings(name) -> dict:
    """What a network can be told, {setting: default}. Raises: ValueError: for an unknown network."""
    if name not in names():
        raise ValueError(f"no network {name!r}; there are {', '.join(names())}")
    declared = inspect.signature(importlib.import_module(f"{__name__}.{name}").build).parameters
    return {setting: parameter.default for setting, parameter in declared.items()}


def build(name, **given):
    """Build an untrained denoiser: a module that maps LDCT (N, 1, H, W), network range, to a prediction of NDCT.

    Args:
        name: one of ``names()``, e.g. "unet".
        given: what that network's own ``build`` declares, e.g. ``channels=32, residual=True`` for "unet".
    Raises: ValueError: for an unknown network, or a setting that it does not have.
    """
    declared = settings(name)
    for setting in given:
        if setting not in declared:
            raise ValueError(f"network {name!r} has no setting {setting!r}; it has {', '.join(declared)}")
    return importlib.import_module(f"{__name__}.{name}").build(**given)
