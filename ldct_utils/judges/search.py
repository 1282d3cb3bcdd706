"""The invariance search (05) as a judge: are known lesions of one patient changed, and does the denoiser hide that?

It needs a gradient. A lesion counts as *changed* if the search altered its contrast by more than other scans do, and as
*hidden* if other scans explain what is left of that in the output. Nothing changed means that nothing was tested.
"""

from functools import partial

import numpy as np
import pandas as pd
import torch
from scipy import ndimage

from ldct_utils.ct import intensity, planted
from ldct_utils.invariance import distances, evidence
from ldct_utils.invariance.optimise import Search
from ldct_utils.judges import faulty

AIM_PX = 2.0  # SD of the blur after which changes of x are rewarded: those of anatomy's size
RING_PX = (2, 7)  # from a lesion's rim: where its surroundings begin and end


def searched(known, task, alpha: float, sigma_hu: float, lr: float, iterations: int, seed: int = 0,
             level: float = 0.05) -> dict:  # fmt: skip
    """What a search finds on a denoiser: lesions ``tested``, of these ``within_reach`` (less than the root of alpha is
    kept of their contrast), ``changed``, and ``hidden`` of the changed ones; RMS changes ``in_hu``, ``out_hu``.

    Args: known: ``faulty.Known`` with a gradient. task: ``subjects.Task`` of a patient with lesions, whose scans but
        the first are the null. alpha, sigma_hu, lr, iterations, seed: of ``optimise.Search``. level: p up to which a
        change counts; the least p is 1 / number of scans.
    Raises: ValueError: without a gradient, or with too few scans for a p of ``level``.
    """
    if len(task.scans) < 1 / level:
        raise ValueError(
            f"no p is as small as {level:g} with so few scans ({len(task.scans)}): take "
            f"{int(np.ceil(1 / level))} or more"
        )
    f, x = known.module(), task.scans[0]
    aimed = distances.build("mse", blur_px=AIM_PX)
    image = intensity.to_net(torch.from_numpy(x[None, None]))
    search = Search(f, image, distances.build("mse"), alpha, sigma_hu, lr, seed, distance_in=aimed)
    for _ in range(iterations):
        search.step()
    ends = search.measure()
    y = np.float32(intensity.from_net(search.x_inv.numpy())[0, 0])
    outputs = known(np.stack([x, y])), known(task.scans[1:])
    row = {"tested": 0, "within_reach": 0, "changed": 0, "hidden": 0, "in_hu": float(ends["in_hu"]),
           "out_hu": float(ends["out_hu"])}  # fmt: skip
    labels, count = ndimage.label(task.lesions)
    without = known((x - task.signal)[None])
    kept = planted.kept_by_lesion(without, outputs[0][:1], task.signal[None], labels[None])
    for number in range(1, count + 1):
        inside = labels == number
        near, far = (ndimage.binary_dilation(inside, iterations=n) for n in RING_PX)
        around = far & ~near & ~task.lesions
        if inside.sum() < evidence.SMALLEST or not around.any():
            continue
        p = []
        for changed, null in ((np.stack([x, y]), task.scans[1:]), outputs):
            before, after = evidence.contrast(changed, inside, around)
            p.append(evidence.p_value(after - before, evidence.contrast(null, inside, around) - before))
        row["tested"] += 1
        row["within_reach"] += int(kept[number] < np.sqrt(alpha))
        row["changed"] += int(p[0] <= level)
        row["hidden"] += int(p[0] <= level < p[1])
    return row


def network(name: str, module) -> faulty.Known:
    """A network as a denoiser that can be searched. Args: module: frozen, on the CPU, in the network range."""
    return faulty.Known(name, 1.0, True, lambda hu: intensity.from_net(module(intensity.to_net(hu[:, None])))[:, 0])


def of_all(subjects: list, faults, strengths, progress=iter, networks=(), keep=lambda name, make: make(),
           **search) -> pd.DataFrame:  # fmt: skip
    """Searches on every fault that has a gradient, on networks, and on the twins of all, for the patient whose crop has
    the most lesions. The honest denoiser is the twin of every fault that is laid over it, and is searched once.

    Args: subjects: of ``subjects.draw``. faults, strengths: of ``faulty``. progress: function of the searches that
        gives them back. networks: of ``network``. keep: function of a name and of a function that makes a table, gives
        that table, and may store it. search: alpha, sigma_hu, lr, iterations and seed, as for ``searched``.
    Returns: ``denoiser``, ``strength``, ``variant`` (``fault`` or ``twin``), and what ``searched`` returns.
    """
    with_lesions = [one for one in subjects if one.diseased and one.task is not None]
    one = max(with_lesions, key=lambda one: ndimage.label(one.task.lesions)[1])
    task = one.task
    patient = faulty.Patient(task.scans_truth, task.clean, task.touched, one.known.pixel_mm, (16, 16), one.known.seed)
    asked = [(name, "fault", faulty.build(name, s, patient)) for name in faults for s in strengths]
    asked += [(name, "twin", faulty.twin(name, s, patient)) for name in faults if name in faulty.FILTERS
              for s in strengths]  # fmt: skip
    asked += [("honest", "twin", faulty.build("identity", 0.0, patient))]
    for net in networks:
        alone = faulty.Known(net.name, net.strength, True, faulty.of_noise(net.apply, patient.truth))
        asked += [(net.name, "fault", net), (net.name, "twin", alone)]
    rows = []
    for name, variant, known in progress([each for each in asked if each[2].gradient]):
        about = {"denoiser": name, "strength": known.strength, "variant": variant}
        make = partial(_row, about, known, task, **search)
        rows.append(keep(f"search-{name}-{known.strength:g}-{variant}", make))
    return pd.concat(rows, ignore_index=True)


def _row(about, known, task, **search) -> pd.DataFrame:
    return pd.DataFrame([about | searched(known, task, **search)])
