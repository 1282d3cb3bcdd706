"""Methods: what was chosen about a trained run except its seed, and what to call it in tables and figures."""

import pandas as pd

# parameters that do not make a method: bookkeeping, and what names the encoder or the loss already
ASIDE = {
    *("study", "seed", "device", "threads", "log_every", "eval_every", "checkpoint_every", "save_every_s"),
    *("val_patches", "val_slices", "loss", "layer", "context", "arch", "lam", "psi_target", "psi_on", "data_root"),
    *("test_root", "method"),  # the method of training stands in the place of the loss
}


def design(run) -> dict:
    """Loss, layer, context and psi of a finished 03_train run; layer and context only with a perceptual term.

    An adversarial method stands in the place of the loss, ``published`` in that of a published network which was only
    tested. psi is the target that lambda was set for; for a lambda that was given by hand it is the psi measured over
    the first updates. psi = 0 is MSE alone, psi = 1 the perceptual term alone.
    """
    given = {"loss": run.folder.parent.name} | dict.fromkeys(("layer", "context", "lam", "psi_target")) | run.params
    loss, lam, target = (given[name] for name in ("loss", "lam", "psi_target"))
    if given.get("method", "supervised") != "supervised":
        loss = given["method"]
    if given.get("init") == "hub" and given.get("max_steps") == 0:
        loss = "published"
    if loss == "vgg" and lam is None:
        loss = {0.0: "mse", 1.0: "vgg_only"}.get(target, loss)
    found = {"loss": loss, "layer": None, "context": None, "psi": {"mse": 0.0, "vgg_only": 1.0}.get(loss), "lam": None}
    found["held"] = loss == "vgg" and given.get("psi_on") == "hold"
    if "vgg" not in loss:
        return found
    found |= {"layer": given["layer"], "context": str(given["context"]).rstrip("/").split("/")[-1]}
    if given.get("arch", "vgg19") != "vgg19":
        found["layer"] = f"{given['arch']} {given['layer']}"
    if loss == "vgg" and lam is None:
        found["psi"] = target
    elif loss == "vgg":
        measured = run.table("history")["psi_ratio_of_sums"].dropna().iloc[0]
        found |= {"psi": round(float(measured), 3), "lam": lam}
    return found


def name_of(row) -> str:
    """A method in words, e.g. ``vgg · block3_conv2 · imagenet · ψ 0.95``, from a row of designs."""
    strength = [f"λ {row.lam:g}"] if pd.notna(row.lam) else [f"ψ {row.psi:g}"] if row.loss == "vgg" else []
    strength = [part + " held" * row.held for part in strength]
    return " · ".join([row.loss, *(part for part in (row.layer, row.context) if pd.notna(part)), *strength])


def listed(chosen) -> tuple[list, pd.DataFrame, list[str]]:
    """Runs of 03_train as methods and seeds.

    Args: chosen: finished runs, from ``runs.select``.
    Returns: the runs without those that repeat a method and a seed; a table with a row for each of them (run id,
        design, seed, method, and the settings that differ between runs); the names of these settings.
    """
    table = pd.DataFrame([{"run": f.id, **design(f), "seed": f.params.get("seed", 0)} for f in chosen])
    table["method"] = [name_of(row) for row in table.itertuples()]
    settings = pd.DataFrame([{k: str(v) for k, v in f.params.items() if k not in ASIDE} for f in chosen]).fillna("–")
    varying = [name for name in settings if settings[name].nunique(dropna=False) > 1]
    for name in varying:  # a setting names a method only where methods would have the same name without it
        several = settings[name].groupby(table["method"]).transform("nunique") > 1
        several &= settings[name] != "None"  # what was left as it is needs no word
        table.loc[several, "method"] += " · " + name + " " + settings.loc[several, name]
    repeated = table.duplicated(["method", "seed"])
    table = pd.concat([table, settings[varying]], axis=1)[~repeated].reset_index(drop=True)
    return [one for one, again in zip(chosen, repeated) if not again], table, varying


def arms(table, varying) -> tuple[pd.DataFrame, str, list[str]]:
    """Methods with a perceptual term, one for every context, layer, psi and lambda, and what to set them against.

    Of several methods in one place, or several MSE arms (say, one without the residual), that with the commonest
    settings speaks for it; one that holds psi comes last.

    Args: table, varying: from ``listed``.
    Returns: the arms, a row each; the MSE arm, or "LDCT" where there is none; the names of methods that were left out.
    """
    usual = sum(((table[name] == table[name].mode()[0]).astype(int) for name in varying), -100 * table["held"])
    ordered = table.loc[usual.sort_values(ascending=False, kind="stable").index].drop_duplicates("method")
    perceptual = ordered[ordered["loss"].isin(["vgg", "vgg_only"])]
    kept = perceptual.drop_duplicates(["context", "layer", "psi", "lam"]).sort_index()
    base = next(iter(ordered["method"][ordered["loss"] == "mse"]), "LDCT")
    return kept, base, sorted(set(perceptual["method"]) - set(kept["method"]))
