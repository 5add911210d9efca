from mtl_lightning.audit.label_counts import label_counts
from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.runs.facts import LabelCounts
from tests.helpers.data import Memory, make_tasks


def test_each_source_and_all_of_them_are_counted_by_split():
    kinds = ["cat", "dog", None, "eel", "cat", None]
    people = Memory({"kind": kinds, "rare": ["no"] * 6}, ["train"] * 4 + ["val", "test"], "a")
    faces = Memory({"kind": ["dog"] * 3, "size": [1, 2, None]}, ["train"] * 3, "b")
    data = PartialLabels(make_tasks(), {"people": people, "faces": faces}, image_size=16)
    counts = label_counts(data.labels)
    assert counts.sources == {
        "people": LabelCounts(
            images={"train": 4, "val": 1, "test": 1},
            labelled={
                "kind": {"train": 3, "val": 1, "test": 0},
                "rare": {"train": 4, "val": 1, "test": 1},
            },
        ),
        "faces": LabelCounts(
            images={"train": 3, "val": 0, "test": 0},
            labelled={
                "kind": {"train": 3, "val": 0, "test": 0},
                "size": {"train": 2, "val": 0, "test": 0},
            },
        ),
    }
    assert counts.total.images == {"train": 7, "val": 1, "test": 1}
    assert counts.total.labelled["size"] == {"train": 2, "val": 0, "test": 0}
    assert counts.total.labelled["kind"] == {"train": 6, "val": 1, "test": 0}
