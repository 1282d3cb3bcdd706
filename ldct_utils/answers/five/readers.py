"""What cleaned images are worth to computed readers: whom to trust, what each sees at best, and in what anatomy."""

import math

from ldct_utils.answers.words import READERS, called, grouped, known, listed, percent, share
from ldct_utils.report.sentences import capital, plural
from ldct_utils.task_based import tasks


def trusted(blocks) -> dict:
    """Computed readers that could gain, without those that 15 found to catch no planted fault."""
    silent = blocks.get("judges", {}).get("silent", [])
    every = blocks["observers"]["readers"]
    return {name: one for name, one in every.items() if not any(f"({name})" in judge for judge in silent)}


def ending(blocks, worth) -> str:
    """What the cleaned images are worth to computed readers: the end of a sentence on what they are worth by a score.

    Args: worth: doses by measure, of every network of 04b.
    """
    if "observers" in blocks:
        return seen_at_best(blocks["observers"], trusted(blocks))
    ideal = [of["d' (CHO)"]["value"] for of in worth if known(of.get("d' (CHO)", {}))]
    if not ideal:
        return "; whether lesions are seen any better was not asked"
    return f"; at best, an ideal observer sees faint lesions in them as well as at {percent(max(ideal))} of the dose"


def seen_at_best(n, believed: dict) -> str:
    """At what dose readers to whom dose is saved put cleaned images, each at its best, and those of a plain filter.

    Args: n: of 04d. believed: of ``trusted``.
    """
    if not believed:
        return ", but no computed reader could be asked that can see a gain and catches faults"
    gain = {name: one for name, one in believed.items() if one["saves"]}
    if not gain:
        return f", but no gain was shown to {anybody(believed)}"
    return f"; {gains(n, gain, believed)}"


def gains(n, gain: dict, believed: dict) -> str:
    """The same of readers that gain, a clause of its own. Args: gain: those of ``believed`` to whom dose is saved."""
    sees, they = ("sees", "it puts") if len(gain) == 1 else ("see", "they put")
    able = " that could show a gain" * (len(n.get("believed", [])) > len(believed))
    puts = (
        f"{of_readers(gain, believed)}{able} {sees} {'one' if able else 'a gain'}: {they} the best network's images at"
    )
    plain = [n["filters"][name]["value"] for name in gain if name in n.get("filters", {})]
    beside = f", and the best plain filter's at {each_of(plain)}" if plain else ""
    return f"{where(gain).strip()} {puts} {each_of([one['best']['value'] for one in gain.values()])}{beside}"


def at_best(n, believed: dict) -> tuple[list, list]:
    """At what dose readers to whom dose is saved put the best network's image and the best filter's, and what holds in
    livers; then the same by reader, with intervals. Args: n: of 04d. believed: of ``trusted``."""
    if not believed:
        return ["No computed reader could be asked that can see a gain and catches faults."], []
    saved = {name: one for name, one in believed.items() if one["saves"]}
    gain = {name: one["best"] for name, one in saved.items()}
    if not gain:
        return [f"No gain was shown to {anybody(believed)}{where(believed)}."], []
    told = []
    for name in sorted(gain, key=lambda name: -gain[name]["value"]):
        who = f"one {READERS.get(name, name)}"
        plain = n.get("filters", {}).get(name)
        beside = f", and the best plain filter's at {share(plain)}" if plain else ""
        told.append(f"{who} puts the best network's image at {share(gain[name])}{beside}")
    at_its_best = "; each at its own best task" * any(name in n.get("filters", {}) for name in gain)
    words = [f"{capital(gains(n, saved, believed))}."]
    if not any(one["in_patients"] for one in believed.values()) and n.get("backgrounds"):
        words.append(f"In {plural(n['backgrounds'], 'simulated liver')} no reader could be asked.")
    return words, [f"{capital('; '.join(told))}{at_its_best}."]


def with_other_noise(n, believed: dict) -> list[str]:
    """How far the dose moves with the noise of its own that a reader is given."""
    return [
        f"With half to twice the noise that we give the reader {READERS.get(name, name)}, it puts the best network's "
        f"image at {ends_of([one['low'], one['high']])}."
        for name, one in n.get("swept", {}).items()
        if name in believed and None not in (one["low"], one["high"])
    ]


def testified(believed) -> list[str]:
    """How easily readers find lesions in cleaned slices. Args: believed: {reader: its comparisons}, of ``trusted``."""
    if not believed:
        return []
    whose = ["a computed reader {}", *["one {}"] * (len(believed) - 1)]
    each = [
        f"{share(one['best'])} to {who.format(READERS.get(name, name))}{'' if one['saves'] else ', no gain shown'}"
        for who, (name, one) in zip(whose, believed.items())
    ]
    best = "a slice cleaned by the network that is best for the reader is worth"
    return [f"With lesions{where(believed)}, {best} {listed(each)}; each at its best of several tasks."]


def in_detail(n, believed) -> list[str]:
    """In how many comparisons dose is saved, whom not to believe, and what holds in anatomy. Args: n: of 04d."""
    every = n["readers"]
    if not every:
        return []
    asked, saves = (sum(one[name] for one in every.values()) for name in ("asked", "saves"))
    costs, of = n["costs"], {way: by_reader(every, way, n[way]) for way in ("saves", "costs")}
    words = [
        "“Best” is one network at one task: to find one kind of lesion, or to tell two shapes apart. It is the largest "
        "of those that save dose, and its interval is not corrected for that. Tasks were taken in which some network "
        "or filter helps, so what follows is no rate over all tasks. Of "
        f"{plural(asked, 'comparison')} of a reader, a network and a task in which some image was shown to raise the "
        f"reader's d′, {counted_verb(saves, 'save')} dose{of['saves']}: the whole interval lies more than half a "
        f"percentage point off 25 %. Over all tasks, {counted_verb(costs, 'cost')} dose{of['costs']}."
    ]
    if (unable := len(n.get("believed", [])) - len(every)) > 0:
        words.append(
            f"{plural(unable, 'further reader')} passed the checks of 04d (d′ must follow the dose, an eraser and a "
            "blur), but could show no gain: nothing that was tried, not even a filter, was shown to help where more "
            "dose helps, or processing can hardly help by construction."
        )
    for name, one in every.items():
        if name not in believed:
            who = f"reader {READERS.get(name, name)}"
            words.append(f"A {who} says {percent(one['best']['value'])}, but caught no planted fault.")
    anatomy, there = (sum(one[name] for one in every.values()) for name in ("in_patients", "saves_in_patients"))
    if anatomy:
        reach = {name: n["livers"][name] for name in believed if name in n["livers"]}
        wide = [
            f"{percent(one['low'])} to {end_of(one['high'])} (reader {READERS.get(name, name)})"
            for name, one in reach.items()
        ]
        livers = f"In {plural(n['backgrounds'], 'simulated liver')}" if "backgrounds" in n else "In simulated livers"
        words.append(f"{livers} {saved_in_livers(anatomy, there)}; intervals reach from {listed(wide)}.")
    elif n.get("backgrounds"):
        words.append(
            f"In the {plural(n['backgrounds'], 'simulated liver')} of 04d no reader could be asked: neither a network "
            "nor a filter was shown to help it there, or more dose was not."
        )
    return words


def elsewhere(blocks) -> list[str]:
    """What a reader that 04d did not ask in livers says of those of 04b."""
    if "dose" not in blocks or blocks["observers"]["readers"].get("NPW", {}).get("in_patients"):
        return []
    worth = {name: of.get("worth", {}).get("d' (NPW)") for name, of in blocks["dose"]["methods"].items()}
    seen = {called(name): share(one) for name, one in worth.items() if one and known(one)}
    if not seen:
        return []
    patients = plural(blocks["dose"]["patients"], "patient")
    return [
        f"The reader {READERS['NPW']} was asked in other livers only, of {patients} (04b): it puts the image at "
        f"{grouped(seen, 'after')}."
    ]


def anybody(believed: dict) -> str:
    return "the computed reader" if len(believed) == 1 else f"any of {len(believed)} computed readers"


def of_readers(gain: dict, believed: dict) -> str:
    """``2 of 3 computed readers``: to how many of those that were asked dose is saved."""
    return f"{len(gain)} of {plural(len(believed), 'computed reader')}"


def where(believed: dict) -> str:
    """In what the lesions lay that readers find best, after a space."""
    places = {"livers" if one["best"]["task"] == tasks.PATIENTS else "uniform cylinders" for one in believed.values()}
    return f" in {' and '.join(sorted(places, reverse=True))}"


def by_reader(every, way: str, total: int) -> str:
    """How many comparisons of each reader save or cost dose, in brackets after a space; nothing where none does, or
    where others than these readers are among the ``total``."""
    counts = {name: one[way] for name, one in every.items() if one[way]}
    told = listed(f"{count} of {name}" for name, count in counts.items())
    return f" ({told})" if counts and sum(counts.values()) == total else ""


def saved_in_livers(asked: int, saves: int) -> str:
    return f"{saves} of {plural(asked, 'comparison')} save{'s' * (saves == 1)} dose" if saves else "no gain was shown"


def counted_verb(number: int, verb: str) -> str:
    return f"{number or 'none'} {verb}{'s' * (number < 2)}"


def rising(doses) -> list[str]:
    """Doses in %, the least first; one that is not known lies beyond the normal one."""
    order = sorted(doses, key=lambda dose: math.inf if dose is None else dose)
    return ["more than 100 %" if dose is None else percent(dose) for dose in order]


def each_of(doses) -> str:
    """``27 and 59 %``, the least first."""
    told = rising(doses)
    return listed([*(one.removesuffix(" %") for one in told[:-1]), told[-1]])


def ends_of(doses) -> str:
    """``26 to 59 %``."""
    low, *_, high = rising([*doses, *doses])
    return high if low == high else f"{low.removesuffix(' %')} to {high}"


def end_of(high: float) -> str:
    """The upper end of a dose, of which nothing beyond the normal one was looked at."""
    return "100 % or more" if high >= 1 else percent(high)
