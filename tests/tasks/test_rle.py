import json
import time
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mtl_lightning.tasks.rle import is_rle, read_rle

DISC = "hj03Q18J4M2N2N2N2N2O0O2O00000O2O0001N1000001N101N2N2N2N2N3L6HT<"
"""A disc in 40 x 60 pixels, as pycocotools 2.0 encodes it."""


def encoded(counts: Any, size: Any = (2, 3)) -> str:
    return json.dumps({"size": size, "counts": counts})


def test_counts_are_runs_down_the_columns_and_begin_outside():
    assert read_rle(encoded([1, 2, 1, 1, 1])).tolist() == [[0, 1, 1], [1, 0, 0]]
    assert read_rle(encoded([0, 6])).tolist() == [[1, 1, 1], [1, 1, 1]]


def test_compressed_counts_are_those_of_the_coco_api():
    y, x = np.mgrid[:40, :60]
    disc = (y - 17) ** 2 + (x - 35) ** 2 < 200
    assert np.array_equal(read_rle(encoded(DISC, [40, 60])), disc)
    assert read_rle(encoded("9", [3, 3])).tolist() == [[0] * 3] * 3


def test_later_annotations_are_over_earlier_ones():
    masks = [{"size": [2, 2], "counts": counts} for counts in ([0, 3, 1], [2, 2])]
    annotations = [
        {"category_id": category, "segmentation": mask, "area": 2}
        for category, mask in zip((7, 11), masks, strict=True)
    ]
    assert read_rle(json.dumps(annotations)).tolist() == [[7, 11], [7, 11]]
    assert read_rle(json.dumps(annotations[::-1])).tolist() == [[7, 7], [7, 11]]


def annotation(**changes: Any) -> str:
    mask = {"size": [2, 2], "counts": [4]}
    return json.dumps(
        [
            {"category_id": 1, "segmentation": mask},
            {"category_id": 2, "segmentation": mask} | changes,
        ]
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (encoded([1, 2]), r"counts of 3 pixels, expected 6 for the size \[2, 3\]"),
        (encoded([1, 2, 4]), "counts of 7 pixels, expected 6"),
        (encoded([7, -1]), "counts should be whole numbers from 0 on"),
        (encoded([5.0, 1]), "counts should be whole numbers"),
        (encoded([5, True]), "counts should be whole numbers"),
        (encoded(None), "counts should be whole numbers"),
        (encoded("5\u00e9"), "counts should be compressed text of the COCO API"),
        (encoded("5 1"), "counts should be compressed text of the COCO API"),
        (encoded(DISC[:-1], [40, 60]), "counts end within a number"),
        (encoded(DISC[:-2], [40, 60]), "counts of 1,979 pixels, expected 2,400"),
        (encoded("o" * 100_000), "counts should be compressed text"),
        (encoded([6], [6]), r"size should be \[height, width\] in pixels"),
        (encoded([0], [0, 3]), "size should be"),
        (encoded([6], [2, 3.0]), "size should be"),
        (encoded([6], "2x3"), "size should be"),
        ('{"size": [2, 2]}', "a run-length encoding should have size and counts"),
        ("[]", "an empty list, .* leave the cell empty"),
        ('[{"size": [2, 2], "counts": [4]}]', "should have category_id and segmentation"),
        ("[{}, 3]", "should have category_id and segmentation"),
        (annotation(category_id=-1), "category_id should be in 0..65535. Found -1"),
        (annotation(category_id=65536), "category_id should be in 0..65535. Found 65536"),
        (annotation(category_id="car"), "category_id should be in 0..65535. Found car"),
        (annotation(segmentation=[[0, 0, 1, 1]]), "a mask of polygons, expected a run-length"),
        (annotation(segmentation=5), "a run-length encoding should have size and counts"),
        (
            annotation(segmentation={"size": [4, 1], "counts": [4]}),
            r"masks of the sizes \[2, 2\] and \[4, 1\], expected one size",
        ),
        ('{"size": [2, 2], "cou', "Unterminated string"),
        ('{"a":' * 100_000, "nested too deep"),
    ],
)
def test_what_is_no_mask_says_why(text, message):
    assert is_rle(text)
    start = time.process_time()
    with pytest.raises(ValueError, match=message):
        read_rle(text)
    assert time.process_time() - start < 1


def test_more_pixels_than_allowed_are_never_made(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 6)
    assert read_rle(encoded([6])).shape == (2, 3)
    with pytest.raises(ValueError, match="7 x 1 pixels are more than 6"):
        read_rle(encoded([7], [7, 1]))


@pytest.mark.parametrize("name", ["a.png", "[1].png", "{0}.png", "{stem}/a.png", "[]/a.png", ""])
def test_names_of_files_are_no_masks(name):
    assert not is_rle(name)
