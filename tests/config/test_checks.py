import math
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
from jsonargparse import ArgumentParser
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.cli import LRSchedulerCallable, OptimizerCallable

from mtl_lightning.config import yaml_io
from mtl_lightning.config.checks import (
    check_arguments,
    check_component,
    check_value,
)
from mtl_lightning.data.mirroring.mirror import Mirror
from mtl_lightning.data.sources import Source
from mtl_lightning.models.backbones import Backbone
from mtl_lightning.models.preprocessing import Normalize
from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks import Regression, Task


def message(check: Callable[..., Any], *arguments: Any, **named: Any) -> str:
    with pytest.raises(UserError) as error:
        check(*arguments, **named)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (int, 3),
        (float, 3),
        (float | None, None),
        (str, "3"),
        (Literal["max", "min"], "min"),
        (list[str] | None, ["a"]),
        (dict[str, float], {"a": 1}),
        (str | Path, "x"),
        (Normalize | Literal["none"], {"mean": [1, 2, 3], "std": [1, 1, 1]}),
        (Backbone | None, None),
        (Backbone | None, "VGG16"),
        (Callback | list[Callback] | None, [{"class_path": "LearningRateMonitor"}]),
        (Callback | list[Callback] | None, "LearningRateMonitor"),
        (OptimizerCallable, "torch.optim.SGD"),
        (LRSchedulerCallable | None, {"class_path": "StepLR", "init_args": {"step_size": 3}}),
        (LRSchedulerCallable, {"class_path": "MultiStepLR", "init_args": {"milestones": [1]}}),
        (Any, [object]),
        (bool, "no"),
    ],
)
def test_what_is_right_passes(hint, value):
    assert check_value(hint, value, "key") == value


@pytest.mark.parametrize(
    ("hint", "value", "expected"),
    [
        (int, "abc", 'key should be an integer. Found "abc"'),
        (int, 1.5, "key should be an integer. Found 1.5"),
        (int, None, "key should be an integer. Found null"),
        (float, [1], "key should be a number. Found [1]"),
        (str, 3, "key should be text. Found 3"),
        (str, ["a"], "key should be text. Found ['a']"),
        (bool, "maybe", 'key should be true or false. Found "maybe"'),
        (list[str] | None, 3, "key should be [text, ...] or null. Found 3"),
        (dict[str, float], [1], "key should be {name: a number, ...}. Found [1]"),
        (
            Literal["max", "min"] | None,
            "mix",
            'key should be max or min or null. Found "mix"; did you mean "min"?',
        ),
        (
            Normalize | Literal["none"],
            {"mean": [1]},
            "key: Normalize needs std",
        ),
        (
            Normalize | Literal["none"],
            {"meen": [1], "std": [1]},
            'key.meen: Normalize has no such argument; did you mean "mean"?; it has mean, std',
        ),
        (
            Normalize | Literal["none"],
            {"mean": ["x"], "std": [1]},
            "key.mean should be [a number, ...]. Found ['x']",
        ),
        (
            Normalize | Literal["none"],
            [1],
            "key should be {mean: ..., std: ...} or none. Found [1]",
        ),
        (dict[str, Task], ["digit"], "key should be entries as `name: ...`. Found ['digit']"),
        (
            dict[str, Task],
            {"a": 3},
            "key.a should be class_path and init_args. Found 3; class_path may be ",
        ),
    ],
)
def test_what_is_wrong_is_named(hint, value, expected):
    assert message(check_value, hint, value, "key").startswith(expected)


def test_long_values_are_cut():
    assert len(message(check_value, int, "x" * 1000, "key")) < 120


def test_an_entry_of_a_list_is_named():
    value = ["LearningRateMonitor", {"class_path": "EarlyStoping"}]
    found = message(check_value, list[Callback], value, "trainer.callbacks")
    assert found.startswith('trainer.callbacks[1].class_path: no Callback is called "EarlyStoping"')
    assert 'did you mean "EarlyStopping"?' in found


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (
            {"class_path": "Clasification"},
            'tasks.a.class_path: no Task is called "Clasification"; did you mean "Classification"?',
        ),
        (
            {"class_path": "Classification", "init_args": {"clases": ["a", "b"]}},
            'tasks.a.init_args.clases: Classification has no such argument; did you mean "classes"?'
            "; it has classes, class_weights, label_smoothing, second_answers, beta, "
            "focal_gamma, logit_adjustment, top_k, annotators, weight, head",
        ),
        (
            {"class_path": "Classification", "weight": 2},
            "tasks.a.weight: arguments belong under init_args, not next to class_path; "
            "write {class_path: Classification, init_args: {weight: ...}}",
        ),
        (
            {"classes": ["a"]},
            "tasks.a: class_path is missing; it may be ",
        ),
        ({"class_path": 3}, "tasks.a.class_path should be the name of a Task. Found 3"),
        (
            {"class_path": "Classification", "init_args": [1]},
            "tasks.a.init_args should be arguments as `key: value`. Found [1]",
        ),
        (
            {"class_path": "torch.nn.Linear"},
            'tasks.a.class_path: "torch.nn.Linear" is not a Task',
        ),
        (
            {"class_path": "nowhere.Classification"},
            'tasks.a.class_path: cannot import "nowhere.Classification": '
            "No module named 'nowhere'; did you mean \"Classification\"?",
        ),
    ],
)
def test_a_component_that_is_wrong(value, expected):
    assert message(check_component, (Task,), value, "tasks.a").startswith(expected)


def test_an_argument_that_is_needed():
    assert (
        message(check_component, (Source,), "TableSource", "s")
        == "s.init_args: TableSource needs path"
    )


def test_one_s_own_class_is_found_by_its_path(tmp_path, monkeypatch):
    (tmp_path / "own_tasks.py").write_text(
        "from mtl_lightning.tasks import Regression\n"
        "class Logarithmic(Regression):\n"
        "    def __init__(self, base: int = 10) -> None:\n"
        "        super().__init__()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    value = {"class_path": "own_tasks.Logarithmic", "init_args": {"base": 2}}
    check_component((Task,), value, "tasks.a")
    value["init_args"] = {"bse": 2}
    assert 'did you mean "base"' in message(check_component, (Task,), value, "tasks.a")


def test_sections_are_called_by_their_key():
    found = message(check_arguments, Trainer, {"max_epoch": 3}, "trainer", owner="trainer")
    assert found.startswith(
        'trainer.max_epoch: trainer has no such argument; did you mean "max_epochs"?'
    )
    assert len(found) < 330


def test_null_is_fine_where_it_is_the_default_and_nowhere_else():
    check_arguments(Trainer, {"plugins": None, "max_epochs": None}, "trainer", ["self"])
    found = message(check_arguments, Regression, {"weight": None}, "a")
    assert found == "a.weight should be a number. Found null"


# --------------------------------------------------------------------- scalars

MIRROR = {"swap": {"digit": {"6": "9"}}, "probability": 1}
CLASSES = {"class_path": "Classification", "init_args": {"classes": ["0", "no"], "weight": 2}}
STOPPING = {"class_path": "EarlyStopping", "init_args": {"monitor": "5", "patience": 5}}


@pytest.mark.parametrize(
    ("hint", "written", "meant"),
    [
        (str, "1", "1"),
        (str, "1e3", "1e3"),
        (str, "1.0", "1.0"),
        (str, "true", "true"),
        (str, "no", "no"),
        (str | None, "null", None),
        (str | int, "1", 1),
        (str | os.PathLike[str], "2024", "2024"),
        (os.PathLike[str], "2024", "2024"),
        (int, "3", 3),
        (float, "1e-3", 1e-3),
        (Any, "[1, null, {a: 1.5}]", [1, None, {"a": 1.5}]),
        (dict, "{a: [1]}", {"a": [1]}),
        (list[str], "[0, 1.0, 1e3, no, ~, 'x', 1_0]", ["0", "1.0", "1e3", "no", "~", "x", "1_0"]),
        (list[str] | None, "[null]", ["null"]),
        (Collection[str], "[1]", ["1"]),
        (tuple[int, ...] | str, "[1, 2]", [1, 2]),
        (Sequence[float | str], "[1, true]", [1, "true"]),
        (dict[str, str | None], "{m: 1, f: true, x: null}", {"m": "1", "f": "true", "x": None}),
        (Mapping[str, str | Mapping[str, str]], "{a: 1, b: {c: 2}}", {"a": "1", "b": {"c": "2"}}),
        (Mirror | None, "{swap: {digit: {6: 9}}, probability: 1}", MIRROR),
        (
            dict[str, Task],
            "{a: {class_path: Classification, init_args: {classes: [0, no], weight: 2}}}",
            {"a": CLASSES},
        ),
        (Task, "Regression", "Regression"),
        (Task, "{class_path: Regression, init_args: null}", {"class_path": "Regression"}),
        (
            list[Callback],
            "[{class_path: EarlyStopping, init_args: {monitor: 5, patience: 5}}]",
            [STOPPING],
        ),
        (
            OptimizerCallable,
            "{class_path: SGD, init_args: {lr: 1e-3}}",
            {"class_path": "SGD", "init_args": {"lr": 1e-3}},
        ),
    ],
)
def test_a_number_is_text_only_where_text_alone_fits(hint, written, meant):
    found = check_value(hint, yaml_io.parse(written), "key")
    assert found == meant
    assert str(found) == str(meant), "1, 1.0 and true are equal"


def test_a_scalar_that_does_not_fit_is_an_error():
    assert message(check_value, int, yaml_io.parse("1.5"), "a") == (
        "a should be an integer. Found 1.5"
    )
    assert message(check_value, list[int], yaml_io.parse("[1, 0.5]"), "a") == (
        "a should be [an integer, ...]. Found [1, 0.5]"
    )
    assert message(check_value, Task, yaml_io.parse("{class_path: 5}"), "a") == (
        "a.class_path should be the name of a Task. Found 5"
    )


def test_an_argument_without_an_annotation_is_what_yaml_says():
    def target(a, b=1):
        return a, b

    given = yaml_io.parse("{a: [1, x], b: 2.5}")
    assert check_arguments(target, given, "target") == {"a": [1, "x"], "b": 2.5}


@pytest.mark.parametrize(
    "value", ["", "1", "null", "a: b", "[1]", 1, -1, 1.5, math.inf, True, None]
)
def test_a_value_of_the_very_type_passes_as_with_jsonargparse(value):
    for hint in (type(value), type(value) | None, int | str | bool | float | None):
        if hint is type(None):
            continue
        parser = ArgumentParser(exit_on_error=False)
        parser.add_argument("--value", type=hint)
        parser.parse_object({"value": value})
        passed = check_value(hint, value, "here")
        assert (type(passed), passed) == (type(value), value)
