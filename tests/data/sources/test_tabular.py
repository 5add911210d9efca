from decimal import Decimal

import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from mtl_lightning.data.sources.tabular import open_table
from mtl_lightning.system.errors import UserError


def written(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.csv", "image,a b\nü.jpg,1\ny.jpg,\n"),
        ("x.CSV", b"\xef\xbb\xbf" + "image,a b\r\n ü.jpg ,1\r\ny.jpg,  \r\n".encode()),
        ("x.csv", 'image, "a b"\n"ü.jpg","1"\ny.jpg\n'.replace(", ", ",")),
        ("x.tsv", "image\ta b\nü.jpg\t1\ny.jpg\t\n"),
        ("x.csv", "image,a b,,\nü.jpg,1,,\ny.jpg,,,\n"),
    ],
)
def test_delimited(tmp_path, name, content):
    table = open_table(written(tmp_path, name, content))
    assert table.names == ["image", "a b"]
    assert table.column("image").tolist() == ["ü.jpg", "y.jpg"]
    assert table.column("a b").tolist() == ["1", None]
    assert table.rows.tolist() == [2, 3]


def test_rows_are_numbered_as_a_spreadsheet_shows_them(tmp_path):
    content = 'image,a\n"x\ny",1\n\n,\nz,2\n\n'
    table = open_table(written(tmp_path, "x.csv", content))
    assert table.column("image").tolist() == ["x\ny", "z"]
    assert table.rows.tolist() == [2, 5]


def test_texts_that_look_like_numbers_or_nulls_stay(tmp_path):
    table = open_table(written(tmp_path, "x.csv", "a\n007\n1.0\nNA\nnan\nTrue\nnull\n"))
    assert table.column("a").tolist() == ["007", "1.0", "NA", "nan", "True", "null"]


def test_columns_are_called_by_their_names_in_any_normalisation_of_unicode(tmp_path):
    table = open_table(written(tmp_path, "x.csv", "image,cafe\u0301\na,b\n"))
    assert table.names == ["image", "caf\u00e9"]
    assert table.column("caf\u00e9").tolist() == ["b"]
    with pytest.raises(UserError, match='has two columns named "caf\u00e9"'):
        open_table(written(tmp_path, "y.csv", "cafe\u0301,caf\u00e9\na,b\n"))


def test_json_lines(tmp_path):
    lines = [
        '{"image": "x", "a": 1, "big": 9007199254740993}',
        "",
        '{"image": " y\u2028z ", "a": 1.0, "late": true}',
        '{"image": "2020-01-01", "a": null, "late": ""}',
        '{"image": "007", "a": NaN}',
    ]
    table = open_table(written(tmp_path, "x.jsonl", "\ufeff" + "\r\n".join(lines) + "\n"))
    assert table.names == ["image", "a", "big", "late"]
    assert table.column("image").tolist() == ["x", "y\u2028z", "2020-01-01", "007"]
    assert table.column("a").tolist() == ["1", "1", None, None]
    assert table.column("big").tolist() == ["9007199254740993", None, None, None]
    assert table.column("late").tolist() == [None, "true", None, None]
    assert table.rows.tolist() == [1, 3, 4, 5]


def test_parquet(tmp_path):
    columns = {
        "text": pa.array(["a", " b ", None]),
        "large": pa.array(["a", "", None], pa.large_string()),
        "category": pa.array(["a", "b", None]).dictionary_encode(),
        "whole": pa.array([1.0, -2.0, None]),
        "single": pa.array([0.1, 1.0, float("nan")], pa.float32()),
        "half": pa.array([0.5, 1.0, None], pa.float16()),
        "int": pa.array([2**60 + 1, 0, None]),
        "bool": pa.array([True, False, None]),
        "decimal": pa.array([Decimal("1.00"), Decimal("0.50"), None]),
    }
    pa.parquet.write_table(pa.table(columns), tmp_path / "x.parquet")
    table = open_table(tmp_path / "x.parquet")
    assert table.names == list(columns)
    assert table.rows.tolist() == [1, 2, 3]
    assert {name: table.column(name).tolist() for name in table.names} == {
        "text": ["a", "b", None],
        "large": ["a", None, None],
        "category": ["a", "b", None],
        "whole": ["1", "-2", None],
        "single": ["0.1", "1", None],
        "half": ["0.5", "1", None],
        "int": [str(2**60 + 1), "0", None],
        "bool": ["true", "false", None],
        "decimal": ["1", "0.5", None],
    }


def test_pandas_to_parquet(tmp_path):
    pd.DataFrame({"image": ["x", None], "a": [1, None]}).to_parquet(tmp_path / "x.parquet")
    table = open_table(tmp_path / "x.parquet")
    assert table.column("a").tolist() == ["1", None]
    assert table.column("image").tolist() == ["x", None]


def test_nested_cells_are_refused_by_row(tmp_path):
    path = written(tmp_path, "x.jsonl", '{"a": ["x"]}\n{"a": {"b": "x"}}\n')
    with pytest.raises(UserError, match=r'x.jsonl row 2, column "a": expected text, a number'):
        open_table(path).column("a")


def test_a_cell_that_is_far_too_long_is_refused_in_a_column_that_is_used(tmp_path):
    path = written(tmp_path, "x.csv", f"a,b\n1,2\n3,{'x' * 40_000}\n")
    assert open_table(path).column("a").tolist() == ["1", "3"]
    with pytest.raises(
        UserError, match=r'row 3, column "b": there are 40,000 characters .* 32,767'
    ):
        open_table(path).column("b")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", "", "is empty; expected columns and rows"),
        ("x.csv", b"\xef\xbb\xbf", "row 1 is empty; expected the names"),
        ("x.csv", "image,a\n", "has no rows"),
        ("x.csv", "\nimage,a\nx,1\n", "row 1 is empty; expected the names of the columns"),
        ("x.csv", ",\nimage,a\nx,1\n", "row 1 is empty"),
        ("x.csv", "image,a, a \nx,1,2\n", 'has two columns named "a"'),
        ("x.csv", "image,a\nx,1\ny,1,2\n", 'row 3 has 3 cells, the header 2: "2" is in no column'),
        ("x.csv", 'image,a\n"x,1\n', 'row 2, column "image": .* a quote that is never closed'),
        ("x.csv", "image\nü\n".encode("latin-1"), 'row 2, column "image": .* not UTF-8; save the'),
        ("x.jsonl", '{"a": 1}\n{"a": }\n', r'row 2 is not a JSON object: \{"a": \}'),
        ("x.jsonl", '{"a": 1}\n[1]\n', r"row 2 is not a JSON object: \[1\]"),
        ("x.jsonl", '{"a": [1\n2]}\n', "row 1 is not a JSON object"),
        ("x.jsonl", "\n\n", "has no rows"),
        ("x.parquet", "no", 'is not a Parquet file; it starts with "no"'),
        ("x.xlsx", "no", "expected .csv, .tsv, .jsonl, .ndjson, .parquet"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path, name, content, message):
    with pytest.raises(UserError, match=rf"{name}.* {message}|{name} {message}") as caught:
        open_table(written(tmp_path, name, content))
    assert "\n" not in str(caught.value)


def test_absent_file(tmp_path):
    written(tmp_path, "types.csv", "a\n1\n")
    with pytest.raises(UserError, match=r'type.csv does not exist .* mean "types.csv"'):
        open_table(tmp_path / "type.csv")
    with pytest.raises(UserError, match=r"does not exist or is not a file$"):
        open_table(tmp_path / "no" / "type.csv")


@pytest.mark.parametrize(("name", "separator"), [("t.csv", ","), ("t.tsv", "\t")])
def test_a_first_row_that_names_an_image_is_no_header(tmp_path, name, separator):
    rows = [["x/a.JPG", "0", "0"], ["x/b.jpg", "0", "0"]]
    (tmp_path / name).write_text("\n".join(map(separator.join, rows)))
    with pytest.raises(UserError) as error:
        open_table(tmp_path / name)
    assert str(error.value) == (
        f'{tmp_path / name} has no header: its first row names the image "x/a.JPG"; put a row with '
        "the names of the columns above it, such as image,label"
    )


def test_a_column_may_be_called_like_an_image(tmp_path):
    (tmp_path / "t.csv").write_text("image,front.jpg\nx/a.jpg,yes\nx/b.jpg,no\n")
    assert open_table(tmp_path / "t.csv").names == ["image", "front.jpg"]
