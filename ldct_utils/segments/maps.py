"""Label maps of the slices of a cohort, made once, for a loss over structures."""

import numpy as np

from ldct_utils.segments.finding import segment


def label_maps(images_hu, rows, progress=lambda rows: rows) -> dict[int, np.ndarray]:
    """Structures of many slices: {row: (H, W) label map, 0 none}.

    By ``segment`` with its defaults (Felzenszwalb, 20 pixels or more), which draws nothing at random: the same slices
    give the same maps, so that a training which goes on after a kill may make them again. Kept in RAM, 16 bits a
    pixel: half a megabyte a slice of 512x512.

    Args:
        images_hu: (slices, H, W), HU, memory-mapped or not; for a loss the NDCT.
        rows: which of them. progress: function of the rows that gives them back, e.g. ``tqdm``.
    Raises: ValueError: if no slice has a structure; see also ``segment``.
    """
    maps = {}
    for row in progress([int(row) for row in rows]):
        regions = segment(np.asarray(images_hu[row], np.float32)).regions
        if regions.max(initial=0) > np.iinfo(np.uint16).max:
            raise ValueError(f"slice {row} has {regions.max()} structures; label maps hold {np.iinfo(np.uint16).max}")
        maps[row] = regions.astype(np.uint16)
    if not any(labels.any() for labels in maps.values()):
        raise ValueError(
            f"no slice ({len(maps)} in all) shows a structure of 20 pixels or more: there is nothing for a loss over "
            "structures to learn from. Are the images in HU? Else take another loss"
        )
    return maps
