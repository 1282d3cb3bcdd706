"""What one update of a training is. A step owns networks and optimisers and offers ``update``, ``state_dict`` and
``load_state_dict``; the loop around it stands in the notebook."""

import importlib
import inspect

# each is a module here, imported when it is asked for; its STEP is what one update is
METHODS = ("supervised", "wgan", "dugan")
# what 03_train has a parameter for, or finds out; every other argument of a step is a setting of its own
SHARED = (
    *("network", "loss", "encoder", "patch_size", "mean_hu", "std_hu"),
    *("lr", "betas", "eps", "precision", "device", "accumulate"),
)


def _step(method):
    if method not in METHODS:
        raise ValueError(f"no method {method!r}; there are {', '.join(METHODS)}")
    return importlib.import_module(f"{__package__}.{method}").STEP


def _arguments(method) -> dict:
    declared = inspect.signature(_step(method).__init__).parameters
    return {name: parameter.default for name, parameter in declared.items() if name != "self"}


def settings(method, given=()) -> dict:
    """What a method can be told besides the shared arguments, {setting: default}.

    Args: given: settings that must be among them.
    Raises: ValueError: for an unknown method, or a setting that it does not have.
    """
    known = {name: default for name, default in _arguments(method).items() if name not in SHARED}
    for setting in given:
        if setting not in known:
            raise ValueError(f"method {method!r} has no setting {setting!r}; it has {', '.join(known)}")
    return known


def build(method, given, **shared):
    """The step of a method: an object with ``update(ldct, ndct)`` and what ``base.Step`` says.

    Args:
        method: one of ``METHODS``.
        given: settings of the method, e.g. ``{"n_d": 2}``; see ``settings``.
        shared: the arguments that steps have in common (``SHARED``); a method takes those that it needs.
    Raises: ValueError: for an unknown method or setting, or a value that the step refuses.
    """
    settings(method, given)
    wanted = _arguments(method)
    return _step(method)(**{name: value for name, value in shared.items() if name in wanted}, **given)
