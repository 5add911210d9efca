"""Tables and lines for the terminal: the merged data, and each task's results."""

import math
from collections.abc import Mapping

from rich import box
from rich.markup import escape
from rich.table import Table

from mtl_lightning.data.splits import SPLITS
from mtl_lightning.runs.facts import LabelCounts, MergedCounts, Sizes, TaskCourse, TaskFacts
from mtl_lightning.tasks.results import Results

MOST_METRICS, MOST_COLUMNS = 7, 4
"""Metrics beside each other in 80 characters, and names where more metrics are rows instead."""


def merged_table(merged: MergedCounts) -> Table:
    """Return the numbers of labelled images by source, task and split, and of all sources."""
    table = _table("labelled images")
    for column in ("source", "task"):
        table.add_column(column)
    for split in SPLITS:
        table.add_column(split, justify="right")
    for name, counts in merged.sources.items():
        _add_counts(table, name, counts)
    if len(merged.sources) > 1:
        _add_counts(table, "merged", merged.total, style="bold")
    return table


def _add_counts(table: Table, name: str, counts: LabelCounts, style: str | None = None) -> None:
    images = "images" if style else "[dim]images[/]"
    shown = escape(name)
    for task, of_task in [*counts.labelled.items(), (images, counts.images)]:
        cells = [f"{of_task[s]:,}" if of_task[s] else "[dim]-[/]" for s in SPLITS]
        table.add_row(shown, task, *cells, style=style, end_section=of_task is counts.images)
        shown = ""


def sizes_line(sizes: Sizes, folder: str) -> str:
    """Return the sizes of the network and its images, and the run's folder, as markup."""
    total, trained = sizes.parameters.total, sizes.parameters.trained
    frozen = f", {trained / 1e6:.2f} M of them trained" if trained < total else ""
    images = f"images {sizes.image[0]} x {sizes.image[1]} px; " if sizes.image else ""
    return f"{total / 1e6:.2f} M parameters{frozen}; {images}run folder [bold]{escape(folder)}[/]"


def results_table(
    results: Results, tasks: Mapping[str, TaskFacts], title: str, best: Mapping[str, float] | None
) -> Table:
    """Return a row per task: labelled rows, loss, primary metric, best so far."""
    table = _table(title)
    table.add_column("task", overflow="fold")  # truncated names could look the same
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


def courses_table(courses: Mapping[str, TaskCourse]) -> Table:
    """Return a row per task: its primary metric in the last, its best and the chosen epoch.

    The last and the chosen are followed by their differences from the best.
    """
    table = _table("last, best for the task, chosen for best.ckpt")
    table.add_column("task", overflow="fold")
    for column in ("last", "best", "epoch", "chosen", "epoch"):
        table.add_column(column, justify="right")
    for name, course in courses.items():
        row = [_below(course.last, course.best), f"{course.best:.4f}", str(course.best_epoch)]
        if course.chosen is not None:
            row += [_below(course.chosen, course.best), str(course.chosen_epoch)]
        table.add_row(escape(name), *row)
    return table


def _below(value: float, best: float) -> str:
    return f"{value:.4f} [dim]({value - best:+.4f})[/]" if value < best else f"{value:.4f}"


def metric_tables(results: Results) -> list[Table]:
    """Return a table for each set of tasks that share their metrics, and one for each of labels.

    A value called ``metric/label`` belongs to one label of a multi-label task.
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
    """Return a row for each name and a column for each metric; the other way, if these are many."""
    table = _table(title)
    names = {m: "labelled" if m == "n_labelled" else m.replace("_", " ") for m in _first(rows)}
    shown = {
        name: [f"{v:,.0f}" if m == "n_labelled" else f"{v:.4f}" for m, v in values.items()]
        for name, values in rows.items()
    }
    if len(names) > MOST_METRICS and len(rows) <= MOST_COLUMNS:
        table.add_column("metric")
        for name in rows:
            table.add_column(escape(name), justify="right", overflow="fold")
        for i, metric in enumerate(names.values()):
            table.add_row(metric, *(cells[i] for cells in shown.values()))
        return table
    table.add_column(first, overflow="fold")
    for metric in names.values():
        # Spaces, so that a narrow terminal breaks a long name instead of cutting it.
        table.add_column(metric, justify="right", min_width=max(map(len, metric.split())))
    for name, cells in shown.items():
        table.add_row(escape(name), *cells)
    return table


def _first(rows: Mapping[str, Mapping[str, float]]) -> Mapping[str, float]:
    return next(iter(rows.values()))


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
