import pytest
import torch

from mtl_lightning.data.batch import Batch
from mtl_lightning.tasks import MultiLabel, Regression
from mtl_lightning.unlabelled.guesses import Guesses, unlabelled_slots


def batch():
    labelled = {
        "size": torch.tensor([True, False, False]),
        "tags": torch.tensor([[True, False], [False, False], [True, True]]),
    }
    return Batch({}, {}, labelled, torch.arange(3), {"size": 5, "tags": 9}, 12, 4)


GUESSES = Guesses(
    {"size": torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64)},
    {"size": torch.tensor([0.0, 0.5, 0.0])},
)


def test_the_slots_without_a_label_are_those_of_the_whole_step():
    assert unlabelled_slots(batch(), "size") == 12 - 5
    assert unlabelled_slots(batch(), "tags") == 12 * 2 - 9


def test_rows_with_a_label_or_a_guess_are_needed():
    masks = GUESSES.masks(batch())
    assert masks["size"].tolist() == [True, True, False]
    assert masks["tags"] is not None
    assert torch.equal(masks["tags"], batch().labelled["tags"])


def test_the_share_is_the_weighted_loss_over_all_slots_without_a_label():
    tasks = {"size": Regression(weight=3.0), "tags": MultiLabel(["hat", "bag"])}
    outputs = {"size": torch.tensor([[9.0], [4.0], [9.0]])}
    shares = GUESSES.shares(tasks, outputs, batch())
    assert list(shares) == ["size"]
    assert shares["size"].item() == pytest.approx(3.0 * 0.5 * (4.0 - 1.0) ** 2 * 4 / 7)
