"""Fixtures and settings of all tests.

Nothing here imports torch before a test needs it: the process that only hands out tests to others
(pytest-xdist's controller) loads this module, too, and the others wait for it.
"""

import gc
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import settings

from mtl_lightning.__main__ import main
from mtl_lightning.commands.quiet import NOISE, REMARKS, quieten

if TYPE_CHECKING:
    from mtl_lightning.audit.report import Report

# The same examples in each run; `--hypothesis-profile default` tries others.
settings.register_profile("same", derandomize=True, deadline=None, database=None)
settings.load_profile("same")


LONG = (
    "commands/test_trainer",
    "test_configs",
    "test_contract",
    "test_main",
    "training/test_resume",
    "balancing/test_ranks",
    "balancing/test_table",
    "test_lightning_tools",
    "test_readme",
    "test_contract_properties",
    "balancing/test_resume",
    "callbacks/test_run_recorder",
    "data/test_bad_images",
    "training/test_feature_cache",
    "inference/test_exporting",
    "test_tables",
    "data/sources/test_stream",
    "callbacks/test_signals",
    "callbacks/test_calibrate",
    "inference/test_model",
    "commands/test_init",
)
"""The files that take most CPU time; they come first, so that none is left for one process."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put long files first, in the order that is given."""
    order = {f"tests/{name}.py": number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: order.get(item.nodeid.partition("::")[0], len(order)))


def pytest_xdist_auto_num_workers() -> int:
    """One worker more than cores: tests of ranks, signals and commands wait for other processes."""
    return (os.cpu_count() or 1) + 1


def pytest_configure(config: pytest.Config) -> None:
    """Let tests ignore exactly the upstream warnings that users are spared."""
    quieten()
    for message in NOISE:
        config.addinivalue_line("filterwarnings", f"ignore:{message}")
    config.addinivalue_line("filterwarnings", f"ignore:::{REMARKS}")


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    """Prepare for new processes while nothing has run in this one, if any test imported them.

    Each of thousands of collections of garbage would go through all that was imported.
    """
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    if forks := sys.modules.get("tests.helpers.forks"):
        forks.begin()


DROP = object()
"""As a value in the changes of a config: leave the key out."""

_SET_BY_CODE = (
    "MTL_LIGHTNING_RUN",
    "MTL_LIGHTNING_RANK_MESSAGES",
    "MTL_LIGHTNING_DEBUG",
    "PL_GLOBAL_SEED",
    "LOCAL_RANK",
)


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Fixtures of modules and sessions train before `own_process`."""
    from tests.helpers.quick_lightning import be_quick

    _one_thread()
    be_quick()


@pytest.fixture(autouse=True)
def own_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give each test what a command finds: an empty folder, a clean environment, one thread."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in _SET_BY_CODE:
        monkeypatch.delenv(name, raising=False)
    _one_thread()
    known = set(sys.modules)
    yield
    for name in _SET_BY_CODE:
        os.environ.pop(name, None)
    for name in sys.modules.keys() - known:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]  # of the test's own folder


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


def leave_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the pictures and pages of runs, which take longer than the small training."""
    from pytorch_lightning import Callback

    for name in ("Plots", "ReportPage"):
        monkeypatch.setattr(f"mtl_lightning.commands.trainer.{name}", lambda run: Callback())


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands draw nothing."""
    leave_pictures(monkeypatch)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], no_pictures: None) -> CommandLine:
    """The command line; it draws nothing."""
    return CommandLine(capsys)


@pytest.fixture(scope="session")
def small_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of runs after one training with the small config."""
    folder = tmp_path_factory.mktemp("small")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        leave_pictures(patch)
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
def messy_report(tmp_path_factory: pytest.TempPathFactory) -> "Report":
    """The audit of the tables of `messy`."""
    from tests.helpers.files import messy

    folder = tmp_path_factory.mktemp("messy")
    messy.make(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return messy.audited("messy.yaml")
