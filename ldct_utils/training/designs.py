"""Designs: what was chosen about a training except its seed, and what to call it in tables and figures (a method)."""

import itertools
import math
from pathlib import PurePath

import pandas as pd

from ldct_utils.metrics import info
from ldct_utils.models import encoders
from ldct_utils.study import runs
from ldct_utils.training import psi as influence

# parameters that do not make a method: bookkeeping, and what names the encoder or the loss already
ASIDE = {
    *("study", "run_name", "seed", "device", "threads", "log_every", "eval_every", "checkpoint_every", "save_every_s"),
    *("val_patches", "val_slices", "loss", "layer", "context", "arch", "lam", "psi_target", "psi_on", "data_root"),
    *("test_source", "test_root", "level", "width", "method"),  # the method of training stands in the place of the loss
}
WEIGHTS = {".pth", ".pt", ".safetensors"}  # suffixes that a name can do without


def design(run) -> dict:
    """Loss, layer, context and psi of a finished 03_train run; layer and context only with a perceptual term.

    An adversarial method stands in the place of the loss, ``published`` in that of a published network which was only
    tested. psi is the target that lambda was set for, which holds **at the start** of training; for a lambda that was
    given by hand it is the psi measured there. psi = 0 is MSE alone, psi = 1 the perceptual term alone. What psi and
    the gradient share were at start, half and end stands beside it (``psi.reached``). The context ``medical`` is
    called so only if the encoder passed the test of 07_medical_encoder (``encoders.context_name``).
    """
    given = {"loss": run.folder.parent.name} | dict.fromkeys(("layer", "context", "lam", "psi_target")) | run.params
    loss, lam, target = (given[name] for name in ("loss", "lam", "psi_target"))
    if given.get("method", "supervised") != "supervised":
        loss = given["method"]
    if given.get("init") == "hub" and given.get("max_steps") == 0:
        loss = "published"
    if loss == "vgg" and lam is None:
        loss = {0.0: "mse", 1.0: "vgg_only"}.get(target, loss)
    row = {"loss": loss, "layer": None, "context": None, "psi": {"mse": 0.0, "vgg_only": 1.0}.get(loss), "lam": None}
    row |= {"held": loss == "vgg" and given.get("psi_on") == "hold"} | dict.fromkeys(influence.REACHED)
    if "vgg" not in loss:
        return row
    context = str(PurePath(str(given["context"])))
    row |= {"layer": given["layer"], "context": encoders.context_name(context, run.numbers.get("encoder"))}
    if given.get("arch", "vgg19") != "vgg19":
        row["layer"] = f"{given['arch']} {given['layer']}"
    row |= influence.reached(run.table("history"), given.get("psi_definition") or "ratio_of_sums")
    if loss == "vgg" and lam is None:
        row["psi"] = target
    elif loss == "vgg":
        row |= {"psi": round(row["psi_start"], 3), "lam": lam}
    return row


def called(run) -> str:
    """The method of one finished 03_train run in words (``name_of``)."""
    return name_of(next(pd.DataFrame([design(run)]).itertuples()))


def brief(names, most: int = 20) -> dict[str, str]:
    """{name: what to call it in a figure}, where some names are paths, of weights or of runs.

    The last part of a path, without the suffix of weights and cut in its middle to ``most`` characters; more only where
    two names would read the same. What is no path stays as it is.
    """

    def form(path, depth, length):
        end = PurePath(*PurePath(path).parts[-depth:])
        text = str(end.with_suffix("") if end.suffix in WEIGHTS else end)
        return text if len(text) <= length else f"{text[: length // 2]}…{text[1 - length // 2 :]}"

    names = list(dict.fromkeys(names))
    paths = [n for n in names if PurePath(n).suffix in WEIGHTS or ("/" in n and n[0] not in "{[")]
    depths = range(1, 1 + max((len(PurePath(n).parts) for n in paths), default=0))
    tried = (
        {n: form(n, depth, length) if n in paths else n for n in names}
        for length, depth in itertools.product((most, 2 * most, 4 * most), depths)
    )
    return next((found for found in tried if len({*found.values()}) == len(names)), {n: n for n in names})


def name_of(row, called=None) -> str:
    """A method in words, e.g. ``vgg · block3_conv2 · imagenet · ψ 95 % at start``, from a row of designs.

    Psi is named with the moment at which it was so: with a fixed lambda it moves while training.

    Args: called: {context: what to call it}, ``brief`` of all that it stands beside; None for a row alone.
    """
    context = row.context if pd.isna(row.context) else (called or brief([row.context]))[row.context]
    parts = [row.loss, *(part for part in (row.layer, context) if pd.notna(part))]
    if pd.notna(row.lam):
        parts.append(f"λ {row.lam:g}" + " held" * row.held)
    elif row.loss == "vgg":
        parts.append(set_to(row.psi, row.held))
    return " · ".join(parts)


def set_to(psi, held=False) -> str:
    """The psi that a training was set to, in words: ``ψ 95 % at start`` for a fixed lambda, else ``ψ 95 % held``.

    Psi 0 and 1 have one term only and cannot move: ``ψ 100 %``.
    """
    moves = "" if psi in (0, 1) else " held" if held else " at start"
    return f"ψ {100 * psi:.4g} %{moves}"


def spread(settings: dict) -> dict[str, str]:
    """Settings as text; of a mapping, such as 03_train's ``settings``, each entry under its own name, or under both
    where that means something else already."""
    texts = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            texts |= {f"{name} {k}" if k in settings or k in ASIDE else k: str(v) for k, v in value.items()}
        else:
            texts[name] = str(value)
    return texts


def listed(chosen) -> tuple[list, pd.DataFrame, list[str]]:
    """Runs of 03_train as methods and seeds.

    Args: chosen: finished runs, from ``runs.select``.
    Returns: the runs without those that repeat a method and a seed; a table with a row for each of them (run, by name,
        design, seed, method, and the settings that differ between runs); the names of these settings. A path stands in
        full in its column and briefly (``brief``) in the name of the method.
    """
    names = runs.named(chosen)
    table = pd.DataFrame([{"run": n, **design(f), "seed": f.params.get("seed", 0)} for n, f in zip(names, chosen)])
    called = brief(table["context"].dropna())
    table["method"] = [name_of(row, called) for row in table.itertuples()]
    settings = pd.DataFrame([spread({k: v for k, v in f.params.items() if k not in ASIDE}) for f in chosen]).fillna("–")
    varying = [name for name in settings if settings[name].nunique(dropna=False) > 1]
    for name in varying:  # a setting names a method only where methods would have the same name without it
        several = settings[name].groupby(table["method"]).transform("nunique") > 1
        several &= ~settings[name].isin(["None", "–"])  # what was left as it is needs no word
        table.loc[several, "method"] += " · " + name + " " + settings[name].map(brief(settings[name]))[several]
    repeated = table.duplicated(["method", "seed"])
    table = pd.concat([table, settings[varying]], axis=1)[~repeated].reset_index(drop=True)
    return [one for one, again in zip(chosen, repeated) if not again], table, varying


def labels(networks, methods) -> list[str]:
    """What to call each training where networks are compared: by its network, by its method where it has several."""
    several = pd.Series(list(methods)).groupby(pd.Series(list(networks))).nunique()
    return [network if several[network] == 1 else method for network, method in zip(networks, methods)]


# When a network was published, by the papers that its file in models/networks cites. The U-Net's design is that of
# Ronneberger et al. (MICCAI 2015), whoever trained it since.
YEARS = {
    "unet": 2015, "cnn10": 2017, "redcnn": 2017, "wganvgg": 2018, "resnet": 2018, "qae": 2020, "transct": 2021,
    "dugan": 2022, "bilateral": 2022, "denomamba": 2024,
}  # fmt: skip


def by_age(labels, networks, classical, years) -> list[str]:
    """Methods, oldest first: those without training, then networks by year, then those whose year nobody gave.

    Args: labels, networks: of each training. classical: methods without training. years: {network: year}, beside and
        before those of ``YEARS``.
    """
    known, network_of = YEARS | dict(years), dict(zip(labels, networks))
    return [*classical, *sorted(network_of, key=lambda label: known.get(network_of[label], math.inf))]


def published(networks, years) -> list[str]:
    """The year in which each network was published, as ``by_age`` takes it; a dash where nobody gave one."""
    known = YEARS | dict(years)
    return [str(known.get(network, "–")) for network in networks]


# Denoisers and encoders as text names them.
NAMES = {
    "mse": "MSE", "l1": "L1", "charbonnier": "Charbonnier", "vgg": "MSE + VGG", "vgg_only": "VGG alone",
    "mean_srmse": "MeanSRMSE", "unet": "U-Net", "cnn10": "CNN-10", "redcnn": "RED-CNN", "wganvgg": "WGAN-VGG",
    "resnet": "ResNet", "qae": "QAE", "dugan": "DU-GAN", "transct": "TransCT", "bilateral": "bilateral filter network",
    "tv": "total variation", "nlm": "non-local means", "bm3d": "BM3D", "vgg19": "VGG-19", "vgg16": "VGG-16",
    "resnet50": "ResNet-50", "efficientnet_lite0": "EfficientNet-Lite0", "autoencoder": "autoencoder",
}  # fmt: skip


def spoken(method):
    """A method as text names it, e.g. ``MSE + VGG (block3_conv2, random, ψ 95 % at start)``."""
    loss, *parts = method.split(" · ")
    return NAMES.get(loss, loss) + f" ({', '.join(parts)})" * bool(parts)


def worded(table, **more) -> pd.DataFrame:
    """A table for a reader: methods as ``spoken``, metrics by their labels.

    Args: table: columns method, first, other, base (methods) and metric are looked for. more: {column: {value: word}}.
    """
    table = table.copy()
    for column in {"method", "first", "other", "base"} & set(table):
        table[column] = table[column].map(spoken)
    if "metric" in table:
        table["metric"] = [info(name).label for name in table["metric"]]
    return table.assign(**{name: table[name].map(words) for name, words in more.items() if name in table})


def plain(table, reference: str | None = None) -> str:
    """The method that others are compared with: the one that is named, else the only one with MSE alone.

    Args: table: from ``listed``.
    Raises: ValueError: for a name that is none of the methods, or several or no methods with MSE alone.
    """
    alone = list(table["method"][table["loss"] == "mse"].unique())
    if reference is None and len(alone) != 1:
        raise ValueError(f"runs hold {len(alone)} methods with MSE alone ({'; '.join(alone)}): name one as `reference`")
    if (base := reference or alone[0]) not in set(table["method"]):
        raise ValueError(f"no run of the method {base!r}; there are {'; '.join(table['method'].unique())}")
    return base


def whose(effects) -> pd.Series:
    """Whose line each effect belongs to, for a reader: the encoder's context, and the network where there are several.

    Args: effects: columns context and, for several networks, network (of ``arms``).
    """
    context = effects["context"].map(brief(effects["context"]))
    return effects["network"] + ", " + context if "network" in effects else context


def cells_said(table) -> str:
    """Which contexts and layers there are, e.g. ``random/block3_conv2 and random/block5_conv4``; ``none`` for none."""
    briefly = brief(table["context"])
    found = list(dict.fromkeys(f"{briefly[c]}/{layer}" for c, layer in zip(table["context"], table["layer"])))
    return " and ".join(filter(None, [", ".join(found[:-1]), *found[-1:]])) or "none"


def arms(table, varying) -> tuple[pd.DataFrame, list[str]]:
    """Methods with a perceptual term, one for every network, context, layer, psi and lambda, and what to set each
    against: the MSE arm of its own network. A psi that is held is another method than a lambda that stays.

    Of several methods in one place, or several MSE arms of a network (say, one without the residual), that with the
    network's commonest settings speaks for it.

    Args: table, varying: from ``listed``.
    Returns: the arms, a row each, with what psi and the gradient share reached in the mean over their seeds, a column
        at, the psi that was set in words, a column base, "LDCT" where the network has no MSE arm, and a column network
        only where the arms are of several; the names of methods that were left out.
    """
    table = table.assign(of=table["network"] if "network" in varying else "")
    commonest = {name: table.groupby("of")[name].transform(lambda column: column.mode()[0]) for name in varying}
    usual = sum((table[name] == often).astype(int) for name, often in commonest.items()) + 0 * table["held"]
    ordered = table.loc[usual.sort_values(ascending=False, kind="stable").index].drop_duplicates("method")
    perceptual = ordered[ordered["loss"].isin(["vgg", "vgg_only"])]
    kept = perceptual.drop_duplicates(["of", "context", "layer", "psi", "lam", "held"]).sort_index()
    means = table.astype(dict.fromkeys(influence.REACHED, float)).groupby("method")[list(influence.REACHED)].mean()
    kept = kept.drop(columns=means.columns).join(means, on="method")
    kept["at"] = [set_to(psi, held) for psi, held in zip(kept["psi"], kept["held"])]
    bases = ordered[ordered["loss"] == "mse"].drop_duplicates("of").set_index("of")["method"]
    kept = kept.assign(base=[bases.get(network, "LDCT") for network in kept["of"]])
    told = ["of"] if kept["of"].nunique() > 1 else ["of", "network"]
    return kept.drop(columns=told, errors="ignore"), sorted(set(perceptual["method"]) - set(kept["method"]))


def check_trained(chosen, kernel: str, dose: float | None = None):
    """Refuse runs of 03_train that were trained on another reconstruction kernel, or, if it is given, at another dose.

    Raises: ValueError.
    """
    if kernels := {one.params.get("kernel", kernel) for one in chosen} - {kernel}:
        raise ValueError(
            f"the runs were trained on kernel {', '.join(sorted(kernels))}: set kernel, or choose other runs"
        )
    if dose is not None and (doses := {one.params.get("dose", dose) for one in chosen} - {dose}):
        raise ValueError(f"the runs were trained at dose {', '.join(map(str, sorted(doses)))}: set dose to theirs")


def trainings(table) -> list[str]:
    """The trainings of ``listed`` as text names them, with their seed where a method has several."""
    several = table["method"].duplicated(keep=False)
    return [
        spoken(method) + f", seed {seed}" * bool(more)
        for method, seed, more in zip(table["method"], table["seed"], several)
    ]


def network(method: str) -> str:
    """A method's network as text names it: ``MSE network``, ``MSE + VGG network (block3_conv2, ψ 95 % at start)``."""
    loss, bracket, rest = spoken(method).partition(" (")
    return f"{loss} network{bracket}{rest}"
