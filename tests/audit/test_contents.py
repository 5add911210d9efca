from mtl_lightning.audit.contents import described, findings, shown
from mtl_lightning.audit.findings import Level
from mtl_lightning.data.merging import MergeOptions, merge
from tests.helpers.support import Memory


def merged(labels, splits):
    return merge({"m": Memory(labels, splits)}, list(labels), MergeOptions())


def test_leaks_conflicts_and_duplicates():
    kinds = ["a", "a", "b", "b", None, "a", "c"]
    table = merged({"kind": kinds, "size": range(7)}, ["train"] * 4 + ["val", "test", "test"])
    copies = described(table, [[0, 1], [2, 4, 5], [3, 6]])
    assert [copy.labels.get("kind") for copy in copies] == [None, ("b", "a"), ("b", "c")]
    assert copies[1].splits == ("train", "val", "test")
    found = findings(table, copies)
    assert [(finding.level, finding.what) for finding in found] == [
        (
            Level.ERROR,
            "images with copies in another split: 3; what is measured on them was trained on",
        ),
        (Level.WARNING, "copies of one image that are labelled in two ways, task kind: 2"),
        (Level.WARNING, "copies of one image that are labelled in two ways, task size: 3"),
        (Level.NOTE, "copies of images in the same split, which count twice: 1"),
    ]
    assert found[0].where == (
        "memory:2 (train) = memory:4 (val) = memory:5 (test)",
        "memory:3 (train) = memory:6 (test)",
    )
    assert found[1].where[0] == "memory:2 (b) = memory:4 (no label) = memory:5 (a)"


def test_no_copies_no_findings():
    assert findings(merged({"kind": ["a", "b"]}, ["train", "val"]), []) == []


def test_images_are_called_as_from_here(tmp_path):
    assert shown(str(tmp_path / "photos/a.jpg")) == "photos/a.jpg"
    assert shown("/elsewhere/a.jpg") == "/elsewhere/a.jpg"
