import json

import numpy as np
import pytest
import torch

from mtl_lightning.tasks import DenseRegression, Segmentation, Task
from mtl_lightning.tasks.map_examples import EXAMPLES, SIDE, MapExamples
from mtl_lightning.tasks.plot_data import PlotData, hashed
from mtl_lightning.tasks.plot_records import record_from_json, record_to_json

SEGMENTATION = Segmentation(["sky", "road"])


def batch(task: Task, rows: range, size: tuple[int, int] = (6, 8)) -> dict[str, torch.Tensor]:
    """Return what depends on the row alone."""
    torch.manual_seed(rows[0])
    outputs = torch.randn(len(rows), task.num_outputs, *size)
    targets = torch.stack([task.empty_target(size) for _ in rows])
    for place, row in enumerate(rows):
        targets[place] = row % 2 + 1 if targets.dtype == torch.uint8 else 0.1 + row
        targets[place, ..., 0, 0] = 0
    return {"outputs": outputs, "targets": targets, "rows": torch.tensor(rows)}


def add(data: PlotData, task: Task, rows: range, size: tuple[int, int] = (6, 8)) -> None:
    for start in range(rows.start, rows.stop, 4):
        own = batch(task, range(start, start + 4), size)
        labelled = own["rows"] % 3 != 0
        images = own["rows"].to(torch.uint8)[:, None, None, None].expand(-1, 3, *size)
        data.see(images)
        data.update(task.predict(own["outputs"]), own["targets"], labelled, own["rows"])


def collected(task: Task, rows: range, size: tuple[int, int] = (6, 8)) -> MapExamples:
    data = task.plot_data()
    add(data, task, rows, size)
    return data.compute()


def test_examples_are_the_labelled_rows_with_the_lowest_hashes():
    found = collected(SEGMENTATION, range(40))
    labelled = torch.tensor([row for row in range(40) if row % 3])
    expected = labelled[hashed(labelled).argsort()][:EXAMPLES].tolist()
    assert [int(image[0, 0, 0]) for image in found.images] == expected
    assert found.n_labelled == len(labelled)
    for row, label, answer in zip(expected, found.labels, found.answers, strict=True):
        assert label[0, 0] == 0
        assert (label.ravel()[1:] == row % 2 + 1).all()
        start = row // 4 * 4
        own = batch(SEGMENTATION, range(start, start + 4))["outputs"][row % 4].argmax(0) + 1
        assert np.array_equal(answer, own)
    assert found.classes == ["sky", "road"]


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_two_ranks_collect_what_one_does():
    one, parts = collected(SEGMENTATION, range(40)), []
    for rows in (range(20), range(20, 40)):
        data = SEGMENTATION.plot_data()
        add(data, SEGMENTATION, rows)
        parts.append(data.metric_state)
    both = SEGMENTATION.plot_data()
    for name, value in parts[0].items():  # as torchmetrics gathers states over ranks
        other = parts[1][name]
        setattr(both, name, value + other if name == "seen" else torch.stack([value, other]))
    assert record_to_json(both.compute()) == record_to_json(one)


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_fewer_rows_than_examples():
    assert len(collected(SEGMENTATION, range(4)).images) == 2
    empty = SEGMENTATION.plot_data().compute()
    assert (empty.images, empty.n_labelled) == ([], 0)


def test_numbers_are_drawn_between_their_lowest_and_highest_label():
    task = DenseRegression("m")
    found = collected(task, range(40))
    rows = [int(image[0, 0, 0]) for image in found.images]
    assert found.low == pytest.approx(min(rows) + 0.1, abs=0.5)
    assert found.high == pytest.approx(max(rows) + 0.1, abs=0.5)
    assert found.unit == "m"
    lightest = rows.index(max(rows))
    assert found.labels[lightest][1, 1] == 255
    assert all(label[0, 0] == 0 for label in found.labels)
    assert all(answer.min() > 0 for answer in found.answers)


def test_vectors_are_drawn_as_colours():
    found = collected(DenseRegression(channels=3), range(8))
    assert found.labels[0].shape == (6, 8, 3)
    assert (found.labels[0][0, 0] == 0).all()
    assert found.labels[0][1, 1].min() > 127


def test_large_images_are_reduced():
    found = collected(SEGMENTATION, range(4), (3 * SIDE, 2 * SIDE))
    assert found.images[0].shape == (SIDE, round(SIDE * 2 / 3), 3)
    assert found.labels[0].shape == found.answers[0].shape == (SIDE, round(SIDE * 2 / 3))
    for label in found.labels:  # no mixture of classes
        assert label[0, 0] == 0
        assert (label.ravel()[1:] == label[1, 1]).all()


def test_the_range_of_colours_leaves_outliers_out():
    data = DenseRegression("m").plot_data()
    target = torch.linspace(1, 2, 400).view(1, 20, 20)
    target[0, 0, 0], target[0, 0, 1] = 1000, 1e-3
    data.see(torch.zeros(1, 3, 20, 20, dtype=torch.uint8))
    data.update({"value": target}, target, torch.tensor([True]), torch.tensor([0]))
    found = data.compute()
    assert (found.low, found.high) == pytest.approx((1, 2), abs=0.02)
    assert found.labels[0].ravel()[:2].tolist() == [255, 1]


def test_a_record_with_larger_pictures_is_refused():
    record = collected(SEGMENTATION, range(4))
    record.images[0] = np.zeros((SIDE + 1, 2, 3), np.uint8)
    with pytest.raises(ValueError, match=f"an example should have at most {SIDE} pixels a side"):
        MapExamples.from_json(record.to_json())


def test_records_are_the_same_after_json():
    for task in (SEGMENTATION, DenseRegression("m"), DenseRegression(channels=3)):
        record = collected(task, range(8))
        text = json.dumps(record_to_json(record))
        again = record_from_json(json.loads(text))
        assert isinstance(again, MapExamples)
        assert json.dumps(record_to_json(again)) == text
        assert len(text) < 20_000


def test_damaged_records_are_refused():
    values = record_to_json(collected(SEGMENTATION, range(8)))
    other = record_to_json(collected(SEGMENTATION, range(8), (4, 4)))
    large = {**values, "images": ["aGVsbG8="] * len(values["images"])}
    for damaged in (large, {**values, "labels": other["labels"]}, {**values, "answers": []}):
        with pytest.raises(ValueError, match=r"example|argument|zip"):
            record_from_json(damaged)
