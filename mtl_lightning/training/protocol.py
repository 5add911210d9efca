"""The part of the LightningModule that callbacks and reports read."""

from typing import Any, Protocol, cast

from pytorch_lightning import LightningModule

from mtl_lightning.models import NamedModules, Network
from mtl_lightning.tasks import Task
from mtl_lightning.tasks.metrics import TaskMetrics
from mtl_lightning.tasks.results import Results


class MultiTaskModule(Protocol):
    """A module that trains several tasks and measures each.

    Attributes:
        tasks: The tasks by name.
        network: From images to each task's outputs.
        measured: Split to the metrics of each task.
        results: Split to the results of its last evaluation.
    """

    tasks: NamedModules[Task]
    network: Network
    measured: NamedModules[NamedModules[TaskMetrics]]
    results: dict[str, Results]

    def print(self, *args: Any) -> None:
        """Print on the first rank, above the progress bar."""


def multi_task(module: LightningModule) -> MultiTaskModule:
    """Return the module that a hook of Lightning was given, by its own type."""
    return cast("MultiTaskModule", module)
