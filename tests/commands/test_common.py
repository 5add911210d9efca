import sys
from pathlib import Path

import jsonargparse
import pytest

from mtl_lightning.commands.command_line import check
from mtl_lightning.commands.common import build_data, prepare_data, set_up
from tests.conftest import small
from tests.helpers.training import prepare_fit


@pytest.fixture(autouse=True)
def path(monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])


def test_modules_of_the_current_folder_are_found_where_one_is_named():
    Path("shop.py").touch()
    here = str(Path.cwd())
    sys.path.insert(0, here)
    set_up(["--config", "a.yaml"])
    assert here not in sys.path
    set_up(["--tasks.a.class_path", "shop.Task"])
    assert sys.path[-1] == here


def test_configs_are_printed_as_they_are_read():
    set_up([])
    parser = jsonargparse.ArgumentParser()
    parser.add_argument("--a", type=str)
    assert parser.dump(parser.parse_object({"a": "1e3"})).strip() == "a: '1e3'"


def test_data_are_built_without_a_trainer():
    data = build_data(prepare_fit("--config", small({"data.batch_size": 5})).config)
    assert data.batch_size == 5
    assert list(data.tasks) == ["digit", "parity", "ink"]


def test_data_of_a_command_that_trains_nothing():
    arguments = ["--config", small()]
    prepared, data = prepare_data("inspect", arguments, check("inspect", arguments))
    assert prepared.name == "small"
    assert list(data.sources) == ["digits"]
