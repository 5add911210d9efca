"""The table of answers for each image, in the order of the images, and their maps."""

import hashlib
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from mtl_lightning.inference.predictions.formats import WRITERS
from mtl_lightning.inference.predictions.maps import PredictionMaps
from mtl_lightning.inference.predictions.parts import ROW, PredictionParts
from mtl_lightning.system.errors import UserError
from mtl_lightning.system.files import atomic_path

ROWS, SECONDS = 2000, 30.0
"""Rows of one rank in a part, and the time after which it is written with fewer: what is in memory,
and what a killed run loses at most."""


def check_output(path: Path) -> None:
    """Raise a ``UserError`` if predictions cannot be written there."""
    if path.suffix.lower() not in WRITERS:
        raise UserError(
            f"--output should be a name that ends in {' or '.join(WRITERS)}. Found {path}"
        )
    if path.is_dir():
        raise UserError(f"--output {path}: this is a folder; give the name of a file in it")


def digest(values: Iterable[object]) -> str:
    """Return a hash of texts or missing values."""
    found = hashlib.sha256()
    for value in values:
        found.update(repr(value).encode("utf-8", "backslashreplace"))
    return found.hexdigest()


class PredictionTable:
    """A table of predictions that is written in parts, perhaps by several processes.

    Memory does not grow with the number of rows, and a later run may go on where one has ended. The
    answers for each pixel of an image are a file, which the column of the task names.

    Args:
        images: The name of each image in the table.
        output: A ``.csv``, ``.parquet`` or ``.jsonl`` file, which is replaced if it exists.
        kind: The name of the column of these names: ``image``, or ``row`` of a table.
    """

    def __init__(self, images: Sequence[str], output: Path, kind: str = "image") -> None:
        self.images = np.asarray(images, dtype=object)
        self.output = output
        self.kind = kind
        self._parts = PredictionParts(output)
        self._maps = PredictionMaps(output, self._parts.maps)
        self._rows: list[NDArray[np.int64]] = []
        self._columns: list[dict[str, NDArray[Any]]] = []
        self._written = time.monotonic()

    def start(self, of: Mapping[str, str], resume: bool) -> NDArray[np.int64]:
        """Take the folder of the parts; for one process to call.

        Args:
            of: What the answers depend on beside the images, by its name for a message.
            resume: Whether to go on where an earlier run has ended.

        Returns:
            The rows that an earlier run has predicted, in order.

        Raises:
            UserError: If another process writes there, or what is there depends on something else.
        """
        total = len(self.images) if resume else None
        return self._parts.start({"images": digest(self.images), **of}, total)

    def resumed(self, done: Sequence[int] | NDArray[np.int64]) -> str:
        """Return the line about rows that were predicted before."""
        return f"resumed: {len(done):,} of {len(self.images):,} {self.kind}s were predicted before"

    def depends(self, name: str, value: str) -> None:
        """Note what all rows depend on, or raise: see `PredictionParts.depends`."""
        self._parts.depends(name, value)

    def add(
        self,
        rows: NDArray[np.int64],
        answers: Mapping[str, Mapping[str, Any]],
        files: Mapping[str, tuple[str, Sequence[bytes]]],
        used: NDArray[np.bool_],
        bad: NDArray[np.bool_],
    ) -> None:
        """Keep the answers for a batch, and write a part when there are many.

        Args:
            rows: The row numbers, (B,).
            answers: Task to its columns, (B,) each.
            files: Task to the suffix and the contents of its files, one for each row or none.
            used: The rows that belong to the table, (B,).
            bad: Those of them whose answers have no meaning, (B,).
        """
        columns = {
            f"{task}:{key}" if key else task: np.asarray(values)
            for task, answer in answers.items()
            for key, values in answer.items()
        }
        names = [
            self._file_name(row) if good else None
            for row, good in zip(rows.tolist(), used & ~bad, strict=True)
        ]
        for task, paths in self._maps.write(files, names).items():
            columns[task] = np.array(paths, dtype=object)
        if bad.any():
            columns = {n: pd.Series(v).mask(bad).to_numpy() for n, v in columns.items()}
        self._rows.append(rows[used])
        self._columns.append({name: values[used] for name, values in columns.items()})
        late = time.monotonic() - self._written > SECONDS
        if late or sum(map(len, self._rows)) >= ROWS:
            self.flush()

    def _file_name(self, row: int) -> str:
        """Return a name that no other row has, without folders and suffix."""
        stem = Path(self.images[row]).stem.encode()[:150].decode(errors="ignore")
        return f"{row:06}_{stem}"

    def flush(self) -> None:
        """Write what is in memory as a part."""
        rows, columns = self._rows, self._columns
        self._rows, self._columns, self._written = [], [], time.monotonic()
        if rows:
            self._parts.write(
                np.concatenate(rows),
                {name: np.concatenate([own[name] for own in columns]) for name in columns[0]},
            )

    def finish(self) -> list[str]:
        """Put the parts of all processes together; return lines about what was written."""
        count = self._parts.count()
        with atomic_path(self.output) as path:
            WRITERS[self.output.suffix.lower()](map(self._named, self._parts.tables(ROWS)), path)
        self._parts.forget()  # before the maps are moved away, without which rows are not whole
        folder = self._maps.finish()
        self._parts.remove()
        lines = [f"written: {self.output} ({count:,} {self.kind}s)"]
        return lines if folder is None else [*lines, f"written: {folder}"]

    def interrupted(self, alone: bool = True) -> str | None:
        """Keep complete parts; return the line about them, if there are any.

        Args:
            alone: Whether no other process may still write parts.
        """
        if not self._parts.taken:  # by this process
            return None
        count = self._parts.count()
        self._parts.release()
        if count:
            return (
                f"kept: the answers for {count:,} of {len(self.images):,} {self.kind}s; the same "
                f"command with --resume goes on"
            )
        if alone:
            self._parts.remove()
        return None

    def _named(self, table: pa.Table) -> pa.Table:
        """Replace row numbers by names."""
        names = pa.array(self.images[table[ROW].to_numpy()], pa.string())
        return table.drop_columns(ROW).add_column(0, self.kind, names)
