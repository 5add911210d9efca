import os
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.data.fields import Field
from mtl_lightning.data.intensity import Intensity
from mtl_lightning.data.merging import MergeOptions, merge
from mtl_lightning.data.sources import (
    DigitsSource,
    FolderSource,
    TableSource,
)
from mtl_lightning.data.splits import SPLITS
from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks import Classification, MultiLabel, Regression
from tests.helpers.data import Memory, Rows, row
from tests.helpers.segmentation import RedParts

FRACTIONS = {"val": 0.1, "test": 0.2}
OWN = {task: [task] for task in ("type", "audience", "expression", "gender", "digit", "parity")}


def test_the_recipes_own_example(tmp_path):
    """Five images with an expression, six with a gender: eleven rows, two tasks."""
    names = [f"e{i}.png" for i in range(5)] + [f"g{i}.png" for i in range(6)]
    for value, name in enumerate(names):
        Image.new("RGB", (4, 4), (value, 0, 0)).save(tmp_path / name)
    expressions = ["smile", "neutral", "frown", "smile", "frown"]
    genders = ["f", "m", "f", "m", "m", "f"]
    for task, column, part in [
        ("expression", expressions, names[:5]),
        ("gender", genders, names[5:]),
    ]:
        lines = [f"{n},{v}" for n, v in zip(part, column, strict=True)]
        (tmp_path / f"{task}.csv").write_text("\n".join([f"image,{task}", *lines]))
    sources = {t: TableSource(tmp_path / f"{t}.csv") for t in ("expression", "gender")}
    table = merge(sources, ["expression", "gender"], MergeOptions(FRACTIONS, 7))
    assert len(table) == 11
    assert table.cells["expression"].tolist() == expressions + [None] * 6
    assert table.cells["gender"].tolist() == [None] * 5 + genders
    assert table.source.tolist() == [0] * 5 + [1] * 6
    assert [table.load(i)[0, 0, 0] for i in range(11)] == list(range(11))
    assert table.location(7) == f"{tmp_path}/gender.csv row 4"
    counts = table.counts(OWN)
    assert sum(counts.labelled["expression", "expression", split] for split in SPLITS) == 5
    assert sum(counts.images["gender", split] for split in SPLITS) == 6
    assert ("expression", "gender", "train") not in counts.labelled


def test_one_image_in_a_table_twice_and_in_a_folder_is_one_row(tmp_path):
    (tmp_path / "photos/kids").mkdir(parents=True)
    for name in ("a", "b"):
        (tmp_path / f"photos/kids/{name}.jpg").touch()
    (tmp_path / "link.jpg").symlink_to("photos/kids/a.jpg")
    (tmp_path / "t.csv").write_text("image,type\nlink.jpg,\n./photos/kids/a.jpg,Dress\n")
    sources = {
        "types": TableSource(tmp_path / "t.csv"),
        "who": FolderSource(tmp_path / "photos", "audience"),
    }
    table = merge(sources, ["type", "audience"], MergeOptions())
    assert table.images.tolist() == [
        os.path.realpath(tmp_path / f"photos/kids/{n}.jpg") for n in "ab"
    ]
    assert table.cells["type"].tolist() == ["Dress", None]
    assert table.cells["audience"].tolist() == ["kids", "kids"]
    assert table.source.tolist() == [0, 1]
    assert table.location(0) == f"{tmp_path}/t.csv row 2"
    assert table.location(0, "type") == f'{tmp_path}/t.csv row 3, column "type"'
    assert table.location(0, "audience") == f"folder {tmp_path}/photos/ kids/a.jpg"
    assert table.location(1, "type") == f"folder {tmp_path}/photos/ kids/b.jpg"
    assert table.counts(OWN).labelled == {
        ("types", "type", "train"): 1,
        ("types", "type", "val"): 0,
        ("types", "type", "test"): 0,
        ("who", "audience", "train"): 2,
        ("who", "audience", "val"): 0,
        ("who", "audience", "test"): 0,
    }
    assert table.counts(OWN).images["types", "train"] == 1


def test_contradictory_labels_name_both_rows():
    one = Rows(row("x", type="Dress"), row("y", type="Hat"), name="type.csv")
    two = Rows(row("z"), row("x"), row("y", type="Shirt"), name="audience.csv")
    with pytest.raises(UserError) as caught:
        merge({"one": one, "two": two}, ["type"], MergeOptions())
    assert str(caught.value) == (
        'type.csv row 3 says "Hat", audience.csv row 4 says "Shirt" for y (task "type"); '
        "expected one answer, or data.on_conflict: first or drop"
    )
    within = Rows(row("x", type="Dress"), row("x", type="Hat"), name="type.csv")
    with pytest.raises(UserError, match=r'type.csv row 2 says "Dress", type.csv row 3 says "Hat"'):
        merge({"one": within}, ["type"], MergeOptions())


@pytest.mark.parametrize(
    ("on_conflict", "cells", "holds"),
    [("first", ["Dress", "Hat", None], "the first"), ("drop", [None, "Hat", None], "none")],
)
def test_of_contradictory_labels_the_first_may_hold_or_none(on_conflict, cells, holds):
    one = Rows(row("x", type="Dress"), row("y"), row("x", type="Hat"), name="type.csv")
    two = Rows(row("z"), row("x", type="Shirt"), row("y", type="Hat"), name="audience.csv")
    table = merge({"one": one, "two": two}, ["type"], MergeOptions(on_conflict=on_conflict))
    assert table.images.tolist() == ["x", "y", "z"]
    assert table.cells["type"].tolist() == cells
    assert table.location(0, "type") == "type.csv row 2"
    assert table.location(1, "type") == "audience.csv row 4"
    assert table.notes() == [
        f"images with labels that contradict each other, task type: 1; {holds} holds "
        f"(data.on_conflict)"
    ]
    clear = merge({"two": two}, ["type"], MergeOptions(on_conflict=on_conflict))
    assert clear.notes() == []


@pytest.mark.parametrize("on_conflict", ["first", "drop"])
def test_a_split_that_is_contradicted_is_always_an_error(on_conflict):
    one = Rows(row("x", "train"), row("x", "test"), name="a.csv")
    with pytest.raises(
        UserError, match=r'row 2 says "train", a.csv row 3 .*; expected one answer$'
    ):
        merge({"one": one}, [], MergeOptions(on_conflict=on_conflict))


def photos(folder, **contents):
    folder.mkdir()
    for name, content in contents.items():
        (folder / f"{name}.png").write_bytes(content.encode())
    return folder


def test_copies_are_one_image_by_their_content(tmp_path):
    one = photos(tmp_path / "one", a="AAA", b="BBB", c="AAA")
    two = photos(tmp_path / "two", x="BBB", y="YYY", z="AAA")
    (one / "t.csv").write_text("image,type\na.png,Dress\nb.png,\nc.png,\n")
    (two / "t.csv").write_text("image,type,age\nx.png,Hat,\ny.png,Hat,3\nz.png,,4\n")
    sources = {"one": TableSource(one / "t.csv"), "two": TableSource(two / "t.csv")}
    assert len(merge(sources, ["type", "age"], MergeOptions())) == 6
    table = merge(sources, ["type", "age"], MergeOptions(same_by="content"))
    assert [os.path.basename(image) for image in table.images] == ["a.png", "b.png", "y.png"]
    assert table.source.tolist() == [0, 0, 1]
    assert table.cells["type"].tolist() == ["Dress", "Hat", "Hat"]
    assert table.cells["age"].tolist() == ["4", None, "3"]
    assert table.location(1, "type") == f'{two}/t.csv row 2, column "type"'


def test_a_copy_in_another_split_is_an_error(tmp_path):
    folder = photos(tmp_path / "photos", a="AAA", b="AAA")
    (folder / "t.csv").write_text("image,type,split\na.png,Dress,train\nb.png,Dress,test\n")
    source = TableSource(folder / "t.csv")
    assert len(merge({"s": source}, ["type"], MergeOptions())) == 2
    with pytest.raises(UserError, match=r'row 2 says "train", \S+ row 3 says "test" for .*/a.png'):
        merge({"s": source}, ["type"], MergeOptions(same_by="content"))


def test_an_image_that_two_sources_would_load_differently_is_an_error(tmp_path):
    for name in "ab":
        Image.new("L", (4, 4), 9).save(tmp_path / f"{name}.png")
    (tmp_path / "t.csv").write_text("image,type\na.png,x\nb.png,y")
    (tmp_path / "u.csv").write_text("image,gender\nb.png,m")

    def merged(**intensities):
        sources = {
            name: TableSource(tmp_path / f"{name}.csv", intensity=intensities.get(name))
            for name in "tu"
        }
        return merge(sources, ["type", "gender"], MergeOptions())

    half, whole = Intensity(min=0, max=99), Intensity(percentiles=[0, 100])
    with pytest.raises(UserError) as error:
        merged(t=half, u=whole)
    assert str(error.value) == (
        f"data.sources.t and data.sources.u both have {tmp_path}/u.csv row 2, and their "
        "`intensity` differs: {min: 0, max: 99} and {percentiles: [0, 100]}; give both the same"
    )
    with pytest.raises(UserError, match="differs: None and"):
        merged(u=whole)
    assert merged(t=half, u=Intensity(min=0, max=99)).load(1)[0, 0, 0] == 23
    Image.new("L", (4, 4), 9).save(tmp_path / "c.png")
    (tmp_path / "u.csv").write_text("image,gender\nc.png,m")
    assert [merged(u=half).load(i)[0, 0, 0] for i in range(3)] == [9, 9, 23]


def test_images_may_be_one_by_a_key_column(tmp_path):
    folder = photos(tmp_path / "photos", a="AAA", b="BBB", c="CCC")
    (folder / "one.csv").write_text("image,id,type\na.png,7,Dress\nb.png,8,\n")
    (folder / "two.csv").write_text("image,id,age\nc.png,7,5\n")
    sources = {n: TableSource(folder / f"{n}.csv", key="id") for n in ("one", "two")}
    table = merge(sources, ["type", "age"], MergeOptions(same_by="key"))
    assert [os.path.basename(image) for image in table.images] == ["a.png", "b.png"]
    assert table.cells["type"].tolist() == ["Dress", None]
    assert table.cells["age"].tolist() == ["5", None]
    (folder / "two.csv").write_text("image,id,age\nc.png,,5\n")
    with pytest.raises(
        UserError, match=r'two.csv row 2, column "id" is empty; expected the name of the'
    ):
        merge(sources, ["type", "age"], MergeOptions(same_by="key"))
    sources["two"].key = "ids"
    with pytest.raises(UserError, match=r'no column "ids" \(key\); .*; did you mean "id"'):
        merge(sources, ["type", "age"], MergeOptions(same_by="key"))


def test_contradictory_splits_name_both_rows():
    one = Rows(row("x", "train"), name="a.csv")
    two = Rows(row("x", "test"), name="b.csv")
    with pytest.raises(UserError, match=r'a.csv row 2 says "train", b.csv row 2 says "test" for x'):
        merge({"one": one, "two": two}, [], MergeOptions())
    linked = Rows(row("y", "test", "g"), name="b.csv")
    with pytest.raises(
        UserError, match=r'group "g" .* a.csv row 2 says train, b.csv row 2 says te'
    ):
        merge(
            {"one": Rows(row("x", "train", "g"), name="a.csv"), "two": linked}, [], MergeOptions()
        )


def test_one_date_for_each_image(tmp_path):
    for name in "xyz":
        (tmp_path / f"{name}.jpg").touch()
    (tmp_path / "a.csv").write_text("image,type,day\nx.jpg,1,2024\ny.jpg,2,\nz.jpg,2,\n")
    (tmp_path / "b.csv").write_text("image,age,day\nx.jpg,1,2024-01-01\ny.jpg,2,2023-05-06\n")
    sources = {name: TableSource(tmp_path / f"{name}.csv", date="day") for name in "ab"}
    table = merge(sources, ["type", "age"], MergeOptions())
    assert np.datetime_as_string(table.dates, "D").tolist() == ["2024-01-01", "2023-05-06", "NaT"]
    sources["a"].date = sources["b"].date = None
    assert merge(sources, ["type", "age"], MergeOptions()).dates is None
    (tmp_path / "b.csv").write_text("image,age,day\nx.jpg,1,2024-01-02\n")
    sources["a"].date = sources["b"].date = "day"
    message = r'a\.csv row 2 says "2024-01-01", .*b\.csv row 2 says "2024-01-02" .*x\.jpg \(date\);'
    with pytest.raises(UserError, match=message):
        merge(sources, ["type", "age"], MergeOptions())
    found = []
    merge(sources, ["type", "age"], MergeOptions(), lambda *each: found.append(each[0]))
    assert found == ["date"]


def test_a_split_named_in_one_source_holds_in_all():
    one = Rows(*(row(f"i{i}", "test") for i in range(5)))
    two = Rows(*(row(f"i{i}", type="x") for i in range(5)), row("j", type="y"))
    table = merge({"one": one, "two": two}, ["type"], MergeOptions())
    assert [SPLITS[s] for s in table.splits] == ["test"] * 5 + ["train"]


def test_an_image_with_two_groups_joins_them():
    one = Rows(row("a", None, "g1"), row("b", None, "g1"), row("c", None, "g2"))
    two = Rows(row("b", None, "h"), row("d", "test", "h"), row("e", None, "g2"))
    splits = merge({"one": one, "two": two}, [], MergeOptions()).splits
    assert [SPLITS[s] for s in splits] == ["test", "test", "train", "test", "train"]


def components(sources):
    """Label each image with its component, the slow and obvious way."""
    members = {}
    for position, source in enumerate(sources):
        for image, _, _, group in source.rows:
            members.setdefault(("g", group) if group else ("i", image, position), set()).add(image)
    sets = []
    for images in members.values():
        touching = [s for s in sets if s & images]
        sets = [s for s in sets if not s & images] + [images.union(*touching)]
    return {image: n for n, images in enumerate(sets) for image in images}


@pytest.mark.parametrize("seed", range(15))
def test_random_merges_agree_with_the_slow_and_obvious_way(seed):
    random = np.random.default_rng(seed)
    truth = {f"i{i}": str(random.integers(3)) for i in range(60)}

    def source(name):
        rows = []
        for i in random.integers(0, 60, 40):
            group = f"g{random.integers(25)}" if random.random() < 0.4 else None
            label = truth[f"i{i}"] if random.random() < 0.5 else None
            rows.append(row(f"i{i}", None, group, type=label))
        return Rows(*rows, name=name)

    sources = {"a": source("a"), "b": source("b"), "c": source("c")}
    table = merge(sources, ["type"], MergeOptions(FRACTIONS, seed))

    seen = list(dict.fromkeys(r[0] for s in sources.values() for r in s.rows))
    assert table.images.tolist() == seen
    label = {r[0]: r[1]["type"] for s in sources.values() for r in s.rows if r[1]["type"]}
    assert table.cells["type"].tolist() == [label.get(image) for image in seen]
    of_component = {}
    whole = components(sources.values())
    for image, split in zip(seen, table.splits, strict=True):
        of_component.setdefault(whole[image], set()).add(split)
    assert all(len(splits) == 1 for splits in of_component.values())
    assert set(table.splits) <= {0, 1, 2}
    counts = table.counts(OWN)
    for name, rows in ((name, s.rows) for name, s in sources.items()):
        split_of = dict(zip(seen, table.splits, strict=True))
        images = Counter(split_of[i] for i in {r[0] for r in rows})
        labelled = Counter(split_of[i] for i in {r[0] for r in rows if r[1]["type"]})
        assert [counts.images[name, s] for s in SPLITS] == [images[i] for i in range(3)]
        assert [counts.labelled[name, "type", s] for s in SPLITS] == [labelled[i] for i in range(3)]

    backwards = {name: Rows(*reversed(sources[name].rows), name=name) for name in reversed(sources)}
    other = merge(backwards, ["type"], MergeOptions(FRACTIONS, seed))
    assert dict(zip(other.images, other.splits, strict=True)) == dict(
        zip(seen, table.splits, strict=True)
    )


def test_a_folder_moved_elsewhere_is_divided_in_the_same_way(tmp_path):
    splits = []
    for place in ("here", "there/deeper"):
        root = tmp_path / place
        root.mkdir(parents=True)
        for i in range(40):
            (root / f"{i}.jpg").touch()
        (root / "t.csv").write_text("image,type\n" + "".join(f"{i}.jpg,x\n" for i in range(40)))
        table = merge({"s": TableSource(root / "t.csv")}, ["type"], MergeOptions(FRACTIONS, 3))
        splits.append(table.splits.tolist())
    assert splits[0] == splits[1]
    assert Counter(splits[0]) == {0: 28, 1: 4, 2: 8}


def test_val_from_train_is_reported():
    source = Rows(*(row(f"i{i}", "train") for i in range(20)), row("t", "test"))
    table = merge({"s": source}, [], MergeOptions(FRACTIONS))
    assert table.val_from_train
    assert np.bincount(table.splits).tolist() == [18, 2, 1]


def test_images_without_any_label_stay():
    table = merge({"s": Rows(row("a"), row("b", type="x"))}, ["type", "other"], MergeOptions())
    assert table.cells["type"].tolist() == [None, "x"]
    assert table.cells["other"].tolist() == [None, None]


def test_digits():
    source = DigitsSource(missing={"digit": 0.5})
    table = merge({"digits": source}, ["digit", "parity"], MergeOptions(FRACTIONS))
    assert len(table) == 1797
    assert (table.load(5) == source.load("digits:5")).all()
    labelled, images = table.counts(OWN).labelled, table.counts(OWN).images
    assert labelled["digits", "parity", "train"] == images["digits", "train"]
    assert labelled["digits", "digit", "train"] == round(images["digits", "train"] / 2)
    assert labelled["digits", "digit", "test"] == images["digits", "test"]


def test_errors_say_which_source(tmp_path):
    with pytest.raises(
        UserError, match=r"data.sources should name at least one source. Found none"
    ):
        merge({}, ["type"], MergeOptions())
    with pytest.raises(UserError, match=r"^data.sources.types: .*t.csv does not exist"):
        merge({"types": TableSource(tmp_path / "t.csv")}, ["type"], MergeOptions())
    with pytest.raises(UserError, match=r'splits should name val and test\. Found "vall"'):
        merge({"s": Rows(row("a"))}, [], MergeOptions({"vall": 0.1}))


def test_the_order_of_sources_with_different_roots_does_not_matter(tmp_path):
    (tmp_path / "sub").mkdir()
    for i in range(60):
        (tmp_path / f"sub/{i}.jpg").touch()
    (tmp_path / "up.csv").write_text("image,a\n" + "".join(f"sub/{i}.jpg,x\n" for i in range(60)))
    (tmp_path / "sub/in.csv").write_text("image,b\n" + "".join(f"{i}.jpg,y\n" for i in range(60)))
    sources = {"up": TableSource(tmp_path / "up.csv"), "in": TableSource(tmp_path / "sub/in.csv")}
    one = merge(sources, ["a", "b"], MergeOptions(FRACTIONS))
    other = merge(dict(reversed(sources.items())), ["a", "b"], MergeOptions(FRACTIONS))
    assert one.images.tolist() == other.images.tolist()
    assert one.splits.tolist() == other.splits.tolist()


@pytest.mark.parametrize(("name", "contradicts"), [("sub/m.png", False), ("m.png", True)])
def test_target_files_are_the_same_if_they_are_one_file(tmp_path, name, contradicts):
    (tmp_path / "sub").mkdir()
    for file in ("a.jpg", "m.png", "sub/m.png"):
        (tmp_path / file).touch()
    (tmp_path / "up.csv").write_text(f"image,parts\na.jpg,{name}\n")
    (tmp_path / "sub/in.csv").write_text("image,parts\n../a.jpg,m.png\n")
    inner = TableSource(tmp_path / "sub/in.csv", allow_outside_root=True)
    sources = {"up": TableSource(tmp_path / "up.csv"), "in": inner}
    columns = {"parts": Field(RedParts(), "parts", "")}
    if contradicts:
        with pytest.raises(UserError, match=r'up.csv row 2, column "parts".*in.csv row 2'):
            merge(sources, ["parts"], MergeOptions(), columns=columns)
    else:
        merged = merge(sources, ["parts"], MergeOptions(), columns=columns)
        assert merged.cells["parts"].tolist() == [f"{tmp_path}/sub/m.png"]


def test_every_contradiction_is_reported_and_the_first_answer_holds():
    one = Rows(
        row("x", "train", "g", type="Dress"),
        row("y", "test", "g", type="Hat"),
        row("z", type="Hat"),
    )
    two = Rows(row("x", "val", type="Shirt"), row("y", type="Shirt"), row("z", type="Hat"))
    warned = []
    table = merge(
        {"one": one, "two": two},
        ["type"],
        MergeOptions(),
        lambda about, text: warned.append((about, text)),
    )
    assert [about for about, _ in warned] == ['task "type"', 'task "type"', "split", "group"]
    assert warned[1][1] == (
        'rows row 3 says "Hat", rows row 3 says "Shirt" for y (task "type"); '
        "expected one answer, or data.on_conflict: first or drop"
    )
    assert table.cells["type"].tolist() == ["Dress", "Hat", "Hat"]
    assert [SPLITS[split] for split in table.splits] == ["train", "test", "train"]


def of_three(name, shards=None):
    return Memory({"t": ["a", None, "b"]}, [None] * 3, name, shards=shards)


def test_shards_are_numbered_over_all_sources():
    sources = {"x": of_three("x", [0, 0, 1]), "y": of_three("y"), "z": of_three("z", [0, 1, 1])}
    table = merge(sources, ["t"], MergeOptions())
    assert table.shard.tolist() == [0, 0, 1, -1, -1, -1, 2, 3, 3]
    assert table.keys.tolist() == [f"{name}:{i}" for name in "xyz" for i in range(3)]
    twice = merge({"y": of_three("x"), "x": of_three("x", [0, 0, 1])}, ["t"], MergeOptions())
    assert twice.shard.tolist() == [-1, -1, -1], "the source that loads the image decides"


def written(folder, suffix, **columns):
    """Write a table in one of the formats, its images too; gaps are None."""
    frame = pd.DataFrame(columns)
    path = folder / f"{len(list(folder.iterdir()))}{suffix}"
    for image in frame["image"]:
        (folder / image).touch()
    if suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True)
    elif suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False, sep="\t" if suffix == ".tsv" else ",")
    return path


formats = pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])


@formats
def test_missing_numbers_are_missing_however_they_are_written(tmp_path, suffix):
    path = written(
        tmp_path, suffix, image=["0", "1", "2"], edema=[1.0, -1.0, 0.0], p=[3.5, -1.0, 2.0]
    )
    source = TableSource(path, missing=["-1"], values={"1": "yes", "0": "no"})
    table = merge({"x": source}, ["edema", "p"], MergeOptions())
    assert table.cells["edema"].tolist() == ["yes", None, "no"]
    assert table.cells["p"].tolist() == ["3.5", None, "2"]
    assert table.notes() == []
    typo = TableSource(path, missing=["-2"], values={"1": "yes"})
    notes = merge({"x": typo}, ["edema", "p"], MergeOptions()).notes()
    assert notes == ['data.sources.x: "-2" of `missing` is in no cell of the labels']


@formats
@pytest.mark.parametrize("same_by", ["path", "key"])
def test_groups_written_as_floats_are_those_written_as_integers(tmp_path, suffix, same_by):
    one = written(
        tmp_path, suffix, image=["0", "1"], t=["a", "b"], group=[1, 2], split=["train", "test"]
    )
    two = written(tmp_path, suffix, image=["2", "3", "4"], t=["a"] * 3, group=[1.0, 2.0, None])
    sources = {"one": TableSource(one), "two": TableSource(two)}
    table = merge(sources, ["t"], MergeOptions(same_by=same_by))
    assert [SPLITS[split] for split in table.splits[:4]] == ["train", "test", "train", "test"]


@formats
def test_keys_written_as_floats_are_those_written_as_integers(tmp_path, suffix):
    one = written(tmp_path, suffix, image=["0", "1"], t=["a", None], id=[1, 2])
    two = written(tmp_path, suffix, image=["2", "3"], t=["a", "b"], id=[1.0, 2.5])
    sources = {name: TableSource(path, key="id") for name, path in [("one", one), ("two", two)]}
    table = merge(sources, ["t"], MergeOptions(same_by="key"))
    assert table.keys.tolist() == ["1", "2", "2.5"]
    assert table.cells["t"].tolist() == ["a", None, "b"]


@formats
def test_equal_labels_are_no_contradiction(tmp_path, suffix):
    one = written(
        tmp_path,
        suffix,
        image=["0", "1"],
        kind=[1, 2],
        size=["5", "0.5"],
        hat=["1", "0"],
        tags=["hat;bag", None],
        votes=["x:2|y:1", None],
    )
    two = written(
        tmp_path,
        suffix,
        image=["0", "2"],
        kind=[1.0, None],
        size=["5.00", "7"],
        hat=["yes", "no"],
        tags=["bag;hat", None],
        votes=["y:1|x:2", None],
    )
    tasks = {
        "kind": Classification(),
        "size": Regression(),
        "tags": MultiLabel(["hat", "bag"]),
        "votes": Classification(),
    }
    sources = {"one": TableSource(one), "two": TableSource(two)}
    for on_conflict in ("error", "drop"):
        data = PartialLabels(tasks, sources, on_conflict=on_conflict)
        assert data.labels.table.conflicts == {}
        cells = {name: own[0] for name, own in data.labels.table.cells.items()}
        assert cells == {
            "kind": "1",
            "size": "5",
            "tags": "hat;bag",
            "tags/hat": "1",
            "tags/bag": None,
            "votes": "x:2|y:1",
        }


@formats
def test_annotators_columns_follow_on_conflict(tmp_path, suffix):
    path = written(tmp_path, suffix, image=list("012"), ann1=["a", "a", None], ann2=["a", "b", "b"])
    source = TableSource(path, labels={"k": ["ann1", "ann2"]})
    for on_conflict, held in [("first", ["a", "a", "b"]), ("drop", ["a", None, "b"])]:
        table = merge({"x": source}, ["k"], MergeOptions(on_conflict=on_conflict))
        assert table.cells["k"].tolist() == held
        assert table.conflicts == {"k": 1}
        counted = table.counts({"k": ["k"]}).labelled
        assert counted["x", "k", "train"] == 3
    with pytest.raises(UserError, match=r'column "ann1" says "a", .*, column "ann2" says "b" for'):
        merge({"x": source}, ["k"], MergeOptions())


def test_what_differs_in_its_normalisation_of_unicode_alone_is_the_same(tmp_path):
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    one = Rows(row("a", None, composed, type=composed))
    two = Rows(row("b", "test", decomposed, type=decomposed), row(f"{decomposed}.png"))
    table = merge({"one": one, "two": two}, ["type"], MergeOptions())
    assert table.cells["type"].tolist() == [composed, composed, None]
    assert [SPLITS[split] for split in table.splits] == ["test", "test", "train"]
    assert table.keys.tolist() == ["a", "b", f"{composed}.png"]
    (tmp_path / f"photos/{decomposed}").mkdir(parents=True)
    (tmp_path / f"photos/{decomposed}/x.png").touch()
    folder = merge({"f": FolderSource(tmp_path / "photos", "type")}, ["type"], MergeOptions())
    assert folder.cells["type"].tolist() == [composed]


@formats
def test_minus_one_next_to_zero_must_be_settled(tmp_path, suffix):
    path = written(tmp_path, suffix, image=list("0123"), edema=[1.0, 0.0, -1.0, None])
    other = written(tmp_path, suffix, image=list("45"), edema=[1, -1])
    tasks = {"x": MultiLabel(["edema"])}
    data = PartialLabels(tasks, {"a": TableSource(path), "b": TableSource(other)})
    with pytest.raises(UserError) as caught:
        data.labels.table  # noqa: B018 - it is read when it is first asked for
    row = 3 if suffix in (".jsonl", ".parquet") else 4
    assert str(caught.value).startswith(
        f'data.sources.a: {path} row {row}, column "edema": "-1" next to "0" may mean no, or not'
    )
    for settled, cell in [({"missing": ["-1"]}, None), ({"values": {"-1": "no"}}, "no")]:
        sources = {"a": TableSource(path, **settled), "b": TableSource(other)}
        table = PartialLabels(tasks, sources).labels.table
        assert table.cells["x/edema"].tolist() == ["1", "0", cell, None, "1", "-1"]


def test_rows_with_and_without_images_are_joined_by_their_key(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "scan.png")
    (tmp_path / "patients.csv").write_text("id,type,age\n1,a,40\n2,b,50\n")
    (tmp_path / "scans.csv").write_text("id,image,audience,age\n2,scan.png,x,50.0\n3,,y,60\n")
    sources = {
        "patients": TableSource(tmp_path / "patients.csv", image=None, key="id"),
        "scans": TableSource(tmp_path / "scans.csv", key="id"),
    }
    for source in sources.values():
        source.inputs_wanted = ["age"]
    options = MergeOptions(FRACTIONS, same_by="key")
    table = merge(sources, ["type", "audience"], options, inputs={"age": float})
    assert table.keys.tolist() == ["1", "2", "3"]
    assert table.inputs["age"].tolist() == ["40", "50", "60"]
    assert table.has_image.tolist() == [False, True, False]
    assert table.load(1).shape == (4, 4, 3)  # of the second source, which has it
    assert table.cells["audience"].tolist() == [None, "x", "y"]


def test_rows_without_image_and_key_are_nobody_elses(tmp_path):
    sources = {}
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "t.csv").write_text("type,age\na,1\nb,2\n")
        sources[name] = TableSource(tmp_path / name / "t.csv", image=None)
        sources[name].inputs_wanted = ["age"]
    options = MergeOptions(FRACTIONS, same_by="key")
    assert len(merge(sources, ["type"], options, inputs={"age": float}).keys) == 4


def test_only_rows_with_an_image_have_an_intensity(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    (tmp_path / "one.csv").write_text("id,image,type\n1,a.png,a\n")
    (tmp_path / "two.csv").write_text("id,type,age\n1,a,3\n")
    sources = {
        "one": TableSource(tmp_path / "one.csv", key="id", intensity=Intensity(0, 9)),
        "two": TableSource(tmp_path / "two.csv", image=None, key="id"),
    }
    for source in sources.values():
        source.inputs_wanted = ["age"]
    options = MergeOptions(FRACTIONS, same_by="key")
    assert len(merge(sources, ["type"], options, inputs={"age": float}).keys) == 1


def test_inputs_that_contradict_each_other_are_an_error(tmp_path):
    for name, age in (("one", 40), ("two", 41)):
        (tmp_path / f"{name}.csv").write_text(f"id,type,age\n1,a,{age}\n")
    sources = {
        name: TableSource(tmp_path / f"{name}.csv", image=None, key="id") for name in ("one", "two")
    }
    for source in sources.values():
        source.inputs_wanted = ["age"]
    with pytest.raises(UserError, match=r'one.csv row 2.*column "age" says "40".*\(input "age"\)'):
        merge(sources, ["type"], MergeOptions(FRACTIONS), inputs={"age": float})
    table = merge(
        sources, ["type"], MergeOptions(FRACTIONS, on_conflict="drop"), inputs={"age": float}
    )
    assert table.inputs["age"].tolist() == [None]
    assert table.notes() == [
        "rows with values that contradict each other, input age: 1; none holds (data.on_conflict)"
    ]


def test_a_column_is_an_input_or_a_label(tmp_path):
    (tmp_path / "t.csv").write_text("type\nDress\n")
    source = TableSource(tmp_path / "t.csv", image=None, inputs={"kind": "type"})
    source.inputs_wanted = ["kind"]
    with pytest.raises(UserError, match=r's: column "type" should be an input or a label. Found b'):
        merge({"s": source}, ["type"], MergeOptions(FRACTIONS), inputs={"kind": str})
