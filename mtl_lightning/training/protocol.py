"""The part of the LightningModule that callbacks and reports read."""

from typing import Any, Protocol, cast

from pytorch_lightning import LightningModule
from torch import Tensor

from mtl_lightning.balancing.balancer import Balancer
from mtl_lightning.models import NamedModules, Network
from mtl_lightning.tasks import Task
from mtl_lightning.tasks.metrics import TaskMetrics
from mtl_lightning.tasks.results import Results


class MultiTaskModule(Protocol):
    """A module that trains several tasks and measures each.

    Attributes:
        tasks: The tasks by name.
        network: From images to each task's outputs.
        balancer: What makes one update of the tasks' losses, if it is not their sum.
        step_counts: Task to the number of its labels in the current step.
        shares: Task to this rank's and micro-batch's share of its loss, until the backward pass.
        measured: Split to the metrics of each task.
        results: Split to the results of its last evaluation.
    """

    tasks: NamedModules[Task]
    network: Network
    balancer: Balancer | None
    step_counts: dict[str, int]
    shares: dict[str, Tensor]
    measured: NamedModules[NamedModules[TaskMetrics]]
    results: dict[str, Results]

    def print(self, *args: Any) -> None:
        """Print on the first rank, above the progress bar."""


def multi_task(module: LightningModule) -> MultiTaskModule:
    """Return the module that a hook of Lightning was given, by its own type."""
    return cast("MultiTaskModule", module)
