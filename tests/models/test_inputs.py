import torch

from mtl_lightning.data import batch
from mtl_lightning.models.inputs import (
    IMAGE,
    InputSpec,
    examples,
    image_input,
    image_size,
    num_rows,
    take_rows,
)


def test_the_image_has_one_name_in_batches_and_networks():
    assert batch.IMAGE == IMAGE


def test_images_are_described_by_their_size():
    specs = image_input((12, 20))
    assert specs == {"image": InputSpec((3, 12, 20), torch.uint8)}
    assert image_size(specs) == (12, 20)


def test_examples_fit_their_specification():
    specs = image_input((6, 4)) | {"age": InputSpec((2,), torch.float32)}
    inputs = examples(specs, 5, torch.device("cpu"))
    assert {name: (v.shape, v.dtype) for name, v in inputs.items()} == {
        "image": ((5, 3, 6, 4), torch.uint8),
        "age": ((5, 2), torch.float32),
    }
    assert inputs["image"].max() > 200
    assert num_rows(inputs) == 5


def test_rows_are_taken_of_every_input():
    inputs = {"image": torch.arange(4)[:, None], "age": torch.arange(4)}
    taken = take_rows(inputs, torch.tensor([2, 0]))
    assert taken["image"].tolist() == [[2], [0]]
    assert taken["age"].tolist() == [2, 0]
