"""Denoised slices scored: organs of RFS, and what cannot be asked of a cohort."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from ldct_utils.metrics import denoised


@pytest.fixture
def cohort():
    """Six slices of a soft-tissue disc with noise, two of them for testing."""
    rng, size = np.random.default_rng(0), 64
    y, x = np.mgrid[:size, :size] - size / 2
    ndct = np.where(np.hypot(x, y) < 28, 40.0, -1000.0) + rng.normal(0, 10, (6, size, size))
    about = pd.DataFrame({"row": range(6), "patient": list("abcdef"), "anatomy": "abdomen"})
    return SimpleNamespace(id="made", slices=about, ndct=ndct, ldct=ndct + rng.normal(0, 20, ndct.shape), truth=ndct,
                           organ_masks=None, organs={}, meta={})  # fmt: skip


def test_organs_by_thresholds_are_taken_where_no_labels_are_and_others_are_refused(cohort, monkeypatch):
    monkeypatch.setattr(denoised.total, "labelled", lambda _: False)
    by, organs, why = denoised.organs_by(cohort)
    assert (by, organs, why) == ("thresholds", ["lungs", "bone", "soft tissue"], "the patients are simulated")
    assert denoised.organs_by(cohort, "thresholds", ["bone"]) == ("thresholds", ["bone"], "")
    with pytest.raises(ValueError, match="rfs_by is auto, thresholds or totalsegmentator, not 'otsu'"):
        denoised.organs_by(cohort, "otsu")
    with pytest.raises(ValueError, match=r"rfs_organs by thresholds are .*; got liver"):
        denoised.organs_by(cohort, "thresholds", ["liver"])


def test_rfs_is_fitted_once_and_a_perfect_denoiser_has_1_and_noise_less(cohort, tmp_path):
    rfs = denoised.rfs_of(cohort, range(4), ["soft tissue"], None, "thresholds", tmp_path / "rfs.json")
    assert denoised.rfs_said(rfs) == "RFS is taken in soft tissue (4 training segments)."
    masks = denoised.masks_of(cohort, [4, 5], ["soft tissue"])
    perfect = {float(value): row for row, value in zip(cohort.slices.row, cohort.ldct[:, 0, 0].astype(np.float32))}
    clean = denoised.scored(
        lambda hu: np.stack([cohort.ndct[perfect[float(one[0, 0])]] for one in hu]), cohort, np.array([4, 5]), "ndct",
        rfs, masks,
    )  # fmt: skip
    noisy = denoised.scored(lambda hu: hu, cohort, np.array([4, 5]), "ndct", rfs, masks)
    means = [table.groupby("metric")["value"].mean() for table in (clean, noisy)]
    assert means[0]["rfs"] == pytest.approx(1) and means[1]["rfs"] < 0.99 and means[0]["rmse_hu"] < means[1]["rmse_hu"]
    with pytest.raises(ValueError, match="this run began with organs by thresholds"):
        denoised.rfs_of(cohort, range(4), ["liver"], None, "totalsegmentator", tmp_path / "rfs.json")


def test_too_few_segments_give_no_rfs(cohort, tmp_path):
    assert denoised.rfs_of(cohort, range(2), ["soft tissue"], None, "thresholds", tmp_path / "rfs.json") is None
    assert denoised.rfs_said(None).startswith("There is **no RFS**: no organ is in")


def test_ssim_and_psnr_are_taken_in_the_window_that_is_given(cohort):
    found = denoised.scored(lambda hu: hu, cohort, np.array([4]), "ndct", None, {}, window=(40.0, 100.0))
    psnr = found[found.metric == "psnr"].iloc[0]
    ldct, ndct = (images[4].astype(np.float32).astype(float).clip(-10, 90) for images in (cohort.ldct, cohort.ndct))
    assert psnr["domain"] == "window C 40 W 100"
    assert psnr["value"] == pytest.approx(10 * np.log10(100**2 / np.mean((ldct - ndct) ** 2)))
    usual = denoised.scored(lambda hu: hu, cohort, np.array([4]), "ndct", None, {})
    assert set(usual["domain"]) == {"eulig2024", "hu"}
