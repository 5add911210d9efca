import os

import pytest

from mtl_lightning.data.sources import FilenameSource
from mtl_lightning.system.errors import UserError

PATTERN = r"(?:(?P<split>\w+)/)?(?P<type>[A-Za-z]+)_(?P<audience>kids|adults|x?)_(?P<group>\d+)\..*"
TASKS = ["type", "audience"]


@pytest.fixture
def folder(tmp_path):
    def folder(*names):
        for name in names:
            (tmp_path / "shop" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "shop" / name).touch()
        return tmp_path / "shop"

    return folder


def test_named_groups_are_labels_splits_and_groups(folder):
    root = folder("Dress_kids_017.png", "valid/Shirt__017.png", "test/Shirt_x_3.JPG", "note.txt")
    table = FilenameSource(root, PATTERN, missing=["x"]).read(TASKS)
    assert table.keys.tolist() == [
        *("Dress_kids_017.png", "test/Shirt_x_3.JPG", "valid/Shirt__017.png"),
    ]
    assert table.images[1] == os.path.realpath(root / "test/Shirt_x_3.JPG")
    assert {task: cells.tolist() for task, cells in table.labels.items()} == {
        "type": ["Dress", "Shirt", "Shirt"],
        "audience": ["kids", None, None],
    }
    assert table.splits.tolist() == [None, "test", "val"]
    assert table.groups.tolist() == ["017", "3", "017"]
    assert table.location(1, "type") == f"folder {root}/ test/Shirt_x_3.JPG"
    assert table.notes == [f"folder {root}/: files that are not images, skipped: 1 .txt"]


def test_a_task_called_split_is_no_split(folder):
    table = FilenameSource(folder("test/Shirt__3.png"), PATTERN).read(["split", "group"])
    assert table.splits is None
    assert table.groups is None
    assert table.labels["split"].tolist() == ["test"]


def test_groups_of_other_names_and_other_meanings(folder):
    root = folder("Dress_kids_017.png", "Shirt_adults_1.png")
    options = {
        "labels": {"who": "audience"},
        "values": {"who": {"kids": "child", "adults": "adult"}},
    }
    table = FilenameSource(root, PATTERN, **options).read(["who", "type"])
    assert {task: cells.tolist() for task, cells in table.labels.items()} == {
        "who": ["child", "adult"]
    }


def test_names_that_do_not_match_are_an_error_or_counted(folder):
    root = folder("Dress_kids_017.png", "a.png", "zz.png")
    with pytest.raises(UserError) as caught:
        FilenameSource(root, PATTERN).read(TASKS)
    assert str(caught.value) == (
        f'folder {root}/: 2 of 3 file names do not match, first "a.png"; expected {PATTERN}; '
        "rename them, or leave these images out: `unmatched: skip`"
    )
    table = FilenameSource(root, PATTERN, unmatched="skip").read(TASKS)
    assert table.keys.tolist() == ["Dress_kids_017.png"]
    assert table.notes == [
        f'folder {root}/: 2 of 3 file names do not match and are left out, first "a.png"'
    ]


def test_a_name_must_match_as_a_whole(folder):
    root = folder("Dress_kids_017.png")
    with pytest.raises(UserError, match="1 of 1 file names do not match"):
        FilenameSource(root, "(?P<type>[A-Za-z]+)", unmatched="skip").read(TASKS)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(?P<type>", "pattern should be a regular expression. Found an error: "),
        ("[a-z]+", r"pattern has no named group; expected one such as \(\?P<type>"),
    ],
)
def test_wrong_patterns(tmp_path, pattern, message):
    with pytest.raises(UserError, match=message):
        FilenameSource(tmp_path, pattern)


def test_wrong_splits_tasks_and_folders(folder):
    root = folder("trian/Dress_kids_017.png", "dead.txt")
    with pytest.raises(UserError, match=r'trian/.*group "split": "trian" is not a split.*"train"'):
        FilenameSource(root, PATTERN).read(TASKS)
    with pytest.raises(UserError, match=r"has no group named after a task; tasks: size; groups: "):
        FilenameSource(root, PATTERN).read(["size"])
    with pytest.raises(UserError, match="nowhere does not exist or is not a folder"):
        FilenameSource(root / "nowhere", PATTERN).read(TASKS)
    (root / "trian/Dress_kids_017.png").unlink()
    with pytest.raises(
        UserError,
        match=r"shop has no image; expected files such as \.jpg, \.png or \.tif\. Found 1 \.txt",
    ):
        FilenameSource(root, PATTERN).read(TASKS)
    (root / "Dress_kids_1.png").symlink_to("nowhere")
    with pytest.raises(UserError, match=r"Dress_kids_1.png links to nothing"):
        FilenameSource(root, PATTERN).read(TASKS)


def test_market_1501_names_are_identity_and_camera(folder):
    root = folder(
        "bounding_box_train/0002_c1s1_000451_03.jpg",
        "bounding_box_test/1501_c6s4_001877_00.jpg",
        "bounding_box_test/-1_c3s2_017242_01.jpg",
    )
    market = r"bounding_box_(?P<split>train|test)/(?P<group>\d{4})_c(?P<camera>[1-6])s\d_.*"
    table = FilenameSource(root, market, unmatched="skip").read(["camera"])
    assert table.labels["camera"].tolist() == ["6", "1"]
    assert table.splits.tolist() == ["test", "train"]
    assert table.groups.tolist() == ["1501", "0002"]


def test_links_out_of_the_folder_are_followed_only_where_that_is_allowed(folder, tmp_path):
    root = folder("Dress_kids_1.png")
    (tmp_path / "a.png").touch()
    (root / "Shirt_kids_2.png").symlink_to(tmp_path / "a.png")
    with pytest.raises(UserError, match=r'"Shirt_kids_2.png" links to .*/a.png, outside'):
        FilenameSource(root, PATTERN).read(TASKS)
    table = FilenameSource(root, PATTERN, allow_outside_root=True).read(TASKS)
    assert table.images[1] == os.path.realpath(tmp_path / "a.png")
