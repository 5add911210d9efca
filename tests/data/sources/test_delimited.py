import csv
import io
from pathlib import Path

import numpy as np
import pytest

from mtl_lightning.data.sources import delimited
from mtl_lightning.data.sources.delimited import read_delimited
from mtl_lightning.system.errors import UserError


def read(content: str | bytes, separator: str = ","):
    data = content.encode() if isinstance(content, str) else content
    Path("t.csv").write_bytes(data)
    names, rows, fetch = read_delimited("t.csv", separator)
    return rows.tolist(), {name: list(fetch(name)) for name in names}


def refused(content: str | bytes, separator: str = ",") -> str:
    with pytest.raises(UserError) as error:
        read(content, separator)
    return str(error.value)


def test_rows_of_every_length_and_blank_ones():
    rows, columns = read('a,b,,c\n1,2,3,4\n\n , \n5\n"",6,,,, \n')
    assert rows == [2, 5, 6]
    assert columns == {"a": ["1", "5", None], "b": ["2", None, "6"], "c": ["4", None, None]}


def test_blank_rows_as_wide_as_the_header():
    assert read("a,b\n1,2\n , \n,\n,3\n") == ([2, 5], {"a": ["1", None], "b": ["2", "3"]})


@pytest.mark.parametrize("seed", range(10))
def test_what_a_writer_wrote_is_read(seed, monkeypatch):
    monkeypatch.setattr(delimited, "_REMEMBERED", 200 * seed)  # texts, of a column that has 1,500
    draw = np.random.default_rng(seed)
    pieces = ["x", '"', '""', ",", "\t", "\n", "\r\n", " ", "é", "'", "\u2028", ";"]
    table = [
        ["x" * column + "".join(draw.choice(pieces, draw.integers(0, 6))) for column in (1, 0, 1)]
        for _ in range(2500)  # more than two chunks
    ]
    separator = ",\t"[seed % 2]
    text = io.StringIO()
    csv.writer(text, delimiter=separator).writerows([["a", "b", "c"], *table])
    rows, columns = read(text.getvalue(), separator)
    assert rows == list(range(2, 2502))
    assert list(map(list, zip(*columns.values(), strict=True))) == [
        [cell.strip() or None for cell in row] for row in table
    ]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", ["", "\n"])
def test_line_ends(end, last):
    content = end.join(["a,b", "1,2", "", "3,4"]) + last
    assert read(content) == ([2, 4], {"a": ["1", "3"], "b": ["2", "4"]})


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('"x,1,2', ', column "a": the cell starts with a quote that is never closed'),
        ('x,1," ""2', ', column "c": the cell starts with a quote that is never closed'),
        ('x, "1" 2,3', ', column "b": the cell continues after its closing quote; a quote inside'),
        ('x," 1\n,""",  "2"3', ', column "c": the cell continues after its closing quote'),
        ('x,1,2,"3', ": the cell starts with a quote that is never closed"),
        (
            "x,1,2, y,",
            ' has 5 cells, the header 3: "y" is in no column; a cell that holds a comma',
        ),
    ],
)
def test_a_row_that_is_wrong_is_named_with_its_column(row, message):
    content = f'a,b, c \n"a\nb",,\n\n1,2,3\n{row}\n4,5,6\n'
    assert refused(content).startswith(f"t.csv row 5{message}")


def test_quotes_of_the_header():
    assert refused('a,"b\n1,2\n').startswith("t.csv row 1: the cell starts with a quote")


@pytest.mark.parametrize("fault", [b"\xe9", b"\0"])
def test_the_cell_that_is_no_text_is_named(fault):
    good = b'a,b\n"1\n",2\n\n' + b"3,4\n" * 3000  # more than a buffer
    assert refused(good + b"5,x" + fault).startswith('t.csv row 3004, column "b": ')
    assert refused(good + fault).startswith('t.csv row 3004, column "a": ')
    assert refused(b"a" + fault + b",b\n").startswith("t.csv row 1: ")


@pytest.mark.parametrize(
    ("separator", "header", "message"),
    [
        (",", "a;b", "separated by a comma, not by a semicolon"),
        (",", "a\tb", "separated by a comma, not by a tab"),
        ("\t", "a,b", "separated by a tab, not by a comma"),
    ],
)
def test_another_separator_is_reported(separator, header, message):
    assert refused(f"{header}\n1\n", separator).endswith(message)
    assert read(f"{header}{separator}c\n1{separator}2\n", separator)[0] == [2]


def test_long_cells_are_read_and_the_limit_of_csv_stays_as_it_was():
    before = csv.field_size_limit(1000)
    try:
        assert read(f"a,b\n1,{'x' * 300_000}\n")[1]["a"] == ["1"]
        refused('a\n"')
        assert csv.field_size_limit() == 1000
    finally:
        csv.field_size_limit(before)


def test_equal_texts_are_one_object():
    cells = read("a,b\n" + "label one,label one\n" * 3000)[1]
    assert len(set(map(id, cells["a"]))) == len(set(map(id, cells["b"]))) == 1


@pytest.mark.parametrize("first", ["sep=;", '"sep=,"', "SEP=\t"])
def test_the_separator_of_excel_is_no_header(first):
    assert "is a line for Excel alone; remove it, and separate columns by a comma" in refused(
        f"{first}\na,b\n1,2\n"
    )
    assert read("sep=,b\n1,2\n")[1] == {"sep=": ["1"], "b": ["2"]}
