"""Time to the first error and to the first step, relative to importing pytorch_lightning alone.

    python benchmarks/startup.py [--repeats 5]

All commands alternate (A B C A B C ...) in new processes of this interpreter, after one of each
that is not counted (it fills the file cache). A mistake in the name of a command, key, option,
class, config or checkpoint is found before anything heavy is imported; one in the name of a table
or of a column needs pandas, and one in an argument of a class all imports. The first step is a
whole `fit` of configs/quickstart.yaml with one step, merging and checkpoint included. Exits with 1
if `--help` or an early error takes more than a quarter of the import.
"""

import argparse
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import runs
from rich.console import Console
from rich.table import Table

TARGET = 0.25
CONFIG = str(runs.ROOT / "configs/quickstart.yaml")
STEP = ("--trainer.max_steps", "1", "--trainer.limit_val_batches", "0")
PATH = ("--data.sources.a.path",)
FILES = {
    "table.yaml": """
tasks: {kind: Classification}
data: {sources: {a: {class_path: TableSource, init_args: {path: "", image: photo}}}}
""",
    "table.csv": "image,kind\na.png,1\n",
}
EARLY = {
    "--help": ["--help"],
    "a misspelt command": ["fti"],
    "a missing config": ["fit", "--config", "nowhere.yaml"],
    "a misspelt option": ["fit", "--config", CONFIG, "--trianer.max_epochs", "3"],
    "a missing checkpoint": ["test", "--config", CONFIG, "--ckpt_path", "best"],
    "a misspelt class": ["fit", "--config", CONFIG, "--model.backbone", "VGG61"],
    "a missing table": ["fit", "--config", "table.yaml", *PATH, "nowhere.csv"],
    "a misspelt column": ["fit", "--config", "table.yaml", *PATH, "table.csv"],
}
LATE = {
    "a misspelt argument": ["fit", "--config", CONFIG, "--data.batch_siz", "3"],
    "fit, one step": ["fit", "--config", CONFIG, *STEP],
}


def main() -> int:
    """Measure and print; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    script = shutil.which("mtl-lightning", path=sysconfig.get_path("scripts"))
    if script is None:
        sys.exit(f"no mtl-lightning next to {Path(sys.executable).parent}: pip install -e .")
    imports = "import pytorch_lightning"
    commands = {imports: [sys.executable, "-c", imports]}
    commands |= {name: [script, *arguments] for name, arguments in (EARLY | LATE).items()}
    times: dict[str, list[float]] = {name: [] for name in commands}
    with tempfile.TemporaryDirectory() as folder:
        for name, text in FILES.items():
            Path(folder, name).write_text(text, encoding="utf-8")
        for repeat in range(repeats + 1):
            for name, command in commands.items():
                taken = seconds(command, folder)
                if repeat:
                    times[name].append(taken)
    middle = {name: median(values) for name, values in times.items()}
    table = Table("command", "median s", "min s", "max s", "ratio")
    for name, values in times.items():
        shown = (f"{v:.2f}" for v in (middle[name], min(values), max(values)))
        table.add_row(name, *shown, f"{middle[name] / middle[imports]:.2f}")
    console = Console()
    console.print(table)
    worst = max(middle[name] for name in EARLY) / middle[imports]
    console.print(f"early: at most {worst:.2f} of the import (target: {TARGET}; {runs.load()})")
    return int(worst > TARGET)


def seconds(command: Sequence[str], folder: str) -> float:
    """Return the duration of a command, which may end in an error."""
    start = time.perf_counter()
    subprocess.run(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
    )
    return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
