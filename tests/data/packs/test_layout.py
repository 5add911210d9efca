import json

import pytest

from mtl_lightning.data.packs.layout import Shard, read_index, read_manifest
from mtl_lightning.system.errors import UserError

MANIFEST = {
    "format": 1,
    "images": 3,
    "tasks": ["a", "b/c"],
    "checksums": {"index.json": "0", "labels.parquet": "1"},
}
CHUNK = {"filename": "chunk-0-0.bin", "chunk_bytes": 90, "chunk_size": 3, "dim": None}
INDEX = {"chunks": [CHUNK], "config": {"data_format": ["bytes"], "compression": None}}


def said(value):
    return json.dumps(value).encode()


def test_what_is_written_is_read():
    manifest = read_manifest(said(MANIFEST | {"more": 1}), "m")
    assert (manifest.images, manifest.tasks) == (3, ["a", "b/c"])
    assert read_index(said(INDEX), "i", 3) == [Shard("chunk-0-0.bin", 90, 3)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", r"^m is damaged: it holds no JSON object; copy the pack anew$"),
        (b"\xff", r"^m is damaged"),
        (b"[1]", r"^m is damaged"),
        (b"[" * 100_000, r"^m is damaged"),
        (said(MANIFEST | {"format": 2}), r"^m: the pack has format 2, .* reads formats up to 1; u"),
        (said(MANIFEST | {"format": "1"}), r"^m is no manifest of a pack; expected what"),
        (said(MANIFEST | {"format": True}), r"^m is no manifest"),
        (said(MANIFEST | {"images": -1}), r"^m is no manifest"),
        (said(MANIFEST | {"tasks": [1]}), r"^m is no manifest"),
        (said(MANIFEST | {"checksums": {"index.json": "0"}}), r"^m is no manifest"),
        (said({}), r"^m is no manifest"),
    ],
)
def test_what_is_no_manifest(content, message):
    with pytest.raises(UserError, match=message):
        read_manifest(content, "m")


def index(config=None, **chunk):
    return said({"chunks": [CHUNK | chunk], "config": INDEX["config"] | (config or {})})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (said({"chunks": []}), r"^i is no index of litdata"),
        (index({"data_format": ["pickle"]}), r'the items are "\["pickle"\]"; expected \["bytes"\]'),
        (index({"data_format": ["bytes", "pickle"]}), r"may run code \(pickle\), so it is refused"),
        (index({"data_format": None}), r"^i: the items are "),
        (index({"compression": "zstd"}), r"^i: the shards have compression; expected none"),
        (index({"encryption": {"algorithm": "fernet"}}), r"^i: the shards have encryption"),
        (index(filename="../chunk-0-0.bin"), r'^i: "\.\./chunk-0-0\.bin" is no name of a shard'),
        (index(filename="/etc/x.bin"), r"no name of a shard"),
        (index(filename="..bin"), r"no name of a shard"),
        (index(filename="labels.parquet"), r"no name of a shard"),
        (index(filename=None), r"no name of a shard"),
        (index(chunk_bytes=0), r"^i: shard chunk-0-0.bin has no size"),
        (index(chunk_size="3"), r"^i: shard chunk-0-0.bin has no size"),
        (index(chunk_size=4), r"^i: the shards hold 4 images; expected 3$"),
        (said(INDEX | {"chunks": [3]}), r"no name of a shard"),
    ],
)
def test_what_is_no_index_of_plain_bytes(content, message):
    with pytest.raises(UserError, match=message):
        read_index(content, "i", 3)
