import json

import pytest

from mtl_lightning.data.packs.manifest import FORMAT, Manifest, read_manifest
from mtl_lightning.system.errors import UserError

MANIFEST = {
    "format": FORMAT,
    "images": 3,
    "tasks": ["a", "b/c"],
    "labels": {"size": 90, "sha256": "0"},
}


def with_(**changes):
    return json.dumps(MANIFEST | changes).encode()


def test_what_is_written_is_read():
    assert read_manifest(with_(more=1), "m") == Manifest(3, ["a", "b/c"], 90, "0")


@pytest.mark.parametrize("version", [1, FORMAT + 1])
def test_another_format(version):
    message = rf"^m: `format` should be {FORMAT}, .*\. Found {version}; pack the data with this"
    for content in (with_(format=version), json.dumps({"format": version}).encode()):
        with pytest.raises(UserError, match=message):
            read_manifest(content, "m")


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"\xff",
        b"[1]",
        b"[" * 100_000,
        b"{}",
        with_(format="2"),
        with_(format=2.0),
        with_(images=-1),
        with_(images="3"),
        with_(tasks=[1]),
        with_(tasks="ab"),
        with_(labels="x"),
        with_(labels={"size": 90}),
        with_(labels={"size": 0, "sha256": "0"}),
        with_(labels={"size": 90, "sha256": 0}),
    ],
)
def test_what_is_not_a_manifest(content):
    with pytest.raises(UserError, match=r"^m is damaged, or not the manifest of a pack; expected"):
        read_manifest(content, "m")
