"""Lightning without what takes a third of a small training and nothing of a large one.

It deep-copies the metadata of each logged value that it moves to a device, also where nothing
moves; and each trainer reads the entry points of all installed packages. Processes that are no
forks of a test's keep Lightning as it is.
"""

import functools
from importlib.metadata import entry_points
from typing import Any

import torch
from lightning_fabric.utilities import registry
from pytorch_lightning.trainer.connectors.logger_connector.result import _ResultMetric

_move = _ResultMetric.to


def _move_if_elsewhere(self: Any, *args: Any, **kwargs: Any) -> Any:
    device = torch.device(args[0] if args else kwargs["device"])
    return self if device.type == self.value.device.type == "cpu" else _move(self, *args, **kwargs)


def be_quick() -> None:
    """Have this process leave logged values where they are, and read entry points once."""
    _ResultMetric.to = _move_if_elsewhere  # type: ignore[method-assign]
    registry.entry_points = functools.cache(entry_points)
