"""Table files"""

import codecs
import gzip
import io
import os
from unittest import mock

import pyarrow as pa
import pyarrow.parquet

from mtl_lightning import TableSource
from tests.bad_inputs import Case
from tests.bad_inputs._shop import MILLION, json_lines, labelled, shop, table

GOOD = "image,type\na.jpg,Dress\nb.jpg,Shirt\n"
FINE = "handled: a.jpg: Dress; b.jpg: Shirt"
T = "error: data.sources.shop: shop/t.csv"
J = "error: data.sources.shop: shop/t.jsonl"
P = "error: data.sources.shop: shop/t.parquet"


def as_parquet(**columns: object) -> bytes:
    """Return a Parquet file."""
    file = io.BytesIO()
    pa.parquet.write_table(pa.table(columns), file)
    return file.getvalue()


PARQUET = as_parquet(image=["a.jpg", "b.jpg"], type=["Dress", "Shirt"])


def parquet(name: str, content: bytes, expected: str) -> Case:
    """Return the case of a Parquet file."""
    return table(name, content, expected, file="t.parquet")


def unreadable() -> str:
    """Read a good table as somebody who may not: root, who runs some tests, may read all."""
    with mock.patch("builtins.open", side_effect=PermissionError(13, "Permission denied")):
        return labelled("type", {"shop": TableSource("shop/t.csv")})


def text(name: str, content: str | bytes, expected: str) -> Case:
    """Return the case of a CSV file."""
    return table(name, content, expected)


NOT_TEXT = [
    text(
        "UTF-16 with its mark, as a spreadsheet's Unicode text",
        GOOD.encode("utf-16"),
        T + " is UTF-16 text; save it with encoding UTF-8",
    ),
    text(
        "UTF-16, big end first", codecs.BOM_UTF16_BE + GOOD.encode("utf-16-be"), T + " is UTF-16 .*"
    ),
    text(
        "UTF-16 without its mark",
        GOOD.encode("utf-16-le"),
        T + " row 1: there is a byte 0, as in UTF-16 text; .*",
    ),
    text("UTF-32 with its mark", GOOD.encode("utf-32"), T + " is UTF-32 text; .*"),
    text(
        "Latin-1 in a label",
        GOOD.replace("Shirt", "Gilet é").encode("latin-1"),
        T + ' row 3, column "type": the byte 0xE9 is not UTF-8; .*',
    ),
    text(
        "Latin-1 in the header",
        GOOD.replace("type", "type,é").encode("latin-1"),
        T + " row 1: the byte 0xE9 is not UTF-8; .*",
    ),
    text(
        "Latin-1 after quoted line breaks",
        ('image,note,type\na.jpg,"x\ny",Dress\né.jpg,,Shirt\n').encode("latin-1"),
        T + ' row 3, column "image": the byte 0xE9 .*',
    ),
    json_lines(
        "JSON Lines: Latin-1",
        '{"image": "é.jpg"}'.encode("latin-1"),
        J + " row 2: the byte 0xE9 is not UTF-8; .*",
    ),
    text(
        "a NUL in a cell",
        GOOD.replace("Shirt", "Sh\0irt"),
        T + ' row 3, column "type": there is a byte 0, .*',
    ),
    text("a UTF-8 byte-order mark", codecs.BOM_UTF8 + GOOD.encode(), FINE),
    text(
        "a byte-order mark between rows, as in joined files",
        GOOD + "\ufeffimage,type\n",
        T + r' row 4, column "image": there is no file "\\ufeffimage" .*',
    ),
    text("a byte-order mark and nothing else", codecs.BOM_UTF8, T + " row 1 is empty; .*"),
    text(
        "a workbook named .csv", b"PK\x03\x04 etc", T + " is a workbook, .*; save the sheet as CSV"
    ),
    text(
        "a compressed table named .csv",
        gzip.compress(GOOD.encode(), mtime=0),
        T + " is compressed with gzip; unpack it",
    ),
    text(
        "a Parquet file named .csv",
        PARQUET,
        T + " is a Parquet file; its name should end in .parquet",
    ),
]
LINES = [
    text("line ends of Windows", GOOD.replace("\n", "\r\n"), FINE),
    text("line ends of old Macs", GOOD.replace("\n", "\r"), FINE),
    text("line ends of all kinds", "image,type\r\na.jpg,Dress\rb.jpg,Shirt\n", FINE),
    text("no line end at the end", GOOD.rstrip(), FINE),
    text(
        "line breaks in quotes",
        'image,note,type\na.jpg,"x\r\ny\n",Dress\nb.jpg,,Shirt\nnone.jpg,,\n',
        T + ' row 4, column "image": there is no file "none.jpg" .*',
    ),
    text("blank rows", "image,type\n\na.jpg,Dress\n,\n  ,  \nb.jpg,Shirt\n\n", FINE),
    text(
        "blank rows and no others",
        "image,type\n\n,\n , \n",
        T + " has no rows; expected at least one below the header",
    ),
]
SHAPE = [
    text("an empty file", "", T + " is empty; expected columns and rows"),
    text(
        "a header and nothing else",
        "image,type\n",
        T + " has no rows; expected at least one below the header",
    ),
    text(
        "no header",
        "\na.jpg,Dress\n",
        T + " row 1 is empty; expected the names of the columns there",
    ),
    text(
        "a column twice",
        "image,type,type\na.jpg,Dress,Shirt\n",
        T + ' has two columns named "type"; rename one of them',
    ),
    text("columns without a name", "image,,type,\na.jpg,1,Dress,\nb.jpg,,Shirt,\n", FINE),
    text(
        "no column of images",
        "file,type\na.jpg,Dress\n",
        T + ' has no column "image" .*; columns: file, type',
    ),
    text(
        "no column of labels",
        "image,kind\na.jpg,Dress\n",
        T + " has no column named after a task; .*",
    ),
    text(
        "a longer row",
        GOOD + "sub/c.jpg,Dress, long\n",
        T + ' row 4 has 3 cells, the header 2: "long" is in no column; a cell .* needs quotes',
    ),
    text("a longer row whose last cells are empty", GOOD.replace("Shirt", "Shirt,, "), FINE),
    text("a shorter row", "type,image,note\nDress,a.jpg,x\nShirt,b.jpg\n", FINE),
    text(
        "semicolons for commas",
        GOOD.replace(",", ";"),
        T + ' row 1: "image;type" is a single column; .* by a comma, not by a semicolon',
    ),
    text(
        "a quote that is never closed",
        'image,type\na.jpg,"Dress\nb.jpg,Shirt\n',
        T + ' row 2, column "type": the cell starts with a quote that is never closed',
    ),
    text(
        "a quote that a later one closes",
        'image,note,type\na.jpg,"5,Dress\nb.jpg,"7",Shirt\n',
        T + ' row 2, column "note": the cell continues after its closing quote; .*',
    ),
    text(
        "a quote inside of a cell",
        'image,note,type\na.jpg,5" wide,Dress\nb.jpg,"a ""b""",Shirt\n',
        FINE,
    ),
    text("quotes after spaces", 'image,type\na.jpg, "Dress"\nb.jpg,  "Shirt"\n', FINE),
    text(
        "a cell of a million characters that nobody reads",
        f"image,note,type\na.jpg,{MILLION},Dress\nb.jpg,,Shirt\n",
        FINE,
    ),
    text(
        "a column whose name has a million characters",
        f"image,{MILLION}\na.jpg,\n",
        T + ".* columns: image, x+\\.\\.\\.x+; set .*",
    ),
]
JSON = [
    json_lines(
        "JSON Lines: not an object",
        '["b.jpg", "Shirt"]',
        J + r' row 2 is not a JSON object: \["b.jpg", "Shirt"\]',
    ),
    json_lines(
        "JSON Lines: broken", '{"image": "b.jpg", "type": }', J + " row 2 is not a JSON object: .*"
    ),
    json_lines(
        "JSON Lines: broken, a million characters",
        '{"image": "' + MILLION,
        J + r' row 2 is not a JSON object: \{"image": "x+\.\.\.x+',
    ),
    json_lines(
        "JSON Lines: a key twice",
        '{"image": "b.jpg", "type": "Dress", "type": "Shirt"}',
        J + ' row 2 has the key "type" twice',
    ),
    json_lines(
        "JSON Lines: nested a hundred thousand times",
        '{"type": ' + "[" * 100_000 + "]" * 100_000 + "}",
        J + " row 2 is nested too deeply; expected a flat JSON object",
    ),
    json_lines(
        "JSON Lines: a list for a label",
        '{"image": "b.jpg", "type": ["Shirt"]}',
        r'error: shop/t.jsonl row 2, column "type": task type cannot read the label '
        r'"\["Shirt"\]"; .*',
    ),
    json_lines(
        "JSON Lines: an image without labels",
        '{"image": "b.jpg"}',
        "handled: a.jpg: Dress; b.jpg: not labelled",
    ),
    json_lines(
        "JSON Lines: NaN for a label",
        '{"image": "b.jpg", "type": NaN}',
        "handled: a.jpg: Dress; b.jpg: not labelled",
    ),
    json_lines(
        "JSON Lines: Infinity for a number",
        '{"image": "b.jpg", "price": -Infinity}',
        'error: shop/t.jsonl row 2, column "price": task price cannot read the label "-inf"; .*',
        "price",
    ),
    json_lines(
        "JSON Lines: a number of ten thousand digits",
        '{"image": "b.jpg", "price": ' + "9" * 10_000 + "}",
        J + " row 2 has a number of too many digits; write it as text",
        "price",
    ),
    json_lines(
        "JSON Lines: half a character",
        r'{"image": "b.jpg", "type": "\ud83d"}',
        J + r" row 2 has half a character, .*",
    ),
    json_lines(
        "JSON Lines: another space than spaces",
        '{"image": "b.jpg",\u00a0"type": "Shirt"}',
        J + r' row 2 is not a JSON object: \{"image": "b.jpg",\\xa0"type": "Shirt"\}',
    ),
    table(
        "JSON Lines: a JSON file of several lines",
        '[\n{"image": "a.jpg", "type": "Dress"}\n]\n',
        J + r" row 1 is not a JSON object: \[",
        file="t.jsonl",
    ),
]
PARQUETS = [
    parquet(
        "Parquet: text instead",
        GOOD.encode(),
        P + r' is not a Parquet file; it starts with "image,type\\na"',
    ),
    parquet(
        "Parquet: its end cut off",
        PARQUET[:-100],
        P + " is cut off, the end of a Parquet file is missing; copy it again",
    ),
    parquet(
        "Parquet: its middle cut out",
        PARQUET[:50] + PARQUET[-200:],
        P + " is damaged; copy the file, or write it again",
    ),
    parquet("Parquet: four bytes", b"PAR1", P + " is damaged; .*"),
    parquet(
        "Parquet: a damaged column",
        PARQUET[:10] + bytes(40) + PARQUET[50:],
        P + ', column "image" is damaged; .*',
    ),
    parquet(
        "Parquet: no rows",
        as_parquet(image=pa.array([], pa.string()), type=pa.array([], pa.string())),
        P + " has no rows; .*",
    ),
    parquet(
        "Parquet: a list for a label",
        as_parquet(image=["a.jpg", "b.jpg"], type=[None, ["Shirt"]]),
        r'error: shop/t.parquet row 2, column "type": task type cannot read the label '
        r'"\["Shirt"\]"; .*',
    ),
    parquet(
        "Parquet: bytes for a path",
        as_parquet(image=[b"a.jpg"], type=["Dress"]),
        P + ' row 1, column "image": expected text, .*',
    ),
    parquet(
        "Parquet: Latin-1 in a label",
        as_parquet(image=["a.jpg", "b.jpg"], type=pa.array([b"Dress", b"\xe9"]).view(pa.string())),
        P + ' row 2, column "type": the text there is not UTF-8',
    ),
    parquet(
        "Parquet: null for a label",
        as_parquet(image=["a.jpg", "b.jpg"], type=["Dress", None]),
        "handled: a.jpg: Dress; b.jpg: not labelled",
    ),
]
FILES = [
    table(
        "a table that does not exist",
        GOOD,
        'error: .* shop/s.csv does not exist or is not a file; did you mean "t.csv"\\?',
        path="shop/s.csv",
    ),
    table(
        "a table on the web",
        GOOD,
        "error: .* https://example.com/t.csv is a URL; download the table and give its path",
        path="https://example.com/t.csv",
    ),
    table(
        "a folder named t.csv",
        GOOD,
        "error: .* shop/u.csv is a folder, expected a file",
        path="shop/u.csv",
        make=lambda: os.mkdir("shop/u.csv"),
    ),
    table(
        "a pipe named u.csv",
        GOOD,
        "error: .* shop/u.csv does not exist or is not a file.*",
        path="shop/u.csv",
        make=lambda: os.mkfifo("shop/u.csv"),
    ),
    table(
        "an unknown kind of file",
        "",
        "error: .* shop/t.xlsx is not a table that can be read: expected .csv, .tsv, .*",
        file="t.xlsx",
    ),
    Case(
        "a file without permission to read",
        lambda: shop({"t.csv": GOOD}),
        unreadable,
        T + " cannot be read: Permission denied",
    ),
]

CASES = [*NOT_TEXT, *LINES, *SHAPE, *JSON, *PARQUETS, *FILES]
