"""A training that is killed anywhere and resumed is the training that was never interrupted."""

import contextlib
import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback, seed_everything

from mtl_lightning.callbacks import EMA
from mtl_lightning.callbacks.checkpoints import Checkpoints
from mtl_lightning.loggers import ResumableCSVLogger
from tests.support import make_data, make_module, make_more_tasks, make_trainer


class Killed(BaseException):
    """Nothing handles it: what is on the disk then is what a killed process leaves."""


HOOKS = (
    "on_train_epoch_start",
    "on_train_batch_start",
    "on_before_optimizer_step",
    "on_train_batch_end",
    "on_validation_start",
    "on_validation_batch_end",
    "on_validation_end",
    "on_train_epoch_end",
    "on_train_end",
)


class Kill(Callback):
    """Counts hooks, and raises at one of them."""

    def __init__(self, at: int | None = None) -> None:
        self.at = at
        self.hooks: list[str] = []

    def _called(self, name: str) -> None:
        self.hooks.append(name)
        if len(self.hooks) == self.at:
            raise Killed


for _name in HOOKS:
    setattr(Kill, _name, lambda self, *_, name=_name: self._called(name))


class Unbuffered(ResumableCSVLogger):
    """Writes each line at once, which is the hardest case: lines of steps that are lost."""

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        super().log_metrics(metrics, step)
        self.save()

    def finalize(self, status: str) -> None:
        """Do nothing: a killed process does not either."""


def one_cycle(optimizer: Any) -> Any:
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.02, total_steps=18)


def train(folder: Path, kill_at: int | None = None, **changes: Any) -> list[str]:
    """Train, going on from ``last.ckpt`` if there is one; return the hooks that were called."""
    options = {"max_epochs": 3, "accumulate_grad_batches": 2, "val_check_interval": 6} | changes
    data_options = {key: options.pop(key) for key in ("batch_size", "tasks") if key in options}
    seed_everything(3, verbose=False)
    tasks = make_more_tasks()
    data = make_data(train=45, tasks=tasks, batch_size=4, augmentation="default", **data_options)
    module = make_module(tasks=tasks, dropout=0.3, lr_scheduler=options.pop("schedule", one_cycle))
    last = folder / "checkpoints" / "last.ckpt"
    if not last.exists():  # killed before the first step: begun anew, in a folder of its own
        shutil.rmtree(folder, ignore_errors=True)
    resumed = torch.load(last, weights_only=True)["global_step"] if last.exists() else None
    kill = Kill(kill_at)
    checkpoints = Checkpoints(last.parent, "val/score", "max", every_n_train_steps=2)
    trainer = make_trainer(
        folder,
        callbacks=[EMA(0.9), *options.pop("callbacks", []), kill, checkpoints],
        logger=[Unbuffered(folder.parent.parent, folder.parent.name, folder.name, resumed)],
        log_every_n_steps=1,
        enable_checkpointing=True,
        **options,
    )
    with contextlib.suppress(Killed):
        trainer.fit(module, datamodule=data, ckpt_path=last if last.exists() else None)
    return kill.hooks


def differences(one: Any, other: Any, where: str = "") -> Iterator[str]:
    """Yield where two checkpoints differ in a single bit."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        for key in one:
            yield from differences(one[key], other[key], f"{where}/{key}")
    elif isinstance(one, list | tuple) and isinstance(other, list | tuple):
        for number, pair in enumerate(itertools.zip_longest(one, other)):
            yield from differences(*pair, f"{where}/{number}")
    elif isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        if not torch.equal(one, other):
            yield f"{where}: tensors"
    elif one != other and not (one != one and other != other):
        yield f"{where}: {one} and {other}"


def assert_same(one: Path, other: Path) -> None:
    for name in ("last.ckpt", "best.ckpt"):
        first, second = (
            torch.load(folder / "checkpoints" / name, weights_only=True) for folder in (one, other)
        )
        assert list(differences(first, second, name)) == []
    assert (one / "metrics.csv").read_text() == (other / "metrics.csv").read_text()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The uninterrupted training, and the hooks that it called."""
    folder = tmp_path_factory.mktemp("whole") / "runs" / "a" / "version_0"
    return folder, train(folder)


def test_killed_at_any_hook_and_resumed_nothing_differs(whole, tmp_path):
    expected, hooks = whole
    assert set(hooks) == set(HOOKS)
    for at in range(1, len(hooks) + 1, 3):
        folder = tmp_path / str(at) / "a" / "version_0"
        assert len(train(folder, at)) == at
        train(folder)
        assert_same(expected, folder)
