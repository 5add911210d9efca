"""What a person looks at: curves of the training, and a picture of each task."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from PIL import Image
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from rich import get_console
from rich.markup import escape

from mtl_lightning.data.batch import Batch
from mtl_lightning.models.named import module_key
from mtl_lightning.reports.plots import draw
from mtl_lightning.system.errors import listed
from mtl_lightning.system.files import atomic_path
from mtl_lightning.system.strategy import is_trial
from mtl_lightning.tasks.plot_data import PlotData
from mtl_lightning.tasks.plot_records import PlotRecord
from mtl_lightning.training.protocol import MultiTaskModule, multi_task

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Plots(Callback):
    """Draws ``curves.png`` after training, and ``<split>_<task>.png`` after an evaluation.

    After ``fit`` the tasks' pictures are of its last validation, after ``validate`` and ``test``
    of that evaluation. Where there is a TensorBoard logger, it gets them too. A task that has no
    label in the split, or whose kind has no picture, is passed by. Nothing that goes wrong here
    stops the run: it costs the picture and one line.

    Args:
        run: The folder to write to, and in which ``metrics.csv`` is.
    """

    def __init__(self, run: Path) -> None:
        self.run = run
        self._plot_data: dict[str, PlotData] = {}
        self._caption = ""
        self._collected: dict[str, PlotRecord] = {}
        self._written: list[str] = []

    # ----------------------------------------------------------------- collect, on every rank

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget what an earlier run of this callback has seen."""
        self._caption, self._collected = "", {}

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to collect anew."""
        self._begin(pl_module)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to collect anew."""
        self._begin(pl_module)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Collect a batch; ``outputs`` is what the network gave for each task."""
        self._add(pl_module, outputs, batch)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Collect a batch; ``outputs`` is what the network gave for each task."""
        self._add(pl_module, outputs, batch)

    def _begin(self, pl_module: LightningModule) -> None:
        self._plot_data = {}
        for name, task in multi_task(pl_module).tasks.items():
            with harmless(f"picture of task {name}"):
                data = task.plot_data()
                if data is not None:
                    self._plot_data[name] = data.to(pl_module.device)

    def _add(self, module: LightningModule, outputs: dict[str, Any], batch: Batch) -> None:
        for name, data in list(self._plot_data.items()):
            del self._plot_data[name]  # until it has worked
            with harmless(f"picture of task {name}"):
                answers = multi_task(module).tasks[name].predict(outputs[name])
                data.update(answers, batch.targets[name], batch.labelled[name], batch.rows)
                self._plot_data[name] = data

    def _gather(
        self, trainer: Trainer, module: MultiTaskModule, split: str
    ) -> dict[str, PlotRecord]:
        """Bring the ranks together; every rank asks for the same tasks in the same order."""
        gathered = {}
        for name, values in module.results[split].tasks.items():
            # A rank that failed would leave the others waiting for what it has collected.
            everywhere = trainer.strategy.reduce_boolean_decision(name in self._plot_data)
            if everywhere and values["n_labelled"]:
                with harmless(f"picture of task {name}"):
                    gathered[name] = self._plot_data[name].compute()
        return gathered

    # ----------------------------------------------------------------- draw, on the first rank

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw, if this is the command ``validate``; within a training the last one counts."""
        if trainer.state.fn == "validate":
            self._collected = self._gather(trainer, multi_task(pl_module), "val")
            self._draw_tasks(trainer, multi_task(pl_module), "val", _evaluated("val", trainer))
        elif not trainer.sanity_checking:
            self._caption = f"val at the last validation, after {trainer.global_step:,} steps"

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Bring the last validation together while all ranks are here; checkpoints come first."""
        if self._caption:
            self._collected = self._gather(trainer, multi_task(pl_module), "val")

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the curves, and the tasks as the last validation saw them."""
        if trainer.is_global_zero and not is_trial(trainer):
            self._draw_curves(trainer, multi_task(pl_module))
        self._draw_tasks(trainer, multi_task(pl_module), "val", self._caption)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the tasks as the test saw them."""
        self._collected = self._gather(trainer, multi_task(pl_module), "test")
        self._draw_tasks(trainer, multi_task(pl_module), "test", _evaluated("test", trainer))

    def _draw_curves(self, trainer: Trainer, module: MultiTaskModule) -> None:
        path = self.run / "metrics.csv"
        if path.is_file():
            with harmless("curves.png"):
                from mtl_lightning.reports.plots.curves import curves

                tasks = {name: task.primary for name, task in module.tasks.items()}
                figure = curves(pd.read_csv(path), tasks, f"{self.run.parent.name}/{self.run.name}")
                self._keep(figure, "curves", trainer)

    def _draw_tasks(
        self, trainer: Trainer, module: MultiTaskModule, split: str, caption: str
    ) -> None:
        collected, self._collected = self._collected, {}
        if not trainer.is_global_zero or is_trial(trainer):
            return
        for name, record in collected.items():
            with harmless(f"picture of task {name}"):
                numbers = [
                    f"{metric.replace('_', ' ')} {value:.3g}"
                    for metric, value in module.results[split].tasks[name].items()
                    if metric not in ("n_labelled", "loss") and "/" not in metric  # of one label
                ]
                labelled = f"{module.results[split].tasks[name]['n_labelled']:,} labelled"
                subtitle = " · ".join([caption, labelled, *numbers])
                figure = draw(record, name, subtitle)
                file = module_key(name).removeprefix("task_")
                self._keep(figure, f"{split}_{file}", trainer)
        if self._written:
            module.print(f"written: {self.run}: {listed(self._written)}")
        self._written = []

    def _keep(self, figure: "Figure", name: str, trainer: Trainer) -> None:
        from mtl_lightning.reports.plots.canvas import DPI, pixels

        image = pixels(figure)
        path = self.run / f"{name}.png"
        with atomic_path(path) as part:
            Image.fromarray(image).save(part, "PNG", dpi=(DPI, DPI))
        self._written.append(path.name)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image(name, image, trainer.global_step, dataformats="HWC")


def _evaluated(split: str, trainer: Trainer) -> str:
    return f"{split}, weights of {Path(trainer.ckpt_path).name}" if trainer.ckpt_path else split


@contextmanager
def harmless(what: str) -> Iterator[None]:
    """Turn an error into one line: a picture is never worth a training."""
    try:
        yield
    except Exception as error:  # whatever it is, in a task of the user's own too
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        get_console().print(
            f"[yellow]warning:[/] no {escape(what)}: {escape(reason)}",
            highlight=False,
            soft_wrap=True,
        )
