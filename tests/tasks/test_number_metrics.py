import torch

from mtl_lightning.tasks.number_metrics import IntervalMetrics


def test_the_ends_belong_to_an_interval_and_its_states_are_sums():
    metric = IntervalMetrics()
    low, high = torch.tensor([0.0, 0.0, 0.0]), torch.tensor([1.0, 1.0, 4.0])
    metric.update(low, torch.tensor([0.0, 1.0, 5.0]), low, high)
    metric.update(low[:1], torch.tensor([-1.0]), low[:1], high[:1])
    found = {name: float(value) for name, value in metric.compute().items()}
    assert found == {"coverage": 0.5, "interval_width": 7 / 4}
    assert list(found) == list(metric.names)
