"""Which changed segments are suspicious: p-values from the null of a whole pipeline, and the list they rank.

A segment's z (``hallucinations.score``) is no p-value: segments follow the noise of the image that they were found in,
and a network takes a little from every edge. What z comes to where nothing was lost is therefore counted, on slices
without lesions of *other* patients: anatomy differs, and a patient's own slices would answer for themselves.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from statsmodels.stats.multitest import multipletests


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
