from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mtl_lightning.audit.images import read_size
from mtl_lightning.commands.proposal.columns import Kind
from mtl_lightning.commands.proposal.tables import inspect_table
from mtl_lightning.system.errors import UserError
from tests.helpers.files.messy import photo
from tests.helpers.segmentation import png


def photos(folder, number=12):
    for i in range(number):
        photo(Path(folder) / f"{i}.jpg", i)
    return [f"{i}.jpg" for i in range(number)]


def table(path, **columns):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(columns).to_csv(path, index=False)
    return str(path)


@pytest.mark.parametrize(
    ("images", "path", "written", "root"),
    [
        ("d", "d/t.csv", "", None),
        ("d/img", "d/t.csv", "img/", None),
        ("d/img", "d/tables/t.csv", "img/", "d"),
        ("photos", "d/tables/t.csv", "photos/", "."),
        ("d/img", "d/t.csv", "", "d/img"),
        (".", "t.csv", "", None),
    ],
)
def test_images_are_found_from_where_their_paths_count(images, path, written, root):
    names = [written + name for name in photos(images)]
    found = inspect_table(table(path, nr=range(12), where=names, kind=["a", "b"] * 6))
    assert (found.image, found.root, found.absent) == ("where", root, 0)
    assert found.images == [str((Path(images) / f"{i}.jpg").resolve()) for i in range(12)]
    assert list(found.labels) == ["nr", "kind"]


def test_absolute_paths_and_images_that_are_missing_path(tmp_path):
    names = [str(tmp_path / "p" / name) for name in photos("p")]
    found = inspect_table(table("t.csv", image=[*names, "gone.jpg", None], kind=["a", "b"] * 7))
    assert (found.image, found.root, found.absent) == ("image", None, 2)


def test_the_column_with_most_images_is_taken_and_others_that_name_files_are_no_task():
    names = photos(".")
    mixed = [*names[:4], *["x"] * 8]
    found = inspect_table(
        table("t.csv", other=mixed, image=names, mask=names[::-1], kind=["a", "b"] * 6)
    )
    assert found.image == "image"
    assert found.left_out == dict.fromkeys(
        ("other", "mask"), "it names files that are neither masks of classes nor maps of numbers"
    )


def test_columns_of_masks_may_be_tasks_whatever_their_cells_are_called():
    names = photos(".")
    size = read_size(names[0])
    for i, name in enumerate(names):
        Path(name).with_suffix(".png").write_bytes(png(np.full(size, i % 3)))
    masks = [name.replace("jpg", "png") for name in names]
    found = inspect_table(table("t.csv", image=names, mask_id=masks, kind=["a", "b"] * 6))
    assert list(found.labels) == ["mask_id", "kind"]
    assert found.labels["mask_id"].tolist() == masks
    assert {name: column.kind for name, column in found.maps.items()} == {"mask_id": Kind.MASKS}


def test_splits_by_name_or_by_content():
    names, kinds = photos("."), ["a", "b"] * 6
    splits = ["train", "Validation", "test", None] * 3
    assert inspect_table(table("t.csv", image=names, split=splits, kind=kinds)).split == "split"
    assert inspect_table(table("t.csv", image=names, part=splits, kind=kinds)).split == "part"
    assert (
        inspect_table(table("t.csv", image=names, split=["train"] * 12, kind=kinds)).split
        == "split"
    )
    found = inspect_table(
        table("t.csv", image=names, split=["a", "b"] * 6, part=splits, kind=kinds)
    )
    assert (found.split, found.left_out) == ("part", {"split": "not the names of splits"})
    with pytest.raises(UserError, match=r't.csv, column "split": "a" is not a split'):
        inspect_table(table("t.csv", image=names, split=["a", "b"] * 6, kind=kinds))


@pytest.mark.parametrize("name", ["group", "sender", "patient_id", "PatientID", "userId", "video"])
def test_groups(name):
    names = photos(".")
    found = inspect_table(table("t.csv", image=names, kind=["a", "b"] * 6, **{name: [1, 2, 3] * 4}))
    assert found.group == name
    assert list(found.labels) == ["kind"]


def test_groups_that_cannot_be():
    names, kinds = photos("."), ["a", "b"] * 6
    every = inspect_table(table("t.csv", image=names, patient=range(12), kind=kinds))
    assert (every.group, list(every.labels)) == (None, ["patient", "kind"]), "reported as too many"
    splits = ["train", "test"] * 6
    torn = inspect_table(
        table("t.csv", image=names, split=splits, sender=[1, 1, 2] * 4, kind=kinds)
    )
    assert torn.group is None
    assert torn.left_out == {"sender": "some of its values are in two splits"}
    second = inspect_table(
        table("t.csv", image=names, group=[1, 2] * 6, item_id=[5, 6] * 6, kind=kinds)
    )
    assert second.group == "group"
    assert second.left_out == {"item_id": "it names rows, or groups of rows"}


def test_a_column_called_group_that_is_a_question():
    names = photos(".", 60)
    kinds, ages = ["a", "b"] * 30, ["child", "adult", "adult"] * 20
    found = inspect_table(table("t.csv", image=names, kind=kinds, group=ages))
    assert (found.group, list(found.labels)) == ("", ["kind"])
    assert found.left_out == {
        "group": "its 2 values (child, adult) are answers rather than images that belong together; "
        "--task group makes it a task"
    }
    torn = inspect_table(
        table("t.csv", image=names, kind=kinds, group=[1, 2, 3] * 20, split=["train", "test"] * 30)
    )
    assert (torn.group, "--task group" in torn.left_out["group"]) == ("", True)
    kept = inspect_table(table("t.csv", image=names, kind=kinds, group=[1, 2, 3] * 20))
    assert (kept.group, kept.left_out) == ("group", {})
    other = inspect_table(
        table("t.csv", image=names, kind=kinds, group=ages, patient=[*range(30)] * 2)
    )
    assert other.group == "patient"


def test_a_column_that_the_user_asks_for_is_a_task():
    names = photos(".", 60)
    columns = {
        "group": ["child", "adult", "adult"] * 20,
        "split": ["x", "y"] * 30,
        "id": [1, 2] * 30,
    }
    found = inspect_table(table("t.csv", image=names, **columns), ["group", "split", "id"])
    assert (found.group, found.split, list(found.labels)) == (None, None, list(columns))


def test_labels_and_groups_are_the_same_however_a_program_writes_them():
    names, splits = photos("."), ["train"] * 6 + ["test"] * 6
    torn = inspect_table(
        table("t.csv", image=names, split=splits, sender=["1"] * 6 + ["1.0"] * 6, kind=["1.0"] * 12)
    )
    assert torn.left_out == {"sender": "some of its values are in two splits"}
    assert set(torn.labels["kind"]) == {"1"}


def test_cells_that_are_no_text():
    photos(".", 2)
    Path("t.jsonl").write_text(
        '{"image": "0.jpg", "box": {"x": 1}, "kind": "a"}\n{"image": "1.jpg", "kind": "b"}\n'
    )
    found = inspect_table("t.jsonl")
    assert found.left_out == {"box": "its cells are neither text nor numbers"}


def test_a_table_without_images(tmp_path):
    path = table("d/t.csv", image=["a.jpg", "b.jpg"], kind=["a", "b"])
    with pytest.raises(UserError) as error:
        inspect_table(path)
    assert str(error.value).startswith(
        f'd/t.csv: column "image" names "a.jpg", which is not in any of {tmp_path}/d, {tmp_path}; '
    )
    path = table("d/t.csv", name=["a", "b"], kind=["a", "b"])
    with pytest.raises(UserError, match="no column holds the paths of images"):
        inspect_table(path)
