"""Quality of each of many yes/no labels, best first."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mtl_lightning.reports.plots.canvas import (
    BLUE,
    GREY,
    ORANGE,
    new_figure,
    note,
    plain,
    shortened,
    tidy,
)

DRAWN_UP_TO = 60
NAME = 26  # characters


def labels_chart(
    names: Sequence[str],
    precision: NDArray[np.floating],
    counts: NDArray[np.int64],
    title: str,
    subtitle: str,
) -> Figure:
    """Draw the average precision of each label against chance, and the recall of yes and of no.

    Chance is the share of yes: the average precision of random answers. Labels are sorted by their
    average precision, those without a yes last; if there are more than 60, the lowest are drawn.

    Args:
        names: The L labels.
        precision: ``(L,)`` average precisions, NaN without a yes.
        counts: ``(L, 4)``: TP, FN, TN and FP at a threshold of 0.5; see
            `label_metrics.outcomes`.
        title: The heading.
        subtitle: Small print below it.
    """
    order = np.argsort(-precision, kind="stable")  # NaN last
    known = int((~np.isnan(precision)).sum())
    if len(order) > DRAWN_UP_TO:
        order = order[:known][-DRAWN_UP_TO:] if known >= DRAWN_UP_TO else order[:DRAWN_UP_TO]
        subtitle += f" · the {DRAWN_UP_TO} lowest of {len(names):,} labels"
    found, missed, rejected, alarms = counts[order].T
    yes, no = found + missed, rejected + alarms
    figure = new_figure(9, 1.0 + 0.24 * len(order), title, subtitle)
    left, right = figure.subplots(1, 2, sharey=True)
    for axes in (left, right):
        tidy(axes)
        axes.set(xlim=(-0.02, 1.02), ylim=(len(order) - 0.4, -0.6))
        axes.spines["left"].set_visible(False)
    left.set_yticks(
        range(len(order)),
        [
            f"{plain(shortened(names[i], NAME))} ({y:,} yes of {y + n:,})"
            for i, y, n in zip(order, yes, no, strict=True)
        ],
    )
    left.tick_params(length=0)
    right.tick_params(length=0, labelleft=False)
    for tick, seen in zip(left.get_yticklabels(), yes + no, strict=True):
        tick.set_color("black" if seen else GREY)
    _marks(left, _share(yes, yes + no), "chance: share of yes", GREY, "|")
    _marks(left, precision[order], "average precision", BLUE, "o")
    recalls = _share(found, yes), _share(rejected, no)
    right.hlines(range(len(order)), *recalls, color="0.75", linewidth=1.5, zorder=2)
    _marks(right, recalls[0], "recall of yes", BLUE, "o")
    _marks(right, recalls[1], "recall of no", ORANGE, "D")
    _marks(right, (recalls[0] + recalls[1]) / 2, "their mean (mA)", "0.2", "|")
    for axes in (left, right):
        axes.legend(
            loc="lower left", bbox_to_anchor=(0, 1), frameon=False, fontsize=8.5, ncols=3,
            handletextpad=0.1, columnspacing=1.0, borderaxespad=0.1,
        )  # fmt: skip
    if not (yes + no).any():
        note(left, "nothing is labelled")
    return figure


def _share(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.floating]:
    shares: NDArray[np.floating] = np.full(len(part), np.nan)
    np.divide(part, whole, out=shares, where=whole > 0)
    return shares


def _marks(axes: Axes, values: NDArray[np.floating], what: str, color: str, marker: str) -> None:
    size = 70 if marker == "|" else 26
    axes.scatter(
        values, range(len(values)), s=size, color=color, marker=marker, label=what, clip_on=False,
        zorder=3,
    )  # fmt: skip
