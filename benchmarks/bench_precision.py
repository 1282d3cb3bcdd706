"""bf16 against float32: paired short trainings, the difference with its interval beside the spread over seeds.

Each pair has the same seed, so the same initial weights and the same patches; only the precision differs. Trained on a
simulated cohort, scored on whole validation slices against NDCT. At the end the perceptual loss of one network is
computed in both precisions.

Run: python benchmarks/bench_precision.py [--seeds N] [--updates N] [--layer NAME] [--cohort FOLDER]
"""

import argparse

import numpy as np
import torch
from scipy import stats

from ldct_utils import cohorts
from ldct_utils.cohorts import patches
from ldct_utils.ct import intensity
from ldct_utils.models import encoders, networks
from ldct_utils.study import machine
from ldct_utils.training import losses, prediction, psi, setup
from ldct_utils.training.methods.supervised import Supervised


def train(cohort, encoder, layer, lam, precision, seed, updates, threads):
    """(PSNR in dB on validation slices, the trained step) of a short training."""
    setup.seed_everything(seed, threads)
    network = networks.build("unet", channels=16, residual=True)
    step = Supervised(network, losses.build("vgg", encoder, layer, lam), 1e-3, precision=precision)
    sampler = patches.Sampler(cohort, cohort.rows("train"), 48, None, 8, seed)
    for _ in range(updates):
        step.update(*sampler.next())
    rows = cohort.rows("val")
    predicted = prediction.predict(network, cohort.ldct[rows], precision=precision)
    mse = np.mean((predicted - cohort.ndct[rows]) ** 2)
    return 10 * np.log10(intensity.HU_SPAN**2 / mse), step


def both_losses(step, cohort):
    """Mean perceptual loss of 64 validation patches in float32 and in bf16, with the same network."""
    sampler, found = patches.Sampler(cohort, cohort.rows("val"), 48, None, 64, 0), []
    ldct, ndct = sampler.next()
    for step.precision in ("float32", "bf16"):
        with torch.no_grad():
            found.append(step.terms(ldct, ndct)["vgg"].mean().item())
    return found


def main():
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--seeds", type=int, default=3)
    asked.add_argument("--updates", type=int, default=200)
    asked.add_argument("--layer", default="block3_conv2")
    asked.add_argument("--cohort", help="folder of a cohort; the default simulated one is made if it is missing")
    asked.add_argument("--threads", type=int, default=machine.cpu_threads())
    asked = asked.parse_args()
    cohort = cohorts.load(asked.cohort) if asked.cohort else cohorts.get()
    encoder = encoders.load(context="auto", layers=(asked.layer,))
    ldct, ndct = patches.Sampler(cohort, cohort.rows("train"), 48, None, 64, 0).next()
    with torch.no_grad():
        terms = losses.build("vgg", encoder, asked.layer, 1.0).terms(ldct, ndct)
    lam = psi.lambda_for(terms["mse"], terms["vgg"], 0.95)
    print(f"{asked.layer}, context {encoder.provenance['context']}, lambda {lam:.2e}, {asked.updates} updates")
    print(f"{'seed':>4} {'float32 dB':>11} {'bf16 dB':>9} {'difference':>11} {'PL bf16 / float32':>18}")
    scores = []
    for seed in range(asked.seeds):
        pair = [
            train(cohort, encoder, asked.layer, lam, p, seed, asked.updates, asked.threads) for p in ("float32", "bf16")
        ]
        exact, fast = both_losses(pair[0][1], cohort)
        scores.append([psnr for psnr, _ in pair])
        print(
            f"{seed:4d} {scores[-1][0]:11.2f} {scores[-1][1]:9.2f} {np.diff(scores[-1])[0]:11.2f} {fast / exact:18.4f}",
            flush=True,
        )
    scores = np.array(scores)
    difference = scores[:, 1] - scores[:, 0]
    half = stats.t.ppf(0.975, len(scores) - 1) * difference.std(ddof=1) / len(scores) ** 0.5
    low, high = difference.mean() - half, difference.mean() + half
    print(
        f"bf16 - float32: {difference.mean():+.2f} dB, 95 % interval {low:+.2f} to {high:+.2f} dB, {len(scores)} pairs"
    )
    print(f"SD over seeds: {scores[:, 0].std(ddof=1):.2f} dB")


if __name__ == "__main__":
    main()
