"""Loss and primary metric of every task over the training, from ``metrics.csv``."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from mtl_lightning.reports.plots.canvas import (
    BLUE,
    ORANGE,
    new_figure,
    note,
    plain,
    shortened,
    tidy,
)

STYLES: dict[str, dict[str, Any]] = {
    "train": {"color": ORANGE, "linestyle": "--", "marker": "s"},
    "val": {"color": BLUE, "linestyle": "-", "marker": "o"},
}
LOG_ABOVE = 20
"""A loss whose largest value is so many times its smallest is drawn on a logarithmic axis."""
FLOOR = -1.0
"""Metrics are drawn from here on: an R2 of -300 before the first epoch would flatten the rest."""


def curves(history: pd.DataFrame, tasks: Mapping[str, str], title: str) -> Figure:
    """Draw loss and primary metric, train and val: a row for all tasks together, one for each.

    Args:
        history: ``metrics.csv`` as it is: columns ``epoch``, ``step`` and ``<split>/...``.
        tasks: Task to the name of its primary metric.
        title: The heading.
    """
    lines = by_epoch(history)
    names = [("all tasks", "", "score"), *((task, f"{task}/", p) for task, p in tasks.items())]
    figure = new_figure(9, 0.5 + 1.75 * len(names), title)
    grid = figure.subplots(len(names), 2, sharex=True, squeeze=False)
    for (name, prefix, primary), (left, right) in zip(names, grid, strict=True):
        metric = primary.replace("_", " ")
        for axes, what, room in ((left, "loss", 34), (right, metric, max(38 - len(metric), 12))):
            axes.set_title(plain(f"{shortened(name, room)}: {what}"), loc="left", size=9.5)
        _draw(left, lines, f"{prefix}loss")
        _scale_loss(left)
        _draw(right, lines, f"{prefix}{primary}")
        _mark_best(right, lines["val"], f"val/{prefix}{primary}")
        _cut_depth(right)
    for axes in grid[-1]:
        axes.set_xlabel("epochs of training", size=9)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    end = max([1.0, *(line.index.max() for line in lines.values() if len(line))])
    grid[0, 0].set_xlim(-0.02 * end, end * 1.03)
    handles = [Line2D([], [], label=split, **style) for split, style in STYLES.items()]
    figure.legend(
        handles=handles, loc="upper right", ncols=2, frameon=False, fontsize=9, handlelength=3
    )
    return figure


def by_epoch(history: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the rows of each split, indexed by how many epochs of training came before them.

    A validation within an epoch lies between two whole numbers. What a resumed run measured again
    replaces what stood there, and so does all that came after the step it was resumed from.
    """
    lines = {}
    for split in STYLES:
        columns = [
            name
            for name in history.columns
            if name.startswith(f"{split}/") and name != "train/loss_step"
        ]
        rows = history.loc[history[columns].notna().any(axis=1), ["epoch", "step", *columns]]
        later = rows["step"].astype(float)[::-1].cummin()[::-1].shift(-1, fill_value=np.inf)
        lines[split] = rows[rows["step"] < later]
    lines["train"] = lines["train"].drop_duplicates("epoch", keep="last")
    # The step in the file is the number of the last one made, from 0.
    steps = np.array([-1, *lines["train"]["step"]], dtype=float)
    epochs = np.array([0, *(lines["train"]["epoch"] + 1)], dtype=float)
    for split, rows in lines.items():
        lines[split] = rows.set_index(np.interp(rows["step"].to_numpy(float), steps, epochs))
    return lines


def _draw(axes: Axes, lines: Mapping[str, pd.DataFrame], name: str) -> None:
    tidy(axes)
    axes.margins(y=0.08)
    drawn = 0
    for split, style in STYLES.items():
        values = lines[split].get(f"{split}/{name}", pd.Series(dtype=float))
        values = values.where(np.isfinite(values))  # what is undefined is a gap
        if values.any():
            marks = {"markersize": 3.5} if len(values) <= 60 else {"marker": ""}
            axes.plot(values.index, values, label=split, linewidth=1.6, **(style | marks))
            drawn += 1
    if not drawn:
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


def _mark_best(axes: Axes, rows: pd.DataFrame, name: str) -> None:
    values = rows.get(name, pd.Series(dtype=float))
    values = values[np.isfinite(values)]
    if not len(values):
        return
    epoch, best = values.idxmax(), values.max()
    ring: dict[str, Any] = {"markersize": 9, "fillstyle": "none", "clip_on": False}
    axes.plot([epoch], [best], "o", color=BLUE, label="_best", **ring)
    axes.set_title(f"best {best:.3f} after {epoch:.3g}", loc="right", size=8.5, color=BLUE)
