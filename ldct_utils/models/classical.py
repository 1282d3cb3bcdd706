"""Denoisers without training, each through the library that maintains it, tuned on the validation slices.

| name | method | setting, HU |
|---|---|---|
| ``nlm`` | non-local means (Buades et al. 2005; scikit-image's fast form of Darbon et al. 2008) | ``sigma_hu``, noise |
| ``tv`` | total variation (Rudin, Osher & Fatemi 1992; Chambolle 2004, scikit-image) | ``weight_hu`` of the variation |
| ``bm3d`` | block matching and 3-D filtering (Maekinen et al. 2020) | ``sigma_hu``, noise |

BM3D's package is for non-commercial use only. It is no part of this study's environment; whoever may use it installs it
(``.venv/bin/uv pip install bm3d``).
"""

import importlib.util
import inspect
import itertools

import numpy as np
import pandas as pd
from skimage import restoration

from ldct_utils.ct import intensity

GRIDS = {  # what ``tune`` tries unless told otherwise
    "nlm": {"sigma_hu": (5.0, 10.0, 20.0, 40.0, 80.0), "strength": (0.6, 0.8, 1.0)},
    "tv": {"weight_hu": (2.5, 5.0, 10.0, 20.0, 40.0, 80.0)},
    "bm3d": {"sigma_hu": (5.0, 10.0, 20.0, 40.0, 80.0)},
}


def _nlm(image, sigma_hu, strength=0.8, patch_size=5, patch_distance=6):
    """``strength``: decay of the weights over the noise; patches of 5x5 within 6 pixels each way."""
    given = {"patch_size": patch_size, "patch_distance": patch_distance, "h": strength * sigma_hu, "sigma": sigma_hu}
    return restoration.denoise_nl_means(image, fast_mode=True, preserve_range=True, **given)


def _tv(image, weight_hu, iterations=200, eps=2e-4):
    """At most ``iterations`` of Chambolle's, fewer where the cost changes by less than ``eps`` of its first value.

    With the usual ``eps`` large weights stop long before they have done their work, and do less than smaller ones.
    """
    single = image.astype(np.float32)  # halves the time
    return restoration.denoise_tv_chambolle(single, weight=weight_hu, max_num_iter=iterations, eps=eps)


def _bm3d(image, sigma_hu):
    """In the network range, since the package expects images of about 0 to 1."""
    import bm3d

    return intensity.from_net(bm3d.bm3d(intensity.to_net(image), sigma_psd=sigma_hu / intensity.HU_SPAN))


SETTINGS = {"weight_hu": "a weight of {:g} HU", "sigma_hu": "a noise of {:g} HU", "strength": "a strength of {:g}"}


def in_words(settings: dict) -> str:
    """Settings that ``tune`` gives, e.g. ``a noise of 20 HU and a strength of 0.8``."""
    return " and ".join(SETTINGS[name].format(value) for name, value in settings.items())


METHODS = {"bm3d": _bm3d, "nlm": _nlm, "tv": _tv}


def names() -> list[str]:
    """Methods that can be used here; BM3D only where its package is installed."""
    return [name for name in METHODS if name != "bm3d" or importlib.util.find_spec("bm3d")]


def build(name, **settings):
    """A denoiser: LDCT slices (N, H, W) or (H, W) in HU to a prediction of NDCT, float32 HU, same shape.

    Args: name: one of ``names()``; settings: its own, see the table above; widths and weights in HU, above 0.
    Raises: ValueError: for an unknown method or setting, or one that is missing or not positive;
        ModuleNotFoundError: for ``bm3d`` without its package.
    """
    _check(name, settings)
    method = METHODS[name]

    def denoise(hu):
        hu = np.asarray(hu)
        if hu.ndim not in (2, 3):
            raise ValueError(f"{name} takes slices (N, H, W) or (H, W) in HU, not {hu.shape}")
        images = hu.reshape(-1, *hu.shape[-2:]).astype(np.float64)
        return np.stack([method(image, **settings) for image in images]).reshape(hu.shape).astype(np.float32)

    return denoise


def _check(name, settings):
    if name not in METHODS:
        raise ValueError(f"no classical method {name!r}; there are {', '.join(METHODS)}")
    if name not in names():
        raise ModuleNotFoundError(
            "bm3d is not installed. Its licence allows non-commercial use only, so it is no part of the environment: "
            "if you may use it, install the package bm3d, else leave the method out"
        )
    declared = dict(list(inspect.signature(METHODS[name]).parameters.items())[1:])
    for setting, value in settings.items():
        if setting not in declared:
            raise ValueError(f"{name} has no setting {setting!r}; it has {', '.join(declared)}")
        if not value > 0:
            raise ValueError(f"{name}: {setting} must be above 0, not {value!r}")
    for setting, parameter in declared.items():
        if setting not in settings and parameter.default is parameter.empty:
            raise ValueError(f"{name} needs {setting}; tune() finds it on validation slices")


def scores(name, ldct, ndct, grid=None) -> pd.DataFrame:
    """RMSE of every combination of settings: a row each, settings and ``rmse_hu``, best first.

    Args: ldct, ndct: validation slices (N, H, W), HU; grid: {setting: values}, by default ``GRIDS[name]``.
    Raises: ValueError: for arrays of different shapes or without a slice, and as ``build``.
    """
    if np.shape(ldct) != np.shape(ndct):
        raise ValueError(f"LDCT {np.shape(ldct)} and NDCT {np.shape(ndct)} must have the same shape")
    if not len(ldct):
        raise ValueError(f"there are no validation slices to tune {name} on: leave it out, or take another split")
    _check(name, {setting: values[0] for setting, values in (grid or GRIDS.get(name, {})).items()})
    grid, rows = grid or GRIDS[name], []
    for values in itertools.product(*grid.values()):
        settings = dict(zip(grid, values))
        error = build(name, **settings)(ldct) - np.asarray(ndct, np.float32)
        rows.append(settings | {"rmse_hu": float(np.sqrt(np.mean(error.astype(np.float64) ** 2)))})
    return pd.DataFrame(rows).sort_values("rmse_hu", ignore_index=True)


def tune(name, ldct, ndct, grid=None) -> dict:
    """Settings of the smallest RMSE on validation slices, for ``build``. Args, Raises: as ``scores``."""
    best = scores(name, ldct, ndct, grid).drop(columns="rmse_hu").iloc[0]
    return {setting: best[setting].item() for setting in best.index}
