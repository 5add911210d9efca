"""Calibration error before and after, and the coverage of sets, on clothing and emoji.

    python benchmarks/calibration.py [--data clothing emoji] [--epochs 20]

Heads with a hidden layer are trained on the features of a frozen EfficientNet-Lite0 at 64 px,
without augmentation. `fit` calibrates on val, `test` measures on test: the expected calibration
error with and without the temperature, and how many labels are in the sets that should hold 90 %.
The last column tells the method from the splits: the sets are fitted to a random half of val and
test together, whose rows are exchangeable with the other half, and measured on that (the mean over
200 halves).
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import runs
import torch
import yaml

from mtl_lightning.tasks.calibration import set_threshold

WEIGHTS = runs.SHARED / "weights" / "tf_efficientnet_lite0-imagenet-features.safetensors"
TABLES = {
    "clothing": {"type.csv": ["type"], "audience.csv": ["audience"]},
    "emoji": {"all.csv": ["category", "subgroup", "skin", "gender", "vendor"]},
}
COVERAGE, HALVES = 0.9, 200


def config(data: str, epochs: int) -> dict[str, Any]:
    """Return the config of a training."""
    sources, tasks = {}, {}
    for table, names in TABLES[data].items():
        arguments: dict[str, Any] = {"path": str(runs.SHARED / "data" / data / table)}
        arguments |= {"labels": {name: name for name in names}, "split": "split"}
        if data == "clothing":
            arguments["group"] = "sender"
        sources[Path(table).stem] = {"class_path": "TableSource", "init_args": arguments}
        tasks |= {name: {"class_path": "Classification"} for name in names}
    backbone = {
        "name": "tf_efficientnet_lite0",
        "weights": str(WEIGHTS),
        "preprocessing": {"mean": [0.5] * 3, "std": [0.5] * 3},
        "trainable_from": "heads",
    }
    rate = {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.001}}
    return {
        "seed_everything": 7,
        "tasks": tasks,
        "model": {
            "backbone": {"class_path": "Timm", "init_args": backbone},
            "head_hidden": 256,
            "dropout": 0.2,
            "optimizer": rate,
        },
        "data": {
            "sources": sources,
            "image_size": 64,
            "batch_size": 64,
            "num_workers": 0,
            "augmentation": "none",
            "cache_features": 1,
        },
        "trainer": {"max_epochs": epochs, "accelerator": "cpu"},
    }


def exchangeable(data: str, run: Path, root: Path) -> dict[str, float]:
    """Return for each task the coverage on one half of val and test, fitted to the other."""
    found = {}
    for table, names in TABLES[data].items():
        rows = pd.read_csv(runs.SHARED / "data" / data / table, keep_default_na=False)
        rows = rows[rows["split"] != "train"]
        images = root / "images.csv"
        folder = runs.SHARED / "data" / data
        rows.assign(image=[str(folder / name) for name in rows["image"]])[["image"]].to_csv(
            images, index=False
        )
        output = root / "predictions.csv"
        best = str(run / "checkpoints" / "best.ckpt")
        common = ["--allow_outside_root", "true", "--output", str(output)]
        log = root / "log.txt"
        runs.command("predict", "--ckpt_path", best, "--images", str(images), *common, log=log)
        answers = pd.read_csv(output, keep_default_na=False)
        for name in names:
            own = [c for c in answers if c.startswith(f"{name}:") and ":set_" not in c]
            classes = [column.partition(":")[2] for column in own]
            labels = rows[name].tolist()
            known = [i for i, label in enumerate(labels) if label in classes]
            truth = torch.tensor([classes.index(labels[i]) for i in known])
            shares = torch.tensor(answers[own].to_numpy(float))[known]
            right = shares.gather(1, truth[:, None]).squeeze(1)
            found[name] = _mean_coverage(right)
    return found


def _mean_coverage(right: torch.Tensor) -> float:
    """Return the mean coverage over random halves, given the probability of each label."""
    draw, covered = torch.Generator().manual_seed(0), []
    for _ in range(HALVES):
        one, other = right[torch.randperm(len(right), generator=draw)].chunk(2)
        threshold = set_threshold(one, COVERAGE)
        assert threshold is not None, "there are enough labels"
        covered.append((other >= threshold).double().mean())
    return float(torch.stack(covered).mean())


def main() -> None:
    """Train, test, and print a row for each task."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", nargs="+", choices=list(TABLES), default=list(TABLES))
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args()
    folders = [runs.SHARED / "data" / name for name in options.data]
    runs.skip_without([WEIGHTS, *folders])
    columns = "Task, n, accuracy, temperature, error before, after, coverage, set size, halves"
    print(f"| {columns.replace(', ', ' | ')} |")
    print("|---" * 9 + "|")
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        for name in options.data:
            path = root / f"{name}.yaml"
            path.write_text(yaml.safe_dump(config(name, options.epochs), sort_keys=False))
            common = ["--config", str(path), "--trainer.default_root_dir", str(root)]
            runs.command("fit", *common, log=root / "log.txt")
            runs.command("test", *common, "--ckpt_path", "best", log=root / "log.txt")
            (run,) = root.rglob(f"{name}/version_0")
            content = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
            measured = json.loads((run / "test_metrics.json").read_text())["tasks"]
            halves = exchangeable(name, run, root)
            for task, own in measured.items():
                temperature = content["calibration"][task]["temperature"]
                print(
                    f"| {name} {task} | {own['n_labelled']:,} | {own['accuracy']:.3f} | "
                    f"{temperature:.2f} | {own['calibration_error_before']:.3f} | "
                    f"{own['calibration_error']:.3f} | {own['coverage']:.3f} | "
                    f"{own['set_size']:.2f} | {halves[task]:.3f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
