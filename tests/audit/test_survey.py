import numpy as np
import pytest

from mtl_lightning.audit.findings import Level
from mtl_lightning.audit.survey import (
    is_file,
    join,
    read_all,
)
from mtl_lightning.data.labels import LabelTable
from mtl_lightning.data.merging import MergeOptions
from mtl_lightning.data.sources import FolderSource, TableSource
from mtl_lightning.data.splits import SPLITS
from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks import Classification
from tests.helpers.data import Memory
from tests.helpers.files.messy import photo


@pytest.fixture
def table(tmp_path):
    for number in range(4):
        photo(tmp_path / f"{number}.jpg", number)
    rows = ["0.jpg,a", "9.jpg,b", "1.jpg,a", ",b", "2.jpg,b"]
    (tmp_path / "t.csv").write_text("image,kind\n" + "\n".join(rows) + "\n")
    return TableSource(tmp_path / "t.csv")


def test_of_a_table_with_missing_images_the_others_are_read(table, tmp_path):
    read, (finding,) = read_all({"t": table}, ["kind"])
    assert finding.level is Level.ERROR
    assert finding.what == "data.sources.t: 2 rows name images that do not exist"
    where = f"{tmp_path}/t.csv row "
    assert finding.where == (f"{where}3: 9.jpg", f"{where}5: an empty cell")
    found = read["t"].read(["kind"])
    assert found.rows.tolist() == [2, 4, 6]
    assert found.labels["kind"].tolist() == ["a", "a", "b"]
    assert read["t"].load(found.images[0]).shape == (40, 48, 3)


def test_one_missing_image_is_reported_as_by_fit(table, tmp_path):
    (tmp_path / "t.csv").write_text("image,kind\n0.jpg,a\n9.jpg,b\n")
    read, (finding,) = read_all({"t": table}, ["kind"])
    with pytest.raises(UserError) as error:
        table.read(["kind"])
    assert finding.what == f"data.sources.t: {error.value}"
    assert len(read["t"].read(["kind"]).images) == 1


def test_a_source_that_is_wrong_does_not_hide_the_others(table, tmp_path):
    (tmp_path / "bad.csv").write_text("image,kind,split\n0.jpg,a,tarin\n8.jpg,a,train\n")
    (tmp_path / "bare.csv").write_text("image,kind\n8.jpg,a\n")
    sources = {
        "gone": FolderSource(tmp_path / "gone", "kind"),
        "bad": TableSource(tmp_path / "bad.csv"),
        "bare": TableSource(tmp_path / "bare.csv"),
        "column": TableSource(tmp_path / "bad.csv", image="img"),
        "memory": Memory({"kind": ["a", "b"]}, ["train", "val"]),
    }
    read, findings = read_all(sources, ["kind"])
    assert list(read) == ["memory"]
    lines = [finding.what for finding in findings]
    assert [line.split(":")[0].rpartition(".")[2] for line in lines] == [
        *("gone", "bad", "bad", "bare", "column")
    ]
    assert "8.jpg" in lines[1]
    assert 'row 2, column "split": "tarin" is not a split' in lines[2]


def test_every_contradiction_is_reported():
    one = Memory({"kind": ["a", "b", "a"]}, ["train", "train", "val"])
    two = Memory({"kind": ["b", "b", "b"]}, ["train", "test", "val"])
    read, findings = read_all({"one": one, "two": two}, ["kind"])
    assert not findings
    assert all(type(source).__name__ == "_ReadSource" for source in read.values())
    table, findings = join(read, labels())
    assert [finding.what for finding in findings] == [
        'images labelled in two ways, task "kind": 2',
        "images with two splits: 1",
    ]
    assert len(findings[0].where) == 2
    assert findings[0].where[1] == (
        'memory memory:2 says "a", memory memory:2 says "b" for memory:2 (task "kind")'
    )
    assert table.cells["kind"].tolist() == ["a", "b", "a"]
    assert [SPLITS[split] for split in table.splits] == ["train", "train", "val"]
    assert isinstance(table.load(0), np.ndarray)


def test_labels_that_may_contradict_each_other_are_a_warning():
    one = Memory({"kind": ["a", "b", "a"]}, ["train", "train", "val"])
    two = Memory({"kind": ["b", "b", "b"]}, ["train", "train", "val"])
    read, _ = read_all({"one": one, "two": two}, ["kind"])
    table, findings = join(read, labels(on_conflict="drop"))
    assert [(finding.level, finding.what) for finding in findings] == [
        (
            Level.WARNING,
            "images with labels that contradict each other, task kind: 2; none holds",
        )
    ]
    assert table.cells["kind"].tolist() == [None, "b", None]


def test_nothing_to_join():
    assert join({}, labels()) == (None, [])
    with pytest.raises(UserError, match="splits should name val and test"):
        join({}, labels(fractions={"vall": 0.1}))


def labels(**options):
    return LabelTable({"kind": Classification()}, {}, MergeOptions(**options))


def test_keys_are_no_files():
    assert is_file("/a/b.jpg")
    assert not is_file("digits:17")


def test_target_files_are_found_where_the_source_looks(table, tmp_path):
    table.labels = {"mask": "kind"}
    (tmp_path / "t.csv").write_text("image,kind\n9.jpg,\n0.jpg,1.jpg\n")
    read, _ = read_all({"t": table}, ["mask"])
    found = read["t"].target_files(read["t"].read(["mask"]), "mask")
    assert found.tolist() == [str(tmp_path / "1.jpg")]


@pytest.mark.parametrize("image", ["1.jpg", "9.jpg"])
def test_a_missing_target_file_is_a_finding(table, tmp_path, image):
    table.labels = {"mask": "kind"}
    (tmp_path / "t.csv").write_text(f"image,kind\n{image},\n0.jpg,m.png\n")
    read, findings = read_all({"t": table}, ["mask"], ["mask"])
    assert read == {}
    assert len(findings) == 1 + (image == "9.jpg"), "the missing image is another"
    assert findings[-1].level is Level.ERROR
    assert findings[-1].what.startswith(
        f'data.sources.t: {tmp_path}/t.csv row 3, column "kind": there is no file "m.png" in '
        f"{tmp_path} (1 of 1 target files of task mask do not exist)"
    )
