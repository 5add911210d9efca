"""The terminal's view of a run: the merged data, and each task's results after a validation."""

from pytorch_lightning import Callback, LightningModule, Trainer
from rich import get_console
from rich.markup import escape

from mtl_lightning.callbacks.run_recorder import RunRecorder
from mtl_lightning.reports.console import (
    courses_table,
    merged_table,
    metric_tables,
    results_table,
    sizes_line,
)
from mtl_lightning.training.protocol import data_of, multi_task


class Tables(Callback):
    """Prints the recorded facts on the first rank.

    The share of time spent waiting for data is only printed and recorded in `run.json`: a time in a
    log or a checkpoint would make a resumed run differ from an uninterrupted one.

    Args:
        recorder: The callback that collects the facts; it must come before this one.
    """

    def __init__(self, recorder: RunRecorder) -> None:
        self.recorder = recorder
        self._notes = 0  # printed

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print what was merged, the size of the network, and where the run is written."""
        facts = self.recorder.facts
        if not trainer.is_global_zero or facts.merged is None or facts.sizes is None:
            return
        console = get_console()
        console.print(merged_table(facts.merged))
        self._notes = 0
        self._print_notes()
        console.print(sizes_line(facts.sizes, str(self.recorder.run)), highlight=False)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the notes of the epoch."""
        if trainer.is_global_zero:
            self._print_notes()

    def _print_notes(self) -> None:
        for note in self.recorder.facts.notes[self._notes :]:
            get_console().print(f"[yellow]note:[/] {escape(note)}", highlight=False)
        self._notes = len(self.recorder.facts.notes)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the tasks' table, with the best results so far."""
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        facts, results = self.recorder.facts, multi_task(pl_module).results["val"]
        fit = trainer.state.fn == "fit"
        title, best = (_title(trainer), facts.best()) if fit else ("val", None)
        get_console().print(results_table(results, facts.tasks, title, best))

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print by how much each task's last, best and chosen epochs differ."""
        courses = self.recorder.facts.courses()
        if trainer.is_global_zero and courses:
            get_console().print(courses_table(courses))

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print every metric of every task."""
        if not trainer.is_global_zero:
            return
        results, console = multi_task(pl_module).results["test"], get_console()
        for table in metric_tables(results):
            console.print(table)
        for name, values in results.tasks.items():
            if not values["n_labelled"]:
                console.print(f"task {name}: absent, no label in test", highlight=False)
        if results.score is not None:
            console.print(f"score [bold]{results.score:.4f}[/]", highlight=False)


def _title(trainer: Trainer) -> str:
    share = data_of(trainer).input_wait.share()
    waited = "" if share is None else f" · waiting for data {share:.0%}"
    return f"epoch {trainer.current_epoch}{waited}"
