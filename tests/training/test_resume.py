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
from mtl_lightning.runs.loggers import ResumableCSVLogger
from tests.helpers import ranks
from tests.helpers.data import make_data, make_more_tasks
from tests.helpers.training import Batches, largest_difference, make_module, make_trainer


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
    """Train, going on from ``last.ckpt`` if there is one; return the hooks that were called.

    Args:
        folder: Of the run.
        kill_at: The number of the hook at which the process ends.
        changes: Of the trainer's options, the data's or the module's; ``make``: the functions that
            make the last two.
    """
    # Validations within a step that is half made, and at the end of the epoch.
    options = {"accumulate_grad_batches": 2, "limit_train_batches": 10, "val_check_interval": 5}
    options |= {"max_epochs": 3} | changes
    parts: dict[str, dict[str, Any]] = {"data": {"batch_size": 4}, "module": {}}
    for key, part in PARTS.items():
        if key in options:
            parts[part][key] = options.pop(key)
    last = folder / "checkpoints" / "last.ckpt"
    if not last.exists():  # killed before the first step: started again, in a folder of its own
        shutil.rmtree(folder, ignore_errors=True)
    step = torch.load(last, weights_only=True)["global_step"] if last.exists() else None
    kill = Kill(kill_at)
    callbacks = [EMA(0.9), kill, *options.pop("callbacks", [])]
    checkpoints = Checkpoints(last.parent, "val/score", "max", every_n_train_steps=2)
    seed_everything(3, verbose=False)
    tasks = make_more_tasks()
    make_own_data, make_own_module = options.pop("make", (make_data, make_module))
    data = make_own_data(tasks=tasks, **({"augmentation": "default"} | parts["data"]))
    trainer = make_trainer(
        folder,
        callbacks=[*callbacks, checkpoints],
        logger=[Unbuffered(folder.parent.parent, folder.parent.name, folder.name, step)],
        log_every_n_steps=1,
        enable_checkpointing=True,
        **options,
    )
    module = make_own_module(
        tasks=tasks, **({"dropout": 0.3, "lr_scheduler": one_cycle} | parts["module"])
    )
    with contextlib.suppress(Killed):
        trainer.fit(module, datamodule=data, ckpt_path=last if last.exists() else None)
    return kill.hooks


PARTS = dict.fromkeys(("dropout", "lr_scheduler", "balancing", "gradients"), "module")
PARTS |= {"balance_every_n_steps": "module"}
PARTS |= dict.fromkeys(("batch_size", "num_workers", "augmentation", "augment_on", "train"), "data")
PARTS |= dict.fromkeys(("bad", "on_bad_image", "max_bad_share"), "data")


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


def run_of(folder: Path, name: str) -> Path:
    return folder / name / "a" / "version_0"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The uninterrupted training, and the hooks that it called."""
    folder = run_of(tmp_path_factory.mktemp("whole"), "whole")
    return folder, train(folder)


def middle(hooks: list[str], name: str) -> int:
    """Return the number, from 1, of the middle one of all calls of a hook."""
    calls = [number for number, hook in enumerate(hooks, 1) if hook == name]
    return calls[len(calls) // 2]


@pytest.mark.parametrize("hook", HOOKS)
def test_killed_at_any_hook_and_resumed_nothing_differs(whole, tmp_path, hook):
    expected, hooks = whole
    folder = run_of(tmp_path, "killed")
    at = middle(hooks, hook)
    assert train(folder, at)[-1] == hook
    again = train(folder)
    assert hook == "on_train_end" or 0 < len(again) < len(hooks)
    assert_same(expected, folder)


def test_killed_before_the_first_step_it_is_resumed_too(whole, tmp_path):
    expected, hooks = whole
    folder = run_of(tmp_path, "killed")
    train(folder, hooks.index("on_before_optimizer_step") + 1)
    assert (folder / "checkpoints" / "last.ckpt").exists()
    train(folder)
    assert_same(expected, folder)


def test_two_interruptions_within_an_epoch(whole, tmp_path):
    expected, hooks = whole
    folder = run_of(tmp_path, "killed")
    at = middle(hooks, "on_train_batch_start")
    train(folder, at)
    assert train(folder, 5)[-1] != "on_train_end"
    train(folder)
    assert_same(expected, folder)


def plateau(optimizer: Any) -> Any:
    return torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=10.0)


WAYS = {
    "workers": {"num_workers": 2},
    "augmented on the device": {"augment_on": "device", "num_workers": 2},
    # Its rate changes after Lightning's own checkpoint of an epoch is written.
    "plateau": {"lr_scheduler": plateau, "val_check_interval": 1.0},
    "steps alone": {"max_epochs": -1, "max_steps": 17},
    "no accumulation": {"accumulate_grad_batches": 1, "max_epochs": 1, "lr_scheduler": None},
    "double precision": {"precision": "64-true", "max_epochs": 1, "lr_scheduler": None},
    "an uneven last batch": {"limit_train_batches": 1.0, "max_epochs": 2},
}


@pytest.mark.parametrize("name", WAYS)
def test_it_holds_in_other_ways_of_training(tmp_path, name):
    expected = run_of(tmp_path, "whole")
    hooks = train(expected, **WAYS[name])
    for hook in ("on_train_epoch_start", "on_train_batch_end"):
        folder = run_of(tmp_path, hook)
        train(folder, middle(hooks, hook), **WAYS[name])
        train(folder, **WAYS[name])
        assert_same(expected, folder)


@pytest.mark.parametrize("moment", ["on_train_batch_end", "on_validation_end"])
def test_it_goes_on_from_a_checkpoint_that_somebody_else_wrote(whole, tmp_path, moment):
    """Lightning's own hooks lose the validation after a batch, or the end of the epoch."""
    expected, _ = whole

    class Theirs(Callback):
        calls = 0

    def save(self: Theirs, trainer: Any, *_: Any) -> None:
        self.calls += 1
        if self.calls == (4 if moment == "on_validation_end" else 20):  # both end an epoch
            trainer.save_checkpoint(theirs)
            raise Killed

    setattr(Theirs, moment, save)
    folder = run_of(tmp_path, "killed")
    theirs = folder / "checkpoints" / "theirs.ckpt"
    train(folder, callbacks=[Theirs()])
    (folder / "checkpoints" / "last.ckpt").unlink()
    theirs.rename(folder / "checkpoints" / "last.ckpt")
    train(folder)
    first, second = (
        torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
        for run in (expected, folder)
    )
    assert list(differences(first["state_dict"], second["state_dict"])) == []
    assert list(differences(first["optimizer_states"], second["optimizer_states"])) == []
    assert list(differences(first["lr_schedulers"], second["lr_schedulers"])) == []


# --------------------------------------------------------------------- other ranks

ELASTIC = {"dropout": 0.0, "augmentation": "none", "precision": "64-true"}
ELASTIC |= {"val_check_interval": 1.0, "limit_train_batches": 1.0}
BAD = (3, 4, 11, 17, 30, 31, 32)
"""Images that cannot be read, some of them in each step of 16."""
ELASTIC |= {"bad": BAD, "on_bad_image": "skip", "max_bad_share": 0.5}


def killed_on_ranks(folder: Path, devices: int, accumulate: int, batch_size: int, at: int) -> None:
    """Train with 16 rows a step, until a process ends in the middle of an epoch."""
    options = ELASTIC | {"devices": devices, "batch_size": batch_size}
    train(folder, at, accumulate_grad_batches=accumulate, **options)


def test_what_remains_of_an_epoch_is_seen_once_on_another_number_of_ranks(tmp_path):
    whole = run_of(tmp_path, "whole")
    calls = {"accumulate_grad_batches": 2, "batch_size": 8}
    train(whole, **ELASTIC, **calls)
    # The twentieth hook is in the second step of the second epoch.
    case = {"folder": run_of(tmp_path, "two"), "devices": 2, "accumulate": 1, "batch_size": 8}
    ranks.run([(f"{__name__}.killed_on_ranks", case | {"at": 20})], tmp_path)
    content = torch.load(case["folder"] / "checkpoints" / "last.ckpt", weights_only=True)
    assert content["resume"]["position"] == {"epoch": 1, "rows": 16, "validate": False}
    batches = Batches()
    train(case["folder"], callbacks=[batches], **ELASTIC, **calls)
    rest, all_ = ([row for rows in batches.rows()[epoch] for row in rows] for epoch in (1, 2))
    assert len(rest) == len(set(rest)) == len(set(all_)) - 16
    first, second = (
        torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for run in (whole, case["folder"])
    )
    assert largest_difference(first, second) < 1e-12
