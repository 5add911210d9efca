import pytest

from mtl_lightning.data.mirroring.names import has_side, mirrored, partners


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("left", "right"),
        ("Left", "Right"),
        ("RIGHT_ARM", "LEFT_ARM"),
        ("from left to right", "from right to left"),
        ("left2", "right2"),
    ],
)
def test_sides_are_exchanged_in_any_dress(name, other):
    assert has_side(name)
    assert mirrored(name) == other
    assert mirrored(other) == name


@pytest.mark.parametrize("name", ["leftover", "bright", "rightly", "cleft", "front", ""])
def test_parts_of_words_are_no_words(name):
    assert not has_side(name)
    assert mirrored(name) == name


def test_each_pair_is_named_once_in_the_order_of_the_names():
    names = ["right b", "left a", "front", "right a", "left b", "left c", "Left d", "right d"]
    assert partners(names) == [("right b", "left b"), ("left a", "right a")]
    assert partners(["front", "front"]) == []
