from pathlib import Path

import pytest

from mtl_lightning.data.sources.json_lines import read_json_lines
from mtl_lightning.system.errors import UserError


def read(*lines: str):
    Path("t.jsonl").write_bytes("\n".join(lines).encode())
    names, rows, fetch = read_json_lines("t.jsonl")
    return rows.tolist(), {name: list(fetch(name)) for name in names}


def test_a_key_that_an_object_lacks_is_null():
    rows, columns = read('{"a": 1}', "", '{"b": "x", "a": null}', '{"c": [2]}')
    assert rows == [1, 3, 4]
    assert columns == {"a": [1, None, None], "b": [None, "x", None], "c": [None, None, [2]]}


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends(end):
    Path("t.jsonl").write_bytes(end.join(['{"a": 1}', "", '{"a": 2}']).encode())
    assert read_json_lines("t.jsonl").rows.tolist() == [1, 3]


def test_a_key_of_its_own_in_every_line_takes_no_more_than_the_file():
    rows, columns = read(*(f'{{"a": 1, "k{i}": 2}}' for i in range(3000)))
    assert len(rows) == 3000
    assert columns["k1234"][1233:1236] == [None, 2, None]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"a": 1, "b": 2, "a": 1}', 'has the key "a" twice'),
        ('{"a": {"b": 1, "b": 2}}', 'has the key "b" twice'),
        ('{"a": ' * 100_000, "is nested too deeply"),
        ('{"a": "\\ud83d"}', "has half a character"),
        ('{"a\\uDE00": 1}', "has half a character"),
        ('{"a": ' + "1" * 5000 + "}", "has a number of too many digits"),
        ('{"a": 1} {"a": 2}', r'is not a JSON object: \{"a": 1\} \{"a": 2\}'),
        ("null", "is not a JSON object: null"),
        ('{"a": "\x07"}', r'is not a JSON object: \{"a": "\\x07"\}'),
    ],
)
def test_a_line_that_is_wrong(line, message):
    with pytest.raises(UserError, match=f"^t.jsonl row 3 {message}"):
        read('{"a": 1}', "", line)


def test_a_whole_character_by_halves_is_text():
    assert read('{"a": "\\ud83d\\ude00"}')[1] == {"a": ["\U0001f600"]}


def test_a_line_that_is_no_utf8():
    Path("t.jsonl").write_bytes(b'{"a": 1}\r\n{"a": "\xe9"}\n')
    with pytest.raises(UserError, match=r"t.jsonl row 2: the byte 0xE9 is not UTF-8"):
        read_json_lines("t.jsonl")
