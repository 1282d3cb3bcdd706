"""What a search varies: the ``search:`` part of a study file, checked before anything runs, and a trial as a run."""

import ast
import copy
import math
import re
from dataclasses import dataclass, field

from ldct_utils.study import identity, parameters, paths, planning

KEYS = {"trials", "startup", "seed", "metric", "space"}
PRIOR = {"low", "high", "log", "int"}
# Overrides that say where a trial is computed; machines that differ in them work on one search.
MACHINE = {"data_root", "device", "threads"}
NEVER_MAXIMISED = re.compile("mse|mae|loss|error|bias|_step$")  # what is better small, or is no score


@dataclass(frozen=True)
class Search:
    """A search as its file asks for it.

    Attributes:
        study: name of the file; trials go to ``outputs/<study>/<notebook>/``.
        id: hash of the notebook's code, its fixed parameters, the priors and the sampler: trials of two ids do not
            compare and never stand in one search. The number of trials is not part of it, so it can be raised.
        fixed: the notebook's parameters before a trial's values are put in.
        trials: how many, those that fail by themselves included; startup: how many of them are drawn at random.
        metric: a validation score among the numbers of the notebook's ``result.json``, to be maximised.
        space: {address: {low, high, log, int}}, or {address: {choices}} for values without an order; an address is a
            parameter, or ``parameter.key`` inside a mapping or list, e.g. ``method_settings.lam_perc`` and ``betas.0``.
        overrides: parameters that win over the file.
    """

    study: str
    id: str
    notebook: str
    fixed: dict
    trials: int
    startup: int
    seed: int
    metric: str
    space: dict
    overrides: dict = field(default_factory=dict)

    def suggest(self, trial) -> dict:
        """A trial's values, {address: value}."""
        ask = {True: trial.suggest_int, False: trial.suggest_float}
        return {
            n: trial.suggest_categorical(n, p["choices"]) if "choices" in p
            else ask[p["int"]](n, p["low"], p["high"], log=p["log"])
            for n, p in self.space.items()
        }  # fmt: skip

    def planned(self, values: dict) -> planning.Planned:
        """The run of a trial: checked parameters and the folder. Raises: ValueError: as ``planning.plan``."""
        given = {}
        for address, value in values.items():
            name, _, key = address.partition(".")
            if not key:
                given[name] = value
                continue
            holder = given.setdefault(name, copy.deepcopy(self.fixed[name]))
            holder[int(key) if isinstance(holder, list) else key] = value
        # Trials are called by the values that they try.
        (run,) = planning.plan(self.study, self.overrides | given | {"run_name": ""})
        return run


def read(study: str, overrides: dict | None = None) -> Search:
    """The search of ``params/<study>.yaml``: a study of one run, with the part ``search``.

    Raises: FileNotFoundError; ValueError: for a file without that part, an unknown name (with the nearest that there
        is), a prior that is none, a value of a type that the parameter does not take, or a score of test patients, one
        that is better small, or one that the notebook does not record.
    """
    overrides = overrides or {}
    content = planning.read_study(study)
    given, where = content.get("search"), f"params/{study}.yaml"
    if not isinstance(given, dict):
        raise ValueError(f"{where} has no part `search` and is a study: make study STUDY={study}")
    if unknown := set(given) - KEYS:
        raise ValueError(f"{where}: search has {', '.join(sorted(KEYS))}; got {', '.join(sorted(unknown))}")
    if missing := {"trials", "metric", "space"} - set(given):
        raise ValueError(f"{where}: search needs {', '.join(sorted(missing))}")
    counts = {"trials": given["trials"], "startup": given.get("startup", 10), "seed": given.get("seed", 0)}
    for name, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < (name != "seed"):
            raise ValueError(f"{where}: search.{name} must be a positive whole number, got {value!r}")
    runs = planning.plan(study, overrides)
    if len(runs) != 1:
        raise ValueError(f"{where} lists {len(runs)} runs; a search varies one")
    run = runs[0]
    script = parameters.read(paths.notebooks() / f"{run.notebook}.py")
    metric = _metric(where, given["metric"], script)
    space = {address: _prior(f"{where}: {address}", prior) for address, prior in (given["space"] or {}).items()}
    if not space:
        raise ValueError(f"{where}: search.space names no parameter")
    for address in space:
        _check_address(where, address, script, run.params)
    shared = {k: v for k, v in overrides.items() if k not in MACHINE}
    fixed = [content.get("defaults"), content["notebooks"], shared, space, metric, counts["startup"], counts["seed"]]
    loads = {name: run.params[name] for name in ("network", "method", "source") if name in run.params}
    key = identity.hash8([identity.identity(script, loads), fixed])
    search = Search(study, key, run.notebook, run.params, metric=metric, space=space, overrides=overrides, **counts)
    for values in _corners(space):
        search.planned(values)
        if "loss" in values and "network" in run.params:
            _check_loss(where, values["loss"])
    return search


def _corners(space: dict):
    """Values of trials that between them have both ends of every prior, and every choice."""
    ends = [prior.get("choices") or [prior["low"], prior["high"]] for prior in space.values()]
    for place in range(max(map(len, ends))):
        yield {address: those[min(place, len(those) - 1)] for address, those in zip(space, ends)}


def _metric(where: str, name, script: parameters.Notebook) -> str:
    """The name of the score, which the notebook must hand to ``run.finish`` under that name."""
    if not isinstance(name, str) or not re.match("(best_)?val_", name):
        raise ValueError(f"{where}: search.metric must be a validation score such as val_ssim, got {name!r}")
    if NEVER_MAXIMISED.search(name):
        raise ValueError(f"{where}: a search maximises its metric, and {name} is better small or no score")
    recorded = {
        keyword.arg
        for node in ast.walk(script.body)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "run.finish"
        for keyword in node.keywords
    }
    parameters.check_name(f"{where}: run.finish of {script.name}", "number", name, recorded - {None})
    return name


def _prior(where: str, given) -> dict:
    """A prior with all of its four entries: uniform between two ends, in the logarithm or not, whole or not; or of
    choices, all equally likely."""
    if isinstance(given, dict) and "choices" in given:
        return _choices(where, given)
    if not isinstance(given, dict) or set(given) - PRIOR or not {"low", "high"} <= set(given):
        raise ValueError(
            f"{where} needs a prior {{low, high}}, with log: true and int: true where wanted, or {{choices: [...]}}; "
            f"got {given}"
        )
    prior = {"log": False, "int": False} | given
    ends = [prior["low"], prior["high"]]
    kinds = int if prior["int"] else int | float
    if any(isinstance(e, bool) or not isinstance(e, kinds) or not math.isfinite(e) for e in ends):
        raise ValueError(f"{where}: low and high must be {'whole ' if prior['int'] else ''}numbers, got {ends}")
    if not ends[0] < ends[1] or (prior["log"] and ends[0] <= 0):
        raise ValueError(f"{where}: low must be below high{' and above 0' if prior['log'] else ''}, got {ends}")
    convert = int if prior["int"] else float
    return prior | {"low": convert(ends[0]), "high": convert(ends[1])}


def _choices(where: str, given: dict) -> dict:
    """A prior of choices: two or more different numbers, words, true, false or null, and nothing beside them."""
    listed = given["choices"]
    plain = isinstance(listed, list) and all(one is None or isinstance(one, bool | int | float | str) for one in listed)
    if set(given) != {"choices"} or not plain or len({repr(one) for one in listed}) < max(2, len(listed)):
        raise ValueError(
            f"{where}: choices are two or more different words, numbers, true, false or null, without low and high; "
            f"got {given}"
        )
    return {"choices": listed}


def _check_loss(where: str, choice):
    """Raises: ValueError: for a loss that 03_train does not have."""
    from ldct_utils.training import losses

    for term in losses.parse(choice):
        parameters.check_name(f"{where}: loss {choice!r}", "term", term, losses.NAMES)


def _check_address(where: str, address: str, script: parameters.Notebook, fixed: dict):
    """Raises: ValueError: if an address names nothing that the notebook, the network or the method can be told."""
    name, _, key = address.partition(".")
    declared = script.parameters.get(name)
    parameters.check(script, {name: declared.default if declared else None})
    if not key:
        return
    if declared.type == "list":
        if not (key.isdigit() and int(key) < len(fixed[name])):
            raise ValueError(f"{where}: {address}: {name} has the places 0 to {len(fixed[name]) - 1}")
    elif declared.type != "dict":
        raise ValueError(f"{where}: {address}: {name} is {declared.type}, and only a dict or a list has parts")
    elif name == "settings" and "network" in fixed:
        from ldct_utils.models import networks

        known = networks.settings(fixed["network"])
        parameters.check_name(f"network {fixed['network']!r}", "setting", key, known)
    elif name == "method_settings":
        from ldct_utils.training import methods

        parameters.check_name(f"method {fixed['method']!r}", "setting", key, methods.settings(fixed["method"]))
