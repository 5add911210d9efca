"""What happens beside the training: tables, files, checkpoints, and what a config may add."""

from mtl_lightning.callbacks.balancing_monitor import BalancingMonitor
from mtl_lightning.callbacks.ema import EMA
from mtl_lightning.callbacks.unfreeze import Unfreeze

__all__ = ["EMA", "BalancingMonitor", "Unfreeze"]
