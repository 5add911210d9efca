"""Decoded images on disk: shards of raw pixels with an index."""

import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from filelock import FileLock, Timeout

from mtl_lightning.data.images import Pixels
from mtl_lightning.data.records import RecordWriter, shard_name
from mtl_lightning.data.sources.base import Texts
from mtl_lightning.system.files import as_utf8, atomic_path

CHANNELS = 3
SHARD_BYTES = 2**30
"""Size in bytes of a shard, the most that a killed process loses."""


PIXELS = np.dtype([(name, np.int64) for name in ("shard", "offset", "height", "width")])
"""The place of an image's pixels: the number of the shard, their first byte there, their size."""
MISSING = np.array((-1, 0, 0, 0), PIXELS)
"""The entry of an image that is not cached."""
PixelIndex: TypeAlias = npt.NDArray[np.void]
"""(n,) `PIXELS`."""


class DiskCache:
    """A folder of raw RGB pixels that grows, and that several processes may use.

    ``index.parquet`` holds an image's name, a stamp that changes when the image does, its shard,
    offset, height and width.

    Args:
        folder: The folder; it need not exist yet.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.index = folder / "index.parquet"

    def path(self, shard: int) -> Path:
        """Return the file of a shard."""
        return self.folder / shard_name(shard)

    @contextmanager
    def locked(self, wait: Callable[[], None]) -> Iterator[None]:
        """Keep other processes from writing.

        Args:
            wait: Called once if another process holds the lock, before waiting for it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            wait()
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def find(self, images: Texts, stamps: Texts) -> PixelIndex:
        """Return the places of the images with these stamps; the others are `MISSING`."""
        names = [as_utf8(image) for image in images]
        found = self._read().set_index("image").reindex(names, fill_value=-1)
        index: PixelIndex = found[list(PIXELS.names or ())].to_records(index=False).astype(PIXELS)
        index[found["stamp"].to_numpy() != stamps] = MISSING
        return index

    def clean(self) -> None:
        """Remove shards that hold mostly replaced images, and those of killed processes.

        Call it while the cache is locked. Processes that have mapped such a shard can read on.
        """
        index = self._read()
        shards = pd.DataFrame({"live": _bytes(index), "end": index["offset"] + _bytes(index)})
        shards = shards.groupby(index["shard"]).agg({"live": "sum", "end": "max"})
        kept = set(map(self.path, shards.index[shards["end"] <= 2 * shards["live"]]))
        for path in self.folder.glob("shard-*.bin"):
            if path not in kept:
                path.unlink()

    def add(self, items: Iterable[tuple[str, str, Pixels]], shard_bytes: int = SHARD_BYTES) -> None:
        """Add images, each with its name and stamp, while the cache is locked.

        Images added before an error are kept.

        Args:
            items: The images; one that exists with another stamp is replaced.
            shard_bytes: See `RecordWriter`; the index is written after each shard.
        """
        index = self._read()
        last = [int(index["shard"].max())] if len(index) else []
        # A new shard is named by the clock, so that the name of an old one never has other pixels.
        numbers = itertools.chain(last, iter(time.time_ns, None))
        writer = RecordWriter(self.folder, shard_bytes, numbers)
        added: list[tuple[str, str, int, int, int, int]] = []
        try:
            for image, stamp, pixels in items:
                before = writer.number
                shard, offset = writer.append(np.ascontiguousarray(pixels).data)
                if shard != before:
                    self._write(index, added)
                height, width = pixels.shape[:2]
                added.append((as_utf8(image), stamp, shard, offset, height, width))
        finally:
            writer.close()
            self._write(index, added)

    def _read(self) -> pd.DataFrame:
        """Return the index without shards that are missing or truncated; empty if it is damaged."""
        try:
            index: pd.DataFrame = pd.read_parquet(self.index)
            sizes = {shard: _size(self.path(shard)) for shard in index["shard"].unique()}
            ends = (index["offset"] + _bytes(index)).groupby(index["shard"]).transform("max")
            whole = index["shard"].map(sizes) >= ends
            index = index[whole].astype({"image": object, "stamp": object})
        except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):
            index = pd.DataFrame(np.empty(0, PIXELS))
            index = index.assign(image="", stamp="").astype({"image": object, "stamp": object})
        return index

    def _write(self, index: pd.DataFrame, added: list[tuple[str, str, int, int, int, int]]) -> None:
        new = pd.DataFrame(added, columns=["image", "stamp", *(PIXELS.names or ())])
        whole = pd.concat([index, new.astype(index.dtypes)])
        with atomic_path(self.index) as part:
            whole.drop_duplicates("image", keep="last").to_parquet(part, index=False)


def _bytes(index: pd.DataFrame) -> "pd.Series[int]":
    return index["height"] * index["width"] * CHANNELS


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
