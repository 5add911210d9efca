from pathlib import Path

import jsonargparse
import pytest
import yaml
from pytorch_lightning.callbacks.timer import Interval

from mtl_lightning.config.values import PlainScalar, plain_values
from mtl_lightning.config.yaml_io import dump, load, parse
from mtl_lightning.system.errors import UserError


def read(text: str | bytes):
    path = Path("a.yaml")
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return load(path)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("1e-4", 1e-4),
        ("1.0e-4", 1e-4),
        ("2E5", 2e5),
        (".5", 0.5),
        ("-3.", -3.0),
        ("-.inf", -float("inf")),
        ("12", 12),
        ("-7", -7),
        ("0", 0),
        ("true", True),
        ("null", None),
        ("~", None),
        ("no", "no"),
        ("Yes", "Yes"),
        ("off", "off"),
        ("True", "True"),
        ("010", "010"),
        ("1:30:00", "1:30:00"),
        ("2020-01-01", "2020-01-01"),
        ("v2", "v2"),
        ("1.2.3", "1.2.3"),
        ("e5", "e5"),
        ('"1"', "1"),
    ],
)
def test_values_mean_what_they_look_like(written, meant):
    value = read(f"a: [{written}]")["a"][0]
    assert plain_values(value) == meant
    assert type(plain_values(value)) is type(meant)
    assert plain_values(parse(written)) == meant
    assert isinstance(value, str) or value.text == written


def test_null_is_a_value_below_a_key_and_maybe_a_word_in_a_list():
    assert read("a: {b: null, c: ~}") == {"a": {"b": None, "c": None}}
    assert read("a: [null, ~]") == {"a": [PlainScalar("null", None), PlainScalar("~", None)]}


def test_keys_are_names():
    assert read("a: {no: x, 3: x, null: x, true: x}") == {
        "a": {"no": "x", "3": "x", "null": "x", "true": "x"}
    }


def test_anchors_merge():
    assert read("a: &x {b: u}\nc: {<<: *x, d: v}")["c"] == {"b": "u", "d": "v"}


def test_a_byte_order_mark_and_windows_line_ends_are_no_matter():
    assert read(b"\xef\xbb\xbfa: u\r\nb: v\r\n") == {"a": "u", "b": "v"}


def test_what_stands_empty_is_left_out():
    config = read("trainer:\ntasks:\n  a:\n    class_path: Regression\n    init_args:\n")
    assert config == {"tasks": {"a": {"class_path": "Regression"}}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a:\n\t- b", "line 2: not valid YAML: found character '\\t'"),
        ("a:\n  b: 1\n  b: 2", 'line 3: not valid YAML: the key "b" is there twice'),
        ("a: [1, 2", "line 1: not valid YAML: expected ',' or ']'"),
        ("[a, b]: 1", "line 1: not valid YAML: expected a name before the colon"),
        ("{{a}}: 1", "line 1: not valid YAML: expected a name before the colon"),
        ("a: !!python/object:os.system x", "line 1: not valid YAML: could not determine"),
        ("a: 1\n---\nb: 2", "line 2: not valid YAML"),
        ("\x00", "not valid YAML: unacceptable character"),
        ("[1, 2]", "should be keys and values, such as `tasks: ...`. Found a list"),
        ("word", "should be keys and values, such as `tasks: ...`. Found one value"),
        ("", "should be keys and values, such as `tasks: ...`. Found nothing"),
        ("# nothing", "should be keys and values, such as `tasks: ...`. Found nothing"),
        (b"\x80\xff", "cannot be read: this is not UTF-8 text"),
    ],
)
def test_what_is_no_config(text, message):
    with pytest.raises(UserError) as error:
        read(text)
    assert str(error.value).startswith("config a.yaml")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there():
    Path("quick.yaml").touch()
    with pytest.raises(UserError, match=r'quik.yaml: no such file; did you mean "quick.yaml"\?'):
        load(Path("quik.yaml"))
    with pytest.raises(UserError, match=r"a folder/x.yaml: no such file$"):
        load(Path("a folder/x.yaml"))
    Path("folder.yaml").mkdir()
    with pytest.raises(UserError, match=r"folder\.yaml: cannot be read: Is a directory"):
        load(Path("folder.yaml"))


@pytest.mark.parametrize("text", ["*.jpg", "@home", "a: b: c", "[a", "%d", "- - }"])
def test_a_flag_that_is_no_yaml_is_text(text):
    assert parse(text) == text


def test_an_empty_flag_is_null():
    assert parse("") is None


def test_what_is_dumped_is_read_in_the_same_way_by_everyone():
    words = [
        "1e3",
        "1e-3",
        "no",
        "010",
        "1_0",
        "2020-01-01",
        "1:30",
        "null",
        "é 😀",
        "",
        "7e2",
        "x",
    ]
    config = {"a": {"words": words, "numbers": [1e-5, 3, 0.1], "none": None, "yes": True}}
    text = dump(config)
    assert yaml.safe_load(text) == config
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--a", type=dict)
    parser.add_argument("--config", action="config")
    assert parser.parse_args(["--config", text]).a == config["a"]
    assert '"x"' not in text  # nothing is quoted without need


def test_what_is_undecided_is_written_as_it_was():
    text = "a: 1e3\nb: 010\nc: [1, no, 1e-4, true, ~, 'no', '1']\nd: {e: 0.50, f: 1_000}\n"
    undecided = read(text)
    written = dump(undecided)
    assert read(written) == undecided
    assert "e: 0.50\n" in written


def test_a_member_of_an_enumeration_is_written_as_its_value():
    assert dump({"interval": Interval.step}) == "interval: step\n"
