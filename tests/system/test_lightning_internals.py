"""The private parts of Lightning and torchmetrics that we rely on are there, with their meaning."""

import inspect
import subprocess
import sys

import pytest
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.cli import LightningCLI
from pytorch_lightning.loggers.csv_logs import CSVLogger, ExperimentWriter
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.strategies.launchers import subprocess_script
from torchmetrics.aggregation import SumMetric

from mtl_lightning.commands.trainer import MultiTaskCLI
from mtl_lightning.runs.loggers import ResumableCSVLogger, _Writer
from mtl_lightning.system import lightning_internals
from tests.helpers.training import make_module

OF_LOOPS = {
    "": ("_data_fetcher", "_restarting", "_restart_stage"),
    "epoch_loop": (
        *("_batches_that_stepped", "_restarting", "_restart_stage"),
        *("_should_accumulate", "_should_check_val_fx"),
    ),
    "epoch_loop.val_loop": ("_restart_stage",),
}


@pytest.fixture
def trainer():
    return Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)


@pytest.mark.parametrize("path", OF_LOOPS)
def test_the_loops_have_what_is_set_and_asked(trainer, path):
    loop = trainer.fit_loop
    for part in filter(None, path.split(".")):
        loop = getattr(loop, part)
    assert [name for name in OF_LOOPS[path] if not hasattr(loop, name)] == []


@pytest.mark.parametrize(
    ("ours", "theirs", "names"),
    [
        (MultiTaskCLI, LightningCLI, ("_parse_ckpt_path", "_prepare_subcommand_parser")),
        (_Writer, ExperimentWriter, ("_check_log_dir_exists", "_rewrite_with_new_header")),
    ],
)
def test_what_subclasses_override_is_called_as_before(ours, theirs, names):
    for name in names:
        own, lightnings = (inspect.signature(getattr(cls, name)) for cls in (ours, theirs))
        assert own.parameters.keys() == lightnings.parameters.keys()


def test_the_parts_of_lightning_classes_that_subclasses_read():
    assert callable(LightningCLI._get)
    assert ResumableCSVLogger("runs", "a", "v")._experiment is None
    assert CSVLogger("runs", "a", "v")._experiment is None


def test_a_trainer_of_one_process_has_lightnings_environment(trainer):
    environment = lightning_internals.cluster_environment(trainer)
    assert isinstance(environment, LightningEnvironment)


def test_a_module_may_have_no_trainer(trainer):
    module = make_module()
    assert lightning_internals.trainer_of(module) is None
    module.trainer = trainer
    assert lightning_internals.trainer_of(module) is trainer


def test_metrics_of_callbacks_can_be_set(trainer):
    lightning_internals.set_callback_metrics(trainer, {"val/score": torch.tensor(0.5)})
    assert trainer.callback_metrics == {"val/score": 0.5}


def test_a_metric_goes_on_from_a_state():
    metric = SumMetric()
    metric.update(1.0)
    assert metric.compute() == 1
    lightning_internals.set_metric_state(metric, 3, {"sum_value": torch.tensor(5.0)})
    assert metric.update_count == 3
    assert metric.compute() == 5, "what was computed before is forgotten"


def test_failures_of_other_processes_are_observed_by_the_given_class(monkeypatch):
    monkeypatch.setattr(subprocess_script, "_launch_process_observer", None)
    observed = []

    class Observer(lightning_internals.ChildProcessObserver):
        def start(self) -> None:
            observed.append(self)

        def on_failure(self) -> None:
            observed.append("failed")

    lightning_internals.observe_processes_with(Observer)
    others = [subprocess.Popen([sys.executable, "-c", f"raise SystemExit({n})"]) for n in (0, 3)]
    for other in others:
        other.wait()
    subprocess_script._launch_process_observer(others)
    assert observed[0].processes == others
    assert observed[0]._run(), "it is over"
    assert observed[1:] == ["failed"]


def test_released_processes_are_observed_no_longer():
    waits = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    observer = lightning_internals.ChildProcessObserver(0, [waits])
    observer.start()
    assert lightning_internals.release_processes() == [waits]
    assert observer.processes == []
    assert lightning_internals.release_processes() == []
    waits.communicate()
