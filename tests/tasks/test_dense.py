from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from mtl_lightning.models import Decoder, DecoderOptions, HeadOptions
from mtl_lightning.models.inputs import image_input
from mtl_lightning.tasks import DenseRegression, Segmentation
from mtl_lightning.tasks.dense import mean_over_pixels, png, read_png
from tests.helpers.models import Small


@pytest.mark.parametrize(
    ("task", "outputs"),
    [
        (Segmentation(["a", "b"], decoder=DecoderOptions(width=8)), 2),
        (DenseRegression(channels=3, decoder=DecoderOptions(width=8)), 3),
    ],
)
def test_the_head_is_a_decoder_without_the_model_s_dropout(task, outputs):
    features = Small().describe(image_input((16, 16)))
    head = task.head(features, HeadOptions(dropout=0.5, hidden=7))
    assert isinstance(head, Decoder)
    maps = torch.randn(2, 8, *features.last_map.size)
    assert head(maps).shape == (2, outputs, 16, 16)
    assert torch.equal(head(maps), head(maps))


def test_a_mean_over_pixels_has_no_part_of_the_others():
    losses = torch.tensor([[[1.0, 3.0]], [[5.0, 7.0]], [[9.0, 9.0]]])
    valid = torch.tensor([[[True, True]], [[False, True]], [[False, False]]])
    assert mean_over_pixels(losses, valid).tolist() == [2, 7, 0]


def test_png_files_keep_their_values():
    for values in (
        np.array([[0, 255]], dtype=np.uint8),
        np.array([[0, 65535]], dtype=np.uint16),
        np.arange(24, dtype=np.uint8).reshape(2, 4, 3),
    ):
        assert np.array_equal(read_png(png(values)), values)


def test_other_formats_are_not_read():
    file = BytesIO()
    Image.fromarray(np.zeros((4, 4), dtype=np.uint8)).save(file, "jpeg")
    with pytest.raises(OSError, match="cannot identify"):
        read_png(file.getvalue())
