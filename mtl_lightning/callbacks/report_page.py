"""``report.html``: the page about a run, at the end of ``test``."""

from pytorch_lightning import Callback, LightningModule, Trainer

from mtl_lightning.callbacks.errors_as_warnings import errors_as_warnings
from mtl_lightning.callbacks.run_recorder import RunRecorder
from mtl_lightning.system.strategy import is_trial
from mtl_lightning.training.protocol import multi_task

FILE = "report.html"


class ReportPage(Callback):
    """Writes the page on the first rank, after everything else of the test is written.

    An error costs the page and prints one line. A ``fast_dev_run`` writes none.

    Args:
        recorder: The callback that collects the facts; it must come before this one.
    """

    def __init__(self, recorder: RunRecorder) -> None:
        self.recorder = recorder

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the page."""
        if not trainer.is_global_zero or is_trial(trainer):
            return
        with errors_as_warnings(FILE):
            from mtl_lightning.reports.run_page import write_page  # its library takes a second

            path = self.recorder.run / FILE
            write_page(path, self.recorder.run, self.recorder.facts)
            multi_task(pl_module).print(f"written: {path}")
