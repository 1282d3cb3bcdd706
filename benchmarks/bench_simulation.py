"""Seconds of CPU a slice for simulated patients: anatomy, and both doses with their lesion-absent twins.

Run: OMP_NUM_THREADS=1 python benchmarks/bench_simulation.py [slices]
"""

import os
import sys
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

from ldct_utils.ct import dose, fbp
from ldct_utils.phantom import patient as phantom


def measure(anatomy: str, size: int, slices: int) -> tuple[float, float]:
    """CPU seconds a slice of building a patient and of scanning it."""
    start = time.process_time()
    patient = phantom.patient(1, anatomy, size=size, slices=slices)
    built = time.process_time()
    dose.simulate(patient, 0.25, "B30", seed=0)
    return (built - start) / slices, (time.process_time() - built) / slices


def main():
    slices = int(sys.argv[1]) if len(sys.argv) > 1 else 4
    phantom.patient(0, "head", size=64, slices=1)  # imports and first calls
    print(f"projector {fbp.backend()}, {fbp.VIEWS} views, {slices} slices, CPU seconds a slice")
    print(f"{'anatomy':8} {'size':>5} {'anatomy':>8} {'scan':>6} {'both':>6}")
    total = {256: 0.0, 512: 0.0}
    for size in total:
        for anatomy in phantom.ANATOMIES:
            drawn, scanned = measure(anatomy, size, slices)
            total[size] += (drawn + scanned) / len(phantom.ANATOMIES)
            print(f"{anatomy:8} {size:5d} {drawn:8.2f} {scanned:6.2f} {drawn + scanned:6.2f}")
    print(f"default cohort, 24 patients of 4 slices at 256: {96 * total[256]:.0f} s of CPU in all")


if __name__ == "__main__":
    main()
