"""A split with every kind of task, and its evaluation on one process and on two."""

from pathlib import Path

from mtl_lightning.callbacks.run_recorder import RunRecorder
from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.runs.facts import Evaluation
from tests.helpers.support import (
    Memory,
    make_module,
    make_more_tasks,
    make_trainer,
    sparse_labels,
)


def make_test_data(rows: int = 41, batch_size: int = 8) -> PartialLabels:
    """Return test images of which none carries a label of the task ``rare``."""
    labels = sparse_labels(rows)
    labels["rare"] = [None] * rows
    source = Memory(labels, ["test"] * rows)
    return PartialLabels(
        make_more_tasks(), {"memory": source}, batch_size=batch_size, image_size=16, num_workers=0
    )


def evaluated(folder: Path, devices: int = 1) -> Evaluation:
    """Test a module on ``make_test_data`` and return what the recorder kept of it."""
    recorder = RunRecorder(folder)
    strategy = "ddp" if devices > 1 else "auto"
    trainer = make_trainer(folder, devices=devices, strategy=strategy, callbacks=[recorder])
    data = make_test_data(batch_size=8 // devices)
    trainer.test(make_module(tasks=make_more_tasks()), data, verbose=False)
    assert recorder.evaluation is not None
    return recorder.evaluation
