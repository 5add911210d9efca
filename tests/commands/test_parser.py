from pathlib import Path

import jsonargparse
import pytest

from mtl_lightning.commands.parser import Parser
from mtl_lightning.system.errors import UserError


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
