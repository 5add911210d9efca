import numpy as np
import pytest

from mtl_lightning.inputs import Date
from mtl_lightning.system.errors import UserError
from tests.helpers.data import column


def encoded(cells, **options):
    date = Date(**options)
    date.learn(column(cells))
    return date.encode(column(cells))


def test_the_linear_part_is_in_standard_deviations():
    values = encoded(["2024-01-01", "2024-01-03", None], cycles=[]).values
    assert values[:2, 0].tolist() == [-1, 1]
    assert np.isnan(values[2, 0])


def test_cycles_join_end_and_start():
    cells = ["2023-12-31T23:59", "2024-01-01T00:01", "2024-07-01", "2024-01-08T00:01"]
    values = encoded(cells, cycles=["year", "week", "day"]).values
    assert values.shape == (4, 7)
    year, week, day = values[:, 1:3], values[:, 3:5], values[:, 5:7]
    assert np.abs(year[0] - year[1]).max() < 0.01
    assert np.abs(year[0] - year[2]).max() > 1
    assert np.allclose(week[1], week[3], atol=1e-3)
    assert np.abs(day[0] - day[1]).max() < 0.01


def test_another_format_is_read():
    one = Date(centre=0.0, scale=1.0, format="%d.%m.%Y").encode(column(["02.01.1970"]))
    assert one.values[0, 0] == 1


def test_time_zones_are_compared_in_utc():
    date = Date(cycles=[], centre=0.0, scale=1.0)
    both = date.encode(column(["1970-01-02T02:00+02:00", "1970-01-02"])).values
    assert both[:, 0].tolist() == [1, 1]


def test_what_is_no_date_is_bad():
    found = encoded(["2024-01-01", "tomorrow", None, "2024-02-30", "now", "today"])
    assert found.bad.tolist() == [False, True, False, True, True, True]


def test_what_is_given_is_kept():
    date = Date(centre=10.0, scale=2.0)
    date.learn(column(["2024-01-01", "2025-01-01"]))
    assert (date.centre, date.scale) == (10.0, 2.0)


@pytest.mark.parametrize(
    ("one", "other", "date_format"),
    [
        ("2024-01-01", "2024-01-01T00:00", None),
        ("2024-01", "2024-01-01 00:00:00", None),
        ("2024-01-01T02:00+02:00", "2024-01-01", None),
        ("1.2.2024", "01.02.2024", "%d.%m.%Y"),
    ],
)
def test_texts_of_one_moment_mean_the_same(one, other, date_format):
    date = Date(format=date_format)
    assert date.meaning(one) == date.meaning(other)
    assert date.meaning(one) != date.meaning("2024-03-01" if date_format is None else "1.3.2024")
    assert date.meaning("unknown") == "unknown"


def test_an_unknown_cycle_is_refused():
    with pytest.raises(UserError, match=r'cycles should be of year, week, day. Found "weak"; did'):
        Date(["weak"])


def test_a_format_that_is_none():
    with pytest.raises(UserError, match=r'strptime, such as %d\.%m\.%Y\. Found "%Q"'):
        Date(format="%Q").learn(column(["2024"]))
    with pytest.raises(UserError, match=r"strptime.*redefinition"):
        Date(format="%d %d").learn(column(["2024"]))
