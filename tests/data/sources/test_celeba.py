import os

import pytest

from mtl_lightning.data.sources import CelebASource
from mtl_lightning.system.errors import UserError

TASKS = ["Male", "looks", "looks/Smiling", "looks/Young"]
ATTRIBUTES = """3
5_o_Clock_Shadow Male Smiling Young#
000001.jpg -1  1  1 -1
000002.jpg -1 -1  1  1
000003.jpg  1 -1 -1  1
""".replace("#", " ")  # the header of the real file ends in a blank, and its numbers are aligned
PARTITION = "000001.jpg 0\n000002.jpg 1\n000003.jpg 2\n"
IDENTITY = "000002.jpg 2937\n000001.jpg 2880\n000003.jpg 8692\n"


@pytest.fixture
def download(tmp_path):
    def download(attributes=ATTRIBUTES, partition=PARTITION, folders=("Anno", "Eval", "Img")):
        anno, split, img = (tmp_path / folder for folder in folders)
        for folder in (anno, split, img / "img_align_celeba"):
            folder.mkdir(parents=True, exist_ok=True)
        for i in (1, 2, 3):
            (img / f"img_align_celeba/00000{i}.jpg").touch()
        (anno / "list_attr_celeba.txt").write_text(attributes)
        (anno / "identity_CelebA.txt").write_text(IDENTITY)
        (split / "list_eval_partition.txt").write_text(partition)
        return tmp_path

    return download


@pytest.mark.parametrize("folders", [("Anno", "Eval", "Img"), ("", "", "")])
def test_attributes_are_tasks_or_labels_of_one(download, folders):
    root = download(folders=folders)
    table = CelebASource(root).read(TASKS)
    assert table.keys.tolist() == ["000001.jpg", "000002.jpg", "000003.jpg"]
    image = root / folders[2] / "img_align_celeba/000001.jpg"
    assert table.images[0] == os.path.realpath(image)
    assert {task: cells.tolist() for task, cells in table.labels.items()} == {
        "Male": ["yes", "no", "no"],
        "looks/Smiling": ["yes", "yes", "no"],
        "looks/Young": ["no", "yes", "yes"],
    }
    assert table.splits.tolist() == ["train", "val", "test"]
    assert table.groups is None
    path = root / folders[0] / "list_attr_celeba.txt"
    assert table.location(1, "Male") == f'{path} row 4, column "Male"'


def test_labels_identities_and_no_partition(download):
    source = CelebASource(
        download(),
        labels={"sex": "Male"},
        values={"sex": {"yes": "m", "no": "f"}},
        partition=False,
        identities=True,
    )
    table = source.read(["sex", "Young"])
    assert {task: cells.tolist() for task, cells in table.labels.items()} == {
        "sex": ["m", "f", "f"]
    }
    assert table.splits is None
    assert table.groups.tolist() == ["2880", "2937", "8692"]


def test_images_may_lie_elsewhere(download, tmp_path):
    root = download()
    with pytest.raises(UserError, match=r'row 3: there is no file "000001.jpg" in .*elsewhere'):
        CelebASource(root, images=tmp_path / "elsewhere").read(TASKS)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        (ATTRIBUTES.replace("3\n", "4\n", 1), "says 4 images and lists 3; is it cut short"),
        (
            ATTRIBUTES.replace("-1  1  1 -1", "-1  1  0 -1"),
            r'3, column "Smiling": "0" is not an answer',
        ),
        (ATTRIBUTES.replace("3\n", "", 1), r'row 1 is "5_o_Clock_Shadow Male.*number of images'),
        (ATTRIBUTES.replace("Male ", ""), "row 3 has 5 cells; expected 4"),
        (ATTRIBUTES.replace("-1 -1  1  1", "-1 -1  1  1 1"), "cannot be read"),
        ("", 'row 1 is ""'),
        ("0\na b\n", "cannot be read"),
    ],
)
def test_broken_lists(download, attributes, message):
    with pytest.raises(UserError, match=f"list_attr_celeba.txt.*{message}"):
        CelebASource(download(attributes)).read(TASKS)


@pytest.mark.parametrize(
    ("partition", "message"),
    [
        (PARTITION.replace("000003.jpg 2\n", ""), "says nothing of 000003.jpg; is it cut short"),
        (PARTITION.replace("2\n", "3\n"), r'says "3" of 000003.jpg; expected 0 \(train\)'),
        ("a\nb\n", "expected two columns"),
    ],
)
def test_broken_partitions(download, partition, message):
    with pytest.raises(UserError, match=f"list_eval_partition.txt.*{message}"):
        CelebASource(download(partition=partition)).read(TASKS)


def test_unknown_attributes_and_other_folders(download, tmp_path):
    root = download()
    with pytest.raises(UserError, match=r'no attribute "Smilling" .*did you mean "Smiling"'):
        CelebASource(root, labels={"Male": "Smilling"}).read(TASKS)
    with pytest.raises(UserError, match=r"has no list_attr_celeba.txt, nor has one of its folders"):
        CelebASource(tmp_path / "Img").read(TASKS)


def test_images_outside_of_their_folder_are_taken_only_where_that_is_allowed(download, tmp_path):
    root = download(ATTRIBUTES.replace("000001.jpg", "../a.jpg"), PARTITION + "../a.jpg 0\n")
    (tmp_path / "Img/a.jpg").touch()
    with pytest.raises(UserError, match=r'row 3: "../a.jpg" is outside of the root .*celeba \('):
        CelebASource(root).read(TASKS)
    table = CelebASource(root, allow_outside_root=True).read(TASKS)
    assert table.images[0] == os.path.realpath(tmp_path / "Img/a.jpg")


def test_a_list_that_is_no_text(download):
    root = download()
    (root / "Anno/list_attr_celeba.txt").write_bytes(b"3\n\xff\n")
    with pytest.raises(UserError, match=r"celeba.txt cannot be read: 'utf-8' codec"):
        CelebASource(root).read(TASKS)


def test_it_is_recognised_by_its_list(download):
    root = download()
    for path in (root, root / "Anno/list_attr_celeba.txt"):
        known = CelebASource.recognise(str(path))
        assert known.arguments == {"path": str(root)}
        assert known.labels == ("5_o_Clock_Shadow", "Male", "Smiling", "Young")
    (root / "Eval/list_eval_partition.txt").unlink()
    known = CelebASource.recognise(str(root))
    assert known.arguments == {"path": str(root), "partition": False}
    assert CelebASource(**known.arguments).read(known.labels).splits is None
    assert CelebASource.recognise(str(root / "Img")) is None
    assert CelebASource.recognise(str(root / "Img/img_align_celeba/000001.jpg")) is None
