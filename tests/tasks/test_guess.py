"""Outputs as targets: every kind of task that has them."""

import math

import pytest
import torch

from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks import Classification, MultiLabel, Ordinal, Regression
from tests.helpers.data import Tags


def test_a_class_is_guessed_with_its_probability():
    task = Classification(["x", "y", "z"])
    outputs = torch.tensor([[2.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    guess = task.guess(outputs, None, soft=False)
    assert guess.targets.tolist() == guess.classes.tolist() == [0, 2]
    expected = [math.e**2 / (math.e**2 + 2), math.e / (math.e + 2)]
    assert guess.confidence.tolist() == pytest.approx(expected)
    soft = task.guess(outputs, None, soft=True)
    assert torch.equal(soft.targets, outputs.softmax(1))
    assert torch.equal(soft.classes, guess.classes)


def test_yes_and_no_of_a_label_are_guessed_apart():
    task = MultiLabel(["hat", "bag"])
    guess = task.guess(torch.tensor([[2.0, -3.0]]), None, soft=False)
    assert guess.targets.tolist() == [[1.0, 0.0]]
    assert guess.classes.tolist() == [[1, 2]]
    confident = torch.tensor([[2.0, 3.0]]).sigmoid()
    torch.testing.assert_close(guess.confidence, confident)
    assert task.guess(torch.tensor([[2.0, -3.0]]), None, True).targets[0, 1] < 0.05
    assert task.class_numbers(["bag"]) == [3]
    assert task.label_classes(torch.tensor([[0.0, 1.0]])).tolist() == [[0, 3]]


def test_a_number_counts_as_far_as_two_views_agree():
    task = Regression()
    task.fit_statistics(torch.tensor([10.0, 30.0]), torch.ones(2, dtype=torch.bool))
    guess = task.guess(torch.tensor([[0.5], [1.0]]), torch.tensor([[0.5], [0.0]]), False)
    assert guess.targets.tolist() == [25.0, 30.0]
    assert guess.confidence.tolist() == pytest.approx([1.0, math.exp(-1)])
    assert guess.classes is None
    assert task.guess(torch.tensor([[0.5]]), None, False).confidence.tolist() == [1.0]


@pytest.mark.parametrize(
    "task",
    [
        Classification(["x", "y", "z"]),
        Ordinal(["1", "2", "3"]),
        Ordinal(["1", "2", "3"], "coral"),
        Ordinal(["1", "2", "3"], "squared"),
        MultiLabel(["hat", "bag"], pos_weights=[2.0, 3.0]),
        Regression(),
    ],
    ids=lambda task: f"{type(task).__name__} {getattr(task, 'method', '')}",
)
@pytest.mark.parametrize("soft", [False, True])
def test_what_is_guessed_can_be_learned(task, soft):
    outputs = torch.randn(5, task.num_outputs, generator=torch.Generator().manual_seed(0))
    guess = task.guess(outputs, None, soft)
    losses = task.loss(outputs, guess.targets)
    assert losses.shape == guess.confidence.shape
    assert losses.isfinite().all()
    assert (guess.confidence >= 0).all()
    assert (guess.confidence <= 1).all()
    if guess.classes is not None:
        assert guess.classes.shape == losses.shape
        assert guess.classes.max() < task.num_class_numbers


def test_a_task_without_guesses_learns_from_labels_alone():
    task = Tags()
    assert task.guess(torch.zeros(2, 3), None, False) is None
    assert task.label_classes(torch.zeros(2, 3)) is None
    assert task.num_class_numbers == 0
    with pytest.raises(UserError, match="Tags has no classes"):
        task.class_numbers(["a"])


def test_names_of_classes_are_found_as_in_labels():
    assert Classification(["1", "2"]).class_numbers(["2.0", "1"]) == [1, 0]
    with pytest.raises(UserError, match=r'classes should be some of cat, dog. Found "dig"; did'):
        Classification(["cat", "dog"]).class_numbers(["dig"])
