"""Sentences about what metrics, losses and observers say of images: each with its zero, one, all and too-few case.

Who is first is said only where nobody else was shown to be as good; ties are named together.
"""

import re

import numpy as np
import pandas as pd

from ldct_utils.report.sentences import capital, decimals, listed, number, percent, plural, some

FEW, LARGELY = 0.4, 0.7  # Kendall's W below which raters agree little, and from which they agree largely


def known(frame: pd.DataFrame, heads: dict) -> dict:
    """Those of the ``heads`` of ``captions.table`` whose columns hold a value in any row."""
    return {column: head for column, head in heads.items()
            if frame[column[0] if isinstance(column, tuple) else column].notna().any()}  # fmt: skip


def bracketed(text: str) -> str:
    """Intervals as sentences have them: ``25 % [25, 26]`` is ``25 % (25 to 26)``."""
    return re.sub(r" \[([^\],]+), ([^\],]+)\]", r" (\1 to \2)", text)


# ---- losses and metrics along trainings ----
def in_their_own(verdicts: dict) -> str:
    """Which losses ended lowest in a network that was trained with them.

    Args: verdicts: {label of a loss: ``lowest``, ``tied``, ``not lowest``, ``alone`` or ``not trained``}.
    """
    trained = {label: verdict for label, verdict in verdicts.items() if verdict != "not trained"}
    if not trained:
        return "No network was trained with any of these losses."
    unused = [label for label in verdicts if label not in trained]
    lowest, tied, higher, alone = ([label for label, one in trained.items() if one == verdict]
                                   for verdict in ("lowest", "tied", "not lowest", "alone"))  # fmt: skip
    parts = [f"{listed(lowest)} ended lowest in the network{'s' * (len(lowest) > 1)} trained with "
             f"{'them' if len(lowest) > 1 else 'it'}"] if lowest else []  # fmt: skip
    if tied:
        parts.append(f"for {listed(tied)} the lowest networks differ by no more than their seeds")
    if higher:
        parts.append(f"{listed(higher)} ended lower in another network")
    if alone:
        parts.append(f"for {listed(alone)} there is no other network to compare with")
    if unused:
        parts.append(f"no network was trained with {listed(unused).replace(' and ', ' or ')}")
    return capital("; ".join(parts)) + "."


def least_error(errors: dict, start: str = "LDCT") -> str:
    """Which image of a slice is nearest to its NDCT, e.g. ``MSE and L1 leave the least error, 12.4 HU (LDCT: 20 HU)``.

    Args: errors: {image: RMS, HU}, ``start`` among them. Errors that read the same are tied.
    """
    seen = {name: number(error, 1) for name, error in errors.items()}
    networks = {name: errors[name] for name in errors if name != start}
    least = min(networks, key=networks.get)
    first = [name for name in networks if seen[name] == seen[least]]
    if seen[least] == seen[start] or networks[least] > errors[start]:
        return f"On this slice no network leaves less error than the {start}, {seen[start]} HU."
    leave = "leave" if len(first) > 1 else "leaves"
    rest = "the least error" if len(networks) > 1 else "an error"
    rest = "the same error" if len(first) == len(networks) > 1 else rest
    return f"On this slice {listed(first)} {leave} {rest}, {seen[least]} HU ({start}: {seen[start]} HU)."


def tighter(beyond: int, judged: int, untied: int) -> str:
    """Whether pairs of a loss and a metric agree more within a training than between two.

    Args: beyond: pairs that do, of ``judged`` with an interval; untied: those of them that no formula ties.
    """
    if not judged:
        return "No pair has an interval."
    if not beyond:
        only = "The only pair" if judged == 1 else f"No pair of {judged}"
        return f"{only} was {'not ' * (judged == 1)}shown to agree more within a training than between two."
    tied = f"a formula ties {'none' if untied == beyond else 'all' if not untied else beyond - untied} of them"
    return (
        f"{capital(some(beyond, judged, 'pair'))} agree{'s' * (beyond == 1)} more within a training than between "
        + (f"two; {tied}." if beyond > 1 else f"two; {'no' if untied else 'a'} formula ties it.")
    )


def reversals(turns: dict) -> str:
    """Who reversed in the median run, and who most often.

    Args: turns: {loss or metric: share of reversals, median over runs}, NaN where it is not known.
    """
    seen = {label: share for label, share in turns.items() if not pd.isna(share)}
    if not seen:
        return "Too few checkpoints to see a reversal."
    never, most = sum(share == 0 for share in seen.values()), max(seen.values())
    first = [label for label, share in seen.items() if share == most]
    who = f"In the median run {never} of {len(seen)} losses and metrics did not reverse"
    if never == len(seen):
        return "In the median run no loss and no metric reversed."
    if not never:
        return f"In the median run every loss and metric reversed, {listed(first, most=3)} most often."
    return f"{who}; {listed(first, most=3)} reversed most often."


def concord(w: float, low: float, high: float, methods: int) -> str:
    """How far metrics agree about the order of methods, by Kendall's W."""
    if methods < 2:
        return "One method cannot be ranked."
    if pd.isna(w):
        return "The metrics were not shown to rank the methods: fewer than two tell them apart."
    degree = "little" if w < FEW else "partly" if w < LARGELY else "largely"
    places = decimals(w, low, high)
    span = f"95 % interval {number(low, places)} to {number(high, places)}"
    span = "no interval" if pd.isna(low) or pd.isna(high) else span
    return (
        f"The metrics agree {degree} on the order of the {methods} methods (Kendall's W {number(w, places)}, {span}; 1 "
        "would be full agreement)."
    )


def cost_of_losses(full: dict, without: dict) -> str:
    """What picking a checkpoint by a loss costs.

    Args: full, without: {metric with, or without, a reference: shares of its range that are lost, one a loss}.
    """
    means = {label: np.nanmean(one) for label, one in (full | without).items() if np.isfinite(one).any()}
    of_full, others = ([means[label] for label in group if label in means] for group in (full, without))
    if not means:
        return "What picking a checkpoint by a loss costs is not known."
    told = [f"{percent(np.mean(of_full))} of the range of a metric with a reference"] if of_full else []
    if others:
        ends = list(dict.fromkeys([percent(min(others)), percent(max(others))]))
        share = f"{ends[0].removesuffix(' %')} to {ends[1]}" if len(ends) > 1 else ends[0]
        told.append(f"{share} of that of {listed(label for label in without if label in means)}")
    return f"Picking a checkpoint by a loss costs {listed(told)}, on average."


def untrained(picked: pd.DataFrame, labels: dict) -> str:
    """Which losses and metrics pick the network before its training in every run; empty for none.

    Args: picked: columns name and step. labels: {name: label}.
    """
    first = picked.groupby("name", sort=False).step.agg(lambda steps: bool((steps == 0).all()))
    who = [labels[name] for name in labels if first.get(name, False)]
    return f"The untrained network is picked in every run by {listed(who)}." if who else ""


# ---- known order, known damage ----
def steps_of_damage(steps: dict) -> str:
    """Whether a score gets worse with each step of noise or blur.

    Args: steps: {(image, image with more damage): (difference, low, high)}, positive where the second scores worse.
    """
    if not steps:
        return "No step of noise or blur was looked at."
    total = plural(len(steps), "step")
    if any(pd.isna(low) for _, low, _ in steps.values()):
        worse = sum(gap > 0 for gap, *_ in steps.values())
        said = f"CT-NIQE gets worse on average in {worse} of {total} of more noise or blur"
        return f"{said}; too few patients for intervals."
    worse = sum(low > 0 for _, low, _ in steps.values())
    wrong = [f"{more} better than {less}" for (less, more), (_, _, high) in steps.items() if high < 0]
    open_ = [f"{less} and {more}" for (less, more), (_, low, high) in steps.items() if low <= 0 <= high]
    said = f"CT-NIQE was shown to get worse in {worse} of {total} of more noise or blur"
    said = f"CT-NIQE gets worse in all {total} of more noise or blur" if worse == len(steps) > 1 else said
    said += f"; {listed(open_)} were not shown to differ" if open_ else ""
    return said + (f"; it calls {listed(wrong)}." if wrong else ".")


def of_truth(truth: float, low_dose: float) -> str:
    """Whether the noise-free truth scores better than the LDCT (lower is better); empty without a truth."""
    if pd.isna(truth) or pd.isna(low_dose):
        return ""
    scores = [number(value) for value in (truth, low_dose)]
    if scores[0] == scores[1]:
        return f"CT-NIQE scores the noise-free truth and the LDCT alike ({scores[0]})."
    if truth > low_dose:
        worse = f"the noise-free truth ({scores[0]}) scores worse than the LDCT ({scores[1]})"
        return f"CT-NIQE does not rank by quality: {worse}."
    return f"The noise-free truth ({scores[0]}) scores better than the LDCT ({scores[1]})."


def diluted(size: float, share: float, by_pixel: float, unit: str) -> str:
    """How far the loss of every lesion moves the median metric, and how far by changed pixel.

    Args: size: in units of what ``unit`` of the dose does, positive is worse. share: of the body that changes.
        by_pixel: the size over the share.
    """
    if pd.isna(size):
        return "By how much is not known: no metric has a unit."
    way = "better" if size < 0 else "worse"
    said = f"The median metric gets {way} by {percent(abs(size), 1)} of what {unit} of the dose does to it."
    if pd.isna(by_pixel) or size <= 0:
        return said
    times = f"{number(by_pixel, 1)} times what {unit} of the dose does"
    if by_pixel < 1:
        return f"{said} By changed pixel the move is {times}: even where pixels change, it is less."
    return (
        f"{said} Lesions are {percent(share, 1)} of the body, which dilutes the move: by changed pixel it is {times}."
    )


def praised(rows: pd.DataFrame) -> str:
    """Which metrics call which damage an improvement, e.g. ``PIQE calls rings an improvement; so does VIF with blur``.

    Args: rows: columns metric, harm (in words), low and high, of the fall; positive is worse.
    """
    judged = rows.dropna(subset=["low", "high"])
    if judged.empty:
        return "Whether a damage is called an improvement is not known: no interval exists."
    found = judged[judged.high < 0].groupby("metric", sort=False).harm.agg(list)
    found = found.loc[sorted(found.index, key=lambda metric: -len(found[metric]))]
    if found.empty:
        return "No metric was shown to call a damage an improvement."
    (first, harms), *others = found.items()
    rest = listed(f"{metric} with {listed(ways)}" for metric, ways in others)
    also = f"; so do{'es' * (len(others) == 1)} {rest}" if others else ""
    return f"{first} calls {listed(harms)} an improvement{also}."


def beside_detection(each: pd.DataFrame) -> list[str]:
    """For each kind of damage how many metrics go the way of d′, in few words. Args: each: of ``reactions.by_harm``."""
    return ["d′ was not shown to move" if pd.isna(row.with_d) else
            f"{row.with_d:.0f} with it, {row.against_d:.0f} against it" for row in each.itertuples()]  # fmt: skip


def with_detection(each: pd.DataFrame, said: dict) -> str:
    """Damage by damage, whether metrics go the way of d′: nothing is summed up over damages.

    Args: each: of ``reactions.by_harm``, with d′. said: {damage: its name}.
    """
    where = "in every liver" if each.livers.max() > 1 else "in the one liver"
    parts = []
    for way, column, do in (("falls", "d_falls", "get worse"), ("rises", "d_rises", "get better")):
        rows = [row for row in each.itertuples() if getattr(row, column) == row.livers]
        if not rows:
            continue
        told = [f"{said[row.harm]} ({row.with_d:.0f}{f' of {row.metrics} metrics {do}' * (not number)})"
                for number, row in enumerate(rows)]  # fmt: skip
        parts.append(f"d′ {way} {where} with {listed(told)}")
    if not parts:
        return f"Under no kind of damage was d′ shown to go one way {where}."
    still = [said[row.harm] for row in each.itertuples() if pd.isna(row.with_d)]
    return "; ".join(parts) + (f"; with {listed(still)} d′ was not shown to move." if still else ".")


def in_disguise(found: pd.DataFrame, labels: dict) -> str:
    """How closely metrics rank images as the MSE does, without damage and within each kind of it.

    Args: found: of ``reactions.like_mse``. labels: {metric: its name}.
    """
    known = found.dropna(subset="rho") if len(found) else found  # an empty table is stored without its columns
    if known.empty:
        return "Whether SSIM ranks images as the MSE does is not known: one of them was not scored, or too few images."
    told = []
    for name, part in known.groupby("name", sort=False):
        plain, harmed = part[part.harm == "none"], part[part.harm != "none"].rho
        ends = list(dict.fromkeys(number(end, 2) for end in (harmed.min(), harmed.max())))
        words = [f"is {number(row.rho, 2)} over {row.images} images without damage" for row in plain.itertuples()]
        words += [f"{'' if words else 'is '}{' to '.join(ends)} within a kind of damage"] if len(harmed) else []
        told.append(f"The rank correlation of {labels[name]} with the MSE {' and '.join(words)}.")
    return " ".join(told)


def unmoved(changes: dict, least: float = 0.1) -> str:
    """Under which damage d′ of an observer that is retrained on the damaged images hardly changes.

    Args: changes: {damage: change of d′, a share}.
    """
    still = {label: abs(change) for label, change in changes.items() if abs(change) < least}
    if not still:
        return f"Every kind of damage changes d′ of the retrained CHO by {percent(least)} or more."
    most = percent(np.ceil(1000 * max(still.values()) - 1e-4) / 1000, 1)
    return f"d′ of the retrained CHO changes by at most {most} under {listed(still)}."


# ---- dose and detail ----
def changes_at_most(change: dict, base: float, low: str) -> str:
    """By how much networks change d′ of the CHO, over all lesions.

    Args: change: {network, e.g. ``MSE network``: d′ minus that of FBP}. base: d′ of FBP. low: the dose, in words.
    """
    most = max(abs(gap) for gap in change.values())
    size = number(most) if not base > 0 else percent(np.ceil(1000 * most / base) / 1000, 1)
    who = f"the {next(iter(change))} changes" if len(change) == 1 else "no network changes"
    how = "by at most" if len(change) == 1 else "by more than"
    return f"At {low} of the dose {who} the CHO's d′ over all lesions {how} {size} (FBP: {number(base, 2)})."


def largest_saving(told: pd.DataFrame, ends: pd.DataFrame, low_dose: float, called) -> str:
    """By which scores a network saves most, with those that were not shown to differ from the best.

    Args:
        told: of ``equivalence.in_words``, largest dose first: columns measure, judge, method, worth (in words).
        ends: columns measure, method, dose, low and high, fractions of the normal dose, of the same rows.
        low_dose: of the denoised images. called: function of a method that gives its network's name.
    """
    best, ends = told.iloc[0], ends.set_index(["measure", "method"])
    first = ends.loc[(best.measure, best.method)]
    least = first.dose if pd.isna(first.low) else first.low
    high = ends.high.where(ends.high.notna(), ends.dose)
    tied = [row for row in told.itertuples() if high[row.measure, row.method] >= least]
    judges = listed(dict.fromkeys(row.judge.strip(" ↑↓") for row in tied))
    networks = list(dict.fromkeys(row.method for row in tied))
    who = f"the {called(networks[0])} makes" if len(networks) == 1 else f"{len(networks)} networks make"
    if not first.dose >= 1.005 * low_dose:
        return f"No score shows a saving, and by {judges} {who} the image as good as FBP at {best.worth}."
    upto = "" if len(tied) == 1 or np.isinf(first.dose) else "up to "
    return f"By {judges} the saving is largest: {who} the image {upto}as good as FBP at {best.worth}."


def filters_save(best: pd.DataFrame, above: float) -> str:
    """By which scores a plain filter saves dose too: what the saving of a network must be held against.

    Args:
        best: of ``equivalence.best_of``, a row a measure: dose, low, high (NaN where there is no interval).
        above: a dose beyond which one counts as saved, fraction of the normal one.
    """
    least = best["low"].where(best["low"].notna(), best["dose"])
    names = [one.strip(" ↑↓").replace("'", "′") for one in best["measure"]]
    saves = [name for name, end in zip(names, least) if end > above]
    others = [name for name in names if name not in saves]
    if not saves:
        return "No plain filter was shown to save dose by any score."
    rest = f"; by {listed(others)} none was shown to" if others else ""
    return f"A plain filter saves dose too by {listed(saves)}{rest}."


def more_detail(table: pd.DataFrame, names: dict) -> str:
    """Which networks hold more fine detail than the truth, at which frequency, and how much they hold in total.

    Args: table: of ``fabrication.summary``. names: {method: its name} of the networks.
    """
    part = table.set_index("method").loc[list(names)]
    more = [f"{names[m]} at {part.frequency[m]:g} lp/mm" for m in part.index if part.exceeds[m]]
    near = [names[m] for m in part.index if part.surplus_low[m] > 1 and not part.exceeds[m]]
    verb = "found (no interval)" if part.surplus_low.isna().all() else "shown"
    said = f"More fine detail than the truth holds was {verb} for {listed(more)}"
    said = said if more else "No network was shown to hold more fine detail than the truth at any frequency"
    near = f"; for {listed(near)} it was not, after correction for the number of frequencies" if near else ""
    return f"{said}{near}."


def in_total(shares: pd.Series) -> str:
    """How much fine detail networks hold in all, over the truth's power."""
    ends = list(dict.fromkeys(percent(end) for end in (shares.min(), shares.max())))
    span = " to ".join([*(end.removesuffix(" %") for end in ends[:-1]), ends[-1]])
    who = "networks hold" if len(shares) > 1 else "network holds"
    return f"In total the {who} {span} of the truth's power in fine detail."


def edge(after: float, plain: float, contrast: float, called: str) -> str:
    """What a network does to a faint edge: the frequency at which the transfer function is 50 %, lp/mm."""
    if pd.isna(after) or pd.isna(plain):
        return f"The sharpness of an edge of {contrast:g} HU could not be measured after the {called}."
    seen = [number(value) for value in (after, plain)]
    word = "as sharp as" if seen[0] == seen[1] else "softer than" if after < plain else "sharper than"
    return (
        f"After the {called} an edge of {contrast:g} HU is {word} in FBP: the transfer function is 50 % at {seen[0]} "
        f"against {seen[1]} lp/mm."
    )
