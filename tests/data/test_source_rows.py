from dataclasses import replace

import numpy as np

from mtl_lightning.data.source_rows import SourceRows
from mtl_lightning.data.sources import SourceTable
from mtl_lightning.data.sources.locate import texts
from mtl_lightning.data.splits import raise_contradiction


def table(name, *images, **labels):
    columns = {task: texts(cells) for task, cells in labels.items()}
    rows = np.arange(2, len(images) + 2)
    return SourceTable(name, texts(images), texts(images), columns, rows=rows)


def test_distinct_images_have_the_values_of_their_rows():
    rows = SourceRows([table("a.csv", "x", "y", a=["1", None]), table("b.csv", "z")], "path")
    assert rows.distinct
    values, first, conflicts = rows.resolve(
        rows.concatenate([texts(["1", None]), None]), raise_contradiction, "a"
    )
    assert values.tolist() == ["1", None, None]
    assert first.tolist() == [0, -1, -1]
    assert conflicts == 0
    assert rows.location(2) == "b.csv row 2"


def test_the_first_value_of_an_image_holds_and_conflicts_are_counted_once_an_image():
    rows = SourceRows([table("a.csv", "x", "y", "x", "x"), table("b.csv", "y")], "path")
    assert rows.images.tolist() == ["x", "y"]
    assert rows.image_of_row.tolist() == [0, 1, 0, 0, 1]
    values = texts([None, "1", "2", "3", "4"])
    resolved, first, conflicts = rows.resolve(values, raise_contradiction, "a", "first")
    assert (resolved.tolist(), first.tolist(), conflicts) == (["2", "1"], [2, 1], 2)
    resolved, first, conflicts = rows.resolve(values, raise_contradiction, "a", "drop")
    assert (resolved.tolist(), first.tolist(), conflicts) == ([None, None], [-1, -1], 2)


def test_different_texts_that_mean_the_same_do_not_contradict():
    rows = SourceRows([table("a.csv", "x", "x", "y", "y")], "path")
    values = texts(["hat;bag", "bag;hat", "hat", "bag"])

    def meaning(text):
        return frozenset(text.split(";"))

    resolved, first, conflicts = rows.resolve(values, raise_contradiction, "a", "drop", meaning)
    assert (resolved.tolist(), first.tolist(), conflicts) == (["hat;bag", None], [0, -1], 1)


def two_columns(*images, columns=("new", "old")):
    answers = np.stack([texts(["a", None, "c"]), texts(["b", "b", "c"])], axis=1)
    made = table("a.csv", *images, t=[None] * 3)
    return replace(made, labels={"t": answers}, columns={"t": list(columns)})


def test_columns_answer_in_order_and_are_named_in_a_contradiction():
    tables = [two_columns("x", "y", "z"), table("b.csv", "y", t=["d"])]
    rows = SourceRows(tables, "path")
    values = rows.concatenate([own.labels["t"] for own in tables])
    resolved, first, conflicts = rows.resolve(values, raise_contradiction, "t", "first")
    assert (resolved.tolist(), first.tolist(), conflicts) == (["a", "b", "c"], [0, 1, 2], 2)
    resolved, first, conflicts = rows.resolve(values, raise_contradiction, "t", "drop")
    assert (resolved.tolist(), first.tolist(), conflicts) == ([None, None, "c"], [-1, -1, 2], 2)
    heard = []
    rows.resolve(values, lambda about, line: heard.append(line), "t")
    assert heard == [
        'a.csv row 2, column "new" says "a", a.csv row 2, column "old" says "b" for x (task "t"); '
        "expected one answer, or data.on_conflict: first or drop",
        'a.csv row 3, column "old" says "b", b.csv row 2 says "d" for y (task "t"); '
        "expected one answer, or data.on_conflict: first or drop",
    ]


def test_columns_of_distinct_images_are_joined_too():
    rows = SourceRows([two_columns("x", "y", "z")], "path")
    values, first, conflicts = rows.resolve(
        rows.tables[0].labels["t"], raise_contradiction, "t", "first"
    )
    assert rows.distinct
    assert (values.tolist(), first.tolist(), conflicts) == (["a", "b", "c"], [0, 1, 2], 1)
