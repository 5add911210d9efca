"""Loss and primary metric of every task over the training."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter
from numpy.typing import NDArray

from mtl_lightning.reports.plots.canvas import (
    BLUE,
    ORANGE,
    name_spot,
    new_figure,
    note,
    plain,
    shortened,
    tidy,
)
from mtl_lightning.runs.facts import RunFacts
from mtl_lightning.tasks.results import Results

STYLES: dict[str, dict[str, Any]] = {
    "train": {"color": ORANGE, "linestyle": "--", "marker": "s"},
    "val": {"color": BLUE, "linestyle": "-", "marker": "o"},
}
LOG_ABOVE = 20
"""A loss whose largest and smallest values have this ratio gets a logarithmic axis."""
NAMED_POINTS = 60
"""The most points of a line that are named when they are pointed at."""
FLOOR = -1.0
"""Lowest metric drawn: an R2 of -300 before the first epoch would flatten everything else."""

Lines = Mapping[str, tuple[NDArray[np.float64], NDArray[np.float32]]]
"""Split to epochs and values, in the precision in which they are logged; NaN if undefined."""


def curves(facts: RunFacts, tasks: Collection[str] | None = None) -> Figure:
    """Draw loss and primary metric, train and val: one row for all tasks together, one for each.

    Args:
        facts: The facts of the run.
        tasks: The tasks that get a row; by default all.
    """
    primaries = {
        task: own.primary for task, own in facts.tasks.items() if tasks is None or task in tasks
    }
    left_out = len(facts.tasks) - len(primaries)
    few = f"{len(primaries):,} of {len(facts.tasks):,} tasks: those with the lowest scores"
    title = f"{facts.name}/{facts.version}"
    figure = new_figure(9, 2.25 + 1.75 * len(primaries), title, few if left_out else "")
    grid = figure.subplots(len(primaries) + 1, 2, sharex=True, squeeze=False)
    losses, scores = _lines(facts, lambda r: r.loss), _lines(facts, lambda r: r.score)
    _draw_row(grid[0], "all tasks", "score", losses, scores)
    for (task, primary), axes in zip(primaries.items(), grid[1:], strict=True):
        losses, values = (_of_task(facts, task, metric) for metric in ("loss", primary))
        _draw_row(axes, task, primary, losses, values)
    for axes in grid[-1]:
        axes.set_xlabel("epochs of training", size=9)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    end = max([1.0, *(epochs.max() for epochs in by_epoch(facts).values() if len(epochs))])
    grid[0, 0].set_xlim(-0.02 * end, end * 1.03)
    handles = [Line2D([], [], label=split, **style) for split, style in STYLES.items()]
    figure.legend(
        handles=handles, loc="upper right", ncols=2, frameon=False, fontsize=9, handlelength=3
    )
    return figure


def by_epoch(facts: RunFacts) -> dict[str, NDArray[np.float64]]:
    """Return for each split the number of epochs trained before each of its results.

    A validation within an epoch lies between two integers.
    """
    steps = np.array([0, *(epoch.step for epoch in facts.epochs)], dtype=np.float64)
    epochs = np.array([0, *(epoch.epoch + 1 for epoch in facts.epochs)], dtype=np.float64)
    validated = np.array([validation.step for validation in facts.validations], dtype=np.float64)
    return {"train": epochs[1:], "val": np.interp(validated, steps, epochs)}


def _lines(facts: RunFacts, value: Callable[[Results], float | None]) -> Lines:
    measured = {
        "train": [epoch.results for epoch in facts.epochs],
        "val": [validation.results for validation in facts.validations],
    }
    return {
        split: (epochs, np.array([value(own) for own in measured[split]], dtype=np.float32))
        for split, epochs in by_epoch(facts).items()
    }


def _of_task(facts: RunFacts, task: str, metric: str) -> Lines:
    return _lines(facts, lambda results: results.tasks.get(task, {}).get(metric))


def _draw_row(axes: NDArray[Any], name: str, metric: str, losses: Lines, values: Lines) -> None:
    left, right = axes
    metric = metric.replace("_", " ")
    for own, what, room in ((left, "loss", 34), (right, metric, max(38 - len(metric), 12))):
        own.set_title(plain(f"{shortened(name, room)}: {what}"), loc="left", size=9.5)
    _draw(left, losses)
    _scale_loss(left)
    _draw(right, values)
    _mark_best(right, *values["val"])
    _cut_depth(right)


def _draw(axes: Axes, lines: Lines) -> None:
    tidy(axes)
    axes.margins(y=0.08)
    for split, style in STYLES.items():
        epochs, values = lines[split]
        values = np.where(np.isfinite(values), values, np.nan)  # undefined values become gaps
        if not np.isnan(values).all():
            marks = {"markersize": 3.5} if len(values) <= 60 else {"marker": ""}
            axes.plot(epochs, values, label=split, linewidth=1.6, **(style | marks))
            known = np.flatnonzero(~np.isnan(values))
            some = known[:: -(-len(known) // NAMED_POINTS)] if len(known) else known
            for epoch, value in zip(epochs[some].tolist(), values[some].tolist(), strict=True):
                name_spot(axes, (epoch, value), f"{split} {value:.4g} after {epoch:.3g} epochs")
    if not axes.lines:
        note(axes, "no value")
        axes.set_yticks([])


def _scale_loss(axes: Axes) -> None:
    low, high = axes.dataLim.ymin, axes.dataLim.ymax
    if np.isfinite(low) and 0 < low * LOG_ABOVE < high:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_title(f"{axes.get_title(loc='left')} (logarithmic)", loc="left", size=9.5)


def _cut_depth(axes: Axes) -> None:
    tops = [float(np.nanmax(np.asarray(line.get_ydata()))) for line in axes.lines]
    if tops and axes.dataLim.ymin < FLOOR < min(tops):
        axes.set_ylim(FLOOR, max(tops) + 0.1)


def _mark_best(axes: Axes, epochs: NDArray[np.float64], values: NDArray[np.float32]) -> None:
    finite = np.isfinite(values)
    if not finite.any():
        return
    first = np.argmax(values[finite])
    epoch, best = epochs[finite][first], values[finite][first]
    ring: dict[str, Any] = {"markersize": 9, "fillstyle": "none", "clip_on": False}
    axes.plot([epoch], [best], "o", color=BLUE, label="_best", **ring)
    axes.set_title(f"best {best:.3f} after {epoch:.3g}", loc="right", size=8.5, color=BLUE)
