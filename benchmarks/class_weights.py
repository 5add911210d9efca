"""Class weights on real photographs: none, sqrt, effective and balanced, measured on val.

    python benchmarks/class_weights.py [--tasks audience] [--seeds 1 2] [-- any flags for `fit`]

Two label tables of photographs of clothes are trained in one network with the default settings, a
SqueezeNet (ImageNet weights), 64 px and 8 epochs; only the named tasks have `class_weights`.
Of 1,323 training labels of `audience` 99 are kids, of 607 on val 44. Since so few make an epoch's
balanced accuracy jump, the mean over the last three epochs is printed beside the epoch that `best`
chooses. It needs ../shared and about a minute of one core for each run. Test is not read.
"""

import argparse
import json
import tempfile
from pathlib import Path
from statistics import mean
from typing import Any

import runs
from rich.console import Console
from rich.table import Table

from mtl_lightning.config import yaml_io

WEIGHTS = (None, "sqrt", "effective", "balanced")
VALUES = (
    ("type", "accuracy"),
    ("type", "balanced_accuracy"),
    ("audience", "accuracy"),
    ("audience", "balanced_accuracy"),
)
FILE = runs.SHARED / "weights/squeezenet1_1-imagenet-features.safetensors"
LAST = 3


def config(tasks: list[str], weights: str | None, folder: Path) -> dict[str, Any]:
    """Return the config with one setting of the class weights."""
    data = runs.SHARED / "data/clothing"
    given = {"class_weights": weights}
    return {
        "name": "run",
        "tasks": {
            name: {"class_path": "Classification", "init_args": given if name in tasks else {}}
            for name in ("type", "audience")
        },
        "model": {
            "backbone": {
                "class_path": "Torchvision",
                "init_args": {
                    "name": "squeezenet1_1",
                    "weights": str(FILE),
                    "preprocessing": "caffe",
                },
            }
        },
        "data": {
            "sources": {
                name: {
                    "class_path": "TableSource",
                    "init_args": {
                        "path": str(data / f"{name}.csv"),
                        "labels": {name: name},
                        "split": "split",
                        "group": "sender",
                    },
                }
                for name in ("type", "audience")
            },
            "image_size": 64,
            "num_workers": 0,
            "cache": "disk",
            "cache_dir": str(folder / "cache"),
        },
        "trainer": {"max_epochs": 8, "default_root_dir": str(folder), "logger": False},
    }


def validations(run: Path) -> list[dict[str, Any]]:
    """Return the results of each validation of a run."""
    facts = json.loads((run / "run.json").read_text())
    return [each["results"] for each in facts["validations"]]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", default=["audience"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("flags", nargs="*", help="for fit, after --")
    given = parser.parse_args()
    runs.skip_without([FILE])
    columns = [f"{task} {metric}" for task, metric in VALUES]
    table = Table("class_weights", "seed", "epochs", *columns, "score")
    with tempfile.TemporaryDirectory() as name:
        folder, number = Path(name), 0
        for weights in WEIGHTS:
            lasts = []
            for seed in given.seeds:
                file = folder / "config.yaml"
                file.write_text(yaml_io.dump(config(given.tasks, weights, folder)))
                flags = ("--config", str(file), "--seed_everything", str(seed), *given.flags)
                runs.command("fit", *flags, log=folder / "log.txt")
                found = validations(folder / "run" / f"version_{number}")
                number += 1
                lasts += found[-LAST:]
                best = max(found, key=lambda each: each["score"])
                table.add_row(str(weights), str(seed), "best", *_row([best]))
                table.add_row("", "", f"last {LAST}", *_row(found[-LAST:]))
            table.add_row(str(weights), "mean", f"last {LAST}", *_row(lasts), end_section=True)
    console = Console()
    console.print(table)
    console.print(f"on val; {runs.load()}")


def _row(results: list[dict[str, Any]]) -> list[str]:
    values = [mean(each["tasks"][task][metric] for each in results) for task, metric in VALUES]
    return [f"{value:.3f}" for value in (*values, mean(each["score"] for each in results))]


if __name__ == "__main__":
    main()
