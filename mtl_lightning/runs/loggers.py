"""Lightning's loggers, safe to kill at any moment, and continued in a run that is resumed.

A resumed run has a checkpoint of some optimizer step. Lines of later steps belong to the part that
was lost, and will be logged again.
"""

import csv
import math
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from pytorch_lightning.loggers.csv_logs import ExperimentWriter
from pytorch_lightning.loggers.logger import rank_zero_experiment

from mtl_lightning.system.files import atomic_write


class _Writer(ExperimentWriter):
    """Lightning's writer deletes the file of the run that is resumed; this one continues it."""

    def _check_log_dir_exists(self) -> None:
        pass

    def resume(self, step: float) -> None:
        """Keep only the lines before ``step``, and no incomplete one."""
        path = Path(self.metrics_file_path)
        lines = path.read_text().splitlines(keepends=True) if path.is_file() else []
        if lines and not lines[-1].endswith("\n"):
            del lines[-1]
        if not lines:
            path.unlink(missing_ok=True)
            return
        reader = csv.DictReader(lines)
        self.metrics_keys = list(reader.fieldnames or [])
        self._write([row for row in reader if int(row["step"]) < step])

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        assert fieldnames is self.metrics_keys
        with Path(self.metrics_file_path).open(newline="") as file:
            rows = list(csv.DictReader(file))
        self._write(rows)

    def _write(self, rows: list[dict[str, Any]]) -> None:
        with atomic_write(Path(self.metrics_file_path)) as file:
            writer = csv.DictWriter(file, fieldnames=self.metrics_keys)
            writer.writeheader()
            writer.writerows(rows)

    def save(self) -> None:
        # Lightning's also writes hparams.yaml, which config.yaml contains.
        super(ExperimentWriter, self).save()


class ResumableCSVLogger(CSVLogger):
    """Lightning's ``CSVLogger``, which keeps the metrics of the run that is resumed.

    Args:
        save_dir: The folder of all runs.
        name: The name of the run.
        version: The name of its folder.
        resumed_step: The optimizer steps before resuming; lines of later steps are removed.
    """

    def __init__(
        self, save_dir: Path | str, name: str, version: str, resumed_step: int | None = None
    ) -> None:
        super().__init__(save_dir, name, version)
        self._resumed_step = resumed_step

    @property
    @rank_zero_experiment
    def experiment(self) -> _Writer:
        """The writer, made on first use."""
        if not isinstance(self._experiment, _Writer):
            self._experiment = _Writer(log_dir=self.log_dir)
            steps = math.inf if self._resumed_step is None else self._resumed_step
            self._experiment.resume(steps)
        return self._experiment


class EventsLogger(TensorBoardLogger):
    """Lightning's ``TensorBoardLogger`` without ``hparams.yaml``, which config.yaml contains."""

    def save(self) -> None:
        """Flush the events."""
        super(TensorBoardLogger, self).save()
