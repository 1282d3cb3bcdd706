"""Noise texture of slices whose pixel size nobody recorded: radial spectra over cycles a pixel, and their distances.

``nps`` has the same spectra over lp/mm. Both are taken in flat soft tissue.
"""

import numpy as np

from ldct_utils.ct import nps

CYCLES = np.arange(0.1, 0.46, 0.05)  # cycles a pixel, centres of rings .05 wide; under them anatomy is not flat
SIDE, MOST = 32, 40  # pixels of a region's side, regions a slice


def places(tissue_hu) -> list[list[tuple[int, int]]]:
    """Corners (row, column) of the flattest regions of each slice; an empty list where a slice has none.

    Args: tissue_hu: (S, H, W), the slices that say where flat soft tissue is, e.g. the NDCT.
    """
    return [nps.flat_regions(one, SIDE, most=MOST) for one in tissue_hu]


def curve(images, corners) -> np.ndarray:
    """Radial noise power spectrum at ``CYCLES`` of the regions of a stack of slices, HU^2 pixels^2.

    Args: images: (S, H, W), HU. corners: of ``places``.
    Raises: ValueError: where no slice has a flat region.
    """
    regions = [image[y : y + SIDE, x : x + SIDE] for image, found in zip(images, corners) for y, x in found]
    if not regions:
        raise ValueError(f"no flat soft tissue of {SIDE} x {SIDE} pixels in any slice")
    return nps.radial(nps.power_spectrum(np.stack(regions), 1.0, taper=True), 1.0, CYCLES)


def peak(spectrum) -> float:
    """Frequency at which a radial spectrum at ``CYCLES`` is highest, cycles a pixel, between the rings by a parabola.

    At the first or last ring it is that ring: then the peak lies there or beyond.
    """
    values = np.asarray(spectrum, np.float64)
    top = int(values.argmax())
    if not 0 < top < len(values) - 1:
        return float(CYCLES[top])
    left, middle, right = values[top - 1 : top + 2]
    bend = left - 2 * middle + right
    return float(CYCLES[top] + (CYCLES[1] - CYCLES[0]) * (0.5 * (left - right) / bend if bend else 0.0))


def distance_db(spectrum, reference) -> float:
    """Distance of two spectra in level and shape: RMS over the rings of 10 log10 of their ratio, dB; 0 if equal."""
    return float(np.sqrt(np.mean((10 * np.log10(np.asarray(spectrum) / np.asarray(reference))) ** 2)))


def shape_error(spectrum, reference) -> float:
    """RMS difference of the shapes of two spectra, each divided by its mean, relative to the reference's RMS."""
    one, wanted = (np.asarray(curve, np.float64) / np.mean(curve) for curve in (spectrum, reference))
    return float(np.sqrt(np.mean((one - wanted) ** 2) / np.mean(wanted**2)))
