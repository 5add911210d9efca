"""The targets of one task that lie in files."""

import json
import pickle
import re
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors

from mtl_lightning.data.target_files import TargetFiles
from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks import Segmentation
from tests.helpers.segmentation import RedParts, segmentation_data, write_photos


@pytest.fixture
def files(tmp_path):
    data = segmentation_data(write_photos(tmp_path / "here", rows=8))
    return TargetFiles("parts", RedParts(), data.labels.table, (16, 16), 10_000)


def written(files, row, pixels):
    """Put another mask in place of that of a row."""
    content = BytesIO()
    Image.fromarray(np.asarray(pixels)).save(content, "png")
    with open(files.name(row), "wb") as file:
        file.write(content.getvalue())


def refusal(files, row, shape=(16, 16)):
    with pytest.raises(UserError) as caught:
        files.load(row, shape)
    return str(caught.value)


def test_a_target_is_named_by_its_file_and_the_row_that_names_it(files):
    assert files.name(1).endswith("/here/masks/1.png")
    assert re.fullmatch(r'.*/photos.csv row 3, column "parts"', files.location(1))
    assert torch.equal(files.empty, torch.zeros(16, 16, dtype=torch.int64))


def test_a_target_has_the_size_of_its_image_by_the_nearest_pixels(files):
    mask = np.arange(16 * 8, dtype=np.uint8).reshape(16, 8)
    written(files, 0, mask)
    whole = files.load(0, (16, 8))
    assert type(whole) is tv_tensors.Mask
    whole = whole.as_subclass(torch.Tensor)
    assert whole.dtype == torch.int64
    assert torch.equal(whole, torch.from_numpy(mask).long())
    assert torch.equal(files.load(0, (8, 4)), whole[::2, ::2])
    twice = whole.repeat_interleave(2, 0).repeat_interleave(2, 1)
    assert torch.equal(files.load(0, (32, 16)), twice)


@pytest.mark.parametrize(
    ("mask", "image", "fits"),
    [
        ((100, 133), (16, 21), True),  # scaled to cover 16 x 16
        ((1001, 3003), (16, 48), True),
        ((101, 303), (17, 51), True),
        ((100, 133), (21, 16), False),  # lies on its side
        ((100, 100), (16, 21), False),
        ((100, 160), (16, 21), False),
    ],
)
def test_a_target_of_another_shape_than_the_image_is_of_another_image(files, mask, image, fits):
    written(files, 0, np.zeros(mask, np.uint8))
    files.max_pixels = 10_000_000
    if fits:
        assert files.load(0, image).shape == image
    else:
        height, width = mask
        assert f"(its {height} x {width} pixels are of another shape than the image's, " in refusal(
            files, 0, image
        )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "an empty file"),
        (b"no image", "not an image, or broken at its start"),
        (None, "No such file or directory"),
    ],
)
def test_what_cannot_be_read_is_one_line(files, tmp_path, content, reason):
    path = tmp_path / "here/masks/0.png"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    message = refusal(files, 0)
    start = f'{tmp_path}/here/photos.csv row 2, column "parts": target {path} cannot be used for '
    assert message.startswith(f"{start}task parts ({reason}")
    assert "\n" not in message


def test_encoded_masks_are_read_from_cells_and_bad_ones_named_by_file_and_row(tmp_path):
    table = write_photos(tmp_path / "here", rows=8)
    good = {"size": [16, 16], "counts": [16, 16, 224]}
    cells = {0: good, 1: good | {"counts": [5] * 60}, 3: good | {"size": [8, 32]}}
    text = table.read_text()
    for row, mask in cells.items():
        cell = json.dumps(mask).replace('"', '""')
        text = text.replace(f"masks/{row}.png", f'"{cell}"')
    table.write_text(text)
    task = Segmentation(["outside", "inside"])
    data = segmentation_data(table, tasks={"parts": task})
    files = TargetFiles("parts", task, data.labels.table, (16, 16), 10_000)
    expected = torch.ones(16, 16, dtype=torch.uint8)
    expected[:, 1] = 2
    assert torch.equal(files.load(0, (16, 16)), expected)
    assert (tmp_path / "here/masks/4.png").as_posix() == files.name(4), "others are files"
    begins = f'{table} row 3, column "parts": target {{"size": [16, 16], "counts": [5, 5,'
    message = refusal(files, 1)
    assert message.startswith(begins)
    assert message.endswith(
        "5, 5, 5, 5, 5]} cannot be used for task parts (counts of 300 "
        "pixels, expected 256 for the size [16, 16])"
    )
    assert "(its 8 x 32 pixels are of another shape than the image's" in refusal(files, 3)


def test_what_is_no_target_of_the_task_is_refused(files):
    written(files, 0, np.zeros((16, 16, 3), np.uint8))
    assert refusal(files, 0).endswith(
        "(it is read as torch.int64 (16, 16, 3), expected torch.int64 (height, width))"
    )
    files.task.load_target = lambda content: np.zeros((16, 16))
    assert "(it is read as ndarray, expected torch.int64 (height, width))" in refusal(files, 0)


def test_larger_files_than_allowed_are_refused(files):
    written(files, 0, np.zeros((300, 300), np.uint8))
    assert "(Image size (90000 pixels) exceeds limit of " in refusal(files, 0)  # unread
    files.max_pixels = 80_000
    files.task.load_target = lambda content: torch.zeros(300, 300, dtype=torch.int64)
    assert "(90,000 pixels, and data.max_pixels allows 80,000)" in refusal(files, 0)


def test_it_goes_to_processes_that_load_images(files):
    copy = pickle.loads(pickle.dumps(files))
    assert torch.equal(copy.load(0, (16, 16)), files.load(0, (16, 16)))
