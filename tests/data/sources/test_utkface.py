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
    with pytest.raises(UserError, match=r"links to .*, outside of the root"):
        UTKFaceSource(tmp_path / "UTKFace").read(["gender"])
    table = UTKFaceSource(tmp_path / "UTKFace", allow_outside_root=True).read(["gender"])
    assert table.images.tolist() == [os.path.realpath(tmp_path / name)]


def test_it_is_recognised_by_names_with_a_date(faces):
    assert UTKFaceSource.recognise(str(faces)).arguments == {"path": str(faces)}
    (faces / MALFORMED[0]).touch()
    assert UTKFaceSource.recognise(str(faces)) is None  # a fifth of the names is not typical
    for i in range(20):
        (faces / f"20_0_1_201701122135009{i:02}.jpg").touch()
    known = UTKFaceSource.recognise(str(faces))
    assert known.arguments == {"path": str(faces), "malformed": "skip"}
    assert set(UTKFaceSource(**known.arguments).read(known.labels).labels) == set(known.labels)


def test_other_names_of_three_numbers_are_not_recognised(tmp_path):
    for name in ("1_0_2_cat.jpg", "22_1_3_0001.jpg"):
        (tmp_path / name).touch()
    assert UTKFaceSource.recognise(str(tmp_path)) is None
    assert UTKFaceSource.recognise(str(tmp_path / "1_0_2_cat.jpg")) is None
