"""Anonymous memory while a cohort of many DICOM pairs is built: it must not grow with the number of slices.

Writes synthetic 512x512 pairs (1 MB a pair) to a temporary folder, builds a `mayo2016` cohort of them in a process of
its own, and samples that process and its children. Everything is deleted afterwards.

    python benchmarks/bench_cohort_memory.py            # 2,000 pairs: about 2 GB of disk, 1-2 minutes
    python benchmarks/bench_cohort_memory.py --pairs 200
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

LIMIT_GB = 1.5
BUILD = """
import os, sys, psutil
from ldct_utils import cohorts
print("at import", psutil.Process().memory_full_info().uss, flush=True)
cohort = cohorts.get("mayo2016", sys.argv[1])
print("slices", len(cohort.slices), flush=True)
"""


def write_pairs(root: Path, pairs: int, patients: int = 10):
    """Full- and quarter-dose slices of noise, spread over the patients of the challenge's split."""
    names = ["L067", "L096", "L109", "L143", "L192", "L286", "L291", "L310", "L333", "L506"][:patients]
    rng = np.random.default_rng(0)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = CTImageStorage, ExplicitVRLittleEndian
    for number in range(pairs):
        for level in ("full", "quarter"):
            folder = root / names[number % len(names)] / f"{level}_1mm"
            folder.mkdir(parents=True, exist_ok=True)
            data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
            meta.MediaStorageSOPInstanceUID = f"1.2.3.{number}.{len(level)}"
            data.SOPClassUID, data.Modality, data.ImageType = CTImageStorage, "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
            data.ImagePositionPatient, data.ImageOrientationPatient = [0, 0, float(number)], [1, 0, 0, 0, 1, 0]
            data.PixelSpacing, data.Rows, data.Columns, data.SliceThickness = [0.75, 0.75], 512, 512, 1.0
            data.ConvolutionKernel, data.SamplesPerPixel, data.PhotometricInterpretation = "B30f", 1, "MONOCHROME2"
            data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
            data.RescaleSlope, data.RescaleIntercept = 1, -1024
            data.PixelData = rng.integers(0, 4096, (512, 512), dtype=np.uint16).tobytes()
            data.save_as(folder / f"{number:05d}.IMA", enforce_file_format=True)


def anonymous_bytes(process: psutil.Process) -> int:
    """Anonymous memory of a process and its children: private pages that no file backs (memory maps do not count)."""
    total = 0
    for one in (process, *process.children(recursive=True)):
        try:
            total += sum(m.anonymous for m in one.memory_maps(grouped=True))
        except (psutil.NoSuchProcess, AttributeError):  # it ended; or the system reports no anonymous pages
            continue
    return total


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--pairs", type=int, default=2000)
    pairs = arguments.parse_args().pairs
    place = Path(tempfile.mkdtemp(prefix="bench-cohort-"))
    try:
        write_pairs(place / "data", pairs)
        print(f"{pairs} pairs written", flush=True)
        start, peak = time.time(), 0
        command = [sys.executable, "-c", BUILD, str(place / "data")]
        child = subprocess.Popen(command, env=os.environ | {"LDCT_OUTPUTS": str(place / "outputs")})
        process = psutil.Process(child.pid)
        while child.poll() is None:
            try:
                peak = max(peak, anonymous_bytes(process))
            except psutil.Error:
                break
            time.sleep(0.05)
        seconds = time.time() - start
        if child.wait():
            sys.exit("the build failed")
        print(
            f"{pairs} pairs: peak anonymous memory {peak / 1e9:.3f} GB, {seconds:.1f} s, {pairs / seconds:.0f} pairs/s"
        )
        if not 0 < peak < LIMIT_GB * 1e9:
            sys.exit(f"over the limit of {LIMIT_GB} GB (or not measurable on this system)")
    finally:
        shutil.rmtree(place)


if __name__ == "__main__":
    main()
