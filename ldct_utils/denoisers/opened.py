"""A denoiser by its name, whatever it is: a file, a run, a published network, a filter, a function, finished images.

| name | what it is |
|---|---|
| ``her_network.onnx`` | an ONNX file |
| ``default/03_train/mse-0`` | a run of 03_train |
| ``hub:redcnn`` | a network of the LDCT benchmark, fetched and checked |
| ``tv``, ``tv:weight_hu=10`` | a filter: tv, nlm, bm3d (tuned where no setting is given), gaussian, median |
| ``package.module:function`` | a function of (N, 1, H, W) float32 arrays; importing the module runs its code |
| a folder or ``.npy`` | images denoised elsewhere, matched to a cohort (``finished``) |

Pickles and TorchScript are refused: reading them can run code that nobody named.
"""

import ast
import importlib
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from scipy import ndimage

from ldct_utils.cohorts import Cohort
from ldct_utils.ct import conventions
from ldct_utils.denoisers import finished, onnx_files, probing
from ldct_utils.models import classical, published
from ldct_utils.study import files, paths, runs
from ldct_utils.training import checkpoints, prediction

PROBE = 4  # slices of a probe
CODE = {".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".ts", ".torchscript", ".h5", ".keras", ".mat"}
FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
FILTERS = {
    "gaussian": lambda sigma_px: lambda hu: ndimage.gaussian_filter(hu, (0, sigma_px, sigma_px)),
    "median": lambda size: lambda hu: ndimage.median_filter(hu, (1, size, size)),
}


@dataclass(frozen=True)
class Denoiser:
    """A denoiser as the study uses it.

    Attributes:
        name: short, for tables. kind: what it is, in words. about: what was found or assumed, a sentence.
        call: (N, H, W) HU to the same, float32. network: a torch module in the network range that passes gradients, or
        None. images: of finished images {row of the cohort: (H, W) HU}; then ``call`` makes none.
        made_of: what decides its output: a hash of its file, of a run's weights or of its module, or its settings.
        run: of 03_train, whose cohort it was trained on, or None.
    """

    name: str
    kind: str
    about: str
    call: Callable
    network: object = None
    images: dict | None = None
    made_of: str = ""
    run: runs.Run | None = None

    def __call__(self, hu) -> np.ndarray:
        return self.call(hu)


def opened(
    name: str,
    cohort: Cohort | None,
    range_of=None,
    input_name: str | None = None,
    batch: int = 1,
    precision: str = "float32",
    device: str = "cpu",
    threads: int = 0,
    slices=None,
) -> Denoiser:
    """A denoiser by its name, probed.

    Args:
        name: see the module's table. cohort: whose validation slices it is probed (and a filter tuned) on, and whose
            test slices finished images are matched to; None without one.
        range_of: what it takes for HU (``conventions.read``), for files and functions; None tries what is known, which
            decides nothing without a cohort.
        input_name: of an ONNX file with several inputs.
        slices: (N, H, W) HU, a few, without a reference, to probe it on where there is no cohort.
    Raises: FileNotFoundError, ValueError, ImportError: with what is wrong and what to do.
    """
    found = _find(str(name).strip(), cohort, input_name, batch, precision, device, threads)
    if found.images is not None:
        return found
    if cohort is None:
        ldct, ndct = np.asarray(slices, np.float32), None
    else:
        rows = _probe_rows(cohort)
        ldct, ndct = (np.asarray(images[rows], np.float32) for images in (cohort.ldct, cohort.ndct))
    if found.kind not in (ONNX, FUNCTION_KIND):
        if range_of is not None:
            raise ValueError(f"{name} is a {found.kind} and takes HU: range is for files and functions")
        _probed(found, ldct, ndct)
        return found
    if range_of is None:
        range_of = "hu" if found.kind == FUNCTION_KIND else probing.likeliest(
            probing.plausible(found.call, ldct, ndct), found.name
        )  # fmt: skip
        said = "taken to be" if found.kind == FUNCTION_KIND else "tried and found to be"
    else:
        said = "given as"
    convention = conventions.read(range_of)
    whole = replace(
        found, call=convention.wrap(found.call), about=f"{found.about}; its range was {said} {convention.name}"
    )
    _probed(whole, ldct, ndct)
    return whole


ONNX, FUNCTION_KIND = "ONNX file", "Python function"


def _find(name, cohort, input_name, batch, precision, device, threads) -> Denoiser:
    if not name:
        raise ValueError(f"which denoiser? Give its name: {_names(cohort)}")
    word, _, settings = name.partition(":")
    if word == "hub":
        found = _network(
            name, "published network", "of the LDCT benchmark", published.load(settings), batch, precision, device
        )
        return replace(found, made_of=published.SHA256[settings])
    if word in classical.METHODS or word in FILTERS:
        return _filter(word, settings, cohort)
    path = paths.locate(name)
    if path and path.suffix == ".onnx":
        call, about = onnx_files.load(path, input_name, threads)
        beside = sorted(path.parent.glob(f"{path.name}*"))  # weights of large networks lie in files beside it
        return Denoiser(path.stem, ONNX, about, call, made_of=" ".join(files.sha256(one) for one in beside))
    if path is None and "03_train" in Path(name).parts:
        path = runs.one(name).folder
    if path and (path / "result.json").is_file():
        run = runs.load(path)
        network = checkpoints.load_network(run.folder)
        found = _network(
            run.name, "run of 03_train", f"network {run.params['network']}", network, batch, precision, device
        )
        weights = max(checkpoints.checkpoints(run.folder).items())[1]
        return replace(found, made_of=files.sha256(weights), run=run)
    if Path(name).suffix.lower() in CODE:
        raise ValueError(
            f"{Path(name).name} is not read: a file of its kind can run code, or does not say what network it belongs "
            "to. Export the network to ONNX (torch.onnx.export), or name a function package.module:function that "
            "loads it"
        )
    if FUNCTION.fullmatch(name):
        call, code = _function(name)
        about = "its module was imported, which runs its code"
        return Denoiser(name, FUNCTION_KIND, about, call, made_of=files.sha256(code) if code else "")
    if path and cohort is None:
        raise ValueError(
            f"{path.name} holds images that are denoised already, or is no denoiser: give one of {_names(cohort)}"
        )
    if path:
        images = finished.matched(path, cohort)
        return Denoiser(
            path.stem, "folder of denoised images", f"{len(images)} slices matched", _only(images), None, images
        )
    raise FileNotFoundError(f"no denoiser {name!r}: there is no such file, folder or run. Give one of {_names(cohort)}")


def _names(cohort) -> str:
    """What a denoiser can be; without a cohort there is nothing to match finished images to."""
    filters, hub = ", ".join([*classical.METHODS, *FILTERS]), ", hub:".join(published.names())
    found = f"a file .onnx; a run, e.g. default/03_train/mse-0; hub:{hub}; {filters}; package.module:function"
    return f"{found}; a folder of denoised images" if cohort is not None else found


def _probe_rows(cohort) -> np.ndarray:
    rows = next(rows for split in ("val", "train", "test") if len(rows := cohort.rows(split)))
    return cohort.spread(rows, PROBE)


def _probed(denoiser, ldct, ndct):
    try:
        probing.look(denoiser.call, ldct, ndct)
    except ValueError as error:
        raise ValueError(f"{denoiser.name}: {error}") from error


def _network(name, kind, about, network, batch, precision, device) -> Denoiser:
    network = network.to(device)
    call = partial(prediction.predict, network, batch=batch, precision=precision, device=device)
    return Denoiser(name, kind, about, call, network)


def _filter(word, settings, cohort) -> Denoiser:
    """A filter with the settings behind its name, else with those of the least error on validation slices."""
    given = {}
    for part in filter(None, settings.split(",")):
        key, _, value = part.partition("=")
        try:
            given[key.strip()] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            raise ValueError(f"{word}: settings read name=number, e.g. tv:weight_hu=10, not {part!r}") from None
    if word in FILTERS:
        if not given:
            example = {"gaussian": "gaussian:sigma_px=0.7", "median": "median:size=3"}[word]
            raise ValueError(f"{word} needs its strength, e.g. {example}")
        try:
            call = FILTERS[word](**given)
        except TypeError:
            raise ValueError(f"{word} has one setting: gaussian sigma_px, median size") from None
        return Denoiser(
            f"{word} {settings}", "filter", f"settings {settings}", lambda hu: call(np.asarray(hu, np.float32)),
            made_of=settings,
        )  # fmt: skip
    if not given and cohort is None:
        example = {"tv": "tv:weight_hu=10", "nlm": "nlm:sigma_hu=20", "bm3d": "bm3d:sigma_hu=20"}[word]
        raise ValueError(f"{word} is tuned on pairs, and here are none: give its strength, e.g. {example}")
    if not given:
        rows = _probe_rows(cohort)
        given = classical.tune(word, *(np.asarray(images[rows], np.float32) for images in (cohort.ldct, cohort.ndct)))
    shown = ", ".join(f"{key} {value:g}" for key, value in given.items())
    return Denoiser(
        word if not settings else f"{word} {shown}", "filter", f"settings {shown}", classical.build(word, **given),
        made_of=shown,
    )  # fmt: skip


def _function(name) -> tuple[Callable, str | None]:
    """A user's own function of (N, 1, H, W), as one of (N, H, W), and its module's file. It is looked for from the
    working folder too."""
    module, _, attribute = name.partition(":")
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        owner = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ImportError(
            f"{name}: the module {error.name!r} is neither here nor installed: start in its folder, or install it"
        ) from error
    finally:
        sys.path.remove(here)
    if not callable(call := getattr(owner, attribute, None)):
        there = ", ".join(name for name, one in vars(owner).items() if callable(one) and name[0] != "_")
        raise ImportError(f"{module} has no function {attribute!r}; it has {there or 'none'}")

    def denoise(images):
        made = np.asarray(call(np.ascontiguousarray(images[:, None], np.float32)))
        return made[:, 0] if made.ndim == 4 and made.shape[1] == 1 else made

    return denoise, getattr(owner, "__file__", None)


def _only(images: dict) -> Callable:
    def denoise(hu):
        raise ValueError(
            "images that were denoised elsewhere cannot be made anew for other slices: ask only what their slices tell"
        )

    return denoise
