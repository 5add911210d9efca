import pytest

from mtl_lightning.data.merging import MergeOptions, merge
from mtl_lightning.data.sources import TableSource
from mtl_lightning.system.errors import UserError
from tests.helpers.data import Memory, Rows, row


def test_a_broken_image_is_named_with_its_row(tmp_path):
    (tmp_path / "x.jpg").write_text("no image")
    (tmp_path / "t.csv").write_text("image,type\nx.jpg,a\n")
    table = merge({"s": TableSource(tmp_path / "t.csv")}, ["type"], MergeOptions())
    with pytest.raises(UserError, match=r"t.csv row 2: image .*x.jpg cannot be read"):
        table.load(0)


def test_labels_of_one_task_in_several_columns_and_tables_are_counted_once():
    one = Rows(row("a", **{"tags/hat": "yes"}), row("b", **{"tags/bag": "no"}), row("c"))
    two = Rows(row("b", **{"tags/hat": "no"}), name="two")
    table = merge({"one": one, "two": two}, ["tags", "tags/hat", "tags/bag"], MergeOptions())
    counts = table.counts({"tags": ["tags", "tags/hat", "tags/bag"]})
    assert counts.labelled["one", "tags", "train"] == 2
    assert counts.labelled["two", "tags", "train"] == 1
    assert table.cells["tags/hat"].tolist() == ["yes", "no", None]


def test_the_content_of_an_image_that_cannot_be_read_names_its_row():
    table = merge(
        {"x": Memory({"t": ["a", None, "b"]}, [None] * 3, "x", bad=[1])}, ["t"], MergeOptions()
    )
    with pytest.raises(UserError, match=r"^x x:1: image x:1 cannot be read \(broken\)$"):
        table.content(1)
