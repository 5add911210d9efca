"""Reading a pack: its table, and its images by row."""

import os
import threading
import zlib
from io import BytesIO
from typing import IO, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet

from mtl_lightning.data.packs.manifest import LABELS, MANIFEST, Manifest, read_manifest, sha256
from mtl_lightning.data.packs.storage import PackStorage
from mtl_lightning.data.records import MappedFiles, shard_name
from mtl_lightning.data.splits import SPLITS
from mtl_lightning.system.errors import SourceError, UserError, short

OPEN_SHARDS = 16
"""Number of shards that a process has mapped: more than `Shards` takes from by default."""

Strings: TypeAlias = npt.NDArray[np.object_]
_REPLACING = threading.Lock()
_BROKEN = (pa.ArrowException, OSError, ValueError, KeyError, OverflowError, MemoryError)


class Pack:
    """A pack of N images.

    Args:
        storage: Access to its files.

    Attributes:
        keys: (N,) str, the names of the images, the same on all machines.
        splits: (N,) str, ``train``, ``val`` or ``test``.
        labels: Task to (N,) str or None.
        shards: (N,) int64, the number of the shard that holds the image.

    Raises:
        UserError: If the manifest or the table does not exist, is damaged, or of another format.
    """

    def __init__(self, storage: PackStorage) -> None:
        self.storage = storage
        manifest = read_manifest(storage.manifest(), f"{storage.name}: {MANIFEST}")
        origin, content = f"{storage.name}: {LABELS}", _table(storage, manifest)
        try:
            file = pa.parquet.ParquetFile(BytesIO(content))
            if file.metadata.num_rows != manifest.images:
                raise ValueError(f"{file.metadata.num_rows:,} rows, not {manifest.images:,}")
            table = file.read()
            self.keys, self.splits = (_strings(table.column(name)) for name in ("image", "split"))
            self.shards, self._sizes, self._checksums = (
                _numbers(table.column(name)) for name in ("shard", "size", "crc32")
            )
            self.labels = {task: _labels(table, task, origin) for task in manifest.tasks}
            self._offsets, self._shard_sizes = _layout(self.shards, self._sizes)
        except _BROKEN as error:
            reason = " ".join(str(error).split())
            raise UserError(f"{origin} is not the table of a pack: {short(reason)}") from None
        if not set(self.splits) <= set(SPLITS):
            raise UserError(
                f"{origin}: `split` should be {', '.join(SPLITS[:-1])} or {SPLITS[-1]}. Found "
                "another value; pack the data again"
            )
        self._files = MappedFiles(self._open, OPEN_SHARDS)
        self._replaced: set[int] = set()
        """Damaged shards whose copy was replaced by what the storage holds."""

    def content(self, row: int) -> bytes:
        """Return the bytes of an image.

        Raises:
            SourceError: If its shard does not exist, or is cut short.
            UserError: If the image is damaged.
        """
        shard, start = int(self.shards[row]), self._offsets[row]
        while True:
            mapped = self._files[shard]
            content = mapped[start : start + self._sizes[row]]
            if zlib.crc32(content) == self._checksums[row]:
                return content
            if not self._replace(shard, mapped.inode):
                raise UserError(
                    f"image {row} of the pack, in {shard_name(shard)}, is damaged (its checksum "
                    "differs); copy the pack again"
                )

    def _open(self, shard: int, damaged: int = 0) -> IO[bytes]:
        return self.storage.open(shard_name(shard), int(self._shard_sizes[shard]), damaged)

    def _replace(self, shard: int, damaged: int) -> bool:
        """Replace a damaged copy of a shard, once; return whether there is another one now."""
        with _REPLACING:  # threads that find the same damage wait for the first
            try:
                if self._files[shard].inode != damaged:
                    return True
                if shard in self._replaced:
                    return False
                self._replaced.add(shard)
                return self._files.replace(shard, self._open(shard, damaged)).inode != damaged
            except SourceError:
                return False  # most images of a damaged copy can still be read


def _table(storage: PackStorage, manifest: Manifest) -> bytes:
    """Return the content of ``labels.parquet``, replacing a damaged copy once."""
    damaged = 0
    for _ in range(2):
        with storage.open(LABELS, manifest.size, damaged) as file:
            damaged, content = os.fstat(file.fileno()).st_ino, file.read()
        if sha256(content) == manifest.sha256:
            return content
    raise UserError(
        f"{storage.name}: {LABELS} is damaged (its checksum differs); copy the pack again"
    )


def _labels(table: pa.Table, task: str, origin: str) -> Strings:
    cells = table.column(f"label:{task}")
    mask = table.column(f"mask:{task}").to_numpy()
    if not np.array_equal(mask, cells.is_valid().to_numpy()):
        raise UserError(
            f"{origin}: `mask:{task}` should be true where there is a label and false where there "
            "is none. Found rows where it is not; pack the data again"
        )
    return _strings(cells)


def _strings(cells: pa.ChunkedArray) -> Strings:
    strings: Strings = cells.cast(pa.string()).to_numpy()
    return strings


def _numbers(cells: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    if cells.null_count:
        raise ValueError("a number is missing")
    numbers: npt.NDArray[np.int64] = cells.cast(pa.uint32()).to_numpy().astype(np.int64)
    return numbers


def _layout(
    shards: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the start of each of N images in its shard, (N,), and the sizes of S shards, (S,)."""
    first = np.flatnonzero(np.diff(shards, prepend=-1))  # the first image of each shard
    if not np.array_equal(shards[first], np.arange(len(first))) or sizes.min() < 1:
        raise ValueError("the images are not in the order of the shards, or one has no bytes")
    starts = np.cumsum(sizes) - sizes
    return starts - starts[first][shards], np.add.reduceat(sizes, first)
