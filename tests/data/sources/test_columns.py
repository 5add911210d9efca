import pytest

from mtl_lightning.data.sources.columns import Columns
from mtl_lightning.system.errors import UserError
from tests.helpers.data import column

TASKS = ["type", "tags", "tags/hat", "tags/bag"]


def columns(**cells):
    return Columns(
        "t.csv",
        list(cells),
        lambda name: column(cells[name]),
        lambda i, name: f't.csv row {i + 2}, column "{name}"',
    )


def labels(cells, given=None, **options):
    source = columns(**cells)
    chosen = source.of_tasks(TASKS, given)
    found = source.labels(chosen, TASKS, **options)
    return {task: own.tolist() for task, own in found.items()}


def test_columns_are_found_by_name_or_by_what_the_user_says():
    source = columns(type=["a"], hat=["1"], bag=["0"], other=["x"])
    assert source.of_tasks(TASKS, None) == {
        "type": ["type"],
        "tags/hat": ["hat"],
        "tags/bag": ["bag"],
    }
    assert "type" not in source.of_tasks(TASKS, None, taken=("type",))
    given = {"type": ["other", "type"], "tags": {"hat": "bag"}}
    assert source.of_tasks(TASKS, given) == {"type": ["other", "type"], "tags/hat": ["bag"]}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, r"`labels` is empty; expected \{<task>: <column>\}"),
        ({"type": []}, "`labels` of type is empty; expected a column, or several"),
        ({"typ": "a"}, r'`labels` names the task "typ".*did you mean "type"'),
        ({"tags": {"hta": "a"}}, r'`labels` names the task "tags/hta".*mean "tags/hat"'),
        ({"type": ["a", "bb"]}, r'no column "bb" \(labels of task "type"\); columns: a, b'),
    ],
)
def test_wrong_labels(given, message):
    with pytest.raises(UserError, match=message):
        columns(a=["x"], b=["y"]).of_tasks(TASKS, given)


def test_no_column_for_any_task():
    with pytest.raises(UserError, match=r"no column named after a task; tasks: type.*columns: a;"):
        columns(a=["x"]).of_tasks(TASKS, None)


def test_several_columns_answer_next_to_each_other():
    cells = {"new": ["a", None, None, "d"], "old": [None, "b", None, "d"]}
    found = labels(cells, {"type": ["new", "old"]})
    assert found == {"type": [["a", None], [None, "b"], [None, None], ["d", "d"]]}


def test_columns_are_translated_each():
    cells = {"new": ["a", "b"], "old": ["A", None]}
    values = {"type": {"A": "a"}}
    with pytest.raises(UserError, match='row 3, column "new": "b" is not among the `values` A'):
        labels(cells, {"type": ["new", "old"]}, values=values)
    found = labels(cells, {"type": ["new", "old"]}, values={"A": "a"})
    assert found == {"type": [["a", "a"], ["b", None]]}


@pytest.mark.parametrize("entry", ["-1", "-1.0", " -1 ", "-1.00"])
@pytest.mark.parametrize("cell", ["-1", "-1.0", "-1e+00"])
def test_missing_and_values_are_meant_whatever_a_program_writes(entry, cell):
    assert labels({"type": ["x", cell]}, missing=[entry]) == {"type": ["x", None]}
    for values in ({entry: "no"}, {"type": {entry: "no", "x": "x"}}):
        assert labels({"type": ["x", cell]}, values=values) == {"type": ["x", "no"]}


def test_entries_that_no_cell_is_are_reported_with_the_nearest_cell():
    source = columns(type=["unknown", "male", "x"], hat=["1", "0.0", None])
    chosen = source.of_tasks(TASKS, None)
    values = {"0": "no", "1.00": "yes", "2": "no", "tags": {"yse": "no", "yes": "yes", "no": "no"}}
    found = source.labels(chosen, TASKS, values, missing=["unkown", ""])
    assert found["tags/hat"].tolist() == ["yes", "no", None]
    assert source.notes == [
        '"unkown" of `missing` is in no cell of the labels; did you mean "unknown"?',
        '"2" of `values` is in no cell of the labels',
        '"yse" of `values of tags` is in no cell of the labels',
    ]


def test_columns_and_labels_are_found_in_any_normalisation_of_unicode():
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    source = columns(**{composed: ["1"]})
    found = source.of_tasks(["tags", f"tags/{composed}"], {"tags": {decomposed: decomposed}})
    assert found == {f"tags/{composed}": [composed]}


def test_values_of_a_task_name_every_text_or_have_it_as_a_meaning():
    cells = {"type": ["m", "f", "female", None, "?"]}
    values = {"type": {"m": "male", "f": "female", "?": None}}
    assert labels(cells, values=values) == {"type": ["male", "female", "female", None, None]}
    with pytest.raises(UserError) as caught:
        labels({"type": ["m", "F"]}, values=values)
    assert str(caught.value) == (
        't.csv row 3, column "type": "F" is not among the `values` m, f, ?; did you mean "f"?; '
        "give its meaning, or null"
    )


def test_values_for_all_tasks_let_others_pass():
    cells = {"type": ["x", "ja"], "hat": ["ja", "nein"]}
    found = labels(cells, values={"ja": "yes", "nein": "no"})
    assert found == {"type": ["x", "yes"], "tags/hat": ["yes", "no"]}


def test_values_of_a_multi_label_task_are_for_each_of_its_labels_and_come_last():
    cells = {"type": ["ja"], "hat": ["ja"], "bag": ["+"]}
    values = {"+": "ja", "tags": {"ja": "yes"}, "tags/bag": {"ja": "no"}}
    assert labels(cells, values=values) == {
        "type": ["ja"],
        "tags/hat": ["yes"],
        "tags/bag": ["no"],
    }


def test_missing_texts_are_no_labels_and_need_no_meaning():
    found = labels({"type": ["m", "NA"]}, values={"type": {"m": "male"}}, missing=["NA"])
    assert found == {"type": ["male", None]}


def test_values_of_an_unknown_task():
    with pytest.raises(UserError, match=r'`values` names the task "typ", .*did you mean "type"'):
        labels({"type": ["m"]}, values={"typ": {"m": "male"}})


def test_a_column_by_its_name_or_by_the_default():
    source = columns(group=["a"], sender=["b"])
    assert source.optional(None, "group", ()).tolist() == ["a"]
    assert source.optional(None, "group", ("group",)) is None
    assert source.optional("sender", "group", ("group",)).tolist() == ["b"]
    with pytest.raises(UserError, match=r'no column "sendr" \(group\).*did you mean "sender"'):
        source.optional("sendr", "group", ())


def test_splits_are_spelt_in_many_ways():
    source = columns(split=["Training", "dev", None, "TEST"], fold=["train", "trian", "x", None])
    assert source.splits(None, ()).tolist() == ["train", "val", None, "test"]
    assert source.splits(None, ("split",)) is None
    with pytest.raises(
        UserError, match=r't.csv row 3, column "fold": "trian" is not a split.*"train"'
    ):
        source.splits("fold", ())
