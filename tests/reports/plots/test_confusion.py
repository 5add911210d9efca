from itertools import pairwise

import numpy as np
import pytest

from mtl_lightning.reports.plots.canvas import pixels
from mtl_lightning.reports.plots.confusion import confusion


def cells(axes) -> dict[tuple[float, float], str]:
    return {
        (text.get_position()[1], text.get_position()[0]): text.get_text() for text in axes.texts
    }


def test_colours_are_shares_of_the_row_and_cells_hold_counts():
    counts = np.array([[6, 2, 0], [0, 0, 0], [1, 0, 12_345]])
    figure = confusion(counts, ["cat", "dog", "eel"], "kind", "test · 8 labelled")
    axes, bar = figure.axes
    shares = np.ma.filled(axes.images[0].get_array(), np.nan)
    assert shares[0] == pytest.approx([0.75, 0.25, 0])
    assert np.isnan(shares[1]).all()  # no label: not 0
    assert cells(axes)[0, 0] == "6\n75%"
    assert cells(axes)[0, 2] == "0"
    assert cells(axes)[2, 2] == "12k\n100%"
    assert len(cells(axes)) == 6
    assert [t.get_text() for t in axes.get_yticklabels()] == ["cat (8)", "dog (0)", "eel (12,346)"]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["cat", "dog", "eel"]
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("label", "answer")
    assert bar.get_ylabel() == "share of the label's images"
    assert [text.get_text() for text in figure.texts] == ["kind", "test · 8 labelled"]


def test_long_names_are_cut_and_nothing_leaves_the_figure():
    names = [f"a class of garment with a long name, no. {i} ($5)" for i in range(14)]
    figure = confusion(np.diag(np.arange(14)), names, "type", "val")
    height, width = pixels(figure).shape[:2]
    axes = figure.axes[0]
    labels = axes.get_xticklabels() + axes.get_yticklabels()
    assert all(len(label.get_text().replace("\\", "")) <= 31 for label in labels)
    renderer = figure.canvas.get_renderer()
    boxes = [label.get_window_extent(renderer) for label in labels]
    assert all(b.x0 >= 0 and b.y0 >= 0 and b.x1 <= width and b.y1 <= height for b in boxes)
    on_the_left = [label.get_window_extent(renderer) for label in axes.get_yticklabels()]
    assert all(a.y0 >= b.y1 for a, b in pairwise(on_the_left))


def test_a_hundred_classes_go_by_number_and_the_mistakes_are_listed():
    counts = np.diag(np.full(100, 5))
    counts[3, 7], counts[90, 2] = 4, 1
    figure = confusion(counts, [f"name {i}" for i in range(100)], "many", "")
    pixels(figure)
    matrix, mistakes = figure.axes[:2]
    assert not matrix.texts
    assert len(matrix.get_xticks()) < 15
    assert "number" in matrix.get_xlabel()
    named = [label.get_text() for label in mistakes.get_yticklabels()]
    assert named == ["name 3 → name 7", "name 90 → name 2"]
    assert [bar.get_width() for bar in mistakes.patches] == [4, 1]
    assert [text.get_text() for text in mistakes.texts] == ["4 of 9", "1 of 6"]


def test_thirty_classes_have_names_and_no_counts():
    figure = confusion(np.eye(30, dtype=int), [f"name {i}" for i in range(30)], "many", "")
    pixels(figure)
    matrix, mistakes = figure.axes[:2]
    assert not matrix.texts
    assert len(matrix.get_xticklabels()) == 30
    assert [text.get_text() for text in mistakes.texts] == ["none"]
