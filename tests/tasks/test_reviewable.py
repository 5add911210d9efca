import pytest
import torch

from mtl_lightning.tasks import (
    Classification,
    DenseRegression,
    HierarchicalClassification,
    MultiLabel,
    MultiRegression,
    Ordinal,
    Regression,
    Segmentation,
)
from mtl_lightning.tasks.calibration import Calibration

ALL = torch.tensor([True, True, True])


def probabilities(*rows):
    return torch.tensor(rows).log()


@pytest.mark.parametrize(
    "task", [Classification(["a", "b", "c"]), Ordinal(["a", "b", "c"], method="squared")]
)
def test_classes(task):
    outputs = probabilities([0.7, 0.2, 0.1], [0.4, 0.35, 0.25], [0.1, 0.1, 0.8])
    wrong = task.mistakes(outputs, torch.tensor([0, 1, 0]), ALL)
    assert wrong[0] == 0
    right = isinstance(task, Ordinal)  # whose answer is the median, b, of the second row
    assert bool(wrong[1] > 0) is not right
    assert wrong[2] == wrong.max()
    assert task.doubts(outputs).tolist() == pytest.approx([0.5, 0.95, 0.3], rel=1e-5)
    task.calibration = Calibration(temperature=2.0)
    assert task.doubts(outputs)[0] > 0.6


def test_a_distribution_and_a_coarse_label():
    task = Classification(["a", "b"])
    outputs = probabilities([0.7, 0.3], [0.7, 0.3], [0.7, 0.3])
    targets = torch.tensor([[0.9, 0.1], [0.1, 0.9], [1.0, 0.0]])
    wrong = task.mistakes(outputs, targets, ALL)
    assert wrong[0] == wrong[2] == 0 < wrong[1]
    task = HierarchicalClassification({"level": {"x": ["a", "b"], "y": ["c"]}}, ["a", "b", "c"])
    outputs = probabilities([0.5, 0.4, 0.1], [0.5, 0.4, 0.1], [0.2, 0.2, 0.6])
    targets = torch.tensor([[1.0, 1, 0], [0, 0, 1], [1, 1, 0]])
    wrong = task.mistakes(outputs, targets, ALL)
    assert wrong[0] == 0, "x is most probable"
    assert wrong[1] > wrong[2] > 0


def test_labels_that_are_missing_are_not_read():
    task = MultiLabel(["hat", "bag"])
    outputs = torch.tensor([[3.0, -3.0], [0.1, 9.0], [-2.0, 4.0]])
    targets = torch.tensor([[1.0, 0.0], [1.0, torch.nan], [1.0, 0.0]])
    labelled = torch.tensor([[True, True], [True, False], [True, True]])
    wrong = task.mistakes(outputs, targets, labelled)
    assert wrong[:2].tolist() == [0, 0]
    assert wrong[2].item() == pytest.approx(4.018, rel=1e-3), "the worse of the two"
    doubts = task.doubts(outputs)
    assert doubts.argmax() == 1
    task.calibration = Calibration(temperature=1.0, thresholds=(0.96, 0.5))
    assert task.mistakes(outputs, targets, labelled)[0] > 0, "hat no longer applies"
    assert task.doubts(outputs)[0] > doubts[0]


def test_numbers_in_standard_deviations():
    task = Regression()
    task.fit_statistics(torch.tensor([0.0, 10.0]), torch.ones(2, dtype=torch.bool))
    wrong = task.mistakes(torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([5.0, 5, 0]), ALL)
    assert wrong.tolist() == [0, 1, 3]
    assert task.doubts(torch.zeros(3, 1)) is None
    task = MultiRegression(["a", "b"], loss="beta_nll")
    values = torch.tensor([[0.0, 0.0], [10.0, 2.0]], dtype=torch.float64)
    task.fit_statistics(values, torch.ones(2, 2, dtype=torch.bool))
    outputs = torch.tensor([[1.0, 3.0, 0.0, 0.0], [0.0, 0.0, 5.0, 5.0]])
    targets = torch.tensor([[5.0, torch.nan], [5.0, 1.0]], dtype=torch.float64)
    labelled = torch.tensor([[True, False], [True, True]])
    assert task.mistakes(outputs, targets, labelled).tolist() == [1, 0]
    assert task.doubts(outputs).argmax() == 1


def test_maps():
    task = Segmentation(["sky", "road"])
    outputs = torch.zeros(3, 2, 4, 4)
    outputs[0, 0], outputs[1, 1] = 5.0, 2.0
    masks = torch.ones(3, 4, 4, dtype=torch.int64)
    wrong = task.mistakes(outputs, masks, ALL)
    assert wrong.argsort().tolist() == [0, 2, 1]
    assert task.doubts(outputs).argsort().tolist() == [0, 1, 2]
    depth = DenseRegression()
    predicted = torch.arange(3.0).view(3, 1, 1, 1).expand(3, 1, 4, 4)
    assert depth.mistakes(predicted, torch.ones(3, 4, 4), ALL).shape == (3,)
    assert depth.doubts(outputs[:, :1]) is None
