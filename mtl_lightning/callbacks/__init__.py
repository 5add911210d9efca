"""What a run adds to a training: tables, files, checkpoints, and callbacks for configs."""

from mtl_lightning.callbacks.balancing_monitor import BalancingMonitor
from mtl_lightning.callbacks.ema import EMA
from mtl_lightning.callbacks.unfreeze import Unfreeze

__all__ = ["EMA", "BalancingMonitor", "Unfreeze"]
