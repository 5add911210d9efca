"""The rows of ``predict`` on disk until their table is complete, so that a killed run goes on."""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from pyarrow import parquet

from mtl_lightning.system.errors import UserError
from mtl_lightning.system.files import atomic_path, atomic_write, remove_partial_files

ROW = "\x00row"
"""The column of row numbers, which no task can be named."""

_MAPS, _OF, _LOCK, _SUFFIX = "maps", "of.json", ".lock", ".parquet"


class PredictionParts:
    """A hidden folder next to a table of predictions, with parts of its rows.

    A part is a Parquet file, written by one rank; its name is its first row, and its rows are in
    order. So the table can be put together with a few parts in memory.

    Args:
        table: The table of the predictions.

    Attributes:
        folder: The folder.
        maps: The folder in it for files that belong to the rows.
        taken: Whether this process has taken the folder.
    """

    def __init__(self, table: Path) -> None:
        self.folder = table.with_name(f".{table.name}.parts")
        self.maps = self.folder / _MAPS
        self.taken = False
        self._lock: FileLock | None = None

    def start(self, of: Mapping[str, str], total: int | None) -> NDArray[np.int64]:
        """Take the folder, and empty it unless a run goes on. For one rank to call.

        Args:
            of: What the rows depend on, by its name for a message.
            total: The number of rows of the table, if this run goes on where an earlier one ended.

        Returns:
            The rows that an earlier run has predicted, in order. At least one is missing, since a
            run without any never ends an epoch.

        Raises:
            UserError: If another process writes there, or the earlier run was about something else.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(self.folder / _LOCK)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise UserError(
                f"--output: another process writes to {self.folder}; wait for it, or name another "
                f"file"
            ) from None
        except (OSError, NotImplementedError):  # a disk without locks
            self._lock = None
        remove_partial_files(self.folder)
        rows = [] if total is None else [_rows(path) for path in self._files()]
        if not rows:
            self._empty()
        self.taken = True
        for name, value in of.items():
            self.depends(name, value)
        if total is not None and sum(map(len, rows)) >= total:
            self._files()[-1].unlink()
            rows = rows[:-1]
        done: NDArray[np.int64] = np.sort(np.concatenate([np.empty(0, dtype=np.int64), *rows]))
        return done

    def _empty(self) -> None:
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != _LOCK:
                path.unlink()

    def depends(self, name: str, value: str) -> None:
        """Note what all rows depend on.

        Raises:
            UserError: If it was something else for those that are there.
        """
        try:
            before = json.loads((self.folder / _OF).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            before = {}
        if before.get(name) != value and self._files():
            self.release()
            raise UserError(
                f"--resume: the rows in {self.folder} are of other {name}; leave --resume out to "
                f"start afresh"
            )
        with atomic_write(self.folder / _OF) as file:
            json.dump(before | {name: value}, file)

    def write(self, rows: NDArray[np.int64], columns: dict[str, NDArray[np.generic]]) -> None:
        """Write a part.

        Args:
            rows: The row numbers, (n,).
            columns: The answers, (n,) each.
        """
        if not len(rows):
            return
        order = np.argsort(rows)
        table = pa.table(
            {ROW: rows[order]}
            | {name: pa.array(values[order], from_pandas=True) for name, values in columns.items()}
        )
        with atomic_path(self.folder / f"{rows.min():012}-{os.getpid()}{_SUFFIX}") as path:
            parquet.write_table(table, path)

    def tables(self, most: int) -> Iterator[pa.Table]:
        """Yield all rows in order, in tables of one schema with ``most`` rows or a few more."""
        files = self._files()
        schemas = [parquet.read_schema(path) for path in files]
        schema = pa.unify_schemas(schemas, promote_options="permissive")
        waiting = schema.empty_table()
        for path, after in zip(files, [*files[1:], None], strict=True):
            waiting = pa.concat_tables([waiting, parquet.read_table(path).cast(schema)])
            if after is None or len(waiting) >= most:
                waiting = waiting.sort_by(ROW)
                rows = waiting[ROW].to_numpy()
                ready = len(rows) if after is None else int(np.searchsorted(rows, _first(after)))
                yield waiting.slice(0, ready)
                waiting = waiting.slice(ready)

    def count(self) -> int:
        """Return the number of rows."""
        return sum(parquet.read_metadata(path).num_rows for path in self._files())

    def forget(self) -> None:
        """Remove the rows, whose table is written; a run that ends now would not go on."""
        for path in self._files():
            path.unlink()

    def release(self) -> None:
        """Let others take the folder."""
        self.taken = False
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def remove(self) -> None:
        """Remove the folder."""
        self.release()
        with contextlib.suppress(OSError):
            shutil.rmtree(self.folder)

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob(f"[0-9]*{_SUFFIX}"), key=lambda path: (_first(path), path))


def _rows(path: Path) -> NDArray[np.int64]:
    rows: NDArray[np.int64] = parquet.read_table(path, columns=[ROW])[ROW].to_numpy()
    return rows


def _first(path: Path) -> int:
    """Return the first row of a part."""
    return int(path.name.partition("-")[0])
