"""Tables for the terminal: what was merged, and how each task does."""

import math
from collections.abc import Mapping

from rich import box
from rich.markup import escape
from rich.table import Table

from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.data.splits import SPLITS
from mtl_lightning.tasks import Task
from mtl_lightning.tasks.results import Results


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
