"""The run's pictures: curves of the training, and a plot of each task."""

from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import TensorBoardLogger

from mtl_lightning.callbacks.errors_as_warnings import errors_as_warnings
from mtl_lightning.callbacks.run_recorder import RunRecorder
from mtl_lightning.models.named import module_key
from mtl_lightning.reports.plots.canvas import DPI, pixels
from mtl_lightning.reports.plots.curves import curves
from mtl_lightning.reports.plots.drawing import MOST, draw_task, lowest
from mtl_lightning.system.errors import listed
from mtl_lightning.system.files import atomic_path
from mtl_lightning.system.strategy import is_trial
from mtl_lightning.training.protocol import multi_task


class Plots(Callback):
    """Draws ``curves.png`` after training, and ``<split>_<task>.png`` after an evaluation.

    After ``fit``, the tasks' plots show its last validation; after ``validate`` and ``test``, that
    evaluation. If there is a TensorBoard logger, it gets them too. A task that has no label in the
    split, or whose kind has no plot, is left out; of more than 24 tasks, those with the lowest
    scores are drawn. An error in a plot does not stop the run: it
    costs the plot and prints one line.

    Args:
        recorder: The callback that collects the facts; it must come before this one.
    """

    def __init__(self, recorder: RunRecorder) -> None:
        self.recorder = recorder

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the curves, and the tasks at the last validation."""
        self._draw(trainer, pl_module, "val", with_curves=True)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the tasks, if this is the command ``validate``."""
        if trainer.state.fn == "validate":
            self._draw(trainer, pl_module, "val")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the tasks at the test."""
        self._draw(trainer, pl_module, "test")

    def _draw(
        self, trainer: Trainer, pl_module: LightningModule, split: str, with_curves: bool = False
    ) -> None:
        if not trainer.is_global_zero or is_trial(trainer):
            return
        written, facts, evaluation = [], self.recorder.facts, self.recorder.evaluation
        results = self.recorder.evaluation and self.recorder.evaluation.results
        scores = results.scores(dict(multi_task(pl_module).tasks.items())) if results else {}
        if with_curves and (facts.epochs or facts.validations):
            with errors_as_warnings("curves.png"):
                written.append(
                    self._keep(curves(facts, lowest(facts.tasks, scores)), "curves", trainer)
                )
        if evaluation is not None:
            for task in lowest(evaluation.plots, scores):
                with errors_as_warnings(f"picture of task {task}"):
                    name = f"{split}_{module_key(task).removeprefix('task_')}"
                    written.append(self._keep(draw_task(evaluation, task), name, trainer))
        if written:
            count = len(facts.tasks)
            note = f"; of {count:,} tasks, the {MOST} with the lowest scores" * (count > MOST)
            pl_module.print(f"written: {self.recorder.run}: {listed(written)}{note}")

    def _keep(self, figure: Figure, name: str, trainer: Trainer) -> str:
        """Write the figure; return the name of its file."""
        image = pixels(figure)
        path: Path = self.recorder.run / f"{name}.png"
        with atomic_path(path) as part:
            Image.fromarray(image).save(part, "PNG", dpi=(DPI, DPI))
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image(name, image, trainer.global_step, dataformats="HWC")
        return path.name
