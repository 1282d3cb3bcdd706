"""What observers say, in sentences for readers: dose that is saved (04d), detection against telling shapes (04e)."""

import pandas as pd

from ldct_utils.report.sentences import capital, listed, number, percent, some
from ldct_utils.task_based import characterise, tasks, trial

# What keeping each rule of ``trial`` means, as the head of a column with yes and no.
KEEPS = {
    trial.NOTHING: "sees nothing where nothing is", trial.DOSE: "gains from dose",
    trial.BEST: "sees no more than there is", trial.BLUR: "prefers no blur where detail counts",
    trial.ERASER: "notices an eraser",
}  # fmt: skip
READERS = {  # observers of ``characterise`` as readers know them
    "kept": "CHO, learned on FBP", "retrained": "CHO, retrained",
    "kept, internal noise": "CHO, learned on FBP, with internal noise",
    "retrained, internal noise": "CHO, retrained, with internal noise",
}  # fmt: skip
VERDICTS = {  # of ``characterise``, after the name of an observer
    characterise.CONFIRMED: "detects lesions better and tells shapes worse",
    characterise.HARM_ALONE: "tells shapes worse and is not shown to detect lesions better",
    characterise.HELP_ALONE: "detects lesions better and is not shown to tell shapes worse",
    characterise.OPEN: "is shown neither to detect lesions better nor to tell shapes worse",
    characterise.REFUTED: "detects lesions worse or tells shapes better",
}


# ---- 04d: whom to believe, and what dose is saved ----
def fading(low: pd.DataFrame, names) -> str:
    """Who notices an eraser that fades lesion and noise alike, in the cylinder and in patients.

    Args: low: rows of ``panel.judge`` at one dose. names: of observers.
    """
    names, what = list(names), "an eraser that fades lesion and noise alike"
    if not names:
        return f"No observer is believed, so none is asked about {what}."
    unaware = trial.blind(low, names)
    seen = [one for one in names if one not in unaware]
    who = "no observer" if not seen else some(len(seen), len(names), "observer") if not unaware else None
    told = f"In the cylinder {what} is noticed by {who or f'{listed(seen)} alone'}"
    there = low[(low["image"] == tasks.FADE) & (low["task"] == tasks.PATIENTS) & low["observer"].isin(names)]
    if there.empty:
        return f"{told}."
    noticed = int((there["gap"] <= -trial.UNNOTICED * there["d_prime"]).sum())
    return f"{told}, in patients by {some(noticed, len(there), 'observer')} asked there."


def dose_saved(asked: pd.DataFrame, met: pd.DataFrame, low_dose: float) -> str:
    """In how many comparisons dose is saved and lost, and saved in livers, where there is anatomy.

    Args: asked: columns task, worth_low and worth_high, where an image was shown to raise the observer's d'. met: all
        that could have been asked, since more dose was. low_dose: of the images that were cleaned.
    """
    lost = int(trial.saved_and_lost(met, low_dose)[1].sum())
    if asked.empty:
        also = f" Dose is lost in {some(lost, len(met), 'comparison')}." * bool(lost)
        return f"About saved dose {_unasked(met)}.{also}"
    saves = trial.saved_and_lost(asked, low_dose)[0]
    told = (
        f"Dose is saved in {some(int(saves.sum()), len(asked), 'comparison')}, and lost in {lost or 'none'} of "
        f"{len(met)} that could show a loss"
    )
    there = asked["task"] == tasks.PATIENTS
    if not there.any():
        return f"{told}; in livers {_unasked(met[met['task'] == tasks.PATIENTS])} there."
    return f"{told}; in livers it is saved in {some(int((saves & there).sum()), int(there.sum()), 'comparison')}."


def _unasked(met):
    """Why no observer was asked about dose."""
    if met.empty:
        return "no observer could be asked: more dose was not shown to raise its d′"
    return "no observer that gains from dose could be asked: no image was shown to raise its d′"


def savers(asked: pd.DataFrame, low_dose: float) -> str:
    """Which observers the savings belong to, with the best of each, e.g. ``Savings by observer: NPWE 9 (the best as
    good as FBP at 57 %) and NPW 2 (27 %).`` Args: as of ``dose_saved``, with observer and worth."""
    saves = asked[trial.saved_and_lost(asked, low_dose)[0]]
    if saves.empty:
        return "No observer saves dose."
    of = saves.groupby("observer")["worth"].agg(["size", "max"]).sort_values("max", ascending=False)
    best = [percent(one) for one in of["max"]]
    best[0] = f"the best as good as FBP at {best[0]}"
    counted = (f"{name} {count} ({most})" for name, count, most in zip(of.index, of["size"], best))
    return f"Savings by observer: {listed(counted)}."


def unheard(looked: pd.DataFrame, asked: pd.DataFrame, ceiling: str) -> str:
    """Whose comparisons are shown and not counted, in which tasks; empty where all are.

    Args: looked, asked: columns task and observer, of all comparisons and of those that count. ceiling: an observer's
        name.
    """
    counted = set(zip(asked["task"], asked["observer"]))
    rest = {}
    for one in looked[["task", "observer"]].drop_duplicates().itertuples():
        if (one.task, one.observer) not in counted:
            rest.setdefault(one.observer, []).append(f"“{one.task}”")
    heard = set(asked["observer"])
    names = "; ".join(
        f"{name} (a ceiling)" if name == ceiling else f"{name} in {listed(where)}" if name in heard else name
        for name, where in rest.items()
    )
    return f"Not counted, since no image was shown to help: {names}." if rest else ""


def undrawn(real: pd.DataFrame, rising, names) -> str:
    """Which observers are left out of which tasks, since more dose was not shown to help them; empty where none is.

    Args: real: rows of ``panel.judge``. rising: of ``trial.helped_by_dose``. names: of observers.
    """
    met = real[real["observer"].isin(names)][["task", "observer"]].drop_duplicates()
    rest = {}
    for one in met.itertuples():
        if (one.task, one.observer) not in rising:
            rest.setdefault(one.task, []).append(one.observer)
    told = "; ".join(f"{listed(who)} in “{task}”" for task, who in rest.items())
    return f"Left out, since more dose was not shown to help: {told}." if rest else ""


# ---- 04e: detection against telling shapes ----
def after(name: str) -> str:
    """An image as it follows ``after``: ``the MSE network``, ``total variation``."""
    return f"the {name}" if name.endswith("network") else name


def _agree(judged: dict, name: str) -> int:
    return sum(of[name] == judged[characterise.DECIDES][name] for of in judged.values())


def _agreement(judged: dict, name: str) -> str:
    count, total = _agree(judged, name), len(judged)
    if count == 1:
        return f"no other of the {total} observers says the same"
    return f"{some(count, total, 'observer')} say the same"


def answer(judged: dict, reasons, whole: pd.DataFrame) -> str:
    """The verdicts as sentences, the last image first, with both its ratios of d' and their intervals.

    Args: judged: {observer: {image: verdict}}, filters first. reasons: of ``characterise.reasons_against``. whole: as
        of ``characterise.kept_ratios``.
    """
    if reasons:
        return (
            f"Not decided: whether denoising helps to detect a lesion and harms to see its shape, because {reasons[0]}."
        )
    said = judged[characterise.DECIDES]
    *others, last = said
    ends = {task: whole.loc[(last, characterise.DECIDES), [task, f"{task}_low", f"{task}_high"]]
            for task in characterise.TASKS}  # fmt: skip
    d_prime = listed("{:.2f} times ({:.2f} to {:.2f}) in {}".format(*three, task) for task, three in ends.items())
    told = [
        f"After {after(last)}, an observer ({READERS[characterise.DECIDES]}) {VERDICTS[said[last]]}; "
        f"{_agreement(judged, last)}. Its d′, against that of FBP, is {d_prime}."
    ]
    groups = {}
    for name in others:
        groups.setdefault((VERDICTS[said[name]], _agreement(judged, name)), []).append(after(name))
    told += [f"After {listed(group)}, the same observer {words}; {how}." for (words, how), group in groups.items()]
    return " ".join(told)


def beside_noise(judged: dict, name: str) -> str:
    """The verdict of an image without internal noise and with it. Args: as of ``answer``; name: of the image."""
    plain, noisy = (VERDICTS[judged[one][name]] for one in (characterise.DECIDES, characterise.NOISY))
    told = f"After {after(name)}, {READERS[characterise.DECIDES]}, {plain}"
    return f"{told}, with internal noise and without." if plain == noisy else f"{told}; with internal noise it {noisy}."


def given_by(judged: dict, reasons=()) -> str:
    """How many observers give each image the verdict that counts, the last image first. Args: as of ``answer``."""
    if reasons:
        return f"No verdict is given, because {reasons[0]}."
    groups = {}
    for name in reversed(judged[characterise.DECIDES]):
        groups.setdefault(some(_agree(judged, name), len(judged), "observer"), []).append(after(name))
    told = listed(f"by {who} for {listed(names)}" for who, names in groups.items())
    return f"The verdict of {READERS[characterise.DECIDES]}, is given {told}."


def at_part(rows: pd.DataFrame) -> str:
    """For which images help and harm are both shown at a part of their strength, as it goes on after a sentence; empty
    for none. Args: rows: of ``characterise.both_tasks``, of one observer."""
    part = rows[(rows["share"] < 1) & (rows["said"] == characterise.CONFIRMED)]
    both = listed(f"{one.name} at {percent(one.share)}" for one in part.itertuples(index=False))
    return "" if part.empty else f"; help and harm are both shown for {both}"


def over_contrasts(rows: pd.DataFrame, name: str) -> str:
    """What an image does to d' of shape over the lesion's contrasts, and whether the intervals overlap.

    Args: rows: of ``characterise.ratios``, one a contrast. name: of the image.
    """
    ends = list(dict.fromkeys(number(end, 2) for end in (rows["ratio"].min(), rows["ratio"].max())))
    if len(rows) == 1:
        return f"At its only contrast, d′ of shape after {after(name)} is {ends[0]} times that of FBP."
    where = f"At {some(len(rows), len(rows), 'contrast')}"
    told = f"{where}, d′ of shape after {after(name)} is {' to '.join(ends)} times that of FBP"
    if rows[["low", "high"]].isna().any(axis=None):
        return f"{told}."
    shared = rows["low"].max() <= rows["high"].min()
    return f"{told}; {'the intervals overlap' if shared else 'not all intervals overlap'}."


def held(came_out: dict) -> str:
    """Which controls came out as they must, by name. Args: came_out: of ``characterise.controls``."""
    who = some(sum(came_out.values()), len(came_out), "control")
    missed = [words for words, right in came_out.items() if not right]
    which = f". Wrong: {listed(missed)}" if missed else f": {listed(came_out)}"
    return f"{capital(who)} came out as they must{which}."
