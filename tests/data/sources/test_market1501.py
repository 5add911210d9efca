import os

import numpy as np
import pytest
from scipy.io import savemat

from mtl_lightning.data.sources import Market1501AttributeSource
from mtl_lightning.system.errors import UserError

TASKS = ["gender", "age", "up", "upcolor", "bags/backpack", "bags/bag"]
PERSONS = {
    "train": {
        "image_index": ["0002", "0007"],
        "gender": [1, 2],
        "age": [2, 4],
        "up": [2, 1],
        "down": [1, 1],
        "backpack": [1, 2],
        "bag": [2, 1],
        "upblack": [1, 2],
        "upred": [2, 2],
        "downblack": [1, 1],
        "downblue": [2, 1],
    }
}
PERSONS["test"] = PERSONS["train"] | {"image_index": ["0001", "1501"]}
IMAGES = [
    "bounding_box_train/0002_c1s1_000451_03.jpg",
    "bounding_box_train/0007_c3s3_077419_03.jpg",
    "bounding_box_train/0002_c6s4_001877_00.jpg",
    "bounding_box_test/1501_c6s4_001877_01.jpg",
    "bounding_box_test/0000_c1s1_000151_01.jpg",
    "bounding_box_test/-1_c3s2_017242_01.jpg",
    "query/0001_c1s1_001051_00.jpg",
]


def attributes(path, persons=PERSONS):
    """Write the file as MATLAB does: a struct of structs, the identities in a cell array."""
    cells = {
        split: {
            name: np.array([values], dtype=object if name == "image_index" else float)
            for name, values in own.items()
        }
        for split, own in persons.items()
    }
    savemat(path, {"market_attribute": cells})


@pytest.fixture
def market(tmp_path):
    for name in IMAGES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    attributes(tmp_path / "market_attribute.mat")
    return tmp_path


def test_each_image_has_the_attributes_of_its_person(market):
    table = Market1501AttributeSource(market).read(TASKS)
    known = [IMAGES[i] for i in (0, 2, 1, 3, 6)]
    assert table.keys.tolist() == known
    assert table.images[4] == os.path.realpath(market / IMAGES[6])
    assert table.splits.tolist() == ["train"] * 3 + ["test"] * 2
    assert table.groups.tolist() == ["0002", "0002", "0007", "1501", "0001"]
    assert {task: cells.tolist() for task, cells in table.labels.items()} == {
        "gender": ["male", "male", "female", "female", "male"],
        "age": ["teenager", "teenager", "old", "old", "teenager"],
        "up": ["short", "short", "long", "long", "short"],
        "upcolor": ["red", "red", None, None, "red"],
        "bags/backpack": ["no", "no", "yes", "yes", "no"],
        "bags/bag": ["yes", "yes", "no", "no", "yes"],
    }
    assert table.location(2, "age") == f"folder {market}/ {IMAGES[1]}"


def test_names_values_and_a_file_elsewhere(market, tmp_path):
    (market / "market_attribute.mat").rename(tmp_path / "a.mat")
    with pytest.raises(UserError, match=r"market_attribute.mat does not exist; set the path"):
        Market1501AttributeSource(market).read(TASKS)
    source = Market1501AttributeSource(
        market,
        attributes=tmp_path / "a.mat",
        labels={"trousers": "downcolor"},
        values={"trousers": {"blue": "jeans"}},
    )
    assert source.read(["trousers"]).labels["trousers"].tolist() == ["jeans"] * 2 + [None] * 2 + [
        "jeans"
    ]
    with pytest.raises(UserError, match=r'no attribute "downcolour".*did you mean "downcolor"'):
        Market1501AttributeSource(
            market, tmp_path / "a.mat", labels={"trousers": "downcolour"}
        ).read(["trousers"])


def test_wrong_files(market):
    file = market / "market_attribute.mat"
    attributes(file, PERSONS | {"train": PERSONS["train"] | {"gender": [1, 3]}})
    with pytest.raises(UserError, match=r"\(train\), identity 0007: gender is 3; expected a num"):
        Market1501AttributeSource(market).read(TASKS)
    attributes(file, PERSONS | {"test": PERSONS["test"] | {"gender": [1, 2, 1]}})
    with pytest.raises(UserError, match=r"\(test\) has 3 answers for gender and 2 identities"):
        Market1501AttributeSource(market).read(TASKS)
    attributes(file, PERSONS | {"test": PERSONS["train"]})
    with pytest.raises(UserError, match=r"says nothing of 1501 in test \(bounding_box_test/1501_"):
        Market1501AttributeSource(market).read(TASKS)
    savemat(file, {"duke_attribute": 1})
    with pytest.raises(UserError, match=r"is not the market_attribute.mat of"):
        Market1501AttributeSource(market).read(TASKS)
    file.write_bytes(b"MATLAB 5.0")
    with pytest.raises(UserError, match=r"is not the market_attribute.mat of"):
        Market1501AttributeSource(market).read(TASKS)
    with pytest.raises(UserError, match="has no image such as bounding_box_train/0002_c1s1_000451"):
        Market1501AttributeSource(market / "query").read(TASKS)


def test_links_out_of_the_folder_are_followed_only_where_that_is_allowed(market, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("query")
    (market / IMAGES[6]).rename(elsewhere / "0001_c1s1_001051_00.jpg")
    (market / "query").rmdir()
    (market / "query").symlink_to(elsewhere)
    with pytest.raises(UserError, match=r'"query" links to .*, outside of the root'):
        Market1501AttributeSource(market).read(TASKS)
    table = Market1501AttributeSource(market, allow_outside_root=True).read(TASKS)
    assert table.images[4] == os.path.realpath(elsewhere / "0001_c1s1_001051_00.jpg")


def test_it_is_recognised_by_its_folders_and_names(market, tmp_path):
    known = Market1501AttributeSource.recognise(str(market))
    assert known.arguments == {"path": str(market)}
    table = Market1501AttributeSource(**known.arguments).read(known.labels)
    assert set(table.labels) == {*("gender", "age", "up", "down", "backpack", "bag", "upcolor")} | {
        "downcolor"
    }
    assert Market1501AttributeSource.recognise(str(market / "query")) is None
    (tmp_path / "other/bounding_box_train").mkdir(parents=True)
    (tmp_path / "other/bounding_box_train/x.jpg").touch()
    assert Market1501AttributeSource.recognise(str(tmp_path / "other")) is None
