import io
import os
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Sequence, Value, config
from datasets import Image as ImageColumn
from huggingface_hub import constants
from PIL import Image

from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.data.images import decode
from mtl_lightning.data.intensity import Intensity
from mtl_lightning.data.sources import HuggingFaceSource
from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks import MultiLabel
from tests.helpers.files import downloads

TASKS = ["kind", "age"]
FEATURES = {
    "kind": ClassLabel(names=["cat", "dog"]),
    "picture": ImageColumn(),
    "age": Value("float32"),
    "owner": Value("string"),
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """What the library unpacks goes into a folder of the test's own."""
    monkeypatch.setattr(config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


def pixels(i):
    return np.full((4, 5, 3), 10 * i, dtype=np.uint8)


def data(count=4, **features):
    """Return rows with an image of their own each; the last one is not labelled."""
    rows = {
        "kind": [i % 2 for i in range(count - 1)] + [-1],
        "picture": [{"bytes": png(pixels(i)), "path": None} for i in range(count)],
        "age": [1.5, 3.0, None, 0.1][:count],
        "owner": [f"o{i // 2}" for i in range(count)],
    }
    return Dataset.from_dict(rows, features=Features(FEATURES | features))


def png(array):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "png")
    return file.getvalue()


def labels(table):
    return {task: cells.tolist() for task, cells in table.labels.items()}


def test_images_whose_range_the_user_knows(tmp_path):
    deep = np.array([[0, 1000, 2000]], dtype=np.uint16)
    rows = {"kind": [0], "picture": [{"bytes": png(deep), "path": None}]}
    features = {name: FEATURES[name] for name in rows}
    Dataset.from_dict(rows, features=Features(features)).save_to_disk(tmp_path / "d")
    source = HuggingFaceSource(tmp_path / "d", intensity=Intensity(min=0, max=2000))
    image = source.read(["kind"]).images[0]
    assert source.load(image)[0, :, 0].tolist() == [0, 128, 255]
    assert decode("x", content=source.content(image))[0, :, 0].tolist() == [0, 128, 255]
    source.intensity = None
    with pytest.raises(UserError, match="16-bit pixels, none above 2,000, as if of 12 bits"):
        source.load(image)


def test_a_folder_of_save_to_disk(tmp_path):
    DatasetDict({"train": data(), "validation": data(3)}).save_to_disk(tmp_path / "d")
    source = HuggingFaceSource(tmp_path / "d", group="owner")
    table = source.read(TASKS)
    assert labels(table) == {
        "kind": ["cat", "dog", "cat", None, "cat", "dog", None],
        "age": ["1.5", "3", None, "0.1", "1.5", "3", None],
    }
    assert table.splits.tolist() == ["train"] * 4 + ["val"] * 3
    assert table.groups.tolist() == ["o0", "o0", "o1", "o1", "o0", "o0", "o1"]
    with pytest.raises(UserError, match='column "owner": "o0" is not a date'):
        HuggingFaceSource(tmp_path / "d", date="owner").read(TASKS)
    assert table.keys[[3, 4]].tolist() == ["train:3", "validation:0"]
    assert table.location(5, "kind") == f'{tmp_path}/d (validation) row 1, column "kind"'
    np.testing.assert_array_equal(source.load(table.images[6]), pixels(2))
    assert source.content(table.images[6]) == png(pixels(2))
    again = HuggingFaceSource(tmp_path / "d")  # a worker gets one that has read nothing
    np.testing.assert_array_equal(again.load(table.images[6]), pixels(2))


def test_a_single_split_is_divided(tmp_path):
    data().save_to_disk(tmp_path / "d")
    assert HuggingFaceSource(tmp_path / "d").read(TASKS).splits.tolist() == [None] * 4
    data().to_parquet(tmp_path / "d.parquet")
    source = HuggingFaceSource(tmp_path / "d.parquet")
    table = source.read(TASKS)
    assert table.splits.tolist() == [None] * 4
    assert labels(table)["kind"] == ["cat", "dog", "cat", None]
    np.testing.assert_array_equal(source.load(table.images[1]), pixels(1))


def test_a_folder_of_parquet_files(tmp_path):
    for split in ("train", "test"):
        (tmp_path / "d/data").mkdir(parents=True, exist_ok=True)
        data().to_parquet(tmp_path / f"d/data/{split}-00000-of-00001.parquet")
    table = HuggingFaceSource(tmp_path / "d").read(TASKS)
    assert table.splits.tolist() == ["train"] * 4 + ["test"] * 4


def test_images_that_are_files_are_these_files(tmp_path):
    names = [f"{split}/{kind}/1.png" for split in ("train", "test") for kind in ("cat", "dog")]
    downloads.photos(tmp_path / "d", names)
    source = HuggingFaceSource(tmp_path / "d", labels={"kind": "label"})
    table = source.read(TASKS)
    assert table.images.tolist() == [os.path.realpath(tmp_path / "d" / name) for name in names]
    assert table.keys.tolist() == names
    assert labels(table) == {"kind": ["cat", "dog", "cat", "dog"]}
    assert source.load(table.images[0]).shape == (40, 36, 3)
    assert source.content(table.images[0]) == (tmp_path / "d" / names[0]).read_bytes()


def test_splits_by_the_users_word(tmp_path):
    parts = {"fit": data(), "rest": data(3), "unsure": data(2)}
    DatasetDict(parts).save_to_disk(tmp_path / "d")
    table = HuggingFaceSource(tmp_path / "d", splits={"rest": "test", "fit": None}).read(TASKS)
    assert table.splits.tolist() == ["test"] * 3 + [None] * 4
    with pytest.raises(UserError, match=r'is its split "fit" to train, val or test.*fit, rest, un'):
        HuggingFaceSource(tmp_path / "d").read(TASKS)
    with pytest.raises(UserError, match=r'has no split "rst"; splits: fit, .*did you mean "rest"'):
        HuggingFaceSource(tmp_path / "d", splits={"rst": "test"}).read(TASKS)
    with pytest.raises(UserError, match=r'`splits` has "tset".*did you mean "test"'):
        HuggingFaceSource(tmp_path / "d", splits={"rest": "tset"})


def test_names_values_and_missing_texts(tmp_path):
    data().save_to_disk(tmp_path / "d")
    source = HuggingFaceSource(
        tmp_path / "d",
        labels={"who": "kind", "age": "age"},
        values={"who": {"cat": "purrs", "dog": "barks"}},
        missing=["3"],
    )
    assert labels(source.read(["who", "age"])) == {
        "who": ["purrs", "barks", "purrs", None],
        "age": ["1.5", None, None, "0.1"],
    }


def test_which_column_holds_the_images(tmp_path):
    two = data().add_column("other", [None] * 4)
    two.cast_column("other", ImageColumn()).save_to_disk(tmp_path / "two")
    with pytest.raises(UserError, match=r"has 2 columns of images \(picture, other\); name one"):
        HuggingFaceSource(tmp_path / "two").read(TASKS)
    assert len(HuggingFaceSource(tmp_path / "two", image="picture").read(TASKS).images) == 4
    with pytest.raises(UserError, match=r"two \(all\) row 0 has no image; expected one in every"):
        HuggingFaceSource(tmp_path / "two", image="other").read(TASKS)
    with pytest.raises(UserError, match=r'no column "pictur" .*did you mean "picture"'):
        HuggingFaceSource(tmp_path / "two", image="pictur").read(TASKS)
    with pytest.raises(UserError, match=r'split all: column "age" holds no images but Value'):
        HuggingFaceSource(tmp_path / "two", image="age").read(TASKS)


@pytest.mark.parametrize("lists_of", [Sequence, lambda feature: [feature]])
def test_lists_of_classes_are_many_labels(tmp_path, lists_of):
    tags = ClassLabel(names=["hat", "bag;x", "scarf"])
    rows = data().add_column("tags", [[1], [2, 0], [], None])
    rows.cast_column("tags", lists_of(tags)).save_to_disk(tmp_path / "d")
    task = MultiLabel(["scarf", "hat", "bag;x"], separator=",")
    tables = PartialLabels({"tags": task}, {"d": HuggingFaceSource(tmp_path / "d")})
    encoded = task.encode(tables.labels.cells("tags"))
    assert encoded.targets[:3].tolist() == [[0, 0, 1], [1, 1, 0], [0, 0, 0]]
    assert encoded.counts().tolist() == [3, 3, 3, 0]


def test_lists_of_numbers_are_names_and_lists_of_lists_are_no_labels(tmp_path):
    rows = data().add_column("tags", [[1], [2, 3], [], None])
    rows.save_to_disk(tmp_path / "d")
    table = HuggingFaceSource(tmp_path / "d").read(["tags"])
    assert table.labels["tags"].tolist() == ['["1"]', '["2", "3"]', "[]", None]
    data().add_column("tags", [[[1]]] * 4).save_to_disk(tmp_path / "e")
    with pytest.raises(UserError, match=r'row 0, column "tags": expected text, a number, a truth'):
        HuggingFaceSource(tmp_path / "e").read(["tags"])


def test_without_internet_one_line_says_how_to_go_on(monkeypatch, capfd):
    def unreachable(*arguments, **options):
        raise OSError(-2, "Name or service not known")

    monkeypatch.setattr("socket.getaddrinfo", unreachable)
    monkeypatch.setattr("mtl_lightning.data.sources.huggingface.getproxies", dict)
    with pytest.raises(UserError) as caught:
        HuggingFaceSource("uoft-cs/cifar100").read(TASKS)
    assert str(caught.value) == (
        "uoft-cs/cifar100 is neither a folder nor a file here, and as a data set on the hub it "
        "cannot be fetched (Couldn't reach 'uoft-cs/cifar100' on the Hub (OfflineModeIsEnabled)); "
        "without internet, give the path of a folder that save_to_disk wrote, or of Parquet files"
    )
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""
    assert not constants.HF_HUB_OFFLINE
    assert not config.HF_HUB_OFFLINE


def test_what_is_no_data_set(tmp_path):
    (tmp_path / "d").mkdir()
    with pytest.raises(UserError, match=r"/d cannot be opened by the library datasets: "):
        HuggingFaceSource(tmp_path / "d").read(TASKS)
    (tmp_path / "d.parquet").write_bytes(b"x")
    with pytest.raises(UserError, match=r"d\.parquet cannot be opened by the library datasets: "):
        HuggingFaceSource(tmp_path / "d.parquet").read(TASKS)


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"pip install 'mtl-lightning\[huggingface\]'"):
        HuggingFaceSource("d").read(TASKS)


def naming(path, files):
    """Write a Parquet file of images that are files of their own."""
    features = Features({"picture": ImageColumn(), "kind": Value("string")})
    rows = {
        "picture": [{"bytes": None, "path": str(file)} for file in files],
        "kind": ["cat"] * len(files),
    }
    pq.write_table(pa.table(rows).cast(features.arrow_schema), path)
    return path


def test_files_outside_of_the_folder_are_taken_only_where_that_is_allowed(tmp_path):
    downloads.photos(tmp_path, ["d/a.png", "b.png"])
    path = naming(tmp_path / "d/d.parquet", ["a.png", "../b.png"])
    with pytest.raises(UserError, match=r'row 1: "../b.png" is outside of the root .*/d \(1 of 2'):
        HuggingFaceSource(path).read(TASKS)
    table = HuggingFaceSource(path, allow_outside_root=True).read(TASKS)
    assert table.images.tolist() == [os.path.realpath(tmp_path / n) for n in ("d/a.png", "b.png")]
    assert table.keys.tolist() == ["a.png", "../b.png"]


def test_what_the_library_has_fetched_is_the_data_set_s(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    downloads.photos(tmp_path, ["hub/a.png", "b.png"])
    (tmp_path / "d").mkdir()
    path = naming(tmp_path / "d/d.parquet", [tmp_path / "hub/a.png"])
    assert HuggingFaceSource(path).read(TASKS).keys.tolist() == ["a.png"]
    path = naming(tmp_path / "d/e.parquet", [tmp_path / "hub/a.png", tmp_path / "hub/../b.png"])
    with pytest.raises(UserError, match=r'row 1: ".*/b.png" is outside of the root .*/hub \('):
        HuggingFaceSource(path).read(TASKS)
