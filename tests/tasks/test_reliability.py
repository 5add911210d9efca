import json

import numpy as np
import pytest
import torch

from mtl_lightning.tasks import Classification, Regression
from mtl_lightning.tasks.calibration import Calibration
from mtl_lightning.tasks.plot_records import record_from_json, record_to_json
from mtl_lightning.tasks.reliability import reliability_data


def collected():
    task = Classification(["a", "b"])
    task.calibration = Calibration(temperature=2.0)
    data = reliability_data(task)
    outputs = torch.tensor([[4.0, 0.0], [4.0, 0.0], [0.0, 4.0], [9.0, 0.0]])
    targets = torch.tensor([0, 1, 1, 0])
    labelled = torch.tensor([True, True, True, False])
    for rows in (slice(0, 2), slice(2, 4)):
        answers = task.measured(outputs[rows])
        data.update(answers, targets[rows], labelled[rows], torch.arange(4)[rows])
    return data.compute()


def test_labelled_answers_are_counted_with_and_without_the_temperature():
    record = collected()
    after, before = float(torch.sigmoid(torch.tensor(2.0))), float(torch.sigmoid(torch.tensor(4.0)))
    for place, share in enumerate((after, before)):
        where = int(np.ceil(share * 15)) - 1
        assert record.rows[place].tolist() == [3 if i == where else 0 for i in range(15)]
        assert record.hits[place, where] == 2
        assert record.confidence[place, where] == pytest.approx(3 * share)


def test_it_travels_as_json():
    record = collected()
    again = record_from_json(json.loads(json.dumps(record_to_json(record))))
    for name, values in vars(record).items():
        assert np.array_equal(getattr(again, name), values)
        assert getattr(again, name).dtype == values.dtype


def test_a_task_without_calibration_or_confidence_has_none():
    assert reliability_data(Classification(["a", "b"])) is None
    task = Regression()
    task.calibration = Calibration(coverage=0.9, reach=[1.0])
    data = reliability_data(task)
    outputs, ones = torch.zeros(2, 1), torch.ones(2, dtype=torch.bool)
    data.update(task.measured(outputs), torch.zeros(2), ones, torch.arange(2))
    assert not data.compute().rows.any()
