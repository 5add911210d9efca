import torch

from mtl_lightning.training.finite import MicroBatchResult
from mtl_lightning.training.measuring import Measurements
from tests.helpers.data import make_data, make_tasks
from tests.helpers.training import make_module, make_trainer
from tests.training.test_losses import micro_batch

OUTPUTS = {
    "kind": torch.eye(3)[[0, 0, 1, 2]],
    "size": torch.zeros(4, 1),
    "rare": torch.zeros(4, 2),
}


def measured(split):
    tasks = make_tasks()
    measurements = Measurements(tasks, ("train", "val", "test"))
    sums = {task: torch.tensor(3.0) for task in tasks}
    measurements.update(split, tasks, MicroBatchResult(micro_batch(), OUTPUTS, sums))
    return measurements, tasks


def test_a_split_is_measured_apart_from_the_others_and_in_training_by_the_primary_metric():
    for split, names in (("train", {"balanced_accuracy"}), ("val", {"accuracy", "macro_f1"})):
        measurements, tasks = measured(split)
        results = measurements.results(split, tasks)
        assert results.split == split
        kind = results.tasks["kind"]
        assert names <= kind.keys()
        assert ("accuracy" in kind) == (split == "val")
        assert (kind["n_labelled"], kind["loss"]) == (2, 1.5)
        assert kind["balanced_accuracy"] == 0.5
        assert results.tasks["rare"] == {"n_labelled": 0}
        other = measurements.results("test", tasks)
        assert other.tasks["kind"] == {"n_labelled": 0}


def test_what_is_reset_is_forgotten():
    measurements, tasks = measured("val")
    measurements.reset("test")
    assert measurements.results("val", tasks).tasks["kind"]["n_labelled"] == 2
    measurements.reset("val")
    assert measurements.results("val", tasks).tasks["kind"] == {"n_labelled": 0}


def test_nothing_of_it_is_in_a_checkpoint():
    assert not measured("val")[0].state_dict()


def test_a_stage_measures_its_own_splits_and_keeps_those_of_others(tmp_path):
    module = make_module()
    assert list(module.measured) == []
    data = make_data()
    make_trainer(tmp_path).validate(module, datamodule=data, verbose=False)
    assert list(module.measured) == ["val"]
    measured = module.measured["val"]
    make_trainer(tmp_path, limit_train_batches=1).fit(module, datamodule=data)
    assert list(module.measured) == ["val", "train"]
    assert module.measured["val"] is measured
