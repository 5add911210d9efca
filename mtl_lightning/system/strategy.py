"""Properties of the trainer and its strategy."""

from pytorch_lightning import Trainer
from pytorch_lightning.strategies import DDPStrategy, DeepSpeedStrategy, SingleDeviceStrategy

from mtl_lightning.system.errors import UserError


def check_whole_weights(trainer: Trainer, who: str) -> None:
    """Raise a ``UserError`` unless every process holds the whole network (one device, or DDP)."""
    strategy = trainer.strategy
    whole = isinstance(strategy, SingleDeviceStrategy | DDPStrategy)
    if not whole or isinstance(strategy, DeepSpeedStrategy):
        raise UserError(
            f"{who} needs the whole network in every process. Found trainer.strategy "
            f"{type(strategy).__name__}; set it to auto or ddp, or leave {who} out"
        )


def is_trial(trainer: Trainer) -> bool:
    """Whether this is a ``fast_dev_run``, which writes nothing."""
    return bool(trainer.fast_dev_run)  # type: ignore[attr-defined]  # set by Lightning
