"""Images with their labels and answers, of tasks with a label for each pixel."""

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from mtl_lightning.reports.plots.canvas import new_figure, plain, shortened
from mtl_lightning.tasks.map_examples import MapExamples, palette_of

IN_A_ROW = 2
NO_LABEL = np.array([225, 225, 225], dtype=np.uint8)
MOST_NAMES = 20
"""Number of classes that the legend names."""


def maps(record: MapExamples, title: str, subtitle: str) -> Figure:
    """Draw image, label and answer of each example side by side, two examples in a row.

    Pixels without a label are light grey.

    Args:
        record: The examples.
        title: The heading.
        subtitle: Small print below it.
    """
    count = max(len(record.images), 1)
    columns = min(count, IN_A_ROW)
    rows = -(-count // columns)
    height = record.images[0].shape[0] / record.images[0].shape[1] if record.images else 1.0
    side = 1.7
    figure = new_figure(side * 3 * columns + 0.9, rows * side * height + 0.7, title, subtitle)
    grid = figure.subplots(rows, 3 * columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for number, pictures in enumerate(
        zip(record.images, record.labels, record.answers, strict=True)
    ):
        row, column = divmod(number, columns)
        for place, (name, values) in enumerate(
            zip(("image", "label", "answer"), pictures, strict=True)
        ):
            axes = grid[row][3 * column + place]
            axes.imshow(values if place == 0 else coloured(values, record.classes))
            if row == 0:
                axes.set_title(name, size=9)
    if record.classes:
        _legend(figure, record.classes)
    elif record.images and record.labels[0].ndim == 2:
        scale = ScalarMappable(Normalize(record.low, record.high), colormaps["viridis"])
        bar = figure.colorbar(scale, ax=list(grid.flat), fraction=0.03, pad=0.01)
        bar.set_label(plain(record.unit), size=9)
        bar.ax.tick_params(labelsize=8)
    return figure


def coloured(values: NDArray[np.uint8], classes: list[str]) -> NDArray[np.uint8]:
    """Return ``(h, w, 3)`` colours of a label or an answer, see `MapExamples`."""
    if values.ndim == 3:
        return np.where((values == 0).all(-1, keepdims=True), NO_LABEL, values)
    colours = np.empty((256, 3), dtype=np.uint8)
    if classes:
        colours[1 : len(classes) + 1] = palette_of(len(classes))
    else:
        shades = colormaps["viridis"](np.linspace(0, 1, 255))[:, :3]
        colours[1:] = np.rint(255 * np.asarray(shades)).astype(np.uint8)
    colours[0] = NO_LABEL
    return colours[values]


def _legend(figure: Figure, classes: list[str]) -> None:
    names = classes[:MOST_NAMES]
    patches = [
        Patch(color=colour / 255, label=plain(shortened(name, 24)))
        for name, colour in zip(names, palette_of(len(names)), strict=True)
    ]
    if len(classes) > len(names):
        patches.append(Patch(color="white", label=f"and {len(classes) - len(names)} more"))
    figure.legend(
        handles=patches,
        loc="outside lower left",
        ncols=6,
        frameon=False,
        fontsize=8.5,
        handlelength=1,
        handleheight=1,
    )
