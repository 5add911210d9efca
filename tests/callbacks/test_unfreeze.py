"""A frozen backbone that is set free: when, at which rate, resumed, and on two ranks."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from jsonargparse import ArgumentParser
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import LearningRateMonitor
from pytorch_lightning.strategies import DeepSpeedStrategy
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, OneCycleLR

from mtl_lightning.callbacks import EMA, Unfreeze
from mtl_lightning.callbacks.checkpoints import Checkpoints
from mtl_lightning.models.backbones.base import Backbone
from mtl_lightning.models.sharing.soft import Soft
from mtl_lightning.models.weights import NamedWeights
from mtl_lightning.system.errors import UserError
from mtl_lightning.training.module import MultiTask
from tests.helpers.data import make_data, make_tasks
from tests.helpers.training import fit, largest_difference, make_trainer, weights


class Staged(Backbone):
    """Three stages, the first with batch norm or without."""

    def __init__(self, trainable_from: str | None, norm: bool = True) -> None:
        normed = nn.BatchNorm2d(4) if norm else nn.Identity()
        trunk = nn.Sequential(
            nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), normed, nn.Tanh()),
            nn.Sequential(nn.Conv2d(4, 5, 3), nn.Tanh()),
            nn.Sequential(nn.Conv2d(5, 6, 1), nn.Tanh()),
        )
        stages = {name: [part] for name, part in zip("abc", trunk, strict=True)}
        super().__init__(trunk, stages, None, "imagenet", "avg", trainable_from)

    def named_weights(self, name: str) -> NamedWeights:
        raise NotImplementedError


def adam(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=0.02, weight_decay=0.1)


def staged(trainable_from: str | None = "heads", norm: bool = True, **arguments: Any) -> MultiTask:
    torch.manual_seed(1)
    options = {"dropout": 0.0, "image_size": 16, "optimizer": adam} | arguments
    return MultiTask(make_tasks(), Staged(trainable_from, norm), **options)


class Epochs(Callback):
    """Keeps the state after each epoch, and the groups' rates after each step."""

    def __init__(self) -> None:
        self.rates: list[dict[str, float]] = []

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.states = [weights(pl_module)]

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        groups = trainer.optimizers[0].param_groups
        self.rates.append({group["name"]: group["lr"] for group in groups})

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.states.append(weights(pl_module))

    def moved(self, epoch: int) -> set[str]:
        """Stages whose parameters, and ``bn`` where its statistics, moved in the epoch."""
        before, after = self.states[epoch : epoch + 2]
        names = {name for name in before if not torch.equal(before[name], after[name])}
        return {_part(name) for name in names}


def _part(name: str) -> str:
    if "trunk" not in name:
        return "heads"
    return "bn" if "running" in name or "num_batches" in name else "abc"[int(name.split(".")[3])]


def train(
    folder: Path, *callbacks: Callback, module: Any = None, **trainer: Any
) -> tuple[MultiTask, Epochs]:
    epochs = Epochs()
    module = module or staged()
    fit(folder, module=module, callbacks=[*callbacks, epochs], **{"max_epochs": 3} | trainer)
    return module, epochs


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


ALL = {"a", "b", "c", "bn", "heads"}


@pytest.mark.parametrize(
    ("trainable_from", "stage", "before", "after"),
    [
        ("heads", None, {"heads"}, ALL),
        ("heads", "b", {"heads"}, {"b", "c", "heads"}),
        ("c", "a", {"c", "heads"}, ALL),
    ],
)
def test_stages_are_set_free_after_so_many_epochs(tmp_path, trainable_from, stage, before, after):
    module, epochs = train(tmp_path, Unfreeze(2, stage), module=staged(trainable_from))
    assert [epochs.moved(epoch) for epoch in range(3)] == [before, before, after]
    backbone = module.network.sharing.backbone
    assert backbone.trunk[0][1].training == ("bn" in after)


def test_the_rate_is_the_backbones_times_the_scale(tmp_path):
    module = staged("c", backbone_lr_scale=0.1)
    _, epochs = train(tmp_path, Unfreeze(1, lr_scale=0.5), module=module, max_epochs=2)
    for rates in epochs.rates:
        expected = {"heads": 0.02, "backbone": 0.002, "unfrozen": 0.001}
        assert rates == pytest.approx(expected)


@pytest.mark.parametrize(
    "scheduler",
    [
        lambda o, **k: OneCycleLR(o, max_lr=[g["lr"] for g in o.param_groups], total_steps=15),
        lambda o: LambdaLR(o, lambda epoch: 0.5**epoch),
        lambda o: CosineAnnealingLR(o, T_max=3),
    ],
    ids=["OneCycleLR", "LambdaLR", "CosineAnnealingLR"],
)
def test_a_scheduler_moves_the_rate_of_what_is_set_free(tmp_path, scheduler):
    module = staged(lr_scheduler=scheduler)
    _, epochs = train(tmp_path, Unfreeze(1, lr_scale=0.5), module=module)
    assert len({rates["heads"] for rates in epochs.rates}) >= 3
    for rates in epochs.rates:
        assert rates["unfrozen"] == pytest.approx(0.5 * rates["heads"])


def test_every_parameter_is_trained_afterwards(tmp_path):
    module, epochs = train(tmp_path, Unfreeze(1), max_epochs=2)
    moved = {n for n, v in epochs.states[1].items() if not torch.equal(v, epochs.states[2][n])}
    assert moved >= {name for name, _ in module.network.named_parameters()}


def test_stage_after_stage(tmp_path):
    later, sooner = Unfreeze(2, "a", lr_scale=0.1), Unfreeze(1, "b")
    monitor = LearningRateMonitor()  # it wants names of their own
    module, epochs = train(
        tmp_path, later, sooner, EMA(0.9), monitor, logger=True, log_every_n_steps=1
    )
    # EMA leaves the average in place when the training is over: the last epoch's end is before.
    bn = {"bn"}
    assert [epochs.moved(epoch) - bn for epoch in range(3)] == [
        {"heads"},
        {"b", "c", "heads"},
        ALL - bn,
    ]
    assert epochs.rates[0] == pytest.approx(
        {"heads": 0.02, "unfrozen/a": 0.002, "unfrozen/b": 0.02}
    )
    own = {id(p) for p in module.network.sharing.backbone.trunk[0].parameters()}
    groups = {group["name"]: group for group in module.trainer.optimizers[0].param_groups}
    assert {id(p) for p in groups["unfrozen/a"]["params"]} == own


def test_every_backbone_of_a_soft_sharing(tmp_path):
    _, epochs = train(
        tmp_path, Unfreeze(1), module=staged(sharing=Soft(0.1), norm=False), max_epochs=2
    )
    first, second = epochs.states[1], epochs.states[2]
    trunk = [name for name in first if "trunk" in name]
    assert len({name.split(".")[2] for name in trunk}) == 3
    assert all(torch.equal(epochs.states[0][name], first[name]) for name in trunk)
    assert not any(torch.equal(first[name], second[name]) for name in trunk)


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_resumed_is_continuous_bit_for_bit(tmp_path, stop):
    def run(folder: Path, epochs: int, checkpoint: Path | None = None) -> dict[str, Any]:
        module = staged(lr_scheduler=lambda o: LambdaLR(o, lambda epoch: 0.7**epoch))
        trainer = make_trainer(
            folder,
            callbacks=[Unfreeze(2), Checkpoints(folder, "val/score", "max")],
            enable_checkpointing=True,
            max_epochs=epochs,
        )
        trainer.fit(module, datamodule=make_data(), ckpt_path=checkpoint)
        loaded: dict[str, Any] = torch.load(folder / "last.ckpt", weights_only=True)
        return loaded

    whole = run(tmp_path / "whole", 4)
    run(tmp_path / "parts", stop)
    parts = run(tmp_path / "parts", 4, tmp_path / "parts" / "last.ckpt")
    for key in ("state_dict", "optimizer_states", "lr_schedulers"):
        assert same(whole[key], parts[key]), key


def test_a_run_resumed_within_an_epoch_is_free_from_its_first_step(tmp_path):
    backbone = staged().network.sharing.backbone
    module = SimpleNamespace(modules=lambda: [backbone])
    trainer = SimpleNamespace(current_epoch=2, strategy=None, is_global_zero=True)
    Unfreeze(2).on_train_start(trainer, module)
    assert not backbone.frozen_modules


# ----------------------------------------------------------------- two ranks


class Apart(Callback):
    """Keeps how far the ranks' weights are apart in the end."""

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        flat = torch.cat([p.detach().flatten() for p in pl_module.parameters()])
        ranks = pl_module.all_gather(flat).reshape(trainer.world_size, -1)
        self.distance = float((ranks[0] - ranks[-1]).abs().max())


def on_ranks(folder: Path, devices: int) -> tuple[dict[str, torch.Tensor], float]:
    apart = Apart()
    module = fit(
        folder,
        make_data(batch_size=8 // devices),
        staged(norm=False),
        callbacks=[Unfreeze(1, "b"), Unfreeze(2), apart],
        devices=devices,
        precision="64-true",
        accumulate_grad_batches=2,
        max_epochs=3,
    )
    return weights(module), apart.distance


def test_two_ranks_are_one_process(on_two_ranks, tmp_path):
    two, distance = on_two_ranks["unfreeze"]
    assert distance == 0
    one, _ = on_ranks(tmp_path, 1)
    assert largest_difference(one, two) < 1e-12


# ----------------------------------------------------------------- from a config


def test_a_config_names_it_shortly():
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--callbacks", type=list[Callback])
    named = {"class_path": "Unfreeze", "init_args": {"after_epochs": 3, "stage": "block4"}}
    made = parser.instantiate_classes(parser.parse_object({"callbacks": [named]})).callbacks
    assert type(made[0]) is Unfreeze
    assert (made[0].after_epochs, made[0].stage, made[0].lr_scale) == (3, "block4", 1.0)


@pytest.mark.parametrize(
    ("arguments", "trainable_from", "message"),
    [
        ({"after_epochs": 0}, "heads", "after_epochs should be 1 or more. Found 0; to train"),
        ({"after_epochs": 1, "lr_scale": 0.0}, "heads", "lr_scale should be above 0"),
        (
            {"after_epochs": 1, "stage": "heeds"},
            "heads",
            r'Unfreeze: stage should be a stage of Staged, .* a, b, c, heads\. Found "heeds"; did',
        ),
        ({"after_epochs": 1}, None, r"nothing of the backbone is frozen that could be set free"),
        ({"after_epochs": 1, "stage": "b"}, "b", "frozen from stage b on .* to a later stage"),
    ],
)
def test_what_cannot_be_is_reported_before_training(tmp_path, arguments, trainable_from, message):
    with pytest.raises(UserError, match=message):
        train(tmp_path, Unfreeze(**arguments), module=staged(trainable_from))


def test_a_training_that_ends_before_says_so(tmp_path, capsys):
    train(tmp_path, Unfreeze(1), max_epochs=1)
    assert "nothing is unfrozen: training ends after 1 epochs" in capsys.readouterr().out


def test_a_strategy_that_divides_the_weights_is_refused():
    trainer = SimpleNamespace(strategy=object.__new__(DeepSpeedStrategy))
    with pytest.raises(UserError, match=r"Unfreeze needs the whole network.*DeepSpeedStrategy"):
        Unfreeze(1).setup(trainer, staged(), "fit")
