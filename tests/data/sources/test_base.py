import numpy as np
import pytest
from PIL import Image

from mtl_lightning.data.images import decode
from mtl_lightning.data.intensity import Intensity
from mtl_lightning.data.sources import (
    FilenameSource,
    FolderSource,
    Source,
    SourceTable,
    TableSource,
)
from mtl_lightning.data.sources.locate import texts
from mtl_lightning.system.errors import UserError
from tests.helpers.files.tiff import tiff


class One(Source):
    def read(self, tasks):
        return SourceTable("one", texts(["k"]), texts(["k"]), {})


def test_where_names_the_row_or_else_the_key():
    table = SourceTable("a.csv", texts(["/x"]), texts(["x"]), {}, rows=np.array([17]))
    assert table.location(0) == "a.csv row 17"
    assert One().read([]).location(0) == "one k"


def test_load_decodes_the_file_by_default(tmp_path):
    Image.new("L", (3, 2), 9).save(tmp_path / "x.png")
    assert One().load(str(tmp_path / "x.png")).tolist() == [[[9, 9, 9]] * 3] * 2


def test_content_is_the_file_byte_for_byte(tmp_path):
    Image.new("L", (3, 2), 9).save(tmp_path / "x.png")
    assert One().content(str(tmp_path / "x.png")) == (tmp_path / "x.png").read_bytes()
    (tmp_path / "empty.png").write_bytes(b"")
    for name, why in (
        ("empty.png", r"\(an empty file\)"),
        (".", r"\(a folder\)"),
        ("y.png", "exist"),
    ):
        with pytest.raises(UserError, match=why):
            One().content(str(tmp_path / name))


def test_a_source_that_reads_files_may_say_what_is_black_and_white(tmp_path):
    (tmp_path / "cat").mkdir()
    values = np.array([[-1000, 500, 2000]], dtype=np.int16)
    (tmp_path / "cat/x.png").write_bytes(tiff(values))
    (tmp_path / "t.csv").write_text("image,kind\ncat/x.png,cat")
    own = Intensity(min=-1000, max=2000)
    for source in (
        TableSource(tmp_path / "t.csv", intensity=own),
        FolderSource(tmp_path, "kind", intensity=own),
        FilenameSource(tmp_path, "(?P<kind>cat)/.*", intensity=own),
    ):
        image = source.read(["kind"]).images[0]
        pixels = source.load(image)
        assert pixels[0, :, 0].tolist() == [0, 128, 255]
        np.testing.assert_array_equal(decode("x", content=source.content(image)), pixels)
        source.intensity = None
        with pytest.raises(UserError, match="has 16-bit signed pixels, from -1,000 to 2,000; set"):
            source.load(image)


def test_content_of_a_source_that_makes_pixels_loses_none():
    class Noise(One):
        def load(self, image):
            return np.random.default_rng(3).integers(0, 256, (5, 7, 3), dtype=np.uint8)

    np.testing.assert_array_equal(decode("k", content=Noise().content("k")), Noise().load("k"))
