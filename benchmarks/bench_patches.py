"""Patch pairs per second: our sampler against a loader that opens a DICOM file for every patch, in one process.

Writes a small cohort twice, as DICOM files (512x512, uncompressed, one file a slice and dose) and as int16 arrays.

Run: python benchmarks/bench_patches.py [slices]
"""

import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pydicom
import torch
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from ldct_utils.cohorts import patches
from ldct_utils.ct import intensity

SIZE, PATCH, BATCH = 512, 96, 16


def write_dicom(path, hu):
    """A CT slice (H, W) int16 HU as a DICOM file with the usual offset of 1024."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(path, {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID, data.Modality = CTImageStorage, meta.MediaStorageSOPInstanceUID, "CT"
    data.Rows, data.Columns = hu.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation = 15, 0
    data.RescaleSlope, data.RescaleIntercept = 1, -1024
    data.PixelData = (hu + 1024).astype(np.uint16).tobytes()
    data.save_as(path, enforce_file_format=True)


class FilePerPatch:
    """Random crops like ours, but each patch opens and decodes its two DICOM files."""

    def __init__(self, folder, slices):
        self.folder, self.slices, self.rng = folder, slices, np.random.default_rng(0)

    def next(self):
        pairs = []
        for _ in range(BATCH):
            row, y, x = self.rng.integers(self.slices), *self.rng.integers(0, SIZE - PATCH + 1, 2)
            for dose in ("ldct", "ndct"):
                data = pydicom.dcmread(self.folder / f"{dose}_{row}.dcm")
                hu = data.pixel_array * data.RescaleSlope + data.RescaleIntercept
                pairs.append(hu[y : y + PATCH, x : x + PATCH])
        stacked = torch.from_numpy(intensity.to_net(np.stack(pairs).astype(np.float32)))[:, None]
        return stacked[::2], stacked[1::2]


def rate(loader, batches):
    """Patch pairs per second over ``batches`` batches, the best of three rounds."""
    loader.next()
    best = np.inf
    for _ in range(3):
        started = time.perf_counter()
        for _ in range(batches):
            loader.next()
        best = min(best, time.perf_counter() - started)
    return batches * BATCH / best


def main():
    slices = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = {dose: rng.integers(-1024, 2000, (slices, SIZE, SIZE)).astype(np.int16) for dose in ("ldct", "ndct")}
        for dose, stack in images.items():
            np.save(folder / f"{dose}.npy", stack)
            for row, hu in enumerate(stack):
                write_dicom(folder / f"{dose}_{row}.dcm", hu)
        cohort = SimpleNamespace(**{dose: np.load(folder / f"{dose}.npy", mmap_mode="r") for dose in images})
        plain = rate(FilePerPatch(folder, slices), 10)
        print(f"{slices} slices of {SIZE}x{SIZE}, pairs of {PATCH}x{PATCH} patches, batches of {BATCH}, 1 thread")
        print(f"{'loader':28} {'pairs/s':>9} {'ratio':>7}")
        print(f"{'two DICOM files a pair':28} {plain:9.0f} {1:7.1f}")
        for label, skip in (("memory map, random crops", None), ("memory map, the paper's grid", 96)):
            ours = rate(patches.Sampler(cohort, range(slices), PATCH, skip, BATCH, 0), 300)
            print(f"{label:28} {ours:9.0f} {ours / plain:7.1f}")


if __name__ == "__main__":
    main()
