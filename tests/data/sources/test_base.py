import numpy as np
import pytest
from PIL import Image

from mtl_lightning.data.images import decode
from mtl_lightning.data.sources import Source, SourceTable
from mtl_lightning.data.sources.locate import texts
from mtl_lightning.system.errors import UserError


class One(Source):
    def read(self, tasks):
        return SourceTable("one", texts(["k"]), texts(["k"]), {})


def test_where_names_the_row_or_else_the_key():
    table = SourceTable("a.csv", texts(["/x"]), texts(["x"]), {}, rows=np.array([17]))
    assert table.where(0) == "a.csv row 17"
    assert One().read([]).where(0) == "one k"


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


def test_content_of_a_source_that_makes_pixels_loses_none():
    class Noise(One):
        def load(self, image):
            return np.random.default_rng(3).integers(0, 256, (5, 7, 3), dtype=np.uint8)

    np.testing.assert_array_equal(decode("k", content=Noise().content("k")), Noise().load("k"))
