"""Averaged weights: evaluated, saved, resumed, and out of training's way."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from jsonargparse import ArgumentParser
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.strategies import FSDPStrategy
from torch import nn

from mtl_lightning.callbacks import EMA
from mtl_lightning.callbacks.checkpoints import Checkpoints
from mtl_lightning.models.backbones.base import Backbone
from mtl_lightning.models.weights import NamedWeights
from mtl_lightning.system.errors import UserError
from mtl_lightning.training.module import MultiTask
from tests.helpers.data import make_data, make_tasks
from tests.helpers.training import fit, largest_difference, make_module, make_trainer, weights


class Normed(Backbone):
    """With batch norm, whose counter is a whole number."""

    def __init__(self) -> None:
        trunk = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), nn.BatchNorm2d(6), nn.Tanh())
        super().__init__(trunk, {"all": list(trunk)}, None, "imagenet", "avg", None)

    def named_weights(self, name: str) -> NamedWeights:
        raise NotImplementedError


def adam(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=0.02, weight_decay=0.1)


def normed() -> MultiTask:
    torch.manual_seed(1)
    return MultiTask(make_tasks(), Normed(), dropout=0.0, image_size=16, optimizer=adam)


def train(folder: Path, *callbacks: Callback, module: Any = None, **trainer: Any) -> MultiTask:
    own = [Checkpoints(folder, "val/score", "max")]
    return fit(
        folder,
        module=module or normed(),
        callbacks=[*callbacks, *own],
        **{"enable_checkpointing": True, "max_epochs": 2} | trainer,
    )


def load(path: Path) -> dict[str, Any]:
    checkpoint: dict[str, Any] = torch.load(path, weights_only=True)
    return checkpoint


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def evaluated(folder: Path, module: MultiTask, checkpoint: Path | None, split: str) -> Any:
    trainer = make_trainer(folder)
    getattr(trainer, split)(module, datamodule=make_data(), ckpt_path=checkpoint, verbose=False)
    return module.results["val" if split == "validate" else "test"].tasks


class Steps(Callback):
    """Keeps the weights after each optimizer step, and before the first."""

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.seen = [self.parameters(pl_module)]

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        if trainer.global_step == len(self.seen):
            self.seen.append(self.parameters(pl_module))

    @staticmethod
    def parameters(module: Any) -> dict[str, torch.Tensor]:
        return {name: p.detach().clone() for name, p in module.named_parameters()}


class InValidation(Callback):
    """Keeps what a validation within the training measured, and can cut it off."""

    def __init__(self, stop: BaseException | None = None) -> None:
        self.stop = stop
        self.measured: list[Any] = []

    def on_validation_batch_end(self, *_: Any) -> None:
        if self.stop is not None:
            raise self.stop

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        self.measured.append(pl_module.results["val"].tasks)


def averaged(
    seen: list[dict[str, torch.Tensor]], decay: float, every: int, warm_up: bool
) -> dict[str, torch.Tensor]:
    """Return the average, by a plain loop over optimizer steps."""
    average = {name: value.double() for name, value in seen[0].items()}
    for number, values in enumerate(seen[every::every]):
        now = min(decay, (1 + number) / (10 + number)) if warm_up else decay
        average = {n: now * average[n] + (1 - now) * values[n].double() for n in average}
    return average


@pytest.mark.parametrize(
    ("every", "warm_up", "accumulate"), [(1, True, 1), (1, False, 2), (3, True, 1)]
)
def test_the_average_is_over_optimizer_steps(tmp_path, every, warm_up, accumulate):
    steps = Steps()
    ema = EMA(0.8, every_n_steps=every, warm_up=warm_up)
    train(tmp_path, steps, ema, accumulate_grad_batches=accumulate)
    number = len(steps.seen) - 1
    assert number == {1: 10, 2: 6}[accumulate]
    assert ema.updates == number // every
    checkpoint = load(tmp_path / "last.ckpt")
    for name, value in averaged(steps.seen, 0.8, every, warm_up).items():
        torch.testing.assert_close(
            checkpoint["state_dict"][name].double(), value, rtol=1e-5, atol=1e-6
        )
        assert torch.equal(checkpoint["training_weights"][name], steps.seen[-1][name])
        assert not torch.equal(value.float(), steps.seen[-1][name])


def test_training_is_what_it_is_without_an_average_and_buffers_are_its_own(tmp_path):
    plain, ema = tmp_path / "plain", tmp_path / "ema"
    train(plain, val_check_interval=2)
    train(ema, EMA(0.9), val_check_interval=2)
    one, other = load(plain / "last.ckpt"), load(ema / "last.ckpt")
    assert same(one["optimizer_states"], other["optimizer_states"])
    parameters, state = other["training_weights"], other["state_dict"]
    buffers = state.keys() - parameters.keys()
    assert any("num_batches_tracked" in name for name in buffers)
    assert "tasks.task_size.mean" in buffers
    assert same(one["state_dict"], state | parameters)
    assert not same(one["state_dict"], state)


def test_a_checkpoint_evaluates_to_what_validation_measured(tmp_path):
    seen = InValidation()
    module = train(tmp_path, EMA(0.9), seen, max_epochs=3)
    last = seen.measured[-1]
    assert evaluated(tmp_path, normed(), tmp_path / "last.ckpt", "validate") == last
    best = evaluated(tmp_path, normed(), tmp_path / "best.ckpt", "validate")
    value = load(tmp_path / "best.ckpt")["callbacks"]["Best"]["value"]
    assert best in seen.measured
    module.load_state_dict(load(tmp_path / "last.ckpt")["training_weights"], strict=False)
    assert evaluated(tmp_path, module, None, "validate") != last
    assert value is not None


def test_after_the_training_the_network_is_the_average_and_a_save_keeps_both(tmp_path):
    ema, seen = EMA(0.9), InValidation()
    module = normed()
    trainer = make_trainer(
        tmp_path,
        callbacks=[ema, seen, Checkpoints(tmp_path, "val/score", "max")],
        enable_checkpointing=True,
    )
    trainer.fit(module, datamodule=make_data())
    trainer.save_checkpoint(tmp_path / "after.ckpt")
    last, after = load(tmp_path / "last.ckpt"), load(tmp_path / "after.ckpt")
    for key in ("state_dict", "training_weights"):
        assert same(last[key], after[key])
    trainer.validate(module, datamodule=make_data(), verbose=False)
    assert module.results["val"].tasks == seen.measured[-1]
    assert same(dict(module.state_dict()), dict(last["state_dict"]))


@pytest.mark.parametrize(("stop", "precision"), [(1, "32-true"), (2, "32-true"), (1, "bf16-true")])
def test_resumed_is_continuous_bit_for_bit(tmp_path, stop, precision):
    options = {"max_epochs": 3, "accumulate_grad_batches": 2, "precision": precision}
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(whole, EMA(0.9), **options)
    train(parts, EMA(0.9), **options | {"max_epochs": stop})
    trainer = make_trainer(
        parts,
        callbacks=[EMA(0.9), Checkpoints(parts, "val/score", "max")],
        enable_checkpointing=True,
        **options,
    )
    trainer.fit(normed(), datamodule=make_data(), ckpt_path=parts / "last.ckpt")
    one, other = load(whole / "last.ckpt"), load(parts / "last.ckpt")
    for key in ("state_dict", "training_weights", "optimizer_states"):
        assert same(one[key], other[key]), key
    assert one["callbacks"]["EMA"] == other["callbacks"]["EMA"] == {"updates": 9}


def test_a_run_resumed_without_an_average_begins_one(tmp_path):
    train(tmp_path)
    before = load(tmp_path / "last.ckpt")["state_dict"]
    ema, steps = EMA(0.9), Steps()
    trainer = make_trainer(
        tmp_path,
        callbacks=[ema, steps, Checkpoints(tmp_path, "val/score", "max")],
        enable_checkpointing=True,
        max_epochs=3,
    )
    steps.on_train_batch_end = lambda trainer, module, *_: steps.seen.append(
        steps.parameters(module)
    )
    trainer.fit(normed(), datamodule=make_data(), ckpt_path=tmp_path / "last.ckpt")
    assert ema.updates == 5
    assert same(steps.seen[0], {name: before[name] for name in steps.seen[0]})
    state = load(tmp_path / "last.ckpt")["state_dict"]
    for name, value in averaged(steps.seen, 0.9, 1, True).items():
        torch.testing.assert_close(state[name].double(), value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("stop", [RuntimeError("cut off"), KeyboardInterrupt()], ids=repr)
def test_a_validation_that_is_cut_off_leaves_the_weights_in_place(tmp_path, stop):
    steps = Steps()
    module = normed()
    with pytest.raises((RuntimeError, SystemExit)):
        train(tmp_path, EMA(0.9), steps, InValidation(stop), module=module)
    assert len(steps.seen) == 6
    assert same(steps.parameters(module), steps.seen[-1])


def test_an_average_of_bfloat16_weights_still_moves(tmp_path):
    seen = InValidation()
    train(tmp_path, EMA(0.999, warm_up=False), seen, precision="bf16-true")
    start = dict(normed().named_parameters())
    checkpoint = load(tmp_path / "last.ckpt")
    for name, weight in checkpoint["training_weights"].items():
        assert weight.dtype == torch.bfloat16
        mean = checkpoint["state_dict"][name]
        assert mean.dtype == torch.float32
        assert not torch.equal(mean, start[name].detach().bfloat16().float()), name


# ----------------------------------------------------------------- two ranks


class Ranks(Callback):
    """Collects the average of each rank."""

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        ema = next(each for each in trainer.callbacks if isinstance(each, EMA))
        mean = torch.cat([value.flatten() for value in ema._average.values()])
        self.means = pl_module.all_gather(mean).reshape(trainer.world_size, -1)


def on_ranks(folder: Path, devices: int) -> tuple[torch.Tensor, dict[str, torch.Tensor], Any]:
    ranks, seen = Ranks(), InValidation()
    module = fit(
        folder,
        make_data(batch_size=8 // devices),
        make_module(optimizer=adam),
        callbacks=[EMA(0.9), seen, ranks],
        devices=devices,
        precision="64-true",
        max_epochs=2,
    )
    return ranks.means, weights(module), seen.measured[-1]


def test_two_ranks_have_one_average_that_of_one_process(on_two_ranks, tmp_path):
    means, two, two_measured = on_two_ranks["ema"]
    _, one, one_measured = on_ranks(tmp_path, 1)
    assert means.shape[0] == 2
    assert torch.equal(means[0], means[1])
    assert largest_difference(one, two) < 1e-12
    for task, values in one_measured.items():
        assert values == pytest.approx(two_measured[task], rel=1e-10, nan_ok=True), task


# ----------------------------------------------------------------- from a config


def test_a_config_names_it_shortly():
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--callbacks", type=list[Callback])
    named = {"class_path": "EMA", "init_args": {"decay": 0.99}}
    made = parser.instantiate_classes(parser.parse_object({"callbacks": [named]})).callbacks
    assert type(made[0]) is EMA
    assert made[0].decay == 0.99


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"decay": 1.0}, r"decay should be in 0\.\.1 \(1 excluded\)\. Found 1\.0"),
        ({"decay": -0.1}, r"Found -0\.1"),
        ({"every_n_steps": 0}, "every_n_steps should be 1 or more. Found 0"),
    ],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(UserError, match=message):
        EMA(**arguments)


def test_a_checkpoint_that_would_bypass_the_average_is_refused(tmp_path):
    with pytest.raises(UserError, match="leave save_weights_only out"):
        train(tmp_path, EMA(), ModelCheckpoint(tmp_path, save_weights_only=True))


def test_a_strategy_that_divides_the_weights_is_refused():
    trainer = SimpleNamespace(strategy=object.__new__(FSDPStrategy))
    with pytest.raises(UserError, match=r"EMA needs the whole network.*Found.*FSDPStrategy"):
        EMA().setup(trainer, None, "fit")


def test_going_on_without_the_callback_is_refused(tmp_path):
    averaged = make_trainer(tmp_path, callbacks=[EMA()])
    averaged.fit(make_module(), datamodule=make_data())
    averaged.save_checkpoint(tmp_path / "a.ckpt")
    plain = make_trainer(tmp_path, max_epochs=2)
    with pytest.raises(UserError, match="resume with the callback EMA"):
        plain.fit(make_module(), datamodule=make_data(), ckpt_path=tmp_path / "a.ckpt")
    make_trainer(tmp_path).validate(
        make_module(), datamodule=make_data(), ckpt_path=tmp_path / "a.ckpt", verbose=False
    )
