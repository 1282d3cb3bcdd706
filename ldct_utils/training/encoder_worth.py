"""Whether an encoder that was trained on CT may be called one: a fixed test on patients that it has not seen.

Each level is asked four things, with nothing but linear answers, so that it is the features that know and not the
decoder. The answers are fitted on training patients and scored on validation patients.

| test | number | least | why that much |
|---|---|---|---|
| ``reconstruction`` | PSNR of NDCT patches over that of block means, dB | 1 | block means alone give 0: such a level has lost what lies inside its blocks |
| ``dose`` | share of patches whose dose is told, LDCT or NDCT | .85 | guessing gives .5; random filters reached .61 to .77 in the cohort of the default study |
| ``anatomy`` | share of patches whose anatomy is told | .9 | guessing gives .36; some patches show air alone |
| ``lesions`` | lesions / noise of ``encoder_bench``, over that of the image itself | 1 | below 1 the features answer less to a lost lesion than pixels do: the MSE sees more of it |

A block is what one position of a level stands for; a level at full size has none to beat and cannot pass. Random
filters of the same shape are the control: where they pass, the test tells nothing, and nobody is admitted.

Of the encoders that two cores trained in minutes none passed (block3_conv2 of VGG-19, cohort of the default study):

| trained | reconstruction | dose | anatomy | lesions |
|---|---|---|---|---|
| not at all (two seeds) | -11.5 | .77 | .90, .92 | .29, .28 |
| 240 updates of the three tasks (and of block5_conv4) | 1.5 | .91 | .97 | .16 |
| 1500 updates of the three tasks | 4.0 | .98 | .97 | .10 |
| 1500 updates, to rebuild the noise-free truth alone | 8.8 | .73 | .94 | 1.27 |
| the same and 500 of the tasks, with .02 of the weight on dose and anatomy | 8.7 | .78 | .95 | .93 |

Learning to tell the dose makes features answer to noise, and so less to lesions; learning to rebuild the truth does the
opposite. Both at once needs more than this. That all four can be passed is shown with features made by hand (tests).
"""  # noqa: E501

from contextlib import nullcontext

import numpy as np
import pandas as pd
import torch
from torch.nn import functional as F

from ldct_utils.ct import intensity
from ldct_utils.models.encoders import SMALL_CT
from ldct_utils.training import encoder_bench

TESTS = {
    "reconstruction": "reconstruction over block means, dB",
    "dose": "dose told, share",
    "anatomy": "anatomy told, share",
    "lesions": "lesions / noise over the image's own",
}
FITTED, SCORED = 512, 256  # patches, half of them NDCT and half LDCT
STRENGTH = 1e-2  # of the ridge, in units of a standardised feature's variance
FLOOR = (1 / intensity.HU_SPAN) ** 2  # squared errors count as 1 HU at least, or a level at full size would divide by 0
LESION_SLICES = 6


def patches(cohort, split, count, size, seed):
    """Random patches of a split, the first half NDCT, the second LDCT: (count, 1, size, size), network range; rows."""
    rng = np.random.default_rng(seed)
    rows, found = rng.choice(cohort.rows(split), count), []
    for i, row in enumerate(rows):
        images = cohort.ndct if i < count // 2 else cohort.ldct
        y, x = (rng.integers(0, n - size + 1) for n in images.shape[1:])
        found.append(images[row, y : y + size, x : x + size])
    return intensity.to_net(torch.from_numpy(np.stack(found).astype(np.float32))[:, None]), rows


def ridge(features, wanted):
    """The linear answer of features (n, c) to what is wanted (n, k), by least squares with a small ridge.

    Features are standardised first; one that never changes is left out. Returns: a function of features (m, c).
    """
    features, wanted = features.double(), wanted.double()
    mean, spread, centre = features.mean(0), features.std(0), wanted.mean(0)
    scale = torch.where(spread > 0, 1 / spread.clamp_min(1e-30), 0.0)

    def standard(values):
        return (values.double() - mean) * scale

    known = standard(features)
    penalty = STRENGTH * len(known) * torch.eye(known.shape[1], dtype=known.dtype)
    weights = torch.linalg.solve(known.T @ known + penalty, known.T @ (wanted - centre))
    return lambda values: standard(values) @ weights + centre


def _positions(features):
    """(N, C, h, w) as (N h w, C)."""
    return features.permute(0, 2, 3, 1).flatten(0, 2)


def reconstruction(fitted, fitted_images, scored, scored_images) -> float:
    """PSNR of linear reconstructions over that of block means, dB.

    Args: features (N, C, h, w) and their images (N, 1, H, W) with H a multiple of h, to fit on and to score on.
    """
    stride = fitted_images.shape[-1] // fitted.shape[-1]
    answer = ridge(_positions(fitted), _positions(F.pixel_unshuffle(fitted_images, stride)))
    wanted = _positions(F.pixel_unshuffle(scored_images, stride)).double()
    error = (answer(_positions(scored)) - wanted).square().mean().item()
    of_blocks = (wanted - wanted.mean(1, keepdim=True)).square().mean().item()
    return float(10 * np.log10((of_blocks + FLOOR) / (error + FLOOR)))


def told(fitted, fitted_classes, scored, scored_classes) -> float:
    """Share of patches whose class a linear answer tells from features (N, C, h, w), averaged over the patch.

    Args: classes: (N,) integers from 0. NaN if all patches that are fitted on are of one class.
    """
    if len(np.unique(fitted_classes)) < 2:
        return np.nan
    answer = ridge(fitted.mean((2, 3)), F.one_hot(torch.tensor(fitted_classes)))
    return float((answer(scored.mean((2, 3))).argmax(1).numpy() == np.asarray(scored_classes)).mean())


def lesion_rows(cohort) -> np.ndarray:
    """Validation slices with a lesion that is known to be absent in another image; empty where the cohort has none."""
    if cohort.absent_ndct is None:
        return np.empty(0, np.int64)
    rows = [r for r in cohort.rows("val") if cohort.lesion_masks[r].any() and (cohort.ldct[r] != cohort.ndct[r]).any()]
    return cohort.spread(rows, LESION_SLICES)


def lesions(encoder, cohort) -> pd.Series:
    """Lesions / noise of each layer over that of the image itself; NaN where the cohort has no slice for it."""
    rows = lesion_rows(cohort)
    if not len(rows):
        return pd.Series(np.nan, encoder.provenance["layers"])
    changed = encoder_bench.harms(cohort, rows)
    size = {name: np.linalg.norm(changed[name].astype(float) - changed["ndct"]) for name in ("lesions", "noise")}
    return encoder_bench.responses(encoder, changed)["lesions / noise"] / (size["lesions"] / size["noise"])


def measure(encoder, cohort, patch_size=64, seed=0, precision="float32") -> pd.DataFrame:
    """What an encoder scores in the tests: columns layer, test, value; NaN where the cohort cannot tell.

    Args: encoder: from ``encoders.load``. cohort: with training and validation slices. patch_size: pixels, a multiple
        of the deepest layer's stride. precision: float32 or bf16, of the features of patches.
    """
    device, features = next(encoder.parameters()).device, {}
    classes = cohort.slices.set_index("row").anatomy.map(sorted(cohort.slices.anatomy.unique()).index)
    drawn = {
        "train": patches(cohort, "train", FITTED, patch_size, [seed, 1]),
        "val": patches(cohort, "val", SCORED, patch_size, [seed, 2]),
    }
    low = torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()
    for split, (images, _) in drawn.items():
        with torch.no_grad(), low:
            parts = [encoder(batch.to(device)) for batch in images.split(16)]
        features[split] = {layer: torch.cat([p[layer].float().cpu() for p in parts]) for layer in parts[0]}
    (fit, fit_rows), (new, new_rows) = drawn["train"], drawn["val"]
    of_dose = [np.arange(len(images)) >= len(images) // 2 for images in (fit, new)]
    of_anatomy = [classes.loc[rows].to_numpy() for rows in (fit_rows, new_rows)]
    answers, found = lesions(encoder, cohort), []
    for layer in encoder.provenance["layers"]:
        one, other = features["train"][layer], features["val"][layer]
        numbers = (
            reconstruction(one[: FITTED // 2], fit[: FITTED // 2], other[: SCORED // 2], new[: SCORED // 2]),
            told(one, of_dose[0].astype(int), other, of_dose[1]),
            told(one, of_anatomy[0], other, of_anatomy[1]),
            float(answers[layer]),
        )
        found += [(layer, test, value) for test, value in zip(TESTS, numbers)]
    return pd.DataFrame(found, columns=["layer", "test", "value"])


def judge(measured, control, least: dict) -> pd.DataFrame:
    """The verdict on each number: columns layer, test, value, control, least, passed, control_passed.

    Args: measured, control: of ``measure``, of the encoder and of random filters of the same shape. least: the least
        number of each test that passes.
    Raises: ValueError: if a test has no threshold, or the two were measured at different layers.
    """
    if set(least) != set(TESTS):
        raise ValueError(f"thresholds are needed for {', '.join(TESTS)}, got {', '.join(least) or 'none'}")
    table = measured.merge(control.rename(columns={"value": "control"}), on=["layer", "test"], validate="1:1")
    if not len(table) == len(measured) == len(control):
        raise ValueError("encoder and control were measured at different layers: measure both at the same ones")
    table["least"] = table["test"].map(least)
    return table.assign(passed=table["value"] >= table["least"], control_passed=table["control"] >= table["least"])


def admitted(judged) -> dict[str, bool]:
    """{layer: whether the encoder may be called medical there}: it passes all tests, and random filters do not."""
    of_layer = judged.groupby("layer", sort=False)
    return {layer: bool(part["passed"].all() and not part["control_passed"].all()) for layer, part in of_layer}


def stored(judged) -> list[dict]:
    """The rows of ``judge`` as plain numbers for a file; what could not be measured is None."""
    rows = judged.drop(columns="control_passed").astype(object)
    return rows.where(rows.notna(), None).to_dict("records")


def said(judged) -> list[str]:
    """The verdict at each level, a sentence each, and what random filters pass."""
    words, controls = [], []
    for layer, ok in admitted(judged).items():
        part = judged[judged["layer"] == layer]
        failed = [
            row.test + " (not measured)" * bool(np.isnan(row.value)) for row in part[~part["passed"]].itertuples()
        ]
        if ok:
            words.append(f"At {layer} the encoder passes all {len(part)} tests and is called medical.")
        elif not failed:
            words.append(f"At {layer} random filters pass as well, so the test tells nothing: it is a {SMALL_CT}.")
        else:
            many = f"{len(failed)} of {len(part)} tests, {', '.join(failed)},"
            words.append(f"At {layer} the encoder fails {many} and is called a {SMALL_CT}.")
        controls.append(f"{int(part['control_passed'].sum())} of {len(part)} at {layer}")
    return [*words, f"Random filters pass {' and '.join(controls)}."]


def shown(judged) -> pd.DataFrame:
    """The rows of ``judge`` with words for heads."""
    verdict = judged["passed"].map({True: "yes", False: "no"}).where(judged["value"].notna(), "not measured")
    return pd.DataFrame({"level": judged["layer"], "test": judged["test"].map(TESTS), "this encoder": judged["value"],
                         "random filters": judged["control"], "least": judged["least"], "passed": verdict})  # fmt: skip
