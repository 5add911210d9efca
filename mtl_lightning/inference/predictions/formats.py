"""The formats of the table of predictions, written part by part."""

import json
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import parquet


def _csv(tables: Iterable[pa.Table], path: Path) -> None:
    for number, table in enumerate(tables):
        table.to_pandas().to_csv(path, index=False, mode="a", header=number == 0)


def _parquet(tables: Iterable[pa.Table], path: Path) -> None:
    rest = iter(tables)
    first = next(rest)
    with parquet.ParquetWriter(path, first.schema) as writer:
        for table in chain([first], rest):
            writer.write_table(table)


def _json_lines(tables: Iterable[pa.Table], path: Path) -> None:
    with open(path, "w", encoding="utf-8") as file:
        for table in tables:
            cells = _short(table.to_pandas()).astype(object)
            for row in cells.where(cells.notna(), None).to_dict("records"):
                file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _short(frame: pd.DataFrame) -> pd.DataFrame:
    """Return single-precision numbers as the shortest decimals that round to them."""
    singles = frame.select_dtypes(np.float32).columns
    short: pd.DataFrame = frame.assign(**{n: frame[n].astype(str).astype(float) for n in singles})
    return short


WRITERS: Mapping[str, Callable[[Iterable[pa.Table], Path], None]] = {
    ".csv": _csv,
    ".parquet": _parquet,
    ".jsonl": _json_lines,
}
"""Suffix to a function that writes tables of one schema to a file."""
