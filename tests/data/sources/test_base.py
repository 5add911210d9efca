import numpy as np
from PIL import Image

from mtl_lightning.data.sources import Source, SourceTable
from mtl_lightning.data.sources.locate import texts


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
