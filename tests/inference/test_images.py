import numpy as np
import pytest
import torch

from mtl_lightning.data.dataset import load_scaled
from mtl_lightning.data.transforms import default_eval
from mtl_lightning.inference.description import Description
from mtl_lightning.inference.images import ImageReader
from tests.helpers.files.exports import TASKS


class One:
    def __init__(self, pixels):
        self.pixels = pixels

    def load(self, row):
        return self.pixels


@pytest.mark.parametrize("mode", ["cover", "contain", "stretch"])
@pytest.mark.parametrize("shape", [(30, 80, 3), (90, 20, 3), (24, 24, 3)])
def test_images_are_those_of_the_evaluation(mode, shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    read = ImageReader(Description(TASKS, {}, (24, 32), mode))
    (found,) = read([pixels])
    scaled = load_scaled(One(pixels), 0, (24, 32), 10**6, mode)
    expected = default_eval((24, 32))(torch.from_numpy(scaled).permute(2, 0, 1))
    assert found.shape == (3, 24, 32)
    assert np.array_equal(found, expected.numpy())
