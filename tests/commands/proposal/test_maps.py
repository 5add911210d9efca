import json
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from mtl_lightning.commands.proposal.columns import Kind
from mtl_lightning.commands.proposal.maps import classify_maps
from tests.helpers.segmentation import png

SIZE = (30, 40)
RANDOM = np.random.default_rng(0)


@pytest.fixture
def images(tmp_path):
    for i in range(4):
        Image.fromarray(np.zeros((60, 80, 3), np.uint8)).save(tmp_path / f"{i}.jpg")
    return [str(tmp_path / f"{i}.jpg") for i in range(4)]


def classified(tmp_path, images, *files, cells=None):
    """Classify a column with a file for each image but the last, which has none."""
    names = [f"{i}.bin" for i in range(len(files))]
    for name, content in zip(names, files, strict=True):
        (tmp_path / name).write_bytes(content)
    cells = [*(cells or names), None]
    return classify_maps(str(tmp_path), images[: len(cells)], cells)


def npy(values):
    file = BytesIO()
    np.save(file, values)
    return file.getvalue()


def test_few_values_are_classes_and_255_is_ignored(tmp_path, images):
    one, two = np.zeros(SIZE), np.full(SIZE, 7)
    two[0, :3] = 255
    found = classified(tmp_path, images, png(one), png(two))
    assert (found.kind, found.labels) == (Kind.MASKS, 2)
    assert found.counts == {"0": 1200, "7": 1197}
    assert found.reason == "the values in all 2 masks; give them names"
    wide = classified(tmp_path, images, png(np.array(one + 300, np.uint16)), png(two))
    assert list(wide.counts) == ["7", "255", "300"], "255 is a class among larger values"


def test_encoded_masks_are_classes(tmp_path, images):
    mask = {"size": [3, 4], "counts": [5, 7]}
    cells = [json.dumps([{"category_id": n, "segmentation": mask}]) for n in (3, 9)]
    found = classified(tmp_path, images, cells=cells)
    assert (found.kind, found.counts) == (Kind.MASKS, {"0": 10, "3": 7, "9": 7})
    in_files = classified(tmp_path, images, *(cell.encode() for cell in cells))
    assert in_files == found


def test_many_values_of_16_bits_or_floats_are_depth(tmp_path, images):
    depth = RANDOM.integers(400, 9000, SIZE).astype(np.uint16)
    depth[0] = 0
    depth[1, :2] = 399, 9001
    found = classified(tmp_path, images, png(depth))
    assert (found.kind, found.labels) == (Kind.DEPTH, 1)
    assert found.reason.startswith("values of 399 to 9001; if they are mm: init_args: {unit: m, ")
    assert classified(tmp_path, images, npy(RANDOM.random(SIZE))).kind is Kind.DEPTH


def test_pictures_of_unit_vectors_are_normals(tmp_path, images):
    vectors = RANDOM.standard_normal((*SIZE, 3))
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    vectors[:3] = 0
    coloured = np.rint((vectors + 1) * 127.5).astype(np.uint8)
    coloured[:3] = 0
    for content in (npy(vectors), png(coloured)):
        assert classified(tmp_path, images, content).kind is Kind.NORMALS


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (RANDOM.integers(0, 256, (*SIZE, 3)), "it names pictures in colour"),
        (RANDOM.integers(0, 256, SIZE), "grey pictures of 8 bits; if they are depth or the like"),
        (np.zeros(SIZE), "it names files with the values 0, which are not classes"),
        (np.zeros((40, 30)), "it names files of another shape than its images"),
    ],
)
def test_other_pictures_are_no_task(tmp_path, images, values, reason):
    found = classified(tmp_path, images, png(values.astype(np.uint8)))
    assert found.kind is Kind.NOTHING
    assert reason in found.reason


def test_other_files_are_no_task(tmp_path, images):
    for content in (b"", b"text", (tmp_path / "0.jpg").read_bytes()):
        found = classified(tmp_path, images, content)
        assert (found.kind, found.reason[:26]) == (Kind.NOTHING, "it names files that are ne")
