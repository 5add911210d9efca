import pytest
import torch

from mtl_lightning.models.backbones.column_vectors import ColumnVectors, Piecewise, VectorSettings
from mtl_lightning.models.backbones.table import Columns
from mtl_lightning.system.errors import UserError

EDGES = ((-1.0, 0.0, 2.0), (), (0.5, 1.0))
COLUMNS = Columns(3, (4, 300), EDGES)


def vectors(numbers, columns=COLUMNS):
    return ColumnVectors(columns, VectorSettings("Owner", numbers, 5, 4, 0.1, 6))


@pytest.mark.parametrize(
    ("numbers", "lengths"),
    [("linear", [1] * 6), ("periodic", [5] * 3), ("piecewise", [1] * 6 + [2, 1])],
)
def test_each_column_has_vectors_of_its_own(numbers, lengths):
    made = vectors(numbers)
    assert made.lengths == [*lengths, 6, 6]
    packed = torch.rand(4, COLUMNS.width)
    packed[:, 6:] = 2
    before = made(packed)
    assert before.shape == (4, sum(made.lengths))
    packed[:, 7] = 3  # the last category
    changed = (made(packed) != before).any(0)
    assert changed.tolist() == [False] * (sum(made.lengths) - 6) + [True] * 6


def test_an_unknown_category_adds_nothing_at_first():
    table = vectors("linear").categories.vectors
    assert not table[[1, 5]].any()
    assert table[[0, 2, 4, 6]].abs().sum(1).gt(0).all()


def test_bins_are_walked_through_one_after_the_other():
    piecewise = Piecewise(EDGES)
    assert not piecewise.state_dict(), "bins are those of the inputs"
    numbers = torch.tensor([[-3.0, 7.0, 0.75], [-0.5, 7.0, 0.0], [1.0, 7.0, 9.0], [3.0, 7.0, 1.0]])
    found = piecewise(torch.cat([numbers, torch.zeros(4, 3)], dim=1))
    assert torch.equal(found[:, :6], torch.cat([numbers, torch.zeros(4, 3)], dim=1))
    expected = [[-2.0, 0.0, 0.5], [0.5, 0.0, -1.0], [1.0, 0.5, 17.0], [1.0, 1.5, 1.0]]
    assert found[:, 6:].tolist() == expected
    missing = piecewise(torch.tensor([[0.0, 0.0, 0.0, 1.0, 1.0, 1.0]]))
    assert not missing[:, 6:].any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"number_width": 0}, "Owner: number_width should be 1 or more. Found 0"),
        ({"frequency_scale": 0.0}, "Owner: frequency_scale should be above 0. Found 0"),
    ],
)
def test_settings_out_of_range_are_refused(options, message):
    settings = {
        "owner": "Owner",
        "numbers": "linear",
        "number_width": 1,
        "frequencies": 1,
        "frequency_scale": 1.0,
        "category_width": 1,
    }
    with pytest.raises(UserError, match=message):
        VectorSettings(**(settings | options))
