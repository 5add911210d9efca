import numpy as np
import pytest

from mtl_lightning.data.dates import date_text, date_texts, parse_dates
from mtl_lightning.system.errors import UserError


def cells(*values):
    return np.array([*values, None], dtype=object)[:-1]


def parsed(*values, date_format=None):
    return parse_dates(cells(*values), date_format, "t.csv row {}".format).astype(str).tolist()


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("2024", "2024-01-01T00:00:00"),
        ("2024-03", "2024-03-01T00:00:00"),
        ("2024-03-01", "2024-03-01T00:00:00"),
        ("20240301", "2024-03-01T00:00:00"),
        ("2024-03-01 12:30", "2024-03-01T12:30:00"),
        ("2024-03-01T12:30:00.5", "2024-03-01T12:30:00.5"),
        ("2024-03-01T00:30:00+01:00", "2024-02-29T23:30:00"),
        ("2024-03-01T12:30:00Z", "2024-03-01T12:30:00"),
    ],
)
def test_iso_8601(cell, expected):
    assert parsed(cell)[0].startswith(expected)


def test_mixed_precision_and_empty_cells():
    found = parsed("2024", None, "2023-05-01T01:00:00+01:00", "2024")
    assert [date[:19] for date in found] == [
        "2024-01-01T00:00:00",
        "NaT",
        "2023-05-01T00:00:00",
        "2024-01-01T00:00:00",
    ]
    assert parsed(None) == ["NaT"]
    assert parsed() == []


def test_a_format_of_the_users_own():
    found = parsed("01.03.2024", "29.02.2024", date_format="%d.%m.%Y")
    assert [date[:10] for date in found] == ["2024-03-01", "2024-02-29"]


def test_a_date_that_could_be_two_is_refused():
    with pytest.raises(UserError) as caught:
        parsed("2024-01-01", "03/04/2024", "03/04/2024")
    assert str(caught.value) == (
        't.csv row 1: "03/04/2024" is not a date (2 cells like this); expected 2024-03-01 or '
        "2024-03-01 12:30 (ISO 8601; for others set `date_format`)"
    )
    with pytest.raises(UserError, match=r'"30\.02\.2024" is not a date; expected the format "%d'):
        parsed("30.02.2024", date_format="%d.%m.%Y")
    with pytest.raises(UserError, match="dates should be as in Python's strptime"):
        parsed("2024", date_format="%Q")


def test_texts_that_numpy_reads_back():
    dates = np.array(["2024-03-01", "NaT", "2024-03-01T12:30:00.5"], dtype="datetime64[us]")
    texts = date_texts(dates)
    assert texts.tolist() == ["2024-03-01", None, "2024-03-01T12:30:00.500000"]
    back = texts.astype("datetime64[us]")
    assert ((back == dates) | np.isnat(dates)).all()


def test_text_for_a_message():
    assert date_text(np.datetime64("2024-03-01")) == "2024-03-01"
    assert date_text(np.datetime64("2024-03-01T12:30")) == "2024-03-01 12:30:00"
