from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from mtl_lightning.commands.proposal.propose import propose
from mtl_lightning.commands.proposal.writing import render
from mtl_lightning.data.sources import FilenameSource
from tests.helpers.files.messy import photo
from tests.helpers.files.tiff import tiff


def test_images_whose_range_nobody_knows_get_one():
    Path("p").mkdir()
    for i in range(40):
        deep = np.random.default_rng(i).integers(-1000, 2000, (40, 40)).astype(np.int16)
        Path(f"p/{i:02}.tif").write_bytes(tiff(deep))
    frame = {"image": [f"p/{i:02}.tif" for i in range(40)], "kind": ["x", "y"] * 20}
    pd.DataFrame(frame).to_csv("t.csv", index=False)
    found = propose(["t.csv"])
    (source,) = found.sources
    assert source.arguments["intensity"] == {"percentiles": [1, 99]}
    config = yaml.safe_load(render(found, "init t.csv", "c.yaml"))
    arguments = config["data"]["sources"]["t"]["init_args"]
    assert arguments["intensity"] == {"percentiles": [1, 99]}
    for i in range(40):
        photo(Path(f"p/{i:02}.jpg"), i)
    frame["image"] = [f"p/{i:02}.jpg" for i in range(40)]
    pd.DataFrame(frame).to_csv("u.csv", index=False)
    assert "intensity" not in propose(["u.csv"]).sources[0].arguments


@pytest.mark.parametrize("splits", [False, True])
def test_folders_two_deep_are_two_tasks(splits):
    for i in range(48):
        split = ("Train/", "val/")[i % 4 // 3] if splits else ""
        photo(
            Path(f"pacs/{split}{('art', 'photo')[i % 2]}/{('dog', 'elk')[i // 2 % 2]}/{i}.jpg"), i
        )
    Path("pacs/list.txt").touch()
    found = propose(["pacs"])
    (source,) = found.sources
    pattern = "(?P<folder>[^/]+)/(?:(?P<subfolder>[^/]+)/)?.*"
    expected = f"(?P<split>[^/]+)/{pattern}" if splits else pattern
    assert source.class_path == "FilenameSource"
    assert source.arguments == {"path": "pacs", "pattern": expected}
    assert {plan.name: plan.counts for plan in found.tasks} == {
        "folder": {"art": 24, "photo": 24},
        "subfolder": {"dog": 24, "elk": 24},
    }
    assert found.has_splits == splits
    assert found.notes == ["pacs: files that are not images, skipped: 1 .txt"]
    table = FilenameSource(**source.arguments).read(["folder", "subfolder"])
    assert sorted(set(table.labels["folder"])) == ["art", "photo"]
    assert sorted(set(table.labels["subfolder"])) == ["dog", "elk"]
    if splits:
        assert sorted(set(table.splits)) == ["train", "val"]
