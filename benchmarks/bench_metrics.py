"""Scoring a batch of 16 slices of 512x512: slice by slice as the LDCT benchmark does it, against ours, in one process.

The benchmark (Eulig et al. 2024) windows each slice, once for SSIM and once for PSNR, takes both from scikit-image in
the precision of the slices, and VIF from torchmetrics in float32 on HU + 1024 clipped to [0, 2924]. That is written
again here, with a faster window; ``--package`` times the published function itself (its site-packages are searched
last; bench_networks.py says how to install it, and an empty module ``wandb`` serves its import). Ours is
`metrics.compute` from slices in HU to the table, always in float64. The methods take turns and must give the same
numbers, but for what float32 loses in the benchmark's variances. On a CPU the CPU time of the process is measured, so
that other work on the machine does not count; on a GPU the clock.

Run: python benchmarks/bench_metrics.py [--threads N] [--rounds N] [--device cuda] [--package other/.../site-packages]
"""

import argparse
import sys
import time

import numpy as np
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torchmetrics.functional.image import visual_information_fidelity

from ldct_utils import metrics
from ldct_utils.ct import intensity

SLICES, SIZE = 16, 512
ABDOMEN = intensity.domain("eulig2024", "abdomen")


def slices():
    """Discs of soft tissue with inserts at full dose, and with four times the noise variance, HU, float32."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE - 0.5
    clean = np.where(np.hypot(x, y) < 0.42, 40.0, -1000.0)
    for angle in np.linspace(0, 2 * np.pi, 9)[:-1]:
        clean[np.hypot(x - 0.25 * np.cos(angle), y - 0.25 * np.sin(angle)) < 0.05] += 60
    target = clean + rng.normal(0, 12, (SLICES, SIZE, SIZE))
    return (target + rng.normal(0, 20, target.shape)).astype(np.float32), target.astype(np.float32)


def plain_ssim_psnr(pred, target):
    found = []
    for metric in (structural_similarity, peak_signal_noise_ratio):
        for images in zip(pred, target):
            shown, reference = (intensity.dicom_window(one, ABDOMEN.level, ABDOMEN.width) for one in images)
            found.append(metric(reference, shown, data_range=1))
    return np.array(found).reshape(2, -1).T


def plain_vif(pred, target):
    found = []
    for images in zip(pred, target):
        shown, reference = (torch.from_numpy((one + 1024).clip(0, 2924))[None, None] for one in images)
        found.append(float(visual_information_fidelity(reference, shown)))  # swapped, as the benchmark calls it
    return np.array(found)[:, None]


def packages(*names):
    """The package's own function, on slices as its data loader gives them: (N, 1, H, W), HU + 1024."""
    from ldctbench.evaluate.utils import compute_metric

    def run(pred, target):
        found = compute_metric(target[:, None] + 1024, pred[:, None] + 1024, list(names), exam_type="L")
        return np.array([found[name] for name in names]).T

    return run


def ours(names, device):
    def run(pred, target):
        table = metrics.compute(pred=pred, target=target, names=names, domain=ABDOMEN, device=device, batch=SLICES)
        return table["value"].to_numpy().reshape(SLICES, -1)

    return run


def main():
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--threads", type=int, default=1)
    asked.add_argument("--rounds", type=int, default=7)
    asked.add_argument("--device", default="cpu")
    asked.add_argument("--package", help="site-packages of the environment with ldct-benchmark")
    asked = asked.parse_args()
    ssim_psnr, vif = plain_ssim_psnr, plain_vif
    if asked.package:
        sys.path.append(asked.package)
        ssim_psnr, vif = packages("SSIM", "PSNR"), packages("VIF")
    torch.set_num_threads(asked.threads)
    clock = time.process_time if asked.device == "cpu" else time.perf_counter
    pred, target = slices()
    print(f"{SLICES} slices of {SIZE}x{SIZE}, {torch.get_num_threads()} thread(s), ours on {asked.device},")
    print(f"ms a slice: median of {asked.rounds} rounds (fastest)")
    theirs = "package" if asked.package else "slice by slice"
    print(f"{'metrics':20} {theirs:>18} {'ours':>16} {'ratio of fastest':>17} {'largest difference':>19}")
    double = [images.astype(np.float64) for images in (pred, target)]  # scikit-image works in the images' precision
    compared = {
        "SSIM + PSNR, float64": (ssim_psnr, ["ssim", "psnr"], double),
        "SSIM + PSNR, float32": (ssim_psnr, ["ssim", "psnr"], [pred, target]),
        "VIFp, float32": (vif, ["vifp_eulig"], [pred, target]),
    }
    for label, (plain, names, images) in compared.items():
        methods, seconds = (plain, ours(names, asked.device)), ([], [])
        for turn in range(asked.rounds + 1):
            values = []
            for method, spent in zip(methods, seconds):
                started = clock()
                values.append(method(*images))
                if turn:  # the first round warms up
                    spent.append(1e3 * (clock() - started) / SLICES)
        each = [f"{np.median(s):.1f} ({min(s):.1f})" for s in seconds]
        ratio, worst = min(seconds[0]) / min(seconds[1]), np.abs(values[0] - values[1]).max()
        print(f"{label:20} {each[0]:>18} {each[1]:>16} {ratio:17.1f} {worst:19.1e}")
        assert worst < 1e-3, f"{label}: ours differs by {worst:.1e}"


if __name__ == "__main__":
    main()
