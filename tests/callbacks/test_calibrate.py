from copy import deepcopy

import numpy as np
import pytest
import torch
from pytorch_lightning import Callback

from mtl_lightning.callbacks.calibrate import Calibrate
from mtl_lightning.callbacks.checkpoints import Checkpoints
from mtl_lightning.callbacks.ema import EMA
from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks.calibration import Calibration, read_calibrations
from mtl_lightning.training.module import MultiTask
from tests.helpers.data import KINDS, Memory, make_more_tasks, sparse_labels
from tests.helpers.models import Small
from tests.helpers.training import fit, make_trainer


def fast(parameters):
    return torch.optim.SGD(parameters, lr=0.3)


def network():
    torch.manual_seed(1)
    return MultiTask(make_more_tasks(), Small(), 0.0, image_size=16, optimizer=fast)


class Shaded(Memory):
    """Images of a brightness that often, but not always, tells their kind."""

    def load(self, image):
        number = int(image.rpartition(":")[2])
        kind = self.labels["kind"][number]
        shade = number % 3 if kind is None or number % 4 == 0 else KINDS.index(kind)
        return super().load(image) // 3 + np.uint8(80 * shade)


def data(rows=120, batch_size=8, unlabelled=()):
    labels = sparse_labels(rows)
    for task in unlabelled:
        labels[task] = [value if i < rows // 3 else None for i, value in enumerate(labels[task])]
    splits = [("train", "val", "test")[3 * i // rows] for i in range(rows)]
    sources = {"memory": Shaded(labels, splits)}
    tasks = make_more_tasks()
    return PartialLabels(tasks, sources, image_size=16, batch_size=batch_size, num_workers=0)


def train(folder, *more, own=None, module=None, ckpt_path=None, every=None, **trainer):
    module = module or network()
    callbacks = [Checkpoints(folder, "val/kind/accuracy", "max", every), Calibrate(), *more]
    options = {"max_epochs": 4, "enable_checkpointing": True, "callbacks": callbacks} | trainer
    own = own or data()
    if ckpt_path is None:
        return fit(folder, own, module, **options)
    make_trainer(folder, **options).fit(module, own, ckpt_path=ckpt_path, weights_only=True)
    return module


def saved(path):
    return torch.load(path, weights_only=True)


class Outputs(Callback):
    """Keeps the outputs for the labelled rows of a validation."""

    def __init__(self):
        self.parts = {}

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        for name, own in outputs.items():
            part = own.clone(), batch.targets[name], batch.labelled[name]
            self.parts.setdefault(name, []).append(part)

    def calibrations(self, module):
        found = {}
        for name, parts in self.parts.items():
            whole = [torch.cat(each) for each in zip(*parts, strict=True)]
            some = whole[2].flatten(1).any(1) if whole[2].ndim > 1 else whole[2]
            task = deepcopy(module.tasks[name])
            found[name] = task.calibrate(*(each[some] for each in whole), 0.9)
        return found


@pytest.mark.parametrize("averaged", [False, True])
def test_each_checkpoint_is_calibrated_for_its_own_weights(tmp_path, averaged):
    train(tmp_path, *([EMA(0.9)] if averaged else []))
    steps, temperatures = set(), set()
    for name in ("best", "last"):
        path, kept = tmp_path / f"{name}.ckpt", Outputs()
        module = network()
        trainer = make_trainer(tmp_path, callbacks=[kept])
        trainer.validate(module, data(), ckpt_path=path, verbose=False, weights_only=True)
        content = saved(path)
        found = read_calibrations(content["calibration"])
        assert 0.06 < found["kind"].temperature < 19, "it is at no bound"
        for task, own in kept.calibrations(module).items():
            assert own.temperature == pytest.approx(found[task].temperature, rel=1e-5)
            assert module.tasks[task].calibration == found[task]
        steps.add(content["global_step"])
        temperatures.add(found["kind"].temperature)
    assert len(steps) == len(temperatures) == 2, "best is not last, or this shows nothing"


class KilledError(Exception):
    pass


class Kill(Callback):
    def __init__(self, step):
        self.step = step

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.step:
            raise KilledError


def test_a_checkpoint_within_an_epoch_has_no_calibration_and_resumes_to_the_same(tmp_path):
    train(tmp_path / "whole", max_epochs=2)
    with pytest.raises(KilledError):
        train(tmp_path / "cut", Kill(7), every=1, max_epochs=2)
    last = tmp_path / "cut" / "last.ckpt"
    assert "calibration" not in saved(last)
    train(tmp_path / "cut", ckpt_path=last, max_epochs=2)
    whole, resumed = saved(tmp_path / "whole" / "last.ckpt"), saved(last)
    assert resumed["calibration"] == whole["calibration"]
    with pytest.raises(KilledError):  # before its first step, but after its first checkpoint
        train(tmp_path / "again", Kill(10), ckpt_path=last, max_epochs=3)
    assert saved(tmp_path / "again" / "last.ckpt")["calibration"] == whole["calibration"]


def test_training_is_not_calibrated(tmp_path):
    logged = []
    for calibrated in (True, False):
        module = network()
        if calibrated:  # as one that was loaded from a checkpoint
            module.set_calibration({"kind": Calibration(temperature=7.0)})
        trainer = make_trainer(tmp_path, callbacks=[Calibrate()] if calibrated else [])
        trainer.fit(module, data())
        values = {name: float(value) for name, value in trainer.callback_metrics.items()}
        logged.append((values, [p.tolist() for p in module.parameters()]))
    assert logged[0] == logged[1]


def test_after_training_the_module_is_calibrated_and_test_measures_both(tmp_path):
    module = train(tmp_path)
    trainer = make_trainer(tmp_path)
    (values,) = trainer.test(module, data(), verbose=False)
    assert values["test/kind/calibration_error"] != values["test/kind/calibration_error_before"]
    (plain,) = make_trainer(tmp_path).test(uncalibrated(module), data(), verbose=False)
    before = values["test/kind/calibration_error_before"]
    assert before == pytest.approx(plain["test/kind/calibration_error"])
    for name in ("kind/balanced_accuracy", "kind/accuracy", "tags/mean_ap", "size/mae"):
        assert values[f"test/{name}"] == plain[f"test/{name}"], name
    assert not any("before" in name or "coverage" in name for name in plain)
    assert values["test/tags/f1"] != plain["test/tags/f1"], "at thresholds"
    assert 0 < values["test/kind/coverage"] <= 1 <= values["test/kind/set_size"] * 3
    assert 0.5 < values["test/size/coverage"] <= 1


def uncalibrated(module):
    module = deepcopy(module)
    module.set_calibration({})
    return module


def test_a_checkpoint_can_be_used_without_its_calibration(tmp_path):
    train(tmp_path, max_epochs=1)
    module = network()
    module.uses_calibration = False
    make_trainer(tmp_path).test(
        module, data(), ckpt_path=tmp_path / "best.ckpt", verbose=False, weights_only=True
    )
    assert all(task.calibration is None for task in module.tasks.values())


def test_a_task_without_labels_in_val_is_noted_and_left_out(tmp_path, capsys):
    train(tmp_path, own=data(unlabelled=["rare"]), max_epochs=1)
    assert set(saved(tmp_path / "last.ckpt")["calibration"]) == {"kind", "size", "tags"}
    assert notes(capsys) == ["note: task rare is not calibrated: val has no label of it"]


class Diverge(Callback):
    """Breaks the head of `kind` before the last validation."""

    def on_validation_start(self, trainer, pl_module):
        if trainer.current_epoch == 3:
            for weights in pl_module.network.heads["kind"].parameters():
                weights.data.fill_(torch.nan)


def test_a_training_that_has_diverged_can_be_resumed_without_calibration(tmp_path, capsys):
    train(tmp_path, Diverge())
    assert "note: task kind is not calibrated: its outputs are not" in capsys.readouterr().out
    kept = saved(tmp_path / "last.ckpt")["calibration"]
    assert "kind" not in kept
    assert set(read_calibrations(kept)) >= {"tags", "size"}


def test_weights_that_were_not_validated_are_not_calibrated_and_it_says_so(tmp_path, capsys):
    module = train(tmp_path, max_epochs=3, check_val_every_n_epoch=2)
    assert all(task.calibration is None for task in module.tasks.values())
    assert "note: the last weights were not validated and are not" in capsys.readouterr().out
    assert saved(tmp_path / "best.ckpt")["calibration"]


def test_a_calibrated_module_is_saved_as_such(tmp_path):
    module = train(tmp_path)
    trainer = make_trainer(tmp_path)
    trainer.test(module, data(), verbose=False)
    trainer.save_checkpoint(tmp_path / "own.ckpt")
    kept = read_calibrations(saved(tmp_path / "own.ckpt")["calibration"])
    assert kept == {name: task.calibration for name, task in module.tasks.items()}


def test_too_few_labels_for_sets_are_noted(tmp_path, capsys):
    train(tmp_path, max_epochs=1)
    assert notes(capsys) == [
        "note: task rare has no sets or intervals that are calibrated: for a coverage of 0.9 each "
        "of its outputs needs 9 labels in val"
    ]
    assert saved(tmp_path / "last.ckpt")["calibration"]["rare"]["set_from"] is None


def notes(capsys):
    return [line for line in capsys.readouterr().out.splitlines() if "note: task" in line]


@pytest.mark.parametrize("coverage", [0, 1, 90])
def test_a_coverage_out_of_range_is_refused(coverage):
    with pytest.raises(UserError, match=r"calibration.coverage should be in 0..1"):
        Calibrate(coverage)


def on_ranks(folder, devices):
    """Train in double precision; return the calibrations. 41 images of val are not full batches."""
    own = data(rows=123, batch_size=8 // devices)
    module = network()
    fit(
        folder / str(devices),
        own,
        module,
        callbacks=[Calibrate()],
        devices=devices,
        max_epochs=2,
        precision="64-true",
    )
    return {
        name: task.calibration.plain() for name, task in module.tasks.items() if task.calibrates
    }


def test_ranks_use_each_row_once(tmp_path, on_two_ranks):
    one, two = on_ranks(tmp_path, 1), on_two_ranks["calibrated"]
    assert one.keys() == two.keys() == {"kind", "rare", "size", "tags"}
    for task, values in one.items():
        for name, value in values.items():
            close = value if value is None else pytest.approx(value, rel=1e-5)
            assert two[task][name] == close, (task, name)
