from pathlib import Path

import pytest

from mtl_lightning.commands.proposal.folders import inspect_folder
from mtl_lightning.system.errors import UserError


def images(*paths):
    for path in paths:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).touch()


def test_a_folder_a_class():
    images("Weather 1/sun/a.jpg", "Weather 1/sun/deep/b.PNG", "Weather 1/rain/c.jpg", "x.jpg")
    images("Weather 1/notes.txt", "Weather 1/empty/readme.md", "Weather 1/.hidden/d.jpg")
    folder = inspect_folder("Weather 1")
    assert folder.task == "Weather_1"
    assert folder.classes == {"rain": 1, "sun": 2}
    assert not folder.splits
    assert sorted(folder.images) == [
        "Weather 1/rain/c.jpg",
        "Weather 1/sun/a.jpg",
        "Weather 1/sun/deep/b.PNG",
    ]


def test_classes_are_named_as_labels_are():
    for name in ("1.0", "2", "cafe\u0301"):
        images(f"set/{name}/a.jpg")
    assert list(inspect_folder("set").classes) == ["1", "2", "caf\u00e9"]


def test_splits_of_classes():
    images("w/train/sun/a.jpg", "w/train/rain/b.jpg", "w/Val/sun/c.jpg")
    folder = inspect_folder("w")
    assert folder.splits
    assert folder.classes == {"rain": 1, "sun": 2}


def test_splits_next_to_folders_without_images():
    images("w/train/sun/a.jpg", "w/train/rain/b.jpg", "w/val/sun/c.tif", "w/annotations/x.json")
    folder = inspect_folder("w")
    assert folder.splits
    assert folder.classes == {"rain": 1, "sun": 2}
    assert folder.passed.notes() == [
        "folders without images, skipped: annotations",
        "files that are not images, skipped: 1 .json",
    ]
    assert inspect_folder("w/train").path == "w"
    images("w/more/d.jpg")
    with pytest.raises(UserError, match=r"w has folders that are named like splits \(train, val\)"):
        inspect_folder("w")


def test_classes_within_domains_are_both():
    for domain in ("art", "photo", "sketch"):
        images(*(f"pacs/{domain}/{kind}/{n}.jpg" for kind in ("dog", "elk") for n in "12"))
    images("pacs/art/horse/1.jpg", "pacs/art/horse/more/2.jpg", "pacs/art/notes.txt")
    folder = inspect_folder("pacs")
    assert (folder.task, folder.classes) == ("folder", {"art": 6, "photo": 4, "sketch": 4})
    assert (folder.inner_task, folder.inner) == ("subfolder", {"dog": 6, "elk": 6, "horse": 2})
    assert not folder.loose
    images("pacs/0.jpg")
    assert inspect_folder("pacs").loose


def test_folders_that_are_within_one_folder_only_are_no_classes():
    images(*(f"w/{kind}/clip{n}/{i}.jpg" for n, kind in enumerate("aabb") for i in "12"))
    folder = inspect_folder("w")
    assert (folder.task, folder.inner, folder.inner_task) == ("w", {}, "")
    assert folder.single == ["clip0", "clip1", "clip2", "clip3"]


def test_a_few_images_in_deeper_folders_are_of_the_class():
    images(*(f"w/{kind}/{i}.jpg" for kind in "ab" for i in range(9)), "w/a/x/1.jpg", "w/b/x/1.jpg")
    folder = inspect_folder("w")
    assert (folder.inner, folder.single) == ({}, [])


@pytest.mark.parametrize("path", ["w/train", "w/val/"])
def test_one_split_means_all(path):
    images("w/train/sun/a.jpg", "w/train/rain/b.jpg", "w/val/sun/c.jpg")
    folder = inspect_folder(path)
    assert (folder.path, folder.task, folder.splits) == ("w", "w", True)


def test_a_folder_called_test_among_others_is_one_of_its_own():
    images("w/test/sun/a.jpg", "w/test/rain/b.jpg", "w/other/c.jpg")
    folder = inspect_folder("w/test")
    assert (folder.path, folder.splits) == ("w/test", False)
    assert folder.classes == {"rain": 1, "sun": 1}


@pytest.mark.parametrize("name", ["data", "Images", "photos", "dataset"])
def test_a_name_that_says_nothing_is_no_task(name):
    images(f"{name}/a/1.jpg", f"{name}/b/2.jpg")
    assert inspect_folder(name).task == "label"


def test_images_without_classes_and_tables():
    images(
        "flat/a.jpg", "flat/b.jpg", "flat/t.csv", "flat/.u.csv", "flat/deep/v.csv", "one/c/a.jpg"
    )
    folder = inspect_folder("flat")
    assert folder.classes == {}
    assert folder.tables == ["flat/t.csv"]
    assert len(folder.images) == 2
    assert inspect_folder("one").classes == {}
