import os

import pytest

from mtl_lightning.data.sources import UTKFaceSource
from mtl_lightning.system.errors import UserError

NAMES = [
    "100_0_0_20170112213500903.jpg.chip.jpg",
    "1_1_4_20161219222752047.jpg.chip.jpg",
    "26_1_2_20170116220224657 .jpg.chip.jpg",
    "44_1_3_20170116235150272.pg.chip.jpg",
]
MALFORMED = [  # all that the download has
    "39_1_20170116174525125.jpg.chip.jpg",
    "53__0_20170116184028385.jpg",
    "61_1_20170109142408075.jpg.chip.jpg",
    "61_1_20170109150557335.jpg.chip.jpg",
    "61_3_20170109150557335.jpg.chip.jpg",
]


@pytest.fixture
def faces(tmp_path):
    for name in NAMES:
        (tmp_path / name).touch()
    return tmp_path


def test_age_gender_and_race(faces):
    table = UTKFaceSource(faces).read(["age", "gender", "race", "other"])
    assert table.keys.tolist() == NAMES
    assert {task: cells.tolist() for task, cells in table.labels.items()} == {
        "age": ["100", "1", "26", "44"],
        "gender": ["male", "female", "female", "female"],
        "race": ["White", "Others", "Asian", "Indian"],
    }
    assert table.splits is None


def test_tasks_of_other_names_and_folders_of_parts(faces):
    (faces / "part2").mkdir()
    (faces / "part2/7_0_1_20170112213500903.jpg").touch()
    table = UTKFaceSource(faces, labels={"years": "age"}).read(["years", "gender"])
    assert list(table.labels) == ["years"]
    assert table.labels["years"].tolist() == ["100", "1", "26", "44", "7"]
    assert table.images[4] == os.path.realpath(faces / "part2/7_0_1_20170112213500903.jpg")
    with pytest.raises(UserError, match=r'no group "ages" .*did you mean "age"'):
        UTKFaceSource(faces, labels={"years": "ages"}).read(["years"])


def test_malformed_names_are_an_error_or_counted(faces):
    for name in MALFORMED:
        (faces / name).touch()
    message = f"folder {faces}/: 5 of 9 file names do not match"
    with pytest.raises(UserError) as caught:
        UTKFaceSource(faces).read(["age"])
    assert str(caught.value).startswith(f'{message}, first "{MALFORMED[0]}"; expected ')
    assert str(caught.value).endswith("leave these images out: `malformed: skip`")
    table = UTKFaceSource(faces, malformed="skip").read(["age"])
    assert table.keys.tolist() == NAMES
    assert table.notes == [f'{message} and are left out, first "{MALFORMED[0]}"']


def test_links_out_of_the_folder_are_followed_only_where_that_is_allowed(tmp_path):
    name = "26_1_2_20170116184020967.jpg"
    (tmp_path / "UTKFace").mkdir()
    (tmp_path / name).touch()
    (tmp_path / "UTKFace" / name).symlink_to(tmp_path / name)
    with pytest.raises(UserError, match=r"leads by a link to .*, outside of the root"):
        UTKFaceSource(tmp_path / "UTKFace").read(["gender"])
    table = UTKFaceSource(tmp_path / "UTKFace", allow_outside_root=True).read(["gender"])
    assert table.images.tolist() == [os.path.realpath(tmp_path / name)]
