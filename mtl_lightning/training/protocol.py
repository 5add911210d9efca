"""Protocols by which the LightningModule and callbacks know each other."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast, runtime_checkable

from pytorch_lightning import LightningModule, Trainer
from torch import Tensor, nn

from mtl_lightning.balancing.balancer import Balancer
from mtl_lightning.data.datamodule import PartialLabels
from mtl_lightning.inputs import Input
from mtl_lightning.models import NamedModules, Network
from mtl_lightning.tasks import Task
from mtl_lightning.tasks.calibration import Calibration
from mtl_lightning.tasks.metrics import TaskMetrics
from mtl_lightning.tasks.results import Results


class MultiTaskModule(Protocol):
    """A module that trains several tasks and measures each.

    Attributes:
        tasks: The tasks by name.
        inputs: The columns that the network reads, by name.
        network: Maps inputs to each task's outputs.
        balancer: Turns the tasks' losses into one update; ``None`` for their sum.
        step_counts: Task to the number of its labels in the current step.
        shares: Task to this rank's and micro-batch's share of its loss, until the backward pass.
        measured: Split to the metrics of each task.
        results: Split to the results of its last evaluation.
        skipped_steps: Steps of this training that were not finite.
    """

    tasks: NamedModules[Task]
    inputs: Mapping[str, Input]
    network: Network
    balancer: Balancer | None
    step_counts: dict[str, int]
    shares: dict[str, Tensor]
    measured: NamedModules[NamedModules[TaskMetrics]]
    results: dict[str, Results]
    skipped_steps: int

    def add_parameter_group(
        self, name: str, parameters: Sequence[nn.Parameter], lr_scale: float
    ) -> None:
        """Add a group to the optimizer that will be made; see `MultiTask`."""

    def resume_counting(self, skipped_steps: int) -> None:
        """Continue counting from the skipped steps of a checkpoint."""

    def set_calibration(self, found: Mapping[str, Calibration]) -> None:
        """Have the answers of these tasks calibrated; see `MultiTask`."""

    def print(self, *args: Any) -> None:
        """Print on the first rank, above the progress bar."""


@runtime_checkable
class LateTraining(Protocol):
    """A callback that later trains what the backbone's ``trainable_from`` froze."""

    def unfreeze_if_due(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Train it from now on, if the epoch has come."""


@runtime_checkable
class Averages(Protocol):
    """A callback that averages weights."""

    def continue_from(self, average: Mapping[str, Tensor], updates: int) -> None:
        """Start from an average by name of the parameter, after so many updates."""


def data_of(trainer: Trainer) -> PartialLabels:
    """Return the data that a trainer was given."""
    data: PartialLabels = trainer.datamodule  # type: ignore[attr-defined]  # set by Lightning
    return data


def multi_task(module: LightningModule) -> MultiTaskModule:
    """Return the module passed to a Lightning hook, with its own type."""
    return cast("MultiTaskModule", module)
