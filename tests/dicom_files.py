"""Real DICOM files for tests: CT slices with whatever is wrong with them, and identities that must never get out."""

import base64
import gzip
import html
import io
import re
import zipfile
import zlib
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pyarrow.parquet as pq
import pydicom
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

# Planted in every header; no file or output of the study may hold any of them.
IDENTITY = ("Doe^Jane", "PID-4711", "19610203", "20190817", "Dr^Grabowski", "General Hospital", "1.2.826.0.1.99")


def image(seed: int = 0, size: int = 64) -> np.ndarray:
    """A noisy disc of soft tissue in air, (size, size) int16 HU."""
    y, x = np.mgrid[:size, :size] / size - 0.5
    disc = np.where(np.hypot(x, y) < 0.4, 50, -1000)
    return (disc + np.random.default_rng(seed).normal(0, 10, disc.shape)).round().clip(-1024).astype(np.int16)


def write_ct(path, hu=None, z=0.0, slope=1.0, intercept=-1024.0, seed=0, compress=None, without=(), **tags) -> Path:
    """Write one CT slice.

    Args:
        hu: (H, W) HU. slope, intercept: of the stored values. compress: transfer syntax UID.
        without: names of tags to leave out. tags: further tags, by keyword.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    hu = image(seed) if hu is None else hu
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = CTImageStorage, ExplicitVRLittleEndian
    meta.MediaStorageSOPInstanceUID = generate_uid(prefix="1.2.826.0.1.99.")
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    data.StudyInstanceUID, data.SeriesInstanceUID = "1.2.826.0.1.99.1", "1.2.826.0.1.99.2"
    data.FrameOfReferenceUID = "1.2.826.0.1.99.3"
    data.PatientName, data.PatientID, data.PatientBirthDate = "Doe^Jane", "PID-4711", "19610203"
    data.StudyDate, data.ReferringPhysicianName, data.InstitutionName = "20190817", "Dr^Grabowski", "General Hospital"
    data.Modality, data.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    data.SliceThickness, data.ConvolutionKernel, data.BodyPartExamined = 3.0, "B30f", "ABDOMEN"
    data.ImagePositionPatient, data.ImageOrientationPatient = [-24.0, -24.0, float(z)], [1, 0, 0, 0, 1, 0]
    data.PixelSpacing, data.Rows, data.Columns = [0.75, 0.75], *hu.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 1
    data.RescaleSlope, data.RescaleIntercept = slope, intercept
    stored = np.rint((hu.astype(np.float64) - intercept) / slope).astype("<i2")
    data.PixelData = stored.tobytes()
    for name, value in tags.items():
        setattr(data, name, value)
    for name in without:
        delattr(data, name)
    if compress is not None:
        data.compress(compress, generate_instance_uid=False)
    data.save_as(path, enforce_file_format=True)
    return path


def write_pair(root, patient="L067", series="1mm", zs=(0.0, 3.0), low_zs=None, seed=0, **tags):
    """``<patient>/full_<series>`` and ``quarter_<series>`` below ``root``, file names in an order unlike that of z."""
    for level, places in (("full", zs), ("quarter", zs if low_zs is None else low_zs)):
        for i, z in enumerate(places):
            # The full-dose series counts up and the quarter-dose series down, so that file order never fits.
            number = i if level == "full" else 99 - i
            hu = image(seed + round(10 * z)) + np.int16(level == "quarter")
            write_ct(Path(root, patient, f"{level}_{series}", f"{number:02d}.IMA"), hu, z, **tags)


def truncate(path, keep=0.6):
    """Cut a file short, as an interrupted copy does."""
    content = Path(path).read_bytes()
    Path(path).write_bytes(content[: int(len(content) * keep)])


def contents(name: str, content: bytes):
    """The bytes of a file, and of all that is packed inside: archives, columns, pictures and their notes, streams."""
    yield content
    if content[:2] == b"\x1f\x8b":
        yield from contents(name, gzip.decompress(content))
    elif content[:4] == b"PK\3\4":  # zip, npz, whl, a state of torch
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            for member in packed.namelist():
                yield member.encode()
                yield from contents(member, packed.read(member))
    elif content[:4] == b"PAR1":  # columns are compressed, and so is what pandas says of them
        table = pq.read_table(io.BytesIO(content))
        yield f"{table.schema.metadata} {table.to_pylist()}".encode()
    elif content[:4] == b"\x89PNG":
        with Image.open(io.BytesIO(content)) as picture:
            yield repr(picture.info).encode()
    elif content[:4] == b"%PDF":
        for stream in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", content, re.DOTALL):
            try:
                yield zlib.decompress(stream)
            except zlib.error:  # not compressed, and so in the bytes already
                continue
    elif content[:1] in b"{<" and name.endswith((".ipynb", ".html", ".json")):
        for packed in re.findall(rb"[A-Za-z0-9+/\\n]{200,}={0,2}", content):
            try:
                yield from contents("picture", base64.b64decode(packed.replace(b"\\n", b"")))
            except (ValueError, zlib.error, OSError):  # looks like base64 and is none
                continue


def find_identity(folder, words=IDENTITY) -> list:
    """(file, word) of every planted word below a folder: in names, in bytes, in what is packed, in wide characters.

    Upper and lower case count as the same; so do the ways in which a web page or an address writes a character.
    """
    spelt = {}
    for word in words:
        for text in {word, html.escape(word), quote(word), word.replace("^", " "), word.replace("^", ", ")}:
            spelt |= {text.lower().encode(code): word for code in ("utf-8", "utf-16-le", "utf-32-le")}
    found = set()
    for path in sorted(p for p in Path(folder).rglob("*")):
        texts = [str(path.relative_to(folder)).encode()]
        texts += contents(path.name, path.read_bytes()) if path.is_file() else []
        for text in map(bytes.lower, texts):
            found |= {(path.name, word) for text_of, word in spelt.items() if text_of in text}
    return sorted(found)


assert pydicom.__version__ >= "3", "compress() writes encapsulated pixel data since pydicom 3"
