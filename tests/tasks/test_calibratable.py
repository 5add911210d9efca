import pytest
import torch

from mtl_lightning.tasks import Segmentation


def test_a_task_is_not_calibrated_until_it_is():
    task = Segmentation(["a", "b"])
    outputs = torch.zeros(2, 2, 4, 4)
    assert task.calibration is None
    assert task.measured(outputs).keys() == task.predict(outputs).keys()
    assert task.judge({}, torch.zeros(2), torch.ones(2, dtype=torch.bool)) is None
    assert not task.calibrates
    with pytest.raises(NotImplementedError, match="Segmentation cannot be calibrated"):
        task.calibrate(outputs, torch.zeros(2), torch.ones(2, dtype=torch.bool), 0.9)
