from pathlib import Path

import pandas as pd
import pytest

from mtl_lightning.commands.proposal.columns import Kind
from mtl_lightning.commands.proposal.propose import propose
from mtl_lightning.data.sources import FilenameSource
from mtl_lightning.system.errors import UserError
from tests.helpers.files.messy import photo


@pytest.fixture(autouse=True)
def photos(own_process):
    for i in range(40):
        photo(Path(f"p/{i:02}.jpg"), i, 70, 100)


def table(path, start=0, **columns):
    rows = len(next(iter(columns.values())))
    frame = {"image": [f"p/{i + start:02}.jpg" for i in range(rows)], **columns}
    pd.DataFrame(frame).to_csv(path, index=False)
    return path


def test_two_tables_of_two_tasks():
    one = table("types.csv", type=["Dress", "Shirt", "Hat"] * 10)
    two = table("audience.csv", 10, audience=["adults"] * 25 + ["kids"] * 5)
    found = propose([one, two])
    assert [(plan.name, plan.kind, plan.names) for plan in found.tasks] == [
        ("type", Kind.CLASSES, ["Dress", "Hat", "Shirt"]),
        ("audience", Kind.CLASSES, ["adults", "kids"]),
    ]
    assert [plan.balanced for plan in found.tasks] == [False, True]
    assert [source.arguments for source in found.sources] == [
        {"path": "types.csv", "image": "image", "labels": {"type": "type"}},
        {"path": "audience.csv", "image": "image", "labels": {"audience": "audience"}},
    ]
    assert (found.images, found.has_splits, found.left_out, found.notes) == (40, False, [], [])
    assert (found.image_size, found.median) == ((64, 96), (70, 100))


def test_paths_that_leave_the_tables_folder_are_allowed_by_the_config_alone():
    Path("d").mkdir()
    frame = {"image": [f"../p/{i:02}.jpg" for i in range(20)], "kind": ["x", "y"] * 10}
    pd.DataFrame(frame).to_csv("d/t.csv", index=False)
    (source,) = propose(["d/t.csv"]).sources
    assert source.arguments["allow_outside_root"] is True
    assert "only for trusted tables" in source.remarks["allow_outside_root"]


def test_a_column_of_one_name_in_two_tables_is_one_task():
    one = table("a.csv", kind=["x", "y"] * 10)
    two = table("b.csv", 20, kind=["y", "z"] * 10)
    (plan,) = propose([one, two]).tasks
    assert plan.counts == {"x": 10, "y": 20, "z": 10}
    assert plan.labels == 40


def test_columns_that_say_yes_or_no_are_one_task():
    one = table("a.csv", hat=["yes", "no"] * 10, bag=["no"] * 18 + ["yes"] * 2)
    two = table("b.csv", 10, shoes=[0, 1, 1] * 10)
    found = propose([one, two])
    (plan,) = found.tasks
    assert (plan.name, plan.kind) == ("attributes", Kind.YES_NO)
    assert plan.counts == {"hat": 10, "bag": 2, "shoes": 20}
    assert plan.balanced
    labels = [source.arguments["labels"] for source in found.sources]
    assert labels == [
        {"attributes": {"hat": "hat", "bag": "bag"}},
        {"attributes": {"shoes": "shoes"}},
    ]


def test_one_such_column_is_a_classification():
    (plan,) = propose([table("a.csv", hat=["yes", "no"] * 10)]).tasks
    assert (plan.name, plan.kind, plan.names) == ("hat", Kind.CLASSES, ["no", "yes"])


def test_names_that_no_task_may_have():
    columns = {"score": [f"{i}.5" for i in range(20)], "my kind": ["a", "b"] * 10}
    columns |= {"my_kind": ["c", "d"] * 10, "attributes": ["e", "f"] * 10}
    columns |= {"x/y": ["yes", "no"] * 10, "hat": ["yes", "no"] * 10, "bag": ["no", "yes"] * 10}
    found = propose([table("a.b c.csv", **columns)])
    labels = found.sources[0].arguments["labels"]
    assert labels == {
        "score_label": "score",
        "my_kind": "my kind",
        "my_kind_2": "my_kind",
        "attributes_2": "attributes",
        "x_y": "x/y",
        "attributes": {"hat": "hat", "bag": "bag"},
    }
    assert [plan.name for plan in found.tasks if plan.name not in labels] == []
    assert found.sources[0].name == "a_b_c"


def test_what_means_not_labelled_is_passed_to_the_sources_that_have_it():
    one = table("a.csv", kind=["x", "y", "unknown", "-1"] * 5)
    two = table("b.csv", 20, kind=["x", "y"] * 10)
    found = propose([one, two])
    assert found.tasks[0].names == ["x", "y"]
    assert found.tasks[0].labels == 30
    missing = [source.arguments.get("missing") for source in found.sources]
    assert missing == [["-1", "unknown"], None]


def test_what_is_a_value_in_one_column_is_one_in_all():
    numbers = ["-1", "-2.5", "3.5", "4.5"] * 5
    found = propose([table("a.csv", kind=["x", "y", "-1", "unknown"] * 5, size=numbers)])
    assert found.sources[0].arguments["missing"] == ["unknown"]
    assert found.tasks[0].names == ["-1", "x", "y"]


def test_minus_one_next_to_zero_is_reported_and_no_is_nowhere_silent():
    floats = {"edema": [1.0, 0.0, -1.0, None] * 5, "hat": ["yes", "no"] * 10}
    found = propose([table("a.csv", **floats)])
    assert found.sources[0].arguments["missing"] == ["-1"]
    assert found.notes == [
        'column "edema": -1 next to 0 and 1 is taken to mean not labelled; if it means no, use '
        "`values: {-1: no}` instead"
    ]
    found = propose([table("a.csv", **floats, bag=[1, -1] * 10)])
    arguments = found.sources[0].arguments
    assert "missing" not in arguments
    assert arguments["values"] == {"attributes/edema": {"-1": None, "0": "0", "1": "1"}}
    assert found.tasks[0].counts == {"edema": 5, "hat": 10, "bag": 10}


def test_decimal_commas_are_passed_to_the_source_that_has_them():
    one = table("a.csv", price=["12,5", "9,0", "7,25", "8,5"] * 5)
    two = table("b.csv", 20, price=[1.5, 2.5] * 10)
    found = propose([one, two])
    assert found.tasks[0].kind is Kind.NUMBERS
    assert [source.arguments.get("decimal") for source in found.sources] == [",", None]
    assert found.sources[0].remarks["decimal"] == 'decimal comma, as 12,5 in column "price"'


def test_a_column_called_group_that_is_a_question_can_be_a_task():
    path = table("a.csv", kind=["x", "y", "y", "x"] * 10, group=["child", "adult"] * 20)
    found = propose([path])
    assert found.sources[0].arguments["group"] == ""
    assert found.left_out[0][0] == 'a.csv, column "group"'
    found = propose([path], ["group"])
    assert [plan.name for plan in found.tasks] == ["kind", "group"]
    assert "group" not in found.sources[0].arguments
    with pytest.raises(UserError, match=r'--task should be .* Found gruop; did you mean "group"'):
        propose([path], ["gruop"])


def test_what_is_left_out_is_reported_with_its_place():
    found = propose([table("a.csv", kind=["x", "y"] * 10, id=range(20), note=[None] * 20)])
    assert found.left_out == [
        ('a.csv, column "id"', "it names rows, or groups of rows"),
        ('a.csv, column "note"', "it is empty"),
    ]


def test_splits_and_groups_and_missing_images():
    splits = ["train", "train", "val", "test"] * 5
    path = table("a.csv", 25, kind=["x", "y"] * 10, split=splits, sender=list("abcd") * 5)
    found = propose([path])
    assert found.has_splits
    arguments = found.sources[0].arguments
    assert (arguments["split"], arguments["group"]) == ("split", "sender")
    assert found.notes == ["a.csv: 5 rows name no image that is there"]


def test_a_table_without_a_header_is_not_taken_for_one():
    rows = [f"p/{i:02}.jpg,{'ab'[i % 2]},0" for i in range(20)]
    Path("t.csv").write_text("\n".join(rows))
    with pytest.raises(UserError, match=r't.csv has no header: its first row names the image "p/0'):
        propose(["t.csv"])
    Path("u.csv").write_text("\n".join(f"{i:02},{'ab'[i % 2]}" for i in range(20)))
    with pytest.raises(UserError, match=r'no column .*; "a" is a cell, too: is there no header'):
        propose(["u.csv"])
    for i in range(20):
        Path(f"p/{i:02}.jpg").rename(f"p/{i:02}")
    Path("v.csv").write_text("\n".join(f"p/{i:02},{'ab'[i % 2]}" for i in range(20)))
    with pytest.raises(UserError, match=r'v.csv has no header: its first row names the image "p/0'):
        propose(["v.csv"])


# ------------------------------------------------------------------- folders


def test_folders_that_may_be_groups_are_reported():
    for i in range(24):
        photo(Path(f"w/{'ab'[i % 2]}/clip{i // 2 % 3 * 2 + i % 2}/{i}.jpg"), i)
    ((where, why),) = propose(["w"]).left_out
    assert where == "w, folders within its folders"
    assert why.endswith("FilenameSource with the pattern (?P<w>[^/]+)/(?P<group>[^/]+)/.*")
    pattern = why.rpartition(" ")[2]
    table = FilenameSource("w", pattern).read(["w"])
    assert len(set(table.groups)) == 6


def test_images_without_labels_name_the_files_next_to_them():
    photo(Path("q/a.jpg"), 0)
    Path("q/annotations.txt").touch()
    with pytest.raises(UserError, match=r"1 images without labels; files .* 1 \.txt"):
        propose(["q"])


def test_folders_of_classes():
    for i in range(8):
        photo(Path(f"weather/{'sun' if i else 'rain'}/{i}.jpg"), i)
        photo(
            Path(f"faces/{'train' if i % 2 else 'val'}/{'smile' if i > 3 else 'frown'}/{i}.jpg"), i
        )
    found = propose(["weather", "faces/train", "faces/val"])
    assert [(plan.name, plan.counts) for plan in found.tasks] == [
        ("weather", {"rain": 1, "sun": 7}),
        ("faces", {"frown": 4, "smile": 4}),
    ]
    assert [source.arguments for source in found.sources] == [
        {"path": "weather", "task": "weather"},
        {"path": "faces", "task": "faces"},
    ]
    assert found.has_splits
    assert found.images == 16


def test_a_folder_and_a_column_of_its_name_are_one_task():
    for i in range(4):
        photo(Path(f"kind/{'xy'[i % 2]}/{i}.jpg"), i)
    found = propose([table("a.csv", kind=["y", "z"] * 10), "kind"])
    (plan,) = found.tasks
    assert plan.counts == {"x": 2, "y": 12, "z": 10}
    assert found.sources[1].arguments["task"] == "kind"


def test_a_folder_and_numbers_of_its_name_are_two():
    for i in range(4):
        photo(Path(f"kind/{'xy'[i % 2]}/{i}.jpg"), i)
    found = propose([table("a.csv", kind=[f"{i}.5" for i in range(20)]), "kind"])
    assert [plan.name for plan in found.tasks] == ["kind", "kind_2"]
    assert found.sources[1].arguments["task"] == "kind_2"


def test_tables_of_a_folder_say_more_than_its_folders():
    for i in range(20):
        photo(Path(f"shop/{'img' if i else 'more'}/{i}.jpg"), i)
    frame = {"image": [f"img/{i}.jpg" for i in range(1, 20)], "kind": ["x", *["y", "z"] * 9]}
    pd.DataFrame(frame).to_csv("shop/t.csv", index=False)
    pd.DataFrame({"who": ["a", "b"]}).to_csv("shop/about.csv", index=False)
    found = propose(["shop"])
    assert [source.arguments["path"] for source in found.sources] == ["shop/t.csv"]
    assert [where for where, _ in found.left_out] == ["shop/about.csv", "shop"]
    assert found.left_out[1][1] == "a table names its images; its folders are img, more"


def test_images_without_labels_next_to_a_table_are_left_out():
    photo(Path("flat/a.jpg"), 1)
    found = propose([table("a.csv", kind=["x", "y"] * 10), "flat", "p"])
    assert found.left_out == [("flat", "1 images without labels")]


# ------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("height", "size"), [(20, 32), (32, 32), (127, 96), (224, 224), (900, 224)]
)
def test_image_sizes(height, size):
    for i in range(4):
        photo(Path(f"w/{'ab'[i % 2]}/{i}.jpg"), i, height, height)
    found = propose(["w"])
    assert (found.image_size, found.removed) == ((size, size), 0)


def test_tall_images_get_a_tall_input():
    for i in range(4):
        photo(Path(f"w/{'ab'[i % 2]}/{i}.jpg"), i, 160, 76)
    found = propose(["w"])
    assert (found.image_size, found.median) == ((128, 64), (160, 76))
    assert found.removed == pytest.approx(0.05, abs=0.01)


def test_batches_are_as_large_as_rare_labels_and_few_images_want():
    small = propose([table("a.csv", kind=["x", "y"] * 10)])
    assert small.batch_size == 8
    rare = propose([table("a.csv", kind=["x", "y"] * 20, size=[1.5, 2.5, *[None] * 38])])
    assert rare.batch_size == 32


# ------------------------------------------------------------------- what cannot be


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["a.cvs"], 'a.cvs: no such file or folder; did you mean "a.csv"?'),
        (["p/00.jpg"], "p/00.jpg should be a folder, or a table (.csv"),
        (
            ["p"],
            "p should have labels: a table, or a folder per class. Found 40 images without labels",
        ),
        (["e"], "e should have labels: a table, or a folder per class. Found 0 images"),
        (["b.csv"], 'nothing in it is a task; b.csv, column "id": it names rows, or groups'),
        (["c.csv"], "c.csv: no column holds the paths of images"),
        (["d"], "d/c.csv: no column holds the paths of images"),
    ],
)
def test_what_cannot_be_proposed(paths, message):
    table("a.csv", kind=["x", "y"] * 10)
    table("b.csv", id=range(20))
    Path("e").mkdir()
    Path("d").mkdir()
    for name in ("c.csv", "d/c.csv"):
        Path(name).write_text("a,b\n1,2\n")
    with pytest.raises(UserError) as error:
        propose(paths)
    assert str(error.value).startswith(message)
