"""Filters without training, each at several strengths: what they gain and what of a lesion they keep.

A network that lies below their curves, error against contrast kept, is no better than a textbook's filter.
"""

from functools import partial

import numpy as np
import pandas as pd
from scipy import ndimage

from ldct_utils import cohorts, metrics
from ldct_utils.ct.intensity import FAINT_HU
from ldct_utils.metrics import comparison
from ldct_utils.metrics.evaluation import ONCE
from ldct_utils.models import classical, textbook
from ldct_utils.stats import blending, mixes, paired
from ldct_utils.training import designs, testing

COLUMNS = ["name", "strength", "gain", "kept", "faint"]
MOST_SLICES = 200  # on which filters are scored beside networks
GAUSSIAN_PX, MEDIAN_PX, TV_HU = (0.3, 0.4, 0.5, 0.6, 0.7), (3,), (2.5, 5.0, 10.0, 20.0)


def by_strength(gaussian_px=GAUSSIAN_PX, median_px=MEDIAN_PX, tv_hu=TV_HU) -> dict:
    """{(name, strength): a function of slices (N, H, W) in HU}, a filter's strengths in the order given.

    Args: gaussian_px: SDs, pixels. median_px: sides, pixels, odd. tv_hu: weights of total variation, HU.
    """
    return {
        **{("Gaussian", s): partial(ndimage.gaussian_filter, sigma=(0, s, s)) for s in gaussian_px},
        **{("median", n): partial(ndimage.median_filter, size=(1, n, n)) for n in median_px},
        **{("total variation", w): classical.build("tv", weight_hu=w, iterations=100, eps=1e-5) for w in tv_hu},
    }


def points(cohort, target: str) -> pd.DataFrame:
    """Where the filters lie for the test patients of a cohort: name, strength, gain (dB, PSNR over the LDCT in the
    slices with lesions), kept (share of the contrast, mean over patients, whose lesions weigh alike) and faint (of
    lesions under ``intensity.FAINT_HU``; NaN without any).

    Args: cohort: whose slices are known without their lesions too. target: of the error, ``truth`` or ``ndct``.
    Returns: without rows where no lesions are known.
    """
    found = []
    for (name, strength), denoise in by_strength().items():
        kept, squares = testing.lesions_kept(cohort, cohort.rows("test"), denoise)
        if len(kept):
            one = blending.measured(squares[squares["target"] == target].assign(seed=0), kept.assign(seed=0))
            weak = kept[kept["contrast_hu"] < FAINT_HU].groupby("patient")["kept"].mean()
            found.append((name, strength, one.gain().mean(), one.kept.mean(), weak.mean()))
    return pd.DataFrame(found, columns=COLUMNS)


def of_runs(trained, test, target: str) -> pd.DataFrame:
    """``points`` of the patients that runs were tested on; without rows where their cohort is gone.

    Args: trained: finished runs of 03_train. test: another cohort that they were tested on, or None.
    """
    cohort = _tested_on(trained, test)
    return pd.DataFrame(columns=COLUMNS) if cohort is None else points(cohort, target)


def with_truth(known: dict, cohort, rows) -> dict:
    """Filters and, where it is known, the noise-free truth, as functions of slices (N, H, W) in HU that are given in
    the order of ``rows``. Against the NDCT the truth has the error of the NDCT's own noise.

    Args: known: {name: a function of slices}.
    """
    if cohort.truth is None:
        return known
    stored = iter(rows)
    return known | {textbook.TRUTH: lambda hu: np.stack([np.float32(cohort.truth[next(stored)]) for _ in hu])}


def scored(known: dict, trained, test, names, domain: str, most: int = MOST_SLICES) -> pd.DataFrame:
    """What filters and the truth score on the slices that runs were tested on: ``metrics.evaluate`` in one domain, with
    the name as method; the truth against the NDCT alone. Without rows where the runs' cohort is gone.

    Args: known: {name: a function of slices (N, H, W) in HU}. trained, test: as of ``of_runs``. names: of metrics.
        most: slices at the most, spread over the patients: total variation takes a second for one of 512 x 512 pixels.
    """
    if (cohort := _tested_on(trained, test)) is None:
        return pd.DataFrame(columns=[*comparison.SLICE, "value", "method", "seed"])
    level, width = metrics.window_of(domain)
    domains = dict.fromkeys([domain if level is None else "window", *ONCE.values()])
    rows = cohort.rows("test")
    given = cohort, rows if len(rows) <= most else cohort.spread(rows, most), list(domains), names
    found = pd.concat([
        metrics.evaluate(denoise, *given, level=level, width=width).assign(method=name, seed=paired.UNTRAINED)
        for name, denoise in with_truth(known, *given[:2]).items()
    ], ignore_index=True)  # fmt: skip
    found = found[(found["method"] != textbook.TRUTH) | (found["reference"] == "ndct")]
    return found.assign(domain=found["domain"].where(~found["metric"].isin(ONCE), domain)).query("domain == @domain")


def _tested_on(trained, test):
    """The cohort that runs were tested on; None, and said so, where it is gone and cannot be built again, since stored
    tests need it no more."""
    try:
        return test or cohorts.of(*trained)
    except (ValueError, KeyError) as error:  # a KeyError: runs that do not say which cohort they had
        print(f"No filters stand beside the networks: {error}")
        return None


def one_network(trained, tested, cohort) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """A network on the plane: what it keeps of lesions, its mixes with the LDCT, and the filters.

    Args: trained: a finished run of 03_train. tested: its test on ``cohort``, where lesions are known.
    Returns: of ``testing.kept_of_methods``, shares in %; of ``mixes.of_base``; of ``points``.
    """
    listed = designs.listed([trained])[1]
    lesions = testing.kept_of_methods([tested], listed)
    band = mixes.of_base([tested], listed, lesions)
    return testing.in_percent(lesions), band, points(cohort, lesions["target"].iloc[0])


def tuned(methods, cohort) -> pd.DataFrame:
    """Each method with the smallest RMSE against the NDCT on the middle slice of every validation patient.

    Args: methods: names. cohort: has ``slices``, ``ldct`` and ``ndct``.
    Returns: method, settings (a dict as text).
    """
    val = (
        cohort.slices[cohort.slices.split == "val"].groupby("patient").row.apply(lambda rows: rows.iloc[len(rows) // 2])
    )
    pairs = [np.asarray(images[val.to_numpy(np.int64)], np.float32) for images in (cohort.ldct, cohort.ndct)]
    found = [(name, str(classical.tune(name, *pairs))) for name in methods]
    return pd.DataFrame(found, columns=["method", "settings"])
