"""Time of `mtl-lightning inspect` on 10,000 JPEGs, and on the clothing data if it exists.

    python benchmarks/inspect_speed.py [--images 10000] [--height 533] [--width 400]

The images are drawn into a temporary folder first (about 50 kB each), with two tables of labels.
Each audit runs once in a new process, start-up included; the images are in the file cache. "cpu
/ 2" is the CPU time over 2: the best possible time on 2 idle cores. Target: at most 30 s without
--all. Exits with 1 if it is missed.
"""

import argparse
import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import runs
from PIL import Image
from rich.console import Console
from rich.table import Table

CLOTHING = runs.SHARED / "data/clothing/type.csv"
MOST_SECONDS = 30
CONFIG = """
tasks: {{kind: Classification, price: Regression}}
data:
  sources:
    kinds: {{class_path: TableSource, init_args: {{path: {folder}/kinds.csv}}}}
    prices: {{class_path: TableSource, init_args: {{path: {folder}/prices.csv}}}}
"""


def main() -> int:
    """Measure and print; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--height", type=int, default=533)
    parser.add_argument("--width", type=int, default=400)
    given = parser.parse_args()
    table = Table("images", "flags", "wall s", "cpu / 2 s")
    taken = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = draw(folder, given.images, given.height, given.width)
        page = ("--output", str(folder / "report.html"))
        for what, path, flags in (
            (f"{given.images:,}", config, ()),
            (f"{given.images:,}", config, page),
            (f"{given.images:,}", config, ("--all",)),
            ("4,961 (clothing)", "configs/clothing.yaml", ()),
        ):
            if path == config or CLOTHING.exists():
                log = folder / "log.txt"
                one = taken[what, flags] = runs.command(
                    "inspect", "--config", path, *flags, log=log
                )
                shown = " ".join(flags[:1])
                table.add_row(what, shown, f"{one.wall:.1f}", f"{one.cpu / 2:.1f}")
    reached = all(
        one.wall <= MOST_SECONDS for (_, flags), one in taken.items() if "--all" not in flags
    )
    console = Console()
    console.print(table)
    console.print(
        f"target {'reached' if reached else 'MISSED'}: at most {MOST_SECONDS} s without --all "
        f"({runs.load()})"
    )
    return int(not reached)


def draw(folder: Path, number: int, height: int, width: int) -> str:
    """Draw images and write their tables and a config; return the config's path."""

    def one(row: int) -> str:
        coarse = np.random.default_rng(row).integers(0, 256, (20, 15, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        image.save(folder / f"images/{row:05}.jpg", quality=92)
        return f"images/{row:05}.jpg"

    (folder / "images").mkdir()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        names = list(pool.map(one, range(number)))
    kinds = [f"{name},k{row % 20}" for row, name in enumerate(names[: number * 2 // 3])]
    prices = [f"{name},{row % 977}.5" for row, name in enumerate(names) if row >= number // 3]
    (folder / "kinds.csv").write_text("\n".join(["image,kind", *kinds]) + "\n")
    (folder / "prices.csv").write_text("\n".join(["image,price", *prices]) + "\n")
    (folder / "config.yaml").write_text(CONFIG.format(folder=folder))
    return str(folder / "config.yaml")


if __name__ == "__main__":
    sys.exit(main())
