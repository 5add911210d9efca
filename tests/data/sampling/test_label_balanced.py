import numpy as np
import pytest

from mtl_lightning.data.sampling import LabelBalanced
from mtl_lightning.system.errors import UserError
from tests.helpers.data import population, random, taken

KINDS = [0] * 60 + [1] * 20 + [-1] * 40
AGES = [-1] * 80 + [0] * 40
GIVEN = population([0] * 120, kind=KINDS, age=AGES)


def test_tasks_and_their_classes_come_equally_often():
    positions = taken(LabelBalanced(), GIVEN)
    kinds, ages = np.array(KINDS)[positions], np.array(AGES)[positions]
    assert np.bincount(kinds + 1).tolist() == [60, 30, 30]
    assert np.bincount(ages + 1).tolist() == [60, 60]
    times = np.bincount(positions, minlength=120)
    assert times[:60].max() == 1
    assert set(times[60:80]) == {1, 2}
    assert set(times[80:]) == {1, 2}


def test_without_strength_each_image_comes_once():
    assert sorted(taken(LabelBalanced(0.0), random(1))) == list(range(60))


def test_how_often_an_image_comes_is_its_share_rounded():
    given, strength = random(3), 0.7
    balanced = np.zeros(60)
    for codes in given.strata.values():
        for code in set(codes.tolist()) - {-1}:
            classes = len(set(codes.tolist()) - {-1})
            balanced[codes == code] += 1 / 3 / classes / (codes == code).sum()
    expected = 60 * ((1 - strength) / 60 + strength * balanced)
    for seed in range(5):
        times = np.bincount(taken(LabelBalanced(strength), given, seed=seed), minlength=60)
        assert (np.abs(times - expected) < 1).all()


def test_a_task_without_a_label_has_no_share():
    given = population([0] * 4, kind=[0, 0, 1, -1], never=[-1] * 4)
    positions = taken(LabelBalanced(), given)
    assert np.bincount(positions, minlength=4)[2:].tolist() == [2, 0]


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan")])
def test_strength_is_a_share(strength):
    with pytest.raises(UserError, match=r"strength should be in 0\.\.1\. Found"):
        LabelBalanced(strength)
