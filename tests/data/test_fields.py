from mtl_lightning.data.fields import fields_of
from mtl_lightning.tasks import Classification, MultiLabel, Regression


def test_columns_of_all_tasks_by_name():
    tasks = {"size": Regression(), "tags": MultiLabel(["hat", "bag"])}
    fields = fields_of(tasks, {"kind": Classification()})
    assert list(fields) == ["size", "tags", "tags/hat", "tags/bag", "kind"]
    assert fields["tags"].meaning("hat;bag") == fields["tags"].meaning("bag;hat")
    assert fields["tags/hat"].meaning("1") == fields["tags/hat"].meaning("yes")
    assert fields["size"].meaning("5") == fields["size"].meaning("5.00")


def test_nobody_is_asked_about_a_task_that_is_left_out():
    tasks = {"tags": MultiLabel(["hat"])}
    assert fields_of(tasks, {})["tags/hat"].doubt({"0", "-1"})
    assert fields_of({}, tasks)["tags/hat"].doubt({"0", "-1"}) is None
