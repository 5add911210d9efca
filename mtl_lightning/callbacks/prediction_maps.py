"""The folder of maps that ``predict`` writes for tasks with an answer for each pixel."""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from pytorch_lightning import Trainer

from mtl_lightning.models.named import module_key
from mtl_lightning.system.files import part_of


class PredictionMaps:
    """Writes files into a folder next to a table, which appears once it is complete.

    Until then, all ranks write to a hidden folder. An older folder of this name is replaced.

    Args:
        table: The table of the predictions: ``predictions.csv`` has the folder
            ``predictions_maps``, with one for each task.
    """

    def __init__(self, table: Path) -> None:
        self.folder = table.with_name(f"{table.stem}_maps")
        self._part: Path | None = None

    def start(self, trainer: Trainer) -> None:
        """Agree with the other ranks on the hidden folder, which must not exist."""
        self._part = trainer.strategy.broadcast(part_of(self.folder))
        if trainer.is_global_zero:
            shutil.rmtree(self._part, ignore_errors=True)

    def write(
        self, files: Mapping[str, tuple[str, Sequence[bytes]]], names: Sequence[str | None]
    ) -> dict[str, list[str | None]]:
        """Write the files of one batch.

        Args:
            files: Task to the suffix and the contents of its files, one for each image or none.
            names: The names of the files without suffix; None where there is no image.

        Returns:
            Task to the paths of its files, relative to the folder of the table.
        """
        written: dict[str, list[str | None]] = {}
        for task, (suffix, contents) in files.items():
            if not contents:
                continue
            assert self._part is not None, "start() is called before a batch"
            own = module_key(task).removeprefix("task_")
            folder = self._part / own
            folder.mkdir(parents=True, exist_ok=True)
            for content, name in zip(contents, names, strict=True):
                if name is not None:
                    (folder / f"{name}{suffix}").write_bytes(content)
            here = f"{self.folder.name}/{own}"
            written[task] = [name and f"{here}/{name}{suffix}" for name in names]
        return written

    def finish(self) -> Path | None:
        """Give the complete folder its name; return it if there is one. For one rank to call."""
        part, self._part = self._part, None
        if part is None or not part.is_dir():
            return None
        for path in part.glob("*/*"):
            with open(path, "rb") as file:
                os.fsync(file.fileno())
        old = self.folder.with_name(f"{part.name}.old")
        if self.folder.is_dir():
            self.folder.rename(old)
        part.rename(self.folder)
        shutil.rmtree(old, ignore_errors=True)
        return self.folder

    def discard(self) -> None:
        """Remove what was written, if it is not complete."""
        if self._part is not None:
            shutil.rmtree(self._part, ignore_errors=True)
