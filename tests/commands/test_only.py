import json
from pathlib import Path

import pandas as pd
import pytest

from mtl_lightning.commands.only import keep_only
from mtl_lightning.config import flags
from mtl_lightning.system.errors import UserError
from tests.conftest import small

CONFIG = {
    "tasks": {
        "type": "Classification",
        "tags": {"class_path": "MultiLabel", "init_args": {"labels": ["hat", "bag"]}},
        "price": {"class_path": "Regression"},
    },
    "data": {"image_size": 32},
}


def test_the_other_tasks_are_left_out_but_sources_may_speak_of_them():
    kept = keep_only(CONFIG, ["type"])
    assert list(kept["tasks"]) == ["type"]
    assert kept["data"]["left_out"] == {name: CONFIG["tasks"][name] for name in ("tags", "price")}
    assert kept["data"]["image_size"] == 32
    assert len(CONFIG["tasks"]) == 3
    again = keep_only(keep_only(CONFIG, ["type", "price"]), ["price"])
    assert list(again["data"]["left_out"]) == ["tags", "type"]


def test_an_unknown_task_is_an_error():
    with pytest.raises(UserError, match=r'--only typ: no such task; did you mean "type"'):
        keep_only(CONFIG, ["typ"])


def test_the_flag_takes_any_number_of_names():
    arguments = ["--a", "1", "--only", "x", "y", "--b=2"]
    assert flags.pop_list(arguments, "--only") == (["x", "y"], ["--a", "1", "--b=2"])
    assert flags.pop_list(["--only=x", "--only", "y"], "--only") == (["x", "y"], [])
    with pytest.raises(UserError, match="--only needs a value"):
        flags.pop_list(["--only", "--b"], "--only")


def test_a_baseline_has_the_same_images_and_a_run_of_its_own(cli):
    config = str(small())
    cli.run("fit", "--config", config, "--only", "digit")
    name = Path(config).stem + "-only-digit"
    columns = pd.read_csv(f"runs/{name}/version_0/metrics.csv").columns
    assert "val/digit/loss" in columns
    assert "val/parity/loss" not in columns
    cli.run("test", "--config", config, "--only", "digit", "--ckpt_path", "best")
    results = json.loads(Path(f"runs/{name}/version_0/test_metrics.json").read_text())
    assert list(results["tasks"]) == ["digit"]
    message = cli.refused("test", "--config", config, "--name", name, "--ckpt_path", "best")
    assert "parity" in message
    message = cli.refused("test", "--name", name, "--ckpt_path", "best", "--only", "parity")
    assert message.startswith("--only parity: the checkpoint was trained for digit")
