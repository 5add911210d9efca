"""Trainings and evaluations in which two ranks should come to what one process comes to."""

from collections import Counter
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from pytorch_lightning import Callback

from mtl_lightning.data.batch import Batch
from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.models import Soft
from mtl_lightning.tasks import Classification, Regression, Task
from mtl_lightning.tasks.results import Results
from tests.helpers.support import (
    KINDS,
    Memory,
    fit,
    make_module,
    make_more_tasks,
    make_trainer,
    sparse_labels,
    weights,
)

ABSENT = "a task absent in the whole step"
ONE_SIDED = "a rank without any label of a task"
UNEVEN = "an uneven last batch"

OPTIMIZERS = {
    "AdamW": lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.1),
    "SGD": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.1),
}


def every_task() -> dict[str, Task]:
    """Return tasks of every kind, with every loss and both sorts of weights."""
    return make_more_tasks() | {
        "votes": Classification(list(KINDS), class_weights=[1.0, 0.5, 3.0], label_smoothing=0.1),
        "length": Regression(loss="l1"),
        "mass": Regression(loss="mse"),
    }


def every_label(rows: int) -> dict[str, list[Any]]:
    """Return sparse labels of `every_task`; every other vote is divided."""
    labels, others = sparse_labels(rows), sparse_labels(rows, seed=1)
    votes = [
        kind and (f"{kind}:3|{KINDS[(KINDS.index(kind) + 1) % 3]}:1" if i % 2 else kind)
        for i, kind in enumerate(others["kind"])
    ]
    return labels | {
        "votes": votes,
        "length": others["size"],
        "mass": others["size"][::-1],
    }


def every_data(splits: list[str], batch_size: int) -> PartialLabels:
    return PartialLabels(
        every_task(),
        {"memory": Memory(every_label(len(splits)), splits)},
        image_size=16,
        batch_size=batch_size,
        num_workers=0,
        augmentation="none",
    )


class Situations(Callback):
    """Notes what one rank goes through."""

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self.seen: set[str] = set()

    def on_train_batch_start(
        self, trainer: Any, pl_module: Any, batch: Batch, batch_idx: int
    ) -> None:
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self.own: Counter[str] = Counter()
        self.own.update({task: int(mask.sum()) for task, mask in batch.labelled.items()})
        self.counts = batch.counts
        if (batch.rows >= 0).sum() < self.batch_size:
            self.seen.add(UNEVEN)

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        for task, count in self.counts.items():
            if not self.own[task]:
                self.seen.add(ONE_SIDED if count else ABSENT)


def trained(
    folder: Path,
    devices: int = 1,
    accumulate: int = 1,
    reduction: str = "labelled",
    precision: str = "64-true",
    steps: int = 5,
    rows: int = 45,
    batch: int = 8,
    optimizer: str = "AdamW",
    strength: float | None = None,
) -> tuple[dict[str, torch.Tensor], Results, set[str]]:
    """Train with ``batch`` rows a micro-batch of all ranks.

    Returns:
        The weights, what was validated, and what the first rank went through.
    """
    situations = Situations(batch // devices)
    module = make_module(
        tasks=every_task(),
        loss_reduction=reduction,
        optimizer=OPTIMIZERS[optimizer],
        sharing=None if strength is None else Soft(strength),
    )
    data = every_data(["train"] * rows + ["val"] * 7, batch // devices)
    fit(
        folder,
        data,
        module,
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        accumulate_grad_batches=accumulate,
        precision=precision,
        max_steps=steps,
        max_epochs=-1,
        check_val_every_n_epoch=1000,
        callbacks=[situations],
    )
    module.trainer.validate(module, datamodule=data, verbose=False)
    return weights(module), module.results["val"], situations.seen


def evaluated(folder: Path, devices: int, split: str, rows: int, batch_size: int) -> list[Results]:
    """Measure ``rows`` images, of which ``rare`` has no label; return what each rank found."""
    data = every_data(["train"] * 20 + [split] * rows, batch_size)
    module = make_module(tasks=every_task())
    trainer = make_trainer(folder, devices=devices, strategy="ddp" if devices > 1 else "auto")
    run = {"val": trainer.validate, "test": trainer.test}[split]
    run(module, datamodule=data, verbose=False)
    found: list[Any] = [module.results[split]] * devices
    if devices > 1:
        dist.all_gather_object(found, module.results[split])
    return found
