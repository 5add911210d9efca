"""Shards: files of consecutive records, which packs and caches on disk consist of.

A shard holds nothing but its records. Their positions are in a Parquet file next to the shards,
which is written once the records that it lists are on disk: a process that is killed leaves at
worst bytes that no index lists. Records never change in place, so a mapped file stays valid, even
if its name is removed.
"""

import itertools
import mmap
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any


def cache_folder() -> Path:
    """Return the folder of this package's caches unless a config names another."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "mtl-lightning"


def shard_name(number: int) -> str:
    """Return the file name of a shard."""
    return f"shard-{number:05}.bin"


class RecordWriter:
    """Appends records to numbered shards.

    Args:
        folder: The folder of the shards.
        shard_bytes: The largest size of a shard, unless a single record is larger.
        numbers: The numbers of the shards; 0, 1, 2, ... by default. Existing ones are continued.
    """

    def __init__(
        self, folder: Path, shard_bytes: int, numbers: Iterator[int] | None = None
    ) -> None:
        self.folder = folder
        self.shard_bytes = shard_bytes
        self.number = -1
        self._numbers = itertools.count() if numbers is None else numbers
        self._file: IO[bytes] | None = None

    def append(self, record: bytes | memoryview) -> tuple[int, int]:
        """Write a record; return the number of its shard and the position of its first byte."""
        size = memoryview(record).nbytes
        while self._file is None or 0 < self._file.tell() > self.shard_bytes - size:
            self.close()
            self.number = next(self._numbers)
            path = self.folder / shard_name(self.number)
            self._file = open(path, "ab")  # noqa: SIM115 - several records are written to it
        start = self._file.tell()
        self._file.write(record)
        return self.number, start

    def close(self) -> None:
        """Flush the records of the current shard to disk, so that an index may list them."""
        file, self._file = self._file, None
        if file is not None:
            with file:
                file.flush()
                os.fsync(file.fileno())


class MappedFile(mmap.mmap):
    """A memory-mapped file.

    Attributes:
        inode: Distinguishes it from a file that has taken its name.
    """

    inode: int


class MappedFiles:
    """Memory-mapped files, each mapped when first read; those mapped first are closed first.

    Forked processes share the mappings; a pickled copy maps the files again.

    Args:
        open_file: Opens a file by number.
        most: The largest number of open files.
    """

    def __init__(self, open_file: Callable[[int], IO[bytes]], most: int) -> None:
        self.open_file = open_file
        self.most = most
        self._mapped: dict[int, MappedFile] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_mapped": {}}

    def __len__(self) -> int:
        return len(self._mapped)

    def __getitem__(self, number: int) -> MappedFile:
        found = self._mapped.get(number)
        return self.replace(number, self.open_file(number)) if found is None else found

    def replace(self, number: int, opened: IO[bytes]) -> MappedFile:
        """Map an open file, which is then closed, under a number."""
        with opened as file:
            mapped = MappedFile(file.fileno(), 0, access=mmap.ACCESS_READ)
            mapped.inode = os.fstat(file.fileno()).st_ino
        self._mapped.pop(number, None)
        self._mapped[number] = mapped
        for oldest in list(self._mapped)[: -self.most]:
            self._mapped.pop(oldest, None)
        return mapped
