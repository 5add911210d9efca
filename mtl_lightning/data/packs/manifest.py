"""``pack.json``, which is read before everything else in a pack."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from mtl_lightning.system.errors import UserError

FORMAT = 2
"""The version of the format; version 1 was litdata's shards."""

MANIFEST, LABELS = "pack.json", "labels.parquet"


@dataclass(frozen=True)
class Manifest:
    """The part of ``pack.json`` that reading needs.

    Attributes:
        images: The number of images.
        tasks: The tasks, and ``task/label`` for each label of a multi-label task.
        size: The size of ``labels.parquet`` in bytes.
        sha256: Its SHA-256, in hexadecimal digits.
    """

    images: int
    tasks: Sequence[str]
    size: int
    sha256: str


def sha256(content: bytes) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def read_manifest(content: bytes, origin: str) -> Manifest:
    """Read ``pack.json``.

    Args:
        content: The file's content.
        origin: The file's name in messages.

    Raises:
        UserError: If it is damaged, or of another format.
    """
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        found = None
    match found:
        case {
            "format": int(version),
            "images": int(images),
            "tasks": [*tasks],
            "labels": {"size": int(size), "sha256": str(digest)},
        } if version == FORMAT and min(images, size) > 0 and all(isinstance(t, str) for t in tasks):
            return Manifest(images, tasks, size, digest)
        case {"format": int(version)} if version != FORMAT:
            raise UserError(
                f"{origin}: `format` should be {FORMAT}, which this version of mtl-lightning "
                f"reads. Found {version}; pack the data with this version"
            )
    raise UserError(
        f"{origin} is damaged, or not the manifest of a pack; expected what `mtl-lightning pack` "
        "writes: copy the pack again"
    )
