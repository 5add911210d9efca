import io

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from mtl_lightning.audit import images
from mtl_lightning.audit.findings import Level
from mtl_lightning.audit.images import findings, survey_images, thumbnail
from mtl_lightning.data.merging import MergeOptions, merge
from mtl_lightning.data.sources import FolderSource
from mtl_lightning.system.progress import ProgressBar
from tests.helpers.data import Memory
from tests.helpers.files.messy import photo

QUIET = ProgressBar(Console(file=io.StringIO()))


@pytest.fixture
def table(tmp_path):
    """Images of 40 x 48 but the first, which is turned; the last two are broken."""
    for number in range(8):
        photo(tmp_path / f"a/{number}.jpg", number)
    turned = Image.new("RGB", (30, 20))
    exif = turned.getexif()
    exif[274] = 6
    turned.save(tmp_path / "a/0.jpg", exif=exif)
    whole = (tmp_path / "a/6.jpg").read_bytes()
    (tmp_path / "a/6.jpg").write_bytes(whole[:-60])
    (tmp_path / "a/7.jpg").write_text("no image")
    return merge({"f": FolderSource(tmp_path, "kind")}, ["kind"], MergeOptions())


def test_all_images(table):
    found = survey_images(table, 0, True, QUIET)
    assert (found.total, found.decoded) == (8, 8)
    assert found.rows.tolist() == list(range(6))
    assert found.sizes.tolist() == [[30, 20], *[[40, 48]] * 5]
    assert sorted(found.unreadable) == [6, 7]
    assert "a/6.jpg" in found.unreadable[6]
    assert "cannot be read" in found.unreadable[7]
    assert found.extremes() == (0, 1)


@pytest.mark.parametrize("size", [(30, 20), (20, 10)])
def test_images_that_cover_the_networks_are_not_enlarged(table, size):
    assert survey_images(table, 0, True, QUIET).upscaled(size) == 0


@pytest.mark.parametrize(("size", "share"), [((31, 20), 1), ((30, 21), 1), ((41, 1), 6)])
def test_images_smaller_in_any_dimension_are(table, size, share):
    found = survey_images(table, 0, True, QUIET)
    assert found.upscaled(size) == pytest.approx(share / 6)


def test_a_sample_is_that_of_its_seed(table, monkeypatch):
    monkeypatch.setattr(images, "SIZED", 5)
    monkeypatch.setattr(images, "DECODED", 2)
    rows = set()
    for seed in range(6):
        found, again = (survey_images(table, seed, False, QUIET) for _ in range(2))
        assert found.rows.tolist() == again.rows.tolist()
        assert len(found.rows) + len(found.unreadable) == 5
        assert 2 <= found.decoded <= 4, "and whatever has no header"
        assert set(found.unreadable) <= {6, 7}
        rows.add(tuple(found.rows))
    assert len(rows) > 1


def test_without_a_header_an_image_is_decoded_in_any_case(table, monkeypatch):
    monkeypatch.setattr(images, "DECODED", 0)
    found = survey_images(table, 0, False, QUIET)
    assert list(found.unreadable) == [7]
    assert found.sizes.tolist() == [[30, 20], *[[40, 48]] * 6], "by their headers, turned as shown"


def test_images_that_are_no_files():
    class Twice(Memory):
        def load(self, image):
            number = int(image.rpartition(":")[2])
            if number == 5:
                raise ValueError("a\nbug")
            return np.full((4, 6, 3), number % 3, dtype=np.uint8)

    table = merge({"m": Twice({"kind": ["a"] * 6}, ["train"] * 6)}, ["kind"], MergeOptions())
    found = survey_images(table, 0, False, QUIET)
    assert found.equal == [[0, 3], [1, 4]]
    assert found.sizes.tolist() == [[4, 6]] * 5
    assert found.unreadable == {5: "memory memory:5: ValueError: a bug"}
    assert thumbnail(table, 5, 8) is None


def test_findings(table):
    found = survey_images(table, 0, True, QUIET)
    (unreadable,) = findings(found, (40, 40))
    assert unreadable.level is Level.ERROR
    assert unreadable.what == "2 of the 8 images that were decoded cannot be read"
    assert len(unreadable.where) == 2
    assert "--all" not in unreadable.fix
    _, small = findings(found, (41, 40))
    assert small.level is Level.WARNING
    assert small.what == "100% of the images are smaller than 41 x 40 and would be enlarged"


def test_a_centre_crop_that_loses_the_sides(table):
    found = survey_images(table, 0, True, QUIET)
    *_, small, crop = findings(found, (80, 40))
    assert small.fix == "a smaller data.image_size trains faster"
    assert crop.level is Level.WARNING
    assert crop.what == "the centre crop of 80 x 40 removes 58% of the median image"
    assert crop.fix == (
        "data.resize: contain keeps whole images (between black bars), stretch too, and "
        "data.image_size: [40, 40] has the shape of most"
    )
    assert not any("centre crop" in each.what for each in findings(found, (80, 40), "contain"))
    assert not any("centre crop" in each.what for each in findings(found, (40, 48)))


def test_a_sample_says_that_there_is_more(table, monkeypatch):
    monkeypatch.setattr(images, "DECODED", 0)
    (finding,) = findings(survey_images(table, 0, False, QUIET), (10, 10))
    assert finding.fix.endswith("(--all tries every one)")


def test_a_thumbnail_keeps_its_shape(table):
    assert thumbnail(table, 1, 24).size == (24, 20)
    assert thumbnail(table, 0, 15).size == (10, 15)
    assert thumbnail(table, 7, 24) is None
