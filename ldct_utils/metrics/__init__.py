"""Metrics: one family a file, a register of all of them, and scoring slices and denoisers.

A score means something only beside its domain, its reference and its direction, so tables carry the first two in every
row and the register answers for the third: ``metrics.info("ssim").direction``.

May import: study, ct, stats, cohorts, models, segments. Start reading in ``registry`` (what is known of a metric), then
``scores`` (metrics of given images), ``evaluation`` (a denoiser scored on a cohort) and ``testing`` (a finished
training scored once and for all).
"""

from ldct_utils.metrics.evaluation import evaluate
from ldct_utils.metrics.registry import Metric
from ldct_utils.metrics.scores import available, compute, info, names

__all__ = ["Metric", "available", "compute", "evaluate", "info", "names"]
