import numpy as np
import pandas as pd
import pytest

from mtl_lightning.reports.plots.canvas import pixels
from mtl_lightning.reports.plots.curves import by_epoch, curves


def history(rows: list[dict]) -> pd.DataFrame:
    return pd.DataFrame(rows)


def epochs(count: int, steps: int = 10) -> list[dict]:
    rows = []
    for epoch in range(count):
        at = {"epoch": epoch, "step": (epoch + 1) * steps - 1}
        rows.append({"epoch": epoch, "step": epoch * steps + 4, "train/loss_step": 99.0})
        rows.append(
            at
            | {"val/loss": 2.0 - epoch, "val/score": 0.1 * epoch, "val/type/loss": 1.0 + epoch}
            | {"val/type/balanced_accuracy": 0.5 - 0.1 * epoch, "val/size/r2": -40.0}
        )
        rows.append(
            at | {"train/loss": 3.0, "train/type/loss": 0.5, "train/type/balanced_accuracy": 1}
        )
    return rows


TASKS = {"type": "balanced_accuracy", "size": "r2", "never": "r2"}


def lines(axes) -> dict[str, tuple[list[float], list[float]]]:
    return {
        line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines
    }


def test_a_row_of_two_panels_for_all_tasks_together_and_for_each():
    figure = curves(history(epochs(3)), TASKS, "clothing/version_3")
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "all tasks: loss",
        "all tasks: score",
        "type: loss",
        "type: balanced accuracy",
        "size: loss",
        "size: r2",
        "never: loss",
        "never: r2",
    ]
    assert figure.texts[0].get_text() == "clothing/version_3"
    legend = figure.legends[0]
    assert [text.get_text() for text in legend.get_texts()] == ["train", "val"]
    type_loss, accuracy, size_loss, r2 = figure.axes[2:6]
    drawn = lines(type_loss)
    assert drawn["val"] == ([1, 2, 3], [1, 2, 3])
    assert drawn["train"] == ([1, 2, 3], [0.5, 0.5, 0.5])
    assert lines(accuracy)["_best"] == ([1], [0.5])
    assert accuracy.get_title(loc="right") == "best 0.500 after 1"
    assert [text.get_text() for text in size_loss.texts] == ["no value"]
    assert r2.get_ylim()[0] < -40  # all of it lies deep: nothing is cut
    assert pixels(figure).shape[0] > 900


def test_a_validation_within_an_epoch_lies_between_the_epochs():
    rows = [
        {"epoch": 0, "step": 4, "val/loss": 1.0},
        {"epoch": 0, "step": 9, "val/loss": 2.0},
        {"epoch": 0, "step": 9, "train/loss": 2.0},
        {"epoch": 1, "step": 14, "val/loss": 3.0},
        {"epoch": 1, "step": 19, "train/loss": 3.0},
    ]
    found = by_epoch(history(rows))
    assert list(found["val"].index) == [0.5, 1.0, 1.5]
    assert list(found["train"].index) == [1.0, 2.0]


def test_a_resumed_run_replaces_what_it_measured_again():
    first, again = epochs(4), epochs(3)[6:]  # went on after epoch 1, for one epoch
    for row in again:
        row |= {name: 7.0 for name in row if "/" in name}
    found = by_epoch(history(first + again))
    assert list(found["val"].index) == [1, 2, 3]
    assert list(found["val"]["val/loss"]) == [2.0, 1.0, 7.0]
    assert list(found["train"]["train/loss"]) == [3.0, 3.0, 7.0]


def test_an_epoch_that_was_cut_and_resumed_counts_once():
    rows = [
        {"epoch": 0, "step": 9, "train/loss": 3.0},
        {"epoch": 1, "step": 12, "train/loss": 2.9},
        {"epoch": 1, "step": 19, "train/loss": 2.0},
        {"epoch": 1, "step": 19, "val/loss": 5.0},
    ]
    found = by_epoch(history(rows))
    assert list(found["train"].index) == [1, 2]
    assert list(found["val"].index) == [2]


def test_an_undefined_value_is_a_gap_and_one_epoch_is_a_point():
    rows = epochs(3)
    rows[4]["val/type/loss"] = float("nan")
    x, y = lines(curves(history(rows), TASKS, "t").axes[2])["val"]
    assert x == [1, 2, 3]
    assert np.isnan(y).tolist() == [False, True, False]
    figure = curves(history(epochs(1)), {"type": "balanced_accuracy"}, "t")
    assert lines(figure.axes[2])["val"] == ([1], [1.0])
    assert figure.axes[0].lines[0].get_marker() not in ("", None)
    pixels(figure)


@pytest.mark.parametrize(("values", "scale"), [([100, 1], "log"), ([3, 1], "linear")])
def test_a_loss_of_many_sizes_has_a_logarithmic_axis(values, scale):
    rows = [{"epoch": i, "step": i, "train/loss": v, "val/loss": v} for i, v in enumerate(values)]
    axes = curves(history(rows), {}, "t").axes[0]
    assert axes.get_yscale() == scale
    assert ("logarithmic" in axes.get_title(loc="left")) == (scale == "log")


def test_a_metric_that_began_deep_below_does_not_flatten_the_rest():
    rows = [{"epoch": i, "step": i, "train/a/r2": v} for i, v in enumerate([-300, 0.2, 0.8])]
    axes = curves(history(rows), {"a": "r2"}, "t").axes[3]
    assert axes.get_ylim() == pytest.approx((-1, 0.9))


def test_nothing_at_all_can_be_drawn():
    figure = curves(history([{"epoch": 0, "step": 3, "lr": 0.1}]), {"a": "r2"}, "t")
    assert all(axes.texts[0].get_text() == "no value" for axes in figure.axes)
    pixels(figure)


def test_long_names_leave_room_for_the_best_value():
    rows = [{"epoch": 0, "step": 0, f"val/{'n' * 80}/balanced_accuracy": 0.5}]
    figure = curves(history(rows), {"n" * 80: "balanced_accuracy"}, "t")
    pixels(figure)
    axes = figure.axes[3]
    renderer = figure.canvas.get_renderer()
    left, right = axes._left_title, axes._right_title
    assert left.get_window_extent(renderer).x1 < right.get_window_extent(renderer).x0
