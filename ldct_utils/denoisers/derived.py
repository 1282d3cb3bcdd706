"""A denoised slice as a DICOM object of its own: new UIDs, marked as derived, its source named, its header kept.

What changes: UIDs of the object and its series, ImageType, descriptions, the series' number, the pixels and what
describes their encoding. What would be untrue of the new object goes: previews of the old pixels, digital signatures,
the time at which the source was made. Private elements stay, whatever a vendor keeps in them.
"""

from dataclasses import dataclass

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from ldct_utils.ct import data_files, dicom, intensity
from ldct_utils.study import files

WARNING = "not for diagnosis"
UNTRUE = (
    *("IconImageSequence", "DigitalSignaturesSequence", "MACParametersSequence", "InstanceCreationDate"),
    *("InstanceCreationTime", "InstanceCreatorUID", "SmallestPixelValueInSeries", "LargestPixelValueInSeries"),
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
)
SERIES_AFTER = 1000  # added to the source's SeriesNumber: viewers sort series by it


@dataclass(frozen=True)
class Maker:
    """Who denoised. name: in the series' description. words: a sentence. identity: of all that decides the output."""

    name: str
    words: str
    identity: str

    def uid(self, *of: str) -> str:
        """A UID that this maker gives to what is made of ``of``, today and tomorrow."""
        return str(generate_uid(entropy_srcs=[self.identity, *of]))


def to_stored(hu, was, keep, slope: float, intercept: float, low: int, high: int) -> tuple[np.ndarray, int]:
    """Denoised HU as integers of the source's scale, and how many pixels did not fit and were clipped.

    Args: hu: denoised. was: the source's stored values. keep: pixels that stay as they were. low, high: what the
        source's type can hold. All arrays of one shape.
    """
    wanted = np.where(keep, was, np.rint((np.asarray(hu, np.float64) - intercept) / slope))
    beyond = (wanted < low) | (wanted > high)
    return wanted.clip(low, high).astype(was.dtype), int(beyond.sum())


def is_no_measurement(data, stored) -> np.ndarray:
    """Padding: what the header names so, and what lies below -1024 HU, as outside of the reconstructed circle."""
    hu = stored * float(data.RescaleSlope) + float(data.RescaleIntercept)
    return dicom.padding(data, stored) | (np.rint(hu) < intensity.AIR_HU)


def uids(path, instance: str, series: str, maker: Maker) -> tuple[str, str]:
    """UIDs of a slice and its series: those of the source's bytes and the maker."""
    return maker.uid(instance, files.sha256(path)), maker.uid(series, "series")


def write(target, source: dicom.Header, data, stored, hu, maker: Maker) -> int:
    """Write a denoised slice, whole or not at all. Returns: the number of pixels that had to be clipped.

    Args: source, data, stored: of ``dicom``. hu: (H, W) denoised.
    Raises: ValueError: where the header cannot be written again; no value of the header is named.
    """
    try:
        with dicom.quiet(), files.write_atomic(target) as temporary:
            clipped = _replace_pixels(data, stored, hu)
            _mark(data, source, maker)
            data.save_as(temporary, enforce_file_format=True)
    except OSError:
        raise
    except Exception as error:  # the library's words quote header values
        raise data_files.about(source.path, ValueError(
            f"its header cannot be written again ({type(error).__name__}): export it as Explicit VR Little Endian"
        )) from None  # fmt: skip
    return clipped


def _replace_pixels(data, stored, hu) -> int:
    """Denoised pixels in the source's scale, signedness and number of bits, which becomes 16 where it is another."""
    signed = bool(data.PixelRepresentation)
    bits = int(data.BitsStored) if int(data.BitsAllocated) == 16 else 16
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    keep = is_no_measurement(data, stored)
    slope, intercept = float(data.RescaleSlope), float(data.RescaleIntercept)
    made, clipped = to_stored(hu, stored.astype(np.int64), keep, slope, intercept, low, high)
    if named := dicom.padding_values(data):  # tissue must not become padding
        collides = ~keep & (made >= named[0]) & (made <= named[1])
        made[collides] = named[1] + 1 if named[1] < high else named[0] - 1
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, bits, bits - 1
    for keyword, value in (("SmallestImagePixelValue", made.min()), ("LargestImagePixelValue", made.max())):
        if keyword in data:
            data.add_new(keyword, "SS" if signed else "US", int(value))
    del data.PixelData  # with what says that it is compressed
    data.add_new("PixelData", "OW", made.astype("<i2" if signed else "<u2").tobytes())
    return clipped


def _mark(data, source: dicom.Header, maker: Maker):
    """Everything that says that this is another object than its source."""
    kind = data.SOPClassUID = data.get("SOPClassUID", None) or dicom.CT_IMAGE
    data.StudyInstanceUID = data.get("StudyInstanceUID", None) or str(generate_uid(entropy_srcs=[source.series]))
    data.SOPInstanceUID, data.SeriesInstanceUID = uids(source.path, source.instance, source.series, maker)
    data.ImageType = ["DERIVED", "SECONDARY", *(list(data.get("ImageType", None) or [])[2:] or ["AXIAL"])]
    data.SeriesNumber = int(data.get("SeriesNumber", None) or 0) + SERIES_AFTER
    data.SeriesDescription = f"denoised, {WARNING}: {maker.name}".replace("\\", "/")[:64]
    data.DerivationDescription = maker.words[:1024]
    if source.instance:
        data.SourceImageSequence = [_origin(kind, source.instance)]
    for keyword in (*UNTRUE, *["SourceImageSequence"] * (not source.instance)):
        if keyword in data:
            del data[keyword]
    data.file_meta = FileMetaDataset()  # the library writes its UIDs
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.preamble = b"\0" * 128


def _origin(kind: str, instance: str) -> Dataset:
    """A source image as another object refers to it. Source: DICOM PS3.3 C.7.6.1.1.4; its purpose: PS3.16 CID 7202."""
    purpose, origin = Dataset(), Dataset()
    purpose.CodeValue, purpose.CodingSchemeDesignator = "121322", "DCM"
    purpose.CodeMeaning = "Source image for image processing operation"
    origin.ReferencedSOPClassUID, origin.ReferencedSOPInstanceUID = kind, instance
    origin.PurposeOfReferenceCodeSequence = [purpose]
    return origin


def is_whole(path, uid: str, shape: tuple) -> bool:
    """Whether a file is the denoised slice of this UID, with all its pixels."""
    try:
        with open(path, "rb") as file, dicom.quiet():
            data = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=["SOPInstanceUID"])
            left = path.stat().st_size - file.tell()
    except (OSError, EOFError, ValueError, KeyError, pydicom.errors.InvalidDicomError):
        return False
    return data.get("SOPInstanceUID", "") == uid and left >= 2 * shape[0] * shape[1]
