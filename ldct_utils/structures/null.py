"""Which changed segments are suspicious: p-values from the null of a whole pipeline, and the list they rank.

A segment's z (``hallucinations.score``) is no p-value: segments follow the noise of the image that they were found in,
and a network takes a little from every edge. What z comes to where nothing was lost is therefore counted, on slices
without lesions of *other* patients: anatomy differs, and a patient's own slices would answer for themselves.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import kstest, norm
from statsmodels.stats.multitest import multipletests

from ldct_utils.stats import intervals

LEVELS = {"p < .05": 0.05, "p < .005": 0.005}  # the second is where a list of segments is decided
TESTS = {  # {name: p of a segment}; the first two are controls of what a check of p can see
    "naive": lambda table: 2 * norm.sf(table["naive_z"].abs()),
    "spectrum": lambda table: 2 * norm.sf(table["z"].abs()),
    "null": lambda table: table["p"],
}
FIELDS = ("patient", "row", "source", "segment", "area", "before_hu", "change_hu", "z", "p", "p_adjusted", "suspicious",
          "structure")  # fmt: skip
RATES = ("suspicious a slice", "lesion-free scans")  # columns of ``rates``
WITHIN = ("run", "kind", "patient", "row", "realisation", "source")  # a list is corrected in each by itself


@dataclass(frozen=True)
class Null:
    """What noise alone does: |z| of lesion-free segments, sorted, by class of area (upper ``edges``, pixels)."""

    edges: np.ndarray
    sizes: tuple[np.ndarray, ...]

    def p(self, table: pd.DataFrame) -> np.ndarray:
        """Two-sided p-values of the segments of a table from ``score``: (1 + those as extreme) / (1 + all)."""
        of = np.searchsorted(self.edges, table["area"].to_numpy())
        found = np.empty(len(table))
        for number, known in enumerate(self.sizes):
            z = np.abs(table["z"].to_numpy()[of == number])
            found[of == number] = (1 + len(known) - np.searchsorted(known, z, side="left")) / (1 + len(known))
        return found


def null(tables, classes: int = 3) -> Null:
    """The null of a pipeline.

    Args:
        tables: from ``score``, of lesion-free slices that went through dose, network, segmentation and scoring as the
            slices under test do.
        classes: of area, with equally many segments each: small segments follow noise most.
    Raises: ValueError: with fewer than 20 segments a class.
    """
    table = pd.concat(list(tables), ignore_index=True)
    if len(table) < 20 * classes:
        raise ValueError(f"lesion-free segments: {len(table)}, too few for {classes} classes of area: draw more slices")
    edges = np.quantile(table["area"], np.arange(1, classes) / classes)
    of = np.searchsorted(edges, table["area"])
    sizes = tuple(np.sort(table["z"].abs().to_numpy()[of == number]) for number in range(classes))
    if min(map(len, sizes)) < 20:
        raise ValueError(f"areas are too alike for {classes} classes: take fewer")
    return Null(edges, sizes)


def against_others(table: pd.DataFrame, known: pd.DataFrame, classes: int = 3, score: str = "z") -> pd.Series:
    """p of every segment, the null being the known rows of all *other* patients.

    Args: table, known: rows of ``hallucinations.examine`` with patient; known may be among the table's. score: the
        column that is taken for z. classes: of area, as in ``null``.
    Raises: ValueError: for a single patient, which has no others, and as ``null``.
    """
    if known["patient"].nunique() < 2:
        raise ValueError("a null of other patients needs two or more; with one no p-value can be given")
    found = pd.Series(np.nan, table.index)
    for patient, part in table.groupby("patient"):
        others = known[known["patient"] != patient].assign(z=lambda t: t[score])
        found[part.index] = null([others], classes).p(part.assign(z=part[score]))
    return found


def ranked(table: pd.DataFrame, alpha: float = 0.05, method: str = "fdr_bh", within=()) -> pd.DataFrame:
    """Segments by suspicion: with p_adjusted and suspicious, the worst first; of equal p the larger z leads.

    Args:
        table: with p and z. within: columns whose groups are corrected one by one (a slice, a source); else all rows.
        method: of statsmodels' ``multipletests``; ``fdr_bh`` is Benjamini and Hochberg's procedure.
    The least p is 1 / (1 + lesion-free segments of a class): with too few of them nothing survives a correction. And
    the procedure keeps its rate only if p-values are right in the far tail, slice by slice: count what it calls
    suspicious on slices without lesions.
    """
    adjusted, suspicious = pd.Series(1.0, table.index), pd.Series(False, table.index)
    for _, part in table.groupby(list(within)) if within else [((), table)]:
        if len(part):
            suspicious[part.index], adjusted[part.index] = multipletests(part["p"], alpha=alpha, method=method)[:2]
    found = table.assign(p_adjusted=adjusted, suspicious=suspicious, size=table["z"].abs())
    return found.sort_values(["p", "size"], ascending=[True, False]).drop(columns="size").reset_index(drop=True)


def judged(table: pd.DataFrame, alpha: float, nulled: bool = True) -> pd.DataFrame:
    """``ranked`` within ``WITHIN``; without a null by |z|, where nothing is suspicious and p_adjusted is NaN."""
    if nulled:
        return ranked(table, alpha, within=WITHIN)
    found = table.assign(p_adjusted=np.nan, suspicious=False, size=table["z"].abs())
    return found.sort_values("size", ascending=False)


def listed(table: pd.DataFrame, least: int = 10) -> pd.DataFrame:
    """The suspicious segments of a table of ``judged``, or its first ``least`` where that is more: ``FIELDS``."""
    top = table[list(FIELDS)].reset_index(drop=True)
    return top[top["suspicious"] | (top.index < least)]


def calibration(table: pd.DataFrame, p, whose: str, draws: int, seed: int, samples: int = 200) -> dict:
    """How the p-values of lesion-free segments are spread, which must be evenly.

    Args: table: rows with patient. p: of each. whose: patient or row, of which the Kolmogorov-Smirnov test takes one
        segment each, ``samples`` times, since segments of one slice share anatomy and noise.
    Returns: segments (their number); for each of ``LEVELS`` the share below it with its interval over patients (low and
        high with the level's digits; NaN where all patients agree); KS rejects (share of the samples, at 5 %).
    """
    table, found = table.assign(p=p), {"segments": len(table)}
    for name, level in LEVELS.items():
        found |= _rate(name, (table["p"] < level).groupby(table["patient"]).mean(), draws, seed)
    ks = [kstest(table.groupby(whose).sample(1, random_state=seed + k)["p"], "uniform").pvalue for k in range(samples)]
    return found | {"KS rejects": float(np.mean(np.array(ks) < 0.05))}


def calibrations(table: pd.DataFrame, main: str, called: dict, whose: str, draws: int, seed: int) -> pd.DataFrame:
    """``calibration`` of every test of lesion-free segments: a row a denoiser, source and test.

    The controls, which do not know the null, are of the perfect denoiser (``main``'s own where there is none).

    Args: table: lesion-free rows of ``pipeline.with_p``. main: the run beside the perfect one. called: {run: name}.
    """
    control = "perfect" if (table["run"] == "perfect").any() else main
    rows = []
    for (key, source), part in table[table["run"].isin(["perfect", main])].groupby(["run", "source"]):
        for name, made in TESTS.items():
            if key == control or name == "null":
                head = {"denoiser": called.get(key, key), "segments of": source, "test": name}
                rows.append(head | calibration(part, made(part), whose, draws, seed))
    return pd.DataFrame(rows)


def calibration_numbers(table: pd.DataFrame, main: str) -> dict:
    """What a run records of ``calibrations``: p_under_05, p_under_005 (of the null, mean over sources; about .05 and
    .005 where the test is right), naive_false_alarms, spectrum_false_alarms and null_false_alarms (of the control, in
    the source where the naive test has most). Args: main: what the run is called."""
    own = table[(table["denoiser"] == main) & (table["test"] == "null")]
    control = table[table["denoiser"].isin(table.loc[table["test"] == "naive", "denoiser"])]
    at = control.set_index(["segments of", "test"])["p < .05"]
    top = at.xs("naive", level="test").idxmax()
    return {"p_under_05": float(own["p < .05"].mean()), "p_under_005": float(own["p < .005"].mean())} | {
        f"{name}_false_alarms": float(at[top, name]) for name in TESTS
    }


def numbers(rates: pd.DataFrame, run: str) -> dict:
    """What a run records of ``rates``: suspicious_a_slice and, of lesion-free scans, suspicious_a_lesion_free_slice.

    Args: run: the one that is listed.
    """
    own = rates[rates["run"] == run].iloc[0]
    names = dict(zip(RATES, ("suspicious_a_slice", "suspicious_a_lesion_free_slice")))
    return {name: float(own[column]) for column, name in names.items() if column in rates}


def rates(judged: pd.DataFrame, called: dict, free: bool, draws: int, seed: int) -> pd.DataFrame:
    """``rate`` of every run, and of its lesion-free scans where there are (``free``): a row a run, with its method.

    Args: called: {run: method}.
    """
    rows = []
    for key, method in called.items():
        row = {"method": method, "run": key} | rate(judged, key, "as it is", RATES[0], draws, seed)
        rows.append(row | (rate(judged, key, "null", RATES[1], draws, seed) if free else {}))
    return pd.DataFrame(rows)


def rate(judged: pd.DataFrame, run: str, kind: str, name: str, draws: int, seed: int) -> dict:
    """Suspicious segments a scan of one run and kind: mean over patients (``name``), its low and high, and in how many
    patients there is one.

    Args: judged: of ``ranked``, with the columns ``WITHIN``.
    """
    part = judged[(judged["run"] == run) & (judged["kind"] == kind)]
    scans = part.drop_duplicates(["patient", "row", "realisation"]).groupby("patient").size()
    each = part.groupby("patient")["suspicious"].sum() / scans
    found = _rate(name, each, draws, seed)
    return found | {f"{name}: patients": f"{int((each > 0).sum())} of {len(each)}"}


def _rate(name, each, draws, seed):
    span = intervals.patient_bootstrap(each.to_numpy(float), draws=draws, seed=seed)
    low, high = (span.low, span.high) if np.ptp(each) else (np.nan, np.nan)
    return {name: span.mean, f"{name}: low": low, f"{name}: high": high}
