import io
import re
import time

import pytest
import rich
from pytorch_lightning import Callback
from rich.console import Console

from mtl_lightning.callbacks import tables
from mtl_lightning.callbacks.checkpoints import Checkpoints
from mtl_lightning.callbacks.run_recorder import RunRecorder
from mtl_lightning.callbacks.tables import Tables
from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.runs import run_file
from mtl_lightning.tasks import Classification, Regression
from mtl_lightning.training.module import MultiTask
from tests.helpers.data import Memory, make_data, make_tasks
from tests.helpers.models import Small
from tests.helpers.training import fit, make_module, make_trainer

WIDTH = 80


def recorded(folder):
    """The callbacks that print a run, which is written to the folder."""
    recorder = RunRecorder(folder)
    return [recorder, Tables(recorder)]


@pytest.fixture
def console(monkeypatch):
    made = Console(width=WIDTH, record=True, file=io.StringIO())
    monkeypatch.setattr(tables, "get_console", lambda: made)
    monkeypatch.setattr(rich, "get_console", lambda: made)
    return made


def test_what_a_training_prints(tmp_path, console):
    data = make_data(train=45, val=9)
    callbacks = recorded(tmp_path / "[run]")
    module = fit(tmp_path, data, max_epochs=2, num_sanity_val_steps=1, callbacks=callbacks)
    text = console.export_text()
    assert text.index("labelled images") < text.index("M parameters") < text.index("epoch 0")
    assert text.index("epoch 0") < text.index("epoch 1")
    assert text.count("balanced_accuracy") >= 2
    assert len(re.findall(r"epoch \d", text)) == 2, "nothing for the sanity check"
    assert text.index("epoch 1") < text.index("chosen")
    assert "training images carry no label and are left out" in text
    assert "images 16 x 16 px" in text
    assert "[run]" in text.replace("\n", "")
    value = module.results["val"].tasks["kind"]["balanced_accuracy"]
    assert text.count(f"{callbacks[0].facts.best()['kind']:.4f}") >= 2
    assert f"{value:.4f}" in text


def test_frozen_parameters_are_reported(tmp_path, console):
    module = make_module()
    for parameter in module.network.backbone_parameters():
        parameter.requires_grad_(False)
    fit(tmp_path, make_data(), module, callbacks=recorded(tmp_path))
    assert "M of them trained" in console.export_text()


def test_what_test_and_validate_print(tmp_path, console):
    labels = {"kind": ["cat", "dog"] * 6, "size": range(12), "rare": ["no", "yes", *[None] * 10]}
    source = Memory(labels, ["train"] * 4 + ["val"] * 4 + ["test"] * 4)
    data = PartialLabels(make_tasks(), {"m": source}, image_size=16, batch_size=4, num_workers=0)
    module = make_module()
    trainer = make_trainer(tmp_path, callbacks=recorded(tmp_path))
    trainer.test(module, datamodule=data, verbose=False)
    text = console.export_text(clear=True)
    assert "rmse" in text
    assert "task rare: absent, no label in test" in text
    assert f"score {module.results['test'].score:.4f}" in text
    trainer.validate(module, datamodule=data, verbose=False)
    text = console.export_text()
    assert "absent" in text
    assert "best" not in text


def test_the_best_so_far_goes_on_after_a_resume(tmp_path, console):
    saving = Checkpoints(tmp_path / "checkpoints", "val/score", "max")
    callbacks = [*recorded(tmp_path), saving]
    fit(tmp_path, make_data(val=9), callbacks=callbacks, enable_checkpointing=True)
    facts = run_file.read(tmp_path)
    facts.validations[0].results.tasks["kind"]["balanced_accuracy"] = 0.9876
    run_file.write(tmp_path, facts)
    console.export_text()
    trainer = make_trainer(tmp_path, callbacks=recorded(tmp_path), max_epochs=2)
    last = tmp_path / "checkpoints" / "last.ckpt"
    trainer.fit(make_module(), datamodule=make_data(val=9), ckpt_path=last)
    text = console.export_text()
    assert text[: text.index("chosen")].count("0.9876") == 1


def test_an_undefined_value_is_never_the_best(tmp_path, console):
    source = Memory({"size": [*range(8), 3, 3]}, ["train"] * 8 + ["val"] * 2)
    data = PartialLabels(
        {"size": Regression()}, {"m": source}, image_size=16, batch_size=4, num_workers=0
    )
    callbacks = recorded(tmp_path)
    module = MultiTask({"size": Regression()}, Small(), image_size=16)
    fit(tmp_path, data, module, callbacks=callbacks)
    assert callbacks[0].facts.best() == {}
    assert "nan" in console.export_text()


# ------------------------------------------------------------------- waiting for data


class Slow(Memory):
    """Takes its time for each image of some splits."""

    slow = ("train",)

    def load(self, image):
        if self.splits[int(image.rpartition(":")[2])] in self.slow:
            time.sleep(0.03)
        return super().load(image)


class SlowStep(Callback):
    """Takes its time for each step."""

    def on_train_batch_start(self, *_):
        time.sleep(0.03)


def slow_data(*slow, **options):
    splits = ["train"] * 40 + ["val"] * 8
    source = Slow({"kind": ["cat", "dog"] * 24}, splits)
    source.slow = slow
    fixed = {"image_size": 16, "num_workers": 0, "augmentation": "none", "batch_size": 2}
    tasks = {"kind": Classification(["cat", "dog"])}
    return PartialLabels(tasks, {"m": source}, **(fixed | options))


def trained(folder, data, *callbacks, **trainer):
    module = MultiTask(data.tasks, Small(), image_size=16)
    return fit(folder, data, module, callbacks=[*callbacks, *recorded(folder)], **trainer)


def shares(console):
    """What the titles say: epochs, and the shares of waiting in percent."""
    text = " ".join(console.export_text(clear=False).split())
    found = re.findall(r"epoch (\d+) · waiting for data (\d+)%", text)
    messages = text.count("of the training time went into waiting for data")
    return [int(epoch) for epoch, _ in found], [int(share) for _, share in found], messages


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_starved_device_is_noted_once(tmp_path, console, num_workers):
    data = slow_data("train", num_workers=num_workers)
    trained(tmp_path, data, max_epochs=2, num_sanity_val_steps=2)
    epochs, waited, messages = shares(console)
    assert epochs == [0, 1], "and nothing for the sanity check"
    assert min(waited) > 25
    assert messages == 1


def test_a_busy_device_is_not_starved(tmp_path, console):
    trained(tmp_path, slow_data(), SlowStep(), val_check_interval=5)
    epochs, waited, messages = shares(console)
    assert epochs == [0] * 4
    assert max(waited) < 25
    assert messages == 0


def test_validations_are_no_part_of_it(tmp_path, console):
    """Counted as training, twice the time of the loading, they would leave it less than a third."""
    trained(tmp_path, slow_data("train", "val"), val_check_interval=2)
    epochs, waited, _ = shares(console)
    assert epochs == [0] * 10
    assert waited[-1] > 40


def test_few_batches_are_measured_but_no_reason_for_a_note(tmp_path, console):
    trained(tmp_path, slow_data("train"), limit_train_batches=7)
    epochs, waited, messages = shares(console)
    assert epochs == [0]
    assert waited[0] > 25
    assert messages == 0


def test_a_resumed_epoch_is_measured_from_where_it_goes_on(tmp_path, console):
    class Save(Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            if batch_idx == 14:
                trainer.save_checkpoint(tmp_path / "half.ckpt")

    trained(tmp_path, slow_data(), Save())
    console.export_text()
    data = slow_data("train")
    module = MultiTask(data.tasks, Small(), image_size=16)
    trainer = make_trainer(tmp_path, callbacks=recorded(tmp_path))
    trainer.fit(module, datamodule=data, ckpt_path=tmp_path / "half.ckpt")
    assert data.input_wait.batches == 5
    epochs, waited, _ = shares(console)
    assert epochs == [0]
    assert waited[0] > 25


def test_nothing_that_is_compared_holds_a_time(tmp_path, console):
    module = trained(tmp_path, slow_data("train"))
    assert not [name for name in module.trainer.callback_metrics if "wait" in name]
    for callback in module.trainer.callbacks:
        if isinstance(callback, Tables | RunRecorder):
            assert callback.state_dict() == {}
