"""The files of a pack, and what is refused of them before anything is read."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mtl_lightning.system.errors import UserError, quoted, short

FORMAT = 1
"""Of what is written here; a higher one is of a later version of this package."""

MANIFEST, INDEX, LABELS = "pack.json", "index.json", "labels.parquet"
ITEMS = ["bytes"]
"""How litdata calls items of plain bytes."""

_FILE_NAME = re.compile(r"[A-Za-z0-9][\w.-]*\.bin", re.ASCII)


@dataclass(frozen=True)
class Shard:
    """A file of images.

    Attributes:
        name: The file's name.
        size: In bytes.
        images: How many it holds.
    """

    name: str
    size: int
    images: int


@dataclass(frozen=True)
class Manifest:
    """What ``pack.json`` says.

    Attributes:
        images: How many there are.
        tasks: The tasks, and ``task/label`` for each label of one that has many.
        checksums: File to the SHA-256 of its content, in hexadecimal digits.
    """

    images: int
    tasks: Sequence[str]
    checksums: Mapping[str, str]


def checksum(content: bytes) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def read_manifest(content: bytes, origin: str) -> Manifest:
    """Read ``pack.json``.

    Args:
        content: Of the file.
        origin: How messages call the file.

    Raises:
        UserError: If it is damaged, or of a later version.
    """
    said = _json(content, origin)
    version = said.get("format")
    if type(version) is int and version > FORMAT:
        raise UserError(
            f"{origin}: the pack has format {version}, and this version of mtl-lightning reads "
            f"formats up to {FORMAT}; upgrade it, or pack the data with this one"
        )
    images: Any = said.get("images")
    tasks, checksums = said.get("tasks"), said.get("checksums")
    if (
        type(version) is not int
        or version != FORMAT
        or not _is_count(images)
        or not isinstance(tasks, list)
        or not all(isinstance(task, str) for task in tasks)
        or not isinstance(checksums, dict)
        or not all(isinstance(checksums.get(name), str) for name in (INDEX, LABELS))
    ):
        raise UserError(
            f"{origin} is no manifest of a pack; expected what `mtl-lightning pack` writes"
        )
    return Manifest(images, tasks, checksums)


def read_index(content: bytes, origin: str, images: int) -> list[Shard]:
    """Read litdata's ``index.json``.

    Args:
        content: Of the file.
        origin: How messages call the file.
        images: How many the shards should hold together.

    Raises:
        UserError: If it is damaged, or the items are anything but plain bytes in plain files.
    """
    said = _json(content, origin)
    config, chunks = said.get("config"), said.get("chunks")
    if not isinstance(config, dict) or not isinstance(chunks, list):
        raise UserError(f"{origin} is no index of litdata; expected `config` and `chunks`")
    if config.get("data_format") != ITEMS:
        raise UserError(
            f"{origin}: the items are {quoted(json.dumps(config.get('data_format')))}; expected "
            f"{json.dumps(ITEMS)}: what else litdata can read may run code (pickle), so it is "
            "refused"
        )
    for key in ("compression", "encryption"):
        if config.get(key) is not None:
            raise UserError(f"{origin}: the shards have {key}; expected none, as pack writes them")
    shards = [_shard(chunk, origin) for chunk in chunks]
    found = sum(shard.images for shard in shards)
    if found != images:
        raise UserError(f"{origin}: the shards hold {found:,} images; expected {images:,}")
    return shards


def _shard(chunk: Any, origin: str) -> Shard:
    keys = ("filename", "chunk_bytes", "chunk_size")
    name, size, images = (chunk.get(k) if isinstance(chunk, dict) else None for k in keys)
    # A name with folders in it could lead out of the folder that copies are kept in.
    if not isinstance(name, str) or not _FILE_NAME.fullmatch(name):
        raise UserError(
            f"{origin}: {quoted(str(name))} is no name of a shard; expected chunk-*.bin"
        )
    if not (_is_count(size) and _is_count(images) and size and images):
        raise UserError(f"{origin}: shard {short(name)} has no size; expected bytes and images")
    return Shard(name, size, images)


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _json(content: bytes, origin: str) -> dict[str, Any]:
    try:
        said = json.loads(content)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise UserError(f"{origin} is damaged: it holds no JSON object; copy the pack anew")
    return said
