import numpy as np
import pytest

from mtl_lightning.reports.plots import canvas, confusion, curves, reliability, scatter
from mtl_lightning.reports.plots.canvas import SPOT, name_spot, new_figure, pixels, spots
from mtl_lightning.reports.plots.drawing import draw
from mtl_lightning.tasks.plot_records import ConfusionCounts, ScatterSample
from mtl_lightning.tasks.reliability import ReliabilityBins
from tests.reports.test_run_page import made


def test_a_spot_is_where_it_is_drawn():
    figure = new_figure(4, 3, "title")
    axes = figure.subplots()
    axes.imshow(np.array([[0.0, 1.0], [0.0, 0.0]]), cmap="gray", vmin=0, vmax=1)
    name_spot(axes, (0.5, -0.5), "white", 1, 1)
    name_spot(axes, (0, 1), "point")
    name_spot(axes, (0, 99), "beyond")
    drawn = pixels(figure)
    white, point, beyond = spots(figure)
    assert white.text == "white"
    inside = drawn[
        white.top + 2 : white.top + white.height - 2, white.left + 2 : white.left + white.width - 2
    ]
    assert inside.size
    assert (inside == 255).all()
    around = drawn[white.top + white.height + 3, white.left + 3]
    assert (around == 0).all()
    assert (point.width, point.height) == (2 * SPOT, 2 * SPOT)
    assert (drawn[point.top + SPOT, point.left + SPOT] == 0).all()
    assert 0 <= beyond.top < drawn.shape[0]


RECORDS = [
    ConfusionCounts(["a", "b"], np.array([[3, 1], [0, 5]])),
    ScatterSample(np.arange(400.0), np.arange(400.0) + 1, 400),
    ReliabilityBins(np.full((2, 15), 4), np.full((2, 15), 2), np.full((2, 15), 2.0)),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_names_change_no_pixel(monkeypatch, record):
    figure = draw(record, "title", "")
    with_names = pixels(figure)
    assert spots(figure)
    for module in (confusion, scatter, reliability):
        monkeypatch.setattr(module, "name_spot", lambda *_: None)
    figure = draw(record, "title", "")
    np.testing.assert_array_equal(pixels(figure), with_names)
    assert spots(figure) == []


def test_cells_points_and_epochs_have_their_values():
    cells, points, bins = (named(draw(record, "title", "")) for record in RECORDS)
    assert cells == ["b → b: 5 of 5", "a → a: 3 of 4", "a → b: 1 of 4"]
    assert len(points) == scatter.NAMED_POINTS
    assert points[0] == "label 1, prediction 0"
    assert bins[0] == "calibrated: 50.0% right at 50.0%, 4 answers"
    epochs = named(curves.curves(made()))
    assert "val 0.6 after 2 epochs" in epochs
    assert "train 0.5 after 1 epochs" in epochs


def named(figure):
    canvas.pixels(figure)
    return [spot.text for spot in spots(figure)]
