from datetime import timedelta
from functools import partial

import jsonargparse
import pytest
import torch
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import Timer
from pytorch_lightning.cli import LRSchedulerCallable
from torch.optim import lr_scheduler as torch_schedulers

from mtl_lightning.system.errors import UserError
from mtl_lightning.training.schedule import WHOLE_RUN, WarmupCosine, fill_lengths
from tests.helpers.data import make_data
from tests.helpers.training import fit, make_module, make_trainer


class Rates(Callback):
    """The learning rates of each step: {group: [rate, ...]}."""

    def __init__(self):
        self.seen = {}

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        for group in trainer.optimizers[0].param_groups:
            self.seen.setdefault(group["name"], []).append(group["lr"])


def from_config(name, **arguments):
    """Build what LightningCLI gives for ``model.lr_scheduler``."""
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--scheduler", type=LRSchedulerCallable)
    path = f"torch.optim.lr_scheduler.{name}" if name else "WarmupCosine"
    entry = {"class_path": path, "init_args": arguments}
    return parser.instantiate_classes(parser.parse_object({"scheduler": entry})).scheduler


def rates(folder, scheduler, scale=1.0, batch_size=20, **trainer):
    """Train 3 epochs of 2 steps at rate 0.1; return the heads' and the backbone's rates."""
    recorded = Rates()
    module = make_module(
        optimizer=lambda groups: torch.optim.SGD(groups, lr=0.1),
        lr_scheduler=scheduler,
        backbone_lr_scale=scale,
    )
    flags = {"max_epochs": 3} | trainer
    fit(folder, make_data(batch_size=batch_size), module, callbacks=[recorded], **flags)
    return recorded.seen["heads"], recorded.seen["backbone"]


def reference(make, steps):
    """The rates of a scheduler that is moved each step."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler, expected = make(optimizer), []
    for _ in range(steps):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return expected


@pytest.mark.parametrize(
    "make", [from_config, lambda n, **a: partial(getattr(torch_schedulers, n), **a)]
)
def test_one_cycle_runs_over_the_whole_training_each_step(tmp_path, make):
    given = {"max_lr": 0.1}
    if make is from_config:
        given["total_steps"] = WHOLE_RUN  # what the config's completion puts there
    heads, backbone = rates(tmp_path, make("OneCycleLR", **given), scale=0.25)
    expected = reference(lambda o: torch_schedulers.OneCycleLR(o, 0.1, total_steps=6), 6)
    assert heads == pytest.approx(expected)
    assert max(heads) > 2 * heads[0]
    assert backbone == pytest.approx([rate / 4 for rate in expected]), "the ratio stays"


def test_one_cycle_counts_optimizer_steps_not_micro_batches(tmp_path):
    one = rates(tmp_path, partial(torch_schedulers.OneCycleLR, max_lr=0.1), batch_size=20)[0]
    two = rates(
        tmp_path,
        partial(torch_schedulers.OneCycleLR, max_lr=0.1),
        batch_size=10,
        accumulate_grad_batches=2,
    )[0]
    assert two[::2] == pytest.approx(one)


def test_one_cycle_of_a_limited_training(tmp_path):
    heads, _ = rates(
        tmp_path,
        partial(torch_schedulers.OneCycleLR, max_lr=0.1),
        batch_size=5,
        limit_train_batches=0.5,
    )
    expected = reference(
        lambda o: torch_schedulers.OneCycleLR(o, 0.1, total_steps=len(heads)), len(heads)
    )
    assert heads == pytest.approx(expected)


def test_one_cycle_with_its_own_length(tmp_path):
    scheduler = partial(torch_schedulers.OneCycleLR, max_lr=0.1, epochs=4, steps_per_epoch=2)
    expected = reference(lambda o: torch_schedulers.OneCycleLR(o, 0.1, total_steps=8), 6)
    assert rates(tmp_path, scheduler)[0] == pytest.approx(expected)


def test_cosine_fills_in_the_whole_run(tmp_path):
    heads, _ = rates(tmp_path, from_config("CosineAnnealingLR", T_max=WHOLE_RUN))
    expected = reference(lambda o: torch_schedulers.CosineAnnealingLR(o, 6), 6)
    assert heads == pytest.approx(expected)
    assert rates(tmp_path, partial(torch_schedulers.CosineAnnealingLR))[0] == pytest.approx(
        expected
    )


def test_a_length_that_is_given_is_in_epochs(tmp_path):
    heads, _ = rates(tmp_path, from_config("CosineAnnealingLR", T_max=3))
    epochs = reference(lambda o: torch_schedulers.CosineAnnealingLR(o, 3), 3)
    assert heads == pytest.approx([rate for rate in epochs for _ in range(2)])


def test_step_lr_moves_each_epoch(tmp_path):
    expected = [0.1, 0.1, 0.05, 0.05, 0.025, 0.025]
    scheduler = from_config("StepLR", step_size=1, gamma=0.5)
    assert rates(tmp_path, scheduler)[0] == pytest.approx(expected)
    heads, backbone = rates(tmp_path, lambda o: torch_schedulers.StepLR(o, 1, 0.5), scale=0.1)
    assert heads == pytest.approx(expected), "a lambda of one's own too"
    assert backbone == pytest.approx([rate / 10 for rate in expected])


def test_plateau_follows_the_monitored_value(tmp_path):
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--scheduler", type=LRSchedulerCallable)
    entry = {
        "class_path": "pytorch_lightning.cli.ReduceLROnPlateau",
        "init_args": {"monitor": "val/kind/n_labelled", "patience": 0, "factor": 0.5},
    }
    scheduler = parser.instantiate_classes(parser.parse_object({"scheduler": entry})).scheduler
    # The number of labelled rows never becomes less: each epoch after the first is a plateau.
    assert rates(tmp_path, scheduler)[0] == pytest.approx([0.1, 0.1, 0.1, 0.1, 0.05, 0.05])


def test_plateau_of_torch_follows_the_validation_loss(tmp_path):
    seen = []

    def scheduler(optimizer):
        made = torch_schedulers.ReduceLROnPlateau(optimizer, patience=0, factor=0.5)
        step = made.step
        made.step = lambda value, *rest: (seen.append(float(value)), step(value, *rest))
        return made

    module = make_module(lr_scheduler=scheduler)
    fit(tmp_path, make_data(), module, max_epochs=2)
    assert seen[-1] == pytest.approx(module.results["val"].loss)
    assert len(seen) == 2


def test_a_resumed_schedule_of_another_length_is_refused_before_the_first_step(tmp_path):
    def module():
        return make_module(
            lr_scheduler=partial(torch_schedulers.OneCycleLR, max_lr=0.1, total_steps=WHOLE_RUN)
        )

    first = make_trainer(tmp_path, max_epochs=1)
    first.fit(module(), datamodule=make_data())
    first.save_checkpoint(tmp_path / "a.ckpt")
    longer = make_trainer(tmp_path, max_epochs=2)
    with pytest.raises(UserError, match=r"OneCycleLR was made for 5 steps, this training has 10"):
        longer.fit(module(), datamodule=make_data(), ckpt_path=tmp_path / "a.ckpt")
    assert longer.global_step == first.global_step


def test_warm_up_and_cosine_over_the_whole_run(tmp_path):
    rates = Rates()
    make = from_config(None, warmup=0.25, floor=0.1)
    module = make_module(
        lr_scheduler=make, optimizer=lambda p: torch.optim.SGD(p, lr=0.01), backbone_lr_scale=0.5
    )
    fit(tmp_path, make_data(batch_size=4), module, callbacks=[rates], max_epochs=2)
    heads = rates.seen["heads"]
    steps = len(heads)
    rising = round(0.25 * steps)
    assert heads[: rising + 1] == pytest.approx(
        [0.01 * (i + 1) / (rising + 1) for i in range(rising + 1)]
    )
    assert heads[rising:] == sorted(heads[rising:], reverse=True)
    assert 0.001 < heads[-1] < 0.0015
    assert rates.seen["backbone"] == pytest.approx([rate / 2 for rate in heads])


def test_a_share_out_of_range_is_an_error():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    with pytest.raises(UserError, match=r"warmup should be in 0\.\.1"):
        WarmupCosine(optimizer, warmup=1.5, total_steps=10)


def test_a_training_without_an_end_of_its_own_needs_no_length(tmp_path):
    endless = {"max_epochs": -1, "callbacks": [Timer(timedelta(seconds=0.1))]}
    assert fit(tmp_path, **endless).trainer.global_step > 0
    module = make_module(lr_scheduler=partial(torch_schedulers.OneCycleLR, max_lr=0.1))
    with pytest.raises(UserError, match=r"OneCycleLR needs total_steps, .* or trainer.max_epochs"):
        fit(tmp_path, module=module, **endless)


@pytest.mark.parametrize(
    ("name", "given", "filled"),
    [
        ("CosineAnnealingLR", {}, {"T_max": WHOLE_RUN}),
        ("torch.optim.lr_scheduler.CosineAnnealingLR", {"T_max": 3}, {"T_max": 3}),
        ("OneCycleLR", {"max_lr": 1}, {"max_lr": 1, "total_steps": WHOLE_RUN}),
        ("OneCycleLR", {"max_lr": 1, "epochs": 3}, {"max_lr": 1, "epochs": 3}),
        ("StepLR", {"step_size": 2}, {"step_size": 2}),
    ],
)
def test_a_length_that_is_left_out_is_that_of_the_run(name, given, filled):
    assert fill_lengths({"class_path": name, "init_args": given}) == {
        "class_path": name,
        "init_args": filled,
    }


@pytest.mark.parametrize(
    "entry",
    [
        3,
        {},
        {"class_path": 3},
        {"class_path": "StepLR", "init_args": [1]},
        {"class_path": "my.Own"},
    ],
)
def test_an_entry_that_is_none_of_torchs_schedulers_stays_as_it_is(entry):
    assert fill_lengths(entry) == entry


def test_one_cycle_needs_its_peak():
    with pytest.raises(UserError, match=r"^model\.lr_scheduler: OneCycleLR needs max_lr"):
        fill_lengths("OneCycleLR")
