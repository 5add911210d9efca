import numpy as np
import pytest

from mtl_lightning.data.slicing import MOST, RANGES, Slicing
from tests.helpers.data import column


def sliced(values, rows=None):
    """Return each slice's name with its rows."""
    chosen = np.array(range(len(values)) if rows is None else rows, dtype=np.int64)
    found = Slicing.of(column(values), chosen)
    return {
        name: np.flatnonzero(found.slices == number).tolist()
        for number, name in enumerate(found.names)
    }


def test_each_value_is_a_slice_the_most_frequent_first():
    found = sliced(["b", "a", None, "b", "c", "a", "b"])
    assert found == {"b": [0, 3, 6], "a": [1, 5], "c": [4], None: [2]}
    assert list(found) == ["b", "a", "c", None]


def test_only_rows_of_the_split_are_divided():
    assert sliced(["a", "b", "c", "a"], rows=[1, 3]) == {"a": [3], "b": [1]}
    assert sliced(["a", None], rows=[]) == {}


def test_few_numbers_are_values_in_their_order():
    assert list(sliced(["10", "9", "-1", None])) == ["-1", "9", "10", None]


def test_many_numbers_are_ranges_of_as_many_rows():
    found = sliced([*range(100), None])
    assert list(found) == ["0 to 19", "20 to 39", "40 to 59", "60 to 79", "80 to 99", None]
    assert found["20 to 39"] == list(range(20, 40))
    skewed = sliced([0] * 900 + list(range(100)))
    assert sum(map(len, skewed.values())) == 1000
    assert len(skewed["0"]) == 901, "equal values stay together"
    assert len(skewed) <= RANGES


def test_dates_are_ranges_too():
    days = [f"2024-01-{day:02}" for day in range(1, 31)]
    found = sliced(days[::-1])
    assert next(iter(found)) == "2024-01-01 to 2024-01-06"
    assert len(found) == RANGES


@pytest.mark.parametrize(("count", "slices"), [(MOST, MOST), (MOST + 1, MOST), (500, MOST)])
def test_the_rest_of_many_values_is_one_slice(count, slices):
    found = sliced([f"name {n}" for n in range(count)] + ["name 7"])
    assert len(found) == slices
    assert len(found["name 7"]) == 2
    assert next(iter(found)) == "name 7"
    if count > MOST:
        assert list(found)[-1] == f"{count - MOST + 1:,} other values"
    assert sum(map(len, found.values())) == count + 1


def test_a_number_that_is_written_in_two_ways_is_one_slice():
    cells = np.array(["10", "1.50", "1.5", None, "1e1"], dtype=object)
    found = Slicing.of(cells, np.arange(5))
    assert list(found.names) == ["1.50", "10", None]
    assert found.slices.tolist() == [1, 0, 0, 2, 1]
