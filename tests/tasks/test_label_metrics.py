import torch

from mtl_lightning.tasks import MultiLabel
from mtl_lightning.tasks.label_metrics import LabelMetrics
from tests.helpers.training import written


def test_the_names_are_those_of_what_is_computed():
    metric = LabelMetrics(["hat", "bag"])
    metric.update(torch.rand(3, 2), torch.ones(3, 2), torch.ones(3, 2, dtype=torch.bool))
    assert sorted(metric.names) == sorted(metric.compute())


def test_one_half_is_a_yes_for_metrics_and_answers():
    task = MultiLabel(["hat"])
    metric, outputs, yes = task.metrics(), torch.zeros(1, 1), torch.ones(1, 1)
    task.update(metric, task.predict(outputs), yes, yes.bool())
    assert metric.compute()["accuracy"] == 1
    assert written(task, outputs)[""].tolist() == ["hat"]
