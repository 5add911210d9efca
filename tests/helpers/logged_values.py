"""Lightning's collection of logged values, without what takes a third of a small training.

It deep-copies the metadata of each value that it moves to a device, also where nothing moves.
Processes that are no forks of a test's keep Lightning as it is.
"""

from typing import Any

import torch
from pytorch_lightning.trainer.connectors.logger_connector.result import _ResultMetric

_move = _ResultMetric.to


def _move_if_elsewhere(self: Any, *args: Any, **kwargs: Any) -> Any:
    device = torch.device(args[0] if args else kwargs["device"])
    return self if device.type == self.value.device.type == "cpu" else _move(self, *args, **kwargs)


def stay_on_the_cpu() -> None:
    """Have this process leave logged values where they are if that is the CPU."""
    _ResultMetric.to = _move_if_elsewhere  # type: ignore[method-assign]
