from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from mtl_lightning.data.sources.parquet import read_parquet
from mtl_lightning.system.errors import UserError


def written(**columns: object) -> bytes:
    pa.parquet.write_table(
        pa.table(columns), "t.parquet", write_page_checksum=True, compression="none"
    )
    return Path("t.parquet").read_bytes()


def refused(content: bytes, column: str) -> str:
    Path("t.parquet").write_bytes(content)
    with pytest.raises(UserError) as error:
        read_parquet("t.parquet").fetch(column)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_more_rows_than_any_memory_holds_are_damage():
    whole = written(a=list(range(1000)))
    length = int.from_bytes(whole[-8:-4], "little")
    footer = whole[-8 - length : -8]
    few, many = b"\xd0\x0f", b"\x80" * 8 + b"\x40"  # 1000 and 2**61 as Thrift writes them
    assert footer.count(b"\x16" + few) > 1
    claimed = footer.replace(b"\x16" + few, b"\x16" + many)
    message = refused(
        whole[: -8 - length] + claimed + len(claimed).to_bytes(4, "little") + b"PAR1", "a"
    )
    assert message == "t.parquet is damaged; copy the file, or write it again"


def test_a_dot_in_a_name_is_no_path():
    written(**{"a.b": [1], "a": [2], "c": [{"a": 3}]})
    assert read_parquet("t.parquet").fetch("a.b") == [1]
    assert read_parquet("t.parquet").fetch("a") == [2]


def test_wherever_a_byte_is_wrong_there_is_one_line_or_the_right_cells():
    texts = [f"label {i % 7}" for i in range(200)]
    whole = bytearray(written(a=texts))
    refusals = []
    for position in range(0, len(whole), 7):
        broken = whole.copy()
        broken[position] ^= 0xFF
        Path("t.parquet").write_bytes(broken)
        try:
            content = read_parquet("t.parquet")
            cells = content.fetch("a") if content.names == ["a"] else texts
        except UserError as error:
            refusals.append(str(error))
        else:
            assert cells == texts
    assert len(refusals) > 20
    assert all(message.startswith("t.parquet") and "\n" not in message for message in refusals)


def test_a_column_that_is_damaged_is_named():
    whole = written(a=["x" * 50], b=["y" * 50])
    start = whole.index(b"y" * 20)
    message = refused(whole[:start] + bytes(20) + whole[start + 20 :], "b")
    assert message == 't.parquet, column "b" is damaged; copy the file, or write it again'
    assert read_parquet("t.parquet").fetch("a") == ["x" * 50]


def test_text_that_is_no_utf8_is_named_by_row():
    texts = pa.array([b"x", None, b"\xe9", b"\xff"]).view(pa.string())
    for column in (texts, texts.dictionary_encode()):
        message = refused(written(a=column), "a")
        assert message == 't.parquet row 3, column "a": the text there is not UTF-8'


def test_a_time_that_python_cannot_tell_is_named_by_row():
    message = refused(written(a=pa.array([1, 2**62], pa.timestamp("ms"))), "a")
    assert message == 't.parquet row 2, column "a": the timestamp[ms] there is out of range'
