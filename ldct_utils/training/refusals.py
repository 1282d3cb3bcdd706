"""What 03_train refuses before it builds a cohort: choices that contradict each other, each told with its remedy.

Nothing here decides a result: no part of a run's identity (``identity.DECIDES_NOTHING``).
"""

from ldct_utils import cohorts, metrics
from ldct_utils.cohorts import patches
from ldct_utils.models import networks, published
from ldct_utils.training import asked, methods, setup, testing


def check(given: dict):
    """Refuse choices of 03_train that cannot be, before anything is computed.

    Args: given: its parameters, resolved.
    Raises: ValueError: naming the parameter; ConnectionError: if a published network cannot be had.
    """
    every = tuple(given[name] for name in ("log_every", "eval_every", "checkpoint_every"))
    if min(every) < 1:
        raise ValueError(f"log_every, eval_every and checkpoint_every are at least 1, got {every}")
    metrics.own_window(given["level"], given["width"])  # half a window
    _check_psi(given["psi_of"], given["psi_on"])
    setup.learning_rate(given["schedule"], given["lr"], 0, 1, given["warmup"])  # an unknown schedule
    if given["train_slices"] is not None and given["train_slices"] < 1:
        raise ValueError(f"train_slices is at least 1, or None for all, not {given['train_slices']}")
    methods.settings(given["method"], given["method_settings"])
    if given["method"] != "supervised" and (given["loss"], given["psi_on"]) != ("mse", "fixed"):
        raise ValueError(
            f"method {given['method']} brings its own loss: leave loss at mse and psi_on at fixed, not "
            f"{given['loss']}, {given['psi_on']}"
        )
    loss = asked.loss(given["loss"], given["lam"], given["psi_target"])
    if given["psi_on"] == "hold" and loss != "vgg":
        raise ValueError(f"psi_on=hold re-solves the weight of loss=vgg; loss {loss!r} has none to solve for")
    if given["sampling"] not in patches.SAMPLINGS or (given["sampling"] == "patients" and given["patch_skip"]):
        raise ValueError(
            f"sampling is slices, or patients without a patch_skip; got {given['sampling']!r}, patch_skip "
            f"{given['patch_skip']}"
        )
    _check_network(given)


def _check_psi(psi_of, psi_on):
    if psi_of not in ("identity", "untrained") or psi_on not in ("fixed", "hold"):
        raise ValueError(f"psi_of is identity or untrained, psi_on is fixed or hold; got {psi_of!r} and {psi_on!r}")


def _check_network(given):
    network, init, normalise, settings = (given[name] for name in ("network", "init", "normalise", "settings"))
    wanted = {name: given[name] for name in asked.SHARED}
    if twice := set(wanted) & set(settings):
        raise ValueError(f"{', '.join(sorted(twice))} must be given as parameters of 03_train, not inside settings")
    if init not in (None, "hub"):
        raise ValueError(f"init is hub or None, not {init!r}")
    if init == "hub":
        if settings or normalise != "none" or any(value is not None for value in wanted.values()):
            raise ValueError(
                "init=hub takes the published network as it is, normalisation included: leave channels, residual, "
                "settings and normalise alone"
            )
        published.settings(network)  # refuses an unknown one
        published.fetch(network)  # if it cannot be had, now
    networks.build(network, **asked.network_settings(network, settings, init, **wanted))
    if normalise not in ("none", "meanstd") or (normalise == "meanstd" and {"mean_hu", "std_hu"} & set(settings)):
        raise ValueError(f"normalise is none, or meanstd without mean_hu and std_hu in settings; got {normalise!r}")
    if normalise == "meanstd" and "mean_hu" not in networks.settings(network):
        raise ValueError(
            f"network {network!r} cannot be told mean_hu and std_hu: it works in the network range, normalise=none"
        )


def check_pairs(cohort, max_steps, normalise, test_source=None, test_root=None):
    """Refuse a cohort whose two images are the same, or that has no patients to train or to test on.

    Args:
        max_steps: 0 only tests a network. normalise: meanstd needs training patients in any case.
        test_source, test_root: as of ``cohorts.tested_on``, asked for now and not after the training.
    Raises: ValueError: with what to give instead.
    """
    cohorts.refuse_identical(cohort)
    if len(cohort.rows("train")) or (max_steps == 0 and normalise != "meanstd" and len(cohort.rows("val"))):
        return testing.check(cohort, test_source, test_root)
    held = cohort.slices.groupby("split").patient.nunique()
    held = ", ".join(f"{count} patient{'s' * (count != 1)} to {part}" for part, count in held.items())
    raise ValueError(
        f"cohort {cohort.id} has no training patients: its split, {cohort.meta['split']}, gives {held}. Give "
        "split=draw, a split file that lists some of its patients under train, or split=train (everyone) with a "
        "test_source"
    )
