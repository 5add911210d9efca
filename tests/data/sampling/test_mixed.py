import numpy as np
import pytest

from mtl_lightning.data.sampling import Mixed
from mtl_lightning.data.sampling.mixed import apportioned
from mtl_lightning.system.errors import UserError
from tests.helpers.data import population, taken

SOURCES = [0] * 90 + [1] * 10 + [2] * 20
GIVEN = population(SOURCES, t=[0] * 120)


def shares(temperature):
    return np.bincount(np.array(SOURCES)[taken(Mixed(temperature), GIVEN)]).tolist()


def test_in_proportion_each_image_comes_once_and_every_stretch_has_all_sources():
    positions = taken(Mixed(), GIVEN)
    assert sorted(positions) == list(range(120))
    for start in range(0, 120, 24):  # of 24 images 18, 2 and 4 are due
        found = np.bincount(np.array(SOURCES)[positions[start : start + 24]], minlength=3)
        assert np.abs(found - [18, 2, 4]).max() <= 2
        assert found.min() >= 1


def test_small_sources_have_larger_shares_the_higher_the_temperature():
    assert shares(1.0) == [90, 10, 20]
    assert shares(2.0) == apportioned(np.sqrt([90.0, 10.0, 20.0]), 120).tolist() == [67, 22, 31]
    assert shares(1e9) == [40, 40, 40]


def test_no_image_of_a_source_comes_again_before_all_of_it_have_come():
    positions = taken(Mixed(1e9), GIVEN)
    times = np.bincount(positions, minlength=120)
    assert times[:90].max() == 1
    assert times[90:100].tolist() == [4] * 10
    assert times[100:].tolist() == [2] * 20


def test_parts_add_up():
    assert apportioned(np.array([1.0, 1.0, 1.0]), 100).tolist() == [34, 33, 33]
    assert apportioned(np.array([5.0, 0.001]), 3).tolist() == [3, 0]


@pytest.mark.parametrize("temperature", [0.5, -1, float("nan")])
def test_a_temperature_under_one_is_refused(temperature):
    with pytest.raises(UserError, match=r"temperature should be 1 or more\. Found"):
        Mixed(temperature)
