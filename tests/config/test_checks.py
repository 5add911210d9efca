from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.cli import LRSchedulerCallable, OptimizerCallable

from mtl_lightning.config.checks import (
    annotation,
    check_arguments,
    check_component,
    check_value,
    concrete_subclasses,
    fitting,
    resolve_class,
    type_name,
)
from mtl_lightning.data.sources import Source, TableSource
from mtl_lightning.models.backbones import Backbone
from mtl_lightning.models.preprocessing import Normalize
from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks import Classification, Regression, Task


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
    check_value(hint, value, "key")


@pytest.mark.parametrize(
    ("hint", "value", "said"),
    [
        (int, "abc", 'key: expected an integer. Found "abc"'),
        (int, 1.5, "key: expected an integer. Found 1.5"),
        (int, None, "key: expected an integer. Found null"),
        (float, [1], "key: expected a number. Found [1]"),
        (str, 3, "key: expected text. Found 3"),
        (str, ["a"], "key: expected text. Found ['a']"),
        (bool, "maybe", 'key: expected true or false. Found "maybe"'),
        (list[str] | None, 3, "key: expected [text, ...] or null. Found 3"),
        (dict[str, float], [1], "key: expected {name: a number, ...}. Found [1]"),
        (
            Literal["max", "min"] | None,
            "mix",
            'key: expected max or min or null. Found "mix"; did you mean "min"?',
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
            "key.mean: expected [a number, ...]. Found ['x']",
        ),
        (
            Normalize | Literal["none"],
            [1],
            "key: expected {mean: ..., std: ...} or none. Found [1]",
        ),
        (dict[str, Task], ["digit"], "key: expected entries as `name: ...`. Found ['digit']"),
        (
            dict[str, Task],
            {"a": 3},
            "key.a: expected class_path and init_args. Found 3; class_path may be ",
        ),
    ],
)
def test_what_is_wrong_is_said(hint, value, said):
    assert message(check_value, hint, value, "key").startswith(said)


def test_long_values_are_cut():
    assert len(message(check_value, int, "x" * 1000, "key")) < 120


def test_an_entry_of_a_list_is_named():
    value = ["LearningRateMonitor", {"class_path": "EarlyStoping"}]
    said = message(check_value, list[Callback], value, "trainer.callbacks")
    assert said.startswith('trainer.callbacks[1].class_path: no Callback is called "EarlyStoping"')
    assert 'did you mean "EarlyStopping"?' in said


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (
            {"class_path": "Clasification"},
            'tasks.a.class_path: no Task is called "Clasification"; did you mean "Classification"?',
        ),
        (
            {"class_path": "Classification", "init_args": {"clases": ["a", "b"]}},
            'tasks.a.init_args.clases: Classification has no such argument; did you mean "classes"?'
            "; it has classes, class_weights, label_smoothing, second_answers, weight",
        ),
        (
            {"class_path": "Classification", "weight": 2},
            "tasks.a.weight: arguments stand under init_args, not beside class_path; "
            "write {class_path: Classification, init_args: {weight: ...}}",
        ),
        (
            {"classes": ["a"]},
            "tasks.a: class_path is missing; it may be ",
        ),
        ({"class_path": 3}, "tasks.a.class_path: expected the name of a Task. Found 3"),
        (
            {"class_path": "Classification", "init_args": [1]},
            "tasks.a.init_args: expected arguments as `key: value`. Found [1]",
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
def test_a_component_that_is_wrong(value, said):
    assert message(check_component, (Task,), value, "tasks.a").startswith(said)


def test_an_argument_that_is_needed():
    assert (
        message(check_component, (Source,), "TableSource", "s")
        == "s.init_args: TableSource needs path"
    )


def test_one_s_own_module_that_fails_is_named(tmp_path, monkeypatch):
    (tmp_path / "broken.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(str(tmp_path))
    said = message(resolve_class, "broken.Mine", (Task,), "tasks.a.class_path")
    assert said == 'tasks.a.class_path: cannot import "broken.Mine": division by zero'


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


def test_a_short_name_that_several_classes_have():
    base = type("Base", (), {})
    classes = [type("Flip", (base,), {"__module__": name}) for name in ("one._hidden", "two")]
    said = message(resolve_class, "Flip", (base,), "key")
    assert said == 'key: several are called "Flip", write the whole path: two.Flip, one.Flip'
    assert classes  # classes that nothing refers to are forgotten


def test_abstract_classes_have_no_short_name():
    found = concrete_subclasses([Task])
    assert {"Classification", "Regression"} <= set(found)
    assert "Task" not in found
    assert found["Classification"] == [Classification]


def test_sections_are_called_by_their_key():
    said = message(check_arguments, Trainer, {"max_epoch": 3}, "trainer", owner="trainer")
    assert said.startswith(
        'trainer.max_epoch: trainer has no such argument; did you mean "max_epochs"?'
    )
    assert len(said) < 330


def test_null_is_fine_where_it_is_the_default_and_nowhere_else():
    check_arguments(Trainer, {"plugins": None, "max_epochs": None}, "trainer", ["self"])
    said = message(check_arguments, Regression, {"weight": None}, "a")
    assert said == "a.weight: expected a number. Found null"


def test_type_names():
    assert type_name(int | None) == "an integer or null"
    assert type_name(Literal["a"] | Literal["a", "b"]) == "a or b"
    assert type_name(int | list[int]) == "an integer or [an integer, ...]"


def test_annotations_are_found_below_classes_and_dicts():
    hints = {"sources": dict[str, Source]}
    entry = {"class_path": "TableSource"}
    assert annotation(hints, {}, "sources") == dict[str, Source]
    assert annotation(dict[str, Source], {"a": entry}, "a") is Source
    assert annotation(Source, entry, "init_args") is TableSource
    assert annotation(Source, entry, "image") is str
    assert annotation(TableSource, {}, "image") is str
    assert annotation(Source, {"class_path": "TabelSource"}, "image") is Any
    assert annotation(Source, entry, "nothing") is Any
    assert annotation(Normalize | None, {}, "mean") == list[float]


def test_a_number_is_text_only_where_text_alone_fits():
    assert fitting(str, 1, "1") == "1"
    assert fitting(str | None, None, "null") is None
    assert fitting(str | int, 1, "1") == 1
    assert fitting(int, "x", "x") == "x"
