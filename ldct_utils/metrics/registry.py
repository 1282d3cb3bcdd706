"""What a metric is: its direction, range, unit and what it is given; the register that every metric family adds to."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """A full-reference metric and what a reader must know to read its numbers.

    Attributes:
        name: key in tables, e.g. ``ssim``.
        direction: 1 if higher is better, -1 if lower is better, 0 if the best value is zero.
        low, high: range of the values, as mathematics allows it.
        unit: ``dB``, ``HU`` or empty.
        takes: what ``compute`` is given of an image (see ``full_reference.prepared``): ``domain`` (the domain's own
            scale), ``hu`` (what the domain shows of the image, in HU) or ``attenuation`` (a scale on which air is 0).
        label: name in figures and tables.
        digits: decimals that tables show.
        compute: ``compute(pred, target, data_range, mask=None) -> float`` for one slice (H, W).
    """

    name: str
    direction: int
    low: float
    high: float
    unit: str
    takes: str
    label: str
    digits: int
    compute: Callable[..., float]

    @property
    def arrow(self) -> str:
        """The direction as a reader of a table expects it."""
        return {1: "↑", -1: "↓", 0: "→0"}[self.direction]


REGISTER: dict[str, Metric] = {}


def register(**fields) -> Callable:
    """Decorator that adds a function of one slice to the register; fields as in ``Metric``."""

    def add(compute):
        name = fields.get("name", compute.__name__)
        if name in REGISTER:
            raise ValueError(f"metric {name!r} is registered twice")
        REGISTER[name] = Metric(**{"name": name, **fields, "compute": compute})
        return compute

    return add


def info(name: str) -> Metric:
    """The metric of that name. Raises: ValueError: for an unknown name, listing the known ones."""
    if name not in REGISTER:
        raise ValueError(f"unknown metric {name!r}; known: {', '.join(sorted(REGISTER))}")
    return REGISTER[name]
