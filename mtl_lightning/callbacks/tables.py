"""What a person watches: what was merged, and how each task does after each validation."""

import math
from collections.abc import Mapping
from pathlib import Path

from pytorch_lightning import Callback, LightningModule, Trainer
from rich import box, get_console
from rich.markup import escape
from rich.table import Table
from torch.nn.modules.batchnorm import _BatchNorm

from mtl_lightning.audit import label_checks
from mtl_lightning.audit.absence_odds import StepSize
from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.data.splits import SPLITS
from mtl_lightning.system import hardware
from mtl_lightning.tasks import Task
from mtl_lightning.training.module import MultiTask
from mtl_lightning.training.results import Results


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
        size = StepSize(data.batch_size, trainer.world_size, trainer.accumulate_grad_batches)
        for note in [*data.notes(), *label_checks.notes(data, size), *hardware.notes(trainer)]:
            console.print(f"[yellow]note:[/] {escape(note)}", highlight=False)
        sizes = [(p.numel(), p.requires_grad) for p in pl_module.parameters()]
        total, trained = sum(n for n, _ in sizes), sum(n for n, trained in sizes if trained)
        frozen = f", {trained / 1e6:.2f} M of them trained" if trained < total else ""
        console.print(
            f"{total / 1e6:.2f} M parameters{frozen}; images {data.size[0]} x {data.size[1]} px; "
            f"run folder [bold]{escape(str(self.run))}[/]",
            highlight=False,
        )
        if trainer.world_size > 1 and _trains_batch_norm(pl_module):
            console.print(
                "[yellow]note:[/] batch norm in training mode mixes the rows of one device: the "
                "result depends on the number of devices (freeze it, or trainer.sync_batchnorm)",
                highlight=False,
            )

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
            note = hardware.starved(share, data, trainer)
            get_console().print(f"[yellow]note:[/] {escape(note)}", highlight=False)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the tasks' table, with the best so far."""
        if not isinstance(pl_module, MultiTask) or trainer.sanity_checking:
            return
        results, tasks = pl_module.results["val"], dict(pl_module.tasks.items())
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
        if isinstance(pl_module, MultiTask) and trainer.is_global_zero:
            results, console = pl_module.results["test"], get_console()
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


def merged_table(data: PartialLabels) -> Table:
    """Return the labelled images of each source, task and split, and those of all sources."""
    merged = data.merged()
    counts = merged.counts({task: data.fields(task) for task in data.tasks})
    table = Table(title="labelled images", title_justify="left", box=box.SIMPLE_HEAD)
    for column in ("source", "task"):
        table.add_column(column)
    for split in SPLITS:
        table.add_column(split, justify="right")
    for name in merged.names:
        shown = escape(name)
        for task in data.tasks:
            if (name, task, "train") in counts.labelled:
                numbers = [counts.labelled[name, task, split] for split in SPLITS]
                table.add_row(shown, task, *map(_count, numbers))
                shown = ""
        images = [counts.images[name, split] for split in SPLITS]
        table.add_row(shown, "[dim]images[/]", *map(_count, images), end_section=True)
    if len(merged.names) > 1:
        inside = [merged.splits == split for split in range(len(SPLITS))]
        shown = "merged"
        for task in data.tasks:
            labelled = data.has_label(task)
            numbers = [int((labelled & i).sum()) for i in inside]
            table.add_row(shown, task, *map(_count, numbers), style="bold")
            shown = ""
        table.add_row("", "images", *(_count(int(i.sum())) for i in inside), style="bold")
    return table


def _count(number: int) -> str:
    return f"{number:,}" if number else "[dim]-[/]"


def results_table(
    results: Results, tasks: Mapping[str, Task], title: str, best: Mapping[str, float] | None
) -> Table:
    """Return a row per task: labelled rows, loss, primary metric, best so far."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("task", overflow="fold")  # cut names could look the same
    for column in ("labelled", "loss", "metric", "value", *(["best"] if best is not None else [])):
        table.add_column(column, justify="left" if column == "metric" else "right")
    for name, values in results.tasks.items():
        primary = tasks[name].primary
        row = [name, f"{values['n_labelled']:,}"]
        if values["n_labelled"]:
            value = values[primary]
            row += [f"{values['loss']:.4f}", primary, f"{value:.4f}"]
            if best is not None:
                top = best.get(name, math.nan)
                row.append(f"[green]{top:.4f}[/]" if value == top else f"{top:.4f}")
        else:
            row += ["absent"]
        table.add_row(*row)
    if results.loss is not None:
        score = "" if results.score is None else f"{results.score:.4f}"
        table.add_section()
        table.add_row("all", "", f"{results.loss:.4f}", "score", score, style="bold")
    return table


def metric_tables(results: Results) -> list[Table]:
    """Return a table for each set of tasks that share their metrics, and one for each of labels.

    A value called ``metric/label`` belongs to one label of a task that has many.
    """
    whole: dict[tuple[str, ...], dict[str, dict[str, float]]] = {}
    by_label = []
    for name, values in results.tasks.items():
        own = {metric: value for metric, value in values.items() if "/" not in metric}
        if values["n_labelled"]:
            whole.setdefault(tuple(own), {})[name] = own
        rows: dict[str, dict[str, float]] = {}
        for metric, value in values.items():
            if "/" in metric:
                rows.setdefault(metric.partition("/")[2], {})[metric.partition("/")[0]] = value
        if rows:
            by_label.append(_metric_table(f"{results.split}, {name}", "label", rows))
    return [_metric_table(results.split, "task", rows) for rows in whole.values()] + by_label


def _metric_table(title: str, first: str, rows: Mapping[str, Mapping[str, float]]) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column(first, overflow="fold")
    for column in next(iter(rows.values())):
        # Spaces, so that a narrow terminal breaks a long name instead of cutting it.
        shown = "labelled" if column == "n_labelled" else column.replace("_", " ")
        table.add_column(shown, justify="right", min_width=max(map(len, shown.split())))
    for name, values in rows.items():
        cells = [f"{v:,.0f}" if m == "n_labelled" else f"{v:.4f}" for m, v in values.items()]
        table.add_row(escape(name), *cells)
    return table


def _trains_batch_norm(module: LightningModule) -> bool:
    return any(isinstance(m, _BatchNorm) and m.training for m in module.modules())
