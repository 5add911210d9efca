import numpy as np
import pytest
import torch

from mtl_lightning.tasks import Classification, MultiLabel, Regression
from mtl_lightning.tasks.classification import PLOTTED_UP_TO
from mtl_lightning.tasks.plot_data import ConfusionPlotData, ScatterPlotData


def test_a_confusion_matrix_counts_labelled_rows_only():
    data = Classification(["a", "b", "c"]).plot_data()
    assert isinstance(data, ConfusionPlotData)
    answers = {"probabilities": torch.eye(3)[[0, 1, 1, 2]]}
    targets = torch.tensor([0, 2, 1, -100])
    labelled = torch.tensor([True, True, True, False])
    data.update(answers, targets, labelled, torch.arange(4))
    data.update(answers, targets, torch.zeros(4, dtype=torch.bool), torch.tensor([-1] * 4))
    record = data.compute()
    assert record.classes == ["a", "b", "c"]
    assert record.counts.tolist() == [[1, 0, 0], [0, 1, 0], [0, 1, 0]]


def test_too_many_classes_are_not_plotted():
    names = [str(i) for i in range(PLOTTED_UP_TO + 1)]
    assert Classification(names).plot_data() is None
    assert Classification(names[1:]).plot_data() is not None


def fed(limit: int, batches: list[torch.Tensor]) -> ScatterPlotData:
    data = ScatterPlotData(limit)
    for rows in batches:
        labelled = rows % 3 > 0
        data.update({"value": rows.float() * 10}, rows.float() + 0.5, labelled, rows)
    return data


def sampled(data: ScatterPlotData) -> tuple[list[tuple[float, float]], int]:
    record = data.compute()
    points = zip(record.predictions.tolist(), record.labels.tolist(), strict=True)
    return sorted(points), record.n_labelled


def test_a_scatter_keeps_every_row_up_to_its_limit():
    points, seen = sampled(fed(50, [torch.arange(30), torch.arange(30, 60)]))
    assert seen == 40
    assert points == [(10.0 * i, i + 0.5) for i in range(60) if i % 3]


def test_beyond_the_limit_the_sample_is_fair_and_the_same_in_any_order():
    rows = torch.arange(3000)
    one = fed(500, [rows])
    points, seen = sampled(one)
    assert (len(points), seen) == (500, 2000)
    labels = np.array([label for _, label in points])
    assert abs(labels.mean() - 1500) < 120  # 3 standard errors
    shuffled = rows[torch.randperm(3000, generator=torch.Generator().manual_seed(0))]
    assert sampled(fed(500, list(shuffled.split(70)))) == (points, seen)


def test_a_regression_is_collected_in_the_labels_own_unit():
    task = Regression()
    task.fit_statistics(torch.tensor([10.0, 30.0]), torch.ones(()))
    data = task.plot_data()
    answers = task.predict(torch.tensor([[1.0]]))
    data.update(answers, torch.tensor([25.0]), torch.tensor([True]), torch.tensor([4]))
    assert sampled(data) == ([pytest.approx((30.0, 25.0))], 1)


def test_time_stamps_are_collected_as_they_are():
    task = Regression()
    stamps = 1_700_000_000 + torch.arange(24, dtype=torch.float64)
    task.fit_statistics(stamps, torch.ones(24))
    data = task.plot_data()
    answers = task.predict((stamps - task.mean)[:, None] / task.std)
    data.update(answers, stamps, torch.ones(24, dtype=torch.bool), torch.arange(24))
    points, _ = sampled(data)
    assert [label for _, label in points] == stamps.tolist()
    assert max(abs(answer - label) for answer, label in points) < 1e-5


def test_a_device_without_float64_collects_float32():
    def refused(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.dtype == torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64")
        return tensor

    data = ScatterPlotData()._apply(refused)
    assert data.points.dtype == torch.float32
    predictions, labels = torch.tensor([2.0]), torch.tensor([3.0], dtype=torch.float64)
    data.update({"value": predictions}, labels, torch.tensor([True]), torch.tensor([4]))
    assert sampled(data) == ([(2.0, 3.0)], 1)


def test_labels_are_counted_where_they_are_labelled_and_as_their_metrics_count_them():
    task = MultiLabel(["hat", "bag"])
    data, metrics = task.plot_data(), task.metrics()
    outputs = torch.tensor([[3.0, -1.0], [-2.0, 0.5], [1.0, 2.0], [0.2, 9.0]])
    targets = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
    labelled = torch.tensor([[True, True], [True, True], [True, True], [True, False]])
    for part in (slice(0, 1), slice(1, 4)):
        rows = torch.arange(4)[part]
        answers = task.predict(outputs[part])
        data.update(answers, targets[part], labelled[part], rows)
        task.update(metrics, answers, targets[part], labelled[part])
    record, values = data.compute(), metrics.compute()
    assert record.labels == ["hat", "bag"]
    assert record.outcomes().tolist() == [[1, 1, 0, 2], [1, 0, 1, 1]]
    expected = [values["ap/hat"].item(), values["ap/bag"].item()]
    assert record.average_precision().tolist() == expected


def test_a_scatter_keeps_the_intervals_of_its_rows():
    data = Regression(loss="beta_nll", scale="log").plot_data()
    rows = torch.arange(5)
    answers = {"value": rows + 1.0, "low": rows + 0.5, "high": rows + 2.0}
    data.update(answers, rows + 0.75, rows != 2, rows)
    record = data.compute()
    assert record.log
    found = zip(record.labels, record.predictions, record.low, record.high, strict=True)
    assert sorted(found) == [(i + 0.75, i + 1, i + 0.5, i + 2) for i in (0, 1, 3, 4)]
