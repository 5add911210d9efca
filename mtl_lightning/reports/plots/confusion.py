"""A confusion matrix that is legible with two classes and with hundreds."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from mtl_lightning.reports.plots.canvas import (
    BLUE,
    GREY,
    name_spot,
    new_figure,
    note,
    plain,
    shortened,
    tidy,
)

COUNTS_UP_TO, SHARES_UP_TO, NAMES_UP_TO = 20, 8, 40
"""Numbers of classes up to which cells show counts, cells show shares, and rows have names."""
MISTAKES = 15
NAMED_CELLS = 1000
"""The most cells that are named when they are pointed at."""
NAME, SHORT_NAME = 26, 16  # characters


def confusion(
    counts: NDArray[np.int64], classes: Sequence[str], title: str, subtitle: str
) -> Figure:
    """Draw how often each class was answered for each label; colours are shares of the row.

    Above 20 classes, the cells hold no numbers and the most frequent mistakes are listed instead;
    above 40, rows and columns are numbered, in the order of the classes.

    Args:
        counts: ``(K, K)``, a row for each label, a column for each answer.
        classes: K names.
        title: The heading.
        subtitle: Small print below it.
    """
    k = len(classes)
    names = [shortened(name, NAME) for name in classes]
    side = _side(k)
    # Room for the longest name at 8 points, and the count after it.
    margin = 0.9 if k > NAMES_UP_TO else 0.8 + 0.068 * max(map(len, names))
    listed = 4.4 if k > COUNTS_UP_TO else 0
    below = 0.5
    if k <= NAMES_UP_TO and not _fits(names, side / k):
        below = 0.4 + (margin - 0.8) * (1 if _steep(side / k) else 0.75)
    figure = new_figure(side + margin + 1.0 + listed, side + below, title, subtitle)
    if listed:
        grid = figure.add_gridspec(1, 2, width_ratios=[side + 0.6, 1.7], wspace=0.05)
        axes = figure.add_subplot(grid[0])
        _list_mistakes(figure.add_subplot(grid[1]), counts, classes)
    else:
        axes = figure.add_subplot()
    rows = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, rows, out=np.full(counts.shape, np.nan), where=rows > 0)
    blues = mpl.colormaps["Blues"].with_extremes(bad="0.93")
    image = axes.imshow(shares, cmap=blues, vmin=0, vmax=1)
    axes.set_anchor("N")
    bar = figure.colorbar(image, ax=axes, aspect=30, pad=0.02, format=PercentFormatter(1))
    bar.set_label("share of the label's images", size=8.5)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8, color="0.6")
    _name_sides(axes, names, rows[:, 0], side / k)
    if k <= COUNTS_UP_TO:
        _fill_cells(axes, counts, shares)
    for cell in np.argsort(-counts, axis=None, kind="stable")[:NAMED_CELLS].tolist():
        row, column = divmod(cell, k)
        if counts[row, column]:
            share = f"{counts[row, column]:,} of {rows[row, 0]:,}"
            text = f"{classes[row]} → {classes[column]}: {share}"
            name_spot(axes, (column - 0.5, row - 0.5), text, 1, 1)
    return figure


def _side(k: int) -> float:
    """Return the side of the matrix in inches."""
    if k <= COUNTS_UP_TO:
        return max(2.8, k * (0.6 if k <= SHARES_UP_TO else 0.42))
    return max(6.0, k * 0.19) if k <= NAMES_UP_TO else 7.0


def _fits(names: Sequence[str], cell: float) -> bool:
    return max(map(len, names)) * 0.075 < cell * 0.95


def _steep(cell: float) -> bool:
    return cell < 0.3


def _name_sides(axes: Axes, names: Sequence[str], rows: NDArray[np.int64], cell: float) -> None:
    axes.spines[:].set_visible(False)
    axes.set_ylabel("label", size=9)
    axes.set_xlabel("answer", size=9)
    k = len(names)
    if k > NAMES_UP_TO:
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(10, integer=True))
        axes.tick_params(labelsize=8, color="0.6")
        axes.set_ylabel("label (number of the class, from 0)", size=9)
        axes.set_xlabel("answer (number of the class, from 0)", size=9)
        return
    size = 8 if k <= COUNTS_UP_TO else 7
    shown = [plain(name) for name in names]
    counted = [f"{name} ({n:,})" for name, n in zip(shown, rows, strict=True)]
    axes.set_yticks(range(k), counted, size=size)
    if _fits(names, cell):
        axes.set_xticks(range(k), shown, size=size)
    else:
        axes.set_xticks(range(k), shown, size=size)
        steep = _steep(cell)
        for label in axes.get_xticklabels():
            label.set(rotation=90 if steep else 45, rotation_mode="anchor", ha="right")
            label.set(va="center" if steep else "top")
    axes.tick_params(length=0)
    axes.set_yticks(np.arange(k + 1) - 0.5, minor=True)
    axes.set_xticks(np.arange(k + 1) - 0.5, minor=True)
    axes.tick_params(which="minor", length=0)
    axes.grid(which="minor", color="0.85", linewidth=0.7)
    for label, n in zip(axes.get_yticklabels(), rows, strict=True):
        label.set_color("black" if n else GREY)


def _fill_cells(axes: Axes, counts: NDArray[np.int64], shares: NDArray[np.floating]) -> None:
    with_shares = len(counts) <= SHARES_UP_TO
    for (row, column), count in np.ndenumerate(counts):
        share = shares[row, column]
        if np.isnan(share):
            continue
        text = _short(int(count)) + (f"\n{share:.0%}" if with_shares and count else "")
        color = "0.7" if not count else "white" if share > 0.55 else "0.15"
        size = 8.5 if with_shares else 7.5
        axes.text(column, row, text, ha="center", va="center", size=size, color=color)


def _short(count: int) -> str:
    """Return the count in at most five characters."""
    for factor, unit in ((1_000_000, "M"), (1_000, "k")):
        if count >= 10 * factor:
            return f"{count / factor:.0f}{unit}"
    return f"{count:,}"


def _list_mistakes(axes: Axes, counts: NDArray[np.int64], classes: Sequence[str]) -> None:
    """Draw a bar for each of the most frequent pairs of label and wrong answer."""
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    largest = np.argsort(-wrong, axis=None, kind="stable")[:MISTAKES]
    pairs = [divmod(int(i), len(classes)) for i in largest if wrong.flat[i]]
    axes.set_title("most frequent mistakes: label → answer", size=9, loc="right")
    tidy(axes)
    axes.grid(visible=False)
    axes.set_ylim(MISTAKES - 0.4, -0.6)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    if not pairs:
        axes.set_yticks([])
        note(axes, "none")
        return
    axes.set_yticks(
        range(len(pairs)),
        [plain(" → ".join(shortened(classes[i], SHORT_NAME) for i in pair)) for pair in pairs],
        size=8,
    )
    bars = axes.barh(range(len(pairs)), [wrong[pair] for pair in pairs], color=BLUE, height=0.6)
    labels = [f"{wrong[pair]:,} of {counts[pair[0]].sum():,}" for pair in pairs]
    axes.bar_label(bars, labels, padding=3, size=8)
    axes.set_xlim(0, max(wrong[pair] for pair in pairs) * 1.6)
