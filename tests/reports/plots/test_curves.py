import numpy as np
import pytest

from mtl_lightning.reports.plots.canvas import pixels
from mtl_lightning.reports.plots.curves import by_epoch, curves
from mtl_lightning.runs.facts import Epoch, RunFacts, TaskFacts, Validation
from mtl_lightning.tasks.results import Results

TASKS = {"type": "balanced_accuracy", "size": "r2", "never": "r2"}


def made(tasks: dict[str, str]) -> RunFacts:
    return RunFacts("clothing", "version_3", {n: TaskFacts("Any", p) for n, p in tasks.items()})


def train(epoch: int, step: int, loss=None, score=None, **tasks) -> Epoch:
    return Epoch(epoch, step, 1.0, None, Results("train", tasks, loss, score))


def val(epoch: int, step: int, loss=None, score=None, **tasks) -> Validation:
    return Validation(epoch, step, Results("val", tasks, loss, score))


def trained(count: int, steps: int = 10, tasks: dict[str, str] = TASKS) -> RunFacts:
    facts = made(tasks)
    for epoch in range(count):
        type_ = {"loss": 1.0 + epoch, "balanced_accuracy": 0.5 - 0.1 * epoch}
        own = {"type": type_, "size": {"r2": -40.0}}
        step = (epoch + 1) * steps
        facts.validations.append(val(epoch, step, 2.0 - epoch, 0.1 * epoch, **own))
        facts.epochs.append(train(epoch, step, 3.0, type={"loss": 0.5, "balanced_accuracy": 1}))
    return facts


def lines(axes) -> dict[str, tuple[list[float], list[float]]]:
    return {
        line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines
    }


def test_a_row_of_two_panels_for_all_tasks_together_and_for_each():
    figure = curves(trained(3))
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
    facts = made({})
    facts.validations = [val(0, 5, 1.0), val(0, 10, 2.0), val(1, 15, 3.0)]
    facts.epochs = [train(0, 10, 2.0), train(1, 20, 3.0)]
    found = by_epoch(facts)
    assert found["val"].tolist() == [0.5, 1.0, 1.5]
    assert found["train"].tolist() == [1.0, 2.0]


def test_an_undefined_value_is_a_gap_and_one_epoch_is_a_point():
    facts = trained(3)
    facts.validations[1].results.tasks["type"]["loss"] = float("nan")
    x, y = lines(curves(facts).axes[2])["val"]
    assert x == [1, 2, 3]
    assert np.isnan(y).tolist() == [False, True, False]
    figure = curves(trained(1, tasks={"type": "balanced_accuracy"}))
    assert lines(figure.axes[2])["val"] == ([1], [1.0])
    assert figure.axes[0].lines[0].get_marker() not in ("", None)
    pixels(figure)


@pytest.mark.parametrize(("values", "scale"), [([100, 1], "log"), ([3, 1], "linear")])
def test_a_loss_of_many_sizes_has_a_logarithmic_axis(values, scale):
    facts = made({})
    facts.epochs = [train(i, i + 1, v) for i, v in enumerate(values)]
    facts.validations = [val(i, i + 1, v) for i, v in enumerate(values)]
    axes = curves(facts).axes[0]
    assert axes.get_yscale() == scale
    assert ("logarithmic" in axes.get_title(loc="left")) == (scale == "log")


def test_a_metric_that_began_deep_below_does_not_flatten_the_rest():
    facts = made({"a": "r2"})
    facts.epochs = [train(i, i + 1, a={"r2": v}) for i, v in enumerate([-300, 0.2, 0.8])]
    assert curves(facts).axes[3].get_ylim() == pytest.approx((-1, 0.9))


def test_a_metric_that_stays_0_is_drawn():
    facts = made({"a": "accuracy"})
    facts.epochs = [train(0, 1, a={"accuracy": 0.0})]
    assert lines(curves(facts).axes[3]) == {"train": ([1], [0])}


def test_nothing_at_all_can_be_drawn():
    figure = curves(made({"a": "r2"}))
    assert all(axes.texts[0].get_text() == "no value" for axes in figure.axes)
    pixels(figure)


def test_long_names_leave_room_for_the_best_value():
    name = "n" * 80
    facts = made({name: "balanced_accuracy"})
    facts.validations = [val(0, 1, **{name: {"balanced_accuracy": 0.5}})]
    figure = curves(facts)
    pixels(figure)
    axes = figure.axes[3]
    renderer = figure.canvas.get_renderer()
    left, right = axes._left_title, axes._right_title
    assert left.get_window_extent(renderer).x1 < right.get_window_extent(renderer).x0


def test_some_of_the_tasks_are_drawn_with_a_note():
    figure = curves(trained(2), ["size"])
    assert len(figure.axes) == 4
    texts = [text.get_text() for text in figure.texts]
    assert texts == ["clothing/version_3", "1 of 3 tasks: those with the lowest scores"]
