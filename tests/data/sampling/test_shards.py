import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtl_lightning.data.sampling import Population, Shards
from mtl_lightning.system.errors import UserError
from tests.helpers.data import population, taken


def of(*sizes, alone=0):
    """Return images in shards of these sizes, and some in none."""
    shard = np.repeat(np.arange(len(sizes)), sizes)
    shard = np.concatenate([shard, np.full(alone, -1)])
    return Population(np.zeros(len(shard), np.int64), shard, {})


def most_at_a_time(positions, shard):
    """Return of how many shards there are images both before and after some moment, at most."""
    own = shard[positions]
    spans = [np.flatnonzero(own == number)[[0, -1]] for number in range(shard.max() + 1)]
    begun = np.zeros(len(positions) + 1, np.int64)
    for first, last in spans:
        begun[first] += 1
        begun[last + 1] -= 1
    return int(begun.cumsum().max())


@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=20),
    st.integers(0, 30),
    st.integers(1, 9),
    st.integers(0, 99),
)
def test_each_image_once_and_never_more_shards_than_the_window(sizes, alone, window, seed):
    images = of(*sizes, alone=alone)
    positions = taken(Shards(window), images, seed=seed)
    assert sorted(positions) == list(range(len(images)))
    assert most_at_a_time(positions, images.shard) <= window


def test_shards_come_in_random_order_and_are_mixed():
    images = of(*[40] * 12)
    one, other = (images.shard[taken(Shards(3), images, seed=seed)] for seed in (0, 1))
    order = list(dict.fromkeys(one))
    assert order != sorted(order)
    assert order != list(dict.fromkeys(other))
    changes = (np.diff(one) != 0).mean()
    assert changes > 0.4, "two in three neighbours would be of other shards within a window"
    positions = taken(Shards(3), images)
    within = positions[images.shard[positions] == order[5]]
    assert within.tolist() != sorted(within)


def test_one_shard_at_a_time():
    images = of(5, 6, 7)
    own = images.shard[taken(Shards(1), images)]
    assert (np.diff(own) != 0).sum() == 2


def test_images_of_no_shard_are_spread_over_the_epoch():
    images = of(*[50] * 10, alone=100)
    alone = images.shard[taken(Shards(2), images)] < 0
    parts = [int(part.sum()) for part in np.split(alone, 6)]
    assert min(parts) > 5
    assert sum(parts) == 100


def test_without_shards_it_is_any_order():
    images = population([0] * 30)
    positions = taken(Shards(), images)
    assert sorted(positions) == list(range(30))
    assert positions.tolist() != list(range(30))
    assert positions.tolist() != taken(Shards(), images, seed=1).tolist()


def test_a_window_of_all_shards_is_any_order():
    images = of(*[10] * 8)
    own = images.shard[taken(Shards(100), images)]
    assert set(own[:40]) == set(range(8))


def test_a_window_of_none_is_refused():
    with pytest.raises(UserError, match=r"window should be 1 or more\. Found 0"):
        Shards(0)
