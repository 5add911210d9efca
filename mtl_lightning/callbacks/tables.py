"""What a person watches: what was merged, and how each task does after each validation."""

import math
from pathlib import Path

from pytorch_lightning import Callback, LightningModule, Trainer
from rich import get_console
from rich.markup import escape

from mtl_lightning.callbacks import notes
from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.reports.console import merged_table, metric_tables, results_table
from mtl_lightning.training.protocol import multi_task


class Tables(Callback):
    """Prints the table of merged labels at the start, and the tasks' table after a validation.

    What was waited for data is printed only: a time in a log or a checkpoint would let no resumed
    run be compared with a whole one.

    Args:
        run: The folder of the run, named at the start.
    """

    def __init__(self, run: Path) -> None:
        self.run = run
        self.best: dict[str, float] = {}
        self._told = False

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print what was merged, the size of the network, and where the run is written."""
        if not trainer.is_global_zero:
            return
        data = _data(trainer)
        console = get_console()
        console.print(merged_table(data))
        for note in notes.before_training(data, trainer):
            console.print(f"[yellow]note:[/] {escape(note)}", highlight=False)
        sizes = [(p.numel(), p.requires_grad) for p in pl_module.parameters()]
        total, trained = sum(n for n, _ in sizes), sum(n for n, trained in sizes if trained)
        frozen = f", {trained / 1e6:.2f} M of them trained" if trained < total else ""
        console.print(
            f"{total / 1e6:.2f} M parameters{frozen}; images {data.size[0]} x {data.size[1]} px; "
            f"run folder [bold]{escape(str(self.run))}[/]",
            highlight=False,
        )
        for note in notes.batch_norm(pl_module, trainer):
            console.print(f"[yellow]note:[/] {escape(note)}", highlight=False)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock of the training part."""
        _data(trainer).waiting.pause()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say once what to do, if the device waits for its data."""
        data = _data(trainer)
        data.waiting.pause()  # where no validation has
        share = data.waiting.starved()
        if share is not None and not self._told and trainer.is_global_zero:
            self._told = True
            note = notes.starved(share, data, trainer)
            get_console().print(f"[yellow]note:[/] {escape(note)}", highlight=False)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the tasks' table, with the best so far."""
        if trainer.sanity_checking:
            return
        module = multi_task(pl_module)
        results, tasks = module.results["val"], dict(module.tasks.items())
        for name, values in results.tasks.items():
            value = values.get(tasks[name].primary, math.nan)
            if not value <= self.best.get(name, -math.inf) and not math.isnan(value):
                self.best[name] = value
        if trainer.is_global_zero:
            title = _title(trainer) if trainer.state.fn == "fit" else "val"
            best = self.best if trainer.state.fn == "fit" else None
            get_console().print(results_table(results, tasks, title, best))

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print every metric of every task."""
        if trainer.is_global_zero:
            results, console = multi_task(pl_module).results["test"], get_console()
            for table in metric_tables(results):
                console.print(table)
            for name, values in results.tasks.items():
                if not values["n_labelled"]:
                    console.print(f"task {name}: absent, no label in test", highlight=False)
            if results.score is not None:
                console.print(f"score [bold]{results.score:.4f}[/]", highlight=False)

    def state_dict(self) -> dict[str, dict[str, float]]:
        """Keep the best values, so that a resumed run goes on comparing with them."""
        return {"best": dict(self.best)}

    def load_state_dict(self, state_dict: dict[str, dict[str, float]]) -> None:
        """Take the best values of the run that is resumed."""
        self.best = dict(state_dict["best"])


def _data(trainer: Trainer) -> PartialLabels:
    data: PartialLabels = trainer.datamodule  # type: ignore[attr-defined]  # set by Lightning
    return data


def _title(trainer: Trainer) -> str:
    share = _data(trainer).waiting.share()
    waited = "" if share is None else f" · waiting for data {share:.0%}"
    return f"epoch {trainer.current_epoch}{waited}"
