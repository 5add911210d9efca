import pytest

from mtl_lightning.inference.predictions.table import check_output
from mtl_lightning.system.errors import UserError


@pytest.mark.parametrize("name", ["a.csv", "a.parquet", "a.jsonl", "A.CSV", "deep/er/a.csv"])
def test_outputs_that_can_be_written(tmp_path, name):
    check_output(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.xlsx", r"ends in \.csv or \.parquet or \.jsonl\. Found .*a\.xlsx"),
        ("predictions", r"ends in \.csv or \.parquet"),
        ("folder.csv", "this is a folder; give the name of a file in it"),
    ],
)
def test_outputs_that_cannot(tmp_path, name, message):
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(UserError, match=message):
        check_output(tmp_path / name)
