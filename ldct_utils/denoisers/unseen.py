"""What a denoiser that passes gradients does not see: the study's own search, a short one, on simulated livers.

A change of the input is found that moves the output little (``invariance.optimise``), and held against the difference
between two scans of the same patient. ``05_invariances`` searches longer, and on lesions of a test set.
"""

import numpy as np
import pandas as pd

from ldct_utils.invariance import controls, distances, evidence, images, optimise
from ldct_utils.task_based import ensembles

PATIENTS, SCANS, CROP = 2, 20, 96  # whose crops are searched, repeated scans of each, pixels a side
PLACED = (ensembles.Lesion(8.0, 0.0),)  # where the blind spot of a control lies: a disc of 8 mm, as it is
ALPHA, START_HU, RATE, BLUR_PX = 0.1, 41.0, 1e-3, 2.0  # as in 05_invariances
MOST, FEWEST = 150, 60  # iterations of a search; after 60 the identity's input is back to 3 % of a repeated scan
SEARCHES = {"plain": None, "aimed": BLUR_PX}  # what is rewarded: any change, or one of the size of anatomy
IDENTITY, FILTER, BLIND = "control: identity", "control: mean filter", "control: blind spot"
CONTROLS = (IDENTITY, FILTER, BLIND)
BACKWARD = 3  # an iteration costs about three outputs
# What the searches of one denoiser take, in slices of 512 x 512 pixels.
SHARE = round(PATIENTS * len(SEARCHES) * MOST * BACKWARD * (CROP / 512) ** 2)


def searched(networks: dict, dose: float, iterations: int = MOST, seed=0, kernel="B30", device="cpu", progress=iter):
    """Changes of the input that searches found, and what they and repeated scans change: a row a search and patient.

    Controls stand beside the networks. The identity hides nothing, so its input must come back unchanged; a mean filter
    hides the frequencies that it removes, and an identity with a blind spot all that lies there.

    Args: networks: {name: module of (N, 1, H, W), network range}; none gives no row, of controls neither. dose: of the
        LDCT. iterations: of each search.
    Returns: name, search (``SEARCHES``), patient, in_hu and out_hu (RMS change of input and output), scan_in_hu and
        scan_out_hu (the same between two scans, in the mean). For ``aimed`` all four are of images after the blur.
    """
    columns = ["name", "search", "patient", "in_hu", "out_hu", "scan_in_hu", "scan_out_hu"]
    if not networks:
        return pd.DataFrame(columns=columns)
    rows = []
    for number, (body, crop, places) in enumerate(progress(ensembles.patients(PATIENTS, PLACED, CROP, seed))):
        made = ensembles.ensemble(body.absent_scene[0], body.pixel_mm, crop, realisations=SCANS + 1,
                                  seed=[seed, 3, number], kernel=kernel)  # fmt: skip
        x, *scans = made.images(False, dose).astype(np.float32)
        scans = np.stack(scans)
        spot = ensembles.disc(x.shape, places[0], PLACED[0].radius_mm / body.pixel_mm) > 0.5
        asked = networks | {IDENTITY: controls.Identity(), FILTER: controls.Blur(), BLIND: controls.Erase(spot)}
        for name, network in asked.items():
            f = images.denoiser(optimise.freeze(network, device), device, SCANS)
            for search, blur in SEARCHES.items():
                changed = _found(network, x, blur, iterations, [[seed, number]], device)
                ends = {"in": (x, changed, scans), "out": (f(x), f(changed), f(scans))}
                row = {"name": name, "search": search, "patient": number}
                for end, those in ends.items():
                    before, after, again = map(evidence.low_pass, those) if blur else those
                    row[f"{end}_hu"] = float(evidence.rmse_hu(after, before))
                    row[f"scan_{end}_hu"] = float(evidence.rmse_hu(again, before).mean())
                rows.append(row)
    return pd.DataFrame(rows, columns=columns)


def _found(network, x, blur, iterations, seeds, device):
    """The changed input (H, W), HU, that a search ends with."""
    rewarded = distances.build("mse", blur_px=blur) if blur else None
    search = optimise.Search(
        network, images.batch(x), distances.build("mse"), ALPHA, START_HU, RATE, seeds, device=device,
        distance_in=rewarded,
    )  # fmt: skip
    for _ in range(iterations):
        search.step()
    return images.in_hu(search.x_inv)[0].astype(np.float32)


def ratios(table: pd.DataFrame) -> pd.DataFrame:
    """By name and search: ``input`` and ``output`` change over that between two scans, means over patients.

    Args: table: of ``searched``.
    """
    shares = {"input": table["in_hu"] / table["scan_in_hu"], "output": table["out_hu"] / table["scan_out_hu"]}
    return table[["name", "search"]].assign(**shares).groupby(["name", "search"], sort=False).mean()
