import numpy as np
import pytest
import torch

from mtl_lightning.data.sources.torchvision_targets import targets_of


class Part:
    """A data set of two images; ``listed`` are its attributes."""

    def __init__(self, given, **listed):
        self.given, self.asked = given, set()
        for name, value in listed.items():
            setattr(self, name, value)

    def __len__(self):
        return len(self.given)

    def __getitem__(self, i):
        self.asked.add(i)
        return None, self.given[i]


def targets(part):
    return {name: column.tolist() for name, column in targets_of(part).items()}


@pytest.mark.parametrize("name", ["targets", "_labels", "labels"])
def test_a_list_of_targets_is_read_without_the_images(name):
    part = Part([1, 0, 1], **{name: torch.tensor([1, 0, 1]), "classes": ["cat", "dog"]})
    assert targets(part) == {"target": ["dog", "cat", "dog"]}
    assert part.asked <= {0, 2}, "the first and the last, to see whether the list is theirs"


def test_a_list_that_is_something_else_is_not_taken():
    part = Part([5, 6], targets=[0, 1])
    assert targets(part) == {"target": ["5", "6"]}


def test_numbers_that_are_no_classes_stay_numbers():
    assert targets(Part([0, 2], classes=["cat", "dog"])) == {"target": ["0", "2"]}
    assert targets(Part([np.float32(0.5), 1.0])) == {"target": ["0.5", "1"]}


def test_several_targets_of_an_image():
    assert targets(Part([(1, "a"), (0, "b")])) == {"0": ["1", "0"], "1": ["a", "b"]}
    mapping = Part([{"kind": "a", "size": 2}, {"kind": "b", "size": None}])
    assert targets(mapping) == {"kind": ["a", "b"], "size": ["2", None]}


def test_a_data_set_without_images():
    assert targets(Part([])) == {"target": []}
