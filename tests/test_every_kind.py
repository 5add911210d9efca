"""Tasks of every kind in one training: resumed in the middle of a step, and balanced."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback, Trainer, seed_everything
from torchjd import aggregation

from mtl_lightning.training.module import MultiTask
from tests.helpers.ranks import every_data, every_task
from tests.helpers.training import largest_difference, make_module, make_trainer, weights


class Save(Callback):
    """Saves a checkpoint in the second epoch, after the first micro-batch of a step."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.current_epoch == 1 and trainer.fit_loop.epoch_loop.batch_idx == 2:
            trainer.save_checkpoint(self.path)


def trained(
    folder: Path,
    callbacks: tuple[Callback, ...] = (),
    ckpt_path: Path | None = None,
    precision: str = "32-true",
    accumulate: int = 1,
    **options: Any,
) -> MultiTask:
    seed_everything(3, verbose=False)
    tasks = every_task()
    module = make_module(
        tasks=tasks, dropout=0.2, optimizer=lambda p: torch.optim.SGD(p, 0.02), **options
    )
    trainer = make_trainer(
        folder,
        callbacks=list(callbacks),
        max_epochs=2,
        accumulate_grad_batches=accumulate,
        precision=precision,
    )
    data = every_data(["train"] * 30 + ["val"] * 7, 6, tasks)
    trainer.fit(module, datamodule=data, ckpt_path=ckpt_path)
    return module


def test_a_resumed_training_is_the_uninterrupted_one(tmp_path):
    path = tmp_path / "middle.ckpt"
    whole = trained(tmp_path, (Save(path),), accumulate=2)
    assert path.exists()
    resumed = trained(tmp_path, ckpt_path=path, accumulate=2)
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(resumed)[name]), name
    assert resumed.results["val"].plain() == whole.results["val"].plain()


def test_the_sum_of_the_tasks_gradients_is_the_gradient_of_their_sum(tmp_path):
    plain = trained(tmp_path, precision="64-true")
    summed = trained(tmp_path, precision="64-true", balancing=aggregation.Sum())
    assert largest_difference(weights(plain), weights(summed)) < 1e-9


@pytest.mark.parametrize("method", [aggregation.UPGrad(), aggregation.MGDA()], ids=str)
def test_balanced_gradients_train_every_task(tmp_path, method):
    before = weights(make_module(tasks=every_task(), dropout=0.2))
    module = trained(tmp_path, balancing=method)
    after = weights(module)
    assert all(torch.isfinite(value).all() for value in after.values())
    for task in module.tasks:
        own = [key for key in after if key.startswith(f"heads.task_{task}.")]
        assert own, task
        assert any(not torch.equal(before[key], after[key]) for key in own), task
