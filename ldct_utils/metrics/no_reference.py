"""No-reference metrics, all trained or calibrated on photographs: some read quantum noise as sharpness."""

import math

from ldct_utils.metrics.through_pyiqa import add

LOWER, HIGHER = {"direction": -1, "digits": 2}, {"direction": 1, "digits": 3}
ANY = {"low": -math.inf, "high": math.inf}
ROUNDED = "image rounded to 256 grey levels"

add("niqe", "niqe", "NIQE", low=0.0, high=math.inf, needs=("niqe",), smallest=192, note=ROUNDED,
    reference="Mittal et al. 2013", **LOWER)  # fmt: skip
add("ilniqe", "ilniqe", "IL-NIQE", low=0.0, high=math.inf, needs=("ilniqe",), note=ROUNDED,
    reference="Zhang et al. 2015", **LOWER)  # fmt: skip
add("brisque", "brisque", "BRISQUE", needs=("brisque",), note=ROUNDED, reference="Mittal et al. 2012", **ANY, **LOWER)
add("piqe", "piqe", "PIQE", low=0.0, high=100.0, note="stretched to its maximum and rounded to 256 grey levels",
    reference="Venkatanath et al. 2015", **LOWER)  # fmt: skip
add("nrqm", "nrqm", "NRQM", needs=("nrqm",), note=ROUNDED, reference="Ma et al. 2017", **ANY, **HIGHER)
add("musiq", "musiq", "MUSIQ", needs=("musiq",), reference="Ke et al. 2021", **ANY, **HIGHER)
add("maniqa", "maniqa", "MANIQA", needs=("maniqa", "timm_vit"), smallest=224, reference="Yang et al. 2022",
    **ANY, **HIGHER)  # fmt: skip
add("clipiqa", "clipiqa", "CLIP-IQA", low=0.0, high=1.0, needs=("clip",), reference="Wang et al. 2023", **HIGHER)
add("hyperiqa", "hyperiqa", "HyperIQA", needs=("hyperiqa", "timm_resnet50"), smallest=224, reference="Su et al. 2020",
    **ANY, **HIGHER)  # fmt: skip
add("dbcnn", "dbcnn", "DBCNN", needs=("vgg16", "dbcnn_scnn", "dbcnn"), reference="Zhang et al. 2020", **ANY, **HIGHER)
add("topiq", "topiq_nr", "TOPIQ", needs=("topiq", "timm_resnet50"), reference="Chen et al. 2024", **ANY, **HIGHER)
add("paq2piq", "paq2piq", "PaQ-2-PiQ", needs=("resnet18", "paq2piq"), reference="Ying et al. 2020", **ANY, **HIGHER)
