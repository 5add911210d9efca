"""Real data: configs/clothing.yaml, trained and tested by the command line.

    python benchmarks/clothing.py [--seeds 7] [-- any flags for `fit`]

Two label tables that overlap in 487 of 3,265 training images are merged; the backbone is a
SqueezeNet with ImageNet weights. It needs ../shared (the Clothing dataset of Alexey Grigorev and
contributors, CC0, at 128 px, and the weights) and takes a few minutes on 2 cores. Target: top-1
accuracy of the garment type on test at least 0.70. The settings in the config were chosen on val;
test is measured once, on the checkpoint that is best on val. Exits with 1 if the target is missed.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import runs
from rich.console import Console
from rich.table import Table

CONFIG = "configs/clothing.yaml"
NEEDED = (
    runs.SHARED / "data/clothing/type.csv",
    runs.SHARED / "data/clothing/audience.csv",
    runs.SHARED / "weights/squeezenet1_1-imagenet-features.safetensors",
)
LEAST_ACCURACY = 0.70


def main() -> int:
    """Measure and print; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[7])
    parser.add_argument("flags", nargs="*", help="for fit, after --")
    given = parser.parse_args()
    runs.skip_without(NEEDED)
    columns = ("type top-1", "type balanced", "audience balanced")
    table = Table("seed", "fit s", "cpu s", "split", *columns)
    reached = True
    for seed in given.seeds:
        with tempfile.TemporaryDirectory() as folder:
            where = ("--config", CONFIG, "--trainer.default_root_dir", folder)
            log = Path(folder) / "log.txt"
            fit = runs.command("fit", *where, "--seed_everything", str(seed), *given.flags, log=log)
            for command, split in (("validate", "val"), ("test", "test")):
                runs.command(command, *where, "--ckpt_path", "best", log=log)
                found = runs.results(Path(folder) / "clothing" / "version_0", split)
                values = (
                    found["type"]["accuracy"],
                    found["type"]["balanced_accuracy"],
                    found["audience"]["balanced_accuracy"],
                )
                head = (str(seed), f"{fit.wall:.0f}", f"{fit.cpu:.0f}")
                first = head if split == "val" else ("", "", "")
                table.add_row(*first, split, *(f"{value:.3f}" for value in values))
            reached &= found["type"]["accuracy"] >= LEAST_ACCURACY
    console = Console()
    console.print(table)
    console.print(
        f"target {'reached' if reached else 'MISSED'}: type top-1 on test at least "
        f"{LEAST_ACCURACY:.2f} ({runs.load()})"
    )
    return int(not reached)


if __name__ == "__main__":
    sys.exit(main())
