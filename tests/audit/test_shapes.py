import numpy as np
import pytest

from mtl_lightning.audit.shapes import cropped, fitting_size


def test_the_share_that_a_centre_crop_removes():
    sizes = np.array([[160, 80], [80, 160], [64, 64], [120, 90]])
    np.testing.assert_allclose(cropped(sizes, (64, 64)), [0.5, 0.5, 0, 0.25])
    np.testing.assert_allclose(cropped(sizes, (128, 64)), [0, 0.75, 0.5, 1 / 3])


@pytest.mark.parametrize(
    ("sizes", "shorter", "size"),
    [
        ([[160, 76]] * 3, 64, (128, 64)),
        ([[76, 160]] * 3, 64, (64, 128)),
        ([[100, 90]] * 3, 64, (64, 64)),
        ([[160, 120]] * 3, 96, (128, 96)),
        ([[160, 120]] * 6 + [[120, 160]] * 5, 96, (96, 96)),
        ([[900, 400]], 32, (64, 32)),
        ([[900, 40]], 32, (32, 32)),
    ],
)
def test_a_size_of_the_median_shape(sizes, shorter, size):
    assert fitting_size(np.array(sizes), shorter) == size
