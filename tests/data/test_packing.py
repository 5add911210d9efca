import json

import numpy as np
import pandas as pd
import pytest

from mtl_lightning.data import packing
from mtl_lightning.data.images import decode
from mtl_lightning.data.intensity import Intensity
from mtl_lightning.data.packs.reading import Pack
from mtl_lightning.data.packs.storage import PackStorage
from mtl_lightning.data.records import RecordWriter
from mtl_lightning.data.sources import StreamSource
from mtl_lightning.data.splits import SPLITS
from mtl_lightning.system.errors import UserError
from tests.helpers.files.packs import packed, shop


@pytest.fixture
def data(tmp_path):
    return shop(tmp_path)


def test_the_table_holds_labels_masks_and_splits_in_the_order_of_the_shards(data, tmp_path):
    result = packed(data, tmp_path / "p")
    table = pd.read_parquet(tmp_path / "p/labels.parquet")
    fields = ["kind", "size", "tags/hat", "tags/bag", "ink"]
    columns = [f"{what}:{field}" for field in fields for what in ("label", "mask")]
    assert list(table) == ["image", "split", "shard", "size", "crc32", *columns]
    merged = data.labels.table
    rows = {key: row for row, key in enumerate(merged.keys)}
    of = [rows[key] for key in table["image"]]
    assert len(set(of)) == len(of) == sum(result.images.values())
    for field in fields:
        expected = merged.cells[field][of]
        labels = table[f"label:{field}"].astype(object)
        assert labels.where(labels.notna(), None).tolist() == expected.tolist()
        assert table[f"mask:{field}"].tolist() == pd.notna(expected).tolist()
    assert table["split"].tolist() == [SPLITS[merged.splits[row]] for row in of]
    reader = Pack(PackStorage(str(tmp_path / "p")))
    for row in range(0, len(of), 17):
        assert reader.content(row) == merged.content(of[row])
        pixels = decode("x", content=reader.content(row))
        np.testing.assert_array_equal(pixels, merged.load(of[row]))


def test_a_pack_holds_images_as_their_source_says_what_is_black_and_white(tmp_path):
    data = shop(tmp_path)
    for source in data.sources.values():
        source.intensity = Intensity(min=50, max=150)
    packed(data, tmp_path / "p")
    pack = StreamSource(tmp_path / "p")
    table = pack.read(["kind"])
    row = table.keys.tolist().index("photos/00.png")
    image = data.labels.table.images.tolist().index(str(tmp_path.resolve() / "photos/00.png"))
    pixels = pack.load(table.images[row])
    np.testing.assert_array_equal(pixels, data.labels.table.load(image))
    assert np.median(pixels) > 150
    assert 0 in pixels


def test_shards_are_samples_of_a_split(data, tmp_path):
    result = packed(data, tmp_path / "p", shard_bytes=8_000)
    table = pd.read_parquet(tmp_path / "p/labels.parquet")
    assert table["split"].drop_duplicates().tolist() == list(SPLITS)
    numbers = table["image"][table["image"].str.startswith("digits")].str[7:].astype(int)
    assert not numbers.is_monotonic_increasing
    sizes = [path.stat().st_size for path in sorted((tmp_path / "p").glob("shard-*.bin"))]
    assert result.shards == len(sizes) > 10
    assert table.groupby("shard")["size"].sum().tolist() == sizes
    several = table.groupby("shard").size() > 1
    assert 6_000 < max(np.array(sizes)[several]) <= 8_000
    assert result.size == sum(sizes)


def test_what_carries_no_label_is_left_out_and_counted(data, tmp_path):
    result = packed(data, tmp_path / "p")
    labelled = np.any([data.labels.has_label(task) for task in data.tasks], axis=0)
    assert result.unlabelled == (~labelled).sum() > 1000
    assert not labelled[data.labels.table.keys == "photos/29.jpg"].any()
    manifest = json.loads((tmp_path / "p/pack.json").read_text())
    assert manifest["left_out"] == {"unlabelled": result.unlabelled, "unreadable": 0}
    assert manifest["splits"] == result.images
    assert (
        manifest["images"]
        == sum(result.images.values())
        == len(data.labels.table) - result.unlabelled
    )
    assert manifest["tasks"] == ["kind", "size", "tags/hat", "tags/bag", "ink"]


def nothing_but(folder, *names):
    return sorted(path.name for path in folder.iterdir()) == sorted(names)


def test_an_image_that_cannot_be_read_stops_it_and_leaves_nothing(tmp_path):
    data = shop(tmp_path, bad=[12])
    with pytest.raises(UserError) as caught:
        packed(data, tmp_path / "new/p")
    assert str(caught.value) == (
        f"{tmp_path}/kinds.csv row 14: image {tmp_path}/photos/12.png cannot be read (not an "
        "image, or broken at its start); expected an intact JPEG, PNG, WebP, BMP, GIF or TIFF "
        "file; "
        "data.on_bad_image: skip leaves such images out"
    )
    assert nothing_but(tmp_path / "new")


def test_it_can_be_skipped(tmp_path):
    data = shop(tmp_path, bad=[12, 3], on_bad_image="skip")
    result = packed(data, tmp_path / "p")
    assert sorted(bad.where for bad in result.unreadable) == [
        f"{tmp_path}/kinds.csv row 14",
        f"{tmp_path}/kinds.csv row 5",
    ]
    keys = pd.read_parquet(tmp_path / "p/labels.parquet")["image"].tolist()
    assert not {"photos/12.png", "photos/03.jpg"} & set(keys)
    assert "photos/13.jpg" in keys


def test_too_many_of_them_are_too_many(tmp_path):
    data = shop(tmp_path, bad=[12], on_bad_image="skip", max_bad_share=0.0001)
    with pytest.raises(UserError, match=r"1 of [\d,]+ val images could not be used, and data\.max"):
        packed(data, tmp_path / "p")
    assert not (tmp_path / "p").exists()


class Killed(BaseException):
    """Nothing handles it."""


@pytest.mark.parametrize("step", ["append", "_write_labels", "_write_manifest"])
def test_a_failure_at_any_step_leaves_nothing(data, tmp_path, monkeypatch, step):
    def killed(*arguments):
        raise Killed

    if step == "append":
        monkeypatch.setattr(RecordWriter, "append", killed)
    else:
        monkeypatch.setattr(packing, step, killed)
    with pytest.raises(Killed):
        packed(data, tmp_path / "new/p")
    assert nothing_but(tmp_path / "new")


def test_what_a_killed_process_leaves_is_no_pack(data, tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "_write_manifest", lambda *arguments: 1 / 0)
    monkeypatch.setattr("shutil.rmtree", lambda *arguments, **options: None)
    with pytest.raises(ZeroDivisionError):
        packed(data, tmp_path / "new/p")
    (left,) = (tmp_path / "new").iterdir()
    assert left.name.startswith(".p.")
    assert not (left / "pack.json").exists()


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_nothing_is_overwritten(data, tmp_path, kind):
    output = tmp_path / "p"
    if kind == "file":
        output.write_text("precious")
    elif kind == "folder":
        output.mkdir()
    else:
        output.symlink_to("nowhere")
    with pytest.raises(UserError, match=r"Found .*/p, which is never overwritten"):
        packed(data, output)
    assert not list(tmp_path.glob(".p*"))
