"""Lightning's loggers, without what they do to a run that is resumed."""

import csv

from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from pytorch_lightning.loggers.csv_logs import ExperimentWriter
from pytorch_lightning.loggers.logger import rank_zero_experiment


class _AppendingWriter(ExperimentWriter):
    """Lightning's writer deletes the file of the run that it is resuming; this one appends."""

    def _check_log_dir_exists(self) -> None:
        if self._fs.isfile(self.metrics_file_path):
            with self._fs.open(self.metrics_file_path, "r", newline="") as file:
                self.metrics_keys = next(csv.reader(file), [])

    def save(self) -> None:
        # Not Lightning's, which also writes hparams.yaml: config.yaml says it all.
        super(ExperimentWriter, self).save()


class AppendingCSVLogger(CSVLogger):
    """Lightning's ``CSVLogger``, appending to the metrics of the run that is resumed."""

    @property
    @rank_zero_experiment
    def experiment(self) -> _AppendingWriter:
        """The writer, made when first asked for."""
        if not isinstance(self._experiment, _AppendingWriter):
            self._experiment = _AppendingWriter(log_dir=self.log_dir)
        return self._experiment


class EventsLogger(TensorBoardLogger):
    """Lightning's ``TensorBoardLogger``, without its ``hparams.yaml``: config.yaml says it all."""

    def save(self) -> None:
        """Write what is waiting."""
        super(TensorBoardLogger, self).save()
