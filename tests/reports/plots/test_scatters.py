import numpy as np
import pytest

from mtl_lightning.reports.plots.canvas import pixels
from mtl_lightning.reports.plots.scatters import DRAWN_UP_TO, scatters


def test_each_number_has_a_panel_of_its_labels():
    labels = np.array([[1.0, np.nan, np.nan], [2.0, 30.0, np.nan]])
    figure = scatters(["x", "y", "z"], labels + 1, labels, "box", "val")
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title() for axes in shown] == ["x", "y", "z"]
    assert [len(axes.collections[0].get_offsets()) for axes in shown[:2]] == [2, 1]
    assert shown[2].texts[0].get_text() == "no label"
    assert pixels(figure).std() > 0


def test_of_many_numbers_the_least_accurate_are_drawn():
    draw = np.random.default_rng(0)
    labels = draw.lognormal(3, 1, (50, DRAWN_UP_TO + 2))
    predictions = labels * 1.5
    predictions[:, [0, 5]] = labels[:, [0, 5]]
    names = [f"n{i}" for i in range(DRAWN_UP_TO + 2)]
    figure = scatters(names, predictions, labels, "many", "val", log=True)
    shown = [axes.get_title() for axes in figure.axes if axes.get_visible()]
    assert shown == [name for name in names if name not in ("n0", "n5")]
    assert "the 12 least accurate of 14" in figure.texts[1].get_text()
    left = np.asarray(figure.axes[0].collections[0].get_offsets())
    assert left[:, 0] == pytest.approx(np.log10(labels[:, 1]))
    pixels(figure)
