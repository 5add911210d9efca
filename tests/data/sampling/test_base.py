import numpy as np
import pytest

from mtl_lightning.data.sampling.base import cycled


@pytest.mark.parametrize("number", [0, 3, 5, 12])
def test_nothing_comes_again_before_all_have_been(number):
    positions = np.array([2, 3, 5, 7, 11])
    found = cycled(positions, number, np.random.default_rng(0))
    assert len(found) == number
    for start in range(0, number, 5):
        part = found[start : start + 5]
        assert len(set(part)) == len(part)
