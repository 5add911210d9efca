"""Time and size of the page about a run with ten tasks and 10,000 test images.

    python benchmarks/report.py [--images 10000] [--keep FOLDER]

The images are drawn into a temporary folder first; a small network is trained for a few steps, and
tested on all of them, with slices by two columns. Then the page is written once in a new process,
start-up included. Target: under 20 s and under 10 MB. Exits with 1 if it is missed.
"""

import argparse
import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import runs
import yaml
from PIL import Image
from rich.console import Console
from rich.table import Table

MOST_SECONDS, MOST_BYTES = 20, 10_000_000
TRAINED = 500
"""Images of train, and of val."""
CLASSES = {"garment": 5, "colour": 12, "brand": 40, "place": 100}
LABELS = [f"label {n}" for n in range(30)]
NUMBERS = ("price", "length", "weight", "age")


def main() -> int:
    """Measure and print; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--keep", type=Path, help="keep the run here, or measure one that was kept")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = (given.keep or Path(name)).resolve()
        taken = {} if (folder / "runs").exists() else tested(folder, given.images)
        run, page = folder / "runs/ten/version_0", folder / "page.html"
        written = runs.command("report", str(run), "--output", str(page), log=folder / "log.txt")
        size = page.stat().st_size
    table = Table("command", "wall s", "cpu s")
    for what, one in {**taken, "report": written}.items():
        table.add_row(what, f"{one.wall:.1f}", f"{one.cpu:.1f}")
    reached = written.wall < MOST_SECONDS and size < MOST_BYTES
    console = Console()
    console.print(table)
    console.print(
        f"page: {size / 1e6:.2f} MB; target {'reached' if reached else 'MISSED'}: under "
        f"{MOST_SECONDS} s and {MOST_BYTES / 1e6:.0f} MB ({runs.load()})"
    )
    return int(not reached)


def tested(folder: Path, images: int) -> dict[str, runs.Taken]:
    """Train a network and test it, with the page and without; return what the tests took."""
    folder.mkdir(parents=True, exist_ok=True)
    config, log = draw(folder, images), folder / "log.txt"
    named = ("--config", config, "--trainer.default_root_dir", str(folder / "runs"))
    runs.command("fit", *named, log=log)
    return {
        shown: runs.command(*shown.split(), *named, "--ckpt_path", "best", log=log)
        for shown in ("test --report false", "test")
    }


def draw(folder: Path, images: int) -> str:
    """Draw images and write their table and a config; return the config's path."""
    random, number = np.random.default_rng(0), images + 2 * TRAINED
    colours = random.integers(0, 256, (number, 6, 8, 3), dtype=np.uint8)

    def one(row: int) -> str:
        image = Image.fromarray(colours[row]).resize((80, 60), Image.Resampling.BICUBIC)
        image.save(folder / f"images/{row:05}.jpg", quality=90)
        return f"images/{row:05}.jpg"

    (folder / "images").mkdir(exist_ok=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        columns: dict[str, Any] = {"image": list(pool.map(one, range(number)))}
    brightness = colours.mean(axis=(1, 2, 3))
    for task, count in CLASSES.items():
        noisy = brightness + random.normal(0, 5, number)
        ranks = noisy.argsort().argsort() * count // number
        columns[task] = np.where(random.random(number) < 0.8, [f"{task} {r}" for r in ranks], None)
    for task in NUMBERS:
        values = (brightness + random.normal(0, 5, number)).round(2).astype(object)
        columns[task] = np.where(random.random(number) < 0.8, values, None)
    columns["size"] = np.array(["S", "M", "L", "XL"])[random.integers(0, 4, number)]
    for label in LABELS:
        columns[label] = random.choice(["yes", "no"], number)
    columns["sender"] = [f"sender {n}" for n in random.zipf(1.5, number) % 200]
    columns["taken"] = [f"20{n % 20 + 10}-{n % 12 + 1:02}-03" for n in range(number)]
    columns["split"] = ["train"] * TRAINED + ["val"] * TRAINED + ["test"] * images
    pd.DataFrame(columns).to_csv(folder / "table.csv", index=False)
    tasks: dict[str, Any] = {task: {"class_path": "Classification"} for task in CLASSES}
    for task, count in CLASSES.items():
        tasks[task]["init_args"] = {"classes": [f"{task} {n}" for n in range(count)]}
    tasks |= {task: {"class_path": "Regression"} for task in NUMBERS}
    tasks["size"] = {"class_path": "Ordinal", "init_args": {"classes": ["S", "M", "L", "XL"]}}
    tasks["tags"] = {"class_path": "MultiLabel", "init_args": {"labels": LABELS}}
    backbone = {"name": "squeezenet1_1", "weights": None, "preprocessing": "imagenet"}
    config = {
        "name": "ten",
        "tasks": tasks,
        "model": {"backbone": {"class_path": "Torchvision", "init_args": backbone}},
        "data": {
            "sources": {
                "table": {
                    "class_path": "TableSource",
                    "init_args": {"path": str(folder / "table.csv")},
                }
            },
            "slices": ["sender", "taken"],
            "image_size": 32,
            "batch_size": 100,
        },
        "trainer": {"max_epochs": 2},
    }
    (folder / "ten.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return str(folder / "ten.yaml")


if __name__ == "__main__":
    sys.exit(main())
