"""CT slices from DICOM: which files are usable and why not, in which order they lie, and what they are in HU.

Order and partners come from positions along the slice normal, never from file names or instance numbers. Nothing that
identifies a patient leaves this module except through ``Header.person`` and ``Header.study``, which callers use to tell
patients apart and never store. File names hold dates and UIDs, so no message has one: an error carries the file as its
attribute ``path``.
"""

import hashlib
import re
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pydicom
from pydicom.errors import InvalidDicomError
from pydicom.pixels import get_decoder
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)
from scipy import ndimage

from ldct_utils.ct import data_files
from ldct_utils.ct.conventions import REACHES_AIR
from ldct_utils.ct.data_files import Unusable
from ldct_utils.ct.intensity import AIR_HU

SAME_POSITION_MM = 0.1  # two slices nearer than this lie at the same position
LEAST_STEP_MM = 0.005  # positions that differ by less differ by rounding
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"  # CT Image Storage, DICOM PS3.4 B.5
ENHANCED_CT = (f"{CT_IMAGE}.1", f"{CT_IMAGE}.2")  # all slices in one file
PIXELS = ("BitsAllocated", "BitsStored", "PixelRepresentation", "SamplesPerPixel", "PhotometricInterpretation")
TAGS = [
    "SOPInstanceUID",
    *("SOPClassUID", "Modality", "ImageType", "Rows", "Columns", "NumberOfFrames", *PIXELS),
    *("PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient", "SliceThickness", "ConvolutionKernel"),
    *("RescaleSlope", "RescaleIntercept", "RescaleType", "SeriesDescription", "BodyPartExamined"),
    *("SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID", "PatientID"),
    *("AcquisitionNumber", "TemporalPositionIdentifier", "TemporalPositionIndex"),
]
# What anonymisers write in place of an ID. With a number behind it, as in Anon_03, it is an ID again.
_NOTHING = (
    "anon[a-z]*|de-?identif[a-z]*|removed|redacted|deleted|blank(ed)?|none|null|n/?a|unknown|patient|subject|id|x+"
)
NO_ID = re.compile(rf"(?i)(({_NOTHING})[\W_]*)*|0+")
# Values of ImageType that say that pixels are no CT numbers of one slice. Source: DICOM PS3.3 C.8.15.2.1 (multi-energy
# images), C.8.16 (derived pixels), and what workstations write for projections and renderings.
NO_HU = re.compile(
    r"(?i)MAT_(SPECIFIC|FRACTIONAL|VALUE_BASED|MODIFIED)|EFF_ATOMIC_NUM|ELECTRON_DENSITY|(MAX_?|MIN_?|M)IP|VRT|VOLREN\w*"
    r"|VOLUME_?RENDER\w*|SSD|PROJECTION IMAGE|SUBTRACTION|ADDITION|MULTIPLICATION|DIVISION|PERFUSION\w*"
    r"|IODINE\w*|RHO_?Z\w*|Z_?EFF\w*|SCREEN ?SAVE\w*|SCREEN ?SHOT|SECONDARY CAPTURE|DOSE_INFO|FUSION\w*"
)
ACQUISITION = ("AcquisitionNumber", "TemporalPositionIdentifier", "TemporalPositionIndex")
LEAST_PADDING = 16  # pixels of an area of padding whose value could be tissue
LOOKED_AT = 5  # slices of a series, evenly spaced, that are read to see whether it reaches air


@contextmanager
def quiet():
    """No warnings of the DICOM library: they quote paths and header values, which would end up in a notebook."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@dataclass(frozen=True)
class Header:
    """What is known of one slice without its pixels. Lengths in mm; ``z_mm`` runs along the slice normal."""

    path: Path
    z_mm: float
    corner_mm: tuple  # position of the first pixel inside the slice plane, along rows and columns
    normal: tuple
    shape: tuple  # (H, W)
    pixel_mm: float
    thickness_mm: float
    kernel: str  # e.g. B30, D45, Br38: the family and number, without the sharpness letter
    description: str
    body_part: str
    series: str  # tells series of one folder apart; never stored
    person: str  # the patient's ID, empty where it was taken out; never stored
    study: str  # UID of the examination; never stored
    instance: str  # UID of this very slice; never stored
    in_hu: bool  # the header says so (RescaleType)
    acquisition: tuple = ()  # numbers that tell several scans of one place apart


@dataclass
class Found:
    """Usable slices below a folder, and the skipped files with the reason of each."""

    headers: list = field(default_factory=list)
    skipped: list = field(default_factory=list)  # (path, reason)


def read_header(path) -> Header:
    """Header of a CT slice.

    Raises: Unusable: if the file is no CT slice that can be turned into HU, saying why. PermissionError, OSError: if it
        cannot be read. RuntimeError: if its pixels are compressed and no installed decoder reads them, naming what to
        install.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file, quiet():
            data = _dataset(file, stop_before_pixels=True, specific_tags=TAGS)
            left = path.stat().st_size - file.tell()  # the reader stops where the pixels begin
    except InvalidDicomError as error:
        volume = path.name.lower().endswith((".nii", ".nii.gz"))
        other = "a NIfTI volume: source=paired reads those" if volume else "not a DICOM file"
        raise Unusable(data_files.packed(path) or other) from error
    except (EOFError, ValueError, OSError, KeyError, NotImplementedError) as error:
        if getattr(error, "errno", None):  # the system's: a slice must not be missing because a disk was away
            raise data_files.not_read(path, error) from None
        raise Unusable("truncated or damaged header: copy the file again from its origin") from error
    with quiet():  # values are converted, and complained about, when they are first looked at
        try:
            _check(data)
            _check_pixels(path, data, left)
            return _header(path, data)
        except (ValueError, TypeError, IndexError) as error:
            if isinstance(error, Unusable):
                raise
            raise Unusable("header values that make no sense: export the series again") from error


def _dataset(file, **options):
    """A DICOM file's data set, with its transfer syntax: also where preamble, file header or the syntax are missing.

    Files without a preamble come from old PACS exports and from the network; their encoding is told by the library.
    Raises: InvalidDicomError: for what is none, whatever it is called.
    """
    try:
        data = pydicom.dcmread(file, **options)
    except InvalidDicomError:
        if hasattr(file, "seek"):
            file.seek(0)
        try:
            data = pydicom.dcmread(file, force=True, **options)
        except Exception as error:  # of bytes that are no DICOM at all
            raise InvalidDicomError("no DICOM file") from error
        if not (data.get("SOPClassUID") and data.get("Rows") and data.get("Columns")):
            raise InvalidDicomError("no DICOM file") from None
    if not getattr(data, "file_meta", None):
        data.file_meta = pydicom.dataset.FileMetaDataset()
    if "TransferSyntaxUID" not in data.file_meta:
        implicit, little = data.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    return data


def _check(data):
    """Raise Unusable, saying why, if the object is not a CT slice with a place and a scale."""
    if data.get("SOPClassUID", "") in ENHANCED_CT:
        raise Unusable("Enhanced CT, several frames in one file: export as single-frame CT images")
    if data.get("SOPClassUID", "") not in ("", CT_IMAGE) or data.get("Modality", "CT") != "CT":
        kind = UID(data.get("SOPClassUID", "")).name
        if data.get("SOPClassUID", "") in ("", CT_IMAGE):
            kind = f"modality {data.get('Modality', 'unknown')}"
        raise Unusable(f"not a CT image but {kind}: leave it out, or export the CT images themselves")
    if "LOCALIZER" in _image_type(data):
        raise Unusable("a localizer (scout view)")
    _check_hu(data)
    if "Rows" not in data or "Columns" not in data:
        raise Unusable("no image in it: truncated, or not an image object")
    if absent := [name for name in PIXELS if data.get(name, None) is None]:
        raise Unusable(f"no {absent[0]}: its pixels cannot be decoded, export the series anew")
    if int(data.get("NumberOfFrames", 1) or 1) > 1 or int(data.get("SamplesPerPixel", 1)) > 1:
        raise Unusable("several frames or colours in one file: export as single-frame CT images")
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        if data.get(name, None) is None:
            raise Unusable(f"no {name}: its place is unknown, export the series with its geometry")
    if data.get("RescaleSlope", None) is None or data.get("RescaleIntercept", None) is None:
        raise Unusable("no RescaleSlope/RescaleIntercept: stored values cannot become HU, export them with the series")


def _image_type(data) -> list[str]:
    """The values of ImageType, in capitals; a single one comes as text and not as a list."""
    values = data.get("ImageType", None) or []
    return [str(value).strip().upper() for value in ([values] if isinstance(values, str) else values)]


def _check_hu(data):
    """Raise Unusable if the header says that the pixels are not CT numbers: a map of something, a rendering, a picture.

    Such objects bear the label of the CT beside them. A slice that is only derived, as any compressed one is, passes.
    """
    unit = str(data.get("RescaleType", "") or "").strip().upper()
    if unit == "HU_MOD" or not (unit in ("", "US", "NORMALIZED") or unit.startswith(("HU", "HOUN"))):
        raise Unusable(f"its values are {unit[:16]}, not HU (RescaleType): leave such maps out")
    if said := [value for value in _image_type(data) if NO_HU.fullmatch(value)]:
        raise Unusable(f"no slice in HU but {said[0]} (ImageType): leave maps and renderings out")
    if min(int(data.get(name, 16) or 16) for name in ("BitsAllocated", "BitsStored")) <= 8:
        raise Unusable("8 bits a pixel: grey values of a display window, not HU; export the series anew as CT images")


def _header(path: Path, data) -> Header:
    if not np.isclose(*map(float, data.PixelSpacing), rtol=0.01):
        raise Unusable("pixels that are not square: resample the series to square pixels")
    row, column = np.array(data.ImageOrientationPatient, float).reshape(2, 3)
    normal = np.cross(row, column)
    position = np.array(data.ImagePositionPatient, float)
    kernel = data.get("ConvolutionKernel", None) or ""
    kernel = str(kernel if isinstance(kernel, str) else kernel[0])
    family = re.match(r"[A-Za-z]+\d+", kernel)
    return Header(
        path=path,
        z_mm=round(float(position @ normal), 4),
        corner_mm=(float(position @ row), float(position @ column)),
        normal=tuple(np.round(normal, 3).tolist()),
        shape=(int(data.Rows), int(data.Columns)),
        pixel_mm=float(data.PixelSpacing[0]),
        thickness_mm=float(data.get("SliceThickness", None) or np.nan),
        kernel=family.group() if family else kernel or "unknown",
        description=str(data.get("SeriesDescription", "") or ""),
        body_part=str(data.get("BodyPartExamined", "") or "").upper(),
        series=str(data.get("SeriesInstanceUID", "") or ""),
        person=_person(data),
        instance=str(data.get("SOPInstanceUID", "") or ""),
        in_hu=str(data.get("RescaleType", "") or "").strip().upper().startswith(("HU", "HOUN")),
        study=str(data.get("StudyInstanceUID", "") or data.get("FrameOfReferenceUID", "") or ""),
        acquisition=tuple(str(data.get(name, "") or "") for name in ACQUISITION),
    )


def _check_pixels(path: Path, data, left: int):
    """Raise if the pixels are cut short or compressed in a way that nothing installed can decode."""
    syntax = data.file_meta.get("TransferSyntaxUID", None)
    if syntax == DeflatedExplicitVRLittleEndian:  # the whole file is packed: it was unpacked to its end, or refused
        return
    if syntax is not None and syntax.is_compressed:
        try:
            decoder = get_decoder(syntax)
            available, wanted = decoder.is_available, "; ".join(decoder.missing_dependencies)
        except NotImplementedError:
            available, wanted = False, "no plugin exists for it; decompress the files with another tool, e.g. dcmdjpeg"
        if not available:
            raise data_files.about(path, RuntimeError(
                f"pixels are compressed as {syntax.name} and no decoder for that is installed. "
                f"pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg ({wanted})"
            ))  # fmt: skip
        if left <= 0:
            raise Unusable("truncated: it ends where its pixels begin, copy the file again from its origin")
    elif left < int(data.Rows) * int(data.Columns) * int(data.get("BitsAllocated", 16)) // 8:
        raise Unusable("truncated: shorter than its pixels, copy the file again from its origin")


def _person(data) -> str:
    """The PatientID; empty where an anonymiser wrote what many share, such as "Anonymous": it tells nobody apart."""
    identity = str(data.get("PatientID", "") or "").strip()
    return "" if NO_ID.fullmatch(identity) else identity


def find(folder, progress=iter) -> Found:
    """Headers of every CT slice below ``folder``, in the order of their paths.

    Hidden files, ``DICOMDIR`` and folders of projections are passed over; any other file is a header or a listed skip.

    Args:
        progress: wraps the list of files, e.g. ``tqdm``.
    Raises: FileNotFoundError: if the folder is absent or holds no file. Others: as ``read_header``.
    """
    found = Found()
    paths = data_files.list_files(folder)
    if not paths:
        raise FileNotFoundError(f"{folder} is empty: point data_root at the folder that holds the DICOM series")
    for path in progress(paths):
        try:
            found.headers.append(read_header(path))
        except Unusable as reason:
            found.skipped.append((path, str(reason)))
    found.headers = each_once(found.headers, found.skipped)
    return found


def each_once(headers: list, skipped: list) -> list:
    """Of slices that were exported several times, wherever to, the first: one UID and equal pixels are one slice.

    A slice that another program changed often keeps its UID, so the UID alone does not say it.

    Args: skipped: takes (path, reason) of every copy.
    """
    by_uid, copies = {}, set()
    for header in headers:
        by_uid.setdefault(header.instance or header.path, []).append(header)
    for same in (found for found in by_uid.values() if len(found) > 1):
        seen = {}
        for header in same:
            if seen.setdefault(_digest(header.path), header) is not header:
                copies.add(header.path)
    skipped += [(path, "the same slice as another file (SOPInstanceUID and pixels)") for path in sorted(copies)]
    return [header for header in headers if header.path not in copies]


def read_hu(path) -> np.ndarray:
    """Pixels of a slice in HU.

    The stored values become HU by the file's own slope and intercept. Padding becomes air (-1024 HU): the values that
    the header names as padding, and all below -1024 HU, such as a stored -2000. Nothing is clipped above.

    Returns: (H, W) int16, HU, rounded where the slope is not an integer.
    Raises: Unusable: if the header contradicts the pixels. ValueError: if they cannot be decoded. PermissionError,
        OSError: if the file cannot be read.
    """
    return in_hu(*read(path))


def read(path) -> tuple:
    """A slice as it is: its whole header, which names the patient and is never shown, and its stored values (H, W).

    Raises: as ``read_hu``.
    """
    try:
        with quiet():
            with open(path, "rb") as file:
                data = _dataset(file)
            stored = data.pixel_array
    except Exception as error:  # decoders raise whatever they like for damaged streams
        if getattr(error, "errno", None):
            raise data_files.not_read(path, error) from None
        text = f"pixels cannot be decoded ({type(error).__name__}); copy the file again from its origin"
        raise data_files.about(path, ValueError(text)) from None
    with quiet():
        _check_bits(data, stored)
    return data, stored


def in_hu(data, stored) -> np.ndarray:
    """Stored values of a slice in HU, as ``read_hu`` gives them."""
    hu = np.rint(stored * float(data.RescaleSlope) + float(data.RescaleIntercept))
    hu[padding(data, stored)] = AIR_HU
    return hu.clip(AIR_HU, np.iinfo(np.int16).max).astype(np.int16)


def _check_bits(data, stored):
    """Raise Unusable if the stored values need more bits than the header names: cut off, bone would turn to air.

    JPEG streams say themselves how many bits they have. Negative values that were stored without the bits above
    ``BitsStored``, which is legal, are told from large ones by what they mean: no HU lies below -1024, and a slice that
    reaches air in no other way has negative ones.
    """
    bits, allocated = int(data.BitsStored), int(data.BitsAllocated)
    syntax = data.file_meta.get("TransferSyntaxUID", None)
    own_bits = syntax is not None and syntax.is_encapsulated and syntax != RLELossless
    planes = [data.get((group, 0x0102)) for group in range(0x6000, 0x6020, 2)]  # OverlayBitPosition
    overlays = any(int(plane.value or 0) for plane in planes if plane is not None)
    if bits >= allocated or own_bits or overlays:  # bits above BitsStored may hold graphics in old files
        return
    data.BitsStored, data.HighBit = allocated, allocated - 1
    whole = data.pixel_array
    data.BitsStored, data.HighBit = bits, bits - 1
    differ = whole != stored
    if not differ.any():
        return
    slope, intercept = float(data.RescaleSlope), float(data.RescaleIntercept)
    negative = int(data.get("PixelRepresentation", 0)) == 1 and whole.min() >= 0 and whole.max() < 1 << bits
    no_air = whole.min() * slope + intercept > REACHES_AIR
    if not (negative and (no_air or stored[differ].min() * slope + intercept >= AIR_HU)):
        raise Unusable(
            f"its pixels need more than the {bits} bits that the header names (BitsStored): export the series anew"
        )


def padding_values(data) -> tuple[int, int] | None:
    """Lowest and highest stored value that the header names as padding; None where it names none."""
    value, limit = data.get("PixelPaddingValue", None), data.get("PixelPaddingRangeLimit", None)
    if value is None:
        return None
    ends = [int(value), int(value if limit is None else limit)]
    if int(data.get("PixelRepresentation", 0)) == 1:  # some write a negative value as an unsigned one
        bits = int(data.BitsAllocated)
        ends = [end - (1 << bits) if end >= 1 << bits - 1 else end for end in ends]
    return tuple(sorted(ends))


def padding(data, stored) -> np.ndarray:
    """Pixels that hold no measurement. Source: DICOM PS3.3 C.7.5.1.1.2 for value and range limit.

    A padding value among those of tissue is believed where padding lies, in an area that holds a corner of the slice:
    in a file that was rewritten in HU, an old padding value of 0 is water.
    """
    if (named := padding_values(data)) is None:
        return np.zeros(stored.shape, bool)
    low, high = named
    padded = (stored >= low) & (stored <= high)
    if (
        max(low * float(data.RescaleSlope), high * float(data.RescaleSlope)) + float(data.RescaleIntercept)
        < REACHES_AIR
    ):
        return padded
    parts, _ = ndimage.label(padded)
    corners = {int(parts[row, column]) for row in (0, -1) for column in (0, -1)} - {0}
    return np.isin(parts, [part for part in corners if (parts == part).sum() >= LEAST_PADDING])


def in_order(headers) -> tuple:
    """Slices of one series by position, each position once; none of a series that is not in HU.

    A series whose header does not name HU and that nowhere reaches air is a map of something else. Of several slices
    at one position one is kept if their pixels are equal. If they differ all are dropped, since it is unknown which of
    them belongs to the partner series.

    Returns: (sorted headers, [(header, reason), ...] of what was dropped).
    """
    ordered = _sorted(headers)
    kept, dropped = [], []
    for place in _same_place(ordered):
        if len({_digest(h.path) for h in place} if len(place) > 1 else {0}) == 1:
            kept.append(place[0])
            dropped += [(h, "a copy of another slice of its series") for h in place[1:]]
        else:
            dropped += [(h, "several different slices at one position: keep one series a folder") for h in place]
    if kept and not _reaches_air(kept):
        reason = (
            f"it nowhere falls below {REACHES_AIR:g} HU, and its header does not say that it is in HU (RescaleType)"
        )
        return [], dropped + [(h, reason) for h in kept]
    return kept, dropped


def acquisitions(headers: list) -> list[list]:
    """The scans that a series holds: several where a number of theirs, such as AcquisitionNumber, tells them apart and
    each has every position once; else the series as it is.

    A number that differs from slice to slice of one scan, as in step and shoot, tells nothing apart.
    """
    for place in range(len(ACQUISITION)):
        groups = {}
        for header in headers:
            groups.setdefault(header.acquisition[place] if header.acquisition else "", []).append(header)
        whole = all(len(list(_same_place(_sorted(group)))) == len(group) for group in groups.values())
        overlap = len(list(_same_place(_sorted(headers)))) < len(headers)
        if len(groups) > 1 and whole and overlap:
            return [groups[name] for name in sorted(groups)]
    return [headers]


def _sorted(headers) -> list:
    return sorted(headers, key=lambda h: (h.z_mm, str(h.path)))


def _digest(path: Path) -> bytes:
    """What two files have in common whose pixels are equal, or cannot be used for one reason."""
    try:
        return hashlib.sha256(read_hu(path).tobytes()).digest()
    except Unusable as reason:
        return str(reason).encode()


def _reaches_air(headers: list) -> bool:
    """Whether a series is in HU by its header, or a few slices of it hold air, or something outside of the circle."""
    if all(h.in_hu for h in headers):
        return True
    chosen = sorted({len(headers) * (2 * n + 1) // (2 * LOOKED_AT) for n in range(LOOKED_AT)})
    for header in (headers[number] for number in chosen):
        try:
            if read_hu(header.path).min() < REACHES_AIR:
                return True
        except ValueError:  # of damaged pixels; the build names the slice
            return True
    return False


def _same_place(ordered):
    """Runs of headers that lie at the position of the first of the run: within ``SAME_POSITION_MM``, or half the slice
    spacing where slices lie closer (photon-counting CT, micro-CT)."""
    steps = np.diff([header.z_mm for header in ordered])
    apart = steps[steps > LEAST_STEP_MM]
    near = min(SAME_POSITION_MM, 0.5 * float(np.quantile(apart, 0.75))) if len(apart) else SAME_POSITION_MM
    run = []
    for header in ordered:
        if run and header.z_mm - run[0].z_mm >= near:
            yield run
            run = []
        run.append(header)
    if run:
        yield run


def gaps(ordered) -> int:
    """Number of gaps: steps between neighbouring slices of more than 1.5 times the series' slice spacing.

    The slice spacing is the smallest step that occurs in at least a tenth of all steps and at least twice, so that one
    extra slice between two others does not set it; if no step occurs that often, the smallest step.
    """
    steps = np.diff([h.z_mm for h in ordered])
    if not len(steps):
        return 0
    sizes, counts = np.unique(steps.round(1 if steps.min() > 0.5 else 3), return_counts=True)
    often = sizes[counts >= max(2, 0.1 * len(steps))]
    return int(np.sum(steps > 1.5 * (often.min() if len(often) else steps.min())))


def pair(low, full) -> tuple:
    """Partners of a low-dose and a full-dose series: same position, same grid.

    Args:
        low, full: headers as ``in_order`` returns them.
    Returns: ([(low, full), ...], [(header, reason), ...] of slices without a partner).
    """
    places = np.array([h.z_mm for h in full])
    pairs, alone, taken = [], [], set()
    for header in low:
        nearest = int(np.abs(places - header.z_mm).argmin()) if len(places) else -1
        if nearest < 0 or abs(places[nearest] - header.z_mm) >= SAME_POSITION_MM:
            alone.append((header, "no full-dose slice at its position"))
        elif not _same_grid(header, full[nearest]):
            alone.append((header, "its full-dose partner has another matrix, pixel size or field of view"))
            taken.add(nearest)
        else:
            pairs.append((header, full[nearest]))
            taken.add(nearest)
    alone += [(h, "no low-dose slice at its position") for i, h in enumerate(full) if i not in taken]
    return pairs, alone


def _same_grid(a: Header, b: Header) -> bool:
    return a.shape == b.shape and np.allclose(
        (a.pixel_mm, *a.corner_mm, *a.normal), (b.pixel_mm, *b.corner_mm, *b.normal), atol=0.01
    )
