"""Cost of a checkpoint within the epoch, in training steps.

    python benchmarks/checkpoint_cost.py [--size 64] [--batch 32] [--steps 12]

Trains a VGG16 with AdamW (checkpoints of 177 MB: weights, two moments) on prebuilt images, and
saves every third step as `checkpoint.every_n_train_steps: 3` does, log files included. Prints the
time of a save as a multiple of the time of a step in the same run, and its share of the time if it
is made every 10, 100 or 1000 steps.
"""

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import runs
from noise import built_before, tasks_of
from pytorch_lightning import Callback, Trainer
from rich.console import Console

from mtl_lightning import VGG16, MultiTask
from mtl_lightning.callbacks.checkpoints import Checkpoints
from mtl_lightning.commands.quiet import quieten
from mtl_lightning.runs.checkpoint_writing import AtomicCheckpointIO
from mtl_lightning.runs.loggers import ResumableCSVLogger

CLASSES = {"one": 8, "two": 8}


class Timed(Checkpoints):
    """Records the duration of each save."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "val/score", "max", every_n_train_steps=3)
        self.took: list[float] = []

    def save(self, trainer: Trainer) -> None:
        """Save, and note the time."""
        begun = time.perf_counter()
        super().save(trainer)
        self.took.append(time.perf_counter() - begun)


class Steps(Callback):
    """Records the duration of each step, without the save at its start."""

    def __init__(self, saves: Timed) -> None:
        self.saves = saves
        self.took: list[float] = []

    def on_train_batch_start(self, *_: Any) -> None:
        """Note the time, before anything is saved."""
        self.begun, self.before = time.perf_counter(), sum(self.saves.took)

    def on_train_batch_end(self, *_: Any) -> None:
        """Note the time again."""
        saving = sum(self.saves.took) - self.before
        self.took.append(time.perf_counter() - self.begun - saving)


def main() -> None:
    """Measure and print."""
    quieten()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=12)
    given = parser.parse_args()
    data = built_before(CLASSES, given.steps, given.batch, given.size, every=True)
    module = MultiTask(dict(tasks_of(CLASSES)), VGG16(weights=None), image_size=given.size)
    with tempfile.TemporaryDirectory() as name:
        saves = Timed(Path(name))
        steps = Steps(saves)
        trainer = Trainer(
            accelerator="cpu",
            max_epochs=1,
            limit_val_batches=0,
            logger=ResumableCSVLogger(name, "csv", "0"),
            plugins=[AtomicCheckpointIO()],
            callbacks=[steps, saves],
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            default_root_dir=name,
        )
        trainer.fit(module, datamodule=data)
        size = saves.last.stat().st_size / 1e6
    step = median(steps.took[1:])
    save = median(saves.took[1:])
    shares = ", ".join(f"{n}: {save / (save + n * step):.2%}" for n in (10, 100, 1000))
    Console().print(
        f"VGG16, {given.size} px, batch {given.batch}: a checkpoint of {size:.0f} MB takes "
        f"{save:.2f} s, as long as {save / step:.2f} steps of {step:.2f} s; share of the time, by "
        f"steps from one to the next: {shares} ({runs.load()})",
        highlight=False,
        soft_wrap=True,
    )


if __name__ == "__main__":
    main()
