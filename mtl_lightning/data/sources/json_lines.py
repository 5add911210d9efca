"""JSON Lines: one object per line."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from mtl_lightning.data.sources.content import Content, check_text, first_fault
from mtl_lightning.system.errors import UserError, quoted, short


class _TwiceError(Exception):
    """An object has a key twice; keeping the last would choose a label."""


def read_json_lines(path: str) -> Content:
    """Read JSON Lines in UTF-8; see `tabular.open_table`.

    Rows are numbered by line. Columns are the keys of all objects, in order of first
    occurrence; if an object lacks a key, its cell is null.

    Raises:
        UserError: If the file is not UTF-8 text, or a line is not a JSON object or has a key twice.
    """
    check_text(path)
    decode = json.JSONDecoder(object_pairs_hook=_once).decode
    numbers: list[int] = []
    # Positions and values, since a hostile file may have another key in each line.
    columns: dict[str, tuple[list[int], list[object]]] = {}
    with open(path, encoding="utf-8-sig") as file:
        try:
            for number, line in enumerate(file, 1):
                if line.isspace():
                    continue
                record = _record(f"{path} row {number}", line, decode)
                for key, value in record.items():
                    positions, values = columns.setdefault(key, ([], []))
                    positions.append(len(numbers))
                    values.append(value)
                numbers.append(number)
        except UnicodeDecodeError:
            before, what = first_fault(path)
            raise UserError(f"{path} row {before.count(chr(10)) + 1}: {what}") from None

    def fetch(name: str) -> Sequence[object]:
        cells: list[object] = [None] * len(numbers)
        for position, value in zip(*columns[name], strict=True):
            cells[position] = value
        return cells

    return Content(list(columns), np.asarray(numbers, dtype=np.int64), fetch)


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    record = dict(pairs)
    if len(record) < len(pairs):
        names = [name for name, _ in pairs]
        raise _TwiceError(next(name for name in names if names.count(name) > 1))
    return record


def _record(where: str, line: str, decode: Any) -> dict[str, object]:
    try:
        record = decode(line)
        if "\\ud" in line or "\\uD" in line:
            json.dumps(record, ensure_ascii=False).encode()
    except _TwiceError as error:
        raise UserError(f"{where} has the key {quoted(str(error))} twice") from None
    except RecursionError:
        raise UserError(f"{where} is nested too deeply; expected a flat JSON object") from None
    except UnicodeEncodeError:
        raise UserError(f"{where} has half a character, a lone \\ud...; write the whole") from None
    except json.JSONDecodeError:
        record = None
    except ValueError:  # Python limits the digits of an integer
        raise UserError(f"{where} has a number of too many digits; write it as text") from None
    if not isinstance(record, dict):
        raise UserError(f"{where} is not a JSON object: {short(line.strip(), 60)}")
    return record
