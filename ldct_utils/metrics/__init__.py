"""Metrics: one family a file, a register of all of them, and scoring slices and denoisers.

A score needs three things beside it: its domain (the grey range it was computed in), its reference (NDCT or noise-free
truth) and its direction (is higher better?). Tables carry the first two in every row;
``metrics.info("ssim").direction`` is the third.

May import: study, ct, stats, models, segments. Start reading in ``registry`` (what is known of a metric), then
``scores`` (metrics of given images), ``evaluation`` (a denoiser scored on a cohort) and ``denoised`` (as the benchmark
scores it).
"""

from ldct_utils.metrics.evaluation import evaluate, own_window, window_of
from ldct_utils.metrics.registry import Metric
from ldct_utils.metrics.scores import available, compute, info, names

__all__ = ["Metric", "available", "compute", "evaluate", "info", "names", "own_window", "window_of"]
