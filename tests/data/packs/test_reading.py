import io
import json
import os
import pickle

import pandas as pd
import pytest

from mtl_lightning.data.packs.reading import OPEN, ShardFiles, read_contents
from mtl_lightning.data.packs.storage import Folder
from mtl_lightning.system.errors import SourceError, UserError
from tests.helpers.packs import flip, packed, shop, sign


@pytest.fixture
def pack(tmp_path):
    packed(shop(tmp_path), tmp_path / "p", shard_bytes=8_000)
    return tmp_path / "p"


def opened(pack):
    place = Folder(str(pack))
    contents = read_contents(place)
    return ShardFiles(place, contents.shards, contents.checksums), contents


def change(pack, name, content):
    """Give one of the small files another content."""
    (pack / name).write_bytes(content)
    sign(pack, name)


def test_every_image_is_found_in_any_order_with_few_shards_open(pack):
    files, contents = opened(pack)
    assert len(contents.shards) > OPEN
    read = {}
    for step in (1, -1):
        for shard in contents.shards[::step]:
            for number in range(shard.images)[::step]:
                content = files.content(shard.name, number)
                assert read.setdefault((shard.name, number), content) == content
                assert len(files._opened) <= OPEN
    assert len(read) == len(contents.keys)


def test_a_forked_process_and_a_pickled_one_go_on(pack):
    files, _ = opened(pack)
    expected = files.content("chunk-0-0.bin", 0)
    assert pickle.loads(pickle.dumps(files)).content("chunk-0-0.bin", 0) == expected
    pid = os.fork()
    if not pid:
        os._exit(files.content("chunk-0-0.bin", 0) != expected)
    assert os.waitpid(pid, 0)[1] == 0


@pytest.mark.parametrize("where", ["start", "size", "middle", "end"])
def test_a_byte_that_is_not_as_it_was_is_found(pack, where):
    path = pack / "chunk-0-1.bin"
    files, contents = opened(pack)
    image = contents.shards[1].images - 1
    start, end = (
        int.from_bytes(path.read_bytes()[4 * i + 4 :][:4], "little") for i in (image, image + 1)
    )
    place = {"start": 4 + 4 * image, "size": start, "middle": (start + end) // 2, "end": end - 1}
    flip(path, place[where])
    if where != "size":  # of which nothing is read
        with pytest.raises(UserError) as caught:
            files.content("chunk-0-1.bin", image)
        assert str(caught.value) == (
            f"image {image} of shard chunk-0-1.bin is damaged (its checksum is another); copy the "
            "pack anew"
        )
    assert files.content("chunk-0-1.bin", 0)


@pytest.mark.parametrize("offset", [0, 3, 2**32 - 1])
def test_offsets_that_lead_elsewhere(pack, offset):
    path = pack / "chunk-0-1.bin"
    content = bytearray(path.read_bytes())
    content[8:12] = offset.to_bytes(4, "little")
    path.write_bytes(content)
    files, _ = opened(pack)
    for number in (0, 1):
        with pytest.raises(UserError, match=rf"^image {number} of shard chunk-0-1.bin is damaged"):
            files.content("chunk-0-1.bin", number)


def test_shards_that_are_not_what_the_index_says(pack):
    path = pack / "chunk-0-1.bin"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    files, _ = opened(pack)
    with pytest.raises(
        SourceError, match=r"/p: shard chunk-0-1\.bin has [\d,]+ bytes; expected [\d,]+"
    ):
        files.content("chunk-0-1.bin", 0)
    path.write_bytes(b"\xff" * len(whole))
    with pytest.raises(SourceError, match=r"/p: shard chunk-0-1\.bin is damaged at its start; c"):
        files.content("chunk-0-1.bin", 0)
    path.unlink()
    with pytest.raises(
        SourceError, match=r"/p: there is no shard chunk-0-1\.bin; copy the pack anew"
    ):
        files.content("chunk-0-1.bin", 0)
    path.mkdir()
    with pytest.raises(SourceError, match=r"chunk-0-1\.bin cannot be read: Is a directory"):
        files.content("chunk-0-1.bin", 0)


@pytest.mark.parametrize("name", ["index.json", "labels.parquet"])
def test_small_files_are_as_they_were_written(pack, name):
    flip(pack / name, (pack / name).stat().st_size // 2)
    with pytest.raises(
        UserError, match=rf"/p: {name} is not as it was written \(its checksum is an"
    ):
        opened(pack)


def test_a_pack_whose_items_are_pickled_is_refused_and_nothing_of_it_runs(pack):
    index = json.loads((pack / "index.json").read_text())
    index["config"]["data_format"] = ["pickle"]
    change(pack, "index.json", json.dumps(index).encode())
    with pytest.raises(
        UserError, match=r'index\.json: the items are "\["pickle"\]"; expected \["by'
    ):
        opened(pack)


def labels(pack, **changes):
    file = io.BytesIO()
    pd.read_parquet(pack / "labels.parquet").assign(**changes).to_parquet(file)
    return file.getvalue()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"mask:kind": True},
            r"labels\.parquet: task kind: the mask contradicts the labels; expec",
        ),
        ({"split": "rest"}, r"labels\.parquet: a split is none of train, val, test"),
        ({"crc32": "x"}, r"labels\.parquet is no table of a pack: "),
    ],
)
def test_tables_that_contradict_themselves(pack, changes, message):
    change(pack, "labels.parquet", labels(pack, **changes))
    with pytest.raises(UserError, match=message):
        opened(pack)


def test_tables_that_are_none(pack):
    whole = pd.read_parquet(pack / "labels.parquet")
    file = io.BytesIO()
    whole.drop(columns="mask:kind").to_parquet(file)
    change(pack, "labels.parquet", file.getvalue())
    with pytest.raises(UserError, match=r"is no table of a pack: .*mask:kind"):
        opened(pack)
    file = io.BytesIO()
    whole[1:].to_parquet(file)
    change(pack, "labels.parquet", file.getvalue())
    with pytest.raises(UserError, match=rf"has {len(whole) - 1:,} rows; expected {len(whole):,}"):
        opened(pack)
    change(pack, "labels.parquet", b"PAR1")
    with pytest.raises(UserError, match=r"labels\.parquet is no table of a pack: "):
        opened(pack)
