"""Time of `mtl-lightning --help`, relative to importing pytorch_lightning alone.

    python benchmarks/help_startup.py [--repeats 7]

Both commands alternate (A B A B ...) in new processes of this interpreter, after one of each
that is not counted (it fills the file cache). Exits with 1 if the ratio of medians is above 0.25.
"""

import argparse
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

TARGET = 0.25


def main() -> int:
    """Measure and print; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    script = shutil.which("mtl-lightning", path=sysconfig.get_path("scripts"))
    if script is None:
        sys.exit(f"no mtl-lightning next to {Path(sys.executable).parent}: pip install -e .")
    commands: dict[str, list[str]] = {
        "mtl-lightning --help": [script, "--help"],
        "import pytorch_lightning": [sys.executable, "-c", "import pytorch_lightning"],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for repeat in range(repeats + 1):
        for name, command in commands.items():
            taken = seconds(command)
            if repeat:
                times[name].append(taken)
    table = Table("command", "median s", "min s", "max s")
    for name, values in times.items():
        table.add_row(name, *(f"{v:.3f}" for v in (median(values), min(values), max(values))))
    ours, theirs = (median(values) for values in times.values())
    console = Console()
    console.print(table)
    console.print(f"ratio of medians {ours / theirs:.3f} (target: at most {TARGET})")
    return int(ours / theirs > TARGET)


def seconds(command: Sequence[str]) -> float:
    """Return the duration of a command."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
