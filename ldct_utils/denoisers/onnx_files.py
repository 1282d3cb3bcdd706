"""Networks in ONNX files, run by ONNX Runtime. Such a file holds operations and numbers and no code of its own."""

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np

OVERLAP = 32  # pixels that neighbouring tiles share, where a network takes one size only and images are larger
TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}


def load(path, input_name: str | None = None, threads: int = 0) -> tuple[Callable, str]:
    """A network of images as a function of arrays (N, H, W) in the network's own range, and what it is in words.

    Images are padded or cut into tiles where the file takes one size only.

    Args: input_name: which input takes the image, where there are several. threads: 0 for all.
    Raises: ValueError: for a damaged file, or a network that does not take one image (N, 1, H, W) of floats.
    """
    path = Path(path)
    import onnxruntime  # .3 s, and only who brings such a file needs it

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 4
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own kinds have no common parent
        said = str(error).replace(str(path), path.name).split(":")[-1].strip()
        raise ValueError(f"{path.name} is no ONNX file that can be run here ({said}): export it again") from None
    entry = _entry(session, path.name, input_name)
    _, _, *sides = (size if isinstance(size, int) else None for size in entry.shape)
    at_once = entry.shape[0] if isinstance(entry.shape[0], int) else None

    def run(images):
        made = session.run(None, {entry.name: images[:, None].astype(TYPES[entry.type])})[0]
        return made[:, 0] if made.ndim == 4 and made.shape[1] == 1 else made

    def whole(images):
        parts = [run(images[i : i + (at_once or 1)]) for i in range(0, len(images), at_once or 1)]
        return np.concatenate([np.asarray(part, np.float32) for part in parts])

    size = "any size" if sides == [None, None] else " x ".join(str(side or "any") for side in sides)
    about = f"input {entry.name}, {size}"
    return (whole if sides == [None, None] else _of_one_size(whole, sides, at_once or 1)), about


def _entry(session, name: str, wanted: str | None):
    """The input that takes the image."""
    entries = {entry.name: entry for entry in session.get_inputs()}
    listed = ", ".join(f"{n} {e.shape}" for n, e in entries.items())
    if wanted and wanted not in entries:
        raise ValueError(f"{name} has no input {wanted!r}; it has {listed}")
    if len(entries) > 1:
        raise ValueError(
            f"{name} takes {len(entries)} inputs ({listed}), a denoiser takes the image alone: export it with the "
            "others as constants, or write a function package.module:function around it"
        )
    entry = next(iter(entries.values()))
    channels = entry.shape[1] if len(entry.shape) == 4 else 0
    if channels not in (1, None) and not isinstance(channels, str):  # a word or nothing: any number
        raise ValueError(f"{name} takes {entry.shape}, a denoiser takes (N, 1, H, W): export it with that input")
    if entry.type not in TYPES:
        raise ValueError(f"{name} takes {entry.type}, a denoiser takes floats: export it with that input")
    return entry


def _of_one_size(run, sides, at_once: int):
    """A function of images of one size only, or of so many at once, as one of any.

    Smaller images are padded by reflection, larger ones cut into tiles that share ``OVERLAP`` pixels.
    """

    def full(tiles):
        rest = -len(tiles) % at_once
        return run(np.concatenate([tiles, np.repeat(tiles[-1:], rest, 0)]) if rest else tiles)[: len(tiles)]

    def any_size(images):
        shape = images.shape[1:]
        tile = [side or length for side, length in zip(sides, shape)]
        missing = [max(0, side - length) for side, length in zip(tile, shape)]
        padded = np.pad(images, [(0, 0), *((0, m) for m in missing)], mode="reflect" if any(missing) else "constant")
        starts = [_starts(length, side) for length, side in zip(padded.shape[1:], tile)]
        total, weights = np.zeros(padded.shape, np.float32), np.zeros(padded.shape[1:], np.float32)
        for corner in itertools.product(*starts):
            at = tuple(slice(start, start + side) for start, side in zip(corner, tile))
            ramps = (_ramp(start, side, length) for start, side, length in zip(corner, tile, weights.shape))
            weight = np.multiply.outer(*ramps).astype(np.float32)
            total[:, *at] += weight * full(padded[:, *at])
            weights[at] += weight
        return (total / weights)[:, : shape[0], : shape[1]]

    return any_size


def _starts(length: int, side: int) -> list[int]:
    """Where tiles begin, so that the last one ends at the border and neighbours overlap."""
    step = max(1, side - OVERLAP)
    return sorted({*range(0, max(1, length - side), step), max(0, length - side)})


def _ramp(start: int, side: int, length: int) -> np.ndarray:
    """Weights of a tile's pixels along one side: hardly any near an edge that cuts the image, where the network misses
    its surroundings, then rising, so that no seam is seen."""
    at = np.arange(side)
    inside = np.minimum(
        at if start else np.full(side, side), at[::-1] if start + side < length else np.full(side, side)
    )
    return np.clip((inside - OVERLAP // 4 + 1) / (OVERLAP // 2), 1e-6, 1)
