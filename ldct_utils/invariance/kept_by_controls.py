"""Controls beside the networks of 05b: what the LDCT itself, filters and an eraser keep of the same lesions.

They are asked on the scans of a finished run of 05_invariances, drawn again, by the code that asked the network. The
noise-free truth is not among them: it keeps all contrast by definition, and without noise no d' is finite.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial

import numpy as np
import pandas as pd
from scipy import ndimage

from ldct_utils import cohorts
from ldct_utils.invariance import cases, comparison, controls, examine, images
from ldct_utils.models import textbook
from ldct_utils.report.sentences import capital, listed
from ldct_utils.task_based import tasks

ERASER, FILTERS = "eraser", textbook.FILTERS
SAYS = {
    tasks.PLAIN: "LDCT itself", textbook.BLUR: "blur of 3 pixels", textbook.MEDIAN: "median of 3 × 3 pixels",
    textbook.TV: "total variation", textbook.UNSHARP: "unsharp masking", ERASER: "eraser of the lesions",
}  # fmt: skip
LABELS = {name: f"control: {words}" for name, words in SAYS.items()}  # where they stand below networks
EXAMINED = ("realisations", "level", "segmentation", "region", "faint")  # parameters of ``examine.Examination``
CLOSE = 0.01  # share by which d' in x may differ between a run and its scans drawn again


def denoisers(case: cases.Case) -> dict[str, Callable]:
    """The controls for a crop with known lesions: {name: function of images (..., H, W), HU, to the same}.

    The eraser puts one value in the place of the lesions and of all that lies nearer to them than their surroundings.
    """
    filters = {tasks.PLAIN: lambda hu: hu} | textbook.filters(case.pixel_mm)
    erased = ndimage.binary_dilation(case.inside.any(0), iterations=cases.RING[0])
    return {name: partial(_by_slice, f) for name, f in filters.items()} | {
        ERASER: images.denoiser(controls.Erase(erased))
    }


def _by_slice(f, hu):
    return f(np.reshape(hu, (-1, *np.shape(hu)[-2:]))).reshape(np.shape(hu))


def measured(run, trained, progress=iter) -> pd.DataFrame:
    """What every control keeps: ``kept``, a row a ``denoiser``, ``quantity`` of ``comparison.kept`` and ``patient``.

    Args: run: a finished run of 05_invariances with known lesions. trained: the run that trained its network. progress:
        function of the crops that gives them back, e.g. ``tqdm``.
    Raises: ValueError: where the scans of the run cannot be drawn again.
    """
    asked = run.params
    test = cohorts.tested_on(cohorts.of(trained), asked["test_source"], asked["test_root"])
    how = (asked[name] for name in ("crop", "realisations", "seed", "crops", "most_patients"))
    found = cases.chosen(test, test.rows("test"), *how)
    seen = examined(found, examine.Examination(*(asked[name] for name in EXAMINED)), progress)
    own, again = (_in_input(table) for table in (run.table("detection"), seen[tasks.PLAIN]["detection"]))
    if not own.index.equals(again.index) or not np.allclose(own, again, rtol=CLOSE):
        raise ValueError(
            f"the scans of {run.name} cannot be drawn again by the code of today: run 05_invariances again"
        )
    parts = {
        (name, quantity): values
        for name, tables in seen.items()
        for quantity, values in comparison.kept_in(**tables).items()
    }
    return pd.concat(parts, names=["denoiser", "quantity"]).rename("kept").reset_index()


def examined(found, examination: examine.Examination, progress=iter) -> dict[str, dict]:
    """The tables ``contrasts`` and ``detection`` of ``examine``, by control. Args: found: crops with known lesions."""
    tables = {}
    for case in progress(found):
        once = replace(case, draw=cache(case.draw))  # all controls see the same scans
        for name, f in denoisers(case).items():
            made = examination.crop(f, once, {"LDCT": case.ldct[None]})
            for what in ("contrasts", "detection"):
                tables.setdefault(name, {}).setdefault(what, []).append(made[what])
    return {name: {what: pd.concat(parts) for what, parts in of.items()} for name, of in tables.items()}


def _in_input(detection) -> pd.Series:
    """d' in x, by patient and lesion."""
    return detection[detection["image"] == "x"].set_index(["patient", "lesion"])["d_prime"].sort_index()


def beside(table, network: str, kept_by_it: dict, draws: int = 10_000, seed: int = 0) -> pd.DataFrame:
    """Rows of ``comparison.compared`` of the controls, against one network.

    Args: table: of ``measured``. network, kept_by_it: its name, and of ``comparison.kept``. draws, seed: as there.
    """
    by_control = {
        name: {quantity: one.set_index("patient")["kept"] for quantity, one in part.groupby("quantity", sort=False)}
        for name, part in table.groupby("denoiser", sort=False)
    }
    found = comparison.compared({network: kept_by_it} | by_control, draws, seed)
    return found[found["denoiser"] != network].reset_index(drop=True)


def contrast(table) -> dict[str, float]:
    """{control: share of the lesions' contrast that it keeps}, mean over patients. Args: table: of ``beside``."""
    rows = table[table["quantity"] == "contrast kept"]
    return dict(zip(rows["denoiser"], rows["mean"].astype(float)))


def said(table, network: str, networks: int) -> str:
    """Which filters keep less contrast than the network that keeps least, and which raise it, in a sentence.

    Args: table: of ``beside`` that network. network: it, in words. networks: how many there are.
    """
    rows = table[(table["quantity"] == "contrast kept") & table["denoiser"].isin(FILTERS)].dropna(subset="its low")
    if rows.empty:
        return "Too few patients for an interval: no filter is compared with a network."
    less, above = (rows["denoiser"][which] for which in (rows["its high"] < 0, rows["low"] > 1))
    who = {0: "no filter is shown to", len(rows): f"all {len(rows)} filters"}.get(len(less), listed(less.map(SAYS)))
    keep, least = "keeps" if len(less) == 1 else "keep", ", the network that keeps least" * (networks > 1)
    raised = f"; {listed(above.map(SAYS))} {'raises' if len(above) == 1 else 'raise'} the contrast" * (len(above) > 0)
    return f"{capital(who)} {keep} less of the lesions' contrast than {network}{least}{raised}."


def check(table):
    """What controls must have kept, of ``measured``. Raises: AssertionError: naming what came out wrong."""
    shares = table.set_index(["denoiser", "quantity"])["kept"]
    assert np.allclose(shares[tasks.PLAIN], 1, rtol=0, atol=1e-4), "the LDCT does not keep all that is in the LDCT"
    assert np.allclose(shares[ERASER, "contrast kept"], 0, atol=1e-4), "contrast of erased lesions is left"
