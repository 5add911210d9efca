import numpy as np
import pytest
import torch

from mtl_lightning.tasks import Classification, MultiLabel, Regression
from mtl_lightning.tasks.classification import DRAWN_UP_TO
from mtl_lightning.tasks.pictures import ConfusionPicture, ScatterPicture


def test_a_confusion_matrix_counts_labelled_rows_only():
    picture = Classification(["a", "b", "c"]).picture()
    assert isinstance(picture, ConfusionPicture)
    outputs = torch.eye(3)[[0, 1, 1, 2]]
    targets = torch.tensor([0, 2, 1, -100])
    labelled = torch.tensor([True, True, True, False])
    picture.update(outputs, targets, labelled, torch.arange(4))
    picture.update(outputs[:1], targets[:1], torch.tensor([False]), torch.tensor([-1]))
    assert picture.compute().tolist() == [[1, 0, 0], [0, 1, 0], [0, 1, 0]]
    figure = picture.draw(picture.compute(), "kind", "val")
    assert np.asarray(figure.axes[0].images[0].get_array())[2].tolist() == [0, 1, 0]


def test_too_many_classes_have_no_picture():
    names = [str(i) for i in range(DRAWN_UP_TO + 1)]
    assert Classification(names).picture() is None
    assert Classification(names[1:]).picture() is not None


def fed(limit: int, batches: list[torch.Tensor]) -> ScatterPicture:
    picture = ScatterPicture(lambda outputs: outputs[:, 0] * 10, limit)
    for rows in batches:
        labelled = rows % 3 > 0
        picture.update(rows[:, None].float(), rows.float() + 0.5, labelled, rows)
    return picture


def drawn(picture: ScatterPicture) -> tuple[list[tuple[float, float]], int]:
    points, seen = picture.compute()
    return sorted(map(tuple, points.tolist())), seen


def test_a_scatter_keeps_every_row_up_to_its_limit():
    points, seen = drawn(fed(50, [torch.arange(30), torch.arange(30, 60)]))
    assert seen == 40
    assert points == [(10.0 * i, i + 0.5) for i in range(60) if i % 3]


def test_beyond_the_limit_the_lot_is_fair_and_the_same_in_any_order_and_on_any_ranks():
    rows = torch.arange(3000)
    one = fed(500, [rows])
    points, seen = drawn(one)
    assert (len(points), seen) == (500, 2000)
    labels = np.array([label for _, label in points])
    assert abs(labels.mean() - 1500) < 120  # 3 standard errors
    shuffled = rows[torch.randperm(3000, generator=torch.Generator().manual_seed(0))]
    assert drawn(fed(500, list(shuffled.split(70)))) == (points, seen)
    figure = one.draw(one.compute(), "size", "val")
    assert figure.texts[1].get_text() == "val · 500 of 2,000 drawn, chosen by lot"


def test_a_regression_is_drawn_in_the_labels_own_unit():
    task = Regression()
    task.fit_statistics(torch.tensor([10.0, 30.0]), torch.ones(()))
    picture = task.picture()
    picture.update(
        torch.tensor([[1.0]]), torch.tensor([25.0]), torch.tensor([True]), torch.tensor([4])
    )
    points, seen = picture.compute()
    assert points.tolist() == [pytest.approx([30.0, 25.0])]
    assert seen == 1


def test_labels_are_counted_where_they_are_labelled_and_as_their_metrics_count_them():
    task = MultiLabel(["hat", "bag"])
    picture, metrics = task.picture(), task.metrics()
    outputs = torch.tensor([[3.0, -1.0], [-2.0, 0.5], [1.0, 2.0], [0.2, 9.0]])
    targets = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
    labelled = torch.tensor([[True, True], [True, True], [True, True], [True, False]])
    for part in (slice(0, 1), slice(1, 4)):
        rows = torch.arange(4)[part]
        picture.update(outputs[part], targets[part], labelled[part], rows)
        task.update(metrics, outputs[part], targets[part], labelled[part])
    precision, counts = picture.compute()
    assert counts.tolist() == [[1, 1, 0, 2], [1, 0, 1, 1]]
    values = metrics.compute()
    assert precision.tolist() == [values["ap/hat"].item(), values["ap/bag"].item()]
    figure = picture.draw((precision, counts), "wears", "val")
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == [
        "hat (2 yes of 4)",
        "bag (1 yes of 3)",
    ]
