"""Do networks save dose, and do they hide lesions? The dose by scores; by computed readers in ``readers``."""

from ldct_utils.answers import said
from ldct_utils.answers.five import readers
from ldct_utils.answers.words import FILTER, OBSERVERS, called, grouped, listed, percent, share
from ldct_utils.ct.intensity import FAINT_HU
from ldct_utils.models import textbook
from ldct_utils.report.sentences import capital


def answer(blocks) -> tuple[list, list]:
    words, more = [], []
    if "dose" in blocks:
        words, crops = scored_as(blocks)
        more.append(crops)
    if "observers" in blocks:
        believed = readers.trusted(blocks)
        short, each = readers.at_best(blocks["observers"], believed)
        words += short
        detail = readers.in_detail(blocks["observers"], believed)
        more.append(each + readers.testified(believed) + detail + readers.elsewhere(blocks))
    if "invariances" in blocks:
        short, rest = hiding(blocks)
        words += [short, *kept_of_faint(blocks.get("details", {}))]
        more.append(rest + kept_of_own(blocks.get("kept", {})))
    return words, ["\n\n".join(" ".join(part) for part in more if part)]


def scored_as(blocks) -> tuple[list, list]:
    """The dose at which scores put cleaned images, and ideal readers where no others were asked; the rest is detail."""
    n, low = blocks["dose"], percent(blocks["dose"]["low_dose"])
    method = "mse" if "mse" in n["methods"] else next(iter(n["methods"]))
    worth = n["methods"][method].get("worth", {})
    told = {name: "more than 100 %" if s["value"] is None else share(s) for name, s in worth.items()}
    scored = {OBSERVERS.get(m, m): told[m] for m in told if m.endswith(("↓", "↑"))}
    seen = {f"a {OBSERVERS.get(m, m)}": told[m] for m in ("d' (CHO)", "d' (NPW)") if m in told}
    crops = [f"In crops of livers the {called(method)} network's image is as good as one at {grouped(scored, 'by')}."]
    crops = crops if scored else []
    filtered = {m: "more than 100 %" if s["value"] is None else share(s) for m, s in n.get("filters", {}).items()}
    if beside := {OBSERVERS.get(m, m): filtered[m] for m in filtered if m.endswith(("↓", "↑"))}:
        crops.append(
            f"There the best of {len(textbook.FILTERS)} plain filters is as good as one at {grouped(beside, 'by')}."
        )
    if whole := whole_slices(blocks):
        made = f"the MSE network makes a slice at {low} of the dose as good as an uncleaned one at {share(whole)}"
        words = [f"By RMSE from the noise-free truth, {made}."]
        if plain := filter_dose(blocks):
            words.append(f"{capital(plain['name'])}, a plain filter, reaches {share(plain)}.")
    else:
        words, crops = crops, []
    if seen and "observers" not in blocks:
        words.append(f"Faint lesions are seen as well as at {grouped(seen, 'by')}, where {low} is no gain.")
    return words, crops


def whole_slices(blocks) -> dict | None:
    """The dose of an uncleaned slice with the RMSE of the MSE network's, over whole slices: noise falls as the root of
    the dose, so that a gain of g dB is a dose 10^(g / 10) times as high. None where 14 did not ask."""
    gain = blocks.get("tradeoff", {}).get("mse_gain_db")
    if not gain or "dose" not in blocks:
        return None
    return as_dose(blocks["dose"]["low_dose"], gain)


def filter_dose(blocks) -> dict | None:
    """The same for the plain filter that gains most, at its best strength, with its name."""
    gain = dict(blocks.get("tradeoff", {}).get("filter_gain_db") or {})
    if not gain or "dose" not in blocks:
        return None
    return {"name": gain.pop("name")} | as_dose(blocks["dose"]["low_dose"], gain)


def as_dose(low: float, gain_db: dict) -> dict:
    return {end: low * 10 ** (value / 10) for end, value in gain_db.items()}


def whole_by_network(blocks) -> dict[str, dict]:
    """``whole_slices`` of every network of 14, by its name in words."""
    mse = whole_slices(blocks)
    if not mse:
        return {}
    gains = {row["loss"]: row["gain_db"] for row in blocks["tradeoff"].get("rows", []) if "gain_db" in row}
    plain = {FILTER: found} if (found := filter_dose(blocks)) else {}
    return {"MSE": mse} | {name: as_dose(blocks["dose"]["low_dose"], gain) for name, gain in gains.items()} | plain


def gap(saved, low: float) -> str:
    """What the picture of doses shows of networks. Args: saved: of ``pictures.doses``. low: dose of their images."""
    saved = saved[saved["method"] != FILTER]
    scores = saved["judge"].str.endswith(("↓", "↑"))
    told = []
    for who, part in (("scores", saved["dose"][scores]), ("computed readers", saved["dose"][~scores])):
        ends = ["more than 100 %" if end > 1 else percent(end) for end in (part.min(), part.max())] if len(part) else []
        put = f" put networks' images of {percent(low)} of the dose" if not told else ""
        told += [f"{who}{put} at {' to '.join(dict.fromkeys(ends))}"] if ends else []
    return f"{capital(listed(told))}."


def hiding(blocks) -> tuple[str, list]:
    """What is known of lesions that a network hides."""
    told = said.hidden(blocks)
    if told.startswith("Not known. "):
        hardly = ", and could hardly have found one" * ("could hardly find" in told)
        short = f"Whether networks hide lesions is not known: our search for a hidden lesion found none{hardly}."
        return short, [told.removeprefix("Not known. ")]
    return f"Do they hide lesions? {told}", []


def hides(blocks) -> bool:
    """Whether a hidden lesion was found, so that there is one to be shown."""
    rows = blocks.get("invariances", {}).get("rows", [])
    return any(said.beyond_chance(row[way]) for row in rows for way in ("search", "aimed") if way in row)


def kept_of_faint(planted: dict) -> list[str]:
    """What the MSE network leaves of faint lesions. Args: planted: of ``collected.structures.details``."""
    if "mse" not in planted.get("kept", {}):
        return []
    told = f"Of planted faint lesions the MSE network keeps {share(planted['kept']['mse'])} of the contrast"
    by_lesion = planted.get("kept_by_lesion", {}).get("mse", [])
    if len(by_lesion) > 1:
        told += f", and of the smallest (radius {by_lesion[0]['radius_mm']:g} mm) {share(by_lesion[0])}"
    return [f"{told}."]


def kept_of_own(own: dict) -> list[str]:
    """The same of the test patients' own lesions. Args: own: of ``collected.losses.kept``."""
    faint = [row["faint"] for row in own.get("rows", []) if row["method"] == "mse" and "faint" in row]
    lesions = f"the test patients' own lesions under {FAINT_HU:.0f} HU"
    return [f"Of {lesions} the MSE network keeps {share(faint[0])} of the contrast."] if faint else []
