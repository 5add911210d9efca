import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtl_lightning.data.sampling import AtLeast
from mtl_lightning.system.errors import UserError
from tests.helpers.data import population, random, taken


def labels(given, positions):
    """Return how many of the positions carry a label of each task."""
    return [int((strata[positions] >= 0).sum()) for strata in given.strata.values()]


@given(st.integers(0, 99), st.integers(5, 70), st.integers(1, 3), st.integers(9, 20))
def test_each_whole_step_has_so_many_labels_of_every_task(seed, rows, number, step):
    images = random(seed, rows)
    positions = taken(AtLeast(number), images, step)
    for start in range(0, rows - step + 1, step):
        assert min(labels(images, positions[start : start + step])) >= number


def test_where_labels_suffice_each_image_comes_once():
    images = population([0] * 40, rare=[0] * 5 + [-1] * 35, often=[-1] * 5 + [0] * 35)
    for seed in range(5):
        assert sorted(taken(AtLeast(1), images, seed=seed)) == list(range(40))


def test_where_they_do_not_a_rare_image_comes_again_and_others_are_left_out():
    images = population([0] * 40, rare=[0] * 2 + [-1] * 38, often=[-1] * 2 + [0] * 38)
    positions = taken(AtLeast(1), images)
    times = np.bincount(positions, minlength=40)
    assert times[:2].sum() == 5
    assert times[:2].min() >= 2
    assert times[2:].max() == 1
    assert times[2:].sum() == 35


def test_a_task_without_any_label_asks_for_nothing():
    images = population([0] * 16, kind=[0] * 16, never=[-1] * 16)
    assert sorted(taken(AtLeast(2), images)) == list(range(16))


def test_more_than_a_step_has_room_for_is_refused():
    with pytest.raises(UserError, match=r"3 labelled images of each of 3 tasks are 9, and a step"):
        AtLeast(3).check(random(0), 8)
    AtLeast(3).check(random(0), 9)
    with pytest.raises(UserError, match=r"number should be 1 or more\. Found 0"):
        AtLeast(0)
