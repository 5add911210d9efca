"""Calibration error before and after, and the coverage of sets, on clothing and emoji.

    python benchmarks/calibration.py [--data clothing emoji] [--epochs 20]

Heads with a hidden layer are trained on the features of a frozen EfficientNet-Lite0 at 64 px,
without augmentation. `fit` calibrates on val, `test` measures on test: the expected calibration
error with and without the temperature, and how many labels are in the sets that should hold 90 %.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import runs
import torch
import yaml

WEIGHTS = runs.SHARED / "weights" / "tf_efficientnet_lite0-imagenet-features.safetensors"
TABLES = {
    "clothing": {"type.csv": ["type"], "audience.csv": ["audience"]},
    "emoji": {"all.csv": ["category", "subgroup", "skin", "gender", "vendor"]},
}


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


def main() -> None:
    """Train, test, and print a row for each task."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", nargs="+", choices=list(TABLES), default=list(TABLES))
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args()
    folders = [runs.SHARED / "data" / name for name in options.data]
    runs.skip_without([WEIGHTS, *folders])
    print("| Task | n | accuracy | temperature | error before | after | coverage | set size |")
    print("|---|---|---|---|---|---|---|---|")
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
            for task, own in measured.items():
                temperature = content["calibration"][task]["temperature"]
                print(
                    f"| {name} {task} | {own['n_labelled']:,} | {own['accuracy']:.3f} | "
                    f"{temperature:.2f} | {own['calibration_error_before']:.3f} | "
                    f"{own['calibration_error']:.3f} | {own['coverage']:.3f} | "
                    f"{own['set_size']:.2f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
