"""Controls on CT for models that draw, an eraser and the identity: draws that are right, wrong, of trained models."""

import numpy as np
import pandas as pd
import pytest
import torch

from ldct_utils import cohorts
from ldct_utils.cohorts import patches
from ldct_utils.ct import intensity
from ldct_utils.invariance import images, known_ct
from ldct_utils.report.drawings import invariances
from ldct_utils.report.drawings import known_ct as shown

SIDE, SAMPLES = 32, 8


@pytest.fixture
def scene():
    """Patches of water with noise and a disc each, (60, 1, 32, 32), their contrasts, and whose they are."""
    noise = np.random.default_rng(0).normal(40, 15, (60, 1, SIDE, SIDE)).astype(np.float32)
    x, hu = known_ct.with_disc(intensity.to_net(torch.from_numpy(noise)), 1)
    return x, hu, np.repeat(list("abcdef"), 10)


def in_hu(x):
    return intensity.from_net(x.numpy())[:, 0]


def test_the_contrast_of_a_disc_is_what_was_added_and_the_eraser_shows_none_of_it(scene):
    x, hu, _ = scene
    quiet, _ = known_ct.with_disc(torch.full_like(x, intensity.to_net(40.0)), 1)
    assert np.allclose(known_ct.contrast(in_hu(quiet)), hu, atol=1e-3) and np.abs(hu).max() > 50
    erased = in_hu(known_ct.Eraser(SIDE)(x))
    assert np.abs(known_ct.contrast(erased)).max() < 1e-3, "the output still says what the disc is"
    away = np.hypot(*(np.mgrid[:SIDE, :SIDE] - 15.5)) > known_ct.ERASED_PX
    assert np.array_equal(erased[:, away], in_hu(x)[:, away])


def test_draws_that_are_right_are_told_from_those_that_are_not(scene):
    """Right draws put another disc where the eraser hides it; draws that keep x, or that f shows, hide nothing."""
    x, _, whose = scene
    eraser, identity = known_ct.denoisers(SIDE).values()
    noise_hu = 15 * np.sqrt(1 / 32 + 1 / 230)  # about: pixels of the disc and of the ring
    other = np.stack([in_hu(known_ct.with_disc(x - (known_ct.with_disc(x, 1)[0] - x), seed)[0])
                      for seed in range(2, 2 + SAMPLES)], 1)  # fmt: skip
    right = known_ct.judged(eraser, in_hu(x), other, noise_hu, whose)
    assert right["slope"] == pytest.approx(0, abs=0.2)
    assert right["sd_hu"] == pytest.approx(right["open_hu"], rel=0.2)
    assert right["hidden"] > 0.7 and right["hidden_low"] > 0.5
    for f, draws in ((identity, other), (eraser, np.repeat(in_hu(x)[:, None], SAMPLES, 1))):
        none = known_ct.judged(f, in_hu(x), draws, noise_hu, whose)
        assert none["hidden"] == none["hidden_high"] == 0


def test_a_trained_vae_and_flow_tell_the_eraser_from_the_identity(tiny_cohort):
    cohort = cohorts.load(tiny_cohort)
    rows = cohort.slices.row.to_numpy()  # of all patients: with fewer than six there is no interval
    learned, others = (patches.Sampler(cohort, rows, SIDE, None, size, seed) for size, seed in ((16, 0), (160, 1)))
    table, drawn = known_ct.controlled(cohort, learned, others, (40, 20, 1), samples=4)
    assert drawn.shape == (2, 2, 5, SIDE, SIDE) and np.isfinite(drawn).all()
    found = table.set_index("model").loc["VAE + flow"]
    assert found.eraser_hidden > 0.5 > 2 * found.identity_hidden
    assert found.identity_slope == pytest.approx(1, abs=0.1) and abs(found.eraser_slope) < 0.3
    assert len(shown.by_denoiser(table)) == 4 and set(shown.HEADS) >= {"model", "denoiser"}
    first, second = known_ct.headline(table)
    assert first["works"] is False, "draws after 40 updates are the output itself"
    assert shown.tried([first, second]) == (
        f"These trainings had 40 updates of the VAE (a code of 256 numbers), 20 of its flow and 1 update of the "
        f"generator (noise of 2 channels), with {learned.batch} patches of {SIDE} × {SIDE} pixels an update."
    )
    shown.patches(table, drawn)


def test_what_is_said_names_both_rates_and_what_would_be_right():
    row = {"model": "generator", "works": False, "eraser_hidden": 0.0, "identity_hidden": 0.02, "eraser_sd_hu": 0.02,
           "eraser_open_hu": 36.7}  # fmt: skip
    said = shown.said(pd.DataFrame([row, row | {"model": "VAE + flow", "works": True, "eraser_hidden": 0.79}]))
    assert said == (
        "The generator does not work: behind the eraser the disc varies by 0.0 HU over draws, where 37 is right; 0 % "
        "of draws hide a changed disc there, and 2 % behind the identity. The VAE + flow works: behind the eraser the "
        "disc varies by 0.0 HU over draws, where 37 is right; 79 % of draws hide a changed disc there, and 2 % behind "
        "the identity."
    )
    few = shown.said(pd.DataFrame([row | {"works": pd.NA}]))
    assert few.startswith("The generator was asked in too few patients: behind the eraser")


def test_settings_that_an_older_run_did_not_store_are_said_to_be_missing():
    unknown = "The settings of these trainings are not recorded."
    assert shown.tried([{"model": "generator", "works": False}]) == shown.tried([]) == unknown
    made = known_ct.tried("generator", 32, 1, (1, 2, 3)) | {"model": "generator"}
    assert shown.tried([made]) == (
        "These trainings had 3 updates of the generator (noise of 2 channels), with 1 patch of 32 × 32 pixels an "
        "update."
    )


@pytest.mark.parametrize(
    ("controls", "methods", "said"),
    [
        (None, ["search", "aimed"], ""),
        ({"VAE + flow": True, "generator": True}, ["VAE + flow", "VAE alone", "generator"], ""),
        ({"VAE + flow": False, "generator": False}, ["search", "VAE + flow", "VAE alone"],
         "The VAE + flow does not work on its controls (05a): its rows say nothing."),
        ({"VAE + flow": False, "generator": False}, ["generator", "VAE + flow"],
         "The VAE + flow and the generator do not work on their controls (05a): their rows say nothing."),
        ({"VAE + flow": None}, ["VAE + flow", "generator"],
         "The VAE + flow had too few patients in its controls (05a): whether its rows say anything is not known. The "
         "generator was not tried on controls (05a)."),
        ([], ["generator"], "The generator was not tried on controls (05a)."),
    ],
)  # fmt: skip
def test_rows_of_a_model_that_fails_its_controls_are_shown_with_a_warning(controls, methods, said):
    rows = [{"model": name, "works": works} for name, works in controls.items()] if controls else controls
    assert shown.warned(rows, methods) == said
    labels = shown.marked({name: name for name in methods}, rows)
    assert list(labels) == methods
    failing = [name for name in methods if controls and controls.get(name) is False]
    assert [name for name, label in labels.items() if label == f"{name} (fails its controls)"] == failing
    assert all(label == name for name, label in labels.items() if name not in failing)


def test_models_work_only_if_the_disc_varies_over_their_draws(tiny_cohort, monkeypatch):
    """Draws of the output itself hide every disc, and say nothing: right draws put another disc in its place."""
    cohort = cohorts.load(tiny_cohort)
    sampler = patches.Sampler(cohort, cohort.slices.row.to_numpy(), SIDE, None, 64, 1)

    def copies(f, model, sampler, x, updates, samples, seed):
        return np.repeat(images.denoiser(f)(in_hu(x))[:, None], samples, 1)

    def others(f, model, sampler, x, updates, samples, seed):
        made = copies(f, model, sampler, x, updates, samples, seed)
        if not isinstance(f, known_ct.Eraser):
            return made
        flat = [intensity.to_net(torch.from_numpy(made[:, [k]])) for k in range(samples)]
        return np.stack([in_hu(known_ct.with_disc(one, k)[0]) for k, one in enumerate(flat)], 1)

    for draw, works in ((copies, False), (others, True)):
        monkeypatch.setattr(known_ct, "drawn", draw)
        table, _ = known_ct.controlled(cohort, sampler, sampler, (9, 5, 7), samples=6)
        assert (table["eraser_hidden"] > 0.5).all() and (table["identity_hidden"] == 0).all()
        assert (table["works"] == works).all()


def test_a_model_whose_draws_differ_less_than_its_decoder_errs_is_said_to_show_nothing():
    told = (
        "Draws differ from the input by 8.6 HU, from each other by 0.6 HU, and their outputs from its output by 3.7 HU."
    )
    assert invariances.drawn_said(8.6, 3.7, 0.6, 8.5) == (
        f"{told} The VAE alone errs by 8.5 HU: its draws do not show what the network ignores."
    )
    assert invariances.drawn_said(8.6, 3.7, 0.6, None) == invariances.drawn_said(8.6, 3.7, 0.6, 0.5) == told
    assert invariances.quantity("in, draws, HU") == "draw minus input, HU"
    assert invariances.quantity("mean of v") == "mean of v"


def test_no_patch_of_soft_tissue_is_an_error_that_says_so(tiny_cohort, monkeypatch):
    cohort = cohorts.load(tiny_cohort)
    monkeypatch.setattr(known_ct, "SOFT_HU", 0.0)
    sampler = patches.Sampler(cohort, cohort.slices.row.to_numpy(), SIDE, None, 8, 0)
    with pytest.raises(ValueError, match="no two patches of 50 batches lie in soft tissue"):
        known_ct.held_out(cohort, sampler, 0)
