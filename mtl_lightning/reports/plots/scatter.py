"""Predictions against labels, and the residuals."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mtl_lightning.reports.plots.canvas import (
    BLUE,
    ORANGE,
    name_spot,
    new_figure,
    note,
    tidy,
)

NAMED_POINTS = 300
"""The most points that are named when they are pointed at."""


def scatter(
    predictions: NDArray[np.floating],
    labels: NDArray[np.floating],
    title: str,
    subtitle: str,
    ends: tuple[NDArray[np.floating], NDArray[np.floating]] | None = None,
    log: bool = False,
) -> Figure:
    """Draw predictions against labels with the diagonal, the residuals, and their histogram.

    Values that are not finite are left out, and outliers are drawn at the edge; the small print
    gives their numbers. From values whose first digits are the same, such as time stamps, a round
    number is subtracted, which the axes name. Intervals are lines through the predictions.

    Args:
        predictions: ``(N,)`` in the label's unit.
        labels: ``(N,)`` in the same unit.
        title: The heading.
        subtitle: Small print below it.
        ends: The lower and upper ends of the predictions' intervals, ``(N,)`` each.
        log: Draw numbers above 0 on logarithmic axes, and ratios instead of differences.
    """
    finite = np.isfinite(predictions) & np.isfinite(labels)
    if log:
        finite &= (predictions > 0) & (labels > 0)
    answers, truth = (drawn(each[finite], log) for each in (predictions, labels))
    residuals = answers - truth
    offset = 0.0 if log else _offset(truth)
    truth, answers = truth - offset, answers - offset
    first, last = limits(truth, including=truth)
    low, high = limits(answers, including=truth)
    reach = float(np.abs(limits(residuals)).max())
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
    against = "prediction / label" if log else "prediction - label"
    middle.set(xlabel=label, ylabel=against, xlim=(first, last))
    middle.set_ylim(-reach, reach)
    right.set(xlabel="images")
    right.tick_params(labelleft=False)
    left.set_aspect("equal", adjustable="box")
    for axes in (left, middle, right):
        axes.xaxis.label.set_size(9)
        axes.yaxis.label.set_size(9)
    for axes in (left, middle):
        if not log:
            axes.ticklabel_format(useOffset=False)
    if log:
        for axis in (left.xaxis, left.yaxis, middle.xaxis, middle.yaxis):
            axis.set_major_formatter(lambda power, _: readable(10**power))
    if not len(truth):
        note(left, "no finite prediction")
        return figure
    left.plot([low, high], [low, high], color=ORANGE, linewidth=1.2, label="prediction = label")
    left.legend(loc="lower left", bbox_to_anchor=(0, 1), frameon=False, fontsize=8.5)
    for axes in (middle, right):
        axes.axhline(0, color=ORANGE, linewidth=1.2)
    draw_points(left, truth, np.clip(answers, low, high))
    if ends is not None:
        edges = (np.clip(drawn(each[finite], log) - offset, low, high) for each in ends)
        left.vlines(truth, *edges, color=BLUE, alpha=_crowd(len(truth)) / 2, linewidth=0.8)
    draw_points(middle, truth, np.clip(residuals, -reach, reach))
    digits = 12 if offset else 6
    for x, y in zip(truth[:NAMED_POINTS], answers[:NAMED_POINTS], strict=True):  # a random sample
        one, other = (readable(10**own) if log else f"{own + offset:.{digits}g}" for own in (x, y))
        name_spot(left, (x, np.clip(y, low, high)), f"label {one}, prediction {other}")
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


def drawn(values: NDArray[np.floating], log: bool) -> NDArray[np.float64]:
    """Return values, or their powers of ten; one that has no logarithm is far below."""
    wide = values.astype(np.float64)
    return np.log10(np.maximum(wide, np.finfo(np.float64).tiny)) if log else wide


def readable(value: float) -> str:
    """Return a number on a logarithmic axis."""
    return f"{value:,.0f}" if 1000 <= value < 1e7 else f"{value:.3g}"


def _crowd(count: int) -> float:
    """Return the opacity of each of so many points."""
    return float(np.clip(200 / count, 0.12, 0.7))


def draw_points(axes: Axes, x: NDArray[np.floating], y: NDArray[np.floating]) -> None:
    """Draw each point, more transparent the more there are."""
    size, alpha = 14 if len(x) <= 500 else 7, _crowd(len(x))
    axes.scatter(x, y, s=size, color=BLUE, alpha=alpha, linewidths=0, clip_on=False, zorder=3)


def limits(
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
