import os
import re

import pytest

from mtl_lightning.data.sources import FolderSource
from mtl_lightning.system.errors import UserError


@pytest.fixture
def grow(tmp_path):
    def grow(*files):
        for file in files:
            (tmp_path / "photos" / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "photos" / file).touch()
        return tmp_path / "photos"

    return grow


def test_a_folder_per_class(grow):
    root = grow("dog/b.JPG", "dog/more/a.webp", "cat/z.png", "cat/notes.txt", "cat/.hid.png")
    grow(".git/x.png", "cat/.thumbs/x.png", "top.png")
    table = FolderSource(root, "animal").read(["other", "animal"])
    assert table.keys.tolist() == ["cat/z.png", "dog/b.JPG", "dog/more/a.webp"]
    assert table.labels["animal"].tolist() == ["cat", "dog", "dog"]
    assert table.images[2] == os.path.realpath(root / "dog/more/a.webp")
    assert table.splits is None
    assert table.location(1) == f"folder {root}/ dog/b.JPG"


def test_a_folder_may_hold_what_is_not_labelled(grow):
    root = grow("dog/a.jpg", "unknown/b.jpg", "1.0/c.jpg")
    table = FolderSource(root, "animal", missing=["unknown", "1", "cta"]).read(["animal"])
    assert table.labels["animal"].tolist() == [None, "dog", None]
    assert table.notes == ['"cta" of `missing` is in no cell of the labels']


def test_folders_named_like_splits(grow):
    root = grow("Train/dog/a.jpg", "valid/dog/b.jpg", "test/cat/c.jpg", "train/cat/d.jpg")
    table = FolderSource(str(root) + "/", "animal").read(["animal"])
    found = dict(
        zip(table.keys, zip(table.labels["animal"], table.splits, strict=True), strict=True)
    )
    assert found == {
        "Train/dog/a.jpg": ("dog", "train"),
        "valid/dog/b.jpg": ("dog", "val"),
        "test/cat/c.jpg": ("cat", "test"),
        "train/cat/d.jpg": ("cat", "train"),
    }
    assert table.origin == f"folder {root}/"


def test_one_other_folder_makes_all_of_them_classes(grow):
    table = FolderSource(grow("train/a.jpg", "plane/b.jpg"), "vehicle").read(["vehicle"])
    assert table.labels["vehicle"].tolist() == ["plane", "train"]
    assert table.splits is None


def test_splits_are_splits_next_to_folders_without_images(grow):
    splits, kinds = ("train", "val", "test"), ("cat", "dog")
    files = [f"{split}/{kind}/{n}.png" for split in splits for kind in kinds for n in "12"]
    root = grow(*files, "annotations/readme.txt", "__MACOSX/train/._1.png", "train/eel/x.heic")
    table = FolderSource(root, "animal").read(["animal"])
    assert set(table.labels["animal"]) == {"cat", "dog"}
    assert sorted(set(table.splits)) == ["test", "train", "val"]
    assert table.notes == [
        f"folder {root}/: folders without images, skipped: __MACOSX, annotations, train/eel",
        f"folder {root}/: files that are not images, skipped: 1 .heic, 1 .txt; HEIC photos are "
        "not read, convert them to JPEG",
    ]


def test_every_file_that_can_be_decoded_is_an_image(grow):
    """The kinds of a collection of which all but JPEG and PNG were dropped without a word."""
    kinds = ["jpg", "JPEG", "jfif", "jpe", "png", "webp", "bmp", "gif", "tif", "TIFF", "avif"]
    kinds += ["jp2", "j2k", "ppm", "pgm", "pbm"]
    files = [f"{kind}/x.{kind}" for kind in kinds]
    table = FolderSource(grow(*files), "kind").read(["kind"])
    assert sorted(table.labels["kind"]) == sorted(kinds)
    assert table.notes == []


def test_what_is_passed_over_is_reported(grow):
    root = grow("top.png", "a.png", "list.csv", "cat/1.png", "cat/1.txt", "cat/2.txt", "dog/1.png")
    grow("cat/README", "cat/.hidden", "cat/Thumbs.db")
    assert FolderSource(root, "animal").read(["animal"]).notes == [
        f"folder {root}/: images in no class folder, skipped: 2, first a.png",
        f"folder {root}/: files that are not images, skipped: 2 .txt, 1 without a suffix, "
        "1 .csv, 1 .db",
    ]


def test_a_folder_that_cannot_be_listed_is_not_passed_over(grow, monkeypatch):
    root = grow("dog/a.jpg", "dog/more/b.jpg")
    scandir = os.scandir

    def denied(path):
        if os.fspath(path).endswith("more"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(UserError, match=r"folder .*dog/more cannot be listed: Permission denied"):
        FolderSource(root, "animal").read(["animal"])


def test_links_are_followed_but_not_for_ever(grow, tmp_path):
    root = grow("dog/a.jpg")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "b.jpg").touch()
    (root / "dog/loop").symlink_to(root, target_is_directory=True)
    (root / "dog/self").symlink_to(root / "dog", target_is_directory=True)
    (root / "cat").symlink_to(elsewhere, target_is_directory=True)
    table = FolderSource(root, "animal", allow_outside_root=True).read(["animal"])
    assert table.keys.tolist() == ["cat/b.jpg", "dog/a.jpg"]
    assert table.images[0] == os.path.realpath(elsewhere / "b.jpg")


def listed_in(monkeypatch, read):
    """Return the folders that are listed until reading is refused, and the message."""
    seen = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: seen.append(os.fspath(path)) or scandir(path))
    with pytest.raises(UserError) as error:
        read()
    return {os.path.realpath(path) for path in seen}, str(error.value)


def test_a_split_that_leads_out_is_refused_and_not_listed(grow, tmp_path, monkeypatch):
    root = grow("test/dog/a.jpg", "../elsewhere/dog/b.jpg")
    (root / "train").symlink_to(tmp_path / "elsewhere")
    seen, message = listed_in(monkeypatch, lambda: FolderSource(root, "animal").read(["animal"]))
    assert '"train" links to' in message
    assert str(tmp_path / "elsewhere") not in seen


@pytest.mark.parametrize(
    ("link", "target", "message"),
    [
        ("train", ".", '"train" links to .*/elsewhere, outside'),
        ("cat", ".", '"cat" links to .*/elsewhere, outside of the root .*/photos; put'),
        ("dog/more", ".", '"dog/more" links to .*/elsewhere, outside'),
        ("dog/c.jpg", "b.jpg", '"dog/c.jpg" links to .*/elsewhere/b.jpg, outside'),
    ],
)
def test_links_that_lead_out_are_refused_and_not_listed(
    grow, tmp_path, monkeypatch, link, target, message
):
    root = grow("dog/a.jpg", "../elsewhere/b.jpg")
    (root / link).symlink_to(tmp_path / "elsewhere" / target)
    seen, refusal = listed_in(monkeypatch, lambda: FolderSource(root, "animal").read(["animal"]))
    assert re.search(message, refusal)
    assert str(tmp_path / "elsewhere") not in seen


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "photos does not exist or is not a folder"),
        (["a.jpg"], "no folder per class; expected <class>/<image>"),
        (["train/a.jpg"], "no folder per class; expected <split>/<class>/<image>"),
        (
            ["dog/a.txt", "cat/b.HEIC", "cat/c.heic", "dog/d"],
            "has no image in a folder of a class; expected <class>/<image> with files such as "
            r"\.jpg, \.png or \.tif\. Found 2 \.heic, 1 without a suffix, 1 \.txt; HEIC photos are "
            "not read, convert them to JPEG$",
        ),
        (
            ["train/dog/a.jpg", "Val/dog/b.jpg", "more/c.jpg", "annotations/d.txt"],
            r"has folders that are named like splits \(Val, train\) next to others with images "
            r"\(more\), so that it is not clear which are the classes; move the others elsewhere",
        ),
    ],
)
def test_what_is_wrong(grow, tmp_path, files, message):
    grow(*files)
    with pytest.raises(UserError, match=message):
        FolderSource(tmp_path / "photos", "animal").read(["animal"])


def test_unknown_task_and_dead_link(grow):
    root = grow("dog/a.jpg")
    with pytest.raises(UserError, match=r'task "animl".*did you mean "animal"'):
        FolderSource(root, "animl").read(["animal"])
    (root / "dog/dead.jpg").symlink_to("nowhere")
    with pytest.raises(UserError, match=r"dog/dead.jpg links to nothing"):
        FolderSource(root, "animal").read(["animal"])
