"""What must be known of a metric: direction, range, unit, what it takes. Each family's file fills the register."""

from collections.abc import Callable
from dataclasses import dataclass

FAMILIES = ("full-reference", "no-reference")


@dataclass(frozen=True)
class Metric:
    """A metric of single slices and what a reader must know to read its numbers.

    Attributes:
        name: key in tables, e.g. ``ssim``.
        direction: 1 if higher is better, -1 if lower is better, 0 if the best value is zero.
        low, high: range of the values, as mathematics allows it.
        unit: ``dB``, ``HU`` or empty.
        takes: what ``compute`` is given of an image (see ``ranges.prepared``): ``domain`` (the domain's own scale),
            ``hu`` (what the domain shows of the image, in HU), ``attenuation`` (a scale on which air is 0) or ``unit``
            (what the domain shows, in [0, 1]).
        label: name in figures and tables.
        digits: decimals that tables show.
        compute: full-reference: ``compute(pred, target, data_range, mask=None)``, no-reference:
            ``compute(pred, data_range, mask=None)``; float64 tensors (N, H, W) in, float64 tensor (N,) out.
            ``data_range`` is the peak in the units of the images, ``mask`` boolean (N, H, W).
        family: ``full-reference`` or ``no-reference``.
        masked: whether the metric can be taken inside a mask, as the domain ``body`` asks.
        smallest: least height and width that it takes, pixels.
        library: whose code computes it.
        reference: the publication it follows.
        identical: value of two images that are the same; None takes 0 where less is better, else the highest value,
            NaN leaves it to ``compute``, which looks at a part of the images only.
        needs: what it needs beside the study's own code: keys of ``weights.METRIC_FILES``, and packages that some
            must leave out.
    """

    name: str
    direction: int
    low: float
    high: float
    unit: str
    takes: str
    label: str
    digits: int
    compute: Callable
    family: str = "full-reference"
    masked: bool = False
    smallest: int = 1
    library: str = "own"
    reference: str = ""
    needs: tuple[str, ...] = ()
    identical: float | None = None

    @property
    def best(self) -> float:
        """The value of an image scored against itself."""
        if self.identical is not None:
            return self.identical
        return self.high if self.direction == 1 else 0.0

    @property
    def arrow(self) -> str:
        """The direction as a reader of a table expects it."""
        return {1: "↑", -1: "↓", 0: "→0"}[self.direction]


REGISTER: dict[str, Metric] = {}


def register(**fields) -> Callable:
    """Decorator that adds a function of a batch of slices to the register; fields as in ``Metric``."""

    def add(compute):
        name = fields.get("name", compute.__name__)
        if name in REGISTER:
            raise ValueError(f"metric {name!r} is registered twice")
        metric = Metric(**{"name": name, **fields, "compute": compute})
        if metric.direction not in (-1, 0, 1) or metric.family not in FAMILIES:
            raise ValueError(f"metric {name!r}: direction is -1, 0 or 1 and family one of {', '.join(FAMILIES)}")
        REGISTER[name] = metric
        return compute

    return add
