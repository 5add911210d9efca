"""Every callback and logger that Lightning ships, in a training from the command line.

What a user reads about each is the table of docs/lightning-tools.md. After a change write it, and
read in its diff what users will read:

    python -m tests.lightning_tools
"""

import contextlib
import functools
import importlib.util
import io
import os
import tempfile
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import pytorch_lightning.callbacks
import pytorch_lightning.loggers
import yaml
from pytorch_lightning import Callback

from mtl_lightning.__main__ import main

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "lightning-tools.md"
WORKS = "works"

_CONFIG = """
seed_everything: 3
tasks: {digit: {class_path: Classification}, ink: {class_path: Regression}}
model: {backbone: {class_path: tests.helpers.models.Small}}
data:
  sources: {digits: {class_path: DigitsSource}}
  image_size: 16
  batch_size: 8
  num_workers: 0
  augmentation: none
trainer:
  max_epochs: 2
  accelerator: cpu
  limit_train_batches: 2
  limit_val_batches: 1
  log_every_n_steps: 1
"""

_HEAD = """\
# Lightning's callbacks and loggers

Each of those that Lightning ships, named under `trainer.callbacks` or `trainer.logger` of a config
and run by `fit`. It works, or `fit` ends before the first step with one line that says what to use
instead. (`Tuner(trainer).scale_batch_size(...)` and `.lr_find(...)` are a `BatchSizeFinder` and a
`LearningRateFinder`.)

This page is made by `python -m tests.lightning_tools`; a test checks that it is up to date.
"""


@dataclass(frozen=True)
class Tool:
    """A callback or a logger.

    Attributes:
        name: Its class.
        arguments: Those that it needs, as a config has them.
        package: The module of a package that it needs, and this one does not bring.
    """

    name: str
    arguments: dict[str, Any] = field(default_factory=dict, hash=False)
    package: str | None = None

    @property
    def is_callback(self) -> bool:
        return self.name in pytorch_lightning.callbacks.__all__

    @property
    def is_missing(self) -> bool:
        """Whether its package is not installed."""
        return self.package is not None and importlib.util.find_spec(self.package) is None


TOOLS = (
    Tool("BackboneFinetuning"),
    Tool("BaseFinetuning"),
    Tool("BasePredictionWriter"),
    Tool("BatchSizeFinder", {"max_trials": 2}),
    Tool("Callback"),
    Tool("Checkpoint"),
    Tool("DeviceStatsMonitor", {"cpu_stats": True}, "psutil"),
    Tool("EMAWeightAveraging", {"decay": 0.9}),
    Tool("EarlyStopping", {"monitor": "val/score", "mode": "max"}),
    Tool("GradientAccumulationScheduler", {"scheduling": {0: 2}}),
    Tool("LambdaCallback"),
    Tool("LearningRateFinder", {"num_training_steps": 4}),
    Tool("LearningRateMonitor"),
    Tool("ModelCheckpoint", {"monitor": "val/score", "mode": "max"}),
    Tool("ModelPruning", {"pruning_fn": "l1_unstructured"}),
    Tool("ModelSummary"),
    Tool("OnExceptionCheckpoint", {"dirpath": "failed"}),
    Tool("ProgressBar"),
    Tool("RichModelSummary"),
    Tool("RichProgressBar"),
    Tool("SpikeDetection"),
    Tool("StochasticWeightAveraging", {"swa_lrs": 0.001, "swa_epoch_start": 1}),
    Tool("TQDMProgressBar"),
    Tool("ThroughputMonitor", {"batch_size_fn": "builtins.len"}),
    Tool("Timer", {"duration": "00:00:10:00"}),
    Tool("WeightAveraging"),
    Tool("CSVLogger", {"save_dir": "csv"}),
    Tool("CometLogger", package="comet_ml"),
    Tool("LitLogger"),
    Tool("MLFlowLogger", {"save_dir": "mlflow"}, "mlflow"),
    Tool("TensorBoardLogger", {"save_dir": "tensorboard"}),
    Tool("WandbLogger", {"offline": True, "save_dir": "wandb"}, "wandb"),
)


@functools.cache
def outcome(tool: Tool) -> str:
    """Train with a tool, and read the config that was saved; return what the user reads."""
    config = yaml.safe_load(_CONFIG)
    section, module = ("callbacks", "callbacks") if tool.is_callback else ("logger", "loggers")
    entry = {"class_path": f"pytorch_lightning.{module}.{tool.name}", "init_args": tool.arguments}
    config["trainer"][section] = [entry]
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        Path("run.yaml").write_text(yaml.safe_dump(config))
        found = _fit("run.yaml")
        if found == WORKS:
            again = _fit("runs/run/version_0/config.yaml", "--print_config")
            assert again == WORKS, f"the config that was saved: {again}"
        return found


def _fit(*arguments: str) -> str:
    out, err = io.StringIO(), io.StringIO()
    for name in ("MTL_LIGHTNING_RUN", "PL_GLOBAL_SEED", "LOCAL_RANK"):
        os.environ.pop(name, None)
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        warnings.catch_warnings(),
        mock.patch("mtl_lightning.commands.trainer.Plots", return_value=Callback()),  # slow
    ):
        warnings.simplefilter("ignore")  # of what Lightning's own tools say about themselves
        try:
            status = main(["fit", "--config", *arguments])
        except SystemExit as end:  # --print_config
            status = end.code
    if status == 0:
        return WORKS
    (line,) = err.getvalue().splitlines()
    return line


def document() -> str:
    """Return what docs/lightning-tools.md should hold."""
    parts = [_HEAD]
    for title, callbacks in (("Callbacks", True), ("Loggers", False)):
        rows = "".join(_row(tool) for tool in TOOLS if tool.is_callback == callbacks)
        parts.append(f"## {title}\n\n| class | outcome |\n|---|---|\n{rows}")
    return "\n".join(parts)


def _row(tool: Tool) -> str:
    if tool.package is not None:  # which is not everywhere
        return f"| `{tool.name}` | works with the package `{tool.package}` |\n"
    found = outcome(tool)
    return f"| `{tool.name}` | {found if found == WORKS else f'`{found}`'} |\n"
