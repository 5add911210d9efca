import pytest

from mtl_lightning.tasks.ranks import by_rank, evident_order

SIZES = ["S", "M", "L", "XL"]


@pytest.mark.parametrize(
    ("names", "ordered"),
    [
        (["10", "2", "1"], ["1", "2", "10"]),
        (["10-19", "0-9", "20-29", "100+"], ["0-9", "10-19", "20-29", "100+"]),
        (["over 65", "18 to 64", "under 18"], ["under 18", "18 to 64", "over 65"]),
        ([">= 7", "<3", "3\u20136.5"], ["<3", "3\u20136.5", ">= 7"]),
        (["L", "S", "XL", "M"], SIZES),
        (["m", "S"], ["S", "m"]),
        (["low", "high"], None),
        (["1", "1.0"], None),
        (["1", "1-2"], None),
        (["S", "7"], None),
        (["nan", "1"], None),
    ],
)
def test_the_order_that_names_of_classes_say(names, ordered):
    assert by_rank(names) == by_rank(names[::-1]) == ordered


@pytest.mark.parametrize(
    "names",
    [
        ["0-9", "10-19", "60+"],
        ["<18", "18-25", "26 to 65", "over 65"],
        ["0-10", "10-20", "20-30"],
        ["1", "2", "3+"],
        SIZES,
    ],
)
def test_bands_and_sizes_are_steps(names):
    assert evident_order(names[::-1]) == names


@pytest.mark.parametrize(
    "names",
    [
        ["1", "2", "3"],
        ["S", "M"],
        ["0-9", "10+"],
        ["1-1", "2-2", "3-3"],
        ["10-2", "11-3", "12-1"],
        ["0-9", "5-19", "20+"],
        ["10+", "20+", "30+"],
        ["low", "mid", "high"],
    ],
)
def test_other_names_may_have_no_order(names):
    assert evident_order(names) is None
