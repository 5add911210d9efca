import pytest
import torch

from mtl_lightning.tasks.group_states import GroupStates
from mtl_lightning.tasks.metrics import TaskMetrics
from tests.tasks.test_resampling import KINDS, NAMES, ROWS, data

CPU = torch.device("cpu")


@pytest.mark.parametrize(("task", "targets", "width"), KINDS, ids=NAMES)
@pytest.mark.parametrize("pending", [1, 2**24], ids=["batch by batch", "at once"])
def test_a_group_has_the_metrics_of_its_rows(monkeypatch, pending, task, targets, width):
    monkeypatch.setattr("mtl_lightning.tasks.group_states._PENDING", pending)
    outputs, values, labelled, groups = data(task, targets, width)
    groups = groups % 4  # of 5: the last has no row
    labelled[groups == 2] = False
    states = GroupStates(task, CPU, 5)
    for part in torch.arange(ROWS).split(70):
        states.add(outputs[part], values[part], labelled[part], groups[part])
    found = states.values()
    assert found == states.values(), "asking changes nothing"
    assert found[2] == found[4] == {"n_labelled": 0}
    for group in (0, 1, 3):
        own, rows = TaskMetrics(task), groups == group
        own.update(task, outputs[rows], values[rows], labelled[rows], torch.zeros(()))
        expected = own.compute()
        del expected["loss"]
        assert found[group] == pytest.approx(expected, nan_ok=True, rel=1e-6)
