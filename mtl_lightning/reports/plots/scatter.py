"""Predictions against labels, and the residuals."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mtl_lightning.reports.plots.canvas import (
    BLUE,
    ORANGE,
    new_figure,
    note,
    tidy,
)


def scatter(
    predictions: NDArray[np.floating], labels: NDArray[np.floating], title: str, subtitle: str
) -> Figure:
    """Draw predictions against labels with the diagonal, the residuals, and their histogram.

    Values that are not finite are left out, and outliers are drawn at the edge; the small print
    gives their numbers. From values whose first digits are the same, such as time stamps, a round
    number is subtracted, which the axes name.

    Args:
        predictions: ``(N,)`` in the label's unit.
        labels: ``(N,)`` in the same unit.
        title: The heading.
        subtitle: Small print below it.
    """
    finite = np.isfinite(predictions) & np.isfinite(labels)
    answers, truth = predictions[finite].astype(float), labels[finite].astype(float)
    residuals = answers - truth
    offset = _offset(truth)
    truth, answers = truth - offset, answers - offset
    first, last = _limits(truth, including=truth)
    low, high = _limits(answers, including=truth)
    reach = float(np.abs(_limits(residuals)).max())
    beyond = int(((answers < low) | (answers > high) | (np.abs(residuals) > reach)).sum())
    remarks = [subtitle]
    if not finite.all():
        remarks.append(f"{(~finite).sum():,} not finite, not drawn")
    if beyond:
        remarks.append(f"{beyond:,} beyond the axes, drawn at the edge")
    figure = new_figure(10, 4.1, title, " · ".join(part for part in remarks if part))
    left, middle, right = figure.subplots(1, 3, width_ratios=[1, 1, 0.3])
    middle.sharey(right)
    for axes in (left, middle, right):
        tidy(axes)
    minus = f" {'+' if offset < 0 else '-'} {abs(offset):,.15g}" if offset else ""
    label, prediction = f"label{minus}", f"prediction{minus}"
    left.set(xlabel=label, ylabel=prediction, xlim=(low, high), ylim=(low, high))
    middle.set(xlabel=label, ylabel="prediction - label", xlim=(first, last))
    middle.set_ylim(-reach, reach)
    right.set(xlabel="images")
    right.tick_params(labelleft=False)
    left.set_aspect("equal", adjustable="box")
    for axes in (left, middle, right):
        axes.xaxis.label.set_size(9)
        axes.yaxis.label.set_size(9)
    for axes in (left, middle):
        axes.ticklabel_format(useOffset=False)
    if not len(truth):
        note(left, "no finite prediction")
        return figure
    left.plot([low, high], [low, high], color=ORANGE, linewidth=1.2, label="prediction = label")
    left.legend(loc="lower left", bbox_to_anchor=(0, 1), frameon=False, fontsize=8.5)
    for axes in (middle, right):
        axes.axhline(0, color=ORANGE, linewidth=1.2)
    _points(left, truth, np.clip(answers, low, high))
    _points(middle, truth, np.clip(residuals, -reach, reach))
    shown = np.clip(residuals, -reach, reach)
    right.hist(shown, bins=31, range=(-reach, reach), orientation="horizontal", color=BLUE)
    return figure


def _offset(labels: NDArray[np.floating]) -> float:
    """Return a round number to subtract from labels that differ by less than a thousandth."""
    if not len(labels):
        return 0.0
    low, span = float(labels.min()), float(np.ptp(labels))
    if span * 1000 >= np.abs(labels).max():
        return 0.0
    unit = 10.0 ** math.ceil(math.log10(span)) if span else 1.0
    return math.floor(low / unit) * unit


def _points(axes: Axes, x: NDArray[np.floating], y: NDArray[np.floating]) -> None:
    """Draw each point, more transparent the more there are."""
    crowd = float(np.clip(200 / len(x), 0.12, 0.7))
    size = 14 if len(x) <= 500 else 7
    axes.scatter(x, y, s=size, color=BLUE, alpha=crowd, linewidths=0, clip_on=False, zorder=3)


def _limits(
    values: NDArray[np.floating], including: NDArray[np.floating] | None = None
) -> tuple[float, float]:
    """Return a range that holds all values but outliers."""
    if not len(values):
        return -1.0, 1.0
    low, high = np.quantile(values, [0.02, 0.98])
    spread = (high - low) * 0.75
    low, high = max(low - spread, values.min()), min(high + spread, values.max())
    if including is not None:
        low, high = min(low, including.min()), max(high, including.max())
    margin = (high - low) * 0.04 or max(abs(high) * 0.1, 1e-6)
    return float(low - margin), float(high + margin)
