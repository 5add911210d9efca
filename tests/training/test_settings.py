import copy
import re
from types import SimpleNamespace

import pytest
import torch
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import EarlyStopping
from pytorch_lightning.plugins import MixedPrecision
from torch.optim import SGD, AdamW
from torch.optim.lr_scheduler import (
    ConstantLR,
    LRScheduler,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)

from mtl_lightning.balancing.torchjd.scalarizers import DWA, UW
from mtl_lightning.callbacks.ema import EMA
from mtl_lightning.system.errors import UserError
from mtl_lightning.training.schedule import WarmupCosine
from mtl_lightning.training.settings import (
    SETTINGS,
    check_balancing,
    class_name,
    keep_settings,
    keep_settings_of_trainer,
    settings_of,
)
from tests.helpers.data import make_data, make_tasks
from tests.helpers.training import fit, make_module, make_trainer


def trained(optimizer, schedule=None, steps=3):
    """Return an optimizer and its schedule after some steps, their settings, and a checkpoint."""
    made = optimizer([{"name": "heads", "params": [torch.nn.Parameter(torch.ones(2))]}])
    scheduler = schedule(made) if schedule else None
    name = class_name(scheduler) if scheduler else None
    arguments = getattr(schedule, "arguments", {})
    settings = copy.deepcopy(settings_of(made, name, arguments))
    for _ in range(steps):
        made.param_groups[0]["params"][0].grad = torch.ones(2)
        made.step()
        if scheduler and not isinstance(scheduler, ReduceLROnPlateau):
            scheduler.step()
    schedules = [scheduler.state_dict()] if scheduler else []
    states = {"optimizer_states": [made.state_dict()], "lr_schedulers": schedules}
    return made, scheduler, settings, {SETTINGS: settings, **copy.deepcopy(states)}


def resumed(before, now):
    """Return the optimizer and schedule that a changed config goes on with, and the changes."""
    optimizer, scheduler, settings, _ = trained(*now, steps=0)
    checkpoint = trained(*before)[3]
    changes = keep_settings(checkpoint, settings)
    optimizer.load_state_dict(checkpoint["optimizer_states"][0])
    if scheduler:
        scheduler.load_state_dict(checkpoint["lr_schedulers"][0])
    return optimizer, scheduler, changes


def adamw(**arguments):
    return lambda groups: AdamW(groups, **arguments)


SCHEDULES = {
    "step": lambda optimizer: StepLR(optimizer, 2, 0.1),
    "lambda": lambda optimizer: WarmupCosine(optimizer, 0.3, 0.1, 9),
    "sequential": lambda optimizer: SequentialLR(
        optimizer, [ConstantLR(optimizer, 0.5, 2), StepLR(optimizer, 2, 0.5)], [2]
    ),
    "plateau": ReduceLROnPlateau,
}


def test_what_a_config_changes_holds():
    optimizer, _, changes = resumed((adamw(lr=0.1),), (adamw(lr=0.5, weight_decay=0.3),))
    (group,) = optimizer.param_groups
    assert (group["lr"], group["weight_decay"], group["betas"]) == (0.5, 0.3, (0.9, 0.999))
    assert changes == ["lr: 0.1 -> 0.5", "weight_decay: 0.01 -> 0.3"]
    assert optimizer.state[group["params"][0]]["step"] == 3, "the moments are the checkpoint's"


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_new_rate_is_moved_on_as_if_it_had_been_there_from_the_beginning(name):
    schedule = SCHEDULES[name]
    optimizer, scheduler, changes = resumed((adamw(lr=0.1), schedule), (adamw(lr=0.5), schedule))
    other, expected, *_ = trained(adamw(lr=0.5), schedule)
    assert changes == ["lr: 0.1 -> 0.5"]
    for _ in range(4):
        rates = [each.param_groups[0]["lr"] for each in (optimizer, other)]
        assert rates[0] == pytest.approx(rates[1], rel=1e-12)
        for each in (scheduler, expected):
            each.step(*([1.0] if name == "plateau" else []))


@pytest.mark.parametrize("name", [None, *SCHEDULES])
def test_without_a_change_a_checkpoint_is_restored_as_it_is(name):
    schedule = SCHEDULES.get(name)
    *_, settings, checkpoint = trained(adamw(lr=0.1), schedule)
    before = copy.deepcopy(checkpoint)
    assert keep_settings(checkpoint, settings) == []
    assert checkpoint["lr_schedulers"] == before["lr_schedulers"]
    groups = [each["optimizer_states"][0]["param_groups"] for each in (checkpoint, before)]
    assert groups[0] == groups[1]


def test_a_checkpoint_without_settings_is_restored_as_it_is():
    assert keep_settings({}, trained(adamw(lr=0.1))[2]) == []


def test_a_checkpoint_of_weights_alone_is_left_to_lightning():
    *_, settings, checkpoint = trained(adamw(lr=0.1))
    weights_alone = {SETTINGS: checkpoint[SETTINGS]}
    assert keep_settings(weights_alone, settings | {"optimizer": "other"}) == []
    assert list(weights_alone) == [SETTINGS]


def test_another_optimizer_is_one_line():
    with pytest.raises(
        UserError, match=r"model.optimizer should be torch.optim.adamw.AdamW.*Found .*\.SGD; resume"
    ):
        resumed((adamw(lr=0.1),), (lambda groups: SGD(groups, lr=0.1, momentum=0.9),))


def named(schedule: type[LRScheduler], **arguments):
    def make(optimizer):
        return schedule(optimizer, **arguments)

    make.arguments = arguments
    return make


@pytest.mark.parametrize(
    ("before", "now", "message"),
    [
        (None, named(StepLR, step_size=2), r", null, .*StepLR\(step_size=2\)"),
        (named(StepLR, step_size=2), None, r"StepLR\(step_size=2\), .* Found null"),
        (
            named(StepLR, step_size=2, gamma=0.1),
            named(StepLR, step_size=2, gamma=0.5),
            r"StepLR\(step_size=2, gamma=0.1\), .* Found .*StepLR\(step_size=2, gamma=0.5\)",
        ),
        (named(StepLR, step_size=2), named(OneCycleLR, max_lr=0.1, total_steps=9), "OneCycleLR"),
    ],
)
def test_another_schedule_is_one_line(before, now, message):
    with pytest.raises(UserError, match=f"^model.lr_scheduler should be.*{message}"):
        resumed((adamw(lr=0.1), before), (adamw(lr=0.1), now))


def test_a_scaler_keeps_its_scale_and_takes_its_settings():
    saved = {"scale": 8.0, "growth_factor": 2.0, "growth_interval": 9, "_growth_tracker": 4}
    own = {"scale": 65536.0, "growth_factor": 3.0, "growth_interval": 5, "_growth_tracker": 0}
    plugin = SimpleNamespace(scaler=SimpleNamespace(state_dict=lambda: own))
    trainer = SimpleNamespace(precision_plugin=plugin, early_stopping_callbacks=[])
    checkpoint = {"SimpleNamespace": saved}
    keep_settings_of_trainer(checkpoint, trainer)
    assert saved == own | {"scale": 8.0, "_growth_tracker": 4}


# --------------------------------------------------------------------- in a training


def first_part(folder, trainer=None, **arguments):
    module = make_module(**arguments)
    fit(folder, make_data(), module, **(trainer or {}))
    module.trainer.save_checkpoint(folder / "a.ckpt")
    return folder / "a.ckpt"


class Settings(Callback):
    """Keeps the rate and the weight decay of the first step."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.seen = [
            (g["name"], g["lr"], g["weight_decay"]) for g in trainer.optimizers[0].param_groups
        ]


def test_a_resumed_training_takes_the_rate_of_its_config_and_says_so(tmp_path, capsys):
    path = first_part(tmp_path, optimizer=adamw(lr=0.01, weight_decay=0.1))
    module, seen = (
        make_module(optimizer=adamw(lr=0.5, weight_decay=0.3), backbone_lr_scale=0.5),
        Settings(),
    )
    make_trainer(tmp_path, max_epochs=2, callbacks=[seen]).fit(module, make_data(), ckpt_path=path)
    assert seen.seen == [("heads", 0.5, 0.3), ("backbone", 0.25, 0.3)]
    out = " ".join(capsys.readouterr().out.split())
    assert "lr: 0.01 -> 0.5, weight_decay: 0.1 -> 0.3, lr: 0.01 -> 0.25, from this step on" in out


def test_a_resumed_training_refuses_another_optimizer(tmp_path):
    path = first_part(tmp_path)
    module = make_module(optimizer=lambda groups: SGD(groups, lr=0.1, momentum=0.9))
    with pytest.raises(UserError, match=r"should be torch\.optim\.adamw\.AdamW"):
        make_trainer(tmp_path, max_epochs=2).fit(module, make_data(), ckpt_path=path)


@pytest.mark.parametrize(
    ("before", "now", "message"),
    [
        (None, "UW", "should be null, as in the checkpoint. Found UW; resume"),
        (None, "DWA", "should be null, as in the checkpoint. Found DWA; resume"),
        ("UW", None, "should be UW, as in the checkpoint. Found null; resume"),
        ("DWA", None, "should be DWA, as in the checkpoint. Found null; resume"),
        ("DWA", "UW", "should be DWA, as in the checkpoint. Found UW; resume"),
    ],
)
def test_another_balancing_is_one_line(tmp_path, before, now, message):
    methods = {None: lambda: None, "UW": lambda: UW(len(make_tasks())), "DWA": DWA}
    path = first_part(tmp_path, balancing=methods[before]())
    module = make_module(balancing=methods[now]())
    with pytest.raises(UserError, match=re.escape(f"model.balancing {message}")):
        make_trainer(tmp_path, max_epochs=2).fit(module, make_data(), ckpt_path=path)


def test_weights_alone_may_be_trained_on_with_any_balancing():
    check_balancing({"balancing": {"method": "UW"}}, None)
    check_balancing({}, "UW")


@pytest.mark.parametrize(
    ("before", "now", "change"),
    [
        ({}, {"accumulate_grad_batches": 2}, "accumulate_grad_batches: 1 -> 2"),
        ({"accumulate_grad_batches": 3}, {}, "accumulate_grad_batches: 3 -> 1"),
        ({}, {"precision": "bf16-mixed"}, "precision: 32-true -> bf16-mixed"),
        ({"precision": "64-true"}, {}, "precision: 64-true -> 32-true"),
        ({}, {}, ""),
    ],
)
def test_settings_of_the_trainer_apply_with_a_note(tmp_path, capsys, before, now, change):
    path = first_part(tmp_path, before)
    capsys.readouterr()
    trainer = make_trainer(tmp_path, max_epochs=2, **now)
    trainer.fit(make_module(), make_data(), ckpt_path=path)
    assert trainer.current_epoch == 2
    out = " ".join(capsys.readouterr().out.split())
    assert (f"note: trainer: {change}, from this step on" in out) if change else "note:" not in out


def test_a_loss_scaler_may_appear():
    """On a GPU, 16-mixed has one, and a checkpoint of 32-true has no state of it."""
    checkpoint = {"state_dict": {}}
    plugin = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu"))
    trainer = SimpleNamespace(precision_plugin=plugin, early_stopping_callbacks=[])
    keep_settings_of_trainer(checkpoint, trainer)
    assert checkpoint == {"state_dict": {}}


def test_an_average_that_is_added_starts_with_the_weights_of_the_checkpoint(tmp_path, capsys):
    path = first_part(tmp_path)
    trained_weights = torch.load(path, weights_only=True)["state_dict"]
    ema = EMA(every_n_steps=1_000_000)
    module = make_module()
    make_trainer(tmp_path, max_epochs=2, callbacks=[ema]).fit(module, make_data(), ckpt_path=path)
    assert "note: EMA: the checkpoint holds no average" in capsys.readouterr().out
    for name, mean in module.named_parameters():
        assert torch.equal(mean, trained_weights[name])


def test_early_stopping_has_the_patience_of_its_config(tmp_path):
    module = make_module()
    fit(tmp_path, make_data(), module, callbacks=[EarlyStopping("val/loss", patience=3)])
    module.trainer.save_checkpoint(tmp_path / "a.ckpt")
    stopping = EarlyStopping("val/loss", patience=7)
    trainer = make_trainer(tmp_path, max_epochs=2, callbacks=[stopping])
    trainer.fit(make_module(), make_data(), ckpt_path=tmp_path / "a.ckpt")
    assert stopping.patience == 7
    assert stopping.best_score < torch.inf


def test_ema_restores_none_of_its_arguments():
    ema = EMA(decay=0.5, every_n_steps=2, warm_up=False)
    ema.load_state_dict(EMA(decay=0.9).state_dict())
    assert (ema.decay, ema.every_n_steps, ema.warm_up) == (0.5, 2, False)
