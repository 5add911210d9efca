from pathlib import Path
from typing import Literal, get_args

import jsonargparse
import pytest
import yaml

from mtl_lightning.commands.parser import Parser, integers_first
from mtl_lightning.system.errors import UserError
from tests.conftest import small


@pytest.fixture
def parser():
    parser = Parser()
    parser.add_argument("--images", type=int)
    return parser


def test_an_error_is_one_line_that_names_the_key(parser):
    with pytest.raises(UserError) as error:
        parser.parse_args(["--images", "many"])
    assert "\n" not in str(error.value)
    assert "images" in str(error.value)


def test_options_are_not_abbreviated(parser):
    with pytest.raises(UserError, match=r'^--image: no such option; did you mean "--images"\?$'):
        parser.parse_args(["--image", "1"])


def test_where_errors_are_tried_they_are_those_of_jsonargparse():
    parser = Parser(exit_on_error=False)
    parser.add_argument("--images", type=int)
    with pytest.raises(jsonargparse.ArgumentError):
        parser.parse_args(["--images", "many"])


def test_a_value_that_is_the_name_of_a_file_is_not_read():
    class Thing:
        def __init__(self, how: str | list[Path] = "default") -> None:
            self.how = how

    Path("default").write_text("how: [evil]")
    parser = Parser()
    parser.add_class_arguments(Thing, "thing")
    assert parser.parse_args(["--thing.how", "default"]).thing.how == "default"


def test_a_config_that_was_parsed_is_written_without_checking_it_again(parser, monkeypatch):
    parsed = parser.parse_args(["--images", "3"])
    monkeypatch.setattr(parser, "validate", None)
    assert parser.dump(parsed) == "images: 3\n"
    with pytest.raises(TypeError):
        parser.dump(parsed, skip_validation=False)


def test_a_share_of_an_epoch_is_a_number_in_the_saved_config(cli):
    cli.run("fit", "--config", small(), "--trainer.val_check_interval", "0.5")
    saved = Path("runs/small/version_0/config.yaml")
    assert yaml.safe_load(saved.read_text())["trainer"]["val_check_interval"] == 0.5
    cli.run("fit", "--config", str(saved), "--trainer.max_epochs", "1")


@pytest.mark.parametrize("first", ["float", "int"])
def test_one_batch_is_not_all_of_them_whichever_type_is_first(first):
    # An own list type, as `typing` gives the order that it has seen first.
    hint = float | int | list[Literal["a"]] if first == "float" else int | float | list[Literal[1]]

    class Limited:
        def __init__(self, batches: hint = 1.0) -> None:
            self.batches = batches

    parser = Parser()
    parser.add_class_arguments(Limited, "trainer")
    for text, value in (("1", 1), ("1.0", 1.0), ("0.5", 0.5)):
        found = parser.parse_args(["--trainer.batches", text])
        for config in (found, parser.parse_string(parser.dump(found))):
            limit = config.trainer.batches
            assert (type(limit), limit) == (type(value), value)


def test_all_but_the_integer_keep_their_places():
    hint = float | str | int | list[int]
    assert get_args(integers_first(hint)) == (int, float, str, list[int])
    hint = bool | int | float | None
    assert get_args(integers_first(hint)) == (bool, int, float, type(None))
    assert integers_first(float | str) == float | str
