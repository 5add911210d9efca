"""``predictions.csv``: the answers for each image, in the order of the images, and their maps."""

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from numpy.typing import NDArray
from pytorch_lightning import Callback, LightningModule, Trainer

from mtl_lightning.callbacks.prediction_formats import WRITERS
from mtl_lightning.callbacks.prediction_maps import PredictionMaps
from mtl_lightning.callbacks.prediction_parts import ROW, PredictionParts
from mtl_lightning.data.batch import PADDING
from mtl_lightning.system.errors import UserError
from mtl_lightning.system.files import atomic_path
from mtl_lightning.training.protocol import data_of, multi_task

Result = TypeVar("Result")

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


class PredictionsFile(Callback):
    """Writes the predictions of all ranks as one table.

    Rows are written in parts, which become the table at the end: memory does not grow with the
    number of images, and a later run may go on where one has ended. The answers for each pixel of
    an image are a PNG file, which the column of the task names.

    Args:
        images: The name of each image in the table.
        output: A ``.csv``, ``.parquet`` or ``.jsonl`` file, which is replaced if it exists.
        kind: The name of the column of these names: ``image``, or ``row`` of a table.
        of: What the answers depend on beside the weights, by its name for a message; a run does
            not go on where another has ended for which it differs.
        resume: Whether to go on where an earlier run has ended.
    """

    def __init__(
        self,
        images: Sequence[str],
        output: Path,
        kind: str = "image",
        of: Mapping[str, str] | None = None,
        resume: bool = False,
    ) -> None:
        self.images = np.asarray(images, dtype=object)
        self.kind = kind
        self.output = output
        self.of = dict(of or {})
        self.resume = resume
        self._parts = PredictionParts(output)
        self._maps = PredictionMaps(output, self._parts.maps)
        self._rows: list[NDArray[np.int64]] = []
        self._columns: list[dict[str, NDArray[Any]]] = []
        self._written = time.monotonic()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Take the folder of the parts, and leave out what is in it; before the loader is made.

        Raises:
            UserError: If another process writes there, or what is there is of other images.
        """
        trainer.strategy.barrier()
        total = len(self.images) if self.resume else None
        of = {"images": digest(self.images), **self.of}
        done = _on_first(trainer, lambda: self._parts.start(of, total))
        data_of(trainer).leave_out(done)
        if len(done):
            pl_module.print(
                f"resumed: {len(done):,} of {len(self.images):,} {self.kind}s were predicted before"
            )

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check that rows that are there are of these weights, which are loaded by now.

        Raises:
            UserError: If they are of others.
        """
        tasks = multi_task(pl_module).tasks.items()
        settings = {
            "calibration": digest(f"{name} {task.calibration}" for name, task in tasks),
            "precision": str(trainer.precision),
            "weights": _digest(pl_module),
        }
        for name, value in settings.items():
            _on_first(trainer, partial(self._parts.depends, name, value))

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Keep complete parts, and say so."""
        if not self._parts.taken:  # by rank 0 of this run
            return
        count = self._parts.count()
        self._parts.release()
        if count:
            pl_module.print(
                f"kept: the answers for {count:,} of {len(self.images):,} {self.kind}s; the same "
                f"command with --resume goes on"
            )
        elif trainer.world_size == 1:  # others may not have ended yet
            self._parts.remove()

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep one batch's columns, and write a part when there are many."""
        rows: NDArray[np.int64] = outputs["rows"]
        real, bad = rows != PADDING, np.isin(rows, list(batch.bad))
        columns = {
            f"{task}:{key}" if key else task: np.asarray(values)
            for task, answer in outputs["answers"].items()
            for key, values in answer.items()
        }
        names = [
            self._file_name(row) if used else None
            for row, used in zip(rows.tolist(), real & ~bad, strict=True)
        ]
        for task, paths in self._maps.write(outputs["files"], names).items():
            columns[task] = np.array(paths, dtype=object)
        if bad.any():
            columns = {n: pd.Series(v).mask(bad).to_numpy() for n, v in columns.items()}
        self._rows.append(rows[real])
        self._columns.append({name: values[real] for name, values in columns.items()})
        late = time.monotonic() - self._written > SECONDS
        if late or sum(map(len, self._rows)) >= ROWS:
            self._write_part()

    def _file_name(self, row: int) -> str:
        """Return a name that no other row has, without folders and suffix."""
        stem = Path(self.images[row]).stem.encode()[:150].decode(errors="ignore")
        return f"{row:06}_{stem}"

    def _write_part(self) -> None:
        rows, columns = self._rows, self._columns
        self._rows, self._columns, self._written = [], [], time.monotonic()
        if rows:
            self._parts.write(
                np.concatenate(rows),
                {name: np.concatenate([own[name] for own in columns]) for name in columns[0]},
            )

    def on_predict_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the rest, and put the parts of all ranks together."""
        self._write_part()
        trainer.strategy.barrier()
        if not trainer.is_global_zero:
            return
        count = self._parts.count()
        with atomic_path(self.output) as path:
            WRITERS[self.output.suffix.lower()](map(self._named, self._parts.tables(ROWS)), path)
        self._parts.forget()  # before the maps are moved away, without which rows are not whole
        folder = self._maps.finish()
        self._parts.remove()
        pl_module.print(f"written: {self.output} ({count:,} {self.kind}s)")
        if folder is not None:
            pl_module.print(f"written: {folder}")

    def _named(self, table: pa.Table) -> pa.Table:
        """Replace row numbers by names."""
        names = pa.array(self.images[table[ROW].to_numpy()], pa.string())
        return table.drop_columns(ROW).add_column(0, self.kind, names)


def digest(values: Iterable[object]) -> str:
    """Return a hash of texts or missing values."""
    found = hashlib.sha256()
    for value in values:
        found.update(repr(value).encode("utf-8", "backslashreplace"))
    return found.hexdigest()


def _on_first(trainer: Trainer, work: Callable[[], Result]) -> Result:
    """Let the first rank do something, and return its result on all.

    Raises:
        UserError: On all, if it does.
    """
    result, refusal = None, ""
    if trainer.is_global_zero:
        try:
            result = work()
        except UserError as error:
            refusal = str(error)
    result, refusal = trainer.strategy.broadcast((result, refusal))
    if refusal:
        raise UserError(refusal)
    return cast("Result", result)


def _digest(module: LightningModule) -> str:
    """Return a hash of all weights and buffers."""
    found = hashlib.sha256()
    for name, values in module.state_dict().items():
        found.update(name.encode())
        found.update(values.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
