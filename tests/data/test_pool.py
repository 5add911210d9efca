import numpy as np

from mtl_lightning.data.pool import Pool
from mtl_lightning.data.sources import SourceTable
from mtl_lightning.data.sources.locate import texts
from mtl_lightning.data.splits import refuse


def table(name, *images, **labels):
    columns = {task: texts(cells) for task, cells in labels.items()}
    rows = np.arange(2, len(images) + 2)
    return SourceTable(name, texts(images), texts(images), columns, rows=rows)


def test_what_distinct_images_say_is_what_rows_say():
    pool = Pool([table("a.csv", "x", "y", a=["1", None]), table("b.csv", "z")], "path")
    assert pool.distinct
    said, first, conflicts = pool.agree(pool.gather([texts(["1", None]), None]), refuse, "a")
    assert said.tolist() == ["1", None, None]
    assert first.tolist() == [0, -1, -1]
    assert conflicts == 0
    assert pool.where(2) == "b.csv row 2"


def test_the_first_row_of_an_image_speaks_and_contradictions_are_counted_once_an_image():
    pool = Pool([table("a.csv", "x", "y", "x", "x"), table("b.csv", "y")], "path")
    assert pool.images.tolist() == ["x", "y"]
    assert pool.image_of_row.tolist() == [0, 1, 0, 0, 1]
    values = texts([None, "1", "2", "3", "4"])
    said, first, conflicts = pool.agree(values, refuse, "a", "first")
    assert (said.tolist(), first.tolist(), conflicts) == (["2", "1"], [2, 1], 2)
    said, first, conflicts = pool.agree(values, refuse, "a", "drop")
    assert (said.tolist(), first.tolist(), conflicts) == ([None, None], [-1, -1], 2)
