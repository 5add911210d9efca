import numpy as np
import pytest
import torch

from mtl_lightning.inputs import Category, Date, Number
from mtl_lightning.inputs.base import GRAPH_INPUT, places, specs_of, transformed
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


def test_columns_are_transformed_in_the_order_of_the_inputs():
    inputs = {"a": Number(centre=1.0, scale=2.0), "b": Category(["x"]), "c": Number(True, 0.0, 1.0)}
    values = {
        "c": torch.tensor([4.0, torch.nan], dtype=torch.float64),
        "b": torch.tensor([2, 0]),
        "a": torch.tensor([5.0, 1.0], dtype=torch.float64),
    }
    found = transformed(inputs, values)
    assert found[NUMBERS].dtype == torch.float32
    assert found[NUMBERS][0].tolist() == pytest.approx([2.0, 4 / (1 + 16 / 9) ** 0.5])
    assert found[NUMBERS].isnan().tolist() == [[False, False], [False, True]]
    assert found[CATEGORIES].tolist() == [[2], [0]]


@pytest.mark.parametrize(
    "column", [Number(centre=5.0, scale=2.0), Date(centre=5.0, scale=2.0), Category(["x", "y"])]
)
def test_examples_are_what_a_graph_takes(column):
    values = torch.from_numpy(column.example(50, np.random.default_rng(0)))
    assert values.dtype == GRAPH_INPUT[column.tensor]
    assert column.transform(values).shape == (50, column.width)
    assert str(values.dtype).removeprefix("torch.") in column.unit()


def test_codes_that_do_not_exist_are_unknown():
    codes = Category(["x", "y"]).transform(torch.tensor([-1, 0, 1, 2, 3, 4, 99]))
    assert codes[:, 0].tolist() == [1, 0, 1, 2, 3, 1, 1]


def test_columns_have_places_in_their_tensor():
    known = {"centre": 0.0, "scale": 1.0}
    inputs = {"a": Number(**known), "b": Category(["x"]), "c": Date(["day"], **known)}
    inputs |= {"d": Category([]), "e": Number(**known)}
    found = {name: (tensor, own.start, own.stop) for name, (tensor, own) in places(inputs).items()}
    assert found == {
        "a": (NUMBERS, 0, 1),
        "b": (CATEGORIES, 0, 1),
        "c": (NUMBERS, 1, 4),
        "d": (CATEGORIES, 1, 2),
        "e": (NUMBERS, 4, 5),
    }


def test_bins_of_numbers_are_in_the_specification():
    known = {"centre": 0.0, "scale": 1.0}
    inputs = {"a": Date(["day"], **known), "b": Number(**known, bins=1, edges=[0.0, 2.0])}
    assert specs_of(inputs)[NUMBERS].edges == ((), (), (), (0.0, 2.0))
    assert specs_of({"a": Number(**known), "b": Category(["x"])})[NUMBERS].edges == ()
    with pytest.raises(UserError, match=r"input a: Number should know its statistics"):
        specs_of({"a": Number(**known, bins=2)})
