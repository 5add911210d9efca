"""``test_bootstrap.json``: the metrics of an evaluation over bootstrap samples of its images."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer

from mtl_lightning.callbacks.evaluation import EvaluationCallback, add_up
from mtl_lightning.data.batch import Batch
from mtl_lightning.data.splits import hashed
from mtl_lightning.system.files import atomic_write
from mtl_lightning.tasks.resampling import BLOCKS, BlockStates
from mtl_lightning.tasks.results import plain_number, plain_numbers
from mtl_lightning.training.protocol import data_of, multi_task


class Bootstrap(EvaluationCallback):
    """Writes ``<split>_bootstrap.json`` after ``test`` or ``validate``.

    It holds each task's metrics over the split and over ``draws`` samples of blocks of its images.
    Two runs on the same images draw the same samples, so their differences have an interval, too.

    Args:
        run: The folder to write to.
        draws: Number of samples; 0 for nothing.
    """

    def __init__(self, run: Path, draws: int) -> None:
        self.run = run
        self.draws = draws
        self._states: dict[str, BlockStates] = {}
        self._blocks = torch.empty(0, dtype=torch.int64)

    def start(self, trainer: Trainer, pl_module: LightningModule, split: str) -> None:
        """Put all images into blocks."""
        del split
        if not self.draws:
            return
        blocks = hashed(data_of(trainer).labels.table.keys, seed=0) % BLOCKS
        self._blocks = torch.from_numpy(blocks.astype("int64"))
        tasks = multi_task(pl_module).tasks.items()
        self._states = {name: BlockStates(task, pl_module.device) for name, task in tasks}

    def add(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch) -> None:
        """Add a batch."""
        del trainer, pl_module
        for name, states in self._states.items():
            blocks = self._blocks[batch.rows.cpu()].to(batch.rows.device)
            states.add(outputs[name], batch.targets[name], batch.labelled[name], blocks)

    def finish(self, trainer: Trainer, pl_module: LightningModule, split: str) -> None:
        """Write the file."""
        if not self._states:
            return
        for states in self._states.values():
            add_up(trainer, states.sums())
        module, results = multi_task(pl_module), multi_task(pl_module).results[split]
        if trainer.is_global_zero:
            tasks = {}
            for name, states in self._states.items():
                if results.tasks[name]["n_labelled"]:
                    drawn = states.resample(self.draws)
                    tasks[name] = {
                        "primary": module.tasks[name].primary,
                        "images": _images(trainer, split, name),
                        "higher_is_better": states.higher_is_better(drawn),
                        "metrics": plain_numbers(results.tasks[name]),
                        "draws": {
                            metric: list(map(plain_number, v)) for metric, v in drawn.items()
                        },
                    }
            path = self.run / f"{split}_bootstrap.json"
            with atomic_write(path) as file:
                json.dump({"split": split, "blocks": BLOCKS, "tasks": tasks}, file)
                file.write("\n")
            module.print(f"written: {path}")
        self._states = {}


def _images(trainer: Trainer, split: str, task: str) -> str:
    """Return a digest of the images that carry a label of the task, the same in any order."""
    labels = data_of(trainer).labels
    measured = labels.table.in_split(split) & (labels.encoded[task].counts() > 0)
    keys = sorted(labels.table.keys[measured].tolist())
    return sha256("\n".join(keys).encode("utf-8", "surrogateescape")).hexdigest()[:16]
