import numpy as np
import pytest

from mtl_lightning.reports.plots.canvas import pixels, spots
from mtl_lightning.reports.plots.scatter import scatter


def points(axes) -> np.ndarray:
    return np.asarray(axes.collections[0].get_offsets())


def test_predictions_and_residuals_stand_over_the_labels():
    labels = np.array([1.0, 2.0, 4.0])
    figure = scatter(np.array([1.5, 2.0, 3.0]), labels, "size", "val · r2 0.5")
    left, middle, right = figure.axes
    assert points(left).tolist() == [[1, 1.5], [2, 2], [4, 3]]
    assert points(middle).tolist() == [[1, 0.5], [2, 0], [4, -1]]
    assert sum(bar.get_width() for bar in right.patches) == 3
    (diagonal,) = left.lines
    assert list(diagonal.get_xdata()) == list(diagonal.get_ydata())
    assert left.get_xlim() == left.get_ylim()
    assert middle.get_ylim() == pytest.approx((-middle.get_ylim()[1], middle.get_ylim()[1]))
    assert [text.get_text() for text in figure.texts] == ["size", "val · r2 0.5"]
    pixels(figure)


def test_what_lies_far_off_is_at_the_edge_and_what_is_not_finite_is_left_out():
    draw = np.random.default_rng(0)
    labels = draw.normal(2003, 9, 300).astype(np.float32)
    answers = labels + draw.normal(0, 2, 300).astype(np.float32)
    answers[:3], answers[3] = np.nan, 1e9
    figure = scatter(answers, labels, "year", "")
    left = figure.axes[0]
    assert len(points(left)) == 297
    assert left.get_ylim()[1] < 2060
    assert points(left)[:, 1].max() == pytest.approx(left.get_ylim()[1])
    small = figure.texts[1].get_text()
    assert small == "3 not finite, not drawn · 1 beyond the axes, drawn at the edge"
    pixels(figure)
    assert all("e" not in t.get_text() and "+" not in t.get_text() for t in left.get_xticklabels())


@pytest.mark.parametrize("rows", [0, 1, 6])
def test_degenerate_splits_are_drawn(rows):
    finite = scatter(np.full(rows, 3.0), np.full(rows, 3.0), "same", "")
    assert pixels(finite).std() > 0
    figure = scatter(np.full(rows, np.nan), np.arange(rows, dtype=float), "diverged", "")
    assert figure.axes[0].texts[0].get_text() == "no finite prediction"
    pixels(figure)


@pytest.mark.parametrize(
    ("first", "step", "name"),
    [
        (1_700_000_000, 1, "- 1,700,000,000"),
        (1e5, 1e-4, "- 100,000"),
        (-7e9, 10, "+ 7,000,000,000"),
    ],
)
def test_large_numbers_keep_their_digits_and_their_axes_stay_readable(first, step, name):
    labels = first + np.arange(40.0) * step
    figure = scatter(labels + step, labels, "time", "")
    left, middle, _ = figure.axes
    assert points(left) == pytest.approx(
        np.stack([np.arange(40), np.arange(40) + 1], 1) * step, abs=step / 50
    )
    assert (left.get_xlabel(), left.get_ylabel()) == (f"label {name}", f"prediction {name}")
    assert middle.get_xlabel() == f"label {name}"
    pixels(figure)
    assert max(len(tick.get_text()) for tick in left.get_xticklabels()) <= 8


def test_a_logarithmic_scatter_has_ratios_and_intervals_are_lines():
    labels, answers = np.array([1.0, 10.0, 1000.0]), np.array([10.0, 10.0, 100.0])
    ends = answers / 2, np.array([20.0, 1e9, np.nan])
    figure = scatter(answers, labels, "price", "", ends, log=True)
    left, middle, _ = figure.axes
    assert points(left) == pytest.approx(np.array([[0, 1], [1, 1], [3, 2]]))
    assert points(middle)[:, 1].tolist() == pytest.approx([1, 0, -1])
    pixels(figure)
    assert "1,000" in [text.get_text() for text in left.get_xticklabels()]
    lines = left.collections[1].get_segments()
    assert lines[0] == pytest.approx(np.array([[0, np.log10(5)], [0, np.log10(20)]]))
    assert lines[1][1, 1] == left.get_ylim()[1], "cut at the edge"


def test_points_far_from_0_have_names_of_their_own():
    labels = 1.7e9 + np.array([0.0, 250.0, 500.0])
    figure = scatter(labels + 1, labels, "seconds", "")
    pixels(figure)
    names = [spot.text for spot in spots(figure)]
    assert names[1] == "label 1700000250, prediction 1700000251"
    assert len(set(names)) == 3
