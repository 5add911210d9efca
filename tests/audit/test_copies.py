from dataclasses import replace

import pytest
from PIL import Image

from mtl_lightning.audit.copies import describe, display_path, findings
from mtl_lightning.audit.findings import Level
from mtl_lightning.data.fields import fields_of
from mtl_lightning.data.merging import MergeOptions, merge
from mtl_lightning.data.sources import TableSource
from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks import Classification, MultiLabel, Regression
from tests.helpers.data import Memory

KIND = fields_of({"kind": Classification()}, {})


def merged(labels, splits):
    return merge({"m": Memory(labels, splits)}, list(labels), MergeOptions())


def options(seed, **others):
    return MergeOptions(fractions={"val": 0.3, "test": 0.3}, seed=seed, **others)


def test_leaks_conflicts_and_duplicates():
    kinds = ["a", "a", "b", "b", None, "a", "c"]
    table = merged({"kind": kinds, "size": range(7)}, ["train"] * 4 + ["val", "test", "test"])
    columns = fields_of({"kind": Classification(), "size": Regression()}, {})
    copies = describe(table, [[0, 1], [2, 4, 5], [3, 6]], columns)
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
    assert found[0].fix.startswith("the tables name both splits: name one for all copies of an")
    assert found[1].where[0] == "memory:2 (b) = memory:4 (no label) = memory:5 (a)"


def photos(tmp_path, splits):
    """Write an image under three names, and their table; return what reads it."""
    for name in "abc":
        Image.new("L", (4, 4), 9).save(tmp_path / f"{name}.png")
    rows = [f"{name}.png,x,{split}" for name, split in zip("abc", splits, strict=True)]
    (tmp_path / "t.csv").write_text("\n".join(["image,kind,split", *rows]))
    return {"t": TableSource(tmp_path / "t.csv")}


@pytest.mark.parametrize("splits", [["", "", ""], ["train", "", ""], ["train", "train", ""]])
def test_a_leak_of_copies_is_fixed_by_the_setting_that_is_named(tmp_path, splits):
    sources = photos(tmp_path, splits)
    seeds = range(30)
    leaking = [merge(sources, ["kind"], options(seed)) for seed in seeds]
    found = [findings(table, describe(table, [[0, 1, 2]], KIND)) for table in leaking]
    leaks = [own[0] for own in found if own[0].level is Level.ERROR]
    assert leaks
    assert {leak.fix for leak in leaks} == {
        "data.same_by: content makes all copies one image, which has one split"
    }
    for seed in seeds:
        assert len(merge(sources, ["kind"], options(seed, same_by="content"))) == 1


def test_a_leak_that_the_tables_name_is_not_fixed_by_a_setting(tmp_path):
    sources = photos(tmp_path, ["train", "test", ""])
    table = merge(sources, ["kind"], options(0))
    (leak, *_) = findings(table, describe(table, [[0, 1, 2]], KIND))
    assert leak.fix.startswith("the tables name both splits")
    with pytest.raises(UserError, match=r'row 2 says "train", .* row 3 says "test"'):
        merge(sources, ["kind"], options(0, same_by="content"))


def test_copies_that_are_no_files_are_kept_together_by_a_group():
    table = merged({"kind": ["a", "a"]}, ["train", None])
    splits = table.splits.copy()
    splits[1] = 2
    table = replace(table, splits=splits)
    (leak,) = findings(table, describe(table, [[0, 1]], KIND))
    assert leak.fix == "keep one of each, or give all copies one group"


def test_equal_labels_do_not_differ():
    labels = {"tags": ["hat;bag", "bag;hat", "hat"], "tags/hat": ["1", "yes", None]}
    table = merged(labels, ["train"] * 3)
    columns = fields_of({"tags": MultiLabel(["hat", "bag"])}, {})
    (copy,) = describe(table, [[0, 1]], columns)
    assert copy.labels == {}
    (copy,) = describe(table, [[0, 1, 2]], columns)
    assert copy.labels == {"tags": ("hat;bag", "hat")}


def test_no_copies_no_findings():
    assert findings(merged({"kind": ["a", "b"]}, ["train", "val"]), []) == []


def test_images_are_called_as_from_here(tmp_path):
    assert display_path(str(tmp_path / "photos/a.jpg")) == "photos/a.jpg"
    assert display_path("/elsewhere/a.jpg") == "/elsewhere/a.jpg"
