import pytest
import torch

from mtl_lightning.inputs import Category, Date, Number
from mtl_lightning.inputs.base import specs_of
from mtl_lightning.models.inputs import CATEGORIES, NUMBERS
from mtl_lightning.system.errors import UserError


def test_columns_of_one_kind_share_a_tensor():
    known = {"centre": 0.0, "scale": 1.0}
    inputs = {"a": Number(**known), "b": Category(["x"]), "c": Date(**known), "d": Category([])}
    specs = specs_of(inputs)
    assert list(specs) == [NUMBERS, CATEGORIES]
    assert (specs[NUMBERS].shape, specs[NUMBERS].dtype) == ((6,), torch.float32)
    assert (specs[CATEGORIES].shape, specs[CATEGORIES].sizes) == ((2,), (3, 2))


def test_there_may_be_none():
    assert specs_of({}) == {}


def test_statistics_have_to_be_known():
    with pytest.raises(UserError, match=r"input a: Number should know its statistics before"):
        specs_of({"a": Number()})
