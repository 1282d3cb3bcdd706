"""Tests of a trained network: its scores on test patients, computed once and stored with the training.

A test has an identity of its own: the training, the cohort it is tested on, and the code that predicts and scores.
Another test cohort, or another way of scoring, trains nothing again.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from ldct_utils.cohorts import Cohort, of, tested_on
from ldct_utils.metrics.evaluation import evaluate
from ldct_utils.study import files, identity
from ldct_utils.study.runs import TESTS, Run

CODE = ("metrics.testing", "training.prediction", "models.networks")  # what a test's scores depend on


def place(trained: Run, test: Cohort | None = None) -> Run:
    """Where a test is stored, whether it has been done or not: ``<run>/tests/<cohort>--<id8>``.

    Args: trained: a finished run of 03_train. test: the cohort; None for the training's own.
    """
    cohort = f"{trained.params['source']}-{trained.numbers['cohort']}" if test is None else test.folder.name
    id8 = identity.hash8([trained.id, cohort, identity.code_hash(CODE, [trained.params])])
    return Run(trained.folder / TESTS / f"{cohort}--{id8}", "test", {"run": trained.id, "cohort": cohort})


def stored(trained: Run) -> list[Run]:
    """The tests of a run that have been done, by any code, in the order of their folders."""
    return [Run(path.parent) for path in sorted((trained.folder / TESTS).glob("*/result.json"))]


def check(own: Cohort, source: str | None = None, root: str | None = None):
    """Raises: ValueError: if there will be no patient to test on, said before the training and not after it.

    Args: as of ``cohorts.tested_on``.
    """
    test = tested_on(own, source, root)
    if not len(test.rows("test")):
        raise ValueError(
            f"cohort {test.id} has no test patients: its split is {test.meta['split']}. Give test_source and "
            "test_root, the patients of another cohort, or more patients and a split that keeps some for testing"
        )


def one_of_each_anatomy(cohort: Cohort, rows) -> pd.DataFrame:
    """What is known of the middle slice of each anatomy among ``rows``, a row an anatomy."""
    about = cohort.slices.set_index("row").loc[rows].reset_index()
    middle = about.groupby("anatomy", sort=True).row.apply(lambda rows: rows.iloc[len(rows) // 2])
    return about[about.row.isin(middle)].sort_values("anatomy")


def examples(cohort: Cohort, rows, denoise: Callable) -> np.ndarray:
    """LDCT, NDCT, truth (NaN where there is none) and prediction of slices: (rows, 4, H, W), float32 HU."""
    ldct, ndct = (np.stack([images[row] for row in rows]) for images in (cohort.ldct, cohort.ndct))
    truth = np.full(ldct.shape, np.nan) if cohort.truth is None else np.stack([cohort.truth[row] for row in rows])
    return np.stack([ldct, ndct, truth, denoise(ldct)], axis=1).astype(np.float32)


def scores(trained: Run, predictor: Callable, test: Cohort | None = None, progress: Callable | None = None) -> Run:
    """The test of a network: done if it has not been, else read.

    Args:
        trained: a finished run of 03_train.
        predictor: called without arguments where the test has to be done; gives the denoiser, slices (N, H, W) in HU in
            and out.
        test: the cohort whose test patients are scored; None takes the training's own, which is read only if needed.
        progress: wraps the sequence of batches, e.g. ``tqdm``.
    Returns: the stored test: tables ``scores``, ``ldct_scores`` (see ``evaluation.evaluate``) and ``examples_rows``,
        the array ``examples``, and numbers, which are means over slices in the domain ``hu`` against NDCT.
    Raises: ValueError: if the cohort has no test patients, or is the training's own and gone.
    """
    done = place(trained, test)
    if done.finished:
        return done
    with files.locked(done.folder):
        if done.finished:  # by another process meanwhile
            return done
        done.folder.mkdir(parents=True, exist_ok=True)
        cohort = of(trained) if test is None else test
        check(cohort)
        rows = cohort.rows("test")
        denoise = predictor()
        tables = {
            "scores": done.table("scores", lambda: evaluate(denoise, cohort, rows, progress=progress)),
            "ldct_scores": done.table("ldct_scores", lambda: evaluate(lambda hu: hu, cohort, rows)),
        }
        shown = done.table("examples_rows", lambda: one_of_each_anatomy(cohort, rows))
        done.array("examples", lambda: examples(cohort, shown.row.to_numpy(), denoise))
        means = {}
        for name, table in tables.items():
            part = table[(table.domain == "hu") & (table.reference == "ndct")]
            means[name] = part.groupby("metric")["value"].mean()
        own, ldct = means["scores"], means["ldct_scores"]
        done.finish(
            test_cohort=cohort.id, psnr_gain_db=own["psnr"] - ldct["psnr"], bias_hu=own["bias_hu"],
            rmse_hu=own["rmse_hu"], ldct_rmse_hu=ldct["rmse_hu"], ssim=own["ssim"], ldct_ssim=ldct["ssim"],
        )  # fmt: skip
    return done
