"""``bad_images.csv``: the images that were skipped, and why."""

import csv
import time
from dataclasses import astuple, fields
from functools import partial
from pathlib import Path

from pytorch_lightning import Callback, LightningModule, Trainer
from rich import get_console
from rich.markup import escape

from mtl_lightning.data.bad_images import BadImage, BadImages
from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.system.files import as_utf8, atomic_write
from mtl_lightning.system.strategy import is_trial

PAUSE = 10.0
"""Seconds between two writes of a file that may grow long while images are found."""


class BadImagesFile(Callback):
    """Lists skipped images in ``bad_images.csv``, below those that earlier commands listed.

    Args:
        run: The folder to write to.
    """

    def __init__(self, run: Path) -> None:
        self.path = run / "bad_images.csv"
        self._next = 0.0
        self._listening = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Subscribe to images that are found."""
        bad = _bad_images(trainer)
        if bad is not None and trainer.is_global_zero and not is_trial(trainer):
            bad.subscribe(partial(self._write, bad, pause=PAUSE))
            self._listening = True

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Write the file, whatever stopped the run."""
        self._finish(trainer)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Print how many images were skipped and where they are listed."""
        self._finish(trainer)

    def _finish(self, trainer: Trainer) -> None:
        bad = _bad_images(trainer)
        if bad is None or not self._listening:
            return
        bad.unsubscribe()
        self._listening = False
        count = len(list(bad))
        if count:
            self._write(bad)
            images = "image" if count == 1 else "images"
            get_console().print(
                f"[yellow]note:[/] skipped {count:,} {images} that could not be used; see "
                f"{escape(str(self.path))}",
                highlight=False,
                soft_wrap=True,
            )

    def _write(self, bad: BadImages, pause: float = 0.0) -> None:
        """Write the file, unless it was written less than ``pause`` seconds ago."""
        if pause and time.monotonic() < self._next:
            return
        lines = _lines(self.path)
        listed = {tuple(line[0:3:2]) for line in lines}  # image and split
        for one in bad:
            line = [*map(as_utf8, astuple(one))]
            if tuple(line[0:3:2]) not in listed:
                lines.append(line)
        with atomic_write(self.path) as file:
            csv.writer(file).writerows([[field.name for field in fields(BadImage)], *lines])
        self._next = time.monotonic() + pause


def _bad_images(trainer: Trainer) -> BadImages | None:
    data = trainer.datamodule  # type: ignore[attr-defined]  # set by Lightning
    return data.bad if isinstance(data, PartialLabels) else None


def _lines(path: Path) -> list[list[str]]:
    if not path.exists():
        return []
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.reader(file))[1:]
