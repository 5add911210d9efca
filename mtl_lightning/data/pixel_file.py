"""Images as they are trained on, one after another in a file, and an index beside it."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from filelock import FileLock, Timeout

from mtl_lightning.data.images import Pixels
from mtl_lightning.data.sources.base import Texts
from mtl_lightning.system.files import as_utf8, atomic_path

CHANNELS = 3
SAVE_EVERY = 2**30
"""Bytes after which the index is written while a file is filled, so that they are not lost."""

_NUMBERS = ("offset", "height", "width")


class Places(NamedTuple):
    """Where images are in a file.

    Attributes:
        offsets: (n,) int64, the first byte; -1: the image is not there.
        shapes: (n, 2) int64, height and width.
    """

    offsets: npt.NDArray[np.int64]
    shapes: npt.NDArray[np.int64]


class PixelFile:
    """A file of raw RGB pixels that grows, and that several processes may use.

    Beside ``NAME.pixels`` lies ``NAME.parquet``, the index: image, stamp, offset, height, width. It
    is replaced as a whole once the pixels that it speaks of are on the disk: so a process that is
    killed leaves a file that is valid as far as its index goes. Pixels are never changed in place:
    what another process has mapped stays as it is.

    Args:
        path: The file, without a suffix.
    """

    def __init__(self, path: Path) -> None:
        self.pixels = path.with_name(f"{path.name}.pixels")
        self.index = path.with_name(f"{path.name}.parquet")
        self._lock = path.with_name(f"{path.name}.lock")

    @contextmanager
    def locked(self, wait: Callable[[], None]) -> Iterator[None]:
        """Keep other processes from adding to the file.

        Args:
            wait: Called once if another process is at it, before that is waited for.
        """
        self.pixels.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self._lock)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            wait()
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def find(self, images: Texts, stamps: Texts) -> Places:
        """Return where the images are whose stamps are these."""
        index = self._read()
        rows = pd.Index(index["image"]).get_indexer(pd.Index(list(map(as_utf8, images))))
        there = rows >= 0
        there[there] = index["stamp"].to_numpy()[rows[there]] == stamps[there]
        offsets = np.full(len(images), -1)
        shapes = np.zeros((len(images), 2), dtype=np.int64)
        offsets[there] = index["offset"].to_numpy()[rows[there]]
        shapes[there] = index[["height", "width"]].to_numpy()[rows[there]]
        return Places(offsets, shapes)

    def drop_dead(self) -> None:
        """Begin anew if most of the file is images that have been replaced; while it is locked."""
        index = self._read()
        if self._end(index) > 2 * self._bytes(index).sum():
            # Not cut: who has mapped it goes on reading the file that no longer has a name.
            self.index.unlink(missing_ok=True)
            self.pixels.unlink(missing_ok=True)

    def add(self, items: Iterable[tuple[str, str, Pixels]], save_every: int = SAVE_EVERY) -> None:
        """Append images, each with its name and stamp, while the file is locked.

        Whatever ends it, the images that were added by then are kept.

        Args:
            items: A name that is there with another stamp is replaced.
            save_every: See `SAVE_EVERY`.
        """
        index = self._read()
        end = saved = self._end(index)
        if not end:
            self.pixels.unlink(missing_ok=True)  # somebody may still read it: not cut, but anew
        added: list[tuple[str, str, int, int, int]] = []
        with open(self.pixels, "r+b" if self.pixels.exists() else "x+b") as file:
            file.truncate(end)  # a process that was killed may have added more
            file.seek(end)
            try:
                for image, stamp, pixels in items:
                    file.write(np.ascontiguousarray(pixels).data)
                    added.append((as_utf8(image), stamp, end, *pixels.shape[:2]))
                    end += pixels.nbytes
                    if end - saved >= save_every:
                        self._save(file, index, added)
                        saved = end
            finally:
                self._save(file, index, added)

    def _read(self) -> pd.DataFrame:
        """Return the part of the index whose pixels are there; nothing of a damaged one."""
        try:
            index: pd.DataFrame = pd.read_parquet(self.index)
            whole = index["offset"] + self._bytes(index) <= self.pixels.stat().st_size
            index = index[whole].astype({"image": object, "stamp": object})
        except (OSError, pa.ArrowException, KeyError, TypeError):
            index = pd.DataFrame({"image": [], "stamp": []}, dtype=object)
            index = index.assign(**{name: np.empty(0, dtype=np.int64) for name in _NUMBERS})
        return index

    def _save(
        self, file: IO[bytes], index: pd.DataFrame, added: list[tuple[str, str, int, int, int]]
    ) -> None:
        file.flush()
        os.fsync(file.fileno())
        new = pd.DataFrame(added, columns=list(index.columns)).astype(index.dtypes)
        whole = pd.concat([index, new]).drop_duplicates("image", keep="last")
        with atomic_path(self.index) as part:
            whole.to_parquet(part, index=False)

    @staticmethod
    def _bytes(index: pd.DataFrame) -> "pd.Series[int]":
        return index["height"] * index["width"] * CHANNELS

    def _end(self, index: pd.DataFrame) -> int:
        return int((index["offset"] + self._bytes(index)).max()) if len(index) else 0
