"""What a denoiser is applied to, slice by slice, and where the slices go: a DICOM series, a NIfTI volume, an array.

Each kind reads one slice at a time and writes it before the next is read. A kill at any moment leaves what can be gone
on with. The source is only ever read.
"""

import gzip
import shutil
import zlib
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from nibabel import orientations

from ldct_utils.ct import data_files, dicom, intensity
from ldct_utils.denoisers import derived
from ldct_utils.study import files

RECORD = ".denoise.json"  # in the folder of the output: whose output it is
PART = ".part"  # of a volume that is not finished
CHUNK = 1 << 20  # bytes
NIFTI = (".nii", ".nii.gz")
HU_REMEDY = "convert it to HU and start again"


def find(source, unpacked, progress=iter):
    """The stack at a path: ``Series`` or ``Volume``.

    Args:
        unpacked: folder for a compressed volume's plain copy: the output's.
        progress: wraps the list of DICOM files, e.g. ``tqdm``.
    Raises: FileNotFoundError, ValueError: with what is there and what was expected.
    """
    source = Path(source)
    if not source.exists():
        raise FileNotFoundError(f"IN {source} does not exist: give a folder of DICOM files, a .nii, .nii.gz or .npy")
    if source.is_file() and source.suffix == ".npy":
        return _array(source)
    if source.is_file() and source.name.endswith(NIFTI):
        return _nifti(source, Path(unpacked))
    return Series(source, progress)


class Series:
    """CT slices from DICOM files below a folder, or in one file.

    Attributes:
        count: slices. skipped: {reason: files} of what is no CT slice. remarks: sentences. shapes: of the slices.
        about: kernel, pixel_mm, thickness_mm of the slices, in their order. kind: in words.
    """

    kind = "DICOM"

    def __init__(self, source: Path, progress=iter):
        self.root = source if source.is_dir() else source.parent
        if source.is_dir():
            found = dicom.find(source, progress)
        else:
            found = dicom.Found()
            try:
                found.headers.append(dicom.read_header(source))
            except data_files.Unusable as reason:
                found.skipped.append((source, str(reason)))
        self.skipped, self.remarks, self._headers, seen = {}, [], [], set()
        for _, reason in found.skipped:
            self._skip(reason)
        # Without a UID, as some anonymisers leave them, a folder is a series.
        named = [replace(h, series=h.series or str(h.path.parent.relative_to(self.root))) for h in found.headers]
        for header in sorted(named, key=lambda h: (h.series, h.z_mm, str(h.path))):
            key = header.instance or files.sha256(header.path)
            if key in seen:
                self._skip("a copy of another slice (the same SOPInstanceUID)")
            else:
                self._headers.append(header)
                seen.add(key)
        if nameless := sum(not header.instance for header in self._headers):
            self.remarks.append(f"slices without a SOPInstanceUID: {nameless}; what is made of them names no source")
        if not self._headers:
            reasons = "; ".join(f"{count} x {reason}" for reason, count in self.skipped.items())
            raise ValueError(
                f"IN holds no CT slice ({reasons}). Expected: DICOM files of CT, or one .nii, .nii.gz or .npy file"
            )
        self.count, self.shapes = len(self._headers), [header.shape for header in self._headers]
        self.about = pd.DataFrame(
            [{"kernel": h.kernel, "pixel_mm": h.pixel_mm, "thickness_mm": h.thickness_mm} for h in self._headers]
        )
        self._open = None

    def _skip(self, reason: str):
        self.skipped[reason] = self.skipped.get(reason, 0) + 1

    def hu(self, i: int) -> np.ndarray:
        """A slice as a denoiser gets it, (H, W) float32 HU, padding as air. Raises: as ``dicom.read_hu``."""
        data, stored = dicom.read(self._headers[i].path)
        self._open = i, data, stored
        return dicom.in_hu(data, stored).astype(np.float32)

    def targets(self, out: Path) -> list[Path]:
        """Where the denoised slices go: below the output's folder as the sources lie below theirs."""
        return [out / header.path.relative_to(self.root) for header in self._headers]

    def begin(self, out: Path, maker, record: dict) -> list[int]:
        """The slices that are still to be done; ``record`` is not needed, since every file says whose it is."""
        self._maker, self._targets = maker, self.targets(out)
        left = []
        for i, (header, target) in enumerate(zip(self._headers, self._targets)):
            if not target.exists():
                left.append(i)
                continue
            uid, _ = derived.uids(header.path, header.instance, header.series, maker)
            if not derived.is_whole(target, uid, header.shape):
                left.append(i)
        return left

    def save(self, i: int, made) -> int:
        """Write slice ``i``, which ``hu`` has read last. Returns: pixels that had to be clipped."""
        at, data, stored = self._open
        assert at == i
        return derived.write(self._targets[i], self._headers[i], data, stored, made, self._maker)

    def finish(self):
        """Nothing: every slice is a file."""

    def close(self):
        """Nothing is held."""


class Volume:
    """A stack of slices in one file; its output is written into a part file and gets its name when it is whole.

    Args:
        stored, head: of the source: its values as a memory map and the bytes before them. slices: function from an
            array like ``stored`` to a view (N, H, W) of axial slices. slope, intercept: of HU over stored values.
    Attributes: as of ``Series``.
    """

    def __init__(self, path, stored, head: bytes, slices, slope=1.0, intercept=0.0, pixel_mm=np.nan,
                 thickness_mm=np.nan, kind="array", scratch=None):  # fmt: skip
        self.path, self._stored, self._head, self._slices, self.kind = path, stored, head, slices, kind
        self._slope, self._intercept, self._scratch = slope, intercept, scratch
        self._in = slices(stored)
        self.count, self.shapes = len(self._in), [self._in.shape[1:]] * len(self._in)
        self.skipped, self.remarks = {}, []
        self.about = pd.DataFrame({"kernel": "unknown", "pixel_mm": pixel_mm, "thickness_mm": thickness_mm},
                                  index=range(self.count))  # fmt: skip
        _must_be_hu([self._raw(i) for i in np.linspace(0, self.count - 1, min(5, self.count)).astype(int)])

    def _raw(self, i: int) -> np.ndarray:
        return self._in[i].astype(np.float64) * self._slope + self._intercept

    def hu(self, i: int) -> np.ndarray:
        """A slice as a denoiser gets it, (H, W) float32 HU; what is no number or below -1024 HU as air."""
        hu = self._raw(i)
        return np.where(_is_padding(hu), intensity.AIR_HU, hu).astype(np.float32)

    def targets(self, out: Path) -> list[Path]:
        ending = next(end for end in (".nii.gz", ".nii", ".npy") if self.path.name.endswith(end))
        return [out / f"{self.path.name.removesuffix(ending)}_denoised{ending}"]

    def begin(self, out: Path, maker, record: dict) -> list[int]:
        """The slices that are still to be done by ``record``, which counts them as they are saved.

        Raises: ValueError: where the source is not the one that the record was begun with.
        """
        self._record, self._at = record, out / RECORD
        (self._target,), self._part = self.targets(out), out / f"{PART}{self.path.suffix}"
        source = files.sha256(self.path)
        if record.setdefault("source", source) != source:
            raise ValueError("OUT holds another volume, or IN was changed since: give an empty OUT")
        if record.get("whole") and self._target.is_file():
            return []
        length = len(self._head) + self._stored.nbytes
        if "done" not in record or not self._part.is_file() or self._part.stat().st_size != length:
            record.update(done=0, clipped=0)
            with files.write_atomic(self._part) as temporary, open(temporary, "wb") as file:
                file.write(self._head)
                for start in range(0, self._stored.nbytes, CHUNK):  # real zeros: they take the space that slices need,
                    file.write(bytes(min(CHUNK, self._stored.nbytes - start)))  # or a full disk would kill the process
        self._made = np.memmap(self._part, self._stored.dtype, "r+", len(self._head), self._stored.shape,
                               "F" if self._stored.flags.f_contiguous else "C")  # fmt: skip
        self._out = self._slices(self._made)
        return list(range(record["done"], self.count))

    def save(self, i: int, made) -> int:
        """Write slice ``i``, then that it is there. Returns: pixels that had to be clipped."""
        was, hu = self._in[i], self._raw(i)
        keep = _is_padding(hu)
        if was.dtype.kind == "f":
            clipped = 0
            scaled = (np.asarray(made, np.float64) - self._intercept) / self._slope
            self._out[i] = np.where(keep, was, scaled.astype(was.dtype))
        else:
            kind = np.iinfo(was.dtype)
            self._out[i], clipped = derived.to_stored(
                made, np.asarray(was), keep, self._slope, self._intercept, kind.min, kind.max
            )
        self._made.flush()
        self._record.update(done=i + 1)
        files.write_json(self._at, self._record)
        return clipped

    def finish(self):
        """Give the whole volume its name; compressed as its source was."""
        if self._record.get("whole") and self._target.is_file():
            return
        with files.write_atomic(self._target) as temporary:
            if self._target.suffix == ".gz":
                with open(self._part, "rb") as plain, open(temporary, "wb") as raw:
                    with gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed:  # no clock: the same bytes every time
                        shutil.copyfileobj(plain, packed, CHUNK)
            else:
                shutil.copyfile(self._part, temporary)
        self._record["whole"] = True
        files.write_json(self._at, self._record)
        self._part.unlink()

    def close(self):
        """Remove the plain copy of a compressed source."""
        if self._scratch:
            self._scratch.unlink(missing_ok=True)


def _is_padding(hu) -> np.ndarray:
    return ~np.isfinite(hu) | (np.rint(hu) < intensity.AIR_HU)


def _must_be_hu(slices):
    """Raises: ValueError: for numbers that look like none in HU: in a whole slice there is air, and soft tissue."""
    values = np.concatenate([one[np.isfinite(one)] for one in slices])
    if not values.size:
        raise ValueError("IN holds no finite number in five slices that were looked at: give a CT in HU")
    low, high = values.min(), values.max()
    said = f"IN is not in HU: values run from {low:.4g} to {high:.4g}, a CT has air near -1000 HU and tissue near 0"
    if high - low < 100:
        raise ValueError(f"{said}. A share of a window, as [0, 1], must be turned back: {HU_REMEDY}")
    if low > -200:
        raise ValueError(f"{said}. Stored values are HU + 1024 most often: subtract that; {HU_REMEDY}")


def _array(path: Path) -> Volume:
    """An ``.npy`` file (N, H, W) or (H, W)."""
    try:
        stored = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"IN is no whole .npy file of plain numbers ({type(error).__name__}): save it again") from None
    if stored.ndim not in (2, 3) or stored.dtype.kind not in "fiu" or not stored.size:
        raise ValueError(
            f"IN holds {stored.dtype} {stored.shape}: an .npy file holds numbers (N, H, W) or (H, W) in HU"
        )
    with open(path, "rb") as file:
        head = file.read(stored.offset)
    return Volume(path, stored, head, lambda array: array if array.ndim == 3 else array[None], kind=".npy")


def _nifti(path: Path, unpacked: Path) -> Volume:
    """A NIfTI volume (X, Y, Z), its axial slices turned as DICOM has them, whatever way it is stored."""
    try:
        image = nib.load(path)
        head, affine = image.header, image.affine
        offset, shape, slope, intercept = (
            image.dataobj.offset, image.shape, image.dataobj.slope, image.dataobj.inter
        )  # fmt: skip
    except Exception as error:  # nibabel, gzip and zlib have kinds without a common parent
        raise ValueError(f"IN is no whole NIfTI file ({type(error).__name__}): copy it again from its origin") from None
    kind = head.get_data_dtype()
    if len(shape) == 4 and shape[3] == 1:
        shape = shape[:3]
    if len(shape) != 3 or kind.kind not in "fiu":
        raise ValueError(f"IN is a NIfTI of {kind} {shape}: give one volume (X, Y, Z) of numbers")
    plain = path if path.suffix == ".nii" else unpacked / ".source.nii"
    if plain != path:
        _unpack(path, plain)
    if plain.stat().st_size < offset + int(np.prod(shape)) * kind.itemsize:
        raise ValueError("IN is shorter than its header says: copy it again from its origin")
    stored = np.memmap(plain, kind, "r", offset, shape, "F")
    turn = orientations.ornt_transform(orientations.io_orientation(affine), orientations.axcodes2ornt("LPS"))

    def slices(array):
        return orientations.apply_orientation(array, turn).transpose(2, 1, 0)

    sides = np.sqrt((affine[:3, :3] ** 2).sum(0))[np.argsort(turn[:, 0])]
    with open(plain, "rb") as file:
        first = file.read(offset)
    return Volume(path, stored, first, slices, slope, intercept, float(sides[0]), float(sides[2]), "NIfTI",
                  plain if plain != path else None)  # fmt: skip


def _unpack(path: Path, plain: Path):
    """A compressed volume's plain copy: slices of it are read one at a time, in whatever order."""
    try:
        with files.write_atomic(plain) as temporary, gzip.open(path) as packed, open(temporary, "wb") as file:
            shutil.copyfileobj(packed, file, CHUNK)
    except (EOFError, OSError, zlib.error) as error:
        if getattr(error, "errno", None):
            raise
        raise ValueError(f"IN is no whole .gz file ({type(error).__name__}): copy it again from its origin") from None
