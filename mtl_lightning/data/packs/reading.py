"""Reading a pack: its table, and the bytes of its images by number."""

import mmap
import os
import struct
import threading
import zlib
from collections.abc import Sequence
from io import BytesIO
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet

from mtl_lightning.data.packs.layout import (
    INDEX,
    LABELS,
    MANIFEST,
    Shard,
    read_index,
    read_manifest,
)
from mtl_lightning.data.packs.storage import Place, check_size
from mtl_lightning.data.sources.base import Texts
from mtl_lightning.data.sources.locate import texts
from mtl_lightning.data.splits import SPLITS
from mtl_lightning.system.errors import SourceError, UserError, short

OPEN = 16
"""Shards that a process has open: more than `Shards` takes from at a time, by default."""

_ATTEMPTS = 5
_RENEWING = threading.Lock()
_BROKEN = (pa.ArrowException, OSError, ValueError, KeyError, OverflowError, MemoryError)


class Contents(NamedTuple):
    """The table of a pack, N images.

    Attributes:
        keys: (N,) str: what the images are called on every machine.
        splits: (N,) str: ``train``, ``val`` or ``test``.
        labels: Task to (N,) str or None.
        checksums: (N,) uint32: the CRC-32 of each image's bytes.
        shards: The shards, in the order of the rows.
    """

    keys: Texts
    splits: Texts
    labels: dict[str, Texts]
    checksums: npt.NDArray[np.uint32]
    shards: Sequence[Shard]


def read_contents(place: Place) -> Contents:
    """Read the small files of a pack.

    Raises:
        UserError: If one is not there, damaged, of a later version, or says that there is more
            in the shards than plain bytes.
    """
    manifest = read_manifest(place.manifest(), f"{place.name}: {MANIFEST}")
    index = place.table(INDEX, manifest.checksums[INDEX])
    shards = read_index(index, f"{place.name}: {INDEX}", manifest.images)
    origin = f"{place.name}: {LABELS}"
    content = place.table(LABELS, manifest.checksums[LABELS])
    try:
        table = pa.parquet.read_table(BytesIO(content))
        keys, splits = (_texts(table.column(name)) for name in ("image", "split"))
        checksums = table.column("crc32").to_numpy().astype(np.uint32)
        labels = {task: _labels(table, task, origin) for task in manifest.tasks}
    except _BROKEN as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{origin} is no table of a pack: {short(reason)}") from None
    if len(keys) != manifest.images:
        raise UserError(f"{origin} has {len(keys):,} rows; expected {manifest.images:,}")
    if not set(splits) <= set(SPLITS):
        raise UserError(f"{origin}: a split is none of {', '.join(SPLITS)}; pack the data anew")
    return Contents(keys, splits, labels, checksums, shards)


def _labels(table: pa.Table, task: str, origin: str) -> Texts:
    cells = table.column(f"label:{task}")
    mask = table.column(f"mask:{task}").to_numpy()
    if not np.array_equal(mask, cells.is_valid().to_numpy()):
        raise UserError(
            f"{origin}: task {task}: the mask contradicts the labels; expected it to be true where "
            "there is one, and false where there is null"
        )
    return _texts(cells)


def _texts(cells: pa.ChunkedArray) -> Texts:
    return texts(cells.cast(pa.string()).to_pylist())


class ShardFiles:
    """The bytes of images by shard and number; one of these a process, or more.

    A file is mapped when an image of it is first wanted, which costs next to nothing and which a
    forked process may go on with. An image is found by the layout of litdata's shards: the number
    of items, an offset for each and the end (all uint32), then for each item its size (uint32) and
    its bytes.

    litdata's own reader is for one pass in its own order: it removes a shard from the disk as soon
    as a process goes on to another, and waits for one that is cut short to become whole.

    Args:
        place: Where the shards are.
        shards: The shards.
        checksums: (N,) uint32: the CRC-32 of each image's bytes, in the order of the shards.
    """

    def __init__(
        self, place: Place, shards: Sequence[Shard], checksums: npt.NDArray[np.uint32]
    ) -> None:
        ends = np.cumsum([shard.images for shard in shards]).tolist()
        self.place = place
        self.shards = {
            shard.name: (shard, end - shard.images) for shard, end in zip(shards, ends, strict=True)
        }
        self.checksums = checksums
        self._opened: dict[str, _Opened] = {}
        self._renewed: set[str] = set()
        """Shards whose copy was damaged; what was fetched anew is as the storage has it."""

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": {}}

    def content(self, name: str, number: int) -> bytes:
        """Return the bytes of an image.

        Args:
            name: Of the shard.
            number: Of the image in it, from 0.

        Raises:
            SourceError: If the shard is not there, or no shard of this pack.
            UserError: If the image is damaged.
        """
        shard, before = self.shards[name]
        while True:
            opened = self._open(shard)
            content = opened.image(number, shard.images)
            if content is not None and zlib.crc32(content) == self.checksums[before + number]:
                return content
            if not self._renew(shard, opened.inode):
                raise UserError(
                    f"image {number} of shard {name} is damaged (its checksum is another); copy "
                    "the pack anew"
                )
            self._opened.pop(name, None)

    def _renew(self, shard: Shard, seen: int) -> bool:
        """Have a damaged file fetched anew, once; whether there is another one by now.

        Args:
            shard: Which one.
            seen: The number of the damaged file.
        """
        with _RENEWING:  # threads that meet the same damage wait for the first
            try:
                if shard.name in self._renewed:
                    return os.stat(self.place.shard(shard)).st_ino != seen
                self._renewed.add(shard.name)
                return self.place.renew(shard, seen)
            except (OSError, SourceError):
                return False  # of a damaged copy most images can still be read

    def _open(self, shard: Shard) -> "_Opened":
        found = self._opened.get(shard.name)
        if found is None:
            found = self._opened[shard.name] = self._mapped(shard)
            for oldest in list(self._opened)[:-OPEN]:
                self._opened.pop(oldest, None)
        return found

    def _mapped(self, shard: Shard) -> "_Opened":
        for _ in range(_ATTEMPTS):
            path = self.place.shard(shard)
            try:
                with open(path, "rb") as file:
                    inode = os.fstat(file.fileno()).st_ino
                    try:
                        return _Opened(self._map(file, shard), inode)
                    except SourceError:
                        if not self._renew(shard, inode):
                            raise
            except FileNotFoundError:  # perhaps a copy that another process has just removed
                continue
            except OSError as error:
                raise SourceError(f"shard {path} cannot be read: {error.strerror}") from error
        raise SourceError(f"{self.place.name}: there is no shard {shard.name}; copy the pack anew")

    def _map(self, file: IO[bytes], shard: Shard) -> mmap.mmap:
        size = file.seek(0, 2)
        check_size(size, shard, self.place.name)
        mapped = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
        if size < 8 + 4 * shard.images or struct.unpack_from("<I", mapped)[0] != shard.images:
            raise SourceError(
                f"{self.place.name}: shard {shard.name} is damaged at its start; copy the pack anew"
            )
        return mapped


class _Opened(NamedTuple):
    """A shard that is mapped, and the number of its file, which no other has while it is."""

    file: mmap.mmap
    inode: int

    def image(self, number: int, images: int) -> bytes | None:
        """Return the bytes of an image of so many, None if there are none where it should be."""
        start, end = struct.unpack_from("<2I", self.file, 4 + 4 * number)
        first = 4 + 4 * (images + 1)
        # Of what is damaged only lengths can lead elsewhere; the checksum finds all else.
        if first <= start <= end - 4 and end <= len(self.file):
            return self.file[start + 4 : end]
        return None
