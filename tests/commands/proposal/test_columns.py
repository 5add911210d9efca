import numpy as np
import pytest

from mtl_lightning.commands.proposal.columns import Kind, as_numbers, classify_column
from tests.helpers.data import column


def of(*values, times=10):
    return classify_column(column(list(values) * times))


@pytest.mark.parametrize(
    ("values", "kind", "counts"),
    [
        (("Dress", "Shirt", None), Kind.CLASSES, {"Dress": 10, "Shirt": 10}),
        (("yes", "no", "no"), Kind.YES_NO, {"yes": 10, "no": 20}),
        (("True", "False"), Kind.YES_NO, {"true": 10, "false": 10}),
        (("1.0", "0", "1"), Kind.YES_NO, {"1": 20, "0": 10}),
        (('["red", "blue"]', '["red"]', "[]"), Kind.NAMES, {"red": 20, "blue": 10}),
        (("1", "0"), Kind.YES_NO, {"1": 10, "0": 10}),
        (("1", "-1"), Kind.YES_NO, {"1": 10, "-1": 10}),
        (("m", "f"), Kind.CLASSES, {"m": 10, "f": 10}),
        (("f", "n"), Kind.CLASSES, {"f": 10, "n": 10}),
        (("1", "2", "3"), Kind.CLASSES, {"1": 10, "2": 10, "3": 10}),
        (("2019", "2020"), Kind.CLASSES, {"2019": 10, "2020": 10}),
        (("red;blue", "red", "none"), Kind.NAMES, {"red": 20, "blue": 10}),
        (("red|blue", "red", "blue"), Kind.NAMES, {"red": 20, "blue": 20}),
        (("red, blue", "red", "blue"), Kind.NAMES, {"red": 20, "blue": 20}),
        (("a:3|b:1", "b", "a:4"), Kind.CLASSES, {"a": 20, "b": 20}),
        (("12:30", "9:15"), Kind.CLASSES, {"12:30": 10, "9:15": 10}),
    ],
)
def test_what_a_column_is(values, kind, counts):
    found = of(*values)
    assert (found.kind, dict(found.counts)) == (kind, counts)


def test_how_many_cells_are_labelled():
    assert of("Dress", "Shirt", None, "unknown").labels == 20
    assert of("red;blue", "red", None).labels == 20


def test_numbers():
    assert classify_column(column([f"{i}.5" for i in range(40)])).kind is Kind.NUMBERS, (
        "all different"
    )
    assert classify_column(column([i % 30 for i in range(60)])).kind is Kind.NUMBERS
    assert classify_column(column(["1e3", "-2.5", "7"] * 3)).kind is Kind.NUMBERS
    few = classify_column(column([i % 5 for i in range(60)]))
    assert few.kind is Kind.CLASSES
    assert classify_column(column([i % 5 for i in range(20)])).kind is Kind.NUMBERS, (
        "each too rarely"
    )
    assert as_numbers(["1", "x"]) is None
    assert as_numbers(["inf"]) is None


@pytest.mark.parametrize(
    ("cells", "why"),
    [
        ([None] * 5, "it is empty"),
        (["x", None, "x"], 'it says "x" everywhere'),
        (
            ["yes", None, "yes"],
            'it says "yes" everywhere; if its empty cells mean no, make it a label of a MultiLabel '
            "with unobserved: negative",
        ),
        (["unknown", "n/a"], "it says nothing that is a label everywhere"),
        (range(30), "nearly as many values as rows (30 of 30)"),
        ([f"name {i}" for i in range(30)], "nearly as many values as rows (30 of 30)"),
        ([f"photo of {i % 20}" for i in range(30)], "nearly as many values as rows (20 of 30)"),
        ([f"k{i % 1500}" for i in range(6000)], "1,500 different values are not classes"),
        (["2021-03-01", "2021-04-02 12:00"] * 9, "these are dates"),
        (["1.2.2020", "13.2.2020"] * 9, "these are dates"),
    ],
)
def test_what_is_no_task(cells, why):
    found = classify_column(column(list(cells)))
    assert (found.kind, found.reason) == (Kind.NOTHING, why)


@pytest.mark.parametrize(
    ("values", "missing"),
    [
        (("a", "b", "N/A", "?", "unknown"), ("?", "N/A", "unknown")),
        (("0", "1", "2", "-1"), ("-1",)),
        (("1", "0", "-1"), ("-1",)),
        (("1", "-1"), ()),
        (("-2.5", "-1", "1.5"), ()),
        (("0.5", "-1", "1.5"), ()),
        (("a", "b", "-1"), ("-1",)),
        (("hat", "none", "scarf"), ()),
        (("0.0", "1.0", "-1.0"), ("-1",)),
        (("a", "b", "#N/A", "TBD", "--"), ("#N/A", "--", "TBD")),
        (("0", "1", "255"), ("255",)),
    ],
)
def test_what_means_not_labelled(values, missing):
    assert of(*values).missing == missing


def test_an_amount_may_be_a_number_that_is_a_code_elsewhere():
    ages = classify_column(column([*range(20, 60), 99] * 2))
    assert (ages.kind, ages.missing, ages.labels) == (Kind.NUMBERS, (), 82)
    unknown = classify_column(column([*range(20, 60), -99] * 2))
    assert (unknown.kind, unknown.missing, unknown.labels) == (Kind.NUMBERS, ("-99",), 80)


def test_names_come_back_and_are_not_too_many():
    draw = np.random.default_rng(0)
    titles = [f"word{draw.integers(10**6)}, word{draw.integers(10**6)}" for _ in range(40)]
    assert classify_column(column(titles)).kind is Kind.NOTHING
    paths = ["a/b;c", "c", "c"] * 10
    assert classify_column(column(paths)).kind is Kind.CLASSES, "a label may not hold a slash"


def test_names_between_blanks_are_distinguished_from_classes_of_several_words():
    draw = np.random.default_rng(0)
    ids = [" ".join(map(str, sorted(draw.choice(20, n, False)))) for n in draw.integers(1, 5, 300)]
    found = classify_column(column(ids))
    assert (found.kind, found.separator, len(found.counts)) == (Kind.NAMES, " ", 20)
    many = classify_column(column([*ids[:150], *ids[:150]]))
    assert many.kind is Kind.NAMES, "though no more than half of the values differ"
    shades = [f"{shade} {hue}" for shade in ("light", "dark", "pale") for hue in "abcdefg"]
    assert classify_column(column([*shades, "black", "white"] * 9)).kind is Kind.CLASSES
    words = draw.choice(["dog", "cat", "a", "runs", "sleeps", "old", "on", "grass"], (200, 6))
    captions = [" ".join(row[: 1 + i % 6]) for i, row in enumerate(words)]
    assert classify_column(column(captions)).kind is Kind.NOTHING


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (("12,5", "9,0"), Kind.NUMBERS),
        (("12,5", "9", "1.000,25", "n/a"), Kind.NUMBERS),
        (("1,0", "2,0"), Kind.CLASSES),
        (("1,0", "0,0"), Kind.YES_NO),
    ],
)
def test_decimal_commas(values, kind):
    found = of(*values)
    assert (found.kind, found.decimal) == (kind, True)


@pytest.mark.parametrize(
    "values", [("3,17", "3", "17"), ("1,2,3", "2,1"), ("red,blue", "red"), ("12.5", "9")]
)
def test_what_has_no_decimal_comma(values):
    assert not of(*values).decimal
