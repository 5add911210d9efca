"""Shared by benchmarks that train: the real command line in a new process, and its results."""

import json
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"


@dataclass(frozen=True)
class Taken:
    """The cost of a command.

    Attributes:
        wall: Elapsed seconds.
        cpu: Seconds of CPU time, of the command and its loader processes.
    """

    wall: float
    cpu: float


def command(*arguments: str, log: Path) -> Taken:
    """Run `mtl-lightning ARGUMENTS` in the root of the repository, with its output in ``log``.

    A failure ends the benchmark and shows the end of the log.
    """
    before, start = _cpu(), time.perf_counter()
    with log.open("a") as file:
        done = subprocess.run(
            [sys.executable, "-m", "mtl_lightning", *arguments],
            cwd=ROOT,
            stdout=file,
            stderr=subprocess.STDOUT,
            check=False,
        )
    taken = Taken(time.perf_counter() - start, _cpu() - before)
    if done.returncode:
        sys.exit(f"mtl-lightning {' '.join(arguments)} failed:\n{log.read_text()[-3000:]}")
    return taken


def results(folder: Path, split: str) -> dict[str, dict[str, float]]:
    """Return the metrics of each task that `validate` (val) or `test` wrote into a run's folder."""
    tasks: dict[str, dict[str, float]] = json.loads((folder / f"{split}_metrics.json").read_text())[
        "tasks"
    ]
    return tasks


def skip_without(paths: Sequence[Path]) -> None:
    """Exit with one line if something that the benchmark needs does not exist."""
    missing = [path for path in paths if not path.exists()]
    if missing:
        print(f"skipped: {missing[0]} does not exist (see the docstring)")
        sys.exit(0)


def load() -> str:
    """Return the number of cores and the load, to judge the times."""
    return f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f} at the end"


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def peak_mib() -> float:
    """Return the peak memory of this process. Linux only.

    (``ru_maxrss`` is at least that of the parent process.)
    """
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024
