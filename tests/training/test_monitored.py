import pytest
import torch
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint

from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.system.errors import UserError
from mtl_lightning.training.monitored import check_monitor, monitored_names
from tests.helpers.data import Memory, make_data, make_tasks
from tests.helpers.training import fit, make_module


def test_monitored_names_are_what_is_logged(tmp_path):
    labels = {"kind": ["cat", "dog", "eel"] * 8, "size": range(24), "rare": ["no", "yes"] * 12}
    source = Memory(labels, ["train"] * 16 + ["val"] * 8)
    data = PartialLabels(make_tasks(), {"m": source}, image_size=16, batch_size=8, num_workers=0)
    module = fit(tmp_path, data)
    logged = {name for name in module.trainer.callback_metrics if name[:3] in ("val", "tra")}
    assert set(monitored_names(module)) == logged - {"train/loss_step"}


@pytest.fixture
def known():
    """The names of a module that is set up for training."""
    module = make_module()
    module.measured.include(module.tasks, ("train", "val"))
    return monitored_names(module)


def test_a_known_name_passes(known):
    check_monitor("key", "val/score", known)


def test_an_unknown_name_is_refused_with_the_nearest(known):
    with pytest.raises(
        UserError, match=r'^key: nothing is logged as "val/scor"; did you mean "val/'
    ):
        check_monitor("key", "val/scor", known)


# --------------------------------------------------------------------- what is never measured


def plateau(optimizer):
    return torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.5)


def without(task: str) -> PartialLabels:
    """Return data whose val has no label of a task."""
    labels = {"kind": ["cat", "dog", "eel"] * 8, "size": range(24), "rare": ["no", "yes"] * 12}
    labels[task] = [*labels[task][:16], *[None] * 8]
    source = Memory(labels, ["train"] * 16 + ["val"] * 8)
    return PartialLabels(make_tasks(), {"m": source}, image_size=16, batch_size=8, num_workers=0)


@pytest.mark.parametrize(
    ("callback", "key"),
    [(EarlyStopping, "EarlyStopping.monitor"), (ModelCheckpoint, "ModelCheckpoint.monitor")],
)
def test_nothing_waits_for_a_validation_that_there_is_not(tmp_path, callback, key):
    made = callback(monitor="val/score", mode="max")
    with pytest.raises(UserError, match=f"^{key} should be .*: there is no validation image"):
        fit(tmp_path, make_data(val=0, splits={}), callbacks=[made], enable_checkpointing=True)
    with pytest.raises(UserError, match=r"trainer.limit_val_batches is 0; monitor train/loss"):
        fit(tmp_path, callbacks=[made], enable_checkpointing=True, limit_val_batches=0)


def test_no_schedule_waits_for_a_validation_that_there_is_not(tmp_path):
    with pytest.raises(UserError, match=r"^model.lr_scheduler: monitor .*: there is no validation"):
        fit(tmp_path, make_data(val=0, splits={}), make_module(lr_scheduler=plateau))


def test_a_task_without_a_label_in_val_is_not_waited_for(tmp_path):
    stopping = EarlyStopping("val/rare/accuracy")
    with pytest.raises(UserError, match=r"Found val/rare/accuracy: task rare has no label in val;"):
        fit(tmp_path, without("rare"), callbacks=[stopping])
    fit(tmp_path, without("rare"), callbacks=[EarlyStopping("val/rare/n_labelled")])
    fit(tmp_path, without("rare"), callbacks=[EarlyStopping("val/kind/accuracy")])


def test_a_plateau_is_looked_for_where_epochs_are_validated(tmp_path):
    values = []

    def schedule(optimizer):
        made = plateau(optimizer)
        step = made.step
        made.step = lambda value, *rest: (values.append(float(value)), step(value, *rest))
        return made

    module = make_module(lr_scheduler=schedule)
    fit(tmp_path, make_data(), module, max_epochs=5, check_val_every_n_epoch=2)
    assert len(values) == 2
    assert values[-1] == pytest.approx(module.results["val"].loss)


def test_validations_further_apart_than_epochs_are_refused_with_what_helps(tmp_path):
    module, apart = make_module(lr_scheduler=plateau), {"check_val_every_n_epoch": None}
    with pytest.raises(
        UserError, match=r"after each epoch of 5 batches, and .* is 9; set it to 5 or less"
    ):
        fit(tmp_path, make_data(), module, max_epochs=5, val_check_interval=9, **apart)
    module = make_module(lr_scheduler=plateau)
    fit(tmp_path, make_data(), module, max_epochs=2, val_check_interval=5, **apart)
