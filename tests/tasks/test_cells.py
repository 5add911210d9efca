from decimal import Decimal

import numpy as np
import pytest

from mtl_lightning.tasks import cells
from tests.helpers.data import column


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("1.0", "1"),
        ("5.00", "5"),
        ("+1", "1"),
        ("-1.0", "-1"),
        ("-0.0", "0"),
        ("2.50", "2.5"),
        (".5", "0.5"),
        ("-.50", "-0.5"),
        ("5.", "5"),
        ("100", "100"),
        ("1e+16", "1" + "0" * 16),
        ("-1.000000000000000000e+00", "-1"),
        ("True", "true"),
        ("FALSE", "false"),
        ("cafe\u0301", "caf\u00e9"),
    ],
)
def test_texts_that_are_the_same(text, same):
    assert cells.canonical(text) == same
    assert cells.canonical(same) == same


NO_NUMBERS = """
Golf 2.0|007|01.0|12e4|1e5|1.0.0|1,0|1_000|A+|+|-|.|-.|\u0661.0|1.0 |tRue|x.0|1-0|0x10|nan|inf|12:30
"""


@pytest.mark.parametrize("text", ["", "1e+999999999", *NO_NUMBERS.strip("\n").split("|")])
def test_only_a_text_that_is_a_number_as_a_whole_is_one(text):
    assert cells.canonical(text) == text


@pytest.mark.parametrize(
    ("text", "point"),
    [("12,5", "12.5"), ("-0,50", "-0.50"), ("1.234.567,8", "1234567.8"), ("12.345,6", "12345.6")]
    + [(same, same) for same in ("12", "12.5", "1,2,3", "a,5", "1,5x", ",5", "12.34,5", "1.234")],
)
def test_decimal_commas(text, point):
    assert cells.decimal_point(text) == point


def test_of_an_identifier_only_whole_numbers_are_numbers():
    assert cells.identifier("1.0") == cells.identifier("1") == "1"
    assert cells.identifier("12.10") == "12.10"
    assert cells.identifier("12.1") == "12.1"
    assert cells.identifier("u\u0308.1") == "\u00fc.1"


def test_a_column_is_the_same_object_if_nothing_changes():
    same = column(["a", None, "1"])
    assert cells.normalised(same) is same
    assert cells.normalised(column(["1.0", None, "a"])).tolist() == ["1", None, "a"]
    several = np.stack([column(["1.0", None]), column(["a", "2.0"])], axis=1)
    assert cells.normalised(several).tolist() == [["1", "a"], [None, "2"]]
    assert cells.normalised(column([])).tolist() == []


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1.0, "1"),
        (-0.0, "0"),
        (0.25, "0.25"),
        (True, "true"),
        (1e300, "1e+300"),
        (None, None),
        (float("nan"), None),
        ("1.0", "1.0"),
        (Decimal("5.00"), "5"),
        (["hat", 1.0, None], '["hat", "1", null]'),
        ([], "[]"),
    ],
)
def test_values_of_typed_files(value, text):
    assert cells.text_of(value) == text


@pytest.mark.parametrize("value", [{}, (1,), b"x", [["a"]], [{}]])
def test_what_is_no_cell(value):
    with pytest.raises(TypeError):
        cells.text_of(value)


@pytest.mark.parametrize(
    ("cell", "names"),
    [
        ("hat; bag;;", ["hat", "bag"]),
        ('["bag;x", "1.0", null, " hat "]', ["bag;x", "1", "hat"]),
        ("[]", []),
        ("1.0;2", ["1", "2"]),
        ("[old] hat;bag", ["[old] hat", "bag"]),
        ("[" * 100_000, ["[" * 100_000]),
    ],
)
def test_lists(cell, names):
    assert cells.items(cell, ";") == names


def test_votes():
    assert cells.votes("1.0:3|2:1") == [("1", 3), ("2", 1)]
    assert cells.votes("Dress") is None
    assert cells.votes("Dress:x") is None


WORDS = """
#N/A|--|TBD|nan|NaN|N/A|n/a|NA|null|NULL|None|-|?|???|unknown|Undefined|<NA>|#REF!|missing|n.a.|.
"""


@pytest.mark.parametrize(
    "text", [*WORDS.strip().split("|"), "not available", "unlabelled", "\u2014", "#N/A N/A"]
)
def test_words_that_may_stand_for_no_label(text):
    assert cells.doubtful(["a", text, "b"]) == [text]
    assert cells.looks_missing(text)


@pytest.mark.parametrize("text", ["empty", "nano", "nape", "no", "A-", "n", "x", "----", "Tbilisi"])
def test_words_that_are_classes(text):
    assert cells.doubtful(["a", text]) == []
    assert not cells.looks_missing(text)


@pytest.mark.parametrize(
    ("column", "doubtful"),
    [
        (["0", "1", "-1.0"], ["-1"]),
        (["0", "-1"], ["-1"]),
        (["1", "-1"], []),
        (["a", "b", "-1"], ["-1"]),
        (["-2", "-1", "0", "1"], []),
        (["0.5", "-1", "1.5"], []),
        (["0", "1", "-100"], ["-100"]),
        (["-9", "-1", "3", "4"], ["-1", "-9"]),
        (["0", "1", "255"], ["255"]),
        (["cat", "dog", "255"], ["255"]),
        (["0", "255"], []),
        ([str(i) for i in range(256)], []),
        (["1", "255", "300"], []),
        (["1", "2", "99"], ["99"]),
        (["97", "98", "99"], []),
    ],
)
def test_numbers_that_may_stand_for_no_label(column, doubtful):
    assert cells.doubtful(column) == doubtful


@pytest.mark.parametrize(
    ("values", "codes"),
    [
        ([-1, 2.5, 3], [-1]),
        ([-1, 0, 3], [-1]),
        ([-999, -1, 3], [-999, -1]),
        ([-1, -0.5, 3], []),
        ([-1], []),
        ([1, 80, 999], [999]),
        ([1, 100, 999], []),
        ([99], []),
        ([255, 3, -9], [-9, 255]),
    ],
)
def test_amounts_that_may_stand_for_no_label(values, codes):
    assert cells.outlying_codes(values) == codes


def test_numbers():
    assert cells.number("-1.5e3") == -1500
    assert [cells.number(text) for text in ("x", "nan", "inf", "1_000", "1,5")] == [None] * 5
