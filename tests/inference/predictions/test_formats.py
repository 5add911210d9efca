import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from mtl_lightning.inference.predictions.formats import WRITERS

FRAME = pd.DataFrame(
    {
        "image": ["a.jpg", 'b,"x".jpg', "c\u00e9.jpg", "d.jpg"],
        "kind": ["cat", None, "dog", "cat"],
        "share": np.array([0.1, np.nan, 1 / 3, 1], dtype=np.float32),
        "value": [1 / 3, None, 1e300, -2.0],
    }
)


def written(path):
    table = pa.Table.from_pandas(FRAME, preserve_index=False)
    WRITERS[path.suffix]([table.slice(0, 1), table.slice(1, 2), table.slice(3)], path)
    return path


def test_a_csv_is_that_of_the_whole_table(tmp_path):
    FRAME.to_csv(tmp_path / "whole.csv", index=False)
    assert written(tmp_path / "p.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_parquet_keeps_types(tmp_path):
    found = pd.read_parquet(written(tmp_path / "p.parquet"))
    pd.testing.assert_frame_equal(found, FRAME)


def test_a_line_of_json_for_each_row(tmp_path):
    lines = written(tmp_path / "p.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(lines[0]) == {"image": "a.jpg", "kind": "cat", "share": 0.1, "value": 1 / 3}
    assert '"share": 0.1,' in lines[0], "a float32 is not written as 0.10000000149"
    second = json.loads(lines[1])
    assert (second["kind"], second["share"], second["value"]) == (None, None, None)
    assert json.loads(lines[2])["share"] == pytest.approx(1 / 3, abs=1e-7)
    assert "c\u00e9.jpg" in lines[2]
    assert len(lines) == 4
