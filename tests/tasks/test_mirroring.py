import pytest

from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks.mirroring import swap_permutation

NAMES = ["front", "left", "rear", "right"]


def test_a_pair_holds_in_both_directions():
    for pairs in ({"left": "right"}, {"right": "left"}, {"left": "right", "right": "left"}):
        assert swap_permutation(NAMES, pairs, "class").tolist() == [0, 3, 2, 1]


def test_what_is_in_no_pair_stays():
    assert swap_permutation(NAMES, {}, "class").tolist() == [0, 1, 2, 3]
    assert swap_permutation(NAMES, {"rear": "rear"}, "class").tolist() == [0, 1, 2, 3]


def test_twice_is_once_less():
    order = swap_permutation(NAMES, {"left": "right", "rear": "front"}, "class")
    assert order[order].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ({"lefft": "right"}, 'there is no class "lefft"; did you mean "left"?; known: front, le'),
        ({"left": "x"}, 'there is no class "x"; known: front, left, rear, right'),
        ({"left": "right", "rear": "right"}, '"right" swaps with "left" and with "rear"; expected'),
        ({"left": "right", "right": "rear"}, '"right" swaps with "rear" and with "left"; expected'),
        ({"left": "left", "right": "left"}, '"left" swaps with "left" and with "right"; expected'),
    ],
)
def test_what_is_wrong(pairs, message):
    with pytest.raises(UserError) as error:
        swap_permutation(NAMES, pairs, "class")
    assert str(error.value).startswith(message)
