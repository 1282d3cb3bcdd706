"""What denoisers hide (05), whether models that draw see it (05a), and who finds what is removed or invented (09a)."""

import pandas as pd

from ldct_utils.answers.collected.spans import has, span, where


def invariances(of) -> dict:
    """05: did a search change and hide a lesion, how many could it, and what do the networks keep of contrast?"""
    rows = []
    for run in of:
        n, row = run.numbers, {"method": run.numbers["method"], "network": run.numbers["network"]}
        counts = run.table("lesion_counts").set_index("method") if has(run, "lesion_counts") else pd.DataFrame()
        for way in ("search", "aimed"):
            if way in counts.index:
                row[way] = {name: int(counts[name][way]) for name in ("tested", "changed", "hidden")}
        if has(run, "contrast_kept"):
            (whole,) = where(run.table("contrast_kept"), lesions="all").to_dict("records")
            row["kept"] = span(whole["contrast kept"], whole["low"], whole["high"])
        row |= {name: float(n[name]) for name in ("search_in_over_null", "search_out_over_null") if n.get(name)}
        row |= {"patients": n["patients"], "alpha": run.params["alpha"], "iterations": run.params["iterations"]}
        if n.get("within_reach") is not None:  # lesions that the search could change at all, of how many
            row |= {"within_reach": int(n["within_reach"]), "lesions": int(n["lesions"])}
        rows.append(row)
    return {"rows": rows}


def drawn(of) -> dict:
    """05a: do models that draw tell an eraser from the identity? Rows are empty where no run asked."""
    return {"rows": [row for run in of for row in run.numbers.get("controls_on_ct", [])]}


def changes(of) -> dict:
    """09a: false alarms of three tests on a perfect denoiser, and how many planted changes are found."""
    run, n = of[0], of[0].numbers
    calibration, found = run.table("calibration"), run.table("detector_table")
    perfect = where(calibration, denoiser="perfect")  # which knows the truth, so that a real scan has none
    perfect = perfect[perfect["segments of"].isin(perfect["segments of"][:1])]
    alarms = dict(zip(perfect["test"], perfect["p < .05"].astype(float)))
    part = found[found["segments of"].isin(["all", "without the NDCT"]) & (found["score"] == "this test")]
    simpler = {"naive z": "z without the noise's correlation", "change alone": "the change alone"}
    whole = found[(found["segments of"] == "all") & found["by"].isin(simpler)]
    others = {
        simpler[name]: dict(zip(rows["kind"], rows["found at 1 false mark"].astype(float)))
        for name, rows in whole.groupby("by", sort=False)
    }
    rows = [
        {"kind": r["kind"], "of": r["segments of"], "shown": r["shown"],
         "found": span(r["found at 1 false mark"], r["low"], r["high"])}
        for _, r in part.iterrows()
    ]  # fmt: skip
    suspicious = [
        {"method": r["method"], "a_slice": float(r["suspicious a slice"]), "lesion_free": float(r["lesion-free scans"])}
        for _, r in run.table("all_denoisers").iterrows()
    ]
    known = {"denoiser": n["denoiser"], "alarms": alarms, "found": rows, "suspicious": suspicious, "others": others}
    return known | {
        "by_patch": _by_patch(run.table("patch_detector_table")) if has(run, "patch_detector_table") else []
    }


def _by_patch(table) -> list[dict]:
    """What detectors find patch by patch at one false mark a slice, a row a detector: {kind: span}. Args: as stored."""
    return [
        {"detector": name, "found": {r["kind"]: span(r["found at 1 false mark"], r["low"], r["high"])
                                     for r in part.to_dict("records")}}
        for name, part in table[table["detector"].str.contains("sFRC|by patch")].groupby("detector", sort=False)
    ]  # fmt: skip
