"""Draws docs/run.svg: the terminal of one real run of the quickstart.

    .venv/bin/python docs/make_picture.py

It trains (three minutes on two cores) in a temporary folder, without the moving progress bar.
"""

import os
import tempfile
from pathlib import Path

import rich
from rich.terminal_theme import MONOKAI

from mtl_lightning.__main__ import main

ROOT = Path(__file__).resolve().parents[1]


def draw() -> None:
    """Run fit and test, and write their output as a picture."""
    rich.reconfigure(record=True, width=84, force_terminal=True)
    console = rich.get_console()
    config = str(ROOT / "configs/quickstart.yaml")
    os.chdir(tempfile.mkdtemp())
    for command, more in (("fit", []), ("test", ["--ckpt_path", "best"])):
        typed = " ".join(["mtl-lightning", command, "--config configs/quickstart.yaml", *more])
        console.print(f"[green]$[/] [bold]{typed}[/]", highlight=False)
        status = main([command, "--config", config, *more, "--trainer.enable_progress_bar=false"])
        assert status == 0
    console.save_svg(str(ROOT / "docs/run.svg"), title="mtl-lightning", theme=MONOKAI)


if __name__ == "__main__":
    draw()
