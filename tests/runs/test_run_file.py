import json
import math
import os
import re

import numpy as np
import pytest

from mtl_lightning.runs import run_file
from mtl_lightning.runs.facts import (
    Checkpoint,
    Checkpoints,
    Epoch,
    Evaluation,
    LabelCounts,
    MergedCounts,
    Parameters,
    RunFacts,
    Session,
    Sizes,
    TaskFacts,
    Validation,
)
from mtl_lightning.system.errors import UserError
from mtl_lightning.tasks.plot_records import ConfusionCounts, UnknownRecord
from mtl_lightning.tasks.results import Results

SPLITS = {"train": 3, "val": 1, "test": 0}


def made() -> RunFacts:
    values = {"kind": {"n_labelled": 3, "loss": 0.25, "accuracy": math.nan}}
    results = Results("val", values, 0.25, None)
    counts = LabelCounts(SPLITS, {"kind": SPLITS})
    facts = RunFacts(
        "clothes ü",
        "version_0",
        {"kind": TaskFacts("Classification", "accuracy")},
        MergedCounts({"[\n1\n]": counts}, counts),
        ["a note", "[ 1,\n 2 ]"],
        Sizes(Parameters(30, 20, 10, {"kind": 20}), [16, 24], 8, 2, 1),
        [Session("fit", "2026-01-01", {"python": "3.12"}, "cpu", "32-true", "abc", 5)],
        [Epoch(0, 6, 1.5, None, results)],
        [Validation(0, 6, results)],
        Checkpoints("val/score", "max", Checkpoint(6, 0.5), Checkpoint(6)),
    )
    plots = {
        "kind": ConfusionCounts(["a", "b"], np.array([[2, 0], [1, 0]])),
        "own": UnknownRecord({"class_path": "shop.Own", "numbers": [1, 2]}),
    }
    facts.evaluations["val"] = Evaluation("fit", "2026-01-02", 6, None, results, plots)
    return facts


def text(facts: RunFacts) -> str:
    """All of it but the records, which compare by their own tests."""
    for evaluation in facts.evaluations.values():
        evaluation.plots = {}
    return repr(facts)


def test_facts_survive_the_file(tmp_path):
    run_file.write(tmp_path, made())
    again = run_file.read(tmp_path)
    plots = again.evaluations["val"].plots
    assert plots["kind"].counts.tolist() == [[2, 0], [1, 0]]
    assert plots["own"] == UnknownRecord({"class_path": "shop.Own", "numbers": [1, 2]})
    assert isinstance(again.epochs[0].results.tasks["kind"]["n_labelled"], int)
    assert text(again) == text(made())


def test_it_is_plain_json_without_nan_and_lists_of_numbers_are_lines(tmp_path):
    run_file.write(tmp_path, made())
    lines = (tmp_path / "run.json").read_text(encoding="utf-8")
    values = json.loads(lines, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    assert values["format"] == 1
    assert values["epochs"][0]["results"]["tasks"]["kind"]["accuracy"] is None
    assert values["notes"] == made().notes
    assert '"image": [16, 24]' in lines
    assert re.search(r'"cells": \[0, 2\]', lines)


def test_a_run_without_the_file(tmp_path):
    assert run_file.read(tmp_path) is None


def test_keys_of_a_later_version_are_ignored(tmp_path):
    run_file.write(tmp_path, made())
    path = tmp_path / "run.json"
    values = json.loads(path.read_text())
    values["new"] = values["epochs"][0]["new"] = 1
    path.write_text(json.dumps(values))
    assert text(run_file.read(tmp_path)) == text(made())


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("format",), 2, r"format should be 1\. Found 2"),
        (("epochs",), 3, r"should be the facts of a run\. Found a part that is not \(TypeError"),
        (("epochs", 0, "step"), "6", r"TypeError: expected <class 'int'>, found '6'"),
        (("epochs", 0), {}, r"TypeError: .* missing"),
        (("evaluations", "val", "plots", "kind", "counts", "cells"), [9, 9], r"ValueError"),
        (("merged", "sources"), [], r"AttributeError"),
    ],
)
def test_a_file_that_cannot_be_understood_is_named(tmp_path, path, value, message):
    run_file.write(tmp_path, made())
    file = tmp_path / "run.json"
    values = json.loads(file.read_text())
    part = values
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    file.write_text(json.dumps(values))
    with pytest.raises(UserError, match=rf"run\.json.*{message}") as error:
        run_file.read(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "[1]", "null"])
def test_a_file_that_is_no_such_json_is_named(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(UserError, match=r"run\.json.* should be .* Found"):
        run_file.read(tmp_path)


def test_a_failure_leaves_the_file_that_was_there(tmp_path, monkeypatch):
    run_file.write(tmp_path, made())
    before = (tmp_path / "run.json").read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        run_file.write(tmp_path, RunFacts("other", "version_0"))
    assert (tmp_path / "run.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
