import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mtl_lightning.data.sources import StemsSource
from mtl_lightning.system.errors import UserError
from tests.helpers.files.downloads import cityscapes, nyuv2

TASKS = ["segmentation", "depth", "normals"]
LABELS = {
    t: f"{f}/{{stem}}.png" for t, f in zip(TASKS, ("segmentation", "depth", "normal"), strict=True)
}


@pytest.fixture
def rooms(tmp_path: Path) -> Path:
    nyuv2(tmp_path / "nyuv2")
    return tmp_path / "nyuv2"


def test_files_of_one_stem_belong_together(rooms):
    source = StemsSource(str(rooms), "image/{stem}.png", LABELS)
    table = source.read(TASKS)
    assert len(table.images) == 12
    assert table.keys[3] == "image/0004.png"
    assert table.splits is table.groups is None
    for task in TASKS:
        files = source.target_files(table, task)
        there = [file is not None for file in files]
        assert 0 < sum(there) < 12
        for image, file in zip(table.images, files, strict=True):
            expected = Path(image.replace("image", LABELS[task].partition("/")[0]))
            assert (expected.exists(), str(expected)) == (file is not None, file or str(expected))


def test_folders_of_splits_and_groups(tmp_path):
    cityscapes(tmp_path)
    source = StemsSource(
        str(tmp_path),
        "leftImg8bit/{split}/{group}/{stem}_leftImg8bit.png",
        {"segmentation": "gtFine/{split}/{group}/{stem}_gtFine_labelIds.png"},
    )
    table = source.read(["segmentation", "other"])
    assert set(table.splits) == {"train", "val"}
    assert set(table.groups) == {"aachen", "bochum", "lindau"}
    files = source.target_files(table, "segmentation")
    assert [file is None for file in files].count(True) == 1
    for image, file in zip(table.images, files, strict=True):
        if file is not None:
            stem = os.path.basename(image).removesuffix("_leftImg8bit.png")
            assert os.path.basename(file) == f"{stem}_gtFine_labelIds.png"


def test_a_star_is_any_suffix_and_a_repeated_name_the_same_text(tmp_path):
    for name in ("a/a_1.png", "a/b_2.png", "b/b_3.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.zeros((4, 4, 3), dtype=np.uint8)).save(tmp_path / name)
    (tmp_path / "m").mkdir()
    (tmp_path / "m/3.npy").write_bytes(b"x")
    source = StemsSource(str(tmp_path), "{room}/{room}_{stem}.*", {"depth": "m/{stem}.npy"})
    table = source.read(["depth"])
    assert table.keys.tolist() == ["a/a_1.png", "b/b_3.jpg"]
    assert table.labels["depth"].tolist() == [None, "m/3.npy"]


def test_a_star_stays_in_its_folder(rooms):
    (rooms / "image/old").mkdir()
    (rooms / "image/0001.png").rename(rooms / "image/old/0001.png")
    source = StemsSource(str(rooms), "image/*{stem}.png", {"depth": "depth/000{stem}.png"})
    assert not [key for key in source.read(["depth"]).keys if "old" in key]


def test_links_out_of_the_folder_are_refused(rooms, tmp_path):
    (rooms / "depth/0002.png").unlink(missing_ok=True)
    (tmp_path / "outside.png").write_bytes(b"secret")
    (rooms / "depth/0002.png").symlink_to(tmp_path / "outside.png")
    source = StemsSource(str(rooms), "image/{stem}.png", LABELS)
    assert source.read(TASKS).labels["depth"][1] is None
    trusting = StemsSource(str(rooms), "image/{stem}.png", LABELS, allow_outside_root=True)
    assert trusting.read(TASKS).labels["depth"][1] == "depth/0002.png"


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        ("image/x.png", {}, r"images should have a name in braces, as \{stem\}. Found image/x"),
        ("image/{stem}.png", {"depth": "d/{sten}.png"}, r"labels of depth: \{sten\} should be in"),
        ("pics/{stem}.png", {}, r'no image is named like "pics/\{stem\}.png"; the first below is'),
        ("image/{stem}.png", {"depth": "d/{stem}.png"}, "no image has a file for task depth; exp"),
        ("image/{stem}.png", {"dept": "d/{stem}.png"}, "`labels` names the task .dept., expected"),
        ("{split}/{stem}.png", {}, r'"depth" is not a split; expected train, val or test'),
    ],
)
def test_wrong_patterns(rooms, images, labels, message):
    with pytest.raises(UserError, match=message):
        StemsSource(str(rooms), images, labels).read(TASKS)
