"""Networks of quality maps where they were not trained: other cohorts, and images that no dose made."""

import numpy as np
import pandas as pd
from scipy import ndimage

from ldct_utils.ct import intensity
from ldct_utils.noise2quality import baselines, comparison, doses, maps, scoring, training

TESTS = {"real": "real pairs", "wheel": "wheel's CT"}  # {name of the stored tables: of the test}
OWN = "test patients"


def rated(kind: str, cohort, trained, runs: dict, assessed: str, most: int, **options) -> list[pd.DataFrame]:
    """Scores and named doses of another cohort's slices by all that the claims compare, as ``scoring.score``.

    Slices are of the trained anatomies; of larger ones the middle is rated, of the size of the training's.

    Args: kind: of ``TESTS``. trained: cohort of the training, on which the baselines are fitted. runs: {(arm, seed):
        run of 08a_train_quality}. assessed: the arm that claims. most: slices a patient. options: of ``maps.assess``.
    Returns: two tables with the columns seed and test. Raises: ValueError: where no slice shows a trained anatomy, and
        as ``doses.check``.
    """
    settings, name = next(iter(runs.values())).params, TESTS[kind]
    about = [settings[one] for one in ("doses", "target", "level", "width")]
    fitted = baselines.fit(trained, trained.rows("train"), *about)
    anatomies = set(trained.slices.anatomy)
    rows = cohort.slices[cohort.slices.anatomy.isin(anatomies)]
    if rows.empty:
        raise ValueError(f"{name}: no slice shows {' or '.join(sorted(anatomies))}, which is all that was trained on")
    rows = scoring.spread(rows, most)
    doses.check(cohort, rows.row.to_numpy())  # else its doses could not be made
    found, raters, side = [], fitted.raters(), min(trained.ldct.shape[1:])
    for (arm, seed), one in runs.items():
        if arm in (assessed, comparison.plain(assessed)):
            raters |= {arm: scoring.rater(maps.load(one.folder), **options)}
            tables = scoring.score(cohort, rows, *about, raters, side)
            found.append([table.assign(seed=seed, test=name) for table in tables])
            raters = {}  # the baselines are fitted once
    return [pd.concat(tables, ignore_index=True) for tables in zip(*found)]


def stored(run, kind: str, compute) -> list[pd.DataFrame]:
    """The two tables of ``rated`` as a run keeps them, ``<kind>_scores`` and ``<kind>_classes``; computed once.

    Args: run: the open run. compute: gives both.
    """
    names = [f"{kind}_{one}" for one in ("scores", "classes")]
    there = all((run.folder / f"{name}.parquet").is_file() for name in names)
    return [
        run.table(name, lambda found=found: found) for name, found in zip(names, [None] * 2 if there else compute())
    ]


def images(cohort, most: int, blurs) -> tuple[pd.DataFrame, dict]:
    """Test slices, at most ``most`` in all and evenly over patients, and what is made of them: (their rows of
    ``slices``, {kind: (N, H, W) HU}). Args: blurs: SDs of Gaussian blurs of the LDCT, pixels."""
    about = cohort.slices[cohort.slices.split == "test"]
    about = about.groupby("patient", sort=True).head(max(1, most // about.patient.nunique())).head(most)
    rows = about.row.to_numpy()
    ndct, ldct = (np.asarray(stack[rows], np.float32) for stack in (cohort.ndct, cohort.ldct))
    found = {"LDCT": ldct, "NDCT": ndct}
    found |= {f"LDCT, blur {blur:g} px": ndimage.gaussian_filter(ldct, (0, blur, blur)) for blur in blurs}
    if cohort.truth is not None:
        found["truth"] = np.asarray(cohort.truth[rows], np.float32)
    return about, found


def by_image(about: pd.DataFrame, stacks: dict, assessor, wanted, level: float, width: float, **options):
    """Mean quality inside the body, true and predicted: a row a slice and kind of image.

    Args: about, stacks: of ``images``; NDCT is what the true map is against. wanted: of ``targets.get``.
    Returns: patient, kind, true, predicted. Raises: ValueError: where no slice shows a body.
    """
    rows, bodies = [], intensity.body_mask(stacks["NDCT"])
    for kind, stack in stacks.items():
        predictions = maps.quality_map(stack, assessor, **options)
        for one, image, full, body, predicted in zip(about.itertuples(), stack, stacks["NDCT"], bodies, predictions):
            if body.any():
                true = training.true_map(image, full, wanted, level, width)[body].mean()
                rows.append({"patient": one.patient, "kind": kind, "true": true, "predicted": predicted[body].mean()})
    if not rows:
        raise ValueError("no test slice shows a body: there is nothing to rate inside it")
    return pd.DataFrame(rows)


def same_cohort(run, cohort, given: str):
    """A run of 03_train, if it was trained on this cohort. Raises: ValueError: if not: it may know these patients."""
    if run.numbers["cohort"] != cohort.id:
        raise ValueError(f"denoiser {given} was trained on another cohort, perhaps on these patients: name one of this")
    return run
