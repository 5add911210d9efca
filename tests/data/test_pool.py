from dataclasses import replace

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


def test_different_texts_that_mean_the_same_do_not_contradict():
    pool = Pool([table("a.csv", "x", "x", "y", "y")], "path")
    values = texts(["hat;bag", "bag;hat", "hat", "bag"])

    def meaning(text):
        return frozenset(text.split(";"))

    said, first, conflicts = pool.agree(values, refuse, "a", "drop", meaning)
    assert (said.tolist(), first.tolist(), conflicts) == (["hat;bag", None], [0, -1], 1)


def two_columns(*images, columns=("new", "old")):
    answers = np.stack([texts(["a", None, "c"]), texts(["b", "b", "c"])], axis=1)
    made = table("a.csv", *images, t=[None] * 3)
    return replace(made, labels={"t": answers}, columns={"t": list(columns)})


def test_columns_answer_in_order_and_are_named_in_a_contradiction():
    tables = [two_columns("x", "y", "z"), table("b.csv", "y", t=["d"])]
    pool = Pool(tables, "path")
    values = pool.gather([own.labels["t"] for own in tables])
    said, first, conflicts = pool.agree(values, refuse, "t", "first")
    assert (said.tolist(), first.tolist(), conflicts) == (["a", "b", "c"], [0, 1, 2], 2)
    said, first, conflicts = pool.agree(values, refuse, "t", "drop")
    assert (said.tolist(), first.tolist(), conflicts) == ([None, None, "c"], [-1, -1, 2], 2)
    heard = []
    pool.agree(values, lambda about, line: heard.append(line), "t")
    assert heard == [
        'a.csv row 2, column "new" says "a", a.csv row 2, column "old" says "b" for x (task "t"); '
        "expected one answer, or data.on_conflict: first or drop",
        'a.csv row 3, column "old" says "b", b.csv row 2 says "d" for y (task "t"); '
        "expected one answer, or data.on_conflict: first or drop",
    ]


def test_columns_of_distinct_images_are_joined_too():
    pool = Pool([two_columns("x", "y", "z")], "path")
    said, first, conflicts = pool.agree(pool.tables[0].labels["t"], refuse, "t", "first")
    assert pool.distinct
    assert (said.tolist(), first.tolist(), conflicts) == (["a", "b", "c"], [0, 1, 2], 1)
