"""What every test shares."""

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import settings
from pytorch_lightning import Callback

from mtl_lightning.__main__ import main
from mtl_lightning.audit.report import Report
from mtl_lightning.commands.quiet import NOISE, REMARKS, quieten
from tests.helpers.files import messy

# The same examples in each run; `--hypothesis-profile default` tries others.
settings.register_profile("same", derandomize=True, deadline=None, database=None)
settings.load_profile("same")


def pytest_configure(config: pytest.Config) -> None:
    """Let tests ignore exactly the upstream warnings that users are spared."""
    quieten()
    torch.set_num_threads(1)  # fixtures of modules and sessions, too, train before `own_process`
    for message in NOISE:
        config.addinivalue_line("filterwarnings", f"ignore:{message}")
    config.addinivalue_line("filterwarnings", f"ignore:::{REMARKS}")


DROP = object()
"""As a value in the changes of a config: leave the key out."""

_SET_BY_CODE = (
    "MTL_LIGHTNING_RUN",
    "MTL_LIGHTNING_RANK_MESSAGES",
    "MTL_LIGHTNING_DEBUG",
    "PL_GLOBAL_SEED",
    "LOCAL_RANK",
)


@pytest.fixture(autouse=True)
def own_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give each test what a command finds: an empty folder, a clean environment, one thread."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in _SET_BY_CODE:
        monkeypatch.delenv(name, raising=False)
    torch.set_num_threads(1)
    yield
    for name in _SET_BY_CODE:
        os.environ.pop(name, None)
    for name, module in list(sys.modules.items()):  # modules of the test's own folder
        if str(getattr(module, "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


SMALL = """
seed_everything: 3
tasks:
  digit: {class_path: Classification}
  parity: {class_path: Classification}
  ink: {class_path: Regression}
model:
  backbone:
    class_path: Torchvision
    init_args: {name: squeezenet1_1, weights: null}
  optimizer: {class_path: torch.optim.SGD, init_args: {lr: 1.0e-3}}
data:
  sources:
    digits: {class_path: DigitsSource, init_args: {missing: {digit: 0.5}}}
  image_size: 32
  batch_size: 8
  num_workers: 0
  augmentation: none
trainer: {max_epochs: 1, accelerator: cpu, limit_train_batches: 2, limit_val_batches: 1}
"""


def small(changes: Mapping[str, Any] | None = None, name: str = "small.yaml") -> str:
    """Write a config that trains in half a second, with changes by dotted key."""
    config = yaml.safe_load(SMALL)
    for key, value in (changes or {}).items():
        *parents, last = key.split(".")
        node = config
        for part in parents:
            node = node.setdefault(part, {})
        if value is DROP:
            del node[last]
        else:
            node[last] = value
    Path(name).write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return name


class CommandLine:
    """The command line in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def run(self, *arguments: str) -> str:
        """Run a command that should succeed without a word on stderr; return its stdout."""
        self.capsys.readouterr()
        try:
            status = main(list(arguments))
        except SystemExit as end:  # --help and --print_config
            status = end.code
        out, err = self.capsys.readouterr()
        assert (status, err) == (0, "")
        return out

    def refused(self, *arguments: str) -> str:
        """Run a command that should fail with one line on stderr; return the line."""
        self.capsys.readouterr()
        assert main(list(arguments)) == 2
        _, err = self.capsys.readouterr()
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        assert err.endswith("\n")
        assert "Traceback" not in err
        assert "usage:" not in err
        return err.removeprefix("error: ").strip()


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """The command line; without its pictures, which take longer than the small training."""
    monkeypatch.setattr("mtl_lightning.commands.trainer.Plots", lambda run: Callback())
    return CommandLine(capsys)


@pytest.fixture(scope="session")
def small_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of runs after one training with the small config."""
    folder = tmp_path_factory.mktemp("small")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["fit", "--config", small()]) == 0
    for name in _SET_BY_CODE:
        os.environ.pop(name, None)
    return folder / "runs"


@pytest.fixture
def trained(small_runs: Path, own_process: None) -> Path:
    """One's own copy of the run of the small config; returns its best checkpoint."""
    shutil.copytree(small_runs, "runs")
    return Path("runs/small/version_0/checkpoints/best.ckpt")


@pytest.fixture(scope="session")
def messy_report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The audit of the tables of `messy`."""
    folder = tmp_path_factory.mktemp("messy")
    messy.make(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return messy.audited("messy.yaml")
