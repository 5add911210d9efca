import pytest
import torch

from mtl_lightning.data import batch
from mtl_lightning.models.inputs import (
    IMAGE,
    InputSpec,
    check_images,
    examples,
    image_input,
    image_size,
    num_rows,
    take_rows,
)
from mtl_lightning.system.errors import UserError
from tests.helpers.training import make_module


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


# --------------------------------------------------------------------- images that are refused


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.rand(2, 3, 4, 4), r"or floats in 0\.\.255\. Found floats in 0\.\d+\.\.(1|0\.\d+);"),
        (torch.randn(2, 3, 4, 4), "give the pixels as they are in the file"),
        (256 * torch.ones(2, 3, 4, 4), r"Found floats in 256\.\.256"),
        (torch.full((2, 3, 4, 4), torch.nan), r"Found floats in nan\.\.nan"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.int64), r"should be uint8. Found torch.int64"),
        (
            torch.zeros(3, 4, 4, dtype=torch.uint8),
            r"shape \(B, 3, height, width\). Found \(3, 4, 4",
        ),
        (torch.zeros(2, 4, 4, 3, dtype=torch.uint8), r"Found \(2, 4, 4, 3\)"),
    ],
    ids=["scaled", "normalised", "256", "nan", "int64", "one image", "channels last"],
)
def test_images_on_another_scale_are_refused(images, message):
    with pytest.raises(UserError, match=message):
        check_images(images)
    module = make_module()
    for network in (module, module.predictor()):
        with pytest.raises(UserError, match=message):
            network(images)


@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(2, 3, 4, 4, dtype=torch.uint8),
        torch.ones(2, 3, 4, 4, dtype=torch.uint8),
        torch.zeros(2, 3, 4, 4),  # black
        255 * torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)).bfloat16(),
        torch.zeros(0, 3, 4, 4),
    ],
    ids=lambda value: str(value.dtype),
)
def test_images_on_the_scale_pass(images):
    check_images(images)
