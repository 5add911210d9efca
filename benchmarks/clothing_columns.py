"""Columns that say nothing, beside images: does a network that reads both learn to ignore them?

    python benchmarks/clothing_columns.py --output FOLDER [--seeds 1 2 3] [-- any flags for `fit`]

Trains configs/clothing.yaml as it is, and with an `ImageAndTable` for each `join` that also reads
the size in bytes, the width, the height and the mean brightness of each file, which say next to
nothing about a garment. `mtl-lightning compare` trains, measures on test and says which differences
exceed the noise of seeds and images; killed, it continues when called again. It needs ../shared, as
benchmarks/clothing.py does.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import runs
import yaml
from PIL import Image

from mtl_lightning.__main__ import main as mtl_lightning

CONFIG = runs.ROOT / "configs/clothing.yaml"
DATA = runs.SHARED / "data/clothing"
COLUMNS = ("bytes", "width", "height", "brightness")


def measured(image: str) -> dict[str, float]:
    """Return the columns of an image."""
    path = DATA / image
    with Image.open(path) as opened:
        brightness = float(np.asarray(opened.convert("L")).mean())
        width, height = opened.size
    found = (path.stat().st_size, width, height, brightness)
    return dict(zip(COLUMNS, found, strict=True))


def write(folder: Path, joins: list[str]) -> tuple[Path, Path]:
    """Write tables with the columns; return a config that reads them, and the variants."""
    config = yaml.safe_load(CONFIG.read_text())
    for source in config["data"]["sources"].values():
        init_args = source["init_args"]
        table = pd.read_csv(DATA / Path(init_args["path"]).name)
        columns = pd.DataFrame([measured(image) for image in table["image"]])
        init_args["path"] = str(folder / Path(init_args["path"]).name)
        init_args["root"] = str(DATA)
        pd.concat([table, columns], axis=1).to_csv(init_args["path"], index=False)
    weights = config["model"]["backbone"]["init_args"]
    weights["weights"] = str(runs.SHARED / "weights" / Path(weights["weights"]).name)
    variants = {
        join: {
            "model": {
                "backbone": {
                    "class_path": "ImageAndTable",
                    "init_args": {
                        "image": config["model"]["backbone"],
                        "table": {"class_path": "TableMLP", "init_args": {"width": 32}},
                        "join": join,
                    },
                }
            },
            "data": {"inputs": dict.fromkeys(COLUMNS, "Number")},
        }
        for join in joins
    }
    paths = folder / "clothing.yaml", folder / "variants.yaml"
    for path, content in zip(paths, (config, variants), strict=True):
        path.write_text(yaml.safe_dump(content, sort_keys=False))
    return paths


def main() -> int:
    """Write what is compared, and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="for tables and runs")
    parser.add_argument("--seeds", nargs="+", default=["1", "2", "3"])
    parser.add_argument("--joins", nargs="+", default=["concatenate", "film"])
    parser.add_argument("flags", nargs="*", help="for fit, after --")
    given = parser.parse_args()
    runs.skip_without([DATA / "type.csv"])
    given.output.mkdir(parents=True, exist_ok=True)
    config, variants = write(given.output.resolve(), given.joins)
    where = ["--config", str(config), "--output", str(given.output / "compared")]
    chosen = ["--variants", str(variants), "--seeds", *given.seeds, *given.flags]
    return mtl_lightning(["compare", *where, *chosen])


if __name__ == "__main__":
    sys.exit(main())
