"""What ``make weights`` runs: fetch what encoders and metrics need, and say what failed."""

import sys

from ldct_utils.metrics import registry
from ldct_utils.models import weights
from ldct_utils.study import paths


def main(names) -> int:
    """Fetch for these encoders and metrics (all if none is named) and return the exit status."""
    needs = {name: metric.needs for name, metric in registry.REGISTER.items() if metric.needs}
    failed = weights.fetch_bundle(names, needs)
    for path, reason in failed.items():
        print(f"failed: {path}: {reason}")
    where = paths.short(paths.weights())
    print(f"{where}: {len(failed)} files failed; try again later" if failed else f"{where}: all here")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
