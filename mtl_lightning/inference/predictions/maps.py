"""The folder of maps that ``predict`` writes for tasks with an answer for each pixel."""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from mtl_lightning.models.named import module_key


class PredictionMaps:
    """Writes files into a folder next to a table, which appears once it is complete.

    Until then, all ranks write to a hidden folder. An older folder of this name is replaced.

    Args:
        table: The table of the predictions: ``predictions.csv`` has the folder
            ``predictions_maps``, with one for each task.
        part: The hidden folder.
    """

    def __init__(self, table: Path, part: Path) -> None:
        self.folder = table.with_name(f"{table.stem}_maps")
        self._part = part

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
        if not self._part.is_dir():
            return None
        for path in self._part.glob("*/*"):
            with open(path, "rb") as file:
                os.fsync(file.fileno())
        old = self._part.with_name(f"{self._part.name}.old")
        if self.folder.is_dir():
            self.folder.rename(old)
        self._part.rename(self.folder)
        shutil.rmtree(old, ignore_errors=True)
        return self.folder
