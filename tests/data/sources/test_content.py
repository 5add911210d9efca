import codecs
import gzip
from pathlib import Path

import pytest

from mtl_lightning.data.sources.content import check_parquet, check_text, first_fault
from mtl_lightning.system.errors import UserError

FILE = Path("file")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b".encode("utf-16"), "UTF-16 text"),
        (codecs.BOM_UTF16_BE, "UTF-16 text"),
        ("a,b".encode("utf-32"), "UTF-32 text"),
        (codecs.BOM_UTF32_BE, "UTF-32 text"),
        (gzip.compress(b"a,b", mtime=0), "compressed"),
        (b"PAR1", "a Parquet file"),
        (b"PK\x03\x04", "a workbook"),
    ],
)
def test_what_is_no_text_is_shown_by_its_start(content, message):
    FILE.write_bytes(content)
    with pytest.raises(UserError, match=f"file is {message}"):
        check_text("file")


@pytest.mark.parametrize("content", [b"", b"a", b"PK,x", b"\xef\xbb\xbfa,b", b"\xff,a"])
def test_what_may_be_text_passes(content):
    FILE.write_bytes(content)
    check_text("file")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", 'it starts with ""'),
        (b"a\x1b[2J", r'it starts with "a\\x1b\[2J"'),
        (b"\xff" * 20, 'it starts with "\ufffd{12}"'),
        (b"PAR1 and so on", "is cut off"),
        (b"PAR1 and so on PARE", "is cut off"),
        (b"PARE and so on PARE", "is an encrypted Parquet file; decrypt it"),
        (b"PARK", 'it starts with "PARK"'),
    ],
)
def test_what_is_no_whole_parquet_file(content, message):
    FILE.write_bytes(content)
    with pytest.raises(UserError, match=message):
        check_parquet("file")


@pytest.mark.parametrize(
    ("content", "before", "what"),
    [
        (b"ab\xe9c", "ab", "the byte 0xE9 is not UTF-8"),
        (b"ab\0c", "ab", "there is a byte 0"),
        (b"a\0\xe9", "a", "there is a byte 0"),
        (b"a\xe9\0", "a", "the byte 0xE9 is not UTF-8"),
        (b"\xef\xbb\xbf\xc3\xa9\xc3", "\u00e9", "the byte 0xC3 is not UTF-8"),
    ],
)
def test_the_first_fault_is_found(content, before, what):
    FILE.write_bytes(content)
    found = first_fault("file")
    assert found[0] == before
    assert found[1].startswith(what)
    assert found[1].endswith("; save the table with encoding UTF-8")
