"""The table of labels, without a trainer and without loading an image."""

import re

import numpy as np
import pytest

from mtl_lightning.data.labels import LabelTable
from mtl_lightning.data.merging import MergeOptions
from mtl_lightning.data.mirroring.mirror import Mirror
from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks import Classification, MultiLabel, Regression
from tests.helpers.data import Memory

CELLS = {
    "side": ["left", "right", None, "left", "left", None],
    "size": ["1", None, "3", None, "5", None],
    "tags/hat": ["yes", None, "no", None, "yes", None],
    "tags/bag": [None, None, "yes", None, "no", None],
}
SPLITS = ["train", "train", "train", "train", "val", "test"]


def tasks():
    return {
        "side": Classification(["left", "right"]),
        "size": Regression(),
        "tags": MultiLabel(["hat", "bag"]),
    }


def table(cells=None, splits=SPLITS, own=None, **arguments):
    source = Memory(CELLS if cells is None else cells, splits)
    return LabelTable(tasks() if own is None else own, {"m": source}, MergeOptions(), **arguments)


def encoded(**arguments):
    labels = table(**arguments)
    labels.encode()
    return labels


def test_a_task_has_one_column_or_one_for_each_label():
    labels = table()
    assert labels.fields("side") == ["side"]
    assert labels.fields("tags") == ["tags", "tags/hat", "tags/bag"]
    assert labels.cells("side").tolist() == CELLS["side"]
    assert labels.cells("tags").tolist() == [
        [None, "yes", None],
        [None, None, None],
        [None, "no", "yes"],
        [None, None, None],
        [None, "yes", "no"],
        [None, None, None],
    ]
    assert labels.has_label("tags").tolist() == [True, False, True, False, True, False]


def test_cells_are_compared_by_what_each_task_reads_also_of_tasks_left_out():
    labels = table(own={"size": Regression()}, left_out={"tags": MultiLabel(["hat", "bag"])})
    assert list(labels.columns) == ["size", "tags", "tags/hat", "tags/bag"]
    assert labels.columns["size"].meaning("5.0") == labels.columns["size"].meaning("5")
    assert labels.columns["tags/hat"].meaning("1") == labels.columns["tags/hat"].meaning("yes")
    assert list(labels.table.cells) == ["size", "tags", "tags/hat", "tags/bag"], "merged"
    labels.encode()
    assert list(labels.encoded) == ["size"], "but not encoded"


def test_targets_and_masks_of_all_rows():
    labels = encoded()
    side, size, tags = (labels.encoded[name] for name in ("side", "size", "tags"))
    assert side.labelled.tolist() == [True, True, False, True, True, False]
    assert side.targets[side.labelled].tolist() == [0, 1, 0, 0]
    assert size.targets[size.labelled].tolist() == [1.0, 3.0, 5.0]
    assert tags.labelled.tolist() == [
        [True, False],
        [False, False],
        [True, True],
        [False, False],
        [True, True],
        [False, False],
    ]
    assert tags.counts().tolist() == [1, 0, 2, 0, 2, 0]


def test_rows_are_those_of_a_split_that_carry_any_label():
    labels = encoded()
    assert {split: labels.rows(split).tolist() for split in ("train", "val", "test")} == {
        "train": [0, 1, 2, 3],
        "val": [4],
        "test": [],
    }
    alone = encoded(own={"size": Regression()})
    assert alone.rows("train").tolist() == [0, 2]
    assert alone.rows("train", unlabelled=True).tolist() == [0, 1, 2, 3]


def test_training_labels_are_those_of_labelled_training_rows():
    labels = encoded()
    targets, labelled = labels.training_labels("size")
    assert (targets.tolist(), labelled.tolist()) == ([1.0, 3.0], [True, True])
    targets, labelled = labels.training_labels("tags")
    assert labelled.tolist() == [[True, False], [True, True]]
    assert targets[labelled].tolist() == [1.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("probability", "targets"),
    [(0.0, [0, 1, 0]), (1.0, [1, 0, 1]), (0.25, [1, 0, 1, 0, 1, 0, 0, 1, 0, 0, 1, 0])],
)
def test_training_labels_of_mirrored_images_come_in_proportion(probability, targets):
    mirror = Mirror({"side": {"left": "right"}}, probability)
    labels = encoded(mirror=mirror)
    side = labels.encoded["side"].labelled
    assert labels.mirrored["side"].targets[side].tolist() == [1, 0, 1, 1]
    assert list(labels.mirrored) == ["side"], "the others keep their labels"
    assert labels.training_labels("side")[0].tolist() == targets
    assert labels.training_labels("size")[0].tolist() == [1.0, 3.0]


def test_classes_are_found_once_in_the_training_labels_alone():
    labels = table({"n": ["10", "2", "2", "7"]}, ["train"] * 3 + ["val"], {"n": Classification()})
    assert labels.infer_classes() == {"n": {"classes": ["2", "10"]}}
    message = 'memory memory:3: task n cannot read the label "7"; expected one of'
    with pytest.raises(UserError, match=re.escape(message)):
        labels.encode()


def test_a_task_that_could_never_learn_says_where_its_labels_are():
    labels = table(
        {"n": [None, "a", "b", "a"]}, ["train", "val", "val", "test"], {"n": Regression()}
    )
    message = (
        "task n: no label in the training split (0 in train, 2 in val, 1 in test), so it could "
        "never learn; label some"
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        labels.infer_classes()


def test_an_unreadable_label_of_one_of_several_columns_is_named_with_their_number():
    cells = CELLS | {"tags/bag": [None, "perhaps", "maybe", None, "no", None]}
    labels = table(cells)
    for _ in range(2):  # the second time too: nothing half-read is kept
        with pytest.raises(UserError, match=r'task tags cannot read the label "perhaps" \(2 lab'):
            labels.encode()
        assert not labels.encoded


def test_a_mirrored_class_that_is_not_there_leaves_nothing_half_encoded():
    labels = table(mirror=Mirror({"side": {"left": "up"}}))
    with pytest.raises(UserError, match=r"data\.mirror\.swap\.side"):
        labels.encode()
    assert not labels.encoded


def test_sources_are_read_once_and_not_at_all_where_a_table_is_reused():
    class Counted(Memory):
        reads = 0

        def read(self, tasks):
            Counted.reads += 1
            return super().read(tasks)

    source = Counted(CELLS, SPLITS)
    labels = LabelTable(tasks(), {"m": source}, MergeOptions())
    assert labels.table is labels.table
    other = LabelTable(tasks(), {"m": source}, MergeOptions())
    other.reuse(labels.table)
    other.encode()
    assert Counted.reads == 1
    assert other.rows("train").tolist() == [0, 1, 2, 3]


def test_without_sources_there_is_no_table():
    with pytest.raises(UserError, match=r"^data\.sources should name at least one source"):
        _ = LabelTable(tasks(), {}, MergeOptions()).table


def test_what_a_sampling_may_know():
    population = encoded().population(np.array([3, 0, 2]))
    assert population.source.tolist() == [0, 0, 0]
    assert population.shard.tolist() == [-1, -1, -1]
    assert {name: strata.tolist() for name, strata in population.strata.items()} == {
        "side": [0, 0, -1],
        "size": [-1, 0, 0],
        "tags": [-1, 0, 0],
    }


def test_messages_name_image_and_row():
    assert table().image_name(2) == "memory:2 (memory memory:2)"


def test_notes():
    cells = CELLS | {"size": ["1", None, "3", None, None, None], "side": [None, *CELLS["side"][1:]]}
    labels = encoded(cells={**cells, "tags/hat": [None] * 6, "tags/bag": CELLS["tags/bag"]})
    assert labels.notes() == ["task size has no label in val: it is reported as absent"]
    alone = encoded(own={"size": Regression()}, splits=["train"] * 6)
    assert alone.notes() == [
        "3 training images carry no label and are left out",
        "there is no validation image: nothing is measured, best.ckpt not written",
    ]
    bare = "3 training images carry no label and are trained on nevertheless"
    assert alone.notes(unlabelled=True)[0] == bare
