import re
from pathlib import Path
from typing import Any

import pytest

from mtl_lightning.commands.prepare import prepare
from mtl_lightning.runs.checkpoint_reading import saved_config
from mtl_lightning.tasks import Regression
from tests.conftest import DROP, small
from tests.helpers.training import refused

DIGITS = [str(digit) for digit in range(10)]


@pytest.fixture
def checkpoint(trained) -> list[str]:
    return ["--ckpt_path", str(trained)]


def test_a_checkpoint_says_everything_of_the_model_and_the_data(checkpoint):
    prepared = prepare("test", checkpoint)
    assert prepared.config["tasks"]["digit"]["init_args"]["classes"] == DIGITS
    assert prepared.config["model"]["backbone"]["init_args"]["name"] == "squeezenet1_1"
    assert prepared.config["model"]["optimizer"]["init_args"]["weight_decay"] == 0
    assert prepared.config["data"]["image_size"] == 32
    assert list(prepared.config["data"]["sources"]) == ["digits"]
    assert (prepared.name, prepared.checkpoint) == ("small", Path(checkpoint[1]))


def test_flags_beat_the_config_beats_the_checkpoint(checkpoint):
    config = small({"data": {"batch_size": 5, "num_workers": 1}, "model": DROP, "tasks": DROP})
    prepared = prepare("test", [*checkpoint, "--config", config, "--data.batch_size", "6"])
    assert prepared.config["data"]["batch_size"] == 6
    assert prepared.config["data"]["num_workers"] == 1
    assert prepared.config["data"]["image_size"] == 32


def test_flags_reach_what_only_the_checkpoint_knows(checkpoint):
    prepared = prepare("test", [*checkpoint, "--data.sources.digits.seed", "5"])
    assert prepared.config["data"]["sources"]["digits"]["init_args"]["seed"] == 5


def test_sources_of_the_config_replace_those_of_the_checkpoint(checkpoint):
    config = small({"data.sources": {"new": "DigitsSource"}})
    prepared = prepare("test", [*checkpoint, "--config", config])
    assert list(prepared.config["data"]["sources"]) == ["new"]


def test_prediction_needs_no_source(checkpoint):
    prepared = prepare("predict", [*checkpoint, "--config", small()])
    assert "sources" not in prepared.config["data"]


@pytest.mark.parametrize(
    "entry",
    [
        "Classification",
        "mtl_lightning.tasks.Classification",
        {"class_path": "Classification", "init_args": {"classes": None}},
        {"class_path": "Classification", "init_args": {"classes": list(range(10))}},
        {"class_path": "Classification", "init_args": {"weight": 3}},
    ],
)
def test_classes_are_those_of_the_checkpoint(checkpoint, entry):
    prepared = prepare("test", [*checkpoint, "--config", small({"tasks.digit": entry})])
    assert prepared.config["tasks"]["digit"]["init_args"]["classes"] == DIGITS


def classes(names: list[str]) -> dict[str, object]:
    return {"tasks.digit": {"class_path": "Classification", "init_args": {"classes": names}}}


@pytest.mark.parametrize("command", ["fit", "test", "predict"])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (classes(DIGITS[::-1]), "tasks.digit.classes: the config has 9, 8, "),
        (classes([*DIGITS[:9], "x"]), "tasks.digit.classes: the config has 0, 1, "),
        (classes(DIGITS[:9]), "tasks.digit.classes: the config has 0, 1, "),
        ({"tasks.digit": "Regression"}, "tasks.digit: the config has Regression, the checkpoint "),
        ({"tasks.diget": "Classification"}, "tasks.diget: the checkpoint has no such task; did yo"),
        ({"tasks.ink": DROP}, "tasks: the checkpoint has a task ink that the config does not name"),
    ],
)
def test_tasks_that_contradict_the_checkpoint(checkpoint, command, changes, message):
    assert refused(command, *checkpoint, "--config", small(changes)).startswith(message)


def test_a_coverage_is_that_of_the_training(checkpoint):
    config = ["--config", small()]
    at = "--calibration.coverage"
    assert prepare("test", [*checkpoint, *config, at, "0.9"])
    line = refused("predict", *checkpoint, at, "0.99")
    assert line == (
        "calibration.coverage should be that of the training (0.9), which fits sets and intervals. "
        "Found 0.99; leave it out, or train again"
    )
    assert prepare("fit", [*checkpoint, *config, at, "0.99"])


class Binned(Regression):
    """A number of bins that a checkpoint cannot change."""

    def __init__(self, bins: int) -> None:
        super().__init__()
        self.bins = bins

    def identity(self) -> dict[str, object]:
        return {"bins": self.bins}


@pytest.mark.parametrize(
    ("kind", "known", "given", "message"),
    [
        ("Binned", {"bins": 8}, {"bins": 9}, "tasks.digit.bins: the config has 9; the checkpoint "),
        ("Binned", {"bins": 8}, {"bins": 8}, None),
        (
            "MultiLabel",
            {"labels": ["a", "b"]},
            {"labels": ["b", "a"]},
            "tasks.digit.labels: the config has b, a; the checkpoint was trained with a, b, in thi",
        ),
    ],
)
def test_a_task_says_what_must_be_as_in_the_checkpoint(
    checkpoint, monkeypatch, kind, known, given, message
):
    def remembered(path: Path, resume: bool) -> dict[str, Any]:
        saved = saved_config(path, resume)
        saved["tasks"]["digit"] = {"class_path": kind, "init_args": known}
        return saved

    monkeypatch.setattr("mtl_lightning.commands.prepare.saved_config", remembered)
    entry = {"class_path": f"{__name__}.Binned" if kind == "Binned" else kind, "init_args": given}
    arguments = [*checkpoint, "--config", small({"tasks.digit": entry})]
    if message is None:
        prepared = prepare("test", arguments)
        assert prepared.config["tasks"]["digit"]["init_args"] == known
    else:
        assert refused("test", *arguments).startswith(message)


@pytest.mark.parametrize(
    "flags",
    [["--tasks.digit.classes", str(DIGITS[::-1])], ["--tasks.digit.class_path", "Regression"]],
)
def test_flags_that_contradict_the_checkpoint(checkpoint, flags):
    assert refused("predict", *checkpoint, *flags).startswith("tasks.digit")


def test_a_network_that_grows_keeps_its_settings_and_starts_a_new_run(checkpoint):
    config = small({"tasks.light": "Regression", "model": DROP, "data": {"batch_size": 5}})
    prepared = prepare("fit", ["--config", config, *checkpoint, "--grow"])
    assert (prepared.grow, prepared.checkpoint) == (Path(checkpoint[1]), None)
    assert prepared.config.get("ckpt_path") is None
    assert prepared.config["model"]["backbone"]["init_args"]["name"] == "squeezenet1_1"
    assert prepared.config["data"]["batch_size"] == 5
    assert list(prepared.config["data"]["sources"]) == ["digits"]
    digit = prepared.config["tasks"]["digit"]["init_args"]
    assert digit.get("classes") is None, "found in the training labels"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tasks": DROP}, "--grow needs a config with `tasks`"),
        ({"tasks.ink": DROP}, "--grow: tasks should name ink, which the checkpoint was trained"),
        ({"tasks.ink": "Classification"}, r"--grow: tasks.ink: the config has .*Classification"),
    ],
)
def test_a_network_cannot_grow_into_fewer_or_other_tasks(checkpoint, changes, message):
    line = refused("fit", "--config", small(changes), *checkpoint, "--grow")
    assert re.match(message, line), line


INPUTS = {
    "age": {"class_path": "mtl_lightning.Number", "init_args": {"centre": 40.0, "scale": 9.0}},
    "city": {"class_path": "mtl_lightning.Category", "init_args": {"values": ["a", "b"]}},
}


@pytest.fixture
def with_columns(checkpoint, monkeypatch) -> list[str]:
    def remembered(path: Path, resume: bool) -> dict[str, Any]:
        saved = saved_config(path, resume)
        saved["data"]["inputs"] = INPUTS
        return saved

    monkeypatch.setattr("mtl_lightning.commands.prepare.saved_config", remembered)
    return [*checkpoint, "--grow"]


@pytest.mark.parametrize("given", [{}, {"data.inputs": {"age": "Number", "city": "Category"}}])
def test_a_network_that_grows_reads_its_columns_as_before(with_columns, given):
    config = small({"tasks.light": "Regression", "model": DROP, **given})
    prepared = prepare("fit", ["--config", config, *with_columns])
    inputs = prepared.config["data"]["inputs"]
    assert inputs["age"]["init_args"]["centre"] == 40.0
    assert inputs["city"]["init_args"]["values"] == ["a", "b"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {**INPUTS, "weight": "Number"},
            r"--grow: data\.inputs should be those of the checkpoint, .* \(age, city\)\. "
            r"Found age, city, weight$",
        ),
        (
            {
                **INPUTS,
                "city": {"class_path": "Category", "init_args": {"values": ["a", "b", "c"]}},
            },
            r"--grow: data\.inputs\.city\.values: the config has a, b, c; the checkpoint was "
            r"trained with a, b\. Leave values as it was",
        ),
    ],
    ids=["a column", "a value"],
)
def test_a_network_does_not_grow_by_columns(with_columns, given, message):
    config = small({"tasks.light": "Regression", "model": DROP, "data.inputs": given})
    assert re.match(message, refused("fit", "--config", config, *with_columns))
