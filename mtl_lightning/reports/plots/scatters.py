"""Predictions against labels of several numbers."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mtl_lightning.reports.plots.canvas import ORANGE, new_figure, note, plain, shortened, tidy
from mtl_lightning.reports.plots.scatter import draw_points, drawn, limits, readable

DRAWN_UP_TO = 12
ACROSS = 4


def scatters(
    outputs: Sequence[str],
    predictions: NDArray[np.floating],
    labels: NDArray[np.floating],
    title: str,
    subtitle: str,
    log: bool = False,
) -> Figure:
    """Draw predictions of each number against its labels, with the diagonal.

    Rows without a label of a number are not in its panel. Of more than 12 numbers, those with the
    largest errors relative to the spread of their labels are drawn.

    Args:
        outputs: The names of the L numbers.
        predictions: ``(n, L)`` in the label's unit, NaN where there is no label.
        labels: ``(n, L)``, likewise.
        title: The heading.
        subtitle: Small print below it.
        log: Draw numbers above 0 on logarithmic axes.
    """
    order = list(range(len(outputs)))
    if len(order) > DRAWN_UP_TO:
        errors = [_relative_error(predictions[:, i], labels[:, i]) for i in order]
        order = sorted(sorted(order, key=lambda i: -errors[i])[:DRAWN_UP_TO])
        subtitle += f" · the {DRAWN_UP_TO} least accurate of {len(outputs)}"
    across = min(ACROSS, len(order))
    down = math.ceil(len(order) / across)
    figure = new_figure(max(2.6 * across, 5.0), 2.7 * down, title, subtitle)
    panels = list(figure.subplots(down, across, squeeze=False).flat)
    for axes in panels:
        axes.set_visible(False)
    for axes, i in zip(panels, order, strict=False):
        axes.set_visible(True)
        tidy(axes)
        axes.set_title(plain(shortened(outputs[i], 26)), size=9)
        axes.set_xlabel("label", size=8.5)
        axes.set_ylabel("prediction", size=8.5)
        known = np.isfinite(predictions[:, i]) & np.isfinite(labels[:, i])
        if not known.any():
            note(axes, "no label")
            continue
        truth, answers = (drawn(each[known, i], log) for each in (labels, predictions))
        low, high = limits(answers, including=truth)
        axes.set(xlim=(low, high), ylim=(low, high))
        axes.set_aspect("equal", adjustable="box")
        if log:
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_formatter(lambda power, _: readable(10**power))
        axes.plot([low, high], [low, high], color=ORANGE, linewidth=1.2)
        draw_points(axes, truth, np.clip(answers, low, high))
    return figure


def _relative_error(predictions: NDArray[np.floating], labels: NDArray[np.floating]) -> float:
    known = np.isfinite(predictions) & np.isfinite(labels)
    if not known.any():
        return -1.0
    spread = float(labels[known].std()) or 1.0
    return float(np.abs(predictions[known] - labels[known]).mean()) / spread
