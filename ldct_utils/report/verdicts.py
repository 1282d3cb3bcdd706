"""Sentences on verdicts: who is best by which scores, and who was not shown to differ from whom.

A verdict is ``better``, ``worse``, ``differs`` or ``not shown``; any other word is the reason why there is none. Where
two were not shown to differ, neither is called the first.
"""

import pandas as pd

from ldct_utils.report.sentences import bars, capital, gained, leaders, listed, number, percent, plural, some

DECIDED = {
    "better": "is better than", "worse": "is worse than", "differs": "differs from",
    "not shown": "was not shown to differ from",
}  # fmt: skip
INPUT, TRUTH = "LDCT", "noise-free truth"
OUTSIDE = -500.0  # HU; what is under it is air or lung


def of_firsts(judged, domain: str, says: dict, labels: dict) -> dict:
    """{reference: ``of_first``} of comparisons with the best method, in one domain."""
    of = judged[judged["domain"] == domain].groupby("reference", sort=False)
    return {reference: of_first(part, says, labels) for reference, part in of}


def of_first(judged, says: dict, labels: dict) -> dict:
    """{score: (who has the best mean, {other: verdict on the two})}, in words.

    Args: judged: columns metric, first, other, verdict. says: {method: its words}. labels: {metric: its words}.
    """
    found = {}
    for (metric, first), part in judged.groupby(["metric", "first"], sort=False):
        found[labels[metric]] = says[first], dict(zip(part["other"].map(says), part["verdict"]))
    return {label: found[label] for label in labels.values() if label in found}


def of_newest(newer, firsts: dict, unfinished, says: dict, labels: dict) -> dict:
    """``of_first`` of methods in the order of their years: the first against the best before it and those after it.

    Args:
        newer: a row a metric and method: metric, method, best before, verdict; of one anatomy. firsts: {metric: the
            method with the best mean}. unfinished: methods that get no verdict. says: {method: words}. labels: {metric:
            words}.
    """
    found, turned = {}, {"better": "worse", "worse": "better"}
    for metric, first in firsts.items():
        part = newer[(newer["metric"] == metric) & newer["best before"].notna()]
        own, later = part[part["method"] == first], part[part["best before"] == first]
        later = later[~later["method"].isin(unfinished)]
        others = dict(zip(own["best before"].map(says), own["verdict"]))
        others |= {says[m]: turned.get(v, v) for m, v in zip(later["method"], later["verdict"])}
        found[labels[metric]] = says[first], others
    return found


def _whom(names, groups: dict) -> str:
    """Methods as the others of a comparison; a group that is there as a whole is counted."""
    told, names = [], list(names)
    for words, members in groups.items():
        if len(members) > 1 and set(members) <= set(names):
            told.append(f"the {len(members)} {words}")
            names = [name for name in names if name not in members]
    names = sorted(names, key=lambda name: name != INPUT)
    return listed([f"the {name}" if name == INPUT else name for name in names] + told, most=4)


def best(found: dict, unjudged=()) -> str:
    """Who is shown to be best by which scores, and by which scores nobody is.

    Args: found: from ``of_first``. unjudged: who got no verdict, in words.
    """
    aside = listed(unjudged, "")
    aside = f" ({aside} got no verdict)" if aside else ""
    if not found:
        return "Nothing was compared."
    if all(set(others) <= {INPUT} for _, others in found.values()) and len({who for who, _ in found.values()}) == 1:
        return f"{next(iter(found.values()))[0]} is the only method."
    sure, tied = {}, {}
    for score, (first, others) in found.items():
        if set(others.values()) == {"better"}:
            sure[score] = first
        else:
            ties = tuple(name for name, verdict in others.items() if verdict in DECIDED and verdict != "better")
            tied.setdefault((first, ties), []).append(score)
    missing = listed(score for scores in tied.values() for score in scores)
    said = leaders(sure).replace(" is first by ", " is best by ", 1) if sure else ""
    if not tied:
        return f"{said}{aside}."
    if sure:
        return f"{said}; by {missing} no best was shown{aside}."
    ((first, ties),) = tied if len(tied) == 1 else ((None, ()),)
    why = f": {first} leads and was not shown to differ from {_whom(ties, {})}" if ties else ""
    return f"By {missing} no best was shown{why}{aside}."


def of_filters(judged, reference: str, labels: dict) -> str:
    """Which filters are better than the network with the best mean, or not shown to be worse, by which scores.

    Args: judged: of ``comparison.beside_known``. labels: {metric: its words}.
    """
    part = judged[judged["reference"] == reference]
    part = part[part["other"] != TRUTH]  # which is no filter
    if part.empty:
        return "No filters stand beside them."
    if not part["verdict"].isin(DECIDED).any():
        return f"The filters below were not judged ({part['verdict'].iloc[0]})."
    said = []
    for verdict, words in {"worse": "Shown to be better than", "not shown": "Not shown to be worse than"}.items():
        whose = part[part["verdict"] == verdict].groupby("other", sort=False)["metric"]
        told = "; ".join(f"{name} by {listed(metrics.map(labels))}" for name, metrics in whose)
        said += [f"{words} the best network: {told}."] if told else []
    return " ".join(said) or "The best network is shown to be better than each of the filters below."


def beside(found: dict, where: str = "", groups: dict | None = None) -> str:
    """How the first by each score stands to the others, told once for scores that say the same.

    Args:
        found: from ``of_first``. where: follows the scores, e.g. `` against the NDCT``.
        groups: {words: names} that are counted where they stand on one side as a whole.
    """
    reasons = list(dict.fromkeys(verdict for _, others in found.values() for verdict in others.values()))
    if not reasons:
        return "There was nothing to compare."
    if not set(reasons) & set(DECIDED):
        return f"No comparison could be judged{where} ({', '.join(reasons)})."
    alike = {}
    for score, (first, others) in found.items():
        sides = {}
        for other, verdict in others.items():
            sides.setdefault(verdict, []).append(other)
        ordered = sorted(sides, key=lambda one: [*DECIDED, one].index(one))
        whom = {one: _whom(sides[one], groups or {}) for one in ordered}
        parts = [f"{DECIDED[one]} {whom[one]}" if one in DECIDED else f"could not be judged against {whom[one]} ({one})"
                 for one in ordered]  # fmt: skip
        alike.setdefault(f"{first} {listed(parts)}", []).append(score)
    said = "; ".join(f"by {listed(scores)}{where} {words}" for words, scores in alike.items())
    return f"{capital(said)}."


def newer(table, says: dict, against: str) -> tuple[str, str]:
    """How newer networks stand to the best older method: the finding, and what was not shown or not judged.

    Args:
        table: a row a network and score: method, best before, verdict; oldest network first. says: {method: words}.
        against: what is scored against.
    """
    told, aside, undecided, compared = [], [], 0, 0
    for method, part in table.groupby("method", sort=False):
        known = part[part["verdict"].isin(list(DECIDED))]
        if known.empty:
            aside.append(f"{says[method]} got no verdict ({', '.join(dict.fromkeys(part['verdict']))})")
            continue
        rivals, count = known["best before"].unique(), len(known)
        rival = says[rivals[0]] if len(rivals) == 1 else "the best older method"
        rival = f"the {rival}" if rival == INPUT else rival
        undecided, compared = undecided + int((known["verdict"] == "not shown").sum()), compared + count
        ways = [(way, int((known["verdict"] == way).sum())) for way in ("better", "worse")]
        parts = [f"{way} than {rival} by {some(n, count, 'score')}" for way, n in ways if n]
        neither = f"not shown to differ from {rival} by {some(count, count, 'score')}"
        told.append(f"{says[method]} was {listed(parts, neither)}")
    if undecided:
        of = plural(compared, "comparison")
        aside.insert(0, f"{undecided} of {of} of networks did not show a difference")
    reading = f"{listed(aside)}." if aside else ""
    if not told:
        return "No network could be judged." if aside else "There was no network to compare.", reading
    return f"Against the {against} {'; '.join(told)}.", reading


def gained_most(table, says: dict, what: str, unit: str, where: str) -> str:
    """Who gains most, where the range of its trainings does not meet that of others; else all who may.

    Args:
        table: method, gain_db, low_db, high_db (lowest and highest training), seeds; the largest gain first.
        says: {method: words}. where: starts the sentence, e.g. ``On one real CT``.
    """
    top, known = table.iloc[0], (table["seeds"] > 1).all()
    if len(table) == 1 or top["gain_db"] <= 0:
        if len(table) == 1:
            change = "improves" if top["gain_db"] > 0 else "does not improve"
            return f"{where} {says[top['method']]} {change} {what} ({number(top['gain_db'], 2, unit, sign=True)})."
        return f"{where} {gained(says[top['method']], top['gain_db'], what, unit)}."
    if not known:
        most = number(top["gain_db"], 2, unit)
        return (
            f"{where} {says[top['method']]} has the largest gain in {what}, {most}; one training does not show a first."
        )
    level = table[table["high_db"] >= top["low_db"]]
    if len(level) == 1:
        return f"{where} {gained(says[top['method']], top['gain_db'], what, unit)}."
    span = " to ".join(dict.fromkeys(number(v, 2) for v in (level["gain_db"].min(), level["gain_db"].max())))
    if len(level) == len(table):
        return f"{where} no network was shown to gain most in {what}: they gain {span} {unit}."
    return (
        f"{where} {_whom(level['method'].map(says), {})} gain most in {what}, {span} {unit}, and their ranges overlap."
    )


def in_organs(table) -> tuple[pd.DataFrame, str, str]:
    """Whether networks have less error than the LDCT in each organ of a real CT.

    Args: table: method and RMSE, HU, a column an organ; its first row is the LDCT's (``transfer.by_organ``).
    Returns: the table, what it shows, and how to read it.
    """
    reading = "RMSE, HU, over all voxels of an organ in the slices, against the scan's NDCT; means over trainings. One "
    reading += "patient: no interval and no test."
    errors = table.drop(columns="method").rename(columns=lambda head: head.removesuffix(", HU"))
    if errors.columns.empty:
        return table, "No organ is labelled in the real CT.", reading
    ldct, networks = errors.iloc[0], errors.iloc[1:]
    less, gain = (networks < ldct).all(), 1 - networks.mean() / ldct
    where = some(less.sum(), len(less), "labelled organ")
    if len(less) > 1:
        least = f"; the error falls least in the {gain.idxmin()} ({percent(gain.min())})"
        where += least if less.all() else f"; not in {listed([f'the {organ}' for organ in less.index[~less]])}"
    who = "every network has" if len(networks) > 1 else "the network has"
    return table, f"On one real CT {who} less error than the LDCT in {where}.", reading


def kept(table, says: dict, groups: dict | None = None, what: str = "a lesion's contrast") -> str:
    """What networks keep; several are told apart only where their intervals do not meet that of the least.

    Args: table: method, kept, low, high, in %, the most first. says, groups: as of ``beside``.
    """
    names, shares = table["method"].map(says), [f"{value:.0f} %" for value in table["kept"]]
    if len(table) == 1:
        return f"{names.iloc[0]} keeps {shares[0]} of {what}."
    if len(table) <= 3:
        (first, share), *others = zip(names, shares)
        return f"{first} keeps {listed([f'{share} of {what}', *(f'{n} {s}' for n, s in others)])}."
    least = table.iloc[-1]
    alike = (table["low"] <= least["high"]) | pd.isna(least["high"])

    def said(part):
        ends = list(dict.fromkeys(f"{value:.0f}" for value in (part["kept"].min(), part["kept"].max())))
        return " to ".join(ends) + " %"

    if alike.all():
        return f"The {len(table)} networks keep {said(table)} of {what}, and which keeps least was not shown."
    low, high = table[alike][::-1], table[~alike]
    verb = "keeps" if len(low) == 1 else "keep"
    who = [_whom(part["method"].map(says), groups or {}) for part in (low, high)]
    return f"{who[0]} {verb} {said(low)} of {what}, {who[1]} {said(high)}."


def mixing(better: list, judged: int, base: str, why: str) -> str:
    """Which methods do better than mixing some of the LDCT into another one's output, a sentence with its full stop.

    Args: of ``testing.beyond_mixes``, methods in words.
    """
    what = f"than mixing the LDCT into the output of {base}"
    if better:
        return f"{capital(listed(better))} {'does' if len(better) == 1 else 'do'} better {what}."
    if judged:
        return f"{capital(some(0, judged, 'other network'))} was shown to do better {what}."
    if why:
        return f"Whether a network does better {what} is not decided: {why}."
    return "No other network is there to set beside a mix with the LDCT."


def errors(target, made: dict, says: dict, reference: str, score: str, of: int, circled: bool) -> tuple[str, str]:
    """Finding and reading aid of error maps: RMS errors of the two best methods and of the LDCT, and the largest bias.

    Args:
        target: (slices, H, W), HU. made: {method: the same}, with ``LDCT``, the best by ``score`` first. says: {method:
            words}. reference: what the target is called. of: how many methods there are. circled: lesions are known.
    """
    gaps = {name: images - target for name, images in made.items()}
    rms = {name: ((gap**2).mean((1, 2)) ** 0.5).mean() for name, gap in gaps.items()}
    first, *others = [name for name in made if name != INPUT]
    told = [f"{says[name]} {rms[name]:.1f}" for name in others[:1]] + [f"the LDCT {rms[INPUT]:.1f} HU"]
    finding = f"Against the {reference} {says[first]} is {rms[first]:.1f} HU off in these slices, {listed(told)}."
    marks = "; circles mark known lesions" if circled else ""
    reading = (
        f"Errors are RMS, the mean of {plural(len(target), 'slice')}{marks}. {1 + len(others)} of "
        f"{plural(of, 'method')}, the best {score} against the {reference} first, one training each."
    )
    inside = target > OUTSIDE
    means = {(name, i): gap[i][inside[i]].mean()
             for name, gap in gaps.items() for i in range(len(target)) if inside[i].any()}  # fmt: skip
    if not means:
        return finding, reading
    name, at = max(means, key=lambda key: abs(means[key]))
    bias = f"The largest mean error outside air is {number(means[name, at], 1)} HU ({says[name]}, row {at + 1})"
    return finding, f"{reading} {bias}: one colour all over is such a bias."


def over_psi(raw, patients: int, aside=()) -> str:
    """Reading aid of gains against psi.

    Args: raw: a row a loss, reference and metric: psi_start, psi_end, seeds. aside: losses that are left out, in words.
    """
    moved = 100 * (raw["psi_start"] - raw["psi_end"]).abs().max()
    said = (
        f"{bars(patients, 'patient', also=' and trainings')} ψ moved by up to {moved:.0f} points while training; the "
        f"lowest mean of a method at the end is {percent(raw['psi_end'].min())}, and lines only connect."
    )
    left_out = f" Left out, since another setting stands in their place: {listed(aside)}." * bool(aside)
    return said + " Hollow: one training." * bool((raw["seeds"] == 1).any()) + left_out


def unanswered(cells) -> str:
    """Why layer and encoder cannot be said to interact. Args: cells: columns context and psi_end, a row a loss."""
    if cells.empty:
        return "how layer and encoder interact is not answered, without a perceptual loss"
    ends = [number(100 * cells["psi_end"].astype(float).agg(end), 0) for end in ("min", "max")]
    ways = f"{plural(cells['context'].nunique(), 'encoder')} and ψ of {' to '.join(dict.fromkeys(ends))} %"
    return f"how layer and encoder interact is not answered, with {ways}"


def takes(seconds) -> str:
    """What a slice takes. Args: seconds: of each method."""
    ends = list(dict.fromkeys(number(end, 2 if end >= 0.1 else 3) for end in (min(seconds), max(seconds))))
    return f"A slice takes {' to '.join(ends)} s."


# ---- settings of trainings ----
SETTINGS = {"normalise": "input scaled", "max_steps": "updates"}  # as a reader calls them
UNTOLD = ("real_ct", "network")  # what changes no training, and what names a method already
SCALED = {"none": "no", "meanstd": "by mean and SD"}


def settings(varying, most: int = 4) -> dict[str, str]:
    """Heads of the settings that differ between trainings. Args: varying: their names."""
    told = [name for name in varying if name not in UNTOLD][:most]
    return {name: SETTINGS.get(name, name.replace("_", " ")) for name in told}


def trainings(table, says: dict) -> pd.DataFrame:
    """Trainings in the order of their methods, the values of their settings in words.

    Args: table: a row a training: words (of its method), and its settings. says: {method: words}, in the order wanted.
    """
    found = table.sort_values("words", key=lambda words: words.map([*says.values()].index), kind="stable")
    return found.assign(normalise=found["normalise"].map(SCALED)) if "normalise" in found else found


def texture(table) -> dict[str, str]:
    """Heads of a table of working points."""
    longer = {"noise texture to the NDCT's, dB": "distance of noise texture from the NDCT's, dB"}
    return {name: longer.get(name, name) for name in table}
