import os
from pathlib import Path

import pandas as pd
import pytest

from mtl_lightning.commands.proposal.inspection import inspect_paths
from mtl_lightning.system.errors import UserError
from tests.helpers.files.messy import photo


@pytest.fixture(autouse=True)
def photos(own_process):
    for i in range(8):
        photo(Path(f"w/{'ab'[i % 2]}/{i}.jpg"), i)


def table(path, **columns):
    frame = pd.DataFrame({"image": [f"w/{'ab'[i % 2]}/{i}.jpg" for i in range(8)], **columns})
    frame.to_csv(path, index=False)


def test_each_path_is_inspected_once():
    table("t.csv", kind=["x", "y"] * 4)
    os.symlink("t.csv", "same.csv")
    found = inspect_paths(["t.csv", "./t.csv", "same.csv", "w", "w/"])
    assert (len(found.tables), found.folders, found.downloads) == (1, [], [])
    assert len(found.images) == 8
    assert found.left_out == [("w", "a table names its images; its folders are a, b")]
    assert not found.has_splits


def test_splits_of_a_table_and_of_a_folder():
    table("t.csv", kind=["x", "y"] * 4, split=["train", "test"] * 4)
    assert inspect_paths(["t.csv"]).has_splits
    assert not inspect_paths(["w"]).has_splits
    for i in range(4):
        photo(Path(f"v/{('train', 'val')[i % 2]}/{'ab'[i // 2]}/{i}.jpg"), i)
    assert inspect_paths(["v"]).has_splits


def test_a_column_that_no_table_has_cannot_be_a_task():
    table("t.csv", kind=["x", "y"] * 4, group=["u"] * 8)
    assert "group" in inspect_paths(["t.csv"], ["group"]).tables[0].labels
    with pytest.raises(UserError) as error:
        inspect_paths(["t.csv", "w"], ["kinds"])
    assert str(error.value) == (
        '--task should be one of the columns kind, group. Found kinds; did you mean "kind"?'
    )
