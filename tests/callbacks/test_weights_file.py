from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from torchjd.aggregation import GradDrop
from torchjd.scalarization import Constant

from mtl_lightning.callbacks.weights_file import WeightsFile
from mtl_lightning.system.errors import UserError
from tests.conftest import small
from tests.helpers.balancing import module_of
from tests.helpers.training import fit

CONSTANT = {
    "class_path": "torchjd.scalarization.Constant",
    "init_args": {"weights": [1.0, 2.0, 0.5]},
}


def test_the_average_weights_are_a_config_of_a_plain_run(cli):
    changes = {
        "model.balancing": CONSTANT,
        "tasks.ink.init_args": {"weight": 3.0},
        "trainer.callbacks": [
            {"class_path": "BalancingMonitor", "init_args": {"every_n_steps": 1}}
        ],
    }
    cli.run("fit", "--config", small(changes), "--export-weights", "fixed.yaml")
    written = yaml.safe_load(Path("fixed.yaml").read_text())
    weights = {task: entry["init_args"]["weight"] for task, entry in written["tasks"].items()}
    assert weights == {"digit": 1.0, "parity": 2.0, "ink": 1.5}
    cli.run("fit", "--config", "small.yaml", "--config", "fixed.yaml")
    saved = [
        yaml.safe_load(Path(f"runs/small/version_{n}/config.yaml").read_text()) for n in (0, 1)
    ]
    assert saved[1]["model"]["balancing"] is None
    assert saved[1]["tasks"]["ink"]["init_args"]["weight"] == 1.5
    first, second = (
        torch.load(f"runs/small/version_{n}/checkpoints/last.ckpt", weights_only=True)
        for n in (0, 1)
    )
    for name, value in first["state_dict"].items():
        torch.testing.assert_close(second["state_dict"][name], value, rtol=1e-5, atol=1e-6)
    logged = pd.read_csv("runs/small/version_0/metrics.csv")
    assert logged["balance/weight/parity"].dropna().unique().tolist() == [2.0]
    assert "balance/cosine/digit/ink" in logged


def test_without_a_balancing_or_weights_it_is_refused(cli, tmp_path):
    message = cli.refused("fit", "--config", small(), "--export-weights", "fixed.yaml")
    assert "should be a method that gives weights. Found null" in message
    message = cli.refused("test", "--config", small(), "--export-weights", "fixed.yaml")
    assert "it is for fit" in message
    with pytest.raises(UserError, match="Found GradDrop, which gives none"):
        fit(tmp_path, module=module_of(GradDrop()), callbacks=[WeightsFile(Path("a.yaml"))])
    with pytest.raises(UserError, match=r"should be a name that ends in \.yaml\. Found a\.json"):
        WeightsFile(Path("a.json"))
    Path("folder.yaml").mkdir()
    with pytest.raises(UserError, match=r"should be a file\. Found the folder folder\.yaml"):
        WeightsFile(Path("folder.yaml"))


def test_weights_that_no_plain_run_can_have_are_not_written(tmp_path, capsys):
    negative = Constant(torch.tensor([1.0, -1.0, 1.0]))
    fit(tmp_path, module=module_of(negative), callbacks=[WeightsFile(tmp_path / "a.yaml")])
    assert "the average weight of size is -0.7" in " ".join(capsys.readouterr().out.split())
    assert not (tmp_path / "a.yaml").exists()
