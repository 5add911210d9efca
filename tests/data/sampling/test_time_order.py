import numpy as np
import pytest

from mtl_lightning.data.sampling import Population, TimeOrder
from mtl_lightning.system.errors import UserError
from tests.helpers.data import taken


def of(*dates):
    n = len(dates)
    given = np.array(dates, dtype="datetime64[us]") if n else None
    return Population(np.zeros(n, np.int64), np.full(n, -1), {}, given)


def test_each_image_once_the_oldest_first_and_one_date_in_random_order():
    dates = np.datetime64("2024-01-01") + np.random.default_rng(0).integers(0, 9, 300)
    images = of(*dates)
    first, second = taken(TimeOrder(), images, seed=1), taken(TimeOrder(), images, seed=2)
    for positions in (first, second):
        assert sorted(positions) == list(range(300))
        assert (np.diff(images.dates[positions]) >= np.timedelta64(0)).all()
    assert list(first) != list(second)


def test_images_without_a_date():
    with pytest.raises(UserError) as caught:
        TimeOrder().check(of("2024", "NaT", "2023"), 8)
    assert str(caught.value) == (
        "data.sampling: TimeOrder needs a date for each training image. Found none for 1 of 3; set "
        "`date: COLUMN` in their source"
    )
    with pytest.raises(UserError, match="Found none for 2 of 2"):
        TimeOrder().check(Population(np.zeros(2, np.int64), np.full(2, -1), {}), 8)
    TimeOrder().check(of("2024", "2023"), 8)
