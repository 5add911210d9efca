import pytest
import torch

from mtl_lightning.tasks.number_metrics import IntervalMetrics, NumberMetrics


def test_the_ends_belong_to_an_interval_and_its_states_are_sums():
    metric = IntervalMetrics()
    low, high = torch.tensor([0.0, 0.0, 0.0]), torch.tensor([1.0, 1.0, 4.0])
    metric.update(low, torch.tensor([0.0, 1.0, 5.0]), low, high)
    metric.update(low[:1], torch.tensor([-1.0]), low[:1], high[:1])
    found = {name: float(value) for name, value in metric.compute().items()}
    assert found == {"coverage": 0.5, "interval_width": 7 / 4}
    assert list(found) == list(metric.names)


def test_numbers_far_from_0_do_not_cancel():
    target = torch.tensor([[1.7e9], [1.7e9 + 1e-3], [1.7e9 + 2e-3]], dtype=torch.float64)
    metric = NumberMetrics(["time"])
    answers = {"value": target + torch.tensor([[0.0], [1e-3], [0.0]], dtype=torch.float64)}
    labelled = torch.ones(3, 1, dtype=torch.bool)
    metric.update(answers, target, labelled, torch.tensor([1.7e9], dtype=torch.float64))
    assert float(metric.compute()["r2"]) == pytest.approx(0.5, rel=1e-3)
