"""Where slices come from: the sources of a cohort, by name."""

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class CohortParameters:
    """The parameters that make a cohort, with the defaults that every notebook declares for them.

    Attributes:
        source: ``simulated``; ``mayo2016``, ``tcia``, ``npy`` (pairs on disk); ``dicom`` (noise inserted into NDCT).
        data_root: folder with the files; for ``dicom`` also several, joined by ``:``.
        patients, slices, size: of ``simulated``: patients, slices a patient, pixels a side.
        anatomy: abdomen, chest, head or mixed (all). Of ``dicom`` and ``npy`` it says what the slices show; with mixed,
            patient ids and headers say it.
        dose: of the LDCT slices as a fraction of the NDCT's, in (0, 1]; for ``npy`` it is recorded only.
        kernel: of the simulated scan, or of the noise inserted into ``dicom`` series; a name in ``fbp.KERNELS``. For
            ``dicom`` also the folder of a cohort of real pairs of the same scanner, whose noise is then measured.
        split: ``draw`` (by patient, from the seed), a split file's name or path, or train, val or test for everyone.
            None is the published split for ``mayo2016``, ``npy`` and ``tcia``, and ``draw`` for the others.
        cohort_seed: seeds simulated patients, noise and the drawn split.
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


COHORT_PARAMETERS = tuple(field.name for field in fields(CohortParameters))


@dataclass(frozen=True)
class Source:
    """A source: ``plan(source, folders, read, progress)`` of a module of ``cohorts`` makes a ``Plan`` of its cohorts.

    ``reads`` are the cohort parameters that change its slices; the others are left out of the cohort's identity.
    ``split`` is the split it has unless another is asked for.
    """

    module: str
    split: str
    reads: tuple


SOURCES = {
    "simulated": Source(
        "simulated", "draw", ("patients", "slices", "size", "anatomy", "dose", "kernel", "cohort_seed")
    ),
    "mayo2016": Source("paired", "mayo2016", ()),
    "tcia": Source("paired", "tcia", ("anatomy",)),
    "npy": Source("arrays", "mayo2016", ("anatomy", "dose")),
    "dicom": Source("inserted", "draw", ("anatomy", "dose", "kernel", "cohort_seed")),
}


def check_folders(values: dict):
    """Raises: ValueError: where a source of these parameters, the tests' own or the first, reads files and its folder
    is not given: said by the name of the parameter that is missing, before anything is computed."""
    for source, folder in (("test_source", "test_root"), ("source", "data_root")):
        if values.get(source) in set(SOURCES) - {"simulated"} and not values.get(folder):
            raise ValueError(f"{source}={values[source]} reads files: give {folder}, the folder that holds them")
