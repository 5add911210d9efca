import numpy as np
import pytest

from mtl_lightning.inputs import Number
from mtl_lightning.system.errors import UserError
from tests.helpers.data import column


def learned(cells, **options):
    number = Number(**options)
    number.learn(column(cells))
    return number


def test_numbers_are_standardised_by_the_training_rows():
    number = learned([1, 3, None, 5])
    assert (number.centre, number.scale) == (3.0, pytest.approx(np.std([1, 3, 5])))
    encoded = number.encode(column([3, "1e1", None, " 5"]))
    assert encoded.values.dtype == np.float32
    assert encoded.values[0, 0] == 0
    assert encoded.values[1, 0] == pytest.approx(7 / np.std([1, 3, 5]))
    assert np.isnan(encoded.values[2, 0])
    assert not encoded.bad.any()


def test_robust_statistics_ignore_an_outlier_and_squeeze_it():
    number = learned([1, 2, 3, 4, 1e9], robust=True)
    assert (number.centre, number.scale) == (3.0, 2.0)
    values = number.encode(column([3, 5, 1e9])).values[:, 0]
    assert values[0] == 0
    assert 0.9 < values[1] < 1
    assert 2.9 < values[2] <= 3


def test_a_column_of_one_value_has_scale_1():
    assert learned([0.1] * 3).scale == 1
    assert learned([4, 4, 4, 5], robust=True).scale > 0


def test_what_is_given_is_kept():
    number = learned([1, 2], centre=10.0, scale=2.0)
    plain = {"bins": 0, "edges": None}
    assert number.identity() == {"robust": False, "centre": 10.0, "scale": 2.0, **plain}
    assert Number(**number.identity()).encode(column([14])).values.tolist() == [[2.0]]


def test_bins_hold_equally_many_training_rows():
    number = Number(bins=4)
    assert not number.is_known
    cells = [*range(1, 10), None]
    number.learn(column(cells))
    values = number.encode(column(cells[:9])).values[:, 0]
    (edges,) = number.edges
    assert edges == pytest.approx(values[::2].tolist())
    again = Number(**number.identity())
    assert again.is_known
    again.learn(column([100, 200]))
    assert again.identity() == number.identity()
    assert learned([1, 1, 1, 2], bins=4).edges[0] == pytest.approx((-0.57735, 0.0, 1.73205), abs=2)
    assert learned([3, 3], bins=4).edges == ((0.0, 1.0),)
    assert learned([1, 2]).edges == ((),)


@pytest.mark.parametrize("cell", ["about 3", "inf", "1e300", "3,5"])
def test_a_cell_that_is_no_finite_number_is_bad(cell):
    assert learned([1, 2]).encode(column([1, cell, None])).bad.tolist() == [False, True, False]


def test_a_number_that_is_too_large_is_bad_and_moves_no_statistic():
    number = learned([1, 2, "1e200"])
    assert number.centre == 1.5
    assert number.encode(column([1, 2, "1e200"])).bad.tolist() == [False, False, True]


def test_equal_numbers_mean_the_same():
    assert Number().meaning("1.50") == Number().meaning("1.5")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"centre": 1.0}, r"centre and scale should both be given"),
        ({"centre": 1.0, "scale": 0.0}, r"scale should be above 0. Found 0"),
        ({"bins": -1}, r"bins should be 0 or more. Found -1"),
        ({"edges": [1.0, 1.0]}, r"edges should be two or more rising numbers. Found \[1.0, 1.0\]"),
        ({"centre": float("nan"), "scale": 1.0}, r"centre should be a number. Found nan"),
    ],
)
def test_statistics_that_cannot_be_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        Number(**options)


@pytest.mark.parametrize(
    "cells", [[1e17] * 4, [5.0] * 4, [1.0, 1.0 + 1e-7, 1.0 + 2e-7, 1.0 + 3e-7], [None, 0.0]]
)
def test_bins_have_a_length_in_single_precision(cells):
    number = learned(cells, centre=0.0, scale=1.0, bins=8)
    (edges,) = number.edges
    assert (np.diff(np.array(edges, dtype=np.float32)) > 0).all()
    assert Number(**number.identity()).edges == number.edges
