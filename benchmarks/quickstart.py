"""Train and test configs/quickstart.yaml with several seeds: time, and accuracy on test.

    python benchmarks/quickstart.py [--seeds 1 2 3] [--ckpt best] [-- any flags for `fit`]

Targets, for each seed: `fit` under three minutes on 2 CPU cores, accuracy on test of digit and of
parity at least 0.90. "cpu / 2" is the CPU time over 2: the best possible time on 2 idle cores.
Exits with 1 if a target is missed.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import runs
from rich.console import Console
from rich.table import Table

CONFIG = "configs/quickstart.yaml"
MOST_SECONDS, LEAST_ACCURACY = 180, 0.90


def main() -> int:
    """Measure and print; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--ckpt", choices=["best", "last"], default="best")
    parser.add_argument("flags", nargs="*", help="for fit, after --")
    given = parser.parse_args()
    table = Table("seed", "fit s", "cpu / 2 s", "digit acc.", "parity acc.", "ink r2")
    reached = True
    for seed in given.seeds:
        with tempfile.TemporaryDirectory() as folder:
            where = ("--config", CONFIG, "--trainer.default_root_dir", folder)
            log = Path(folder) / "log.txt"
            fit = runs.command("fit", *where, "--seed_everything", str(seed), *given.flags, log=log)
            runs.command("test", *where, "--ckpt_path", given.ckpt, log=log)
            found = runs.results(Path(folder) / "quickstart" / "version_0", "test")
        digit, parity = (found[task]["accuracy"] for task in ("digit", "parity"))
        reached &= min(digit, parity) >= LEAST_ACCURACY and fit.wall <= MOST_SECONDS
        table.add_row(
            str(seed),
            f"{fit.wall:.0f}",
            f"{fit.cpu / 2:.0f}",
            f"{digit:.3f}",
            f"{parity:.3f}",
            f"{found['ink']['r2']:.3f}",
        )
    console = Console()
    console.print(table)
    console.print(
        f"targets {'reached' if reached else 'MISSED'}: fit at most {MOST_SECONDS} s, both "
        f"accuracies at least {LEAST_ACCURACY:.2f} ({runs.load()})"
    )
    return int(not reached)


if __name__ == "__main__":
    sys.exit(main())
