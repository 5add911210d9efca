import pytest
import torch

from mtl_lightning.tasks.calibratable import Judged
from mtl_lightning.tasks.calibration_metrics import JudgedError, SetMetrics
from mtl_lightning.tasks.resampling import ERRORS


@pytest.mark.parametrize(("of", "error"), [("confidence", 0.1), ("before", 0.4)])
def test_the_error_is_of_the_chosen_confidence(of, error):
    judged = Judged(torch.tensor([0.6, 0.6]), torch.tensor([0.9, 0.9]), torch.tensor([True, False]))
    metric = JudgedError(of)
    metric.update("what others read", judged=judged)
    metric.update(judged=Judged(*(torch.tensor([1.0]),) * 2, torch.tensor([True])))
    assert metric.compute().item() == pytest.approx(error * 2 / 3, rel=1e-6)
    assert not metric.higher_is_better
    assert "calibration_error_before" in ERRORS


def test_sets_are_counted():
    yes = torch.tensor([True, False, True])
    ones = torch.ones(3)
    metric = SetMetrics()
    metric.update(judged=Judged(ones, ones, yes, yes, torch.tensor([1, 0, 4])))
    metric.update(judged=Judged(ones[:1], ones[:1], yes[:1], yes[:1], torch.tensor([1])))
    assert {name: value.item() for name, value in metric.compute().items()} == {
        "coverage": 0.75,
        "set_size": 1.5,
    }
