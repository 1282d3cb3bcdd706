"""Filters of a textbook, which know nothing but the image: controls beside networks wherever some are ranked.

Blur takes detail away, unsharp masking adds noise; a median and total variation denoise.
"""

from collections.abc import Callable

from scipy import ndimage

from ldct_utils.models import classical

BLUR, MEDIAN, TV, UNSHARP = "blur, 3 pixels", "median, 3 × 3", "total variation", "unsharp masking"
FILTERS = (BLUR, MEDIAN, TV, UNSHARP)
TRUTH = "noise-free truth"  # no filter: what a score gives an image without any noise


def filters(pixel_mm: float = 0.75, tv_hu: float = 30.0) -> dict[str, Callable]:
    """``FILTERS``: functions of images (N, H, W), HU, that give images alike.

    Args: pixel_mm: side of a pixel. tv_hu: weight of total variation, HU.
    """
    sigma = (0, 1 / pixel_mm, 1 / pixel_mm)  # 1 mm, of what unsharp masking adds once more
    return {
        BLUR: lambda images: ndimage.gaussian_filter(images, (0, 3, 3), mode="nearest"),
        MEDIAN: lambda images: ndimage.median_filter(images, (1, 3, 3)),
        TV: classical.build("tv", weight_hu=tv_hu, eps=1e-3),
        # as ct.degradations has it, whose other damages lead to projections, of which a table of scores knows nothing
        UNSHARP: lambda images: images + (images - ndimage.gaussian_filter(images, sigma, mode="nearest")),
    }
