import io
import os
import pickle

import numpy as np
import pandas as pd
import pytest

from mtl_lightning.data.packs import reading
from mtl_lightning.data.packs.reading import Pack
from mtl_lightning.data.packs.storage import PackStorage
from mtl_lightning.system.errors import SourceError, UserError
from tests.helpers.files.packs import flip, packed, rows_of, shop, sign


@pytest.fixture
def folder(tmp_path):
    packed(shop(tmp_path), tmp_path / "p", shard_bytes=8_000)
    return tmp_path / "p"


def opened(folder):
    return Pack(PackStorage(str(folder)))


def test_every_image_is_found_in_any_order_with_few_shards_open(folder, monkeypatch):
    monkeypatch.setattr(reading, "OPEN_SHARDS", 3)
    pack = opened(folder)
    assert pack.shards.max() > 10
    rows = range(len(pack.keys))
    forwards = [pack.content(row) for row in rows]
    assert [pack.content(row) for row in reversed(rows)] == forwards[::-1]
    assert len(pack._files) == 3


def test_a_forked_process_and_a_pickled_one_go_on(folder):
    pack = opened(folder)
    expected = pack.content(0)
    assert pickle.loads(pickle.dumps(pack)).content(0) == expected
    pid = os.fork()
    if not pid:
        os._exit(pack.content(0) != expected)
    assert os.waitpid(pid, 0)[1] == 0


@pytest.mark.parametrize("where", [0, 0.5, 1])
def test_a_bit_that_is_not_as_it_was_is_found(folder, where):
    pack = opened(folder)
    *_, before, row = rows_of(pack, 1)
    whole = pack.content(before)
    size = len(pack.content(row))
    path = folder / "shard-00001.bin"
    flip(path, path.stat().st_size - size + round(where * (size - 1)))
    pack = opened(folder)
    with pytest.raises(UserError) as caught:
        pack.content(row)
    assert type(caught.value) is UserError
    assert str(caught.value) == (
        f"image {row} of the pack, in shard-00001.bin, is damaged (its checksum differs); copy the "
        "pack again"
    )
    assert pack.content(before) == whole


def test_shards_that_are_not_as_long_as_the_table_says(folder):
    path = folder / "shard-00001.bin"
    size = path.stat().st_size
    row = rows_of(opened(folder), 1)[0]
    for length in (size - 1, size + 1, 0):
        os.truncate(path, length)
        message = rf"/p: shard-00001\.bin should have {size:,} bytes\. Found {length:,}: it is cut"
        with pytest.raises(SourceError, match=message):
            opened(folder).content(row)
    path.unlink()
    with pytest.raises(SourceError, match=r"/p: there is no shard-00001\.bin; copy the pack again"):
        opened(folder).content(row)
    path.mkdir()
    with pytest.raises(SourceError, match=r"shard-00001\.bin cannot be read: Is a directory"):
        opened(folder).content(row)


def test_the_table_is_as_it_was_written(folder):
    flip(folder / "labels.parquet", (folder / "labels.parquet").stat().st_size // 2)
    with pytest.raises(UserError, match=r"/p: labels\.parquet is damaged \(its checksum differs\)"):
        opened(folder)


def changed(folder, change):
    """Give a pack another table, and its checksum, as somebody would who means it."""
    file = io.BytesIO()
    change(pd.read_parquet(folder / "labels.parquet")).to_parquet(file)
    (folder / "labels.parquet").write_bytes(file.getvalue())
    sign(folder)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("mask:kind", True, "`mask:kind` should be true where there is a label and false where th"),
        ("split", "rest", "`split` should be train, val or test. Found another value"),
        ("crc32", "x", "is not the table of a pack: "),
        ("crc32", -1, "is not the table of a pack: "),
        ("size", 0, "is not the table of a pack: the images are not in the order"),
        ("size", 2**32, "is not the table of a pack: "),
        ("shard", 1, "is not the table of a pack: the images are not in the order"),
        ("shard", lambda table: table["shard"][::-1].to_numpy(), "is not the table of a pack: the"),
        ("shard", lambda table: table["shard"] * 2, "is not the table of a pack: the images are"),
        ("shard", 1.5, "is not the table of a pack: "),
        ("shard", None, "is not the table of a pack: "),
    ],
)
def test_tables_that_contradict_themselves(folder, column, value, message):
    changed(folder, lambda table: table.assign(**{column: value}))
    with pytest.raises(UserError) as caught:
        opened(folder)
    assert f"/p: labels.parquet: {message}" in str(caught.value).replace(
        ".parquet is", ".parquet: is"
    )


def test_sizes_that_lead_out_of_the_shard_are_an_error_before_anything_is_read(folder):
    changed(folder, lambda table: table.assign(size=2**32 - 1))
    pack = opened(folder)
    with pytest.raises(SourceError, match=r"shard-00000\.bin should have [\d,]{11,} bytes\. Found"):
        pack.content(0)


def test_what_is_not_a_table(folder):
    whole = pd.read_parquet(folder / "labels.parquet")
    changed(folder, lambda table: table.drop(columns="mask:kind"))
    with pytest.raises(UserError, match=r"is not the table of a pack: .*mask:kind"):
        opened(folder)
    changed(folder, lambda table: whole[1:])
    rows = f"{len(whole) - 1:,} rows, not {len(whole):,}"
    with pytest.raises(UserError, match=f"is not the table of a pack: {rows}"):
        opened(folder)
    (folder / "labels.parquet").write_bytes(b"PAR1")
    sign(folder)
    with pytest.raises(UserError, match=r"labels\.parquet is not the table of a pack: "):
        opened(folder)


def test_keys_labels_and_shards_are_arrays_by_row(folder):
    pack = opened(folder)
    count = len(pack.keys)
    assert {len(pack.splits), len(pack.shards), *map(len, pack.labels.values())} == {count}
    assert list(pack.labels) == ["kind", "size", "tags/hat", "tags/bag", "ink"]
    assert (np.diff(pack.shards) >= 0).all()
