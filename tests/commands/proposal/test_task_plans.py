import pytest

from mtl_lightning.commands.proposal.columns import Column, Kind
from mtl_lightning.commands.proposal.folders import Folder
from mtl_lightning.commands.proposal.tables import Table
from mtl_lightning.commands.proposal.task_plans import (
    TaskPlan,
    classify_columns,
    name_generator,
    plan_tasks,
)
from tests.helpers.data import column


def table(path, **labels):
    cells = {name: column(values) for name, values in labels.items()}
    return Table(path, "image", None, [], 0, False, labels=cells)


def test_names_are_different_and_such_as_a_config_takes():
    named = name_generator(("score", "image"))
    texts = ["a b", "a_b", "a-b", "score", "score", "é", "?", ""]
    assert [named(text) for text in texts] == [
        *("a_b", "a_b_2", "a-b", "score_label", "score_2", "é", "label", "label_2")
    ]


def test_columns_of_one_name_are_judged_as_one():
    left_out = []
    one = table("a", kind=["x"] * 6, nr=range(6), only=["z"] * 6)
    two = table("b", kind=["y", "?"] * 3, nr=range(6, 12))
    columns, missing = classify_columns([one, two, table("c")], left_out)
    assert {name: dict(found.counts) for name, found in columns.items()} == {
        "kind": {"x": 6, "y": 3}
    }
    assert missing == ["?"]
    assert left_out == [
        ('a, column "nr"', "nearly as many values as rows (12 of 12)"),
        ('a, column "only"', 'it says "z" everywhere'),
        ('b, column "nr"', "nearly as many values as rows (12 of 12)"),
        ("c", "it has no column of labels"),
    ]


def test_the_place_of_each_column():
    yes_no = Column(Kind.YES_NO, {"yes": 3, "no": 5}, 8)
    columns = {"hat": yes_no, "kind": Column(Kind.CLASSES, {"a": 1, "b": 2}, 3), "bag": yes_no}
    plans, place = plan_tasks(columns, [], [])
    assert place == {
        "hat": ("attributes", "hat"),
        "bag": ("attributes", "bag"),
        "kind": ("kind", ""),
    }
    assert [plan.name for plan in plans] == ["attributes", "kind"]
    assert plans[0].counts == {"hat": 3, "bag": 3}


def test_masks_in_several_tables_are_one_task():
    one, two = table("a", mask=["1.png"]), table("b", mask=["2.png", "3.png"])
    one.maps["mask"] = Column(Kind.MASKS, {"0": 5, "1": 2}, 1, reason="first")
    two.maps["mask"] = Column(Kind.MASKS, {"0": 1, "2": 3}, 2, reason="second")
    columns, missing = classify_columns([one, two], [])
    (plan,), place = plan_tasks(columns, missing, [])
    assert (plan.kind, plan.labels) == (Kind.MASKS, 3)
    assert plan.counts == {"0": 6, "1": 2, "2": 3}
    assert place == {"mask": ("mask", "")}


def test_classes_of_columns_and_folders_may_have_an_order():
    bands = Column(Kind.CLASSES, {"60+": 1, "0-9": 2, "10-59": 3}, 6)
    folder = Folder("a/size", "size", classes={"M": 1, "S": 1, "L": 1})
    plans, _ = plan_tasks({"age": bands}, [], [folder])
    assert [plan.order for plan in plans] == [["0-9", "10-59", "60+"], ["S", "M", "L"]]
    assert plans[0].names == ["0-9", "10-59", "60+"]


def test_folders_of_one_name_add_up():
    folders = [
        Folder("a/kind", "kind", classes={"x": 1}),
        Folder("b/kind", "kind", classes={"x": 2, "y": 1}),
    ]
    (plan,), _ = plan_tasks({}, [], folders)
    assert (plan.counts, plan.labels) == ({"x": 3, "y": 1}, 4)


@pytest.mark.parametrize(
    ("kind", "counts", "labels", "balanced"),
    [
        (Kind.CLASSES, {"a": 30, "b": 10}, 40, False),
        (Kind.CLASSES, {"a": 31, "b": 10}, 41, True),
        (Kind.NAMES, {"a": 30, "b": 10}, 40, False),
        (Kind.YES_NO, {"a": 30, "b": 9}, 40, True),
    ],
)
def test_what_is_rare_is_balanced(kind, counts, labels, balanced):
    assert TaskPlan("t", kind, counts, labels).balanced is balanced


def test_classes_are_listed_as_the_task_itself_would():
    assert TaskPlan("t", Kind.CLASSES, {"10": 1, "9": 3}, 4).names == ["9", "10"]
