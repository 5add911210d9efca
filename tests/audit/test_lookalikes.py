import time

import pytest

from mtl_lightning.audit.lookalikes import distance, fold, lookalikes


def even(*values, count=50):
    return dict.fromkeys(values, count)


@pytest.mark.parametrize(
    ("counts", "group"),
    [
        ({"Tshirt": 10, "T-shirt": 300, "tshirt ": 1}, ["T-shirt", "Tshirt", "tshirt "]),
        (even("male", "Male", "female"), ["Male", "male"]),
        (even("m", "M", "f"), ["M", "m"]),
        (even("True", "true", "false"), ["True", "true"]),
        (even("1", "1.0", "2"), ["1", "1.0"]),
        (even("cafe", "café"), ["cafe", "café"]),
        (even("Straße", "Strasse"), ["Strasse", "Straße"]),
        (even("long sleeve", "long_sleeve", "Long-Sleeve"), None),
        (even("adult", "adults"), ["adult", "adults"]),
        (even("dress", "dresses", "hat"), ["dress", "dresses"]),
        ({"Shirt": 300, "Shrit": 100}, ["Shirt", "Shrit"]),
        ({"Dress": 30, "Dres": 10}, ["Dress", "Dres"]),
        ({"Dress": 60, "Drss": 1}, ["Dress", "Drss"]),
        ({"Longsleeve": 300, "Longslewe": 2}, ["Longsleeve", "Longslewe"]),
        ({"iphone 12": 100, "iphone 13": 1, "iphone-12": 3}, ["iphone 12", "iphone-12"]),
    ],
)
def test_what_looks_like_one(counts, group):
    assert lookalikes(counts) == [sorted(counts) if group is None else group]


@pytest.mark.parametrize(
    "counts",
    [
        even("1", "2", "3", "10", "12"),
        even("S", "M", "L", "XL", "XXL"),
        even("A+", "A-", "A", "AB+", "AB-", "B"),
        even("C", "C#", "C++"),
        even("1-10", "11-0", "110", "1.10"),
        even("-1", "0", "1"),
        even("no", "yes"),
        even("left", "right"),
        even("top", "tops", "stop"),
        even("Shirt", "Skirt", "Shoes", "Shorts"),
        even("horse", "house", "mouse"),
        even("male", "female"),
        {"class1": 100, "class2": 1},
        {"type A": 500, "type B": 2},
        {"stage II": 90, "stage III": 2, "stage I": 30},
        {"typical": 500, "atypical": 2},
        {"normal": 900, "abnormal": 3},
        even(*"abcdefghijkABCDEFGHIJK"),
        even("...", "-", "?"),
        even("", " "),
        {},
    ],
)
def test_what_does_not(counts):
    assert lookalikes(counts) == []


def test_groups_are_apart():
    counts = {"Hat": 5, "hat": 9, "Dress": 3, "dress": 1, "Polo": 2}
    assert lookalikes(counts) == [["hat", "Hat"], ["Dress", "dress"]]


def test_the_case_of_single_letters_counts_among_many():
    assert fold("a") == fold("A")
    assert fold("a", single=False) != fold("A", single=False)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [("", "abc", 3), ("dress", "dress", 0), ("ab", "ba", 1), ("kitten", "sitting", 3)],
)
def test_distance(one, other, expected):
    assert distance(one, other) == distance(other, one) == expected


@pytest.mark.parametrize("name", ["class_{:05}", "n{:08}", "{:05}"])
def test_thousands_of_numbered_classes_take_no_time(name):
    counts = {name.format(number): 10 for number in range(5000)}
    start = time.perf_counter()
    assert lookalikes(counts) == []
    assert time.perf_counter() - start < 2
