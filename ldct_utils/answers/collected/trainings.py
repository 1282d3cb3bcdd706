"""Whom networks were trained on and how: the cohort (01), λ for one ψ (02), courses (03), simulated teachers (16)."""

from ldct_utils.answers.collected.spans import has
from ldct_utils.study.runs import named


def cohort(of) -> dict:
    """01: how many patients and slices, and whether the noise is right."""
    kept = ("patients", "test_patients", "slices", "checks_off", "ndct_noise_hu", "added_noise_hu")
    return {name: of[0].numbers[name] for name in kept} | {"source": of[0].params.get("source")}


def lambdas(of) -> dict:
    """02: how far λ for one ψ lies apart, by encoder: over all, over the levels of one network, and between networks,
    as the least and the most times the λ of the LDCT itself that a level needs."""
    found = {"psi": of[0].params["psi_target"], "spread": {}}
    for run in of:
        table = run.table("calibration")
        wide = table.pivot(index="layer", columns="f", values=run.params["psi_definition"])
        times = wide.div(wide["identity"], axis=0)
        found["spread"][run.numbers["encoder"]["context"]] = {
            "over_all": wide.max(axis=None) / wide.min(axis=None),
            "over_levels": (wide.max() / wide.min()).to_dict(),
            "times": {name: [times[name].min(), times[name].max()] for name in times if name != "identity"},
        }
    return found


def courses(of) -> dict:
    """03: RMSE on validation slices, HU, by updates, of each training; and that of the input, with which a network with
    a skip connection begins: its head starts at zero."""
    found, first = {}, []
    for name, run in zip(named(of), of):
        if not has(run, "history"):
            continue
        table = run.table("history")
        table = table[table["val_rmse_hu"].notna()]
        points = [[int(step), float(rmse)] for step, rmse in zip(table["step"], table["val_rmse_hu"])]
        found[name] = points
        skips = run.params["network"] == "unet" and run.params["residual"] is not False  # None takes it where it can
        if skips and points and points[0][0] == 0:
            first.append(points[0][1])
    return {"input_rmse_hu": first[0] if first else None, "trainings": found}


def transfer(of) -> dict:
    """16: do simulated patients teach as well as a real CT?"""
    run, n = of[0], of[0].numbers
    arms = [_with_spans(dict(row)) for _, row in run.table("arms").iterrows()]
    for row in arms:
        of_arm = {name: n[name].get(row["trained on"]) for name in ("texture_db", "kept")}
        row |= {name: value for name, value in of_arm.items() if value is not None}
    kept = {name: n[name] for name in ("headline", "verdict", "margin_db", "networks")}
    claims = run.table("comparisons").drop(columns="holds").to_dict("records") if has(run, "comparisons") else []
    return kept | {"arms": arms, "claims": claims}


def _with_spans(row: dict) -> dict:
    """A row whose columns ``gain in dB, <test>`` are text with their interval; empty where nobody was tested."""
    for column in [name for name in row if name.startswith("gain in dB, ")]:
        value, (low, high) = row[column], (row.pop(column.replace("gain in dB", end)) for end in ("low", "high"))
        within = "–" if low != low else f"[{low:.2f}, {high:.2f}]"
        row[column] = "" if value != value else f"{value:.2f} {within}"
    return row
